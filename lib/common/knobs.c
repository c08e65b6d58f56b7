/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* strtod_l */
#include "common/knobs.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"

static void *at(void *options, const cadft__knob *knob)
{
    return (char *)options + knob->offset;
}

static int64_t read_i64(const void *options, const cadft__knob *knob)
{
    return *(const int64_t *)(const void *)((const char *)options +
                                            knob->offset);
}

static double read_f64(const void *options, const cadft__knob *knob)
{
    return *(const double *)(const void *)((const char *)options +
                                           knob->offset);
}

void cadft__knobs_default(const cadft__knobs *knobs, void *options)
{
    for (size_t i = 0; i < knobs->count; i++) {
        const cadft__knob *knob = &knobs->knobs[i];
        if (knob->type == CADFT__KNOB_I64)
            *(int64_t *)at(options, knob) = (int64_t)knob->standard;
        else
            *(double *)at(options, knob) = knob->standard;
    }
}

int32_t cadft__knobs_find(const cadft__knobs *knobs,
                          int32_t key,
                          const cadft__knob **out,
                          cadft_error *error)
{
    for (size_t i = 0; i < knobs->count; i++)
        if (knobs->knobs[i].key == key) {
            *out = &knobs->knobs[i];
            return CADFT_OK;
        }
    *out = NULL;
    for (size_t i = 0; i < knobs->n_facts; i++)
        if (knobs->facts[i].key == key)
            return cadft__fail(error, CADFT_E_KEY,
                               "key %d, %s, is read only, of type i64", key,
                               knobs->facts[i].name);
    return cadft__fail(error, CADFT_E_KEY, "key %d is not a knob", key);
}

static const char *type_name(int32_t type)
{
    return type == CADFT__KNOB_I64 ? "i64" : "f64";
}

static int32_t
check_type(const cadft__knob *knob, int32_t type, cadft_error *error)
{
    if (knob->type == type)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_KEY, "%s is of type %s, expected %s",
                       knob->name, type_name(knob->type), type_name(type));
}

/* ---------------------------------------------------------------- setting */

static int32_t store_i64(const cadft__knob *knob,
                         void *options,
                         int64_t value,
                         cadft_error *error)
{
    if (value < (int64_t)knob->smallest || value > (int64_t)knob->largest)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is %lld, expected %lld to %lld", knob->name,
                           (long long)value, (long long)knob->smallest,
                           (long long)knob->largest);
    *(int64_t *)at(options, knob) = value;
    return CADFT_OK;
}

static int32_t store_f64(const cadft__knob *knob,
                         void *options,
                         double value,
                         cadft_error *error)
{
    if (!(value >= knob->smallest && value <= knob->largest))
        return cadft__fail(error, CADFT_E_ARG, "%s is %.17g, expected %g to %g",
                           knob->name, value, knob->smallest, knob->largest);
    *(double *)at(options, knob) = value;
    return CADFT_OK;
}

int32_t cadft__knobs_set_i64(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             int64_t value,
                             cadft_error *error)
{
    const cadft__knob *knob;
    int32_t status = cadft__knobs_find(knobs, key, &knob, error);
    if (!status)
        status = check_type(knob, CADFT__KNOB_I64, error);
    return status ? status : store_i64(knob, options, value, error);
}

int32_t cadft__knobs_set_f64(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             double value,
                             cadft_error *error)
{
    const cadft__knob *knob;
    int32_t status = cadft__knobs_find(knobs, key, &knob, error);
    if (!status)
        status = check_type(knob, CADFT__KNOB_F64, error);
    return status ? status : store_f64(knob, options, value, error);
}

/* Place of `value` in a list of names separated by spaces, or -1. */
static int64_t name_index(const char *names, const char *value)
{
    size_t length = strlen(value);
    for (int64_t i = 0; names; i++) {
        const char *end = strchr(names, ' ');
        size_t here = end ? (size_t)(end - names) : strlen(names);
        if (here == length && memcmp(names, value, length) == 0)
            return i;
        names = end ? end + 1 : NULL;
    }
    return -1;
}

/* A number with a decimal point, whatever the locale of the process. */
static int32_t parse_f64(const cadft__knob *knob,
                         const char *text,
                         double *out,
                         cadft_error *error)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    char *end = NULL;
    if (!c)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a locale");
    *out = strtod_l(text, &end, c);
    freelocale(c);
    if (end == text || *end)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is \"%.64s\", expected a number", knob->name,
                           text);
    return CADFT_OK;
}

static int32_t parse_i64(const cadft__knob *knob,
                         const char *text,
                         int64_t *out,
                         cadft_error *error)
{
    char *end = NULL;
    long long value;
    *out = knob->names ? name_index(knob->names, text) : -1;
    if (*out >= 0)
        return CADFT_OK;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return cadft__fail(error, CADFT_E_ARG, "%s is \"%.64s\", expected %s",
                           knob->name, text,
                           knob->names ? knob->names : "an integer");
    *out = value;
    return CADFT_OK;
}

int32_t cadft__knobs_set_str(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             const char *value,
                             cadft_error *error)
{
    const cadft__knob *knob;
    double number = 0;
    int64_t whole = 0;
    int32_t status = cadft__knobs_find(knobs, key, &knob, error);
    if (status)
        return status;
    if (!value)
        return cadft__fail(error, CADFT_E_NULL, "value of %s is NULL",
                           knob->name);
    if (knob->type == CADFT__KNOB_F64) {
        status = parse_f64(knob, value, &number, error);
        return status ? status : store_f64(knob, options, number, error);
    }
    status = parse_i64(knob, value, &whole, error);
    return status ? status : store_i64(knob, options, whole, error);
}

/* ---------------------------------------------------------------- getting */

static int32_t gettable(const cadft__knobs *knobs,
                        int32_t key,
                        int32_t type,
                        const void *out,
                        const cadft__knob **knob,
                        cadft_error *error)
{
    int32_t status = cadft__knobs_find(knobs, key, knob, error);
    if (status)
        return status;
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    return check_type(*knob, type, error);
}

int32_t cadft__knobs_get_i64(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             int64_t *out,
                             cadft_error *error)
{
    const cadft__knob *knob;
    int32_t status = gettable(knobs, key, CADFT__KNOB_I64, out, &knob, error);
    if (!status)
        *out = read_i64(options, knob);
    return status;
}

int32_t cadft__knobs_get_f64(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             double *out,
                             cadft_error *error)
{
    const cadft__knob *knob;
    int32_t status = gettable(knobs, key, CADFT__KNOB_F64, out, &knob, error);
    if (!status)
        *out = read_f64(options, knob);
    return status;
}

/* Shortest text that reads back as the same value, with a point. */
static void format_f64(double value, char *text, size_t size)
{
    const char *point = localeconv()->decimal_point;
    char *found;
    snprintf(text, size, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, size, "%.17g", value);
    found = *point ? strstr(text, point) : NULL;
    if (found && strcmp(point, ".") != 0) {
        size_t length = strlen(point);
        *found = '.';
        memmove(found + 1, found + length, strlen(found + length) + 1);
    }
}

int32_t cadft__knobs_get_str(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             char *buffer,
                             size_t capacity,
                             size_t *needed,
                             cadft_error *error)
{
    const cadft__knob *knob;
    char text[64];
    int32_t status = cadft__knobs_find(knobs, key, &knob, error);
    if (status)
        return status;
    if (knob->type == CADFT__KNOB_F64) {
        format_f64(read_f64(options, knob), text, sizeof text);
    } else if (knob->names) {
        const char *name = knob->names;
        for (int64_t i = read_i64(options, knob); i > 0; i--)
            name = strchr(name, ' ') + 1;
        snprintf(text, sizeof text, "%.*s", (int)strcspn(name, " "), name);
    } else {
        snprintf(text, sizeof text, "%lld", (long long)read_i64(options, knob));
    }
    return cadft__text_out(text, buffer, capacity, needed, error);
}

int32_t cadft__knobs_bounds(const cadft__knobs *knobs,
                            int32_t key,
                            int32_t *type,
                            double *smallest,
                            double *largest,
                            double *standard,
                            cadft_error *error)
{
    const cadft__knob *knob;
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = cadft__knobs_find(knobs, key, &knob, &own);
    if (!status) {
        if (type)
            *type = knob->type;
        if (smallest)
            *smallest = knob->smallest;
        if (largest)
            *largest = knob->largest;
        if (standard)
            *standard = knob->standard;
    }
    return cadft__error_leave(error, &own, status);
}

static int32_t key_of(const cadft__knobs *knobs,
                      const char *name,
                      int32_t *key,
                      cadft_error *error)
{
    if (!name || !key)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           name ? "key" : "name");
    for (size_t i = 0; i < knobs->count; i++)
        if (strcmp(knobs->knobs[i].name, name) == 0) {
            *key = knobs->knobs[i].key;
            return CADFT_OK;
        }
    for (size_t i = 0; i < knobs->n_facts; i++)
        if (strcmp(knobs->facts[i].name, name) == 0) {
            *key = knobs->facts[i].key;
            return CADFT_OK;
        }
    return cadft__fail(error, CADFT_E_KEY, "\"%.64s\" is not a key", name);
}

int32_t cadft__knobs_key(const cadft__knobs *knobs,
                         const char *name,
                         int32_t *key,
                         cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = key_of(knobs, name, key, &own);
    return cadft__error_leave(error, &own, status);
}

int32_t cadft__knobs_at(const cadft__knobs *knobs,
                        int32_t index,
                        const char **name,
                        int32_t *key,
                        cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status && (index < 0 || (size_t)index >= knobs->count))
        status =
            cadft__fail(&own, CADFT_E_KEY, "index is %d, expected 0 to %zu",
                        index, knobs->count - 1);
    if (!status && name)
        *name = knobs->knobs[index].name;
    if (!status && key)
        *key = knobs->knobs[index].key;
    return cadft__error_leave(error, &own, status);
}
