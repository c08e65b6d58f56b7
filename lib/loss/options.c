/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs: one table, and the checks of their combinations. */
#define _GNU_SOURCE /* strtod_l */
#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "loss/loss.h"

enum { TYPE_I64 = 0, TYPE_F64 = 1 };

struct knob {
    int32_t key, type;
    const char *name;
    double smallest, largest, standard;
    size_t offset;
    const char *names; /* values 0, 1, ... separated by spaces, or NULL */
};

#define I64(key, field, lo, hi, standard, names)                               \
    {                                                                          \
        key, TYPE_I64, #field, lo, hi, standard,                               \
            offsetof(cadft__options, field), names                             \
    }
#define F64(key, field, lo, hi, standard)                                      \
    {                                                                          \
        key, TYPE_F64, #field, lo, hi, standard,                               \
            offsetof(cadft__options, field), NULL                              \
    }

/* Largest double below 1: bounds are inclusive. */
#define BELOW_1 (1 - DBL_EPSILON / 2)
/* Integers a double holds exactly, so that bounds can be asked in double. */
#define EXACT 9007199254740992.0

static const struct knob knobs[] = {
    I64(CADFT_LOSS_OBJECTIVE,
        objective,
        0,
        CADFT_OBJECTIVE_HOST,
        CADFT_OBJECTIVE_DFT,
        "sft dft dft_nosg power focal eaft infosft host"),
    I64(CADFT_LOSS_WEIGHTING, weighting, 0, 1, 1, NULL),
    F64(CADFT_LOSS_BETA, beta, 0, DBL_MAX, 1),
    F64(CADFT_LOSS_EPS, eps, 0, DBL_MAX, 1e-6),
    I64(CADFT_LOSS_DDOF, ddof, 0, 1, 0, NULL),
    I64(CADFT_LOSS_SCOPE,
        scope,
        0,
        CADFT_SCOPE_LOCAL,
        CADFT_SCOPE_EXACT,
        "exact running local"),
    F64(CADFT_LOSS_RUNNING_DECAY, running_decay, 0, BELOW_1, 0.9),
    I64(CADFT_LOSS_RENORMALISE, renormalise, 0, 1, 0, NULL),
    I64(CADFT_LOSS_NONFINITE, nonfinite, 0, 1, 0, "error skip"),
    I64(CADFT_LOSS_REDUCTION,
        reduction,
        0,
        CADFT_REDUCTION_SUM,
        CADFT_REDUCTION_TOKEN_MEAN,
        "token_mean sample_sum sample_mean sum"),
    F64(CADFT_LOSS_DENOMINATOR, denominator, 0, DBL_MAX, 0),
    F64(CADFT_LOSS_GRAD_SCALE, grad_scale, -DBL_MAX, DBL_MAX, 1),
    I64(CADFT_LOSS_IGNORE_INDEX, ignore_index, -EXACT, EXACT, -100, NULL),
    I64(CADFT_LOSS_LABEL_OFFSET, label_offset, 0, 1, 0, NULL),
    F64(CADFT_LOSS_Z_LOSS, z_loss, 0, DBL_MAX, 0),
    F64(CADFT_LOSS_LABEL_SMOOTHING, label_smoothing, 0, BELOW_1, 0),
    F64(CADFT_LOSS_SOFTCAP, softcap, 0, FLT_MAX, 0),
    F64(CADFT_LOSS_POWER_Q, power_q, 0, 16, 0.7),
    F64(CADFT_LOSS_FOCAL_GAMMA, focal_gamma, 0, 16, 2),
    F64(CADFT_LOSS_EAFT_ALPHA, eaft_alpha, 0, 16, 1),
    F64(CADFT_LOSS_INFOSFT_TARGET, infosft_target, DBL_MIN, BELOW_1, 0.93),
};

enum { KNOBS = sizeof knobs / sizeof knobs[0] };

static const struct knob *find(int32_t key)
{
    for (size_t i = 0; i < KNOBS; i++)
        if (knobs[i].key == key)
            return &knobs[i];
    return NULL;
}

static int64_t *as_i64(cadft__options *options, const struct knob *knob)
{
    return (int64_t *)(void *)((char *)options + knob->offset);
}

static double *as_f64(cadft__options *options, const struct knob *knob)
{
    return (double *)(void *)((char *)options + knob->offset);
}

void cadft__options_default(cadft__options *options)
{
    for (size_t i = 0; i < KNOBS; i++)
        if (knobs[i].type == TYPE_I64)
            *as_i64(options, &knobs[i]) = (int64_t)knobs[i].standard;
        else
            *as_f64(options, &knobs[i]) = knobs[i].standard;
}

cadft__objective cadft__options_objective(const cadft__options *options)
{
    return (cadft__objective){
        .kind = (int32_t)options->objective,
        .q = options->power_q,
        .gamma = options->focal_gamma,
        .alpha = options->eaft_alpha,
        .target = options->infosft_target,
    };
}

int32_t cadft__options_check(const cadft_loss *loss, cadft_error *error)
{
    cadft__objective objective = cadft__options_objective(&loss->options);
    if (loss->options.label_smoothing > 0 &&
        !cadft__objective_is_scaled(&objective))
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "label_smoothing has no meaning with objectives "
                           "dft_nosg, power and focal; expected sft, dft, "
                           "eaft, infosft or host");
    return CADFT_OK;
}

/* ---------------------------------------------------------------- setting */

/* The knob, when it may be set now. */
static int32_t settable(cadft_loss *loss,
                        int32_t key,
                        const struct knob **knob,
                        cadft_error *error)
{
    *knob = find(key);
    if (!*knob)
        return cadft__fail(error, CADFT_E_KEY, "key %d is not known", key);
    if (loss->step.phase != PHASE_IDLE &&
        !(key == CADFT_LOSS_DENOMINATOR && !loss->step.weighed))
        return cadft__fail(error, CADFT_E_PHASE,
                           "%s cannot change inside a step", (*knob)->name);
    return CADFT_OK;
}

static int32_t store_i64(cadft_loss *loss,
                         const struct knob *knob,
                         int64_t value,
                         cadft_error *error)
{
    if (value < (int64_t)knob->smallest || value > (int64_t)knob->largest)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is %lld, expected %lld to %lld", knob->name,
                           (long long)value, (long long)knob->smallest,
                           (long long)knob->largest);
    *as_i64(&loss->options, knob) = value;
    return CADFT_OK;
}

static int32_t store_f64(cadft_loss *loss,
                         const struct knob *knob,
                         double value,
                         cadft_error *error)
{
    if (!(value >= knob->smallest && value <= knob->largest))
        return cadft__fail(error, CADFT_E_ARG, "%s is %.17g, expected %g to %g",
                           knob->name, value, knob->smallest, knob->largest);
    *as_f64(&loss->options, knob) = value;
    if (loss->step.phase != PHASE_IDLE) /* the denominator, before weigh */
        *as_f64(&loss->active, knob) = value;
    return CADFT_OK;
}

static int32_t
check_type(const struct knob *knob, int32_t type, cadft_error *error)
{
    if (knob->type == type)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_KEY, "%s is of type %s: use _%s",
                       knob->name, knob->type == TYPE_I64 ? "i64" : "f64",
                       knob->type == TYPE_I64 ? "i64" : "f64");
}

int32_t cadft_loss_set_i64(cadft_loss *loss,
                           int32_t key,
                           int64_t value,
                           cadft_error *error)
{
    const struct knob *knob;
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = settable(loss, key, &knob, &call.error);
    if (!status)
        status = check_type(knob, TYPE_I64, &call.error);
    if (!status)
        status = store_i64(loss, knob, value, &call.error);
    return cadft__loss_leave(loss, error, &call, status);
}

int32_t cadft_loss_set_f64(cadft_loss *loss,
                           int32_t key,
                           double value,
                           cadft_error *error)
{
    const struct knob *knob;
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = settable(loss, key, &knob, &call.error);
    if (!status)
        status = check_type(knob, TYPE_F64, &call.error);
    if (!status)
        status = store_f64(loss, knob, value, &call.error);
    return cadft__loss_leave(loss, error, &call, status);
}

/* Place of `value` in a list of names separated by spaces, or -1. */
static int64_t name_index(const char *names, const char *value)
{
    size_t length = strlen(value);
    for (int64_t i = 0; names; i++) {
        const char *end = strchr(names, ' ');
        size_t here = end ? (size_t)(end - names) : strlen(names);
        if (here == length && memcmp(names, value, length) == 0)
            return i;
        names = end ? end + 1 : NULL;
    }
    return -1;
}

/* A number with a decimal point, whatever the locale of the process. */
static int32_t parse_f64(const struct knob *knob,
                         const char *text,
                         double *out,
                         cadft_error *error)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    char *end = NULL;
    if (!c)
        return cadft__fail(error, CADFT_E_NOMEM, "no memory for a locale");
    *out = strtod_l(text, &end, c);
    freelocale(c);
    if (end == text || *end)
        return cadft__fail(error, CADFT_E_ARG,
                           "%s is \"%.64s\", expected a number", knob->name,
                           text);
    return CADFT_OK;
}

static int32_t parse_i64(const struct knob *knob,
                         const char *text,
                         int64_t *out,
                         cadft_error *error)
{
    char *end = NULL;
    long long value;
    *out = knob->names ? name_index(knob->names, text) : -1;
    if (*out >= 0)
        return CADFT_OK;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return cadft__fail(error, CADFT_E_ARG, "%s is \"%.64s\", expected %s",
                           knob->name, text,
                           knob->names ? knob->names : "an integer");
    *out = value;
    return CADFT_OK;
}

static int32_t
set_str(cadft_loss *loss, int32_t key, const char *value, cadft_error *error)
{
    const struct knob *knob;
    double number = 0;
    int64_t whole = 0;
    int32_t status = settable(loss, key, &knob, error);
    if (status)
        return status;
    if (!value)
        return cadft__fail(error, CADFT_E_NULL, "value of %s is NULL",
                           knob->name);
    if (knob->type == TYPE_F64) {
        status = parse_f64(knob, value, &number, error);
        return status ? status : store_f64(loss, knob, number, error);
    }
    status = parse_i64(knob, value, &whole, error);
    return status ? status : store_i64(loss, knob, whole, error);
}

int32_t cadft_loss_set_str(cadft_loss *loss,
                           int32_t key,
                           const char *value,
                           cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = set_str(loss, key, value, &call.error);
    return cadft__loss_leave(loss, error, &call, status);
}

/* ---------------------------------------------------------------- getting */

static int32_t gettable(int32_t key,
                        int32_t type,
                        const void *out,
                        const struct knob **knob,
                        cadft_error *error)
{
    *knob = find(key);
    if (!*knob)
        return cadft__fail(error, CADFT_E_KEY, "key %d is not known", key);
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    return check_type(*knob, type, error);
}

int32_t cadft_loss_get_i64(cadft_loss *loss,
                           int32_t key,
                           int64_t *out,
                           cadft_error *error)
{
    const struct knob *knob;
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = gettable(key, TYPE_I64, out, &knob, &call.error);
    if (!status)
        *out = *as_i64(&loss->options, knob);
    return cadft__loss_leave(loss, error, &call, status);
}

int32_t cadft_loss_get_f64(cadft_loss *loss,
                           int32_t key,
                           double *out,
                           cadft_error *error)
{
    const struct knob *knob;
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = gettable(key, TYPE_F64, out, &knob, &call.error);
    if (!status)
        *out = *as_f64(&loss->options, knob);
    return cadft__loss_leave(loss, error, &call, status);
}

/* Shortest text that reads back as the same value, with a point. */
static void format_f64(double value, char *text, size_t size)
{
    const char *point = localeconv()->decimal_point;
    char *at;
    snprintf(text, size, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, size, "%.17g", value);
    at = *point ? strstr(text, point) : NULL;
    if (at && strcmp(point, ".") != 0) {
        size_t length = strlen(point);
        *at = '.';
        memmove(at + 1, at + length, strlen(at + length) + 1);
    }
}

static int32_t get_str(cadft_loss *loss,
                       int32_t key,
                       char *buffer,
                       size_t capacity,
                       size_t *needed,
                       cadft_error *error)
{
    const struct knob *knob = find(key);
    char text[64];
    if (!knob)
        return cadft__fail(error, CADFT_E_KEY, "key %d is not known", key);
    if (knob->type == TYPE_F64) {
        format_f64(*as_f64(&loss->options, knob), text, sizeof text);
    } else if (knob->names) {
        const char *name = knob->names;
        for (int64_t i = *as_i64(&loss->options, knob); i > 0; i--)
            name = strchr(name, ' ') + 1;
        snprintf(text, sizeof text, "%.*s", (int)strcspn(name, " "), name);
    } else {
        snprintf(text, sizeof text, "%lld",
                 (long long)*as_i64(&loss->options, knob));
    }
    return cadft__text_out(text, buffer, capacity, needed, error);
}

int32_t cadft_loss_get_str(cadft_loss *loss,
                           int32_t key,
                           char *buffer,
                           size_t capacity,
                           size_t *needed,
                           cadft_error *error)
{
    cadft__call call;
    int32_t status = cadft__loss_enter(loss, error, &call);
    if (status)
        return status;
    status = get_str(loss, key, buffer, capacity, needed, &call.error);
    return cadft__loss_leave(loss, error, &call, status);
}

int32_t cadft_loss_bounds(int32_t key,
                          int32_t *type,
                          double *smallest,
                          double *largest,
                          double *standard,
                          cadft_error *error)
{
    const struct knob *knob = find(key);
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status && !knob)
        status = cadft__fail(&own, CADFT_E_KEY, "key %d is not known", key);
    if (!status) {
        if (type)
            *type = knob->type;
        if (smallest)
            *smallest = knob->smallest;
        if (largest)
            *largest = knob->largest;
        if (standard)
            *standard = knob->standard;
    }
    return cadft__error_leave(error, &own, status);
}

static int32_t key_of(const char *name, int32_t *key, cadft_error *error)
{
    if (!name || !key)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           name ? "key" : "name");
    for (size_t i = 0; i < KNOBS; i++)
        if (strcmp(knobs[i].name, name) == 0) {
            *key = knobs[i].key;
            return CADFT_OK;
        }
    return cadft__fail(error, CADFT_E_KEY, "\"%.64s\" is not a key", name);
}

int32_t cadft_loss_key(const char *name, int32_t *key, cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = key_of(name, key, &own);
    return cadft__error_leave(error, &own, status);
}

/* --------------------------------------------------- the host's coefficient */

static int32_t set_coefficient(cadft_loss *loss,
                               const cadft_coefficient *new,
                               cadft_error *error)
{
    if (new &&new->reserved)
        return cadft__fail(error, CADFT_E_TOO_NEW,
                           "coefficient.reserved is not 0");
    if (new && !new->fn)
        return cadft__fail(error, CADFT_E_NULL, "coefficient.fn is NULL");
    if (loss->step.phase != PHASE_IDLE)
        return cadft__fail(error, CADFT_E_PHASE,
                           "the coefficient cannot change inside a step");
    if (loss->coefficient.destroy)
        loss->coefficient.destroy(loss->coefficient.user);
    memset(&loss->coefficient, 0, sizeof loss->coefficient);
    if (new)
        loss->coefficient = *new;
    return CADFT_OK;
}

/* The host's destroy runs exactly once, also when the loss or the error
 * struct is refused: so the bundle is read first. */
int32_t cadft_loss_set_coefficient(cadft_loss *loss,
                                   const cadft_coefficient *coefficient,
                                   cadft_error *error)
{
    cadft_coefficient copy = {0};
    cadft_error unread = {sizeof unread, CADFT_OK, {0}};
    cadft__call call;
    int32_t read = CADFT_OK, status;
    if (coefficient)
        read = cadft__struct_in(&copy, sizeof copy, coefficient,
                                CADFT__SIZE_TO(cadft_coefficient, destroy),
                                "coefficient", &unread);
    status = cadft__loss_enter(loss, error, &call);
    if (!status) {
        status = read;
        call.error = unread;
        if (!status)
            status =
                set_coefficient(loss, coefficient ? &copy : NULL, &call.error);
        cadft__loss_leave(loss, error, &call, status);
    }
    if (status && copy.destroy)
        copy.destroy(copy.user);
    return status;
}
