/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding, forward and backward. See model.h. */
#include "cpu/kernels/lanes.h"

INLINE void rope_step(float *lower,
                      float *upper,
                      const float *cosine,
                      const float *sine,
                      int64_t count,
                      int inverse)
{
    vf a = vf_load_some(lower, count), b = vf_load_some(upper, count);
    vf c = vf_load_some(cosine, count), s = vf_load_some(sine, count);
    vf ac = vf_mul(a, c), bc = vf_mul(b, c);
    vf_store_some(lower, inverse ? vf_fma(b, s, ac) : vf_fnma(b, s, ac), count);
    vf_store_some(upper, inverse ? vf_fnma(a, s, bc) : vf_fma(a, s, bc), count);
}

INLINE void
rope(float *x, const float *table, int64_t groups, int64_t half, int inverse)
{
    for (int64_t g = 0; g < groups; g++, x += 2 * half) {
        int64_t i = 0;
        for (; i + LANES <= half; i += LANES)
            rope_step(x + i, x + half + i, table + i, table + half + i, LANES,
                      inverse);
        if (i < half)
            rope_step(x + i, x + half + i, table + i, table + half + i,
                      half - i, inverse);
    }
}

cadftk_rope_fn CADFTK_SYMBOL(cadftk_rope);
void CADFTK_SYMBOL(cadftk_rope)(
    float *x, const float *table, int64_t groups, int64_t half, int inverse)
{
    if (inverse)
        rope(x, table, groups, half, 1);
    else
        rope(x, table, groups, half, 0);
}
