/* SPDX-License-Identifier: Apache-2.0 */
/* A step: the gradient's norm, what follows from it, and the updates. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "cadft/loss.h"
#include "io/show.h"
#include "optimizer/optimizer.h"

/* ------------------------------------------------------------------- norm */

/* state.squares of the members that move, one wait for all of them. */
static int32_t measure(cadft_optimizer *optimizer, cadft_error *error)
{
    cadft_context *context = optimizer->handle.context;
    const cadft__optimizer_state *state = &optimizer->state;
    for (size_t i = 0; i < optimizer->count; i++) {
        const cadft__member *member = &optimizer->members[i];
        cadft_sum_squares_args args = {
            .struct_size = sizeof args,
            .dtype = member->grad_dtype,
            .x = member->grad,
            .out = {state->base, state->sums + i * sizeof(double)},
            .work = {state->base, state->work},
            .n = member->n,
        };
        if (member->moves && member->n)
            CADFT__TRY(cadft__device_sum_squares(context, NULL, &args, error));
    }
    return cadft__device_out(context, NULL, state->squares,
                             (cadft_array){state->base, state->sums},
                             optimizer->count * sizeof(double), error);
}

static double sum_squares(const cadft_optimizer *optimizer)
{
    double scale = optimizer->options.grad_scale, sum = 0;
    for (size_t i = 0; i < optimizer->count; i++)
        if (optimizer->members[i].moves && optimizer->members[i].n)
            sum += optimizer->state.squares[i];
    return sum * scale * scale;
}

static int32_t norm(cadft_optimizer *optimizer, double *out, cadft_error *error)
{
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "sum_squares is NULL");
    CADFT__TRY(cadft__members_look(optimizer, error));
    CADFT__TRY(cadft__state_needed(optimizer, error));
    CADFT__TRY(measure(optimizer, error));
    *out = sum_squares(optimizer);
    return CADFT_OK;
}

int32_t cadft_optimizer_norm(cadft_optimizer *optimizer,
                             double *sum_squares_out,
                             cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = norm(optimizer, sum_squares_out, &call.error);
    CADFT__LEAVE(optimizer);
}

/* ----------------------------------------------------------------- update */

static cadft_update_args update_args(const cadft_optimizer *optimizer,
                                     size_t index,
                                     double rate,
                                     double clip)
{
    const cadft__optimizer_options *o = &optimizer->options;
    const cadft__optimizer_state *state = &optimizer->state;
    const cadft__member *member = &optimizer->members[index];
    double t = (double)(state->steps[index] + 1);
    int sgd = o->kind == CADFT_KIND_SGD;
    return (cadft_update_args){
        .struct_size = sizeof(cadft_update_args),
        .value_dtype = member->value_dtype,
        .grad_dtype = member->grad_dtype,
        .nesterov = (int32_t)o->nesterov,
        .value = member->value,
        .master = cadft__state_array(state, member->master),
        .grad = member->grad,
        .m = cadft__state_array(state, member->m),
        .v = cadft__state_array(state, member->v),
        .n = member->n,
        .grad_scale = o->grad_scale * clip,
        .lr = rate * member->lr_scale,
        .weight_decay = o->weight_decay * member->decay_scale,
        .beta1 = sgd ? o->momentum : o->beta1,
        .beta2 = o->beta2,
        .eps = o->eps,
        .correction1 = 1 - pow(o->beta1, t),
        .correction2 = 1 - pow(o->beta2, t),
    };
}

static int32_t
update(cadft_optimizer *optimizer, double rate, double clip, cadft_error *error)
{
    cadft_context *context = optimizer->handle.context;
    int sgd = optimizer->options.kind == CADFT_KIND_SGD;
    for (size_t i = 0; i < optimizer->count; i++) {
        cadft_update_args args = update_args(optimizer, i, rate, clip);
        if (!optimizer->members[i].moves || !args.n)
            continue;
        CADFT__TRY(sgd ? cadft__device_sgd(context, NULL, &args, error)
                       : cadft__device_adamw(context, NULL, &args, error));
    }
    /* Models read the weights on other streams. */
    CADFT__TRY(cadft__device_sync(context, NULL, error));
    for (size_t i = 0; i < optimizer->count; i++)
        optimizer->state.steps[i] += optimizer->members[i].moves;
    optimizer->state.done++;
    return CADFT_OK;
}

/* ------------------------------------------------------------- not finite */

static int32_t fail_nonfinite(const cadft_optimizer *optimizer,
                              double length,
                              int own,
                              cadft_error *error)
{
    for (size_t i = 0; own && i < optimizer->count; i++) {
        const cadft__member *member = &optimizer->members[i];
        if (member->moves && member->n &&
            !isfinite(optimizer->state.squares[i]))
            return cadft__fail(
                error, CADFT_E_NONFINITE,
                "the gradient of \"%s\" has NaN or infinity",
                cadft__show(cadft__member_name(optimizer, member)).text);
    }
    return cadft__fail(error, CADFT_E_NONFINITE,
                       "the gradient's norm is %g, expected a number that "
                       "float32 can hold",
                       length);
}

static int32_t skip(cadft_optimizer *optimizer,
                    int own,
                    cadft_optimizer_report *report,
                    cadft_error *error)
{
    if (optimizer->options.nonfinite == CADFT_NONFINITE_ERROR)
        return fail_nonfinite(optimizer, report->grad_norm, own, error);
    optimizer->state.skipped++;
    report->skipped = 1;
    report->clip = 1;
    cadft__context_log(optimizer->handle.context, CADFT_LOG_WARNING,
                       "optimizer: step %lld skipped, the gradient's norm is "
                       "%g",
                       (long long)optimizer->state.done + 1, report->grad_norm);
    return CADFT_OK;
}

/* ------------------------------------------------------------------- step */

/* Factor on a gradient of this norm. */
static double clipping(const cadft__optimizer_options *o, double length)
{
    double factor = o->clip_norm / (length + 1e-6);
    return o->clip_norm > 0 && factor < 1 ? factor : 1;
}

static int32_t check_report(const cadft_optimizer_report *theirs,
                            cadft_error *error)
{
    size_t least = CADFT__SIZE_TO(cadft_optimizer_report, skipped_total);
    if (!theirs ||
        (theirs->struct_size >= least && theirs->struct_size <= 4096))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_ARG,
                       "report.struct_size is %u, expected sizeof the struct "
                       "(%zu in this library)",
                       theirs->struct_size, sizeof *theirs);
}

/* The smaller of both sizes. */
static void report_out(const cadft_optimizer_report *ours,
                       cadft_optimizer_report *theirs)
{
    uint32_t size = theirs->struct_size;
    memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size,
           (size < sizeof *ours ? size : sizeof *ours) - sizeof size);
}

static int32_t check_step(const cadft_optimizer *optimizer,
                          const double *given,
                          const cadft_optimizer_report *report,
                          cadft_error *error)
{
    CADFT__TRY(check_report(report, error));
    if (given && *given < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "sum_squares is %g, expected 0 or more", *given);
    return cadft__schedule_check(&optimizer->options, error);
}

static int32_t step(cadft_optimizer *optimizer,
                    const double *given,
                    cadft_optimizer_report *theirs,
                    cadft_error *error)
{
    const cadft__optimizer_options *o = &optimizer->options;
    cadft_optimizer_report ours = {.struct_size = sizeof ours};
    CADFT__TRY(check_step(optimizer, given, theirs, error));
    CADFT__TRY(cadft__members_look(optimizer, error));
    CADFT__TRY(cadft__state_needed(optimizer, error));
    if (!given)
        CADFT__TRY(measure(optimizer, error));
    ours.lr = cadft__schedule_rate(o, optimizer->state.done);
    ours.grad_norm = sqrt(given ? *given : sum_squares(optimizer));
    ours.clip = clipping(o, ours.grad_norm);
    if (ours.grad_norm * ours.clip <= (double)FLT_MAX)
        CADFT__TRY(update(optimizer, ours.lr, ours.clip, error));
    else /* NaN too */
        CADFT__TRY(skip(optimizer, !given, &ours, error));
    ours.step = optimizer->state.done;
    ours.skipped_total = optimizer->state.skipped;
    if (theirs)
        report_out(&ours, theirs);
    return CADFT_OK;
}

int32_t cadft_optimizer_step(cadft_optimizer *optimizer,
                             const double *sum_squares_in,
                             cadft_optimizer_report *report,
                             cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = step(optimizer, sum_squares_in, report, &call.error);
    CADFT__LEAVE(optimizer);
}

/* --------------------------------------------------------------------- lr */

static int32_t rate_of(const cadft_optimizer *optimizer,
                       int64_t index,
                       double *out,
                       cadft_error *error)
{
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    if (index < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "step is %lld, expected 0 or "
                           "more",
                           (long long)index);
    CADFT__TRY(cadft__schedule_check(&optimizer->options, error));
    *out = cadft__schedule_rate(&optimizer->options, index);
    return CADFT_OK;
}

int32_t cadft_optimizer_lr(cadft_optimizer *optimizer,
                           int64_t index,
                           double *out,
                           cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = rate_of(optimizer, index, out, &call.error);
    CADFT__LEAVE(optimizer);
}
