/* SPDX-License-Identifier: Apache-2.0 */
/* Small things every file here needs: one way to complain, one generator of
 * random numbers, one clock. */
#ifndef HOST_UTIL_H
#define HOST_UTIL_H

#include <stddef.h>
#include <stdint.h>

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

/* splitmix64: tiny, seedable, the same on every machine. */
uint64_t rng_next(uint64_t *state);

/* Uniform in [0, n), n > 0. */
size_t rng_below(uint64_t *state, size_t n);

/* Uniform in [0, 1), 24 random bits: exact in float. */
float rng_unit(uint64_t *state);

/* A generator of its own for each purpose, so that changing how one purpose
 * draws does not disturb the others. */
uint64_t rng_for(uint64_t seed, uint64_t purpose);

/* Ctrl-C asks the program to stop after the step at hand; a second one ends
 * it at once. */
void stop_on_interrupt(void);
int stop_asked(void);

/* Seconds of a clock that never goes back. */
double seconds_now(void);

#endif
