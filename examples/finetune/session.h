/* SPDX-License-Identifier: Apache-2.0 */
/* What all objectives of a command share: the context, the data, and what the
 * model's folder says of itself. */
#ifndef FINETUNE_SESSION_H
#define FINETUNE_SESSION_H

#include "cadft/cadft.h"
#include "metrics.h"
#include "options.h"
#include "text/data.h"
#include "text/tokenizer.h"

enum { MAX_ENDS = 16 };

typedef struct session {
    const options *options;
    cadft_context *context;
    int64_t max_length;     /* tokens of a sample, prompt and target */
    int32_t ends[MAX_ENDS]; /* tokens that end an answer */
    int64_t n_ends;
    text_data data, eval_data; /* the latter of --eval-file */
    /* Samples to train on and held out, in the files' order. */
    const text_sample **train, **held;
    size_t n_train, n_held;
    const char *const *groups; /* [n_groups] of the data; see metrics.h */
    size_t n_groups;
    /* Of tokens and labels; of the model's folder. */
    uint64_t train_digest, held_digest, model_digest;
    /* Optimizer steps of each objective. All have options.batch samples, as
     * the weights are relative to those of their step: epochs are rounded to
     * whole batches. */
    int64_t steps;
} session;

/* Check the settings, read the model's config and the data. `s` is to be freed
 * in any case. What was left out of the data is told on stderr. */
int session_open(const options *o, session *s, text_error *error);
void session_close(session *s);

/* Which of `train` is the `place`-th sample of a run. */
size_t session_sample(const session *s, int64_t place);

/* FNV-1a, 64 bits: `bytes` after what gave `digest`; begin with DIGEST. */
#define DIGEST UINT64_C(0xcbf29ce484222325)
uint64_t digest_add(uint64_t digest, const void *bytes, size_t n);

#endif
