/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizer_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/device.h"

/* ---------------------------------------------------------------- arrays */

void array_new(array *a,
               cadft_context *context,
               int32_t dtype,
               int32_t ndim,
               const int64_t *shape)
{
    cadft_error err = support_error();
    memset(a, 0, sizeof *a);
    a->context = context;
    a->dtype = dtype;
    a->n = 1;
    for (int32_t d = 0; d < ndim; d++)
        a->n *= a->shape[d] = shape[d];
    a->bytes = (uint64_t)a->n * support_dtype_size(dtype);
    CHECK_OK(cadft__device_alloc(context, a->bytes + 64, &a->base, &err), err);
    cadft_tensor_init(&a->view, sizeof a->view, a->base, dtype, ndim, a->shape,
                      NULL, NULL);
    a->view.device_type = context->backend->device_type;
}

void array_free(array *a)
{
    cadft__device_free(a->context, NULL, a->base, a->bytes + 64);
}

void array_put(array *a, const double *values)
{
    cadft_error err = support_error();
    void *data = malloc(a->bytes + 1);
    for (int64_t i = 0; i < a->n; i++)
        support_put(data, a->dtype, i, (float)values[i]);
    CHECK_OK(cadft_context_write(a->context, &a->view, data, a->bytes, &err),
             err);
    free(data);
}

void *array_bytes(const array *a)
{
    cadft_error err = support_error();
    void *data = malloc(a->bytes + 1);
    CHECK_OK(cadft_context_read(a->context, &a->view, data, a->bytes, &err),
             err);
    return data;
}

void array_get(const array *a, double *out)
{
    void *data = array_bytes(a);
    for (int64_t i = 0; i < a->n; i++)
        out[i] = (double)support_get(data, a->dtype, i);
    free(data);
}

void array_normal(array *a, double scale)
{
    double *values = (double *)malloc((size_t)(a->n + 1) * sizeof *values);
    for (int64_t i = 0; i < a->n; i++)
        values[i] = scale * support_normal();
    array_put(a, values);
    free(values);
}

/* ------------------------------------------------------------ parameters */

void param_new(param *p,
               cadft_context *context,
               const char *name,
               int32_t value_dtype,
               int32_t grad_dtype,
               int32_t ndim,
               const int64_t *shape)
{
    snprintf(p->name, sizeof p->name, "%s", name);
    array_new(&p->value, context, value_dtype, ndim, shape);
    array_new(&p->grad, context, grad_dtype, ndim, shape);
}

void param_free(param *p)
{
    array_free(&p->value);
    array_free(&p->grad);
}

void param_add(param *p, cadft_optimizer *optimizer)
{
    cadft_error err = support_error();
    CHECK_OK(cadft_optimizer_add(optimizer, p->name, &p->value.view,
                                 &p->grad.view, &err),
             err);
}

/* ------------------------------------------------------------- optimizers */

cadft_optimizer *optimizer_new(cadft_context *context)
{
    cadft_error err = support_error();
    cadft_optimizer *optimizer;
    CHECK_OK(cadft_optimizer_create(context, &optimizer, &err), err);
    return optimizer;
}

void optimizer_set(cadft_optimizer *optimizer, int32_t key, double value)
{
    cadft_error err = support_error();
    int32_t type;
    CHECK_OK(cadft_optimizer_bounds(key, &type, NULL, NULL, NULL, &err), err);
    CHECK_OK(
        type ? cadft_optimizer_set_f64(optimizer, key, value, &err)
             : cadft_optimizer_set_i64(optimizer, key, (int64_t)value, &err),
        err);
}

int64_t optimizer_fact(cadft_optimizer *optimizer, int32_t key)
{
    cadft_error err = support_error();
    int64_t value = -1;
    CHECK_OK(cadft_optimizer_get_i64(optimizer, key, &value, &err), err);
    return value;
}

cadft_optimizer_report optimizer_step(cadft_optimizer *optimizer)
{
    cadft_error err = support_error();
    cadft_optimizer_report report = {.struct_size = sizeof report};
    CHECK_OK(cadft_optimizer_step(optimizer, NULL, &report, &err), err);
    return report;
}

/* -------------------------------------------------------------- reference */

void rule_step(
    const rule *r, int64_t t, double g, double *w, double *m, double *v)
{
    if (r->sgd) {
        g += r->weight_decay * *w;
        *m = r->beta1 * *m + g;
        *w -= r->lr * (r->nesterov ? g + r->beta1 * *m : *m);
        return;
    }
    *w -= r->lr * r->weight_decay * *w;
    *m = r->beta1 * *m + (1 - r->beta1) * g;
    *v = r->beta2 * *v + (1 - r->beta2) * g * g;
    *w -= r->lr * (*m / (1 - pow(r->beta1, (double)t))) /
          (sqrt(*v / (1 - pow(r->beta2, (double)t))) + r->eps);
}
