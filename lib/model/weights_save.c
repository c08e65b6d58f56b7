/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "common/tensor.h"
#include "io/json_save.h"
#include "io/others.h"
#include "io/safetensors.h"
#include "model/model_saved.h"
#include "model/weights.h"

static const char config_name[] = "config.json";
static const char weights_name[] = "model.safetensors";
const char *const cadft__model_files[CADFT__MODEL_FILES] = {config_name,
                                                            weights_name};

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

int cadft__model_replaces(const char *name)
{
    static const char *const names[] = {config_name,
                                        "model.safetensors.index.json",
                                        "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return (starts(name, "model") && ends(name, ".safetensors")) ||
           (starts(name, "pytorch_model") && ends(name, ".bin"));
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

int32_t cadft__weights_write(cadft_context *context,
                             const cadft__save *save,
                             const cadft__parameters *parameters,
                             const cadft__origin *origin,
                             cadft_error *error)
{
    int32_t status = save_weights(context, save, parameters, error);
    return status ? status
                  : save_config(save, origin, parameters->dtype, error);
}

/* A checkpoint with another model in it is none any more. */
static int is_own(const char *name)
{
    return cadft__model_replaces(name) || strcmp(name, "checkpoint.json") == 0;
}

int32_t cadft__weights_save(cadft_context *context,
                            const char *folder,
                            const cadft__parameters *parameters,
                            const cadft__origin *origin,
                            cadft_error *error)
{
    static const cadft__own own = {cadft__model_files, CADFT__MODEL_FILES,
                                   is_own};
    const char *from = origin->folder;
    cadft__others others;
    cadft__save save;
    int32_t status = cadft__others_gather(&context->memory, folder, &from, 1,
                                          &own, &others, error);
    if (!status && others.lacking)
        cadft__context_log(context, CADFT_LOG_WARNING,
                           "%s, where the model was loaded from, is gone: its "
                           "other files are not in the save",
                           from);
    if (!status)
        status = cadft__save_begin(&context->memory, folder, others.names,
                                   others.n_names, &save, error);
    if (!status) {
        status =
            cadft__weights_write(context, &save, parameters, origin, error);
        if (!status)
            status = cadft__others_copy(&others, &save, error);
        status = cadft__save_end(&save, status, error);
    }
    cadft__others_free(&others);
    return status;
}
