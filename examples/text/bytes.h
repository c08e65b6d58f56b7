/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as tokens. Used by tokenizer.c. */
#ifndef TEXT_BYTES_H
#define TEXT_BYTES_H

#include "text/tokenizer.h"

/* Bytes of a character that is not complete, and the last piece. */
typedef struct bytes_stream {
    unsigned char held[4];
    size_t n;
    char piece[16];
} bytes_stream;

int bytes_encode(const char *text,
                 size_t length,
                 int32_t **ids,
                 size_t *n,
                 text_error *error);

/* One request of tokenizer_samples. TEXT_INPUT is for out->why. */
int bytes_sample(const json_t *request, tokenized *out, text_error *error);

/* The length of s->piece. */
size_t bytes_piece(bytes_stream *s, int32_t id);
size_t bytes_flush(bytes_stream *s);

#endif
