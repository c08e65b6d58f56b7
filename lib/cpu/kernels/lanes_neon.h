/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes on AArch64 NEON: four quadwords. See lanes.h. */
#ifndef CADFT_CPU_KERNELS_LANES_NEON_H
#define CADFT_CPU_KERNELS_LANES_NEON_H

#include <arm_neon.h>

#define LANES_FUSED 1

typedef struct {
    float32x4_t q[4];
} vf;

typedef struct {
    float64x2_t q[4];
} vd;

typedef struct {
    uint16x8_t q[4];
} vi;

/* r.q[i] = expr for the four quadwords; the loops unroll completely. */
#define QUADS(type, expr)                                                      \
    do {                                                                       \
        type r_;                                                               \
        for (int i = 0; i < 4; i++)                                            \
            r_.q[i] = (expr);                                                  \
        return r_;                                                             \
    } while (0)

INLINE vf vf_set1(float x)
{
    QUADS(vf, vdupq_n_f32(x));
}

INLINE vf vf_load(const float *p)
{
    QUADS(vf, vld1q_f32(p + 4 * i));
}

INLINE void vf_store(float *p, vf x)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, x.q[i]);
}

INLINE vf vf_add(vf x, vf y)
{
    QUADS(vf, vaddq_f32(x.q[i], y.q[i]));
}

INLINE vf vf_sub(vf x, vf y)
{
    QUADS(vf, vsubq_f32(x.q[i], y.q[i]));
}

INLINE vf vf_mul(vf x, vf y)
{
    QUADS(vf, vmulq_f32(x.q[i], y.q[i]));
}

INLINE vf vf_div(vf x, vf y)
{
    QUADS(vf, vdivq_f32(x.q[i], y.q[i]));
}

INLINE vf vf_sqrt(vf x)
{
    QUADS(vf, vsqrtq_f32(x.q[i]));
}

INLINE vf vf_minus_abs(vf x)
{
    QUADS(vf, vnegq_f32(vabsq_f32(x.q[i])));
}

INLINE vf vf_fma(vf x, vf y, vf z)
{
    QUADS(vf, vfmaq_f32(z.q[i], x.q[i], y.q[i]));
}

INLINE vf vf_fnma(vf x, vf y, vf z)
{
    QUADS(vf, vfmsq_f32(z.q[i], x.q[i], y.q[i]));
}

/* FMAX: a NaN in either operand comes through. Of two zeros it takes +0
 * where x86 takes the second; no result depends on which. */
INLINE vf vf_max(vf x, vf y)
{
    QUADS(vf, vmaxq_f32(x.q[i], y.q[i]));
}

INLINE vf vf_pow2(vf t)
{
    QUADS(vf, vreinterpretq_f32_u32(
                  vshlq_n_u32(vreinterpretq_u32_f32(t.q[i]), 23)));
}

INLINE int vf_any_gt(vf x, vf y)
{
    uint32x4_t m = vdupq_n_u32(0);
    for (int i = 0; i < 4; i++)
        m = vorrq_u32(m, vcgtq_f32(x.q[i], y.q[i]));
    return vmaxvq_u32(m) != 0;
}

INLINE vf vf_drop_le(vf x, vf y, vf v)
{
    QUADS(vf, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v.q[i]),
                                              vcleq_f32(x.q[i], y.q[i]))));
}

INLINE vf vf_pick_gt(vf x, vf y, vf v, vf w)
{
    QUADS(vf, vbslq_f32(vcgtq_f32(x.q[i], y.q[i]), v.q[i], w.q[i]));
}

INLINE vi vi_set1_16(uint16_t x)
{
    QUADS(vi, vdupq_n_u16(x));
}

INLINE vi vi_load(const void *p)
{
    QUADS(vi, vld1q_u16((const uint16_t *)p + 8 * i));
}

INLINE void vi_store(void *p, vi x)
{
    for (int i = 0; i < 4; i++)
        vst1q_u16((uint16_t *)p + 8 * i, x.q[i]);
}

INLINE int vi_differ(vi x, vi y)
{
    uint16x8_t m = vdupq_n_u16(0);
    for (int i = 0; i < 4; i++)
        m = vorrq_u16(m, veorq_u16(x.q[i], y.q[i]));
    return vmaxvq_u16(m) != 0;
}

INLINE uint16x8_t smax_u16(uint16x8_t x, uint16x8_t y)
{
    return vreinterpretq_u16_s16(
        vmaxq_s16(vreinterpretq_s16_u16(x), vreinterpretq_s16_u16(y)));
}

INLINE vi vi_smax_16(vi x, vi y)
{
    QUADS(vi, smax_u16(x.q[i], y.q[i]));
}

INLINE vi vi_umax_16(vi x, vi y)
{
    QUADS(vi, vmaxq_u16(x.q[i], y.q[i]));
}

INLINE vi vi_umin_16(vi x, vi y)
{
    QUADS(vi, vminq_u16(x.q[i], y.q[i]));
}

INLINE vi vi_add_16(vi x, vi y)
{
    QUADS(vi, vaddq_u16(x.q[i], y.q[i]));
}

INLINE uint16x8_t mulhi_u16(uint16x8_t x, uint16x8_t y)
{
    uint32x4_t lo = vmull_u16(vget_low_u16(x), vget_low_u16(y));
    uint32x4_t hi = vmull_high_u16(x, y);
    return vuzp2q_u16(vreinterpretq_u16_u32(lo), vreinterpretq_u16_u32(hi));
}

INLINE vi vi_mulhi_16(vi x, vi y)
{
    QUADS(vi, mulhi_u16(x.q[i], y.q[i]));
}

INLINE vi vi_round_to_7(vi x)
{
    QUADS(vi, vrshrq_n_u16(x.q[i], 9));
}

INLINE vi vi_left_7(vi x)
{
    QUADS(vi, vshlq_n_u16(x.q[i], 7));
}

INLINE vi vi_keep_equal_16(vi x, vi y, vi v)
{
    QUADS(vi, vandq_u16(vceqq_u16(x.q[i], y.q[i]), v.q[i]));
}

INLINE uint16x8_t low_halves(float32x4_t even, float32x4_t odd)
{
    return vtrn1q_u16(vreinterpretq_u16_f32(even), vreinterpretq_u16_f32(odd));
}

INLINE uint16x8_t high_halves(float32x4_t even, float32x4_t odd)
{
    return vtrn2q_u16(vreinterpretq_u16_f32(even), vreinterpretq_u16_f32(odd));
}

INLINE vi vi_low_halves(vf even, vf odd)
{
    QUADS(vi, low_halves(even.q[i], odd.q[i]));
}

INLINE vi vi_high_halves(vf even, vf odd)
{
    QUADS(vi, high_halves(even.q[i], odd.q[i]));
}

INLINE void vf_from_bf16_pair(vi x, vf *even, vf *odd)
{
    for (int i = 0; i < 4; i++) {
        uint32x4_t w = vreinterpretq_u32_u16(x.q[i]);
        even->q[i] = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
        odd->q[i] =
            vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff0000u)));
    }
}

INLINE vf vf_bf16_even(vf x)
{
    QUADS(vf, vreinterpretq_f32_u32(
                  vshlq_n_u32(vreinterpretq_u32_f32(x.q[i]), 16)));
}

INLINE vf vf_bf16_odd(vf x)
{
    QUADS(vf, vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x.q[i]),
                                              vdupq_n_u32(0xffff0000u))));
}

/* By bytes: a pair of bf16 need not be aligned as a word is. */
INLINE float32x4_t load_quad(const char *p)
{
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}

INLINE vf vf_load_quads(const char *p, int64_t stride)
{
    QUADS(vf, load_quad(p + 4 * i * stride));
}

INLINE vf vf_load_quads_low(const char *p, int64_t stride)
{
    QUADS(vf, i < 2 ? load_quad(p + 4 * i * stride) : vdupq_n_f32(0.0f));
}

INLINE void vf_transpose_quads(vf r[4])
{
    for (int i = 0; i < 4; i++) {
        float32x4x2_t a = vtrnq_f32(r[0].q[i], r[1].q[i]);
        float32x4x2_t b = vtrnq_f32(r[2].q[i], r[3].q[i]);
        for (int k = 0; k < 2; k++) {
            r[k].q[i] =
                vcombine_f32(vget_low_f32(a.val[k]), vget_low_f32(b.val[k]));
            r[k + 2].q[i] =
                vcombine_f32(vget_high_f32(a.val[k]), vget_high_f32(b.val[k]));
        }
    }
}

INLINE vf vf_load_low(const float *p)
{
    QUADS(vf, i < 2 ? vld1q_f32(p + 4 * i) : vdupq_n_f32(0.0f));
}

INLINE void vf_store_low(float *p, vf x)
{
    vst1q_f32(p, x.q[0]);
    vst1q_f32(p + 4, x.q[1]);
}

INLINE vf vf_load_bf16(const uint16_t *p)
{
    QUADS(vf, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)));
}

/* Round to nearest even in the upper 16 bits; the lower ones are garbage. */
INLINE float32x4_t bf16_round(float32x4_t v)
{
    uint32x4_t x = vreinterpretq_u32_f32(v);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    x = vaddq_u32(vaddq_u32(x, vdupq_n_u32(0x7fff)), odd);
    return vreinterpretq_f32_u32(x);
}

INLINE void vf_store_bf16_pair(uint16_t *p, vf even, vf odd)
{
    for (int i = 0; i < 4; i++)
        vst1q_u16(p + 8 * i,
                  high_halves(bf16_round(even.q[i]), bf16_round(odd.q[i])));
}

INLINE void vf_store_bf16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i += 2)
        vst1q_u16(p + 4 * i,
                  vuzp2q_u16(vreinterpretq_u16_f32(bf16_round(x.q[i])),
                             vreinterpretq_u16_f32(bf16_round(x.q[i + 1]))));
}

INLINE vf vf_load_f16(const uint16_t *p)
{
    QUADS(vf, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}

INLINE void vf_store_f16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i++)
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.q[i])));
}

INLINE vd vd_set1(double x)
{
    QUADS(vd, vdupq_n_f64(x));
}

INLINE vd vd_wide(float32x4_t a, float32x4_t b)
{
    vd r = {{vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a),
             vcvt_f64_f32(vget_low_f32(b)), vcvt_high_f64_f32(b)}};
    return r;
}

INLINE vd vd_lo(vf x)
{
    return vd_wide(x.q[0], x.q[1]);
}

INLINE vd vd_hi(vf x)
{
    return vd_wide(x.q[2], x.q[3]);
}

INLINE vd vd_add(vd x, vd y)
{
    QUADS(vd, vaddq_f64(x.q[i], y.q[i]));
}

INLINE vd vd_mul(vd x, vd y)
{
    QUADS(vd, vmulq_f64(x.q[i], y.q[i]));
}

INLINE vd vd_fma(vd x, vd y, vd z)
{
    QUADS(vd, vfmaq_f64(z.q[i], x.q[i], y.q[i]));
}

INLINE void vd_store(double *p, vd x)
{
    for (int i = 0; i < 4; i++)
        vst1q_f64(p + 2 * i, x.q[i]);
}

#endif
