/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share: a batch in one struct, random numbers with a printed
 * seed, an allocator that counts and fails, and the main function's body. */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <check.h>
#include <stdint.h>

#include "cadft/cadft.h"

/* Run a suite in this process, normal output; exit status for main. The seed
 * of the random numbers is --seed N, else the clock, and is printed. */
int support_main(int argc, char **argv, Suite *suite);

/* splitmix64, seeded by support_main and by support_seed. */
void support_seed(uint64_t seed);
uint64_t support_bits(void);
double support_uniform(void); /* [0, 1) */
double support_normal(void);
int64_t support_below(int64_t n); /* [0, n) */

/* Fail the test with the library's sentence unless status is as expected. */
#define CHECK_STATUS(status, expected, err)                                    \
    ck_assert_msg((status) == (expected), "status %s, expected %s: %s",        \
                  cadft_status_string(status), cadft_status_string(expected),  \
                  (err).message)
#define CHECK_OK(status, err) CHECK_STATUS(status, CADFT_OK, err)

/* An error struct ready for use. */
cadft_error support_error(void);

/* A context: isa NULL for the best, threads 0 for the default. */
cadft_context *support_context(const char *isa, int32_t threads);

/* A host-memory batch of [rows, cols] logits with everything dense; the
 * fields may be changed before use. Owns its arrays. */
typedef struct support_batch {
    int64_t rows, cols;
    int64_t shape[2], row_shape[1];
    int64_t strides[2];
    void *z; /* logits in dtype */
    int32_t dtype;
    int32_t *y, *ids; /* [rows] */
    cadft_tensor logits, labels, sample_ids;
    cadft_loss_batch batch;
} support_batch;

/* Random logits N(0, scale), labels, and ids 0..n_samples-1 in runs. */
support_batch *support_batch_new(
    int64_t rows, int64_t cols, int32_t dtype, int64_t n_samples, double scale);
/* A copy of its own, to be cut or changed. */
support_batch *support_batch_copy(const support_batch *from);
void support_batch_free(support_batch *batch);

/* Element sizes and conversions between float and 16-bit types. */
size_t support_dtype_size(int32_t dtype);
float support_get(const void *data, int32_t dtype, int64_t i);
void support_put(void *data, int32_t dtype, int64_t i, float value);

/* Distance in units in the last place of two floats; huge if signs differ
 * or one is NaN. */
int64_t support_ulps(float a, float b);

/* An allocator for cadft_context_desc that counts live blocks and bytes and
 * can fail the nth allocation from now (fail_at 0: never). */
typedef struct support_heap {
    int64_t live_blocks, live_bytes, allocations, fail_at, destroyed;
} support_heap;
cadft_allocator support_allocator(support_heap *heap);

#endif
