/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors in files, in the format of Hugging Face: the length of the header
 * (u64, little-endian), the header (JSON: name to dtype, shape and the bytes
 * [begin, end) after the header), the data. A folder has one file, or shards
 * and an index that says which tensor is in which.
 *
 * What a reader of such a file may rely on is checked when it is opened:
 * bounds, products, that tensors neither overlap nor leave holes nor bytes at
 * the end, that no name is there twice, that index and shards agree. Nothing
 * of the data is read before it is asked for, and it is read, not mapped (see
 * file.h). */
#ifndef CADFT_IO_SAFETENSORS_H
#define CADFT_IO_SAFETENSORS_H

#include "io/save.h"

enum {
    CADFT__SAFETENSORS_NDIM = 8,
    /* Of a header, and of an index. The format allows 100 MB, which jansson
     * would turn into gigabytes (json.h). At about 110 bytes a tensor this is
     * for 38000 tensors in a file, and in a folder. */
    CADFT__SAFETENSORS_HEADER_MOST = 1 << 22,
    CADFT__SAFETENSORS_FILES_MOST = 256 /* each stays open */
};

typedef struct cadft__safetensor {
    const char *name; /* UTF-8, belongs to the table */
    const char *type; /* as in the file: "BF16" */
    int32_t dtype;    /* CADFT_DTYPE_..., 0: a type without a number there,
                         which can be listed but not read */
    int32_t file;     /* index into the table's files */
    int32_t ndim;
    int64_t shape[CADFT__SAFETENSORS_NDIM];
    int64_t count;  /* elements: the product of the shape */
    int64_t offset; /* bytes from the start of the file; any alignment */
    int64_t bytes;
} cadft__safetensor;

typedef struct cadft__safetensors_file {
    cadft__file file;
    char *names; /* of its tensors, one after the other */
    size_t names_size;
} cadft__safetensors_file;

typedef struct cadft__safetensors {
    cadft__memory *memory;
    cadft__safetensor *tensors; /* [n_tensors], by name (bytes, as strcmp) */
    size_t n_tensors, capacity;
    cadft__safetensors_file *files; /* [n_files] */
    size_t n_files, files_capacity;
} cadft__safetensors;

/* Open folder/STEM.safetensors or, if there is none, the shards of
 * folder/STEM.safetensors.index.json. On failure nothing stays open and the
 * table is empty. CADFT_E_IO, CADFT_E_FORMAT, CADFT_E_NOMEM. */
int32_t cadft__safetensors_open(cadft__memory *memory,
                                const cadft__folder *folder,
                                const char *stem,
                                cadft__safetensors *out,
                                cadft_error *error);

/* Open one file, which the table takes over (success or not). */
int32_t cadft__safetensors_open_file(cadft__memory *memory,
                                     cadft__file *file,
                                     cadft__safetensors *out,
                                     cadft_error *error);

void cadft__safetensors_close(cadft__safetensors *table);

/* Add a file, which the table takes over (success or not). After a failure
 * the table can only be closed; after success it is not sorted. A step of
 * the two above. */
int32_t cadft__safetensors_add(cadft__safetensors *table,
                               cadft__file *file,
                               cadft_error *error);

/* NULL: there is none of this name. */
const cadft__safetensor *
cadft__safetensors_find(const cadft__safetensors *table, const char *name);

/* Read elements [first, first + count), converted to `dtype`
 * (cadft__elements_can), to any address. Several threads may read at the same
 * time. CADFT_E_ARG, CADFT_E_DTYPE, CADFT_E_IO. */
int32_t cadft__safetensors_read(const cadft__safetensors *table,
                                const cadft__safetensor *tensor,
                                int64_t first,
                                int64_t count,
                                int32_t dtype,
                                void *out,
                                cadft_error *error);

/* Bytes [offset, offset + bytes) of a tensor's data, asked for in order and
 * whole elements at a time. Anything but CADFT_OK, with a sentence, ends the
 * writing. */
typedef int32_t (*cadft__fill_fn)(
    void *user, int64_t offset, void *out, size_t bytes, cadft_error *error);

/* A tensor to be written. */
typedef struct cadft__safetensors_item {
    const char *name; /* printable ASCII without '"' and '\\' */
    int32_t dtype;    /* CADFT_DTYPE_... */
    int32_t ndim;     /* 0 (a scalar) to CADFT__SAFETENSORS_NDIM */
    const int64_t *shape;
    const void *data;    /* dense; NULL: `fill` gives it in pieces */
    cadft__fill_fn fill; /* unused with data */
    void *user;
} cadft__safetensors_item;

/* Write a file of a save. The bytes depend on names, types, shapes and
 * elements only, not on the order of the items: larger types come first, then
 * names, so that every tensor lies aligned to its element. Metadata is
 * {"format": "pt"}, which other readers ask for. Nothing of the data is
 * copied as a whole. CADFT_E_ARG, CADFT_E_DTYPE, CADFT_E_SHAPE, CADFT_E_IO,
 * CADFT_E_NOMEM, or what `fill` returned. */
int32_t cadft__safetensors_write(const cadft__save *save,
                                 const char *file,
                                 const cadft__safetensors_item *items,
                                 size_t n_items,
                                 cadft_error *error);

/* Of a type in a header: its bytes, and its CADFT_DTYPE_ number or 0. Returns
 * the static name, NULL for an unknown one. */
const char *
cadft__safetensors_type(const char *name, int32_t *dtype, int32_t *size);

/* The name of a CADFT_DTYPE_ number, NULL for others. */
const char *cadft__safetensors_type_name(int32_t dtype);

#endif
