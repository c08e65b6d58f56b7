/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer.h"

#include <stdlib.h>
#include <string.h>

int trainer_rewrites(const session *s, const objective_option *objective)
{
    const options *o = s->options;
    if (o->rewriting >= 0)
        return o->rewriting;
    /* Epochs were rounded to whole batches. */
    int64_t seen = s->steps * o->batch + o->batch / 2;
    return strcmp(objective->name, "cadft") == 0 &&
           seen >= 3 * (int64_t)s->n_train;
}

int trainer_loss(const trainer *t, cadft_loss **out, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int status =
        checked(cadft_loss_create(t->session->context, out, &e), &e, error);
    return status == TEXT_OK ? knobs_apply(&t->knobs, NOUN_LOSS, *out, error)
                             : status;
}

/* ------------------------------------------------------------------ parts */

/* The newest checkpoint, -1 without one. */
static int find(const trainer *t, int64_t *step, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    *step = -1;
    if (t->session->options->fresh || !t->folder)
        return TEXT_OK;
    return checked(
        cadft_checkpoint_find(t->session->context, t->folder, -1, step, &e), &e,
        error);
}

static int load_model(trainer *t, int64_t step, text_error *error)
{
    const session *s = t->session;
    cadft_error e = {.struct_size = sizeof e};
    int status =
        checked(cadft_model_create(s->context, &t->model, &e), &e, error);
    if (status == TEXT_OK)
        status = knobs_apply(&t->knobs, NOUN_MODEL, t->model, error);
    if (status != TEXT_OK)
        return status;
    cadft_checkpoint from = {.struct_size = sizeof from,
                             .folder = t->folder,
                             .step = step,
                             .model = t->model};
    int32_t loaded =
        step < 0 ? cadft_model_load(t->model, s->options->model, &e)
                 : cadft_checkpoint_load(s->context, &from, NULL, 0, NULL, &e);
    for (int i = 0; i < s->options->n_freeze && loaded == CADFT_OK; i++)
        loaded =
            cadft_model_freeze(t->model, s->options->freeze[i], 0, NULL, &e);
    return step < 0 ? checked(loaded, &e, error)
                    : loaded_from(loaded, &e, error);
}

static int make_handles(trainer *t, text_error *error)
{
    const session *s = t->session;
    cadft_error e = {.struct_size = sizeof e};
    int status = trainer_loss(t, &t->loss, error);
    if (status == TEXT_OK)
        status = checked(cadft_optimizer_create(s->context, &t->optimizer, &e),
                         &e, error);
    if (status == TEXT_OK)
        status = knobs_apply(&t->knobs, NOUN_OPTIMIZER, t->optimizer, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_add_model(t->optimizer, t->model, NULL, &e),
                    &e, error);
    if (status != TEXT_OK || !trainer_rewrites(s, t->objective))
        return status;
    status = checked(
        cadft_rewrite_create(s->context, (int64_t)s->n_train, &t->rewrite, &e),
        &e, error);
    return status == TEXT_OK
               ? knobs_apply(&t->knobs, NOUN_REWRITE, t->rewrite, error)
               : status;
}

static int load_handles(trainer *t, int64_t step, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_checkpoint from = {.struct_size = sizeof from,
                             .folder = t->folder,
                             .step = step,
                             .optimizer = t->optimizer,
                             .loss = t->loss,
                             .rewrite = t->rewrite};
    int status = loaded_from(
        cadft_checkpoint_load(t->session->context, &from, NULL, 0, NULL, &e),
        &e, error);
    t->step = step;
    return status == TEXT_OK ? rewriting_restore(t, error) : status;
}

static int take_samples(trainer *t, text_error *error)
{
    const session *s = t->session;
    size_t n = s->n_train;
    t->samples = calloc(n, sizeof *t->samples);
    t->rewritten = calloc(n, sizeof *t->rewritten);
    if (!t->samples || !t->rewritten)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu samples",
                         n);
    memcpy(t->samples, s->train, n * sizeof *t->samples);
    if (s->n_held == 0)
        return TEXT_OK;
    return pack_step(s->held, s->n_held, s->options->micro_tokens, &t->held,
                     error);
}

/* ---------------------------------------------------------------- trainer */

int trainer_open(const session *s,
                 const objective_option *objective,
                 const char *folder,
                 trainer *t,
                 text_error *error)
{
    int64_t step = -1;
    *t = (trainer){.session = s, .objective = objective, .folder = folder};
    metrics_record_clear(&t->now);
    summary_facts_clear(&t->facts);
    knobs_plan(s->options, objective, s->steps, &t->knobs);
    int status = find(t, &step, error);
    if (status == TEXT_OK && step >= 0)
        status = saved_read(t, step, error);
    if (status == TEXT_OK)
        status = take_samples(t, error);
    if (status == TEXT_OK)
        status = load_model(t, step, error);
    if (status == TEXT_OK)
        status = make_handles(t, error);
    if (status == TEXT_OK && step >= 0)
        status = load_handles(t, step, error);
    return status;
}

void trainer_close(trainer *t)
{
    for (size_t i = 0; t->rewritten && i < t->session->n_train; i++)
        sample_free(&t->rewritten[i]);
    free(t->rewritten);
    free(t->samples);
    pack_free(&t->held);
    cadft_rewrite_destroy(t->rewrite);
    cadft_optimizer_destroy(t->optimizer);
    cadft_loss_destroy(t->loss);
    cadft_model_destroy(t->model);
    *t = (trainer){.session = NULL};
}
