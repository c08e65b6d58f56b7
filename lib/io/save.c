/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/save.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

/* ".T.saving-" and two numbers of at most 10 digits stay a name. */
enum { TARGET_MOST = 200, TRIES = 1000, WRITE_MOST = 1 << 30 };
static const char mark[] = ".saving-";

/* ---------------------------------------------------------------- folders */

/* Visits the entries of a folder, "." and ".." left out, until `visit` is not
 * 0; returns that, or -1 when the folder cannot be read. */
static int each_entry(int folder,
                      int (*visit)(void *user, int folder, const char *name),
                      void *user)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int result = 0;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    while (!result && (errno = 0, entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = visit(user, folder, entry->d_name);
    if (!result && errno)
        result = -1;
    closedir(dir); /* and fd */
    return result;
}

static int remove_entry(void *user, int folder, const char *name)
{
    (void)user;
    unlinkat(folder, name, 0); /* a link goes, not what it points to */
    return 0;
}

/* Removes a folder of files. Some file systems skip entries when others are
 * removed while reading, so once more if it was not empty. A subfolder, which
 * no save writes, stays and keeps its folder. */
static void remove_folder(int parent, const char *name, int folder)
{
    for (int i = 0; i < 3; i++) {
        each_entry(folder, remove_entry, NULL);
        if (!unlinkat(parent, name, AT_REMOVEDIR) || errno != ENOTEMPTY)
            return;
    }
}

static int open_folder(int parent, const char *name)
{
    return openat(parent, name,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Is `name` still the folder that `fd` is open on? */
static int is_same(int parent, const char *name, int fd)
{
    struct stat by_name, by_fd;
    return fstatat(parent, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &by_fd) == 0 && by_name.st_dev == by_fd.st_dev &&
           by_name.st_ino == by_fd.st_ino;
}

static int sync_folder(int fd)
{
    /* EINVAL: a file system whose folders need no syncing. */
    return fsync(fd) && errno != EINVAL ? -1 : 0;
}

/* ------------------------------------------------------------- leftovers */

/* ".T.saving-" and digits, '-', digits: as make_temporary writes it. */
static int is_temporary(const cadft__save *save, const char *name)
{
    static const char digits[] = "0123456789";
    size_t length = save->target_size - 1, run;
    if (name[0] != '.' || strncmp(name + 1, save->target, length) != 0)
        return 0;
    name += 1 + length;
    if (strncmp(name, mark, sizeof mark - 1) != 0)
        return 0;
    name += sizeof mark - 1;
    run = strspn(name, digits);
    if (!run || name[run] != '-')
        return 0;
    name += run + 1;
    run = strspn(name, digits);
    return run && !name[run];
}

/* A lock that can be had belongs to nobody alive. Whoever has the lock may
 * remove; a save that is just being born locks its folder and then looks
 * whether it is still there. */
static int remove_leftover(void *user, int parent, const char *name)
{
    const cadft__save *save = (const cadft__save *)user;
    int fd;
    if (!is_temporary(save, name))
        return 0;
    fd = open_folder(parent, name);
    if (fd < 0)
        return 0;
    if (!flock(fd, LOCK_EX | LOCK_NB) && is_same(parent, name, fd))
        remove_folder(parent, name, fd);
    close(fd);
    return 0;
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
    fd = open_folder(save->parent, save->target);
    found = fd < 0 ? -1 : each_entry(fd, find_stranger, &stranger);
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
             length - start > TARGET_MOST)
        status = cadft__fail(error, CADFT_E_ARG,
                             "path is \"%s\", expected one that ends in a "
                             "name of at most %d bytes",
                             save->shown.text, TARGET_MOST);
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
    snprintf(save->temporary, save->temporary_size, ".%s%s%ld-%d", save->target,
             mark, (long)getpid(), n);
    if (mkdirat(save->parent, save->temporary, 0777))
        return errno == EEXIST ? 0 : -1;
    fd = open_folder(save->parent, save->temporary);
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
    if (!is_same(save->parent, save->temporary, fd)) {
        close(fd);
        return 0;
    }
    save->folder = fd;
    return 1;
}

static int32_t open_temporary(cadft__save *save, cadft_error *error)
{
    int made = 0;
    save->temporary_size = save->target_size + sizeof mark + 32;
    save->temporary = (char *)cadft__alloc(save->memory, save->temporary_size);
    if (!save->temporary)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for a path");
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
    cadft__free(save->memory, save->temporary, save->temporary_size);
    save->folder = save->parent = -1;
    save->target = save->temporary = NULL;
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
        each_entry(out->parent, remove_leftover, out);
        status = open_temporary(out, error);
    }
    if (status)
        release(out);
    return status;
}

/* -------------------------------------------------------- commit, cancel */

void cadft__save_cancel(cadft__save *save)
{
    remove_folder(save->parent, save->temporary, save->folder);
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
    if (!status && sync_folder(save->folder))
        status = cadft__fail_errno(error, &save->shown,
                                   "syncing the temporary folder", errno);
    if (!status)
        status = take_place(save, exists, error);
    if (status) {
        cadft__save_cancel(save);
        return status;
    }
    if (sync_folder(save->parent))
        status = cadft__fail_errno(error, &save->shown,
                                   "syncing the folder around it, which holds "
                                   "the new one,",
                                   errno);
    /* The old folder is nobody's now; what cannot be removed waits for the
     * next save. */
    old = exists && !status ? open_folder(save->parent, save->temporary) : -1;
    if (old >= 0) {
        remove_folder(save->parent, save->temporary, old);
        close(old);
    }
    release(save);
    return status;
}

/* ------------------------------------------------------------------ files */

int32_t cadft__sink_open(const cadft__save *save,
                         const char *name,
                         cadft__sink *out,
                         cadft_error *error)
{
    int known = 0;
    out->fd = -1;
    out->size = 0;
    out->shown = cadft__show_path(save->shown.text, name);
    for (size_t i = 0; i < save->n_names; i++)
        known |= strcmp(name, save->names[i]) == 0;
    if (!known || !cadft__name_is_plain(name))
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is not a name that this save may write",
                           out->shown.text);
    out->fd =
        openat(save->folder, name,
               O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (out->fd < 0)
        return cadft__fail_errno(error, &out->shown, "creating", errno);
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
