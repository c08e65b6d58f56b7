/* SPDX-License-Identifier: Apache-2.0 */
#include "prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All of standard input, terminated, without a newline at its end. */
static int read_input(char **text, size_t *length, text_error *error)
{
    size_t n = 0, capacity = 1 << 12;
    char *bytes = malloc(capacity);
    while (bytes) {
        n += fread(bytes + n, 1, capacity - n, stdin);
        if (n < capacity)
            break;
        char *more = realloc(bytes, capacity *= 2);
        if (!more)
            free(bytes);
        bytes = more;
    }
    if (!bytes)
        return text_fail(error, TEXT_FAILED, "out of memory for the prompt");
    if (ferror(stdin)) {
        free(bytes);
        return text_fail(error, TEXT_INPUT, "standard input cannot be read: %s",
                         strerror(errno));
    }
    n -= n > 0 && bytes[n - 1] == '\n';
    bytes[n] = '\0';
    *text = bytes;
    *length = n;
    return TEXT_OK;
}

/* "12 7 300" */
static int
parse_ids(const char *text, int32_t **ids, size_t *n, text_error *error)
{
    /* An id takes two bytes with its blank. */
    *ids = malloc((strlen(text) / 2 + 1) * sizeof **ids);
    if (!*ids)
        return text_fail(error, TEXT_FAILED, "out of memory for the prompt");
    *n = 0;
    while (text[strspn(text, " \t\r\n")]) {
        char *end;
        errno = 0;
        long id = strtol(text, &end, 10);
        if (end == text || !strchr(" \t\r\n", *end) || errno || id < 0 ||
            id > INT32_MAX) {
            free(*ids);
            *ids = NULL;
            return text_fail(error, TEXT_INPUT,
                             "the prompt at \"%.20s\": expected token ids "
                             "between blanks",
                             text);
        }
        (*ids)[(*n)++] = (int32_t)id;
        text = end;
    }
    return TEXT_OK;
}

static int encode_chat(tokenizer *t,
                       const char *text,
                       size_t length,
                       int32_t **ids,
                       size_t *n,
                       text_error *error)
{
    json_t *messages =
        json_pack("[{ssss%}]", "role", "user", "content", text, length);
    if (!messages)
        return text_fail(error, TEXT_INPUT,
                         "the prompt is not UTF-8, or there is no memory for "
                         "it");
    int status = tokenizer_encode_chat(t, messages, ids, n, error);
    json_decref(messages);
    return status;
}

int prompt_ids(
    const options *o, tokenizer *t, int32_t **ids, size_t *n, text_error *error)
{
    char *input = NULL;
    const char *text = o->prompt;
    size_t length = text ? strlen(text) : 0;
    *ids = NULL;
    *n = 0;
    int status = text ? TEXT_OK : read_input(&input, &length, error);
    if (status != TEXT_OK)
        return status;
    if (!text)
        text = input;
    if (o->ids)
        status = parse_ids(text, ids, n, error);
    else if (o->chat)
        status = encode_chat(t, text, length, ids, n, error);
    else
        status = tokenizer_encode(t, text, length, ids, n, error);
    free(input);
    if (status == TEXT_OK && *n == 0) {
        free(*ids);
        *ids = NULL;
        return text_fail(error, TEXT_INPUT,
                         "the prompt is empty; this tokenizer has no token "
                         "to begin with");
    }
    return status;
}
