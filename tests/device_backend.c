/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in for the tests: a device whose memory the host cannot reach and
 * whose streams run late. Built against the public headers alone.
 *
 * Handles are small numbers that point nowhere. What is enqueued on a stream
 * runs when something waits for that stream, not before, so that whoever
 * reuses memory too early is found out. Variants by options:
 *   fail-open, fail-open-dirty, fail-alloc, fail-copy-in, fail-copy-out,
 *   fail-stats, fail-grad, fail-unit, fail-silent (copy_out without a word),
 *   unit-f32 (supports the fused slot for float32 only) */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "cadft/backend.h"
#include "device_backend.h"
#include "device_rows.h"

#define EXPORT __attribute__((visibility("default")))

enum { BLOCKS = 256, QUEUE = 256, SLOTS = 8 };

struct cadft_device {
    const cadft_backend_host *host;
    char options[32];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block {
    char *memory;
    uint64_t bytes;
} blocks[BLOCKS];
static int64_t wrongs;
static char last_wrong[128];
static const char *variant_name;

static const char *const slot_names[SLOTS] = {
    "mem_alloc", "copy_in", "copy_out",      "sync",
    "stats",     "grad",    "loss_row_unit", "open"};
static int64_t slot_calls[SLOTS];

static void count(const char *slot)
{
    for (int i = 0; i < SLOTS; i++)
        slot_calls[i] += strcmp(slot, slot_names[i]) == 0;
}

static void wrong(const char *what)
{
    wrongs++;
    snprintf(last_wrong, sizeof last_wrong, "%s", what);
}

static int32_t fail(cadft_error *error, int32_t status, const char *what)
{
    error->code = status;
    snprintf(error->message, sizeof error->message, "device: %s", what);
    return status;
}

static int wants(const cadft_device *device, const char *option)
{
    return strcmp(device->options, option) == 0;
}

/* ---------------------------------------------------------------- memory */

/* Handles are 16 apart: nothing can be computed from their distance. */
static void *handle_of(int index)
{
    return (void *)(uintptr_t)(0x1000 + 16 * index);
}

static struct block *block_of(const void *base)
{
    uintptr_t at = (uintptr_t)base;
    if (at < 0x1000 || at >= 0x1000 + 16 * BLOCKS || at % 16 ||
        !blocks[(at - 0x1000) / 16].memory)
        return NULL;
    return &blocks[(at - 0x1000) / 16];
}

static void *device_alloc(uint64_t bytes)
{
    for (int i = 0; i < BLOCKS; i++)
        if (!blocks[i].memory) {
            blocks[i].memory = (char *)malloc((size_t)bytes + 1);
            blocks[i].bytes = bytes;
            memset(blocks[i].memory, 0xee, (size_t)bytes);
            return handle_of(i);
        }
    return NULL;
}

static void device_free(void *base)
{
    struct block *block = block_of(base);
    if (!block) {
        wrong("free of what was not allocated");
        return;
    }
    free(block->memory);
    block->memory = NULL;
}

/* The one way from an array to an address. */
static char *reach(const cadft_array *array, uint64_t bytes)
{
    struct block *block = block_of(array->base);
    if (!block) {
        wrong(array->base ? "an array whose memory is gone"
                          : "an array without memory");
        return NULL;
    }
    if (array->offset > block->bytes || bytes > block->bytes - array->offset) {
        wrong("beyond the end of an allocation");
        return NULL;
    }
    return block->memory + array->offset;
}

/* ------------------------------------------------------------------ work */

enum kind { WORK_STATS, WORK_GRAD, WORK_UNIT, WORK_COPY_IN };

struct work {
    enum kind kind;
    cadft_loss_rows rows;
    cadft_loss_grad_out out;
    cadft_array stats, coef, to;
    double smoothing;
    void *from; /* our copy of the source */
    uint64_t bytes;
};

static struct queue {
    struct work work[QUEUE];
    int count;
} queues[DEVICE_STREAMS];

static void run_rows(const struct work *w)
{
    const cadft_loss_rows *rows = &w->rows;
    uint64_t n = (uint64_t)rows->rows;
    const char *z = reach(&rows->logits, span(rows->rows, rows->cols,
                                              rows->row_stride, rows->dtype));
    const char *labels = reach(&rows->labels, n * 4);
    char *stats = w->kind != WORK_GRAD
                      ? reach(&w->stats, n * CADFT_STAT_STRIDE * 8)
                      : NULL;
    char *coef = w->kind == WORK_GRAD
                     ? reach(&w->coef, n * CADFT_COEF_STRIDE * 8)
                     : NULL;
    char *grad =
        w->kind != WORK_STATS
            ? reach(&w->out.grad, span(rows->rows, w->out.cols,
                                       w->out.row_stride, w->out.dtype))
            : NULL;
    if (!z || !labels || (!stats && !coef) || (!grad && w->kind != WORK_STATS))
        return;
    for (int64_t r = 0; r < rows->rows; r++) {
        const char *at =
            z + (uint64_t)(r * rows->row_stride) * size_of(rows->dtype);
        int32_t label = ((const int32_t *)(const void *)labels)[r];
        double *s =
            stats ? (double *)(void *)stats + r * CADFT_STAT_STRIDE : NULL;
        double unit[CADFT_COEF_STRIDE];
        const double *c =
            coef ? (double *)(void *)coef + r * CADFT_COEF_STRIDE : unit;
        if (s && label != CADFT_ROW_SKIP)
            row_stats(rows, at, label, s);
        if (w->kind == WORK_UNIT && label != CADFT_ROW_SKIP) {
            unit_coef(s, w->smoothing, unit);
            if (!isfinite(s[CADFT_STAT_Z_MAX]))
                c = NULL;
        }
        if (grad)
            row_grad(rows, at, label, label == CADFT_ROW_SKIP ? NULL : c,
                     &w->out,
                     grad + (uint64_t)(r * w->out.row_stride) *
                                size_of(w->out.dtype));
    }
}

static void run(struct work *w)
{
    char *to;
    if (w->kind != WORK_COPY_IN) {
        run_rows(w);
        return;
    }
    to = reach(&w->to, w->bytes);
    if (to)
        memcpy(to, w->from, (size_t)w->bytes);
    free(w->from);
}

/* -------------------------------------------------------------- streams */

/* Native handles of streams point nowhere either. */
static void *stream_handle(int32_t index)
{
    return index ? (void *)(uintptr_t)(0x50 + index) : NULL;
}

static struct queue *queue_of(void *stream)
{
    for (int32_t i = 0; i < DEVICE_STREAMS; i++)
        if (stream == stream_handle(i))
            return &queues[i];
    wrong("a stream that does not exist");
    return &queues[0];
}

static void drain(void *stream)
{
    struct queue *q = queue_of(stream);
    for (int i = 0; i < q->count; i++)
        run(&q->work[i]);
    q->count = 0;
}

static void enqueue(void *stream, const struct work *w)
{
    struct queue *q = queue_of(stream);
    if (q->count == QUEUE)
        drain(stream);
    q->work[q->count++] = *w;
}

/* ----------------------------------------------------------------- slots */

static int32_t dev_open(const cadft_backend_host *host,
                        const char *options,
                        cadft_device **out,
                        cadft_error *error)
{
    cadft_device *device;
    count("open");
    if (options && strcmp(options, "fail-open") == 0)
        return fail(error, CADFT_E_BACKEND, "no such device");
    if (options && strcmp(options, "fail-open-dirty") == 0) {
        *out = (cadft_device *)(uintptr_t)0x10; /* not to be closed */
        return fail(error, CADFT_E_DEVICE, "no such device");
    }
    if (host->struct_size < sizeof *host || host->major ||
        host->max_workers < 1)
        wrong("the host's table");
    device = (cadft_device *)host->alloc(host->user, sizeof *device, 16);
    if (!device)
        return fail(error, CADFT_E_NOMEM, "no memory");
    device->host = host;
    snprintf(device->options, sizeof device->options, "%s",
             options ? options : "");
    host->log(host->user, CADFT_LOG_INFO, "device opened");
    *out = device;
    return CADFT_OK;
}

static void dev_close(cadft_device *device)
{
    if (device == (cadft_device *)(uintptr_t)0x10) {
        wrong("close of a device that did not open");
        return;
    }
    device->host->free(device->host->user, device, sizeof *device, 16);
}

static const char *dev_describe(cadft_device *device)
{
    return device->options[0] ? device->options : "plain";
}

static int32_t dev_supports(cadft_device *device,
                            int32_t op,
                            int32_t in_dtype,
                            int32_t out_dtype)
{
    if (in_dtype != CADFT_DTYPE_F32 && in_dtype != CADFT_DTYPE_BF16)
        return 0;
    if (op == CADFT_OP_LOSS_ROW_UNIT && wants(device, "unit-f32"))
        return in_dtype == CADFT_DTYPE_F32 && out_dtype == CADFT_DTYPE_F32;
    return op == CADFT_OP_LOSS_ROW_STATS || out_dtype == in_dtype ||
           out_dtype == CADFT_DTYPE_F32;
}

static int32_t dev_mem_alloc(cadft_device *device,
                             uint64_t bytes,
                             void **out,
                             cadft_error *error)
{
    pthread_mutex_lock(&lock);
    count("mem_alloc");
    *out = wants(device, "fail-alloc") ? NULL : device_alloc(bytes);
    pthread_mutex_unlock(&lock);
    return *out ? CADFT_OK : fail(error, CADFT_E_NOMEM, "out of memory");
}

static void dev_mem_free(cadft_device *device, void *base, uint64_t bytes)
{
    struct block *block = block_of(base);
    (void)device;
    pthread_mutex_lock(&lock);
    if (block && block->bytes != bytes)
        wrong("free with another size");
    device_free(base);
    pthread_mutex_unlock(&lock);
}

static int32_t dev_copy_in(cadft_device *device,
                           void *stream,
                           const cadft_array *to,
                           const void *from,
                           uint64_t bytes,
                           cadft_error *error)
{
    struct work w = {.kind = WORK_COPY_IN, .to = *to, .bytes = bytes};
    if (wants(device, "fail-copy-in"))
        return fail(error, CADFT_E_BACKEND, "copy in failed");
    pthread_mutex_lock(&lock);
    count("copy_in");
    w.from = malloc((size_t)bytes + 1);
    if (bytes)
        memcpy(w.from, from, (size_t)bytes);
    if (!block_of(to->base))
        wrong("copy to no memory");
    enqueue(stream, &w);
    pthread_mutex_unlock(&lock);
    return CADFT_OK;
}

static int32_t dev_copy_out(cadft_device *device,
                            void *stream,
                            void *to,
                            const cadft_array *from,
                            uint64_t bytes,
                            cadft_error *error)
{
    const char *source;
    if (wants(device, "fail-copy-out"))
        return fail(error, CADFT_E_BACKEND, "copy out failed");
    if (wants(device, "fail-silent"))
        return CADFT_E_BACKEND;
    pthread_mutex_lock(&lock);
    count("copy_out");
    drain(stream);
    source = reach(from, bytes);
    if (source && bytes)
        memcpy(to, source, (size_t)bytes);
    pthread_mutex_unlock(&lock);
    return source ? CADFT_OK
                  : fail(error, CADFT_E_BACKEND, "copy from nowhere");
}

static int32_t dev_sync(cadft_device *device, void *stream, cadft_error *error)
{
    (void)device;
    (void)error;
    pthread_mutex_lock(&lock);
    count("sync");
    drain(stream);
    pthread_mutex_unlock(&lock);
    return CADFT_OK;
}

static int32_t add_work(const char *slot, void *stream, const struct work *w)
{
    pthread_mutex_lock(&lock);
    count(slot);
    enqueue(stream, w);
    pthread_mutex_unlock(&lock);
    return CADFT_OK;
}

static int32_t dev_stats(cadft_device *device,
                         void *stream,
                         const cadft_loss_rows *rows,
                         uint32_t want,
                         const cadft_array *stats,
                         cadft_error *error)
{
    struct work w = {.kind = WORK_STATS, .rows = *rows, .stats = *stats};
    (void)want;
    if (wants(device, "fail-stats"))
        return fail(error, CADFT_E_BACKEND, "statistics failed");
    return add_work("stats", stream, &w);
}

static int32_t dev_grad(cadft_device *device,
                        void *stream,
                        const cadft_loss_rows *rows,
                        const cadft_array *coef,
                        const cadft_loss_grad_out *out,
                        cadft_error *error)
{
    struct work w = {
        .kind = WORK_GRAD, .rows = *rows, .coef = *coef, .out = *out};
    if (wants(device, "fail-grad"))
        return fail(error, CADFT_E_BACKEND, "gradient failed");
    return add_work("grad", stream, &w);
}

static int32_t dev_unit(cadft_device *device,
                        void *stream,
                        const cadft_loss_rows *rows,
                        uint32_t want,
                        double smoothing,
                        const cadft_array *stats,
                        const cadft_loss_grad_out *out,
                        cadft_error *error)
{
    struct work w = {.kind = WORK_UNIT,
                     .rows = *rows,
                     .stats = *stats,
                     .out = *out,
                     .smoothing = smoothing};
    (void)want;
    if (wants(device, "fail-unit"))
        return fail(error, CADFT_E_BACKEND, "unit gradient failed");
    if (wants(device, "unit-f32") &&
        (rows->dtype != CADFT_DTYPE_F32 || out->dtype != CADFT_DTYPE_F32)) {
        wrong("the fused slot with types it does not support");
        return fail(error, CADFT_E_DTYPE, "types not supported");
    }
    return add_work("loss_row_unit", stream, &w);
}

/* ----------------------------------------------------- query and control */

static const cadft_backend usual = {
    .struct_size = sizeof usual,
    .major = CADFT_BACKEND_MAJOR,
    .minor_built = CADFT_BACKEND_MINOR,
    .name = "test-device",
    .device_type = DEVICE_TYPE,
    .open = dev_open,
    .close = dev_close,
    .describe = dev_describe,
    .supports = dev_supports,
    .mem_alloc = dev_mem_alloc,
    .mem_free = dev_mem_free,
    .copy_in = dev_copy_in,
    .copy_out = dev_copy_out,
    .sync = dev_sync,
    .loss_row_stats = dev_stats,
    .loss_row_grad = dev_grad,
    .loss_row_unit = dev_unit,
};

/* Tables that differ from the usual one; some of them must be refused. */
static const cadft_backend *vary(const char *name)
{
    static cadft_backend tables[32]; /* the library may keep them */
    static int next;
    cadft_backend *b = &tables[next++ % 32];
    *b = usual;
    if (strcmp(name, "no-unit") == 0)
        b->loss_row_unit = NULL;
    else if (strcmp(name, "small") == 0)
        b->struct_size = offsetof(cadft_backend, loss_row_unit);
    else if (strcmp(name, "newer") == 0)
        b->struct_size = sizeof *b + 64, b->minor_built = 9;
    else if (strcmp(name, "major") == 0)
        b->major = 1;
    else if (strcmp(name, "required") == 0)
        b->minor_required = 99;
    else if (strcmp(name, "too-small") == 0)
        b->struct_size = offsetof(cadft_backend, loss_row_unit) - 1;
    else if (strcmp(name, "no-name") == 0)
        b->name = NULL;
    else if (strcmp(name, "no-open") == 0)
        b->open = NULL;
    else if (strcmp(name, "no-sync") == 0)
        b->sync = NULL;
    else if (strcmp(name, "no-grad") == 0)
        b->loss_row_grad = NULL;
    else if (strcmp(name, "null") == 0)
        return NULL;
    return b;
}

EXPORT int32_t cadft_backend_query_v0(const cadft_backend **out,
                                      cadft_error *error);
int32_t cadft_backend_query_v0(const cadft_backend **out, cadft_error *error)
{
    if (variant_name && strcmp(variant_name, "error") == 0)
        return fail(error, CADFT_E_UNSUPPORTED, "the driver is too old");
    *out = variant_name ? vary(variant_name) : &usual;
    return CADFT_OK;
}

static void control_free(void *base)
{
    pthread_mutex_lock(&lock);
    device_free(base);
    pthread_mutex_unlock(&lock);
}

static void *control_alloc(uint64_t bytes)
{
    void *base;
    pthread_mutex_lock(&lock);
    base = device_alloc(bytes);
    pthread_mutex_unlock(&lock);
    return base;
}

static void
control_write(void *base, uint64_t offset, const void *from, uint64_t bytes)
{
    char *to = reach(&(const cadft_array){base, offset}, bytes);
    if (to)
        memcpy(to, from, (size_t)bytes);
}

static void control_read(void *base, uint64_t offset, void *to, uint64_t bytes)
{
    const char *from = reach(&(const cadft_array){base, offset}, bytes);
    if (from)
        memcpy(to, from, (size_t)bytes);
}

static void control_variant(const char *name)
{
    variant_name = name;
}

static int64_t control_live(void)
{
    int64_t live = 0;
    for (int i = 0; i < BLOCKS; i++)
        live += blocks[i].memory != NULL;
    return live;
}

static int64_t control_wrong(void)
{
    return wrongs;
}

static const char *control_what(void)
{
    return last_wrong;
}

static int64_t control_calls(const char *slot)
{
    for (int i = 0; i < SLOTS; i++)
        if (strcmp(slot, slot_names[i]) == 0)
            return slot_calls[i];
    return -1;
}

static void control_reset(void)
{
    for (int32_t i = 0; i < DEVICE_STREAMS; i++)
        drain(stream_handle(i));
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i].memory); /* what a test that failed has left */
        blocks[i].memory = NULL;
    }
    wrongs = 0;
    last_wrong[0] = '\0';
    memset(slot_calls, 0, sizeof slot_calls);
    variant_name = NULL;
}

EXPORT const device_control *device_backend_control(void);
const device_control *device_backend_control(void)
{
    static const device_control control = {
        .alloc = control_alloc,
        .free = control_free,
        .write = control_write,
        .read = control_read,
        .stream = stream_handle,
        .wait = drain,
        .variant = control_variant,
        .live = control_live,
        .wrong = control_wrong,
        .what = control_what,
        .calls = control_calls,
        .reset = control_reset,
    };
    return &control;
}
