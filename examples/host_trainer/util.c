/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int line_open;

void progress_shown(int shown)
{
    line_open = shown;
}

int fail(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (line_open)
        fputc('\n', stderr);
    line_open = 0;
    fputs("host_trainer: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return status;
}

uint64_t rng_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

size_t rng_below(uint64_t *state, size_t n)
{
    /* The modulo's bias is below n / 2^64: nothing an experiment can see. */
    return (size_t)(rng_next(state) % n);
}

float rng_unit(uint64_t *state)
{
    return (float)(rng_next(state) >> 40) * 0x1p-24f;
}

uint64_t rng_for(uint64_t seed, uint64_t purpose)
{
    uint64_t state = seed ^ (purpose * UINT64_C(0xD1342543DE82EF95));
    return rng_next(&state);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void stop_on_interrupt(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

int stop_asked(void)
{
    return interrupted != 0;
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
