/* SPDX-License-Identifier: Apache-2.0 */
/* Files of tensors: every way a header or an index can be wrong, memory that
 * runs out. */
#define _GNU_SOURCE
#include "files.h"
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

static int32_t open_table(void)
{
    cadft__folder folder;
    int32_t status = cadft__folder_open(scratch, &folder, &err);
    if (!status)
        status =
            cadft__safetensors_open(&memory, &folder, "model", &table, &err);
    cadft__folder_close(&folder);
    if (status) {
        ck_assert_uint_eq(table.n_tensors, 0);
        ck_assert_int_eq(heap.live_blocks, 0);
    }
    return status;
}

/* A file of this header and so many zero bytes of data. */
static void put_table(const char *name, const char *header, size_t data)
{
    size_t length = strlen(header);
    unsigned char *bytes = (unsigned char *)calloc(1, 8 + length + data + 1);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    memcpy(bytes + 8, header, length);
    put_file(name, bytes, 8 + length + data);
    free(bytes);
}

static void
refuses_file(const char *header, size_t data, int32_t status, const char *says)
{
    put_table("model.safetensors", header, data);
    CHECK_SAYS(open_table(), status, says, err);
    ck_assert_msg(strstr(err.message, "model.safetensors"), "%s", err.message);
}

/* ----------------------------------------------------------------- header */

#define A2 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

START_TEST(good_headers)
{
    static const struct {
        const char *header;
        size_t data, tensors;
    } good[] = {
        {"{}", 0, 0},
        {"{}      \n ", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}," A2 "}", 8, 1},
        {"{" A2 ",\"__metadata__\":null}", 8, 1},
        {"{\"s\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8,
         1},
        {"{\"z\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]},"
         "\"y\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}," A2
         "}",
         8, 3},
        {"{\"\":{\"dtype\":\"BOOL\",\"shape\":[1,1,1,1,1,1,1,3],"
         "\"data_offsets\":[0,3],\"more\":1}}",
         3, 1},
        {"{\"c\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[1,9]},"
         "\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         9, 2},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        put_table("model.safetensors", good[i].header, good[i].data);
        CHECK_OK(open_table(), err);
        ck_assert_uint_eq(table.n_tensors, good[i].tensors);
        for (size_t j = 1; j < table.n_tensors; j++)
            ck_assert_int_lt(
                strcmp(table.tensors[j - 1].name, table.tensors[j].name), 0);
        cadft__safetensors_close(&table);
    }
}
END_TEST

#define ENTRY(dtype, shape, offsets)                                           \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape                             \
    ",\"data_offsets\":" offsets "}}"

START_TEST(bad_headers)
{
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } bad[] = {
        {"", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {"{", 0, "line 1"},
        {"{}x", 0, "line 1"},
        {"{\"\xff\":1}", 0, "0xff"},
        {"{" A2 "," A2 "}", 8, "duplicate"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is an array of 0"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__.a is 1"},
        {"{\"a\":null}", 0, "a is missing, expected an object"},
        {"{\"a\":[]}", 0, "a is an array of 0, expected an object"},
        {"{\"a\":{}}", 0, "a.dtype is missing"},
        {ENTRY("1", "[2]", "[0,8]"), 8, "a.dtype is 1, expected a string"},
        {ENTRY("\"F33\"", "[2]", "[0,8]"), 8, "a.dtype is \"F33\""},
        {ENTRY("\"f32\"", "[2]", "[0,8]"), 8, "a.dtype is \"f32\""},
        {ENTRY("\"F32\"", "2", "[0,8]"), 8, "a.shape is not an array"},
        {ENTRY("\"F32\"", "null", "[0,8]"), 8, "a.shape is not an array"},
        {ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8,
         "a.shape is not an array of 0 to 8 integers"},
        {ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, "a.shape[0] is not an integer"},
        {ENTRY("\"F32\"", "[1,\"2\"]", "[0,8]"), 8,
         "a.shape[1] is not an integer"},
        {ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, "a.shape[0] is -2"},
        {ENTRY("\"F32\"", "[-1,-2]", "[0,8]"), 8, "a.shape[0] is -1"},
        {ENTRY("\"F32\"", "[9223372036854775808]", "[0,8]"), 8, "big integer"},
        {ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8,
         "a.shape has more than 2^63 elements"},
        {ENTRY("\"F32\"", "[4294967296,4294967296,0]", "[0,0]"), 0,
         "a.shape has more than 2^63 elements"},
        {ENTRY("\"F32\"", "[4611686018427387904]", "[0,0]"), 0,
         "a.data_offsets span 0 bytes, expected 4611686018427387904 elements "
         "of 4"},
        {ENTRY("\"F32\"", "[4611686018427387906]", "[0,8]"), 8,
         "a.data_offsets span 8"}, /* 2^64 + 8 bytes */
        {ENTRY("\"F32\"", "[2]", "[0]"), 8, "a.data_offsets is not an array"},
        {ENTRY("\"F32\"", "[2]", "[0,8,9]"), 8, "a.data_offsets is not"},
        {ENTRY("\"F32\"", "[2]", "{}"), 8, "a.data_offsets is not an array"},
        {ENTRY("\"F32\"", "[2]", "[0,8.0]"), 8,
         "a.data_offsets[1] is not an integer"},
        {ENTRY("\"F32\"", "[2]", "[-8,0]"), 8, "a.data_offsets[0] is -8"},
        {ENTRY("\"F32\"", "[2]", "[8,0]"), 8,
         "a.data_offsets are 8 and 0, expected an ascending pair up to 8"},
        {ENTRY("\"F32\"", "[2]", "[0,9]"), 8, "a.data_offsets are 0 and 9"},
        {ENTRY("\"F32\"", "[2]", "[8,16]"), 8, "a.data_offsets are 8 and 16"},
        {ENTRY("\"F32\"", "[2]", "[9223372036854775800,9223372036854775807]"),
         8, "a.data_offsets are 9223372036854775800"},
        {ENTRY("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"),
         8, "big integer"},
        {ENTRY("\"F32\"", "[3]", "[0,8]"), 8,
         "a.data_offsets span 8 bytes, expected 3 elements of 4"},
        {ENTRY("\"BF16\"", "[2]", "[0,8]"), 8, "expected 2 elements of 2"},
        {ENTRY("\"F32\"", "[]", "[0,8]"), 8, "expected 1 elements of 4"},
        {ENTRY("\"F32\"", "[2]", "[0,8]"), 9,
         "has 1 bytes after its last tensor"},
        {"{}", 1, "has 1 bytes after its last tensor"},
        {ENTRY("\"F32\"", "[2]", "[1,9]"), 9, "a hole of 1 bytes"},
        {"{" A2 ",\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[4,8]}}",
         8, "b overlaps the tensor before it in the file by 4 bytes"},
        {"{" A2 ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
         "\"data_offsets\":[0,8]}}",
         8, "overlaps the tensor before it in the file by 8 bytes"},
        {"{" A2 ",\"b\":{\"dtype\":\"F32\",\"shape\":[0],"
         "\"data_offsets\":[4,4]}}",
         8, "b overlaps"},
        {"{" A2 ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[10,11]}}",
         11, "b does not follow the data before it, but after a hole of 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuses_file(bad[i].header, bad[i].data, CADFT_E_FORMAT, bad[i].says);
}
END_TEST

START_TEST(bad_lengths)
{
    static const unsigned char many[] = "\xff\xff\xff\xff\xff\xff\xff\xff{}",
                               half[] = "\0\0\0\0\0\0\0\x80{}",
                               more[] = "\x03\0\0\0\0\0\0\0{}";
    FILE *file;
    put_file("model.safetensors", "", 0);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, "has 0 bytes", err);
    put_file("model.safetensors", many, 7);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, "has 7 bytes", err);
    put_file("model.safetensors", many, 10);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, "length is 18446744073709551615",
               err);
    put_file("model.safetensors", half, 10);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, "length is 9223372036854775808",
               err);
    put_file("model.safetensors", more, 10);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT,
               "length is 3, expected at most 2, the rest", err);
    /* A sparse file that is long enough. */
    file = fopen(in_scratch("model.safetensors"), "wb");
    ck_assert_uint_eq(fwrite("\x01\0\x40\0\0\0\0\0{}", 1, 10, file), 10);
    ck_assert_int_eq(ftruncate(fileno(file), 1 << 23), 0);
    fclose(file);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT,
               "length is 4194305, expected at most 4194304", err);
}
END_TEST

START_TEST(every_length_is_refused)
{
    char *whole;
    size_t bytes;
    put_table("model.safetensors",
              "{\"__metadata__\":{\"format\":\"pt\"}," A2
              ",\"b\":{\"dtype\":\"U8\",\"shape\":[1,3],"
              "\"data_offsets\":[8,11]}}",
              11);
    CHECK_OK(open_table(), err);
    cadft__safetensors_close(&table);
    whole = get_file("model.safetensors", &bytes);
    for (size_t n = 0; n < bytes; n++) {
        put_file("model.safetensors", whole, n);
        CHECK_STATUS(open_table(), CADFT_E_FORMAT, err);
    }
    free(whole);
}
END_TEST

START_TEST(deep_header)
{
    enum { DEEP = 200000 };
    char *header = (char *)malloc(DEEP + 1);
    memset(header, '[', DEEP);
    memcpy(header, "{\"a\":", 5);
    header[DEEP] = '\0';
    refuses_file(header, 0, CADFT_E_FORMAT, "depth");
    free(header);
}
END_TEST

/* ----------------------------------------------------------------- shards */

#define INDEX "model.safetensors.index.json"
#define ONE(name)                                                              \
    "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],"                           \
    "\"data_offsets\":[0,1]}}"

static void put_shards(const char *map)
{
    char text[1000];
    put_table("1.safetensors", ONE("b"), 1);
    put_table("2.safetensors", ONE("a"), 1);
    snprintf(text, sizeof text,
             "{\"metadata\":{\"total_size\":2},\"weight_map\":%s}", map);
    put_text(INDEX, text);
}

START_TEST(good_shards)
{
    put_shards("{\"b\":\"1.safetensors\",\"a\":\"2.safetensors\"}");
    CHECK_OK(open_table(), err);
    ck_assert_uint_eq(table.n_tensors, 2);
    ck_assert_uint_eq(table.n_files, 2);
    ck_assert_str_eq(table.tensors[0].name, "a");
    ck_assert_int_ne(table.tensors[0].file, table.tensors[1].file);
    ck_assert_ptr_eq(cadft__safetensors_find(&table, "b"), table.tensors + 1);
    ck_assert_ptr_null(cadft__safetensors_find(&table, "c"));
    ck_assert_ptr_null(cadft__safetensors_find(&table, ""));
    cadft__safetensors_close(&table);
    put_table("model.safetensors", ONE("whole"), 1); /* goes first */
    CHECK_OK(open_table(), err);
    ck_assert_ptr_nonnull(cadft__safetensors_find(&table, "whole"));
    cadft__safetensors_close(&table);
}
END_TEST

START_TEST(bad_shards)
{
    static const struct {
        const char *map, *says;
        int32_t status;
    } bad[] = {
        {"[]", "weight_map is an array of 0", CADFT_E_FORMAT},
        {"null", "weight_map is missing", CADFT_E_FORMAT},
        {"{\"a\":1}", "weight_map.a is 1, expected a string", CADFT_E_FORMAT},
        {"{\"a\":\"2.safetensors\",\"a\":\"2.safetensors\"}", "duplicate",
         CADFT_E_FORMAT},
        {"{\"a\":\"../2.safetensors\"}",
         "shard \"../2.safetensors\", expected a file beside it",
         CADFT_E_FORMAT},
        {"{\"a\":\"/etc/passwd\"}", "\"/etc/passwd\"", CADFT_E_FORMAT},
        {"{\"a\":\"..\"}", "\"..\"", CADFT_E_FORMAT},
        {"{\"a\":\"\"}", "shard \"\"", CADFT_E_FORMAT},
        {"{\"a\":\"3.safetensors\"}", "3.safetensors: opening failed",
         CADFT_E_IO},
        {"{\"a\":\"folder\"}", "folder is a folder", CADFT_E_IO},
        {"{\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}",
         "2.safetensors holds a, which the index does not name",
         CADFT_E_FORMAT},
        {"{\"b\":\"1.safetensors\",\"a\":\"1.safetensors\"}",
         "puts a into 1.safetensors, which does not hold it", CADFT_E_FORMAT},
        {"{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}",
         "holds b, which the index puts into 2.safetensors", CADFT_E_FORMAT},
        {"{\"b\":\"1.safetensors\",\"a\":\"2.safetensors\",\"c\":"
         "\"2.safetensors\"}",
         "puts c into 2.safetensors, which does not hold it", CADFT_E_FORMAT},
        {"{\"b\":\"1.safetensors\",\"x\":\"again.safetensors\"}",
         "again.safetensors holds b, which the index puts into 1.safetensors",
         CADFT_E_FORMAT},
    };
    mkdir(in_scratch("folder"), 0700);
    put_table("again.safetensors", ONE("b"), 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_shards(bad[i].map);
        CHECK_SAYS(open_table(), bad[i].status, bad[i].says, err);
    }
    put_text(INDEX, "{\"weight_map\":\n[}");
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, INDEX ", line 2", err);
}
END_TEST

START_TEST(many_shards)
{
    enum { MANY = CADFT__SAFETENSORS_FILES_MOST };
    char *text = (char *)malloc(64 * (MANY + 2)), header[100], name[32];
    size_t at = (size_t)sprintf(text, "{\"weight_map\":{");
    for (int i = 0; i <= MANY; i++) {
        snprintf(name, sizeof name, "%d.safetensors", i);
        snprintf(header, sizeof header, ONE("%d"), i);
        put_table(name, header, 1);
        at += (size_t)sprintf(text + at, "%s\"%d\":\"%s\"", i ? "," : "", i,
                              name);
    }
    strcpy(text + at, "}}");
    put_text(INDEX, text);
    CHECK_SAYS(open_table(), CADFT_E_FORMAT, "names more than 256 shards", err);
    strcpy(strrchr(text, ','), "}}");
    put_text(INDEX, text);
    CHECK_OK(open_table(), err);
    ck_assert_uint_eq(table.n_files, MANY);
    cadft__safetensors_close(&table);
    free(text);
}
END_TEST

START_TEST(nothing_there)
{
    cadft__folder folder;
    CHECK_SAYS(open_table(), CADFT_E_IO, "holds no model.safetensors", err);
    ck_assert_int_eq(symlink("gone", in_scratch("model.safetensors")), 0);
    CHECK_SAYS(open_table(), CADFT_E_IO, "no such file", err);
    remove(in_scratch("model.safetensors"));
    mkdir(in_scratch("model.safetensors"), 0700);
    CHECK_SAYS(open_table(), CADFT_E_IO, "is a folder", err);
    put_text("file", "");
    CHECK_SAYS(cadft__folder_open(in_scratch("file"), &folder, &err),
               CADFT_E_IO, "file is not a folder", err);
    CHECK_SAYS(cadft__folder_open(in_scratch("no"), &folder, &err), CADFT_E_IO,
               "no such file", err);
}
END_TEST

/* ----------------------------------------------------------------- memory */

START_TEST(any_allocation_may_fail)
{
    int32_t status = CADFT_E_NOMEM;
    int64_t n;
    put_shards("{\"b\":\"1.safetensors\",\"a\":\"2.safetensors\"}");
    for (n = 1; status; n++) {
        heap.fail_at = n;
        status = open_table();
        if (status)
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
    }
    heap.fail_at = 0;
    cadft__safetensors_close(&table);
    ck_assert_int_gt(n, 6);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *headers = tcase_create("headers"), *shards = tcase_create("shards");
    tcase_add_test(headers, good_headers);
    tcase_add_test(headers, bad_headers);
    tcase_add_test(headers, bad_lengths);
    tcase_add_test(headers, every_length_is_refused);
    tcase_add_test(headers, deep_header);
    tcase_add_test(shards, good_shards);
    tcase_add_test(shards, bad_shards);
    tcase_add_test(shards, many_shards);
    tcase_add_test(shards, nothing_there);
    tcase_add_test(shards, any_allocation_may_fail);
    tcase_add_checked_fixture(headers, setup, teardown);
    tcase_add_checked_fixture(shards, setup, teardown);
    suite_add_tcase(suite, headers);
    suite_add_tcase(suite, shards);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
