/* SPDX-License-Identifier: Apache-2.0 */
/* Models and threads: several at once, the host's threads, threads that fail,
 * fork, and what of the calling thread must be as it was.
 *
 *   test_model_threads */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "calm.h"
#include "files.h"
#include "model_support.h"
#include "model_text.h"

enum { ROWS = 24, VOCAB = 40, NEW = 6, WORKERS = 3, MOST = 1 << 17 };

static cadft_error err;
static model_text config;
static int32_t tokens[ROWS], cu_seqlens[] = {0, 17, ROWS};

/* What a pass and a generation give. */
typedef struct results {
    float numbers[MOST]; /* logits and gradients */
    int64_t count, lengths[2];
    int32_t drawn[2 * NEW];
} results;

static results expected;

/* ------------------------------------------------------------- one result */

static int32_t make(cadft_context *context, cadft_model **model, cadft_error *e)
{
    int32_t status = cadft_model_create(context, model, e);
    if (!status)
        status =
            cadft_model_init(*model, config.text, strlen(config.text), 9, e);
    return status;
}

/* More numbers of the model's memory behind those that are there. */
static int32_t keep(cadft_context *context,
                    const cadft_tensor *from,
                    results *out,
                    cadft_error *e)
{
    int64_t n = from->shape[0] * (from->ndim > 1 ? from->shape[1] : 1);
    float *to = out->numbers + out->count;
    out->count += n;
    return out->count > MOST ? CADFT_E_SPACE
                             : cadft_context_read(context, from, to,
                                                  (size_t)n * sizeof *to, e);
}

static int32_t
pass(cadft_context *context, cadft_model *model, results *out, cadft_error *e)
{
    cadft_tensor logits = {.struct_size = sizeof logits};
    int64_t parameters = 0;
    packed p;
    int32_t status;
    packed_init(&p, tokens, ROWS, cu_seqlens, 2);
    out->count = 0;
    status = cadft_model_zero_grad(model, e);
    if (!status)
        status = cadft_model_forward(model, &p.batch, &logits, e);
    if (!status)
        status = keep(context, &logits, out, e);
    if (!status)
        status = cadft_model_backward(model, &logits, e);
    if (!status)
        status =
            cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &parameters, e);
    for (int64_t i = 0; !status && i < parameters; i++) {
        cadft_tensor grad = {.struct_size = sizeof grad};
        status = cadft_model_parameter(model, i, NULL, NULL, &grad, NULL, e);
        if (!status)
            status = keep(context, &grad, out, e);
    }
    return status;
}

static int32_t generate(cadft_model *model, results *out, cadft_error *e)
{
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .max_new_tokens = NEW,
                                .temperature = 2,
                                .top_p = 0.9,
                                .seed = 5};
    packed p;
    packed_init(&p, tokens, ROWS, cu_seqlens, 2);
    desc.tokens = &p.tokens;
    desc.cu_seqlens = &p.cu_seqlens;
    return cadft_model_generate(model, &desc, out->drawn, out->lengths, e);
}

static int32_t
all(cadft_context *context, cadft_model *model, results *out, cadft_error *e)
{
    int32_t status = pass(context, model, out, e);
    return status ? status : generate(model, out, e);
}

/* 0 if the model gives what one thread gave. */
static int differs(cadft_context *context, cadft_model *model)
{
    results *out = (results *)calloc(1, sizeof *out);
    int bad = all(context, model, out, NULL) != CADFT_OK ||
              memcmp(out, &expected, sizeof expected) != 0;
    free(out);
    return bad;
}

static void setup(void)
{
    cadft_context *context = support_context(NULL, 1);
    cadft_model *model;
    err = support_error();
    config = text_of("Qwen3");
    text_set(&config, "hidden_size", "64"); /* so that there is work to share */
    text_set(&config, "head_dim", "16");
    text_set(&config, "intermediate_size", "96");
    text_json(&config);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = (int32_t)support_below(VOCAB);
    memset(&expected, 0, sizeof expected);
    CHECK_OK(make(context, &model, &err), err);
    CHECK_OK(all(context, model, &expected, &err), err);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

START_TEST(any_number_of_threads)
{
    for (int32_t n = 2; n <= 8; n += 3) {
        cadft_context *context = support_context(NULL, n);
        cadft_model *model;
        CHECK_OK(make(context, &model, &err), err);
        ck_assert_msg(!differs(context, model), "%d threads", n);
        ck_assert_msg(!differs(context, model), "%d threads again", n);
        cadft_model_destroy(model);
        cadft_context_destroy(context);
    }
}
END_TEST

/* -------------------------------------------------------- the host's threads
 */

struct pool {
    int64_t calls, fail_at; /* the call that fails, from 1; 0: none */
    int skip;     /* which then says that all is well, but leaves one out */
    int threaded; /* 0: all on the calling thread */
};

struct share {
    cadft_task_fn fn;
    void *task;
    int64_t n;
    int32_t worker;
};

static void *work(void *argument)
{
    const struct share *s = (const struct share *)argument;
    for (int64_t i = s->worker; i < s->n; i += WORKERS)
        s->fn(s->task, i, s->worker);
    return NULL;
}

static int32_t host_for(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    struct pool *pool = (struct pool *)user;
    int failing = ++pool->calls == pool->fail_at;
    pthread_t threads[WORKERS];
    struct share shares[WORKERS];
    for (int64_t i = 0; i < n - (failing && pool->skip) && !pool->threaded; i++)
        fn(task, n - 1 - i, (int32_t)(i % WORKERS));
    for (int32_t i = 0; i < WORKERS && pool->threaded; i++) {
        shares[i] = (struct share){fn, task, n, i};
        if (pthread_create(&threads[i], NULL, work, &shares[i]))
            abort();
    }
    for (int i = 0; i < WORKERS && pool->threaded; i++)
        pthread_join(threads[i], NULL);
    errno = 77; /* the host's, and it does not show outside */
    return failing && !pool->skip ? 5 : 0;
}

static cadft_context *pooled(struct pool *pool)
{
    cadft_parallel parallel = {.struct_size = sizeof parallel,
                               .max_workers = WORKERS,
                               .user = pool,
                               .parallel_for = host_for};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .parallel = &parallel};
    cadft_context *context;
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    return context;
}

START_TEST(threads_of_the_host)
{
    for (int threaded = 0; threaded < 2; threaded++) {
        struct pool pool = {.threaded = threaded};
        cadft_context *context = pooled(&pool);
        cadft_model *model;
        CHECK_OK(make(context, &model, &err), err);
        ck_assert(!differs(context, model));
        ck_assert_int_gt(pool.calls, 20);
        cadft_model_destroy(model);
        cadft_context_destroy(context);
    }
}
END_TEST

/* The nth piece of work of weights, a pass and a generation is not done; the
 * model says so, and works as before when the host does. */
START_TEST(host_that_does_not_run_all)
{
    struct pool pool = {.skip = _i};
    cadft_context *context = pooled(&pool);
    results *out = (results *)calloc(1, sizeof *out);
    int32_t status = CADFT_E_THREADS;
    int64_t made = 0, failures = 0;
    cadft_model *model;
    for (int64_t n = 1; status; n++) {
        pool.calls = 0;
        pool.fail_at = n;
        status = make(context, &model, &err);
        made = pool.calls;
        if (status) {
            CHECK_STATUS(status, CADFT_E_THREADS, err);
            CHECK_OK(cadft_model_init(model, config.text, strlen(config.text),
                                      9, &err),
                     err);
            ck_assert(!differs(context, model));
        }
        cadft_model_destroy(model);
    }
    ck_assert_int_gt(made, 2);
    pool.fail_at = 0;
    CHECK_OK(make(context, &model, &err), err);
    for (int64_t n = 1; status || n == 1; n++) {
        pool.calls = 0;
        pool.fail_at = n;
        status = all(context, model, out, &err);
        if (status) {
            CHECK_STATUS(status, CADFT_E_THREADS, err);
            ck_assert_ptr_nonnull(strstr(err.message, "parallel_for"));
            failures++;
        }
        pool.fail_at = 0;
        ck_assert_msg(n % 16 || !differs(context, model),
                      "other bits after failure %lld", (long long)n);
    }
    ck_assert_int_gt(failures, 20);
    ck_assert(!differs(context, model));
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    free(out);
}
END_TEST

/* ---------------------------------------------------------- several at once */

struct worker {
    pthread_t thread;
    cadft_context *context;
    cadft_model *model;
    cadft_loss *loss;
    support_batch *batch;
    float *grad; /* of the loss, as one thread gave it */
    int64_t bad;
};

static void *pass_often(void *argument)
{
    struct worker *w = (struct worker *)argument;
    for (int i = 0; i < 6; i++)
        w->bad += differs(w->context, w->model);
    return NULL;
}

static int32_t
compute(cadft_loss *loss, support_batch *b, float *out, cadft_error *e)
{
    cadft_tensor grad;
    cadft_tensor_init(&grad, sizeof grad, out, CADFT_DTYPE_F32, 2, b->shape,
                      NULL, NULL);
    return cadft_loss_compute(loss, &b->batch, 5, &grad, NULL, NULL, e);
}

static void *compute_often(void *argument)
{
    struct worker *w = (struct worker *)argument;
    size_t bytes = (size_t)(w->batch->rows * w->batch->cols) * sizeof(float);
    float *out = (float *)malloc(bytes);
    for (int i = 0; i < 40; i++)
        w->bad += compute(w->loss, w->batch, out, NULL) != CADFT_OK ||
                  memcmp(out, w->grad, bytes) != 0;
    free(out);
    return NULL;
}

/* Two models and a loss of one context, which the host has given up. */
START_TEST(several_of_one_context)
{
    enum { LOSS_ROWS = 31, LOSS_COLS = 67 };
    cadft_context *context = support_context(NULL, 3);
    struct worker w[3];
    memset(w, 0, sizeof w);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(make(context, &w[i].model, &err), err);
        w[i].context = context;
    }
    CHECK_OK(cadft_loss_create(context, &w[2].loss, &err), err);
    w[2].batch = support_batch_new(LOSS_ROWS, LOSS_COLS, CADFT_DTYPE_F32, 5, 2);
    w[2].grad = (float *)malloc(LOSS_ROWS * LOSS_COLS * sizeof(float));
    CHECK_OK(compute(w[2].loss, w[2].batch, w[2].grad, &err), err);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL,
                                        i < 2 ? pass_often : compute_often,
                                        &w[i]),
                         0);
    cadft_context_destroy(context); /* while they work: the handles keep it */
    for (int i = 0; i < 3; i++) {
        pthread_join(w[i].thread, NULL);
        ck_assert_int_eq(w[i].bad, 0);
    }
    for (int i = 0; i < 2; i++)
        cadft_model_destroy(w[i].model);
    cadft_loss_destroy(w[2].loss);
    support_batch_free(w[2].batch);
    free(w[2].grad);
}
END_TEST

/* Two threads on one model: each generation is right or refused. */
static void *generate_or_busy(void *argument)
{
    struct worker *w = (struct worker *)argument;
    results *out = (results *)calloc(1, sizeof *out);
    for (int i = 0; i < 10; i++) {
        int32_t status = generate(w->model, out, NULL);
        w->bad += status != CADFT_E_BUSY &&
                  (status ||
                   memcmp(out->drawn, expected.drawn, sizeof out->drawn) != 0);
    }
    free(out);
    return NULL;
}

START_TEST(one_model_from_two_threads)
{
    cadft_context *context = support_context(NULL, 2);
    struct worker w[2];
    memset(w, 0, sizeof w);
    CHECK_OK(make(context, &w[0].model, &err), err);
    w[1].model = w[0].model;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(
            pthread_create(&w[i].thread, NULL, generate_or_busy, &w[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(w[i].thread, NULL);
        ck_assert_int_eq(w[i].bad, 0);
    }
    cadft_model_destroy(w[0].model);
    cadft_context_destroy(context);
}
END_TEST

START_TEST(a_child_after_fork)
{
    cadft_context *context = support_context(NULL, 4);
    cadft_model *model;
    int status = -1;
    pid_t child;
    CHECK_OK(make(context, &model, &err), err);
    ck_assert(!differs(context, model));
    child = fork();
    if (child == 0) {
        int bad = differs(context, model);
        cadft_model_destroy(model);
        cadft_context_destroy(context);
        _exit(bad ? 3 : 0);
    }
    ck_assert_int_gt(child, 0);
    ck_assert(!differs(context, model)); /* the parent meanwhile */
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "the child ended with %d", status);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
}
END_TEST

/* ------------------------------------------------------------------- calm */

/* Failures among them on purpose: errors are where errno is lost. */
static void every_call(void)
{
    struct calm before = calm_now();
    cadft_context *context = support_context(NULL, 2);
    cadft_model *model = NULL, *loaded = NULL;
    cadft_tensor view = {.struct_size = sizeof view};
    cadft_model_limits limits = {.struct_size = sizeof limits, .rows = 9};
    results *out = (results *)calloc(1, sizeof *out);
    const char *folder = in_scratch("saved");
    int64_t number;
    int32_t key;
    packed p;
    packed_init(&p, tokens, ROWS, cu_seqlens, 2);
    CALM(cadft_model_create(NULL, &model, &err));
    CALM(cadft_model_create(context, &model, &err));
    CALM(cadft_model_create(context, &loaded, &err));
    CALM(cadft_model_init(model, "{", 1, 9, &err));
    CALM(cadft_model_init(model, config.text, strlen(config.text), 9, &err));
    CALM(cadft_model_set_str(model, CADFT_MODEL_CHECKPOINTING, "1", &err));
    CALM(cadft_model_set_i64(model, CADFT_MODEL_CHECKPOINTING, 0, &err));
    CALM(cadft_model_get_i64(model, CADFT_MODEL_VOCAB, &number, &err));
    CALM(cadft_model_bounds(1, &key, NULL, NULL, NULL, &err));
    CALM(cadft_model_key("checkpointing", &key, &err));
    CALM(cadft_model_save(model, folder, &err));
    CALM(cadft_model_save(model, "/no/such/folder", &err));
    CALM(cadft_model_load(loaded, "/no/such/folder", &err));
    CALM(cadft_model_load(loaded, folder, &err));
    CALM(cadft_model_find(model, "model.norm.weight", &number, &err));
    CALM(cadft_model_parameter(model, number, NULL, &view, NULL, NULL, &err));
    CALM(cadft_context_read(context, &view, out->numbers, 256, &err));
    CALM(cadft_context_write(context, &view, out->numbers, 256, &err));
    CALM(cadft_model_freeze(model, "*.mlp.*", 0, NULL, &err));
    CALM(cadft_model_plan(model, &limits, &number, &err));
    CALM(cadft_model_reserve(model, &limits, &err));
    CALM(cadft_model_zero_grad(loaded, &err));
    CALM(cadft_model_forward(loaded, &p.batch, &view, &err));
    CALM(cadft_model_backward(loaded, &view, &err));
    CALM(cadft_model_backward(loaded, &view, &err));
    CALM(generate(loaded, out, &err));
    CALM((cadft_model_destroy(model), 0));
    CALM((cadft_context_destroy(context), 0));
    CALM((cadft_model_destroy(loaded), 0));
    remove_tree(folder);
    free(out);
}

START_TEST(nothing_of_the_host_changes)
{
    every_call();
}
END_TEST

START_TEST(nothing_of_an_odd_host_changes)
{
    with_odd_host(every_call);
}
END_TEST

static Suite *suite(void)
{
    Suite *all_tests = suite_create("model threads");
    TCase *t = tcase_create("threads");
    tcase_add_checked_fixture(t, setup, files_teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, any_number_of_threads);
    tcase_add_test(t, threads_of_the_host);
    tcase_add_loop_test(t, host_that_does_not_run_all, 0, 2);
    tcase_add_test(t, several_of_one_context);
    tcase_add_test(t, one_model_from_two_threads);
    tcase_add_test(t, a_child_after_fork);
    tcase_add_test(t, nothing_of_the_host_changes);
    tcase_add_test(t, nothing_of_an_odd_host_changes);
    suite_add_tcase(all_tests, t);
    return all_tests;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
