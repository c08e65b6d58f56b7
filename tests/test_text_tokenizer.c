/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as tokens; and the other end of the pipe: programs that answer as
 * tokenizer.py does, badly, or not at all. Shell scripts stand for it. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/wait.h>

#include "text/child.h"
#include "text_files.h"

static tokenizer *t;
static text_error error;

static void setup(void)
{
    files_setup("/tmp");
    t = NULL;
    error.message[0] = '\0';
    setenv("CADFT_PYTHON", "/bin/sh", 1);
}

static void teardown(void)
{
    int status;
    tokenizer_close(t);
    /* No process is left, dead or alive. */
    ck_assert_int_eq(waitpid(-1, &status, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    files_teardown();
}

/* ------------------------------------------------------------------ bytes */

static void open_bytes(void)
{
    ck_assert_int_eq(tokenizer_open("bytes", NULL, &t, &error), TEXT_OK);
}

START_TEST(bytes_info)
{
    open_bytes();
    tokenizer_info info = tokenizer_about(t);
    ck_assert_int_eq(info.vocab, 258);
    ck_assert_int_eq(info.bos, 257);
    ck_assert_uint_eq(info.n_eos, 1);
    ck_assert_int_eq(info.eos[0], 256);
    ck_assert_int_eq(info.has_chat, 0);
}
END_TEST

START_TEST(bytes_of_a_prompt)
{
    static const char text[] = "a\0\xFF";
    int32_t *ids;
    size_t n;
    open_bytes();
    ck_assert_int_eq(tokenizer_encode(t, text, 3, &ids, &n, &error), 0);
    ck_assert_uint_eq(n, 4);
    ck_assert_int_eq(ids[0], 257);
    ck_assert_int_eq(ids[1], 'a');
    ck_assert_int_eq(ids[2], 0);
    ck_assert_int_eq(ids[3], 255);
    free(ids);
    json_t *messages = json_array();
    ck_assert_int_eq(tokenizer_encode_chat(t, messages, &ids, &n, &error),
                     TEXT_INPUT);
    ck_assert_ptr_null(ids);
    CHECK_MESSAGE(error, "no chat template");
    json_decref(messages);
}
END_TEST

/* Pieces of `text` and what a flush adds, one behind the other. */
static size_t
decode(const unsigned char *text, size_t n, char *out, int check_whole)
{
    const char *piece;
    size_t k, at = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n)
            ck_assert_int_eq(tokenizer_piece(t, text[i], &piece, &k, &error),
                             0);
        else
            ck_assert_int_eq(tokenizer_flush(t, &piece, &k, &error), 0);
        if (check_whole) {
            json_t *character = json_stringn(piece, k);
            ck_assert_ptr_nonnull(character); /* it is UTF-8 by itself */
            json_decref(character);
        }
        memcpy(out + at, piece, k);
        at += k;
    }
    return at;
}

START_TEST(bytes_pieces)
{
    static const struct {
        const char *text, *read;
    } cases[] = {
        {"a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z", NULL},
        {"\xC3", "\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
        {"\x80z", "\xEF\xBF\xBDz"},
        {"\xC3z", "\xEF\xBF\xBDz"},
        {"\xE2\xC3\xA4", "\xEF\xBF\xBD\xC3\xA4"},
        {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98z", "\xEF\xBF\xBDz"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF4\x90", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xFF", "\xEF\xBF\xBD"},
    };
    char out[64];
    open_bytes();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *read = cases[i].read ? cases[i].read : cases[i].text;
        size_t n = decode((const unsigned char *)cases[i].text,
                          strlen(cases[i].text), out, 1);
        out[n] = '\0';
        ck_assert_str_eq(out, read);
    }
}
END_TEST

/* Whatever the bytes, the pieces are UTF-8; text comes back as it was. */
START_TEST(bytes_at_random)
{
    unsigned char text[64];
    char out[256];
    open_bytes();
    for (int round = 0; round < 5000; round++) {
        size_t n = (size_t)support_below(sizeof text);
        /* Many of them near the borders of what may follow what. */
        for (size_t i = 0; i < n; i++)
            text[i] = (unsigned char)(support_below(2)
                                          ? support_below(256)
                                          : 0x80 + 16 * support_below(8));
        json_t *whole = json_stringn((const char *)text, n);
        size_t k = decode(text, n, out, 1);
        if (whole)
            ck_assert(k == n && memcmp(out, text, n) == 0);
        json_decref(whole);
    }
}
END_TEST

START_TEST(special_tokens_are_left_out)
{
    static const int32_t ids[] = {257, 'a', 256, 300, -1, 'b'};
    const char *piece;
    size_t n;
    char out[8];
    size_t at = 0;
    open_bytes();
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(tokenizer_piece(t, ids[i], &piece, &n, &error), 0);
        memcpy(out + at, piece, n);
        at += n;
    }
    ck_assert_uint_eq(at, 2);
    ck_assert_mem_eq(out, "ab", 2);
}
END_TEST

/* ------------------------------------------------------------------ child */

#define INFO                                                                   \
    "read line; echo '{\"vocab\": 9, \"bos\": null, \"eos\": [2], "            \
    "\"chat\": true}'\n"

static int open_script(const char *script)
{
    return tokenizer_open(scratch, write_text("script", script), &t, &error);
}

START_TEST(does_not_start)
{
    static const struct {
        const char *script, *says;
        int status;
    } bad[] = {
        {"exit 3", "ended without an answer, exit status 3", TEXT_FAILED},
        {"read line; exit 0", "exit status 0", TEXT_FAILED},
        {"kill -9 $$", "ended without an answer: Killed", TEXT_FAILED},
        {"read line; echo nonsense", "not a JSON object", TEXT_FAILED},
        {"read line; echo '[]'", "not a JSON object", TEXT_FAILED},
        {"read line; echo '{\"vocab'", "not a JSON object", TEXT_FAILED},
        {"read line; printf '{}'", "ended without an answer", TEXT_FAILED},
        {"read line; echo '{}'", "another form", TEXT_FAILED},
        {"read line; echo '{\"vocab\": -1, \"eos\": []}'", "another form",
         TEXT_FAILED},
        {"read line; echo '{\"vocab\": 9, \"eos\": [-1]}'", "another form",
         TEXT_FAILED},
        {"read line; echo '{\"error\": \"so \\u0007 sorry\"}'", "so ? sorry",
         TEXT_INPUT},
        {"exec sleep 100 >&- <&-", "ended without an answer: Killed",
         TEXT_FAILED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(open_script(bad[i].script), bad[i].status);
        ck_assert_ptr_null(t);
        CHECK_MESSAGE(error, bad[i].says);
    }
}
END_TEST

START_TEST(nothing_to_start)
{
    setenv("CADFT_PYTHON", in_scratch("python"), 1);
    ck_assert_int_eq(open_script(""), TEXT_FAILED);
    CHECK_MESSAGE(error, "cannot be started");
    CHECK_MESSAGE(error, "CADFT_PYTHON");
    ck_assert_int_eq(tokenizer_open(scratch, in_scratch("no.py"), &t, &error),
                     TEXT_INPUT);
    CHECK_MESSAGE(error, "no.py: cannot be read");
}
END_TEST

START_TEST(asks)
{
    int32_t *ids;
    size_t n;
    const char *piece;
    ck_assert_int_eq(open_script(INFO
                                 "read line; echo '{\"ids\": [1, 2, 3]}'\n"
                                 "read line; echo \"$line\" >\"$1/asked\"\n"
                                 "echo '{\"text\": \"a\\u0000b\"}'\n"
                                 "read line; echo '{\"text\": 1}'\n"),
                     0);
    tokenizer_info info = tokenizer_about(t);
    ck_assert_int_eq(info.vocab, 9);
    ck_assert_int_eq(info.bos, -1);
    ck_assert_int_eq(info.has_chat, 1);
    ck_assert_int_eq(tokenizer_encode(t, "abc", 3, &ids, &n, &error), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_int_eq(ids[2], 3);
    free(ids);
    ck_assert_int_eq(tokenizer_piece(t, 7, &piece, &n, &error), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_mem_eq(piece, "a\0b", 3);
    json_t *asked = json_load_file(in_scratch("asked"), 0, NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(asked, "piece")), 7);
    json_decref(asked);
    ck_assert_int_eq(tokenizer_flush(t, &piece, &n, &error), TEXT_FAILED);
    ck_assert_uint_eq(n, 0);
    /* It has ended: that is said once more, and once more. */
    ck_assert_int_eq(tokenizer_flush(t, &piece, &n, &error), TEXT_FAILED);
    CHECK_MESSAGE(error, "ended");
    ck_assert_int_eq(tokenizer_flush(t, &piece, &n, &error), TEXT_FAILED);
    CHECK_MESSAGE(error, "ended");
}
END_TEST

START_TEST(bad_samples)
{
    static const char *const answers[] = {
        "{\"samples\": []}",
        "{\"samples\": [{\"ids\": [1], \"targets\": [[0, 1]]}, {}]}",
        "{\"samples\": [{\"ids\": [1], \"targets\": [[0, 2]]}, "
        "{\"error\": \"x\"}]}",
        "{\"samples\": [{\"ids\": [1], \"targets\": [[-1, 1]]}, "
        "{\"error\": \"x\"}]}",
        "{\"samples\": [{\"ids\": [1.5], \"targets\": []}, "
        "{\"error\": \"x\"}]}",
    };
    json_t *requests =
        json_pack("[{s[ss]}, {s[ss]}]", "pair", "a", "b", "pair", "c", "d");
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        tokenized out[2];
        char script[512];
        snprintf(script, sizeof script, INFO "read line; echo '%s'\n",
                 answers[i]);
        ck_assert_int_eq(open_script(script), 0);
        ck_assert_int_eq(tokenizer_samples(t, requests, out, &error),
                         TEXT_FAILED);
        CHECK_MESSAGE(error, "another form");
        ck_assert_ptr_null(out[0].ids);
        ck_assert_ptr_null(out[1].why);
        tokenizer_close(t);
        t = NULL;
    }
    json_decref(requests);
}
END_TEST

/* Some of many samples are refused: the lines are named by the reader. */
START_TEST(samples)
{
    text_data_options options = {.bad_lines = BAD_LINES_SKIP};
    text_data data;
    const char *path =
        write_text("train.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                                  "{\"prompt\": \"c\", \"completion\": \"d\"}\n"
                                  "{\"prompt\": \"e\", \"completion\": \"f\"}");
    ck_assert_int_eq(
        open_script(INFO "read line; echo \"$line\" >\"$1/asked\"; echo '"
                         "{\"samples\": [{\"ids\": [5, 6, 7, 8], \"targets\": "
                         "[[1, 2], [2, 3]]}, {\"error\": \"too odd\"}, "
                         "{\"ids\": [5, 6], \"targets\": [[1, 2]], "
                         "\"split\": true}]}'\n"),
        0);
    options.tokenizer = t;
    ck_assert_int_eq(text_data_read(path, &options, &data, &error), TEXT_OK);
    ck_assert_uint_eq(data.n, 2);
    ck_assert_uint_eq(data.n_split, 1);
    ck_assert_int_eq(data.samples[0].n, 3);
    ck_assert_int_eq(data.samples[0].n_labels, 2);
    ck_assert_uint_eq(data.samples[1].line, 3);
    CHECK_MESSAGE(data.notes[0], "train.jsonl, line 2: too odd");
    text_data_free(&data);
    /* With a template, prompt and completion became messages. */
    json_t *asked = json_load_file(in_scratch("asked"), 0, NULL);
    json_t *expected =
        json_pack("{s[{ssss}, {ssss}]}", "chat", "role", "user", "content", "a",
                  "role", "assistant", "content", "b");
    ck_assert(json_equal(json_array_get(json_object_get(asked, "samples"), 0),
                         expected));
    json_decref(asked);
    json_decref(expected);
}
END_TEST

/* It writes more than a pipe holds before it reads more than a pipe holds;
 * who would only write, then only read, would wait for ever. */
START_TEST(both_ways_at_once)
{
    const size_t length = 4000000;
    char *text = malloc(length);
    int32_t *ids;
    size_t n;
    memset(text, 'x', length);
    ck_assert_int_eq(open_script(INFO
                                 "head -c 4000000 /dev/zero | tr '\\0' ' '\n"
                                 "head -n 1 | wc -c >\"$1/read\"\n"
                                 "echo '{\"ids\": [7]}'\n"),
                     0);
    ck_assert_int_eq(tokenizer_encode(t, text, length, &ids, &n, &error), 0);
    ck_assert_int_eq(ids[0], 7);
    free(ids);
    free(text);
    FILE *file = fopen(in_scratch("read"), "r");
    size_t read = 0;
    ck_assert_int_eq(fscanf(file, "%zu", &read), 1);
    fclose(file);
    ck_assert_uint_eq(read, length + strlen("{\"encode\":\"\"}\n"));
}
END_TEST

/* No SIGPIPE, which would end this program. */
START_TEST(dies_in_the_middle)
{
    const size_t length = 4000000;
    char *text = malloc(length);
    int32_t *ids;
    size_t n;
    memset(text, 'x', length);
    ck_assert_int_eq(open_script(INFO "head -c 1000 >/dev/null; exit 4"), 0);
    ck_assert_int_eq(tokenizer_encode(t, text, length, &ids, &n, &error),
                     TEXT_FAILED);
    ck_assert_ptr_null(ids);
    CHECK_MESSAGE(error, "exit status 4");
    free(text);
}
END_TEST

/* A program whose own standard input is closed gives its child one. */
START_TEST(without_standard_input)
{
    int kept = dup(0);
    close(0);
    int status = open_script(INFO "read line; echo '{\"text\": \"a\"}'\n");
    const char *piece = "";
    size_t n;
    if (status == TEXT_OK)
        status = tokenizer_piece(t, 1, &piece, &n, &error);
    tokenizer_close(t);
    t = NULL;
    if (kept >= 0) {
        dup2(kept, 0);
        close(kept);
    }
    ck_assert_msg(status == TEXT_OK, "%s", error.message);
}
END_TEST

START_TEST(not_utf8)
{
    int32_t *ids;
    size_t n;
    ck_assert_int_eq(open_script(INFO), 0);
    ck_assert_int_eq(tokenizer_encode(t, "\xFF", 1, &ids, &n, &error),
                     TEXT_INPUT);
    CHECK_MESSAGE(error, "not UTF-8");
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("text_tokenizer");
    TCase *tests = tcase_create("tokenizer");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, bytes_info);
    tcase_add_test(tests, bytes_of_a_prompt);
    tcase_add_test(tests, bytes_pieces);
    tcase_add_test(tests, bytes_at_random);
    tcase_add_test(tests, special_tokens_are_left_out);
    tcase_add_test(tests, does_not_start);
    tcase_add_test(tests, nothing_to_start);
    tcase_add_test(tests, asks);
    tcase_add_test(tests, bad_samples);
    tcase_add_test(tests, samples);
    tcase_add_test(tests, both_ways_at_once);
    tcase_add_test(tests, dies_in_the_middle);
    tcase_add_test(tests, without_standard_input);
    tcase_add_test(tests, not_utf8);
    suite_add_tcase(suite, tests);
    return support_main(argc, argv, suite);
}
