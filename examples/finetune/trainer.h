/* SPDX-License-Identifier: Apache-2.0 */
/* The run of one objective, in parts:
 *
 *   trainer.c    the handles, from the model's folder or from a checkpoint
 *   saved.c      what a checkpoint says of settings and data
 *   forward.c    packed samples through the model
 *   step.c       an optimizer step
 *   rewriting.c  new targets for samples that stay incompatible
 *   measure.c    held-out data; the second moment of a sample's gradient
 *   run.c        from the first step to the last
 *
 * Functions that can fail return TEXT_OK, TEXT_FAILED or TEXT_INPUT, with a
 * sentence in `error`. */
#ifndef FINETUNE_TRAINER_H
#define FINETUNE_TRAINER_H

#include "cadft/cadft.h"
#include "knobs.h"
#include "metrics.h"
#include "progress.h"
#include "session.h"
#include "summary.h"
#include "text/pack.h"

typedef struct trainer {
    const session *session;
    const objective_option *objective;
    const char *folder;
    knobs knobs;
    cadft_model *model;
    cadft_loss *loss;
    cadft_optimizer *optimizer;
    cadft_rewrite *rewrite;      /* NULL: off */
    const text_sample **samples; /* [n_train] with the targets of now */
    text_sample *rewritten;      /* [n_train] those that are not the data's;
                                  * tokens NULL: none */
    packed_step held;
    int64_t step;       /* optimizer steps done */
    metrics_record now; /* of the last step */
    summary_facts facts;
} trainer;

/* ------------------------------------------------------------- trainer.c */

/* Make the handles, from the newest checkpoint in `folder` if there is one
 * (t->step is then its step), else from the model's folder. Writes nothing,
 * but --fresh removes what an earlier run left. `t` is to be freed in any
 * case. */
int trainer_open(const session *s,
                 const objective_option *objective,
                 const char *folder,
                 trainer *t,
                 text_error *error);
void trainer_close(trainer *t);

/* Do targets get rewritten? --rewrite and --no-rewrite decide; without them
 * yes for cadft in runs of three epochs and more: a sample has to be seen
 * twice before it can be picked, and once again to be learned. */
int trainer_rewrites(const session *s, const objective_option *objective);

/* A loss with the settings of the run. */
int trainer_loss(const trainer *t, cadft_loss **out, text_error *error);

/* --------------------------------------------------------------- saved.c */

/* Save a checkpoint of the step that t->step says. */
int saved_write(trainer *t, text_error *error);

/* Of the checkpoint of `step`: compare its settings with those of now, and
 * take counts and facts. TEXT_INPUT names the setting that differs. */
int saved_read(trainer *t, int64_t step, text_error *error);

/* As `checked`, after a load from a checkpoint. A damaged one is no reason to
 * start over behind the user's back. */
int loaded_from(int32_t status, const cadft_error *from, text_error *error);

/* Remove all checkpoints and the final model in `folder`. */
int saved_remove(cadft_context *context, const char *folder, text_error *error);

/* ------------------------------------------------------------- forward.c */

/* A micro-batch as the library sees it. */
typedef struct views {
    int64_t rows, bounds, logit_rows; /* shapes */
    cadft_tensor tokens, cu_seqlens, picked, labels, sample_ids, logits;
    cadft_model_batch model;
    cadft_loss_batch loss;
} views;

/* Logits of a micro-batch, in v->logits and v->loss. `v` must stay where it
 * is while it is used. */
int forward(cadft_model *model,
            const micro_batch *micro,
            int no_grad,
            views *v,
            text_error *error);

/* Show them to the loss, which counts what it has seen from 0. */
int observe(cadft_loss *loss, const views *v, text_error *error);

/* Gradient of the micro-batch observed as number `observed`: over its logits,
 * then added to the parameters'. */
int backward(cadft_model *model,
             cadft_loss *loss,
             int64_t observed,
             views *v,
             text_error *error);

/* ---------------------------------------------------------------- step.c */

/* Take step t->step: its samples, their gradient, the optimizer. Fills t->now
 * but for the evaluation. */
int step_take(trainer *t, text_error *error);

/* ----------------------------------------------------------- rewriting.c */

/* Before a step: rewrite what is due. */
int rewriting_due(trainer *t, text_error *error);

/* Take over the targets of a loaded handle. */
int rewriting_restore(trainer *t, text_error *error);

/* ------------------------------------------------------------- measure.c */

/* Mean NLL of a token and mean probability over the held-out samples; NaN
 * when there are none. */
int measure_held(trainer *t, double *nll, double *p, text_error *error);

/* Mean over the first `--second-moment` samples of |w_i grad_i|^2, grad_i the
 * gradient of sample i's mean token loss, w_i its weight among them. */
int measure_moment(trainer *t, double *out, text_error *error);

/* ----------------------------------------------------------------- run.c */

/* Train one objective to its end, or until a signal. `out` gets the signal's
 * number, 0 without one. */
int run_objective(const session *s,
                  const objective_option *objective,
                  const char *folder,
                  int *signal_number,
                  text_error *error);

#endif
