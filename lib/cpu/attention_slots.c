/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention's slots. The queries of each sequence are cut into pieces, and a
 * task is a piece with one key head and the query heads that read it; long
 * tasks first, since a causal piece costs as much as there are keys before it.
 * What a piece is depends on the sequence alone, so neither the workers nor
 * the rest of the batch show in a result.
 *
 * The gradient of a key sums over the queries after it, so over pieces: each
 * task adds into an array of its own in `work`, and a second round of tasks
 * adds these up in the order of the pieces.
 */
#include <string.h>

#include "common/error.h"
#include "cpu/cpu.h"

enum {
    GRAD_PIECES = 4, /* of a long sequence, of equal cost */
    GRAD_ALIGN = 32  /* their borders, in queries */
};

typedef struct piece {
    int64_t sequence;
    int64_t first, queries; /* positions of its queries in the sequence */
    int64_t key;            /* first key they see */
    int64_t own;            /* gradient: first key whose sum it completes */
    int64_t sum_rows;       /* gradient: key rows of the pieces before */
} piece;

struct job {
    const cadftk_table *table;
    const cadft_attention_args *args;
    int64_t group, window, queries; /* queries of a kernel's call */
    int64_t count;                  /* of pieces */
    piece *pieces;
    int64_t *order; /* [count]: pieces, the most expensive first */
    float *scratch; /* [workers, scratch_floats] */
    float *sums;    /* gradient: see sum_of */
    int64_t scratch_floats;
};

/* ---------------------------------------------------------------- sizes */

static int64_t group_of(const cadft_attention_args *a)
{
    return a->heads / a->kv_heads;
}

static int64_t call_queries(const cadft_attention_args *a)
{
    int64_t n = CADFTK_ATTENTION_ROWS / group_of(a);
    return n > 0 ? n : 1;
}

static int64_t query_rows(const cadft_attention_args *a)
{
    return a->q_first[a->sequences] - a->q_first[0];
}

/* Into how many pieces the gradient cuts a sequence. */
static int64_t grad_pieces(int64_t queries)
{
    return queries < 128 ? 1 : queries < 512 ? 2 : GRAD_PIECES;
}

/* Upper bounds that grow with the rows and the sequences, and hold however
 * the rows are divided among the sequences. */
static int64_t most_pieces(const cadft_attention_args *a, int grad)
{
    return a->sequences +
           (grad ? (GRAD_PIECES - 1) * (query_rows(a) < 128 ? 0 : a->sequences)
                 : query_rows(a) / call_queries(a));
}

static int64_t most_sum_rows(const cadft_attention_args *a)
{
    int64_t keys = 0;
    for (int64_t s = 0; s < a->sequences; s++)
        keys += a->k_count[s];
    return grad_pieces(query_rows(a)) * keys;
}

static int64_t scratch_floats(const cadft_attention_args *a, int grad)
{
    int64_t n = cadftk_attention_scratch(call_queries(a) * group_of(a),
                                         a->head_dim, grad);
    return (n + 15) / 16 * 16;
}

static uint64_t table_bytes(int64_t pieces)
{
    uint64_t n = (uint64_t)pieces * (sizeof(piece) + sizeof(int64_t));
    return (n + 63) / 64 * 64;
}

static int is_sized(const cadft_attention_args *a)
{
    return a->q_first && a->k_count && a->sequences > 0 && a->kv_heads > 0 &&
           a->heads >= a->kv_heads && a->head_dim > 0 &&
           a->head_dim <= CADFTK_ATTENTION_DIM;
}

uint64_t cadft__cpu_attention_work_bytes(cadft_device *device,
                                         const cadft_attention_args *a,
                                         int grad)
{
    uint64_t floats;
    if (!is_sized(a))
        return 0;
    floats =
        (uint64_t)device->host->max_workers * (uint64_t)scratch_floats(a, grad);
    if (grad)
        floats += (uint64_t)most_sum_rows(a) * (uint64_t)a->kv_heads * 2 *
                  (uint64_t)cadftk_attention_padded(a->head_dim);
    return table_bytes(most_pieces(a, grad)) + floats * sizeof(float);
}

/* --------------------------------------------------------------- pieces */

/* Scores of the first n queries of a sequence. */
static int64_t cost_until(int64_t n, int64_t window)
{
    return n <= window ? n * (n + 1) / 2
                       : window * (window + 1) / 2 + (n - window) * window;
}

static int64_t cost_of(const struct job *job, int64_t index)
{
    const piece *p = job->pieces + index;
    return cost_until(p->first + p->queries, job->window) -
           cost_until(p->first, job->window);
}

static void
add_piece(struct job *job, int64_t s, int64_t first, int64_t end, int64_t *rows)
{
    piece *p = job->pieces + job->count;
    job->order[job->count] = job->count;
    job->count++;
    p->sequence = s;
    p->first = first;
    p->queries = end - first;
    p->own = p == job->pieces || p[-1].sequence != s ? 0 : first;
    p->key = first - job->window + 1 > 0 ? first - job->window + 1 : 0;
    p->key = p->queries ? p->key : end;
    p->sum_rows = *rows;
    *rows += end - p->key;
}

/* A sequence without queries is a piece, too, if it has keys: their gradient
 * is 0. */
static void cut_for_grad(struct job *job, int64_t s, int64_t n, int64_t *rows)
{
    int64_t before = job->args->k_count[s] - n, end = before + n;
    int64_t pieces = grad_pieces(n), from = before, to = before;
    int64_t start = cost_until(before, job->window);
    int64_t share = (cost_until(end, job->window) - start) / pieces + 1;
    if (end == 0)
        return;
    for (int64_t i = 1; i <= pieces; i++, from = to) {
        while (to < end && cost_until(to, job->window) - start < i * share)
            to += GRAD_ALIGN;
        to = i == pieces || to > end ? end : to;
        if (from < to || n == 0)
            add_piece(job, s, from, to, rows);
    }
}

static void cut(struct job *job, int grad)
{
    const cadft_attention_args *a = job->args;
    int64_t rows = 0;
    for (int64_t s = 0; s < a->sequences; s++) {
        int64_t n = a->q_first[s + 1] - a->q_first[s];
        int64_t before = a->k_count[s] - n;
        if (grad)
            cut_for_grad(job, s, n, &rows);
        for (int64_t i = 0; i < n && !grad; i += job->queries)
            add_piece(job, s, before + i,
                      before + (n - i < job->queries ? n : i + job->queries),
                      &rows);
    }
}

/* Heap sort by falling cost, in place; `sink` restores the heap's order
 * (least cost at the top) below `at`. */
static void sink(const struct job *job, int64_t at, int64_t n)
{
    int64_t *order = job->order, child, index = order[at];
    for (; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n &&
            cost_of(job, order[child + 1]) < cost_of(job, order[child]))
            child++;
        if (cost_of(job, index) <= cost_of(job, order[child]))
            break;
        order[at] = order[child];
    }
    order[at] = index;
}

static void sort_pieces(const struct job *job)
{
    for (int64_t i = job->count / 2; i > 0; i--)
        sink(job, i - 1, job->count);
    for (int64_t n = job->count - 1; n > 0; n--) {
        int64_t last = job->order[n];
        job->order[n] = job->order[0];
        job->order[0] = last;
        sink(job, 0, n);
    }
}

/* ---------------------------------------------------------------- tasks */

/* Of a piece and key head: [keys, padded] of grad_k, then of grad_v, where
 * keys go from the piece's first to its last. */
static float *sum_of(const struct job *job, const piece *p, int64_t kv)
{
    int64_t row = 2 * cadftk_attention_padded(job->args->head_dim);
    int64_t keys = p->first + p->queries - p->key;
    return job->sums + (p->sum_rows * job->args->kv_heads + kv * keys) * row;
}

static void *
at_row(const cadft_array *array, int64_t row, int64_t stride, int64_t column)
{
    float *x = (float *)cadft__cpu_address(array);
    return x ? x + row * stride + column : NULL;
}

/* The kernel's arguments for `queries` queries from position `first` on. */
static cadftk_attention_block block_of(const struct job *job,
                                       const piece *p,
                                       int64_t kv,
                                       int64_t first,
                                       int64_t queries)
{
    const cadft_attention_args *a = job->args;
    int64_t s = p->sequence, n = a->q_first[s + 1] - a->q_first[s];
    int64_t row = a->q_first[s] + first - (a->k_count[s] - n);
    int64_t head = kv * job->group, column = head * a->head_dim;
    int64_t key_column = kv * a->head_dim;
    cadftk_attention_block b = {
        .q = at_row(&a->q, row, a->q_stride, column),
        .k = at_row(&a->k, a->k_first[s], a->k_stride, key_column),
        .v = at_row(&a->v, a->k_first[s], a->v_stride, key_column),
        .out = at_row(&a->out, row, a->out_stride, column),
        .lse = at_row(&a->lse, row, a->heads, head),
        .q_stride = a->q_stride,
        .k_stride = a->k_stride,
        .v_stride = a->v_stride,
        .out_stride = a->out_stride,
        .lse_stride = a->heads,
        .queries = queries,
        .group = job->group,
        .dim = a->head_dim,
        .first = first,
        .window = job->window,
        .scale = a->scale,
        .grad_out = at_row(&a->grad_out, row, a->out_stride, column),
        .grad_q = at_row(&a->grad_q, row, a->q_stride, column),
    };
    return b;
}

static void attention_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    const piece *p = job->pieces + job->order[index / job->args->kv_heads];
    cadftk_attention_block b =
        block_of(job, p, index % job->args->kv_heads, p->first, p->queries);
    b.scratch = job->scratch + worker * job->scratch_floats;
    job->table->attention(&b);
}

static void grad_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    const piece *p = job->pieces + job->order[index / job->args->kv_heads];
    int64_t kv = index % job->args->kv_heads, end = p->first + p->queries;
    int64_t padded = cadftk_attention_padded(job->args->head_dim);
    float *sum = sum_of(job, p, kv);
    memset(sum, 0, (size_t)(2 * (end - p->key) * padded) * sizeof *sum);
    for (int64_t i = p->first; i < end; i += job->queries) {
        cadftk_attention_block b = block_of(
            job, p, kv, i, end - i < job->queries ? end - i : job->queries);
        b.scratch = job->scratch + worker * job->scratch_floats;
        b.sum_k = sum;
        b.sum_v = sum + (end - p->key) * padded;
        b.sum_first = p->key;
        job->table->attention_grad(&b);
    }
}

/* grad[d] (+)= sum[d]; sum NULL is 0. */
static void add_row(int first, const float *sum, int64_t dim, float *grad)
{
    if (first && sum)
        memcpy(grad, sum, (size_t)dim * sizeof *grad);
    else if (first)
        memset(grad, 0, (size_t)dim * sizeof *grad);
    for (int64_t d = 0; d < dim && !first; d++)
        grad[d] += sum[d];
}

/* The keys at the piece's own positions (and all before, if it is the first
 * of its sequence): sums over it and the pieces of its sequence after it. */
static void reduce_task(void *task, int64_t index, int32_t worker)
{
    const struct job *job = (const struct job *)task;
    const cadft_attention_args *a = job->args;
    const piece *own = job->pieces + index / a->kv_heads;
    const piece *stop = job->pieces + job->count;
    int64_t kv = index % a->kv_heads, column = kv * a->head_dim;
    int64_t padded = cadftk_attention_padded(a->head_dim);
    (void)worker;
    for (const piece *p = own; p < stop && p->sequence == own->sequence; p++) {
        int64_t j = p == own || p->key < own->own ? own->own : p->key;
        int64_t keys = p->first + p->queries - p->key;
        const float *sum = sum_of(job, p, kv);
        for (; j < own->first + own->queries; j++) {
            const float *x = j < p->key ? NULL : sum + (j - p->key) * padded;
            int64_t row = a->k_first[own->sequence] + j;
            add_row(p == own, x, a->head_dim,
                    at_row(&a->grad_k, row, a->k_stride, column));
            add_row(p == own, x ? x + keys * padded : NULL, a->head_dim,
                    at_row(&a->grad_v, row, a->v_stride, column));
        }
    }
}

/* ---------------------------------------------------------------- slots */

static int32_t check_args(cadft_device *device,
                          const cadft_attention_args *a,
                          int grad,
                          cadft_error *error)
{
    if (a->head_dim < 1 || a->head_dim > CADFTK_ATTENTION_DIM)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "backend cpu has attention for a head_dim of 1 to "
                           "%d, this one is %lld",
                           (int)CADFTK_ATTENTION_DIM, (long long)a->head_dim);
    if (a->kv_heads < 1 || a->heads < 1 || a->heads % a->kv_heads)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "attention: %lld heads cannot share %lld kv_heads, "
                           "which must divide them",
                           (long long)a->heads, (long long)a->kv_heads);
    for (int64_t s = 0; s < a->sequences; s++) {
        int64_t n = a->q_first[s + 1] - a->q_first[s];
        if (n < 0 || a->k_count[s] < n)
            return cadft__fail(error, CADFT_E_SHAPE,
                               "attention: sequence %lld has %lld queries and "
                               "%lld keys, keys must not be fewer",
                               (long long)s, (long long)n,
                               (long long)a->k_count[s]);
    }
    if (!a->work.base && cadft__cpu_attention_work_bytes(device, a, grad))
        return cadft__fail(error, CADFT_E_NULL,
                           "attention: work is absent, expected %llu bytes",
                           (unsigned long long)cadft__cpu_attention_work_bytes(
                               device, a, grad));
    return CADFT_OK;
}

static void make_job(cadft_device *device,
                     const cadft_attention_args *a,
                     int grad,
                     struct job *job)
{
    char *work = (char *)cadft__cpu_address(&a->work);
    int64_t most = most_pieces(a, grad);
    memset(job, 0, sizeof *job);
    job->table = device->table;
    job->args = a;
    job->group = group_of(a);
    job->window = a->window > 0 ? a->window : INT64_MAX / 2;
    job->queries = call_queries(a);
    job->scratch_floats = scratch_floats(a, grad);
    job->pieces = (piece *)(void *)work;
    job->order = (int64_t *)(void *)(job->pieces + most);
    job->scratch = (float *)(void *)(work + table_bytes(most));
    job->sums = job->scratch + device->host->max_workers * job->scratch_floats;
    cut(job, grad);
    sort_pieces(job);
}

static int32_t
run(cadft_device *device, struct job *job, cadft_task_fn fn, cadft_error *error)
{
    int64_t tasks = job->count * job->args->kv_heads;
    if (tasks && device->host->parallel_for(device->host->user, tasks, fn, job))
        return cadft__fail(error, CADFT_E_THREADS,
                           "parallel_for did not run all of %lld tasks",
                           (long long)tasks);
    return CADFT_OK;
}

int32_t cadft__cpu_attention(cadft_device *device,
                             void *stream,
                             const cadft_attention_args *args,
                             cadft_error *error)
{
    struct job job;
    int32_t status = check_args(device, args, 0, error);
    (void)stream;
    if (status || args->sequences < 1)
        return status;
    make_job(device, args, 0, &job);
    return run(device, &job, attention_task, error);
}

int32_t cadft__cpu_attention_grad(cadft_device *device,
                                  void *stream,
                                  const cadft_attention_args *args,
                                  cadft_error *error)
{
    struct job job;
    int32_t status = check_args(device, args, 1, error);
    (void)stream;
    if (status || args->sequences < 1)
        return status;
    make_job(device, args, 1, &job);
    status = run(device, &job, grad_task, error);
    return status ? status : run(device, &job, reduce_task, error);
}
