/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer.h"

static int32_t
view(cadft_tensor *out, int32_t *data, int64_t *n, cadft_error *e)
{
    return cadft_tensor_init(out, sizeof *out, data, CADFT_DTYPE_I32, 1, n,
                             NULL, e);
}

/* Only rows with a label need logits: the others cost no product with the
 * vocabulary. */
static int32_t views_fill(views *v, const micro_batch *m, cadft_error *e)
{
    v->rows = m->rows;
    v->bounds = m->n_samples + 1;
    v->logit_rows = m->n_logit_rows;
    int32_t status = view(&v->tokens, m->tokens, &v->rows, e);
    if (status == CADFT_OK)
        status = view(&v->cu_seqlens, m->cu_seqlens, &v->bounds, e);
    if (status == CADFT_OK)
        status = view(&v->picked, m->logit_rows, &v->logit_rows, e);
    if (status == CADFT_OK)
        status = view(&v->labels, m->labels, &v->logit_rows, e);
    if (status == CADFT_OK)
        status = view(&v->sample_ids, m->sample_ids, &v->logit_rows, e);
    return status;
}

int forward(cadft_model *model,
            const micro_batch *micro,
            int no_grad,
            views *v,
            text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int32_t status = views_fill(v, micro, &e);
    v->model = (cadft_model_batch){.struct_size = sizeof v->model,
                                   .no_grad = no_grad,
                                   .tokens = &v->tokens,
                                   .cu_seqlens = &v->cu_seqlens,
                                   .logit_rows = &v->picked};
    v->logits = (cadft_tensor){.struct_size = sizeof v->logits};
    if (status == CADFT_OK)
        status = cadft_model_forward(model, &v->model, &v->logits, &e);
    v->loss = (cadft_loss_batch){.struct_size = sizeof v->loss,
                                 .logits = &v->logits,
                                 .labels = &v->labels,
                                 .sample_ids = &v->sample_ids};
    return checked(status, &e, error);
}

int observe(cadft_loss *loss, const views *v, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int64_t number;
    return checked(cadft_loss_observe(loss, &v->loss, NULL, &number, &e), &e,
                   error);
}

int backward(cadft_model *model,
             cadft_loss *loss,
             int64_t observed,
             views *v,
             text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int32_t status = cadft_loss_grad(loss, observed, &v->loss, &v->logits, &e);
    if (status == CADFT_OK)
        status = cadft_model_backward(model, &v->logits, &e);
    return checked(status, &e, error);
}
