/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen float lanes, whatever the ISA: one zmm, two ymm, four NEON
 * quadwords, or an array the compiler vectorises. The fused ISAs give the
 * same bits because every helper is one IEEE operation per lane and the lane
 * an element lands in depends only on its index and dtype.
 *
 *   vf   16 float        vi   32 uint16_t        vd   8 double
 *
 * Helpers, a, b, c of type vf unless said otherwise:
 *   vf_fma(a, b, c) = a*b + c    vf_fnma(a, b, c) = c - a*b
 *   vf_minus_abs(a) = -|a|       vf_sqrt(a), rounded correctly
 *   vf_max(a, b)    = a > b ? a : b; a NaN in b comes through on every ISA
 *   vf_pow2(t)      the low nine bits of t's pattern moved into the exponent
 *   vf_any_gt(a, b) whether a > b in some lane
 *   vf_drop_le(a, b, x)  +0 where a <= b, else x; so x where a is a NaN
 *   vf_pick_gt(a, b, x, y)  x where a > b, else y
 *   vd_lo(a), vd_hi(a)   lanes 0..7 and 8..15 widened
 * and x, y of type vi:
 *   vi_differ(x, y) whether they do in some lane
 *   vi_smax_16, vi_umax_16, vi_umin_16   signed and unsigned
 *   vi_mulhi_16(x, y)    the upper half of the unsigned product
 *   vi_round_to_7(x)     floor(x / 2^9 + 1/2)       vi_left_7(x)   x << 7
 *   vi_keep_equal_16(x, y, v)   v where x == y, else 0
 *
 * 16-bit loads and stores. A bf16 pair is 32 consecutive elements; the even
 * ones go to the first vf and the odd ones to the second, since that costs
 * one operation each instead of a shuffle and a shift.
 *   vf_from_bf16_pair(x, &even, &odd), vf_store_bf16_pair, vf_load_bf16,
 *   vf_store_bf16, vf_load_f16, vf_store_f16
 *   (a NaN stored as bf16 may become anything; see update.c)
 *   vi_low_halves(even, odd), vi_high_halves: the lower or upper 16 bits of
 *   either, back in the order of a pair
 *
 * Packing of matrices:
 *   vf_load_quads(p, stride)  lanes 4q..4q+3 are the 16 bytes at
 *                             p + 4q * stride; stride in bytes
 *   vf_transpose_quads(r)     lane 4q+i of r[k] becomes lane 4q+k of r[i]
 *   vf_bf16_even, vf_bf16_odd of 16 words, each a pair of bf16
 *   vf_load_low, vf_store_low, vf_load_quads_low   the first 8 lanes only;
 *                             what is loaded has 0 in the others
 */
#ifndef CADFT_CPU_KERNELS_LANES_H
#define CADFT_CPU_KERNELS_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels/convert.h"

#define LANES 16

#define CADFTK_PASTE_(a, b) a##_##b
#define CADFTK_PASTE(a, b) CADFTK_PASTE_(a, b)
/* row_stats_f32 -> row_stats_f32_avx2 */
#define CADFTK_SYMBOL(name) CADFTK_PASTE(name, CADFTK_ISA)

#if defined(CADFTK_LANES_AVX512)
#    include "cpu/kernels/lanes_avx512.h"
#elif defined(CADFTK_LANES_AVX2)
#    include "cpu/kernels/lanes_avx2.h"
#elif defined(CADFTK_LANES_NEON)
#    include "cpu/kernels/lanes_neon.h"
#else
#    include "cpu/kernels/lanes_c.h"
#endif

/* a*b + c on doubles, fused exactly where the vector lanes are, so that the
 * compiler may vectorise it and every fused ISA rounds alike. */
INLINE double fma64(double a, double b, double c)
{
#if LANES_FUSED
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* Into the cache, from an address that need not be mapped. */
INLINE void prefetch_floats(const float *p, int64_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)p + 4 * (uintptr_t)ahead));
}

/* count in [1, LANES] elements, padded with +0; a constant in hot loops. */
INLINE vf vf_load_some(const float *p, int64_t count)
{
    float x[LANES] = {0};
    if (count == LANES)
        return vf_load(p);
    memcpy(x, p, (size_t)count * sizeof *x);
    return vf_load(x);
}

INLINE vf vf_load_bf16_some(const uint16_t *p, int64_t count)
{
    uint16_t x[LANES] = {0};
    if (count == LANES)
        return vf_load_bf16(p);
    memcpy(x, p, (size_t)count * sizeof *x);
    return vf_load_bf16(x);
}

INLINE void vf_store_some(float *p, vf v, int64_t count)
{
    float x[LANES];
    if (count == LANES) {
        vf_store(p, v);
    } else {
        vf_store(x, v);
        memcpy(p, x, (size_t)count * sizeof *x);
    }
}

/* From element j on, of an array of float or bf16. */
INLINE vf vf_load_typed(int dtype, const void *p, int64_t j, int64_t count)
{
    return dtype == CADFTK_F32
               ? vf_load_some((const float *)p + j, count)
               : vf_load_bf16_some((const uint16_t *)p + j, count);
}

/* Largest lane, NaN lanes aside. */
INLINE float vf_hmax(vf a)
{
    float x[LANES], m = -INFINITY;
    vf_store(x, a);
    for (int i = 0; i < LANES; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* Sum of 16 double lanes by a fixed tree. */
INLINE double vd_hsum(vd lo, vd hi)
{
    double x[8];
    vd_store(x, vd_add(lo, hi));
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

#endif
