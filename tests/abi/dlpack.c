/* SPDX-License-Identifier: Apache-2.0 */
/* From `data` on, cadft_tensor is DLPack's DLTensor; numbers are DLPack's. */
#include <dlpack/dlpack.h>
#include <stddef.h>

#include "cadft/base.h"

#define SAME(condition) _Static_assert(condition, #condition)
#define FIELD(ours, theirs)                                                    \
    SAME(offsetof(cadft_tensor, ours) - offsetof(cadft_tensor, data) ==        \
         offsetof(DLTensor, theirs));                                          \
    SAME(sizeof(((cadft_tensor *)0)->ours) == sizeof(((DLTensor *)0)->theirs))

FIELD(data, data);
FIELD(ndim, ndim);
FIELD(dtype_code, dtype.code);
FIELD(dtype_bits, dtype.bits);
FIELD(dtype_lanes, dtype.lanes);
FIELD(shape, shape);
FIELD(strides, strides);
FIELD(byte_offset, byte_offset);

/* `device`, called `ctx` in old releases, lies between data and ndim. */
SAME(offsetof(cadft_tensor, device_type) - offsetof(cadft_tensor, data) ==
     sizeof(void *));
SAME(offsetof(cadft_tensor, device_id) ==
     offsetof(cadft_tensor, device_type) + 4);
SAME(offsetof(cadft_tensor, ndim) == offsetof(cadft_tensor, device_id) + 4);
SAME(sizeof(cadft_tensor) - offsetof(cadft_tensor, data) == sizeof(DLTensor));

#define DTYPE(code, bits) ((code) | (bits) << 8 | 1 << 16)
SAME(CADFT_DTYPE_I32 == DTYPE(kDLInt, 32));
SAME(CADFT_DTYPE_I64 == DTYPE(kDLInt, 64));
SAME(CADFT_DTYPE_F16 == DTYPE(kDLFloat, 16));
SAME(CADFT_DTYPE_F32 == DTYPE(kDLFloat, 32));
SAME(CADFT_DTYPE_F64 == DTYPE(kDLFloat, 64));
SAME(CADFT_DTYPE_BF16 == DTYPE(kDLBfloat, 16));

SAME((int)CADFT_DEVICE_CPU == (int)kDLCPU);
SAME((int)CADFT_DEVICE_ROCM == (int)kDLROCM);
/* kDLGPU was renamed kDLCUDA in 0.5 with the same number */
SAME(CADFT_DEVICE_CUDA == 2 && CADFT_DEVICE_CUDA_HOST == 3);
