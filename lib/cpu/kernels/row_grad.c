/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gradient of one row of logits: g_v = a exp(z_v - lse) - c, one load and one
 * store per element, in place if asked. See kernels.h for the contract and
 * exp.h for the exponential.
 *
 * All that depends on the row alone is settled in float64 first:
 *   a exp(z - lse) = m 2^x * exp(z) 2^-R,   R = rint(lse L)
 * with sqrt(2) <= |m| < 2 sqrt(2). m is multiplied into the polynomial and x
 * into the exponent's bias. As p(f) >= 1/sqrt(2), what is left after the
 * clamp (an exponent field >= 1) is at least 2^-126: nothing subnormal is
 * ever formed, and every smaller entry is exactly 0.
 */
#include "cpu/kernels/exp.h"
#include "cpu/kernels/exp16.h"
#include "cpu/kernels/order.h"
#include "cpu/kernels/slow.h"
#include "cpu/kernels/span.h"

#define GRAD_SPANS 16 /* of a block that stays in L1 */

typedef struct grad_row {
    exp_poly poly;
    vf magic, floor, minus_c, masked;
} grad_row;

/* Splits a into mantissa in [sqrt 2, 2 sqrt 2) and exponent; 0 stays 0. */
static double grad_split(double a, int *exponent)
{
    double mag = fabs(a) * 0.70710678118654752440;
    *exponent = 0;
    if (mag < 0x1p-1000)
        return 0.0;
    *exponent = (int)(double_bits(mag) >> 52) - 1023;
    return a * pow2_64(-(double)*exponent);
}

/* Returns 0 when the row needs the slow path. */
INLINE int grad_prepare(const cadftk_row_grad *args, grad_row *r)
{
    if (!(fabs(args->lse) <= EXP_LIMIT) || !(fabs(args->a) < 0x1p100))
        return 0;
    double ref = exp_ref(args->lse);
    int exponent;
    double m = grad_split(args->a / exp_unit(args->lse, ref), &exponent);
    r->poly = exp_poly_scaled(m);
    r->magic = vf_set1(exp_magic(ref, 127 + exponent));
    r->floor = vf_set1(exp_floor(ref, 127 + exponent));
    /* 0 - c and not -c: adding +0 turns a -0 product into +0. */
    r->minus_c = vf_set1((float)(0.0 - args->c));
    r->masked = vf_set1(-INFINITY);
    return 1;
}

/* x: logits in, gradient out, `count` (1 or 2) vectors. A column below the
 * floor has scale +0, hence 0 - c; with_c says whether a masked one must be
 * told from it. */
INLINE void
grad_step(int count, const grad_row *r, vf *x, const vf *lo, int with_c)
{
    vf z[2], p[2], scale[2];
    EXP_EACH(count) z[k] = vf_max(r->floor, x[k]);
    exp_parts(count, z, lo, r->magic, &r->poly, p, scale);
    EXP_EACH(count)
    {
        vf g = vf_fma(p[k], scale[k], r->minus_c);
        x[k] = with_c ? vf_drop_le(x[k], r->masked, g) : g;
    }
}

INLINE void grad_span(
    int in, int out, const grad_row *r, const void *z, void *g, int with_c)
{
    vf x[2];
    if (in == out)
        load_span(in, z, x, x + 1);
    else
        load_span_ordered(in, z, x, x + 1);
    grad_step(2, r, x, NULL, with_c);
    store_span(out, g, x[0], x[1]);
}

INLINE void grad_plain(int in,
                       int out,
                       const grad_row *row,
                       const void *z,
                       void *g,
                       int64_t n,
                       int64_t prefetch,
                       int with_c)
{
    const grad_row r = *row;
    uintptr_t ahead = prefetch > 0 ? (uintptr_t)prefetch : PREFETCH_BYTES;
    int64_t j = 0;
    for (; j + SPAN <= n; j += SPAN) {
        const void *p = element(in, z, j);
        prefetch_span(in, p, ahead);
        grad_span(in, out, &r, p, element_mut(out, g, j), with_c);
    }
    if (j < n) {
        span_buffer from, to;
        pad_span(in, &from, element(in, z, j), n - j);
        grad_span(in, out, &r, &from, &to, with_c);
        memcpy(element_mut(out, g, j), &to, (size_t)(n - j) * dtype_size(out));
    }
}

/* Spans in which a column may be below the floor: 0 there. */
INLINE void
grad_floored(const exp16 *r, const uint16_t *z, uint16_t *g, int spans)
{
    const vi floor = vi_set1_16(r->floor), offset = vi_set1_16(r->offset);
    const vf magic = vf_set1(r->magic);
    for (int i = 0; i < spans * SPAN; i += SPAN) {
        vi x = vi_load(z + i), kept = vi_umin_16(x, floor), e = kept;
        exp16_spans(1, &e, magic, offset);
        vi_store(g + i, vi_keep_equal_16(x, kept, e));
    }
}

/* bf16 to bf16, c = 0: see exp16.h. A block with a NaN goes by float32. */
static void grad_bf16(const grad_row *slow,
                      const exp16 *r,
                      const uint16_t *z,
                      uint16_t *g,
                      int64_t n,
                      int64_t prefetch)
{
    const vi infinity = vi_set1_16(0x7f80), masked = vi_set1_16(0xff80);
    const vi floor = vi_set1_16(r->floor), offset = vi_set1_16(r->offset);
    const vf magic = vf_set1(r->magic);
    uintptr_t ahead = prefetch > 0 ? (uintptr_t)prefetch : PREFETCH_BYTES;
    int64_t whole = n - n % SPAN, step;
    for (int64_t j = 0; j < whole; j += step) {
        const uint16_t *from = z + j;
        uint16_t *to = g + j;
        int i = 0, spans = (int)((whole - j) / SPAN);
        spans = spans < GRAD_SPANS ? spans : GRAD_SPANS;
        step = spans * SPAN;
        order_range range = order_scan(from, spans, ahead);
        vi high = vi_smax_16(range.smax, infinity);
        int above = !vi_differ(vi_umax_16(range.umax, floor), floor);
        if (vi_differ(high, infinity) ||
            (!above && vi_differ(vi_umax_16(range.umax, masked), masked))) {
            grad_plain(CADFTK_BF16, CADFTK_BF16, slow, from, to, step, 0, 0);
            continue;
        }
        if (above)
            for (; i + 2 <= spans; i += 2) {
                vi e[2] = {vi_load(from + SPAN * i),
                           vi_load(from + SPAN * (i + 1))};
                exp16_spans(2, e, magic, offset);
                vi_store(to + SPAN * i, e[0]);
                vi_store(to + SPAN * (i + 1), e[1]);
            }
        grad_floored(r, from + SPAN * i, to + SPAN * i, spans - i);
    }
    if (whole < n) {
        span_buffer end;
        pad_span(CADFTK_BF16, &end, z + whole, n - whole);
        grad_bf16(slow, r, end.h, end.h, SPAN, prefetch);
        memcpy(g + whole, end.h, (size_t)(n - whole) * sizeof *g);
    }
}

/* Not inlined: the soft-cap's arithmetic dwarfs a switch over the dtype. */
static void grad_capped(int in,
                        int out,
                        const grad_row *r,
                        const void *z,
                        void *g,
                        int64_t n,
                        double cap)
{
    cap_block b;
    vf zero = vf_set1(0.0f);
    for (int64_t j = 0; j < n; j += CAP_BLOCK) {
        int count = n - j < CAP_BLOCK ? (int)(n - j) : CAP_BLOCK;
        cap_load(in, &b, element(in, z, j), count, cap);
        for (int i = 0; i < cap_vectors(count) * LANES; i += LANES) {
            vf x = vf_load(b.hi + i), lo = vf_load(b.lo + i);
            grad_step(1, r, &x, &lo, 0);
            x = vf_fma(x, vf_load(b.chain + i), zero);
            vf_store(b.hi + i, x);
        }
        for (int i = 0; i < count; i++)
            store_one(out, element_mut(out, g, j), i, b.hi[i]);
    }
}

INLINE void grad(int in,
                 int out,
                 const void *z,
                 void *g,
                 int64_t n,
                 const cadftk_row_grad *args)
{
    grad_row r;
    exp16 fast;
    double chain = 1.0, cap = args->softcap;
    if (args->label >= 0) /* before an in-place pass overwrites it */
        (void)slow_logit(in, z, args->label, cap, &chain);
    if (!grad_prepare(args, &r))
        slow_grad(in, out, z, g, n, args);
    else if (cap > 0.0)
        grad_capped(in, out, &r, z, g, n, cap);
    else if (in == CADFTK_BF16 && out == CADFTK_BF16 && args->c == 0.0 &&
             exp16_prepare(args->lse, args->a, &fast))
        grad_bf16(&r, &fast, (const uint16_t *)z, (uint16_t *)g, n,
                  args->prefetch);
    else if (args->c != 0.0)
        grad_plain(in, out, &r, z, g, n, args->prefetch, 1);
    else
        grad_plain(in, out, &r, z, g, n, args->prefetch, 0);
    if (args->label >= 0)
        store_one(out, g, args->label, (float)(args->at_label * chain));
}

#define GRAD(suffix, in, out)                                                  \
    cadftk_row_grad_fn CADFTK_SYMBOL(cadftk_row_grad_##suffix);                \
    void CADFTK_SYMBOL(cadftk_row_grad_##suffix)(                              \
        const void *z, void *g, int64_t n, const cadftk_row_grad *args)        \
    {                                                                          \
        grad(in, out, z, g, n, args);                                          \
    }

GRAD(f32, CADFTK_F32, CADFTK_F32)
GRAD(bf16, CADFTK_BF16, CADFTK_BF16)
GRAD(f16, CADFTK_F16, CADFTK_F16)
GRAD(bf16_f32, CADFTK_BF16, CADFTK_F32)
GRAD(f16_f32, CADFTK_F16, CADFTK_F32)
