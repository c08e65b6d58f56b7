/* SPDX-License-Identifier: Apache-2.0 */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A struct that claims more is garbage, not a future version. */
enum { STRUCT_SIZE_LIMIT = 4096 };

uint32_t cadft_version(void)
{
    return CADFT_VERSION_MAJOR * 1000000u + CADFT_VERSION_MINOR * 1000u +
           CADFT_VERSION_PATCH;
}

const char *cadft_status_string(int32_t status)
{
    switch (status) {
#define NAME(code)                                                             \
    case code:                                                                 \
        return #code
        NAME(CADFT_OK);
        NAME(CADFT_E_NULL);
        NAME(CADFT_E_ARG);
        NAME(CADFT_E_SHAPE);
        NAME(CADFT_E_DTYPE);
        NAME(CADFT_E_ALIGN);
        NAME(CADFT_E_ALIAS);
        NAME(CADFT_E_DEVICE);
        NAME(CADFT_E_TOO_NEW);
        NAME(CADFT_E_KEY);
        NAME(CADFT_E_SPACE);
        NAME(CADFT_E_PHASE);
        NAME(CADFT_E_BUSY);
        NAME(CADFT_E_UNSUPPORTED);
        NAME(CADFT_E_LABEL);
        NAME(CADFT_E_SAMPLE);
        NAME(CADFT_E_NONFINITE);
        NAME(CADFT_E_STATE);
        NAME(CADFT_E_FORMAT);
        NAME(CADFT_E_NOMEM);
        NAME(CADFT_E_THREADS);
        NAME(CADFT_E_BACKEND);
        NAME(CADFT_E_CALLBACK);
        NAME(CADFT_E_IO);
#undef NAME
    default:
        return "unknown status";
    }
}

int32_t cadft__fail(cadft_error *error, int32_t status, const char *format, ...)
{
    va_list args;
    error->code = status;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    return status;
}

static int is_error_struct(const cadft_error *theirs)
{
    return theirs->struct_size >= sizeof *theirs &&
           theirs->struct_size <= STRUCT_SIZE_LIMIT;
}

int32_t cadft__error_enter(const cadft_error *theirs, cadft_error *ours)
{
    *ours = (cadft_error){sizeof *ours, CADFT_OK, {0}};
    if (theirs && !is_error_struct(theirs))
        return CADFT_E_ARG; /* nowhere to say why */
    return CADFT_OK;
}

int32_t
cadft__error_leave(cadft_error *theirs, const cadft_error *ours, int32_t status)
{
    if (!theirs || !is_error_struct(theirs))
        return status;
    theirs->code = status;
    if (status == CADFT_OK)
        theirs->message[0] = '\0';
    else
        memcpy(theirs->message, ours->message, sizeof ours->message);
    return status;
}

int32_t cadft__struct_in(void *to,
                         size_t size,
                         const void *from,
                         size_t least,
                         const char *name,
                         cadft_error *error)
{
    uint32_t given;
    memset(to, 0, size);
    if (!from)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL", name);
    memcpy(&given, from, sizeof given);
    if (given < least || given > STRUCT_SIZE_LIMIT)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s.struct_size is %u, expected sizeof the struct "
                           "(%zu in this library)",
                           name, given, size);
    memcpy(to, from, given < size ? given : size);
    for (size_t i = size; i < given; i++)
        if (((const unsigned char *)from)[i])
            return cadft__fail(error, CADFT_E_TOO_NEW,
                               "%s uses a field at byte %zu that this "
                               "library (struct of %zu bytes) does not know",
                               name, i, size);
    return CADFT_OK;
}

int32_t cadft__text_out(const char *text,
                        char *buffer,
                        size_t capacity,
                        size_t *needed,
                        cadft_error *error)
{
    size_t size = strlen(text) + 1;
    if (needed)
        *needed = size;
    if (!buffer && capacity == 0)
        return CADFT_OK;
    if (!buffer)
        return cadft__fail(error, CADFT_E_NULL, "buffer is NULL");
    if (capacity < size)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu bytes, expected %zu", capacity,
                           size);
    memcpy(buffer, text, size);
    return CADFT_OK;
}
