/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of a model's and an optimizer's operations, with checked status;
 * see backend.h. */
#ifndef CADFT_BACKEND_OPS_H
#define CADFT_BACKEND_OPS_H

#include "backend/context.h"

/* Has the backend every slot that a model needs, for weights of this data
 * type? CADFT_E_UNSUPPORTED names the first that is missing. */
int32_t cadft__device_check_model(cadft_context *context,
                                  int32_t weight_dtype,
                                  cadft_error *error);

/* Has it every slot that an optimizer needs: `op`, CADFT_OP_ADAMW or _SGD, for
 * parameters of this data type, and sum_squares for gradients of either? */
int32_t cadft__device_check_optimizer(cadft_context *context,
                                      int32_t op,
                                      int32_t value_dtype,
                                      cadft_error *error);

/* Bytes of scratch that the operation wants for these arguments. */
uint64_t
cadft__device_work_bytes(cadft_context *context, int32_t op, const void *args);

int32_t cadft__device_zero(cadft_context *context,
                           void *stream,
                           cadft_array to,
                           uint64_t bytes,
                           cadft_error *error);

#define CADFT__OP(name, type)                                                  \
    int32_t cadft__device_##name(cadft_context *context, void *stream,         \
                                 const type *args, cadft_error *error)

CADFT__OP(rows_gather, cadft_rows_args);
CADFT__OP(rows_put, cadft_rows_args);
CADFT__OP(rows_add, cadft_rows_args);
CADFT__OP(norm, cadft_norm_args);
CADFT__OP(norm_grad, cadft_norm_args);
CADFT__OP(matmul, cadft_matmul_args);
CADFT__OP(rope, cadft_rope_args);
CADFT__OP(attention, cadft_attention_args);
CADFT__OP(attention_grad, cadft_attention_args);
CADFT__OP(swiglu, cadft_swiglu_args);
CADFT__OP(swiglu_grad, cadft_swiglu_args);
CADFT__OP(add, cadft_add_args);
CADFT__OP(column_sum, cadft_add_args);
/* Composed from add and norm where the backend has no such slot. */
CADFT__OP(add_norm, cadft_norm_args);

CADFT__OP(sum_squares, cadft_sum_squares_args);
CADFT__OP(adamw, cadft_update_args);
CADFT__OP(sgd, cadft_update_args);

#endif
