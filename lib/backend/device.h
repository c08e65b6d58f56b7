/* SPDX-License-Identifier: Apache-2.0 */
/* The device's slots as the nouns call them: a status that may be returned
 * to the host, and a sentence with every failure. See backend.h. */
#ifndef CADFT_BACKEND_DEVICE_H
#define CADFT_BACKEND_DEVICE_H

#include "backend/context.h"

int32_t cadft__device_alloc(cadft_context *context,
                            uint64_t bytes,
                            void **out,
                            cadft_error *error);

int32_t
cadft__device_sync(cadft_context *context, void *stream, cadft_error *error);

/* Waits for the work on `stream` that may still use the block. */
void cadft__device_free(cadft_context *context,
                        void *stream,
                        void *base,
                        uint64_t bytes);

int32_t cadft__device_in(cadft_context *context,
                         void *stream,
                         cadft_array to,
                         const void *from,
                         uint64_t bytes,
                         cadft_error *error);
int32_t cadft__device_out(cadft_context *context,
                          void *stream,
                          void *to,
                          cadft_array from,
                          uint64_t bytes,
                          cadft_error *error);

int32_t cadft__device_row_stats(cadft_context *context,
                                void *stream,
                                const cadft_loss_rows *rows,
                                uint32_t want,
                                cadft_array stats,
                                cadft_error *error);
int32_t cadft__device_row_grad(cadft_context *context,
                               void *stream,
                               const cadft_loss_rows *rows,
                               cadft_array coef,
                               const cadft_loss_grad_out *out,
                               cadft_error *error);

/* Has the device the optional one-sweep slot for these data types? */
int cadft__device_has_unit(cadft_context *context,
                           int32_t in_dtype,
                           int32_t out_dtype);
int32_t cadft__device_row_unit(cadft_context *context,
                               void *stream,
                               const cadft_loss_rows *rows,
                               uint32_t want,
                               double smoothing,
                               cadft_array stats,
                               const cadft_loss_grad_out *out,
                               cadft_error *error);

#endif
