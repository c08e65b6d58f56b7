/* SPDX-License-Identifier: Apache-2.0 */
/* gnuplot reads its commands on standard input and writes the picture on
 * standard output: nothing of ours is in a command line. */
#include "plot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "columns.h"
#include "curves.h"

extern char **environ;

static int no_memory(text_error *error)
{
    return text_fail(error, TEXT_FAILED, "out of memory for the picture");
}

static int cannot_write(const char *file, text_error *error)
{
    return text_fail(error, TEXT_FAILED, "%s: cannot be written: %s", file,
                     strerror(errno));
}

/* ---------------------------------------------------------------- gnuplot */

static int spawn(FILE *commands, int picture, FILE *said, pid_t *child)
{
    char *const argv[] = {"gnuplot", "-d", NULL}; /* no file of the user's */
    posix_spawn_file_actions_t files;
    int why = posix_spawn_file_actions_init(&files);
    if (why != 0)
        return why;
    why = posix_spawn_file_actions_adddup2(&files, fileno(commands), 0);
    if (why == 0)
        why = posix_spawn_file_actions_adddup2(&files, picture, 1);
    if (why == 0)
        why = posix_spawn_file_actions_adddup2(&files, fileno(said), 2);
    if (why == 0)
        why = posix_spawnp(child, "gnuplot", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return why;
}

/* The line of gnuplot's complaint that says what it is; the first ones repeat
 * the command. */
static int complained(FILE *said, text_error *error)
{
    char text[200], last[200] = "";
    rewind(said);
    while (fgets(text, sizeof text, said)) {
        text[strcspn(text, "\n")] = 0;
        if (text[strspn(text, " ^")])
            strcpy(last, text);
    }
    return text_fail(error, TEXT_FAILED, "the picture: gnuplot failed%s%s",
                     *last ? ": " : "", last);
}

static int
run_gnuplot(FILE *commands, int picture, FILE *said, text_error *error)
{
    pid_t child;
    int status = 0, why = spawn(commands, picture, said, &child);
    struct stat drawn;
    if (why == ENOENT)
        return text_fail(error, TEXT_FAILED,
                         "the picture: gnuplot is not installed (Debian, "
                         "Ubuntu: apt-get install gnuplot-nox); the numbers "
                         "are in metrics.csv");
    if (why != 0)
        return text_fail(error, TEXT_FAILED,
                         "the picture: gnuplot cannot be started: %s",
                         strerror(why));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return text_fail(error, TEXT_FAILED, "the picture: gnuplot: %s",
                             strerror(errno));
    if (status != 0 || fstat(picture, &drawn) != 0 || drawn.st_size == 0)
        return complained(said, error);
    return TEXT_OK;
}

/* Draw into the open file `picture`. */
static int
draw(int picture, int png, const curves_run *runs, size_t n, text_error *error)
{
    FILE *commands = tmpfile(), *said = tmpfile();
    int status = TEXT_OK;
    if (!commands || !said)
        status =
            text_fail(error, TEXT_FAILED, "the picture: no temporary file: %s",
                      strerror(errno));
    else if (curves_write(commands, png, runs, n) == 0)
        status = text_fail(error, TEXT_INPUT,
                           "the picture: there is no step to draw");
    else if (fflush(commands) != 0 || ferror(commands) ||
             fseek(commands, 0, SEEK_SET) != 0)
        status = text_fail(error, TEXT_FAILED,
                           "the picture: a temporary file cannot be "
                           "written: %s",
                           strerror(errno));
    else
        status = run_gnuplot(commands, picture, said, error);
    if (commands)
        fclose(commands);
    if (said)
        fclose(said);
    return status;
}

/* ------------------------------------------------------------- the picture */

/* Drawn beside its place and put there as a whole. */
static int draw_file(const char *file,
                     int png,
                     const curves_run *runs,
                     size_t n,
                     text_error *error)
{
    size_t room = strlen(file) + sizeof ".part";
    char *part = malloc(room);
    if (!part)
        return no_memory(error);
    snprintf(part, room, "%s.part", file);
    int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int status =
        fd < 0 ? cannot_write(part, error) : draw(fd, png, runs, n, error);
    if (fd >= 0 && close(fd) != 0 && status == TEXT_OK)
        status = cannot_write(part, error);
    if (status == TEXT_OK && rename(part, file) != 0)
        status = cannot_write(file, error);
    if (status != TEXT_OK && fd >= 0)
        unlink(part);
    free(part);
    return status;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n > k && strcmp(text + n - k, end) == 0;
}

int plot_draw(const char *file,
              const plot_run *runs,
              size_t n,
              text_error *error)
{
    int png = ends_with(file, ".png"), status = TEXT_OK;
    if (!png && !ends_with(file, ".svg"))
        return text_fail(error, TEXT_INPUT,
                         "%s: a picture's name ends in .svg or .png", file);
    curves_run *read = calloc(n ? n : 1, sizeof *read);
    if (!read)
        return no_memory(error);
    for (size_t i = 0; i < n && status == TEXT_OK; i++) {
        read[i].name = runs[i].name;
        status = metrics_read(runs[i].folder, &read[i].table, error);
    }
    if (status == TEXT_OK)
        status = draw_file(file, png, read, n, error);
    for (size_t i = 0; i < n; i++)
        metrics_table_free(&read[i].table);
    free(read);
    return status;
}

/* --------------------------------------------------------------- folders */

enum { MOST_RUNS = 64 };

typedef struct found {
    plot_run runs[MOST_RUNS]; /* whose texts are ours */
    size_t n;
} found;

static int has_metrics(const char *folder)
{
    char *path = metrics_path(folder, "metrics.csv");
    int there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

/* The last part of a path, without slashes at its end. */
static char *last_part(const char *folder)
{
    size_t end = strlen(folder);
    while (end > 1 && folder[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && folder[start - 1] != '/')
        start--;
    return strndup(folder + start, end - start);
}

static int add_run(found *f, const char *folder, text_error *error)
{
    if (f->n == MOST_RUNS)
        return text_fail(error, TEXT_INPUT,
                         "more than %d runs do not fit into a picture",
                         MOST_RUNS);
    plot_run *run = &f->runs[f->n];
    run->name = last_part(folder);
    run->folder = strdup(folder);
    f->n++;
    return run->name && run->folder ? TEXT_OK : no_memory(error);
}

static int rank(const char *name)
{
    static const char *const first[] = {"sft", "dft", "cadft"};
    int i = 0;
    while (i < 3 && strcmp(name, first[i]) != 0)
        i++;
    return i;
}

static int by_name(const void *a, const void *b)
{
    const char *x = ((const plot_run *)a)->name;
    const char *y = ((const plot_run *)b)->name;
    return rank(x) != rank(y) ? rank(x) - rank(y) : strcmp(x, y);
}

static int add_subfolders(found *f, const char *folder, text_error *error)
{
    size_t before = f->n;
    int status = TEXT_OK;
    DIR *list = opendir(folder);
    if (!list)
        return text_fail(error, TEXT_INPUT, "%s: cannot be read: %s", folder,
                         strerror(errno));
    for (struct dirent *e; status == TEXT_OK && (e = readdir(list));) {
        char *path = *e->d_name == '.' ? NULL : metrics_path(folder, e->d_name);
        if (path && has_metrics(path))
            status = add_run(f, path, error);
        free(path);
    }
    closedir(list);
    if (status == TEXT_OK && f->n == before)
        status = text_fail(error, TEXT_INPUT,
                           "%s: neither it nor a folder in it has a "
                           "metrics.csv",
                           folder);
    if (status == TEXT_OK)
        qsort(f->runs + before, f->n - before, sizeof *f->runs, by_name);
    return status;
}

int plot_from(const char *file,
              const char *const *folders,
              size_t n,
              text_error *error)
{
    found f = {.n = 0};
    int status = TEXT_OK;
    for (size_t i = 0; i < n && status == TEXT_OK; i++)
        status = has_metrics(folders[i])
                     ? add_run(&f, folders[i], error)
                     : add_subfolders(&f, folders[i], error);
    if (status == TEXT_OK)
        status = plot_draw(file, f.runs, f.n, error);
    for (size_t i = 0; i < f.n; i++) {
        free((char *)f.runs[i].name);
        free((char *)f.runs[i].folder);
    }
    return status;
}
