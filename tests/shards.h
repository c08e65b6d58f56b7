/* SPDX-License-Identifier: Apache-2.0 */
/* For test_shards.c alone: a global batch, how to cut it over processes and
 * micro-batches, and both ways of running it. The processes are losses in
 * this program, the all-reduce is a loop. */
#ifndef TESTS_SHARDS_H
#define TESTS_SHARDS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { MAX_SHARDS = 5, MAX_MICRO = 4, MAX_SETTINGS = 16, ROUNDS = 40 };

struct setting {
    int32_t key;
    double value;
};

/* A global batch and what is asked of it. */
struct world {
    cadft_context *context;
    support_batch *b;
    int64_t n_samples;
    double *k;    /* [rows] of objective host, or NULL */
    int callback; /* objective host by callback */
    struct setting settings[MAX_SETTINGS];
    int n_settings;
    unsigned char *state; /* running statistics carried over, or NULL */
    size_t state_size, *state_out;
};

struct result {
    double *rows[5];    /* CADFT_ROWS_NLL + i, [rows] */
    double *samples[4]; /* CADFT_SAMPLES_C + i, [n_samples] */
    float *grad;        /* [rows, cols] */
    cadft_loss_report report;
};

/* Who has what: row r is in micro-batch micro[r] of process (data[r],
 * context[r]), whose columns are shared by n_tp processes. */
struct plan {
    int n_dp, n_cp, n_tp, n_micro;
    int everyone; /* SAMPLES over all processes, then no MOMENTS */
    int always;   /* exchange also where there is one process */
    int in_turn;  /* scopes that weigh each micro-batch alone */
    int *data, *context, *micro;
    int64_t cut[MAX_SHARDS + 1];
};

struct piece {
    support_batch *b;
    int64_t *from; /* rows of the world */
    double *k;
    float *grad;
    cadft_tensor tk, tg;
    int64_t number;
};

struct rank {
    int d, c, t;
    cadft_loss *loss;
    struct piece pieces[MAX_MICRO];
};

/* An array of a test: of few elements, so that their bytes cannot overflow,
 * and of one to spare, so that there is always something to point to. */
static void *zeroed(size_t count, size_t size)
{
    void *p = count < 1 << 24 ? calloc(count + 1, size) : NULL;
    ck_assert_msg(p != NULL, "no memory for %zu elements", count);
    return p;
}

/* ------------------------------------------------------------------ worlds */

static void set(struct world *w, int32_t key, double value)
{
    ck_assert_int_lt(w->n_settings, MAX_SETTINGS);
    w->settings[w->n_settings++] = (struct setting){key, value};
}

static int32_t host_k(void *user,
                      int64_t rows,
                      const double *l,
                      const double *p,
                      const double *h,
                      double *k)
{
    (void)user;
    for (int64_t r = 0; r < rows; r++)
        k[r] = p[r] * (0.25 + l[r]) + 0.125 * h[r];
    return 0;
}

static cadft_loss *new_loss(const struct world *w)
{
    cadft_coefficient coefficient = {.struct_size = sizeof coefficient,
                                     .fn = host_k};
    cadft_error err = support_error();
    cadft_loss *loss = NULL;
    CHECK_OK(cadft_loss_create(w->context, &loss, &err), err);
    for (int i = 0; i < w->n_settings; i++) {
        int32_t type, key = w->settings[i].key;
        double value = w->settings[i].value;
        CHECK_OK(cadft_loss_bounds(key, &type, NULL, NULL, NULL, &err), err);
        if (type)
            CHECK_OK(cadft_loss_set_f64(loss, key, value, &err), err);
        else
            CHECK_OK(cadft_loss_set_i64(loss, key, (int64_t)value, &err), err);
    }
    if (w->callback)
        CHECK_OK(cadft_loss_set_coefficient(loss, &coefficient, &err), err);
    if (w->state && w->state_size)
        CHECK_OK(cadft_loss_state_load(loss, w->state, w->state_size, &err),
                 err);
    return loss;
}

static void random_options(struct world *w, int objective)
{
    int scaled = objective < CADFT_OBJECTIVE_DFT_NOSG ||
                 objective > CADFT_OBJECTIVE_FOCAL;
    set(w, CADFT_LOSS_OBJECTIVE, objective);
    set(w, CADFT_LOSS_NONFINITE, CADFT_NONFINITE_SKIP);
    set(w, CADFT_LOSS_REDUCTION, (double)support_below(4));
    set(w, CADFT_LOSS_RENORMALISE, (double)support_below(2));
    set(w, CADFT_LOSS_DDOF, (double)support_below(2));
    set(w, CADFT_LOSS_BETA, 0.25 + support_uniform());
    set(w, CADFT_LOSS_GRAD_SCALE, 1 + 9 * support_uniform());
    if (scaled && support_below(2))
        set(w, CADFT_LOSS_LABEL_SMOOTHING, 0.3 * support_uniform());
    if (support_below(2))
        set(w, CADFT_LOSS_Z_LOSS, 0.01 * support_uniform());
    if (support_below(3) == 0)
        set(w, CADFT_LOSS_SOFTCAP, 5 + 25 * support_uniform());
    if (objective == CADFT_OBJECTIVE_HOST) {
        w->callback = support_below(2) != 0;
        if (!w->callback)
            w->k = (double *)zeroed((size_t)w->b->rows, sizeof *w->k);
        for (int64_t r = 0; w->k && r < w->b->rows; r++)
            w->k[r] = support_uniform();
    }
}

/* Masked columns, easy rows (1 - p from 1e-2 to 1e-7), rows without label or
 * sample, and now and then a sample that is skipped or infinite. */
static void spoil(support_batch *b)
{
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t y = r * b->cols + b->y[r], kind = support_below(12);
        for (int64_t v = 0; kind < 4 && v < b->cols; v++)
            if (v != b->y[r] && support_below(3) == 0)
                support_put(b->z, b->dtype, r * b->cols + v, -INFINITY);
        if (kind == 4 || kind == 5)
            support_put(b->z, b->dtype, y, (float)(8 + 12 * support_uniform()));
        if (kind == 6)
            b->y[r] = -100;
        if (kind == 7)
            b->ids[r] = -1;
    }
    if (support_below(4) == 0)
        support_put(b->z, b->dtype, support_below(b->rows * b->cols), NAN);
    if (support_below(4) == 0) {
        int64_t r = support_below(b->rows);
        if (b->y[r] >= 0)
            support_put(b->z, b->dtype, r * b->cols + b->y[r], -INFINITY);
    }
}

static struct world world_new(int objective)
{
    static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_F32,
                                     CADFT_DTYPE_BF16, CADFT_DTYPE_F16};
    int64_t rows = 4 + support_below(40), cols = 6 + support_below(90);
    struct world w = {.n_samples = 1 + support_below(9)};
    w.context = support_context(NULL, 1);
    w.b = support_batch_new(rows, cols, dtypes[support_below(4)], w.n_samples,
                            2.5);
    spoil(w.b);
    random_options(&w, objective);
    return w;
}

static void world_free(struct world *w)
{
    support_batch_free(w->b);
    free(w->k);
    cadft_context_destroy(w->context);
}

/* ------------------------------------------------------------------- plans */

/* Row j of a sample's n in zig-zag order: chunk i and chunk 2c-1-i of 2c lie
 * on process i, which is how context parallel hosts balance attention. */
static int zig_zag(int64_t j, int64_t n, int n_cp)
{
    int chunk = (int)(j * 2 * n_cp / n);
    return chunk < n_cp ? chunk : 2 * n_cp - 1 - chunk;
}

static void cut_columns(struct plan *p, int64_t cols)
{
    p->cut[0] = 0;
    p->cut[p->n_tp] = cols;
    for (int t = 1; t < p->n_tp; t++) /* every shard has a column or more */
        p->cut[t] = p->cut[t - 1] + 1 +
                    support_below(cols - p->cut[t - 1] - (p->n_tp - t));
}

static struct plan
plan_new(const struct world *w, int n_dp, int n_cp, int n_tp, int n_micro)
{
    struct plan p = {
        .n_dp = n_dp, .n_cp = n_cp, .n_tp = n_tp, .n_micro = n_micro};
    size_t rows = (size_t)w->b->rows;
    int64_t n = w->n_samples, zigzag = support_below(2);
    p.data = (int *)zeroed(rows, sizeof *p.data);
    p.context = (int *)zeroed(rows, sizeof *p.context);
    p.micro = (int *)zeroed(rows, sizeof *p.micro);
    for (size_t r = 0; r < rows; r++) {
        int64_t s = (int64_t)r * n / (int64_t)rows;
        p.data[r] = (int)((s * 7 + 3) % n_dp); /* a sample is on one */
        p.context[r] = zigzag ? zig_zag((int64_t)r % 8, 8, n_cp)
                              : (int)support_below(n_cp);
        p.micro[r] = (int)support_below(n_micro);
    }
    cut_columns(&p, w->b->cols);
    return p;
}

static void plan_free(struct plan *p)
{
    free(p->data);
    free(p->context);
    free(p->micro);
}

/* ------------------------------------------------------------------ pieces */

static void copy_row(const struct world *w,
                     struct piece *piece,
                     int64_t to,
                     int64_t from,
                     int64_t first)
{
    size_t size = support_dtype_size(w->b->dtype);
    int64_t cols = piece->b->cols;
    memcpy((char *)piece->b->z + size * (size_t)(to * cols),
           (char *)w->b->z + size * (size_t)(from * w->b->cols + first),
           size * (size_t)cols);
    piece->b->y[to] = w->b->y[from];
    piece->b->ids[to] = w->b->ids[from];
    if (w->k)
        piece->k[to] = w->k[from];
}

/* Rows chosen by the plan (NULL: all), columns [first, first + cols). */
static void cut_piece(const struct world *w,
                      const struct plan *p,
                      const struct rank *rank,
                      int micro,
                      struct piece *piece)
{
    int64_t first = p ? p->cut[rank->t] : 0, n = 0;
    int64_t cols = p ? p->cut[rank->t + 1] - first : w->b->cols;
    size_t most = (size_t)w->b->rows;
    piece->from = (int64_t *)zeroed(most, sizeof *piece->from);
    for (int64_t r = 0; r < w->b->rows; r++)
        if (!p || (p->data[r] == rank->d && p->context[r] == rank->c &&
                   p->micro[r] == micro))
            piece->from[n++] = r;
    piece->b = support_batch_new(n, cols, w->b->dtype, 1, 0);
    piece->k = (double *)zeroed(most, sizeof *piece->k);
    piece->grad = (float *)zeroed(most * (size_t)cols, sizeof *piece->grad);
    for (int64_t i = 0; i < n; i++)
        copy_row(w, piece, i, piece->from[i], first);
    cadft_tensor_init(&piece->tk, sizeof piece->tk, piece->k, CADFT_DTYPE_F64,
                      1, piece->b->row_shape, NULL, NULL);
    cadft_tensor_init(&piece->tg, sizeof piece->tg, piece->grad,
                      CADFT_DTYPE_F32, 2, piece->b->shape, NULL, NULL);
    if (w->k)
        piece->b->batch.k = &piece->tk;
    if (p && p->n_tp > 1) {
        piece->b->batch.vocab_start = first;
        piece->b->batch.vocab_total = w->b->cols;
    }
}

static void piece_free(struct piece *piece)
{
    support_batch_free(piece->b);
    free(piece->from);
    free(piece->k);
    free(piece->grad);
}

/* ----------------------------------------------------------------- results */

static void result_new(const struct world *w, struct result *out)
{
    size_t rows = (size_t)w->b->rows, n = (size_t)w->n_samples;
    for (int i = 0; i < 5; i++)
        out->rows[i] = (double *)zeroed(rows, sizeof(double));
    for (int i = 0; i < 4; i++)
        out->samples[i] = (double *)zeroed(n, sizeof(double));
    out->grad = (float *)zeroed(rows * (size_t)w->b->cols, sizeof(float));
    out->report = (cadft_loss_report){.struct_size = sizeof out->report};
}

static void result_free(struct result *r)
{
    for (int i = 0; i < 5; i++)
        free(r->rows[i]);
    for (int i = 0; i < 4; i++)
        free(r->samples[i]);
    free(r->grad);
}

/* Rows and gradient of a piece to their places; a row that another
 * vocabulary shard brought must be the same bit for bit. */
static void gather(const struct world *w,
                   const struct rank *rank,
                   struct piece *piece,
                   int64_t first,
                   struct result *out)
{
    int64_t n = piece->b->rows, cols = piece->b->cols;
    double *values = (double *)zeroed((size_t)n, sizeof *values);
    cadft_error err = support_error();
    for (int32_t i = 0; i < 5; i++) {
        CHECK_OK(cadft_loss_get_rows(rank->loss, piece->number,
                                     CADFT_ROWS_NLL + i, values, (size_t)n,
                                     NULL, &err),
                 err);
        for (int64_t r = 0; r < n; r++) {
            double *place = &out->rows[i][piece->from[r]];
            ck_assert_msg(rank->t == 0 ||
                              memcmp(place, &values[r], sizeof *place) == 0,
                          "array %d differs between shards: %.17g %.17g", i,
                          *place, values[r]);
            *place = values[r];
        }
    }
    for (int64_t r = 0; r < n; r++)
        memcpy(out->grad + piece->from[r] * w->b->cols + first,
               piece->grad + r * cols, (size_t)cols * sizeof(float));
    free(values);
}

/* A sample's values from a process that has it; all that have it agree. */
static void gather_samples(const struct world *w,
                           const struct rank *rank,
                           struct result *out)
{
    double *values[4];
    cadft_error err = support_error();
    size_t n = (size_t)w->n_samples;
    for (int32_t i = 0; i < 4; i++) {
        values[i] = (double *)zeroed(n, sizeof(double));
        CHECK_OK(cadft_loss_get_samples(rank->loss, CADFT_SAMPLES_C + i,
                                        values[i], n, NULL, &err),
                 err);
    }
    for (size_t s = 0; s < n; s++)
        for (int i = 0; i < 4; i++) {
            double *place = &out->samples[i][s];
            if (values[3][s] == 0 && (out->samples[3][s] > 0 || i == 3))
                continue;
            ck_assert_msg(out->samples[3][s] == 0 || isnan(*place) ||
                              *place == values[i][s],
                          "sample %zu differs between processes", s);
            *place = values[i][s];
        }
    for (int i = 0; i < 4; i++)
        free(values[i]);
}

static void uncut(const struct world *w, struct result *out)
{
    struct rank rank = {.loss = new_loss(w)};
    struct piece *piece = &rank.pieces[0];
    cadft_error err = support_error();
    result_new(w, out);
    cut_piece(w, NULL, &rank, 0, piece);
    CHECK_OK(cadft_loss_compute(rank.loss, &piece->b->batch, w->n_samples,
                                &piece->tg, NULL, &out->report, &err),
             err);
    gather(w, &rank, piece, 0, out);
    gather_samples(w, &rank, out);
    piece_free(piece);
    cadft_loss_destroy(rank.loss);
}

/* --------------------------------------------------------------- exchanges */

/* All-reduce over `n` processes; with slots, each has its own. */
static void exchange(cadft_loss *const *losses, int n, int32_t kind, int slots)
{
    cadft_error err = support_error();
    double *all, *part;
    size_t size = 0;
    CHECK_OK(cadft_loss_export(losses[0], kind, 0, slots ? n : 1, NULL, 0,
                               &size, &err),
             err);
    all = (double *)zeroed(size, sizeof *all);
    part = (double *)zeroed(size, sizeof *part);
    for (int i = 0; i < n; i++) {
        CHECK_OK(cadft_loss_export(losses[i], kind, slots ? i : 0,
                                   slots ? n : 1, part, size, NULL, &err),
                 err);
        for (size_t j = 0; j < size; j++)
            all[j] = i == 0                           ? part[j]
                     : kind == CADFT_EXCHANGE_ROW_MAX ? fmax(all[j], part[j])
                                                      : all[j] + part[j];
    }
    for (int i = 0; i < n; i++)
        CHECK_OK(cadft_loss_import(losses[i], kind, all, size, &err), err);
    free(all);
    free(part);
}

/* Over the ranks that agree in what `over` leaves out: 'd', 'c', 't', or '*'
 * for data and context. */
static void exchange_all(const struct plan *p,
                         const struct rank *ranks,
                         char over,
                         int32_t kind,
                         int slots)
{
    int n = p->n_dp * p->n_cp * p->n_tp;
    for (int first = 0; first < n; first++) {
        cadft_loss *group[MAX_SHARDS * MAX_SHARDS * MAX_SHARDS];
        const struct rank *a = &ranks[first];
        int size = 0, leads = 1;
        for (int i = 0; i < n; i++) {
            const struct rank *b = &ranks[i];
            int same = (over == 'd' || over == '*' || a->d == b->d) &&
                       (over == 'c' || over == '*' || a->c == b->c) &&
                       (over == 't' || a->t == b->t);
            if (same && i < first)
                leads = 0;
            if (same)
                group[size++] = b->loss;
        }
        if (leads)
            exchange(group, size, kind, slots);
    }
}

/* --------------------------------------------------------------------- runs */

static void observe_micro(const struct plan *p, struct rank *ranks, int m)
{
    cadft_error err = support_error();
    for (int i = 0; i < p->n_dp * p->n_cp * p->n_tp; i++) {
        struct piece *piece = &ranks[i].pieces[m];
        CHECK_OK(cadft_loss_observe(ranks[i].loss, &piece->b->batch, NULL,
                                    &piece->number, &err),
                 err);
    }
    if (p->n_tp == 1)
        return;
    exchange_all(p, ranks, 't', CADFT_EXCHANGE_ROW_MAX, 0);
    exchange_all(p, ranks, 't', CADFT_EXCHANGE_ROW_SUM, 0);
}

static void observe_all(const struct plan *p, struct rank *ranks)
{
    for (int m = 0; m < p->n_micro; m++)
        observe_micro(p, ranks, m);
    if (p->everyone)
        exchange_all(p, ranks, '*', CADFT_EXCHANGE_SAMPLES, 0);
    else if (p->n_cp > 1 || p->always)
        exchange_all(p, ranks, 'c', CADFT_EXCHANGE_SAMPLES, 0);
    if ((p->n_dp > 1 || p->always) && !p->everyone)
        exchange_all(p, ranks, 'd', CADFT_EXCHANGE_MOMENTS, 1);
}

static void weigh_all(const struct plan *p, struct rank *ranks)
{
    cadft_error err = support_error();
    for (int i = 0; i < p->n_dp * p->n_cp * p->n_tp; i++)
        CHECK_OK(cadft_loss_weigh(ranks[i].loss, &err), err);
    if (p->in_turn)
        return;
    if ((p->n_dp > 1 || p->always) && !p->everyone)
        exchange_all(p, ranks, 'd', CADFT_EXCHANGE_WEIGHTS, 1);
}

static void grad_all(const struct plan *p, struct rank *ranks, int from, int to)
{
    cadft_error err = support_error();
    for (int i = 0; i < p->n_dp * p->n_cp * p->n_tp; i++)
        for (int m = from; m < to; m++) {
            struct piece *piece = &ranks[i].pieces[m];
            CHECK_OK(cadft_loss_grad(ranks[i].loss, piece->number,
                                     &piece->b->batch, &piece->tg, &err),
                     err);
        }
}

static void end_all(const struct world *w,
                    const struct plan *p,
                    struct rank *ranks,
                    struct result *out)
{
    cadft_error err = support_error();
    exchange_all(p, ranks, '*', CADFT_EXCHANGE_REPORT, 1);
    for (int i = 0; i < p->n_dp * p->n_cp * p->n_tp; i++) {
        cadft_loss_report report = {.struct_size = sizeof report};
        CHECK_OK(cadft_loss_end(ranks[i].loss, &report, &err), err);
        if (i == 0)
            out->report = report;
        if (p->in_turn) { /* each used its own micro-batch's */
            report.mu = out->report.mu;
            report.sigma = out->report.sigma;
        }
        ck_assert_mem_eq(&report, &out->report, sizeof report);
        for (int m = 0; m < p->n_micro; m++)
            gather(w, &ranks[i], &ranks[i].pieces[m], p->cut[ranks[i].t], out);
        gather_samples(w, &ranks[i], out);
        if (w->state)
            CHECK_OK(cadft_loss_state_save(ranks[i].loss, w->state, 256,
                                           w->state_out, &err),
                     err);
    }
}

static struct rank *ranks_new(const struct world *w, const struct plan *p)
{
    int n = p->n_dp * p->n_cp * p->n_tp;
    struct rank *ranks = (struct rank *)zeroed((size_t)n, sizeof *ranks);
    cadft_error err = support_error();
    for (int i = 0; i < n; i++) {
        struct rank *rank = &ranks[i];
        rank->t = i % p->n_tp;
        rank->c = i / p->n_tp % p->n_cp;
        rank->d = i / p->n_tp / p->n_cp;
        rank->loss = new_loss(w);
        for (int m = 0; m < p->n_micro; m++)
            cut_piece(w, p, rank, m, &rank->pieces[m]);
        CHECK_OK(cadft_loss_begin(rank->loss, w->n_samples, &err), err);
    }
    return ranks;
}

static void ranks_free(const struct plan *p, struct rank *ranks)
{
    for (int i = 0; i < p->n_dp * p->n_cp * p->n_tp; i++) {
        for (int m = 0; m < p->n_micro; m++)
            piece_free(&ranks[i].pieces[m]);
        cadft_loss_destroy(ranks[i].loss);
    }
    free(ranks);
}

/* Scope exact: everything is observed, then weighed. */
static void cut(const struct world *w, const struct plan *p, struct result *out)
{
    struct rank *ranks = ranks_new(w, p);
    result_new(w, out);
    observe_all(p, ranks);
    weigh_all(p, ranks);
    grad_all(p, ranks, 0, p->n_micro);
    end_all(w, p, ranks, out);
    ranks_free(p, ranks);
}

/* Other scopes: each micro-batch is weighed and written on its own. */
static void
cut_in_turn(const struct world *w, const struct plan *p, struct result *out)
{
    struct rank *ranks = ranks_new(w, p);
    result_new(w, out);
    for (int m = 0; m < p->n_micro; m++) {
        observe_micro(p, ranks, m);
        if (p->n_cp > 1)
            exchange_all(p, ranks, 'c', CADFT_EXCHANGE_SAMPLES, 0);
        weigh_all(p, ranks);
        grad_all(p, ranks, m, m + 1);
    }
    if (p->n_dp > 1)
        exchange_all(p, ranks, 'd', CADFT_EXCHANGE_MOMENTS, 1);
    end_all(w, p, ranks, out);
    ranks_free(p, ranks);
}

#endif
