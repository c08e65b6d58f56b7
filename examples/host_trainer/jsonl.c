/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonl.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* The text under `key`, or NULL with a sentence in `why`. */
static const json_t *text_of(const json_t *object,
                             const char *key,
                             size_t number,
                             char *why,
                             size_t capacity)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        snprintf(why, capacity, "line %zu: field \"%s\" is missing", number,
                 key);
    else if (!json_is_string(value))
        snprintf(why, capacity, "line %zu: field \"%s\" is %s, not a text",
                 number, key, type_name(value));
    else
        return value;
    return NULL;
}

static int
copy_texts(const json_t *prompt, const json_t *completion, jsonl_item *item)
{
    item->n_prompt = json_string_length(prompt);
    item->n_completion = json_string_length(completion);
    item->text = malloc(item->n_prompt + item->n_completion);
    if (!item->text)
        return JSONL_NOMEM;
    memcpy(item->text, json_string_value(prompt), item->n_prompt);
    memcpy(item->text + item->n_prompt, json_string_value(completion),
           item->n_completion);
    return JSONL_OK;
}

static int parse_object(const json_t *root,
                        size_t number,
                        jsonl_item *item,
                        char *why,
                        size_t capacity)
{
    if (!json_is_object(root)) {
        snprintf(why, capacity, "line %zu: is %s, not an object", number,
                 type_name(root));
        return JSONL_BAD;
    }
    /* Either pair of names; "question" decides only when the first pair is
     * wholly absent, so that a half-present pair is named in the message. */
    int second =
        !json_object_get(root, "prompt") &&
        !json_object_get(root, "completion") &&
        (json_object_get(root, "question") || json_object_get(root, "answer"));
    const char *asked = second ? "question" : "prompt";
    const char *told = second ? "answer" : "completion";
    const json_t *prompt = text_of(root, asked, number, why, capacity);
    if (!prompt)
        return JSONL_BAD;
    const json_t *completion = text_of(root, told, number, why, capacity);
    if (!completion)
        return JSONL_BAD;
    if (json_string_length(completion) == 0) {
        snprintf(why, capacity, "line %zu: field \"%s\" is empty", number,
                 told);
        return JSONL_BAD;
    }
    int status = copy_texts(prompt, completion, item);
    if (status != JSONL_OK)
        snprintf(why, capacity, "line %zu: out of memory", number);
    return status;
}

/* The parser quotes from the line, which may hold anything; a terminal
 * should not have to obey it. */
static void make_printable(char *text, size_t capacity)
{
    for (size_t i = 0; i < capacity && text[i]; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

int jsonl_parse_line(const char *line,
                     size_t length,
                     size_t number,
                     jsonl_item *item,
                     char *why,
                     size_t capacity)
{
    memset(item, 0, sizeof *item);
    if (capacity > 0)
        why[0] = '\0';
    if (length > JSONL_MAX_LINE) {
        snprintf(why, capacity, "line %zu: longer than %d MiB", number,
                 JSONL_MAX_LINE >> 20);
        return JSONL_BAD;
    }
    json_error_t error;
    json_t *root = json_loadb(
        line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY,
        &error);
    if (!root) {
        int nomem = json_error_code(&error) == json_error_out_of_memory;
        snprintf(why, capacity, "line %zu, column %d: not valid JSON: %s",
                 number, error.column, error.text);
        make_printable(why, capacity);
        return nomem ? JSONL_NOMEM : JSONL_BAD;
    }
    int status = parse_object(root, number, item, why, capacity);
    if (status != JSONL_OK)
        jsonl_free(item);
    json_decref(root);
    return status;
}

void jsonl_free(jsonl_item *item)
{
    free(item->text);
    memset(item, 0, sizeof *item);
}
