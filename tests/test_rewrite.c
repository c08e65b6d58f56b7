/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting by its definition: averages against long double, verdicts and
 * replacements one by one, memory and threads. */
#include <pthread.h>

#include "rewrite/rewrite.h"
#include "rewrite_support.h"

/* ---------------------------------------------------------------- averages */

static long double closed_form(const double *x, int64_t n, double decay)
{
    long double above = 0, below = 0;
    for (int64_t i = 0; i < n; i++) {
        above = above * decay + x[i];
        below = below * decay + 1;
    }
    return above / below;
}

START_TEST(averages)
{
    enum { MOST = 400 };
    static const double decays[] = {0, 0.3, 0.5, 0.9, 0.99, 0.999};
    double x[MOST];
    for (size_t d = 0; d < sizeof decays / sizeof decays[0]; d++) {
        cadft_rewrite *rw = new_rewrite(1);
        set_number(rw, "decay", decays[d]);
        for (int64_t n = 1; n <= MOST; n++) {
            cadft_rewrite_info info;
            long double want;
            x[n - 1] = support_normal();
            see(rw, 0, 1, x[n - 1]);
            want = closed_form(x, n, decays[d]);
            info = info_of(rw, 0);
            ck_assert_msg(fabsl(info.average - want) <= 1e-13,
                          "decay %g, %lld values: %.17g, expected %.17Lg",
                          decays[d], (long long)n, info.average, want);
            ck_assert_int_eq(info.observations, n);
        }
        cadft_rewrite_destroy(rw);
    }
}
END_TEST

/* The first value, and equal ones after it, are the average exactly. */
START_TEST(equal_values)
{
    for (int round = 0; round < 50; round++) {
        cadft_rewrite *rw = new_rewrite(1);
        double x = chaotic();
        for (int i = 0; i < 100; i++) {
            see(rw, 0, 1, x);
            ck_assert(info_of(rw, 0).average == x);
        }
        cadft_rewrite_destroy(rw);
    }
}
END_TEST

/* Beyond 65535 values the count stays, and nobody can tell. */
START_TEST(count_is_full)
{
    cadft_rewrite *rw = new_rewrite(1);
    long double above = 0, below = 0;
    const long double decay = (long double)0.999;
    set(rw, "decay", "0.999");
    for (int64_t n = 1; n <= 70000; n++) {
        double x = support_normal();
        see(rw, 0, 1, x);
        above = above * decay + x;
        below = below * decay + 1;
        if (n % 997 == 0 || (n > 65530 && n < 65600)) {
            cadft_rewrite_info info = info_of(rw, 0);
            ck_assert_msg(fabsl(info.average - above / below) <= 1e-12,
                          "%lld values: %.17g, expected %.17Lg", (long long)n,
                          info.average, above / below);
            ck_assert_int_eq(info.observations, n < 65535 ? n : 65535);
        }
    }
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_OBSERVED), 70000);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(decay_may_change)
{
    cadft_rewrite *rw = new_rewrite(1);
    see(rw, 0, 1, 4);
    see(rw, 0, 1, 4);
    set(rw, "decay", "0.5");
    ck_assert(info_of(rw, 0).average == 4);
    see(rw, 0, 1, 11); /* the third of 1, 1/2, 1/4: weight 4/7 */
    ck_assert(fabs(info_of(rw, 0).average - 8) < 1e-14);
    set(rw, "decay", "0");
    see(rw, 0, 1, -3);
    ck_assert(info_of(rw, 0).average == -3);
    cadft_rewrite_destroy(rw);
}
END_TEST

START_TEST(no_observation)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, 1e39, -1e39};
    cadft_rewrite *rw = new_rewrite(2), *same;
    cadft_rewrite_info info = info_of(rw, 0);
    ck_assert(isnan(info.average) && isnan(info.c) && info.observations == 0);
    see(rw, 0, 1, 2);
    same = clone(rw);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int64_t id = 0; id < 2; id++) {
            see(rw, id, 1, bad[i]);
            see(rw, id, bad[i], 1);
        }
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_IGNORED), 20);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_OBSERVED), 1);
    info = info_of(rw, 0);
    ck_assert(info.average == 2 && info.c == 1 && info.observations == 1);
    ck_assert_int_eq(info_of(rw, 1).observations, 0);
    see(rw, 0, FLT_MAX, -FLT_MAX); /* the largest that counts */
    see(rw, 0, FLT_MAX, FLT_MAX);
    ck_assert(isfinite(info_of(rw, 0).average));
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(same);
}
END_TEST

/* One of the arrays may be missing, the one averaged not. */
START_TEST(one_array)
{
    cadft_rewrite *rw = new_rewrite(1);
    cadft_error err = support_error();
    int64_t id = 0;
    double x = 3;
    CHECK_STATUS(cadft_rewrite_observe(rw, &id, &x, NULL, 1, &err),
                 CADFT_E_NULL, err);
    CHECK_OK(cadft_rewrite_observe(rw, &id, NULL, &x, 1, &err), err);
    ck_assert(isnan(info_of(rw, 0).c) && info_of(rw, 0).average == 3);
    see(rw, 0, 7, 3);
    CHECK_OK(cadft_rewrite_observe(rw, &id, NULL, &x, 1, &err), err);
    ck_assert(info_of(rw, 0).c == 7); /* the last that was given */
    cadft_rewrite_destroy(rw);
    rw = new_rewrite(1);
    set(rw, "signal", "c");
    CHECK_STATUS(cadft_rewrite_observe(rw, &id, NULL, &x, 1, &err),
                 CADFT_E_NULL, err);
    CHECK_OK(cadft_rewrite_observe(rw, &id, &x, NULL, 1, &err), err);
    ck_assert(info_of(rw, 0).c == 3 && info_of(rw, 0).average == 3);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* The order of a step's samples says nothing; that of one sample's values
 * does. */
START_TEST(order_of_samples)
{
    enum { N = 40 };
    cadft_rewrite *a = new_rewrite(N), *b = new_rewrite(N);
    cadft_error err = support_error();
    int64_t ids[N];
    double c[N], chat[N];
    for (int64_t i = 0; i < N; i++)
        ids[i] = i;
    for (int step = 0; step < 20; step++) {
        for (int64_t i = N - 1; i > 0; i--) {
            int64_t j = support_below(i + 1), swap = ids[i];
            ids[i] = ids[j];
            ids[j] = swap;
        }
        for (int64_t i = 0; i < N; i++) {
            c[i] = fabs(chaotic());
            chat[i] = chaotic();
        }
        CHECK_OK(cadft_rewrite_observe(a, ids, c, chat, N, &err), err);
        for (int64_t i = N; i-- > 0;)
            see(b, ids[i], c[i], chat[i]);
        same_state(a, b);
    }
    ids[0] = ids[1] = 5;
    chat[0] = 1, chat[1] = 2, c[0] = 8, c[1] = 9;
    CHECK_OK(cadft_rewrite_observe(a, ids, c, chat, 2, &err), err);
    see(b, 5, 8, 1);
    see(b, 5, 9, 2);
    same_state(a, b);
    ck_assert(info_of(a, 5).c == 9);
    cadft_rewrite_destroy(a);
    cadft_rewrite_destroy(b);
}
END_TEST

/* ---------------------------------------------------------------- verdicts */

/* The verdict on an answer to sample 0, whose last c is 1. */
static int32_t
verdict(const char *knob, const char *value, const cadft_rewrite_result *r)
{
    cadft_rewrite *rw = eager_rewrite(1);
    cadft_rewrite_info before, after;
    int64_t picks[1];
    int32_t rejected;
    set(rw, "min_length", "2");
    set(rw, "max_length", "4");
    set(rw, knob, value);
    see(rw, 0, 1.0, 5);
    ck_assert_uint_eq(select_all(rw, 0, picks), 1);
    before = info_of(rw, 0);
    rejected = commit(rw, 0, r);
    after = info_of(rw, 0);
    ck_assert_int_eq(after.is_open, 0);
    ck_assert_int_eq(after.is_rewritten, !rejected);
    ck_assert_int_eq(after.rewrites, !rejected);
    ck_assert_int_eq(after.observations, rejected ? 1 : 0);
    if (rejected)
        ck_assert(after.average == before.average && after.c == before.c);
    else
        ck_assert(isnan(after.average) && isnan(after.c));
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_ACCEPTED), !rejected);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_REJECTED), rejected != 0);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_REWRITTEN), !rejected);
    cadft_rewrite_destroy(rw);
    return rejected;
}

START_TEST(verdicts)
{
    int32_t tokens[5] = {1, 2, 3, 4, 5};
    cadft_rewrite_result r = answer_of(tokens, 1);
    ck_assert_int_eq(verdict("cap", "1", &r), CADFT_REJECTED_TOO_SHORT);
    r.ended = 0;
    ck_assert_int_eq(verdict("cap", "1", &r), CADFT_REJECTED_TOO_SHORT);
    r = answer_of(NULL, 0);
    ck_assert_int_eq(verdict("cap", "1", &r), CADFT_REJECTED_TOO_SHORT);
    r = answer_of(tokens, 5);
    ck_assert_int_eq(verdict("cap", "1", &r), CADFT_REJECTED_TOO_LONG);
    ck_assert_int_eq(verdict("max_length", "0", &r), 0);
    r = answer_of(tokens, 4);
    ck_assert_int_eq(verdict("cap", "1", &r), 0);
    r = answer_of(tokens, 2);
    ck_assert_int_eq(verdict("cap", "1", &r), 0);
    r.ended = 0;
    ck_assert_int_eq(verdict("cap", "1", &r), CADFT_REJECTED_NOT_ENDED);
    ck_assert_int_eq(verdict("require_end", "0", &r), 0);
}
END_TEST

START_TEST(lower)
{
    int32_t tokens[2] = {1, 2};
    cadft_rewrite_result r = answer_of(tokens, 2);
    static const struct {
        double c_new, c_old;
        int32_t rejected;
    } cases[] = {
        {0.5, NAN, 0},      {1.0, NAN, 4},
        {1.5, NAN, 4},      {1 - 1e-12, NAN, 4}, /* the same as float32 */
        {1 - 1e-6, NAN, 0}, {INFINITY, NAN, 4},
        {1e300, NAN, 4},    {1.5, 2, 0},
        {2, 2, 4},          {2 - 1e-12, 2, 0},
        {2, INFINITY, 0},   {INFINITY, INFINITY, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.c_new = cases[i].c_new;
        r.c_old = cases[i].c_old;
        ck_assert_msg(verdict("require_lower", "1", &r) == cases[i].rejected,
                      "case %zu", i);
        ck_assert_int_eq(verdict("require_lower", "0", &r), 0);
    }
}
END_TEST

/* ----------------------------------------------------------- replacements */

struct kept {
    int rewritten, rewrites;
    int64_t n; /* 0: the host's */
    int32_t tokens[8];
};

static void check_target(cadft_rewrite *rw, int64_t id, const struct kept *k)
{
    cadft_error err = support_error();
    const int32_t *tokens = (const int32_t *)&err;
    int64_t n = -1;
    CHECK_OK(cadft_rewrite_target(rw, id, &tokens, &n, &err), err);
    ck_assert_int_eq(n, k->n);
    ck_assert_int_eq(tokens != NULL, k->n > 0);
    if (n)
        ck_assert_mem_eq(tokens, k->tokens, (size_t)n * sizeof *tokens);
    ck_assert_int_eq(info_of(rw, id).is_rewritten, k->rewritten);
    ck_assert_int_eq(info_of(rw, id).rewrites, k->rewrites);
}

static void answer(cadft_rewrite *rw, int64_t id, struct kept *k)
{
    cadft_rewrite_result r = answer_of(NULL, 1 + support_below(8));
    int32_t tokens[8];
    for (int64_t i = 0; i < r.n_tokens; i++)
        tokens[i] = (int32_t)support_below(1 << 20);
    if (support_below(4))
        r.tokens = tokens;
    ck_assert_int_eq(commit(rw, id, &r), 0);
    k->rewritten = 1;
    k->rewrites++;
    k->n = r.tokens ? r.n_tokens : 0;
    memcpy(k->tokens, tokens, sizeof tokens);
    memset(tokens, 0x5a, sizeof tokens); /* they were copied */
}

START_TEST(replacements)
{
    enum { N = 60 };
    struct kept kept[N] = {{0}};
    cadft_rewrite *rw = eager_rewrite(N);
    cadft_error err = support_error();
    int64_t ids[N];
    set(rw, "cap", "3");
    set(rw, "probability", "0.4");
    for (int64_t step = 0; step < 30; step++) {
        int64_t count = 0, bytes = 0;
        size_t n;
        for (int64_t i = 0; i < N; i++)
            see(rw, i, 1, 1 + support_uniform());
        n = select_all(rw, step, ids);
        for (size_t i = 0; i < n; i++)
            answer(rw, ids[i], &kept[ids[i]]);
        for (int64_t i = 0; i < N; i++)
            if (kept[i].rewritten && !support_below(10)) {
                CHECK_OK(cadft_rewrite_restore(rw, i, &err), err);
                ck_assert_int_eq(info_of(rw, i).observations, 0);
                kept[i].rewritten = 0;
                kept[i].n = 0;
            }
        for (int64_t i = 0; i < N; i++) {
            check_target(rw, i, &kept[i]);
            count += kept[i].rewritten;
            bytes += 4 * kept[i].n;
            ck_assert_int_le(kept[i].rewrites, 3);
        }
        ck_assert_int_eq(fact(rw, CADFT_REWRITE_REWRITTEN), count);
        ck_assert_int_eq(rw->replacements.bytes, bytes);
    }
    ck_assert_uint_eq(select_all(rw, 99, ids), 0); /* all at the cap */
    cadft_rewrite_destroy(rw);
}
END_TEST

/* ------------------------------------------------------------------ memory */

START_TEST(sixteen_bytes_a_sample)
{
    const int64_t n = 10000000;
    cadft_context *context = support_context("c", 1);
    cadft_error err = support_error();
    cadft_rewrite *rw = NULL;
    int64_t before, after;
    int64_t id = n - 1, picks[1];
    size_t count;
    CHECK_OK(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &before, &err),
             err);
    CHECK_OK(cadft_rewrite_create(context, n, &rw, &err), err);
    CHECK_OK(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &after, &err),
             err);
    ck_assert_int_le(after - before, 16 * n + 4096);
    ck_assert_int_eq(after - before, fact(rw, CADFT_REWRITE_BYTES));
    see(rw, id, 1, 1);
    see(rw, id, 1, 1);
    set(rw, "probability", "1");
    CHECK_OK(cadft_rewrite_select(rw, 3000, picks, 1, &count, &err), err);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(picks[0], id);
    CHECK_OK(
        cadft_context_get_i64(context, CADFT_CONTEXT_PEAK_BYTES, &after, &err),
        err);
    ck_assert_int_le(after - before, 16 * n + 4096);
    cadft_rewrite_destroy(rw);
    CHECK_OK(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &after, &err),
             err);
    ck_assert_int_eq(after, before);
    cadft_context_destroy(context);
}
END_TEST

/* ----------------------------------------------------------------- threads */

struct worker {
    pthread_t thread;
    cadft_rewrite *rw;
    uint64_t digest;
};

/* A history of its own, without random numbers of the tests. */
static void *work(void *argument)
{
    struct worker *w = (struct worker *)argument;
    int32_t tokens[3] = {1, 2, 3};
    cadft_rewrite_result r = answer_of(tokens, 3);
    for (int64_t step = 0; step < 40; step++) {
        int64_t picks[50];
        size_t count = 0;
        for (int64_t i = 0; i < 50; i++) {
            double c = 1, chat = sin((double)(i * 7 + step * 11));
            cadft_rewrite_observe(w->rw, &i, &c, &chat, 1, NULL);
        }
        cadft_rewrite_select(w->rw, step, picks, 50, &count, NULL);
        for (size_t i = 0; i < count; i++) {
            w->digest = w->digest * 31 + (uint64_t)picks[i];
            cadft_rewrite_commit(w->rw, picks[i], &r, NULL, NULL);
        }
    }
    return NULL;
}

/* Handles of one context on several threads: what each of them does alone. */
START_TEST(threads)
{
    static const int32_t workers[] = {1, 2, 7};
    uint64_t want = 0;
    for (size_t n = 0; n < 3; n++) {
        cadft_context *context = support_context("c", workers[n]);
        cadft_error err = support_error();
        struct worker all[7];
        for (int32_t i = 0; i < workers[n]; i++) {
            all[i].digest = 0;
            CHECK_OK(cadft_rewrite_create(context, 50, &all[i].rw, &err), err);
            set(all[i].rw, "warmup_steps", "2");
            set(all[i].rw, "interval", "3");
            set(all[i].rw, "fraction", "0.3");
            set(all[i].rw, "cap", "5");
        }
        for (int32_t i = 0; i < workers[n]; i++)
            ck_assert_int_eq(
                pthread_create(&all[i].thread, NULL, work, &all[i]), 0);
        for (int32_t i = 0; i < workers[n]; i++) {
            pthread_join(all[i].thread, NULL);
            if (!want)
                want = all[i].digest;
            ck_assert_uint_ne(all[i].digest, 0);
            ck_assert_uint_eq(all[i].digest, want);
            same_state(all[0].rw, all[i].rw);
        }
        cadft_context_destroy(context); /* before its children */
        for (int32_t i = 0; i < workers[n]; i++)
            cadft_rewrite_destroy(all[i].rw);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("rewrite");
    TCase *t = tcase_create("averages"), *u = tcase_create("targets");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, averages);
    tcase_add_test(t, equal_values);
    tcase_add_test(t, count_is_full);
    tcase_add_test(t, decay_may_change);
    tcase_add_test(t, no_observation);
    tcase_add_test(t, one_array);
    tcase_add_test(t, order_of_samples);
    tcase_add_test(u, sixteen_bytes_a_sample);
    tcase_add_test(u, verdicts);
    tcase_add_test(u, lower);
    tcase_add_test(u, replacements);
    tcase_add_test(u, threads);
    suite_add_tcase(all, t);
    suite_add_tcase(all, u);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
