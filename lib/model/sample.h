/* SPDX-License-Identifier: Apache-2.0 */
/* A row of logits to a token. */
#ifndef CADFT_MODEL_SAMPLE_H
#define CADFT_MODEL_SAMPLE_H

#include <stdint.h>

typedef struct cadft__sampling {
    double temperature; /* 0: the largest logit */
    double top_p;       /* in (0, 1] */
    int32_t want_logprob;
} cadft__sampling;

/* Draw with `u` in [0, 1). `mass` [vocab] and `heap` [vocab] are scratch.
 * logprob is that of the token at temperature 1, NaN unless it is wanted.
 * Returns the token, or -1 for a row with NaN or +inf or nothing but -inf. */
int32_t cadft__sample(const float *logits,
                      int64_t vocab,
                      const cadft__sampling *sampling,
                      double u,
                      double *mass,
                      int32_t *heap,
                      double *logprob);

#endif
