/* SPDX-License-Identifier: Apache-2.0 */
/* Rows by index, sums of rows, rotary embedding and SwiGLU against float64.
 * See check_slots.h. */
#include "check_slots.h"

#include <math.h>
#include <string.h>

/* Rows and columns of the cases: all short rows, a model's, and enough of
 * them that a backend which splits work does. */
typedef struct size {
    int64_t rows, cols;
} size;

#define SHORT 70
#define SIZES (SHORT + 6)

static size pick_size(check_bed *bed, int i)
{
    static const size large[SIZES - SHORT] = {
        {3, 576}, {5, 577}, {0, 33}, {400, 577}, {2100, 70}, {300, 1536}};
    size s = {1 + check_below(bed, 9), i + 1};
    return i < SHORT ? s : large[i - SHORT];
}

static int64_t pick_gap(check_bed *bed)
{
    return check_below(bed, 3) ? check_below(bed, 20) : 0;
}

/* ---------------------------------------------------------------- zero */

static void zero_case(check_bed *bed, int64_t count)
{
    check_stage stage;
    cadft_error error = check_error();
    cadft_array to;
    check_mat *x;
    check_open(&stage, bed, "mem_zero %lld", (long long)count);
    x = check_new(&stage, "memory", CADFT_DTYPE_BF16, 1, count, count);
    check_fill(&stage, x, 1.0f);
    check_written(x);
    for (int64_t c = 0; c < count; c++)
        check_want(x, 0, c, 0.0, 0.0);
    check_send(&stage);
    to = check_array(x);
    check_fetch(&stage,
                bed->backend->mem_zero(bed->device, bed->stream, &to,
                                       2 * (uint64_t)count, &error),
                &error);
    check_close(&stage);
}

/* ------------------------------------------------------- rows by index */

enum { GATHER, PUT, ADD };

/* Distinct for put; for add one row comes over and over. */
static void fill_index(check_bed *bed, check_mat *index, int op, int64_t rows)
{
    int64_t start = check_below(bed, rows);
    for (int64_t r = 0; r < index->cols; r++) {
        int64_t i = check_below(bed, rows);
        if (op == PUT)
            i = (start + 7 * r) % rows; /* rows is no multiple of 7 */
        else if (check_below(bed, 3) == 0)
            i = start;
        check_set(index, 0, r, (double)i);
    }
}

static void
expect_rows(check_mat *table, check_mat *x, check_mat *index, int op)
{
    check_mat *to = op == GATHER ? x : table;
    check_written(to);
    for (int64_t r = 0; r < x->rows; r++) {
        int64_t t = (int64_t)check_get(index, 0, r);
        for (int64_t c = 0; c < x->cols; c++) {
            double from =
                check_get(op == GATHER ? table : x, op == GATHER ? t : r, c);
            double *want = &to->want[(op == GATHER ? r : t) * to->cols + c];
            *want = op == ADD ? (double)((float)*want + (float)from) : from;
        }
    }
}

static int32_t
call_rows(check_bed *bed, int op, const cadft_rows_args *a, cadft_error *error)
{
    const cadft_backend *b = bed->backend;
    if (op == GATHER)
        return b->rows_gather(bed->device, bed->stream, a, error);
    if (op == PUT)
        return b->rows_put(bed->device, bed->stream, a, error);
    return b->rows_add(bed->device, bed->stream, a, error);
}

static void rows_case(check_bed *bed, int op, int32_t dtype, size s)
{
    static const char *const name[] = {"rows_gather", "rows_put", "rows_add"};
    check_stage stage;
    cadft_error error = check_error();
    check_mat *table, *x, *index;
    int64_t table_rows = s.rows + 1 + check_below(bed, 50);
    table_rows += table_rows % 7 == 0;
    check_open(&stage, bed, "%s %s [%lld, %lld]", name[op],
               dtype == CADFT_DTYPE_BF16 ? "bf16" : "f32", (long long)s.rows,
               (long long)s.cols);
    table = check_new(&stage, "table", dtype, table_rows, s.cols,
                      s.cols + pick_gap(bed));
    x = check_new(&stage, "x", CADFT_DTYPE_F32, s.rows, s.cols,
                  s.cols + pick_gap(bed));
    index = check_new(&stage, "index", CADFT_DTYPE_I32, 1, s.rows, s.rows);
    check_fill(&stage, table, 1.0f);
    check_fill(&stage, x, 0.01f);
    fill_index(bed, index, op, table_rows);
    expect_rows(table, x, index, op);
    check_send(&stage);
    cadft_rows_args args = {
        .struct_size = sizeof args,
        .table_dtype = dtype,
        .table = check_array(table),
        .index = check_array(index),
        .x = check_array(x),
        .table_rows = table_rows,
        .table_stride = table->stride,
        .rows = s.rows,
        .cols = s.cols,
        .x_stride = x->stride,
    };
    check_fetch(&stage, call_rows(bed, op, &args, &error), &error);
    check_close(&stage);
}

/* ----------------------------------------------------------------- add */

static void add_case(check_bed *bed, size s)
{
    check_stage stage;
    cadft_error error = check_error();
    check_mat *x, *y;
    check_open(&stage, bed, "add [%lld, %lld]", (long long)s.rows,
               (long long)s.cols);
    x = check_new(&stage, "x", CADFT_DTYPE_F32, s.rows, s.cols,
                  s.cols + pick_gap(bed));
    y = check_new(&stage, "y", CADFT_DTYPE_F32, s.rows, s.cols,
                  s.cols + pick_gap(bed));
    check_fill(&stage, x, 1.0f);
    check_fill(&stage, y, 3.0f);
    check_written(y);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.cols; c++)
            check_want(
                y, r, c,
                (double)((float)check_get(x, r, c) + (float)check_get(y, r, c)),
                0.0);
    check_send(&stage);
    cadft_add_args args = {
        .struct_size = sizeof args,
        .x = check_array(x),
        .y = check_array(y),
        .rows = s.rows,
        .cols = s.cols,
        .x_stride = x->stride,
        .y_stride = y->stride,
    };
    check_fetch(&stage,
                bed->backend->add(bed->device, bed->stream, &args, &error),
                &error);
    check_close(&stage);
}

/* ---------------------------------------------------------------- rope */

/* Cosines and sines need not belong together here. */
static void expect_rope(check_mat *x,
                        const check_mat *table,
                        const check_mat *index,
                        int64_t head_dim,
                        int inverse)
{
    int64_t half = head_dim / 2;
    check_written(x);
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t c = 0; c < x->cols; c++) {
            int64_t i = c % head_dim, p = (int64_t)check_get(index, 0, r);
            int upper = i >= half;
            double other = check_get(x, r, upper ? c - half : c + half);
            double cosine = check_get(table, p, upper ? i - half : i);
            double sine = check_get(table, p, upper ? i : i + half);
            double a = check_get(x, r, c) * cosine;
            double b = other * (upper == inverse ? -sine : sine);
            check_want(x, r, c, a + b, 2 * CHECK_U * (fabs(a) + fabs(b)));
        }
}

static void rope_case(check_bed *bed, size s, int64_t groups, int inverse)
{
    enum { POSITIONS = 11 };
    check_stage stage;
    cadft_error error = check_error();
    check_mat *x, *table, *index;
    int64_t head_dim = (s.cols + 1) / 2 * 2, cols = groups * head_dim;
    check_open(&stage, bed, "rope%s [%lld, %lld, %lld]",
               inverse ? " inverse" : "", (long long)s.rows, (long long)groups,
               (long long)head_dim);
    x = check_new(&stage, "x", CADFT_DTYPE_F32, s.rows, cols,
                  cols + pick_gap(bed));
    table = check_new(&stage, "table", CADFT_DTYPE_F32, POSITIONS, head_dim,
                      head_dim);
    index = check_new(&stage, "indices", CADFT_DTYPE_I32, 1, s.rows, s.rows);
    check_fill(&stage, x, 2.0f);
    check_fill(&stage, table, 0.5f);
    for (int64_t r = 0; r < s.rows; r++)
        check_set(index, 0, r, (double)check_below(bed, POSITIONS));
    expect_rope(x, table, index, head_dim, inverse);
    check_send(&stage);
    cadft_rope_args args = {
        .struct_size = sizeof args,
        .inverse = inverse,
        .x = check_array(x),
        .table = check_array(table),
        .indices = check_array(index),
        .rows = s.rows,
        .groups = groups,
        .head_dim = head_dim,
        .x_stride = x->stride,
    };
    check_fetch(&stage,
                bed->backend->rope(bed->device, bed->stream, &args, &error),
                &error);
    check_close(&stage);
}

/* -------------------------------------------------------------- swiglu */

/* From near 0 to where exp over- and underflows, and beyond. */
static void fill_gate(check_stage *stage, check_mat *gate)
{
    static const float scale[] = {0.01f, 1.0f, 8.0f, 55.0f, 1e4f};
    static const double odd[] = {0.0,   -0.0,   100.0,    -100.0,     88.0,
                                 -87.4, -103.9, -104.5,   1e38,       -1e38,
                                 1e-40, -1e-40, INFINITY, (double)NAN};
    check_bed *bed = stage->bed;
    for (int64_t r = 0; r < gate->rows; r++)
        for (int64_t c = 0; c < gate->cols; c++) {
            float scaled = scale[check_below(bed, 5)];
            double x = (double)(scaled * check_bell(bed));
            if (check_below(bed, 16) == 0)
                x = odd[check_below(bed, 14)];
            check_set(gate, r, c, x);
        }
}

/* Bounds of the kernels are in terms of u; a looser backend has an
 * exponential of a few ulp and may flush subnormals. */
static double ulps(const check_bed *bed, double tight)
{
    return CHECK_U * (bed->tight ? tight : 2 * tight + 8);
}

static double least(const check_bed *bed)
{
    return bed->tight ? 0x1p-142 : 0x1p-118;
}

/* silu, its derivative, and what the derivative's error is relative to. */
static void silu_of(double x, double *silu, double *slope, double *scale)
{
    double s = 1 / (1 + exp(-x)), rest = 1 / (1 + exp(x));
    *silu = x * s;
    *slope = s * (1 + x * rest);
    *scale = s * (1 + fabs(x) * rest);
}

static void swiglu_case(check_bed *bed, size s)
{
    check_stage stage;
    cadft_error error = check_error();
    int64_t stride = s.cols + pick_gap(bed);
    check_mat *gate, *up, *out;
    check_open(&stage, bed, "swiglu [%lld, %lld]", (long long)s.rows,
               (long long)s.cols);
    gate = check_new(&stage, "gate", CADFT_DTYPE_F32, s.rows, s.cols, stride);
    up = check_new(&stage, "up", CADFT_DTYPE_F32, s.rows, s.cols, stride);
    out = check_new(&stage, "out", CADFT_DTYPE_F32, s.rows, s.cols,
                    s.cols + pick_gap(bed));
    fill_gate(&stage, gate);
    check_fill(&stage, up, 1.0f);
    check_written(out);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t c = 0; c < s.cols; c++) {
            double silu, slope, scale, u = check_get(up, r, c);
            silu_of(check_get(gate, r, c), &silu, &slope, &scale);
            check_want(out, r, c, silu * u,
                       ulps(bed, 7) * fabs(silu * u) +
                           least(bed) * (1 + fabs(u)));
        }
    check_send(&stage);
    cadft_swiglu_args args = {
        .struct_size = sizeof args,
        .gate = check_array(gate),
        .up = check_array(up),
        .out = check_array(out),
        .rows = s.rows,
        .cols = s.cols,
        .in_stride = stride,
        .out_stride = out->stride,
    };
    check_fetch(&stage,
                bed->backend->swiglu(bed->device, bed->stream, &args, &error),
                &error);
    check_close(&stage);
}

/* What grad_gate, grad_up and out must become, the last absent or not. */
static void expect_swiglu_grad(const check_bed *bed,
                               const check_mat *gate,
                               const check_mat *up,
                               const check_mat *grad_out,
                               check_mat *to[3])
{
    for (int i = 0; i < 3; i++)
        if (to[i])
            check_written(to[i]);
    for (int64_t r = 0; r < gate->rows; r++)
        for (int64_t c = 0; c < gate->cols; c++) {
            double x = check_get(gate, r, c), silu, slope, scale;
            double u = check_get(up, r, c), g = check_get(grad_out, r, c);
            double tiny = least(bed) * (1 + fabs(g)) * (1 + fabs(u));
            silu_of(x, &silu, &slope, &scale);
            if (isinf(x)) /* inf * 0 */
                slope = (double)NAN;
            check_want(to[0], r, c, g * u * slope,
                       ulps(bed, 12) * fabs(g * u) * scale + tiny);
            check_want(to[1], r, c, g * silu,
                       ulps(bed, 8) * fabs(g * silu) + tiny);
            if (to[2])
                check_want(to[2], r, c, silu * u,
                           ulps(bed, 8) * fabs(silu * u) + tiny);
        }
}

static void swiglu_grad_case(check_bed *bed, size s, int in_place, int with_out)
{
    static const char *const names[] = {"gate",      "up",      "grad_out",
                                        "grad_gate", "grad_up", "out"};
    int64_t in = s.cols + pick_gap(bed), out = s.cols + pick_gap(bed);
    check_stage stage;
    cadft_error error = check_error();
    check_mat *m[6] = {NULL};
    check_open(&stage, bed, "swiglu_grad%s%s [%lld, %lld]",
               in_place ? " in place" : "", with_out ? " with out" : "",
               (long long)s.rows, (long long)s.cols);
    for (int i = 0; i < (in_place ? 3 : 6); i++)
        m[i] = check_new(&stage, names[i], CADFT_DTYPE_F32, s.rows, s.cols,
                         i == 2 || i == 5 ? out : in);
    fill_gate(&stage, m[0]);
    check_fill(&stage, m[1], 1.0f);
    check_fill(&stage, m[2], 1.0f);
    for (int i = 0; i < 3 && in_place; i++)
        m[i + 3] = m[i];
    if (!with_out)
        m[5] = NULL;
    expect_swiglu_grad(bed, m[0], m[1], m[2], m + 3);
    check_send(&stage);
    cadft_swiglu_args args = {
        .struct_size = sizeof args,
        .gate = check_array(m[0]),
        .up = check_array(m[1]),
        .grad_out = check_array(m[2]),
        .grad_gate = check_array(m[3]),
        .grad_up = check_array(m[4]),
        .out = check_array(m[5]),
        .rows = s.rows,
        .cols = s.cols,
        .in_stride = in,
        .out_stride = out,
    };
    check_fetch(
        &stage,
        bed->backend->swiglu_grad(bed->device, bed->stream, &args, &error),
        &error);
    check_close(&stage);
}

/* ------------------------------------------------------------- refusals */

/* An index outside the table, at the built-in backend. */
static void index_case(check_bed *bed, int op, int32_t value)
{
    check_stage stage;
    cadft_error error = check_error();
    check_mat *table, *x, *index;
    check_open(&stage, bed, "index %d of 4", value);
    table = check_new(&stage, "table", CADFT_DTYPE_F32, 4, 5, 5);
    x = check_new(&stage, "x", CADFT_DTYPE_F32, 3, 5, 5);
    index = check_new(&stage, "index", CADFT_DTYPE_I32, 1, 3, 3);
    check_set(index, 0, 1, value);
    check_send(&stage);
    cadft_rows_args args = {
        .struct_size = sizeof args,
        .table_dtype = CADFT_DTYPE_F32,
        .table = check_array(table),
        .index = check_array(index),
        .x = check_array(x),
        .table_rows = 4,
        .table_stride = 5,
        .rows = 3,
        .cols = 5,
        .x_stride = 5,
    };
    if (call_rows(bed, op, &args, &error) != CADFT_E_ARG ||
        !strstr(error.message, "index[1]"))
        check_fail(&stage, "not refused: %s", error.message);
    error = check_error();
    check_fetch(&stage, CADFT_OK, &error);
    check_close(&stage);
}

/* ------------------------------------------------------------- together */

static void check_rows(check_bed *bed, uint64_t seed)
{
    check_begin(bed, "mem_zero", seed);
    for (int64_t n = 0; n <= SHORT; n++)
        zero_case(bed, n);
    zero_case(bed, 1000003);
    check_begin(bed, "rows_gather f32", seed);
    for (int i = 0; i < SIZES; i++)
        rows_case(bed, GATHER, CADFT_DTYPE_F32, pick_size(bed, i));
    check_begin(bed, "rows_gather bf16", seed);
    for (int i = 0; i < SIZES; i++)
        rows_case(bed, GATHER, CADFT_DTYPE_BF16, pick_size(bed, i));
    check_begin(bed, "rows_put", seed);
    for (int i = 0; i < SIZES; i++)
        rows_case(bed, PUT, CADFT_DTYPE_F32, pick_size(bed, i));
    check_begin(bed, "rows_add", seed);
    for (int i = 0; i < SIZES; i++)
        rows_case(bed, ADD, CADFT_DTYPE_F32, pick_size(bed, i));
    check_begin(bed, "add", seed);
    for (int i = 0; i < SIZES; i++)
        add_case(bed, pick_size(bed, i));
    for (int op = GATHER; op <= ADD && bed->tight; op++) {
        index_case(bed, op, -1);
        index_case(bed, op, 4);
    }
}

int check_pointwise(check_bed *bed, uint64_t seed)
{
    check_rows(bed, seed);
    for (int inverse = 0; inverse < 2; inverse++) {
        check_begin(bed, inverse ? "rope inverse" : "rope", seed);
        for (int i = 0; i < SIZES; i++)
            rope_case(bed, pick_size(bed, i), 1 + i % 3, inverse);
    }
    check_begin(bed, "swiglu", seed);
    for (int i = 0; i < SIZES; i++)
        swiglu_case(bed, pick_size(bed, i));
    check_begin(bed, "swiglu_grad", seed);
    for (int i = 0; i < SIZES; i++)
        for (int k = 0; k < (i < SHORT ? 4 : 2); k++)
            swiglu_grad_case(bed, pick_size(bed, i), k & 1, (k >> 1) ^ (i & 1));
    check_norms(bed, seed);
    check_slopes(bed, seed);
    return bed->failures;
}
