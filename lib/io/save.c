/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc.h"
#include "common/error.h"
#include "io/entries.h"
#include "io/leftovers.h"

enum { TRIES = 1000, WRITE_MOST = 1 << 30 };

/* ------------------------------------------------------------- leftovers */

static int is_target(const void *user, const char *target, size_t length)
{
    const cadft__save *save = (const cadft__save *)user;
    return length + 1 == save->target_size &&
           memcmp(target, save->target, length) == 0;
}

/* ----------------------------------------------------------------- target */

struct stranger {
    const cadft__save *save;
    cadft__shown name;
};

static int find_stranger(void *user, int folder, const char *name)
{
    struct stranger *stranger = (struct stranger *)user;
    struct stat info;
    for (size_t i = 0; i < stranger->save->n_names; i++)
        if (strcmp(name, stranger->save->names[i]) == 0 &&
            fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            !S_ISDIR(info.st_mode))
            return 0;
    stranger->name = cadft__show(name);
    return 1;
}

/* 1: a folder that may be replaced; 0: nothing there. */
static int32_t
check_target(const cadft__save *save, int *exists, cadft_error *error)
{
    struct stranger stranger = {save, cadft__show("")};
    struct stat info;
    int fd, found;
    *exists = 0;
    if (fstatat(save->parent, save->target, &info, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT)
            return CADFT_OK;
        return cadft__fail_errno(error, &save->shown, "looking it up", errno);
    }
    if (!S_ISDIR(info.st_mode))
        return cadft__fail(
            error, CADFT_E_IO, "%s is %s, expected a folder or nothing",
            save->shown.text, S_ISLNK(info.st_mode) ? "a link" : "a file");
    fd = cadft__open_inside(save->parent, save->target);
    found = fd < 0 ? -1 : cadft__each_entry(fd, find_stranger, &stranger);
    if (found < 0) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        return cadft__fail_errno(error, &save->shown, "reading the folder",
                                 number);
    }
    close(fd);
    if (found > 0)
        return cadft__fail(error, CADFT_E_IO,
                           "%s holds %s, which saving would remove; expected "
                           "a new path or an earlier save",
                           save->shown.text, stranger.name.text);
    *exists = 1;
    return CADFT_OK;
}

/* ------------------------------------------------------------------ begin */

static char *
copy(cadft__memory *memory, const char *text, size_t length, size_t *size)
{
    char *block = (char *)cadft__alloc(memory, length + 1);
    if (!block)
        return NULL;
    memcpy(block, text, length);
    *size = length + 1;
    return block;
}

/* Split the path, open the parent. */
static int32_t
open_parent(cadft__save *save, const char *path, cadft_error *error)
{
    size_t length = strlen(path), start, size = 0;
    cadft__folder folder;
    char *parent;
    int32_t status;
    while (length > 1 && path[length - 1] == '/')
        length--;
    for (start = length; start > 0 && path[start - 1] != '/';)
        start--;
    save->target =
        copy(save->memory, path + start, length - start, &save->target_size);
    parent = start ? copy(save->memory, path, start, &size)
                   : copy(save->memory, ".", 1, &size);
    if (!save->target || !parent)
        status = cadft__fail(error, CADFT_E_NOMEM,
                             "the allocator has no memory for a path");
    else if (!cadft__name_is_plain(save->target) ||
             length - start > CADFT__TARGET_MOST)
        status = cadft__fail(error, CADFT_E_ARG,
                             "path is \"%s\", expected one that ends in a "
                             "name of at most %d bytes",
                             save->shown.text, CADFT__TARGET_MOST);
    else
        status = cadft__folder_open(parent, &folder, error);
    cadft__free(save->memory, parent, size);
    if (!status)
        save->parent = folder.fd;
    return status;
}

/* 1: made, locked and still there; 0: taken, try another name; -1: errno. */
static int make_temporary(cadft__save *save, int n)
{
    int fd;
    cadft__temporary_name(save->temporary, save->target, n);
    if (mkdirat(save->parent, save->temporary, 0777))
        return errno == EEXIST ? 0 : -1;
    fd = cadft__open_inside(save->parent, save->temporary);
    if (fd < 0) {
        int number = errno;
        unlinkat(save->parent, save->temporary, AT_REMOVEDIR);
        errno = number;
        return number == ENOENT ? 0 : -1;
    }
    /* Some network file systems cannot lock a folder: there leftovers are
     * not told from live saves, and stay. */
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        close(fd);
        return 0;
    }
    if (!cadft__is_same(save->parent, save->temporary, fd)) {
        close(fd);
        return 0;
    }
    save->folder = fd;
    return 1;
}

static int32_t open_temporary(cadft__save *save, cadft_error *error)
{
    int made = 0;
    for (int n = 0; n < TRIES && made == 0; n++)
        made = make_temporary(save, n);
    if (made == 0)
        return cadft__fail(error, CADFT_E_IO,
                           "%s: %d names of temporary folders are all taken",
                           save->shown.text, TRIES);
    if (made < 0)
        return cadft__fail_errno(error, &save->shown,
                                 "making a temporary folder beside it", errno);
    return CADFT_OK;
}

static void release(cadft__save *save)
{
    if (save->folder >= 0)
        close(save->folder); /* and its lock */
    if (save->parent >= 0)
        close(save->parent);
    cadft__free(save->memory, save->target, save->target_size);
    save->folder = save->parent = -1;
    save->target = NULL;
}

int32_t cadft__save_begin(cadft__memory *memory,
                          const char *path,
                          const char *const *names,
                          size_t n_names,
                          cadft__save *out,
                          cadft_error *error)
{
    int32_t status;
    int exists;
    memset(out, 0, sizeof *out);
    out->memory = memory;
    out->names = names;
    out->n_names = n_names;
    out->parent = out->folder = -1;
    out->shown = cadft__show_path("", path);
    status = open_parent(out, path, error);
    if (!status)
        status = check_target(out, &exists, error);
    if (!status) {
        cadft__leftovers_remove(out->parent, is_target, out);
        status = open_temporary(out, error);
    }
    if (status)
        release(out);
    return status;
}

/* -------------------------------------------------------- commit, cancel */

void cadft__save_cancel(cadft__save *save)
{
    cadft__remove_folder(save->parent, save->temporary, save->folder);
    release(save);
}

/* The one step that counts. */
static int32_t
take_place(const cadft__save *save, int exists, cadft_error *error)
{
    const char *from = save->temporary, *to = save->target;
    if (!exists) {
        /* A target that appeared meanwhile is not replaced unless empty. */
        if (renameat(save->parent, from, save->parent, to))
            return cadft__fail_errno(error, &save->shown, "renaming to it",
                                     errno);
        return CADFT_OK;
    }
    if (!renameat2(save->parent, from, save->parent, to, RENAME_EXCHANGE))
        return CADFT_OK;
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return cadft__fail_errno(error, &save->shown,
                                 "exchanging it for the new one", errno);
    return cadft__fail(error, CADFT_E_UNSUPPORTED,
                       "%s exists, and its file system cannot exchange two "
                       "folders in one step; expected a path where nothing is",
                       save->shown.text);
}

int32_t cadft__save_commit(cadft__save *save, cadft_error *error)
{
    int32_t status;
    int exists = 0, old;
    status = check_target(save, &exists, error);
    if (!status && cadft__sync_folder(save->folder))
        status = cadft__fail_errno(error, &save->shown,
                                   "syncing the temporary folder", errno);
    if (!status)
        status = take_place(save, exists, error);
    if (status) {
        cadft__save_cancel(save);
        return status;
    }
    if (cadft__sync_folder(save->parent))
        status = cadft__fail_errno(error, &save->shown,
                                   "syncing the folder around it, which holds "
                                   "the new one,",
                                   errno);
    /* The old folder is nobody's now; what cannot be removed waits for the
     * next save. */
    old = exists && !status ? cadft__open_inside(save->parent, save->temporary)
                            : -1;
    if (old >= 0) {
        cadft__remove_folder(save->parent, save->temporary, old);
        close(old);
    }
    release(save);
    return status;
}

int32_t cadft__save_end(cadft__save *save, int32_t status, cadft_error *error)
{
    if (!status)
        return cadft__save_commit(save, error);
    cadft__save_cancel(save);
    return status;
}

/* ------------------------------------------------------------------ files */

int32_t cadft__sink_open(const cadft__save *save,
                         const char *name,
                         cadft__sink *out,
                         cadft_error *error)
{
    size_t i = 0;
    out->fd = -1;
    out->size = 0;
    out->sum = NULL;
    out->shown = cadft__show_path(save->shown.text, name);
    while (i < save->n_names && strcmp(name, save->names[i]) != 0)
        i++;
    if (i == save->n_names || !cadft__name_is_plain(name))
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is not a name that this save may write",
                           out->shown.text);
    out->fd =
        openat(save->folder, name,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (out->fd < 0)
        return cadft__fail_errno(error, &out->shown, "creating", errno);
    if (i < save->n_sums)
        out->sum = &save->sums[i];
    return CADFT_OK;
}

int32_t cadft__sink_write(cadft__sink *sink,
                          const void *data,
                          size_t bytes,
                          cadft_error *error)
{
    const char *from = (const char *)data;
    while (bytes) {
        ssize_t done =
            write(sink->fd, from, bytes < WRITE_MOST ? bytes : WRITE_MOST);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return cadft__fail_errno(error, &sink->shown, "writing",
                                     done < 0 ? errno : ENOSPC);
        if (sink->sum) {
            sink->sum->bytes += done;
            sink->sum->crc = cadft__crc32(sink->sum->crc, from, (size_t)done);
        }
        from += done;
        bytes -= (size_t)done;
        sink->size += done;
    }
    return CADFT_OK;
}

int32_t cadft__sink_close(cadft__sink *sink, int32_t status, cadft_error *error)
{
    if (sink->fd < 0)
        return status;
    if (!status && fsync(sink->fd))
        status = cadft__fail_errno(error, &sink->shown, "syncing", errno);
    /* Some network file systems tell of a failed write only here. */
    if (close(sink->fd) && !status && errno != EINTR)
        status = cadft__fail_errno(error, &sink->shown, "closing", errno);
    sink->fd = -1;
    return status;
}

int32_t cadft__save_text(const cadft__save *save,
                         const char *name,
                         const void *data,
                         size_t bytes,
                         cadft_error *error)
{
    cadft__sink sink;
    int32_t status = cadft__sink_open(save, name, &sink, error);
    if (!status)
        status = cadft__sink_write(&sink, data, bytes, error);
    return cadft__sink_close(&sink, status, error);
}
