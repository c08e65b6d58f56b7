/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of tiles that fit in the first-level cache, kept in registers while
 * they sum, and the transposition that prepares them. Every element is one
 * chain of fused multiply-adds in the order of its depth, whatever its place
 * in the tile, so a row has the same bits alone or among others.
 */
#ifndef CADFT_CPU_KERNELS_TILE_H
#define CADFT_CPU_KERNELS_TILE_H

#include "cpu/kernels/lanes.h"

/* Vectors of a row of C beside each other in the registers when six rows are
 * in flight: 12 registers of 16, or of 32. */
#if defined(CADFTK_LANES_AVX512)
#    define TILE_WIDE 2
#else
#    define TILE_WIDE 1
#endif

/* Where an element's sum starts. */
enum {
    TILE_ZERO,  /* C = A B */
    TILE_ADD,   /* C = C + A B */
    TILE_SCALED /* C = factor[row] C + A B */
};

/*
 * C[r, x] = start + sum over k < depth of A[r, k] B[k, x], x in whole vectors.
 * A[r, k] = a[r * a_row + k * a_step]; vector j of row k of B lies at
 * b + k * b_step + j * b_col; rows of C are c_row apart.
 */
typedef struct tile_product {
    const float *a, *b, *factor;
    float *c;
    int64_t a_row, a_step, b_step, b_col, c_row, depth;
} tile_product;

/* rows x cols vectors of C; rows, cols, start and turned (a_row is 1) are
 * constants, and rows * cols at most 6 * TILE_WIDE or 8. */
INLINE void tile_block(int rows,
                       int cols,
                       int start,
                       int turned,
                       const tile_product *p,
                       int64_t row,
                       int64_t col)
{
    const int64_t a_row = turned ? 1 : p->a_row;
    const int64_t a_step = turned ? p->a_step : 1;
    const int64_t b_step = p->b_step, b_col = p->b_col, depth = p->depth;
    const float *a = p->a + row * a_row, *b = p->b + col * b_col;
    float *c = p->c + row * p->c_row + col * LANES;
    vf sum[12];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            const float *from = c + i * p->c_row + j * LANES;
            vf s = vf_set1(0.0f);
            if (start == TILE_ADD)
                s = vf_load(from);
            if (start == TILE_SCALED)
                s = vf_fma(vf_load(from), vf_set1(p->factor[row + i]), s);
            sum[i * cols + j] = s;
        }
    for (int64_t k = 0; k < depth; k++) {
        vf x[8];
        for (int j = 0; j < cols; j++)
            x[j] = vf_load(b + j * b_col);
        for (int i = 0; i < rows; i++) {
            vf y = vf_set1(a[i * a_row]);
            for (int j = 0; j < cols; j++)
                sum[i * cols + j] = vf_fma(y, x[j], sum[i * cols + j]);
        }
        a += a_step;
        b += b_step;
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            vf_store(c + i * p->c_row + j * LANES, sum[i * cols + j]);
}

/* Few rows take more columns at a time: enough sums to hide the latency. */
INLINE void tile_rows(int rows,
                      int cols,
                      int start,
                      int turned,
                      const tile_product *p,
                      int64_t row,
                      int64_t n)
{
    int64_t col = 0;
    for (; col + cols <= n; col += cols)
        tile_block(rows, cols, start, turned, p, row, col);
    for (; cols > 1 && col < n; col++)
        tile_block(rows, 1, start, turned, p, row, col);
}

/* rows of C times `cols` vectors. A column of B stays in the cache while the
 * rows go by. */
INLINE void tile_multiply(
    int start, int turned, int64_t rows, int64_t cols, const tile_product *p)
{
    int64_t row = 0, sixes = rows / 6 * 6, col = 0;
    for (; sixes && col + TILE_WIDE <= cols; col += TILE_WIDE)
        for (row = 0; row < sixes; row += 6)
            tile_block(6, TILE_WIDE, start, turned, p, row, col);
    for (; TILE_WIDE > 1 && sixes && col < cols; col++)
        for (row = 0; row < sixes; row += 6)
            tile_block(6, 1, start, turned, p, row, col);
    row = sixes;
    if (rows - row >= 4) {
        tile_rows(4, TILE_WIDE, start, turned, p, row, cols);
        row += 4;
    }
    if (rows - row >= 2) {
        tile_rows(2, 2 * TILE_WIDE, start, turned, p, row, cols);
        row += 2;
    }
    if (rows - row >= 1)
        tile_rows(1, 4 * TILE_WIDE, start, turned, p, row, cols);
}

/* to[16 d + r] = row[r][at + d] for r, d in [0, 8). */
#if defined(CADFTK_LANES_AVX2) || defined(CADFTK_LANES_AVX512)
INLINE __m256 tile_halves(const float *low, const float *high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)),
                                _mm_loadu_ps(high), 1);
}

INLINE void tile_transpose_8x4(const float *const *row, int64_t at, float *to)
{
    __m256 r0 = tile_halves(row[0] + at, row[4] + at);
    __m256 r1 = tile_halves(row[1] + at, row[5] + at);
    __m256 r2 = tile_halves(row[2] + at, row[6] + at);
    __m256 r3 = tile_halves(row[3] + at, row[7] + at);
    __m256 t0 = _mm256_unpacklo_ps(r0, r1), t1 = _mm256_unpackhi_ps(r0, r1);
    __m256 t2 = _mm256_unpacklo_ps(r2, r3), t3 = _mm256_unpackhi_ps(r2, r3);
    _mm256_storeu_ps(to, _mm256_shuffle_ps(t0, t2, 0x44));
    _mm256_storeu_ps(to + 16, _mm256_shuffle_ps(t0, t2, 0xee));
    _mm256_storeu_ps(to + 32, _mm256_shuffle_ps(t1, t3, 0x44));
    _mm256_storeu_ps(to + 48, _mm256_shuffle_ps(t1, t3, 0xee));
}
#elif defined(CADFTK_LANES_NEON)
INLINE void tile_transpose_4x4(const float *const *row, int64_t at, float *to)
{
    float32x4_t a = vld1q_f32(row[0] + at), b = vld1q_f32(row[1] + at);
    float32x4_t c = vld1q_f32(row[2] + at), d = vld1q_f32(row[3] + at);
    float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
    float64x2_t ab1 = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    float64x2_t cd0 = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
    float64x2_t cd1 = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0)));
    vst1q_f32(to + 16, vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1)));
    vst1q_f32(to + 32, vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0)));
    vst1q_f32(to + 48, vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1)));
}

INLINE void tile_transpose_8x4(const float *const *row, int64_t at, float *to)
{
    tile_transpose_4x4(row, at, to);
    tile_transpose_4x4(row + 4, at, to + 4);
}
#else
INLINE void tile_transpose_8x4(const float *const *row, int64_t at, float *to)
{
    for (int d = 0; d < 4; d++)
        for (int r = 0; r < 8; r++)
            to[16 * d + r] = row[r][at + d];
}
#endif

/* Sixteen rows of `dim` floats, dim at most 256, into columns:
 * to[16 d + r] = from[r * stride + d]; rows from `count` on count as zero. */
static inline void tile_transpose(
    const float *from, int64_t stride, int64_t count, int64_t dim, float *to)
{
    static const float zeros[256];
    const float *row[16];
    int64_t d = 0;
    for (int r = 0; r < 16; r++)
        row[r] = r < count ? from + r * stride : zeros;
    for (; d + 4 <= dim; d += 4) {
        tile_transpose_8x4(row, d, to + 16 * d);
        tile_transpose_8x4(row + 8, d, to + 16 * d + 8);
    }
    for (; dim % 4 && d < dim; d++)
        for (int r = 0; r < 16; r++)
            to[16 * d + r] = row[r][d];
}

/* Lane r of the result: the sum (the largest) of the lanes of rows[r], by a
 * fixed tree. rows is [16][16]. */
INLINE vf tile_sum(const float *rows)
{
    float t[16 * LANES];
    vf x[8];
    tile_transpose(rows, LANES, 16, LANES, t);
    for (int i = 0; i < 8; i++)
        x[i] = vf_add(vf_load(t + i * LANES), vf_load(t + (i + 8) * LANES));
    for (int w = 4; w; w /= 2)
        for (int i = 0; i < w; i++)
            x[i] = vf_add(x[i], x[i + w]);
    return x[0];
}

INLINE vf tile_max(const float *rows)
{
    float t[16 * LANES];
    vf m;
    tile_transpose(rows, LANES, 16, LANES, t);
    m = vf_load(t);
    for (int i = 1; i < 16; i++)
        m = vf_max(m, vf_load(t + i * LANES));
    return m;
}

#endif
