/* SPDX-License-Identifier: Apache-2.0 */
/* The loss's slots: rows split among the workers, each row computed by one
 * kernel call. A row's result depends on the row alone, so neither the number
 * of threads nor the split shows in it. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "cpu/cpu.h"

/* One call of a slot, as the tasks see it. `out`, `stats` and `coef` are NULL
 * where the operation has none. */
struct job {
    const cadftk_table *table;
    const cadft_loss_rows *rows;
    const cadft_loss_grad_out *out;
    const char *logits;
    const int32_t *labels;
    char *grad;
    double *stats;
    const double *coef;
    double smoothing;
    uint32_t want;
    int32_t in, out_kind; /* kernel dtype; 0 same dtype, 1 float32 */
    size_t in_size, out_size;
    int64_t block; /* rows of a task */
};

int32_t cadft__cpu_kernel_dtype(int32_t dtype)
{
    switch (dtype) {
    case CADFT_DTYPE_F32:
        return CADFTK_F32;
    case CADFT_DTYPE_BF16:
        return CADFTK_BF16;
    case CADFT_DTYPE_F16:
        return CADFTK_F16;
    default:
        return -1;
    }
}

/* ------------------------------------------------------------- one row */

static const char *row_logits(const struct job *job, int64_t r)
{
    return job->logits +
           (size_t)r * (size_t)job->rows->row_stride * job->in_size;
}

static char *row_grad(const struct job *job, int64_t r)
{
    return job->grad + (size_t)r * (size_t)job->out->row_stride * job->out_size;
}

static void zero_columns(const struct job *job, int64_t r, int64_t from)
{
    size_t skip = (size_t)from * job->out_size;
    memset(row_grad(job, r) + skip, 0,
           (size_t)job->out->cols * job->out_size - skip);
}

static void
stats_of_row(const struct job *job, int64_t r, cadftk_row_stats *stats)
{
    double *to = job->stats + r * CADFT_STAT_STRIDE;
    int64_t label = job->labels[r];
    job->table->row_stats[job->in](row_logits(job, r), job->rows->cols,
                                   label < 0 ? -1 : label, job->rows->softcap,
                                   job->want, stats);
    to[CADFT_STAT_Z_MAX] = stats->z_max;
    to[CADFT_STAT_SUM_REST] = stats->sum_rest;
    to[CADFT_STAT_Z_LABEL] = stats->z_label;
    to[CADFT_STAT_SUM_T] = stats->sum_t;
    to[CADFT_STAT_SUM_Z] = stats->sum_z;
    to[CADFT_STAT_UNMASKED] = (double)stats->unmasked;
    to[CADFT_STAT_RATE] = stats->rate;
    to[CADFT_STAT_PEAK] = stats->peak;
}

static void
grad_of_row(const struct job *job, int64_t r, const cadftk_row_grad *args)
{
    job->table->row_grad[job->in][job->out_kind](
        row_logits(job, r), row_grad(job, r), job->rows->cols, args);
    zero_columns(job, r, job->rows->cols);
}

/* softmax - (1 - e) onehot - e / unmasked, from the row's own statistics. */
static void unit_of_row(const struct job *job, int64_t r)
{
    double e = job->smoothing, minus_l;
    cadftk_row_stats s;
    /* The row is in the cache when its gradient is written: memory would
     * idle, so the next row is fetched meanwhile. */
    cadftk_row_grad g = {
        .a = 1.0,
        .softcap = job->rows->softcap,
        .prefetch = job->rows->row_stride * (int64_t)job->in_size,
    };
    stats_of_row(job, r, &s);
    if (!isfinite(s.z_max)) {
        zero_columns(job, r, 0);
        return;
    }
    g.label = job->labels[r] < 0 ? -1 : job->labels[r];
    g.lse = s.z_max + log1p(s.sum_rest);
    g.c = e > 0 ? e / (double)s.unmasked : 0;
    minus_l = (s.z_label - s.z_max) - log1p(s.sum_rest);
    g.at_label = expm1(minus_l) + e - g.c;
    grad_of_row(job, r, &g);
}

/* --------------------------------------------------------------- tasks */

static int64_t block_end(const struct job *job, int64_t index)
{
    int64_t end = (index + 1) * job->block;
    return end < job->rows->rows ? end : job->rows->rows;
}

static void stats_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    int before = errno; /* libm sets it, and the thread may be the host's */
    cadftk_row_stats s;
    (void)worker;
    for (int64_t r = index * job->block; r < block_end(job, index); r++)
        if (job->labels[r] != CADFT_ROW_SKIP)
            stats_of_row(job, r, &s);
    errno = before;
}

static void unit_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    int before = errno;
    (void)worker;
    for (int64_t r = index * job->block; r < block_end(job, index); r++) {
        if (job->labels[r] == CADFT_ROW_SKIP)
            zero_columns(job, r, 0);
        else
            unit_of_row(job, r);
    }
    errno = before;
}

/* Rows are taken from the last to the first: the statistics pass that came
 * before has left the last ones in the cache. */
static void grad_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    int64_t blocks = (job->rows->rows + job->block - 1) / job->block;
    int64_t block = blocks - 1 - index;
    int before = errno;
    (void)worker;
    for (int64_t r = block_end(job, block) - 1; r >= block * job->block; r--) {
        const double *coef = job->coef + r * CADFT_COEF_STRIDE;
        cadftk_row_grad args = {
            .lse = coef[CADFT_COEF_LSE],
            .a = coef[CADFT_COEF_A],
            .c = coef[CADFT_COEF_C],
            .at_label = coef[CADFT_COEF_LABEL],
            .label = job->labels[r] < 0 ? -1 : job->labels[r],
            .softcap = job->rows->softcap,
        };
        if (job->labels[r] == CADFT_ROW_SKIP)
            zero_columns(job, r, 0);
        else
            grad_of_row(job, r, &args);
    }
    errno = before;
}

/* --------------------------------------------------------------- slots */

static int32_t make_job(cadft_device *device,
                        const cadft_loss_rows *rows,
                        const cadft_loss_grad_out *out,
                        struct job *job,
                        cadft_error *error)
{
    int64_t tasks = (int64_t)device->host->max_workers * 8;
    memset(job, 0, sizeof *job);
    job->table = device->table;
    job->rows = rows;
    job->out = out;
    job->logits = (const char *)cadft__cpu_address(&rows->logits);
    job->labels = (const int32_t *)cadft__cpu_address(&rows->labels);
    job->in = cadft__cpu_kernel_dtype(rows->dtype);
    if (job->in < 0 ||
        (out && out->dtype != rows->dtype && out->dtype != CADFT_DTYPE_F32))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "backend cpu has no kernel for these data types");
    job->in_size = rows->dtype == CADFT_DTYPE_F32 ? 4 : 2;
    job->block = (rows->rows + tasks - 1) / tasks;
    if (out) {
        job->grad = (char *)cadft__cpu_address(&out->grad);
        job->out_kind = out->dtype != rows->dtype;
        job->out_size = out->dtype == CADFT_DTYPE_F32 ? 4 : 2;
    }
    return CADFT_OK;
}

static int32_t run_job(cadft_device *device,
                       struct job *job,
                       cadft_task_fn fn,
                       cadft_error *error)
{
    int64_t blocks;
    if (job->rows->rows == 0)
        return CADFT_OK;
    blocks = (job->rows->rows + job->block - 1) / job->block;
    if (device->host->parallel_for(device->host->user, blocks, fn, job))
        return cadft__fail(error, CADFT_E_THREADS,
                           "parallel_for did not run all of %lld tasks",
                           (long long)blocks);
    return CADFT_OK;
}

int32_t cadft__cpu_loss_row_stats(cadft_device *device,
                                  void *stream,
                                  const cadft_loss_rows *rows,
                                  uint32_t want,
                                  const cadft_array *stats,
                                  cadft_error *error)
{
    struct job job;
    int32_t status = make_job(device, rows, NULL, &job, error);
    (void)stream;
    if (status)
        return status;
    job.stats = (double *)cadft__cpu_address(stats);
    job.want = want;
    return run_job(device, &job, stats_task, error);
}

int32_t cadft__cpu_loss_row_grad(cadft_device *device,
                                 void *stream,
                                 const cadft_loss_rows *rows,
                                 const cadft_array *coef,
                                 const cadft_loss_grad_out *out,
                                 cadft_error *error)
{
    struct job job;
    int32_t status = make_job(device, rows, out, &job, error);
    (void)stream;
    if (status)
        return status;
    job.coef = (const double *)cadft__cpu_address(coef);
    return run_job(device, &job, grad_task, error);
}

int32_t cadft__cpu_loss_row_unit(cadft_device *device,
                                 void *stream,
                                 const cadft_loss_rows *rows,
                                 uint32_t want,
                                 double smoothing,
                                 const cadft_array *stats,
                                 const cadft_loss_grad_out *out,
                                 cadft_error *error)
{
    struct job job;
    int32_t status = make_job(device, rows, out, &job, error);
    (void)stream;
    if (status)
        return status;
    job.stats = (double *)cadft__cpu_address(stats);
    job.want = want;
    job.smoothing = smoothing;
    return run_job(device, &job, unit_task, error);
}
