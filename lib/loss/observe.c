/* SPDX-License-Identifier: Apache-2.0 */
/* From logits to what is remembered: one record a row, four sums a sample. */
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "loss/loss.h"

/* ------------------------------------------------------- device scratch */

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

int32_t cadft__scratch_arrays(cadft_loss *loss,
                              const cadft__batch *batch,
                              cadft_array *labels,
                              cadft_array *stats,
                              cadft_array *coef,
                              cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    cadft__scratch *s = &loss->scratch;
    uint64_t n = (uint64_t)batch->logits.rows;
    uint64_t a = round_up(n * sizeof(int32_t));
    uint64_t b = a + n * CADFT_STAT_STRIDE * sizeof(double);
    uint64_t c = b + n * CADFT_COEF_STRIDE * sizeof(double);
    int32_t status = CADFT_OK;
    if (s->device && s->stream != batch->stream) /* it may still be read */
        status = cadft__device_sync(context, s->stream, error);
    if (status)
        return status;
    if (c > s->device_bytes) {
        void *grown = NULL;
        status = cadft__device_alloc(context, c, &grown, error);
        if (status)
            return status;
        cadft__device_free(context, s->stream, s->device, s->device_bytes);
        s->device = grown;
        s->device_bytes = c;
    }
    s->stream = batch->stream;
    *labels = (cadft_array){s->device, 0};
    *stats = (cadft_array){s->device, a};
    *coef = (cadft_array){s->device, b};
    return CADFT_OK;
}

int32_t cadft__labels_in(cadft_loss *loss,
                         const cadft__batch *batch,
                         const cadft__row *rows,
                         const char *keep,
                         cadft_array labels,
                         cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    int64_t n = batch->logits.rows;
    int32_t *columns = loss->scratch.labels;
    for (int64_t r = 0; r < n; r++) {
        int64_t column = rows[r].label - batch->vocab_start;
        int counts = rows[r].sample >= 0 && (!keep || keep[r]);
        if (!counts)
            columns[r] = CADFT_ROW_SKIP;
        else if (column < 0 || column >= batch->cols)
            columns[r] = CADFT_ROW_NO_LABEL;
        else
            columns[r] = (int32_t)column;
    }
    return cadft__device_in(context, batch->stream, labels, columns,
                            (uint64_t)n * sizeof *columns, error);
}

/* ---------------------------------------------------------- reading rows */

static uint32_t wanted(const cadft_loss *loss)
{
    cadft__objective objective = cadft__options_objective(&loss->active);
    uint32_t want = 0;
    if (cadft__objective_needs_entropy(&objective))
        want |= CADFT_WANT_ENTROPY;
    if (loss->active.label_smoothing > 0)
        want |= CADFT_WANT_SUM;
    return want;
}

/* The unit gradient by the two required slots, for a backend without the
 * fused one: the coefficients of softmax - target. */
static int32_t unit_in_two(cadft_loss *loss,
                           const cadft_loss_rows *view,
                           const cadft__batch *batch,
                           cadft_array stats,
                           cadft_array coef,
                           const cadft_loss_grad_out *unit,
                           cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    cadft__scratch *s = &loss->scratch;
    uint64_t n = (uint64_t)batch->logits.rows;
    double e = loss->active.label_smoothing;
    int32_t status = cadft__device_row_stats(context, batch->stream, view,
                                             wanted(loss), stats, error);
    if (!status)
        status = cadft__device_out(context, batch->stream, s->stats, stats,
                                   n * CADFT_STAT_STRIDE * 8, error);
    if (status)
        return status;
    for (uint64_t r = 0; r < n; r++) {
        const double *stat = s->stats + r * CADFT_STAT_STRIDE;
        double *c = s->coef + r * CADFT_COEF_STRIDE;
        double tail = log1p(stat[CADFT_STAT_SUM_REST]);
        double max = stat[CADFT_STAT_Z_MAX];
        int finite = s->labels[r] != CADFT_ROW_SKIP && isfinite(max);
        c[CADFT_COEF_LSE] = finite ? max + tail : 0;
        c[CADFT_COEF_A] = finite ? 1 : 0;
        c[CADFT_COEF_C] = finite && e > 0 ? e / stat[CADFT_STAT_UNMASKED] : 0;
        c[CADFT_COEF_LABEL] =
            finite ? expm1(stat[CADFT_STAT_Z_LABEL] - max - tail) + e -
                         c[CADFT_COEF_C]
                   : 0;
        if (!finite)
            s->labels[r] = CADFT_ROW_SKIP;
    }
    status = cadft__device_in(context, batch->stream, view->labels, s->labels,
                              n * sizeof *s->labels, error);
    if (!status)
        status = cadft__device_in(context, batch->stream, coef, s->coef,
                                  n * CADFT_COEF_STRIDE * 8, error);
    if (!status)
        status = cadft__device_row_grad(context, batch->stream, view, coef,
                                        unit, error);
    return status;
}

static int32_t reserve(cadft_loss *loss, size_t n, cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    cadft__memory *memory = &loss->handle.context->memory;
    int32_t status =
        cadft__reserve(memory, &s->stats, &s->capacity[2], 0,
                       n * CADFT_STAT_STRIDE, sizeof *s->stats, error);
    if (!status)
        status = cadft__reserve(memory, &s->coef, &s->capacity[3], 0,
                                n * CADFT_COEF_STRIDE, sizeof *s->coef, error);
    if (!status)
        status = cadft__reserve(memory, &s->columns, &s->capacity[4], 0, n * 4,
                                sizeof *s->columns, error);
    return status;
}

int32_t cadft__read_rows(cadft_loss *loss,
                         const cadft__batch *batch,
                         const cadft_loss_grad_out *unit,
                         cadft__row *rows,
                         cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    int64_t n = batch->logits.rows;
    cadft_array labels, stats, coef;
    cadft_loss_rows view;
    int32_t status = reserve(loss, (size_t)n, error);
    if (n == 0)
        return status;
    if (!status)
        status =
            cadft__scratch_arrays(loss, batch, &labels, &stats, &coef, error);
    if (status)
        return status;
    for (int64_t r = 0; r < n; r++)
        rows[r] = (cadft__row){.label = batch->labels[r],
                               .sample = batch->samples[r]};
    status = cadft__labels_in(loss, batch, rows, NULL, labels, error);
    if (status)
        return status;
    view = cadft__batch_rows(loss, batch, labels);
    if (!unit)
        status = cadft__device_row_stats(context, batch->stream, &view,
                                         wanted(loss), stats, error);
    else if (cadft__device_has_unit(context, view.dtype, unit->dtype))
        status = cadft__device_row_unit(
            context, batch->stream, &view, wanted(loss),
            loss->active.label_smoothing, stats, unit, error);
    else
        return unit_in_two(loss, &view, batch, stats, coef, unit, error);
    if (!status)
        status = cadft__device_out(context, batch->stream, loss->scratch.stats,
                                   stats, (uint64_t)n * CADFT_STAT_STRIDE * 8,
                                   error);
    return status;
}

/* -------------------------------------------------------- finishing rows */

/* l, lse and entropy; l = NaN marks a row that is not finite. */
static void
finish_row(const cadft_loss *loss, const double *stat, cadft__row *row)
{
    double max = stat[CADFT_STAT_Z_MAX], rest = stat[CADFT_STAT_SUM_REST];
    double tail = log1p(rest);
    if (!isfinite(max)) {
        row->l = NAN;
        return;
    }
    row->lse = max + tail;
    row->l = (max - stat[CADFT_STAT_Z_LABEL]) + tail;
    row->entropy = wanted(loss) & CADFT_WANT_ENTROPY
                       ? tail + stat[CADFT_STAT_SUM_T] / (1 + rest)
                       : 0;
    row->unmasked = stat[CADFT_STAT_UNMASKED];
}

/* Cross-entropy against the smoothed target: lse - (1-e) z_y - e mean(z). */
static double
target_loss(const cadft_loss *loss, const double *stat, const cadft__row *row)
{
    double e = loss->active.label_smoothing, mean;
    if (e == 0)
        return row->l;
    mean = stat[CADFT_STAT_SUM_Z] / row->unmasked;
    return (1 - e) * row->l + e * (row->lse - mean);
}

static int32_t call_host(cadft_loss *loss,
                         const cadft__row *rows,
                         int64_t n,
                         const double **k,
                         cadft_error *error)
{
    double *l = loss->scratch.columns, *p = l + n, *h = p + n, *out = h + n;
    int32_t status;
    for (int64_t r = 0; r < n; r++) {
        int counts = rows[r].sample >= 0 && isfinite(rows[r].l);
        l[r] = counts ? rows[r].l : 0;
        p[r] = counts ? exp(-rows[r].l) : 0;
        h[r] = counts ? rows[r].entropy : 0;
        out[r] = 0;
    }
    status = loss->coefficient.fn(loss->coefficient.user, n, l, p, h, out);
    if (status)
        return cadft__fail(error, CADFT_E_CALLBACK,
                           "the coefficient callback returned %d", status);
    *k = out;
    return CADFT_OK;
}

/* k and token loss of a row with finite l. */
static int32_t finish_objective(const cadft_loss *loss,
                                const double *stat,
                                const double *k,
                                int64_t r,
                                cadft__row *row,
                                cadft_error *error)
{
    cadft__objective objective = cadft__options_objective(&loss->active);
    row->k = k ? k[r] : cadft__objective_k(&objective, row->l, row->entropy);
    if (!isfinite(row->k))
        return cadft__fail(error, CADFT_E_NONFINITE,
                           "k[%lld] is %g, expected a finite coefficient",
                           (long long)r, row->k);
    row->loss = cadft__objective_loss(&objective, row->l,
                                      target_loss(loss, stat, row), row->k) +
                loss->active.z_loss * row->lse * row->lse;
    return CADFT_OK;
}

int32_t cadft__finish_rows(cadft_loss *loss,
                           cadft__row *rows,
                           int64_t n,
                           const double *k,
                           cadft_error *error)
{
    const double *stats = loss->scratch.stats;
    int32_t status = CADFT_OK;
    for (int64_t r = 0; r < n; r++) {
        if (rows[r].sample < 0)
            continue;
        finish_row(loss, stats + r * CADFT_STAT_STRIDE, &rows[r]);
        if (isnan(rows[r].l) && loss->active.nonfinite == CADFT_NONFINITE_ERROR)
            return cadft__fail(error, CADFT_E_NONFINITE,
                               "row %lld of sample %d has NaN, +inf or only "
                               "-inf in its logits",
                               (long long)r, rows[r].sample);
    }
    if (loss->coefficient.fn && loss->active.objective == CADFT_OBJECTIVE_HOST)
        status = call_host(loss, rows, n, &k, error);
    for (int64_t r = 0; !status && r < n; r++)
        if (rows[r].sample >= 0 && isfinite(rows[r].l))
            status = finish_objective(loss, stats + r * CADFT_STAT_STRIDE, k, r,
                                      &rows[r], error);
    return status;
}

void cadft__commit_micro(cadft_loss *loss)
{
    cadft__step *step = &loss->step;
    const cadft__row *rows = step->rows + step->n_rows;
    for (int64_t r = 0; r < step->open.rows; r++) {
        cadft__sums *sums;
        if (rows[r].sample < 0)
            continue;
        sums = &step->samples[rows[r].sample].sums;
        sums->rows += 1;
        if (isnan(rows[r].l))
            sums->bad += 1;
        else if (isinf(rows[r].l))
            sums->infinite += 1;
        else
            sums->l += rows[r].l;
    }
    step->micro[step->n_micro++] = step->open;
    step->n_rows += (size_t)step->open.rows;
    step->pending = PENDING_NONE;
}

/* ----------------------------------------------------------------- observe */

static int32_t check_phase(const cadft_loss *loss, cadft_error *error)
{
    const cadft__step *step = &loss->step;
    if (step->pending)
        return cadft__fail(error, CADFT_E_PHASE,
                           "the row exchanges of the last micro-batch are "
                           "due before the next");
    if (step->imported_samples || step->imported_moments)
        return cadft__fail(error, CADFT_E_PHASE,
                           "observe after SAMPLES or MOMENTS were imported: "
                           "its rows would be missing from them");
    if (step->phase == PHASE_OBSERVE ||
        (step->phase == PHASE_GRAD && loss->active.scope != CADFT_SCOPE_EXACT))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_PHASE, "observe %s",
                       step->phase == PHASE_IDLE
                           ? "before begin"
                           : "after weigh, with scope exact");
}

static int32_t check_unit(const cadft_loss *loss,
                          const cadft__batch *batch,
                          cadft_error *error)
{
    if (batch->sharded)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "a unit gradient needs the whole vocabulary, this "
                           "is a shard of it");
    if (loss->active.z_loss > 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "with z_loss a row's gradient is no multiple of "
                           "its unit gradient");
    return CADFT_OK;
}

/* A sample whose weight is fixed cannot get more rows. */
static int32_t check_fixed(const cadft_loss *loss,
                           const cadft__batch *batch,
                           cadft_error *error)
{
    for (int64_t r = 0; r < batch->logits.rows; r++)
        if (batch->samples[r] >= 0 &&
            loss->step.samples[batch->samples[r]].weighed)
            return cadft__fail(error, CADFT_E_SAMPLE,
                               "sample_ids[%lld] is %d, whose weight was "
                               "fixed by the last weigh",
                               (long long)r, batch->samples[r]);
    return CADFT_OK;
}

static int32_t open_micro(cadft_loss *loss,
                          const cadft__batch *batch,
                          int unit,
                          cadft_error *error)
{
    cadft__step *step = &loss->step;
    cadft__memory *memory = &loss->handle.context->memory;
    size_t rows = (size_t)batch->logits.rows;
    int32_t status =
        cadft__reserve(memory, &step->rows, &loss->rows_capacity, step->n_rows,
                       step->n_rows + rows, sizeof *step->rows, error);
    if (!status)
        status = cadft__reserve(memory, &step->micro, &loss->micro_capacity,
                                step->n_micro, step->n_micro + 1,
                                sizeof *step->micro, error);
    step->open = (cadft__micro){
        .first = (int64_t)step->n_rows,
        .rows = batch->logits.rows,
        .cols = batch->cols,
        .vocab_start = batch->vocab_start,
        .vocab = batch->vocab,
        .dtype = batch->logits.dtype,
        .unit = unit,
    };
    return status;
}

int32_t cadft__observe(cadft_loss *loss,
                       const cadft_loss_batch *theirs,
                       const cadft_tensor *unit_grad,
                       int64_t *micro,
                       cadft_error *error)
{
    cadft__step *step = &loss->step;
    cadft_loss_grad_out unit;
    cadft__batch batch;
    cadft__row *rows;
    int32_t status = check_phase(loss, error);
    if (!status)
        status = cadft__batch_read(loss, theirs, &batch, error);
    if (!status && unit_grad)
        status = check_unit(loss, &batch, error);
    if (!status && unit_grad)
        status = cadft__batch_grad(loss, &batch, unit_grad, &unit, error);
    if (!status)
        status = check_fixed(loss, &batch, error);
    if (!status)
        status = open_micro(loss, &batch, unit_grad != NULL, error);
    if (status)
        return status;
    rows = step->rows + step->n_rows;
    status =
        cadft__read_rows(loss, &batch, unit_grad ? &unit : NULL, rows, error);
    if (!status && !batch.sharded)
        status =
            cadft__finish_rows(loss, rows, batch.logits.rows, batch.k, error);
    if (status)
        return status;
    *micro = (int64_t)step->n_micro;
    if (batch.sharded)
        step->pending = PENDING_ROW_MAX;
    else
        cadft__commit_micro(loss);
    return CADFT_OK;
}

int32_t cadft_loss_observe(cadft_loss *loss,
                           const cadft_loss_batch *batch,
                           const cadft_tensor *unit_grad,
                           int64_t *micro,
                           cadft_error *error)
{
    CADFT__ENTER(loss);
    if (!micro)
        status = cadft__fail(&call.error, CADFT_E_NULL, "micro is NULL");
    else
        status = cadft__observe(loss, batch, unit_grad, micro, &call.error);
    CADFT__LEAVE(loss);
}
