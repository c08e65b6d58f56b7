/* SPDX-License-Identifier: Apache-2.0 */
/* The files in a folder. */
#ifndef CADFT_IO_LISTING_H
#define CADFT_IO_LISTING_H

#include "io/file.h"

typedef struct cadft__listing {
    const char **names; /* [count], in no order */
    size_t count;
    char *text; /* the names, one after the other */
    size_t text_size, names_size;
} cadft__listing;

/* List the regular files, links to such among them; other entries are left
 * out. On failure the listing is empty. CADFT_E_IO, CADFT_E_NOMEM. */
int32_t cadft__listing_read(cadft__memory *memory,
                            const cadft__folder *folder,
                            cadft__listing *out,
                            cadft_error *error);

/* Any number of times. */
void cadft__listing_free(cadft__memory *memory, cadft__listing *listing);

#endif
