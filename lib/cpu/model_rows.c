/* SPDX-License-Identifier: Apache-2.0 */
/* A model's slots that treat every row alone: rows by index, rotary
 * embedding, SwiGLU, sums of two arrays. Rows, or for rows_add columns, are
 * split among the workers; no result shows how. */
#include <string.h>

#include "common/error.h"
#include "cpu/split.h"

/* ---------------------------------------------------------------- zero */

struct zero_job {
    char *to;
    int64_t bytes, block;
};

static void zero_task(void *task, int64_t index, int32_t worker)
{
    const struct zero_job *job = (const struct zero_job *)task;
    int64_t from = index * job->block;
    (void)worker;
    memset(job->to + from, 0,
           (size_t)cadft__min(job->block, job->bytes - from));
}

int32_t cadft__cpu_mem_zero(cadft_device *device,
                            void *stream,
                            const cadft_array *to,
                            uint64_t bytes,
                            cadft_error *error)
{
    struct zero_job job = {(char *)cadft__cpu_address(to), (int64_t)bytes, 0};
    (void)stream;
    job.block = cadft__cpu_block(device, job.bytes, 1);
    return cadft__cpu_run(device, job.bytes, job.block, zero_task, &job, error);
}

/* ------------------------------------------------------- rows by index */

/* An index beyond the table would be a write anywhere. */
static int32_t check_index(const int32_t *index,
                           int64_t rows,
                           int64_t table_rows,
                           cadft_error *error)
{
    for (int64_t r = 0; r < rows; r++)
        if (index[r] < 0 || index[r] >= table_rows)
            return cadft__fail(
                error, CADFT_E_ARG, "index[%lld] is %d, expected 0 to %lld",
                (long long)r, index[r], (long long)table_rows - 1);
    return CADFT_OK;
}

struct rows_job {
    const cadftk_model *kernels;
    const cadft_rows_args *args;
    char *table;
    const int32_t *index;
    float *x;
    int64_t table_pitch; /* bytes */
    int64_t block;
};

static int32_t make_rows_job(cadft_device *device,
                             const cadft_rows_args *args,
                             int halves,
                             struct rows_job *job,
                             cadft_error *error)
{
    int32_t kind = cadft__cpu_kernel_dtype(args->table_dtype);
    memset(job, 0, sizeof *job);
    if (kind != CADFTK_F32 && !(halves && kind == CADFTK_BF16))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "backend cpu has no kernel for rows of a table of "
                           "data type %d",
                           args->table_dtype);
    job->kernels = &device->table->model;
    job->args = args;
    job->table = (char *)cadft__cpu_address(&args->table);
    job->index = (const int32_t *)cadft__cpu_address(&args->index);
    job->x = (float *)cadft__cpu_address(&args->x);
    job->table_pitch = args->table_stride * (kind == CADFTK_F32 ? 4 : 2);
    return check_index(job->index, args->rows, args->table_rows, error);
}

static char *table_row(const struct rows_job *job, int64_t r)
{
    return job->table + job->index[r] * job->table_pitch;
}

static void gather_task(void *task, int64_t index, int32_t worker)
{
    const struct rows_job *job = (const struct rows_job *)task;
    const cadft_rows_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++) {
        float *to = job->x + r * args->x_stride;
        const void *from = table_row(job, r);
        if (args->table_dtype == CADFT_DTYPE_BF16)
            job->kernels->widen_bf16((const uint16_t *)from, to, args->cols);
        else
            memcpy(to, from, (size_t)args->cols * sizeof *to);
    }
}

static void put_task(void *task, int64_t index, int32_t worker)
{
    const struct rows_job *job = (const struct rows_job *)task;
    const cadft_rows_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++)
        memcpy(table_row(job, r), job->x + r * args->x_stride,
               (size_t)args->cols * sizeof(float));
}

/* `block` columns of all rows, in their order: an index may come twice. */
static void rows_add_task(void *task, int64_t index, int32_t worker)
{
    const struct rows_job *job = (const struct rows_job *)task;
    const cadft_rows_args *args = job->args;
    int64_t from = index * job->block;
    int64_t count = cadft__min(job->block, args->cols - from);
    (void)worker;
    for (int64_t r = 0; r < args->rows; r++)
        job->kernels->add(job->x + r * args->x_stride + from,
                          (float *)(void *)table_row(job, r) + from, count);
}

int32_t cadft__cpu_rows_gather(cadft_device *device,
                               void *stream,
                               const cadft_rows_args *args,
                               cadft_error *error)
{
    struct rows_job job;
    int32_t status = make_rows_job(device, args, 1, &job, error);
    (void)stream;
    if (status)
        return status;
    job.block = cadft__cpu_block(device, args->rows, 8.0 * (double)args->cols);
    return cadft__cpu_run(device, args->rows, job.block, gather_task, &job,
                          error);
}

int32_t cadft__cpu_rows_put(cadft_device *device,
                            void *stream,
                            const cadft_rows_args *args,
                            cadft_error *error)
{
    struct rows_job job;
    int32_t status = make_rows_job(device, args, 0, &job, error);
    (void)stream;
    if (status)
        return status;
    job.block = cadft__cpu_block(device, args->rows, 8.0 * (double)args->cols);
    return cadft__cpu_run(device, args->rows, job.block, put_task, &job, error);
}

int32_t cadft__cpu_rows_add(cadft_device *device,
                            void *stream,
                            const cadft_rows_args *args,
                            cadft_error *error)
{
    /* Runs of columns that are whole cache lines of an aligned row, and long
     * enough for the prefetcher. */
    enum { RUN = 64 };
    struct rows_job job;
    int64_t runs = (args->cols + RUN - 1) / RUN;
    int32_t status = make_rows_job(device, args, 0, &job, error);
    (void)stream;
    if (status || args->rows == 0)
        return status;
    job.block =
        RUN * cadft__cpu_block(device, runs, 12.0 * RUN * (double)args->rows);
    return cadft__cpu_run(device, args->cols, job.block, rows_add_task, &job,
                          error);
}

/* ---------------------------------------------------------------- rope */

struct rope_job {
    const cadftk_model *kernels;
    const cadft_rope_args *args;
    float *x;
    const float *table;
    const int32_t *indices;
    int64_t block;
};

static void rope_task(void *task, int64_t index, int32_t worker)
{
    const struct rope_job *job = (const struct rope_job *)task;
    const cadft_rope_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++)
        job->kernels->rope(job->x + r * args->x_stride,
                           job->table + job->indices[r] * args->head_dim,
                           args->groups, args->head_dim / 2, args->inverse);
}

int32_t cadft__cpu_rope(cadft_device *device,
                        void *stream,
                        const cadft_rope_args *args,
                        cadft_error *error)
{
    struct rope_job job = {
        .kernels = &device->table->model,
        .args = args,
        .x = (float *)cadft__cpu_address(&args->x),
        .table = (const float *)cadft__cpu_address(&args->table),
        .indices = (const int32_t *)cadft__cpu_address(&args->indices),
    };
    double each = 8.0 * (double)args->groups * (double)args->head_dim;
    (void)stream;
    job.block = cadft__cpu_block(device, args->rows, each);
    return cadft__cpu_run(device, args->rows, job.block, rope_task, &job,
                          error);
}

/* -------------------------------------------------------------- swiglu */

struct swiglu_job {
    const cadftk_model *kernels;
    const cadft_swiglu_args *args;
    const float *gate, *up, *grad_out;
    float *out, *grad_gate, *grad_up;
    int64_t block;
};

static void swiglu_task(void *task, int64_t index, int32_t worker)
{
    const struct swiglu_job *job = (const struct swiglu_job *)task;
    const cadft_swiglu_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++) {
        int64_t in = r * args->in_stride;
        job->kernels->swiglu(job->gate + in, job->up + in,
                             job->out + r * args->out_stride, args->cols);
    }
}

static void swiglu_grad_task(void *task, int64_t index, int32_t worker)
{
    const struct swiglu_job *job = (const struct swiglu_job *)task;
    const cadft_swiglu_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++) {
        int64_t in = r * args->in_stride, out = r * args->out_stride;
        cadftk_swiglu_grad_row row = {
            .gate = job->gate + in,
            .up = job->up + in,
            .grad_out = job->grad_out + out,
            .grad_gate = job->grad_gate + in,
            .grad_up = job->grad_up + in,
            .out = job->out ? job->out + out : NULL,
            .n = args->cols,
        };
        job->kernels->swiglu_grad(&row);
    }
}

static int32_t run_swiglu(cadft_device *device,
                          const cadft_swiglu_args *args,
                          double bytes_each,
                          cadft_task_fn fn,
                          cadft_error *error)
{
    struct swiglu_job job = {
        .kernels = &device->table->model,
        .args = args,
        .gate = (const float *)cadft__cpu_address(&args->gate),
        .up = (const float *)cadft__cpu_address(&args->up),
        .grad_out = (const float *)cadft__cpu_address(&args->grad_out),
        .out = (float *)cadft__cpu_address(&args->out),
        .grad_gate = (float *)cadft__cpu_address(&args->grad_gate),
        .grad_up = (float *)cadft__cpu_address(&args->grad_up),
    };
    job.block =
        cadft__cpu_block(device, args->rows, bytes_each * (double)args->cols);
    return cadft__cpu_run(device, args->rows, job.block, fn, &job, error);
}

int32_t cadft__cpu_swiglu(cadft_device *device,
                          void *stream,
                          const cadft_swiglu_args *args,
                          cadft_error *error)
{
    (void)stream;
    return run_swiglu(device, args, 12.0, swiglu_task, error);
}

int32_t cadft__cpu_swiglu_grad(cadft_device *device,
                               void *stream,
                               const cadft_swiglu_args *args,
                               cadft_error *error)
{
    (void)stream;
    return run_swiglu(device, args, 20.0, swiglu_grad_task, error);
}

/* ----------------------------------------------------------------- add */

struct add_job {
    const cadftk_model *kernels;
    const cadft_add_args *args;
    const float *x;
    float *y;
    int64_t block;
};

static void add_task(void *task, int64_t index, int32_t worker)
{
    const struct add_job *job = (const struct add_job *)task;
    const cadft_add_args *args = job->args;
    int64_t end = cadft__min((index + 1) * job->block, args->rows);
    (void)worker;
    for (int64_t r = index * job->block; r < end; r++)
        job->kernels->add(job->x + r * args->x_stride,
                          job->y + r * args->y_stride, args->cols);
}

int32_t cadft__cpu_add(cadft_device *device,
                       void *stream,
                       const cadft_add_args *args,
                       cadft_error *error)
{
    struct add_job job = {
        .kernels = &device->table->model,
        .args = args,
        .x = (const float *)cadft__cpu_address(&args->x),
        .y = (float *)cadft__cpu_address(&args->y),
    };
    (void)stream;
    job.block = cadft__cpu_block(device, args->rows, 12.0 * (double)args->cols);
    return cadft__cpu_run(device, args->rows, job.block, add_task, &job, error);
}
