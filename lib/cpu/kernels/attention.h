/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What attention and its gradient share: rows and keys packed for the tile
 * products, which keys of a block a query sees, and the exponential.
 *
 * A row is a query and a head of its group, the heads of a query side by side:
 * r = query * group + head. So a tile of rows has few positions, and little of
 * a block on the diagonal is computed in vain.
 */
#ifndef CADFT_CPU_KERNELS_ATTENTION_H
#define CADFT_CPU_KERNELS_ATTENTION_H

#include "cpu/kernels/exp.h"
#include "cpu/kernels/tile.h"

#define KEYS CADFTK_ATTENTION_KEYS
#define TILE CADFTK_ATTENTION_TILE

/* Row r of q, out or grad_out. */
INLINE int64_t attention_row(const cadftk_attention_block *b,
                             int64_t r,
                             int64_t stride)
{
    return r / b->group * stride + r % b->group * b->dim;
}

/* Rows of q (out, grad_out) into [rows, padded], times scale. */
static inline void attention_pack_rows(const cadftk_attention_block *b,
                                       const float *from,
                                       int64_t stride,
                                       float scale,
                                       float *to)
{
    const int64_t padded = cadftk_attention_padded(b->dim), dim = b->dim;
    for (int64_t r = 0; r < b->queries * b->group; r++, to += padded) {
        const float *x = from + attention_row(b, r, stride);
        for (int64_t d = 0; d < dim; d++)
            to[d] = x[d] * scale;
        for (int64_t d = dim; d < padded; d++)
            to[d] = 0.0f;
    }
}

/* Keys to columns: to[panel][d][16], a panel being 16 keys; zeros after the
 * last key of a panel. */
static inline void attention_pack_columns(
    const float *from, int64_t stride, int64_t keys, int64_t dim, float *to)
{
    for (int64_t j = 0; j < keys; j += 16)
        tile_transpose(from + j * stride, stride, keys - j, dim, to + j * dim);
}

/* Keys as rows: to[keys][padded]. */
static inline void attention_pack_keys(
    const float *from, int64_t stride, int64_t keys, int64_t dim, float *to)
{
    const int64_t padded = cadftk_attention_padded(dim);
    for (int64_t j = 0; j < keys; j++, from += stride, to += padded) {
        for (int64_t d = 0; d < dim; d++)
            to[d] = from[d];
        for (int64_t d = dim; d < padded; d++)
            to[d] = 0.0f;
    }
}

/* While a block is computed the next one comes: its share `part` of `parts`,
 * keys from `base` on, none from `end` on. */
static inline void attention_prefetch(const cadftk_attention_block *b,
                                      int64_t base,
                                      int64_t end,
                                      int64_t part,
                                      int64_t parts)
{
    int64_t from = base + KEYS * part / parts;
    int64_t to = base + KEYS * (part + 1) / parts;
    for (int64_t j = from; j < to && j < end; j++)
        for (int64_t d = 0; d < b->dim; d += LANES) {
            __builtin_prefetch(b->k + j * b->k_stride + d, 0, 2);
            __builtin_prefetch(b->v + j * b->v_stride + d, 0, 2);
        }
}

/* Keys [lo, hi) of a block. */
typedef struct key_range {
    int64_t lo, hi;
} key_range;

/* Those that rows [from, to) see of the block at key `base`; empty: hi <= lo.
 * A single row sees all of its range. */
INLINE key_range attention_range(const cadftk_attention_block *b,
                                 int64_t base,
                                 int64_t from,
                                 int64_t to)
{
    int64_t early = b->first + from / b->group - base;
    int64_t late = b->first + (to - 1) / b->group - base;
    key_range range = {0, late + 1 < KEYS ? late + 1 : KEYS};
    if (early >= b->window)
        range.lo = early - b->window + 1;
    return range;
}

/* Whether some of the rows sees less of the block than their range. */
INLINE int attention_ragged(const cadftk_attention_block *b,
                            int64_t base,
                            int64_t from,
                            int64_t to)
{
    int64_t early = b->first + from / b->group - base;
    int64_t late = b->first + (to - 1) / b->group - base;
    return early < KEYS - 1 || late >= b->window;
}

/* Scores of one row of S that it does not see become -inf, within the whole
 * vectors [lo, hi). */
INLINE void attention_mask(const cadftk_attention_block *b,
                           int64_t base,
                           int64_t row,
                           int64_t lo,
                           int64_t hi,
                           float *s)
{
    key_range see = attention_range(b, base, row, row + 1);
    int64_t from = see.hi > lo ? see.hi : lo;
    for (int64_t j = lo; j < hi && j < see.lo; j++)
        s[j] = -INFINITY;
    for (int64_t j = from; j < hi; j++)
        s[j] = -INFINITY;
}

/* exp of arguments that are not above 0 by more than rounding; +0 below
 * -88 and for -inf. Relative error 2e-7, and exp(0) is 1. */
typedef struct attention_exp {
    exp_poly poly;
    vf magic, floor;
} attention_exp;

INLINE attention_exp attention_exp_make(double factor)
{
    attention_exp e;
    e.poly = exp_poly_scaled(factor);
    e.magic = vf_set1(exp_magic(0.0, 127));
    e.floor = vf_set1(exp_floor(0.0, 127));
    return e;
}

/* z[0, count) in place; count is 1 or 2, a constant. */
INLINE void attention_exp_apply(int count, const attention_exp *e, vf *z)
{
    vf p[2], scale[2];
    EXP_EACH(count) z[k] = vf_max(e->floor, z[k]);
    exp_parts(count, z, NULL, e->magic, &e->poly, p, scale);
    EXP_EACH(count) z[k] = vf_fma(p[k], scale[k], vf_set1(0.0f));
}

#endif
