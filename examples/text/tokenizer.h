/* SPDX-License-Identifier: Apache-2.0 */
/* Text to token ids and back: the tokenizer of a model folder, by the Python
 * program tokenizer.py as a child process, or bytes, which needs none.
 *
 * The bytes tokenizer is for small models trained from scratch: id 0 to 255
 * is that byte, 256 the end, 257 the beginning (and padding). It has no chat
 * template. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "text/text.h"

enum { BYTES_END = 256, BYTES_BEGIN = 257, BYTES_VOCAB = 258 };

typedef struct tokenizer tokenizer;

/* Open a tokenizer.
 * name    a model folder, or "bytes"
 * script  path of tokenizer.py; NULL: where it was when this was compiled
 * The Python is python3, or what the environment variable CADFT_PYTHON names.
 * It needs the package tokenizers, and jinja2 for chat templates. */
int tokenizer_open(const char *name,
                   const char *script,
                   tokenizer **out,
                   text_error *error);

/* NULL allowed. */
void tokenizer_close(tokenizer *t);

typedef struct tokenizer_info {
    int32_t vocab;      /* ids are below it */
    int32_t bos;        /* -1: none */
    const int32_t *eos; /* [n_eos] all that end a text; first the one that
                         * stands behind a completion. The tokenizer's. */
    size_t n_eos;
    int has_chat; /* there is a chat template */
} tokenizer_info;

tokenizer_info tokenizer_about(const tokenizer *t);

/* A prompt to continue: token ids of a text of UTF-8, with the beginning if
 * the tokenizer has one.
 * ids  [n] from malloc */
int tokenizer_encode(tokenizer *t,
                     const char *text,
                     size_t length,
                     int32_t **ids,
                     size_t *n,
                     text_error *error);

/* A prompt by the chat template, up to where the assistant speaks.
 * messages  array of objects with the texts role and content */
int tokenizer_encode_chat(tokenizer *t,
                          json_t *messages,
                          int32_t **ids,
                          size_t *n,
                          text_error *error);

/* Something to train on. */
typedef struct tokenized {
    int32_t *ids;          /* [n] */
    unsigned char *target; /* [n] 1: a token to be learned */
    size_t n;
    int split; /* prompt and completion would share a token; they were encoded
                * one by one */
    text_error *why; /* NULL, or why there are no ids */
} tokenized;

/* Tokenize many samples at once.
 * requests  array of objects, {"pair": [PROMPT, COMPLETION]}, texts that are
 *           taken as they are with the end behind them, or
 *           {"chat": messages}, each turn of the assistant being a target
 * out       [size of requests], free each with tokenized_free; a request that
 *           cannot be tokenized is no failure but has a sentence there */
int tokenizer_samples(tokenizer *t,
                      json_t *requests,
                      tokenized *out,
                      text_error *error);
void tokenized_free(tokenized *x);

/* Decode piece by piece: what one more token adds to a text that began with
 * the first piece, or the first one after a flush. A character that is not
 * complete is kept back; special tokens are left out.
 * piece  UTF-8, terminated; the tokenizer's until the next call
 * n      its bytes, as it may hold NUL */
int tokenizer_piece(
    tokenizer *t, int32_t id, const char **piece, size_t *n, text_error *error);

/* What was kept back; what is no character is written as U+FFFD. */
int tokenizer_flush(tokenizer *t,
                    const char **piece,
                    size_t *n,
                    text_error *error);

#endif
