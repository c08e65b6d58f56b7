/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "columns.h"

enum { CSV, JSONL, FILES };

struct metrics {
    char *folder;
    char *path[FILES];
    int fd[FILES]; /* -1: begun by the first record */
    char *header;  /* of the CSV, with its newline */
    metrics_names groups;
    int64_t last;    /* step */
    int folder_sync; /* the files' names are on the disk */
};

static int no_memory(text_error *error)
{
    return text_fail(error, TEXT_FAILED, "out of memory for the metrics");
}

static int disk(const char *path, const char *what, text_error *error)
{
    return text_fail(error, TEXT_FAILED, "%s: cannot be %s: %s", path, what,
                     strerror(errno));
}

char *metrics_path(const char *folder, const char *name)
{
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s/%s", folder, name);
    return path;
}

/* --------------------------------------------------------------- writing */

static int write_all(const struct metrics *m,
                     int which,
                     const char *text,
                     size_t n,
                     text_error *error)
{
    while (n > 0) {
        ssize_t done = write(m->fd[which], text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return disk(m->path[which], "written", error);
        text += done;
        n -= (size_t)done;
    }
    return TEXT_OK;
}

/* Begin a file with nothing, or the header, in it. */
static int begin(struct metrics *m, int which, text_error *error)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC;
    m->fd[which] = open(m->path[which], flags, 0666);
    if (m->fd[which] < 0)
        return disk(m->path[which], "written", error);
    if (which != CSV)
        return TEXT_OK;
    return write_all(m, CSV, m->header, strlen(m->header), error);
}

static int append(struct metrics *m,
                  int which,
                  const metrics_record *record,
                  text_error *error)
{
    size_t n = 0;
    int status = m->fd[which] < 0 ? begin(m, which, error) : TEXT_OK;
    if (status != TEXT_OK)
        return status;
    char *text = metrics_line(&m->groups, which == JSONL, record, &n);
    if (!text)
        return no_memory(error);
    status = write_all(m, which, text, n, error);
    free(text);
    return status;
}

int metrics_append(metrics *m, const metrics_record *record, text_error *error)
{
    if (record->step <= m->last)
        return text_fail(error, TEXT_FAILED,
                         "metrics: step %lld after step %lld",
                         (long long)record->step, (long long)m->last);
    int status = append(m, CSV, record, error);
    if (status == TEXT_OK)
        status = append(m, JSONL, record, error);
    if (status == TEXT_OK)
        m->last = record->step;
    return status;
}

static int sync_folder(struct metrics *m, text_error *error)
{
    int fd = open(m->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0;
    if (bad)
        disk(m->folder, "synced", error);
    if (fd >= 0)
        close(fd);
    m->folder_sync = !bad;
    return bad ? TEXT_FAILED : TEXT_OK;
}

int metrics_sync(metrics *m, text_error *error)
{
    for (int which = 0; which < FILES; which++) {
        if (m->fd[which] < 0)
            return TEXT_OK; /* nothing was appended */
        if (fsync(m->fd[which]) != 0)
            return disk(m->path[which], "synced", error);
    }
    return m->folder_sync ? TEXT_OK : sync_folder(m, error);
}

/* ------------------------------------------------------- going on after N */

/* The step of a line, or -1. */
static int64_t step_of(int which, const char *line, size_t n)
{
    if (which == CSV) {
        char *end;
        long long step = strtoll(line, &end, 10);
        return *end == ',' && step > 0 ? (int64_t)step : -1;
    }
    json_t *object = json_loadb(line, n, 0, NULL);
    const json_t *step = json_object_get(object, "step");
    int64_t value = json_is_integer(step) ? json_integer_value(step) : -1;
    json_decref(object);
    return value > 0 ? value : -1;
}

/* Where the line of step `after` ends. Later lines are not looked at. */
static int find_end(const struct metrics *m,
                    int which,
                    FILE *file,
                    int64_t after,
                    off_t *end,
                    text_error *error)
{
    char *line = NULL;
    size_t room = 0;
    long long number = 0, step = 0;
    int status = TEXT_OK;
    ssize_t n;
    *end = 0;
    while (status == TEXT_OK && step < after &&
           (n = getline(&line, &room, file)) > 0 && line[n - 1] == '\n') {
        *end += n;
        if (++number == 1 && which == CSV) {
            if (strcmp(line, m->header) != 0)
                status = text_fail(error, TEXT_INPUT,
                                   "%s: has other columns than this run",
                                   m->path[which]);
            continue;
        }
        step = step_of(which, line, (size_t)n);
        if (step < 0)
            status = text_fail(error, TEXT_INPUT, "%s, line %lld: no step",
                               m->path[which], number);
    }
    if (status == TEXT_OK && ferror(file))
        status = disk(m->path[which], "read", error);
    else if (status == TEXT_OK && step != after)
        status = text_fail(error, TEXT_INPUT,
                           "%s: has no step %lld, where the run is to go on; "
                           "move it away to go on without earlier steps",
                           m->path[which], (long long)after);
    free(line);
    return status;
}

static int
cut_back(struct metrics *m, int which, int64_t after, text_error *error)
{
    off_t end = 0;
    FILE *file = fopen(m->path[which], "rbe");
    if (!file && errno == ENOENT)
        return TEXT_OK;
    if (!file)
        return disk(m->path[which], "read", error);
    int status = find_end(m, which, file, after, &end, error);
    fclose(file);
    if (status != TEXT_OK)
        return status;
    m->fd[which] = open(m->path[which], O_WRONLY | O_APPEND | O_CLOEXEC);
    if (m->fd[which] < 0 || ftruncate(m->fd[which], end) != 0)
        return disk(m->path[which], "written", error);
    return TEXT_OK;
}

/* ------------------------------------------------------- open and close */

static int take_groups(struct metrics *m,
                       const char *const *groups,
                       size_t n,
                       text_error *error)
{
    if (n > METRICS_GROUPS)
        return text_fail(error, TEXT_INPUT,
                         "the data have %zu groups, at most %d can be told "
                         "apart",
                         n, METRICS_GROUPS);
    for (size_t g = 0; g < n; g++) {
        for (const char *c = groups[g]; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                return text_fail(error, TEXT_INPUT,
                                 "the name of group %zu of the data has a "
                                 "control character",
                                 g + 1);
        m->groups.name[g] = strdup(groups[g]);
        if (!m->groups.name[g])
            return no_memory(error);
        m->groups.n++;
    }
    return TEXT_OK;
}

static int prepare(struct metrics *m,
                   const char *folder,
                   const char *const *groups,
                   size_t n_groups,
                   text_error *error)
{
    size_t n = 0;
    m->folder = strdup(folder);
    m->path[CSV] = metrics_path(folder, "metrics.csv");
    m->path[JSONL] = metrics_path(folder, "metrics.jsonl");
    if (!m->folder || !m->path[CSV] || !m->path[JSONL])
        return no_memory(error);
    int status = take_groups(m, groups, n_groups, error);
    if (status != TEXT_OK)
        return status;
    m->header = metrics_line(&m->groups, 0, NULL, &n);
    return m->header ? TEXT_OK : no_memory(error);
}

int metrics_open(const char *folder,
                 int64_t after,
                 const char *const *groups,
                 size_t n_groups,
                 metrics **out,
                 text_error *error)
{
    *out = NULL;
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return no_memory(error);
    m->last = after;
    m->fd[CSV] = m->fd[JSONL] = -1;
    int status = prepare(m, folder, groups, n_groups, error);
    for (int which = 0; which < FILES && status == TEXT_OK && after > 0;
         which++)
        status = cut_back(m, which, after, error);
    if (status == TEXT_OK)
        *out = m;
    else
        metrics_close(m);
    return status;
}

void metrics_close(metrics *m)
{
    if (!m)
        return;
    for (int which = 0; which < FILES; which++) {
        if (m->fd[which] >= 0)
            close(m->fd[which]);
        free(m->path[which]);
    }
    for (size_t g = 0; g < m->groups.n; g++)
        free(m->groups.name[g]);
    free(m->folder);
    free(m->header);
    free(m);
}
