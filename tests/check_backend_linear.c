/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of tables, matrix products, sums of rows and of columns. */
#include <math.h>

#include "check_backend.h"

static const int32_t weights[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
static const char *const weight_name[] = {"f32", "bf16"};

/* ---------------------------------------------------------------- rows_* */

enum rows_kind { GATHER, PUT, ADD };

static int32_t
call_rows(check *c, enum rows_kind kind, const cadft_rows_args *args)
{
    switch (kind) {
    case GATHER:
        return cadft__device_rows_gather(c->context, NULL, args, &c->error);
    case PUT:
        return cadft__device_rows_put(c->context, NULL, args, &c->error);
    default:
        return cadft__device_rows_add(c->context, NULL, args, &c->error);
    }
}

/* Indices that differ. */
static void shuffle(check *c, operand *index)
{
    for (int64_t i = 0; i < index->cols; i++)
        operand_set(index, 0, i, (double)i);
    for (int64_t i = index->cols - 1; i > 0; i--) {
        int64_t j = rng_below(&c->random, i + 1);
        double x = sent(index, 0, i);
        operand_set(index, 0, i, sent(index, 0, j));
        operand_set(index, 0, j, x);
    }
}

/* What each row of the table is afterwards. */
static void look_table(check *c,
                       enum rows_kind kind,
                       const operand *table,
                       const operand *index,
                       const operand *x)
{
    for (int64_t t = 0; t < table->rows; t++)
        for (int64_t i = 0; i < table->cols; i++) {
            value v = {sent(table, t, i), fabs(sent(table, t, i))};
            int64_t terms = 0;
            for (int64_t r = 0; r < index->cols; r++) {
                if ((int64_t)sent(index, 0, r) != t)
                    continue;
                terms++;
                v.want = sent(x, r, i) + (kind == ADD ? v.want : 0);
                v.size += fabs(sent(x, r, i));
            }
            expect(c, table, t, i, v.want, v.size,
                   kind == ADD && terms ? sum_bound((double)terms) : 0);
        }
}

static void rows_case(check *c,
                      enum rows_kind kind,
                      int dtype,
                      int64_t table_rows,
                      int64_t rows,
                      int64_t cols)
{
    operand *table, *index, *x;
    cadft_rows_args args;
    case_begin(c, "%s table [%lld, %lld], %lld rows", weight_name[dtype],
               (long long)table_rows, (long long)cols, (long long)rows);
    table = (kind == GATHER ? operand_in : operand_both)(
        c, "table", weights[dtype], table_rows, cols);
    index = operand_index(c, "index", rows, table_rows);
    x = (kind == GATHER ? operand_out : operand_in)(c, "x", CADFT_DTYPE_F32,
                                                    rows, cols);
    if (kind == PUT)
        shuffle(c, index);
    args = (cadft_rows_args){.struct_size = sizeof args,
                             .table_dtype = weights[dtype],
                             .table = table->array,
                             .index = index->array,
                             .x = x->array,
                             .table_rows = table_rows,
                             .table_stride = table->stride,
                             .rows = rows,
                             .cols = cols,
                             .x_stride = x->stride};
    for (case_start(c); case_again(c);)
        c->status = call_rows(c, kind, &args);
    if (!case_end(c))
        return;
    if (kind != GATHER) {
        look_table(c, kind, table, index, x);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++)
            expect(c, x, r, i, sent(table, (int64_t)sent(index, 0, r), i), 1,
                   0);
}

static void check_gather(check *c)
{
    for (int dtype = 0; dtype < 2; dtype++) {
        rows_case(c, GATHER, dtype, 11, 40, 37);
        rows_case(c, GATHER, dtype, 1, 3, 1);
        rows_case(c, GATHER, dtype, 300, 5, 256);
        rows_case(c, GATHER, dtype, 4, 0, 8);
    }
}

static void check_put(check *c)
{
    rows_case(c, PUT, 0, 13, 13, 33);
    rows_case(c, PUT, 0, 40, 7, 64);
    rows_case(c, PUT, 0, 1, 1, 1);
    rows_case(c, PUT, 0, 4, 0, 8);
}

static void check_rows_add(check *c)
{
    rows_case(c, ADD, 0, 5, 60, 19);
    rows_case(c, ADD, 0, 1, 33, 1);
    rows_case(c, ADD, 0, 50, 9, 128);
    rows_case(c, ADD, 0, 4, 0, 8);
}

/* ---------------------------------------------------------------- matmul */

static struct mm {
    operand *a, *b, *c, *bias;
    cadft_matmul_args args;
} mm_make(check *c, int64_t m, int64_t n, int64_t k, int flags, int b_dtype)
{
    int ta = flags & 1, tb = flags >> 1 & 1, accumulate = flags >> 2 & 1;
    struct mm w = {0};
    w.a = operand_in(c, "a", CADFT_DTYPE_F32, ta ? k : m, ta ? m : k);
    w.b = operand_in(c, "b", weights[b_dtype], tb ? n : k, tb ? k : n);
    w.c = (accumulate ? operand_both : operand_out)(c, "c", CADFT_DTYPE_F32, m,
                                                    n);
    if (flags & 8)
        w.bias =
            operand_in(c, "bias", weights[b_dtype ^ (flags >> 4 & 1)], 1, n);
    w.args = (cadft_matmul_args){.struct_size = sizeof w.args,
                                 .a_transposed = ta,
                                 .b_transposed = tb,
                                 .b_dtype = weights[b_dtype],
                                 .bias_dtype =
                                     w.bias ? w.bias->dtype : CADFT_DTYPE_F32,
                                 .accumulate = accumulate,
                                 .a = w.a->array,
                                 .b = w.b->array,
                                 .c = w.c->array,
                                 .m = m,
                                 .n = n,
                                 .k = k,
                                 .a_stride = w.a->stride,
                                 .b_stride = w.b->stride,
                                 .c_stride = w.c->stride};
    if (w.bias)
        w.args.bias = w.bias->array;
    w.args.work = operand_work(c, CADFT_OP_MATMUL, &w.args);
    return w;
}

static void mm_rows(check *c, const struct mm *w, int64_t first, int64_t rows)
{
    cadft_matmul_args args = w->args;
    args.m = rows;
    args.a.offset +=
        4 * (uint64_t)(args.a_transposed ? first : first * args.a_stride);
    args.c = row_of(w->c, first);
    for (case_start(c); case_again(c);)
        c->status = cadft__device_matmul(c->context, NULL, &args, &c->error);
    if (case_end(c))
        expect_same(c, w->c, first, rows);
}

static void mm_column(check *c, const struct mm *w, int64_t n)
{
    cadft_matmul_args args = w->args;
    operand column = *w->c;
    uint64_t b_size = args.b_dtype == CADFT_DTYPE_F32 ? 4 : 2;
    uint64_t bias_size = args.bias_dtype == CADFT_DTYPE_F32 ? 4 : 2;
    args.n = 1;
    args.b.offset +=
        b_size * (uint64_t)(args.b_transposed ? n * args.b_stride : n);
    args.bias.offset += args.bias.base ? bias_size * (uint64_t)n : 0;
    args.c.offset += 4 * (uint64_t)n;
    column.array = args.c;
    column.cols = 1;
    for (case_start(c); case_again(c);)
        c->status = cadft__device_matmul(c->context, NULL, &args, &c->error);
    if (case_end(c))
        expect_same(c, &column, 0, args.m);
}

/* Elements of c by themselves. */
static void mm_part(check *c, const struct mm *w)
{
    int64_t first, rows = part_of(w->args.m, &first);
    case_keep(c);
    mm_rows(c, w, first, rows);
    mm_rows(c, w, first, 1);
    mm_column(c, w, w->args.n / 3);
}

static void
mm_case(check *c, int64_t m, int64_t n, int64_t k, int flags, int b_dtype)
{
    struct mm w;
    case_begin(c, "[%lld, %lld] = [.., %lld]%s x %s%s%s%s", (long long)m,
               (long long)n, (long long)k, flags & 1 ? "^T" : "",
               weight_name[b_dtype], flags & 2 ? "^T" : "",
               flags & 8 ? " + bias" : "", flags & 4 ? ", accumulate" : "");
    w = mm_make(c, m, n, k, flags, b_dtype);
    for (case_start(c); case_again(c);)
        c->status = cadft__device_matmul(c->context, NULL, &w.args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            value v = ref_matmul(&w.args, w.a, w.b, w.c, w.bias, i, j);
            expect(c, w.c, i, j, v.want, v.size, sum_bound((double)k + 2));
        }
    if (m > 0 && n > 0)
        mm_part(c, &w);
}

static void check_matmul(check *c)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1},   {1, 64, 48},  {7, 5, 3},     {17, 33, 31}, {64, 48, 80},
        {3, 130, 9}, {65, 17, 70}, {2, 257, 129}, {0, 8, 8}};
    int count = (int)(sizeof shapes / sizeof *shapes);
    for (int i = 0; i < count; i++)
        for (int flags = 0; flags < 32; flags++)
            for (int b_dtype = 0; b_dtype < 2; b_dtype++)
                if (!(flags & 16) || flags & 8) /* the bias's other type */
                    mm_case(c, shapes[i][0], shapes[i][1], shapes[i][2], flags,
                            b_dtype);
    mm_case(c, 5, 9, 2000, 2, 1);
    if (!c->quick)
        mm_case(c, 130, 140, 600, 2, 0);
}

/* -------------------------------------------------------- add, column_sum */

static void add_case(check *c, int64_t rows, int64_t cols)
{
    operand *x, *y;
    cadft_add_args args;
    int64_t first, part = part_of(rows, &first);
    case_begin(c, "[%lld, %lld]", (long long)rows, (long long)cols);
    x = operand_in(c, "x", CADFT_DTYPE_F32, rows, cols);
    y = operand_both(c, "y", CADFT_DTYPE_F32, rows, cols);
    args = (cadft_add_args){.struct_size = sizeof args,
                            .x = x->array,
                            .y = y->array,
                            .rows = rows,
                            .cols = cols,
                            .x_stride = x->stride,
                            .y_stride = y->stride};
    for (case_start(c); case_again(c);)
        c->status = cadft__device_add(c->context, NULL, &args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++) {
            double want = sent(x, r, i) + sent(y, r, i);
            expect(c, y, r, i, want, fabs(want), ROUNDING);
        }
    case_keep(c);
    args.rows = part;
    args.x = row_of(x, first);
    args.y = row_of(y, first);
    for (case_start(c); case_again(c);)
        c->status = cadft__device_add(c->context, NULL, &args, &c->error);
    if (case_end(c))
        expect_same(c, y, first, part);
}

static void check_add(check *c)
{
    add_case(c, 1, 1);
    add_case(c, 9, 31);
    add_case(c, 40, 130);
    add_case(c, 0, 5);
}

static void sum_case(check *c, int64_t rows, int64_t cols)
{
    operand *x, *y;
    cadft_add_args args;
    case_begin(c, "[%lld, %lld]", (long long)rows, (long long)cols);
    x = operand_in(c, "x", CADFT_DTYPE_F32, rows, cols);
    y = operand_both(c, "y", CADFT_DTYPE_F32, 1, cols);
    args = (cadft_add_args){.struct_size = sizeof args,
                            .x = x->array,
                            .y = y->array,
                            .rows = rows,
                            .cols = cols,
                            .x_stride = x->stride,
                            .y_stride = y->stride};
    args.work = operand_work(c, CADFT_OP_COLUMN_SUM, &args);
    for (case_start(c); case_again(c);)
        c->status =
            cadft__device_column_sum(c->context, NULL, &args, &c->error);
    if (!case_end(c))
        return;
    for (int64_t i = 0; i < cols; i++) {
        value v = {sent(y, 0, i), fabs(sent(y, 0, i))};
        for (int64_t r = 0; r < rows; r++) {
            v.want += sent(x, r, i);
            v.size += fabs(sent(x, r, i));
        }
        expect(c, y, 0, i, v.want, v.size, sum_bound((double)rows + 1));
    }
}

static void check_column_sum(check *c)
{
    sum_case(c, 1, 1);
    sum_case(c, 7, 33);
    sum_case(c, 300, 130);
    sum_case(c, 3000, 5);
    sum_case(c, 0, 5);
}

/* ---------------------------------------------------------------- speed */

enum { TOKENS = 256, HIDDEN = 576, INNER = 1536, VOCABULARY = 49152 };

static double bench_gather(check *c)
{
    rows_case(c, GATHER, 1, VOCABULARY, TOKENS, HIDDEN);
    return 6.0 * TOKENS * HIDDEN;
}

static double bench_put(check *c)
{
    rows_case(c, PUT, 0, TOKENS, TOKENS, HIDDEN);
    return 8.0 * TOKENS * HIDDEN;
}

static double bench_rows_add(check *c)
{
    rows_case(c, ADD, 0, VOCABULARY, TOKENS, HIDDEN);
    return 12.0 * TOKENS * HIDDEN;
}

static double bench_matmul(check *c)
{
    mm_case(c, TOKENS, INNER, HIDDEN, 2, 1);
    return 2.0 * TOKENS * INNER * HIDDEN;
}

static double bench_add(check *c)
{
    add_case(c, TOKENS, HIDDEN);
    return 12.0 * TOKENS * HIDDEN;
}

static double bench_column_sum(check *c)
{
    sum_case(c, TOKENS, HIDDEN);
    return 4.0 * TOKENS * HIDDEN;
}

const slot linear_slots[] = {
    {SLOT_AT(rows_gather), MODEL, check_gather, bench_gather, "GB/s"},
    {SLOT_AT(rows_put), MODEL, check_put, bench_put, "GB/s"},
    {SLOT_AT(rows_add), MODEL, check_rows_add, bench_rows_add, "GB/s"},
    {SLOT_AT(matmul), MODEL, check_matmul, bench_matmul, "GFLOP/s"},
    {SLOT_AT(add), MODEL, check_add, bench_add, "GB/s"},
    {SLOT_AT(column_sum), MODEL, check_column_sum, bench_column_sum, "GB/s"},
    {0}};
