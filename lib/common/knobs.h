/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs: a noun's options are a struct of int64_t and double, and a table
 * says for each of them key, name, bounds and default. The noun decides when
 * a knob may be set and which combinations it refuses. */
#ifndef CADFT_COMMON_KNOBS_H
#define CADFT_COMMON_KNOBS_H

#include <float.h>
#include <stddef.h>

#include "cadft/base.h"

/* Largest double below 1: bounds are inclusive. */
#define CADFT__BELOW_1 (1 - DBL_EPSILON / 2)
/* Integers a double holds exactly, so that bounds can be asked in double. */
#define CADFT__EXACT 9007199254740992.0

enum { CADFT__KNOB_I64 = 0, CADFT__KNOB_F64 = 1 };

typedef struct cadft__knob {
    int32_t key, type;
    const char *name; /* as the key, lower case */
    /* Inclusive. Those of an int64_t are integers that a double holds. */
    double smallest, largest, standard;
    size_t offset;     /* of the int64_t or double in the options struct */
    const char *names; /* of the values 0, 1, ... between spaces, or NULL */
} cadft__knob;

/* What a host can only read, each noun in its own way; here is its name. */
typedef struct cadft__fact {
    int32_t key;
    const char *name;
} cadft__fact;

typedef struct cadft__knobs {
    const cadft__knob *knobs;
    size_t count;
    const cadft__fact *facts; /* or NULL */
    size_t n_facts;
} cadft__knobs;

/* Initialisers of a cadft__knob whose name is that of its field. */
#define CADFT__I64(type, key, field, lo, hi, standard, names)                  \
    {                                                                          \
        key, CADFT__KNOB_I64, #field, lo, hi, standard, offsetof(type, field), \
            names                                                              \
    }
#define CADFT__F64(type, key, field, lo, hi, standard)                         \
    {                                                                          \
        key, CADFT__KNOB_F64, #field, lo, hi, standard, offsetof(type, field), \
            NULL                                                               \
    }

void cadft__knobs_default(const cadft__knobs *knobs, void *options);

/* The knob of a key, or CADFT_E_KEY. */
int32_t cadft__knobs_find(const cadft__knobs *knobs,
                          int32_t key,
                          const cadft__knob **out,
                          cadft_error *error);

/* Set one. CADFT_E_KEY: unknown, or of the other type; CADFT_E_ARG: outside
 * the bounds. On failure the options stay. */
int32_t cadft__knobs_set_i64(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             int64_t value,
                             cadft_error *error);
int32_t cadft__knobs_set_f64(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             double value,
                             cadft_error *error);

/* Set one from a number with a decimal point, whatever the locale of the
 * process, or from one of its names. Also CADFT_E_NULL, CADFT_E_NOMEM. */
int32_t cadft__knobs_set_str(const cadft__knobs *knobs,
                             void *options,
                             int32_t key,
                             const char *value,
                             cadft_error *error);

/* Read one. CADFT_E_KEY, CADFT_E_NULL (out). */
int32_t cadft__knobs_get_i64(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             int64_t *out,
                             cadft_error *error);
int32_t cadft__knobs_get_f64(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             double *out,
                             cadft_error *error);

/* Read one as text that cadft__knobs_set_str reads back as the same value.
 * CADFT_E_KEY, and the errors of cadft__text_out. */
int32_t cadft__knobs_get_str(const cadft__knobs *knobs,
                             const void *options,
                             int32_t key,
                             char *buffer,
                             size_t capacity,
                             size_t *needed,
                             cadft_error *error);

/* A whole public call, with the border: no handle is needed. Any of the
 * outputs may be NULL. CADFT_E_KEY. */
int32_t cadft__knobs_bounds(const cadft__knobs *knobs,
                            int32_t key,
                            int32_t *type,
                            double *smallest,
                            double *largest,
                            double *standard,
                            cadft_error *error);

/* Likewise: the key of a name, also of a fact. CADFT_E_NULL, CADFT_E_KEY. */
int32_t cadft__knobs_key(const cadft__knobs *knobs,
                         const char *name,
                         int32_t *key,
                         cadft_error *error);

/* Likewise: name and key of the knob at an index. Outputs may be NULL.
 * CADFT_E_KEY. */
int32_t cadft__knobs_at(const cadft__knobs *knobs,
                        int32_t index,
                        const char **name,
                        int32_t *key,
                        cadft_error *error);

#endif
