/* SPDX-License-Identifier: Apache-2.0 */
/* What of the calling thread no call may change: errno, the signal mask, the
 * locale, the working folder and the control bits of floating point. */
#ifndef TESTS_CALM_H
#define TESTS_CALM_H

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

/* Control bits of the floating-point unit, the sticky flags left out. */
static inline uint64_t fp_control(void)
{
#if defined(__x86_64__)
    uint32_t sse;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(sse));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (uint64_t)(sse & ~0x3fu) << 16 | x87;
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
#else
    return 0;
#endif
}

struct calm {
    sigset_t signals;
    uint64_t fp;
    char locale[128], folder[512];
};

static inline struct calm calm_now(void)
{
    struct calm c;
    memset(&c, 0, sizeof c);
    pthread_sigmask(SIG_SETMASK, NULL, &c.signals);
    c.fp = fp_control();
    strncpy(c.locale, setlocale(LC_ALL, NULL), sizeof c.locale - 1);
    ck_assert_ptr_nonnull(getcwd(c.folder, sizeof c.folder));
    return c;
}

static inline void still_calm(const struct calm *before, const char *call)
{
    int error_number = errno;
    struct calm now = calm_now();
    ck_assert_msg(error_number == 12345, "%s set errno to %d", call,
                  error_number);
    ck_assert_msg(memcmp(&now, before, sizeof now) == 0,
                  "%s changed signals, locale or floating-point control", call);
}

/* `before` is a struct calm. */
#define CALM(call)                                                             \
    do {                                                                       \
        errno = 12345;                                                         \
        (void)(call);                                                          \
        still_calm(&before, #call);                                            \
    } while (0)

/* `calls` with settings of the host's own, which stay its own. */
static inline void with_odd_host(void (*calls)(void))
{
    sigset_t odd, usual;
    sigemptyset(&odd);
    sigaddset(&odd, SIGUSR1);
    sigaddset(&odd, SIGWINCH);
    pthread_sigmask(SIG_SETMASK, &odd, &usual);
    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        setlocale(LC_ALL, "C.UTF-8");
#if defined(__x86_64__)
    uint32_t sse, flush;
    __asm__ volatile("stmxcsr %0" : "=m"(sse));
    flush = sse | 0x8040u; /* subnormals to zero, in and out */
    __asm__ volatile("ldmxcsr %0" : : "m"(flush));
#endif
    calls();
#if defined(__x86_64__)
    __asm__ volatile("ldmxcsr %0" : : "m"(sse));
#endif
    setlocale(LC_ALL, "C");
    pthread_sigmask(SIG_SETMASK, &usual, NULL);
}

#endif
