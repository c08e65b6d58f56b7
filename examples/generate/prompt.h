/* SPDX-License-Identifier: Apache-2.0 */
/* From the command line or standard input to token ids. */
#ifndef GENERATE_PROMPT_H
#define GENERATE_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "text/text.h"
#include "text/tokenizer.h"

/* The prompt's ids, [n] from malloc. `t` is NULL with --ids. */
int prompt_ids(const options *o,
               tokenizer *t,
               int32_t **ids,
               size_t *n,
               text_error *error);

#endif
