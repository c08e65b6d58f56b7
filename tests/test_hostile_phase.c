/* SPDX-License-Identifier: Apache-2.0 */
/* Calls out of phase, and knobs turned at the wrong time. */
#include "hostile_steps.h"

/* ---------------------------------------------------------------- phases */

START_TEST(calls_between_steps)
{
    int64_t micro = -7;
    double d[64];
    cadft_loss_cancel(v->loss);
    REFUSE(v, CADFT_E_PHASE, "observe",
           cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
    REFUSE(v, CADFT_E_PHASE, "weigh", cadft_loss_weigh(v->loss, e));
    REFUSE(v, CADFT_E_PHASE, "grad",
           cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
    REFUSE(v, CADFT_E_PHASE, "end", cadft_loss_end(v->loss, NULL, e));
    for (int32_t kind = 1; kind <= 6; kind++) {
        REFUSE(v, CADFT_E_PHASE, "exchange",
               cadft_loss_export(v->loss, kind, 0, 1, d, 64, NULL, e));
        REFUSE(v, CADFT_E_PHASE, "exchange",
               cadft_loss_import(v->loss, kind, d, 12, e));
    }
    ck_assert_int_eq(micro, -7);
}
END_TEST

/* A new loss has no step to read, nor has one whose step was cancelled. */
START_TEST(arrays_without_a_step)
{
    cadft_loss *loss;
    double d = 5;
    size_t n;
    CHECK_OK(cadft_loss_create(v->context, &loss, &v->err), v->err);
    for (int round = 0; round < 2; round++) {
        REFUSE(v, CADFT_E_PHASE, "micro",
               cadft_loss_get_rows(loss, 0, CADFT_ROWS_P, &d, 1, &n, e));
        REFUSE(v, CADFT_E_PHASE, "step",
               cadft_loss_get_samples(loss, CADFT_SAMPLES_C, &d, 1, &n, e));
        CHECK_OK(cadft_loss_begin(loss, 1, &v->err), v->err);
        cadft_loss_cancel(loss);
    }
    ck_assert(d == 5);
    cadft_loss_destroy(loss);
}
END_TEST

START_TEST(calls_before_weigh)
{
    double d[16];
    begin();
    observe();
    REFUSE_ONLY(v, CADFT_E_PHASE, "begin", cadft_loss_begin(v->loss, 1, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "begin", compute(v, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "grad",
                cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "end", cadft_loss_end(v->loss, NULL, e));
    REFUSE_ONLY(
        v, CADFT_E_PHASE, "weights",
        cadft_loss_get_rows(v->loss, 0, CADFT_ROWS_SCALE, d, 16, NULL, e));
    REFUSE_ONLY(
        v, CADFT_E_PHASE, "weights",
        cadft_loss_get_samples(v->loss, CADFT_SAMPLES_W, d, 16, NULL, e));
    for (int32_t kind = 1; kind <= 6; kind++) {
        if (kind == CADFT_EXCHANGE_SAMPLES || kind == CADFT_EXCHANGE_MOMENTS)
            continue;
        REFUSE_ONLY(v, CADFT_E_PHASE, "",
                    cadft_loss_export(v->loss, kind, 0, 1, d, 16, NULL, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "",
                    cadft_loss_import(v->loss, kind, d, 12, e));
    }
    weigh();
    CHECK_OK(cadft_loss_end(v->loss, &v->report, &v->err), v->err);
    ck_assert_mem_eq(&v->report, &v->best_report, sizeof v->report);
    victim_alive(v, "phases");
}
END_TEST

START_TEST(calls_after_weigh)
{
    int64_t micro = -7;
    double d[16] = {0};
    begin();
    observe();
    weigh();
    REFUSE_ONLY(v, CADFT_E_PHASE, "observe",
                cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "weigh", cadft_loss_weigh(v->loss, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "statistics",
                cadft_loss_export(v->loss, 3, 0, 1, d, 16, NULL, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "statistics",
                cadft_loss_import(v->loss, 4, d, 6, e));
    CHECK_OK(cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, &v->err), v->err);
    REFUSE_ONLY(v, CADFT_E_PHASE, "gradient",
                cadft_loss_import(v->loss, CADFT_EXCHANGE_WEIGHTS, d, 2, e));
    ck_assert_int_eq(micro, -7);
    cadft_loss_cancel(v->loss);
    victim_alive(v, "phases");
}
END_TEST

START_TEST(knobs_inside_a_step)
{
    static const int32_t i64[] = {1, 2, 5, 6, 8, 9, 10, 13, 14};
    static const int32_t f64[] = {3, 4, 7, 15, 16, 17, 18, 19, 20, 21};
    begin();
    for (size_t i = 0; i < sizeof i64 / sizeof *i64; i++) {
        REFUSE_ONLY(v, CADFT_E_PHASE, "step",
                    cadft_loss_set_i64(v->loss, i64[i], 0, e));
        REFUSE_ONLY(v, CADFT_E_PHASE, "step",
                    cadft_loss_set_str(v->loss, i64[i], "0", e));
    }
    for (size_t i = 0; i < sizeof f64 / sizeof *f64; i++)
        REFUSE_ONLY(v, CADFT_E_PHASE, "step",
                    cadft_loss_set_f64(v->loss, f64[i], 0, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "step",
                cadft_loss_set_coefficient(v->loss, NULL, e));
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_DENOMINATOR, 4, &v->err),
             v->err);
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_DENOMINATOR, 0, &v->err),
             v->err);
    observe();
    weigh();
    REFUSE_ONLY(v, CADFT_E_PHASE, "denominator",
                cadft_loss_set_f64(v->loss, CADFT_LOSS_DENOMINATOR, 4, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "knobs");
}
END_TEST

START_TEST(micro_batches_that_are_not_there)
{
    static const int64_t numbers[] = {1, 2, -2, INT64_MAX, INT64_MIN};
    double d[ROWS];
    begin();
    observe();
    weigh();
    for (int i = 0; i < 5; i++) {
        REFUSE_ONLY(
            v, CADFT_E_ARG, "micro",
            cadft_loss_grad(v->loss, numbers[i], &v->batch, &v->grad, e));
        REFUSE_ONLY(
            v, CADFT_E_ARG, "micro",
            cadft_loss_get_rows(v->loss, numbers[i], 1, d, ROWS, NULL, e));
    }
    REFUSE_ONLY(v, CADFT_E_ARG, "micro",
                cadft_loss_get_rows(v->loss, -1, 1, d, ROWS, NULL, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "micro-batches");
}
END_TEST

/* Logits that cannot be those observed. */
START_TEST(grad_of_other_logits)
{
    int64_t shape[2] = {ROWS / 2, COLS};
    begin();
    observe();
    weigh();
    v->logits.shape = v->grad.shape = shape;
    v->labels.shape = v->ids.shape = shape;
    REFUSE_ONLY(v, CADFT_E_SHAPE, "micro-batch 0",
                cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
    fresh(v);
    v->batch.vocab_valid = COLS - 1;
    memset(v->y, 0, sizeof v->y);
    REFUSE_ONLY(v, CADFT_E_SHAPE, "micro-batch 0",
                cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
    fresh(v); /* a shard, where the whole was observed */
    v->batch.vocab_total = 2 * COLS;
    v->batch.vocab_start = COLS;
    REFUSE_ONLY(v, CADFT_E_SHAPE, "micro-batch 0",
                cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, e));
    cadft_loss_cancel(v->loss);
    victim_alive(v, "other logits");
}
END_TEST

START_TEST(unit_gradient_takes_no_other)
{
    int64_t micro;
    begin();
    fresh(v);
    CHECK_OK(cadft_loss_observe(v->loss, &v->batch, &v->grad, &micro, &v->err),
             v->err);
    weigh();
    REFUSE_ONLY(v, CADFT_E_PHASE, "unit",
                cadft_loss_grad(v->loss, micro, &v->batch, &v->grad, e));
    cadft_loss_cancel(v->loss);
    fresh(v);
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_Z_LOSS, 0.1, &v->err),
             v->err);
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "z_loss",
                cadft_loss_compute(v->loss, &v->batch, SAMPLES, &v->grad,
                                   v->scale, NULL, e));
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_Z_LOSS, 0, &v->err),
             v->err);
    victim_alive(v, "unit gradients");
}
END_TEST

/* One pass scopes: counts unknown, samples spread over two weighs. */
START_TEST(one_pass_scopes)
{
    int64_t micro = -7;
    set(CADFT_LOSS_SCOPE, CADFT_SCOPE_LOCAL);
    begin();
    observe();
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "denominator",
                cadft_loss_weigh(v->loss, e));
    cadft_loss_cancel(v->loss);
    set(CADFT_LOSS_REDUCTION, CADFT_REDUCTION_SUM);
    set(CADFT_LOSS_RENORMALISE, 1);
    begin();
    observe();
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "renormalise",
                cadft_loss_weigh(v->loss, e));
    cadft_loss_cancel(v->loss);
    set(CADFT_LOSS_RENORMALISE, 0);
    begin();
    observe();
    weigh();
    REFUSE_ONLY(v, CADFT_E_SAMPLE, "sample_ids[0]",
                cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
    cadft_loss_cancel(v->loss);
    set(CADFT_LOSS_SCOPE, CADFT_SCOPE_EXACT);
    set(CADFT_LOSS_REDUCTION, CADFT_REDUCTION_TOKEN_MEAN);
    victim_alive(v, "one-pass scopes");
}
END_TEST

/* What a step did does not change when a knob is set for the next. */
START_TEST(arrays_after_end_keep_their_knobs)
{
    double before[2][ROWS], after[2][ROWS];
    CHECK_OK(compute(v, &v->err), v->err);
    for (int round = 0; round < 2; round++) {
        double(*out)[ROWS] = round ? after : before;
        CHECK_OK(cadft_loss_get_rows(v->loss, 0, CADFT_ROWS_SCALE, out[0], ROWS,
                                     NULL, &v->err),
                 v->err);
        CHECK_OK(cadft_loss_get_samples(v->loss, CADFT_SAMPLES_W, out[1], ROWS,
                                        NULL, &v->err),
                 v->err);
        CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_GRAD_SCALE,
                                    round ? 1 : 2, &v->err),
                 v->err);
        CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_DENOMINATOR,
                                    round ? 0 : 7, &v->err),
                 v->err);
        set(CADFT_LOSS_RENORMALISE, !round);
    }
    ck_assert_mem_eq(before[0], after[0], sizeof before[0]);
    ck_assert_mem_eq(before[1], after[1], SAMPLES * sizeof before[1][0]);
    victim_alive(v, "knobs of the next step");
}
END_TEST

/* Autograd knows the loss before the gradient and its scale after: report and
 * the rows' loss are there from weigh on, and gradients written from then on
 * have the scale. */
START_TEST(loss_before_gradient)
{
    double rows[ROWS], sum = 0;
    cadft_loss_report early = {.struct_size = sizeof early};
    cadft_loss_report small = {.struct_size = 8};
    float *grad = v->arena + CANARY;
    begin();
    observe();
    REFUSE_ONLY(v, CADFT_E_PHASE, "weigh",
                cadft_loss_get_report(v->loss, &early, e));
    weigh();
    CHECK_OK(cadft_loss_get_report(v->loss, &early, &v->err), v->err);
    ck_assert_mem_eq(&early, &v->best_report, sizeof early);
    CHECK_OK(cadft_loss_get_rows(v->loss, 0, CADFT_ROWS_LOSS, rows, ROWS, NULL,
                                 &v->err),
             v->err);
    for (int r = 0; r < ROWS; r++)
        sum += rows[r];
    ck_assert(early.loss > 0);
    ck_assert_double_eq(sum, early.loss);
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_GRAD_SCALE, 2, &v->err),
             v->err);
    CHECK_OK(cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, &v->err), v->err);
    for (int i = 0; i < ROWS * COLS; i++)
        ck_assert_float_eq(grad[i], 2 * v->best[i]);
    CHECK_OK(cadft_loss_end(v->loss, &v->report, &v->err), v->err);
    ck_assert_mem_eq(&v->report, &v->best_report, sizeof early);
    CHECK_OK(cadft_loss_get_report(v->loss, &early, &v->err), v->err);
    ck_assert_mem_eq(&early, &v->best_report, sizeof early);
    CHECK_OK(cadft_loss_set_f64(v->loss, CADFT_LOSS_GRAD_SCALE, 1, &v->err),
             v->err);
    REFUSE(v, CADFT_E_NULL, "report", cadft_loss_get_report(v->loss, NULL, e));
    REFUSE(v, CADFT_E_ARG, "struct_size",
           cadft_loss_get_report(v->loss, &small, e));
    victim_alive(v, "report before end");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile_phase");
    TCase *t = tcase_create("phases");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, calls_between_steps);
    tcase_add_test(t, arrays_without_a_step);
    tcase_add_test(t, calls_before_weigh);
    tcase_add_test(t, calls_after_weigh);
    tcase_add_test(t, knobs_inside_a_step);
    tcase_add_test(t, loss_before_gradient);
    tcase_add_test(t, micro_batches_that_are_not_there);
    tcase_add_test(t, grad_of_other_logits);
    tcase_add_test(t, unit_gradient_takes_no_other);
    tcase_add_test(t, one_pass_scopes);
    tcase_add_test(t, arrays_after_end_keep_their_knobs);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
