/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of an optimizer. Part of the table in kernels.h, with its contract;
 * u is 2^-24 as in model.h, and bounds hold as long as nothing underflows.
 */
#ifndef CADFT_CPU_KERNELS_UPDATE_H
#define CADFT_CPU_KERNELS_UPDATE_H

#include <stdint.h>

/* One step of n elements, what cadft_update_args says. The scalars were taken
 * in double and rounded once. Arrays do not overlap.
 *
 * With e = g - m as m was, and m, v, w as they become:
 *     adamw:  m to u (|m| + 2 gain1 |g| + 3 least(gain1, keep1) |e|)
 *             v to 8 u
 *             w to u (|w| + 3 |decay w| + 12 |change|), where
 *             change = step * m / (sqrt(v) * unbias + eps),
 *             and the change that m's error makes
 *     sgd:    g to u (|g| + 2 |scale grad| + 2 |decay w|)
 *             m to u (|m| + 2 |keep1 m_old|), and g's error
 *             w to u (|w| + 2 |change|) and step times d's error, d as m */
typedef struct cadftk_update {
    void *value;
    float *master; /* or NULL */
    const void *grad;
    float *m; /* sgd: or NULL */
    float *v; /* adamw */
    int64_t n;
    int32_t value_dtype; /* CADFTK_F32 or CADFTK_BF16 */
    int32_t grad_dtype;
    int32_t nesterov;
    float scale;        /* of the gradient */
    float decay;        /* adamw: lr * weight_decay; sgd: weight_decay */
    float step;         /* adamw: lr / correction1; sgd: lr */
    float keep1, gain1; /* adamw: beta1, 1 - beta1; sgd: momentum, unused */
    float keep2, gain2; /* adamw: beta2, 1 - beta2 */
    float unbias;       /* adamw: 1 / sqrt(correction2) */
    float eps;
} cadftk_update;

typedef void cadftk_update_fn(const cadftk_update *args);

/* Sum of x[i]^2 in float64, each square exact, in an order that depends on n
 * alone: to (n / 32 + 7) 2^-53. */
typedef double cadftk_sum_squares_fn(const void *x, int64_t n);

typedef struct cadftk_optimizer {
    cadftk_update_fn *adamw;
    cadftk_update_fn *sgd;
    cadftk_sum_squares_fn *sum_squares[2]; /* CADFTK_F32, CADFTK_BF16 */
} cadftk_optimizer;

#endif
