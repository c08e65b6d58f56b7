/* SPDX-License-Identifier: Apache-2.0 */
/* A saved tracker from anywhere, into a handle of three samples, and calls on
 * what comes of it. First byte: 1 makes the checksums right, 2 gives the
 * handle a history before, 4 the signal c. */
#include "fuzz.h"
#include "seal.h"

enum { SAMPLES = 3, SPARE = 1 << 16 };

static size_t save(cadft_rewrite *rw, uint8_t *out)
{
    cadft_error err = {sizeof err, 0, {0}};
    size_t length;
    REQUIRE(cadft_rewrite_state_save(rw, NULL, 0, &length, &err) == CADFT_OK);
    REQUIRE(length <= SPARE);
    REQUIRE(cadft_rewrite_state_save(rw, out, SPARE, &length, &err) ==
            CADFT_OK);
    return length;
}

/* Answers to all that is open; returns how many there were. */
static size_t answer(cadft_rewrite *rw)
{
    static const int32_t tokens[2] = {3, 4};
    cadft_rewrite_result result = {.struct_size = sizeof result,
                                   .ended = 1,
                                   .tokens = tokens,
                                   .n_tokens = 2};
    cadft_error err = {sizeof err, 0, {0}};
    int64_t ids[SAMPLES];
    size_t count;
    REQUIRE(cadft_rewrite_open(rw, ids, SAMPLES, &count, &err) == CADFT_OK);
    for (size_t i = 0; i < count; i++) {
        int32_t status = cadft_rewrite_commit(rw, ids[i], &result, NULL, &err);
        REQUIRE(status == CADFT_OK);
    }
    return count;
}

static void use(cadft_rewrite *rw)
{
    static const int64_t ids[4] = {0, 1, 2, 0};
    static const double x[4] = {1, 2, 3, 4};
    cadft_error err = {sizeof err, 0, {0}};
    int64_t picks[SAMPLES], n;
    const int32_t *tokens;
    answer(rw);
    REQUIRE(cadft_rewrite_observe(rw, ids, x, x, 4, &err) == CADFT_OK);
    REQUIRE(cadft_rewrite_select(rw, 3000, picks, SAMPLES, NULL, &err) ==
            CADFT_OK);
    answer(rw);
    for (int64_t id = 0; id < SAMPLES; id++) {
        cadft_rewrite_info info = {.struct_size = sizeof info};
        REQUIRE(cadft_rewrite_sample(rw, id, &info, &err) == CADFT_OK);
        REQUIRE(!info.is_open && info.rewrites >= info.is_rewritten);
        REQUIRE(cadft_rewrite_target(rw, id, &tokens, &n, &err) == CADFT_OK);
        REQUIRE(!tokens == !n && (!n || info.is_rewritten));
        for (int64_t i = 0; i < n; i++)
            REQUIRE(tokens[i] >= 0);
        REQUIRE(cadft_rewrite_restore(rw, id, &err) ==
                (info.is_rewritten ? CADFT_OK : CADFT_E_PHASE));
    }
}

static void load(cadft_rewrite *rw, const uint8_t *state, size_t size)
{
    static uint8_t first[SPARE], second[SPARE];
    cadft_error err = {sizeof err, 0, {0}};
    size_t length = save(rw, first);
    if (checked(cadft_rewrite_state_load(rw, state, size, &err), &err)) {
        REQUIRE(err.code == CADFT_E_STATE);
    } else {
        length = save(rw, first);
        REQUIRE(cadft_rewrite_state_load(rw, first, length, &err) == CADFT_OK);
    }
    REQUIRE(save(rw, second) == length && memcmp(first, second, length) == 0);
    use(rw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap = {0};
    cadft_context *context = fuzz_context(&heap);
    cadft_rewrite *rw = NULL;
    uint8_t *state, how = size ? data[0] : 0;
    size_t length = size ? size - 1 : 0;
    if (length <= SPARE / 2) {
        REQUIRE(cadft_rewrite_create(context, SAMPLES, &rw, NULL) == CADFT_OK);
        REQUIRE(cadft_rewrite_set_i64(rw, CADFT_REWRITE_SIGNAL, how >> 2 & 1,
                                      NULL) == CADFT_OK);
        REQUIRE(cadft_rewrite_set_f64(rw, CADFT_REWRITE_FRACTION, 1, NULL) ==
                CADFT_OK);
        state = (uint8_t *)malloc(length + !length);
        if (length)
            memcpy(state, data + 1, length);
        if (how & 1)
            seal(state, length);
        if (how & 2)
            use(rw);
        load(rw, state, length);
        free(state);
        cadft_rewrite_destroy(rw);
    }
    cadft_context_destroy(context);
    REQUIRE(heap.live == 0);
    return 0;
}
