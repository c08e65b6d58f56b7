/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file model.h
 * Decoder-only transformers: forward, backward, generation, and the folders
 * of Hugging Face's transformers that they come from and go to.
 *
 *     cadft_model *model;
 *     cadft_model_create(ctx, &model, &err);
 *     cadft_model_load(model, "SmolLM2-135M", &err);
 *
 *     cadft_tensor logits = {.struct_size = sizeof logits};
 *     cadft_model_batch batch = {.struct_size = sizeof batch,
 *                                .tokens = &tokens,         // int32 [rows]
 *                                .cu_seqlens = &cu_seqlens};
 *     cadft_model_zero_grad(model, &err);
 *     cadft_model_forward(model, &batch, &logits, &err);
 *     loss_batch.logits = &logits;
 *     cadft_loss_compute(loss, &loss_batch, n_samples, &logits, NULL, NULL,
 *                        &err);                // gradient over the logits
 *     cadft_model_backward(model, &logits, &err);
 *     cadft_optimizer_step(optimizer, NULL, NULL, &err); // optimizer.h
 *     ... or the host's optimizer, over cadft_model_parameter ...
 *
 * Architectures: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM and
 * MistralForCausalLM. Activations and gradients are float32, weights float32
 * or bfloat16. A row is one token; rows of all sequences of a batch follow
 * each other without padding.
 *
 * Reproducible: the same weights, batch and seed give the same bits on any
 * number of threads, and a sequence's logits do not depend on what else is in
 * the batch, on no_grad or on logit_rows. (With a BLAS, backend option
 * matmul=LIBRARY of base.h, that is the BLAS's to keep.)
 *
 * Threads: a model is used by one thread at a time; different models are
 * independent. Everything here is since 0.1.
 */
#ifndef CADFT_MODEL_H
#define CADFT_MODEL_H

#include "cadft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadft_model cadft_model;

/** Create a model without weights; cadft_model_load or cadft_model_init gives
 *  it some. It keeps the context alive.
 *  Errors: CADFT_E_NULL, CADFT_E_NOMEM, CADFT_E_UNSUPPORTED (the backend has
 *  no slots for models). */
CADFT_API int32_t cadft_model_create(cadft_context *context,
                                     cadft_model **out,
                                     cadft_error *error);

/** Free the model, its weights, gradients and activations; views of them are
 *  void. An optimizer that has it keeps it alive until it is destroyed too.
 *  Not from its own callback. NULL allowed. */
CADFT_API void cadft_model_destroy(cadft_model *model);

/* ---------------------------------------------------------------- knobs */

/** Keys; all i64. */
enum {
    /** Data type of the weights in memory: 0 (default; name: stored) as most
     *  of the folder's weights are stored, float16 as float32; or
     *  CADFT_DTYPE_F32 or CADFT_DTYPE_BF16 (names: float32, bfloat16). Before
     *  the model has weights. */
    CADFT_MODEL_WEIGHT_DTYPE = 1,
    /** 0 or 1, default 0: keep only each layer's input for the backward pass
     *  and compute the rest again there. Between backward and forward. */
    CADFT_MODEL_CHECKPOINTING = 2,

    /* Read only, of a model with weights. */
    CADFT_MODEL_PARAMETERS = 100, /**< named parameters */
    CADFT_MODEL_ELEMENTS = 101,   /**< numbers in them */
    CADFT_MODEL_VOCAB = 102,      /**< columns of the logits */
    CADFT_MODEL_HIDDEN = 103,
    CADFT_MODEL_LAYERS = 104,
    CADFT_MODEL_HEADS = 105,
    CADFT_MODEL_KV_HEADS = 106,
    CADFT_MODEL_HEAD_DIM = 107,
    CADFT_MODEL_INTERMEDIATE = 108,
    CADFT_MODEL_POSITIONS = 109, /**< longest sequence */
    CADFT_MODEL_WEIGHT_BYTES = 110,
    CADFT_MODEL_GRAD_BYTES = 111, /**< 0 until there are gradients */
    CADFT_MODEL_ARENA_BYTES = 112 /**< activations, as reserved now */
};

/** Set a knob. Errors: CADFT_E_NULL, CADFT_E_KEY (unknown, or read only),
 *  CADFT_E_ARG (outside the bounds), CADFT_E_PHASE (not now). */
CADFT_API int32_t cadft_model_set_i64(cadft_model *model,
                                      int32_t key,
                                      int64_t value,
                                      cadft_error *error);

/** As the other nouns have it; a model has no f64 knob yet, so every key is
 *  refused with CADFT_E_KEY. */
CADFT_API int32_t cadft_model_set_f64(cadft_model *model,
                                      int32_t key,
                                      double value,
                                      cadft_error *error);

/** Set a knob from text: a name or a number. Errors as
 *  cadft_model_set_i64. */
CADFT_API int32_t cadft_model_set_str(cadft_model *model,
                                      int32_t key,
                                      const char *value,
                                      cadft_error *error);

/** Read a knob or a fact. Errors: CADFT_E_NULL, CADFT_E_KEY, CADFT_E_PHASE
 *  (a fact of a model without weights). */
CADFT_API int32_t cadft_model_get_i64(cadft_model *model,
                                      int32_t key,
                                      int64_t *out,
                                      cadft_error *error);

/** As cadft_model_set_f64. */
CADFT_API int32_t cadft_model_get_f64(cadft_model *model,
                                      int32_t key,
                                      double *out,
                                      cadft_error *error);

/** Read a knob as text. Errors: CADFT_E_NULL, CADFT_E_KEY (unknown, or a
 *  fact), CADFT_E_SPACE (see cadft_context_get_str). */
CADFT_API int32_t cadft_model_get_str(cadft_model *model,
                                      int32_t key,
                                      char *buffer,
                                      size_t capacity,
                                      size_t *needed,
                                      cadft_error *error);

/** Type (0 i64: all of them), smallest, largest and default value of a knob.
 *  Any of the outputs may be NULL. Needs no handle, any thread.
 *  Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_model_bounds(int32_t key,
                                     int32_t *type,
                                     double *smallest,
                                     double *largest,
                                     double *standard,
                                     cadft_error *error);

/** Key of a name such as "checkpointing" or "vocab" (the constant's name in
 * lower case), of what is read only too. Needs no handle, any thread. Errors:
 * CADFT_E_NULL, CADFT_E_KEY. */
CADFT_API int32_t cadft_model_key(const char *name,
                                  int32_t *key,
                                  cadft_error *error);

/** The knobs one after the other, so that a binding can list them.
 *  @param index  from 0; CADFT_E_KEY past the last
 *  @param name   set to its name, which lives as long as the library; may be
 *                NULL, as may `key`
 *  Needs no handle, any thread. Errors: CADFT_E_KEY. */
CADFT_API int32_t cadft_model_key_at(int32_t index,
                                     const char **name,
                                     int32_t *key,
                                     cadft_error *error);

/* -------------------------------------------------------------- weights */

/** Give a model without weights those of a folder: config.json and
 *  model.safetensors, or model.safetensors.index.json with its shards, in
 *  float32, bfloat16 or float16. Values that the memory's data type cannot
 *  hold are rounded to nearest even. Tensors that the model does not know are
 *  refused, so are missing ones. Files are read, not mapped.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (it has weights), CADFT_E_IO (also for
 *  a file that shrinks while it is read), CADFT_E_FORMAT (names file and key or
 *  tensor), CADFT_E_UNSUPPORTED (a config that asks for what is not here; names
 *  the key), CADFT_E_NOMEM.
 *  The model has no weights after a failure. */
CADFT_API int32_t cadft_model_load(cadft_model *model,
                                   const char *folder,
                                   cadft_error *error);

/** Give a model without weights random ones: matrices normal with standard
 *  deviation initializer_range (0.02 without that key), norms 1, biases 0.
 *  The same seed gives the same weights everywhere.
 *  @param config  text of a config.json; `length` bytes
 *  Errors as cadft_model_load. */
CADFT_API int32_t cadft_model_init(cadft_model *model,
                                   const char *config,
                                   size_t length,
                                   uint64_t seed,
                                   cadft_error *error);

/** Write config.json and model.safetensors to a folder that transformers
 *  loads, in the weights' data type. The folder appears as a whole: it is
 *  written beside its place and put there in one step, so that a crash leaves
 *  the old folder or the new one. Other files (a tokenizer's) are taken over
 *  from the folder that was there, else from the one the model was loaded
 *  from; older weights are not.
 *  A folder that holds what is not a model's (a subfolder, a link that leads
 *  nowhere) is refused.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE, CADFT_E_ARG (not the path of a
 *  folder), CADFT_E_IO, CADFT_E_NOMEM, CADFT_E_UNSUPPORTED (a file system
 *  that cannot exchange two folders in one step). */
CADFT_API int32_t cadft_model_save(cadft_model *model,
                                   const char *folder,
                                   cadft_error *error);

/** The parameter at `index`, 0 to CADFT_MODEL_PARAMETERS - 1, in a fixed
 *  order. Outputs may be NULL.
 *  @param name      as in the folder, "model.norm.weight"; lives as long as
 *                   the weights
 *  @param value     view of the weights; caller sets struct_size. Shape and
 *                   memory belong to the model. A host may write it between
 *                   backward and forward.
 *  @param grad      view of the float32 gradient, as value; its data is NULL
 *                   for a frozen parameter and before the first
 *                   cadft_model_zero_grad
 *  @param trainable 0 if frozen
 *  On a backend whose memory the host cannot reach: cadft_context_read and
 *  _write. Errors: CADFT_E_NULL, CADFT_E_PHASE, CADFT_E_ARG. */
CADFT_API int32_t cadft_model_parameter(cadft_model *model,
                                        int64_t index,
                                        const char **name,
                                        cadft_tensor *value,
                                        cadft_tensor *grad,
                                        int32_t *trainable,
                                        cadft_error *error);

/** Index of a parameter by name. Errors: CADFT_E_NULL, CADFT_E_PHASE,
 *  CADFT_E_KEY (no such parameter). */
CADFT_API int32_t cadft_model_find(cadft_model *model,
                                   const char *name,
                                   int64_t *out,
                                   cadft_error *error);

/** Freeze (trainable 0) or thaw (1) the parameters whose names match a shell
 *  pattern, "model.layers.*.mlp.*": `*` matches any characters, `?` one.
 *  Frozen parameters have no gradient and cost no work for one; below the
 *  lowest layer with a trainable parameter there is no backward pass at all.
 *  Frees the gradients: call cadft_model_zero_grad again.
 *  @param matched  how many match; may be NULL
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no weights, or between forward and
 *  backward), CADFT_E_KEY (nothing matches). */
CADFT_API int32_t cadft_model_freeze(cadft_model *model,
                                     const char *pattern,
                                     int32_t trainable,
                                     int64_t *matched,
                                     cadft_error *error);

/* ------------------------------------------------------------ one batch */

/** The largest batch that is coming. Zero means as many as rows. */
typedef struct cadft_model_limits {
    uint32_t struct_size; /**< sizeof(cadft_model_limits) */
    int32_t no_grad;      /**< 1: forward passes without backward only */
    int64_t rows;         /**< tokens of a batch */
    int64_t logit_rows;   /**< rows that need logits */
    int64_t sequences;
} cadft_model_limits;

/** Bytes of activations that batches within these limits need, with the knobs
 *  as they are. Nothing stays allocated.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no weights), CADFT_E_ARG,
 *  CADFT_E_NOMEM (a list of the sequences, or more bytes than there are
 *  addresses). */
CADFT_API int32_t cadft_model_plan(cadft_model *model,
                                   const cadft_model_limits *limits,
                                   int64_t *bytes,
                                   cadft_error *error);

/** Allocate them, in one piece. cadft_model_forward does so by itself when a
 *  batch is larger than all before; after this it allocates nothing.
 *  Errors as cadft_model_plan, CADFT_E_PHASE also between forward and
 *  backward. */
CADFT_API int32_t cadft_model_reserve(cadft_model *model,
                                      const cadft_model_limits *limits,
                                      cadft_error *error);

/** Sequences and what is wanted of them. Integer tensors are int32 or int64 in
 *  host memory. */
typedef struct cadft_model_batch {
    uint32_t struct_size; /**< sizeof(cadft_model_batch) */
    int32_t no_grad;      /**< 1: no backward pass follows */
    /** Packed: [rows]. Padded: [B, T]; what lies behind a sequence's end is
     *  not read. */
    const cadft_tensor *tokens;
    /** Packed: [n + 1], sequence s is rows [cu_seqlens[s], cu_seqlens[s+1]),
     *  from 0 to rows. NULL with 1-D tokens: one sequence. */
    const cadft_tensor *cu_seqlens;
    /** Padded: [B], length of each sequence, 0 to T. NULL: all T. Logits have
     *  no rows for padding: the packed rows are those of all sequences in
     *  order. */
    const cadft_tensor *lengths;
    /** [n]: the packed rows that need logits, ascending; n may be 0. NULL:
     *  all. The loss then gets labels and sample ids of these rows only. */
    const cadft_tensor *logit_rows;
    void *stream; /**< the device's, or NULL; on host memory NULL */
} cadft_model_batch;

/** Logits of a batch. With no_grad = 0 the activations stay for
 *  cadft_model_backward; another forward pass, with or without no_grad,
 *  throws them away; of its errors CADFT_E_NOMEM and the backend's may, the
 *  others leave them.
 *  @param logits  set to a float32 view [logit rows, vocab] of the model's
 *                 memory, on the backend's device; caller sets struct_size.
 *                 Valid until the next forward, reserve, plan-changing knob
 *                 or generate; the host may write it (the loss puts the
 *                 gradient there).
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no weights), CADFT_E_SHAPE,
 *  CADFT_E_DTYPE, CADFT_E_DEVICE, CADFT_E_ARG (a token outside the
 *  vocabulary, a sequence longer than CADFT_MODEL_POSITIONS, cu_seqlens or
 *  logit_rows out of order, a stream with host memory; names the value),
 *  CADFT_E_NOMEM. */
CADFT_API int32_t cadft_model_forward(cadft_model *model,
                                      const cadft_model_batch *batch,
                                      cadft_tensor *logits,
                                      cadft_error *error);

/** Add the gradient of the last forward pass to the parameters' gradients.
 *  Once for each forward pass.
 *  @param grad_logits  float32 [logit rows, vocab] on the backend's device:
 *                      the logits' view itself, or the host's memory
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no forward pass with gradient, or no
 *  gradients: call cadft_model_zero_grad), CADFT_E_SHAPE, CADFT_E_DTYPE,
 *  CADFT_E_DEVICE. After a failure of the backend the gradients are
 *  unspecified. */
CADFT_API int32_t cadft_model_backward(cadft_model *model,
                                       const cadft_tensor *grad_logits,
                                       cadft_error *error);

/** Set all gradients to zero; the first call allocates them.
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no weights), CADFT_E_NOMEM. */
CADFT_API int32_t cadft_model_zero_grad(cadft_model *model, cadft_error *error);

/* ----------------------------------------------------------- generation */

/** A token was drawn.
 *  @param prompt   which prompt, 0 to n - 1
 *  @param position 0 for the first new token of the prompt
 *  @param logprob  its log-probability at temperature 1, before top_p
 *  @return 0 to go on, 1 to end this prompt here (the token is kept), a
 *          negative value to end cadft_model_generate with CADFT_E_CALLBACK */
typedef int32_t (*cadft_token_fn)(void *user,
                                  int64_t prompt,
                                  int64_t position,
                                  int32_t token,
                                  double logprob);

/** What to generate. Zero means the default shown: temperature 0 and top_p 0,
 *  the most likely token each time. */
typedef struct cadft_generate_desc {
    uint32_t struct_size;           /**< sizeof(cadft_generate_desc) */
    int32_t reserved;               /**< 0 */
    const cadft_tensor *tokens;     /**< prompts, as in cadft_model_batch */
    const cadft_tensor *cu_seqlens; /**< as in cadft_model_batch */
    const cadft_tensor *lengths;    /**< as in cadft_model_batch */
    int64_t max_new_tokens;         /**< at least 1 */
    /** Logits are divided by it; 0: the largest logit, ties to the lower
     *  token. */
    double temperature;
    /** In (0, 1]: draw from the fewest most likely tokens whose mass reaches
     *  it. 0 means 1. */
    double top_p;
    const int32_t *stop_tokens; /**< [n_stop_tokens] end a prompt, are kept */
    int64_t n_stop_tokens;
    /** Random numbers are a function of (seed, key of the prompt, step,
     *  position): never of the batch or of the threads. */
    uint64_t seed;
    const int64_t *keys;     /**< [n] or NULL: 0, 1, ...: a sample's id */
    int64_t step;            /**< of the optimizer, say */
    cadft_token_fn on_token; /**< may be NULL; on the calling thread */
    void *user;
    /** n, the prompts that `keys` and the outputs are for: another number in
     *  `tokens` is refused before anything is written. 0: not checked. */
    int64_t n_prompts;
} cadft_generate_desc;

/** Continue prompts with a KV cache. Throws the activations of a forward pass
 *  away; of its errors CADFT_E_NOMEM, CADFT_E_NONFINITE, CADFT_E_CALLBACK and
 *  the backend's may, the others leave them.
 *  @param tokens   int32 [n, max_new_tokens], what was drawn; the rest of a
 *                  row is untouched
 *  @param lengths  int64 [n], how many: at least 1, a stop token counted
 *  Errors: CADFT_E_NULL, CADFT_E_PHASE (no weights), CADFT_E_SHAPE (another
 *  number of prompts than n_prompts), CADFT_E_ARG (values out of range, an
 *  empty prompt, prompt and new tokens longer than
 *  CADFT_MODEL_POSITIONS), CADFT_E_NONFINITE (a row of logits with NaN),
 *  CADFT_E_NOMEM, CADFT_E_CALLBACK. What was drawn before an error stands. */
CADFT_API int32_t cadft_model_generate(cadft_model *model,
                                       const cadft_generate_desc *desc,
                                       int32_t *tokens,
                                       int64_t *lengths,
                                       cadft_error *error);

#ifdef __cplusplus
}
#endif

#endif
