/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: what is read from the variants that models have, that every
 * refused key is named, and the rotary table. */
#include <math.h>
#include <stdlib.h>

#include "model/config.h"
#include "model_text.h"

static cadft_error err;
static cadft__config config;

static int32_t parse(const char *text)
{
    err = support_error();
    return cadft__config_parse(text, strlen(text), "config.json", &config,
                               &err);
}

/* `changes`: "key=value" joined by ';', an empty value takes the key away. */
static int32_t parse_with(const char *family, const char *changes)
{
    model_text text = text_of(family);
    char copy[512], *change = copy, *next;
    ck_assert_uint_lt(strlen(changes), sizeof copy);
    strcpy(copy, changes);
    for (; change && *change; change = next) {
        char *value = strchr(change, '=');
        next = strchr(change, ';');
        if (next)
            *next++ = '\0';
        *value++ = '\0';
        text_set(&text, change, value);
    }
    return parse(text_json(&text));
}

/* ------------------------------------------------------- published models */

/* The keys of published config.json files, as far as they matter. */
static const char smollm2[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false,"
    "\"attention_dropout\": 0.0, \"bos_token_id\": 0, \"eos_token_id\": 0,"
    "\"hidden_act\": \"silu\", \"hidden_size\": 576,"
    "\"initializer_range\": 0.041666666666666664, \"intermediate_size\": 1536,"
    "\"is_llama_config\": true, \"max_position_embeddings\": 8192,"
    "\"model_type\": \"llama\", \"num_attention_heads\": 9,"
    "\"num_hidden_layers\": 30, \"num_key_value_heads\": 3,"
    "\"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05,"
    "\"rope_interleaved\": false, \"rope_scaling\": null,"
    "\"rope_theta\": 100000, \"tie_word_embeddings\": true,"
    "\"torch_dtype\": \"bfloat16\", \"use_cache\": true, \"vocab_size\": "
    "49152}";

static const char llama32[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"attention_bias\": false,"
    "\"head_dim\": 64, \"hidden_act\": \"silu\", \"hidden_size\": 2048,"
    "\"eos_token_id\": [128001, 128008], \"intermediate_size\": 8192,"
    "\"max_position_embeddings\": 131072, \"mlp_bias\": false,"
    "\"model_type\": \"llama\", \"num_attention_heads\": 32,"
    "\"num_hidden_layers\": 16, \"num_key_value_heads\": 8,"
    "\"rms_norm_eps\": 1e-05, \"rope_scaling\": {\"factor\": 32.0,"
    "\"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0,"
    "\"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"},"
    "\"rope_theta\": 500000.0, \"tie_word_embeddings\": true,"
    "\"torch_dtype\": \"bfloat16\", \"vocab_size\": 128256}";

static const char qwen25[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"hidden_act\": \"silu\","
    "\"hidden_size\": 896, \"intermediate_size\": 4864,"
    "\"max_position_embeddings\": 32768, \"max_window_layers\": 24,"
    "\"model_type\": \"qwen2\", \"num_attention_heads\": 14,"
    "\"num_hidden_layers\": 24, \"num_key_value_heads\": 2,"
    "\"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000.0,"
    "\"sliding_window\": 32768, \"tie_word_embeddings\": true,"
    "\"use_mrope\": false, \"use_sliding_window\": false,"
    "\"torch_dtype\": \"float16\", \"vocab_size\": 151936}";

/* As transformers 5 writes it. */
static const char qwen3[] =
    "{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false,"
    "\"dtype\": \"float32\", \"head_dim\": 128, \"hidden_size\": 1024,"
    "\"intermediate_size\": 3072, \"layer_types\": [\"full_attention\","
    "\"full_attention\"], \"max_position_embeddings\": 40960,"
    "\"max_window_layers\": 28, \"model_type\": \"qwen3\","
    "\"num_attention_heads\": 16, \"num_hidden_layers\": 2,"
    "\"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-06,"
    "\"rope_parameters\": {\"rope_theta\": 1000000, \"rope_type\":"
    "\"default\"}, \"sliding_window\": null, \"tie_word_embeddings\": false,"
    "\"use_sliding_window\": false, \"vocab_size\": 151936}";

static const char mistral[] =
    "{\"architectures\": [\"MistralForCausalLM\"], \"hidden_act\": \"silu\","
    "\"hidden_size\": 4096, \"intermediate_size\": 14336,"
    "\"max_position_embeddings\": 32768, \"model_type\": \"mistral\","
    "\"num_attention_heads\": 32, \"num_hidden_layers\": 32,"
    "\"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-05,"
    "\"rope_theta\": 10000.0, \"sliding_window\": 4096,"
    "\"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\","
    "\"vocab_size\": 32000}";

START_TEST(published_configs)
{
    static const struct {
        const char *text;
        cadft__config expected;
    } cases[] = {
        {smollm2,
         {49152,
          576,
          30,
          9,
          3,
          64,
          1536,
          8192,
          0,
          1e-5,
          0.041666666666666664,
          1,
          0,
          0,
          0,
          0,
          CADFT__ROPE_PLAIN,
          1e5,
          1,
          0,
          0,
          0,
          CADFT_DTYPE_BF16}},
        {llama32,
         {128256,
          2048,
          16,
          32,
          8,
          64,
          8192,
          131072,
          0,
          1e-5,
          0.02,
          1,
          0,
          0,
          0,
          0,
          CADFT__ROPE_LLAMA3,
          5e5,
          32,
          1,
          4,
          8192,
          CADFT_DTYPE_BF16}},
        {qwen25,
         {151936,
          896,
          24,
          14,
          2,
          64,
          4864,
          32768,
          0,
          1e-6,
          0.02,
          1,
          1,
          0,
          0,
          0,
          CADFT__ROPE_PLAIN,
          1e6,
          1,
          0,
          0,
          0,
          CADFT_DTYPE_F16}},
        {qwen3,
         {151936,
          1024,
          2,
          16,
          8,
          128,
          3072,
          40960,
          0,
          1e-6,
          0.02,
          0,
          0,
          0,
          0,
          1,
          CADFT__ROPE_PLAIN,
          1e6,
          1,
          0,
          0,
          0,
          CADFT_DTYPE_F32}},
        {mistral,
         {32000,
          4096,
          32,
          32,
          8,
          128,
          14336,
          32768,
          4096,
          1e-5,
          0.02,
          0,
          0,
          0,
          0,
          0,
          CADFT__ROPE_PLAIN,
          1e4,
          1,
          0,
          0,
          0,
          CADFT_DTYPE_BF16}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cadft__config *want = &cases[i].expected;
        CHECK_OK(parse(cases[i].text), err);
#define SAME(field)                                                            \
    ck_assert_msg(config.field == want->field, "%zu: " #field " is %g", i,     \
                  (double)config.field)
        SAME(vocab), SAME(hidden), SAME(layers), SAME(heads), SAME(kv_heads);
        SAME(head_dim), SAME(intermediate), SAME(positions), SAME(window);
        SAME(norm_eps), SAME(initializer_range), SAME(tied), SAME(qkv_bias);
        SAME(out_bias), SAME(mlp_bias), SAME(qk_norm), SAME(rope_kind);
        SAME(rope_theta), SAME(rope_factor), SAME(rope_low), SAME(rope_high);
        SAME(rope_original), SAME(stored_dtype);
#undef SAME
    }
}
END_TEST

/* ---------------------------------------------------------------- variants */

enum { KV_HEADS, HEAD_DIM, WINDOW, TIED, QKV_BIAS, OUT_BIAS, MLP_BIAS, THETA };

static double field(int which)
{
    const double fields[] = {
        [KV_HEADS] = (double)config.kv_heads,
        [HEAD_DIM] = (double)config.head_dim,
        [WINDOW] = (double)config.window,
        [TIED] = config.tied,
        [QKV_BIAS] = config.qkv_bias,
        [OUT_BIAS] = config.out_bias,
        [MLP_BIAS] = config.mlp_bias,
        [THETA] = config.rope_theta,
    };
    return fields[which];
}

START_TEST(defaults_and_variants)
{
    static const struct {
        const char *family, *changes;
        int field;
        double expected;
    } cases[] = {
        {"Llama", "num_key_value_heads=", KV_HEADS, 4},
        {"Llama", "num_key_value_heads=null", KV_HEADS, 4},
        {"Mistral", "num_key_value_heads=null", KV_HEADS, 4},
        {"Mistral", "num_key_value_heads=;num_attention_heads=16", KV_HEADS, 8},
        {"Llama", "head_dim=null", HEAD_DIM, 4},
        {"Llama", "head_dim=;hidden_size=40", HEAD_DIM, 10},
        {"Llama", "head_dim=10", HEAD_DIM, 10},
        {"Qwen3", "head_dim=", HEAD_DIM, 128},
        {"Llama", "tie_word_embeddings=true", TIED, 1},
        {"Llama", "", TIED, 0},
        {"Llama", "attention_bias=true", QKV_BIAS, 1},
        {"Llama", "attention_bias=true", OUT_BIAS, 1},
        {"Llama", "mlp_bias=true", MLP_BIAS, 1},
        {"Qwen2", "", QKV_BIAS, 1},
        {"Qwen2", "attention_bias=true", OUT_BIAS, 0},
        {"Qwen2", "mlp_bias=true", MLP_BIAS, 0},
        {"Qwen3", "attention_bias=true", QKV_BIAS, 1},
        {"Mistral", "attention_bias=true", QKV_BIAS, 0},
        {"Mistral", "sliding_window=", WINDOW, 4096},
        {"Mistral", "sliding_window=7", WINDOW, 7},
        {"Mistral", "", WINDOW, 0},
        {"Llama", "sliding_window=7", WINDOW, 0},
        {"Qwen2", "sliding_window=7", WINDOW, 0},
        {"Qwen2", "sliding_window=7;use_sliding_window=true", WINDOW, 0},
        {"Qwen2",
         "sliding_window=7;use_sliding_window=true;"
         "max_window_layers=0",
         WINDOW, 7},
        {"Qwen2",
         "sliding_window=7;use_sliding_window=true;"
         "max_window_layers=2",
         WINDOW, 0},
        {"Qwen3",
         "sliding_window=7;use_sliding_window=true;layer_types="
         "[\"sliding_attention\", \"sliding_attention\"]",
         WINDOW, 7},
        {"Qwen3", "use_sliding_window=true;max_window_layers=0", WINDOW, 0},
        {"Llama", "", THETA, 10000},
        {"Llama", "rope_theta=5", THETA, 5},
        {"Llama", "rope_parameters={\"rope_theta\": 6}", THETA, 6},
        {"Llama", "rope_theta=6;rope_parameters={\"rope_theta\": 6.0}", THETA,
         6},
        {"Llama", "rope_scaling={\"type\": \"linear\", \"factor\": 2}", THETA,
         10000},
        {"Llama", "rope_scaling={};partial_rotary_factor=1.0", THETA, 10000},
        {"Llama", "pretraining_tp=4;auto_map={};quantization_config=null",
         THETA, 10000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_OK(parse_with(cases[i].family, cases[i].changes), err);
        ck_assert_msg(field(cases[i].field) == cases[i].expected,
                      "%s with %s: %g", cases[i].family, cases[i].changes,
                      field(cases[i].field));
    }
    CHECK_OK(parse_with("Llama", "rope_scaling={\"type\": \"linear\","
                                 "\"factor\": 2.5}"),
             err);
    ck_assert_int_eq(config.rope_kind, CADFT__ROPE_LINEAR);
    ck_assert_double_eq(config.rope_factor, 2.5);
}
END_TEST

/* ----------------------------------------------------------------- refused */

static const struct {
    const char *family, *changes;
    int32_t status;
    const char *named;
} refused[] = {
#define FORMAT CADFT_E_FORMAT
#define UNSUPPORTED CADFT_E_UNSUPPORTED
    {"Gemma", "", UNSUPPORTED, "architectures[0]"},
    {"Llama", "architectures=", FORMAT, "architectures"},
    {"Llama", "architectures=[]", FORMAT, "architectures"},
    {"Llama", "architectures=\"LlamaForCausalLM\"", FORMAT, "architectures"},
    {"Llama", "architectures=[1]", FORMAT, "architectures[0]"},
    {"Llama", "architectures=[\"LlamaForCausalLM\", \"X\"]", FORMAT,
     "architectures"},
    {"Llama", "model_type=", FORMAT, "model_type"},
    {"Llama", "model_type=\"qwen2\"", FORMAT, "model_type"},
    {"Llama", "vocab_size=", FORMAT, "vocab_size"},
    {"Llama", "vocab_size=0", FORMAT, "vocab_size"},
    {"Llama", "vocab_size=-1", FORMAT, "vocab_size"},
    {"Llama", "vocab_size=2147483648", FORMAT, "vocab_size"},
    {"Llama", "vocab_size=40.0", FORMAT, "vocab_size"},
    {"Llama", "vocab_size=\"40\"", FORMAT, "vocab_size"},
    {"Llama", "hidden_size=9223372036854775807", FORMAT, "hidden_size"},
    {"Llama", "hidden_size=99999999999999999999", FORMAT, "line"},
    {"Llama", "num_hidden_layers=16385", FORMAT, "num_hidden_layers"},
    {"Llama", "num_attention_heads=true", FORMAT, "num_attention_heads"},
    {"Llama", "num_attention_heads=5", FORMAT, "num_attention_heads"},
    {"Llama", "num_key_value_heads=0", FORMAT, "num_key_value_heads"},
    {"Llama", "num_key_value_heads=3", FORMAT, "num_key_value_heads"},
    {"Llama", "intermediate_size=null", FORMAT, "intermediate_size"},
    {"Llama", "max_position_embeddings=[]", FORMAT, "max_position_embeddings"},
    {"Llama", "head_dim=5", FORMAT, "head_dim"},
    {"Llama", "head_dim=;hidden_size=18", FORMAT, "hidden_size"},
    {"Llama", "head_dim=;hidden_size=12", FORMAT, "head_dim"},
    {"Qwen3", "head_dim=null", FORMAT, "head_dim"},
    {"Llama", "head_dim=2147483646", FORMAT, "num_attention_heads * head_dim"},
    {"Llama", "vocab_size=2147483647;hidden_size=2147483644", FORMAT,
     "hidden_size"},
    {"Llama", "vocab_size=2147483647;hidden_size=2048", FORMAT, "vocab_size"},
    {"Llama", "intermediate_size=2147483647;hidden_size=2048", FORMAT,
     "intermediate_size"},
    {"Llama", "rms_norm_eps=-1e-5", FORMAT, "rms_norm_eps"},
    {"Llama", "rms_norm_eps=1e999", FORMAT, "line"},
    {"Llama", "initializer_range=2", FORMAT, "initializer_range"},
    {"Llama", "tie_word_embeddings=1", FORMAT, "tie_word_embeddings"},
    {"Llama", "attention_bias=\"no\"", FORMAT, "attention_bias"},
    {"Llama", "mlp_bias=0", FORMAT, "mlp_bias"},
    {"Llama", "hidden_act=\"gelu\"", UNSUPPORTED, "hidden_act"},
    {"Llama", "hidden_act=7", FORMAT, "hidden_act"},
    {"Llama", "dtype=\"float8_e4m3fn\"", UNSUPPORTED, "dtype"},
    {"Llama", "torch_dtype=\"float64\"", UNSUPPORTED, "torch_dtype"},
    {"Llama", "quantization_config={}", UNSUPPORTED, "quantization_config"},
    {"Llama", "compression_config={}", UNSUPPORTED, "compression_config"},
    {"Llama", "partial_rotary_factor=0.5", UNSUPPORTED,
     "partial_rotary_factor"},
    {"Llama", "attention_dropout=0.1", UNSUPPORTED, "attention_dropout"},
    {"Llama", "is_causal=false", UNSUPPORTED, "is_causal"},
    {"Mistral", "sliding_window=0", FORMAT, "sliding_window"},
    {"Mistral", "sliding_window=\"all\"", FORMAT, "sliding_window"},
    {"Mistral", "layer_types=[\"sliding_attention\", \"sliding_attention\"]",
     UNSUPPORTED, "layer_types"},
    {"Mistral",
     "sliding_window=3;layer_types=[\"full_attention\", "
     "\"full_attention\"]",
     UNSUPPORTED, "layer_types"},
    {"Qwen2", "layer_types=[\"full_attention\"]", FORMAT, "layer_types"},
    {"Qwen2", "layer_types=[]", FORMAT, "layer_types"},
    {"Qwen2", "layer_types=[\"full_attention\", \"sliding_attention\"]",
     UNSUPPORTED, "layer_types[1]"},
    {"Qwen2", "layer_types=[\"chunked_attention\"]", UNSUPPORTED,
     "layer_types[0]"},
    {"Qwen2", "layer_types=[2, 3]", FORMAT, "layer_types[0]"},
    {"Qwen2", "layer_types={}", FORMAT, "layer_types"},
    {"Qwen2", "sliding_window=7;use_sliding_window=true;max_window_layers=1",
     UNSUPPORTED, "max_window_layers"},
    {"Qwen2", "use_sliding_window=\"yes\"", FORMAT, "use_sliding_window"},
    {"Llama", "rope_theta=0", FORMAT, "rope_theta"},
    {"Llama", "rope_theta=6;rope_parameters={\"rope_theta\": 7}", FORMAT,
     "rope_parameters.rope_theta"},
    {"Llama", "rope_scaling=[]", FORMAT, "rope_scaling"},
    {"Llama", "rope_scaling={};rope_parameters={}", UNSUPPORTED,
     "rope_scaling"},
    {"Llama", "rope_scaling={\"factor\": 2}", FORMAT, "rope_scaling.rope_type"},
    {"Llama", "rope_scaling={\"rope_type\": \"yarn\", \"factor\": 2}",
     UNSUPPORTED, "rope_scaling.rope_type is yarn"},
    {"Llama", "rope_scaling={\"type\": \"dynamic\", \"factor\": 2}",
     UNSUPPORTED, "rope_scaling.type is dynamic"},
    {"Llama", "rope_scaling={\"type\": 3}", FORMAT, "rope_scaling.type"},
    {"Llama", "rope_scaling={\"type\": \"linear\"}", FORMAT,
     "rope_scaling.factor"},
    {"Llama", "rope_scaling={\"type\": \"linear\", \"factor\": 0}", FORMAT,
     "rope_scaling.factor"},
    {"Llama", "rope_scaling={\"type\": \"llama3\", \"factor\": 2}", FORMAT,
     "rope_scaling.low_freq_factor"},
    {"Llama",
     "rope_scaling={\"type\": \"llama3\", \"factor\": 2, "
     "\"low_freq_factor\": 4, \"high_freq_factor\": 4, "
     "\"original_max_position_embeddings\": 8}",
     FORMAT, "high_freq_factor"},
    {"Llama", "rope_parameters={\"partial_rotary_factor\": 0.5}", UNSUPPORTED,
     "rope_parameters.partial_rotary_factor"},
    {"Qwen3", "rope_parameters={\"full_attention\": {}}", UNSUPPORTED,
     "rope_parameters.full_attention"},
#undef FORMAT
#undef UNSUPPORTED
};

START_TEST(refusals_name_the_key)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        static const cadft__config nothing;
        int32_t status = parse_with(refused[i].family, refused[i].changes);
        ck_assert_msg(status == refused[i].status, "%s with %s: %s, %s",
                      refused[i].family, refused[i].changes,
                      cadft_status_string(status), err.message);
        ck_assert_msg(strstr(err.message, "config.json") &&
                          strstr(err.message, refused[i].named),
                      "%s with %s: \"%s\"", refused[i].family,
                      refused[i].changes, err.message);
        ck_assert_mem_eq(&config, &nothing, sizeof config);
    }
}
END_TEST

START_TEST(texts_that_are_no_object)
{
    static const char *const texts[] = {
        "",     "[]",
        "null", "{",
        "{}}",  "{\"a\": 1, \"a\": 1}",
        "\xff", "{\"architectures\": [\"LlamaForCausalLM\\u0000\"]}"};
    char *deep = (char *)malloc(100001);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK_STATUS(parse(texts[i]), CADFT_E_FORMAT, err);
    memset(deep, '[', 100000);
    memcpy(deep, "{\"a\":", 5);
    deep[100000] = '\0';
    CHECK_STATUS(parse(deep), CADFT_E_FORMAT, err);
    free(deep);
    deep = (char *)calloc(1, CADFT__CONFIG_MOST + 1);
    CHECK_STATUS(
        cadft__config_parse(deep, CADFT__CONFIG_MOST + 1, "c", &config, &err),
        CADFT_E_FORMAT, err);
    free(deep);
}
END_TEST

/* -------------------------------------------------------------------- rope */

enum { POSITIONS = 4096 };

/* The angles in double. The float32 inverse frequency is within 3 roundings
 * (power, reciprocal, factor) of it, llama3's blend within 12, and the angle
 * and the cosine have one each. */
static void check_rope(const double *frequencies, double roundings)
{
    int64_t half = config.head_dim / 2;
    float *table =
        (float *)malloc(POSITIONS * (size_t)config.head_dim * sizeof *table);
    cadft__rope_table(&config, POSITIONS, table);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t i = 0; i < half; i++) {
            const float *row = table + p * config.head_dim;
            double angle = (double)p * frequencies[i];
            double bound = (angle * (roundings + 1) + 1) * 0x1p-24 * 1.001;
            ck_assert_double_le(fabs(row[i] - cos(angle)), bound);
            ck_assert_double_le(fabs(row[half + i] - sin(angle)), bound);
        }
    free(table);
}

START_TEST(rope_tables)
{
    double plain[32], scaled[32];
    int seen[3] = {0};
    CHECK_OK(parse_with("Llama", "head_dim=64;rope_theta=500000"), err);
    for (int i = 0; i < 32; i++)
        plain[i] = pow(500000, -i / 32.0);
    check_rope(plain, 3);
    CHECK_OK(parse_with("Llama", "head_dim=64;rope_theta=500000;rope_scaling="
                                 "{\"type\": \"linear\", \"factor\": 8}"),
             err);
    for (int i = 0; i < 32; i++)
        scaled[i] = plain[i] / 8;
    check_rope(scaled, 3);
    CHECK_OK(parse_with("Llama",
                        "head_dim=64;rope_theta=500000;rope_scaling="
                        "{\"rope_type\": \"llama3\", \"factor\": 32, "
                        "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                        "\"original_max_position_embeddings\": 8192}"),
             err);
    for (int i = 0; i < 32; i++) {
        /* turns of the circle in the original context */
        double turns = 8192 * plain[i] / 6.283185307179586;
        double blend = (turns - 1) / 3;
        seen[turns < 1 ? 0 : turns > 4 ? 1 : 2]++;
        blend = fmin(fmax(blend, 0), 1);
        scaled[i] = plain[i] * (blend + (1 - blend) / 32);
    }
    ck_assert(seen[0] && seen[1] && seen[2]);
    check_rope(scaled, 12);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("model_config");
    TCase *tcase = tcase_create("config");
    tcase_add_test(tcase, published_configs);
    tcase_add_test(tcase, defaults_and_variants);
    tcase_add_test(tcase, refusals_name_the_key);
    tcase_add_test(tcase, texts_that_are_no_object);
    tcase_add_test(tcase, rope_tables);
    suite_add_tcase(suite, tcase);
    return support_main(argc, argv, suite);
}
