/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exp of 16 floats with an extended exponent.
 *
 *   e^z * 2^(bias - R) = p(g) * 2^(n + bias - R) / KAPPA
 *   n = rint(z L),  g = n - z L,  |g| <= 1/2,  L = log2 e
 *
 * R and bias are integers the caller picks for a whole row. They enter only
 * through the power of two, so the mantissa of e^z is a function of z alone:
 * partial sums taken with different R (another shard, an earlier part of the
 * row) agree after an exact power-of-two rescale.
 *
 * t = z L + (1.5 * 2^23 + bias - R) rounds to an integer in the low bits of
 * its pattern, and those bits, shifted by 23, are the exponent field of the
 * scale. No conversion, no ldexp. The caller keeps the field in [0, 254]:
 * from below by clamping z at `floor`, where the field is 0 and the scale
 * exactly +0 (so -inf, a masked column, gives exactly 0); from above by
 * choosing R. Rows whose R lies beyond EXP_LIMIT take the scalar float64 path
 * (slow.h).
 *
 * With a fused multiply-add, n - z L is rounded once however large z is, so L
 * need not be split. L as a float is (1 - 1.3e-8) log2 e: what is computed is
 * e^z at a temperature off by 1.3e-8. Only differences z - z_max (or z - lse)
 * count, since exp_unit() divides the same power out again: the relative
 * error of an entry is 1.3e-8 times its distance from the top in nats.
 *
 * p(g) is the degree-5 minimax polynomial for KAPPA * 2^-g in relative error,
 * 1.29 * 2^-24, by Remez and a lattice search over float coefficients; KAPPA
 * makes the constant term exactly 1, and is divided out once per row in
 * float64. Measured over every g: see the exp test of tests/check_kernels.c.
 */
#ifndef CADFT_CPU_KERNELS_EXP_H
#define CADFT_CPU_KERNELS_EXP_H

#include "cpu/kernels/exp64.h"

#define EXP_KAPPA 0x1.fffffd809aecep-1
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_MAGIC 0x1.8p23 /* 1.5 * 2^23: ulp 1, room on both sides */

#if LANES_FUSED
#    define EXP_BASE ((double)EXP_LOG2E) /* log2 of the base in effect */
#    define EXP_LIMIT 1e6                /* R must stay below 2^22 */
#else
/* Without it: f = z - n ln 2 by two products (Cephes' constants, HI has 9
 * bits, so n * HI is exact for |n| < 2^15), g = -f log2 e. n * LO rounds by
 * 2e-8 at |z| = 1000. */
#    define EXP_LN2_HI 0x1.63p-1f
#    define EXP_LN2_LO -0x1.bd0106p-13f
#    define EXP_BASE LOG2E_64
#    define EXP_LIMIT 1e3
#endif

static const float exp_coef[6] = {
    0x1p+0f,         -0x1.62e428p-1f, 0x1.ebf914p-3f,
    -0x1.c6b672p-5f, 0x1.3d0c38p-7f,  -0x1.5c1c2cp-10f,
};

/* The polynomial, scaled by m (1 in the sums, the coefficient's mantissa in
 * the gradient, which saves a multiplication per element). */
typedef struct exp_poly {
    vf c[6];
} exp_poly;

INLINE exp_poly exp_poly_scaled(double m)
{
    exp_poly p;
    for (int i = 0; i < 6; i++)
        p.c[i] = vf_set1((float)(m * (double)exp_coef[i]));
    return p;
}

/* R for rows whose largest logit (or logsumexp) is z, |z| <= EXP_LIMIT. */
INLINE double exp_ref(double z)
{
    return round64(z * EXP_BASE);
}

/* The constant 1.5 * 2^23 + bias - R: an integer below 2^24, so exact. */
INLINE float exp_magic(double ref, int bias)
{
    return (float)(EXP_MAGIC + (double)bias - ref);
}

/* The z at which the exponent field is 0. Anywhere within (ln 2)/2 of it
 * would do, which float spacing at EXP_LIMIT (0.06) leaves room for. */
INLINE float exp_floor(double ref, int bias)
{
    return (float)((ref - (double)bias) / EXP_BASE);
}

/* What the lanes give, times 2^-bias, for e^z; z need not be a float. */
INLINE double exp_unit(double z, double ref)
{
    double power = fma64(z, EXP_BASE, -ref);
    return EXP_KAPPA * exp64(power * 0.69314718055994530942);
}

/*
 * p(g) and the scale of z[k] + lo[k] for `count` (a constant, 1 or 2) vectors,
 * lo being a tail below an ulp of z, or NULL. A NaN z gives a NaN. z must not
 * be below the floor. Two vectors step by step hide the latency of the chain,
 * which is longer than a core's scheduler is deep.
 */
#define EXP_EACH(count) for (int k = 0; k < (count); k++)

INLINE void exp_parts(int count,
                      const vf *z,
                      const vf *lo,
                      vf magic,
                      const exp_poly *poly,
                      vf *p,
                      vf *scale)
{
    const vf log2e = vf_set1(EXP_LOG2E);
    vf g[2], n[2], t[2];
    EXP_EACH(count) t[k] = vf_fma(z[k], log2e, magic);
    EXP_EACH(count) n[k] = vf_sub(t[k], magic);
#if LANES_FUSED
    EXP_EACH(count) g[k] = vf_fnma(z[k], log2e, n[k]);
    if (lo)
        EXP_EACH(count) g[k] = vf_fnma(lo[k], log2e, g[k]);
#else
    EXP_EACH(count) g[k] = vf_fnma(n[k], vf_set1(EXP_LN2_HI), z[k]);
    EXP_EACH(count) g[k] = vf_fnma(n[k], vf_set1(EXP_LN2_LO), g[k]);
    if (lo)
        EXP_EACH(count) g[k] = vf_add(g[k], lo[k]);
    EXP_EACH(count) g[k] = vf_fnma(g[k], log2e, vf_set1(0.0f));
#endif
    EXP_EACH(count) p[k] = vf_fma(poly->c[5], g[k], poly->c[4]);
    EXP_EACH(count) p[k] = vf_fma(p[k], g[k], poly->c[3]);
    EXP_EACH(count) p[k] = vf_fma(p[k], g[k], poly->c[2]);
    EXP_EACH(count) p[k] = vf_fma(p[k], g[k], poly->c[1]);
    EXP_EACH(count) p[k] = vf_fma(p[k], g[k], poly->c[0]);
    EXP_EACH(count) scale[k] = vf_pow2(t[k]);
}

#endif
