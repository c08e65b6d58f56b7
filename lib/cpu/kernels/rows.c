/* SPDX-License-Identifier: Apache-2.0 */
/* Rows added, widened, and summed over. See model.h. */
#include "cpu/kernels/lanes.h"

INLINE void add_step(const float *x, float *y, int64_t count)
{
    vf sum = vf_add(vf_load_some(y, count), vf_load_some(x, count));
    vf_store_some(y, sum, count);
}

INLINE void add_row(const float *x, float *y, int64_t n)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        add_step(x + j, y + j, LANES);
    if (j < n)
        add_step(x + j, y + j, n - j);
}

cadftk_add_fn CADFTK_SYMBOL(cadftk_add);
void CADFTK_SYMBOL(cadftk_add)(const float *x, float *y, int64_t n)
{
    add_row(x, y, n);
}

cadftk_widen_fn CADFTK_SYMBOL(cadftk_widen_bf16);
void CADFTK_SYMBOL(cadftk_widen_bf16)(const uint16_t *x, float *y, int64_t n)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        vf_store(y + j, vf_load_bf16(x + j));
    for (; j < n; j++)
        y[j] = bf16_to_float(x[j]);
}

/* Row after row, as they lie in memory; the sum stays in the first cache. */
cadftk_sum_rows_fn CADFTK_SYMBOL(cadftk_sum_rows);
void CADFTK_SYMBOL(cadftk_sum_rows)(
    const float *x, int64_t rows, int64_t stride, float *sum, int64_t n)
{
    memcpy(sum, x, (size_t)n * sizeof *sum);
    for (int64_t r = 1; r < rows; r++)
        add_row(x + r * stride, sum, n);
}

INLINE void
fold_step(const float *x, int64_t rows, int64_t stride, float *y, int64_t count)
{
    vd lo = vd_set1(0.0), hi = vd_set1(0.0);
    double sum[LANES];
    for (int64_t r = 0; r < rows; r++) {
        vf v = vf_load_some(x + r * stride, count);
        lo = vd_add(lo, vd_lo(v));
        hi = vd_add(hi, vd_hi(v));
    }
    vd_store(sum, lo);
    vd_store(sum + LANES / 2, hi);
    for (int64_t j = 0; j < count; j++)
        y[j] = (float)((double)y[j] + sum[j]);
}

cadftk_fold_rows_fn CADFTK_SYMBOL(cadftk_fold_rows);
void CADFTK_SYMBOL(cadftk_fold_rows)(
    const float *x, int64_t rows, int64_t stride, float *y, int64_t n)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        fold_step(x + j, rows, stride, y + j, LANES);
    if (j < n)
        fold_step(x + j, rows, stride, y + j, n - j);
}
