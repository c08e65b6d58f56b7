/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The per-ISA kernel table of the built-in CPU backend. Here the loss, one row
 * of logits in, its softmax statistics or its gradient out; and attention of
 * one block of queries. A model's other operations are in model.h, an
 * optimizer's in update.h.
 *
 * Contract shared by every kernel:
 *  - plain pointers with the natural alignment of one element, nothing more;
 *    never reads or writes outside [0, n) (it does prefetch past the end,
 *    which cannot fault);
 *  - single-threaded, no allocation, no errno, no change of the
 *    floating-point environment, no mutable state: any number of threads may
 *    call the same table, and splitting rows among them changes no bit;
 *  - needs round-to-nearest, and subnormals not flushed (the C default);
 *  - results are bit-identical on every table whose ISA has a fused
 *    multiply-add (avx2, avx512, neon); the portable table `c` agrees with
 *    them to about 1e-6.
 */
#ifndef CADFT_CPU_KERNELS_KERNELS_H
#define CADFT_CPU_KERNELS_KERNELS_H

#include <stdint.h>

#include "cpu/kernels/model.h"
#include "cpu/kernels/update.h"

/* Storage types. bf16 and f16 are held as uint16_t bit patterns. */
enum { CADFTK_F32 = 0, CADFTK_BF16 = 1, CADFTK_F16 = 2, CADFTK_DTYPES = 3 };

/* Optional outputs of row_stats; each costs time, so ask only when needed. */
enum { CADFTK_WANT_ENTROPY = 1, CADFTK_WANT_SUM = 2 };

/*
 * What one row (or one rank's columns of a row) says. `z` is the logit after
 * the soft-cap, if any. The parts of a row split over ranks combine exactly:
 *   M = max z_max;   S = sum over ranks (1 + sum_rest) exp(z_max - M)
 *   logsumexp = M + log(S)
 * With a single part, logsumexp = z_max + log1p(sum_rest) keeps its relative
 * accuracy when the row is peaked (p -> 1, sum_rest -> 0), and so does
 *   H = log1p(sum_rest) + sum_t / (1 + sum_rest).
 */
typedef struct cadftk_row_stats {
    /* Largest logit. -inf if all are -inf or n == 0 (such a part has no
     * "1 +": it contributes nothing). NaN if the row holds a NaN or a raw
     * +inf anywhere; then sum_rest, sum_t and sum_z are NaN as well. */
    double z_max;
    /* Sum of exp(z - z_max) over all columns but ONE that attains z_max;
     * >= 0, and 0 when z_max is -inf. Relative error below 4e-7, however
     * small it is, against the sum of exp(rate * (z - z_max)); so 1.4e-8
     * more per nat below z_max against the sum itself. Terms below about
     * 2^-156 of the largest count as 0. */
    double sum_rest;
    /* Logit at `label` (may be -inf); 0 when label < 0. */
    double z_label;
    /* WANT_ENTROPY: sum of exp(z - z_max) * (z_max - z) over the unmasked
     * columns, >= 0; else 0. */
    double sum_t;
    /* WANT_SUM: sum of z over unmasked (z > -inf) columns, in float64, and
     * how many these are; else 0. */
    double sum_z;
    double rate; /* the sums are of exp(rate * (z - z_max)), |rate - 1|
                    < 1e-7: see exp.h; 0 where they are of exp itself */
    double peak; /* the kernel's own term of z_max over its true value */
    int64_t unmasked;
} cadftk_row_stats;

/*
 * Gradient of one row:
 *   g_v     = a * exp(z_v - lse) - c     for unmasked v != label
 *   g_v     = exactly 0                  where z_v = -inf
 *   g_label = at_label                   masked or not
 * With a soft-cap every column, the label included, is further multiplied by
 * the chain factor dz'/dz = 1 - (z'/cap)^2, which is 0 at a raw -inf.
 *
 * Rounded once to the output type, to nearest even (f16 may overflow to inf).
 * Columns whose |a| * exp(...) is below 2^-125 (a float32 subnormal, or
 * nearly) may count as 0. Before that rounding the error is below
 * (5e-7 + 1.5e-8 * (lse - z_v)) * |a| * exp(z_v - lse), so below 2e-6 of the
 * row's largest entry.
 * From bf16 to bf16, with no c and no soft-cap, the error before the rounding
 * may be 2^-14 of the entry, and columns below 2^-123 max(1, |a|) may count
 * as 0: the nearest bf16, or the next where two are about as near.
 * A NaN logit gives a NaN; a logit above lse is the caller's error and gives
 * an unspecified value in its own column only.
 */
typedef struct cadftk_row_grad {
    double lse;       /* logsumexp of the whole row, other shards included */
    double a;         /* coefficient of the softmax; 0 is allowed */
    double c;         /* subtracted at unmasked columns; usually 0 */
    double at_label;  /* with respect to the (soft-capped) logit at `label` */
    int64_t label;    /* column in [0, n), or -1: none in this row */
    double softcap;   /* cap > 0: z' = cap * tanh(z / cap); 0: none */
    int64_t prefetch; /* bytes to look ahead of z; 0: a good default. For a
                         row that is in the cache: to the one that is not */
} cadftk_row_grad;

/* z: [n] logits of the function's dtype; n >= 0; label in [0, n) or < 0. */
typedef void cadftk_row_stats_fn(const void *z,
                                 int64_t n,
                                 int64_t label,
                                 double softcap,
                                 uint32_t want,
                                 cadftk_row_stats *out);

/* g: [n]; may be z itself when both have the same dtype, else disjoint. */
typedef void cadftk_row_grad_fn(const void *z,
                                void *g,
                                int64_t n,
                                const cadftk_row_grad *args);

/*
 * Causal attention of a block of queries, of the `group` query heads that read
 * one key head. Query i stands at position first + i of its sequence and sees
 * the keys at positions (first + i - window, first + i]; no other key is read
 * but those between the first that the block sees and the last. Softmax goes
 * over blocks of CADFTK_ATTENTION_KEYS keys that start at multiples of it, so
 * what a query gets does not depend on the other queries of the call. Scores
 * are sums over head_dim in order, float32, with fused multiply-adds where the
 * ISA has them; exponentials have a relative error of 2e-7 (exp.h), 6e-8 of
 * the distance to the largest score aside. Values must be finite: a NaN or an
 * infinity may show in other rows of its sequence.
 */
typedef struct cadftk_attention_block {
    const float *q; /* first query, first head of the group: [queries, group,
                       dim], rows q_stride apart */
    const float *k; /* key 0 of the sequence: [dim], rows k_stride apart */
    const float *v;
    float *out;     /* as q, rows out_stride apart */
    float *lse;     /* as q without dim, rows lse_stride apart; or NULL */
    float *scratch; /* cadftk_attention_scratch, aligned to 64 bytes */
    int64_t q_stride, k_stride, v_stride, out_stride, lse_stride;
    int64_t queries, group;
    int64_t dim;    /* 1 to CADFTK_ATTENTION_DIM */
    int64_t first;  /* position of the first query, at least 0 */
    int64_t window; /* at least 1 */
    double scale;   /* of the scores */
    /* The gradient only: */
    const float *grad_out; /* as out */
    float *grad_q;         /* as q; written */
    /* Sums over blocks of queries: += at the keys that the block sees. The
     * first row is that of the key at position sum_first, rows are `dim`
     * rounded up to 16 apart. */
    float *sum_k, *sum_v;
    int64_t sum_first;
} cadftk_attention_block;

enum {
    CADFTK_ATTENTION_KEYS = 64, /* a block of keys */
    CADFTK_ATTENTION_DIM = 256, /* largest head_dim */
    CADFTK_ATTENTION_TILE = 48, /* rows at a time: a query and head each */
    CADFTK_ATTENTION_ROWS = 192 /* rows of a call for which packing a block of
                                   keys costs little */
};

/* Reads q, k, v; writes out, and lse: logsumexp of the scores. */
typedef void cadftk_attention_fn(const cadftk_attention_block *block);

/* Reads q, k, v, out, lse, which must be those of the forward pass, and
 * grad_out; writes grad_q, adds to sum_k and sum_v. */
typedef void cadftk_attention_grad_fn(const cadftk_attention_block *block);

/* dim in whole vectors. */
static inline int64_t cadftk_attention_padded(int64_t dim)
{
    return (dim + 15) / 16 * 16;
}

/* Floats of scratch of a call, rows = queries * group. */
static inline int64_t
cadftk_attention_scratch(int64_t rows, int64_t dim, int grad)
{
    const int64_t keys = CADFTK_ATTENTION_KEYS, tile = CADFTK_ATTENTION_TILE;
    int64_t padded = cadftk_attention_padded(dim);
    rows = (rows + tile - 1) / tile * tile;
    return (grad ? 3 : 2) * (rows + keys) * padded +
           (grad ? 2 : 1) * tile * keys + 2 * rows;
}

/*
 * Matrix product, C[rows, columns] (+)= A[rows, depth] B[depth, columns], in
 * three steps that share packed blocks:
 *   pack_a    [transposed]: a block of A, [rows, depth], stored as such with
 *             row stride ld, or as [depth, rows]. Writes rows * depth floats
 *             at out and up to CADFTK_PACK_SLACK of junk behind them. A has
 *             `readable` >= rows rows from `a` on.
 *   pack_b    [dtype][transposed]: the same of B, [depth, columns] or stored
 *             as [columns, depth], in panels of `panel` columns, the last
 *             one padded: ceil(columns / panel) * panel * depth floats.
 *   multiply  adds one panel, at most `panel` columns, to C, and fetches
 *             what is packed next.
 *   stream    [dtype]: multiply with B as stored [columns, depth], for at
 *             most CADFTK_STREAM_ROWS and `panel_rows` rows.
 * Storage needs the alignment of one element only.
 *
 * The element s of a product is a chain of fused multiply-adds in order of
 * depth: s = 0; s = fma(a_k, b_k, s). Then, rounding at each +,
 *   C = s                  fresh, no bias
 *   C = bias + s           fresh
 *   C = C + s              CADFTK_ADD, no bias
 *   C = (C + bias) + s     CADFTK_ADD
 * whatever rows and columns are.
 */
enum {
    CADFTK_ADD = 1,
    CADFTK_PACK_SLACK = 16,
    CADFTK_PANEL_MAX = 32,
    CADFTK_STREAM_ROWS = 4
};

typedef void cadftk_pack_a_fn(const float *a,
                              int64_t ld,
                              int64_t rows,
                              int64_t depth,
                              int64_t readable,
                              float *out);

typedef void cadftk_pack_b_fn(
    const void *b, int64_t ld, int64_t columns, int64_t depth, float *out);

/* Rows of B as stored [columns, depth] that are packed next: 16 of them,
 * `stride` bytes apart; 16 elements of depth are `step` bytes. */
typedef struct cadftk_panel_source {
    const void *base;
    int64_t stride, step;
} cadftk_panel_source;

/* next: a hint, or NULL. bias: [panel] floats, those beyond `columns`
 * ignored; or NULL. */
typedef void cadftk_multiply_fn(int64_t rows,
                                int64_t columns,
                                int64_t depth,
                                const float *a,
                                const float *b,
                                const cadftk_panel_source *next,
                                float *c,
                                int64_t ldc,
                                const float *bias,
                                uint32_t flags);

typedef void cadftk_stream_fn(int64_t rows,
                              int64_t columns,
                              int64_t depth,
                              const float *a,
                              const void *b,
                              int64_t ldb,
                              float *c,
                              int64_t ldc,
                              const float *bias,
                              uint32_t flags);

typedef struct cadftk_table {
    const char *name; /* "c", "avx2", "avx512", "neon" */
    cadftk_row_stats_fn *row_stats[CADFTK_DTYPES];
    /* [dtype of z][0: g has the dtype of z, 1: g is float32] */
    cadftk_row_grad_fn *row_grad[CADFTK_DTYPES][2];
    cadftk_attention_fn *attention;
    cadftk_attention_grad_fn *attention_grad;
    int32_t panel;      /* columns of a packed panel of B, a multiple of 16 */
    int32_t panel_rows; /* rows of A that one pass over it serves */
    cadftk_pack_a_fn *pack_a[2];
    cadftk_pack_b_fn *pack_b[2][2]; /* f32, bf16 */
    cadftk_multiply_fn *multiply;
    cadftk_stream_fn *stream[2]; /* f32, bf16 */
    cadftk_model model;
    cadftk_optimizer optimizer;
} cadftk_table;

/* Each exists only in a build that has the ISA; see cpu/isa.h. */
extern const cadftk_table cadftk_table_c;
extern const cadftk_table cadftk_table_avx2;
extern const cadftk_table cadftk_table_avx512;
extern const cadftk_table cadftk_table_neon;

/*
 * For the kernel comparer only, not in the table: the float32 kernel exp of
 * n floats, e[i] = 2^(z[i] * L - rint(reference * L)), L as in exp.h.
 */
typedef void
cadftk_exp_probe_fn(const float *z, double *e, int64_t n, double reference);
extern cadftk_exp_probe_fn cadftk_exp_probe_c, cadftk_exp_probe_avx2,
    cadftk_exp_probe_avx512, cadftk_exp_probe_neon;

#endif
