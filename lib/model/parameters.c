/* SPDX-License-Identifier: Apache-2.0 */
#include "model/parameters.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "backend/ops.h"
#include "common/error.h"
#include "common/pattern.h"
#include "common/tensor.h"

/* 64 bytes of the smallest elements. */
enum { ALIGN = 32 };

/* ------------------------------------------------------------------- plan */

/* In the order of the kinds. Names in a layer start with
 * "model.layers.N.". */
static const struct {
    const char *name;
    int32_t inside; /* a layer */
    int32_t joined; /* to the one before, without a gap */
} kinds[CADFT__KINDS] = {
    [CADFT__EMBED] = {"model.embed_tokens.weight", 0, 0},
    [CADFT__NORM_1] = {"input_layernorm.weight", 1, 0},
    [CADFT__Q] = {"self_attn.q_proj.weight", 1, 0},
    [CADFT__K] = {"self_attn.k_proj.weight", 1, 1},
    [CADFT__V] = {"self_attn.v_proj.weight", 1, 1},
    [CADFT__Q_BIAS] = {"self_attn.q_proj.bias", 1, 0},
    [CADFT__K_BIAS] = {"self_attn.k_proj.bias", 1, 1},
    [CADFT__V_BIAS] = {"self_attn.v_proj.bias", 1, 1},
    [CADFT__Q_NORM] = {"self_attn.q_norm.weight", 1, 0},
    [CADFT__K_NORM] = {"self_attn.k_norm.weight", 1, 0},
    [CADFT__O] = {"self_attn.o_proj.weight", 1, 0},
    [CADFT__O_BIAS] = {"self_attn.o_proj.bias", 1, 0},
    [CADFT__NORM_2] = {"post_attention_layernorm.weight", 1, 0},
    [CADFT__GATE] = {"mlp.gate_proj.weight", 1, 0},
    [CADFT__UP] = {"mlp.up_proj.weight", 1, 1},
    [CADFT__GATE_BIAS] = {"mlp.gate_proj.bias", 1, 0},
    [CADFT__UP_BIAS] = {"mlp.up_proj.bias", 1, 1},
    [CADFT__DOWN] = {"mlp.down_proj.weight", 1, 0},
    [CADFT__DOWN_BIAS] = {"mlp.down_proj.bias", 1, 0},
    [CADFT__NORM] = {"model.norm.weight", 0, 0},
    [CADFT__HEAD] = {"lm_head.weight", 0, 0},
};

struct shape {
    int64_t rows, cols; /* rows 0: the model has none; cols 0: a vector */
};

static struct shape shape_of(const cadft__config *c, int32_t kind)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    switch (kind) {
    case CADFT__EMBED:
        return (struct shape){c->vocab, c->hidden};
    case CADFT__HEAD:
        return (struct shape){c->tied ? 0 : c->vocab, c->hidden};
    case CADFT__Q:
        return (struct shape){q, c->hidden};
    case CADFT__K:
    case CADFT__V:
        return (struct shape){kv, c->hidden};
    case CADFT__Q_BIAS:
        return (struct shape){c->qkv_bias ? q : 0, 0};
    case CADFT__K_BIAS:
    case CADFT__V_BIAS:
        return (struct shape){c->qkv_bias ? kv : 0, 0};
    case CADFT__Q_NORM:
    case CADFT__K_NORM:
        return (struct shape){c->qk_norm ? c->head_dim : 0, 0};
    case CADFT__O:
        return (struct shape){c->hidden, q};
    case CADFT__O_BIAS:
        return (struct shape){c->out_bias ? c->hidden : 0, 0};
    case CADFT__GATE:
    case CADFT__UP:
        return (struct shape){c->intermediate, c->hidden};
    case CADFT__GATE_BIAS:
    case CADFT__UP_BIAS:
        return (struct shape){c->mlp_bias ? c->intermediate : 0, 0};
    case CADFT__DOWN:
        return (struct shape){c->hidden, c->intermediate};
    case CADFT__DOWN_BIAS:
        return (struct shape){c->mlp_bias ? c->hidden : 0, 0};
    default: /* the norms */
        return (struct shape){c->hidden, 0};
    }
}

/* First element at or after `at` where a group may start. */
static int64_t align(int64_t at)
{
    return (at + ALIGN - 1) / ALIGN * ALIGN;
}

static void append(cadft__parameters *p,
                   const cadft__config *config,
                   int64_t layer,
                   int32_t kind)
{
    struct shape shape = shape_of(config, kind);
    int64_t row = layer < 0 ? p->layers : layer;
    cadft__parameter *parameter = &p->list[p->count];
    p->index[row][kind] = -1;
    if (!shape.rows || kinds[kind].inside != (layer >= 0))
        return;
    if (layer >= 0)
        snprintf(parameter->name, sizeof parameter->name, "model.layers.%d.%s",
                 (int)layer, kinds[kind].name);
    else
        snprintf(parameter->name, sizeof parameter->name, "%s",
                 kinds[kind].name);
    parameter->shape[0] = shape.rows;
    parameter->shape[1] = shape.cols ? shape.cols : 1;
    parameter->ndim = shape.cols ? 2 : 1;
    parameter->kind = kind;
    parameter->layer = layer;
    parameter->count = parameter->shape[0] * parameter->shape[1];
    parameter->trainable = 1;
    if (!kinds[kind].joined)
        p->elements = align(p->elements);
    parameter->offset = p->elements;
    p->elements += parameter->count;
    p->numbers += parameter->count;
    p->index[row][kind] = (int32_t)p->count++;
}

/* Where the gradients lie. */
static void place_grads(cadft__parameters *p)
{
    int64_t at = 0, group = 0; /* the group's first element, once placed */
    int placed = 0;
    for (int64_t i = 0; i < p->count; i++) {
        cadft__parameter *parameter = &p->list[i];
        if (!kinds[parameter->kind].joined)
            placed = 0;
        parameter->grad_offset = -1;
        if (!parameter->trainable)
            continue;
        group = placed ? at : align(at);
        placed = 1;
        parameter->grad_offset = group;
        at = group + parameter->count;
    }
    p->grad_elements = at ? at : 1;
}

static size_t list_size(int64_t layers)
{
    return ((size_t)layers + 1) * CADFT__KINDS * sizeof(cadft__parameter);
}

static size_t index_size(int64_t layers)
{
    return ((size_t)layers + 1) * CADFT__KINDS * sizeof(int32_t);
}

int32_t cadft__parameters_plan(cadft_context *context,
                               const cadft__config *config,
                               cadft__parameters *out,
                               cadft_error *error)
{
    cadft__memory *memory = &context->memory;
    memset(out, 0, sizeof *out);
    out->layers = config->layers;
    out->list =
        (cadft__parameter *)cadft__alloc(memory, list_size(config->layers));
    out->index = (int32_t(*)[CADFT__KINDS])cadft__alloc(
        memory, index_size(config->layers));
    if (!out->list || !out->index) {
        cadft__parameters_free(context, out);
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for the list of "
                           "parameters of %lld layers",
                           (long long)config->layers);
    }
    append(out, config, -1, CADFT__EMBED);
    for (int64_t layer = 0; layer < config->layers; layer++)
        for (int32_t kind = 0; kind < CADFT__KINDS; kind++)
            append(out, config, layer, kind);
    for (int32_t kind = CADFT__EMBED + 1; kind < CADFT__KINDS; kind++)
        append(out, config, -1, kind);
    place_grads(out);
    return CADFT_OK;
}

int32_t cadft__parameters_alloc(cadft_context *context,
                                cadft__parameters *p,
                                int32_t dtype,
                                cadft_error *error)
{
    int32_t status = cadft__device_check_model(context, dtype, error);
    if (status)
        return status;
    p->dtype = dtype;
    return cadft__device_alloc(context,
                               (uint64_t)p->elements * cadft__dtype_size(dtype),
                               &p->weights, error);
}

uint64_t cadft__parameters_weight_bytes(const cadft__parameters *p)
{
    return p->weights ? (uint64_t)p->elements * cadft__dtype_size(p->dtype) : 0;
}

uint64_t cadft__parameters_grad_bytes(const cadft__parameters *p)
{
    return p->grads ? (uint64_t)p->grad_elements * sizeof(float) : 0;
}

static void free_grads(cadft_context *context, cadft__parameters *p)
{
    cadft__device_free(context, NULL, p->grads,
                       cadft__parameters_grad_bytes(p));
    p->grads = NULL;
}

void cadft__parameters_free(cadft_context *context, cadft__parameters *p)
{
    free_grads(context, p);
    cadft__device_free(context, NULL, p->weights,
                       cadft__parameters_weight_bytes(p));
    cadft__free(&context->memory, p->list, list_size(p->layers));
    cadft__free(&context->memory, p->index, index_size(p->layers));
    memset(p, 0, sizeof *p);
}

/* ----------------------------------------------------------------- access */

const cadft__parameter *
cadft__parameters_get(const cadft__parameters *p, int64_t layer, int32_t kind)
{
    int32_t at = p->index[layer < 0 ? p->layers : layer][kind];
    return at < 0 ? NULL : &p->list[at];
}

cadft_array cadft__parameters_weight(const cadft__parameters *p,
                                     const cadft__parameter *parameter)
{
    if (!parameter)
        return (cadft_array){NULL, 0};
    return (cadft_array){p->weights, (uint64_t)parameter->offset *
                                         cadft__dtype_size(p->dtype)};
}

cadft_array cadft__parameters_grad(const cadft__parameters *p,
                                   const cadft__parameter *parameter)
{
    if (!parameter || !p->grads || !parameter->trainable)
        return (cadft_array){NULL, 0};
    return (cadft_array){p->grads,
                         (uint64_t)parameter->grad_offset * sizeof(float)};
}

int32_t cadft__parameters_zero_grad(cadft_context *context,
                                    cadft__parameters *p,
                                    cadft_error *error)
{
    uint64_t bytes = (uint64_t)p->grad_elements * sizeof(float);
    int32_t status = CADFT_OK;
    if (!p->grads)
        status = cadft__device_alloc(context, bytes, &p->grads, error);
    if (!status)
        status = cadft__device_zero(context, NULL, (cadft_array){p->grads, 0},
                                    bytes, error);
    if (!status) /* added to on other streams */
        status = cadft__device_sync(context, NULL, error);
    return status;
}

/* ----------------------------------------------------------------- freeze */

int64_t cadft__parameters_freeze(cadft_context *context,
                                 cadft__parameters *p,
                                 const char *pattern,
                                 int32_t trainable)
{
    int64_t matched = 0;
    for (int64_t i = 0; i < p->count; i++)
        if (cadft__pattern_matches(pattern, p->list[i].name)) {
            p->list[i].trainable = trainable != 0;
            matched++;
        }
    if (matched) {
        free_grads(context, p); /* their size is the old layout's */
        place_grads(p);
    }
    return matched;
}
