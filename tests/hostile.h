/* SPDX-License-Identifier: Apache-2.0 */
/* What the hostile tests share: a loss with a small batch whose good result
 * is known bit for bit, and REFUSE, which makes a bad call in every way an
 * error can be asked for and checks that nothing but the status came of it.
 */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { ROWS = 6, COLS = 10, SAMPLES = 3, CANARY = 64 };
enum { ARENA = ROWS * COLS + 2 * CANARY }; /* floats */

/* An allocator with a limit, so that absurd sizes fail and do not thrash. */
struct limited {
    support_heap heap;
    cadft_allocator inner;
};

struct victim {
    struct limited memory;
    cadft_context *context;
    cadft_loss *loss;
    support_batch *good;
    int64_t shape[2], strides[2], row_shape[1];
    /* A working copy for each bad call. */
    cadft_tensor logits, labels, ids, k, grad;
    cadft_loss_batch batch;
    cadft_loss_report report;
    int32_t y[ROWS], s[ROWS];
    double k_values[ROWS + 1];
    float scale[ROWS];
    float arena[ARENA], armed[ARENA]; /* grad lies CANARY inside */
    float best[ROWS * COLS];          /* what a good call writes */
    cadft_loss_report best_report;
    cadft_error err, stunted;
    int64_t n_samples;
};

static inline void *limited_alloc(void *user, size_t size, size_t align)
{
    struct limited *l = (struct limited *)user;
    return size > ((size_t)64 << 20)
               ? NULL
               : l->inner.alloc(l->inner.user, size, align);
}

static inline void
limited_free(void *user, void *block, size_t size, size_t align)
{
    struct limited *l = (struct limited *)user;
    l->inner.free(l->inner.user, block, size, align);
}

static inline void limited_destroy(void *user)
{
    struct limited *l = (struct limited *)user;
    l->inner.destroy(l->inner.user);
}

static inline cadft_allocator limited_allocator(struct limited *l)
{
    l->inner = support_allocator(&l->heap);
    return (cadft_allocator){.struct_size = sizeof(cadft_allocator),
                             .user = l,
                             .alloc = limited_alloc,
                             .free = limited_free,
                             .destroy = limited_destroy};
}

/* The working copy back to what is right. */
static inline void fresh(struct victim *v)
{
    v->logits = v->good->logits;
    memcpy(v->y, v->good->y, sizeof v->y);
    memcpy(v->s, v->good->ids, sizeof v->s);
    v->shape[0] = v->row_shape[0] = ROWS;
    v->shape[1] = v->strides[0] = COLS;
    v->strides[1] = 1;
    cadft_tensor_init(&v->logits, sizeof v->logits, v->good->z, CADFT_DTYPE_F32,
                      2, v->shape, v->strides, NULL);
    cadft_tensor_init(&v->labels, sizeof v->labels, v->y, CADFT_DTYPE_I32, 1,
                      v->row_shape, NULL, NULL);
    cadft_tensor_init(&v->ids, sizeof v->ids, v->s, CADFT_DTYPE_I32, 1,
                      v->row_shape, NULL, NULL);
    cadft_tensor_init(&v->k, sizeof v->k, v->k_values, CADFT_DTYPE_F64, 1,
                      v->row_shape, NULL, NULL);
    cadft_tensor_init(&v->grad, sizeof v->grad, v->arena + CANARY,
                      CADFT_DTYPE_F32, 2, v->shape, NULL, NULL);
    v->batch = (cadft_loss_batch){.struct_size = sizeof v->batch,
                                  .logits = &v->logits,
                                  .labels = &v->labels,
                                  .sample_ids = &v->ids};
    memset(&v->report, 0x5a, sizeof v->report);
    v->report.struct_size = sizeof v->report;
    for (int r = 0; r <= ROWS; r++)
        v->k_values[r] = 0.5;
    v->n_samples = SAMPLES;
}

static inline int32_t compute(struct victim *v, cadft_error *e)
{
    return cadft_loss_compute(v->loss, &v->batch, v->n_samples, &v->grad, NULL,
                              &v->report, e);
}

static inline struct victim *victim_new(void)
{
    struct victim *v = (struct victim *)calloc(1, sizeof *v);
    cadft_allocator allocator = limited_allocator(&v->memory);
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 2, .allocator = &allocator};
    v->err = support_error();
    CHECK_OK(cadft_context_create(&desc, &v->context, &v->err), v->err);
    CHECK_OK(cadft_loss_create(v->context, &v->loss, &v->err), v->err);
    v->good = support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    fresh(v);
    CHECK_OK(compute(v, &v->err), v->err);
    memcpy(v->best, v->arena + CANARY, sizeof v->best);
    v->best_report = v->report;
    return v;
}

static inline void victim_free(struct victim *v)
{
    cadft_loss_destroy(v->loss);
    cadft_context_destroy(v->context);
    ck_assert_int_eq(v->memory.heap.live_blocks, 0);
    ck_assert_int_eq(v->memory.heap.destroyed, 1);
    support_batch_free(v->good);
    free(v);
}

/* Fill the gradient and what surrounds it with a pattern to be recognised. */
static inline cadft_error *victim_arm(struct victim *v)
{
    for (int i = 0; i < ARENA; i++)
        v->arena[i] = (float)(i + 1) * 0.25f;
    memcpy(v->armed, v->arena, sizeof v->armed);
    v->err = support_error();
    v->err.code = 77;
    memset(&v->stunted, 0x3c, sizeof v->stunted);
    v->stunted.struct_size = 8;
    return &v->err;
}

static inline void victim_refused(struct victim *v,
                                  int32_t status,
                                  int32_t want,
                                  const char *name,
                                  const char *call)
{
    ck_assert_msg(status == want, "%s: %s, expected %s: %s", call,
                  cadft_status_string(status), cadft_status_string(want),
                  v->err.message);
    ck_assert_msg(v->err.code == want, "%s: error.code is %d", call,
                  v->err.code);
    ck_assert_msg(memchr(v->err.message, 0, sizeof v->err.message) != NULL &&
                      strstr(v->err.message, name),
                  "%s: \"%s\" does not name %s", call, v->err.message, name);
}

static inline void
victim_stunted(struct victim *v, int32_t status, const char *call)
{
    cadft_error as_it_was;
    memset(&as_it_was, 0x3c, sizeof as_it_was);
    as_it_was.struct_size = 8;
    ck_assert_msg(status == CADFT_E_ARG, "%s with a bad error struct: %s", call,
                  cadft_status_string(status));
    ck_assert_msg(memcmp(&v->stunted, &as_it_was, sizeof as_it_was) == 0,
                  "%s wrote to an error struct of 8 bytes", call);
}

static inline void victim_untouched(struct victim *v, const char *call)
{
    ck_assert_msg(memcmp(v->arena, v->armed, sizeof v->armed) == 0,
                  "%s changed the gradient or its surroundings", call);
}

/* A good call still gives the same bits, and only where it should. */
static inline void victim_alive(struct victim *v, const char *call)
{
    victim_arm(v);
    fresh(v);
    CHECK_OK(compute(v, &v->err), v->err);
    ck_assert_msg(memcmp(v->arena + CANARY, v->best, sizeof v->best) == 0 &&
                      memcmp(&v->report, &v->best_report, sizeof v->report) ==
                          0,
                  "after %s a good call gives other bits", call);
    ck_assert_msg(memcmp(v->arena, v->armed, CANARY * sizeof *v->arena) == 0 &&
                      memcmp(v->arena + ARENA - CANARY,
                             v->armed + ARENA - CANARY,
                             CANARY * sizeof *v->arena) == 0,
                  "a good call wrote around its gradient");
    ck_assert_int_eq(v->err.code, CADFT_OK);
    ck_assert_str_eq(v->err.message, "");
}

/* `call` uses the error pointer `e`: a whole struct, none, and a bad one. */
#define REFUSE_ONLY(v, want, name, call)                                       \
    do {                                                                       \
        cadft_error *e = victim_arm(v);                                        \
        int32_t status_ = (call);                                              \
        victim_refused(v, status_, want, name, #call);                         \
        e = NULL;                                                              \
        ck_assert_int_eq((call), want);                                        \
        e = &(v)->stunted;                                                     \
        victim_stunted(v, (call), #call);                                      \
        victim_untouched(v, #call);                                            \
    } while (0)

/* And the handle, between steps, works as before. */
#define REFUSE(v, want, name, call)                                            \
    do {                                                                       \
        REFUSE_ONLY(v, want, name, call);                                      \
        victim_alive(v, #call);                                                \
    } while (0)

#endif
