/* SPDX-License-Identifier: Apache-2.0 */
/* The arena: one block, laid out anew for each batch, that only grows. */
#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "model/transformer.h"

/* Where the next array goes; `bytes` saturates. */
typedef struct cursor {
    void *base;
    uint64_t bytes;
} cursor;

/* An array of `count` times `each` 4-byte elements, at a multiple of 64 bytes.
 * Absent when there are none, or when only the size is asked for. */
static cadft_array take(cursor *at, int64_t count, int64_t each)
{
    cadft_array array = {at->base, at->bytes};
    uint64_t bytes;
    if (count <= 0 || each <= 0)
        return (cadft_array){NULL, 0};
    if (__builtin_mul_overflow((uint64_t)count, (uint64_t)each, &bytes) ||
        __builtin_mul_overflow(bytes, sizeof(float), &bytes) ||
        __builtin_add_overflow(at->bytes, bytes, &bytes) ||
        bytes > INT64_MAX - 64)
        bytes = INT64_MAX - 64;
    at->bytes = (bytes + 63) & ~(uint64_t)63;
    return array;
}

typedef struct sizes {
    int64_t r, n;       /* rows, rows with logits */
    int64_t h, q, k, i; /* H, Q, K, I */
    int64_t layers;
    int32_t grad, keep; /* backward follows; every layer keeps its arrays */
} sizes;

static sizes sizes_of(const cadft_model *model, const cadft__sequences *s)
{
    const cadft__config *c = &model->config;
    return (sizes){
        .r = s->rows,
        .n = s->logit_rows,
        .h = c->hidden,
        .q = c->heads * c->head_dim,
        .k = c->kv_heads * c->head_dim,
        .i = c->intermediate,
        .layers = c->layers,
        .grad = !s->no_grad,
        .keep = !s->no_grad && !model->options.checkpointing,
    };
}

/* One layer's arrays, its input aside. */
static void lay_layer(const cadft__config *c,
                      const sizes *z,
                      cadft__layer *layer,
                      cursor *at)
{
    layer->inv_1 = take(at, z->r, 1);
    layer->qkv = take(at, z->r, z->q + 2 * z->k);
    if (c->qk_norm) {
        layer->q_inv = take(at, z->r, c->heads);
        layer->k_inv = take(at, z->r, c->kv_heads);
        layer->qk = take(at, z->r, z->q + z->k);
    }
    layer->attention = take(at, z->r, z->q);
    layer->lse = take(at, z->grad ? z->r : 0, c->heads);
    layer->mid = take(at, z->r, z->h);
    layer->inv_2 = take(at, z->r, 1);
    layer->gate_up = take(at, z->r, 2 * z->i);
}

static void lay_layers(const cadft__config *c,
                       const sizes *z,
                       cadft__workspace *w,
                       cursor *at)
{
    uint64_t before = at->bytes;
    int64_t inputs = z->grad ? z->layers + 1 : 2;
    w->first.x = take(at, z->r, z->h);
    w->x_stride = at->bytes - before;
    w->x_alternates = !z->grad;
    for (int64_t l = 1; l < inputs; l++)
        take(at, z->r, z->h);
    before = at->bytes;
    lay_layer(c, z, &w->first, at);
    w->layer_stride = z->keep ? at->bytes - before : 0;
    for (int64_t l = 1; z->keep && l < z->layers; l++) {
        cadft__layer rest;
        lay_layer(c, z, &rest, at);
    }
}

static void lay_batch(const cadft_model *model,
                      const cadft__sequences *s,
                      const sizes *z,
                      cadft__workspace *w,
                      cursor *at)
{
    const cadft__config *c = &model->config;
    w->cache = take(at, s->cache_rows, 2 * z->k * z->layers);
    w->tokens = take(at, z->r, 1);
    w->positions = take(at, z->r, 1);
    w->cached = take(at, s->cache_rows ? z->r : 0, 1);
    w->selected = take(at, s->all_logits ? 0 : z->n, 1);
    lay_layers(c, z, w, at);
    w->h = take(at, z->r, z->h);
    w->inner = take(at, z->r, z->i > z->q ? z->i : z->q);
    w->last_inv = take(at, z->n, 1);
    w->picked = take(at, s->all_logits ? 0 : z->n, z->h);
    w->last_h = take(at, z->n, z->h);
    w->logits = take(at, z->n, c->vocab);
    if (!z->grad)
        return;
    w->dx = take(at, z->r, z->h);
    w->dh = take(at, z->r, z->h);
    w->dqkv = take(at, z->r, z->q + 2 * z->k);
    if (c->qk_norm)
        w->dqk = take(at, z->r, z->q + z->k);
}

int32_t
cadft__workspace_reserve(cadft_model *model, uint64_t bytes, cadft_error *error)
{
    cadft_context *context = model->handle.context;
    cadft__workspace *w = &model->workspace;
    void *base;
    if (bytes <= w->bytes)
        return CADFT_OK;
    cadft__device_free(context, model->stream, w->base, w->bytes);
    w->base = NULL;
    w->bytes = 0;
    CADFT__TRY(cadft__device_alloc(context, bytes, &base, error));
    w->base = base;
    w->bytes = bytes;
    return CADFT_OK;
}

int32_t cadft__workspace_lay(cadft_model *model,
                             const cadft__sequences *sequences,
                             uint64_t scratch_bytes,
                             uint64_t *plan,
                             cadft_error *error)
{
    cadft__workspace *w = &model->workspace;
    sizes z = sizes_of(model, sequences);
    for (int pass = plan ? 1 : 0; pass < 2; pass++) {
        cursor at = {plan ? NULL : w->base, 0};
        cadft__workspace laid;
        memset(&laid, 0, sizeof laid);
        lay_batch(model, sequences, &z, &laid, &at);
        laid.scratch =
            take(&at, (int64_t)(scratch_bytes / sizeof(float)) + 1, 1);
        if (at.bytes >= INT64_MAX - 64)
            return cadft__fail(error, CADFT_E_NOMEM,
                               "%lld rows, %lld of them with logits, overflow "
                               "the address space",
                               (long long)z.r, (long long)z.n);
        if (plan) {
            *plan = at.bytes;
            return CADFT_OK;
        }
        if (at.bytes <= w->bytes) {
            laid.base = w->base;
            laid.bytes = w->bytes;
            *w = laid;
            return CADFT_OK;
        }
        CADFT__TRY(cadft__workspace_reserve(model, at.bytes, error));
    }
    return CADFT_OK;
}

static void move(cadft_array *array, uint64_t bytes)
{
    array->offset += array->base ? bytes : 0;
}

cadft__layer cadft__workspace_layer(const cadft__workspace *w, int64_t l)
{
    cadft__layer layer = w->first;
    uint64_t bytes = (uint64_t)l * w->layer_stride;
    move(&layer.x,
         (w->x_alternates ? (uint64_t)l % 2 : (uint64_t)l) * w->x_stride);
    move(&layer.inv_1, bytes);
    move(&layer.qkv, bytes);
    move(&layer.q_inv, bytes);
    move(&layer.k_inv, bytes);
    move(&layer.qk, bytes);
    move(&layer.attention, bytes);
    move(&layer.lse, bytes);
    move(&layer.mid, bytes);
    move(&layer.inv_2, bytes);
    move(&layer.gate_up, bytes);
    return layer;
}

uint64_t cadft__rope_bytes(const cadft_model *model, int64_t positions)
{
    return (uint64_t)positions * (uint64_t)model->config.head_dim *
           sizeof(float);
}

int32_t
cadft__rope_reserve(cadft_model *model, int64_t positions, cadft_error *error)
{
    cadft_context *context = model->handle.context;
    cadft__rope *rope = &model->rope;
    size_t bytes = (size_t)cadft__rope_bytes(model, positions);
    void *base;
    float *table;
    int32_t status;
    if (positions <= rope->positions)
        return CADFT_OK;
    table = (float *)cadft__alloc(&context->memory, bytes);
    if (!table)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "no memory for a rope table of %lld positions",
                           (long long)positions);
    cadft__rope_table(&model->config, positions, table);
    status = cadft__device_alloc(context, bytes, &base, error);
    if (!status)
        status = cadft__device_in(context, NULL, (cadft_array){base, 0}, table,
                                  bytes, error);
    if (!status) /* read on other streams from now on */
        status = cadft__device_sync(context, NULL, error);
    if (!status) {
        cadft__device_free(context, model->stream, rope->base,
                           cadft__rope_bytes(model, rope->positions));
        *rope = (cadft__rope){base, positions};
    } else {
        cadft__device_free(context, NULL, base, bytes);
    }
    cadft__free(&context->memory, table, bytes);
    return status;
}
