/* SPDX-License-Identifier: Apache-2.0 */
/* From samples' sums to weights and the scale of each row. */
#include <math.h>

#include "common/error.h"
#include "loss/loss.h"

int cadft__sample_in(const cadft__sample *sample)
{
    return sample->sums.rows > 0 && sample->sums.infinite == 0 &&
           sample->sums.bad == 0;
}

double cadft__sample_c(const cadft__sample *sample)
{
    if (sample->sums.rows == 0 || sample->sums.bad > 0)
        return NAN;
    return sample->sums.infinite > 0 ? INFINITY
                                     : sample->sums.l / sample->sums.rows;
}

/* Over all samples, or only those not weighed yet. */
static void add_up(const cadft_loss *loss, int all, cadft__totals *out)
{
    *out = (cadft__totals){.rows = 0};
    for (int64_t i = 0; i < loss->step.n_samples; i++) {
        const cadft__sample *sample = &loss->step.samples[i];
        if (!all && sample->weighed)
            continue;
        if (cadft__sample_in(sample)) {
            cadft__moments_add(&out->moments, cadft__sample_c(sample));
            out->rows += sample->sums.rows;
        } else if (sample->sums.bad > 0) {
            out->skipped += 1;
        } else if (sample->sums.infinite > 0) {
            out->infinite += 1;
        }
    }
}

void cadft__totals_own(const cadft_loss *loss, cadft__totals *out)
{
    add_up(loss, 1, out);
}

const cadft__totals *cadft__totals_known(const cadft_loss *loss,
                                         cadft__totals *own)
{
    if (loss->step.imported_moments)
        return &loss->step.totals;
    cadft__totals_own(loss, own);
    return own;
}

/* ------------------------------------------------------------------ weigh */

static int32_t check_weigh(const cadft_loss *loss, cadft_error *error)
{
    const cadft__options *o = &loss->active;
    const cadft__step *step = &loss->step;
    if (step->phase == PHASE_IDLE)
        return cadft__fail(error, CADFT_E_PHASE, "weigh before begin");
    if (step->pending)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weigh before the row exchanges of the last "
                           "micro-batch");
    if (o->scope == CADFT_SCOPE_EXACT && step->weighed)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weigh a second time, with scope exact");
    if (o->scope == CADFT_SCOPE_EXACT || step->whole)
        return CADFT_OK;
    if (o->reduction != CADFT_REDUCTION_SUM && o->denominator == 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "this scope does not know the global batch's "
                           "counts at its first gradient: set denominator, "
                           "or reduction sum");
    if (o->renormalise)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "renormalise needs all weights of the global "
                           "batch before the first gradient: scope exact");
    return CADFT_OK;
}

/* mu and sigma by scope; the counts beside them. */
static void statistics(cadft_loss *loss, cadft__compat *compat)
{
    const cadft__options *o = &loss->active;
    cadft__step *step = &loss->step;
    cadft__totals own;
    if (o->scope == CADFT_SCOPE_EXACT)
        step->used = *cadft__totals_known(loss, &own);
    else
        add_up(loss, 0, &step->used);
    compat->mu = step->used.moments.mean;
    compat->sigma = cadft__moments_sigma(&step->used.moments, o->ddof);
    if (o->scope == CADFT_SCOPE_RUNNING && loss->running.weight > 0)
        cadft__running_get(&loss->running, &compat->mu, &compat->sigma);
    compat->eps = o->eps;
    compat->beta = o->beta;
    step->used_mu = step->used.moments.n > 0 ? compat->mu : 0;
    step->used_sigma = step->used.moments.n > 0 ? compat->sigma : 0;
}

int32_t cadft__weigh(cadft_loss *loss, cadft_error *error)
{
    cadft__step *step = &loss->step;
    cadft__compat compat;
    int32_t status = check_weigh(loss, error);
    if (status)
        return status;
    statistics(loss, &compat);
    for (int64_t i = 0; i < step->n_samples; i++) {
        cadft__sample *sample = &step->samples[i];
        if (sample->weighed || sample->sums.rows == 0)
            continue;
        sample->weighed = 1;
        sample->chat = NAN;
        sample->w = 0;
        if (!cadft__sample_in(sample))
            continue;
        sample->chat = cadft__compat_score(&compat, cadft__sample_c(sample));
        sample->w = loss->active.weighting
                        ? cadft__compat_weight(&compat, sample->chat)
                        : 1;
    }
    step->weighed = 1;
    step->imported_samples = 0;
    step->phase = PHASE_GRAD;
    return CADFT_OK;
}

int32_t cadft_loss_weigh(cadft_loss *loss, cadft_error *error)
{
    CADFT__ENTER(loss);
    status = cadft__weigh(loss, &call.error);
    CADFT__LEAVE(loss);
}

/* ------------------------------------------------------------------ scale */

void cadft__weights_own(const cadft_loss *loss, cadft__weights *out)
{
    *out = (cadft__weights){.least = INFINITY};
    for (int64_t i = 0; i < loss->step.n_samples; i++) {
        const cadft__sample *sample = &loss->step.samples[i];
        if (!sample->weighed || !cadft__sample_in(sample))
            continue;
        out->n += 1;
        out->sum += sample->w;
        out->least = fmin(out->least, sample->w);
        out->below += sample->w < 1;
    }
}

/* The count that stands below the fraction, unless the host gave one. */
static double denominator(const cadft_loss *loss)
{
    if (loss->active.denominator > 0)
        return loss->active.denominator;
    switch (loss->active.reduction) {
    case CADFT_REDUCTION_TOKEN_MEAN:
        return loss->step.used.rows;
    case CADFT_REDUCTION_SUM:
        return 1;
    default:
        return loss->step.used.moments.n;
    }
}

int32_t
cadft__scale_get(const cadft_loss *loss, cadft__scale *out, cadft_error *error)
{
    const cadft__step *step = &loss->step;
    double below = denominator(loss);
    cadft__weights w;
    *out = (cadft__scale){
        .by_row = below > 0 ? 1 / below : 0,
        .by_weight = 1,
        .per_sample = loss->active.reduction == CADFT_REDUCTION_SAMPLE_MEAN,
    };
    if (!loss->active.renormalise)
        return CADFT_OK;
    cadft__weights_own(loss, &w);
    if (step->imported_weights) {
        w.n = step->weights_n;
        w.sum = step->weights_sum;
    }
    if (w.n != step->used.moments.n)
        return cadft__fail(error, CADFT_E_PHASE,
                           "renormalise knows the weights of %.0f of %.0f "
                           "samples: exchange WEIGHTS first",
                           w.n, step->used.moments.n);
    if (w.sum > 0)
        out->by_weight = w.n / w.sum;
    return CADFT_OK;
}

double cadft__scale_plain(const cadft_loss *loss,
                          const cadft__scale *scale,
                          int32_t sample)
{
    const cadft__sums *sums = &loss->step.samples[sample].sums;
    return scale->per_sample ? scale->by_row / sums->rows : scale->by_row;
}

double cadft__scale_row(const cadft_loss *loss,
                        const cadft__scale *scale,
                        int32_t sample)
{
    const cadft__sample *s = &loss->step.samples[sample];
    if (!cadft__sample_in(s))
        return 0;
    return s->w * scale->by_weight * cadft__scale_plain(loss, scale, sample);
}
