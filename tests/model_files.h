/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of weights for the tests: a model's parts in one struct, and files
 * with anything that may be wrong with them. */
#ifndef TESTS_MODEL_FILES_H
#define TESTS_MODEL_FILES_H

#include "backend/context.h"
#include "common/error.h"
#include "files.h"
#include "io/element.h"
#include "io/safetensors.h"
#include "model/weights.h"
#include "model_text.h"

static cadft_error err;

typedef struct model_parts {
    cadft_context *context;
    cadft__config config;
    cadft__parameters parameters;
    cadft__origin origin;
} model_parts;

UNUSED_HERE static int32_t init_parts(cadft_context *context,
                                      model_text *text,
                                      uint64_t seed,
                                      int32_t dtype,
                                      model_parts *out)
{
    const char *json = text_json(text);
    err = support_error();
    out->context = context;
    return cadft__weights_init(context, json, strlen(json), seed, dtype,
                               &out->config, &out->parameters, &out->origin,
                               &err);
}

/* `folder` inside scratch. */
UNUSED_HERE static int32_t load_parts(cadft_context *context,
                                      const char *folder,
                                      int32_t dtype,
                                      model_parts *out)
{
    err = support_error();
    out->context = context;
    return cadft__weights_load(context, in_scratch(folder), dtype, &out->config,
                               &out->parameters, &out->origin, &err);
}

UNUSED_HERE static int32_t save_parts(const model_parts *parts,
                                      const char *folder)
{
    err = support_error();
    return cadft__weights_save(parts->context, in_scratch(folder),
                               &parts->parameters, &parts->origin, &err);
}

UNUSED_HERE static void free_parts(model_parts *parts)
{
    cadft__parameters_free(parts->context, &parts->parameters);
    cadft__origin_free(parts->context, &parts->origin);
}

/* A parameter's weights in host memory, to be freed. */
UNUSED_HERE static void *read_parameter(const model_parts *parts, int64_t i)
{
    const cadft__parameters *p = &parts->parameters;
    size_t bytes = (size_t)p->list[i].count * support_dtype_size(p->dtype);
    cadft_array from = cadft__parameters_weight(p, &p->list[i]);
    void *values = malloc(bytes);
    CHECK_OK(parts->context->backend->copy_out(parts->context->device, NULL,
                                               values, &from, bytes, &err),
             err);
    return values;
}

/* Same parameters with the same values, rounded from a's type to b's. */
UNUSED_HERE static void check_same(const model_parts *a, const model_parts *b)
{
    int32_t from = a->parameters.dtype, to = b->parameters.dtype;
    ck_assert_int_eq(a->parameters.count, b->parameters.count);
    for (int64_t i = 0; i < a->parameters.count; i++) {
        size_t n = (size_t)a->parameters.list[i].count;
        size_t bytes = n * support_dtype_size(to);
        void *x = read_parameter(a, i), *y = read_parameter(b, i);
        void *want = malloc(bytes);
        ck_assert_str_eq(a->parameters.list[i].name,
                         b->parameters.list[i].name);
        cadft__elements_convert(from, x, to, want, n);
        ck_assert_msg(memcmp(want, y, bytes) == 0, "%s differs",
                      a->parameters.list[i].name);
        free(x);
        free(y);
        free(want);
    }
}

/* --------------------------------------------------- files, tensor by tensor
 */

enum { TENSORS_MOST = 64 };

typedef struct tensor_list {
    size_t n;
    cadft__safetensors_item items[TENSORS_MOST];
    char names[TENSORS_MOST][CADFT__NAME_SIZE];
    int64_t shapes[TENSORS_MOST][2];
    void *data[TENSORS_MOST];
} tensor_list;

/* Values as `dtype` (float16 among them) that the type holds. */
UNUSED_HERE static void add_tensor(tensor_list *list,
                                   const char *name,
                                   int32_t dtype,
                                   int32_t ndim,
                                   int64_t rows,
                                   int64_t cols,
                                   const void *data)
{
    size_t n = list->n++, bytes;
    ck_assert_uint_lt(n, TENSORS_MOST);
    bytes = (size_t)(rows * cols) * support_dtype_size(dtype);
    list->data[n] = malloc(bytes);
    memcpy(list->data[n], data, bytes);
    strcpy(list->names[n], name);
    list->shapes[n][0] = rows;
    list->shapes[n][1] = cols;
    list->items[n] = (cadft__safetensors_item){.name = list->names[n],
                                               .dtype = dtype,
                                               .ndim = ndim,
                                               .shape = list->shapes[n],
                                               .data = list->data[n]};
}

/* A model's tensors in the type of its memory, or rounded to float16. */
UNUSED_HERE static void
list_tensors(const model_parts *parts, int32_t dtype, tensor_list *list)
{
    const cadft__parameters *p = &parts->parameters;
    list->n = 0;
    for (int64_t i = 0; i < p->count; i++) {
        void *values = read_parameter(parts, i);
        if (dtype != p->dtype)
            for (int64_t e = 0; e < p->list[i].count; e++)
                support_put(values, dtype, e, support_get(values, p->dtype, e));
        add_tensor(list, p->list[i].name, dtype, p->list[i].ndim,
                   p->list[i].shape[0], p->list[i].shape[1], values);
        free(values);
    }
}

UNUSED_HERE static void free_list(tensor_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->data[i]);
    list->n = 0;
}

UNUSED_HERE static size_t find_tensor(const tensor_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->names[i], name) == 0)
            return i;
    ck_abort_msg("no tensor %s", name);
    return 0;
}

/* Write config.json and the tensors as one file, or as two with an index. */
UNUSED_HERE static void write_folder(const char *folder,
                                     const char *config,
                                     const tensor_list *list,
                                     int sharded)
{
    static const char *const names[] = {
        "config.json", "model.safetensors", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json"};
    cadft__memory memory;
    cadft__save save;
    size_t half = sharded ? list->n / 2 : list->n, at;
    char *index = (char *)malloc(1 << 16);
    err = support_error();
    cadft__memory_init(&memory, NULL);
    remove_tree(in_scratch(folder));
    CHECK_OK(
        cadft__save_begin(&memory, in_scratch(folder), names, 5, &save, &err),
        err);
    CHECK_OK(cadft__save_text(&save, names[0], config, strlen(config), &err),
             err);
    CHECK_OK(cadft__safetensors_write(&save, names[sharded ? 2 : 1],
                                      list->items, half, &err),
             err);
    if (sharded) {
        CHECK_OK(cadft__safetensors_write(&save, names[3], list->items + half,
                                          list->n - half, &err),
                 err);
        at = (size_t)sprintf(index, "{\"metadata\": {}, \"weight_map\": {");
        for (size_t i = 0; i < list->n; i++)
            at += (size_t)sprintf(index + at, "%s\"%s\": \"%s\"", i ? ", " : "",
                                  list->names[i], names[i < half ? 2 : 3]);
        at += (size_t)sprintf(index + at, "}}");
        CHECK_OK(cadft__save_text(&save, names[4], index, at, &err), err);
    }
    CHECK_OK(cadft__save_commit(&save, &err), err);
    free(index);
}

#endif
