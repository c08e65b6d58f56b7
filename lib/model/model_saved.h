/* SPDX-License-Identifier: Apache-2.0 */
/* A model's part of a folder that others write into as well. The caller has
 * entered the model's handle. */
#ifndef CADFT_MODEL_MODEL_SAVED_H
#define CADFT_MODEL_MODEL_SAVED_H

#include "cadft/model.h"
#include "io/save.h"

enum { CADFT__MODEL_FILES = 2 };
extern const char *const cadft__model_files[CADFT__MODEL_FILES];

/* Is it one of them, or a file that transformers would load in their place? */
int cadft__model_replaces(const char *name);

/* The folder that the model was loaded from, where a tokenizer's files may
 * be; NULL for none. Lives as long as the weights. */
const char *cadft__model_origin(const cadft_model *model);

/* From now on that is *path, a block of *size bytes of the context's memory,
 * which is exchanged for the old one. */
void cadft__model_move(cadft_model *model, char **path, size_t *size);

/* CADFT_E_PHASE unless the model has weights, has none. */
int32_t cadft__model_needs(const cadft_model *model,
                           int32_t weights,
                           cadft_error *error);

/* Write the files. */
int32_t cadft__model_write(const cadft_model *model,
                           const cadft__save *save,
                           cadft_error *error);

/* Give a model without weights those of an open folder; `path` is what
 * cadft__model_origin says then. On failure it has none. */
int32_t cadft__model_read(cadft_model *model,
                          const cadft__folder *folder,
                          const char *path,
                          cadft_error *error);

/* Back to none, as before cadft__model_read. */
void cadft__model_unread(cadft_model *model);

#endif
