/* SPDX-License-Identifier: Apache-2.0 */
/* The library's knobs by name. */
#ifndef FINETUNE_KNOBS_H
#define FINETUNE_KNOBS_H

#include "cadft/cadft.h"
#include "options.h"
#include "text/text.h"

enum { MAX_KNOBS = MAX_SETTINGS + 16 };

/* All that is set, in order, for one objective: first what this program sets
 * by default, then the command line. */
typedef struct knobs {
    setting list[MAX_KNOBS];
    int n;
    char numbers[8][32]; /* values that are computed here */
    int n_numbers;
} knobs;

/* What a run of `steps` steps sets:
 *   optimizer  cosine schedule, warm-up over a tenth of the steps (none in a
 *              run of one step)
 *   rewrite    in a run of up to 3000 steps, which the library's defaults
 *              would leave alone: warm-up over half of the steps, then due
 *              every sixth part of the run
 * unless the command line says otherwise. */
void knobs_plan(const options *o,
                const objective_option *objective,
                int64_t steps,
                knobs *out);

/* The key of a name. CADFT_E_KEY. */
int32_t knobs_key(int noun, const char *name, int32_t *key, cadft_error *e);

/* Set the knobs of one noun on a handle (cadft_loss *, cadft_optimizer *,
 * ...). */
int knobs_apply(const knobs *k, int noun, void *handle, text_error *error);

/* Set them on handles that are thrown away: are they what the library takes?
 * Before anything that takes long. */
int knobs_check(cadft_context *context, const knobs *k, text_error *error);

/* The value that counts, or NULL. */
const char *knobs_find(const knobs *k, int noun, const char *name);

/* TEXT_OK, or TEXT_FAILED with the library's sentence. */
int checked(int32_t status, const cadft_error *from, text_error *error);

#endif
