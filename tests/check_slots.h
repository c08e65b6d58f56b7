/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the comparers of a backend's slots share: arrays in the backend's
 * memory with canaries, what is expected in them, and digests. Uses the public
 * contract alone (cadft/backend.h), so that it drives any backend: arrays are
 * taken from mem_alloc, filled by copy_in and read by copy_out, never through
 * an address.
 */
#ifndef CADFT_TESTS_CHECK_SLOTS_H
#define CADFT_TESTS_CHECK_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "cadft/backend.h"

#define CHECK_U 0x1p-24 /* half an ulp of 1 in float32 */

/* One line of a digest: the outputs of an operation, FNV-1a 64. */
typedef struct check_line {
    char name[32];
    uint64_t digest;
} check_line;

/* A backend under test. The first four are the caller's, the others zero. */
typedef struct check_bed {
    const cadft_backend *backend;
    cadft_device *device;
    void *stream;
    /* 1: hold it to the error bounds of the built-in backend's kernels, not
     * only to those that float32 sums allow; 0 for any other backend. */
    int tight;
    uint64_t random; /* state of the random numbers, set by the cases */
    int failures;    /* printed to stdout, the first twenty of them */
    int cases;
    int lines;
    check_line line[64];
} check_bed;

/* ------------------------------------------------------ random numbers
 * of integers and exact float steps: the same on every machine */

uint64_t check_bits(check_bed *bed);
int64_t check_below(check_bed *bed, int64_t n); /* [0, n) */
float check_bell(check_bed *bed); /* bell-shaped in [-2, 2], variance 1/3 */

/* ------------------------------------------------------------- arrays */

/* A matrix in the backend's memory at an odd place of a block of its own,
 * everything beside its elements being canary. */
typedef struct check_mat {
    const char *name;
    int32_t dtype; /* CADFT_DTYPE_F32, _BF16, _F64 or _I32 */
    int64_t rows, cols, stride;
    void *base;
    uint64_t bytes, offset;
    unsigned char *before, *after; /* the block, sent and fetched */
    double *want, *tolerance;      /* [rows, cols]; NULL: stays as it was */
    int scratch;                   /* what is in it does not matter */
} check_mat;

#define CHECK_MATS 16

/* The arrays of one call. */
typedef struct check_stage {
    check_bed *bed;
    char what[96]; /* the case, for messages */
    int count;
    check_mat mat[CHECK_MATS];
} check_stage;

void check_open(check_stage *stage, check_bed *bed, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A new matrix of zeros, rows `stride` >= cols apart; lives until
 * check_close. */
check_mat *check_new(check_stage *stage,
                     const char *name,
                     int32_t dtype,
                     int64_t rows,
                     int64_t cols,
                     int64_t stride);
void check_fill(check_stage *stage, check_mat *mat, float scale);
void check_set(check_mat *mat, int64_t r, int64_t c, double value);
double check_get(const check_mat *mat, int64_t r, int64_t c); /* as sent */
double check_got(const check_mat *mat, int64_t r, int64_t c); /* as read */

/* Announce that the call writes the matrix, and what. */
void check_written(check_mat *mat);
void check_want(
    check_mat *mat, int64_t r, int64_t c, double value, double tolerance);

/* Scratch of the size that work_bytes asks for, NULL for none. `rows` points
 * into `args`: no less may be asked for with more of them. */
check_mat *
check_work(check_stage *stage, int32_t op, const void *args, int64_t *rows);

/* Absent for NULL. */
cadft_array check_array(const check_mat *mat);

void check_send(check_stage *stage);
/* What check_got gives; what was written is gone after check_fetch. */
void check_read(check_stage *stage, check_mat *mat);
/* Read everything back, compare, add what was written to the digest. `status`
 * and `error` are the call's. */
void check_fetch(check_stage *stage, int32_t status, const cadft_error *error);
void check_close(check_stage *stage);

/* Start the digest of an operation. */
void check_begin(check_bed *bed, const char *name, uint64_t seed);

void check_fail(const check_stage *stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A cadft_error ready for a slot. */
cadft_error check_error(void);

/* ---------------------------------------------------------- the checks */

/* The slots of an optimizer; as check_pointwise. check_update.c */
int check_updates(check_bed *bed, uint64_t seed);

/* Every slot of a model but the matrix product and attention; returns the
 * number of failures, which is in bed->failures too. Runs with equal seed
 * must end with equal bed->line[0 .. lines) where the same bits are promised:
 * any number of workers, the fused instruction sets. */
int check_pointwise(check_bed *bed, uint64_t seed);

/* Parts of it, by file. */
void check_norms(check_bed *bed, uint64_t seed);  /* check_pointwise_norm.c */
void check_slopes(check_bed *bed, uint64_t seed); /* ..._slopes.c */

#endif
