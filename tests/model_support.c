/* SPDX-License-Identifier: Apache-2.0 */
#include "model_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *model_backend, *model_options, *model_folder;

int model_main(int argc, char **argv, Suite *(*suite)(void))
{
    static const struct {
        const char *name, **value;
    } options[] = {{"--backend", &model_backend},
                   {"--options", &model_options},
                   {"--folder", &model_folder}};
    for (int i = 0; i < 3; i++)
        if (argc >= 3 && strcmp(argv[1], options[i].name) == 0) {
            *options[i].value = argv[2];
            argv[2] = argv[0];
            argv += 2;
            argc -= 2;
            i = -1; /* the next one may be any */
        }
    return support_main(argc, argv, suite());
}

cadft_context *model_context(int32_t threads)
{
    cadft_error err = support_error();
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = threads,
                               .backend = model_backend,
                               .backend_options = model_options};
    cadft_context *context;
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    return context;
}

const char *const golden_models[GOLDEN_MODELS] = {
    "llama_bias", "llama_long",   "llama_rope", "llama_tied",
    "mistral",    "mistral_long", "qwen2",      "qwen3",
};

/* --------------------------------------------------------------- goldens */

static const cadft__safetensor *
expectation(golden *g, const char *name, int32_t dtype, int64_t *count)
{
    const cadft__safetensor *t = cadft__safetensors_find(&g->expected, name);
    if (!t)
        return NULL;
    ck_assert_msg(t->dtype == dtype, "%s of %s has type %s", name, g->path,
                  t->type);
    *count = t->count;
    return t;
}

static void *
read_expectation(golden *g, const char *name, int32_t dtype, int64_t *count)
{
    cadft_error err = support_error();
    const cadft__safetensor *t = expectation(g, name, dtype, count);
    void *out;
    if (!t)
        return NULL;
    out = malloc((size_t)t->bytes + 1);
    ck_assert_ptr_nonnull(out);
    if (dtype == CADFT_DTYPE_F32) {
        CHECK_OK(cadft__safetensors_read(&g->expected, t, 0, t->count, dtype,
                                         out, &err),
                 err);
    } else {
        CHECK_OK(cadft__file_read(&g->expected.files[t->file].file, t->offset,
                                  out, (size_t)t->bytes, &err),
                 err);
    }
    return out;
}

float *golden_floats(golden *g, const char *name, int64_t *count)
{
    return (float *)read_expectation(g, name, CADFT_DTYPE_F32, count);
}

int32_t *golden_ints(golden *g, const char *name, int64_t *count)
{
    return (int32_t *)read_expectation(g, name, CADFT_DTYPE_I32, count);
}

double golden_double(golden *g, const char *name)
{
    int64_t count;
    double *data = (double *)read_expectation(g, name, CADFT_DTYPE_F64, &count);
    double value = data[0];
    free(data);
    return value;
}

void golden_open(golden *g, const char *path)
{
    cadft_error err = support_error();
    cadft__folder folder;
    cadft__file file;
    int64_t count;
    memset(g, 0, sizeof *g);
    snprintf(g->path, sizeof g->path, "%s", path);
    cadft__memory_init(&g->memory, NULL);
    CHECK_OK(cadft__folder_open(path, &folder, &err), err);
    CHECK_OK(cadft__file_open(&folder, "expected.safetensors", &file, &err),
             err);
    CHECK_OK(
        cadft__safetensors_open_file(&g->memory, &file, &g->expected, &err),
        err);
    cadft__folder_close(&folder);
    g->tokens = golden_ints(g, "tokens", &g->rows);
    g->cu_seqlens = golden_ints(g, "cu_seqlens", &g->sequences);
    g->labels = golden_ints(g, "labels", &count);
    g->logits = golden_floats(g, "logits", &count);
    g->sequences--;
    g->picked = golden_ints(g, "logits_rows", &g->logit_rows);
    if (!g->picked) {
        g->logit_rows = g->rows;
        g->picked = (int32_t *)malloc((size_t)g->rows * sizeof *g->picked);
        for (int64_t i = 0; i < g->rows; i++)
            g->picked[i] = (int32_t)i;
    }
    g->vocab = count / g->logit_rows;
}

void golden_open_case(golden *g, int index)
{
    char path[512];
    snprintf(path, sizeof path, "%s/models/%s", GOLDEN_DIR,
             golden_models[index]);
    golden_open(g, model_folder ? model_folder : path);
}

void golden_close(golden *g)
{
    cadft__safetensors_close(&g->expected);
    free(g->tokens);
    free(g->labels);
    free(g->cu_seqlens);
    free(g->logits);
    free(g->picked);
}

/* ---------------------------------------------------------------- models */

cadft_model *
model_load(const char *path, cadft_context *context, int32_t weight_dtype)
{
    cadft_error err = support_error();
    cadft_model *model;
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_set_i64(model, CADFT_MODEL_WEIGHT_DTYPE, weight_dtype,
                                 &err),
             err);
    CHECK_OK(cadft_model_load(model, path, &err), err);
    return model;
}

void packed_init(packed *p,
                 int32_t *tokens,
                 int64_t rows,
                 int32_t *cu_seqlens,
                 int64_t sequences)
{
    memset(p, 0, sizeof *p);
    p->rows[0] = rows;
    p->ends[0] = sequences + 1;
    cadft_tensor_init(&p->tokens, sizeof p->tokens, tokens, CADFT_DTYPE_I32, 1,
                      p->rows, NULL, NULL);
    cadft_tensor_init(&p->cu_seqlens, sizeof p->cu_seqlens, cu_seqlens,
                      CADFT_DTYPE_I32, 1, p->ends, NULL, NULL);
    p->batch.struct_size = sizeof p->batch;
    p->batch.tokens = &p->tokens;
    p->batch.cu_seqlens = &p->cu_seqlens;
}

float *
read_tensor(cadft_context *context, const cadft_tensor *tensor, int64_t *count)
{
    cadft_error err = support_error();
    float *out;
    *count = 1;
    for (int32_t d = 0; d < tensor->ndim; d++)
        *count *= tensor->shape[d];
    out = (float *)malloc((size_t)*count * sizeof *out + 1);
    ck_assert_ptr_nonnull(out);
    CHECK_OK(cadft_context_read(context, tensor, out,
                                (size_t)*count * sizeof *out, &err),
             err);
    return out;
}

float *read_grad(cadft_model *model,
                 cadft_context *context,
                 int64_t index,
                 int64_t *count)
{
    cadft_error err = support_error();
    cadft_tensor grad = {.struct_size = sizeof grad};
    CHECK_OK(cadft_model_parameter(model, index, NULL, NULL, &grad, NULL, &err),
             err);
    return read_tensor(context, &grad, count);
}

double cross_entropy(cadft_context *context,
                     cadft_tensor *logits,
                     int32_t *labels,
                     int64_t rows)
{
    cadft_error err = support_error();
    cadft_loss *loss;
    cadft_tensor y, ids;
    int64_t shape[1] = {rows};
    int32_t *samples = (int32_t *)calloc((size_t)rows + 1, sizeof *samples);
    cadft_loss_report report = {.struct_size = sizeof report};
    cadft_loss_batch batch = {.struct_size = sizeof batch,
                              .logits = logits,
                              .labels = &y,
                              .sample_ids = &ids};
    cadft_tensor_init(&y, sizeof y, labels, CADFT_DTYPE_I32, 1, shape, NULL,
                      NULL);
    cadft_tensor_init(&ids, sizeof ids, samples, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    cadft_loss_set_i64(loss, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_SFT, NULL);
    cadft_loss_set_i64(loss, CADFT_LOSS_WEIGHTING, 0, NULL);
    CHECK_OK(cadft_loss_compute(loss, &batch, 1, logits, NULL, &report, &err),
             err);
    cadft_loss_destroy(loss);
    free(samples);
    return report.loss;
}

double relative_error(const float *got, const float *want, int64_t count)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        if (!(fabs((double)got[i] - (double)want[i]) <= worst))
            worst = fabs((double)got[i] - (double)want[i]);
    }
    return largest > 0 ? worst / largest : worst;
}
