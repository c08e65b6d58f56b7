/* SPDX-License-Identifier: Apache-2.0 */
/* A file of tensors from anywhere: refused with a sentence, or a table in
 * which every tensor lies inside the file and can be read. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "io/element.h"
#include "io/safetensors.h"

static void check_tensor(const cadft__safetensors *table,
                         const cadft__safetensor *tensor,
                         int64_t size)
{
    cadft_error error = {sizeof error, 0, {0}};
    int64_t first = tensor->count > 3 ? tensor->count - 3 : 0;
    double out[4];
    int32_t to = cadft__elements_can(tensor->dtype, CADFT_DTYPE_F32)
                     ? CADFT_DTYPE_F32
                     : tensor->dtype;
    REQUIRE(tensor->offset >= 8 && tensor->bytes >= 0);
    REQUIRE(tensor->offset <= size && tensor->bytes <= size - tensor->offset);
    REQUIRE(cadft__safetensors_find(table, tensor->name) == tensor);
    if (!tensor->dtype)
        return;
    REQUIRE(cadft__safetensors_read(table, tensor, first, tensor->count - first,
                                    to, out, &error) == CADFT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap = {0};
    cadft_allocator allocator = {.struct_size = sizeof allocator,
                                 .user = &heap,
                                 .alloc = heap_alloc,
                                 .free = heap_free};
    cadft_error error = {sizeof error, 0, {0}};
    cadft__memory memory;
    cadft__safetensors table;
    cadft__file file = {memfd_create("fuzz", 0), (int64_t)size,
                        cadft__show("fuzz")};
    int64_t covered = 0;
    REQUIRE(write(file.fd, data, size) == (ssize_t)size);
    cadft__memory_init(&memory, &allocator);
    if (!checked(cadft__safetensors_open_file(&memory, &file, &table, &error),
                 &error)) {
        for (size_t i = 0; i < table.n_tensors; i++) {
            check_tensor(&table, &table.tensors[i], (int64_t)size);
            covered += table.tensors[i].bytes;
        }
        REQUIRE(covered <= (int64_t)size - 8);
        cadft__safetensors_close(&table);
    }
    REQUIRE(heap.live == 0);
    return 0;
}
