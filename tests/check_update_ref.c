/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formulas of cadft_update_args in float64, from the contract, and the
 * bounds of lib/cpu/kernels/update.h: u is half an ulp of 1, each rounding
 * of the kernels is one u of what is rounded, and SUBNORMAL where that
 * underflows. Scalars are rounded too. Where an error meets an error the
 * product is left to SLACK.
 */
#include "check_update.h"

#include <math.h>

#define U 0x1p-24
#define SUBNORMAL 0x1p-149
#define SLACK 1.01

static double positive(double x)
{
    return x > 0 ? x : 0;
}

/* Beyond float32, as a rounding to it has it. */
static double in_range(double x)
{
    return fabs(x) >= 0x1.ffffffp127 ? copysign(INFINITY, x) : x;
}

static update_bound bound(double want, double tolerance)
{
    update_bound b = {in_range(want), SLACK * tolerance};
    return b;
}

/* How far sqrt(v) may be off because v is, by `off`, where v is so small that
 * this is not relative to it. */
static double root_error(double v, double off)
{
    return sqrt(v + off) - sqrt(positive(v - off));
}

update_result update_adamw(const cadft_update_args *args,
                           const update_element *e)
{
    double g = in_range(args->grad_scale * e->grad), gain1 = 1 - args->beta1;
    double nearer = gain1 < args->beta1 ? gain1 : args->beta1;
    double gain2 = 1 - args->beta2, unbias = 1 / sqrt(args->correction2);
    double m = args->beta1 * e->m + gain1 * g;
    double v = in_range(args->beta2 * e->v + gain2 * g * g);
    double root = sqrt(v) * unbias + args->eps;
    double step = args->lr / args->correction1;
    double change = step * m / root;
    double decay = args->lr * args->weight_decay * e->w;
    double w = isinf(e->w) ? e->w - change : e->w - decay - change;
    double m_error =
        U * (fabs(m) + 2 * gain1 * fabs(g) + 3 * nearer * fabs(g - e->m)) +
        4 * SUBNORMAL;
    double v_least = SUBNORMAL * (4 + 3 * fabs(g));
    double root_least = isinf(v) ? 0 : unbias * root_error(v, v_least);
    double change_error = 12 * U * fabs(change) + step * m_error / root +
                          fabs(change) * root_least / (root - root_least) +
                          SUBNORMAL * (2 + step / root);
    update_result r;
    r.m = bound(m, m_error);
    r.v = bound(v, 8 * U * v + v_least);
    r.w = bound(w,
                U * (fabs(w) + 3 * fabs(decay)) + change_error + 2 * SUBNORMAL);
    return r;
}

update_result
update_sgd(const cadft_update_args *args, const update_element *e, int has_m)
{
    double grad = in_range(args->grad_scale * e->grad), momentum = args->beta1;
    double decay = isinf(e->w) ? 0 : args->weight_decay * e->w;
    double g = in_range(grad + decay), kept = has_m ? momentum * e->m : 0;
    double m = in_range(kept + g), change = m, w;
    double g_error =
        U * (fabs(g) + 2 * fabs(grad) + 2 * fabs(decay)) + 3 * SUBNORMAL;
    double m_error = g_error, change_error;
    if (has_m)
        m_error += U * (fabs(m) + 2 * fabs(kept)) + 2 * SUBNORMAL;
    change_error = m_error;
    if (has_m && args->nesterov) {
        change = in_range(g + momentum * m);
        change_error = U * (fabs(change) + 2 * fabs(momentum * m)) + g_error +
                       momentum * m_error + 2 * SUBNORMAL;
    }
    w = e->w - args->lr * change;
    update_result r = {.v = {0, 0}};
    r.m = bound(m, m_error);
    r.w = bound(w, U * (fabs(w) + 2 * fabs(args->lr * change)) +
                       args->lr * change_error + 2 * SUBNORMAL);
    return r;
}

/* ------------------------------------------------------------- bfloat16 */

/* Numbers of eight bits, subnormal below 2^-126. */
static double ulp_bf16(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1.0, exponent < -125 ? -133 : exponent - 8);
}

double update_half_ulp_bf16(double x)
{
    return 0.5 * ulp_bf16(x);
}

double update_to_bf16(double x)
{
    double rounded;
    if (!isfinite(x) || x == 0)
        return x;
    rounded = rint(x / ulp_bf16(x)) * ulp_bf16(x);
    return fabs(rounded) < 0x1p128 ? rounded : copysign(INFINITY, x);
}
