/* SPDX-License-Identifier: Apache-2.0 */
/* Model, loss and optimizer together: 20 steps of fine-tuning against
 * PyTorch's in float64, tests/golden/trajectory/steps.json, written by
 * tests/reference/generate_trajectory.py.
 *
 *   test_trajectory [--backend PLUGIN.so] [--seed N]
 *
 * Tolerances. The rate is float64 arithmetic, in the file with 12 digits:
 * 1e-11 of itself. All else has gone through float32 weights: TOLERANCE of the
 * number itself, and for an element of a parameter, of that parameter's
 * largest. The generator takes care that float32 can keep it. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optimizer_support.h"

#define TOLERANCE 1e-5

enum { ROWS = 128, SAMPLES = 8, MICROS = 2 };

/* In messages in place of an element's index: norm of a parameter, and of how
 * it changed. */
enum { NORM = -1, MOVED = -2 };

static json_t *expected;
static cadft_error err;

static void setup(void)
{
    json_error_t where;
    err = support_error();
    expected = json_load_file(GOLDEN_DIR "/trajectory/steps.json", 0, &where);
    ck_assert_msg(expected != NULL, "%s, line %d", where.text, where.line);
}

static void teardown(void)
{
    json_decref(expected);
}

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static json_t *cases(void)
{
    return json_object_get(expected, "cases");
}

static json_t *case_named(const char *name)
{
    json_t *c;
    size_t i;
    json_array_foreach(cases(), i, c)
    {
        if (strcmp(text(c, "name"), name) == 0)
            return c;
    }
    ck_abort_msg("no case is called %s", name);
    return NULL;
}

/* ---------------------------------------------------------------- micros */

/* A micro-batch: demonstrations one after the other. */
typedef struct micro {
    int64_t rows, counting, samples;
    int64_t shape[1], ends_shape[1];
    int32_t tokens[ROWS], labels[ROWS], ids[ROWS], ends[SAMPLES + 1];
    cadft_tensor tokens_view, labels_view, ids_view, ends_view, logits;
    cadft_model_batch batch;
    cadft_loss_batch loss;
} micro;

static void add_demonstration(micro *m, const json_t *demonstration, int32_t id)
{
    const json_t *tokens = json_object_get(demonstration, "tokens");
    int64_t count = (int64_t)json_array_size(tokens);
    int64_t prompt =
        json_integer_value(json_object_get(demonstration, "prompt"));
    ck_assert_int_le(m->rows + count, ROWS);
    for (int64_t i = 0; i < count; i++) {
        const json_t *token = json_array_get(tokens, (size_t)i);
        m->tokens[m->rows + i] = (int32_t)json_integer_value(token);
        m->labels[m->rows + i] = -100;
        m->ids[m->rows + i] = id;
        if (i >= prompt) /* the row before predicts it */
            m->labels[m->rows + i - 1] = m->tokens[m->rows + i];
    }
    m->counting += count - prompt;
    m->rows += count;
    m->ends[++m->samples] = (int32_t)m->rows;
}

static void view(cadft_tensor *tensor, int32_t *data, int64_t *shape)
{
    cadft_tensor_init(tensor, sizeof *tensor, data, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
}

static void wrap(micro *m)
{
    m->shape[0] = m->rows;
    m->ends_shape[0] = m->samples + 1;
    view(&m->tokens_view, m->tokens, m->shape);
    view(&m->labels_view, m->labels, m->shape);
    view(&m->ids_view, m->ids, m->shape);
    view(&m->ends_view, m->ends, m->ends_shape);
    m->logits.struct_size = sizeof m->logits;
    m->batch = (cadft_model_batch){.struct_size = sizeof m->batch,
                                   .tokens = &m->tokens_view,
                                   .cu_seqlens = &m->ends_view};
    m->loss = (cadft_loss_batch){.struct_size = sizeof m->loss,
                                 .logits = &m->logits,
                                 .labels = &m->labels_view,
                                 .sample_ids = &m->ids_view};
}

/* The micro-batches of a step; returns how many demonstrations. */
static int32_t make_micros(json_t *c, int64_t step, micro m[MICROS])
{
    const json_t *groups = json_object_get(expected, "groups");
    const json_t *batch =
        json_array_get(json_object_get(expected, "batches"), (size_t)step);
    const json_t *data =
        json_object_get(json_object_get(expected, "models"), text(c, "model"));
    int32_t id = 0;
    ck_assert_uint_eq(json_array_size(groups), MICROS);
    ck_assert_uint_le(json_array_size(batch), SAMPLES);
    memset(m, 0, MICROS * sizeof *m);
    for (size_t g = 0; g < MICROS; g++) {
        int64_t samples = json_integer_value(json_array_get(groups, g));
        for (int64_t i = 0; i < samples; i++, id++) {
            const json_t *which = json_array_get(batch, (size_t)id);
            add_demonstration(
                &m[g], json_array_get(data, (size_t)json_integer_value(which)),
                id);
        }
        wrap(&m[g]);
    }
    return id;
}

/* ---------------------------------------------------------------- trainer */

typedef struct trainer {
    cadft_context *context;
    cadft_model *model;
    cadft_loss *loss;
    cadft_optimizer *optimizer;
    micro micros[MICROS];
} trainer;

static void set_loss(cadft_loss *loss, const char *name, const char *value)
{
    int32_t key = 0;
    CHECK_OK(cadft_loss_key(name, &key, &err), err);
    CHECK_OK(cadft_loss_set_str(loss, key, value, &err), err);
}

static void
set_optimizer(cadft_optimizer *optimizer, const char *name, const char *value)
{
    int32_t key = 0;
    CHECK_OK(cadft_optimizer_key(name, &key, &err), err);
    CHECK_OK(cadft_optimizer_set_str(optimizer, key, value, &err), err);
}

static void trainer_new(trainer *t, json_t *c, int32_t threads)
{
    char path[512];
    const char *name;
    json_t *value;
    snprintf(path, sizeof path, "%s/models/%s", GOLDEN_DIR, text(c, "model"));
    t->context = model_context(threads);
    t->model = model_load(path, t->context, CADFT_DTYPE_F32);
    CHECK_OK(cadft_loss_create(t->context, &t->loss, &err), err);
    json_object_foreach(json_object_get(c, "loss"), name, value)
        set_loss(t->loss, name, json_string_value(value));
    t->optimizer = optimizer_new(t->context);
    json_object_foreach(json_object_get(c, "optimizer"), name, value)
        set_optimizer(t->optimizer, name, json_string_value(value));
    CHECK_OK(cadft_optimizer_add_model(t->optimizer, t->model, NULL, &err),
             err);
}

static void trainer_free(trainer *t)
{
    cadft_optimizer_destroy(t->optimizer);
    cadft_loss_destroy(t->loss);
    cadft_model_destroy(t->model);
    cadft_context_destroy(t->context);
}

static void forward(trainer *t, micro *m, int32_t no_grad)
{
    m->batch.no_grad = no_grad;
    CHECK_OK(cadft_model_forward(t->model, &m->batch, &m->logits, &err), err);
}

/* The gradient of what forward computed, over its logits, and backward. */
static void backward(trainer *t, micro *m, int64_t number)
{
    CHECK_OK(cadft_loss_grad(t->loss, number, &m->loss, &m->logits, &err), err);
    CHECK_OK(cadft_model_backward(t->model, &m->logits, &err), err);
}

static void two_passes(trainer *t)
{
    int64_t number[MICROS];
    for (int g = 0; g < MICROS; g++) {
        forward(t, &t->micros[g], 1);
        CHECK_OK(cadft_loss_observe(t->loss, &t->micros[g].loss, NULL,
                                    &number[g], &err),
                 err);
    }
    CHECK_OK(cadft_loss_weigh(t->loss, &err), err);
    for (int g = 0; g < MICROS; g++) {
        forward(t, &t->micros[g], 0);
        backward(t, &t->micros[g], number[g]);
    }
}

static void one_pass(trainer *t)
{
    int64_t number;
    double counting = 0;
    for (int g = 0; g < MICROS; g++)
        counting += (double)t->micros[g].counting;
    if (cadft_loss_get_i64(t->loss, CADFT_LOSS_REDUCTION, &number, NULL) == 0 &&
        number == CADFT_REDUCTION_TOKEN_MEAN)
        CHECK_OK(
            cadft_loss_set_f64(t->loss, CADFT_LOSS_DENOMINATOR, counting, &err),
            err);
    for (int g = 0; g < MICROS; g++) {
        forward(t, &t->micros[g], 0);
        CHECK_OK(cadft_loss_observe(t->loss, &t->micros[g].loss, NULL, &number,
                                    &err),
                 err);
        CHECK_OK(cadft_loss_weigh(t->loss, &err), err);
        backward(t, &t->micros[g], number);
    }
}

/* What a step told. */
typedef struct outcome {
    cadft_loss_report loss;
    cadft_optimizer_report optimizer;
    double c[SAMPLES], w[SAMPLES];
} outcome;

static void train_step(trainer *t, json_t *c, int64_t step, outcome *out)
{
    int32_t samples = make_micros(c, step, t->micros);
    int64_t scope;
    memset(out, 0, sizeof *out); /* two are compared by their bytes */
    out->loss.struct_size = sizeof out->loss;
    CHECK_OK(cadft_model_zero_grad(t->model, &err), err);
    CHECK_OK(cadft_loss_get_i64(t->loss, CADFT_LOSS_SCOPE, &scope, &err), err);
    CHECK_OK(cadft_loss_begin(t->loss, samples, &err), err);
    if (scope == CADFT_SCOPE_EXACT)
        two_passes(t);
    else
        one_pass(t);
    CHECK_OK(cadft_loss_end(t->loss, &out->loss, &err), err);
    CHECK_OK(cadft_loss_get_samples(t->loss, CADFT_SAMPLES_C, out->c, SAMPLES,
                                    NULL, &err),
             err);
    CHECK_OK(cadft_loss_get_samples(t->loss, CADFT_SAMPLES_W, out->w, SAMPLES,
                                    NULL, &err),
             err);
    out->optimizer = optimizer_step(t->optimizer);
}

/* ------------------------------------------------------------ comparison */

/* The worst error, in units of its tolerance. */
typedef struct worst {
    double ratio;
    char where[160];
} worst;

static void compare(worst *w,
                    const char *what,
                    int64_t index,
                    double got,
                    double want,
                    double slack)
{
    double ratio = fabs(got - want) / slack;
    if (ratio <= w->ratio)
        return;
    w->ratio = isnan(ratio) ? INFINITY : ratio;
    snprintf(w->where, sizeof w->where, "%s %lld is %.10g, expected %.10g",
             what, (long long)index, got, want);
}

/* expected[key][step], or of that list the entry `index`. */
static double value_of(json_t *c, const char *key, int64_t step, int64_t index)
{
    const json_t *value = json_array_get(
        json_object_get(json_object_get(c, "steps"), key), (size_t)step);
    if (json_is_array(value))
        value = json_array_get(value, (size_t)index);
    ck_assert_msg(json_is_number(value), "%s of step %d is missing", key,
                  (int)step);
    return json_number_value(value);
}

static void compare_step(worst *w, json_t *c, int64_t step, const outcome *t)
{
    struct {
        const char *what;
        double got, tolerance;
    } numbers[] = {{"lr", t->optimizer.lr, 1e-11},
                   {"norm", t->optimizer.grad_norm, TOLERANCE},
                   {"loss", t->loss.loss, TOLERANCE},
                   {"nll", t->loss.nll, TOLERANCE}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double want = value_of(c, numbers[i].what, step, 0);
        compare(w, numbers[i].what, step, numbers[i].got, want,
                numbers[i].tolerance * want);
    }
    for (int64_t i = 0; i < SAMPLES; i++) {
        double want_c = value_of(c, "c", step, i);
        double want_w = value_of(c, "w", step, i);
        compare(w, "c of step", step, t->c[i], want_c, TOLERANCE * want_c);
        compare(w, "w of step", step, t->w[i], want_w, TOLERANCE * want_w);
    }
}

/* The parameter at `index`, dense. Free it. */
static float *
weights_of(trainer *t, int64_t index, const char **name, int64_t *count)
{
    cadft_tensor value = {.struct_size = sizeof value};
    CHECK_OK(
        cadft_model_parameter(t->model, index, name, &value, NULL, NULL, &err),
        err);
    return read_tensor(t->context, &value, count);
}

static double norm_of(const float *values, const float *less, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = (double)values[i] - (less ? (double)less[i] : 0);
        sum += x * x;
    }
    return sqrt(sum);
}

static void compare_parameter(worst *w,
                              const json_t *want,
                              const char *name,
                              const float *got,
                              const float *first,
                              int64_t count)
{
    const json_t *places = json_object_get(expected, "places");
    const json_t *elements = json_object_get(want, "elements");
    double norm = json_number_value(json_object_get(want, "norm"));
    double moved = json_number_value(json_object_get(want, "moved"));
    double largest = json_number_value(json_object_get(want, "largest"));
    ck_assert_msg(want != NULL, "%s is not expected", name);
    compare(w, name, NORM, norm_of(got, NULL, count), norm, TOLERANCE * norm);
    compare(w, name, MOVED, norm_of(got, first, count), moved,
            TOLERANCE * moved);
    for (size_t i = 0; i < json_array_size(elements); i++) {
        double place = json_real_value(json_array_get(places, i));
        int64_t at = (int64_t)(place * (double)count);
        compare(w, name, at, (double)got[at],
                json_number_value(json_array_get(elements, i)),
                TOLERANCE * largest);
    }
}

/* Against a model as it was stored. */
static void compare_weights(worst *w, json_t *c, trainer *t)
{
    const json_t *want = json_object_get(c, "parameters");
    trainer first;
    int64_t parameters, count;
    trainer_new(&first, c, 1);
    CHECK_OK(cadft_model_get_i64(t->model, CADFT_MODEL_PARAMETERS, &parameters,
                                 &err),
             err);
    for (int64_t i = 0; i < parameters; i++) {
        const char *name;
        float *got = weights_of(t, i, &name, &count);
        float *stored = weights_of(&first, i, NULL, &count);
        compare_parameter(w, json_object_get(want, name), name, got, stored,
                          count);
        free(got);
        free(stored);
    }
    ck_assert_uint_eq((size_t)parameters, json_object_size(want));
    trainer_free(&first);
}

/* Train to the end and compare on the way. */
static worst replay(trainer *t, json_t *c)
{
    worst w = {.ratio = -1};
    int64_t steps =
        (int64_t)json_array_size(json_object_get(expected, "batches"));
    ck_assert_int_ge(steps, 20);
    for (int64_t step = 0; step < steps; step++) {
        outcome told;
        train_step(t, c, step, &told);
        compare_step(&w, c, step, &told);
    }
    compare_weights(&w, c, t);
    return w;
}

START_TEST(as_torch)
{
    json_t *c;
    size_t i;
    json_array_foreach(cases(), i, c)
    {
        trainer t;
        worst w;
        trainer_new(&t, c, 2);
        w = replay(&t, c);
        printf("%s: %.2f of the tolerance: %s\n", text(c, "name"), w.ratio,
               w.where);
        ck_assert_msg(w.ratio <= 1, "%s: %s, %.2f of the tolerance",
                      text(c, "name"), w.where, w.ratio);
        trainer_free(&t);
    }
    ck_assert_uint_ge(i, 6);
}
END_TEST

/* The comparison is no use if it does not notice these. */
START_TEST(other_knobs_differ)
{
    static const struct {
        const char *name, *noun, *key, *value;
    } changes[] = {
        {"cadft", "optimizer", "beta1", "0.901"},
        {"cadft", "optimizer", "beta2", "0.951"},
        {"cadft", "optimizer", "eps", "2e-7"},
        {"cadft", "optimizer", "weight_decay", "0.012"},
        {"cadft_local", "optimizer", "clip_norm", "0.101"},
        {"cadft", "optimizer", "grad_scale", "0.999"},
        {"cadft", "optimizer", "warmup_steps", "4"},
        {"cadft", "optimizer", "lr_floor", "0.11"},
        {"cadft", "optimizer", "schedule", "linear"},
        {"cadft", "loss", "ddof", "1"},
        {"cadft", "loss", "beta", "1.001"},
        {"cadft", "loss", "eps", "1e-3"},
        {"cadft", "loss", "scope", "running"},
        {"cadft", "loss", "renormalise", "1"},
        {"cadft", "loss", "reduction", "sample_mean"},
        {"cadft", "loss", "objective", "dft_nosg"},
        {"cadft_running", "loss", "scope", "local"},
        {"cadft_running", "loss", "running_decay", "0.91"},
        {"cadft_local", "loss", "scope", "running"},
        {"weighted_sft", "loss", "ddof", "0"},
        {"weighted_sft", "loss", "renormalise", "0"},
        {"cadft", "loss", "weighting", "0"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        json_t *c = case_named(changes[i].name);
        trainer t;
        worst w;
        trainer_new(&t, c, 2);
        if (strcmp(changes[i].noun, "loss") == 0)
            set_loss(t.loss, changes[i].key, changes[i].value);
        else
            set_optimizer(t.optimizer, changes[i].key, changes[i].value);
        w = replay(&t, c);
        printf("%s, %s %s: %.3g of the tolerance\n", changes[i].name,
               changes[i].key, changes[i].value, w.ratio);
        ck_assert_msg(w.ratio >= 10, "%s, %s = %s: %.3g of the tolerance",
                      changes[i].name, changes[i].key, changes[i].value,
                      w.ratio);
        trainer_free(&t);
    }
}
END_TEST

static void compare_bits(trainer *a, trainer *b)
{
    int64_t parameters, count;
    CHECK_OK(cadft_model_get_i64(a->model, CADFT_MODEL_PARAMETERS, &parameters,
                                 &err),
             err);
    for (int64_t i = 0; i < parameters; i++) {
        const char *name;
        float *one = weights_of(a, i, &name, &count);
        float *two = weights_of(b, i, &name, &count);
        ck_assert_msg(!one ||
                          memcmp(one, two, (size_t)count * sizeof *one) == 0,
                      "%s differs", name);
        free(one);
        free(two);
    }
}

/* 1 thread against 2 and 7: reports after each step, weights in the end. */
START_TEST(same_bits_on_any_threads)
{
    json_t *c;
    size_t i;
    json_array_foreach(cases(), i, c)
    {
        trainer t[2];
        trainer_new(&t[0], c, 1);
        trainer_new(&t[1], c, _i);
        for (int64_t step = 0; step < 20; step++) {
            outcome told[2];
            for (int k = 0; k < 2; k++)
                train_step(&t[k], c, step, &told[k]);
            ck_assert_msg(memcmp(&told[0], &told[1], sizeof told[0]) == 0,
                          "%s: step %d differs on %d threads", text(c, "name"),
                          (int)step, _i);
        }
        compare_bits(&t[0], &t[1]);
        for (int k = 0; k < 2; k++)
            trainer_free(&t[k]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("trajectory");
    TCase *t = tcase_create("torch");
    tcase_set_timeout(t, 1200); /* sanitizers, other devices */
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, as_torch);
    if (!model_backend) /* what it asks of the tolerances it asks once */
        tcase_add_test(t, other_knobs_differ);
    tcase_add_loop_test(t, same_bits_on_any_threads, 2, 3);
    tcase_add_loop_test(t, same_bits_on_any_threads, 7, 8);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
