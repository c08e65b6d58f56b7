/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_save.c and checkpoint_load.c are the two calls; parts.c asks the
 * nouns, manifest.c is checkpoint.json, steps.c the folder of folders. */
#ifndef CADFT_CHECKPOINT_CHECKPOINT_H
#define CADFT_CHECKPOINT_CHECKPOINT_H

#include "backend/handle.h"
#include "cadft/checkpoint.h"
#include "io/save.h"

/* Parts, in the order in which they are loaded. The last two need not be put
 * back when a later one is refused. */
enum {
    CADFT__PART_MODEL = 0,
    CADFT__PART_LOSS = 1,
    CADFT__PART_REWRITE = 2,
    CADFT__PART_OPTIMIZER = 3,
    CADFT__PART_HOST = 4,
    CADFT__PARTS = 5
};

/* Files of the parts, and the manifest behind them. */
enum { CADFT__PART_FILES = 6, CADFT__CHECKPOINT_FILES = CADFT__PART_FILES + 1 };
extern const char *const cadft__checkpoint_files[CADFT__CHECKPOINT_FILES];

typedef struct cadft__part {
    const char *name;
    int32_t first, count; /* of cadft__checkpoint_files */
} cadft__part;
extern const cadft__part cadft__parts[CADFT__PARTS];

/* --------------------------------------------------------------- manifest */

/* checkpoint.json */
typedef struct cadft__manifest {
    int64_t step;
    int32_t has[CADFT__PARTS];
    cadft__sum sums[CADFT__PART_FILES];
} cadft__manifest;

/* The last file of a save: it has the sums of the others. */
int32_t cadft__manifest_write(const cadft__manifest *manifest,
                              const cadft__save *save,
                              cadft_error *error);

/* Of the open folder of a checkpoint; CADFT_E_FORMAT also when there is none,
 * and when it is not that of `step`. */
int32_t cadft__manifest_read(cadft__memory *memory,
                             const cadft__folder *folder,
                             int64_t step,
                             cadft__manifest *out,
                             cadft_error *error);

/* Read all files of a part and compare size and checksum. CADFT_E_FORMAT. */
int32_t cadft__manifest_verify(cadft__memory *memory,
                               const cadft__manifest *manifest,
                               const cadft__folder *folder,
                               int32_t part,
                               cadft_error *error);

/* ------------------------------------------------------------------ steps */

enum { CADFT__STEP_NAME = 32 };

/* Is nothing of this path there, not even a link that leads nowhere? */
int cadft__is_missing(const char *path);

/* "step-00000042" */
void cadft__step_name(char out[CADFT__STEP_NAME], int64_t step);

/* FOLDER/step-00000042, a block of *size bytes. */
int32_t cadft__step_path(cadft__memory *memory,
                         const char *folder,
                         int64_t step,
                         char **out,
                         size_t *size,
                         cadft_error *error);

/* The highest step of a folder, at most `most` and not `except`; -1: none.
 * Links to folders count with `links`. */
int32_t cadft__steps_newest(const cadft__folder *folder,
                            int64_t most,
                            int64_t except,
                            int32_t links,
                            int64_t *step,
                            cadft_error *error);

/* Remove what dead saves and removals of checkpoints left. */
void cadft__steps_sweep(const cadft__folder *folder);

/* Remove the checkpoints below `step` but for the newest keep - 1 of them.
 * What cannot be removed is told to the log. */
void cadft__steps_prune(cadft_context *context,
                        const cadft__folder *folder,
                        int64_t step,
                        int32_t keep);

/* ------------------------------------------------------------------ parts */

typedef struct cadft__block {
    void *data;
    size_t size;
} cadft__block;

void cadft__block_free(cadft__memory *memory, cadft__block *block);

/* Copy the caller's struct and check all that needs no look at the disk. */
int32_t cadft__checkpoint_in(cadft_context *context,
                             const cadft_checkpoint *theirs,
                             cadft_checkpoint *out,
                             cadft_error *error);

/* Enter the handles of the parts that are used through internal functions;
 * after CADFT_OK leave them. (The others are entered by each call on them.) */
typedef struct cadft__entered {
    cadft__call model, optimizer;
} cadft__entered;

int32_t cadft__parts_enter(const cadft_checkpoint *checkpoint,
                           cadft__entered *calls,
                           cadft_error *error);
void cadft__parts_leave(const cadft_checkpoint *checkpoint,
                        cadft__entered *calls);

/* State of a part that has one in memory, and back. The sentences begin with
 * `from`, the part's name or a file. */
int32_t cadft__part_state(cadft__memory *memory,
                          const cadft_checkpoint *checkpoint,
                          int32_t part,
                          cadft__block *out,
                          cadft_error *error);
int32_t cadft__part_restore(const cadft_checkpoint *checkpoint,
                            int32_t part,
                            const cadft__block *state,
                            const char *from,
                            cadft_error *error);

#endif
