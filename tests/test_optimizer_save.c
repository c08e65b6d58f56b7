/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer's state in a folder: it goes on bit for bit, and a folder that
 * is damaged or of another optimizer changes nothing.
 *
 *   test_optimizer_save [--backend PLUGIN.so] */
#define _GNU_SOURCE /* mkdtemp */
#include <errno.h>
#include <math.h>

#include "files.h"
#include "optimizer_support.h"

enum { F32 = CADFT_DTYPE_F32, BF16 = CADFT_DTYPE_BF16, PARAMS = 3 };

static cadft_context *context;
static cadft_error err;

static void setup(void)
{
    err = support_error();
    context = model_context(2);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static void teardown(void)
{
    cadft_context_destroy(context);
    files_teardown();
}

/* ------------------------------------------------------------------ scene */

/* float32, bfloat16 with a master, and one without elements. */
typedef struct scene {
    param p[PARAMS];
    cadft_optimizer *optimizer;
} scene;

/* An optimizer on the parameters that are there. */
static void connect(scene *s, int kind, int backwards)
{
    s->optimizer = optimizer_new(context);
    optimizer_set(s->optimizer, CADFT_OPTIMIZER_KIND, kind);
    optimizer_set(s->optimizer, CADFT_OPTIMIZER_LR, 0.01);
    for (int i = 0; i < PARAMS; i++)
        param_add(&s->p[backwards ? PARAMS - 1 - i : i], s->optimizer);
}

static void scene_new(scene *s, int kind)
{
    static const int64_t shapes[PARAMS][2] = {{5, 7}, {3, 11}, {0, 4}};
    for (int i = 0; i < PARAMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "layer.%d", i);
        param_new(&s->p[i], context, name, i == 1 ? BF16 : F32, F32, 2,
                  shapes[i]);
        array_normal(&s->p[i].value, 1);
    }
    connect(s, kind, 0);
}

static void scene_free(scene *s)
{
    cadft_optimizer_destroy(s->optimizer);
    for (int i = 0; i < PARAMS; i++)
        param_free(&s->p[i]);
}

/* The steps [from, to), whose gradients depend on the step alone. */
static void steps(scene *s, int from, int to)
{
    for (int t = from; t < to; t++) {
        support_seed((uint64_t)t + 100);
        for (int i = 0; i < PARAMS; i++)
            array_normal(&s->p[i].grad, 1);
        if (t % 4 == 3) { /* one that is skipped */
            double nan = NAN;
            CHECK_OK(cadft_optimizer_step(s->optimizer, &nan, NULL, &err), err);
        }
        optimizer_step(s->optimizer);
    }
}

static void save(scene *s, const char *name)
{
    CHECK_OK(cadft_optimizer_save(s->optimizer, in_scratch(name), &err), err);
}

/* All that the state has, as a file. */
static char *state_of(scene *s, size_t *bytes)
{
    char *text;
    save(s, "state");
    text = get_file("state/optimizer.safetensors", bytes);
    ck_assert_ptr_nonnull(text);
    return text;
}

static void check_same(const char *a, size_t a_bytes, scene *s)
{
    size_t bytes;
    char *b = state_of(s, &bytes);
    ck_assert_uint_eq(bytes, a_bytes);
    ck_assert_int_eq(memcmp(a, b, bytes), 0);
    free(b);
}

/* ------------------------------------------------------------------ resume */

START_TEST(a_run_goes_on_bit_for_bit)
{
    for (int kind = 0; kind < 2; kind++) {
        scene straight, stopped;
        char *state;
        size_t bytes;
        support_seed(3);
        scene_new(&straight, kind);
        steps(&straight, 0, 20);
        support_seed(3);
        scene_new(&stopped, kind);
        steps(&stopped, 0, 10);
        save(&stopped, "saved");
        cadft_optimizer_destroy(stopped.optimizer);
        connect(&stopped, kind, 1); /* the order does not count */
        errno = 4711;
        CHECK_OK(
            cadft_optimizer_load(stopped.optimizer, in_scratch("saved"), &err),
            err);
        ck_assert_int_eq(errno, 4711);
        ck_assert_int_eq(
            optimizer_fact(stopped.optimizer, CADFT_OPTIMIZER_STEPS), 10);
        ck_assert_int_eq(
            optimizer_fact(stopped.optimizer, CADFT_OPTIMIZER_SKIPPED), 2);
        steps(&stopped, 10, 20);
        for (int i = 0; i < PARAMS; i++) {
            void *a = array_bytes(&straight.p[i].value);
            void *b = array_bytes(&stopped.p[i].value);
            ck_assert_int_eq(memcmp(a, b, straight.p[i].value.bytes), 0);
            free(a);
            free(b);
        }
        state = state_of(&straight, &bytes);
        check_same(state, bytes, &stopped);
        free(state);
        scene_free(&straight);
        scene_free(&stopped);
    }
}
END_TEST

/* Without a step: zeros, and masters from the values. A load over a state
 * that is there replaces it. */
START_TEST(a_save_before_the_first_step)
{
    scene s;
    char *state;
    size_t bytes;
    scene_new(&s, 0);
    CHECK_OK(cadft_optimizer_save(s.optimizer, in_scratch("new/"), &err), err);
    state = get_file("new/optimizer.safetensors", &bytes);
    steps(&s, 0, 3);
    CHECK_OK(cadft_optimizer_load(s.optimizer, in_scratch("new"), &err), err);
    check_same(state, bytes, &s);
    ck_assert_int_eq(optimizer_fact(s.optimizer, CADFT_OPTIMIZER_STEPS), 0);
    CHECK_OK(cadft_optimizer_save(s.optimizer, in_scratch("new"), &err), err);
    ck_assert_int_eq(count_entries(in_scratch("new")), 1);
    ck_assert_int_eq(count_entries(scratch), 2); /* and "state" */
    free(state);
    scene_free(&s);
}
END_TEST

/* ----------------------------------------------------------------- refusal */

/* A load is refused with these words and changes nothing. */
static void
refused(scene *s, const char *folder, int32_t expected, const char *part)
{
    size_t bytes;
    char *state = state_of(s, &bytes);
    int32_t status =
        cadft_optimizer_load(s->optimizer, in_scratch(folder), &err);
    CHECK_SAYS(status, expected, part, err);
    if (status == CADFT_E_FORMAT)
        CHECK_SAYS(status, expected, "optimizer.safetensors", err);
    check_same(state, bytes, s);
    free(state);
}

static void other_param(
    param *p, const char *name, int32_t dtype, int64_t rows, int64_t cols)
{
    int64_t shape[2] = {rows, cols};
    param_new(p, context, name, dtype, F32, cols ? 2 : 1, shape);
    array_normal(&p->value, 1);
    array_normal(&p->grad, 1);
}

/* The folder is that of `s`; here one parameter is another. */
START_TEST(other_parameters_are_refused)
{
    static const struct {
        const char *name;
        int32_t dtype;
        int64_t rows, cols;
        const char *part;
    } cases[] = {
        {"layer.9", F32, 5, 7, "layer.9.m is missing"},
        {"layer.0", F32, 7, 5, "dimension 0 of layer.0.m is 5, expected 7"},
        {"layer.0", F32, 35, 0, "layer.0.m has 2 dimensions, expected 1"},
        {"layer.0", BF16, 5, 7, "layer.0.master is missing"},
    };
    scene s;
    scene_new(&s, 0);
    steps(&s, 0, 2);
    save(&s, "saved");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scene other = {.optimizer = optimizer_new(context)};
        param p;
        other_param(&p, cases[i].name, cases[i].dtype, cases[i].rows,
                    cases[i].cols);
        param_add(&p, other.optimizer);
        param_add(&s.p[1], other.optimizer);
        param_add(&s.p[2], other.optimizer);
        refused(&other, "saved", CADFT_E_FORMAT, cases[i].part);
        cadft_optimizer_destroy(other.optimizer);
        param_free(&p);
    }
    scene_free(&s);
}
END_TEST

START_TEST(other_optimizers_are_refused)
{
    scene s, other;
    scene_new(&s, CADFT_KIND_ADAMW);
    steps(&s, 0, 2);
    save(&s, "saved");
    other = s;
    connect(&other, CADFT_KIND_SGD, 0);
    refused(&other, "saved", CADFT_E_FORMAT, "kind 0, expected 1");
    cadft_optimizer_destroy(other.optimizer);

    other.optimizer = optimizer_new(context); /* one parameter fewer */
    param_add(&s.p[0], other.optimizer);
    param_add(&s.p[2], other.optimizer);
    refused(&other, "saved", CADFT_E_FORMAT,
            "layer.1.m belongs to no parameter");
    cadft_optimizer_destroy(other.optimizer);

    other.optimizer = optimizer_new(context);
    optimizer_set(other.optimizer, CADFT_OPTIMIZER_MASTER, 0);
    for (int i = 0; i < PARAMS; i++)
        param_add(&s.p[i], other.optimizer);
    refused(&other, "saved", CADFT_E_FORMAT,
            "layer.1.master belongs to no parameter");
    cadft_optimizer_destroy(other.optimizer);
    scene_free(&s);
}
END_TEST

/* Replace the first `from` in the file by `to`, of the same length. */
static void
edit(const char *good, size_t bytes, const char *from, const char *to)
{
    char *copy = (char *)malloc(bytes), *at;
    memcpy(copy, good, bytes);
    at = (char *)memmem(copy, bytes, from, strlen(from));
    ck_assert_msg(at != NULL, "no %s", from);
    memcpy(at, to, strlen(to));
    put_file("bad/optimizer.safetensors", copy, bytes);
    free(copy);
}

/* Counters and steps are int64 at the beginning of the data, by name. */
static void put_number(const char *good, size_t bytes, int index, int64_t value)
{
    char *copy = (char *)malloc(bytes);
    uint64_t header;
    memcpy(copy, good, bytes);
    memcpy(&header, copy, 8);
    memcpy(copy + 8 + header + (size_t)index * 8, &value, 8);
    put_file("bad/optimizer.safetensors", copy, bytes);
    free(copy);
}

START_TEST(a_damaged_file_is_refused)
{
    scene s;
    size_t bytes;
    char *good;
    scene_new(&s, 0);
    steps(&s, 0, 5);
    good = state_of(&s, &bytes);
    steps(&s, 5, 7); /* so that a load would change something */
    ck_assert_int_eq(mkdir(in_scratch("bad"), 0700), 0);
    refused(&s, "bad", CADFT_E_IO, "optimizer.safetensors");
    refused(&s, "nowhere", CADFT_E_IO, "nowhere");
    edit(good, bytes, "layer.1.v", "layer.1.w");
    refused(&s, "bad", CADFT_E_FORMAT, "layer.1.v is missing");
    edit(good, bytes, "optimizer.counters", "optimizer.cOunters");
    refused(&s, "bad", CADFT_E_FORMAT, "optimizer.counters is missing");
    edit(good, bytes, "[5,7]", "[7,5]");
    refused(&s, "bad", CADFT_E_FORMAT, "layer.0.m is 7, expected 5");
    /* layer.0.t, layer.1.t, layer.2.t, then the counters */
    put_number(good, bytes, 1, 6);
    refused(&s, "bad", CADFT_E_FORMAT, "layer.1.t is 6, expected 0 to 5");
    put_number(good, bytes, 1, -1);
    refused(&s, "bad", CADFT_E_FORMAT, "layer.1.t is -1");
    put_number(good, bytes, 3, 2);
    refused(&s, "bad", CADFT_E_FORMAT, "version 2");
    put_number(good, bytes, 5, -3);
    refused(&s, "bad", CADFT_E_FORMAT, "-3 steps");
    put_number(good, bytes, 6, -1);
    refused(&s, "bad", CADFT_E_FORMAT, "-1 skipped");
    free(good);
    scene_free(&s);
}
END_TEST

START_TEST(a_cut_file_is_refused)
{
    scene s;
    size_t bytes;
    char *good;
    scene_new(&s, 0);
    steps(&s, 0, 1);
    good = state_of(&s, &bytes);
    steps(&s, 1, 2);
    ck_assert_int_eq(mkdir(in_scratch("bad"), 0700), 0);
    for (size_t n = 0; n < bytes; n += n < 64 ? 1 : 61) {
        put_file("bad/optimizer.safetensors", good, n);
        refused(&s, "bad", CADFT_E_FORMAT, "optimizer.safetensors");
    }
    free(good);
    scene_free(&s);
}
END_TEST

/* Any byte of the header: refused, or (in what the format leaves free) the
 * same state as from the good file. */
START_TEST(any_byte_of_the_header)
{
    scene s;
    size_t bytes;
    uint64_t header;
    char *good;
    int same = 0;
    scene_new(&s, 0);
    steps(&s, 0, 3);
    good = state_of(&s, &bytes);
    memcpy(&header, good, 8);
    ck_assert_int_eq(mkdir(in_scratch("bad"), 0700), 0);
    for (size_t i = 0; i < 8 + header; i++) {
        char kept = good[i];
        int32_t status;
        good[i] ^= (char)(1 << support_below(8));
        put_file("bad/optimizer.safetensors", good, bytes);
        good[i] = kept;
        status = cadft_optimizer_load(s.optimizer, in_scratch("bad"), &err);
        ck_assert_msg(!status || status == CADFT_E_FORMAT, "byte %zu: %s", i,
                      err.message);
        same += !status;
        check_same(good, bytes, &s);
    }
    ck_assert_int_lt(same, 40); /* the metadata, which nobody reads */
    free(good);
    scene_free(&s);
}
END_TEST

START_TEST(folders_that_cannot_be_written)
{
    scene s;
    scene_new(&s, 0);
    ck_assert_int_eq(mkdir(in_scratch("mine"), 0700), 0);
    put_text("mine/notes", "mine");
    errno = 4711;
    CHECK_SAYS(cadft_optimizer_save(s.optimizer, in_scratch("mine"), &err),
               CADFT_E_IO, "notes", err);
    CHECK_SAYS(cadft_optimizer_save(s.optimizer, in_scratch("no/where"), &err),
               CADFT_E_IO, "no", err);
    CHECK_STATUS(cadft_optimizer_save(s.optimizer, "/", &err), CADFT_E_ARG,
                 err);
    put_text("file", "");
    CHECK_STATUS(cadft_optimizer_save(s.optimizer, in_scratch("file"), &err),
                 CADFT_E_IO, err);
    ck_assert_int_eq(errno, 4711);
    ck_assert_int_eq(count_entries(scratch), 2);
    scene_free(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer save");
    TCase *t = tcase_create("folders");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_run_goes_on_bit_for_bit);
    tcase_add_test(t, a_save_before_the_first_step);
    tcase_add_test(t, other_parameters_are_refused);
    tcase_add_test(t, other_optimizers_are_refused);
    tcase_add_test(t, a_damaged_file_is_refused);
    tcase_add_test(t, a_cut_file_is_refused);
    tcase_add_test(t, any_byte_of_the_header);
    tcase_add_test(t, folders_that_cannot_be_written);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
