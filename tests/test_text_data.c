/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lines into samples: the forms, what is refused and how it is named,
 * and files as people have them. */
#define _GNU_SOURCE
#include "text_files.h"

static tokenizer *bytes;
static text_data_options options;
static text_data data;
static text_error error;

static void setup(void)
{
    files_setup("/tmp");
    ck_assert_int_eq(tokenizer_open("bytes", NULL, &bytes, &error), TEXT_OK);
    options = (text_data_options){.tokenizer = bytes};
    data = (text_data){0};
}

static void teardown(void)
{
    text_data_free(&data);
    tokenizer_close(bytes);
    files_teardown();
}

static int read_text(const char *text)
{
    text_data_free(&data);
    error.message[0] = '\0';
    return text_data_read(write_text("train.jsonl", text), &options, &data,
                          &error);
}

static void check_read(const char *text)
{
    int status = read_text(text);
    ck_assert_msg(status == TEXT_OK, "%s: %s", text, error.message);
}

static void check_sample(size_t i,
                         size_t line,
                         int32_t n,
                         const int32_t *tokens,
                         const int32_t *labels)
{
    const text_sample *s = &data.samples[i];
    int32_t learned = 0;
    ck_assert_uint_lt(i, data.n);
    ck_assert_uint_eq(s->line, line);
    ck_assert_int_eq(s->n, n);
    for (int32_t r = 0; r < n; r++) {
        ck_assert_int_eq(s->tokens[r], tokens[r]);
        ck_assert_int_eq(s->labels[r], labels[r]);
        learned += labels[r] != -100;
    }
    ck_assert_int_eq(s->n_labels, learned);
}

/* Line 1 is refused, in a sentence with `says` after file and line. */
static void check_refused(const char *text, const char *says)
{
    int status = read_text(text);
    ck_assert_msg(status == TEXT_INPUT, "%s: %d", text, status);
    CHECK_MESSAGE(error, "train.jsonl, line 1: ");
    CHECK_MESSAGE(error, says);
}

/* ------------------------------------------------------------------ forms */

START_TEST(texts)
{
    static const int32_t tokens[] = {257, 'a', 'b', 'c', 256};
    static const int32_t labels[] = {-100, -100, 'c', 256, -100};
    check_read("{\"prompt\": \"ab\", \"completion\": \"c\"}\n"
               "{\"answer\": \"c\", \"question\": \"ab\", \"more\": [1]}\n");
    ck_assert_uint_eq(data.n, 2);
    check_sample(0, 1, 5, tokens, labels);
    check_sample(1, 2, 5, tokens, labels);
    ck_assert_int_eq(data.samples[0].n_prompt, 3);
}
END_TEST

START_TEST(ids)
{
    static const int32_t tokens[] = {5, 6, 7, 8};
    static const int32_t pair[] = {-100, 7, 8, -100};
    static const int32_t middle[] = {6, -100, 8, -100};
    options.tokenizer = NULL; /* none is needed */
    check_read("{\"prompt_ids\": [5, 6], \"completion_ids\": [7, 8]}\n"
               "{\"tokens\": [5, 6, 7, 8, 9], "
               "\"labels\": [-100, 6, -100, 8, -100]}\n");
    ck_assert_uint_eq(data.n, 2);
    check_sample(0, 1, 4, tokens, pair);
    check_sample(1, 2, 4, tokens, middle); /* 9 leads nowhere */
    ck_assert_int_eq(data.samples[0].n_prompt, 2);
    ck_assert_int_eq(data.samples[1].n_prompt, 1);
}
END_TEST

/* What a line says of where it comes from, for tables. */
START_TEST(groups)
{
    options.bad_lines = BAD_LINES_SKIP;
    check_read(
        "{\"prompt\": \"a\", \"completion\": \"b\", \"group\": \"x\"}\n"
        "{\"prompt\": \"\", \"completion\": \"\", \"group\": \"z\"}\n"
        "{\"prompt_ids\": [1], \"completion_ids\": [2]}\n"
        "{\"prompt_ids\": [1], \"completion_ids\": [2], "
        "\"group\": \"y\"}\n"
        "{\"group\": \"x\", \"prompt\": \"a\", \"completion\": \"b\"}\n");
    ck_assert_uint_eq(data.n, 4);
    ck_assert_str_eq(data.groups[data.samples[0].group], "x");
    ck_assert_int_eq(data.samples[1].group, -1);
    ck_assert_str_eq(data.groups[data.samples[2].group], "y");
    ck_assert_int_eq(data.samples[3].group, data.samples[0].group);
    options.bad_lines = BAD_LINES_STOP;
    check_refused("{\"prompt\": \"a\", \"completion\": \"b\", \"group\": 1}",
                  "field \"group\" is not a text");
}
END_TEST

/* Without a prompt the first token cannot be learned, and the rest can. */
START_TEST(no_prompt)
{
    static const int32_t tokens[] = {7, 8}, labels[] = {8, -100};
    check_read("{\"prompt_ids\": [], \"completion_ids\": [7, 8]}");
    check_sample(0, 1, 2, tokens, labels);
    check_refused("{\"prompt_ids\": [], \"completion_ids\": [7]}",
                  "the only target is the first token");
}
END_TEST

START_TEST(order_of_mixed_forms)
{
    check_read("{\"prompt\": \"a\", \"completion\": \"b\"}\n"
               "{\"prompt_ids\": [1], \"completion_ids\": [2]}\n"
               "\n"
               "{\"prompt\": \"c\", \"completion\": \"d\"}\n");
    ck_assert_uint_eq(data.n, 3);
    ck_assert_int_eq(data.samples[0].tokens[1], 'a');
    ck_assert_int_eq(data.samples[1].tokens[0], 1);
    ck_assert_int_eq(data.samples[2].tokens[1], 'c');
    ck_assert_uint_eq(data.samples[2].line, 4);
}
END_TEST

START_TEST(one_made_by_hand)
{
    static const int32_t prompt[] = {1, 2}, completion[] = {3};
    text_sample s;
    ck_assert_int_eq(sample_make(prompt, 2, completion, 1, &s, &error), 0);
    ck_assert_int_eq(s.n, 3);
    ck_assert_int_eq(s.labels[1], 3);
    ck_assert_int_eq(s.n_labels, 1);
    sample_free(&s);
    ck_assert_int_eq(sample_make(prompt, 2, NULL, 0, &s, &error), TEXT_INPUT);
    ck_assert_ptr_null(s.tokens);
    ck_assert_int_eq(sample_make(NULL, 0, NULL, 0, &s, &error), TEXT_INPUT);
}
END_TEST

/* ---------------------------------------------------------------- hostile */

static const struct {
    const char *line, *says;
} bad[] = {
    {"{\"prompt\": \"a\", \"completion\": \"\"}",
     "field \"completion\" is empty"},
    {"{\"question\": \"a\", \"answer\": \"\"}", "field \"answer\" is empty"},
    {"{\"prompt\": \"a\"}", "field \"completion\" is missing"},
    {"{\"completion\": \"a\"}", "field \"prompt\" is missing"},
    {"{\"prompt\": \"a\", \"answer\": \"b\"}", "\"completion\" is missing"},
    {"{\"answer\": \"b\"}", "field \"question\" is missing"},
    {"{}", "field \"prompt\" is missing"},
    {"{\"prompt\": 1, \"completion\": \"a\"}", "\"prompt\" is a number"},
    {"{\"prompt\": \"a\", \"completion\": null}", "\"completion\" is null"},
    {"[\"prompt\"]", "is an array, not an object"},
    {"\"prompt\"", "is a text, not an object"},
    {"{\"prompt\": \"a\", \"prompt\": \"b\", \"completion\": \"c\"}",
     "duplicate"},
    {"{\"prompt\": \"a\", \"completion\": \"b", "not valid JSON"},
    {"{\"prompt\": \"a\x01\", \"completion\": \"b\"}", "not valid JSON"},
    {"{\"prompt\": \"\xC3(\", \"completion\": \"b\"}", "not valid JSON"},
    {"{\"prompt\": \"\xED\xA0\x80\", \"completion\": \"b\"}", "not valid"},
    {"{\"prompt\": \"\\ud800\", \"completion\": \"b\"}", "not valid JSON"},
    {"{\"prompt\": \"a\", \"completion\": \"b\"} x", "not valid JSON"},
    {"{\"prompt_ids\": [1], \"completion_ids\": []}",
     "field \"completion_ids\" is empty"},
    {"{\"prompt_ids\": [1, -1], \"completion_ids\": [1]}",
     "field \"prompt_ids\": element 1 is -1"},
    {"{\"prompt_ids\": [1], \"completion_ids\": [2147483648]}",
     "element 0 is 2147483648"},
    {"{\"prompt_ids\": [1], \"completion_ids\": [99999999999999999999]}",
     "not valid JSON"},
    {"{\"prompt_ids\": [1.5], \"completion_ids\": [1]}", "is a fraction"},
    {"{\"prompt_ids\": [true], \"completion_ids\": [1]}", "is a truth value"},
    {"{\"prompt_ids\": [], \"completion_ids\": [[1]]}", "is an array"},
    {"{\"tokens\": [1, 2], \"labels\": [2]}", "\"labels\" has 1 elements"},
    {"{\"tokens\": [1, 2], \"labels\": [2, -100]}", "not shifted"},
    {"{\"tokens\": [1, 2], \"labels\": [-100, -100]}", "nothing to learn"},
    {"{\"tokens\": [], \"labels\": []}", "nothing to learn"},
    {"{\"tokens\": [1, 2]}", "field \"labels\" is missing"},
    {"{\"messages\": []}", "no message of the assistant"},
    {"{\"messages\": {}}", "field \"messages\" is an object"},
    {"{\"messages\": [1]}", "message 0 is a number"},
    {"{\"messages\": [{\"content\": \"a\"}]}",
     "message 0: field \"role\" is missing"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}",
     "message 0: field \"content\" is an array"},
    {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}",
     "message 0: field \"content\" is empty"},
    {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
     "no message of the assistant"},
    {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}], "
     "\"tools\": [{}]}",
     "\"tools\" is not supported"},
    {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}",
     "no chat template"},
};

START_TEST(refused)
{
    check_refused(bad[_i].line, bad[_i].says);
}
END_TEST

/* A good line before and behind: its number, and what skipping leaves. */
START_TEST(skipped)
{
    static const char good[] = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    char text[1024];
    snprintf(text, sizeof text, "%s\n%s\n%s", good, bad[_i].line, good);
    ck_assert_int_eq(read_text(text), TEXT_INPUT);
    CHECK_MESSAGE(error, "line 3: ");
    options.bad_lines = BAD_LINES_SKIP;
    check_read(text);
    ck_assert_uint_eq(data.n, 2);
    ck_assert_uint_eq(data.samples[1].line, 4);
    ck_assert_uint_eq(data.n_bad, 1);
    ck_assert_uint_eq(data.n_notes, 1);
    CHECK_MESSAGE(data.notes[0], "train.jsonl, line 3: ");
    CHECK_MESSAGE(data.notes[0], bad[_i].says);
}
END_TEST

START_TEST(deep_nesting)
{
    enum { DEEP = 100000 };
    char *text = malloc(DEEP + 200);
    memset(text, '[', DEEP);
    text[DEEP] = '\0';
    check_refused(text, "not valid JSON");
    /* Less deep than the parser's limit, more than who comes after it. */
    strcpy(text, "{\"messages\": [{\"role\": \"assistant\", "
                 "\"content\": \"a\", \"x\": ");
    size_t n = strlen(text);
    memset(text + n, '[', 1000);
    memset(text + n + 1000, ']', 1000);
    strcpy(text + n + 2000, "}]}");
    check_refused(text, "nested too deeply");
    free(text);
}
END_TEST

START_TEST(nul_is_a_character)
{
    static const int32_t tokens[] = {257, 'a', 0, 0, 256};
    static const int32_t labels[] = {-100, -100, 0, 256, -100};
    check_read("{\"prompt\": \"a\\u0000\", \"completion\": \"\\u0000\"}");
    check_sample(0, 1, 5, tokens, labels);
}
END_TEST

/* Where a terminal would obey what the sentence quotes. */
START_TEST(sentences_are_printable)
{
    ck_assert_int_eq(read_text("{\"prompt\": \"a\", \x1b[2J}"), TEXT_INPUT);
    for (const char *at = error.message; *at; at++)
        ck_assert_int_ge((unsigned char)*at, 0x20);
}
END_TEST

/* ----------------------------------------------------------------- limits */

START_TEST(vocabulary)
{
    options.vocab = 257;
    check_refused("{\"prompt\": \"a\", \"completion\": \"b\"}",
                  "token 0 of the sample is id 257, outside the model's "
                  "vocabulary of 257");
    options.vocab = 8;
    check_read("{\"prompt_ids\": [0], \"completion_ids\": [7]}");
    check_refused("{\"prompt_ids\": [0], \"completion_ids\": [7, 8]}",
                  "token 2 of the sample is id 8");
}
END_TEST

START_TEST(long_samples)
{
    static const char text[] = "{\"prompt_ids\": [1, 2], "
                               "\"completion_ids\": [3, 4]}\n"
                               "{\"prompt_ids\": [1], \"completion_ids\": "
                               "[3, 4]}\n";
    options.max_tokens = 4;
    check_read(text);
    ck_assert_uint_eq(data.n, 2);
    options.max_tokens = 3;
    check_read(text);
    ck_assert_uint_eq(data.n, 1);
    ck_assert_uint_eq(data.n_long, 1);
    ck_assert_uint_eq(data.n_bad, 0);
    ck_assert_uint_eq(data.samples[0].line, 2);
    CHECK_MESSAGE(data.notes[0], "line 1: 4 tokens, at most 3 are taken");
    options.strict = 1;
    check_refused(text, "4 tokens, at most 3 are taken");
}
END_TEST

/* The first bad line of the file is the one reported, also when it is known
 * to be bad later than another, as the tokenizer is asked for many. */
START_TEST(first_bad_line)
{
    static const char *const second[] = {
        "{}", "{\"prompt_ids\": [1, 2, 3], \"completion_ids\": [4]}"};
    options.max_tokens = 3;
    options.strict = 1;
    for (size_t i = 0; i < 2; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "{\"prompt\": \"ab\", \"completion\": \"c\"}\n%s\n",
                 second[i]);
        ck_assert_int_eq(read_text(text), TEXT_INPUT);
        CHECK_MESSAGE(error, "line 1: 5 tokens");
    }
}
END_TEST

/* 10 MB are read; beyond the limit the line is bad and the next one not. */
START_TEST(long_lines)
{
    static const char head[] = "{\"prompt\": \"a\", \"completion\": \"";
    static const char tail[] =
        "\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    const size_t n = 10000000;
    char *text = malloc(n + sizeof head + sizeof tail);
    strcpy(text, head);
    memset(text + sizeof head - 1, 'x', n);
    strcpy(text + sizeof head - 1 + n, tail);
    check_read(text);
    ck_assert_uint_eq(data.n, 2);
    ck_assert_int_eq(data.samples[0].n, (int32_t)n + 3);
    options.max_line = n;
    check_refused(text, "longer than 10000000 bytes");
    options.bad_lines = BAD_LINES_SKIP;
    check_read(text);
    ck_assert_uint_eq(data.n, 1);
    ck_assert_uint_eq(data.samples[0].line, 2);
    free(text);
}
END_TEST

START_TEST(many_lines)
{
    const size_t n = 5000;
    char *text = malloc(n * 64), *at = text;
    for (size_t i = 0; i < n; i++) {
        if (i % 1000 == 999)
            at += sprintf(at, "{\"prompt\": \"%zu\"}\n", i);
        else
            at += sprintf(at, "{\"prompt\": \"%zu\", \"completion\": \"b\"}\n",
                          i);
    }
    ck_assert_int_eq(read_text(text), TEXT_INPUT);
    CHECK_MESSAGE(error, "line 1000: ");
    options.bad_lines = BAD_LINES_SKIP;
    check_read(text);
    ck_assert_uint_eq(data.n, n - 5);
    ck_assert_uint_eq(data.n_bad, 5);
    for (size_t i = 0; i < data.n; i++) {
        char number[16], shown[16];
        size_t k = (size_t)data.samples[i].n_prompt - 1;
        snprintf(number, sizeof number, "%zu", data.samples[i].line - 1);
        for (size_t c = 0; c < k; c++)
            shown[c] = (char)data.samples[i].tokens[1 + c];
        shown[k] = '\0';
        ck_assert_str_eq(shown, number);
    }
    free(text);
}
END_TEST

/* ------------------------------------------------------------------ files */

START_TEST(ends_of_lines)
{
    static const char line[] = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    char text[512];
    snprintf(text, sizeof text, "\xEF\xBB\xBF%s\r\n\r\n \t\n%s", line, line);
    check_read(text);
    ck_assert_uint_eq(data.n, 2);
    ck_assert_uint_eq(data.samples[1].line, 4);
    /* A byte order mark is one at the beginning alone. */
    snprintf(text, sizeof text, "%s\n\xEF\xBB\xBF%s", line, line);
    ck_assert_int_eq(read_text(text), TEXT_INPUT);
    CHECK_MESSAGE(error, "line 2: ");
    snprintf(text, sizeof text, "\xEF\xBB\xBF\n%s", line);
    check_read(text);
}
END_TEST

START_TEST(nothing_in_it)
{
    ck_assert_int_eq(read_text(""), TEXT_INPUT);
    CHECK_MESSAGE(error, "train.jsonl: is empty");
    ck_assert_int_eq(read_text("\n\n \r\n"), TEXT_INPUT);
    CHECK_MESSAGE(error, "is empty");
    options.bad_lines = BAD_LINES_SKIP;
    ck_assert_int_eq(read_text("\n{}\n"), TEXT_INPUT);
    CHECK_MESSAGE(error, "no line can be used");
    CHECK_MESSAGE(error, "line 2: field");
}
END_TEST

START_TEST(not_a_file)
{
    ck_assert_int_eq(text_data_read(scratch, &options, &data, &error),
                     TEXT_INPUT);
    CHECK_MESSAGE(error, "is a folder");
    ck_assert_int_eq(
        text_data_read(in_scratch("nothing"), &options, &data, &error),
        TEXT_INPUT);
    CHECK_MESSAGE(error, "cannot be opened");
    ck_assert_uint_eq(data.n, 0);
}
END_TEST

START_TEST(texts_need_a_tokenizer)
{
    options.tokenizer = NULL;
    check_refused("{\"prompt\": \"a\", \"completion\": \"b\"}",
                  "texts need a tokenizer");
    options.tokenizer = bytes;
    options.format = FORMAT_CHAT;
    ck_assert_int_eq(read_text("{}"), TEXT_INPUT);
    CHECK_MESSAGE(error, "no chat template");
}
END_TEST

int main(int argc, char **argv)
{
    const int n_bad = (int)(sizeof bad / sizeof *bad);
    Suite *suite = suite_create("text_data");
    TCase *tests = tcase_create("data");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, texts);
    tcase_add_test(tests, ids);
    tcase_add_test(tests, groups);
    tcase_add_test(tests, no_prompt);
    tcase_add_test(tests, order_of_mixed_forms);
    tcase_add_test(tests, one_made_by_hand);
    tcase_add_loop_test(tests, refused, 0, n_bad);
    tcase_add_loop_test(tests, skipped, 0, n_bad);
    tcase_add_test(tests, deep_nesting);
    tcase_add_test(tests, nul_is_a_character);
    tcase_add_test(tests, sentences_are_printable);
    tcase_add_test(tests, vocabulary);
    tcase_add_test(tests, long_samples);
    tcase_add_test(tests, first_bad_line);
    tcase_add_test(tests, long_lines);
    tcase_add_test(tests, many_lines);
    tcase_add_test(tests, ends_of_lines);
    tcase_add_test(tests, nothing_in_it);
    tcase_add_test(tests, not_a_file);
    tcase_add_test(tests, texts_need_a_tokenizer);
    suite_add_tcase(suite, tests);
    return support_main(argc, argv, suite);
}
