/* SPDX-License-Identifier: Apache-2.0 */
/* From what stands in a line to a sample. Used by data.c. */
#ifndef TEXT_SAMPLE_H
#define TEXT_SAMPLE_H

#include "text/data.h"
#include "text/jsonl.h"

/* A sample of ids of which those with target 1 are to be learned. */
int sample_of_targets(const int32_t *ids,
                      const unsigned char *target,
                      size_t n,
                      text_sample *out,
                      text_error *error);

/* A sample out of a line with ids. */
int sample_of_ids(const jsonl_item *item, text_sample *out, text_error *error);

/* The request to the tokenizer for a line with texts or messages; a new
 * reference, NULL: no memory. */
json_t *sample_request(const jsonl_item *item, int chat);

#endif
