/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "knobs.h"
#include "text/pack.h"

enum { MAX_HELD = 512, PIECE = 1 << 20 };

uint64_t digest_add(uint64_t digest, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ at[i]) * UINT64_C(0x100000001b3);
    return digest;
}

/* ------------------------------------------------------ the model's folder */

static int is_weights(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

/* Name, size, beginning and end: enough to tell two models from each other
 * without reading gigabytes. */
static int digest_file(const char *folder,
                       const char *name,
                       uint64_t *digest,
                       text_error *error)
{
    char path[4096];
    char *piece = malloc(PIECE);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = piece ? fopen(path, "rb") : NULL;
    long size = -1;
    if (file && fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    int good = size >= 0;
    *digest = digest_add(*digest, name, strlen(name));
    *digest = digest_add(*digest, &size, sizeof size);
    for (int i = 0; i < 2 && good; i++) {
        long from = i == 0 || size < PIECE ? 0 : size - PIECE;
        good = fseek(file, from, SEEK_SET) == 0;
        size_t n = good ? fread(piece, 1, PIECE, file) : 0;
        good = good && !ferror(file);
        *digest = digest_add(*digest, piece, n);
    }
    int status =
        good ? TEXT_OK
             : text_fail(error, TEXT_FAILED, "%s: %s", path, strerror(errno));
    if (file)
        fclose(file);
    free(piece);
    return status;
}

static int digest_model(const char *folder, uint64_t *out, text_error *error)
{
    struct dirent **entries = NULL;
    *out = DIGEST;
    int status = digest_file(folder, "config.json", out, error);
    int n = scandir(folder, &entries, is_weights, alphasort);
    if (n < 0 && status == TEXT_OK)
        status =
            text_fail(error, TEXT_INPUT, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (status == TEXT_OK)
            status = digest_file(folder, entries[i]->d_name, out, error);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static void take_ends(session *s, const json_t *ends)
{
    size_t n = json_is_array(ends) ? json_array_size(ends) : ends != NULL;
    for (size_t i = 0; i < n && s->n_ends < MAX_ENDS; i++) {
        const json_t *end =
            json_is_array(ends) ? json_array_get(ends, i) : ends;
        if (json_is_integer(end))
            s->ends[s->n_ends++] = (int32_t)json_integer_value(end);
    }
}

/* What has to be known of a model before it is loaded. The library reads the
 * file again, and checks all of it. */
static int read_config(session *s, int32_t *vocab, text_error *error)
{
    const char *folder = s->options->model;
    char path[4096];
    json_error_t why;
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!config)
        return text_fail(error, TEXT_INPUT, "%s: %s", path, why.text);
    json_int_t tokens =
        json_integer_value(json_object_get(config, "vocab_size"));
    json_int_t positions =
        json_integer_value(json_object_get(config, "max_position_embeddings"));
    take_ends(s, json_object_get(config, "eos_token_id"));
    json_decref(config);
    if (tokens < 1 || tokens > INT32_MAX)
        return text_fail(error, TEXT_INPUT,
                         "%s: vocab_size is missing or no size", path);
    *vocab = (int32_t)tokens;
    const options *o = s->options;
    s->max_length = o->max_length ? o->max_length : o->micro_tokens;
    if (positions > 0 && positions < s->max_length) {
        if (o->max_length)
            return text_fail(error, TEXT_INPUT,
                             "--max-length %lld: the model has %lld positions",
                             (long long)o->max_length, (long long)positions);
        s->max_length = positions;
    }
    return digest_model(folder, &s->model_digest, error);
}

/* ------------------------------------------------------------------- data */

static void tell(const char *path, const text_data *data)
{
    if (data->n_bad > 0)
        fprintf(stderr, "finetune: %s: %zu bad lines skipped\n", path,
                data->n_bad);
    if (data->n_long > 0)
        fprintf(stderr, "finetune: %s: %zu samples are too long, left out\n",
                path, data->n_long);
    for (size_t i = 0; i < data->n_notes; i++)
        fprintf(stderr, "    %s\n", data->notes[i].message);
}

static int read_data(session *s, int32_t vocab, text_error *error)
{
    const options *o = s->options;
    tokenizer *t = NULL;
    const char *name = o->tokenizer ? o->tokenizer : o->model;
    int status = TEXT_OK;
    if (strcmp(name, "none") != 0)
        status = tokenizer_open(name, NULL, &t, error);
    text_data_options how = {.tokenizer = t,
                             .format = o->format,
                             .bad_lines = o->bad_lines,
                             .max_tokens = (int32_t)s->max_length,
                             .vocab = vocab};
    if (status == TEXT_OK)
        status = text_data_read(o->data, &how, &s->data, error);
    if (status == TEXT_OK && o->eval_file)
        status = text_data_read(o->eval_file, &how, &s->eval_data, error);
    if (status == TEXT_OK && t) {
        tokenizer_info about = tokenizer_about(t);
        s->n_ends = 0;
        for (size_t i = 0; i < about.n_eos && s->n_ends < MAX_ENDS; i++)
            s->ends[s->n_ends++] = about.eos[i];
    }
    tokenizer_close(t);
    if (status != TEXT_OK)
        return status;
    tell(o->data, &s->data);
    if (o->eval_file)
        tell(o->eval_file, &s->eval_data);
    return TEXT_OK;
}

/* Held out: the file for it, or the first samples of an order of their own. */
static int split_data(session *s, text_error *error)
{
    const options *o = s->options;
    size_t n = s->data.n, share = 0;
    if (!o->eval_file)
        share = (size_t)(o->eval_share * (double)n);
    share = share < MAX_HELD ? share : MAX_HELD;
    size_t n_held = o->eval_file ? s->eval_data.n : share;
    s->train = calloc(n + 1, sizeof *s->train);
    s->held = calloc(n_held + 1, sizeof *s->held);
    char *out = calloc(n + 1, 1);
    if (!s->train || !s->held || !out) {
        free(out);
        return text_fail(error, TEXT_FAILED, "out of memory for %zu samples",
                         n);
    }
    for (size_t i = 0; i < share; i++)
        out[order_at((uint64_t)o->seed, UINT64_MAX, n, i)] = 1;
    for (size_t i = 0; i < n; i++)
        if (out[i])
            s->held[s->n_held++] = &s->data.samples[i];
        else
            s->train[s->n_train++] = &s->data.samples[i];
    for (size_t i = 0; i < s->eval_data.n; i++)
        s->held[s->n_held++] = &s->eval_data.samples[i];
    free(out);
    if ((int64_t)s->n_train < o->batch)
        return text_fail(error, TEXT_INPUT,
                         "--batch %lld: there are %zu samples to train on",
                         (long long)o->batch, s->n_train);
    return TEXT_OK;
}

static uint64_t digest_samples(const text_sample *const *samples, size_t n)
{
    uint64_t digest = DIGEST;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = (size_t)samples[i]->n * sizeof(int32_t);
        digest = digest_add(digest, &samples[i]->n, sizeof samples[i]->n);
        digest = digest_add(digest, samples[i]->tokens, bytes);
        digest = digest_add(digest, samples[i]->labels, bytes);
    }
    return digest;
}

static void take_groups(session *s)
{
    s->groups = (const char *const *)s->data.groups;
    s->n_groups = s->data.n_groups;
    if (s->n_groups > METRICS_GROUPS) {
        fprintf(stderr,
                "finetune: %s has %zu groups; metrics for each of them are "
                "written for up to %d\n",
                s->options->data, s->n_groups, METRICS_GROUPS);
        s->n_groups = 0;
    }
}

/* ---------------------------------------------------------------- session */

static int check_settings(const session *s, int64_t steps, text_error *error)
{
    int status = TEXT_OK;
    for (int i = 0; i < s->options->n_objectives && status == TEXT_OK; i++) {
        knobs k;
        knobs_plan(s->options, &s->options->objectives[i], steps, &k);
        status = knobs_check(s->context, &k, error);
    }
    return status;
}

static int64_t count_steps(const session *s)
{
    const options *o = s->options;
    if (o->steps)
        return o->steps;
    int64_t n = llround(o->epochs * (double)s->n_train / (double)o->batch);
    return n > 0 ? n : 1;
}

int session_open(const options *o, session *s, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = (int32_t)o->threads};
    int32_t vocab = 0;
    *s = (session){.options = o};
    int status =
        checked(cadft_context_create(&desc, &s->context, &e), &e, error);
    if (status == TEXT_OK)
        status = check_settings(s, o->steps ? o->steps : INT32_MAX, error);
    if (status == TEXT_OK)
        status = read_config(s, &vocab, error);
    if (status == TEXT_OK)
        status = read_data(s, vocab, error);
    if (status == TEXT_OK)
        status = split_data(s, error);
    if (status != TEXT_OK)
        return status;
    take_groups(s);
    s->train_digest = digest_samples(s->train, s->n_train);
    s->held_digest = digest_samples(s->held, s->n_held);
    s->steps = count_steps(s);
    return check_settings(s, s->steps, error);
}

void session_close(session *s)
{
    free(s->train);
    free(s->held);
    text_data_free(&s->data);
    text_data_free(&s->eval_data);
    cadft_context_destroy(s->context);
    *s = (session){.options = NULL};
}

size_t session_sample(const session *s, int64_t place)
{
    uint64_t n = s->n_train, at = (uint64_t)place;
    return order_at((uint64_t)s->options->seed, at / n, n, at % n);
}
