/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of an optimizer against float64. See check_slots.h. */
#include "check_update.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check_slots.h"

/* All short lengths, some blocks of a sum, enough that work is split. */
#define SHORT 70
#define SIZES (SHORT + 7)

static int64_t pick_length(int i)
{
    static const int64_t large[SIZES - SHORT] = {
        577, 4095, 32767, 32768, 32769, 98304 + 17, 300007};
    return i < SHORT ? i : large[i - SHORT];
}

static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
static const char *const dtype_name[] = {"f32", "bf16"};

/* ------------------------------------------------------- sum of squares */

/* Any magnitude: squares from 0 to the end of float32 squared. */
static void fill_wild(check_stage *stage, check_mat *x)
{
    static const float scale[] = {1e-30f, 1e-3f, 1.0f, 1e5f, 1e38f};
    float most = scale[check_below(stage->bed, 5)];
    for (int64_t i = 0; i < x->cols; i++)
        check_set(x, 0, i, (double)(most * check_bell(stage->bed)));
}

/* In pieces, whose sums are added: to 2^-50 or so whatever n is. */
static double sum_of_squares(const check_mat *x)
{
    double all = 0, piece = 0;
    for (int64_t i = 0; i < x->cols; i++) {
        double value = check_get(x, 0, i);
        piece += value * value;
        if (i % 512 == 511) {
            all += piece;
            piece = 0;
        }
    }
    return all + piece;
}

/* special: an element that is none of the others', at a random place. */
static void
squares_case(check_bed *bed, int dtype, int64_t n, const double *special)
{
    check_stage stage;
    cadft_error error = check_error();
    check_mat *x, *out, *work;
    double sum;
    check_open(&stage, bed, "sum_squares %s [%lld]", dtype_name[dtype],
               (long long)n);
    x = check_new(&stage, "x", dtypes[dtype], 1, n, n);
    out = check_new(&stage, "out", CADFT_DTYPE_F64, 1, 1, 1);
    fill_wild(&stage, x);
    if (special)
        check_set(x, 0, check_below(bed, n), *special);
    sum = sum_of_squares(x);
    check_written(out);
    check_want(out, 0, 0, sum,
               sum * ((double)n / 512 + 600 + (double)n / 32) * 0x1p-53);
    cadft_sum_squares_args args = {
        .struct_size = sizeof args,
        .dtype = dtypes[dtype],
        .x = check_array(x),
        .out = check_array(out),
        .n = n,
    };
    work = check_work(&stage, CADFT_OP_SUM_SQUARES, &args, &args.n);
    args.work = check_array(work);
    check_send(&stage);
    check_fetch(
        &stage,
        bed->backend->sum_squares(bed->device, bed->stream, &args, &error),
        &error);
    check_close(&stage);
}

static void check_squares(check_bed *bed, uint64_t seed)
{
    static const double special[] = {INFINITY, -INFINITY, (double)NAN, 3e38};
    for (int dtype = 0; dtype < 2; dtype++) {
        check_begin(bed, dtype ? "sum_squares bf16" : "sum_squares f32", seed);
        for (int i = 0; i < SIZES; i++)
            squares_case(bed, dtype, pick_length(i), NULL);
        for (int i = 0; i < 16; i++)
            squares_case(bed, dtype, 1 + check_below(bed, 70000),
                         &special[i % 4]);
    }
}

/* -------------------------------------------------------------- updates */

enum { ADAMW, SGD };

/* What a case is made of, apart from its length. */
typedef struct kind {
    int op, value, grad; /* the last two into dtypes[] */
    int master, momentum, nesterov;
    int odd; /* subnormal, huge, infinite elements among the others */
} kind;

typedef struct arrays {
    check_mat *value, *master, *grad, *m, *v;
} arrays;

static double pick_one(check_bed *bed, const double *from, int64_t count)
{
    return from[check_below(bed, count)];
}

/* Scales that a training sees, and now and then a number that it does not.
 * bf16 is truncated by check_set: any number is one of its own. */
static void fill_grad(check_stage *stage, check_mat *grad, int odd)
{
    static const double scales[] = {1e-3, 1.0, 1e-8, 30.0};
    static const double odds[] = {0.0,  -0.0, 1e-40, -1e-45, 1e-23,
                                  1e15, 3e19, -1e20, 1e38};
    check_bed *bed = stage->bed;
    for (int64_t i = 0; i < grad->cols; i++) {
        double x = pick_one(bed, scales, 4) * (double)check_bell(bed);
        if (odd && check_below(bed, 8) == 0)
            x = pick_one(bed, odds, 9);
        check_set(grad, 0, i, x);
    }
}

static void fill_state(check_stage *stage, const arrays *a, int odd)
{
    static const double odd_m[] = {0.0, 1e-40, -1e-45, 1e30, -2e-38};
    static const double odd_v[] = {0.0, 1e-40, 1e-45, 1e30, INFINITY};
    check_bed *bed = stage->bed;
    for (int64_t i = 0; i < a->grad->cols; i++) {
        double m = 0.02 * (double)check_bell(bed);
        double v = m * m * (0.5 + 0.1 * (double)check_bell(bed));
        if (odd && check_below(bed, 8) == 0)
            m = pick_one(bed, odd_m, 5);
        if (odd && check_below(bed, 8) == 0)
            v = pick_one(bed, odd_v, 5);
        if (a->m)
            check_set(a->m, 0, i, m);
        if (a->v)
            check_set(a->v, 0, i, v);
    }
}

/* A weight that is infinite keeps its value while its gradient is 0. */
static void fill_weight(check_stage *stage, const arrays *a, int odd)
{
    static const double odds[] = {0.0, 1e-40, -1e-45, 1e30, -INFINITY};
    check_bed *bed = stage->bed;
    for (int64_t i = 0; i < a->grad->cols; i++) {
        double w = 2 * (double)check_bell(bed);
        if (odd && check_below(bed, 8) == 0)
            w = pick_one(bed, odds, 5);
        check_set(a->value, 0, i, w);
        if (a->master)
            check_set(a->master, 0, i, w);
        if (!isinf(w))
            continue;
        check_set(a->grad, 0, i, 0.0);
        if (a->m)
            check_set(a->m, 0, i, 0.0);
    }
}

static arrays make_arrays(check_stage *stage, const kind *k, int64_t n)
{
    arrays a = {NULL, NULL, NULL, NULL, NULL};
    a.value = check_new(stage, "value", dtypes[k->value], 1, n, n);
    a.grad = check_new(stage, "grad", dtypes[k->grad], 1, n, n);
    if (k->master)
        a.master = check_new(stage, "master", CADFT_DTYPE_F32, 1, n, n);
    if (k->op == ADAMW || k->momentum)
        a.m = check_new(stage, "m", CADFT_DTYPE_F32, 1, n, n);
    if (k->op == ADAMW)
        a.v = check_new(stage, "v", CADFT_DTYPE_F32, 1, n, n);
    fill_grad(stage, a.grad, k->odd);
    fill_state(stage, &a, k->odd);
    fill_weight(stage, &a, k->odd);
    return a;
}

/* Early and late steps, no decay, either side of beta1 = 1/2, a scale. */
static cadft_update_args
make_args(check_bed *bed, const kind *k, const arrays *a)
{
    static const double rates[] = {5e-5, 1e-3, 0.1, 0.0};
    static const double decays[] = {0.01, 0.0, 0.1};
    static const double means[] = {0.9, 0.0, 0.4, 0.99};
    static const double squares[] = {0.95, 0.999, 0.5};
    static const double steps[] = {1, 2, 50, 100000};
    static const double scales[] = {1.0, 0.0123, 0x1p-16, 3.0};
    double t = pick_one(bed, steps, 4);
    cadft_update_args args = {
        .struct_size = sizeof args,
        .value_dtype = dtypes[k->value],
        .grad_dtype = dtypes[k->grad],
        .nesterov = k->nesterov,
        .value = check_array(a->value),
        .master = check_array(a->master),
        .grad = check_array(a->grad),
        .m = check_array(a->m),
        .v = check_array(a->v),
        .n = a->value->cols,
        .grad_scale = pick_one(bed, scales, 4),
        .lr = pick_one(bed, rates, 4),
        .weight_decay = pick_one(bed, decays, 3),
        .beta1 = pick_one(bed, means, 4),
        .beta2 = pick_one(bed, squares, 3),
        .eps = 1e-8,
    };
    args.correction1 = 1 - pow(args.beta1, t);
    args.correction2 = 1 - pow(args.beta2, t);
    return args;
}

static void
expect_update(const kind *k, const arrays *a, const cadft_update_args *args)
{
    check_mat *const written[] = {a->value, a->master, a->m, a->v};
    for (int i = 0; i < 4; i++)
        if (written[i])
            check_written(written[i]);
    for (int64_t i = 0; i < args->n; i++) {
        update_element e = {
            .w = check_get(a->master ? a->master : a->value, 0, i),
            .grad = check_get(a->grad, 0, i),
            .m = a->m ? check_get(a->m, 0, i) : 0,
            .v = a->v ? check_get(a->v, 0, i) : 0,
        };
        update_result r = k->op == ADAMW ? update_adamw(args, &e)
                                         : update_sgd(args, &e, a->m != NULL);
        double more = r.w.tolerance + fabs(r.w.want);
        if (a->m)
            check_want(a->m, 0, i, r.m.want, r.m.tolerance);
        if (a->v)
            check_want(a->v, 0, i, r.v.want, r.v.tolerance);
        if (a->master)
            check_want(a->master, 0, i, r.w.want, r.w.tolerance);
        if (a->value->dtype == CADFT_DTYPE_BF16)
            r.w.tolerance += update_half_ulp_bf16(more);
        check_want(a->value, 0, i, r.w.want, r.w.tolerance);
    }
}

/* The value is the master, rounded. */
static void look_rounding(check_stage *stage, const arrays *a)
{
    int halves = a->value->dtype == CADFT_DTYPE_BF16;
    check_read(stage, a->value);
    check_read(stage, a->master);
    for (int64_t i = 0; i < a->value->cols; i++) {
        double w = check_got(a->master, 0, i), got = check_got(a->value, 0, i);
        double want = halves ? update_to_bf16(w) : w;
        if (got == want || (isnan(got) && isnan(want)))
            continue;
        check_fail(stage, "value[%lld] is %.9g, the master %.9g", (long long)i,
                   got, w);
        return;
    }
}

static int32_t call_update(check_bed *bed,
                           int op,
                           const cadft_update_args *args,
                           cadft_error *error)
{
    return op == ADAMW
               ? bed->backend->adamw(bed->device, bed->stream, args, error)
               : bed->backend->sgd(bed->device, bed->stream, args, error);
}

static void update_case(check_bed *bed, const kind *k, int64_t n)
{
    check_stage stage;
    cadft_error error = check_error();
    cadft_update_args args;
    int32_t status;
    arrays a;
    check_open(&stage, bed, "%s%s%s %s%s, grad %s%s [%lld]",
               k->op == ADAMW ? "adamw" : "sgd",
               k->op == SGD && k->momentum ? " momentum" : "",
               k->nesterov ? " nesterov" : "", dtype_name[k->value],
               k->master ? " master" : "", dtype_name[k->grad],
               k->odd ? " odd" : "", (long long)n);
    a = make_arrays(&stage, k, n);
    args = make_args(bed, k, &a);
    expect_update(k, &a, &args);
    check_send(&stage);
    status = call_update(bed, k->op, &args, &error);
    if (a.master)
        look_rounding(&stage, &a);
    check_fetch(&stage, status, &error);
    check_close(&stage);
}

/* --------------------------------------------------------- single numbers */

/* One element, repeated; what comes out is known. */
typedef struct single {
    const char *what;
    update_element before;
    double lr, eps, w, m, v; /* the last three afterwards */
} single;

static void single_case(check_bed *bed, const single *s, int value, int64_t n)
{
    static const kind plain = {.op = ADAMW};
    check_stage stage;
    cadft_error error = check_error();
    kind k = plain;
    arrays a;
    k.value = value;
    check_open(&stage, bed, "adamw, %s", s->what);
    a = make_arrays(&stage, &k, n);
    for (int64_t i = 0; i < n; i++) {
        check_set(a.value, 0, i, s->before.w);
        check_set(a.grad, 0, i, s->before.grad);
        check_set(a.m, 0, i, s->before.m);
        check_set(a.v, 0, i, s->before.v);
    }
    cadft_update_args args = make_args(bed, &k, &a);
    args.grad_scale = 1;
    args.lr = s->lr;
    args.weight_decay = 0.01;
    args.beta1 = 0.5;
    args.beta2 = 0.5;
    args.correction1 = args.correction2 = 0.5;
    args.eps = s->eps;
    check_written(a.value);
    check_written(a.m);
    check_written(a.v);
    for (int64_t i = 0; i < n; i++) {
        check_want(a.value, 0, i, s->w, 0);
        check_want(a.m, 0, i, s->m, 0);
        check_want(a.v, 0, i, s->v, 0);
    }
    check_send(&stage);
    check_fetch(&stage, call_update(bed, ADAMW, &args, &error), &error);
    check_close(&stage);
}

/* NaN where PyTorch has NaN, and where it has none, none. */
static void check_singles(check_bed *bed)
{
    const double nan = (double)NAN, inf = INFINITY;
    const single cases[] = {
        {"all zero", {0, 0, 0, 0}, 0.1, 1e-8, 0, 0, 0},
        {"eps 0 at rest", {1, 0, 0, 0}, 0.1, 0, nan, 0, 0},
        {"squares vanish, eps 0", {1, 0x1p-80, 0, 0}, 0.1, 0, -inf, 0x1p-81, 0},
        {"squares overflow", {1, 0x1p65, 0, 0}, 0, 1e-8, 1, 0x1p64, inf},
        {"overflow before", {1, 1, 1, inf}, 0, 1e-8, 1, 1, inf},
        {"a NaN", {1, nan, 0, 0}, 0.1, 1e-8, nan, nan, nan},
        {"a NaN for a weight", {nan, 1, 1, 1}, 0.1, 1e-8, nan, 1, 1},
        {"an infinite gradient", {1, inf, 0, 0}, 0.1, 1e-8, nan, nan, inf},
        {"a masked bias", {-inf, 0, 0, 0}, 0.1, 1e-8, -inf, 0, 0},
        {"a masked bias, eps 0", {inf, 0, 0, 1}, 0.1, 0, inf, 0, 0.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int value = 0; value < 2; value++) {
            single_case(bed, &cases[i], value, 5);
            single_case(bed, &cases[i], value, 48);
        }
}

/* A NaN whose bits bf16 does not hold, or that a rounding would carry over
 * into a number, stays one. */
static void nan_case(check_bed *bed, uint32_t bits)
{
    static const kind k = {.op = SGD, .value = 1};
    check_stage stage;
    cadft_error error = check_error();
    cadft_update_args args;
    arrays a;
    check_open(&stage, bed, "sgd bf16, NaN %08x", bits);
    a = make_arrays(&stage, &k, 40);
    memcpy(a.grad->before + a.grad->offset + 4 * 7, &bits, sizeof bits);
    args = make_args(bed, &k, &a);
    expect_update(&k, &a, &args);
    check_send(&stage);
    check_fetch(&stage, call_update(bed, SGD, &args, &error), &error);
    check_close(&stage);
}

/* ------------------------------------------------------------- refusals */

static void refused(check_stage *stage,
                    int32_t status,
                    int32_t expected,
                    const cadft_error *error,
                    const char *word)
{
    if (status != expected || !strstr(error->message, word))
        check_fail(stage, "status %d, \"%s\"", status, error->message);
}

static void check_refusals(check_bed *bed)
{
    static const kind k = {.op = ADAMW};
    const cadft_backend *b = bed->backend;
    check_stage stage;
    cadft_error error = check_error();
    arrays a;
    check_open(&stage, bed, "refusals");
    a = make_arrays(&stage, &k, 40);
    cadft_update_args args = make_args(bed, &k, &a);
    cadft_sum_squares_args squares = {.struct_size = sizeof squares,
                                      .dtype = CADFT_DTYPE_F16,
                                      .x = check_array(a.grad),
                                      .out = check_array(a.v),
                                      .n = 40};
    check_send(&stage);
    args.value_dtype = CADFT_DTYPE_F16;
    refused(&stage, b->adamw(bed->device, bed->stream, &args, &error),
            CADFT_E_DTYPE, &error, "parameter");
    args.value_dtype = CADFT_DTYPE_F32;
    args.grad_dtype = CADFT_DTYPE_F16;
    refused(&stage, b->sgd(bed->device, bed->stream, &args, &error),
            CADFT_E_DTYPE, &error, "gradient");
    refused(&stage, b->sum_squares(bed->device, bed->stream, &squares, &error),
            CADFT_E_DTYPE, &error, "squares");
    squares.dtype = CADFT_DTYPE_F32;
    squares.n = 1 << 20; /* refused before anything is read */
    refused(&stage, b->sum_squares(bed->device, bed->stream, &squares, &error),
            CADFT_E_NULL, &error, "work");
    error = check_error();
    check_fetch(&stage, CADFT_OK, &error); /* nothing was written */
    check_close(&stage);
}

/* ------------------------------------------------------------- together */

/* Every length with gradients of both types, usual and odd numbers; of long
 * arrays one of the four. The rules of sgd take turns. */
static void check_kind(check_bed *bed, const char *name, kind k, uint64_t seed)
{
    check_begin(bed, name, seed);
    for (int i = 0; i < SIZES; i++)
        for (int which = 0; which < 4; which++) {
            int rule = k.op == SGD ? (i + which) % 3 : 0;
            k.grad = which & 1;
            k.odd = which >> 1;
            k.momentum = rule > 0;
            k.nesterov = rule > 1;
            if (i < SHORT || i % 4 == which)
                update_case(bed, &k, pick_length(i));
        }
}

int check_updates(check_bed *bed, uint64_t seed)
{
    check_squares(bed, seed);
    for (int op = ADAMW; op <= SGD; op++)
        for (int value = 0; value < 2; value++)
            for (int master = 0; master < 2; master++) {
                kind k = {.op = op, .value = value, .master = master};
                char name[32];
                snprintf(name, sizeof name, "%s %s%s",
                         op == ADAMW ? "adamw" : "sgd", dtype_name[value],
                         master ? " master" : "");
                check_kind(bed, name, k, seed);
            }
    check_begin(bed, "updates of odd numbers", seed);
    check_singles(bed);
    nan_case(bed, 0x7fffffff);
    nan_case(bed, 0xffffffff);
    nan_case(bed, 0x7f800001);
    check_refusals(bed);
    return bed->failures;
}
