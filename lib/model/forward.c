/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to logits. */
#include "backend/device.h"
#include "model/transformer.h"

static cadft_array weight(const cadft__run *run, int64_t layer, int32_t kind)
{
    const cadft__parameters *p = &run->model->parameters;
    return cadft__parameters_weight(p, cadft__parameters_get(p, layer, kind));
}

/* -------------------------------------------------------------- attention */

/* RMSNorm of each head of q and k, side by side in `qk`. */
static int32_t norm_heads(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__config *c = &run->model->config;
    int64_t q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    cadft_norm_args args = {
        .x = layer->qkv,
        .y = layer->qk,
        .weight = weight(run, l, CADFT__Q_NORM),
        .inv = layer->q_inv,
        .rows = run->sequences->rows,
        .groups = c->heads,
        .cols = c->head_dim,
        .x_stride = q + 2 * k,
        .y_stride = q + k,
    };
    CADFT__TRY(cadft__run_norm(run, &args));
    args.x = cadft__after(layer->qkv, q);
    args.y = cadft__after(layer->qk, q);
    args.weight = weight(run, l, CADFT__K_NORM);
    args.inv = layer->k_inv;
    args.groups = c->kv_heads;
    return cadft__run_norm(run, &args);
}

/* Put the batch's keys and values behind those of earlier calls. */
static int32_t
put_in_cache(cadft__run *run, int64_t l, cadft_attention_args *args)
{
    const cadft__config *c = &run->model->config;
    int64_t k = c->kv_heads * c->head_dim, rows = run->sequences->cache_rows;
    cadft_array keys = cadft__after(run->workspace->cache, 2 * l * rows * k);
    cadft_array values = cadft__after(keys, rows * k);
    cadft_rows_args put = {
        .table_dtype = CADFT_DTYPE_F32,
        .table = keys,
        .index = run->workspace->cached,
        .x = args->k,
        .table_rows = rows,
        .table_stride = k,
        .rows = run->sequences->rows,
        .cols = k,
        .x_stride = args->k_stride,
    };
    CADFT__TRY(cadft__run_rows(run, CADFT_OP_ROWS_PUT, &put));
    put.table = values;
    put.x = args->v;
    put.x_stride = args->v_stride;
    CADFT__TRY(cadft__run_rows(run, CADFT_OP_ROWS_PUT, &put));
    args->k = keys;
    args->v = values;
    args->k_stride = args->v_stride = k;
    return CADFT_OK;
}

/* Normed input in h to layer->attention. */
static int32_t attend(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__config *c = &run->model->config;
    int64_t q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    cadft_attention_args args = {
        .q = layer->qkv,
        .k = cadft__after(layer->qkv, q),
        .v = cadft__after(layer->qkv, q + k),
        .out = layer->attention,
        .lse = layer->lse,
        .q_stride = q + 2 * k,
        .k_stride = q + 2 * k,
        .v_stride = q + 2 * k,
        .out_stride = q,
    };
    CADFT__TRY(cadft__linear_forward(run, l, &cadft__linear_qkv,
                                     run->workspace->h, layer->qkv));
    if (c->qk_norm) {
        CADFT__TRY(norm_heads(run, l, layer));
        args.q = layer->qk;
        args.k = cadft__after(layer->qk, q);
        args.q_stride = args.k_stride = q + k;
    }
    CADFT__TRY(cadft__run_rope(run, args.q, c->heads, args.q_stride, 0));
    CADFT__TRY(cadft__run_rope(run, args.k, c->kv_heads, args.k_stride, 0));
    if (run->sequences->cache_rows)
        CADFT__TRY(put_in_cache(run, l, &args));
    return cadft__run_attention(run, &args, 0);
}

/* ----------------------------------------------------------------- layers */

/* x += residual, and its norm into h. Without a weight only the first. */
static int32_t add_norm(cadft__run *run,
                        cadft_array x,
                        cadft_array residual,
                        cadft_array norm_weight,
                        cadft_array inv)
{
    int64_t hidden = run->model->config.hidden;
    cadft_norm_args args = {
        .x = x,
        .residual = residual,
        .y = run->workspace->h,
        .weight = norm_weight,
        .inv = inv,
        .rows = run->sequences->rows,
        .groups = 1,
        .cols = hidden,
        .x_stride = hidden,
        .y_stride = hidden,
    };
    return cadft__run_add_norm(run, &args);
}

static int32_t first_norm(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    int64_t hidden = run->model->config.hidden;
    cadft_norm_args args = {
        .x = layer->x,
        .y = run->workspace->h,
        .weight = weight(run, l, CADFT__NORM_1),
        .inv = layer->inv_1,
        .rows = run->sequences->rows,
        .groups = 1,
        .cols = hidden,
        .x_stride = hidden,
        .y_stride = hidden,
    };
    return cadft__run_norm(run, &args);
}

/* The layer's output and the next one's norm, or the bare sum after the last
 * layer: not all of its rows may need logits. */
static int32_t
leave_layer(cadft__run *run, int64_t l, const cadft__layer *layer)
{
    const cadft__config *c = &run->model->config;
    cadft__layer next = cadft__workspace_layer(run->workspace, l + 1);
    cadft_add_args add = {
        .x = layer->mid,
        .y = next.x,
        .rows = run->sequences->rows,
        .cols = c->hidden,
        .x_stride = c->hidden,
        .y_stride = c->hidden,
    };
    CADFT__TRY(cadft__linear_forward(run, l, &cadft__linear_down,
                                     run->workspace->inner, next.x));
    if (l + 1 == c->layers)
        return cadft__run_add(run, &add);
    return add_norm(run, next.x, layer->mid, weight(run, l + 1, CADFT__NORM_1),
                    next.inv_1);
}

int32_t cadft__forward_layer(cadft__run *run, int64_t l, int32_t rerun)
{
    int64_t i = run->model->config.intermediate;
    cadft__layer layer = cadft__workspace_layer(run->workspace, l);
    cadft_swiglu_args args = {
        .gate = layer.gate_up,
        .up = cadft__after(layer.gate_up, i),
        .out = run->workspace->inner,
        .rows = run->sequences->rows,
        .cols = i,
        .in_stride = 2 * i,
        .out_stride = i,
    };
    if (rerun || l == 0) /* else leave_layer of the layer before did it */
        CADFT__TRY(first_norm(run, l, &layer));
    CADFT__TRY(attend(run, l, &layer));
    CADFT__TRY(cadft__linear_forward(run, l, &cadft__linear_out,
                                     layer.attention, layer.mid));
    CADFT__TRY(add_norm(run, layer.mid, layer.x, weight(run, l, CADFT__NORM_2),
                        layer.inv_2));
    CADFT__TRY(cadft__linear_forward(run, l, &cadft__linear_gate_up,
                                     run->workspace->h, layer.gate_up));
    if (rerun)
        return CADFT_OK;
    CADFT__TRY(cadft__run_swiglu(run, &args, 0));
    return leave_layer(run, l, &layer);
}

/* -------------------------------------------------------------- both ends */

static int32_t embed(cadft__run *run)
{
    const cadft__config *c = &run->model->config;
    cadft_rows_args args = {
        .table_dtype = run->model->parameters.dtype,
        .table = weight(run, -1, CADFT__EMBED),
        .index = run->workspace->tokens,
        .x = cadft__workspace_layer(run->workspace, 0).x,
        .table_rows = c->vocab,
        .table_stride = c->hidden,
        .rows = run->sequences->rows,
        .cols = c->hidden,
        .x_stride = c->hidden,
    };
    return cadft__run_rows(run, CADFT_OP_ROWS_GATHER, &args);
}

/* The rows that need logits, side by side: [N, H]. */
static int32_t pick_rows(cadft__run *run, cadft_array *out)
{
    const cadft__config *c = &run->model->config;
    cadft_array x = cadft__workspace_layer(run->workspace, c->layers).x;
    cadft_rows_args args = {
        .table_dtype = CADFT_DTYPE_F32,
        .table = x,
        .index = run->workspace->selected,
        .x = run->workspace->picked,
        .table_rows = run->sequences->rows,
        .table_stride = c->hidden,
        .rows = run->sequences->logit_rows,
        .cols = c->hidden,
        .x_stride = c->hidden,
    };
    *out = run->sequences->all_logits ? x : run->workspace->picked;
    if (run->sequences->all_logits)
        return CADFT_OK;
    return cadft__run_rows(run, CADFT_OP_ROWS_GATHER, &args);
}

static int32_t head(cadft__run *run)
{
    const cadft__config *c = &run->model->config;
    const cadft__workspace *w = run->workspace;
    cadft_norm_args norm = {
        .y = w->last_h,
        .weight = weight(run, -1, CADFT__NORM),
        .inv = w->last_inv,
        .rows = run->sequences->logit_rows,
        .groups = 1,
        .cols = c->hidden,
        .x_stride = c->hidden,
        .y_stride = c->hidden,
    };
    cadft_matmul_args product = {
        .b_transposed = 1,
        .b_dtype = run->model->parameters.dtype,
        .a = w->last_h,
        .b = weight(run, -1, c->tied ? CADFT__EMBED : CADFT__HEAD),
        .c = w->logits,
        .m = run->sequences->logit_rows,
        .n = c->vocab,
        .k = c->hidden,
        .a_stride = c->hidden,
        .b_stride = c->hidden,
        .c_stride = c->vocab,
    };
    CADFT__TRY(pick_rows(run, &norm.x));
    CADFT__TRY(cadft__run_norm(run, &norm));
    return cadft__run_matmul(run, &product);
}

static int32_t forward(cadft__run *run)
{
    int64_t layers = run->model->config.layers;
    CADFT__TRY(embed(run));
    for (int64_t l = 0; l < (run->dry ? 1 : layers); l++)
        CADFT__TRY(cadft__forward_layer(run, l, 0));
    return head(run);
}

/* ------------------------------------------------------------------- runs */

/* Scratch that the schedule wants for these sequences. */
static int32_t dry_run(cadft_model *model,
                       const cadft__sequences *sequences,
                       uint64_t *bytes,
                       cadft_error *error)
{
    cadft__workspace nothing = {0};
    cadft__run run = {
        .model = model,
        .sequences = sequences,
        .workspace = &nothing,
        .error = error,
        .dry = 1,
    };
    CADFT__TRY(forward(&run));
    if (!sequences->no_grad)
        CADFT__TRY(cadft__backward(&run, nothing.logits, model->config.vocab));
    *bytes = run.scratch_bytes;
    return CADFT_OK;
}

int32_t cadft__forward_plan(cadft_model *model,
                            cadft__sequences *sequences,
                            uint64_t *bytes,
                            cadft_error *error)
{
    uint64_t scratch;
    CADFT__TRY(dry_run(model, sequences, &scratch, error));
    return cadft__workspace_lay(model, sequences, scratch, bytes, error);
}

static int32_t
send(cadft__run *run, cadft_array to, const int32_t *from, int64_t count)
{
    if (!to.base)
        return CADFT_OK;
    return cadft__device_in(run->model->handle.context, run->stream, to, from,
                            (uint64_t)count * sizeof *from, run->error);
}

int32_t cadft__forward(cadft_model *model,
                       cadft__sequences *s,
                       void *stream,
                       cadft_error *error)
{
    cadft__workspace *w = &model->workspace;
    uint64_t scratch;
    cadft__run run = {
        .model = model,
        .sequences = s,
        .workspace = w,
        .stream = stream,
        .error = error,
    };
    if (stream != model->stream) /* it may still read the arena */
        CADFT__TRY(
            cadft__device_sync(model->handle.context, model->stream, error));
    CADFT__TRY(cadft__rope_reserve(model, s->longest, error));
    CADFT__TRY(dry_run(model, s, &scratch, error));
    CADFT__TRY(cadft__workspace_lay(model, s, scratch, NULL, error));
    model->stream = stream;
    CADFT__TRY(send(&run, w->tokens, s->tokens, s->rows));
    CADFT__TRY(send(&run, w->positions, s->positions, s->rows));
    CADFT__TRY(send(&run, w->cached, s->cached, s->rows));
    CADFT__TRY(send(&run, w->selected, s->selected, s->logit_rows));
    return forward(&run);
}
