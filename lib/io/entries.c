/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/entries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int cadft__each_entry(int folder,
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

int cadft__open_inside(int parent, const char *name)
{
    return openat(parent, name,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

int cadft__is_same(int parent, const char *name, int fd)
{
    struct stat by_name, by_fd;
    return fstatat(parent, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &by_fd) == 0 && by_name.st_dev == by_fd.st_dev &&
           by_name.st_ino == by_fd.st_ino;
}

int cadft__sync_folder(int fd)
{
    /* EINVAL: a file system whose folders need no syncing. */
    return fsync(fd) && errno != EINVAL ? -1 : 0;
}

static int remove_entry(void *user, int folder, const char *name)
{
    (void)user;
    unlinkat(folder, name, 0); /* a link goes, not what it points to */
    return 0;
}

/* Some file systems skip entries when others are removed while reading, so
 * once more if it was not empty. */
void cadft__remove_folder(int parent, const char *name, int folder)
{
    for (int i = 0; i < 3; i++) {
        cadft__each_entry(folder, remove_entry, NULL);
        if (!unlinkat(parent, name, AT_REMOVEDIR) || errno != ENOTEMPTY)
            return;
    }
}
