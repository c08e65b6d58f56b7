/* SPDX-License-Identifier: Apache-2.0 */
/* A record as a line of text. */
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "columns.h"

#define AT(member, real)                                                       \
    {                                                                          \
#        member, real, offsetof(metrics_record, member)                        \
    }
const column columns[N_COLUMNS] = {
    AT(step, 0),   AT(samples, 0), AT(tokens, 0),    AT(seconds, 1),
    AT(loss, 1),   AT(nll, 1),     AT(token_nll, 1), AT(mean_p, 1),
    AT(mean_w, 1), AT(sd_c, 1),    AT(grad_norm, 1), AT(lr, 1),
    AT(clip, 1),   AT(skipped, 0), AT(rewrites, 0),  AT(eval_nll, 1),
    AT(eval_p, 1)};
#undef AT

const column group_columns[N_GROUP_COLUMNS] = {
    {"samples", 0, offsetof(metrics_group, samples)},
    {"w", 1, offsetof(metrics_group, w)},
    {"c", 1, offsetof(metrics_group, c)}};

void metrics_record_clear(metrics_record *record)
{
    memset(record, 0, sizeof *record);
    for (size_t i = 0; i < N_COLUMNS; i++)
        if (columns[i].real)
            *(double *)((char *)record + columns[i].offset) = NAN;
    record->seconds = 0;
    for (size_t g = 0; g < METRICS_GROUPS; g++)
        record->groups[g] = (metrics_group){0, NAN, NAN};
}

static void csv_name(FILE *to, const char *column_name, const char *group)
{
    int quoted = strpbrk(group, ",\"") != NULL;
    fprintf(to, quoted ? ",\"%s_" : ",%s_", column_name);
    for (; *group; group++) {
        if (*group == '"')
            fputc('"', to);
        fputc(*group, to);
    }
    if (quoted)
        fputc('"', to);
}

static void csv_header(FILE *to, const metrics_names *m)
{
    for (size_t i = 0; i < N_COLUMNS; i++)
        fprintf(to, i ? ",%s" : "%s", columns[i].name);
    for (size_t g = 0; g < m->n; g++)
        for (size_t k = 0; k < N_GROUP_COLUMNS; k++)
            csv_name(to, group_columns[k].name, m->name[g]);
    fputc('\n', to);
}

static void csv_value(FILE *to, const column *c, const void *base, int first)
{
    const void *at = (const char *)base + c->offset;
    double real = c->real ? *(const double *)at : 0;
    if (!first)
        fputc(',', to);
    if (!c->real)
        fprintf(to, "%lld", (long long)*(const int64_t *)at);
    else if (!isnan(real))
        fprintf(to, "%.9g", real);
}

/* A group without a sample has no means, whatever the record says. */
static metrics_group group_of(const metrics_record *r, size_t g)
{
    const metrics_group none = {0, NAN, NAN};
    return r->groups[g].samples > 0 ? r->groups[g] : none;
}

static void csv_line(FILE *to, const metrics_names *m, const metrics_record *r)
{
    for (size_t i = 0; i < N_COLUMNS; i++)
        csv_value(to, &columns[i], r, i == 0);
    for (size_t g = 0; g < m->n; g++) {
        metrics_group group = group_of(r, g);
        for (size_t k = 0; k < N_GROUP_COLUMNS; k++)
            csv_value(to, &group_columns[k], &group, 0);
    }
    fputc('\n', to);
}

/* JSON has no infinity: null, which is not the same as no key. */
static int json_value(json_t *object, const column *c, const void *base)
{
    const void *at = (const char *)base + c->offset;
    double real = c->real ? *(const double *)at : 0;
    if (isnan(real))
        return 0;
    return json_object_set_new(object, c->name,
                               !c->real ? json_integer(*(const int64_t *)at)
                               : isinf(real) ? json_null()
                                             : json_real(real));
}

static int
json_groups(json_t *object, const metrics_names *m, const metrics_record *r)
{
    json_t *all = json_object();
    int bad = json_object_set_new(object, "groups", all);
    for (size_t g = 0; g < m->n && !bad; g++) {
        metrics_group group = group_of(r, g);
        json_t *one = json_object();
        bad = json_object_set_new(all, m->name[g], one);
        for (size_t k = 0; k < N_GROUP_COLUMNS && !bad; k++)
            bad = json_value(one, &group_columns[k], &group);
    }
    return bad;
}

static int json_line(FILE *to, const metrics_names *m, const metrics_record *r)
{
    json_t *object = json_object();
    int bad = object == NULL;
    for (size_t i = 0; i < N_COLUMNS && !bad; i++)
        bad = json_value(object, &columns[i], r);
    if (!bad && m->n > 0)
        bad = json_groups(object, m, r);
    if (!bad)
        bad = json_dumpf(object, to, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    fputc('\n', to);
    return bad;
}

char *metrics_line(const metrics_names *m,
                   int json,
                   const metrics_record *record,
                   size_t *n)
{
    char *text = NULL;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    FILE *to = plain ? open_memstream(&text, n) : NULL;
    if (!to) {
        if (plain)
            freelocale(plain);
        return NULL;
    }
    locale_t old = uselocale(plain);
    int bad = 0;
    if (!record)
        csv_header(to, m);
    else if (!json)
        csv_line(to, m, record);
    else
        bad = json_line(to, m, record);
    uselocale(old);
    bad |= ferror(to) != 0;
    bad |= fclose(to) != 0;
    freelocale(plain);
    if (!bad)
        return text;
    free(text);
    return NULL;
}
