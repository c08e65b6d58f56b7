/* SPDX-License-Identifier: Apache-2.0 */
#include "knobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Rewriting by the library's defaults begins here. */
enum { LONG_RUN = 3000 };

int checked(int32_t status, const cadft_error *from, text_error *error)
{
    return status == CADFT_OK
               ? TEXT_OK
               : text_fail(error, TEXT_FAILED, "%s", from->message);
}

static void add(knobs *k, int noun, const char *name, const char *value)
{
    setting *s = &k->list[k->n++];
    s->noun = noun;
    s->value = value;
    snprintf(s->name, sizeof s->name, "%s", name);
}

static void add_number(knobs *k, int noun, const char *name, int64_t value)
{
    char *text = k->numbers[k->n_numbers++];
    snprintf(text, sizeof k->numbers[0], "%" PRId64, value);
    add(k, noun, name, text);
}

void knobs_plan(const options *o,
                const objective_option *objective,
                int64_t steps,
                knobs *out)
{
    *out = (knobs){.n = 0};
    add(out, NOUN_LOSS, "objective", objective->token);
    add(out, NOUN_LOSS, "weighting", objective->weighted ? "1" : "0");
    add_number(out, NOUN_OPTIMIZER, "planned_steps", steps);
    add(out, NOUN_OPTIMIZER, "schedule", "cosine");
    if (steps > 1 && !options_find(o, NOUN_OPTIMIZER, "warmup_steps"))
        add(out, NOUN_OPTIMIZER, "warmup_fraction", "0.1");
    add_number(out, NOUN_REWRITE, "seed", o->seed);
    add_number(out, NOUN_REWRITE, "planned_steps", steps);
    /* The end token counts: an answer of one token is an empty one, which the
     * data's own lines may not have either. */
    add(out, NOUN_REWRITE, "min_length", "2");
    if (steps <= LONG_RUN) {
        if (!options_find(o, NOUN_REWRITE, "warmup_steps"))
            add(out, NOUN_REWRITE, "warmup_fraction", "0.5");
        add_number(out, NOUN_REWRITE, "interval", (steps + 5) / 6);
    }
    for (int i = 0; i < o->n_settings; i++)
        out->list[out->n++] = o->settings[i];
}

const char *knobs_find(const knobs *k, int noun, const char *name)
{
    for (int i = k->n; i-- > 0;)
        if (k->list[i].noun == noun && strcmp(k->list[i].name, name) == 0)
            return k->list[i].value;
    return NULL;
}

int32_t knobs_key(int noun, const char *name, int32_t *key, cadft_error *e)
{
    int32_t (*const find[NOUNS])(const char *, int32_t *, cadft_error *) = {
        [NOUN_LOSS] = cadft_loss_key,
        [NOUN_OPTIMIZER] = cadft_optimizer_key,
        [NOUN_REWRITE] = cadft_rewrite_key,
        [NOUN_MODEL] = cadft_model_key};
    return find[noun](name, key, e);
}

static int32_t
set(int noun, void *handle, const char *name, const char *value, cadft_error *e)
{
    int32_t key, status = knobs_key(noun, name, &key, e);
    if (status)
        return status;
    switch (noun) {
    case NOUN_LOSS:
        return cadft_loss_set_str(handle, key, value, e);
    case NOUN_OPTIMIZER:
        return cadft_optimizer_set_str(handle, key, value, e);
    case NOUN_REWRITE:
        return cadft_rewrite_set_str(handle, key, value, e);
    default:
        return cadft_model_set_str(handle, key, value, e);
    }
}

int knobs_apply(const knobs *k, int noun, void *handle, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    for (int i = 0; i < k->n; i++) {
        const setting *s = &k->list[i];
        if (s->noun == noun &&
            set(noun, handle, s->name, s->value, &e) != CADFT_OK)
            return text_fail(error, TEXT_INPUT, "%s.%s=%s: %s", noun_name(noun),
                             s->name, s->value, e.message);
    }
    return TEXT_OK;
}

int knobs_check(cadft_context *context, const knobs *k, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_loss *loss = NULL;
    cadft_optimizer *optimizer = NULL;
    cadft_rewrite *rewrite = NULL;
    cadft_model *model = NULL;
    double rate;
    int32_t due;
    int status = checked(cadft_loss_create(context, &loss, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_create(context, &optimizer, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_rewrite_create(context, 1, &rewrite, &e), &e, error);
    if (status == TEXT_OK)
        status = checked(cadft_model_create(context, &model, &e), &e, error);
    void *const handles[NOUNS] = {loss, optimizer, rewrite, model};
    for (int noun = 0; noun < NOUNS && status == TEXT_OK; noun++)
        status = knobs_apply(k, noun, handles[noun], error);
    /* Values that do not go together are refused where they are used. */
    if (status == TEXT_OK)
        status = checked(cadft_loss_begin(loss, 1, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_lr(optimizer, 0, &rate, &e), &e, error);
    if (status == TEXT_OK)
        status = checked(cadft_rewrite_due(rewrite, 0, &due, &e), &e, error);
    cadft_loss_destroy(loss);
    cadft_optimizer_destroy(optimizer);
    cadft_rewrite_destroy(rewrite);
    cadft_model_destroy(model);
    return status;
}
