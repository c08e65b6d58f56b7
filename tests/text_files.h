/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of examples/text share: a scratch file, and data out of
 * text. */
#ifndef TESTS_TEXT_FILES_H
#define TESTS_TEXT_FILES_H

#include "files.h"
#include "text/data.h"

/* scratch/name with these bytes; its path. */
UNUSED_HERE static const char *
write_bytes(const char *name, const void *bytes, size_t n)
{
    const char *path = in_scratch(name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, n, file), n);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

UNUSED_HERE static const char *write_text(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

#define CHECK_MESSAGE(error, part)                                             \
    ck_assert_msg(strstr((error).message, part) != NULL,                       \
                  "\"%s\" is not in: %s", part, (error).message)

#endif
