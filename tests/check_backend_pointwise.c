/* SPDX-License-Identifier: Apache-2.0 */
/* RMSNorm, rotary embedding, SwiGLU. */
#include <math.h>

#include "check_backend.h"

static const int32_t weights[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
static const char *const weight_name[] = {"f32", "bf16"};

/* ------------------------------------------------------------------ norm */

static const struct norm_shape {
    int64_t rows, groups, cols;
} norm_shapes[] = {{1, 1, 1},   {9, 1, 33},  {5, 3, 64},
                   {4, 2, 257}, {70, 1, 16}, {0, 2, 8}};

enum { NORM_SHAPES = sizeof norm_shapes / sizeof *norm_shapes };

enum { IN_PLACE = 1, NO_INV = 2, NO_Y = 4, NO_GRAD_WEIGHT = 8, RESIDUAL = 16 };

static cadft_norm_args norm_args(const struct norm_shape *s, int dtype)
{
    return (cadft_norm_args){.struct_size = sizeof(cadft_norm_args),
                             .weight_dtype = weights[dtype],
                             .rows = s->rows,
                             .groups = s->groups,
                             .cols = s->cols,
                             .eps = 1e-5};
}

static int32_t call_norm(check *c, const cadft_norm_args *args, int flags)
{
    if (flags & RESIDUAL)
        return cadft__device_add_norm(c->context, NULL, args, &c->error);
    return cadft__device_norm(c->context, NULL, args, &c->error);
}

struct norm {
    operand *x, *residual, *y, *weight, *inv;
    cadft_norm_args args;
};

/* With RESIDUAL, x as it is after the sum takes the place of what was sent:
 * the reference looks there. */
static void norm_look(check *c, const struct norm *w)
{
    int64_t cols = w->args.cols;
    double bound = sum_bound((double)cols);
    for (int64_t r = 0; r < w->args.rows; r++)
        for (int64_t g = 0; g < w->args.groups; g++) {
            double inv = ref_norm_inv(w->x, r, g, cols, w->args.eps);
            if (w->inv)
                expect(c, w->inv, r, g, inv, inv, bound);
            for (int64_t i = 0; i < cols; i++) {
                double want =
                    sent(w->x, r, g * cols + i) * inv * sent(w->weight, 0, i);
                expect(c, w->y, r, g * cols + i, want, fabs(want), bound);
            }
        }
}

static void look_sum(check *c, const struct norm *w)
{
    for (int64_t r = 0; r < w->x->rows; r++)
        for (int64_t i = 0; i < w->x->cols; i++) {
            double want = sent(w->x, r, i) + sent(w->residual, r, i);
            expect(c, w->x, r, i, want, fabs(want), ROUNDING);
            operand_set(w->x, r, i, (double)(float)want);
        }
}

static void
norm_case(check *c, const struct norm_shape *s, int dtype, int flags)
{
    int64_t width = s->groups * s->cols;
    int64_t first, part = part_of(s->rows, &first);
    struct norm w = {.args = norm_args(s, dtype)};
    case_begin(c, "[%lld, %lld, %lld] %s%s%s", (long long)s->rows,
               (long long)s->groups, (long long)s->cols, weight_name[dtype],
               flags & IN_PLACE ? ", in place" : "",
               flags & NO_INV ? ", no inv" : "");
    w.x = (flags & (IN_PLACE | RESIDUAL) ? operand_both : operand_in)(
        c, "x", CADFT_DTYPE_F32, s->rows, width);
    w.y = flags & IN_PLACE
              ? w.x
              : operand_out(c, "y", CADFT_DTYPE_F32, s->rows, width);
    w.weight = operand_in(c, "weight", weights[dtype], 1, s->cols);
    if (!(flags & NO_INV))
        w.inv = operand_strided(c, "inv", CADFT_DTYPE_F32, s->rows, s->groups,
                                s->groups, 'o');
    if (flags & RESIDUAL)
        w.residual = operand_strided(c, "residual", CADFT_DTYPE_F32, s->rows,
                                     width, w.x->stride, 'i');
    w.args.x = w.x->array;
    w.args.x_stride = w.x->stride;
    w.args.y = w.y->array;
    w.args.y_stride = w.y->stride;
    w.args.weight = w.weight->array;
    if (w.inv)
        w.args.inv = w.inv->array;
    if (w.residual)
        w.args.residual = w.residual->array;
    for (case_start(c); case_again(c);)
        c->status = call_norm(c, &w.args, flags);
    if (!case_end(c))
        return;
    if (w.residual) {
        look_sum(c, &w);
        norm_look(c, &w);
        return; /* what was sent is overwritten */
    }
    norm_look(c, &w);
    case_keep(c);
    w.args.rows = part;
    w.args.x = row_of(w.x, first);
    w.args.y = row_of(w.y, first);
    if (w.inv)
        w.args.inv = row_of(w.inv, first);
    for (case_start(c); case_again(c);)
        c->status = call_norm(c, &w.args, flags);
    if (case_end(c))
        expect_same(c, w.y, first, part);
}

static void check_norm(check *c)
{
    for (int i = 0; i < NORM_SHAPES; i++)
        for (int dtype = 0; dtype < 2; dtype++)
            for (int flags = 0; flags < 4; flags++)
                norm_case(c, &norm_shapes[i], dtype, flags);
}

static void check_add_norm(check *c)
{
    for (int i = 0; i < NORM_SHAPES; i++)
        for (int dtype = 0; dtype < 2; dtype++)
            for (int flags = 0; flags < 4; flags += 2)
                norm_case(c, &norm_shapes[i], dtype, flags | RESIDUAL);
}

/* ------------------------------------------------------------- norm_grad */

struct norm_grad {
    operand *x, *y, *weight, *inv, *grad_y, *grad_x, *grad_weight;
    cadft_norm_args args;
};

static void norm_grad_make(check *c,
                           struct norm_grad *w,
                           const struct norm_shape *s,
                           int dtype,
                           int flags)
{
    int64_t width = s->groups * s->cols;
    w->x = operand_in(c, "x", CADFT_DTYPE_F32, s->rows, width);
    w->grad_y = operand_in(c, "grad_y", CADFT_DTYPE_F32, s->rows, width);
    w->grad_x = operand_both(c, "grad_x", CADFT_DTYPE_F32, s->rows, width);
    w->weight = operand_in(c, "weight", weights[dtype], 1, s->cols);
    w->inv = operand_strided(c, "inv", CADFT_DTYPE_F32, s->rows, s->groups,
                             s->groups, 'i');
    if (!(flags & NO_Y))
        w->y = operand_strided(c, "y", CADFT_DTYPE_F32, s->rows, width,
                               w->grad_y->stride, 'o');
    if (!(flags & NO_GRAD_WEIGHT))
        w->grad_weight =
            operand_both(c, "grad_weight", CADFT_DTYPE_F32, 1, s->cols);
    w->args = norm_args(s, dtype);
    for (int64_t r = 0; r < s->rows && !c->bench; r++)
        for (int64_t g = 0; g < s->groups; g++)
            operand_set(w->inv, r, g,
                        ref_norm_inv(w->x, r, g, s->cols, w->args.eps));
    w->args.x = w->x->array;
    w->args.x_stride = w->x->stride;
    w->args.grad_y = w->grad_y->array;
    w->args.y_stride = w->grad_y->stride;
    w->args.grad_x = w->grad_x->array;
    w->args.grad_x_stride = w->grad_x->stride;
    w->args.weight = w->weight->array;
    w->args.inv = w->inv->array;
    if (w->y)
        w->args.y = w->y->array;
    if (w->grad_weight)
        w->args.grad_weight = w->grad_weight->array;
    w->args.work = operand_work(c, CADFT_OP_NORM_GRAD, &w->args);
}

static void norm_grad_look(check *c, const struct norm_grad *w)
{
    int64_t cols = w->args.cols, terms = w->args.rows * w->args.groups;
    for (int64_t i = 0; i < cols; i++) {
        value sum = {0, 0};
        if (w->grad_weight) {
            sum.want = sent(w->grad_weight, 0, i);
            sum.size = fabs(sum.want);
        }
        for (int64_t r = 0; r < w->args.rows; r++)
            for (int64_t g = 0; g < w->args.groups; g++) {
                int64_t at = g * cols + i;
                double inv = sent(w->inv, r, g), x = sent(w->x, r, at) * inv;
                value v = ref_norm_grad(w->x, w->grad_y, w->weight, inv, r, g,
                                        cols, i);
                double before = sent(w->grad_x, r, at);
                double y = x * sent(w->weight, 0, i);
                expect(c, w->grad_x, r, at, before + v.want,
                       fabs(before) + v.size, sum_bound((double)cols));
                if (w->y)
                    expect(c, w->y, r, at, y, fabs(y), sum_bound(1));
                sum.want += sent(w->grad_y, r, at) * x;
                sum.size += fabs(sent(w->grad_y, r, at) * x);
            }
        if (w->grad_weight)
            expect(c, w->grad_weight, 0, i, sum.want, sum.size,
                   sum_bound((double)terms + 1));
    }
}

/* Rows by themselves; the sum over rows is another one then. */
static void norm_grad_part(check *c, struct norm_grad *w)
{
    int64_t first, rows = part_of(w->args.rows, &first);
    case_keep(c);
    w->args.rows = rows;
    w->args.x = row_of(w->x, first);
    w->args.inv = row_of(w->inv, first);
    w->args.grad_y = row_of(w->grad_y, first);
    w->args.grad_x = row_of(w->grad_x, first);
    if (w->y)
        w->args.y = row_of(w->y, first);
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_norm_grad(c->context, NULL, &w->args, &c->error);
    if (!case_end(c))
        return;
    expect_same(c, w->grad_x, first, rows);
    if (w->y)
        expect_same(c, w->y, first, rows);
}

static void
norm_grad_case(check *c, const struct norm_shape *s, int dtype, int flags)
{
    struct norm_grad w = {0};
    case_begin(c, "[%lld, %lld, %lld] %s%s%s", (long long)s->rows,
               (long long)s->groups, (long long)s->cols, weight_name[dtype],
               flags & NO_Y ? ", no y" : "",
               flags & NO_GRAD_WEIGHT ? ", no grad_weight" : "");
    norm_grad_make(c, &w, s, dtype, flags);
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_norm_grad(c->context, NULL, &w.args, &c->error);
    if (!case_end(c))
        return;
    norm_grad_look(c, &w);
    norm_grad_part(c, &w);
}

static void check_norm_grad(check *c)
{
    static const struct norm_shape tall = {500, 2, 20};
    for (int i = 0; i < NORM_SHAPES; i++)
        for (int dtype = 0; dtype < 2; dtype++)
            for (int flags = 0; flags < 16; flags += NO_Y)
                norm_grad_case(c, &norm_shapes[i], dtype, flags);
    norm_grad_case(c, &tall, 1, 0);
}

/* ------------------------------------------------------------------ rope */

static void
rope_case(check *c, int64_t rows, int64_t groups, int64_t head_dim, int inverse)
{
    int64_t positions = 29, half = head_dim / 2;
    int64_t first, part = part_of(rows, &first);
    operand *x, *table, *indices;
    cadft_rope_args args;
    case_begin(c, "[%lld, %lld, %lld]%s", (long long)rows, (long long)groups,
               (long long)head_dim, inverse ? ", inverse" : "");
    x = operand_both(c, "x", CADFT_DTYPE_F32, rows, groups * head_dim);
    table = operand_strided(c, "table", CADFT_DTYPE_F32, positions, head_dim,
                            head_dim, 'i');
    indices = operand_index(c, "indices", rows, positions);
    args = (cadft_rope_args){.struct_size = sizeof args,
                             .inverse = inverse,
                             .x = x->array,
                             .table = table->array,
                             .indices = indices->array,
                             .rows = rows,
                             .groups = groups,
                             .head_dim = head_dim,
                             .x_stride = x->stride};
    for (case_start(c); case_again(c);)
        c->status = cadft__device_rope(c->context, NULL, &args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t i = 0; i < half; i++) {
                int64_t p = (int64_t)sent(indices, 0, r), at = g * head_dim + i;
                double cosine = sent(table, p, i);
                double sine = sent(table, p, half + i) * (inverse ? -1 : 1);
                double u = sent(x, r, at), v = sent(x, r, at + half);
                expect(c, x, r, at, u * cosine - v * sine,
                       fabs(u * cosine) + fabs(v * sine), sum_bound(2));
                expect(c, x, r, at + half, v * cosine + u * sine,
                       fabs(v * cosine) + fabs(u * sine), sum_bound(2));
            }
    case_keep(c);
    args.rows = part;
    args.x = row_of(x, first);
    args.indices.offset += 4 * (uint64_t)first;
    for (case_start(c); case_again(c);)
        c->status = cadft__device_rope(c->context, NULL, &args, &c->error);
    if (case_end(c))
        expect_same(c, x, first, part);
}

static void check_rope(check *c)
{
    for (int inverse = 0; inverse < 2; inverse++) {
        rope_case(c, 1, 1, 2, inverse);
        rope_case(c, 9, 3, 64, inverse);
        rope_case(c, 5, 2, 38, inverse);
        rope_case(c, 40, 1, 128, inverse);
        rope_case(c, 0, 2, 8, inverse);
    }
}

/* ---------------------------------------------------------------- swiglu */

struct swiglu {
    operand *gate, *up, *out, *grad_out, *grad_gate, *grad_up;
    cadft_swiglu_args args;
};

/* Gates of every size, also where exp(-x) leaves float32. */
static void spread(check *c, operand *gate)
{
    for (int64_t r = 0; r < gate->rows; r++)
        for (int64_t i = 0; i < gate->cols; i++)
            if (rng_below(&c->random, 4) == 0)
                operand_set(gate, r, i, 60 * (double)rng_bell(&c->random));
}

static cadft_array array_of(const operand *o)
{
    return o ? o->array : (cadft_array){NULL, 0};
}

static void swiglu_link(struct swiglu *w, int64_t rows, int64_t cols)
{
    w->args = (cadft_swiglu_args){
        .struct_size = sizeof w->args,
        .gate = w->gate->array,
        .up = w->up->array,
        .out = array_of(w->out),
        .grad_out = array_of(w->grad_out),
        .grad_gate = array_of(w->grad_gate),
        .grad_up = array_of(w->grad_up),
        .rows = rows,
        .cols = cols,
        .in_stride = w->gate->stride,
        .out_stride = w->grad_out ? w->grad_out->stride : w->out->stride};
}

/* exp(-x) to within a rounding per nat. */
static double sigmoid_bound(double x)
{
    return (16 + fabs(x)) * ROUNDING;
}

static void look_out(check *c, const struct swiglu *w, int64_t r, int64_t i)
{
    double x = sent(w->gate, r, i);
    double want = x * ref_sigmoid(x) * sent(w->up, r, i);
    expect(c, w->out, r, i, want, fabs(want), sigmoid_bound(x));
}

static void swiglu_case(check *c, int64_t rows, int64_t cols)
{
    struct swiglu w = {0};
    int64_t first, part = part_of(rows, &first);
    case_begin(c, "[%lld, %lld]", (long long)rows, (long long)cols);
    w.gate = operand_in(c, "gate", CADFT_DTYPE_F32, rows, cols);
    w.up = operand_strided(c, "up", CADFT_DTYPE_F32, rows, cols, w.gate->stride,
                           'i');
    w.out = operand_out(c, "out", CADFT_DTYPE_F32, rows, cols);
    spread(c, w.gate);
    swiglu_link(&w, rows, cols);
    for (case_start(c); case_again(c);)
        c->status = cadft__device_swiglu(c->context, NULL, &w.args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++)
            look_out(c, &w, r, i);
    case_keep(c);
    w.args.rows = part;
    w.args.gate = row_of(w.gate, first);
    w.args.up = row_of(w.up, first);
    w.args.out = row_of(w.out, first);
    for (case_start(c); case_again(c);)
        c->status = cadft__device_swiglu(c->context, NULL, &w.args, &c->error);
    if (case_end(c))
        expect_same(c, w.out, first, part);
}

static void check_swiglu(check *c)
{
    swiglu_case(c, 1, 1);
    swiglu_case(c, 9, 37);
    swiglu_case(c, 33, 256);
    swiglu_case(c, 0, 4);
}

/* IN_PLACE: gradients over gate and up, out over grad_out. */
static void swiglu_grad_case(check *c, int64_t rows, int64_t cols, int flags)
{
    struct swiglu w = {0};
    int over = flags & IN_PLACE;
    case_begin(c, "[%lld, %lld]%s%s", (long long)rows, (long long)cols,
               over ? ", in place" : "", flags & NO_Y ? ", no out" : "");
    w.gate = (over ? operand_both : operand_in)(c, "gate", CADFT_DTYPE_F32,
                                                rows, cols);
    w.up = operand_strided(c, "up", CADFT_DTYPE_F32, rows, cols, w.gate->stride,
                           over ? 'b' : 'i');
    w.grad_out = (over && !(flags & NO_Y) ? operand_both : operand_in)(
        c, "grad_out", CADFT_DTYPE_F32, rows, cols);
    w.grad_gate = w.gate;
    w.grad_up = w.up;
    if (!over) {
        w.grad_gate = operand_strided(c, "grad_gate", CADFT_DTYPE_F32, rows,
                                      cols, w.gate->stride, 'o');
        w.grad_up = operand_strided(c, "grad_up", CADFT_DTYPE_F32, rows, cols,
                                    w.gate->stride, 'o');
    }
    if (!(flags & NO_Y))
        w.out = over ? w.grad_out
                     : operand_strided(c, "out", CADFT_DTYPE_F32, rows, cols,
                                       w.grad_out->stride, 'o');
    spread(c, w.gate);
    swiglu_link(&w, rows, cols);
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_swiglu_grad(c->context, NULL, &w.args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++) {
            double x = sent(w.gate, r, i), u = sent(w.up, r, i);
            double g = sent(w.grad_out, r, i), s = ref_sigmoid(x);
            double miss = ref_sigmoid(-x), bound = sigmoid_bound(x);
            expect(c, w.grad_gate, r, i, g * u * s * (1 + x * miss),
                   fabs(g * u) * s * (1 + fabs(x) * miss), bound);
            expect(c, w.grad_up, r, i, g * x * s, fabs(g * x) * s, bound);
            if (w.out)
                look_out(c, &w, r, i);
        }
}

static void check_swiglu_grad(check *c)
{
    static const int flags[] = {0, IN_PLACE, NO_Y, IN_PLACE | NO_Y};
    for (int i = 0; i < 4; i++) {
        swiglu_grad_case(c, 1, 1, flags[i]);
        swiglu_grad_case(c, 9, 37, flags[i]);
        swiglu_grad_case(c, 33, 256, flags[i]);
        swiglu_grad_case(c, 0, 4, flags[i]);
    }
}

/* ---------------------------------------------------------------- speed */

enum { TOKENS = 256, HIDDEN = 576, INNER = 1536, HEADS = 9, HEAD_DIM = 64 };

static const struct norm_shape typical = {TOKENS, 1, HIDDEN};

static double bench_norm(check *c)
{
    norm_case(c, &typical, 1, 0);
    return 8.0 * TOKENS * HIDDEN;
}

static double bench_norm_grad(check *c)
{
    norm_grad_case(c, &typical, 1, NO_Y);
    return 16.0 * TOKENS * HIDDEN;
}

static double bench_add_norm(check *c)
{
    norm_case(c, &typical, 1, RESIDUAL);
    return 16.0 * TOKENS * HIDDEN;
}

static double bench_rope(check *c)
{
    rope_case(c, TOKENS, HEADS, HEAD_DIM, 0);
    return 8.0 * TOKENS * HEADS * HEAD_DIM;
}

static double bench_swiglu(check *c)
{
    swiglu_case(c, TOKENS, INNER);
    return 12.0 * TOKENS * INNER;
}

static double bench_swiglu_grad(check *c)
{
    swiglu_grad_case(c, TOKENS, INNER, IN_PLACE | NO_Y);
    return 20.0 * TOKENS * INNER;
}

const slot pointwise_slots[] = {
    {SLOT_AT(norm), MODEL, check_norm, bench_norm, "GB/s"},
    {SLOT_AT(norm_grad), MODEL, check_norm_grad, bench_norm_grad, "GB/s"},
    {SLOT_AT(add_norm), MODEL_OPTIONAL, check_add_norm, bench_add_norm, "GB/s"},
    {SLOT_AT(rope), MODEL, check_rope, bench_rope, "GB/s"},
    {SLOT_AT(swiglu), MODEL, check_swiglu, bench_swiglu, "GB/s"},
    {SLOT_AT(swiglu_grad), MODEL, check_swiglu_grad, bench_swiglu_grad, "GB/s"},
    {0}};
