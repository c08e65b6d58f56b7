/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matmul.h"
#include "util.h"

/* Work is cut into pieces of fixed size, never into as many as there are
 * threads: then the additions happen in the same order on any number. */
enum { ROW_BLOCK = 128, UNIT_BLOCK = 64, PARAM_BLOCK = 16384 };

static int64_t pieces(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* ------------------------------------------------------ create and free */

static void lay_out(model *m)
{
    const model_shape *s = &m->shape;
    m->n_layers = s->depth + 1;
    size_t at = (size_t)MODEL_VOCAB * (size_t)s->embed;
    m->embedding = m->params;
    m->d_embedding = m->grads;
    for (int l = 0; l < m->n_layers; l++) {
        model_layer *y = &m->layer[l];
        y->in = l == 0 ? s->context * s->embed : s->hidden;
        y->out = l == s->depth ? MODEL_COLUMNS : s->hidden;
        if (m->params) {
            y->w = m->params + at;
            y->dw = m->grads + at;
        }
        at += (size_t)y->in * (size_t)y->out;
        if (m->params) {
            y->b = m->params + at;
            y->db = m->grads + at;
        }
        at += (size_t)y->out;
    }
    m->n_params = at;
}

static int allocate(model *m)
{
    size_t rows = (size_t)m->capacity, width = 0;
    for (int l = 0; l < m->n_layers; l++)
        width += 2 * (size_t)m->layer[l].in + (size_t)m->layer[l].out;
    m->params = calloc(4 * m->n_params, sizeof(float));
    m->activations = calloc(rows * width, sizeof(float));
    if (!m->params || !m->activations)
        return fail(HOST_FAILED, "out of memory for the model (%zu MiB)",
                    (4 * m->n_params + rows * width) / (1u << 18));
    m->grads = m->params + m->n_params;
    m->moment1 = m->grads + m->n_params;
    m->moment2 = m->moment1 + m->n_params;
    float *next = m->activations;
    for (int l = 0; l < m->n_layers; l++) {
        model_layer *y = &m->layer[l];
        y->x = next;
        next += rows * (size_t)y->in;
        y->dx = next;
        next += rows * (size_t)y->in;
        y->pre = next;
        next += rows * (size_t)y->out;
    }
    m->logits = m->layer[m->n_layers - 1].pre;
    return HOST_OK;
}

static void fill_uniform(float *w, size_t n, float bound, uint64_t *rng)
{
    for (size_t i = 0; i < n; i++)
        w[i] = bound * (2.0f * rng_unit(rng) - 1.0f);
}

int model_create(model *m,
                 const model_shape *shape,
                 int64_t capacity,
                 uint64_t seed,
                 pool *threads)
{
    memset(m, 0, sizeof *m);
    m->shape = *shape;
    m->capacity = capacity;
    m->threads = threads;
    lay_out(m); /* counts */
    int status = allocate(m);
    if (status != HOST_OK) {
        model_free(m);
        return status;
    }
    lay_out(m); /* places */
    uint64_t rng = rng_for(seed, 1);
    size_t e = (size_t)shape->embed;
    fill_uniform(m->embedding, MODEL_VOCAB * e, 1.0f, &rng);
    for (int l = 0; l < m->n_layers; l++) {
        model_layer *y = &m->layer[l];
        /* Variance 2 / in ahead of a gelu; the output starts smaller, near
         * even odds. Padded columns stay zero, their gradient is zero. */
        int last = l == m->n_layers - 1;
        float bound = sqrtf((last ? 1.0f : 6.0f) / (float)y->in);
        size_t out = last ? MODEL_VOCAB : (size_t)y->out;
        fill_uniform(y->w, out * (size_t)y->in, bound, &rng);
    }
    return HOST_OK;
}

void model_free(model *m)
{
    free(m->params);
    free(m->activations);
    memset(m, 0, sizeof *m);
}

void model_restore(model *m, const float *params)
{
    memcpy(m->params, params, m->n_params * sizeof(float));
    memset(m->moment1, 0, 2 * m->n_params * sizeof(float));
    m->n_updates = 0;
}

/* -------------------------------------------------- forward and backward */

/* The sigmoid form of gelu: one exponential, smooth everywhere. */
static float gelu(float x)
{
    return x / (1.0f + expf(-1.702f * x));
}

static float gelu_slope(float x)
{
    float s = 1.0f / (1.0f + expf(-1.702f * x));
    return s + 1.702f * x * s * (1.0f - s);
}

typedef struct rows_task {
    model *m;
    const int32_t *context; /* [rows, C] */
    int64_t first, end;
} rows_task;

static void forward_piece(void *task, int64_t index, int32_t worker)
{
    (void)worker;
    rows_task *t = task;
    model *m = t->m;
    int64_t r0 = index * ROW_BLOCK;
    int rows = (int)(t->end - r0 < ROW_BLOCK ? t->end - r0 : ROW_BLOCK);
    size_t first = (size_t)r0, c = (size_t)m->shape.context;
    size_t e = (size_t)m->shape.embed;
    for (size_t i = first * c; i < (first + (size_t)rows) * c; i++)
        memcpy(m->layer[0].x + i * e, m->embedding + (size_t)t->context[i] * e,
               e * sizeof(float));
    for (int l = 0; l < m->n_layers; l++) {
        model_layer *y = &m->layer[l];
        size_t out = (size_t)y->out;
        float *pre = y->pre + first * out;
        matmul_nt(rows, y->out, y->in, y->x + first * (size_t)y->in, y->in,
                  y->w, y->in, pre, y->out);
        for (size_t r = 0; r < (size_t)rows; r++)
            for (size_t j = 0; j < out; j++)
                pre[r * out + j] += y->b[j];
        if (l + 1 == m->n_layers)
            break;
        float *x = m->layer[l + 1].x + first * out;
        for (size_t i = 0; i < (size_t)rows * out; i++)
            x[i] = gelu(pre[i]);
    }
}

void model_forward(model *m, const int32_t *context, int64_t rows)
{
    rows_task t = {m, context, 0, rows};
    pool_run(m->threads, pieces(rows, ROW_BLOCK), forward_piece, &t);
}

/* dx of layer l + 1 is the gradient after gelu; times its slope it becomes
 * the gradient before, which replaces `pre`, no longer needed. */
static void backward_piece(void *task, int64_t index, int32_t worker)
{
    (void)worker;
    rows_task *t = task;
    model *m = t->m;
    int64_t r0 = index * ROW_BLOCK;
    int rows = (int)(t->end - r0 < ROW_BLOCK ? t->end - r0 : ROW_BLOCK);
    size_t first = (size_t)r0;
    for (int l = m->n_layers - 1; l >= 0; l--) {
        model_layer *y = &m->layer[l];
        size_t in = (size_t)y->in;
        float *dx = y->dx + first * in;
        matmul_nn(rows, y->in, y->out, y->pre + first * (size_t)y->out, y->out,
                  y->w, y->in, dx, y->in);
        if (l == 0)
            break;
        float *pre = m->layer[l - 1].pre + first * in;
        for (size_t i = 0; i < (size_t)rows * in; i++)
            pre[i] = dx[i] * gelu_slope(pre[i]);
    }
}

void model_backward(model *m, int64_t rows)
{
    rows_task t = {m, NULL, 0, rows};
    pool_run(m->threads, pieces(rows, ROW_BLOCK), backward_piece, &t);
}

/* ---------------------------------------------- gradient of the weights */

static void accumulate_embedding(const rows_task *t)
{
    model *m = t->m;
    size_t c = (size_t)m->shape.context, e = (size_t)m->shape.embed;
    for (size_t i = (size_t)t->first * c; i < (size_t)t->end * c; i++) {
        float *to = m->d_embedding + (size_t)t->context[i] * e;
        const float *from = m->layer[0].dx + i * e;
        for (size_t j = 0; j < e; j++)
            to[j] += from[j];
    }
}

static void accumulate_units(const rows_task *t, model_layer *y, int u0)
{
    int units = y->out - u0 < UNIT_BLOCK ? y->out - u0 : UNIT_BLOCK;
    size_t out = (size_t)y->out, in = (size_t)y->in;
    const float *dy = y->pre + (size_t)t->first * out + u0;
    matmul_tn_add(units, y->in, (int)(t->end - t->first), dy, y->out,
                  y->x + (size_t)t->first * in, y->in, y->dw + (size_t)u0 * in,
                  y->in);
    for (size_t r = 0; r < (size_t)(t->end - t->first); r++)
        for (int j = 0; j < units; j++)
            y->db[u0 + j] += dy[r * out + (size_t)j];
}

/* Piece 0 is the embedding, then UNIT_BLOCK units at a time of each layer:
 * every piece owns what it adds to. */
static void accumulate_piece(void *task, int64_t index, int32_t worker)
{
    (void)worker;
    rows_task *t = task;
    if (index-- == 0) {
        accumulate_embedding(t);
        return;
    }
    model_layer *y = t->m->layer;
    for (; index >= pieces(y->out, UNIT_BLOCK); y++)
        index -= pieces(y->out, UNIT_BLOCK);
    accumulate_units(t, y, (int)index * UNIT_BLOCK);
}

void model_accumulate(model *m,
                      const int32_t *context,
                      int64_t first,
                      int64_t end)
{
    rows_task t = {m, context, first, end};
    int64_t n = 1;
    for (int l = 0; l < m->n_layers; l++)
        n += pieces(m->layer[l].out, UNIT_BLOCK);
    pool_run(m->threads, n, accumulate_piece, &t);
}

void model_zero_grad(model *m)
{
    memset(m->grads, 0, m->n_params * sizeof(float));
}

/* --------------------------------------------------------------- update */

typedef struct update_task {
    model *m;
    float rate1;      /* learning rate with the bias of moment1 corrected */
    float inv_scale2; /* likewise for the square root of moment2 */
} update_task;

static void update_piece(void *task, int64_t index, int32_t worker)
{
    (void)worker;
    const float beta1 = 0.9f, beta2 = 0.95f, tiny = 1e-8f;
    update_task *t = task;
    model *m = t->m;
    size_t i = (size_t)index * PARAM_BLOCK;
    size_t end = i + PARAM_BLOCK < m->n_params ? i + PARAM_BLOCK : m->n_params;
    for (; i < end; i++) {
        float g = m->grads[i];
        float a = beta1 * m->moment1[i] + (1.0f - beta1) * g;
        float b = beta2 * m->moment2[i] + (1.0f - beta2) * g * g;
        m->moment1[i] = a;
        m->moment2[i] = b;
        m->params[i] -= t->rate1 * a / (sqrtf(b) * t->inv_scale2 + tiny);
    }
}

void model_update(model *m, float learning_rate)
{
    double n = (double)++m->n_updates;
    update_task t = {m, (float)(learning_rate / (1.0 - pow(0.9, n))),
                     (float)(1.0 / sqrt(1.0 - pow(0.95, n)))};
    pool_run(m->threads, pieces((int64_t)m->n_params, PARAM_BLOCK),
             update_piece, &t);
}
