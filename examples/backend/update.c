/* SPDX-License-Identifier: Apache-2.0 */
/* An optimizer: the norm of a gradient, and a step of a parameter. */
#include "numbers.h"
#include "toy.h"

void toy_sum_squares(const void *args, cadft_error *error)
{
    const cadft_sum_squares_args *a = args;
    const void *x = toy_rows(&a->x, 1, a->n, 0, a->dtype, error);
    double *out = toy_rows(&a->out, 1, 1, 0, CADFT_DTYPE_F64, error), sum = 0;
    if (error->code)
        return;
    for (int64_t i = 0; i < a->n; i++)
        sum += toy_get(x, a->dtype, i) * toy_get(x, a->dtype, i);
    *out = sum;
}

/* The arrays of a step; those that are absent are NULL. */
struct step {
    void *value;
    const void *grad;
    float *master, *m, *v;
};

static float *
look_float(const cadft_array *array, int64_t n, cadft_error *error)
{
    return array->base ? toy_rows(array, 1, n, 0, CADFT_DTYPE_F32, error)
                       : NULL;
}

static struct step look(const cadft_update_args *a, cadft_error *error)
{
    struct step s = {
        .value = toy_rows(&a->value, 1, a->n, 0, a->value_dtype, error),
        .grad = toy_rows(&a->grad, 1, a->n, 0, a->grad_dtype, error),
        .master = look_float(&a->master, a->n, error),
        .m = look_float(&a->m, a->n, error),
        .v = look_float(&a->v, a->n, error),
    };
    return s;
}

static double
weight(const cadft_update_args *a, const struct step *s, int64_t i)
{
    return s->master ? (double)s->master[i]
                     : toy_get(s->value, a->value_dtype, i);
}

/* With a master, what is rounded is the master. */
static void
put(const cadft_update_args *a, const struct step *s, int64_t i, double w)
{
    if (s->master)
        s->master[i] = (float)w;
    toy_put(s->value, a->value_dtype, i, s->master ? (double)s->master[i] : w);
}

void toy_adamw(const void *args, cadft_error *error)
{
    const cadft_update_args *a = args;
    struct step s = look(a, error);
    for (int64_t i = 0; i < a->n && !error->code; i++) {
        double w = weight(a, &s, i), m = (double)s.m[i], v = (double)s.v[i];
        double g = a->grad_scale * toy_get(s.grad, a->grad_dtype, i);
        w *= 1 - a->lr * a->weight_decay;
        s.m[i] = (float)(a->beta1 * m + (1 - a->beta1) * g);
        s.v[i] = (float)(a->beta2 * v + (1 - a->beta2) * g * g);
        w -= a->lr / a->correction1 * (double)s.m[i] /
             (sqrt((double)s.v[i]) / sqrt(a->correction2) + a->eps);
        put(a, &s, i, w);
    }
}

void toy_sgd(const void *args, cadft_error *error)
{
    const cadft_update_args *a = args;
    struct step s = look(a, error);
    for (int64_t i = 0; i < a->n && !error->code; i++) {
        double w = weight(a, &s, i);
        double g = a->grad_scale * toy_get(s.grad, a->grad_dtype, i);
        if (isfinite(w)) /* an infinite weight stays, with a gradient of 0 */
            g += a->weight_decay * w;
        if (s.m) {
            double m = a->beta1 * (double)s.m[i] + g;
            s.m[i] = (float)m;
            g = a->nesterov ? g + a->beta1 * m : m;
        }
        put(a, &s, i, w - a->lr * g);
    }
}
