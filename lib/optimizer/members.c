/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters: added one by one or from a model, looked up at each step,
 * and the scales of groups. */
#include <float.h>
#include <string.h>

#include "common/pattern.h"
#include "common/tensor.h"
#include "io/safetensors.h"
#include "optimizer/optimizer.h"

enum { NAME_MOST = 255 };

_Static_assert((int)CADFT__MEMBER_NDIM == (int)CADFT__SAFETENSORS_NDIM,
               "what can be added can be saved");

const char *cadft__member_name(const cadft_optimizer *optimizer,
                               const cadft__member *member)
{
    return optimizer->names + member->name;
}

int32_t cadft__members_needed(const cadft_optimizer *optimizer,
                              cadft_error *error)
{
    return optimizer->count
               ? CADFT_OK
               : cadft__fail(error, CADFT_E_PHASE,
                             "the optimizer has no parameters: call add or "
                             "add_model");
}

void cadft__members_free(cadft_optimizer *optimizer)
{
    cadft__memory *memory = &optimizer->handle.context->memory;
    for (size_t i = 0; i < optimizer->n_models; i++)
        cadft__handle_release((cadft__handle *)optimizer->models[i]);
    cadft__free(memory, optimizer->models,
                optimizer->models_capacity * sizeof *optimizer->models);
    cadft__free(memory, optimizer->members,
                optimizer->members_capacity * sizeof *optimizer->members);
    cadft__free(memory, optimizer->names, optimizer->names_capacity);
}

/* ------------------------------------------------------------------ names */

/* A file's header needs no escapes for these. */
static int is_name(const char *name)
{
    size_t length = 0;
    for (; name[length]; length++)
        if (length == NAME_MOST || name[length] < 0x20 || name[length] > 0x7e ||
            name[length] == '"' || name[length] == '\\')
            return 0;
    return length > 0;
}

static int32_t check_name(const cadft_optimizer *optimizer,
                          const char *name,
                          cadft_error *error)
{
    if (!is_name(name))
        return cadft__fail(error, CADFT_E_ARG,
                           "name is \"%s\", expected 1 to %d printable ASCII "
                           "characters without '\"' and '\\'",
                           cadft__show(name).text, NAME_MOST);
    for (size_t i = 0; i < optimizer->count; i++)
        if (strcmp(cadft__member_name(optimizer, &optimizer->members[i]),
                   name) == 0)
            return cadft__fail(error, CADFT_E_ARG,
                               "name is \"%s\", which the optimizer has "
                               "already",
                               cadft__show(name).text);
    return CADFT_OK;
}

/* ----------------------------------------------------------------- arrays */

/* Check a dense tensor of the backend's and read it. */
static int32_t read_tensor(const cadft_optimizer *optimizer,
                           const cadft_tensor *theirs,
                           const char *name,
                           cadft_tensor *view,
                           cadft__matrix *out,
                           cadft_error *error)
{
    const cadft_backend *backend = optimizer->handle.context->backend;
    CADFT__TRY(cadft__struct_in(view, sizeof *view, theirs,
                                CADFT__SIZE_TO(cadft_tensor, byte_offset), name,
                                error));
    CADFT__TRY(cadft__tensor_matrix(theirs, 0, name, out, error));
    if (view->ndim > CADFT__MEMBER_NDIM)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%s.ndim is %d, expected 1 to %d", name, view->ndim,
                           CADFT__MEMBER_NDIM);
    if (out->dtype != CADFT_DTYPE_F32 && out->dtype != CADFT_DTYPE_BF16)
        return cadft__fail(error, CADFT_E_DTYPE,
                           "%s is %s, expected float32 or bfloat16", name,
                           cadft__dtype_name(out->dtype));
    if (out->device_type != backend->device_type)
        return cadft__fail(error, CADFT_E_DEVICE,
                           "%s.device_type is %d, expected %d, which backend "
                           "%s computes on",
                           name, out->device_type, backend->device_type,
                           backend->name);
    return CADFT_OK;
}

static int32_t
check_shapes(const cadft_tensor *a, const cadft_tensor *b, cadft_error *error)
{
    if (a->ndim != b->ndim)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "grad.ndim is %d, expected %d as value's", b->ndim,
                           a->ndim);
    for (int32_t d = 0; d < a->ndim; d++)
        if (a->shape[d] != b->shape[d])
            return cadft__fail(error, CADFT_E_SHAPE,
                               "grad.shape[%d] is %lld, expected %lld as "
                               "value's",
                               d, (long long)b->shape[d],
                               (long long)a->shape[d]);
    return CADFT_OK;
}

/* On a device only arrays of the same base can overlap. */
static int overlap(const cadft_optimizer *optimizer,
                   cadft_array a,
                   uint64_t a_bytes,
                   cadft_array b,
                   uint64_t b_bytes)
{
    uint64_t x = a.offset, y = b.offset;
    if (optimizer->handle.context->backend->device_type == CADFT_DEVICE_CPU) {
        x += (uint64_t)(uintptr_t)a.base;
        y += (uint64_t)(uintptr_t)b.base;
    } else if (a.base != b.base) {
        return 0;
    }
    return a_bytes && b_bytes && x < y + b_bytes && y < x + a_bytes;
}

static uint64_t value_bytes(const cadft__member *member)
{
    return (uint64_t)member->n * cadft__dtype_size(member->value_dtype);
}

/* 0 for a model's, which is the model's to place. */
static uint64_t grad_bytes(const cadft__member *member)
{
    return member->model
               ? 0
               : (uint64_t)member->n * cadft__dtype_size(member->grad_dtype);
}

/* A value that is written must not be anything else's memory. */
static int32_t check_alias(const cadft_optimizer *optimizer,
                           const cadft__member *new,
                           cadft_error *error)
{
    uint64_t value = value_bytes(new), grad = grad_bytes(new);
    if (overlap(optimizer, new->value, value, new->grad, grad))
        return cadft__fail(error, CADFT_E_ALIAS,
                           "value and grad overlap, expected memory apart");
    for (size_t i = 0; i < optimizer->count; i++) {
        const cadft__member *old = &optimizer->members[i];
        const char *name = cadft__member_name(optimizer, old);
        if (overlap(optimizer, new->value, value, old->value, value_bytes(old)))
            return cadft__fail(error, CADFT_E_ALIAS,
                               "value overlaps that of \"%s\"",
                               cadft__show(name).text);
        if (overlap(optimizer, new->value, value, old->grad, grad_bytes(old)))
            return cadft__fail(error, CADFT_E_ALIAS,
                               "value overlaps the gradient of \"%s\"",
                               cadft__show(name).text);
        if (overlap(optimizer, new->grad, grad, old->value, value_bytes(old)))
            return cadft__fail(error, CADFT_E_ALIAS,
                               "grad overlaps the value of \"%s\"",
                               cadft__show(name).text);
    }
    return CADFT_OK;
}

/* -------------------------------------------------------------------- add */

/* Put a checked member and its name at the end of the lists. */
static int32_t append(cadft_optimizer *optimizer,
                      const char *name,
                      cadft__member *member,
                      cadft_error *error)
{
    cadft__memory *memory = &optimizer->handle.context->memory;
    size_t bytes = strlen(name) + 1;
    CADFT__TRY(cadft__reserve(memory, &optimizer->names,
                              &optimizer->names_capacity, optimizer->names_size,
                              optimizer->names_size + bytes, 1, error));
    CADFT__TRY(cadft__reserve(memory, &optimizer->members,
                              &optimizer->members_capacity, optimizer->count,
                              optimizer->count + 1, sizeof *member, error));
    member->name = optimizer->names_size;
    memcpy(optimizer->names + optimizer->names_size, name, bytes);
    optimizer->names_size += bytes;
    optimizer->members[optimizer->count++] = *member;
    return CADFT_OK;
}

/* Fill what the views say. `model` NULL: grad is there and stays. */
static int32_t describe(const cadft_optimizer *optimizer,
                        const cadft_tensor *value,
                        const cadft_tensor *grad,
                        cadft__member *out,
                        cadft_error *error)
{
    cadft_tensor view, grad_view;
    cadft__matrix v, g;
    CADFT__TRY(read_tensor(optimizer, value, "value", &view, &v, error));
    if (!out->model) {
        CADFT__TRY(read_tensor(optimizer, grad, "grad", &grad_view, &g, error));
        CADFT__TRY(check_shapes(&view, &grad_view, error));
        out->grad = (cadft_array){g.base, g.offset};
        out->grad_dtype = g.dtype;
    } else {
        out->grad_dtype = CADFT_DTYPE_F32;
    }
    out->value = (cadft_array){v.base, v.offset};
    out->value_dtype = v.dtype;
    out->moves = 1;
    out->n = v.rows;
    out->ndim = view.ndim;
    memcpy(out->shape, view.shape, (size_t)view.ndim * sizeof *view.shape);
    out->lr_scale = 1;
    out->decay_scale = view.ndim < 2 ? 0 : 1;
    return CADFT_OK;
}

static int32_t add(cadft_optimizer *optimizer,
                   const char *name,
                   const cadft_tensor *value,
                   const cadft_tensor *grad,
                   cadft__member *member,
                   cadft_error *error)
{
    int32_t op = optimizer->options.kind == CADFT_KIND_SGD ? CADFT_OP_SGD
                                                           : CADFT_OP_ADAMW;
    CADFT__TRY(check_name(optimizer, name, error));
    CADFT__TRY(describe(optimizer, value, grad, member, error));
    CADFT__TRY(check_alias(optimizer, member, error));
    CADFT__TRY(cadft__device_check_optimizer(optimizer->handle.context, op,
                                             member->value_dtype, error));
    return append(optimizer, name, member, error);
}

static int32_t check_phase(const cadft_optimizer *optimizer, cadft_error *error)
{
    return optimizer->state.base
               ? cadft__fail(error, CADFT_E_PHASE,
                             "the optimizer has state: parameters are added "
                             "before the first step")
               : CADFT_OK;
}

int32_t cadft_optimizer_add(cadft_optimizer *optimizer,
                            const char *name,
                            const cadft_tensor *value,
                            const cadft_tensor *grad,
                            cadft_error *error)
{
    cadft__member member = {0};
    CADFT__ENTER(optimizer);
    status = check_phase(optimizer, &call.error);
    if (!status && !name)
        status = cadft__fail(&call.error, CADFT_E_NULL, "name is NULL");
    if (!status)
        status = add(optimizer, name, value, grad, &member, &call.error);
    CADFT__LEAVE(optimizer);
}

/* -------------------------------------------------------------- add_model */

static int has_member(const cadft_optimizer *optimizer,
                      const cadft_model *model,
                      int64_t index)
{
    for (size_t i = 0; i < optimizer->count; i++)
        if (optimizer->members[i].model == model &&
            optimizer->members[i].index == index)
            return 1;
    return 0;
}

static int32_t add_trainable(cadft_optimizer *optimizer,
                             cadft_model *model,
                             cadft_error *error)
{
    int64_t count = 0;
    CADFT__TRY(
        cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &count, error));
    for (int64_t i = 0; i < count; i++) {
        cadft__member member = {.model = model, .index = i};
        cadft_tensor value = {.struct_size = sizeof value};
        const char *name;
        int32_t trainable;
        CADFT__TRY(cadft_model_parameter(model, i, &name, &value, NULL,
                                         &trainable, error));
        if (trainable && !has_member(optimizer, model, i))
            CADFT__TRY(add(optimizer, name, &value, NULL, &member, error));
    }
    return CADFT_OK;
}

/* Keep a model alive, once however often it is added. */
static int32_t
keep(cadft_optimizer *optimizer, cadft_model *model, cadft_error *error)
{
    for (size_t i = 0; i < optimizer->n_models; i++)
        if (optimizer->models[i] == model)
            return CADFT_OK;
    CADFT__TRY(cadft__reserve(&optimizer->handle.context->memory,
                              &optimizer->models, &optimizer->models_capacity,
                              optimizer->n_models, optimizer->n_models + 1,
                              sizeof *optimizer->models, error));
    cadft__handle_retain((cadft__handle *)model);
    optimizer->models[optimizer->n_models++] = model;
    return CADFT_OK;
}

static int32_t add_model(cadft_optimizer *optimizer,
                         cadft_model *model,
                         int64_t *added,
                         cadft_error *error)
{
    size_t count = optimizer->count, names = optimizer->names_size;
    int32_t status = check_phase(optimizer, error);
    if (status)
        return status;
    if (!model)
        return cadft__fail(error, CADFT_E_NULL, "model is NULL");
    if (((cadft__handle *)model)->context != optimizer->handle.context)
        return cadft__fail(error, CADFT_E_ARG,
                           "model is of another context, expected that of the "
                           "optimizer");
    status = add_trainable(optimizer, model, error);
    if (!status && optimizer->count > count)
        status = keep(optimizer, model, error);
    if (status) {
        optimizer->count = count;
        optimizer->names_size = names;
    } else if (added) {
        *added = (int64_t)(optimizer->count - count);
    }
    return status;
}

int32_t cadft_optimizer_add_model(cadft_optimizer *optimizer,
                                  cadft_model *model,
                                  int64_t *added,
                                  cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = add_model(optimizer, model, added, &call.error);
    CADFT__LEAVE(optimizer);
}

/* ------------------------------------------------------------------- look */

static int32_t look(const cadft_optimizer *optimizer,
                    cadft__member *member,
                    cadft_error *error)
{
    cadft_tensor grad = {.struct_size = sizeof grad};
    CADFT__TRY(cadft_model_parameter(member->model, member->index, NULL, NULL,
                                     &grad, &member->moves, error));
    member->grad = (cadft_array){grad.data, grad.byte_offset};
    if (member->moves && !grad.data)
        return cadft__fail(
            error, CADFT_E_PHASE,
            "the model has no gradient of \"%s\" yet: call "
            "cadft_model_zero_grad",
            cadft__show(cadft__member_name(optimizer, member)).text);
    return CADFT_OK;
}

int32_t cadft__members_look(cadft_optimizer *optimizer, cadft_error *error)
{
    CADFT__TRY(cadft__members_needed(optimizer, error));
    for (size_t i = 0; i < optimizer->count; i++)
        if (optimizer->members[i].model)
            CADFT__TRY(look(optimizer, &optimizer->members[i], error));
    return CADFT_OK;
}

/* ------------------------------------------------------------------ group */

static int32_t check_scale(double scale, const char *name, cadft_error *error)
{
    return scale >= 0 && scale <= (double)FLT_MAX
               ? CADFT_OK
               : cadft__fail(error, CADFT_E_ARG, "%s is %g, expected 0 or more",
                             name, scale);
}

static int32_t group(cadft_optimizer *optimizer,
                     const char *pattern,
                     double lr_scale,
                     double decay_scale,
                     int64_t *matched,
                     cadft_error *error)
{
    int64_t n = 0;
    if (!pattern)
        return cadft__fail(error, CADFT_E_NULL, "pattern is NULL");
    CADFT__TRY(check_scale(lr_scale, "lr_scale", error));
    CADFT__TRY(check_scale(decay_scale, "decay_scale", error));
    for (size_t i = 0; i < optimizer->count; i++) {
        cadft__member *member = &optimizer->members[i];
        if (!cadft__pattern_matches(pattern,
                                    cadft__member_name(optimizer, member)))
            continue;
        member->lr_scale = lr_scale;
        member->decay_scale = decay_scale;
        n++;
    }
    if (!n)
        return cadft__fail(error, CADFT_E_KEY, "no parameter matches \"%s\"",
                           cadft__show(pattern).text);
    if (matched)
        *matched = n;
    return CADFT_OK;
}

int32_t cadft_optimizer_group(cadft_optimizer *optimizer,
                              const char *pattern,
                              double lr_scale,
                              double decay_scale,
                              int64_t *matched,
                              cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status =
        group(optimizer, pattern, lr_scale, decay_scale, matched, &call.error);
    CADFT__LEAVE(optimizer);
}
