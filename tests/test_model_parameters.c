/* SPDX-License-Identifier: Apache-2.0 */
/* Names, places and the freezing of parameters. */
#define _GNU_SOURCE /* mkdtemp */
#include "model_files.h"

static cadft_context *context;
static cadft_backend with_zero; /* the context's, with a slot to set to 0 */
static const cadft_backend *without;

static int32_t zero(cadft_device *device,
                    void *stream,
                    const cadft_array *to,
                    uint64_t bytes,
                    cadft_error *error)
{
    (void)device;
    (void)stream;
    (void)error;
    memset((char *)to->base + to->offset, 0, bytes);
    return CADFT_OK;
}

static void setup(void)
{
    err = support_error();
    context = support_context(NULL, 1);
    without = context->backend;
    memcpy(&with_zero, without, sizeof with_zero);
    with_zero.mem_zero = zero;
    context->backend = &with_zero;
}

static void teardown(void)
{
    context->backend = without;
    cadft_context_destroy(context);
}

static void plan(const char *family, int all_biases, model_parts *out)
{
    model_text text = text_of(family);
    const char *json;
    text_set(&text, "attention_bias", all_biases ? "true" : "false");
    text_set(&text, "mlp_bias", all_biases ? "true" : "false");
    json = text_json(&text);
    memset(out, 0, sizeof *out);
    out->context = context;
    CHECK_OK(cadft__config_parse(json, strlen(json), "c", &out->config, &err),
             err);
    CHECK_OK(
        cadft__parameters_plan(context, &out->config, &out->parameters, &err),
        err);
}

START_TEST(names_and_shapes)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
        int32_t ndim;
    } expected[] = {
        {"model.embed_tokens.weight", 40, 16, 2},
        {"model.layers.0.input_layernorm.weight", 16, 1, 1},
        {"model.layers.0.self_attn.q_proj.weight", 16, 16, 2},
        {"model.layers.0.self_attn.k_proj.weight", 8, 16, 2},
        {"model.layers.0.self_attn.v_proj.weight", 8, 16, 2},
        {"model.layers.0.self_attn.q_norm.weight", 4, 1, 1},
        {"model.layers.0.self_attn.k_norm.weight", 4, 1, 1},
        {"model.layers.0.self_attn.o_proj.weight", 16, 16, 2},
        {"model.layers.0.post_attention_layernorm.weight", 16, 1, 1},
        {"model.layers.0.mlp.gate_proj.weight", 24, 16, 2},
        {"model.layers.0.mlp.up_proj.weight", 24, 16, 2},
        {"model.layers.0.mlp.down_proj.weight", 16, 24, 2},
    };
    const size_t n = sizeof expected / sizeof *expected;
    model_parts parts;
    const cadft__parameters *p = &parts.parameters;
    int64_t numbers = 0;
    plan("Qwen3", 0, &parts);
    ck_assert_int_eq(p->count, (int64_t)(2 * (n - 1) + 3));
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(p->list[i].name, expected[i].name);
        ck_assert_int_eq(p->list[i].shape[0], expected[i].rows);
        ck_assert_int_eq(p->list[i].shape[1], expected[i].cols);
        ck_assert_int_eq(p->list[i].ndim, expected[i].ndim);
    }
    ck_assert_str_eq(p->list[p->count - 2].name, "model.norm.weight");
    ck_assert_str_eq(p->list[p->count - 1].name, "lm_head.weight");
    for (int64_t i = 0; i < p->count; i++) {
        const cadft__parameter *one = &p->list[i];
        ck_assert_ptr_eq(cadft__parameters_get(p, one->layer, one->kind), one);
        ck_assert_int_eq(one->count, one->shape[0] * one->shape[1]);
        numbers += one->count;
    }
    ck_assert_int_eq(p->numbers, numbers);
    ck_assert_ptr_null(cadft__parameters_get(p, 1, CADFT__Q_BIAS));
    ck_assert_ptr_null(cadft__parameters_get(p, 1, CADFT__HEAD));
    ck_assert_ptr_null(cadft__parameters_get(p, -1, CADFT__Q));
    ck_assert_ptr_null(cadft__parameters_weight(p, NULL).base);
    free_parts(&parts);
}
END_TEST

/* The kinds that follow the one before without a gap. */
static int is_joined(int32_t kind)
{
    return kind == CADFT__K || kind == CADFT__V || kind == CADFT__K_BIAS ||
           kind == CADFT__V_BIAS || kind == CADFT__UP || kind == CADFT__UP_BIAS;
}

START_TEST(groups_have_no_gaps)
{
    model_parts parts;
    const cadft__parameters *p = &parts.parameters;
    int64_t end = 0;
    plan("Llama", 1, &parts);
    ck_assert_int_eq(p->count, 2 * 16 + 3);
    for (int64_t i = 0; i < p->count; i++) {
        const cadft__parameter *one = &p->list[i];
        if (is_joined(one->kind))
            ck_assert_int_eq(one->offset, end);
        else
            ck_assert_int_eq(one->offset % 32, 0);
        ck_assert_int_ge(one->offset, end);
        ck_assert_int_eq(one->grad_offset, one->offset);
        end = one->offset + one->count;
    }
    ck_assert_int_eq(p->elements, end);
    ck_assert_int_eq(p->grad_elements, end);
    free_parts(&parts);
}
END_TEST

START_TEST(patterns)
{
    static const struct {
        const char *pattern;
        int64_t matched;
    } cases[] = {
        {"*", 21},
        {"", 0},
        {"model.norm.weight", 1},
        {"model.norm.weigh", 0},
        {"model.norm.weight?", 0},
        {"model.norm.weight*", 1},
        {"model.layers.?.mlp.*", 6},
        {"model.layers.*.mlp.*", 6},
        {"*.0.*", 9},
        {"*norm*", 5},
        {"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", 0},
        {"*_proj*", 14},
        {"model.layers.1.self_attn.[qk]_proj.weight", 0},
        {"**layers**1**self_attn**q**", 1},
    };
    model_parts parts;
    plan("Llama", 0, &parts);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t frozen = 0;
        cadft__parameters_freeze(context, &parts.parameters, "*", 1);
        ck_assert_msg(cadft__parameters_freeze(context, &parts.parameters,
                                               cases[i].pattern,
                                               0) == cases[i].matched,
                      "\"%s\"", cases[i].pattern);
        for (int64_t k = 0; k < parts.parameters.count; k++)
            frozen += !parts.parameters.list[k].trainable;
        ck_assert_int_eq(frozen, cases[i].matched);
    }
    free_parts(&parts);
}
END_TEST

START_TEST(frozen_parameters_have_no_gradient)
{
    model_parts parts;
    cadft__parameters *p = &parts.parameters;
    const cadft__parameter *q, *k, *v;
    int64_t end = 0;
    plan("Llama", 0, &parts);
    cadft__parameters_freeze(context, p, "*", 0);
    ck_assert_int_eq(cadft__parameters_freeze(context, p, "*.1.*", 1), 9);
    cadft__parameters_freeze(context, p, "*.1.*k_proj*", 0);
    q = cadft__parameters_get(p, 1, CADFT__Q);
    k = cadft__parameters_get(p, 1, CADFT__K);
    v = cadft__parameters_get(p, 1, CADFT__V);
    ck_assert_int_eq(v->grad_offset, q->grad_offset + q->count);
    ck_assert_int_eq(k->grad_offset, -1);
    ck_assert_uint_eq(cadft__parameters_grad_bytes(p), 0);
    CHECK_OK(cadft__parameters_zero_grad(context, p, &err), err);
    ck_assert_ptr_nonnull(p->grads);
    ck_assert_ptr_null(cadft__parameters_grad(p, k).base);
    for (int64_t i = 0; i < p->count; i++) {
        cadft_array grad = cadft__parameters_grad(p, &p->list[i]);
        ck_assert_int_eq(grad.base != NULL, p->list[i].trainable);
        if (!grad.base)
            continue;
        ck_assert_int_ge(p->list[i].grad_offset, end);
        ck_assert_int_lt(p->list[i].grad_offset, end + 32);
        end = p->list[i].grad_offset + p->list[i].count;
        for (int64_t e = 0; e < p->list[i].count; e++)
            ck_assert(((float *)grad.base)[grad.offset / 4 + (uint64_t)e] == 0);
    }
    ck_assert_uint_eq(cadft__parameters_grad_bytes(p), (uint64_t)end * 4);
    /* a change frees them; of none there still is a block */
    ck_assert_int_eq(cadft__parameters_freeze(context, p, "nothing", 0), 0);
    ck_assert_ptr_nonnull(p->grads);
    cadft__parameters_freeze(context, p, "*", 0);
    ck_assert_ptr_null(p->grads);
    CHECK_OK(cadft__parameters_zero_grad(context, p, &err), err);
    ck_assert_ptr_nonnull(p->grads);
    ck_assert_uint_eq(cadft__parameters_grad_bytes(p), 4);
    free_parts(&parts);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("model_parameters");
    TCase *tcase = tcase_create("parameters");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, names_and_shapes);
    tcase_add_test(tcase, groups_have_no_gaps);
    tcase_add_test(tcase, patterns);
    tcase_add_test(tcase, frozen_parameters_have_no_gradient);
    suite_add_tcase(suite, tcase);
    return support_main(argc, argv, suite);
}
