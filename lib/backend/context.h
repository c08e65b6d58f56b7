/* SPDX-License-Identifier: Apache-2.0 */
/* The context behind the public handle, and what nouns reach through it. */
#ifndef CADFT_BACKEND_CONTEXT_H
#define CADFT_BACKEND_CONTEXT_H

#include <pthread.h>

#include "cadft/backend.h"
#include "common/memory.h"
#include "common/pool.h"

struct cadft_context {
    atomic_int references;
    cadft__memory memory;
    cadft_log log;
    cadft_parallel parallel; /* the host's; max_workers 0 without */
    cadft__pool *pool;       /* ours, else NULL */
    int32_t workers;
    const cadft_backend *backend;
    cadft_backend_host host;
    cadft_device *device;
    pthread_mutex_t lock; /* guards last_error */
    char last_error[sizeof(((cadft_error *)0)->message)];
};

void cadft__context_retain(cadft_context *context);
void cadft__context_release(cadft_context *context);

/* Keep the message of a failed call for CADFT_CONTEXT_LAST_ERROR. */
void cadft__context_note(cadft_context *context, const cadft_error *error);

/* Write a line to the host's log, if it wants this level. */
void cadft__context_log(cadft_context *context,
                        int32_t level,
                        const char *format,
                        ...) __attribute__((format(printf, 3, 4)));

/* Find the table of `name` (NULL, "cpu", or a plug-in's path) and check it
 * against the contract. */
int32_t cadft__backend_find(const char *name,
                            const cadft_backend **out,
                            cadft_error *error);

/* What a slot returned, made fit to be returned to the host: no positive
 * status, no failure without a sentence. */
int32_t
cadft__slot_status(int32_t status, const char *slot, cadft_error *error);

#endif
