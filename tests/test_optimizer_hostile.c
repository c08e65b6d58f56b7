/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the optimizer with arguments that are wrong: the status, a
 * sentence, and nothing else.
 *
 *   test_optimizer_hostile [--backend PLUGIN.so] */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/context.h"
#include "model_text.h"
#include "optimizer_support.h"

enum { F32 = CADFT_DTYPE_F32, BF16 = CADFT_DTYPE_BF16 };

static cadft_context *context;
static cadft_error err;

/* An optimizer with one parameter, which has taken a step. */
static cadft_optimizer *optimizer;
static param p;

static void setup(void)
{
    int64_t shape[] = {4, 5};
    err = support_error();
    context = model_context(1);
    optimizer = optimizer_new(context);
    param_new(&p, context, "w", F32, F32, 2, shape);
    array_normal(&p.value, 1);
    array_normal(&p.grad, 1);
    param_add(&p, optimizer);
    optimizer_step(optimizer);
}

static void teardown(void)
{
    cadft_optimizer_destroy(optimizer);
    param_free(&p);
    cadft_context_destroy(context);
}

/* Make a bad call in every way an error can be asked for; errno stays, and
 * weights and counts do. */
#define REFUSE(call, expected)                                                 \
    do {                                                                       \
        cadft_error stunted = {.struct_size = 8};                              \
        cadft_error *e = &err;                                                 \
        void *before = array_bytes(&p.value), *after;                          \
        int64_t steps = optimizer_fact(optimizer, CADFT_OPTIMIZER_STEPS);      \
        errno = 4711;                                                          \
        CHECK_STATUS(call, expected, err);                                     \
        ck_assert_int_eq(err.code, expected);                                  \
        ck_assert_msg(err.message[0] != 0, "%s says nothing", #call);          \
        e = NULL;                                                              \
        ck_assert_int_eq(call, expected);                                      \
        e = &stunted;                                                          \
        ck_assert_int_eq(call, CADFT_E_ARG);                                   \
        ck_assert_int_eq(errno, 4711);                                         \
        after = array_bytes(&p.value);                                         \
        ck_assert_int_eq(memcmp(before, after, p.value.bytes), 0);             \
        ck_assert_int_eq(optimizer_fact(optimizer, CADFT_OPTIMIZER_STEPS),     \
                         steps);                                               \
        free(before);                                                          \
        free(after);                                                           \
    } while (0)

START_TEST(handles_and_outputs)
{
    cadft_optimizer *none = optimizer;
    cadft_optimizer_report report = {.struct_size = sizeof report};
    int64_t whole = 7;
    int32_t key = 7;
    double real = 7;
    char text[4] = "???";
    cadft_optimizer_destroy(NULL);
    REFUSE(cadft_optimizer_create(NULL, &none, e), CADFT_E_NULL);
    ck_assert_ptr_null(none);
    REFUSE(cadft_optimizer_create(context, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_set_i64(NULL, 1, 0, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_set_f64(NULL, 2, 0, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_set_str(NULL, 1, "sgd", e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_set_str(optimizer, CADFT_OPTIMIZER_LR, NULL, e),
           CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_i64(NULL, 1, &whole, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_i64(optimizer, CADFT_OPTIMIZER_STEPS, NULL, e),
           CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_i64(optimizer, CADFT_OPTIMIZER_KIND, NULL, e),
           CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_f64(NULL, 2, &real, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_f64(optimizer, 2, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_str(NULL, 2, text, 4, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_get_str(optimizer, 1, text, 3, NULL, e),
           CADFT_E_SPACE);
    REFUSE(cadft_optimizer_key(NULL, &key, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_key("lr", NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_key("LR", &key, e), CADFT_E_KEY);
    REFUSE(cadft_optimizer_add(NULL, "v", &p.value.view, &p.grad.view, e),
           CADFT_E_NULL);
    REFUSE(cadft_optimizer_add_model(NULL, NULL, &whole, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_group(NULL, "*", 1, 1, &whole, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_norm(NULL, &real, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_norm(optimizer, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_step(NULL, NULL, &report, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_lr(NULL, 0, &real, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_lr(optimizer, 0, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_lr(optimizer, -1, &real, e), CADFT_E_ARG);
    REFUSE(cadft_optimizer_save(NULL, "x", e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_save(optimizer, NULL, e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_load(NULL, "x", e), CADFT_E_NULL);
    REFUSE(cadft_optimizer_load(optimizer, NULL, e), CADFT_E_NULL);
    ck_assert_int_eq(whole, 7);
    ck_assert_int_eq(key, 7);
    ck_assert_double_eq(real, 7);
}
END_TEST

START_TEST(knobs_outside_their_bounds)
{
    static const int32_t unknown[] = {0, -1, 18, 99, 104, INT32_MAX};
    cadft_optimizer *o = optimizer_new(context);
    int64_t whole = 7;
    double real = 7;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        REFUSE(cadft_optimizer_set_i64(o, unknown[i], 0, e), CADFT_E_KEY);
        REFUSE(cadft_optimizer_set_f64(o, unknown[i], 0, e), CADFT_E_KEY);
        REFUSE(cadft_optimizer_set_str(o, unknown[i], "0", e), CADFT_E_KEY);
        REFUSE(cadft_optimizer_get_i64(o, unknown[i], &whole, e), CADFT_E_KEY);
        REFUSE(cadft_optimizer_bounds(unknown[i], NULL, NULL, NULL, NULL, e),
               CADFT_E_KEY);
    }
    for (int32_t key = 100; key < 104; key++) /* facts are not set */
        REFUSE(cadft_optimizer_set_i64(o, key, 0, e), CADFT_E_KEY);
    for (int32_t key = 1; key <= 17; key++) {
        double least, most;
        int32_t type;
        CHECK_OK(cadft_optimizer_bounds(key, &type, &least, &most, NULL, &err),
                 err);
        REFUSE(cadft_optimizer_set_str(o, key, "nothing", e), CADFT_E_ARG);
        if (!type) {
            REFUSE(cadft_optimizer_set_i64(o, key, (int64_t)least - 1, e),
                   CADFT_E_ARG);
            REFUSE(cadft_optimizer_set_i64(o, key, (int64_t)most + 1, e),
                   CADFT_E_ARG);
            REFUSE(cadft_optimizer_set_f64(o, key, least, e), CADFT_E_KEY);
            REFUSE(cadft_optimizer_get_f64(o, key, &real, e), CADFT_E_KEY);
            continue;
        }
        REFUSE(cadft_optimizer_set_f64(o, key, -1e-300, e), CADFT_E_ARG);
        REFUSE(cadft_optimizer_set_f64(o, key, INFINITY, e), CADFT_E_ARG);
        REFUSE(cadft_optimizer_set_f64(o, key, NAN, e), CADFT_E_ARG);
        REFUSE(cadft_optimizer_set_i64(o, key, 0, e), CADFT_E_KEY);
        REFUSE(cadft_optimizer_get_i64(o, key, &whole, e), CADFT_E_KEY);
    }
    cadft_optimizer_destroy(o);
}
END_TEST

/* ------------------------------------------------------------------- add */

static void check_names(cadft_optimizer *o, param *q)
{
    static const char *const bad[] = {"",     "a\"b",     "a\\b", "a\nb",
                                      "\x7f", "\xc3\xa4", "w"};
    char name[257];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSE(cadft_optimizer_add(o, bad[i], &q->value.view, &q->grad.view, e),
               CADFT_E_ARG);
    memset(name, 'x', sizeof name);
    name[256] = 0;
    REFUSE(cadft_optimizer_add(o, name, &q->value.view, &q->grad.view, e),
           CADFT_E_ARG);
    REFUSE(cadft_optimizer_add(o, NULL, &q->value.view, &q->grad.view, e),
           CADFT_E_NULL);
    name[255] = 0; /* the longest */
    CHECK_OK(cadft_optimizer_add(o, name, &q->value.view, &q->grad.view, &err),
             err);
}

START_TEST(parameters_that_cannot_be_added)
{
    static const struct {
        int32_t value, grad, status;
    } types[] = {
        {CADFT_DTYPE_F16, F32, CADFT_E_DTYPE},
        {CADFT_DTYPE_F64, F32, CADFT_E_DTYPE},
        {F32, CADFT_DTYPE_I32, CADFT_E_DTYPE},
        {F32, CADFT_DTYPE_F16, CADFT_E_DTYPE},
    };
    cadft_optimizer *o = optimizer_new(context);
    int64_t shape[] = {4, 5}, deep[] = {1, 1, 1, 1, 1, 1, 1, 1, 20};
    int64_t turned[] = {5, 4}, apart[] = {6, 1}, huge[] = {INT64_MAX / 2, 5};
    cadft_tensor t, u;
    param q;
    param_new(&q, context, "q", F32, F32, 2, shape);
    param_add(&p, o); /* w is there */
#define ADD(value, grad) cadft_optimizer_add(o, "v", value, grad, e)
    REFUSE(ADD(NULL, &q.grad.view), CADFT_E_NULL);
    REFUSE(ADD(&q.value.view, NULL), CADFT_E_NULL);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        param r;
        param_new(&r, context, "r", types[i].value, types[i].grad, 2, shape);
        REFUSE(ADD(&r.value.view, &r.grad.view), types[i].status);
        param_free(&r);
    }
    t = q.value.view;
    t.struct_size = 4;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_ARG);
    t = q.value.view;
    t.flags = 1;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_TOO_NEW);
    t = q.value.view;
    t.data = NULL;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_NULL);
    t = q.grad.view;
    t.data = NULL;
    REFUSE(ADD(&q.value.view, &t), CADFT_E_NULL);
    t = q.grad.view;
    t.shape = turned;
    REFUSE(ADD(&q.value.view, &t), CADFT_E_SHAPE);
    t.shape = shape;
    t.ndim = 1;
    REFUSE(ADD(&q.value.view, &t), CADFT_E_SHAPE);
    t.ndim = 0;
    REFUSE(ADD(&q.value.view, &t), CADFT_E_SHAPE);
    t = q.value.view;
    t.strides = apart;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_SHAPE);
    t = q.value.view;
    t.shape = huge;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_SHAPE);
    t = q.value.view;
    u = q.grad.view;
    t.shape = u.shape = deep;
    t.ndim = u.ndim = 9;
    REFUSE(ADD(&t, &u), CADFT_E_SHAPE);
    t = q.value.view;
    t.device_type = 77;
    REFUSE(ADD(&t, &q.grad.view), CADFT_E_DEVICE);
    if (!model_backend) { /* a device checks its own addresses */
        t = q.value.view;
        t.byte_offset = 2;
        REFUSE(ADD(&t, &q.grad.view), CADFT_E_ALIGN);
    }
    check_names(o, &q);
    cadft_optimizer_destroy(o);
    param_free(&q);
}
END_TEST

START_TEST(arrays_that_overlap)
{
    cadft_optimizer *o = optimizer_new(context);
    int64_t shape[] = {40}, half[] = {20}, none[] = {0};
    param q, r;
    cadft_tensor low, high, t;
    param_new(&q, context, "q", F32, F32, 1, shape);
    param_new(&r, context, "r", F32, F32, 1, half);
    low = q.value.view;
    low.shape = half;
    high = low;
    high.byte_offset = 80;
    t = high;
    t.byte_offset = 76;
    REFUSE(cadft_optimizer_add(o, "v", &low, &low, e), CADFT_E_ALIAS);
    REFUSE(cadft_optimizer_add(o, "v", &low, &t, e), CADFT_E_ALIAS);
    CHECK_OK(cadft_optimizer_add(o, "v", &low, &high, &err), err);
    REFUSE(cadft_optimizer_add(o, "x", &low, &r.grad.view, e), CADFT_E_ALIAS);
    REFUSE(cadft_optimizer_add(o, "x", &high, &r.grad.view, e), CADFT_E_ALIAS);
    REFUSE(cadft_optimizer_add(o, "x", &r.value.view, &low, e), CADFT_E_ALIAS);
    /* Gradients are only read, and nothing overlaps nothing. */
    CHECK_OK(cadft_optimizer_add(o, "x", &r.value.view, &high, &err), err);
    t.shape = none;
    CHECK_OK(cadft_optimizer_add(o, "y", &t, &t, &err), err);
    ck_assert_int_eq(optimizer_fact(o, CADFT_OPTIMIZER_PARAMETERS), 3);
    cadft_optimizer_destroy(o);
    param_free(&q);
    param_free(&r);
}
END_TEST

START_TEST(calls_at_the_wrong_time)
{
    cadft_optimizer *o = optimizer_new(context);
    double sum = 7;
    int64_t shape[] = {2};
    param q;
    REFUSE(cadft_optimizer_step(o, NULL, NULL, e), CADFT_E_PHASE);
    REFUSE(cadft_optimizer_norm(o, &sum, e), CADFT_E_PHASE);
    REFUSE(cadft_optimizer_save(o, "x", e), CADFT_E_PHASE);
    REFUSE(cadft_optimizer_load(o, "x", e), CADFT_E_PHASE);
    param_new(&q, context, "q", F32, F32, 1, shape);
    REFUSE(cadft_optimizer_add(optimizer, "q", &q.value.view, &q.grad.view, e),
           CADFT_E_PHASE);
    cadft_optimizer_destroy(o);
    param_free(&q);
}
END_TEST

START_TEST(groups_and_steps)
{
    static const double bad[] = {-1, NAN, INFINITY, 1e300};
    cadft_optimizer_report report = {.struct_size = sizeof report};
    double sum = -1;
    int64_t matched = 7;
    REFUSE(cadft_optimizer_group(optimizer, NULL, 1, 1, &matched, e),
           CADFT_E_NULL);
    REFUSE(cadft_optimizer_group(optimizer, "W", 1, 1, &matched, e),
           CADFT_E_KEY);
    REFUSE(cadft_optimizer_group(optimizer, "", 1, 1, &matched, e),
           CADFT_E_KEY);
    for (int i = 0; i < 4; i++) {
        REFUSE(cadft_optimizer_group(optimizer, "*", bad[i], 1, &matched, e),
               CADFT_E_ARG);
        REFUSE(cadft_optimizer_group(optimizer, "*", 1, bad[i], &matched, e),
               CADFT_E_ARG);
    }
    ck_assert_int_eq(matched, 7);
    REFUSE(cadft_optimizer_step(optimizer, &sum, &report, e), CADFT_E_ARG);
    report.struct_size = 8;
    REFUSE(cadft_optimizer_step(optimizer, NULL, &report, e), CADFT_E_ARG);
    report.struct_size = 5000;
    REFUSE(cadft_optimizer_step(optimizer, NULL, &report, e), CADFT_E_ARG);
}
END_TEST

/* A report of a later library gets what this one knows, and no byte more. */
START_TEST(a_larger_report)
{
    struct {
        cadft_optimizer_report known;
        int64_t later[2];
    } report = {.known = {.struct_size = sizeof report}, .later = {5, 6}};
    CHECK_OK(cadft_optimizer_step(optimizer, NULL, &report.known, &err), err);
    ck_assert_int_eq(report.known.step, 2);
    ck_assert_uint_eq(report.known.struct_size, sizeof report);
    ck_assert_int_eq(report.later[0], 5);
    ck_assert_int_eq(report.later[1], 6);
}
END_TEST

START_TEST(a_model_of_another_context)
{
    cadft_context *other = model_context(1);
    cadft_optimizer *o = optimizer_new(context);
    model_text text = text_of("Llama");
    const char *config = text_json(&text);
    cadft_model *model;
    int64_t added = 7;
    CHECK_OK(cadft_model_create(other, &model, &err), err);
    CHECK_OK(cadft_model_init(model, config, strlen(config), 3, &err), err);
    REFUSE(cadft_optimizer_add_model(o, model, &added, e), CADFT_E_ARG);
    REFUSE(cadft_optimizer_add_model(o, NULL, &added, e), CADFT_E_NULL);
    ck_assert_int_eq(added, 7);
    cadft_model_destroy(model);
    cadft_optimizer_destroy(o);
    cadft_context_destroy(other);
}
END_TEST

/* The second of a model's parameters is there: none of them is added. */
START_TEST(a_model_whose_name_is_taken)
{
    cadft_optimizer *o = optimizer_new(context);
    model_text text = text_of("Llama");
    const char *config = text_json(&text), *name;
    int64_t shape[] = {2}, added = 7;
    cadft_model *model;
    param q;
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_init(model, config, strlen(config), 3, &err), err);
    CHECK_OK(cadft_model_parameter(model, 1, &name, NULL, NULL, NULL, &err),
             err);
    param_new(&q, context, name, BF16, BF16, 1, shape);
    param_add(&q, o);
    REFUSE(cadft_optimizer_add_model(o, model, &added, e), CADFT_E_ARG);
    ck_assert_int_eq(optimizer_fact(o, CADFT_OPTIMIZER_PARAMETERS), 1);
    ck_assert_int_eq(added, 7);
    cadft_model_destroy(model);
    optimizer_step(o);
    cadft_optimizer_destroy(o);
    param_free(&q);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer hostile");
    TCase *t = tcase_create("refusals");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, handles_and_outputs);
    tcase_add_test(t, knobs_outside_their_bounds);
    tcase_add_test(t, parameters_that_cannot_be_added);
    tcase_add_test(t, arrays_that_overlap);
    tcase_add_test(t, calls_at_the_wrong_time);
    tcase_add_test(t, groups_and_steps);
    tcase_add_test(t, a_larger_report);
    tcase_add_test(t, a_model_of_another_context);
    tcase_add_test(t, a_model_whose_name_is_taken);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
