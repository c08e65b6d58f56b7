/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows the float32 exp cannot reduce: logits beyond EXP_LIMIT, up to the
 * largest finite float. Scalar float64, in order of the columns, right rather
 * than fast. Also where the contract's corner cases end up (NaN, +inf, a
 * gradient coefficient beyond float32).
 */
#ifndef CADFT_CPU_KERNELS_SLOW_H
#define CADFT_CPU_KERNELS_SLOW_H

#include "cpu/kernels/exp64.h"

INLINE double
slow_logit(int dtype, const void *z, int64_t j, double cap, double *chain)
{
    double x = (double)load_one(dtype, z, j);
    *chain = 1.0;
    return cap > 0.0 ? softcap64(x, cap, chain) : x;
}

static inline void stats_nonfinite(cadftk_row_stats *out)
{
    out->z_max = out->sum_rest = (double)NAN;
    out->sum_t = out->sum_z = (double)NAN;
    out->unmasked = 0;
}

/* Largest logit and its column, -1 if all are masked; NaN for NaN or +inf. */
static inline double
slow_max(int dtype, const void *z, int64_t n, double cap, int64_t *where)
{
    double top = -INFINITY, chain;
    *where = -1;
    for (int64_t j = 0; j < n; j++) {
        float raw = load_one(dtype, z, j);
        if (!(raw < INFINITY))
            return (double)NAN;
        double x = slow_logit(dtype, z, j, cap, &chain);
        if (x > top) {
            top = x;
            *where = j;
        }
    }
    return top;
}

/* Fills all of *out, zeroed before, but z_label. */
static inline void slow_stats(int dtype,
                              const void *z,
                              int64_t n,
                              double cap,
                              uint32_t want,
                              cadftk_row_stats *out)
{
    int64_t where;
    double chain, top = slow_max(dtype, z, n, cap, &where);
    if (top != top) {
        stats_nonfinite(out);
        return;
    }
    double sum = 0.0, sum_t = 0.0, sum_z[8] = {0};
    int64_t unmasked = 0;
    for (int64_t j = 0; j < n; j++) {
        double x = slow_logit(dtype, z, j, cap, &chain);
        if (x == -INFINITY)
            continue;
        double e = exp64(x - top);
        unmasked++;
        sum_z[j & 7] += x;
        sum += j == where ? 0.0 : e;
        sum_t += e > 0.0 ? e * (top - x) : 0.0;
    }
    out->z_max = top;
    out->sum_rest = sum;
    out->sum_t = want & CADFTK_WANT_ENTROPY ? sum_t : 0.0;
    for (int i = 0; i < 8 && want & CADFTK_WANT_SUM; i++)
        out->sum_z += sum_z[i];
    out->unmasked = want & CADFTK_WANT_SUM ? unmasked : 0;
}

/* The label's column included, as if it were any other. */
static inline void slow_grad(int in,
                             int out,
                             const void *z,
                             void *g,
                             int64_t n,
                             const cadftk_row_grad *args)
{
    for (int64_t j = 0; j < n; j++) {
        double chain, x = slow_logit(in, z, j, args->softcap, &chain);
        double e = args->a * exp64(x - args->lse);
        e = fabs(e) < 0x1p-126 ? 0.0 : e;
        double r = x == -INFINITY ? 0.0 : (e - args->c) * chain;
        store_one(out, g, j, (float)r);
    }
}

#endif
