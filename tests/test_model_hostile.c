/* SPDX-License-Identifier: Apache-2.0 */
/* Bad arguments to every call on a model that takes no batch, calls out of
 * phase, and copies of tensors.
 *
 *   test_model_hostile [--backend PLUGIN.so] */
#include <stdio.h>

#include "model_hostile.h"

static subject *s;

static void setup(void)
{
    s = subject_new();
    pass_begin(s);
}

static void teardown(void)
{
    subject_free(s);
}

/* Nothing of the working copy is spoilt. */
#define REFUSED(want, word, call) REFUSE(s, want, word, , call)

/* ------------------------------------------------------------------- NULL */

START_TEST(null_handles)
{
    outputs *o = &s->out;
    cadft_model *made = s->model;
    REFUSED(CADFT_E_NULL, "model", cadft_model_set_i64(NULL, 2, 0, e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_set_str(NULL, 2, "0", e));
    REFUSED(CADFT_E_NULL, "model",
            cadft_model_get_i64(NULL, 102, &o->number, e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_load(NULL, "folder", e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_init(NULL, "{}", 2, 0, e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_save(NULL, "folder", e));
    REFUSED(CADFT_E_NULL, "model",
            cadft_model_parameter(NULL, 0, &o->name, &o->view, &o->view,
                                  &o->small, e));
    REFUSED(CADFT_E_NULL, "model",
            cadft_model_find(NULL, "lm_head.weight", &o->number, e));
    REFUSED(CADFT_E_NULL, "model",
            cadft_model_freeze(NULL, "*", 0, &o->number, e));
    REFUSED(CADFT_E_NULL, "model",
            cadft_model_plan(NULL, &s->limits, &o->number, e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_reserve(NULL, &s->limits, e));
    REFUSED(CADFT_E_NULL, "model", cadft_model_zero_grad(NULL, e));
    REFUSED(CADFT_E_NULL, "context", cadft_model_create(NULL, &made, e));
    ck_assert_ptr_null(made);
    cadft_model_destroy(NULL);
}
END_TEST

START_TEST(null_arguments)
{
    outputs *o = &s->out;
    REFUSED(CADFT_E_NULL, "out", cadft_model_create(s->context, NULL, e));
    REFUSED(CADFT_E_NULL, "value", cadft_model_set_str(s->model, 2, NULL, e));
    REFUSED(CADFT_E_NULL, "out", cadft_model_get_i64(s->model, 102, NULL, e));
    REFUSED(CADFT_E_NULL, "key", cadft_model_key("checkpointing", NULL, e));
    REFUSED(CADFT_E_NULL, "name", cadft_model_key(NULL, &o->small, e));
    REFUSED(CADFT_E_NULL, "folder", cadft_model_load(s->empty, NULL, e));
    REFUSED(CADFT_E_NULL, "config", cadft_model_init(s->empty, NULL, 0, 0, e));
    REFUSED(CADFT_E_NULL, "config", cadft_model_init(s->empty, NULL, 9, 0, e));
    REFUSED(CADFT_E_NULL, "folder", cadft_model_save(s->model, NULL, e));
    REFUSED(CADFT_E_NULL, "name",
            cadft_model_find(s->model, NULL, &o->number, e));
    REFUSED(CADFT_E_NULL, "out",
            cadft_model_find(s->model, "model.norm.weight", NULL, e));
    REFUSED(CADFT_E_NULL, "pattern",
            cadft_model_freeze(s->model, NULL, 0, &o->number, e));
    REFUSED(CADFT_E_NULL, "limits",
            cadft_model_plan(s->model, NULL, &o->number, e));
    REFUSED(CADFT_E_NULL, "bytes",
            cadft_model_plan(s->model, &s->limits, NULL, e));
    REFUSED(CADFT_E_NULL, "limits", cadft_model_reserve(s->model, NULL, e));
    CHECK_OK(
        cadft_model_parameter(s->model, 0, NULL, NULL, NULL, NULL, &s->err),
        s->err);
    CHECK_OK(cadft_model_bounds(2, NULL, NULL, NULL, NULL, &s->err), s->err);
}
END_TEST

/* ------------------------------------------------------------------ knobs */

START_TEST(keys)
{
    static const int32_t bad[] = {0, 3, -1, 99, 113, INT32_MIN, INT32_MAX};
    outputs *o = &s->out;
    int64_t number, low, high;
    double smallest, largest, standard;
    int32_t type;
    char text[300];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_set_i64(s->model, bad[i], 0, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_set_str(s->model, bad[i], "0", e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_get_i64(s->model, bad[i], &o->number, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_get_str(s->model, bad[i], NULL, 0, &o->needed, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_set_f64(s->model, bad[i], 0, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_get_f64(s->model, bad[i], &o->bound, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_bounds(bad[i], &o->small, &o->bound, &o->bound,
                                   &o->bound, e));
    }
    for (int32_t fact = CADFT_MODEL_PARAMETERS; fact <= CADFT_MODEL_ARENA_BYTES;
         fact++) {
        REFUSED(CADFT_E_KEY, "key", cadft_model_set_i64(s->model, fact, 1, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_set_str(s->model, fact, "1", e));
        REFUSED(CADFT_E_PHASE, "weights",
                cadft_model_get_i64(s->empty, fact, &o->number, e));
        REFUSED(CADFT_E_KEY, "key",
                cadft_model_get_str(s->model, fact, NULL, 0, &o->needed, e));
        CHECK_OK(cadft_model_get_i64(s->model, fact, &number, &s->err), s->err);
    }
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    REFUSED(CADFT_E_KEY, "Checkpointing",
            cadft_model_key("Checkpointing", &o->small, e));
    REFUSED(CADFT_E_KEY, "\"\"", cadft_model_key("", &o->small, e));
    REFUSED(CADFT_E_KEY, "yyy", cadft_model_key(text, &o->small, e));
    for (int32_t key = 1; key <= 2; key++) {
        REFUSED(CADFT_E_KEY, "i64", cadft_model_set_f64(s->empty, key, 1, e));
        REFUSED(CADFT_E_KEY, "i64",
                cadft_model_get_f64(s->empty, key, &o->bound, e));
        CHECK_OK(cadft_model_bounds(key, &type, &smallest, &largest, &standard,
                                    &s->err),
                 s->err);
        ck_assert_int_eq(type, 0);
        low = (int64_t)smallest;
        high = (int64_t)largest;
        CHECK_OK(cadft_model_set_i64(s->empty, key, low, &s->err), s->err);
        CHECK_OK(cadft_model_set_i64(s->empty, key, high, &s->err), s->err);
        REFUSED(CADFT_E_ARG, "expected",
                cadft_model_set_i64(s->empty, key, low - 1, e));
        REFUSED(CADFT_E_ARG, "expected",
                cadft_model_set_i64(s->empty, key, high + 1, e));
        CHECK_OK(cadft_model_set_i64(s->empty, key, (int64_t)standard, &s->err),
                 s->err);
    }
}
END_TEST

START_TEST(values_of_knobs)
{
    static const int64_t dtypes[] = {1,
                                     -1,
                                     CADFT_DTYPE_F16,
                                     CADFT_DTYPE_F64,
                                     CADFT_DTYPE_I32,
                                     INT64_MIN,
                                     INT64_MAX,
                                     CADFT_DTYPE_F32 + (1LL << 32)};
    static const char *const texts[] = {"",   "float", "float32 ", "F32",
                                        "16", "2",     "true"};
    int64_t value = 5;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        REFUSED(CADFT_E_ARG, "weight_dtype is",
                cadft_model_set_i64(s->empty, CADFT_MODEL_WEIGHT_DTYPE,
                                    dtypes[i], e));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        REFUSED(CADFT_E_ARG, "weight_dtype is",
                cadft_model_set_str(s->empty, CADFT_MODEL_WEIGHT_DTYPE,
                                    texts[i], e));
        REFUSED(CADFT_E_ARG, "checkpointing is",
                cadft_model_set_str(s->empty, CADFT_MODEL_CHECKPOINTING,
                                    texts[i], e));
    }
    CHECK_OK(cadft_model_get_i64(s->empty, CADFT_MODEL_WEIGHT_DTYPE, &value,
                                 &s->err),
             s->err);
    ck_assert_int_eq(value, 0);
    REFUSED(CADFT_E_PHASE, "weight_dtype",
            cadft_model_set_i64(s->model, CADFT_MODEL_WEIGHT_DTYPE, 0, e));
    REFUSED(CADFT_E_PHASE, "checkpointing",
            cadft_model_set_i64(s->model, CADFT_MODEL_CHECKPOINTING, 0, e));
    CHECK_OK(cadft_model_backward(s->model, &s->logits, &s->err), s->err);
    fresh(s);
    REFUSE_ONLY(s, CADFT_E_ARG, "checkpointing is 2",
                cadft_model_set_i64(s->model, CADFT_MODEL_CHECKPOINTING, 2, e));
    pass_begin(s);
}
END_TEST

START_TEST(knobs_as_text)
{
    static const int32_t knobs[] = {1, 1, 1, 2};
    static const char *const texts[] = {"float32", "bfloat16", "stored", "1"};
    char text[16];
    size_t needed = 0;
    for (size_t i = 0; i < sizeof knobs / sizeof *knobs; i++) {
        CHECK_OK(cadft_model_set_str(s->empty, knobs[i], texts[i], &s->err),
                 s->err);
        CHECK_OK(cadft_model_get_str(s->empty, knobs[i], text, sizeof text,
                                     &needed, &s->err),
                 s->err);
        ck_assert_str_eq(text, texts[i]);
        ck_assert_uint_eq(needed, strlen(text) + 1);
    }
    CHECK_OK(cadft_model_get_str(s->model, CADFT_MODEL_WEIGHT_DTYPE, text,
                                 sizeof text, &needed, &s->err),
             s->err);
    ck_assert_str_eq(text, "float32");
    REFUSED(CADFT_E_SPACE, "capacity",
            cadft_model_get_str(s->model, CADFT_MODEL_WEIGHT_DTYPE, text, 7,
                                NULL, e));
    ck_assert_str_eq(text, "float32");
}
END_TEST

/* ------------------------------------------------------------------ phases */

START_TEST(without_weights)
{
    outputs *o = &s->out;
    cadft_model *m = s->empty;
    fresh(s);
    REFUSED(CADFT_E_PHASE, "weights",
            cadft_model_forward(m, &s->batch, &o->view, e));
    REFUSED(CADFT_E_PHASE, "forward", cadft_model_backward(m, &s->grad.t, e));
    REFUSED(CADFT_E_PHASE, "weights",
            cadft_model_plan(m, &s->limits, &o->number, e));
    REFUSED(CADFT_E_PHASE, "weights", cadft_model_reserve(m, &s->limits, e));
    REFUSED(CADFT_E_PHASE, "weights",
            cadft_model_generate(m, &s->desc, o->tokens, o->lengths, e));
    REFUSED(CADFT_E_PHASE, "weights", cadft_model_save(m, "nowhere", e));
    REFUSED(
        CADFT_E_PHASE, "weights",
        cadft_model_parameter(m, 0, &o->name, &o->view, NULL, &o->small, e));
    REFUSED(CADFT_E_PHASE, "weights",
            cadft_model_find(m, "model.norm.weight", &o->number, e));
    REFUSED(CADFT_E_PHASE, "weights",
            cadft_model_freeze(m, "*", 0, &o->number, e));
    REFUSED(CADFT_E_PHASE, "weights", cadft_model_zero_grad(m, e));
}
END_TEST

START_TEST(weights_twice)
{
    const char *config = s->config;
    REFUSED(CADFT_E_PHASE, "already",
            cadft_model_init(s->model, config, strlen(config), 3, e));
    REFUSED(CADFT_E_PHASE, "already", cadft_model_load(s->model, "x", e));
    REFUSED(CADFT_E_PHASE, "already", cadft_model_load(s->model, NULL, e));
    REFUSED(CADFT_E_IO, "no/such", cadft_model_load(s->empty, "no/such", e));
    /* After a failure there may be another try. */
    CHECK_OK(cadft_model_init(s->empty, config, strlen(config), 3, &s->err),
             s->err);
    REFUSED(CADFT_E_PHASE, "already", cadft_model_load(s->empty, "x", e));
}
END_TEST

START_TEST(backward_out_of_phase)
{
    cadft_tensor logits = {.struct_size = sizeof logits};
    cadft_model *m = s->empty;
    CHECK_OK(cadft_model_init(m, s->config, strlen(s->config), 3, &s->err),
             s->err);
    fresh(s);
    s->grad.t.device_type = s->logits.device_type;
    REFUSE_ONLY(s, CADFT_E_PHASE, "forward",
                cadft_model_backward(m, &s->grad.t, e));
    CHECK_OK(cadft_model_forward(m, &s->batch, &logits, &s->err), s->err);
    REFUSE_ONLY(s, CADFT_E_PHASE, "zero_grad",
                cadft_model_backward(m, &logits, e));
    CHECK_OK(cadft_model_zero_grad(m, &s->err), s->err);
    CHECK_OK(cadft_model_backward(m, &logits, &s->err), s->err);
    REFUSE_ONLY(s, CADFT_E_PHASE, "forward",
                cadft_model_backward(m, &logits, e));
    s->batch.no_grad = 1;
    CHECK_OK(cadft_model_forward(m, &s->batch, &logits, &s->err), s->err);
    REFUSE_ONLY(s, CADFT_E_PHASE, "forward",
                cadft_model_backward(m, &logits, e));
    s->batch.no_grad = 0;
    CHECK_OK(cadft_model_forward(m, &s->batch, &logits, &s->err), s->err);
    s->ends_data[2] = 6;
    s->desc.cu_seqlens = &s->ends.t;
    CHECK_OK(cadft_model_generate(m, &s->desc, s->out.tokens, s->out.lengths,
                                  &s->err),
             s->err);
    REFUSE_ONLY(s, CADFT_E_PHASE, "forward",
                cadft_model_backward(m, &logits, e));
    fresh(s);
    CHECK_OK(cadft_model_freeze(m, "*norm*", 0, NULL, &s->err), s->err);
    CHECK_OK(cadft_model_forward(m, &s->batch, &logits, &s->err), s->err);
    REFUSE_ONLY(s, CADFT_E_PHASE, "zero_grad",
                cadft_model_backward(m, &logits, e));
}
END_TEST

/* ------------------------------------------------------------- parameters */

START_TEST(parameters)
{
    static const int64_t bad[] = {-1, INT64_MIN, INT64_MAX, 1LL << 32};
    outputs *o = &s->out;
    cadft_tensor small = {.struct_size = 8};
    char *text = (char *)malloc(100000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(CADFT_E_ARG, "index is",
                cadft_model_parameter(s->model, bad[i], &o->name, &o->view,
                                      &o->view, &o->small, e));
    REFUSED(CADFT_E_ARG, "index is",
            cadft_model_parameter(s->model, s->parameters, &o->name, NULL, NULL,
                                  NULL, e));
    REFUSED(CADFT_E_ARG, "grad.struct_size",
            cadft_model_parameter(s->model, 0, &o->name, &o->view, &small,
                                  &o->small, e));
    REFUSED(CADFT_E_ARG, "value.struct_size",
            cadft_model_parameter(s->model, 0, &o->name, &small, &o->view,
                                  &o->small, e));
    memset(text, '*', 99999);
    text[99999] = '\0';
    REFUSED(CADFT_E_KEY, "no parameter \"\"",
            cadft_model_find(s->model, "", &o->number, e));
    REFUSED(CADFT_E_KEY, "*****",
            cadft_model_find(s->model, text, &o->number, e));
    REFUSED(CADFT_E_PHASE, "between",
            cadft_model_freeze(s->model, "*", 0, &o->number, e));
    CHECK_OK(cadft_model_backward(s->model, &s->logits, &s->err), s->err);
#define FREEZE(want, word, pattern, trainable)                                 \
    REFUSE_ONLY(                                                               \
        s, want, word,                                                         \
        cadft_model_freeze(s->model, pattern, trainable, &o->number, e))
    FREEZE(CADFT_E_KEY, "no/such", "no/such", 0);
    FREEZE(CADFT_E_KEY, "\"\"", "", 0);
    FREEZE(CADFT_E_KEY, "Model", "Model.*", 0);
    memcpy(text + 99990, "*x*y*z*x", 9);
    FREEZE(CADFT_E_KEY, "***", text, 0);
    FREEZE(CADFT_E_ARG, "trainable is 2", "*", 2);
    FREEZE(CADFT_E_ARG, "trainable is -1", "*", -1);
    pass_begin(s);
    pass_is_good(s, "refused freezes"); /* nothing is frozen */
    free(text);
}
END_TEST

/* ----------------------------------------------------------------- limits */

#define PLAN cadft_model_plan(s->model, &s->limits, &s->out.number, e)
#define BAD_LIMITS(want, word, change)                                         \
    do {                                                                       \
        REFUSE(s, want, word, change, PLAN);                                   \
        REFUSE(s, want, word, change,                                          \
               cadft_model_reserve(s->model, &s->limits, e));                  \
    } while (0)

START_TEST(limits)
{
    struct {
        cadft_model_limits limits;
        uint64_t more;
    } later = {.more = 1};
    int64_t bytes;
    BAD_LIMITS(CADFT_E_ARG, "limits.struct_size", s->limits.struct_size = 4);
    BAD_LIMITS(CADFT_E_ARG, "limits.struct_size", s->limits.struct_size = 5000);
    BAD_LIMITS(CADFT_E_ARG, "no_grad is 2", s->limits.no_grad = 2);
    BAD_LIMITS(CADFT_E_ARG, "rows is 0", s->limits.rows = 0);
    BAD_LIMITS(CADFT_E_ARG, "rows is -1", s->limits.rows = -1);
    BAD_LIMITS(CADFT_E_ARG, "rows is 2147483648", s->limits.rows = 1LL << 31);
    BAD_LIMITS(CADFT_E_ARG, "rows is 92233", s->limits.rows = INT64_MAX);
    BAD_LIMITS(CADFT_E_ARG, "rows is -92233", s->limits.rows = INT64_MIN);
    BAD_LIMITS(CADFT_E_ARG, "sequences is 13", s->limits.sequences = ROWS + 1);
    BAD_LIMITS(CADFT_E_ARG, "sequences is -1", s->limits.sequences = -1);
    BAD_LIMITS(CADFT_E_ARG, "sequences is 92233",
               s->limits.sequences = INT64_MAX);
    BAD_LIMITS(CADFT_E_ARG, "logit_rows is 13", s->limits.logit_rows = 13);
    BAD_LIMITS(CADFT_E_ARG, "logit_rows is -92233",
               s->limits.logit_rows = INT64_MIN);
    fresh(s);
    later.limits = s->limits;
    later.limits.struct_size = sizeof later;
    REFUSED(CADFT_E_TOO_NEW, "limits",
            cadft_model_plan(s->model, &later.limits, &s->out.number, e));
    REFUSED(CADFT_E_PHASE, "between",
            cadft_model_reserve(s->model, &s->limits, e));
    /* What no machine has can be planned, and is not there. */
    fresh(s);
    s->limits.rows = s->limits.logit_rows = 1 << 26;
    s->limits.sequences = 1;
    CHECK_OK(cadft_model_plan(s->model, &s->limits, &bytes, &s->err), s->err);
    ck_assert_int_gt(bytes, 1LL << 36);
    CHECK_OK(cadft_model_backward(s->model, &s->logits, &s->err), s->err);
    REFUSE_ONLY(s, CADFT_E_NOMEM, "",
                cadft_model_reserve(s->model, &s->limits, e));
    pass_begin(s);
    pass_is_good(s, "a reserve that failed");
}
END_TEST

/* ------------------------------------------------------------------ config */

/* Sizes whose products no memory holds, and texts that are none. */
START_TEST(configs)
{
    static const char *const bad[][4] = {
        {"vocab_size", "2147483647", "hidden_size", "4096"},
        {"hidden_size", "2147483640", "intermediate_size", "2147483647"},
        {"num_attention_heads", "2147483646", "head_dim", "2147483646"},
        {"num_attention_heads", "1073741824", "head_dim", "2"},
        {"vocab_size", "9223372036854775807", "hidden_size", "16"},
        {"vocab_size", "9223372036854775808", "hidden_size", "16"},
        {"vocab_size", "-1", "hidden_size", "16"},
        {"vocab_size", "0", "hidden_size", "16"},
        {"num_hidden_layers", "2147483647", "hidden_size", "16"},
    };
    int64_t blocks = s->heap.live_blocks;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        model_text text = text_of("Qwen3");
        const char *json;
        text_set(&text, bad[i][0], bad[i][1]);
        text_set(&text, bad[i][2], bad[i][3]);
        json = text_json(&text);
        arm(s);
        ck_assert_int_lt(
            cadft_model_init(s->empty, json, strlen(json), 1, &s->err), 0);
        ck_assert_msg(s->err.code == CADFT_E_FORMAT ||
                          s->err.code == CADFT_E_NOMEM,
                      "%s", s->err.message);
        ck_assert_msg(s->err.message[0] != '\0', "%s says nothing", bad[i][1]);
        ck_assert_int_eq(s->heap.live_blocks, blocks);
    }
    REFUSED(CADFT_E_FORMAT, "config", cadft_model_init(s->empty, "", 0, 0, e));
    REFUSED(CADFT_E_FORMAT, "config",
            cadft_model_init(s->empty, "{}", 1, 0, e));
    REFUSED(CADFT_E_FORMAT, "config",
            cadft_model_init(s->empty, s->config, SIZE_MAX, 0, e));
    REFUSED(CADFT_E_FORMAT, "config",
            cadft_model_init(s->empty, "{}\0{}", 5, 0, e));
    REFUSED(CADFT_E_FORMAT, "architectures",
            cadft_model_init(s->empty, "{}", 2, 0, e));
    ck_assert_int_eq(s->heap.live_blocks, blocks);
}
END_TEST

/* The largest matrices that are allowed do not fit; nothing stays. */
START_TEST(weights_without_memory)
{
    model_text text = text_of("Llama");
    int64_t blocks = s->heap.live_blocks;
    const char *json;
    text_set(&text, "vocab_size", "2147483647");
    text_set(&text, "intermediate_size", "68719476");
    text_set(&text, "num_hidden_layers", "16384");
    json = text_json(&text);
    if (!model_backend) { /* a toy's memory has no limit */
        REFUSED(CADFT_E_NOMEM, "",
                cadft_model_init(s->empty, json, strlen(json), 1, e));
        ck_assert_int_eq(s->heap.live_blocks, blocks);
    }
}
END_TEST

/* ------------------------------------------------------------------ copies */

#define READ(tensor, to, bytes)                                                \
    cadft_context_read(s->context, tensor, to, bytes, e)
#define WRITE(tensor, from, bytes)                                             \
    cadft_context_write(s->context, tensor, from, bytes, e)

START_TEST(copies)
{
    enum { BYTES = 16 * sizeof(float) };
    outputs *o = &s->out;
    int64_t at, shape[2] = {4, 4};
    cadft_tensor good = {.struct_size = sizeof good}, t;
    void *cut = malloc(16);
    memset(cut, 0, 16);
    CHECK_OK(cadft_model_find(s->model, "model.norm.weight", &at, &s->err),
             s->err);
    CHECK_OK(
        cadft_model_parameter(s->model, at, NULL, &good, NULL, NULL, &s->err),
        s->err);
#define BAD_COPY(want, word, change)                                           \
    do {                                                                       \
        t = good;                                                              \
        change;                                                                \
        REFUSED(want, word, READ(&t, o->memory, BYTES));                       \
        REFUSED(want, word, WRITE(&t, o->memory, BYTES));                      \
    } while (0)
    BAD_COPY(CADFT_E_ARG, "struct_size is 8", t.struct_size = 8);
    BAD_COPY(CADFT_E_TOO_NEW, "flags", t.flags = 1);
    BAD_COPY(CADFT_E_NULL, "data", t.data = NULL);
    BAD_COPY(CADFT_E_NULL, "shape", t.shape = NULL);
    BAD_COPY(CADFT_E_DTYPE, "DLPack", t.dtype_bits = 8);
    BAD_COPY(CADFT_E_DEVICE, "device_type is 2", t.device_type = 2);
    BAD_COPY(CADFT_E_SPACE, "bytes is 64", t.dtype_bits = 64);
    BAD_COPY(CADFT_E_SHAPE, "ndim", t.ndim = 0);
    BAD_COPY(CADFT_E_SHAPE, "ndim", t.ndim = INT32_MAX);
    BAD_COPY(CADFT_E_SHAPE, "stride",
             (t.strides = (int64_t[]){3, 1}, t.shape = shape, t.ndim = 2));
    BAD_COPY(CADFT_E_SHAPE, "shape[0] is -4",
             (t.shape = (int64_t[]){-4, -4}, t.ndim = 2));
    BAD_COPY(CADFT_E_SHAPE, "overflow",
             (t.shape = (int64_t[]){1LL << 62, 1LL << 62}, t.ndim = 2));
    REFUSED(CADFT_E_SPACE, "bytes is 60", READ(&good, o->memory, BYTES - 4));
    REFUSED(CADFT_E_SPACE, "bytes is 68", WRITE(&good, o->memory, BYTES + 4));
    REFUSED(CADFT_E_SPACE, "bytes is 0", READ(&good, NULL, 0));
    REFUSED(CADFT_E_NULL, "from is NULL", READ(NULL, o->memory, BYTES));
    REFUSED(CADFT_E_NULL, "to is NULL", WRITE(NULL, o->memory, BYTES));
    REFUSED(CADFT_E_NULL, "to, ", READ(&good, NULL, BYTES));
    REFUSED(CADFT_E_NULL, "from, ", WRITE(&good, NULL, BYTES));
    REFUSED(CADFT_E_NULL, "context",
            cadft_context_read(NULL, &good, o->memory, BYTES, e));
    REFUSED(CADFT_E_NULL, "context",
            cadft_context_write(NULL, &good, o->memory, BYTES, e));
    for (uint32_t size = 0; size <= 16; size += 4) { /* no byte is behind */
        memcpy(cut, &size, sizeof size);
        REFUSED(CADFT_E_ARG, "from.struct_size", READ(cut, o->memory, BYTES));
        REFUSED(CADFT_E_ARG, "to.struct_size", WRITE(cut, o->memory, BYTES));
    }
    free(cut);
}
END_TEST

/* Copies of strided views, to what a row at a time gives. */
START_TEST(strided_copies)
{
    int64_t at, shape[2] = {5, 3}, strides[2] = {7, 1};
    float part[15], all[35];
    cadft_tensor t = {.struct_size = sizeof t};
    CHECK_OK(cadft_model_find(s->model, "model.layers.0.mlp.up_proj.weight",
                              &at, &s->err),
             s->err);
    CHECK_OK(cadft_model_parameter(s->model, at, NULL, &t, NULL, NULL, &s->err),
             s->err);
    t.shape = shape;
    t.strides = strides;
    for (int i = 0; i < 15; i++)
        part[i] = (float)i + 0.5f;
    CHECK_OK(cadft_context_write(s->context, &t, part, sizeof part, &s->err),
             s->err);
    memset(part, 0, sizeof part);
    CHECK_OK(cadft_context_read(s->context, &t, part, sizeof part, &s->err),
             s->err);
    t.strides = NULL;
    shape[1] = 7;
    CHECK_OK(cadft_context_read(s->context, &t, all, sizeof all, &s->err),
             s->err);
    for (int i = 0; i < 15; i++) {
        ck_assert(part[i] == (float)i + 0.5f);
        ck_assert(all[i / 3 * 7 + i % 3] == part[i]);
        ck_assert(all[i / 3 * 7 + 3] != part[i]);
    }
    shape[0] = 0;
    CHECK_OK(cadft_context_read(s->context, &t, NULL, 0, &s->err), s->err);
    CHECK_OK(cadft_context_write(s->context, &t, NULL, 0, &s->err), s->err);
}
END_TEST

START_TEST(created_is_null_on_failure)
{
    cadft_model *model = s->model;
    memset(&s->stunted, 0, sizeof s->stunted);
    s->stunted.struct_size = 3;
    ck_assert_int_eq(cadft_model_create(s->context, &model, &s->stunted),
                     CADFT_E_ARG);
    ck_assert_ptr_null(model);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("model hostile");
    TCase *t = tcase_create("calls");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, null_handles);
    tcase_add_test(t, null_arguments);
    tcase_add_test(t, keys);
    tcase_add_test(t, values_of_knobs);
    tcase_add_test(t, knobs_as_text);
    tcase_add_test(t, without_weights);
    tcase_add_test(t, weights_twice);
    tcase_add_test(t, backward_out_of_phase);
    tcase_add_test(t, parameters);
    tcase_add_test(t, limits);
    tcase_add_test(t, configs);
    tcase_add_test(t, weights_without_memory);
    tcase_add_test(t, copies);
    tcase_add_test(t, strided_copies);
    tcase_add_test(t, created_is_null_on_failure);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
