/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that is written. */
#ifndef CADFT_IO_JSON_SAVE_H
#define CADFT_IO_JSON_SAVE_H

#include "io/json.h"
#include "io/save.h"

/* Set a key to a text; in its place if it is there, else at the end. */
int32_t cadft__json_set_text(cadft__json *object,
                             const char *key,
                             const char *text,
                             cadft_error *error);

/* Write it as a file of a save: indented by two, keys in their order, numbers
 * with the digits that give the same double. */
int32_t cadft__json_save(const cadft__json *object,
                         const cadft__save *save,
                         const char *name,
                         cadft_error *error);

#endif
