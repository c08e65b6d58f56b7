/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that take structs with pointers.
 *
 * Go may hand C a pointer to its memory for the time of a call, but no struct
 * in Go memory that holds such pointers (the rules of cgo; runtime.Pinner came
 * with Go 1.21). So each address is an argument of its own. A struct of the
 * library comes from Go with its numbers and with pointers to C's memory, and
 * gets the addresses in a copy on the C stack.
 *
 * Addresses of tensors are `char *`: they are those of arrays of numbers, which
 * hold no pointers, and cgo does not search what a `char *` points to.
 *
 * All of it is static inline: each Go file includes this, and files beside an
 * //export may have nothing else. */
#ifndef EXAMPLES_GO_SHIM_H
#define EXAMPLES_GO_SHIM_H

#include <cadft/cadft.h>

/* The nouns that have knobs. */
enum { GOCADFT_LOSS, GOCADFT_MODEL, GOCADFT_OPTIMIZER, GOCADFT_REWRITE };

/* ---------------------------------------------------------------- tensors */

/* A tensor without its address. */
typedef struct gocadft_view {
    int64_t shape[CADFT_NDIM_MAX], strides[CADFT_NDIM_MAX];
    int32_t dtype, ndim;
    int32_t strided; /* 0: dense, strides are not read */
    int32_t present; /* 0: NULL in place of a tensor */
    int32_t device_type, device_id;
} gocadft_view;

/* The tensor of a view at an address, good until the end of the block. */
#define GOCADFT_TENSOR(view, data)                                             \
    gocadft_tensor(view, data, &(cadft_tensor){.struct_size = 0})

static inline const cadft_tensor *
gocadft_tensor(const gocadft_view *view, char *data, cadft_tensor *out)
{
    *out = (cadft_tensor){.struct_size = sizeof *out,
                          .data = data,
                          .device_type = view->device_type,
                          .device_id = view->device_id,
                          .ndim = view->ndim,
                          .dtype_code = (uint8_t)view->dtype,
                          .dtype_bits = (uint8_t)(view->dtype >> 8),
                          .dtype_lanes = (uint16_t)(view->dtype >> 16),
                          .shape = (int64_t *)(uintptr_t)view->shape};
    if (view->strided)
        out->strides = (int64_t *)(uintptr_t)view->strides;
    return view->present ? out : NULL;
}

/* The way back, of tensors of the library's own. */
static inline void
gocadft_view_of(const cadft_tensor *tensor, gocadft_view *view, char **data)
{
    *view =
        (gocadft_view){.dtype = tensor->dtype_code | tensor->dtype_bits << 8 |
                                tensor->dtype_lanes << 16,
                       .ndim = tensor->ndim,
                       .strided = tensor->strides != NULL,
                       .present = tensor->data != NULL,
                       .device_type = tensor->device_type,
                       .device_id = tensor->device_id};
    for (int32_t d = 0; d < tensor->ndim && d < CADFT_NDIM_MAX; d++) {
        view->shape[d] = tensor->shape[d];
        view->strides[d] = tensor->strides ? tensor->strides[d] : 0;
    }
    *data = tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
}

/* ---------------------------------------------------------------- context */

/* What callback.go exports; cgo knows no const. `user` is the handle of a Go
 * value. */
int32_t gocadftCoefficient(
    uintptr_t user, int64_t rows, double *l, double *p, double *h, double *k);
int32_t gocadftToken(uintptr_t user,
                     int64_t prompt,
                     int64_t position,
                     int32_t id,
                     double logprob);
void gocadftLog(uintptr_t user, int32_t level, char *text, size_t length);
void gocadftRelease(uintptr_t user);

/* Gives the handle of a Go value back: a callback's `destroy`. */
static inline void gocadft_release(void *user)
{
    gocadftRelease((uintptr_t)user);
}

static inline void
gocadft_write_log(void *user, int32_t level, const char *text, size_t n)
{
    gocadftLog((uintptr_t)user, level, (char *)(uintptr_t)text, n);
}

/* A `log` of 0 is none; else it is the handle of a Go value, which
 * gocadftRelease gives back. */
static inline int32_t gocadft_context_create(const cadft_context_desc *desc,
                                             const char *backend,
                                             const char *backend_options,
                                             int32_t log_level,
                                             uintptr_t log,
                                             cadft_context **out,
                                             cadft_error *e)
{
    cadft_context_desc d = *desc;
    cadft_log sink = {.struct_size = sizeof sink,
                      .max_level = log_level,
                      .user = (void *)log,
                      .write = gocadft_write_log,
                      .destroy = gocadft_release};
    d.backend = backend;
    d.backend_options = backend_options;
    d.log = log ? &sink : NULL;
    return cadft_context_create(&d, out, e);
}

static inline int32_t gocadft_context_read(cadft_context *context,
                                           const gocadft_view *view,
                                           char *from,
                                           char *to,
                                           size_t bytes,
                                           cadft_error *e)
{
    return cadft_context_read(context, GOCADFT_TENSOR(view, from), to, bytes,
                              e);
}

static inline int32_t gocadft_context_write(cadft_context *context,
                                            const gocadft_view *view,
                                            char *to,
                                            const char *from,
                                            size_t bytes,
                                            cadft_error *e)
{
    return cadft_context_write(context, GOCADFT_TENSOR(view, to), from, bytes,
                               e);
}

/* ----------------------------------------- optimizer, rewriting, checkpoints
 */

static inline int32_t gocadft_optimizer_add(cadft_optimizer *optimizer,
                                            const char *name,
                                            const gocadft_view *value_view,
                                            char *value,
                                            const gocadft_view *grad_view,
                                            char *grad,
                                            cadft_error *e)
{
    return cadft_optimizer_add(optimizer, name,
                               GOCADFT_TENSOR(value_view, value),
                               GOCADFT_TENSOR(grad_view, grad), e);
}

static inline int32_t gocadft_rewrite_commit(cadft_rewrite *rewrite,
                                             int64_t id,
                                             const cadft_rewrite_result *result,
                                             const int32_t *tokens,
                                             int32_t *rejected,
                                             cadft_error *e)
{
    cadft_rewrite_result r = *result;
    r.tokens = tokens;
    return cadft_rewrite_commit(rewrite, id, &r, rejected, e);
}

static inline int32_t gocadft_checkpoint_save(cadft_context *context,
                                              const cadft_checkpoint *point,
                                              const char *folder,
                                              const char *host,
                                              cadft_error *e)
{
    cadft_checkpoint p = *point;
    p.folder = folder;
    p.host = host;
    return cadft_checkpoint_save(context, &p, e);
}

static inline int32_t gocadft_checkpoint_load(cadft_context *context,
                                              const cadft_checkpoint *point,
                                              const char *folder,
                                              char *host,
                                              size_t capacity,
                                              size_t *needed,
                                              cadft_error *e)
{
    cadft_checkpoint p = *point;
    p.folder = folder;
    return cadft_checkpoint_load(context, &p, host, capacity, needed, e);
}

#endif
