/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer with models, masters of bfloat16 weights, threads, memory,
 * and destroying in any order.
 *
 *   test_optimizer_model [--backend PLUGIN.so] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model_text.h"
#include "optimizer_support.h"

enum { F32 = CADFT_DTYPE_F32, BF16 = CADFT_DTYPE_BF16, ROWS = 12 };

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

/* ---------------------------------------------------------------- masters */

/* bfloat16 parameters with masters move as float32 ones, rounded. */
START_TEST(a_master_is_a_float32_parameter)
{
    for (int sgd = 0; sgd < 2; sgd++) {
        cadft_optimizer *wide = optimizer_new(context);
        cadft_optimizer *narrow = optimizer_new(context);
        int64_t shape[] = {5, 131};
        double values[655];
        param w, n;
        param_new(&w, context, "w", F32, F32, 2, shape);
        param_new(&n, context, "n", BF16, F32, 2, shape);
        optimizer_set(wide, CADFT_OPTIMIZER_KIND, sgd);
        optimizer_set(narrow, CADFT_OPTIMIZER_KIND, sgd);
        array_normal(&n.value, 1);
        array_get(&n.value, values);
        array_put(&w.value, values);
        param_add(&w, wide);
        param_add(&n, narrow);
        for (int t = 0; t < 30; t++) {
            array_normal(&w.grad, 1);
            array_get(&w.grad, values);
            array_put(&n.grad, values);
            optimizer_step(wide);
            optimizer_step(narrow);
        }
        for (int i = 0; i < 2; i++) { /* rounded: n becomes n, w becomes n */
            double got[655];
            float want;
            uint16_t stored;
            array_get(i ? &w.value : &n.value, values);
            array_get(&n.value, got);
            for (int k = 0; k < 655; k++) {
                support_put(&stored, BF16, 0, (float)values[k]);
                want = support_get(&stored, BF16, 0);
                ck_assert_float_eq((float)got[k], want);
            }
        }
        cadft_optimizer_destroy(wide);
        cadft_optimizer_destroy(narrow);
        param_free(&w);
        param_free(&n);
    }
}
END_TEST

/* 100 steps of 1e-5 at a weight of 1, whose unit below is 2^-8: together they
 * are seen with a master, and each is lost without. */
START_TEST(small_steps_need_a_master)
{
    for (int master = 0; master < 2; master++) {
        cadft_optimizer *optimizer = optimizer_new(context);
        double one = 1, w;
        int64_t shape[] = {1}, bytes;
        param p;
        optimizer_set(optimizer, CADFT_OPTIMIZER_MASTER, master);
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR, 1e-4);
        param_new(&p, context, "w", BF16, BF16, 1, shape);
        array_put(&p.value, &one);
        array_put(&p.grad, &one);
        param_add(&p, optimizer);
        for (int t = 0; t < 100; t++)
            optimizer_step(optimizer);
        array_get(&p.value, &w);
        ck_assert_double_eq(w, master ? 0.98828125 : 1); /* 0.99, to 2^-8 */
        bytes = optimizer_fact(optimizer, CADFT_OPTIMIZER_STATE_BYTES);
        ck_assert_int_eq(bytes % 64, 0);
        cadft_optimizer_destroy(optimizer);
        param_free(&p);
    }
}
END_TEST

/* --------------------------------------------------------------- threads */

enum { WIDE = 200003 }; /* more than a block of any split */

static void *train(int32_t threads, uint64_t *bytes, cadft_optimizer_report *r)
{
    cadft_context *own = model_context(threads);
    cadft_optimizer *optimizer = optimizer_new(own);
    int64_t shape[] = {WIDE}, small[] = {3, 7};
    void *out;
    param p[2];
    support_seed(7);
    param_new(&p[0], own, "a", BF16, F32, 1, shape);
    param_new(&p[1], own, "b", F32, BF16, 2, small);
    for (int i = 0; i < 2; i++) {
        array_normal(&p[i].value, 1);
        param_add(&p[i], optimizer);
    }
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < 2; i++)
            array_normal(&p[i].grad, 0.1);
        *r = optimizer_step(optimizer);
    }
    out = array_bytes(&p[0].value);
    *bytes = p[0].value.bytes;
    cadft_optimizer_destroy(optimizer);
    param_free(&p[0]);
    param_free(&p[1]);
    cadft_context_destroy(own);
    return out;
}

START_TEST(any_number_of_threads_gives_the_same_bits)
{
    static const int32_t threads[] = {2, 7};
    cadft_optimizer_report first, other;
    uint64_t bytes, n;
    void *one = train(1, &bytes, &first);
    for (int i = 0; i < 2; i++) {
        void *more = train(threads[i], &n, &other);
        ck_assert_int_eq(memcmp(one, more, bytes), 0);
        ck_assert_int_eq(memcmp(&first, &other, sizeof first), 0);
        free(more);
    }
    free(one);
}
END_TEST

/* ---------------------------------------------------------------- memory */

static int64_t context_bytes(cadft_context *from)
{
    int64_t bytes = 0;
    CHECK_OK(cadft_context_get_i64(from, CADFT_CONTEXT_BYTES, &bytes, &err),
             err);
    return bytes;
}

START_TEST(only_the_first_step_allocates)
{
    support_heap heap = {0};
    cadft_allocator allocator = support_allocator(&heap);
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 2,
                               .allocator = &allocator,
                               .backend = model_backend,
                               .backend_options = model_options};
    int64_t shape[] = {300, 301}, bytes, before, n;
    cadft_optimizer *optimizer;
    cadft_context *own;
    param p;
    CHECK_OK(cadft_context_create(&desc, &own, &err), err);
    optimizer = optimizer_new(own);
    param_new(&p, own, "w", BF16, F32, 2, shape);
    array_normal(&p.value, 1);
    array_normal(&p.grad, 1);
    param_add(&p, optimizer);
    bytes = optimizer_fact(optimizer, CADFT_OPTIMIZER_STATE_BYTES);
    ck_assert_int_ge(bytes, 12 * 300 * 301); /* m, v, master */
    ck_assert_int_le(bytes, 12 * 300 * 301 + 1024);
    before = context_bytes(own);
    optimizer_step(optimizer);
    ck_assert_int_eq(optimizer_fact(optimizer, CADFT_OPTIMIZER_STATE_BYTES),
                     bytes);
    if (!model_backend) /* the toy's memory is not the context's */
        ck_assert_int_eq(context_bytes(own) - before, bytes + 16);
    n = heap.allocations;
    for (int t = 0; t < 5; t++) {
        double sum;
        optimizer_step(optimizer);
        CHECK_OK(cadft_optimizer_norm(optimizer, &sum, &err), err);
    }
    ck_assert_int_eq(heap.allocations, n);
    cadft_context_destroy(own);
    param_free(&p);
    cadft_optimizer_destroy(optimizer);
    ck_assert_int_eq(heap.live_blocks, 0);
    ck_assert_int_eq(heap.destroyed, 1);
}
END_TEST

/* ---------------------------------------------------------------- models */

static cadft_model *small_model(int32_t dtype)
{
    model_text text = text_of("Qwen3");
    const char *config = text_json(&text);
    cadft_model *model;
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_set_i64(model, CADFT_MODEL_WEIGHT_DTYPE, dtype, &err),
             err);
    CHECK_OK(cadft_model_init(model, config, strlen(config), 3, &err), err);
    return model;
}

/* Gradients of a batch; returns its loss. */
static double pass(cadft_model *model)
{
    static int32_t tokens[ROWS], labels[ROWS], ends[] = {0, 5, ROWS};
    cadft_tensor logits = {.struct_size = sizeof logits};
    packed p;
    double loss;
    for (int i = 0; i < ROWS; i++) {
        tokens[i] = (i * 7 + 3) % 40;
        labels[i] = (i * 11 + 5) % 40;
    }
    packed_init(&p, tokens, ROWS, ends, 2);
    CHECK_OK(cadft_model_zero_grad(model, &err), err);
    CHECK_OK(cadft_model_forward(model, &p.batch, &logits, &err), err);
    loss = cross_entropy(context, &logits, labels, ROWS);
    CHECK_OK(cadft_model_backward(model, &logits, &err), err);
    return loss;
}

static cadft_optimizer *optimizer_of(cadft_model *model, int64_t *added)
{
    cadft_optimizer *optimizer = optimizer_new(context);
    CHECK_OK(cadft_optimizer_add_model(optimizer, model, added, &err), err);
    return optimizer;
}

START_TEST(a_model_learns_a_batch)
{
    static const int32_t types[] = {F32, BF16};
    for (int i = 0; i < 2; i++) {
        cadft_model *model = small_model(types[i]);
        int64_t added = 0, count;
        cadft_optimizer *optimizer = optimizer_of(model, &added);
        double first = pass(model), last = first;
        CHECK_OK(
            cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &count, &err),
            err);
        ck_assert_int_eq(added, count);
        ck_assert_int_eq(optimizer_fact(optimizer, CADFT_OPTIMIZER_PARAMETERS),
                         count);
        optimizer_set(optimizer, CADFT_OPTIMIZER_LR, 0.01);
        for (int t = 0; t < 60; t++) {
            optimizer_step(optimizer);
            last = pass(model);
        }
        ck_assert_msg(last < 0.1 * first, "%g from %g", last, first);
        cadft_optimizer_destroy(optimizer);
        cadft_model_destroy(model);
    }
}
END_TEST

/* Every parameter as a host's array of the same content. */
typedef struct mirror {
    param p[64];
    int64_t n;
    cadft_optimizer *optimizer;
} mirror;

static void read_into(cadft_model *model, int64_t i, mirror *m, int value)
{
    cadft_tensor view = {.struct_size = sizeof view};
    array *to = value ? &m->p[i].value : &m->p[i].grad;
    void *data = malloc(to->bytes);
    CHECK_OK(cadft_model_parameter(model, i, NULL, value ? &view : NULL,
                                   value ? NULL : &view, NULL, &err),
             err);
    if (view.data) {
        CHECK_OK(cadft_context_read(context, &view, data, to->bytes, &err),
                 err);
        CHECK_OK(cadft_context_write(context, &to->view, data, to->bytes, &err),
                 err);
    }
    free(data);
}

static mirror *mirror_new(cadft_model *model)
{
    mirror *m = (mirror *)calloc(1, sizeof *m);
    m->optimizer = optimizer_new(context);
    CHECK_OK(cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &m->n, &err),
             err);
    ck_assert_int_le(m->n, 64);
    for (int64_t i = 0; i < m->n; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        const char *name;
        CHECK_OK(
            cadft_model_parameter(model, i, &name, &value, NULL, NULL, &err),
            err);
        param_new(&m->p[i], context, name, F32, F32, value.ndim, value.shape);
        read_into(model, i, m, 1);
        param_add(&m->p[i], m->optimizer);
    }
    return m;
}

static void mirror_grads(mirror *m, cadft_model *model)
{
    for (int64_t i = 0; i < m->n; i++)
        read_into(model, i, m, 0);
}

static void mirror_check(mirror *m, cadft_model *model)
{
    for (int64_t i = 0; i < m->n; i++) {
        void *before = array_bytes(&m->p[i].value), *after;
        read_into(model, i, m, 1);
        after = array_bytes(&m->p[i].value);
        ck_assert_msg(memcmp(before, after, m->p[i].value.bytes) == 0,
                      "%s differs", m->p[i].name);
        free(before);
        free(after);
    }
}

static void mirror_free(mirror *m)
{
    cadft_optimizer_destroy(m->optimizer);
    for (int64_t i = 0; i < m->n; i++)
        param_free(&m->p[i]);
    free(m);
}

START_TEST(a_model_is_its_parameters)
{
    cadft_model *model = small_model(F32);
    cadft_optimizer *optimizer = optimizer_of(model, NULL);
    mirror *m = mirror_new(model);
    for (int t = 0; t < 4; t++) {
        pass(model);
        mirror_grads(m, model);
        optimizer_step(optimizer);
        optimizer_step(m->optimizer);
        mirror_check(m, model);
    }
    mirror_free(m);
    cadft_optimizer_destroy(optimizer);
    cadft_model_destroy(model);
}
END_TEST

/* What is frozen stays; the rest goes on. */
START_TEST(frozen_parameters_wait)
{
    cadft_model *model = small_model(F32);
    cadft_optimizer *optimizer = optimizer_of(model, NULL);
    mirror *m;
    int64_t head, other;
    CHECK_OK(cadft_model_find(model, "model.norm.weight", &head, &err), err);
    CHECK_OK(cadft_model_find(model, "model.layers.0.mlp.up_proj.weight",
                              &other, &err),
             err);
    optimizer_set(optimizer, CADFT_OPTIMIZER_CLIP_NORM, 0);
    pass(model);
    optimizer_step(optimizer);
    m = mirror_new(model); /* before the steps without the norm */
    CHECK_OK(cadft_model_freeze(model, "model.norm.weight", 0, NULL, &err),
             err);
    for (int t = 0; t < 3; t++) {
        void *before = array_bytes(&m->p[head].value), *after;
        pass(model);
        optimizer_step(optimizer);
        read_into(model, head, m, 1);
        after = array_bytes(&m->p[head].value);
        ck_assert_int_eq(memcmp(before, after, m->p[head].value.bytes), 0);
        free(before);
        free(after);
        before = array_bytes(&m->p[other].value);
        read_into(model, other, m, 1);
        after = array_bytes(&m->p[other].value);
        ck_assert_int_ne(memcmp(before, after, m->p[other].value.bytes), 0);
        free(before);
        free(after);
    }
    mirror_free(m);
    cadft_optimizer_destroy(optimizer);
    cadft_model_destroy(model);
}
END_TEST

/* A parameter that is frozen from the first step on and thawed then moves as
 * a new one does: by the rate, whatever the gradient. */
START_TEST(steps_are_counted_for_each_parameter)
{
    cadft_model *model = small_model(F32);
    cadft_optimizer *optimizer = optimizer_of(model, NULL);
    cadft_tensor value = {.struct_size = sizeof value};
    int64_t norm, n;
    float *before, *after;
    CHECK_OK(cadft_model_find(model, "model.norm.weight", &norm, &err), err);
    CHECK_OK(cadft_model_freeze(model, "model.norm.weight", 0, NULL, &err),
             err);
    for (int t = 0; t < 10; t++) {
        pass(model);
        optimizer_step(optimizer);
    }
    CHECK_OK(cadft_model_freeze(model, "*", 1, NULL, &err), err);
    CHECK_OK(cadft_model_parameter(model, norm, NULL, &value, NULL, NULL, &err),
             err);
    before = read_tensor(context, &value, &n);
    pass(model);
    optimizer_set(optimizer, CADFT_OPTIMIZER_LR, 0.25);
    optimizer_step(optimizer);
    after = read_tensor(context, &value, &n);
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_eq_tol(fabs((double)after[i] - (double)before[i]),
                                0.25, 1e-3);
    free(before);
    free(after);
    cadft_optimizer_destroy(optimizer);
    cadft_model_destroy(model);
}
END_TEST

START_TEST(a_model_without_gradients)
{
    cadft_model *model = small_model(F32), *empty;
    cadft_optimizer *optimizer = optimizer_new(context);
    int64_t added = -1;
    double sum = 3;
    CHECK_OK(cadft_model_create(context, &empty, &err), err);
    CHECK_STATUS(cadft_optimizer_add_model(optimizer, empty, &added, &err),
                 CADFT_E_PHASE, err);
    CHECK_OK(cadft_model_freeze(model, "*", 0, NULL, &err), err);
    CHECK_OK(cadft_optimizer_add_model(optimizer, model, &added, &err), err);
    ck_assert_int_eq(added, 0);
    CHECK_STATUS(cadft_optimizer_step(optimizer, NULL, NULL, &err),
                 CADFT_E_PHASE, err);
    CHECK_OK(cadft_model_freeze(model, "*layers.1.*", 1, NULL, &err), err);
    CHECK_OK(cadft_optimizer_add_model(optimizer, model, &added, &err), err);
    ck_assert_int_gt(added, 5);
    CHECK_OK(cadft_model_freeze(model, "model.norm.*", 1, NULL, &err), err);
    CHECK_OK(cadft_optimizer_add_model(optimizer, model, &added, &err), err);
    ck_assert_int_eq(added, 1);
    CHECK_STATUS(cadft_optimizer_step(optimizer, NULL, NULL, &err),
                 CADFT_E_PHASE, err);
    ck_assert_ptr_nonnull(strstr(err.message, "cadft_model_zero_grad"));
    CHECK_STATUS(cadft_optimizer_norm(optimizer, &sum, &err), CADFT_E_PHASE,
                 err);
    ck_assert_double_eq(sum, 3);
    pass(model);
    optimizer_step(optimizer);
    CHECK_STATUS(cadft_optimizer_add_model(optimizer, model, &added, &err),
                 CADFT_E_PHASE, err); /* it has state */
    cadft_model_destroy(empty);
    cadft_optimizer_destroy(optimizer);
    cadft_model_destroy(model);
}
END_TEST

static cadft_optimizer *of_callback;
static cadft_model *model_of_callback;

static int32_t step_inside(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    double sum;
    (void)prompt;
    (void)position;
    (void)token;
    (void)logprob;
    *(int *)user += 1;
    CHECK_STATUS(cadft_optimizer_step(of_callback, NULL, NULL, &err),
                 CADFT_E_BUSY, err);
    CHECK_STATUS(cadft_optimizer_norm(of_callback, &sum, &err), CADFT_E_BUSY,
                 err);
    CHECK_STATUS(
        cadft_optimizer_add_model(of_callback, model_of_callback, NULL, &err),
        CADFT_E_BUSY, err);
    return 0;
}

START_TEST(a_model_inside_a_call_is_busy)
{
    cadft_model *model = small_model(F32);
    int32_t tokens[] = {1, 2, 3}, ends[] = {0, 3}, drawn[2];
    int64_t lengths[1];
    int calls = 0;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .max_new_tokens = 2,
                                .on_token = step_inside,
                                .user = &calls};
    packed p;
    of_callback = optimizer_of(model, NULL);
    model_of_callback = model;
    pass(model);
    packed_init(&p, tokens, 3, ends, 1);
    desc.tokens = &p.tokens;
    desc.cu_seqlens = &p.cu_seqlens;
    CHECK_OK(cadft_model_generate(model, &desc, drawn, lengths, &err), err);
    ck_assert_int_eq(calls, 2);
    ck_assert_int_eq(optimizer_fact(of_callback, CADFT_OPTIMIZER_STEPS), 0);
    optimizer_step(of_callback);
    cadft_optimizer_destroy(of_callback);
    cadft_model_destroy(model);
}
END_TEST

/* The host lets go of context, model and optimizer in every order; the
 * optimizer steps as long as it is there. */
START_TEST(destroy_in_any_order)
{
    static const char orders[][4] = {"cmo", "com", "mco", "moc", "ocm", "omc"};
    cadft_context *shared = context;
    for (int i = 0; i < 6; i++) {
        support_heap heap = {0};
        cadft_allocator allocator = support_allocator(&heap);
        cadft_context_desc desc = {.struct_size = sizeof desc,
                                   .n_threads = 1,
                                   .allocator = &allocator,
                                   .backend = model_backend,
                                   .backend_options = model_options};
        cadft_model *model;
        cadft_optimizer *optimizer;
        CHECK_OK(cadft_context_create(&desc, &context, &err), err);
        model = small_model(F32);
        optimizer = optimizer_of(model, NULL);
        CHECK_OK(cadft_optimizer_add_model(optimizer, model, NULL, &err), err);
        pass(model);
        for (const char *c = orders[i]; *c; c++) {
            if (*c == 'c')
                cadft_context_destroy(context);
            else if (*c == 'm')
                cadft_model_destroy(model);
            else
                cadft_optimizer_destroy(optimizer);
            if (!memchr(orders[i], 'o', (size_t)(c - orders[i]) + 1))
                optimizer_step(optimizer);
        }
        ck_assert_int_eq(heap.live_blocks, 0);
        ck_assert_int_eq(heap.destroyed, 1);
    }
    context = shared;
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer model");
    TCase *t = tcase_create("models");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_master_is_a_float32_parameter);
    tcase_add_test(t, small_steps_need_a_master);
    tcase_add_test(t, any_number_of_threads_gives_the_same_bits);
    tcase_add_test(t, only_the_first_step_allocates);
    tcase_add_test(t, a_model_learns_a_batch);
    tcase_add_test(t, a_model_is_its_parameters);
    tcase_add_test(t, frozen_parameters_wait);
    tcase_add_test(t, steps_are_counted_for_each_parameter);
    tcase_add_test(t, a_model_without_gradients);
    tcase_add_test(t, a_model_inside_a_call_is_busy);
    tcase_add_test(t, destroy_in_any_order);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
