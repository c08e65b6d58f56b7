/* SPDX-License-Identifier: Apache-2.0 */
/* For test_properties.c alone: a random problem, its answer from the library,
 * and comparing answers. */
#ifndef TESTS_PROPERTIES_H
#define TESTS_PROPERTIES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { ROUNDS = 24, MAX_SETTINGS = 16 };

#define REL 1e-6  /* what kernels promise for the sums of a row */
#define GRAD 2e-6 /* of the row's largest entry */
#define EXACT 1e-12

static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                 CADFT_DTYPE_F16};

struct setting {
    int32_t key;
    double value;
};

struct problem {
    cadft_context *context;
    support_batch *b;
    int64_t n;
    struct setting settings[MAX_SETTINGS];
    int n_settings;
    double *k; /* objective host */
};

struct answer {
    float *grad; /* [rows, cols], float32 whatever the logits */
    double *l, *h, *k, *scale;
    double *c, *w;
    cadft_loss_report report;
};

/* Zeros, at least one. */
static double *reals(int64_t n)
{
    return (double *)calloc(n > 0 ? (size_t)n : 1, sizeof(double));
}

/* ---------------------------------------------------------------- problems */

static void set(struct problem *p, int32_t key, double value)
{
    for (int i = 0; i < p->n_settings; i++)
        if (p->settings[i].key == key) {
            p->settings[i].value = value;
            return;
        }
    ck_assert_int_lt(p->n_settings, MAX_SETTINGS);
    p->settings[p->n_settings++] = (struct setting){key, value};
}

static int is_scaled(int objective)
{
    return objective < CADFT_OBJECTIVE_DFT_NOSG ||
           objective > CADFT_OBJECTIVE_FOCAL;
}

static struct problem problem_new(int objective, int32_t dtype)
{
    int64_t rows = 1 + support_below(40), cols = 2 + support_below(300);
    struct problem p = {.n = 1 + support_below(8)};
    p.context = support_context(NULL, 1);
    p.b = support_batch_new(rows, cols, dtype, p.n, 3);
    for (int64_t r = 0; r < rows; r++)
        if (support_below(9) == 0)
            p.b->y[r] = -100;
    set(&p, CADFT_LOSS_OBJECTIVE, objective);
    set(&p, CADFT_LOSS_REDUCTION, (double)support_below(4));
    set(&p, CADFT_LOSS_BETA, 0.25 + support_uniform());
    if (objective == CADFT_OBJECTIVE_HOST) {
        p.k = reals(rows);
        for (int64_t r = 0; r < rows; r++)
            p.k[r] = support_uniform();
    }
    return p;
}

/* z-loss, soft-cap and label smoothing, where they are allowed. */
static void add_terms(struct problem *p, int objective, int z_loss)
{
    if (z_loss && support_below(2))
        set(p, CADFT_LOSS_Z_LOSS, 0.01 * support_uniform());
    if (support_below(2))
        set(p, CADFT_LOSS_SOFTCAP, 5 + 20 * support_uniform());
    if (is_scaled(objective) && support_below(2))
        set(p, CADFT_LOSS_LABEL_SMOOTHING, 0.3 * support_uniform());
}

static void problem_free(struct problem *p)
{
    support_batch_free(p->b);
    free(p->k);
    cadft_context_destroy(p->context);
}

static cadft_loss *new_loss(const struct problem *p, cadft_context *context)
{
    cadft_error err = support_error();
    cadft_loss *loss = NULL;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    for (int i = 0; i < p->n_settings; i++) {
        int32_t type, key = p->settings[i].key;
        double value = p->settings[i].value;
        CHECK_OK(cadft_loss_bounds(key, &type, NULL, NULL, NULL, &err), err);
        CHECK_OK(type ? cadft_loss_set_f64(loss, key, value, &err)
                      : cadft_loss_set_i64(loss, key, (int64_t)value, &err),
                 err);
    }
    return loss;
}

/* ----------------------------------------------------------------- answers */

static double *rows_of(cadft_loss *loss, int32_t what, int64_t rows)
{
    double *out = reals(rows);
    cadft_error err = support_error();
    CHECK_OK(cadft_loss_get_rows(loss, 0, what, out, (size_t)rows, NULL, &err),
             err);
    return out;
}

static double *samples_of(cadft_loss *loss, int32_t what, int64_t n)
{
    double *out = reals(n);
    cadft_error err = support_error();
    CHECK_OK(cadft_loss_get_samples(loss, what, out, (size_t)n, NULL, &err),
             err);
    return out;
}

static void
arrays_of(cadft_loss *loss, const struct problem *p, struct answer *out)
{
    out->l = rows_of(loss, CADFT_ROWS_NLL, p->b->rows);
    out->h = rows_of(loss, CADFT_ROWS_ENTROPY, p->b->rows);
    out->k = rows_of(loss, CADFT_ROWS_K, p->b->rows);
    out->scale = rows_of(loss, CADFT_ROWS_SCALE, p->b->rows);
    out->c = samples_of(loss, CADFT_SAMPLES_C, p->n);
    out->w = samples_of(loss, CADFT_SAMPLES_W, p->n);
}

/* In one call; with row_scale the unit gradient. */
static struct answer
solve(const struct problem *p, cadft_context *context, float *row_scale)
{
    struct answer out = {.report = {.struct_size = sizeof out.report}};
    cadft_loss *loss = new_loss(p, context);
    cadft_loss_batch batch = p->b->batch;
    cadft_error err = support_error();
    cadft_tensor grad, k;
    size_t size = (size_t)(p->b->rows * p->b->cols);
    out.grad = (float *)calloc(size, sizeof *out.grad);
    cadft_tensor_init(&grad, sizeof grad, out.grad, CADFT_DTYPE_F32, 2,
                      p->b->shape, NULL, NULL);
    cadft_tensor_init(&k, sizeof k, p->k, CADFT_DTYPE_F64, 1, p->b->row_shape,
                      NULL, NULL);
    if (p->k)
        batch.k = &k;
    CHECK_OK(cadft_loss_compute(loss, &batch, p->n, &grad, row_scale,
                                &out.report, &err),
             err);
    arrays_of(loss, p, &out);
    cadft_loss_destroy(loss);
    return out;
}

static void answer_free(struct answer *a)
{
    free(a->grad);
    free(a->l);
    free(a->h);
    free(a->k);
    free(a->scale);
    free(a->c);
    free(a->w);
}

static double largest(const float *row, int64_t cols)
{
    double most = 0;
    for (int64_t v = 0; v < cols; v++)
        most = fmax(most, fabs((double)row[v]));
    return most;
}

static void
near(const char *what, int64_t i, double a, double b, double tolerance)
{
    ck_assert_msg((isnan(a) && isnan(b)) || fabs(a - b) <= tolerance,
                  "%s[%lld]: %.17g and %.17g, tolerance %.3g", what,
                  (long long)i, a, b, tolerance);
}

static void same_bits(const struct problem *p,
                      const struct answer *a,
                      const struct answer *b)
{
    size_t rows = (size_t)p->b->rows, n = (size_t)p->n;
    for (size_t i = 0; i < rows * (size_t)p->b->cols; i++)
        ck_assert_msg(memcmp(&a->grad[i], &b->grad[i], sizeof(float)) == 0,
                      "grad[%zu]: %.9g and %.9g", i, a->grad[i], b->grad[i]);
    ck_assert_mem_eq(a->l, b->l, rows * sizeof(double));
    ck_assert_mem_eq(a->h, b->h, rows * sizeof(double));
    ck_assert_mem_eq(a->k, b->k, rows * sizeof(double));
    ck_assert_mem_eq(a->scale, b->scale, rows * sizeof(double));
    ck_assert_mem_eq(a->w, b->w, n * sizeof(double));
    ck_assert_mem_eq(&a->report, &b->report, sizeof a->report);
}

#endif
