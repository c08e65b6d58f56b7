/* SPDX-License-Identifier: Apache-2.0 */
/* Knobs of any noun by one name: the nouns' calls differ in the type of the
 * handle alone, and Go has one code for all. See shim.h. */
#ifndef EXAMPLES_GO_SHIM_KNOBS_H
#define EXAMPLES_GO_SHIM_KNOBS_H

#include "shim.h"

#define GOCADFT_OF_NOUN(verb, parameters, arguments)                           \
    static inline int32_t gocadft_##verb parameters                            \
    {                                                                          \
        switch (noun) {                                                        \
        case GOCADFT_LOSS:                                                     \
            return cadft_loss_##verb arguments;                                \
        case GOCADFT_MODEL:                                                    \
            return cadft_model_##verb arguments;                               \
        case GOCADFT_OPTIMIZER:                                                \
            return cadft_optimizer_##verb arguments;                           \
        default:                                                               \
            return cadft_rewrite_##verb arguments;                             \
        }                                                                      \
    }

/* clang-format off: parameters and arguments below each other */
GOCADFT_OF_NOUN(key,
                (int32_t noun, const char *name, int32_t *key, cadft_error *e),
                (name, key, e))
GOCADFT_OF_NOUN(key_at,
                (int32_t noun,
                 int32_t index,
                 const char **name,
                 int32_t *key,
                 cadft_error *e),
                (index, name, key, e))
GOCADFT_OF_NOUN(bounds,
                (int32_t noun,
                 int32_t key,
                 int32_t *type,
                 double *smallest,
                 double *largest,
                 double *standard,
                 cadft_error *e),
                (key, type, smallest, largest, standard, e))
GOCADFT_OF_NOUN(
    set_i64,
    (int32_t noun, void *h, int32_t key, int64_t value, cadft_error *e),
    (h, key, value, e))
GOCADFT_OF_NOUN(
    set_f64,
    (int32_t noun, void *h, int32_t key, double value, cadft_error *e),
    (h, key, value, e))
GOCADFT_OF_NOUN(
    set_str,
    (int32_t noun, void *h, int32_t key, const char *value, cadft_error *e),
    (h, key, value, e))
GOCADFT_OF_NOUN(
    get_i64,
    (int32_t noun, void *h, int32_t key, int64_t *out, cadft_error *e),
    (h, key, out, e))
GOCADFT_OF_NOUN(
    get_f64,
    (int32_t noun, void *h, int32_t key, double *out, cadft_error *e),
    (h, key, out, e))
GOCADFT_OF_NOUN(get_str,
                (int32_t noun,
                 void *h,
                 int32_t key,
                 char *buffer,
                 size_t capacity,
                 size_t *needed,
                 cadft_error *e),
                (h, key, buffer, capacity, needed, e))
/* clang-format on */

#endif
