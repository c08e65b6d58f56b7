/* SPDX-License-Identifier: Apache-2.0 */
#include "loss/objective.h"

#include <math.h>

#include "cadft/loss.h"

int cadft__objective_needs_entropy(const cadft__objective *objective)
{
    return objective->kind == CADFT_OBJECTIVE_EAFT ||
           objective->kind == CADFT_OBJECTIVE_HOST;
}

int cadft__objective_is_scaled(const cadft__objective *objective)
{
    return objective->kind != CADFT_OBJECTIVE_DFT_NOSG &&
           objective->kind != CADFT_OBJECTIVE_POWER &&
           objective->kind != CADFT_OBJECTIVE_FOCAL;
}

/* d/dl of (1-p)^g l with respect to l: (1-p)^g + g p (1-p)^(g-1) l. The
 * second term is 0/0 at l = 0 for g < 1, where l / (1-p) -> 1. */
static double focal_k(double g, double l)
{
    double p = exp(-l), miss = -expm1(-l);
    double ratio = miss > 0 ? l / miss : 1;
    return pow(miss, g) * (1 + g * p * ratio);
}

/* p [logit(t) - logit(p)]+ with logit(p) = -l - log(1 - p). */
static double infosft_k(double target, double l)
{
    double miss = -expm1(-l), gap;
    if (miss <= 0)
        return 0; /* logit(p) = +inf */
    gap = log(target) - log1p(-target) + l + log(miss);
    return gap > 0 ? exp(-l) * gap : 0;
}

double
cadft__objective_k(const cadft__objective *objective, double l, double entropy)
{
    switch (objective->kind) {
    case CADFT_OBJECTIVE_DFT:
        return exp(-l);
    case CADFT_OBJECTIVE_DFT_NOSG:
        return exp(-l) * (1 - l);
    case CADFT_OBJECTIVE_POWER:
        return exp(-objective->q * l);
    case CADFT_OBJECTIVE_FOCAL:
        return focal_k(objective->gamma, l);
    case CADFT_OBJECTIVE_EAFT: /* 3 is the scale of its authors, about ln 20 */
        return pow(entropy / 3, objective->alpha);
    case CADFT_OBJECTIVE_INFOSFT:
        return infosft_k(objective->target, l);
    default:
        return 1; /* CADFT_OBJECTIVE_SFT */
    }
}

double cadft__objective_loss(const cadft__objective *objective,
                             double l,
                             double target_loss,
                             double k)
{
    switch (objective->kind) {
    case CADFT_OBJECTIVE_DFT_NOSG:
        return exp(-l) * l;
    case CADFT_OBJECTIVE_POWER:
        return objective->q > 0 ? -expm1(-objective->q * l) / objective->q : l;
    case CADFT_OBJECTIVE_FOCAL:
        return pow(-expm1(-l), objective->gamma) * l;
    default:
        return k * target_loss;
    }
}
