/* SPDX-License-Identifier: Apache-2.0 */
/* Other files in a folder that is saved as a whole, a tokenizer's or notes:
 * they are copied from the folder that is replaced, else from another. Regular
 * ones at its top; links to such are followed, since the caches of model hubs
 * are made of them. A folder inside is not copied, and refuses the save (see
 * save.h) when it is in the folder that would be replaced. */
#ifndef CADFT_IO_OTHERS_H
#define CADFT_IO_OTHERS_H

#include "io/listing.h"
#include "io/save.h"

/* A folder that they may come from. */
typedef struct cadft__source {
    cadft__folder folder;
    cadft__listing files;
    int32_t is_open;
} cadft__source;

typedef struct cadft__others {
    cadft__memory *memory;
    cadft__source target, from;
    int (*is_own)(const char *name);
    int32_t lacking;
    const char **names; /* [n_names]: for cadft__save_begin */
    size_t n_names;
} cadft__others;

/* What a save writes itself. */
typedef struct cadft__own {
    const char *const *names; /* [count] */
    size_t count;
    /* All that is never copied: of these names, and what they would replace */
    int (*is_own)(const char *name);
} cadft__own;

/* See what is there. `origins` [n_origins], NULL among them allowed, are tried
 * in order when `target` has no other files: the first that can be opened is
 * the source, but not for weights and states, which belong to what lies beside
 * them. out->lacking: there were some and none could. CADFT_E_IO,
 * CADFT_E_NOMEM; free it in any case. */
int32_t cadft__others_gather(cadft__memory *memory,
                             const char *target,
                             const char *const *origins,
                             size_t n_origins,
                             const cadft__own *own,
                             cadft__others *out,
                             cadft_error *error);

/* Copy them into a save that was begun with out->names. */
int32_t cadft__others_copy(const cadft__others *others,
                           const cadft__save *save,
                           cadft_error *error);

void cadft__others_free(cadft__others *others);

#endif
