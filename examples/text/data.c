/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "text/data.h"

#include <stdlib.h>
#include <string.h>

#include "text/jsonl.h"
#include "text/lines.h"
#include "text/sample.h"

/* Lines that wait for the tokenizer, which is asked for many at once. */
enum { WAITING = 256, WAITING_BYTES = 1 << 22, MAX_LINE = 16 << 20 };

typedef struct reader {
    const text_data_options *options;
    lines lines;
    text_data *out;
    int chat;         /* texts become messages */
    json_t *requests; /* for the samples waiting[0], waiting[1], ... */
    size_t n_bytes;   /* of their lines */
    size_t waiting[WAITING];
    tokenized done[WAITING];
} reader;

static size_t n_waiting(const reader *r)
{
    return json_array_size(r->requests);
}

/* ------------------------------------------------------------------ notes */

/* A line is bad, or its sample too long: keep the sentence, or stop. `why` is
 * without the file's name and the line. */
static int note(reader *r,
                int stop,
                size_t line,
                size_t *count,
                const text_error *why,
                text_error *error)
{
    text_error sentence;
    text_fail(&sentence, TEXT_INPUT, "%s, line %zu: %s", r->lines.name, line,
              why->message);
    if (stop) {
        *error = sentence;
        return TEXT_INPUT;
    }
    ++*count;
    if (r->out->n_notes < DATA_NOTES)
        r->out->notes[r->out->n_notes++] = sentence;
    return TEXT_OK;
}

static int
bad_line(reader *r, size_t line, const text_error *why, text_error *error)
{
    return note(r, r->options->bad_lines == BAD_LINES_STOP, line,
                &r->out->n_bad, why, error);
}

/* ---------------------------------------------------------------- samples */

/* Tokenizer and model may differ in their vocabulary; the model's counts. */
static int check_vocab(const reader *r, const text_sample *s, text_error *why)
{
    int32_t vocab = r->options->vocab;
    for (int32_t i = 0; vocab > 0 && i < s->n; i++)
        if (s->tokens[i] >= vocab)
            return text_fail(why, TEXT_INPUT,
                             "token %d of the sample is id %d, outside the "
                             "model's vocabulary of %d",
                             i, s->tokens[i], vocab);
    return TEXT_OK;
}

/* Put a sample into its place, or leave the place empty. `status` is how
 * making it went, TEXT_INPUT with a sentence in `why`. Takes the sample. */
static int settle(reader *r,
                  size_t place,
                  int status,
                  text_sample *made,
                  text_error *why,
                  text_error *error)
{
    text_sample *s = &r->out->samples[place];
    int32_t most = r->options->max_tokens, group = s->group;
    size_t line = s->line;
    if (status == TEXT_OK)
        status = check_vocab(r, made, why);
    if (status == TEXT_OK && (most == 0 || made->n <= most)) {
        *s = *made;
        s->line = line;
        s->group = group;
        return TEXT_OK;
    }
    int32_t n = made->n;
    sample_free(made);
    if (status == TEXT_INPUT)
        return bad_line(r, line, why, error);
    if (status != TEXT_OK)
        return text_fail(error, status, "%s, line %zu: %s", r->lines.name, line,
                         why->message);
    text_fail(why, TEXT_INPUT, "%d tokens, at most %d are taken", n, most);
    return note(r, r->options->strict, line, &r->out->n_long, why, error);
}

/* A place for the sample of this line; the last one of the list. */
static int add_place(reader *r, text_error *error)
{
    text_data *out = r->out;
    if (out->n == out->capacity) {
        size_t capacity = out->capacity ? 2 * out->capacity : 1024;
        text_sample *samples =
            realloc(out->samples, capacity * sizeof *samples);
        if (!samples)
            return text_fail(error, TEXT_FAILED, "%s: out of memory",
                             r->lines.name);
        out->samples = samples;
        out->capacity = capacity;
    }
    out->samples[out->n++] =
        (text_sample){.line = r->lines.number, .group = -1};
    return TEXT_OK;
}

/* Have the lines tokenized that wait, and settle them in their order. */
static int tokenize(reader *r, text_error *error)
{
    size_t n = n_waiting(r);
    if (n == 0)
        return TEXT_OK;
    int status =
        tokenizer_samples(r->options->tokenizer, r->requests, r->done, error);
    json_array_clear(r->requests);
    r->n_bytes = 0;
    if (status != TEXT_OK)
        return status;
    for (size_t i = 0; i < n; i++) {
        tokenized *x = &r->done[i];
        text_sample made = {0};
        text_error why;
        if (status == TEXT_OK) {
            int how =
                x->why
                    ? text_fail(&why, TEXT_INPUT, "%s", x->why->message)
                    : sample_of_targets(x->ids, x->target, x->n, &made, &why);
            r->out->n_split += x->split != 0;
            status = settle(r, r->waiting[i], how, &made, &why, error);
        }
        tokenized_free(x);
    }
    return status;
}

static int queue(reader *r, const jsonl_item *item, text_error *error)
{
    json_t *request = sample_request(item, r->chat);
    r->waiting[n_waiting(r)] = r->out->n - 1;
    if (json_array_append_new(r->requests, request) != 0)
        return text_fail(error, TEXT_FAILED, "%s, line %zu: out of memory",
                         r->lines.name, r->lines.number);
    r->n_bytes += r->lines.n;
    return n_waiting(r) == WAITING || r->n_bytes > WAITING_BYTES
               ? tokenize(r, error)
               : TEXT_OK;
}

/* ------------------------------------------------------------------ lines */

static int parse(const reader *r, jsonl_item *item, text_error *why)
{
    *item = (jsonl_item){0};
    if (r->lines.too_long)
        return text_fail(why, TEXT_INPUT, "longer than %zu bytes",
                         r->lines.max_bytes);
    int status = jsonl_parse_line(r->lines.bytes, r->lines.n, item, why);
    if (status != TEXT_OK)
        return status;
    int texts = item->form == JSONL_TEXTS || item->form == JSONL_MESSAGES;
    if (texts && !r->options->tokenizer) {
        jsonl_free(item);
        return text_fail(why, TEXT_INPUT, "texts need a tokenizer");
    }
    return TEXT_OK;
}

/* The number of a line's group, -1 without one. */
static int
find_group(text_data *out, const json_t *name, int32_t *group, text_error *why)
{
    *group = -1;
    if (!name)
        return TEXT_OK;
    if (!json_is_string(name))
        return text_fail(why, TEXT_INPUT, "field \"group\" is not a text");
    const char *text = json_string_value(name);
    for (size_t i = 0; i < out->n_groups && *group < 0; i++)
        if (strcmp(out->groups[i], text) == 0)
            *group = (int32_t)i;
    if (*group >= 0)
        return TEXT_OK;
    char **groups = realloc(out->groups, (out->n_groups + 1) * sizeof *groups);
    if (groups)
        out->groups = groups;
    char *copy = groups ? strdup(text) : NULL;
    if (!copy)
        return text_fail(why, TEXT_FAILED, "out of memory");
    *group = (int32_t)out->n_groups;
    out->groups[out->n_groups++] = copy;
    return TEXT_OK;
}

static int take_line(reader *r, text_error *error)
{
    jsonl_item item;
    text_sample made = {0};
    text_error why;
    int status = add_place(r, error);
    if (status != TEXT_OK)
        return status;
    int parsed = parse(r, &item, &why);
    if (parsed == TEXT_OK) {
        parsed = find_group(r->out, json_object_get(item.root, "group"),
                            &r->out->samples[r->out->n - 1].group, &why);
        if (parsed != TEXT_OK)
            jsonl_free(&item);
    }
    if (parsed == TEXT_OK &&
        (item.form == JSONL_TEXTS || item.form == JSONL_MESSAGES)) {
        status = queue(r, &item, error);
    } else {
        if (parsed == TEXT_OK)
            parsed = sample_of_ids(&item, &made, &why);
        /* Those before it first: the first bad line is the one reported. */
        status = tokenize(r, error);
        if (status == TEXT_OK)
            status = settle(r, r->out->n - 1, parsed, &made, &why, error);
        else
            sample_free(&made);
    }
    jsonl_free(&item);
    return status;
}

/* Places that stayed empty go. */
static void close_ranks(text_data *out)
{
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        if (out->samples[i].tokens)
            out->samples[n++] = out->samples[i];
    out->n = n;
}

static int read_all(reader *r, text_error *error)
{
    int more = 1, status = TEXT_OK;
    while (status == TEXT_OK && more) {
        status = lines_next(&r->lines, &more, error);
        if (status == TEXT_OK && more)
            status = take_line(r, error);
    }
    if (status == TEXT_OK)
        status = tokenize(r, error);
    close_ranks(r->out);
    if (status == TEXT_OK && r->out->n == 0)
        status =
            r->out->n_notes > 0
                ? text_fail(error, TEXT_INPUT,
                            "%s: no line can be used; the first: %s",
                            r->lines.name, r->out->notes[0].message)
                : text_fail(error, TEXT_INPUT, "%s: is empty", r->lines.name);
    return status;
}

static int wants_chat(const text_data_options *o, int *chat, text_error *error)
{
    int has = o->tokenizer && tokenizer_about(o->tokenizer).has_chat;
    *chat = o->format == FORMAT_CHAT || (o->format == FORMAT_AUTO && has);
    if (*chat && !has)
        return text_fail(error, TEXT_INPUT,
                         "format chat: the tokenizer has no chat template");
    return TEXT_OK;
}

static int read_lines(reader *r, text_error *error)
{
    int status = wants_chat(r->options, &r->chat, error);
    r->requests = json_array();
    if (status == TEXT_OK && !r->requests)
        status =
            text_fail(error, TEXT_FAILED, "%s: out of memory", r->lines.name);
    if (status == TEXT_OK)
        status = read_all(r, error);
    json_decref(r->requests);
    lines_close(&r->lines);
    return status;
}

static size_t line_limit(const text_data_options *options)
{
    return options->max_line ? options->max_line : MAX_LINE;
}

int text_data_read(const char *path,
                   const text_data_options *options,
                   text_data *out,
                   text_error *error)
{
    reader r = {.options = options, .out = out};
    *out = (text_data){0};
    int status = lines_open(&r.lines, path, line_limit(options), error);
    return status == TEXT_OK ? read_lines(&r, error) : status;
}

int text_data_read_stream(FILE *file,
                          const char *name,
                          const text_data_options *options,
                          text_data *out,
                          text_error *error)
{
    reader r = {.options = options, .out = out};
    *out = (text_data){0};
    lines_start(&r.lines, file, name, line_limit(options));
    return read_lines(&r, error);
}

void text_data_free(text_data *data)
{
    for (size_t i = 0; i < data->n; i++)
        sample_free(&data->samples[i]);
    free(data->samples);
    for (size_t i = 0; i < data->n_groups; i++)
        free(data->groups[i]);
    free(data->groups);
    *data = (text_data){0};
}
