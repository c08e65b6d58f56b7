/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "trainer.h"

/* The samples of a step, and what the loss said of them. */
typedef struct batch {
    size_t n;
    const text_sample **samples; /* [n] */
    int64_t *ids;                /* [n] in session.train */
    double *c, *chat, *w;        /* [n], see CADFT_SAMPLES_... */
    packed_step packed;
} batch;

static void batch_free(batch *b)
{
    free(b->samples);
    free(b->ids);
    free(b->c);
    pack_free(&b->packed);
}

static int batch_pick(const trainer *t, batch *b, text_error *error)
{
    const session *s = t->session;
    *b = (batch){.n = (size_t)s->options->batch};
    b->samples = calloc(b->n, sizeof *b->samples);
    b->ids = calloc(b->n, sizeof *b->ids);
    b->c = calloc(3 * b->n, sizeof *b->c);
    if (!b->samples || !b->ids || !b->c)
        return text_fail(error, TEXT_FAILED, "out of memory for a step");
    b->chat = b->c + b->n;
    b->w = b->chat + b->n;
    for (size_t i = 0; i < b->n; i++) {
        size_t id = session_sample(s, t->step * s->options->batch + (int64_t)i);
        b->ids[i] = (int64_t)id;
        b->samples[i] = t->samples[id];
    }
    return pack_step(b->samples, b->n, s->options->micro_tokens, &b->packed,
                     error);
}

/* -------------------------------------------------------------- gradients */

static int weigh(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    return checked(cadft_loss_weigh(t->loss, &e), &e, error);
}

/* Scope exact: the weights need the c of all samples, so all micro-batches
 * are seen before the first gradient. The last of them keeps its activations
 * and goes first; the others are computed again, to the same bits. */
static int gradient_exact(trainer *t, const packed_step *p, text_error *error)
{
    views v;
    size_t last = p->n - 1;
    int status = TEXT_OK;
    for (size_t i = 0; i <= last && status == TEXT_OK; i++) {
        status = forward(t->model, &p->micro[i], i < last, &v, error);
        if (status == TEXT_OK)
            status = observe(t->loss, &v, error);
    }
    if (status == TEXT_OK)
        status = weigh(t, error);
    if (status == TEXT_OK)
        status = backward(t->model, t->loss, (int64_t)last, &v, error);
    for (size_t i = 0; i < last && status == TEXT_OK; i++) {
        status = forward(t->model, &p->micro[i], 0, &v, error);
        if (status == TEXT_OK)
            status = backward(t->model, t->loss, (int64_t)i, &v, error);
    }
    return status;
}

/* The denominator that the library cannot know before it has seen the whole
 * batch. */
static int set_denominator(trainer *t, const batch *b, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int64_t reduction, rows = 0;
    for (size_t i = 0; i < b->packed.n; i++)
        rows += b->packed.micro[i].n_logit_rows;
    int status = checked(
        cadft_loss_get_i64(t->loss, CADFT_LOSS_REDUCTION, &reduction, &e), &e,
        error);
    double denominator = reduction == CADFT_REDUCTION_TOKEN_MEAN ? (double)rows
                         : reduction == CADFT_REDUCTION_SUM      ? 0
                                                                 : (double)b->n;
    if (status == TEXT_OK)
        status = checked(cadft_loss_set_f64(t->loss, CADFT_LOSS_DENOMINATOR,
                                            denominator, &e),
                         &e, error);
    return status;
}

/* Scopes running and local: each micro-batch is done with when it was seen
 * once. */
static int gradient_at_once(trainer *t, const batch *b, text_error *error)
{
    views v;
    int status = TEXT_OK;
    for (size_t i = 0; i < b->packed.n && status == TEXT_OK; i++) {
        status = forward(t->model, &b->packed.micro[i], 0, &v, error);
        if (status == TEXT_OK)
            status = observe(t->loss, &v, error);
        if (status == TEXT_OK)
            status = weigh(t, error);
        if (status == TEXT_OK)
            status = backward(t->model, t->loss, (int64_t)i, &v, error);
    }
    return status;
}

static int gradient(trainer *t, const batch *b, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int64_t scope;
    int status = checked(
        cadft_loss_get_i64(t->loss, CADFT_LOSS_SCOPE, &scope, &e), &e, error);
    int exact = status == TEXT_OK && scope == CADFT_SCOPE_EXACT;
    if (status == TEXT_OK && !exact)
        status = set_denominator(t, b, error);
    if (status == TEXT_OK)
        status = checked(cadft_model_zero_grad(t->model, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_loss_begin(t->loss, (int64_t)b->n, &e), &e, error);
    if (status == TEXT_OK)
        status = exact ? gradient_exact(t, &b->packed, error)
                       : gradient_at_once(t, b, error);
    return status;
}

/* ----------------------------------------------------------------- record */

static int read_samples(trainer *t, batch *b, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int32_t status =
        cadft_loss_get_samples(t->loss, CADFT_SAMPLES_C, b->c, b->n, NULL, &e);
    if (status == CADFT_OK)
        status = cadft_loss_get_samples(t->loss, CADFT_SAMPLES_CHAT, b->chat,
                                        b->n, NULL, &e);
    if (status == CADFT_OK)
        status = cadft_loss_get_samples(t->loss, CADFT_SAMPLES_W, b->w, b->n,
                                        NULL, &e);
    return checked(status, &e, error);
}

/* Means over the samples in the statistics, and over those of each group. */
static void record_samples(trainer *t, const batch *b)
{
    metrics_record *now = &t->now;
    double n = 0, c = 0, w = 0, squares = 0;
    for (size_t i = 0; i < t->session->n_groups; i++)
        now->groups[i] = (metrics_group){0, 0, 0};
    for (size_t i = 0; i < b->n; i++) {
        if (!isfinite(b->c[i]))
            continue;
        double off = b->c[i] - c;
        n++;
        c += off / n;
        squares += off * (b->c[i] - c);
        w += b->w[i];
        int32_t group = b->samples[i]->group;
        if (group < 0 || (size_t)group >= t->session->n_groups)
            continue;
        metrics_group *g = &now->groups[group];
        g->samples++;
        g->w += b->w[i];
        g->c += b->c[i];
    }
    now->nll = n > 0 ? c : NAN;
    now->sd_c = n > 0 ? sqrt(squares / n) : NAN;
    now->mean_w = n > 0 ? w / n : NAN;
    for (size_t i = 0; i < t->session->n_groups; i++) {
        metrics_group *g = &now->groups[i];
        g->w /= (double)g->samples;
        g->c /= (double)g->samples;
    }
}

static void record_step(trainer *t,
                        const batch *b,
                        const cadft_loss_report *loss,
                        const cadft_optimizer_report *optimizer)
{
    metrics_record *now = &t->now;
    now->step = t->step + 1;
    now->samples += (int64_t)b->n;
    for (size_t i = 0; i < b->packed.n; i++)
        now->tokens += b->packed.micro[i].rows;
    now->loss = loss->loss;
    now->token_nll = loss->nll;
    now->mean_p = loss->mean_p;
    now->grad_norm = optimizer->grad_norm;
    now->lr = optimizer->lr;
    now->clip = optimizer->clip;
    now->skipped = optimizer->skipped_total;
    now->eval_nll = now->eval_p = NAN;
    record_samples(t, b);
}

/* ------------------------------------------------------------------- step */

static int follow(trainer *t, const batch *b, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    if (!t->rewrite)
        return TEXT_OK;
    return checked(cadft_rewrite_observe(t->rewrite, b->ids, b->c, b->chat,
                                         (int64_t)b->n, &e),
                   &e, error);
}

int step_take(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_loss_report loss = {.struct_size = sizeof loss};
    cadft_optimizer_report optimizer = {.struct_size = sizeof optimizer};
    batch b;
    int status = batch_pick(t, &b, error);
    if (status == TEXT_OK)
        status = gradient(t, &b, error);
    if (status == TEXT_OK)
        status = checked(cadft_loss_end(t->loss, &loss, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_step(t->optimizer, NULL, &optimizer, &e),
                    &e, error);
    if (status == TEXT_OK)
        status = read_samples(t, &b, error);
    if (status == TEXT_OK)
        status = follow(t, &b, error);
    if (status == TEXT_OK) {
        record_step(t, &b, &loss, &optimizer);
        t->step++;
    }
    batch_free(&b);
    return status;
}
