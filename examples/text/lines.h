/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a file, one at a time, in bounded memory. */
#ifndef TEXT_LINES_H
#define TEXT_LINES_H

#include <stddef.h>
#include <stdio.h>

#include "text/text.h"

typedef struct lines {
    FILE *file;
    const char *name; /* for sentences */
    size_t max_bytes; /* of a line that is kept */
    char *bytes;      /* [n] the line without its end, not terminated */
    size_t n, capacity;
    size_t number; /* of the line, from 1 */
    /* The line is longer than max_bytes: it was read over, and bytes has its
     * beginning. */
    int too_long;
} lines;

/* Open a file, which `name` must outlive, or read from one that is open; it
 * becomes the lines'. */
int lines_open(lines *l, const char *name, size_t max_bytes, text_error *error);
void lines_start(lines *l, FILE *file, const char *name, size_t max_bytes);

/* Go to the next line that is not blank. A byte order mark at the beginning
 * of the file is left out, as some editors put one there.
 * more  1, or 0 at the end of the file */
int lines_next(lines *l, int *more, text_error *error);

/* NULL bytes are harmless: after a failed open, or twice. */
void lines_close(lines *l);

#endif
