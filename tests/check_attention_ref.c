/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention in float64, element by element from the formulas, and first-order
 * bounds of what float32 may differ by. With u = 2^-24, n = dim:
 *   score      (n + 2) u sum |scale q k|, its product with scale included
 *   p          the score's, that of the largest score or lse it is taken
 *              from, 4e-7 for the exponential, u times its argument
 *   sums       u (terms + 70) sum |terms|: 64 keys and what rescales them
 */
#include "check_attention.h"

#include <math.h>
#include <stdlib.h>

#define FLUSHED 1e-38 /* a smaller p may count as 0 */

static const double u = 0x1p-24;
enum { REF_KEYS = 1024 }; /* longest sequence */

typedef struct row {
    double score[REF_KEYS], off[REF_KEYS], p[REF_KEYS];
} row;

static int64_t at(int64_t r, int64_t stride, int64_t head, int64_t dim)
{
    return r * stride + head * dim;
}

/* One query and head: q row, key row of the sequence, visible keys. */
typedef struct query {
    int64_t row, head, kv, lo, hi, key0;
} query;

static void scores(const attention_shape *s,
                   const attention_data *d,
                   const query *q,
                   row *w,
                   double *lse,
                   double *worst)
{
    const float *x = d->q + at(q->row, s->q_stride, q->head, s->dim);
    double top = -INFINITY, sum = 0;
    *worst = 0;
    for (int64_t j = q->lo; j < q->hi; j++) {
        const float *y = d->k + at(q->key0 + j, s->k_stride, q->kv, s->dim);
        double dot = 0, size = 0;
        for (int64_t i = 0; i < s->dim; i++) {
            dot += (double)x[i] * (double)y[i];
            size += fabs((double)x[i] * (double)y[i]);
        }
        w->score[j] = s->scale * dot;
        w->off[j] = ((double)s->dim + 2) * u * fabs(s->scale) * size;
        top = fmax(top, w->score[j]);
        *worst = fmax(*worst, w->off[j]);
    }
    for (int64_t j = q->lo; j < q->hi; j++)
        sum += exp(w->score[j] - top);
    *lse = top + log(sum);
    for (int64_t j = q->lo; j < q->hi; j++)
        w->p[j] = exp(w->score[j] - *lse);
}

/* Relative error of p_j. */
static double
p_error(const row *w, int64_t j, double lse, double worst, int grad)
{
    double far = fabs(w->score[j] - lse);
    return w->off[j] + worst + 4e-7 + 4 * u * far +
           (grad ? 2 * u * fabs(lse) : 0);
}

static void forward_query(const attention_shape *s,
                          const attention_data *d,
                          const query *q,
                          row *w,
                          attention_reference *ref)
{
    double lse, worst, off = 0;
    int64_t to = at(q->row, s->out_stride, q->head, s->dim);
    int64_t l = q->row * s->heads + q->head;
    scores(s, d, q, w, &lse, &worst);
    for (int64_t j = q->lo; j < q->hi; j++)
        off += w->p[j] * p_error(w, j, lse, worst, 0);
    ref->lse[l] = lse;
    ref->lse_bound[l] = worst + off + 70 * u + 2 * u * fabs(lse);
    for (int64_t i = 0; i < s->dim; i++) {
        double sum = 0, error = 0, size = 0;
        for (int64_t j = q->lo; j < q->hi; j++) {
            double v =
                (double)d->v[at(q->key0 + j, s->v_stride, q->kv, s->dim) + i];
            sum += w->p[j] * v;
            size += w->p[j] * fabs(v);
            error += w->p[j] * fabs(v) * p_error(w, j, lse, worst, 0);
        }
        ref->out[to + i] = sum;
        ref->out_bound[to + i] = error + (off + 140 * u) * size + 1e-37;
    }
}

/* ds of one score, and its bound. */
static void grad_score(const attention_shape *s,
                       const attention_data *d,
                       const query *q,
                       const row *w,
                       const attention_reference *ref,
                       int64_t j,
                       double p_off,
                       double *ds,
                       double *ds_off)
{
    int64_t to = at(q->row, s->out_stride, q->head, s->dim);
    const float *v = d->v + at(q->key0 + j, s->v_stride, q->kv, s->dim);
    double dp = 0, delta = 0, off = 0;
    for (int64_t i = 0; i < s->dim; i++) {
        double g = (double)d->grad_out[to + i], o = ref->out[to + i];
        dp += g * (double)v[i];
        delta += g * o;
        off +=
            ((double)s->dim + 4) * u * (fabs(g * (double)v[i]) + fabs(g * o)) +
            fabs(g) * ref->out_bound[to + i];
    }
    *ds = w->p[j] * (dp - delta);
    *ds_off = (w->p[j] * (p_off + 4 * u) + FLUSHED) * fabs(dp - delta) +
              w->p[j] * off;
}

static void grad_query(const attention_shape *s,
                       const attention_data *d,
                       const query *q,
                       row *w,
                       attention_reference *ref)
{
    double lse, worst, chain;
    int64_t to = at(q->row, s->out_stride, q->head, s->dim);
    int64_t qi = at(q->row, s->q_stride, q->head, s->dim);
    scores(s, d, q, w, &lse, &worst);
    chain = u * (double)(70 + q->hi - q->lo);
    for (int64_t j = q->lo; j < q->hi; j++) {
        int64_t ki = at(q->key0 + j, s->k_stride, q->kv, s->dim);
        int64_t vi = at(q->key0 + j, s->v_stride, q->kv, s->dim);
        double p_off = p_error(w, j, lse, worst, 1), ds, off;
        /* queries of every head and position add to a key's gradient */
        double many = u * (double)(70 + s->rows * s->heads / s->kv_heads);
        grad_score(s, d, q, w, ref, j, p_off, &ds, &off);
        for (int64_t i = 0; i < s->dim; i++) {
            double g = (double)d->grad_out[to + i];
            double x = s->scale * (double)d->q[qi + i];
            double y = s->scale * (double)d->k[ki + i];
            ref->grad_q[qi + i] += ds * y;
            ref->grad_q_bound[qi + i] +=
                fabs(y) * (off + chain * fabs(ds)) + 1e-37;
            ref->grad_k[ki + i] += ds * x;
            ref->grad_k_bound[ki + i] +=
                fabs(x) * (off + many * fabs(ds)) + 1e-37;
            ref->grad_v[vi + i] += w->p[j] * g;
            ref->grad_v_bound[vi + i] +=
                fabs(g) * (w->p[j] * (p_off + many) + FLUSHED) + 1e-37;
        }
    }
}

static double *zeros(size_t n)
{
    return (double *)calloc(n + 1, sizeof(double));
}

int attention_reference_make(const attention_shape *s,
                             const attention_data *d,
                             int grad,
                             attention_reference *ref)
{
    size_t q = attention_cells(s->rows, s->q_stride);
    size_t out = attention_cells(s->rows, s->out_stride);
    size_t lse = attention_cells(s->rows, s->heads);
    size_t k = attention_cells(s->key_rows, s->k_stride);
    size_t v = attention_cells(s->key_rows, s->v_stride);
    row *w = (row *)malloc(sizeof *w);
    *ref = (attention_reference){zeros(out), zeros(out), zeros(lse), zeros(lse),
                                 zeros(q),   zeros(q),   zeros(k),   zeros(k),
                                 zeros(v),   zeros(v)};
    for (int64_t i = 0; grad && i < s->sequences; i++)
        for (int64_t j = s->k_first[i]; j < s->k_first[i] + s->k_count[i]; j++)
            for (int64_t c = 0; c < s->kv_heads * s->dim; c++)
                ref->grad_k_bound[j * s->k_stride + c] =
                    ref->grad_v_bound[j * s->v_stride + c] = 1e-37;
    for (int64_t i = 0; w && i < s->sequences; i++) {
        int64_t n = s->q_first[i + 1] - s->q_first[i];
        for (int64_t t = 0; t < n * s->heads; t++) {
            int64_t p = s->k_count[i] - n + t / s->heads;
            query x = {.row = s->q_first[i] + t / s->heads,
                       .head = t % s->heads,
                       .hi = p + 1,
                       .key0 = s->k_first[i]};
            x.kv = x.head / (s->heads / s->kv_heads);
            x.lo = s->window && p - s->window + 1 > 0 ? p - s->window + 1 : 0;
            forward_query(s, d, &x, w, ref);
            if (grad)
                grad_query(s, d, &x, w, ref);
        }
    }
    free(w);
    return w != NULL;
}

void attention_reference_free(attention_reference *ref)
{
    double *all[] = {ref->out,         ref->out_bound,    ref->lse,
                     ref->lse_bound,   ref->grad_q,       ref->grad_q_bound,
                     ref->grad_k,      ref->grad_k_bound, ref->grad_v,
                     ref->grad_v_bound};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
