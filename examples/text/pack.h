/* SPDX-License-Identifier: Apache-2.0 */
/* The order of an epoch, and the samples of an optimizer step as packed
 * micro-batches: one after the other, without padding. */
#ifndef TEXT_PACK_H
#define TEXT_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "text/data.h"
#include "text/text.h"

/* Which of n samples comes at `position` of an epoch: for each seed and epoch
 * a permutation of 0 to n - 1. There is no state, so a run that goes on from
 * a checkpoint has the order of one that was never interrupted. n at least 1,
 * position below n. */
uint64_t order_at(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position);

/* The arrays are int32 for cadft_tensor_init; all of a step are in one piece
 * of memory. */
typedef struct micro_batch {
    int64_t rows;         /* tokens */
    int64_t n_samples;    /* sequences */
    int64_t n_logit_rows; /* rows with a label */
    int32_t *tokens;      /* [rows] */
    int32_t *cu_seqlens;  /* [n_samples + 1] first row of each sample */
    int32_t *sample;      /* [n_samples] its number in the step */
    int32_t *logit_rows;  /* [n_logit_rows] ascending: only these need logits */
    int32_t *labels;      /* [n_logit_rows] what they predict */
    int32_t *sample_ids;  /* [n_logit_rows] number in the step */
} micro_batch;

typedef struct packed_step {
    micro_batch *micro; /* [n] */
    size_t n;
    int32_t *memory;
    /* The largest of each among the micro-batches. */
    int64_t max_rows, max_samples, max_logit_rows;
} packed_step;

/* Pack samples[0] to samples[n - 1] into micro-batches of at most `budget`
 * tokens: in order, each into the first that has room for it (first fit), so
 * that the result depends on nothing else. TEXT_INPUT: a sample is longer
 * than the budget; see pack_check.
 * out  free with pack_free, which is harmless after a failure too */
int pack_step(const text_sample *const *samples,
              size_t n,
              int64_t budget,
              packed_step *out,
              text_error *error);
void pack_free(packed_step *step);

/* Does every sample fit the budget alone? To be asked when the data was read;
 * the sentence names the file (`path`) and the line of the first that does
 * not. */
int pack_check(const text_data *data,
               const char *path,
               int64_t budget,
               text_error *error);

#endif
