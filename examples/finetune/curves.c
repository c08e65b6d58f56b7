/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of a picture: panels in two columns over the same steps, one
 * colour a run, a legend on top. Data are in the commands, a block for each
 * curve: $p0s1r2 is panel 0, series 1, run 2. */
#include "curves.h"

#include <locale.h>
#include <math.h>
#include <string.h>

/* Okabe and Ito's colours, told apart by the colour-blind too; no yellow, which
 * is faint on white. */
static const char *const colours[] = {"0072B2", "E69F00", "009E73", "CC79A7",
                                      "56B4E9", "D55E00", "000000"};
enum { N_COLOURS = sizeof colours / sizeof *colours };

static const char *const dashes[] = {"solid", "(7,4)", "(2,3)", "(8,3,2,3)"};
enum { N_DASHES = sizeof dashes / sizeof *dashes };

/* A series of a run is a value of its records. */
typedef double (*value_fn)(const metrics_record *r, size_t group);

typedef struct series {
    value_fn value;
    const char *group; /* or NULL */
    int dash;          /* of dashes[] */
    int few; /* not a value at each step: points, neither binned nor smoothed */
    const char *name; /* in the panel's own legend, or NULL */
} series;

enum { MOST_SERIES = METRICS_GROUPS + 1, MOST_PANELS = 6, MOST_POINTS = 500 };

typedef struct panel {
    const char *title;
    int logarithmic; /* if the values allow it and spread */
    int weights;     /* only of runs that have weights */
    int is_count;
    series series[MOST_SERIES];
    size_t n_series;
} panel;

typedef struct picture {
    const curves_run *runs;
    size_t n_runs;
    panel panels[MOST_PANELS];
    size_t n_panels;
    double last_step;
} picture;

/* ----------------------------------------------------------------- values */

#define VALUE_OF(member)                                                       \
    static double member(const metrics_record *r, size_t group)                \
    {                                                                          \
        (void)group;                                                           \
        return (double)r->member;                                              \
    }
VALUE_OF(token_nll)
VALUE_OF(eval_nll)
VALUE_OF(mean_p)
VALUE_OF(eval_p)
VALUE_OF(loss)
VALUE_OF(grad_norm)
VALUE_OF(rewrites)
VALUE_OF(mean_w)
#undef VALUE_OF

static double group_w(const metrics_record *r, size_t group)
{
    return r->groups[group].w;
}

/* The records of another run can have other groups. */
static double value_at(const metrics_table *t, const series *s, size_t record)
{
    size_t group = 0;
    if (s->group) {
        while (group < t->n_groups && strcmp(t->groups[group], s->group) != 0)
            group++;
        if (group == t->n_groups)
            return NAN;
    }
    double x = s->value(&t->records[record], group);
    /* gnuplot cannot tell apart numbers as small as doubles can be. */
    return fabs(x) < 1e-30 ? 0 : x;
}

static int has_weights(const metrics_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (isfinite(t->records[i].mean_w) && t->records[i].mean_w != 1)
            return 1;
    return 0;
}

static int is_drawn(const panel *shown, const series *s, const metrics_table *t)
{
    if (shown->weights && !has_weights(t))
        return 0;
    for (size_t i = 0; i < t->n; i++)
        if (isfinite(value_at(t, s, i)) &&
            (!shown->is_count || value_at(t, s, i) > 0))
            return 1;
    return 0;
}

static void
range_of(const picture *p, const panel *shown, double *low, double *high)
{
    *low = INFINITY, *high = -INFINITY;
    for (size_t k = 0; k < shown->n_series; k++)
        for (size_t run = 0; run < p->n_runs; run++)
            for (size_t i = 0; i < p->runs[run].table.n; i++) {
                double x = value_at(&p->runs[run].table, &shown->series[k], i);
                if (isfinite(x)) {
                    *low = fmin(*low, x);
                    *high = fmax(*high, x);
                }
            }
}

/* ----------------------------------------------------------------- panels */

static void add_series(panel *to, series s)
{
    if (to->n_series < MOST_SERIES)
        to->series[to->n_series++] = s;
}

static void add_panel(picture *p, const panel *shown)
{
    for (size_t k = 0; k < shown->n_series; k++)
        for (size_t run = 0; run < p->n_runs; run++)
            if (is_drawn(shown, &shown->series[k], &p->runs[run].table)) {
                p->panels[p->n_panels++] = *shown;
                return;
            }
}

static void add_simple(picture *p, const char *title, value_fn value, int log)
{
    panel simple = {.title = title, .logarithmic = log};
    add_series(&simple, (series){.value = value});
    add_panel(p, &simple);
}

/* Mismatched demonstrations put the training far above what is held out. */
static void add_train_and_eval(
    picture *p, const char *title, int log, value_fn train, value_fn eval)
{
    panel both = {.title = title, .logarithmic = log};
    add_series(&both, (series){train, NULL, 0, 0, "training"});
    add_series(&both, (series){eval, NULL, 0, 1, "held out"});
    add_panel(p, &both);
}

static void add_groups(panel *to, const metrics_table *t)
{
    for (size_t g = 0; g < t->n_groups; g++) {
        size_t k = 0;
        while (k < to->n_series && strcmp(to->series[k].group, t->groups[g]))
            k++;
        if (k == to->n_series)
            add_series(to, (series){group_w, t->groups[g], (int)k % N_DASHES, 0,
                                    t->groups[g]});
    }
}

static void add_weights(picture *p)
{
    panel weights = {.title = "weight of a sample", .weights = 1};
    for (size_t run = 0; run < p->n_runs; run++)
        add_groups(&weights, &p->runs[run].table);
    if (weights.n_series == 0)
        add_series(&weights, (series){.value = mean_w});
    add_panel(p, &weights);
}

static void add_rewrites(picture *p)
{
    panel counts = {.title = "targets rewritten", .is_count = 1};
    add_series(&counts, (series){.value = rewrites});
    add_panel(p, &counts);
}

static void compose(picture *p)
{
    for (size_t run = 0; run < p->n_runs; run++) {
        const metrics_table *t = &p->runs[run].table;
        if (t->n > 0)
            p->last_step =
                fmax(p->last_step, (double)t->records[t->n - 1].step);
    }
    add_train_and_eval(p, "NLL, nats a token", 1, token_nll, eval_nll);
    add_train_and_eval(p, "probability of a token", 0, mean_p, eval_p);
    add_simple(p, "loss of the objective", loss, 1);
    add_weights(p);
    add_simple(p, "norm of the gradient", grad_norm, 1);
    add_rewrites(p);
}

/* ------------------------------------------------------------------- data */

/* The mean over the records [from, to) that have a value. */
static double
mean_of(const metrics_table *t, const series *s, size_t from, size_t to)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        double x = value_at(t, s, i);
        if (isfinite(x))
            sum += x, n++;
    }
    return n > 0 ? sum / (double)n : NAN;
}

/* A block with the columns step, value, smoothed. Long runs are binned; the
 * smoothed value is the mean over the 5 % of the steps around. */
static void write_series(FILE *to, const metrics_table *t, const series *s)
{
    size_t bin = s->few ? 1 : t->n / MOST_POINTS + 1, reach = t->n / 40;
    for (size_t i = 0; i < t->n; i += bin) {
        size_t end = i + bin < t->n ? i + bin : t->n, middle = (i + end) / 2;
        size_t before = middle < reach ? middle : reach;
        size_t after = t->n - middle < reach + 1 ? t->n - middle : reach + 1;
        double x = mean_of(t, s, i, end);
        if (isfinite(x))
            fprintf(to, "%lld %.7g %.7g\n",
                    (long long)t->records[middle < end ? middle : i].step, x,
                    s->few ? x
                           : mean_of(t, s, middle - before, middle + after));
    }
}

static void write_data(FILE *to, const picture *p)
{
    for (size_t i = 0; i < p->n_panels; i++)
        for (size_t k = 0; k < p->panels[i].n_series; k++)
            for (size_t run = 0; run < p->n_runs; run++) {
                const series *s = &p->panels[i].series[k];
                const metrics_table *t = &p->runs[run].table;
                if (!is_drawn(&p->panels[i], s, t))
                    continue;
                fprintf(to, "$p%zus%zur%zu << EOD\n", i, k, run);
                write_series(to, t, s);
                fputs("EOD\n", to);
            }
}

/* --------------------------------------------------------------- commands */

/* A text of gnuplot, in single quotes. */
static void quote(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', to);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, to);
    }
    fputc('\'', to);
}

/* Pixels. */
enum { WIDTH = 1100, ROW = 250, TOP = 56, BOTTOM = 52, LEFT = 64, GAP = 34 };

static void write_head(FILE *to, const picture *p, int png, int height)
{
    if (png)
        fprintf(to,
                "set terminal pngcairo size %d,%d font 'Sans,21' linewidth 2 "
                "noenhanced background '#ffffff'\n",
                2 * WIDTH, 2 * height);
    else
        fprintf(to,
                "set terminal svg size %d,%d dynamic font "
                "'Helvetica,Arial,sans-serif,13' noenhanced background "
                "'#ffffff'\n",
                WIDTH, height);
    write_data(to, p);
    fputs("set encoding utf8\n"
          "set multiplot\n",
          to);
    fprintf(to, "set xrange [0:%.17g]\n", fmax(p->last_step, 1));
}

/* The runs' names: an empty plot over the whole width has nothing but them. */
static void write_legend(FILE *to, const picture *p, int height)
{
    fprintf(to,
            "unset border; unset tics; unset grid\n"
            "set lmargin at screen 0; set rmargin at screen 1\n"
            "set bmargin at screen 0.1; set tmargin at screen 0.9\n"
            "set key at screen 0.5,%.4f center center horizontal Left reverse "
            "maxrows 1 samplen 2 width 2 textcolor '#222222'\n"
            "plot [0:1] [0:1]",
            1 - 0.4 * TOP / height);
    for (size_t run = 0; run < p->n_runs; run++) {
        fprintf(to,
                "%s NaN with lines linewidth 4 linecolor '#%s' "
                "title ",
                run ? "," : "", colours[run % N_COLOURS]);
        quote(to, p->runs[run].name);
    }
    fputs("\n"
          "set border 3 linecolor '#777777'\n"
          "set grid linecolor '#e4e4e4' linetype 1 linewidth 0.6\n"
          "set ytics nomirror out scale 0.5 textcolor '#444444'\n",
          to);
}

static void write_range(FILE *to, const picture *p, const panel *shown)
{
    double low, high;
    range_of(p, shown, &low, &high);
    int is_log = shown->logarithmic && low > 0 && high > 20 * low;
    fprintf(to, "%s logscale y\n", is_log ? "set" : "unset");
    if (shown->weights)
        fprintf(to, "set yrange [0:%.9g]\n", 1.05 * fmax(1, high));
    else if (shown->is_count)
        fprintf(to, "set yrange [0:%.9g]\n", 1.05 * high);
    else if (is_log)
        fprintf(to, "set yrange [%.9g:%.9g]\n", low / 1.3, high * 1.3);
    else
        fputs("set yrange [*:*]\n", to);
}

static void write_axes(FILE *to, const picture *p, size_t i, int height)
{
    const panel *shown = &p->panels[i];
    int columns = p->n_panels > 1 ? 2 : 1, column = (int)i % columns;
    int row = (int)i / columns, is_lowest = i + (size_t)columns >= p->n_panels;
    double share = (double)WIDTH / columns;
    double top = TOP + row * (double)ROW + GAP, bottom = top + ROW - 1.4 * GAP;
    fprintf(to,
            "set lmargin at screen %.5f; set rmargin at screen %.5f\n"
            "set tmargin at screen %.5f; set bmargin at screen %.5f\n",
            (column * share + LEFT) / WIDTH,
            ((column + 1) * share - 0.6 * GAP) / WIDTH, 1 - top / height,
            1 - bottom / height);
    write_range(to, p, shown);
    fprintf(to,
            "set xtics nomirror out scale 0.5 textcolor '#444444' format "
            "'%s'\nset xlabel '%s' textcolor '#444444'\n",
            is_lowest ? "%.0f" : "", is_lowest ? "optimizer step" : "");
    fputs("set label 1 ", to);
    quote(to, shown->title);
    fputs(" at graph 0,1.09 left textcolor '#222222'\n", to);
}

/* The panel's own legend tells its lines apart; the colours are above all. */
static void write_key(FILE *to, const panel *shown, int *first)
{
    for (size_t k = 0; k < shown->n_series; k++) {
        const series *s = &shown->series[k];
        if (!s->name)
            continue;
        fprintf(to,
                "%s NaN with %s linewidth %s dashtype %s pointtype 7 "
                "pointsize 0.6 linecolor '#666666' title ",
                *first ? "" : ",", s->few ? "linespoints" : "lines",
                s->few ? "2" : "1.2", dashes[s->dash]);
        quote(to, s->name);
        *first = 0;
    }
}

static void write_curve(FILE *to,
                        const series *s,
                        const char *block,
                        const char *colour,
                        const panel *shown,
                        int *first)
{
    const char *comma = *first ? "" : ",";
    *first = 0;
    if (s->few) {
        fprintf(to,
                "%s %s using 1:2 with linespoints linewidth 2 pointtype 7 "
                "pointsize 0.6 linecolor '#%s' notitle",
                comma, block, colour);
        return;
    }
    if (shown->is_count) {
        fprintf(to,
                "%s %s using 1:2 with steps linewidth 2 linecolor '#%s' "
                "notitle",
                comma, block, colour);
        return;
    }
    /* Thin beside the curve of what was held out. */
    int is_thin = shown->n_series > 1 && shown->series[1].few;
    /* As it was, faint; above it the mean of the steps around. */
    fprintf(to,
            "%s %s using 1:2 with lines linewidth 0.7 linecolor '#b4%s' "
            "notitle, %s using 1:3 with lines linewidth %s dashtype %s "
            "linecolor '#%s' notitle",
            comma, block, colour, block, is_thin ? "1.2" : "2", dashes[s->dash],
            colour);
}

static void write_panel(FILE *to, const picture *p, size_t i)
{
    const panel *shown = &p->panels[i];
    char block[80];
    int first = 1, keys = 0;
    for (size_t k = 0; k < shown->n_series; k++)
        keys += shown->series[k].name != NULL;
    /* Beside the title as long as there is room. */
    fprintf(to,
            "set key default\nset key %s samplen 2.5 Left reverse textcolor "
            "'#444444'\n",
            keys == 0   ? "off"
            : keys <= 3 ? "at graph 1,1.09 right center horizontal maxrows 1"
                        : "inside right center vertical");
    fputs("plot", to);
    for (size_t run = 0; run < p->n_runs; run++)
        for (size_t k = 0; k < shown->n_series; k++)
            if (is_drawn(shown, &shown->series[k], &p->runs[run].table)) {
                snprintf(block, sizeof block, "$p%zus%zur%zu", i, k, run);
                write_curve(to, &shown->series[k], block,
                            colours[run % N_COLOURS], shown, &first);
            }
    write_key(to, shown, &first);
    fputs("\n", to);
}

int curves_write(FILE *to, int png, const curves_run *runs, size_t n)
{
    picture p = {.runs = runs, .n_runs = n};
    compose(&p);
    if (p.n_panels == 0)
        return 0;
    int rows = (int)(p.n_panels + 1) / 2;
    int height = TOP + rows * ROW + BOTTOM;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain)
        return 0;
    locale_t old = uselocale(plain);
    write_head(to, &p, png, height);
    write_legend(to, &p, height);
    for (size_t i = 0; i < p.n_panels; i++) {
        write_axes(to, &p, i, height);
        write_panel(to, &p, i);
    }
    fputs("unset multiplot\n", to);
    uselocale(old);
    freelocale(plain);
    return (int)p.n_panels;
}
