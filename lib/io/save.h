/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a folder as a whole. The files are written into a temporary folder
 * beside the target, synced, and the temporary folder takes the target's
 * place in one step: rename when there is no target, an exchange of the two
 * names when there is. A crash at any point leaves the old folder or the new
 * one under the target's name, never a mixture.
 *
 * The temporary folder of target T is ".T.saving-PID-N" and is locked (flock)
 * while its save lives. What a dead save left, and what an exchange put
 * there, has no lock; the next save to the same target removes it. Only
 * entries of such a folder are ever removed, and links are not followed.
 *
 * A target that exists must be a folder (not a link to one) that holds
 * nothing but files that a save may write: a save never removes what it could
 * not have written. File systems that cannot exchange names (some network and
 * user-space ones) are told with CADFT_E_UNSUPPORTED; there the target must
 * not exist. errno may change; the public call saves it. */
#ifndef CADFT_IO_SAVE_H
#define CADFT_IO_SAVE_H

#include "io/file.h"
#include "io/leftovers.h"

/* What was written into a file. */
typedef struct cadft__sum {
    int64_t bytes;
    uint32_t crc; /* CRC-32, as zlib's */
} cadft__sum;

typedef struct cadft__save {
    cadft__memory *memory;
    const char *const *names; /* [n_names], the caller's */
    size_t n_names;
    int parent;   /* the folder that holds the target */
    int folder;   /* the temporary one, locked */
    char *target; /* last part of the path */
    size_t target_size;
    char temporary[CADFT__TEMPORARY_SIZE];
    /* [n_sums], of the first names; set by who wants them, after begin */
    cadft__sum *sums;
    size_t n_sums;
    cadft__shown shown;
} cadft__save;

/* Remove what dead saves left and make the temporary folder. `names`: all
 * the files that a save of this kind may write, plain names that outlive the
 * save. Then commit or cancel it, exactly one of them; after a failure here
 * neither is needed. */
int32_t cadft__save_begin(cadft__memory *memory,
                          const char *path,
                          const char *const *names,
                          size_t n_names,
                          cadft__save *out,
                          cadft_error *error);

/* Put the folder in the target's place. After a failure before that the
 * target is as it was and nothing is left behind. CADFT_OK: the new folder
 * is there and survives a power failure. */
int32_t cadft__save_commit(cadft__save *save, cadft_error *error);

/* Give up: remove the temporary folder. */
void cadft__save_cancel(cadft__save *save);

/* One or the other: commit if `status`, of the writing, is CADFT_OK. Returns
 * the first failure. */
int32_t cadft__save_end(cadft__save *save, int32_t status, cadft_error *error);

/* A file that is written from its beginning to its end. */
typedef struct cadft__sink {
    int fd;
    int64_t size;    /* written so far */
    cadft__sum *sum; /* NULL: nobody asks */
    cadft__shown shown;
} cadft__sink;

/* `name` is one of the save's names, each at most once. */
int32_t cadft__sink_open(const cadft__save *save,
                         const char *name,
                         cadft__sink *out,
                         cadft_error *error);

int32_t cadft__sink_write(cadft__sink *sink,
                          const void *data,
                          size_t bytes,
                          cadft_error *error);

/* Sync and close. Call it whatever write said, with its status: of a failed
 * file nothing is synced and the first failure is returned. */
int32_t
cadft__sink_close(cadft__sink *sink, int32_t status, cadft_error *error);

/* Open, write, close. */
int32_t cadft__save_text(const cadft__save *save,
                         const char *name,
                         const void *data,
                         size_t bytes,
                         cadft_error *error);

#endif
