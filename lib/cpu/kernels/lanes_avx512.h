/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes on AVX-512 (F, BW, DQ, VL): one zmm register. See lanes.h. */
#ifndef CADFT_CPU_KERNELS_LANES_AVX512_H
#define CADFT_CPU_KERNELS_LANES_AVX512_H

#include <immintrin.h>

#define LANES_FUSED 1

typedef __m512 vf;
typedef __m512d vd;
typedef __m512i vi;

INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

INLINE vf vf_add(vf x, vf y)
{
    return _mm512_add_ps(x, y);
}

INLINE vf vf_sub(vf x, vf y)
{
    return _mm512_sub_ps(x, y);
}

INLINE vf vf_mul(vf x, vf y)
{
    return _mm512_mul_ps(x, y);
}

INLINE vf vf_div(vf x, vf y)
{
    return _mm512_div_ps(x, y);
}

INLINE vf vf_sqrt(vf x)
{
    return _mm512_sqrt_ps(x);
}

INLINE vf vf_minus_abs(vf x)
{
    return _mm512_or_ps(x, _mm512_set1_ps(-0.0f));
}

INLINE vf vf_fma(vf x, vf y, vf z)
{
    return _mm512_fmadd_ps(x, y, z);
}

INLINE vf vf_fnma(vf x, vf y, vf z)
{
    return _mm512_fnmadd_ps(x, y, z);
}

INLINE vf vf_max(vf x, vf y)
{
    return _mm512_max_ps(x, y);
}

INLINE vf vf_pow2(vf t)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}

INLINE int vf_any_gt(vf x, vf y)
{
    return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ) != 0;
}

INLINE vf vf_drop_le(vf x, vf y, vf v)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, y, _CMP_NLE_UQ), v);
}

INLINE vf vf_pick_gt(vf x, vf y, vf v, vf w)
{
    return _mm512_mask_mov_ps(w, _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ), v);
}

INLINE vi vi_set1_16(uint16_t x)
{
    return _mm512_set1_epi16((short)x);
}

INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void vi_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}

INLINE int vi_differ(vi x, vi y)
{
    return _mm512_cmpneq_epi32_mask(x, y) != 0;
}

INLINE vi vi_smax_16(vi x, vi y)
{
    return _mm512_max_epi16(x, y);
}

INLINE vi vi_umax_16(vi x, vi y)
{
    return _mm512_max_epu16(x, y);
}

INLINE vi vi_umin_16(vi x, vi y)
{
    return _mm512_min_epu16(x, y);
}

INLINE vi vi_add_16(vi x, vi y)
{
    return _mm512_add_epi16(x, y);
}

INLINE vi vi_mulhi_16(vi x, vi y)
{
    return _mm512_mulhi_epu16(x, y);
}

INLINE vi vi_round_to_7(vi x)
{
    return _mm512_avg_epu16(_mm512_srli_epi16(x, 8), _mm512_setzero_si512());
}

INLINE vi vi_left_7(vi x)
{
    return _mm512_slli_epi16(x, 7);
}

INLINE vi vi_keep_equal_16(vi x, vi y, vi v)
{
    return _mm512_maskz_mov_epi16(_mm512_cmpeq_epi16_mask(x, y), v);
}

INLINE vi vi_low_halves(vf even, vf odd)
{
    __m512i o = _mm512_slli_epi32(_mm512_castps_si512(odd), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_castps_si512(even), o);
}

INLINE vi vi_high_halves(vf even, vf odd)
{
    __m512i e = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaau, e, _mm512_castps_si512(odd));
}

INLINE void vf_from_bf16_pair(vi x, vf *even, vf *odd)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(x, high));
}

INLINE vf vf_bf16_even(vf x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 16));
}

INLINE vf vf_bf16_odd(vf x)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), high));
}

INLINE __m128 load_quad(const char *p)
{
    return _mm_loadu_ps((const float *)(const void *)p);
}

INLINE vf vf_load_quads_low(const char *p, int64_t stride)
{
    __m512 x = _mm512_zextps128_ps512(load_quad(p));
    return _mm512_insertf32x4(x, load_quad(p + 4 * stride), 1);
}

INLINE vf vf_load_quads(const char *p, int64_t stride)
{
    __m512 x = vf_load_quads_low(p, stride);
    x = _mm512_insertf32x4(x, load_quad(p + 8 * stride), 2);
    return _mm512_insertf32x4(x, load_quad(p + 12 * stride), 3);
}

INLINE void vf_transpose_quads(vf r[4])
{
    vf a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
    vf c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
    r[0] = _mm512_shuffle_ps(a, c, 0x44);
    r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44);
    r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

INLINE vf vf_load_low(const float *p)
{
    return _mm512_zextps256_ps512(_mm256_loadu_ps(p));
}

INLINE void vf_store_low(float *p, vf x)
{
    _mm256_storeu_ps(p, _mm512_castps512_ps256(x));
}

INLINE vf vf_load_bf16(const uint16_t *p)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* Round to nearest even in the upper 16 bits; the lower ones are garbage. */
INLINE vf bf16_round(__m512 v)
{
    __m512i x = _mm512_castps_si512(v);
    __m512i odd =
        _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    x = _mm512_add_epi32(x, _mm512_set1_epi32(0x7fff));
    return _mm512_castsi512_ps(_mm512_add_epi32(x, odd));
}

INLINE void vf_store_bf16_pair(uint16_t *p, vf even, vf odd)
{
    vi_store(p, vi_high_halves(bf16_round(even), bf16_round(odd)));
}

INLINE void vf_store_bf16(uint16_t *p, vf x)
{
    __m512i h = _mm512_srli_epi32(_mm512_castps_si512(bf16_round(x)), 16);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(h));
}

INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)p));
}

INLINE void vf_store_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

INLINE vd vd_set1(double x)
{
    return _mm512_set1_pd(x);
}

INLINE vd vd_lo(vf x)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}

INLINE vd vd_hi(vf x)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}

INLINE vd vd_add(vd x, vd y)
{
    return _mm512_add_pd(x, y);
}

INLINE vd vd_mul(vd x, vd y)
{
    return _mm512_mul_pd(x, y);
}

INLINE vd vd_fma(vd x, vd y, vd z)
{
    return _mm512_fmadd_pd(x, y, z);
}

INLINE void vd_store(double *p, vd x)
{
    _mm512_storeu_pd(p, x);
}

#endif
