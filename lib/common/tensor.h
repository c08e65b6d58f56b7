/* SPDX-License-Identifier: Apache-2.0 */
/* Checks on the caller's tensor views. */
#ifndef CADFT_COMMON_TENSOR_H
#define CADFT_COMMON_TENSOR_H

#include "cadft/base.h"

/* Bytes of an element, 0 for a type not in CADFT_DTYPE_. */
size_t cadft__dtype_size(int32_t dtype);

/* "float32", or "unknown". */
const char *cadft__dtype_name(int32_t dtype);

/* A caller's tensor seen as a matrix of rows. */
typedef struct cadft__matrix {
    void *base;      /* the view's data */
    uint64_t offset; /* bytes from base to the first element */
    int32_t device_type;
    int32_t dtype;
    int64_t rows, cols;
    int64_t row_stride; /* elements */
    int64_t last;       /* size of the last leading dimension (T of [B, T]) */
} cadft__matrix;

/* Check a view and see it as [rows, cols]: with `matrix` its last dimension
 * is the columns (dense) and the leading ones collapse to one row stride;
 * without, every element is a row of one column, dense. Sizes are checked
 * against overflow, host addresses against alignment. */
int32_t cadft__tensor_matrix(const cadft_tensor *tensor,
                             int matrix,
                             const char *name,
                             cadft__matrix *out,
                             cadft_error *error);

/* Bytes that the matrix spans from its first to after its last element. */
uint64_t cadft__matrix_span(const cadft__matrix *matrix);

#endif
