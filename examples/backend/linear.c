/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a table, matrix products, sums. */
#include "numbers.h"
#include "toy.h"

/* What rows_gather, rows_put and rows_add have in common. */
struct lookup {
    void *table;
    const int32_t *index;
    float *x;
};

static struct lookup look(const cadft_rows_args *a, cadft_error *error)
{
    struct lookup l = {
        .table = toy_rows(&a->table, a->table_rows, a->cols, a->table_stride,
                          a->table_dtype, error),
        .index = toy_rows(&a->index, 1, a->rows, 0, CADFT_DTYPE_I32, error),
        .x = toy_rows(&a->x, a->rows, a->cols, a->x_stride, CADFT_DTYPE_F32,
                      error),
    };
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        if (l.index[r] < 0 || l.index[r] >= a->table_rows)
            toy_fail(error, CADFT_E_BACKEND,
                     "toy device: index %d of a table of %lld rows", l.index[r],
                     (long long)a->table_rows);
    return l;
}

void toy_rows_gather(const void *args, cadft_error *error)
{
    const cadft_rows_args *a = args;
    struct lookup l = look(a, error);
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++)
            l.x[r * a->x_stride + i] = (float)toy_get(
                l.table, a->table_dtype, l.index[r] * a->table_stride + i);
}

void toy_rows_put(const void *args, cadft_error *error)
{
    const cadft_rows_args *a = args;
    struct lookup l = look(a, error);
    float *table = l.table;
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++)
            table[l.index[r] * a->table_stride + i] = l.x[r * a->x_stride + i];
}

void toy_rows_add(const void *args, cadft_error *error)
{
    const cadft_rows_args *a = args;
    struct lookup l = look(a, error);
    float *table = l.table;
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++)
            table[l.index[r] * a->table_stride + i] += l.x[r * a->x_stride + i];
}

void toy_matmul(const void *args, cadft_error *error)
{
    const cadft_matmul_args *g = args;
    int ta = g->a_transposed, tb = g->b_transposed;
    const float *a = toy_rows(&g->a, ta ? g->k : g->m, ta ? g->m : g->k,
                              g->a_stride, CADFT_DTYPE_F32, error);
    const void *b = toy_rows(&g->b, tb ? g->n : g->k, tb ? g->k : g->n,
                             g->b_stride, g->b_dtype, error);
    const void *bias =
        g->bias.base ? toy_rows(&g->bias, 1, g->n, 0, g->bias_dtype, error)
                     : NULL;
    float *c = toy_rows(&g->c, g->m, g->n, g->c_stride, CADFT_DTYPE_F32, error);
    /* elements from k to k + 1 */
    int64_t a_step = ta ? g->a_stride : 1, b_step = tb ? 1 : g->b_stride;
    for (int64_t m = 0; m < g->m && !error->code; m++)
        for (int64_t n = 0; n < g->n; n++) {
            int64_t a_at = ta ? m : m * g->a_stride;
            int64_t b_at = tb ? n * g->b_stride : n;
            double sum = g->accumulate ? (double)c[m * g->c_stride + n] : 0;
            if (bias)
                sum += toy_get(bias, g->bias_dtype, n);
            for (int64_t k = 0; k < g->k; k++)
                sum += (double)a[a_at + k * a_step] *
                       toy_get(b, g->b_dtype, b_at + k * b_step);
            c[m * g->c_stride + n] = (float)sum;
        }
}

void toy_add(const void *args, cadft_error *error)
{
    const cadft_add_args *a = args;
    const float *x =
        toy_rows(&a->x, a->rows, a->cols, a->x_stride, CADFT_DTYPE_F32, error);
    float *y =
        toy_rows(&a->y, a->rows, a->cols, a->y_stride, CADFT_DTYPE_F32, error);
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++)
            y[r * a->y_stride + i] += x[r * a->x_stride + i];
}

void toy_column_sum(const void *args, cadft_error *error)
{
    const cadft_add_args *a = args;
    const float *x =
        toy_rows(&a->x, a->rows, a->cols, a->x_stride, CADFT_DTYPE_F32, error);
    float *y = toy_rows(&a->y, 1, a->cols, 0, CADFT_DTYPE_F32, error);
    double *sum = toy_rows(&a->work, 1, a->cols, 0, CADFT_DTYPE_F64, error);
    if (error->code)
        return;
    for (int64_t i = 0; i < a->cols; i++)
        sum[i] = (double)y[i];
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < a->cols; i++)
            sum[i] += (double)x[r * a->x_stride + i];
    for (int64_t i = 0; i < a->cols; i++)
        y[i] = (float)sum[i];
}
