/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of every call on a model may fail: the call says so, and
 * made again it does the same as undisturbed; nothing leaks, and no save
 * leaves anything behind. (jansson has an allocator of its own, which is not
 * the library's to fail.)
 *
 *   test_model_alloc */
#define _GNU_SOURCE
#include "failing.h"
#include "files.h"
#include "model_support.h"

enum { PROMPTS = 3, NEW = 5, SHORT = 8 };

struct results {
    float *numbers; /* logits and gradients */
    int64_t count;
    int32_t tokens[PROMPTS * NEW];
    int64_t lengths[PROMPTS], plan;
    char *saved;
    size_t saved_bytes;
};

struct scenario {
    golden g;
    struct results out;
};

static struct scenario *s;

static void keep(cadft_context *context, const cadft_tensor *tensor)
{
    struct results *r = &s->out;
    int64_t n;
    float *numbers = read_tensor(context, tensor, &n);
    r->numbers = (float *)realloc(r->numbers,
                                  (size_t)(r->count + n) * sizeof *r->numbers);
    memcpy(r->numbers + r->count, numbers, (size_t)n * sizeof *numbers);
    r->count += n;
    free(numbers);
}

/* A pass over a part of the golden batch, in two sizes: the arena grows. */
static void train(cadft_context *context, cadft_model *model)
{
    int32_t ends[] = {0, 3, SHORT};
    int64_t parameters, shape[1] = {2};
    int32_t picked[] = {1, 6};
    cadft_tensor logits = {.struct_size = sizeof logits}, rows;
    packed p;
    packed_init(&p, s->g.tokens, SHORT, ends, 2);
    cadft_tensor_init(&rows, sizeof rows, picked, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    p.batch.logit_rows = &rows;
    TRY(cadft_model_forward(model, &p.batch, &logits, &failing.err));
    TRY(cadft_model_zero_grad(model, &failing.err));
    TRY(cadft_model_backward(model, &logits, &failing.err));
    packed_init(&p, s->g.tokens, s->g.rows, s->g.cu_seqlens, s->g.sequences);
    TRY(cadft_model_forward(model, &p.batch, &logits, &failing.err));
    keep(context, &logits);
    TRY(cadft_model_backward(model, &logits, &failing.err));
    TRY(cadft_model_get_i64(model, CADFT_MODEL_PARAMETERS, &parameters,
                            &failing.err));
    for (int64_t i = 0; i < parameters; i++) {
        cadft_tensor grad = {.struct_size = sizeof grad};
        TRY(cadft_model_parameter(model, i, NULL, NULL, &grad, NULL,
                                  &failing.err));
        keep(context, &grad);
    }
}

static void generate(cadft_model *model)
{
    int32_t ends[] = {0, 2, 3, SHORT};
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .max_new_tokens = NEW,
                                .temperature = 1,
                                .top_p = 0.9};
    packed p;
    packed_init(&p, s->g.tokens, SHORT, ends, PROMPTS);
    desc.tokens = &p.tokens;
    desc.cu_seqlens = &p.cu_seqlens;
    TRY(cadft_model_generate(model, &desc, s->out.tokens, s->out.lengths,
                             &failing.err));
}

/* The folder holds the save, and nothing lies beside it. */
static void save(cadft_model *model)
{
    const char *folder = in_scratch("saved");
    int before = failing.failures;
    if (failed(cadft_model_save(model, folder, &failing.err), "save")) {
        ck_assert_int_eq(count_entries(scratch), 0);
        TRY(cadft_model_save(model, folder, &failing.err));
    }
    TRY(cadft_model_save(model, folder, &failing.err)); /* over the first */
    ck_assert_int_eq(count_entries(scratch), 1);
    ck_assert_int_le(failing.failures, before + 1);
    s->out.saved = get_file("saved/model.safetensors", &s->out.saved_bytes);
    ck_assert_ptr_nonnull(s->out.saved);
    remove_tree(folder);
}

static cadft_model *made(cadft_context *context)
{
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
        " \"vocab_size\": 300, \"hidden_size\": 32, \"intermediate_size\": 64,"
        " \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
        " \"max_position_embeddings\": 64}";
    cadft_model *model = (cadft_model *)s;
    if (failed(cadft_model_create(context, &model, &failing.err), "create")) {
        ck_assert_ptr_null(model);
        TRY(cadft_model_create(context, &model, &failing.err));
    }
    TRY(cadft_model_init(model, config, sizeof config - 1, 5, &failing.err));
    return model;
}

static void reserve(cadft_model *model)
{
    cadft_model_limits limits = {.struct_size = sizeof limits,
                                 .rows = SHORT + 1,
                                 .logit_rows = 1,
                                 .sequences = 2};
    TRY(cadft_model_plan(model, &limits, &s->out.plan, &failing.err));
    TRY(cadft_model_reserve(model, &limits, &failing.err));
}

/* Every call, with the nth allocation failing; 0: none. */
static void run(int64_t n)
{
    cadft_allocator allocator = support_allocator(&failing.heap);
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 2, .allocator = &allocator};
    cadft_context *context;
    cadft_model *model, *other;
    memset(&s->out, 0, sizeof s->out);
    failing_start(0);
    CHECK_OK(cadft_context_create(&desc, &context, &failing.err), failing.err);
    failing.heap.fail_at = n;
    TRY(cadft_model_create(context, &model, &failing.err));
    TRY(cadft_model_load(model, s->g.path, &failing.err));
    other = made(context);
    reserve(model);
    train(context, model);
    TRY(cadft_model_freeze(model, "*mlp*", 0, NULL, &failing.err));
    TRY(cadft_model_zero_grad(model, &failing.err));
    generate(model);
    generate(other);
    save(model);
    cadft_context_destroy(context); /* the models still hold it */
    cadft_model_destroy(model);
    cadft_model_destroy(other);
    failing_end(1);
}

static void same(const struct results *a, const struct results *b, int64_t n)
{
    ck_assert_int_eq(a->count, b->count);
    ck_assert_uint_eq(a->saved_bytes, b->saved_bytes);
    ck_assert_msg(
        memcmp(a->numbers, b->numbers, (size_t)a->count * sizeof(float)) == 0 &&
            memcmp(a->tokens, b->tokens, sizeof a->tokens) == 0 &&
            memcmp(a->lengths, b->lengths, sizeof a->lengths) == 0 &&
            a->plan == b->plan &&
            memcmp(a->saved, b->saved, a->saved_bytes) == 0,
        "other results after allocation %lld failed", (long long)n);
}

static void free_results(struct results *r)
{
    free(r->numbers);
    free(r->saved);
}

START_TEST(any_allocation_may_fail)
{
    struct results undisturbed;
    int64_t n = 0;
    s = (struct scenario *)calloc(1, sizeof *s);
    golden_open_case(&s->g, 7); /* qwen3, which has most arrays */
    run(0);
    ck_assert_int_eq(failing.failures, 0);
    undisturbed = s->out;
    do {
        run(++n);
        same(&undisturbed, &s->out, n);
        free_results(&s->out);
    } while (failing.failures);
    ck_assert_int_gt(n, 60);
    free_results(&undisturbed);
    golden_close(&s->g);
    free(s);
}
END_TEST

/* Destroyed right after any failure, instead of used again. */
START_TEST(destroyed_after_a_failure)
{
    int32_t status = CADFT_E_NOMEM;
    s = (struct scenario *)calloc(1, sizeof *s);
    golden_open_case(&s->g, 0);
    for (int64_t n = 1; status; n++) {
        cadft_allocator allocator = support_allocator(&failing.heap);
        cadft_context_desc desc = {.struct_size = sizeof desc,
                                   .n_threads = 1,
                                   .allocator = &allocator};
        cadft_context *context;
        cadft_model *model;
        cadft_tensor logits = {.struct_size = sizeof logits};
        packed p;
        failing_start(0);
        CHECK_OK(cadft_context_create(&desc, &context, &failing.err),
                 failing.err);
        packed_init(&p, s->g.tokens, s->g.rows, s->g.cu_seqlens,
                    s->g.sequences);
        failing.heap.fail_at = n;
        status = cadft_model_create(context, &model, &failing.err);
        if (!status)
            status = cadft_model_load(model, s->g.path, &failing.err);
        if (!status)
            status =
                cadft_model_forward(model, &p.batch, &logits, &failing.err);
        if (!status)
            status = cadft_model_zero_grad(model, &failing.err);
        if (!status)
            status = cadft_model_backward(model, &logits, &failing.err);
        ck_assert_msg(!status || status == CADFT_E_NOMEM, "%s",
                      failing.err.message);
        cadft_model_destroy(model);
        cadft_context_destroy(context);
        failing_end(1);
    }
    golden_close(&s->g);
    free(s);
}
END_TEST

static void setup(void)
{
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static Suite *suite(void)
{
    Suite *all = suite_create("model alloc");
    TCase *t = tcase_create("memory");
    tcase_add_checked_fixture(t, setup, files_teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, any_allocation_may_fail);
    tcase_add_test(t, destroyed_after_a_failure);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
