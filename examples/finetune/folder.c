/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* flock */
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 256 }; /* for what is put behind a folder's path */

static int failed(const char *path, text_error *error)
{
    return text_fail(error, TEXT_FAILED, "%s: %s", path, strerror(errno));
}

static void unmake(run_folder *f)
{
    while (f->made > 0 && rmdir(f->path) == 0) {
        char *slash = strrchr(f->path, '/');
        f->made--;
        if (!slash)
            break;
        *slash = '\0';
    }
    f->made = 0;
}

static int make(run_folder *f, text_error *error)
{
    for (char *at = f->path + 1;; at++) {
        if (*at && *at != '/')
            continue;
        char end = *at;
        *at = '\0';
        int made = mkdir(f->path, 0777) == 0;
        f->made += made;
        if (!made && errno != EEXIST) {
            int status = failed(f->path, error);
            char *slash = strrchr(f->path, '/');
            *(slash ? slash : f->path) = '\0';
            unmake(f);
            return status;
        }
        *at = end;
        if (!end)
            return TEXT_OK;
    }
}

int folder_open(const char *path, int lock, run_folder *f, text_error *error)
{
    size_t n = strlen(path);
    *f = (run_folder){.fd = -1};
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= sizeof f->path - ROOM)
        return text_fail(error, TEXT_INPUT, "\"%s\" is not a folder's path",
                         path);
    memcpy(f->path, path, n);
    int status = make(f, error);
    if (status != TEXT_OK)
        return status;
    f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0 || access(f->path, W_OK | X_OK) != 0)
        status = failed(f->path, error);
    else if (lock && flock(f->fd, LOCK_EX | LOCK_NB) != 0)
        status =
            errno == EWOULDBLOCK
                ? text_fail(error, TEXT_FAILED,
                            "%s: another finetune is at work there", f->path)
                : failed(f->path, error);
    if (status != TEXT_OK)
        folder_close(f);
    return status;
}

void folder_close(run_folder *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    unmake(f);
}

int folder_remove(const char *path, text_error *error)
{
    DIR *d = opendir(path);
    int status = TEXT_OK;
    if (!d)
        return errno == ENOENT ? TEXT_OK : failed(path, error);
    for (struct dirent *entry; status == TEXT_OK && (entry = readdir(d));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            if (unlinkat(dirfd(d), entry->d_name, 0) != 0)
                status = failed(path, error);
    closedir(d);
    return status == TEXT_OK && rmdir(path) != 0 ? failed(path, error) : status;
}
