/* SPDX-License-Identifier: Apache-2.0 */
/* Weights: random, from a folder, to a folder. Each of the first two plans the
 * parameters and fills them; on failure there are none. */
#ifndef CADFT_MODEL_WEIGHTS_H
#define CADFT_MODEL_WEIGHTS_H

#include "model/parameters.h"

/* A config and where it came from. */
typedef struct cadft__origin {
    char *text; /* of config.json, [length] */
    size_t length;
    char *folder; /* loaded from, terminated; NULL without */
    size_t folder_size;
} cadft__origin;

void cadft__origin_free(cadft_context *context, cadft__origin *origin);

/* `wanted` is a CADFT_DTYPE_ or 0 for the stored. */
int32_t cadft__weights_load(cadft_context *context,
                            const char *folder,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error);

int32_t cadft__weights_init(cadft_context *context,
                            const char *text,
                            size_t length,
                            uint64_t seed,
                            int32_t wanted,
                            cadft__config *config,
                            cadft__parameters *parameters,
                            cadft__origin *origin,
                            cadft_error *error);

int32_t cadft__weights_save(cadft_context *context,
                            const char *folder,
                            const cadft__parameters *parameters,
                            const cadft__origin *origin,
                            cadft_error *error);

#endif
