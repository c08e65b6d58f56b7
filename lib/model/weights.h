/* SPDX-License-Identifier: Apache-2.0 */
/* Weights: random, from a folder, to a folder. Each of the first two plans the
 * parameters and fills them; on failure there are none, and no origin. */
#ifndef CADFT_MODEL_WEIGHTS_H
#define CADFT_MODEL_WEIGHTS_H

#include "io/save.h"
#include "model/parameters.h"

/* A config and where it came from. */
typedef struct cadft__origin {
    char *text; /* of config.json, [length] and a zero */
    size_t length;
    char *folder; /* loaded from, terminated; NULL without */
    size_t folder_size;
} cadft__origin;

void cadft__origin_free(cadft_context *context, cadft__origin *origin);

/* `wanted` is a CADFT_DTYPE_ or 0 for the stored: bfloat16 if more than half
 * of the numbers are, else float32.
 *
 * Everything that can be refused by names, shapes and sizes is before memory
 * for the weights is asked for. Three things may be in a folder, or lack,
 * beside what the model has, as transformers lets them: buffers of old
 * checkpoints, "...rotary_emb.inv_freq"; of a tied model an lm_head.weight
 * that equals the embedding; or that in the embedding's place. */
int32_t cadft__weights_load(cadft_context *context,
                            const char *folder,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error);

/* The same from an open folder; `path` becomes the origin. */
int32_t cadft__weights_read(cadft_context *context,
                            const cadft__folder *folder,
                            const char *path,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error);

/* `wanted` 0: the config's "dtype", float16 and none as float32. Element e of
 * the parameter at index i of the list is number e % 2 of the pair that
 * Philox gives for key `seed` and counter (i, e / 2), times
 * initializer_range: a function of seed and config alone. */
int32_t cadft__weights_init(cadft_context *context,
                            const char *text,
                            size_t length,
                            uint64_t seed,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error);

/* Write config.json (the origin's, with "dtype" and "torch_dtype" set) and
 * model.safetensors. */
int32_t cadft__weights_write(cadft_context *context,
                             const cadft__save *save,
                             const cadft__parameters *parameters,
                             const cadft__origin *origin,
                             cadft_error *error);

/* Save a folder of them and of the other files (io/others.h) of the folder
 * that is there, else of the origin's. */
int32_t cadft__weights_save(cadft_context *context,
                            const char *folder,
                            const cadft__parameters *parameters,
                            const cadft__origin *origin,
                            cadft_error *error);

#endif
