/* SPDX-License-Identifier: Apache-2.0 */
/* Random weights, and weights from folders: the same bits, every data type,
 * shards, and everything that a folder may have wrong. */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "common/random.h"
#include "model_files.h"

static cadft_context *context;

static void setup(void)
{
    err = support_error();
    context = support_context(NULL, 2);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static void teardown(void)
{
    cadft_context_destroy(context);
    files_teardown();
}

static const char *const families[] = {"Llama", "Qwen2", "Qwen3", "Mistral"};

#define DIGEST 0xa9ceaf55f47d0534u

/* -------------------------------------------------------------------- init */

/* FNV-1a over all weights. */
static uint64_t digest(const model_parts *parts)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (int64_t i = 0; i < parts->parameters.count; i++) {
        size_t bytes = (size_t)parts->parameters.list[i].count *
                       support_dtype_size(parts->parameters.dtype);
        unsigned char *values = (unsigned char *)read_parameter(parts, i);
        for (size_t b = 0; b < bytes; b++)
            hash = (hash ^ values[b]) * 0x100000001b3;
        free(values);
    }
    return hash;
}

/* On any machine and number of threads: the digest is a constant. */
START_TEST(init_is_reproducible)
{
    static const int32_t threads[] = {1, 2, 7};
    model_text text = text_of("Qwen2");
    uint64_t first = 0;
    for (int i = 0; i < 3; i++) {
        cadft_context *other = support_context(NULL, threads[i]);
        model_parts parts;
        CHECK_OK(init_parts(other, &text, 42, 0, &parts), err);
        ck_assert_int_eq(parts.parameters.dtype, CADFT_DTYPE_F32);
        first = digest(&parts);
        ck_assert_msg(first == DIGEST, "digest %llx",
                      (unsigned long long)first);
        free_parts(&parts);
        CHECK_OK(init_parts(other, &text, 43, 0, &parts), err);
        ck_assert_uint_ne(digest(&parts), first);
        free_parts(&parts);
        cadft_context_destroy(other);
    }
}
END_TEST

/* Number e of matrix i is half e % 2 of the normal pair of the block (seed; i,
 * e / 2), however a matrix is cut into pieces and among threads. */
START_TEST(init_is_by_counter)
{
    static const int32_t threads[] = {1, 2, 7};
    uint64_t seed = support_bits();
    model_text text = text_of("Qwen2");
    text_set(&text, "vocab_size", "40001"); /* more than a piece */
    for (int k = 0; k < 3; k++) {
        cadft_context *other = support_context(NULL, threads[k]);
        model_parts parts;
        CHECK_OK(init_parts(other, &text, seed, CADFT_DTYPE_F32, &parts), err);
        for (int64_t i = 0; i < parts.parameters.count; i++) {
            const cadft__parameter *p = &parts.parameters.list[i];
            float *values = (float *)read_parameter(&parts, i);
            for (int64_t e = 0; e < p->count && p->ndim > 1; e++) {
                uint32_t words[4];
                double pair[2];
                cadft__random_block(seed, (uint64_t)i, (uint64_t)e / 2, words);
                cadft__random_normal(words, pair);
                pair[0] = pair[e % 2] * parts.config.initializer_range;
                if (values[e] != (float)pair[0]) /* a check takes its time */
                    ck_abort_msg("%d threads: number %lld of %s is %.9g",
                                 threads[k], (long long)e, p->name,
                                 (double)values[e]);
            }
            free(values);
        }
        free_parts(&parts);
        cadft_context_destroy(other);
    }
}
END_TEST

START_TEST(init_of_each_kind)
{
    model_text text = text_of("Qwen2");
    model_parts parts, rounded;
    double sum = 0, squares = 0;
    int64_t n = 0;
    text_set(&text, "vocab_size", "40000"); /* more than a piece */
    text_set(&text, "initializer_range", "0.5");
    CHECK_OK(init_parts(context, &text, 1, CADFT_DTYPE_F32, &parts), err);
    CHECK_OK(init_parts(context, &text, 1, CADFT_DTYPE_BF16, &rounded), err);
    check_same(&parts, &rounded);
    for (int64_t i = 0; i < parts.parameters.count; i++) {
        const cadft__parameter *p = &parts.parameters.list[i];
        float *values = (float *)read_parameter(&parts, i);
        for (int64_t e = 0; e < p->count; e++) {
            if (p->ndim == 1) {
                ck_assert(values[e] == (strstr(p->name, "norm") ? 1 : 0));
                continue;
            }
            sum += values[e] / 0.5;
            squares += values[e] / 0.5 * (values[e] / 0.5);
            n++;
        }
        free(values);
    }
    /* six standard deviations of the mean, and of the variance */
    ck_assert_double_lt(fabs(sum / (double)n), 6 / sqrt((double)n));
    ck_assert_double_lt(fabs(squares / (double)n - 1), 6 * sqrt(2 / (double)n));
    free_parts(&parts);
    free_parts(&rounded);
}
END_TEST

START_TEST(init_obeys_the_config)
{
    model_text text = text_of("Llama");
    model_parts parts;
    text_set(&text, "torch_dtype", "\"bfloat16\"");
    CHECK_OK(init_parts(context, &text, 1, 0, &parts), err);
    ck_assert_int_eq(parts.parameters.dtype, CADFT_DTYPE_BF16);
    free_parts(&parts);
    text_set(&text, "torch_dtype", "\"float16\"");
    CHECK_OK(init_parts(context, &text, 1, 0, &parts), err);
    ck_assert_int_eq(parts.parameters.dtype, CADFT_DTYPE_F32);
    free_parts(&parts);
    text_set(&text, "hidden_act", "\"gelu\"");
    CHECK_STATUS(init_parts(context, &text, 1, 0, &parts), CADFT_E_UNSUPPORTED,
                 err);
    ck_assert_ptr_null(parts.parameters.list);
    ck_assert_ptr_null(parts.origin.text);
}
END_TEST

/* -------------------------------------------------------------------- load */

START_TEST(stored_types_and_shards)
{
    static const int32_t stored[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                     CADFT_DTYPE_F16};
    for (size_t i = 0; i < 3 * 4 * 2; i++) {
        model_text text = text_of(families[i / 6]);
        int32_t dtype = stored[i / 2 % 3];
        model_parts parts, loaded, wanted;
        tensor_list list;
        CHECK_OK(init_parts(context, &text, i,
                            dtype == CADFT_DTYPE_BF16 ? dtype : CADFT_DTYPE_F32,
                            &parts),
                 err);
        list_tensors(&parts, dtype, &list);
        write_folder("model", text_json(&text), &list, i % 2);
        CHECK_OK(load_parts(context, "model", 0, &loaded), err);
        ck_assert_int_eq(loaded.parameters.dtype, parts.parameters.dtype);
        if (dtype != CADFT_DTYPE_F16) {
            check_same(&parts, &loaded);
        } else {
            for (int64_t k = 0; k < loaded.parameters.count; k++) {
                float *values = (float *)read_parameter(&loaded, k);
                for (int64_t e = 0; e < loaded.parameters.list[k].count; e++)
                    ck_assert(values[e] == support_get(list.data[k], dtype, e));
                free(values);
            }
        }
        for (int k = 0; k < 2; k++) {
            int32_t want = k ? CADFT_DTYPE_BF16 : CADFT_DTYPE_F32;
            CHECK_OK(load_parts(context, "model", want, &wanted), err);
            ck_assert_int_eq(wanted.parameters.dtype, want);
            if (want == CADFT_DTYPE_BF16 || dtype != CADFT_DTYPE_F16)
                check_same(&loaded, &wanted);
            free_parts(&wanted);
        }
        free_list(&list);
        free_parts(&parts);
        free_parts(&loaded);
    }
}
END_TEST

/* Of mixed types, what more than half of the numbers are. */
START_TEST(mixed_types)
{
    model_text text = text_of("Llama");
    model_parts parts, loaded;
    tensor_list list;
    CHECK_OK(init_parts(context, &text, 5, CADFT_DTYPE_BF16, &parts), err);
    list_tensors(&parts, CADFT_DTYPE_BF16, &list);
    for (int round = 0; round < 2; round++) {
        /* the norms, then everything but the embedding */
        for (size_t i = 1; i < list.n; i++) {
            cadft__safetensors_item *item = &list.items[i];
            size_t n = (size_t)(item->shape[0] * item->shape[1]);
            float *wide = (float *)malloc(n * sizeof *wide);
            if (item->dtype != CADFT_DTYPE_F32 && (round || item->ndim == 1)) {
                cadft__elements_convert(item->dtype, item->data,
                                        CADFT_DTYPE_F32, wide, n);
                free(list.data[i]);
                item->data = list.data[i] = wide;
                item->dtype = CADFT_DTYPE_F32;
            } else {
                free(wide);
            }
        }
        write_folder("model", text_json(&text), &list, 0);
        CHECK_OK(load_parts(context, "model", 0, &loaded), err);
        ck_assert_int_eq(loaded.parameters.dtype,
                         round ? CADFT_DTYPE_F32 : CADFT_DTYPE_BF16);
        check_same(&parts, &loaded);
        free_parts(&loaded);
    }
    free_list(&list);
    free_parts(&parts);
}
END_TEST

/* ----------------------------------------------------------------- refused */

/* A good folder's tensors and config, to be spoilt. */
static model_text text;
static model_parts good;
static tensor_list tensors;

static void good_folder(const char *tied)
{
    text = text_of("Llama");
    text_set(&text, "tie_word_embeddings", tied);
    CHECK_OK(init_parts(context, &text, 9, 0, &good), err);
    list_tensors(&good, CADFT_DTYPE_F32, &tensors);
}

static void drop_good(void)
{
    free_list(&tensors);
    free_parts(&good);
}

static void check_load(int32_t status, const char *part)
{
    model_parts parts;
    int32_t got;
    write_folder("model", text_json(&text), &tensors, 0);
    got = load_parts(context, "model", 0, &parts);
    if (status == CADFT_OK) {
        CHECK_OK(got, err);
        check_same(&good, &parts);
        free_parts(&parts);
        return;
    }
    CHECK_SAYS(got, status, part, err);
    ck_assert_ptr_null(parts.parameters.list);
    ck_assert_ptr_null(parts.parameters.weights);
    ck_assert_ptr_null(parts.origin.text);
    ck_assert_ptr_null(parts.origin.folder);
}

START_TEST(tensors_that_do_not_fit)
{
    static const char name[] = "model.layers.1.mlp.up_proj.weight";
    size_t at;
    cadft__safetensors_item kept;
    good_folder("false");
    at = find_tensor(&tensors, name);
    kept = tensors.items[at];
    check_load(CADFT_OK, "");
    tensors.shapes[at][0] = 16;
    tensors.shapes[at][1] = 24;
    check_load(CADFT_E_FORMAT, name);
    tensors.shapes[at][0] = 24 * 16;
    tensors.items[at].ndim = 1;
    check_load(CADFT_E_FORMAT, name);
    tensors.shapes[at][0] = 24;
    tensors.shapes[at][1] = 16;
    tensors.items[at] = kept;
    tensors.items[at].dtype = CADFT_DTYPE_I32;
    check_load(CADFT_E_FORMAT, name);
    ck_assert_ptr_nonnull(strstr(err.message, "I32"));
    tensors.items[at] = kept;
    tensors.items[at].name = "model.layers.2.mlp.up_proj.weight";
    check_load(CADFT_E_FORMAT, name); /* missing */
    tensors.items[at] = kept;
    add_tensor(&tensors, "model.layers.2.norm", CADFT_DTYPE_F32, 1, 2, 1,
               kept.data);
    check_load(CADFT_E_FORMAT, "model.layers.2.norm");
    tensors.n--;
    free(tensors.data[tensors.n]);
    check_load(CADFT_OK, "");
    drop_good();
}
END_TEST

START_TEST(configs_that_do_not_fit)
{
    good_folder("false");
    text_set(&text, "num_hidden_layers", "3");
    check_load(CADFT_E_FORMAT, "model.layers.2.input_layernorm.weight");
    text_set(&text, "num_hidden_layers", "1");
    check_load(CADFT_E_FORMAT, "model.layers.1.");
    text_set(&text, "num_hidden_layers", "16384");
    check_load(CADFT_E_FORMAT, "is missing");
    text_set(&text, "num_hidden_layers", "2");
    text_set(&text, "vocab_size", "2000000000"); /* no memory is asked for */
    check_load(CADFT_E_FORMAT, "model.embed_tokens.weight");
    text_set(&text, "vocab_size", "40");
    text_set(&text, "tie_word_embeddings", "true");
    check_load(CADFT_E_FORMAT, "lm_head.weight is not the embedding");
    text_set(&text, "tie_word_embeddings", "false");
    text_set(&text, "quantization_config", "{\"bits\": 4}");
    check_load(CADFT_E_UNSUPPORTED, "config.json: quantization_config");
    drop_good();
}
END_TEST

START_TEST(tensors_that_need_not_be_there)
{
    float frequencies[2] = {1, 0.5f}, *last;
    size_t at;
    good_folder("true");
    at = find_tensor(&tensors, "model.embed_tokens.weight");
    add_tensor(&tensors, "model.layers.0.self_attn.rotary_emb.inv_freq",
               CADFT_DTYPE_F32, 1, 2, 1, frequencies);
    check_load(CADFT_OK, "");
    add_tensor(&tensors, "lm_head.weight", CADFT_DTYPE_F32, 2, 40, 16,
               tensors.data[at]);
    check_load(CADFT_OK, "");
    last = (float *)tensors.data[tensors.n - 1] + 639;
    *last = -*last;
    check_load(CADFT_E_FORMAT, "lm_head.weight is not the embedding");
    /* the head in the embedding's place */
    *last = -*last;
    tensors.items[at] = tensors.items[--tensors.n];
    free(tensors.data[at]);
    tensors.data[at] = tensors.data[tensors.n];
    check_load(CADFT_OK, "");
    tensors.shapes[tensors.n][0] = 20;
    tensors.shapes[tensors.n][1] = 32;
    check_load(CADFT_E_FORMAT, "model.embed_tokens.weight");
    drop_good();
}
END_TEST

START_TEST(folders_that_are_none)
{
    model_parts parts;
    good_folder("false");
    CHECK_SAYS(load_parts(context, "nothing", 0, &parts), CADFT_E_IO, "nothing",
               err);
    put_text("file", "x");
    CHECK_STATUS(load_parts(context, "file", 0, &parts), CADFT_E_IO, err);
    ck_assert_int_eq(mkdir(in_scratch("empty"), 0700), 0);
    CHECK_SAYS(load_parts(context, "empty", 0, &parts), CADFT_E_IO,
               "config.json", err);
    put_text("empty/config.json", text_json(&text));
    CHECK_SAYS(load_parts(context, "empty", 0, &parts), CADFT_E_IO,
               "model.safetensors", err);
    put_text("empty/model.safetensors", "short");
    CHECK_SAYS(load_parts(context, "empty", 0, &parts), CADFT_E_FORMAT,
               "model.safetensors", err);
    put_text("empty/config.json", "{");
    CHECK_SAYS(load_parts(context, "empty", 0, &parts), CADFT_E_FORMAT,
               "config.json, line 1", err);
    drop_good();
}
END_TEST

/* ------------------------------------------------------------------ memory */

/* Every allocation of a load and of a random start may fail. */
START_TEST(nth_allocation_fails)
{
    support_heap heap = {0};
    cadft_allocator allocator = support_allocator(&heap);
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .allocator = &allocator};
    cadft_context *counted = NULL;
    int64_t live, failures = 0;
    good_folder("true");
    add_tensor(&tensors, "lm_head.weight", CADFT_DTYPE_F32, 2, 40, 16,
               tensors.data[0]);
    write_folder("model", text_json(&text), &tensors, 1);
    CHECK_OK(cadft_context_create(&desc, &counted, &err), err);
    live = heap.live_blocks;
    for (int load = 0; load < 2; load++)
        for (int64_t n = 1;; n++) {
            model_parts parts;
            int32_t status;
            heap.fail_at = n;
            status = load ? load_parts(counted, "model", 0, &parts)
                          : init_parts(counted, &text, 9, 0, &parts);
            if (status == CADFT_OK) {
                heap.fail_at = 0;
                check_same(&good, &parts);
                free_parts(&parts);
                ck_assert_int_eq(heap.live_blocks, live);
                break;
            }
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
            ck_assert_int_eq(heap.live_blocks, live);
            failures++;
        }
    ck_assert_int_gt(failures, 10);
    cadft_context_destroy(counted);
    ck_assert_int_eq(heap.live_blocks, 0);
    drop_good();
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("model_weights");
    TCase *tcase = tcase_create("weights");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, init_is_reproducible);
    tcase_add_test(tcase, init_is_by_counter);
    tcase_add_test(tcase, init_of_each_kind);
    tcase_add_test(tcase, init_obeys_the_config);
    tcase_add_test(tcase, stored_types_and_shards);
    tcase_add_test(tcase, mixed_types);
    tcase_add_test(tcase, tensors_that_do_not_fit);
    tcase_add_test(tcase, configs_that_do_not_fit);
    tcase_add_test(tcase, tensors_that_need_not_be_there);
    tcase_add_test(tcase, folders_that_are_none);
    tcase_add_test(tcase, nth_allocation_fails);
    suite_add_tcase(suite, tcase);
    return support_main(argc, argv, suite);
}
