/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of every call on an optimizer may fail: the call says so,
 * and made again it does the same as undisturbed; nothing leaks.
 *
 *   test_optimizer_alloc */
#define _GNU_SOURCE /* mkdtemp */
#include "failing.h"
#include "files.h"
#include "model_text.h"
#include "optimizer_support.h"

enum { VALUES = 40 };

static char *saved; /* the state's file of the last run */
static size_t saved_bytes;

/* Gradients for the parameters of a model, without a pass. */
static cadft_model *model_new(cadft_context *context)
{
    model_text text = text_of("Llama");
    const char *config = text_json(&text);
    cadft_error err = support_error();
    cadft_model *model;
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_set_i64(model, CADFT_MODEL_WEIGHT_DTYPE,
                                 CADFT_DTYPE_BF16, &err),
             err);
    CHECK_OK(cadft_model_init(model, config, strlen(config), 3, &err), err);
    CHECK_OK(cadft_model_zero_grad(model, &err), err);
    return model;
}

static cadft_optimizer *made(cadft_context *context)
{
    cadft_optimizer *optimizer = (cadft_optimizer *)saved;
    if (failed(cadft_optimizer_create(context, &optimizer, &failing.err),
               "create")) {
        ck_assert_ptr_null(optimizer);
        TRY(cadft_optimizer_create(context, &optimizer, &failing.err));
    }
    return optimizer;
}

static void add(cadft_optimizer *optimizer, cadft_model *model, float *values)
{
    int64_t shape[] = {VALUES}, before, after;
    cadft_tensor value, grad;
    cadft_tensor_init(&value, sizeof value, values, CADFT_DTYPE_F32, 1, shape,
                      NULL, NULL);
    cadft_tensor_init(&grad, sizeof grad, values + VALUES, CADFT_DTYPE_F32, 1,
                      shape, NULL, NULL);
    TRY(cadft_optimizer_add(optimizer, "mine", &value, &grad, &failing.err));
    before = optimizer_fact(optimizer, CADFT_OPTIMIZER_PARAMETERS);
    if (failed(
            cadft_optimizer_add_model(optimizer, model, &after, &failing.err),
            "add_model")) {
        after = optimizer_fact(optimizer, CADFT_OPTIMIZER_PARAMETERS);
        ck_assert_int_eq(after, before); /* all or none */
        TRY(cadft_optimizer_add_model(optimizer, model, NULL, &failing.err));
    }
}

/* The folder holds the save, and nothing lies beside it. */
static void save(cadft_optimizer *optimizer)
{
    const char *folder = in_scratch("saved");
    if (failed(cadft_optimizer_save(optimizer, folder, &failing.err), "save")) {
        ck_assert_int_eq(count_entries(scratch), 0);
        TRY(cadft_optimizer_save(optimizer, folder, &failing.err));
    }
    ck_assert_int_eq(count_entries(scratch), 1);
}

/* Every call, with the nth allocation failing; 0: none. */
static void run(int64_t n)
{
    cadft_allocator allocator;
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 2, .allocator = &allocator};
    float values[2 * VALUES];
    cadft_context *context;
    cadft_model *model;
    cadft_optimizer *first, *second;
    double sum;
    for (int i = 0; i < 2 * VALUES; i++)
        values[i] = (float)(i % 7 - 3);
    failing_start(0);
    allocator = support_allocator(&failing.heap);
    CHECK_OK(cadft_context_create(&desc, &context, &failing.err), failing.err);
    model = model_new(context);
    failing.heap.fail_at = n;
    first = made(context);
    add(first, model, values);
    TRY(cadft_optimizer_set_str(first, CADFT_OPTIMIZER_LR, "0.01",
                                &failing.err));
    TRY(cadft_optimizer_norm(first, &sum, &failing.err));
    TRY(cadft_optimizer_step(first, NULL, NULL, &failing.err));
    save(first);
    second = made(context);
    add(second, model, values);
    TRY(cadft_optimizer_load(second, in_scratch("saved"), &failing.err));
    TRY(cadft_optimizer_step(second, NULL, NULL, &failing.err));
    remove_tree(in_scratch("saved"));
    save(second);
    saved = get_file("saved/optimizer.safetensors", &saved_bytes);
    remove_tree(in_scratch("saved"));
    cadft_context_destroy(context);
    cadft_model_destroy(model);
    cadft_optimizer_destroy(first);
    cadft_optimizer_destroy(second);
    failing_end(1);
}

START_TEST(any_allocation_may_fail)
{
    char *undisturbed;
    size_t bytes;
    int64_t n = 0;
    run(0);
    ck_assert_int_eq(failing.failures, 0);
    undisturbed = saved;
    bytes = saved_bytes;
    do {
        run(++n);
        ck_assert_uint_eq(saved_bytes, bytes);
        ck_assert_msg(memcmp(saved, undisturbed, bytes) == 0,
                      "another state after allocation %lld failed",
                      (long long)n);
        free(saved);
    } while (failing.failures);
    ck_assert_int_gt(n, 40);
    free(undisturbed);
}
END_TEST

static void setup(void)
{
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static Suite *suite(void)
{
    Suite *all = suite_create("optimizer alloc");
    TCase *t = tcase_create("memory");
    tcase_add_checked_fixture(t, setup, files_teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, any_allocation_may_fail);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
