/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share. */
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,            \
                         #condition);                                          \
            std::exit(1);                                                      \
        }                                                                      \
    } while (0)

/* An allocator of C that counts: nothing may be left, nothing freed twice. */
struct counting {
    long long blocks = 0, bytes = 0, destroyed = 0;
    cadft_allocator c = {};

    counting()
    {
        c.struct_size = sizeof c;
        c.user = this;
        c.alloc = [](void *user, std::size_t size, std::size_t align) {
            auto *self = static_cast<counting *>(user);
            self->blocks++;
            self->bytes += static_cast<long long>(size);
            return std::aligned_alloc(align,
                                      (size + align - 1) / align * align);
        };
        c.free = [](void *user, void *memory, std::size_t size, std::size_t) {
            auto *self = static_cast<counting *>(user);
            self->blocks--;
            self->bytes -= static_cast<long long>(size);
            std::free(memory);
        };
        c.destroy = [](void *user) {
            static_cast<counting *>(user)->destroyed++;
        };
    }
    counting(const counting &) = delete;
    counting &operator=(const counting &) = delete;
};

#endif
