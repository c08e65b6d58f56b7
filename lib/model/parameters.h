/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a model: one block of weights and one of gradients in the
 * backend's memory. q, k and v of a layer follow each other without a gap, so
 * do gate and up, and the biases of either: each group is one matrix of [all
 * outputs, inputs] to the forward pass. Groups start at multiples of 64 bytes.
 *
 * Gradients are laid out alike but without the frozen parameters, which take
 * no memory there. What is trainable of a group still follows each other
 * without a gap, in order. */
#ifndef CADFT_MODEL_PARAMETERS_H
#define CADFT_MODEL_PARAMETERS_H

#include "backend/context.h"
#include "model/config.h"

enum { CADFT__NAME_SIZE = 64 };

/* What a parameter is, and so where it goes. */
enum {
    CADFT__EMBED,  /* [vocab, hidden] */
    CADFT__NORM_1, /* input_layernorm [hidden] */
    CADFT__Q,      /* [heads * head_dim, hidden] */
    CADFT__K,      /* [kv_heads * head_dim, hidden] */
    CADFT__V,
    CADFT__Q_BIAS,
    CADFT__K_BIAS,
    CADFT__V_BIAS,
    CADFT__Q_NORM, /* [head_dim] */
    CADFT__K_NORM,
    CADFT__O, /* [hidden, heads * head_dim] */
    CADFT__O_BIAS,
    CADFT__NORM_2, /* post_attention_layernorm [hidden] */
    CADFT__GATE,   /* [intermediate, hidden] */
    CADFT__UP,
    CADFT__GATE_BIAS,
    CADFT__UP_BIAS,
    CADFT__DOWN, /* [hidden, intermediate] */
    CADFT__DOWN_BIAS,
    CADFT__NORM, /* [hidden] */
    CADFT__HEAD, /* lm_head [vocab, hidden]; absent when tied */
    CADFT__KINDS
};

typedef struct cadft__parameter {
    char name[CADFT__NAME_SIZE];
    int64_t shape[2]; /* shape[1] of a vector is 1 */
    int32_t ndim;
    int32_t kind;        /* CADFT__EMBED, ... */
    int64_t layer;       /* -1 outside the layers */
    int64_t offset;      /* elements from the start of the weights */
    int64_t grad_offset; /* from that of the gradients; -1 when frozen */
    int64_t count;       /* elements */
    int32_t trainable;
} cadft__parameter;

typedef struct cadft__parameters {
    cadft__parameter *list; /* [count] */
    int64_t count;
    int64_t elements;      /* of the weights, gaps included */
    int64_t grad_elements; /* of the gradients, gaps included, at least 1 */
    int64_t numbers;       /* in the parameters, without the gaps */
    int32_t dtype;         /* of the weights */
    void *weights;         /* backend's memory */
    void *grads;           /* float32; NULL until cadft__parameters_zero_grad */
    /* index[layer][kind] into list, -1 where there is none; those outside the
     * layers stand in row `layers` */
    int32_t (*index)[CADFT__KINDS]; /* [layers + 1] */
    int64_t layers;
} cadft__parameters;

/* List the parameters that the config has, in the order of the forward pass,
 * all trainable; nothing in the backend's memory yet. */
int32_t cadft__parameters_plan(cadft_context *context,
                               const cadft__config *config,
                               cadft__parameters *out,
                               cadft_error *error);

/* Allocate the weights. */
int32_t cadft__parameters_alloc(cadft_context *context,
                                cadft__parameters *p,
                                int32_t dtype,
                                cadft_error *error);

/* Memory that the blocks take; 0 for one that is not there. */
uint64_t cadft__parameters_weight_bytes(const cadft__parameters *p);
uint64_t cadft__parameters_grad_bytes(const cadft__parameters *p);

void cadft__parameters_free(cadft_context *context, cadft__parameters *p);

/* The parameter, or NULL. layer -1: outside the layers. */
const cadft__parameter *
cadft__parameters_get(const cadft__parameters *p, int64_t layer, int32_t kind);

/* Its weights; absent (NULL base) for NULL. */
cadft_array cadft__parameters_weight(const cadft__parameters *p,
                                     const cadft__parameter *parameter);

/* Its gradient; absent for NULL, frozen, and when there are no gradients. */
cadft_array cadft__parameters_grad(const cadft__parameters *p,
                                   const cadft__parameter *parameter);

/* Set the gradients to zero; allocates them when there are none. */
int32_t cadft__parameters_zero_grad(cadft_context *context,
                                    cadft__parameters *p,
                                    cadft_error *error);

/* Freeze or thaw by pattern: `*` matches any characters, `?` one, all others
 * themselves. Returns how many match. Frees the gradients when any does. */
int64_t cadft__parameters_freeze(cadft_context *context,
                                 cadft__parameters *p,
                                 const char *pattern,
                                 int32_t trainable);

#endif
