/* SPDX-License-Identifier: Apache-2.0 */
/* A small byte-level language model, float32, written out by hand.
 *
 *     context [rows, C] of token ids
 *     x[0]    [rows, C * E]   embeddings of the C tokens, side by side
 *     x[l]    [rows, H]       gelu(x[l-1] w[l-1]^T + b[l-1])
 *     logits  [rows, 264]     x[last] w[last]^T + b[last]
 *
 * Rows do not depend on each other, so a forward over rows of many samples,
 * packed one after the other, needs no mask. */
#ifndef HOST_MODEL_H
#define HOST_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "pool.h"

enum {
    MODEL_BOUNDARY = 256, /* before a text as input, after it as label */
    MODEL_VOCAB = 257,    /* bytes and the boundary */
    MODEL_COLUMNS = 264,  /* of the logits: padded as real models' are */
    MODEL_MAX_HIDDEN = 2,
    MODEL_MAX_LAYERS = MODEL_MAX_HIDDEN + 1
};

typedef struct model_shape {
    int context; /* C, tokens the model sees */
    int embed;   /* E, floats per token */
    int hidden;  /* H, units of each hidden layer */
    int depth;   /* hidden layers, 1 or 2 */
} model_shape;

typedef struct model_layer {
    int in, out;
    float *w, *b;   /* [out, in], [out]: inside model.params */
    float *dw, *db; /* likewise inside model.grads */
    float *x;       /* [capacity, in], input */
    float *pre;     /* [capacity, out], before gelu; the last: the logits */
    float *dx;      /* [capacity, in], gradient of the loss */
} model_layer;

typedef struct model {
    model_shape shape;
    pool *threads; /* borrowed */
    int64_t capacity;
    size_t n_params;
    float *params, *grads, *moment1, *moment2; /* [n_params] each */
    int64_t n_updates;
    float *embedding, *d_embedding; /* [257, E] inside params, grads */
    model_layer layer[MODEL_MAX_LAYERS];
    int n_layers;
    /* [capacity, 264]. The forward leaves logits here; the backward expects
     * the gradient of the loss with respect to them in the same place. */
    float *logits;
    float *activations; /* owns x, pre, dx of all layers */
} model;

/* Weights from `seed`. Rows of a forward are at most `capacity`. */
int model_create(model *m,
                 const model_shape *shape,
                 int64_t capacity,
                 uint64_t seed,
                 pool *threads);
void model_free(model *m);

/* context [rows, C] ids in [0, 257). */
void model_forward(model *m, const int32_t *context, int64_t rows);

/* From the gradient in m->logits to the gradients of all activations, rows
 * of the forward just done. Spoils m->layer[].pre. */
void model_backward(model *m, int64_t rows);

/* Add the gradient of the parameters that comes from rows [first, end),
 * after model_backward. Apart from it, so that the gradient of one sample
 * alone can be had from packed rows. */
void model_accumulate(model *m,
                      const int32_t *context,
                      int64_t first,
                      int64_t end);

void model_zero_grad(model *m);

/* Adam, beta (0.9, 0.95), no weight decay. */
void model_update(model *m, float learning_rate);

/* Start over from params [n_params] with a fresh optimizer. */
void model_restore(model *m, const float *params);

#endif
