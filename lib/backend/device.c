/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/device.h"

#include "backend/handle.h"
#include "common/error.h"
#include "common/tensor.h"

/* Does the table have this optional slot? */
#define HAS_SLOT(backend, slot)                                                \
    ((backend)->struct_size >= CADFT__SIZE_TO(cadft_backend, slot) &&          \
     (backend)->slot)

int32_t cadft__slot_status(int32_t status, const char *slot, cadft_error *error)
{
    if (status == CADFT_OK)
        return CADFT_OK;
    if (status > 0)
        status = CADFT_E_BACKEND;
    error->message[sizeof error->message - 1] = '\0';
    if (!error->message[0])
        cadft__fail(error, status, "the backend's %s failed without a word",
                    slot);
    error->code = status;
    return status;
}

int32_t cadft__device_alloc(cadft_context *context,
                            uint64_t bytes,
                            void **out,
                            cadft_error *error)
{
    int32_t status =
        context->backend->mem_alloc(context->device, bytes, out, error);
    if (status)
        *out = NULL;
    return cadft__slot_status(status, "mem_alloc", error);
}

int32_t
cadft__device_sync(cadft_context *context, void *stream, cadft_error *error)
{
    return cadft__slot_status(
        context->backend->sync(context->device, stream, error), "sync", error);
}

void cadft__device_free(cadft_context *context,
                        void *stream,
                        void *base,
                        uint64_t bytes)
{
    cadft_error ignored = {sizeof ignored, CADFT_OK, {0}};
    if (!base)
        return;
    cadft__device_sync(context, stream, &ignored);
    context->backend->mem_free(context->device, base, bytes);
}

int32_t cadft__device_in(cadft_context *context,
                         void *stream,
                         cadft_array to,
                         const void *from,
                         uint64_t bytes,
                         cadft_error *error)
{
    return cadft__slot_status(context->backend->copy_in(context->device, stream,
                                                        &to, from, bytes,
                                                        error),
                              "copy_in", error);
}

int32_t cadft__device_out(cadft_context *context,
                          void *stream,
                          void *to,
                          cadft_array from,
                          uint64_t bytes,
                          cadft_error *error)
{
    return cadft__slot_status(context->backend->copy_out(context->device,
                                                         stream, to, &from,
                                                         bytes, error),
                              "copy_out", error);
}

int32_t cadft__device_row_stats(cadft_context *context,
                                void *stream,
                                const cadft_loss_rows *rows,
                                uint32_t want,
                                cadft_array stats,
                                cadft_error *error)
{
    return cadft__slot_status(
        context->backend->loss_row_stats(context->device, stream, rows, want,
                                         &stats, error),
        "loss_row_stats", error);
}

int32_t cadft__device_row_grad(cadft_context *context,
                               void *stream,
                               const cadft_loss_rows *rows,
                               cadft_array coef,
                               const cadft_loss_grad_out *out,
                               cadft_error *error)
{
    return cadft__slot_status(
        context->backend->loss_row_grad(context->device, stream, rows, &coef,
                                        out, error),
        "loss_row_grad", error);
}

int cadft__device_has_unit(cadft_context *context,
                           int32_t in_dtype,
                           int32_t out_dtype)
{
    return HAS_SLOT(context->backend, loss_row_unit) &&
           context->backend->supports(context->device, CADFT_OP_LOSS_ROW_UNIT,
                                      in_dtype, out_dtype);
}

int32_t cadft__device_row_unit(cadft_context *context,
                               void *stream,
                               const cadft_loss_rows *rows,
                               uint32_t want,
                               double smoothing,
                               cadft_array stats,
                               const cadft_loss_grad_out *out,
                               cadft_error *error)
{
    return cadft__slot_status(
        context->backend->loss_row_unit(context->device, stream, rows, want,
                                        smoothing, &stats, out, error),
        "loss_row_unit", error);
}

/* ------------------------------------------- copies on behalf of the host */

/* Row by row, so that strided views need no buffer. */
static int32_t copy_rows(cadft_context *context,
                         const cadft__matrix *m,
                         void *read,
                         const void *write,
                         cadft_error *error)
{
    size_t size = cadft__dtype_size(m->dtype), row = (size_t)m->cols * size;
    int64_t rows = m->rows;
    int32_t status = CADFT_OK;
    if (m->row_stride == m->cols || rows <= 1) {
        row *= (size_t)rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows && row && !status; r++) {
        uint64_t at = (uint64_t)r * (uint64_t)m->row_stride * size;
        cadft_array device = {m->base, m->offset + at};
        size_t host = (size_t)r * row;
        if (read)
            status = cadft__device_out(context, NULL, (char *)read + host,
                                       device, row, error);
        else
            status = cadft__device_in(context, NULL, device,
                                      (const char *)write + host, row, error);
    }
    return status;
}

static int32_t copy_tensor(cadft_context *context,
                           int reading,
                           const cadft_tensor *tensor,
                           void *read,
                           const void *write,
                           size_t bytes,
                           cadft_error *error)
{
    const char *name = reading ? "from" : "to";
    cadft_tensor t;
    cadft__matrix m;
    uint64_t expected;
    int32_t status;
    if (!context)
        return cadft__fail(error, CADFT_E_NULL, "context is NULL");
    status = cadft__struct_in(&t, sizeof t, tensor,
                              CADFT__SIZE_TO(cadft_tensor, byte_offset), name,
                              error);
    t.struct_size = sizeof t;
    if (!status)
        status = cadft__tensor_matrix(&t, t.ndim > 1, name, &m, error);
    if (status)
        return status;
    expected = (uint64_t)m.rows * (uint64_t)m.cols * cadft__dtype_size(m.dtype);
    if (bytes != expected)
        return cadft__fail(error, CADFT_E_SPACE,
                           "bytes is %zu, expected %llu for this tensor", bytes,
                           (unsigned long long)expected);
    if (bytes && !read && !write)
        return cadft__fail(error, CADFT_E_NULL,
                           "%s, the host's memory, is NULL",
                           reading ? "to" : "from");
    if (m.device_type != context->backend->device_type)
        return cadft__fail(error, CADFT_E_DEVICE,
                           "%s.device_type is %d, expected %d, which backend "
                           "%s computes on",
                           name, m.device_type, context->backend->device_type,
                           context->backend->name);
    status = copy_rows(context, &m, read, write, error);
    return status || read ? status : cadft__device_sync(context, NULL, error);
}

int32_t cadft_context_read(cadft_context *context,
                           const cadft_tensor *from,
                           void *to,
                           size_t bytes,
                           cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__call_enter(error, &call);
    if (!status)
        status = copy_tensor(context, 1, from, to, NULL, bytes, &call.error);
    return cadft__call_leave(context, error, &call, status);
}

int32_t cadft_context_write(cadft_context *context,
                            const cadft_tensor *to,
                            const void *from,
                            size_t bytes,
                            cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__call_enter(error, &call);
    if (!status)
        status = copy_tensor(context, 0, to, NULL, from, bytes, &call.error);
    return cadft__call_leave(context, error, &call, status);
}
