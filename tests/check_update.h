/* SPDX-License-Identifier: Apache-2.0 */
/* One element of an optimizer's step in float64, and how far float32 may be
 * from it; see check_update_ref.c. */
#ifndef CADFT_TESTS_CHECK_UPDATE_H
#define CADFT_TESTS_CHECK_UPDATE_H

#include "cadft/backend.h"

/* With v, adamw; with neither m nor v, plain sgd. */
typedef struct update_element {
    double w, grad, m, v; /* as they are before the step */
} update_element;

/* Afterwards: a value and the error that it may have. */
typedef struct update_bound {
    double want, tolerance;
} update_bound;

typedef struct update_result {
    update_bound w, m, v;
} update_result;

update_result update_adamw(const cadft_update_args *args,
                           const update_element *e);
/* has_m: there is a momentum. */
update_result
update_sgd(const cadft_update_args *args, const update_element *e, int has_m);

/* To the nearest bfloat16, ties to even, in float64 arithmetic. */
double update_to_bf16(double x);
/* Half the distance between bfloat16 numbers at x. */
double update_half_ulp_bf16(double x);

#endif
