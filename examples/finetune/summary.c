/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of a run: summary.json, and what its metrics add up to. */
#include "summary.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "columns.h"

/* ---------------------------------------------------------- summary.json */

typedef struct field {
    const char *name;
    size_t offset; /* of the double in summary_facts */
} field;

#define AT(member)                                                             \
    {                                                                          \
#        member, offsetof(summary_facts, member)                               \
    }
static const field fields[] = {AT(nll_before),    AT(nll_after),
                               AT(p_before),      AT(p_after),
                               AT(moment_before), AT(moment_after)};
#undef AT
enum { N_FIELDS = sizeof fields / sizeof *fields };

static double *value_of(summary_facts *facts, const field *f)
{
    return (double *)((char *)facts + f->offset);
}

void summary_facts_clear(summary_facts *facts)
{
    memset(facts, 0, sizeof *facts);
    for (size_t i = 0; i < N_FIELDS; i++)
        *value_of(facts, &fields[i]) = NAN;
}

/* NaN has no key; JSON has no infinity: null. */
static json_t *facts_json(const summary_facts *facts)
{
    summary_facts f = *facts;
    json_t *object = json_pack("{s:s, s:I, s:b, s:b}", "objective", f.objective,
                               "planned", (json_int_t)f.planned, "weighted",
                               (int)f.weighted, "finished", (int)f.finished);
    int bad = object == NULL;
    for (size_t i = 0; i < N_FIELDS && !bad; i++) {
        double x = *value_of(&f, &fields[i]);
        if (!isnan(x))
            bad = json_object_set_new(object, fields[i].name,
                                      isinf(x) ? json_null() : json_real(x));
    }
    if (!bad)
        return object;
    json_decref(object);
    return NULL;
}

/* A crash leaves the old file or the new one. */
static int write_json(const json_t *object, const char *path, const char *part)
{
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    int bad = json_dumpfd(object, fd, JSON_INDENT(2)) != 0 ||
              write(fd, "\n", 1) != 1 || fsync(fd) != 0;
    int why = errno;
    bad |= close(fd) != 0;
    if (!bad && rename(part, path) == 0)
        return 0;
    errno = bad ? why : errno;
    why = errno;
    unlink(part);
    errno = why;
    return -1;
}

int summary_save(const char *folder,
                 const summary_facts *facts,
                 text_error *error)
{
    char *path = metrics_path(folder, "summary.json");
    char *part = metrics_path(folder, "summary.json.part");
    json_t *object = facts_json(facts);
    int status = TEXT_OK;
    if (!path || !part || !object)
        status = text_fail(error, TEXT_FAILED, "out of memory for the summary");
    else if (write_json(object, path, part) != 0)
        status = text_fail(error, TEXT_FAILED, "%s: cannot be written: %s",
                           path, strerror(errno));
    json_decref(object);
    free(path);
    free(part);
    return status;
}

static int facts_from(const json_t *object, summary_facts *facts)
{
    const char *objective =
        json_string_value(json_object_get(object, "objective"));
    const json_t *planned = json_object_get(object, "planned");
    if (!objective || strlen(objective) >= sizeof facts->objective ||
        !json_is_integer(planned))
        return -1;
    strcpy(facts->objective, objective);
    facts->planned = json_integer_value(planned);
    facts->weighted = json_is_true(json_object_get(object, "weighted"));
    facts->finished = json_is_true(json_object_get(object, "finished"));
    for (size_t i = 0; i < N_FIELDS; i++) {
        const json_t *x = json_object_get(object, fields[i].name);
        if (json_is_null(x))
            *value_of(facts, &fields[i]) = INFINITY;
        else if (json_is_number(x))
            *value_of(facts, &fields[i]) = json_number_value(x);
        else if (x)
            return -1;
    }
    return 0;
}

static int load(const char *path, summary_facts *facts, text_error *error)
{
    json_error_t why;
    FILE *file = fopen(path, "rbe");
    if (!file)
        return text_fail(error, TEXT_INPUT, "%s: cannot be read: %s", path,
                         strerror(errno));
    json_t *object = json_loadf(file, JSON_REJECT_DUPLICATES, &why);
    fclose(file);
    int status = TEXT_OK;
    if (!object)
        status = text_fail(error, TEXT_INPUT, "%s, line %d: %s", path, why.line,
                           why.text);
    else if (facts_from(object, facts) != 0)
        status =
            text_fail(error, TEXT_INPUT, "%s: is not a run's summary", path);
    json_decref(object);
    return status;
}

int summary_load(const char *folder, summary_facts *facts, text_error *error)
{
    summary_facts_clear(facts);
    char *path = metrics_path(folder, "summary.json");
    if (!path)
        return text_fail(error, TEXT_FAILED, "out of memory for the summary");
    int status = load(path, facts, error);
    if (status != TEXT_OK)
        summary_facts_clear(facts);
    free(path);
    return status;
}

/* --------------------------------------------------------------- metrics */

typedef struct mean {
    double sum;
    int64_t n;
} mean;

static void add(mean *m, double x, int64_t n)
{
    if (n > 0 && !isnan(x)) {
        m->sum += x * (double)n;
        m->n += n;
    }
}

static double value(const mean *m)
{
    return m->n > 0 ? m->sum / (double)m->n : NAN;
}

/* Weights of the last quarter of the steps. */
static void mean_weights(const metrics_table *t, summary_run *out)
{
    mean all = {0, 0}, group[METRICS_GROUPS] = {{0, 0}};
    for (size_t i = 0; i < t->n; i++) {
        const metrics_record *r = &t->records[i];
        int64_t before = i > 0 ? r[-1].samples : 0;
        if (4 * r->step <= 3 * out->steps)
            continue;
        add(&all, r->mean_w, r->samples - before);
        for (size_t g = 0; g < t->n_groups; g++)
            add(&group[g], r->groups[g].w, r->groups[g].samples);
    }
    out->w = value(&all);
    for (size_t g = 0; g < t->n_groups; g++)
        out->group_w[g] = value(&group[g]);
}

static void take_metrics(metrics_table *t, summary_run *out)
{
    if (t->n > 0) {
        const metrics_record *last = &t->records[t->n - 1];
        out->steps = last->step;
        out->rewrites = last->rewrites;
        out->skipped = last->skipped;
        if (last->seconds > 0)
            out->tokens_per_second = (double)last->tokens / last->seconds;
    }
    if (out->facts.weighted)
        mean_weights(t, out);
    memcpy(out->groups, t->groups, sizeof out->groups);
    out->n_groups = t->n_groups;
    t->n_groups = 0; /* the names are out's now */
}

int summary_read(const char *folder, summary_run *out, text_error *error)
{
    metrics_table table;
    memset(out, 0, sizeof *out);
    out->w = out->tokens_per_second = NAN;
    for (size_t g = 0; g < METRICS_GROUPS; g++)
        out->group_w[g] = NAN;
    int status = summary_load(folder, &out->facts, error);
    if (status == TEXT_OK)
        status = metrics_read(folder, &table, error);
    if (status != TEXT_OK)
        return status;
    take_metrics(&table, out);
    metrics_table_free(&table);
    return TEXT_OK;
}

void summary_free(summary_run *run)
{
    for (size_t g = 0; g < run->n_groups; g++)
        free(run->groups[g]);
    memset(run, 0, sizeof *run);
}

int summary_show(FILE *to,
                 const char *const *folders,
                 size_t n,
                 text_error *error)
{
    summary_run *runs = calloc(n ? n : 1, sizeof *runs);
    if (!runs)
        return text_fail(error, TEXT_FAILED, "out of memory for the table");
    int status = TEXT_OK;
    for (size_t i = 0; i < n && status == TEXT_OK; i++)
        status = summary_read(folders[i], &runs[i], error);
    if (status == TEXT_OK)
        status = summary_print(to, runs, n, error);
    for (size_t i = 0; i < n; i++)
        summary_free(&runs[i]);
    free(runs);
    return status;
}
