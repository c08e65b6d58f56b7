/* SPDX-License-Identifier: Apache-2.0 */
/* Bad arguments to every call that takes no batch: handles, knobs, struct
 * sizes, sample id helpers, state; and calls from inside a callback. */
#include <float.h>

#include "hostile.h"

static struct victim *v;

static void setup(void)
{
    v = victim_new();
}

static void teardown(void)
{
    victim_free(v);
}

/* ------------------------------------------------------------------ NULL */

START_TEST(null_handles_are_refused)
{
    int64_t i;
    double d;
    char text[8];
    size_t n;
    float z[1];
    int64_t micro;
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_set_i64(NULL, 2, 0, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_set_f64(NULL, 3, 0, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_set_str(NULL, 3, "0", e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_get_i64(NULL, 2, &i, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_get_f64(NULL, 3, &d, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_get_str(NULL, 3, text, sizeof text, &n, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_set_coefficient(NULL, NULL, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_compute(NULL, &v->batch, 1, &v->grad, z, NULL, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_begin(NULL, 1, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_observe(NULL, &v->batch, NULL, &micro, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_weigh(NULL, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_grad(NULL, 0, &v->batch, &v->grad, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_end(NULL, &v->report, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_export(NULL, 3, 0, 1, NULL, 0, &n, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_import(NULL, 3, &d, 1, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_get_rows(NULL, 0, 1, &d, 1, &n, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_get_samples(NULL, 1, &d, 1, &n, e));
    REFUSE(v, CADFT_E_NULL, "loss",
           cadft_loss_state_save(NULL, text, 8, &n, e));
    REFUSE(v, CADFT_E_NULL, "loss", cadft_loss_state_load(NULL, text, 8, e));
    REFUSE(v, CADFT_E_NULL, "context", cadft_context_get_i64(NULL, 1, &i, e));
    REFUSE(v, CADFT_E_NULL, "context",
           cadft_context_get_str(NULL, 4, text, 8, &n, e));
    cadft_loss_cancel(NULL);
    cadft_loss_destroy(NULL);
    cadft_context_destroy(NULL);
}
END_TEST

START_TEST(null_outputs_are_refused)
{
    int32_t key;
    double d;
    REFUSE(v, CADFT_E_NULL, "out",
           cadft_context_get_i64(v->context, 1, NULL, e));
    REFUSE(v, CADFT_E_NULL, "buffer",
           cadft_context_get_str(v->context, 4, NULL, 9, NULL, e));
    REFUSE(v, CADFT_E_NULL, "out", cadft_loss_create(v->context, NULL, e));
    REFUSE(v, CADFT_E_NULL, "out", cadft_loss_get_i64(v->loss, 2, NULL, e));
    REFUSE(v, CADFT_E_NULL, "out", cadft_loss_get_f64(v->loss, 3, NULL, e));
    REFUSE(v, CADFT_E_NULL, "buffer",
           cadft_loss_get_str(v->loss, 3, NULL, 9, NULL, e));
    REFUSE(v, CADFT_E_NULL, "beta", cadft_loss_set_str(v->loss, 3, NULL, e));
    REFUSE(v, CADFT_E_NULL, "name", cadft_loss_key(NULL, &key, e));
    REFUSE(v, CADFT_E_NULL, "key", cadft_loss_key("beta", NULL, e));
    REFUSE(v, CADFT_E_NULL, "buffer",
           cadft_loss_state_save(v->loss, NULL, 100, NULL, e));
    REFUSE(v, CADFT_E_NULL, "buffer",
           cadft_loss_state_load(v->loss, NULL, 100, e));
    REFUSE(v, CADFT_E_NULL, "out",
           cadft_loss_get_rows(v->loss, 0, 1, NULL, 5, NULL, e));
    REFUSE(v, CADFT_E_NULL, "out",
           cadft_loss_get_samples(v->loss, 1, NULL, 5, NULL, e));
    REFUSE(v, CADFT_E_NULL, "grad",
           cadft_loss_compute(v->loss, &v->batch, SAMPLES, NULL, v->scale, NULL,
                              e));
    CHECK_OK(cadft_loss_bounds(3, NULL, NULL, NULL, NULL, &v->err), v->err);
    CHECK_OK(cadft_loss_bounds(3, NULL, NULL, NULL, &d, &v->err), v->err);
}
END_TEST

START_TEST(created_handles_are_null_on_failure)
{
    cadft_loss *loss = v->loss;
    cadft_context *context = v->context;
    cadft_context_desc desc = {.struct_size = sizeof desc, .n_threads = -1};
    REFUSE(v, CADFT_E_NULL, "context", cadft_loss_create(NULL, &loss, e));
    ck_assert_ptr_null(loss);
    REFUSE(v, CADFT_E_ARG, "n_threads",
           cadft_context_create(&desc, &context, e));
    ck_assert_ptr_null(context);
    loss = v->loss;
    v->stunted.struct_size = 3;
    ck_assert_int_eq(cadft_loss_create(v->context, &loss, &v->stunted),
                     CADFT_E_ARG);
    ck_assert_ptr_null(loss);
}
END_TEST

/* ----------------------------------------------------------------- knobs */

START_TEST(unknown_keys_are_refused)
{
    static const int32_t keys[] = {0, -1, 22, 1 << 30, INT32_MIN, INT32_MAX};
    int64_t i = 5;
    double d = 5;
    int32_t key = 5;
    char text[16] = "same";
    for (size_t n = 0; n < sizeof keys / sizeof *keys; n++) {
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_set_i64(v->loss, keys[n], 0, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_set_f64(v->loss, keys[n], 0, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_set_str(v->loss, keys[n], "0", e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_get_i64(v->loss, keys[n], &i, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_get_f64(v->loss, keys[n], &d, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_get_str(v->loss, keys[n], text, 16, NULL, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_loss_bounds(keys[n], &key, &d, &d, &d, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_context_get_i64(v->context, keys[n], &i, e));
        REFUSE(v, CADFT_E_KEY, "key",
               cadft_context_get_str(v->context, keys[n], text, 16, NULL, e));
    }
    ck_assert_int_eq(i, 5);
    ck_assert(d == 5);
    ck_assert_int_eq(key, 5);
    ck_assert_str_eq(text, "same");
}
END_TEST

START_TEST(keys_of_the_other_type_are_refused)
{
    int64_t i = 5;
    double d = 5;
    int32_t key = 5;
    REFUSE(v, CADFT_E_KEY, "beta",
           cadft_loss_set_i64(v->loss, CADFT_LOSS_BETA, 1, e));
    REFUSE(v, CADFT_E_KEY, "ddof",
           cadft_loss_set_f64(v->loss, CADFT_LOSS_DDOF, 1, e));
    REFUSE(v, CADFT_E_KEY, "beta",
           cadft_loss_get_i64(v->loss, CADFT_LOSS_BETA, &i, e));
    REFUSE(v, CADFT_E_KEY, "ddof",
           cadft_loss_get_f64(v->loss, CADFT_LOSS_DDOF, &d, e));
    REFUSE(v, CADFT_E_KEY, "key",
           cadft_context_get_str(v->context, CADFT_CONTEXT_BYTES, NULL, 0, NULL,
                                 e));
    REFUSE(v, CADFT_E_KEY, "Beta", cadft_loss_key("Beta", &key, e));
    REFUSE(v, CADFT_E_KEY, "", cadft_loss_key("", &key, e));
    ck_assert_int_eq(i + key, 10);
    ck_assert(d == 5);
}
END_TEST

/* Just outside both ends of what bounds says, and no numbers at all. */
START_TEST(values_outside_the_bounds_are_refused)
{
    for (int32_t key = 1; key <= CADFT_LOSS_INFOSFT_TARGET; key++) {
        int32_t type;
        double low, high;
        CHECK_OK(cadft_loss_bounds(key, &type, &low, &high, NULL, &v->err),
                 v->err);
        if (type == 0) {
            int64_t below = (int64_t)low - 1, above = (int64_t)high + 1;
            REFUSE(v, CADFT_E_ARG, "expected",
                   cadft_loss_set_i64(v->loss, key, below, e));
            REFUSE(v, CADFT_E_ARG, "expected",
                   cadft_loss_set_i64(v->loss, key, above, e));
            REFUSE(v, CADFT_E_ARG, "expected",
                   cadft_loss_set_i64(v->loss, key, INT64_MIN, e));
            REFUSE(v, CADFT_E_ARG, "expected",
                   cadft_loss_set_i64(v->loss, key, INT64_MAX, e));
            continue;
        }
        REFUSE(v, CADFT_E_ARG, "expected",
               cadft_loss_set_f64(v->loss, key, NAN, e));
        REFUSE(v, CADFT_E_ARG, "expected",
               cadft_loss_set_f64(v->loss, key, INFINITY, e));
        REFUSE(v, CADFT_E_ARG, "expected",
               cadft_loss_set_f64(v->loss, key, -INFINITY, e));
        if (low > -DBL_MAX)
            REFUSE(
                v, CADFT_E_ARG, "expected",
                cadft_loss_set_f64(v->loss, key, nextafter(low, -INFINITY), e));
        if (high < DBL_MAX)
            REFUSE(
                v, CADFT_E_ARG, "expected",
                cadft_loss_set_f64(v->loss, key, nextafter(high, INFINITY), e));
    }
}
END_TEST

START_TEST(bad_texts_are_refused)
{
    static const char *const numbers[] = {"",    "x",     "1x",     "1,5",
                                          "nan", "inf",   "-inf",   "1e999",
                                          "--1", "0.5 1", "-1e-300"};
    static const char *const names[] = {"",
                                        "SFT",
                                        "sft ",
                                        "sft dft",
                                        "df",
                                        "9",
                                        "0.5",
                                        "0x1",
                                        "-1",
                                        "dftx",
                                        "99999999999999999999"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        REFUSE(v, CADFT_E_ARG, "beta",
               cadft_loss_set_str(v->loss, CADFT_LOSS_BETA, numbers[i], e));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        REFUSE(v, CADFT_E_ARG, "objective",
               cadft_loss_set_str(v->loss, CADFT_LOSS_OBJECTIVE, names[i], e));
}
END_TEST

START_TEST(long_texts_do_not_overflow)
{
    char *text = (char *)malloc(100000);
    memset(text, 'y', 99999);
    text[99999] = '\0';
    REFUSE(v, CADFT_E_ARG, "objective",
           cadft_loss_set_str(v->loss, CADFT_LOSS_OBJECTIVE, text, e));
    REFUSE(v, CADFT_E_KEY, "yyy", cadft_loss_key(text, &(int32_t){0}, e));
    memset(text, '1', 99999);
    REFUSE(v, CADFT_E_ARG, "beta",
           cadft_loss_set_str(v->loss, CADFT_LOSS_BETA, text, e));
    free(text);
}
END_TEST

START_TEST(combinations_are_refused_at_begin)
{
    static const int64_t objectives[] = {
        CADFT_OBJECTIVE_DFT_NOSG, CADFT_OBJECTIVE_POWER, CADFT_OBJECTIVE_FOCAL};
    for (int i = 0; i < 3; i++) {
        cadft_loss_set_f64(v->loss, CADFT_LOSS_LABEL_SMOOTHING, 0.1, NULL);
        cadft_loss_set_i64(v->loss, CADFT_LOSS_OBJECTIVE, objectives[i], NULL);
        REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "label_smoothing",
                    cadft_loss_begin(v->loss, SAMPLES, e));
        REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "label_smoothing", compute(v, e));
        cadft_loss_set_f64(v->loss, CADFT_LOSS_LABEL_SMOOTHING, 0, NULL);
        cadft_loss_set_i64(v->loss, CADFT_LOSS_OBJECTIVE, 1, NULL);
        victim_alive(v, "a refused combination");
    }
}
END_TEST

/* ---------------------------------------------------------- coefficient */

struct intruder {
    int32_t status; /* what fn returns */
    double k;
    int destroyed, called, wrong;
};

static void intruder_destroy(void *user)
{
    ((struct intruder *)user)->destroyed++;
}

static int32_t plain_fn(void *user,
                        int64_t rows,
                        const double *l,
                        const double *p,
                        const double *entropy,
                        double *k)
{
    struct intruder *in = (struct intruder *)user;
    in->called++;
    for (int64_t r = 0; r < rows; r++) {
        in->wrong += !(l[r] >= 0 && p[r] >= 0 && entropy[r] >= 0);
        k[r] = in->k;
    }
    return in->status;
}

/* Every public call on the loss from inside its own callback. */
static int32_t reentrant_fn(void *user,
                            int64_t rows,
                            const double *l,
                            const double *p,
                            const double *entropy,
                            double *k)
{
    struct intruder *in = (struct intruder *)user;
    int64_t i;
    double d;
    char text[64];
    const int32_t got[] = {
        cadft_loss_set_i64(v->loss, 2, 0, NULL),
        cadft_loss_set_f64(v->loss, 3, 0, NULL),
        cadft_loss_set_str(v->loss, 3, "0", NULL),
        cadft_loss_get_i64(v->loss, 2, &i, NULL),
        cadft_loss_get_f64(v->loss, 3, &d, NULL),
        cadft_loss_get_str(v->loss, 3, text, sizeof text, NULL, NULL),
        cadft_loss_set_coefficient(v->loss, NULL, NULL),
        cadft_loss_compute(v->loss, &v->batch, SAMPLES, &v->grad, NULL, NULL,
                           NULL),
        cadft_loss_begin(v->loss, 1, NULL),
        cadft_loss_observe(v->loss, &v->batch, NULL, &i, NULL),
        cadft_loss_weigh(v->loss, NULL),
        cadft_loss_grad(v->loss, 0, &v->batch, &v->grad, NULL),
        cadft_loss_end(v->loss, NULL, NULL),
        cadft_loss_export(v->loss, 3, 0, 1, NULL, 0, NULL, NULL),
        cadft_loss_import(v->loss, 3, &d, 1, NULL),
        cadft_loss_get_rows(v->loss, 0, 1, NULL, 0, NULL, NULL),
        cadft_loss_get_samples(v->loss, 1, NULL, 0, NULL, NULL),
        cadft_loss_state_save(v->loss, text, sizeof text, NULL, NULL),
        cadft_loss_state_load(v->loss, text, sizeof text, NULL),
    };
    (void)l, (void)p, (void)entropy;
    for (size_t n = 0; n < sizeof got / sizeof *got; n++)
        in->wrong += got[n] != CADFT_E_BUSY;
    cadft_loss_cancel(v->loss); /* does nothing */
    in->called++;
    for (int64_t r = 0; r < rows; r++)
        k[r] = 0.5;
    return 0;
}

static cadft_coefficient coefficient(struct intruder *in,
                                     cadft_coefficient_fn fn)
{
    return (cadft_coefficient){.struct_size = sizeof(cadft_coefficient),
                               .user = in,
                               .fn = fn,
                               .destroy = intruder_destroy};
}

static void host_objective(int on)
{
    CHECK_OK(cadft_loss_set_i64(v->loss, CADFT_LOSS_OBJECTIVE,
                                on ? CADFT_OBJECTIVE_HOST : CADFT_OBJECTIVE_DFT,
                                &v->err),
             v->err);
}

START_TEST(calls_from_the_callback_are_busy)
{
    static struct intruder in; /* outlives the loss, come what may */
    cadft_coefficient c = coefficient(&in, reentrant_fn);
    float expected[ROWS * COLS];
    in = (struct intruder){.status = 0};
    host_objective(1);
    v->batch.k = &v->k; /* 0.5 everywhere, as the callback says */
    CHECK_OK(compute(v, &v->err), v->err);
    memcpy(expected, v->grad.data, sizeof expected);
    fresh(v);
    CHECK_OK(cadft_loss_set_coefficient(v->loss, &c, &v->err), v->err);
    CHECK_OK(compute(v, &v->err), v->err);
    ck_assert_int_eq(in.called, 1);
    ck_assert_int_eq(in.wrong, 0);
    ck_assert_mem_eq(expected, v->grad.data, sizeof expected);
    CHECK_OK(cadft_loss_set_coefficient(v->loss, NULL, &v->err), v->err);
    ck_assert_int_eq(in.destroyed, 1);
    host_objective(0);
    victim_alive(v, "re-entry");
}
END_TEST

START_TEST(callback_failure_and_bad_k_are_refused)
{
    static struct intruder in; /* is destroyed with the loss, in teardown */
    cadft_coefficient c = coefficient(&in, plain_fn);
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    in = (struct intruder){.status = 3, .k = 1};
    CHECK_OK(cadft_loss_set_coefficient(v->loss, &c, &v->err), v->err);
    host_objective(1);
    REFUSE_ONLY(v, CADFT_E_CALLBACK, "3", compute(v, e));
    in.status = 0;
    for (int i = 0; i < 3; i++) {
        in.k = bad[i];
        REFUSE_ONLY(v, CADFT_E_NONFINITE, "k[0]", compute(v, e));
    }
    v->batch.k = &v->k;
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "k", compute(v, e));
    host_objective(0);
    REFUSE_ONLY(v, CADFT_E_UNSUPPORTED, "k", compute(v, e));
    ck_assert_int_eq(in.wrong, 0);
    victim_alive(v, "a callback that fails");
}
END_TEST

/* Once when replaced, once with the loss, once when registration fails. */
START_TEST(coefficient_destroy_runs_once)
{
    struct intruder first = {.k = 1}, second = {.k = 1}, third = {.k = 1};
    cadft_coefficient a = coefficient(&first, plain_fn),
                      b = coefficient(&second, plain_fn),
                      c = coefficient(&third, NULL);
    cadft_loss *loss;
    CHECK_OK(cadft_loss_create(v->context, &loss, &v->err), v->err);
    CHECK_OK(cadft_loss_set_coefficient(loss, &a, &v->err), v->err);
    CHECK_OK(cadft_loss_set_coefficient(loss, &b, &v->err), v->err);
    ck_assert_int_eq(first.destroyed, 1);
    CHECK_STATUS(cadft_loss_set_coefficient(loss, &c, &v->err), CADFT_E_NULL,
                 v->err);
    ck_assert_int_eq(third.destroyed, 1);
    CHECK_OK(cadft_loss_begin(loss, 1, &v->err), v->err);
    CHECK_STATUS(cadft_loss_set_coefficient(loss, &a, &v->err), CADFT_E_PHASE,
                 v->err);
    ck_assert_int_eq(first.destroyed, 2);
    ck_assert_int_eq(second.destroyed, 0);
    cadft_loss_destroy(loss);
    ck_assert_int_eq(second.destroyed, 1);
}
END_TEST

/* The struct is whole, so its destroy can and must run. */
START_TEST(coefficient_destroy_runs_when_the_loss_is_refused)
{
    struct intruder in = {.k = 1};
    cadft_coefficient c = coefficient(&in, plain_fn);
    ck_assert_int_eq(cadft_loss_set_coefficient(NULL, &c, NULL), CADFT_E_NULL);
    ck_assert_int_eq(in.destroyed, 1);
    victim_arm(v);
    ck_assert_int_eq(cadft_loss_set_coefficient(v->loss, &c, &v->stunted),
                     CADFT_E_ARG);
    ck_assert_int_eq(in.destroyed, 2);
}
END_TEST

START_TEST(coefficient_struct_sizes)
{
    static struct intruder in; /* outlives the loss */
    struct {
        cadft_coefficient c;
        unsigned char tail[16];
    } big = {.c = coefficient(&in, plain_fn)};
    static const uint32_t sizes[] = {0, 1, sizeof big.c - 1, 4097, UINT32_MAX};
    in = (struct intruder){.k = 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        big.c.struct_size = sizes[i];
        REFUSE(v, CADFT_E_ARG, "coefficient",
               cadft_loss_set_coefficient(v->loss, &big.c, e));
    }
    big.c.struct_size = sizeof big;
    big.tail[15] = 1;
    in.destroyed = 0;
    CHECK_STATUS(cadft_loss_set_coefficient(v->loss, &big.c, &v->err),
                 CADFT_E_TOO_NEW, v->err);
    ck_assert_msg(in.destroyed == 1, "destroy is known: it must run");
    big.tail[15] = 0;
    CHECK_OK(cadft_loss_set_coefficient(v->loss, &big.c, &v->err), v->err);
    big.c.struct_size = sizeof big.c;
    big.c.reserved = 1;
    CHECK_STATUS(cadft_loss_set_coefficient(v->loss, &big.c, &v->err),
                 CADFT_E_TOO_NEW, v->err);
}
END_TEST

/* ----------------------------------------------------------------- state */

START_TEST(state_garbage_is_refused)
{
    unsigned char saved[64], bad[64];
    size_t size;
    CHECK_OK(
        cadft_loss_state_save(v->loss, saved, sizeof saved, &size, &v->err),
        v->err);
    REFUSE(v, CADFT_E_SPACE, "capacity",
           cadft_loss_state_save(v->loss, bad, size - 1, NULL, e));
    for (size_t cut = 0; cut < size; cut++)
        REFUSE(v, CADFT_E_STATE, "state",
               cadft_loss_state_load(v->loss, saved, cut, e));
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(bad, saved, size);
        bad[bit / 8] ^= (unsigned char)(1u << bit % 8);
        REFUSE_ONLY(v, CADFT_E_STATE, "state",
                    cadft_loss_state_load(v->loss, bad, size, e));
    }
    CHECK_OK(cadft_loss_begin(v->loss, 1, &v->err), v->err);
    REFUSE_ONLY(v, CADFT_E_PHASE, "state",
                cadft_loss_state_load(v->loss, saved, size, e));
    REFUSE_ONLY(v, CADFT_E_PHASE, "state",
                cadft_loss_state_save(v->loss, bad, size, NULL, e));
    cadft_loss_cancel(v->loss);
    CHECK_OK(cadft_loss_state_load(v->loss, saved, size, &v->err), v->err);
    victim_alive(v, "state");
}
END_TEST

static void seal(unsigned char *section, size_t length)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < length; i++) {
        crc ^= section[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    }
    for (int i = 0; i < 4; i++)
        section[length + (size_t)i] = (unsigned char)(~crc >> (8 * i));
}

/* A sound checksum over numbers that no step leaves behind. */
START_TEST(state_with_absurd_numbers_is_refused)
{
    static const double bad[][3] = {
        {NAN, 1, 1},      {INFINITY, 1, 1}, {1, NAN, 1},
        {1, -1, 1},       {1, 1, NAN},      {1, INFINITY, 1},
        {1, 1, INFINITY}, {1, 1, -1},       {1, 1, 1.5}};
    unsigned char state[64];
    size_t size;
    CHECK_OK(
        cadft_loss_state_save(v->loss, state, sizeof state, &size, &v->err),
        v->err);
    ck_assert_uint_eq(size, 8 + 8 + 24 + 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(state + 16, bad[i], 24);
        seal(state + 8, 32);
        REFUSE(v, CADFT_E_STATE, "statistics",
               cadft_loss_state_load(v->loss, state, size, e));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("calls");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, null_handles_are_refused);
    tcase_add_test(t, null_outputs_are_refused);
    tcase_add_test(t, created_handles_are_null_on_failure);
    tcase_add_test(t, unknown_keys_are_refused);
    tcase_add_test(t, keys_of_the_other_type_are_refused);
    tcase_add_test(t, values_outside_the_bounds_are_refused);
    tcase_add_test(t, bad_texts_are_refused);
    tcase_add_test(t, long_texts_do_not_overflow);
    tcase_add_test(t, combinations_are_refused_at_begin);
    tcase_add_test(t, calls_from_the_callback_are_busy);
    tcase_add_test(t, callback_failure_and_bad_k_are_refused);
    tcase_add_test(t, coefficient_destroy_runs_once);
    tcase_add_test(t, coefficient_destroy_runs_when_the_loss_is_refused);
    tcase_add_test(t, coefficient_struct_sizes);
    tcase_add_test(t, state_garbage_is_refused);
    tcase_add_test(t, state_with_absurd_numbers_is_refused);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
