/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "common/error.h"
#include "io/entries.h"

/* ------------------------------------------------------------------ names */

static const char head[] = "step-";

void cadft__step_name(char out[CADFT__STEP_NAME], int64_t step)
{
    snprintf(out, CADFT__STEP_NAME, "%s%08lld", head, (long long)step);
}

/* The step, -1 for any other name: only what cadft__step_name writes. */
static int64_t parse(const char *name, size_t length)
{
    char again[CADFT__STEP_NAME];
    int64_t step = 0;
    size_t at = sizeof head - 1;
    if (length <= at || length >= CADFT__STEP_NAME || memcmp(name, head, at))
        return -1;
    for (; at < length; at++) {
        int digit = name[at] - '0';
        if (digit < 0 || digit > 9 || step > (INT64_MAX - digit) / 10)
            return -1;
        step = 10 * step + digit;
    }
    cadft__step_name(again, step);
    return strlen(again) == length && !memcmp(again, name, length) ? step : -1;
}

static int32_t path_out(const char *folder,
                        int64_t step,
                        char *buffer,
                        size_t capacity,
                        size_t *needed,
                        cadft_error *error)
{
    char name[CADFT__STEP_NAME];
    const char *slash;
    size_t size;
    if (!folder)
        return cadft__fail(error, CADFT_E_NULL, "folder is NULL");
    if (!*folder)
        return cadft__fail(error, CADFT_E_ARG,
                           "folder is \"\", expected a path");
    if (step < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "step is %lld, expected at least 0",
                           (long long)step);
    cadft__step_name(name, step);
    slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
    size = strlen(folder) + strlen(slash) + strlen(name) + 1;
    if (needed)
        *needed = size;
    if (!buffer && capacity == 0)
        return CADFT_OK;
    if (!buffer)
        return cadft__fail(error, CADFT_E_NULL, "buffer is NULL");
    if (capacity < size)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu bytes, expected %zu", capacity,
                           size);
    snprintf(buffer, capacity, "%s%s%s", folder, slash, name);
    return CADFT_OK;
}

int32_t cadft_checkpoint_path(const char *folder,
                              int64_t step,
                              char *buffer,
                              size_t capacity,
                              size_t *needed,
                              cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = path_out(folder, step, buffer, capacity, needed, &own);
    return cadft__error_leave(error, &own, status);
}

int32_t cadft__step_path(cadft__memory *memory,
                         const char *folder,
                         int64_t step,
                         char **out,
                         size_t *size,
                         cadft_error *error)
{
    int32_t status = path_out(folder, step, NULL, 0, size, error);
    *out = NULL;
    if (status)
        return status;
    *out = (char *)cadft__alloc(memory, *size);
    if (!*out)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for a path");
    return path_out(folder, step, *out, *size, NULL, error);
}

/* ------------------------------------------------------------------- find */

int cadft__is_missing(const char *path)
{
    struct stat info;
    return fstatat(AT_FDCWD, path, &info, AT_SYMLINK_NOFOLLOW) &&
           errno == ENOENT;
}

struct newest {
    int64_t most, except, step;
    int32_t links;
};

static int visit_step(void *user, int folder, const char *name)
{
    struct newest *newest = (struct newest *)user;
    int64_t step = parse(name, strlen(name));
    struct stat info;
    if (step > newest->step && step <= newest->most && step != newest->except &&
        !fstatat(folder, name, &info,
                 newest->links ? 0 : AT_SYMLINK_NOFOLLOW) &&
        S_ISDIR(info.st_mode))
        newest->step = step;
    return 0;
}

int32_t cadft__steps_newest(const cadft__folder *folder,
                            int64_t most,
                            int64_t except,
                            int32_t links,
                            int64_t *step,
                            cadft_error *error)
{
    struct newest newest = {most, except, -1, links};
    if (cadft__each_entry(folder->fd, visit_step, &newest))
        return cadft__fail_errno(error, &folder->shown, "reading the folder",
                                 errno);
    *step = newest.step;
    return CADFT_OK;
}

static int32_t find(const cadft_context *context,
                    const char *folder,
                    int64_t before,
                    int64_t *step,
                    cadft_error *error)
{
    int64_t most = before < 0 ? INT64_MAX : before - 1;
    cadft__folder opened;
    int32_t status;
    if (!context || !folder || !step)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           !context  ? "context"
                           : !folder ? "folder"
                                     : "step");
    if (before < -1 || !*folder)
        return cadft__fail(error, CADFT_E_ARG,
                           before < -1 ? "before is %lld, expected at least -1"
                                       : "folder is \"\", expected a path",
                           (long long)before);
    if (cadft__is_missing(folder))
        return CADFT_OK;
    status = cadft__folder_open(folder, &opened, error);
    if (status)
        return status;
    status = cadft__steps_newest(&opened, most, -1, 1, step, error);
    cadft__folder_close(&opened);
    return status;
}

int32_t cadft_checkpoint_find(cadft_context *context,
                              const char *folder,
                              int64_t before,
                              int64_t *step,
                              cadft_error *error)
{
    cadft_error own;
    int saved = errno;
    int32_t status = cadft__error_enter(error, &own);
    if (step)
        *step = -1;
    if (!status) {
        status = find(context, folder, before, step, &own);
        if (status && context)
            cadft__context_note(context, &own);
    }
    errno = saved;
    return cadft__error_leave(error, &own, status);
}

/* ----------------------------------------------------------------- remove */

static int is_step(const void *user, const char *target, size_t length)
{
    (void)user;
    return parse(target, length) >= 0;
}

void cadft__steps_sweep(const cadft__folder *folder)
{
    cadft__leftovers_remove(folder->fd, is_step, NULL);
}

static int is_folder(void *user, int folder, const char *name)
{
    struct stat info;
    (void)user;
    return !fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) &&
           S_ISDIR(info.st_mode);
}

/* A folder inside would be left without what is around it. */
static int holds_folder(int parent, const char *name)
{
    int fd = cadft__open_inside(parent, name);
    int holds = fd >= 0 && cadft__each_entry(fd, is_folder, NULL) > 0;
    if (fd >= 0)
        close(fd);
    return holds;
}

void cadft__steps_prune(cadft_context *context,
                        const cadft__folder *folder,
                        int64_t step,
                        int32_t keep)
{
    cadft_error error = {sizeof error, CADFT_OK, {0}};
    char name[CADFT__STEP_NAME];
    for (int32_t n = 1; keep && step >= 0; n += n < keep) {
        if (cadft__steps_newest(folder, step - 1, -1, 0, &step, &error)) {
            cadft__context_log(context, CADFT_LOG_WARNING, "%s", error.message);
            return;
        }
        if (step < 0 || n < keep)
            continue;
        cadft__step_name(name, step);
        if (holds_folder(folder->fd, name))
            cadft__context_log(context, CADFT_LOG_WARNING,
                               "%s/%s holds a folder and is not removed",
                               folder->shown.text, name);
        else if (cadft__target_remove(folder->fd, name))
            cadft__context_log(context, CADFT_LOG_WARNING,
                               "%s/%s: removing it failed (errno %d)",
                               folder->shown.text, name, errno);
    }
}
