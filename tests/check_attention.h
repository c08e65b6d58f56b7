/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of the attention comparer; see check_attention.c. */
#ifndef CADFT_TESTS_CHECK_ATTENTION_H
#define CADFT_TESTS_CHECK_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "backend/ops.h"

enum { SEQUENCES_MAX = 64 };

/* What is asked of a slot, sizes only. Strides are those of a row, at least
 * heads * dim, the rest being padding. */
typedef struct attention_shape {
    int64_t sequences;
    int64_t q_first[SEQUENCES_MAX + 1];
    int64_t k_first[SEQUENCES_MAX], k_count[SEQUENCES_MAX];
    int64_t heads, kv_heads, dim, window;
    int64_t q_stride, k_stride, v_stride, out_stride;
    int64_t rows, key_rows; /* of the arrays; more than the sequences' */
    double scale;
} attention_shape;

/* Host arrays of a call. */
typedef struct attention_data {
    float *q, *k, *v, *out, *lse, *grad_out, *grad_q, *grad_k, *grad_v;
} attention_data;

/* ---- random numbers: integers and exact steps, no libm ---- */

typedef struct attention_rng {
    uint64_t state;
} attention_rng;

uint64_t attention_bits(attention_rng *r);
int64_t attention_below(attention_rng *r, int64_t n);
float attention_bell(attention_rng *r); /* [-2, 2], variance 1/3 */

/* ---- data ---- */

/* Dense strides plus `pad` cells, key rows with a gap of `gap` rows before
 * each sequence, queries as many as `counts`, keys `before` more. */
attention_shape attention_make(const int64_t *counts,
                               const int64_t *before,
                               int64_t sequences,
                               int64_t heads,
                               int64_t kv_heads,
                               int64_t dim,
                               int64_t window,
                               int64_t pad,
                               int64_t gap);

/* All arrays, the inputs filled (q times `spread`) and NaN in padding and
 * gaps; 0 without memory. */
int attention_fill(const attention_shape *s,
                   double spread,
                   attention_rng *r,
                   attention_data *d);
void attention_free(attention_data *d);

/* Cells of the arrays. */
size_t attention_cells(int64_t rows, int64_t stride);

/* ---- the slots ---- */

/* The arguments with sizes only. */
cadft_attention_args attention_sizes(const attention_shape *s);

/* Through device memory of the context's backend: forward into d->out, lse;
 * with `grad` also backward, from these. Outputs are filled with `canary`
 * before. Returns a status, and prints the sentence of a failure. */
int32_t attention_run(cadft_context *context,
                      const attention_shape *s,
                      attention_data *d,
                      int grad,
                      float canary);

/* ---- reference in float64 ---- */

/* Values, and how far off each may be: see check_attention_ref.c. */
typedef struct attention_reference {
    double *out, *out_bound, *lse, *lse_bound;
    double *grad_q, *grad_q_bound, *grad_k, *grad_k_bound;
    double *grad_v, *grad_v_bound;
} attention_reference;

int attention_reference_make(const attention_shape *s,
                             const attention_data *d,
                             int grad,
                             attention_reference *ref);
void attention_reference_free(attention_reference *ref);

/* ---- bench ---- */

/* All shapes, or the nth alone. */
void attention_bench(cadft_context *context, const char *label, int only);

#endif
