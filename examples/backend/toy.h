/* SPDX-License-Identifier: Apache-2.0 */
/* A backend for a device that does not exist. device.c is the device: memory
 * that the host cannot reach, streams that may run late. backend.c is the
 * table of slots. The other files compute, one topic each, in plain loops. */
#ifndef TOY_H
#define TOY_H

#include "cadft/backend.h"

enum { TOY_STREAMS = 4 };

/* DLPack's number for devices that have none of their own. */
enum { TOY_DEVICE_TYPE = 12 };

struct cadft_device {
    const cadft_backend_host *host;
    int late; /* work waits until somebody waits for it */
};

/* The table that the plug-in gives to the library. */
extern const cadft_backend toy_backend;

/* Write a sentence about a failure and return `status`. */
int32_t toy_fail(cadft_error *error, int32_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---------------------------------------------------------------- memory */

/* A handle, or NULL when memory or handles have run out. */
void *toy_alloc(uint64_t bytes);
/* UINT64_MAX: as many bytes as were allocated. */
void toy_free(void *base, uint64_t bytes);

/* The address of [rows, cols] elements, `stride` apart from row to row; the
 * only way from an array to an address. NULL with a sentence in `error` if
 * they are not all inside one allocation. */
void *toy_rows(const cadft_array *array,
               int64_t rows,
               int64_t cols,
               int64_t stride,
               int32_t dtype,
               cadft_error *error);
/* The same for bytes. */
void *toy_bytes(const cadft_array *array, uint64_t bytes, cadft_error *error);

/* --------------------------------------------------------------- streams */

/* Arguments of loss_row_stats and loss_row_grad. */
typedef struct toy_loss_args {
    uint32_t struct_size;
    uint32_t want;
    cadft_loss_rows rows;
    cadft_loss_grad_out out;
    cadft_array stats, coef;
    double smoothing; /* for who adds loss_row_unit */
} toy_loss_args;

/* Arguments of copy_in and mem_zero. */
typedef struct toy_copy_args {
    uint32_t struct_size;
    cadft_array to;
    const void *from; /* host memory; NULL for zeros */
    uint64_t bytes;
} toy_copy_args;

/* One operation, with addresses for handles: `args` is one of the contract's
 * structs or of those above. A failure goes to `error`. */
typedef void toy_kernel(const void *args, cadft_error *error);

/* The native handle of a stream: 0 is the default, NULL. */
void *toy_stream(int32_t index);

/* Run after what is on the stream, at once or, with `late`, when somebody
 * waits for the stream. `args` are copied; `owned`, which they may point to,
 * is freed afterwards. */
int32_t toy_enqueue(void *stream,
                    int late,
                    toy_kernel *run,
                    const void *args,
                    size_t size,
                    void *owned,
                    cadft_error *error);

/* Run what is on the stream. Fails with what failed there since the last
 * wait. */
int32_t toy_wait(void *stream, cadft_error *error);

/* Wait, and copy to the host. */
int32_t toy_read(void *stream,
                 void *to,
                 const cadft_array *from,
                 uint64_t bytes,
                 cadft_error *error);

/* For tests of a host: allocations that are not freed; how often the device
 * was misused, and the last time in words; back to the beginning. */
int64_t toy_live(void);
int64_t toy_faults(const char **last);
void toy_reset(void);

/* --------------------------------------------------------------- kernels */

/* device.c */
toy_kernel toy_copy;

/* loss.c */
toy_kernel toy_loss_stats, toy_loss_grad;
void toy_row_stats(const cadft_loss_rows *rows,
                   const void *z,
                   int32_t label,
                   uint32_t want,
                   double *stats);
/* `coef` NULL: zeros. */
void toy_row_grad(const cadft_loss_rows *rows,
                  const void *z,
                  int32_t label,
                  const double *coef,
                  const cadft_loss_grad_out *out,
                  void *grad);

/* linear.c */
toy_kernel toy_rows_gather, toy_rows_put, toy_rows_add;
toy_kernel toy_matmul, toy_add, toy_column_sum;

/* pointwise.c */
toy_kernel toy_norm, toy_norm_grad, toy_rope, toy_swiglu, toy_swiglu_grad;

/* attention.c */
toy_kernel toy_attention, toy_attention_grad;

/* update.c */
toy_kernel toy_sum_squares, toy_adamw, toy_sgd;

#endif
