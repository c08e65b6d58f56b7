/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests ask of the device of device_backend.c beside the contract:
 * functions exported by the plug-in, found with dlsym. */
#ifndef TESTS_DEVICE_BACKEND_H
#define TESTS_DEVICE_BACKEND_H

#include <stdint.h>

enum { DEVICE_TYPE = 12, DEVICE_STREAMS = 4 }; /* as the toy's */

/* Its memory is behind handles that no program can read through. */
typedef struct device_control {
    void *(*alloc)(uint64_t bytes);
    void (*free)(void *base);
    void (*write)(void *base,
                  uint64_t offset,
                  const void *from,
                  uint64_t bytes);
    void (*read)(void *base, uint64_t offset, void *to, uint64_t bytes);
    void *(*stream)(int32_t index); /* native handles; NULL the default's */
    void (*wait)(void *stream);
    /* Next query gives this; NULL the usual. See variants in the source. */
    void (*variant)(const char *name);
    int64_t (*live)(void);     /* allocations that are not freed */
    int64_t (*wrong)(void);    /* uses of what the contract does not allow */
    const char *(*what)(void); /* the last of those, in words */
    int64_t (*calls)(const char *slot); /* "open", "grad" or "loss_row_unit" */
    void (*reset)(void);                /* counters to 0 */
} device_control;

/* Exported by the plug-in. */
typedef const device_control *(*device_control_fn)(void);

#endif
