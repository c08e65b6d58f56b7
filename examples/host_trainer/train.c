/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "host.h"
#include "util.h"

/* Draws without replacement, epoch after epoch, from the seed alone: every
 * objective sees the same demonstrations in the same order. */
typedef struct sampler {
    const demo_list *list;
    size_t *order, at;
    uint64_t rng;
} sampler;

static int sampler_create(sampler *s, const demo_list *list, uint64_t seed)
{
    *s = (sampler){.list = list, .at = list->n, .rng = rng_for(seed, 3)};
    s->order = calloc(list->n, sizeof *s->order);
    if (!s->order)
        return fail(HOST_FAILED,
                    "out of memory for the order of %zu "
                    "demonstrations",
                    list->n);
    for (size_t i = 0; i < list->n; i++)
        s->order[i] = i;
    return HOST_OK;
}

static const demo *sampler_next(sampler *s)
{
    if (s->at == s->list->n) {
        for (size_t i = s->list->n; i > 1; i--) {
            size_t j = rng_below(&s->rng, i), k = s->order[i - 1];
            s->order[i - 1] = s->order[j];
            s->order[j] = k;
        }
        s->at = 0;
    }
    return &s->list->items[s->order[s->at++]];
}

/* Sums of sample weights by kind, [0] clean and [1] mismatched. */
typedef struct weight_sums {
    double sum[2];
    int64_t n[2];
} weight_sums;

static double weight_mean(const weight_sums *s, int kind)
{
    return s->n[kind] > 0 ? s->sum[kind] / (double)s->n[kind] : NAN;
}

/* The weights of the step just ended. Where the objective applies none, the
 * weights that it would apply: chat does not depend on the objective. */
static int read_weights(
    host *h, cadft_loss *loss, size_t n, int weighted, weight_sums *now)
{
    cadft_error error = {.struct_size = sizeof error};
    int32_t what = weighted ? CADFT_SAMPLES_W : CADFT_SAMPLES_CHAT;
    if (cadft_loss_get_samples(loss, what, h->samples, h->max_samples, NULL,
                               &error) != CADFT_OK)
        return library_failed("cadft_loss_get_samples", &error);
    *now = (weight_sums){{0, 0}, {0, 0}};
    for (size_t i = 0; i < n; i++) {
        double w = h->samples[i];
        int kind = h->picked[i]->mismatched != 0;
        if (!weighted)
            w = isnan(w) ? 0 : exp(-h->options->beta * fmax(0, w));
        now->sum[kind] += w;
        now->n[kind]++;
    }
    return HOST_OK;
}

/* A short warm-up, then linearly down to a tenth. */
static double rate_at(double rate, int64_t step, int64_t steps)
{
    const double warm = 10;
    double up = (double)(step + 1) / warm;
    double down = 1.0 - 0.9 * (double)step / (double)steps;
    return rate * (up < down ? up : down);
}

typedef struct training {
    cadft_loss *loss;
    sampler sampler;
    weight_sums quarter; /* of the quarter of the steps at hand */
} training;

static int train_step(host *h, training *t, step_metrics *s, int weighted)
{
    static const step_hooks hooks = {.graded = host_accumulate};
    cadft_loss_report report;
    weight_sums now;
    size_t n = (size_t)h->options->batch;
    for (size_t i = 0; i < n; i++)
        h->picked[i] = sampler_next(&t->sampler);
    model_zero_grad(&h->model);
    int status = host_step(h, t->loss, h->picked, n, &hooks, &report);
    if (status == HOST_OK)
        status = read_weights(h, t->loss, n, weighted, &now);
    if (status != HOST_OK)
        return status;
    model_update(&h->model, (float)s->learning_rate);
    if (s->step * 4 / s->steps != (s->step - 1) * 4 / s->steps)
        t->quarter = (weight_sums){{0, 0}, {0, 0}};
    for (int k = 0; k < 2; k++) {
        t->quarter.sum[k] += now.sum[k];
        t->quarter.n[k] += now.n[k];
    }
    s->w_clean = weight_mean(&now, 0);
    s->w_mismatched = weight_mean(&now, 1);
    s->report = &report;
    return report_step(h, s);
}

static int
train_steps(host *h, training *t, const training_plan *plan, result *out)
{
    cadft_error error = {.struct_size = sizeof error};
    int64_t weighted = 0;
    if (cadft_loss_get_i64(t->loss, CADFT_LOSS_WEIGHTING, &weighted, &error) !=
        CADFT_OK)
        return library_failed("cadft_loss_get_i64", &error);
    int status = HOST_OK;
    int64_t step = 0;
    for (; step < plan->steps && !stop_asked(); step++) {
        step_metrics s = {
            .name = plan->name, .step = step, .steps = plan->steps};
        s.learning_rate = rate_at(plan->learning_rate, step, plan->steps);
        status = train_step(h, t, &s, weighted != 0);
        if (status != HOST_OK)
            break;
    }
    out->weighted = weighted != 0;
    out->steps = step;
    out->stopped = step < plan->steps;
    out->w_clean = weight_mean(&t->quarter, 0);
    out->w_mismatched = weight_mean(&t->quarter, 1);
    return status;
}

int host_train(host *h, const training_plan *plan, result *out)
{
    training t = {.loss = NULL};
    int status = sampler_create(&t.sampler, plan->list, h->options->data.seed);
    if (status == HOST_OK)
        status = host_loss_create(h, plan->objective, &t.loss);
    if (status == HOST_OK)
        status = train_steps(h, &t, plan, out);
    cadft_loss_destroy(t.loss);
    free(t.sampler.order);
    return status;
}
