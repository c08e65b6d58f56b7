/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "util.h"

typedef struct worker {
    pool *owner;
    int32_t number;
    pthread_t thread;
} worker;

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    worker *extra; /* [n_extra], all but the caller */
    int n_extra;
    int quit;
    /* The job at hand, under the lock. */
    cadft_task_fn fn;
    void *task;
    int64_t n, next, pending;
};

/* Take pieces until there are none. Called and left with the lock held;
 * which worker takes which piece is chance, so pieces must not care. */
static void drain(pool *p, int32_t number)
{
    while (p->next < p->n) {
        int64_t i = p->next++;
        cadft_task_fn fn = p->fn;
        void *task = p->task;
        pthread_mutex_unlock(&p->lock);
        fn(task, i, number);
        pthread_mutex_lock(&p->lock);
        if (--p->pending == 0)
            pthread_cond_signal(&p->done);
    }
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    pool *p = w->owner;
    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        drain(p, w->number);
        if (!p->quit)
            pthread_cond_wait(&p->wake, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_create(int workers, pool **out)
{
    *out = NULL;
    pool *p = calloc(1, sizeof *p);
    if (!p)
        return fail(HOST_FAILED, "out of memory for the thread pool");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->extra = calloc((size_t)workers, sizeof *p->extra);
    if (!p->extra) {
        pool_destroy(p);
        return fail(HOST_FAILED, "out of memory for the thread pool");
    }
    for (int i = 0; i < workers - 1; i++) {
        worker *w = &p->extra[i];
        w->owner = p;
        w->number = i + 1;
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            pool_destroy(p);
            return fail(HOST_FAILED, "cannot start thread %d of %d", i + 2,
                        workers);
        }
        p->n_extra++;
    }
    *out = p;
    return HOST_OK;
}

void pool_destroy(pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = 1;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_extra; i++)
        pthread_join(p->extra[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->extra);
    free(p);
}

int pool_workers(const pool *p)
{
    return p->n_extra + 1;
}

int32_t pool_run(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    pool *p = user;
    if (p->n_extra == 0 || n <= 1) {
        for (int64_t i = 0; i < n; i++)
            fn(task, i, 0);
        return 0;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->task = task;
    p->n = n;
    p->next = 0;
    p->pending = n;
    pthread_cond_broadcast(&p->wake);
    drain(p, 0);
    while (p->pending > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return 0;
}
