/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the built-in backend; opening it, and its memory. */
#include "cpu/cpu.h"

#include <stdio.h>
#include <string.h>

#include "common/error.h"

/* One word of the options: an instruction set, copied to `isa`, or
 * "matmul=own" or "matmul=PATH". */
static int32_t read_word(cadft_device *device,
                         const char *word,
                         size_t length,
                         char isa[16],
                         cadft_error *error)
{
    static const char matmul[] = "matmul=";
    const size_t prefix = sizeof matmul - 1;
    if (length < prefix || memcmp(word, matmul, prefix) != 0) {
        snprintf(isa, 16, "%.*s", length < 16 ? (int)length : 15, word);
        return CADFT_OK;
    }
    if (length == prefix + 3 && memcmp(word + prefix, "own", 3) == 0)
        return CADFT_OK;
    return cadft__blas_open(word + prefix, length - prefix, device->host,
                            &device->blas, error);
}

/* Words between commas. */
static int32_t
read_options(cadft_device *device, const char *options, cadft_error *error)
{
    char isa[16] = "auto";
    for (const char *word = options; word;) {
        size_t length = strcspn(word, ",");
        int32_t status = read_word(device, word, length, isa, error);
        if (status)
            return status;
        word = word[length] ? word + length + 1 : NULL;
    }
    device->table = cadft__isa_pick(isa);
    if (!device->table)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "backend cpu has no instruction set \"%.64s\" on "
                           "this machine",
                           options);
    snprintf(device->description, sizeof device->description, "%s%s",
             device->table->name, device->blas.sgemm ? ", CBLAS" : "");
    return CADFT_OK;
}

static void cpu_close(cadft_device *device)
{
    device->host->free(device->host->user, device, sizeof *device, 64);
}

static int32_t cpu_open(const cadft_backend_host *host,
                        const char *options,
                        cadft_device **out,
                        cadft_error *error)
{
    cadft_device *device;
    int32_t status;
    *out = NULL;
    device = (cadft_device *)host->alloc(host->user, sizeof *device, 64);
    if (!device)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a device");
    memset(device, 0, sizeof *device);
    device->host = host;
    status = read_options(device, options, error);
    if (status)
        cpu_close(device);
    else
        *out = device;
    return status;
}

static const char *cpu_describe(cadft_device *device)
{
    return device->description;
}

static int32_t cpu_supports(cadft_device *device,
                            int32_t op,
                            int32_t in_dtype,
                            int32_t out_dtype)
{
    int loss = cadft__cpu_kernel_dtype(in_dtype) >= 0;
    int weight = in_dtype == CADFT_DTYPE_F32 || in_dtype == CADFT_DTYPE_BF16;
    int f32_out = out_dtype == CADFT_DTYPE_F32;
    (void)device;
    switch (op) {
    case CADFT_OP_LOSS_ROW_STATS:
        return loss;
    case CADFT_OP_LOSS_ROW_GRAD:
    case CADFT_OP_LOSS_ROW_UNIT:
        return loss && (out_dtype == in_dtype || f32_out);
    case CADFT_OP_ROWS_GATHER:
    case CADFT_OP_NORM:
    case CADFT_OP_NORM_GRAD:
    case CADFT_OP_ADD_NORM:
    case CADFT_OP_MATMUL:
    case CADFT_OP_SUM_SQUARES:
    case CADFT_OP_ADAMW:
    case CADFT_OP_SGD:
        return weight && f32_out;
    case CADFT_OP_ROWS_PUT:
    case CADFT_OP_ROWS_ADD:
    case CADFT_OP_ROPE:
    case CADFT_OP_ATTENTION:
    case CADFT_OP_ATTENTION_GRAD:
    case CADFT_OP_SWIGLU:
    case CADFT_OP_SWIGLU_GRAD:
    case CADFT_OP_ADD:
    case CADFT_OP_COLUMN_SUM:
        return in_dtype == CADFT_DTYPE_F32 && f32_out;
    default:
        return 0;
    }
}

static uint64_t
cpu_work_bytes(cadft_device *device, int32_t op, const void *args)
{
    const cadft_attention_args *attention = (const cadft_attention_args *)args;
    switch (op) {
    case CADFT_OP_ATTENTION:
        return cadft__cpu_attention_work_bytes(device, attention, 0);
    case CADFT_OP_ATTENTION_GRAD:
        return cadft__cpu_attention_work_bytes(device, attention, 1);
    case CADFT_OP_MATMUL:
        return cadft__cpu_matmul_work_bytes(device,
                                            (const cadft_matmul_args *)args);
    case CADFT_OP_NORM_GRAD:
        return cadft__cpu_norm_grad_work((const cadft_norm_args *)args);
    case CADFT_OP_COLUMN_SUM:
        return cadft__cpu_column_sum_work((const cadft_add_args *)args);
    case CADFT_OP_SUM_SQUARES:
        return cadft__cpu_sum_squares_work(
            (const cadft_sum_squares_args *)args);
    default:
        return 0;
    }
}

static int32_t cpu_mem_alloc(cadft_device *device,
                             uint64_t bytes,
                             void **out,
                             cadft_error *error)
{
    *out = bytes <= SIZE_MAX
               ? device->host->alloc(device->host->user, (size_t)bytes, 64)
               : NULL;
    return *out ? CADFT_OK
                : cadft__fail(error, CADFT_E_NOMEM,
                              "the allocator has no %llu bytes",
                              (unsigned long long)bytes);
}

static void cpu_mem_free(cadft_device *device, void *base, uint64_t bytes)
{
    device->host->free(device->host->user, base, (size_t)bytes, 64);
}

static int32_t cpu_copy_in(cadft_device *device,
                           void *stream,
                           const cadft_array *to,
                           const void *from,
                           uint64_t bytes,
                           cadft_error *error)
{
    (void)device;
    (void)stream;
    (void)error;
    if (bytes)
        memcpy(cadft__cpu_address(to), from, (size_t)bytes);
    return CADFT_OK;
}

static int32_t cpu_copy_out(cadft_device *device,
                            void *stream,
                            void *to,
                            const cadft_array *from,
                            uint64_t bytes,
                            cadft_error *error)
{
    (void)device;
    (void)stream;
    (void)error;
    if (bytes)
        memcpy(to, cadft__cpu_address(from), (size_t)bytes);
    return CADFT_OK;
}

static int32_t cpu_sync(cadft_device *device, void *stream, cadft_error *error)
{
    (void)device;
    (void)stream;
    (void)error;
    return CADFT_OK;
}

extern const cadft_backend cadft__cpu_backend; /* declared by the core */
const cadft_backend cadft__cpu_backend = {
    .struct_size = sizeof cadft__cpu_backend,
    .major = CADFT_BACKEND_MAJOR,
    .minor_built = CADFT_BACKEND_MINOR,
    .minor_required = 0,
    .name = "cpu",
    .device_type = CADFT_DEVICE_CPU,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .supports = cpu_supports,
    .mem_alloc = cpu_mem_alloc,
    .mem_free = cpu_mem_free,
    .copy_in = cpu_copy_in,
    .copy_out = cpu_copy_out,
    .sync = cpu_sync,
    .loss_row_stats = cadft__cpu_loss_row_stats,
    .loss_row_grad = cadft__cpu_loss_row_grad,
    .loss_row_unit = cadft__cpu_loss_row_unit,
    .work_bytes = cpu_work_bytes,
    .matmul = cadft__cpu_matmul,
    .attention = cadft__cpu_attention,
    .attention_grad = cadft__cpu_attention_grad,
    .mem_zero = cadft__cpu_mem_zero,
    .rows_gather = cadft__cpu_rows_gather,
    .rows_put = cadft__cpu_rows_put,
    .rows_add = cadft__cpu_rows_add,
    .norm = cadft__cpu_norm,
    .norm_grad = cadft__cpu_norm_grad,
    .rope = cadft__cpu_rope,
    .swiglu = cadft__cpu_swiglu,
    .swiglu_grad = cadft__cpu_swiglu_grad,
    .add = cadft__cpu_add,
    .column_sum = cadft__cpu_column_sum,
    .add_norm = cadft__cpu_add_norm,
    .sum_squares = cadft__cpu_sum_squares,
    .adamw = cadft__cpu_adamw,
    .sgd = cadft__cpu_sgd,
};
