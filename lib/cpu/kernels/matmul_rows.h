/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LANES rows read side by side and transposed in registers: what packing does
 * to a matrix whose rows run along depth, and how a product with few rows
 * reads its weights.
 */
#ifndef CADFT_CPU_KERNELS_MATMUL_ROWS_H
#define CADFT_CPU_KERNELS_MATMUL_ROWS_H

#include "cpu/kernels/panel.h"

#define LINE 64 /* bytes */

/* LANES rows, or the first 8 of them, seen a line at a time. */
typedef struct rows {
    const char *base;
    int64_t stride, depth; /* stride in bytes */
    int64_t count;         /* rows there are; the last stands for more */
    int lanes;             /* 8 or LANES */
    int direct;            /* transpose in place, else by way of `line` */
    uintptr_t ahead;       /* bytes to fetch ahead, or 0 */
    char line[LANES * LINE];
} rows;

/* Strides that put all rows into the same few sets of L1 would evict lines
 * before their last quarter is read. */
INLINE void rows_open(rows *r)
{
    r->direct = r->count >= r->lanes && r->stride % 2048 != 0;
}

INLINE void rows_copy(rows *r, int64_t at, size_t bytes)
{
    for (int64_t i = 0; i < r->lanes; i++) {
        int64_t row = i < r->count ? i : r->count - 1;
        memcpy(r->line + i * LINE, r->base + row * r->stride + at, bytes);
    }
}

/* The line of each row that holds element k: where it is, and the stride. */
INLINE const char *rows_line(rows *r, int dtype, int64_t k, int64_t *stride)
{
    int64_t size = (int64_t)dtype_size(dtype), left = (r->depth - k) * size;
    for (int i = 0; r->ahead && i < r->lanes; i++) {
        uintptr_t p = (uintptr_t)(r->base + i * r->stride + k * size);
        __builtin_prefetch((const void *)(p + r->ahead), 0, 2);
    }
    *stride = LINE;
    if (left < LINE) {
        memset(r->line, 0, sizeof r->line);
        rows_copy(r, k * size, (size_t)left);
        return r->line;
    }
    if (!r->direct) {
        rows_copy(r, k * size, LINE);
        return r->line;
    }
    *stride = r->stride;
    return r->base + k * size;
}

/* x[i] = element i of each row at p; four of float32, eight of bf16. */
INLINE void
rows_quads(int dtype, int lanes, const char *p, int64_t stride, vf x[8])
{
    vf q[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        q[i] = lanes <= 8 ? vf_load_quads_low(p + i * stride, stride)
                          : vf_load_quads(p + i * stride, stride);
    vf_transpose_quads(q);
    UNROLLED
    for (int i = 0; i < 4; i++) {
        if (dtype == CADFTK_BF16) {
            x[2 * i] = vf_bf16_even(q[i]);
            x[2 * i + 1] = vf_bf16_odd(q[i]);
        } else {
            x[i] = q[i];
        }
    }
}

INLINE int64_t line_elements(int dtype)
{
    return LINE / (int64_t)dtype_size(dtype);
}

#endif
