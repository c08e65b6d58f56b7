/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#include "common/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "common/error.h"

/* One job at a time: `round` tells the threads that a new one is there,
 * `next` hands out indices, `active` counts threads still inside it. */
struct cadft__pool {
    pthread_mutex_t caller; /* held by the caller whose job runs */
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t wake, done;
    uint64_t round;
    int32_t active;
    int32_t stop;
    cadft_task_fn fn;
    void *task;
    int64_t n;
    atomic_llong next;
    pid_t pid; /* threads exist in this process only */
    int32_t workers, started;
    struct worker {
        cadft__pool *pool;
        pthread_t thread;
        int32_t index;
    } worker[];
};

static size_t pool_size(int32_t workers)
{
    return sizeof(cadft__pool) + (size_t)workers * sizeof(struct worker);
}

int32_t cadft__cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
    long n = sysconf(_SC_NPROCESSORS_ONLN); /* more than 1024 processors */
    return n > 0 && n <= 65536 ? (int32_t)n : 1;
}

static void work(cadft__pool *pool, int32_t worker)
{
    long long i;
    while ((i = atomic_fetch_add(&pool->next, 1)) < pool->n)
        pool->fn(pool->task, i, worker);
}

static void *worker_main(void *argument)
{
    struct worker *me = (struct worker *)argument;
    cadft__pool *pool = me->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stop && pool->round == seen)
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stop)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        work(pool, me->index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->active == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int start_threads(cadft__pool *pool)
{
    sigset_t all, before;
    int failed = 0;
    sigfillset(&all); /* the host's signals go to the host's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int32_t i = 1; i < pool->workers && !failed; i++) {
        struct worker *w = &pool->worker[i];
        w->pool = pool;
        w->index = i;
        failed = pthread_create(&w->thread, NULL, worker_main, w);
        if (!failed)
            pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int32_t cadft__pool_create(cadft__memory *memory,
                           int32_t workers,
                           cadft__pool **out,
                           cadft_error *error)
{
    cadft__pool *pool = (cadft__pool *)cadft__alloc(memory, pool_size(workers));
    *out = NULL;
    if (!pool)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "no memory for a pool of %d threads", workers);
    pthread_mutex_init(&pool->caller, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    atomic_init(&pool->next, 0);
    pool->pid = getpid();
    pool->workers = workers;
    if (start_threads(pool)) {
        int32_t started = pool->started;
        cadft__pool_destroy(memory, pool);
        return cadft__fail(error, CADFT_E_THREADS,
                           "only %d of %d threads could be started",
                           started + 1, workers);
    }
    *out = pool;
    return CADFT_OK;
}

void cadft__pool_destroy(cadft__memory *memory, cadft__pool *pool)
{
    if (!pool)
        return;
    if (pool->pid == getpid()) {
        pthread_mutex_lock(&pool->lock);
        pool->stop = 1;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int32_t i = 1; i <= pool->started; i++)
            pthread_join(pool->worker[i].thread, NULL);
        pthread_cond_destroy(&pool->wake);
        pthread_cond_destroy(&pool->done);
        pthread_mutex_destroy(&pool->lock);
        pthread_mutex_destroy(&pool->caller);
    }
    cadft__free(memory, pool, pool_size(pool->workers));
}

void cadft__pool_run(cadft__pool *pool, int64_t n, cadft_task_fn fn, void *task)
{
    if (n <= 1 || pool->started == 0 || pool->pid != getpid() ||
        pthread_mutex_trylock(&pool->caller) != 0) {
        for (int64_t i = 0; i < n; i++)
            fn(task, i, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->task = task;
    pool->n = n;
    atomic_store(&pool->next, 0);
    pool->active = pool->started;
    pool->round++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    work(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->active)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->caller);
}
