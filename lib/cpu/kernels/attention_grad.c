/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gradient of attention for a block of queries. Nothing of the forward pass is
 * kept but lse; per tile of rows and block of keys:
 *   p  = exp(scale q k^T - lse)
 *   ds = p (grad_out v^T - delta),   delta = sum over dim of grad_out out
 *   grad_q += scale ds k,   grad_k += ds^T scale q,   grad_v += p^T grad_out
 * five products, each in registers. q is packed times scale.
 */
#include "cpu/kernels/attention.h"

typedef struct backward {
    const cadftk_attention_block *b;
    int64_t padded;
    float *q;                     /* [rows, padded], times scale */
    float *grad_out;              /* [rows, padded] */
    float *grad_q;                /* [rows, padded], over scale */
    float *k_columns, *v_columns; /* see attention_pack_columns */
    float *keys;                  /* [KEYS, padded] */
    float *p, *ds;                /* [TILE, KEYS] */
    float *lse, *delta;           /* [rows] */
} backward;

static backward backward_layout(const cadftk_attention_block *b)
{
    int64_t padded = cadftk_attention_padded(b->dim);
    int64_t rows = (b->queries * b->group + TILE - 1) / TILE * TILE;
    backward g = {.b = b, .padded = padded, .q = b->scratch};
    g.grad_out = g.q + rows * padded;
    g.grad_q = g.grad_out + rows * padded;
    g.k_columns = g.grad_q + rows * padded;
    g.v_columns = g.k_columns + KEYS * padded;
    g.keys = g.v_columns + KEYS * padded;
    g.p = g.keys + KEYS * padded;
    g.ds = g.p + TILE * KEYS;
    g.lse = g.ds + TILE * KEYS;
    g.delta = g.lse + rows;
    for (int64_t i = 0; i < rows * padded; i++)
        g.grad_q[i] = 0.0f;
    return g;
}

/* sum of x y over dim, by lanes and then a fixed tree. */
static float backward_dot(const float *x, const float *y, int64_t dim)
{
    float t[LANES];
    vf sum = vf_set1(0.0f);
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES)
        sum = vf_fma(vf_load(x + d), vf_load(y + d), sum);
    if (d < dim) {
        float a[LANES] = {0}, c[LANES] = {0};
        for (int64_t i = 0; d + i < dim; i++) {
            a[i] = x[d + i];
            c[i] = y[d + i];
        }
        sum = vf_fma(vf_load(a), vf_load(c), sum);
    }
    vf_store(t, sum);
    for (int w = LANES / 2; w; w /= 2)
        for (int i = 0; i < w; i++)
            t[i] += t[i + w];
    return t[0];
}

static void backward_rows(const backward *g)
{
    const cadftk_attention_block *b = g->b;
    attention_pack_rows(b, b->q, b->q_stride, (float)b->scale, g->q);
    attention_pack_rows(b, b->grad_out, b->out_stride, 1.0f, g->grad_out);
    for (int64_t r = 0; r < b->queries * b->group; r++) {
        int64_t at = attention_row(b, r, b->out_stride);
        g->lse[r] = b->lse[r / b->group * b->lse_stride + r % b->group];
        g->delta[r] = backward_dot(b->grad_out + at, b->out + at, b->dim);
    }
}

/* Scores and grad_out v^T of a row to p and ds, vectors [lo, hi), in place. */
INLINE void backward_row(const attention_exp *e,
                         float *s,
                         float *ds,
                         float lse,
                         float delta,
                         int64_t lo,
                         int64_t hi)
{
    const vf l = vf_set1(lse), minus = vf_set1(delta), zero = vf_set1(0.0f);
    int64_t j = lo;
    for (; j + 2 <= hi; j += 2) {
        float *x = s + j * LANES, *y = ds + j * LANES;
        vf p[2] = {vf_sub(vf_load(x), l), vf_sub(vf_load(x + LANES), l)};
        attention_exp_apply(2, e, p);
        vf_store(x, p[0]);
        vf_store(x + LANES, p[1]);
        vf_store(y, vf_fma(p[0], vf_sub(vf_load(y), minus), zero));
        vf_store(y + LANES,
                 vf_fma(p[1], vf_sub(vf_load(y + LANES), minus), zero));
    }
    if (j < hi) {
        float *x = s + j * LANES, *y = ds + j * LANES;
        vf p[1] = {vf_sub(vf_load(x), l)};
        attention_exp_apply(1, e, p);
        vf_store(x, p[0]);
        vf_store(y, vf_fma(p[0], vf_sub(vf_load(y), minus), zero));
    }
}

/* p and ds of rows [from, to) against the packed block at `base`. */
static void backward_scores(
    const backward *g, int64_t base, int64_t from, int64_t to, key_range see)
{
    const attention_exp e = attention_exp_make(1.0 / EXP_KAPPA);
    const int64_t lo = see.lo / LANES, hi = (see.hi + LANES - 1) / LANES;
    tile_product x = {.a = g->q + from * g->padded,
                      .b = g->k_columns + lo * LANES * g->b->dim,
                      .c = g->p + lo * LANES,
                      .a_row = g->padded,
                      .b_step = LANES,
                      .b_col = LANES * g->b->dim,
                      .c_row = KEYS,
                      .depth = g->b->dim};
    for (int pass = 0; pass < 2; pass++) {
        tile_multiply(TILE_ZERO, 0, to - from, hi - lo, &x);
        x.a = g->grad_out + from * g->padded;
        x.b = g->v_columns + lo * LANES * g->b->dim;
        x.c = g->ds + lo * LANES;
    }
    if (attention_ragged(g->b, base, from, to))
        for (int64_t r = from; r < to; r++)
            attention_mask(g->b, base, r, lo * LANES, hi * LANES,
                           g->p + (r - from) * KEYS);
    for (int64_t r = from; r < to; r++)
        backward_row(&e, g->p + (r - from) * KEYS, g->ds + (r - from) * KEYS,
                     g->lse[r], g->delta[r], lo, hi);
}

static void
backward_tile(const backward *g, int64_t base, int64_t from, int64_t to)
{
    const key_range see = attention_range(g->b, base, from, to);
    const int64_t keys = see.hi - see.lo, cols = g->padded / LANES;
    const int64_t first_key = (base + see.lo - g->b->sum_first) * g->padded;
    tile_product to_q = {.a = g->ds + see.lo,
                         .b = g->keys + see.lo * g->padded,
                         .c = g->grad_q + from * g->padded,
                         .a_row = KEYS,
                         .b_step = g->padded,
                         .b_col = LANES,
                         .c_row = g->padded,
                         .depth = keys};
    tile_product to_key = {.a_step = KEYS,
                           .b_step = g->padded,
                           .b_col = LANES,
                           .c_row = g->padded,
                           .depth = to - from};
    if (keys <= 0)
        return;
    backward_scores(g, base, from, to, see);
    tile_multiply(TILE_ADD, 0, to - from, cols, &to_q);
    for (int pass = 0; pass < 2; pass++) {
        to_key.a = (pass ? g->p : g->ds) + see.lo;
        to_key.b = (pass ? g->grad_out : g->q) + from * g->padded;
        to_key.c = (pass ? g->b->sum_v : g->b->sum_k) + first_key;
        tile_multiply(TILE_ADD, 1, keys, cols, &to_key);
    }
}

static void backward_finish(const backward *g)
{
    const cadftk_attention_block *b = g->b;
    const float scale = (float)b->scale;
    for (int64_t r = 0; r < b->queries * b->group; r++) {
        const float *sum = g->grad_q + r * g->padded;
        float *to = b->grad_q + attention_row(b, r, b->q_stride);
        for (int64_t d = 0; d < b->dim; d++)
            to[d] = sum[d] * scale;
    }
}

extern cadftk_attention_grad_fn CADFTK_SYMBOL(cadftk_attention_grad);
void CADFTK_SYMBOL(cadftk_attention_grad)(const cadftk_attention_block *b)
{
    const int64_t rows = b->queries * b->group, dim = b->dim;
    const int64_t end = b->first + b->queries;
    const int64_t before = b->first - b->window + 1;
    const int64_t tiles = (rows + TILE - 1) / TILE;
    const backward g = backward_layout(b);
    backward_rows(&g);
    for (int64_t base = before > 0 ? before / KEYS * KEYS : 0; base < end;
         base += KEYS) {
        int64_t keys = end - base < KEYS ? end - base : KEYS;
        const float *k = b->k + base * b->k_stride;
        attention_pack_columns(k, b->k_stride, keys, dim, g.k_columns);
        attention_pack_columns(b->v + base * b->v_stride, b->v_stride, keys,
                               dim, g.v_columns);
        attention_pack_keys(k, b->k_stride, keys, dim, g.keys);
        for (int64_t r = 0; r < rows; r += TILE) {
            attention_prefetch(b, base + KEYS, end, r / TILE, tiles);
            backward_tile(&g, base, r, r + TILE < rows ? r + TILE : rows);
        }
    }
    backward_finish(&g);
}
