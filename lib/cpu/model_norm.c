/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's slots that are a norm, and those that sum over rows.
 *
 * A sum over rows is taken in blocks of rows that depend on the shape alone:
 * each block adds its rows in their order into a row of `work`, in float32;
 * the blocks' sums are then added in their order, in float64. So the number
 * of workers does not show, and the error is that of a sum of one block,
 * SUM_BLOCK vectors until there are more than SUM_BLOCK * BLOCKS of them.
 */
#include <string.h>

#include "common/error.h"
#include "cpu/split.h"

#define SUM_BLOCK                                                              \
    32             /* vectors: work adds 1/32 to the traffic of each array     \
                    */
#define BLOCKS 128 /* at most, which bounds `work` */

/* How `rows` rows, each of `groups` vectors of `cols` elements, are summed. */
struct blocks {
    int64_t block, count; /* rows of a block; blocks */
    int64_t per_task;     /* blocks */
    int64_t pitch;
    float *work; /* [count, pitch] */
};

static int64_t rows_per_block(int64_t groups)
{
    return groups < SUM_BLOCK ? SUM_BLOCK / groups : 1;
}

/* A whole number of cache lines, which no two workers write to. */
static int64_t work_pitch(int64_t cols)
{
    return (cols + 15) / 16 * 16;
}

/* Not the exact number of blocks, which may fall where blocks grow. */
static uint64_t sum_work_bytes(int64_t rows, int64_t groups, int64_t cols)
{
    int64_t block = rows_per_block(groups);
    int64_t count = cadft__min((rows + block - 1) / block, BLOCKS);
    return (uint64_t)count * (uint64_t)work_pitch(cols) * sizeof(float);
}

/* `bytes_each` is the traffic of an element of the rows. */
static int32_t make_blocks(const cadft_device *device,
                           int64_t rows,
                           int64_t groups,
                           int64_t cols,
                           double bytes_each,
                           const cadft_array *work,
                           struct blocks *out,
                           cadft_error *error)
{
    int64_t least = rows_per_block(groups), most = (rows + BLOCKS - 1) / BLOCKS;
    double row = bytes_each * (double)groups * (double)cols;
    out->block = most > least ? most : least;
    out->count = (rows + out->block - 1) / out->block;
    out->per_task =
        cadft__cpu_block(device, out->count, row * (double)out->block);
    out->pitch = work_pitch(cols);
    out->work = (float *)cadft__cpu_address(work);
    if (!out->work)
        return cadft__fail(
            error, CADFT_E_NULL, "work is NULL, expected %llu bytes",
            (unsigned long long)sum_work_bytes(rows, groups, cols));
    return CADFT_OK;
}

struct fold_job {
    const cadftk_model *kernels;
    const struct blocks *blocks;
    float *sum;
    int64_t cols, run;
};

static void fold_task(void *task, int64_t index, int32_t worker)
{
    const struct fold_job *job = (const struct fold_job *)task;
    const struct blocks *b = job->blocks;
    int64_t from = index * job->run;
    (void)worker;
    job->kernels->fold_rows(b->work + from, b->count, b->pitch, job->sum + from,
                            cadft__min(job->run, job->cols - from));
}

/* sum[cols] += the blocks' sums. */
static int32_t fold_blocks(cadft_device *device,
                           const struct blocks *blocks,
                           float *sum,
                           int64_t cols,
                           cadft_error *error)
{
    enum { RUN = 64 };
    int64_t runs = (cols + RUN - 1) / RUN;
    double each = 4.0 * RUN * (double)blocks->count;
    struct fold_job job = {&device->table->model, blocks, sum, cols, 0};
    job.run = RUN * cadft__cpu_block(device, runs, each);
    return cadft__cpu_run(device, cols, job.run, fold_task, &job, error);
}

/* ---------------------------------------------------------------- norm */

struct norm_job {
    const cadft_norm_args *args;
    cadftk_norm_fn *norm;
    cadftk_norm_grad_fn *norm_grad;
    float *x, *y, *inv, *grad_x;
    const float *residual, *grad_y;
    const void *weight;
    int64_t block;
    struct blocks sums;
};

static int32_t make_norm_job(cadft_device *device,
                             const cadft_norm_args *args,
                             struct norm_job *job,
                             cadft_error *error)
{
    int32_t kind = cadft__cpu_kernel_dtype(args->weight_dtype);
    memset(job, 0, sizeof *job);
    if (kind != CADFTK_F32 && kind != CADFTK_BF16)
        return cadft__fail(error, CADFT_E_DTYPE,
                           "backend cpu has no norm with weights of data "
                           "type %d",
                           args->weight_dtype);
    job->args = args;
    job->norm = device->table->model.norm[kind];
    job->norm_grad = device->table->model.norm_grad[kind];
    job->x = (float *)cadft__cpu_address(&args->x);
    job->residual = (const float *)cadft__cpu_address(&args->residual);
    job->y = (float *)cadft__cpu_address(&args->y);
    job->inv = (float *)cadft__cpu_address(&args->inv);
    job->grad_x = (float *)cadft__cpu_address(&args->grad_x);
    job->grad_y = (const float *)cadft__cpu_address(&args->grad_y);
    job->weight = cadft__cpu_address(&args->weight);
    return CADFT_OK;
}

static void norm_task(void *task, int64_t index, int32_t worker)
{
    const struct norm_job *job = (const struct norm_job *)task;
    const cadft_norm_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++) {
        int64_t at = r * args->x_stride;
        cadftk_norm_row row = {
            .x = job->x + at,
            .residual = job->residual ? job->residual + at : NULL,
            .weight = job->weight,
            .y = job->y + r * args->y_stride,
            .inv = job->inv ? job->inv + r * args->groups : NULL,
            .groups = args->groups,
            .cols = args->cols,
            .next = args->x_stride,
            .eps = args->eps,
        };
        job->norm(&row);
    }
}

static int32_t run_norm(cadft_device *device,
                        struct norm_job *job,
                        double bytes_each,
                        cadft_error *error)
{
    const cadft_norm_args *args = job->args;
    double each = bytes_each * (double)args->groups * (double)args->cols;
    job->block = cadft__cpu_block(device, args->rows, each);
    return cadft__cpu_run(device, args->rows, job->block, norm_task, job,
                          error);
}

int32_t cadft__cpu_norm(cadft_device *device,
                        void *stream,
                        const cadft_norm_args *args,
                        cadft_error *error)
{
    struct norm_job job;
    int32_t status = make_norm_job(device, args, &job, error);
    (void)stream;
    job.residual = NULL; /* add_norm's */
    return status ? status : run_norm(device, &job, 8.0, error);
}

int32_t cadft__cpu_add_norm(cadft_device *device,
                            void *stream,
                            const cadft_norm_args *args,
                            cadft_error *error)
{
    struct norm_job job;
    int32_t status = make_norm_job(device, args, &job, error);
    (void)stream;
    return status ? status : run_norm(device, &job, 16.0, error);
}

/* -------------------------------------------------------- norm's gradient */

/* Rows [from, end); `sum`, [cols], is added to unless it is NULL. */
static void norm_grad_rows(const struct norm_job *job,
                           int64_t from,
                           int64_t end,
                           float *sum)
{
    const cadft_norm_args *args = job->args;
    for (int64_t r = from; r < cadft__min(end, args->rows); r++) {
        cadftk_norm_grad_row row = {
            .x = job->x + r * args->x_stride,
            .grad_y = job->grad_y + r * args->y_stride,
            .weight = job->weight,
            .inv = job->inv + r * args->groups,
            .grad_x = job->grad_x + r * args->grad_x_stride,
            .grad_weight = sum,
            .y = job->y ? job->y + r * args->y_stride : NULL,
            .groups = args->groups,
            .cols = args->cols,
            .next_x = args->x_stride,
            .next_y = args->y_stride,
        };
        job->norm_grad(&row);
    }
}

static void norm_grad_task(void *task, int64_t index, int32_t worker)
{
    const struct norm_job *job = (const struct norm_job *)task;
    (void)worker;
    norm_grad_rows(job, index * job->block, (index + 1) * job->block, NULL);
}

static void norm_grad_sum_task(void *task, int64_t index, int32_t worker)
{
    const struct norm_job *job = (const struct norm_job *)task;
    const struct blocks *b = &job->sums;
    int64_t end = cadft__min((index + 1) * b->per_task, b->count);
    (void)worker;
    for (int64_t i = index * b->per_task; i < end; i++) {
        float *sum = b->work + i * b->pitch;
        memset(sum, 0, (size_t)job->args->cols * sizeof *sum);
        norm_grad_rows(job, i * b->block, (i + 1) * b->block, sum);
    }
}

static int32_t
norm_grad_sum(cadft_device *device, struct norm_job *job, cadft_error *error)
{
    const cadft_norm_args *args = job->args;
    float *sum = (float *)cadft__cpu_address(&args->grad_weight);
    int32_t status = make_blocks(device, args->rows, args->groups, args->cols,
                                 20.0, &args->work, &job->sums, error);
    if (!status)
        status = cadft__cpu_run(device, job->sums.count, job->sums.per_task,
                                norm_grad_sum_task, job, error);
    return status ? status
                  : fold_blocks(device, &job->sums, sum, args->cols, error);
}

int32_t cadft__cpu_norm_grad(cadft_device *device,
                             void *stream,
                             const cadft_norm_args *args,
                             cadft_error *error)
{
    double each = 20.0 * (double)args->groups * (double)args->cols;
    struct norm_job job;
    int32_t status = make_norm_job(device, args, &job, error);
    (void)stream;
    if (status || args->rows == 0)
        return status;
    if (args->grad_weight.base)
        return norm_grad_sum(device, &job, error);
    job.block = cadft__cpu_block(device, args->rows, each);
    return cadft__cpu_run(device, args->rows, job.block, norm_grad_task, &job,
                          error);
}

/* ---------------------------------------------------------- column_sum */

struct sum_job {
    const cadftk_model *kernels;
    const cadft_add_args *args;
    const float *x;
    struct blocks sums;
};

static void sum_task(void *task, int64_t index, int32_t worker)
{
    const struct sum_job *job = (const struct sum_job *)task;
    const cadft_add_args *args = job->args;
    const struct blocks *b = &job->sums;
    int64_t end = cadft__min((index + 1) * b->per_task, b->count);
    (void)worker;
    for (int64_t i = index * b->per_task; i < end; i++) {
        int64_t from = i * b->block;
        job->kernels->sum_rows(job->x + from * args->x_stride,
                               cadft__min(b->block, args->rows - from),
                               args->x_stride, b->work + i * b->pitch,
                               args->cols);
    }
}

int32_t cadft__cpu_column_sum(cadft_device *device,
                              void *stream,
                              const cadft_add_args *args,
                              cadft_error *error)
{
    struct sum_job job = {
        .kernels = &device->table->model,
        .args = args,
        .x = (const float *)cadft__cpu_address(&args->x),
    };
    float *sum = (float *)cadft__cpu_address(&args->y);
    int32_t status;
    (void)stream;
    if (args->rows == 0)
        return CADFT_OK;
    status = make_blocks(device, args->rows, 1, args->cols, 4.0, &args->work,
                         &job.sums, error);
    if (!status)
        status = cadft__cpu_run(device, job.sums.count, job.sums.per_task,
                                sum_task, &job, error);
    return status ? status
                  : fold_blocks(device, &job.sums, sum, args->cols, error);
}

/* ---------------------------------------------------------- work_bytes */

uint64_t cadft__cpu_norm_grad_work(const cadft_norm_args *args)
{
    return sum_work_bytes(args->rows, args->groups, args->cols);
}

uint64_t cadft__cpu_column_sum_work(const cadft_add_args *args)
{
    return sum_work_bytes(args->rows, 1, args->cols);
}
