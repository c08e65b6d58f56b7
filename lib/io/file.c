/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

enum {
    READ_MOST = 1 << 30, /* the kernel stops a little below 2^31 */
    NAME_MOST = 255      /* NAME_MAX of Linux' file systems */
};

/* strerror is not safe with threads, and its language is the host's. */
static const char *reason(int number)
{
    switch (number) {
    case ENOENT:
        return "there is no such file or folder";
    case ENOTDIR:
        return "a part of the path is not a folder";
    case EISDIR:
        return "it is a folder";
    case EACCES:
    case EPERM:
        return "permission denied";
    case ELOOP:
        return "too many links";
    case ENAMETOOLONG:
        return "the name is too long";
    case EEXIST:
        return "it exists already";
    case ENOTEMPTY:
        return "the folder is not empty";
    case EMFILE:
    case ENFILE:
        return "too many open files";
    case ENOSPC:
    case EDQUOT:
        return "no space left";
    case EFBIG:
        return "the file would be too large";
    case EROFS:
        return "the file system is read-only";
    case EIO:
        return "input/output error";
    default:
        return "the system refused";
    }
}

int32_t cadft__fail_errno(cadft_error *error,
                          const cadft__shown *shown,
                          const char *what,
                          int number)
{
    return cadft__fail(error, CADFT_E_IO, "%s: %s failed: %s (errno %d)",
                       shown->text, what, reason(number), number);
}

int32_t
cadft__folder_open(const char *path, cadft__folder *out, cadft_error *error)
{
    out->shown = cadft__show_path("", path);
    out->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->fd < 0 && errno == ENOTDIR)
        return cadft__fail(error, CADFT_E_IO, "%s is not a folder",
                           out->shown.text);
    if (out->fd < 0)
        return cadft__fail_errno(error, &out->shown, "opening the folder",
                                 errno);
    return CADFT_OK;
}

void cadft__folder_close(cadft__folder *folder)
{
    if (folder->fd >= 0)
        close(folder->fd);
    folder->fd = -1;
}

int cadft__folder_has(const cadft__folder *folder, const char *name)
{
    struct stat info;
    return fstatat(folder->fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

int cadft__name_is_plain(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= NAME_MOST && !strchr(name, '/') &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int32_t cadft__file_open(const cadft__folder *folder,
                         const char *name,
                         cadft__file *out,
                         cadft_error *error)
{
    struct stat info;
    out->shown = cadft__show_path(folder ? folder->shown.text : "", name);
    out->size = 0;
    /* Not blocking: a named pipe would wait for its other end. */
    out->fd = openat(folder ? folder->fd : AT_FDCWD, name,
                     O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (out->fd < 0)
        return cadft__fail_errno(error, &out->shown, "opening", errno);
    if (fstat(out->fd, &info)) {
        int number = errno;
        cadft__file_close(out);
        return cadft__fail_errno(error, &out->shown, "asking for its size",
                                 number);
    }
    if (!S_ISREG(info.st_mode)) {
        cadft__file_close(out);
        return cadft__fail(
            error, CADFT_E_IO, "%s is %s, expected a file", out->shown.text,
            S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
    }
    out->size = (int64_t)info.st_size;
    return CADFT_OK;
}

void cadft__file_close(cadft__file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int32_t cadft__file_read(const cadft__file *file,
                         int64_t offset,
                         void *out,
                         size_t bytes,
                         cadft_error *error)
{
    char *to = (char *)out;
    while (bytes) {
        size_t want = bytes < READ_MOST ? bytes : READ_MOST;
        ssize_t got = pread(file->fd, to, want, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cadft__fail_errno(error, &file->shown, "reading", errno);
        if (got == 0)
            return cadft__fail(error, CADFT_E_IO,
                               "%s ends at byte %lld, expected %lld when it "
                               "was opened",
                               file->shown.text, (long long)offset,
                               (long long)file->size);
        to += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return CADFT_OK;
}

/* Of an open file; the limit also bounds what a growing file can give. */
static int32_t read_text(cadft__memory *memory,
                         const cadft__file *file,
                         size_t limit,
                         char **text,
                         size_t *length,
                         cadft_error *error)
{
    int32_t status;
    if (file->size > (int64_t)limit)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s has %lld bytes, expected at most %zu",
                           file->shown.text, (long long)file->size, limit);
    *length = (size_t)file->size;
    *text = (char *)cadft__alloc(memory, *length + 1);
    if (!*text)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes for %s", *length + 1,
                           file->shown.text);
    status = cadft__file_read(file, 0, *text, *length, error);
    if (status) {
        cadft__free(memory, *text, *length + 1);
        *text = NULL;
    }
    return status;
}

int32_t cadft__file_text(cadft__memory *memory,
                         const cadft__folder *folder,
                         const char *name,
                         size_t limit,
                         char **text,
                         size_t *length,
                         cadft_error *error)
{
    cadft__file file;
    int32_t status = cadft__file_open(folder, name, &file, error);
    *text = NULL;
    *length = 0;
    if (!status)
        status = read_text(memory, &file, limit, text, length, error);
    cadft__file_close(&file);
    return status;
}
