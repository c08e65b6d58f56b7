/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

/* ------------------------------------------------------------------ model */

/* The way back, of tensors of the library's own. */
static void view_of(const cadft_tensor *tensor, gocadft_view *view, char **data)
{
    *view = (gocadft_view){.ndim = tensor->ndim,
                           .strided = tensor->strides != NULL,
                           .present = tensor->data != NULL,
                           .device_type = tensor->device_type,
                           .device_id = tensor->device_id};
    view->dtype = tensor->dtype_code | tensor->dtype_bits << 8 |
                  tensor->dtype_lanes << 16;
    for (int32_t d = 0; d < tensor->ndim && d < GOCADFT_DIMS; d++) {
        view->shape[d] = tensor->shape[d];
        view->strides[d] = tensor->strides ? tensor->strides[d] : 0;
    }
    *data = tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
}

int32_t gocadft_model_forward(cadft_model *model,
                              const gocadft_model_batch *batch,
                              char *tokens,
                              char *cu_seqlens,
                              char *lengths,
                              char *logit_rows,
                              char *stream,
                              gocadft_view *view,
                              char **logits,
                              cadft_error *e)
{
    cadft_tensor t[4], out = {.struct_size = sizeof out};
    cadft_model_batch b = {
        .struct_size = sizeof b, .no_grad = batch->no_grad, .stream = stream};
    int32_t status = CADFT_OK;
    gocadft_tensor(&batch->tokens, tokens, &t[0], &b.tokens, &status, e);
    gocadft_tensor(&batch->cu_seqlens, cu_seqlens, &t[1], &b.cu_seqlens,
                   &status, e);
    gocadft_tensor(&batch->lengths, lengths, &t[2], &b.lengths, &status, e);
    gocadft_tensor(&batch->logit_rows, logit_rows, &t[3], &b.logit_rows,
                   &status, e);
    if (!status)
        status = cadft_model_forward(model, &b, &out, e);
    if (!status) {
        view_of(&out, view, logits);
        view->present = 1; /* no logit rows: a tensor without elements */
    }
    return status;
}

int32_t gocadft_model_backward(cadft_model *model,
                               const gocadft_view *view,
                               char *grad_logits,
                               cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, grad_logits, &tensor, &t, &status, e);
    return status ? status : cadft_model_backward(model, t, e);
}

int32_t gocadft_model_parameter(cadft_model *model,
                                int64_t index,
                                const char **name,
                                gocadft_view *value_view,
                                char **value,
                                gocadft_view *grad_view,
                                char **grad,
                                int32_t *trainable,
                                cadft_error *e)
{
    cadft_tensor v = {.struct_size = sizeof v}, g = {.struct_size = sizeof g};
    int32_t status =
        cadft_model_parameter(model, index, name, &v, &g, trainable, e);
    if (!status) {
        view_of(&v, value_view, value);
        view_of(&g, grad_view, grad);
    }
    return status;
}

static int32_t on_token_drawn(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    return gocadftToken((uintptr_t)user, prompt, position, token, logprob);
}

int32_t gocadft_model_generate(cadft_model *model,
                               const gocadft_generate *desc,
                               char *tokens,
                               char *cu_seqlens,
                               char *lengths,
                               const int32_t *stop_tokens,
                               const int64_t *keys,
                               uintptr_t on_token,
                               int32_t *drawn,
                               int64_t *counts,
                               cadft_error *e)
{
    cadft_tensor t[3];
    cadft_generate_desc d = {.struct_size = sizeof d,
                             .max_new_tokens = desc->max_new_tokens,
                             .temperature = desc->temperature,
                             .top_p = desc->top_p,
                             .stop_tokens = stop_tokens,
                             .n_stop_tokens = desc->n_stop_tokens,
                             .seed = desc->seed,
                             .keys = keys,
                             .step = desc->step,
                             .on_token = on_token ? on_token_drawn : NULL,
                             .user = (void *)on_token,
                             .n_prompts = desc->n_prompts};
    int32_t status = CADFT_OK;
    gocadft_tensor(&desc->tokens, tokens, &t[0], &d.tokens, &status, e);
    gocadft_tensor(&desc->cu_seqlens, cu_seqlens, &t[1], &d.cu_seqlens, &status,
                   e);
    gocadft_tensor(&desc->lengths, lengths, &t[2], &d.lengths, &status, e);
    return status ? status : cadft_model_generate(model, &d, drawn, counts, e);
}

/* ----------------------------------------- optimizer, rewriting, checkpoints
 */

int32_t gocadft_optimizer_add(cadft_optimizer *optimizer,
                              const char *name,
                              const gocadft_view *value_view,
                              char *value,
                              const gocadft_view *grad_view,
                              char *grad,
                              cadft_error *e)
{
    cadft_tensor tensors[2];
    const cadft_tensor *v, *g;
    int32_t status = CADFT_OK;
    gocadft_tensor(value_view, value, &tensors[0], &v, &status, e);
    gocadft_tensor(grad_view, grad, &tensors[1], &g, &status, e);
    return status ? status : cadft_optimizer_add(optimizer, name, v, g, e);
}

int32_t gocadft_rewrite_commit(cadft_rewrite *rewrite,
                               int64_t id,
                               int32_t ended,
                               const int32_t *tokens,
                               int64_t n_tokens,
                               double c_new,
                               double c_old,
                               int32_t *rejected,
                               cadft_error *e)
{
    cadft_rewrite_result result = {.struct_size = sizeof result,
                                   .ended = ended,
                                   .tokens = tokens,
                                   .n_tokens = n_tokens,
                                   .c_new = c_new,
                                   .c_old = c_old};
    return cadft_rewrite_commit(rewrite, id, &result, rejected, e);
}

int32_t gocadft_checkpoint_save(cadft_context *context,
                                const char *folder,
                                int64_t step,
                                int32_t keep,
                                cadft_model *model,
                                cadft_optimizer *optimizer,
                                cadft_loss *loss,
                                cadft_rewrite *rewrite,
                                const char *host,
                                size_t host_bytes,
                                cadft_error *e)
{
    cadft_checkpoint point = {.struct_size = sizeof point,
                              .keep = keep,
                              .folder = folder,
                              .step = step,
                              .model = model,
                              .optimizer = optimizer,
                              .loss = loss,
                              .rewrite = rewrite,
                              .host = host,
                              .host_bytes = host_bytes};
    return cadft_checkpoint_save(context, &point, e);
}

int32_t gocadft_checkpoint_load(cadft_context *context,
                                const char *folder,
                                int64_t step,
                                cadft_model *model,
                                cadft_optimizer *optimizer,
                                cadft_loss *loss,
                                cadft_rewrite *rewrite,
                                char *host,
                                size_t capacity,
                                size_t *host_bytes,
                                cadft_error *e)
{
    cadft_checkpoint point = {.struct_size = sizeof point,
                              .folder = folder,
                              .step = step,
                              .model = model,
                              .optimizer = optimizer,
                              .loss = loss,
                              .rewrite = rewrite};
    return cadft_checkpoint_load(context, &point, host, capacity, host_bytes,
                                 e);
}
