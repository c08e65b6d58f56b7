/* SPDX-License-Identifier: Apache-2.0 */
/* What the hostile tests of the model share: a small model whose good logits
 * and gradients are known bit for bit, and REFUSE, which makes a bad call in
 * every way an error can be asked for, between a forward pass and its
 * backward, and checks that nothing but the status came of it. */
#ifndef TESTS_MODEL_HOSTILE_H
#define TESTS_MODEL_HOSTILE_H

#include <stdlib.h>
#include <string.h>

#include "model_support.h"
#include "model_text.h"

enum { ROWS = 12, SEQUENCES = 3, NEW = 4, VOCAB = 40, POSITIONS = 64 };

/* Where bad calls would leave what they give. */
typedef struct outputs {
    cadft_tensor view;
    const char *name;
    int64_t number;
    double bound;
    size_t needed;
    int32_t small;
    int32_t tokens[SEQUENCES * NEW];
    int64_t lengths[SEQUENCES];
    float memory[64];
} outputs;

/* A tensor with a shape of its own. */
typedef struct shaped {
    cadft_tensor t;
    int64_t shape[3], strides[3];
} shaped;

/* The allocator has a limit, so that absurd sizes fail and do not thrash. */
typedef struct subject {
    support_heap heap;
    cadft_allocator inner;
    cadft_context *context;
    cadft_model *model, *empty; /* with weights; without */
    model_text text;
    const char *config;
    float *best; /* logits, then gradients, of a good pass */
    int64_t n_best, n_logits, parameters;
    /* A working copy of the good batch for each bad call. */
    int32_t tokens_data[ROWS], ends_data[SEQUENCES + 1], lengths_data[2];
    int32_t picked_data[ROWS];
    int64_t wide[ROWS + 1];
    float grad_data[ROWS * VOCAB + 4];
    shaped tokens, ends, lengths, picked, grad;
    cadft_model_batch batch;
    cadft_generate_desc desc;
    cadft_model_limits limits;
    outputs out, before;
    cadft_tensor logits; /* of the pass that waits for its backward */
    int32_t idle;        /* calls are not made between passes */
    cadft_error err, stunted;
} subject;

static inline void *subject_alloc(void *user, size_t size, size_t align)
{
    subject *s = (subject *)user;
    return size > ((size_t)64 << 20)
               ? NULL
               : s->inner.alloc(s->inner.user, size, align);
}

static inline void
subject_give_back(void *user, void *block, size_t size, size_t align)
{
    subject *s = (subject *)user;
    s->inner.free(s->inner.user, block, size, align);
}

static inline void
shape(shaped *x, void *data, int32_t dtype, int64_t rows, int64_t cols)
{
    x->shape[0] = rows;
    x->shape[1] = x->strides[0] = cols ? cols : 1;
    x->shape[2] = x->strides[1] = x->strides[2] = 1;
    cadft_tensor_init(&x->t, sizeof x->t, data, dtype, cols ? 2 : 1, x->shape,
                      NULL, NULL);
}

/* The working copy back to what is right: sequences of 5, 0 and 7 tokens. */
static inline void fresh(subject *s)
{
    static const int32_t ends[] = {0, 5, 5, ROWS};
    for (int i = 0; i < ROWS; i++) {
        s->tokens_data[i] = (i * 7 + 3) % VOCAB;
        s->picked_data[i] = i;
    }
    memcpy(s->ends_data, ends, sizeof ends);
    s->lengths_data[0] = 5;
    s->lengths_data[1] = 6;
    shape(&s->tokens, s->tokens_data, CADFT_DTYPE_I32, ROWS, 0);
    shape(&s->ends, s->ends_data, CADFT_DTYPE_I32, SEQUENCES + 1, 0);
    shape(&s->lengths, s->lengths_data, CADFT_DTYPE_I32, 2, 0);
    shape(&s->picked, s->picked_data, CADFT_DTYPE_I32, 4, 0);
    shape(&s->grad, s->grad_data, CADFT_DTYPE_F32, ROWS, VOCAB);
    s->batch = (cadft_model_batch){.struct_size = sizeof s->batch,
                                   .tokens = &s->tokens.t,
                                   .cu_seqlens = &s->ends.t};
    s->limits =
        (cadft_model_limits){.struct_size = sizeof s->limits, .rows = ROWS};
    s->desc = (cadft_generate_desc){.struct_size = sizeof s->desc,
                                    .tokens = &s->tokens.t,
                                    .max_new_tokens = NEW,
                                    .temperature = 1};
}

/* Two sequences of 6 in place of them. */
static inline void padded(subject *s)
{
    shape(&s->tokens, s->tokens_data, CADFT_DTYPE_I32, 2, ROWS / 2);
    s->batch.cu_seqlens = NULL;
    s->batch.lengths = &s->lengths.t;
}

/* Zero gradients and a forward pass of the good batch. */
static inline void pass_begin(subject *s)
{
    fresh(s);
    s->logits = (cadft_tensor){.struct_size = sizeof s->logits};
    CHECK_OK(cadft_model_zero_grad(s->model, &s->err), s->err);
    CHECK_OK(cadft_model_forward(s->model, &s->batch, &s->logits, &s->err),
             s->err);
}

/* Its backward, with the logits as their gradient: all numbers. */
static inline float *pass_end(subject *s, int64_t *count)
{
    float *all = read_tensor(s->context, &s->logits, count);
    s->n_logits = *count;
    CHECK_OK(cadft_model_backward(s->model, &s->logits, &s->err), s->err);
    for (int64_t i = 0; i < s->parameters; i++) {
        int64_t n;
        float *part = read_grad(s->model, s->context, i, &n);
        all = (float *)realloc(all, (size_t)(*count + n) * sizeof *all);
        memcpy(all + *count, part, (size_t)n * sizeof *all);
        *count += n;
        free(part);
    }
    return all;
}

/* The pass that waits ends with the good numbers. */
static inline void pass_is_good(subject *s, const char *call)
{
    int64_t count;
    float *got = pass_end(s, &count);
    ck_assert_int_eq(count, s->n_best);
    ck_assert_msg(memcmp(got, s->best, (size_t)count * sizeof *got) == 0,
                  "after %s a good pass gives other bits", call);
    free(got);
}

static inline subject *subject_new(void)
{
    subject *s = (subject *)calloc(1, sizeof *s);
    cadft_allocator allocator = {.struct_size = sizeof allocator,
                                 .user = s,
                                 .alloc = subject_alloc,
                                 .free = subject_give_back};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = 2,
                               .allocator = &allocator,
                               .backend = model_backend};
    s->inner = support_allocator(&s->heap);
    s->err = support_error();
    s->text = text_of("Qwen3");
    s->config = text_json(&s->text);
    CHECK_OK(cadft_context_create(&desc, &s->context, &s->err), s->err);
    CHECK_OK(cadft_model_create(s->context, &s->empty, &s->err), s->err);
    CHECK_OK(cadft_model_create(s->context, &s->model, &s->err), s->err);
    CHECK_OK(
        cadft_model_init(s->model, s->config, strlen(s->config), 3, &s->err),
        s->err);
    CHECK_OK(cadft_model_get_i64(s->model, CADFT_MODEL_PARAMETERS,
                                 &s->parameters, &s->err),
             s->err);
    pass_begin(s);
    s->best = pass_end(s, &s->n_best);
    return s;
}

static inline void subject_free(subject *s)
{
    cadft_model_destroy(s->model);
    cadft_model_destroy(s->empty);
    cadft_context_destroy(s->context);
    ck_assert_int_eq(s->heap.live_blocks, 0);
    free(s->best);
    free(s);
}

/* A pattern to be recognised into everything a call might write. */
static inline cadft_error *arm(subject *s)
{
    memset(&s->out, 0x5a, sizeof s->out);
    s->out.view.struct_size = sizeof s->out.view;
    memcpy(&s->before, &s->out, sizeof s->out);
    s->err = support_error();
    s->err.code = 77;
    memset(&s->stunted, 0x3c, sizeof s->stunted);
    s->stunted.struct_size = 8;
    return &s->err;
}

static inline void refused(const subject *s,
                           int32_t status,
                           int32_t want,
                           const char *word,
                           const char *call)
{
    ck_assert_msg(status == want, "%s: %s, expected %s: %s", call,
                  cadft_status_string(status), cadft_status_string(want),
                  s->err.message);
    ck_assert_msg(s->err.code == want, "%s: error.code is %d", call,
                  s->err.code);
    ck_assert_msg(memchr(s->err.message, 0, sizeof s->err.message) &&
                      strstr(s->err.message, word),
                  "%s: \"%s\" does not say %s", call, s->err.message, word);
}

static inline void untouched(const subject *s, int32_t status, const char *call)
{
    cadft_error as_it_was;
    memset(&as_it_was, 0x3c, sizeof as_it_was);
    as_it_was.struct_size = 8;
    ck_assert_msg(status == CADFT_E_ARG, "%s with a bad error struct: %s", call,
                  cadft_status_string(status));
    ck_assert_msg(memcmp(&s->stunted, &as_it_was, sizeof as_it_was) == 0,
                  "%s wrote to an error struct of 8 bytes", call);
    ck_assert_msg(memcmp(&s->out, &s->before, sizeof s->out) == 0,
                  "%s wrote to its outputs", call);
}

/* `call` uses the error pointer `e`: a whole struct, none, and a bad one. */
#define REFUSE_ONLY(s, want, word, call)                                       \
    do {                                                                       \
        cadft_error *e = arm(s);                                               \
        int32_t status_ = (call);                                              \
        refused(s, status_, want, word, #call);                                \
        e = NULL;                                                              \
        ck_assert_int_eq((call), want);                                        \
        e = &(s)->stunted;                                                     \
        untouched(s, (call), #call);                                           \
    } while (0)

/* The same between a forward pass, which is there already, and its backward;
 * then a whole good pass, and the next forward. `change` spoils the working
 * copy. */
#define REFUSE(s, want, word, change, call)                                    \
    do {                                                                       \
        fresh(s);                                                              \
        change;                                                                \
        REFUSE_ONLY(s, want, word, call);                                      \
        pass_is_good(s, #change " " #call);                                    \
        pass_begin(s);                                                         \
    } while (0)

#endif
