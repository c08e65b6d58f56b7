/* SPDX-License-Identifier: Apache-2.0 */
/* Drawing tokens, and generation with a KV cache.
 *
 *   test_model_generate [--backend PLUGIN.so] [--seed N] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/sample.h"
#include "model_support.h"

/* ---------------------------------------------------------------- drawing */

enum { VOCAB = 60 };

static const double *by_mass; /* for qsort */

static int falling(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (by_mass[i] != by_mass[j])
        return by_mass[i] > by_mass[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

/* The definition, by sorting everything in long double. */
static int32_t by_definition(const float *z, double t, double top_p, double u)
{
    double p[VOCAB];
    int32_t order[VOCAB];
    long double total = 0, kept = 0, sum = 0;
    float top = -INFINITY;
    int n = 0;
    for (int i = 0; i < VOCAB; i++)
        top = z[i] > top ? z[i] : top;
    for (int i = 0; i < VOCAB; i++) {
        p[i] = exp(((double)z[i] - (double)top) / t);
        total += (long double)p[i];
        order[i] = i;
    }
    by_mass = p;
    qsort(order, VOCAB, sizeof order[0], falling);
    while (n < VOCAB && kept < (long double)top_p * total)
        kept += (long double)p[order[n++]];
    for (int i = 0; i < n; i++) {
        sum += (long double)p[order[i]];
        if (sum > (long double)u * kept)
            return order[i];
    }
    return order[n - 1];
}

START_TEST(nucleus)
{
    double mass[VOCAB], logprob;
    int32_t heap[VOCAB];
    int different = 0;
    for (int round = 0; round < 20000; round++) {
        float z[VOCAB];
        cadft__sampling s = {.temperature = 0.1 + 2 * support_uniform(),
                             .top_p = support_below(3) ? support_uniform() : 1,
                             .want_logprob = 1};
        double u = support_uniform(), sum = 0;
        int32_t got, want;
        for (int i = 0; i < VOCAB; i++) /* coarse, so that there are ties */
            z[i] = support_below(8) ? (float)support_below(12) / 2 : -INFINITY;
        z[support_below(VOCAB)] = 1;
        s.top_p = s.top_p > 0 ? s.top_p : 1;
        got = cadft__sample(z, VOCAB, &s, u, mass, heap, &logprob);
        want = by_definition(z, s.temperature, s.top_p, u);
        different += got != want; /* u within rounding of a border */
        for (int i = 0; i < VOCAB; i++)
            sum += exp((double)z[i]);
        ck_assert_msg(fabs(logprob - ((double)z[got] - log(sum))) < 1e-12,
                      "logprob %.17g", logprob);
    }
    ck_assert_msg(different <= 1, "%d of 20000 differ", different);
}
END_TEST

START_TEST(nucleus_edges)
{
    double mass[VOCAB], logprob;
    int32_t heap[VOCAB];
    float z[VOCAB];
    cadft__sampling greedy = {.temperature = 0, .top_p = 1};
    cadft__sampling least = {.temperature = 1, .top_p = 1e-300};
    for (int i = 0; i < VOCAB; i++)
        z[i] = -INFINITY;
    ck_assert_int_eq(cadft__sample(z, VOCAB, &greedy, 0, mass, heap, &logprob),
                     -1);
    z[7] = z[9] = -1000;
    ck_assert_int_eq(
        cadft__sample(z, VOCAB, &greedy, 0.9, mass, heap, &logprob), 7);
    ck_assert(isnan(logprob));
    ck_assert_int_eq(
        cadft__sample(z, VOCAB, &least, 0.999, mass, heap, &logprob), 7);
    least.top_p = 1;
    ck_assert_int_eq(
        cadft__sample(z, VOCAB, &least, 1 - 0x1p-53, mass, heap, &logprob), 9);
    z[3] = NAN;
    ck_assert_int_eq(cadft__sample(z, VOCAB, &greedy, 0, mass, heap, &logprob),
                     -1);
    z[3] = INFINITY;
    ck_assert_int_eq(cadft__sample(z, VOCAB, &least, 0, mass, heap, &logprob),
                     -1);
}
END_TEST

/* ------------------------------------------------------------- generation */

enum { NEW = 20, MOST_PROMPTS = 8 };

/* Prompts from a golden case, and what was drawn for them. */
typedef struct drawn {
    golden g;
    cadft_context *context;
    cadft_model *model;
    packed p;
    cadft_generate_desc desc;
    int32_t ends[MOST_PROMPTS + 1];
    int32_t prompt_tokens[512], tokens[MOST_PROMPTS * NEW];
    int64_t lengths[MOST_PROMPTS], keys[MOST_PROMPTS];
    double logprobs[MOST_PROMPTS * NEW];
    int64_t calls, stop_after;
    int32_t answer;
} drawn;

static int32_t on_token(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    drawn *d = (drawn *)user;
    ck_assert_int_eq(d->tokens[prompt * NEW + position], token);
    d->logprobs[prompt * NEW + position] = logprob;
    return ++d->calls == d->stop_after ? d->answer : 0;
}

static void set_prompts(drawn *d, const int64_t *which, int64_t count)
{
    d->ends[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t first = d->g.cu_seqlens[which[i]];
        int32_t length = (int32_t)(d->g.cu_seqlens[which[i] + 1] - first);
        length = length > 30 ? 30 : length;
        memcpy(d->prompt_tokens + d->ends[i], d->g.tokens + first,
               (size_t)length * sizeof *d->tokens);
        d->ends[i + 1] = d->ends[i] + length;
        d->keys[i] = 1000 + which[i];
    }
    packed_init(&d->p, d->prompt_tokens, d->ends[count], d->ends, count);
    d->desc.tokens = &d->p.tokens;
    d->desc.cu_seqlens = &d->p.cu_seqlens;
}

static void drawn_open(drawn *d, int index, int32_t threads)
{
    static const int64_t all[] = {0, 1, 2};
    memset(d, 0, sizeof *d);
    golden_open_case(&d->g, index);
    d->context = model_context(threads);
    d->model = model_load(d->g.path, d->context, CADFT_DTYPE_F32);
    d->desc = (cadft_generate_desc){.struct_size = sizeof d->desc,
                                    .max_new_tokens = NEW,
                                    .temperature = 1.5,
                                    .top_p = 0.95,
                                    .seed = 42,
                                    .keys = d->keys,
                                    .step = 3,
                                    .on_token = on_token,
                                    .user = d};
    set_prompts(d, all, d->g.sequences < 3 ? d->g.sequences : 3);
}

static void drawn_close(drawn *d)
{
    cadft_model_destroy(d->model);
    cadft_context_destroy(d->context);
    golden_close(&d->g);
}

static void draw(drawn *d)
{
    cadft_error err = support_error();
    d->calls = 0;
    CHECK_OK(
        cadft_model_generate(d->model, &d->desc, d->tokens, d->lengths, &err),
        err);
}

START_TEST(batch_and_threads_show_in_no_token)
{
    static const int32_t threads[] = {2, 7};
    drawn d, alone;
    int64_t count;
    drawn_open(&d, _i, 1);
    count = d.p.ends[0] - 1;
    draw(&d);
    for (int i = 0; i < 2; i++) {
        drawn_open(&alone, _i, threads[i]);
        draw(&alone);
        ck_assert_mem_eq(alone.tokens, d.tokens, sizeof d.tokens);
        ck_assert_mem_eq(alone.logprobs, d.logprobs, sizeof d.logprobs);
        drawn_close(&alone);
    }
    drawn_open(&alone, _i, 2);
    for (int64_t s = count - 1; s >= 0; s--) {
        set_prompts(&alone, &s, 1);
        draw(&alone);
        ck_assert_int_eq(alone.lengths[0], NEW);
        ck_assert_mem_eq(alone.tokens, d.tokens + s * NEW,
                         NEW * sizeof *d.tokens);
        ck_assert_mem_eq(alone.logprobs, d.logprobs + s * NEW,
                         NEW * sizeof *d.logprobs);
    }
    drawn_close(&alone);
    /* Another seed, key or step draws otherwise. */
    for (int i = 0; i < 3; i++) {
        drawn_open(&alone, _i, 2);
        alone.desc.seed += i == 0;
        alone.desc.step += i == 1;
        alone.desc.keys = i == 2 ? NULL : alone.desc.keys;
        draw(&alone);
        ck_assert_mem_ne(alone.tokens, d.tokens, sizeof d.tokens);
        drawn_close(&alone);
    }
    drawn_close(&d);
}
END_TEST

/* The cache gives the bits of the whole sequence in one pass. */
START_TEST(cache_is_the_forward_pass)
{
    drawn d;
    drawn_open(&d, _i, 2);
    draw(&d);
    for (int64_t s = 0; s < d.p.ends[0] - 1; s++) {
        cadft_error err = support_error();
        cadft_tensor logits = {.struct_size = sizeof logits};
        int32_t tokens[64], ends[2] = {0, 0};
        int64_t prompt = d.ends[s + 1] - d.ends[s], count;
        packed p;
        float *z;
        memcpy(tokens, d.prompt_tokens + d.ends[s],
               (size_t)prompt * sizeof *tokens);
        memcpy(tokens + prompt, d.tokens + s * NEW, NEW * sizeof *tokens);
        ends[1] = (int32_t)prompt + NEW;
        packed_init(&p, tokens, ends[1], ends, 1);
        CHECK_OK(cadft_model_forward(d.model, &p.batch, &logits, &err), err);
        z = read_tensor(d.context, &logits, &count);
        for (int64_t i = 0; i < NEW; i++) {
            const float *row = z + (prompt - 1 + i) * d.g.vocab;
            double top = -INFINITY, sum = 0, want;
            for (int64_t v = 0; v < d.g.vocab; v++)
                top = fmax(top, (double)row[v]);
            for (int64_t v = 0; v < d.g.vocab; v++)
                sum += exp((double)row[v] - top);
            want = (double)row[d.tokens[s * NEW + i]] - top - log(sum);
            ck_assert_msg(d.logprobs[s * NEW + i] == want,
                          "%s: prompt %lld, token %lld: %.17g, expected %.17g",
                          d.g.path, (long long)s, (long long)i,
                          d.logprobs[s * NEW + i], want);
        }
        free(z);
    }
    drawn_close(&d);
}
END_TEST

START_TEST(ends)
{
    drawn d;
    cadft_error err = support_error();
    int32_t stop, before[MOST_PROMPTS * NEW];
    int64_t at = 0;
    drawn_open(&d, 0, 2);
    draw(&d);
    memcpy(before, d.tokens, sizeof before);
    stop = before[NEW + 5]; /* of the second prompt */
    while (before[NEW + at] != stop)
        at++;
    d.desc.stop_tokens = &stop;
    d.desc.n_stop_tokens = 1;
    memset(d.tokens, 0xff, sizeof d.tokens);
    draw(&d);
    ck_assert_int_eq(d.lengths[1], at + 1);
    ck_assert_mem_eq(d.tokens + NEW, before + NEW,
                     (size_t)(at + 1) * sizeof stop);
    ck_assert_int_eq(d.tokens[NEW + at + 1], -1); /* untouched */
    d.desc.n_stop_tokens = 0;
    d.stop_after = 4; /* the first prompt's second token */
    d.answer = 1;
    draw(&d);
    ck_assert_int_eq(d.lengths[0], 2);
    ck_assert_int_eq(d.lengths[1], NEW);
    ck_assert_mem_eq(d.tokens + NEW, before + NEW, NEW * sizeof stop);
    d.answer = -5;
    d.calls = 0;
    CHECK_STATUS(
        cadft_model_generate(d.model, &d.desc, d.tokens, d.lengths, &err),
        CADFT_E_CALLBACK, err);
    ck_assert_int_eq(d.lengths[0], 2);
    ck_assert_int_eq(d.lengths[1], 1);
    drawn_close(&d);
}
END_TEST

START_TEST(not_finite)
{
    drawn d;
    cadft_error err = support_error();
    cadft_tensor value = {.struct_size = sizeof value};
    int64_t index;
    float nan[256];
    drawn_open(&d, 0, 1);
    for (int i = 0; i < 256; i++)
        nan[i] = NAN;
    CHECK_OK(cadft_model_find(d.model, "model.norm.weight", &index, &err), err);
    CHECK_OK(
        cadft_model_parameter(d.model, index, NULL, &value, NULL, NULL, &err),
        err);
    CHECK_OK(cadft_context_write(d.context, &value, nan,
                                 (size_t)value.shape[0] * sizeof *nan, &err),
             err);
    CHECK_STATUS(
        cadft_model_generate(d.model, &d.desc, d.tokens, d.lengths, &err),
        CADFT_E_NONFINITE, err);
    ck_assert_int_eq(d.lengths[0], 0);
    drawn_close(&d);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("model generate");
    TCase *sampling = tcase_create("sampling");
    TCase *generation = tcase_create("generation");
    tcase_add_test(sampling, nucleus);
    tcase_add_test(sampling, nucleus_edges);
    tcase_set_timeout(generation, 300);
    tcase_add_loop_test(generation, batch_and_threads_show_in_no_token, 0,
                        GOLDEN_MODELS);
    tcase_add_loop_test(generation, cache_is_the_forward_pass, 0,
                        GOLDEN_MODELS);
    tcase_add_test(generation, ends);
    tcase_add_test(generation, not_finite);
    suite_add_tcase(suite, sampling);
    suite_add_tcase(suite, generation);
    return suite;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
