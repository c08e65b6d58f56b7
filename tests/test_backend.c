/* SPDX-License-Identifier: Apache-2.0 */
/* The plug-in contract, through a device whose memory the host cannot reach
 * (device_backend.c): results equal those of the cpu backend, failures come
 * through with their sentence, streams may run late. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "device_host.h"

enum { ROWS = 7, COLS = 33, SAMPLES = 3 };

static cadft_loss *open_loss(const char *options)
{
    cadft_context *context;
    cadft_loss *loss;
    CHECK_OK(open_context(DEVICE_BACKEND_PATH, options, &context), err);
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    cadft_context_destroy(context);
    return loss;
}

static cadft_loss *open_cpu(void)
{
    cadft_context *context = support_context("c", 1);
    cadft_loss *loss;
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    cadft_context_destroy(context);
    return loss;
}

/* ------------------------------------------------- a batch on the device */

enum { SHIFT = 128 }; /* bytes between a base and its first element */

struct remote {
    support_batch *host;
    cadft_tensor grad;
    int32_t grad_dtype;
    double *k;
    cadft_tensor k_view;
};

static void move(cadft_tensor *t, const void *from, uint64_t bytes)
{
    t->data = device->alloc(bytes + SHIFT);
    t->byte_offset = SHIFT;
    t->device_type = DEVICE_TYPE;
    device->write(t->data, SHIFT, from, bytes);
}

static uint64_t grad_bytes(const struct remote *r)
{
    return (uint64_t)(r->host->rows * r->host->cols) *
           support_dtype_size(r->grad_dtype);
}

static struct remote remote_new(const support_batch *from, int32_t grad_dtype)
{
    struct remote r = {.host = support_batch_copy(from),
                       .grad_dtype = grad_dtype};
    void *zeros;
    cadft_tensor_init(&r.grad, sizeof r.grad, NULL, grad_dtype, 2,
                      r.host->shape, NULL, NULL);
    zeros = calloc(1, grad_bytes(&r) + 1);
    move(&r.grad, zeros, grad_bytes(&r));
    free(zeros);
    move(&r.host->logits, r.host->z,
         (uint64_t)(from->rows * from->cols) * support_dtype_size(from->dtype));
    return r;
}

static void labels_to_device(struct remote *r)
{
    move(&r->host->labels, r->host->y, (uint64_t)r->host->rows * 4);
    move(&r->host->sample_ids, r->host->ids, (uint64_t)r->host->rows * 4);
}

static void drop(cadft_tensor *t)
{
    if (t->device_type == DEVICE_TYPE && t->data)
        device->free(t->data);
}

static void remote_free(struct remote *r)
{
    drop(&r->grad);
    drop(&r->host->logits);
    drop(&r->host->labels);
    drop(&r->host->sample_ids);
    drop(&r->k_view);
    support_batch_free(r->host);
}

/* The gradient on the device against one of the cpu backend. */
static void same_grad(const struct remote *r, const void *cpu, double within)
{
    int64_t n = r->host->rows * r->host->cols;
    char *ours = (char *)malloc(grad_bytes(r) + 1);
    device->read(r->grad.data, SHIFT, ours, grad_bytes(r));
    for (int64_t i = 0; i < n; i++) {
        double a = support_get(ours, r->grad_dtype, i);
        double b = support_get(cpu, r->grad_dtype, i);
        ck_assert_msg(fabs(a - b) <= within * (1 + fabs(b)),
                      "element %lld is %.9g, on the cpu %.9g", (long long)i, a,
                      b);
    }
    free(ours);
}

static void same_report(const cadft_loss_report *a, const cadft_loss_report *b)
{
    const double pairs[][2] = {
        {a->loss, b->loss},     {a->nll, b->nll},
        {a->mean_p, b->mean_p}, {a->mean_w, b->mean_w},
        {a->min_w, b->min_w},   {a->mu, b->mu},
        {a->sigma, b->sigma},   {a->grad_scale, b->grad_scale}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        ck_assert_msg(fabs(pairs[i][0] - pairs[i][1]) <=
                          1e-6 * (1 + fabs(pairs[i][1])),
                      "field %zu: %g and %g", i, pairs[i][0], pairs[i][1]);
    ck_assert_int_eq(a->n_samples, b->n_samples);
    ck_assert_int_eq(a->n_rows, b->n_rows);
    ck_assert_int_eq(a->n_skipped, b->n_skipped);
}

/* Knobs of one comparison: objective, smoothing, soft-cap, z-loss. */
struct knobs {
    int64_t objective;
    double smoothing, softcap, z_loss;
};

static void turn(cadft_loss *loss, const struct knobs *k)
{
    CHECK_OK(cadft_loss_set_i64(loss, CADFT_LOSS_OBJECTIVE, k->objective, &err),
             err);
    CHECK_OK(cadft_loss_set_f64(loss, CADFT_LOSS_LABEL_SMOOTHING, k->smoothing,
                                &err),
             err);
    CHECK_OK(cadft_loss_set_f64(loss, CADFT_LOSS_SOFTCAP, k->softcap, &err),
             err);
    CHECK_OK(cadft_loss_set_f64(loss, CADFT_LOSS_Z_LOSS, k->z_loss, &err), err);
}

/* compute on both; with `unit` the unit gradient and its scales. */
static void compare(const char *options,
                    const struct knobs *knobs,
                    int32_t dtype,
                    int32_t grad_dtype,
                    int unit,
                    int labels_there)
{
    support_batch *b = support_batch_new(ROWS, COLS, dtype, SAMPLES, 2);
    struct remote r = remote_new(b, grad_dtype);
    cadft_loss *there = open_loss(options), *here = open_cpu();
    cadft_loss_report a = {.struct_size = sizeof a}, c = a;
    float scale[2][ROWS];
    void *grad = calloc(1, grad_bytes(&r));
    cadft_tensor g;
    cadft_tensor_init(&g, sizeof g, grad, grad_dtype, 2, b->shape, NULL, NULL);
    turn(there, knobs);
    turn(here, knobs);
    b->y[2] = r.host->y[2] = -100;
    if (labels_there)
        labels_to_device(&r);
    CHECK_OK(cadft_loss_compute(there, &r.host->batch, SAMPLES, &r.grad,
                                unit ? scale[0] : NULL, &a, &err),
             err);
    device->wait(NULL);
    CHECK_OK(cadft_loss_compute(here, &b->batch, SAMPLES, &g,
                                unit ? scale[1] : NULL, &c, &err),
             err);
    same_report(&a, &c);
    same_grad(&r, grad, grad_dtype == CADFT_DTYPE_F32 ? 1e-6 : 1e-2);
    for (int i = 0; unit && i < ROWS; i++)
        ck_assert(fabsf(scale[0][i] - scale[1][i]) <= 1e-6f);
    cadft_loss_destroy(there);
    cadft_loss_destroy(here);
    remote_free(&r);
    support_batch_free(b);
    free(grad);
}

static const struct knobs dft = {.objective = CADFT_OBJECTIVE_DFT};

/* ---------------------------------------------------------------- results */

START_TEST(results_equal_the_cpu)
{
    static const struct knobs all[] = {
        {CADFT_OBJECTIVE_DFT, 0, 0, 0},     {CADFT_OBJECTIVE_SFT, 0.1, 0, 0},
        {CADFT_OBJECTIVE_DFT, 0, 5, 0},     {CADFT_OBJECTIVE_EAFT, 0, 0, 0},
        {CADFT_OBJECTIVE_DFT, 0, 0, 0.001}, {CADFT_OBJECTIVE_DFT, 0.2, 3, 0.1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        compare("", &all[i], CADFT_DTYPE_F32, CADFT_DTYPE_F32, 0, 0);
        compare("", &all[i], CADFT_DTYPE_BF16, CADFT_DTYPE_F32, 0, 1);
        compare("", &all[i], CADFT_DTYPE_BF16, CADFT_DTYPE_BF16, 0, 1);
    }
}
END_TEST

/* By the fused slot, and by the two required ones. */
START_TEST(unit_gradients_equal_the_cpu)
{
    static const char *const variants[] = {NULL, "no-unit", "small", "newer"};
    static const struct knobs smooth = {CADFT_OBJECTIVE_SFT, 0.1, 4, 0};
    for (int i = 0; i < 4; i++) {
        device->reset();
        device->variant(variants[i]);
        compare("", &dft, CADFT_DTYPE_F32, CADFT_DTYPE_F32, 1, 0);
        compare("", &smooth, CADFT_DTYPE_BF16, CADFT_DTYPE_F32, 1, 1);
        ck_assert_int_eq(device->calls("loss_row_unit"),
                         i == 0 || i == 3 ? 2 : 0);
        ck_assert_int_eq(device->calls("grad"), i == 0 || i == 3 ? 0 : 2);
        ck_assert_int_eq(device->wrong(), 0);
    }
}
END_TEST

/* The fused slot is asked whether it takes the types. */
START_TEST(unit_slot_without_these_types)
{
    compare("unit-f32", &dft, CADFT_DTYPE_F32, CADFT_DTYPE_F32, 1, 0);
    compare("unit-f32", &dft, CADFT_DTYPE_BF16, CADFT_DTYPE_F32, 1, 0);
}
END_TEST

START_TEST(coefficients_on_the_device)
{
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    double k[ROWS], got[ROWS];
    cadft_loss *loss = open_loss("");
    for (int i = 0; i < ROWS; i++)
        k[i] = 0.25 * (i + 1);
    cadft_tensor_init(&r.k_view, sizeof r.k_view, k, CADFT_DTYPE_F64, 1,
                      r.host->row_shape, NULL, NULL);
    move(&r.k_view, k, sizeof k);
    labels_to_device(&r);
    r.host->batch.k = &r.k_view;
    turn(loss, &(struct knobs){.objective = CADFT_OBJECTIVE_HOST});
    CHECK_OK(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &r.grad, NULL,
                                NULL, &err),
             err);
    CHECK_OK(cadft_loss_get_rows(loss, 0, CADFT_ROWS_K, got, ROWS, NULL, &err),
             err);
    ck_assert_mem_eq(k, got, sizeof k);
    cadft_loss_destroy(loss);
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

START_TEST(gradient_over_the_logits)
{
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    cadft_loss *there = open_loss(""), *here = open_cpu();
    drop(&r.grad);
    r.grad = r.host->logits;
    CHECK_OK(cadft_loss_compute(there, &r.host->batch, SAMPLES, &r.grad, NULL,
                                NULL, &err),
             err);
    CHECK_OK(cadft_loss_compute(here, &b->batch, SAMPLES, &b->logits, NULL,
                                NULL, &err),
             err);
    device->wait(NULL);
    same_grad(&r, b->z, 1e-6);
    r.grad.data = NULL;
    cadft_loss_destroy(there);
    cadft_loss_destroy(here);
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

/* One allocation, logits and gradient side by side or run together. */
START_TEST(overlap_within_one_allocation)
{
    uint64_t bytes = ROWS * COLS * 4;
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    cadft_loss *loss = open_loss("");
    cadft_tensor grad = r.grad;
    drop(&r.host->logits);
    r.host->logits.data = device->alloc(2 * bytes);
    r.host->logits.byte_offset = 0;
    device->write(r.host->logits.data, 0, b->z, bytes);
    grad.data = r.host->logits.data;
    grad.byte_offset = bytes;
    CHECK_OK(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &grad, NULL,
                                NULL, &err),
             err);
    grad.byte_offset = bytes - 4;
    CHECK_STATUS(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &grad, NULL,
                                    NULL, &err),
                 CADFT_E_ALIAS, err);
    device->wait(NULL);
    cadft_loss_destroy(loss);
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

START_TEST(no_rows_at_all)
{
    support_batch *b = support_batch_new(0, COLS, CADFT_DTYPE_F32, 1, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    cadft_loss *loss = open_loss("");
    cadft_loss_report report = {.struct_size = sizeof report};
    float scale[1];
    CHECK_OK(cadft_loss_compute(loss, &r.host->batch, 1, &r.grad, NULL, &report,
                                &err),
             err);
    CHECK_OK(cadft_loss_compute(loss, &r.host->batch, 1, &r.grad, scale,
                                &report, &err),
             err);
    ck_assert_int_eq(report.n_samples, 0);
    cadft_loss_destroy(loss);
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

/* ---------------------------------------------------------------- streams */

static int64_t observe_on(cadft_loss *loss, struct remote *r, void *stream)
{
    int64_t micro;
    r->host->batch.stream = stream;
    CHECK_OK(cadft_loss_observe(loss, &r->host->batch, NULL, &micro, &err),
             err);
    return micro;
}

/* The gradients of three micro-batches are enqueued on streams of their own,
 * which run only when somebody waits for them, the loss gone by then. */
START_TEST(streams_that_run_late)
{
    support_batch *b[3];
    struct remote r[3];
    cadft_loss *there = open_loss(""), *here = open_cpu();
    int64_t micro[3], other[3];
    CHECK_OK(cadft_loss_begin(there, SAMPLES, &err), err);
    CHECK_OK(cadft_loss_begin(here, SAMPLES, &err), err);
    for (int i = 0; i < 3; i++) {
        b[i] = support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
        r[i] = remote_new(b[i], CADFT_DTYPE_F32);
        micro[i] = observe_on(there, &r[i], device->stream(1 + i));
        CHECK_OK(cadft_loss_observe(here, &b[i]->batch, NULL, &other[i], &err),
                 err);
    }
    CHECK_OK(cadft_loss_weigh(there, &err), err);
    CHECK_OK(cadft_loss_weigh(here, &err), err);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(cadft_loss_grad(there, micro[i], &r[i].host->batch, &r[i].grad,
                                 &err),
                 err);
        CHECK_OK(
            cadft_loss_grad(here, other[i], &b[i]->batch, &b[i]->logits, &err),
            err);
    }
    cadft_loss_destroy(there);
    for (int i = 0; i < 3; i++)
        device->wait(device->stream(1 + i));
    for (int i = 0; i < 3; i++) {
        same_grad(&r[i], b[i]->z, 1e-6);
        remote_free(&r[i]);
        support_batch_free(b[i]);
    }
    cadft_loss_destroy(here);
}
END_TEST

/* Scratch grows while work that uses it waits on a stream. */
START_TEST(scratch_that_is_still_in_use)
{
    support_batch *small = support_batch_new(2, COLS, CADFT_DTYPE_F32, 2, 2),
                  *large = support_batch_new(90, COLS, CADFT_DTYPE_F32, 2, 2);
    struct remote a = remote_new(small, CADFT_DTYPE_F32),
                  c = remote_new(large, CADFT_DTYPE_F32);
    cadft_loss *there = open_loss(""), *here = open_cpu();
    CHECK_OK(
        cadft_loss_compute(there, &a.host->batch, 2, &a.grad, NULL, NULL, &err),
        err);
    CHECK_OK(
        cadft_loss_compute(there, &c.host->batch, 2, &c.grad, NULL, NULL, &err),
        err);
    device->wait(NULL);
    CHECK_OK(cadft_loss_compute(here, &small->batch, 2, &small->logits, NULL,
                                NULL, &err),
             err);
    same_grad(&a, small->z, 1e-6);
    cadft_loss_destroy(there);
    cadft_loss_destroy(here);
    remote_free(&a);
    remote_free(&c);
    support_batch_free(small);
    support_batch_free(large);
}
END_TEST

/* ------------------------------------------------------------ wrong memory */

START_TEST(memory_of_another_device)
{
    static const int32_t others[] = {CADFT_DEVICE_CPU, CADFT_DEVICE_CUDA, 7};
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    cadft_loss *loss = open_loss("");
    for (int i = 0; i < 3; i++) {
        r.host->logits.device_type = others[i];
        CHECK_STATUS(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &r.grad,
                                        NULL, NULL, &err),
                     CADFT_E_DEVICE, err);
        ck_assert_ptr_nonnull(strstr(err.message, "logits"));
        r.host->logits.device_type = DEVICE_TYPE;
        r.grad.device_type = others[i];
        CHECK_STATUS(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &r.grad,
                                        NULL, NULL, &err),
                     CADFT_E_DEVICE, err);
        ck_assert_ptr_nonnull(strstr(err.message, "grad"));
        r.grad.device_type = DEVICE_TYPE;
        if (others[i] == CADFT_DEVICE_CPU)
            continue; /* labels may lie on the host */
        r.host->labels.device_type = others[i];
        CHECK_STATUS(cadft_loss_compute(loss, &r.host->batch, SAMPLES, &r.grad,
                                        NULL, NULL, &err),
                     CADFT_E_DEVICE, err);
        ck_assert_ptr_nonnull(strstr(err.message, "labels"));
        r.host->labels.device_type = CADFT_DEVICE_CPU;
    }
    cadft_loss_destroy(loss);
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

/* --------------------------------------------- tables without an optimizer */

/* What each variant says of AdamW and of SGD; NULL: nothing is missing. */
START_TEST(optimizers_that_are_refused)
{
    static const int32_t ops[] = {CADFT_OP_ADAMW, CADFT_OP_SGD};
    static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
    static const struct {
        const char *name, *says[2];
    } tables[] = {{NULL, {NULL, NULL}},
                  {"newer", {NULL, NULL}},
                  {"contract-0.2", {"contract 0.2", "contract 0.2"}},
                  {"small", {"needs the slots of 0.3", "slots of 0.3"}},
                  {"no-zero", {"mem_zero", "mem_zero"}},
                  {"no-squares", {"sum_squares", "sum_squares"}},
                  {"no-adamw", {"no adamw for", NULL}},
                  {"no-sgd", {NULL, "no sgd for"}}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (int k = 0; k < 4; k++) {
            const char *says = tables[i].says[k / 2];
            cadft_context *context;
            int32_t status;
            device->variant(tables[i].name);
            CHECK_OK(open_context(DEVICE_BACKEND_PATH, NULL, &context), err);
            status = cadft__device_check_optimizer(context, ops[k / 2],
                                                   dtypes[k % 2], &err);
            ck_assert_int_eq(status, says ? CADFT_E_UNSUPPORTED : CADFT_OK);
            ck_assert_msg(!says || strstr(err.message, says), "\"%s\"",
                          err.message);
            cadft_context_destroy(context);
        }
}
END_TEST

/* A parameter's data type that no backend has to take. */
START_TEST(optimizers_of_float16)
{
    cadft_context *context;
    CHECK_OK(open_context(DEVICE_BACKEND_PATH, NULL, &context), err);
    CHECK_STATUS(cadft__device_check_optimizer(context, CADFT_OP_SGD,
                                               CADFT_DTYPE_F16, &err),
                 CADFT_E_UNSUPPORTED, err);
    ck_assert_ptr_nonnull(strstr(err.message, "no sgd for float16"));
    cadft_context_destroy(context);
}
END_TEST

/* A table that ends where contract 0.2 did serves a model. */
START_TEST(models_of_contract_0_2)
{
    cadft_context *context;
    device->variant("contract-0.2");
    CHECK_OK(open_context(DEVICE_BACKEND_PATH, NULL, &context), err);
    CHECK_OK(cadft__device_check_model(context, CADFT_DTYPE_BF16, &err), err);
    cadft_context_destroy(context);
}
END_TEST

/* --------------------------------------------------------------- failures */

/* A slot that fails says so through the call; the loss lives on. */
START_TEST(failing_slots)
{
    static const struct {
        const char *options, *says;
        int32_t status;
        int unit;
    } fails[] = {{"fail-alloc", "device: out of memory", CADFT_E_NOMEM, 0},
                 {"fail-copy-in", "device: copy in", CADFT_E_BACKEND, 0},
                 {"fail-copy-out", "device: copy out", CADFT_E_BACKEND, 0},
                 {"fail-stats", "device: statistics", CADFT_E_BACKEND, 0},
                 {"fail-grad", "device: gradient", CADFT_E_BACKEND, 0},
                 {"fail-unit", "device: unit", CADFT_E_BACKEND, 1},
                 {"fail-silent", "", CADFT_E_BACKEND, 0}};
    support_batch *b =
        support_batch_new(ROWS, COLS, CADFT_DTYPE_F32, SAMPLES, 2);
    struct remote r = remote_new(b, CADFT_DTYPE_F32);
    float scale[ROWS];
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        cadft_loss *loss = open_loss(fails[i].options);
        for (int again = 0; again < 2; again++) {
            int32_t status =
                cadft_loss_compute(loss, &r.host->batch, SAMPLES, &r.grad,
                                   fails[i].unit ? scale : NULL, NULL, &err);
            CHECK_STATUS(status, fails[i].status, err);
            ck_assert_msg(strstr(err.message, fails[i].says) && err.message[0],
                          "%s says \"%s\"", fails[i].options, err.message);
        }
        CHECK_OK(cadft_loss_begin(loss, SAMPLES, &err), err);
        device->wait(NULL);
        cadft_loss_destroy(loss);
    }
    remote_free(&r);
    support_batch_free(b);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("backend");
    TCase *t = tcase_create("device");
    tcase_add_checked_fixture(t, load_control, check_device);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, results_equal_the_cpu);
    tcase_add_test(t, unit_gradients_equal_the_cpu);
    tcase_add_test(t, unit_slot_without_these_types);
    tcase_add_test(t, coefficients_on_the_device);
    tcase_add_test(t, gradient_over_the_logits);
    tcase_add_test(t, overlap_within_one_allocation);
    tcase_add_test(t, no_rows_at_all);
    tcase_add_test(t, streams_that_run_late);
    tcase_add_test(t, scratch_that_is_still_in_use);
    tcase_add_test(t, memory_of_another_device);
    tcase_add_test(t, optimizers_that_are_refused);
    tcase_add_test(t, optimizers_of_float16);
    tcase_add_test(t, models_of_contract_0_2);
    tcase_add_test(t, failing_slots);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
