/* SPDX-License-Identifier: Apache-2.0 */
/* The folder that a run writes to. */
#ifndef FINETUNE_FOLDER_H
#define FINETUNE_FOLDER_H

#include "text/text.h"

typedef struct run_folder {
    char path[4096];
    int made; /* how many of the folders of the path were made here */
    int fd;   /* holds the lock; -1: not open */
} run_folder;

/* Make a folder if it is not there, with those around it, and with `lock` keep
 * other processes that do the same out of it until it is closed. What cannot
 * be written to is refused here, before anything that takes long. */
int folder_open(const char *path, int lock, run_folder *f, text_error *error);

/* Close it. What was made and is still empty goes. Harmless twice. */
void folder_close(run_folder *f);

/* Remove a folder of files; that it is not there is no error. */
int folder_remove(const char *path, text_error *error);

#endif
