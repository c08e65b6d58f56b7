/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, struct versions and texts at the border of the library. Inside it
 * every `cadft_error *error` points to a whole struct of ours; the border
 * copies it to the caller's. */
#ifndef CADFT_COMMON_ERROR_H
#define CADFT_COMMON_ERROR_H

#include "cadft/base.h"

/* Set the error and return `status`. Text over the limit is cut. */
int32_t cadft__fail(cadft_error *error, int32_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Return from here when a step of the function fails. */
#define CADFT__TRY(call)                                                       \
    do {                                                                       \
        int32_t try_status = (call);                                           \
        if (try_status)                                                        \
            return try_status;                                                 \
    } while (0)

/* Start a public call: refuse a caller's error struct that is too small to
 * be one, clear ours. */
int32_t cadft__error_enter(const cadft_error *theirs, cadft_error *ours);

/* End a public call: copy ours to theirs (which may be NULL); returns
 * status. */
int32_t cadft__error_leave(cadft_error *theirs,
                           const cadft_error *ours,
                           int32_t status);

/* Bytes of a struct up to and with a field: its size when that field was its
 * last. The least size that is accepted is that of the first release. */
#define CADFT__SIZE_TO(type, field)                                            \
    (offsetof(type, field) + sizeof(((type *)0)->field))

/* Copy a caller's struct of any version: `size` is what we know, `least` the
 * size of its first release, `name` for the message. Smaller: zero tail;
 * larger: its tail must be zero, else CADFT_E_TOO_NEW, with the part we know
 * copied all the same (its destroy callback must run). On other errors `to`
 * is zero. */
int32_t cadft__struct_in(void *to,
                         size_t size,
                         const void *from,
                         size_t least,
                         const char *name,
                         cadft_error *error);

/* Copy `text` to a caller's buffer of `capacity` bytes, as the getters of
 * strings do; its size with the 0 to *needed, if that is not NULL. No buffer
 * and no capacity: only the size. CADFT_E_NULL, CADFT_E_SPACE. */
int32_t cadft__text_out(const char *text,
                        char *buffer,
                        size_t capacity,
                        size_t *needed,
                        cadft_error *error);

#endif
