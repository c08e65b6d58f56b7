/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.csv, read back. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "metrics.h"

typedef struct reader {
    const char *path;
    FILE *file;
    char *line; /* without its newline, taken apart in place */
    size_t room;
    long long number;
    metrics_table *table;
    size_t capacity;
    text_error *error;
} reader;

static int no_memory(reader *r)
{
    return text_fail(r->error, TEXT_FAILED, "%s: out of memory", r->path);
}

static int bad_line(reader *r, const char *what)
{
    return text_fail(r->error, TEXT_INPUT, "%s, line %lld: %s", r->path,
                     r->number, what);
}

/* The next line that has an end; more = 0 if there is none. */
static int next_line(reader *r, int *more)
{
    errno = 0;
    ssize_t n = getline(&r->line, &r->room, r->file);
    *more = n > 0 && r->line[n - 1] == '\n';
    if (n < 0 && ferror(r->file))
        return text_fail(r->error, TEXT_FAILED, "%s: cannot be read: %s",
                         r->path, strerror(errno));
    if (!*more)
        return TEXT_OK;
    r->number++;
    r->line[n - 1] = 0;
    if (strlen(r->line) + 1 != (size_t)n)
        return bad_line(r, "has a NUL byte");
    return TEXT_OK;
}

/* The next field of a line, without its quotes; NULL after the last one. */
static char *next_field(char **at)
{
    char *from = *at, *to = *at, *field = *at;
    if (!from)
        return NULL;
    int quoted = *from == '"';
    for (from += quoted; *from; from++) {
        if (*from == '"' && quoted) {
            if (from[1] != '"') {
                quoted = 0;
                continue;
            }
            from++;
        } else if (*from == ',' && !quoted) {
            break;
        }
        *to++ = *from;
    }
    *at = *from ? from + 1 : NULL;
    *to = 0;
    return field;
}

/* The name of a group from the field of column k, or NULL. */
static char *group_name(char *field, size_t k)
{
    size_t n = strlen(group_columns[k].name);
    if (!field || strncmp(field, group_columns[k].name, n) != 0 ||
        field[n] != '_')
        return NULL;
    return field + n + 1;
}

static int read_header(reader *r)
{
    metrics_table *t = r->table;
    char *at = r->line;
    for (size_t i = 0; i < N_COLUMNS; i++) {
        const char *field = next_field(&at);
        if (!field || strcmp(field, columns[i].name) != 0)
            return bad_line(r, "is not the header of our metrics");
    }
    while (at) {
        for (size_t k = 0; k < N_GROUP_COLUMNS; k++) {
            const char *name = group_name(next_field(&at), k);
            if (!name || (k == 0 && t->n_groups == METRICS_GROUPS) ||
                (k > 0 && strcmp(name, t->groups[t->n_groups - 1]) != 0))
                return bad_line(r, "is not the header of our metrics");
            if (k > 0)
                continue;
            t->groups[t->n_groups] = strdup(name);
            if (!t->groups[t->n_groups])
                return no_memory(r);
            t->n_groups++;
        }
    }
    return TEXT_OK;
}

static int read_value(reader *r, const column *c, char **at, void *base)
{
    const char *field = next_field(at);
    char *end = NULL;
    void *to = (char *)base + c->offset;
    if (!field)
        return bad_line(r, "has fewer fields than the header");
    if (c->real && !*field) {
        *(double *)to = NAN;
        return TEXT_OK;
    }
    if (c->real)
        *(double *)to = strtod(field, &end);
    else
        *(int64_t *)to = strtoll(field, &end, 10);
    if (end == field || *end)
        return text_fail(r->error, TEXT_INPUT,
                         "%s, line %lld: %s is \"%.40s\", expected a number",
                         r->path, r->number, c->name, field);
    return TEXT_OK;
}

static int read_record(reader *r, metrics_record *record)
{
    char *at = r->line;
    int status = TEXT_OK;
    for (size_t i = 0; i < N_COLUMNS && status == TEXT_OK; i++)
        status = read_value(r, &columns[i], &at, record);
    for (size_t g = 0; g < r->table->n_groups; g++)
        for (size_t k = 0; k < N_GROUP_COLUMNS && status == TEXT_OK; k++)
            status = read_value(r, &group_columns[k], &at, &record->groups[g]);
    if (status == TEXT_OK && at)
        return bad_line(r, "has more fields than the header");
    return status;
}

static int add_record(reader *r)
{
    metrics_table *t = r->table;
    if (t->n == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 256;
        metrics_record *records =
            realloc(t->records, capacity * sizeof *records);
        if (!records)
            return no_memory(r);
        t->records = records;
        r->capacity = capacity;
    }
    metrics_record *record = &t->records[t->n];
    metrics_record_clear(record);
    int status = read_record(r, record);
    if (status != TEXT_OK)
        return status;
    if (record->step <= (t->n ? record[-1].step : 0))
        return bad_line(r, "the step does not ascend");
    t->n++;
    return TEXT_OK;
}

static int read_lines(reader *r)
{
    int more, status = next_line(r, &more);
    if (status == TEXT_OK && !more)
        return text_fail(r->error, TEXT_INPUT, "%s: has no header", r->path);
    if (status == TEXT_OK)
        status = read_header(r);
    while (status == TEXT_OK) {
        status = next_line(r, &more);
        if (status != TEXT_OK || !more)
            break;
        status = add_record(r);
    }
    return status;
}

int metrics_read(const char *folder, metrics_table *out, text_error *error)
{
    memset(out, 0, sizeof *out);
    char *path = metrics_path(folder, "metrics.csv");
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    reader r = {.path = path, .table = out, .error = error};
    int status;
    if (!path || !plain) {
        status = text_fail(error, TEXT_FAILED, "out of memory for metrics");
    } else if (!(r.file = fopen(path, "rbe"))) {
        status = text_fail(error, TEXT_INPUT, "%s: cannot be read: %s", path,
                           strerror(errno));
    } else {
        locale_t old = uselocale(plain);
        status = read_lines(&r);
        uselocale(old);
        fclose(r.file);
    }
    if (plain)
        freelocale(plain);
    free(path);
    free(r.line);
    if (status != TEXT_OK)
        metrics_table_free(out);
    return status;
}

void metrics_table_free(metrics_table *table)
{
    for (size_t g = 0; g < table->n_groups; g++)
        free(table->groups[g]);
    free(table->records);
    memset(table, 0, sizeof *table);
}
