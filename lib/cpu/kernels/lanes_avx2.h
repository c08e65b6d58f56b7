/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes on AVX2 + FMA + F16C: two ymm registers. See lanes.h. */
#ifndef CADFT_CPU_KERNELS_LANES_AVX2_H
#define CADFT_CPU_KERNELS_LANES_AVX2_H

#include <immintrin.h>

#define LANES_FUSED 1

typedef struct {
    __m256 a, b;
} vf;

typedef struct {
    __m256d a, b;
} vd;

typedef struct {
    __m256i a, b;
} vi;

INLINE vf vf_pair(__m256 a, __m256 b)
{
    vf r = {a, b};
    return r;
}

INLINE vf vf_set1(float x)
{
    return vf_pair(_mm256_set1_ps(x), _mm256_set1_ps(x));
}

INLINE vf vf_load(const float *p)
{
    return vf_pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}

INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

INLINE vf vf_add(vf x, vf y)
{
    return vf_pair(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}

INLINE vf vf_sub(vf x, vf y)
{
    return vf_pair(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}

INLINE vf vf_mul(vf x, vf y)
{
    return vf_pair(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}

INLINE vf vf_div(vf x, vf y)
{
    return vf_pair(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b));
}

INLINE vf vf_sqrt(vf x)
{
    return vf_pair(_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b));
}

INLINE vf vf_minus_abs(vf x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return vf_pair(_mm256_or_ps(x.a, sign), _mm256_or_ps(x.b, sign));
}

INLINE vf vf_fma(vf x, vf y, vf z)
{
    return vf_pair(_mm256_fmadd_ps(x.a, y.a, z.a),
                   _mm256_fmadd_ps(x.b, y.b, z.b));
}

INLINE vf vf_fnma(vf x, vf y, vf z)
{
    return vf_pair(_mm256_fnmadd_ps(x.a, y.a, z.a),
                   _mm256_fnmadd_ps(x.b, y.b, z.b));
}

INLINE vf vf_max(vf x, vf y)
{
    return vf_pair(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}

INLINE __m256 vf_pow2_half(__m256 t)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}

INLINE vf vf_pow2(vf t)
{
    return vf_pair(vf_pow2_half(t.a), vf_pow2_half(t.b));
}

INLINE int vf_any_gt(vf x, vf y)
{
    __m256 a = _mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ);
    __m256 b = _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ);
    return _mm256_movemask_ps(_mm256_or_ps(a, b)) != 0;
}

INLINE vf vf_drop_le(vf x, vf y, vf v)
{
    __m256 a = _mm256_cmp_ps(x.a, y.a, _CMP_NLE_UQ);
    __m256 b = _mm256_cmp_ps(x.b, y.b, _CMP_NLE_UQ);
    return vf_pair(_mm256_and_ps(a, v.a), _mm256_and_ps(b, v.b));
}

INLINE vf vf_pick_gt(vf x, vf y, vf v, vf w)
{
    __m256 a = _mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ);
    __m256 b = _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ);
    return vf_pair(_mm256_blendv_ps(w.a, v.a, a),
                   _mm256_blendv_ps(w.b, v.b, b));
}

INLINE vi vi_pair(__m256i a, __m256i b)
{
    vi r = {a, b};
    return r;
}

INLINE vi vi_set1_16(uint16_t x)
{
    return vi_pair(_mm256_set1_epi16((short)x), _mm256_set1_epi16((short)x));
}

INLINE vi vi_load(const void *p)
{
    const __m256i *q = (const __m256i *)p;
    return vi_pair(_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1));
}

INLINE void vi_store(void *p, vi x)
{
    __m256i *q = (__m256i *)p;
    _mm256_storeu_si256(q, x.a);
    _mm256_storeu_si256(q + 1, x.b);
}

INLINE int vi_differ(vi x, vi y)
{
    __m256i a = _mm256_cmpeq_epi32(x.a, y.a);
    __m256i b = _mm256_cmpeq_epi32(x.b, y.b);
    return _mm256_movemask_epi8(_mm256_and_si256(a, b)) != -1;
}

INLINE vi vi_smax_16(vi x, vi y)
{
    return vi_pair(_mm256_max_epi16(x.a, y.a), _mm256_max_epi16(x.b, y.b));
}

INLINE vi vi_umax_16(vi x, vi y)
{
    return vi_pair(_mm256_max_epu16(x.a, y.a), _mm256_max_epu16(x.b, y.b));
}

INLINE vi vi_umin_16(vi x, vi y)
{
    return vi_pair(_mm256_min_epu16(x.a, y.a), _mm256_min_epu16(x.b, y.b));
}

INLINE vi vi_add_16(vi x, vi y)
{
    return vi_pair(_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b));
}

INLINE vi vi_mulhi_16(vi x, vi y)
{
    return vi_pair(_mm256_mulhi_epu16(x.a, y.a), _mm256_mulhi_epu16(x.b, y.b));
}

INLINE __m256i round_to_7(__m256i x)
{
    return _mm256_avg_epu16(_mm256_srli_epi16(x, 8), _mm256_setzero_si256());
}

INLINE vi vi_round_to_7(vi x)
{
    return vi_pair(round_to_7(x.a), round_to_7(x.b));
}

INLINE vi vi_left_7(vi x)
{
    return vi_pair(_mm256_slli_epi16(x.a, 7), _mm256_slli_epi16(x.b, 7));
}

INLINE vi vi_keep_equal_16(vi x, vi y, vi v)
{
    return vi_pair(_mm256_and_si256(_mm256_cmpeq_epi16(x.a, y.a), v.a),
                   _mm256_and_si256(_mm256_cmpeq_epi16(x.b, y.b), v.b));
}

INLINE __m256i low_halves(__m256 even, __m256 odd)
{
    __m256i o = _mm256_slli_epi32(_mm256_castps_si256(odd), 16);
    return _mm256_blend_epi16(_mm256_castps_si256(even), o, 0xaa);
}

INLINE __m256i high_halves(__m256 even, __m256 odd)
{
    __m256i e = _mm256_srli_epi32(_mm256_castps_si256(even), 16);
    return _mm256_blend_epi16(e, _mm256_castps_si256(odd), 0xaa);
}

INLINE vi vi_low_halves(vf even, vf odd)
{
    return vi_pair(low_halves(even.a, odd.a), low_halves(even.b, odd.b));
}

INLINE vi vi_high_halves(vf even, vf odd)
{
    return vi_pair(high_halves(even.a, odd.a), high_halves(even.b, odd.b));
}

INLINE __m128i load_128(const uint16_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

INLINE __m256 bf16_even(__m256i x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}

INLINE __m256 bf16_odd(__m256i x)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    return _mm256_castsi256_ps(_mm256_and_si256(x, high));
}

INLINE void vf_from_bf16_pair(vi x, vf *even, vf *odd)
{
    *even = vf_pair(bf16_even(x.a), bf16_even(x.b));
    *odd = vf_pair(bf16_odd(x.a), bf16_odd(x.b));
}

INLINE vf vf_bf16_even(vf x)
{
    return vf_pair(bf16_even(_mm256_castps_si256(x.a)),
                   bf16_even(_mm256_castps_si256(x.b)));
}

INLINE vf vf_bf16_odd(vf x)
{
    return vf_pair(bf16_odd(_mm256_castps_si256(x.a)),
                   bf16_odd(_mm256_castps_si256(x.b)));
}

INLINE __m256 load_quads(const char *p, const char *q)
{
    __m128 low = _mm_loadu_ps((const float *)(const void *)p);
    __m128 high = _mm_loadu_ps((const float *)(const void *)q);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

INLINE vf vf_load_quads(const char *p, int64_t stride)
{
    return vf_pair(load_quads(p, p + 4 * stride),
                   load_quads(p + 8 * stride, p + 12 * stride));
}

INLINE vf vf_load_quads_low(const char *p, int64_t stride)
{
    return vf_pair(load_quads(p, p + 4 * stride), _mm256_setzero_ps());
}

INLINE void transpose4(__m256 *x, __m256 *y, __m256 *z, __m256 *w)
{
    __m256 a = _mm256_unpacklo_ps(*x, *y), b = _mm256_unpackhi_ps(*x, *y);
    __m256 c = _mm256_unpacklo_ps(*z, *w), d = _mm256_unpackhi_ps(*z, *w);
    *x = _mm256_shuffle_ps(a, c, 0x44);
    *y = _mm256_shuffle_ps(a, c, 0xee);
    *z = _mm256_shuffle_ps(b, d, 0x44);
    *w = _mm256_shuffle_ps(b, d, 0xee);
}

INLINE void vf_transpose_quads(vf r[4])
{
    transpose4(&r[0].a, &r[1].a, &r[2].a, &r[3].a);
    transpose4(&r[0].b, &r[1].b, &r[2].b, &r[3].b);
}

INLINE vf vf_load_low(const float *p)
{
    return vf_pair(_mm256_loadu_ps(p), _mm256_setzero_ps());
}

INLINE void vf_store_low(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
}

INLINE vf vf_load_bf16(const uint16_t *p)
{
    return vf_pair(bf16_even(_mm256_cvtepu16_epi32(load_128(p))),
                   bf16_even(_mm256_cvtepu16_epi32(load_128(p + 8))));
}

/* Round to nearest even in the upper 16 bits; the lower ones are garbage. */
INLINE __m256 bf16_round(__m256 v)
{
    __m256i x = _mm256_castps_si256(v);
    __m256i odd =
        _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    x = _mm256_add_epi32(x, _mm256_set1_epi32(0x7fff));
    return _mm256_castsi256_ps(_mm256_add_epi32(x, odd));
}

INLINE void vf_store_bf16_pair(uint16_t *p, vf even, vf odd)
{
    vf e = vf_pair(bf16_round(even.a), bf16_round(even.b));
    vf o = vf_pair(bf16_round(odd.a), bf16_round(odd.b));
    vi_store(p, vi_high_halves(e, o));
}

INLINE void vf_store_bf16(uint16_t *p, vf x)
{
    __m256i a = _mm256_srli_epi32(_mm256_castps_si256(bf16_round(x.a)), 16);
    __m256i b = _mm256_srli_epi32(_mm256_castps_si256(bf16_round(x.b)), 16);
    /* packing works within 128 bits: a0 b0 a1 b1 */
    a = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    _mm256_storeu_si256((__m256i *)(void *)p, a);
}

INLINE vf vf_load_f16(const uint16_t *p)
{
    return vf_pair(_mm256_cvtph_ps(load_128(p)),
                   _mm256_cvtph_ps(load_128(p + 8)));
}

INLINE void vf_store_f16(uint16_t *p, vf x)
{
    __m128i *q = (__m128i *)(void *)p;
    _mm_storeu_si128(q, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(q + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

INLINE vd vd_pair(__m256d a, __m256d b)
{
    vd r = {a, b};
    return r;
}

INLINE vd vd_set1(double x)
{
    return vd_pair(_mm256_set1_pd(x), _mm256_set1_pd(x));
}

INLINE vd vd_wide(__m256 x)
{
    return vd_pair(_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                   _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

INLINE vd vd_lo(vf x)
{
    return vd_wide(x.a);
}

INLINE vd vd_hi(vf x)
{
    return vd_wide(x.b);
}

INLINE vd vd_add(vd x, vd y)
{
    return vd_pair(_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b));
}

INLINE vd vd_mul(vd x, vd y)
{
    return vd_pair(_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b));
}

INLINE vd vd_fma(vd x, vd y, vd z)
{
    return vd_pair(_mm256_fmadd_pd(x.a, y.a, z.a),
                   _mm256_fmadd_pd(x.b, y.b, z.b));
}

INLINE void vd_store(double *p, vd x)
{
    _mm256_storeu_pd(p, x.a);
    _mm256_storeu_pd(p + 4, x.b);
}

#endif
