/* SPDX-License-Identifier: Apache-2.0 */
/* The loss's slots: statistics, gradient, and both in one sweep. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_backend.h"
#include "cpu/cpu.h"

#define REST_REL 1e-6    /* sum_rest, sum_t */
#define Z_REL 1e-6       /* z under a soft-cap; without it is exact */
#define SUM_REL 1e-6     /* sum_z, of the sum of |z| */
#define GRAD_REL 1e-6    /* of a term of the entry */
#define BF16_REL 0x1p-14 /* more in bfloat16: of the entry, before rounding */
#define BF16_LEAST 0x1p-122 /* and this may be 0, times |A| above 1 */
#define GRAD_FAR 2e-8       /* and this per nat below lse */
#define RATE_REL 1e-7
#define PEAK_REL 1e-6

/* Rows of every kind. */
struct rows {
    cadft_loss_rows args;
    operand *logits, *labels;
    int kind[ROW_KINDS + 4];
};

static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                 CADFT_DTYPE_F16};

static int supported(check *c, int32_t op, int32_t in, int32_t out)
{
    return c->context->backend->supports(c->context->device, op, in, out);
}

/* `place` is 'i', or 'b' where a gradient will lie over the logits. */
static void rows_make(check *c,
                      struct rows *w,
                      int32_t dtype,
                      int64_t rows,
                      int64_t cols,
                      double cap,
                      char place)
{
    int kernel = cadft__cpu_kernel_dtype(dtype);
    w->logits = operand_strided(c, "logits", dtype, rows, cols,
                                cols + 7 * rng_below(&c->random, 2), place);
    w->labels = operand_index(c, "labels", rows, cols);
    for (int64_t r = 0; r < rows; r++) {
        int kind = rows > ROW_KINDS ? (int)(r % ROW_KINDS)
                                    : (int)rng_below(&c->random, ROW_FINITE);
        if (r < ROW_KINDS + 4)
            w->kind[r] = kind;
        row_fill(kind, kernel, sent_at(w->logits, r, 0), cols, &c->random);
        if (rng_below(&c->random, 6) == 0)
            operand_set(w->labels, 0, r,
                        rng_below(&c->random, 2) ? CADFT_ROW_SKIP
                                                 : CADFT_ROW_NO_LABEL);
    }
    w->args = (cadft_loss_rows){.struct_size = sizeof w->args,
                                .dtype = dtype,
                                .logits = w->logits->array,
                                .rows = rows,
                                .cols = cols,
                                .row_stride = w->logits->stride,
                                .softcap = cap,
                                .labels = w->labels->array};
}

static int64_t label_of(const struct rows *w, int64_t r)
{
    return (int64_t)sent(w->labels, 0, r);
}

static ref_stats stats_of(struct rows *w, int64_t r)
{
    int64_t label = label_of(w, r);
    return reference_stats(cadft__cpu_kernel_dtype(w->args.dtype),
                           sent_at(w->logits, r, 0), w->args.cols,
                           label < 0 ? -1 : label, w->args.softcap);
}

static operand *stats_make(check *c, const struct rows *w)
{
    operand *stats = operand_strided(c, "stats", CADFT_DTYPE_F64, w->args.rows,
                                     CADFT_STAT_STRIDE, CADFT_STAT_STRIDE, 'o');
    for (int64_t r = 0; r < w->args.rows; r++)
        if (label_of(w, r) == CADFT_ROW_SKIP)
            memset(stats->may + stats->array.offset +
                       (uint64_t)r * CADFT_STAT_STRIDE * 8,
                   0, CADFT_STAT_STRIDE * 8);
    return stats;
}

static void stats_look(
    check *c, struct rows *w, const operand *stats, int64_t r, uint32_t want)
{
    ref_stats s = stats_of(w, r);
    double z_rel = w->args.softcap > 0 ? Z_REL : 0, far;
    double rate = got(stats, r, CADFT_STAT_RATE);
    double peak = got(stats, r, CADFT_STAT_PEAK);
    if (s.nonfinite) {
        if (!isnan(got(stats, r, CADFT_STAT_Z_MAX)))
            complain(c, "row %lld holds NaN or +inf and Z_MAX is %g",
                     (long long)r, got(stats, r, CADFT_STAT_Z_MAX));
        return;
    }
    expect(c, stats, r, CADFT_STAT_Z_MAX, (double)s.z_max,
           fabs((double)s.z_max), z_rel);
    if (label_of(w, r) >= 0)
        expect(c, stats, r, CADFT_STAT_Z_LABEL, (double)s.z_label,
               fabs((double)s.z_label), z_rel);
    expect_number(c, "RATE", rate == 0 ? 1 : rate, 1, 1, RATE_REL);
    expect_number(c, "PEAK", peak == 0 ? 1 : peak, 1, 1, PEAK_REL);
    /* What the rate takes from terms that lie so many nats below. */
    far = rate == 0 ? 0 : fabs(rate - 1) * fmax(0, -log((double)s.sum_rest));
    expect(c, stats, r, CADFT_STAT_SUM_REST, (double)s.sum_rest,
           (double)s.sum_rest, REST_REL + 2 * far);
    expect(c, stats, r, CADFT_STAT_SUM_T,
           want & CADFT_WANT_ENTROPY ? (double)s.sum_t : 0,
           (double)(s.sum_t + s.sum_rest), /* both go into an entropy */

           REST_REL + 2 * far);
    expect(c, stats, r, CADFT_STAT_SUM_Z,
           want & CADFT_WANT_SUM ? (double)s.sum_z : 0, (double)s.abs_z,
           SUM_REL);
    expect(c, stats, r, CADFT_STAT_UNMASKED,
           want & CADFT_WANT_SUM ? (double)s.unmasked : 0, 1, 0);
}

/* --------------------------------------------------------------- shapes */

static const struct shape {
    int64_t rows, cols;
    double cap;
} shapes[] = {{ROW_KINDS + 3, 33, 0},
              {ROW_KINDS + 3, 257, 30},
              {ROW_KINDS + 3, 1000, 0},
              {ROW_KINDS + 3, 1, 0},
              {ROW_KINDS + 3, 16, 5},
              {2, 4099, 0},
              {1, 50257, 0},
              {0, 17, 0}};

enum { SHAPES = sizeof shapes / sizeof *shapes };

static int32_t call_stats(check *c,
                          const struct rows *w,
                          int64_t first,
                          int64_t rows,
                          const operand *stats,
                          uint32_t want)
{
    cadft_loss_rows args = w->args;
    args.rows = rows;
    args.logits = row_of(w->logits, first);
    args.labels.offset += 4 * (uint64_t)first;
    return cadft__device_row_stats(c->context, NULL, &args, want,
                                   row_of(stats, first), &c->error);
}

static void stats_case(check *c, int32_t dtype, const struct shape *s)
{
    struct rows w;
    operand *stats;
    uint32_t want = (uint32_t)rng_below(&c->random, 4);
    int64_t first, rows = part_of(s->rows, &first);
    case_begin(c, "%s [%lld, %lld], cap %g, want %u",
               dtype_name[cadft__cpu_kernel_dtype(dtype)], (long long)s->rows,
               (long long)s->cols, s->cap, want);
    rows_make(c, &w, dtype, s->rows, s->cols, s->cap, 'i');
    stats = stats_make(c, &w);
    for (case_start(c); case_again(c);)
        c->status = call_stats(c, &w, 0, s->rows, stats, want);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < s->rows; r++)
        if (label_of(&w, r) != CADFT_ROW_SKIP)
            stats_look(c, &w, stats, r, want);
    case_keep(c);
    for (case_start(c); case_again(c);)
        c->status = call_stats(c, &w, first, rows, stats, want);
    if (case_end(c))
        for (int64_t r = first; r < first + rows; r++)
            if (!stats_of(&w, r).nonfinite)
                expect_same(c, stats, r, 1);
}

static void check_stats(check *c)
{
    for (int d = 0; d < 3; d++)
        for (int i = 0; i < SHAPES; i++)
            if (supported(c, CADFT_OP_LOSS_ROW_STATS, dtypes[d],
                          CADFT_DTYPE_F32))
                stats_case(c, dtypes[d], &shapes[i]);
}

/* -------------------------------------------------------------- gradient */

/* The gradient's array, apart from the logits or over them, with three
 * columns of zeros behind if there is room. */
static operand *
grad_make(check *c, const struct rows *w, int32_t dtype, int in_place)
{
    if (in_place)
        return w->logits;
    return operand_out(c, "grad", dtype, w->args.rows, w->args.cols + 3);
}

static cadft_loss_grad_out grad_args(const operand *grad, int64_t first)
{
    return (cadft_loss_grad_out){.struct_size = sizeof(cadft_loss_grad_out),
                                 .dtype = grad->dtype,
                                 .grad = row_of(grad, first),
                                 .cols = grad->cols,
                                 .row_stride = grad->stride};
}

/* `a` NULL: the row is 0. */
static void grad_look(check *c,
                      struct rows *w,
                      const operand *grad,
                      int64_t r,
                      const cadftk_row_grad *a)
{
    int64_t n = w->args.cols;
    double *g = malloc(sizeof *g * (size_t)n),
           *soft = malloc(sizeof *g * (size_t)n);
    int kernel = cadft__cpu_kernel_dtype(w->args.dtype);
    if (a)
        reference_grad(kernel, sent_at(w->logits, r, 0), n, a, g, soft);
    for (int64_t i = 0; i < grad->cols; i++) {
        double z, far, size, bound;
        if (!a || i >= n) {
            expect(c, grad, r, i, 0, 1, 0);
            continue;
        }
        z = sent(w->logits, r, i);
        if (a->softcap > 0)
            z = a->softcap * tanh(z / a->softcap);
        far = isinf(z) ? 0 : fabs(a->lse - z);
        size = i == a->label ? fabs(a->at_label)
                             : fabs(a->a) * exp(z - a->lse) + fabs(a->c);
        bound = GRAD_REL + GRAD_FAR * far;
        if (grad->dtype == CADFT_DTYPE_BF16 && size > 0)
            bound +=
                (BF16_REL * fabs(g[i]) + BF16_LEAST * fmax(1, fabs(a->a))) /
                size;
        if (grad->dtype != CADFT_DTYPE_F16 || fabs(g[i]) < 65000)
            expect(c, grad, r, i, g[i], size, bound);
    }
    free(g);
    free(soft);
}

static cadftk_row_grad coef_of(check *c, struct rows *w, int64_t r)
{
    static const double scales[] = {1, -0.37, 3e-7, 0, 1000, 2e-30};
    ref_stats s = stats_of(w, r);
    int64_t label = label_of(w, r);
    cadftk_row_grad a = {.a = scales[rng_below(&c->random, 6)],
                         .c = rng_below(&c->random, 3) ? 0 : 1e-3,
                         .label = label < 0 ? -1 : label,
                         .softcap = w->args.softcap};
    a.at_label = -0.7 * a.a;
    /* As the library does it: rows that do not count have zeros. */
    if (s.nonfinite || s.unmasked == 0)
        a.a = a.c = a.at_label = 0;
    else
        a.lse = (double)(s.z_max + log1pl(s.sum_rest));
    return a;
}

static int32_t call_grad(check *c,
                         const struct rows *w,
                         int64_t first,
                         int64_t rows,
                         const operand *coef,
                         const operand *grad)
{
    cadft_loss_rows args = w->args;
    cadft_loss_grad_out out = grad_args(grad, first);
    args.rows = rows;
    args.logits = row_of(w->logits, first);
    args.labels.offset += 4 * (uint64_t)first;
    return cadft__device_row_grad(c->context, NULL, &args, row_of(coef, first),
                                  &out, &c->error);
}

static void grad_case(
    check *c, int32_t in, int32_t out, const struct shape *s, int in_place)
{
    struct rows w;
    operand *grad, *coef;
    cadftk_row_grad a[ROW_KINDS + 4];
    int64_t first, rows = part_of(s->rows, &first);
    case_begin(c, "%s to %s [%lld, %lld], cap %g%s",
               dtype_name[cadft__cpu_kernel_dtype(in)],
               dtype_name[cadft__cpu_kernel_dtype(out)], (long long)s->rows,
               (long long)s->cols, s->cap, in_place ? ", in place" : "");
    rows_make(c, &w, in, s->rows, s->cols, s->cap, in_place ? 'b' : 'i');
    coef = operand_strided(c, "coef", CADFT_DTYPE_F64, s->rows,
                           CADFT_COEF_STRIDE, CADFT_COEF_STRIDE, 'i');
    grad = grad_make(c, &w, out, in_place);
    for (int64_t r = 0; r < s->rows && !c->bench; r++) {
        a[r] = coef_of(c, &w, r);
        operand_set(coef, r, CADFT_COEF_LSE, a[r].lse);
        operand_set(coef, r, CADFT_COEF_A, a[r].a);
        operand_set(coef, r, CADFT_COEF_C, a[r].c);
        operand_set(coef, r, CADFT_COEF_LABEL, a[r].at_label);
    }
    for (case_start(c); case_again(c);)
        c->status = call_grad(c, &w, 0, s->rows, coef, grad);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < s->rows; r++) {
        ref_stats of = stats_of(&w, r);
        if (label_of(&w, r) == CADFT_ROW_SKIP)
            grad_look(c, &w, grad, r, NULL);
        else if (!of.nonfinite && of.unmasked)
            grad_look(c, &w, grad, r, &a[r]);
    }
    case_keep(c);
    allow_none(grad);
    allow(grad, first, rows);
    for (case_start(c); case_again(c);)
        c->status = call_grad(c, &w, first, rows, coef, grad);
    if (case_end(c))
        for (int64_t r = first; r < first + rows; r++)
            if (!stats_of(&w, r).nonfinite)
                expect_same(c, grad, r, 1);
}

static void check_grad(check *c)
{
    for (int d = 0; d < 3; d++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int i = 0; i < SHAPES; i++) {
                int32_t out = f32 ? CADFT_DTYPE_F32 : dtypes[d];
                if ((f32 && d == 0) ||
                    !supported(c, CADFT_OP_LOSS_ROW_GRAD, dtypes[d], out))
                    continue;
                grad_case(c, dtypes[d], out, &shapes[i], 0);
                if (!f32)
                    grad_case(c, dtypes[d], out, &shapes[i], 1);
            }
}

/* ------------------------------------------------------------- one sweep */

/* The gradient without weights, softmax - (1 - e) onehot - e / unmasked. */
static void
unit_look(check *c, struct rows *w, const operand *grad, int64_t r, double e)
{
    ref_stats s = stats_of(w, r);
    int64_t label = label_of(w, r);
    cadftk_row_grad a = {
        .a = 1, .label = label < 0 ? -1 : label, .softcap = w->args.softcap};
    double tail;
    if (label == CADFT_ROW_SKIP || s.nonfinite || s.unmasked == 0) {
        grad_look(c, w, grad, r, NULL);
        return;
    }
    tail = (double)log1pl(s.sum_rest);
    a.lse = (double)s.z_max + tail;
    a.c = e / (double)s.unmasked;
    a.at_label = expm1((double)(s.z_label - s.z_max) - tail) + e - a.c;
    grad_look(c, w, grad, r, &a);
}

static void unit_case(
    check *c, int32_t in, int32_t out, const struct shape *s, double smoothing)
{
    struct rows w;
    operand *stats, *grad;
    cadft_loss_grad_out args;
    uint32_t want = (uint32_t)rng_below(&c->random, 4);
    case_begin(c, "%s to %s [%lld, %lld], cap %g, smoothing %g",
               dtype_name[cadft__cpu_kernel_dtype(in)],
               dtype_name[cadft__cpu_kernel_dtype(out)], (long long)s->rows,
               (long long)s->cols, s->cap, smoothing);
    rows_make(c, &w, in, s->rows, s->cols, s->cap, 'i');
    stats = stats_make(c, &w);
    grad = grad_make(c, &w, out, 0);
    args = grad_args(grad, 0);
    if (smoothing > 0)
        want |= CADFT_WANT_SUM;
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_row_unit(c->context, NULL, &w.args, want, smoothing,
                                   stats->array, &args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < s->rows; r++) {
        if (label_of(&w, r) != CADFT_ROW_SKIP)
            stats_look(c, &w, stats, r, want);
        unit_look(c, &w, grad, r, smoothing);
    }
}

static void check_unit(check *c)
{
    for (int d = 0; d < 3; d++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int i = 0; i < SHAPES; i++) {
                int32_t out = f32 ? CADFT_DTYPE_F32 : dtypes[d];
                if (!cadft__device_has_unit(c->context, dtypes[d], out))
                    continue;
                unit_case(c, dtypes[d], out, &shapes[i], 0);
                unit_case(c, dtypes[d], out, &shapes[i], 0.1);
            }
}

/* ---------------------------------------------------------------- speed */

static const struct shape typical = {128, 49152, 0};

/* Bytes that have to pass. */
static double logit_bytes(double times)
{
    return times * 4 * (double)typical.rows * (double)typical.cols;
}

static double bench_stats(check *c)
{
    stats_case(c, CADFT_DTYPE_F32, &typical);
    return logit_bytes(1);
}

static double bench_grad(check *c)
{
    grad_case(c, CADFT_DTYPE_F32, CADFT_DTYPE_F32, &typical, 0);
    return logit_bytes(2);
}

static double bench_unit(check *c)
{
    unit_case(c, CADFT_DTYPE_F32, CADFT_DTYPE_F32, &typical, 0);
    return logit_bytes(2);
}

const slot loss_slots[] = {
    {SLOT_AT(loss_row_stats), LOSS, check_stats, bench_stats, "GB/s"},
    {SLOT_AT(loss_row_grad), LOSS, check_grad, bench_grad, "GB/s"},
    {SLOT_AT(loss_row_unit), LOSS_OPTIONAL, check_unit, bench_unit, "GB/s"},
    {0}};
