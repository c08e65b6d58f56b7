/* SPDX-License-Identifier: Apache-2.0 */
/* Files of tensors: round trips, conversions, what the writer refuses, memory
 * that runs out. */
#define _GNU_SOURCE
#include <math.h>

#include "files.h"
#include "io/element.h"
#include "io/safetensors.h"

static support_heap heap;
static cadft__memory memory;
static cadft_error err;
static cadft__safetensors table;

static void setup(void)
{
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    heap = (support_heap){0};
    memory = counted_memory(&heap);
    err = support_error();
}

static void teardown(void)
{
    ck_assert_int_eq(heap.live_blocks, 0);
    files_teardown();
}

static const char *const names[] = {"model.safetensors"};

static int32_t write_table(const cadft__safetensors_item *items, size_t n)
{
    cadft__save save;
    int32_t status =
        cadft__save_begin(&memory, in_scratch("out"), names, 1, &save, &err);
    if (status)
        return status;
    status = cadft__safetensors_write(&save, names[0], items, n, &err);
    if (!status)
        return cadft__save_commit(&save, &err);
    cadft__save_cancel(&save);
    return status;
}

static int32_t open_written(void)
{
    cadft__folder folder;
    int32_t status = cadft__folder_open(in_scratch("out"), &folder, &err);
    ck_assert_int_eq(status, CADFT_OK);
    status = cadft__safetensors_open(&memory, &folder, "model", &table, &err);
    cadft__folder_close(&folder);
    return status;
}

static int32_t fill_bytes(
    void *user, int64_t offset, void *out, size_t bytes, cadft_error *error)
{
    (void)error;
    memcpy(out, (const char *)user + offset, bytes);
    return CADFT_OK;
}

enum { LONG = 50000 }; /* more than a piece of any type */

START_TEST(round_trip)
{
    static const int32_t dtypes[] = {CADFT_DTYPE_BF16, CADFT_DTYPE_F64,
                                     CADFT_DTYPE_F16,  CADFT_DTYPE_F32,
                                     CADFT_DTYPE_I32,  CADFT_DTYPE_I64};
    static const char *const called[] = {
        "layer.1 x/y", "layer.0.weight", "two", "three", "four", "five"};
    enum { N = 6 };
    int64_t shape[2] = {LONG / 5, 5}, none[1] = {0};
    cadft__safetensors_item items[N + 2], first;
    char *data[N], *back = (char *)malloc(LONG * 8 + 1), *bytes, *again;
    size_t length, length_again;
    for (int i = 0; i < N; i++) {
        size_t size = support_dtype_size(dtypes[i]);
        data[i] = (char *)malloc(LONG * size);
        for (size_t j = 0; j < LONG * size; j++)
            data[i][j] = (char)support_bits();
        items[i] = (cadft__safetensors_item){
            called[i],  dtypes[i], 2, shape, i % 2 ? data[i] : NULL,
            fill_bytes, data[i]};
    }
    items[N] = (cadft__safetensors_item){
        "scalar", CADFT_DTYPE_F32, 0, NULL, "\0\0\x80\x3f", NULL, NULL};
    items[N + 1] = (cadft__safetensors_item){
        "none", CADFT_DTYPE_F16, 1, none, NULL, NULL, NULL};
    CHECK_OK(write_table(items, N + 2), err);
    CHECK_OK(open_written(), err);
    ck_assert_uint_eq(table.n_tensors, N + 2);
    for (int i = 0; i < N + 2; i++) {
        const cadft__safetensor *t =
            cadft__safetensors_find(&table, items[i].name);
        int64_t size = (int64_t)support_dtype_size(items[i].dtype);
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->dtype, items[i].dtype);
        ck_assert_int_eq(t->ndim, items[i].ndim);
        ck_assert_int_eq(t->offset % size, 0);
        if (i >= N)
            continue;
        ck_assert_int_eq(t->shape[0], shape[0]);
        CHECK_OK(cadft__safetensors_read(&table, t, 0, LONG, t->dtype, back + 1,
                                         &err),
                 err);
        ck_assert_mem_eq(back + 1, data[i], (size_t)(LONG * size));
        CHECK_OK(
            cadft__safetensors_read(&table, t, 7, 11, t->dtype, back, &err),
            err);
        ck_assert_mem_eq(back, data[i] + 7 * size, (size_t)(11 * size));
    }
    cadft__safetensors_close(&table);
    bytes = get_file("out/model.safetensors", &length);
    ck_assert_int_eq(bytes[0] % 8, 0);
    first = items[0], items[0] = items[N], items[N] = first;
    CHECK_OK(write_table(items, N + 2), err); /* in another order */
    again = get_file("out/model.safetensors", &length_again);
    ck_assert_uint_eq(length, length_again);
    ck_assert_mem_eq(bytes, again, length);
    for (int i = 0; i < N; i++)
        free(data[i]);
    free(back), free(bytes), free(again);
}
END_TEST

/* Against the tests' own conversions, at odd addresses, every float16 and
 * awkward and random float32. */
START_TEST(conversions)
{
    static const uint32_t awkward[] = {
        0x00000000, 0x80000000, 0x00000001, 0x3f808000, 0x3f818000, 0x3f80ffff,
        0x3f807fff, 0x3f808001, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
        0x7f800001, 0x7fc00000, 0xffffffff, 0x7f7f7fff, 0x7f7f8000, 0x00008000};
    enum { ALL = 65536 };
    static const int32_t from[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                   CADFT_DTYPE_F16};
    static const int32_t to[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
    char *in = (char *)malloc(4 * ALL + 1), *out = (char *)malloc(4 * ALL + 1);
    char *wide = (char *)malloc(4 * ALL), *expected = (char *)malloc(4 * ALL);
    for (int f = 0; f < 3; f++)
        for (int t = 0; t < 2; t++) {
            size_t in_size = support_dtype_size(from[f]);
            size_t out_size = support_dtype_size(to[t]);
            for (uint32_t i = 0; i < ALL; i++) {
                uint16_t half = (uint16_t)i;
                uint32_t full = (uint32_t)support_bits();
                if (i < sizeof awkward / sizeof awkward[0])
                    full = awkward[i];
                if (in_size == 2)
                    memcpy(wide + 2 * i, &half, 2);
                else
                    memcpy(wide + 4 * i, &full, 4);
            }
            memcpy(in + 1, wide, in_size * ALL);
            for (int64_t i = 0; i < ALL; i++)
                support_put(expected, to[t], i, support_get(wide, from[f], i));
            ck_assert(cadft__elements_can(from[f], to[t]));
            cadft__elements_convert(from[f], in + 1, to[t], out + 1, ALL);
            memcpy(wide, out + 1, out_size * ALL);
            for (int64_t i = 0; i < ALL; i++) {
                float a = support_get(wide, to[t], i);
                float b = support_get(expected, to[t], i);
                ck_assert_msg(isnan(a) ? isnan(b)
                                       : memcmp(&a, &b, sizeof a) == 0,
                              "%d to %d, element %lld: %a, expected %a", f, t,
                              (long long)i, (double)a, (double)b);
            }
        }
    free(in), free(out), free(wide), free(expected);
    ck_assert(cadft__elements_can(CADFT_DTYPE_I64, CADFT_DTYPE_I64));
    ck_assert(!cadft__elements_can(CADFT_DTYPE_F64, CADFT_DTYPE_F32));
    ck_assert(!cadft__elements_can(CADFT_DTYPE_F32, CADFT_DTYPE_F16));
    ck_assert(!cadft__elements_can(0, 0));
}
END_TEST

START_TEST(converted_reads)
{
    int64_t shape[1] = {LONG};
    float *values = (float *)malloc(LONG * sizeof *values);
    float *back = (float *)malloc(LONG * sizeof *back);
    uint16_t *narrow = (uint16_t *)malloc(LONG * sizeof *narrow);
    cadft__safetensors_item item = {
        "w", CADFT_DTYPE_BF16, 1, shape, narrow, NULL, NULL};
    for (int64_t i = 0; i < LONG; i++) {
        support_put(narrow, CADFT_DTYPE_BF16, i, (float)support_normal());
        values[i] = support_get(narrow, CADFT_DTYPE_BF16, i);
    }
    CHECK_OK(write_table(&item, 1), err);
    CHECK_OK(open_written(), err);
    CHECK_OK(cadft__safetensors_read(&table, table.tensors, 0, LONG,
                                     CADFT_DTYPE_F32, back, &err),
             err);
    ck_assert_mem_eq(back, values, LONG * sizeof *back);
    CHECK_OK(cadft__safetensors_read(&table, table.tensors, LONG - 20001, 20001,
                                     CADFT_DTYPE_F32, back, &err),
             err);
    ck_assert_mem_eq(back, values + LONG - 20001, 20001 * sizeof *back);
    CHECK_OK(cadft__safetensors_read(&table, table.tensors, LONG, 0,
                                     CADFT_DTYPE_F32, back, &err),
             err);
    CHECK_SAYS(cadft__safetensors_read(&table, table.tensors, 1, LONG,
                                       CADFT_DTYPE_F32, back, &err),
               CADFT_E_ARG, "w has 50000 elements, asked for 50000 from 1",
               err);
    CHECK_STATUS(cadft__safetensors_read(&table, table.tensors, -1, 1,
                                         CADFT_DTYPE_F32, back, &err),
                 CADFT_E_ARG, err);
    CHECK_STATUS(cadft__safetensors_read(&table, table.tensors, INT64_MAX, 1,
                                         CADFT_DTYPE_F32, back, &err),
                 CADFT_E_ARG, err);
    CHECK_STATUS(cadft__safetensors_read(&table, table.tensors, 1, INT64_MAX,
                                         CADFT_DTYPE_F32, back, &err),
                 CADFT_E_ARG, err);
    CHECK_SAYS(cadft__safetensors_read(&table, table.tensors, 0, 1,
                                       CADFT_DTYPE_F64, back, &err),
               CADFT_E_DTYPE, "w is BF16, which is not read as float64", err);
    ck_assert_int_eq(truncate(in_scratch("out/model.safetensors"), 40000), 0);
    CHECK_SAYS(cadft__safetensors_read(&table, table.tensors, 0, LONG,
                                       CADFT_DTYPE_F32, back, &err),
               CADFT_E_IO, "ends at byte 40000", err);
    cadft__safetensors_close(&table);
    free(values), free(back), free(narrow);
}
END_TEST

static int32_t fill_fails(
    void *user, int64_t offset, void *out, size_t bytes, cadft_error *error)
{
    (void)user, (void)offset, (void)out, (void)bytes;
    error->code = CADFT_E_CALLBACK;
    strcpy(error->message, "no more");
    return CADFT_E_CALLBACK;
}

START_TEST(refused_items)
{
    int64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    int64_t huge[2] = {INT64_MAX / 4, 2}, negative[1] = {-1};
    const cadft__safetensors_item good = {
        "w", CADFT_DTYPE_F32, 1, shape, shape, NULL, NULL};
    cadft__safetensors_item two[2] = {good, good};
    struct {
        int32_t status;
        const char *says;
        cadft__safetensors_item item;
    } bad[] = {
        {CADFT_E_ARG, "name is \"\"", good},
        {CADFT_E_ARG, "name is \"a\"b\"", good},
        {CADFT_E_ARG, "name is \"a\\b\"", good},
        {CADFT_E_ARG, "name is \"\xc3\xa4\"", good},
        {CADFT_E_ARG, "name is \"__metadata__\"", good},
        {CADFT_E_DTYPE, "dtype of w is 0x0", good},
        {CADFT_E_SHAPE, "ndim of w is 9", good},
        {CADFT_E_SHAPE, "ndim of w is -1", good},
        {CADFT_E_SHAPE, "shape[1] of w is 2", good},
        {CADFT_E_SHAPE, "shape[0] of w is -1", good},
        {CADFT_E_NULL, "data and fill of w", good},
        {CADFT_E_CALLBACK, "no more", good},
    };
    bad[0].item.name = "", bad[1].item.name = "a\"b";
    bad[2].item.name = "a\\b", bad[3].item.name = "\xc3\xa4";
    bad[4].item.name = "__metadata__", bad[5].item.dtype = 0;
    bad[6].item.ndim = 9, bad[7].item.ndim = -1;
    bad[8].item.shape = huge, bad[8].item.ndim = 2;
    bad[9].item.shape = negative;
    bad[10].item.data = bad[11].item.data = NULL;
    bad[11].item.fill = fill_fails;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_SAYS(write_table(&bad[i].item, 1), bad[i].status, bad[i].says,
                   err);
        ck_assert_int_eq(count_entries(scratch), 0);
    }
    two[1].dtype = CADFT_DTYPE_BF16;
    CHECK_SAYS(write_table(two, 2), CADFT_E_ARG, "two tensors are named w",
               err);
    CHECK_OK(write_table(NULL, 0), err);
    CHECK_OK(open_written(), err);
    ck_assert_uint_eq(table.n_tensors, 0);
    cadft__safetensors_close(&table);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    int64_t shape[1] = {2}, n;
    cadft__safetensors_item item = {"w", CADFT_DTYPE_F32, 1, shape, shape, NULL,
                                    NULL};
    int32_t status = CADFT_E_NOMEM;
    for (n = 1; status; n++) {
        heap.fail_at = n;
        status = write_table(&item, 1);
        if (status)
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
        ck_assert_int_eq(heap.live_blocks, 0);
    }
    heap.fail_at = 0;
    ck_assert_int_gt(n, 6);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("safetensors_data");
    TCase *data = tcase_create("data");
    tcase_add_test(data, round_trip);
    tcase_add_test(data, conversions);
    tcase_add_test(data, converted_reads);
    tcase_add_test(data, refused_items);
    tcase_add_test(data, any_allocation_may_fail);
    tcase_add_checked_fixture(data, setup, teardown);
    suite_add_tcase(suite, data);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
