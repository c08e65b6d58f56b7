/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a model: what is in the folder then, what of the one before stays,
 * and a device whose memory the host cannot reach. */
#define _GNU_SOURCE /* mkdtemp */
#include <jansson.h>

#include "model_files.h"
/* after it: both call their error err */
#define err device_err
#include "device_host.h"
#undef err

static cadft_context *context;

static void setup(void)
{
    err = support_error();
    context = support_context(NULL, 1);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static void teardown(void)
{
    cadft_context_destroy(context);
    files_teardown();
}

static void init(uint64_t seed, int32_t dtype, model_parts *out)
{
    model_text text = text_of("Qwen3");
    CHECK_OK(init_parts(context, &text, seed, dtype, out), err);
}

static void check_saved(const char *folder, const model_parts *parts)
{
    model_parts loaded;
    CHECK_OK(load_parts(parts->context, folder, 0, &loaded), err);
    ck_assert_int_eq(loaded.parameters.dtype, parts->parameters.dtype);
    check_same(parts, &loaded);
    free_parts(&loaded);
}

static void check_file(const char *name, const char *content)
{
    size_t bytes;
    char *text = get_file(name, &bytes);
    if (!content) {
        ck_assert_msg(!text, "%s is there", name);
        return;
    }
    ck_assert_msg(text && strcmp(text, content) == 0, "%s is \"%.40s\"", name,
                  text ? text : "not there");
    free(text);
}

START_TEST(a_save_is_loaded_again)
{
    static const int32_t types[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16};
    for (uint64_t i = 0; i < 2; i++) {
        model_parts parts;
        init(i, types[i], &parts);
        CHECK_OK(save_parts(&parts, "saved"), err);
        check_saved("saved", &parts);
        CHECK_OK(save_parts(&parts, "saved/"), err); /* once more, over it */
        check_saved("saved", &parts);
        ck_assert_int_eq(count_entries(in_scratch("saved")), 2);
        ck_assert_int_eq(count_entries(scratch), 1);
        free_parts(&parts);
    }
}
END_TEST

/* All keys and values of the original, in their order, but the type's. */
START_TEST(the_config_stays)
{
    static const char config[] =
        "{\"zebra\": [1, 2.5, null], \"architectures\": [\"LlamaForCausalLM\"],"
        "\"model_type\": \"llama\", \"vocab_size\": 8, \"hidden_size\": 4,"
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
        "\"intermediate_size\": 6, \"max_position_embeddings\": 8,"
        "\"torch_dtype\": \"float16\", \"rms_norm_eps\": 1e-05,"
        "\"initializer_range\": 0.041666666666666664,"
        "\"na\\u00efve\": \"\\u00e4\"}";
    json_t *before, *after;
    const char *key;
    json_t *value;
    size_t bytes;
    char *text;
    model_parts parts = {.context = context};
    void *i, *k;
    CHECK_OK(cadft__weights_init(context, config, strlen(config), 0,
                                 CADFT_DTYPE_BF16, &parts.config,
                                 &parts.parameters, &parts.origin, &err),
             err);
    CHECK_OK(save_parts(&parts, "saved"), err);
    text = get_file("saved/config.json", &bytes);
    before = json_loads(config, 0, NULL);
    after = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(after);
    ck_assert_str_eq(json_string_value(json_object_get(after, "dtype")),
                     "bfloat16");
    ck_assert_str_eq(json_string_value(json_object_get(after, "torch_dtype")),
                     "bfloat16");
    ck_assert_uint_eq(json_object_size(after), json_object_size(before) + 1);
    i = json_object_iter(before);
    k = json_object_iter(after);
    for (; i; i = json_object_iter_next(before, i),
              k = json_object_iter_next(after, k)) {
        key = json_object_iter_key(i);
        value = json_object_iter_value(i);
        ck_assert_str_eq(json_object_iter_key(k), key);
        ck_assert_msg(strcmp(key, "torch_dtype") == 0 ||
                          json_equal(json_object_iter_value(k), value),
                      "%s", key);
    }
    ck_assert_ptr_eq(strstr(text, "{\n  \"zebra\""), text);
    json_decref(before);
    json_decref(after);
    free(text);
    free_parts(&parts);
}
END_TEST

/* What transformers wrote. */
START_TEST(golden_models)
{
    static const char *const names[] = {
        "llama_bias", "llama_long",   "llama_rope", "llama_tied",
        "mistral",    "mistral_long", "qwen2",      "qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        model_parts parts = {.context = context};
        snprintf(path, sizeof path, "%s/models/%s", GOLDEN_DIR, names[i]);
        CHECK_OK(cadft__weights_load(context, path, 0, &parts.config,
                                     &parts.parameters, &parts.origin, &err),
                 err);
        CHECK_OK(save_parts(&parts, names[i]), err);
        check_saved(names[i], &parts);
        /* config, generation_config, weights */
        ck_assert_int_eq(count_entries(in_scratch(names[i])), 3);
        free_parts(&parts);
    }
}
END_TEST

/* ------------------------------------------------------------- other files */

START_TEST(files_of_the_folder_that_was_there)
{
    model_parts parts;
    init(1, 0, &parts);
    CHECK_OK(save_parts(&parts, "saved"), err);
    put_text("saved/tokenizer.json", "tokens");
    put_text("saved/empty", "");
    put_text("saved/optimizer.pt", "state");
    put_text("saved/model.safetensors.index.json", "{}");
    put_text("saved/model-00001-of-00002.safetensors", "x");
    put_text("saved/pytorch_model.bin", "x");
    put_text("elsewhere", "linked");
    ck_assert_int_eq(symlink("../elsewhere", in_scratch("saved/link")), 0);
    free_parts(&parts);
    init(2, 0, &parts);
    CHECK_OK(save_parts(&parts, "saved"), err);
    check_saved("saved", &parts);
    check_file("saved/tokenizer.json", "tokens");
    check_file("saved/empty", "");
    check_file("saved/optimizer.pt", "state");
    check_file("saved/link", "linked");
    check_file("elsewhere", "linked");
    check_file("saved/model.safetensors.index.json", NULL);
    check_file("saved/model-00001-of-00002.safetensors", NULL);
    check_file("saved/pytorch_model.bin", NULL);
    ck_assert_int_eq(count_entries(in_scratch("saved")), 6);
    free_parts(&parts);
}
END_TEST

START_TEST(files_of_the_folder_it_came_from)
{
    model_parts parts, loaded;
    init(1, 0, &parts);
    CHECK_OK(save_parts(&parts, "first"), err);
    put_text("first/tokenizer.json", "first");
    put_text("first/training_args.bin", "x");
    put_text("first/model.gguf", "x");
    ck_assert_int_eq(mkdir(in_scratch("first/onnx"), 0700), 0);
    CHECK_OK(load_parts(context, "first", 0, &loaded), err);
    /* a new folder, an empty one, one with files of its own */
    CHECK_OK(save_parts(&loaded, "new"), err);
    check_saved("new", &parts);
    check_file("new/tokenizer.json", "first");
    ck_assert_int_eq(count_entries(in_scratch("new")), 3);
    ck_assert_int_eq(mkdir(in_scratch("empty"), 0700), 0);
    CHECK_OK(save_parts(&loaded, "empty"), err);
    check_file("empty/tokenizer.json", "first");
    ck_assert_int_eq(mkdir(in_scratch("own"), 0700), 0);
    put_text("own/vocab.txt", "own");
    CHECK_OK(save_parts(&loaded, "own"), err);
    check_file("own/vocab.txt", "own");
    check_file("own/tokenizer.json", NULL);
    /* a folder inside is not lost */
    CHECK_SAYS(save_parts(&loaded, "first"), CADFT_E_IO, "onnx", err);
    check_file("first/tokenizer.json", "first");
    check_saved("first", &parts);
    /* gone: the model is saved all the same */
    remove_tree(in_scratch("first"));
    CHECK_OK(save_parts(&loaded, "late"), err);
    check_saved("late", &parts);
    ck_assert_int_eq(count_entries(in_scratch("late")), 2);
    free_parts(&parts);
    free_parts(&loaded);
}
END_TEST

/* ---------------------------------------------------------------- failures */

START_TEST(what_fails_leaves_the_folder)
{
    model_parts first, second;
    init(1, 0, &first);
    init(2, 0, &second);
    CHECK_OK(save_parts(&first, "saved"), err);
    put_text("saved/secret", "x");
    if (geteuid() != 0) { /* root reads everything */
        ck_assert_int_eq(chmod(in_scratch("saved/secret"), 0), 0);
        CHECK_SAYS(save_parts(&second, "saved"), CADFT_E_IO, "secret", err);
        ck_assert_int_eq(chmod(in_scratch("saved/secret"), 0600), 0);
    }
    ck_assert_int_eq(symlink("nowhere", in_scratch("saved/dangling")), 0);
    CHECK_SAYS(save_parts(&second, "saved"), CADFT_E_IO, "dangling", err);
    ck_assert_int_eq(unlink(in_scratch("saved/dangling")), 0);
    CHECK_STATUS(save_parts(&second, "nowhere/saved"), CADFT_E_IO, err);
    CHECK_STATUS(save_parts(&second, "saved/secret"), CADFT_E_IO, err);
    check_saved("saved", &first);
    ck_assert_int_eq(count_entries(scratch), 1);
    free_parts(&first);
    free_parts(&second);
}
END_TEST

START_TEST(nth_allocation_fails)
{
    support_heap heap = {0};
    cadft_allocator allocator = support_allocator(&heap);
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .allocator = &allocator};
    cadft_context *counted = NULL;
    model_text text = text_of("Qwen3");
    model_parts first, second;
    int64_t live, n;
    init(1, 0, &first);
    CHECK_OK(save_parts(&first, "saved"), err);
    put_text("saved/tokenizer.json", "x");
    CHECK_OK(cadft_context_create(&desc, &counted, &err), err);
    CHECK_OK(init_parts(counted, &text, 2, 0, &second), err);
    live = heap.live_blocks;
    for (n = 1;; n++) {
        int32_t status;
        heap.fail_at = n;
        status = save_parts(&second, "saved");
        heap.fail_at = 0;
        ck_assert_int_eq(heap.live_blocks, live);
        ck_assert_int_eq(count_entries(scratch), 1);
        if (status == CADFT_OK)
            break;
        CHECK_STATUS(status, CADFT_E_NOMEM, err);
        check_saved("saved", &first);
    }
    ck_assert_int_gt(n, 5);
    check_saved("saved", &second);
    check_file("saved/tokenizer.json", "x");
    free_parts(&first);
    free_parts(&second);
    cadft_context_destroy(counted);
}
END_TEST

/* ------------------------------------------------------------------ device */

START_TEST(memory_that_the_host_cannot_reach)
{
    cadft_context *far;
    model_text text = text_of("Qwen2");
    model_parts near_parts, far_parts, loaded;
    load_control();
    CHECK_OK(open_context(DEVICE_BACKEND_PATH, NULL, &far), device_err);
    CHECK_OK(init_parts(context, &text, 3, 0, &near_parts), err);
    CHECK_OK(init_parts(far, &text, 3, 0, &far_parts), err);
    check_same(&near_parts, &far_parts);
    CHECK_OK(save_parts(&far_parts, "saved"), err);
    check_saved("saved", &near_parts);
    CHECK_OK(load_parts(far, "saved", CADFT_DTYPE_BF16, &loaded), err);
    check_same(&near_parts, &loaded);
    free_parts(&near_parts);
    free_parts(&far_parts);
    free_parts(&loaded);
    cadft_context_destroy(far);
    check_device();
}
END_TEST

/* A device that fails: nothing is left. */
START_TEST(devices_that_fail)
{
    static const char *const options[] = {"fail-alloc", "fail-copy-in",
                                          "fail-copy-out"};
    model_text text = text_of("Qwen2");
    load_control();
    for (int i = 0; i < 3; i++) {
        cadft_context *far;
        model_parts parts;
        int32_t status;
        CHECK_OK(open_context(DEVICE_BACKEND_PATH, options[i], &far),
                 device_err);
        status = init_parts(far, &text, 3, 0, &parts);
        if (i < 2) {
            ck_assert_int_ne(status, CADFT_OK);
        } else {
            CHECK_OK(status, err);
            ck_assert_int_ne(save_parts(&parts, "saved"), CADFT_OK);
            ck_assert_int_eq(count_entries(scratch), 0);
            free_parts(&parts);
        }
        ck_assert_ptr_nonnull(strstr(err.message, "device: "));
        cadft_context_destroy(far);
    }
    check_device();
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("model_save");
    TCase *tcase = tcase_create("save");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_save_is_loaded_again);
    tcase_add_test(tcase, the_config_stays);
    tcase_add_test(tcase, golden_models);
    tcase_add_test(tcase, files_of_the_folder_that_was_there);
    tcase_add_test(tcase, files_of_the_folder_it_came_from);
    tcase_add_test(tcase, what_fails_leaves_the_folder);
    tcase_add_test(tcase, nth_allocation_fails);
    tcase_add_test(tcase, memory_that_the_host_cannot_reach);
    tcase_add_test(tcase, devices_that_fail);
    suite_add_tcase(suite, tcase);
    return support_main(argc, argv, suite);
}
