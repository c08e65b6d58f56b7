/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a step: report, running statistics, arrays on request. */
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "loss/loss.h"

int32_t cadft__report_own(const cadft_loss *loss,
                          double out[CADFT__REPORT_LENGTH],
                          cadft_error *error)
{
    const cadft__step *step = &loss->step;
    cadft__scale scale;
    cadft__weights w;
    int32_t status = cadft__scale_get(loss, &scale, error);
    if (status)
        return status;
    memset(out, 0, CADFT__REPORT_LENGTH * sizeof *out);
    for (size_t i = 0; i < step->n_rows; i++) {
        const cadft__row *row = &step->rows[i];
        double a;
        if (row->sample < 0 || !cadft__sample_in(&step->samples[row->sample]))
            continue;
        a = cadft__scale_row(loss, &scale, row->sample);
        out[REPORT_LOSS] += a * row->loss;
        out[REPORT_L] += row->l;
        out[REPORT_P] += exp(-row->l);
        out[REPORT_ROWS] += 1;
        out[REPORT_AK] += a * row->k;
        out[REPORT_PLAIN] += cadft__scale_plain(loss, &scale, row->sample);
    }
    cadft__weights_own(loss, &w);
    out[REPORT_N] = w.n;
    out[REPORT_W] = w.sum;
    out[REPORT_LEAST] = w.n > 0 ? w.least : 0;
    out[REPORT_BELOW] = w.below;
    return CADFT_OK;
}

static double ratio(double above, double below)
{
    return below != 0 ? above / below : 0;
}

static int32_t fill(const cadft_loss *loss,
                    const cadft__totals *totals,
                    cadft_loss_report *out,
                    cadft_error *error)
{
    const cadft__step *step = &loss->step;
    double own[CADFT__REPORT_LENGTH];
    const double *v = step->imported_report ? step->report : own;
    int32_t status = CADFT_OK;
    if (!step->imported_report)
        status = cadft__report_own(loss, own, error);
    if (status)
        return status;
    *out = (cadft_loss_report){
        .loss = v[REPORT_LOSS],
        .nll = ratio(v[REPORT_L], v[REPORT_ROWS]),
        .mean_p = ratio(v[REPORT_P], v[REPORT_ROWS]),
        .mean_w = ratio(v[REPORT_W], v[REPORT_N]),
        .min_w = v[REPORT_LEAST],
        .share_below = ratio(v[REPORT_BELOW], v[REPORT_N]),
        .mu = step->used_mu,
        .sigma = step->used_sigma,
        .grad_scale = ratio(v[REPORT_AK], v[REPORT_PLAIN]),
        .n_samples = (int64_t)totals->moments.n,
        .n_rows = (int64_t)totals->rows,
        .n_skipped = (int64_t)totals->skipped,
        .n_infinite = (int64_t)totals->infinite,
    };
    return CADFT_OK;
}

int32_t cadft__report_check(const cadft_loss_report *theirs, cadft_error *error)
{
    size_t least = CADFT__SIZE_TO(cadft_loss_report, n_infinite);
    if (!theirs ||
        (theirs->struct_size >= least && theirs->struct_size <= 4096))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_ARG,
                       "report.struct_size is %u, expected sizeof the struct "
                       "(%zu in this library)",
                       theirs->struct_size, sizeof *theirs);
}

/* Copy to a caller's struct of any version: the smaller of both sizes. */
static void report_out(const cadft_loss_report *ours, cadft_loss_report *theirs)
{
    uint32_t size = theirs->struct_size;
    memcpy((char *)theirs + sizeof size, (const char *)ours + sizeof size,
           (size < sizeof *ours ? size : sizeof *ours) - sizeof size);
}

static int32_t
check_end(const cadft_loss *loss, const char *call, cadft_error *error)
{
    const cadft__step *step = &loss->step;
    if (step->phase != PHASE_GRAD || step->pending)
        return cadft__fail(error, CADFT_E_PHASE, "%s before %s", call,
                           step->phase == PHASE_IDLE ? "begin" : "weigh");
    for (int64_t i = 0; i < step->n_samples; i++)
        if (step->samples[i].sums.rows > 0 && !step->samples[i].weighed)
            return cadft__fail(error, CADFT_E_PHASE,
                               "%s, but sample %lld was observed after the "
                               "last weigh",
                               call, (long long)i);
    return CADFT_OK;
}

static void log_losses(const cadft_loss *loss, const cadft_loss_report *r)
{
    if (r->n_skipped || r->n_infinite)
        cadft__context_log(loss->handle.context, CADFT_LOG_WARNING,
                           "step left out %lld non-finite samples and %lld "
                           "of infinite loss",
                           (long long)r->n_skipped, (long long)r->n_infinite);
}

int32_t
cadft__end(cadft_loss *loss, cadft_loss_report *report, cadft_error *error)
{
    cadft__step *step = &loss->step;
    const cadft__options *o = &loss->active;
    cadft__totals own;
    const cadft__totals *totals;
    cadft_loss_report ours;
    int32_t status = check_end(loss, "end", error);
    if (!status)
        status = cadft__report_check(report, error);
    if (status)
        return status;
    totals = cadft__totals_known(loss, &own);
    status = fill(loss, totals, &ours, error);
    if (status)
        return status;
    if (report)
        report_out(&ours, report);
    if (o->scope == CADFT_SCOPE_RUNNING && totals->moments.n >= 2)
        cadft__running_add(&loss->running, o->running_decay,
                           totals->moments.mean,
                           cadft__moments_sigma(&totals->moments, o->ddof));
    log_losses(loss, &ours);
    step->phase = PHASE_IDLE;
    step->done = 1;
    return CADFT_OK;
}

int32_t
cadft_loss_end(cadft_loss *loss, cadft_loss_report *report, cadft_error *error)
{
    CADFT__ENTER(loss);
    status = cadft__end(loss, report, &call.error);
    CADFT__LEAVE(loss);
}

static int32_t
get_report(cadft_loss *loss, cadft_loss_report *report, cadft_error *error)
{
    cadft__totals own;
    cadft_loss_report ours;
    int32_t status = CADFT_OK;
    if (!report)
        return cadft__fail(error, CADFT_E_NULL, "report is NULL");
    if (loss->step.phase != PHASE_IDLE || !loss->step.done)
        status = check_end(loss, "report", error);
    if (!status)
        status = cadft__report_check(report, error);
    if (!status)
        status = fill(loss, cadft__totals_known(loss, &own), &ours, error);
    if (!status)
        report_out(&ours, report);
    return status;
}

int32_t cadft_loss_get_report(cadft_loss *loss,
                              cadft_loss_report *report,
                              cadft_error *error)
{
    CADFT__ENTER(loss);
    status = get_report(loss, report, &call.error);
    CADFT__LEAVE(loss);
}

/* ------------------------------------------------------------ arrays out */

static int32_t check_array(const cadft_loss *loss,
                           int needs_weights,
                           size_t size,
                           double *out,
                           size_t capacity,
                           size_t *needed,
                           cadft_error *error)
{
    const cadft__step *step = &loss->step;
    if (step->phase == PHASE_IDLE && !step->done)
        return cadft__fail(error, CADFT_E_PHASE, "there is no step to read");
    if (needs_weights && !step->weighed)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weights are known only after weigh");
    if (needed)
        *needed = size;
    if (!out && capacity)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    if (out && capacity < size)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu doubles, expected %zu", capacity,
                           size);
    return CADFT_OK;
}

static double row_value(const cadft__row *row, int32_t what)
{
    if (row->sample < 0)
        return 0;
    if (isnan(row->l))
        return NAN;
    switch (what) {
    case CADFT_ROWS_NLL:
        return row->l;
    case CADFT_ROWS_P:
        return exp(-row->l);
    case CADFT_ROWS_ENTROPY:
        return row->entropy;
    default:
        return row->k;
    }
}

/* a_r times the token loss, as the report adds it up. */
static int32_t rows_loss(const cadft_loss *loss,
                         const cadft__micro *micro,
                         double *out,
                         cadft_error *error)
{
    const cadft__row *rows = loss->step.rows + micro->first;
    const cadft__sample *samples = loss->step.samples;
    cadft__scale scale;
    int32_t status = cadft__check_weighed(loss, rows, micro->rows, error);
    if (!status)
        status = cadft__scale_get(loss, &scale, error);
    for (int64_t r = 0; !status && r < micro->rows; r++) {
        int32_t i = rows[r].sample;
        out[r] = 0;
        if (i >= 0 && cadft__sample_in(&samples[i]))
            out[r] = cadft__scale_row(loss, &scale, i) * rows[r].loss;
    }
    return status;
}

static int32_t get_rows(cadft_loss *loss,
                        int64_t micro,
                        int32_t what,
                        double *out,
                        size_t capacity,
                        size_t *needed,
                        cadft_error *error)
{
    const cadft__step *step = &loss->step;
    const cadft__micro *m;
    int32_t status;
    if (what < CADFT_ROWS_NLL || what > CADFT_ROWS_LOSS)
        return cadft__fail(error, CADFT_E_ARG,
                           "what is %d, expected CADFT_ROWS_...", what);
    if (micro < 0 || micro >= (int64_t)step->n_micro)
        return cadft__fail(error,
                           step->phase == PHASE_IDLE && !step->done
                               ? CADFT_E_PHASE
                               : CADFT_E_ARG,
                           "micro is %lld, expected a number below %zu",
                           (long long)micro, step->n_micro);
    m = &step->micro[micro];
    status = check_array(loss, what >= CADFT_ROWS_SCALE, (size_t)m->rows, out,
                         capacity, needed, error);
    if (status || !out)
        return status;
    if (what == CADFT_ROWS_SCALE)
        return cadft__row_scale(loss, micro, out, error);
    if (what == CADFT_ROWS_LOSS)
        return rows_loss(loss, m, out, error);
    for (int64_t r = 0; r < m->rows; r++)
        out[r] = row_value(&step->rows[m->first + r], what);
    return CADFT_OK;
}

int32_t cadft_loss_get_rows(cadft_loss *loss,
                            int64_t micro,
                            int32_t what,
                            double *out,
                            size_t capacity,
                            size_t *needed,
                            cadft_error *error)
{
    CADFT__ENTER(loss);
    status = get_rows(loss, micro, what, out, capacity, needed, &call.error);
    CADFT__LEAVE(loss);
}

static double
sample_value(const cadft__sample *sample, int32_t what, double by_weight)
{
    switch (what) {
    case CADFT_SAMPLES_C:
        return cadft__sample_c(sample);
    case CADFT_SAMPLES_CHAT:
        return sample->weighed ? sample->chat : NAN;
    case CADFT_SAMPLES_W:
        return sample->weighed && cadft__sample_in(sample)
                   ? sample->w * by_weight
                   : 0;
    default:
        return sample->sums.rows;
    }
}

static int32_t get_samples(cadft_loss *loss,
                           int32_t what,
                           double *out,
                           size_t capacity,
                           size_t *needed,
                           cadft_error *error)
{
    const cadft__step *step = &loss->step;
    cadft__scale scale = {.by_weight = 1};
    int32_t status;
    if (what < CADFT_SAMPLES_C || what > CADFT_SAMPLES_ROWS)
        return cadft__fail(error, CADFT_E_ARG,
                           "what is %d, expected CADFT_SAMPLES_...", what);
    status =
        check_array(loss, what == CADFT_SAMPLES_CHAT || what == CADFT_SAMPLES_W,
                    (size_t)step->n_samples, out, capacity, needed, error);
    if (!status && out && what == CADFT_SAMPLES_W)
        status = cadft__scale_get(loss, &scale, error);
    if (status || !out)
        return status;
    for (int64_t i = 0; i < step->n_samples; i++)
        out[i] = sample_value(&step->samples[i], what, scale.by_weight);
    return CADFT_OK;
}

int32_t cadft_loss_get_samples(cadft_loss *loss,
                               int32_t what,
                               double *out,
                               size_t capacity,
                               size_t *needed,
                               cadft_error *error)
{
    CADFT__ENTER(loss);
    status = get_samples(loss, what, out, capacity, needed, &call.error);
    CADFT__LEAVE(loss);
}
