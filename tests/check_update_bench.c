/* SPDX-License-Identifier: Apache-2.0 */
/* Times an optimizer's slots. See check_model_bench.h. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/ops.h"
#include "check_model_bench.h"

#define ELEMENTS (8 << 20) /* of each array, 32 MiB of float32 */
#define CALLS 12
#define ARRAYS 5 /* value, grad, m, v, master */

typedef struct bench {
    cadft_context *context;
    int64_t n, tasks;
    float *array[ARRAYS];
    uint64_t seen; /* what was read, so that reading is not left out */
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Both halves of a float32 are the bits of one bfloat16, so that the array is
 * of small numbers of either sign as the one and as the other. */
static float both(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits & 0xffff0000u) | bits >> 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void open_bench(bench *b)
{
    uint32_t seed = 1;
    for (int k = 0; k < ARRAYS; k++) {
        b->array[k] = (float *)aligned_alloc(64, (size_t)(b->n + 16) * 4);
        if (!b->array[k]) {
            puts("out of memory");
            exit(2);
        }
        for (int64_t i = 0; i < b->n; i++) {
            seed = seed * 1664525u + 1013904223u;
            float x = (float)(int32_t)seed * 0x1p-40f;
            b->array[k][i] = both(k == 3 ? x * x : x);
        }
    }
}

/* ---------------------------------------------------------- yardsticks */

static void copy_task(void *task, int64_t index, int32_t worker)
{
    const bench *b = (const bench *)task;
    int64_t from = b->n * index / b->tasks, to = b->n * (index + 1) / b->tasks;
    (void)worker;
    memcpy(b->array[4] + from, b->array[0] + from, (size_t)(to - from) * 4);
}

static void read_task(void *task, int64_t index, int32_t worker)
{
    bench *b = (bench *)task;
    int64_t from = b->n * index / b->tasks, to = b->n * (index + 1) / b->tasks;
    uint64_t x[8], all[8] = {0};
    (void)worker;
    for (int64_t i = from; i + 16 <= to; i += 16) {
        memcpy(x, b->array[0] + i, sizeof x);
        for (int k = 0; k < 8; k++)
            all[k] ^= x[k];
    }
    for (int k = 0; k < 8; k++)
        __atomic_fetch_xor(&b->seen, all[k], __ATOMIC_RELAXED);
}

static int32_t run_tasks(bench *b, cadft_task_fn fn)
{
    const cadft_backend_host *host = &b->context->host;
    b->tasks = b->context->workers == 1 ? 1 : 4 * b->context->workers;
    if (b->tasks > 1)
        return host->parallel_for(host->user, b->tasks, fn, b);
    fn(b, 0, 0);
    return CADFT_OK;
}

/* ------------------------------------------------------ what is measured */

enum { COPY, READ, SQUARES, ADAMW, SGD };

enum { BF16 = 1, MASTER = 2, MOMENTUM = 4 };

/* Bytes that are read and written for an element. */
static const struct timed {
    const char *name;
    double bytes;
    int what, flags;
} timed[] = {{"memcpy", 8, COPY, 0},
             {"reading", 4, READ, 0},
             {"sum_squares", 4, SQUARES, 0},
             {"sum_squares bf16", 2, SQUARES, BF16},
             {"adamw", 28, ADAMW, 0},
             {"adamw bf16", 22, ADAMW, BF16},
             {"adamw bf16 master", 28, ADAMW, BF16 | MASTER},
             {"sgd", 12, SGD, 0},
             {"sgd momentum", 20, SGD, MOMENTUM}};

enum { TIMED = sizeof timed / sizeof *timed };

static cadft_array array_of(const bench *b, int k)
{
    cadft_array a = {b->array[k], 0};
    return a;
}

/* A step so small that a thousand of them change nothing. */
static int32_t
call_update(bench *b, const struct timed *what, cadft_error *error)
{
    int32_t dtype = what->flags & BF16 ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32;
    cadft_update_args args = {
        .struct_size = sizeof args,
        .value_dtype = dtype,
        .grad_dtype = dtype,
        .value = array_of(b, 0),
        .grad = array_of(b, 1),
        .n = b->n,
        .grad_scale = 1,
        .lr = 1e-9,
        .weight_decay = 0.01,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .correction1 = 1,
        .correction2 = 1,
    };
    if (what->flags & MASTER)
        args.master = array_of(b, 4);
    if (what->what == ADAMW || what->flags & MOMENTUM)
        args.m = array_of(b, 2);
    args.v = array_of(b, 3);
    return what->what == ADAMW
               ? cadft__device_adamw(b->context, NULL, &args, error)
               : cadft__device_sgd(b->context, NULL, &args, error);
}

static int32_t
call_squares(bench *b, const struct timed *what, cadft_error *error)
{
    cadft_sum_squares_args args = {
        .struct_size = sizeof args,
        .dtype = what->flags & BF16 ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32,
        .x = array_of(b, 0),
        .out = array_of(b, 3),
        .work = array_of(b, 4),
        .n = b->n,
    };
    return cadft__device_sum_squares(b->context, NULL, &args, error);
}

static double time_call(bench *b, const struct timed *what)
{
    cadft_error error = {.struct_size = sizeof error};
    double start = now();
    int32_t status;
    if (what->what == COPY)
        status = run_tasks(b, copy_task);
    else if (what->what == READ)
        status = run_tasks(b, read_task);
    else if (what->what == SQUARES)
        status = call_squares(b, what, &error);
    else
        status = call_update(b, what, &error);
    if (status) {
        printf("%s: %s\n", what->name, error.message);
        exit(2);
    }
    return now() - start;
}

/* All in turns: what else the machine does then falls on all alike. */
void check_update_bench(cadft_context *context, int64_t n)
{
    double least[TIMED];
    bench b = {.context = context, .n = n > 0 ? n : ELEMENTS};
    open_bench(&b);
    for (int i = 0; i < CALLS; i++)
        for (int k = 0; k < TIMED; k++) {
            double took = time_call(&b, &timed[k]);
            least[k] = i == 0 || took < least[k] ? took : least[k];
        }
    printf("[%lld], %d workers, %s\n", (long long)b.n, context->workers,
           context->backend->describe(context->device));
    for (int k = 0; k < TIMED; k++) {
        double rate = timed[k].bytes * (double)b.n / least[k];
        printf("  %-18s %9.1f us %6.1f GB/s %4.0f%% of memcpy\n", timed[k].name,
               1e6 * least[k], 1e-9 * rate,
               100 * rate / (timed[0].bytes * (double)b.n / least[0]));
    }
    for (int k = 0; k < ARRAYS; k++)
        free(b.array[k]);
}
