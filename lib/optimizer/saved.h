/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer's files, for a folder that others write to as well. */
#ifndef CADFT_OPTIMIZER_SAVED_H
#define CADFT_OPTIMIZER_SAVED_H

#include "cadft/optimizer.h"
#include "io/save.h"

/* Names of the files that a save has, for cadft__save_begin. */
enum { CADFT__OPTIMIZER_FILES = 1 };
extern const char *const cadft__optimizer_files[CADFT__OPTIMIZER_FILES];

/* The caller has entered the optimizer (cadft__handle_enter); its models may
 * be inside calls. errno may change. Errors as of cadft_optimizer_save and
 * _load; a read that fails changes nothing. */
int32_t cadft__optimizer_write(cadft_optimizer *optimizer,
                               const cadft__save *save,
                               cadft_error *error);
int32_t cadft__optimizer_read(cadft_optimizer *optimizer,
                              const cadft__folder *folder,
                              cadft_error *error);

#endif
