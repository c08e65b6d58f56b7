/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Softmax statistics of one row in one pass over memory. See kernels.h for
 * what is computed and exp.h for the exponential.
 *
 * The row goes by in blocks that stay in L1: first the largest logit, then
 * the exponentials, whose reference R is moved beforehand when the block
 * raised the maximum. R therefore always belongs to the largest logit so far,
 * within (ln 2)/2, and every e = exp(z) 2^(30 - R) is at most 2^31.
 *
 * sum_rest may be 1e-7 or 1e-30 of the largest term (p -> 1) and is wanted to
 * 1e-6 of itself, so that term must never be part of a sum: a block that
 * moves R is summed from a copy in which its largest logit is masked. That
 * logit is kept apart, and comes back into the sums when R moves again. A
 * later one may exceed it without moving R, by less than ln 2; then the two
 * are exchanged at the end, where sum_rest is above 0.3 and nothing cancels.
 *
 * All that is added is then of the size of sum_rest at most. In float32 alone
 * the sum would still depend, in its eighth digit, on where blocks begin, and
 * the shards of a vocabulary would differ from the uncut row: so sums are
 * compensated within a block, and blocks are added in float64. Any cut of a
 * row gives lse to about 1e-13.
 *
 * A compensated sum that starts at B takes from a term what is a multiple of
 * ulp(B); the rest, added plainly, must be small beside the sum. So each lane
 * of a block starts just above its own largest term. Started at the row's
 * largest, the terms of a peaked row would all be added plainly, 32 in a
 * chain, and be off by up to 5e-7.
 */
#include "cpu/kernels/exp.h"
#include "cpu/kernels/order.h"
#include "cpu/kernels/slow.h"
#include "cpu/kernels/span.h"

#define SUM_BIAS 30
#define BLOCK_SPANS 16

typedef struct row_sum {
    vf top;              /* running maximum, per lane, before the soft-cap */
    vi lowest;           /* 16-bit patterns above it, unsigned, are clamped */
    int high_floor;      /* all that are below 0 may be: `lowest` is unset */
    vd sum[2], sum_z[2]; /* of e, and of e * (z - anchor) */
    double more, more_z; /* the same of logits that were apart once */
    double apart;        /* the logit in none of them; -inf: none */
    double ref;          /* R */
    double anchor;       /* R / L */
    float magic, floor;  /* see exp.h */
    float guard;         /* a logit above this needs a larger R */
    double z_total;      /* WANT_SUM */
    int64_t unmasked;
} row_sum;

/* The kernel's own e of one logit z = hi + lo, by the very same operations;
 * 0 for -inf. */
static double sum_one(const row_sum *r, double z)
{
    float hi = (float)z, lane[LANES];
    const exp_poly poly = exp_poly_scaled(1.0);
    if (z == -INFINITY)
        return 0.0;
    vf x = vf_max(vf_set1(r->floor), vf_set1(hi));
    vf lo = vf_set1((float)(z - (double)hi)), m, scale;
    exp_parts(1, &x, &lo, vf_set1(r->magic), &poly, &m, &scale);
    vf_store(lane, vf_fma(m, scale, vf_set1(0.0f)));
    return (double)lane[0];
}

static void sum_set_ref(row_sum *s, double ref)
{
    s->ref = ref;
    s->anchor = ref / EXP_BASE;
    s->magic = exp_magic(ref, 127 + SUM_BIAS);
    s->floor = exp_floor(ref, 127 + SUM_BIAS);
    s->guard = (float)((ref + 0.5) / EXP_BASE);
}

/* For block_range, of 16-bit rows. */
static void sum_set_lowest(row_sum *s, int dtype)
{
    s->high_floor = !(s->floor < 0.0f);
    if (!s->high_floor)
        s->lowest = vi_set1_16(order_pattern(dtype, s->floor, 0));
}

/* No logit yet: the lowest reference the float32 path knows. */
static void sum_init(row_sum *s)
{
    vd zero = vd_set1(0.0);
    memset(s, 0, sizeof *s);
    s->top = vf_set1(-INFINITY);
    s->apart = -INFINITY;
    s->sum[0] = s->sum[1] = s->sum_z[0] = s->sum_z[1] = zero;
    sum_set_ref(s, exp_ref(-EXP_LIMIT));
}

/* Moves R up to the logit `top`, which is apart from now on: an exact rescale
 * of the sums so far, to which the one that was apart is added. */
static __attribute__((noinline)) void sum_raise(row_sum *s, double top)
{
    double old_ref = s->ref, old_anchor = s->anchor, e = sum_one(s, s->apart);
    s->more += e;
    if (e > 0.0)
        s->more_z = fma64(e, s->apart - old_anchor, s->more_z);
    s->apart = top;
    sum_set_ref(s, exp_ref(top));
    double down = s->ref - old_ref, shift = old_anchor - s->anchor;
    double scale = down < 1000.0 ? pow2_64(-down) : 0.0;
    for (int i = 0; i < 2; i++) {
        s->sum_z[i] = vd_fma(vd_set1(shift), s->sum[i], s->sum_z[i]);
        s->sum_z[i] = vd_mul(s->sum_z[i], vd_set1(scale));
        s->sum[i] = vd_mul(s->sum[i], vd_set1(scale));
    }
    s->more_z = fma64(shift, s->more, s->more_z) * scale;
    s->more *= scale;
}

/* One term into a compensated sum: s takes what fits, c the rest, exactly
 * (Fast2Sum: s starts at sum_start and is never below a term). */
INLINE void sum_step(vf p, vf scale, vf *s, vf *c)
{
    vf t = vf_fma(p, scale, *s);
    *c = vf_sub(*c, vf_fnma(p, scale, vf_sub(t, *s)));
    *s = t;
}

/* Per lane, above each e up to that of the logit `top`: p < 1.5. */
INLINE vf sum_start(const row_sum *r, vf top)
{
    vf z = vf_max(vf_set1(r->floor), top);
    vf t = vf_fma(z, vf_set1(EXP_LOG2E), vf_set1(r->magic));
    vf scale = vf_pow2(t);
    return vf_add(scale, scale);
}

/* s - start is exact: a multiple of the ulp of s. */
INLINE void sum_fold(row_sum *r, vf s, vf c, vf start)
{
    s = vf_sub(s, start);
    r->sum[0] = vd_add(r->sum[0], vd_add(vd_lo(s), vd_lo(c)));
    r->sum[1] = vd_add(r->sum[1], vd_add(vd_hi(s), vd_hi(c)));
}

/* The hot loop. p * scale is never formed on its own. top: the lanes'
 * largest; `above`: no logit is below the floor. */
INLINE void sum_block(int dtype,
                      row_sum *r,
                      const void *p,
                      int spans,
                      vf top,
                      int above,
                      const exp_poly *poly)
{
    vf magic = vf_set1(r->magic), floor = vf_set1(r->floor);
    vf start = sum_start(r, top), s = start, c = vf_set1(0.0f);
    for (int i = 0; i < spans; i++) {
        vf z[2], m[2], scale[2];
        load_span(dtype, element(dtype, p, (int64_t)i * SPAN), z, z + 1);
        if (!above) {
            z[0] = vf_max(floor, z[0]);
            z[1] = vf_max(floor, z[1]);
        }
        exp_parts(2, z, NULL, magic, poly, m, scale);
        sum_step(m[0], scale[0], &s, &c);
        sum_step(m[1], scale[1], &s, &c);
    }
    sum_fold(r, s, c, start);
}

/* e and e * (z - anchor) in float64: the entropy of a peaked row is a small
 * difference of these. The clamped z keeps 0 * -inf out. */
INLINE void sum_entropy(row_sum *r, vf z, const vf *lo, const exp_poly *p)
{
    vf m, scale, zc = vf_max(vf_set1(r->floor), z);
    exp_parts(1, &zc, lo, vf_set1(r->magic), p, &m, &scale);
    vf e = vf_fma(m, scale, vf_set1(0.0f));
    vd anchor = vd_set1(-r->anchor);
    vd x0 = vd_add(vd_lo(zc), anchor), x1 = vd_add(vd_hi(zc), anchor);
    if (lo) {
        x0 = vd_add(x0, vd_lo(*lo));
        x1 = vd_add(x1, vd_hi(*lo));
    }
    r->sum_z[0] = vd_fma(vd_lo(e), x0, r->sum_z[0]);
    r->sum_z[1] = vd_fma(vd_hi(e), x1, r->sum_z[1]);
    r->sum[0] = vd_add(r->sum[0], vd_lo(e));
    r->sum[1] = vd_add(r->sum[1], vd_hi(e));
}

INLINE void sum_block_entropy(
    int dtype, row_sum *r, const void *p, int spans, const exp_poly *poly)
{
    row_sum local = *r;
    for (int i = 0; i < spans; i++) {
        vf a, b;
        load_span(dtype, element(dtype, p, (int64_t)i * SPAN), &a, &b);
        sum_entropy(&local, a, NULL, poly);
        sum_entropy(&local, b, NULL, poly);
    }
    *r = local;
}

/* The lanes' largest logits of a block; of no NaN. */
INLINE vf block_top(int dtype, const void *p, int spans)
{
    vf top = vf_set1(-INFINITY);
    for (int i = 0; i < spans; i++) {
        vf a, b;
        const void *at = element(dtype, p, (int64_t)i * SPAN);
        prefetch_span(dtype, at, PREFETCH_BYTES);
        load_span(dtype, at, &a, &b);
        top = vf_max(b, vf_max(a, top));
    }
    return top;
}

/* The same of a 16-bit row. *above: no logit is below the floor. */
INLINE vf
block_range(int dtype, const row_sum *r, const void *p, int spans, int *above)
{
    order_range range = order_scan((const uint16_t *)p, spans, PREFETCH_BYTES);
    vi low = vi_umax_16(range.umax, r->lowest);
    *above = !r->high_floor && !vi_differ(low, r->lowest);
    return order_top(dtype, &range);
}

/* A block that moved R, without its largest logit. Rare, so one copy for all
 * dtypes. */
static __attribute__((noinline)) void sum_block_without(
    int dtype, row_sum *r, const void *p, int spans, uint32_t want)
{
    const exp_poly poly = exp_poly_scaled(1.0);
    span_buffer copy[BLOCK_SPANS];
    int64_t j = 0;
    memcpy(copy, p, (size_t)spans * SPAN * dtype_size(dtype));
    while ((double)load_one(dtype, copy, j) != r->apart)
        j++;
    store_one(dtype, copy, j, -INFINITY);
    if (want & CADFTK_WANT_ENTROPY)
        sum_block_entropy(dtype, r, copy, spans, &poly);
    else
        sum_block(dtype, r, copy, spans, block_top(dtype, copy, spans), 0,
                  &poly);
}

/* WANT_SUM. Eight partial sums keep the adds from waiting for each other and
 * the rounding of a long row down. */
INLINE void sum_logits(row_sum *r, int dtype, const void *p, int64_t n)
{
    double total[8] = {0};
    int64_t unmasked = 0;
    for (int64_t j = 0; j < n; j++) {
        float x = load_one(dtype, p, j);
        int in = x > -INFINITY;
        total[j & 7] += in ? (double)x : 0.0;
        unmasked += in;
    }
    for (int i = 0; i < 8; i++)
        r->z_total += total[i];
    r->unmasked += unmasked;
}

/* Returns 0 when the row needs the slow path. */
INLINE int scan_block(int dtype,
                      row_sum *r,
                      const void *p,
                      int spans,
                      uint32_t want,
                      const exp_poly *poly)
{
    int above = 0;
    vf top;
    if (dtype == CADFTK_F32)
        top = block_top(dtype, p, spans);
    else
        top = block_range(dtype, r, p, spans, &above);
    r->top = vf_max(top, r->top);
    if (vf_any_gt(r->top, vf_set1(r->guard))) {
        double highest = (double)vf_hmax(r->top);
        if (highest > EXP_LIMIT || !(highest > r->apart)) /* a NaN */
            return 0;
        sum_raise(r, highest);
        if (dtype != CADFTK_F32)
            sum_set_lowest(r, dtype);
        sum_block_without(dtype, r, p, spans, want);
        return 1;
    }
    if (want & CADFTK_WANT_ENTROPY)
        sum_block_entropy(dtype, r, p, spans, poly);
    else if (above)
        sum_block(dtype, r, p, spans, top, 1, poly);
    else
        sum_block(dtype, r, p, spans, top, 0, poly);
    return 1;
}

INLINE int
scan_row(int dtype, row_sum *r, const void *z, int64_t n, uint32_t want)
{
    const exp_poly poly = exp_poly_scaled(1.0);
    if (dtype != CADFTK_F32)
        sum_set_lowest(r, dtype);
    for (int64_t j = 0; j < n;) {
        const void *p = element(dtype, z, j);
        int64_t spans = (n - j) / SPAN, step = spans * SPAN;
        span_buffer end;
        if (spans > BLOCK_SPANS) {
            spans = BLOCK_SPANS;
            step = BLOCK_SPANS * SPAN;
        } else if (spans == 0) {
            step = n - j;
            spans = 1;
            pad_span(dtype, &end, p, step);
            p = &end;
        }
        if (!scan_block(dtype, r, p, (int)spans, want, &poly))
            return 0;
        if (want & CADFTK_WANT_SUM)
            sum_logits(r, dtype, element(dtype, z, j), step);
        j += step;
    }
    return 1;
}

/* A soft-capped block: as sum_block, with z' = hi + lo. */
static void
sum_block_capped(row_sum *r, const cap_block *b, int vectors, uint32_t want)
{
    const exp_poly poly = exp_poly_scaled(1.0);
    vf magic = vf_set1(r->magic), floor = vf_set1(r->floor);
    vf top = vf_set1(-INFINITY), c = vf_set1(0.0f), start, s;
    for (int i = 0; i < vectors; i++)
        top = vf_max(vf_load(b->hi + LANES * i), top);
    s = start = sum_start(r, top);
    for (int i = 0; i < vectors; i++) {
        vf z = vf_load(b->hi + LANES * i), lo = vf_load(b->lo + LANES * i);
        if (want & CADFTK_WANT_ENTROPY) {
            sum_entropy(r, z, &lo, &poly);
            continue;
        }
        vf m, scale;
        z = vf_max(floor, z);
        exp_parts(1, &z, &lo, magic, &poly, &m, &scale);
        sum_step(m, scale, &s, &c);
    }
    sum_fold(r, s, c, start);
}

/* Masks the first of the block's columns that attain the raw logit `top`. */
static void cap_mask(cap_block *b, float top)
{
    int i = 0;
    while (b->raw[i] != top)
        i++;
    b->hi[i] = -INFINITY;
    b->lo[i] = 0.0f;
}

static void sum_logits_capped(row_sum *r, const cap_block *b, int count)
{
    double total[8] = {0};
    for (int i = 0; i < count; i++) {
        int in = b->hi[i] > -INFINITY;
        total[i & 7] += in ? (double)b->hi[i] + (double)b->lo[i] : 0.0;
        r->unmasked += in;
    }
    for (int i = 0; i < 8; i++)
        r->z_total += total[i];
}

/* Not inlined: the soft-cap's arithmetic dwarfs a switch over the dtype. */
static int scan_row_capped(
    int dtype, row_sum *r, const void *z, int64_t n, double cap, uint32_t want)
{
    cap_block b;
    for (int64_t j = 0; j < n; j += CAP_BLOCK) {
        int count = n - j < CAP_BLOCK ? (int)(n - j) : CAP_BLOCK;
        int vectors = cap_vectors(count);
        cap_load(dtype, &b, element(dtype, z, j), count, cap);
        for (int i = 0; i < vectors; i++)
            r->top = vf_max(vf_load(b.raw + LANES * i), r->top);
        double chain, raw = (double)vf_hmax(r->top);
        double highest = softcap64(raw, cap, &chain);
        if (raw == INFINITY || highest > EXP_LIMIT)
            return 0;
        if (want & CADFTK_WANT_SUM)
            sum_logits_capped(r, &b, count);
        if (highest > (double)r->guard) {
            sum_raise(r, highest);
            cap_mask(&b, (float)raw);
        }
        sum_block_capped(r, &b, vectors, want);
    }
    return 1;
}

/* From sums relative to R to sums relative to z_max. Returns 0 when z_max is
 * too low for the float32 path. */
static int sum_finish(const row_sum *r, double z_max, cadftk_row_stats *out)
{
    double rest = vd_hsum(r->sum[0], r->sum[1]) + r->more;
    double rest_z = vd_hsum(r->sum_z[0], r->sum_z[1]) + r->more_z;
    if (rest != rest) {
        stats_nonfinite(out);
        return 1;
    }
    if (z_max == -INFINITY) {
        out->z_max = z_max;
        return 1;
    }
    if (z_max < -EXP_LIMIT)
        return 0;
    double peak = sum_one(r, z_max);
    if (r->apart != z_max) { /* exchange the two */
        double back = sum_one(r, r->apart);
        rest += back - peak;
        rest_z -= peak * (z_max - r->anchor);
        if (back > 0.0)
            rest_z = fma64(back, r->apart - r->anchor, rest_z);
    }
    double unit = exp_unit(z_max, r->ref) * (double)(1 << SUM_BIAS);
    double t = fma64(z_max - r->anchor, rest, -rest_z) / unit;
    rest /= unit;
    out->peak = peak / unit;
    out->z_max = z_max + 0.0; /* lanes may disagree on the sign of a zero */
    out->sum_rest = rest > 0.0 ? rest : 0.0;
    out->sum_t = t > 0.0 ? t : 0.0;
    out->sum_z = r->z_total;
    out->unmasked = r->unmasked;
    out->rate = EXP_BASE / LOG2E_64;
    return 1;
}

INLINE void stats(int dtype,
                  const void *z,
                  int64_t n,
                  int64_t label,
                  double cap,
                  uint32_t want,
                  cadftk_row_stats *out)
{
    row_sum r;
    double chain;
    int done;
    memset(out, 0, sizeof *out);
    sum_init(&r);
    if (cap > 0.0)
        done = scan_row_capped(dtype, &r, z, n, cap, want);
    else if (want & CADFTK_WANT_ENTROPY)
        done = scan_row(dtype, &r, z, n, want | CADFTK_WANT_ENTROPY);
    else
        done = scan_row(dtype, &r, z, n, want & CADFTK_WANT_SUM);
    double z_max = (double)vf_hmax(r.top);
    if (cap > 0.0)
        z_max = softcap64(z_max, cap, &chain);
    if (!done || !sum_finish(&r, z_max, out))
        slow_stats(dtype, z, n, cap, want, out);
    if (!(want & CADFTK_WANT_ENTROPY))
        out->sum_t = 0.0;
    if (label >= 0)
        out->z_label = slow_logit(dtype, z, label, cap, &chain);
}

#define STATS(suffix, dtype)                                                   \
    cadftk_row_stats_fn CADFTK_SYMBOL(cadftk_row_stats_##suffix);              \
    void CADFTK_SYMBOL(cadftk_row_stats_##suffix)(                             \
        const void *z, int64_t n, int64_t label, double softcap,               \
        uint32_t want, cadftk_row_stats *out)                                  \
    {                                                                          \
        stats(dtype, z, n, label, softcap, want, out);                         \
    }

STATS(f32, CADFTK_F32)
STATS(bf16, CADFTK_BF16)
STATS(f16, CADFTK_F16)

/* For tests/check_kernels.c; see kernels.h. */
cadftk_exp_probe_fn CADFTK_SYMBOL(cadftk_exp_probe);
void CADFTK_SYMBOL(cadftk_exp_probe)(const float *z,
                                     double *e,
                                     int64_t n,
                                     double reference)
{
    row_sum r;
    sum_init(&r);
    sum_set_ref(&r, exp_ref(reference));
    for (int64_t i = 0; i < n; i++)
        e[i] = sum_one(&r, (double)z[i]) / (0x1p30 * EXP_KAPPA);
}
