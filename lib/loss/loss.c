/* SPDX-License-Identifier: Apache-2.0 */
/* The handle and the one-call form. */
#include "loss/loss.h"

#include <string.h>

#include "common/error.h"

static void free_arrays(cadft_loss *loss)
{
    cadft__memory *m = &loss->handle.context->memory;
    cadft__scratch *s = &loss->scratch;
    const size_t *c = s->capacity;
    cadft__free(m, loss->step.samples,
                loss->samples_capacity * sizeof(cadft__sample));
    cadft__free(m, loss->step.rows, loss->rows_capacity * sizeof(cadft__row));
    cadft__free(m, loss->step.micro,
                loss->micro_capacity * sizeof(cadft__micro));
    cadft__free(m, s->labels, c[0] * sizeof *s->labels);
    cadft__free(m, s->samples, c[1] * sizeof *s->samples);
    cadft__free(m, s->stats, c[2] * sizeof *s->stats);
    cadft__free(m, s->coef, c[3] * sizeof *s->coef);
    cadft__free(m, s->columns, c[4] * sizeof *s->columns);
    cadft__free(m, s->k, c[5] * sizeof *s->k);
    cadft__free(m, s->wide, c[6] * sizeof *s->wide);
    cadft__free(m, s->row_max, c[7] * sizeof *s->row_max);
    cadft__free(m, s->rows, c[8] * sizeof *s->rows);
    cadft__device_free(loss->handle.context, s->stream, s->device,
                       s->device_bytes);
}

static void free_loss(cadft__handle *handle)
{
    cadft_loss *loss = (cadft_loss *)handle;
    if (loss->coefficient.destroy)
        loss->coefficient.destroy(loss->coefficient.user);
    free_arrays(loss);
    cadft__free(&handle->context->memory, loss, sizeof *loss);
}

static int32_t
create(cadft_context *context, cadft_loss **out, cadft_error *error)
{
    cadft_loss *loss;
    if (!context || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "out" : "context");
    loss = (cadft_loss *)cadft__alloc(&context->memory, sizeof *loss);
    if (!loss)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a loss");
    cadft__handle_init(&loss->handle, context, free_loss);
    cadft__options_default(&loss->options);
    *out = loss;
    return CADFT_OK;
}

int32_t
cadft_loss_create(cadft_context *context, cadft_loss **out, cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__call_enter(error, &call);
    if (out)
        *out = NULL;
    if (!status)
        status = create(context, out, &call.error);
    return cadft__call_leave(context, error, &call, status);
}

void cadft_loss_destroy(cadft_loss *loss)
{
    cadft__handle_release(loss ? &loss->handle : NULL);
}

/* --------------------------------------------------------------- begin, end */

int32_t cadft__begin(cadft_loss *loss,
                     int64_t n_samples,
                     int32_t whole,
                     cadft_error *error)
{
    cadft__step *step = &loss->step;
    int32_t status;
    if (step->phase != PHASE_IDLE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "begin inside a step: end or cancel it first");
    if (n_samples < 0 || n_samples > INT32_MAX)
        return cadft__fail(error, CADFT_E_ARG,
                           "n_samples is %lld, expected 0 to %d",
                           (long long)n_samples, INT32_MAX);
    status = cadft__options_check(loss, error);
    if (status)
        return status;
    status = cadft__reserve(&loss->handle.context->memory, &step->samples,
                            &loss->samples_capacity, 0, (size_t)n_samples,
                            sizeof *step->samples, error);
    if (status)
        return status;
    cadft__cancel(loss);
    if (n_samples)
        memset(step->samples, 0, (size_t)n_samples * sizeof *step->samples);
    loss->active = loss->options;
    step->n_samples = n_samples;
    step->whole = whole;
    step->phase = PHASE_OBSERVE;
    return CADFT_OK;
}

int32_t
cadft_loss_begin(cadft_loss *loss, int64_t n_samples, cadft_error *error)
{
    CADFT__ENTER(loss);
    status = cadft__begin(loss, n_samples, 0, &call.error);
    CADFT__LEAVE(loss);
}

/* Back to between steps; the arrays stay allocated. */
void cadft__cancel(cadft_loss *loss)
{
    cadft__step *step = &loss->step;
    cadft__sample *samples = step->samples;
    cadft__row *rows = step->rows;
    cadft__micro *micro = step->micro;
    memset(step, 0, sizeof *step);
    step->samples = samples;
    step->rows = rows;
    step->micro = micro;
}

void cadft_loss_cancel(cadft_loss *loss)
{
    cadft__call call;
    if (!loss || cadft__handle_enter(&loss->handle, "loss", NULL, &call))
        return;
    if (loss->step.phase != PHASE_IDLE)
        cadft__cancel(loss);
    cadft__handle_leave(&loss->handle, NULL, &call, CADFT_OK);
}

/* ----------------------------------------------------------------- compute */

static int32_t
scales_out(cadft_loss *loss, float *row_scale, cadft_error *error)
{
    int64_t rows = loss->step.micro[0].rows;
    double *wide = loss->scratch.columns; /* [4, rows], free by now */
    int32_t status = cadft__row_scale(loss, 0, wide, error);
    for (int64_t r = 0; !status && r < rows; r++)
        row_scale[r] = (float)wide[r];
    return status;
}

static int32_t compute(cadft_loss *loss,
                       const cadft_loss_batch *batch,
                       int64_t n_samples,
                       const cadft_tensor *grad,
                       float *row_scale,
                       cadft_loss_report *report,
                       cadft_error *error)
{
    int64_t micro;
    int32_t status;
    if (row_scale && !grad)
        return cadft__fail(error, CADFT_E_NULL,
                           "grad is NULL, expected the unit gradient's place "
                           "because row_scale is given");
    status = cadft__report_check(report, error);
    if (!status)
        status = cadft__begin(loss, n_samples, 1, error);
    if (status)
        return status;
    status =
        cadft__observe(loss, batch, row_scale ? grad : NULL, &micro, error);
    if (!status && loss->step.pending)
        status = cadft__fail(error, CADFT_E_UNSUPPORTED,
                             "compute takes whole vocabularies; with shards "
                             "use the phases");
    if (!status)
        status = cadft__weigh(loss, error);
    if (!status && grad && !row_scale)
        status = cadft__grad(loss, micro, batch, grad, error);
    if (!status && row_scale)
        status = scales_out(loss, row_scale, error);
    if (!status)
        status = cadft__end(loss, report, error);
    if (status)
        cadft__cancel(loss);
    return status;
}

int32_t cadft_loss_compute(cadft_loss *loss,
                           const cadft_loss_batch *batch,
                           int64_t n_samples,
                           const cadft_tensor *grad,
                           float *row_scale,
                           cadft_loss_report *report,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    status =
        compute(loss, batch, n_samples, grad, row_scale, report, &call.error);
    CADFT__LEAVE(loss);
}
