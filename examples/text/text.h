/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses and sentences of everything in this folder. Nothing here prints:
 * the program does. */
#ifndef TEXT_TEXT_H
#define TEXT_TEXT_H

/* What functions return; made to be exit statuses. */
enum {
    TEXT_OK = 0,
    TEXT_FAILED = 1, /* memory, disk, another process */
    TEXT_INPUT = 2   /* the user's files and arguments */
};

/* Why a function failed: one sentence without control characters, as it may
 * quote from a file and end on a terminal. */
typedef struct text_error {
    char message[1024];
} text_error;

#if defined(__GNUC__)
#    define TEXT_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#    define TEXT_PRINTF(f, a)
#endif

/* Write the sentence and return `status`: `return text_fail(...)`. The
 * sentence that was there may be one of the arguments. */
int text_fail(text_error *error, int status, const char *format, ...)
    TEXT_PRINTF(3, 4);

#endif
