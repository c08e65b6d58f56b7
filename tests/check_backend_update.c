/* SPDX-License-Identifier: Apache-2.0 */
/* An optimizer's slots: sums of squares, steps of AdamW and SGD. */
#include <math.h>

#include "check_backend.h"

static const int32_t types[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
static const char *const type_name[] = {"f32", "bf16"};

/* ----------------------------------------------------------- sum_squares */

static void squares_case(check *c, int dtype, int64_t n, double last)
{
    operand *x, *out;
    cadft_sum_squares_args args;
    long double sum = 0;
    case_begin(c, "%s [%lld], the last %g", type_name[dtype], (long long)n,
               last);
    x = operand_in(c, "x", types[dtype], 1, n);
    out = operand_out(c, "out", CADFT_DTYPE_F64, 1, 1);
    if (n > 0)
        operand_set(x, 0, n - 1, last);
    args = (cadft_sum_squares_args){.struct_size = sizeof args,
                                    .dtype = types[dtype],
                                    .x = x->array,
                                    .out = out->array,
                                    .n = n};
    args.work = operand_work(c, CADFT_OP_SUM_SQUARES, &args);
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_sum_squares(c->context, NULL, &args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t i = 0; i < n; i++)
        sum += (long double)sent(x, 0, i) * (long double)sent(x, 0, i);
    expect(c, out, 0, 0, (double)sum, (double)sum, (double)n * 0x1p-53);
}

/* Scratch that grows with n. */
static void squares_work(check *c)
{
    uint64_t most = 0;
    case_begin(c, "scratch");
    for (int64_t n = 0; n < (int64_t)1 << 40; n = 2 * n + 77) {
        cadft_sum_squares_args args = {
            .struct_size = sizeof args, .dtype = CADFT_DTYPE_BF16, .n = n};
        uint64_t bytes =
            cadft__device_work_bytes(c->context, CADFT_OP_SUM_SQUARES, &args);
        if (bytes < most)
            complain(c, "work_bytes is %llu for %lld elements, more for less",
                     (unsigned long long)bytes, (long long)n);
        most = bytes;
    }
}

static void check_squares(check *c)
{
    static const int64_t sizes[] = {0, 1, 7, 33, 1000, 70001};
    squares_work(c);
    for (int dtype = 0; dtype < 2; dtype++) {
        for (int i = 0; i < 6; i++)
            squares_case(c, dtype, sizes[i], 1.5);
        squares_case(c, dtype, 50, 3e38); /* beyond float32 */
        squares_case(c, dtype, 50, (double)NAN);
        squares_case(c, dtype, 50, -INFINITY);
    }
}

/* ---------------------------------------------------------------- updates */

enum { ADAMW, SGD };

enum { MASTER = 1, GRAD_BF16 = 2, MOMENTUM = 4, NESTEROV = 8 };

struct update {
    operand *value, *master, *grad, *m, *v;
    cadft_update_args args;
};

/* What is unusual, at the first elements: nothing at all; a masked bias; a
 * gradient whose square leaves float32; one that stays below it. */
static void set_unusual(struct update *w)
{
    static const double rows[4][4] = {{0, 0, 0, 0},
                                      {-INFINITY, 0, 0, 1},
                                      {1, 0x1p80, 0, 1},
                                      {1, 1e-30, 0, 0}};
    for (int64_t i = 0; i < 4 && w->args.n >= 8; i++) {
        operand_set(w->value, i, 0, rows[i][0]);
        if (w->master)
            operand_set(w->master, i, 0, rows[i][0]);
        operand_set(w->grad, i, 0, rows[i][1]);
        if (w->m)
            operand_set(w->m, i, 0, rows[i][2]);
        if (w->v)
            operand_set(w->v, i, 0, rows[i][3]);
    }
}

/* One array of the step, an element to a row: parts of it start anywhere. */
static operand *
array_of(check *c, const char *name, int32_t dtype, int64_t n, char kind)
{
    return operand_strided(c, name, dtype, n, 1, 1, kind);
}

static struct update
make_update(check *c, int op, int dtype, int64_t n, int flags)
{
    struct update w = {0};
    w.value = array_of(c, "value", types[dtype], n, 'b');
    w.grad = array_of(c, "grad", types[flags & GRAD_BF16 ? 1 : 0], n, 'i');
    w.args = (cadft_update_args){.struct_size = sizeof w.args,
                                 .value_dtype = w.value->dtype,
                                 .grad_dtype = w.grad->dtype,
                                 .nesterov = flags & NESTEROV ? 1 : 0,
                                 .value = w.value->array,
                                 .grad = w.grad->array,
                                 .n = n,
                                 .grad_scale = 0.37,
                                 .lr = 0.01,
                                 .weight_decay = 0.1,
                                 .beta1 = 0.9,
                                 .beta2 = 0.95,
                                 .eps = 1e-8,
                                 .correction1 = 1 - 0.9 * 0.9 * 0.9,
                                 .correction2 = 1 - 0.95 * 0.95 * 0.95};
    if (flags & MASTER) {
        w.master = array_of(c, "master", CADFT_DTYPE_F32, n, 'b');
        w.args.master = w.master->array;
    }
    if (op == ADAMW || flags & MOMENTUM) {
        w.m = array_of(c, "m", CADFT_DTYPE_F32, n, 'b');
        w.args.m = w.m->array;
    }
    if (op == ADAMW) {
        w.v = array_of(c, "v", CADFT_DTYPE_F32, n, 'b');
        w.args.v = w.v->array;
        for (int64_t i = 0; i < n; i++)
            operand_set(w.v, i, 0, fabs(sent(w.v, i, 0)));
    }
    set_unusual(&w);
    return w;
}

static int32_t call_update(check *c, int op, const cadft_update_args *args)
{
    return op == ADAMW ? cadft__device_adamw(c->context, NULL, args, &c->error)
                       : cadft__device_sgd(c->context, NULL, args, &c->error);
}

/* As float32 holds it, at the end of its range. */
static double held(double x)
{
    return (double)(float)x;
}

/* The weight is one term and the change the others, whose magnitudes are
 * summed; each side is rounded a few times. */
static void look_adamw(check *c, const struct update *w, int64_t i)
{
    const cadft_update_args *a = &w->args;
    double weight = sent(w->master ? w->master : w->value, i, 0);
    double g = a->grad_scale * sent(w->grad, i, 0);
    double m = sent(w->m, i, 0), v = sent(w->v, i, 0);
    double m_size = fabs(m) + (1 - a->beta1) * fabs(g), per_m, want;
    m = a->beta1 * m + (1 - a->beta1) * g;
    v = held(a->beta2 * v + (1 - a->beta2) * g * g);
    per_m = a->lr / a->correction1 / (sqrt(v) / sqrt(a->correction2) + a->eps);
    want = weight * (1 - a->lr * a->weight_decay) - per_m * m;
    expect(c, w->m, i, 0, m, m_size, 6 * ROUNDING);
    expect(c, w->v, i, 0, v, v, 8 * ROUNDING);
    if (w->master)
        expect(c, w->master, i, 0, want, fabs(weight) + per_m * m_size,
               16 * ROUNDING);
    expect(c, w->value, i, 0, want, fabs(weight) + per_m * m_size,
           16 * ROUNDING);
}

static void look_sgd(check *c, const struct update *w, int64_t i)
{
    const cadft_update_args *a = &w->args;
    double weight = sent(w->master ? w->master : w->value, i, 0);
    double g = a->grad_scale * sent(w->grad, i, 0), size = fabs(g);
    double change, want;
    if (isfinite(weight)) {
        g += a->weight_decay * weight;
        size += fabs(a->weight_decay * weight);
    }
    change = g;
    if (w->m) {
        double kept = a->beta1 * sent(w->m, i, 0);
        size += fabs(kept);
        expect(c, w->m, i, 0, kept + g, size, 8 * ROUNDING);
        change = a->nesterov ? g + a->beta1 * (kept + g) : kept + g;
        size *= 2;
    }
    want = weight - a->lr * change;
    size = fabs(weight) + a->lr * size;
    if (w->master)
        expect(c, w->master, i, 0, want, size, 16 * ROUNDING);
    expect(c, w->value, i, 0, want, size, 16 * ROUNDING);
}

/* Elements by themselves: the same bits. */
static void look_part(check *c, int op, const struct update *w)
{
    cadft_update_args args = w->args;
    int64_t first;
    args.n = part_of(w->args.n, &first);
    args.value = row_of(w->value, first);
    args.grad = row_of(w->grad, first);
    if (w->master)
        args.master = row_of(w->master, first);
    if (w->m)
        args.m = row_of(w->m, first);
    if (w->v)
        args.v = row_of(w->v, first);
    case_keep(c);
    for (case_start(c); case_again(c);)
        c->status = call_update(c, op, &args);
    if (!case_end(c))
        return;
    expect_same(c, w->value, first, args.n);
    if (w->m)
        expect_same(c, w->m, first, args.n);
    if (w->v)
        expect_same(c, w->v, first, args.n);
}

static void update_case(check *c, int op, int dtype, int64_t n, int flags)
{
    struct update w;
    case_begin(c, "%s%s, grad %s%s%s [%lld]", type_name[dtype],
               flags & MASTER ? " with master" : "",
               type_name[flags & GRAD_BF16 ? 1 : 0],
               flags & MOMENTUM ? ", momentum" : "",
               flags & NESTEROV ? ", nesterov" : "", (long long)n);
    w = make_update(c, op, dtype, n, flags);
    for (case_start(c); case_again(c);)
        c->status = call_update(c, op, &w.args);
    if (!case_end(c))
        return;
    for (int64_t i = 0; i < n; i++)
        if (op == ADAMW)
            look_adamw(c, &w, i);
        else
            look_sgd(c, &w, i);
    if (n > 0)
        look_part(c, op, &w);
}

static void check_update(check *c, int op)
{
    static const int64_t sizes[] = {0, 1, 7, 16, 33, 300, 20001};
    static const int rules[] = {0, MOMENTUM, MOMENTUM | NESTEROV};
    for (int dtype = 0; dtype < 2; dtype++)
        for (int flags = 0; flags <= (MASTER | GRAD_BF16); flags++)
            for (int i = 0; i < 7; i++)
                for (int rule = 0; rule < (op == SGD ? 3 : 1); rule++)
                    update_case(c, op, dtype, sizes[i], flags | rules[rule]);
}

static void check_adamw(check *c)
{
    check_update(c, ADAMW);
}

static void check_sgd(check *c)
{
    check_update(c, SGD);
}

/* ---------------------------------------------------------------- speed */

enum { ELEMENTS = 1536 * 576 };

static double bench_squares(check *c)
{
    squares_case(c, 0, ELEMENTS, 1);
    return 4.0 * ELEMENTS;
}

static double bench_adamw(check *c)
{
    update_case(c, ADAMW, 0, ELEMENTS, 0);
    return 28.0 * ELEMENTS;
}

static double bench_sgd(check *c)
{
    update_case(c, SGD, 0, ELEMENTS, MOMENTUM);
    return 20.0 * ELEMENTS;
}

const slot update_slots[] = {
    {SLOT_AT(sum_squares), OPTIMIZER, check_squares, bench_squares, "GB/s"},
    {SLOT_AT(adamw), OPTIMIZER, check_adamw, bench_adamw, "GB/s"},
    {SLOT_AT(sgd), OPTIMIZER, check_sgd, bench_sgd, "GB/s"},
    {0}};
