/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the optimizer share: parameters in the backend's memory,
 * and the update rules in float64, written from doc/optimizer.md. */
#ifndef TESTS_OPTIMIZER_SUPPORT_H
#define TESTS_OPTIMIZER_SUPPORT_H

#include "model_support.h"

/* A dense tensor that a host of any backend owns. */
typedef struct array {
    cadft_context *context;
    void *base;
    uint64_t bytes;
    int64_t n, shape[4];
    cadft_tensor view;
    int32_t dtype;
} array;

void array_new(array *a,
               cadft_context *context,
               int32_t dtype,
               int32_t ndim,
               const int64_t *shape);
void array_free(array *a);
void array_put(array *a, const double *values); /* rounded to the type */
void array_get(const array *a, double *out);
/* The bytes as they are, a->bytes of them; free them. */
void *array_bytes(const array *a);

/* A parameter of the host's. */
typedef struct param {
    char name[64];
    array value, grad;
} param;

void param_new(param *p,
               cadft_context *context,
               const char *name,
               int32_t value_dtype,
               int32_t grad_dtype,
               int32_t ndim,
               const int64_t *shape);
void param_free(param *p);
void param_add(param *p, cadft_optimizer *optimizer); /* must succeed */

/* Values N(0, scale), as they are after rounding to the type. */
void array_normal(array *a, double scale);

cadft_optimizer *optimizer_new(cadft_context *context);
void optimizer_set(cadft_optimizer *optimizer, int32_t key, double value);
int64_t optimizer_fact(cadft_optimizer *optimizer, int32_t key);
/* A step that must succeed. */
cadft_optimizer_report optimizer_step(cadft_optimizer *optimizer);

/* One element in float64, and what a step of it takes. */
typedef struct rule {
    int sgd, nesterov;
    double lr, beta1, beta2, eps, weight_decay; /* beta1: sgd's momentum */
} rule;
void rule_step(
    const rule *rule, int64_t t, double g, double *w, double *m, double *v);

#endif
