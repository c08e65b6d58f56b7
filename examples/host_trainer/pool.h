/* SPDX-License-Identifier: Apache-2.0 */
/* The host's threads. The model uses them, and libcadft is given the same
 * ones, so that the program never runs more threads than it was told. */
#ifndef HOST_POOL_H
#define HOST_POOL_H

#include <stdint.h>

#include "cadft/cadft.h"

typedef struct pool pool;

/* `workers` threads, the caller's included; 1 starts none. */
int pool_create(int workers, pool **out);
void pool_destroy(pool *p);
int pool_workers(const pool *p);

/* Run fn(task, i, worker) for i in [0, n). The signature is that of
 * cadft_parallel.parallel_for; `user` is the pool. */
int32_t pool_run(void *user, int64_t n, cadft_task_fn fn, void *task);

#endif
