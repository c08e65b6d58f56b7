/* SPDX-License-Identifier: Apache-2.0 */
#include "loss/compat.h"

#include <math.h>

void cadft__moments_add(cadft__moments *m, double c)
{
    double delta = c - m->mean;
    m->n += 1;
    m->mean += delta / m->n;
    m->m2 += delta * (c - m->mean);
}

void cadft__moments_merge(cadft__moments *m, const cadft__moments *other)
{
    double n = m->n + other->n, delta = other->mean - m->mean;
    if (other->n == 0)
        return;
    m->m2 += other->m2 + delta * delta * (m->n * other->n / n);
    m->mean += delta * (other->n / n);
    m->n = n;
}

double cadft__moments_sigma(const cadft__moments *m, int64_t ddof)
{
    double freedom = m->n - (double)ddof;
    return freedom > 0 ? sqrt(m->m2 / freedom) : 0;
}

double cadft__compat_score(const cadft__compat *compat, double c)
{
    if (compat->sigma == 0)
        return 0;
    return (c - compat->mu) / (compat->sigma + compat->eps);
}

double cadft__compat_weight(const cadft__compat *compat, double chat)
{
    return chat > 0 ? exp(-compat->beta * chat) : 1;
}

void cadft__running_add(cadft__running *running,
                        double decay,
                        double mu,
                        double sigma)
{
    running->mu = decay * running->mu + (1 - decay) * mu;
    running->sigma = decay * running->sigma + (1 - decay) * sigma;
    running->weight = decay * running->weight + (1 - decay);
}

void cadft__running_get(const cadft__running *running,
                        double *mu,
                        double *sigma)
{
    *mu = running->mu / running->weight;
    *sigma = running->sigma / running->weight;
}
