/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file optimizer.h
 * AdamW and SGD, with a learning-rate schedule, clipping by the global norm,
 * and float32 masters of bfloat16 weights.
 *
 *     cadft_optimizer *optimizer;
 *     cadft_optimizer_create(ctx, &optimizer, &err);
 *     cadft_optimizer_set_f64(optimizer, CADFT_OPTIMIZER_LR, 2e-5, &err);
 *     cadft_optimizer_set_str(optimizer, CADFT_OPTIMIZER_SCHEDULE, "cosine",
 *                             &err);
 *     cadft_optimizer_set_i64(optimizer, CADFT_OPTIMIZER_PLANNED_STEPS, 1000,
 *                             &err);
 *     cadft_optimizer_set_f64(optimizer, CADFT_OPTIMIZER_WARMUP_FRACTION, 0.1,
 *                             &err);
 *     cadft_optimizer_add_model(optimizer, model, NULL, &err);
 *     for each step:
 *         cadft_model_zero_grad(model, &err);
 *         ... forward, loss, backward, as often as the batch has parts ...
 *         cadft_optimizer_step(optimizer, NULL, NULL, &err);
 *
 * A host with weights of its own adds them one by one (cadft_optimizer_add)
 * instead. doc/optimizer.md has the formulas.
 *
 * Memory: a parameter costs 8 bytes an element (AdamW: two moments) or 4
 * (SGD: the momentum), and 4 more for a master. It is allocated in one block
 * by the first step (or norm, save or load); later steps allocate nothing.
 *
 * Reproducible: the same weights, gradients and knobs give the same bits on
 * any number of threads.
 *
 * Threads: an optimizer is used by one thread at a time, and no other may be
 * inside a call on its models meanwhile. On a device the gradients must be
 * there, or be on their way on the default stream, when a call begins; when it
 * returns, the weights are there for every stream. Everything here is since
 * 0.1.
 */
#ifndef CADFT_OPTIMIZER_H
#define CADFT_OPTIMIZER_H

#include "cadft/base.h"
#include "cadft/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadft_optimizer cadft_optimizer;

/** Create an optimizer without parameters, with the defaults listed at the
 *  keys. It keeps the context alive.
 *  Errors: CADFT_E_NULL, CADFT_E_NOMEM, CADFT_E_UNSUPPORTED (the backend has
 *  no slots for optimizers). */
CADFT_API int32_t cadft_optimizer_create(cadft_context *context,
                                         cadft_optimizer **out,
                                         cadft_error *error);

/** Free the optimizer and its state, and let its models go. The weights stay
 *  as the last step left them. NULL allowed. */
CADFT_API void cadft_optimizer_destroy(cadft_optimizer *optimizer);

/* ---------------------------------------------------------------- knobs */

/** Keys. Type and default in the comment; `i64` keys with named values take
 *  those names through cadft_optimizer_set_str. All but KIND and MASTER may
 *  change between steps, and count from the next one on. */
enum {
    /** i64, CADFT_KIND_..., default adamw. Names: adamw, sgd. Before the
     *  first parameter is added. */
    CADFT_OPTIMIZER_KIND = 1,
    /** f64 >= 0, default 5e-5: the learning rate that the schedule scales. */
    CADFT_OPTIMIZER_LR = 2,
    /** f64 in [0, 1), default 0.9: decay of the first moment (adamw). */
    CADFT_OPTIMIZER_BETA1 = 3,
    /** f64 in [0, 1), default 0.95: decay of the second moment (adamw). */
    CADFT_OPTIMIZER_BETA2 = 4,
    /** f64 >= 0, default 1e-8: added to the root of the second moment
     *  (adamw). */
    CADFT_OPTIMIZER_EPS = 5,
    /** f64 >= 0, default 0.01: weight decay. adamw: apart from the gradient,
     *  times the rate; sgd: added to the gradient. See
     *  cadft_optimizer_group. */
    CADFT_OPTIMIZER_WEIGHT_DECAY = 6,
    /** f64 in [0, 1), default 0.9: decay of the momentum (sgd). */
    CADFT_OPTIMIZER_MOMENTUM = 7,
    /** i64 0 or 1, default 0: Nesterov's momentum (sgd). */
    CADFT_OPTIMIZER_NESTEROV = 8,
    /** i64 0 or 1, default 1: bfloat16 parameters have float32 masters, which
     *  the steps change; the parameter is the master rounded. Without, a step
     *  smaller than half a unit in the last place of the weight is lost.
     *  Before the first parameter is added. */
    CADFT_OPTIMIZER_MASTER = 9,
    /** f64 >= 0, default 1: the gradient, as one vector over all parameters,
     *  is scaled to this norm when its norm is larger. 0: never. */
    CADFT_OPTIMIZER_CLIP_NORM = 10,
    /** f64 >= 0, default 1: gradients are multiplied by it before norm,
     *  clipping and step: 1 over CADFT_LOSS_GRAD_SCALE, if that was set for
     *  loss scaling, or 1 over the tokens. */
    CADFT_OPTIMIZER_GRAD_SCALE = 11,
    /** i64, CADFT_NONFINITE_... of loss.h, default skip (the loss has error):
     *  what a step does when the norm is not finite. Names: error, skip. */
    CADFT_OPTIMIZER_NONFINITE = 12,
    /** i64, CADFT_SCHEDULE_..., default constant. Names: constant, linear,
     *  cosine. */
    CADFT_OPTIMIZER_SCHEDULE = 13,
    /** i64 >= 0, default 0 (not known): steps of the whole run. After them
     *  linear and cosine stay at their end. */
    CADFT_OPTIMIZER_PLANNED_STEPS = 14,
    /** i64 >= 0, default 0: steps over which the rate rises to LR. Below
     *  PLANNED_STEPS, if those are known. */
    CADFT_OPTIMIZER_WARMUP_STEPS = 15,
    /** f64 in [0, 1], default 0 (off): the same as a share of PLANNED_STEPS,
     *  rounded up. Not together with WARMUP_STEPS. */
    CADFT_OPTIMIZER_WARMUP_FRACTION = 16,
    /** f64 in [0, 1], default 0: share of LR at which linear and cosine
     *  end. */
    CADFT_OPTIMIZER_LR_FLOOR = 17,

    /* Read only, i64. */
    CADFT_OPTIMIZER_STEPS = 100,      /**< steps done, without skipped ones */
    CADFT_OPTIMIZER_SKIPPED = 101,    /**< steps skipped */
    CADFT_OPTIMIZER_PARAMETERS = 102, /**< parameters added */
    /** Bytes of the backend's memory that the state takes, or will take. */
    CADFT_OPTIMIZER_STATE_BYTES = 103
};

/** Update rules. */
enum { CADFT_KIND_ADAMW = 0, CADFT_KIND_SGD = 1 };

/** How the rate falls after the warm-up; x in [0, 1] is the share of the
 *  steps behind the warm-up that are done. */
enum {
    CADFT_SCHEDULE_CONSTANT = 0, /**< 1 */
    CADFT_SCHEDULE_LINEAR = 1,   /**< 1 - x */
    CADFT_SCHEDULE_COSINE = 2    /**< (1 + cos(pi x)) / 2 */
};

/** Set an integer knob.
 *  Errors: CADFT_E_NULL, CADFT_E_KEY (unknown, read only, or not an i64 key),
 *  CADFT_E_ARG (outside the bounds), CADFT_E_PHASE (KIND or MASTER of an
 *  optimizer that has parameters). */
CADFT_API int32_t cadft_optimizer_set_i64(cadft_optimizer *optimizer,
                                          int32_t key,
                                          int64_t value,
                                          cadft_error *error);

/** Set a floating-point knob. Errors as cadft_optimizer_set_i64. */
CADFT_API int32_t cadft_optimizer_set_f64(cadft_optimizer *optimizer,
                                          int32_t key,
                                          double value,
                                          cadft_error *error);

/** Set any knob from text, as cadft_loss_set_str does. Errors as
 *  cadft_optimizer_set_i64; CADFT_E_ARG also for no such name and no number,
 *  CADFT_E_NOMEM. */
CADFT_API int32_t cadft_optimizer_set_str(cadft_optimizer *optimizer,
                                          int32_t key,
                                          const char *value,
                                          cadft_error *error);

/** Read an integer knob or a fact. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_optimizer_get_i64(cadft_optimizer *optimizer,
                                          int32_t key,
                                          int64_t *out,
                                          cadft_error *error);

/** Read a floating-point knob. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_optimizer_get_f64(cadft_optimizer *optimizer,
                                          int32_t key,
                                          double *out,
                                          cadft_error *error);

/** Read any knob as text. Errors: CADFT_E_NULL, CADFT_E_KEY (facts are read by
 *  cadft_optimizer_get_i64), CADFT_E_SPACE (see cadft_context_get_str). */
CADFT_API int32_t cadft_optimizer_get_str(cadft_optimizer *optimizer,
                                          int32_t key,
                                          char *buffer,
                                          size_t capacity,
                                          size_t *needed,
                                          cadft_error *error);

/** Type (0 i64, 1 f64), smallest, largest and default value of a knob. Any of
 *  the outputs may be NULL. Needs no handle, any thread.
 *  Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_optimizer_bounds(int32_t key,
                                         int32_t *type,
                                         double *smallest,
                                         double *largest,
                                         double *standard,
                                         cadft_error *error);

/** Key of a name such as "beta1" or "steps" (the constant's name in lower
 *  case), of what is read only too. Needs no handle, any thread.
 *  Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_optimizer_key(const char *name,
                                      int32_t *key,
                                      cadft_error *error);

/** The knobs one after the other, so that a binding can list them.
 *  @param index  from 0; CADFT_E_KEY past the last
 *  @param name   set to its name, which lives as long as the library; may be
 *                NULL, as may `key`
 *  Needs no handle, any thread. Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_optimizer_key_at(int32_t index,
                                         const char **name,
                                         int32_t *key,
                                         cadft_error *error);

/* ----------------------------------------------------------- parameters */

/** Add a parameter of the host's.
 *  @param name   1 to 255 printable ASCII characters without '"' and '\\',
 *                not yet in this optimizer; copied
 *  @param value  float32 or bfloat16, dense, 1 to 8 dimensions, in the
 *                backend's memory. The steps write it.
 *  @param grad   float32 or bfloat16, same shape, dense, in the same memory.
 *                The steps read it, as it is then; the host fills it before
 *                each.
 *  The views are read during the call; the arrays must outlive the optimizer.
 *  A master is taken from the value when the state is allocated; from then on
 *  a host that changes the value changes it until the next step only.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (name), CADFT_E_SHAPE, CADFT_E_DTYPE,
 *  CADFT_E_ALIGN, CADFT_E_DEVICE, CADFT_E_ALIAS (the value overlaps another
 *  array), CADFT_E_PHASE (there is state: parameters come before the first
 *  step), CADFT_E_UNSUPPORTED (the backend has no update of this kind for the
 *  data type), CADFT_E_NOMEM. */
CADFT_API int32_t cadft_optimizer_add(cadft_optimizer *optimizer,
                                      const char *name,
                                      const cadft_tensor *value,
                                      const cadft_tensor *grad,
                                      cadft_error *error);

/** Add the trainable parameters of a model, under their names; those that are
 *  there already are passed over. The optimizer keeps the model alive.
 *  Gradients are looked up at each step: a parameter that is frozen then is
 *  left alone, with its state, and goes on when it is thawed. One that was
 *  frozen when this was called is not in the optimizer.
 *  @param model  with weights, of the same context
 *  @param added  how many; may be NULL
 *  Errors as cadft_optimizer_add, CADFT_E_ARG also for a model of another
 *  context; CADFT_E_PHASE also for one without weights, CADFT_E_BUSY for one
 *  inside a call. After a failure none of the model's is added. */
CADFT_API int32_t cadft_optimizer_add_model(cadft_optimizer *optimizer,
                                            cadft_model *model,
                                            int64_t *added,
                                            cadft_error *error);

/** Scale rate and weight decay of the parameters, of those added so far, whose
 *  names match a shell pattern as in cadft_model_freeze. The last call that
 *  matches a parameter counts; without one, the scale of the rate is 1, and
 *  that of the decay is 0 for parameters of one dimension (norms, biases) and
 *  1 for others.
 *  @param lr_scale     at least 0: times the rate of the schedule; 0 leaves
 *                      the parameter as it is
 *  @param decay_scale  at least 0: times CADFT_OPTIMIZER_WEIGHT_DECAY
 *  @param matched      how many match; may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (not finite, or below 0), CADFT_E_KEY
 *  (nothing matches). */
CADFT_API int32_t cadft_optimizer_group(cadft_optimizer *optimizer,
                                        const char *pattern,
                                        double lr_scale,
                                        double decay_scale,
                                        int64_t *matched,
                                        cadft_error *error);

/* ---------------------------------------------------------------- steps */

/** Sum of the squares of all gradients times CADFT_OPTIMIZER_GRAD_SCALE, for
 *  hosts whose parameters are spread over processes: add these up over the
 *  processes, once for each parameter, and hand the total to each step. Not
 *  finite when a gradient is not.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no parameters, or a model without
 *  gradients), CADFT_E_BUSY (a model inside a call), CADFT_E_NOMEM, or what
 *  the backend returned. */
CADFT_API int32_t cadft_optimizer_norm(cadft_optimizer *optimizer,
                                       double *sum_squares,
                                       cadft_error *error);

/** What a step did. Filled up to the smaller of both struct sizes. */
typedef struct cadft_optimizer_report {
    uint32_t struct_size; /**< sizeof(cadft_optimizer_report), by the caller */
    int32_t skipped;      /**< 1: the norm was not finite, nothing was done */
    int64_t step;         /**< steps done, this one included */
    double lr;            /**< rate of this step, before groups */
    double grad_norm;     /**< after GRAD_SCALE, before clipping */
    double clip;          /**< factor on the gradient; 1: was not clipped */
    int64_t skipped_total;
} cadft_optimizer_report;

/** One step: change the weights by their gradients.
 *  The norm of the gradient, times GRAD_SCALE, decides first: one that is not
 *  finite (or that float32 cannot hold after clipping) skips the step, with
 *  nothing written but the count, or fails it (CADFT_OPTIMIZER_NONFINITE).
 *  With CLIP_NORM the gradient is multiplied by
 *  min(1, CLIP_NORM / (norm + 1e-6)).
 *  @param sum_squares  NULL: the norm is that of the gradients at hand. Else
 *                      its square, see cadft_optimizer_norm.
 *  @param report       may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (sum_squares below 0, report),
 *  CADFT_E_UNSUPPORTED (knobs that do not go together: linear, cosine or a
 *  fraction without PLANNED_STEPS; WARMUP_STEPS with WARMUP_FRACTION; a warm-up
 *  that is not below PLANNED_STEPS; NESTEROV without sgd or without momentum),
 *  CADFT_E_PHASE (no parameters, or a model without gradients: call
 *  cadft_model_zero_grad), CADFT_E_BUSY (a model inside a call),
 *  CADFT_E_NONFINITE (names a parameter), CADFT_E_NOMEM, or what the backend
 *  returned: after a failure of the backend weights and state are
 *  unspecified. */
CADFT_API int32_t cadft_optimizer_step(cadft_optimizer *optimizer,
                                       const double *sum_squares,
                                       cadft_optimizer_report *report,
                                       cadft_error *error);

/** Learning rate of step `step`, the first being 0, with the knobs as they
 *  are: for plans and plots.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (step below 0), CADFT_E_UNSUPPORTED (as
 *  in cadft_optimizer_step). */
CADFT_API int32_t cadft_optimizer_lr(cadft_optimizer *optimizer,
                                     int64_t step,
                                     double *out,
                                     cadft_error *error);

/* ---------------------------------------------------------------- state */

/** Write folder/optimizer.safetensors: of each parameter NAME.m, NAME.v
 *  (adamw), NAME.master (if it has one), in float32, and NAME.t, the steps it
 *  has taken; and the counters. The folder appears as a whole, as in
 *  cadft_model_save. Knobs and groups are the host's to keep.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no parameters), CADFT_E_ARG (not the
 *  path of a folder), CADFT_E_IO, CADFT_E_NOMEM, CADFT_E_UNSUPPORTED (as
 *  cadft_model_save), or what the backend returned. */
CADFT_API int32_t cadft_optimizer_save(cadft_optimizer *optimizer,
                                       const char *folder,
                                       cadft_error *error);

/** Take the state from such a folder, bit for bit: an optimizer goes on as the
 *  one that was saved. It must have the same kind and exactly the same
 *  parameters by name and shape, in any order. The values of the parameters
 *  are not written: load the weights that were saved with it.
 *  All of it is read into new memory, which takes the place of the old state
 *  (if there is one) in the end: a failure changes nothing.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no parameters), CADFT_E_IO,
 *  CADFT_E_FORMAT (names file and tensor), CADFT_E_NOMEM, or what the backend
 *  returned. */
CADFT_API int32_t cadft_optimizer_load(cadft_optimizer *optimizer,
                                       const char *folder,
                                       cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
