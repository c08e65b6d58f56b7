/* SPDX-License-Identifier: Apache-2.0 */
/* Saved running statistics: bit for bit, one fixed format, and nothing that
 * is damaged gets in. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { SIZE = 44, SPARE = 128 };

/* Sums 2.25 of mu and 0.5 of sigma, of weight 0.875: "CADFTST", version 1, then
 * a section "RUN1" of 24 bytes with three little-endian float64 and its CRC-32
 * (zlib.crc32 of tag, length and payload). Old states must load for ever: this
 * text never changes. */
static const unsigned char golden[SIZE] = {
    'C',  'A',  'D',  'F',  'T',  'S',  'T',  1,    /* header */
    'R',  'U',  'N',  '1',  24,   0,    0,    0,    /* tag, length */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x40, /* 2.25 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f, /* 0.5 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xec, 0x3f, /* 0.875 */
    0x40, 0x3d, 0x92, 0xcb,                         /* CRC-32 */
};

static cadft_loss *new_loss(void)
{
    cadft_context *context = support_context(NULL, 1);
    cadft_error err = support_error();
    cadft_loss *loss = NULL;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    CHECK_OK(cadft_loss_set_str(loss, CADFT_LOSS_SCOPE, "running", &err), err);
    cadft_context_destroy(context);
    return loss;
}

static size_t save(cadft_loss *loss, unsigned char *out)
{
    cadft_error err = support_error();
    size_t size = 0;
    CHECK_OK(cadft_loss_state_save(loss, out, SPARE, &size, &err), err);
    return size;
}

static void step(cadft_loss *loss, support_batch *b, int64_t n, float *grad)
{
    cadft_tensor g;
    cadft_error err = support_error();
    cadft_tensor_init(&g, sizeof g, grad, CADFT_DTYPE_F32, 2, b->shape, NULL,
                      NULL);
    CHECK_OK(cadft_loss_compute(loss, &b->batch, n, &g, NULL, NULL, &err), err);
}

/* A loss that has seen a few batches. */
static cadft_loss *used_loss(void)
{
    cadft_loss *loss = new_loss();
    float grad[60];
    for (int i = 0; i < 4; i++) {
        support_batch *b = support_batch_new(12, 5, CADFT_DTYPE_F32, 4, 2);
        step(loss, b, 4, grad);
        support_batch_free(b);
    }
    return loss;
}

START_TEST(known_bytes)
{
    cadft_loss *loss = new_loss();
    cadft_error err = support_error();
    unsigned char out[SPARE];
    CHECK_OK(cadft_loss_state_load(loss, golden, SIZE, &err), err);
    ck_assert_uint_eq(save(loss, out), SIZE);
    ck_assert_mem_eq(out, golden, SIZE);
    cadft_loss_destroy(loss);
}
END_TEST

START_TEST(size_query)
{
    cadft_loss *loss = new_loss();
    cadft_error err = support_error();
    unsigned char out[SPARE];
    size_t size = 0;
    CHECK_OK(cadft_loss_state_save(loss, NULL, 0, &size, &err), err);
    ck_assert_uint_eq(size, SIZE);
    memset(out, 0x5a, sizeof out);
    size = 0;
    CHECK_STATUS(cadft_loss_state_save(loss, out, SIZE - 1, &size, &err),
                 CADFT_E_SPACE, err);
    ck_assert_uint_eq(size, SIZE);
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_uint_eq(out[i], 0x5a);
    CHECK_STATUS(cadft_loss_state_save(loss, NULL, 10, &size, &err),
                 CADFT_E_NULL, err);
    CHECK_OK(cadft_loss_state_save(loss, out, SIZE, NULL, &err), err);
    ck_assert_uint_eq(out[SIZE], 0x5a);
    CHECK_STATUS(cadft_loss_state_save(NULL, out, SPARE, &size, &err),
                 CADFT_E_NULL, err);
    CHECK_STATUS(cadft_loss_state_load(loss, NULL, SIZE, &err), CADFT_E_NULL,
                 err);
    CHECK_STATUS(cadft_loss_state_load(NULL, out, SIZE, &err), CADFT_E_NULL,
                 err);
    cadft_loss_destroy(loss);
}
END_TEST

/* A loss that goes on from a saved state does what the other does. */
START_TEST(round_trip)
{
    for (int round = 0; round < 10; round++) {
        cadft_loss *old = used_loss(), *new = new_loss();
        support_batch *b = support_batch_new(12, 5, CADFT_DTYPE_F32, 4, 2);
        unsigned char state[SPARE], again[SPARE];
        cadft_error err = support_error();
        float x[60], y[60];
        ck_assert_uint_eq(save(old, state), SIZE);
        CHECK_OK(cadft_loss_state_load(new, state, SIZE, &err), err);
        save(new, again);
        ck_assert_mem_eq(state, again, SIZE);
        step(old, b, 4, x);
        step(new, b, 4, y);
        ck_assert_mem_eq(x, y, sizeof x);
        save(old, state);
        save(new, again);
        ck_assert_mem_eq(state, again, SIZE);
        support_batch_free(b);
        cadft_loss_destroy(old);
        cadft_loss_destroy(new);
    }
}
END_TEST

static void refuses(cadft_loss *loss,
                    const unsigned char *state,
                    size_t size,
                    const char *what,
                    size_t where)
{
    unsigned char before[SPARE], after[SPARE];
    cadft_error err = support_error();
    unsigned char *exact = (unsigned char *)malloc(size + 1);
    size_t had = save(loss, before);
    memcpy(exact, state, size);
    exact = (unsigned char *)realloc(exact, size ? size : 1);
    ck_assert_msg(cadft_loss_state_load(loss, exact, size, &err) ==
                      CADFT_E_STATE,
                  "%s at %zu: %s", what, where, err.message);
    ck_assert_str_ne(err.message, "");
    ck_assert_uint_eq(save(loss, after), had);
    ck_assert_msg(memcmp(before, after, had) == 0, "%s at %zu changed it", what,
                  where);
    free(exact);
}

START_TEST(every_byte_counts)
{
    cadft_loss *loss = used_loss();
    unsigned char state[SPARE];
    for (size_t i = 0; i < SIZE; i++)
        for (unsigned flip = 1; flip < 256; flip++) {
            memcpy(state, golden, SIZE);
            state[i] ^= (unsigned char)flip;
            refuses(loss, state, SIZE, "changed byte", i);
        }
    cadft_loss_destroy(loss);
}
END_TEST

START_TEST(every_length_counts)
{
    cadft_loss *loss = used_loss();
    unsigned char state[SPARE] = {0};
    for (size_t size = 0; size < SIZE; size++)
        refuses(loss, golden, size, "cut", size);
    memcpy(state, golden, SIZE);
    for (size_t size = SIZE + 1; size < SIZE + 40; size++)
        refuses(loss, state, size, "zeros behind", size);
    cadft_loss_destroy(loss);
}
END_TEST

/* CRC-32 of IEEE 802.3, as the format says, written apart from the library's
 * own. */
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

/* Tag, payload and checksum of a section; its size. */
static size_t
section(unsigned char *at, const char *tag, const void *payload, uint32_t size)
{
    uint32_t sum;
    memcpy(at, tag, 4);
    for (int i = 0; i < 4; i++)
        at[4 + i] = (unsigned char)(size >> (8 * i));
    memcpy(at + 8, payload, size);
    sum = crc(at, 8 + size);
    for (int i = 0; i < 4; i++)
        at[8 + size + (uint32_t)i] = (unsigned char)(sum >> (8 * i));
    return 12 + size;
}

/* Sections of a later version stand before or behind ours. */
START_TEST(unknown_sections)
{
    for (int before = 0; before < 2; before++)
        for (uint32_t length = 0; length < 20; length++) {
            cadft_loss *loss = new_loss();
            cadft_error err = support_error();
            unsigned char state[SPARE], out[SPARE];
            size_t size = 8;
            memcpy(state, golden, 8);
            if (before)
                size += section(state + size, "NEW1", "a later version's one",
                                length);
            memcpy(state + size, golden + 8, SIZE - 8);
            size += SIZE - 8;
            if (!before)
                size += section(state + size, "NEW1", "a later version's one",
                                length);
            CHECK_OK(cadft_loss_state_load(loss, state, size, &err), err);
            ck_assert_uint_eq(save(loss, out), SIZE);
            ck_assert_mem_eq(out, golden, SIZE);
            state[size - 1] ^= 1; /* a damaged one is refused, though */
            refuses(loss, state, size, "damage", size - 1);
            cadft_loss_destroy(loss);
        }
}
END_TEST

/* Whole and well summed, but not what a step can leave behind. */
START_TEST(impossible_values)
{
    static const double bad[][3] = {
        {NAN, 1, 1}, {INFINITY, 1, 1}, {1, -1, 1},
        {1, NAN, 1}, {1, INFINITY, 1}, {1, 1, -1},
        {1, 1, 1.5}, {1, 1, NAN},      {1, 1, INFINITY}};
    cadft_loss *loss = used_loss();
    unsigned char state[SPARE];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(state, golden, 8);
        section(state + 8, "RUN1", bad[i], 24);
        refuses(loss, state, SIZE, "value", i);
    }
    memcpy(state, golden, 8);
    section(state + 8, "RUN1", bad, 16);
    refuses(loss, state, SIZE - 8, "short section", 0);
    section(state + 8, "RUN2", golden + 16, 24);
    refuses(loss, state, SIZE, "no section of ours", 0);
    cadft_loss_destroy(loss);
}
END_TEST

START_TEST(not_inside_a_step)
{
    cadft_loss *loss = used_loss();
    cadft_error err = support_error();
    unsigned char state[SPARE];
    size_t size = 0;
    save(loss, state);
    CHECK_OK(cadft_loss_begin(loss, 1, &err), err);
    CHECK_STATUS(cadft_loss_state_save(loss, state, SPARE, &size, &err),
                 CADFT_E_PHASE, err);
    CHECK_STATUS(cadft_loss_state_load(loss, state, SIZE, &err), CADFT_E_PHASE,
                 err);
    cadft_loss_cancel(loss);
    CHECK_OK(cadft_loss_state_load(loss, state, SIZE, &err), err);
    cadft_loss_destroy(loss);
}
END_TEST

/* A step that is cancelled, or of one sample, leaves the averages alone. */
START_TEST(only_full_steps_count)
{
    cadft_loss *loss = used_loss();
    support_batch *b = support_batch_new(6, 5, CADFT_DTYPE_F32, 1, 2);
    unsigned char before[SPARE], after[SPARE];
    cadft_error err = support_error();
    int64_t micro;
    float grad[30];
    save(loss, before);
    CHECK_OK(cadft_loss_set_str(loss, CADFT_LOSS_REDUCTION, "sum", &err), err);
    CHECK_OK(cadft_loss_begin(loss, 1, &err), err);
    CHECK_OK(cadft_loss_observe(loss, &b->batch, NULL, &micro, &err), err);
    CHECK_OK(cadft_loss_weigh(loss, &err), err);
    cadft_loss_cancel(loss);
    save(loss, after);
    ck_assert_mem_eq(before, after, SIZE);
    step(loss, b, 1, grad);
    save(loss, after);
    ck_assert_mem_eq(before, after, SIZE);
    support_batch_free(b);
    cadft_loss_destroy(loss);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("state");
    TCase *format = tcase_create("format"), *use = tcase_create("use");
    tcase_add_test(format, known_bytes);
    tcase_add_test(format, size_query);
    tcase_add_test(format, every_byte_counts);
    tcase_add_test(format, every_length_counts);
    tcase_add_test(format, unknown_sections);
    tcase_add_test(format, impossible_values);
    tcase_add_test(use, round_trip);
    tcase_add_test(use, not_inside_a_step);
    tcase_add_test(use, only_full_steps_count);
    suite_add_tcase(suite, format);
    suite_add_tcase(suite, use);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
