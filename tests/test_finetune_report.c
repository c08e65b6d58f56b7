/* SPDX-License-Identifier: Apache-2.0 */
/* Table, picture and demonstration of examples/finetune. */
#include <ctype.h>
#include <jansson.h>
#include <math.h>

#include "files.h"
#include "finetune/demo.h"
#include "finetune/demo_answers.h"
#include "finetune/metrics.h"
#include "finetune/plot.h"
#include "finetune/summary.h"
#include "text/tokenizer.h"

#define SAYS(status, expected, part)                                           \
    do {                                                                       \
        int got = (status);                                                    \
        ck_assert_msg(got == (expected) && strstr(why.message, part) != NULL,  \
                      "%d, \"%s\"; expected %d and \"%s\"", got, why.message,  \
                      expected, part);                                         \
    } while (0)
#define DONE(status) ck_assert_msg((status) == TEXT_OK, "%s", why.message)

static text_error why;
static const char *const groups[] = {"clean", "odd"};

static char *path; /* where programs are looked for, before a test */

static void in_temporary(void)
{
    path = strdup(getenv("PATH"));
    files_setup("/tmp");
    strcpy(why.message, "");
}

static void clean_up(void)
{
    setenv("PATH", path, 1);
    free(path);
    files_teardown();
}

/* ---------------------------------------------------------------- summary */

/* A run of eight steps; in the last two the weights are what they are. */
static void make_run(const char *name, int weighted, int64_t steps)
{
    metrics *m;
    metrics_record r;
    summary_facts f;
    metrics_record_clear(&r);
    ck_assert_int_eq(mkdir(in_scratch(name), 0777), 0);
    DONE(metrics_open(in_scratch(name), 0, groups, 2, &m, &why));
    for (r.step = 1; r.step <= steps; r.step++) {
        r.samples = r.step <= 7 ? 4 * r.step : 28 + 12 * (r.step - 7);
        r.tokens = 100 * r.step;
        r.seconds = 0.5 * (double)r.step;
        r.loss = r.nll = r.token_nll = 1 / (double)r.step;
        r.mean_p = 0.5, r.grad_norm = 1, r.lr = 1e-3, r.clip = 1;
        r.mean_w = !weighted ? 1 : r.step == 7 ? 0.2 : 0.6;
        r.groups[0] = (metrics_group){3, weighted ? 0.9 : 1, 1};
        r.groups[1] = (metrics_group){r.step == 7, 0.3, 1};
        r.rewrites = weighted && r.step > 4 ? 2 : 0;
        r.eval_nll = r.step % 4 ? NAN : 2, r.eval_p = r.step % 4 ? NAN : 0.25;
        DONE(metrics_append(m, &r, &why));
    }
    metrics_close(m);
    summary_facts_clear(&f);
    strcpy(f.objective, name);
    f.planned = 8, f.weighted = weighted, f.finished = steps == 8;
    f.nll_before = 1.25, f.nll_after = weighted ? 0.5 : NAN;
    f.p_before = 0.5, f.p_after = 0.75;
    DONE(summary_save(in_scratch(name), &f, &why));
}

START_TEST(facts_are_read_back)
{
    summary_facts f, g;
    summary_facts_clear(&f);
    strcpy(f.objective, "power");
    f.planned = INT64_C(1) << 40, f.finished = 1;
    f.nll_before = 0.1 + 0.2, f.nll_after = INFINITY, f.moment_after = 1e-300;
    DONE(summary_save(scratch, &f, &why));
    ck_assert_int_eq(count_entries(scratch), 1);
    DONE(summary_load(scratch, &g, &why));
    ck_assert_str_eq(g.objective, "power");
    ck_assert_int_eq(g.planned, f.planned);
    ck_assert_int_eq(g.weighted, 0);
    ck_assert_int_eq(g.finished, 1);
    ck_assert(g.nll_before == f.nll_before && g.nll_after == INFINITY);
    ck_assert(g.moment_after == 1e-300 && isnan(g.moment_before));
    ck_assert(isnan(g.p_before) && isnan(g.p_after));
}
END_TEST

START_TEST(facts_that_cannot_be)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"objective\": 1, \"planned\": 1}",
        "{\"objective\": \"sft\"}",
        "{\"objective\": \"sft\", \"planned\": 1, \"p_after\": \"x\"}",
        "{\"objective\": "
        "\"1234567890123456789012345678901234567890123456789012345678901234\""
        ", \"planned\": 1}"};
    summary_facts f;
    SAYS(summary_load(scratch, &f, &why), TEXT_INPUT, "summary.json: cannot");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text("summary.json", bad[i]);
        SAYS(summary_load(scratch, &f, &why), TEXT_INPUT, "summary.json");
        ck_assert_str_eq(f.objective, "");
        ck_assert(isnan(f.p_after));
    }
    summary_facts_clear(&f);
    SAYS(summary_save(in_scratch("none"), &f, &why), TEXT_FAILED,
         "none/summary.json: cannot be written: No such file");
}
END_TEST

/* Counted by hand: the last quarter is steps 7 (4 samples) and 8 (12). */
START_TEST(numbers_of_a_run)
{
    summary_run r;
    make_run("cadft", 1, 8);
    DONE(summary_read(in_scratch("cadft"), &r, &why));
    ck_assert_int_eq(r.steps, 8);
    ck_assert_int_eq(r.rewrites, 2);
    ck_assert(fabs(r.w - (4 * 0.2 + 12 * 0.6) / 16) < 1e-9);
    ck_assert(fabs(r.group_w[0] - 0.9) < 1e-9);
    ck_assert(fabs(r.group_w[1] - 0.3) < 1e-9);
    ck_assert(fabs(r.tokens_per_second - 200) < 1e-9);
    summary_free(&r);
    make_run("dft", 0, 8);
    DONE(summary_read(in_scratch("dft"), &r, &why));
    ck_assert(isnan(r.w) && isnan(r.group_w[0]));
    summary_free(&r);
}
END_TEST

START_TEST(table)
{
    static const char wanted[] =
        "                  NLL at  NLL at    p at    p at   w of   w of   w of "
        "   targets    tokens                          \n"
        "objective  steps   start     end   start     end    all  clean    odd "
        " rewritten  a second                          \n"
        "sft            8  1.2500       -  0.5000  0.7500      -      -      - "
        "         0       200                          \n"
        "cadft          7  1.2500  0.5000  0.5000  0.7500  0.400  0.900  0.300 "
        "         2       200  stopped, 8 steps planned\n"
        "\n"
        "NLL, p  held out: nats a token, mean probability of the token\n"
        "w       mean weight of a sample in the last quarter of the steps\n";
    char folders[2][512];
    const char *list[] = {folders[0], folders[1]};
    size_t n;
    make_run("sft", 0, 8);
    make_run("cadft", 1, 7);
    strcpy(folders[0], in_scratch("sft"));
    strcpy(folders[1], in_scratch("cadft"));
    FILE *to = fopen(in_scratch("table"), "wb");
    DONE(summary_show(to, list, 2, &why));
    fclose(to);
    char *text = get_file("table", &n);
    ck_assert_str_eq(text, wanted);
    free(text);
    to = fopen("/dev/full", "wb");
    SAYS(summary_show(to, list, 2, &why), TEXT_FAILED, "No space left");
    fclose(to);
    strcpy(folders[1], in_scratch("none"));
    SAYS(summary_show(stdout, list, 2, &why), TEXT_INPUT, "none/summary.json");
}
END_TEST

/* ---------------------------------------------------------------- picture */

static int has_gnuplot(void)
{
    int there = system("gnuplot --version >/dev/null 2>&1") == 0;
    if (!there)
        puts("gnuplot is not installed: no picture is drawn in this test");
    return there;
}

static void path_without_gnuplot(const char *script)
{
    ck_assert_int_eq(mkdir(in_scratch("bin"), 0777), 0);
    if (script) {
        put_text("bin/gnuplot", script);
        ck_assert_int_eq(chmod(in_scratch("bin/gnuplot"), 0755), 0);
    }
    ck_assert_int_eq(setenv("PATH", in_scratch("bin"), 1), 0);
}

static int draw(const char *file)
{
    static char folder[512];
    plot_run run = {"it's\n<\\a_b> & \"c\"", folder};
    strcpy(folder, in_scratch("cadft"));
    return plot_draw(in_scratch(file), &run, 1, &why);
}

START_TEST(pictures)
{
    size_t n;
    make_run("cadft", 1, 8);
    if (!has_gnuplot())
        return;
    DONE(draw("a.svg"));
    char *svg = get_file("a.svg", &n);
    ck_assert_ptr_nonnull(strstr(svg, "<svg"));
    ck_assert_ptr_nonnull(strstr(svg, "</svg>"));
    ck_assert_ptr_nonnull(strstr(svg, "it's &lt;\\a_b> &amp;"));
    ck_assert_ptr_nonnull(strstr(svg, "targets rewritten"));
    ck_assert_ptr_nonnull(strstr(svg, "weight of a sample"));
    ck_assert_ptr_nonnull(strstr(svg, ">odd<"));
    free(svg);
    DONE(draw("a.png"));
    char *png = get_file("a.png", &n);
    ck_assert_uint_gt(n, 5000);
    ck_assert_mem_eq(png, "\x89PNG", 4);
    free(png);
    ck_assert_int_eq(count_entries(scratch), 3); /* no other file */
}
END_TEST

/* One step, values that are missing, infinite, zero or constant: there is a
 * picture. */
START_TEST(odd_values)
{
    static const double odd[] = {0, NAN, INFINITY, -1, 1e300, 5e-324};
    if (!has_gnuplot())
        return;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        metrics_record r;
        metrics *m;
        char name[16];
        metrics_record_clear(&r);
        r.loss = r.token_nll = r.grad_norm = r.mean_p = r.mean_w = odd[i];
        snprintf(name, sizeof name, "run%zu", i);
        ck_assert_int_eq(mkdir(in_scratch(name), 0777), 0);
        DONE(metrics_open(in_scratch(name), 0, NULL, 0, &m, &why));
        for (r.step = 1; r.step < 2 + (int64_t)i % 2; r.step++)
            DONE(metrics_append(m, &r, &why));
        metrics_close(m);
        plot_run run = {name, in_scratch(name)};
        int status = plot_draw(in_scratch("odd.svg"), &run, 1, &why);
        if (isfinite(odd[i]))
            DONE(status);
        else
            SAYS(status, TEXT_INPUT, "there is no step to draw");
    }
}
END_TEST

START_TEST(no_gnuplot)
{
    size_t n;
    make_run("cadft", 1, 8);
    put_text("a.svg", "old");
    path_without_gnuplot(NULL);
    SAYS(draw("a.svg"), TEXT_FAILED, "apt-get install gnuplot-nox");
    char *old = get_file("a.svg", &n);
    ck_assert_str_eq(old, "old");
    free(old);
    ck_assert_int_eq(count_entries(scratch), 3);
}
END_TEST

START_TEST(gnuplot_fails)
{
    make_run("cadft", 1, 8);
    path_without_gnuplot("#!/bin/sh\necho partly\n"
                         "printf 'plot x\\n     ^\\nno such font\\n\\n' >&2\n"
                         "exit 3\n");
    SAYS(draw("a.svg"), TEXT_FAILED, "gnuplot failed: no such font");
    put_text("bin/gnuplot", "#!/bin/sh\nexit 0\n");
    SAYS(draw("a.svg"), TEXT_FAILED, "gnuplot failed");
    put_text("bin/gnuplot", "#!/bin/sh\nkill -9 $$\n");
    SAYS(draw("a.svg"), TEXT_FAILED, "gnuplot failed");
    ck_assert_int_eq(count_entries(scratch), 2);
}
END_TEST

START_TEST(picture_refusals)
{
    make_run("cadft", 1, 8);
    SAYS(draw("a.pdf"), TEXT_INPUT, "ends in .svg or .png");
    SAYS(draw("none/a.svg"), TEXT_FAILED, "none/a.svg.part: cannot be written");
    SAYS(plot_draw(in_scratch("a.svg"), NULL, 0, &why), TEXT_INPUT,
         "no step to draw");
    plot_run none = {"none", in_scratch("none")};
    SAYS(plot_draw(in_scratch("a.svg"), &none, 1, &why), TEXT_INPUT,
         "none/metrics.csv");
    const char *list[] = {in_scratch("none")};
    SAYS(plot_from(in_scratch("a.svg"), list, 1, &why), TEXT_INPUT,
         "none: cannot be read");
    ck_assert_int_eq(mkdir(in_scratch("empty"), 0777), 0);
    list[0] = in_scratch("empty");
    SAYS(plot_from(in_scratch("a.svg"), list, 1, &why), TEXT_INPUT,
         "neither it nor a folder in it");
    ck_assert_int_eq(count_entries(scratch), 2);
}
END_TEST

/* The order of the legend is that of gnuplot's commands; the stand-in keeps
 * them. */
START_TEST(folders_in_order)
{
    static const char *const names[] = {"eaft", "cadft", "sft", "dft", ".old"};
    char out[512];
    const char *list[] = {out, out};
    size_t n;
    for (size_t i = 0; i < 5; i++)
        make_run(names[i], 0, 8);
    put_text("file", "");
    path_without_gnuplot("#!/bin/sh\nexec /bin/cat\n");
    snprintf(out, sizeof out, "%s/", scratch);
    DONE(plot_from(in_scratch("bin/a.svg"), list, 1, &why));
    char *commands = get_file("bin/a.svg", &n);
    const char *at = commands;
    static const char *const order[] = {"title 'sft'", "title 'dft'",
                                        "title 'cadft'", "title 'eaft'"};
    for (int i = 0; i < 4; i++) {
        at = strstr(at, order[i]);
        ck_assert_ptr_nonnull(at);
    }
    ck_assert_ptr_null(strstr(commands, "old"));
    free(commands);
    snprintf(out, sizeof out, "%s/sft//", scratch);
    DONE(plot_from(in_scratch("bin/a.svg"), list, 2, &why));
    commands = get_file("bin/a.svg", &n);
    ck_assert_ptr_nonnull(strstr(commands, ", NaN with lines linewidth 4 "
                                           "linecolor '#E69F00' title 'sft'"));
    free(commands);
}
END_TEST

/* ---------------------------------------------------------- demonstration */

/* The result of a question, worked out from its text. */
static int result_of(const char *question)
{
    int a, b;
    char op;
    ck_assert_int_eq(sscanf(question, "%d%c%d=", &a, &op, &b), 3);
    ck_assert(op == '+' || op == '-');
    return op == '+' ? a + b : a - b;
}

/* Read a file of the demonstration: questions into `seen`, none twice.
 * Returns how many are mismatched. */
static int check_file(const char *name, json_t *seen, int lines)
{
    size_t n;
    int mismatched = 0, count = 0;
    char *text = get_file(name, &n), *line = text;
    for (; *line; line = strchr(line, '\n') + 1, count++) {
        json_t *o = json_loadb(line, (size_t)(strchr(line, '\n') - line),
                               JSON_REJECT_DUPLICATES, NULL);
        const char *question = json_string_value(json_object_get(o, "prompt"));
        const char *answer =
            json_string_value(json_object_get(o, "completion"));
        const char *group = json_string_value(json_object_get(o, "group"));
        ck_assert(question && answer && *answer && group);
        ck_assert_ptr_null(json_object_get(seen, question));
        json_object_set_new(seen, question, json_true());
        const char *end = strstr(answer, "#### ");
        int right = end && atoi(end + 5) == result_of(question) &&
                    isdigit((unsigned char)answer[0]);
        mismatched += strcmp(group, "mismatched") == 0;
        if (strcmp(group, "clean") == 0)
            ck_assert_msg(right, "%s%s", question, answer);
        json_decref(o);
    }
    ck_assert_int_eq(count, lines);
    free(text);
    return mismatched;
}

START_TEST(demonstration_data)
{
    json_t *seen = json_object();
    DONE(demo_prepare(in_scratch("demo"), &why));
    ck_assert_int_eq(check_file("demo/pretrain.jsonl", seen, 4096), 0);
    int n = check_file("demo/train.jsonl", seen, 3072);
    ck_assert_int_gt(n, 3072 / 3 - 100);
    ck_assert_int_lt(n, 3072 / 3 + 100);
    ck_assert_int_eq(check_file("demo/heldout.jsonl", seen, 512), 0);
    json_decref(seen);
}
END_TEST

START_TEST(demonstration_again)
{
    static const char *const files[] = {
        "demo/train.jsonl", "demo/heldout.jsonl", "demo/base/config.json",
        "demo/base/model.safetensors"};
    char *before[4];
    size_t n[4], k;
    DONE(demo_prepare(in_scratch("demo"), &why));
    for (int i = 0; i < 4; i++)
        before[i] = get_file(files[i], &n[i]);
    DONE(demo_prepare(in_scratch("demo"), &why));
    for (int i = 0; i < 4; i++) {
        char *after = get_file(files[i], &k);
        ck_assert_uint_eq(k, n[i]);
        ck_assert_mem_eq(after, before[i], k);
        free(after), free(before[i]);
    }
    SAYS(demo_prepare(in_scratch("none/demo"), &why), TEXT_FAILED,
         "none/demo: cannot be made");
}
END_TEST

/* Random weights know nothing; the prompts and ends are read as trained. */
START_TEST(demonstration_answers)
{
    text_data_options options = {0};
    text_data data = {0};
    double share = -1;
    DONE(demo_prepare(in_scratch("demo"), &why));
    DONE(tokenizer_open("bytes", NULL, &options.tokenizer, &why));
    DONE(text_data_read(in_scratch("demo/heldout.jsonl"), &options, &data,
                        &why));
    DONE(demo_answers(in_scratch("demo/base"), &data, &share, &why));
    ck_assert(share >= 0 && share < 0.02);
    SAYS(demo_answers(in_scratch("none"), &data, &share, &why), TEXT_FAILED,
         "none");
    text_data_free(&data);
    tokenizer_close(options.tokenizer);
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *const *tests)
{
    TCase *one = tcase_create(name);
    tcase_add_checked_fixture(one, in_temporary, clean_up);
    for (; *tests; tests++)
        tcase_add_test(one, *tests);
    suite_add_tcase(suite, one);
}

static Suite *suite(void)
{
    Suite *suite = suite_create("finetune_report");
    const TTest *summaries[] = {facts_are_read_back, facts_that_cannot_be,
                                numbers_of_a_run, table, NULL};
    const TTest *plots[] = {pictures, odd_values, folders_in_order,
                            picture_refusals, NULL};
    const TTest *demos[] = {demonstration_data, demonstration_again,
                            demonstration_answers, NULL};
    const TTest *paths[] = {no_gnuplot, gnuplot_fails, NULL};
    add_case(suite, "summary", summaries);
    add_case(suite, "picture", plots);
    add_case(suite, "demonstration", demos);
    add_case(suite, "gnuplot", paths);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
