/* SPDX-License-Identifier: Apache-2.0 */
/* The loss handle and what its files share.
 *
 *   options.c   knobs                     batch.c     the host's tensors
 *   observe.c   logits -> rows, samples   weigh.c     samples -> weights
 *   grad.c      weights -> gradient       exchange.c  shards
 *   report.c    report, arrays            running.c   saved statistics
 *   compat.c    statistics -> w           objective.c l, p, H -> k
 */
#ifndef CADFT_LOSS_LOSS_H
#define CADFT_LOSS_LOSS_H

#include "cadft/loss.h"
#include "backend/device.h"
#include "backend/handle.h"
#include "common/tensor.h"
#include "loss/compat.h"
#include "loss/objective.h"

typedef struct cadft__options {
    int64_t objective, weighting, ddof, scope, renormalise, nonfinite;
    int64_t reduction, ignore_index, label_offset;
    double beta, eps, running_decay, denominator, grad_scale;
    double z_loss, label_smoothing, softcap;
    double power_q, focal_gamma, eaft_alpha, infosft_target;
} cadft__options;

/* What is remembered of a row between observe and grad. */
typedef struct cadft__row {
    int32_t label;  /* id in the whole vocabulary */
    int32_t sample; /* -1: the row does not count */
    double l;       /* NLL, nats; +inf possible */
    double lse;
    double entropy; /* when the objective needs it */
    double k;
    double loss;     /* token loss, z-loss included */
    double unmasked; /* columns > -inf, with label smoothing */
} cadft__row;

/* A sample's sums over its rows; what CADFT_EXCHANGE_SAMPLES carries. */
typedef struct cadft__sums {
    double l;        /* over rows with finite l */
    double rows;     /* counting rows */
    double infinite; /* rows with l = +inf */
    double bad;      /* non-finite rows */
} cadft__sums;

typedef struct cadft__sample {
    cadft__sums sums;
    double chat, w; /* w before renormalise; NaN, 0 outside */
    int32_t weighed;
    int32_t reserved;
} cadft__sample;

typedef struct cadft__micro {
    int64_t first, rows; /* in step.rows */
    int64_t cols, vocab_start, vocab;
    int32_t dtype;
    int32_t unit; /* its unit gradient was written: no grad */
} cadft__micro;

/* A batch after its checks. */
typedef struct cadft__batch {
    cadft__matrix logits;
    int64_t cols;               /* valid columns */
    int64_t vocab_start, vocab; /* vocab: size of the whole vocabulary */
    int32_t sharded;
    void *stream;
    int32_t *labels;  /* [rows], the host's labels moved to their rows */
    int32_t *samples; /* [rows], -1 where the row does not count */
    const double *k;  /* [rows] or NULL */
} cadft__batch;

enum phase { PHASE_IDLE, PHASE_OBSERVE, PHASE_GRAD };
enum pending { PENDING_NONE, PENDING_ROW_MAX, PENDING_ROW_SUM };

/* Global counts: own samples', or merged from all shards. */
typedef struct cadft__totals {
    cadft__moments moments;
    double rows, skipped, infinite;
} cadft__totals;

enum { CADFT__REPORT_LENGTH = 10 };

/* What a step has gathered. Arrays grow and stay for the next step. */
typedef struct cadft__step {
    enum phase phase;
    enum pending pending;
    int32_t done;    /* ended: arrays may still be read */
    int32_t whole;   /* compute: this micro-batch is the global batch */
    int32_t weighed; /* weigh was called */
    int32_t graded;  /* a gradient was written */
    int64_t n_samples;
    cadft__sample *samples;
    cadft__row *rows;
    size_t n_rows;
    cadft__micro *micro;
    size_t n_micro;
    cadft__micro open;        /* waits for its row exchanges */
    int32_t imported_samples; /* since the last weigh */
    int32_t imported_moments, imported_weights, imported_report;
    cadft__totals totals; /* valid when imported_moments */
    cadft__totals used;   /* counts that the last weigh used */
    double used_mu, used_sigma;
    double weights_n, weights_sum;       /* valid when imported_weights */
    double report[CADFT__REPORT_LENGTH]; /* valid when imported_report */
} cadft__step;

/* Scratch on the host and on the device, for one micro-batch. */
typedef struct cadft__scratch {
    int32_t *labels, *samples;
    double *stats;    /* [rows, CADFT_STAT_STRIDE] */
    double *coef;     /* [rows, CADFT_COEF_STRIDE] */
    double *columns;  /* [4, rows]: l, p, entropy, k for the callback */
    double *k;        /* [rows]: the batch's k */
    int64_t *wide;    /* [rows]: 64-bit inputs on their way in */
    double *row_max;  /* [rows]: maxima over the vocabulary's shards */
    cadft__row *rows; /* grad of logits that were not observed */
    size_t capacity[9];
    void *device; /* labels, then stats, then coef */
    uint64_t device_bytes;
    void *stream; /* the last one that used it */
} cadft__scratch;

struct cadft_loss {
    cadft__handle handle;
    cadft__options options; /* as set, for the next step */
    cadft__options active;  /* of the step at hand, or that ended */
    cadft_coefficient coefficient;
    cadft__running running;
    cadft__step step;
    size_t rows_capacity, samples_capacity, micro_capacity;
    cadft__scratch scratch;
};

/* ------------------------------------------------------------- options */

void cadft__options_default(cadft__options *options);

/* Refuse combinations, before a step begins. */
int32_t cadft__options_check(const cadft_loss *loss, cadft_error *error);

cadft__objective cadft__options_objective(const cadft__options *options);

/* --------------------------------------------------------------- batch */

/* Check the host's batch and bring labels, sample ids and k to scratch. */
int32_t cadft__batch_read(cadft_loss *loss,
                          const cadft_loss_batch *theirs,
                          cadft__batch *out,
                          cadft_error *error);

/* Check a gradient tensor against its logits. */
int32_t cadft__batch_grad(const cadft_loss *loss,
                          const cadft__batch *batch,
                          const cadft_tensor *theirs,
                          cadft_loss_grad_out *out,
                          cadft_error *error);

/* The logits as the backend sees them; `labels` in device memory. */
cadft_loss_rows cadft__batch_rows(const cadft_loss *loss,
                                  const cadft__batch *batch,
                                  cadft_array labels);

/* ------------------------------------------------------------- observe */

/* Device arrays of the scratch for a batch. */
int32_t cadft__scratch_arrays(cadft_loss *loss,
                              const cadft__batch *batch,
                              cadft_array *labels,
                              cadft_array *stats,
                              cadft_array *coef,
                              cadft_error *error);

/* Put the rows' labels on the device: columns of this shard, or
 * CADFT_ROW_NO_LABEL, or CADFT_ROW_SKIP where keep[r] is 0 (NULL: where the
 * row does not count). */
int32_t cadft__labels_in(cadft_loss *loss,
                         const cadft__batch *batch,
                         const cadft__row *rows,
                         const char *keep,
                         cadft_array labels,
                         cadft_error *error);

/* Fill `rows` with labels and samples of the batch, and scratch.stats with
 * statistics of its logits; with `unit` in the one sweep. */
int32_t cadft__read_rows(cadft_loss *loss,
                         const cadft__batch *batch,
                         const cadft_loss_grad_out *unit,
                         cadft__row *rows,
                         cadft_error *error);

/* From statistics in scratch to l, p, entropy, k and loss of the rows. Rows
 * that are not finite get l = NaN, or with nonfinite=error the call fails. */
int32_t cadft__finish_rows(cadft_loss *loss,
                           cadft__row *rows,
                           int64_t n,
                           const double *k,
                           cadft_error *error);

/* Add the open micro-batch's rows to their samples: the step has it now. */
void cadft__commit_micro(cadft_loss *loss);

/* --------------------------------------------------------------- weigh */

/* Is the sample part of the statistics? */
int cadft__sample_in(const cadft__sample *sample);

/* Mean NLL: NaN without rows or non-finite, +inf possible. */
double cadft__sample_c(const cadft__sample *sample);

/* Counts and moments over the samples of this loss. */
void cadft__totals_own(const cadft_loss *loss, cadft__totals *out);

/* Those, or what was imported. */
const cadft__totals *cadft__totals_known(const cadft_loss *loss,
                                         cadft__totals *own);

/* n, sum, smallest and number below 1 of the weights of own samples. */
typedef struct cadft__weights {
    double n, sum, least, below;
} cadft__weights;

void cadft__weights_own(const cadft_loss *loss, cadft__weights *out);

/* w over the mean of w when renormalise is on, and scale: a_r of a row. */
typedef struct cadft__scale {
    double by_row;      /* denominator part */
    double by_weight;   /* 1 or 1 / mean w */
    int32_t per_sample; /* divide by the sample's rows */
} cadft__scale;

/* Fails when renormalise lacks the other shards' weights. */
int32_t
cadft__scale_get(const cadft_loss *loss, cadft__scale *out, cadft_error *error);

/* scale_r: without w. */
double cadft__scale_plain(const cadft_loss *loss,
                          const cadft__scale *scale,
                          int32_t sample);

/* a_r: with w. 0 when the sample is out. */
double cadft__scale_row(const cadft_loss *loss,
                        const cadft__scale *scale,
                        int32_t sample);

/* -------------------------------------------------------------- report */

/* Refuse a caller's report struct of the wrong size; NULL is fine. */
int32_t cadft__report_check(const cadft_loss_report *theirs,
                            cadft_error *error);

/* This loss's part of CADFT_EXCHANGE_REPORT. */
int32_t cadft__report_own(const cadft_loss *loss,
                          double out[CADFT__REPORT_LENGTH],
                          cadft_error *error);

/* Fields of that array. */
enum {
    REPORT_LOSS,
    REPORT_L,
    REPORT_P,
    REPORT_ROWS,
    REPORT_AK,
    REPORT_PLAIN,
    REPORT_N,
    REPORT_W,
    REPORT_LEAST,
    REPORT_BELOW
};

/* ------------------------------------- the phases, between enter and leave */

int32_t cadft__begin(cadft_loss *loss,
                     int64_t n_samples,
                     int32_t whole,
                     cadft_error *error);
int32_t cadft__observe(cadft_loss *loss,
                       const cadft_loss_batch *batch,
                       const cadft_tensor *unit_grad,
                       int64_t *micro,
                       cadft_error *error);
int32_t cadft__weigh(cadft_loss *loss, cadft_error *error);
int32_t cadft__grad(cadft_loss *loss,
                    int64_t micro,
                    const cadft_loss_batch *batch,
                    const cadft_tensor *grad,
                    cadft_error *error);
int32_t
cadft__end(cadft_loss *loss, cadft_loss_report *report, cadft_error *error);
void cadft__cancel(cadft_loss *loss);

/* Samples of a micro-batch's rows must have their weights. */
int32_t cadft__check_weighed(const cadft_loss *loss,
                             const cadft__row *rows,
                             int64_t n,
                             cadft_error *error);

/* a_r k_r grad_scale of a micro-batch's rows, to [rows] of float64. */
int32_t cadft__row_scale(cadft_loss *loss,
                         int64_t micro,
                         double *out,
                         cadft_error *error);

#endif
