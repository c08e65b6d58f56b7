/* SPDX-License-Identifier: Apache-2.0 */
/* The library's own threads, used when the host brings none. */
#ifndef CADFT_COMMON_POOL_H
#define CADFT_COMMON_POOL_H

#include "common/memory.h"

typedef struct cadft__pool cadft__pool;

/* Processors that the affinity mask allows, at least 1. */
int32_t cadft__cpu_count(void);

/* `workers` counts the caller: workers - 1 threads are started, with all
 * signals blocked. */
int32_t cadft__pool_create(cadft__memory *memory,
                           int32_t workers,
                           cadft__pool **out,
                           cadft_error *error);

/* Stop and join. */
void cadft__pool_destroy(cadft__memory *memory, cadft__pool *pool);

/* Run fn(task, i, worker) for i in [0, n). The caller works too. When the
 * pool is busy with another caller's work, or in a forked child that has no
 * threads, the caller does everything. */
void cadft__pool_run(cadft__pool *pool,
                     int64_t n,
                     cadft_task_fn fn,
                     void *task);

#endif
