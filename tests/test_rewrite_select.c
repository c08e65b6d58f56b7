/* SPDX-License-Identifier: Apache-2.0 */
/* When rewrites are due, and who is picked: against whole numbers, a sorted
 * list, and the random numbers themselves. */
#include "common/random.h"
#include "rewrite/rewrite.h"
#include "rewrite_support.h"

/* Every thousandth of every size, against whole numbers. */
START_TEST(shares)
{
    for (int64_t f = 0; f <= 1000; f++)
        for (int64_t n = 1; n < 2500; n++) {
            int64_t want = (f * n + 999) / 1000;
            int64_t got = cadft__share((double)f / 1000, n);
            if (got != want)
                ck_abort_msg("%lld / 1000 of %lld is %lld, expected %lld",
                             (long long)f, (long long)n, (long long)got,
                             (long long)want);
        }
    ck_assert_int_eq(cadft__share(0.005, 10000000), 50000);
    ck_assert_int_eq(cadft__share(0.005, 10000001), 50001);
    ck_assert_int_eq(cadft__share(1e-12, 1), 1);
    ck_assert_int_eq(cadft__share(1, INT64_MAX), INT64_MAX);
}
END_TEST

static int32_t due_at(cadft_rewrite *rw, int64_t step)
{
    cadft_error err = support_error();
    int32_t due = -1;
    CHECK_OK(cadft_rewrite_due(rw, step, &due, &err), err);
    return due;
}

START_TEST(due)
{
    cadft_rewrite *rw = new_rewrite(1);
    for (int64_t step = 0; step < 10000; step++)
        ck_assert_int_eq(due_at(rw, step), step >= 3000 && step % 1000 == 0);
    ck_assert_int_eq(due_at(rw, 4294967000), 1);
    set(rw, "interval", "10");
    set(rw, "planned_steps", "391");
    set(rw, "warmup_fraction", "0.1"); /* 39.1: from step 40 on */
    for (int64_t step = 0; step < 400; step++)
        ck_assert_int_eq(due_at(rw, step), step >= 40 && step % 10 == 0);
    set(rw, "planned_steps", "100");
    set(rw, "warmup_fraction", "0.07");
    set(rw, "interval", "7");
    ck_assert_int_eq(due_at(rw, 7), 1);
    cadft_rewrite_destroy(rw);
}
END_TEST

struct ranked {
    double average;
    int64_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = (const struct ranked *)a;
    const struct ranked *y = (const struct ranked *)b;
    if (x->average != y->average)
        return x->average > y->average ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b)
{
    const struct ranked *x = (const struct ranked *)a;
    const struct ranked *y = (const struct ranked *)b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* What should be picked at probability 1; [n] in `out`, how many returned. */
static size_t
candidates(const double *average, int64_t n, int64_t k, struct ranked *out)
{
    size_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (average[i] > -1e30)
            out[count++] = (struct ranked){average[i], i};
    qsort(out, count, sizeof *out, by_rank);
    if (count > (size_t)k)
        count = (size_t)k;
    qsort(out, count, sizeof *out, by_id);
    return count;
}

START_TEST(highest_averages)
{
    enum { MOST = 3000 };
    static double average[MOST];
    static struct ranked want[MOST];
    static int64_t picks[MOST];
    for (int round = 0; round < 300; round++) {
        int64_t n = 1 + support_below(round < 200 ? 30 : MOST);
        int64_t thousandths = 1 + support_below(1000);
        cadft_rewrite *rw = eager_rewrite(n);
        size_t count, expected;
        set_number(rw, "fraction", (double)thousandths / 1000);
        set(rw, "threshold", "-1e30");
        for (int64_t i = 0; i < n; i++) {
            average[i] = support_below(10) ? chaotic() : -1e31;
            see(rw, i, 1, average[i]);
        }
        expected = candidates(average, n, (thousandths * n + 999) / 1000, want);
        count = select_all(rw, 0, picks);
        ck_assert_uint_eq(count, expected);
        for (size_t i = 0; i < count; i++)
            ck_assert_int_eq(picks[i], want[i].id);
        ck_assert_int_eq(fact(rw, CADFT_REWRITE_OPEN), (int64_t)count);
        cadft_rewrite_destroy(rw);
    }
}
END_TEST

START_TEST(who_is_eligible)
{
    cadft_rewrite *rw = eager_rewrite(4);
    int64_t picks[4];
    set(rw, "min_observations", "2");
    set(rw, "threshold", "0.5");
    see(rw, 0, 1, 9); /* once */
    see(rw, 1, 1, 0.5);
    see(rw, 1, 1, 0.5); /* at the threshold */
    see(rw, 3, 1, 0.75);
    see(rw, 3, 1, 0.75);
    ck_assert_uint_eq(select_all(rw, 0, picks), 1);
    ck_assert_int_eq(picks[0], 3);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* Drawn by the numbers of (seed, id, step) and nothing else. */
START_TEST(draws)
{
    enum { N = 4000 };
    static int64_t picks[N];
    cadft_rewrite *rw = eager_rewrite(N);
    for (int64_t i = 0; i < N; i++)
        see(rw, i, 1, 1);
    set(rw, "probability", "0.3");
    for (int64_t step = 0; step < 8; step++) {
        uint64_t seed = support_bits() >> 11;
        cadft_error err = support_error();
        size_t count, at = 0;
        CHECK_OK(
            cadft_rewrite_set_i64(rw, CADFT_REWRITE_SEED, (int64_t)seed, &err),
            err);
        count = select_all(rw, step, picks);
        ck_assert_msg(fabs((double)count - 0.3 * N) < 5 * sqrt(0.21 * N),
                      "%zu of %d drawn", count, N);
        for (int64_t i = 0; i < N; i++) {
            uint32_t w[4];
            cadft__random_block(seed, (uint64_t)i,
                                (uint64_t)step << 32 | 0xffffffffu, w);
            if (cadft__random_uniform(w[0], w[1]) < 0.3)
                ck_assert_int_eq(picks[at++], i);
        }
        ck_assert_uint_eq(at, count);
        cadft_rewrite_cancel(rw);
    }
    set(rw, "probability", "0");
    ck_assert_uint_eq(select_all(rw, 9, picks), 0);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* Asking and a lack of room change nothing; what follows is the same. */
START_TEST(asking)
{
    enum { N = 20 };
    cadft_rewrite *rw = eager_rewrite(N), *other;
    cadft_error err = support_error();
    int64_t picks[N], again[N];
    size_t count = 99;
    for (int64_t i = 0; i < N; i++)
        see(rw, i, 1, 1 + support_uniform());
    set(rw, "probability", "0.5");
    other = clone(rw);
    CHECK_OK(cadft_rewrite_select(rw, 3, NULL, 0, &count, &err), err);
    ck_assert_uint_gt(count, 0);
    picks[0] = -7;
    CHECK_STATUS(cadft_rewrite_select(rw, 3, picks, count - 1, NULL, &err),
                 CADFT_E_SPACE, err);
    ck_assert_int_eq(picks[0], -7);
    same_state(rw, other);
    CHECK_OK(cadft_rewrite_select(rw, 3, picks, count, NULL, &err), err);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_OPEN), (int64_t)count);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_LAST_STEP), 3);
    ck_assert_uint_eq(select_all(other, 3, again), count);
    ck_assert_mem_eq(picks, again, count * sizeof *picks);
    CHECK_OK(cadft_rewrite_open(rw, again, N, &count, &err), err);
    ck_assert_mem_eq(picks, again, count * sizeof *picks);
    same_state(rw, other);
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(other);
}
END_TEST

/* Open picks stand in the way of the next due step, of no other. */
START_TEST(open_picks)
{
    cadft_rewrite *rw = eager_rewrite(2);
    cadft_error err = support_error();
    int64_t picks[2];
    size_t count;
    see(rw, 0, 1, 1);
    set(rw, "interval", "2");
    ck_assert_uint_eq(select_all(rw, 0, picks), 1);
    ck_assert_uint_eq(select_all(rw, 1, picks), 0);
    CHECK_STATUS(cadft_rewrite_select(rw, 2, picks, 2, &count, &err),
                 CADFT_E_PHASE, err);
    see(rw, 0, 1, 2); /* goes on being observed */
    ck_assert_int_eq(info_of(rw, 0).is_open, 1);
    cadft_rewrite_cancel(rw);
    ck_assert_int_eq(info_of(rw, 0).is_open, 0);
    ck_assert_uint_eq(select_all(rw, 2, picks), 1);
    CHECK_OK(cadft_rewrite_reject(rw, 0, &err), err);
    ck_assert_uint_eq(select_all(rw, 2, picks), 1);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_PICKED), 3);
    ck_assert_int_eq(fact(rw, CADFT_REWRITE_REJECTED), 1);
    cadft_rewrite_destroy(rw);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("rewrite_select");
    TCase *t = tcase_create("picks");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, shares);
    tcase_add_test(t, due);
    tcase_add_test(t, highest_averages);
    tcase_add_test(t, who_is_eligible);
    tcase_add_test(t, draws);
    tcase_add_test(t, asking);
    tcase_add_test(t, open_picks);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
