/* SPDX-License-Identifier: Apache-2.0 */
/*
 * a exp(z - lse) from bf16 to bf16, in 16-bit integers: thirty-two columns
 * where float has sixteen lanes. A bf16 keeps 8 bits, so 15 will do.
 *
 *   |a| exp(z - lse) = 2^y,   y = z L + K,   K = log2 |a| - lse L
 *
 * One fused multiply-add, with the constant chosen so that the sum lies in
 * [128, 256), leaves y in fixed point in the mantissa: the upper half of the
 * pattern has floor(y) + const, the lower half the 16 bits f after the point.
 * 2^f - 1 is a polynomial of degree 4 whose products keep their upper halves
 * (truncated; the coefficients, by a search over the integers, allow for
 * that), rounded to 7 bits and added to the exponent, into which it may carry.
 *
 * Error before the last rounding, relative:
 *   polynomial   [-1.96e-5, 1.00e-5] over every f, centred by EXP16_CENTRE
 *   y            2^-17 ln 2 from the multiply-add, 2^-16 ln 2 from K
 * together below 2^-14.9, where half an ulp of a bf16 is 2^-9 to 2^-8. A tie
 * goes up: it is one of the approximation only.
 *
 * 2^y below 2^-125 max(1, |a|) is 0, and as the floor below which it lies is
 * a bf16 too, up to a nat more, so all below 2^-123 max(1, |a|) may be.
 */
#ifndef CADFT_CPU_KERNELS_EXP16_H
#define CADFT_CPU_KERNELS_EXP16_H

#include "cpu/kernels/exp.h"
#include "cpu/kernels/order.h"

#define EXP16_CENTRE 6.94e-6 /* of y, so in units of log2 */
static const uint16_t exp16_coef[4] = {45426, 15785, 3464, 862};

typedef struct exp16 {
    float magic;
    uint16_t offset, floor; /* of the exponent; pattern */
} exp16;

/* log2 of x in [1, 2), to 1e-10: the series of atanh. */
static inline double exp16_log2(double x)
{
    double s = (x - 1.0) / (x + 1.0), sum = 0.0;
    for (int i = 17; i > 0; i -= 2)
        sum = fma64(sum * s, s, 1.0 / (double)i);
    return 2.0 * LOG2E_64 * (s * sum);
}

/* Returns 0 where float32 has to serve: a is 0, or lse is far from 0. */
INLINE int exp16_prepare(double lse, double a, exp16 *r)
{
    double mag = fabs(a);
    if (!(mag >= 0x1p-120 && mag < 0x1p100))
        return 0;
    int e = (int)(double_bits(mag) >> 52) - 1023;
    double mantissa = mag * pow2_64(-(double)e);
    double log2a = (double)e + exp16_log2(mantissa);
    double k = log2a - lse * EXP_BASE + EXP16_CENTRE;
    /* The largest y are below e + 1; one more binade keeps rounding out. */
    double top = (double)(e + 2), least = (double)(e > 0 ? e : 0) - 125.0;
    double magic = 256.0 - top + k, floor = (least - k) / EXP_BASE;
    if (!(fabs(magic) < 512.0) || !(floor < -1.0 && floor > -256.0))
        return 0;
    uint32_t offset = (uint32_t)(e + 1) * 0x80u + 0x8000u;
    offset += a < 0.0 ? 0x8000u : 0u;
    r->offset = (uint16_t)offset;
    r->floor = order_pattern(CADFTK_BF16, (float)floor, 0);
    r->magic = (float)magic;
    return 1;
}

/* `count` (1 or 2) spans of bf16 patterns at or above the floor, in place. */
INLINE void exp16_spans(int count, vi *x, vf magic, vi offset)
{
    const vf log2e = vf_set1(EXP_LOG2E);
    vf even[2], odd[2];
    vi f[2], m[2];
    EXP_EACH(count) vf_from_bf16_pair(x[k], &even[k], &odd[k]);
    EXP_EACH(count) even[k] = vf_fma(even[k], log2e, magic);
    EXP_EACH(count) odd[k] = vf_fma(odd[k], log2e, magic);
    EXP_EACH(count) f[k] = vi_low_halves(even[k], odd[k]);
    EXP_EACH(count) x[k] = vi_high_halves(even[k], odd[k]);
    EXP_EACH(count) m[k] = vi_set1_16(exp16_coef[3]);
    for (int i = 2; i >= 0; i--) {
        EXP_EACH(count) m[k] = vi_mulhi_16(f[k], m[k]);
        EXP_EACH(count) m[k] = vi_add_16(m[k], vi_set1_16(exp16_coef[i]));
    }
    EXP_EACH(count) m[k] = vi_mulhi_16(f[k], m[k]);
    EXP_EACH(count) x[k] = vi_add_16(vi_left_7(x[k]), offset);
    EXP_EACH(count) m[k] = vi_round_to_7(m[k]);
    EXP_EACH(count) x[k] = vi_add_16(x[k], m[k]);
}

#endif
