/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

#include <stdlib.h>

#include "_cgo_export.h"

/* ------------------------------------------------------------------ knobs */

/* The call of this name of the noun. */
#define OF_NOUN(verb, ...)                                                     \
    switch (noun) {                                                            \
    case BIND_LOSS:                                                            \
        return cadft_loss_##verb(__VA_ARGS__);                                 \
    case BIND_MODEL:                                                           \
        return cadft_model_##verb(__VA_ARGS__);                                \
    case BIND_OPTIMIZER:                                                       \
        return cadft_optimizer_##verb(__VA_ARGS__);                            \
    default:                                                                   \
        return cadft_rewrite_##verb(__VA_ARGS__);                              \
    }

int32_t bind_key(int32_t noun, const char *name, int32_t *key, cadft_error *e)
{
    OF_NOUN(key, name, key, e)
}

int32_t bind_bounds(int32_t noun,
                    int32_t key,
                    int32_t *type,
                    double *smallest,
                    double *largest,
                    double *standard,
                    cadft_error *e)
{
    OF_NOUN(bounds, key, type, smallest, largest, standard, e)
}

int32_t bind_set_i64(
    int32_t noun, void *handle, int32_t key, int64_t value, cadft_error *e)
{
    OF_NOUN(set_i64, handle, key, value, e)
}

int32_t bind_set_str(
    int32_t noun, void *handle, int32_t key, const char *value, cadft_error *e)
{
    OF_NOUN(set_str, handle, key, value, e)
}

int32_t bind_get_i64(
    int32_t noun, void *handle, int32_t key, int64_t *out, cadft_error *e)
{
    OF_NOUN(get_i64, handle, key, out, e)
}

int32_t bind_get_str(int32_t noun,
                     void *handle,
                     int32_t key,
                     char *buffer,
                     size_t capacity,
                     size_t *needed,
                     cadft_error *e)
{
    OF_NOUN(get_str, handle, key, buffer, capacity, needed, e)
}

/* A model has no f64 knobs, and no calls for them. */
static int32_t no_f64(cadft_error *e)
{
    static const char text[] = "a model has no knob of type f64";
    e->code = CADFT_E_KEY;
    for (size_t i = 0; i < sizeof text; i++)
        e->message[i] = text[i];
    return CADFT_E_KEY;
}

int32_t bind_set_f64(
    int32_t noun, void *handle, int32_t key, double value, cadft_error *e)
{
    switch (noun) {
    case BIND_LOSS:
        return cadft_loss_set_f64(handle, key, value, e);
    case BIND_OPTIMIZER:
        return cadft_optimizer_set_f64(handle, key, value, e);
    case BIND_REWRITE:
        return cadft_rewrite_set_f64(handle, key, value, e);
    default:
        return no_f64(e);
    }
}

int32_t bind_get_f64(
    int32_t noun, void *handle, int32_t key, double *out, cadft_error *e)
{
    switch (noun) {
    case BIND_LOSS:
        return cadft_loss_get_f64(handle, key, out, e);
    case BIND_OPTIMIZER:
        return cadft_optimizer_get_f64(handle, key, out, e);
    case BIND_REWRITE:
        return cadft_rewrite_get_f64(handle, key, out, e);
    default:
        return no_f64(e);
    }
}

/* ---------------------------------------------------------------- tensors */

/* The library reads shapes and strides only. */
static int64_t *unconst(const int64_t *values)
{
    return (int64_t *)(uintptr_t)values;
}

/* Several tensors are made one after the other: nothing happens once `status`
 * is an error. `out` may be NULL where the view has to be present. */
static void tensor_of(const bind_view *view,
                      char *data,
                      cadft_tensor *tensor,
                      const cadft_tensor **out,
                      int32_t *status,
                      cadft_error *e)
{
    *out = NULL;
    if (*status || !view->present)
        return;
    *status = cadft_tensor_init(tensor, sizeof *tensor, data, view->dtype,
                                view->ndim, unconst(view->shape),
                                view->strided ? unconst(view->strides) : NULL,
                                e);
    tensor->device_type = view->device_type;
    tensor->device_id = view->device_id;
    *out = tensor;
}

/* The way back, of tensors of the library's own. */
static void view_of(const cadft_tensor *tensor, bind_view *view, char **data)
{
    *view = (bind_view){.ndim = tensor->ndim,
                        .strided = tensor->strides != NULL,
                        .present = tensor->data != NULL,
                        .device_type = tensor->device_type,
                        .device_id = tensor->device_id};
    view->dtype = tensor->dtype_code | tensor->dtype_bits << 8 |
                  tensor->dtype_lanes << 16;
    for (int32_t d = 0; d < tensor->ndim && d < BIND_DIMS; d++) {
        view->shape[d] = tensor->shape[d];
        view->strides[d] = tensor->strides ? tensor->strides[d] : 0;
    }
    *data = tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
}

/* ---------------------------------------------------------------- context */

static void write_log(void *user, int32_t level, const char *text, size_t n)
{
    goLog((uintptr_t)user, level, (char *)(uintptr_t)text, n);
}

static void release(void *user)
{
    goRelease((uintptr_t)user);
}

int32_t bind_context_create(int32_t n_threads,
                            const char *backend,
                            const char *backend_options,
                            const cadft_allocator *allocator,
                            const cadft_parallel *parallel,
                            int32_t log_level,
                            uintptr_t log,
                            cadft_context **out,
                            cadft_error *e)
{
    cadft_log sink = {.struct_size = sizeof sink,
                      .max_level = log_level,
                      .user = (void *)log,
                      .write = write_log,
                      .destroy = release};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = n_threads,
                               .allocator = allocator,
                               .log = log ? &sink : NULL,
                               .parallel = parallel,
                               .backend = backend,
                               .backend_options = backend_options};
    return cadft_context_create(&desc, out, e);
}

int32_t bind_context_read(cadft_context *context,
                          const bind_view *view,
                          char *from,
                          char *to,
                          size_t bytes,
                          cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, from, &tensor, &t, &status, e);
    return status ? status : cadft_context_read(context, t, to, bytes, e);
}

int32_t bind_context_write(cadft_context *context,
                           const bind_view *view,
                           char *to,
                           const char *from,
                           size_t bytes,
                           cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, to, &tensor, &t, &status, e);
    return status ? status : cadft_context_write(context, t, from, bytes, e);
}

/* ------------------------------------------------------------------- loss */

/* A batch and what it points to. */
typedef struct batch_tensors {
    cadft_tensor logits, labels, sample_ids, k, grad;
    const cadft_tensor *grad_or_null;
    cadft_loss_batch batch;
} batch_tensors;

static int32_t batch_of(batch_tensors *t,
                        const bind_loss_batch *from,
                        char *logits,
                        char *labels,
                        char *sample_ids,
                        char *k,
                        char *stream,
                        const bind_view *grad,
                        char *grad_data,
                        cadft_error *e)
{
    cadft_loss_batch *b = &t->batch;
    int32_t status = CADFT_OK;
    *b = (cadft_loss_batch){.struct_size = sizeof *b,
                            .vocab_valid = from->vocab_valid,
                            .vocab_start = from->vocab_start,
                            .vocab_total = from->vocab_total,
                            .stream = stream};
    tensor_of(&from->logits, logits, &t->logits, &b->logits, &status, e);
    tensor_of(&from->labels, labels, &t->labels, &b->labels, &status, e);
    tensor_of(&from->sample_ids, sample_ids, &t->sample_ids, &b->sample_ids,
              &status, e);
    tensor_of(&from->k, k, &t->k, &b->k, &status, e);
    tensor_of(grad, grad_data, &t->grad, &t->grad_or_null, &status, e);
    return status;
}

int32_t bind_loss_compute(cadft_loss *loss,
                          const bind_loss_batch *batch,
                          char *logits,
                          char *labels,
                          char *sample_ids,
                          char *k,
                          char *stream,
                          int64_t n_samples,
                          const bind_view *grad,
                          char *grad_data,
                          float *row_scale,
                          cadft_loss_report *report,
                          cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    report->struct_size = sizeof *report;
    return status ? status
                  : cadft_loss_compute(loss, &t.batch, n_samples,
                                       t.grad_or_null, row_scale, report, e);
}

int32_t bind_loss_observe(cadft_loss *loss,
                          const bind_loss_batch *batch,
                          char *logits,
                          char *labels,
                          char *sample_ids,
                          char *k,
                          char *stream,
                          const bind_view *grad,
                          char *grad_data,
                          int64_t *micro,
                          cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    return status ? status
                  : cadft_loss_observe(loss, &t.batch, t.grad_or_null, micro,
                                       e);
}

int32_t bind_loss_grad(cadft_loss *loss,
                       int64_t micro,
                       const bind_loss_batch *batch,
                       char *logits,
                       char *labels,
                       char *sample_ids,
                       char *k,
                       char *stream,
                       const bind_view *grad,
                       char *grad_data,
                       cadft_error *e)
{
    batch_tensors t;
    int32_t status = batch_of(&t, batch, logits, labels, sample_ids, k, stream,
                              grad, grad_data, e);
    return status ? status
                  : cadft_loss_grad(loss, micro, &t.batch, t.grad_or_null, e);
}

/* cgo's exported functions know no const. */
static double *mutable(const double *values)
{
    return (double *)(uintptr_t)values;
}

static int32_t coefficient(void *user,
                           int64_t rows,
                           const double *l,
                           const double *p,
                           const double *entropy,
                           double *k)
{
    return goCoefficient((uintptr_t)user, rows, mutable(l), mutable(p),
                         mutable(entropy), k);
}

int32_t bind_loss_coefficient(cadft_loss *loss, uintptr_t fn, cadft_error *e)
{
    cadft_coefficient bundle = {.struct_size = sizeof bundle,
                                .user = (void *)fn,
                                .fn = coefficient,
                                .destroy = release};
    return cadft_loss_set_coefficient(loss, fn ? &bundle : NULL, e);
}

/* ------------------------------------------------------------- sample ids */

int32_t bind_ids_padded(int64_t n_sequences,
                        int64_t length,
                        const bind_view *view,
                        char *lengths,
                        int32_t first_id,
                        int32_t *ids,
                        cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, lengths, &tensor, &t, &status, e);
    return status ? status
                  : cadft_sample_ids_padded(n_sequences, length, t, first_id,
                                            ids, e);
}

int32_t bind_ids_cu_seqlens(const bind_view *view,
                            char *cu_seqlens,
                            int64_t rows,
                            int32_t first_id,
                            int32_t *ids,
                            cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, cu_seqlens, &tensor, &t, &status, e);
    return status ? status
                  : cadft_sample_ids_cu_seqlens(t, rows, first_id, ids, e);
}

int32_t bind_ids_position_ids(const bind_view *view,
                              char *position_ids,
                              int32_t first_id,
                              int32_t *ids,
                              int64_t *n_samples,
                              cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, position_ids, &tensor, &t, &status, e);
    return status ? status
                  : cadft_sample_ids_position_ids(t, first_id, ids, n_samples,
                                                  e);
}

/* ------------------------------------------------------------------ model */

int32_t bind_model_forward(cadft_model *model,
                           const bind_model_batch *batch,
                           char *tokens,
                           char *cu_seqlens,
                           char *lengths,
                           char *logit_rows,
                           char *stream,
                           bind_view *view,
                           char **logits,
                           cadft_error *e)
{
    cadft_tensor t[4], out = {.struct_size = sizeof out};
    cadft_model_batch b = {.struct_size = sizeof b,
                           .no_grad = batch->no_grad,
                           .stream = stream};
    int32_t status = CADFT_OK;
    tensor_of(&batch->tokens, tokens, &t[0], &b.tokens, &status, e);
    tensor_of(&batch->cu_seqlens, cu_seqlens, &t[1], &b.cu_seqlens, &status, e);
    tensor_of(&batch->lengths, lengths, &t[2], &b.lengths, &status, e);
    tensor_of(&batch->logit_rows, logit_rows, &t[3], &b.logit_rows, &status, e);
    if (!status)
        status = cadft_model_forward(model, &b, &out, e);
    if (!status) {
        view_of(&out, view, logits);
        view->present = 1; /* no logit rows: a tensor without elements */
    }
    return status;
}

int32_t bind_model_backward(cadft_model *model,
                            const bind_view *view,
                            char *grad_logits,
                            cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    tensor_of(view, grad_logits, &tensor, &t, &status, e);
    return status ? status : cadft_model_backward(model, t, e);
}

int32_t bind_model_parameter(cadft_model *model,
                             int64_t index,
                             const char **name,
                             bind_view *value_view,
                             char **value,
                             bind_view *grad_view,
                             char **grad,
                             int32_t *trainable,
                             cadft_error *e)
{
    cadft_tensor v = {.struct_size = sizeof v}, g = {.struct_size = sizeof g};
    int32_t status =
        cadft_model_parameter(model, index, name, &v, &g, trainable, e);
    if (!status) {
        view_of(&v, value_view, value);
        view_of(&g, grad_view, grad);
    }
    return status;
}

static int32_t on_token_drawn(void *user,
                              int64_t prompt,
                              int64_t position,
                              int32_t token,
                              double logprob)
{
    return goToken((uintptr_t)user, prompt, position, token, logprob);
}

int32_t bind_model_generate(cadft_model *model,
                            const bind_generate *desc,
                            char *tokens,
                            char *cu_seqlens,
                            char *lengths,
                            const int32_t *stop_tokens,
                            const int64_t *keys,
                            uintptr_t on_token,
                            int32_t *drawn,
                            int64_t *counts,
                            cadft_error *e)
{
    cadft_tensor t[3];
    cadft_generate_desc d = {.struct_size = sizeof d,
                             .max_new_tokens = desc->max_new_tokens,
                             .temperature = desc->temperature,
                             .top_p = desc->top_p,
                             .stop_tokens = stop_tokens,
                             .n_stop_tokens = desc->n_stop_tokens,
                             .seed = desc->seed,
                             .keys = keys,
                             .step = desc->step,
                             .on_token = on_token ? on_token_drawn : NULL,
                             .user = (void *)on_token};
    int32_t status = CADFT_OK;
    tensor_of(&desc->tokens, tokens, &t[0], &d.tokens, &status, e);
    tensor_of(&desc->cu_seqlens, cu_seqlens, &t[1], &d.cu_seqlens, &status, e);
    tensor_of(&desc->lengths, lengths, &t[2], &d.lengths, &status, e);
    return status ? status : cadft_model_generate(model, &d, drawn, counts, e);
}

/* --------------------------------- optimizer, rewriting, checkpoints, memory */

int32_t bind_optimizer_add(cadft_optimizer *optimizer,
                           const char *name,
                           const bind_view *value_view,
                           char *value,
                           const bind_view *grad_view,
                           char *grad,
                           cadft_error *e)
{
    cadft_tensor tensors[2];
    const cadft_tensor *v, *g;
    int32_t status = CADFT_OK;
    tensor_of(value_view, value, &tensors[0], &v, &status, e);
    tensor_of(grad_view, grad, &tensors[1], &g, &status, e);
    return status ? status : cadft_optimizer_add(optimizer, name, v, g, e);
}

int32_t bind_rewrite_commit(cadft_rewrite *rewrite,
                            int64_t id,
                            int32_t ended,
                            const int32_t *tokens,
                            int64_t n_tokens,
                            double c_new,
                            double c_old,
                            int32_t *rejected,
                            cadft_error *e)
{
    cadft_rewrite_result result = {.struct_size = sizeof result,
                                   .ended = ended,
                                   .tokens = tokens,
                                   .n_tokens = n_tokens,
                                   .c_new = c_new,
                                   .c_old = c_old};
    return cadft_rewrite_commit(rewrite, id, &result, rejected, e);
}

int32_t bind_checkpoint_save(cadft_context *context,
                             const char *folder,
                             int64_t step,
                             int32_t keep,
                             cadft_model *model,
                             cadft_optimizer *optimizer,
                             cadft_loss *loss,
                             cadft_rewrite *rewrite,
                             const char *host,
                             size_t host_bytes,
                             cadft_error *e)
{
    cadft_checkpoint point = {.struct_size = sizeof point,
                              .keep = keep,
                              .folder = folder,
                              .step = step,
                              .model = model,
                              .optimizer = optimizer,
                              .loss = loss,
                              .rewrite = rewrite,
                              .host = host,
                              .host_bytes = host_bytes};
    return cadft_checkpoint_save(context, &point, e);
}

int32_t bind_checkpoint_load(cadft_context *context,
                             const char *folder,
                             int64_t step,
                             cadft_model *model,
                             cadft_optimizer *optimizer,
                             cadft_loss *loss,
                             cadft_rewrite *rewrite,
                             char *host,
                             size_t capacity,
                             size_t *host_bytes,
                             cadft_error *e)
{
    cadft_checkpoint point = {.struct_size = sizeof point,
                              .folder = folder,
                              .step = step,
                              .model = model,
                              .optimizer = optimizer,
                              .loss = loss,
                              .rewrite = rewrite};
    return cadft_checkpoint_load(context, &point, host, capacity, host_bytes,
                                 e);
}

char *bind_memory(size_t bytes)
{
    return calloc(bytes ? bytes : 1, 1);
}

void bind_memory_free(char *memory)
{
    free(memory);
}
