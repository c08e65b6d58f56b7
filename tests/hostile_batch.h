/* SPDX-License-Identifier: Apache-2.0 */
/* One bad batch or gradient through every call that takes one: BATCH and
 * GRADIENT spoil the victim's working copy and name what must come of it. */
#ifndef TESTS_HOSTILE_BATCH_H
#define TESTS_HOSTILE_BATCH_H

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

/* ------------------------------------------------- one bad call, all ways */

/* Observe the good batch and weigh it, the working copy kept as it is. */
static inline int64_t weighed_step(int weigh)
{
    int64_t micro = -7;
    cadft_error err = support_error();
    CHECK_OK(cadft_loss_begin(v->loss, SAMPLES, &err), err);
    CHECK_OK(cadft_loss_observe(v->loss, &v->good->batch, NULL, &micro, &err),
             err);
    if (weigh)
        CHECK_OK(cadft_loss_weigh(v->loss, &err), err);
    return micro;
}

static inline void end_step(void)
{
    cadft_error err = support_error();
    cadft_loss_report report = {.struct_size = sizeof report};
    CHECK_OK(cadft_loss_end(v->loss, &report, &err), err);
    ck_assert_mem_eq(&report, &v->best_report, sizeof report);
}

static inline void bad_in_compute(int32_t want, const char *name)
{
    cadft_loss_report before = v->report;
    REFUSE_ONLY(v, want, name, compute(v, e));
    REFUSE_ONLY(v, want, name,
                cadft_loss_compute(v->loss, &v->batch, v->n_samples, &v->grad,
                                   v->scale, &v->report, e));
    ck_assert_mem_eq(&v->report, &before, sizeof before);
}

/* A step survives a micro-batch that it refuses. */
static inline void bad_in_observe(int32_t want, const char *name)
{
    int64_t micro = -7;
    weighed_step(0);
    REFUSE_ONLY(v, want, name,
                cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
    ck_assert_int_eq(micro, -7);
    CHECK_OK(cadft_loss_weigh(v->loss, &v->err), v->err);
    end_step();
}

static inline void bad_in_grad(int32_t want, const char *name)
{
    int64_t micro = weighed_step(1);
    REFUSE_ONLY(v, want, name,
                cadft_loss_grad(v->loss, micro, &v->batch, &v->grad, e));
    REFUSE_ONLY(v, want, name,
                cadft_loss_grad(v->loss, -1, &v->batch, &v->grad, e));
    end_step();
}

static inline void bad_batch(int32_t want, const char *name)
{
    bad_in_compute(want, name);
    bad_in_observe(want, name);
    bad_in_grad(want, name);
    victim_alive(v, name);
}

/* The same for the unit gradient of observe. */
static inline void bad_gradient(int32_t want, const char *name)
{
    int64_t micro = -7;
    bad_in_compute(want, name);
    bad_in_grad(want, name);
    weighed_step(0);
    REFUSE_ONLY(v, want, name,
                cadft_loss_observe(v->loss, &v->batch, &v->grad, &micro, e));
    CHECK_OK(cadft_loss_weigh(v->loss, &v->err), v->err);
    end_step();
    victim_alive(v, name);
}

/* A change to the working copy, and what comes of it. */
#define BATCH(want, name, ...)                                                 \
    do {                                                                       \
        fresh(v);                                                              \
        __VA_ARGS__;                                                           \
        bad_batch(want, name);                                                 \
    } while (0)
#define GRADIENT(want, name, ...)                                              \
    do {                                                                       \
        fresh(v);                                                              \
        __VA_ARGS__;                                                           \
        bad_gradient(want, name);                                              \
    } while (0)
#define DIMS(...) ((int64_t[]){__VA_ARGS__})

/* Type of a tensor by its constant. */
static inline void set_dtype(cadft_tensor *t, int32_t dtype)
{
    t->dtype_code = (uint8_t)dtype;
    t->dtype_bits = (uint8_t)(dtype >> 8);
    t->dtype_lanes = (uint16_t)(dtype >> 16);
}

#endif
