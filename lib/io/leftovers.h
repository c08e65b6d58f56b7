/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary folders of saves and removals: ".T.saving-PID-N" beside target T.
 * One whose save lives is locked (flock); any other is a leftover. */
#ifndef CADFT_IO_LEFTOVERS_H
#define CADFT_IO_LEFTOVERS_H

#include <stddef.h>

/* A target is at most so long, that its temporary names are names. */
enum { CADFT__TARGET_MOST = 200, CADFT__TEMPORARY_SIZE = 256 };

/* The nth temporary name of a target of at most CADFT__TARGET_MOST bytes. */
void cadft__temporary_name(char out[CADFT__TEMPORARY_SIZE],
                           const char *target,
                           int n);

/* Remove the leftovers of those targets that `is_ours` takes; `target` is
 * `length` bytes, not terminated. */
void cadft__leftovers_remove(int parent,
                             int (*is_ours)(const void *user,
                                            const char *target,
                                            size_t length),
                             const void *user);

/* Remove the folder `target` so that a crash, also of the power, leaves it
 * whole or gone: it gets a temporary name first. What cannot be unlinked then
 * is a leftover. 0, or -1 with errno: it is there as before. */
int cadft__target_remove(int parent, const char *target);

#endif
