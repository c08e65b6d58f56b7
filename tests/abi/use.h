/* SPDX-License-Identifier: Apache-2.0 */
/* One loss computed through functions found by name: what a host does that
 * loads the library at run time. */
#ifndef TESTS_ABI_USE_H
#define TESTS_ABI_USE_H

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cadft/cadft.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            exit(EXIT_FAILURE);                                                \
        }                                                                      \
    } while (0)

struct api {
    int32_t (*context_create)(const cadft_context_desc *,
                              cadft_context **,
                              cadft_error *);
    void (*context_destroy)(cadft_context *);
    int32_t (*loss_create)(cadft_context *, cadft_loss **, cadft_error *);
    void (*loss_destroy)(cadft_loss *);
    int32_t (*tensor_init)(cadft_tensor *,
                           uint32_t,
                           void *,
                           int32_t,
                           int32_t,
                           int64_t *,
                           int64_t *,
                           cadft_error *);
    int32_t (*loss_compute)(cadft_loss *,
                            const cadft_loss_batch *,
                            int64_t,
                            const cadft_tensor *,
                            float *,
                            cadft_loss_report *,
                            cadft_error *);
};

static void find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    MUST(address != NULL);
    memcpy(function, &address, sizeof address);
}

static struct api api_of(void *library)
{
    struct api api;
    find(library, "cadft_context_create", &api.context_create);
    find(library, "cadft_context_destroy", &api.context_destroy);
    find(library, "cadft_loss_create", &api.loss_create);
    find(library, "cadft_loss_destroy", &api.loss_destroy);
    find(library, "cadft_tensor_init", &api.tensor_init);
    find(library, "cadft_loss_compute", &api.loss_compute);
    return api;
}

/* A step over four rows of three samples on three threads; each row's
 * gradient adds up to 0 and is not 0. */
static void use(const struct api *api, cadft_context *context)
{
    enum { ROWS = 4, V = 5 };
    float z[ROWS * V];
    int32_t y[ROWS] = {1, 4, 0, 2}, s[ROWS] = {0, 0, 1, 2};
    int64_t shape[2] = {ROWS, V};
    cadft_tensor logits, labels, ids;
    cadft_loss_batch batch = {sizeof batch, 0, &logits, &labels, &ids,
                              NULL,         0, 0,       0,       NULL};
    cadft_loss *loss;
    for (int i = 0; i < ROWS * V; i++)
        z[i] = (float)(i * 7 % 5) - 2;
    MUST(!api->loss_create(context, &loss, NULL));
    MUST(!api->tensor_init(&logits, sizeof logits, z, CADFT_DTYPE_F32, 2, shape,
                           NULL, NULL));
    MUST(!api->tensor_init(&labels, sizeof labels, y, CADFT_DTYPE_I32, 1, shape,
                           NULL, NULL));
    MUST(!api->tensor_init(&ids, sizeof ids, s, CADFT_DTYPE_I32, 1, shape, NULL,
                           NULL));
    MUST(!api->loss_compute(loss, &batch, 3, &logits, NULL, NULL, NULL));
    for (int r = 0; r < ROWS; r++) {
        float sum = 0, size = 0;
        for (int v = 0; v < V; v++) {
            sum += z[r * V + v];
            size += fabsf(z[r * V + v]);
        }
        MUST(fabsf(sum) < 1e-6f && size > 1e-6f);
    }
    api->loss_destroy(loss);
}

static cadft_context *open_context(const struct api *api)
{
    cadft_context_desc desc = {sizeof desc, 3, NULL, NULL, NULL, NULL, NULL};
    cadft_context *context;
    MUST(!api->context_create(&desc, &context, NULL));
    return context;
}

#endif
