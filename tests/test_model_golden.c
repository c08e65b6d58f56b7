/* SPDX-License-Identifier: Apache-2.0 */
/* Models against transformers: tests/golden/models, written by
 * tests/reference/generate_models.py.
 *
 *   test_model_golden [--backend PLUGIN.so] [--folder DIR] [--seed N]
 *
 * With --folder the same for one folder that has an expected.safetensors, of
 * a real model say; see tests/reference/smollm2.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_support.h"

/* Float32 against float64: relative to the largest logit or entry. */
#define LOGITS_REL 2e-5
#define GRAD_REL 1e-4

/* Returns the worst error. */
static double check_grads(golden *g, cadft_model *model, cadft_context *context)
{
    double worst = 0;
    cadft_error err = support_error();
    int64_t parameters;
    cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &parameters, NULL);
    for (int64_t i = 0; i < parameters; i++) {
        char key[128];
        const char *name;
        int64_t count, expected;
        float *want, *got;
        double error;
        CHECK_OK(cadft_model_parameter(model, i, &name, NULL, NULL, NULL, &err),
                 err);
        snprintf(key, sizeof key, "grad.%s", name);
        want = golden_floats(g, key, &expected);
        if (!want)
            continue; /* a long case has few of them */
        got = read_grad(model, context, i, &count);
        ck_assert_int_eq(count, expected);
        error = relative_error(got, want, count);
        ck_assert_msg(error <= GRAD_REL, "%s, gradient of %s: %.3g", g->path,
                      name, error);
        worst = fmax(worst, error);
        free(want);
        free(got);
    }
    return worst;
}

START_TEST(logits_loss_and_gradients)
{
    golden g;
    cadft_error err = support_error();
    cadft_context *context = model_context(2);
    cadft_tensor logits = {.struct_size = sizeof logits};
    cadft_model *model;
    packed p;
    int64_t count;
    float *got;
    double error, value, loss;
    golden_open_case(&g, _i);
    model = model_load(g.path, context, CADFT_DTYPE_F32);
    packed_init(&p, g.tokens, g.rows, g.cu_seqlens, g.sequences);
    CHECK_OK(cadft_model_zero_grad(model, &err), err);
    CHECK_OK(cadft_model_forward(model, &p.batch, &logits, &err), err);
    got = read_tensor(context, &logits, &count);
    ck_assert_int_eq(count, g.rows * g.vocab);
    for (int64_t i = 0; i < g.logit_rows; i++) /* ascending: to the front */
        memmove(got + i * g.vocab, got + g.picked[i] * g.vocab,
                (size_t)g.vocab * sizeof *got);
    error = relative_error(got, g.logits, g.logit_rows * g.vocab);
    ck_assert_msg(error <= LOGITS_REL, "%s: logits %.3g", g.path, error);
    free(got);
    loss = golden_double(&g, "loss");
    value = cross_entropy(context, &logits, g.labels, g.rows);
    ck_assert_msg(fabs(value - loss) <= 1e-5 * fabs(loss),
                  "%s: loss %.9g, expected %.9g", g.path, value, loss);
    CHECK_OK(cadft_model_backward(model, &logits, &err), err);
    printf("%s: logits %.1e, loss %.1e, gradients %.1e\n", g.path, error,
           fabs(value / loss - 1), check_grads(&g, model, context));
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    golden_close(&g);
}
END_TEST

START_TEST(greedy_tokens)
{
    golden g;
    cadft_error err = support_error();
    cadft_context *context = model_context(2);
    cadft_model *model;
    packed p;
    int64_t count, most;
    int32_t *prompts, *expected, *got, *tokens, *ends;
    int64_t *lengths;
    cadft_generate_desc desc = {.struct_size = sizeof desc};
    golden_open_case(&g, _i);
    prompts = golden_ints(&g, "greedy_prompt", &count);
    expected = golden_ints(&g, "greedy", &most);
    desc.max_new_tokens = most / g.sequences;
    tokens = (int32_t *)malloc((size_t)g.rows * sizeof *tokens);
    ends = (int32_t *)calloc((size_t)g.sequences + 1, sizeof *ends);
    for (int64_t s = 0; s < g.sequences; s++) {
        memcpy(tokens + ends[s], g.tokens + g.cu_seqlens[s],
               (size_t)prompts[s] * sizeof *tokens);
        ends[s + 1] = ends[s] + prompts[s];
    }
    packed_init(&p, tokens, ends[g.sequences], ends, g.sequences);
    desc.tokens = p.batch.tokens;
    desc.cu_seqlens = p.batch.cu_seqlens;
    got = (int32_t *)malloc((size_t)most * sizeof *got);
    lengths = (int64_t *)malloc((size_t)g.sequences * sizeof *lengths);
    model = model_load(g.path, context, CADFT_DTYPE_F32);
    CHECK_OK(cadft_model_generate(model, &desc, got, lengths, &err), err);
    for (int64_t i = 0; i < most; i++)
        ck_assert_msg(got[i] == expected[i],
                      "%s: token %lld of prompt %lld is %d, expected %d",
                      g.path, (long long)(i % desc.max_new_tokens),
                      (long long)(i / desc.max_new_tokens), got[i],
                      expected[i]);
    printf("%s: %lld greedy tokens alike\n", g.path, (long long)most);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    free(prompts);
    free(expected);
    free(got);
    free(tokens);
    free(ends);
    free(lengths);
    golden_close(&g);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("model golden");
    TCase *models = tcase_create("models");
    int count = model_folder ? 1 : GOLDEN_MODELS;
    tcase_set_timeout(models, 600);
    tcase_add_loop_test(models, logits_loss_and_gradients, 0, count);
    tcase_add_loop_test(models, greedy_tokens, 0, count);
    suite_add_tcase(suite, models);
    return suite;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
