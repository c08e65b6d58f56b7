/* SPDX-License-Identifier: Apache-2.0 */
/* Small things every file here needs: one way to complain, one clock, and the
 * generator of random numbers. */
#ifndef HOST_UTIL_H
#define HOST_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include "text/random.h"

/* Exit statuses; functions that can fail return one of them. */
enum {
    HOST_OK = 0,
    HOST_FAILED = 1, /* memory, disk, the library */
    HOST_INPUT = 2   /* the user's arguments or data */
};

#if defined(__GNUC__)
#    define HOST_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#    define HOST_PRINTF(f, a)
#endif

/* Print one sentence to stderr (ending a progress line, if there is one) and
 * return `status`, so that callers can write `return fail(...)`. */
int fail(int status, const char *format, ...) HOST_PRINTF(2, 3);

/* Tell fail() that a progress line is on the terminal. */
void progress_shown(int shown);

/* Ctrl-C asks the program to stop after the step at hand; a second one ends
 * it at once. */
void stop_on_interrupt(void);
int stop_asked(void);

/* Seconds of a clock that never goes back. */
double seconds_now(void);

#endif
