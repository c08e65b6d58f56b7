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
 *
 * A backend of contract 0.1, or one that leaves the model's slots NULL, serves
 * the loss; a model on it is refused. Since contract 0.2 for everything that
 * says so. One of contract 0.2, or that leaves the optimizer's slots NULL,
 * serves loss and model; an optimizer on it is refused. Since contract 0.3.
 */
#ifndef CADFT_BACKEND_H
#define CADFT_BACKEND_H

#include "cadft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this contract, independent of the library's. */
#define CADFT_BACKEND_MAJOR 0
#define CADFT_BACKEND_MINOR 3

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

/** Operations for `supports`. For the model's, in_dtype is the data type of
 *  the weights they read (CADFT_DTYPE_F32 where there are none) and out_dtype
 *  is CADFT_DTYPE_F32. For the optimizer's, in_dtype is that of the parameter
 *  (sum_squares: of x), whatever that of the gradient, and out_dtype is
 *  CADFT_DTYPE_F32. */
enum {
    CADFT_OP_LOSS_ROW_STATS = 1,
    CADFT_OP_LOSS_ROW_GRAD = 2,
    CADFT_OP_LOSS_ROW_UNIT = 3,
    CADFT_OP_ROWS_GATHER = 4, /**< from here on since contract 0.2 */
    CADFT_OP_ROWS_PUT = 5,
    CADFT_OP_ROWS_ADD = 6,
    CADFT_OP_NORM = 7,
    CADFT_OP_NORM_GRAD = 8,
    CADFT_OP_MATMUL = 9,
    CADFT_OP_ROPE = 10,
    CADFT_OP_ATTENTION = 11,
    CADFT_OP_ATTENTION_GRAD = 12,
    CADFT_OP_SWIGLU = 13,
    CADFT_OP_SWIGLU_GRAD = 14,
    CADFT_OP_ADD = 15,
    CADFT_OP_COLUMN_SUM = 16,
    CADFT_OP_ADD_NORM = 17,
    CADFT_OP_SUM_SQUARES = 18, /**< from here on since contract 0.3 */
    CADFT_OP_ADAMW = 19,
    CADFT_OP_SGD = 20
};

/* ------------------------------------------------- operations of a model */

/* Activations and gradients are float32; parameters float32 or bfloat16, as
 * the `..._dtype` field says. Rows are tokens: [rows, ...] with `..._stride`
 * elements from row to row; what lies inside a row is dense. Every operation
 * takes zero rows. Arrays do not overlap unless it says so. All sums are
 * taken in float32 or better, and the result for a row (of a matrix product:
 * for an element) does not depend on the other rows, their number, or the
 * number of workers. Since contract 0.2. */

/** Rows of a table by index: token embedding, rows that need logits, the KV
 *  cache.
 *      rows_gather:  x[r] = table[index[r]]
 *      rows_put:     table[index[r]] = x[r]     indices differ
 *      rows_add:     table[index[r]] += x[r]    in the order of r */
typedef struct cadft_rows_args {
    uint32_t struct_size;
    int32_t table_dtype; /**< float32; for rows_gather bfloat16 as well */
    cadft_array table;   /**< [table_rows, cols] */
    cadft_array index;   /**< int32 [rows], each in [0, table_rows) */
    cadft_array x;       /**< float32 [rows, cols] */
    int64_t table_rows;
    int64_t table_stride;
    int64_t rows;
    int64_t cols;
    int64_t x_stride;
} cadft_rows_args;

/** RMSNorm of each of `groups` vectors of `cols` elements in a row.
 *      inv = 1 / sqrt(mean(x^2) + eps)        float32 [rows, groups]
 *      norm:       y = x * inv * weight, writes inv
 *      add_norm:   x = x + residual first, written back to x
 *      norm_grad:  with g = grad_y * weight, from the saved x and inv
 *                  grad_x += inv * g - x * inv^3 * mean(g * x)
 *                  grad_weight += sum of grad_y * x * inv over rows, groups
 *                  y as above, if there is a y
 *  norm may write y over x. */
typedef struct cadft_norm_args {
    uint32_t struct_size;
    int32_t weight_dtype;
    cadft_array x;           /**< [rows, groups, cols] */
    cadft_array residual;    /**< add_norm: as x, its stride x_stride */
    cadft_array y;           /**< as x; norm_grad: may be absent */
    cadft_array weight;      /**< [cols] */
    cadft_array inv;         /**< [rows, groups]; norm: may be absent */
    cadft_array grad_y;      /**< norm_grad: as y, its stride y_stride */
    cadft_array grad_x;      /**< norm_grad: as x, stride grad_x_stride */
    cadft_array grad_weight; /**< norm_grad: float32 [cols] or absent */
    cadft_array work;        /**< norm_grad: scratch, see work_bytes */
    int64_t rows;
    int64_t groups;
    int64_t cols;
    int64_t x_stride;
    int64_t y_stride;
    int64_t grad_x_stride;
    double eps;
} cadft_norm_args;

/** c[m, n] = (accumulate ? c : 0) + bias[n] + sum over k of A[m, k] B[k, n].
 *  a is A [m, k], or its transpose [k, m]; b is B [k, n], or its transpose
 *  [n, k], which is how linear layers keep their weights. The strides are
 *  those of a, b and c as they lie in memory. */
typedef struct cadft_matmul_args {
    uint32_t struct_size;
    int32_t a_transposed; /**< 0 or 1 */
    int32_t b_transposed; /**< 0 or 1 */
    int32_t b_dtype;      /**< float32 or bfloat16 */
    int32_t bias_dtype;   /**< float32 or bfloat16 */
    int32_t accumulate;   /**< 0 or 1 */
    cadft_array a;        /**< float32 */
    cadft_array b;
    cadft_array c;    /**< float32 */
    cadft_array bias; /**< [n] or absent */
    cadft_array work; /**< scratch, see work_bytes */
    int64_t m;
    int64_t n;
    int64_t k;
    int64_t a_stride;
    int64_t b_stride;
    int64_t c_stride;
} cadft_matmul_args;

/** Rotary position embedding, in place, of each of `groups` heads in a row:
 *  with h = head_dim / 2 and i in [0, h)
 *      x[i], x[i+h] = x[i] cos - x[i+h] sin, x[i+h] cos + x[i] sin
 *  where cos = table[position, i] and sin = table[position, h + i]. inverse
 *  turns the other way, which is also the gradient. */
typedef struct cadft_rope_args {
    uint32_t struct_size;
    int32_t inverse;     /**< 0 or 1 */
    cadft_array x;       /**< float32 [rows, groups, head_dim] */
    cadft_array table;   /**< float32 [positions, head_dim] */
    cadft_array indices; /**< int32 [rows], each in [0, positions) */
    int64_t rows;
    int64_t groups;
    int64_t head_dim; /**< even */
    int64_t x_stride;
} cadft_rope_args;

/** Causal attention inside sequences. Sequence s has the query rows
 *  [q_first[s], q_first[s + 1]) and the k_count[s] key rows from k_first[s]
 *  on; its last query stands at its last key. A query at position p sees the
 *  keys of its own sequence at positions (p - window, p]. Query head h reads
 *  key head h / (heads / kv_heads).
 *      attention:       out = softmax(scale q k^T) v, and lse of each row and
 *                       head if it is there
 *      attention_grad:  from q, k, v, out, lse and grad_out: grad_q, grad_k,
 *                       grad_v, written for the rows of the sequences
 *  The three int64 arrays lie in host memory and are read during the call, by
 *  work_bytes as well: they are sizes. */
typedef struct cadft_attention_args {
    uint32_t struct_size;
    int32_t reserved;       /**< 0 */
    cadft_array q;          /**< float32 [rows, heads, head_dim] */
    cadft_array k;          /**< float32 [key rows, kv_heads, head_dim] */
    cadft_array v;          /**< as k */
    cadft_array out;        /**< [rows, heads, head_dim] */
    cadft_array lse;        /**< float32 [rows, heads]: logsumexp(scale qk) */
    cadft_array grad_out;   /**< as out, its stride out_stride */
    cadft_array grad_q;     /**< as q, its stride q_stride */
    cadft_array grad_k;     /**< as k, its stride k_stride */
    cadft_array grad_v;     /**< as v, its stride v_stride */
    cadft_array work;       /**< scratch, see work_bytes */
    const int64_t *q_first; /**< [sequences + 1], from 0 upwards */
    const int64_t *k_first; /**< [sequences] */
    const int64_t *k_count; /**< [sequences], at least the queries */
    int64_t sequences;
    int64_t heads;
    int64_t kv_heads;
    int64_t head_dim;
    int64_t q_stride;
    int64_t k_stride;
    int64_t v_stride;
    int64_t out_stride;
    int64_t window; /**< keys that a query sees; 0: all before it */
    double scale;
} cadft_attention_args;

/** silu(gate) * up, silu(x) = x / (1 + exp(-x)).
 *      swiglu:       out
 *      swiglu_grad:  grad_gate and grad_up, which may be gate and up
 *                    themselves, from grad_out; and out if it is there,
 *                    which may be grad_out */
typedef struct cadft_swiglu_args {
    uint32_t struct_size;
    int32_t reserved;      /**< 0 */
    cadft_array gate;      /**< float32 [rows, cols] */
    cadft_array up;        /**< as gate, same stride */
    cadft_array out;       /**< [rows, cols] */
    cadft_array grad_out;  /**< as out, same stride */
    cadft_array grad_gate; /**< as gate, same stride */
    cadft_array grad_up;   /**< as gate, same stride */
    int64_t rows;
    int64_t cols;
    int64_t in_stride;
    int64_t out_stride;
} cadft_swiglu_args;

/** Two arrays of rows.
 *      add:         y += x
 *      column_sum:  y[0, n] += sum of x[r, n] over the rows r */
typedef struct cadft_add_args {
    uint32_t struct_size;
    int32_t reserved; /**< 0 */
    cadft_array x;    /**< float32 [rows, cols] */
    cadft_array y;    /**< float32 [rows, cols]; column_sum: [cols] */
    cadft_array work; /**< column_sum: scratch, see work_bytes */
    int64_t rows;
    int64_t cols;
    int64_t x_stride;
    int64_t y_stride;
} cadft_add_args;

/* -------------------------------------------- operations of an optimizer */

/* Arrays are dense and do not overlap; n may be 0. The result for an element
 * does not depend on n or on the other elements, the sum of squares not on
 * the number of workers. Since contract 0.3. */

/** out = sum of x[i]^2, taken in float64 in an order that depends on n alone;
 *  NaN or infinite exactly when an element of x is. */
typedef struct cadft_sum_squares_args {
    uint32_t struct_size;
    int32_t dtype;    /**< float32 or bfloat16 */
    cadft_array x;    /**< [n] */
    cadft_array out;  /**< float64 [1] */
    cadft_array work; /**< scratch, see work_bytes */
    int64_t n;
} cadft_sum_squares_args;

/** One step of one parameter, in one pass over memory. With
 *  g = grad_scale * grad, and w = master if it is there, else value:
 *      adamw:  w *= 1 - lr * weight_decay
 *              m += (1 - beta1) * (g - m)
 *              v = beta2 * v + (1 - beta2) * g * g
 *              w -= lr / correction1 * m
 *                   / (sqrt(v) / sqrt(correction2) + eps)
 *      sgd:    g += weight_decay * w
 *              m = momentum * m + g
 *              w -= lr * (nesterov ? g + momentum * m : m)
 *              no m: w -= lr * g
 *  and value = w rounded to its data type, nearest even. m and v start at 0.
 *  All in float32 or better; a backend may round to float32 the scalars and
 *  what comes of scalars alone. Where g * g overflows, v is infinite, not NaN,
 *  from there on, and only decay moves the element. An infinite w (a masked
 *  bias) stays as it is while its gradient is 0. */
typedef struct cadft_update_args {
    uint32_t struct_size;
    int32_t value_dtype; /**< float32 or bfloat16 */
    int32_t grad_dtype;  /**< float32 or bfloat16 */
    int32_t nesterov;    /**< sgd: 0 or 1 */
    cadft_array value;   /**< [n] */
    cadft_array master;  /**< float32 [n], or absent */
    cadft_array grad;    /**< [n], only read */
    cadft_array m;       /**< float32 [n]; sgd: the momentum, or absent */
    cadft_array v;       /**< adamw: float32 [n] */
    int64_t n;
    double grad_scale;
    double lr;
    double weight_decay;
    double beta1;       /**< sgd: the momentum */
    double beta2;       /**< adamw */
    double eps;         /**< adamw */
    double correction1; /**< adamw: 1 - beta1^t in step t, from 1 */
    double correction2; /**< adamw: 1 - beta2^t */
} cadft_update_args;

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

    /* Since contract 0.2. A model needs all of these but the optional. */

    /** Optional: bytes of scratch (`work`) that an operation, CADFT_OP_...,
     *  wants for these arguments, of which only sizes, data types and flags
     *  are set. Never less for more rows, a longer sequence, more of them, or
     *  (sum_squares) more elements.
     *  NULL: none is wanted. */
    uint64_t (*work_bytes)(cadft_device *device, int32_t op, const void *args);
    /** Set bytes to 0. */
    int32_t (*mem_zero)(cadft_device *device,
                        void *stream,
                        const cadft_array *to,
                        uint64_t bytes,
                        cadft_error *error);
    int32_t (*rows_gather)(cadft_device *device,
                           void *stream,
                           const cadft_rows_args *args,
                           cadft_error *error);
    int32_t (*rows_put)(cadft_device *device,
                        void *stream,
                        const cadft_rows_args *args,
                        cadft_error *error);
    int32_t (*rows_add)(cadft_device *device,
                        void *stream,
                        const cadft_rows_args *args,
                        cadft_error *error);
    int32_t (*norm)(cadft_device *device,
                    void *stream,
                    const cadft_norm_args *args,
                    cadft_error *error);
    int32_t (*norm_grad)(cadft_device *device,
                         void *stream,
                         const cadft_norm_args *args,
                         cadft_error *error);
    int32_t (*matmul)(cadft_device *device,
                      void *stream,
                      const cadft_matmul_args *args,
                      cadft_error *error);
    int32_t (*rope)(cadft_device *device,
                    void *stream,
                    const cadft_rope_args *args,
                    cadft_error *error);
    int32_t (*attention)(cadft_device *device,
                         void *stream,
                         const cadft_attention_args *args,
                         cadft_error *error);
    int32_t (*attention_grad)(cadft_device *device,
                              void *stream,
                              const cadft_attention_args *args,
                              cadft_error *error);
    int32_t (*swiglu)(cadft_device *device,
                      void *stream,
                      const cadft_swiglu_args *args,
                      cadft_error *error);
    int32_t (*swiglu_grad)(cadft_device *device,
                           void *stream,
                           const cadft_swiglu_args *args,
                           cadft_error *error);
    int32_t (*add)(cadft_device *device,
                   void *stream,
                   const cadft_add_args *args,
                   cadft_error *error);
    int32_t (*column_sum)(cadft_device *device,
                          void *stream,
                          const cadft_add_args *args,
                          cadft_error *error);
    /** Optional: residual and norm in one sweep. Without it the library calls
     *  add and norm. */
    int32_t (*add_norm)(cadft_device *device,
                        void *stream,
                        const cadft_norm_args *args,
                        cadft_error *error);

    /* Since contract 0.3. An optimizer needs all of these. */

    int32_t (*sum_squares)(cadft_device *device,
                           void *stream,
                           const cadft_sum_squares_args *args,
                           cadft_error *error);
    int32_t (*adamw)(cadft_device *device,
                     void *stream,
                     const cadft_update_args *args,
                     cadft_error *error);
    int32_t (*sgd)(cadft_device *device,
                   void *stream,
                   const cadft_update_args *args,
                   cadft_error *error);
} cadft_backend;

/** Signature of the exported function. */
typedef int32_t (*cadft_backend_query_fn)(const cadft_backend **out,
                                          cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
