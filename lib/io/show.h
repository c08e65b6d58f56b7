/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a stranger inside a sentence of ours: short, on one line, whole
 * UTF-8 characters. A cadft_error holds 255 bytes; two of these and a clause
 * fit. */
#ifndef CADFT_IO_SHOW_H
#define CADFT_IO_SHOW_H

#include <stddef.h>

enum { CADFT__SHOWN = 80 };

typedef struct cadft__shown {
    char text[CADFT__SHOWN];
} cadft__shown;

/* The beginning of a name or word; "..." stands for the rest. Control
 * characters and bytes that are no UTF-8 become '?'. */
cadft__shown cadft__show(const char *text);

/* The end of folder/name, or of `name` alone when folder is "". */
cadft__shown cadft__show_path(const char *folder, const char *name);

#endif
