/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of tensors: shards and index, finding, reading elements. */
#include "io/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/tensor.h"
#include "io/element.h"
#include "io/json.h"

enum { PIECE = 32768 }; /* bytes converted at a time, on any thread's stack */

/* ----------------------------------------------------------------- shards */

/* The tensors from `first` on, those of the last file, belong to it in the
 * index too. */
static int32_t check_shard(const cadft__safetensors *table,
                           size_t first,
                           const cadft__json *map,
                           const char *shard,
                           cadft_error *error)
{
    for (size_t i = first; i < table->n_tensors; i++) {
        const char *said = json_string_value(
            json_object_get(map->value, table->tensors[i].name));
        if (said && strcmp(said, shard) == 0)
            continue;
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s holds %s, which the index %s%s",
                           table->files[table->n_files - 1].file.shown.text,
                           cadft__show(table->tensors[i].name).text,
                           said ? "puts into " : "does not name",
                           said ? cadft__show_path("", said).text : "");
    }
    return CADFT_OK;
}

static int is_open(const cadft__safetensors *table,
                   const char *const *shards,
                   const char *shard)
{
    /* Tensors of a shard mostly stand together. */
    for (size_t i = table->n_files; i > 0; i--)
        if (strcmp(shards[i - 1], shard) == 0)
            return 1;
    return 0;
}

static int32_t add_shard(cadft__safetensors *table,
                         const cadft__folder *folder,
                         const cadft__json *map,
                         const char *shard,
                         cadft_error *error)
{
    size_t first = table->n_tensors;
    cadft__file file;
    int32_t status;
    if (!cadft__name_is_plain(shard))
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: weight_map names the shard \"%s\", expected a "
                           "file beside it",
                           map->file.text, cadft__show(shard).text);
    if (table->n_files == CADFT__SAFETENSORS_FILES_MOST)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: weight_map names more than %d shards",
                           map->file.text, CADFT__SAFETENSORS_FILES_MOST);
    status = cadft__file_open(folder, shard, &file, error);
    if (!status)
        status = cadft__safetensors_add(table, &file, error);
    if (!status)
        status = check_shard(table, first, map, shard, error);
    return status;
}

/* Every name of the index is in a shard. Each tensor of a shard is in the
 * index and there only once, so counting would do, but not name it. */
static int32_t check_index(const cadft__safetensors *table,
                           const cadft__json *map,
                           cadft_error *error)
{
    for (void *i = json_object_iter(map->value); i;
         i = json_object_iter_next(map->value, i)) {
        const char *name = json_object_iter_key(i);
        const char *shard = json_string_value(json_object_iter_value(i));
        if (!cadft__safetensors_find(table, name))
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: weight_map puts %s into %s, which does "
                               "not hold it",
                               map->file.text, cadft__show(name).text,
                               cadft__show_path("", shard).text);
    }
    return CADFT_OK;
}

static int by_name(const void *left, const void *right)
{
    const cadft__safetensor *a = (const cadft__safetensor *)left;
    const cadft__safetensor *b = (const cadft__safetensor *)right;
    return strcmp(a->name, b->name);
}

static void sort(cadft__safetensors *table)
{
    if (table->n_tensors)
        qsort(table->tensors, table->n_tensors, sizeof *table->tensors,
              by_name);
}

static int32_t add_shards(cadft__safetensors *table,
                          const cadft__folder *folder,
                          const cadft__json *index,
                          cadft_error *error)
{
    const char *shards[CADFT__SAFETENSORS_FILES_MOST], *shard;
    cadft__json map;
    int32_t status = cadft__json_object(index, "weight_map", 0, &map, error);
    if (status)
        return status;
    for (void *i = json_object_iter(map.value); i && !status;
         i = json_object_iter_next(map.value, i)) {
        status = cadft__json_text(&map, json_object_iter_key(i), NULL, &shard,
                                  error);
        if (status || is_open(table, shards, shard))
            continue;
        status = add_shard(table, folder, &map, shard, error);
        if (!status)
            shards[table->n_files - 1] = shard;
    }
    sort(table);
    return status ? status : check_index(table, &map, error);
}

/* ------------------------------------------------------------ open, close */

static int32_t open_table(cadft__safetensors *table,
                          const cadft__folder *folder,
                          const char *stem,
                          cadft_error *error)
{
    char single[64], indexed[64];
    cadft__json index;
    cadft__file file;
    int32_t status;
    snprintf(single, sizeof single, "%s.safetensors", stem);
    snprintf(indexed, sizeof indexed, "%s.safetensors.index.json", stem);
    if (cadft__folder_has(folder, single)) {
        status = cadft__file_open(folder, single, &file, error);
        if (!status)
            status = cadft__safetensors_add(table, &file, error);
        sort(table);
        return status;
    }
    if (!cadft__folder_has(folder, indexed))
        return cadft__fail(error, CADFT_E_IO,
                           "%s holds no %s and no %s.index.json",
                           folder->shown.text, single, single);
    status = cadft__json_read(table->memory, folder, indexed,
                              CADFT__SAFETENSORS_HEADER_MOST, &index, error);
    if (!status)
        status = add_shards(table, folder, &index, error);
    cadft__json_free(&index);
    return status;
}

int32_t cadft__safetensors_open(cadft__memory *memory,
                                const cadft__folder *folder,
                                const char *stem,
                                cadft__safetensors *out,
                                cadft_error *error)
{
    int32_t status;
    memset(out, 0, sizeof *out);
    out->memory = memory;
    status = open_table(out, folder, stem, error);
    if (status)
        cadft__safetensors_close(out);
    return status;
}

int32_t cadft__safetensors_open_file(cadft__memory *memory,
                                     cadft__file *file,
                                     cadft__safetensors *out,
                                     cadft_error *error)
{
    int32_t status;
    memset(out, 0, sizeof *out);
    out->memory = memory;
    status = cadft__safetensors_add(out, file, error);
    sort(out);
    if (status)
        cadft__safetensors_close(out);
    return status;
}

void cadft__safetensors_close(cadft__safetensors *table)
{
    cadft__memory *memory = table->memory;
    for (size_t i = 0; i < table->n_files; i++) {
        cadft__file_close(&table->files[i].file);
        cadft__free(memory, table->files[i].names, table->files[i].names_size);
    }
    cadft__free(memory, table->files,
                table->files_capacity * sizeof *table->files);
    cadft__free(memory, table->tensors,
                table->capacity * sizeof *table->tensors);
    memset(table, 0, sizeof *table);
}

const cadft__safetensor *
cadft__safetensors_find(const cadft__safetensors *table, const char *name)
{
    size_t low = 0, high = table->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, table->tensors[middle].name);
        if (order == 0)
            return &table->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* --------------------------------------------------------------- elements */

static int32_t read_converted(const cadft__file *file,
                              const cadft__safetensor *tensor,
                              int64_t first,
                              int64_t count,
                              int32_t dtype,
                              char *out,
                              cadft_error *error)
{
    char piece[PIECE];
    int64_t size = (int64_t)cadft__dtype_size(tensor->dtype);
    int64_t offset = tensor->offset + first * size;
    while (count > 0) {
        int64_t n = count < PIECE / size ? count : PIECE / size;
        int32_t status =
            cadft__file_read(file, offset, piece, (size_t)(n * size), error);
        if (status)
            return status;
        cadft__elements_convert(tensor->dtype, piece, dtype, out, (size_t)n);
        out += (size_t)n * cadft__dtype_size(dtype);
        offset += n * size;
        count -= n;
    }
    return CADFT_OK;
}

int32_t cadft__safetensors_read(const cadft__safetensors *table,
                                const cadft__safetensor *tensor,
                                int64_t first,
                                int64_t count,
                                int32_t dtype,
                                void *out,
                                cadft_error *error)
{
    const cadft__file *file = &table->files[tensor->file].file;
    int64_t size = (int64_t)cadft__dtype_size(tensor->dtype);
    if (!cadft__elements_can(tensor->dtype, dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "%s: %s is %s, which is not read as %s",
                           file->shown.text, cadft__show(tensor->name).text,
                           tensor->type, cadft__dtype_name(dtype));
    if (first < 0 || count < 0 || first > tensor->count ||
        count > tensor->count - first)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s: %s has %lld elements, asked for %lld from "
                           "%lld on",
                           file->shown.text, cadft__show(tensor->name).text,
                           (long long)tensor->count, (long long)count,
                           (long long)first);
    if (dtype == tensor->dtype)
        return cadft__file_read(file, tensor->offset + first * size, out,
                                (size_t)(count * size), error);
    return read_converted(file, tensor, first, count, dtype, (char *)out,
                          error);
}
