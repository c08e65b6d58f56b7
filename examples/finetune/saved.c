/* SPDX-License-Identifier: Apache-2.0 */
/* What the host keeps in a checkpoint, as JSON: the settings and the data
 * that the results depend on, so that a run is not continued with others, and
 * what was counted and measured so far. The order of the samples needs
 * nothing: it follows from seed and step. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "folder.h"
#include "trainer.h"

enum { FORMAT = 1 };

/* ---------------------------------------------------------------- settings */

static void put(json_t *to, const char *name, const char *format, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    json_object_set_new(to, name, json_string(text));
}

/* "5e-5" and "0.00005" are the same. */
static void put_value(json_t *to, const char *name, const char *value)
{
    char text[32], *end;
    double number = strtod(value, &end);
    if (end != value && *end == '\0')
        snprintf(text, sizeof text, "%.9g", number);
    json_object_set_new(
        to, name, json_string(end != value && *end == '\0' ? text : value));
}

static void put_knobs(json_t *to, const trainer *t)
{
    for (int i = 0; i < t->knobs.n; i++) {
        const setting *s = &t->knobs.list[i];
        char name[64];
        /* It changes memory and time only. */
        if (s->noun == NOUN_MODEL && strcmp(s->name, "checkpointing") == 0)
            continue;
        if (s->noun == NOUN_REWRITE &&
            !trainer_rewrites(t->session, t->objective))
            continue;
        snprintf(name, sizeof name, "%s.%s", noun_name(s->noun), s->name);
        put_value(to, name, s->value);
    }
}

/* All that the bits of a run depend on; the number of threads is not among
 * it. */
static json_t *settings_now(const trainer *t)
{
    const session *s = t->session;
    const options *o = s->options;
    json_t *to = json_object(), *frozen = json_array();
    put(to, "the data", "%016" PRIx64, (int64_t)s->train_digest);
    put(to, "the held-out data", "%016" PRIx64, (int64_t)s->held_digest);
    put(to, "the model", "%016" PRIx64, (int64_t)s->model_digest);
    put(to, "steps", "%" PRId64, s->steps);
    put(to, "batch", "%" PRId64, o->batch);
    put(to, "micro-tokens", "%" PRId64, o->micro_tokens);
    put(to, "max-length", "%" PRId64, s->max_length);
    put(to, "seed", "%" PRId64, o->seed);
    put(to, "second-moment", "%" PRId64, o->second_moment);
    put(to, "rewriting", "%" PRId64, trainer_rewrites(s, t->objective));
    for (int i = 0; i < o->n_freeze; i++)
        json_array_append_new(frozen, json_string(o->freeze[i]));
    char *patterns = json_dumps(frozen, 0);
    json_object_set_new(to, "freeze", json_string(patterns ? patterns : ""));
    free(patterns);
    json_decref(frozen);
    put_knobs(to, t);
    return to;
}

static int differs(const trainer *t,
                   int64_t step,
                   const char *name,
                   const char *then,
                   const char *now,
                   text_error *error)
{
    return text_fail(error, TEXT_INPUT,
                     "%s has a checkpoint of step %" PRId64
                     " with another value of %s: %s, now %s; go on with the "
                     "same one, or choose another --out, or --fresh",
                     t->folder, step, name, then ? then : "not set",
                     now ? now : "not set");
}

static int compare_settings(const trainer *t,
                            int64_t step,
                            const json_t *then,
                            text_error *error)
{
    json_t *now = settings_now(t);
    const char *name;
    json_t *value;
    int status = TEXT_OK;
    json_object_foreach(now, name, value)
    {
        const char *a = json_string_value(json_object_get(then, name));
        const char *b = json_string_value(value);
        if (status == TEXT_OK && (!a || !b || strcmp(a, b) != 0))
            status = differs(t, step, name, a, b, error);
    }
    json_object_foreach((json_t *)then, name,
                        value) if (status == TEXT_OK &&
                                   !json_object_get(now, name)) status =
        differs(t, step, name, json_string_value(value), NULL, error);
    json_decref(now);
    return status;
}

/* ------------------------------------------------------- counts and facts */

/* Where the numbers are that are neither in the library's state nor can be
 * computed again. */
static size_t facts_of(trainer *t, const char *const **names, double *out[])
{
    static const char *const all[] = {"seconds",       "nll_before", "p_before",
                                      "moment_before", "nll_after",  "p_after",
                                      "moment_after",  NULL};
    summary_facts *f = &t->facts;
    double *const places[] = {&t->now.seconds,   &f->nll_before, &f->p_before,
                              &f->moment_before, &f->nll_after,  &f->p_after,
                              &f->moment_after};
    *names = all;
    memcpy(out, places, sizeof places);
    return sizeof places / sizeof *places;
}

static char *host_text(trainer *t)
{
    const char *const *names;
    double *values[8];
    size_t n = facts_of(t, &names, values);
    json_t *facts = json_object();
    for (size_t i = 0; i < n; i++)
        if (isfinite(*values[i])) /* JSON has no others */
            json_object_set_new(facts, names[i], json_real(*values[i]));
    json_t *all =
        json_pack("{s:i, s:o, s:I, s:I, s:o}", "format", FORMAT, "settings",
                  settings_now(t), "samples", (json_int_t)t->now.samples,
                  "tokens", (json_int_t)t->now.tokens, "facts", facts);
    char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    json_decref(all);
    return text;
}

static int take_host(trainer *t, int64_t step, json_t *all, text_error *error)
{
    const char *const *names;
    double *values[8];
    const json_t *settings = json_object_get(all, "settings");
    if (json_integer_value(json_object_get(all, "format")) != FORMAT ||
        !json_is_object(settings))
        return text_fail(error, TEXT_INPUT,
                         "%s has a checkpoint of step %" PRId64
                         " that another program has written",
                         t->folder, step);
    int status = compare_settings(t, step, settings, error);
    if (status != TEXT_OK)
        return status;
    t->now.step = step;
    t->now.samples = json_integer_value(json_object_get(all, "samples"));
    t->now.tokens = json_integer_value(json_object_get(all, "tokens"));
    size_t n = facts_of(t, &names, values);
    for (size_t i = 0; i < n; i++) {
        const json_t *value =
            json_object_get(json_object_get(all, "facts"), names[i]);
        *values[i] = value ? json_number_value(value) : NAN;
    }
    return TEXT_OK;
}

/* -------------------------------------------------------------- checkpoint */

int saved_write(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    char *host = host_text(t);
    if (!host)
        return text_fail(error, TEXT_FAILED, "out of memory for a checkpoint");
    cadft_checkpoint to = {.struct_size = sizeof to,
                           .keep = (int32_t)t->session->options->keep,
                           .folder = t->folder,
                           .step = t->step,
                           .model = t->model,
                           .optimizer = t->optimizer,
                           .loss = t->loss,
                           .rewrite = t->rewrite,
                           .host = host,
                           .host_bytes = strlen(host)};
    int status =
        checked(cadft_checkpoint_save(t->session->context, &to, &e), &e, error);
    free(host);
    return status;
}

int loaded_from(int32_t status, const cadft_error *from, text_error *error)
{
    return status == CADFT_E_FORMAT
               ? text_fail(error, TEXT_FAILED,
                           "%s (remove that checkpoint to go on from the one "
                           "before it)",
                           from->message)
               : checked(status, from, error);
}

int saved_read(trainer *t, int64_t step, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_context *context = t->session->context;
    cadft_checkpoint from = {
        .struct_size = sizeof from, .folder = t->folder, .step = step};
    size_t n = 0;
    int32_t status = cadft_checkpoint_load(context, &from, NULL, 0, &n, &e);
    if (status != CADFT_OK)
        return loaded_from(status, &e, error);
    char *host = malloc(n + 1);
    if (!host)
        return text_fail(error, TEXT_FAILED, "out of memory for a checkpoint");
    status = cadft_checkpoint_load(context, &from, host, n, &n, &e);
    json_t *all = status == CADFT_OK ? json_loadb(host, n, 0, NULL) : NULL;
    free(host);
    int result = status == CADFT_OK ? take_host(t, step, all, error)
                                    : loaded_from(status, &e, error);
    json_decref(all);
    return result;
}

static int remove_step(const char *folder, int64_t step, text_error *error)
{
    char path[4096];
    cadft_error e = {.struct_size = sizeof e};
    int status = checked(
        cadft_checkpoint_path(folder, step, path, sizeof path, NULL, &e), &e,
        error);
    return status == TEXT_OK ? folder_remove(path, error) : status;
}

int saved_remove(cadft_context *context, const char *folder, text_error *error)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/final", folder);
    int status = folder_remove(path, error);
    while (status == TEXT_OK) {
        cadft_error e = {.struct_size = sizeof e};
        int64_t step;
        status = checked(cadft_checkpoint_find(context, folder, -1, &step, &e),
                         &e, error);
        if (status != TEXT_OK || step < 0)
            return status;
        status = remove_step(folder, step, error);
    }
    return status;
}
