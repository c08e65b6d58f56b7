/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in backend: host memory, each slot splits its work among the
 * context's workers and calls kernels on plain pointers. Splits depend on
 * shapes alone or do not show in results, so neither does the number of
 * threads. */
#ifndef CADFT_CPU_CPU_H
#define CADFT_CPU_CPU_H

#include "cadft/backend.h"
#include "cpu/blas.h"
#include "cpu/isa.h"
#include "cpu/kernels/kernels.h"

struct cadft_device {
    const cadft_backend_host *host;
    const cadftk_table *table;
    cadft__blas blas;     /* sgemm NULL: own products of matrices */
    char description[64]; /* "avx2" */
};

/* NULL for an absent array. */
static inline void *cadft__cpu_address(const cadft_array *array)
{
    return array->base ? (char *)array->base + array->offset : NULL;
}

/* CADFTK_F32, ... of a CADFT_DTYPE_, or -1. */
int32_t cadft__cpu_kernel_dtype(int32_t dtype);

/* The slots, by file. */

/* loss_rows.c */
int32_t cadft__cpu_loss_row_stats(cadft_device *device,
                                  void *stream,
                                  const cadft_loss_rows *rows,
                                  uint32_t want,
                                  const cadft_array *stats,
                                  cadft_error *error);

int32_t cadft__cpu_loss_row_grad(cadft_device *device,
                                 void *stream,
                                 const cadft_loss_rows *rows,
                                 const cadft_array *coef,
                                 const cadft_loss_grad_out *out,
                                 cadft_error *error);

int32_t cadft__cpu_loss_row_unit(cadft_device *device,
                                 void *stream,
                                 const cadft_loss_rows *rows,
                                 uint32_t want,
                                 double smoothing,
                                 const cadft_array *stats,
                                 const cadft_loss_grad_out *out,
                                 cadft_error *error);

/* matmul_slot.c */
uint64_t cadft__cpu_matmul_work_bytes(cadft_device *device,
                                      const cadft_matmul_args *args);

int32_t cadft__cpu_matmul(cadft_device *device,
                          void *stream,
                          const cadft_matmul_args *args,
                          cadft_error *error);

/* attention_slots.c */
uint64_t cadft__cpu_attention_work_bytes(cadft_device *device,
                                         const cadft_attention_args *args,
                                         int grad);

int32_t cadft__cpu_attention(cadft_device *device,
                             void *stream,
                             const cadft_attention_args *args,
                             cadft_error *error);

int32_t cadft__cpu_attention_grad(cadft_device *device,
                                  void *stream,
                                  const cadft_attention_args *args,
                                  cadft_error *error);
#define CADFT__CPU_OP(name, type)                                              \
    int32_t cadft__cpu_##name(cadft_device *device, void *stream,              \
                              const type *args, cadft_error *error)

/* model_rows.c */
int32_t cadft__cpu_mem_zero(cadft_device *device,
                            void *stream,
                            const cadft_array *to,
                            uint64_t bytes,
                            cadft_error *error);
CADFT__CPU_OP(rows_gather, cadft_rows_args);
CADFT__CPU_OP(rows_put, cadft_rows_args);
CADFT__CPU_OP(rows_add, cadft_rows_args);
CADFT__CPU_OP(rope, cadft_rope_args);
CADFT__CPU_OP(swiglu, cadft_swiglu_args);
CADFT__CPU_OP(swiglu_grad, cadft_swiglu_args);
CADFT__CPU_OP(add, cadft_add_args);

/* model_norm.c; ..._work is what work_bytes says. */
CADFT__CPU_OP(norm, cadft_norm_args);
CADFT__CPU_OP(add_norm, cadft_norm_args);
CADFT__CPU_OP(norm_grad, cadft_norm_args);
CADFT__CPU_OP(column_sum, cadft_add_args);
uint64_t cadft__cpu_norm_grad_work(const cadft_norm_args *args);
uint64_t cadft__cpu_column_sum_work(const cadft_add_args *args);

/* optimizer_slots.c */
CADFT__CPU_OP(sum_squares, cadft_sum_squares_args);
CADFT__CPU_OP(adamw, cadft_update_args);
CADFT__CPU_OP(sgd, cadft_update_args);
uint64_t cadft__cpu_sum_squares_work(const cadft_sum_squares_args *args);

#endif
