/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RMSNorm of one row, forward and backward. See model.h.
 *
 * Sums of a row are float64 in 16 lanes and a fixed tree: free beside the
 * loads, and no row is too long or its elements too large. `dtype` is that of
 * the weights and a constant wherever it is passed.
 */
#include "cpu/kernels/lanes.h"

typedef struct lane_sum {
    vd lo, hi;
} lane_sum;

INLINE lane_sum sum_start(void)
{
    lane_sum s = {vd_set1(0.0), vd_set1(0.0)};
    return s;
}

/* += x * y, products exact. */
INLINE void sum_product(lane_sum *s, vf x, vf y)
{
    s->lo = vd_fma(vd_lo(x), vd_lo(y), s->lo);
    s->hi = vd_fma(vd_hi(x), vd_hi(y), s->hi);
}

/* Memory never idles: the first pass over a row fetches what the second will
 * write, and the second, which finds the row in the cache, the next row. */

/* ------------------------------------------------------------- forward */

INLINE void
square_step(float *x, const float *residual, int64_t count, lane_sum *sum)
{
    vf v = vf_load_some(x, count);
    if (residual) {
        v = vf_add(v, vf_load_some(residual, count));
        vf_store_some(x, v, count);
    }
    sum_product(sum, v, v);
}

/* Sum of squares of x, after the residual was added to it; fetches y. */
INLINE double
sum_squares(float *x, const float *residual, const float *y, int64_t n)
{
    lane_sum even = sum_start(), odd = sum_start();
    int64_t j = 0;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        prefetch_floats(y, j);
        prefetch_floats(y, j + LANES);
        square_step(x + j, residual ? residual + j : NULL, LANES, &even);
        square_step(x + j + LANES, residual ? residual + j + LANES : NULL,
                    LANES, &odd);
    }
    for (; j < n; j += LANES)
        square_step(x + j, residual ? residual + j : NULL,
                    n - j < LANES ? n - j : LANES, &even);
    return vd_hsum(vd_add(even.lo, odd.lo), vd_add(even.hi, odd.hi));
}

INLINE void scale_step(int dtype,
                       const float *x,
                       vf inv,
                       const void *weight,
                       float *y,
                       int64_t j,
                       int64_t count)
{
    vf v = vf_mul(vf_load_some(x + j, count), inv);
    v = vf_mul(v, vf_load_typed(dtype, weight, j, count));
    vf_store_some(y + j, v, count);
}

INLINE void norm(int dtype, const cadftk_norm_row *args)
{
    const cadftk_norm_row row = *args; /* no store can change it */
    const int64_t n = row.cols;
    for (int64_t g = 0; g < row.groups; g++) {
        float *x = row.x + g * n, *y = row.y + g * n;
        double squares = row.residual
                             ? sum_squares(x, row.residual + g * n, y, n)
                             : sum_squares(x, NULL, y, n);
        float inv = (float)(1.0 / sqrt(squares / (double)n + row.eps));
        vf factor = vf_set1(inv);
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) {
            prefetch_floats(x + j, row.next);
            if (row.residual)
                prefetch_floats(row.residual + g * n + j, row.next);
            scale_step(dtype, x, factor, row.weight, y, j, LANES);
        }
        if (j < n)
            scale_step(dtype, x, factor, row.weight, y, j, n - j);
        if (row.inv)
            row.inv[g] = inv;
    }
}

/* ------------------------------------------------------------ backward */

INLINE void dot_step(int dtype,
                     const cadftk_norm_grad_row *row,
                     int64_t base,
                     int64_t j,
                     int64_t count,
                     lane_sum *sum)
{
    vf grad = vf_load_some(row->grad_y + base + j, count);
    vf g = vf_mul(grad, vf_load_typed(dtype, row->weight, j, count));
    sum_product(sum, g, vf_load_some(row->x + base + j, count));
}

/* Sum of grad_y * weight * x over one vector, which begins at `base`. */
INLINE double sum_dot(int dtype, const cadftk_norm_grad_row *row, int64_t base)
{
    lane_sum even = sum_start(), odd = sum_start();
    int64_t j = 0, n = row->cols;
    for (; j + 2 * LANES <= n; j += 2 * LANES) {
        prefetch_floats(row->grad_x + base, j);
        prefetch_floats(row->grad_x + base, j + LANES);
        dot_step(dtype, row, base, j, LANES, &even);
        dot_step(dtype, row, base, j + LANES, LANES, &odd);
    }
    for (; j < n; j += LANES)
        dot_step(dtype, row, base, j, n - j < LANES ? n - j : LANES, &even);
    return vd_hsum(vd_add(even.lo, odd.lo), vd_add(even.hi, odd.hi));
}

INLINE void grad_step(int dtype,
                      const cadftk_norm_grad_row *row,
                      int64_t base,
                      int64_t j,
                      int64_t count,
                      vf inv,
                      vf back)
{
    vf x = vf_load_some(row->x + base + j, count);
    vf grad = vf_load_some(row->grad_y + base + j, count);
    vf weight = vf_load_typed(dtype, row->weight, j, count);
    vf to = vf_load_some(row->grad_x + base + j, count);
    vf unit = vf_mul(x, inv);
    to = vf_fma(inv, vf_mul(grad, weight), to);
    vf_store_some(row->grad_x + base + j, vf_fnma(back, x, to), count);
    if (row->grad_weight) {
        vf sum = vf_load_some(row->grad_weight + j, count);
        sum = vf_fma(grad, unit, sum);
        vf_store_some(row->grad_weight + j, sum, count);
    }
    if (row->y)
        vf_store_some(row->y + base + j, vf_mul(unit, weight), count);
}

INLINE void norm_grad(int dtype, const cadftk_norm_grad_row *args)
{
    const cadftk_norm_grad_row row = *args;
    const int64_t n = row.cols;
    for (int64_t g = 0; g < row.groups; g++) {
        double inv = (double)row.inv[g];
        double mean = sum_dot(dtype, &row, g * n) / (double)n;
        vf factor = vf_set1(row.inv[g]);
        vf back = vf_set1((float)(inv * inv * inv * mean));
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) {
            prefetch_floats(row.x + g * n + j, row.next_x);
            prefetch_floats(row.grad_y + g * n + j, row.next_y);
            grad_step(dtype, &row, g * n, j, LANES, factor, back);
        }
        if (j < n)
            grad_step(dtype, &row, g * n, j, n - j, factor, back);
    }
}

#define NORM(suffix, dtype)                                                    \
    cadftk_norm_fn CADFTK_SYMBOL(cadftk_norm_##suffix);                        \
    void CADFTK_SYMBOL(cadftk_norm_##suffix)(const cadftk_norm_row *row)       \
    {                                                                          \
        norm(dtype, row);                                                      \
    }                                                                          \
    cadftk_norm_grad_fn CADFTK_SYMBOL(cadftk_norm_grad_##suffix);              \
    void CADFTK_SYMBOL(cadftk_norm_grad_##suffix)(                             \
        const cadftk_norm_grad_row *row)                                       \
    {                                                                          \
        norm_grad(dtype, row);                                                 \
    }

NORM(f32, CADFTK_F32)
NORM(bf16, CADFTK_BF16)
