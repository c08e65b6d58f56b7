/* SPDX-License-Identifier: Apache-2.0 */
/* The table: what the library calls. A slot puts its operation on the stream
 * and returns. */
#include <stdlib.h>
#include <string.h>

#include "toy.h"

/* -------------------------------------------------------------- device */

static int32_t check_host(const cadft_backend_host *host, cadft_error *error)
{
    if (host->major != CADFT_BACKEND_MAJOR ||
        host->minor_required > CADFT_BACKEND_MINOR)
        return toy_fail(error, CADFT_E_BACKEND,
                        "the library requires contract %u.%u, this backend "
                        "has %d.%d",
                        host->major, host->minor_required, CADFT_BACKEND_MAJOR,
                        CADFT_BACKEND_MINOR);
    return CADFT_OK;
}

static int32_t open_device(const cadft_backend_host *host,
                           const char *options,
                           cadft_device **out,
                           cadft_error *error)
{
    int late = options && strcmp(options, "late") == 0;
    int32_t status = check_host(host, error);
    cadft_device *device;
    if (status)
        return status;
    if (options && options[0] && !late)
        return toy_fail(error, CADFT_E_ARG,
                        "backend_options is \"%.64s\", expected nothing or "
                        "\"late\"",
                        options);
    device =
        host->alloc(host->user, sizeof *device, _Alignof(struct cadft_device));
    if (!device)
        return toy_fail(error, CADFT_E_NOMEM, "no memory for a device");
    device->host = host;
    device->late = late;
    *out = device;
    return CADFT_OK;
}

static void close_device(cadft_device *device)
{
    device->host->free(device->host->user, device, sizeof *device,
                       _Alignof(struct cadft_device));
}

static const char *describe(cadft_device *device)
{
    return device->late ? "late" : "plain";
}

/* The loss's logits of any type, its gradient as the logits or float32; a
 * model's weights float32 or bfloat16, where an operation has weights; an
 * optimizer's parameters and gradients either. */
static int32_t
supports(cadft_device *device, int32_t op, int32_t in_dtype, int32_t out_dtype)
{
    int f32 = in_dtype == CADFT_DTYPE_F32, bf16 = in_dtype == CADFT_DTYPE_BF16;
    (void)device;
    switch (op) {
    case CADFT_OP_LOSS_ROW_STATS:
        return f32 || bf16 || in_dtype == CADFT_DTYPE_F16;
    case CADFT_OP_LOSS_ROW_GRAD:
        return (f32 || bf16 || in_dtype == CADFT_DTYPE_F16) &&
               (out_dtype == in_dtype || out_dtype == CADFT_DTYPE_F32);
    case CADFT_OP_ROWS_GATHER:
    case CADFT_OP_NORM:
    case CADFT_OP_NORM_GRAD:
    case CADFT_OP_MATMUL:
    case CADFT_OP_SUM_SQUARES:
    case CADFT_OP_ADAMW:
    case CADFT_OP_SGD:
        return (f32 || bf16) && out_dtype == CADFT_DTYPE_F32;
    case CADFT_OP_ROWS_PUT:
    case CADFT_OP_ROWS_ADD:
    case CADFT_OP_ROPE:
    case CADFT_OP_ATTENTION:
    case CADFT_OP_ATTENTION_GRAD:
    case CADFT_OP_SWIGLU:
    case CADFT_OP_SWIGLU_GRAD:
    case CADFT_OP_ADD:
    case CADFT_OP_COLUMN_SUM:
        return f32 && out_dtype == CADFT_DTYPE_F32;
    default: /* an operation that we do not have, or do not know yet */
        return 0;
    }
}

/* -------------------------------------------------------------- memory */

static int32_t
mem_alloc(cadft_device *device, uint64_t bytes, void **out, cadft_error *error)
{
    (void)device;
    *out = toy_alloc(bytes);
    if (!*out)
        return toy_fail(error, CADFT_E_NOMEM,
                        "toy device: no room for %llu bytes",
                        (unsigned long long)bytes);
    return CADFT_OK;
}

static void mem_free(cadft_device *device, void *base, uint64_t bytes)
{
    (void)device;
    toy_free(base, bytes);
}

/* The source may be reused when we return, so late work needs a copy. */
static int32_t copy_in(cadft_device *device,
                       void *stream,
                       const cadft_array *to,
                       const void *from,
                       uint64_t bytes,
                       cadft_error *error)
{
    toy_copy_args args = {
        .struct_size = sizeof args, .to = *to, .bytes = bytes};
    void *copy;
    if (bytes == 0)
        return CADFT_OK;
    copy = malloc((size_t)bytes);
    if (!copy)
        return toy_fail(error, CADFT_E_NOMEM,
                        "toy device: no memory for a copy of %llu bytes",
                        (unsigned long long)bytes);
    memcpy(copy, from, (size_t)bytes);
    args.from = copy;
    return toy_enqueue(stream, device->late, toy_copy, &args, sizeof args, copy,
                       error);
}

static int32_t copy_out(cadft_device *device,
                        void *stream,
                        void *to,
                        const cadft_array *from,
                        uint64_t bytes,
                        cadft_error *error)
{
    (void)device;
    return toy_read(stream, to, from, bytes, error);
}

static int32_t
sync_stream(cadft_device *device, void *stream, cadft_error *error)
{
    (void)device;
    return toy_wait(stream, error);
}

static int32_t mem_zero(cadft_device *device,
                        void *stream,
                        const cadft_array *to,
                        uint64_t bytes,
                        cadft_error *error)
{
    toy_copy_args args = {
        .struct_size = sizeof args, .to = *to, .bytes = bytes};
    return toy_enqueue(stream, device->late, toy_copy, &args, sizeof args, NULL,
                       error);
}

/* ---------------------------------------------------------------- loss */

static int32_t loss_row_stats(cadft_device *device,
                              void *stream,
                              const cadft_loss_rows *rows,
                              uint32_t want,
                              const cadft_array *stats,
                              cadft_error *error)
{
    toy_loss_args args = {.struct_size = sizeof args,
                          .want = want,
                          .rows = *rows,
                          .stats = *stats};
    return toy_enqueue(stream, device->late, toy_loss_stats, &args, sizeof args,
                       NULL, error);
}

static int32_t loss_row_grad(cadft_device *device,
                             void *stream,
                             const cadft_loss_rows *rows,
                             const cadft_array *coef,
                             const cadft_loss_grad_out *out,
                             cadft_error *error)
{
    toy_loss_args args = {
        .struct_size = sizeof args, .rows = *rows, .out = *out, .coef = *coef};
    return toy_enqueue(stream, device->late, toy_loss_grad, &args, sizeof args,
                       NULL, error);
}

/* ---------------------------------------------------- model, optimizer */

/* Slots that have nothing to do but to put their kernel on the stream. */
#define SLOT(name, type)                                                       \
    static int32_t name(cadft_device *device, void *stream, const type *args,  \
                        cadft_error *error)                                    \
    {                                                                          \
        return toy_enqueue(stream, device->late, toy_##name, args,             \
                           sizeof *args, NULL, error);                         \
    }

SLOT(rows_gather, cadft_rows_args)
SLOT(rows_put, cadft_rows_args)
SLOT(rows_add, cadft_rows_args)
SLOT(norm, cadft_norm_args)
SLOT(norm_grad, cadft_norm_args)
SLOT(matmul, cadft_matmul_args)
SLOT(rope, cadft_rope_args)
SLOT(swiglu, cadft_swiglu_args)
SLOT(swiglu_grad, cadft_swiglu_args)
SLOT(add, cadft_add_args)
SLOT(column_sum, cadft_add_args)
SLOT(sum_squares, cadft_sum_squares_args)
SLOT(adamw, cadft_update_args)
SLOT(sgd, cadft_update_args)

/* The sequences lie in host memory and are ours only during the call. */
static int32_t attend(cadft_device *device,
                      void *stream,
                      toy_kernel *run,
                      const cadft_attention_args *args,
                      cadft_error *error)
{
    size_t n = (size_t)args->sequences;
    cadft_attention_args own;
    int64_t *copy;
    if (n == 0)
        return CADFT_OK;
    copy = malloc((3 * n + 1) * sizeof *copy);
    if (!copy)
        return toy_fail(error, CADFT_E_NOMEM,
                        "toy device: no memory for %zu sequences", n);
    memcpy(copy, args->q_first, (n + 1) * sizeof *copy);
    memcpy(copy + n + 1, args->k_first, n * sizeof *copy);
    memcpy(copy + 2 * n + 1, args->k_count, n * sizeof *copy);
    memset(&own, 0, sizeof own);
    memcpy(&own, args,
           args->struct_size < sizeof own ? args->struct_size : sizeof own);
    own.q_first = copy;
    own.k_first = copy + n + 1;
    own.k_count = copy + 2 * n + 1;
    return toy_enqueue(stream, device->late, run, &own, sizeof own, copy,
                       error);
}

static int32_t attention(cadft_device *device,
                         void *stream,
                         const cadft_attention_args *args,
                         cadft_error *error)
{
    return attend(device, stream, toy_attention, args, error);
}

static int32_t attention_grad(cadft_device *device,
                              void *stream,
                              const cadft_attention_args *args,
                              cadft_error *error)
{
    return attend(device, stream, toy_attention_grad, args, error);
}

/* Float64 sums: of each column, or three vectors of a head. */
static uint64_t work_bytes(cadft_device *device, int32_t op, const void *args)
{
    (void)device;
    switch (op) {
    case CADFT_OP_NORM_GRAD:
        return sizeof(double) * (uint64_t)((const cadft_norm_args *)args)->cols;
    case CADFT_OP_COLUMN_SUM:
        return sizeof(double) * (uint64_t)((const cadft_add_args *)args)->cols;
    case CADFT_OP_ATTENTION:
    case CADFT_OP_ATTENTION_GRAD:
        return 3 * sizeof(double) *
               (uint64_t)((const cadft_attention_args *)args)->head_dim;
    default:
        return 0;
    }
}

/* --------------------------------------------------------------- table */

/* loss_row_unit and add_norm are optional: the library does without. */
const cadft_backend toy_backend = {
    .struct_size = sizeof toy_backend,
    .major = CADFT_BACKEND_MAJOR,
    .minor_built = CADFT_BACKEND_MINOR,
    .minor_required = 0,
    .name = "toy",
    .device_type = TOY_DEVICE_TYPE,
    .open = open_device,
    .close = close_device,
    .describe = describe,
    .supports = supports,
    .mem_alloc = mem_alloc,
    .mem_free = mem_free,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .sync = sync_stream,
    .loss_row_stats = loss_row_stats,
    .loss_row_grad = loss_row_grad,
    .work_bytes = work_bytes,
    .mem_zero = mem_zero,
    .rows_gather = rows_gather,
    .rows_put = rows_put,
    .rows_add = rows_add,
    .norm = norm,
    .norm_grad = norm_grad,
    .matmul = matmul,
    .rope = rope,
    .attention = attention,
    .attention_grad = attention_grad,
    .swiglu = swiglu,
    .swiglu_grad = swiglu_grad,
    .add = add,
    .column_sum = column_sum,
    .sum_squares = sum_squares,
    .adamw = adamw,
    .sgd = sgd,
};
