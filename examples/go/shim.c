/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

#include <stdlib.h>

/* ------------------------------------------------------------------ knobs */

/* The call of this name of the noun. */
#define OF_NOUN(verb, ...)                                                     \
    switch (noun) {                                                            \
    case GOCADFT_LOSS:                                                         \
        return cadft_loss_##verb(__VA_ARGS__);                                 \
    case GOCADFT_MODEL:                                                        \
        return cadft_model_##verb(__VA_ARGS__);                                \
    case GOCADFT_OPTIMIZER:                                                    \
        return cadft_optimizer_##verb(__VA_ARGS__);                            \
    default:                                                                   \
        return cadft_rewrite_##verb(__VA_ARGS__);                              \
    }

int32_t gocadft_key(int32_t noun,
                    const char *name,
                    int32_t *key,
                    cadft_error *e){OF_NOUN(key, name, key, e)}

int32_t gocadft_key_at(int32_t noun,
                       int32_t index,
                       const char **name,
                       int32_t *key,
                       cadft_error *e){OF_NOUN(key_at, index, name, key, e)}

int32_t gocadft_bounds(int32_t noun,
                       int32_t key,
                       int32_t *type,
                       double *smallest,
                       double *largest,
                       double *standard,
                       cadft_error *e){
    OF_NOUN(bounds, key, type, smallest, largest, standard, e)}

int32_t gocadft_set_i64(int32_t noun,
                        void *handle,
                        int32_t key,
                        int64_t value,
                        cadft_error *e){OF_NOUN(set_i64, handle, key, value, e)}

int32_t gocadft_set_str(int32_t noun,
                        void *handle,
                        int32_t key,
                        const char *value,
                        cadft_error *e){OF_NOUN(set_str, handle, key, value, e)}

int32_t gocadft_get_i64(int32_t noun,
                        void *handle,
                        int32_t key,
                        int64_t *out,
                        cadft_error *e){OF_NOUN(get_i64, handle, key, out, e)}

int32_t gocadft_get_str(int32_t noun,
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

int32_t gocadft_set_f64(
    int32_t noun, void *handle, int32_t key, double value, cadft_error *e)
{
    switch (noun) {
    case GOCADFT_LOSS:
        return cadft_loss_set_f64(handle, key, value, e);
    case GOCADFT_OPTIMIZER:
        return cadft_optimizer_set_f64(handle, key, value, e);
    case GOCADFT_REWRITE:
        return cadft_rewrite_set_f64(handle, key, value, e);
    default:
        return no_f64(e);
    }
}

int32_t gocadft_get_f64(
    int32_t noun, void *handle, int32_t key, double *out, cadft_error *e)
{
    switch (noun) {
    case GOCADFT_LOSS:
        return cadft_loss_get_f64(handle, key, out, e);
    case GOCADFT_OPTIMIZER:
        return cadft_optimizer_get_f64(handle, key, out, e);
    case GOCADFT_REWRITE:
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

void gocadft_tensor(const gocadft_view *view,
                    char *data,
                    cadft_tensor *tensor,
                    const cadft_tensor **out,
                    int32_t *status,
                    cadft_error *e)
{
    *out = NULL;
    if (*status || !view->present)
        return;
    *status = cadft_tensor_init(
        tensor, sizeof *tensor, data, view->dtype, view->ndim,
        unconst(view->shape), view->strided ? unconst(view->strides) : NULL, e);
    tensor->device_type = view->device_type;
    tensor->device_id = view->device_id;
    *out = tensor;
}

/* ---------------------------------------------------------------- context */

static void write_log(void *user, int32_t level, const char *text, size_t n)
{
    gocadftLog((uintptr_t)user, level, (char *)(uintptr_t)text, n);
}

void gocadft_release(void *user)
{
    gocadftRelease((uintptr_t)user);
}

int32_t gocadft_context_create(int32_t n_threads,
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
                      .destroy = gocadft_release};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = n_threads,
                               .allocator = allocator,
                               .log = log ? &sink : NULL,
                               .parallel = parallel,
                               .backend = backend,
                               .backend_options = backend_options};
    return cadft_context_create(&desc, out, e);
}

int32_t gocadft_context_read(cadft_context *context,
                             const gocadft_view *view,
                             char *from,
                             char *to,
                             size_t bytes,
                             cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, from, &tensor, &t, &status, e);
    return status ? status : cadft_context_read(context, t, to, bytes, e);
}

int32_t gocadft_context_write(cadft_context *context,
                              const gocadft_view *view,
                              char *to,
                              const char *from,
                              size_t bytes,
                              cadft_error *e)
{
    cadft_tensor tensor;
    const cadft_tensor *t;
    int32_t status = CADFT_OK;
    gocadft_tensor(view, to, &tensor, &t, &status, e);
    return status ? status : cadft_context_write(context, t, from, bytes, e);
}

char *gocadft_memory(size_t bytes)
{
    return calloc(bytes ? bytes : 1, 1);
}

void gocadft_memory_free(char *memory)
{
    free(memory);
}
