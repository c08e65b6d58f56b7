/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of a block of queries: softmax over blocks of keys with a running
 * maximum m and sum l (online softmax; Milakov and Gimelshein 2018, Dao et
 * al. 2022). Per block of keys and row:
 *   m' = max(m, scores),  alpha = exp(m - m'),  p = exp(scores - m')
 *   l = alpha l + sum p,  out = alpha out + p V
 * A block of which a row sees nothing leaves its m, l and out as they are: p
 * is 0 and alpha is 1. So it does not matter whether it is skipped.
 */
#include <float.h>

#include "cpu/kernels/attention.h"

typedef struct forward {
    const cadftk_attention_block *b;
    int64_t padded;
    float *q;       /* [rows, padded], times scale */
    float *out;     /* [rows, padded] */
    float *columns; /* keys as columns, see attention_pack_columns */
    float *values;  /* [KEYS, padded] */
    float *s;       /* [TILE, KEYS] */
    float *m, *l;   /* [rows] */
} forward;

static forward forward_layout(const cadftk_attention_block *b)
{
    int64_t padded = cadftk_attention_padded(b->dim);
    int64_t rows = (b->queries * b->group + TILE - 1) / TILE * TILE;
    forward f = {.b = b, .padded = padded, .q = b->scratch};
    f.out = f.q + rows * padded;
    f.columns = f.out + rows * padded;
    f.values = f.columns + KEYS * padded;
    f.s = f.values + KEYS * padded;
    f.m = f.s + TILE * KEYS;
    f.l = f.m + rows;
    for (int64_t i = 0; i < rows * padded; i++)
        f.out[i] = 0.0f;
    for (int64_t i = 0; i < rows; i++) {
        f.m[i] = -FLT_MAX; /* finite: m - m is 0 before the first key, too */
        f.l[i] = 0.0f;
    }
    return f;
}

/* p = exp(s - m) of vectors [lo, hi) of a row, in place; their sum. */
INLINE vf
forward_exp(const attention_exp *e, float *s, vf m, int64_t lo, int64_t hi)
{
    vf sum = vf_set1(0.0f);
    int64_t j = lo;
    for (; j + 2 <= hi; j += 2) {
        vf z[2] = {vf_sub(vf_load(s + j * LANES), m),
                   vf_sub(vf_load(s + (j + 1) * LANES), m)};
        attention_exp_apply(2, e, z);
        vf_store(s + j * LANES, z[0]);
        vf_store(s + (j + 1) * LANES, z[1]);
        sum = vf_add(vf_add(sum, z[0]), z[1]);
    }
    if (j < hi) {
        vf z[1] = {vf_sub(vf_load(s + j * LANES), m)};
        attention_exp_apply(1, e, z);
        vf_store(s + j * LANES, z[0]);
        sum = vf_add(sum, z[0]);
    }
    return sum;
}

/* Scores to p for up to 16 rows of the tile, over vectors [lo, hi); their m
 * and l, and alpha, how much of the old sums is left. */
static void forward_softmax(
    int64_t rows, int64_t lo, int64_t hi, float *s, float *m, float *l, vf *a)
{
    const attention_exp e = attention_exp_make(1.0);
    float buffer[16 * LANES];
    vf old = vf_load(m), top, alpha[1];
    for (int64_t r = 0; r < rows; r++) {
        vf x = vf_load(s + r * KEYS + lo * LANES);
        for (int64_t j = lo + 1; j < hi; j++)
            x = vf_max(x, vf_load(s + r * KEYS + j * LANES));
        vf_store(buffer + r * LANES, x);
    }
    for (int64_t r = rows; r < 16; r++)
        vf_store(buffer + r * LANES, vf_set1(0.0f));
    top = vf_max(old, tile_max(buffer));
    vf_store(m, top);
    alpha[0] = vf_sub(old, top);
    attention_exp_apply(1, &e, alpha);
    for (int64_t r = 0; r < rows; r++)
        vf_store(buffer + r * LANES,
                 forward_exp(&e, s + r * KEYS, vf_set1(m[r]), lo, hi));
    vf_store(l, vf_fma(vf_load(l), alpha[0], tile_sum(buffer)));
    *a = alpha[0];
}

/* Rows [from, to), at most TILE, against the packed block at `base`. */
static void forward_tile(const forward *f,
                         int64_t base,
                         int64_t from,
                         int64_t to,
                         const float *values,
                         int64_t value_stride)
{
    const key_range see = attention_range(f->b, base, from, to);
    const int64_t lo = see.lo / LANES, hi = (see.hi + LANES - 1) / LANES;
    float alpha[TILE];
    tile_product score = {.a = f->q + from * f->padded,
                          .b = f->columns + lo * LANES * f->b->dim,
                          .c = f->s + lo * LANES,
                          .a_row = f->padded,
                          .b_step = LANES,
                          .b_col = LANES * f->b->dim,
                          .c_row = KEYS,
                          .depth = f->b->dim};
    tile_product mix = {.a = f->s + see.lo,
                        .b = values + see.lo * value_stride,
                        .c = f->out + from * f->padded,
                        .factor = alpha,
                        .a_row = KEYS,
                        .b_step = value_stride,
                        .b_col = LANES,
                        .c_row = f->padded,
                        .depth = see.hi - see.lo};
    if (see.hi <= see.lo)
        return;
    tile_multiply(TILE_ZERO, 0, to - from, hi - lo, &score);
    if (attention_ragged(f->b, base, from, to))
        for (int64_t r = from; r < to; r++)
            attention_mask(f->b, base, r, lo * LANES, hi * LANES,
                           f->s + (r - from) * KEYS);
    for (int64_t r = from; r < to; r += 16) {
        vf a;
        forward_softmax(to - r < 16 ? to - r : 16, lo, hi,
                        f->s + (r - from) * KEYS, f->m + r, f->l + r, &a);
        vf_store(alpha + (r - from), a);
    }
    tile_multiply(TILE_SCALED, 0, to - from, f->padded / LANES, &mix);
}

/* ln x for a normal x > 0: x = 2^e y, ln y = 2 atanh((y - 1) / (y + 1)) with
 * |.| < 0.172. Series to the 17th power, the rest below 1e-14. */
static double forward_log(double x)
{
    uint64_t bits = double_bits(x) - double_bits(0.70710678118654752440);
    double exponent = (double)((int64_t)bits >> 52);
    double y = bits_double((bits & 0xfffffffffffffu) +
                           double_bits(0.70710678118654752440));
    double f = (y - 1.0) / (y + 1.0), g = f * f, s = 1.0 / 17;
    if (!(x < INFINITY))
        return x;
    for (int i = 15; i >= 1; i -= 2)
        s = fma64(s, g, 1.0 / i);
    return fma64(exponent, LN2_HI_64 + LN2_LO_64, 2.0 * f * s);
}

/* Every p and l has the polynomial's factor EXP_KAPPA, exp.h. */
static void forward_finish(const forward *f)
{
    const cadftk_attention_block *b = f->b;
    for (int64_t r = 0; r < b->queries * b->group; r++) {
        const float *sum = f->out + r * f->padded;
        float *out = b->out + attention_row(b, r, b->out_stride);
        float inverse = 1.0f / f->l[r];
        /* + 0: a zero is +0 however many blocks were skipped */
        for (int64_t d = 0; d < b->dim; d++)
            out[d] = sum[d] * inverse + 0.0f;
        if (b->lse)
            b->lse[r / b->group * b->lse_stride + r % b->group] =
                (float)((double)f->m[r] +
                        forward_log((double)f->l[r] / EXP_KAPPA));
    }
}

extern cadftk_attention_fn CADFTK_SYMBOL(cadftk_attention);
void CADFTK_SYMBOL(cadftk_attention)(const cadftk_attention_block *b)
{
    const int64_t rows = b->queries * b->group, dim = b->dim;
    const int64_t end = b->first + b->queries;
    const int64_t before = b->first - b->window + 1;
    const int64_t tiles = (rows + TILE - 1) / TILE;
    /* Few rows: v is read once, where it lies. */
    const int in_place = dim % LANES == 0 && rows < 24;
    const forward f = forward_layout(b);
    attention_pack_rows(b, b->q, b->q_stride, (float)b->scale, f.q);
    for (int64_t base = before > 0 ? before / KEYS * KEYS : 0; base < end;
         base += KEYS) {
        int64_t keys = end - base < KEYS ? end - base : KEYS;
        const float *v = b->v + base * b->v_stride;
        attention_pack_columns(b->k + base * b->k_stride, b->k_stride, keys,
                               dim, f.columns);
        if (!in_place)
            attention_pack_keys(v, b->v_stride, keys, dim, f.values);
        for (int64_t r = 0; r < rows; r += TILE) {
            attention_prefetch(b, base + KEYS, end, r / TILE, tiles);
            forward_tile(&f, base, r, r + TILE < rows ? r + TILE : rows,
                         in_place ? v : f.values,
                         in_place ? b->v_stride : f.padded);
        }
    }
    forward_finish(&f);
}
