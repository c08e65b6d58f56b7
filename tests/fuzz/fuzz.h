/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: numbers out of the input, an allocator with a
 * limit and a count, and a way to give up. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cadft/cadft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* The input; reads zeros after its end. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint64_t take64(struct input *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)take8(in) << (8 * i);
    return value;
}

static inline double take_f64(struct input *in)
{
    uint64_t bits = take64(in);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct heap {
    int64_t live;
};

static inline void *heap_alloc(void *user, size_t size, size_t align)
{
    void *block;
    if (size > (size_t)1 << 22)
        return NULL;
    block = aligned_alloc(align, (size + align - 1) / align * align);
    if (block)
        ((struct heap *)user)->live++;
    return block;
}

static inline void heap_free(void *user, void *block, size_t size, size_t align)
{
    (void)size;
    (void)align;
    ((struct heap *)user)->live--;
    free(block);
}

/* A context on one thread whose memory is counted in `heap`. */
static inline cadft_context *fuzz_context(struct heap *heap)
{
    cadft_allocator allocator = {.struct_size = sizeof allocator,
                                 .user = heap,
                                 .alloc = heap_alloc,
                                 .free = heap_free};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 1,
                               .allocator = &allocator,
                               .backend_options = "c"};
    cadft_context *context = NULL;
    REQUIRE(cadft_context_create(&desc, &context, NULL) == CADFT_OK);
    return context;
}

/* A failure says why; success says nothing. */
static inline int32_t checked(int32_t status, const cadft_error *error)
{
    REQUIRE(status <= 0);
    REQUIRE(error->code == status);
    REQUIRE(memchr(error->message, 0, sizeof error->message));
    REQUIRE((status == CADFT_OK) == (error->message[0] == '\0'));
    REQUIRE(strcmp(cadft_status_string(status), "unknown status") != 0);
    return status;
}

#endif
