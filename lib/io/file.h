/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are read: regular ones only, in place, with the path in every
 * sentence.
 *
 * Reading is pread into the caller's memory, not a mapping. A mapping of a
 * file that somebody cuts short kills the process with SIGBUS, which a
 * library inside a host must not risk, and a check of the size after mapping
 * only narrows the window; a short pread is an ordinary error. It is not
 * slower: the bytes are copied or converted once either way, and page faults
 * cost what the copy out of the page cache does.
 *
 * Links are followed (model caches are made of them), but what they lead to
 * must be a regular file. errno may change; the public call saves it. */
#ifndef CADFT_IO_FILE_H
#define CADFT_IO_FILE_H

#include "common/memory.h"
#include "io/show.h"

/* An open folder: what is opened inside it stays of one save even if another
 * save takes its place meanwhile. */
typedef struct cadft__folder {
    int fd;
    cadft__shown shown;
} cadft__folder;

int32_t
cadft__folder_open(const char *path, cadft__folder *out, cadft_error *error);

void cadft__folder_close(cadft__folder *folder);

/* 1 if there is an entry of this name, whatever it is. */
int cadft__folder_has(const cadft__folder *folder, const char *name);

/* A name of a file and not a path: not empty, not "." or "..", no '/', at
 * most 255 bytes. */
int cadft__name_is_plain(const char *name);

typedef struct cadft__file {
    int fd;
    int64_t size; /* when it was opened */
    cadft__shown shown;
} cadft__file;

/* Open for reading. `folder` NULL: `name` is a path of its own. On failure
 * out->fd is -1. */
int32_t cadft__file_open(const cadft__folder *folder,
                         const char *name,
                         cadft__file *out,
                         cadft_error *error);

/* -1 is let pass. */
void cadft__file_close(cadft__file *file);

/* Read exactly [offset, offset + bytes). Several threads may read one file.
 * CADFT_E_IO also when the file has become shorter. */
int32_t cadft__file_read(const cadft__file *file,
                         int64_t offset,
                         void *out,
                         size_t bytes,
                         cadft_error *error);

/* Read a whole file of at most `limit` bytes (else CADFT_E_FORMAT). The text
 * has a zero after its *length bytes and goes back with
 * cadft__free(memory, text, length + 1). */
int32_t cadft__file_text(cadft__memory *memory,
                         const cadft__folder *folder,
                         const char *name,
                         size_t limit,
                         char **text,
                         size_t *length,
                         cadft_error *error);

/* Fail with CADFT_E_IO and the system's reason:
 * "SHOWN: WHAT failed: no such file (errno 2)". */
int32_t cadft__fail_errno(cadft_error *error,
                          const cadft__shown *shown,
                          const char *what,
                          int number);

#endif
