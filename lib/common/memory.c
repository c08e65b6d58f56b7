/* SPDX-License-Identifier: Apache-2.0 */
#include "common/memory.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"

enum { ALIGN = 64 }; /* a cache line and the widest vector */

static void *default_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    if (size > SIZE_MAX - align)
        return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void default_free(void *user, void *block, size_t size, size_t align)
{
    (void)user;
    (void)size;
    (void)align;
    free(block);
}

void cadft__memory_init(cadft__memory *memory, const cadft_allocator *allocator)
{
    memset(memory, 0, sizeof *memory);
    if (allocator) {
        memory->allocator = *allocator;
    } else {
        memory->allocator.alloc = default_alloc;
        memory->allocator.free = default_free;
    }
    atomic_init(&memory->bytes, 0);
    atomic_init(&memory->peak, 0);
}

void *cadft__alloc(cadft__memory *memory, size_t size)
{
    cadft_allocator *a = &memory->allocator;
    void *block = a->alloc(a->user, size, ALIGN);
    long long now, peak;
    if (!block)
        return NULL;
    memset(block, 0, size);
    now = atomic_fetch_add(&memory->bytes, (long long)size) + (long long)size;
    peak = atomic_load(&memory->peak);
    while (now > peak &&
           !atomic_compare_exchange_weak(&memory->peak, &peak, now))
        ;
    return block;
}

void cadft__free(cadft__memory *memory, void *block, size_t size)
{
    if (!block)
        return;
    atomic_fetch_sub(&memory->bytes, (long long)size);
    memory->allocator.free(memory->allocator.user, block, size, ALIGN);
}

int32_t cadft__reserve(cadft__memory *memory,
                       void *block,
                       size_t *capacity,
                       size_t used,
                       size_t count,
                       size_t size,
                       cadft_error *error)
{
    void *old, *grown;
    size_t want;
    if (*capacity && count <= *capacity)
        return CADFT_OK;
    if (count == 0)
        count = 1; /* so that arrays are never NULL, even of nothing */
    want = *capacity + *capacity / 2;
    if (want < count)
        want = count;
    if (want > PTRDIFF_MAX / size)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "%zu elements of %zu bytes do not fit in memory",
                           count, size);
    grown = cadft__alloc(memory, want * size);
    if (!grown)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes", want * size);
    memcpy(&old, block, sizeof old); /* any object pointer is a void* here */
    if (used)
        memcpy(grown, old, used * size);
    cadft__free(memory, old, *capacity * size);
    memcpy(block, &grown, sizeof grown);
    *capacity = want;
    return CADFT_OK;
}
