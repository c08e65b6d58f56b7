/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of an array as numbers. */
#ifndef TOY_NUMBERS_H
#define TOY_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cadft/base.h"

static inline int64_t toy_size(int32_t dtype)
{
    switch (dtype) {
    case CADFT_DTYPE_F64:
        return 8;
    case CADFT_DTYPE_BF16:
    case CADFT_DTYPE_F16:
        return 2;
    default: /* float32, int32 */
        return 4;
    }
}

/* A 16-bit type has `bits` bits of fraction and `least` as the exponent of
 * its smallest normal number: 7 and -126 of bfloat16, 10 and -14 of float16. */
static inline double toy_get16(uint16_t x, int bits, int least)
{
    int exponent = (x & 0x7fff) >> bits, fraction = x & ((1 << bits) - 1);
    double sign = x >> 15 ? -1 : 1;
    if (exponent == 0x7fff >> bits)
        return fraction ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, least - bits);
    return sign * ldexp(fraction + (1 << bits), exponent - 1 + least - bits);
}

/* To nearest, ties to even. A fraction that rounds up to a power of two
 * carries into the exponent, and beyond the largest one to infinity. */
static inline uint16_t toy_put16(double x, int bits, int least)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0, top = (uint16_t)(0x7fff >> bits);
    int exponent;
    long rounded;
    if (isnan(x))
        return 0x7fff;
    if (x == 0)
        return sign;
    exponent = isinf(x) ? 1024 : ilogb(x);
    exponent = exponent < least ? least : exponent;
    if (exponent - least + 1 >= top)
        return (uint16_t)(sign | top << bits);
    rounded = lrint(ldexp(fabs(x), bits - exponent));
    return (uint16_t)(sign | (((exponent - least) << bits) + (int)rounded));
}

static inline double toy_get(const void *data, int32_t dtype, int64_t i)
{
    uint32_t bits;
    float f;
    if (dtype == CADFT_DTYPE_F32)
        return ((const float *)data)[i];
    if (dtype == CADFT_DTYPE_F16)
        return toy_get16(((const uint16_t *)data)[i], 10, -14);
    bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    memcpy(&f, &bits, sizeof f); /* bfloat16 is the upper half of a float */
    return f;
}

static inline void toy_put(void *data, int32_t dtype, int64_t i, double x)
{
    if (dtype == CADFT_DTYPE_F32)
        ((float *)data)[i] = (float)x;
    else if (dtype == CADFT_DTYPE_F16)
        ((uint16_t *)data)[i] = toy_put16(x, 10, -14);
    else
        ((uint16_t *)data)[i] = toy_put16(x, 7, -126);
}

#endif
