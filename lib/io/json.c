/* SPDX-License-Identifier: Apache-2.0 */
#include "io/json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/error.h"

int32_t cadft__json_parse(const cadft__shown *file,
                          const char *text,
                          size_t length,
                          cadft__json *out,
                          cadft_error *error)
{
    json_error_t why;
    memset(out, 0, sizeof *out);
    memset(&why, 0, sizeof why);
    out->file = *file;
    out->value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    /* Out of memory jansson does not always find a sentence. */
    if (!out->value &&
        (!why.text[0] || json_error_code(&why) == json_error_out_of_memory))
        return cadft__fail(error, CADFT_E_NOMEM,
                           "%s: no memory for the JSON values", file->text);
    if (!out->value)
        return cadft__fail(error, CADFT_E_FORMAT, "%s, line %d: %s", file->text,
                           why.line < 1 ? 1 : why.line,
                           cadft__show(why.text).text);
    if (!json_is_object(out->value)) {
        cadft__json_free(out);
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s, line 1: an array, expected an object",
                           file->text);
    }
    return CADFT_OK;
}

int32_t cadft__json_read(cadft__memory *memory,
                         const cadft__folder *folder,
                         const char *name,
                         size_t limit,
                         cadft__json *out,
                         cadft_error *error)
{
    cadft__shown shown =
        cadft__show_path(folder ? folder->shown.text : "", name);
    char *text;
    size_t length;
    int32_t status;
    out->value = NULL;
    status =
        cadft__file_text(memory, folder, name, limit, &text, &length, error);
    if (status)
        return status;
    status = cadft__json_parse(&shown, text, length, out, error);
    cadft__free(memory, text, length + 1);
    return status;
}

void cadft__json_free(cadft__json *json)
{
    json_decref(json->value);
    json->value = NULL;
}

/* --------------------------------------------------------------- getters */

/* NULL for a missing key and for null. */
static json_t *find(const cadft__json *object, const char *key)
{
    json_t *value = json_object_get(object->value, key);
    return json_is_null(value) ? NULL : value;
}

int cadft__json_has(const cadft__json *object, const char *key)
{
    return find(object, key) != NULL;
}

int cadft__json_present(const cadft__json *object, const char *key)
{
    return json_object_get(object->value, key) != NULL;
}

/* A value as a sentence has it. */
static cadft__shown describe(const json_t *value)
{
    cadft__shown shown = cadft__show("null");
    size_t room = sizeof shown.text;
    if (json_is_object(value))
        return cadft__show("an object");
    if (json_is_boolean(value))
        return cadft__show(json_is_true(value) ? "true" : "false");
    if (json_is_array(value))
        snprintf(shown.text, room, "an array of %zu", json_array_size(value));
    else if (json_is_string(value))
        snprintf(shown.text, room, "\"%.64s\"",
                 cadft__show(json_string_value(value)).text);
    else if (json_is_integer(value))
        snprintf(shown.text, room, "%lld",
                 (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(shown.text, room, "%.17g", json_real_value(value));
    return shown;
}

static int32_t missing(const cadft__json *object,
                       const char *key,
                       const char *expected,
                       cadft_error *error)
{
    return cadft__fail(error, CADFT_E_FORMAT,
                       "%s: %s%s is missing, expected %s", object->file.text,
                       object->inside.text, key, expected);
}

static int32_t wrong(const cadft__json *object,
                     const char *key,
                     const json_t *value,
                     const char *expected,
                     cadft_error *error)
{
    return cadft__fail(error, CADFT_E_FORMAT, "%s: %s%s is %s, expected %s",
                       object->file.text, object->inside.text, key,
                       describe(value).text, expected);
}

int32_t cadft__json_i64(const cadft__json *object,
                        const char *key,
                        int64_t least,
                        int64_t most,
                        const int64_t *absent,
                        int64_t *out,
                        cadft_error *error)
{
    const json_t *value = find(object, key);
    char expected[80];
    snprintf(expected, sizeof expected, "an integer from %lld to %lld",
             (long long)least, (long long)most);
    if (!value && !absent)
        return missing(object, key, expected, error);
    if (!value) {
        *out = *absent;
        return CADFT_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most)
        return wrong(object, key, value, expected, error);
    *out = json_integer_value(value);
    return CADFT_OK;
}

int32_t cadft__json_f64(const cadft__json *object,
                        const char *key,
                        double least,
                        double most,
                        const double *absent,
                        double *out,
                        cadft_error *error)
{
    const json_t *value = find(object, key);
    char expected[80];
    double number;
    snprintf(expected, sizeof expected, "a number from %g to %g", least, most);
    if (!value && !absent)
        return missing(object, key, expected, error);
    if (!value) {
        *out = *absent;
        return CADFT_OK;
    }
    number = json_number_value(value);
    if (!json_is_number(value) || !(number >= least && number <= most))
        return wrong(object, key, value, expected, error);
    *out = number;
    return CADFT_OK;
}

int32_t cadft__json_bool(const cadft__json *object,
                         const char *key,
                         const int32_t *absent,
                         int32_t *out,
                         cadft_error *error)
{
    const json_t *value = find(object, key);
    if (!value && !absent)
        return missing(object, key, "true or false", error);
    if (value && !json_is_boolean(value))
        return wrong(object, key, value, "true or false", error);
    *out = value ? json_is_true(value) : *absent;
    return CADFT_OK;
}

int32_t cadft__json_text(const cadft__json *object,
                         const char *key,
                         const char *absent,
                         const char **out,
                         cadft_error *error)
{
    const json_t *value = find(object, key);
    if (!value && !absent)
        return missing(object, key, "a string", error);
    if (value && !json_is_string(value))
        return wrong(object, key, value, "a string", error);
    *out = value ? json_string_value(value) : absent;
    return CADFT_OK;
}

int32_t cadft__json_text_at(const cadft__json *object,
                            const char *key,
                            size_t index,
                            const char **out,
                            cadft_error *error)
{
    const json_t *array = find(object, key);
    const json_t *value = json_array_get(array, index);
    char element[2 * CADFT__SHOWN];
    *out = NULL;
    if (array && !json_is_array(array))
        return wrong(object, key, array, "an array of strings", error);
    if (value && !json_is_string(value)) {
        snprintf(element, sizeof element, "%s[%zu]", cadft__show(key).text,
                 index);
        return wrong(object, element, value, "a string", error);
    }
    *out = value ? json_string_value(value) : NULL;
    return CADFT_OK;
}

int32_t cadft__json_object(const cadft__json *object,
                           const char *key,
                           int32_t optional,
                           cadft__json *out,
                           cadft_error *error)
{
    json_t *value = find(object, key);
    char inside[2 * CADFT__SHOWN];
    if (!value && !optional)
        return missing(object, key, "an object", error);
    if (value && !json_is_object(value))
        return wrong(object, key, value, "an object", error);
    snprintf(inside, sizeof inside, "%s%s.", object->inside.text, key);
    *out = (cadft__json){value, object->file, cadft__show(inside)};
    return CADFT_OK;
}
