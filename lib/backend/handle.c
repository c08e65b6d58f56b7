/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/handle.h"

#include <errno.h>

#include "common/error.h"

void cadft__handle_init(cadft__handle *handle,
                        cadft_context *context,
                        void (*free)(cadft__handle *handle))
{
    handle->context = context;
    handle->free = free;
    atomic_init(&handle->references, 1);
    atomic_flag_clear(&handle->busy);
    cadft__context_retain(context);
}

void cadft__handle_retain(cadft__handle *handle)
{
    atomic_fetch_add(&handle->references, 1);
}

void cadft__handle_release(cadft__handle *handle)
{
    int before = errno;
    cadft_context *context;
    if (!handle || atomic_fetch_sub(&handle->references, 1) != 1)
        return;
    context = handle->context;
    handle->free(handle);
    cadft__context_release(context);
    errno = before;
}

int32_t cadft__handle_enter(cadft__handle *handle,
                            const char *name,
                            cadft_error *theirs,
                            cadft__call *call)
{
    int32_t status = cadft__error_enter(theirs, &call->error);
    if (status)
        return status;
    call->saved_errno = errno;
    if (!handle)
        return cadft__error_leave(
            theirs, &call->error,
            cadft__fail(&call->error, CADFT_E_NULL, "%s is NULL", name));
    if (atomic_flag_test_and_set(&handle->busy))
        return cadft__error_leave(
            theirs, &call->error,
            cadft__fail(&call->error, CADFT_E_BUSY,
                        "%s is inside another call: from a callback, or "
                        "from a second thread",
                        name));
    return CADFT_OK;
}

int32_t cadft__handle_leave(cadft__handle *handle,
                            cadft_error *theirs,
                            cadft__call *call,
                            int32_t status)
{
    if (status)
        cadft__context_note(handle->context, &call->error);
    atomic_flag_clear(&handle->busy);
    errno = call->saved_errno;
    return cadft__error_leave(theirs, &call->error, status);
}

int32_t cadft__call_enter(cadft_error *theirs, cadft__call *call)
{
    call->saved_errno = errno;
    return cadft__error_enter(theirs, &call->error);
}

int32_t cadft__call_leave(cadft_context *context,
                          cadft_error *theirs,
                          cadft__call *call,
                          int32_t status)
{
    if (context && call->error.message[0])
        cadft__context_note(context, &call->error);
    errno = call->saved_errno;
    return cadft__error_leave(theirs, &call->error, status);
}
