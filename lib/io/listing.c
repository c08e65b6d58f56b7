/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

/* Append an entry's name if it is a regular file. */
static int32_t add_entry(cadft__memory *memory,
                         const cadft__folder *folder,
                         const char *name,
                         size_t *used,
                         cadft__listing *out,
                         cadft_error *error)
{
    size_t size = strlen(name) + 1;
    struct stat info;
    int32_t status;
    if (fstatat(folder->fd, name, &info, 0) || !S_ISREG(info.st_mode))
        return CADFT_OK;
    status = cadft__reserve(memory, &out->text, &out->text_size, *used,
                            *used + size, 1, error);
    if (status)
        return status;
    memcpy(out->text + *used, name, size);
    *used += size;
    out->count++;
    return CADFT_OK;
}

static int32_t read_entries(cadft__memory *memory,
                            const cadft__folder *folder,
                            DIR *dir,
                            cadft__listing *out,
                            cadft_error *error)
{
    const struct dirent *entry;
    size_t used = 0;
    int32_t status = CADFT_OK;
    while (!status && (errno = 0, entry = readdir(dir)) != NULL)
        status = add_entry(memory, folder, entry->d_name, &used, out, error);
    if (!status && errno)
        status = cadft__fail_errno(error, &folder->shown, "reading the folder",
                                   errno);
    if (!status)
        status = cadft__reserve(memory, &out->names, &out->names_size, 0,
                                out->count, sizeof *out->names, error);
    if (status)
        return status;
    for (size_t i = 0, at = 0; i < out->count; i++) {
        out->names[i] = out->text + at;
        at += strlen(out->names[i]) + 1;
    }
    return CADFT_OK;
}

int32_t cadft__listing_read(cadft__memory *memory,
                            const cadft__folder *folder,
                            cadft__listing *out,
                            cadft_error *error)
{
    int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int32_t status;
    memset(out, 0, sizeof *out);
    if (!dir) {
        int number = errno;
        if (fd >= 0)
            close(fd);
        return cadft__fail_errno(error, &folder->shown, "reading the folder",
                                 number);
    }
    status = read_entries(memory, folder, dir, out, error);
    closedir(dir); /* and fd */
    if (status)
        cadft__listing_free(memory, out);
    return status;
}

void cadft__listing_free(cadft__memory *memory, cadft__listing *listing)
{
    cadft__free(memory, listing->text, listing->text_size);
    cadft__free(memory, listing->names,
                listing->names_size * sizeof *listing->names);
    memset(listing, 0, sizeof *listing);
}
