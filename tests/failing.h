/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario of calls in which the nth allocation fails: the call that meets
 * it says so, and made again it succeeds. */
#ifndef TESTS_FAILING_H
#define TESTS_FAILING_H

#include "support.h"

/* Of the scenario that runs. */
static struct failing {
    support_heap heap;
    int failures; /* calls that failed once and were repeated */
    cadft_error err;
} failing;

/* Start over, with the nth allocation from here to fail; 0: none. */
static inline void failing_start(int64_t n)
{
    failing.heap = (support_heap){.fail_at = n};
    failing.failures = 0;
    failing.err = support_error();
}

/* After the last destroy: nothing leaks, and the host's allocator was let go
 * `contexts` times. */
static inline void failing_end(int64_t contexts)
{
    ck_assert_int_eq(failing.heap.live_blocks, 0);
    ck_assert_int_eq(failing.heap.live_bytes, 0);
    ck_assert_int_eq(failing.heap.destroyed, contexts);
}

/* Once is allowed to fail, for lack of memory only; again must not. */
static inline int failed(int32_t status, const char *call)
{
    if (status == CADFT_OK)
        return 0;
    ck_assert_msg(status == CADFT_E_NOMEM, "%s: %s, %s", call,
                  cadft_status_string(status), failing.err.message);
    ck_assert_msg(failing.err.code == status && failing.err.message[0],
                  "%s says nothing", call);
    ck_assert_msg(failing.heap.fail_at == 0, "%s failed without reason", call);
    failing.failures++;
    return 1;
}

/* A call whose error goes to &failing.err. */
#define TRY(call)                                                              \
    do {                                                                       \
        if (failed((call), #call))                                             \
            ck_assert_msg((call) == CADFT_OK, "%s again: %s", #call,           \
                          failing.err.message);                                \
    } while (0)

#endif
