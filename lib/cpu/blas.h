/* SPDX-License-Identifier: Apache-2.0 */
/* A CBLAS that the host names, loaded at run time: the library links none. */
#ifndef CADFT_CPU_BLAS_H
#define CADFT_CPU_BLAS_H

#include "cadft/base.h"
#include "cpu/matmul_cblas.h"

typedef struct cadft__blas {
    void *library; /* of dlopen */
    cadft__sgemm_fn *sgemm;
    /* OpenBLAS only, else NULL: its threads for the whole process, held at 1
     * while a device uses it. */
    void (*set_threads)(int threads);
    int threads_before;
} cadft__blas;

/* Load `path`, of `length` bytes (it may be followed by more text): a shared
 * object with cblas_sgemm of 32-bit integers. CADFT_E_BACKEND. */
int32_t cadft__blas_open(const char *path,
                         size_t length,
                         cadft__blas *out,
                         cadft_error *error);

/* Give OpenBLAS its threads back. The object stays loaded: it may have threads
 * that run in it. A `blas` of zeros is let pass. */
void cadft__blas_close(cadft__blas *blas);

#endif
