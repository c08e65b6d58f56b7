/* SPDX-License-Identifier: Apache-2.0 */
/* The phases of a step on the victim's batch. */
#ifndef TESTS_HOSTILE_STEPS_H
#define TESTS_HOSTILE_STEPS_H

#include "hostile.h"

static struct victim *v;

static inline void setup(void)
{
    v = victim_new();
}

static inline void teardown(void)
{
    victim_free(v);
}

static inline void set(int32_t key, int64_t value)
{
    CHECK_OK(cadft_loss_set_i64(v->loss, key, value, &v->err), v->err);
}

static inline int64_t observe(void)
{
    int64_t micro = -7;
    fresh(v);
    CHECK_OK(cadft_loss_observe(v->loss, &v->batch, NULL, &micro, &v->err),
             v->err);
    return micro;
}

static inline void begin(void)
{
    CHECK_OK(cadft_loss_begin(v->loss, SAMPLES, &v->err), v->err);
}

static inline void weigh(void)
{
    CHECK_OK(cadft_loss_weigh(v->loss, &v->err), v->err);
}

#endif
