/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer: what a host of libcadft has to write. pack.c fills packed
 * micro-batches, step.c takes them through the phases of the loss; the rest
 * is a trainer like any other. */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdint.h>
#include <stdio.h>

#include "cadft/cadft.h"
#include "data.h"
#include "model.h"
#include "options.h"

enum { IGNORE_INDEX = -100 };

/* A packed micro-batch: samples one after the other, no padding. */
typedef struct packed {
    int64_t capacity;    /* rows */
    int64_t rows;        /* filled */
    size_t first, count; /* samples of the global batch in it */
    int32_t *context;    /* [rows, C] what the model sees */
    int32_t *labels;     /* [rows] next token, IGNORE_INDEX in the prompt */
    int32_t *sample_ids; /* [rows] */
    int32_t *cu_seqlens; /* [count + 1] first row of each sample */
} packed;

typedef struct host {
    const options *options;
    pool *threads;
    cadft_context *context;
    model model;
    packed batch;
    int64_t *micro;      /* [max_samples] numbers the loss gave out */
    const demo **picked; /* [max_samples] the global batch at hand */
    double *samples;     /* [max_samples] per-sample values of the loss */
    float *start;        /* [n_params] the common starting point */
    size_t max_samples;
    /* Progress and metrics. */
    FILE *csv;
    char *csv_path;
    int64_t steps_done, steps_planned, tokens_done;
    double started, shown; /* seconds_now() */
    int shown_line;
} host;

int host_create(const options *o, const data_set *data, host *h);
void host_destroy(host *h);

/* ----------------------------------------------------------------- pack.c */

/* Rows of a demonstration: what fits the window of its prompt, its
 * completion and the end. */
int64_t demo_rows(const demo *d, int context);

int packed_create(packed *b, int64_t capacity, int context);
void packed_free(packed *b);

/* Fill the micro-batch with demos[first], demos[first + 1], ... of n while
 * they fit; at least one does. */
int packed_fill(
    packed *b, int context, const demo *const *demos, size_t first, size_t n);

/* ----------------------------------------------------------------- step.c */

/* A loss of the objective `name`: "cadft", or a token objective of libcadft,
 * with "+w" for sample weights. */
int host_loss_create(host *h, const char *name, cadft_loss **out);

/* What to do with each micro-batch, whose rows are in h->batch. */
typedef struct step_hooks {
    /* Logits are in h->model.logits. May be NULL. */
    void (*observed)(host *h, void *user);
    /* The gradient is there. NULL: no gradient is wanted. */
    void (*graded)(host *h, void *user);
    void *user;
} step_hooks;

/* Take the global batch demos[0..n) through the loss; n <= max_samples. */
int host_step(host *h,
              cadft_loss *loss,
              const demo *const *demos,
              size_t n,
              const step_hooks *hooks,
              cadft_loss_report *report);

/* A hook for `graded` that adds to the model's gradient. */
void host_accumulate(host *h, void *unused);

/* Print the library's error, return HOST_FAILED. */
int library_failed(const char *call, const cadft_error *error);

/* ------------------------------------------------------- train.c, others */

typedef struct result {
    const char *name;
    int64_t steps;
    int stopped;  /* before all steps were done */
    int weighted; /* the weights were applied, not only measured */
    double nll, token_accuracy, answer_accuracy;
    double w_clean, w_mismatched; /* NaN where there was no such sample */
    double moment_start, moment_end;
} result;

typedef struct training_plan {
    const char *name; /* in metrics and progress */
    const char *objective;
    const demo_list *list;
    int64_t steps;
    double learning_rate;
} training_plan;

/* Train the model as it stands. `out` gets steps, stopped and weights. */
int host_train(host *h, const training_plan *plan, result *out);

/* evaluate.c: nll and accuracies of the held-out items. */
int host_evaluate(host *h, const demo_list *heldout, result *out);

/* evaluate.c: mean over the probe's samples i of |g_i|^2, where
 *   g_i = w_i * (1 / n_i) * sum over i's rows r of k_r * d l_r / d theta,
 * theta all parameters of the model, k the objective's token coefficient and
 * w_i the weight within the probe set taken as one global batch (1 without
 * weights). */
int host_second_moment(host *h,
                       const char *name,
                       const demo_list *probe,
                       double *out);

/* check.c: finite differences against the hand-written gradients. */
int host_check(host *h, const data_set *data);

/* report.c */
typedef struct step_metrics {
    const char *name;
    int64_t step, steps; /* done, of */
    double learning_rate, w_clean, w_mismatched;
    const cadft_loss_report *report;
} step_metrics;

int report_open(host *h);
int report_step(host *h, const step_metrics *s);
int report_close(host *h);
int report_table(const host *h,
                 const data_set *data,
                 const result *results,
                 int n);

#endif
