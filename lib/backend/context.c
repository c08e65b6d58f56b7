/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/context.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/error.h"

/* ------------------------------------------------- what a backend may use */

static void *host_alloc(void *user, size_t size, size_t align)
{
    cadft_context *context = (cadft_context *)user;
    return align <= 64 ? cadft__alloc(&context->memory, size) : NULL;
}

static void host_free(void *user, void *memory, size_t size, size_t align)
{
    cadft_context *context = (cadft_context *)user;
    (void)align;
    cadft__free(&context->memory, memory, size);
}

static void host_log(void *user, int32_t level, const char *text)
{
    cadft__context_log((cadft_context *)user, level, "%s", text);
}

/* Counts what the host's parallel_for really ran. */
struct counted {
    cadft_task_fn fn;
    void *task;
    atomic_llong done;
};

static void run_counted(void *task, int64_t index, int32_t worker)
{
    struct counted *c = (struct counted *)task;
    c->fn(c->task, index, worker);
    atomic_fetch_add(&c->done, 1);
}

static int32_t
host_parallel_for(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    cadft_context *context = (cadft_context *)user;
    cadft_parallel *p = &context->parallel;
    struct counted counted = {.fn = fn, .task = task};
    if (context->pool) {
        cadft__pool_run(context->pool, n, fn, task);
        return CADFT_OK;
    }
    if (!p->parallel_for || n <= 1) {
        for (int64_t i = 0; i < n; i++)
            fn(task, i, 0);
        return CADFT_OK;
    }
    atomic_init(&counted.done, 0);
    if (p->parallel_for(p->user, n, run_counted, &counted) != 0 ||
        atomic_load(&counted.done) != n)
        return CADFT_E_THREADS;
    return CADFT_OK;
}

/* ---------------------------------------------------------------- create */

/* The description with its bundles, each copied from the caller's version. */
struct wanted {
    cadft_context_desc desc;
    cadft_allocator allocator;
    cadft_log log;
    cadft_parallel parallel;
};

/* Reads all of them even after an error, so that each destroy can run. */
static int32_t read_bundles(struct wanted *w, cadft_error *error)
{
    const cadft_context_desc *d = &w->desc;
    cadft_error more;
    int32_t a = CADFT_OK, b = CADFT_OK, c = CADFT_OK;
    more = *error;
    if (d->allocator)
        a = cadft__struct_in(&w->allocator, sizeof w->allocator, d->allocator,
                             CADFT__SIZE_TO(cadft_allocator, destroy),
                             "allocator", error);
    if (d->log)
        b = cadft__struct_in(&w->log, sizeof w->log, d->log,
                             CADFT__SIZE_TO(cadft_log, destroy), "log",
                             a ? &more : error);
    if (d->parallel)
        c = cadft__struct_in(&w->parallel, sizeof w->parallel, d->parallel,
                             CADFT__SIZE_TO(cadft_parallel, destroy),
                             "parallel", a || b ? &more : error);
    return a ? a : b ? b : c;
}

static int32_t check_desc(const struct wanted *w, cadft_error *error)
{
    const cadft_context_desc *d = &w->desc;
    if (w->allocator.reserved)
        return cadft__fail(error, CADFT_E_TOO_NEW,
                           "allocator.reserved is not 0");
    if (d->allocator && (!w->allocator.alloc || !w->allocator.free))
        return cadft__fail(error, CADFT_E_NULL,
                           "allocator.alloc or allocator.free is NULL");
    if (d->log && !w->log.write)
        return cadft__fail(error, CADFT_E_NULL, "log.write is NULL");
    if (d->parallel && !w->parallel.parallel_for)
        return cadft__fail(error, CADFT_E_NULL,
                           "parallel.parallel_for is NULL");
    if (d->parallel && w->parallel.max_workers < 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "parallel.max_workers is %d, expected at least 1",
                           w->parallel.max_workers);
    if (d->n_threads < 0 || d->n_threads > 4096)
        return cadft__fail(error, CADFT_E_ARG,
                           "n_threads is %d, expected 0 to 4096", d->n_threads);
    if (d->parallel && d->n_threads)
        return cadft__fail(error, CADFT_E_ARG,
                           "n_threads is %d, expected 0 because parallel is "
                           "given",
                           d->n_threads);
    return CADFT_OK;
}

static int32_t
open_device(cadft_context *context, const char *options, cadft_error *error)
{
    int32_t status;
    context->host = (cadft_backend_host){
        .struct_size = sizeof context->host,
        .major = CADFT_BACKEND_MAJOR,
        .minor_built = CADFT_BACKEND_MINOR,
        .minor_required = 0,
        .user = context,
        .max_workers = context->workers,
        .alloc = host_alloc,
        .free = host_free,
        .parallel_for = host_parallel_for,
        .log = host_log,
    };
    status = context->backend->open(&context->host, options, &context->device,
                                    error);
    if (status)
        context->device = NULL;
    return cadft__slot_status(status, "open", error);
}

static int32_t
start(cadft_context *context, const struct wanted *w, cadft_error *error)
{
    int32_t status, workers = w->desc.n_threads;
    status = cadft__backend_find(w->desc.backend, &context->backend, error);
    if (status)
        return status;
    if (!workers)
        workers =
            w->desc.parallel ? w->parallel.max_workers : cadft__cpu_count();
    context->workers = workers;
    if (!w->desc.parallel && workers > 1)
        status = cadft__pool_create(&context->memory, workers, &context->pool,
                                    error);
    return status ? status
                  : open_device(context, w->desc.backend_options, error);
}

static void destroy_bundles(const struct wanted *w)
{
    if (w->parallel.destroy)
        w->parallel.destroy(w->parallel.user);
    if (w->log.destroy)
        w->log.destroy(w->log.user);
    if (w->allocator.destroy)
        w->allocator.destroy(w->allocator.user);
}

static int32_t
create(const struct wanted *w, cadft_context **out, cadft_error *error)
{
    cadft__memory memory;
    cadft_context *context;
    int32_t status = check_desc(w, error);
    if (status) {
        destroy_bundles(w);
        return status;
    }
    cadft__memory_init(&memory, w->desc.allocator ? &w->allocator : NULL);
    context = (cadft_context *)cadft__alloc(&memory, sizeof *context);
    if (!context) {
        destroy_bundles(w);
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a context");
    }
    context->memory = memory;
    context->log = w->log;
    context->parallel = w->parallel;
    atomic_init(&context->references, 1);
    pthread_mutex_init(&context->lock, NULL);
    status = start(context, w, error);
    if (status) {
        cadft__context_release(context);
        return status;
    }
    *out = context;
    cadft__context_log(
        context, CADFT_LOG_INFO, "context on backend %s (%s), %d workers",
        context->backend->name, context->backend->describe(context->device),
        context->workers);
    return CADFT_OK;
}

int32_t cadft_context_create(const cadft_context_desc *desc,
                             cadft_context **out,
                             cadft_error *error)
{
    struct wanted w;
    cadft_error own;
    int before = errno;
    int32_t status = cadft__error_enter(error, &own), read = CADFT_OK;
    memset(&w, 0, sizeof w);
    if (out)
        *out = NULL;
    if (desc)
        read = cadft__struct_in(
            &w.desc, sizeof w.desc, desc,
            CADFT__SIZE_TO(cadft_context_desc, backend_options), "desc", &own);
    if (desc && (!read || read == CADFT_E_TOO_NEW)) {
        cadft_error later = own;
        int32_t bundles = read_bundles(&w, read ? &later : &own);
        read = read ? read : bundles;
    }
    if (!status)
        status = read;
    if (!status && !out)
        status = cadft__fail(&own, CADFT_E_NULL, "out is NULL");
    if (status)
        destroy_bundles(&w);
    if (!status)
        status = create(&w, out, &own);
    errno = before;
    return cadft__error_leave(error, &own, status);
}

/* --------------------------------------------------------------- destroy */

void cadft__context_retain(cadft_context *context)
{
    atomic_fetch_add(&context->references, 1);
}

void cadft__context_release(cadft_context *context)
{
    struct wanted w;
    cadft__memory memory;
    if (atomic_fetch_sub(&context->references, 1) != 1)
        return;
    if (context->device)
        context->backend->close(context->device);
    cadft__pool_destroy(&context->memory, context->pool);
    pthread_mutex_destroy(&context->lock);
    memset(&w, 0, sizeof w);
    w.parallel = context->parallel;
    w.log = context->log;
    w.allocator = context->memory.allocator;
    memory = context->memory; /* the context lies in the memory it frees */
    cadft__free(&memory, context, sizeof *context);
    destroy_bundles(&w);
}

void cadft_context_destroy(cadft_context *context)
{
    int before = errno;
    if (context)
        cadft__context_release(context);
    errno = before;
}

/* --------------------------------------------------------- log and getters */

void cadft__context_note(cadft_context *context, const cadft_error *error)
{
    pthread_mutex_lock(&context->lock);
    memcpy(context->last_error, error->message, sizeof context->last_error);
    pthread_mutex_unlock(&context->lock);
}

void cadft__context_log(cadft_context *context,
                        int32_t level,
                        const char *format,
                        ...)
{
    char text[512];
    va_list args;
    int length;
    if (!context->log.write || level > context->log.max_level)
        return;
    va_start(args, format);
    length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0)
        return;
    if ((size_t)length >= sizeof text)
        length = (int)sizeof text - 1;
    context->log.write(context->log.user, level, text, (size_t)length);
}

static int32_t
get_i64(cadft_context *context, int32_t key, int64_t *out, cadft_error *error)
{
    if (!context || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "out" : "context");
    switch (key) {
    case CADFT_CONTEXT_WORKERS:
        *out = context->workers;
        return CADFT_OK;
    case CADFT_CONTEXT_BYTES:
        *out = atomic_load(&context->memory.bytes);
        return CADFT_OK;
    case CADFT_CONTEXT_PEAK_BYTES:
        *out = atomic_load(&context->memory.peak);
        return CADFT_OK;
    default:
        return cadft__fail(error, CADFT_E_KEY,
                           "key %d is not an integer of the context", key);
    }
}

int32_t cadft_context_get_i64(cadft_context *context,
                              int32_t key,
                              int64_t *out,
                              cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = get_i64(context, key, out, &own);
    return cadft__error_leave(error, &own, status);
}

static int32_t get_str(cadft_context *context,
                       int32_t key,
                       char *buffer,
                       size_t capacity,
                       size_t *needed,
                       cadft_error *error)
{
    char text[sizeof context->last_error];
    if (!context)
        return cadft__fail(error, CADFT_E_NULL, "context is NULL");
    switch (key) {
    case CADFT_CONTEXT_BACKEND:
        return cadft__text_out(context->backend->name, buffer, capacity, needed,
                               error);
    case CADFT_CONTEXT_DEVICE:
        return cadft__text_out(context->backend->describe(context->device),
                               buffer, capacity, needed, error);
    case CADFT_CONTEXT_LAST_ERROR:
        pthread_mutex_lock(&context->lock);
        memcpy(text, context->last_error, sizeof text);
        pthread_mutex_unlock(&context->lock);
        return cadft__text_out(text, buffer, capacity, needed, error);
    default:
        return cadft__fail(error, CADFT_E_KEY,
                           "key %d is not a text of the context", key);
    }
}

int32_t cadft_context_get_str(cadft_context *context,
                              int32_t key,
                              char *buffer,
                              size_t capacity,
                              size_t *needed,
                              cadft_error *error)
{
    cadft_error own;
    int before = errno;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = get_str(context, key, buffer, capacity, needed, &own);
    errno = before;
    return cadft__error_leave(error, &own, status);
}
