/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer on arrays of the host: knobs, schedule, the update rules in
 * float64, groups, clipping, steps that are skipped, masters, threads and
 * memory.
 *
 *   test_optimizer [--backend PLUGIN.so] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "optimizer_support.h"

enum { F32 = CADFT_DTYPE_F32, BF16 = CADFT_DTYPE_BF16 };

static cadft_context *context;
static cadft_error err;

static void setup(void)
{
    err = support_error();
    context = model_context(2);
}

static void teardown(void)
{
    cadft_context_destroy(context);
}

/* ----------------------------------------------------------------- knobs */

static const struct {
    int32_t key, type;
    const char *name, *standard;
} keys[] = {
    {CADFT_OPTIMIZER_KIND, 0, "kind", "adamw"},
    {CADFT_OPTIMIZER_LR, 1, "lr", "5e-05"},
    {CADFT_OPTIMIZER_BETA1, 1, "beta1", "0.9"},
    {CADFT_OPTIMIZER_BETA2, 1, "beta2", "0.95"},
    {CADFT_OPTIMIZER_EPS, 1, "eps", "1e-08"},
    {CADFT_OPTIMIZER_WEIGHT_DECAY, 1, "weight_decay", "0.01"},
    {CADFT_OPTIMIZER_MOMENTUM, 1, "momentum", "0.9"},
    {CADFT_OPTIMIZER_NESTEROV, 0, "nesterov", "0"},
    {CADFT_OPTIMIZER_MASTER, 0, "master", "1"},
    {CADFT_OPTIMIZER_CLIP_NORM, 1, "clip_norm", "1"},
    {CADFT_OPTIMIZER_GRAD_SCALE, 1, "grad_scale", "1"},
    {CADFT_OPTIMIZER_NONFINITE, 0, "nonfinite", "skip"},
    {CADFT_OPTIMIZER_SCHEDULE, 0, "schedule", "constant"},
    {CADFT_OPTIMIZER_PLANNED_STEPS, 0, "planned_steps", "0"},
    {CADFT_OPTIMIZER_WARMUP_STEPS, 0, "warmup_steps", "0"},
    {CADFT_OPTIMIZER_WARMUP_FRACTION, 1, "warmup_fraction", "0"},
    {CADFT_OPTIMIZER_LR_FLOOR, 1, "lr_floor", "0"},
};
enum { KEYS = sizeof keys / sizeof *keys };

START_TEST(knobs_have_names_bounds_and_defaults)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    for (int i = 0; i < KEYS; i++) {
        double least, most, standard, real = -1;
        int32_t key = 0, type = -1;
        int64_t whole = -1;
        char text[32];
        CHECK_OK(cadft_optimizer_key(keys[i].name, &key, &err), err);
        ck_assert_int_eq(key, keys[i].key);
        CHECK_OK(
            cadft_optimizer_bounds(key, &type, &least, &most, &standard, &err),
            err);
        ck_assert_int_eq(type, keys[i].type);
        CHECK_OK(cadft_optimizer_get_str(optimizer, key, text, sizeof text,
                                         NULL, &err),
                 err);
        ck_assert_str_eq(text, keys[i].standard);
        if (type)
            CHECK_OK(cadft_optimizer_get_f64(optimizer, key, &real, &err), err);
        else
            CHECK_OK(cadft_optimizer_get_i64(optimizer, key, &whole, &err),
                     err);
        ck_assert_double_eq(type ? real : (double)whole, standard);
        CHECK_OK(cadft_optimizer_set_str(optimizer, key, text, &err), err);
        optimizer_set(optimizer, key, least);
        optimizer_set(optimizer, key, most);
    }
    cadft_optimizer_destroy(optimizer);
}
END_TEST

START_TEST(some_knobs_are_settled_by_the_first_parameter)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    int64_t shape[] = {3};
    param p;
    CHECK_OK(
        cadft_optimizer_set_str(optimizer, CADFT_OPTIMIZER_KIND, "sgd", &err),
        err);
    param_new(&p, context, "w", F32, F32, 1, shape);
    param_add(&p, optimizer);
    for (int i = 0; i < KEYS; i++) {
        int settled = keys[i].key == CADFT_OPTIMIZER_KIND ||
                      keys[i].key == CADFT_OPTIMIZER_MASTER;
        CHECK_STATUS(cadft_optimizer_set_str(optimizer, keys[i].key,
                                             keys[i].standard, &err),
                     settled ? CADFT_E_PHASE : CADFT_OK, err);
    }
    cadft_optimizer_destroy(optimizer);
    param_free(&p);
}
END_TEST

/* -------------------------------------------------------------- schedule */

static double rate(cadft_optimizer *optimizer, int64_t step)
{
    double out = -1;
    CHECK_OK(cadft_optimizer_lr(optimizer, step, &out, &err), err);
    return out;
}

START_TEST(the_rate_is_the_formula)
{
    static const double pi = 3.14159265358979323846;
    cadft_optimizer *optimizer = optimizer_new(context);
    for (int trial = 0; trial < 300; trial++) {
        int64_t planned = 2 + support_below(50);
        int64_t warm = support_below(planned), kind = support_below(3);
        double lr = support_uniform(), floor = support_uniform();
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR, lr);
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR_FLOOR, floor);
        optimizer_set(optimizer, CADFT_OPTIMIZER_SCHEDULE, (double)kind);
        optimizer_set(optimizer, CADFT_OPTIMIZER_PLANNED_STEPS,
                      (double)planned);
        optimizer_set(optimizer, CADFT_OPTIMIZER_WARMUP_STEPS, (double)warm);
        for (int64_t t = 0; t < planned + 3; t++) {
            double x = fmin(1, (double)(t - warm) / (double)(planned - warm));
            double shape = kind == CADFT_SCHEDULE_CONSTANT ? 1
                           : kind == CADFT_SCHEDULE_LINEAR
                               ? (1 - x) * (1 - floor) + floor
                               : (1 + cos(pi * x)) / 2 * (1 - floor) + floor;
            if (t < warm)
                shape = (double)(t + 1) / (double)warm;
            ck_assert_double_eq_tol(rate(optimizer, t), lr * shape, 1e-14);
        }
    }
    cadft_optimizer_destroy(optimizer);
}
END_TEST

/* Steps of warm-up that a fraction gives: the first with the full rate. */
static int64_t rise(cadft_optimizer *optimizer, double share, int64_t planned)
{
    int64_t t = 0;
    optimizer_set(optimizer, CADFT_OPTIMIZER_LR, 1);
    optimizer_set(optimizer, CADFT_OPTIMIZER_PLANNED_STEPS, (double)planned);
    optimizer_set(optimizer, CADFT_OPTIMIZER_WARMUP_FRACTION, share);
    while (rate(optimizer, t) < 1)
        t++;
    return t + 1;
}

START_TEST(a_fraction_is_rounded_up)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    ck_assert_int_eq(rise(optimizer, 0.1, 391), 40);
    ck_assert_int_eq(rise(optimizer, 0.1, 390), 39);
    ck_assert_int_eq(rise(optimizer, 0.07, 100), 7);  /* 7.000000000000001 */
    ck_assert_int_eq(rise(optimizer, 0.29, 100), 29); /* 28.999999999999996 */
    ck_assert_int_eq(rise(optimizer, 1e-9, 100), 1);
    cadft_optimizer_destroy(optimizer);
}
END_TEST

static void refused(cadft_optimizer *optimizer, const char *part)
{
    double out = 7;
    int32_t status = cadft_optimizer_step(optimizer, NULL, NULL, &err);
    CHECK_STATUS(status, CADFT_E_UNSUPPORTED, err);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
    status = cadft_optimizer_lr(optimizer, 0, &out, &err);
    CHECK_STATUS(status, CADFT_E_UNSUPPORTED, err);
    ck_assert_double_eq(out, 7);
}

START_TEST(knobs_that_do_not_go_together_are_refused)
{
    static const struct {
        const char *part;
        struct {
            int32_t key;
            double value;
        } knobs[3];
    } cases[] = {
        {"linear needs planned_steps", {{CADFT_OPTIMIZER_SCHEDULE, 1}}},
        {"cosine needs planned_steps", {{CADFT_OPTIMIZER_SCHEDULE, 2}}},
        {"which needs planned_steps", {{CADFT_OPTIMIZER_WARMUP_FRACTION, .1}}},
        {"one of them to be 0",
         {{CADFT_OPTIMIZER_WARMUP_FRACTION, .1},
          {CADFT_OPTIMIZER_WARMUP_STEPS, 3},
          {CADFT_OPTIMIZER_PLANNED_STEPS, 9}}},
        {"fewer than planned_steps",
         {{CADFT_OPTIMIZER_WARMUP_STEPS, 9},
          {CADFT_OPTIMIZER_PLANNED_STEPS, 9}}},
        {"fewer than planned_steps",
         {{CADFT_OPTIMIZER_WARMUP_FRACTION, 1},
          {CADFT_OPTIMIZER_PLANNED_STEPS, 9}}},
        {"no meaning with adamw", {{CADFT_OPTIMIZER_NESTEROV, 1}}},
        {"momentum above 0",
         {{CADFT_OPTIMIZER_KIND, 1},
          {CADFT_OPTIMIZER_NESTEROV, 1},
          {CADFT_OPTIMIZER_MOMENTUM, 0}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cadft_optimizer *optimizer = optimizer_new(context);
        for (int k = 0; k < 3 && cases[i].knobs[k].key; k++)
            optimizer_set(optimizer, cases[i].knobs[k].key,
                          cases[i].knobs[k].value);
        refused(optimizer, cases[i].part);
        cadft_optimizer_destroy(optimizer);
    }
}
END_TEST

/* ---------------------------------------------------------- update rules */

enum { PARAMS = 4, STEPS = 12, LENGTH = 600 };

static const int64_t shapes[PARAMS][2] = {{7, 9}, {33, 0}, {0, 5}, {1, 521}};

/* float32 and bfloat16 values with gradients of either; one has no element,
 * one dimension is no weight decay. */
typedef struct scene {
    param p[PARAMS];
    double w[PARAMS][LENGTH], m[PARAMS][LENGTH], v[PARAMS][LENGTH];
    double g[PARAMS][LENGTH];
    cadft_optimizer *optimizer;
} scene;

static scene *scene_new(cadft_optimizer *optimizer, int mixed)
{
    scene *s = (scene *)calloc(1, sizeof *s);
    s->optimizer = optimizer;
    for (int i = 0; i < PARAMS; i++) {
        char name[8] = {'p', (char)('0' + i), 0};
        param_new(&s->p[i], context, name, mixed && i % 2 ? BF16 : F32,
                  mixed && i / 2 ? BF16 : F32, i == 1 ? 1 : 2, shapes[i]);
        array_normal(&s->p[i].value, 1);
        array_get(&s->p[i].value, s->w[i]);
        param_add(&s->p[i], optimizer);
    }
    return s;
}

static void scene_free(scene *s)
{
    cadft_optimizer_destroy(s->optimizer);
    for (int i = 0; i < PARAMS; i++)
        param_free(&s->p[i]);
    free(s);
}

/* New gradients; returns the sum of their squares. */
static double scene_grads(scene *s, double scale)
{
    double sum = 0;
    for (int i = 0; i < PARAMS; i++) {
        array_normal(&s->p[i].grad, scale);
        array_get(&s->p[i].grad, s->g[i]);
        for (int64_t k = 0; k < s->p[i].grad.n; k++)
            sum += s->g[i][k] * s->g[i][k];
    }
    return sum;
}

/* The reference's step with gradients times `scale`. */
static void scene_reference(scene *s, const rule *r, int64_t t, double scale)
{
    for (int i = 0; i < PARAMS; i++) {
        rule own = *r;
        own.weight_decay = i == 1 ? 0 : r->weight_decay;
        for (int64_t k = 0; k < s->p[i].value.n; k++)
            rule_step(&own, t, scale * s->g[i][k], &s->w[i][k], &s->m[i][k],
                      &s->v[i][k]);
    }
}

/* float32 weights to 1e-6 of the largest; bfloat16 ones rounded besides. */
static void scene_check(const scene *s, int64_t t)
{
    double got[LENGTH];
    for (int i = 0; i < PARAMS; i++) {
        double bound = s->p[i].value.dtype == BF16 ? 0x1p-8 : 0;
        array_get(&s->p[i].value, got);
        for (int64_t k = 0; k < s->p[i].value.n; k++)
            ck_assert_msg(fabs(got[k] - s->w[i][k]) <=
                              bound * fabs(s->w[i][k]) + 4e-6,
                          "step %d, %s[%d]: %.9g, expected %.9g", (int)t,
                          s->p[i].name, (int)k, got[k], s->w[i][k]);
    }
}

START_TEST(random_knobs_give_the_formula)
{
    for (int trial = 0; trial < 24; trial++) {
        cadft_optimizer *optimizer = optimizer_new(context);
        int sgd = trial & 1, clipped = trial & 2;
        rule r = {.sgd = sgd,
                  .nesterov = sgd && trial & 4,
                  .lr = 0.05 * support_uniform(),
                  .beta1 = 0.05 + 0.9 * support_uniform(),
                  .beta2 = 0.5 + 0.49 * support_uniform(),
                  .eps = 1e-6,
                  .weight_decay = 0.3 * support_uniform()};
        double scale = exp(support_normal()), clip = 0.5 + support_uniform();
        scene *s;
        optimizer_set(optimizer, CADFT_OPTIMIZER_KIND, sgd);
        s = scene_new(optimizer, trial >= 12);
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR, r.lr);
        optimizer_set(optimizer, CADFT_OPTIMIZER_BETA1, r.beta1);
        optimizer_set(optimizer, CADFT_OPTIMIZER_MOMENTUM, r.beta1);
        optimizer_set(optimizer, CADFT_OPTIMIZER_BETA2, r.beta2);
        optimizer_set(optimizer, CADFT_OPTIMIZER_EPS, r.eps);
        optimizer_set(optimizer, CADFT_OPTIMIZER_WEIGHT_DECAY, r.weight_decay);
        optimizer_set(optimizer, CADFT_OPTIMIZER_NESTEROV, r.nesterov);
        optimizer_set(optimizer, CADFT_OPTIMIZER_GRAD_SCALE, scale);
        optimizer_set(optimizer, CADFT_OPTIMIZER_CLIP_NORM, clipped ? clip : 0);
        for (int64_t t = 1; t <= STEPS; t++) {
            double norm = sqrt(scene_grads(s, 0.05)) * scale, factor;
            cadft_optimizer_report report = optimizer_step(optimizer);
            factor = clipped ? fmin(1, clip / (norm + 1e-6)) : 1;
            ck_assert_double_eq_tol(report.grad_norm, norm, 1e-10 * norm);
            ck_assert_double_eq_tol(report.clip, factor, 1e-10);
            ck_assert_double_eq(report.lr, r.lr);
            scene_reference(s, &r, t, scale * factor);
            scene_check(s, t);
        }
        scene_free(s);
    }
}
END_TEST

START_TEST(groups_scale_rate_and_decay)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    scene *s = scene_new(optimizer, 0);
    rule r = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    int64_t matched = 0;
    optimizer_set(optimizer, CADFT_OPTIMIZER_LR, r.lr);
    optimizer_set(optimizer, CADFT_OPTIMIZER_CLIP_NORM, 0);
    optimizer_set(optimizer, CADFT_OPTIMIZER_WEIGHT_DECAY, 0.5);
    CHECK_OK(cadft_optimizer_group(optimizer, "p*", 5, 5, &matched, &err), err);
    ck_assert_int_eq(matched, PARAMS);
    CHECK_OK(cadft_optimizer_group(optimizer, "p0", 2, 0.25, &matched, &err),
             err);
    ck_assert_int_eq(matched, 1);
    CHECK_OK(cadft_optimizer_group(optimizer, "?1", 0, 3, NULL, &err), err);
    for (int64_t t = 1; t <= 5; t++) {
        scene_grads(s, 0.1);
        optimizer_step(optimizer);
        for (int i = 0; i < PARAMS; i++) {
            rule own = r;
            own.lr = r.lr * (i == 0 ? 2 : i == 1 ? 0 : 5);
            own.weight_decay = 0.5 * (i == 0 ? 0.25 : i == 1 ? 3 : 5);
            for (int64_t k = 0; k < s->p[i].value.n; k++)
                rule_step(&own, t, s->g[i][k], &s->w[i][k], &s->m[i][k],
                          &s->v[i][k]);
        }
        scene_check(s, t);
    }
    scene_free(s);
}
END_TEST

/* A bowl around random places: both rules find them. */
START_TEST(a_bowl_is_descended)
{
    for (int sgd = 0; sgd < 2; sgd++) {
        cadft_optimizer *optimizer = optimizer_new(context);
        double target[LENGTH], w[LENGTH], g[LENGTH];
        int64_t shape[] = {40};
        param p;
        param_new(&p, context, "w", F32, F32, 1, shape);
        optimizer_set(optimizer, CADFT_OPTIMIZER_KIND, sgd);
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR, sgd ? 0.05 : 0.1);
        optimizer_set(optimizer, CADFT_OPTIMIZER_SCHEDULE,
                      CADFT_SCHEDULE_COSINE);
        optimizer_set(optimizer, CADFT_OPTIMIZER_PLANNED_STEPS, 300);
        for (int i = 0; i < 40; i++)
            target[i] = support_normal();
        array_normal(&p.value, 1);
        param_add(&p, optimizer);
        for (int t = 0; t < 300; t++) {
            array_get(&p.value, w);
            for (int i = 0; i < 40; i++)
                g[i] = w[i] - target[i];
            array_put(&p.grad, g);
            optimizer_step(optimizer);
        }
        array_get(&p.value, w);
        for (int i = 0; i < 40; i++)
            ck_assert_double_eq_tol(w[i], target[i], 1e-3);
        cadft_optimizer_destroy(optimizer);
        param_free(&p);
    }
}
END_TEST

/* -------------------------------------------------------------- the norm */

START_TEST(a_norm_over_processes)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    scene *s = scene_new(optimizer, 1);
    double sum = scene_grads(s, 1) * 0.25, got = 0;
    cadft_optimizer_report report = {.struct_size = sizeof report};
    optimizer_set(optimizer, CADFT_OPTIMIZER_GRAD_SCALE, 0.5);
    CHECK_OK(cadft_optimizer_norm(optimizer, &got, &err), err);
    ck_assert_double_eq_tol(got, sum, 1e-12 * sum);
    ck_assert_int_eq(optimizer_fact(optimizer, CADFT_OPTIMIZER_STEPS), 0);
    got *= 3; /* two more processes like this one */
    CHECK_OK(cadft_optimizer_step(optimizer, &got, &report, &err), err);
    ck_assert_double_eq_tol(report.grad_norm, sqrt(3 * sum), 1e-10 * sqrt(sum));
    ck_assert_double_eq_tol(report.clip, 1 / (sqrt(3 * sum) + 1e-6), 1e-12);
    got = 0;
    CHECK_OK(cadft_optimizer_step(optimizer, &got, &report, &err), err);
    ck_assert_double_eq(report.grad_norm, 0);
    ck_assert_double_eq(report.clip, 1);
    scene_free(s);
}
END_TEST

static void *bytes_of(const scene *s)
{
    char *all = (char *)malloc(PARAMS * LENGTH * sizeof(float)), *at = all;
    memset(all, 0, PARAMS * LENGTH * sizeof(float));
    for (int i = 0; i < PARAMS; i++) {
        void *own = array_bytes(&s->p[i].value);
        memcpy(at, own, s->p[i].value.bytes);
        at += s->p[i].value.bytes;
        free(own);
    }
    return all;
}

static void check_skipped(scene *s, const double *given, int64_t n)
{
    cadft_optimizer_report report = {.struct_size = sizeof report};
    void *before = bytes_of(s), *after;
    CHECK_OK(cadft_optimizer_step(s->optimizer, given, &report, &err), err);
    after = bytes_of(s);
    ck_assert_int_eq(memcmp(before, after, PARAMS * LENGTH * 4), 0);
    ck_assert_int_eq(report.skipped, 1);
    ck_assert_int_eq(report.step, 1);
    ck_assert_int_eq(report.skipped_total, n);
    ck_assert_int_eq(optimizer_fact(s->optimizer, CADFT_OPTIMIZER_SKIPPED), n);
    ck_assert_int_eq(optimizer_fact(s->optimizer, CADFT_OPTIMIZER_STEPS), 1);
    optimizer_set(s->optimizer, CADFT_OPTIMIZER_NONFINITE,
                  CADFT_NONFINITE_ERROR);
    CHECK_STATUS(cadft_optimizer_step(s->optimizer, given, NULL, &err),
                 CADFT_E_NONFINITE, err);
    ck_assert_int_eq(optimizer_fact(s->optimizer, CADFT_OPTIMIZER_SKIPPED), n);
    optimizer_set(s->optimizer, CADFT_OPTIMIZER_NONFINITE,
                  CADFT_NONFINITE_SKIP);
    free(before);
    free(after);
}

/* One step, some that are skipped, one more: as two steps. */
START_TEST(a_gradient_that_is_not_finite_is_skipped)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    cadft_optimizer *optimizer = optimizer_new(context);
    scene *s = scene_new(optimizer, 1);
    rule r = {.lr = 5e-5,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .weight_decay = 0.01};
    int64_t n = 0;
    double given = NAN, kept;
    optimizer_set(optimizer, CADFT_OPTIMIZER_CLIP_NORM, 0);
    scene_grads(s, 1);
    optimizer_step(optimizer);
    scene_reference(s, &r, 1, 1);
    scene_grads(s, 1);
    for (int i = 0; i < 3; i++) {
        int which = i < 2 ? i : 3;
        int64_t at = support_below(s->p[which].grad.n);
        kept = s->g[which][at];
        s->g[which][at] = bad[i];
        array_put(&s->p[which].grad, s->g[which]);
        check_skipped(s, NULL, ++n);
        ck_assert_msg(strstr(err.message, s->p[which].name) != NULL, "%s",
                      err.message);
        s->g[which][at] = kept;
        array_put(&s->p[which].grad, s->g[which]);
    }
    check_skipped(s, &given, ++n);
    given = 1e80; /* finite, but float32 cannot hold its root */
    check_skipped(s, &given, ++n);
    optimizer_step(optimizer);
    scene_reference(s, &r, 2, 1);
    scene_check(s, 2);
    scene_free(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer");
    TCase *t = tcase_create("arrays");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, knobs_have_names_bounds_and_defaults);
    tcase_add_test(t, some_knobs_are_settled_by_the_first_parameter);
    tcase_add_test(t, the_rate_is_the_formula);
    tcase_add_test(t, a_fraction_is_rounded_up);
    tcase_add_test(t, knobs_that_do_not_go_together_are_refused);
    tcase_add_test(t, random_knobs_give_the_formula);
    tcase_add_test(t, groups_scale_rate_and_decay);
    tcase_add_test(t, a_bowl_is_descended);
    tcase_add_test(t, a_norm_over_processes);
    tcase_add_test(t, a_gradient_that_is_not_finite_is_skipped);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
