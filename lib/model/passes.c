/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of one batch: plan, reserve, forward, backward. */
#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "model/transformer.h"

int32_t cadft__model_view_check(const cadft_tensor *out,
                                const char *name,
                                cadft_error *error)
{
    uint32_t size = out->struct_size;
    if (size < CADFT__SIZE_TO(cadft_tensor, byte_offset) || size > 4096)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s.struct_size is %u, expected %zu", name, size,
                           sizeof *out);
    return CADFT_OK;
}

void cadft__model_view(const cadft_model *model,
                       cadft_array array,
                       int32_t dtype,
                       int32_t ndim,
                       int64_t *shape,
                       cadft_tensor *out)
{
    cadft_tensor_init(out, out->struct_size, array.base, dtype, ndim, shape,
                      NULL, NULL);
    out->device_type = model->handle.context->backend->device_type;
    out->byte_offset = array.offset;
    if (out->device_type == CADFT_DEVICE_CPU && array.base) {
        out->data = (char *)array.base + array.offset;
        out->byte_offset = 0;
    }
}

void cadft__model_accept(cadft_model *model)
{
    cadft__sequences last = model->sequences;
    model->sequences = model->incoming;
    model->incoming = last;
    model->phase = CADFT__IDLE;
}

/* ---------------------------------------------------------- plan, reserve */

static int32_t read_limits(const cadft_model *model,
                           const cadft_model_limits *limits,
                           cadft_model_limits *out,
                           cadft_error *error)
{
    CADFT__TRY(cadft__needs_weights(model, error));
    CADFT__TRY(cadft__struct_in(out, sizeof *out, limits,
                                CADFT__SIZE_TO(cadft_model_limits, sequences),
                                "limits", error));
    if (out->no_grad != 0 && out->no_grad != 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "limits.no_grad is %d, expected 0 or 1",
                           out->no_grad);
    if (out->rows < 1 || out->rows > INT32_MAX)
        return cadft__fail(error, CADFT_E_ARG,
                           "limits.rows is %lld, expected 1 to %d",
                           (long long)out->rows, INT32_MAX);
    out->logit_rows = out->logit_rows ? out->logit_rows : out->rows;
    out->sequences = out->sequences ? out->sequences : out->rows;
    if (out->logit_rows < 0 || out->logit_rows > out->rows)
        return cadft__fail(error, CADFT_E_ARG,
                           "limits.logit_rows is %lld, expected 0 to %lld",
                           (long long)out->logit_rows, (long long)out->rows);
    if (out->sequences < 0 || out->sequences > out->rows)
        return cadft__fail(error, CADFT_E_ARG,
                           "limits.sequences is %lld, expected 0 to %lld",
                           (long long)out->sequences, (long long)out->rows);
    return CADFT_OK;
}

/* A batch of `count` sequences, alike in length, without tokens. */
static int32_t example(cadft_model *model,
                       const cadft_model_limits *limits,
                       int64_t count,
                       cadft__sequences *s,
                       cadft_error *error)
{
    int64_t longest = (limits->rows + count - 1) / count;
    CADFT__TRY(
        cadft__sequences_reserve(model->handle.context, s, 0, count, error));
    s->rows = limits->rows;
    s->count = count;
    s->logit_rows = limits->logit_rows;
    s->all_logits = 0; /* takes a little more than all */
    s->longest = longest;
    s->no_grad = limits->no_grad;
    s->cache_rows = 0;
    for (int64_t i = 0; i <= count; i++)
        s->first[i] = i * longest < s->rows ? i * longest : s->rows;
    for (int64_t i = 0; i < count; i++) {
        s->k_first[i] = s->first[i];
        s->k_count[i] = s->first[i + 1] - s->first[i];
    }
    return CADFT_OK;
}

/* The arena for long sequences and for many. */
static int32_t plan(cadft_model *model,
                    const cadft_model_limits *limits,
                    cadft__sequences *s,
                    uint64_t *bytes,
                    cadft_error *error)
{
    int64_t positions = model->config.positions;
    int64_t few = (limits->rows + positions - 1) / positions;
    uint64_t more;
    CADFT__TRY(example(model, limits, few, s, error));
    CADFT__TRY(cadft__forward_plan(model, s, bytes, error));
    CADFT__TRY(example(model, limits,
                       limits->sequences > few ? limits->sequences : few, s,
                       error));
    CADFT__TRY(cadft__forward_plan(model, s, &more, error));
    *bytes = more > *bytes ? more : *bytes;
    return CADFT_OK;
}

/* Positions that a batch within the limits may need. */
static int64_t most_positions(const cadft_model *model,
                              const cadft_model_limits *limits)
{
    return limits->rows < model->config.positions ? limits->rows
                                                  : model->config.positions;
}

int32_t cadft_model_plan(cadft_model *model,
                         const cadft_model_limits *limits,
                         int64_t *bytes,
                         cadft_error *error)
{
    cadft_model_limits l;
    cadft__sequences s;
    uint64_t arena;
    CADFT__ENTER(model);
    memset(&s, 0, sizeof s);
    if (!bytes)
        status = cadft__fail(&call.error, CADFT_E_NULL, "bytes is NULL");
    if (!status)
        status = read_limits(model, limits, &l, &call.error);
    if (!status)
        status = plan(model, &l, &s, &arena, &call.error);
    if (!status)
        *bytes = (int64_t)(arena +
                           cadft__rope_bytes(model, most_positions(model, &l)));
    cadft__sequences_free(model->handle.context, &s);
    CADFT__LEAVE(model);
}

static int32_t reserve_sequences(cadft_model *model,
                                 const cadft_model_limits *limits,
                                 cadft__sequences *s,
                                 cadft_error *error)
{
    return cadft__sequences_reserve(model->handle.context, s, limits->rows,
                                    limits->sequences, error);
}

static int32_t reserve(cadft_model *model,
                       const cadft_model_limits *limits,
                       cadft_error *error)
{
    cadft_model_limits l;
    uint64_t bytes;
    CADFT__TRY(read_limits(model, limits, &l, error));
    if (model->phase == CADFT__FORWARD_DONE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "reserve between forward and backward");
    CADFT__TRY(plan(model, &l, &model->incoming, &bytes, error));
    CADFT__TRY(reserve_sequences(model, &l, &model->sequences, error));
    CADFT__TRY(reserve_sequences(model, &l, &model->incoming, error));
    CADFT__TRY(cadft__rope_reserve(model, most_positions(model, &l), error));
    return cadft__workspace_reserve(model, bytes, error);
}

int32_t cadft_model_reserve(cadft_model *model,
                            const cadft_model_limits *limits,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = reserve(model, limits, &call.error);
    CADFT__LEAVE(model);
}

/* ------------------------------------------------------ forward, backward */

static int32_t forward(cadft_model *model,
                       const cadft_model_batch *batch,
                       cadft_tensor *logits,
                       cadft_error *error)
{
    cadft_model_batch b;
    cadft_array array;
    CADFT__TRY(cadft__needs_weights(model, error));
    CADFT__TRY(cadft__struct_in(&b, sizeof b, batch,
                                CADFT__SIZE_TO(cadft_model_batch, stream),
                                "batch", error));
    if (!logits)
        return cadft__fail(error, CADFT_E_NULL, "logits is NULL");
    if (b.no_grad != 0 && b.no_grad != 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "batch.no_grad is %d, expected 0 or 1", b.no_grad);
    CADFT__TRY(cadft__model_view_check(logits, "logits", error));
    if (b.stream &&
        model->handle.context->backend->device_type == CADFT_DEVICE_CPU)
        return cadft__fail(error, CADFT_E_ARG,
                           "batch.stream is not NULL, but host memory has no "
                           "streams");
    CADFT__TRY(cadft__sequences_read(model, &b, &model->incoming, error));
    cadft__model_accept(model);
    CADFT__TRY(cadft__forward(model, &model->sequences, b.stream, error));
    model->shape[0] = model->sequences.logit_rows;
    model->shape[1] = model->config.vocab;
    array = model->workspace.logits;
    cadft__model_view(model, array, CADFT_DTYPE_F32, 2, model->shape, logits);
    if (!b.no_grad)
        model->phase = CADFT__FORWARD_DONE;
    return CADFT_OK;
}

int32_t cadft_model_forward(cadft_model *model,
                            const cadft_model_batch *batch,
                            cadft_tensor *logits,
                            cadft_error *error)
{
    CADFT__ENTER(model);
    status = forward(model, batch, logits, &call.error);
    CADFT__LEAVE(model);
}

/* The host's gradient of the logits as an array of the backend. */
static int32_t read_grad(const cadft_model *model,
                         const cadft_tensor *grad,
                         cadft__matrix *m,
                         cadft_error *error)
{
    int32_t device = model->handle.context->backend->device_type;
    CADFT__TRY(cadft__tensor_matrix(grad, 1, "grad_logits", m, error));
    if (m->dtype != CADFT_DTYPE_F32)
        return cadft__fail(error, CADFT_E_DTYPE,
                           "grad_logits is of type %s, expected float32",
                           cadft__dtype_name(m->dtype));
    if (m->rows != model->shape[0] || m->cols != model->shape[1])
        return cadft__fail(error, CADFT_E_SHAPE,
                           "grad_logits is [%lld, %lld], expected [%lld, %lld]",
                           (long long)m->rows, (long long)m->cols,
                           (long long)model->shape[0],
                           (long long)model->shape[1]);
    if (m->device_type != device)
        return cadft__fail(error, CADFT_E_DEVICE,
                           "grad_logits lies on device type %d, expected %d, "
                           "which backend %s computes on",
                           m->device_type, device,
                           model->handle.context->backend->name);
    return CADFT_OK;
}

static int32_t backward(cadft_model *model,
                        const cadft_tensor *grad_logits,
                        cadft_error *error)
{
    cadft__matrix m;
    cadft__run run = {
        .model = model,
        .sequences = &model->sequences,
        .workspace = &model->workspace,
        .stream = model->stream,
        .error = error,
    };
    if (model->phase != CADFT__FORWARD_DONE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "backward without a forward pass with gradient "
                           "before it");
    if (!model->parameters.grads)
        return cadft__fail(error, CADFT_E_PHASE,
                           "there are no gradients to add to: call zero_grad");
    CADFT__TRY(read_grad(model, grad_logits, &m, error));
    model->phase = CADFT__IDLE;
    return cadft__backward(&run, (cadft_array){m.base, m.offset}, m.row_stride);
}

int32_t cadft_model_backward(cadft_model *model,
                             const cadft_tensor *grad_logits,
                             cadft_error *error)
{
    CADFT__ENTER(model);
    status = backward(model, grad_logits, &call.error);
    CADFT__LEAVE(model);
}

int32_t cadft_model_zero_grad(cadft_model *model, cadft_error *error)
{
    CADFT__ENTER(model);
    status = cadft__needs_weights(model, &call.error);
    if (!status && model->stream) /* of the last backward pass */
        status = cadft__device_sync(model->handle.context, model->stream,
                                    &call.error);
    if (!status)
        status = cadft__parameters_zero_grad(model->handle.context,
                                             &model->parameters, &call.error);
    CADFT__LEAVE(model);
}
