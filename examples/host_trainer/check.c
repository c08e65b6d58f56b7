/* SPDX-License-Identifier: Apache-2.0 */
/* Finite differences against the gradients written by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "util.h"

enum { CHECK_SAMPLES = 4 };

static double norm_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static int verdict(const char *what, double worst, double allowed)
{
    int good = worst <= allowed; /* false for NaN */
    printf("%-28s %s, error %.1e of %.0e\n", what, good ? "ok" : "WRONG", worst,
           allowed);
    return good ? HOST_OK : HOST_FAILED;
}

/* ----------------------------------------------------- the model alone */

/* L = sum of c * logits with random c: linear at the top, so only the model
 * is under test. Float64 sum of float32 logits. */
static double linear_loss(model *m, const packed *b, const float *c)
{
    double sum = 0;
    size_t n = (size_t)b->rows * MODEL_COLUMNS;
    model_forward(m, b->context, b->rows);
    for (size_t i = 0; i < n; i++)
        sum += (double)c[i] * (double)m->logits[i];
    return sum;
}

/* Every parameter of a model small enough for that. The worst difference,
 * relative to the parameter's gradient plus the mean gradient. */
static double worst_of_all(model *m, const packed *b, const float *c)
{
    const float h = 0x1p-7f;
    size_t n = m->n_params;
    double rms = norm_of(m->grads, n) / sqrt((double)n), worst = 0;
    for (size_t i = 0; i < n; i++) {
        float saved = m->params[i];
        m->params[i] = saved + h;
        double step = (double)m->params[i], up = linear_loss(m, b, c);
        m->params[i] = saved - h;
        step -= (double)m->params[i];
        double slope = (up - linear_loss(m, b, c)) / step;
        m->params[i] = saved;
        double g = (double)m->grads[i], off = fabs(slope - g);
        worst = fmax(worst, off / (fabs(g) + rms));
    }
    return worst;
}

static int check_model(host *h, int depth)
{
    const model_shape shape = {h->model.shape.context, 2, 5, depth};
    packed *b = &h->batch;
    model m;
    size_t n = (size_t)b->rows * MODEL_COLUMNS;
    uint64_t rng = rng_for(h->options->data.seed, 4);
    int status = model_create(&m, &shape, b->rows, 1, h->threads);
    if (status != HOST_OK)
        return status;
    float *c = calloc(n, sizeof *c);
    if (c) {
        for (size_t i = 0; i < n; i++)
            c[i] = rng_unit(&rng) - 0.5f;
        linear_loss(&m, b, c);
        memcpy(m.logits, c, n * sizeof *c);
        model_backward(&m, b->rows);
        model_accumulate(&m, b->context, 0, b->rows);
        status = verdict(depth == 1 ? "model, one hidden layer"
                                    : "model, two hidden layers",
                         worst_of_all(&m, b, c), 1e-2);
    } else {
        status = fail(HOST_FAILED, "out of memory for the check");
    }
    free(c);
    model_free(&m);
    return status;
}

/* ----------------------------------------- model and libcadft together */

typedef struct line {
    host *h;
    cadft_loss *loss;
    const float *from;      /* [n_params] */
    const float *direction; /* [n_params] */
} line;

static int loss_at(const line *l, double where, double *out)
{
    static const step_hooks hooks = {.graded = NULL};
    cadft_loss_report report;
    model *m = &l->h->model;
    for (size_t i = 0; i < m->n_params; i++)
        m->params[i] =
            (float)((double)l->from[i] + where * (double)l->direction[i]);
    int status =
        host_step(l->h, l->loss, l->h->picked, CHECK_SAMPLES, &hooks, &report);
    *out = report.loss;
    return status;
}

/* The slope of the loss along its own gradient is the gradient's norm. */
static int check_slope(const line *l, const char *name)
{
    static const step_hooks hooks = {.graded = host_accumulate};
    cadft_loss_report report;
    model *m = &l->h->model;
    model_zero_grad(m);
    int status =
        host_step(l->h, l->loss, l->h->picked, CHECK_SAMPLES, &hooks, &report);
    if (status != HOST_OK)
        return status;
    double norm = norm_of(m->grads, m->n_params), up = 0, down = 0;
    const double h = 0.01 / norm;
    line along = *l;
    along.direction = m->grads;
    status = loss_at(&along, h, &up);
    if (status == HOST_OK)
        status = loss_at(&along, -h, &down);
    if (status != HOST_OK)
        return status;
    double slope = (up - down) / (2 * h) / norm;
    return verdict(name, fabs(slope / norm - 1), 1e-2);
}

static int check_objective(host *h, const char *name)
{
    line l = {.h = h, .from = h->start};
    int status = host_loss_create(h, name, &l.loss);
    model_restore(&h->model, h->start);
    if (status == HOST_OK)
        status = check_slope(&l, name);
    cadft_loss_destroy(l.loss);
    return status;
}

int host_check(host *h, const data_set *data)
{
    /* Objectives whose gradient is that of their loss: no stop-gradient. */
    static const char *const names[] = {"sft", "dft_nosg", "power", "focal"};
    if (h->max_samples < CHECK_SAMPLES)
        return fail(HOST_INPUT, "--check: --batch must be at least %d",
                    CHECK_SAMPLES);
    for (size_t i = 0; i < CHECK_SAMPLES; i++)
        h->picked[i] = &data->train.items[i];
    memcpy(h->start, h->model.params, h->model.n_params * sizeof(float));
    int status = packed_fill(&h->batch, h->model.shape.context, h->picked, 0,
                             CHECK_SAMPLES);
    for (int depth = 1; depth <= MODEL_MAX_HIDDEN; depth++)
        if (status == HOST_OK)
            status = check_model(h, depth);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (status == HOST_OK)
            status = check_objective(h, names[i]);
    return status;
}
