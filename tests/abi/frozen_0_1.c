/* SPDX-License-Identifier: Apache-2.0 */
/* What the headers of 0.1 promise to compiled hosts and plug-ins: values of
 * constants, sizes, and place and width of fields. abidiff does not notice a
 * renumbered constant, and does not see the plug-in's tables at all.
 *
 * NEVER edit or remove a line; a failure here means that the headers are
 * wrong. When something is added to the headers, append the lines that
 *
 *     python3 tests/abi/check_frozen.py --missing include tests/abi/frozen_*.c
 *
 * prints. Structs that start with struct_size may grow at the end. */
#include <stddef.h>
#include <stdint.h>

#include "cadft/backend.h"
#include "cadft/cadft.h"

#define VALUE(name, value) _Static_assert((name) == (value), #name)
#define VALUE_LEAST(name, value) _Static_assert((name) >= (value), #name)

_Static_assert(sizeof(CADFT_OK) == 4, "constants are int32_t");
_Static_assert(sizeof(CADFT_BACKEND_QUERY) == 23, "cadft_backend_query_v0");

/* Layouts are written for 64-bit pointers. */
#define LP64 (UINTPTR_MAX == 0xffffffffffffffffu)
#define SIZE(type, size) _Static_assert(!LP64 || sizeof(type) == (size), #type)
#define SIZE_LEAST(type, size)                                                 \
    _Static_assert(!LP64 || sizeof(type) >= (size), #type)
#define FIELD(type, field, offset, size)                                       \
    _Static_assert(!LP64 || (offsetof(type, field) == (offset) &&              \
                             sizeof(((type *)0)->field) == (size)),            \
                   #type "." #field)

VALUE(CADFT_ROW_NO_LABEL, -1);
VALUE(CADFT_ROW_SKIP, -2);
VALUE(CADFT_STAT_Z_MAX, 0);
VALUE(CADFT_STAT_SUM_REST, 1);
VALUE(CADFT_STAT_Z_LABEL, 2);
VALUE(CADFT_STAT_SUM_T, 3);
VALUE(CADFT_STAT_SUM_Z, 4);
VALUE(CADFT_STAT_UNMASKED, 5);
VALUE(CADFT_STAT_STRIDE, 8);
VALUE(CADFT_WANT_ENTROPY, 1);
VALUE(CADFT_WANT_SUM, 2);
VALUE(CADFT_COEF_LSE, 0);
VALUE(CADFT_COEF_A, 1);
VALUE(CADFT_COEF_C, 2);
VALUE(CADFT_COEF_LABEL, 3);
VALUE(CADFT_COEF_STRIDE, 4);
VALUE(CADFT_OP_LOSS_ROW_STATS, 1);
VALUE(CADFT_OP_LOSS_ROW_GRAD, 2);
VALUE(CADFT_OP_LOSS_ROW_UNIT, 3);
VALUE(CADFT_OK, 0);
VALUE(CADFT_E_NULL, -10);
VALUE(CADFT_E_ARG, -11);
VALUE(CADFT_E_SHAPE, -12);
VALUE(CADFT_E_DTYPE, -13);
VALUE(CADFT_E_ALIGN, -14);
VALUE(CADFT_E_ALIAS, -15);
VALUE(CADFT_E_DEVICE, -16);
VALUE(CADFT_E_TOO_NEW, -17);
VALUE(CADFT_E_KEY, -18);
VALUE(CADFT_E_SPACE, -19);
VALUE(CADFT_E_PHASE, -30);
VALUE(CADFT_E_BUSY, -31);
VALUE(CADFT_E_UNSUPPORTED, -32);
VALUE(CADFT_E_LABEL, -50);
VALUE(CADFT_E_SAMPLE, -51);
VALUE(CADFT_E_NONFINITE, -52);
VALUE(CADFT_E_STATE, -53);
VALUE(CADFT_E_FORMAT, -54);
VALUE(CADFT_E_NOMEM, -70);
VALUE(CADFT_E_THREADS, -71);
VALUE(CADFT_E_BACKEND, -72);
VALUE(CADFT_E_CALLBACK, -73);
VALUE(CADFT_E_IO, -74);
VALUE(CADFT_DTYPE_I32, 73728);
VALUE(CADFT_DTYPE_I64, 81920);
VALUE(CADFT_DTYPE_F16, 69634);
VALUE(CADFT_DTYPE_F32, 73730);
VALUE(CADFT_DTYPE_F64, 81922);
VALUE(CADFT_DTYPE_BF16, 69636);
VALUE(CADFT_DEVICE_CPU, 1);
VALUE(CADFT_DEVICE_CUDA, 2);
VALUE(CADFT_DEVICE_CUDA_HOST, 3);
VALUE(CADFT_DEVICE_ROCM, 10);
VALUE(CADFT_LOG_WARNING, 1);
VALUE(CADFT_LOG_INFO, 2);
VALUE(CADFT_CONTEXT_WORKERS, 1);
VALUE(CADFT_CONTEXT_BYTES, 2);
VALUE(CADFT_CONTEXT_PEAK_BYTES, 3);
VALUE(CADFT_CONTEXT_BACKEND, 4);
VALUE(CADFT_CONTEXT_DEVICE, 5);
VALUE(CADFT_CONTEXT_LAST_ERROR, 6);
VALUE(CADFT_LOSS_OBJECTIVE, 1);
VALUE(CADFT_LOSS_WEIGHTING, 2);
VALUE(CADFT_LOSS_BETA, 3);
VALUE(CADFT_LOSS_EPS, 4);
VALUE(CADFT_LOSS_DDOF, 5);
VALUE(CADFT_LOSS_SCOPE, 6);
VALUE(CADFT_LOSS_RUNNING_DECAY, 7);
VALUE(CADFT_LOSS_RENORMALISE, 8);
VALUE(CADFT_LOSS_NONFINITE, 9);
VALUE(CADFT_LOSS_REDUCTION, 10);
VALUE(CADFT_LOSS_DENOMINATOR, 11);
VALUE(CADFT_LOSS_GRAD_SCALE, 12);
VALUE(CADFT_LOSS_IGNORE_INDEX, 13);
VALUE(CADFT_LOSS_LABEL_OFFSET, 14);
VALUE(CADFT_LOSS_Z_LOSS, 15);
VALUE(CADFT_LOSS_LABEL_SMOOTHING, 16);
VALUE(CADFT_LOSS_SOFTCAP, 17);
VALUE(CADFT_LOSS_POWER_Q, 18);
VALUE(CADFT_LOSS_FOCAL_GAMMA, 19);
VALUE(CADFT_LOSS_EAFT_ALPHA, 20);
VALUE(CADFT_LOSS_INFOSFT_TARGET, 21);
VALUE(CADFT_OBJECTIVE_SFT, 0);
VALUE(CADFT_OBJECTIVE_DFT, 1);
VALUE(CADFT_OBJECTIVE_DFT_NOSG, 2);
VALUE(CADFT_OBJECTIVE_POWER, 3);
VALUE(CADFT_OBJECTIVE_FOCAL, 4);
VALUE(CADFT_OBJECTIVE_EAFT, 5);
VALUE(CADFT_OBJECTIVE_INFOSFT, 6);
VALUE(CADFT_OBJECTIVE_HOST, 7);
VALUE(CADFT_SCOPE_EXACT, 0);
VALUE(CADFT_SCOPE_RUNNING, 1);
VALUE(CADFT_SCOPE_LOCAL, 2);
VALUE(CADFT_NONFINITE_ERROR, 0);
VALUE(CADFT_NONFINITE_SKIP, 1);
VALUE(CADFT_REDUCTION_TOKEN_MEAN, 0);
VALUE(CADFT_REDUCTION_SAMPLE_SUM, 1);
VALUE(CADFT_REDUCTION_SAMPLE_MEAN, 2);
VALUE(CADFT_REDUCTION_SUM, 3);
VALUE(CADFT_EXCHANGE_ROW_MAX, 1);
VALUE(CADFT_EXCHANGE_ROW_SUM, 2);
VALUE(CADFT_EXCHANGE_SAMPLES, 3);
VALUE(CADFT_EXCHANGE_MOMENTS, 4);
VALUE(CADFT_EXCHANGE_WEIGHTS, 5);
VALUE(CADFT_EXCHANGE_REPORT, 6);
VALUE(CADFT_ROWS_NLL, 1);
VALUE(CADFT_ROWS_P, 2);
VALUE(CADFT_ROWS_ENTROPY, 3);
VALUE(CADFT_ROWS_K, 4);
VALUE(CADFT_ROWS_SCALE, 5);
VALUE(CADFT_SAMPLES_C, 1);
VALUE(CADFT_SAMPLES_CHAT, 2);
VALUE(CADFT_SAMPLES_W, 3);
VALUE(CADFT_SAMPLES_ROWS, 4);
VALUE(CADFT_BACKEND_MAJOR, 0);
VALUE_LEAST(CADFT_BACKEND_MINOR, 1);
SIZE_LEAST(cadft_backend_host, 64);
FIELD(cadft_backend_host, struct_size, 0, 4);
FIELD(cadft_backend_host, major, 4, 4);
FIELD(cadft_backend_host, minor_built, 8, 4);
FIELD(cadft_backend_host, minor_required, 12, 4);
FIELD(cadft_backend_host, user, 16, 8);
FIELD(cadft_backend_host, max_workers, 24, 4);
FIELD(cadft_backend_host, reserved, 28, 4);
FIELD(cadft_backend_host, alloc, 32, 8);
FIELD(cadft_backend_host, free, 40, 8);
FIELD(cadft_backend_host, parallel_for, 48, 8);
FIELD(cadft_backend_host, log, 56, 8);
SIZE(cadft_array, 16);
FIELD(cadft_array, base, 0, 8);
FIELD(cadft_array, offset, 8, 8);
SIZE_LEAST(cadft_loss_rows, 72);
FIELD(cadft_loss_rows, struct_size, 0, 4);
FIELD(cadft_loss_rows, dtype, 4, 4);
FIELD(cadft_loss_rows, logits, 8, 16);
FIELD(cadft_loss_rows, rows, 24, 8);
FIELD(cadft_loss_rows, cols, 32, 8);
FIELD(cadft_loss_rows, row_stride, 40, 8);
FIELD(cadft_loss_rows, softcap, 48, 8);
FIELD(cadft_loss_rows, labels, 56, 16);
SIZE_LEAST(cadft_loss_grad_out, 40);
FIELD(cadft_loss_grad_out, struct_size, 0, 4);
FIELD(cadft_loss_grad_out, dtype, 4, 4);
FIELD(cadft_loss_grad_out, grad, 8, 16);
FIELD(cadft_loss_grad_out, cols, 24, 8);
FIELD(cadft_loss_grad_out, row_stride, 32, 8);
SIZE_LEAST(cadft_backend, 128);
FIELD(cadft_backend, struct_size, 0, 4);
FIELD(cadft_backend, major, 4, 4);
FIELD(cadft_backend, minor_built, 8, 4);
FIELD(cadft_backend, minor_required, 12, 4);
FIELD(cadft_backend, name, 16, 8);
FIELD(cadft_backend, device_type, 24, 4);
FIELD(cadft_backend, reserved, 28, 4);
FIELD(cadft_backend, open, 32, 8);
FIELD(cadft_backend, close, 40, 8);
FIELD(cadft_backend, describe, 48, 8);
FIELD(cadft_backend, supports, 56, 8);
FIELD(cadft_backend, mem_alloc, 64, 8);
FIELD(cadft_backend, mem_free, 72, 8);
FIELD(cadft_backend, copy_in, 80, 8);
FIELD(cadft_backend, copy_out, 88, 8);
FIELD(cadft_backend, sync, 96, 8);
FIELD(cadft_backend, loss_row_stats, 104, 8);
FIELD(cadft_backend, loss_row_grad, 112, 8);
FIELD(cadft_backend, loss_row_unit, 120, 8);
SIZE_LEAST(cadft_error, 264);
FIELD(cadft_error, struct_size, 0, 4);
FIELD(cadft_error, code, 4, 4);
FIELD(cadft_error, message, 8, 256);
SIZE_LEAST(cadft_tensor, 64);
FIELD(cadft_tensor, struct_size, 0, 4);
FIELD(cadft_tensor, reserved, 4, 4);
FIELD(cadft_tensor, flags, 8, 8);
FIELD(cadft_tensor, data, 16, 8);
FIELD(cadft_tensor, device_type, 24, 4);
FIELD(cadft_tensor, device_id, 28, 4);
FIELD(cadft_tensor, ndim, 32, 4);
FIELD(cadft_tensor, dtype_code, 36, 1);
FIELD(cadft_tensor, dtype_bits, 37, 1);
FIELD(cadft_tensor, dtype_lanes, 38, 2);
FIELD(cadft_tensor, shape, 40, 8);
FIELD(cadft_tensor, strides, 48, 8);
FIELD(cadft_tensor, byte_offset, 56, 8);
SIZE_LEAST(cadft_allocator, 40);
FIELD(cadft_allocator, struct_size, 0, 4);
FIELD(cadft_allocator, reserved, 4, 4);
FIELD(cadft_allocator, user, 8, 8);
FIELD(cadft_allocator, alloc, 16, 8);
FIELD(cadft_allocator, free, 24, 8);
FIELD(cadft_allocator, destroy, 32, 8);
SIZE_LEAST(cadft_log, 32);
FIELD(cadft_log, struct_size, 0, 4);
FIELD(cadft_log, max_level, 4, 4);
FIELD(cadft_log, user, 8, 8);
FIELD(cadft_log, write, 16, 8);
FIELD(cadft_log, destroy, 24, 8);
SIZE_LEAST(cadft_parallel, 32);
FIELD(cadft_parallel, struct_size, 0, 4);
FIELD(cadft_parallel, max_workers, 4, 4);
FIELD(cadft_parallel, user, 8, 8);
FIELD(cadft_parallel, parallel_for, 16, 8);
FIELD(cadft_parallel, destroy, 24, 8);
SIZE_LEAST(cadft_context_desc, 48);
FIELD(cadft_context_desc, struct_size, 0, 4);
FIELD(cadft_context_desc, n_threads, 4, 4);
FIELD(cadft_context_desc, allocator, 8, 8);
FIELD(cadft_context_desc, log, 16, 8);
FIELD(cadft_context_desc, parallel, 24, 8);
FIELD(cadft_context_desc, backend, 32, 8);
FIELD(cadft_context_desc, backend_options, 40, 8);
SIZE_LEAST(cadft_coefficient, 32);
FIELD(cadft_coefficient, struct_size, 0, 4);
FIELD(cadft_coefficient, reserved, 4, 4);
FIELD(cadft_coefficient, user, 8, 8);
FIELD(cadft_coefficient, fn, 16, 8);
FIELD(cadft_coefficient, destroy, 24, 8);
SIZE_LEAST(cadft_loss_batch, 72);
FIELD(cadft_loss_batch, struct_size, 0, 4);
FIELD(cadft_loss_batch, reserved, 4, 4);
FIELD(cadft_loss_batch, logits, 8, 8);
FIELD(cadft_loss_batch, labels, 16, 8);
FIELD(cadft_loss_batch, sample_ids, 24, 8);
FIELD(cadft_loss_batch, k, 32, 8);
FIELD(cadft_loss_batch, vocab_valid, 40, 8);
FIELD(cadft_loss_batch, vocab_start, 48, 8);
FIELD(cadft_loss_batch, vocab_total, 56, 8);
FIELD(cadft_loss_batch, stream, 64, 8);
SIZE_LEAST(cadft_loss_report, 112);
FIELD(cadft_loss_report, struct_size, 0, 4);
FIELD(cadft_loss_report, reserved, 4, 4);
FIELD(cadft_loss_report, loss, 8, 8);
FIELD(cadft_loss_report, nll, 16, 8);
FIELD(cadft_loss_report, mean_p, 24, 8);
FIELD(cadft_loss_report, mean_w, 32, 8);
FIELD(cadft_loss_report, min_w, 40, 8);
FIELD(cadft_loss_report, share_below, 48, 8);
FIELD(cadft_loss_report, mu, 56, 8);
FIELD(cadft_loss_report, sigma, 64, 8);
FIELD(cadft_loss_report, grad_scale, 72, 8);
FIELD(cadft_loss_report, n_samples, 80, 8);
FIELD(cadft_loss_report, n_rows, 88, 8);
FIELD(cadft_loss_report, n_skipped, 96, 8);
FIELD(cadft_loss_report, n_infinite, 104, 8);
VALUE(CADFT_STAT_RATE, 6);
VALUE(CADFT_STAT_PEAK, 7);
