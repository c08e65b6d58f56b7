/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs: one table, and the checks of their combinations. */
#include <float.h>
#include <string.h>

#include "common/error.h"
#include "common/knobs.h"
#include "loss/loss.h"

#define I64(key, field, lo, hi, standard, names)                               \
    CADFT__I64(cadft__options, key, field, lo, hi, standard, names)
#define F64(key, field, lo, hi, standard)                                      \
    CADFT__F64(cadft__options, key, field, lo, hi, standard)

static const cadft__knob list[] = {
    I64(CADFT_LOSS_OBJECTIVE,
        objective,
        0,
        CADFT_OBJECTIVE_HOST,
        CADFT_OBJECTIVE_DFT,
        "sft dft dft_nosg power focal eaft infosft host"),
    I64(CADFT_LOSS_WEIGHTING, weighting, 0, 1, 1, NULL),
    F64(CADFT_LOSS_BETA, beta, 0, DBL_MAX, 1),
    F64(CADFT_LOSS_EPS, eps, 0, DBL_MAX, 1e-6),
    I64(CADFT_LOSS_DDOF, ddof, 0, 1, 0, NULL),
    I64(CADFT_LOSS_SCOPE,
        scope,
        0,
        CADFT_SCOPE_LOCAL,
        CADFT_SCOPE_EXACT,
        "exact running local"),
    F64(CADFT_LOSS_RUNNING_DECAY, running_decay, 0, CADFT__BELOW_1, 0.9),
    I64(CADFT_LOSS_RENORMALISE, renormalise, 0, 1, 0, NULL),
    I64(CADFT_LOSS_NONFINITE, nonfinite, 0, 1, 0, "error skip"),
    I64(CADFT_LOSS_REDUCTION,
        reduction,
        0,
        CADFT_REDUCTION_SUM,
        CADFT_REDUCTION_TOKEN_MEAN,
        "token_mean sample_sum sample_mean sum"),
    F64(CADFT_LOSS_DENOMINATOR, denominator, 0, DBL_MAX, 0),
    F64(CADFT_LOSS_GRAD_SCALE, grad_scale, -DBL_MAX, DBL_MAX, 1),
    I64(CADFT_LOSS_IGNORE_INDEX,
        ignore_index,
        -CADFT__EXACT,
        CADFT__EXACT,
        -100,
        NULL),
    I64(CADFT_LOSS_LABEL_OFFSET, label_offset, 0, 1, 0, NULL),
    F64(CADFT_LOSS_Z_LOSS, z_loss, 0, DBL_MAX, 0),
    F64(CADFT_LOSS_LABEL_SMOOTHING, label_smoothing, 0, CADFT__BELOW_1, 0),
    F64(CADFT_LOSS_SOFTCAP, softcap, 0, FLT_MAX, 0),
    F64(CADFT_LOSS_POWER_Q, power_q, 0, 16, 0.7),
    F64(CADFT_LOSS_FOCAL_GAMMA, focal_gamma, 0, 16, 2),
    F64(CADFT_LOSS_EAFT_ALPHA, eaft_alpha, 0, 16, 1),
    F64(CADFT_LOSS_INFOSFT_TARGET,
        infosft_target,
        DBL_MIN,
        CADFT__BELOW_1,
        0.93),
};

static const cadft__knobs knobs = {list, sizeof list / sizeof list[0], NULL, 0};

void cadft__options_default(cadft__options *options)
{
    cadft__knobs_default(&knobs, options);
}

cadft__objective cadft__options_objective(const cadft__options *options)
{
    return (cadft__objective){
        .kind = (int32_t)options->objective,
        .q = options->power_q,
        .gamma = options->focal_gamma,
        .alpha = options->eaft_alpha,
        .target = options->infosft_target,
    };
}

int32_t cadft__options_check(const cadft_loss *loss, cadft_error *error)
{
    cadft__objective objective = cadft__options_objective(&loss->options);
    if (loss->options.label_smoothing > 0 &&
        !cadft__objective_is_scaled(&objective))
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "label_smoothing has no meaning with objectives "
                           "dft_nosg, power and focal; expected sft, dft, "
                           "eaft, infosft or host");
    return CADFT_OK;
}

/* ---------------------------------------------------------------- setting */

/* May the knob be set now? */
static int32_t settable(cadft_loss *loss, int32_t key, cadft_error *error)
{
    const cadft__knob *knob;
    int32_t status = cadft__knobs_find(&knobs, key, &knob, error);
    if (status)
        return status;
    if (loss->step.phase != PHASE_IDLE && key != CADFT_LOSS_GRAD_SCALE &&
        !(key == CADFT_LOSS_DENOMINATOR && !loss->step.weighed))
        return cadft__fail(error, CADFT_E_PHASE,
                           "%s cannot change inside a step", knob->name);
    return CADFT_OK;
}

/* What may be set inside a step: the step at hand takes it. */
static void reach_step(cadft_loss *loss)
{
    if (loss->step.phase == PHASE_IDLE)
        return;
    loss->active.denominator = loss->options.denominator;
    loss->active.grad_scale = loss->options.grad_scale;
}

int32_t cadft_loss_set_i64(cadft_loss *loss,
                           int32_t key,
                           int64_t value,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status = settable(loss, key, &call.error);
    if (!status)
        status = cadft__knobs_set_i64(&knobs, &loss->options, key, value,
                                      &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_set_f64(cadft_loss *loss,
                           int32_t key,
                           double value,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status = settable(loss, key, &call.error);
    if (!status)
        status = cadft__knobs_set_f64(&knobs, &loss->options, key, value,
                                      &call.error);
    if (!status)
        reach_step(loss);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_set_str(cadft_loss *loss,
                           int32_t key,
                           const char *value,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status = settable(loss, key, &call.error);
    if (!status)
        status = cadft__knobs_set_str(&knobs, &loss->options, key, value,
                                      &call.error);
    if (!status)
        reach_step(loss);
    CADFT__LEAVE(loss);
}

/* ---------------------------------------------------------------- getting */

int32_t cadft_loss_get_i64(cadft_loss *loss,
                           int32_t key,
                           int64_t *out,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status =
        cadft__knobs_get_i64(&knobs, &loss->options, key, out, &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_get_f64(cadft_loss *loss,
                           int32_t key,
                           double *out,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status =
        cadft__knobs_get_f64(&knobs, &loss->options, key, out, &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_get_str(cadft_loss *loss,
                           int32_t key,
                           char *buffer,
                           size_t capacity,
                           size_t *needed,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status = cadft__knobs_get_str(&knobs, &loss->options, key, buffer, capacity,
                                  needed, &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_bounds(int32_t key,
                          int32_t *type,
                          double *smallest,
                          double *largest,
                          double *standard,
                          cadft_error *error)
{
    return cadft__knobs_bounds(&knobs, key, type, smallest, largest, standard,
                               error);
}

int32_t cadft_loss_key(const char *name, int32_t *key, cadft_error *error)
{
    return cadft__knobs_key(&knobs, name, key, error);
}

int32_t cadft_loss_key_at(int32_t index,
                          const char **name,
                          int32_t *key,
                          cadft_error *error)
{
    return cadft__knobs_at(&knobs, index, name, key, error);
}

/* --------------------------------------------------- the host's coefficient */

static int32_t set_coefficient(cadft_loss *loss,
                               const cadft_coefficient *new,
                               cadft_error *error)
{
    if (new &&new->reserved)
        return cadft__fail(error, CADFT_E_TOO_NEW,
                           "coefficient.reserved is not 0");
    if (new && !new->fn)
        return cadft__fail(error, CADFT_E_NULL, "coefficient.fn is NULL");
    if (loss->step.phase != PHASE_IDLE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "the coefficient cannot change inside a step");
    if (loss->coefficient.destroy)
        loss->coefficient.destroy(loss->coefficient.user);
    memset(&loss->coefficient, 0, sizeof loss->coefficient);
    if (new)
        loss->coefficient = *new;
    return CADFT_OK;
}

/* The host's destroy runs exactly once, also when the loss or the error
 * struct is refused: so the bundle is read first. */
int32_t cadft_loss_set_coefficient(cadft_loss *loss,
                                   const cadft_coefficient *coefficient,
                                   cadft_error *error)
{
    cadft_coefficient copy = {0};
    cadft_error unread = {sizeof unread, CADFT_OK, {0}};
    cadft__call call;
    int32_t read = CADFT_OK, status;
    if (coefficient)
        read = cadft__struct_in(&copy, sizeof copy, coefficient,
                                CADFT__SIZE_TO(cadft_coefficient, destroy),
                                "coefficient", &unread);
    status =
        cadft__handle_enter(loss ? &loss->handle : NULL, "loss", error, &call);
    if (!status) {
        status = read;
        call.error = unread;
        if (!status)
            status =
                set_coefficient(loss, coefficient ? &copy : NULL, &call.error);
        cadft__handle_leave(&loss->handle, error, &call, status);
    }
    if (status && copy.destroy)
        copy.destroy(copy.user);
    return status;
}
