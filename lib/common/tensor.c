/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tensor.h"

#include <string.h>

#include "common/error.h"

enum { TENSOR_LEAST = CADFT__SIZE_TO(cadft_tensor, byte_offset) };

size_t cadft__dtype_size(int32_t dtype)
{
    switch (dtype) {
    case CADFT_DTYPE_F16:
    case CADFT_DTYPE_BF16:
        return 2;
    case CADFT_DTYPE_I32:
    case CADFT_DTYPE_F32:
        return 4;
    case CADFT_DTYPE_I64:
    case CADFT_DTYPE_F64:
        return 8;
    default:
        return 0;
    }
}

const char *cadft__dtype_name(int32_t dtype)
{
    switch (dtype) {
    case CADFT_DTYPE_F16:
        return "float16";
    case CADFT_DTYPE_BF16:
        return "bfloat16";
    case CADFT_DTYPE_F32:
        return "float32";
    case CADFT_DTYPE_F64:
        return "float64";
    case CADFT_DTYPE_I32:
        return "int32";
    case CADFT_DTYPE_I64:
        return "int64";
    default:
        return "unknown";
    }
}

static int32_t tensor_init(cadft_tensor *tensor,
                           uint32_t struct_size,
                           void *data,
                           int32_t dtype,
                           int32_t ndim,
                           int64_t *shape,
                           int64_t *strides,
                           cadft_error *error)
{
    if (!tensor)
        return cadft__fail(error, CADFT_E_NULL, "tensor is NULL");
    if (struct_size < TENSOR_LEAST || struct_size > 4096)
        return cadft__fail(error, CADFT_E_ARG,
                           "struct_size is %u, expected %zu", struct_size,
                           sizeof *tensor);
    if (!cadft__dtype_size(dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "dtype is 0x%x, expected one of CADFT_DTYPE_...",
                           (unsigned)dtype);
    if (ndim < 1 || ndim > CADFT_NDIM_MAX)
        return cadft__fail(error, CADFT_E_ARG, "ndim is %d, expected 1 to %d",
                           ndim, CADFT_NDIM_MAX);
    if (!shape)
        return cadft__fail(error, CADFT_E_NULL, "shape is NULL");
    memset(tensor, 0, struct_size);
    tensor->struct_size = struct_size;
    tensor->data = data;
    tensor->device_type = CADFT_DEVICE_CPU;
    tensor->ndim = ndim;
    tensor->dtype_code = (uint8_t)dtype;
    tensor->dtype_bits = (uint8_t)(dtype >> 8);
    tensor->dtype_lanes = (uint16_t)(dtype >> 16);
    tensor->shape = shape;
    tensor->strides = strides;
    return CADFT_OK;
}

int32_t cadft_tensor_init(cadft_tensor *tensor,
                          uint32_t struct_size,
                          void *data,
                          int32_t dtype,
                          int32_t ndim,
                          int64_t *shape,
                          int64_t *strides,
                          cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (status)
        return status;
    status = tensor_init(tensor, struct_size, data, dtype, ndim, shape, strides,
                         &own);
    return cadft__error_leave(error, &own, status);
}

/* Multiply the leading dimensions; each must follow the one behind it. */
static int32_t collapse(const cadft_tensor *t,
                        int32_t leading,
                        int matrix,
                        const char *name,
                        cadft__matrix *out,
                        cadft_error *error)
{
    int64_t dense = matrix ? t->shape[leading] : 1; /* stride if NULL */
    int seen = 0;
    out->rows = 1;
    out->row_stride = dense;
    out->last = leading ? t->shape[leading - 1] : 1;
    for (int32_t d = leading - 1; d >= 0; d--) {
        int64_t size = t->shape[d], stride = t->strides ? t->strides[d] : -1;
        if (size != 1 && t->strides) {
            int64_t expected = stride;
            if (!seen)
                out->row_stride = stride;
            else if (__builtin_mul_overflow(out->row_stride, out->rows,
                                            &expected) ||
                     stride != expected)
                return cadft__fail(error, CADFT_E_SHAPE,
                                   "%s.strides[%d] is %lld, expected %lld: "
                                   "leading dimensions must follow each other",
                                   name, d, (long long)stride,
                                   (long long)expected);
            seen = 1;
        }
        if (__builtin_mul_overflow(out->rows, size, &out->rows))
            return cadft__fail(error, CADFT_E_SHAPE,
                               "%s.shape overflows 64 bits", name);
    }
    return CADFT_OK;
}

static int32_t
check_extent(const cadft__matrix *m, const char *name, cadft_error *error)
{
    int64_t size = (int64_t)cadft__dtype_size(m->dtype), span;
    if (m->row_stride < m->cols && m->rows > 1)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%s has row stride %lld, expected at least %lld",
                           name, (long long)m->row_stride, (long long)m->cols);
    if (m->row_stride < 0 ||
        __builtin_mul_overflow(m->rows, m->row_stride, &span) ||
        __builtin_add_overflow(span, m->cols, &span) ||
        __builtin_mul_overflow(span, size, &span) ||
        m->offset > (uint64_t)(INT64_MAX - span))
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%s: %lld rows of %lld elements overflow the "
                           "address space",
                           name, (long long)m->rows, (long long)m->row_stride);
    if (m->rows == 0 || m->cols == 0)
        return CADFT_OK;
    if (!m->base)
        return cadft__fail(error, CADFT_E_NULL, "%s.data is NULL", name);
    if (m->device_type == CADFT_DEVICE_CPU &&
        ((uintptr_t)m->base + m->offset) % (uintptr_t)size)
        return cadft__fail(error, CADFT_E_ALIGN,
                           "%s lies at address %p, expected a multiple of "
                           "%lld",
                           name, (void *)((char *)m->base + m->offset),
                           (long long)size);
    return CADFT_OK;
}

int32_t cadft__tensor_matrix(const cadft_tensor *tensor,
                             int matrix,
                             const char *name,
                             cadft__matrix *out,
                             cadft_error *error)
{
    cadft_tensor t;
    int32_t leading, status = cadft__struct_in(&t, sizeof t, tensor,
                                               TENSOR_LEAST, name, error);
    if (status)
        return status;
    if (t.reserved || t.flags)
        return cadft__fail(error, CADFT_E_TOO_NEW,
                           "%s.reserved or %s.flags is not 0", name, name);
    out->dtype = (int32_t)(t.dtype_code | (uint32_t)t.dtype_bits << 8 |
                           (uint32_t)t.dtype_lanes << 16);
    if (!cadft__dtype_size(out->dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "%s has DLPack type %d with %d bits and %d lanes, "
                           "which is not known here",
                           name, t.dtype_code, t.dtype_bits, t.dtype_lanes);
    if (t.ndim < 1 + matrix || t.ndim > CADFT_NDIM_MAX)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%s.ndim is %d, expected %d to %d", name, t.ndim,
                           1 + matrix, CADFT_NDIM_MAX);
    if (!t.shape)
        return cadft__fail(error, CADFT_E_NULL, "%s.shape is NULL", name);
    for (int32_t d = 0; d < t.ndim; d++)
        if (t.shape[d] < 0)
            return cadft__fail(error, CADFT_E_SHAPE,
                               "%s.shape[%d] is %lld, expected 0 or more", name,
                               d, (long long)t.shape[d]);
    out->base = t.data;
    out->offset = t.byte_offset;
    out->device_type = t.device_type;
    leading = t.ndim - matrix;
    out->cols = matrix ? t.shape[leading] : 1;
    if (matrix && t.strides && t.strides[leading] != 1 && out->cols > 1)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%s.strides[%d] is %lld, expected 1: columns must "
                           "be dense",
                           name, leading, (long long)t.strides[leading]);
    status = collapse(&t, leading, matrix, name, out, error);
    if (!status && !matrix && out->row_stride != 1 && out->rows > 1)
        status = cadft__fail(error, CADFT_E_SHAPE,
                             "%s has stride %lld, expected 1: it must be "
                             "dense",
                             name, (long long)out->row_stride);
    return status ? status : check_extent(out, name, error);
}

uint64_t cadft__matrix_span(const cadft__matrix *m)
{
    if (m->rows == 0 || m->cols == 0)
        return 0;
    return ((uint64_t)(m->rows - 1) * (uint64_t)m->row_stride +
            (uint64_t)m->cols) *
           cadft__dtype_size(m->dtype);
}
