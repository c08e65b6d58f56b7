/* SPDX-License-Identifier: Apache-2.0 */
/* A crash, or a failure, at any system call of something that is done. Include
 * it with _GNU_SOURCE, after files.h. */
#ifndef TESTS_TRACED_H
#define TESTS_TRACED_H

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

static long failed_call; /* of traced: its number, 0: none */

/* Forks a child that acts, and stops it at every entry to and exit from a
 * system call; at the `kill_at`th stop it is killed, at the `fail_at`th
 * (x86-64) the call, if one begins there, gets `number` for its result.
 * Returns the stops seen; *result is what the child's act returned (not 1),
 * or 1 when it was killed. */
UNUSED_HERE static int traced(int (*act)(void *user),
                              void *user,
                              int kill_at,
                              int fail_at,
                              int number,
                              int *result)
{
    int stops = 0, status, fail_next = 0;
    pid_t child = fork();
    failed_call = 0;
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(act(user));
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, child, NULL,
                            PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
                     0);
    for (;;) {
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        if (!WIFSTOPPED(status))
            break;
        ck_assert_int_eq(WSTOPSIG(status), SIGTRAP | 0x80);
        stops++;
        if (stops == kill_at) {
            kill(child, SIGKILL);
            ck_assert_int_eq(waitpid(child, &status, 0), child);
            break;
        }
#ifdef __x86_64__
        if (stops == fail_at || fail_next) {
            struct user_regs_struct regs;
            ptrace(PTRACE_GETREGS, child, NULL, &regs);
            if (fail_next)
                regs.rax = (unsigned long long)-(long long)number;
            else if (regs.orig_rax == SYS_sigaltstack)
                continue; /* a sanitizer's own, which must not fail */
            else {
                failed_call = (long)regs.orig_rax;
                regs.orig_rax = ~0ull; /* no call */
            }
            ptrace(PTRACE_SETREGS, child, NULL, &regs);
            fail_next = !fail_next;
        }
#else
        (void)fail_at, (void)number, (void)fail_next;
#endif
    }
    *result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    return stops;
}

#endif
