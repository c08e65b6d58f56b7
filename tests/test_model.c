/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for every model, on the golden ones:
 *
 *   test_model [--backend PLUGIN.so] [--seed N] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_support.h"

/* A golden case with its model, and what one pass gives. */
typedef struct bed {
    golden g;
    cadft_context *context;
    cadft_model *model;
    packed p;
    int64_t parameters;
} bed;

static void bed_open(bed *b, int index, int32_t threads)
{
    memset(b, 0, sizeof *b);
    golden_open_case(&b->g, index);
    b->context = model_context(threads);
    b->model = model_load(b->g.path, b->context, CADFT_DTYPE_F32);
    packed_init(&b->p, b->g.tokens, b->g.rows, b->g.cu_seqlens, b->g.sequences);
    cadft_model_get_i64(b->model, CADFT_MODEL_PARAMETERS, &b->parameters, NULL);
}

static void bed_close(bed *b)
{
    cadft_model_destroy(b->model);
    cadft_context_destroy(b->context);
    golden_close(&b->g);
}

/* Logits and all gradients of mean cross-entropy, one after the other. */
static float *pass(bed *b, const cadft_model_batch *batch, int64_t *count)
{
    cadft_error err = support_error();
    cadft_tensor logits = {.struct_size = sizeof logits};
    float *all, *part;
    int64_t n;
    CHECK_OK(cadft_model_zero_grad(b->model, &err), err);
    CHECK_OK(cadft_model_forward(b->model, batch, &logits, &err), err);
    all = read_tensor(b->context, &logits, count);
    cross_entropy(b->context, &logits, b->g.labels, b->g.rows);
    CHECK_OK(cadft_model_backward(b->model, &logits, &err), err);
    for (int64_t i = 0; i < b->parameters; i++) {
        int32_t trainable;
        CHECK_OK(cadft_model_parameter(b->model, i, NULL, NULL, NULL,
                                       &trainable, &err),
                 err);
        if (!trainable)
            continue;
        part = read_grad(b->model, b->context, i, &n);
        all = (float *)realloc(all, (size_t)(*count + n) * sizeof *all);
        memcpy(all + *count, part, (size_t)n * sizeof *all);
        *count += n;
        free(part);
    }
    return all;
}

static void same_bits(const char *what,
                      const bed *b,
                      const float *x,
                      const float *y,
                      int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        ck_assert_msg(memcmp(x + i, y + i, sizeof *x) == 0,
                      "%s, %s: number %lld is %.9g, expected %.9g", b->g.path,
                      what, (long long)i, (double)x[i], (double)y[i]);
}

START_TEST(threads_and_checkpointing_show_in_no_bit)
{
    static const int32_t threads[] = {2, 7};
    bed b;
    int64_t count, again;
    float *first, *other;
    bed_open(&b, _i, 1);
    first = pass(&b, &b.p.batch, &count);
    cadft_model_set_i64(b.model, CADFT_MODEL_CHECKPOINTING, 1, NULL);
    other = pass(&b, &b.p.batch, &again);
    ck_assert_int_eq(count, again);
    same_bits("checkpointing", &b, other, first, count);
    free(other);
    bed_close(&b);
    for (int i = 0; i < 2; i++) {
        bed_open(&b, _i, threads[i]);
        other = pass(&b, &b.p.batch, &again);
        same_bits("threads", &b, other, first, count);
        free(other);
        bed_close(&b);
    }
    free(first);
}
END_TEST

/* [B, T] with garbage behind the sequences' ends, and int64 tokens. */
START_TEST(padded_is_packed)
{
    bed b;
    int64_t count, again, longest = 0;
    int64_t *tokens, *lengths, shape[2];
    cadft_tensor t, l;
    cadft_model_batch batch = {.struct_size = sizeof batch};
    float *packed_result, *padded;
    bed_open(&b, _i, 2);
    packed_result = pass(&b, &b.p.batch, &count);
    for (int64_t s = 0; s < b.g.sequences; s++)
        if (b.g.cu_seqlens[s + 1] - b.g.cu_seqlens[s] > longest)
            longest = b.g.cu_seqlens[s + 1] - b.g.cu_seqlens[s];
    shape[0] = b.g.sequences;
    shape[1] = longest + 3;
    tokens = (int64_t *)malloc((size_t)(shape[0] * shape[1]) * sizeof *tokens);
    lengths = (int64_t *)malloc((size_t)shape[0] * sizeof *lengths);
    for (int64_t i = 0; i < shape[0] * shape[1]; i++)
        tokens[i] = -7;
    for (int64_t s = 0; s < shape[0]; s++) {
        lengths[s] = b.g.cu_seqlens[s + 1] - b.g.cu_seqlens[s];
        for (int64_t i = 0; i < lengths[s]; i++)
            tokens[s * shape[1] + i] = b.g.tokens[b.g.cu_seqlens[s] + i];
    }
    cadft_tensor_init(&t, sizeof t, tokens, CADFT_DTYPE_I64, 2, shape, NULL,
                      NULL);
    cadft_tensor_init(&l, sizeof l, lengths, CADFT_DTYPE_I64, 1, shape, NULL,
                      NULL);
    batch.tokens = &t;
    batch.lengths = &l;
    padded = pass(&b, &batch, &again);
    ck_assert_int_eq(count, again);
    same_bits("padded", &b, padded, packed_result, count);
    free(padded);
    free(packed_result);
    free(tokens);
    free(lengths);
    bed_close(&b);
}
END_TEST

/* Logits of some rows only: the same bits; a sequence alone: as well. */
START_TEST(rows_do_not_depend_on_others)
{
    bed b;
    cadft_error err = support_error();
    cadft_tensor logits = {.struct_size = sizeof logits}, rows;
    int32_t *picked;
    int64_t n = 0, count, shape[1];
    float *all, *some;
    packed alone;
    int32_t ends[2] = {0, 0};
    bed_open(&b, _i, 2);
    picked = (int32_t *)malloc((size_t)b.g.rows * sizeof *picked);
    for (int64_t r = 0; r < b.g.rows; r++)
        if (support_below(3) == 0)
            picked[n++] = (int32_t)r;
    shape[0] = n;
    cadft_tensor_init(&rows, sizeof rows, picked, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    CHECK_OK(cadft_model_forward(b.model, &b.p.batch, &logits, &err), err);
    all = read_tensor(b.context, &logits, &count);
    b.p.batch.logit_rows = &rows;
    b.p.batch.no_grad = 1;
    CHECK_OK(cadft_model_forward(b.model, &b.p.batch, &logits, &err), err);
    some = read_tensor(b.context, &logits, &count);
    ck_assert_int_eq(count, n * b.g.vocab);
    for (int64_t i = 0; i < n; i++)
        same_bits("picked row", &b, some + i * b.g.vocab,
                  all + picked[i] * b.g.vocab, b.g.vocab);
    free(some);
    for (int64_t s = 0; s < b.g.sequences; s++) {
        int64_t first = b.g.cu_seqlens[s];
        ends[1] = (int32_t)(b.g.cu_seqlens[s + 1] - first);
        packed_init(&alone, b.g.tokens + first, ends[1], ends, 1);
        if (s % 2)
            alone.batch.cu_seqlens = NULL; /* one sequence by itself */
        CHECK_OK(cadft_model_forward(b.model, &alone.batch, &logits, &err),
                 err);
        some = read_tensor(b.context, &logits, &count);
        same_bits("sequence alone", &b, some, all + first * b.g.vocab,
                  ends[1] * b.g.vocab);
        free(some);
    }
    free(all);
    free(picked);
    bed_close(&b);
}
END_TEST

/* Gradients of picked rows are those of all rows whose others have none, and
 * two micro-batches add up to one: to rounding, as the order of sums over
 * rows differs. */
START_TEST(gradients_add_up)
{
    bed b;
    cadft_error err = support_error();
    cadft_tensor logits = {.struct_size = sizeof logits}, rows;
    int64_t count, again, n = 0, shape[1], n_logits;
    int32_t *picked;
    float *want, *got, *grad;
    bed_open(&b, _i, 2);
    want = pass(&b, &b.p.batch, &count);
    n_logits = b.g.rows * b.g.vocab;
    picked = (int32_t *)malloc((size_t)b.g.rows * sizeof *picked);
    for (int64_t r = 0; r < b.g.rows; r++)
        if (b.g.labels[r] >= 0)
            picked[n++] = (int32_t)r;
    shape[0] = n;
    cadft_tensor_init(&rows, sizeof rows, picked, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    for (int64_t i = 0; i < n; i++)
        b.g.labels[i] = b.g.labels[picked[i]];
    b.p.batch.logit_rows = &rows;
    CHECK_OK(cadft_model_zero_grad(b.model, &err), err);
    for (int half = 0; half < 2; half++) {
        CHECK_OK(cadft_model_forward(b.model, &b.p.batch, &logits, &err), err);
        cross_entropy(b.context, &logits, b.g.labels, n);
        grad = read_tensor(b.context, &logits, &again);
        for (int64_t i = 0; i < again; i++)
            grad[i] *= 0.5f;
        CHECK_OK(cadft_context_write(b.context, &logits, grad,
                                     (size_t)again * sizeof *grad, &err),
                 err);
        free(grad);
        CHECK_OK(cadft_model_backward(b.model, &logits, &err), err);
    }
    for (int64_t i = 0, at = n_logits; i < b.parameters; i++) {
        double error;
        got = read_grad(b.model, b.context, i, &again);
        error = relative_error(got, want + at, again);
        ck_assert_msg(error < 1e-5, "%s: parameter %lld off by %.3g", b.g.path,
                      (long long)i, error);
        at += again;
        free(got);
    }
    free(want);
    free(picked);
    bed_close(&b);
}
END_TEST

/* Frozen parameters have no gradient, and the others the same bits. */
START_TEST(frozen)
{
    static const char *const patterns[] = {
        "model.embed_tokens.weight",
        "*.k_proj.*",
        "*norm*",
        "model.layers.0.*",
        "*.mlp.*",
        "model.layers.*",
        "*.up_proj.*",
        "*.q_proj.*",
        "*",
    };
    cadft_error err = support_error();
    for (size_t k = 0; k < sizeof patterns / sizeof patterns[0]; k++) {
        bed b;
        int64_t count, again, matched, at, n, i, out = 0;
        float *want, *got, *kept;
        bed_open(&b, _i, 2);
        want = pass(&b, &b.p.batch, &count);
        CHECK_OK(cadft_model_freeze(b.model, patterns[k], 0, &matched, &err),
                 err);
        ck_assert_int_ge(matched, 1);
        kept = (float *)malloc((size_t)count * sizeof *kept);
        at = out = b.g.rows * b.g.vocab;
        memcpy(kept, want, (size_t)at * sizeof *kept);
        for (i = 0; i < b.parameters; i++) {
            cadft_tensor value = {.struct_size = sizeof value};
            int32_t trainable;
            cadft_model_parameter(b.model, i, NULL, &value, NULL, &trainable,
                                  NULL);
            n = value.shape[0] * (value.ndim > 1 ? value.shape[1] : 1);
            if (trainable) {
                memcpy(kept + out, want + at, (size_t)n * sizeof *kept);
                out += n;
            } else {
                matched--;
            }
            at += n;
        }
        ck_assert_int_eq(matched, 0);
        got = pass(&b, &b.p.batch, &again);
        ck_assert_int_eq(again, out);
        same_bits(patterns[k], &b, got, kept, out);
        free(got);
        free(kept);
        free(want);
        bed_close(&b);
    }
}
END_TEST

/* Directional differences of the loss through the whole model, for objectives
 * whose gradient is that of their loss. */
static double loss_of(bed *b, cadft_loss *loss, int32_t want_grad)
{
    cadft_error err = support_error();
    cadft_tensor logits = {.struct_size = sizeof logits}, y, ids;
    int64_t shape[1] = {b->g.rows};
    int32_t *samples = (int32_t *)malloc((size_t)b->g.rows * sizeof *samples);
    cadft_loss_report report = {.struct_size = sizeof report};
    cadft_loss_batch batch = {.struct_size = sizeof batch,
                              .logits = &logits,
                              .labels = &y,
                              .sample_ids = &ids};
    for (int64_t s = 0; s < b->g.sequences; s++)
        for (int64_t r = b->g.cu_seqlens[s]; r < b->g.cu_seqlens[s + 1]; r++)
            samples[r] = (int32_t)s;
    cadft_tensor_init(&y, sizeof y, b->g.labels, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    cadft_tensor_init(&ids, sizeof ids, samples, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    CHECK_OK(cadft_model_forward(b->model, &b->p.batch, &logits, &err), err);
    CHECK_OK(cadft_loss_compute(loss, &batch, b->g.sequences, &logits, NULL,
                                &report, &err),
             err);
    if (want_grad)
        CHECK_OK(cadft_model_backward(b->model, &logits, &err), err);
    free(samples);
    return report.loss;
}

/* Add `by` times `direction` to every weight. */
static void
move(bed *b, float *const *weights, float *const *direction, double by)
{
    cadft_error err = support_error();
    for (int64_t i = 0; i < b->parameters; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        int64_t count;
        float *moved;
        cadft_model_parameter(b->model, i, NULL, &value, NULL, NULL, NULL);
        moved = read_tensor(b->context, &value, &count);
        for (int64_t j = 0; j < count; j++)
            moved[j] =
                (float)((double)weights[i][j] + by * (double)direction[i][j]);
        CHECK_OK(cadft_context_write(b->context, &value, moved,
                                     (size_t)count * sizeof *moved, &err),
                 err);
        free(moved);
    }
}

START_TEST(differences_of_the_loss)
{
    static const int64_t objectives[] = {
        CADFT_OBJECTIVE_SFT, CADFT_OBJECTIVE_DFT_NOSG, CADFT_OBJECTIVE_POWER,
        CADFT_OBJECTIVE_FOCAL};
    const double step = 2e-3;
    bed b;
    cadft_error err = support_error();
    float **weights, **direction;
    bed_open(&b, _i, 2);
    weights = (float **)malloc((size_t)b.parameters * sizeof *weights);
    direction = (float **)malloc((size_t)b.parameters * sizeof *direction);
    for (int64_t i = 0; i < b.parameters; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        int64_t count;
        cadft_model_parameter(b.model, i, NULL, &value, NULL, NULL, NULL);
        weights[i] = read_tensor(b.context, &value, &count);
        direction[i] = (float *)malloc((size_t)count * sizeof(float));
        for (int64_t j = 0; j < count; j++)
            direction[i][j] = (float)(0.1 * support_normal());
    }
    for (int k = 0; k < 4; k++) {
        cadft_loss *loss;
        double slope = 0, size = 0, up, down, got;
        CHECK_OK(cadft_loss_create(b.context, &loss, &err), err);
        cadft_loss_set_i64(loss, CADFT_LOSS_OBJECTIVE, objectives[k], NULL);
        cadft_loss_set_i64(loss, CADFT_LOSS_WEIGHTING, 0, NULL);
        move(&b, weights, direction, 0);
        CHECK_OK(cadft_model_zero_grad(b.model, &err), err);
        loss_of(&b, loss, 1);
        for (int64_t i = 0; i < b.parameters; i++) {
            int64_t count;
            float *grad = read_grad(b.model, b.context, i, &count);
            for (int64_t j = 0; j < count; j++) {
                double term = (double)grad[j] * (double)direction[i][j];
                slope += term;
                size += term * term;
            }
            free(grad);
        }
        move(&b, weights, direction, step);
        up = loss_of(&b, loss, 0);
        move(&b, weights, direction, -step);
        down = loss_of(&b, loss, 0);
        got = (up - down) / (2 * step);
        /* The loss is good to 1e-6 or so, over 2 step: 1e-3; the third
         * derivative adds as much. Against the size that the sum would have
         * with signs at random. */
        ck_assert_msg(fabs(got - slope) <=
                          0.02 * (fabs(slope) + sqrt(size)) + 1e-3,
                      "%s, objective %lld: slope %.6g, by difference %.6g",
                      b.g.path, (long long)objectives[k], slope, got);
        cadft_loss_destroy(loss);
    }
    for (int64_t i = 0; i < b.parameters; i++) {
        free(weights[i]);
        free(direction[i]);
    }
    free(weights);
    free(direction);
    bed_close(&b);
}
END_TEST

/* ------------------------------------------------------------- bfloat16 */

/* Every weight becomes the bfloat16 nearest to it; some folders have them so
 * already. */
static void round_weights(bed *b)
{
    cadft_error err = support_error();
    for (int64_t i = 0; i < b->parameters; i++) {
        cadft_tensor value = {.struct_size = sizeof value};
        int64_t count;
        float *weights;
        cadft_model_parameter(b->model, i, NULL, &value, NULL, NULL, NULL);
        weights = read_tensor(b->context, &value, &count);
        for (int64_t j = 0; j < count; j++) {
            uint16_t rounded;
            support_put(&rounded, CADFT_DTYPE_BF16, 0, weights[j]);
            weights[j] = support_get(&rounded, CADFT_DTYPE_BF16, 0);
        }
        CHECK_OK(cadft_context_write(b->context, &value, weights,
                                     (size_t)count * sizeof *weights, &err),
                 err);
        free(weights);
    }
}

/* Weights in bfloat16 are widened as they are read and nothing else: logits
 * and gradients have the bits of float32 weights of the same values. */
START_TEST(bfloat16_weights_are_their_values)
{
    bed b;
    int64_t count, again, dtype;
    float *want, *got;
    bed_open(&b, _i, 2);
    round_weights(&b);
    want = pass(&b, &b.p.batch, &count);
    cadft_model_destroy(b.model);
    b.model = model_load(b.g.path, b.context, CADFT_DTYPE_BF16);
    cadft_model_get_i64(b.model, CADFT_MODEL_WEIGHT_DTYPE, &dtype, NULL);
    ck_assert_int_eq(dtype, CADFT_DTYPE_BF16);
    for (int64_t k = 0; k < 2; k++) {
        cadft_model_set_i64(b.model, CADFT_MODEL_CHECKPOINTING, k, NULL);
        got = pass(&b, &b.p.batch, &again);
        ck_assert_int_eq(count, again);
        same_bits(k ? "bfloat16, checkpointing" : "bfloat16", &b, got, want,
                  count);
        free(got);
    }
    free(want);
    bed_close(&b);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("model");
    TCase *cases = tcase_create("golden models");
    int count = model_folder ? 1 : GOLDEN_MODELS;
    tcase_set_timeout(cases, 300);
    tcase_add_loop_test(cases, threads_and_checkpointing_show_in_no_bit, 0,
                        count);
    tcase_add_loop_test(cases, padded_is_packed, 0, count);
    tcase_add_loop_test(cases, rows_do_not_depend_on_others, 0, count);
    tcase_add_loop_test(cases, gradients_add_up, 0, count);
    tcase_add_loop_test(cases, frozen, 0, count);
    tcase_add_loop_test(cases, differences_of_the_loss, 0, count);
    tcase_add_loop_test(cases, bfloat16_weights_are_their_values, 0, count);
    suite_add_tcase(suite, cases);
    return suite;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
