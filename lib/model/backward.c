/* SPDX-License-Identifier: Apache-2.0 */
/* Gradient of the logits to gradients of the parameters. dx is the gradient
 * at the residual stream on its way down; each layer adds to it. */
#include "model/transformer.h"

static const cadft__parameter *
parameter(const cadft__run *run, int64_t layer, int32_t kind)
{
    return cadft__parameters_get(&run->model->parameters, layer, kind);
}

static int wanted(const cadft__run *run, int64_t layer, int32_t kind)
{
    return cadft__run_wants(run, parameter(run, layer, kind));
}

/* Is anything of the layer that feeds the residual's first half trainable? */
static int attention_wanted(const cadft__run *run, int64_t l)
{
    return cadft__linear_wanted(run, l, &cadft__linear_qkv) ||
           wanted(run, l, CADFT__NORM_1) || wanted(run, l, CADFT__Q_NORM) ||
           wanted(run, l, CADFT__K_NORM);
}

static int layer_wanted(const cadft__run *run, int64_t l)
{
    return attention_wanted(run, l) ||
           cadft__linear_wanted(run, l, &cadft__linear_out) ||
           cadft__linear_wanted(run, l, &cadft__linear_gate_up) ||
           cadft__linear_wanted(run, l, &cadft__linear_down) ||
           wanted(run, l, CADFT__NORM_2);
}

/* The lowest layer that has to be visited: -1 for the embedding itself. */
static int64_t lowest(const cadft__run *run)
{
    int64_t l = 0, layers = run->model->config.layers;
    if (wanted(run, -1, CADFT__EMBED))
        return -1;
    while (l < layers && !layer_wanted(run, l))
        l++;
    return l;
}

/* grad_x += gradient of a norm over whole rows, and its output into y. */
static int32_t norm_grad(cadft__run *run,
                         const cadft__parameter *weight,
                         int64_t rows,
                         cadft_array x,
                         cadft_array inv,
                         cadft_array y,
                         cadft_array grad_y,
                         cadft_array grad_x)
{
    int64_t hidden = run->model->config.hidden;
    cadft_norm_args args = {
        .x = x,
        .y = y,
        .weight = cadft__parameters_weight(&run->model->parameters, weight),
        .inv = inv,
        .grad_y = grad_y,
        .grad_x = grad_x,
        .grad_weight = cadft__parameters_grad(&run->model->parameters, weight),
        .rows = rows,
        .groups = 1,
        .cols = hidden,
        .x_stride = hidden,
        .y_stride = hidden,
        .grad_x_stride = hidden,
    };
    return cadft__run_norm_grad(run, &args);
}

/* ------------------------------------------------------------------- head */

/* dW += dlogits^T last_h, into the embedding where the head is tied to it. */
static int32_t head_weight_grad(cadft__run *run,
                                const cadft__parameter *weight,
                                cadft_array grad_logits,
                                int64_t grad_stride)
{
    const cadft__config *c = &run->model->config;
    cadft_matmul_args args = {
        .a_transposed = 1,
        .b_dtype = CADFT_DTYPE_F32,
        .accumulate = 1,
        .a = grad_logits,
        .b = run->workspace->last_h,
        .c = cadft__parameters_grad(&run->model->parameters, weight),
        .m = c->vocab,
        .n = c->hidden,
        .k = run->sequences->logit_rows,
        .a_stride = grad_stride,
        .b_stride = c->hidden,
        .c_stride = c->hidden,
    };
    return cadft__run_wants(run, weight) ? cadft__run_matmul(run, &args)
                                         : CADFT_OK;
}

/* Through the last norm, from the gradient in dh [N, H] to dx. */
static int32_t last_norm_grad(cadft__run *run)
{
    const cadft__workspace *w = run->workspace;
    const cadft__sequences *s = run->sequences;
    const cadft__config *c = &run->model->config;
    const cadft__parameter *weight = parameter(run, -1, CADFT__NORM);
    cadft_array none = {NULL, 0};
    cadft_array x = cadft__workspace_layer(w, c->layers).x;
    uint64_t row = (uint64_t)c->hidden * sizeof(float);
    cadft_rows_args put = {
        .table_dtype = CADFT_DTYPE_F32,
        .table = w->dx,
        .index = w->selected,
        .x = w->last_h, /* its own content is not needed any more */
        .table_rows = s->rows,
        .table_stride = c->hidden,
        .rows = s->logit_rows,
        .cols = c->hidden,
        .x_stride = c->hidden,
    };
    CADFT__TRY(cadft__run_zero(run, w->dx, (uint64_t)s->rows * row));
    if (s->all_logits)
        return norm_grad(run, weight, s->rows, x, w->last_inv, none, w->dh,
                         w->dx);
    CADFT__TRY(cadft__run_zero(run, put.x, (uint64_t)s->logit_rows * row));
    CADFT__TRY(norm_grad(run, weight, s->logit_rows, w->picked, w->last_inv,
                         none, w->dh, put.x));
    return cadft__run_rows(run, CADFT_OP_ROWS_PUT, &put);
}

static int32_t head_grad(cadft__run *run,
                         cadft_array grad_logits,
                         int64_t grad_stride,
                         int below)
{
    const cadft__config *c = &run->model->config;
    const cadft__parameter *weight =
        parameter(run, -1, c->tied ? CADFT__EMBED : CADFT__HEAD);
    cadft_matmul_args args = {
        .b_dtype = run->model->parameters.dtype,
        .a = grad_logits,
        .b = cadft__parameters_weight(&run->model->parameters, weight),
        .c = run->workspace->dh,
        .m = run->sequences->logit_rows,
        .n = c->hidden,
        .k = c->vocab,
        .a_stride = grad_stride,
        .b_stride = c->hidden,
        .c_stride = c->hidden,
    };
    CADFT__TRY(head_weight_grad(run, weight, grad_logits, grad_stride));
    if (!below && !wanted(run, -1, CADFT__NORM))
        return CADFT_OK;
    CADFT__TRY(cadft__run_matmul(run, &args));
    return last_norm_grad(run);
}

/* -------------------------------------------------------------------- MLP */

/* dx is the gradient at the layer's output; adds that at `mid`. */
static int32_t mlp_grad(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__workspace *w = run->workspace;
    int64_t i = run->model->config.intermediate;
    cadft_swiglu_args args = {
        .gate = layer->gate_up,
        .up = cadft__after(layer->gate_up, i),
        .out = w->inner,
        .grad_out = w->inner,
        .grad_gate = layer->gate_up,
        .grad_up = cadft__after(layer->gate_up, i),
        .rows = run->sequences->rows,
        .cols = i,
        .in_stride = 2 * i,
        .out_stride = i,
    };
    CADFT__TRY(
        cadft__linear_input_grad(run, l, &cadft__linear_down, w->dx, w->inner));
    CADFT__TRY(cadft__run_swiglu(run, &args, 1));
    CADFT__TRY(cadft__linear_weight_grad(run, l, &cadft__linear_down, w->dx,
                                         w->inner));
    CADFT__TRY(cadft__linear_input_grad(run, l, &cadft__linear_gate_up,
                                        layer->gate_up, w->dh));
    CADFT__TRY(norm_grad(run, parameter(run, l, CADFT__NORM_2),
                         run->sequences->rows, layer->mid, layer->inv_2, w->h,
                         w->dh, w->dx));
    return cadft__linear_weight_grad(run, l, &cadft__linear_gate_up,
                                     layer->gate_up, w->h);
}

/* -------------------------------------------------------------- attention */

/* From the gradient of normed q and k in dqk to that of the raw ones. */
static int32_t
head_norm_grad(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__workspace *w = run->workspace;
    const cadft__parameters *p = &run->model->parameters;
    const cadft__config *c = &run->model->config;
    int64_t q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    const cadft__parameter *weight = parameter(run, l, CADFT__Q_NORM);
    cadft_norm_args args = {
        .x = layer->qkv,
        .weight = cadft__parameters_weight(p, weight),
        .inv = layer->q_inv,
        .grad_y = w->dqk,
        .grad_x = w->dqkv,
        .grad_weight = cadft__parameters_grad(p, weight),
        .rows = run->sequences->rows,
        .groups = c->heads,
        .cols = c->head_dim,
        .x_stride = q + 2 * k,
        .y_stride = q + k,
        .grad_x_stride = q + 2 * k,
    };
    CADFT__TRY(cadft__run_norm_grad(run, &args));
    weight = parameter(run, l, CADFT__K_NORM);
    args.x = cadft__after(layer->qkv, q);
    args.weight = cadft__parameters_weight(p, weight);
    args.inv = layer->k_inv;
    args.grad_y = cadft__after(w->dqk, q);
    args.grad_x = cadft__after(w->dqkv, q);
    args.grad_weight = cadft__parameters_grad(p, weight);
    args.groups = c->kv_heads;
    return cadft__run_norm_grad(run, &args);
}

/* Gradient of attention's output, in `inner`, to that of q, k, v in dqkv. */
static int32_t qkv_grad(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__workspace *w = run->workspace;
    const cadft__config *c = &run->model->config;
    int64_t q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    cadft_array qk = c->qk_norm ? layer->qk : layer->qkv;
    cadft_array dqk = c->qk_norm ? w->dqk : w->dqkv;
    int64_t stride = q + 2 * k, qk_stride = c->qk_norm ? q + k : stride;
    cadft_attention_args args = {
        .q = qk,
        .k = cadft__after(qk, q),
        .v = cadft__after(layer->qkv, q + k),
        .out = layer->attention,
        .lse = layer->lse,
        .grad_out = w->inner,
        .grad_q = dqk,
        .grad_k = cadft__after(dqk, q),
        .grad_v = cadft__after(w->dqkv, q + k),
        .q_stride = qk_stride,
        .k_stride = qk_stride,
        .v_stride = stride,
        .out_stride = q,
    };
    if (c->qk_norm) /* norm_grad adds to it */
        CADFT__TRY(cadft__run_zero(run, w->dqkv,
                                   (uint64_t)(run->sequences->rows * stride) *
                                       sizeof(float)));
    CADFT__TRY(cadft__run_attention(run, &args, 1));
    CADFT__TRY(cadft__run_rope(run, args.grad_q, c->heads, qk_stride, 1));
    CADFT__TRY(cadft__run_rope(run, args.grad_k, c->kv_heads, qk_stride, 1));
    return c->qk_norm ? head_norm_grad(run, l, layer) : CADFT_OK;
}

/* dx is the gradient at `mid`; adds that at the layer's input. */
static int32_t
attention_grad(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__workspace *w = run->workspace;
    CADFT__TRY(cadft__linear_weight_grad(run, l, &cadft__linear_out, w->dx,
                                         layer->attention));
    if (lowest(run) == l && !attention_wanted(run, l))
        return CADFT_OK;
    CADFT__TRY(
        cadft__linear_input_grad(run, l, &cadft__linear_out, w->dx, w->inner));
    CADFT__TRY(qkv_grad(run, l, layer));
    CADFT__TRY(
        cadft__linear_input_grad(run, l, &cadft__linear_qkv, w->dqkv, w->dh));
    CADFT__TRY(norm_grad(run, parameter(run, l, CADFT__NORM_1),
                         run->sequences->rows, layer->x, layer->inv_1, w->h,
                         w->dh, w->dx));
    return cadft__linear_weight_grad(run, l, &cadft__linear_qkv, w->dqkv, w->h);
}

/* ------------------------------------------------------------------ layers */

static int32_t embed_grad(cadft__run *run)
{
    const cadft__config *c = &run->model->config;
    const cadft__parameter *embed = parameter(run, -1, CADFT__EMBED);
    cadft_rows_args args = {
        .table_dtype = CADFT_DTYPE_F32,
        .table = cadft__parameters_grad(&run->model->parameters, embed),
        .index = run->workspace->tokens,
        .x = run->workspace->dx,
        .table_rows = c->vocab,
        .table_stride = c->hidden,
        .rows = run->sequences->rows,
        .cols = c->hidden,
        .x_stride = c->hidden,
    };
    return cadft__run_rows(run, CADFT_OP_ROWS_ADD, &args);
}

int32_t
cadft__backward(cadft__run *run, cadft_array grad_logits, int64_t grad_stride)
{
    int64_t layers = run->model->config.layers, last = lowest(run);
    int64_t first = run->dry ? 0 : layers - 1; /* layers are alike */
    CADFT__TRY(head_grad(run, grad_logits, grad_stride, last < layers));
    for (int64_t l = first; l >= 0 && l >= last; l--) {
        cadft__layer layer = cadft__workspace_layer(run->workspace, l);
        if (run->model->options.checkpointing)
            CADFT__TRY(cadft__forward_layer(run, l, 1));
        CADFT__TRY(mlp_grad(run, l, &layer));
        CADFT__TRY(attention_grad(run, l, &layer));
    }
    return last < 0 ? embed_grad(run) : CADFT_OK;
}
