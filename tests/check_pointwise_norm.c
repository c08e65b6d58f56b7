/* SPDX-License-Identifier: Apache-2.0 */
/* RMSNorm, with residual and backwards, and column sums against float64. See
 * check_slots.h. */
#include "check_slots.h"

#include <math.h>
#include <string.h>

typedef struct norm_size {
    int64_t rows, groups, cols;
} norm_size;

#define SHORT 70
#define SIZES (SHORT + 8)
#define EPS 1e-5

static norm_size pick_size(check_bed *bed, int i)
{
    /* the last ones are worth splitting; 4500 rows have blocks that grew */
    static const norm_size large[SIZES - SHORT] = {
        {3, 1, 576},   {5, 1, 577},  {0, 2, 33},   {7, 9, 64},
        {400, 1, 577}, {300, 3, 80}, {600, 40, 9}, {4500, 1, 33}};
    norm_size s = {1 + check_below(bed, 70), 1 + check_below(bed, 3), i + 1};
    return i < SHORT ? s : large[i - SHORT];
}

static int64_t pick_gap(check_bed *bed)
{
    return check_below(bed, 3) ? check_below(bed, 20) : 0;
}

/* Error of a sum of n terms, relative to the sum of their magnitudes, where
 * the backend may take it in float32. */
static double sum_error(const check_bed *bed, double n)
{
    return bed->tight ? 0.0 : CHECK_U * (n + 4);
}

/* -------------------------------------------------------------- forward */

typedef struct norm_arrays {
    check_mat *x, *residual, *y, *weight, *inv;
} norm_arrays;

/* Ordinary rows, and a row of zeros, one with NaN, and at the built-in
 * backend rows whose squares leave float32. */
static void fill_rows(check_stage *stage, check_mat *x)
{
    static const float scale[] = {1.0f, 1.0f,  30.0f, 1e-3f,
                                  0.0f, 1e25f, 1e-25f};
    for (int64_t r = 0; r < x->rows; r++) {
        int kind = (int)check_below(stage->bed, stage->bed->tight ? 7 : 5);
        for (int64_t c = 0; c < x->cols; c++)
            check_set(x, r, c, (double)(scale[kind] * check_bell(stage->bed)));
    }
    if (x->rows > 2)
        check_set(x, 1, 0, (double)NAN);
}

static float residual_sum(const norm_arrays *a, int64_t r, int64_t c)
{
    float x = (float)check_get(a->x, r, c);
    return a->residual ? x + (float)check_get(a->residual, r, c) : x;
}

/* One vector: row r, group g. */
static void
expect_vector(const check_bed *bed, norm_arrays *a, int64_t r, int64_t g)
{
    int64_t n = a->weight->cols;
    double sum = 0, inv, error = sum_error(bed, (double)n);
    for (int64_t c = 0; c < n; c++) {
        double x = (double)residual_sum(a, r, g * n + c);
        sum += x * x;
    }
    inv = 1 / sqrt(sum / (double)n + EPS);
    if (a->inv)
        check_want(a->inv, r, g, inv, (error + 1.01 * CHECK_U) * inv + 1e-44);
    for (int64_t c = 0; c < n; c++) {
        double x = (double)residual_sum(a, r, g * n + c);
        double y = x * inv * check_get(a->weight, 0, c);
        if (a->residual)
            check_want(a->x, r, g * n + c, x, 0.0);
        check_want(a->y, r, g * n + c, y,
                   (error + 3.02 * CHECK_U) * fabs(y) + 1e-44);
    }
}

enum { IN_PLACE = 1, WITH_INV = 2, RESIDUAL = 4 };

static norm_arrays
norm_new(check_stage *stage, norm_size s, int32_t weight_dtype, int flags)
{
    check_bed *bed = stage->bed;
    int64_t width = s.groups * s.cols, stride = width + pick_gap(bed);
    norm_arrays a;
    memset(&a, 0, sizeof a);
    a.x = check_new(stage, "x", CADFT_DTYPE_F32, s.rows, width, stride);
    a.y = a.x;
    if (!(flags & IN_PLACE))
        a.y = check_new(stage, "y", CADFT_DTYPE_F32, s.rows, width,
                        width + pick_gap(bed));
    if (flags & RESIDUAL)
        a.residual = check_new(stage, "residual", CADFT_DTYPE_F32, s.rows,
                               width, stride);
    a.weight = check_new(stage, "weight", weight_dtype, 1, s.cols, s.cols);
    if (flags & WITH_INV)
        a.inv = check_new(stage, "inv", CADFT_DTYPE_F32, s.rows, s.groups,
                          s.groups);
    fill_rows(stage, a.x);
    if (a.residual)
        fill_rows(stage, a.residual);
    check_fill(stage, a.weight, 1.0f);
    return a;
}

static void norm_expect(const check_bed *bed, norm_arrays *a)
{
    check_written(a->y);
    if (a->residual)
        check_written(a->x);
    if (a->inv)
        check_written(a->inv);
    for (int64_t r = 0; r < a->x->rows; r++)
        for (int64_t g = 0; g < a->x->cols / a->weight->cols; g++)
            expect_vector(bed, a, r, g);
}

static void
norm_case(check_bed *bed, norm_size s, int32_t weight_dtype, int flags)
{
    check_stage stage;
    cadft_error error = check_error();
    norm_arrays a;
    int32_t status;
    check_open(&stage, bed, "%s%s%s weight %s [%lld, %lld, %lld]",
               flags & RESIDUAL ? "add_norm" : "norm",
               flags & IN_PLACE ? " in place" : "",
               flags & WITH_INV ? " with inv" : "",
               weight_dtype == CADFT_DTYPE_BF16 ? "bf16" : "f32",
               (long long)s.rows, (long long)s.groups, (long long)s.cols);
    a = norm_new(&stage, s, weight_dtype, flags);
    norm_expect(bed, &a);
    check_send(&stage);
    cadft_norm_args args = {
        .struct_size = sizeof args,
        .weight_dtype = weight_dtype,
        .x = check_array(a.x),
        .residual = check_array(a.residual),
        .y = check_array(a.y),
        .weight = check_array(a.weight),
        .inv = check_array(a.inv),
        .rows = s.rows,
        .groups = s.groups,
        .cols = s.cols,
        .x_stride = a.x->stride,
        .y_stride = a.y->stride,
        .eps = EPS,
    };
    if (flags & RESIDUAL)
        status =
            bed->backend->add_norm(bed->device, bed->stream, &args, &error);
    else
        status = bed->backend->norm(bed->device, bed->stream, &args, &error);
    check_fetch(&stage, status, &error);
    check_close(&stage);
}

/* ------------------------------------------------------------- backward */

typedef struct grad_arrays {
    check_mat *x, *grad_y, *grad_x, *y, *weight, *inv, *grad_weight, *work;
} grad_arrays;

/* inv is an input; any number near the truth will do. */
static double row_inv(const check_mat *x, int64_t r, int64_t from, int64_t n)
{
    double sum = 0;
    for (int64_t c = from; c < from + n; c++)
        sum += check_get(x, r, c) * check_get(x, r, c);
    return 1 / sqrt(sum / (double)n + EPS);
}

static void
expect_grad(const check_bed *bed, grad_arrays *a, int64_t r, int64_t g)
{
    int64_t n = a->weight->cols, at = g * n;
    double inv = check_get(a->inv, r, g), dot = 0, size = 0;
    for (int64_t c = 0; c < n; c++) {
        double term = check_get(a->grad_y, r, at + c) *
                      check_get(a->weight, 0, c) * check_get(a->x, r, at + c);
        dot += term / (double)n;
        size += fabs(term) / (double)n;
    }
    for (int64_t c = 0; c < n; c++) {
        double x = check_get(a->x, r, at + c),
               y = check_get(a->grad_y, r, at + c);
        double w = check_get(a->weight, 0, c), up = inv * y * w;
        double to = check_get(a->grad_x, r, at + c);
        double back = inv * inv * inv * fabs(x);
        double all = fabs(to + up - x * inv * inv * inv * dot);
        double slack =
            CHECK_U * (all + fabs(to + up) + 2 * fabs(up) + 4 * back * size);
        slack += sum_error(bed, (double)n) * back * size + 1e-40;
        check_want(a->grad_x, r, at + c, to + up - x * inv * inv * inv * dot,
                   slack);
        if (a->y)
            check_want(a->y, r, at + c, x * inv * w,
                       2.01 * CHECK_U * fabs(x * inv * w) + 1e-40);
        if (a->grad_weight) {
            a->grad_weight->want[c] += y * x * inv;
            a->grad_weight->tolerance[c] += fabs(y * x * inv);
        }
    }
}

/* tolerance holds the sum of magnitudes; a block of the built-in backend's
 * sums has 32 vectors, or rows / 128 of them. */
static void finish_sums(const check_bed *bed, check_mat *sum, double vectors)
{
    double longest = bed->tight ? fmax(40, vectors / 128 + 8) : vectors + 8;
    for (int64_t c = 0; c < sum->cols; c++)
        sum->tolerance[c] =
            CHECK_U * (longest * sum->tolerance[c] + fabs(sum->want[c])) +
            1e-40;
}

enum { WITH_Y = 1, WITH_WEIGHT = 2 };

static grad_arrays
grad_new(check_stage *stage, norm_size s, int32_t weight_dtype, int flags)
{
    check_bed *bed = stage->bed;
    int64_t width = s.groups * s.cols, y_stride = width + pick_gap(bed);
    grad_arrays a;
    memset(&a, 0, sizeof a);
    a.x = check_new(stage, "x", CADFT_DTYPE_F32, s.rows, width,
                    width + pick_gap(bed));
    a.grad_y =
        check_new(stage, "grad_y", CADFT_DTYPE_F32, s.rows, width, y_stride);
    a.grad_x = check_new(stage, "grad_x", CADFT_DTYPE_F32, s.rows, width,
                         width + pick_gap(bed));
    a.weight = check_new(stage, "weight", weight_dtype, 1, s.cols, s.cols);
    a.inv =
        check_new(stage, "inv", CADFT_DTYPE_F32, s.rows, s.groups, s.groups);
    if (flags & WITH_Y)
        a.y = check_new(stage, "y", CADFT_DTYPE_F32, s.rows, width, y_stride);
    if (flags & WITH_WEIGHT)
        a.grad_weight =
            check_new(stage, "grad_weight", CADFT_DTYPE_F32, 1, s.cols, s.cols);
    check_fill(stage, a.x, check_below(bed, 2) ? 1.0f : 20.0f);
    check_fill(stage, a.grad_y, 1.0f);
    check_fill(stage, a.grad_x, 0.5f);
    check_fill(stage, a.weight, 1.0f);
    if (a.grad_weight)
        check_fill(stage, a.grad_weight, 1.0f);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t g = 0; g < s.groups; g++)
            check_set(a.inv, r, g, row_inv(a.x, r, g * s.cols, s.cols));
    return a;
}

static void grad_expect(const check_bed *bed, grad_arrays *a)
{
    int64_t groups = a->inv->cols;
    check_written(a->grad_x);
    if (a->y)
        check_written(a->y);
    if (a->grad_weight)
        check_written(a->grad_weight);
    for (int64_t r = 0; r < a->x->rows; r++)
        for (int64_t g = 0; g < groups; g++)
            expect_grad(bed, a, r, g);
    if (a->grad_weight)
        finish_sums(bed, a->grad_weight, (double)(a->x->rows * groups));
}

static void
grad_case(check_bed *bed, norm_size s, int32_t weight_dtype, int flags)
{
    check_stage stage;
    cadft_error error = check_error();
    grad_arrays a;
    check_open(&stage, bed, "norm_grad%s%s weight %s [%lld, %lld, %lld]",
               flags & WITH_Y ? " with y" : "",
               flags & WITH_WEIGHT ? " with grad_weight" : "",
               weight_dtype == CADFT_DTYPE_BF16 ? "bf16" : "f32",
               (long long)s.rows, (long long)s.groups, (long long)s.cols);
    a = grad_new(&stage, s, weight_dtype, flags);
    grad_expect(bed, &a);
    cadft_norm_args args = {
        .struct_size = sizeof args,
        .weight_dtype = weight_dtype,
        .x = check_array(a.x),
        .y = check_array(a.y),
        .weight = check_array(a.weight),
        .inv = check_array(a.inv),
        .grad_y = check_array(a.grad_y),
        .grad_x = check_array(a.grad_x),
        .grad_weight = check_array(a.grad_weight),
        .rows = s.rows,
        .groups = s.groups,
        .cols = s.cols,
        .x_stride = a.x->stride,
        .y_stride = a.grad_y->stride,
        .grad_x_stride = a.grad_x->stride,
        .eps = EPS,
    };
    a.work = check_work(&stage, CADFT_OP_NORM_GRAD, &args, &args.rows);
    args.work = check_array(a.work);
    check_send(&stage);
    check_fetch(
        &stage,
        bed->backend->norm_grad(bed->device, bed->stream, &args, &error),
        &error);
    check_close(&stage);
}

/* ----------------------------------------------------------- column_sum */

static void sum_case(check_bed *bed, int64_t rows, int64_t cols)
{
    check_stage stage;
    cadft_error error = check_error();
    check_mat *x, *y, *work;
    check_open(&stage, bed, "column_sum [%lld, %lld]", (long long)rows,
               (long long)cols);
    x = check_new(&stage, "x", CADFT_DTYPE_F32, rows, cols,
                  cols + pick_gap(bed));
    y = check_new(&stage, "y", CADFT_DTYPE_F32, 1, cols, cols);
    check_fill(&stage, x, 1.0f);
    check_fill(&stage, y, 1.0f);
    check_written(y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            y->want[c] += check_get(x, r, c);
            y->tolerance[c] += fabs(check_get(x, r, c));
        }
    finish_sums(bed, y, (double)rows);
    cadft_add_args args = {
        .struct_size = sizeof args,
        .x = check_array(x),
        .y = check_array(y),
        .rows = rows,
        .cols = cols,
        .x_stride = x->stride,
        .y_stride = cols,
    };
    work = check_work(&stage, CADFT_OP_COLUMN_SUM, &args, &args.rows);
    args.work = check_array(work);
    check_send(&stage);
    check_fetch(
        &stage,
        bed->backend->column_sum(bed->device, bed->stream, &args, &error),
        &error);
    if (bed->tight && rows > 0) { /* without scratch: a sentence */
        memset(&args.work, 0, sizeof args.work);
        if (bed->backend->column_sum(bed->device, bed->stream, &args, &error) !=
                CADFT_E_NULL ||
            !strstr(error.message, "work"))
            check_fail(&stage, "absent work not refused");
    }
    check_close(&stage);
}

/* ------------------------------------------------------------- together */

void check_norms(check_bed *bed, uint64_t seed)
{
    static const int32_t dtype[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
    static const char *const name[][2] = {{"norm f32", "norm bf16"},
                                          {"add_norm f32", "add_norm bf16"},
                                          {"norm_grad f32", "norm_grad bf16"}};
    for (int d = 0; d < 2; d++) {
        check_begin(bed, name[0][d], seed);
        for (int i = 0; i < SIZES; i++)
            for (int flags = 0; flags < 4; flags++)
                norm_case(bed, pick_size(bed, i), dtype[d], flags);
        if (bed->backend->add_norm) {
            check_begin(bed, name[1][d], seed);
            for (int i = 0; i < SIZES; i++)
                for (int flags = 0; flags <= WITH_INV; flags += WITH_INV)
                    norm_case(bed, pick_size(bed, i), dtype[d],
                              flags | RESIDUAL);
        }
        check_begin(bed, name[2][d], seed);
        for (int i = 0; i < SIZES; i++)
            for (int flags = 0; flags < 4; flags++)
                grad_case(bed, pick_size(bed, i), dtype[d], flags);
    }
    check_begin(bed, "column_sum", seed);
    for (int i = 0; i < SIZES; i++) {
        norm_size s = pick_size(bed, i);
        sum_case(bed, s.rows, s.cols);
    }
}
