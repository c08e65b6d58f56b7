/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: own and the host's, several losses at once, fork, and what of the
 * process and of the calling thread must be as it was. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "calm.h"
#include "support.h"

enum { ROWS = 61, COLS = 203, SAMPLES = 9, WORKERS = 3 };

static cadft_error err;
static support_batch *batch;
static float expected[ROWS * COLS];

/* ------------------------------------------------------------- one result */

static int32_t grad_of(cadft_loss *loss, float *out, cadft_error *e)
{
    cadft_tensor g;
    cadft_tensor_init(&g, sizeof g, out, CADFT_DTYPE_F32, 2, batch->shape, NULL,
                      NULL);
    return cadft_loss_compute(loss, &batch->batch, SAMPLES, &g, NULL, NULL, e);
}

/* 0 if compute on the loss gives the bits that one thread gave. */
static int differs(cadft_loss *loss)
{
    float *out = (float *)malloc(sizeof expected);
    int bad = grad_of(loss, out, NULL) != CADFT_OK ||
              memcmp(out, expected, sizeof expected) != 0;
    free(out);
    return bad;
}

static void setup(void)
{
    cadft_context *context;
    cadft_loss *loss;
    err = support_error();
    batch = support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 3);
    context = support_context(NULL, 1);
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    CHECK_OK(grad_of(loss, expected, &err), err);
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
}

static void teardown(void)
{
    support_batch_free(batch);
}

static int threads_now(void)
{
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    if (!folder)
        return -1;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2;
}

/* A thread that was joined may be listed for a moment longer. */
static int threads_settle(int wanted)
{
    const struct timespec moment = {0, 2000000};
    int now = threads_now();
    for (int i = 0; i < 500 && now != wanted; i++) {
        nanosleep(&moment, NULL);
        now = threads_now();
    }
    return now;
}

/* ------------------------------------------------------------- own threads */

START_TEST(any_number_of_threads)
{
    int before;
    cadft_context_destroy(support_context(NULL, 2)); /* sanitizers' own */
    before = threads_now();
    for (int32_t n = 1; n <= 8; n++) {
        cadft_context *context = support_context(NULL, n);
        cadft_loss *loss;
        int64_t workers;
        CHECK_OK(cadft_context_get_i64(context, CADFT_CONTEXT_WORKERS, &workers,
                                       &err),
                 err);
        ck_assert_int_eq(workers, n);
        ck_assert_int_eq(threads_settle(before + n - 1), before + n - 1);
        CHECK_OK(cadft_loss_create(context, &loss, &err), err);
        ck_assert(!differs(loss));
        ck_assert(!differs(loss));
        cadft_context_destroy(context);
        ck_assert(!differs(loss));
        cadft_loss_destroy(loss);
        ck_assert_int_eq(threads_settle(before), before);
    }
}
END_TEST

/* A failure gives back the threads that were started. */
START_TEST(failed_creation_leaves_no_thread)
{
    int before = threads_now();
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 4,
                               .backend_options = "no such set"};
    cadft_context *context;
    CHECK_STATUS(cadft_context_create(&desc, &context, &err), CADFT_E_BACKEND,
                 err);
    ck_assert_int_eq(threads_settle(before), before);
}
END_TEST

/* -------------------------------------------------------- the host's threads
 */

struct pool {
    int fail, skip; /* return failure; leave the last index out */
    atomic_int calls, destroyed;
};

struct share {
    struct pool *pool;
    cadft_task_fn fn;
    void *task;
    int64_t n;
    int32_t worker;
};

static void *work(void *argument)
{
    const struct share *s = (const struct share *)argument;
    for (int64_t i = s->worker; i < s->n; i += WORKERS)
        if (!s->pool->skip || i != s->n - 1)
            s->fn(s->task, i, s->worker);
    return NULL;
}

static int32_t host_for(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    struct pool *pool = (struct pool *)user;
    pthread_t threads[WORKERS];
    struct share shares[WORKERS];
    pool->calls++;
    for (int32_t i = 0; i < WORKERS; i++) {
        shares[i] = (struct share){pool, fn, task, n, i};
        if (pthread_create(&threads[i], NULL, work, &shares[i]))
            abort();
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    errno = 77; /* the host's, and it does not show outside */
    return pool->fail;
}

static void pool_destroy(void *user)
{
    ((struct pool *)user)->destroyed++;
}

static cadft_loss *pooled_loss(struct pool *pool)
{
    cadft_parallel parallel = {.struct_size = sizeof parallel,
                               .max_workers = WORKERS,
                               .user = pool,
                               .parallel_for = host_for,
                               .destroy = pool_destroy};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .parallel = &parallel};
    cadft_context *context;
    cadft_loss *loss;
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    cadft_context_destroy(context);
    return loss;
}

START_TEST(threads_of_the_host)
{
    struct pool pool = {0};
    cadft_loss *loss = pooled_loss(&pool);
    ck_assert(!differs(loss));
    ck_assert_int_gt(pool.calls, 0);
    cadft_loss_destroy(loss);
    ck_assert_int_eq(pool.destroyed, 1);
}
END_TEST

START_TEST(host_that_does_not_run_all)
{
    struct pool pool = {0};
    cadft_loss *loss = pooled_loss(&pool);
    float *out = (float *)calloc(1, sizeof expected);
    for (int i = 0; i < 4; i++) {
        pool.fail = i % 2 ? 0 : 5;
        pool.skip = i % 2;
        CHECK_STATUS(grad_of(loss, out, &err), CADFT_E_THREADS, err);
        ck_assert_ptr_nonnull(strstr(err.message, "parallel_for"));
        for (int j = 0; j < ROWS * COLS; j++)
            ck_assert(out[j] == 0); /* failed before the gradient */
        pool.fail = pool.skip = 0;
        ck_assert(!differs(loss));
    }
    cadft_loss_destroy(loss);
    free(out);
    ck_assert_int_eq(pool.destroyed, 1);
}
END_TEST

/* ---------------------------------------------------------- several at once */

static void *compute_often(void *argument)
{
    cadft_loss *loss = (cadft_loss *)argument;
    intptr_t bad = 0;
    for (int i = 0; i < 25; i++)
        bad += differs(loss);
    return (void *)bad;
}

START_TEST(two_losses_of_one_context)
{
    cadft_context *context = support_context(NULL, 3);
    cadft_loss *loss[3];
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) {
        CHECK_OK(cadft_loss_create(context, &loss[i], &err), err);
        ck_assert_int_eq(
            pthread_create(&thread[i], NULL, compute_often, loss[i]), 0);
    }
    cadft_context_destroy(context); /* while they work */
    for (int i = 0; i < 3; i++) {
        void *bad;
        pthread_join(thread[i], &bad);
        ck_assert_ptr_null(bad);
        cadft_loss_destroy(loss[i]);
    }
}
END_TEST

/* Contexts come and go, failures are noted and read, beside the work. */
static void *come_and_go(void *argument)
{
    cadft_context *shared = (cadft_context *)argument;
    intptr_t bad = 0;
    for (int i = 0; i < 15; i++) {
        cadft_context_desc desc = {.struct_size = sizeof desc,
                                   .n_threads = 1 + i % 4};
        cadft_context *context = NULL;
        cadft_loss *loss = NULL;
        char text[256];
        bad += cadft_context_create(&desc, &context, NULL) != CADFT_OK;
        bad += cadft_loss_create(context, &loss, NULL) != CADFT_OK;
        cadft_context_destroy(context);
        bad += differs(loss);
        cadft_loss_destroy(loss);
        bad += cadft_loss_create(shared, &loss, NULL) != CADFT_OK;
        bad += cadft_loss_weigh(loss, NULL) != CADFT_E_PHASE;
        bad += cadft_context_get_str(shared, CADFT_CONTEXT_LAST_ERROR, text,
                                     sizeof text, NULL, NULL) != CADFT_OK;
        cadft_loss_destroy(loss);
    }
    return (void *)bad;
}

START_TEST(contexts_come_and_go)
{
    cadft_context *context = support_context(NULL, 2);
    cadft_loss *loss;
    pthread_t thread[3];
    void *bad;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    ck_assert_int_eq(pthread_create(&thread[0], NULL, compute_often, loss), 0);
    for (int i = 1; i < 3; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, come_and_go, context),
                         0);
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], &bad);
        ck_assert_ptr_null(bad);
    }
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
}
END_TEST

/* Two threads on one loss: each call succeeds whole or is refused. */
static void *compute_or_busy(void *argument)
{
    cadft_loss *loss = (cadft_loss *)argument;
    float *out = (float *)malloc(sizeof expected);
    intptr_t bad = 0;
    for (int i = 0; i < 50; i++) {
        int32_t status = grad_of(loss, out, NULL);
        bad += status != CADFT_E_BUSY &&
               (status || memcmp(out, expected, sizeof expected) != 0);
    }
    free(out);
    return (void *)bad;
}

START_TEST(one_loss_from_two_threads)
{
    cadft_context *context = support_context(NULL, 2);
    cadft_loss *loss;
    pthread_t thread[2];
    void *bad;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(
            pthread_create(&thread[i], NULL, compute_or_busy, loss), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], &bad);
        ck_assert_ptr_null(bad);
    }
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
}
END_TEST

/* ------------------------------------------------------------------- fork */

START_TEST(a_child_after_fork)
{
    cadft_context *context = support_context(NULL, 4);
    cadft_loss *loss;
    int status = -1;
    pid_t child;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    ck_assert(!differs(loss));
    child = fork();
    if (child == 0) {
        int bad = differs(loss) || threads_now() != 1;
        cadft_context_destroy(context);
        bad |= differs(loss);
        cadft_loss_destroy(loss);
        _exit(bad ? 3 : 0);
    }
    ck_assert_int_gt(child, 0);
    ck_assert(!differs(loss)); /* the parent meanwhile */
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "the child ended with %d", status);
    ck_assert(!differs(loss));
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
}
END_TEST

/* ---------------------------------------------- what is not the library's */

/* Failures among them on purpose: errors are where errno is lost. */
static void every_call(void)
{
    struct calm before = calm_now();
    cadft_context_desc desc = {.struct_size = sizeof desc, .n_threads = 2};
    cadft_context_desc bad = {.struct_size = sizeof bad,
                              .backend = "/no/such/plugin.so"};
    cadft_context *context = NULL;
    cadft_loss *loss = NULL;
    cadft_tensor g;
    float *out = (float *)malloc(sizeof expected);
    double values[4 * SAMPLES];
    int64_t i64;
    size_t n;
    char text[256];
    cadft_tensor_init(&g, sizeof g, out, CADFT_DTYPE_F32, 2, batch->shape, NULL,
                      NULL);
    CALM(cadft_context_create(&bad, &context, &err));
    CALM(cadft_context_create(&desc, &context, &err));
    CALM(cadft_loss_create(context, &loss, &err));
    CALM(cadft_loss_set_str(loss, CADFT_LOSS_BETA, "1e999", &err));
    CALM(cadft_loss_set_str(loss, CADFT_LOSS_BETA, "1.0", &err));
    CALM(cadft_loss_set_str(loss, CADFT_LOSS_DDOF, "99999999999999999999",
                            &err));
    CALM(cadft_loss_get_str(loss, CADFT_LOSS_EPS, text, sizeof text, NULL,
                            &err));
    ck_assert_str_eq(text, "1e-06");
    CALM(cadft_loss_begin(loss, SAMPLES, &err));
    CALM(cadft_loss_observe(loss, &batch->batch, NULL, &i64, &err));
    CALM(cadft_loss_observe(loss, &batch->batch, &g, &i64, &err));
    CALM(cadft_loss_export(loss, 3, 0, 1, values, 4 * SAMPLES, &n, &err));
    CALM(cadft_loss_import(loss, 3, values, n, &err));
    CALM(cadft_loss_import(loss, 3, values, 1, &err));
    CALM(cadft_loss_weigh(loss, &err));
    CALM(cadft_loss_grad(loss, 0, &batch->batch, &g, &err));
    CALM(cadft_loss_grad(loss, 9, &batch->batch, &g, &err));
    CALM(cadft_loss_end(loss, NULL, &err));
    CALM(
        cadft_loss_compute(loss, &batch->batch, SAMPLES, &g, NULL, NULL, &err));
    CALM(cadft_loss_get_samples(loss, CADFT_SAMPLES_W, values, SAMPLES, NULL,
                                &err));
    CALM(cadft_loss_state_save(loss, text, sizeof text, &n, &err));
    CALM(cadft_loss_state_load(loss, text, 3, &err));
    CALM(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &i64, &err));
    CALM(cadft_context_get_str(context, CADFT_CONTEXT_LAST_ERROR, text,
                               sizeof text, NULL, &err));
    CALM(cadft_sample_ids_padded(2, 3, NULL, -1, NULL, &err));
    CALM((cadft_loss_cancel(loss), 0));
    CALM((cadft_loss_destroy(loss), 0));
    CALM((cadft_context_destroy(context), 0));
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

/* Does the thread take SIGUSR1? Its mask says so; -1 if it cannot be read. */
static int takes_signals(const char *thread)
{
    char path[300], line[256];
    FILE *file;
    int takes = -1;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/status", thread);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "SigBlk:", 7) == 0)
            takes = !(strtoull(line + 7, NULL, 16) >> (SIGUSR1 - 1) & 1);
    if (file)
        fclose(file);
    return takes;
}

/* Threads of the process that take SIGUSR1, the calling one left out. */
static int threads_with_signals(void)
{
    DIR *folder = opendir("/proc/self/task");
    const struct dirent *entry;
    int count = 0;
    while (folder && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != getpid())
            count += takes_signals(entry->d_name) == 1;
    if (folder)
        closedir(folder);
    return count;
}

/* The library's threads take no signal that is meant for the host. While it
 * starts a thread blocks them anyway, hence the wait. */
START_TEST(threads_block_all_signals)
{
    const struct timespec moment = {0, 5000000};
    int before = threads_with_signals(), most = 0;
    cadft_context *context = support_context(NULL, 3);
    for (int i = 0; i < 30; i++) {
        int now = threads_with_signals();
        most = now > most ? now : most;
        nanosleep(&moment, NULL);
    }
    cadft_context_destroy(context);
    ck_assert_int_eq(most, before);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("threads");
    TCase *t = tcase_create("threads");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, any_number_of_threads);
    tcase_add_test(t, failed_creation_leaves_no_thread);
    tcase_add_test(t, threads_of_the_host);
    tcase_add_test(t, host_that_does_not_run_all);
    tcase_add_test(t, two_losses_of_one_context);
    tcase_add_test(t, contexts_come_and_go);
    tcase_add_test(t, one_loss_from_two_threads);
    tcase_add_test(t, a_child_after_fork);
    tcase_add_test(t, nothing_of_the_host_changes);
    tcase_add_test(t, nothing_of_an_odd_host_changes);
    tcase_add_test(t, threads_block_all_signals);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
