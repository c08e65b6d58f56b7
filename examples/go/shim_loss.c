/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

/* ------------------------------------------------------------------- loss */

/* A batch and what it points to. */
typedef struct batch_tensors {
    cadft_tensor logits, labels, sample_ids, k, grad;
    const cadft_tensor *grad_or_null;
    cadft_loss_batch batch;
} batch_tensors;

static int32_t batch_of(batch_tensors *t,
                        const gocadft_loss_batch *from,
                        char *logits,
                        char *labels,
                        char *sample_ids,
                        char *k,
                        char *stream,
                        const gocadft_view *grad,
                        char *grad_data,
                        cadft_error *e)
{
    cadft_loss_batch *b = &t->batch;
    int32_t status = CADFT_OK;
    *b = (cadft_loss_batch){.struct_size = sizeof *b,
                            .vocab_valid = from->vocab_valid,
                            .vocab_start = from->vocab_start,
                            .vocab_total = from->vocab_total,
                            .stream = stream};
    gocadft_tensor(&from->logits, logits, &t->logits, &b->logits, &status, e);
    gocadft_tensor(&from->labels, labels, &t->labels, &b->labels, &status, e);
    gocadft_tensor(&from->sample_ids, sample_ids, &t->sample_ids,
                   &b->sample_ids, &status, e);
    gocadft_tensor(&from->k, k, &t->k, &b->k, &status, e);
    gocadft_tensor(grad, grad_data, &t->grad, &t->grad_or_null, &status, e);
    return status;
}

int32_t gocadft_loss_compute(cadft_loss *loss,
                             const gocadft_loss_batch *batch,
                             char *logits,
                             char *labels,
                             char *sample_ids,
                             char *k,
                             char *stream,
                             int64_t n_samples,
                             const gocadft_view *grad,
                             char *grad_data,
                             float *row_scale,
                             cadft_loss_report *report,
                             cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    report->struct_size = sizeof *report;
    return status ? status
                  : cadft_loss_compute(loss, &t.batch, n_samples,
                                       t.grad_or_null, row_scale, report, e);
}

int32_t gocadft_loss_observe(cadft_loss *loss,
                             const gocadft_loss_batch *batch,
                             char *logits,
                             char *labels,
                             char *sample_ids,
                             char *k,
                             char *stream,
                             const gocadft_view *grad,
                             char *grad_data,
                             int64_t *micro,
                             cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    return status
               ? status
               : cadft_loss_observe(loss, &t.batch, t.grad_or_null, micro, e);
}

int32_t gocadft_loss_grad(cadft_loss *loss,
                          int64_t micro,
                          const gocadft_loss_batch *batch,
                          char *logits,
                          char *labels,
                          char *sample_ids,
                          char *k,
                          char *stream,
                          const gocadft_view *grad,
                          char *grad_data,
                          cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    return status ? status
                  : cadft_loss_grad(loss, micro, &t.batch, t.grad_or_null, e);
}

/* cgo's exported functions know no const. */
static double *mutable(const double *values)
{
    return (double *)(uintptr_t)values;
}

static int32_t coefficient(void *user,
                           int64_t rows,
                           const double *l,
                           const double *p,
                           const double *entropy,
                           double *k)
{
    return gocadftCoefficient((uintptr_t)user, rows, mutable(l), mutable(p),
                              mutable(entropy), k);
}

int32_t gocadft_loss_coefficient(cadft_loss *loss, uintptr_t fn, cadft_error *e)
{
    cadft_coefficient bundle = {.struct_size = sizeof bundle,
                                .user = (void *)fn,
                                .fn = coefficient,
                                .destroy = gocadft_release};
    return cadft_loss_set_coefficient(loss, fn ? &bundle : NULL, e);
}

/* ------------------------------------------------------------- sample ids */

int32_t gocadft_ids_padded(int64_t n_sequences,
                           int64_t length,
                           const gocadft_view *view,
                           char *lengths,
                           int32_t first_id,
                           int32_t *ids,
                           cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, lengths, &tensor, &t, &status, e);
    return status ? status
                  : cadft_sample_ids_padded(n_sequences, length, t, first_id,
                                            ids, e);
}

int32_t gocadft_ids_cu_seqlens(const gocadft_view *view,
                               char *cu_seqlens,
                               int64_t rows,
                               int32_t first_id,
                               int32_t *ids,
                               cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, cu_seqlens, &tensor, &t, &status, e);
    return status ? status
                  : cadft_sample_ids_cu_seqlens(t, rows, first_id, ids, e);
}

int32_t gocadft_ids_position_ids(const gocadft_view *view,
                                 char *position_ids,
                                 int32_t first_id,
                                 int32_t *ids,
                                 int64_t *n_samples,
                                 cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, position_ids, &tensor, &t, &status, e);
    return status
               ? status
               : cadft_sample_ids_position_ids(t, first_id, ids, n_samples, e);
}
