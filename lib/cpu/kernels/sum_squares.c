/* SPDX-License-Identifier: Apache-2.0 */
/* Sum of squares, for the norm of a gradient. See update.h. */
#include "cpu/kernels/lanes.h"

/* 32 lanes of double: enough that no addition waits for the last. */
typedef struct lane_sums {
    vd even_lo, even_hi, odd_lo, odd_hi;
} lane_sums;

INLINE void add_squares(vd *lo, vd *hi, vf x)
{
    *lo = vd_fma(vd_lo(x), vd_lo(x), *lo);
    *hi = vd_fma(vd_hi(x), vd_hi(x), *hi);
}

INLINE double sum_squares(int dtype, const void *x, int64_t n)
{
    const vd zero = vd_set1(0.0);
    lane_sums s = {zero, zero, zero, zero};
    int64_t j = 0, rest;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        vf even = vf_load_typed(dtype, x, j, LANES);
        vf odd = vf_load_typed(dtype, x, j + LANES, LANES);
        add_squares(&s.even_lo, &s.even_hi, even);
        add_squares(&s.odd_lo, &s.odd_hi, odd);
    }
    if (n - j >= LANES) {
        add_squares(&s.even_lo, &s.even_hi, vf_load_typed(dtype, x, j, LANES));
        j += LANES;
    }
    rest = n - j;
    if (rest > 0)
        add_squares(&s.odd_lo, &s.odd_hi, vf_load_typed(dtype, x, j, rest));
    return vd_hsum(vd_add(s.even_lo, s.odd_lo), vd_add(s.even_hi, s.odd_hi));
}

#define SUM_SQUARES(suffix, dtype)                                             \
    cadftk_sum_squares_fn CADFTK_SYMBOL(cadftk_sum_squares_##suffix);          \
    double CADFTK_SYMBOL(cadftk_sum_squares_##suffix)(const void *x,           \
                                                      int64_t n)               \
    {                                                                          \
        return sum_squares(dtype, x, n);                                       \
    }

SUM_SQUARES(f32, CADFTK_F32)
SUM_SQUARES(bf16, CADFTK_BF16)
