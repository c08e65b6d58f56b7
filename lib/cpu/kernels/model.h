/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of a transformer's operations that work on rows: norms, rotary
 * embedding, SwiGLU, and rows that are copied or summed. Part of the table in
 * kernels.h, with its contract; here further:
 *  - activations, gradients and sums are float; weights float or bf16;
 *  - arguments overlap only where it is said;
 *  - u is 2^-24, half an ulp of 1. Errors are bounds as long as no product
 *    underflows.
 */
#ifndef CADFT_CPU_KERNELS_MODEL_H
#define CADFT_CPU_KERNELS_MODEL_H

#include <stdint.h>

/* RMSNorm of one row: `groups` vectors of `cols` elements one after the
 * other, one weight for all of them.
 *     inv[g] = 1 / sqrt(mean(x^2) + eps)    the sum in float64: to 1.01 u
 *     y = (x * inv) * weight                to 3.01 u
 * residual, or NULL: x = x + residual first, stored in x. inv: or NULL. y may
 * be x, unless there is a residual. */
typedef struct cadftk_norm_row {
    float *x;
    const float *residual;
    const void *weight; /* [cols] */
    float *y;
    float *inv; /* [groups] */
    int64_t groups;
    int64_t cols;
    int64_t next; /* elements to the next row of x, for prefetching */
    double eps;
} cadftk_norm_row;

typedef void cadftk_norm_fn(const cadftk_norm_row *row);

/* Its gradient, from the saved x and inv, with g = grad_y * weight:
 *     grad_x += inv * g - x * inv^3 mean(g * x)     the mean in float64
 *     grad_weight += grad_y * (x * inv)             NULL: not wanted
 *     y = (x * inv) * weight                        NULL: not wanted
 * grad_x to u (|result| + |grad_x + inv g| + |inv g| + 4 inv^3 |x| mean|g x|),
 * a term of grad_weight to 2 u (its sum is the caller's). */
typedef struct cadftk_norm_grad_row {
    const float *x;
    const float *grad_y;
    const void *weight; /* [cols] */
    const float *inv;   /* [groups] */
    float *grad_x;
    float *grad_weight; /* [cols] */
    float *y;
    int64_t groups;
    int64_t cols;
    int64_t next_x; /* elements to the next row of x, of grad_y */
    int64_t next_y;
} cadftk_norm_grad_row;

typedef void cadftk_norm_grad_fn(const cadftk_norm_grad_row *row);

/* Rotary embedding of one row, [groups, 2 half], in place: pair (x[i],
 * x[half + i]) turned by the angle whose cosine is table[i] and whose sine is
 * table[half + i], or backwards. To 2 u (|x[i]| + |x[half + i]|). */
typedef void cadftk_rope_fn(
    float *x, const float *table, int64_t groups, int64_t half, int inverse);

/* out = silu(gate) * up. silu to 6 u plus 2^-142 absolute; +inf gives +inf,
 * -inf NaN, as x / (1 + exp(-x)) does. */
typedef void
cadftk_swiglu_fn(const float *gate, const float *up, float *out, int64_t n);

/* With s = 1 / (1 + exp(-gate)):
 *     grad_gate = grad_out * up * s (1 + gate (1 - s))
 *     grad_up = grad_out * gate * s
 *     out = gate * s * up                           NULL: not wanted
 * grad_gate to 12 u |grad_out up| s (1 + |gate| (1 - s)); the others to 8 u.
 * grad_gate may be gate, grad_up up, and out grad_out. */
typedef struct cadftk_swiglu_grad_row {
    const float *gate;
    const float *up;
    const float *grad_out;
    float *grad_gate;
    float *grad_up;
    float *out;
    int64_t n;
} cadftk_swiglu_grad_row;

typedef void cadftk_swiglu_grad_fn(const cadftk_swiglu_grad_row *row);

/* y += x, [n]. */
typedef void cadftk_add_fn(const float *x, float *y, int64_t n);

/* y = x, [n]. */
typedef void cadftk_widen_fn(const uint16_t *x, float *y, int64_t n);

/* sum[j] = ((x[0, j] + x[1, j]) + x[2, j]) + ... over at least one row of
 * [n] floats, `stride` apart. */
typedef void cadftk_sum_rows_fn(
    const float *x, int64_t rows, int64_t stride, float *sum, int64_t n);

/* y[j] += the sum of x[r, j] over rows, taken in float64 in their order. */
typedef void cadftk_fold_rows_fn(
    const float *x, int64_t rows, int64_t stride, float *y, int64_t n);

typedef struct cadftk_model {
    cadftk_norm_fn *norm[2]; /* weights CADFTK_F32, CADFTK_BF16 */
    cadftk_norm_grad_fn *norm_grad[2];
    cadftk_rope_fn *rope;
    cadftk_swiglu_fn *swiglu;
    cadftk_swiglu_grad_fn *swiglu_grad;
    cadftk_add_fn *add;
    cadftk_widen_fn *widen_bf16;
    cadftk_sum_rows_fn *sum_rows;
    cadftk_fold_rows_fn *fold_rows;
} cadftk_model;

#endif
