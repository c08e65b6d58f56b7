/* SPDX-License-Identifier: Apache-2.0 */
/* All memory of the library passes here, so that the host's allocator sees
 * every byte and tests can count and fail allocations. */
#ifndef CADFT_COMMON_MEMORY_H
#define CADFT_COMMON_MEMORY_H

#include <stdatomic.h>

#include "cadft/base.h"

typedef struct cadft__memory {
    cadft_allocator allocator;
    atomic_llong bytes; /* allocated now */
    atomic_llong peak;
} cadft__memory;

/* `allocator` NULL: the C library's. */
void cadft__memory_init(cadft__memory *memory,
                        const cadft_allocator *allocator);

/* Zeroed memory aligned to 64 bytes, or NULL. */
void *cadft__alloc(cadft__memory *memory, size_t size);

void cadft__free(cadft__memory *memory, void *block, size_t size);

/* Make room for `count` elements of `size` bytes in *block, keeping the
 * first `used`; *capacity is in elements. Grows by half at least so that a
 * steady loop stops allocating. On failure nothing changes. */
int32_t cadft__reserve(cadft__memory *memory,
                       void *block,
                       size_t *capacity,
                       size_t used,
                       size_t count,
                       size_t size,
                       cadft_error *error);

#endif
