/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "common/tensor.h"
#include "io/json_save.h"
#include "io/listing.h"
#include "io/safetensors.h"
#include "model/weights.h"

enum { COPY_BYTES = 1 << 20 };

static const char config_name[] = "config.json";
static const char weights_name[] = "model.safetensors";

/* ------------------------------------------------------------ other files */

static int starts(const char *name, const char *head)
{
    return strncmp(name, head, strlen(head)) == 0;
}

static int ends(const char *name, const char *tail)
{
    size_t length = strlen(name), n = strlen(tail);
    return length >= n && strcmp(name + length - n, tail) == 0;
}

/* Files that transformers would load a model from, which the new ones
 * replace. */
static int is_replaced(const char *name)
{
    static const char *const indices[] = {config_name,
                                          "model.safetensors.index.json",
                                          "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof indices / sizeof *indices; i++)
        if (strcmp(name, indices[i]) == 0)
            return 1;
    return (starts(name, "model") && ends(name, ".safetensors")) ||
           (starts(name, "pytorch_model") && ends(name, ".bin"));
}

/* Weights in any form. Where they would be lost they are kept, but no folder
 * inherits them. */
static int is_weights(const char *name)
{
    static const char *const tails[] = {
        ".safetensors", ".bin", ".pt",   ".pth",     ".gguf",
        ".h5",          ".ot",  ".onnx", ".msgpack", ".index.json"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends(name, tails[i]))
            return 1;
    return 0;
}

/* A folder that other files come from. */
struct source {
    cadft__folder folder;
    cadft__listing files;
    int is_open;
    int is_target;
};

static int is_taken(const struct source *source, const char *name)
{
    return !is_replaced(name) && (source->is_target || !is_weights(name));
}

static size_t count_taken(const struct source *source)
{
    size_t n = 0;
    for (size_t i = 0; i < source->files.count; i++)
        n += (size_t)is_taken(source, source->files.names[i]);
    return n;
}

/* A folder that cannot be opened has no files. */
static int32_t open_source(cadft_context *context,
                           const char *path,
                           struct source *out,
                           cadft_error *error)
{
    cadft_error ignored = {sizeof ignored, CADFT_OK, {0}};
    if (!path || cadft__folder_open(path, &out->folder, &ignored))
        return CADFT_OK;
    out->is_open = 1;
    return cadft__listing_read(&context->memory, &out->folder, &out->files,
                               error);
}

static void close_source(cadft_context *context, struct source *source)
{
    cadft__listing_free(&context->memory, &source->files);
    if (source->is_open)
        cadft__folder_close(&source->folder);
}

/* Copy a file through `buffer` of COPY_BYTES. */
static int32_t copy_file(const struct source *source,
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

static int32_t copy_files(cadft_context *context,
                          const struct source *source,
                          const cadft__save *save,
                          cadft_error *error)
{
    char *buffer = (char *)cadft__alloc(&context->memory, COPY_BYTES);
    int32_t status = CADFT_OK;
    if (!buffer)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory to copy files");
    for (size_t i = 0; i < source->files.count && !status; i++)
        if (is_taken(source, source->files.names[i]))
            status =
                copy_file(source, source->files.names[i], save, buffer, error);
    cadft__free(&context->memory, buffer, COPY_BYTES);
    return status;
}

/* -------------------------------------------------------------- own files */

static int32_t save_config(const cadft__save *save,
                           const cadft__origin *origin,
                           int32_t dtype,
                           cadft_error *error)
{
    const char *name = cadft__dtype_name(dtype);
    cadft__shown shown = cadft__show(config_name);
    cadft__json json;
    int32_t status =
        cadft__json_parse(&shown, origin->text, origin->length, &json, error);
    if (status)
        return status;
    /* Older versions of transformers read torch_dtype. */
    status = cadft__json_set_text(&json, "torch_dtype", name, error);
    if (!status)
        status = cadft__json_set_text(&json, "dtype", name, error);
    if (!status)
        status = cadft__json_save(&json, save, config_name, error);
    cadft__json_free(&json);
    return status;
}

struct reader {
    cadft_context *context;
    cadft_array from;
};

static int32_t read_weights(
    void *user, int64_t offset, void *out, size_t bytes, cadft_error *error)
{
    const struct reader *reader = (const struct reader *)user;
    cadft_array from = reader->from;
    from.offset += (uint64_t)offset;
    return cadft__device_out(reader->context, NULL, out, from, bytes, error);
}

static int32_t save_weights(cadft_context *context,
                            const cadft__save *save,
                            const cadft__parameters *p,
                            cadft_error *error)
{
    cadft__memory *memory = &context->memory;
    size_t n = (size_t)p->count;
    cadft__safetensors_item *items =
        (cadft__safetensors_item *)cadft__alloc(memory, n * sizeof *items);
    struct reader *readers =
        (struct reader *)cadft__alloc(memory, n * sizeof *readers);
    int32_t status;
    for (size_t i = 0; i < n && items && readers; i++) {
        const cadft__parameter *parameter = &p->list[i];
        readers[i] =
            (struct reader){context, cadft__parameters_weight(p, parameter)};
        items[i] = (cadft__safetensors_item){.name = parameter->name,
                                             .dtype = p->dtype,
                                             .ndim = parameter->ndim,
                                             .shape = parameter->shape,
                                             .fill = read_weights,
                                             .user = &readers[i]};
    }
    if (items && readers)
        status = cadft__safetensors_write(save, weights_name, items, n, error);
    else
        status = cadft__fail(error, CADFT_E_NOMEM,
                             "the allocator has no memory for the list of "
                             "tensors");
    cadft__free(memory, items, n * sizeof *items);
    cadft__free(memory, readers, n * sizeof *readers);
    return status;
}

/* ------------------------------------------------------------------- save */

/* All files that may be in the old folder or the new. */
static const char **gather_names(cadft_context *context,
                                 const cadft__listing *a,
                                 const cadft__listing *b,
                                 size_t *count)
{
    const char **names;
    *count = 2 + a->count + b->count;
    names =
        (const char **)cadft__alloc(&context->memory, *count * sizeof *names);
    if (!names)
        return NULL;
    names[0] = config_name;
    names[1] = weights_name;
    if (a->count)
        memcpy(names + 2, a->names, a->count * sizeof *names);
    if (b->count)
        memcpy(names + 2 + a->count, b->names, b->count * sizeof *names);
    return names;
}

static int32_t write_all(cadft_context *context,
                         const char *folder,
                         const cadft__parameters *parameters,
                         const cadft__origin *origin,
                         const struct source *target,
                         const struct source *others,
                         cadft_error *error)
{
    size_t count;
    cadft__save save;
    const char **names =
        gather_names(context, &target->files, &others->files, &count);
    int32_t status;
    if (!names)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for the list of files");
    status =
        cadft__save_begin(&context->memory, folder, names, count, &save, error);
    if (!status) {
        status = save_weights(context, &save, parameters, error);
        if (!status)
            status = save_config(&save, origin, parameters->dtype, error);
        if (!status && others->is_open)
            status = copy_files(context, others, &save, error);
        if (status)
            cadft__save_cancel(&save);
        else
            status = cadft__save_commit(&save, error);
    }
    cadft__free(&context->memory, names, count * sizeof *names);
    return status;
}

int32_t cadft__weights_save(cadft_context *context,
                            const char *folder,
                            const cadft__parameters *parameters,
                            const cadft__origin *origin,
                            cadft_error *error)
{
    struct source target = {.is_target = 1}, from = {0};
    const struct source *others = &target;
    int32_t status = open_source(context, folder, &target, error);
    if (!status && !count_taken(&target)) {
        others = &from;
        status = open_source(context, origin->folder, &from, error);
        if (!status && origin->folder && !from.is_open)
            cadft__context_log(context, CADFT_LOG_WARNING,
                               "%s, where the model was loaded from, is gone: "
                               "its other files are not in the save",
                               origin->folder);
    }
    if (!status)
        status = write_all(context, folder, parameters, origin, &target, others,
                           error);
    close_source(context, &target);
    close_source(context, &from);
    return status;
}
