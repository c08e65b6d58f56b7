/* SPDX-License-Identifier: Apache-2.0 */
/* Attention without a matrix of scores: a query's keys are gone through once,
 * with the softmax's maximum, sum and output carried along and rescaled when
 * the maximum rises. */
#include "numbers.h"
#include "toy.h"

/* The arrays of a call as addresses; NULL those that it has not. */
struct views {
    const float *q, *k, *v, *grad_out;
    float *out, *lse, *grad_q, *grad_k, *grad_v;
    double *work; /* vectors of head_dim */
};

/* Where a sequence's rows are. */
struct sequence {
    int64_t q_first, queries, k_first, keys;
};

static struct sequence sequence(const cadft_attention_args *a, int64_t s)
{
    return (struct sequence){a->q_first[s], a->q_first[s + 1] - a->q_first[s],
                             a->k_first[s], a->k_count[s]};
}

/* The first position that the query at position p sees. */
static int64_t first_key(const cadft_attention_args *a, int64_t p)
{
    return a->window && p >= a->window ? p - a->window + 1 : 0;
}

static float *heads_of(const cadft_array *array,
                       int64_t rows,
                       int64_t heads,
                       int64_t stride,
                       const cadft_attention_args *a,
                       cadft_error *error)
{
    return array->base ? toy_rows(array, rows, heads * a->head_dim, stride,
                                  CADFT_DTYPE_F32, error)
                       : NULL;
}

static struct views views(const cadft_attention_args *a, cadft_error *error)
{
    int64_t rows = a->q_first[a->sequences], keys = 0;
    struct views w = {0};
    for (int64_t s = 0; s < a->sequences; s++)
        if (a->k_first[s] + a->k_count[s] > keys)
            keys = a->k_first[s] + a->k_count[s];
    w.q = heads_of(&a->q, rows, a->heads, a->q_stride, a, error);
    w.k = heads_of(&a->k, keys, a->kv_heads, a->k_stride, a, error);
    w.v = heads_of(&a->v, keys, a->kv_heads, a->v_stride, a, error);
    w.out = heads_of(&a->out, rows, a->heads, a->out_stride, a, error);
    w.grad_out =
        heads_of(&a->grad_out, rows, a->heads, a->out_stride, a, error);
    w.grad_q = heads_of(&a->grad_q, rows, a->heads, a->q_stride, a, error);
    w.grad_k = heads_of(&a->grad_k, keys, a->kv_heads, a->k_stride, a, error);
    w.grad_v = heads_of(&a->grad_v, keys, a->kv_heads, a->v_stride, a, error);
    if (a->lse.base)
        w.lse =
            toy_rows(&a->lse, rows, a->heads, a->heads, CADFT_DTYPE_F32, error);
    w.work =
        toy_rows(&a->work, 3, a->head_dim, a->head_dim, CADFT_DTYPE_F64, error);
    return w;
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* ------------------------------------------------------------- forward */

static void attend(const cadft_attention_args *a,
                   const struct views *w,
                   const struct sequence *s,
                   int64_t query,
                   int64_t head)
{
    int64_t d = a->head_dim, row = s->q_first + query;
    int64_t kv = head / (a->heads / a->kv_heads) * d;
    int64_t last = s->keys - s->queries + query;
    const float *q = w->q + row * a->q_stride + head * d;
    float *out = w->out + row * a->out_stride + head * d;
    double max = -INFINITY, sum = 0, *acc = w->work;
    memset(acc, 0, (size_t)d * sizeof *acc);
    for (int64_t p = first_key(a, last); p <= last; p++) {
        const float *k = w->k + (s->k_first + p) * a->k_stride + kv;
        const float *v = w->v + (s->k_first + p) * a->v_stride + kv;
        double score = a->scale * dot(q, k, d), e;
        if (score > max) {
            double shrink = exp(max - score); /* 0 at first */
            for (int64_t i = 0; i < d; i++)
                acc[i] *= shrink;
            sum *= shrink;
            max = score;
        }
        e = exp(score - max);
        sum += e;
        for (int64_t i = 0; i < d; i++)
            acc[i] += e * (double)v[i];
    }
    for (int64_t i = 0; i < d; i++)
        out[i] = (float)(acc[i] / sum);
    if (w->lse)
        w->lse[row * a->heads + head] = (float)(max + log(sum));
}

void toy_attention(const void *args, cadft_error *error)
{
    const cadft_attention_args *a = args;
    struct views w = views(a, error);
    for (int64_t i = 0; i < a->sequences && !error->code; i++) {
        struct sequence s = sequence(a, i);
        for (int64_t query = 0; query < s.queries; query++)
            for (int64_t head = 0; head < a->heads; head++)
                attend(a, &w, &s, query, head);
    }
}

/* ------------------------------------------------------------ backward */

/* What a query head and a key have to do with each other: its probability,
 * and the gradient of its score times scale. */
struct pair {
    const float *q, *k, *grad_out;
    double p, grad_score;
};

static struct pair pair(const cadft_attention_args *a,
                        const struct views *w,
                        const struct sequence *s,
                        int64_t query,
                        int64_t head,
                        int64_t position)
{
    int64_t d = a->head_dim, row = s->q_first + query;
    int64_t key = s->k_first + position;
    int64_t kv = head / (a->heads / a->kv_heads) * d;
    const float *out = w->out + row * a->out_stride + head * d;
    const float *v = w->v + key * a->v_stride + kv;
    struct pair x = {
        .q = w->q + row * a->q_stride + head * d,
        .k = w->k + key * a->k_stride + kv,
        .grad_out = w->grad_out + row * a->out_stride + head * d,
    };
    x.p = exp(a->scale * dot(x.q, x.k, d) -
              (double)w->lse[row * a->heads + head]);
    x.grad_score =
        a->scale * x.p * (dot(x.grad_out, v, d) - dot(x.grad_out, out, d));
    return x;
}

static void store(float *to, const double *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)from[i];
}

static void query_grad(const cadft_attention_args *a,
                       const struct views *w,
                       const struct sequence *s,
                       int64_t query,
                       int64_t head)
{
    int64_t d = a->head_dim, last = s->keys - s->queries + query;
    double *acc = w->work;
    memset(acc, 0, (size_t)d * sizeof *acc);
    for (int64_t p = first_key(a, last); p <= last; p++) {
        struct pair x = pair(a, w, s, query, head, p);
        for (int64_t i = 0; i < d; i++)
            acc[i] += x.grad_score * (double)x.k[i];
    }
    store(w->grad_q + (s->q_first + query) * a->q_stride + head * d, acc, d);
}

/* The queries that see the key, and the heads that share it, in their
 * order. */
static void key_grad(const cadft_attention_args *a,
                     const struct views *w,
                     const struct sequence *s,
                     int64_t position,
                     int64_t kv_head)
{
    int64_t d = a->head_dim, shared = a->heads / a->kv_heads;
    int64_t key = s->k_first + position, before = s->keys - s->queries;
    double *acc_k = w->work + d, *acc_v = w->work + 2 * d;
    memset(acc_k, 0, (size_t)(2 * d) * sizeof *acc_k);
    for (int64_t query = 0; query < s->queries; query++) {
        if (before + query < position ||
            first_key(a, before + query) > position)
            continue;
        for (int64_t h = 0; h < shared; h++) {
            struct pair x =
                pair(a, w, s, query, kv_head * shared + h, position);
            for (int64_t i = 0; i < d; i++) {
                acc_k[i] += x.grad_score * (double)x.q[i];
                acc_v[i] += x.p * (double)x.grad_out[i];
            }
        }
    }
    store(w->grad_k + key * a->k_stride + kv_head * d, acc_k, d);
    store(w->grad_v + key * a->v_stride + kv_head * d, acc_v, d);
}

void toy_attention_grad(const void *args, cadft_error *error)
{
    const cadft_attention_args *a = args;
    struct views w = views(a, error);
    for (int64_t i = 0; i < a->sequences && !error->code; i++) {
        struct sequence s = sequence(a, i);
        for (int64_t query = 0; query < s.queries; query++)
            for (int64_t head = 0; head < a->heads; head++)
                query_grad(a, &w, &s, query, head);
        for (int64_t p = 0; p < s.keys; p++)
            for (int64_t head = 0; head < a->kv_heads; head++)
                key_grad(a, &w, &s, p, head);
    }
}
