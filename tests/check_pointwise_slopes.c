/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gradients against the forward operations themselves: with a random
 * cotangent v and direction d,
 *     sum(grad * d) = (L(x + h d) - L(x - h d)) / 2 h,   L(x) = sum(v * f(x))
 * to the central difference's h^2 and the float32 noise of f over h. And rope,
 * whose inverse must undo it. See check_slots.h.
 */
#include "check_slots.h"

#include <math.h>
#include <stdio.h>

#define STEP 0x1p-7
#define EPS 1e-5

/* A call of f, or of its gradient, as the cases below fill it in. */
typedef struct norm_point {
    check_stage stage;
    check_mat *x, *weight, *v, *inv, *y, *grad_x, *grad_weight, *work;
} norm_point;

static void shape_args(const norm_point *p, cadft_norm_args *args)
{
    *args = (cadft_norm_args){
        .struct_size = sizeof *args,
        .weight_dtype = CADFT_DTYPE_F32,
        .x = check_array(p->x),
        .weight = check_array(p->weight),
        .inv = check_array(p->inv),
        .rows = p->x->rows,
        .groups = p->inv->cols,
        .cols = p->weight->cols,
        .x_stride = p->x->stride,
        .y_stride = p->x->stride,
        .grad_x_stride = p->x->stride,
        .eps = EPS,
    };
}

static void read_back(check_stage *stage, check_mat *mat)
{
    const check_bed *bed = stage->bed;
    cadft_error error = check_error();
    cadft_array from = {mat->base, 0};
    if (bed->backend->copy_out(bed->device, bed->stream, mat->after, &from,
                               mat->bytes, &error))
        check_fail(stage, "copy_out: %s", error.message);
}

/* sum(v * got) */
static double weigh(const check_mat *v, const check_mat *got)
{
    double sum = 0;
    for (int64_t r = 0; r < v->rows; r++)
        for (int64_t c = 0; c < v->cols; c++)
            sum += check_get(v, r, c) * check_got(got, r, c);
    return sum;
}

static double length(const check_mat *d)
{
    double sum = 0;
    for (int64_t r = 0; r < d->rows; r++)
        for (int64_t c = 0; c < d->cols; c++)
            sum += check_get(d, r, c) * check_get(d, r, c);
    return sqrt(sum);
}

static void
step(check_mat *x, const check_mat *from, const check_mat *d, double h)
{
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t c = 0; c < x->cols; c++)
            check_set(x, r, c, check_get(from, r, c) + h * check_get(d, r, c));
}

/* `slope` from the gradient, `rise` = L(x + h d) - L(x - h d). */
static void
check_slope(check_stage *stage, double slope, double rise, double scale)
{
    double error = fabs(slope - rise / (2 * STEP));
    if (!(error <= 1e-3 * scale))
        check_fail(stage, "slope %.9g, difference %.9g, scale %.3g", slope,
                   rise / (2 * STEP), scale);
}

/* ---------------------------------------------------------------- norm */

static double norm_forward(norm_point *p)
{
    const check_bed *bed = p->stage.bed;
    cadft_error error = check_error();
    cadft_norm_args args;
    check_send(&p->stage);
    shape_args(p, &args);
    args.y = check_array(p->y);
    if (bed->backend->norm(bed->device, bed->stream, &args, &error))
        check_fail(&p->stage, "%s", error.message);
    read_back(&p->stage, p->y);
    return weigh(p->v, p->y);
}

/* x and weight as they were sent last; inv is that of the last forward. */
static void norm_backward(norm_point *p)
{
    const check_bed *bed = p->stage.bed;
    cadft_error error = check_error();
    cadft_norm_args args;
    shape_args(p, &args);
    args.grad_y = check_array(p->v);
    args.grad_x = check_array(p->grad_x);
    args.grad_weight = check_array(p->grad_weight);
    args.work = check_array(p->work);
    if (bed->backend->norm_grad(bed->device, bed->stream, &args, &error))
        check_fail(&p->stage, "%s", error.message);
    read_back(&p->stage, p->grad_x);
    read_back(&p->stage, p->grad_weight);
}

/* A vector near 0 turns quickly: the first element of each is at least 1. */
static void norm_slopes(check_bed *bed, int64_t groups, int64_t cols)
{
    enum { ROWS = 5 };
    int64_t width = groups * cols;
    norm_point p;
    cadft_norm_args args;
    check_mat *x0, *w0, *dx, *dw;
    double slope, rise, scale;
    check_open(&p.stage, bed, "slope of norm [%d, %lld, %lld]", ROWS,
               (long long)groups, (long long)cols);
#define NEW(name, r, c) check_new(&p.stage, name, CADFT_DTYPE_F32, r, c, c)
    p.x = NEW("x", ROWS, width), x0 = NEW("x0", ROWS, width);
    p.v = NEW("v", ROWS, width), dx = NEW("dx", ROWS, width);
    p.y = NEW("y", ROWS, width), p.grad_x = NEW("grad_x", ROWS, width);
    p.weight = NEW("weight", 1, cols), w0 = NEW("w0", 1, cols);
    p.grad_weight = NEW("grad_weight", 1, cols), dw = NEW("dw", 1, cols);
    p.inv = NEW("inv", ROWS, groups);
    check_fill(&p.stage, x0, 1.0f);
    for (int64_t i = 0; i < ROWS * groups; i++)
        check_set(x0, i / groups, i % groups * cols,
                  (double)(2 + check_bell(bed) / 2));
    check_fill(&p.stage, w0, 1.0f);
    check_fill(&p.stage, dx, 1.0f);
    check_fill(&p.stage, dw, 1.0f);
    check_fill(&p.stage, p.v, 1.0f);
    shape_args(&p, &args);
    p.work = check_work(&p.stage, CADFT_OP_NORM_GRAD, &args, &args.rows);
    step(p.x, x0, dx, STEP), step(p.weight, w0, dw, STEP);
    rise = norm_forward(&p);
    step(p.x, x0, dx, -STEP), step(p.weight, w0, dw, -STEP);
    rise -= norm_forward(&p);
    step(p.x, x0, dx, 0), step(p.weight, w0, dw, 0);
    norm_forward(&p);
    norm_backward(&p);
    slope = weigh(dx, p.grad_x) + weigh(dw, p.grad_weight);
    scale = length(p.v) * (length(dx) + length(dw));
    check_slope(&p.stage, slope, rise, scale);
    check_close(&p.stage);
}

/* -------------------------------------------------------------- swiglu */

typedef struct swiglu_point {
    check_stage stage;
    check_mat *gate, *up, *v, *out, *grad_gate, *grad_up;
} swiglu_point;

static void swiglu_call(swiglu_point *p, int backward)
{
    const check_bed *bed = p->stage.bed;
    const cadft_backend *b = bed->backend;
    cadft_error error = check_error();
    cadft_swiglu_args args = {
        .struct_size = sizeof args,
        .gate = check_array(p->gate),
        .up = check_array(p->up),
        .out = check_array(p->out),
        .grad_out = check_array(p->v),
        .grad_gate = check_array(p->grad_gate),
        .grad_up = check_array(p->grad_up),
        .rows = p->gate->rows,
        .cols = p->gate->cols,
        .in_stride = p->gate->stride,
        .out_stride = p->out->stride,
    };
    check_send(&p->stage);
    if (backward ? b->swiglu_grad(bed->device, bed->stream, &args, &error)
                 : b->swiglu(bed->device, bed->stream, &args, &error))
        check_fail(&p->stage, "%s", error.message);
    read_back(&p->stage, p->out);
    read_back(&p->stage, p->grad_gate);
    read_back(&p->stage, p->grad_up);
}

static void swiglu_slopes(check_bed *bed, int64_t cols)
{
    enum { ROWS = 5 };
    swiglu_point p;
    check_mat *g0, *u0, *dg, *du;
    double slope, rise, scale;
    check_open(&p.stage, bed, "slope of swiglu [%d, %lld]", ROWS,
               (long long)cols);
    p.gate = NEW("gate", ROWS, cols), g0 = NEW("gate0", ROWS, cols);
    p.up = NEW("up", ROWS, cols), u0 = NEW("up0", ROWS, cols);
    p.v = NEW("v", ROWS, cols), p.out = NEW("out", ROWS, cols);
    p.grad_gate = NEW("grad_gate", ROWS, cols);
    p.grad_up = NEW("grad_up", ROWS, cols);
    dg = NEW("dgate", ROWS, cols), du = NEW("dup", ROWS, cols);
    check_fill(&p.stage, g0, 3.0f);
    check_fill(&p.stage, u0, 1.0f);
    check_fill(&p.stage, dg, 1.0f);
    check_fill(&p.stage, du, 1.0f);
    check_fill(&p.stage, p.v, 1.0f);
    step(p.gate, g0, dg, STEP), step(p.up, u0, du, STEP);
    swiglu_call(&p, 0);
    rise = weigh(p.v, p.out);
    step(p.gate, g0, dg, -STEP), step(p.up, u0, du, -STEP);
    swiglu_call(&p, 0);
    rise -= weigh(p.v, p.out);
    step(p.gate, g0, dg, 0), step(p.up, u0, du, 0);
    swiglu_call(&p, 1);
    slope = weigh(dg, p.grad_gate) + weigh(du, p.grad_up);
    scale = length(p.v) * (length(dg) + length(du));
    check_slope(&p.stage, slope, rise, scale);
    check_close(&p.stage);
}

/* ---------------------------------------------------------------- rope */

/* True cosines and sines; there and back again. */
static void rope_returns(check_bed *bed, int64_t head_dim)
{
    enum { ROWS = 6, GROUPS = 3 };
    int64_t half = head_dim / 2;
    check_stage stage;
    cadft_error error = check_error();
    check_mat *x, *table, *indices;
    check_open(&stage, bed, "rope and back, head_dim %lld",
               (long long)head_dim);
    x = check_new(&stage, "x", CADFT_DTYPE_F32, ROWS, GROUPS * head_dim,
                  GROUPS * head_dim);
    table =
        check_new(&stage, "table", CADFT_DTYPE_F32, ROWS, head_dim, head_dim);
    indices = check_new(&stage, "indices", CADFT_DTYPE_I32, 1, ROWS, ROWS);
    check_fill(&stage, x, 1.0f);
    for (int64_t r = 0; r < ROWS; r++) {
        check_set(indices, 0, r, (double)(ROWS - 1 - r));
        for (int64_t i = 0; i < half; i++) {
            double angle =
                100 * (double)r * pow(1e4, -(double)i / (double)half);
            check_set(table, r, i, cos(angle));
            check_set(table, r, half + i, sin(angle));
        }
    }
    check_send(&stage);
    cadft_rope_args args = {
        .struct_size = sizeof args,
        .x = check_array(x),
        .table = check_array(table),
        .indices = check_array(indices),
        .rows = ROWS,
        .groups = GROUPS,
        .head_dim = head_dim,
        .x_stride = x->stride,
    };
    for (args.inverse = 0; args.inverse < 2; args.inverse++)
        if (bed->backend->rope(bed->device, bed->stream, &args, &error))
            check_fail(&stage, "%s", error.message);
    read_back(&stage, x);
    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = 0; c < x->cols; c++) {
            int64_t mate = c % head_dim < half ? c + half : c - half;
            double size =
                fabs(check_get(x, r, c)) + fabs(check_get(x, r, mate));
            double off = fabs(check_got(x, r, c) - check_get(x, r, c));
            if (!(off <= 8 * CHECK_U * size))
                check_fail(&stage, "x[%lld, %lld] is off by %g", (long long)r,
                           (long long)c, off);
        }
    check_close(&stage);
}

void check_slopes(check_bed *bed, uint64_t seed)
{
    static const int64_t cols[] = {1, 2, 7, 16, 33, 64, 100};
    bed->random = seed;
    for (int i = 0; i < 7; i++) {
        norm_slopes(bed, 1 + i % 3, cols[i]);
        swiglu_slopes(bed, cols[i]);
        rope_returns(bed, 2 * cols[i]);
    }
}
