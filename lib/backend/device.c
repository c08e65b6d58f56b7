/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/device.h"

#include "common/error.h"

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
