/* SPDX-License-Identifier: Apache-2.0 */
/* A CBLAS that the host names, loaded at run time: the library links none. It
 * stays loaded, as it may have threads that run in it. */
#ifndef CADFT_CPU_BLAS_H
#define CADFT_CPU_BLAS_H

#include "cadft/backend.h"
#include "cpu/matmul_cblas.h"

/* Load `path`, of `length` bytes (it may be followed by more text), a shared
 * object with cblas_sgemm of 32-bit integers, and give that function. Warns in
 * the log of an OpenBLAS that has threads of its own. CADFT_E_BACKEND. */
int32_t cadft__blas_open(const char *path,
                         size_t length,
                         const cadft_backend_host *host,
                         cadft__sgemm_fn **out,
                         cadft_error *error);

#endif
