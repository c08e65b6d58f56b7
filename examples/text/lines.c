/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "text/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void lines_start(lines *l, FILE *file, const char *name, size_t max_bytes)
{
    *l = (lines){.file = file, .name = name, .max_bytes = max_bytes};
}

int lines_open(lines *l, const char *name, size_t max_bytes, text_error *error)
{
    lines_start(l, fopen(name, "rb"), name, max_bytes);
    if (!l->file)
        return text_fail(error, TEXT_INPUT, "%s: cannot be opened: %s", name,
                         strerror(errno));
    struct stat about;
    if (fstat(fileno(l->file), &about) == 0 && S_ISDIR(about.st_mode)) {
        lines_close(l);
        return text_fail(error, TEXT_INPUT, "%s: is a folder, not a file",
                         name);
    }
    return TEXT_OK;
}

static int keep_byte(lines *l, int c, text_error *error)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 4096;
        char *bytes = realloc(l->bytes, capacity);
        if (!bytes)
            return text_fail(error, TEXT_FAILED, "%s, line %zu: out of memory",
                             l->name, l->number);
        l->bytes = bytes;
        l->capacity = capacity;
    }
    l->bytes[l->n++] = (char)c;
    return TEXT_OK;
}

/* One line, blank or not. `c` is what ended it: a newline or EOF. */
static int read_line(lines *l, int *c, text_error *error)
{
    l->n = 0;
    l->too_long = 0;
    l->number++;
    while ((*c = getc_unlocked(l->file)) != EOF && *c != '\n') {
        if (l->n == l->max_bytes)
            l->too_long = 1;
        else if (keep_byte(l, *c, error) != TEXT_OK)
            return TEXT_FAILED;
    }
    if (*c == EOF && ferror(l->file))
        return text_fail(error, TEXT_INPUT, "%s: cannot be read: %s", l->name,
                         strerror(errno));
    if (l->number == 1 && l->n >= 3 &&
        memcmp(l->bytes, "\xEF\xBB\xBF", 3) == 0) {
        l->n -= 3;
        memmove(l->bytes, l->bytes + 3, l->n);
    }
    return TEXT_OK;
}

static int is_blank(const lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (!memchr(" \t\r", l->bytes[i], 3))
            return 0;
    return 1;
}

int lines_next(lines *l, int *more, text_error *error)
{
    int c = 0;
    *more = 0;
    while (c != EOF) {
        int status = read_line(l, &c, error);
        if (status != TEXT_OK)
            return status;
        if (!is_blank(l) || l->too_long) {
            *more = 1;
            return TEXT_OK;
        }
    }
    return TEXT_OK;
}

void lines_close(lines *l)
{
    free(l->bytes);
    if (l->file)
        fclose(l->file);
    *l = (lines){0};
}
