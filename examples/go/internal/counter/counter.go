// SPDX-License-Identifier: Apache-2.0

// Package counter is an allocator for tests of a context: it counts what is
// alive, and how often the library gave it up.
package counter

/*
#cgo pkg-config: cadft
#include <cadft/base.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct counter {
    cadft_allocator allocator;
    atomic_long live, destroyed;
} counter;

static void *count_alloc(void *user, size_t size, size_t align)
{
    counter *c = user;
    void *memory = NULL;
    if (posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align, size))
        return NULL;
    atomic_fetch_add(&c->live, 1);
    return memory;
}

static void count_free(void *user, void *memory, size_t size, size_t align)
{
    counter *c = user;
    (void)size;
    (void)align;
    atomic_fetch_sub(&c->live, 1);
    free(memory);
}

static void count_destroy(void *user)
{
    atomic_fetch_add(&((counter *)user)->destroyed, 1);
}

static counter *counter_new(void)
{
    counter *c = calloc(1, sizeof *c);
    if (c)
        c->allocator = (cadft_allocator){.struct_size = sizeof c->allocator,
                                         .user = c,
                                         .alloc = count_alloc,
                                         .free = count_free,
                                         .destroy = count_destroy};
    return c;
}

static long counter_live(counter *c)
{
    return atomic_load(&c->live);
}

static long counter_destroyed(counter *c)
{
    return atomic_load(&c->destroyed);
}
*/
import "C"

import "unsafe"

// A Counter lives as long as the process: its context might.
type Counter struct{ c *C.counter }

// New makes one.
func New() Counter { return Counter{C.counter_new()} }

// Allocator is for cadft.Options.
func (c Counter) Allocator() unsafe.Pointer { return unsafe.Pointer(&c.c.allocator) }

// Live is the number of blocks that are not freed.
func (c Counter) Live() int { return int(C.counter_live(c.c)) }

// Destroyed is how often the library gave the allocator up.
func (c Counter) Destroyed() int { return int(C.counter_destroyed(c.c)) }
