/* SPDX-License-Identifier: Apache-2.0 */
/* The operations in float64, from the formulas of cadft/backend.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "check_backend.h"

double sum_bound(double n)
{
    return (4 + 2 * sqrt(n)) * ROUNDING;
}

static void add(value *to, double term)
{
    to->want += term;
    to->size += fabs(term);
}

value ref_matmul(const cadft_matmul_args *args,
                 const operand *a,
                 const operand *b,
                 const operand *c,
                 const operand *bias,
                 int64_t m,
                 int64_t n)
{
    value sum = {0, 0};
    if (args->accumulate)
        add(&sum, sent(c, m, n));
    if (bias)
        add(&sum, sent(bias, 0, n));
    for (int64_t k = 0; k < args->k; k++)
        add(&sum, (args->a_transposed ? sent(a, k, m) : sent(a, m, k)) *
                      (args->b_transposed ? sent(b, n, k) : sent(b, k, n)));
    return sum;
}

/* ---------------------------------------------------------------- norm */

double ref_norm_inv(
    const operand *x, int64_t r, int64_t group, int64_t cols, double eps)
{
    double squares = 0;
    for (int64_t i = 0; i < cols; i++) {
        double e = sent(x, r, group * cols + i);
        squares += e * e;
    }
    return 1 / sqrt(squares / (double)cols + eps);
}

value ref_norm_grad(const operand *x,
                    const operand *grad_y,
                    const operand *weight,
                    double inv,
                    int64_t r,
                    int64_t group,
                    int64_t cols,
                    int64_t i)
{
    int64_t from = group * cols;
    value mean = {0, 0}, grad = {0, 0};
    double scale;
    for (int64_t j = 0; j < cols; j++)
        add(&mean, sent(grad_y, r, from + j) * sent(weight, 0, j) *
                       sent(x, r, from + j) / (double)cols);
    scale = sent(x, r, from + i) * inv * inv * inv;
    add(&grad, inv * sent(grad_y, r, from + i) * sent(weight, 0, i));
    grad.want -= scale * mean.want;
    grad.size += fabs(scale) * mean.size;
    return grad;
}

double ref_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* ----------------------------------------------------------- attention */

static value dot(const operand *x,
                 int64_t x_row,
                 int64_t x_at,
                 const operand *y,
                 int64_t y_row,
                 int64_t y_at,
                 int64_t n)
{
    value sum = {0, 0};
    for (int64_t i = 0; i < n; i++)
        add(&sum, sent(x, x_row, x_at + i) * sent(y, y_row, y_at + i));
    return sum;
}

ref_query ref_attend(const cadft_attention_args *args,
                     const operand *q,
                     const operand *k,
                     int64_t sequence,
                     int64_t query,
                     int64_t head)
{
    int64_t d = args->head_dim;
    int64_t queries = args->q_first[sequence + 1] - args->q_first[sequence];
    int64_t position = args->k_count[sequence] - queries + query;
    int64_t seen = position + 1;
    double max = -INFINITY, sum = 0;
    ref_query w = {.row = args->q_first[sequence] + query,
                   .head = head,
                   .key_head = head / (args->heads / args->kv_heads)};
    if (args->window && seen > args->window)
        seen = args->window;
    w.last = args->k_first[sequence] + position;
    w.first = w.last - seen + 1;
    w.p = malloc((size_t)seen * sizeof *w.p);
    if (!w.p) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    for (int64_t j = 0; j < seen; j++) {
        value score =
            dot(q, w.row, head * d, k, w.first + j, w.key_head * d, d);
        w.p[j] = args->scale * score.want;
        w.largest = fmax(w.largest, fabs(args->scale) * score.size);
        max = fmax(max, w.p[j]);
    }
    for (int64_t j = 0; j < seen; j++)
        sum += exp(w.p[j] - max);
    w.lse = max + log(sum);
    for (int64_t j = 0; j < seen; j++)
        w.p[j] = exp(w.p[j] - w.lse);
    return w;
}

value ref_attention_out(const ref_query *w,
                        const operand *v,
                        int64_t head_dim,
                        int64_t i)
{
    value sum = {0, 0};
    for (int64_t key = w->first; key <= w->last; key++)
        add(&sum,
            w->p[key - w->first] * sent(v, key, w->key_head * head_dim + i));
    return sum;
}

value ref_score_grad(const ref_query *w,
                     const operand *v,
                     const operand *out,
                     const operand *grad_out,
                     int64_t head_dim,
                     int64_t key)
{
    int64_t d = head_dim;
    double p = w->p[key - w->first];
    value with_v =
        dot(grad_out, w->row, w->head * d, v, key, w->key_head * d, d);
    value with_out =
        dot(grad_out, w->row, w->head * d, out, w->row, w->head * d, d);
    return (value){p * (with_v.want - with_out.want),
                   p * (with_v.size + with_out.size)};
}
