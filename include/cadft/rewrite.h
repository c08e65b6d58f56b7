/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file rewrite.h
 * Delayed rewriting: follow the compatibility of each sample of a data set,
 * pick those that stay incompatible, and take the model's own answers as
 * their new targets.
 *
 *     cadft_rewrite_create(ctx, n_samples, &rw, &err);
 *     for (step = 0; step < planned; step++) {
 *         size_t n;
 *         cadft_rewrite_select(rw, step, picks, capacity, &n, &err);
 *         for (size_t i = 0; i < n; i++) {       // mostly 0
 *             ... generate an answer to the prompt of picks[i] ...
 *             result.ended = stopped_by_itself;
 *             result.tokens = answer;
 *             result.n_tokens = length;
 *             cadft_rewrite_commit(rw, picks[i], &result, NULL, &err);
 *         }
 *         for each sample of the batch:
 *             cadft_rewrite_target(rw, id, &tokens, &length, &err);
 *             ... tokens, or without any the data set's own target ...
 *         ... the step, with cadft_loss_get_samples for c and chat ...
 *         cadft_rewrite_observe(rw, ids, c, chat, batch_size, &err);
 *     }
 *
 * Terms. A sample id is a place in the data set, 0 to n_samples - 1. c is a
 * sample's mean negative log-likelihood, chat its z-score over the global
 * batch (loss.h). The average is exponential over what was observed of a
 * sample, corrected for its start: after n values x_1 .. x_n
 *
 *     average = sum_j d^(n-j) x_j / sum_j d^(n-j),    d = CADFT_REWRITE_DECAY
 *
 * A pick is a sample that cadft_rewrite_select has handed out; it is open
 * until it is committed, rejected or cancelled. step is the number of
 * optimizer steps done, 0 to 4294967295, as in cadft_model_generate.
 *
 * The handle keeps 16 bytes a sample and the replacements it was given. The
 * original targets stay with the host and are never touched. It needs no
 * model: the answers may come from anywhere.
 *
 * Several processes: each keeps a handle of the whole data set and observes
 * what all of them gathered, in one order; then all pick the same.
 *
 * Threads: a handle is used by one thread at a time; different handles are
 * independent. Everything here is since 0.1.
 */
#ifndef CADFT_REWRITE_H
#define CADFT_REWRITE_H

#include "cadft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadft_rewrite cadft_rewrite;

/** Create a handle for a data set, with the defaults listed at the keys. It
 *  keeps the context alive.
 *  @param n_samples  D, at least 1; allocates 16 bytes for each
 *  Errors: CADFT_E_NULL, CADFT_E_ARG, CADFT_E_NOMEM. */
CADFT_API int32_t cadft_rewrite_create(cadft_context *context,
                                       int64_t n_samples,
                                       cadft_rewrite **out,
                                       cadft_error *error);

/** Free the handle and the replacements that it keeps. NULL allowed. */
CADFT_API void cadft_rewrite_destroy(cadft_rewrite *rewrite);

/* ---------------------------------------------------------------- knobs */

/** Keys. Type and default in the comment. All may be set between any two
 *  calls, but where noted. */
enum {
    /** i64, CADFT_SIGNAL_..., default chat; names: chat, c. What is averaged.
     *  Not once a sample has been observed. */
    CADFT_REWRITE_SIGNAL = 1,
    /** i64 >= 0, default 3000: first step at which anything is due. */
    CADFT_REWRITE_WARMUP_STEPS = 2,
    /** f64 in [0, 1], default 0 (off): the same as a share of
     *  CADFT_REWRITE_PLANNED_STEPS, which it needs, rounded up; WARMUP_STEPS is
     *  then not read. */
    CADFT_REWRITE_WARMUP_FRACTION = 3,
    /** i64 >= 0, default 0 (not known): steps that the training will take. */
    CADFT_REWRITE_PLANNED_STEPS = 4,
    /** i64 >= 1, default 1000: due at steps that it divides. A training
     *  shorter than this never rewrites. */
    CADFT_REWRITE_INTERVAL = 5,
    /** f64 in [0, 1], default 0.005: f, the share of the data set that are
     *  candidates, ceil(f * n_samples) of them. A product within rounding of
     *  a whole number is that number. */
    CADFT_REWRITE_FRACTION = 6,
    /** f64 in [0, 1], default 0.5: q, of a candidate to be picked. */
    CADFT_REWRITE_PROBABILITY = 7,
    /** f64 in [0, 0.999], default 0.9: d of the average. A change holds for
     *  values observed after it; averages stay what they are. */
    CADFT_REWRITE_DECAY = 8,
    /** i64 in [1, 65535], default 2: a candidate was observed this often
     *  since the start or since its last rewrite. */
    CADFT_REWRITE_MIN_OBSERVATIONS = 9,
    /** f64 finite, default 0: a candidate's average is above it. With signal
     *  chat 0 means worse than the mean; with signal c it is in nats, and 0
     *  leaves nobody out. */
    CADFT_REWRITE_THRESHOLD = 10,
    /** i64 in [1, 255], default 1: rewrites of one sample. */
    CADFT_REWRITE_CAP = 11,
    /** i64 in [1, 2^24], default 1: tokens that a rewrite has at least, an end
     *  token counted if the host hands it over (as cadft_model_generate keeps
     *  it): then 2 refuses empty answers, 1 takes them. */
    CADFT_REWRITE_MIN_LENGTH = 12,
    /** i64 in [0, 2^24], default 0 (no bound): and at most. */
    CADFT_REWRITE_MAX_LENGTH = 13,
    /** i64 0 or 1, default 1: take only an answer that ended by itself. One
     *  that was cut off is no draw from the model's answers, and teaches it
     *  not to end. */
    CADFT_REWRITE_REQUIRE_END = 14,
    /** i64 0 or 1, default 0: take only an answer whose c is below that of
     *  the present target. */
    CADFT_REWRITE_REQUIRE_LOWER = 15,
    /** i64 in [0, 2^53], default 0. Picks are a function of it, of the step
     *  and of what was observed. The same seed may serve
     *  cadft_model_generate: their numbers are apart. */
    CADFT_REWRITE_SEED = 16,
    /** f64 in (0, 1], default 0.9, and */
    CADFT_REWRITE_TOP_P = 17,
    /** f64 in [0, 1e6], default 0.7: for whoever generates to read; nothing
     *  here obeys them. */
    CADFT_REWRITE_TEMPERATURE = 18,

    /* Read only, i64. */
    CADFT_REWRITE_SAMPLES = 100,   /**< n_samples */
    CADFT_REWRITE_OBSERVED = 101,  /**< observations ever taken */
    CADFT_REWRITE_IGNORED = 102,   /**< not taken: see cadft_rewrite_observe */
    CADFT_REWRITE_OPEN = 103,      /**< picks that are open now */
    CADFT_REWRITE_REWRITTEN = 104, /**< samples with a replacement now */
    CADFT_REWRITE_PICKED = 105,    /**< picks ever handed out */
    CADFT_REWRITE_ACCEPTED = 106,  /**< of them accepted by commit */
    CADFT_REWRITE_REJECTED = 107,  /**< rejected by commit or by the host */
    CADFT_REWRITE_LAST_STEP = 108, /**< step of the last picks; -1 before */
    CADFT_REWRITE_BYTES = 109      /**< allocated for this handle */
};

/** What is averaged. */
enum {
    CADFT_SIGNAL_CHAT = 0, /**< the z-score over the global batch */
    CADFT_SIGNAL_C = 1     /**< the mean negative log-likelihood */
};

/** Set an integer knob. Errors: CADFT_E_NULL, CADFT_E_KEY (unknown, read
 *  only, or not an i64 key), CADFT_E_ARG (outside the bounds), CADFT_E_PHASE
 *  (signal, once something was observed). */
CADFT_API int32_t cadft_rewrite_set_i64(cadft_rewrite *rewrite,
                                        int32_t key,
                                        int64_t value,
                                        cadft_error *error);

/** Set a floating-point knob. Errors as cadft_rewrite_set_i64. */
CADFT_API int32_t cadft_rewrite_set_f64(cadft_rewrite *rewrite,
                                        int32_t key,
                                        double value,
                                        cadft_error *error);

/** Set any knob from text, as cadft_loss_set_str does. Errors as
 *  cadft_rewrite_set_i64, and CADFT_E_NOMEM. */
CADFT_API int32_t cadft_rewrite_set_str(cadft_rewrite *rewrite,
                                        int32_t key,
                                        const char *value,
                                        cadft_error *error);

/** Read an integer knob or a fact. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_rewrite_get_i64(cadft_rewrite *rewrite,
                                        int32_t key,
                                        int64_t *out,
                                        cadft_error *error);

/** Read a floating-point knob. Errors: CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_rewrite_get_f64(cadft_rewrite *rewrite,
                                        int32_t key,
                                        double *out,
                                        cadft_error *error);

/** Read any knob as text. Errors: CADFT_E_NULL, CADFT_E_KEY (facts are read
 *  by cadft_rewrite_get_i64), CADFT_E_SPACE (see cadft_context_get_str). */
CADFT_API int32_t cadft_rewrite_get_str(cadft_rewrite *rewrite,
                                        int32_t key,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *needed,
                                        cadft_error *error);

/** Type (0 i64, 1 f64), smallest, largest and default value of a knob. Any
 *  of the outputs may be NULL. Needs no handle, any thread.
 *  Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_rewrite_bounds(int32_t key,
                                       int32_t *type,
                                       double *smallest,
                                       double *largest,
                                       double *standard,
                                       cadft_error *error);

/** Key of a name such as "warmup_steps" or "picked" (the constant's name in
 * lower case), of what is read only too. Needs no handle, any thread. Errors:
 * CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_rewrite_key(const char *name,
                                    int32_t *key,
                                    cadft_error *error);

/** The knobs one after the other, so that a binding can list them.
 *  @param index  from 0; CADFT_E_KEY past the last
 *  @param name   set to its name, which lives as long as the library; may be
 *                NULL, as may `key`
 *  Needs no handle, any thread. Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_rewrite_key_at(int32_t index,
                                       const char **name,
                                       int32_t *key,
                                       cadft_error *error);

/* ------------------------------------------------------------- tracking */

/** What an optimizer step has shown of its samples.
 *  @param ids   [n], 0 to n_samples - 1; one that stands twice was observed
 *               twice, in that order
 *  @param c     [n], as CADFT_SAMPLES_C; NULL allowed with signal chat, then
 *               the c of the present target is not known
 *  @param chat  [n], as CADFT_SAMPLES_CHAT; NULL allowed with signal c
 *  @param n     0 and up
 *  A sample whose c or chat (of those given) is not finite, or too large for
 *  a float32, is left as it was and counted in CADFT_REWRITE_IGNORED: NaN
 *  says that it was not in the statistics, and neither was one with c = +inf
 *  (its chat is NaN), which has no score to average.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (n), CADFT_E_SAMPLE (an id outside the
 *  data set; nothing was observed). */
CADFT_API int32_t cadft_rewrite_observe(cadft_rewrite *rewrite,
                                        const int64_t *ids,
                                        const double *c,
                                        const double *chat,
                                        int64_t n,
                                        cadft_error *error);

/** What is known of a sample. Filled up to the smaller of both struct
 *  sizes. */
typedef struct cadft_rewrite_info {
    uint32_t struct_size; /**< sizeof(cadft_rewrite_info), by the caller */
    int32_t is_open;      /**< 1: picked, neither committed nor rejected */
    double average;       /**< of the signal; NaN without observation */
    double c;             /**< last observed, as float32; NaN if unknown */
    int64_t observations; /**< of the present target; 65535: or more */
    int64_t rewrites;     /**< how often it was rewritten */
    int32_t is_rewritten; /**< 1: a replacement holds, 0: the original */
    int32_t reserved;     /**< 0 */
} cadft_rewrite_info;

/** Read about a sample.
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (out.struct_size), CADFT_E_SAMPLE. */
CADFT_API int32_t cadft_rewrite_sample(cadft_rewrite *rewrite,
                                       int64_t id,
                                       cadft_rewrite_info *out,
                                       cadft_error *error);

/* -------------------------------------------------------------- picking */

/** Are rewrites due: has the warm-up passed, and does the interval divide
 *  the step?
 *  @param due  1 or 0
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (step), CADFT_E_UNSUPPORTED (knobs that
 *  do not go together: a warm-up fraction without planned steps, a largest
 *  length below the smallest). */
CADFT_API int32_t cadft_rewrite_due(cadft_rewrite *rewrite,
                                    int64_t step,
                                    int32_t *due,
                                    cadft_error *error);

/** Pick samples to rewrite, if the step is due; otherwise none.
 *
 *  Each step once: asked again after its picks were committed it may pick
 *  others. So a checkpoint is best saved before the select of the step that it
 *  is named after.
 *
 *  Candidates are the ceil(f * n_samples) samples of the highest average
 *  among those that were observed often enough, whose average is above the
 *  threshold and that were rewritten less often than the cap; of equal
 *  averages the lower id comes first. Each is picked with probability q, by
 *  a random number of (seed, id, step). The picks are open after the call.
 *
 *  @param ids     [capacity], the picks by rising id; NULL with capacity 0 to
 *                 ask how many there would be, which opens none
 *  @param needed  how many; may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (step), CADFT_E_UNSUPPORTED,
 *  CADFT_E_PHASE (due, with picks still open), CADFT_E_SPACE (none was
 *  opened). */
CADFT_API int32_t cadft_rewrite_select(cadft_rewrite *rewrite,
                                       int64_t step,
                                       int64_t *ids,
                                       size_t capacity,
                                       size_t *needed,
                                       cadft_error *error);

/** The picks that are open, by rising id: after a state was loaded, say. The
 *  step that picked them is CADFT_REWRITE_LAST_STEP.
 *  Errors: CADFT_E_NULL, CADFT_E_SPACE. */
CADFT_API int32_t cadft_rewrite_open(cadft_rewrite *rewrite,
                                     int64_t *ids,
                                     size_t capacity,
                                     size_t *needed,
                                     cadft_error *error);

/** Close all open picks; nothing else changes. NULL allowed. */
CADFT_API void cadft_rewrite_cancel(cadft_rewrite *rewrite);

/* ----------------------------------------------------------- replacing */

/** Why an answer was not taken; the first that holds. */
enum {
    CADFT_REJECTED_NOT = 0,       /**< it was taken */
    CADFT_REJECTED_TOO_SHORT = 1, /**< below CADFT_REWRITE_MIN_LENGTH */
    CADFT_REJECTED_TOO_LONG = 2,  /**< above CADFT_REWRITE_MAX_LENGTH */
    CADFT_REJECTED_NOT_ENDED = 3, /**< with CADFT_REWRITE_REQUIRE_END */
    CADFT_REJECTED_NOT_LOWER = 4  /**< with CADFT_REWRITE_REQUIRE_LOWER */
};

/** An answer to a pick. */
typedef struct cadft_rewrite_result {
    uint32_t struct_size;  /**< sizeof(cadft_rewrite_result) */
    int32_t ended;         /**< 1: by itself, with an end-of-sequence token */
    const int32_t *tokens; /**< [n_tokens], copied; none of them negative.
                                NULL: the host keeps them */
    int64_t n_tokens;      /**< 0 to 2^24 */
    /** Mean negative log-likelihood under the present model of this answer,
     *  and of the target that it replaces. Read with
     *  CADFT_REWRITE_REQUIRE_LOWER only. c_new must then be a number; c_old
     *  may be NaN for the one last observed, against which c_new is compared
     *  as float32. */
    double c_new, c_old;
} cadft_rewrite_result;

/** Give an open pick its answer, which closes it. If the answer is taken it
 *  is the sample's target from now on, and its average starts anew; if not,
 *  nothing changes, and the sample may be picked again.
 *  @param rejected  CADFT_REJECTED_...: 0 when it was taken; may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_ARG (struct_size, n_tokens, a negative
 *  token, ended not 0 or 1, c_new needed and not a number), CADFT_E_TOO_NEW,
 *  CADFT_E_SAMPLE, CADFT_E_PHASE (not open; c_old needed and neither given
 *  nor observed), CADFT_E_UNSUPPORTED (knobs, see cadft_rewrite_due),
 *  CADFT_E_NOMEM. The pick is open still. */
CADFT_API int32_t cadft_rewrite_commit(cadft_rewrite *rewrite,
                                       int64_t id,
                                       const cadft_rewrite_result *result,
                                       int32_t *rejected,
                                       cadft_error *error);

/** Close an open pick without an answer: the host could not generate one.
 *  Errors: CADFT_E_NULL, CADFT_E_SAMPLE, CADFT_E_PHASE (not open). */
CADFT_API int32_t cadft_rewrite_reject(cadft_rewrite *rewrite,
                                       int64_t id,
                                       cadft_error *error);

/** The replacement that holds for a sample now.
 *  @param tokens  set to [n] tokens of the handle's memory; NULL when the
 *                 original holds, or when the host keeps the replacement.
 *                 Valid until the sample's next accepted commit or restore,
 *                 cadft_rewrite_state_load or destroy.
 *  @param n       how many; 0 with NULL
 *  Errors: CADFT_E_NULL, CADFT_E_SAMPLE. */
CADFT_API int32_t cadft_rewrite_target(cadft_rewrite *rewrite,
                                       int64_t id,
                                       const int32_t **tokens,
                                       int64_t *n,
                                       cadft_error *error);

/** Take a sample back to its original target. Its average starts anew; its
 *  count of rewrites stays, so that the cap holds.
 *  Errors: CADFT_E_NULL, CADFT_E_SAMPLE, CADFT_E_PHASE (it is not rewritten,
 *  or open). */
CADFT_API int32_t cadft_rewrite_restore(cadft_rewrite *rewrite,
                                        int64_t id,
                                        cadft_error *error);

/* ---------------------------------------------------------------- state */

/** Save everything but the knobs: averages, counts, open picks, replacements;
 *  about 16 bytes a sample and 4 a token, in the library's tagged
 *  little-endian format.
 *  @param buffer  [capacity] bytes or NULL with 0 to ask for the length
 *  Errors: CADFT_E_NULL, CADFT_E_SPACE. */
CADFT_API int32_t cadft_rewrite_state_save(cadft_rewrite *rewrite,
                                           void *buffer,
                                           size_t capacity,
                                           size_t *needed,
                                           cadft_error *error);

/** Restore what cadft_rewrite_state_save wrote, bit for bit, into a handle
 *  of as many samples and the same signal.
 *  Errors: CADFT_E_NULL, CADFT_E_STATE, CADFT_E_NOMEM; nothing is changed. */
CADFT_API int32_t cadft_rewrite_state_load(cadft_rewrite *rewrite,
                                           const void *buffer,
                                           size_t size,
                                           cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
