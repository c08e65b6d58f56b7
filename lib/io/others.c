/* SPDX-License-Identifier: Apache-2.0 */
#include "io/others.h"

#include <string.h>

#include "common/error.h"

enum { COPY_BYTES = 1 << 20 };

static int ends(const char *name, const char *tail)
{
    size_t length = strlen(name), n = strlen(tail);
    return length >= n && strcmp(name + length - n, tail) == 0;
}

/* Weights in any form, and saved states. Where they would be lost they are
 * kept, but no folder inherits them. */
static int is_bound(const char *name)
{
    static const char *const tails[] = {
        ".safetensors", ".bin", ".pt",   ".pth",     ".gguf",       ".state",
        ".h5",          ".ot",  ".onnx", ".msgpack", ".index.json",
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends(name, tails[i]))
            return 1;
    return 0;
}

static int is_taken(const cadft__others *others,
                    const cadft__source *source,
                    const char *name)
{
    return !others->is_own(name) &&
           (source == &others->target || !is_bound(name));
}

static size_t count_taken(const cadft__others *others,
                          const cadft__source *source)
{
    size_t n = 0;
    for (size_t i = 0; i < source->files.count; i++)
        n += (size_t)is_taken(others, source, source->files.names[i]);
    return n;
}

/* A folder that cannot be opened has no files. */
static int32_t open_source(cadft__memory *memory,
                           const char *path,
                           cadft__source *out,
                           cadft_error *error)
{
    cadft_error ignored = {sizeof ignored, CADFT_OK, {0}};
    if (!path || cadft__folder_open(path, &out->folder, &ignored))
        return CADFT_OK;
    out->is_open = 1;
    return cadft__listing_read(memory, &out->folder, &out->files, error);
}

static void close_source(cadft__memory *memory, cadft__source *source)
{
    cadft__listing_free(memory, &source->files);
    if (source->is_open)
        cadft__folder_close(&source->folder);
}

/* All files that may be in the old folder or the new. */
static int32_t
gather_names(cadft__others *out, const cadft__own *own, cadft_error *error)
{
    const cadft__listing *a = &out->target.files, *b = &out->from.files;
    size_t count = own->count + a->count + b->count;
    out->names =
        (const char **)cadft__alloc(out->memory, count * sizeof *out->names);
    if (!out->names)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for the list of files");
    out->n_names = count;
    memcpy(out->names, own->names, own->count * sizeof *out->names);
    if (a->count)
        memcpy(out->names + own->count, a->names, a->count * sizeof *a->names);
    if (b->count)
        memcpy(out->names + own->count + a->count, b->names,
               b->count * sizeof *b->names);
    return CADFT_OK;
}

int32_t cadft__others_gather(cadft__memory *memory,
                             const char *target,
                             const char *const *origins,
                             size_t n_origins,
                             const cadft__own *own,
                             cadft__others *out,
                             cadft_error *error)
{
    int32_t status;
    memset(out, 0, sizeof *out);
    out->memory = memory;
    out->is_own = own->is_own;
    status = open_source(memory, target, &out->target, error);
    if (!status && !count_taken(out, &out->target))
        for (size_t i = 0; i < n_origins && !out->from.is_open && !status;
             i++) {
            status = open_source(memory, origins[i], &out->from, error);
            out->lacking |= origins[i] != NULL;
        }
    out->lacking &= !out->from.is_open;
    return status ? status : gather_names(out, own, error);
}

/* Copy a file through `buffer` of COPY_BYTES. */
static int32_t copy_file(const cadft__source *source,
                         const char *name,
                         const cadft__save *save,
                         char *buffer,
                         cadft_error *error)
{
    cadft__file file;
    cadft__sink sink = {.fd = -1};
    int32_t status = cadft__file_open(&source->folder, name, &file, error);
    if (status)
        return status;
    status = cadft__sink_open(save, name, &sink, error);
    for (int64_t at = 0; at < file.size && !status; at += COPY_BYTES) {
        int64_t left = file.size - at;
        size_t bytes = (size_t)(left < COPY_BYTES ? left : COPY_BYTES);
        status = cadft__file_read(&file, at, buffer, bytes, error);
        if (!status)
            status = cadft__sink_write(&sink, buffer, bytes, error);
    }
    cadft__file_close(&file);
    return cadft__sink_close(&sink, status, error);
}

int32_t cadft__others_copy(const cadft__others *others,
                           const cadft__save *save,
                           cadft_error *error)
{
    const cadft__source *source =
        others->from.is_open ? &others->from : &others->target;
    int32_t status = CADFT_OK;
    char *buffer;
    if (!count_taken(others, source))
        return CADFT_OK;
    buffer = (char *)cadft__alloc(others->memory, COPY_BYTES);
    if (!buffer)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory to copy files");
    for (size_t i = 0; i < source->files.count && !status; i++)
        if (is_taken(others, source, source->files.names[i]))
            status =
                copy_file(source, source->files.names[i], save, buffer, error);
    cadft__free(others->memory, buffer, COPY_BYTES);
    return status;
}

void cadft__others_free(cadft__others *others)
{
    close_source(others->memory, &others->target);
    close_source(others->memory, &others->from);
    cadft__free(others->memory, others->names,
                others->n_names * sizeof *others->names);
    others->names = NULL;
    others->n_names = 0;
}
