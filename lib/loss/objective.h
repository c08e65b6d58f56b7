/* SPDX-License-Identifier: Apache-2.0 */
/* Token objectives: the coefficient k on (softmax - onehot) and the token
 * loss. Adding one: a constant in loss.h, its name in options.c, a case
 * here, a case in the reference of tests/. */
#ifndef CADFT_LOSS_OBJECTIVE_H
#define CADFT_LOSS_OBJECTIVE_H

#include <stdint.h>

typedef struct cadft__objective {
    int32_t kind;  /* CADFT_OBJECTIVE_ */
    double q;      /* power */
    double gamma;  /* focal */
    double alpha;  /* eaft */
    double target; /* infosft */
} cadft__objective;

/* Do its coefficients need the entropy of the row? */
int cadft__objective_needs_entropy(const cadft__objective *objective);

/* Is its token loss sg(k) * l, so that label smoothing has a meaning? */
int cadft__objective_is_scaled(const cadft__objective *objective);

/* k of a row from its NLL l (finite, >= 0), p = exp(-l) and entropy.
 * Not for CADFT_OBJECTIVE_HOST. */
double
cadft__objective_k(const cadft__objective *objective, double l, double entropy);

/* Token loss; `target_loss` is l, or with label smoothing the cross-entropy
 * against the smoothed target. */
double cadft__objective_loss(const cadft__objective *objective,
                             double l,
                             double target_loss,
                             double k);

#endif
