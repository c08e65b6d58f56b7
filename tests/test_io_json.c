/* SPDX-License-Identifier: Apache-2.0 */
/* JSON files: what is refused, with line or key; what each getter takes; text
 * of a stranger in sentences; memory that runs out. */
#define _GNU_SOURCE
#include <jansson.h>
#include <math.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "files.h"
#include "io/json.h"

static support_heap heap;
static cadft__memory memory;
static cadft_error err;

static void setup(void)
{
    files_setup("/tmp");
    heap = (support_heap){0};
    memory = counted_memory(&heap);
    err = support_error();
}

static void teardown(void)
{
    ck_assert_int_eq(heap.live_blocks, 0);
    files_teardown();
}

static int32_t parse(const char *text, size_t length, cadft__json *out)
{
    cadft__shown file = cadft__show_path("", "config.json");
    return cadft__json_parse(&file, text, length, out, &err);
}

static cadft__json parsed(const char *text)
{
    cadft__json json;
    CHECK_OK(parse(text, strlen(text), &json), err);
    return json;
}

/* ------------------------------------------------------------------ parse */

START_TEST(malformed)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "line 1"},
        {" ", "line 1"},
        {"{", "line 1"},
        {"[1, 2]", "an array, expected an object"},
        {"3", "line 1"},
        {"null", "line 1"},
        {"{\"a\": 1,\n\n}", "line 3"},
        {"{\"a\": 1,\n \"a\": 2}", "duplicate"},
        {"{\"a\": 1,\n \"\\u0061\": 2}", "duplicate"},
        {"{\"b\": {\"a\": 1, \"a\": 1}}", "duplicate"},
        {"{\"a\": 1} x", "end of file"},
        {"{\"a\": 1}{}", "end of file"},
        {"{\"a\": \"\xff\"}", "0xff"},
        {"{\"a\": \"\xc0\x80\"}", "0xc0"},
        {"{\"a\": \"\xed\xa0\x80\"}", "0xed"},
        {"{\"\xfe\": 1}", "0xfe"},
        {"{\"a\": \"\\ud800\"}", "uD800"},
        {"{\"a\": \"\\u0000\"}", "\\u0000"},
        {"{\"a\": \"\n\"}", "newline"},
        {"{'a': 1}", "near"},
        {"{a: 1}", "near"},
        {"{\"a\": 01}", "near"},
        {"{\"a\": +1}", "near"},
        {"{\"a\": .5}", "near"},
        {"{\"a\": NaN}", "near"},
        {"{\"a\": Infinity}", "near"},
        {"{\"a\": 9223372036854775808}", "big integer"},
        {"{\"a\": -9223372036854775809}", "big negative integer"},
        {"{\"a\": 1e999}", "real number overflow"},
        {"{\"a\": 1} // no", "near"},
        {"\xef\xbb\xbf{}", "near"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cadft__json json;
        CHECK_SAYS(parse(bad[i].text, strlen(bad[i].text), &json),
                   CADFT_E_FORMAT, bad[i].says, err);
        ck_assert_ptr_null(json.value);
        ck_assert_ptr_nonnull(strstr(err.message, "config.json, line "));
        for (const char *c = err.message; *c; c++)
            ck_assert_msg((unsigned char)*c >= 0x20, "%s", err.message);
    }
}
END_TEST

START_TEST(zero_bytes_are_content)
{
    static const char after[] = "{}\0", inside[] = "{\"a\0\": 1}";
    cadft__json json;
    CHECK_STATUS(parse(after, 3, &json), CADFT_E_FORMAT, err);
    CHECK_STATUS(parse(inside, sizeof inside - 1, &json), CADFT_E_FORMAT, err);
    CHECK_OK(parse(after, 2, &json), err); /* and no byte more is read */
    cadft__json_free(&json);
    cadft__json_free(&json);
}
END_TEST

START_TEST(every_length_is_refused)
{
    static const char text[] =
        "{\"a\": [1, 2.5e3, \"x\\u00e9\", {\"b\": true}],"
        " \"c\": null}";
    cadft__json json;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *exact = (char *)malloc(n + !n); /* so that sanitizers see */
        memcpy(exact, text, n);
        CHECK_STATUS(parse(exact, n, &json), CADFT_E_FORMAT, err);
        free(exact);
    }
    json = parsed(text);
    cadft__json_free(&json);
}
END_TEST

START_TEST(depth)
{
    enum { DEEP = 100000 };
    char *text = (char *)malloc(2 * DEEP + 16);
    cadft__json json;
    for (int kind = 0; kind < 2; kind++) {
        const char *open = kind ? "{\"a\":" : "[";
        size_t step = strlen(open), at = 5;
        memcpy(text, "{\"a\":", 5);
        while (at + step < 2 * DEEP) {
            memcpy(text + at, open, step);
            at += step;
        }
        CHECK_SAYS(parse(text, at, &json), CADFT_E_FORMAT, "depth", err);
    }
    free(text);
}
END_TEST

/* ---------------------------------------------------------------- getters */

static const char config[] =
    "{\"hidden_size\": 64, \"eps\": 1e-05, \"tie\": true, \"type\": \"llama\","
    " \"none\": null, \"eos\": [1, 2.5], \"end\": 7, \"big\": 10.0,"
    " \"scaling\": {\"factor\": 8, \"deep\": {\"x\": \"y\"}}}";

START_TEST(integers)
{
    cadft__json json = parsed(config);
    int64_t value = -1, absent = 5;
    CHECK_OK(cadft__json_i64(&json, "hidden_size", 1, 64, NULL, &value, &err),
             err);
    ck_assert_int_eq(value, 64);
    CHECK_SAYS(cadft__json_i64(&json, "hidden_size", 1, 63, NULL, &value, &err),
               CADFT_E_FORMAT,
               "config.json: hidden_size is 64, expected an integer from 1 to "
               "63",
               err);
    CHECK_SAYS(cadft__json_i64(&json, "big", 1, 63, &absent, &value, &err),
               CADFT_E_FORMAT, "big is 10, expected an integer", err);
    CHECK_SAYS(cadft__json_i64(&json, "type", 1, 63, &absent, &value, &err),
               CADFT_E_FORMAT, "type is \"llama\", expected an integer", err);
    CHECK_SAYS(cadft__json_i64(&json, "heads", 1, 63, NULL, &value, &err),
               CADFT_E_FORMAT, "heads is missing, expected an integer", err);
    CHECK_SAYS(cadft__json_i64(&json, "none", 1, 63, NULL, &value, &err),
               CADFT_E_FORMAT, "none is missing", err);
    ck_assert_int_eq(value, 64); /* untouched */
    CHECK_OK(cadft__json_i64(&json, "none", 1, 63, &absent, &value, &err), err);
    ck_assert_int_eq(value, 5);
    CHECK_OK(cadft__json_i64(&json, "heads", 9, 9, &absent, &value, &err), err);
    ck_assert_int_eq(value, 5); /* the default is the caller's business */
    cadft__json_free(&json);
}
END_TEST

START_TEST(reals)
{
    cadft__json json = parsed(config);
    double value = -1, absent = 0.5;
    CHECK_OK(cadft__json_f64(&json, "eps", 0, 1, NULL, &value, &err), err);
    ck_assert_double_eq(value, 1e-05);
    CHECK_OK(cadft__json_f64(&json, "hidden_size", 0, 64, NULL, &value, &err),
             err);
    ck_assert_double_eq(value, 64);
    CHECK_SAYS(cadft__json_f64(&json, "eps", 0.5, 1, NULL, &value, &err),
               CADFT_E_FORMAT, "expected a number from 0.5 to 1", err);
    CHECK_SAYS(cadft__json_f64(&json, "tie", 0, 1, &absent, &value, &err),
               CADFT_E_FORMAT, "tie is true, expected a number", err);
    CHECK_SAYS(cadft__json_f64(&json, "theta", 0, 1, NULL, &value, &err),
               CADFT_E_FORMAT, "theta is missing, expected a number", err);
    CHECK_OK(cadft__json_f64(&json, "none", 0, 1, &absent, &value, &err), err);
    ck_assert_double_eq(value, 0.5);
    cadft__json_free(&json);
}
END_TEST

START_TEST(words)
{
    cadft__json json = parsed(config);
    int32_t value = -1, absent = 0;
    const char *text = NULL;
    CHECK_OK(cadft__json_bool(&json, "tie", NULL, &value, &err), err);
    ck_assert_int_eq(value, 1);
    CHECK_OK(cadft__json_bool(&json, "bias", &absent, &value, &err), err);
    ck_assert_int_eq(value, 0);
    CHECK_SAYS(cadft__json_bool(&json, "bias", NULL, &value, &err),
               CADFT_E_FORMAT, "bias is missing, expected true or false", err);
    CHECK_SAYS(cadft__json_bool(&json, "eos", &absent, &value, &err),
               CADFT_E_FORMAT, "eos is an array of 2, expected true or false",
               err);
    CHECK_OK(cadft__json_text(&json, "type", NULL, &text, &err), err);
    ck_assert_str_eq(text, "llama");
    CHECK_OK(cadft__json_text(&json, "act", "silu", &text, &err), err);
    ck_assert_str_eq(text, "silu");
    CHECK_SAYS(cadft__json_text(&json, "scaling", "", &text, &err),
               CADFT_E_FORMAT, "scaling is an object, expected a string", err);
    CHECK_SAYS(cadft__json_text(&json, "act", NULL, &text, &err),
               CADFT_E_FORMAT, "act is missing", err);
    ck_assert(cadft__json_has(&json, "eos"));
    ck_assert(!cadft__json_has(&json, "none"));
    ck_assert(!cadft__json_has(&json, "nothing"));
    cadft__json_free(&json);
}
END_TEST

START_TEST(objects)
{
    cadft__json json = parsed(config), scaling, deep;
    int64_t value;
    CHECK_OK(cadft__json_object(&json, "scaling", 0, &scaling, &err), err);
    CHECK_OK(cadft__json_object(&scaling, "deep", 1, &deep, &err), err);
    CHECK_OK(cadft__json_i64(&scaling, "factor", 0, 9, NULL, &value, &err),
             err);
    ck_assert_int_eq(value, 8);
    CHECK_SAYS(cadft__json_i64(&deep, "x", 0, 9, NULL, &value, &err),
               CADFT_E_FORMAT, "config.json: scaling.deep.x is \"y\", expected",
               err);
    CHECK_OK(cadft__json_object(&json, "none", 1, &deep, &err), err);
    ck_assert_ptr_null(deep.value);
    ck_assert(!cadft__json_has(&deep, "x"));
    CHECK_SAYS(cadft__json_object(&json, "none", 0, &deep, &err),
               CADFT_E_FORMAT, "none is missing, expected an object", err);
    CHECK_SAYS(cadft__json_object(&json, "end", 1, &deep, &err), CADFT_E_FORMAT,
               "end is 7, expected an object", err);
    cadft__json_free(&json);
}
END_TEST

/* What a stranger wrote stays whole UTF-8, on one line, and short. */
START_TEST(strange_text_in_sentences)
{
    char text[2000] = "{\"a\": \"";
    cadft__json json;
    int64_t value;
    for (size_t n = 0; n < 40; n++) {
        size_t at = strlen("{\"a\": \"");
        memset(text + at, 'x', n); /* moves where the cut falls */
        at += n;
        for (int i = 0; i < 200; i++, at += 3)
            memcpy(text + at, "\xe2\x82\xac", 3);
        memcpy(text + at, "\\n\\u001b\"}", 11);
        json = parsed(text);
        CHECK_SAYS(cadft__json_i64(&json, "a", 0, 1, NULL, &value, &err),
                   CADFT_E_FORMAT, "...", err);
        ck_assert_ptr_nonnull(strstr(err.message, "from 0 to 1"));
        cadft__json_free(&json);
        json.value = json_string(err.message); /* checks the UTF-8 */
        ck_assert_ptr_nonnull(json.value);
        cadft__json_free(&json);
    }
    ck_assert_str_eq(cadft__show("a\x01\xff\xe2\x82").text, "a????");
    ck_assert_str_eq(cadft__show_path("a/b", "c").text, "a/b/c");
    ck_assert_str_eq(cadft__show_path("a/", "c").text, "a/c");
    ck_assert_str_eq(cadft__show_path("", "c").text, "c");
}
END_TEST

/* ------------------------------------------------------------------ files */

static int32_t read_json(const char *name, size_t limit)
{
    cadft__json json;
    int32_t status =
        cadft__json_read(&memory, NULL, in_scratch(name), limit, &json, &err);
    ck_assert(!status == !!json.value);
    cadft__json_free(&json);
    return status;
}

START_TEST(what_is_no_file)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    mkdir(in_scratch("folder"), 0700);
    put_text("good", "{}");
    ck_assert_int_eq(symlink("good", in_scratch("link")), 0);
    ck_assert_int_eq(symlink("folder", in_scratch("to_folder")), 0);
    ck_assert_int_eq(symlink("nowhere", in_scratch("dangling")), 0);
    ck_assert_int_eq(symlink("loop", in_scratch("loop")), 0);
    ck_assert_int_eq(mkfifo(in_scratch("pipe"), 0600), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", scratch);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    CHECK_OK(read_json("good", 2), err);
    CHECK_OK(read_json("link", 2), err);
    CHECK_SAYS(read_json("good", 1), CADFT_E_FORMAT,
               "good has 2 bytes, expected at most 1", err);
    CHECK_SAYS(read_json("folder", 99), CADFT_E_IO, "folder is a folder", err);
    CHECK_SAYS(read_json("to_folder", 99), CADFT_E_IO, "is a folder", err);
    CHECK_SAYS(read_json("dangling", 99), CADFT_E_IO, "no such file", err);
    CHECK_SAYS(read_json("absent", 99), CADFT_E_IO, "no such file", err);
    CHECK_SAYS(read_json("good/x", 99), CADFT_E_IO, "not a folder", err);
    CHECK_SAYS(read_json("loop", 99), CADFT_E_IO, "too many links", err);
    CHECK_SAYS(read_json("pipe", 99), CADFT_E_IO, "a pipe or device", err);
    CHECK_SAYS(read_json("socket", 99), CADFT_E_IO, "failed", err);
}
END_TEST

START_TEST(unreadable)
{
    uid_t user = geteuid();
    put_text("secret", "{}");
    chmod(in_scratch("secret"), 0);
    chmod(scratch, 0755);
    if (user == 0)
        ck_assert_int_eq(seteuid(65534), 0); /* root may read all */
    CHECK_SAYS(read_json("secret", 99), CADFT_E_IO, "permission denied", err);
    if (user == 0)
        ck_assert_int_eq(seteuid(user), 0);
}
END_TEST

START_TEST(a_file_that_shrinks)
{
    cadft__file file;
    char bytes[8];
    put_text("file", "01234567");
    CHECK_OK(cadft__file_open(NULL, in_scratch("file"), &file, &err), err);
    CHECK_OK(cadft__file_read(&file, 0, bytes, 8, &err), err);
    ck_assert_int_eq(truncate(in_scratch("file"), 5), 0);
    CHECK_SAYS(cadft__file_read(&file, 2, bytes, 6, &err), CADFT_E_IO,
               "ends at byte 5, expected 8", err);
    ck_assert_int_eq(fcntl(file.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    cadft__file_close(&file);
    cadft__file_close(&file);
}
END_TEST

START_TEST(plain_names)
{
    char longest[257];
    memset(longest, 'n', 256);
    longest[256] = 0;
    ck_assert(!cadft__name_is_plain(longest));
    longest[255] = 0;
    ck_assert(cadft__name_is_plain(longest));
    ck_assert(cadft__name_is_plain("...") && cadft__name_is_plain("a"));
    ck_assert(!cadft__name_is_plain("") && !cadft__name_is_plain("."));
    ck_assert(!cadft__name_is_plain("..") && !cadft__name_is_plain("/"));
    ck_assert(!cadft__name_is_plain("a/b") && !cadft__name_is_plain("a/"));
}
END_TEST

/* ----------------------------------------------------------------- memory */

static int64_t jansson_left; /* allocations until one fails; 0: none does */
static int64_t jansson_live;

static void *jansson_alloc(size_t size)
{
    if (jansson_left > 0 && --jansson_left == 0)
        return NULL;
    jansson_live++;
    return malloc(size);
}

static void jansson_free(void *block)
{
    jansson_live -= block != NULL;
    free(block);
}

START_TEST(any_allocation_may_fail)
{
    int32_t status = CADFT_E_NOMEM;
    int64_t n, told = 0;
    put_text("config.json", config);
    for (n = 1; status; n++) {
        heap.fail_at = n;
        status = read_json("config.json", 1000);
        if (status)
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
    }
    heap.fail_at = 0;
    ck_assert_int_eq(n, 3); /* the text is the only one */
    json_set_alloc_funcs(jansson_alloc, jansson_free);
    do {
        jansson_left = n;
        status = read_json("config.json", 1000);
        told += status == CADFT_E_NOMEM;
        ck_assert(!status || status == CADFT_E_NOMEM ||
                  status == CADFT_E_FORMAT); /* see json.h */
        ck_assert_int_eq(jansson_live, 0);
    } while (n++, status);
    json_set_alloc_funcs(malloc, free);
    ck_assert_int_gt(n, 30);
    ck_assert_int_gt(told, 10);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("io_json");
    TCase *parsing = tcase_create("parse"), *getters = tcase_create("getters");
    TCase *files = tcase_create("files");
    TCase *cases[] = {parsing, getters, files};
    tcase_add_test(parsing, malformed);
    tcase_add_test(parsing, zero_bytes_are_content);
    tcase_add_test(parsing, every_length_is_refused);
    tcase_add_test(parsing, depth);
    tcase_add_test(getters, integers);
    tcase_add_test(getters, reals);
    tcase_add_test(getters, words);
    tcase_add_test(getters, objects);
    tcase_add_test(getters, strange_text_in_sentences);
    tcase_add_test(files, what_is_no_file);
    tcase_add_test(files, unreadable);
    tcase_add_test(files, a_file_that_shrinks);
    tcase_add_test(files, plain_names);
    tcase_add_test(files, any_allocation_may_fail);
    for (int i = 0; i < 3; i++) {
        tcase_add_checked_fixture(cases[i], setup, teardown);
        suite_add_tcase(suite, cases[i]);
    }
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
