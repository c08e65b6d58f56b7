/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digest and bench of the kernel comparer.
 *
 * The digest is FNV-1a 64 over the output bytes for inputs made of integer
 * arithmetic only, one line per operation. All fused ISAs must print the same
 * lines, on any machine: the golden file is how an AArch64 build under an
 * emulator is compared with AVX2.
 */
#define _POSIX_C_SOURCE 200809L
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t fnv(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

#define FNV_START 0xcbf29ce484222325u
#define DIGEST_MAX 5003

typedef struct digest_op {
    const char *name;
    int grad, f32_out;
    uint32_t want;
    double cap, c;
} digest_op;

static const digest_op digest_ops[] = {
    {"stats", 0, 0, 0, 0.0, 0.0},
    {"stats-entropy-sum", 0, 0, 3, 0.0, 0.0},
    {"stats-cap", 0, 0, 0, 30.0, 0.0},
    {"stats-cap-entropy-sum", 0, 0, 3, 5.0, 0.0},
    {"grad", 1, 0, 0, 0.0, 0.0},
    {"grad-to-f32", 1, 1, 0, 0.0, 0.0},
    {"grad-smoothed", 1, 0, 0, 0.0, 0.125},
    {"grad-cap", 1, 1, 0, 30.0, 0.25},
};

static uint64_t hash_stats(uint64_t h, const cadftk_row_stats *s)
{
    double x[5] = {s->z_max, s->sum_rest, s->z_label, s->sum_t, s->sum_z};
    return fnv(fnv(h, x, sizeof x), &s->unmasked, sizeof s->unmasked);
}

static uint64_t
digest_one(const cadftk_table *t, const digest_op *op, int dtype)
{
    static const int64_t lengths[] = {1, 5, 31, 32, 33, 70, 512, 1000, 5003};
    static const int kinds[] = {ROW_SMALL,  ROW_TEN,          ROW_HUNDRED,
                                ROW_MASKED, ROW_JUMP,         ROW_STAIRS,
                                ROW_LOW,    ROW_TEN_THOUSAND, ROW_HUGE};
    static unsigned char z[DIGEST_MAX * 4], g[DIGEST_MAX * 4];
    rng r = {42};
    uint64_t h = FNV_START;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            int64_t n = lengths[i];
            cadftk_row_stats s;
            row_fill(kinds[k], dtype, z, n, &r);
            t->row_stats[dtype](z, n, n / 2, op->cap, op->want, &s);
            if (!op->grad) {
                h = hash_stats(h, &s);
                continue;
            }
            /* + 1 for the log of the sum: libm's may differ by an ulp */
            cadftk_row_grad a = {s.z_max + 1.0, 0.37,    op->c, -0.5,
                                 n / 2,         op->cap, 0};
            t->row_grad[dtype][op->f32_out](z, g, n, &a);
            h = fnv(h, g, (size_t)n * (op->f32_out ? 4 : dtype_bytes(dtype)));
        }
    return h;
}

static int golden_has(const char *path, const char *line)
{
    char have[128];
    int found = 0;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(have, sizeof have, f))
        found = strncmp(have, line, strlen(line)) == 0;
    if (f)
        fclose(f);
    return found;
}

int check_digest(const cadftk_table *t, const char *golden, int print)
{
    int differ = 0;
    for (size_t i = 0; i < sizeof digest_ops / sizeof *digest_ops; i++)
        for (int d = 0; d < CADFTK_DTYPES; d++) {
            char line[128];
            snprintf(line, sizeof line, "%s %s %016llx", digest_ops[i].name,
                     dtype_name[d],
                     (unsigned long long)digest_one(t, &digest_ops[i], d));
            if (print)
                puts(line);
            if (golden && !golden_has(golden, line)) {
                printf("%s: digest differs: %s\n", t->name, line);
                differ++;
            }
        }
    return differ;
}

int same_digest(const cadftk_table *a, const cadftk_table *b)
{
    int differ = 0;
    for (size_t i = 0; i < sizeof digest_ops / sizeof *digest_ops; i++)
        for (int d = 0; d < CADFTK_DTYPES; d++)
            if (digest_one(a, &digest_ops[i], d) !=
                digest_one(b, &digest_ops[i], d)) {
                printf("%s and %s differ: %s %s\n", a->name, b->name,
                       digest_ops[i].name, dtype_name[d]);
                differ++;
            }
    return differ == 0;
}

/* ---- bench ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static volatile uint64_t bench_sink;

/* The machine's own speed: a pass that reads, and one that updates. */
static void pass_read(const uint64_t *p, size_t n)
{
    uint64_t x[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            x[k] ^= p[i + k];
    for (size_t k = 0; k < 8; k++)
        bench_sink ^= x[k];
}

static void pass_update(uint64_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] ^= 0x0000000100000001u;
}

enum { T_READ, T_STATS, T_ENTROPY, T_UPDATE, T_GRAD, T_COUNT };

typedef struct bench_run {
    const cadftk_table *t;
    int dtype;
    unsigned char *z;
    int64_t rows, columns;
} bench_run;

static void bench_stats(const bench_run *b, uint32_t want)
{
    size_t stride = (size_t)b->columns * dtype_bytes(b->dtype);
    for (int64_t i = 0; i < b->rows; i++) {
        cadftk_row_stats s;
        b->t->row_stats[b->dtype](b->z + (size_t)i * stride, b->columns, 7, 0.0,
                                  want, &s);
        bench_sink ^= (uint64_t)(s.sum_rest > 0.5);
    }
}

static void bench_grad(const bench_run *b)
{
    size_t stride = (size_t)b->columns * dtype_bytes(b->dtype);
    cadftk_row_grad a = {20.0, 1.0, 0.0, -0.5, 7, 0.0, 0};
    for (int64_t i = 0; i < b->rows; i++) {
        void *p = b->z + (size_t)i * stride;
        b->t->row_grad[b->dtype][0](p, p, b->columns, &a);
    }
}

static void bench_dtype(const bench_run *b, int repeats)
{
    double time[T_COUNT][64];
    size_t elements = (size_t)(b->rows * b->columns);
    size_t bytes = elements * dtype_bytes(b->dtype), words = bytes / 8;
    for (int k = 0; k < repeats; k++) {
        double at[T_COUNT + 1];
        rng r = {1};
        row_fill(ROW_TEN, b->dtype, b->z, (int64_t)b->columns, &r);
        for (int64_t i = 1; i < b->rows; i++)
            memcpy(b->z + (size_t)i * (bytes / (size_t)b->rows), b->z,
                   bytes / (size_t)b->rows);
        at[T_READ] = now();
        pass_read((const uint64_t *)(void *)b->z, words);
        at[T_STATS] = now();
        bench_stats(b, 0);
        at[T_ENTROPY] = now();
        bench_stats(b, CADFTK_WANT_ENTROPY);
        at[T_UPDATE] = now();
        pass_update((uint64_t *)(void *)b->z, words);
        at[T_GRAD] = now();
        bench_grad(b);
        at[T_COUNT] = now();
        for (int i = 0; i < T_COUNT; i++)
            time[i][k] = at[i + 1] - at[i];
    }
    double m[T_COUNT], gb = (double)bytes * 1e-9;
    for (int i = 0; i < T_COUNT; i++)
        m[i] = median(time[i], repeats);
    printf("%-6s %-4s read %5.1f  stats %5.1f  entropy %5.1f  update %5.1f  "
           "grad %5.1f GB/s read;  stats + grad at %3.0f%% of read + update\n",
           b->t->name, dtype_name[b->dtype], gb / m[T_READ], gb / m[T_STATS],
           gb / m[T_ENTROPY], gb / m[T_UPDATE], gb / m[T_GRAD],
           100.0 * (m[T_READ] + m[T_UPDATE]) / (m[T_STATS] + m[T_GRAD]));
}

void bench(const cadftk_table *t, int64_t rows, int64_t columns, int repeats)
{
    bench_run b = {t, 0, NULL, rows, columns};
    b.z = malloc((size_t)(rows * columns) * 4);
    for (b.dtype = 0; b.z && b.dtype < CADFTK_DTYPES; b.dtype++)
        bench_dtype(&b, repeats < 64 ? repeats : 64);
    free(b.z);
}
