/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in for the tests: the toy of examples/backend, whose memory the host
 * cannot reach, with streams that always run late, so that whoever reuses
 * memory too early is found out; with a loss_row_unit; and with what a test
 * turns on. Built against the public headers alone. Variants by options:
 *   fail-open, fail-open-dirty, fail-alloc, fail-copy-in, fail-copy-out,
 *   fail-stats, fail-grad, fail-unit, fail-silent (copy_out without a word),
 *   unit-f32 (supports the fused slot for float32 only) */
#include "device_backend.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "numbers.h"
#include "toy.h"

#define EXPORT __attribute__((visibility("default")))

struct test_device {
    struct cadft_device toy; /* first: the toy's slots get this pointer */
    char options[32];
};

static const char *variant_name;
static int64_t opens, grads, units, wrongs;
static char last_wrong[128];

static void wrong(const char *what)
{
    wrongs++;
    snprintf(last_wrong, sizeof last_wrong, "%s", what);
}

static int32_t fail(cadft_error *error, int32_t status, const char *what)
{
    return toy_fail(error, status, "device: %s", what);
}

static int wants(const cadft_device *device, const char *option)
{
    return strcmp(((const struct test_device *)device)->options, option) == 0;
}

/* ----------------------------------------------------------------- slots */

static int32_t dev_open(const cadft_backend_host *host,
                        const char *options,
                        cadft_device **out,
                        cadft_error *error)
{
    struct test_device *device;
    opens++;
    if (options && strcmp(options, "fail-open") == 0)
        return fail(error, CADFT_E_BACKEND, "no such device");
    if (options && strcmp(options, "fail-open-dirty") == 0) {
        *out = (cadft_device *)(uintptr_t)0x10; /* not to be closed */
        return fail(error, CADFT_E_DEVICE, "no such device");
    }
    if (host->struct_size < sizeof *host || host->major ||
        host->max_workers < 1)
        wrong("the host's table");
    device = (struct test_device *)host->alloc(host->user, sizeof *device, 16);
    if (!device)
        return fail(error, CADFT_E_NOMEM, "no memory");
    device->toy.host = host;
    device->toy.late = 1;
    snprintf(device->options, sizeof device->options, "%s",
             options ? options : "");
    host->log(host->user, CADFT_LOG_INFO, "device opened");
    *out = &device->toy;
    return CADFT_OK;
}

static void dev_close(cadft_device *device)
{
    if (device == (cadft_device *)(uintptr_t)0x10) {
        wrong("close of a device that did not open");
        return;
    }
    device->host->free(device->host->user, device, sizeof(struct test_device),
                       16);
}

static const char *dev_describe(cadft_device *device)
{
    const struct test_device *own = (const struct test_device *)device;
    return own->options[0] ? own->options : "plain";
}

static int32_t dev_supports(cadft_device *device,
                            int32_t op,
                            int32_t in_dtype,
                            int32_t out_dtype)
{
    if (op != CADFT_OP_LOSS_ROW_UNIT)
        return toy_backend.supports(device, op, in_dtype, out_dtype);
    if (wants(device, "unit-f32"))
        return in_dtype == CADFT_DTYPE_F32 && out_dtype == CADFT_DTYPE_F32;
    return toy_backend.supports(device, CADFT_OP_LOSS_ROW_GRAD, in_dtype,
                                out_dtype);
}

static int32_t dev_mem_alloc(cadft_device *device,
                             uint64_t bytes,
                             void **out,
                             cadft_error *error)
{
    if (wants(device, "fail-alloc"))
        return fail(error, CADFT_E_NOMEM, "out of memory");
    return toy_backend.mem_alloc(device, bytes, out, error);
}

static int32_t dev_copy_in(cadft_device *device,
                           void *stream,
                           const cadft_array *to,
                           const void *from,
                           uint64_t bytes,
                           cadft_error *error)
{
    if (wants(device, "fail-copy-in"))
        return fail(error, CADFT_E_BACKEND, "copy in failed");
    return toy_backend.copy_in(device, stream, to, from, bytes, error);
}

static int32_t dev_copy_out(cadft_device *device,
                            void *stream,
                            void *to,
                            const cadft_array *from,
                            uint64_t bytes,
                            cadft_error *error)
{
    if (wants(device, "fail-copy-out"))
        return fail(error, CADFT_E_BACKEND, "copy out failed");
    if (wants(device, "fail-silent"))
        return CADFT_E_BACKEND;
    return toy_backend.copy_out(device, stream, to, from, bytes, error);
}

static int32_t dev_stats(cadft_device *device,
                         void *stream,
                         const cadft_loss_rows *rows,
                         uint32_t want,
                         const cadft_array *stats,
                         cadft_error *error)
{
    if (wants(device, "fail-stats"))
        return fail(error, CADFT_E_BACKEND, "statistics failed");
    return toy_backend.loss_row_stats(device, stream, rows, want, stats, error);
}

static int32_t dev_grad(cadft_device *device,
                        void *stream,
                        const cadft_loss_rows *rows,
                        const cadft_array *coef,
                        const cadft_loss_grad_out *out,
                        cadft_error *error)
{
    grads++;
    if (wants(device, "fail-grad"))
        return fail(error, CADFT_E_BACKEND, "gradient failed");
    return toy_backend.loss_row_grad(device, stream, rows, coef, out, error);
}

/* Coefficients of the unit gradient from a row's statistics. */
static void unit_coef(const double *s, double e, double *c)
{
    double tail = log1p(s[CADFT_STAT_SUM_REST]);
    c[CADFT_COEF_LSE] = s[CADFT_STAT_Z_MAX] + tail;
    c[CADFT_COEF_A] = 1;
    c[CADFT_COEF_C] = e > 0 ? e / s[CADFT_STAT_UNMASKED] : 0;
    c[CADFT_COEF_LABEL] =
        expm1(s[CADFT_STAT_Z_LABEL] - c[CADFT_COEF_LSE]) + e - c[CADFT_COEF_C];
}

static void unit_rows(const void *args, cadft_error *error)
{
    const toy_loss_args *a = (const toy_loss_args *)args;
    const cadft_loss_rows *rows = &a->rows;
    const char *z =
        (const char *)toy_rows(&rows->logits, rows->rows, rows->cols,
                               rows->row_stride, rows->dtype, error);
    const int32_t *labels = (const int32_t *)toy_rows(
        &rows->labels, 1, rows->rows, 0, CADFT_DTYPE_I32, error);
    double *stats =
        (double *)toy_rows(&a->stats, rows->rows, CADFT_STAT_STRIDE,
                           CADFT_STAT_STRIDE, CADFT_DTYPE_F64, error);
    char *grad = (char *)toy_rows(&a->out.grad, rows->rows, a->out.cols,
                                  a->out.row_stride, a->out.dtype, error);
    for (int64_t r = 0; r < rows->rows && !error->code; r++) {
        const char *at = z + r * rows->row_stride * toy_size(rows->dtype);
        double coef[CADFT_COEF_STRIDE], all[CADFT_STAT_STRIDE];
        int zero = labels[r] == CADFT_ROW_SKIP;
        if (!zero) {
            toy_row_stats(rows, at, labels[r], CADFT_WANT_SUM, all);
            toy_row_stats(rows, at, labels[r], a->want,
                          stats + r * CADFT_STAT_STRIDE);
            unit_coef(all, a->smoothing, coef);
            zero = !isfinite(all[CADFT_STAT_Z_MAX]);
        }
        toy_row_grad(rows, at, labels[r], zero ? NULL : coef, &a->out,
                     grad + r * a->out.row_stride * toy_size(a->out.dtype));
    }
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
    toy_loss_args args = {.struct_size = sizeof args,
                          .want = want,
                          .rows = *rows,
                          .out = *out,
                          .stats = *stats,
                          .smoothing = smoothing};
    units++;
    if (wants(device, "fail-unit"))
        return fail(error, CADFT_E_BACKEND, "unit gradient failed");
    if (wants(device, "unit-f32") &&
        (rows->dtype != CADFT_DTYPE_F32 || out->dtype != CADFT_DTYPE_F32)) {
        wrong("the fused slot with types it does not support");
        return fail(error, CADFT_E_DTYPE, "types not supported");
    }
    return toy_enqueue(stream, 1, unit_rows, &args, sizeof args, NULL, error);
}

/* ----------------------------------------------------- query and control */

static cadft_backend usual(void)
{
    cadft_backend b = toy_backend;
    b.name = "test-device";
    b.open = dev_open;
    b.close = dev_close;
    b.describe = dev_describe;
    b.supports = dev_supports;
    b.mem_alloc = dev_mem_alloc;
    b.copy_in = dev_copy_in;
    b.copy_out = dev_copy_out;
    b.loss_row_stats = dev_stats;
    b.loss_row_grad = dev_grad;
    b.loss_row_unit = dev_unit;
    return b;
}

/* Tables that differ from the usual one; some of them must be refused. */
static const cadft_backend *vary(const char *name)
{
    static cadft_backend tables[32]; /* the library may keep them */
    static int next;
    cadft_backend *b = &tables[next++ % 32];
    *b = usual();
    if (!name)
        return b;
    if (strcmp(name, "no-unit") == 0)
        b->loss_row_unit = NULL;
    else if (strcmp(name, "small") == 0)
        b->struct_size = offsetof(cadft_backend, loss_row_unit);
    else if (strcmp(name, "contract-0.2") == 0)
        b->struct_size = offsetof(cadft_backend, sum_squares),
        b->minor_built = 2;
    else if (strcmp(name, "no-zero") == 0)
        b->mem_zero = NULL;
    else if (strcmp(name, "no-squares") == 0)
        b->sum_squares = NULL;
    else if (strcmp(name, "no-adamw") == 0)
        b->adamw = NULL;
    else if (strcmp(name, "no-sgd") == 0)
        b->sgd = NULL;
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
    *out = vary(variant_name);
    return CADFT_OK;
}

static void control_free(void *base)
{
    toy_free(base, UINT64_MAX);
}

static void
control_write(void *base, uint64_t offset, const void *from, uint64_t bytes)
{
    cadft_error error = {.struct_size = sizeof error};
    toy_copy(&(const toy_copy_args){.struct_size = sizeof(toy_copy_args),
                                    .to = {base, offset},
                                    .from = from,
                                    .bytes = bytes},
             &error);
}

static void control_read(void *base, uint64_t offset, void *to, uint64_t bytes)
{
    cadft_error error = {.struct_size = sizeof error};
    const void *from =
        toy_bytes(&(const cadft_array){base, offset}, bytes, &error);
    if (from)
        memcpy(to, from, (size_t)bytes);
}

static void control_wait(void *stream)
{
    cadft_error error = {.struct_size = sizeof error};
    toy_wait(stream, &error);
}

static void control_variant(const char *name)
{
    variant_name = name;
}

static int64_t control_wrong(void)
{
    return wrongs + toy_faults(NULL);
}

static const char *control_what(void)
{
    const char *last;
    toy_faults(&last);
    return wrongs ? last_wrong : last;
}

static int64_t control_calls(const char *slot)
{
    if (strcmp(slot, "open") == 0)
        return opens;
    return strcmp(slot, "grad") == 0 ? grads : units;
}

static void control_reset(void)
{
    toy_reset(); /* also what a test that failed has left */
    opens = grads = units = wrongs = 0;
    variant_name = NULL;
}

EXPORT const device_control *device_backend_control(void);
const device_control *device_backend_control(void)
{
    static const device_control control = {
        .alloc = toy_alloc,
        .free = control_free,
        .write = control_write,
        .read = control_read,
        .stream = toy_stream,
        .wait = control_wait,
        .variant = control_variant,
        .live = toy_live,
        .wrong = control_wrong,
        .what = control_what,
        .calls = control_calls,
        .reset = control_reset,
    };
    return &control;
}
