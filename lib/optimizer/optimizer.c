/* SPDX-License-Identifier: Apache-2.0 */
/* The handle, its knobs and facts. */
#include "optimizer/optimizer.h"

#include <float.h>

#include "cadft/loss.h"
#include "common/knobs.h"

#define I64(key, field, lo, hi, standard, names)                               \
    CADFT__I64(cadft__optimizer_options, CADFT_OPTIMIZER_##key, field, lo, hi, \
               standard, names)
#define F64(key, field, lo, hi, standard)                                      \
    CADFT__F64(cadft__optimizer_options, CADFT_OPTIMIZER_##key, field, lo, hi, \
               standard)

static const cadft__knob list[] = {
    I64(KIND, kind, 0, CADFT_KIND_SGD, CADFT_KIND_ADAMW, "adamw sgd"),
    F64(LR, lr, 0, FLT_MAX, 5e-5),
    F64(BETA1, beta1, 0, CADFT__BELOW_1, 0.9),
    F64(BETA2, beta2, 0, CADFT__BELOW_1, 0.95),
    F64(EPS, eps, 0, FLT_MAX, 1e-8),
    F64(WEIGHT_DECAY, weight_decay, 0, FLT_MAX, 0.01),
    F64(MOMENTUM, momentum, 0, CADFT__BELOW_1, 0.9),
    I64(NESTEROV, nesterov, 0, 1, 0, NULL),
    I64(MASTER, master, 0, 1, 1, NULL),
    F64(CLIP_NORM, clip_norm, 0, FLT_MAX, 1),
    F64(GRAD_SCALE, grad_scale, 0, FLT_MAX, 1),
    I64(NONFINITE, nonfinite, 0, 1, CADFT_NONFINITE_SKIP, "error skip"),
    I64(SCHEDULE,
        schedule,
        0,
        CADFT_SCHEDULE_COSINE,
        CADFT_SCHEDULE_CONSTANT,
        "constant linear cosine"),
    I64(PLANNED_STEPS, planned_steps, 0, CADFT__EXACT, 0, NULL),
    I64(WARMUP_STEPS, warmup_steps, 0, CADFT__EXACT, 0, NULL),
    F64(WARMUP_FRACTION, warmup_fraction, 0, 1, 0),
    F64(LR_FLOOR, lr_floor, 0, 1, 0),
};

static const cadft__fact facts[] = {
    {CADFT_OPTIMIZER_STEPS, "steps"},
    {CADFT_OPTIMIZER_SKIPPED, "skipped"},
    {CADFT_OPTIMIZER_PARAMETERS, "parameters"},
    {CADFT_OPTIMIZER_STATE_BYTES, "state_bytes"},
};

static const cadft__knobs knobs = {list, sizeof list / sizeof list[0], facts,
                                   sizeof facts / sizeof facts[0]};

/* ----------------------------------------------------------------- life */

static void free_optimizer(cadft__handle *handle)
{
    cadft_optimizer *optimizer = (cadft_optimizer *)handle;
    cadft__state_free(optimizer, &optimizer->state);
    cadft__members_free(optimizer);
    cadft__free(&handle->context->memory, optimizer, sizeof *optimizer);
}

static int32_t
create(cadft_context *context, cadft_optimizer **out, cadft_error *error)
{
    cadft_optimizer *optimizer;
    if (!context || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "out" : "context");
    CADFT__TRY(cadft__device_check_optimizer(context, CADFT_OP_ADAMW,
                                             CADFT_DTYPE_F32, error));
    optimizer =
        (cadft_optimizer *)cadft__alloc(&context->memory, sizeof *optimizer);
    if (!optimizer)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for an optimizer");
    cadft__handle_init(&optimizer->handle, context, free_optimizer);
    cadft__knobs_default(&knobs, &optimizer->options);
    *out = optimizer;
    return CADFT_OK;
}

int32_t cadft_optimizer_create(cadft_context *context,
                               cadft_optimizer **out,
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

void cadft_optimizer_destroy(cadft_optimizer *optimizer)
{
    cadft__handle_release(optimizer ? &optimizer->handle : NULL);
}

/* ---------------------------------------------------------------- knobs */

/* May the knob be set now? */
static int32_t
settable(const cadft_optimizer *optimizer, int32_t key, cadft_error *error)
{
    const cadft__knob *knob;
    CADFT__TRY(cadft__knobs_find(&knobs, key, &knob, error));
    if (optimizer->count &&
        (key == CADFT_OPTIMIZER_KIND || key == CADFT_OPTIMIZER_MASTER))
        return cadft__fail(error, CADFT_E_PHASE,
                           "%s cannot change: the optimizer has parameters",
                           knob->name);
    return CADFT_OK;
}

int32_t cadft_optimizer_set_i64(cadft_optimizer *optimizer,
                                int32_t key,
                                int64_t value,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = settable(optimizer, key, &call.error);
    if (!status)
        status = cadft__knobs_set_i64(&knobs, &optimizer->options, key, value,
                                      &call.error);
    CADFT__LEAVE(optimizer);
}

int32_t cadft_optimizer_set_f64(cadft_optimizer *optimizer,
                                int32_t key,
                                double value,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = settable(optimizer, key, &call.error);
    if (!status)
        status = cadft__knobs_set_f64(&knobs, &optimizer->options, key, value,
                                      &call.error);
    CADFT__LEAVE(optimizer);
}

int32_t cadft_optimizer_set_str(cadft_optimizer *optimizer,
                                int32_t key,
                                const char *value,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = settable(optimizer, key, &call.error);
    if (!status)
        status = cadft__knobs_set_str(&knobs, &optimizer->options, key, value,
                                      &call.error);
    CADFT__LEAVE(optimizer);
}

static int32_t get_i64(cadft_optimizer *optimizer,
                       int32_t key,
                       int64_t *out,
                       cadft_error *error)
{
    cadft__optimizer_state plan;
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    switch (key) {
    case CADFT_OPTIMIZER_STEPS:
        *out = optimizer->state.done;
        return CADFT_OK;
    case CADFT_OPTIMIZER_SKIPPED:
        *out = optimizer->state.skipped;
        return CADFT_OK;
    case CADFT_OPTIMIZER_PARAMETERS:
        *out = (int64_t)optimizer->count;
        return CADFT_OK;
    case CADFT_OPTIMIZER_STATE_BYTES:
        CADFT__TRY(cadft__state_plan(optimizer, &plan, error));
        *out = (int64_t)plan.bytes;
        return CADFT_OK;
    default:
        return cadft__knobs_get_i64(&knobs, &optimizer->options, key, out,
                                    error);
    }
}

int32_t cadft_optimizer_get_i64(cadft_optimizer *optimizer,
                                int32_t key,
                                int64_t *out,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = get_i64(optimizer, key, out, &call.error);
    CADFT__LEAVE(optimizer);
}

int32_t cadft_optimizer_get_f64(cadft_optimizer *optimizer,
                                int32_t key,
                                double *out,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = cadft__knobs_get_f64(&knobs, &optimizer->options, key, out,
                                  &call.error);
    CADFT__LEAVE(optimizer);
}

int32_t cadft_optimizer_get_str(cadft_optimizer *optimizer,
                                int32_t key,
                                char *buffer,
                                size_t capacity,
                                size_t *needed,
                                cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = cadft__knobs_get_str(&knobs, &optimizer->options, key, buffer,
                                  capacity, needed, &call.error);
    CADFT__LEAVE(optimizer);
}

int32_t cadft_optimizer_bounds(int32_t key,
                               int32_t *type,
                               double *smallest,
                               double *largest,
                               double *standard,
                               cadft_error *error)
{
    return cadft__knobs_bounds(&knobs, key, type, smallest, largest, standard,
                               error);
}

int32_t cadft_optimizer_key(const char *name, int32_t *key, cadft_error *error)
{
    return cadft__knobs_key(&knobs, name, key, error);
}

int32_t cadft_optimizer_key_at(int32_t index,
                               const char **name,
                               int32_t *key,
                               cadft_error *error)
{
    return cadft__knobs_at(&knobs, index, name, key, error);
}
