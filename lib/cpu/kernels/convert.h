/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One element between its storage type and float. Narrowing rounds to
 * nearest even; an f16 that overflows becomes inf; a NaN stays a NaN.
 * Written without branches so that loops over them vectorise.
 */
#ifndef CADFT_CPU_KERNELS_CONVERT_H
#define CADFT_CPU_KERNELS_CONVERT_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels/kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

INLINE float bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

INLINE uint64_t double_bits(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

INLINE double bits_double(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

INLINE float bf16_to_float(uint16_t h)
{
    return bits_float((uint32_t)h << 16);
}

INLINE uint16_t float_to_bf16(float x)
{
    uint32_t u = float_bits(x), r = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)(x != x ? (u >> 16 | 0x40u) : r);
}

/* The exponent is rebased by a multiplication, which also normalises f16
 * subnormals; inf and NaN need their exponent forced. */
INLINE float f16_to_float(uint16_t h)
{
    uint32_t mag = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t u = float_bits(bits_float(mag) * 0x1p112f);
    u |= (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    return bits_float(u | (uint32_t)(h & 0x8000u) << 16);
}

/* Adding a power of two 2^13 ulps above x lets the adder do the rounding at
 * f16 precision; the floor at 2^-14 does it for f16 subnormals. The two
 * scalings turn everything beyond the f16 range into inf. */
INLINE uint16_t float_to_f16(float x)
{
    uint32_t u = float_bits(x), twice = u + u;
    uint32_t exponent = twice & 0xff000000u;
    float mag = bits_float(u & 0x7fffffffu) * 0x1p112f * 0x1p-110f;
    exponent = exponent < 0x71000000u ? 0x71000000u : exponent;
    uint32_t r = float_bits(bits_float((exponent >> 1) + 0x07800000u) + mag);
    r = (r >> 13 & 0x7c00u) + (r & 0xfffu);
    r = twice > 0xff000000u ? 0x7e00u : r;
    return (uint16_t)(r | (u >> 16 & 0x8000u));
}

INLINE float load_one(int dtype, const void *z, int64_t j)
{
    if (dtype == CADFTK_F32)
        return ((const float *)z)[j];
    uint16_t h = ((const uint16_t *)z)[j];
    return dtype == CADFTK_BF16 ? bf16_to_float(h) : f16_to_float(h);
}

INLINE void store_one(int dtype, void *g, int64_t j, float x)
{
    if (dtype == CADFTK_F32)
        ((float *)g)[j] = x;
    else
        ((uint16_t *)g)[j] =
            dtype == CADFTK_BF16 ? float_to_bf16(x) : float_to_f16(x);
}

INLINE size_t dtype_size(int dtype)
{
    return dtype == CADFTK_F32 ? sizeof(float) : sizeof(uint16_t);
}

#endif
