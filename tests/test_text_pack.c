/* SPDX-License-Identifier: Apache-2.0 */
/* Packing against a bin packing of its own, and the order of an epoch. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "text/pack.h"

static text_error error;

/* ------------------------------------------------------------------ order */

/* Every number once, for all small sizes and some others. */
START_TEST(order_is_a_permutation)
{
    for (uint64_t n = 1; n <= 300; n += n < 70 ? 1 : 23) {
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            uint64_t seed = support_bits();
            char *seen = calloc(n, 1);
            for (uint64_t i = 0; i < n; i++) {
                uint64_t x = order_at(seed, epoch, n, i);
                ck_assert_uint_lt(x, n);
                ck_assert_int_eq(seen[x]++, 0);
            }
            free(seen);
        }
    }
}
END_TEST

/* No state: asked in any order, the answers are the same; other seeds and
 * epochs give other orders. */
START_TEST(order_has_no_state)
{
    const uint64_t n = 1000, seed = support_bits();
    int64_t same_epoch = 0, same_seed = 0;
    uint64_t *first = malloc(n * sizeof *first);
    for (uint64_t i = 0; i < n; i++)
        first[i] = order_at(seed, 4, n, i);
    for (uint64_t i = n; i-- > 0;) {
        ck_assert_uint_eq(order_at(seed, 4, n, i), first[i]);
        same_epoch += order_at(seed, 5, n, i) == first[i];
        same_seed += order_at(seed + 1, 4, n, i) == first[i];
    }
    /* 1 is expected by chance; 12 has a probability below 1e-9. */
    ck_assert_int_lt(same_epoch, 12);
    ck_assert_int_lt(same_seed, 12);
    free(first);
}
END_TEST

/* Each number at each place about as often: chi-square, 12 x 12 cells. */
START_TEST(order_is_even)
{
    enum { N = 12, DRAWS = 12000 };
    int64_t count[N][N] = {{0}};
    double chi = 0;
    uint64_t seed = support_bits();
    for (uint64_t epoch = 0; epoch < DRAWS; epoch++)
        for (uint64_t i = 0; i < N; i++)
            count[i][order_at(seed, epoch, N, i)]++;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double d = (double)count[i][j] - DRAWS / N;
            chi += d * d / (DRAWS / N);
        }
    /* 121 degrees of freedom: mean 121, standard deviation 15.6; above 225
     * with a probability below 1e-7. */
    ck_assert_msg(chi < 225, "chi-square %g", chi);
}
END_TEST

/* The numbers themselves are a promise to those who resume a run. */
START_TEST(order_stays)
{
    static const uint64_t expected[] = {5, 0, 8, 4, 6, 9, 1, 7, 3, 2};
    for (uint64_t i = 0; i < 10; i++)
        ck_assert_uint_eq(order_at(1, 0, 10, i), expected[i]);
}
END_TEST

/* ------------------------------------------------------------------- pack */

typedef struct many {
    text_sample *samples;
    const text_sample **list;
    size_t n;
} many;

static many random_samples(size_t n, int32_t longest)
{
    many x = {calloc(n, sizeof *x.samples), calloc(n, sizeof *x.list), n};
    for (size_t i = 0; i < n; i++) {
        int32_t ids[64];
        size_t tokens = (size_t)support_below(longest - 1) + 2;
        size_t prompt = (size_t)support_below((int64_t)tokens);
        for (size_t t = 0; t < tokens; t++)
            ids[t] = (int32_t)support_below(1000);
        ck_assert_int_eq(sample_make(ids, prompt, ids + prompt, tokens - prompt,
                                     &x.samples[i], &error),
                         TEXT_OK);
        x.list[i] = &x.samples[i];
    }
    return x;
}

static void free_many(many *x)
{
    for (size_t i = 0; i < x->n; i++)
        sample_free(&x->samples[i]);
    free(x->samples);
    free(x->list);
}

/* Sample `s` of the step is where first fit puts it, and whole. */
static void check_whole(const many *x, const packed_step *step)
{
    int64_t used[256] = {0};
    size_t filled[256] = {0}, labels[256] = {0}, bins = 0;
    for (size_t i = 0; i < x->n; i++) {
        const text_sample *s = x->list[i];
        size_t m = 0;
        for (; m < step->n; m++) {
            size_t k = filled[m];
            if (k < (size_t)step->micro[m].n_samples &&
                step->micro[m].sample[k] == (int32_t)i)
                break;
        }
        ck_assert_uint_lt(m, step->n);
        ck_assert_uint_le(m, bins); /* none is opened before it is needed */
        bins += m == bins;
        const micro_batch *b = &step->micro[m];
        int32_t first = b->cu_seqlens[filled[m]++];
        ck_assert_int_eq(first, used[m]);
        ck_assert_int_eq(b->cu_seqlens[filled[m]], first + s->n);
        used[m] += s->n;
        for (int32_t t = 0; t < s->n; t++) {
            ck_assert_int_eq(b->tokens[first + t], s->tokens[t]);
            if (s->labels[t] == DATA_IGNORED)
                continue;
            size_t at = labels[m]++;
            ck_assert_int_eq(b->logit_rows[at], first + t);
            ck_assert_int_eq(b->labels[at], s->tokens[t + 1]);
            ck_assert_int_eq(b->sample_ids[at], (int32_t)i);
        }
    }
    ck_assert_uint_eq(bins, step->n);
    for (size_t m = 0; m < step->n; m++) {
        ck_assert_int_eq(step->micro[m].rows, used[m]);
        ck_assert_uint_eq((size_t)step->micro[m].n_samples, filled[m]);
        ck_assert_uint_eq((size_t)step->micro[m].n_logit_rows, labels[m]);
    }
}

/* First fit, done the slow way. */
static void
check_first_fit(const many *x, const packed_step *step, int64_t budget)
{
    int64_t used[256] = {0};
    for (size_t i = 0; i < x->n; i++) {
        size_t m = 0;
        int found = 0;
        while (used[m] + x->list[i]->n > budget)
            m++;
        used[m] += x->list[i]->n;
        for (int64_t k = 0; k < step->micro[m].n_samples; k++)
            found |= step->micro[m].sample[k] == (int32_t)i;
        ck_assert_int_eq(found, 1);
    }
}

START_TEST(packs)
{
    for (int round = 0; round < 200; round++) {
        int32_t longest = 2 + (int32_t)support_below(60);
        int64_t budget = longest + support_below(100);
        many x = random_samples((size_t)support_below(100) + 1, longest);
        packed_step step;
        ck_assert_int_eq(pack_step(x.list, x.n, budget, &step, &error), 0);
        check_whole(&x, &step);
        check_first_fit(&x, &step, budget);
        int64_t rows = 0, samples = 0, logit_rows = 0;
        for (size_t m = 0; m < step.n; m++) {
            const micro_batch *b = &step.micro[m];
            ck_assert_int_le(b->rows, budget);
            rows = b->rows > rows ? b->rows : rows;
            samples = b->n_samples > samples ? b->n_samples : samples;
            logit_rows =
                b->n_logit_rows > logit_rows ? b->n_logit_rows : logit_rows;
        }
        ck_assert_int_eq(step.max_rows, rows);
        ck_assert_int_eq(step.max_samples, samples);
        ck_assert_int_eq(step.max_logit_rows, logit_rows);
        pack_free(&step);
        pack_free(&step);
        free_many(&x);
    }
}
END_TEST

START_TEST(refuses)
{
    many x = random_samples(3, 10);
    packed_step step;
    text_data data = {.samples = x.samples, .n = x.n};
    x.samples[1].line = 17;
    x.samples[1].n = 11;
    ck_assert_int_eq(pack_step(x.list, 3, 10, &step, &error), TEXT_INPUT);
    ck_assert_ptr_nonnull(strstr(error.message, "line 17"));
    ck_assert_ptr_null(step.micro);
    pack_free(&step);
    ck_assert_int_eq(pack_check(&data, "a.jsonl", 10, &error), TEXT_INPUT);
    ck_assert_ptr_nonnull(strstr(error.message, "a.jsonl, line 17: 11 tokens"));
    ck_assert_int_eq(pack_check(&data, "a.jsonl", 11, &error), TEXT_OK);
    ck_assert_int_eq(pack_step(x.list, 0, 10, &step, &error), TEXT_INPUT);
    ck_assert_int_eq(pack_step(x.list, 3, 0, &step, &error), TEXT_INPUT);
    ck_assert_int_eq(pack_step(x.list, 3, (int64_t)1 << 31, &step, &error),
                     TEXT_INPUT);
    free_many(&x);
}
END_TEST

/* What the library makes of a micro-batch: logits for these rows alone, and
 * a loss that counts each sample once. */
START_TEST(fits_the_library)
{
    many x = random_samples(20, 30);
    packed_step step;
    cadft_error err = support_error();
    ck_assert_int_eq(pack_step(x.list, x.n, 70, &step, &error), 0);
    for (size_t m = 0; m < step.n; m++) {
        micro_batch *b = &step.micro[m];
        int64_t shape = b->n_samples + 1;
        int32_t *ids = malloc((size_t)b->rows * sizeof *ids);
        cadft_tensor cu;
        CHECK_OK(cadft_tensor_init(&cu, sizeof cu, b->cu_seqlens,
                                   CADFT_DTYPE_I32, 1, &shape, NULL, &err),
                 err);
        CHECK_OK(cadft_sample_ids_cu_seqlens(&cu, b->rows, 0, ids, &err), err);
        for (int64_t i = 0; i < b->n_logit_rows; i++)
            ck_assert_int_eq(b->sample[ids[b->logit_rows[i]]],
                             b->sample_ids[i]);
        free(ids);
    }
    pack_free(&step);
    free_many(&x);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("text_pack");
    TCase *tests = tcase_create("pack");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, order_is_a_permutation);
    tcase_add_test(tests, order_has_no_state);
    tcase_add_test(tests, order_is_even);
    tcase_add_test(tests, order_stays);
    tcase_add_test(tests, packs);
    tcase_add_test(tests, refuses);
    tcase_add_test(tests, fits_the_library);
    suite_add_tcase(suite, tests);
    return support_main(argc, argv, suite);
}
