/* SPDX-License-Identifier: Apache-2.0 */
#include "model/weights.h"

#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "common/random.h"
#include "common/tensor.h"
#include "io/element.h"
#include "io/safetensors.h"

/* Elements that pass through host memory at a time, and that a task makes. */
enum { PIECE = 1 << 18, BLOCK = 1 << 11 };

void cadft__origin_free(cadft_context *context, cadft__origin *origin)
{
    cadft__free(&context->memory, origin->text, origin->length + 1);
    cadft__free(&context->memory, origin->folder, origin->folder_size);
    memset(origin, 0, sizeof *origin);
}

static int32_t no_memory(const char *what, cadft_error *error)
{
    return cadft__fail(error, CADFT_E_NOMEM,
                       "the allocator has no memory for %s", what);
}

/* A copy with a zero after it, of length + 1 bytes. */
static int32_t copy_text(cadft_context *context,
                         const char *text,
                         size_t length,
                         char **out,
                         cadft_error *error)
{
    *out = (char *)cadft__alloc(&context->memory, length + 1);
    if (!*out)
        return no_memory("a copy of the folder's name or config", error);
    memcpy(*out, text, length);
    return CADFT_OK;
}

/* ------------------------------------------------------------------- fill */

/* Gives elements [first, first + count) of a parameter, in dtype. */
typedef int32_t (*source_fn)(void *user,
                             int64_t index,
                             int64_t first,
                             int64_t count,
                             int32_t dtype,
                             void *out,
                             cadft_error *error);

/* Fill the weights, piece by piece: the backend's memory need not be
 * reachable. */
static int32_t fill(cadft_context *context,
                    const cadft__parameters *p,
                    source_fn source,
                    void *user,
                    cadft_error *error)
{
    size_t size = cadft__dtype_size(p->dtype);
    void *piece = cadft__alloc(&context->memory, PIECE * size);
    int32_t status = piece ? CADFT_OK : no_memory("a piece of weights", error);
    for (int64_t i = 0; i < p->count && !status; i++) {
        cadft_array to = cadft__parameters_weight(p, &p->list[i]);
        int64_t left = p->list[i].count, first = 0;
        while (left && !status) {
            int64_t n = left < PIECE ? left : PIECE;
            uint64_t bytes = (uint64_t)n * size;
            status = source(user, i, first, n, p->dtype, piece, error);
            if (!status)
                status =
                    cadft__device_in(context, NULL, to, piece, bytes, error);
            to.offset += bytes;
            first += n;
            left -= n;
        }
    }
    cadft__free(&context->memory, piece, PIECE * size);
    return status;
}

/* ------------------------------------------------------------------- init */

struct random {
    cadft_context *context;
    const cadft__parameters *parameters;
    uint64_t seed;
    double range;
    /* of a piece */
    int64_t index, first, count;
    int32_t dtype;
    char *out;
};

static int is_norm(int32_t kind)
{
    return kind == CADFT__NORM_1 || kind == CADFT__NORM_2 ||
           kind == CADFT__NORM || kind == CADFT__Q_NORM ||
           kind == CADFT__K_NORM;
}

/* Elements from an even one on. */
static void draw(const struct random *r, int64_t first, int64_t n, float *out)
{
    const cadft__parameter *parameter = &r->parameters->list[r->index];
    for (int64_t e = 0; e < n; e += 2) {
        uint32_t words[4];
        double pair[2];
        if (parameter->ndim == 1) {
            pair[0] = pair[1] = is_norm(parameter->kind);
        } else {
            cadft__random_block(r->seed, (uint64_t)r->index,
                                (uint64_t)(first + e) / 2, words);
            cadft__random_normal(words, pair);
            pair[0] *= r->range;
            pair[1] *= r->range;
        }
        out[e] = (float)pair[0];
        if (e + 1 < n)
            out[e + 1] = (float)pair[1];
    }
}

static void draw_block(void *task, int64_t index, int32_t worker)
{
    const struct random *r = (const struct random *)task;
    float block[BLOCK];
    int64_t at = index * BLOCK;
    int64_t n = r->count - at < BLOCK ? r->count - at : BLOCK;
    (void)worker;
    draw(r, r->first + at, n, block);
    cadft__elements_convert(CADFT_DTYPE_F32, block, r->dtype,
                            r->out + (size_t)at * cadft__dtype_size(r->dtype),
                            (size_t)n);
}

static int32_t draw_piece(void *user,
                          int64_t index,
                          int64_t first,
                          int64_t count,
                          int32_t dtype,
                          void *out,
                          cadft_error *error)
{
    struct random *r = (struct random *)user;
    cadft_backend_host *host = &r->context->host;
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
    r->index = index;
    r->first = first;
    r->count = count;
    r->dtype = dtype;
    r->out = (char *)out;
    if (host->parallel_for(host->user, blocks, draw_block, r))
        return cadft__fail(error, CADFT_E_THREADS,
                           "parallel_for did not run all of %lld tasks",
                           (long long)blocks);
    return CADFT_OK;
}

/* After any of init or load: nothing, or all of it. */
static int32_t finish(cadft_context *context,
                      cadft__parameters *parameters,
                      cadft__origin *origin,
                      int32_t status)
{
    if (!status)
        return CADFT_OK;
    cadft__parameters_free(context, parameters);
    cadft__origin_free(context, origin);
    return status;
}

int32_t cadft__weights_init(cadft_context *context,
                            const char *text,
                            size_t length,
                            uint64_t seed,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error)
{
    struct random random = {
        .context = context, .parameters = parameters, .seed = seed};
    int32_t status;
    memset(parameters, 0, sizeof *parameters);
    memset(origin, 0, sizeof *origin);
    status = cadft__config_parse(text, length, "config", config, error);
    if (status)
        return status;
    random.range = config->initializer_range;
    if (!wanted)
        wanted = config->stored_dtype == CADFT_DTYPE_BF16 ? CADFT_DTYPE_BF16
                                                          : CADFT_DTYPE_F32;
    status = copy_text(context, text, length, &origin->text, error);
    if (!status)
        origin->length = length;
    if (!status)
        status = cadft__parameters_plan(context, config, parameters, error);
    if (!status)
        status = cadft__parameters_alloc(context, parameters, wanted, error);
    if (!status)
        status = fill(context, parameters, draw_piece, &random, error);
    return finish(context, parameters, origin, status);
}

/* ------------------------------------------------------------------- load */

static const char head_name[] = "lm_head.weight";

struct load {
    cadft_context *context;
    const cadft__parameters *parameters;
    cadft__safetensors table;
    const cadft__safetensor **tensors; /* [parameters->count] */
    unsigned char *taken;              /* [table.n_tensors] */
    const cadft__safetensor *head;     /* beside a tied embedding, or NULL */
};

static const char *file_of(const struct load *load,
                           const cadft__safetensor *tensor)
{
    return load->table.files[tensor->file].file.shown.text;
}

static int32_t check_tensor(const struct load *load,
                            const cadft__safetensor *tensor,
                            const cadft__parameter *parameter,
                            cadft_error *error)
{
    int same = tensor->ndim == parameter->ndim;
    for (int32_t i = 0; same && i < parameter->ndim; i++)
        same = tensor->shape[i] == parameter->shape[i];
    if (!same)
        return cadft__fail(
            error, CADFT_E_FORMAT,
            "%s: %s has %d dimensions and %lld elements, expected [%lld, "
            "%lld] of config.json",
            file_of(load, tensor), parameter->name, (int)tensor->ndim,
            (long long)tensor->count, (long long)parameter->shape[0],
            (long long)parameter->shape[1]);
    if (tensor->dtype != CADFT_DTYPE_F32 && tensor->dtype != CADFT_DTYPE_F16 &&
        tensor->dtype != CADFT_DTYPE_BF16)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s is %s, expected F32, BF16 or F16",
                           file_of(load, tensor), parameter->name,
                           cadft__show(tensor->type).text);
    return CADFT_OK;
}

/* A tensor that transformers would not look at either. */
static int is_ignored(const char *name)
{
    static const char buffer[] = "rotary_emb.inv_freq";
    size_t length = strlen(name), tail = sizeof buffer - 1;
    return strncmp(name, "model.", 6) == 0 && length > tail &&
           strcmp(name + length - tail, buffer) == 0;
}

/* Find each parameter's tensor, and leave none unexplained. */
static int32_t match(struct load *load,
                     const cadft__config *config,
                     const char *folder,
                     cadft_error *error)
{
    const cadft__parameters *p = load->parameters;
    const cadft__safetensor *head =
        config->tied ? cadft__safetensors_find(&load->table, head_name) : NULL;
    for (int64_t i = 0; i < p->count; i++) {
        const cadft__safetensor *tensor =
            cadft__safetensors_find(&load->table, p->list[i].name);
        int32_t status;
        if (!tensor && p->list[i].kind == CADFT__EMBED)
            tensor = head;
        if (!tensor)
            return cadft__fail(error, CADFT_E_FORMAT, "%s: %s is missing",
                               cadft__show(folder).text, p->list[i].name);
        status = check_tensor(load, tensor, &p->list[i], error);
        if (status)
            return status;
        load->tensors[i] = tensor;
        load->taken[tensor - load->table.tensors] = 1;
    }
    if (head && load->tensors[0] != head) {
        load->head = head;
        load->taken[head - load->table.tensors] = 1;
        return check_tensor(load, head, &p->list[0], error);
    }
    return CADFT_OK;
}

static int32_t check_unknown(const struct load *load, cadft_error *error)
{
    for (size_t i = 0; i < load->table.n_tensors; i++) {
        const cadft__safetensor *tensor = &load->table.tensors[i];
        if (!load->taken[i] && !is_ignored(tensor->name))
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %s is not a parameter of the model that "
                               "config.json describes",
                               file_of(load, tensor),
                               cadft__show(tensor->name).text);
    }
    return CADFT_OK;
}

static int32_t stored_dtype(const struct load *load)
{
    const cadft__parameters *p = load->parameters;
    int64_t numbers = 0;
    for (int64_t i = 0; i < p->count; i++)
        if (load->tensors[i]->dtype == CADFT_DTYPE_BF16)
            numbers += p->list[i].count;
    return numbers > p->numbers / 2 ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32;
}

static int32_t read_piece(void *user,
                          int64_t index,
                          int64_t first,
                          int64_t count,
                          int32_t dtype,
                          void *out,
                          cadft_error *error)
{
    struct load *load = (struct load *)user;
    return cadft__safetensors_read(&load->table, load->tensors[index], first,
                                   count, dtype, out, error);
}

/* A tied model's head that is not the embedding would be lost. Bits are
 * compared as float32, which holds every stored type. */
static int32_t check_head(const struct load *load, cadft_error *error)
{
    enum { COUNT = PIECE / 4 };
    cadft__memory *memory = &load->context->memory;
    const cadft__safetensor *head = load->head, *embed = load->tensors[0];
    float *values;
    int32_t status = CADFT_OK;
    if (!head)
        return CADFT_OK;
    values = (float *)cadft__alloc(memory, 2 * COUNT * sizeof *values);
    if (!values)
        return no_memory("a piece of weights", error);
    for (int64_t at = 0; at < head->count && !status; at += COUNT) {
        int64_t n = head->count - at < COUNT ? head->count - at : COUNT;
        status = cadft__safetensors_read(&load->table, head, at, n,
                                         CADFT_DTYPE_F32, values, error);
        if (!status)
            status = cadft__safetensors_read(
                &load->table, embed, at, n, CADFT_DTYPE_F32, values + n, error);
        if (!status && memcmp(values, values + n, (size_t)n * sizeof *values))
            status = cadft__fail(error, CADFT_E_FORMAT,
                                 "%s: lm_head.weight is not the embedding, but "
                                 "config.json has tie_word_embeddings true",
                                 file_of(load, head));
    }
    cadft__free(memory, values, 2 * COUNT * sizeof *values);
    return status;
}

static int32_t load_tensors(struct load *load,
                            const char *folder,
                            const cadft__config *config,
                            cadft__parameters *parameters,
                            int32_t wanted,
                            cadft_error *error)
{
    cadft__memory *memory = &load->context->memory;
    size_t tensors_size = (size_t)parameters->count * sizeof *load->tensors;
    size_t taken_size = load->table.n_tensors + 1;
    int32_t status = CADFT_OK;
    load->parameters = parameters;
    load->tensors =
        (const cadft__safetensor **)cadft__alloc(memory, tensors_size);
    load->taken = (unsigned char *)cadft__alloc(memory, taken_size);
    if (!load->tensors || !load->taken)
        status = no_memory("the list of tensors", error);
    if (!status)
        status = match(load, config, folder, error);
    if (!status)
        status = check_unknown(load, error);
    if (!status)
        status = check_head(load, error);
    if (!status)
        status = cadft__parameters_alloc(load->context, parameters,
                                         wanted ? wanted : stored_dtype(load),
                                         error);
    if (!status)
        status = fill(load->context, parameters, read_piece, load, error);
    cadft__free(memory, load->tensors, tensors_size);
    cadft__free(memory, load->taken, taken_size);
    return status;
}

static int32_t load_folder(cadft_context *context,
                           const cadft__folder *folder,
                           int32_t wanted,
                           cadft__config *config,
                           cadft__parameters *parameters,
                           cadft__origin *origin,
                           cadft_error *error)
{
    static const char name[] = "config.json";
    cadft__shown shown = cadft__show_path(folder->shown.text, name);
    struct load load = {.context = context};
    int32_t status =
        cadft__file_text(&context->memory, folder, name, CADFT__CONFIG_MOST,
                         &origin->text, &origin->length, error);
    if (!status)
        status = cadft__config_parse(origin->text, origin->length, shown.text,
                                     config, error);
    if (!status)
        status = cadft__parameters_plan(context, config, parameters, error);
    if (!status)
        status = cadft__safetensors_open(&context->memory, folder, "model",
                                         &load.table, error);
    if (status)
        return status;
    status = load_tensors(&load, folder->shown.text, config, parameters, wanted,
                          error);
    cadft__safetensors_close(&load.table);
    return status;
}

int32_t cadft__weights_read(cadft_context *context,
                            const cadft__folder *folder,
                            const char *path,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error)
{
    size_t length = strlen(path);
    int32_t status;
    memset(parameters, 0, sizeof *parameters);
    memset(origin, 0, sizeof *origin);
    status = copy_text(context, path, length, &origin->folder, error);
    if (status)
        return status;
    origin->folder_size = length + 1;
    status =
        load_folder(context, folder, wanted, config, parameters, origin, error);
    return finish(context, parameters, origin, status);
}

int32_t cadft__weights_load(cadft_context *context,
                            const char *folder,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error)
{
    cadft__folder opened;
    int32_t status;
    memset(parameters, 0, sizeof *parameters);
    memset(origin, 0, sizeof *origin);
    status = cadft__folder_open(folder, &opened, error);
    if (status)
        return status;
    status = cadft__weights_read(context, &opened, folder, wanted, config,
                                 parameters, origin, error);
    cadft__folder_close(&opened);
    return status;
}
