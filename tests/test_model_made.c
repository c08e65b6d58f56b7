/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no golden model, on a small random one: memory is as planned, and
 * training works.
 *
 *   test_model_made [--backend PLUGIN.so] [--seed N] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model_support.h"

static const char tiny[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
    " \"hidden_act\": \"silu\","
    " \"vocab_size\": 50, \"hidden_size\": 32, \"intermediate_size\": 64,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"max_position_embeddings\": 64,"
    " \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,"
    " \"tie_word_embeddings\": true}";

/* --------------------------------------------------------------- memory */

static int64_t bytes_now(cadft_context *context, int32_t key)
{
    int64_t bytes;
    cadft_context_get_i64(context, key, &bytes, NULL);
    return bytes;
}

/* After reserve nothing is allocated, whatever the shape within the limits,
 * and the plan says how much it is. */
START_TEST(planned)
{
    cadft_error err = support_error();
    cadft_context *context = model_context(2);
    cadft_model *model;
    cadft_model_limits limits = {.struct_size = sizeof limits, .rows = 96};
    int64_t plan, arena, before;
    int32_t tokens[96], ends[98];
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_init(model, tiny, strlen(tiny), 1, &err), err);
    CHECK_OK(cadft_model_zero_grad(model, &err), err);
    before = bytes_now(context, CADFT_CONTEXT_BYTES);
    CHECK_OK(cadft_model_plan(model, &limits, &plan, &err), err);
    ck_assert_int_eq(bytes_now(context, CADFT_CONTEXT_BYTES), before);
    CHECK_OK(cadft_model_reserve(model, &limits, &err), err);
    cadft_model_get_i64(model, CADFT_MODEL_ARENA_BYTES, &arena, NULL);
    ck_assert_int_eq(arena, plan);
    before = bytes_now(context, CADFT_CONTEXT_BYTES);
    for (int round = 0; round < 20; round++) {
        int64_t rows = round ? 1 + support_below(96) : 96, n = 0;
        cadft_tensor logits = {.struct_size = sizeof logits};
        packed p;
        for (int64_t i = 0; i < rows; i++)
            tokens[i] = (int32_t)support_below(50);
        for (ends[0] = 0; ends[n] < rows; n++) {
            int64_t most = rows - ends[n] < 64 ? rows - ends[n] : 64;
            ends[n + 1] = ends[n] + 1 + (int32_t)support_below(most);
        }
        packed_init(&p, tokens, rows, ends, n);
        CHECK_OK(cadft_model_forward(model, &p.batch, &logits, &err), err);
        CHECK_OK(cadft_model_backward(model, &logits, &err), err);
        ck_assert_int_eq(bytes_now(context, CADFT_CONTEXT_BYTES), before);
    }
    limits.no_grad = 1;
    limits.logit_rows = 4;
    CHECK_OK(cadft_model_plan(model, &limits, &arena, &err), err);
    ck_assert_int_lt(arena, plan);
    cadft_model_set_i64(model, CADFT_MODEL_CHECKPOINTING, 1, NULL);
    limits.no_grad = limits.logit_rows = 0;
    CHECK_OK(cadft_model_plan(model, &limits, &arena, &err), err);
    ck_assert_int_lt(arena, plan);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
}
END_TEST

/* ------------------------------------------------------------- training */

/* A host of a few lines: plain gradient descent on one batch until the model
 * knows it, through the public API alone. The rate falls to nothing, as at a
 * constant one the loss jumps now and then. */
START_TEST(overfits_a_batch)
{
    enum { ROWS = 24, STEPS = 400 };
    cadft_error err = support_error();
    cadft_context *context = model_context(2);
    cadft_model *model;
    int32_t tokens[ROWS], labels[ROWS], ends[] = {0, 10, 24};
    int64_t parameters;
    double first = 0, loss = 0;
    packed p;
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_init(model, tiny, strlen(tiny), 7, &err), err);
    cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &parameters, NULL);
    for (int i = 0; i < ROWS; i++)
        tokens[i] = (int32_t)support_below(50);
    for (int i = 0; i < ROWS; i++)
        labels[i] = i == 9 || i == 23 ? -100 : tokens[i + 1];
    packed_init(&p, tokens, ROWS, ends, 2);
    for (int step = 0; step < STEPS; step++) {
        cadft_tensor logits = {.struct_size = sizeof logits};
        float rate = 0.3f * (float)(STEPS - step) / STEPS;
        CHECK_OK(cadft_model_zero_grad(model, &err), err);
        CHECK_OK(cadft_model_forward(model, &p.batch, &logits, &err), err);
        loss = cross_entropy(context, &logits, labels, ROWS);
        first = step ? first : loss;
        CHECK_OK(cadft_model_backward(model, &logits, &err), err);
        for (int64_t i = 0; i < parameters; i++) {
            cadft_tensor value = {.struct_size = sizeof value};
            cadft_tensor grad = {.struct_size = sizeof grad};
            int64_t count;
            float *w, *g;
            cadft_model_parameter(model, i, NULL, &value, &grad, NULL, NULL);
            w = read_tensor(context, &value, &count);
            g = read_tensor(context, &grad, &count);
            for (int64_t j = 0; j < count; j++)
                w[j] -= rate * g[j];
            CHECK_OK(cadft_context_write(context, &value, w,
                                         (size_t)count * sizeof *w, &err),
                     err);
            free(w);
            free(g);
        }
    }
    ck_assert_msg(fabs(first - log(50)) < 0.1, "first loss %.4f", first);
    ck_assert_msg(loss < 0.1, "last loss %.4f", loss);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("model made");
    TCase *cases = tcase_create("all");
    tcase_set_timeout(cases, 300);
    tcase_add_test(cases, planned);
    tcase_add_test(cases, overfits_a_batch);
    suite_add_tcase(suite, cases);
    return suite;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
