/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: checks and order, the header's text, the data in pieces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/tensor.h"
#include "io/safetensors.h"

enum {
    PIECE = 32768, /* bytes asked for at a time: whole elements of any type */
    /* What an entry has beside its name: keys and punctuation (less than 64
     * bytes) and numbers of at most 20 bytes with a comma. */
    ENTRY_MOST = 64 + 21 * (CADFT__SAFETENSORS_NDIM + 2)
};

/* An item with its place in the file; sorted. */
struct place {
    const cadft__safetensors_item *item;
    int64_t bytes;
};

static int in_file_order(const void *left, const void *right)
{
    const cadft__safetensors_item *a = ((const struct place *)left)->item;
    const cadft__safetensors_item *b = ((const struct place *)right)->item;
    size_t a_size = cadft__dtype_size(a->dtype);
    size_t b_size = cadft__dtype_size(b->dtype);
    if (a_size != b_size)
        return a_size > b_size ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* So that the header needs no escapes. */
static int is_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if (*c < 0x20 || *c > 0x7e || *c == '"' || *c == '\\')
            return 0;
    return *name && strcmp(name, "__metadata__") != 0;
}

static int32_t check_item(const cadft__safetensors_item *item,
                          int64_t *bytes,
                          cadft_error *error)
{
    if (!is_name(item->name))
        return cadft__fail(error, CADFT_E_ARG,
                           "a tensor's name is \"%s\", expected printable "
                           "ASCII without '\"' and '\\'",
                           cadft__show(item->name).text);
    if (!cadft__safetensors_type_name(item->dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "dtype of %s is 0x%x, expected one of "
                           "CADFT_DTYPE_...",
                           cadft__show(item->name).text, (unsigned)item->dtype);
    if (item->ndim < 0 || item->ndim > CADFT__SAFETENSORS_NDIM)
        return cadft__fail(
            error, CADFT_E_SHAPE, "ndim of %s is %d, expected 0 to %d",
            cadft__show(item->name).text, item->ndim, CADFT__SAFETENSORS_NDIM);
    *bytes = (int64_t)cadft__dtype_size(item->dtype);
    for (int32_t i = 0; i < item->ndim; i++)
        if (item->shape[i] < 0 ||
            __builtin_mul_overflow(*bytes, item->shape[i], bytes))
            return cadft__fail(error, CADFT_E_SHAPE,
                               "shape[%d] of %s is %lld, expected at least 0 "
                               "and less than 2^63 bytes in all",
                               i, cadft__show(item->name).text,
                               (long long)item->shape[i]);
    if (*bytes && !item->data && !item->fill)
        return cadft__fail(error, CADFT_E_NULL, "data and fill of %s are NULL",
                           cadft__show(item->name).text);
    return CADFT_OK;
}

static int32_t put_in_order(const cadft__safetensors_item *items,
                            size_t n,
                            struct place *places,
                            cadft_error *error)
{
    int64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t status;
        places[i].item = &items[i];
        status = check_item(&items[i], &places[i].bytes, error);
        if (status)
            return status;
        if (__builtin_add_overflow(total, places[i].bytes, &total))
            return cadft__fail(error, CADFT_E_SHAPE,
                               "the tensors have more than 2^63 bytes");
    }
    if (n)
        qsort(places, n, sizeof *places, in_file_order);
    return CADFT_OK;
}

/* The same name of types of different sizes is found only here. */
static int by_name(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int32_t check_names(cadft__memory *memory,
                           const cadft__safetensors_item *items,
                           size_t n,
                           cadft_error *error)
{
    size_t size = (n + 1) * sizeof(const char *);
    const char **names = (const char **)cadft__alloc(memory, size);
    const char *twice = NULL;
    if (!names)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu "
                           "bytes",
                           size);
    for (size_t i = 0; i < n; i++)
        names[i] = items[i].name;
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n && !twice; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            twice = names[i];
    cadft__free(memory, names, size);
    if (twice)
        return cadft__fail(error, CADFT_E_ARG,
                           "two tensors are named %s, expected one",
                           cadft__show(twice).text);
    return CADFT_OK;
}

/* ----------------------------------------------------------------- header */

static const char opening[] = "{\"__metadata__\":{\"format\":\"pt\"}";

/* Returns the position after the entry. */
static char *put_entry(char *at, const struct place *place, int64_t offset)
{
    const cadft__safetensors_item *item = place->item;
    size_t length = strlen(item->name);
    *at++ = ',';
    *at++ = '"';
    memcpy(at, item->name, length);
    at += length;
    at += snprintf(at, 64, "\":{\"dtype\":\"%s\",\"shape\":[",
                   cadft__safetensors_type_name(item->dtype));
    for (int32_t i = 0; i < item->ndim; i++)
        at +=
            snprintf(at, 24, "%s%lld", i ? "," : "", (long long)item->shape[i]);
    return at + snprintf(at, 72, "],\"data_offsets\":[%lld,%lld]}",
                         (long long)offset, (long long)(offset + place->bytes));
}

/* Length prefix and header, padded with blanks to whole words of 8 bytes. */
static int32_t write_header(cadft__memory *memory,
                            cadft__sink *sink,
                            const struct place *places,
                            size_t n,
                            cadft_error *error)
{
    size_t size = 8 + sizeof opening + 16, length;
    int64_t offset = 0;
    char *text, *at;
    int32_t status;
    for (size_t i = 0; i < n; i++)
        size += strlen(places[i].item->name) + ENTRY_MOST;
    text = (char *)cadft__alloc(memory, size);
    if (!text)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes for the header",
                           size);
    memcpy(text + 8, opening, sizeof opening - 1);
    at = text + 8 + sizeof opening - 1;
    for (size_t i = 0; i < n; i++) {
        at = put_entry(at, &places[i], offset);
        offset += places[i].bytes;
    }
    *at++ = '}';
    while ((at - text) % 8)
        *at++ = ' ';
    length = (size_t)(at - text) - 8;
    for (int i = 0; i < 8; i++)
        text[i] = (char)(unsigned char)((uint64_t)length >> (8 * i));
    if (length > CADFT__SAFETENSORS_HEADER_MOST)
        status = cadft__fail(error, CADFT_E_ARG,
                             "%s: %zu tensors have a header of %zu bytes, "
                             "expected at most %d",
                             sink->shown.text, n, length,
                             CADFT__SAFETENSORS_HEADER_MOST);
    else
        status = cadft__sink_write(sink, text, length + 8, error);
    cadft__free(memory, text, size);
    return status;
}

/* ------------------------------------------------------------------- data */

static int32_t
write_data(cadft__sink *sink, const struct place *place, cadft_error *error)
{
    const cadft__safetensors_item *item = place->item;
    char piece[PIECE];
    int32_t status = CADFT_OK;
    if (item->data)
        return cadft__sink_write(sink, item->data, (size_t)place->bytes, error);
    for (int64_t done = 0; done < place->bytes && !status; done += PIECE) {
        int64_t left = place->bytes - done;
        size_t bytes = (size_t)(left < PIECE ? left : PIECE);
        status = item->fill(item->user, done, piece, bytes, error);
        if (!status)
            status = cadft__sink_write(sink, piece, bytes, error);
    }
    return status;
}

static int32_t write_places(const cadft__save *save,
                            const char *file,
                            const struct place *places,
                            size_t n,
                            cadft_error *error)
{
    cadft__sink sink;
    int32_t status = cadft__sink_open(save, file, &sink, error);
    if (!status)
        status = write_header(save->memory, &sink, places, n, error);
    for (size_t i = 0; i < n && !status; i++)
        status = write_data(&sink, &places[i], error);
    return cadft__sink_close(&sink, status, error);
}

int32_t cadft__safetensors_write(const cadft__save *save,
                                 const char *file,
                                 const cadft__safetensors_item *items,
                                 size_t n_items,
                                 cadft_error *error)
{
    size_t size = (n_items + 1) * sizeof(struct place);
    struct place *places = (struct place *)cadft__alloc(save->memory, size);
    int32_t status;
    if (!places)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes", size);
    status = put_in_order(items, n_items, places, error);
    if (!status)
        status = check_names(save->memory, items, n_items, error);
    if (!status)
        status = write_places(save, file, places, n_items, error);
    cadft__free(save->memory, places, size);
    return status;
}
