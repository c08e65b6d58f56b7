/* SPDX-License-Identifier: Apache-2.0 */
/* Bad exchanges: arguments, lengths, and values that no export can have
 * written. */
#include "hostile_steps.h"

/* A step on columns [0, COLS) of twice as many, its exchanges due. */
static void begin_sharded(void)
{
    int64_t micro;
    begin();
    fresh(v);
    v->batch.vocab_total = 2 * COLS;
    CHECK_OK(cadft_loss_observe(v->loss, &v->batch, NULL, &micro, &v->err),
             v->err);
}

/* ------------------------------------------------------------- arguments */

START_TEST(exchange_arguments)
{
    static const int32_t kinds[] = {0, 7, -1, INT32_MAX, INT32_MIN};
    double d[64];
    size_t needed = 99;
    begin();
    observe();
    for (int i = 0; i < 5; i++) {
        REFUSE_ONLY(v, CADFT_E_ARG, "kind",
                    cadft_loss_export(v->loss, kinds[i], 0, 1, d, 64, NULL, e));
        REFUSE_ONLY(v, CADFT_E_ARG, "kind",
                    cadft_loss_import(v->loss, kinds[i], d, 12, e));
    }
    static const int64_t shards[][2] = {{0, 0},         {1, 1},
                                        {-1, 2},        {2, 2},
                                        {0, -1},        {INT64_MAX, INT64_MAX},
                                        {0, INT64_MAX}, {INT64_MIN, 1}};
    for (int i = 0; i < 8; i++)
        REFUSE_ONLY(v, CADFT_E_ARG, "shard",
                    cadft_loss_export(v->loss, 4, shards[i][0], shards[i][1], d,
                                      64, NULL, e));
    REFUSE_ONLY(v, CADFT_E_ARG, "shard",
                cadft_loss_export(v->loss, 3, 0, 2, d, 64, NULL, e));
    REFUSE_ONLY(v, CADFT_E_NULL, "out",
                cadft_loss_export(v->loss, 3, 0, 1, NULL, 64, NULL, e));
    d[0] = 77;
    REFUSE_ONLY(
        v, CADFT_E_SPACE, "capacity",
        cadft_loss_export(v->loss, 3, 0, 1, d, 4 * SAMPLES - 1, &needed, e));
    ck_assert_uint_eq(needed, 4 * SAMPLES);
    ck_assert(d[0] == 77);
    REFUSE_ONLY(v, CADFT_E_SPACE, "capacity",
                cadft_loss_export(v->loss, 4, 1, 2, d, 11, NULL, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "exports");
}
END_TEST

START_TEST(import_counts)
{
    static const size_t counts[] = {0, 1, 4 * SAMPLES - 1, 4 * SAMPLES + 1,
                                    SIZE_MAX};
    double d[64] = {0};
    begin();
    observe();
    for (int i = 0; i < 5; i++)
        REFUSE_ONLY(v, CADFT_E_SHAPE, "count",
                    cadft_loss_import(v->loss, 3, d, counts[i], e));
    for (int i = 0; i < 4; i++)
        REFUSE_ONLY(v, CADFT_E_SHAPE, "count",
                    cadft_loss_import(v->loss, 4, d, counts[i], e));
    REFUSE_ONLY(v, CADFT_E_NULL, "values",
                cadft_loss_import(v->loss, 3, NULL, 4 * SAMPLES, e));
    REFUSE_ONLY(v, CADFT_E_NULL, "values",
                cadft_loss_import(v->loss, 4, NULL, 6, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "imports");
}
END_TEST

START_TEST(array_arguments)
{
    static const int32_t what[] = {0, 7, -1, INT32_MAX};
    double d[ROWS] = {77};
    size_t needed = 99;
    CHECK_OK(compute(v, &v->err), v->err);
    for (int i = 0; i < 4; i++) {
        REFUSE(v, CADFT_E_ARG, "what",
               cadft_loss_get_rows(v->loss, 0, what[i], d, ROWS, NULL, e));
        REFUSE(v, CADFT_E_ARG, "what",
               cadft_loss_get_samples(v->loss, what[i], d, ROWS, NULL, e));
    }
    REFUSE(v, CADFT_E_SPACE, "capacity",
           cadft_loss_get_rows(v->loss, 0, 1, d, ROWS - 1, &needed, e));
    ck_assert_uint_eq(needed, ROWS);
    REFUSE(v, CADFT_E_SPACE, "capacity",
           cadft_loss_get_samples(v->loss, 1, d, SAMPLES - 1, &needed, e));
    ck_assert_uint_eq(needed, SAMPLES);
    ck_assert(d[0] == 77);
}
END_TEST

/* -------------------------------------------------------- absurd imports */

/* Export `kind`, spoil element `at`, import; then import it unspoilt. */
static void spoilt(int32_t kind, size_t at, double value, int32_t want)
{
    double d[8 * ROWS], good;
    size_t n = 99;
    CHECK_OK(cadft_loss_export(v->loss, kind, 0, 1, d, 8 * ROWS, &n, &v->err),
             v->err);
    ck_assert_uint_le(n, 8 * ROWS);
    good = d[at];
    d[at] = value;
    victim_arm(v);
    ck_assert_msg(cadft_loss_import(v->loss, kind, d, n, &v->err) == want,
                  "kind %d, element %zu = %g for %g: %s %s", kind, at, value,
                  good, cadft_status_string(v->err.code), v->err.message);
    d[at] = good;
    if (kind != CADFT_EXCHANGE_SAMPLES) /* which is taken once */
        CHECK_OK(cadft_loss_import(v->loss, kind, d, n, &v->err), v->err);
}

/* Export and import `kind` as it is. */
static void exchanged(int32_t kind)
{
    double d[8 * ROWS];
    size_t n;
    CHECK_OK(cadft_loss_export(v->loss, kind, 0, 1, d, 8 * ROWS, &n, &v->err),
             v->err);
    CHECK_OK(cadft_loss_import(v->loss, kind, d, n, &v->err), v->err);
}

START_TEST(samples_that_no_export_has_written)
{
    static const double never[] = {NAN, INFINITY, -INFINITY, -1, -1e-300};
    begin();
    observe();
    for (size_t at = 0; at < 4 * SAMPLES; at++)
        for (int i = 0; i < 5; i++)
            spoilt(CADFT_EXCHANGE_SAMPLES, at, never[i], CADFT_E_ARG);
    spoilt(CADFT_EXCHANGE_SAMPLES, 1, 1, CADFT_E_ARG);   /* less than own */
    spoilt(CADFT_EXCHANGE_SAMPLES, 1, 2.5, CADFT_E_ARG); /* half a row */
    spoilt(CADFT_EXCHANGE_SAMPLES, 2, 0.5, CADFT_E_ARG);
    spoilt(CADFT_EXCHANGE_SAMPLES, 2, 3, CADFT_E_ARG);     /* more than all */
    spoilt(CADFT_EXCHANGE_SAMPLES, 1, 1e300, CADFT_E_ARG); /* beyond int64 */
    spoilt(CADFT_EXCHANGE_SAMPLES, 3, 1, CADFT_E_NONFINITE);
    exchanged(CADFT_EXCHANGE_SAMPLES);
    weigh();
    CHECK_OK(cadft_loss_end(v->loss, &v->report, &v->err), v->err);
    ck_assert_mem_eq(&v->report, &v->best_report, sizeof v->report);
    victim_alive(v, "absurd samples");
}
END_TEST

START_TEST(moments_that_no_export_has_written)
{
    static const double never[] = {NAN, INFINITY, -INFINITY, -1};
    begin();
    observe();
    for (size_t at = 0; at < 6; at++)
        for (int i = 0; i < 4; i++)
            spoilt(CADFT_EXCHANGE_MOMENTS, at, never[i], CADFT_E_ARG);
    for (size_t at = 0; at < 6; at++) {
        if (at == 1 || at == 2)
            continue; /* mean and M2 are no counts */
        spoilt(CADFT_EXCHANGE_MOMENTS, at, 3.5, CADFT_E_ARG);
        spoilt(CADFT_EXCHANGE_MOMENTS, at, 1e300, CADFT_E_ARG);
    }
    spoilt(CADFT_EXCHANGE_MOMENTS, 0, 2, CADFT_E_ARG); /* fewer than own */
    spoilt(CADFT_EXCHANGE_MOMENTS, 0, 0, CADFT_E_ARG);
    spoilt(CADFT_EXCHANGE_MOMENTS, 3, 5, CADFT_E_ARG);
    weigh();
    CHECK_OK(cadft_loss_end(v->loss, &v->report, &v->err), v->err);
    ck_assert_mem_eq(&v->report, &v->best_report, sizeof v->report);
    victim_alive(v, "absurd moments");
}
END_TEST

START_TEST(weights_that_no_export_has_written)
{
    static const double never[] = {NAN, INFINITY, -INFINITY, -1, 1e300, 2.5};
    set(CADFT_LOSS_RENORMALISE, 1);
    begin();
    observe();
    weigh();
    for (size_t at = 0; at < 2; at++)
        for (int i = 0; i < 6 - (int)at; i++) /* 2.5 may be a sum of w */
            spoilt(CADFT_EXCHANGE_WEIGHTS, at, never[i], CADFT_E_ARG);
    spoilt(CADFT_EXCHANGE_WEIGHTS, 1, 3.5, CADFT_E_ARG); /* w above 1 */
    cadft_loss_cancel(v->loss);
    set(CADFT_LOSS_RENORMALISE, 0);
    victim_alive(v, "absurd weights");
}
END_TEST

START_TEST(reports_that_no_export_has_written)
{
    static const double never[] = {NAN, INFINITY, -INFINITY};
    static const size_t counts[] = {3, 6, 9};
    begin();
    observe();
    weigh();
    for (size_t at = 0; at < 10; at++)
        for (int i = 0; i < 3; i++)
            spoilt(CADFT_EXCHANGE_REPORT, at, never[i], CADFT_E_ARG);
    for (int i = 0; i < 3; i++)
        spoilt(CADFT_EXCHANGE_REPORT, counts[i], -1, CADFT_E_ARG);
    CHECK_OK(cadft_loss_end(v->loss, &v->report, &v->err), v->err);
    ck_assert_mem_eq(&v->report, &v->best_report, sizeof v->report);
    victim_alive(v, "absurd reports");
}
END_TEST

/* --------------------------------------------------- vocabulary exchanges */

START_TEST(row_exchanges_are_due)
{
    double d[8 * ROWS] = {0};
    int64_t micro = -7;
    begin_sharded();
    for (int round = 0; round < 2; round++) {
        fresh(v);
        v->batch.vocab_total = 2 * COLS;
        REFUSE_ONLY(v, CADFT_E_PHASE, "exchange",
                    cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "exchange", cadft_loss_weigh(v->loss, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "exchange",
                    cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "end", cadft_loss_end(v->loss, NULL, e));
        REFUSE_ONLY(
            v, CADFT_E_PHASE, "due",
            cadft_loss_export(v->loss, 2 - round, 0, 1, d, 48, NULL, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "due",
                    cadft_loss_import(v->loss, 2 - round, d, ROWS, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "due",
                    cadft_loss_export(v->loss, 3, 0, 1, d, 48, NULL, e));
        REFUSE_ONLY(v, CADFT_E_SHAPE, "count",
                    cadft_loss_import(v->loss, 1 + round, d,
                                      ROWS * (round ? 8 : 1) - 1, e));
        if (round == 0)
            spoilt(CADFT_EXCHANGE_ROW_MAX, 0, NAN, CADFT_E_ARG);
    }
    ck_assert_int_eq(micro, -7);
    cadft_loss_cancel(v->loss);
    victim_alive(v, "row exchanges");
}
END_TEST

START_TEST(row_maxima_that_no_export_has_written)
{
    static const double never[] = {NAN, INFINITY, -INFINITY, -1e30};
    for (size_t at = 0; at < ROWS; at++)
        for (int i = 0; i < 4; i++) {
            begin_sharded();
            spoilt(CADFT_EXCHANGE_ROW_MAX, at, never[i], CADFT_E_ARG);
            cadft_loss_cancel(v->loss);
        }
    victim_alive(v, "absurd maxima");
}
END_TEST

/* Fields: rest, tops, z of the label, owners, t, z, unmasked, bad. */
START_TEST(row_sums_that_no_export_has_written)
{
    static const struct {
        size_t field;
        double value;
        int32_t want;
    } bad[] = {
        {0, NAN, CADFT_E_ARG},  {0, INFINITY, CADFT_E_ARG},
        {0, -0.5, CADFT_E_ARG}, {0, -3, CADFT_E_ARG},
        {1, NAN, CADFT_E_ARG},  {1, 0, CADFT_E_ARG},
        {1, 0.5, CADFT_E_ARG},  {1, -1, CADFT_E_ARG},
        {2, NAN, CADFT_E_ARG},  {2, INFINITY, CADFT_E_ARG},
        {2, 1e30, CADFT_E_ARG}, /* the label above the maximum */
        {3, 0, CADFT_E_LABEL},  {3, 2, CADFT_E_LABEL},
        {3, NAN, CADFT_E_ARG},  {4, -1, CADFT_E_ARG},
        {5, NAN, CADFT_E_ARG},  {6, -1, CADFT_E_ARG},
        {7, -1, CADFT_E_ARG},   {7, NAN, CADFT_E_ARG},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin_sharded();
        exchanged(CADFT_EXCHANGE_ROW_MAX);
        spoilt(CADFT_EXCHANGE_ROW_SUM, 8 * (i % ROWS) + bad[i].field,
               bad[i].value, bad[i].want);
        cadft_loss_cancel(v->loss);
    }
    victim_alive(v, "absurd sums");
}
END_TEST

START_TEST(shards_where_they_are_not_allowed)
{
    int64_t micro;
    fresh(v);
    v->batch.vocab_total = 2 * COLS;
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "shard", compute(v, e));
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "shard",
                cadft_loss_compute(v->loss, &v->batch, SAMPLES, &v->grad,
                                   v->scale, NULL, e));
    begin();
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "shard",
                cadft_loss_observe(v->loss, &v->batch, &v->grad, &micro, e));
    observe();
    weigh();
    v->batch.vocab_total = 2 * COLS;
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "shard",
                cadft_loss_grad(v->loss, -1, &v->batch, &v->grad, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "shards");
}
END_TEST

/* What was merged does not contain a micro-batch that comes later. */
START_TEST(observe_after_the_merge)
{
    for (int32_t kind = 3; kind <= 4; kind++) {
        int64_t micro = -7;
        begin();
        observe();
        exchanged(kind);
        REFUSE_ONLY(v, CADFT_E_PHASE, "observe",
                    cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
        cadft_loss_cancel(v->loss);
    }
    victim_alive(v, "a late micro-batch");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile_exchange");
    TCase *t = tcase_create("steps");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, exchange_arguments);
    tcase_add_test(t, import_counts);
    tcase_add_test(t, array_arguments);
    tcase_add_test(t, samples_that_no_export_has_written);
    tcase_add_test(t, moments_that_no_export_has_written);
    tcase_add_test(t, weights_that_no_export_has_written);
    tcase_add_test(t, reports_that_no_export_has_written);
    tcase_add_test(t, row_exchanges_are_due);
    tcase_add_test(t, row_maxima_that_no_export_has_written);
    tcase_add_test(t, row_sums_that_no_export_has_written);
    tcase_add_test(t, shards_where_they_are_not_allowed);
    tcase_add_test(t, observe_after_the_merge);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
