/* SPDX-License-Identifier: Apache-2.0 */
/* The part of DLPack's interface that a capsule carries, written from its
 * specification so that building needs no header of others. */
#ifndef CADFT_PYTHON_DLPACK_H
#define CADFT_PYTHON_DLPACK_H

#include <stdint.h>

enum { DL_READ_ONLY = 1 };

typedef struct {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t dtype_code, dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

/* "dltensor" */
typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
} dl_managed;

/* "dltensor_versioned", major version 1 */
typedef struct dl_managed_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_managed_versioned *);
    uint64_t flags;
    dl_tensor tensor;
} dl_managed_versioned;

#endif
