/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of the kernel comparer; see check_kernels.c. */
#ifndef CADFT_TESTS_CHECK_KERNELS_H
#define CADFT_TESTS_CHECK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/isa.h"

extern const char *const dtype_name[CADFTK_DTYPES];

/* ---- random numbers: integers and exact float steps, no libm ---- */

typedef struct rng {
    uint64_t state;
} rng;

uint64_t rng_next(rng *r);
int64_t rng_below(rng *r, int64_t n);
/* Bell-shaped in [-2, 2], variance 1/3. */
float rng_bell(rng *r);

/* ---- rows ---- */

size_t dtype_bytes(int dtype);
float decode(int dtype, const void *p, int64_t j);
void encode(int dtype, void *p, int64_t j, float x);

/* What a row is filled with; ROW_FINITE of them hold neither NaN nor +inf. */
enum {
    ROW_SMALL, /* scale 0.1 */
    ROW_UNIT,
    ROW_TEN,
    ROW_HUNDRED,
    ROW_TEN_THOUSAND,
    ROW_MILLION,
    ROW_HUGE,     /* up to the largest finite value */
    ROW_MASKED,   /* half -inf */
    ROW_ONE_LEFT, /* all but one -inf */
    ROW_ALL_MASKED,
    ROW_PEAK_4, /* p = 1 - 1e-4 */
    ROW_PEAK_7, /* p = 1 - 1e-7 */
    ROW_JUMP,   /* the maximum leaps late in the row */
    ROW_STAIRS, /* and rises all along it */
    ROW_EQUAL,
    ROW_LEVEL,  /* one above all others, which are equal */
    ROW_LEVELS, /* the same of two levels */
    ROW_LOW,    /* everything far below zero */
    ROW_FINITE,
    ROW_NAN = ROW_FINITE,
    ROW_INF,
    ROW_KINDS
};

extern const char *const row_name[ROW_KINDS];

/* Fills n elements of the dtype at p. */
void row_fill(int kind, int dtype, void *p, int64_t n, rng *r);

/* ---- float64 reference, by long double ---- */

typedef struct ref_stats {
    int nonfinite;
    long double z_max, sum_rest, z_label, sum_t, sum_z, abs_z, entropy;
    int64_t unmasked;
} ref_stats;

ref_stats
reference_stats(int dtype, const void *z, int64_t n, int64_t label, double cap);

/* sum_rest at a base that is off: of exp(rate * (z - z_max)). */
long double
reference_rest(int dtype, const void *z, int64_t n, double cap, double rate);

/* g[j] before rounding to the output type; soft[j] = a * softmax * chain. */
void reference_grad(int dtype,
                    const void *z,
                    int64_t n,
                    const cadftk_row_grad *args,
                    double *g,
                    double *soft);

/* ---- digest and bench ---- */

/* Whether two ISAs give the same bits. */
int same_digest(const cadftk_table *a, const cadftk_table *b);

/* Prints one line per operation and, if `golden` is a file, compares; returns
 * the number of lines that differ. */
int check_digest(const cadftk_table *t, const char *golden, int print);

void bench(const cadftk_table *t, int64_t rows, int64_t columns, int repeats);

#endif
