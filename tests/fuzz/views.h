/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors out of the input: hostile in every field, but honest about memory. An
 * address that is passed is backed by memory for the shape it declares, unless
 * the shape cannot be met by any memory. */
#ifndef TESTS_FUZZ_VIEWS_H
#define TESTS_FUZZ_VIEWS_H

#include "fuzz.h"

/* Products of hostile dimensions, exactly. */
__extension__ typedef __int128 int128;

enum { MEMORY = 4096 }; /* bytes behind a view */

struct view {
    cadft_tensor tensor;
    int64_t shape[4], strides[4];
};

/* Mostly small, at times absurd. */
static inline int64_t number(struct input *in, int64_t small)
{
    static const int64_t absurd[] = {-1,
                                     INT64_MAX,
                                     INT64_MIN,
                                     INT32_MAX,
                                     INT32_MIN,
                                     (int64_t)1 << 32,
                                     (int64_t)1 << 40,
                                     (int64_t)1 << 62,
                                     -100,
                                     0};
    uint8_t b = take8(in);
    if (b < 240)
        return b % (small > 0 ? small : 1);
    if (b < 252)
        return absurd[b % 10];
    return (int64_t)take64(in);
}

static inline size_t element(const cadft_tensor *t)
{
    return t->dtype_bits ? (size_t)(t->dtype_bits + 7) / 8 : 1;
}

/* Bytes from data on that the view declares; -1 if no memory can hold it or
 * the library has to refuse the view whatever lies there. */
static inline int64_t declared(const cadft_tensor *t)
{
    int128 last = 0, dense = 1;
    int empty = 0;
    if (t->ndim < 1 || t->ndim > 4)
        return -1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        int128 stride = t->strides ? t->strides[d] : dense;
        if (t->shape[d] < 0 || (t->shape[d] > 1 && stride < 0))
            return -1;
        empty |= t->shape[d] == 0;
        if (t->shape[d] > 1)
            last += (t->shape[d] - 1) * stride;
        if (last > INT64_MAX)
            return -1;
        dense *= t->shape[d];
        if (dense > INT64_MAX)
            return empty ? 0 : -1;
    }
    last = empty ? 0 : (last + 1) * (int128)element(t);
    last += t->byte_offset;
    return last > INT64_MAX ? -1 : (int64_t)last;
}

static inline void set_dtype(cadft_tensor *t, int32_t dtype)
{
    t->dtype_code = (uint8_t)dtype;
    t->dtype_bits = (uint8_t)(dtype >> 8);
    t->dtype_lanes = (uint16_t)(dtype >> 16);
}

static inline void spoil_view(struct input *in, struct view *v)
{
    cadft_tensor *t = &v->tensor;
    static const int32_t dtypes[] = {CADFT_DTYPE_I32, CADFT_DTYPE_I64,
                                     CADFT_DTYPE_F16, CADFT_DTYPE_F32,
                                     CADFT_DTYPE_F64, CADFT_DTYPE_BF16};
    int d = take8(in) % 4;
    switch (take8(in) % 12) {
    case 0:
        v->shape[d] = number(in, 6);
        break;
    case 1:
        t->strides = v->strides;
        v->strides[d] = number(in, 40);
        break;
    case 2:
        set_dtype(t, dtypes[take8(in) % 6]);
        break;
    case 3:
        t->byte_offset = (uint64_t)number(in, 64);
        break;
    case 4:
        t->ndim = (int32_t)number(in, 5);
        break;
    case 5:
        t->device_type = (int32_t)number(in, 14);
        break;
    case 6:
        t->struct_size = (uint32_t)number(in, 70);
        break;
    case 7:
        set_dtype(t, (int32_t)take64(in));
        break;
    case 8:
        t->flags = take8(in);
        break;
    case 9:
        t->data = NULL;
        break;
    case 10:
        t->shape = NULL;
        break;
    default: /* [rows, 1, n] or so, dense */
        v->shape[3] = v->shape[1];
        v->shape[1] = 1;
        v->shape[2] = v->shape[3];
        t->ndim = 3;
    }
}

/* Only what the memory behind it can hold, or nothing can. */
static inline void make_honest(struct view *v, int64_t rows)
{
    cadft_tensor *t = &v->tensor;
    uint32_t size = t->struct_size;
    int64_t bytes;
    if (size > sizeof *t && size <= 4096)
        t->struct_size = sizeof *t; /* no memory behind it */
    if (!t->shape || !t->data)
        return;
    bytes = declared(t);
    if (bytes < 0 || bytes <= MEMORY)
        return;
    t->strides = NULL;
    t->byte_offset = 0;
    t->ndim = 2;
    v->shape[0] = rows;
    v->shape[1] = 1;
}

static inline void make_view(
    struct view *v, uint8_t *data, int32_t dtype, int64_t rows, int64_t cols)
{
    v->shape[0] = rows;
    v->shape[1] = cols ? cols : 1;
    v->shape[2] = v->shape[3] = 1;
    for (int d = 0; d < 4; d++)
        v->strides[d] = 1;
    v->strides[0] = cols ? cols : 1;
    cadft_tensor_init(&v->tensor, sizeof v->tensor, data, dtype, cols ? 2 : 1,
                      v->shape, NULL, NULL);
}

#endif
