/* SPDX-License-Identifier: Apache-2.0 */
/* The border of every call on a handle: who calls, may it, and where its
 * error goes. */
#ifndef CADFT_BACKEND_HANDLE_H
#define CADFT_BACKEND_HANDLE_H

#include <stdatomic.h>

#include "backend/context.h"

/* First member of every handle that a context makes: a pointer to the noun is
 * one to its handle. */
typedef struct cadft__handle {
    cadft_context *context;
    void (*free)(struct cadft__handle *handle);
    atomic_int references;
    atomic_flag busy;
} cadft__handle;

/* A call's own error and what it puts back. */
typedef struct cadft__call {
    cadft_error error;
    int saved_errno;
} cadft__call;

/* Starts a handle's life, with one reference to it and one of it to the
 * context. `free` gives back what the noun has and its own memory; it runs
 * when the last reference goes, before that to the context. */
void cadft__handle_init(cadft__handle *handle,
                        cadft_context *context,
                        void (*free)(cadft__handle *handle));

/* What needs another noun keeps it alive. */
void cadft__handle_retain(cadft__handle *handle);

/* Give a reference up, the host's in destroy. NULL is let pass; errno stays. */
void cadft__handle_release(cadft__handle *handle);

/* Start a call: CADFT_E_NULL for no handle (called `name`), CADFT_E_BUSY for
 * one that is inside another call. After CADFT_OK the handle is this call's
 * until cadft__handle_leave, which returns `status`. */
int32_t cadft__handle_enter(cadft__handle *handle,
                            const char *name,
                            cadft_error *theirs,
                            cadft__call *call);

int32_t cadft__handle_leave(cadft__handle *handle,
                            cadft_error *theirs,
                            cadft__call *call,
                            int32_t status);

/* The border of a public call whose argument is called as the noun: begins
 * with CADFT__ENTER, which declares `call` and `status`, and ends with
 * CADFT__LEAVE. */
#define CADFT__ENTER(noun)                                                     \
    cadft__call call;                                                          \
    int32_t status = cadft__handle_enter((noun) ? &(noun)->handle : NULL,      \
                                         #noun, error, &call);                 \
    if (status)                                                                \
    return status

#define CADFT__LEAVE(noun)                                                     \
    return cadft__handle_leave(&(noun)->handle, error, &call, status)

/* The same for a call that makes a handle or needs none. `context` may be
 * NULL; cadft__call_leave returns `status`. */
int32_t cadft__call_enter(cadft_error *theirs, cadft__call *call);

int32_t cadft__call_leave(cadft_context *context,
                          cadft_error *theirs,
                          cadft__call *call,
                          int32_t status);

#endif
