/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An optimizer's slots. An update treats every element alone, so how it is
 * split does not show. The sum of squares is taken in blocks of one size,
 * each by one worker, and the blocks' sums are added in their order.
 */
#include <math.h>

#include "common/error.h"
#include "cpu/split.h"

/* ------------------------------------------------------ sum of squares */

#define SUM_BLOCK (1 << 15) /* elements: 64 or 128 KiB */

struct squares_job {
    cadftk_sum_squares_fn *sum;
    const char *x;
    double *sums;     /* [blocks] */
    int64_t n, block; /* elements; blocks of a task */
    int64_t size;     /* bytes of an element */
};

static int64_t blocks_of(int64_t n)
{
    return (n + SUM_BLOCK - 1) / SUM_BLOCK;
}

uint64_t cadft__cpu_sum_squares_work(const cadft_sum_squares_args *args)
{
    int64_t blocks = blocks_of(args->n);
    return blocks > 1 ? (uint64_t)blocks * sizeof(double) : 0;
}

static void squares_task(void *task, int64_t index, int32_t worker)
{
    const struct squares_job *job = (const struct squares_job *)task;
    int64_t end = cadft__min((index + 1) * job->block, blocks_of(job->n));
    (void)worker;
    for (int64_t b = index * job->block; b < end; b++) {
        int64_t from = b * SUM_BLOCK;
        job->sums[b] = job->sum(job->x + from * job->size,
                                cadft__min(SUM_BLOCK, job->n - from));
    }
}

static int32_t refuse_dtype(const char *what, int32_t dtype, cadft_error *error)
{
    return cadft__fail(error, CADFT_E_DTYPE,
                       "backend cpu has no kernel for %s of data type %d", what,
                       dtype);
}

static int takes(int32_t dtype)
{
    return dtype == CADFT_DTYPE_F32 || dtype == CADFT_DTYPE_BF16;
}

int32_t cadft__cpu_sum_squares(cadft_device *device,
                               void *stream,
                               const cadft_sum_squares_args *args,
                               cadft_error *error)
{
    int64_t blocks = blocks_of(args->n);
    double *out = (double *)cadft__cpu_address(&args->out), sum = 0.0;
    struct squares_job job = {.n = args->n};
    int32_t kind = cadft__cpu_kernel_dtype(args->dtype), status;
    (void)stream;
    if (!takes(args->dtype))
        return refuse_dtype("a sum of squares", args->dtype, error);
    job.sum = device->table->optimizer.sum_squares[kind];
    job.x = (const char *)cadft__cpu_address(&args->x);
    job.size = kind == CADFTK_F32 ? 4 : 2;
    job.sums = blocks > 1 ? (double *)cadft__cpu_address(&args->work) : &sum;
    if (!job.sums)
        return cadft__fail(
            error, CADFT_E_NULL, "work is NULL, expected %llu bytes",
            (unsigned long long)cadft__cpu_sum_squares_work(args));
    job.block = cadft__cpu_block(device, blocks, (double)job.size * SUM_BLOCK);
    status =
        cadft__cpu_run(device, blocks, job.block, squares_task, &job, error);
    if (status)
        return status;
    for (int64_t b = 0; b < blocks && blocks > 1; b++)
        sum += job.sums[b];
    *out = sum;
    return CADFT_OK;
}

/* -------------------------------------------------------------- updates */

/* Elements that are whole cache lines of every array, if it is aligned. */
#define RUN 64

struct update_job {
    cadftk_update_fn *update;
    cadftk_update all; /* of the whole arrays */
    int64_t block;     /* elements of a task */
};

static void update_task(void *task, int64_t index, int32_t worker)
{
    const struct update_job *job = (const struct update_job *)task;
    cadftk_update part = job->all;
    int64_t from = index * job->block;
    (void)worker;
    part.n = cadft__min(job->block, job->all.n - from);
    part.value =
        (char *)part.value + from * (part.value_dtype == CADFTK_F32 ? 4 : 2);
    part.grad = (const char *)part.grad +
                from * (part.grad_dtype == CADFTK_F32 ? 4 : 2);
    part.master = part.master ? part.master + from : NULL;
    part.m = part.m ? part.m + from : NULL;
    part.v = part.v ? part.v + from : NULL;
    job->update(&part);
}

/* Arrays, and the scalars that both updates have. */
static cadftk_update take_args(const cadft_update_args *args)
{
    cadftk_update u = {
        .value = cadft__cpu_address(&args->value),
        .master = (float *)cadft__cpu_address(&args->master),
        .grad = cadft__cpu_address(&args->grad),
        .m = (float *)cadft__cpu_address(&args->m),
        .n = args->n,
        .value_dtype = cadft__cpu_kernel_dtype(args->value_dtype),
        .grad_dtype = cadft__cpu_kernel_dtype(args->grad_dtype),
        .scale = (float)args->grad_scale,
        .keep1 = (float)args->beta1,
    };
    return u;
}

/* `bytes_each` is the traffic of an element. */
static int32_t run_update(cadft_device *device,
                          struct update_job *job,
                          const cadft_update_args *args,
                          double bytes_each,
                          cadft_error *error)
{
    int64_t runs = (args->n + RUN - 1) / RUN;
    if (!takes(args->value_dtype))
        return refuse_dtype("a parameter", args->value_dtype, error);
    if (!takes(args->grad_dtype))
        return refuse_dtype("a gradient", args->grad_dtype, error);
    job->block = RUN * cadft__cpu_block(device, runs, RUN * bytes_each);
    return cadft__cpu_run(device, args->n, job->block, update_task, job, error);
}

int32_t cadft__cpu_adamw(cadft_device *device,
                         void *stream,
                         const cadft_update_args *args,
                         cadft_error *error)
{
    struct update_job job = {device->table->optimizer.adamw, take_args(args),
                             0};
    (void)stream;
    job.all.v = (float *)cadft__cpu_address(&args->v);
    job.all.decay = (float)(args->lr * args->weight_decay);
    job.all.step = (float)(args->lr / args->correction1);
    job.all.gain1 = (float)(1.0 - args->beta1);
    job.all.keep2 = (float)args->beta2;
    job.all.gain2 = (float)(1.0 - args->beta2);
    job.all.unbias = (float)(1.0 / sqrt(args->correction2));
    job.all.eps = (float)args->eps;
    return run_update(device, &job, args, 28.0, error);
}

int32_t cadft__cpu_sgd(cadft_device *device,
                       void *stream,
                       const cadft_update_args *args,
                       cadft_error *error)
{
    struct update_job job = {device->table->optimizer.sgd, take_args(args), 0};
    (void)stream;
    job.all.nesterov = args->nesterov;
    job.all.decay = (float)args->weight_decay;
    job.all.step = (float)args->lr;
    return run_update(device, &job, args, 20.0, error);
}
