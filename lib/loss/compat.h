/* SPDX-License-Identifier: Apache-2.0 */
/* Compatibility: from per-sample means to weights. Pure arithmetic in
 * float64, no memory, no errors. Source: CADFT (arXiv 2606.11206); merging
 * after Chan, Golub and LeVeque (1979). */
#ifndef CADFT_LOSS_COMPAT_H
#define CADFT_LOSS_COMPAT_H

#include <stdint.h>

/* Count, mean and sum of squared deviations of c over samples. */
typedef struct cadft__moments {
    double n, mean, m2;
} cadft__moments;

void cadft__moments_add(cadft__moments *moments, double c);
void cadft__moments_merge(cadft__moments *moments, const cadft__moments *other);

/* sqrt(M2 / (n - ddof)); 0 without a degree of freedom. */
double cadft__moments_sigma(const cadft__moments *moments, int64_t ddof);

typedef struct cadft__compat {
    double mu, sigma, eps, beta;
} cadft__compat;

/* (c - mu) / (sigma + eps); 0 when sigma is 0, that is when there is no
 * spread to compare with. */
double cadft__compat_score(const cadft__compat *compat, double c);

/* exp(-beta * max(0, chat)). */
double cadft__compat_weight(const cadft__compat *compat, double chat);

/* Exponential averages of mu and sigma over earlier global batches, with the
 * weight that the batches have in them: 1 - decay^steps while the decay stays
 * the same, and right when it changes. */
typedef struct cadft__running {
    double mu, sigma, weight;
} cadft__running;

void cadft__running_add(cadft__running *running,
                        double decay,
                        double mu,
                        double sigma);

/* Bias-corrected; weight must be above 0. */
void cadft__running_get(const cadft__running *running,
                        double *mu,
                        double *sigma);

#endif
