/* SPDX-License-Identifier: Apache-2.0 */
/* The loss as its header documents it: knobs, phases, getters, label offset,
 * sample ids, callbacks. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loss_stage.h"

enum { I64 = 0, F64 = 1 };

/* ------------------------------------------------------------------- knobs */

#define BELOW_1 (1 - DBL_EPSILON / 2)
#define EXACT_I64 9007199254740992.0

static const struct knob {
    int32_t key, type;
    const char *name;
    double smallest, largest, standard;
    const char *values[9]; /* names of 0, 1, ... */
} knobs[] = {
    {CADFT_LOSS_OBJECTIVE,
     I64,
     "objective",
     0,
     7,
     1,
     {"sft", "dft", "dft_nosg", "power", "focal", "eaft", "infosft", "host"}},
    {CADFT_LOSS_WEIGHTING, I64, "weighting", 0, 1, 1, {0}},
    {CADFT_LOSS_BETA, F64, "beta", 0, DBL_MAX, 1, {0}},
    {CADFT_LOSS_EPS, F64, "eps", 0, DBL_MAX, 1e-6, {0}},
    {CADFT_LOSS_DDOF, I64, "ddof", 0, 1, 0, {0}},
    {CADFT_LOSS_SCOPE, I64, "scope", 0, 2, 0, {"exact", "running", "local"}},
    {CADFT_LOSS_RUNNING_DECAY, F64, "running_decay", 0, BELOW_1, 0.9, {0}},
    {CADFT_LOSS_RENORMALISE, I64, "renormalise", 0, 1, 0, {0}},
    {CADFT_LOSS_NONFINITE, I64, "nonfinite", 0, 1, 0, {"error", "skip"}},
    {CADFT_LOSS_REDUCTION,
     I64,
     "reduction",
     0,
     3,
     0,
     {"token_mean", "sample_sum", "sample_mean", "sum"}},
    {CADFT_LOSS_DENOMINATOR, F64, "denominator", 0, DBL_MAX, 0, {0}},
    {CADFT_LOSS_GRAD_SCALE, F64, "grad_scale", -DBL_MAX, DBL_MAX, 1, {0}},
    {CADFT_LOSS_IGNORE_INDEX,
     I64,
     "ignore_index",
     -EXACT_I64,
     EXACT_I64,
     -100,
     {0}},
    {CADFT_LOSS_LABEL_OFFSET, I64, "label_offset", 0, 1, 0, {0}},
    {CADFT_LOSS_Z_LOSS, F64, "z_loss", 0, DBL_MAX, 0, {0}},
    {CADFT_LOSS_LABEL_SMOOTHING, F64, "label_smoothing", 0, BELOW_1, 0, {0}},
    {CADFT_LOSS_SOFTCAP, F64, "softcap", 0, FLT_MAX, 0, {0}},
    {CADFT_LOSS_POWER_Q, F64, "power_q", 0, 16, 0.7, {0}},
    {CADFT_LOSS_FOCAL_GAMMA, F64, "focal_gamma", 0, 16, 2, {0}},
    {CADFT_LOSS_EAFT_ALPHA, F64, "eaft_alpha", 0, 16, 1, {0}},
    {CADFT_LOSS_INFOSFT_TARGET,
     F64,
     "infosft_target",
     DBL_MIN,
     BELOW_1,
     0.93,
     {0}},
};

enum { KNOBS = sizeof knobs / sizeof knobs[0] };

/* A knob's value, whatever its type. */
static double get(cadft_loss *loss, const struct knob *knob)
{
    cadft_error err = support_error();
    int64_t whole = 0;
    double real = 0;
    if (knob->type == F64) {
        CHECK_OK(cadft_loss_get_f64(loss, knob->key, &real, &err), err);
        return real;
    }
    CHECK_OK(cadft_loss_get_i64(loss, knob->key, &whole, &err), err);
    return (double)whole;
}

static int32_t
put(cadft_loss *loss, const struct knob *knob, double value, cadft_error *err)
{
    return knob->type == F64
               ? cadft_loss_set_f64(loss, knob->key, value, err)
               : cadft_loss_set_i64(loss, knob->key, (int64_t)value, err);
}

START_TEST(keys_and_defaults)
{
    cadft_loss *loss = new_loss();
    for (int i = 0; i < KNOBS; i++) {
        const struct knob *k = &knobs[i];
        cadft_error err = support_error();
        int32_t key = 0, type = -1;
        double lo = NAN, hi = NAN, standard = NAN;
        CHECK_OK(cadft_loss_key(k->name, &key, &err), err);
        ck_assert_int_eq(key, k->key);
        ck_assert_int_eq(key, i + 1); /* no key is missing here */
        CHECK_OK(cadft_loss_bounds(key, &type, &lo, &hi, &standard, &err), err);
        ck_assert_int_eq(type, k->type);
        ck_assert_double_eq(lo, k->smallest);
        ck_assert_double_eq(hi, k->largest);
        ck_assert_double_eq(standard, k->standard);
        CHECK_OK(cadft_loss_bounds(key, NULL, NULL, NULL, NULL, &err), err);
        ck_assert_double_eq(get(loss, k), k->standard);
    }
    cadft_loss_destroy(loss);
}
END_TEST

/* Refused: the status, a sentence with the knob's name, and no change. */
static void refused(cadft_loss *loss, const struct knob *k, double value)
{
    cadft_error err = support_error();
    double before = get(loss, k);
    CHECK_STATUS(put(loss, k, value, &err), CADFT_E_ARG, err);
    ck_assert_msg(strstr(err.message, k->name) != NULL, "%s", err.message);
    ck_assert_int_eq(err.code, CADFT_E_ARG);
    ck_assert_double_eq(get(loss, k), before);
}

START_TEST(bounds_hold)
{
    cadft_loss *loss = new_loss();
    for (int i = 0; i < KNOBS; i++) {
        const struct knob *k = &knobs[i];
        cadft_error err = support_error();
        CHECK_OK(put(loss, k, k->smallest, &err), err);
        ck_assert_double_eq(get(loss, k), k->smallest);
        CHECK_OK(put(loss, k, k->largest, &err), err);
        ck_assert_double_eq(get(loss, k), k->largest);
        if (k->type == F64) {
            refused(loss, k, nextafter(k->smallest, -INFINITY));
            refused(loss, k, nextafter(k->largest, INFINITY));
            refused(loss, k, NAN);
            refused(loss, k, INFINITY);
            refused(loss, k, -INFINITY);
            continue;
        }
        for (int64_t past = 1; past < 3; past++) {
            int64_t low = (int64_t)k->smallest - past;
            int64_t high = (int64_t)k->largest + past;
            CHECK_STATUS(cadft_loss_set_i64(loss, k->key, low, &err),
                         CADFT_E_ARG, err);
            CHECK_STATUS(cadft_loss_set_i64(loss, k->key, high, &err),
                         CADFT_E_ARG, err);
        }
        ck_assert_double_eq(get(loss, k), k->largest);
    }
    cadft_loss_destroy(loss);
}
END_TEST

/* Unknown keys and types that do not fit: test_hostile.c. */
START_TEST(names_are_exact)
{
    static const char *const wrong[] = {"", "bet", "betaa", "BETA", " beta"};
    cadft_error err = support_error();
    int32_t key = 7;
    for (int i = 0; i < 5; i++)
        CHECK_STATUS(cadft_loss_key(wrong[i], &key, &err), CADFT_E_KEY, err);
    ck_assert_int_eq(key, 7);
}
END_TEST

/* -------------------------------------------------------------------- texts */

static void round_trip(cadft_loss *loss, const struct knob *k, double value)
{
    cadft_error err = support_error();
    char text[64], again[64];
    size_t needed = 0;
    CHECK_OK(put(loss, k, value, &err), err);
    CHECK_OK(cadft_loss_get_str(loss, k->key, text, sizeof text, &needed, &err),
             err);
    ck_assert_uint_eq(needed, strlen(text) + 1);
    ck_assert_msg(strchr(text, ',') == NULL, "%s", text);
    CHECK_OK(put(loss, k, k->standard, &err), err);
    CHECK_OK(cadft_loss_set_str(loss, k->key, text, &err), err);
    ck_assert_msg(get(loss, k) == value, "%s: %.17g came back from \"%s\"",
                  k->name, value, text);
    CHECK_OK(cadft_loss_get_str(loss, k->key, again, needed, NULL, &err), err);
    ck_assert_str_eq(text, again);
    CHECK_STATUS(
        cadft_loss_get_str(loss, k->key, again, needed - 1, &needed, &err),
        CADFT_E_SPACE, err);
    ck_assert_uint_eq(needed, strlen(text) + 1);
    CHECK_OK(cadft_loss_get_str(loss, k->key, NULL, 0, &needed, &err), err);
}

static void bad_text(cadft_loss *loss, int32_t key, const char *text)
{
    cadft_error err = support_error();
    ck_assert_msg(cadft_loss_set_str(loss, key, text, &err) == CADFT_E_ARG,
                  "key %d took \"%s\"", key, text);
}

static void texts_in_this_locale(void)
{
    static const char *const bad[] = {"",    "x",     "1,5", "0.5x", "nan",
                                      "inf", "1e999", "-",   "."};
    cadft_loss *loss = new_loss();
    cadft_error err = support_error();
    for (int i = 0; i < KNOBS; i++) {
        const struct knob *k = &knobs[i];
        round_trip(loss, k, k->smallest);
        round_trip(loss, k, k->largest);
        round_trip(loss, k, k->standard);
        for (int j = 0; k->type == F64 && j < 20; j++)
            round_trip(loss, k, fmax(k->smallest, support_uniform()));
        for (int j = 0; j < (int)(sizeof bad / sizeof bad[0]); j++)
            bad_text(loss, k->key, bad[j]);
        for (int j = 0; k->values[j]; j++) {
            char text[32];
            CHECK_OK(cadft_loss_set_str(loss, k->key, k->values[j], &err), err);
            ck_assert_double_eq(get(loss, k), j);
            CHECK_OK(cadft_loss_get_str(loss, k->key, text, 32, NULL, &err),
                     err);
            ck_assert_str_eq(text, k->values[j]);
        }
        CHECK_STATUS(cadft_loss_set_str(loss, k->key, NULL, &err), CADFT_E_NULL,
                     err);
    }
    bad_text(loss, CADFT_LOSS_IGNORE_INDEX, "1.5");
    bad_text(loss, CADFT_LOSS_IGNORE_INDEX, "99999999999999999999");
    bad_text(loss, CADFT_LOSS_OBJECTIVE, "SFT");
    bad_text(loss, CADFT_LOSS_OBJECTIVE, "sft dft");
    bad_text(loss, CADFT_LOSS_OBJECTIVE, "8");
    CHECK_OK(cadft_loss_set_str(loss, CADFT_LOSS_BETA, "2.5", &err), err);
    ck_assert_double_eq(get(loss, &knobs[CADFT_LOSS_BETA - 1]), 2.5);
    cadft_loss_destroy(loss);
}

/* A comma locale must not reach the library's numbers; where none is
 * installed there is nothing to try. */
START_TEST(texts)
{
    static const char *const comma[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE",
                                        "fr_FR.UTF-8"};
    texts_in_this_locale();
    for (int i = 0; i < 4; i++)
        if (setlocale(LC_ALL, comma[i])) {
            texts_in_this_locale();
            ck_assert_str_eq(setlocale(LC_ALL, NULL), comma[i]);
        }
    setlocale(LC_ALL, "C");
}
END_TEST

/* ------------------------------------------------------------------- phases */

/* Cancelled, a loss is as good as new, whatever came before. */
static void still_works(struct stage *s)
{
    cadft_error err = support_error();
    cadft_loss_cancel(s->loss);
    CHECK_OK(cadft_loss_compute(s->loss, &s->b->batch, SAMPLES, NULL, NULL,
                                NULL, &err),
             err);
}

START_TEST(every_call_in_every_phase)
{
    for (int call = 0; call < CALLS; call++)
        for (int phase = 0; allowed[call] && phase < PHASES; phase++) {
            struct stage s = stage_new((enum phase)phase);
            cadft_error err = support_error();
            char want = allowed[call][phase];
            int32_t status = try_call(&s, (enum call)call, &err);
            ck_assert_msg(status == (want == 'o'   ? CADFT_OK
                                     : want == 'p' ? CADFT_E_PHASE
                                                   : CADFT_E_ARG),
                          "call %d in phase %d: %s %s", call, phase,
                          cadft_status_string(status), err.message);
            ck_assert_int_eq(err.code, status);
            ck_assert(status == CADFT_OK || err.message[0]);
            still_works(&s);
            stage_free(&s);
        }
}
END_TEST

/* What could be read before end can be read after it, and after a cancel or
 * a failed begin, until the next step starts. */
START_TEST(arrays_outlive_the_step)
{
    struct stage s = stage_new(WEIGHED);
    double before[ROWS], after[ROWS];
    cadft_error err = support_error();
    for (int round = 0; round < 3; round++)
        for (int32_t what = CADFT_ROWS_NLL; what <= CADFT_ROWS_LOSS; what++) {
            if (round == 0 && what == CADFT_ROWS_NLL)
                CHECK_OK(cadft_loss_get_rows(s.loss, 0, CADFT_ROWS_LOSS, before,
                                             ROWS, NULL, &err),
                         err);
            if (round == 1 && what == CADFT_ROWS_NLL) {
                CHECK_OK(cadft_loss_end(s.loss, NULL, &err), err);
                CHECK_STATUS(cadft_loss_end(s.loss, NULL, &err), CADFT_E_PHASE,
                             err);
            }
            if (round == 2 && what == CADFT_ROWS_NLL) {
                cadft_loss_cancel(s.loss);
                CHECK_STATUS(cadft_loss_begin(s.loss, -1, &err), CADFT_E_ARG,
                             err);
            }
            CHECK_OK(
                cadft_loss_get_rows(s.loss, 0, what, after, ROWS, NULL, &err),
                err);
        }
    ck_assert_mem_eq(before, after, sizeof before);
    CHECK_OK(cadft_loss_begin(s.loss, SAMPLES, &err), err);
    CHECK_STATUS(
        cadft_loss_get_rows(s.loss, 0, CADFT_ROWS_NLL, after, ROWS, NULL, &err),
        CADFT_E_ARG, err);
    cadft_loss_cancel(NULL);
    stage_free(&s);
}
END_TEST

/* Before weigh chat is unknown; a micro-batch of no rows changes nothing. */
START_TEST(empty_micro_batches)
{
    for (int host = 0; host < 2; host++) {
        struct stage s = stage_new(NEW);
        support_batch *none = support_batch_new(0, COLS, CADFT_DTYPE_F32, 1, 1);
        cadft_loss_report report = {.struct_size = sizeof report};
        cadft_error err = support_error();
        cadft_tensor k;
        int64_t micro;
        cadft_tensor_init(&k, sizeof k, NULL, CADFT_DTYPE_F32, 1,
                          none->row_shape, NULL, NULL);
        if (host) {
            none->batch.k = &k;
            CHECK_OK(
                cadft_loss_set_str(s.loss, CADFT_LOSS_OBJECTIVE, "host", &err),
                err);
        }
        CHECK_OK(cadft_loss_begin(s.loss, 0, &err), err);
        CHECK_OK(cadft_loss_observe(s.loss, &none->batch, NULL, &micro, &err),
                 err);
        CHECK_OK(cadft_loss_weigh(s.loss, &err), err);
        CHECK_OK(
            cadft_loss_grad(s.loss, micro, &none->batch, &none->logits, &err),
            err);
        CHECK_OK(cadft_loss_grad(s.loss, -1, &none->batch, &none->logits, &err),
                 err);
        CHECK_OK(cadft_loss_end(s.loss, &report, &err), err);
        ck_assert_double_eq(report.loss, 0);
        ck_assert_int_eq(report.n_samples, 0);
        support_batch_free(none);
        stage_free(&s);
    }
}
END_TEST

/* ------------------------------------------------------------- label offset */

/* Labels as the host has them and offset 1, against labels moved by hand. */
START_TEST(label_offset)
{
    for (int round = 0; round < 30; round++) {
        int64_t sequences = 1 + support_below(4), length = 1 + support_below(9);
        int64_t rows = sequences * length, shape[2] = {sequences, length};
        support_batch *a = support_batch_new(rows, COLS, CADFT_DTYPE_F32, 3, 2);
        support_batch *b = support_batch_copy(a);
        cadft_loss *loss = new_loss();
        cadft_error err = support_error();
        for (int64_t r = 0; r < rows; r++) {
            int last = (r + 1) % length == 0 || b->ids[r + 1] != b->ids[r];
            b->y[r] = last ? -100 : a->y[r + 1];
        }
        cadft_tensor_init(&a->labels, sizeof a->labels, a->y, CADFT_DTYPE_I32,
                          2, shape, NULL, NULL);
        CHECK_OK(cadft_loss_compute(loss, &b->batch, 3, &b->logits, NULL, NULL,
                                    &err),
                 err);
        CHECK_OK(cadft_loss_set_i64(loss, CADFT_LOSS_LABEL_OFFSET, 1, &err),
                 err);
        CHECK_OK(cadft_loss_compute(loss, &a->batch, 3, &a->logits, NULL, NULL,
                                    &err),
                 err);
        ck_assert_mem_eq(a->z, b->z, (size_t)(rows * COLS) * sizeof(float));
        support_batch_free(a);
        support_batch_free(b);
        cadft_loss_destroy(loss);
    }
}
END_TEST

/* --------------------------------------------------------------- sample ids */

/* A tensor of integers, int32 or int64, of the same values. */
struct integers {
    int64_t shape[2], wide[32];
    int32_t narrow[32];
    cadft_tensor tensor;
};

static const cadft_tensor *integers(struct integers *v,
                                    int is_wide,
                                    const int64_t *values,
                                    int64_t rows,
                                    int64_t cols)
{
    int64_t n = rows * (cols ? cols : 1);
    v->shape[0] = rows;
    v->shape[1] = cols;
    for (int64_t i = 0; i < n; i++) {
        v->wide[i] = values[i];
        v->narrow[i] = (int32_t)values[i];
    }
    cadft_tensor_init(&v->tensor, sizeof v->tensor,
                      is_wide ? (void *)v->wide : (void *)v->narrow,
                      is_wide ? CADFT_DTYPE_I64 : CADFT_DTYPE_I32, cols ? 2 : 1,
                      v->shape, NULL, NULL);
    return &v->tensor;
}

static void same_ids(const int32_t *got, const int32_t *want, int n)
{
    for (int i = 0; i < n; i++)
        ck_assert_msg(got[i] == want[i], "id %d is %d, expected %d", i, got[i],
                      want[i]);
    ck_assert_int_eq(got[n], 77); /* nothing behind them */
}

static int32_t *fresh(int32_t *ids)
{
    for (int i = 0; i < 32; i++)
        ids[i] = 77;
    return ids;
}

START_TEST(ids_of_padded_rows)
{
    static const int64_t lengths[] = {2, 0, 4};
    static const int32_t want[] = {5, 5, -1, -1, -1, -1, -1, -1, 7, 7, 7, 7};
    static const int32_t full[] = {0, 0, 0, 1, 1, 1};
    struct integers v;
    cadft_error err = support_error();
    int32_t ids[32];
    for (int w = 0; w < 2; w++) {
        CHECK_OK(cadft_sample_ids_padded(3, 4, integers(&v, w, lengths, 3, 0),
                                         5, fresh(ids), &err),
                 err);
        same_ids(ids, want, 12);
    }
    CHECK_OK(cadft_sample_ids_padded(2, 3, NULL, 0, fresh(ids), &err), err);
    same_ids(ids, full, 6);
    CHECK_OK(cadft_sample_ids_padded(0, 3, NULL, 0, NULL, &err), err);
    CHECK_OK(cadft_sample_ids_padded(3, 0, NULL, 0, NULL, &err), err);
}
END_TEST

START_TEST(ids_of_cumulative_lengths)
{
    static const int64_t cu[] = {1, 3, 3, 6}, none[] = {2};
    static const int32_t want[] = {-1, 4, 4, 6, 6, 6, -1, -1};
    static const int32_t outside[] = {-1, -1, -1};
    struct integers v;
    cadft_error err = support_error();
    int32_t ids[32];
    for (int w = 0; w < 2; w++) {
        CHECK_OK(cadft_sample_ids_cu_seqlens(integers(&v, w, cu, 4, 0), 8, 4,
                                             fresh(ids), &err),
                 err);
        same_ids(ids, want, 8); /* the empty sample keeps its number */
        CHECK_OK(cadft_sample_ids_cu_seqlens(integers(&v, w, none, 1, 0), 3, 0,
                                             fresh(ids), &err),
                 err);
        same_ids(ids, outside, 3);
    }
}
END_TEST

START_TEST(ids_of_position_ids)
{
    static const int64_t packed[] = {0, 1, 2, 0, 1, 0, 0, 7, 8, 9};
    static const int32_t want[] = {3, 3, 3, 4, 4, 5, 6, 6, 6, 6};
    static const int32_t rows[] = {3, 3, 3, 4, 4, 5, 6, 6, 6, 6};
    static const int64_t rising[] = {4, 5, 6, 7};
    static const int32_t one[] = {0, 0, 0, 0}, two[] = {0, 0, 1, 1};
    struct integers v;
    cadft_error err = support_error();
    int32_t ids[32];
    int64_t n = 0;
    for (int w = 0; w < 2; w++) {
        CHECK_OK(cadft_sample_ids_position_ids(integers(&v, w, packed, 10, 0),
                                               3, fresh(ids), &n, &err),
                 err);
        same_ids(ids, want, 10);
        ck_assert_int_eq(n, 4);
        CHECK_OK(cadft_sample_ids_position_ids(integers(&v, w, packed, 2, 5), 3,
                                               fresh(ids), NULL, &err),
                 err);
        same_ids(ids, rows, 10);
        CHECK_OK(cadft_sample_ids_position_ids(integers(&v, w, rising, 4, 0), 0,
                                               fresh(ids), &n, &err),
                 err);
        same_ids(ids, one, 4);
        CHECK_OK(cadft_sample_ids_position_ids(integers(&v, w, rising, 2, 2), 0,
                                               fresh(ids), &n, &err),
                 err);
        same_ids(ids, two, 4); /* a sequence starts a sample */
        ck_assert_int_eq(n, 2);
        CHECK_OK(cadft_sample_ids_position_ids(integers(&v, w, rising, 0, 0), 0,
                                               NULL, &n, &err),
                 err);
        ck_assert_int_eq(n, 0);
    }
}
END_TEST

/* ------------------------------------------------------------ the tutorial */

/* The lines of cadft.h, as they stand there. */
START_TEST(example_of_the_header)
{
    cadft_context *ctx;
    cadft_loss *loss;
    cadft_error err = support_error();
    int64_t rows = ROWS, vocab = COLS, n_samples = SAMPLES;
    support_batch *data =
        support_batch_new(rows, vocab, CADFT_DTYPE_F32, n_samples, 2);
    support_batch *copy = support_batch_copy(data);
    float *z = (float *)data->z;
    int32_t *y = data->y, *s = data->ids;
    cadft_context_create(NULL, &ctx, NULL);
    cadft_loss_create(ctx, &loss, NULL);

    int64_t shape[2] = {rows, vocab};
    cadft_tensor logits, labels, ids;
    cadft_tensor_init(&logits, sizeof logits, z, CADFT_DTYPE_F32, 2, shape,
                      NULL, NULL);
    cadft_tensor_init(&labels, sizeof labels, y, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    cadft_tensor_init(&ids, sizeof ids, s, CADFT_DTYPE_I32, 1, shape, NULL,
                      NULL);
    cadft_loss_batch batch = {.struct_size = sizeof batch,
                              .logits = &logits,
                              .labels = &labels,
                              .sample_ids = &ids};
    cadft_loss_report report = {.struct_size = sizeof report};
    CHECK_OK(cadft_loss_compute(loss, &batch, n_samples, &logits, NULL, &report,
                                &err),
             err);
    ck_assert_int_eq(report.n_samples, n_samples);
    ck_assert_int_eq(report.n_rows, rows);
    ck_assert_int_ne(memcmp(z, copy->z, sizeof(float)), 0);
    cadft_context_destroy(ctx); /* in any order */
    cadft_loss_destroy(loss);
    support_batch_free(data);
    support_batch_free(copy);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("loss");
    TCase *knobs_case = tcase_create("knobs");
    TCase *phases = tcase_create("phases"), *batches = tcase_create("batches");
    tcase_add_test(knobs_case, keys_and_defaults);
    tcase_add_test(knobs_case, bounds_hold);
    tcase_add_test(knobs_case, names_are_exact);
    tcase_add_test(knobs_case, texts);
    tcase_add_test(phases, every_call_in_every_phase);
    tcase_add_test(phases, arrays_outlive_the_step);
    tcase_add_test(batches, empty_micro_batches);
    tcase_add_test(batches, label_offset);
    tcase_add_test(batches, ids_of_padded_rows);
    tcase_add_test(batches, ids_of_cumulative_lengths);
    tcase_add_test(batches, ids_of_position_ids);
    tcase_add_test(batches, example_of_the_header);
    suite_add_tcase(suite, knobs_case);
    suite_add_tcase(suite, phases);
    suite_add_tcase(suite, batches);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
