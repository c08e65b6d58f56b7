/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file checkpoint.h
 * Checkpoints: everything that a run goes on from, in a folder that is there
 * as a whole or not at all.
 *
 *     cadft_checkpoint point = {.struct_size = sizeof point,
 *                               .folder = "run",
 *                               .keep = 3,
 *                               .optimizer = optimizer,
 *                               .loss = loss,
 *                               .rewrite = rewrite};   // any may be left out
 *     int64_t step;
 *     cadft_checkpoint_find(ctx, "run", -1, &step, &err);
 *     if (step < 0) {                                   // a new run
 *         step = 0;
 *         cadft_model_load(model, "SmolLM2-135M", &err);
 *         cadft_optimizer_add_model(optimizer, model, NULL, &err);
 *     } else {                                          // go on
 *         cadft_checkpoint first = {.struct_size = sizeof first,
 *                                   .folder = "run",
 *                                   .step = point.step = step,
 *                                   .model = model};
 *         cadft_checkpoint_load(ctx, &first, NULL, 0, NULL, &err);
 *         cadft_optimizer_add_model(optimizer, model, NULL, &err);
 *         cadft_checkpoint_load(ctx, &point, &order, sizeof order, NULL, &err);
 *     }
 *     point.model = model;
 *     point.host = &order;                   // the host's own: data order
 *     point.host_bytes = sizeof order;
 *     ... train; every now and then:
 *     point.step = step;
 *     cadft_checkpoint_save(ctx, &point, &err);
 *
 * A run that goes on from a checkpoint takes the same steps, bit for bit, as
 * one that was never stopped, if the host gives it the same data, knobs and
 * frozen parameters: those are not in a checkpoint. Save between optimizer
 * steps: neither gradients nor a step of the loss are in it.
 *
 * FOLDER/step-00000042 is itself a folder that cadft_model_load and
 * transformers read. doc/checkpoints.md lists the files and says what a crash
 * can and cannot do.
 *
 * Threads: any, but the parts are used by the call: each of them by one thread
 * at a time. Two processes that save into one folder at the same time are not
 * refused, and either is whole. Everything here is since 0.1.
 */
#ifndef CADFT_CHECKPOINT_H
#define CADFT_CHECKPOINT_H

#include "cadft/base.h"
#include "cadft/loss.h"
#include "cadft/model.h"
#include "cadft/optimizer.h"
#include "cadft/rewrite.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A checkpoint and the parts that go in or come out. Any part may be NULL;
 *  all of them belong to the context of the call. */
typedef struct cadft_checkpoint {
    uint32_t struct_size; /**< sizeof(cadft_checkpoint) */
    /** How many checkpoints stay when this one is saved, it included; 0: all.
     *  Not read by load. */
    int32_t keep;
    const char *folder;         /**< holds the checkpoints, a folder each */
    int64_t step;               /**< steps done, names the checkpoint; >= 0 */
    cadft_model *model;         /**< its weights and config */
    cadft_optimizer *optimizer; /**< its moments, master weights, counters */
    cadft_loss *loss;           /**< its running statistics */
    cadft_rewrite *rewrite;     /**< its averages, picks and new targets */
    /** What the host needs to go on: data order, random state. Copied; no
     *  bytes, no such part. Neither is read by load. */
    const void *host;
    size_t host_bytes;
} cadft_checkpoint;

/** Save a checkpoint. `folder` is made if it is missing, the folder around it
 *  must be there. The checkpoint appears in one step when all of it is on the
 *  disk; before, nothing that was there is touched. A checkpoint of the same
 *  step is replaced in one step too.
 *
 *  Other files (a tokenizer's) are taken over as cadft_model_save does: from
 *  the checkpoint that is replaced, else from the folder that the model was
 *  loaded from, else, if that is gone, from the newest other checkpoint.
 *
 *  Then, with `keep`, the oldest of the checkpoints up to this step go, with
 *  what was put into them. Later ones, of a run that was given up, stay and do
 *  not count; so do folders that hold a folder. One that cannot be removed is
 *  told to the context's log and tried again by the next save.
 *
 *  What a save that was killed left behind is removed, nothing else that lies
 *  in `folder` is touched.
 *
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (step, keep, a part of another context),
 *  CADFT_E_PHASE (a model without weights, a loss inside a step),
 *  CADFT_E_BUSY, CADFT_E_IO (names the file), CADFT_E_NOMEM,
 *  CADFT_E_UNSUPPORTED (the step is there, on a file system that cannot
 *  exchange two folders), or what the backend returned. When the last sync
 *  fails (CADFT_E_IO) the checkpoint is there but may not survive a power
 *  failure. */
CADFT_API int32_t cadft_checkpoint_save(cadft_context *context,
                                        const cadft_checkpoint *checkpoint,
                                        cadft_error *error);

/** The newest checkpoint: that of the highest step.
 *  @param folder  one that is not there has no checkpoints
 *  @param before  only steps below it; -1: any
 *  @param step    -1 if there is none, and after an error
 *  It goes by the folders' names and opens none of them. A damaged one is never
 *  passed over: load refuses it (CADFT_E_FORMAT), and a host that wants the one
 *  before it asks again, with that step for `before`.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (before), CADFT_E_IO. */
CADFT_API int32_t cadft_checkpoint_find(cadft_context *context,
                                        const char *folder,
                                        int64_t before,
                                        int64_t *step,
                                        cadft_error *error);

/** Load the parts that are given; the others are not looked at. May be called
 *  again for others: the model first, then the optimizer that was made for
 *  it. Sizes and checksums of all files of these parts are compared with
 *  checkpoint.json before any part is changed.
 *
 *  The model must be without weights, the optimizer have the parameters that
 *  it was saved with, the loss be between steps.
 *
 *  @param host        gets the host's bytes
 *  @param capacity    bytes of `host`; 0: not wanted
 *  @param host_bytes  how many there are, 0: no such part; also set on
 *                     CADFT_E_SPACE. May be NULL. To ask for it alone: no part,
 *                     capacity 0
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_IO, CADFT_E_FORMAT (a part that
 *  is not in the checkpoint, a damaged file; names part or file),
 *  CADFT_E_STATE (names the file), CADFT_E_SPACE (host), CADFT_E_PHASE,
 *  CADFT_E_BUSY, CADFT_E_NOMEM, CADFT_E_UNSUPPORTED, or what the backend
 *  returned. After a failure all parts are as before (a rewriting handle if
 *  there is memory to put it back). */
CADFT_API int32_t cadft_checkpoint_load(cadft_context *context,
                                        const cadft_checkpoint *checkpoint,
                                        void *host,
                                        size_t capacity,
                                        size_t *host_bytes,
                                        cadft_error *error);

/** The path of a step's checkpoint, FOLDER/step-00000042, there or not: for
 *  cadft_model_load and other programs. Into `buffer` (terminated; may be
 *  NULL with capacity 0); `needed`, if not NULL, gets the bytes it takes with
 *  its end. Needs no handle, any thread.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_SPACE. */
CADFT_API int32_t cadft_checkpoint_path(const char *folder,
                                        int64_t step,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *needed,
                                        cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
