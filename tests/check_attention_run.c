/* SPDX-License-Identifier: Apache-2.0 */
/* Data of the attention comparer, the slots called through device memory that
 * is never dereferenced here, and the bench. */
#define _POSIX_C_SOURCE 200809L
#include "check_attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/device.h"

uint64_t attention_bits(attention_rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t attention_below(attention_rng *r, int64_t n)
{
    return (int64_t)(attention_bits(r) % (uint64_t)n);
}

float attention_bell(attention_rng *r)
{
    int32_t sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (int32_t)(attention_bits(r) >> 44) - (1 << 19);
    return (float)sum * 0x1p-20f;
}

/* ------------------------------------------------------------------ data */

attention_shape attention_make(const int64_t *counts,
                               const int64_t *before,
                               int64_t sequences,
                               int64_t heads,
                               int64_t kv_heads,
                               int64_t dim,
                               int64_t window,
                               int64_t pad,
                               int64_t gap)
{
    attention_shape s = {.sequences = sequences,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .dim = dim,
                         .window = window,
                         .q_stride = heads * dim + pad,
                         .k_stride = kv_heads * dim + 2 * pad,
                         .v_stride = kv_heads * dim + pad,
                         .out_stride = heads * dim + 3 * pad,
                         .scale = 1 / sqrt((double)dim)};
    for (int64_t i = 0; i < sequences; i++) {
        s.q_first[i + 1] = s.q_first[i] + counts[i];
        s.k_first[i] = s.key_rows + gap;
        s.k_count[i] = counts[i] + (before ? before[i] : 0);
        s.key_rows = s.k_first[i] + s.k_count[i];
    }
    s.key_rows += gap;
    s.rows = s.q_first[sequences] + gap;
    return s;
}

size_t attention_cells(int64_t rows, int64_t stride)
{
    return (size_t)(rows * stride);
}

static float *filled(size_t n, float value)
{
    float *x = (float *)malloc((n + 1) * sizeof *x);
    for (size_t i = 0; x && i < n; i++)
        x[i] = value;
    return x;
}

static void fill_rows(float *x,
                      int64_t first,
                      int64_t rows,
                      int64_t stride,
                      int64_t cols,
                      double spread,
                      attention_rng *r)
{
    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < cols; j++)
            x[i * stride + j] = (float)(spread * (double)attention_bell(r));
}

int attention_fill(const attention_shape *s,
                   double spread,
                   attention_rng *r,
                   attention_data *d)
{
    size_t q = attention_cells(s->rows, s->q_stride);
    size_t out = attention_cells(s->rows, s->out_stride);
    size_t k = attention_cells(s->key_rows, s->k_stride);
    size_t v = attention_cells(s->key_rows, s->v_stride);
    int64_t n = s->q_first[s->sequences], cols = s->heads * s->dim;
    *d =
        (attention_data){.q = filled(q, NAN),
                         .k = filled(k, NAN),
                         .v = filled(v, NAN),
                         .out = filled(out, NAN),
                         .lse = filled(attention_cells(s->rows, s->heads), NAN),
                         .grad_out = filled(out, NAN),
                         .grad_q = filled(q, NAN),
                         .grad_k = filled(k, NAN),
                         .grad_v = filled(v, NAN)};
    if (!d->q || !d->k || !d->v || !d->out || !d->lse || !d->grad_out ||
        !d->grad_q || !d->grad_k || !d->grad_v)
        return 0;
    fill_rows(d->q, 0, n, s->q_stride, cols, spread, r);
    fill_rows(d->grad_out, 0, n, s->out_stride, cols, 1, r);
    for (int64_t i = 0; i < s->sequences; i++) {
        fill_rows(d->k, s->k_first[i], s->k_count[i], s->k_stride,
                  s->kv_heads * s->dim, 1, r);
        fill_rows(d->v, s->k_first[i], s->k_count[i], s->v_stride,
                  s->kv_heads * s->dim, 1, r);
    }
    return 1;
}

void attention_free(attention_data *d)
{
    float *all[] = {d->q,        d->k,      d->v,      d->out,   d->lse,
                    d->grad_out, d->grad_q, d->grad_k, d->grad_v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ----------------------------------------------------------------- slots */

/* An array on the device, 12 bytes into its block: an alignment of floats
 * and no more. */
typedef struct block {
    cadft_array array;
    uint64_t bytes;
} block;

enum { SHIFT = 12, BLOCKS = 10 };

static int32_t block_make(cadft_context *context,
                          block *b,
                          size_t cells,
                          const float *from,
                          cadft_error *error)
{
    int32_t status;
    b->bytes = (uint64_t)cells * sizeof(float) + SHIFT;
    b->array.offset = SHIFT;
    status = cadft__device_alloc(context, b->bytes, &b->array.base, error);
    if (!status && from)
        status = cadft__device_in(context, NULL, b->array, from,
                                  b->bytes - SHIFT, error);
    return status;
}

static int32_t
block_out(cadft_context *context, const block *b, float *to, cadft_error *e)
{
    return cadft__device_out(context, NULL, to, b->array, b->bytes - SHIFT, e);
}

cadft_attention_args attention_sizes(const attention_shape *s)
{
    return (cadft_attention_args){.struct_size = sizeof(cadft_attention_args),
                                  .q_first = s->q_first,
                                  .k_first = s->k_first,
                                  .k_count = s->k_count,
                                  .sequences = s->sequences,
                                  .heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .head_dim = s->dim,
                                  .q_stride = s->q_stride,
                                  .k_stride = s->k_stride,
                                  .v_stride = s->v_stride,
                                  .out_stride = s->out_stride,
                                  .window = s->window,
                                  .scale = s->scale};
}

/* Scratch as asked for; the bytes through `bytes`. */
static int32_t work_make(cadft_context *context,
                         cadft_attention_args *args,
                         int grad,
                         uint64_t *bytes,
                         cadft_error *error)
{
    *bytes = cadft__device_work_bytes(
        context, grad ? CADFT_OP_ATTENTION_GRAD : CADFT_OP_ATTENTION, args);
    args->work = (cadft_array){NULL, 0};
    return *bytes
               ? cadft__device_alloc(context, *bytes, &args->work.base, error)
               : CADFT_OK;
}

static int32_t slot(cadft_context *context,
                    const cadft_attention_args *args,
                    int grad,
                    cadft_error *error)
{
    return grad ? cadft__device_attention_grad(context, NULL, args, error)
                : cadft__device_attention(context, NULL, args, error);
}

static int32_t call(cadft_context *context,
                    cadft_attention_args *args,
                    int grad,
                    cadft_error *error)
{
    uint64_t bytes;
    int32_t status = work_make(context, args, grad, &bytes, error);
    if (!status)
        status = slot(context, args, grad, error);
    cadft__device_free(context, NULL, args->work.base, bytes);
    return status;
}

static void canaries(const attention_shape *s, attention_data *d, float value)
{
    struct {
        float *x;
        size_t n;
    } all[] = {{d->out, attention_cells(s->rows, s->out_stride)},
               {d->lse, attention_cells(s->rows, s->heads)},
               {d->grad_q, attention_cells(s->rows, s->q_stride)},
               {d->grad_k, attention_cells(s->key_rows, s->k_stride)},
               {d->grad_v, attention_cells(s->key_rows, s->v_stride)}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t j = 0; j < all[i].n; j++)
            all[i].x[j] = value;
}

static int32_t blocks_make(cadft_context *context,
                           const attention_shape *s,
                           const attention_data *d,
                           block *b,
                           cadft_attention_args *args,
                           cadft_error *error)
{
    size_t q = attention_cells(s->rows, s->q_stride);
    size_t out = attention_cells(s->rows, s->out_stride);
    size_t k = attention_cells(s->key_rows, s->k_stride);
    size_t v = attention_cells(s->key_rows, s->v_stride);
    const float *from[] = {d->q,        d->k,      d->v,      d->out,   d->lse,
                           d->grad_out, d->grad_q, d->grad_k, d->grad_v};
    size_t n[] = {q,   k, v, out, attention_cells(s->rows, s->heads),
                  out, q, k, v};
    int32_t status = CADFT_OK;
    for (int i = 0; i < 9 && !status; i++)
        status = block_make(context, b + i, n[i], from[i], error);
    *args = attention_sizes(s);
    args->q = b[0].array;
    args->k = b[1].array;
    args->v = b[2].array;
    args->out = b[3].array;
    args->lse = b[4].array;
    args->grad_out = b[5].array;
    args->grad_q = b[6].array;
    args->grad_k = b[7].array;
    args->grad_v = b[8].array;
    return status;
}

static void blocks_free(cadft_context *context, block *b)
{
    for (int i = 0; i < BLOCKS; i++)
        cadft__device_free(context, NULL, b[i].array.base, b[i].bytes);
}

int32_t attention_run(cadft_context *context,
                      const attention_shape *s,
                      attention_data *d,
                      int grad,
                      float canary)
{
    cadft_error error = {sizeof error, 0, {0}};
    block b[BLOCKS] = {{{NULL, 0}, 0}};
    cadft_attention_args args;
    int32_t status;
    canaries(s, d, canary);
    status = blocks_make(context, s, d, b, &args, &error);
    if (!status)
        status = call(context, &args, 0, &error);
    if (!status && grad)
        status = call(context, &args, 1, &error);
    if (!status) {
        block_out(context, b + 3, d->out, &error);
        block_out(context, b + 4, d->lse, &error);
        block_out(context, b + 6, d->grad_q, &error);
        block_out(context, b + 7, d->grad_k, &error);
        status = block_out(context, b + 8, d->grad_v, &error);
    }
    blocks_free(context, b);
    if (status)
        printf("attention: %s\n", error.message);
    return status;
}

/* ----------------------------------------------------------------- bench */

/* With one thread its processor time, which a busy machine does not stretch
 * as it does the wall's. */
static double now(int threads)
{
    struct timespec t;
    clock_gettime(threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double visible(const attention_shape *s)
{
    double sum = 0;
    for (int64_t i = 0; i < s->sequences; i++)
        for (int64_t p = s->k_count[i] - s->q_first[i + 1] + s->q_first[i];
             p < s->k_count[i]; p++)
            sum += (double)(s->window && s->window <= p ? s->window : p + 1);
    return sum * (double)s->heads;
}

/* Least of many repetitions, in seconds; below 0 for a failure. */
static double
least(cadft_context *context, cadft_attention_args *args, int grad)
{
    cadft_error error = {sizeof error, 0, {0}};
    double best = 1e9, begin = now(context->workers);
    uint64_t bytes;
    int32_t status = work_make(context, args, grad, &bytes, &error);
    for (int i = 0; i < 1000 && (now(context->workers) - begin < 1.0 || i < 3);
         i++) {
        double from = now(context->workers);
        status = status ? status : slot(context, args, grad, &error);
        from = now(context->workers) - from;
        best = from < best ? from : best;
    }
    cadft__device_sync(context, NULL, &error);
    cadft__device_free(context, NULL, args->work.base, bytes);
    return status ? -1 : best;
}

static void bench_shape(cadft_context *context,
                        const char *label,
                        const char *name,
                        const attention_shape *s,
                        int grad)
{
    cadft_error error = {sizeof error, 0, {0}};
    block b[BLOCKS] = {{{NULL, 0}, 0}};
    cadft_attention_args args;
    attention_data d;
    attention_rng r = {1};
    double pairs = visible(s) * (double)s->dim, keys = 0;
    if (!attention_fill(s, 1, &r, &d) ||
        blocks_make(context, s, &d, b, &args, &error))
        return;
    double forward = least(context, &args, 0), backward = 0;
    for (int64_t i = 0; i < s->sequences; i++)
        keys += (double)(s->k_count[i] * s->kv_heads * s->dim) * 8;
    printf("%-12s %-34s forward %8.3f ms %6.1f GFLOP/s", label, name,
           forward * 1e3, 4e-9 * pairs / forward);
    if (grad) {
        backward = least(context, &args, 1);
        printf("  backward %8.3f ms %6.1f GFLOP/s\n", backward * 1e3,
               10e-9 * pairs / backward);
    } else {
        printf("  keys and values %5.1f GB/s\n", keys * 1e-9 / forward);
    }
    fflush(stdout);
    blocks_free(context, b);
    attention_free(&d);
}

void attention_bench(cadft_context *context, const char *label, int only)
{
    static const struct {
        const char *name;
        int64_t sequences, queries, before, heads, kv_heads, dim, window;
    } all[] = {
        {"1 x 1024, 9/3 heads of 64", 1, 1024, 0, 9, 3, 64, 0},
        {"4 x 256, 9/3 heads of 64", 4, 256, 0, 9, 3, 64, 0},
        {"1 x 1024, 8/8 heads of 64", 1, 1024, 0, 8, 8, 64, 0},
        {"1 x 1024, 8/2 heads of 128", 1, 1024, 0, 8, 2, 128, 0},
        {"1 x 1024, 8/4 heads of 80", 1, 1024, 0, 8, 4, 80, 0},
        {"1 x 1024, 9/3 of 64, window 128", 1, 1024, 0, 9, 3, 64, 128},
        {"decode, 1 x 1000 keys, 9/3 of 64", 1, 1, 999, 9, 3, 64, 0},
        {"decode, 16 x 1000 keys, 9/3 of 64", 16, 1, 999, 9, 3, 64, 0},
        {"decode, 16 x 1000 keys, 8/8 of 64", 16, 1, 999, 8, 8, 64, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int64_t counts[16], before[16];
        attention_shape s;
        if (only && only != (int)i + 1)
            continue;
        for (int64_t j = 0; j < all[i].sequences; j++) {
            counts[j] = all[i].queries;
            before[j] = all[i].before;
        }
        s = attention_make(counts, before, all[i].sequences, all[i].heads,
                           all[i].kv_heads, all[i].dim, all[i].window, 0, 0);
        bench_shape(context, label, all[i].name, &s, all[i].before == 0);
    }
}
