/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of rewriting share: a handle on a context of its own, and
 * short forms of calls that must work. */
#ifndef TESTS_REWRITE_SUPPORT_H
#define TESTS_REWRITE_SUPPORT_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static inline cadft_rewrite *new_rewrite(int64_t n_samples)
{
    cadft_context *context = support_context("c", 1);
    cadft_error err = support_error();
    cadft_rewrite *rw = NULL;
    CHECK_OK(cadft_rewrite_create(context, n_samples, &rw, &err), err);
    cadft_context_destroy(context);
    return rw;
}

static inline void set(cadft_rewrite *rw, const char *name, const char *value)
{
    cadft_error err = support_error();
    int32_t key = 0;
    CHECK_OK(cadft_rewrite_key(name, &key, &err), err);
    CHECK_OK(cadft_rewrite_set_str(rw, key, value, &err), err);
}

/* Ties, both zeros, all sizes, and neighbours in the last bits. */
static inline double chaotic(void)
{
    switch (support_below(6)) {
    case 0:
        return 0.5 * (double)support_below(4); /* ties */
    case 1:
        return support_below(2) ? 0.0 : -0.0;
    case 2:
        return ldexp(support_normal(), (int)support_below(200) - 100);
    case 3:
        return 1 + (double)support_below(9) * DBL_EPSILON;
    default:
        return support_normal();
    }
}

static inline void set_number(cadft_rewrite *rw, const char *name, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    set(rw, name, text);
}

/* Due at every step, all eligible at their first observation, all drawn. */
static inline cadft_rewrite *eager_rewrite(int64_t n_samples)
{
    cadft_rewrite *rw = new_rewrite(n_samples);
    set(rw, "warmup_steps", "0");
    set(rw, "interval", "1");
    set(rw, "fraction", "1");
    set(rw, "probability", "1");
    set(rw, "min_observations", "1");
    return rw;
}

static inline int64_t fact(cadft_rewrite *rw, int32_t key)
{
    cadft_error err = support_error();
    int64_t value = -99;
    CHECK_OK(cadft_rewrite_get_i64(rw, key, &value, &err), err);
    return value;
}

static inline void see(cadft_rewrite *rw, int64_t id, double c, double chat)
{
    cadft_error err = support_error();
    CHECK_OK(cadft_rewrite_observe(rw, &id, &c, &chat, 1, &err), err);
}

static inline cadft_rewrite_info info_of(cadft_rewrite *rw, int64_t id)
{
    cadft_rewrite_info info = {.struct_size = sizeof info};
    cadft_error err = support_error();
    CHECK_OK(cadft_rewrite_sample(rw, id, &info, &err), err);
    return info;
}

/* Picks of a step; `ids` has room for all samples. */
static inline size_t select_all(cadft_rewrite *rw, int64_t step, int64_t *ids)
{
    cadft_error err = support_error();
    size_t count = 0, capacity = (size_t)fact(rw, CADFT_REWRITE_SAMPLES);
    CHECK_OK(cadft_rewrite_select(rw, step, ids, capacity, &count, &err), err);
    return count;
}

static inline cadft_rewrite_result answer_of(const int32_t *tokens, int64_t n)
{
    return (cadft_rewrite_result){.struct_size = sizeof(cadft_rewrite_result),
                                  .ended = 1,
                                  .tokens = tokens,
                                  .n_tokens = n,
                                  .c_new = NAN,
                                  .c_old = NAN};
}

static inline int32_t
commit(cadft_rewrite *rw, int64_t id, const cadft_rewrite_result *result)
{
    cadft_error err = support_error();
    int32_t rejected = -1;
    CHECK_OK(cadft_rewrite_commit(rw, id, result, &rejected, &err), err);
    return rejected;
}

/* The saved state, to be freed. */
static inline unsigned char *save(cadft_rewrite *rw, size_t *size)
{
    cadft_error err = support_error();
    unsigned char *state;
    size_t again = 0;
    CHECK_OK(cadft_rewrite_state_save(rw, NULL, 0, size, &err), err);
    state = (unsigned char *)malloc(*size);
    CHECK_OK(cadft_rewrite_state_save(rw, state, *size, &again, &err), err);
    ck_assert_uint_eq(*size, again);
    return state;
}

/* Fail unless both save to the same bytes. */
static inline void same_state(cadft_rewrite *a, cadft_rewrite *b)
{
    size_t n, m;
    unsigned char *x = save(a, &n), *y = save(b, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(x, y, n);
    free(x);
    free(y);
}

/* A new handle with the knobs and the state of another. */
static inline cadft_rewrite *clone(cadft_rewrite *from)
{
    cadft_rewrite *to = new_rewrite(fact(from, CADFT_REWRITE_SAMPLES));
    cadft_error err = support_error();
    size_t size;
    unsigned char *state = save(from, &size);
    for (int32_t key = CADFT_REWRITE_SIGNAL; key <= CADFT_REWRITE_TEMPERATURE;
         key++) {
        char text[64];
        CHECK_OK(
            cadft_rewrite_get_str(from, key, text, sizeof text, NULL, &err),
            err);
        CHECK_OK(cadft_rewrite_set_str(to, key, text, &err), err);
    }
    CHECK_OK(cadft_rewrite_state_load(to, state, size, &err), err);
    free(state);
    return to;
}

#endif
