/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exp and tanh in float64, our own: libm's differ between machines in the
 * last bit, may set errno, and cannot be vectorised. Errors about 1 ulp (exp)
 * and 2 ulp (soft-cap). Here once per row, in the slow path, and in the
 * soft-cap, where float32 is too coarse (an ulp at 30 is 2e-6).
 */
#ifndef CADFT_CPU_KERNELS_EXP64_H
#define CADFT_CPU_KERNELS_EXP64_H

#include "cpu/kernels/lanes.h"

#define LOG2E_64 0x1.71547652b82fep+0
#define MAGIC_64 0x1.8p52 /* adding it rounds to an integer */
/* ln 2: HI has 33 bits, so n * HI is exact for |n| < 2^20 (fdlibm). */
#define LN2_HI_64 0x1.62e42feep-1
#define LN2_LO_64 0x1.a39ef35793c76p-33

/* Nearest integer, ties to even, for |x| < 2^51. */
INLINE double round64(double x)
{
    return (x + MAGIC_64) - MAGIC_64;
}

/* 2^n for integer n in [-1022, 1023]. */
INLINE double pow2_64(double n)
{
    return bits_double(double_bits(n + (MAGIC_64 + 1023.0)) << 52);
}

/* x - n ln 2 for an integer |n| < 2^20: 33 + 53 bits of ln 2. */
INLINE double minus_ln2_times(double x, double n)
{
    return fma64(-n, LN2_LO_64, fma64(-n, LN2_HI_64, x));
}

/* e^f - 1 for |f| <= (ln 2)/2: Taylor to f^13, the rest below 4e-18. */
INLINE double expm1_reduced(double f)
{
    double q = 0x1.6124613a86d09p-33; /* 1/13! */
    q = fma64(q, f, 0x1.1eed8eff8d898p-29);
    q = fma64(q, f, 0x1.ae64567f544e4p-26);
    q = fma64(q, f, 0x1.27e4fb7789f5cp-22);
    q = fma64(q, f, 0x1.71de3a556c734p-19);
    q = fma64(q, f, 0x1.a01a01a01a01ap-16);
    q = fma64(q, f, 0x1.a01a01a01a01ap-13);
    q = fma64(q, f, 0x1.6c16c16c16c17p-10);
    q = fma64(q, f, 0x1.1111111111111p-7);
    q = fma64(q, f, 0x1.5555555555555p-5);
    q = fma64(q, f, 0x1.5555555555555p-3);
    q = fma64(q, f, 0.5);
    return fma64(f * f, q, f);
}

/* e^x; 0 below -708 (no subnormals), inf above 709, NaN for NaN. */
static inline double exp64(double x)
{
    if (x < -708.0)
        return 0.0;
    if (x > 709.0)
        return INFINITY;
    double n = round64(x * LOG2E_64);
    double two_n = pow2_64(n);
    return fma64(two_n, expm1_reduced(minus_ln2_times(x, n)), two_n);
}

/*
 * Soft-cap of one logit: z' = cap * tanh(z / cap), and dz'/dz = 1 - tanh^2.
 * With y = 2|z|/cap and m = e^y - 1:
 *   tanh = m / (m + 2),   1 - tanh^2 = 4 (m + 1) / (m + 2)^2
 * neither of which cancels. tanh is 1 to the last bit from y = 40 on; y stops
 * at 700, before e^y overflows and where the chain factor is 0 as a float. The
 * minimum is taken on the bit patterns and z * 0 brings NaN back, since a
 * compare of doubles here ends up as a branch and keeps loops from
 * vectorising. For the same reason infinities are the caller's to mask: they
 * give NaN. `two_over_cap` = 2 / cap.
 */
INLINE double
softcap_unmasked(double z, double cap, double two_over_cap, double *chain)
{
    int64_t bits = (int64_t)double_bits(fabs(z) * two_over_cap);
    int64_t limit = (int64_t)double_bits(700.0);
    double y = bits_double((uint64_t)(bits < limit ? bits : limit)) + z * 0.0;
    double n = round64(y * LOG2E_64);
    double two_n = pow2_64(n);
    double m = expm1_reduced(minus_ln2_times(y, n));
    m = fma64(two_n, m, two_n - 1.0);
    double r = 1.0 / (m + 2.0);
    *chain = 4.0 * ((m + 1.0) * r) * r;
    return copysign(cap * (m * r), z);
}

/* The same with -inf masked: it stays -inf, with factor 0. */
INLINE double softcap64(double z, double cap, double *chain)
{
    if (z == -INFINITY) {
        *chain = 0.0;
        return z;
    }
    return softcap_unmasked(z, cap, 2.0 / cap, chain);
}

#endif
