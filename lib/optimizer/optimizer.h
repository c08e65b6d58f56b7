/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer handle and what its files share.
 *
 *   optimizer.c  the handle, knobs       members.c          its parameters
 *   schedule.c   step -> rate            optimizer_state.c  moments, masters
 *   step.c       norm, clipping, update  saved.c            save and load
 */
#ifndef CADFT_OPTIMIZER_OPTIMIZER_H
#define CADFT_OPTIMIZER_OPTIMIZER_H

#include "cadft/optimizer.h"
#include "backend/handle.h"
#include "backend/ops.h"
#include "common/error.h"

typedef struct cadft__optimizer_options {
    int64_t kind, nesterov, master, nonfinite;
    int64_t schedule, planned_steps, warmup_steps;
    double lr, beta1, beta2, eps, weight_decay, momentum;
    double clip_norm, grad_scale, warmup_fraction, lr_floor;
} cadft__optimizer_options;

enum { CADFT__MEMBER_NDIM = 8 }; /* as many as a file's tensors have */

/* A parameter. */
typedef struct cadft__member {
    size_t name;        /* where it starts in `names` */
    cadft_model *model; /* NULL: the host's */
    int64_t index;      /* in the model */
    int32_t value_dtype, grad_dtype, ndim;
    int32_t moves;     /* 0: frozen when last looked at */
    cadft_array value; /* stays where it is */
    cadft_array grad;  /* a model's: where it was when last looked at */
    int64_t shape[CADFT__MEMBER_NDIM];
    int64_t n;                    /* elements */
    double lr_scale, decay_scale; /* see cadft_optimizer_group */
    /* In the state's block; those that it does not have are absent. */
    uint64_t m, v, master; /* bytes, float32 [n] each */
} cadft__member;

/* Absent in the block: offset 0 is somebody's m, or nothing at all. */
#define CADFT__ABSENT UINT64_MAX

/* What the steps have left. */
typedef struct cadft__optimizer_state {
    void *base; /* the backend's memory; NULL: no state yet */
    uint64_t bytes;
    uint64_t sums;   /* in the block: float64 [count], squares of gradients */
    uint64_t work;   /* in the block: scratch of sum_squares */
    int64_t *steps;  /* [count] that each parameter has taken; host memory */
    double *squares; /* [count] the sums in host memory, behind the steps */
    int64_t done, skipped;
} cadft__optimizer_state;

struct cadft_optimizer {
    cadft__handle handle;
    cadft__optimizer_options options;
    cadft__member *members; /* [count] */
    size_t count, members_capacity;
    char *names; /* of the members, one after the other with their ends */
    size_t names_size, names_capacity;
    cadft_model **models; /* [n_models] each retained once */
    size_t n_models, models_capacity;
    cadft__optimizer_state state;
};

/* ------------------------------------------------------------- schedule */

/* Refuse knobs that do not go together. */
int32_t cadft__schedule_check(const cadft__optimizer_options *options,
                              cadft_error *error);

/* Rate of the step after `done` steps, with options that were checked. */
double cadft__schedule_rate(const cadft__optimizer_options *options,
                            int64_t done);

/* -------------------------------------------------------------- members */

const char *cadft__member_name(const cadft_optimizer *optimizer,
                               const cadft__member *member);

/* CADFT_E_PHASE for an optimizer without parameters. */
int32_t cadft__members_needed(const cadft_optimizer *optimizer,
                              cadft_error *error);

/* Ask the models which of their parameters move, and where the gradients
 * are. CADFT_E_PHASE names one that has none. */
int32_t cadft__members_look(cadft_optimizer *optimizer, cadft_error *error);

void cadft__members_free(cadft_optimizer *optimizer);

/* ---------------------------------------------------------------- state */

/* Lay the block out: sets the members' places; *out gets sizes and places. */
int32_t cadft__state_plan(cadft_optimizer *optimizer,
                          cadft__optimizer_state *out,
                          cadft_error *error);

/* A state of zeros; on failure *out is empty. */
int32_t cadft__state_new(cadft_optimizer *optimizer,
                         cadft__optimizer_state *out,
                         cadft_error *error);

/* Empty is let pass. */
void cadft__state_free(cadft_optimizer *optimizer,
                       cadft__optimizer_state *state);

/* Give the optimizer a state if it has none: zeros, and masters from the
 * values. */
int32_t cadft__state_needed(cadft_optimizer *optimizer, cadft_error *error);

/* An array of the block. */
cadft_array cadft__state_array(const cadft__optimizer_state *state,
                               uint64_t offset);

#endif
