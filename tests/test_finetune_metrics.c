/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics and progress of examples/finetune: what is written is read back,
 * cut back to a step, and refused when it is not ours. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <sys/ioctl.h>

#include "files.h"
#include "finetune/metrics.h"
#include "finetune/progress.h"

#define SAYS(status, expected, part)                                           \
    do {                                                                       \
        int got = (status);                                                    \
        ck_assert_msg(got == (expected) && strstr(why.message, part) != NULL,  \
                      "%d, \"%s\"; expected %d and \"%s\"", got, why.message,  \
                      expected, part);                                         \
    } while (0)
#define DONE(status) ck_assert_msg((status) == TEXT_OK, "%s", why.message)

static text_error why;
static const char *const groups[] = {"clean", "a, \"b\" \xc3\xa9"};
enum { GROUPS = 2, STEPS = 12 };

static void in_temporary(void)
{
    files_setup("/tmp");
    strcpy(why.message, "");
}

static double some(void)
{
    return support_normal() * pow(10, 8 * support_uniform() - 4);
}

static metrics_record random_record(int64_t step)
{
    metrics_record r;
    metrics_record_clear(&r);
    r.step = step;
    r.samples = 16 * step;
    r.tokens = (INT64_C(1) << 40) + step;
    r.seconds = 0.25 * (double)step;
    r.loss = some(), r.nll = some(), r.token_nll = some();
    r.mean_p = support_uniform(), r.mean_w = support_uniform();
    r.sd_c = some(), r.grad_norm = some(), r.lr = some(), r.clip = 1;
    r.skipped = support_below(3), r.rewrites = support_below(30);
    if (step % 3 == 0)
        r.eval_nll = some(), r.eval_p = support_uniform();
    r.groups[0] = (metrics_group){5 + step, some(), some()};
    if (step % 2 == 0)
        r.groups[1] = (metrics_group){7, some(), some()};
    return r;
}

static metrics *open_after(int64_t after)
{
    metrics *m = NULL;
    DONE(metrics_open(scratch, after, groups, GROUPS, &m, &why));
    return m;
}

static void append_all(const metrics_record *r, int64_t from, int64_t to)
{
    metrics *m = open_after(from);
    for (int64_t i = from; i < to; i++)
        DONE(metrics_append(m, &r[i], &why));
    DONE(metrics_sync(m, &why));
    metrics_close(m);
}

static void make_run(metrics_record *r)
{
    for (int64_t i = 0; i < STEPS; i++)
        r[i] = random_record(i + 1);
    append_all(r, 0, STEPS);
}

static void same(double a, double b)
{
    ck_assert_msg((isnan(a) && isnan(b)) || a == b ||
                      fabs(a - b) <= 1e-8 * fabs(b),
                  "%.17g, expected %.17g", a, b);
}

static void same_record(const metrics_record *a, const metrics_record *b)
{
    ck_assert_int_eq(a->step, b->step);
    ck_assert_int_eq(a->samples, b->samples);
    ck_assert_int_eq(a->tokens, b->tokens);
    ck_assert_int_eq(a->skipped, b->skipped);
    ck_assert_int_eq(a->rewrites, b->rewrites);
    same(a->seconds, b->seconds), same(a->loss, b->loss);
    same(a->nll, b->nll), same(a->token_nll, b->token_nll);
    same(a->mean_p, b->mean_p), same(a->mean_w, b->mean_w);
    same(a->sd_c, b->sd_c), same(a->grad_norm, b->grad_norm);
    same(a->lr, b->lr), same(a->clip, b->clip);
    same(a->eval_nll, b->eval_nll), same(a->eval_p, b->eval_p);
    for (int g = 0; g < GROUPS; g++) {
        ck_assert_int_eq(a->groups[g].samples, b->groups[g].samples);
        same(a->groups[g].w, b->groups[g].w);
        same(a->groups[g].c, b->groups[g].c);
    }
}

START_TEST(reads_back)
{
    metrics_record r[STEPS];
    metrics_table t;
    make_run(r);
    DONE(metrics_read(scratch, &t, &why));
    ck_assert_uint_eq(t.n, STEPS);
    ck_assert_uint_eq(t.n_groups, GROUPS);
    for (int g = 0; g < GROUPS; g++)
        ck_assert_str_eq(t.groups[g], groups[g]);
    for (int i = 0; i < STEPS; i++)
        same_record(&t.records[i], &r[i]);
    metrics_table_free(&t);
    metrics_table_free(&t);
}
END_TEST

/* The JSON has the same numbers under the same names, and no key for what
 * there is not. */
START_TEST(json_lines)
{
    metrics_record r[STEPS];
    size_t n;
    make_run(r);
    r[3].loss = INFINITY;
    append_all(r, 3, STEPS);
    char *text = get_file("metrics.jsonl", &n), *line = text;
    for (int i = 0; i < STEPS; i++, line = strchr(line, '\n') + 1) {
        json_t *o = json_loadb(line, (size_t)(strchr(line, '\n') - line),
                               JSON_REJECT_DUPLICATES, NULL);
        ck_assert_ptr_nonnull(o);
        ck_assert_int_eq(json_integer_value(json_object_get(o, "step")), i + 1);
        if (i == 3)
            ck_assert(json_is_null(json_object_get(o, "loss")));
        else
            same(json_number_value(json_object_get(o, "loss")), r[i].loss);
        ck_assert((json_object_get(o, "eval_nll") != NULL) == (i % 3 == 2));
        json_t *all = json_object_get(o, "groups");
        ck_assert_uint_eq(json_object_size(all), GROUPS);
        json_t *g = json_object_get(all, groups[1]);
        ck_assert_uint_eq(json_object_size(g), i % 2 ? 3 : 1);
        json_decref(o);
    }
    ck_assert_str_eq(line, "");
    free(text);
}
END_TEST

static void same_files(const char *csv, const char *json)
{
    size_t n, k;
    char *a = get_file("metrics.csv", &n), *b = get_file("metrics.jsonl", &k);
    ck_assert_str_eq(a, csv);
    ck_assert_str_eq(b, json);
    free(a), free(b);
}

/* Going on from any step gives the files of a run that never stopped. */
START_TEST(cut_back)
{
    metrics_record r[STEPS];
    size_t n;
    make_run(r);
    char *csv = get_file("metrics.csv", &n);
    char *json = get_file("metrics.jsonl", &n);
    for (int64_t step = 0; step <= STEPS; step++) {
        append_all(r, step, STEPS);
        same_files(csv, json);
    }
    free(csv), free(json);
}
END_TEST

/* kill -9 and a crash of the machine leave any part of the later lines. */
START_TEST(unfinished_lines)
{
    enum { KEPT = 10 };
    metrics_record r[STEPS];
    size_t n, k;
    make_run(r);
    char *csv = get_file("metrics.csv", &n);
    char *json = get_file("metrics.jsonl", &k);
    for (int which = 0; which < 2; which++) {
        const char *name = which ? "metrics.jsonl" : "metrics.csv";
        char *text = which ? json : csv, *end = text;
        for (int line = 0; line < KEPT + !which; line++)
            end = strchr(end, '\n') + 1;
        for (size_t length = strlen(text); text + length >= end; length--) {
            put_file(name, text, length);
            append_all(r, KEPT, STEPS);
            same_files(csv, json);
        }
        metrics *m;
        put_file(name, text, (size_t)(end - text) - 1);
        SAYS(metrics_open(scratch, KEPT, groups, GROUPS, &m, &why), TEXT_INPUT,
             name);
        ck_assert_ptr_null(m);
        put_text(name, text);
    }
    free(csv), free(json);
}
END_TEST

START_TEST(nothing_before_the_first_record)
{
    metrics *m = open_after(0);
    DONE(metrics_sync(m, &why));
    ck_assert_int_eq(count_entries(scratch), 0);
    metrics_close(m);
    ck_assert_int_eq(count_entries(scratch), 0);
    metrics_close(NULL);
}
END_TEST

START_TEST(begun_late)
{
    metrics_record r[STEPS];
    metrics_table t;
    make_run(r);
    ck_assert_int_eq(remove(in_scratch("metrics.csv")), 0);
    append_all(r, 5, STEPS);
    DONE(metrics_read(scratch, &t, &why));
    ck_assert_uint_eq(t.n, STEPS - 5);
    ck_assert_int_eq(t.records[0].step, 6);
    metrics_table_free(&t);
}
END_TEST

START_TEST(refusals)
{
    static const char *const many[METRICS_GROUPS + 1] = {
        "0", "1", "2", "3", "4", "5", "6", "7", "8"};
    static const char *const control[] = {"a\nb"};
    metrics_record r[STEPS];
    metrics *m;
    make_run(r);
    SAYS(metrics_open(scratch, STEPS + 1, groups, GROUPS, &m, &why), TEXT_INPUT,
         "has no step 13");
    SAYS(metrics_open(scratch, 3, groups, 1, &m, &why), TEXT_INPUT,
         "other columns");
    SAYS(metrics_open(scratch, 3, many, METRICS_GROUPS + 1, &m, &why),
         TEXT_INPUT, "9 groups");
    SAYS(metrics_open(scratch, 3, control, 1, &m, &why), TEXT_INPUT,
         "control character");
    ck_assert_ptr_null(m);
    m = open_after(4);
    SAYS(metrics_append(m, &r[3], &why), TEXT_FAILED, "step 4 after step 4");
    metrics_close(m);
}
END_TEST

START_TEST(disk)
{
    metrics_record r = random_record(1);
    metrics *m;
    DONE(metrics_open(in_scratch("none"), 0, groups, GROUPS, &m, &why));
    SAYS(metrics_append(m, &r, &why), TEXT_FAILED, "none/metrics.csv: cannot");
    metrics_close(m);
    ck_assert_int_eq(symlink("/dev/full", in_scratch("metrics.csv")), 0);
    m = open_after(0);
    SAYS(metrics_append(m, &r, &why), TEXT_FAILED, "No space left");
    metrics_close(m);
}
END_TEST

START_TEST(damaged)
{
    static const struct {
        const char *from, *to, *says;
    } cases[] = {{"step,", "stop,", "line 1: is not the header"},
                 {",w_clean", ",v_clean", "line 1: is not the header"},
                 {",c_clean", "", "line 1: is not the header"},
                 {"\n2,", "\nx,", "line 3: step is \"x\""},
                 {"\n2,", "\n1,", "line 3: the step does not ascend"},
                 {"\n2,", "\n2\n", "line 3: has fewer fields"},
                 {"\n3,", "\n3,1,", "expected a number"},
                 {"\n3,", "\n\n3,", "line 4: step is \"\""}};
    metrics_record r[STEPS];
    metrics_table t;
    size_t n;
    make_run(r);
    char *text = get_file("metrics.csv", &n), *all = malloc(n + 64);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(text, cases[i].from);
        ck_assert_ptr_nonnull(at);
        snprintf(all, n + 64, "%.*s%s%s", (int)(at - text), text, cases[i].to,
                 at + strlen(cases[i].from));
        put_text("metrics.csv", all);
        int status = metrics_read(scratch, &t, &why);
        if (strcmp(cases[i].says, "expected a number") == 0)
            SAYS(status, TEXT_INPUT, "line 4: ");
        else
            SAYS(status, TEXT_INPUT, cases[i].says);
        ck_assert_ptr_null(t.records);
    }
    put_text("metrics.csv", "");
    SAYS(metrics_read(scratch, &t, &why), TEXT_INPUT, "has no header");
    put_file("metrics.csv", "a\0b\n", 4);
    SAYS(metrics_read(scratch, &t, &why), TEXT_INPUT, "NUL");
    ck_assert_int_eq(remove(in_scratch("metrics.csv")), 0);
    SAYS(metrics_read(scratch, &t, &why), TEXT_INPUT, "No such file");
    free(text), free(all);
}
END_TEST

/* -------------------------------------------------------------- progress */

static void steps_of(progress *p, FILE *to, int64_t steps, int64_t log_every)
{
    metrics_record r;
    metrics_record_clear(&r);
    progress_start(p, to, "dft", steps, log_every, &r);
    for (int64_t i = 1; i <= steps; i++) {
        r.step = i;
        r.samples = 16 * i;
        /* Twice as fast from step 50 on. */
        r.tokens = 1000 * i;
        r.seconds = i < 50 ? (double)i : 50 + (double)(i - 50) / 2;
        r.loss = r.nll = 1, r.mean_w = 0.5, r.grad_norm = 2, r.lr = 1e-3;
        progress_step(p, &r);
        if (i == 30)
            progress_note(p, "checkpoint of step %d", 30);
    }
    progress_end(p);
    progress_end(p);
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

START_TEST(progress_in_a_file)
{
    progress p;
    size_t n;
    FILE *to = fopen(in_scratch("log"), "wb");
    steps_of(&p, to, 104, 20);
    fclose(to);
    char *text = get_file("log", &n);
    ck_assert_int_eq(count_lines(text), 5 + 1 + 1);
    ck_assert_ptr_nonnull(strstr(text, "\ndft: checkpoint of step 30\n"));
    /* The window is over the last steps: 84 left at 1 s, 4 at 0.5 s. */
    ck_assert_ptr_nonnull(strstr(text, "dft 20/104  1m24s left"));
    ck_assert_ptr_nonnull(strstr(text, "  1000 tokens/s  320 samples\n"));
    ck_assert_ptr_nonnull(strstr(text, "dft 100/104  2s left"));
    ck_assert_ptr_nonnull(strstr(text, "  2000 tokens/s  1600 samples\n"));
    ck_assert_ptr_nonnull(strstr(text, "\ndft 104/104  0s left"));
    ck_assert_ptr_null(strchr(text, '\033'));
    free(text);
    steps_of(&p, NULL, 104, 20);
}
END_TEST

/* On a terminal nothing is longer than a line of it, and no number is cut. */
START_TEST(progress_on_a_terminal)
{
    enum { COLUMNS = 47 };
    static char text[1 << 16];
    struct winsize size = {.ws_row = 24, .ws_col = COLUMNS};
    progress p;
    int host = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert(host >= 0 && grantpt(host) == 0 && unlockpt(host) == 0);
    int terminal = open(ptsname(host), O_RDWR | O_NOCTTY);
    FILE *to = fdopen(terminal, "wb");
    ck_assert_int_eq(ioctl(terminal, TIOCSWINSZ, &size), 0);
    steps_of(&p, to, 40, 1);
    fclose(to);
    size_t n = 0;
    for (ssize_t got; (got = read(host, text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)got; /* until nobody has the terminal open */
    text[n] = 0;
    ck_assert_int_eq(count_lines(text), 2); /* the note, and the last line */
    for (char *at = text; (at = strstr(at, "\rdft ")); at++) {
        char *end = strstr(at, "\033[K");
        ck_assert_ptr_nonnull(end);
        ck_assert_int_lt(end - at - 1, COLUMNS);
        ck_assert_mem_eq(end - 6, "1.0000", 6);
    }
    close(host);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("finetune_metrics");
    TCase *files = tcase_create("files"), *lines = tcase_create("progress");
    tcase_add_checked_fixture(files, in_temporary, files_teardown);
    tcase_add_checked_fixture(lines, in_temporary, files_teardown);
    tcase_add_test(files, reads_back);
    tcase_add_test(files, json_lines);
    tcase_add_test(files, cut_back);
    tcase_add_test(files, unfinished_lines);
    tcase_add_test(files, nothing_before_the_first_record);
    tcase_add_test(files, begun_late);
    tcase_add_test(files, refusals);
    tcase_add_test(files, disk);
    tcase_add_test(files, damaged);
    tcase_add_test(lines, progress_in_a_file);
    tcase_add_test(lines, progress_on_a_terminal);
    suite_add_tcase(suite, files);
    suite_add_tcase(suite, lines);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
