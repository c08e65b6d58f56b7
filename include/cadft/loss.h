/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loss.h
 * The loss: logits and labels in, compatibility-weighted gradients out.
 *
 * One batch is the whole global batch:
 *
 *     cadft_loss_create(ctx, &loss, &err);
 *     cadft_loss_compute(loss, &batch, n_samples, &grad, NULL, &report, &err);
 *
 * Several micro-batches, several processes:
 *
 *     cadft_loss_begin(loss, n_samples, &err);
 *     for each micro-batch:
 *         cadft_loss_observe(loss, &batch, NULL, &micro[i], &err);
 *     [cadft_loss_export / all-reduce / cadft_loss_import]
 *     cadft_loss_weigh(loss, &err);
 *     for each micro-batch:
 *         cadft_loss_grad(loss, micro[i], &batch, &grad, &err);
 *     cadft_loss_end(loss, &report, &err);
 *
 * Terms. A row is one predicted token: V logits, one label, one sample id. A
 * sample is one demonstration. A row counts when its label is not
 * ignore_index and its sample id is not negative. c is a sample's mean
 * negative log-likelihood (nats per token), chat its z-score over the global
 * batch, w = exp(-beta * max(0, chat)) its weight. doc/method.md has all
 * formulas.
 *
 * Threads: a loss is used by one thread at a time; different losses are
 * independent. Everything here is since 0.1.
 */
#ifndef CADFT_LOSS_H
#define CADFT_LOSS_H

#include "cadft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadft_loss cadft_loss;

/** Create a loss with the defaults listed at the keys: CADFT, that is DFT
 *  with sample weights. It keeps the context alive.
 *  Errors: CADFT_E_NULL, CADFT_E_NOMEM. */
CADFT_API int32_t cadft_loss_create(cadft_context *context,
                                    cadft_loss **out,
                                    cadft_error *error);

/** Free the loss; allowed in any phase, but not from a callback of this loss.
 *  NULL allowed. */
CADFT_API void cadft_loss_destroy(cadft_loss *loss);

/* ---------------------------------------------------------------- knobs */

/** Keys. Type and default in the comment; `i64` keys with named values take
 *  those names through cadft_loss_set_str. All but where noted may be set
 *  only between steps (before begin or compute). */
enum {
    /** i64, CADFT_OBJECTIVE_..., default dft. Names: sft, dft, dft_nosg,
     *  power, focal, eaft, infosft, host. */
    CADFT_LOSS_OBJECTIVE = 1,
    /** i64 0 or 1, default 1: multiply by the sample weight w. */
    CADFT_LOSS_WEIGHTING = 2,
    /** f64 >= 0, default 1: how fast w falls with chat. */
    CADFT_LOSS_BETA = 3,
    /** f64 >= 0, default 1e-6: added to sigma. */
    CADFT_LOSS_EPS = 4,
    /** i64 0 or 1, default 0: divisor of the variance is B - ddof. */
    CADFT_LOSS_DDOF = 5,
    /** i64, CADFT_SCOPE_..., default exact. Names: exact, running, local. */
    CADFT_LOSS_SCOPE = 6,
    /** f64 in [0, 1), default 0.9: decay of the running statistics. */
    CADFT_LOSS_RUNNING_DECAY = 7,
    /** i64 0 or 1, default 0: divide w by its mean over the global batch. */
    CADFT_LOSS_RENORMALISE = 8,
    /** i64, CADFT_NONFINITE_..., default error. Names: error, skip. */
    CADFT_LOSS_NONFINITE = 9,
    /** i64, CADFT_REDUCTION_..., default token_mean. Names: token_mean,
     *  sample_sum, sample_mean, sum. */
    CADFT_LOSS_REDUCTION = 10,
    /** f64 >= 0, default 0: the host's denominator (num_items_in_batch) in
     *  place of the library's count; 0 lets the library count. May be set
     *  until the first weigh of a step. */
    CADFT_LOSS_DENOMINATOR = 11,
    /** f64 finite, default 1: multiplies the gradient only (loss scaling). May
     *  be set inside a step too; gradients written after that have it. */
    CADFT_LOSS_GRAD_SCALE = 12,
    /** i64, default -100: the label that takes a row out. */
    CADFT_LOSS_IGNORE_INDEX = 13,
    /** i64 0 or 1, default 0. 0: labels[r] is what row r predicts. 1: the
     *  host has not shifted, row r predicts labels[r + 1] of its sample; the
     *  last row of each sample (and of each [B, T] sequence) has no label.
     *  Under sequence parallelism shift before splitting: the next label may
     *  lie on another process. */
    CADFT_LOSS_LABEL_OFFSET = 14,
    /** f64 >= 0, default 0: lambda of z-loss, adds lambda * logsumexp^2. */
    CADFT_LOSS_Z_LOSS = 15,
    /** f64 in [0, 1), default 0: label smoothing, spread evenly over the
     *  columns that are not masked. For objectives sft, dft, eaft, infosft
     *  and host. */
    CADFT_LOSS_LABEL_SMOOTHING = 16,
    /** f64 >= 0, default 0 (off): logits become cap * tanh(logits / cap). */
    CADFT_LOSS_SOFTCAP = 17,
    /** f64 in [0, 16], default 0.7: q of objective power. */
    CADFT_LOSS_POWER_Q = 18,
    /** f64 in [0, 16], default 2: g of objective focal. */
    CADFT_LOSS_FOCAL_GAMMA = 19,
    /** f64 in [0, 16], default 1: alpha of objective eaft. */
    CADFT_LOSS_EAFT_ALPHA = 20,
    /** f64 in (0, 1), default 0.93: target probability of infosft. */
    CADFT_LOSS_INFOSFT_TARGET = 21
};

/** Token objectives; k is the coefficient on (softmax - onehot), l the
 *  negative log-likelihood, p = exp(-l), H the entropy of the row. */
enum {
    CADFT_OBJECTIVE_SFT = 0,      /**< loss l,            k = 1 */
    CADFT_OBJECTIVE_DFT = 1,      /**< loss sg(p) l,      k = p */
    CADFT_OBJECTIVE_DFT_NOSG = 2, /**< loss p l,          k = p (1 - l) */
    CADFT_OBJECTIVE_POWER = 3,    /**< loss (1 - p^q)/q,  k = p^q */
    CADFT_OBJECTIVE_FOCAL = 4,    /**< loss (1-p)^g l */
    CADFT_OBJECTIVE_EAFT = 5,     /**< k = (H/3)^alpha, stop-gradient */
    CADFT_OBJECTIVE_INFOSFT = 6,  /**< k = p max(0, logit(t) - logit(p)) */
    CADFT_OBJECTIVE_HOST = 7      /**< k from the host: array or callback */
};

/** Where mean and standard deviation of c come from. */
enum {
    /** The whole global batch: observe everything, then weigh once. */
    CADFT_SCOPE_EXACT = 0,
    /** An exponential average over earlier global batches of two or more
     *  samples; until there is one, as local. */
    CADFT_SCOPE_RUNNING = 1,
    /** The samples observed since the last weigh. */
    CADFT_SCOPE_LOCAL = 2
};

/** What a row with NaN, +inf or nothing but -inf does. */
enum {
    /** CADFT_E_NONFINITE naming the row. With several processes only those
     *  that hold the row fail. */
    CADFT_NONFINITE_ERROR = 0,
    CADFT_NONFINITE_SKIP = 1 /**< its sample leaves the batch, counted */
};

/** Scale of a row: B samples and N counting rows in the global batch, n_i
 *  counting rows in sample i, D the host's denominator or, without one, the
 *  count shown. */
enum {
    CADFT_REDUCTION_TOKEN_MEAN = 0,  /**< 1 / D, D = N */
    CADFT_REDUCTION_SAMPLE_SUM = 1,  /**< 1 / D, D = B */
    CADFT_REDUCTION_SAMPLE_MEAN = 2, /**< 1 / (D n_i), D = B */
    CADFT_REDUCTION_SUM = 3          /**< 1 / D, D = 1 */
};

/** Set an integer knob.
 *  Errors: CADFT_E_NULL, CADFT_E_KEY (unknown, or not an i64 key),
 *  CADFT_E_ARG (outside the bounds), CADFT_E_PHASE (inside a step). */
CADFT_API int32_t cadft_loss_set_i64(cadft_loss *loss,
                                     int32_t key,
                                     int64_t value,
                                     cadft_error *error);

/** Set a floating-point knob. Errors as cadft_loss_set_i64. */
CADFT_API int32_t cadft_loss_set_f64(cadft_loss *loss,
                                     int32_t key,
                                     double value,
                                     cadft_error *error);

/** Set any knob from text: a name where the key has names, or a number with a
 *  decimal point whatever the locale ("1" is the value 1 of a named key, too).
 *  Errors as cadft_loss_set_i64; CADFT_E_ARG also for no such name and no
 *  number, CADFT_E_NOMEM. */
CADFT_API int32_t cadft_loss_set_str(cadft_loss *loss,
                                     int32_t key,
                                     const char *value,
                                     cadft_error *error);

/** Read an integer knob. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_loss_get_i64(cadft_loss *loss,
                                     int32_t key,
                                     int64_t *out,
                                     cadft_error *error);

/** Read a floating-point knob. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_loss_get_f64(cadft_loss *loss,
                                     int32_t key,
                                     double *out,
                                     cadft_error *error);

/** Read any knob as text. Errors: CADFT_E_NULL, CADFT_E_KEY,
 *  CADFT_E_SPACE (see cadft_context_get_str). */
CADFT_API int32_t cadft_loss_get_str(cadft_loss *loss,
                                     int32_t key,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *needed,
                                     cadft_error *error);

/** Type (0 i64, 1 f64), smallest, largest and default value of a key. Any of
 *  the outputs may be NULL. Needs no handle, any thread.
 *  Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_loss_bounds(int32_t key,
                                    int32_t *type,
                                    double *smallest,
                                    double *largest,
                                    double *standard,
                                    cadft_error *error);

/** Key of a name such as "beta" or "label_smoothing" (the constant's name in
 *  lower case). Needs no handle, any thread.
 *  Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_loss_key(const char *name,
                                 int32_t *key,
                                 cadft_error *error);

/** The knobs one after the other, so that a binding can list them.
 *  @param index  from 0; CADFT_E_KEY past the last
 *  @param name   set to its name, which lives as long as the library; may be
 *                NULL, as may `key`
 *  Needs no handle, any thread. Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_loss_key_at(int32_t index,
                                    const char **name,
                                    int32_t *key,
                                    cadft_error *error);

/** The host's own coefficient for CADFT_OBJECTIVE_HOST, instead of an array
 *  in the batch. Called whenever a micro-batch's rows are read (by observe,
 *  by the import of ROW_SUM, by grad with micro -1) with the rows' NLL,
 *  probability and entropy, [rows] each (0 for rows that do not count);
 *  writes finite k [rows] and returns 0, anything else fails the call with
 *  CADFT_E_CALLBACK. It must not call the same loss, nor free or change what
 *  the call reads: a model whose logits these are must not run meanwhile. */
typedef int32_t (*cadft_coefficient_fn)(void *user,
                                        int64_t rows,
                                        const double *l,
                                        const double *p,
                                        const double *entropy,
                                        double *k);

/** A coefficient callback with its data. */
typedef struct cadft_coefficient {
    uint32_t struct_size; /**< sizeof(cadft_coefficient) */
    int32_t reserved;     /**< 0 */
    void *user;
    cadft_coefficient_fn fn;
    /** Runs exactly once: when replaced, with the loss, or when this
     *  registration fails. May be NULL. */
    void (*destroy)(void *user);
} cadft_coefficient;

/** Register (or with NULL remove) the host's coefficient callback.
 *  Errors: CADFT_E_NULL (fn), CADFT_E_TOO_NEW, CADFT_E_PHASE. */
CADFT_API int32_t cadft_loss_set_coefficient(
    cadft_loss *loss, const cadft_coefficient *coefficient, cadft_error *error);

/* -------------------------------------------------------------- batches */

/** One micro-batch. Tensors are borrowed for the call. */
typedef struct cadft_loss_batch {
    uint32_t struct_size; /**< sizeof(cadft_loss_batch) */
    int32_t reserved;     /**< 0 */
    /** float32, bfloat16 or float16 [..., V]; leading dimensions multiply to
     *  `rows` and must collapse to one row stride (>= V); columns dense. */
    const cadft_tensor *logits;
    /** int32 or int64 [rows], or [B, T] with B * T = rows; dense. */
    const cadft_tensor *labels;
    /** int32, rows in all, dense: which demonstration of the global batch a
     *  row belongs to, 0 to n_samples - 1 in any order; negative for none.
     *  See the cadft_sample_ids_... helpers. */
    const cadft_tensor *sample_ids;
    /** Objective host without callback: float32 or float64, rows in all,
     *  dense. Otherwise NULL. Read at rows that count. */
    const cadft_tensor *k;
    /** Columns that are vocabulary, the rest is padding: not read, gradient
     *  0. 0 means all columns. */
    int64_t vocab_valid;
    /** Vocabulary parallel: these columns are the ids vocab_start to
     *  vocab_start + vocab_valid - 1 out of vocab_total; labels are ids of
     *  the whole vocabulary. vocab_total 0: not sharded, vocab_start 0. */
    int64_t vocab_start;
    int64_t vocab_total;
    /** The device's native stream; NULL is its default and the only value
     *  for host memory. */
    void *stream;
} cadft_loss_batch;

/** Fill sample ids of padded [B, T] rows: row b * T + t belongs to sample
 *  first_id + b while t < lengths[b], to none after.
 *  @param lengths int32 or int64 [B], 0 to T each; or NULL: T each (right
 *                 when padding is already marked by ignore_index)
 *  @param ids     [B * T], written
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_SHAPE, CADFT_E_DTYPE,
 *  CADFT_E_DEVICE (host memory only), CADFT_E_SAMPLE (ids beyond int32). */
CADFT_API int32_t cadft_sample_ids_padded(int64_t n_sequences,
                                          int64_t length,
                                          const cadft_tensor *lengths,
                                          int32_t first_id,
                                          int32_t *ids,
                                          cadft_error *error);

/** Fill sample ids of packed rows from cumulative lengths: rows
 *  cu_seqlens[i] to cu_seqlens[i+1] - 1 belong to sample first_id + i, rows
 *  outside of all to none.
 *  @param cu_seqlens int32 or int64 [n + 1], not decreasing, within
 *                    [0, rows]
 *  @param ids        [rows], written
 *  Errors as cadft_sample_ids_padded. */
CADFT_API int32_t cadft_sample_ids_cu_seqlens(const cadft_tensor *cu_seqlens,
                                              int64_t rows,
                                              int32_t first_id,
                                              int32_t *ids,
                                              cadft_error *error);

/** Fill sample ids of packed rows from position ids: a sample starts at row
 *  0 and wherever the position does not rise.
 *  @param position_ids int32 or int64, any shape, dense; each sequence of
 *                      the last dimension starts a sample
 *  @param ids          [rows], written
 *  @param n_samples    how many samples were found; may be NULL
 *  Errors as cadft_sample_ids_padded. */
CADFT_API int32_t
cadft_sample_ids_position_ids(const cadft_tensor *position_ids,
                              int32_t first_id,
                              int32_t *ids,
                              int64_t *n_samples,
                              cadft_error *error);

/* --------------------------------------------------------------- report */

/** What a step did. Sums and means are over the global batch as far as this
 *  loss knows it: its own rows and samples, plus what was imported (counts by
 *  MOMENTS, the rest by REPORT). Filled up to the smaller of both struct
 *  sizes. */
typedef struct cadft_loss_report {
    uint32_t struct_size; /**< sizeof(cadft_loss_report), set by the caller */
    int32_t reserved;
    double loss;        /**< sum of scale * w * token loss; no grad_scale */
    double nll;         /**< mean l: the plain SFT loss, always */
    double mean_p;      /**< mean probability of the labels */
    double mean_w;      /**< mean w over the B samples, before renormalise:
                             what the weights took from the step size */
    double min_w;       /**< smallest w, before renormalise */
    double share_below; /**< share of the B samples with w < 1, likewise */
    double mu;          /**< mean of c that the weights used (last weigh) */
    double sigma;       /**< standard deviation that the weights used */
    double grad_scale;  /**< sum a_r k_r over what SFT would have */
    int64_t n_samples;  /**< B: samples in the statistics */
    int64_t n_rows;     /**< their counting rows */
    int64_t n_skipped;  /**< samples skipped as non-finite */
    int64_t n_infinite; /**< samples with c = +inf, out of the statistics */
} cadft_loss_report;

/* ------------------------------------------------------------- one call */

/** The simple case: this batch is the whole global batch.
 *  @param batch     the batch
 *  @param n_samples sample ids are below this
 *  @param grad      gradient with respect to the logits, same rows; in the
 *                   logits' dtype or float32; may be the logits themselves
 *                   (same address, strides and dtype), or memory whose span
 *                   from first to last byte is apart from theirs; V columns,
 *                   or only the valid ones. NULL: report only.
 *  @param row_scale NULL, or [rows] floats. When given, `grad` gets the unit
 *                   gradient softmax - target (the one-hot label, or smoothed)
 *                   in a single sweep over the logits, and the true gradient
 *                   of row r is row_scale[r] * grad[r]: for hosts that fold
 *                   the scale into their next matmul. Not with z-loss, nor
 *                   with vocabulary shards. With nonfinite=error a non-finite
 *                   row, and with a coefficient callback its failure, is found
 *                   when part of grad may be written already.
 *  @param report    filled on success; may be NULL
 *  Errors: all of begin, observe, weigh, grad, end. On failure the loss is
 *  between steps, unless it was inside one (CADFT_E_PHASE), which goes on. */
CADFT_API int32_t cadft_loss_compute(cadft_loss *loss,
                                     const cadft_loss_batch *batch,
                                     int64_t n_samples,
                                     const cadft_tensor *grad,
                                     float *row_scale,
                                     cadft_loss_report *report,
                                     cadft_error *error);

/* --------------------------------------------------------------- phases */

/** Start an optimizer step.
 *  @param n_samples demonstrations of the global batch: ids are below this;
 *                   an upper bound is fine, only samples with rows count
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_PHASE, CADFT_E_UNSUPPORTED (a
 *  combination of knobs), CADFT_E_NOMEM. */
CADFT_API int32_t cadft_loss_begin(cadft_loss *loss,
                                   int64_t n_samples,
                                   cadft_error *error);

/** Read a micro-batch's logits (a forward without gradient) and remember
 *  O(rows) about it.
 *  @param unit_grad NULL, or where to write softmax - target in the same
 *                   sweep (see cadft_loss_compute: row_scale); the true
 *                   gradient is that times cadft_loss_get_rows(...,
 *                   CADFT_ROWS_SCALE) after weigh
 *  @param micro     number of the micro-batch, from 0, for grad and get_rows
 *  After vocabulary-sharded logits the row exchanges are due before any
 *  other call.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE, CADFT_E_SHAPE, CADFT_E_DTYPE,
 *  CADFT_E_ALIGN, CADFT_E_ALIAS, CADFT_E_DEVICE, CADFT_E_LABEL,
 *  CADFT_E_SAMPLE, CADFT_E_NONFINITE, CADFT_E_CALLBACK, CADFT_E_NOMEM,
 *  CADFT_E_UNSUPPORTED, CADFT_E_BACKEND. The micro-batch is then not part
 *  of the step. */
CADFT_API int32_t cadft_loss_observe(cadft_loss *loss,
                                     const cadft_loss_batch *batch,
                                     const cadft_tensor *unit_grad,
                                     int64_t *micro,
                                     cadft_error *error);

/** Turn what was observed into weights. Scope exact: once, after the last
 *  observe. Scopes running and local: after each micro-batch (or several),
 *  each sample within one; the host gives the denominator unless the
 *  reduction is sum, because the global counts are not known yet.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE, CADFT_E_UNSUPPORTED. */
CADFT_API int32_t cadft_loss_weigh(cadft_loss *loss, cadft_error *error);

/** Write a micro-batch's gradient.
 *  @param micro number from observe: its row statistics are reused and the
 *               logits must be those observed (size and type are checked,
 *               values are not); or -1: they are computed
 *               again from these logits (a second forward that differs in
 *               the last bits, say), with the weights of their samples
 *  @param grad  as in cadft_loss_compute
 *  Errors: as observe, and CADFT_E_PHASE when the weights are not known. After
 *  CADFT_E_BACKEND and CADFT_E_THREADS part of grad may be written. */
CADFT_API int32_t cadft_loss_grad(cadft_loss *loss,
                                  int64_t micro,
                                  const cadft_loss_batch *batch,
                                  const cadft_tensor *grad,
                                  cadft_error *error);

/** End the step: report, and running statistics of the next. No gradient need
 *  have been written: an evaluation ends after weigh.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (also: renormalise without the other
 *  shards' weights), CADFT_E_ARG (report.struct_size). The step then goes
 *  on. */
CADFT_API int32_t cadft_loss_end(cadft_loss *loss,
                                 cadft_loss_report *report,
                                 cadft_error *error);

/** What end would report now, or what it reported. For hosts that need the
 *  loss before the gradient: autograd, an early stop. Changes nothing.
 *  @param report filled on success
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (as end; also: no step), CADFT_E_ARG
 *  (report.struct_size). */
CADFT_API int32_t cadft_loss_get_report(cadft_loss *loss,
                                        cadft_loss_report *report,
                                        cadft_error *error);

/** Leave the step, if any, as if it had not begun. NULL allowed; from a
 *  callback of this loss it does nothing. */
CADFT_API void cadft_loss_cancel(cadft_loss *loss);

/* ------------------------------------------------------------ exchanges */

/** What can be exchanged between processes. Each is a plain float64 array
 *  that the host all-reduces element by element, in place, with the
 *  operation named; the library never links a communicator. For the kinds
 *  marked [shards], each process writes its own slot of an array that is
 *  otherwise zero, so that a sum gathers the slots. */
enum {
    /** MAX, [rows] of the micro-batch just observed. Vocabulary parallel,
     *  first exchange. */
    CADFT_EXCHANGE_ROW_MAX = 1,
    /** SUM, [rows, 8]. Vocabulary parallel, second exchange. */
    CADFT_EXCHANGE_ROW_SUM = 2,
    /** SUM, [n_samples, 4]: sum of l, counting rows, rows with l = +inf,
     *  non-finite rows. Over the processes that share samples (sequence or
     *  context parallel), or over all processes: then ids are global and
     *  CADFT_EXCHANGE_MOMENTS is not needed. Once before each weigh: nothing
     *  may be observed between import and weigh. */
    CADFT_EXCHANGE_SAMPLES = 3,
    /** SUM, [shards, 6]: n, mean of c, M2 (sum of squared deviations),
     *  counting rows, skipped, infinite samples. Data parallel: over
     *  processes that have different samples; after SAMPLES, before weigh
     *  (scope exact) or end. Nothing may be observed after its import. */
    CADFT_EXCHANGE_MOMENTS = 4,
    /** SUM, [shards, 2]: n, sum of w. Data parallel with renormalise: after
     *  weigh, before the first grad; same processes as MOMENTS. */
    CADFT_EXCHANGE_WEIGHTS = 5,
    /** SUM, [shards, 10]: what the report adds up. Optional, before end;
     *  over all processes but the vocabulary parallel. */
    CADFT_EXCHANGE_REPORT = 6
};

/** Write this process's part.
 *  @param kind     CADFT_EXCHANGE_...
 *  @param shard    this process's slot, 0 to n_shards - 1 (0 of 1 for the
 *                  kinds without [shards])
 *  @param out      [capacity] doubles, filled whole up to *needed; NULL with
 *                  capacity 0 to ask for the length
 *  @param needed   length of the array in doubles; may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_PHASE, CADFT_E_SPACE. */
CADFT_API int32_t cadft_loss_export(cadft_loss *loss,
                                    int32_t kind,
                                    int64_t shard,
                                    int64_t n_shards,
                                    double *out,
                                    size_t capacity,
                                    size_t *needed,
                                    cadft_error *error);

/** Take the reduced array back. With one process, importing what was
 *  exported changes nothing.
 *  @param values [count], as exported and reduced
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (values that no export can have
 *  written), CADFT_E_SHAPE (count), CADFT_E_PHASE, CADFT_E_LABEL (a label in
 *  no shard or in two). At ROW_SUM also CADFT_E_NONFINITE and
 *  CADFT_E_CALLBACK, after which the micro-batch is not part of the step; on
 *  any other error the exchange stays due. */
CADFT_API int32_t cadft_loss_import(cadft_loss *loss,
                                    int32_t kind,
                                    const double *values,
                                    size_t count,
                                    cadft_error *error);

/* --------------------------------------------------- per-row, per-sample */

/** Per-row arrays, [rows] of one micro-batch; 0 at rows that do not count,
 *  NaN (scale 0) at non-finite rows, p and k 0 where l is +inf. */
enum {
    CADFT_ROWS_NLL = 1,     /**< l, nats */
    CADFT_ROWS_P = 2,       /**< exp(-l) */
    CADFT_ROWS_ENTROPY = 3, /**< H, nats; 0 without objective eaft or host */
    CADFT_ROWS_K = 4,       /**< token coefficient k */
    CADFT_ROWS_SCALE = 5,   /**< a_r * k_r * grad_scale, after weigh */
    CADFT_ROWS_LOSS = 6     /**< a_r times the token loss, after weigh: a
                                 micro-batch's loss is their sum; 0 where the
                                 sample is out of the statistics */
};

/** Per-sample arrays, [n_samples] as given to begin or compute; by the ids of
 *  the step, which are not those of a data set (rewrite.h). */
enum {
    CADFT_SAMPLES_C = 1,    /**< c; NaN without counting row, +inf possible */
    CADFT_SAMPLES_CHAT = 2, /**< z-score, whether weighting is on or off; NaN
                                 outside the statistics */
    CADFT_SAMPLES_W = 3,    /**< weight as applied; 0 outside */
    CADFT_SAMPLES_ROWS = 4  /**< counting rows n_i */
};

/** Copy a per-row array of an observed micro-batch of the step at hand, or
 *  after end of the step that ended.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_PHASE, CADFT_E_SPACE. */
CADFT_API int32_t cadft_loss_get_rows(cadft_loss *loss,
                                      int64_t micro,
                                      int32_t what,
                                      double *out,
                                      size_t capacity,
                                      size_t *needed,
                                      cadft_error *error);

/** Copy a per-sample array, likewise; c and rows from the first observe on,
 *  chat and w from weigh on. Errors as cadft_loss_get_rows. */
CADFT_API int32_t cadft_loss_get_samples(cadft_loss *loss,
                                         int32_t what,
                                         double *out,
                                         size_t capacity,
                                         size_t *needed,
                                         cadft_error *error);

/* ---------------------------------------------------------------- state */

/** Save the running statistics (scope running), a few dozen bytes in the
 *  library's tagged little-endian format. Knobs are not part of it.
 *  @param buffer [capacity] bytes or NULL with 0 to ask for the length
 *  Errors: CADFT_E_NULL, CADFT_E_SPACE, CADFT_E_PHASE (inside a step). */
CADFT_API int32_t cadft_loss_state_save(cadft_loss *loss,
                                        void *buffer,
                                        size_t capacity,
                                        size_t *needed,
                                        cadft_error *error);

/** Restore what cadft_loss_state_save wrote, bit for bit.
 *  Errors: CADFT_E_NULL, CADFT_E_STATE (nothing is changed),
 *  CADFT_E_PHASE (inside a step). */
CADFT_API int32_t cadft_loss_state_load(cadft_loss *loss,
                                        const void *buffer,
                                        size_t size,
                                        cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
