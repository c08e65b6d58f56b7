/* SPDX-License-Identifier: Apache-2.0 */
/* Shards: what a process knows, as arrays that an all-reduce can combine. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "loss/loss.h"

/* Fields of ROW_SUM. The maximum over all shards is z*; a shard's part is
 * relative to it, so that sums are plain. */
enum {
    SUM_REST, /* sum of exp(z - z*), without z* itself once a shard */
    SUM_TOPS, /* the backend's term of z*, about 1, in shards that attain it */
    SUM_Z_LABEL,
    SUM_OWNERS, /* 1 in the shard that has the label */
    SUM_T,      /* sum of exp(z - z*) (z* - z) */
    SUM_Z,
    SUM_UNMASKED,
    SUM_BAD, /* NaN or +inf in this shard */
    SUM_FIELDS
};

enum { SAMPLE_FIELDS = 4, MOMENT_FIELDS = 6, WEIGHT_FIELDS = 2 };

/* A number of things, as a sum of counts can be. */
static int is_count(double v)
{
    return v >= 0 && v <= 0x1p53 && v == floor(v);
}

static int is_sum(double v)
{
    return v >= 0 && isfinite(v);
}

/* Value `index` of an import is none that a sum of exports can have. */
static int32_t
refuse(int64_t index, double value, const char *expected, cadft_error *error)
{
    return cadft__fail(error, CADFT_E_ARG, "values[%lld] is %g, expected %s",
                       (long long)index, value, expected);
}

/* ------------------------------------------------------------- rows: out */

static const double *stat_of(const cadft_loss *loss, int64_t r)
{
    return loss->scratch.stats + r * CADFT_STAT_STRIDE;
}

static int counts(const cadft_loss *loss, int64_t r)
{
    return loss->step.rows[loss->step.n_rows + (size_t)r].sample >= 0;
}

/* -inf where the row says nothing: not counting, masked here, or NaN. */
static void export_row_max(const cadft_loss *loss, double *out)
{
    for (int64_t r = 0; r < loss->step.open.rows; r++) {
        double max = stat_of(loss, r)[CADFT_STAT_Z_MAX];
        out[r] = counts(loss, r) && isfinite(max) ? max : -INFINITY;
    }
}

static void export_row_sum(const cadft_loss *loss, double *out)
{
    for (int64_t r = 0; r < loss->step.open.rows; r++, out += SUM_FIELDS) {
        const double *s = stat_of(loss, r);
        double own = s[CADFT_STAT_Z_MAX], star = loss->scratch.row_max[r];
        double rate = s[CADFT_STAT_RATE] != 0 ? s[CADFT_STAT_RATE] : 1;
        double peak = s[CADFT_STAT_PEAK] != 0 ? s[CADFT_STAT_PEAK] : 1;
        double rest = s[CADFT_STAT_SUM_REST], down;
        int label = loss->scratch.labels[r] >= 0;
        memset(out, 0, SUM_FIELDS * sizeof *out);
        if (!counts(loss, r))
            continue;
        out[SUM_OWNERS] = label;
        out[SUM_Z_LABEL] = label ? s[CADFT_STAT_Z_LABEL] : 0;
        out[SUM_BAD] = isnan(own);
        if (!isfinite(own)) {
            if (isnan(own))
                out[SUM_Z_LABEL] = 0; /* the row is lost anyway */
            continue;
        }
        down = exp(rate * (own - star));
        out[SUM_TOPS] = own == star ? peak : 0;
        out[SUM_REST] = down * (own == star ? rest : rest + peak);
        out[SUM_T] =
            down * (s[CADFT_STAT_SUM_T] + (star - own) * (peak + rest));
        out[SUM_Z] = s[CADFT_STAT_SUM_Z];
        out[SUM_UNMASKED] = s[CADFT_STAT_UNMASKED];
    }
}

/* -------------------------------------------------------------- rows: in */

static int32_t
import_row_max(cadft_loss *loss, const double *values, cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    int64_t n = loss->step.open.rows;
    int32_t status = cadft__reserve(&loss->handle.context->memory, &s->row_max,
                                    &s->capacity[7], 0, (size_t)n,
                                    sizeof *s->row_max, error);
    for (int64_t r = 0; !status && r < n; r++) {
        double own = stat_of(loss, r)[CADFT_STAT_Z_MAX];
        if (isnan(values[r]) || values[r] == INFINITY ||
            (counts(loss, r) && values[r] < own && isfinite(own)))
            return cadft__fail(error, CADFT_E_ARG,
                               "values[%lld] is %g, expected a maximum of at "
                               "least %g",
                               (long long)r, values[r], own);
        s->row_max[r] = values[r];
    }
    if (!status)
        loss->step.pending = PENDING_ROW_SUM;
    return status;
}

static int32_t check_row_sum(const cadft_loss *loss,
                             int64_t r,
                             const double *v,
                             cadft_error *error)
{
    double label = loss->step.rows[loss->step.n_rows + (size_t)r].label;
    double max = loss->scratch.row_max[r], tops = fmax(rint(v[SUM_TOPS]), 1);
    for (int f = 0; f < SUM_FIELDS; f++) {
        int fits = f == SUM_Z                    ? isfinite(v[f])
                   : f == SUM_Z_LABEL            ? v[f] <= DBL_MAX
                   : f <= SUM_TOPS || f == SUM_T ? is_sum(v[f])
                                                 : is_count(v[f]);
        if (!fits)
            return refuse(r * SUM_FIELDS + f, v[f],
                          "a sum of what was exported", error);
    }
    if (v[SUM_OWNERS] != 1)
        return cadft__fail(error, CADFT_E_LABEL,
                           "label %.0f of row %lld lies in %g shards, "
                           "expected 1",
                           label, (long long)r, v[SUM_OWNERS]);
    if (v[SUM_BAD] == 0 && isfinite(max) &&
        (fabs(v[SUM_TOPS] - tops) > 1e-5 * tops || v[SUM_Z_LABEL] > max))
        return cadft__fail(error, CADFT_E_ARG,
                           "row %lld has label logit %g and its maximum %g "
                           "in %g shards",
                           (long long)r, v[SUM_Z_LABEL], max, v[SUM_TOPS]);
    return CADFT_OK;
}

static int32_t
import_row_sum(cadft_loss *loss, const double *values, cadft_error *error)
{
    cadft__step *step = &loss->step;
    int64_t n = step->open.rows;
    const double *k =
        loss->active.objective == CADFT_OBJECTIVE_HOST ? loss->scratch.k : NULL;
    int32_t status = CADFT_OK;
    for (int64_t r = 0; !status && r < n; r++)
        if (counts(loss, r))
            status = check_row_sum(loss, r, values + r * SUM_FIELDS, error);
    if (status)
        return status;
    for (int64_t r = 0; r < n; r++) {
        const double *v = values + r * SUM_FIELDS;
        double *s = loss->scratch.stats + r * CADFT_STAT_STRIDE;
        double tops = fmax(rint(v[SUM_TOPS]), 1);
        s[CADFT_STAT_Z_MAX] = v[SUM_BAD] > 0 ? NAN : loss->scratch.row_max[r];
        /* All but one of those that attain z*; exactly 0 when one does. */
        s[CADFT_STAT_SUM_REST] =
            v[SUM_REST] + (v[SUM_TOPS] - v[SUM_TOPS] / tops);
        s[CADFT_STAT_Z_LABEL] = v[SUM_Z_LABEL];
        s[CADFT_STAT_SUM_T] = v[SUM_T];
        s[CADFT_STAT_SUM_Z] = v[SUM_Z];
        s[CADFT_STAT_UNMASKED] = v[SUM_UNMASKED];
    }
    /* The statistics are replaced: whatever comes now, the micro-batch is
     * either part of the step or gone. */
    step->pending = PENDING_NONE;
    status = cadft__finish_rows(loss, step->rows + step->n_rows, n, k, error);
    if (!status)
        cadft__commit_micro(loss);
    return status;
}

/* --------------------------------------------------------------- samples */

/* Zeros for samples that an earlier weigh has settled: their sums may be
 * reduced already. */
static void export_samples(const cadft_loss *loss, double *out)
{
    for (int64_t i = 0; i < loss->step.n_samples; i++) {
        const cadft__sample *sample = &loss->step.samples[i];
        const cadft__sums zero = {0, 0, 0, 0},
                          *s = sample->weighed ? &zero : &sample->sums;
        *out++ = s->l;
        *out++ = s->rows;
        *out++ = s->infinite;
        *out++ = s->bad;
    }
}

static int32_t check_sample(const cadft_loss *loss,
                            int64_t i,
                            const double *v,
                            cadft_error *error)
{
    const cadft__sums *own = &loss->step.samples[i].sums;
    if (!is_sum(v[0]) || !is_count(v[1]) || !is_count(v[2]) ||
        !is_count(v[3]) || v[1] < own->rows || v[2] < own->infinite ||
        v[3] < own->bad || v[2] + v[3] > v[1])
        return cadft__fail(error, CADFT_E_ARG,
                           "values of sample %lld are (%g, %g, %g, %g), "
                           "expected sums that contain what was exported",
                           (long long)i, v[0], v[1], v[2], v[3]);
    if (v[3] > 0 && loss->active.nonfinite == CADFT_NONFINITE_ERROR)
        return cadft__fail(error, CADFT_E_NONFINITE,
                           "sample %lld has %g non-finite rows on another "
                           "process",
                           (long long)i, v[3]);
    return CADFT_OK;
}

static int32_t
import_samples(cadft_loss *loss, const double *values, cadft_error *error)
{
    int32_t status = CADFT_OK;
    int64_t n = loss->step.n_samples;
    for (int64_t i = 0; !status && i < n; i++)
        if (!loss->step.samples[i].weighed)
            status = check_sample(loss, i, values + i * SAMPLE_FIELDS, error);
    if (status)
        return status;
    for (int64_t i = 0; i < n; i++) {
        const double *v = values + i * SAMPLE_FIELDS;
        if (!loss->step.samples[i].weighed)
            loss->step.samples[i].sums = (cadft__sums){v[0], v[1], v[2], v[3]};
    }
    loss->step.imported_samples = 1;
    return CADFT_OK;
}

/* ------------------------------------------------- slots: [shards, fields] */

static void export_moments(const cadft_loss *loss, double *slot)
{
    cadft__totals t;
    cadft__totals_own(loss, &t);
    slot[0] = t.moments.n;
    slot[1] = t.moments.mean;
    slot[2] = t.moments.m2;
    slot[3] = t.rows;
    slot[4] = t.skipped;
    slot[5] = t.infinite;
}

static int32_t import_moments(cadft_loss *loss,
                              const double *values,
                              int64_t shards,
                              cadft_error *error)
{
    cadft__totals t = {.rows = 0}, own;
    for (int64_t i = 0; i < shards; i++) {
        const double *v = values + i * MOMENT_FIELDS;
        cadft__moments m = {v[0], v[1], v[2]};
        for (int f = 0; f < MOMENT_FIELDS; f++)
            if (f == 1 || f == 2 ? !is_sum(v[f]) : !is_count(v[f]))
                return refuse(i * MOMENT_FIELDS + f, v[f], "what was exported",
                              error);
        cadft__moments_merge(&t.moments, &m);
        t.rows += v[3];
        t.skipped += v[4];
        t.infinite += v[5];
    }
    cadft__totals_own(loss, &own);
    if (t.moments.n < own.moments.n || t.rows < own.rows ||
        t.skipped < own.skipped || t.infinite < own.infinite)
        return cadft__fail(error, CADFT_E_ARG,
                           "the slots in values add up to %.0f samples and "
                           "%.0f rows, but %.0f and %.0f were exported here",
                           t.moments.n, t.rows, own.moments.n, own.rows);
    loss->step.totals = t;
    loss->step.imported_moments = 1;
    return CADFT_OK;
}

static void export_weights(const cadft_loss *loss, double *slot)
{
    cadft__weights w;
    cadft__weights_own(loss, &w);
    slot[0] = w.n;
    slot[1] = w.sum;
}

static int32_t import_weights(cadft_loss *loss,
                              const double *values,
                              int64_t shards,
                              cadft_error *error)
{
    cadft__weights own;
    double n = 0, sum = 0;
    for (int64_t i = 0; i < shards; i++) {
        const double *v = values + i * WEIGHT_FIELDS;
        if (!is_count(v[0]) || !is_sum(v[1]) || v[0] < v[1])
            return cadft__fail(error, CADFT_E_ARG,
                               "weights of shard %lld are (%g, %g), expected "
                               "a count and a sum not above it",
                               (long long)i, v[0], v[1]);
        n += v[0];
        sum += v[1];
    }
    cadft__weights_own(loss, &own);
    if (n < own.n)
        return cadft__fail(error, CADFT_E_ARG,
                           "the slots in values add up to %.0f samples, but "
                           "%.0f were exported here",
                           n, own.n);
    loss->step.weights_n = n;
    loss->step.weights_sum = sum;
    loss->step.imported_weights = 1;
    return CADFT_OK;
}

static int fits_report(int field, double v)
{
    switch (field) {
    case REPORT_ROWS:
    case REPORT_N:
    case REPORT_BELOW:
        return is_count(v);
    case REPORT_LOSS: /* negative with a host's negative k */
    case REPORT_AK:
        return isfinite(v);
    case REPORT_LEAST:
        return v >= 0 && v <= 1;
    default:
        return is_sum(v);
    }
}

static int32_t import_report(cadft_loss *loss,
                             const double *values,
                             int64_t shards,
                             cadft_error *error)
{
    double sum[CADFT__REPORT_LENGTH] = {0}, least = INFINITY;
    for (int64_t i = 0; i < shards; i++) {
        const double *v = values + i * CADFT__REPORT_LENGTH;
        for (int f = 0; f < CADFT__REPORT_LENGTH; f++) {
            if (!fits_report(f, v[f]))
                return refuse(i * CADFT__REPORT_LENGTH + f, v[f],
                              "what was exported", error);
            sum[f] += v[f];
        }
        if (v[REPORT_N] > 0)
            least = fmin(least, v[REPORT_LEAST]);
    }
    sum[REPORT_LEAST] = isfinite(least) ? least : 0;
    memcpy(loss->step.report, sum, sizeof sum);
    loss->step.imported_report = 1;
    return CADFT_OK;
}

/* ---------------------------------------------------------------- phases */

static int is_row_kind(int32_t kind)
{
    return kind == CADFT_EXCHANGE_ROW_MAX || kind == CADFT_EXCHANGE_ROW_SUM;
}

/* Fields of a slot; 0 for the kinds without [shards]. */
static int64_t slot_fields(int32_t kind)
{
    switch (kind) {
    case CADFT_EXCHANGE_MOMENTS:
        return MOMENT_FIELDS;
    case CADFT_EXCHANGE_WEIGHTS:
        return WEIGHT_FIELDS;
    case CADFT_EXCHANGE_REPORT:
        return CADFT__REPORT_LENGTH;
    default:
        return 0;
    }
}

static int32_t
check_phase(const cadft_loss *loss, int32_t kind, cadft_error *error)
{
    const cadft__step *step = &loss->step;
    enum pending due = kind == CADFT_EXCHANGE_ROW_MAX   ? PENDING_ROW_MAX
                       : kind == CADFT_EXCHANGE_ROW_SUM ? PENDING_ROW_SUM
                                                        : PENDING_NONE;
    int exact = loss->active.scope == CADFT_SCOPE_EXACT;
    if (kind < CADFT_EXCHANGE_ROW_MAX || kind > CADFT_EXCHANGE_REPORT)
        return cadft__fail(error, CADFT_E_ARG,
                           "kind is %d, expected CADFT_EXCHANGE_...", kind);
    if (step->phase == PHASE_IDLE)
        return cadft__fail(error, CADFT_E_PHASE, "an exchange outside a step");
    if (step->pending != due)
        return cadft__fail(error, CADFT_E_PHASE,
                           is_row_kind(kind)
                               ? "this row exchange is not due now"
                               : "the row exchanges of the last micro-batch "
                                 "are due first");
    if ((kind == CADFT_EXCHANGE_WEIGHTS || kind == CADFT_EXCHANGE_REPORT) &&
        step->phase != PHASE_GRAD)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weights are known only after weigh");
    if ((kind == CADFT_EXCHANGE_SAMPLES || kind == CADFT_EXCHANGE_MOMENTS) &&
        step->phase != PHASE_OBSERVE && exact)
        return cadft__fail(error, CADFT_E_PHASE,
                           "weigh has used the statistics already");
    if (kind == CADFT_EXCHANGE_SAMPLES && step->imported_samples)
        return cadft__fail(error, CADFT_E_PHASE,
                           "samples were imported already since the last "
                           "weigh; a second sum would count them twice");
    if (kind == CADFT_EXCHANGE_WEIGHTS && step->graded)
        return cadft__fail(error, CADFT_E_PHASE,
                           "a gradient was already written with the weights");
    return CADFT_OK;
}

/* Doubles in the array of a kind without slots. */
static size_t plain_size(const cadft_loss *loss, int32_t kind)
{
    switch (kind) {
    case CADFT_EXCHANGE_ROW_MAX:
        return (size_t)loss->step.open.rows;
    case CADFT_EXCHANGE_ROW_SUM:
        return (size_t)loss->step.open.rows * SUM_FIELDS;
    default:
        return (size_t)loss->step.n_samples * SAMPLE_FIELDS;
    }
}

static void export_plain(const cadft_loss *loss, int32_t kind, double *out)
{
    if (kind == CADFT_EXCHANGE_ROW_MAX)
        export_row_max(loss, out);
    else if (kind == CADFT_EXCHANGE_ROW_SUM)
        export_row_sum(loss, out);
    else
        export_samples(loss, out);
}

static int32_t export_slot(const cadft_loss *loss,
                           int32_t kind,
                           double *slot,
                           cadft_error *error)
{
    if (kind == CADFT_EXCHANGE_MOMENTS)
        export_moments(loss, slot);
    else if (kind == CADFT_EXCHANGE_WEIGHTS)
        export_weights(loss, slot);
    else
        return cadft__report_own(loss, slot, error);
    return CADFT_OK;
}

static int32_t export(const cadft_loss *loss,
                      int32_t kind,
                      int64_t shard,
                      int64_t n_shards,
                      double *out,
                      size_t capacity,
                      size_t *needed,
                      cadft_error *error)
{
    int64_t fields = slot_fields(kind);
    size_t size;
    int32_t status = check_phase(loss, kind, error);
    if (status)
        return status;
    if (n_shards < 1 || n_shards > INT32_MAX || shard < 0 ||
        shard >= n_shards || (!fields && n_shards != 1))
        return cadft__fail(error, CADFT_E_ARG,
                           "shard is %lld of %lld, expected %s",
                           (long long)shard, (long long)n_shards,
                           fields ? "0 to n_shards - 1" : "0 of 1");
    size = fields ? (size_t)(n_shards * fields) : plain_size(loss, kind);
    if (needed)
        *needed = size;
    if (!out && capacity == 0)
        return CADFT_OK;
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    if (capacity < size)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu doubles, expected %zu", capacity,
                           size);
    if (!fields) {
        export_plain(loss, kind, out);
        return CADFT_OK;
    }
    memset(out, 0, size * sizeof *out);
    return export_slot(loss, kind, out + shard * fields, error);
}

static int32_t import(cadft_loss *loss,
                      int32_t kind,
                      const double *values,
                      size_t count,
                      cadft_error *error)
{
    int64_t fields = slot_fields(kind), shards;
    int32_t status = check_phase(loss, kind, error);
    if (status)
        return status;
    if (fields ? count == 0 || count % (size_t)fields
               : count != plain_size(loss, kind))
        return cadft__fail(error, CADFT_E_SHAPE,
                           "count is %zu, expected %s %zu", count,
                           fields ? "a multiple of" : "",
                           fields ? (size_t)fields : plain_size(loss, kind));
    if (!values && count)
        return cadft__fail(error, CADFT_E_NULL, "values is NULL");
    shards = fields ? (int64_t)count / fields : 1;
    switch (kind) {
    case CADFT_EXCHANGE_ROW_MAX:
        return import_row_max(loss, values, error);
    case CADFT_EXCHANGE_ROW_SUM:
        return import_row_sum(loss, values, error);
    case CADFT_EXCHANGE_SAMPLES:
        return import_samples(loss, values, error);
    case CADFT_EXCHANGE_MOMENTS:
        return import_moments(loss, values, shards, error);
    case CADFT_EXCHANGE_WEIGHTS:
        return import_weights(loss, values, shards, error);
    default:
        return import_report(loss, values, shards, error);
    }
}

int32_t cadft_loss_export(cadft_loss *loss,
                          int32_t kind,
                          int64_t shard,
                          int64_t n_shards,
                          double *out,
                          size_t capacity,
                          size_t *needed,
                          cadft_error *error)
{
    CADFT__ENTER(loss);
    status =
        export(loss, kind, shard, n_shards, out, capacity, needed, &call.error);
    CADFT__LEAVE(loss);
}

int32_t cadft_loss_import(cadft_loss *loss,
                          int32_t kind,
                          const double *values,
                          size_t count,
                          cadft_error *error)
{
    CADFT__ENTER(loss);
    status = import(loss, kind, values, count, &call.error);
    CADFT__LEAVE(loss);
}
