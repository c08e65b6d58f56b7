/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that take structs with pointers, with flat arguments.
 *
 * Go may hand C a pointer to its memory for the time of a call, but no struct
 * in Go memory that holds such pointers. So the address of each array is an
 * argument of its own, shapes are in structs without pointers, and the
 * library's structs are made here, on the C stack.
 *
 * Addresses are `char *`: they are those of arrays of numbers, which hold no
 * pointers, and cgo does not search what a `char *` points to. */
#ifndef EXAMPLES_GO_SHIM_H
#define EXAMPLES_GO_SHIM_H

#include <cadft/cadft.h>

enum { GOCADFT_DIMS = 8 };

/* A tensor without its address. */
typedef struct gocadft_view {
    int64_t shape[GOCADFT_DIMS], strides[GOCADFT_DIMS];
    int32_t dtype, ndim;
    int32_t strided; /* 0: dense, strides are not read */
    int32_t present; /* 0: NULL in place of a tensor */
    int32_t device_type, device_id;
} gocadft_view;

/* The tensor of a view at an address, for C alone; NULL where the view is not
 * present. Several are made one after the other: nothing happens once
 * `status` is an error. */
void gocadft_tensor(const gocadft_view *view,
                    char *data,
                    cadft_tensor *tensor,
                    const cadft_tensor **out,
                    int32_t *status,
                    cadft_error *e);

/* Gives the handle of a Go value back: a callback's `destroy`. */
void gocadft_release(void *user);

/* What callback.go exports; cgo knows no const. `user` is a handle. */
int32_t gocadftCoefficient(
    uintptr_t user, int64_t rows, double *l, double *p, double *h, double *k);
int32_t gocadftToken(uintptr_t user,
                     int64_t prompt,
                     int64_t position,
                     int32_t id,
                     double logprob);
void gocadftLog(uintptr_t user, int32_t level, char *text, size_t length);
void gocadftRelease(uintptr_t user);

/* Nouns with knobs. */
enum { GOCADFT_LOSS, GOCADFT_MODEL, GOCADFT_OPTIMIZER, GOCADFT_REWRITE };

int32_t
gocadft_key(int32_t noun, const char *name, int32_t *key, cadft_error *e);
int32_t gocadft_key_at(int32_t noun,
                       int32_t index,
                       const char **name,
                       int32_t *key,
                       cadft_error *e);
int32_t gocadft_bounds(int32_t noun,
                       int32_t key,
                       int32_t *type,
                       double *smallest,
                       double *largest,
                       double *standard,
                       cadft_error *e);
int32_t gocadft_set_i64(
    int32_t noun, void *handle, int32_t key, int64_t value, cadft_error *e);
int32_t gocadft_set_f64(
    int32_t noun, void *handle, int32_t key, double value, cadft_error *e);
int32_t gocadft_set_str(
    int32_t noun, void *handle, int32_t key, const char *value, cadft_error *e);
int32_t gocadft_get_i64(
    int32_t noun, void *handle, int32_t key, int64_t *out, cadft_error *e);
int32_t gocadft_get_f64(
    int32_t noun, void *handle, int32_t key, double *out, cadft_error *e);
int32_t gocadft_get_str(int32_t noun,
                        void *handle,
                        int32_t key,
                        char *buffer,
                        size_t capacity,
                        size_t *needed,
                        cadft_error *e);

/* A `log` of 0 is none; else it is the handle of a Go value, which
 * gocadftRelease gives back. */
int32_t gocadft_context_create(int32_t n_threads,
                               const char *backend,
                               const char *backend_options,
                               const cadft_allocator *allocator,
                               const cadft_parallel *parallel,
                               int32_t log_level,
                               uintptr_t log,
                               cadft_context **out,
                               cadft_error *e);
int32_t gocadft_context_read(cadft_context *context,
                             const gocadft_view *view,
                             char *from,
                             char *to,
                             size_t bytes,
                             cadft_error *e);
int32_t gocadft_context_write(cadft_context *context,
                              const gocadft_view *view,
                              char *to,
                              const char *from,
                              size_t bytes,
                              cadft_error *e);

typedef struct gocadft_loss_batch {
    gocadft_view logits, labels, sample_ids, k;
    int64_t vocab_valid, vocab_start, vocab_total;
} gocadft_loss_batch;

int32_t gocadft_loss_compute(cadft_loss *loss,
                             const gocadft_loss_batch *batch,
                             char *logits,
                             char *labels,
                             char *sample_ids,
                             char *k,
                             char *stream,
                             int64_t n_samples,
                             const gocadft_view *grad,
                             char *grad_data,
                             float *row_scale,
                             cadft_loss_report *report,
                             cadft_error *e);
int32_t gocadft_loss_observe(cadft_loss *loss,
                             const gocadft_loss_batch *batch,
                             char *logits,
                             char *labels,
                             char *sample_ids,
                             char *k,
                             char *stream,
                             const gocadft_view *grad,
                             char *grad_data,
                             int64_t *micro,
                             cadft_error *e);
int32_t gocadft_loss_grad(cadft_loss *loss,
                          int64_t micro,
                          const gocadft_loss_batch *batch,
                          char *logits,
                          char *labels,
                          char *sample_ids,
                          char *k,
                          char *stream,
                          const gocadft_view *grad,
                          char *grad_data,
                          cadft_error *e);
int32_t
gocadft_loss_coefficient(cadft_loss *loss, uintptr_t fn, cadft_error *e);

int32_t gocadft_ids_padded(int64_t n_sequences,
                           int64_t length,
                           const gocadft_view *view,
                           char *lengths,
                           int32_t first_id,
                           int32_t *ids,
                           cadft_error *e);
int32_t gocadft_ids_cu_seqlens(const gocadft_view *view,
                               char *cu_seqlens,
                               int64_t rows,
                               int32_t first_id,
                               int32_t *ids,
                               cadft_error *e);
int32_t gocadft_ids_position_ids(const gocadft_view *view,
                                 char *position_ids,
                                 int32_t first_id,
                                 int32_t *ids,
                                 int64_t *n_samples,
                                 cadft_error *e);

typedef struct gocadft_model_batch {
    gocadft_view tokens, cu_seqlens, lengths, logit_rows;
    int32_t no_grad;
} gocadft_model_batch;

int32_t gocadft_model_forward(cadft_model *model,
                              const gocadft_model_batch *batch,
                              char *tokens,
                              char *cu_seqlens,
                              char *lengths,
                              char *logit_rows,
                              char *stream,
                              gocadft_view *view,
                              char **logits,
                              cadft_error *e);
int32_t gocadft_model_backward(cadft_model *model,
                               const gocadft_view *view,
                               char *grad_logits,
                               cadft_error *e);
int32_t gocadft_model_parameter(cadft_model *model,
                                int64_t index,
                                const char **name,
                                gocadft_view *value_view,
                                char **value,
                                gocadft_view *grad_view,
                                char **grad,
                                int32_t *trainable,
                                cadft_error *e);

typedef struct gocadft_generate {
    gocadft_view tokens, cu_seqlens, lengths;
    int64_t max_new_tokens, n_stop_tokens, step, n_prompts;
    double temperature, top_p;
    uint64_t seed;
} gocadft_generate;

/* `on_token`: the handle of a Go value, or 0. */
int32_t gocadft_model_generate(cadft_model *model,
                               const gocadft_generate *desc,
                               char *tokens,
                               char *cu_seqlens,
                               char *lengths,
                               const int32_t *stop_tokens,
                               const int64_t *keys,
                               uintptr_t on_token,
                               int32_t *drawn,
                               int64_t *counts,
                               cadft_error *e);

int32_t gocadft_optimizer_add(cadft_optimizer *optimizer,
                              const char *name,
                              const gocadft_view *value_view,
                              char *value,
                              const gocadft_view *grad_view,
                              char *grad,
                              cadft_error *e);

int32_t gocadft_rewrite_commit(cadft_rewrite *rewrite,
                               int64_t id,
                               int32_t ended,
                               const int32_t *tokens,
                               int64_t n_tokens,
                               double c_new,
                               double c_old,
                               int32_t *rejected,
                               cadft_error *e);

int32_t gocadft_checkpoint_save(cadft_context *context,
                                const char *folder,
                                int64_t step,
                                int32_t keep,
                                cadft_model *model,
                                cadft_optimizer *optimizer,
                                cadft_loss *loss,
                                cadft_rewrite *rewrite,
                                const char *host,
                                size_t host_bytes,
                                cadft_error *e);
int32_t gocadft_checkpoint_load(cadft_context *context,
                                const char *folder,
                                int64_t step,
                                cadft_model *model,
                                cadft_optimizer *optimizer,
                                cadft_loss *loss,
                                cadft_rewrite *rewrite,
                                char *host,
                                size_t capacity,
                                size_t *host_bytes,
                                cadft_error *e);

/* Memory that C may keep, zeroed; NULL on failure. */
char *gocadft_memory(size_t bytes);
void gocadft_memory_free(char *memory);

#endif
