/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes in portable C: four quads of the compiler's generic vectors (gcc,
 * clang), which become whatever the target's baseline offers: SSE2, NEON,
 * AltiVec, or scalars. No fused multiply-add is assumed and none is emulated:
 * results differ from the fused ISAs by rounding. See lanes.h.
 */
#ifndef CADFT_CPU_KERNELS_LANES_C_H
#define CADFT_CPU_KERNELS_LANES_C_H

#define LANES_FUSED 0

typedef float f32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef int16_t i16x8 __attribute__((vector_size(16)));

typedef struct {
    f32x4 q[4];
} vf;

typedef struct {
    f64x2 q[4];
} vd;

typedef struct {
    u16x8 q[4];
} vi;

/* r.q[i] = expr for the four quads; the loops unroll completely. */
#define QUADS(type, expr)                                                      \
    do {                                                                       \
        type r_;                                                               \
        for (int i = 0; i < 4; i++)                                            \
            r_.q[i] = (expr);                                                  \
        return r_;                                                             \
    } while (0)

INLINE f32x4 quad_set1(float x)
{
    f32x4 r = {x, x, x, x};
    return r;
}

INLINE u32x4 quad_bits(uint32_t x)
{
    u32x4 r = {x, x, x, x};
    return r;
}

/* m ? x : y, m all ones or all zeros in each lane. */
INLINE u32x4 quad_pick(u32x4 m, u32x4 x, u32x4 y)
{
    return (m & x) | (~m & y);
}

INLINE vf vf_set1(float x)
{
    QUADS(vf, quad_set1(x));
}

INLINE vf vf_load(const float *p)
{
    vf r;
    memcpy(&r, p, sizeof r);
    return r;
}

INLINE void vf_store(float *p, vf x)
{
    memcpy(p, &x, sizeof x);
}

INLINE vf vf_add(vf x, vf y)
{
    QUADS(vf, x.q[i] + y.q[i]);
}

INLINE vf vf_sub(vf x, vf y)
{
    QUADS(vf, x.q[i] - y.q[i]);
}

INLINE vf vf_mul(vf x, vf y)
{
    QUADS(vf, x.q[i] * y.q[i]);
}

INLINE vf vf_div(vf x, vf y)
{
    QUADS(vf, x.q[i] / y.q[i]);
}

/* Lane by lane: the generic vectors have no root. */
INLINE f32x4 quad_sqrt(f32x4 x)
{
    f32x4 r;
    for (int i = 0; i < 4; i++)
        r[i] = x[i] < 0.0f ? (float)NAN : sqrtf(x[i]); /* leaves errno */
    return r;
}

INLINE vf vf_sqrt(vf x)
{
    QUADS(vf, quad_sqrt(x.q[i]));
}

INLINE vf vf_minus_abs(vf x)
{
    QUADS(vf, (f32x4)((u32x4)x.q[i] | 0x80000000u));
}

INLINE vf vf_fma(vf x, vf y, vf z)
{
    QUADS(vf, x.q[i] * y.q[i] + z.q[i]);
}

INLINE vf vf_fnma(vf x, vf y, vf z)
{
    QUADS(vf, z.q[i] - x.q[i] * y.q[i]);
}

INLINE vf vf_max(vf x, vf y)
{
    QUADS(vf, (f32x4)quad_pick((u32x4)(x.q[i] > y.q[i]), (u32x4)x.q[i],
                               (u32x4)y.q[i]));
}

INLINE vf vf_pow2(vf t)
{
    QUADS(vf, (f32x4)((u32x4)t.q[i] << 23));
}

INLINE int vf_any_gt(vf x, vf y)
{
    u32x4 m = quad_bits(0);
    for (int i = 0; i < 4; i++)
        m |= (u32x4)(x.q[i] > y.q[i]);
    return (m[0] | m[1] | m[2] | m[3]) != 0;
}

INLINE vf vf_drop_le(vf x, vf y, vf v)
{
    QUADS(vf, (f32x4)(~(u32x4)(x.q[i] <= y.q[i]) & (u32x4)v.q[i]));
}

INLINE vf vf_pick_gt(vf x, vf y, vf v, vf w)
{
    QUADS(vf, (f32x4)quad_pick((u32x4)(x.q[i] > y.q[i]), (u32x4)v.q[i],
                               (u32x4)w.q[i]));
}

INLINE u32x4 quad_load_halves(const uint16_t *p)
{
    u32x4 r = {p[0], p[1], p[2], p[3]};
    return r;
}

INLINE void quad_store_halves(uint16_t *p, u32x4 x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint16_t)x[i];
}

INLINE vi vi_set1_16(uint16_t x)
{
    u16x8 v = {x, x, x, x, x, x, x, x};
    QUADS(vi, v);
}

INLINE vi vi_load(const void *p)
{
    vi r;
    memcpy(&r, p, sizeof r);
    return r;
}

INLINE void vi_store(void *p, vi x)
{
    memcpy(p, &x, sizeof x);
}

INLINE int vi_differ(vi x, vi y)
{
    u32x4 m = quad_bits(0);
    for (int i = 0; i < 4; i++)
        m |= (u32x4)(x.q[i] ^ y.q[i]);
    return (m[0] | m[1] | m[2] | m[3]) != 0;
}

INLINE u16x8 octet_pick(u16x8 m, u16x8 x, u16x8 y)
{
    return (m & x) | (~m & y);
}

INLINE vi vi_smax_16(vi x, vi y)
{
    QUADS(vi,
          octet_pick((u16x8)((i16x8)x.q[i] > (i16x8)y.q[i]), x.q[i], y.q[i]));
}

INLINE vi vi_umax_16(vi x, vi y)
{
    QUADS(vi, octet_pick((u16x8)(x.q[i] > y.q[i]), x.q[i], y.q[i]));
}

INLINE vi vi_umin_16(vi x, vi y)
{
    QUADS(vi, octet_pick((u16x8)(x.q[i] < y.q[i]), x.q[i], y.q[i]));
}

INLINE vi vi_add_16(vi x, vi y)
{
    QUADS(vi, x.q[i] + y.q[i]);
}

INLINE u16x8 octet_mulhi(u16x8 x, u16x8 y)
{
    u16x8 r;
    for (int i = 0; i < 8; i++)
        r[i] = (uint16_t)((uint32_t)x[i] * y[i] >> 16);
    return r;
}

INLINE vi vi_mulhi_16(vi x, vi y)
{
    QUADS(vi, octet_mulhi(x.q[i], y.q[i]));
}

INLINE vi vi_round_to_7(vi x)
{
    QUADS(vi, ((x.q[i] >> 8) + 1) >> 1);
}

INLINE vi vi_left_7(vi x)
{
    QUADS(vi, x.q[i] << 7);
}

INLINE vi vi_keep_equal_16(vi x, vi y, vi v)
{
    QUADS(vi, (u16x8)(x.q[i] == y.q[i]) & v.q[i]);
}

/* A word holds two elements, the even one in the low half on a little-endian
 * machine. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#    define EVEN_SHIFT(x) ((x) << 16)
#    define ODD_SHIFT(x) ((x)&0xffff0000u)
#    define EVEN_UNSHIFT(x) ((x) >> 16)
#    define ODD_UNSHIFT(x) ((x)&0xffff0000u)
#else
#    define EVEN_SHIFT(x) ((x)&0xffff0000u)
#    define ODD_SHIFT(x) ((x) << 16)
#    define EVEN_UNSHIFT(x) ((x)&0xffff0000u)
#    define ODD_UNSHIFT(x) ((x) >> 16)
#endif

INLINE vi vi_low_halves(vf even, vf odd)
{
    QUADS(vi, (u16x8)(EVEN_UNSHIFT((u32x4)even.q[i] << 16) |
                      ODD_UNSHIFT((u32x4)odd.q[i] << 16)));
}

INLINE vi vi_high_halves(vf even, vf odd)
{
    QUADS(vi, (u16x8)(EVEN_UNSHIFT((u32x4)even.q[i]) |
                      ODD_UNSHIFT((u32x4)odd.q[i])));
}

INLINE void vf_from_bf16_pair(vi x, vf *even, vf *odd)
{
    for (int i = 0; i < 4; i++) {
        u32x4 w = (u32x4)x.q[i];
        even->q[i] = (f32x4)(EVEN_SHIFT(w));
        odd->q[i] = (f32x4)(ODD_SHIFT(w));
    }
}

INLINE vf vf_bf16_even(vf x)
{
    QUADS(vf, (f32x4)(EVEN_SHIFT((u32x4)x.q[i])));
}

INLINE vf vf_bf16_odd(vf x)
{
    QUADS(vf, (f32x4)(ODD_SHIFT((u32x4)x.q[i])));
}

INLINE vf vf_load_quads(const char *p, int64_t stride)
{
    vf r;
    for (int i = 0; i < 4; i++)
        memcpy(&r.q[i], p + 4 * i * stride, sizeof r.q[i]);
    return r;
}

INLINE vf vf_load_quads_low(const char *p, int64_t stride)
{
    vf r = vf_set1(0.0f);
    for (int i = 0; i < 2; i++)
        memcpy(&r.q[i], p + 4 * i * stride, sizeof r.q[i]);
    return r;
}

INLINE void vf_transpose_quads(vf r[4])
{
    for (int i = 0; i < 4; i++) {
        f32x4 x = r[0].q[i], y = r[1].q[i], z = r[2].q[i], w = r[3].q[i];
        for (int k = 0; k < 4; k++) {
            f32x4 column = {x[k], y[k], z[k], w[k]};
            r[k].q[i] = column;
        }
    }
}

INLINE vf vf_load_low(const float *p)
{
    vf r = vf_set1(0.0f);
    memcpy(&r, p, 2 * sizeof r.q[0]);
    return r;
}

INLINE void vf_store_low(float *p, vf x)
{
    memcpy(p, &x, 2 * sizeof x.q[0]);
}

INLINE vf vf_load_bf16(const uint16_t *p)
{
    QUADS(vf, (f32x4)(quad_load_halves(p + 4 * i) << 16));
}

/* Round to nearest even in the upper 16 bits; the lower ones are garbage. */
INLINE f32x4 bf16_round(f32x4 v)
{
    u32x4 x = (u32x4)v;
    return (f32x4)(x + 0x7fffu + ((x >> 16) & 1u));
}

INLINE void vf_store_bf16_pair(uint16_t *p, vf even, vf odd)
{
    for (int i = 0; i < 4; i++) {
        even.q[i] = bf16_round(even.q[i]);
        odd.q[i] = bf16_round(odd.q[i]);
    }
    vi_store(p, vi_high_halves(even, odd));
}

INLINE void vf_store_bf16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i++)
        quad_store_halves(p + 4 * i, (u32x4)bf16_round(x.q[i]) >> 16);
}

/* Four at a time what f16_to_float does. */
INLINE f32x4 quad_from_f16(u32x4 h)
{
    f32x4 scaled = (f32x4)((h & 0x7fffu) << 13) * quad_set1(0x1p112f);
    u32x4 special = (u32x4)((h & 0x7c00u) == quad_bits(0x7c00u));
    u32x4 u = (u32x4)scaled | (special & 0x7f800000u);
    return (f32x4)(u | ((h & 0x8000u) << 16));
}

/* Four at a time what float_to_f16 does. */
INLINE u32x4 quad_to_f16(f32x4 v)
{
    u32x4 u = (u32x4)v, twice = u + u;
    u32x4 exponent = twice & 0xff000000u, least = quad_bits(0x71000000u);
    f32x4 mag = (f32x4)(u & 0x7fffffffu);
    mag = mag * quad_set1(0x1p112f) * quad_set1(0x1p-110f);
    exponent = quad_pick((u32x4)(exponent < least), least, exponent);
    u32x4 r = (u32x4)((f32x4)((exponent >> 1) + 0x07800000u) + mag);
    r = ((r >> 13) & 0x7c00u) + (r & 0xfffu);
    u32x4 is_nan = (u32x4)(twice > quad_bits(0xff000000u));
    return quad_pick(is_nan, quad_bits(0x7e00u), r) | ((u >> 16) & 0x8000u);
}

INLINE vf vf_load_f16(const uint16_t *p)
{
    QUADS(vf, quad_from_f16(quad_load_halves(p + 4 * i)));
}

INLINE void vf_store_f16(uint16_t *p, vf x)
{
    for (int i = 0; i < 4; i++)
        quad_store_halves(p + 4 * i, quad_to_f16(x.q[i]));
}

INLINE vd vd_set1(double x)
{
    f64x2 v = {x, x};
    QUADS(vd, v);
}

INLINE vd vd_wide(f32x4 a, f32x4 b)
{
    vd r = {{{(double)a[0], (double)a[1]},
             {(double)a[2], (double)a[3]},
             {(double)b[0], (double)b[1]},
             {(double)b[2], (double)b[3]}}};
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
    QUADS(vd, x.q[i] + y.q[i]);
}

INLINE vd vd_mul(vd x, vd y)
{
    QUADS(vd, x.q[i] * y.q[i]);
}

INLINE vd vd_fma(vd x, vd y, vd z)
{
    QUADS(vd, x.q[i] * y.q[i] + z.q[i]);
}

INLINE void vd_store(double *p, vd x)
{
    memcpy(p, &x, sizeof x);
}

#endif
