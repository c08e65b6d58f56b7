/* SPDX-License-Identifier: Apache-2.0 */
/* The device. Handles are small numbers that point nowhere, 16 apart, so that
 * neither an address nor a distance can be made of them. They are given out in
 * turn: one that was freed stays invalid for long. New memory is full of NaN.
 * All of it belongs to the process, as a real device does, not to a context. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"
#include "toy.h"

enum { BLOCKS = 1024, QUEUE = 256, ALIGN = 64 };

#define FIRST_HANDLE ((uintptr_t)0x1000)
#define HANDLE_STEP ((uintptr_t)16)
#define FIRST_STREAM ((uintptr_t)0x50)

/* Guards all below, and is held while a kernel runs. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct block {
    char *memory; /* NULL: free */
    uint64_t bytes;
} blocks[BLOCKS];
static int next_block;

static int64_t faults;
static char last_fault[256];

struct work {
    toy_kernel *run;
    void *owned;
    union {
        uint32_t struct_size;
        toy_loss_args loss;
        toy_copy_args copy;
        cadft_rows_args rows;
        cadft_norm_args norm;
        cadft_matmul_args matmul;
        cadft_rope_args rope;
        cadft_attention_args attention;
        cadft_swiglu_args swiglu;
        cadft_add_args add;
        cadft_sum_squares_args sum_squares;
        cadft_update_args update;
    } args;
};

static struct queue {
    struct work work[QUEUE];
    int count;
    cadft_error failed; /* the first failure since the last wait */
} queues[TOY_STREAMS];

int32_t toy_fail(cadft_error *error, int32_t status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    error->code = status;
    vsnprintf(error->message, sizeof error->message, format, list);
    va_end(list);
    return status;
}

/* The library, or the host, did what the contract forbids. */
static void *fault(cadft_error *error, const char *what)
{
    faults++;
    snprintf(last_fault, sizeof last_fault, "%s", what);
    if (!error->code)
        toy_fail(error, CADFT_E_BACKEND, "toy device: %s", what);
    return NULL;
}

/* ---------------------------------------------------------------- memory */

static struct block *block_of(const void *base)
{
    uintptr_t at = (uintptr_t)base - FIRST_HANDLE;
    if (at % HANDLE_STEP || at / HANDLE_STEP >= BLOCKS)
        return NULL;
    return blocks[at / HANDLE_STEP].memory ? &blocks[at / HANDLE_STEP] : NULL;
}

static void *take_block(uint64_t bytes)
{
    for (int i = 0; i < BLOCKS; i++) {
        int index = (next_block + i) % BLOCKS;
        struct block *block = &blocks[index];
        void *memory;
        if (block->memory)
            continue;
        if (bytes >= SIZE_MAX || posix_memalign(&memory, ALIGN, bytes + 1))
            return NULL;
        memset(memory, 0xff, (size_t)bytes);
        block->memory = memory;
        block->bytes = bytes;
        next_block = index + 1;
        return (void *)(FIRST_HANDLE + HANDLE_STEP * (uintptr_t)index);
    }
    return NULL;
}

void *toy_alloc(uint64_t bytes)
{
    void *base;
    pthread_mutex_lock(&lock);
    base = take_block(bytes);
    pthread_mutex_unlock(&lock);
    return base;
}

void toy_free(void *base, uint64_t bytes)
{
    cadft_error ignored = {.struct_size = sizeof ignored};
    struct block *block;
    pthread_mutex_lock(&lock);
    block = block_of(base);
    if (!block) {
        fault(&ignored, "free of what is not allocated");
    } else {
        if (bytes != UINT64_MAX && block->bytes != bytes)
            fault(&ignored, "free with another size");
        free(block->memory);
        block->memory = NULL;
    }
    pthread_mutex_unlock(&lock);
}

void *toy_bytes(const cadft_array *array, uint64_t bytes, cadft_error *error)
{
    struct block *block = block_of(array->base);
    if (!block)
        return fault(error, array->base ? "an array whose memory is gone"
                                        : "an array without memory");
    if (array->offset > block->bytes || bytes > block->bytes - array->offset)
        return fault(error, "an array beyond the end of its allocation");
    return block->memory + array->offset;
}

void *toy_rows(const cadft_array *array,
               int64_t rows,
               int64_t cols,
               int64_t stride,
               int32_t dtype,
               cadft_error *error)
{
    int64_t size = toy_size(dtype);
    if (rows == 0 || cols == 0)
        return NULL; /* nothing will be read */
    if (stride < cols && rows > 1)
        return fault(error, "rows that overlap");
    if (array->offset % (uint64_t)size)
        return fault(error, "an offset between two elements");
    return toy_bytes(array, (uint64_t)(((rows - 1) * stride + cols) * size),
                     error);
}

void toy_copy(const void *args, cadft_error *error)
{
    const toy_copy_args *a = args;
    void *to;
    if (a->bytes == 0)
        return;
    to = toy_bytes(&a->to, a->bytes, error);
    if (to && a->from)
        memcpy(to, a->from, (size_t)a->bytes);
    else if (to)
        memset(to, 0, (size_t)a->bytes);
}

/* --------------------------------------------------------------- streams */

void *toy_stream(int32_t index)
{
    return index ? (void *)(FIRST_STREAM + (uintptr_t)index) : NULL;
}

static struct queue *queue_of(void *stream, cadft_error *error)
{
    for (int32_t i = 0; i < TOY_STREAMS; i++)
        if (stream == toy_stream(i))
            return &queues[i];
    return fault(error, "a stream that does not exist");
}

static void drain(struct queue *queue)
{
    for (int i = 0; i < queue->count; i++) {
        struct work *work = &queue->work[i];
        cadft_error error = {.struct_size = sizeof error};
        work->run(&work->args, &error);
        if (error.code && !queue->failed.code)
            queue->failed = error;
        free(work->owned);
    }
    queue->count = 0;
}

/* Hand over what failed, once. */
static int32_t report(struct queue *queue, cadft_error *error)
{
    int32_t status = queue->failed.code;
    if (status)
        toy_fail(error, status, "%s", queue->failed.message);
    queue->failed.code = CADFT_OK;
    return status;
}

int32_t toy_enqueue(void *stream,
                    int late,
                    toy_kernel *run,
                    const void *args,
                    size_t size,
                    void *owned,
                    cadft_error *error)
{
    int32_t status = CADFT_OK;
    struct queue *queue;
    pthread_mutex_lock(&lock);
    queue = queue_of(stream, error);
    if (queue) {
        struct work *work;
        uint32_t given; /* a library older than we are gives less */
        if (queue->count == QUEUE)
            drain(queue);
        work = &queue->work[queue->count++];
        memset(work, 0, sizeof *work);
        memcpy(&given, args, sizeof given);
        memcpy(&work->args, args, given < size ? given : size);
        work->run = run;
        work->owned = owned;
        if (!late) {
            drain(queue);
            status = report(queue, error);
        }
    } else {
        free(owned);
        status = CADFT_E_BACKEND;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static int32_t wait_locked(void *stream, cadft_error *error)
{
    struct queue *queue = queue_of(stream, error);
    if (!queue)
        return CADFT_E_BACKEND;
    drain(queue);
    return report(queue, error);
}

int32_t toy_wait(void *stream, cadft_error *error)
{
    int32_t status;
    pthread_mutex_lock(&lock);
    status = wait_locked(stream, error);
    pthread_mutex_unlock(&lock);
    return status;
}

int32_t toy_read(void *stream,
                 void *to,
                 const cadft_array *from,
                 uint64_t bytes,
                 cadft_error *error)
{
    int32_t status;
    const void *source;
    pthread_mutex_lock(&lock);
    status = wait_locked(stream, error);
    if (!status && bytes) {
        source = toy_bytes(from, bytes, error);
        if (source)
            memcpy(to, source, (size_t)bytes);
        else
            status = CADFT_E_BACKEND;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

/* ------------------------------------------------------------- for tests */

int64_t toy_live(void)
{
    int64_t live = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < BLOCKS; i++)
        live += blocks[i].memory != NULL;
    pthread_mutex_unlock(&lock);
    return live;
}

int64_t toy_faults(const char **last)
{
    int64_t count;
    pthread_mutex_lock(&lock);
    count = faults;
    if (last)
        *last = last_fault;
    pthread_mutex_unlock(&lock);
    return count;
}

void toy_reset(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < TOY_STREAMS; i++) {
        drain(&queues[i]);
        queues[i].failed.code = CADFT_OK;
    }
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i].memory);
        blocks[i].memory = NULL;
    }
    faults = 0;
    last_fault[0] = '\0';
    pthread_mutex_unlock(&lock);
}
