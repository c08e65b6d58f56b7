/* SPDX-License-Identifier: Apache-2.0 */
/* The learning rate, and knobs that do not go together. */
#include <math.h>

#include "optimizer/optimizer.h"

#define PI 3.14159265358979323846

/* A share of an integer, rounded up; 0.1 * 30 is 3 whatever the doubles say. */
static int64_t share_up(double share, int64_t whole)
{
    double product = share * (double)whole, nearest = nearbyint(product);
    if (fabs(product - nearest) <= 1e-12 * product)
        return (int64_t)nearest;
    return (int64_t)ceil(product);
}

static int64_t warmup(const cadft__optimizer_options *o)
{
    return o->warmup_fraction > 0
               ? share_up(o->warmup_fraction, o->planned_steps)
               : o->warmup_steps;
}

static int32_t check_warmup(const cadft__optimizer_options *o,
                            cadft_error *error)
{
    if (o->warmup_fraction > 0 && o->warmup_steps > 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "warmup_steps is %lld and warmup_fraction is %g, "
                           "expected one of them to be 0",
                           (long long)o->warmup_steps, o->warmup_fraction);
    if (o->warmup_fraction > 0 && o->planned_steps == 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "warmup_fraction is %g, which needs planned_steps",
                           o->warmup_fraction);
    if (o->planned_steps > 0 && warmup(o) >= o->planned_steps)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "the warm-up takes %lld steps, expected fewer than "
                           "planned_steps, which is %lld",
                           (long long)warmup(o), (long long)o->planned_steps);
    return CADFT_OK;
}

int32_t cadft__schedule_check(const cadft__optimizer_options *o,
                              cadft_error *error)
{
    if (o->schedule != CADFT_SCHEDULE_CONSTANT && o->planned_steps == 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "schedule %s needs planned_steps, which is 0",
                           o->schedule == CADFT_SCHEDULE_LINEAR ? "linear"
                                                                : "cosine");
    if (o->nesterov && o->kind != CADFT_KIND_SGD)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "nesterov is 1, which has no meaning with adamw");
    if (o->nesterov && o->momentum == 0)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "nesterov is 1, which needs a momentum above 0");
    return check_warmup(o, error);
}

double cadft__schedule_rate(const cadft__optimizer_options *o, int64_t done)
{
    int64_t rise = warmup(o);
    double x, shape;
    if (done < rise)
        return o->lr * ((double)done + 1) / (double)rise;
    if (o->schedule == CADFT_SCHEDULE_CONSTANT)
        return o->lr;
    x = (double)(done - rise) / (double)(o->planned_steps - rise);
    x = x < 1 ? x : 1;
    shape =
        o->schedule == CADFT_SCHEDULE_LINEAR ? 1 - x : (1 + cos(PI * x)) / 2;
    return o->lr * (shape * (1 - o->lr_floor) + o->lr_floor);
}
