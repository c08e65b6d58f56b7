/* SPDX-License-Identifier: Apache-2.0 */
/* Work of a slot cut into tasks for the context's workers. */
#ifndef CADFT_CPU_SPLIT_H
#define CADFT_CPU_SPLIT_H

#include "cpu/cpu.h"

/* Traffic in bytes that is worth a task of its own: about 8 us at 16 GB/s,
 * what it takes to wake a thread and to wait for it. */
#define CADFT__CPU_TASK_BYTES (128 << 10)

/* Units of work (rows, columns, ...) that make one task, where every unit
 * moves `bytes_each`: all of them if they are not worth a second thread. Only
 * for work whose result does not show the split. */
int64_t
cadft__cpu_block(const cadft_device *device, int64_t units, double bytes_each);

/* ceil(units / block) tasks; one alone runs on this thread. */
int32_t cadft__cpu_run(cadft_device *device,
                       int64_t units,
                       int64_t block,
                       cadft_task_fn fn,
                       void *job,
                       cadft_error *error);

static inline int64_t cadft__min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
