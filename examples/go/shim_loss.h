/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of loss.h that take tensors or a callback. See shim.h. */
#ifndef EXAMPLES_GO_SHIM_LOSS_H
#define EXAMPLES_GO_SHIM_LOSS_H

#include "shim.h"

/* The calls that read a batch: one function, for their many addresses. */
enum { GOCADFT_COMPUTE, GOCADFT_OBSERVE, GOCADFT_GRAD };

typedef struct gocadft_loss_views {
    gocadft_view logits, labels, sample_ids, k, grad;
} gocadft_loss_views;

/* `number`: n_samples of compute, micro of grad. `micro`: of observe. `scale`
 * and `report`: of compute. */
static inline int32_t gocadft_loss_read(int32_t call,
                                        cadft_loss *loss,
                                        int64_t number,
                                        const cadft_loss_batch *batch,
                                        const gocadft_loss_views *views,
                                        char *logits,
                                        char *labels,
                                        char *sample_ids,
                                        char *k,
                                        char *grad_data,
                                        float *scale,
                                        cadft_loss_report *report,
                                        int64_t *micro,
                                        cadft_error *e)
{
    const cadft_tensor *grad = GOCADFT_TENSOR(&views->grad, grad_data);
    cadft_loss_batch b = *batch;
    b.logits = GOCADFT_TENSOR(&views->logits, logits);
    b.labels = GOCADFT_TENSOR(&views->labels, labels);
    b.sample_ids = GOCADFT_TENSOR(&views->sample_ids, sample_ids);
    b.k = GOCADFT_TENSOR(&views->k, k);
    switch (call) {
    case GOCADFT_COMPUTE:
        return cadft_loss_compute(loss, &b, number, grad, scale, report, e);
    case GOCADFT_OBSERVE:
        return cadft_loss_observe(loss, &b, grad, micro, e);
    default:
        return cadft_loss_grad(loss, number, &b, grad, e);
    }
}

static inline int32_t gocadft_coefficient(void *user,
                                          int64_t rows,
                                          const double *l,
                                          const double *p,
                                          const double *entropy,
                                          double *k)
{
    return gocadftCoefficient((uintptr_t)user, rows, (double *)(uintptr_t)l,
                              (double *)(uintptr_t)p,
                              (double *)(uintptr_t)entropy, k);
}

/* `fn`: the handle of a Go value, which gocadftRelease gives back, or 0. */
static inline int32_t
gocadft_loss_set_coefficient(cadft_loss *loss, uintptr_t fn, cadft_error *e)
{
    cadft_coefficient bundle = {.struct_size = sizeof bundle,
                                .user = (void *)fn,
                                .fn = gocadft_coefficient,
                                .destroy = gocadft_release};
    return cadft_loss_set_coefficient(loss, fn ? &bundle : NULL, e);
}

/* ------------------------------------------------------------- sample ids */

static inline int32_t gocadft_sample_ids_padded(int64_t n_sequences,
                                                int64_t length,
                                                const gocadft_view *view,
                                                char *lengths,
                                                int32_t first_id,
                                                int32_t *ids,
                                                cadft_error *e)
{
    return cadft_sample_ids_padded(
        n_sequences, length, GOCADFT_TENSOR(view, lengths), first_id, ids, e);
}

static inline int32_t gocadft_sample_ids_cu_seqlens(const gocadft_view *view,
                                                    char *cu_seqlens,
                                                    int64_t rows,
                                                    int32_t first_id,
                                                    int32_t *ids,
                                                    cadft_error *e)
{
    return cadft_sample_ids_cu_seqlens(GOCADFT_TENSOR(view, cu_seqlens), rows,
                                       first_id, ids, e);
}

static inline int32_t gocadft_sample_ids_position_ids(const gocadft_view *view,
                                                      char *position_ids,
                                                      int32_t first_id,
                                                      int32_t *ids,
                                                      int64_t *n_samples,
                                                      cadft_error *e)
{
    return cadft_sample_ids_position_ids(GOCADFT_TENSOR(view, position_ids),
                                         first_id, ids, n_samples, e);
}

#endif
