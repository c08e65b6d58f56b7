/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "check_model_bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/ops.h"

#define ARRAYS 5
#define SET_BYTES (320 << 20) /* of all sets: ten times a large cache */
#define SETS_MAX 4096
#define PASSES 3
#define LEAST 60 /* calls */
#define HEAD 64

/* Sets of arrays [rows, cols], used in turns so that none is in a cache. */
typedef struct bench {
    cadft_context *context;
    int64_t rows, cols, sets;
    float *array[SETS_MAX][ARRAYS];
    float *weight, *inv, *rope, *work;
    uint16_t *halves; /* [rows, cols] */
    int32_t *index;
    int64_t at; /* set of this call */
    int64_t tasks;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cadft_array array(void *p)
{
    cadft_array a = {p, 0};
    return a;
}

static void *take(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!p) {
        puts("out of memory");
        exit(2);
    }
    return p;
}

static void fill(float *p, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-30f;
    }
}

static void open_bench(bench *b)
{
    int64_t n = b->rows * b->cols;
    b->sets = 1 + SET_BYTES / (n * ARRAYS * 4);
    if (b->sets > SETS_MAX)
        b->sets = SETS_MAX;
    for (int64_t s = 0; s < b->sets; s++)
        for (int k = 0; k < ARRAYS; k++) {
            b->array[s][k] = (float *)take((size_t)n * 4);
            fill(b->array[s][k], n, (uint32_t)(s * ARRAYS + k));
        }
    b->weight = (float *)take((size_t)b->cols * 4);
    b->inv = (float *)take((size_t)(b->rows * b->cols) * 4);
    b->rope = (float *)take((size_t)(b->rows * HEAD) * 4);
    b->work = (float *)take(130 * ((size_t)b->cols + 16) * 4);
    b->halves = (uint16_t *)take((size_t)n * 2);
    b->index = (int32_t *)take((size_t)b->rows * 4);
    fill(b->weight, b->cols, 1);
    for (int64_t i = 0; i < n; i++)
        b->inv[i] = 1.0f;
    for (int64_t i = 0; i < n; i++)
        b->halves[i] = (uint16_t)(0x3f80 + i % 64);
    for (int64_t r = 0; r < b->rows; r++) {
        b->index[r] = (int32_t)(r * 7919 % b->rows);
        for (int i = 0; i < HEAD / 2; i++) {
            b->rope[r * HEAD + i] = (float)cos((double)(r * i));
            b->rope[r * HEAD + HEAD / 2 + i] = (float)sin((double)(r * i));
        }
    }
}

static void close_bench(bench *b)
{
    for (int64_t s = 0; s < b->sets; s++)
        for (int k = 0; k < ARRAYS; k++)
            free(b->array[s][k]);
    free(b->weight);
    free(b->inv);
    free(b->rope);
    free(b->work);
    free(b->halves);
    free(b->index);
}

/* ---------------------------------------------------- what is measured */

enum {
    T_COPY,
    T_ZERO,
    T_GATHER,
    T_GATHER_BF16,
    T_ROWS_ADD,
    T_NORM,
    T_HEADS,
    T_ADD_NORM,
    T_NORM_GRAD,
    T_ROPE,
    T_SWIGLU,
    T_SWIGLU_GRAD,
    T_ADD,
    T_COLUMN_SUM,
    T_COUNT
};

/* Bytes that are read and written for an element. */
static const struct {
    const char *name;
    double bytes;
} timed[T_COUNT] = {
    {"memcpy", 8},        {"mem_zero", 4},
    {"rows_gather", 8},   {"rows_gather bf16", 6},
    {"rows_add", 12},     {"norm", 8},
    {"norm of heads", 8}, {"add_norm", 16},
    {"norm_grad", 16},    {"rope", 8},
    {"swiglu", 12},       {"swiglu_grad", 20},
    {"add", 12},          {"column_sum", 4},
};

static void copy_task(void *task, int64_t index, int32_t worker)
{
    const bench *b = (const bench *)task;
    int64_t n = b->rows * b->cols;
    int64_t from = n * index / b->tasks, to = n * (index + 1) / b->tasks;
    float *const *a = b->array[b->at];
    (void)worker;
    memcpy(a[1] + from, a[0] + from, (size_t)(to - from) * 4);
}

static int32_t call_copy(bench *b)
{
    const cadft_backend_host *host = &b->context->host;
    b->tasks = b->context->workers == 1 ? 1 : 4 * b->context->workers;
    if (b->tasks > 1)
        return host->parallel_for(host->user, b->tasks, copy_task, b);
    copy_task(b, 0, 0);
    return CADFT_OK;
}

static int32_t call_rows(bench *b, int op, cadft_error *error)
{
    float **a = b->array[b->at];
    cadft_context *context = b->context;
    cadft_rows_args args = {
        .struct_size = sizeof args,
        .table_dtype = CADFT_DTYPE_F32,
        .table = array(a[0]),
        .index = array(b->index),
        .x = array(a[1]),
        .table_rows = b->rows,
        .table_stride = b->cols,
        .rows = b->rows,
        .cols = b->cols,
        .x_stride = b->cols,
    };
    if (op == T_ROWS_ADD)
        return cadft__device_rows_add(context, NULL, &args, error);
    if (op == T_GATHER_BF16) {
        args.table_dtype = CADFT_DTYPE_BF16;
        args.table = array(b->halves);
    }
    return cadft__device_rows_gather(context, NULL, &args, error);
}

static int32_t call_norm(bench *b, int op, cadft_error *error)
{
    float **a = b->array[b->at];
    int64_t groups = op == T_HEADS ? b->cols / HEAD : 1;
    cadft_norm_args args = {
        .struct_size = sizeof args,
        .weight_dtype = CADFT_DTYPE_F32,
        .x = array(a[0]),
        .residual = array(a[2]),
        .weight = array(b->weight),
        .inv = array(b->inv),
        .grad_y = array(a[1]),
        .grad_x = array(a[2]),
        .grad_weight = array(b->weight),
        .work = array(b->work),
        .rows = b->rows,
        .groups = groups,
        .cols = groups > 1 ? HEAD : b->cols,
        .x_stride = b->cols,
        .y_stride = b->cols,
        .grad_x_stride = b->cols,
        .eps = 1e-5,
    };
    if (op == T_NORM_GRAD)
        return cadft__device_norm_grad(b->context, NULL, &args, error);
    args.y = array(a[1]);
    return op == T_ADD_NORM
               ? cadft__device_add_norm(b->context, NULL, &args, error)
               : cadft__device_norm(b->context, NULL, &args, error);
}

static int32_t call_rope(bench *b, cadft_error *error)
{
    cadft_rope_args args = {
        .struct_size = sizeof args,
        .x = array(b->array[b->at][0]),
        .table = array(b->rope),
        .indices = array(b->index),
        .rows = b->rows,
        .groups = b->cols / HEAD,
        .head_dim = HEAD,
        .x_stride = b->cols,
    };
    return cadft__device_rope(b->context, NULL, &args, error);
}

/* Not in place: gradients of gradients would soon be subnormal. */
static int32_t call_swiglu(bench *b, int op, cadft_error *error)
{
    float **a = b->array[b->at];
    cadft_swiglu_args args = {
        .struct_size = sizeof args,
        .gate = array(a[0]),
        .up = array(a[1]),
        .out = array(op == T_SWIGLU ? a[2] : NULL),
        .grad_out = array(a[2]),
        .grad_gate = array(a[3]),
        .grad_up = array(a[4]),
        .rows = b->rows,
        .cols = b->cols,
        .in_stride = b->cols,
        .out_stride = b->cols,
    };
    return op == T_SWIGLU
               ? cadft__device_swiglu(b->context, NULL, &args, error)
               : cadft__device_swiglu_grad(b->context, NULL, &args, error);
}

static int32_t call_add(bench *b, int op, cadft_error *error)
{
    float **a = b->array[b->at];
    cadft_add_args args = {
        .struct_size = sizeof args,
        .x = array(a[0]),
        .y = array(op == T_ADD ? a[1] : b->weight),
        .work = array(b->work),
        .rows = b->rows,
        .cols = b->cols,
        .x_stride = b->cols,
        .y_stride = b->cols,
    };
    return op == T_ADD
               ? cadft__device_add(b->context, NULL, &args, error)
               : cadft__device_column_sum(b->context, NULL, &args, error);
}

static int32_t call(bench *b, int op, cadft_error *error)
{
    switch (op) {
    case T_COPY:
        return call_copy(b);
    case T_ZERO: /* an array that the others only write */
        return cadft__device_zero(b->context, NULL, array(b->array[b->at][3]),
                                  4 * (uint64_t)(b->rows * b->cols), error);
    case T_GATHER:
    case T_GATHER_BF16:
    case T_ROWS_ADD:
        return call_rows(b, op, error);
    case T_NORM:
    case T_HEADS:
    case T_ADD_NORM:
    case T_NORM_GRAD:
        return call_norm(b, op, error);
    case T_ROPE:
        return call_rope(b, error);
    case T_SWIGLU:
    case T_SWIGLU_GRAD:
        return call_swiglu(b, op, error);
    default:
        return call_add(b, op, error);
    }
}

/* ------------------------------------------------------------- together */

static double time_call(bench *b, int op, int64_t set)
{
    cadft_error error = {.struct_size = sizeof error};
    double start = now();
    b->at = set % b->sets;
    if (call(b, op, &error)) {
        printf("%s: %s\n", timed[op].name, error.message);
        exit(2);
    }
    return now() - start;
}

static void lower(double *least, double x)
{
    *least = x < *least ? x : *least;
}

/* Least times of an operation and of memcpy, in turns and each on sets that
 * the other has left alone for long. */
static void measure_op(bench *b, int op)
{
    double copy = INFINITY, best = INFINITY;
    double n = (double)(b->rows * b->cols), rate;
    for (int64_t i = 0; i < PASSES * b->sets || i < LEAST; i++) {
        lower(&copy, time_call(b, T_COPY, i + b->sets / 2));
        lower(&best, time_call(b, op, i));
    }
    rate = timed[op].bytes / best;
    printf("  %-18s %9.1f us %6.1f GB/s %4.0f%% of memcpy\n", timed[op].name,
           1e6 * best, 1e-9 * rate * n,
           100 * rate / (timed[T_COPY].bytes / copy));
}

static void measure(bench *b)
{
    printf("[%lld, %lld], %d workers, %s\n", (long long)b->rows,
           (long long)b->cols, b->context->workers,
           b->context->backend->describe(b->context->device));
    for (int op = 0; op < T_COUNT; op++)
        measure_op(b, op);
}

void check_model_bench(cadft_context *context, int64_t rows, int64_t cols)
{
    static const int64_t shapes[][2] = {
        {1024, 576}, {1024, 1536}, {1024, 3072}};
    static bench b;
    for (int i = 0; i < (rows > 0 ? 1 : 3); i++) {
        memset(&b, 0, sizeof b);
        b.context = context;
        b.rows = rows > 0 ? rows : shapes[i][0];
        b.cols = rows > 0 ? cols : shapes[i][1];
        open_bench(&b);
        measure(&b);
        close_bench(&b);
    }
}
