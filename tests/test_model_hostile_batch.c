/* SPDX-License-Identifier: Apache-2.0 */
/* Bad batches and prompts, and batches of nothing.
 *
 *   test_model_hostile_batch [--backend PLUGIN.so] */
#include <math.h>

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

#define FORWARD cadft_model_forward(s->model, &s->batch, &s->out.view, e)
#define BAD(want, word, change) REFUSE(s, want, word, change, FORWARD)

/* ------------------------------------------------------------------ views */

/* What may be wrong with any tensor, in one of the batch. */
static void bad_views(shaped *x, const char *name, const cadft_tensor **field)
{
    void *data;
    fresh(s);
    *field = &x->t;
    data = x->t.data;
#define BAD_VIEW(want, word, change)                                           \
    do {                                                                       \
        fresh(s);                                                              \
        *field = &x->t;                                                        \
        change;                                                                \
        REFUSE_ONLY(s, want, name, FORWARD);                                   \
        ck_assert_ptr_nonnull(strstr(s->err.message, word));                   \
        pass_is_good(s, #change);                                              \
        pass_begin(s);                                                         \
    } while (0)
    BAD_VIEW(CADFT_E_ARG, "struct_size", x->t.struct_size = 0);
    BAD_VIEW(CADFT_E_ARG, "struct_size", x->t.struct_size = 40);
    BAD_VIEW(CADFT_E_ARG, "struct_size", x->t.struct_size = UINT32_MAX);
    BAD_VIEW(CADFT_E_TOO_NEW, "reserved", x->t.reserved = 1);
    BAD_VIEW(CADFT_E_TOO_NEW, "flags", x->t.flags = 1);
    BAD_VIEW(CADFT_E_NULL, "data", x->t.data = NULL);
    BAD_VIEW(CADFT_E_NULL, "shape", x->t.shape = NULL);
    BAD_VIEW(CADFT_E_SHAPE, "ndim is 0", x->t.ndim = 0);
    BAD_VIEW(CADFT_E_SHAPE, "ndim is -1", x->t.ndim = -1);
    BAD_VIEW(CADFT_E_SHAPE, "ndim is 17", x->t.ndim = 17);
    BAD_VIEW(CADFT_E_SHAPE, "ndim is 3",
             (x->t.ndim = 3, x->shape[1] = x->shape[2] = 1));
    BAD_VIEW(CADFT_E_SHAPE, "shape[0] is -1", x->shape[0] = -1);
    BAD_VIEW(CADFT_E_SHAPE, "overflow", x->shape[0] = INT64_MAX);
    BAD_VIEW(CADFT_E_SHAPE, "stride",
             (x->t.strides = x->strides, x->strides[0] = 2));
    BAD_VIEW(CADFT_E_SHAPE, "stride",
             (x->t.strides = x->strides, x->strides[0] = -1));
    BAD_VIEW(CADFT_E_DTYPE, "float32", x->t.dtype_code = 2);
    BAD_VIEW(CADFT_E_DTYPE, "DLPack", x->t.dtype_bits = 16);
    BAD_VIEW(CADFT_E_DTYPE, "DLPack", x->t.dtype_lanes = 2);
    BAD_VIEW(CADFT_E_DTYPE, "DLPack", x->t.dtype_code = 1);
    BAD_VIEW(CADFT_E_DEVICE, "device type 2", x->t.device_type = 2);
    BAD_VIEW(CADFT_E_ALIGN, "multiple of 4", x->t.byte_offset = 2);
    BAD_VIEW(CADFT_E_ALIGN, "multiple of 4", x->t.data = (char *)data + 1);
    BAD_VIEW(CADFT_E_SHAPE, "overflow", x->t.byte_offset = UINT64_MAX);
#undef BAD_VIEW
}

START_TEST(views)
{
    bad_views(&s->tokens, "tokens", &s->batch.tokens);
    bad_views(&s->ends, "cu_seqlens", &s->batch.cu_seqlens);
    bad_views(&s->picked, "logit_rows", &s->batch.logit_rows);
}
END_TEST

/* A larger struct is of a later version, whose fields must be zero. */
START_TEST(later_versions)
{
    struct {
        cadft_model_batch batch;
        uint64_t more;
    } batch;
    struct {
        cadft_tensor t;
        uint64_t more;
    } tokens;
    cadft_tensor logits = {.struct_size = sizeof logits};
    for (int bad = 0; bad < 3; bad++) {
        fresh(s);
        memset(&batch, 0, sizeof batch);
        batch.batch = s->batch;
        batch.batch.struct_size = sizeof batch;
        batch.more = bad == 1;
        tokens.t = s->tokens.t;
        tokens.t.struct_size = sizeof tokens;
        tokens.more = bad == 2;
        batch.batch.tokens = &tokens.t;
        if (bad) {
            REFUSE_ONLY(
                s, CADFT_E_TOO_NEW, bad == 1 ? "batch" : "tokens",
                cadft_model_forward(s->model, &batch.batch, &s->out.view, e));
            continue;
        }
        CHECK_OK(cadft_model_forward(s->model, &batch.batch, &logits, &s->err),
                 s->err);
    }
    pass_is_good(s, "a batch of a later version");
    fresh(s);
    REFUSE_ONLY(s, CADFT_E_ARG, "batch", (s->batch.struct_size = 8, FORWARD));
    REFUSE_ONLY(s, CADFT_E_ARG, "batch",
                (s->batch.struct_size = 5000, FORWARD));
}
END_TEST

START_TEST(the_batch_itself)
{
    BAD(CADFT_E_NULL, "tokens", s->batch.tokens = NULL);
    BAD(CADFT_E_ARG, "no_grad is 2", s->batch.no_grad = 2);
    BAD(CADFT_E_ARG, "no_grad is -1", s->batch.no_grad = -1);
    if (!model_backend)
        BAD(CADFT_E_ARG, "stream", s->batch.stream = s);
    REFUSE(s, CADFT_E_NULL, "batch", ,
           cadft_model_forward(s->model, NULL, &s->out.view, e));
    REFUSE(s, CADFT_E_NULL, "logits", ,
           cadft_model_forward(s->model, &s->batch, NULL, e));
    REFUSE(s, CADFT_E_NULL, "model", ,
           cadft_model_forward(NULL, &s->batch, &s->out.view, e));
    REFUSE(s, CADFT_E_ARG, "logits.struct_size is 8", ,
           cadft_model_forward(s->model, &s->batch,
                               &(cadft_tensor){.struct_size = 8}, e));
    REFUSE(s, CADFT_E_ARG, "logits.struct_size is 5000", ,
           cadft_model_forward(s->model, &s->batch,
                               &(cadft_tensor){.struct_size = 5000}, e));
}
END_TEST

/* ----------------------------------------------------------------- values */

static void wide_tokens(int64_t odd)
{
    for (int i = 0; i < ROWS; i++)
        s->wide[i] = s->tokens_data[i];
    s->wide[9] = odd;
    shape(&s->tokens, s->wide, CADFT_DTYPE_I64, ROWS, 0);
}

START_TEST(tokens)
{
    BAD(CADFT_E_ARG, "tokens[9] is -1", s->tokens_data[9] = -1);
    BAD(CADFT_E_ARG, "tokens[9] is 40", s->tokens_data[9] = VOCAB);
    BAD(CADFT_E_ARG, "2147483647", s->tokens_data[9] = INT32_MAX);
    BAD(CADFT_E_ARG, "-2147483648", s->tokens_data[9] = INT32_MIN);
    BAD(CADFT_E_ARG, "tokens[9] is 4294967296", wide_tokens(1LL << 32));
    BAD(CADFT_E_ARG, "9223372036854775807", wide_tokens(INT64_MAX));
    BAD(CADFT_E_ARG, "-9223372036854775808", wide_tokens(INT64_MIN));
    BAD(CADFT_E_ARG, "tokens[7] is 99", (padded(s), s->tokens_data[7] = 99));
}
END_TEST

static void wide_ends(int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t ends[] = {a, b, c, d};
    memcpy(s->wide, ends, sizeof ends);
    shape(&s->ends, s->wide, CADFT_DTYPE_I64, 4, 0);
}

START_TEST(cu_seqlens)
{
    const int64_t most = INT64_MAX, least = INT64_MIN;
    BAD(CADFT_E_ARG, "cu_seqlens[0] is 1", s->ends_data[0] = 1);
    BAD(CADFT_E_ARG, "cu_seqlens[0] is -1", s->ends_data[0] = -1);
    BAD(CADFT_E_ARG, "cu_seqlens[3] is 11", s->ends_data[3] = ROWS - 1);
    BAD(CADFT_E_ARG, "cu_seqlens[3] is 13", s->ends_data[3] = ROWS + 1);
    BAD(CADFT_E_ARG, "sequence 1 -1 tokens", s->ends_data[2] = 4);
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, 13, 5, 12));
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, 12, 11, 12));
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, most, 5, 12));
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, least, 5, 12));
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, least, most, 12));
    BAD(CADFT_E_ARG, "cu_seqlens", wide_ends(0, most, least, 12));
    BAD(CADFT_E_ARG, "cu_seqlens[0]", wide_ends(least, 0, 5, 12));
    BAD(CADFT_E_ARG, "cu_seqlens[3]", wide_ends(0, 5, 5, most));
    BAD(CADFT_E_ARG, "cu_seqlens[3]", wide_ends(0, 5, 5, 12 + (1LL << 32)));
    BAD(CADFT_E_SHAPE, "cu_seqlens has no element", s->ends.shape[0] = 0);
    BAD(CADFT_E_ARG, "cu_seqlens[0] is 0, expected the 12",
        s->ends.shape[0] = 1);
}
END_TEST

START_TEST(lengths)
{
    BAD(CADFT_E_ARG, "lengths gives sequence 1 -1 tokens",
        (padded(s), s->lengths_data[1] = -1));
    BAD(CADFT_E_ARG, "lengths gives sequence 0 7 tokens, expected 0 to 6",
        (padded(s), s->lengths_data[0] = 7));
    BAD(CADFT_E_ARG, "2147483647", (padded(s), s->lengths_data[0] = INT32_MAX));
    BAD(CADFT_E_SHAPE, "lengths has 1", (padded(s), s->lengths.shape[0] = 1));
    BAD(CADFT_E_SHAPE, "lengths has 0", (padded(s), s->lengths.shape[0] = 0));
    BAD(CADFT_E_ARG, "lengths", s->batch.lengths = &s->lengths.t);
    BAD(CADFT_E_ARG, "lengths",
        (s->batch.lengths = &s->lengths.t, s->batch.cu_seqlens = NULL));
    BAD(CADFT_E_ARG, "cu_seqlens",
        (padded(s), s->batch.cu_seqlens = &s->ends.t));
    BAD(CADFT_E_ARG, "cu_seqlens",
        (padded(s), s->batch.lengths = NULL, s->batch.cu_seqlens = &s->ends.t));
    BAD(CADFT_E_SHAPE, "tokens has 0 elements in 9223372036854775807",
        (padded(s), s->batch.lengths = NULL, s->tokens.shape[0] = INT64_MAX,
         s->tokens.shape[1] = 0));
    BAD(CADFT_E_NOMEM, "", /* of which each takes a few bytes */
        (padded(s), s->batch.lengths = NULL, s->tokens.shape[0] = INT32_MAX - 1,
         s->tokens.shape[1] = 0));
}
END_TEST

static void pick(int64_t count, int64_t a, int64_t b, int64_t c)
{
    s->wide[0] = a;
    s->wide[1] = b;
    s->wide[2] = c;
    shape(&s->picked, s->wide, CADFT_DTYPE_I64, count, 0);
    s->batch.logit_rows = &s->picked.t;
}

START_TEST(logit_rows)
{
    BAD(CADFT_E_ARG, "logit_rows[2] is 4", pick(3, 1, 5, 4));
    BAD(CADFT_E_ARG, "logit_rows[1] is 5", pick(3, 5, 5, 6));
    BAD(CADFT_E_ARG, "logit_rows[0] is -1", pick(3, -1, 5, 6));
    BAD(CADFT_E_ARG, "logit_rows[2] is 12", pick(3, 1, 5, ROWS));
    BAD(CADFT_E_ARG, "9223372036854775807", pick(3, 1, 5, INT64_MAX));
    BAD(CADFT_E_ARG, "-9223372036854775808", pick(3, INT64_MIN, 5, 6));
    BAD(CADFT_E_ARG, "4294967298", pick(3, 1, 2, (1LL << 32) + 2));
    BAD(CADFT_E_SHAPE, "logit_rows has 13 elements, expected at most the 12",
        pick(ROWS + 1, 0, 1, 2));
    BAD(CADFT_E_SHAPE, "at most the 11", /* behind a sequence's end */
        (padded(s), pick(ROWS, 0, 1, 2)));
    BAD(CADFT_E_ARG, "is 11", (padded(s), pick(3, 0, 1, 11)));
}
END_TEST

/* One token more than the model has positions, and just as many. */
START_TEST(long_sequences)
{
    int32_t many[2 * POSITIONS] = {0};
    cadft_tensor logits = {.struct_size = sizeof logits};
    BAD(CADFT_E_ARG, "sequence 0 has 65 tokens, expected at most 64",
        (shape(&s->tokens, many, CADFT_DTYPE_I32, POSITIONS + 1, 0),
         s->batch.cu_seqlens = NULL));
    BAD(CADFT_E_ARG, "sequence 1 has 65",
        (shape(&s->tokens, many, CADFT_DTYPE_I32, POSITIONS + 3, 0),
         wide_ends(0, 1, POSITIONS + 2, POSITIONS + 3)));
    fresh(s);
    shape(&s->tokens, many, CADFT_DTYPE_I32, 2, POSITIONS);
    s->batch.cu_seqlens = NULL;
    CHECK_OK(cadft_model_forward(s->model, &s->batch, &logits, &s->err),
             s->err);
}
END_TEST

/* --------------------------------------------------------------- gradient */

#define BACKWARD cadft_model_backward(s->model, &s->grad.t, e)
#define BAD_GRAD(want, word, change)                                           \
    REFUSE(s, want, word,                                                      \
           (s->grad.t.device_type = s->logits.device_type, change), BACKWARD)

START_TEST(gradient)
{
    REFUSE(s, CADFT_E_NULL, "model", ,
           cadft_model_backward(NULL, &s->grad.t, e));
    REFUSE(s, CADFT_E_NULL, "grad_logits", ,
           cadft_model_backward(s->model, NULL, e));
    BAD_GRAD(CADFT_E_ARG, "struct_size", s->grad.t.struct_size = 12);
    BAD_GRAD(CADFT_E_TOO_NEW, "flags", s->grad.t.flags = 4);
    BAD_GRAD(CADFT_E_DTYPE, "bfloat16",
             (s->grad.t.dtype_code = 4, s->grad.t.dtype_bits = 16));
    BAD_GRAD(CADFT_E_DTYPE, "int32", s->grad.t.dtype_code = 0);
    BAD_GRAD(CADFT_E_SHAPE, "[11, 40], expected [12, 40]",
             s->grad.shape[0] = ROWS - 1);
    BAD_GRAD(CADFT_E_SHAPE, "[12, 39], expected [12, 40]",
             s->grad.shape[1] = VOCAB - 1);
    BAD_GRAD(CADFT_E_SHAPE, "ndim is 1", s->grad.t.ndim = 1);
    BAD_GRAD(CADFT_E_SHAPE, "strides[1] is 2",
             (s->grad.t.strides = s->grad.strides, s->grad.strides[1] = 2));
    BAD_GRAD(CADFT_E_SHAPE, "stride 39",
             (s->grad.t.strides = s->grad.strides, s->grad.strides[0] = 39));
    BAD_GRAD(CADFT_E_NULL, "data", s->grad.t.data = NULL);
    BAD_GRAD(CADFT_E_DEVICE, "device type 2", s->grad.t.device_type = 2);
    if (!model_backend)
        BAD_GRAD(CADFT_E_ALIGN, "multiple of 4",
                 s->grad.t.data = (char *)s->grad_data + 1);
}
END_TEST

/* -------------------------------------------------------------- generation */

#define GENERATE                                                               \
    cadft_model_generate(s->model, &s->desc, s->out.tokens, s->out.lengths, e)
#define BAD_DESC(want, word, change)                                           \
    REFUSE(s, want, word,                                                      \
           (s->ends_data[2] = 6, s->desc.cu_seqlens = &s->ends.t, change),     \
           GENERATE)

START_TEST(descriptions)
{
    int32_t many[POSITIONS + 1] = {0};
    REFUSE(
        s, CADFT_E_NULL, "model", ,
        cadft_model_generate(NULL, &s->desc, s->out.tokens, s->out.lengths, e));
    REFUSE(
        s, CADFT_E_NULL, "desc", ,
        cadft_model_generate(s->model, NULL, s->out.tokens, s->out.lengths, e));
    REFUSE(s, CADFT_E_NULL, "tokens", ,
           cadft_model_generate(s->model, &s->desc, NULL, s->out.lengths, e));
    REFUSE(s, CADFT_E_NULL, "lengths", ,
           cadft_model_generate(s->model, &s->desc, s->out.tokens, NULL, e));
    BAD_DESC(CADFT_E_ARG, "desc.struct_size", s->desc.struct_size = 8);
    BAD_DESC(CADFT_E_TOO_NEW, "reserved", s->desc.reserved = 1);
    BAD_DESC(CADFT_E_NULL, "tokens", s->desc.tokens = NULL);
    BAD_DESC(CADFT_E_ARG, "temperature is nan", s->desc.temperature = NAN);
    BAD_DESC(CADFT_E_ARG, "temperature is -1", s->desc.temperature = -1);
    BAD_DESC(CADFT_E_ARG, "temperature is inf", s->desc.temperature = INFINITY);
    BAD_DESC(CADFT_E_ARG, "top_p is nan", s->desc.top_p = NAN);
    BAD_DESC(CADFT_E_ARG, "top_p is 1.01", s->desc.top_p = 1.01);
    BAD_DESC(CADFT_E_ARG, "top_p is -0.5", s->desc.top_p = -0.5);
    BAD_DESC(CADFT_E_ARG, "max_new_tokens is 0", s->desc.max_new_tokens = 0);
    BAD_DESC(CADFT_E_ARG, "max_new_tokens is -1", s->desc.max_new_tokens = -1);
    BAD_DESC(CADFT_E_ARG, "max_new_tokens is 9223372036854775807",
             s->desc.max_new_tokens = INT64_MAX);
    BAD_DESC(CADFT_E_ARG, "max_new_tokens is 2147483647",
             s->desc.max_new_tokens = INT32_MAX);
    BAD_DESC(CADFT_E_ARG, "max_new_tokens is 60",
             s->desc.max_new_tokens = POSITIONS - 4);
    BAD_DESC(CADFT_E_ARG, "step is -1", s->desc.step = -1);
    BAD_DESC(CADFT_E_ARG, "step is 4294967296", s->desc.step = 1LL << 32);
    BAD_DESC(CADFT_E_NULL, "n_stop_tokens is 1", s->desc.n_stop_tokens = 1);
    BAD_DESC(CADFT_E_ARG, "n_stop_tokens is -1", s->desc.n_stop_tokens = -1);
    BAD_DESC(CADFT_E_SHAPE, "tokens hold 3 prompts", s->desc.n_prompts = 2);
    BAD_DESC(CADFT_E_SHAPE, "n_prompts, -1", s->desc.n_prompts = -1);
    BAD_DESC(CADFT_E_ARG, "prompt 1 has no tokens", s->ends_data[2] = 5);
    BAD_DESC(CADFT_E_ARG, "tokens[11] is 40", s->tokens_data[11] = VOCAB);
    BAD_DESC(CADFT_E_ARG, "cu_seqlens", s->ends_data[3] = 11);
    BAD_DESC(CADFT_E_ARG, "at most 64",
             (s->desc.cu_seqlens = NULL,
              shape(&s->tokens, many, CADFT_DTYPE_I32, POSITIONS - 3, 0)));
}
END_TEST

/* Every call on the model from inside its own callback. */
static int32_t intrude(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    int64_t number;
    cadft_tensor view = {.struct_size = sizeof view};
    int32_t *busy = (int32_t *)user;
    const int32_t got[] = {
        cadft_model_forward(s->model, &s->batch, &view, NULL),
        cadft_model_backward(s->model, &view, NULL),
        cadft_model_generate(s->model, &s->desc, s->out.tokens, s->out.lengths,
                             NULL),
        cadft_model_zero_grad(s->model, NULL),
        cadft_model_plan(s->model, &s->limits, &number, NULL),
        cadft_model_reserve(s->model, &s->limits, NULL),
        cadft_model_freeze(s->model, "*", 0, NULL, NULL),
        cadft_model_find(s->model, "model.norm.weight", &number, NULL),
        cadft_model_parameter(s->model, 0, NULL, &view, NULL, NULL, NULL),
        cadft_model_save(s->model, "nowhere", NULL),
        cadft_model_load(s->model, "nowhere", NULL),
        cadft_model_init(s->model, s->config, strlen(s->config), 1, NULL),
        cadft_model_get_i64(s->model, CADFT_MODEL_VOCAB, &number, NULL),
        cadft_model_set_i64(s->model, CADFT_MODEL_CHECKPOINTING, 1, NULL),
        cadft_model_set_str(s->model, CADFT_MODEL_CHECKPOINTING, "1", NULL),
    };
    for (size_t i = 0; i < sizeof got / sizeof *got; i++)
        ck_assert_msg(got[i] == CADFT_E_BUSY, "call %zu: %s", i,
                      cadft_status_string(got[i]));
    ck_assert_int_eq(token, s->out.tokens[prompt * NEW + position]);
    ck_assert(logprob < 0);
    (*busy)++;
    return 0;
}

START_TEST(busy)
{
    int32_t calls = 0;
    cadft_error err = support_error();
    fresh(s);
    s->ends_data[2] = 6;
    s->desc.cu_seqlens = &s->ends.t;
    s->desc.on_token = intrude;
    s->desc.user = &calls;
    CHECK_OK(cadft_model_generate(s->model, &s->desc, s->out.tokens,
                                  s->out.lengths, &err),
             err);
    ck_assert_int_eq(calls, SEQUENCES * NEW);
    pass_begin(s);
    pass_is_good(s, "a busy generation");
}
END_TEST

/* ---------------------------------------------------------------- nothing */

/* A good batch of nothing, and its backward: gradients of zero. */
static void nothing(const char *what, int64_t rows)
{
    cadft_tensor logits = {.struct_size = sizeof logits};
    int64_t count;
    s->err = support_error();
    CHECK_OK(cadft_model_zero_grad(s->model, &s->err), s->err);
    CHECK_OK(cadft_model_forward(s->model, &s->batch, &logits, &s->err),
             s->err);
    ck_assert_int_eq(logits.ndim, 2);
    ck_assert_msg(logits.shape[0] == rows && logits.shape[1] == VOCAB,
                  "%s: logits are [%lld, %lld]", what,
                  (long long)logits.shape[0], (long long)logits.shape[1]);
    free(read_tensor(s->context, &logits, &count));
    CHECK_OK(cadft_model_backward(s->model, &logits, &s->err), s->err);
    for (int64_t i = 0; i < s->parameters && !rows; i++) {
        float *grad = read_grad(s->model, s->context, i, &count);
        for (int64_t j = 0; j < count; j++)
            ck_assert_msg(grad[j] == 0, "%s: gradient %lld of %lld", what,
                          (long long)j, (long long)i);
        free(grad);
    }
    pass_begin(s);
    pass_is_good(s, what);
    fresh(s);
}

START_TEST(nothing_at_all)
{
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        CHECK_OK(cadft_model_backward(s->model, &s->logits, &s->err), s->err);
        cadft_model_set_i64(s->model, CADFT_MODEL_CHECKPOINTING, checkpointing,
                            NULL);
        fresh(s);
        shape(&s->tokens, NULL, CADFT_DTYPE_I64, 0, 0);
        shape(&s->ends, s->ends_data, CADFT_DTYPE_I32, 1, 0);
        nothing("no sequence", 0);
        shape(&s->tokens, NULL, CADFT_DTYPE_I32, 0, 0);
        s->batch.cu_seqlens = NULL;
        nothing("a sequence of nothing", 0);
        shape(&s->tokens, NULL, CADFT_DTYPE_I32, 0, 0);
        memset(s->ends_data, 0, sizeof s->ends_data);
        nothing("three sequences of nothing", 0);
        padded(s);
        s->lengths_data[0] = s->lengths_data[1] = 0;
        nothing("lengths 0", 0);
        padded(s);
        s->lengths_data[0] = 0;
        s->lengths_data[1] = 6;
        nothing("a length 0", 6);
        padded(s);
        shape(&s->tokens, NULL, CADFT_DTYPE_I32, 2, 0);
        s->tokens.t.ndim = 2;
        s->tokens.shape[1] = 0;
        s->batch.lengths = NULL;
        nothing("[2, 0]", 0);
        shape(&s->picked, NULL, CADFT_DTYPE_I64, 0, 0);
        s->batch.logit_rows = &s->picked.t;
        nothing("no logits", 0);
        pass_begin(s);
    }
}
END_TEST

START_TEST(no_prompts)
{
    cadft_error *e = arm(s);
    fresh(s);
    shape(&s->tokens, NULL, CADFT_DTYPE_I32, 0, 0);
    shape(&s->ends, s->ends_data, CADFT_DTYPE_I32, 1, 0);
    s->desc.cu_seqlens = &s->ends.t;
    CHECK_OK(GENERATE, s->err);
    ck_assert_mem_eq(&s->out, &s->before, sizeof s->out);
    pass_begin(s);
    pass_is_good(s, "no prompts");
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("model hostile batch");
    TCase *t = tcase_create("batch");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, views);
    tcase_add_test(t, later_versions);
    tcase_add_test(t, the_batch_itself);
    tcase_add_test(t, tokens);
    tcase_add_test(t, cu_seqlens);
    tcase_add_test(t, lengths);
    tcase_add_test(t, logit_rows);
    tcase_add_test(t, long_sequences);
    tcase_add_test(t, gradient);
    tcase_add_test(t, descriptions);
    tcase_add_test(t, busy);
    tcase_add_test(t, nothing_at_all);
    tcase_add_test(t, no_prompts);
    suite_add_tcase(all, t);
    return all;
}

int main(int argc, char **argv)
{
    return model_main(argc, argv, suite);
}
