/* SPDX-License-Identifier: Apache-2.0 */
/* A saved state from anywhere. With an odd first byte the checksums of its
 * sections are made right, so that what is behind them is reached. */
#include "fuzz.h"
#include "seal.h"

/* A step on loaded statistics gives weights between 0 and 1. */
static void step(cadft_loss *loss)
{
    float z[4] = {1, 2, 3, -1};
    int32_t y[2] = {0, 1}, ids[2] = {0, 1};
    int64_t shape[2] = {2, 2};
    double w[2];
    cadft_tensor logits, labels, samples;
    cadft_loss_batch batch = {.struct_size = sizeof batch,
                              .logits = &logits,
                              .labels = &labels,
                              .sample_ids = &samples};
    cadft_error err = {sizeof err, 0, {0}};
    cadft_tensor_init(&logits, sizeof logits, z, CADFT_DTYPE_F32, 2, shape,
                      NULL, NULL);
    cadft_tensor_init(&labels, sizeof labels, y, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    cadft_tensor_init(&samples, sizeof samples, ids, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    REQUIRE(cadft_loss_compute(loss, &batch, 2, &logits, NULL, NULL, &err) ==
            CADFT_OK);
    REQUIRE(cadft_loss_get_samples(loss, CADFT_SAMPLES_W, w, 2, NULL, &err) ==
            CADFT_OK);
    REQUIRE(w[0] >= 0 && w[0] <= 1 && w[1] >= 0 && w[1] <= 1);
}

static void load(cadft_loss *loss, const uint8_t *state, size_t size)
{
    uint8_t first[128], second[128];
    size_t length, again;
    cadft_error err = {sizeof err, 0, {0}};
    REQUIRE(cadft_loss_state_save(loss, first, sizeof first, &length, &err) ==
            CADFT_OK);
    if (checked(cadft_loss_state_load(loss, state, size, &err), &err)) {
        REQUIRE(err.code == CADFT_E_STATE);
        REQUIRE(cadft_loss_state_save(loss, second, sizeof second, &again,
                                      &err) == CADFT_OK);
        REQUIRE(again == length && memcmp(first, second, length) == 0);
        return;
    }
    REQUIRE(cadft_loss_state_save(loss, first, sizeof first, &length, &err) ==
            CADFT_OK);
    REQUIRE(cadft_loss_state_load(loss, first, length, &err) == CADFT_OK);
    REQUIRE(cadft_loss_state_save(loss, second, sizeof second, &again, &err) ==
            CADFT_OK);
    REQUIRE(again == length && memcmp(first, second, length) == 0);
    step(loss);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap = {0};
    cadft_context *context = fuzz_context(&heap);
    cadft_loss *loss = NULL;
    uint8_t *state;
    size_t length = size ? size - 1 : 0;
    REQUIRE(cadft_loss_create(context, &loss, NULL) == CADFT_OK);
    REQUIRE(cadft_loss_set_i64(loss, CADFT_LOSS_SCOPE, CADFT_SCOPE_RUNNING,
                               NULL) == CADFT_OK);
    state = (uint8_t *)malloc(length + !length);
    if (length)
        memcpy(state, data + 1, length);
    if (size && data[0] & 1)
        seal(state, length);
    if (size && data[0] & 2)
        step(loss);
    load(loss, state, length);
    free(state);
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
    REQUIRE(heap.live == 0);
    return 0;
}
