/* SPDX-License-Identifier: Apache-2.0 */
/* Attention: packed sequences, keys of a cache with room between them,
 * groups of heads, windows; and its gradient. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_backend.h"

enum {
    SEQUENCES = 4,
    HEAD_DIM = 64, /* at most */
    UNUSED = 3     /* rows of keys between sequences, below */
};

/* Queries and keys of each sequence; as many keys when training. */
static const struct shape {
    int64_t heads, kv_heads, head_dim, window;
    int64_t sequences, queries[SEQUENCES], keys[SEQUENCES];
} shapes[] = {
    {1, 1, 1, 0, 1, {1}, {1}},
    {1, 1, 8, 0, 1, {5}, {5}},
    {4, 2, 16, 0, 3, {7, 1, 20}, {7, 1, 20}},
    {3, 1, 33, 0, 2, {17, 40}, {17, 40}},
    {9, 3, 64, 0, 2, {3, 70}, {3, 70}},
    {2, 2, 64, 5, 2, {33, 4}, {33, 4}},
    {2, 1, 32, 1, 1, {9}, {9}},
    {4, 1, 64, 0, 4, {1, 1, 1, 1}, {1, 17, 130, 64}}, /* one new token */
    {6, 2, 16, 7, 3, {1, 3, 8}, {40, 3, 21}},
    {2, 1, 8, 0, 3, {0, 4, 0}, {3, 4, 0}}, /* empty ones among others */
    {2, 1, 8, 0, 0, {0}, {0}},
};

static const struct shape long_one = {2, 1, 64, 0, 1, {300}, {300}};

struct problem {
    const struct shape *shape;
    int64_t q_first[SEQUENCES + 1], k_first[SEQUENCES], k_count[SEQUENCES];
    operand *q, *k, *v, *out, *lse;
    operand *grad_out, *grad_q, *grad_k, *grad_v;
    cadft_attention_args args;
};

static const char *name_of(const struct shape *s, char *text, size_t size)
{
    int n = snprintf(text, size, "%lld/%lld heads of %lld, window %lld:",
                     (long long)s->heads, (long long)s->kv_heads,
                     (long long)s->head_dim, (long long)s->window);
    for (int i = 0; i < s->sequences; i++)
        n += snprintf(text + n, size - (size_t)n, " %lld of %lld",
                      (long long)s->queries[i], (long long)s->keys[i]);
    return text;
}

static int64_t lay_out(check *c, struct problem *w)
{
    int64_t keys = rng_below(&c->random, UNUSED);
    for (int64_t s = 0; s < w->shape->sequences; s++) {
        w->q_first[s + 1] = w->q_first[s] + w->shape->queries[s];
        w->k_first[s] = keys;
        w->k_count[s] = w->shape->keys[s];
        keys += w->k_count[s] + rng_below(&c->random, UNUSED);
    }
    return keys;
}

/* Rows of keys that no sequence has: NaN, and not to be written. */
static void leave_gaps(const struct problem *w, operand *o)
{
    for (int64_t r = 0; r < o->rows; r++) {
        int used = 0;
        for (int64_t s = 0; s < w->shape->sequences; s++)
            used |= r >= w->k_first[s] && r < w->k_first[s] + w->k_count[s];
        for (int64_t i = 0; i < o->cols && !used; i++)
            operand_set(o, r, i, NAN);
    }
}

static void make(check *c, struct problem *w, const struct shape *s, int lse)
{
    int64_t keys, rows, q = s->heads * s->head_dim,
                        kv = s->kv_heads * s->head_dim;
    memset(w, 0, sizeof *w);
    w->shape = s;
    keys = lay_out(c, w);
    rows = w->q_first[s->sequences];
    w->q = operand_in(c, "q", CADFT_DTYPE_F32, rows, q);
    w->k = operand_in(c, "k", CADFT_DTYPE_F32, keys, kv);
    w->v = operand_in(c, "v", CADFT_DTYPE_F32, keys, kv);
    w->out = operand_out(c, "out", CADFT_DTYPE_F32, rows, q);
    if (lse)
        w->lse = operand_strided(c, "lse", CADFT_DTYPE_F32, rows, s->heads,
                                 s->heads, 'o');
    leave_gaps(w, w->k);
    leave_gaps(w, w->v);
    w->args = (cadft_attention_args){.struct_size = sizeof w->args,
                                     .q = w->q->array,
                                     .k = w->k->array,
                                     .v = w->v->array,
                                     .out = w->out->array,
                                     .q_first = w->q_first,
                                     .k_first = w->k_first,
                                     .k_count = w->k_count,
                                     .sequences = s->sequences,
                                     .heads = s->heads,
                                     .kv_heads = s->kv_heads,
                                     .head_dim = s->head_dim,
                                     .q_stride = w->q->stride,
                                     .k_stride = w->k->stride,
                                     .v_stride = w->v->stride,
                                     .out_stride = w->out->stride,
                                     .window = s->window};
    w->args.scale = 1 / sqrt((double)s->head_dim);
    if (w->lse)
        w->args.lse = w->lse->array;
}

typedef int32_t operation(cadft_context *context,
                          void *stream,
                          const cadft_attention_args *args,
                          cadft_error *error);

/* The sequences are the backend's during the call and not a moment longer. */
static int32_t call(check *c, operation *run, const cadft_attention_args *given)
{
    int64_t q_first[SEQUENCES + 1], k_first[SEQUENCES], k_count[SEQUENCES];
    size_t n = (size_t)given->sequences * sizeof *q_first;
    cadft_attention_args args = *given;
    int32_t status;
    memcpy(q_first, given->q_first, n + sizeof *q_first);
    memcpy(k_first, given->k_first, n);
    memcpy(k_count, given->k_count, n);
    args.q_first = q_first;
    args.k_first = k_first;
    args.k_count = k_count;
    status = run(c->context, NULL, &args, &c->error);
    memset(q_first, 0, sizeof q_first);
    memset(k_first, 0, sizeof k_first);
    memset(k_count, 0, sizeof k_count);
    memset(&args, 0, sizeof args);
    if (!status) /* while they are still there, and nothing in them */
        status = cadft__device_sync(c->context, NULL, &c->error);
    return status;
}

/* A rounding of a score is one of its probability. */
static double score_bound(const struct problem *w, const ref_query *x)
{
    return 2 * sum_bound((double)w->args.head_dim) * (1 + x->largest);
}

static void query_look(
    check *c, const struct problem *w, int64_t s, int64_t query, int64_t head)
{
    int64_t d = w->args.head_dim;
    ref_query x = ref_attend(&w->args, w->q, w->k, s, query, head);
    double terms = sum_bound((double)(x.last - x.first + 1));
    for (int64_t i = 0; i < d; i++) {
        value v = ref_attention_out(&x, w->v, d, i);
        expect(c, w->out, x.row, head * d + i, v.want, v.size,
               terms + score_bound(w, &x));
    }
    if (w->lse)
        expect(c, w->lse, x.row, head, x.lse, 1 + fabs(x.lse),
               terms + score_bound(w, &x));
    free(x.p);
}

/* The last query of each sequence by itself gives the same bits: a cache of
 * keys then changes nothing. */
static void attend_last(check *c, struct problem *w)
{
    int64_t q_first[SEQUENCES + 1] = {0, 1};
    for (int64_t s = 0; s < w->shape->sequences; s++) {
        int64_t last = w->q_first[s + 1] - 1;
        cadft_attention_args one = w->args;
        if (w->shape->queries[s] == 0)
            continue;
        one.sequences = 1;
        one.q_first = q_first;
        one.k_first = &w->k_first[s];
        one.k_count = &w->k_count[s];
        one.q = row_of(w->q, last);
        one.out = row_of(w->out, last);
        if (w->lse)
            one.lse = row_of(w->lse, last);
        for (case_start(c); case_again(c);)
            c->status = call(c, cadft__device_attention, &one);
        if (case_end(c))
            expect_same(c, w->out, last, 1);
    }
}

static void attention_case(check *c, const struct shape *s, int lse)
{
    struct problem w;
    char name[128];
    case_begin(c, "%s", name_of(s, name, sizeof name));
    make(c, &w, s, lse);
    w.args.work = operand_work(c, CADFT_OP_ATTENTION, &w.args);
    for (case_start(c); case_again(c);)
        c->status = call(c, cadft__device_attention, &w.args);
    if (!case_end(c))
        return;
    for (int64_t i = 0; i < s->sequences; i++)
        for (int64_t query = 0; query < s->queries[i]; query++)
            for (int64_t head = 0; head < s->heads; head++)
                query_look(c, &w, i, query, head);
    case_keep(c);
    attend_last(c, &w);
}

enum { SHAPES = sizeof shapes / sizeof *shapes };

static void check_attention(check *c)
{
    for (int i = 0; i < SHAPES; i++) {
        attention_case(c, &shapes[i], 1);
        attention_case(c, &shapes[i], 0);
    }
    if (!c->quick)
        attention_case(c, &long_one, 1);
}

/* -------------------------------------------------------------- gradient */

/* Gradients of keys as they are gathered: [key rows, kv_heads * head_dim]. */
struct gathered {
    value q[HEAD_DIM]; /* of one query head */
    value *k, *v;
    double *bound; /* [key rows, kv_heads] */
    int64_t cols, heads;
};

static void gather(struct gathered *to,
                   const struct problem *w,
                   const ref_query *x,
                   double bound,
                   int64_t key,
                   value score)
{
    int64_t d = w->args.head_dim;
    double *worst = &to->bound[key * to->heads + x->key_head];
    *worst = fmax(*worst, bound);
    for (int64_t i = 0; i < d; i++) {
        int64_t at = key * to->cols + x->key_head * d + i;
        double q = w->args.scale * sent(w->q, x->row, x->head * d + i);
        double g =
            x->p[key - x->first] * sent(w->grad_out, x->row, x->head * d + i);
        to->k[at].want += score.want * q;
        to->k[at].size += score.size * fabs(q);
        to->v[at].want += g;
        to->v[at].size += fabs(g);
    }
}

/* grad_q of one query head, and what it gives to the keys. */
static void query_grad_look(check *c,
                            const struct problem *w,
                            struct gathered *to,
                            int64_t s,
                            int64_t query,
                            int64_t head)
{
    int64_t d = w->args.head_dim;
    ref_query x = ref_attend(&w->args, w->q, w->k, s, query, head);
    double bound = score_bound(w, &x) + 2 * fabs(x.lse) * ROUNDING;
    memset(to->q, 0, sizeof to->q);
    for (int64_t key = x.first; key <= x.last; key++) {
        value score = ref_score_grad(&x, w->v, w->out, w->grad_out, d, key);
        gather(to, w, &x, bound, key, score);
        for (int64_t i = 0; i < d; i++) {
            double k = w->args.scale * sent(w->k, key, x.key_head * d + i);
            to->q[i].want += score.want * k;
            to->q[i].size += score.size * fabs(k);
        }
    }
    for (int64_t i = 0; i < d; i++)
        expect(c, w->grad_q, x.row, head * d + i, to->q[i].want, to->q[i].size,
               bound + sum_bound((double)(x.last - x.first + 1)));
    free(x.p);
}

static void
keys_look(check *c, const struct problem *w, const struct gathered *to)
{
    double terms = (double)(w->q->rows * w->args.heads);
    for (int64_t s = 0; s < w->args.sequences; s++)
        for (int64_t p = 0; p < w->k_count[s]; p++)
            for (int64_t i = 0; i < to->cols; i++) {
                int64_t key = w->k_first[s] + p, at = key * to->cols + i;
                double bound =
                    to->bound[key * to->heads + i / w->args.head_dim] +
                    sum_bound(terms);
                expect(c, w->grad_k, key, i, to->k[at].want, to->k[at].size,
                       bound);
                expect(c, w->grad_v, key, i, to->v[at].want, to->v[at].size,
                       bound);
            }
}

/* What the forward gives, from the reference; NaN takes as long. */
static void fill_forward(const check *c, struct problem *w)
{
    int64_t d = w->args.head_dim;
    for (int64_t s = 0; s < w->args.sequences && !c->bench; s++)
        for (int64_t query = 0; query < w->shape->queries[s]; query++)
            for (int64_t head = 0; head < w->args.heads; head++) {
                ref_query x = ref_attend(&w->args, w->q, w->k, s, query, head);
                operand_set(w->lse, x.row, head, x.lse);
                for (int64_t i = 0; i < d; i++)
                    operand_set(w->out, x.row, head * d + i,
                                ref_attention_out(&x, w->v, d, i).want);
                free(x.p);
            }
    allow_none(w->out);
    allow_none(w->lse);
}

static void make_grad(check *c, struct problem *w)
{
    w->grad_out = operand_strided(c, "grad_out", CADFT_DTYPE_F32, w->q->rows,
                                  w->q->cols, w->out->stride, 'i');
    w->grad_q = operand_strided(c, "grad_q", CADFT_DTYPE_F32, w->q->rows,
                                w->q->cols, w->q->stride, 'o');
    w->grad_k = operand_strided(c, "grad_k", CADFT_DTYPE_F32, w->k->rows,
                                w->k->cols, w->k->stride, 'o');
    w->grad_v = operand_strided(c, "grad_v", CADFT_DTYPE_F32, w->k->rows,
                                w->k->cols, w->v->stride, 'o');
    allow_none(w->grad_k);
    allow_none(w->grad_v);
    for (int64_t s = 0; s < w->args.sequences; s++) {
        allow(w->grad_k, w->k_first[s], w->k_count[s]);
        allow(w->grad_v, w->k_first[s], w->k_count[s]);
    }
    w->args.grad_out = w->grad_out->array;
    w->args.grad_q = w->grad_q->array;
    w->args.grad_k = w->grad_k->array;
    w->args.grad_v = w->grad_v->array;
    w->args.work = operand_work(c, CADFT_OP_ATTENTION_GRAD, &w->args);
}

/* The last sequence by itself. */
static void grad_alone(check *c, struct problem *w)
{
    int64_t s = w->args.sequences - 1, q = w->q_first[s];
    int64_t q_first[2] = {0, w->shape->queries[s]};
    cadft_attention_args one = w->args;
    one.sequences = 1;
    one.q_first = q_first;
    one.k_first = &w->k_first[s];
    one.k_count = &w->k_count[s];
    one.q = row_of(w->q, q);
    one.out = row_of(w->out, q);
    one.lse = row_of(w->lse, q);
    one.grad_out = row_of(w->grad_out, q);
    one.grad_q = row_of(w->grad_q, q);
    case_keep(c);
    for (case_start(c); case_again(c);)
        c->status = call(c, cadft__device_attention_grad, &one);
    if (!case_end(c))
        return;
    expect_same(c, w->grad_q, q, q_first[1]);
    expect_same(c, w->grad_k, w->k_first[s], w->k_count[s]);
    expect_same(c, w->grad_v, w->k_first[s], w->k_count[s]);
}

static void attention_grad_case(check *c, const struct shape *s)
{
    struct problem w;
    struct gathered to = {0};
    char name[128];
    size_t n;
    case_begin(c, "%s", name_of(s, name, sizeof name));
    make(c, &w, s, 1);
    fill_forward(c, &w);
    make_grad(c, &w);
    for (case_start(c); case_again(c);)
        c->status = call(c, cadft__device_attention_grad, &w.args);
    if (!case_end(c))
        return;
    to.cols = w.k->cols;
    to.heads = s->kv_heads;
    n = (size_t)(w.k->rows * w.k->cols) + 1;
    to.k = calloc(n, sizeof *to.k);
    to.v = calloc(n, sizeof *to.v);
    to.bound = calloc(n, sizeof *to.bound);
    for (int64_t i = 0; i < s->sequences && to.k && to.v && to.bound; i++)
        for (int64_t query = 0; query < s->queries[i]; query++)
            for (int64_t head = 0; head < s->heads; head++)
                query_grad_look(c, &w, &to, i, query, head);
    keys_look(c, &w, &to);
    free(to.k);
    free(to.v);
    free(to.bound);
    if (s->sequences && s->queries[s->sequences - 1])
        grad_alone(c, &w);
}

static void check_attention_grad(check *c)
{
    for (int i = 0; i < SHAPES; i++)
        attention_grad_case(c, &shapes[i]);
    if (!c->quick)
        attention_grad_case(c, &long_one);
}

/* ---------------------------------------------------------------- speed */

static const struct shape typical = {9, 3, 64, 0, 1, {256}, {256}};

/* Products of a pair of a query and a key that it sees: two forward, five
 * backward. */
static double pair_work(double products)
{
    double pairs = 9.0 * 256 * 257 / 2;
    return products * 2 * 64 * pairs;
}

static double bench_attention(check *c)
{
    attention_case(c, &typical, 1);
    return pair_work(2);
}

static double bench_attention_grad(check *c)
{
    attention_grad_case(c, &typical);
    return pair_work(5);
}

const slot attention_slots[] = {
    {SLOT_AT(attention), MODEL, check_attention, bench_attention, "GFLOP/s"},
    {SLOT_AT(attention_grad), MODEL, check_attention_grad, bench_attention_grad,
     "GFLOP/s"},
    {0}};
