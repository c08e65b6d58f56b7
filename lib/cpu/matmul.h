/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix product on the host's workers:
 *
 *   C[m, n] = (C) + (bias[n]) + op(A)[m, k] op(B)[k, n]
 *
 * The order of every element's sum depends on k alone, see
 * cadft__matmul_depth(): not on m, n, the strides, the transposes, the number
 * of workers or, among the fused ISAs, the ISA. So a row of C has the same
 * bits computed alone or among others. The sum over a block starts from 0 and
 * is a chain of fused multiply-adds; the first block's is added to
 * (C + bias), C, bias or to nothing, whichever there is, and each further
 * block's to that, in order of k.
 */
#ifndef CADFT_CPU_MATMUL_H
#define CADFT_CPU_MATMUL_H

#include "cadft/backend.h"
#include "cpu/kernels/kernels.h"

typedef struct cadft__matmul_args {
    int64_t m, n, k;       /* >= 0 */
    const float *a;        /* [m, k] or, transposed, stored as [k, m] */
    const void *b;         /* [k, n] or stored as [n, k] */
    const void *bias;      /* [n], or NULL */
    float *c;              /* [m, n]; overlaps nothing else */
    int64_t lda, ldb, ldc; /* row strides in elements, >= the row's length */
    int32_t a_transposed, b_transposed;
    int32_t b_dtype, bias_dtype; /* CADFTK_F32 or CADFTK_BF16 */
    int32_t accumulate;          /* C is added to, else only written */
} cadft__matmul_args;

/* Length of the blocks that k is cut into (the last may be shorter): as equal
 * as multiples of 8 can be, at most CADFT__MATMUL_DEPTH. */
#define CADFT__MATMUL_DEPTH 384
int64_t cadft__matmul_depth(int64_t k);

/* Bytes of scratch for `workers` workers, aligned to 64; below 2 MiB for
 * each. Grows with m, n and k. */
uint64_t cadft__matmul_scratch(const cadftk_table *table,
                               const cadft__matmul_args *args,
                               int32_t workers);

/*
 * CADFT_OK, or CADFT_E_THREADS when the host's parallel_for fails. k = 0
 * gives the sum of no products: C + bias, C, bias or 0. Where m or n is 0
 * nothing is touched. Called from one thread; not from inside a task.
 */
int32_t cadft__matmul(const cadftk_table *table,
                      const cadft__matmul_args *args,
                      const cadft_backend_host *host,
                      void *scratch);

#endif
