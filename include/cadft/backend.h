/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file backend.h
 * The contract between libcadft and what computes for it. The built-in "cpu"
 * backend and a plug-in in a shared object fill the same table; the library
 * reaches arithmetic only through it.
 *
 * A plug-in exports one function, named with the contract's major version:
 *
 *     int32_t cadft_backend_query_v0(const cadft_backend **out,
 *                                    cadft_error *error)
 *     {
 *         *out = &my_backend;
 *         return CADFT_OK;
 *     }
 *
 * and is loaded by path: cadft_context_desc.backend = "/path/to/plugin.so".
 * It is opened with RTLD_NOW | RTLD_LOCAL and never unloaded (a file without
 * the function is closed again).
 *
 * Both tables start with their size and versions. The other side's table is
 * accepted when the major versions are equal and what it requires is not
 * above what we were built with. A slot is called only when it lies inside
 * the table's struct_size and is not NULL. Slots are only ever appended;
 * they never move, change or go.
 *
 * Memory. The backend's memory is reached through handles: an array is a
 * base handle plus a byte offset, and only the backend may turn the two into
 * an address. The host reaches it through copy_in and copy_out. Tensors of
 * the caller that lie on the backend's device_type arrive as base handle
 * (DLTensor.data) and byte offset as well. Host memory may be passed as such
 * only to a backend whose device_type is CADFT_DEVICE_CPU.
 *
 * Streams. `stream` is the native handle of the device, NULL its default.
 * Slots enqueue on it and need not wait; copy_out waits until its data is in
 * the host's memory; copy_in until the source may be reused. Work enqueued on
 * one stream runs in order.
 *
 * Threads. Slots of one device may be called from several threads at once.
 *
 * Errors. A slot returns a status and, through `error` (never NULL), a
 * sentence. It must not abort, print, throw or change the floating-point
 * environment. Since contract 0.1.
 */
#ifndef CADFT_BACKEND_H
#define CADFT_BACKEND_H

#include "cadft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this contract, independent of the library's. */
#define CADFT_BACKEND_MAJOR 0
#define CADFT_BACKEND_MINOR 1

/** Name of the one function that a plug-in exports. */
#define CADFT_BACKEND_QUERY "cadft_backend_query_v0"

/** What the library gives to a device; valid until the device is closed. */
typedef struct cadft_backend_host {
    uint32_t struct_size;
    uint32_t major;          /**< CADFT_BACKEND_MAJOR of the library */
    uint32_t minor_built;    /**< contract minor the library was built with */
    uint32_t minor_required; /**< least minor the backend must have */
    void *user;              /**< first argument of the functions below */
    int32_t max_workers;     /**< workers of parallel_for, at least 1 */
    int32_t reserved;
    /** Host memory through the context's allocator; NULL on failure. */
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *memory, size_t size, size_t align);
    /** Run fn(task, i, worker) for every i in [0, n); CADFT_OK or
     *  CADFT_E_THREADS. Not to be called from inside a task. */
    int32_t (*parallel_for)(void *user,
                            int64_t n,
                            cadft_task_fn fn,
                            void *task);
    /** Write a line to the context's log. */
    void (*log)(void *user, int32_t level, const char *text);
} cadft_backend_host;

/** A device that was opened; the backend's own. */
typedef struct cadft_device cadft_device;

/** An array in the backend's memory, or NULL base: absent. */
typedef struct cadft_array {
    void *base;
    uint64_t offset; /**< bytes */
} cadft_array;

/** Labels of rows as the slots see them: a column of these logits, or: */
enum {
    CADFT_ROW_NO_LABEL = -1, /**< the label lies in another shard's columns */
    CADFT_ROW_SKIP = -2      /**< do not read the row; its gradient is 0 */
};

/** Fields of a row's statistics: float64 [rows, CADFT_STAT_STRIDE]. z is the
 *  logit after the soft-cap; a raw -inf is a masked column and stays -inf.
 *  A row is written whole, 0 where a field is not asked for or not known;
 *  nothing is written at rows marked CADFT_ROW_SKIP. */
enum {
    /** Largest z; -inf if every column is masked; NaN if any raw logit is NaN
     *  or +inf (then the other fields are unspecified). */
    CADFT_STAT_Z_MAX = 0,
    /** Sum of exp(z - z_max) over all columns but one that attains z_max. To
     *  1e-6 relative however small it is. */
    CADFT_STAT_SUM_REST = 1,
    /** z at the label; unspecified without one. */
    CADFT_STAT_Z_LABEL = 2,
    /** With CADFT_WANT_ENTROPY: sum of exp(z - z_max) * (z_max - z) over the
     *  unmasked columns. */
    CADFT_STAT_SUM_T = 3,
    /** With CADFT_WANT_SUM: sum of z over the unmasked columns. */
    CADFT_STAT_SUM_Z = 4,
    /** With CADFT_WANT_SUM: number of unmasked columns. */
    CADFT_STAT_UNMASKED = 5,
    /** The sums are of exp(RATE * (z - z_max)) with a RATE within 1e-7 of 1,
     *  for kernels whose exponential has a rounded base. It makes sums over
     *  shards add up to the uncut row's. 0 means 1. */
    CADFT_STAT_RATE = 6,
    /** The term of the largest z as the backend's exponential gives it, over
     *  its true value: 1 to within 1e-6. For the same reason. 0 means 1. */
    CADFT_STAT_PEAK = 7,
    CADFT_STAT_STRIDE = 8
};

enum { CADFT_WANT_ENTROPY = 1, CADFT_WANT_SUM = 2 };

/** Coefficients of a row's gradient: float64 [rows, CADFT_COEF_STRIDE].
 *      g_v = A * exp(z_v - LSE) - C      unmasked columns but the label
 *      g_v = 0                           masked columns
 *      g_label = LABEL
 *  each times the soft-cap's slope 1 - (z_v / cap)^2. */
enum {
    CADFT_COEF_LSE = 0, /**< logsumexp of the whole row */
    CADFT_COEF_A = 1,
    CADFT_COEF_C = 2,
    CADFT_COEF_LABEL = 3,
    CADFT_COEF_STRIDE = 4
};

/** The logits of a call. */
typedef struct cadft_loss_rows {
    uint32_t struct_size;
    int32_t dtype;      /**< CADFT_DTYPE_F32, _BF16 or _F16 */
    cadft_array logits; /**< [rows, row_stride] */
    int64_t rows;
    int64_t cols;       /**< columns that are read */
    int64_t row_stride; /**< elements from row to row, >= cols */
    double softcap;     /**< 0: none */
    cadft_array labels; /**< int32 [rows], or CADFT_ROW_... */
} cadft_loss_rows;

/** Where a gradient goes. */
typedef struct cadft_loss_grad_out {
    uint32_t struct_size;
    int32_t dtype;      /**< the logits' dtype or CADFT_DTYPE_F32 */
    cadft_array grad;   /**< [rows, row_stride]; may be the logits */
    int64_t cols;       /**< columns written: zeros from rows->cols on */
    int64_t row_stride; /**< elements from row to row, >= cols */
} cadft_loss_grad_out;

/** Operations for `supports`. */
enum {
    CADFT_OP_LOSS_ROW_STATS = 1,
    CADFT_OP_LOSS_ROW_GRAD = 2,
    CADFT_OP_LOSS_ROW_UNIT = 3
};

/** The backend's table. Required slots unless marked optional. */
typedef struct cadft_backend {
    uint32_t struct_size;
    uint32_t major;          /**< CADFT_BACKEND_MAJOR it was built with */
    uint32_t minor_built;    /**< CADFT_BACKEND_MINOR it was built with */
    uint32_t minor_required; /**< least minor the library must have */
    const char *name;        /**< "cpu", "cuda", ...; static storage */
    int32_t device_type;     /**< DLPack type of the memory it computes on */
    int32_t reserved;        /**< 0 */

    /** Open the device that `options` (may be NULL) asks for. */
    int32_t (*open)(const cadft_backend_host *host,
                    const char *options,
                    cadft_device **out,
                    cadft_error *error);
    /** Close it; every buffer was freed before. */
    void (*close)(cadft_device *device);
    /** What it runs on, "avx2"; lives as long as the device. */
    const char *(*describe)(cadft_device *device);
    /** 1 if the operation takes these data types, else 0. */
    int32_t (*supports)(cadft_device *device,
                        int32_t op,
                        int32_t in_dtype,
                        int32_t out_dtype);

    /** Memory of the device, aligned to 64 bytes at offset 0. The library
     *  syncs the stream that used a block last before it frees it. */
    int32_t (*mem_alloc)(cadft_device *device,
                         uint64_t bytes,
                         void **out,
                         cadft_error *error);
    void (*mem_free)(cadft_device *device, void *base, uint64_t bytes);
    int32_t (*copy_in)(cadft_device *device,
                       void *stream,
                       const cadft_array *to,
                       const void *from,
                       uint64_t bytes,
                       cadft_error *error);
    int32_t (*copy_out)(cadft_device *device,
                        void *stream,
                        void *to,
                        const cadft_array *from,
                        uint64_t bytes,
                        cadft_error *error);
    /** Wait until everything enqueued on the stream is done. */
    int32_t (*sync)(cadft_device *device, void *stream, cadft_error *error);

    /** Statistics of rows; `want` is a set of CADFT_WANT_ bits; `stats` is
     *  float64 [rows, CADFT_STAT_STRIDE]. */
    int32_t (*loss_row_stats)(cadft_device *device,
                              void *stream,
                              const cadft_loss_rows *rows,
                              uint32_t want,
                              const cadft_array *stats,
                              cadft_error *error);
    /** Gradient of rows; `coef` is float64 [rows, CADFT_COEF_STRIDE]. */
    int32_t (*loss_row_grad)(cadft_device *device,
                             void *stream,
                             const cadft_loss_rows *rows,
                             const cadft_array *coef,
                             const cadft_loss_grad_out *out,
                             cadft_error *error);
    /** Optional: statistics and the unit gradient of rows in one sweep,
     *  softmax - (1 - smoothing) onehot - smoothing / unmasked columns. The
     *  gradient of a row with NaN or +inf or without unmasked column is 0.
     *  Without it the library calls loss_row_stats and loss_row_grad. */
    int32_t (*loss_row_unit)(cadft_device *device,
                             void *stream,
                             const cadft_loss_rows *rows,
                             uint32_t want,
                             double smoothing,
                             const cadft_array *stats,
                             const cadft_loss_grad_out *out,
                             cadft_error *error);
} cadft_backend;

/** Signature of the exported function. */
typedef int32_t (*cadft_backend_query_fn)(const cadft_backend **out,
                                          cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
