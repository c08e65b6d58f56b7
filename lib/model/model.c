/* SPDX-License-Identifier: Apache-2.0 */
/* The handle: knobs, parameters, and the border of every call. */
#include "cadft/model.h"

#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "common/knobs.h"
#include "model/transformer.h"

#define I64(key, field, lo, hi, standard)                                      \
    CADFT__I64(cadft__model_options, key, field, lo, hi, standard, NULL)

static const cadft__knob list[] = {
    I64(CADFT_MODEL_WEIGHT_DTYPE, weight_dtype, 0, CADFT_DTYPE_F32, 0),
    I64(CADFT_MODEL_CHECKPOINTING, checkpointing, 0, 1, 0),
};

static const cadft__fact facts[] = {
    {CADFT_MODEL_PARAMETERS, "parameters"},
    {CADFT_MODEL_ELEMENTS, "elements"},
    {CADFT_MODEL_VOCAB, "vocab"},
    {CADFT_MODEL_HIDDEN, "hidden"},
    {CADFT_MODEL_LAYERS, "layers"},
    {CADFT_MODEL_HEADS, "heads"},
    {CADFT_MODEL_KV_HEADS, "kv_heads"},
    {CADFT_MODEL_HEAD_DIM, "head_dim"},
    {CADFT_MODEL_INTERMEDIATE, "intermediate"},
    {CADFT_MODEL_POSITIONS, "positions"},
    {CADFT_MODEL_WEIGHT_BYTES, "weight_bytes"},
    {CADFT_MODEL_GRAD_BYTES, "grad_bytes"},
    {CADFT_MODEL_ARENA_BYTES, "arena_bytes"},
};

static const cadft__knobs knobs = {list, sizeof list / sizeof list[0], facts,
                                   sizeof facts / sizeof facts[0]};

/* Names of weight_dtype's values. */
static const struct {
    const char *name;
    int64_t value;
} dtypes[] = {
    {"stored", 0},
    {"float32", CADFT_DTYPE_F32},
    {"bfloat16", CADFT_DTYPE_BF16},
};
#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

/* ---------------------------------------------------------------- life */

static void free_model(cadft__handle *handle)
{
    cadft_model *model = (cadft_model *)handle;
    cadft_context *context = handle->context;
    cadft__device_free(context, model->stream, model->workspace.base,
                       model->workspace.bytes);
    cadft__device_free(context, model->stream, model->rope.base,
                       cadft__rope_bytes(model, model->rope.positions));
    cadft__parameters_free(context, &model->parameters);
    cadft__origin_free(context, &model->origin);
    cadft__sequences_free(context, &model->sequences);
    cadft__sequences_free(context, &model->incoming);
    cadft__free(&context->memory, model, sizeof *model);
}

static int32_t
create(cadft_context *context, cadft_model **out, cadft_error *error)
{
    cadft_model *model;
    if (!context || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "out" : "context");
    CADFT__TRY(cadft__device_check_model(context, CADFT_DTYPE_F32, error));
    model = (cadft_model *)cadft__alloc(&context->memory, sizeof *model);
    if (!model)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a model");
    cadft__handle_init(&model->handle, context, free_model);
    cadft__knobs_default(&knobs, &model->options);
    *out = model;
    return CADFT_OK;
}

int32_t cadft_model_create(cadft_context *context,
                           cadft_model **out,
                           cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__call_enter(error, &call);
    if (out)
        *out = NULL;
    if (!status)
        status = create(context, out, &call.error);
    return cadft__call_leave(context, error, &call, status);
}

void cadft_model_destroy(cadft_model *model)
{
    cadft__handle_release(model ? &model->handle : NULL);
}

/* --------------------------------------------------------------- knobs */

/* May the knob be set now? */
static int32_t
settable(const cadft_model *model, int32_t key, cadft_error *error)
{
    const cadft__knob *knob;
    CADFT__TRY(cadft__knobs_find(&knobs, key, &knob, error));
    if (key == CADFT_MODEL_WEIGHT_DTYPE && model->has_weights)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weight_dtype cannot change: the model has "
                           "weights");
    if (key == CADFT_MODEL_CHECKPOINTING && model->phase == CADFT__FORWARD_DONE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "checkpointing cannot change between forward and "
                           "backward");
    return CADFT_OK;
}

static int32_t
set_i64(cadft_model *model, int32_t key, int64_t value, cadft_error *error)
{
    CADFT__TRY(settable(model, key, error));
    if (key == CADFT_MODEL_WEIGHT_DTYPE && value != 0 &&
        value != CADFT_DTYPE_F32 && value != CADFT_DTYPE_BF16)
        return cadft__fail(error, CADFT_E_ARG,
                           "weight_dtype is %lld, expected 0 (stored), %d "
                           "(float32) or %d (bfloat16)",
                           (long long)value, CADFT_DTYPE_F32, CADFT_DTYPE_BF16);
    return cadft__knobs_set_i64(&knobs, &model->options, key, value, error);
}

int32_t cadft_model_set_i64(cadft_model *model,
                            int32_t key,
                            int64_t value,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = set_i64(model, key, value, &call.error);
    CADFT__LEAVE(model);
}

int32_t cadft_model_set_f64(cadft_model *model,
                            int32_t key,
                            double value,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = settable(model, key, &call.error);
    if (!status)
        status = cadft__knobs_set_f64(&knobs, &model->options, key, value,
                                      &call.error);
    CADFT__LEAVE(model);
}

static int32_t parse_dtype(const char *value, int64_t *out, cadft_error *error)
{
    for (size_t i = 0; i < N_DTYPES; i++)
        if (strcmp(dtypes[i].name, value) == 0) {
            *out = dtypes[i].value;
            return CADFT_OK;
        }
    return cadft__fail(error, CADFT_E_ARG,
                       "weight_dtype is \"%.64s\", expected stored, float32 "
                       "or bfloat16",
                       value);
}

static int32_t
set_str(cadft_model *model, int32_t key, const char *value, cadft_error *error)
{
    int64_t dtype = 0;
    if (!value)
        return cadft__fail(error, CADFT_E_NULL, "value is NULL");
    if (key == CADFT_MODEL_WEIGHT_DTYPE) {
        CADFT__TRY(parse_dtype(value, &dtype, error));
        return set_i64(model, key, dtype, error);
    }
    CADFT__TRY(settable(model, key, error));
    return cadft__knobs_set_str(&knobs, &model->options, key, value, error);
}

int32_t cadft_model_set_str(cadft_model *model,
                            int32_t key,
                            const char *value,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = set_str(model, key, value, &call.error);
    CADFT__LEAVE(model);
}

static int32_t
fact(const cadft_model *model, int32_t key, int64_t *out, cadft_error *error)
{
    const cadft__config *c = &model->config;
    const cadft__parameters *p = &model->parameters;
    const struct {
        int32_t key;
        int64_t value;
    } values[] = {
        {CADFT_MODEL_PARAMETERS, p->count},
        {CADFT_MODEL_ELEMENTS, p->numbers},
        {CADFT_MODEL_VOCAB, c->vocab},
        {CADFT_MODEL_HIDDEN, c->hidden},
        {CADFT_MODEL_LAYERS, c->layers},
        {CADFT_MODEL_HEADS, c->heads},
        {CADFT_MODEL_KV_HEADS, c->kv_heads},
        {CADFT_MODEL_HEAD_DIM, c->head_dim},
        {CADFT_MODEL_INTERMEDIATE, c->intermediate},
        {CADFT_MODEL_POSITIONS, c->positions},
        {CADFT_MODEL_WEIGHT_BYTES, cadft__parameters_weight_bytes(p)},
        {CADFT_MODEL_GRAD_BYTES, cadft__parameters_grad_bytes(p)},
        {CADFT_MODEL_ARENA_BYTES,
         (int64_t)(model->workspace.bytes +
                   cadft__rope_bytes(model, model->rope.positions))},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (values[i].key != key)
            continue;
        CADFT__TRY(cadft__needs_weights(model, error));
        *out = values[i].value;
        return CADFT_OK;
    }
    return cadft__fail(error, CADFT_E_KEY, "key %d is not known", key);
}

/* What the weights are in, once there are some; before, what is asked for. */
static int64_t weight_dtype(const cadft_model *model)
{
    return model->has_weights ? model->parameters.dtype
                              : model->options.weight_dtype;
}

int32_t cadft_model_get_i64(cadft_model *model,
                            int32_t key,
                            int64_t *out,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    if (!out)
        status = cadft__fail(&call.error, CADFT_E_NULL, "out is NULL");
    else if (key == CADFT_MODEL_WEIGHT_DTYPE)
        *out = weight_dtype(model);
    else if (key < CADFT_MODEL_PARAMETERS)
        status = cadft__knobs_get_i64(&knobs, &model->options, key, out,
                                      &call.error);
    else
        status = fact(model, key, out, &call.error);
    CADFT__LEAVE(model);
}

int32_t cadft_model_get_f64(cadft_model *model,
                            int32_t key,
                            double *out,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status =
        cadft__knobs_get_f64(&knobs, &model->options, key, out, &call.error);
    CADFT__LEAVE(model);
}

static int32_t get_str(const cadft_model *model,
                       int32_t key,
                       char *buffer,
                       size_t capacity,
                       size_t *needed,
                       cadft_error *error)
{
    int64_t dtype;
    if (key != CADFT_MODEL_WEIGHT_DTYPE)
        return cadft__knobs_get_str(&knobs, &model->options, key, buffer,
                                    capacity, needed, error);
    dtype = weight_dtype(model);
    for (size_t i = 0; i < N_DTYPES; i++)
        if (dtypes[i].value == dtype)
            return cadft__text_out(dtypes[i].name, buffer, capacity, needed,
                                   error);
    return cadft__fail(error, CADFT_E_KEY, "weight_dtype %lld has no name",
                       (long long)dtype);
}

int32_t cadft_model_get_str(cadft_model *model,
                            int32_t key,
                            char *buffer,
                            size_t capacity,
                            size_t *needed,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = get_str(model, key, buffer, capacity, needed, &call.error);
    CADFT__LEAVE(model);
}

int32_t cadft_model_bounds(int32_t key,
                           int32_t *type,
                           double *smallest,
                           double *largest,
                           double *standard,
                           cadft_error *error)
{
    return cadft__knobs_bounds(&knobs, key, type, smallest, largest, standard,
                               error);
}

int32_t cadft_model_key(const char *name, int32_t *key, cadft_error *error)
{
    return cadft__knobs_key(&knobs, name, key, error);
}

int32_t cadft_model_key_at(int32_t index,
                           const char **name,
                           int32_t *key,
                           cadft_error *error)
{
    return cadft__knobs_at(&knobs, index, name, key, error);
}

/* -------------------------------------------------------------- weights */

int32_t cadft__needs_weights(const cadft_model *model, cadft_error *error)
{
    return model->has_weights
               ? CADFT_OK
               : cadft__fail(error, CADFT_E_PHASE,
                             "the model has no weights: call load or init");
}

int32_t cadft__needs_no_weights(const cadft_model *model, cadft_error *error)
{
    return model->has_weights
               ? cadft__fail(error, CADFT_E_PHASE,
                             "the model has weights already: create another")
               : CADFT_OK;
}

int32_t
cadft_model_load(cadft_model *model, const char *folder, cadft_error *error)
{
    CADFT__ENTER(model);
    status = cadft__needs_no_weights(model, &call.error);
    if (!status && !folder)
        status = cadft__fail(&call.error, CADFT_E_NULL, "folder is NULL");
    if (!status)
        status = cadft__weights_load(
            model->handle.context, folder, (int32_t)model->options.weight_dtype,
            &model->config, &model->parameters, &model->origin, &call.error);
    if (!status)
        model->has_weights = 1;
    CADFT__LEAVE(model);
}

int32_t cadft_model_init(cadft_model *model,
                         const char *config,
                         size_t length,
                         uint64_t seed,
                         cadft_error *error)
{
    CADFT__ENTER(model);
    status = cadft__needs_no_weights(model, &call.error);
    if (!status && !config)
        status = cadft__fail(&call.error, CADFT_E_NULL, "config is NULL");
    if (!status)
        status = cadft__weights_init(model->handle.context, config, length,
                                     seed, (int32_t)model->options.weight_dtype,
                                     &model->config, &model->parameters,
                                     &model->origin, &call.error);
    if (!status)
        model->has_weights = 1;
    CADFT__LEAVE(model);
}

int32_t
cadft_model_save(cadft_model *model, const char *folder, cadft_error *error)
{
    CADFT__ENTER(model);
    status = cadft__needs_weights(model, &call.error);
    if (!status && !folder)
        status = cadft__fail(&call.error, CADFT_E_NULL, "folder is NULL");
    if (!status)
        status = cadft__weights_save(model->handle.context, folder,
                                     &model->parameters, &model->origin,
                                     &call.error);
    CADFT__LEAVE(model);
}

static int32_t get_parameter(cadft_model *model,
                             int64_t index,
                             const char **name,
                             cadft_tensor *value,
                             cadft_tensor *grad,
                             int32_t *trainable,
                             cadft_error *error)
{
    const cadft__parameters *all = &model->parameters;
    cadft__parameter *p;
    CADFT__TRY(cadft__needs_weights(model, error));
    if (index < 0 || index >= all->count)
        return cadft__fail(error, CADFT_E_ARG,
                           "index is %lld, expected 0 to %lld",
                           (long long)index, (long long)all->count - 1);
    p = &all->list[index];
    if (value)
        CADFT__TRY(cadft__model_view_check(value, "value", error));
    if (grad)
        CADFT__TRY(cadft__model_view_check(grad, "grad", error));
    if (value)
        cadft__model_view(model, cadft__parameters_weight(all, p), all->dtype,
                          p->ndim, p->shape, value);
    if (grad)
        cadft__model_view(model, cadft__parameters_grad(all, p),
                          CADFT_DTYPE_F32, p->ndim, p->shape, grad);
    if (name)
        *name = p->name;
    if (trainable)
        *trainable = p->trainable;
    return CADFT_OK;
}

int32_t cadft_model_parameter(cadft_model *model,
                              int64_t index,
                              const char **name,
                              cadft_tensor *value,
                              cadft_tensor *grad,
                              int32_t *trainable,
                              cadft_error *error)
{
    CADFT__ENTER(model);
    status =
        get_parameter(model, index, name, value, grad, trainable, &call.error);
    CADFT__LEAVE(model);
}

static int32_t find_parameter(const cadft_model *model,
                              const char *name,
                              int64_t *out,
                              cadft_error *error)
{
    if (!name || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           name ? "out" : "name");
    CADFT__TRY(cadft__needs_weights(model, error));
    for (int64_t i = 0; i < model->parameters.count; i++)
        if (strcmp(model->parameters.list[i].name, name) == 0) {
            *out = i;
            return CADFT_OK;
        }
    return cadft__fail(error, CADFT_E_KEY,
                       "the model has no parameter \"%.128s\"", name);
}

int32_t cadft_model_find(cadft_model *model,
                         const char *name,
                         int64_t *out,
                         cadft_error *error)
{
    CADFT__ENTER(model);
    status = find_parameter(model, name, out, &call.error);
    CADFT__LEAVE(model);
}

static int32_t freeze(cadft_model *model,
                      const char *pattern,
                      int32_t trainable,
                      int64_t *matched,
                      cadft_error *error)
{
    int64_t count;
    if (!pattern)
        return cadft__fail(error, CADFT_E_NULL, "pattern is NULL");
    CADFT__TRY(cadft__needs_weights(model, error));
    if (model->phase == CADFT__FORWARD_DONE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "freeze between forward and backward");
    if (trainable != 0 && trainable != 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "trainable is %d, expected 0 or 1", trainable);
    count = cadft__parameters_freeze(model->handle.context, &model->parameters,
                                     pattern, trainable);
    if (!count)
        return cadft__fail(error, CADFT_E_KEY,
                           "no parameter matches \"%.128s\"", pattern);
    if (matched)
        *matched = count;
    return CADFT_OK;
}

int32_t cadft_model_freeze(cadft_model *model,
                           const char *pattern,
                           int32_t trainable,
                           int64_t *matched,
                           cadft_error *error)
{
    CADFT__ENTER(model);
    status = freeze(model, pattern, trainable, matched, &call.error);
    CADFT__LEAVE(model);
}
