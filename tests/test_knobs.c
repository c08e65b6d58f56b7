/* SPDX-License-Identifier: Apache-2.0 */
/* The table of knobs (lib/common/knobs.h), with one that no noun has: its keys
 * are not in order and its fields mixed. What the knobs of the loss and of the
 * model do is in their tests. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/knobs.h"
#include "support.h"

typedef struct options {
    double before;
    int64_t colour;
    double rate;
    int64_t steps;
    double after;
} options;

enum { COLOUR = 7, RATE = -3, STEPS = 1000 };

static const cadft__knob list[] = {
    CADFT__I64(options, STEPS, steps, -5, 9007199254740992.0, 12, NULL),
    CADFT__I64(options, COLOUR, colour, 0, 2, 1, "red green dark_blue"),
    CADFT__F64(options, RATE, rate, -DBL_MAX, 0.5, 0.1),
};
static const cadft__fact facts[] = {{100, "weight"}};
static const cadft__knobs knobs = {list, 3, facts, 1};

/* The fields around knobs keep these. */
static options fresh(void)
{
    options o = {.before = 3.5, .after = -7.25};
    cadft__knobs_default(&knobs, &o);
    return o;
}

static void same(const options *a, const options *b)
{
    ck_assert(a->before == b->before && a->after == b->after);
    ck_assert(a->rate == b->rate);
    ck_assert_int_eq(a->colour, b->colour);
    ck_assert_int_eq(a->steps, b->steps);
}

/* A call that is refused says `about` and leaves the options alone. */
#define REFUSED(status, about, call)                                           \
    do {                                                                       \
        options was = o;                                                       \
        CHECK_STATUS(call, status, err);                                       \
        ck_assert_msg(strstr(err.message, about) != NULL, "%s", err.message);  \
        same(&o, &was);                                                        \
    } while (0)

START_TEST(defaults_and_bounds)
{
    options o = fresh();
    cadft_error err = support_error();
    int32_t type = -1;
    double low = NAN, high = NAN, standard = NAN;
    same(&o, &(options){3.5, 1, 0.1, 12, -7.25});
    CHECK_OK(
        cadft__knobs_bounds(&knobs, RATE, &type, &low, &high, &standard, &err),
        err);
    ck_assert_int_eq(type, CADFT__KNOB_F64);
    ck_assert(low == -DBL_MAX && high == 0.5 && standard == 0.1);
    CHECK_OK(
        cadft__knobs_bounds(&knobs, COLOUR, &type, &low, &high, NULL, &err),
        err);
    ck_assert_int_eq(type, CADFT__KNOB_I64);
    ck_assert(low == 0 && high == 2);
    REFUSED(CADFT_E_KEY, "key 8",
            cadft__knobs_bounds(&knobs, 8, &type, &low, &high, NULL, &err));
    ck_assert(low == 0 && high == 2);
}
END_TEST

START_TEST(set_and_get)
{
    options o = fresh();
    cadft_error err = support_error();
    int64_t whole = 0;
    double number = 0;
    CHECK_OK(cadft__knobs_set_i64(&knobs, &o, STEPS, -5, &err), err);
    CHECK_OK(cadft__knobs_set_i64(&knobs, &o, COLOUR, 2, &err), err);
    CHECK_OK(cadft__knobs_set_f64(&knobs, &o, RATE, -1e300, &err), err);
    same(&o, &(options){3.5, 2, -1e300, -5, -7.25});
    CHECK_OK(cadft__knobs_get_i64(&knobs, &o, STEPS, &whole, &err), err);
    CHECK_OK(cadft__knobs_get_f64(&knobs, &o, RATE, &number, &err), err);
    ck_assert_int_eq(whole, -5);
    ck_assert(number == -1e300);
}
END_TEST

START_TEST(refusals)
{
    options o = fresh();
    cadft_error err = support_error();
    int64_t whole = 5;
    double number = 5;
    REFUSED(CADFT_E_KEY, "key 8", cadft__knobs_set_i64(&knobs, &o, 8, 0, &err));
    REFUSED(CADFT_E_KEY, "key 8",
            cadft__knobs_set_str(&knobs, &o, 8, "0", &err));
    REFUSED(CADFT_E_KEY, "rate is of type f64",
            cadft__knobs_set_i64(&knobs, &o, RATE, 0, &err));
    REFUSED(CADFT_E_KEY, "steps is of type i64",
            cadft__knobs_set_f64(&knobs, &o, STEPS, 0, &err));
    REFUSED(CADFT_E_ARG, "steps is -6, expected -5 to 9007199254740992",
            cadft__knobs_set_i64(&knobs, &o, STEPS, -6, &err));
    REFUSED(CADFT_E_ARG, "colour is 3, expected 0 to 2",
            cadft__knobs_set_i64(&knobs, &o, COLOUR, 3, &err));
    REFUSED(CADFT_E_ARG, "rate is 0.625",
            cadft__knobs_set_f64(&knobs, &o, RATE, 0.625, &err));
    REFUSED(CADFT_E_ARG, "rate is",
            cadft__knobs_set_f64(&knobs, &o, RATE, NAN, &err));
    REFUSED(CADFT_E_NULL, "value of rate",
            cadft__knobs_set_str(&knobs, &o, RATE, NULL, &err));
    REFUSED(CADFT_E_NULL, "out",
            cadft__knobs_get_i64(&knobs, &o, STEPS, NULL, &err));
    REFUSED(CADFT_E_KEY, "rate",
            cadft__knobs_get_i64(&knobs, &o, RATE, &whole, &err));
    REFUSED(CADFT_E_KEY, "colour",
            cadft__knobs_get_f64(&knobs, &o, COLOUR, &number, &err));
    ck_assert(whole == 5 && number == 5);
}
END_TEST

/* `text` is read, or refused with a sentence that names the knob. */
static void reads(options *o, int32_t key, const char *text, int32_t status)
{
    const cadft__knob *knob = NULL;
    cadft_error err = support_error();
    options was = *o;
    CHECK_OK(cadft__knobs_find(&knobs, key, &knob, &err), err);
    ck_assert_msg(cadft__knobs_set_str(&knobs, o, key, text, &err) == status,
                  "\"%s\": %s", text, err.message);
    if (status) {
        ck_assert_ptr_nonnull(strstr(err.message, knob->name));
        same(o, &was);
    }
}

START_TEST(texts)
{
    static const char *const bad[] = {"",    " ",   "0,1",    "0.1x", "nan",
                                      "inf", "0.6", "-1e999", "--1"};
    static const char *const not_whole[] = {"",  "1.5", "-6",
                                            "x", "1 ",  "9007199254740993"};
    static const char *const not_colour[] = {"",     "Red", "green ", "gree",
                                             "blue", "3",   "-1",     "dark"};
    options o = fresh();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        reads(&o, RATE, bad[i], CADFT_E_ARG);
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++)
        reads(&o, STEPS, not_whole[i], CADFT_E_ARG);
    for (size_t i = 0; i < sizeof not_colour / sizeof *not_colour; i++)
        reads(&o, COLOUR, not_colour[i], CADFT_E_ARG);
    reads(&o, RATE, "-2.5e-3", CADFT_OK);
    ck_assert(o.rate == -0.0025);
    reads(&o, STEPS, "9007199254740992", CADFT_OK);
    ck_assert_int_eq(o.steps, 1LL << 53);
    reads(&o, COLOUR, "dark_blue", CADFT_OK);
    ck_assert_int_eq(o.colour, 2);
    reads(&o, COLOUR, "0", CADFT_OK);
    ck_assert_int_eq(o.colour, 0);
}
END_TEST

START_TEST(one_after_the_other)
{
    options o = fresh();
    cadft_error err = support_error();
    const char *name = NULL;
    int32_t key = -1, again = -1, n = 0;
    while (!cadft__knobs_at(&knobs, n, &name, &key, &err)) {
        CHECK_OK(cadft__knobs_key(&knobs, name, &again, &err), err);
        ck_assert_int_eq(key, again);
        n++;
    }
    ck_assert_uint_eq((size_t)n, knobs.count);
    CHECK_OK(cadft__knobs_key(&knobs, "weight", &again, &err), err);
    ck_assert_int_eq(again, 100);
    REFUSED(CADFT_E_KEY, "weight, is read only",
            cadft__knobs_set_f64(&knobs, &o, 100, 1, &err));
    again = key;
    CHECK_OK(cadft__knobs_at(&knobs, 0, NULL, NULL, &err), err);
    REFUSED(CADFT_E_KEY, "index is -1",
            cadft__knobs_at(&knobs, -1, &name, &key, &err));
    REFUSED(CADFT_E_KEY, "expected 0 to",
            cadft__knobs_at(&knobs, n, &name, &key, &err));
    ck_assert_int_eq(key, again);
}
END_TEST

/* Of every noun: the list, the names and the bounds speak of the same keys. */
START_TEST(nouns_list_their_knobs)
{
    static const struct {
        int32_t (*at)(int32_t, const char **, int32_t *, cadft_error *);
        int32_t (*key)(const char *, int32_t *, cadft_error *);
        int32_t (*bounds)(
            int32_t, int32_t *, double *, double *, double *, cadft_error *);
        const char *first, *fact;
    } nouns[] = {{cadft_loss_key_at, cadft_loss_key, cadft_loss_bounds,
                  "objective", NULL},
                 {cadft_optimizer_key_at, cadft_optimizer_key,
                  cadft_optimizer_bounds, "kind", "state_bytes"},
                 {cadft_rewrite_key_at, cadft_rewrite_key, cadft_rewrite_bounds,
                  "signal", "last_step"},
                 {cadft_model_key_at, cadft_model_key, cadft_model_bounds,
                  "weight_dtype", "arena_bytes"}};
    cadft_error err = support_error();
    for (size_t i = 0; i < sizeof nouns / sizeof nouns[0]; i++) {
        const char *name = NULL;
        int32_t key, again = 0, index = 0;
        CHECK_OK(nouns[i].at(0, &name, NULL, &err), err);
        ck_assert_str_eq(name, nouns[i].first);
        for (; !nouns[i].at(index, &name, &key, &err); index++) {
            CHECK_OK(nouns[i].key(name, &again, &err), err);
            ck_assert_int_eq(key, again);
            CHECK_OK(nouns[i].bounds(key, NULL, NULL, NULL, NULL, &err), err);
        }
        ck_assert_int_eq(err.code, CADFT_E_KEY);
        ck_assert_int_gt(index, 1);
        if (nouns[i].fact) {
            CHECK_OK(nouns[i].key(nouns[i].fact, &key, &err), err);
            ck_assert_int_ge(key, 100);
            CHECK_STATUS(nouns[i].bounds(key, NULL, NULL, NULL, NULL, &err),
                         CADFT_E_KEY, err);
        }
    }
}
END_TEST

/* What get_str writes is what set_str reads. */
START_TEST(texts_come_back)
{
    static const char *const names[] = {"red", "green", "dark_blue"};
    cadft_error err = support_error();
    options o = fresh();
    char text[64];
    size_t needed = 0;
    for (int i = 0; i < 200; i++) {
        options was;
        o.rate = -exp(100 * support_normal()); /* finite: 7 sigma */
        o.steps = support_below(1LL << 53) - 5;
        was = o;
        for (int k = 0; k < 2; k++) {
            int32_t key = k ? RATE : STEPS;
            CHECK_OK(cadft__knobs_get_str(&knobs, &o, key, text, sizeof text,
                                          &needed, &err),
                     err);
            ck_assert_uint_eq(needed, strlen(text) + 1);
            if (k)
                o.rate = 0;
            else
                o.steps = 0;
            CHECK_OK(cadft__knobs_set_str(&knobs, &o, key, text, &err), err);
        }
        same(&o, &was);
    }
    for (int i = 0; i < 3; i++) {
        o.colour = i;
        CHECK_OK(cadft__knobs_get_str(&knobs, &o, COLOUR, text, sizeof text,
                                      NULL, &err),
                 err);
        ck_assert_str_eq(text, names[i]);
    }
    REFUSED(CADFT_E_SPACE, "10",
            cadft__knobs_get_str(&knobs, &o, COLOUR, text, 9, &needed, &err));
    ck_assert_uint_eq(needed, sizeof "dark_blue");
}
END_TEST

START_TEST(keys_by_name)
{
    cadft_error err = support_error();
    options o = fresh();
    int32_t key = 5;
    REFUSED(CADFT_E_KEY, "\"Rate\"",
            cadft__knobs_key(&knobs, "Rate", &key, &err));
    REFUSED(CADFT_E_NULL, "name", cadft__knobs_key(&knobs, NULL, &key, &err));
    REFUSED(CADFT_E_NULL, "key", cadft__knobs_key(&knobs, "rate", NULL, &err));
    ck_assert_int_eq(key, 5);
    CHECK_OK(cadft__knobs_key(&knobs, "rate", &key, &err), err);
    ck_assert_int_eq(key, RATE);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("knobs");
    TCase *t = tcase_create("all");
    tcase_add_test(t, defaults_and_bounds);
    tcase_add_test(t, set_and_get);
    tcase_add_test(t, refusals);
    tcase_add_test(t, texts);
    tcase_add_test(t, texts_come_back);
    tcase_add_test(t, one_after_the_other);
    tcase_add_test(t, nouns_list_their_knobs);
    tcase_add_test(t, keys_by_name);
    suite_add_tcase(suite, t);
    return support_main(argc, argv, suite);
}
