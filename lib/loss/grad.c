/* SPDX-License-Identifier: Apache-2.0 */
/* From weights to gradients: four numbers a row, the rest is the kernel's. */
#include <math.h>

#include "common/error.h"
#include "loss/loss.h"

/* Coefficients of one row (backend.h):
 *   A = a (k + 2 lambda lse),  C = a k e / U,
 *   at the label a (k (p - 1 + e - e/U) + 2 lambda lse p),
 * where p - 1 = expm1(-l) keeps its digits when p is near 1. */
static void coefficients(const cadft_loss *loss,
                         const cadft__row *row,
                         double a,
                         double *coef)
{
    double e = loss->active.label_smoothing;
    double spread = e > 0 ? e / row->unmasked : 0;
    double z = 2 * loss->active.z_loss * row->lse;
    coef[CADFT_COEF_LSE] = row->lse;
    coef[CADFT_COEF_A] = a * (row->k + z);
    coef[CADFT_COEF_C] = a * row->k * spread;
    coef[CADFT_COEF_LABEL] =
        a * (row->k * (expm1(-row->l) + e - spread) + z * exp(-row->l));
}

static int32_t check_micro(const cadft_loss *loss,
                           int64_t micro,
                           const cadft__batch *batch,
                           cadft_error *error)
{
    const cadft__step *step = &loss->step;
    const cadft__micro *m;
    if (micro < -1 || micro >= (int64_t)step->n_micro)
        return cadft__fail(error, CADFT_E_ARG,
                           "micro is %lld, expected -1 or a number below "
                           "%zu",
                           (long long)micro, step->n_micro);
    if (micro < 0) {
        if (!batch->sharded)
            return CADFT_OK;
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "a shard of the vocabulary cannot be read again: "
                           "pass the number that observe gave");
    }
    m = &step->micro[micro];
    if (m->unit)
        return cadft__fail(error, CADFT_E_PHASE,
                           "micro-batch %lld has its unit gradient already",
                           (long long)micro);
    if (m->rows != batch->logits.rows || m->cols != batch->cols ||
        m->dtype != batch->logits.dtype)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "logits are [%lld, %lld] %s, but micro-batch %lld "
                           "was observed as [%lld, %lld] %s",
                           (long long)batch->logits.rows,
                           (long long)batch->cols,
                           cadft__dtype_name(batch->logits.dtype),
                           (long long)micro, (long long)m->rows,
                           (long long)m->cols, cadft__dtype_name(m->dtype));
    if (m->vocab_start != batch->vocab_start || m->vocab != batch->vocab)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "columns start at %lld of %lld, but micro-batch "
                           "%lld was observed from %lld of %lld",
                           (long long)batch->vocab_start,
                           (long long)batch->vocab, (long long)micro,
                           (long long)m->vocab_start, (long long)m->vocab);
    return CADFT_OK;
}

/* Rows of logits that were not observed, in the scratch. */
static int32_t read_again(cadft_loss *loss,
                          const cadft__batch *batch,
                          cadft__row **out,
                          cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    int64_t n = batch->logits.rows;
    int32_t status =
        cadft__reserve(&loss->handle.context->memory, &s->rows, &s->capacity[8],
                       0, (size_t)n, sizeof *s->rows, error);
    for (int64_t r = 0; !status && r < n; r++)
        if (batch->samples[r] >= 0 &&
            !loss->step.samples[batch->samples[r]].weighed)
            return cadft__fail(error, CADFT_E_PHASE,
                               "sample_ids[%lld] is %d, which has no weight: "
                               "it was not observed",
                               (long long)r, batch->samples[r]);
    if (!status)
        status = cadft__read_rows(loss, batch, NULL, s->rows, error);
    if (!status)
        status = cadft__finish_rows(loss, s->rows, n, batch->k, error);
    *out = s->rows;
    return status;
}

/* Coefficients of all rows to the device, labels marked where the gradient
 * is zero. */
static int32_t send(cadft_loss *loss,
                    const cadft__batch *batch,
                    const cadft__row *rows,
                    cadft_array labels,
                    cadft_array coef,
                    cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    int64_t n = batch->logits.rows;
    double *out = loss->scratch.coef;
    char *keep = (char *)loss->scratch.columns; /* [4, rows] of double */
    cadft__scale scale;
    int32_t status = cadft__scale_get(loss, &scale, error);
    if (status)
        return status;
    for (int64_t r = 0; r < n; r++) {
        double a = 0;
        keep[r] = 0;
        if (rows[r].sample >= 0 && isfinite(rows[r].l))
            a = cadft__scale_row(loss, &scale, rows[r].sample) *
                loss->active.grad_scale;
        if (a == 0)
            continue;
        keep[r] = 1;
        coefficients(loss, &rows[r], a, out + r * CADFT_COEF_STRIDE);
    }
    status = cadft__labels_in(loss, batch, rows, keep, labels, error);
    if (status)
        return status;
    return cadft__device_in(context, batch->stream, coef, out,
                            (uint64_t)n * CADFT_COEF_STRIDE * sizeof *out,
                            error);
}

static int32_t check_phase(const cadft_loss *loss, cadft_error *error)
{
    if (loss->step.phase == PHASE_GRAD && !loss->step.pending)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_PHASE, "grad %s",
                       loss->step.pending
                           ? "before the row exchanges of the last micro-batch"
                           : "before weigh");
}

int32_t cadft__check_weighed(const cadft_loss *loss,
                             const cadft__row *rows,
                             int64_t n,
                             cadft_error *error)
{
    for (int64_t r = 0; r < n; r++)
        if (rows[r].sample >= 0 && !loss->step.samples[rows[r].sample].weighed)
            return cadft__fail(error, CADFT_E_PHASE,
                               "sample %d has no weight yet: weigh first",
                               rows[r].sample);
    return CADFT_OK;
}

int32_t cadft__grad(cadft_loss *loss,
                    int64_t micro,
                    const cadft_loss_batch *theirs,
                    const cadft_tensor *grad,
                    cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    cadft_array labels, stats, coef;
    cadft_loss_grad_out out;
    cadft_loss_rows view;
    cadft__batch batch;
    cadft__row *rows = NULL;
    int32_t status = check_phase(loss, error);
    if (!status)
        status = cadft__batch_read(loss, theirs, &batch, error);
    if (!status)
        status = check_micro(loss, micro, &batch, error);
    if (!status)
        status = cadft__batch_grad(loss, &batch, grad, &out, error);
    if (status)
        return status;
    if (micro < 0)
        status = read_again(loss, &batch, &rows, error);
    else
        rows = loss->step.rows + loss->step.micro[micro].first;
    if (!status)
        status = cadft__check_weighed(loss, rows, batch.logits.rows, error);
    if (status || batch.logits.rows == 0)
        return status;
    status = cadft__scratch_arrays(loss, &batch, &labels, &stats, &coef, error);
    if (!status)
        status = send(loss, &batch, rows, labels, coef, error);
    if (status)
        return status;
    view = cadft__batch_rows(loss, &batch, labels);
    loss->step.graded = 1;
    return cadft__device_row_grad(context, batch.stream, &view, coef, &out,
                                  error);
}

int32_t cadft_loss_grad(cadft_loss *loss,
                        int64_t micro,
                        const cadft_loss_batch *batch,
                        const cadft_tensor *grad,
                        cadft_error *error)
{
    CADFT__ENTER(loss);
    status = cadft__grad(loss, micro, batch, grad, &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft__row_scale(cadft_loss *loss,
                         int64_t micro,
                         double *out,
                         cadft_error *error)
{
    const cadft__micro *m = &loss->step.micro[micro];
    const cadft__row *rows = loss->step.rows + m->first;
    cadft__scale scale;
    int32_t status = cadft__check_weighed(loss, rows, m->rows, error);
    if (!status)
        status = cadft__scale_get(loss, &scale, error);
    for (int64_t r = 0; !status && r < m->rows; r++) {
        out[r] = 0;
        if (rows[r].sample >= 0 && isfinite(rows[r].l))
            out[r] = cadft__scale_row(loss, &scale, rows[r].sample) *
                     rows[r].k * loss->active.grad_scale;
    }
    return status;
}
