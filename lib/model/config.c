/* SPDX-License-Identifier: Apache-2.0 */
/* The defaults are those of transformers' configuration classes. */
#include "model/config.h"

#include <stdio.h>
#include <string.h>

#include "common/error.h"
#include "io/json.h"

#define SIZE_MOST INT32_MAX
#define MATRIX_MOST ((int64_t)1 << 40)

enum {
    LAYERS_MOST = 1 << 14,
    WINDOW_DEFAULT = 4096,
    WINDOW_LAYERS_DEFAULT = 28
};

/* Has a family this feature? */
enum { NEVER, ALWAYS, BY_KEY };

struct family {
    const char *architecture, *model_type;
    int64_t kv_heads; /* when the key is absent; 0: as many as heads */
    int64_t head_dim; /* when the key is absent; 0: hidden / heads */
    int32_t qkv_bias, out_bias; /* attention_bias */
    int32_t mlp_bias;
    int32_t qk_norm;
    int32_t window; /* use_sliding_window */
};

static const struct family families[] = {
    {"LlamaForCausalLM", "llama", 0, 0, BY_KEY, BY_KEY, BY_KEY, 0, NEVER},
    {"Qwen2ForCausalLM", "qwen2", 32, 0, ALWAYS, NEVER, NEVER, 0, BY_KEY},
    {"Qwen3ForCausalLM", "qwen3", 32, 128, BY_KEY, BY_KEY, NEVER, 1, BY_KEY},
    {"MistralForCausalLM", "mistral", 8, 0, NEVER, NEVER, NEVER, 0, ALWAYS},
};

static const double zero = 0, one = 1;
static const int32_t no = 0, yes = 1;

/* KEY is VALUE, which is not here. */
static int32_t refuse(const cadft__json *json,
                      const char *key,
                      const char *value,
                      const char *expected,
                      cadft_error *error)
{
    return cadft__fail(error, CADFT_E_UNSUPPORTED,
                       "%s: %s%s is %s, which is not supported; expected %s",
                       json->file.text, json->inside.text, key,
                       cadft__show(value).text, expected);
}

static int32_t
malformed(const cadft__json *json, const char *what, cadft_error *error)
{
    return cadft__fail(error, CADFT_E_FORMAT, "%s: %s%s", json->file.text,
                       json->inside.text, what);
}

/* ----------------------------------------------------------- architecture */

static int32_t read_family(const cadft__json *json,
                           const struct family **out,
                           cadft_error *error)
{
    static const char expected[] = "LlamaForCausalLM, Qwen2ForCausalLM, "
                                   "Qwen3ForCausalLM or MistralForCausalLM";
    const char *name, *more, *type;
    int32_t status =
        cadft__json_text_at(json, "architectures", 0, &name, error);
    if (!status && name)
        status = cadft__json_text_at(json, "architectures", 1, &more, error);
    if (status)
        return status;
    if (!name || more)
        return malformed(json, "architectures must be one name", error);
    *out = NULL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(name, families[i].architecture) == 0)
            *out = &families[i];
    if (!*out)
        return refuse(json, "architectures[0]", name, expected, error);
    status = cadft__json_text(json, "model_type", NULL, &type, error);
    if (!status && strcmp(type, (*out)->model_type) != 0)
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s: model_type is \"%s\", expected \"%s\", the "
                             "type of %s",
                             json->file.text, cadft__show(type).text,
                             (*out)->model_type, name);
    return status;
}

/* ------------------------------------------------------------------ sizes */

/* A key that may be absent or null, which need not mean the same. */
static int32_t read_heads(const cadft__json *json,
                          const struct family *family,
                          cadft__config *c,
                          cadft_error *error)
{
    int there = cadft__json_present(json, "num_key_value_heads");
    int64_t kv = there || !family->kv_heads ? c->heads : family->kv_heads;
    int64_t dim = family->head_dim;
    int32_t status = cadft__json_i64(json, "num_key_value_heads", 1, SIZE_MOST,
                                     &kv, &c->kv_heads, error);
    if (status)
        return status;
    if (c->heads % c->kv_heads)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: num_attention_heads is %lld, expected a "
                           "multiple of num_key_value_heads, %lld",
                           json->file.text, (long long)c->heads,
                           (long long)c->kv_heads);
    if (dim && cadft__json_present(json, "head_dim") &&
        !cadft__json_has(json, "head_dim"))
        return malformed(json, "head_dim is null, expected a number", error);
    if (!dim && !cadft__json_has(json, "head_dim")) {
        if (c->hidden % c->heads)
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: hidden_size is %lld, expected a multiple "
                               "of num_attention_heads, %lld, or head_dim",
                               json->file.text, (long long)c->hidden,
                               (long long)c->heads);
        dim = c->hidden / c->heads;
    }
    status = cadft__json_i64(json, "head_dim", 1, SIZE_MOST, &dim, &c->head_dim,
                             error);
    if (!status && c->head_dim % 2)
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s: head_dim is %lld, expected an even number",
                             json->file.text, (long long)c->head_dim);
    return status;
}

/* Matrices of a size that no product or sum overflows on. No factor is over
 * SIZE_MOST. */
static int32_t check_products(const cadft__json *json,
                              const cadft__config *c,
                              cadft_error *error)
{
    const struct {
        const char *what;
        int64_t a, b, most;
    } products[] = {
        {"num_attention_heads * head_dim", c->heads, c->head_dim, SIZE_MOST},
        {"num_attention_heads * head_dim * hidden_size", c->heads * c->head_dim,
         c->hidden, MATRIX_MOST},
        {"vocab_size * hidden_size", c->vocab, c->hidden, MATRIX_MOST},
        {"intermediate_size * hidden_size", c->intermediate, c->hidden,
         MATRIX_MOST},
    };
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (products[i].a * products[i].b > products[i].most)
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %s is %lld, expected at most %lld",
                               json->file.text, products[i].what,
                               (long long)(products[i].a * products[i].b),
                               (long long)products[i].most);
    return CADFT_OK;
}

static int32_t read_sizes(const cadft__json *json,
                          const struct family *family,
                          cadft__config *c,
                          cadft_error *error)
{
    const struct {
        const char *key;
        int64_t most, *out;
    } sizes[] = {
        {"vocab_size", SIZE_MOST, &c->vocab},
        {"hidden_size", SIZE_MOST, &c->hidden},
        {"num_hidden_layers", LAYERS_MOST, &c->layers},
        {"num_attention_heads", SIZE_MOST, &c->heads},
        {"intermediate_size", SIZE_MOST, &c->intermediate},
        {"max_position_embeddings", SIZE_MOST, &c->positions},
    };
    int32_t status = CADFT_OK;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !status; i++)
        status = cadft__json_i64(json, sizes[i].key, 1, sizes[i].most, NULL,
                                 sizes[i].out, error);
    if (!status)
        status = read_heads(json, family, c, error);
    if (!status)
        status = check_products(json, c, error);
    return status;
}

/* --------------------------------------------------------------- features */

static int32_t read_flag(const cadft__json *json,
                         const char *key,
                         int32_t feature,
                         int32_t *out,
                         cadft_error *error)
{
    *out = feature == ALWAYS;
    if (feature != BY_KEY)
        return CADFT_OK;
    return cadft__json_bool(json, key, &no, out, error);
}

static int32_t read_features(const cadft__json *json,
                             const struct family *family,
                             cadft__config *c,
                             cadft_error *error)
{
    static const double eps = 1e-6, range = 0.02;
    const char *act;
    int32_t status = cadft__json_text(json, "hidden_act", "silu", &act, error);
    if (!status && strcmp(act, "silu") != 0)
        status = refuse(json, "hidden_act", act, "silu", error);
    if (!status)
        status = cadft__json_f64(json, "rms_norm_eps", 0, 1, &eps, &c->norm_eps,
                                 error);
    if (!status)
        status = cadft__json_f64(json, "initializer_range", 0, 1, &range,
                                 &c->initializer_range, error);
    if (!status)
        status =
            cadft__json_bool(json, "tie_word_embeddings", &no, &c->tied, error);
    if (!status)
        status = read_flag(json, "attention_bias", family->qkv_bias,
                           &c->qkv_bias, error);
    if (!status)
        status = read_flag(json, "attention_bias", family->out_bias,
                           &c->out_bias, error);
    if (!status)
        status =
            read_flag(json, "mlp_bias", family->mlp_bias, &c->mlp_bias, error);
    c->qk_norm = family->qk_norm;
    return status;
}

/* A number that changes the result unless it is `neutral`. */
static int32_t check_neutral(const cadft__json *json,
                             const char *key,
                             double neutral,
                             cadft_error *error)
{
    double value;
    char shown[32], expected[32];
    int32_t status =
        cadft__json_f64(json, key, -1e9, 1e9, &neutral, &value, error);
    if (status || value == neutral)
        return status;
    snprintf(shown, sizeof shown, "%g", value);
    snprintf(expected, sizeof expected, "%g", neutral);
    return refuse(json, key, shown, expected, error);
}

/* What transformers would obey and the library does not do. */
static int32_t check_refused(const cadft__json *json, cadft_error *error)
{
    static const char *const objects[] = {"quantization_config",
                                          "compression_config"};
    int32_t causal, status;
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (cadft__json_has(json, objects[i]))
            return refuse(json, objects[i], "set", "plain weights", error);
    status = check_neutral(json, "partial_rotary_factor", one, error);
    if (!status)
        status = check_neutral(json, "attention_dropout", zero, error);
    if (!status)
        status = cadft__json_bool(json, "is_causal", &yes, &causal, error);
    if (!status && !causal)
        status = refuse(json, "is_causal", "false", "true", error);
    return status;
}

static int32_t
read_dtype(const cadft__json *json, cadft__config *c, cadft_error *error)
{
    static const struct {
        const char *name;
        int32_t dtype;
    } known[] = {{"float32", CADFT_DTYPE_F32},
                 {"bfloat16", CADFT_DTYPE_BF16},
                 {"float16", CADFT_DTYPE_F16}};
    const char *key = cadft__json_has(json, "dtype") ? "dtype" : "torch_dtype";
    const char *name;
    int32_t status = cadft__json_text(json, key, "", &name, error);
    c->stored_dtype = 0;
    if (status || !*name)
        return status;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0)
            c->stored_dtype = known[i].dtype;
    return c->stored_dtype
               ? CADFT_OK
               : refuse(json, key, name, "float32, bfloat16 or float16", error);
}

/* ----------------------------------------------------------------- window */

/* layer_types: are all layers alike, and of which kind? *out is -1 without
 * the key, else 1 for a sliding window. */
static int32_t read_layer_types(const cadft__json *json,
                                int64_t layers,
                                int32_t *out,
                                cadft_error *error)
{
    char key[40];
    int64_t n = 0;
    *out = -1;
    for (;; n++) {
        const char *type;
        int32_t sliding, status = cadft__json_text_at(json, "layer_types",
                                                      (size_t)n, &type, error);
        if (status)
            return status;
        if (!type)
            break;
        sliding = strcmp(type, "sliding_attention") == 0;
        snprintf(key, sizeof key, "layer_types[%lld]", (long long)n);
        if (!sliding && strcmp(type, "full_attention") != 0)
            return refuse(json, key, type,
                          "full_attention or sliding_attention", error);
        if (*out >= 0 && *out != sliding)
            return refuse(json, key, type, "the same for all layers", error);
        *out = sliding;
    }
    if (cadft__json_has(json, "layer_types") && n != layers)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: layer_types has %lld elements, expected "
                           "num_hidden_layers, %lld",
                           json->file.text, (long long)n, (long long)layers);
    return CADFT_OK;
}

/* Qwen's way to say which layers have a window: those from
 * max_window_layers on. */
static int32_t read_window_layers(const cadft__json *json,
                                  int64_t layers,
                                  int32_t *sliding,
                                  cadft_error *error)
{
    static const int64_t standard = WINDOW_LAYERS_DEFAULT;
    char shown[32];
    int64_t first;
    int32_t status = cadft__json_i64(json, "max_window_layers", 0, SIZE_MOST,
                                     &standard, &first, error);
    if (status)
        return status;
    *sliding = first == 0;
    if (first == 0 || first >= layers)
        return CADFT_OK;
    snprintf(shown, sizeof shown, "%lld", (long long)first);
    return refuse(json, "max_window_layers", shown,
                  "0 or at least num_hidden_layers", error);
}

static int32_t read_window(const cadft__json *json,
                           const struct family *family,
                           cadft__config *c,
                           cadft_error *error)
{
    static const int64_t standard = WINDOW_DEFAULT;
    int32_t has, sliding, by_types;
    int32_t status =
        read_flag(json, "use_sliding_window", family->window, &has, error);
    c->window = 0;
    if (!status)
        status = read_layer_types(json, c->layers, &by_types, error);
    /* null is none, an absent key is the default */
    has = has && (cadft__json_has(json, "sliding_window") ||
                  !cadft__json_present(json, "sliding_window"));
    sliding = has;
    if (!status && has && family->window == BY_KEY && by_types < 0)
        status = read_window_layers(json, c->layers, &sliding, error);
    else if (!status && has && family->window == BY_KEY)
        sliding = by_types;
    else if (!status && by_types >= 0 && by_types != has)
        status = refuse(json, "layer_types",
                        by_types ? "sliding_attention" : "full_attention",
                        "what sliding_window says", error);
    if (!status && sliding)
        status = cadft__json_i64(json, "sliding_window", 1, SIZE_MOST,
                                 &standard, &c->window, error);
    return status;
}

/* ------------------------------------------------------------------- rope */

static int32_t
read_llama3(const cadft__json *rope, cadft__config *c, cadft_error *error)
{
    int32_t status = cadft__json_f64(rope, "low_freq_factor", 1e-6, 1e6, NULL,
                                     &c->rope_low, error);
    if (!status)
        status = cadft__json_f64(rope, "high_freq_factor", 1e-6, 1e6, NULL,
                                 &c->rope_high, error);
    if (!status)
        status = cadft__json_f64(rope, "original_max_position_embeddings", 1,
                                 SIZE_MOST, NULL, &c->rope_original, error);
    if (!status && !(c->rope_high > c->rope_low))
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s: %shigh_freq_factor is %g, expected more than "
                             "low_freq_factor, %g",
                             rope->file.text, rope->inside.text, c->rope_high,
                             c->rope_low);
    return status;
}

static int32_t
read_rope_kind(const cadft__json *rope, cadft__config *c, cadft_error *error)
{
    const char *key = cadft__json_has(rope, "rope_type") ? "rope_type" : "type";
    const char *kind;
    int32_t status = cadft__json_text(rope, key, "", &kind, error);
    if (status)
        return status;
    if (!*kind && cadft__json_has(rope, "factor"))
        return malformed(rope, "rope_type is missing beside factor", error);
    if (!*kind || strcmp(kind, "default") == 0)
        return CADFT_OK;
    if (strcmp(kind, "linear") == 0)
        c->rope_kind = CADFT__ROPE_LINEAR;
    else if (strcmp(kind, "llama3") == 0)
        c->rope_kind = CADFT__ROPE_LLAMA3;
    else
        return refuse(rope, key, kind, "default, linear or llama3", error);
    status = cadft__json_f64(rope, "factor", 1e-6, 1e6, NULL, &c->rope_factor,
                             error);
    if (!status && c->rope_kind == CADFT__ROPE_LLAMA3)
        status = read_llama3(rope, c, error);
    return status;
}

/* The object that transformers of any version looks at; NULL value: none. */
static int32_t
find_rope(const cadft__json *json, cadft__json *out, cadft_error *error)
{
    cadft__json older;
    int32_t status = cadft__json_object(json, "rope_parameters", 1, out, error);
    if (!status)
        status = cadft__json_object(json, "rope_scaling", 1, &older, error);
    if (status)
        return status;
    if (out->value && older.value)
        return refuse(json, "rope_scaling", "beside rope_parameters",
                      "one of the two", error);
    if (older.value)
        *out = older;
    return CADFT_OK;
}

static int32_t
read_rope(const cadft__json *json, cadft__config *c, cadft_error *error)
{
    static const char *const kinds[] = {"full_attention", "sliding_attention"};
    static const double standard = 10000;
    double inner;
    cadft__json rope;
    int32_t status = find_rope(json, &rope, error);
    if (!status)
        status = cadft__json_f64(json, "rope_theta", 1, 1e15, &standard,
                                 &c->rope_theta, error);
    c->rope_factor = 1;
    if (status || !rope.value)
        return status;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (cadft__json_has(&rope, kinds[i]))
            return refuse(&rope, kinds[i], "set", "the same for all layers",
                          error);
    status = cadft__json_f64(&rope, "rope_theta", 1, 1e15, &c->rope_theta,
                             &inner, error);
    if (!status && cadft__json_has(json, "rope_theta") &&
        inner != c->rope_theta)
        status =
            malformed(&rope, "rope_theta is not the rope_theta outside", error);
    if (!status) {
        c->rope_theta = inner;
        status = check_neutral(&rope, "partial_rotary_factor", one, error);
    }
    if (!status)
        status = read_rope_kind(&rope, c, error);
    return status;
}

/* ------------------------------------------------------------------ parse */

static int32_t
read_all(const cadft__json *json, cadft__config *out, cadft_error *error)
{
    const struct family *family = NULL;
    int32_t status = read_family(json, &family, error);
    if (status)
        return status;
    status = check_refused(json, error);
    if (!status)
        status = read_sizes(json, family, out, error);
    if (!status)
        status = read_features(json, family, out, error);
    if (!status)
        status = read_dtype(json, out, error);
    if (!status)
        status = read_window(json, family, out, error);
    if (!status)
        status = read_rope(json, out, error);
    return status;
}

int32_t cadft__config_parse(const char *text,
                            size_t length,
                            const char *name,
                            cadft__config *out,
                            cadft_error *error)
{
    const cadft__shown shown = cadft__show(name);
    cadft__json json;
    int32_t status;
    memset(out, 0, sizeof *out);
    if (length > CADFT__CONFIG_MOST)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s has %zu bytes, expected at most %d", shown.text,
                           length, CADFT__CONFIG_MOST);
    status = cadft__json_parse(&shown, text, length, &json, error);
    if (status)
        return status;
    status = read_all(&json, out, error);
    cadft__json_free(&json);
    if (status)
        memset(out, 0, sizeof *out);
    return status;
}
