/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step of AdamW and of SGD. See update.h.
 *
 * Memory sets the pace, so what is the same for all elements (data types, is
 * there a master) is asked for every vector instead of compiled eight times.
 * What is written was read before, but for a value beside its master, 2 bytes
 * of 28: stores past the cache have nothing to win.
 */
#include "cpu/kernels/lanes.h"

/* An infinite weight does not decay: inf - inf would be a NaN. */
INLINE vf decaying(vf w)
{
    return vf_pick_gt(vf_minus_abs(w), vf_set1(-INFINITY), w, vf_set1(0.0f));
}

/* Rounding to bf16 wants a NaN that it cannot carry over into a number. */
INLINE vf plain_nan(vf x)
{
    const vf zero = vf_set1(0.0f);
    vf is_nan = vf_drop_le(vf_minus_abs(x), zero, vf_set1(1.0f));
    return vf_pick_gt(is_nan, zero, vf_set1((float)NAN), x);
}

INLINE void store_bf16_some(uint16_t *p, vf x, int64_t count)
{
    uint16_t h[LANES];
    if (count == LANES) {
        vf_store_bf16(p, x);
    } else {
        vf_store_bf16(h, x);
        memcpy(p, h, (size_t)count * sizeof *h);
    }
}

INLINE vf load_weight(const cadftk_update *u, int64_t j, int64_t count)
{
    return u->master ? vf_load_some(u->master + j, count)
                     : vf_load_typed(u->value_dtype, u->value, j, count);
}

INLINE void store_weight(const cadftk_update *u, int64_t j, int64_t count, vf w)
{
    if (u->master)
        vf_store_some(u->master + j, w, count);
    if (u->value_dtype == CADFTK_F32)
        vf_store_some((float *)u->value + j, w, count);
    else
        store_bf16_some((uint16_t *)u->value + j, plain_nan(w), count);
}

INLINE vf load_grad(const cadftk_update *u, int64_t j, int64_t count)
{
    vf grad = vf_load_typed(u->grad_dtype, u->grad, j, count);
    return vf_mul(vf_set1(u->scale), grad);
}

/* ---------------------------------------------------------------- adamw */

/* The mean moves from the nearer end, so that beta1 = 0 gives g itself. The
 * two terms of v are both positive, and an infinite v stays so. Decay and
 * step are added before they meet w, which is rounded once: a decay below
 * half an ulp of 1 would be lost in 1 - lr * weight_decay. */
INLINE void adamw_some(const cadftk_update *u, int64_t j, int64_t count)
{
    vf w = load_weight(u, j, count), g = load_grad(u, j, count);
    vf m = vf_load_some(u->m + j, count), v = vf_load_some(u->v + j, count);
    vf e = vf_sub(g, m), change;
    m = u->gain1 < 0.5f ? vf_fma(vf_set1(u->gain1), e, m)
                        : vf_fnma(vf_set1(u->keep1), e, g);
    v = vf_fma(vf_mul(vf_set1(u->gain2), g), g, vf_mul(vf_set1(u->keep2), v));
    change = vf_fma(vf_sqrt(v), vf_set1(u->unbias), vf_set1(u->eps));
    change = vf_mul(vf_set1(u->step), vf_div(m, change));
    change = vf_fma(vf_set1(u->decay), decaying(w), change);
    vf_store_some(u->m + j, m, count);
    vf_store_some(u->v + j, v, count);
    store_weight(u, j, count, vf_sub(w, change));
}

cadftk_update_fn CADFTK_SYMBOL(cadftk_adamw);
void CADFTK_SYMBOL(cadftk_adamw)(const cadftk_update *args)
{
    const cadftk_update u = *args; /* no store can change it */
    int64_t j = 0;
    for (; j + LANES <= u.n; j += LANES)
        adamw_some(&u, j, LANES);
    if (j < u.n)
        adamw_some(&u, j, u.n - j);
}

/* ------------------------------------------------------------------ sgd */

INLINE void sgd_some(const cadftk_update *u, int64_t j, int64_t count)
{
    vf w = load_weight(u, j, count), g = load_grad(u, j, count), change;
    g = vf_fma(vf_set1(u->decay), decaying(w), g);
    change = g;
    if (u->m) {
        vf momentum = vf_set1(u->keep1), m = vf_load_some(u->m + j, count);
        m = vf_fma(momentum, m, g);
        change = u->nesterov ? vf_fma(momentum, m, g) : m;
        vf_store_some(u->m + j, m, count);
    }
    store_weight(u, j, count, vf_fnma(vf_set1(u->step), change, w));
}

cadftk_update_fn CADFTK_SYMBOL(cadftk_sgd);
void CADFTK_SYMBOL(cadftk_sgd)(const cadftk_update *args)
{
    const cadftk_update u = *args;
    int64_t j = 0;
    for (; j + LANES <= u.n; j += LANES)
        sgd_some(&u, j, LANES);
    if (j < u.n)
        sgd_some(&u, j, u.n - j);
}
