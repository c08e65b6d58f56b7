/* SPDX-License-Identifier: Apache-2.0 */
/* Bad contents of a batch that looks right: labels, sample ids, logits and
 * the host's coefficients. */
#include "hostile_batch.h"

/* ------------------------------------------------------- labels and ids */

START_TEST(labels_outside)
{
    static const int32_t labels[] = {COLS, -1, -99, -101, INT32_MAX, INT32_MIN};
    static const int rows[] = {0, ROWS / 2, ROWS - 1};
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < 6; i++)
            BATCH(CADFT_E_LABEL, "labels[", v->y[rows[r]] = labels[i]);
    BATCH(CADFT_E_LABEL, "labels[5]", v->batch.vocab_valid = 9,
          memset(v->y, 0, sizeof v->y), v->y[5] = 9);
}
END_TEST

START_TEST(wide_labels_outside)
{
    static const int64_t labels[] = {
        COLS,      (int64_t)1 << 32, ((int64_t)1 << 32) - 100,
        INT64_MAX, INT64_MIN,        -100 - ((int64_t)1 << 32)};
    static const int rows[] = {0, ROWS / 2, ROWS - 1};
    int64_t y[ROWS] = {0};
    for (int r = 0; r < 3; r++)
        for (int i = 0; i < 6; i++)
            BATCH(CADFT_E_LABEL, "labels[", memset(y, 0, sizeof y),
                  y[rows[r]] = labels[i], v->labels.data = y,
                  set_dtype(&v->labels, CADFT_DTYPE_I64));
}
END_TEST

START_TEST(sample_ids_outside)
{
    static const int rows[] = {0, ROWS / 2, ROWS - 1};
    for (int r = 0; r < 3; r++) {
        BATCH(CADFT_E_SAMPLE, "sample_ids[", v->s[rows[r]] = SAMPLES);
        BATCH(CADFT_E_SAMPLE, "sample_ids[", v->s[rows[r]] = INT32_MAX);
    }
    fresh(v); /* an id is checked even where the label is ignored */
    v->y[0] = -100;
    v->s[0] = SAMPLES;
    REFUSE(v, CADFT_E_SAMPLE, "sample_ids[0]", compute(v, e));
}
END_TEST

/* Any order and any negative value is fine. */
START_TEST(sample_ids_in_any_order)
{
    static const int32_t orders[][ROWS] = {
        {2, 1, 0, 2, 1, 0},       {2, 2, 1, 1, 0, 0},
        {0, 2, 0, 2, 0, 2},       {-1, 2, 1, 0, 1, 2},
        {-1, -1, -1, -1, -1, -1}, {INT32_MIN, 0, -5, 1, -100, 2}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        fresh(v);
        memcpy(v->s, orders[i], sizeof v->s);
        CHECK_OK(compute(v, &v->err), v->err);
    }
    victim_alive(v, "ids in another order");
}
END_TEST

static void poison(int row, float value)
{
    for (int c = 0; c < COLS; c++)
        ((float *)v->good->z)[row * COLS + c] = value;
}

/* NaN, +inf and rows of only -inf; phases and compute write nothing. */
START_TEST(nonfinite_logits)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int rows[] = {0, ROWS / 2, ROWS - 1};
    float keep[ROWS * COLS];
    int64_t micro = -7;
    memcpy(keep, v->good->z, sizeof keep);
    for (int i = 0; i < 9; i++) {
        fresh(v);
        poison(rows[i / 3], bad[i % 3]);
        REFUSE_ONLY(v, CADFT_E_NONFINITE, "row", compute(v, e));
        memcpy(v->good->z, keep, sizeof keep);
        weighed_step(0);
        poison(rows[i / 3], bad[i % 3]);
        REFUSE_ONLY(v, CADFT_E_NONFINITE, "row",
                    cadft_loss_observe(v->loss, &v->batch, NULL, &micro, e));
        CHECK_OK(cadft_loss_weigh(v->loss, &v->err), v->err);
        REFUSE_ONLY(v, CADFT_E_NONFINITE, "row",
                    cadft_loss_grad(v->loss, -1, &v->batch, &v->grad, e));
        end_step();
        memcpy(v->good->z, keep, sizeof keep);
        victim_alive(v, "a non-finite row");
    }
}
END_TEST

/* ------------------------------------------------------------- k, samples */

START_TEST(host_coefficients)
{
    cadft_loss_set_i64(v->loss, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_HOST,
                       NULL);
#define K(want, name, ...)                                                     \
    do {                                                                       \
        fresh(v);                                                              \
        v->batch.k = &v->k;                                                    \
        __VA_ARGS__;                                                           \
        REFUSE_ONLY(v, want, name, compute(v, e));                             \
        REFUSE_ONLY(v, want, name,                                             \
                    cadft_loss_compute(v->loss, &v->batch, SAMPLES, &v->grad,  \
                                       v->scale, NULL, e));                    \
    } while (0)
    K(CADFT_E_NULL, "k", v->batch.k = NULL);
    K(CADFT_E_NULL, "k.data", v->k.data = NULL);
    K(CADFT_E_NULL, "k.shape", v->k.shape = NULL);
    K(CADFT_E_ARG, "k.struct_size", v->k.struct_size = 1);
    K(CADFT_E_DTYPE, "k", set_dtype(&v->k, CADFT_DTYPE_F16));
    K(CADFT_E_DTYPE, "k", set_dtype(&v->k, CADFT_DTYPE_I64));
    K(CADFT_E_SHAPE, "k", v->k.shape = DIMS(ROWS + 1));
    K(CADFT_E_SHAPE, "k", v->k.strides = DIMS(0));
    K(CADFT_E_ALIGN, "k", v->k.byte_offset = 4);
    K(CADFT_E_DEVICE, "k", v->k.device_type = 2);
    K(CADFT_E_NONFINITE, "k[0]", v->k_values[0] = NAN);
    K(CADFT_E_NONFINITE, "k[5]", v->k_values[5] = INFINITY);
    K(CADFT_E_NONFINITE, "k[3]", v->k_values[3] = -INFINITY);
#undef K
    fresh(v); /* not read where the row does not count */
    v->batch.k = &v->k;
    v->k_values[2] = NAN;
    v->s[2] = -1;
    CHECK_OK(compute(v, &v->err), v->err);
    cadft_loss_set_i64(v->loss, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_DFT,
                       NULL);
    victim_alive(v, "bad coefficients");
}
END_TEST

START_TEST(sample_counts)
{
    REFUSE(v, CADFT_E_ARG, "n_samples", cadft_loss_begin(v->loss, -1, e));
    REFUSE(v, CADFT_E_ARG, "n_samples",
           cadft_loss_begin(v->loss, (int64_t)INT32_MAX + 1, e));
    REFUSE(v, CADFT_E_ARG, "n_samples",
           cadft_loss_begin(v->loss, INT64_MAX, e));
    REFUSE(v, CADFT_E_ARG, "n_samples",
           cadft_loss_begin(v->loss, INT64_MIN, e));
    REFUSE(v, CADFT_E_NOMEM, "bytes", cadft_loss_begin(v->loss, INT32_MAX, e));
    fresh(v);
    v->n_samples = 0;
    REFUSE(v, CADFT_E_SAMPLE, "sample_ids[0]", compute(v, e));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile_rows");
    TCase *t = tcase_create("rows");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, labels_outside);
    tcase_add_test(t, wide_labels_outside);
    tcase_add_test(t, sample_ids_outside);
    tcase_add_test(t, sample_ids_in_any_order);
    tcase_add_test(t, nonfinite_logits);
    tcase_add_test(t, host_coefficients);
    tcase_add_test(t, sample_counts);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
