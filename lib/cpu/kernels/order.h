/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bf16 and f16 compared as bit patterns, 32 at a time and without widening.
 * With the sign bit clear a pattern grows with its value, with it set a
 * pattern shrinks as its value grows, and all of the second kind are larger
 * as unsigned numbers. So
 *   signed maximum    the largest value, if one of them is not negative
 *   unsigned minimum  the largest value, if all are negative
 *   unsigned maximum  the smallest value, if one of them is negative
 * A NaN lies beyond the infinity of its sign.
 */
#ifndef CADFT_CPU_KERNELS_ORDER_H
#define CADFT_CPU_KERNELS_ORDER_H

#include "cpu/kernels/span.h"

/* The pattern next to x of those with a magnitude of at least |x| (`away`)
 * or of at most |x|. */
INLINE uint16_t order_pattern(int dtype, float x, int away)
{
    uint16_t h;
    store_one(dtype, &h, 0, x);
    float back = fabsf(load_one(dtype, &h, 0)), mag = fabsf(x);
    if (away)
        return (uint16_t)(back < mag ? h + 1 : h);
    return (uint16_t)(back > mag ? h - 1 : h);
}

/* Lanes of the patterns that order_scan has seen. */
typedef struct order_range {
    vi smax, umin, umax;
} order_range;

INLINE order_range order_scan(const uint16_t *p, int spans, uintptr_t ahead)
{
    order_range r = {vi_set1_16(0x8000), vi_set1_16(0xffff), vi_set1_16(0)};
    for (int i = 0; i < spans; i++) {
        const uint16_t *at = p + (size_t)i * SPAN;
        vi x = vi_load(at);
        __builtin_prefetch((const void *)((uintptr_t)at + ahead));
        r.smax = vi_smax_16(r.smax, x);
        r.umin = vi_umin_16(r.umin, x);
        r.umax = vi_umax_16(r.umax, x);
    }
    return r;
}

/* The largest values, in the lanes of load_span. One of the two patterns is
 * it and the other is lower. */
INLINE vf order_top(int dtype, const order_range *r)
{
    span_buffer smax, umin;
    vf a, b, c, d;
    vi_store(smax.h, r->smax);
    vi_store(umin.h, r->umin);
    load_span(dtype, smax.h, &a, &b);
    load_span(dtype, umin.h, &c, &d);
    return vf_max(vf_max(a, b), vf_max(c, d));
}

#endif
