/* SPDX-License-Identifier: Apache-2.0 */
/* The closing table: columns that no run has a value for are left out. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "summary.h"

enum { CELL = 80, MOST_COLUMNS = 16 + METRICS_GROUPS };

typedef struct column {
    char head[2][CELL]; /* two lines */
    char *cells;        /* [n_runs][CELL], "" where there is no value */
} column;

typedef struct table {
    column columns[MOST_COLUMNS];
    size_t n_columns, n_runs;
    int no_memory;
} table;

/* ---------------------------------------------------------------- filling */

static column *add_column(table *t, const char *above, const char *head)
{
    column *c = &t->columns[t->n_columns];
    c->cells = calloc(t->n_runs ? t->n_runs : 1, CELL);
    if (!c->cells) {
        t->no_memory = 1;
        return NULL;
    }
    snprintf(c->head[0], CELL, "%s", above);
    snprintf(c->head[1], CELL, "%.*s", CELL - 1, head);
    t->n_columns++;
    return c;
}

/* Take the last column away again if it is empty. */
static void drop_empty(table *t)
{
    column *c = &t->columns[t->n_columns - 1];
    for (size_t i = 0; i < t->n_runs; i++)
        if (c->cells[i * CELL])
            return;
    free(c->cells);
    t->n_columns--;
}

/* What to take from a run, as a number with `digits` behind the point
 * (negative: significant ones). */
typedef double (*take_fn)(const summary_run *run);

static void add_numbers(table *t,
                        const summary_run *runs,
                        const char *above,
                        const char *head,
                        int digits,
                        take_fn take)
{
    column *c = add_column(t, above, head);
    for (size_t i = 0; c && i < t->n_runs; i++) {
        double x = take(&runs[i]);
        char *cell = c->cells + i * CELL;
        if (!isnan(x) && digits < 0)
            snprintf(cell, CELL, "%.*g", -digits, x);
        else if (!isnan(x))
            snprintf(cell, CELL, "%.*f", digits, x);
    }
    if (c)
        drop_empty(t);
}

/* Only if it happened in one of the runs. */
static void add_counts(table *t,
                       const summary_run *runs,
                       const char *above,
                       const char *head,
                       take_fn take)
{
    double most = 0;
    for (size_t i = 0; i < t->n_runs; i++)
        most = fmax(most, take(&runs[i]));
    if (most > 0)
        add_numbers(t, runs, above, head, 0, take);
}

static double nll_before(const summary_run *r)
{
    return r->facts.nll_before;
}

static double nll_after(const summary_run *r)
{
    return r->facts.nll_after;
}

static double p_before(const summary_run *r)
{
    return r->facts.p_before;
}

static double p_after(const summary_run *r)
{
    return r->facts.p_after;
}

static double moment_before(const summary_run *r)
{
    return r->facts.moment_before;
}

static double moment_after(const summary_run *r)
{
    return r->facts.moment_after;
}

static double steps(const summary_run *r)
{
    return (double)r->steps;
}

static double rewrites(const summary_run *r)
{
    return (double)r->rewrites;
}

static double skipped(const summary_run *r)
{
    return (double)r->skipped;
}

static double speed(const summary_run *r)
{
    return r->tokens_per_second;
}

static double weight(const summary_run *r)
{
    return r->w;
}

static double group_weight(const summary_run *r, const char *name)
{
    for (size_t g = 0; g < r->n_groups; g++)
        if (strcmp(r->groups[g], name) == 0)
            return r->group_w[g];
    return NAN;
}

static int has_column(const table *t, const char *above, const char *head)
{
    for (size_t k = 0; k < t->n_columns; k++)
        if (strcmp(t->columns[k].head[0], above) == 0 &&
            strncmp(t->columns[k].head[1], head, CELL - 1) == 0)
            return 1;
    return 0;
}

/* The weights of every group of every run; those of one run may be others. */
static void add_groups(table *t, const summary_run *runs)
{
    for (size_t i = 0; i < t->n_runs; i++)
        for (size_t g = 0; g < runs[i].n_groups; g++) {
            const char *name = runs[i].groups[g];
            if (t->n_columns + 6 >= MOST_COLUMNS || has_column(t, "w of", name))
                continue;
            column *c = add_column(t, "w of", name);
            for (size_t k = 0; c && k < t->n_runs; k++) {
                double w = group_weight(&runs[k], name);
                if (!isnan(w))
                    snprintf(c->cells + k * CELL, CELL, "%.3f", w);
            }
            if (c)
                drop_empty(t);
        }
}

static void add_names(table *t, const summary_run *runs)
{
    column *c = add_column(t, "", "objective");
    for (size_t i = 0; c && i < t->n_runs; i++)
        snprintf(c->cells + i * CELL, CELL, "%s", runs[i].facts.objective);
}

static void add_notes(table *t, const summary_run *runs)
{
    column *c = add_column(t, "", "");
    for (size_t i = 0; c && i < t->n_runs; i++)
        if (!runs[i].facts.finished)
            snprintf(c->cells + i * CELL, CELL, "stopped, %lld steps planned",
                     (long long)runs[i].facts.planned);
    if (c)
        drop_empty(t);
}

static void fill(table *t, const summary_run *runs)
{
    add_names(t, runs);
    add_numbers(t, runs, "", "steps", 0, steps);
    add_numbers(t, runs, "NLL at", "start", 4, nll_before);
    add_numbers(t, runs, "NLL at", "end", 4, nll_after);
    add_numbers(t, runs, "p at", "start", 4, p_before);
    add_numbers(t, runs, "p at", "end", 4, p_after);
    add_numbers(t, runs, "w of", "all", 3, weight);
    add_groups(t, runs);
    add_numbers(t, runs, "|g|^2 at", "start", -4, moment_before);
    add_numbers(t, runs, "|g|^2 at", "end", -4, moment_after);
    add_counts(t, runs, "targets", "rewritten", rewrites);
    add_counts(t, runs, "steps", "skipped", skipped);
    add_numbers(t, runs, "tokens", "a second", 0, speed);
    add_notes(t, runs);
}

/* --------------------------------------------------------------- printing */

/* Columns on a terminal: characters of UTF-8. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(FILE *to, const table *t, size_t k, const char *text)
{
    const column *c = &t->columns[k];
    size_t width = width_of(c->head[0]), n = width_of(text);
    if (width_of(c->head[1]) > width)
        width = width_of(c->head[1]);
    for (size_t i = 0; i < t->n_runs; i++)
        if (width_of(c->cells + i * CELL) > width)
            width = width_of(c->cells + i * CELL);
    int pad = (int)(width - n), is_name = k == 0;
    if (is_name && t->n_columns > 1)
        fprintf(to, "%s%*s", text, pad, "");
    else
        fprintf(to, "  %*s%s", pad, "", text);
}

static void print_lines(FILE *to, const table *t)
{
    for (size_t line = 0; line < 2; line++) {
        for (size_t k = 0; k < t->n_columns; k++)
            print_cell(to, t, k, t->columns[k].head[line]);
        fputc('\n', to);
    }
    for (size_t i = 0; i < t->n_runs; i++) {
        for (size_t k = 0; k < t->n_columns; k++) {
            const char *text = t->columns[k].cells + i * CELL;
            print_cell(to, t, k, *text || k + 1 == t->n_columns ? text : "-");
        }
        fputc('\n', to);
    }
}

static void print_notes(FILE *to, const table *t)
{
    fputc('\n', to);
    if (has_column(t, "NLL at", "end") || has_column(t, "NLL at", "start"))
        fputs("NLL, p  held out: nats a token, mean probability of the token\n",
              to);
    if (has_column(t, "w of", "all"))
        fputs("w       mean weight of a sample in the last quarter of the "
              "steps\n",
              to);
    if (has_column(t, "|g|^2 at", "end") || has_column(t, "|g|^2 at", "start"))
        fputs("|g|^2   mean squared norm of the weighted gradient of a "
              "sample\n",
              to);
}

int summary_print(FILE *to,
                  const summary_run *runs,
                  size_t n,
                  text_error *error)
{
    table t = {.n_runs = n};
    int status = TEXT_OK;
    fill(&t, runs);
    if (t.no_memory) {
        status = text_fail(error, TEXT_FAILED, "out of memory for the table");
    } else {
        print_lines(to, &t);
        print_notes(to, &t);
        if (fflush(to) != 0 || ferror(to))
            status =
                text_fail(error, TEXT_FAILED, "the table cannot be written: %s",
                          strerror(errno));
    }
    for (size_t k = 0; k < t.n_columns; k++)
        free(t.columns[k].cells);
    return status;
}
