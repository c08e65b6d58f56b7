/* SPDX-License-Identifier: Apache-2.0 */
#include "text/bytes.h"

#include <stdlib.h>
#include <string.h>

static void put_bytes(int32_t *ids, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ids[i] = (unsigned char)text[i];
}

int bytes_encode(const char *text,
                 size_t length,
                 int32_t **ids,
                 size_t *n,
                 text_error *error)
{
    *ids = malloc((length + 1) * sizeof **ids);
    if (!*ids)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu tokens",
                         length);
    (*ids)[0] = BYTES_BEGIN;
    put_bytes(*ids + 1, text, length);
    *n = length + 1;
    return TEXT_OK;
}

int bytes_sample(const json_t *request, tokenized *out, text_error *error)
{
    const json_t *pair = json_object_get(request, "pair");
    if (!pair)
        return text_fail(error, TEXT_INPUT,
                         "the bytes tokenizer has no chat template");
    const json_t *prompt = json_array_get(pair, 0);
    const json_t *completion = json_array_get(pair, 1);
    size_t p = json_string_length(prompt), c = json_string_length(completion);
    out->n = p + c + 2; /* the beginning and the end */
    out->ids = malloc(out->n * sizeof *out->ids);
    out->target = calloc(out->n, 1);
    if (!out->ids || !out->target) {
        tokenized_free(out);
        return text_fail(error, TEXT_FAILED, "out of memory for %zu tokens",
                         p + c);
    }
    out->ids[0] = BYTES_BEGIN;
    put_bytes(out->ids + 1, json_string_value(prompt), p);
    put_bytes(out->ids + 1 + p, json_string_value(completion), c);
    out->ids[1 + p + c] = BYTES_END;
    memset(out->target + 1 + p, 1, c + 1);
    return TEXT_OK;
}

/* ----------------------------------------------------------------- decode */

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Bytes of the character that begins with `first`; 0: none does. */
static size_t character_bytes(unsigned char first)
{
    return first < 0x80    ? 1
           : first < 0xC2  ? 0
           : first < 0xE0  ? 2
           : first < 0xF0  ? 3
           : first <= 0xF4 ? 4
                           : 0;
}

/* May `next` stand behind the first byte? Not in longer forms than needed,
 * surrogates, and beyond U+10FFFF (Unicode, table 3-7). */
static int may_follow(unsigned char first, size_t index, unsigned char next)
{
    unsigned char low = 0x80, high = 0xBF;
    if (index == 1) {
        low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    }
    return next >= low && next <= high;
}

static size_t give_up(bytes_stream *s, size_t at)
{
    if (s->n == 0)
        return at;
    memcpy(s->piece + at, replacement, 3);
    s->n = 0;
    return at + 3;
}

size_t bytes_flush(bytes_stream *s)
{
    size_t n = give_up(s, 0);
    s->piece[n] = '\0';
    return n;
}

size_t bytes_piece(bytes_stream *s, int32_t id)
{
    size_t n = 0;
    s->piece[0] = '\0';
    if (id < 0 || id > 255)
        return bytes_flush(s);
    unsigned char byte = (unsigned char)id;
    if (s->n > 0 && !may_follow(s->held[0], s->n, byte))
        n = give_up(s, n); /* and the byte begins anew */
    s->held[s->n++] = byte;
    size_t whole = character_bytes(s->held[0]);
    if (whole == 0) {
        n = give_up(s, n);
    } else if (s->n == whole) {
        memcpy(s->piece + n, s->held, whole);
        n += whole;
        s->n = 0;
    }
    s->piece[n] = '\0';
    return n;
}
