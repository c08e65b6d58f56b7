/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows in spans of 32 elements, the unit of both row kernels: typed loads and
 * stores of a span as two vf, and copies for the ragged end and the soft-cap.
 * `dtype` is a constant wherever these are inlined into a hot loop.
 */
#ifndef CADFT_CPU_KERNELS_SPAN_H
#define CADFT_CPU_KERNELS_SPAN_H

#include "cpu/kernels/exp64.h"

#define SPAN 32
#define PREFETCH_BYTES 8192

/* The end of a row, padded to a whole span. */
typedef union span_buffer {
    float f[SPAN];
    uint16_t h[SPAN];
} span_buffer;

INLINE const void *element(int dtype, const void *z, int64_t j)
{
    return (const char *)z + (size_t)j * dtype_size(dtype);
}

INLINE void *element_mut(int dtype, void *g, int64_t j)
{
    return (char *)g + (size_t)j * dtype_size(dtype);
}

/* Through an integer: the address may lie past the row's end. */
INLINE void prefetch_span(int dtype, const void *p, uintptr_t ahead)
{
    uintptr_t at = (uintptr_t)p + ahead;
    __builtin_prefetch((const void *)at);
    if (dtype == CADFTK_F32)
        __builtin_prefetch((const void *)(at + 64));
}

/* bf16 comes dealt into even and odd elements, the others in halves. */
INLINE void load_span(int dtype, const void *p, vf *a, vf *b)
{
    if (dtype == CADFTK_F32) {
        *a = vf_load((const float *)p);
        *b = vf_load((const float *)p + LANES);
    } else if (dtype == CADFTK_BF16) {
        vf_from_bf16_pair(vi_load(p), a, b);
    } else {
        *a = vf_load_f16((const uint16_t *)p);
        *b = vf_load_f16((const uint16_t *)p + LANES);
    }
}

/* The same in the order of the columns, for a float32 destination. */
INLINE void load_span_ordered(int dtype, const void *p, vf *a, vf *b)
{
    if (dtype == CADFTK_BF16) {
        *a = vf_load_bf16((const uint16_t *)p);
        *b = vf_load_bf16((const uint16_t *)p + LANES);
    } else {
        load_span(dtype, p, a, b);
    }
}

/* Undoes load_span. */
INLINE void store_span(int dtype, void *p, vf a, vf b)
{
    if (dtype == CADFTK_F32) {
        vf_store((float *)p, a);
        vf_store((float *)p + LANES, b);
    } else if (dtype == CADFTK_BF16) {
        vf_store_bf16_pair((uint16_t *)p, a, b);
    } else {
        vf_store_f16((uint16_t *)p, a);
        vf_store_f16((uint16_t *)p + LANES, b);
    }
}

/* count < SPAN elements, then -inf: masked columns, which change nothing. */
INLINE void pad_span(int dtype, span_buffer *to, const void *p, int64_t count)
{
    for (int i = 0; i < SPAN; i++)
        store_one(dtype, to, i, -INFINITY);
    memcpy(to, p, (size_t)count * dtype_size(dtype));
}

/* Columns of a soft-capped row at a time. */
#define CAP_BLOCK 256

/*
 * A block of a soft-capped row: z' as hi + lo, its chain factor, and the raw
 * logits; padded with -inf (factor 0) to a whole number of vf.
 */
typedef struct cap_block {
    float raw[CAP_BLOCK], hi[CAP_BLOCK], lo[CAP_BLOCK], chain[CAP_BLOCK];
} cap_block;

INLINE int cap_vectors(int count)
{
    return (count + LANES - 1) / LANES;
}

INLINE void
cap_load(int dtype, cap_block *b, const void *p, int count, double cap)
{
    double two_over_cap = 2.0 / cap;
    int padded = cap_vectors(count) * LANES;
    for (int i = 0; i < count; i++)
        b->raw[i] = load_one(dtype, p, i);
    for (int i = count; i < padded; i++)
        b->raw[i] = -INFINITY;
    for (int i = 0; i < padded; i++) {
        double chain, x = (double)b->raw[i];
        x = softcap_unmasked(x, cap, two_over_cap, &chain);
        float hi = (float)x;
        b->hi[i] = hi;
        b->lo[i] = (float)(x - (double)hi);
        b->chain[i] = (float)chain;
    }
    /* A loop of its own: in the one above, the compiler would move the
     * arithmetic under the condition and then not vectorise it. */
    for (int i = 0; i < padded; i++) {
        int masked = b->raw[i] == -INFINITY;
        b->hi[i] = masked ? -INFINITY : b->hi[i];
        b->lo[i] = masked ? 0.0f : b->lo[i];
        b->chain[i] = masked ? 0.0f : b->chain[i];
    }
}

#endif
