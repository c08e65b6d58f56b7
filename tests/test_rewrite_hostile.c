/* SPDX-License-Identifier: Apache-2.0 */
/* Bad calls on a rewriting handle: each is refused with a sentence and
 * changes nothing, whatever the error struct; and every allocation may
 * fail. */
#include <errno.h>

#include "failing.h"
#include "rewrite/rewrite.h"
#include "rewrite_support.h"

/* A call, written with `e` for its error, must return `status`, name `word`,
 * keep errno, and leave the handle as it was. */
#define REFUSE(rw, status, word, call)                                         \
    do {                                                                       \
        cadft_error refuse_err = support_error(), *e = &refuse_err;            \
        cadft_rewrite *refuse_before = clone(rw);                              \
        int32_t refuse_status;                                                 \
        errno = 77;                                                            \
        refuse_status = (call);                                                \
        ck_assert_int_eq(errno, 77);                                           \
        CHECK_STATUS(refuse_status, status, refuse_err);                       \
        ck_assert_int_eq(refuse_err.code, status);                             \
        ck_assert_msg(strstr(refuse_err.message, word) != NULL,                \
                      "\"%s\" does not say %s", refuse_err.message, word);     \
        e = NULL;                                                              \
        ck_assert_int_eq(call, status);                                        \
        refuse_err.struct_size = 8;                                            \
        e = &refuse_err;                                                       \
        ck_assert_int_eq(call, CADFT_E_ARG);                                   \
        same_state(rw, refuse_before);                                         \
        cadft_rewrite_destroy(refuse_before);                                  \
    } while (0)

enum { N = 4 };

/* Sample 1 is an open pick, sample 2 rewritten. */
static cadft_rewrite *victim(void)
{
    static const int32_t tokens[3] = {1, 2, 3};
    cadft_rewrite_result r = answer_of(tokens, 3);
    cadft_rewrite *rw = eager_rewrite(N);
    cadft_error err = support_error();
    int64_t picks[N];
    see(rw, 1, 1, 1);
    see(rw, 2, 1, 2);
    ck_assert_uint_eq(select_all(rw, 0, picks), 2);
    ck_assert_int_eq(commit(rw, 2, &r), 0);
    CHECK_OK(cadft_rewrite_observe(rw, NULL, NULL, NULL, 0, &err), err);
    return rw;
}

START_TEST(no_handle)
{
    int64_t i64 = 0;
    int32_t i32 = 0;
    double f64 = 0;
    size_t size = 0;
    char text[8];
    const int32_t *tokens = &i32;
    cadft_rewrite_info info = {.struct_size = sizeof info};
    cadft_rewrite_result r = answer_of(NULL, 1);
    cadft_rewrite *rw = victim();
#define NONE(call) REFUSE(rw, CADFT_E_NULL, "rewrite is NULL", call)
    NONE(cadft_rewrite_set_i64(NULL, CADFT_REWRITE_CAP, 1, e));
    NONE(cadft_rewrite_set_f64(NULL, CADFT_REWRITE_DECAY, 0, e));
    NONE(cadft_rewrite_set_str(NULL, CADFT_REWRITE_CAP, "1", e));
    NONE(cadft_rewrite_get_i64(NULL, CADFT_REWRITE_CAP, &i64, e));
    NONE(cadft_rewrite_get_f64(NULL, CADFT_REWRITE_DECAY, &f64, e));
    NONE(cadft_rewrite_get_str(NULL, CADFT_REWRITE_CAP, text, 8, &size, e));
    NONE(cadft_rewrite_observe(NULL, &i64, &f64, &f64, 1, e));
    NONE(cadft_rewrite_sample(NULL, 0, &info, e));
    NONE(cadft_rewrite_due(NULL, 0, &i32, e));
    NONE(cadft_rewrite_select(NULL, 0, &i64, 1, &size, e));
    NONE(cadft_rewrite_open(NULL, &i64, 1, &size, e));
    NONE(cadft_rewrite_commit(NULL, 0, &r, &i32, e));
    NONE(cadft_rewrite_reject(NULL, 0, e));
    NONE(cadft_rewrite_target(NULL, 0, &tokens, &i64, e));
    ck_assert(tokens == NULL);
    NONE(cadft_rewrite_restore(NULL, 0, e));
    NONE(cadft_rewrite_state_save(NULL, text, 8, &size, e));
    NONE(cadft_rewrite_state_load(NULL, text, 8, e));
    cadft_rewrite_cancel(NULL);
    cadft_rewrite_destroy(NULL);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(create)
{
    cadft_context *context = support_context("c", 1);
    cadft_error err = support_error();
    static const int64_t bad[] = {0, -1, INT64_MIN};
    /* more bytes than there are addresses */
    static const int64_t huge[] = {INT64_MAX, INT64_MAX / 16 + 1,
                                   (int64_t)1 << 60};
    cadft_rewrite *rw;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rw = (cadft_rewrite *)&err;
        CHECK_STATUS(cadft_rewrite_create(context, bad[i], &rw, &err),
                     CADFT_E_ARG, err);
        ck_assert(rw == NULL);
    }
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++)
        CHECK_STATUS(cadft_rewrite_create(context, huge[i], &rw, &err),
                     CADFT_E_NOMEM, err);
    CHECK_STATUS(cadft_rewrite_create(NULL, 1, &rw, &err), CADFT_E_NULL, err);
    CHECK_STATUS(cadft_rewrite_create(context, 1, NULL, &err), CADFT_E_NULL,
                 err);
    cadft_context_destroy(context);
}
END_TEST

START_TEST(knobs)
{
    cadft_rewrite *rw = victim();
    int64_t i64;
    double f64;
    char text[4];
    size_t size = 0;
    REFUSE(rw, CADFT_E_KEY, "99", cadft_rewrite_set_i64(rw, 99, 1, e));
    REFUSE(rw, CADFT_E_KEY, "",
           cadft_rewrite_set_i64(rw, CADFT_REWRITE_OPEN, 1, e));
    REFUSE(rw, CADFT_E_KEY, "decay",
           cadft_rewrite_set_i64(rw, CADFT_REWRITE_DECAY, 1, e));
    REFUSE(rw, CADFT_E_KEY, "cap",
           cadft_rewrite_set_f64(rw, CADFT_REWRITE_CAP, 1, e));
    REFUSE(rw, CADFT_E_ARG, "cap",
           cadft_rewrite_set_i64(rw, CADFT_REWRITE_CAP, 256, e));
    REFUSE(rw, CADFT_E_ARG, "decay",
           cadft_rewrite_set_f64(rw, CADFT_REWRITE_DECAY, 0.9999, e));
    REFUSE(rw, CADFT_E_ARG, "threshold",
           cadft_rewrite_set_f64(rw, CADFT_REWRITE_THRESHOLD, NAN, e));
    REFUSE(rw, CADFT_E_ARG, "interval",
           cadft_rewrite_set_i64(rw, CADFT_REWRITE_INTERVAL, 0, e));
    REFUSE(rw, CADFT_E_NULL, "cap",
           cadft_rewrite_set_str(rw, CADFT_REWRITE_CAP, NULL, e));
    REFUSE(rw, CADFT_E_PHASE, "signal",
           cadft_rewrite_set_str(rw, CADFT_REWRITE_SIGNAL, "c", e));
    REFUSE(rw, CADFT_E_NULL, "out",
           cadft_rewrite_get_i64(rw, CADFT_REWRITE_CAP, NULL, e));
    REFUSE(rw, CADFT_E_NULL, "out",
           cadft_rewrite_get_f64(rw, CADFT_REWRITE_DECAY, NULL, e));
    REFUSE(rw, CADFT_E_KEY, "1000", cadft_rewrite_get_i64(rw, 1000, &i64, e));
    REFUSE(rw, CADFT_E_KEY, "cap",
           cadft_rewrite_get_f64(rw, CADFT_REWRITE_CAP, &f64, e));
    REFUSE(rw, CADFT_E_SPACE, "",
           cadft_rewrite_get_str(rw, CADFT_REWRITE_SIGNAL, text, 4, &size, e));
    ck_assert_uint_eq(size, 5);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* Each key has a name, bounds that hold, and a default that it starts with. */
START_TEST(all_knobs)
{
    cadft_rewrite *rw = new_rewrite(1);
    cadft_error err = support_error();
    for (int32_t key = CADFT_REWRITE_SIGNAL; key <= CADFT_REWRITE_TEMPERATURE;
         key++) {
        double smallest, largest, standard;
        char text[64];
        int32_t type;
        CHECK_OK(cadft_rewrite_bounds(key, &type, &smallest, &largest,
                                      &standard, &err),
                 err);
        CHECK_OK(cadft_rewrite_get_str(rw, key, text, sizeof text, NULL, &err),
                 err);
        if (key != CADFT_REWRITE_SIGNAL)
            ck_assert(strtod(text, NULL) == standard);
        if (type == 0) {
            CHECK_OK(cadft_rewrite_set_i64(rw, key, (int64_t)largest, &err),
                     err);
            CHECK_STATUS(
                cadft_rewrite_set_i64(rw, key, (int64_t)smallest - 1, &err),
                CADFT_E_ARG, err);
        } else {
            CHECK_OK(cadft_rewrite_set_f64(rw, key, largest, &err), err);
            CHECK_STATUS(cadft_rewrite_set_f64(rw, key, INFINITY, &err),
                         CADFT_E_ARG, err);
        }
    }
    CHECK_STATUS(cadft_rewrite_bounds(100, NULL, NULL, NULL, NULL, &err),
                 CADFT_E_KEY, err);
    CHECK_STATUS(cadft_rewrite_key("no", NULL, &err), CADFT_E_NULL, err);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(observing)
{
    cadft_rewrite *rw = victim();
    int64_t ids[3] = {0, 3, N};
    double c[3] = {1, 1, 1};
    REFUSE(rw, CADFT_E_SAMPLE, "ids[2] is 4",
           cadft_rewrite_observe(rw, ids, c, c, 3, e));
    ids[2] = -1;
    REFUSE(rw, CADFT_E_SAMPLE, "ids[2] is -1",
           cadft_rewrite_observe(rw, ids, c, c, 3, e));
    REFUSE(rw, CADFT_E_ARG, "n is -1",
           cadft_rewrite_observe(rw, ids, c, c, -1, e));
    REFUSE(rw, CADFT_E_NULL, "ids",
           cadft_rewrite_observe(rw, NULL, c, c, 1, e));
    REFUSE(rw, CADFT_E_NULL, "chat",
           cadft_rewrite_observe(rw, ids, c, NULL, 1, e));
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(sample)
{
    cadft_rewrite *rw = victim();
    cadft_rewrite_info info = {.struct_size = sizeof info, .reserved = 5};
    struct {
        cadft_rewrite_info info;
        unsigned char more[16];
    } large;
    cadft_error err = support_error();
    REFUSE(rw, CADFT_E_NULL, "out", cadft_rewrite_sample(rw, 0, NULL, e));
    REFUSE(rw, CADFT_E_SAMPLE, "4", cadft_rewrite_sample(rw, N, &info, e));
    REFUSE(rw, CADFT_E_SAMPLE, "-1", cadft_rewrite_sample(rw, -1, &info, e));
    info.struct_size = 0;
    REFUSE(rw, CADFT_E_ARG, "struct_size",
           cadft_rewrite_sample(rw, 0, &info, e));
    ck_assert_int_eq(info.reserved, 5);
    memset(&large, 0x5a, sizeof large);
    large.info.struct_size = sizeof large;
    CHECK_OK(cadft_rewrite_sample(rw, 1, &large.info, &err), err);
    ck_assert_int_eq(large.info.is_open, 1);
    ck_assert_uint_eq(large.info.struct_size, sizeof large);
    for (size_t i = 0; i < sizeof large.more; i++)
        ck_assert_uint_eq(large.more[i], 0x5a);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(picking)
{
    cadft_rewrite *rw = victim();
    int64_t picks[N] = {-5};
    int32_t due = 9;
    size_t count = 9;
    REFUSE(rw, CADFT_E_NULL, "due", cadft_rewrite_due(rw, 0, NULL, e));
    REFUSE(rw, CADFT_E_ARG, "-1", cadft_rewrite_due(rw, -1, &due, e));
    REFUSE(rw, CADFT_E_ARG, "4294967296",
           cadft_rewrite_select(rw, (int64_t)1 << 32, picks, N, &count, e));
    REFUSE(rw, CADFT_E_PHASE, "open",
           cadft_rewrite_select(rw, 1, picks, N, &count, e));
    REFUSE(rw, CADFT_E_NULL, "ids", cadft_rewrite_open(rw, NULL, N, &count, e));
    REFUSE(rw, CADFT_E_SPACE, "0", cadft_rewrite_open(rw, picks, 0, NULL, e));
    cadft_rewrite_cancel(rw);
    REFUSE(rw, CADFT_E_NULL, "ids",
           cadft_rewrite_select(rw, 1, NULL, N, &count, e));
    set(rw, "warmup_fraction", "0.5");
    REFUSE(rw, CADFT_E_UNSUPPORTED, "planned_steps",
           cadft_rewrite_select(rw, 1, picks, N, &count, e));
    REFUSE(rw, CADFT_E_UNSUPPORTED, "planned_steps",
           cadft_rewrite_due(rw, 1, &due, e));
    ck_assert_int_eq(due, 9);
    ck_assert_uint_eq(count, 9);
    ck_assert_int_eq(picks[0], -5);
    cadft_rewrite_destroy(rw);
}
END_TEST

#define NO_COMMIT(status, word)                                                \
    REFUSE(rw, status, word, cadft_rewrite_commit(rw, 1, &r, &rejected, e))

START_TEST(committing)
{
    cadft_rewrite *rw = victim();
    int32_t rejected = 55, tokens[3] = {4, -5, 6};
    cadft_rewrite_result good = answer_of(tokens, 1), r = good;
    REFUSE(rw, CADFT_E_NULL, "result",
           cadft_rewrite_commit(rw, 1, NULL, &rejected, e));
    REFUSE(rw, CADFT_E_SAMPLE, "9",
           cadft_rewrite_commit(rw, 9, &r, &rejected, e));
    REFUSE(rw, CADFT_E_PHASE, "2",
           cadft_rewrite_commit(rw, 2, &r, &rejected, e));
    r.struct_size = 8;
    NO_COMMIT(CADFT_E_ARG, "struct_size");
    r = good, r.ended = 2;
    NO_COMMIT(CADFT_E_ARG, "ended");
    r = good, r.n_tokens = -1;
    NO_COMMIT(CADFT_E_ARG, "n_tokens");
    r.n_tokens = (1 << 24) + 1; /* before any token is read */
    NO_COMMIT(CADFT_E_ARG, "n_tokens");
    r.n_tokens = INT64_MAX;
    NO_COMMIT(CADFT_E_ARG, "n_tokens");
    r.n_tokens = 3;
    NO_COMMIT(CADFT_E_ARG, "tokens[1] is -5");
    r = good;
    set(rw, "max_length", "1");
    set(rw, "min_length", "2");
    NO_COMMIT(CADFT_E_UNSUPPORTED, "max_length");
    set(rw, "min_length", "1");
    set(rw, "require_lower", "1");
    NO_COMMIT(CADFT_E_ARG, "c_new");
    ck_assert_int_eq(rejected, 55);
    r.c_new = 0.5;
    ck_assert_int_eq(commit(rw, 1, &r), 0);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(a_newer_result)
{
    cadft_rewrite *rw = victim();
    struct {
        cadft_rewrite_result result;
        int64_t more;
    } large = {answer_of(NULL, 1), 1};
    large.result.struct_size = sizeof large;
    REFUSE(rw, CADFT_E_TOO_NEW, "result",
           cadft_rewrite_commit(rw, 1, &large.result, NULL, e));
    large.more = 0;
    ck_assert_int_eq(commit(rw, 1, &large.result), 0);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* require_lower without anything to compare with. */
START_TEST(nothing_to_compare)
{
    cadft_rewrite *rw = eager_rewrite(1);
    cadft_rewrite_result r = answer_of(NULL, 1);
    cadft_error err = support_error();
    int64_t id = 0;
    double chat = 1;
    r.c_new = 1;
    CHECK_OK(cadft_rewrite_observe(rw, &id, NULL, &chat, 1, &err), err);
    ck_assert_uint_eq(select_all(rw, 0, &id), 1);
    set(rw, "require_lower", "1");
    REFUSE(rw, CADFT_E_PHASE, "c_old",
           cadft_rewrite_commit(rw, 0, &r, NULL, e));
    r.c_old = 2;
    ck_assert_int_eq(commit(rw, 0, &r), 0);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(targets)
{
    cadft_rewrite *rw = victim();
    const int32_t *tokens;
    int64_t n = 5;
    REFUSE(rw, CADFT_E_SAMPLE, "4",
           cadft_rewrite_target(rw, N, &tokens, &n, e));
    ck_assert(tokens == NULL && n == 0);
    REFUSE(rw, CADFT_E_NULL, "tokens",
           cadft_rewrite_target(rw, 0, NULL, &n, e));
    REFUSE(rw, CADFT_E_NULL, "n is NULL",
           cadft_rewrite_target(rw, 0, &tokens, NULL, e));
    REFUSE(rw, CADFT_E_SAMPLE, "-1", cadft_rewrite_restore(rw, -1, e));
    REFUSE(rw, CADFT_E_PHASE, "open", cadft_rewrite_restore(rw, 1, e));
    REFUSE(rw, CADFT_E_PHASE, "not rewritten", cadft_rewrite_restore(rw, 0, e));
    REFUSE(rw, CADFT_E_PHASE, "2", cadft_rewrite_reject(rw, 2, e));
    REFUSE(rw, CADFT_E_SAMPLE, "4", cadft_rewrite_reject(rw, N, e));
    REFUSE(rw, CADFT_E_NULL, "buffer",
           cadft_rewrite_state_load(rw, NULL, 0, e));
    REFUSE(rw, CADFT_E_NULL, "buffer",
           cadft_rewrite_state_save(rw, NULL, 9, NULL, e));
    cadft_rewrite_destroy(rw);
}
END_TEST

/* As if another thread were inside a call. */
START_TEST(busy)
{
    cadft_rewrite *rw = victim();
    cadft_error err = support_error();
    int32_t due = 3;
    ck_assert(!atomic_flag_test_and_set(&rw->handle.busy));
    CHECK_STATUS(cadft_rewrite_due(rw, 0, &due, &err), CADFT_E_BUSY, err);
    CHECK_STATUS(cadft_rewrite_reject(rw, 1, &err), CADFT_E_BUSY, err);
    cadft_rewrite_cancel(rw);
    ck_assert_int_eq(due, 3);
    atomic_flag_clear(&rw->handle.busy);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_OPEN), 1);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* ------------------------------------------------------------- allocation */

/* Every call that takes memory; the state that comes of it, to be freed. */
static unsigned char *scenario(cadft_context *context, size_t *size)
{
    static const int32_t tokens[5] = {1, 2, 3, 4, 5};
    cadft_rewrite *rw, *other;
    int64_t ids[8];
    unsigned char *state;
    size_t count = 0;
    TRY(cadft_rewrite_create(context, 8, &rw, &failing.err));
    TRY(cadft_rewrite_create(context, 8, &other, &failing.err));
    TRY(cadft_rewrite_set_f64(rw, CADFT_REWRITE_FRACTION, 1, &failing.err));
    TRY(cadft_rewrite_set_f64(rw, CADFT_REWRITE_PROBABILITY, 1, &failing.err));
    TRY(cadft_rewrite_set_i64(rw, CADFT_REWRITE_WARMUP_STEPS, 0, &failing.err));
    TRY(cadft_rewrite_set_i64(rw, CADFT_REWRITE_CAP, 2, &failing.err));
    for (int64_t round = 0; round < 2; round++) {
        for (int64_t i = 0; i < 16; i++)
            see(rw, i % 8, 1, 1);
        TRY(cadft_rewrite_select(rw, 1000 * round, ids, 8, &count,
                                 &failing.err));
        ck_assert_uint_eq(count, 8);
        for (int64_t i = 0; i < 8; i++) {
            cadft_rewrite_result r = answer_of(tokens, 1 + (i + round) % 5);
            TRY(cadft_rewrite_commit(rw, ids[i], &r, NULL, &failing.err));
        }
    }
    TRY(cadft_rewrite_restore(rw, 3, &failing.err));
    state = save(rw, size);
    TRY(cadft_rewrite_state_load(other, state, *size, &failing.err));
    TRY(cadft_rewrite_state_load(other, state, *size, &failing.err));
    same_state(rw, other);
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(other);
    return state;
}

START_TEST(any_allocation_may_fail)
{
    cadft_allocator allocator = support_allocator(&failing.heap);
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 1,
                               .allocator = &allocator,
                               .backend_options = "c"};
    unsigned char *want = NULL;
    size_t size = 0;
    int64_t n = 0;
    do {
        cadft_context *context = NULL;
        cadft_error err = support_error();
        size_t length;
        unsigned char *state;
        failing_start(0);
        CHECK_OK(cadft_context_create(&desc, &context, &err), err);
        failing.heap.fail_at = n;
        state = scenario(context, &length);
        if (!want) {
            want = state;
            size = length;
        } else {
            ck_assert_uint_eq(length, size);
            ck_assert_mem_eq(state, want, size);
            free(state);
        }
        cadft_context_destroy(context);
        failing_end(1);
        n++;
    } while (failing.failures || n == 1);
    ck_assert_int_gt(n, 30);
    free(want);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("rewrite_hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, no_handle);
    tcase_add_test(t, create);
    tcase_add_test(t, knobs);
    tcase_add_test(t, all_knobs);
    tcase_add_test(t, observing);
    tcase_add_test(t, sample);
    tcase_add_test(t, picking);
    tcase_add_test(t, committing);
    tcase_add_test(t, a_newer_result);
    tcase_add_test(t, nothing_to_compare);
    tcase_add_test(t, targets);
    tcase_add_test(t, busy);
    tcase_add_test(t, any_allocation_may_fail);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
