/* SPDX-License-Identifier: Apache-2.0 */
/* Histories of the reference (tests/reference/rewrite_reference.py) replayed:
 * the same picks and verdicts, averages to 1e-13 of their size. Once
 * straight, once with a handle restored from its state after each call. */
#include <jansson.h>

#include "rewrite_support.h"

enum { MOST = 64 };

struct replay {
    cadft_rewrite *rw;
    const char *name;
    size_t op;
    int restored; /* a new handle after each op */
};

static double number(const json_t *value)
{
    const char *text = json_string_value(value);
    if (!text)
        return json_number_value(value);
    return text[0] == 'n' ? NAN : text[0] == 'i' ? INFINITY : -INFINITY;
}

/* NULL for null. */
static const double *numbers(const json_t *array, double *out)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        out[i] = number(json_array_get(array, i));
    return json_is_null(array) ? NULL : out;
}

static void set_json(cadft_rewrite *rw, const char *name, const json_t *value)
{
    cadft_error err = support_error();
    int32_t key = 0;
    CHECK_OK(cadft_rewrite_key(name, &key, &err), err);
    if (json_is_string(value))
        CHECK_OK(cadft_rewrite_set_str(rw, key, json_string_value(value), &err),
                 err);
    else if (json_is_integer(value))
        CHECK_OK(
            cadft_rewrite_set_i64(rw, key, json_integer_value(value), &err),
            err);
    else
        CHECK_OK(cadft_rewrite_set_f64(rw, key, json_real_value(value), &err),
                 err);
}

static void observe(struct replay *r, const json_t *op)
{
    const json_t *list = json_array_get(op, 1);
    double c[MOST], chat[MOST];
    int64_t ids[MOST];
    cadft_error err = support_error();
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = json_integer_value(json_array_get(list, i));
    CHECK_OK(cadft_rewrite_observe(r->rw, ids,
                                   numbers(json_array_get(op, 2), c),
                                   numbers(json_array_get(op, 3), chat),
                                   (int64_t)json_array_size(list), &err),
             err);
}

static void select_step(struct replay *r, const json_t *op)
{
    int64_t step = json_integer_value(json_array_get(op, 1)), ids[MOST];
    const json_t *want = json_array_get(op, 3);
    cadft_error err = support_error();
    int32_t due = -1;
    size_t count;
    CHECK_OK(cadft_rewrite_due(r->rw, step, &due, &err), err);
    ck_assert_int_eq(due, json_integer_value(json_array_get(op, 2)));
    count = select_all(r->rw, step, ids);
    ck_assert_msg(count == json_array_size(want),
                  "%s, op %zu: %zu picks, expected %zu", r->name, r->op, count,
                  json_array_size(want));
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(ids[i] == json_integer_value(json_array_get(want, i)),
                      "%s, op %zu: pick %zu is %lld", r->name, r->op, i,
                      (long long)ids[i]);
}

static void commit_op(struct replay *r, const json_t *op)
{
    const json_t *answer = json_array_get(op, 2);
    const json_t *list = json_object_get(answer, "tokens");
    int32_t tokens[MOST], rejected;
    cadft_rewrite_result result = {
        .struct_size = sizeof result,
        .ended = (int32_t)json_integer_value(json_object_get(answer, "ended")),
        .tokens = json_is_null(list) ? NULL : tokens,
        .n_tokens = json_integer_value(json_object_get(answer, "n_tokens")),
        .c_new = number(json_object_get(answer, "c_new")),
        .c_old = number(json_object_get(answer, "c_old"))};
    for (size_t i = 0; i < json_array_size(list); i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(list, i));
    rejected =
        commit(r->rw, json_integer_value(json_array_get(op, 1)), &result);
    ck_assert_msg(rejected == json_integer_value(json_array_get(op, 3)),
                  "%s, op %zu: rejected %d", r->name, r->op, rejected);
}

static void check_number(struct replay *r, double got, const json_t *want)
{
    double expected = json_is_null(want) ? NAN : number(want);
    if (isnan(expected) && isnan(got))
        return;
    ck_assert_msg(fabs(got - expected) <= 1e-13 * fmax(1, fabs(expected)),
                  "%s: %.17g, expected %.17g", r->name, got, expected);
}

static void check_sample(struct replay *r, int64_t id, const json_t *want)
{
    cadft_rewrite_info info = info_of(r->rw, id);
    const json_t *list = json_array_get(want, 6);
    const int32_t *tokens;
    int64_t n;
    cadft_error err = support_error();
    const int64_t got[] = {info.observations, info.rewrites, info.is_open,
                           info.is_rewritten};
    check_number(r, info.average, json_array_get(want, 0));
    check_number(r, info.c, json_array_get(want, 1));
    for (size_t i = 0; i < 4; i++)
        ck_assert_msg(got[i] == json_integer_value(json_array_get(want, i + 2)),
                      "%s: field %zu of sample %lld is %lld", r->name, i,
                      (long long)id, (long long)got[i]);
    CHECK_OK(cadft_rewrite_target(r->rw, id, &tokens, &n, &err), err);
    ck_assert_int_eq(n, (int64_t)json_array_size(list));
    ck_assert_int_eq(tokens == NULL, n == 0);
    for (int64_t i = 0; i < n; i++)
        ck_assert_int_eq(tokens[i],
                         json_integer_value(json_array_get(list, (size_t)i)));
}

static void check_samples(struct replay *r, const json_t *op)
{
    const json_t *list = json_array_get(op, 1);
    ck_assert_int_eq(fact(r->rw, CADFT_REWRITE_SAMPLES),
                     (int64_t)json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++)
        check_sample(r, (int64_t)i, json_array_get(list, i));
}

static void play(struct replay *r, const json_t *op)
{
    const char *name = json_string_value(json_array_get(op, 0));
    int64_t id = json_integer_value(json_array_get(op, 1));
    cadft_error err = support_error();
    if (strcmp(name, "set") == 0)
        set_json(r->rw, json_string_value(json_array_get(op, 1)),
                 json_array_get(op, 2));
    else if (strcmp(name, "observe") == 0)
        observe(r, op);
    else if (strcmp(name, "select") == 0)
        select_step(r, op);
    else if (strcmp(name, "commit") == 0)
        commit_op(r, op);
    else if (strcmp(name, "reject") == 0)
        CHECK_OK(cadft_rewrite_reject(r->rw, id, &err), err);
    else if (strcmp(name, "restore") == 0)
        CHECK_OK(cadft_rewrite_restore(r->rw, id, &err), err);
    else if (strcmp(name, "cancel") == 0)
        cadft_rewrite_cancel(r->rw);
    else if (strcmp(name, "samples") == 0)
        check_samples(r, op);
    else
        ck_abort_msg("op %s is not known", name);
}

static void play_case(json_t *one, int restored)
{
    json_t *ops = json_object_get(one, "ops");
    const char *name;
    json_t *value;
    struct replay r = {.rw = new_rewrite(json_integer_value(
                           json_object_get(one, "n_samples"))),
                       .name = json_string_value(json_object_get(one, "name")),
                       .restored = restored};
    json_object_foreach(json_object_get(one, "options"), name, value)
        set_json(r.rw, name, value);
    for (; r.op < json_array_size(ops); r.op++) {
        play(&r, json_array_get(ops, r.op));
        if (r.restored) {
            cadft_rewrite *next = clone(r.rw);
            same_state(r.rw, next);
            cadft_rewrite_destroy(r.rw);
            r.rw = next;
        }
    }
    cadft_rewrite_destroy(r.rw);
}

static void play_all(int restored)
{
    json_error_t error;
    json_t *all = json_load_file(GOLDEN_DIR "/rewriting/cases.json",
                                 JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(all != NULL, "rewriting/cases.json: %s", error.text);
    ck_assert_uint_gt(json_array_size(all), 40);
    for (size_t i = 0; i < json_array_size(all); i++)
        play_case(json_array_get(all, i), restored);
    json_decref(all);
}

START_TEST(straight)
{
    play_all(0);
}
END_TEST

START_TEST(restored_after_each_call)
{
    play_all(1);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("rewrite_golden");
    TCase *t = tcase_create("histories");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, straight);
    tcase_add_test(t, restored_after_each_call);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
