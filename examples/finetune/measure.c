/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "trainer.h"

static int observe_all(trainer *t,
                       cadft_loss *loss,
                       const packed_step *p,
                       text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    views v;
    int status = TEXT_OK;
    for (size_t i = 0; i < p->n && status == TEXT_OK; i++) {
        status = forward(t->model, &p->micro[i], 1, &v, error);
        if (status == TEXT_OK)
            status = observe(loss, &v, error);
    }
    if (status == TEXT_OK)
        status = checked(cadft_loss_weigh(loss, &e), &e, error);
    return status;
}

/* A step of the loss without a gradient is an evaluation. Its handle is one
 * of its own: the running statistics are those of training. */
int measure_held(trainer *t, double *nll, double *p, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_loss *loss = NULL;
    cadft_loss_report report = {.struct_size = sizeof report};
    int64_t n = (int64_t)t->session->n_held;
    *nll = *p = NAN;
    if (n == 0)
        return TEXT_OK;
    int status =
        checked(cadft_loss_create(t->session->context, &loss, &e), &e, error);
    if (status == TEXT_OK)
        status = checked(cadft_loss_begin(loss, n, &e), &e, error);
    if (status == TEXT_OK)
        status = observe_all(t, loss, &t->held, error);
    if (status == TEXT_OK)
        status = checked(cadft_loss_end(loss, &report, &e), &e, error);
    cadft_loss_destroy(loss);
    if (status == TEXT_OK) {
        *nll = report.nll;
        *p = report.mean_p;
    }
    return status;
}

/* ---------------------------------------------------------- second moment */

/* Row scale w_i / n_i with n_i the rows of sample i: the mean over a batch of
 * one, so to speak. */
static int moment_loss(const trainer *t, cadft_loss **out, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int status = trainer_loss(t, out, error);
    if (status == TEXT_OK)
        status = checked(
            cadft_loss_set_i64(*out, CADFT_LOSS_SCOPE, CADFT_SCOPE_EXACT, &e),
            &e, error);
    if (status == TEXT_OK)
        status = checked(cadft_loss_set_i64(*out, CADFT_LOSS_REDUCTION,
                                            CADFT_REDUCTION_SAMPLE_MEAN, &e),
                         &e, error);
    if (status == TEXT_OK)
        status = checked(
            cadft_loss_set_f64(*out, CADFT_LOSS_DENOMINATOR, 1, &e), &e, error);
    return status;
}

/* Each sample alone, with the number it has among the n. */
static int pack_alone(const text_sample *const *samples,
                      size_t n,
                      packed_step *out,
                      text_error *error)
{
    int status = TEXT_OK;
    for (size_t i = 0; i < n && status == TEXT_OK; i++) {
        status = pack_step(&samples[i], 1, samples[i]->n, &out[i], error);
        if (status != TEXT_OK)
            break;
        micro_batch *m = &out[i].micro[0];
        for (int64_t r = 0; r < m->n_logit_rows; r++)
            m->sample_ids[r] = (int32_t)i;
    }
    return status;
}

/* The optimizer adds up the squares of all gradients. */
static int add_square(trainer *t,
                      cadft_loss *loss,
                      int64_t i,
                      const packed_step *alone,
                      double *sum,
                      text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    double square = 0, scale = 1;
    views v;
    int status = checked(cadft_model_zero_grad(t->model, &e), &e, error);
    if (status == TEXT_OK)
        status = forward(t->model, &alone->micro[0], 0, &v, error);
    if (status == TEXT_OK)
        status = backward(t->model, loss, i, &v, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_norm(t->optimizer, &square, &e), &e, error);
    if (status == TEXT_OK)
        status =
            checked(cadft_optimizer_get_f64(
                        t->optimizer, CADFT_OPTIMIZER_GRAD_SCALE, &scale, &e),
                    &e, error);
    *sum += square / (scale * scale);
    return status;
}

static int moment_of(trainer *t,
                     cadft_loss *loss,
                     const packed_step *alone,
                     size_t n,
                     double *out,
                     text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    double sum = 0;
    views v;
    int status = checked(cadft_loss_begin(loss, (int64_t)n, &e), &e, error);
    for (size_t i = 0; i < n && status == TEXT_OK; i++) {
        status = forward(t->model, &alone[i].micro[0], 1, &v, error);
        if (status == TEXT_OK)
            status = observe(loss, &v, error);
    }
    if (status == TEXT_OK)
        status = checked(cadft_loss_weigh(loss, &e), &e, error);
    for (size_t i = 0; i < n && status == TEXT_OK; i++)
        status = add_square(t, loss, (int64_t)i, &alone[i], &sum, error);
    *out = sum / (double)n;
    return status;
}

/* The data's own targets, so that both ends of a run measure the same. */
int measure_moment(trainer *t, double *out, text_error *error)
{
    const session *s = t->session;
    size_t n = (size_t)s->options->second_moment;
    n = n < s->n_train ? n : s->n_train;
    cadft_loss *loss = NULL;
    *out = NAN;
    if (n == 0)
        return TEXT_OK;
    const text_sample **samples = calloc(n, sizeof *samples);
    packed_step *alone = calloc(n, sizeof *alone);
    int status = samples && alone
                     ? moment_loss(t, &loss, error)
                     : text_fail(error, TEXT_FAILED, "out of memory");
    for (size_t i = 0; i < n && status == TEXT_OK; i++)
        samples[i] = s->train[session_sample(s, (int64_t)i)];
    if (status == TEXT_OK)
        status = pack_alone(samples, n, alone, error);
    if (status == TEXT_OK)
        status = moment_of(t, loss, alone, n, out, error);
    for (size_t i = 0; alone && i < n; i++)
        pack_free(&alone[i]);
    free(alone);
    free(samples);
    cadft_loss_destroy(loss);
    return status;
}
