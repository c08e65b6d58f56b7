/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The matrix product of cpu/matmul.h by a CBLAS that the caller has at hand,
 * on the host's workers. C is cut into tiles whose edges depend on the shape
 * alone, one cblas_sgemm each, so the bits do not depend on the number of
 * workers. They do depend on m, n, the processor and the BLAS.
 *
 * The BLAS must take calls from several threads and start none of its own:
 * its threads would come on top of the workers, and OpenBLAS lets one caller
 * at a time into its own. openblas_set_num_threads(1) does it, for the whole
 * process, so that is for the host to decide.
 */
#ifndef CADFT_CPU_MATMUL_CBLAS_H
#define CADFT_CPU_MATMUL_CBLAS_H

#include "cpu/matmul.h"

/* cblas_sgemm of an LP64 library; enumerations are passed as int. */
typedef void cadft__sgemm_fn(int order,
                             int a_transposed,
                             int b_transposed,
                             int m,
                             int n,
                             int k,
                             float alpha,
                             const float *a,
                             int lda,
                             const float *b,
                             int ldb,
                             float beta,
                             float *c,
                             int ldc);

/* Bytes of scratch: 2 MiB for each worker where B is bf16, else none. */
uint64_t cadft__matmul_cblas_scratch(const cadft__matmul_args *args,
                                     int32_t workers);

/* As cadft__matmul(). CADFT_E_SHAPE where a stride or k does not fit the
 * int of the BLAS. */
int32_t cadft__matmul_cblas(cadft__sgemm_fn *sgemm,
                            const cadft__matmul_args *args,
                            const cadft_backend_host *host,
                            void *scratch);

#endif
