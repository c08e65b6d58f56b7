/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "text/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/bytes.h"
#include "text/child.h"

/* The build sets it to the file beside this one. */
#ifndef TEXT_TOKENIZER_SCRIPT
#    define TEXT_TOKENIZER_SCRIPT "tokenizer.py"
#endif

struct tokenizer {
    int is_bytes;
    bytes_stream stream;
    child python;
    json_t *answer; /* whose text is the last piece */
    tokenizer_info info;
    int32_t *eos; /* [info.n_eos] */
};

static int wrong_answer(text_error *error)
{
    return text_fail(error, TEXT_FAILED,
                     "tokenizer.py gave an answer of another form than asked "
                     "for");
}

/* Ids out of an array of numbers; [n] from malloc. */
static int
take_ids(const json_t *array, int32_t **ids, size_t *n, text_error *error)
{
    *n = json_array_size(array);
    *ids = malloc((*n + 1) * sizeof **ids);
    if (!*ids)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu tokens",
                         *n);
    int good = json_is_array(array);
    for (size_t i = 0; i < *n; i++) {
        json_t *id = json_array_get(array, i);
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        good = good && value >= 0 && value <= INT32_MAX;
        (*ids)[i] = (int32_t)value;
    }
    if (good)
        return TEXT_OK;
    free(*ids);
    *ids = NULL;
    *n = 0;
    return wrong_answer(error);
}

/* ------------------------------------------------------------ open, close */

static int ask_info(tokenizer *t, text_error *error)
{
    json_t *request = json_pack("{si}", "info", 1), *answer = NULL;
    int status = child_ask(&t->python, request, &answer, error);
    json_decref(request);
    if (status != TEXT_OK)
        return status;
    json_int_t vocab = json_integer_value(json_object_get(answer, "vocab"));
    json_t *bos = json_object_get(answer, "bos");
    t->info.vocab = vocab > 0 && vocab <= INT32_MAX ? (int32_t)vocab : 0;
    t->info.bos = json_is_integer(bos) ? (int32_t)json_integer_value(bos) : -1;
    t->info.has_chat = json_is_true(json_object_get(answer, "chat"));
    status = take_ids(json_object_get(answer, "eos"), &t->eos, &t->info.n_eos,
                      error);
    t->info.eos = t->eos;
    json_decref(answer);
    return status == TEXT_OK && t->info.vocab == 0 ? wrong_answer(error)
                                                   : status;
}

static int start_python(tokenizer *t,
                        const char *folder,
                        const char *script,
                        text_error *error)
{
    const char *python = getenv("CADFT_PYTHON");
    if (!python || !*python)
        python = "python3";
    if (access(script, R_OK) != 0)
        return text_fail(error, TEXT_INPUT, "%s: cannot be read: %s", script,
                         strerror(errno));
    /* execve's declaration wants char *, and leaves them alone. */
    char *argv[] = {(char *)(uintptr_t)python, (char *)(uintptr_t)script,
                    (char *)(uintptr_t)folder, NULL};
    int status = child_start(&t->python, "tokenizer.py", argv, error);
    if (status != TEXT_OK) {
        text_fail(error, status,
                  "%s; the tokenizer of a model folder needs Python 3 (the "
                  "environment variable CADFT_PYTHON may name it)",
                  error->message);
        return status;
    }
    return ask_info(t, error);
}

int tokenizer_open(const char *name,
                   const char *script,
                   tokenizer **out,
                   text_error *error)
{
    static const int32_t bytes_eos[] = {BYTES_END};
    int status = TEXT_OK;
    *out = NULL;
    tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return text_fail(error, TEXT_FAILED, "out of memory for a tokenizer");
    t->python.fd = -1;
    t->is_bytes = strcmp(name, "bytes") == 0;
    if (t->is_bytes)
        t->info = (tokenizer_info){.vocab = BYTES_VOCAB,
                                   .bos = BYTES_BEGIN,
                                   .eos = bytes_eos,
                                   .n_eos = 1};
    else
        status = start_python(t, name, script ? script : TEXT_TOKENIZER_SCRIPT,
                              error);
    if (status != TEXT_OK)
        tokenizer_close(t);
    else
        *out = t;
    return status;
}

void tokenizer_close(tokenizer *t)
{
    if (!t)
        return;
    if (!t->is_bytes)
        child_stop(&t->python);
    json_decref(t->answer);
    free(t->eos);
    free(t);
}

tokenizer_info tokenizer_about(const tokenizer *t)
{
    return t->info;
}

/* ----------------------------------------------------------------- encode */

/* Ask for ids; the request is used up and may be NULL: no memory for it. */
static int ask_ids(
    tokenizer *t, json_t *request, int32_t **ids, size_t *n, text_error *error)
{
    json_t *answer = NULL;
    if (!request)
        return text_fail(error, TEXT_INPUT,
                         "the prompt is not UTF-8, or there is no memory for "
                         "it");
    int status = child_ask(&t->python, request, &answer, error);
    json_decref(request);
    if (status == TEXT_OK)
        status = take_ids(json_object_get(answer, "ids"), ids, n, error);
    json_decref(answer);
    return status;
}

int tokenizer_encode(tokenizer *t,
                     const char *text,
                     size_t length,
                     int32_t **ids,
                     size_t *n,
                     text_error *error)
{
    *ids = NULL;
    *n = 0;
    if (t->is_bytes)
        return bytes_encode(text, length, ids, n, error);
    return ask_ids(t, json_pack("{ss%}", "encode", text, length), ids, n,
                   error);
}

int tokenizer_encode_chat(
    tokenizer *t, json_t *messages, int32_t **ids, size_t *n, text_error *error)
{
    *ids = NULL;
    *n = 0;
    if (t->is_bytes)
        return text_fail(error, TEXT_INPUT,
                         "the bytes tokenizer has no chat template");
    return ask_ids(t, json_pack("{sO}", "prompt", messages), ids, n, error);
}

/* ---------------------------------------------------------------- samples */

void tokenized_free(tokenized *x)
{
    free(x->ids);
    free(x->target);
    free(x->why);
    *x = (tokenized){0};
}

/* A sentence of one sample. */
static int refuse(tokenized *out, const char *sentence, text_error *error)
{
    out->why = malloc(sizeof *out->why);
    if (!out->why)
        return text_fail(error, TEXT_FAILED, "out of memory for a sentence");
    text_fail(out->why, TEXT_INPUT, "%s", sentence);
    return TEXT_OK;
}

/* "targets": [[BEGIN, END], ...]. */
static int mark_targets(tokenized *out, const json_t *targets)
{
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const json_t *span = json_array_get(targets, i);
        json_int_t begin = json_integer_value(json_array_get(span, 0));
        json_int_t end = json_integer_value(json_array_get(span, 1));
        if (begin < 0 || end < begin || (size_t)end > out->n)
            return 0;
        memset(out->target + begin, 1, (size_t)(end - begin));
    }
    return json_is_array(targets);
}

static int take_sample(const json_t *from, tokenized *out, text_error *error)
{
    const char *sentence = json_string_value(json_object_get(from, "error"));
    if (sentence)
        return refuse(out, sentence, error);
    int status =
        take_ids(json_object_get(from, "ids"), &out->ids, &out->n, error);
    if (status != TEXT_OK)
        return status;
    out->split = json_is_true(json_object_get(from, "split"));
    out->target = calloc(out->n + 1, 1);
    if (!out->target)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu tokens",
                         out->n);
    return mark_targets(out, json_object_get(from, "targets"))
               ? TEXT_OK
               : wrong_answer(error);
}

static int bytes_samples(json_t *requests, tokenized *out, text_error *error)
{
    text_error why;
    for (size_t i = 0; i < json_array_size(requests); i++) {
        int status = bytes_sample(json_array_get(requests, i), &out[i], &why);
        if (status == TEXT_INPUT)
            status = refuse(&out[i], why.message, &why);
        if (status != TEXT_OK)
            return text_fail(error, status, "%s", why.message);
    }
    return TEXT_OK;
}

static int python_samples(tokenizer *t,
                          json_t *requests,
                          tokenized *out,
                          text_error *error)
{
    json_t *answer = NULL, *request = json_pack("{sO}", "samples", requests);
    if (!request)
        return text_fail(error, TEXT_FAILED, "out of memory for a request");
    int status = child_ask(&t->python, request, &answer, error);
    json_decref(request);
    json_t *samples = json_object_get(answer, "samples");
    size_t n = json_array_size(requests);
    if (status == TEXT_OK && json_array_size(samples) != n)
        status = wrong_answer(error);
    for (size_t i = 0; status == TEXT_OK && i < n; i++)
        status = take_sample(json_array_get(samples, i), &out[i], error);
    json_decref(answer);
    return status;
}

int tokenizer_samples(tokenizer *t,
                      json_t *requests,
                      tokenized *out,
                      text_error *error)
{
    size_t n = json_array_size(requests);
    for (size_t i = 0; i < n; i++)
        out[i] = (tokenized){0};
    int status = t->is_bytes ? bytes_samples(requests, out, error)
                             : python_samples(t, requests, out, error);
    for (size_t i = 0; status != TEXT_OK && i < n; i++)
        tokenized_free(&out[i]);
    return status;
}

/* ----------------------------------------------------------------- decode */

/* Ask for a text; the request is used up. */
static int ask_text(tokenizer *t,
                    json_t *request,
                    const char **piece,
                    size_t *n,
                    text_error *error)
{
    *piece = "";
    *n = 0;
    json_decref(t->answer);
    t->answer = NULL;
    int status = child_ask(&t->python, request, &t->answer, error);
    json_decref(request);
    if (status != TEXT_OK)
        return status;
    const json_t *text = json_object_get(t->answer, "text");
    if (!json_is_string(text))
        return wrong_answer(error);
    *piece = json_string_value(text);
    *n = json_string_length(text);
    return TEXT_OK;
}

int tokenizer_piece(
    tokenizer *t, int32_t id, const char **piece, size_t *n, text_error *error)
{
    if (!t->is_bytes)
        return ask_text(t, json_pack("{si}", "piece", (int)id), piece, n,
                        error);
    *n = bytes_piece(&t->stream, id);
    *piece = t->stream.piece;
    return TEXT_OK;
}

int tokenizer_flush(tokenizer *t,
                    const char **piece,
                    size_t *n,
                    text_error *error)
{
    if (!t->is_bytes)
        return ask_text(t, json_pack("{si}", "flush", 1), piece, n, error);
    *n = bytes_flush(&t->stream);
    *piece = t->stream.piece;
    return TEXT_OK;
}
