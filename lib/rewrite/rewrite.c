/* SPDX-License-Identifier: Apache-2.0 */
/* The handle, its knobs and facts. */
#include "rewrite/rewrite.h"

#include <float.h>

#include "common/error.h"
#include "common/knobs.h"

/* ------------------------------------------------------------------- knobs */

#define I64(key, field, lo, hi, standard, names)                               \
    CADFT__I64(cadft__rewrite_options, CADFT_REWRITE_##key, field, lo, hi,     \
               standard, names)
#define F64(key, field, lo, hi, standard)                                      \
    CADFT__F64(cadft__rewrite_options, CADFT_REWRITE_##key, field, lo, hi,     \
               standard)

static const cadft__knob list[] = {
    I64(SIGNAL, signal, 0, CADFT_SIGNAL_C, CADFT_SIGNAL_CHAT, "chat c"),
    I64(WARMUP_STEPS, warmup_steps, 0, CADFT__EXACT, 3000, NULL),
    F64(WARMUP_FRACTION, warmup_fraction, 0, 1, 0),
    I64(PLANNED_STEPS, planned_steps, 0, CADFT__EXACT, 0, NULL),
    I64(INTERVAL, interval, 1, CADFT__EXACT, 1000, NULL),
    F64(FRACTION, fraction, 0, 1, 0.005),
    F64(PROBABILITY, probability, 0, 1, 0.5),
    F64(DECAY, decay, 0, 0.999, 0.9),
    I64(MIN_OBSERVATIONS, min_observations, 1, CADFT__MANY, 2, NULL),
    F64(THRESHOLD, threshold, -DBL_MAX, DBL_MAX, 0),
    I64(CAP, cap, 1, UINT8_MAX, 1, NULL),
    I64(MIN_LENGTH, min_length, 1, CADFT__MOST_TOKENS, 1, NULL),
    I64(MAX_LENGTH, max_length, 0, CADFT__MOST_TOKENS, 0, NULL),
    I64(REQUIRE_END, require_end, 0, 1, 1, NULL),
    I64(REQUIRE_LOWER, require_lower, 0, 1, 0, NULL),
    I64(SEED, seed, 0, CADFT__EXACT, 0, NULL),
    F64(TOP_P, top_p, DBL_MIN, 1, 0.9),
    F64(TEMPERATURE, temperature, 0, 1e6, 0.7),
};

static const cadft__fact facts[] = {
    {CADFT_REWRITE_SAMPLES, "samples"},
    {CADFT_REWRITE_OBSERVED, "observed"},
    {CADFT_REWRITE_IGNORED, "ignored"},
    {CADFT_REWRITE_OPEN, "open"},
    {CADFT_REWRITE_REWRITTEN, "rewritten"},
    {CADFT_REWRITE_PICKED, "picked"},
    {CADFT_REWRITE_ACCEPTED, "accepted"},
    {CADFT_REWRITE_REJECTED, "rejected"},
    {CADFT_REWRITE_LAST_STEP, "last_step"},
    {CADFT_REWRITE_BYTES, "bytes"},
};

static const cadft__knobs knobs = {list, sizeof list / sizeof list[0], facts,
                                   sizeof facts / sizeof facts[0]};

int32_t cadft__rewrite_check(const cadft_rewrite *rewrite, cadft_error *error)
{
    const cadft__rewrite_options *o = &rewrite->options;
    if (o->warmup_fraction > 0 && o->planned_steps == 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "warmup_fraction is %g of planned_steps, which is "
                           "0 (not known)",
                           o->warmup_fraction);
    if (o->max_length && o->max_length < o->min_length)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "max_length is %lld, expected 0 (no bound) or at "
                           "least min_length, %lld",
                           (long long)o->max_length, (long long)o->min_length);
    return CADFT_OK;
}

/* ---------------------------------------------------------------- life */

static void free_rewrite(cadft__handle *handle)
{
    cadft_rewrite *rewrite = (cadft_rewrite *)handle;
    cadft__memory *memory = &handle->context->memory;
    cadft__replacements_free(memory, &rewrite->replacements);
    cadft__free(memory, rewrite->samples,
                rewrite->capacity * sizeof *rewrite->samples);
    cadft__free(memory, rewrite, sizeof *rewrite);
}

static int32_t create(cadft_context *context,
                      int64_t n_samples,
                      cadft_rewrite **out,
                      cadft_error *error)
{
    cadft__memory *memory;
    cadft_rewrite *rewrite;
    int32_t status;
    if (!context || !out)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "out" : "context");
    if (n_samples < 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "n_samples is %lld, expected at least 1",
                           (long long)n_samples);
    memory = &context->memory;
    rewrite = (cadft_rewrite *)cadft__alloc(memory, sizeof *rewrite);
    if (!rewrite)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "no memory for a rewriting handle");
    status = cadft__reserve(memory, &rewrite->samples, &rewrite->capacity, 0,
                            (size_t)n_samples, sizeof *rewrite->samples, error);
    if (status) {
        cadft__free(memory, rewrite, sizeof *rewrite);
        return status;
    }
    cadft__handle_init(&rewrite->handle, context, free_rewrite);
    cadft__knobs_default(&knobs, &rewrite->options);
    rewrite->n_samples = n_samples;
    rewrite->counts.last_step = -1;
    *out = rewrite;
    return CADFT_OK;
}

int32_t cadft_rewrite_create(cadft_context *context,
                             int64_t n_samples,
                             cadft_rewrite **out,
                             cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__call_enter(error, &call);
    if (out)
        *out = NULL;
    if (!status)
        status = create(context, n_samples, out, &call.error);
    return cadft__call_leave(context, error, &call, status);
}

void cadft_rewrite_destroy(cadft_rewrite *rewrite)
{
    cadft__handle_release(rewrite ? &rewrite->handle : NULL);
}

/* ---------------------------------------------------------------- setting */

static int32_t
settable(const cadft_rewrite *rewrite, int32_t key, cadft_error *error)
{
    if (key == CADFT_REWRITE_SIGNAL && rewrite->counts.observed)
        return cadft__fail(error, CADFT_E_PHASE,
                           "signal cannot change: %lld values of the present "
                           "one have been observed",
                           (long long)rewrite->counts.observed);
    return CADFT_OK;
}

int32_t cadft_rewrite_set_i64(cadft_rewrite *rewrite,
                              int32_t key,
                              int64_t value,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = settable(rewrite, key, &call.error);
    if (!status)
        status = cadft__knobs_set_i64(&knobs, &rewrite->options, key, value,
                                      &call.error);
    CADFT__LEAVE(rewrite);
}

int32_t cadft_rewrite_set_f64(cadft_rewrite *rewrite,
                              int32_t key,
                              double value,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = settable(rewrite, key, &call.error);
    if (!status)
        status = cadft__knobs_set_f64(&knobs, &rewrite->options, key, value,
                                      &call.error);
    CADFT__LEAVE(rewrite);
}

int32_t cadft_rewrite_set_str(cadft_rewrite *rewrite,
                              int32_t key,
                              const char *value,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = settable(rewrite, key, &call.error);
    if (!status)
        status = cadft__knobs_set_str(&knobs, &rewrite->options, key, value,
                                      &call.error);
    CADFT__LEAVE(rewrite);
}

/* ---------------------------------------------------------------- getting */

static int64_t bytes(const cadft_rewrite *rewrite)
{
    const cadft__replacements *r = &rewrite->replacements;
    return (int64_t)(sizeof *rewrite +
                     rewrite->capacity * sizeof *rewrite->samples +
                     r->capacity * sizeof *r->list) +
           r->bytes;
}

/* 1 if the key is a fact's, and its value. */
static int fact(const cadft_rewrite *rewrite, int32_t key, int64_t *out)
{
    const struct {
        int32_t key;
        int64_t value;
    } values[] = {
        {CADFT_REWRITE_SAMPLES, rewrite->n_samples},
        {CADFT_REWRITE_OBSERVED, rewrite->counts.observed},
        {CADFT_REWRITE_IGNORED, rewrite->counts.ignored},
        {CADFT_REWRITE_OPEN, rewrite->counts.open},
        {CADFT_REWRITE_REWRITTEN, rewrite->counts.rewritten},
        {CADFT_REWRITE_PICKED, rewrite->counts.picked},
        {CADFT_REWRITE_ACCEPTED, rewrite->counts.accepted},
        {CADFT_REWRITE_REJECTED, rewrite->counts.rejected},
        {CADFT_REWRITE_LAST_STEP, rewrite->counts.last_step},
        {CADFT_REWRITE_BYTES, bytes(rewrite)},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i].key == key) {
            *out = values[i].value;
            return 1;
        }
    return 0;
}

int32_t cadft_rewrite_get_i64(cadft_rewrite *rewrite,
                              int32_t key,
                              int64_t *out,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    if (!out)
        status = cadft__fail(&call.error, CADFT_E_NULL, "out is NULL");
    else if (!fact(rewrite, key, out))
        status = cadft__knobs_get_i64(&knobs, &rewrite->options, key, out,
                                      &call.error);
    CADFT__LEAVE(rewrite);
}

int32_t cadft_rewrite_get_f64(cadft_rewrite *rewrite,
                              int32_t key,
                              double *out,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status =
        cadft__knobs_get_f64(&knobs, &rewrite->options, key, out, &call.error);
    CADFT__LEAVE(rewrite);
}

int32_t cadft_rewrite_get_str(cadft_rewrite *rewrite,
                              int32_t key,
                              char *buffer,
                              size_t capacity,
                              size_t *needed,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = cadft__knobs_get_str(&knobs, &rewrite->options, key, buffer,
                                  capacity, needed, &call.error);
    CADFT__LEAVE(rewrite);
}

int32_t cadft_rewrite_bounds(int32_t key,
                             int32_t *type,
                             double *smallest,
                             double *largest,
                             double *standard,
                             cadft_error *error)
{
    return cadft__knobs_bounds(&knobs, key, type, smallest, largest, standard,
                               error);
}

int32_t cadft_rewrite_key(const char *name, int32_t *key, cadft_error *error)
{
    return cadft__knobs_key(&knobs, name, key, error);
}

int32_t cadft_rewrite_key_at(int32_t index,
                             const char **name,
                             int32_t *key,
                             cadft_error *error)
{
    return cadft__knobs_at(&knobs, index, name, key, error);
}
