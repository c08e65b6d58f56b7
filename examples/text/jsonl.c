/* SPDX-License-Identifier: Apache-2.0 */
#include "text/jsonl.h"

#include <stdint.h>
#include <string.h>

enum { IGNORED = -100, MAX_DEPTH = 32 };

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

/* The field `key` of a type, or NULL and a sentence. */
static json_t *
field_of(const json_t *object, const char *key, int type, text_error *error)
{
    json_t *value = json_object_get(object, key);
    if (!value)
        text_fail(error, TEXT_INPUT, "field \"%s\" is missing", key);
    else if ((int)json_typeof(value) != type)
        text_fail(error, TEXT_INPUT, "field \"%s\" is %s, not %s", key,
                  type_name(value),
                  type == JSON_STRING ? "a text" : "an array");
    else
        return value;
    return NULL;
}

static int check_texts(const json_t *second, const char *key, text_error *error)
{
    if (json_string_length(second) == 0)
        return text_fail(error, TEXT_INPUT, "field \"%s\" is empty", key);
    return TEXT_OK;
}

static int check_ids(const json_t *array, const char *key, text_error *error)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id))
            return text_fail(error, TEXT_INPUT,
                             "field \"%s\": element %zu is %s, not a whole "
                             "number",
                             key, i,
                             json_is_real(id) ? "a fraction" : type_name(id));
        if (value < 0 || value > INT32_MAX)
            return text_fail(
                error, TEXT_INPUT,
                "field \"%s\": element %zu is %" JSON_INTEGER_FORMAT
                ", not a token id",
                key, i, value);
    }
    return TEXT_OK;
}

/* Labels are not shifted: each is its own token or -100. One that is neither
 * is the sign of a shift that was made already. */
static int
check_labels(const json_t *tokens, const json_t *labels, text_error *error)
{
    size_t n = json_array_size(tokens), learned = 0;
    if (json_array_size(labels) != n)
        return text_fail(error, TEXT_INPUT,
                         "field \"labels\" has %zu elements, \"tokens\" %zu",
                         json_array_size(labels), n);
    for (size_t i = 0; i < n; i++) {
        const json_t *label = json_array_get(labels, i);
        json_int_t token = json_integer_value(json_array_get(tokens, i));
        json_int_t value = json_integer_value(label);
        if (!json_is_integer(label) || (value != IGNORED && value != token))
            return text_fail(error, TEXT_INPUT,
                             "field \"labels\": element %zu is neither %d nor "
                             "the token %" JSON_INTEGER_FORMAT
                             " beside it (labels are not shifted)",
                             i, IGNORED, token);
        learned += value != IGNORED;
    }
    if (learned == 0)
        return text_fail(error, TEXT_INPUT,
                         "field \"labels\" has nothing to learn");
    return TEXT_OK;
}

/* Whoever gets the messages next may walk them by recursion. */
static int is_deep(json_t *value, int depth)
{
    const char *key;
    json_t *inner;
    size_t i;
    if (depth > MAX_DEPTH)
        return 1;
    json_array_foreach(value, i, inner) if (is_deep(inner, depth + 1)) return 1;
    json_object_foreach(value, key,
                        inner) if (is_deep(inner, depth + 1)) return 1;
    return 0;
}

static int check_message(const json_t *message, size_t i, text_error *error)
{
    if (!json_is_object(message))
        return text_fail(error, TEXT_INPUT, "message %zu is %s, not an object",
                         i, type_name(message));
    text_error why;
    const json_t *role = field_of(message, "role", JSON_STRING, &why);
    const json_t *content =
        role ? field_of(message, "content", JSON_STRING, &why) : NULL;
    if (!content)
        return text_fail(error, TEXT_INPUT, "message %zu: %s", i, why.message);
    if (strcmp(json_string_value(role), "assistant") == 0 &&
        json_string_length(content) == 0)
        return text_fail(error, TEXT_INPUT,
                         "message %zu: field \"content\" is empty", i);
    return TEXT_OK;
}

static int
check_messages(const json_t *root, json_t *messages, text_error *error)
{
    size_t answers = 0;
    if (json_array_size(json_object_get(root, "tools")) > 0)
        return text_fail(error, TEXT_INPUT, "field \"tools\" is not supported");
    if (is_deep(messages, 0))
        return text_fail(error, TEXT_INPUT,
                         "field \"messages\" is nested too deeply");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        int status = check_message(message, i, error);
        if (status != TEXT_OK)
            return status;
        const char *role = json_string_value(json_object_get(message, "role"));
        answers += strcmp(role, "assistant") == 0;
    }
    if (answers == 0)
        return text_fail(error, TEXT_INPUT,
                         "field \"messages\" has no message of the assistant");
    return TEXT_OK;
}

static const struct form {
    int form, type;
    const char *first, *second; /* keys; the second may be NULL */
} forms[] = {
    {JSONL_MESSAGES, JSON_ARRAY, "messages", NULL},
    {JSONL_TEXTS, JSON_STRING, "prompt", "completion"},
    {JSONL_TEXTS, JSON_STRING, "question", "answer"},
    {JSONL_IDS, JSON_ARRAY, "prompt_ids", "completion_ids"},
    {JSONL_LABELS, JSON_ARRAY, "tokens", "labels"},
};

/* A form is known by either of its keys, so that a half-present pair is named
 * in the message. Without any it is the one that most people mean. */
static const struct form *form_of(const json_t *root)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (json_object_get(root, forms[i].first) ||
            (forms[i].second && json_object_get(root, forms[i].second)))
            return &forms[i];
    return &forms[1];
}

static int
check_item(const struct form *form, const jsonl_item *item, text_error *error)
{
    int status;
    switch (form->form) {
    case JSONL_MESSAGES:
        return check_messages(item->root, item->first, error);
    case JSONL_TEXTS:
        return check_texts(item->second, form->second, error);
    case JSONL_IDS:
        if (json_array_size(item->second) == 0)
            return text_fail(error, TEXT_INPUT, "field \"%s\" is empty",
                             form->second);
        status = check_ids(item->first, form->first, error);
        return status ? status : check_ids(item->second, form->second, error);
    default:
        status = check_ids(item->first, form->first, error);
        return status ? status : check_labels(item->first, item->second, error);
    }
}

static int parse_object(jsonl_item *item, text_error *error)
{
    if (!json_is_object(item->root))
        return text_fail(error, TEXT_INPUT, "is %s, not an object",
                         type_name(item->root));
    const struct form *form = form_of(item->root);
    item->form = form->form;
    item->first = field_of(item->root, form->first, form->type, error);
    if (!item->first)
        return TEXT_INPUT;
    if (form->second) {
        item->second = field_of(item->root, form->second, form->type, error);
        if (!item->second)
            return TEXT_INPUT;
    }
    return check_item(form, item, error);
}

int jsonl_parse_line(const char *line,
                     size_t length,
                     jsonl_item *item,
                     text_error *error)
{
    *item = (jsonl_item){0};
    json_error_t why;
    item->root = json_loadb(
        line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY,
        &why);
    if (!item->root) {
        int nomem = json_error_code(&why) == json_error_out_of_memory;
        return text_fail(error, nomem ? TEXT_FAILED : TEXT_INPUT,
                         "column %d: not valid JSON: %s", why.column, why.text);
    }
    int status = parse_object(item, error);
    if (status != TEXT_OK)
        jsonl_free(item);
    return status;
}

void jsonl_free(jsonl_item *item)
{
    json_decref(item->root);
    *item = (jsonl_item){0};
}
