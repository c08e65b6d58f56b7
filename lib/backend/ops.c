/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/ops.h"

#include "common/error.h"
#include "common/tensor.h"

/* The table reaches to the end of contract 0.2's required slots. */
#define HAS_MODEL_SLOTS(backend)                                               \
    ((backend)->struct_size >= CADFT__SIZE_TO(cadft_backend, column_sum))

/* And to the end of contract 0.3's. */
#define HAS_OPTIMIZER_SLOTS(backend)                                           \
    ((backend)->struct_size >= CADFT__SIZE_TO(cadft_backend, sgd))

int32_t cadft__device_check_model(cadft_context *context,
                                  int32_t weight_dtype,
                                  cadft_error *error)
{
    const cadft_backend *b = context->backend;
    if (!HAS_MODEL_SLOTS(b))
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "backend %s was built for contract %u.%u: a model "
                           "needs the slots of 0.2",
                           b->name, b->major, b->minor_built);
    if (!b->mem_zero)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "backend %s has no slot mem_zero, which a model "
                           "needs",
                           b->name);
#define NEED(slot, op, dtype)                                                  \
    if (!b->slot || !b->supports(context->device, op, dtype, CADFT_DTYPE_F32)) \
    return cadft__fail(error, CADFT_E_UNSUPPORTED,                             \
                       "backend %s has no %s for %s, which a model needs",     \
                       b->name, #slot, cadft__dtype_name(dtype))
    NEED(rows_gather, CADFT_OP_ROWS_GATHER, CADFT_DTYPE_F32);
    NEED(rows_gather, CADFT_OP_ROWS_GATHER, weight_dtype);
    NEED(rows_put, CADFT_OP_ROWS_PUT, CADFT_DTYPE_F32);
    NEED(rows_add, CADFT_OP_ROWS_ADD, CADFT_DTYPE_F32);
    NEED(norm, CADFT_OP_NORM, weight_dtype);
    NEED(norm_grad, CADFT_OP_NORM_GRAD, weight_dtype);
    NEED(matmul, CADFT_OP_MATMUL, CADFT_DTYPE_F32);
    NEED(matmul, CADFT_OP_MATMUL, weight_dtype);
    NEED(rope, CADFT_OP_ROPE, CADFT_DTYPE_F32);
    NEED(attention, CADFT_OP_ATTENTION, CADFT_DTYPE_F32);
    NEED(attention_grad, CADFT_OP_ATTENTION_GRAD, CADFT_DTYPE_F32);
    NEED(swiglu, CADFT_OP_SWIGLU, CADFT_DTYPE_F32);
    NEED(swiglu_grad, CADFT_OP_SWIGLU_GRAD, CADFT_DTYPE_F32);
    NEED(add, CADFT_OP_ADD, CADFT_DTYPE_F32);
    NEED(column_sum, CADFT_OP_COLUMN_SUM, CADFT_DTYPE_F32);
#undef NEED
    return CADFT_OK;
}

/* A slot that is there serves this data type. */
static int32_t check_optimizer_slot(cadft_context *context,
                                    int has_slot,
                                    int32_t op,
                                    int32_t dtype,
                                    const char *slot,
                                    cadft_error *error)
{
    const cadft_backend *b = context->backend;
    if (has_slot && b->supports(context->device, op, dtype, CADFT_DTYPE_F32))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_UNSUPPORTED,
                       "backend %s has no %s for %s, which an optimizer needs",
                       b->name, slot, cadft__dtype_name(dtype));
}

int32_t cadft__device_check_optimizer(cadft_context *context,
                                      int32_t op,
                                      int32_t value_dtype,
                                      cadft_error *error)
{
    const cadft_backend *b = context->backend;
    int adamw = op == CADFT_OP_ADAMW;
    int32_t status;
    if (!HAS_OPTIMIZER_SLOTS(b))
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "backend %s was built for contract %u.%u: an "
                           "optimizer needs the slots of 0.3",
                           b->name, b->major, b->minor_built);
    if (!b->mem_zero)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "backend %s has no slot mem_zero, which an "
                           "optimizer needs",
                           b->name);
    status = check_optimizer_slot(context, b->sum_squares != NULL,
                                  CADFT_OP_SUM_SQUARES, CADFT_DTYPE_F32,
                                  "sum_squares", error);
    if (!status)
        status = check_optimizer_slot(context, b->sum_squares != NULL,
                                      CADFT_OP_SUM_SQUARES, CADFT_DTYPE_BF16,
                                      "sum_squares", error);
    if (!status)
        status = check_optimizer_slot(
            context, adamw ? b->adamw != NULL : b->sgd != NULL, op, value_dtype,
            adamw ? "adamw" : "sgd", error);
    return status;
}

uint64_t
cadft__device_work_bytes(cadft_context *context, int32_t op, const void *args)
{
    const cadft_backend *b = context->backend;
    return b->work_bytes ? b->work_bytes(context->device, op, args) : 0;
}

int32_t cadft__device_zero(cadft_context *context,
                           void *stream,
                           cadft_array to,
                           uint64_t bytes,
                           cadft_error *error)
{
    return cadft__slot_status(
        context->backend->mem_zero(context->device, stream, &to, bytes, error),
        "mem_zero", error);
}

#define CALL(slot, type)                                                       \
    CADFT__OP(slot, type)                                                      \
    {                                                                          \
        return cadft__slot_status(                                             \
            context->backend->slot(context->device, stream, args, error),      \
            #slot, error);                                                     \
    }

CALL(rows_gather, cadft_rows_args)
CALL(rows_put, cadft_rows_args)
CALL(rows_add, cadft_rows_args)
CALL(norm, cadft_norm_args)
CALL(norm_grad, cadft_norm_args)
CALL(matmul, cadft_matmul_args)
CALL(rope, cadft_rope_args)
CALL(attention, cadft_attention_args)
CALL(attention_grad, cadft_attention_args)
CALL(swiglu, cadft_swiglu_args)
CALL(swiglu_grad, cadft_swiglu_args)
CALL(add, cadft_add_args)
CALL(column_sum, cadft_add_args)

CALL(sum_squares, cadft_sum_squares_args)
CALL(adamw, cadft_update_args)
CALL(sgd, cadft_update_args)

static int has_add_norm(cadft_context *context, int32_t weight_dtype)
{
    const cadft_backend *b = context->backend;
    return b->struct_size >= CADFT__SIZE_TO(cadft_backend, add_norm) &&
           b->add_norm &&
           b->supports(context->device, CADFT_OP_ADD_NORM, weight_dtype,
                       CADFT_DTYPE_F32);
}

CADFT__OP(add_norm, cadft_norm_args)
{
    cadft_add_args add = {
        .struct_size = sizeof add,
        .x = args->residual,
        .y = args->x,
        .rows = args->rows,
        .cols = args->groups * args->cols,
        .x_stride = args->x_stride,
        .y_stride = args->x_stride,
    };
    int32_t status;
    if (has_add_norm(context, args->weight_dtype))
        return cadft__slot_status(
            context->backend->add_norm(context->device, stream, args, error),
            "add_norm", error);
    status = cadft__device_add(context, stream, &add, error);
    return status ? status : cadft__device_norm(context, stream, args, error);
}
