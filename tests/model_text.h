/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of config.json, made of a small one by changing keys. */
#ifndef TESTS_MODEL_TEXT_H
#define TESTS_MODEL_TEXT_H

#include <stdio.h>
#include <string.h>

#include "support.h"

enum { TEXT_KEYS = 48, TEXT_VALUE = 160, TEXT_SIZE = 8192 };

typedef struct model_text {
    int n;
    char keys[TEXT_KEYS][48];
    char values[TEXT_KEYS][TEXT_VALUE]; /* JSON; "" is left out */
    char text[TEXT_SIZE];
} model_text;

/* Set a key; value NULL takes it away. Once per key and text. */
static inline void
text_set(model_text *text, const char *key, const char *value)
{
    int at = 0;
    while (at < text->n && strcmp(text->keys[at], key) != 0)
        at++;
    ck_assert_int_lt(at, TEXT_KEYS);
    if (at == text->n)
        text->n++;
    value = value ? value : "";
    ck_assert_uint_lt(strlen(key), sizeof text->keys[at]);
    ck_assert_uint_lt(strlen(value), sizeof text->values[at]);
    strcpy(text->keys[at], key);
    strcpy(text->values[at], value);
}

/* 2 layers, 40 tokens, 16 wide, 4 heads on 2, 24 in between. `family` is
 * "Llama", "Qwen2", ... */
static inline model_text text_of(const char *family)
{
    static const char *const pairs[][2] = {
        {"vocab_size", "40"},
        {"hidden_size", "16"},
        {"num_hidden_layers", "2"},
        {"num_attention_heads", "4"},
        {"num_key_value_heads", "2"},
        {"intermediate_size", "24"},
        {"max_position_embeddings", "64"},
        {"rms_norm_eps", "1e-05"},
        {"head_dim", "4"},
        {"sliding_window", "null"},
    };
    model_text text = {.n = 0};
    char name[64];
    snprintf(name, sizeof name, "[\"%sForCausalLM\"]", family);
    text_set(&text, "architectures", name);
    snprintf(name, sizeof name, "\"%s\"", family);
    name[1] = (char)(name[1] - 'A' + 'a');
    text_set(&text, "model_type", name);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        text_set(&text, pairs[i][0], pairs[i][1]);
    return text;
}

static inline const char *text_json(model_text *text)
{
    size_t at = 0;
    const char *comma = "{";
    for (int i = 0; i < text->n; i++)
        if (text->values[i][0]) {
            at += (size_t)snprintf(text->text + at, TEXT_SIZE - at,
                                   "%s\n  \"%s\": %s", comma, text->keys[i],
                                   text->values[i]);
            ck_assert_uint_lt(at, TEXT_SIZE);
            comma = ",";
        }
    snprintf(text->text + at, TEXT_SIZE - at, "\n}\n");
    return text->text;
}

#endif
