/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/split.h"

#include "common/error.h"

/* A few tasks for each worker, so that one which starts late or runs slowly
 * leaves its share to the others. */
#define TASKS_PER_WORKER 4

int64_t
cadft__cpu_block(const cadft_device *device, int64_t units, double bytes_each)
{
    int64_t workers = device->host->max_workers, most, tasks;
    double worth = bytes_each * (double)units / CADFT__CPU_TASK_BYTES;
    if (workers <= 1 || worth < 2)
        return units;
    most = cadft__min(workers * TASKS_PER_WORKER, units);
    tasks = worth < (double)most ? (int64_t)worth : most;
    return (units + tasks - 1) / tasks;
}

int32_t cadft__cpu_run(cadft_device *device,
                       int64_t units,
                       int64_t block,
                       cadft_task_fn fn,
                       void *job,
                       cadft_error *error)
{
    int64_t tasks;
    if (units <= 0)
        return CADFT_OK;
    tasks = (units + block - 1) / block;
    if (tasks == 1) {
        fn(job, 0, 0);
        return CADFT_OK;
    }
    if (device->host->parallel_for(device->host->user, tasks, fn, job))
        return cadft__fail(error, CADFT_E_THREADS,
                           "parallel_for did not run all of %lld tasks",
                           (long long)tasks);
    return CADFT_OK;
}
