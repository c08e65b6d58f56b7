/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of model.h that take or give tensors. See shim.h. */
#ifndef EXAMPLES_GO_SHIM_MODEL_H
#define EXAMPLES_GO_SHIM_MODEL_H

#include "shim.h"

typedef struct gocadft_model_views {
    gocadft_view tokens, cu_seqlens, lengths, logit_rows;
} gocadft_model_views;

static inline int32_t gocadft_model_forward(cadft_model *model,
                                            const cadft_model_batch *batch,
                                            const gocadft_model_views *views,
                                            char *tokens,
                                            char *cu_seqlens,
                                            char *lengths,
                                            char *logit_rows,
                                            gocadft_view *view,
                                            char **logits,
                                            cadft_error *e)
{
    cadft_tensor out = {.struct_size = sizeof out};
    cadft_model_batch b = *batch;
    b.tokens = GOCADFT_TENSOR(&views->tokens, tokens);
    b.cu_seqlens = GOCADFT_TENSOR(&views->cu_seqlens, cu_seqlens);
    b.lengths = GOCADFT_TENSOR(&views->lengths, lengths);
    b.logit_rows = GOCADFT_TENSOR(&views->logit_rows, logit_rows);
    int32_t status = cadft_model_forward(model, &b, &out, e);
    if (!status) {
        gocadft_view_of(&out, view, logits);
        view->present = 1; /* no logit rows: a tensor without elements */
    }
    return status;
}

static inline int32_t gocadft_model_backward(cadft_model *model,
                                             const gocadft_view *view,
                                             char *grad_logits,
                                             cadft_error *e)
{
    return cadft_model_backward(model, GOCADFT_TENSOR(view, grad_logits), e);
}

static inline int32_t gocadft_model_parameter(cadft_model *model,
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
        gocadft_view_of(&v, value_view, value);
        gocadft_view_of(&g, grad_view, grad);
    }
    return status;
}

static inline int32_t gocadft_on_token(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    return gocadftToken((uintptr_t)user, prompt, position, token, logprob);
}

/* `on_token`: the handle of a Go value, or 0. */
static inline int32_t gocadft_model_generate(cadft_model *model,
                                             const cadft_generate_desc *desc,
                                             const gocadft_model_views *views,
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
    cadft_generate_desc d = *desc;
    d.tokens = GOCADFT_TENSOR(&views->tokens, tokens);
    d.cu_seqlens = GOCADFT_TENSOR(&views->cu_seqlens, cu_seqlens);
    d.lengths = GOCADFT_TENSOR(&views->lengths, lengths);
    d.stop_tokens = stop_tokens;
    d.keys = keys;
    d.on_token = on_token ? gocadft_on_token : NULL;
    d.user = (void *)on_token;
    return cadft_model_generate(model, &d, drawn, counts, e);
}

#endif
