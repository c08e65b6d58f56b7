/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file base.h
 * What every part of libcadft shares: versions, status codes, data types,
 * tensor views, errors and the context.
 *
 *     cadft_context *ctx = NULL;
 *     cadft_error err = {sizeof err, 0, {0}};
 *     if (cadft_context_create(NULL, &ctx, &err) != CADFT_OK) {
 *         fprintf(stderr, "%s\n", err.message);
 *         return 1;
 *     }
 *     ...
 *     cadft_context_destroy(ctx);
 *
 * Rules that hold for every function of the library:
 *
 * - Structs that the caller fills start with `struct_size`, which the caller
 *   sets to `sizeof` of the struct as its own compiler saw it, and every
 *   field the caller does not use is zero. A smaller struct than the library
 *   knows means zeros for the rest; a larger one is accepted while its
 *   unknown tail is zero, otherwise the call returns CADFT_E_TOO_NEW.
 * - A function returns CADFT_OK (0) or a negative status. When it fails it
 *   has changed nothing that the caller can see, except where its comment
 *   says otherwise, and the optional trailing `cadft_error` holds a sentence
 *   that names the argument, its value and what was expected.
 * - Outputs come last before the error and are set to NULL on failure.
 * - What has no fixed size goes into the caller's buffer: `capacity` says how
 *   much that holds, `needed` gets how much there is. NULL with capacity 0 asks
 *   for that alone and is CADFT_OK; a buffer that is too small is left as it
 *   was, and CADFT_E_SPACE returned.
 * - `destroy` takes NULL, returns void, and works in any order: a child
 *   keeps what it needs of its context alive.
 * - The library never aborts, prints, reads the environment, or changes the
 *   locale, the floating-point environment, signal masks or errno.
 */
#ifndef CADFT_BASE_H
#define CADFT_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(CADFT_STATIC)
#    define CADFT_API
#elif defined(__GNUC__)
#    define CADFT_API __attribute__((visibility("default")))
#else
#    define CADFT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------- versions */

/** Version of these headers. Before 1.0 a new minor may break the ABI; the
 *  shared library's name changes when it does. */
#define CADFT_VERSION_MAJOR 0
#define CADFT_VERSION_MINOR 1
#define CADFT_VERSION_PATCH 0

/** Version of the library that is loaded: major * 1000000 + minor * 1000 +
 *  patch. Any thread, never fails. Since 0.1. */
CADFT_API uint32_t cadft_version(void);

/* --------------------------------------------------------------- status */

/** Status codes. Values are stable and never reused; treat a value you do
 *  not know as a failure. Since 0.1. */
enum {
    CADFT_OK = 0,

    /* The caller's arguments. */
    CADFT_E_NULL = -10,    /**< a required pointer is NULL */
    CADFT_E_ARG = -11,     /**< a value is outside what is allowed */
    CADFT_E_SHAPE = -12,   /**< shape, stride or length does not fit */
    CADFT_E_DTYPE = -13,   /**< data type not accepted here */
    CADFT_E_ALIGN = -14,   /**< address not aligned to its element */
    CADFT_E_ALIAS = -15,   /**< buffers overlap in a way not allowed */
    CADFT_E_DEVICE = -16,  /**< memory the backend cannot reach */
    CADFT_E_TOO_NEW = -17, /**< a struct asks for what we do not know */
    CADFT_E_KEY = -18,     /**< unknown key, or wrong type for the key */
    CADFT_E_SPACE = -19,   /**< the caller's buffer is too small */

    /* The order and combination of calls. */
    CADFT_E_PHASE = -30,       /**< call not allowed in this phase */
    CADFT_E_BUSY = -31,        /**< handle is inside another call */
    CADFT_E_UNSUPPORTED = -32, /**< combination refused, never replaced */

    /* The data. */
    CADFT_E_LABEL = -50,     /**< label outside the vocabulary */
    CADFT_E_SAMPLE = -51,    /**< sample id outside the batch or data set */
    CADFT_E_NONFINITE = -52, /**< NaN, +inf or an empty row of logits; a
                                  gradient that is not finite */
    CADFT_E_STATE = -53,     /**< saved state damaged or not ours */
    CADFT_E_FORMAT = -54,    /**< a file's content is damaged or refused */

    /* The surroundings. */
    CADFT_E_NOMEM = -70,    /**< the allocator returned NULL */
    CADFT_E_THREADS = -71,  /**< threads or the host's parallel_for failed */
    CADFT_E_BACKEND = -72,  /**< the backend failed or was refused */
    CADFT_E_CALLBACK = -73, /**< a callback of the host reported failure */
    CADFT_E_IO = -74        /**< the system could not read or write a file */
};

/** Name of a status code, for example "CADFT_E_LABEL"; "unknown status" for
 *  any other value. Static storage, any thread, never fails. Since 0.1. */
CADFT_API const char *cadft_status_string(int32_t status);

/** Where a call leaves its error. Owned by the caller, may be reused from
 *  call to call; a successful call sets code to 0 and message to "".
 *  Since 0.1. */
typedef struct cadft_error {
    uint32_t struct_size; /**< sizeof(cadft_error) */
    int32_t code;         /**< the status returned */
    char message[256];    /**< UTF-8 sentence, always terminated */
} cadft_error;

/* -------------------------------------------------- tensors, data types */

/** Data types: DLPack's code, bits and lanes packed as
 *  code | bits << 8 | lanes << 16. Since 0.1. */
enum {
    CADFT_DTYPE_I32 = 0x12000, /**< code 0 (int), 32 bits */
    CADFT_DTYPE_I64 = 0x14000, /**< code 0 (int), 64 bits */
    CADFT_DTYPE_F16 = 0x11002, /**< code 2 (float), 16 bits */
    CADFT_DTYPE_F32 = 0x12002, /**< code 2 (float), 32 bits */
    CADFT_DTYPE_F64 = 0x14002, /**< code 2 (float), 64 bits */
    CADFT_DTYPE_BF16 = 0x11004 /**< code 4 (bfloat), 16 bits */
};

/** DLPack's device types, as far as they are named here; a backend may use
 *  any other DLPack number. Since 0.1. */
enum {
    CADFT_DEVICE_CPU = 1,
    CADFT_DEVICE_CUDA = 2,
    CADFT_DEVICE_CUDA_HOST = 3,
    CADFT_DEVICE_ROCM = 10
};

/** Dimensions that a tensor may have at the most: room for a shape. Since
 *  0.1. */
enum { CADFT_NDIM_MAX = 16 };

/** A view of the caller's memory. From `data` on it is DLPack's DLTensor
 *  field by field, so a DLTensor can be copied into place. Borrowed for the
 *  duration of a call (on a device: until the stream has passed it).
 *  Element (i, j) of a matrix lies at
 *  data + byte_offset + (i * strides[0] + j * strides[1]) * element size.
 *  Since 0.1. */
typedef struct cadft_tensor {
    uint32_t struct_size; /**< sizeof(cadft_tensor) */
    int32_t reserved;     /**< 0 */
    uint64_t flags;       /**< 0 */
    void *data;           /**< may be NULL when the tensor has no element */
    int32_t device_type;  /**< DLPack device type; 1 is host memory */
    int32_t device_id;
    int32_t ndim;
    uint8_t dtype_code;
    uint8_t dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape;   /**< [ndim], the caller's, read only */
    int64_t *strides; /**< [ndim] in elements, or NULL: row-major, dense */
    uint64_t byte_offset;
} cadft_tensor;

/** Fill `tensor` as a view of host memory.
 *  @param tensor      to be filled; nothing of it is read
 *  @param struct_size sizeof(cadft_tensor)
 *  @param data        first element
 *  @param dtype       CADFT_DTYPE_...
 *  @param ndim        number of dimensions, 1 to CADFT_NDIM_MAX
 *  @param shape       [ndim], kept by pointer: must outlive the view
 *  @param strides     [ndim] in elements or NULL for dense, kept by pointer
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (struct_size, ndim), CADFT_E_DTYPE.
 *  Any thread. Since 0.1. */
CADFT_API int32_t cadft_tensor_init(cadft_tensor *tensor,
                                    uint32_t struct_size,
                                    void *data,
                                    int32_t dtype,
                                    int32_t ndim,
                                    int64_t *shape,
                                    int64_t *strides,
                                    cadft_error *error);

/* ------------------------------------------- what a context may be given */

/** Memory from the host. `alloc` returns NULL on failure, otherwise memory
 *  aligned to `align` (a power of two); `free` gets the same size and align.
 *  Both are called from the threads that call the library, never from worker
 *  threads. `destroy`, if not NULL, runs exactly once, when the last handle
 *  of the context is gone or when cadft_context_create fails. Since 0.1. */
typedef struct cadft_allocator {
    uint32_t struct_size; /**< sizeof(cadft_allocator) */
    int32_t reserved;     /**< 0 */
    void *user;
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *memory, size_t size, size_t align);
    void (*destroy)(void *user);
} cadft_allocator;

/** Log levels. Since 0.1. */
enum { CADFT_LOG_WARNING = 1, CADFT_LOG_INFO = 2 };

/** A log sink. `text` is UTF-8, one line without its end, `length` bytes and
 *  terminated. Called from the thread that called the library; it must not
 *  call back into the same handle. `destroy` as in cadft_allocator.
 *  Since 0.1. */
typedef struct cadft_log {
    uint32_t struct_size; /**< sizeof(cadft_log) */
    int32_t max_level;    /**< highest level wanted; 0 means none */
    void *user;
    void (*write)(void *user, int32_t level, const char *text, size_t length);
    void (*destroy)(void *user);
} cadft_log;

/** One piece of work; `worker` is below max_workers and no two pieces run on
 *  the same worker at the same time. */
typedef void (*cadft_task_fn)(void *task, int64_t index, int32_t worker);

/** The host's threads. `parallel_for` runs fn(task, i, worker) exactly once
 *  for every i in [0, n), in any order, on up to max_workers workers, and
 *  returns when none of them is running any more: 0 if all ran, anything
 *  else if not. It must work until `destroy` runs, which is as in
 *  cadft_allocator. Results never depend on it. Since 0.1. */
typedef struct cadft_parallel {
    uint32_t struct_size; /**< sizeof(cadft_parallel) */
    int32_t max_workers;  /**< at least 1 */
    void *user;
    int32_t (*parallel_for)(void *user,
                            int64_t n,
                            cadft_task_fn fn,
                            void *task);
    void (*destroy)(void *user);
} cadft_parallel;

/* -------------------------------------------------------------- context */

/** A context: backend, memory, threads and log of everything created from
 *  it. Internally safe: handles of one context may be used from different
 *  threads at the same time, each handle by one thread at a time. */
typedef struct cadft_context cadft_context;

/** What to create a context with; zero everywhere means the defaults.
 *  The bundles and strings are copied. Since 0.1. */
typedef struct cadft_context_desc {
    uint32_t struct_size; /**< sizeof(cadft_context_desc) */
    /** Own threads, the caller's included: 0 as many as the affinity mask
     *  allows, 1 none. Must be 0 when `parallel` is given. */
    int32_t n_threads;
    const cadft_allocator *allocator; /**< NULL: the C library's */
    const cadft_log *log;             /**< NULL: silent */
    const cadft_parallel *parallel;   /**< NULL: own threads */
    /** NULL or "cpu": the built-in backend. A text with a '/' is the path
     *  of a plug-in, see backend.h. */
    const char *backend;
    /** Passed to the backend. For "cpu": NULL, or words between commas:
     *  - "auto" (default), "c", "avx2", "avx512" or "neon": the instruction
     *    set. Results are the same to the last bit on the latter three; "c",
     *    for machines without fused multiply-add, agrees to rounding.
     *  - "matmul=own" (default), or "matmul=libopenblas.so.0": products of
     *    matrices by the cblas_sgemm (32-bit integers) of that shared object,
     *    which is never unloaded. The host sees to it that the BLAS starts no
     *    threads of its own, and the promise of same bits is the BLAS's. */
    const char *backend_options;
} cadft_context_desc;

/** Create a context. Starts the threads, if any, which are joined when the
 *  context and all its children are gone. In a child process after fork the
 *  work is done on the calling thread alone.
 *  @param desc NULL for the defaults
 *  Errors: CADFT_E_ARG, CADFT_E_TOO_NEW, CADFT_E_NOMEM, CADFT_E_THREADS,
 *  CADFT_E_BACKEND (unknown name, plug-in refused, instruction set absent),
 *  or what the plug-in itself returned.
 *  Any thread. Since 0.1. */
CADFT_API int32_t cadft_context_create(const cadft_context_desc *desc,
                                       cadft_context **out,
                                       cadft_error *error);

/** Give up the caller's reference. Any thread, NULL allowed. Since 0.1. */
CADFT_API void cadft_context_destroy(cadft_context *context);

/** Keys for cadft_context_get_i64 and cadft_context_get_str. */
enum {
    CADFT_CONTEXT_WORKERS = 1,    /**< i64: threads that work, at least 1 */
    CADFT_CONTEXT_BYTES = 2,      /**< i64: bytes allocated now */
    CADFT_CONTEXT_PEAK_BYTES = 3, /**< i64: most bytes ever allocated */
    CADFT_CONTEXT_BACKEND = 4,    /**< str: name of the backend, "cpu" */
    CADFT_CONTEXT_DEVICE = 5,     /**< str: what it runs on, "avx2" */
    CADFT_CONTEXT_LAST_ERROR = 6  /**< str: message of the last call on a
                                       child of the context that failed */
};

/** Read a number. Errors: CADFT_E_NULL, CADFT_E_KEY. Since 0.1. */
CADFT_API int32_t cadft_context_get_i64(cadft_context *context,
                                        int32_t key,
                                        int64_t *out,
                                        cadft_error *error);

/** Read a text into `buffer` (terminated; may be NULL with capacity 0).
 *  `needed`, if not NULL, gets the bytes it takes with its end.
 *  Errors: CADFT_E_NULL, CADFT_E_KEY, CADFT_E_SPACE. Since 0.1. */
CADFT_API int32_t cadft_context_get_str(cadft_context *context,
                                        int32_t key,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *needed,
                                        cadft_error *error);

/** Copy a tensor of the backend's memory (logits, a parameter, a gradient of
 *  a model) into host memory, dense and row-major; waits for the work that
 *  writes it on the default stream.
 *  @param from   a view whose device_type is the backend's
 *  @param to     host memory
 *  @param bytes  its size, exactly that of the tensor's elements
 *  Errors: CADFT_E_NULL, CADFT_E_SHAPE, CADFT_E_DTYPE, CADFT_E_DEVICE,
 *  CADFT_E_SPACE (bytes differ), or what the backend returned. Any thread.
 *  Since 0.1. */
CADFT_API int32_t cadft_context_read(cadft_context *context,
                                     const cadft_tensor *from,
                                     void *to,
                                     size_t bytes,
                                     cadft_error *error);

/** The way back: copy dense host memory into a tensor. As
 *  cadft_context_read. Since 0.1. */
CADFT_API int32_t cadft_context_write(cadft_context *context,
                                      const cadft_tensor *to,
                                      const void *from,
                                      size_t bytes,
                                      cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
