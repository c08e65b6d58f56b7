/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of the matrix product's comparer; see check_matmul.c. */
#ifndef CADFT_TESTS_CHECK_MATMUL_H
#define CADFT_TESTS_CHECK_MATMUL_H

#include <stddef.h>
#include <stdint.h>

#include "common/pool.h"
#include "cpu/isa.h"
#include "cpu/matmul.h"
#include "cpu/matmul_cblas.h"

/* A host for the backend: `workers` threads of the library's own. */
typedef struct crew {
    cadft__memory memory;
    cadft__pool *pool;
    cadft_backend_host host;
} crew;

void crew_open(crew *team, int32_t workers);
void crew_close(crew *team);

/* The build's CBLAS, on one thread; NULL if there is none. */
cadft__sgemm_fn *cblas_engine(void);

typedef struct bench_options {
    int64_t m, n, k; /* 0: the built-in list */
    int32_t threads; /* at most */
    int rounds;
} bench_options;

void matmul_bench(const cadftk_table *table, const bench_options *options);

#endif
