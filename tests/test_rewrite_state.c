/* SPDX-License-Identifier: Apache-2.0 */
/* A tracker saved and loaded: bit for bit, one fixed format, and nothing that
 * is damaged or impossible gets in. */
#include "rewrite_support.h"

/* What the history of used() leaves, written by Python's struct and zlib. Old
 * states must load for ever: this text never changes. */
#define WORD(x) (x), 0, 0, 0, 0, 0, 0, 0
/* clang-format off */
static const unsigned char golden[] = {
    'C',  'A',  'D',  'F',  'T',  'S',  'T',  1,
    'R',  'W',  'H',  '1',  64,   0,    0,    0,
    WORD(2), WORD(0), /* samples, signal */
    WORD(4), WORD(1), /* observed, ignored */
    WORD(2), WORD(1), WORD(0), /* picked, accepted, rejected */
    WORD(6), /* last step */
    0x6d, 0x78, 0x23, 0xb7,
    'R',  'W',  'E',  '1',  40,   0,    0,    0,
    WORD(0), /* first sample */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f, /* 0.5 */
    0x00, 0x00, 0x00, 0x40, 1, 0, 0, 0,             /* 2; once */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf0, 0x3f, /* 1 */
    0x00, 0x00, 0x40, 0x40, 2, 0, 1, 6, /* 3; twice, one rewrite, kept */
    0x17, 0x1f, 0xd0, 0xd3,
    'R',  'W',  'T',  '1',  24,   0,    0,    0,
    WORD(1), WORD(2), 7, 0, 0, 0, 9, 0, 0, 0,
    0xfe, 0x93, 0x1b, 0x4d,
};
/* clang-format on */

enum { SIZE = sizeof golden, HEAD = 8, SAMPLES = 84, TOKENS = 136 };

/* Two samples, decay 0: the second picked, cancelled, picked again and
 * rewritten, then both observed. */
static cadft_rewrite *used(void)
{
    static const int32_t tokens[2] = {7, 9};
    cadft_rewrite_result r = answer_of(tokens, 2);
    cadft_rewrite *rw = eager_rewrite(2);
    int64_t picks[2];
    set(rw, "decay", "0");
    see(rw, 1, 1, 4);
    ck_assert_uint_eq(select_all(rw, 5, picks), 1);
    cadft_rewrite_cancel(rw);
    ck_assert_uint_eq(select_all(rw, 6, picks), 1);
    ck_assert_int_eq(commit(rw, 1, &r), 0);
    see(rw, 0, 2, 0.5);
    see(rw, 1, 1, -1);
    see(rw, 1, 3, 1);
    see(rw, 0, NAN, 1);
    return rw;
}

/* The format's checksum, written apart from the library's own. */
static uint32_t crc(const unsigned char *data, size_t size)
{
    uint32_t c = 0xffffffffu;
    while (size--) {
        c ^= *data++;
        for (int i = 0; i < 8; i++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
    }
    return c ^ 0xffffffffu;
}

/* Make the checksums of all sections right. */
static void seal(unsigned char *state, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        uint32_t length, sum;
        memcpy(&length, state + at + 4, 4);
        if (length > size - at - 12)
            return;
        sum = crc(state + at, 8 + length);
        memcpy(state + at + 8 + length, &sum, 4);
        at += 12 + length;
    }
}

static void refuses(cadft_rewrite *rw,
                    const unsigned char *state,
                    size_t size,
                    const char *what,
                    size_t which)
{
    cadft_rewrite *before = clone(rw);
    cadft_error err = support_error();
    unsigned char *exact = (unsigned char *)malloc(size + !size);
    int32_t status;
    memcpy(exact, state, size);
    status = cadft_rewrite_state_load(rw, exact, size, &err);
    ck_assert_msg(status == CADFT_E_STATE && err.message[0],
                  "%s %zu: status %s", what, which,
                  cadft_status_string(status));
    same_state(rw, before);
    free(exact);
    cadft_rewrite_destroy(before);
}

START_TEST(known_bytes)
{
    cadft_rewrite *rw = used(), *loaded = new_rewrite(2);
    cadft_error err = support_error();
    size_t size;
    unsigned char *state = save(rw, &size);
    ck_assert_uint_eq(size, SIZE);
    ck_assert_mem_eq(state, golden, SIZE);
    CHECK_OK(cadft_rewrite_state_load(loaded, golden, SIZE, &err), err);
    same_state(rw, loaded);
    free(state);
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(loaded);
}
END_TEST

START_TEST(every_byte_and_length)
{
    cadft_rewrite *rw = used();
    unsigned char state[SIZE];
    see(rw, 0, 1, 1); /* not what will be loaded */
    for (size_t i = 0; i < SIZE; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(state, golden, SIZE);
            state[i] ^= (unsigned char)(1 << bit);
            refuses(rw, state, SIZE, "byte", i);
        }
    for (size_t size = 0; size < SIZE; size++)
        refuses(rw, golden, size, "length", size);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* Any byte changed, with checksums made right: refused, or a state that
 * saves to itself. */
START_TEST(every_byte_sealed)
{
    cadft_rewrite *rw = used();
    unsigned char state[SIZE];
    int taken = 0;
    for (size_t i = 0; i < SIZE; i++)
        for (int bit = 0; bit < 8; bit++) {
            cadft_error err = support_error();
            int32_t status;
            memcpy(state, golden, SIZE);
            state[i] ^= (unsigned char)(1 << bit);
            seal(state, SIZE);
            status = cadft_rewrite_state_load(rw, state, SIZE, &err);
            if (status == CADFT_OK) {
                size_t size;
                unsigned char *again = save(rw, &size);
                ck_assert_uint_eq(size, SIZE);
                ck_assert_mem_eq(state, again, SIZE);
                free(again);
                taken++;
            } else
                CHECK_STATUS(status, CADFT_E_STATE, err);
        }
    ck_assert_int_gt(taken, 100);
    cadft_rewrite_destroy(rw);
}
END_TEST

struct edit {
    size_t at, bytes;
    uint64_t value;
};

/* Whole and well summed, but not what calls can leave behind. */
START_TEST(impossible_values)
{
    enum { S = SAMPLES + 16, T = TOKENS + 8 };
    static const struct edit edits[] = {
        {HEAD + 8, 8, 3},                  /* other data set */
        {HEAD + 16, 8, 1},                 /* other signal */
        {HEAD + 24, 8, UINT64_MAX},        /* observed -1 */
        {HEAD + 24, 8, (uint64_t)1 << 62}, /* more than can be */
        {HEAD + 40, 8, 0},                 /* fewer picks than accepted */
        {HEAD + 56, 8, 2},                 /* more rejected */
        {HEAD + 64, 8, UINT64_MAX},        /* picks at no step */
        {HEAD + 64, 8, (uint64_t)1 << 32}, /* at no step there is */
        {SAMPLES + 8, 8, 1},               /* the first is not there */
        {S, 8, 0x7ff0000000000000u},       /* average +inf */
        {S, 8, 0x7ff8000000000000u},       /* NaN */
        {S, 8, (uint64_t)1 << 63},         /* -0 */
        {S + 8, 4, 0x7f800000u},           /* c +inf */
        {S + 12, 2, 0},                    /* an average of nothing */
        {S + 14, 2, 0x1ff},                /* picked beyond any cap */
        {S + 15, 1, 2},                    /* rewritten in no rewrite */
        {S + 15, 1, 8},                    /* no such flag */
        {S + 16 + 15, 1, 4},               /* kept, not rewritten */
        {S + 16 + 15, 1, 2},               /* tokens of nobody */
        {T, 8, 0},                         /* tokens of another */
        {T + 8, 8, 0},                     /* none */
        {T + 8, 8, 3},                     /* more than there are */
        {T + 8, 8, (uint64_t)1 << 62},     /* than can be */
        {T + 8, 8, 1},                     /* fewer: half a record left */
        {T + 16, 4, UINT32_MAX},           /* negative token */
        {HEAD, 4, 0},                      /* no section of ours */
        {SAMPLES, 4, 0},
        {TOKENS, 4, 0},
    };
    cadft_rewrite *rw = used();
    unsigned char state[SIZE];
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        memcpy(state, golden, SIZE);
        for (size_t b = 0; b < edits[i].bytes; b++)
            state[edits[i].at + b] = (unsigned char)(edits[i].value >> 8 * b);
        seal(state, SIZE);
        refuses(rw, state, SIZE, "edit", i);
    }
    cadft_rewrite_destroy(rw);
}
END_TEST

/* An open pick that was never handed out. */
START_TEST(impossible_pick)
{
    cadft_rewrite *rw = used();
    unsigned char state[SIZE];
    memcpy(state, golden, SIZE);
    state[SAMPLES + 16 + 15] = 1;
    state[HEAD + 40] = 1;
    seal(state, SIZE);
    refuses(rw, state, SIZE, "open", 0);
    state[HEAD + 40] = 2; /* that one would be */
    seal(state, SIZE);
    {
        cadft_error err = support_error();
        CHECK_OK(cadft_rewrite_state_load(rw, state, SIZE, &err), err);
        ck_assert_int_eq(fact(rw, CADFT_REWRITE_OPEN), 1);
    }
    cadft_rewrite_destroy(rw);
}
END_TEST

/* Sections of a later version between ours, and ours in another order. */
START_TEST(unknown_sections)
{
    static const size_t starts[] = {HEAD, SAMPLES, TOKENS, SIZE};
    cadft_rewrite *rw = used(), *loaded = new_rewrite(2);
    cadft_error err = support_error();
    unsigned char state[SIZE + 32] = {0};
    for (size_t i = 0; i < 4; i++) {
        size_t at = starts[i];
        memcpy(state, golden, at);
        memset(state + at, 0, 32);
        memcpy(state + at, "NEW1", 4);
        state[at + 4] = 20;
        memcpy(state + at + 32, golden + at, SIZE - at);
        seal(state, sizeof state);
        CHECK_OK(cadft_rewrite_state_load(loaded, state, sizeof state, &err),
                 err);
        same_state(rw, loaded);
    }
    memcpy(state, golden, 8);
    memcpy(state + 8, golden + TOKENS, SIZE - TOKENS);
    memcpy(state + 8 + SIZE - TOKENS, golden + 8, TOKENS - 8);
    CHECK_OK(cadft_rewrite_state_load(loaded, state, SIZE, &err), err);
    same_state(rw, loaded);
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(loaded);
}
END_TEST

START_TEST(size_query)
{
    cadft_rewrite *rw = used();
    cadft_error err = support_error();
    unsigned char out[SIZE + 1];
    size_t size = 0;
    memset(out, 0x5a, sizeof out);
    CHECK_STATUS(cadft_rewrite_state_save(rw, out, SIZE - 1, &size, &err),
                 CADFT_E_SPACE, err);
    ck_assert_uint_eq(size, SIZE);
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_uint_eq(out[i], 0x5a);
    CHECK_OK(cadft_rewrite_state_save(rw, out, SIZE, NULL, &err), err);
    ck_assert_mem_eq(out, golden, SIZE);
    ck_assert_uint_eq(out[SIZE], 0x5a);
    cadft_rewrite_destroy(rw);
}
END_TEST

/* More samples and more tokens than one section takes, rewritten here and
 * there, some picks open. */
START_TEST(many_sections)
{
    enum { N = 200000, LENGTH = 3000 };
    static int64_t ids[N];
    static double chat[N];
    static int32_t tokens[LENGTH];
    cadft_rewrite *rw = eager_rewrite(N), *other;
    cadft_error err = support_error();
    size_t count, size;
    unsigned char *state;
    for (int64_t i = 0; i < N; i++) {
        ids[i] = i;
        chat[i] = chaotic();
    }
    for (int i = 0; i < LENGTH; i++)
        tokens[i] = (int32_t)support_below(INT32_MAX);
    CHECK_OK(cadft_rewrite_observe(rw, ids, NULL, chat, N, &err), err);
    set(rw, "fraction", "0.004");
    count = select_all(rw, 1, ids);
    ck_assert_uint_eq(count, 800);
    for (size_t i = 0; i < count - 5; i++) {
        cadft_rewrite_result r = answer_of(tokens, LENGTH - support_below(99));
        ck_assert_int_eq(commit(rw, ids[i], &r), 0);
    }
    other = clone(rw);
    same_state(rw, other);
    state = save(rw, &size);
    ck_assert_uint_gt(size, 16 * N + 4 * 795 * (LENGTH - 99));
    for (int round = 0; round < 200; round++) {
        size_t at = (size_t)support_below((int64_t)size);
        state[at] ^= 1;
        CHECK_STATUS(cadft_rewrite_state_load(other, state, size, &err),
                     CADFT_E_STATE, err);
        state[at] ^= 1;
    }
    same_state(rw, other);
    free(state);
    ck_assert_int_eq(fact(other, CADFT_REWRITE_OPEN), 5);
    cadft_rewrite_destroy(rw);
    cadft_rewrite_destroy(other);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("rewrite_state");
    TCase *t = tcase_create("state");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, known_bytes);
    tcase_add_test(t, every_byte_and_length);
    tcase_add_test(t, every_byte_sealed);
    tcase_add_test(t, impossible_values);
    tcase_add_test(t, impossible_pick);
    tcase_add_test(t, unknown_sections);
    tcase_add_test(t, size_query);
    tcase_add_test(t, many_sections);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
