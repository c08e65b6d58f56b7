/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the model share: models of the golden folders, batches,
 * and copies of what lies in the backend's memory. */
#ifndef TESTS_MODEL_SUPPORT_H
#define TESTS_MODEL_SUPPORT_H

#include "io/safetensors.h"
#include "support.h"

/* Main function of a program of model tests: --seed N after --backend PATH for
 * a plug-in instead of the built-in one, --options TEXT for the backend,
 * --folder DIR for one folder in place of the golden ones. */
int model_main(int argc, char **argv, Suite *(*suite)(void));

extern const char *model_backend, *model_options, *model_folder; /* or NULL */

/* A context on that backend. */
cadft_context *model_context(int32_t threads);

/* A folder with a model and what transformers computes for it. */
typedef struct golden {
    char path[512];
    cadft__memory memory;
    cadft__safetensors expected;
    int64_t rows, vocab, sequences, logit_rows;
    int32_t *tokens, *labels; /* [rows] */
    int32_t *cu_seqlens;      /* [sequences + 1] */
    float *logits;            /* [logit_rows, vocab] */
    int32_t *picked;          /* [logit_rows]: the rows these are */
} golden;

/* Names of the folders in tests/golden/models. */
enum { GOLDEN_MODELS = 8 };
extern const char *const golden_models[GOLDEN_MODELS];

void golden_open(golden *g, const char *path); /* fails the test */
void golden_open_case(golden *g, int index);   /* or --folder */
void golden_close(golden *g);

/* The expectation called `name`, or NULL; count elements. Free it. */
float *golden_floats(golden *g, const char *name, int64_t *count);
double golden_double(golden *g, const char *name);
int32_t *golden_ints(golden *g, const char *name, int64_t *count);

/* A model with these weights, in a context of its own, which is destroyed:
 * the model keeps it. */
cadft_model *
model_load(const char *path, cadft_context *context, int32_t weight_dtype);

/* A packed batch over arrays of the caller. */
typedef struct packed {
    int64_t rows[1], ends[1];
    cadft_tensor tokens, cu_seqlens;
    cadft_model_batch batch;
} packed;

void packed_init(packed *p,
                 int32_t *tokens,
                 int64_t rows,
                 int32_t *cu_seqlens,
                 int64_t sequences);

/* Dense copies in host memory; free them. */
float *
read_tensor(cadft_context *context, const cadft_tensor *tensor, int64_t *count);
float *read_grad(cadft_model *model,
                 cadft_context *context,
                 int64_t index,
                 int64_t *count);

/* Mean cross-entropy of the logits by the loss (SFT, no weighting): its
 * value; the gradient goes over the logits. */
double cross_entropy(cadft_context *context,
                     cadft_tensor *logits,
                     int32_t *labels,
                     int64_t rows);

/* Largest difference over the largest magnitude of `want`. */
double relative_error(const float *got, const float *want, int64_t count);

#endif
