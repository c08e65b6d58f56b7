/* SPDX-License-Identifier: Apache-2.0 */
/* Replays tests/golden/optimizer/steps.json, which is PyTorch's:
 * tests/reference/generate_optimizer.py. Rates, norms and weights, for float32
 * parameters, for bfloat16 ones with masters, and with bfloat16 gradients. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optimizer_support.h"

enum { TENSORS = 3, MOST = 16 };

static json_t *expected;
static cadft_context *context;
static cadft_error err;

static void setup(void)
{
    json_error_t where;
    err = support_error();
    expected = json_load_file(GOLDEN_DIR "/optimizer/steps.json", 0, &where);
    ck_assert_msg(expected != NULL, "%s, line %d", where.text, where.line);
    context = model_context(2);
}

static void teardown(void)
{
    json_decref(expected);
    cadft_context_destroy(context);
}

/* The generator's rule for numbers. */
static double
number(uint64_t seed, uint64_t step, uint64_t tensor, uint64_t i, int bits)
{
    uint64_t z = (seed * 1000003 + step * 10007 + tensor * 1009 + i + 1) *
                 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return ((double)(z >> (64 - bits)) - ldexp(1, bits - 1)) /
           ldexp(1, bits - 1);
}

static int64_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* Initial values (step 0) or gradients. */
static void fill(const json_t *c, int64_t step, int64_t tensor, array *out)
{
    double values[MOST];
    for (int64_t i = 0; i < out->n; i++)
        values[i] =
            number((uint64_t)integer(c, "seed"), (uint64_t)step,
                   (uint64_t)tensor, (uint64_t)i, (int)integer(c, "bits"));
    array_put(out, values);
}

static cadft_optimizer *
prepare(json_t *c, param params[TENSORS], int wide, int small)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    json_t *knobs = json_object_get(c, "knobs"), *value, *group;
    const char *key;
    size_t i;
    json_object_foreach(knobs, key, value)
    {
        int32_t number_of = 0;
        CHECK_OK(cadft_optimizer_key(key, &number_of, &err), err);
        CHECK_OK(cadft_optimizer_set_str(optimizer, number_of,
                                         json_string_value(value), &err),
                 err);
    }
    json_array_foreach(json_object_get(expected, "tensors"), i, value)
    {
        json_t *shape = json_object_get(value, "shape");
        int64_t sizes[4];
        for (size_t d = 0; d < json_array_size(shape); d++)
            sizes[d] = json_integer_value(json_array_get(shape, d));
        param_new(&params[i], context,
                  json_string_value(json_object_get(value, "name")),
                  wide ? CADFT_DTYPE_F32 : CADFT_DTYPE_BF16,
                  small ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32,
                  (int32_t)json_array_size(shape), sizes);
        fill(c, 0, (int64_t)i, &params[i].value);
        param_add(&params[i], optimizer);
    }
    json_array_foreach(json_object_get(c, "groups"), i, group)
        CHECK_OK(cadft_optimizer_group(
                     optimizer, json_string_value(json_array_get(group, 0)),
                     json_real_value(json_array_get(group, 1)),
                     json_real_value(json_array_get(group, 2)), NULL, &err),
                 err);
    return optimizer;
}

static double real_at(const json_t *c, const char *key, int64_t step)
{
    return json_number_value(
        json_array_get(json_object_get(c, key), (size_t)step - 1));
}

static float bf16(double x)
{
    uint16_t stored;
    support_put(&stored, CADFT_DTYPE_BF16, 0, (float)x);
    return support_get(&stored, CADFT_DTYPE_BF16, 0);
}

/* Of a weight, relative to the largest of its tensor. torch's own float32 is
 * off by up to 2.3e-6: it rounds more often. */
#define TOLERANCE 1e-6

static void check_values(
    const json_t *c, const json_t *want, int64_t step, const param *p, int wide)
{
    double got[MOST], largest = 0, slack;
    array_get(&p->value, got);
    for (int64_t i = 0; i < p->value.n; i++)
        largest = fmax(
            largest, fabs(json_number_value(json_array_get(want, (size_t)i))));
    slack = TOLERANCE * largest;
    for (int64_t i = 0; i < p->value.n; i++) {
        double right = json_number_value(json_array_get(want, (size_t)i));
        int good = wide ? fabs(got[i] - right) <= slack
                        : (float)got[i] >= bf16(right - slack) &&
                              (float)got[i] <= bf16(right + slack);
        ck_assert_msg(good, "%s, step %d: %s[%d] is %.9g, expected %.9g: %.2e",
                      json_string_value(json_object_get(c, "name")), (int)step,
                      p->name, (int)i, got[i], right,
                      (got[i] - right) / largest);
    }
}

static void check_report(const json_t *c,
                         int64_t step,
                         const cadft_optimizer_report *report)
{
    double lr = real_at(c, "lr", step), norm = real_at(c, "norm", step);
    ck_assert_int_eq(report->step, step);
    ck_assert_int_eq(report->skipped, 0);
    ck_assert_msg(fabs(report->lr - lr) <= 1e-9 * fabs(lr) + 1e-18,
                  "%s, step %d: rate %.12g, expected %.12g",
                  json_string_value(json_object_get(c, "name")), (int)step,
                  report->lr, lr);
    ck_assert_msg(fabs(report->grad_norm - norm) <= 1e-9 * norm,
                  "%s, step %d: norm %.12g, expected %.12g",
                  json_string_value(json_object_get(c, "name")), (int)step,
                  report->grad_norm, norm);
}

static void replay(json_t *c, int wide, int small)
{
    json_t *kept = json_object_get(expected, "kept");
    param params[TENSORS];
    cadft_optimizer *optimizer = prepare(c, params, wide, small);
    size_t next = 0;
    for (int64_t step = 1; step <= integer(expected, "steps"); step++) {
        cadft_optimizer_report report;
        for (int64_t i = 0; i < TENSORS; i++)
            fill(c, step, i, &params[i].grad);
        report = optimizer_step(optimizer);
        check_report(c, step, &report);
        if (step != json_integer_value(json_array_get(kept, next)))
            continue;
        for (size_t i = 0; i < TENSORS; i++)
            check_values(
                c,
                json_array_get(
                    json_array_get(json_object_get(c, "values"), next), i),
                step, &params[i], wide);
        next++;
    }
    ck_assert_uint_eq(next, json_array_size(kept));
    cadft_optimizer_destroy(optimizer);
    for (int i = 0; i < TENSORS; i++)
        param_free(&params[i]);
}

START_TEST(as_torch)
{
    json_t *c;
    size_t i;
    json_array_foreach(json_object_get(expected, "cases"), i, c)
    {
        replay(c, 1, 0);
        if (integer(c, "bits") == 8) { /* then bfloat16 holds them */
            replay(c, 1, 1);
            replay(c, 0, 0);
            replay(c, 0, 1);
        }
    }
    ck_assert_uint_ge(i, 9);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer golden");
    TCase *t = tcase_create("torch");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, as_torch);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
