/* SPDX-License-Identifier: Apache-2.0 */
/* The model handle and what its files share.
 *
 *   config.c      config.json             rope_table.c    cosines and sines
 *   parameters.c  names and places        weights.c       random, load
 *   model.c       the handle              weights_save.c  save
 *   passes.c      the calls of a batch    sequences.c     the host's batch
 *   workspace.c   the arena               operations.c    calls of slots
 *   forward.c     tokens to logits        backward.c      to gradients
 *   generate.c    tokens to more tokens   sample.c        logits to a token
 *
 * Shapes in comments: R rows, H hidden, Q = heads * head_dim, K = kv_heads *
 * head_dim, I intermediate, V vocab, N rows that need logits.
 */
#ifndef CADFT_MODEL_TRANSFORMER_H
#define CADFT_MODEL_TRANSFORMER_H

#include "cadft/model.h"
#include "backend/handle.h"
#include "backend/ops.h"
#include "common/error.h"
#include "common/tensor.h"
#include "model/weights.h"

/* ------------------------------------------------------------ sequences */

/* A batch in host memory, checked. With a KV cache, the keys of sequence s
 * are cache rows [k_first[s], k_first[s] + k_count[s]), else those of its own
 * rows. */
typedef struct cadft__sequences {
    int64_t rows, count, logit_rows, longest;
    int32_t all_logits; /* every row, in order */
    int32_t no_grad;
    int64_t cache_rows;         /* 0: no cache */
    int32_t *tokens;            /* [rows] */
    int32_t *positions;         /* [rows], inside the sequence */
    int32_t *cached;            /* [rows], cache row of each; with a cache */
    int32_t *selected;          /* [logit_rows], unless all_logits */
    int64_t *first;             /* [count + 1] */
    int64_t *k_first, *k_count; /* [count] */
    size_t capacity[7];
} cadft__sequences;

/* Read the host's description. Fields of the batch that generation shares
 * with it. On failure the sequences are unspecified but may be read again. */
int32_t cadft__sequences_read(cadft_model *model,
                              const cadft_model_batch *batch,
                              cadft__sequences *out,
                              cadft_error *error);

/* Make room without reading: the arrays hold this many of each. */
int32_t cadft__sequences_reserve(cadft_context *context,
                                 cadft__sequences *sequences,
                                 int64_t rows,
                                 int64_t count,
                                 cadft_error *error);

void cadft__sequences_free(cadft_context *context, cadft__sequences *sequences);

/* ------------------------------------------------------------ workspace */

/* What a layer keeps for its backward pass. */
typedef struct cadft__layer {
    cadft_array x;            /* [R, H] input */
    cadft_array inv_1;        /* [R] of the first norm */
    cadft_array qkv;          /* [R, Q + 2K]; q, k rotated unless qk_norm */
    cadft_array q_inv, k_inv; /* [R, heads], [R, kv_heads], with qk_norm */
    cadft_array qk;           /* [R, Q + K] normed and rotated, with qk_norm */
    cadft_array attention;    /* [R, Q] */
    cadft_array lse;          /* [R, heads] */
    cadft_array mid;          /* [R, H] after attention */
    cadft_array inv_2;        /* [R] of the second norm */
    cadft_array gate_up;      /* [R, 2I] */
} cadft__layer;

/* The arena, laid out for one batch. Layer l's arrays lie l strides behind
 * the first's; a stride of 0 means that all layers share them. */
typedef struct cadft__workspace {
    void *base;
    uint64_t bytes;
    cadft_array tokens, positions, cached, selected; /* int32 */
    cadft__layer first;                              /* of layer 0 */
    uint64_t layer_stride, x_stride;                 /* bytes */
    int32_t x_alternates;                            /* two inputs take turns */
    cadft_array cache;     /* [layers][2][cache rows, K] */
    cadft_array h;         /* [R, H] normed */
    cadft_array inner;     /* [R, max(I, Q)] */
    cadft_array last_inv;  /* [N] of the last norm */
    cadft_array picked;    /* [N, H] rows that need logits */
    cadft_array last_h;    /* [N, H] normed */
    cadft_array logits;    /* [N, V] */
    cadft_array dx, dh;    /* [R, H] */
    cadft_array dqkv, dqk; /* as qkv, qk */
    cadft_array scratch;
} cadft__workspace;

/* Lay the arena out for these sequences (of which only sizes count) and make
 * it large enough; sets `scratch_bytes` aside for the backend. With `plan`
 * not NULL only the size is computed. */
int32_t cadft__workspace_lay(cadft_model *model,
                             const cadft__sequences *sequences,
                             uint64_t scratch_bytes,
                             uint64_t *plan,
                             cadft_error *error);

/* Make the arena at least this large; its content is lost when it grows. */
int32_t cadft__workspace_reserve(cadft_model *model,
                                 uint64_t bytes,
                                 cadft_error *error);

/* Arrays of layer l. x of l = layers is the last layer's output. */
cadft__layer cadft__workspace_layer(const cadft__workspace *workspace,
                                    int64_t l);

/* Cosines and sines of positions, in the backend's memory; grows. */
typedef struct cadft__rope {
    void *base; /* float32 [positions, head_dim] */
    int64_t positions;
} cadft__rope;

/* Make the table hold this many positions. */
int32_t
cadft__rope_reserve(cadft_model *model, int64_t positions, cadft_error *error);

uint64_t cadft__rope_bytes(const cadft_model *model, int64_t positions);

/* --------------------------------------------------------------- handle */

enum { CADFT__IDLE = 0, CADFT__FORWARD_DONE = 1 };

typedef struct cadft__model_options {
    int64_t weight_dtype, checkpointing;
} cadft__model_options;

struct cadft_model {
    cadft__handle handle;
    cadft__model_options options;
    int32_t has_weights;
    int32_t phase;
    cadft__config config;
    cadft__parameters parameters;
    cadft__origin origin;
    cadft__sequences sequences; /* of the last batch */
    cadft__sequences incoming;  /* being read: a refusal leaves the last */
    cadft__workspace workspace;
    cadft__rope rope;
    int64_t shape[2]; /* of the logits' view */
    void *stream;     /* the last one that used the arena */
};

int32_t cadft__needs_weights(const cadft_model *model, cadft_error *error);
int32_t cadft__needs_no_weights(const cadft_model *model, cadft_error *error);

/* Is the struct_size that the host has set that of a view to be filled? */
int32_t cadft__model_view_check(const cadft_tensor *out,
                                const char *name,
                                cadft_error *error);

/* Fill a checked one as a dense view of the backend's memory. `shape` is kept
 * by pointer. */
void cadft__model_view(const cadft_model *model,
                       cadft_array array,
                       int32_t dtype,
                       int32_t ndim,
                       int64_t *shape,
                       cadft_tensor *out);

/* The incoming sequences become the last batch's, and a pass that waited for
 * its backward is forgotten. */
void cadft__model_accept(cadft_model *model);

/* ----------------------------------------------------------- operations */

/* One pass over the schedule. A dry run calls no slot and only finds the
 * largest scratch that one asks for. */
typedef struct cadft__run {
    cadft_model *model;
    const cadft__sequences *sequences;
    const cadft__workspace *workspace;
    void *stream;
    cadft_error *error;
    int32_t dry;
    uint64_t scratch_bytes;
} cadft__run;

/* Parameters that are one matrix: up to three, with their biases. */
typedef struct cadft__linear {
    int32_t members;
    int32_t weights[3], biases[3]; /* kinds */
} cadft__linear;

extern const cadft__linear cadft__linear_qkv, cadft__linear_out,
    cadft__linear_gate_up, cadft__linear_down;

/* y [rows, outputs] (+)= x [rows, inputs] W^T + b */
int32_t cadft__linear_forward(cadft__run *run,
                              int64_t layer,
                              const cadft__linear *linear,
                              cadft_array x,
                              cadft_array y);

/* dx [rows, inputs] = dy W */
int32_t cadft__linear_input_grad(cadft__run *run,
                                 int64_t layer,
                                 const cadft__linear *linear,
                                 cadft_array dy,
                                 cadft_array dx);

/* dW += dy^T x, db += sum of dy, for the members that are trainable */
int32_t cadft__linear_weight_grad(cadft__run *run,
                                  int64_t layer,
                                  const cadft__linear *linear,
                                  cadft_array dy,
                                  cadft_array x);

/* Is a gradient wanted: of the parameter (NULL: no), of any member or bias?
 * A dry run wants all, whatever is frozen in the layer that it visits. */
int cadft__run_wants(const cadft__run *run, const cadft__parameter *parameter);
int cadft__linear_wanted(const cadft__run *run,
                         int64_t layer,
                         const cadft__linear *linear);

/* The slots, with sequences, scratch and dry runs seen to. */
int32_t cadft__run_matmul(cadft__run *run, cadft_matmul_args *args);
int32_t cadft__run_norm(cadft__run *run, cadft_norm_args *args);
int32_t cadft__run_add_norm(cadft__run *run, cadft_norm_args *args);
int32_t cadft__run_norm_grad(cadft__run *run, cadft_norm_args *args);
int32_t cadft__run_rope(cadft__run *run,
                        cadft_array x,
                        int64_t groups,
                        int64_t stride,
                        int32_t inverse);
int32_t
cadft__run_attention(cadft__run *run, cadft_attention_args *args, int32_t grad);
int32_t
cadft__run_swiglu(cadft__run *run, cadft_swiglu_args *args, int32_t grad);
int32_t cadft__run_add(cadft__run *run, cadft_add_args *args);
int32_t cadft__run_column_sum(cadft__run *run, cadft_add_args *args);
int32_t cadft__run_rows(cadft__run *run, int32_t op, cadft_rows_args *args);
int32_t cadft__run_zero(cadft__run *run, cadft_array to, uint64_t bytes);

/* `array`, `elements` float32 further on; absent stays absent. */
cadft_array cadft__after(cadft_array array, int64_t elements);

/* ------------------------------------------------------------- schedule */

/* Lay out the arena for the sequences, send them to the device, and compute
 * logits into workspace.logits. */
int32_t cadft__forward(cadft_model *model,
                       cadft__sequences *sequences,
                       void *stream,
                       cadft_error *error);

/* Bytes of arena that the sequences take. */
int32_t cadft__forward_plan(cadft_model *model,
                            cadft__sequences *sequences,
                            uint64_t *bytes,
                            cadft_error *error);

/* Layer l from its x to the next layer's, and that one's norm into h. `rerun`
 * computes again what a checkpointed layer did not keep, and stops there. */
int32_t cadft__forward_layer(cadft__run *run, int64_t l, int32_t rerun);

/* Everything backward; grad_logits [N, V] with a row stride. */
int32_t
cadft__backward(cadft__run *run, cadft_array grad_logits, int64_t grad_stride);

#endif
