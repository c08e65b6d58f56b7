/* SPDX-License-Identifier: Apache-2.0 */
/* The header of one file: its entries, then what they cover together. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "io/json.h"
#include "io/safetensors.h"

enum { PREFIX = 8 }; /* bytes of the header's length */

static const struct {
    const char *name;
    int32_t dtype, size;
} types[] = {{"F32", CADFT_DTYPE_F32, 4},
             {"BF16", CADFT_DTYPE_BF16, 2},
             {"F16", CADFT_DTYPE_F16, 2},
             {"F64", CADFT_DTYPE_F64, 8},
             {"I64", CADFT_DTYPE_I64, 8},
             {"I32", CADFT_DTYPE_I32, 4},
             {"I16", 0, 2},
             {"I8", 0, 1},
             {"U64", 0, 8},
             {"U32", 0, 4},
             {"U16", 0, 2},
             {"U8", 0, 1},
             {"BOOL", 0, 1},
             {"F8_E4M3", 0, 1},
             {"F8_E5M2", 0, 1},
             {"F8_E8M0", 0, 1},
             {"C64", 0, 8}};

const char *
cadft__safetensors_type(const char *name, int32_t *dtype, int32_t *size)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(name, types[i].name) == 0) {
            *dtype = types[i].dtype;
            *size = types[i].size;
            return types[i].name;
        }
    return NULL;
}

const char *cadft__safetensors_type_name(int32_t dtype)
{
    for (size_t i = 0; dtype && i < sizeof types / sizeof types[0]; i++)
        if (types[i].dtype == dtype)
            return types[i].name;
    return NULL;
}

/* ------------------------------------------------------------- one tensor */

/* An array of `least` to `most` integers that are not negative. */
static int32_t read_integers(const cadft__json *entry,
                             const char *key,
                             size_t least,
                             size_t most,
                             int64_t *out,
                             int32_t *count,
                             cadft_error *error)
{
    const json_t *array = json_object_get(entry->value, key);
    size_t n = json_array_size(array); /* 0 if it is none */
    if (!json_is_array(array) || n < least || n > most)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s%s is not an array of %zu to %zu integers",
                           entry->file.text, entry->inside.text, key, least,
                           most);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value))
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %s%s[%zu] is not an integer",
                               entry->file.text, entry->inside.text, key, i);
        out[i] = json_integer_value(value);
        if (out[i] < 0)
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %s%s[%zu] is %lld, expected at least 0",
                               entry->file.text, entry->inside.text, key, i,
                               (long long)out[i]);
    }
    *count = (int32_t)n;
    return CADFT_OK;
}

static int32_t read_type(const cadft__json *entry,
                         cadft__safetensor *tensor,
                         int32_t *size,
                         cadft_error *error)
{
    const char *type;
    int32_t status = cadft__json_text(entry, "dtype", NULL, &type, error);
    if (status)
        return status;
    tensor->type = cadft__safetensors_type(type, &tensor->dtype, size);
    if (!tensor->type)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %sdtype is \"%s\", expected F32, BF16, F16 or "
                           "another of the format",
                           entry->file.text, entry->inside.text,
                           cadft__show(type).text);
    return CADFT_OK;
}

/* Fill all but name and file; `data_bytes` follow the header, which ends at
 * `data_start`. */
static int32_t read_entry(const cadft__json *entry,
                          int64_t data_start,
                          int64_t data_bytes,
                          cadft__safetensor *tensor,
                          cadft_error *error)
{
    int64_t range[2], bytes;
    int32_t size = 0, two, status = read_type(entry, tensor, &size, error);
    if (!status)
        status = read_integers(entry, "shape", 0, CADFT__SAFETENSORS_NDIM,
                               tensor->shape, &tensor->ndim, error);
    if (!status)
        status = read_integers(entry, "data_offsets", 2, 2, range, &two, error);
    if (status)
        return status;
    tensor->count = 1;
    for (int32_t i = 0; i < tensor->ndim; i++)
        if (__builtin_mul_overflow(tensor->count, tensor->shape[i],
                                   &tensor->count))
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %sshape has more than 2^63 elements",
                               entry->file.text, entry->inside.text);
    if (range[0] > range[1] || range[1] > data_bytes)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %sdata_offsets are %lld and %lld, expected an "
                           "ascending pair up to %lld",
                           entry->file.text, entry->inside.text,
                           (long long)range[0], (long long)range[1],
                           (long long)data_bytes);
    if (__builtin_mul_overflow(tensor->count, (int64_t)size, &bytes) ||
        bytes != range[1] - range[0])
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %sdata_offsets span %lld bytes, expected %lld "
                           "elements of %d",
                           entry->file.text, entry->inside.text,
                           (long long)(range[1] - range[0]),
                           (long long)tensor->count, size);
    tensor->bytes = bytes;
    tensor->offset = data_start + range[0];
    return CADFT_OK;
}

/* --------------------------------------------------------------- one file */

static int by_offset(const void *left, const void *right)
{
    const cadft__safetensor *a = (const cadft__safetensor *)left;
    const cadft__safetensor *b = (const cadft__safetensor *)right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The tensors cover [at, end) of the file, each byte once. Sorts them. */
static int32_t check_cover(cadft__safetensor *tensors,
                           size_t count,
                           int64_t at,
                           const cadft__file *file,
                           cadft_error *error)
{
    if (count)
        qsort(tensors, count, sizeof *tensors, by_offset);
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].offset != at)
            return cadft__fail(
                error, CADFT_E_FORMAT, "%s: %s %s %lld bytes", file->shown.text,
                cadft__show(tensors[i].name).text,
                tensors[i].offset < at
                    ? "overlaps the tensor before it in the file by"
                    : "does not follow the data before it, but after a hole of",
                (long long)(tensors[i].offset < at ? at - tensors[i].offset
                                                   : tensors[i].offset - at));
        at += tensors[i].bytes;
    }
    if (at != file->size)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s has %lld bytes after its last tensor, expected "
                           "none",
                           file->shown.text, (long long)(file->size - at));
    return CADFT_OK;
}

/* {"format": "pt"} and the like: strings only. */
static int32_t check_metadata(const cadft__json *header, cadft_error *error)
{
    cadft__json metadata;
    const char *text;
    int32_t status =
        cadft__json_object(header, "__metadata__", 1, &metadata, error);
    if (status)
        return status;
    for (void *i = json_object_iter(metadata.value); i && !status;
         i = json_object_iter_next(metadata.value, i))
        status = cadft__json_text(&metadata, json_object_iter_key(i), NULL,
                                  &text, error);
    return status;
}

static int is_metadata(const char *name)
{
    return strcmp(name, "__metadata__") == 0;
}

/* One block for all the names of a file. */
static int32_t copy_names(cadft__memory *memory,
                          cadft__safetensors_file *file,
                          json_t *header,
                          size_t *count,
                          cadft_error *error)
{
    size_t size = 1; /* so that there is a block even without names */
    for (void *i = json_object_iter(header); i;
         i = json_object_iter_next(header, i))
        if (!is_metadata(json_object_iter_key(i))) {
            size += strlen(json_object_iter_key(i)) + 1;
            (*count)++;
        }
    file->names = (char *)cadft__alloc(memory, size);
    if (!file->names)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes for names", size);
    file->names_size = size;
    return CADFT_OK;
}

/* Add the tensors of the last file of the table, whose header this is. */
static int32_t add_tensors(cadft__safetensors *table,
                           const cadft__json *header,
                           int64_t data_start,
                           cadft_error *error)
{
    cadft__safetensors_file *file = &table->files[table->n_files - 1];
    size_t count = 0, first = table->n_tensors;
    char *name;
    int32_t status = check_metadata(header, error);
    if (!status)
        status = copy_names(table->memory, file, header->value, &count, error);
    if (!status)
        status =
            cadft__reserve(table->memory, &table->tensors, &table->capacity,
                           first, first + count, sizeof *table->tensors, error);
    name = file->names;
    for (void *i = json_object_iter(header->value); i && !status;
         i = json_object_iter_next(header->value, i)) {
        cadft__safetensor *tensor = &table->tensors[table->n_tensors];
        const char *key = json_object_iter_key(i);
        cadft__json entry;
        if (is_metadata(key))
            continue;
        status = cadft__json_object(header, key, 0, &entry, error);
        if (!status)
            status = read_entry(&entry, data_start,
                                file->file.size - data_start, tensor, error);
        tensor->name = strcpy(name, key);
        tensor->file = (int32_t)(table->n_files - 1);
        name += strlen(key) + 1;
        table->n_tensors++;
    }
    if (!status)
        status = check_cover(table->tensors + first, count, data_start,
                             &file->file, error);
    return status;
}

/* Read the header's length and check it against the file. */
static int32_t
read_prefix(const cadft__file *file, size_t *length, cadft_error *error)
{
    unsigned char prefix[PREFIX];
    uint64_t value = 0;
    int32_t status;
    if (file->size < PREFIX)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s has %lld bytes, expected the header's length "
                           "in the first %d",
                           file->shown.text, (long long)file->size, PREFIX);
    status = cadft__file_read(file, 0, prefix, PREFIX, error);
    if (status)
        return status;
    for (int i = 0; i < PREFIX; i++)
        value |= (uint64_t)prefix[i] << (8 * i);
    if (value > (uint64_t)file->size - PREFIX)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: the header's length is %llu, expected at most "
                           "%lld, the rest of the file",
                           file->shown.text, (unsigned long long)value,
                           (long long)file->size - PREFIX);
    if (value > CADFT__SAFETENSORS_HEADER_MOST)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: the header's length is %llu, expected at most "
                           "%d",
                           file->shown.text, (unsigned long long)value,
                           CADFT__SAFETENSORS_HEADER_MOST);
    *length = (size_t)value;
    return CADFT_OK;
}

int32_t cadft__safetensors_add(cadft__safetensors *table,
                               cadft__file *file,
                               cadft_error *error)
{
    cadft__json header = {0};
    size_t length = 0;
    char *text = NULL;
    int32_t status = cadft__reserve(
        table->memory, &table->files, &table->files_capacity, table->n_files,
        table->n_files + 1, sizeof *table->files, error);
    if (status) {
        cadft__file_close(file);
        return status;
    }
    table->files[table->n_files++] = (cadft__safetensors_file){*file, NULL, 0};
    status = read_prefix(file, &length, error);
    if (status)
        return status;
    text = (char *)cadft__alloc(table->memory, length + 1);
    if (!text)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes for the header",
                           length + 1);
    status = cadft__file_read(file, PREFIX, text, length, error);
    if (!status && text[0] != '{')
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s: the header does not begin with '{'",
                             file->shown.text);
    if (!status)
        status = cadft__json_parse(&file->shown, text, length, &header, error);
    cadft__free(table->memory, text, length + 1);
    if (!status)
        status = add_tensors(table, &header, (int64_t)length + PREFIX, error);
    cadft__json_free(&header);
    return status;
}
