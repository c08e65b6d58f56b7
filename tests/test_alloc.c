/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: every allocation of every public call may fail, nothing leaks, a
 * training loop stops allocating, and what it holds depends on rows and
 * samples but not on the vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "failing.h"

enum { ROWS = 12, COLS = 24, SAMPLES = 4, SHARDS = 2 };

/* ----------------------------------------------------- the whole scenario */

struct results {
    float grad[2][ROWS * COLS], unit[ROWS * COLS], again[ROWS * COLS];
    float shard[SHARDS][ROWS * COLS / SHARDS];
    float scale[ROWS];
    double nll[ROWS], w[SAMPLES];
    unsigned char state[64];
    cadft_loss_report reports[3];
};

struct scenario {
    support_batch *batch, *shards[SHARDS];
    struct results out;
};

static struct scenario *s;

static cadft_tensor view(float *data, int64_t *shape)
{
    cadft_tensor t;
    cadft_tensor_init(&t, sizeof t, data, CADFT_DTYPE_F32, 2, shape, NULL,
                      NULL);
    return t;
}

/* Columns [i, i + 1) * COLS / SHARDS of the batch. */
static support_batch *cut(const support_batch *from, int i)
{
    int64_t cols = COLS / SHARDS;
    support_batch *b = support_batch_new(ROWS, cols, CADFT_DTYPE_F32, 1, 1);
    for (int64_t r = 0; r < ROWS; r++)
        memcpy((float *)b->z + r * cols,
               (const float *)from->z + r * COLS + i * cols,
               (size_t)cols * sizeof(float));
    memcpy(b->y, from->y, ROWS * sizeof *b->y);
    memcpy(b->ids, from->ids, ROWS * sizeof *b->ids);
    b->batch.vocab_start = i * cols;
    b->batch.vocab_total = COLS;
    return b;
}

/* All-reduce one kind over the losses of both shards. */
static void reduce(cadft_loss *const *losses, int32_t kind, int max)
{
    double own[8 * ROWS], sum[8 * ROWS];
    size_t n = 0;
    for (int i = 0; i < SHARDS; i++) {
        TRY(cadft_loss_export(losses[i], kind, 0, 1, own, 8 * ROWS, &n,
                              &failing.err));
        for (size_t j = 0; j < n; j++)
            sum[j] = i == 0 ? own[j]
                     : max  ? (own[j] > sum[j] ? own[j] : sum[j])
                            : own[j] + sum[j];
    }
    for (int i = 0; i < SHARDS; i++)
        TRY(cadft_loss_import(losses[i], kind, sum, n, &failing.err));
}

static void vocabulary_parallel(cadft_context *context)
{
    cadft_loss *losses[SHARDS];
    int64_t micro = -1;
    for (int i = 0; i < SHARDS; i++) {
        TRY(cadft_loss_create(context, &losses[i], &failing.err));
        TRY(cadft_loss_begin(losses[i], SAMPLES, &failing.err));
        TRY(cadft_loss_observe(losses[i], &s->shards[i]->batch, NULL, &micro,
                               &failing.err));
    }
    reduce(losses, CADFT_EXCHANGE_ROW_MAX, 1);
    reduce(losses, CADFT_EXCHANGE_ROW_SUM, 0);
    for (int i = 0; i < SHARDS; i++) {
        cadft_tensor grad = view(s->out.shard[i], s->shards[i]->shape);
        TRY(cadft_loss_weigh(losses[i], &failing.err));
        TRY(cadft_loss_grad(losses[i], 0, &s->shards[i]->batch, &grad,
                            &failing.err));
        TRY(cadft_loss_end(losses[i], &s->out.reports[i], &failing.err));
        cadft_loss_destroy(losses[i]);
    }
}

static void exchanges(cadft_loss *loss)
{
    double values[4 * SAMPLES];
    size_t n;
    for (int32_t kind = CADFT_EXCHANGE_SAMPLES; kind <= CADFT_EXCHANGE_MOMENTS;
         kind++) {
        TRY(cadft_loss_export(loss, kind, 0, 1, values, 4 * SAMPLES, &n,
                              &failing.err));
        TRY(cadft_loss_import(loss, kind, values, n, &failing.err));
    }
}

static int32_t half(void *user,
                    int64_t rows,
                    const double *l,
                    const double *p,
                    const double *entropy,
                    double *k)
{
    (void)user, (void)l, (void)entropy;
    for (int64_t r = 0; r < rows; r++)
        k[r] = 0.5 * p[r];
    return 0;
}

static void phases(cadft_loss *loss)
{
    struct results *out = &s->out;
    cadft_tensor grad = view(out->grad[0], s->batch->shape),
                 unit = view(out->unit, s->batch->shape),
                 again = view(out->again, s->batch->shape);
    cadft_coefficient c = {.struct_size = sizeof c, .fn = half};
    int64_t micro[2] = {-1, -1};
    size_t n;
    TRY(cadft_loss_set_coefficient(loss, &c, &failing.err));
    TRY(cadft_loss_set_str(loss, CADFT_LOSS_OBJECTIVE, "host", &failing.err));
    TRY(cadft_loss_set_str(loss, CADFT_LOSS_BETA, "0.75", &failing.err));
    TRY(cadft_loss_begin(loss, SAMPLES, &failing.err));
    TRY(cadft_loss_observe(loss, &s->batch->batch, NULL, &micro[0],
                           &failing.err));
    TRY(cadft_loss_observe(loss, &s->batch->batch, &unit, &micro[1],
                           &failing.err));
    exchanges(loss);
    TRY(cadft_loss_weigh(loss, &failing.err));
    TRY(cadft_loss_grad(loss, micro[0], &s->batch->batch, &grad, &failing.err));
    TRY(cadft_loss_grad(loss, -1, &s->batch->batch, &again, &failing.err));
    TRY(cadft_loss_get_rows(loss, 0, CADFT_ROWS_NLL, out->nll, ROWS, NULL,
                            &failing.err));
    TRY(cadft_loss_get_samples(loss, CADFT_SAMPLES_W, out->w, SAMPLES, NULL,
                               &failing.err));
    TRY(cadft_loss_end(loss, &out->reports[2], &failing.err));
    TRY(cadft_loss_state_save(loss, out->state, sizeof out->state, &n,
                              &failing.err));
    TRY(cadft_loss_state_load(loss, out->state, n, &failing.err));
}

static void one_call(cadft_context *context)
{
    cadft_tensor grad = view(s->out.grad[1], s->batch->shape);
    cadft_loss_report report = {.struct_size = sizeof report};
    double k[ROWS];
    cadft_tensor k_view;
    cadft_loss *loss;
    int64_t value;
    char text[32];
    for (int r = 0; r < ROWS; r++)
        k[r] = r;
    cadft_tensor_init(&k_view, sizeof k_view, k, CADFT_DTYPE_F64, 1,
                      s->batch->row_shape, NULL, NULL);
    TRY(cadft_loss_create(context, &loss, &failing.err));
    TRY(cadft_loss_compute(loss, &s->batch->batch, SAMPLES, &grad, s->out.scale,
                           &report, &failing.err));
    TRY(cadft_loss_set_i64(loss, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_HOST,
                           &failing.err));
    s->batch->batch.k = &k_view;
    TRY(cadft_loss_compute(loss, &s->batch->batch, SAMPLES, NULL, NULL, &report,
                           &failing.err));
    s->batch->batch.k = NULL;
    TRY(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &value,
                              &failing.err));
    TRY(cadft_context_get_str(context, CADFT_CONTEXT_DEVICE, text, sizeof text,
                              NULL, &failing.err));
    TRY(cadft_loss_get_str(loss, CADFT_LOSS_SCOPE, text, sizeof text, NULL,
                           &failing.err));
    cadft_loss_destroy(loss);
}

/* Every public call, with the nth allocation failing; 0: none. */
static void run(int64_t n)
{
    cadft_allocator allocator = support_allocator(&failing.heap);
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 3,
                               .allocator = &allocator,
                               .backend_options = "c"};
    cadft_context *context;
    cadft_loss *loss;
    int creations;
    memset(&s->out, 0, sizeof s->out);
    for (int i = 0; i < 3; i++)
        s->out.reports[i].struct_size = sizeof(cadft_loss_report);
    failing_start(n);
    TRY(cadft_context_create(&desc, &context, &failing.err));
    creations = 1 + failing.failures;
    ck_assert_int_eq(failing.heap.destroyed, failing.failures);
    TRY(cadft_loss_create(context, &loss, &failing.err));
    phases(loss);
    vocabulary_parallel(context);
    one_call(context);
    cadft_context_destroy(context); /* the loss still holds it */
    ck_assert_int_eq(failing.heap.destroyed, creations - 1);
    cadft_loss_destroy(loss);
    failing_end(creations);
}

START_TEST(any_allocation_may_fail)
{
    struct results *undisturbed;
    int64_t n = 0;
    s = (struct scenario *)calloc(1, sizeof *s);
    undisturbed = (struct results *)malloc(sizeof *undisturbed);
    s->batch = support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    for (int i = 0; i < SHARDS; i++)
        s->shards[i] = cut(s->batch, i);
    run(0);
    ck_assert_int_eq(failing.failures, 0);
    *undisturbed = s->out;
    do {
        run(++n);
        ck_assert_msg(memcmp(undisturbed, &s->out, sizeof s->out) == 0,
                      "other bits after allocation %lld failed", (long long)n);
    } while (failing.failures);
    ck_assert_int_gt(n, 30);
    for (int i = 0; i < SHARDS; i++)
        support_batch_free(s->shards[i]);
    support_batch_free(s->batch);
    free(undisturbed);
    free(s);
}
END_TEST

/* ------------------------------------------------------------------- lean */

static cadft_context *heap_context(support_heap *heap)
{
    cadft_allocator allocator = support_allocator(heap);
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .allocator = &allocator};
    cadft_context *context;
    cadft_error err = support_error();
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    return context;
}

static void phase_step(cadft_loss *loss, support_batch *b, float *grad)
{
    cadft_tensor g = view(grad, b->shape);
    cadft_loss_report report = {.struct_size = sizeof report};
    cadft_error err = support_error();
    int64_t micro[4];
    CHECK_OK(cadft_loss_begin(loss, SAMPLES, &err), err);
    for (int i = 0; i < 4; i++)
        CHECK_OK(cadft_loss_observe(loss, &b->batch, i == 3 ? &g : NULL,
                                    &micro[i], &err),
                 err);
    CHECK_OK(cadft_loss_weigh(loss, &err), err);
    for (int i = 0; i < 3; i++)
        CHECK_OK(
            cadft_loss_grad(loss, i == 2 ? -1 : micro[i], &b->batch, &g, &err),
            err);
    CHECK_OK(cadft_loss_end(loss, &report, &err), err);
}

static void compute_step(cadft_loss *loss, support_batch *b, float *grad)
{
    cadft_tensor g = view(grad, b->shape);
    cadft_error err = support_error();
    float scale[ROWS];
    CHECK_OK(cadft_loss_compute(loss, &b->batch, SAMPLES, &g, NULL, NULL, &err),
             err);
    CHECK_OK(
        cadft_loss_compute(loss, &b->batch, SAMPLES, &g, scale, NULL, &err),
        err);
}

START_TEST(a_training_loop_stops_allocating)
{
    support_heap heap = {0};
    cadft_context *context = heap_context(&heap);
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    float grad[ROWS * COLS];
    cadft_loss *loss;
    int64_t after_first;
    cadft_error err = support_error();
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    phase_step(loss, b, grad);
    compute_step(loss, b, grad);
    after_first = heap.allocations;
    for (int i = 0; i < 10; i++) {
        phase_step(loss, b, grad);
        compute_step(loss, b, grad);
    }
    ck_assert_int_eq(heap.allocations, after_first);
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
    ck_assert_int_eq(heap.live_blocks, 0);
    support_batch_free(b);
}
END_TEST

/* Most bytes held through one compute and one step of one micro-batch. */
static int64_t peak(int64_t rows, int64_t cols, int64_t samples)
{
    support_heap heap = {0};
    cadft_context *context = heap_context(&heap);
    support_batch *b =
        support_batch_new(rows, cols, CADFT_DTYPE_F32, samples, 2);
    cadft_error err = support_error();
    cadft_loss *loss;
    int64_t bytes;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    CHECK_OK(cadft_loss_compute(loss, &b->batch, samples, &b->logits, NULL,
                                NULL, &err),
             err);
    CHECK_OK(
        cadft_context_get_i64(context, CADFT_CONTEXT_PEAK_BYTES, &bytes, &err),
        err);
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
    support_batch_free(b);
    return bytes;
}

START_TEST(memory_does_not_grow_with_the_vocabulary)
{
    int64_t narrow = peak(64, 2, 4);
    ck_assert_int_eq(peak(64, 1000, 4), narrow);
    ck_assert_int_eq(peak(64, 50000, 4), narrow);
}
END_TEST

START_TEST(memory_grows_with_rows_and_samples)
{
    int64_t base = peak(64, 8, 8);
    int64_t rows = peak(64 + 1024, 8, 8) - base;
    int64_t more_rows = peak(64 + 4096, 8, 8) - base;
    int64_t samples = peak(64, 8, 8 + 1024) - base;
    ck_assert_int_le(llabs(more_rows - 4 * rows), 1024);
    ck_assert_int_le(rows, 1024 * 512);
    ck_assert_int_le(samples, 1024 * 128);
}
END_TEST

/* ---------------------------------------------------------------- counters */

static void
same_bytes(cadft_context *context, const support_heap *heap, int64_t *most)
{
    int64_t now, top;
    cadft_error err = support_error();
    CHECK_OK(cadft_context_get_i64(context, CADFT_CONTEXT_BYTES, &now, &err),
             err);
    CHECK_OK(
        cadft_context_get_i64(context, CADFT_CONTEXT_PEAK_BYTES, &top, &err),
        err);
    ck_assert_int_eq(now, heap->live_bytes);
    ck_assert_int_ge(top, now);
    ck_assert_int_ge(top, *most);
    *most = top;
}

START_TEST(the_context_knows_its_bytes)
{
    support_heap heap = {0};
    cadft_context *context = heap_context(&heap);
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    float grad[ROWS * COLS];
    cadft_error err = support_error();
    cadft_loss *loss;
    int64_t most = 0, top;
    same_bytes(context, &heap, &most);
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    same_bytes(context, &heap, &most);
    phase_step(loss, b, grad);
    same_bytes(context, &heap, &most);
    top = most;
    cadft_loss_destroy(loss);
    same_bytes(context, &heap, &most);
    ck_assert_int_eq(most, top); /* the peak stays */
    cadft_context_destroy(context);
    ck_assert_int_eq(heap.live_bytes, 0);
    support_batch_free(b);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("alloc");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, any_allocation_may_fail);
    tcase_add_test(t, a_training_loop_stops_allocating);
    tcase_add_test(t, memory_does_not_grow_with_the_vocabulary);
    tcase_add_test(t, memory_grows_with_rows_and_samples);
    tcase_add_test(t, the_context_knows_its_bytes);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
