/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int support_main(int argc, char **argv, Suite *suite)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003u;
    SRunner *runner = srunner_create(suite);
    int failed;
    if (argc == 3 && strcmp(argv[1], "--seed") == 0)
        seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    support_seed(seed);
    srunner_set_fork_status(runner, CK_NOFORK); /* sanitizers, contexts */
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---------------------------------------------------------------- random */

static uint64_t state = 1;

void support_seed(uint64_t seed)
{
    state = seed;
}

uint64_t support_bits(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double support_uniform(void)
{
    return (double)(support_bits() >> 11) * 0x1p-53;
}

double support_normal(void)
{
    double u = 1 - support_uniform(), v = support_uniform();
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

int64_t support_below(int64_t n)
{
    return (int64_t)(support_bits() % (uint64_t)n);
}

/* ------------------------------------------------------ contexts, errors */

cadft_error support_error(void)
{
    return (cadft_error){sizeof(cadft_error), 0, {0}};
}

cadft_context *support_context(const char *isa, int32_t threads)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = threads,
                               .backend_options = isa};
    cadft_context *context = NULL;
    cadft_error err = support_error();
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    return context;
}

/* --------------------------------------------------------------- dtypes */

size_t support_dtype_size(int32_t dtype)
{
    return (size_t)((dtype >> 8) & 0xff) / 8;
}

static float bits_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t float_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float half_get(uint16_t h)
{
    double sign = h >> 15 ? -1 : 1;
    int exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31)
        return mantissa ? NAN : (float)(sign * INFINITY);
    if (exponent == 0)
        return (float)(sign * ldexp(mantissa, -24));
    return (float)(sign * ldexp(mantissa + 1024, exponent - 25));
}

/* Nearest even; overflow to infinity. */
static uint16_t half_put(float f)
{
    uint16_t sign = (uint16_t)(float_bits(f) >> 31 << 15);
    double a = fabs((double)f), unit;
    int e;
    if (isnan(f))
        return 0x7e00;
    if (a >= 65520)
        return (uint16_t)(sign | 0x7c00);
    frexp(a, &e);
    if (e < -13)
        e = -13; /* subnormal: unit 2^-24 */
    unit = ldexp(1, e - 11);
    a = nearbyint(a / unit); /* to nearest even: the default mode */
    if (e == -13)
        return (uint16_t)(sign | (uint16_t)a);
    return (uint16_t)(sign + (uint16_t)((e + 13) << 10) + (uint16_t)a);
}

float support_get(const void *data, int32_t dtype, int64_t i)
{
    if (dtype == CADFT_DTYPE_F32)
        return ((const float *)data)[i];
    if (dtype == CADFT_DTYPE_BF16)
        return bits_float((uint32_t)((const uint16_t *)data)[i] << 16);
    return half_get(((const uint16_t *)data)[i]);
}

void support_put(void *data, int32_t dtype, int64_t i, float value)
{
    uint32_t bits = float_bits(value);
    if (dtype == CADFT_DTYPE_F32)
        ((float *)data)[i] = value;
    else if (dtype == CADFT_DTYPE_BF16)
        ((uint16_t *)data)[i] =
            isnan(value)
                ? 0x7fc0
                : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    else
        ((uint16_t *)data)[i] = half_put(value);
}

int64_t support_ulps(float a, float b)
{
    int32_t x, y;
    if (isnan(a) || isnan(b))
        return INT64_MAX;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x = x < 0 ? INT32_MIN - x : x;
    y = y < 0 ? INT32_MIN - y : y;
    return llabs((long long)x - y);
}

/* --------------------------------------------------------------- batches */

static void wire(support_batch *b)
{
    b->shape[0] = b->row_shape[0] = b->rows;
    b->shape[1] = b->cols;
    b->strides[0] = b->cols;
    b->strides[1] = 1;
    cadft_tensor_init(&b->logits, sizeof b->logits, b->z, b->dtype, 2, b->shape,
                      b->strides, NULL);
    cadft_tensor_init(&b->labels, sizeof b->labels, b->y, CADFT_DTYPE_I32, 1,
                      b->row_shape, NULL, NULL);
    cadft_tensor_init(&b->sample_ids, sizeof b->sample_ids, b->ids,
                      CADFT_DTYPE_I32, 1, b->row_shape, NULL, NULL);
    b->batch = (cadft_loss_batch){.struct_size = sizeof b->batch,
                                  .logits = &b->logits,
                                  .labels = &b->labels,
                                  .sample_ids = &b->sample_ids};
}

static support_batch *batch_alloc(int64_t rows, int64_t cols, int32_t dtype)
{
    support_batch *b = (support_batch *)calloc(1, sizeof *b);
    size_t n = (size_t)(rows > 0 ? rows : 1);
    b->rows = rows;
    b->cols = cols;
    b->dtype = dtype;
    b->z = calloc(n * (size_t)cols, support_dtype_size(dtype));
    b->y = (int32_t *)calloc(n, sizeof *b->y);
    b->ids = (int32_t *)calloc(n, sizeof *b->ids);
    wire(b);
    return b;
}

support_batch *support_batch_new(
    int64_t rows, int64_t cols, int32_t dtype, int64_t n_samples, double scale)
{
    support_batch *b = batch_alloc(rows, cols, dtype);
    for (int64_t i = 0; i < rows * cols; i++)
        support_put(b->z, dtype, i, (float)(scale * support_normal()));
    for (int64_t r = 0; r < rows; r++) {
        b->y[r] = (int32_t)support_below(cols);
        b->ids[r] = (int32_t)(r * n_samples / rows);
    }
    return b;
}

support_batch *support_batch_copy(const support_batch *from)
{
    support_batch *b = batch_alloc(from->rows, from->cols, from->dtype);
    size_t n = (size_t)from->rows;
    memcpy(b->z, from->z,
           n * (size_t)from->cols * support_dtype_size(from->dtype));
    memcpy(b->y, from->y, n * sizeof *b->y);
    memcpy(b->ids, from->ids, n * sizeof *b->ids);
    return b;
}

void support_batch_free(support_batch *b)
{
    free(b->z);
    free(b->y);
    free(b->ids);
    free(b);
}

/* ------------------------------------------------------------- allocator */

static void *heap_alloc(void *user, size_t size, size_t align)
{
    support_heap *heap = (support_heap *)user;
    void *block;
    heap->allocations++;
    if (heap->fail_at > 0 && --heap->fail_at == 0)
        return NULL;
    block = aligned_alloc(align, (size + align - 1) / align * align + align);
    if (block) {
        heap->live_blocks++;
        heap->live_bytes += (int64_t)size;
    }
    return block;
}

static void heap_free(void *user, void *block, size_t size, size_t align)
{
    support_heap *heap = (support_heap *)user;
    (void)align;
    heap->live_blocks--;
    heap->live_bytes -= (int64_t)size;
    free(block);
}

static void heap_destroy(void *user)
{
    ((support_heap *)user)->destroyed++;
}

cadft_allocator support_allocator(support_heap *heap)
{
    return (cadft_allocator){.struct_size = sizeof(cadft_allocator),
                             .user = heap,
                             .alloc = heap_alloc,
                             .free = heap_free,
                             .destroy = heap_destroy};
}
