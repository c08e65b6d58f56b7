/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of checkpoints share: one of each handle, small, with a past
 * that differs from seed to seed. */
#ifndef TESTS_CHECKPOINT_WORLD_H
#define TESTS_CHECKPOINT_WORLD_H

#include "files.h"
#include "model_text.h"

enum { WORLD_SAMPLES = 12, WORLD_HOST = 100, WORLD_FILES = 7 };

static cadft_error err;

/* All files of a checkpoint with all parts. */
static const char *const world_files[WORLD_FILES] = {
    "config.json",    "model.safetensors",     "loss.state",
    "rewrite.state",  "optimizer.safetensors", "host.state",
    "checkpoint.json"};

typedef struct world {
    cadft_context *context;
    cadft_model *model;
    cadft_optimizer *optimizer;
    cadft_loss *loss;
    cadft_rewrite *rewrite;
    char host[WORLD_HOST];
} world;

/* Handles without a past; the model has no weights. */
UNUSED_HERE static void world_open(world *w, cadft_context *context)
{
    err = support_error();
    memset(w, 0, sizeof *w);
    w->context = context;
    CHECK_OK(cadft_model_create(context, &w->model, &err), err);
    CHECK_OK(cadft_optimizer_create(context, &w->optimizer, &err), err);
    CHECK_OK(cadft_loss_create(context, &w->loss, &err), err);
    CHECK_OK(cadft_loss_set_str(w->loss, CADFT_LOSS_SCOPE, "running", &err),
             err);
    CHECK_OK(cadft_rewrite_create(context, WORLD_SAMPLES, &w->rewrite, &err),
             err);
}

/* The context is the caller's. */
UNUSED_HERE static void world_close(world *w)
{
    cadft_model_destroy(w->model);
    cadft_optimizer_destroy(w->optimizer);
    cadft_loss_destroy(w->loss);
    cadft_rewrite_destroy(w->rewrite);
}

UNUSED_HERE static void world_init_model(world *w, uint64_t seed)
{
    model_text text = text_of("Qwen3");
    const char *json = text_json(&text);
    CHECK_OK(cadft_model_init(w->model, json, strlen(json), seed, &err), err);
}

/* A global batch and what comes of it. */
UNUSED_HERE static void world_step(world *w)
{
    support_batch *b = support_batch_new(24, 16, CADFT_DTYPE_F32, 6, 2);
    double c[6], chat[6];
    int64_t ids[6], n;
    CHECK_OK(cadft_loss_compute(w->loss, &b->batch, 6, NULL, NULL, NULL, &err),
             err);
    cadft_loss_get_samples(w->loss, CADFT_SAMPLES_C, c, 6, NULL, NULL);
    cadft_loss_get_samples(w->loss, CADFT_SAMPLES_CHAT, chat, 6, NULL, NULL);
    for (int i = 0; i < 6; i++)
        ids[i] = support_below(WORLD_SAMPLES);
    CHECK_OK(cadft_rewrite_observe(w->rewrite, ids, c, chat, 6, &err), err);
    CHECK_OK(cadft_model_zero_grad(w->model, &err), err);
    CHECK_OK(cadft_model_get_i64(w->model, CADFT_MODEL_PARAMETERS, &n, &err),
             err);
    for (int64_t i = 0; i < n; i++) {
        cadft_tensor grad = {.struct_size = sizeof grad};
        size_t count = 1;
        float *values;
        cadft_model_parameter(w->model, i, NULL, NULL, &grad, NULL, NULL);
        for (int32_t d = 0; d < grad.ndim; d++)
            count *= (size_t)grad.shape[d];
        values = (float *)malloc(count * sizeof *values);
        for (size_t k = 0; k < count; k++)
            values[k] = (float)support_normal();
        CHECK_OK(cadft_context_write(w->context, &grad, values,
                                     count * sizeof *values, &err),
                 err);
        free(values);
    }
    CHECK_OK(cadft_optimizer_step(w->optimizer, NULL, NULL, &err), err);
    support_batch_free(b);
}

/* All of it, three steps old. */
UNUSED_HERE static void
world_new(world *w, cadft_context *context, uint64_t seed)
{
    world_open(w, context);
    world_init_model(w, seed);
    CHECK_OK(cadft_optimizer_add_model(w->optimizer, w->model, NULL, &err),
             err);
    support_seed(seed);
    for (int i = 0; i < 3; i++)
        world_step(w);
    for (int i = 0; i < WORLD_HOST; i++)
        w->host[i] = (char)support_bits();
}

/* Every part of it, in a folder of the scratch folder. */
UNUSED_HERE static cadft_checkpoint
world_point(world *w, const char *folder, int64_t step)
{
    return (cadft_checkpoint){.struct_size = sizeof(cadft_checkpoint),
                              .folder = in_scratch(folder),
                              .step = step,
                              .model = w->model,
                              .optimizer = w->optimizer,
                              .loss = w->loss,
                              .rewrite = w->rewrite,
                              .host = w->host,
                              .host_bytes = sizeof w->host};
}

UNUSED_HERE static int32_t
world_save(world *w, const char *folder, int64_t step, int32_t keep)
{
    cadft_checkpoint point = world_point(w, folder, step);
    point.keep = keep;
    err = support_error();
    return cadft_checkpoint_save(w->context, &point, &err);
}

/* The model first, then what was made for it. */
UNUSED_HERE static void world_load(world *w, const char *folder, int64_t step)
{
    cadft_checkpoint point = world_point(w, folder, step);
    point.optimizer = NULL;
    point.loss = NULL;
    point.rewrite = NULL;
    CHECK_OK(cadft_checkpoint_load(w->context, &point, NULL, 0, NULL, &err),
             err);
    CHECK_OK(cadft_optimizer_add_model(w->optimizer, w->model, NULL, &err),
             err);
    point = world_point(w, folder, step);
    point.model = NULL;
    CHECK_OK(cadft_checkpoint_load(w->context, &point, w->host, WORLD_HOST,
                                   NULL, &err),
             err);
}

UNUSED_HERE static int64_t
world_find(cadft_context *context, const char *folder, int64_t before)
{
    int64_t step = 77;
    err = support_error();
    CHECK_OK(
        cadft_checkpoint_find(context, in_scratch(folder), before, &step, &err),
        err);
    return step;
}

/* Files of two folders inside scratch are the same. */
UNUSED_HERE static void
check_same_file(const char *a, const char *b, const char *name)
{
    char path[2][256];
    size_t bytes[2];
    char *data[2];
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    for (int i = 0; i < 2; i++) {
        data[i] = get_file(path[i], &bytes[i]);
        ck_assert_msg(data[i] != NULL, "there is no %s", path[i]);
    }
    ck_assert_msg(bytes[0] == bytes[1] &&
                      memcmp(data[0], data[1], bytes[0]) == 0,
                  "%s and %s differ", path[0], path[1]);
    free(data[0]);
    free(data[1]);
}

/* The world is what was saved: saved again it gives the same files. */
UNUSED_HERE static void check_is(world *w, const char *folder, int64_t step)
{
    char was[64], is[64];
    remove_tree(in_scratch("again"));
    CHECK_OK(world_save(w, "again", step, 0), err);
    snprintf(was, sizeof was, "%s/step-%08lld", folder, (long long)step);
    snprintf(is, sizeof is, "again/step-%08lld", (long long)step);
    for (int i = 0; i < WORLD_FILES; i++)
        check_same_file(was, is, world_files[i]);
    remove_tree(in_scratch("again"));
}

#endif
