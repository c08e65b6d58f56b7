/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "io/entries.h"

enum { TRIES = 1000 };
static const char mark[] = ".saving-";

void cadft__temporary_name(char out[CADFT__TEMPORARY_SIZE],
                           const char *target,
                           int n)
{
    snprintf(out, CADFT__TEMPORARY_SIZE, ".%s%s%ld-%d", target, mark,
             (long)getpid(), n);
}

/* Length of T in ".T.saving-", digits, '-', digits; 0: no such name. */
static size_t target_length(const char *name)
{
    static const char digits[] = "0123456789";
    const char *at = NULL, *next = name;
    size_t run;
    while ((next = strstr(next, mark)) != NULL)
        at = next++; /* T may have the mark in it */
    if (name[0] != '.' || !at)
        return 0;
    next = at + sizeof mark - 1;
    run = strspn(next, digits);
    if (!run || next[run] != '-')
        return 0;
    next += run + 1;
    run = strspn(next, digits);
    return run && !next[run] ? (size_t)(at - name) - 1 : 0;
}

struct sweep {
    int (*is_ours)(const void *user, const char *target, size_t length);
    const void *user;
};

/* A lock that can be had belongs to nobody alive. Whoever has the lock may
 * remove; a save that is just being born locks its folder and then looks
 * whether it is still there. */
static int remove_leftover(void *user, int parent, const char *name)
{
    const struct sweep *sweep = (const struct sweep *)user;
    size_t length = target_length(name);
    int fd;
    if (!length || !sweep->is_ours(sweep->user, name + 1, length))
        return 0;
    fd = cadft__open_inside(parent, name);
    if (fd < 0)
        return 0;
    if (!flock(fd, LOCK_EX | LOCK_NB) && cadft__is_same(parent, name, fd))
        cadft__remove_folder(parent, name, fd);
    close(fd);
    return 0;
}

void cadft__leftovers_remove(int parent,
                             int (*is_ours)(const void *user,
                                            const char *target,
                                            size_t length),
                             const void *user)
{
    struct sweep sweep = {is_ours, user};
    cadft__each_entry(parent, remove_leftover, &sweep);
}

/* Never over another folder, where the file system can promise that. */
static int rename_to(int parent, const char *from, const char *to)
{
    if (!renameat2(parent, from, parent, to, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return -1;
    return renameat(parent, from, parent, to);
}

int cadft__target_remove(int parent, const char *target)
{
    char name[CADFT__TEMPORARY_SIZE];
    int fd, result = -1;
    errno = ENAMETOOLONG;
    for (int n = 0; n < TRIES && result; n++) {
        cadft__temporary_name(name, target, n);
        result = rename_to(parent, target, name);
        if (result && errno != EEXIST && errno != ENOTEMPTY)
            return -1;
    }
    /* Files go after the name went for good. */
    if (result || cadft__sync_folder(parent))
        return result;
    fd = cadft__open_inside(parent, name);
    if (fd >= 0) {
        cadft__remove_folder(parent, name, fd);
        close(fd);
    }
    return 0;
}
