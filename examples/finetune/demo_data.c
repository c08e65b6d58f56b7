/* SPDX-License-Identifier: Apache-2.0 */
/* The model and the data of the demonstration. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cadft/cadft.h"
#include "columns.h"
#include "demo.h"
#include "text/arithmetic.h"
#include "text/random.h"

enum {
    ITEMS = 90 * 90 + 90 * 91 / 2, /* sums, and differences that are not
                                    * negative */
    PRETRAIN = 4096,
    TRAIN = 3072,
    HELD_OUT = 512,
    SEED = 1
};

static const double mismatched_share = 1.0 / 3;

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",\n"
    " \"vocab_size\": 258, \"hidden_size\": 96, \"intermediate_size\": 256,\n"
    " \"num_hidden_layers\": 3, \"num_attention_heads\": 4,\n"
    " \"num_key_value_heads\": 4, \"max_position_embeddings\": 512,\n"
    " \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,\n"
    " \"initializer_range\": 0.05, \"tie_word_embeddings\": true,\n"
    " \"bos_token_id\": 257, \"eos_token_id\": 256}\n";

/* ------------------------------------------------------------------- data */

static void make_items(arithmetic_item *items)
{
    size_t n = 0;
    uint64_t rng = rng_for(SEED, 1);
    for (int a = ARITHMETIC_LEAST; a <= ARITHMETIC_MOST; a++)
        for (int b = ARITHMETIC_LEAST; b <= ARITHMETIC_MOST; b++) {
            arithmetic_make(a, '+', b, &items[n++]);
            if (b <= a)
                arithmetic_make(a, '-', b, &items[n++]);
        }
    for (; n > 1; n--) {
        size_t j = rng_below(&rng, n);
        arithmetic_item item = items[n - 1];
        items[n - 1] = items[j];
        items[j] = item;
    }
}

/* One line; mismatched if there is another question to take from. */
static int write_item(FILE *to,
                      const arithmetic_item *item,
                      const arithmetic_item *other,
                      uint64_t *rng)
{
    unsigned char text[MISMATCH_GROWTH * sizeof item->answer];
    size_t n = strlen(item->answer);
    memcpy(text, item->answer, n);
    if (other)
        n = mismatch_make((const unsigned char *)item->answer, n,
                          (const unsigned char *)other->answer,
                          strlen(other->answer), text, rng);
    json_t *line = json_pack("{s:s, s:s%, s:s}", "prompt", item->question,
                             "completion", (const char *)text, n, "group",
                             other ? "mismatched" : "clean");
    int bad = !line || json_dumpf(line, to, JSON_COMPACT) != 0;
    json_decref(line);
    return bad || fputc('\n', to) == EOF;
}

/* Write items[0 .. n) as folder/name, a share of them mismatched: which ones
 * is drawn for each, as it would be unknown to a trainer. */
static int write_items(const char *folder,
                       const char *name,
                       const arithmetic_item *items,
                       size_t n,
                       double share,
                       text_error *error)
{
    uint64_t rng = rng_for(SEED, 2);
    char *path = metrics_path(folder, name);
    FILE *to = path ? fopen(path, "wbe") : NULL;
    int bad = to == NULL;
    for (size_t i = 0; i < n && !bad; i++) {
        int is_mismatched = rng_unit(&rng) < (float)share;
        const arithmetic_item *other =
            &items[(i + 1 + rng_below(&rng, n - 1)) % n];
        bad = write_item(to, &items[i], is_mismatched ? other : NULL, &rng);
    }
    if (to && fclose(to) != 0)
        bad = 1;
    int status = TEXT_OK;
    if (bad)
        status = text_fail(error, TEXT_FAILED, "%s/%s: cannot be written: %s",
                           folder, name, strerror(errno));
    free(path);
    return status;
}

static int write_data(const char *folder, text_error *error)
{
    arithmetic_item *items = calloc(ITEMS, sizeof *items);
    if (!items)
        return text_fail(error, TEXT_FAILED,
                         "out of memory for the demonstration's data");
    make_items(items);
    int status =
        write_items(folder, "pretrain.jsonl", items, PRETRAIN, 0, error);
    if (status == TEXT_OK)
        status = write_items(folder, "train.jsonl", items + PRETRAIN, TRAIN,
                             mismatched_share, error);
    if (status == TEXT_OK)
        status = write_items(folder, "heldout.jsonl", items + PRETRAIN + TRAIN,
                             HELD_OUT, 0, error);
    free(items);
    return status;
}

/* ------------------------------------------------------------------ model */

static int write_model(const char *folder, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_context *context = NULL;
    cadft_model *model = NULL;
    char *path = metrics_path(folder, "base");
    int status = TEXT_OK;
    if (!path)
        return text_fail(error, TEXT_FAILED, "out of memory for a path");
    if (cadft_context_create(NULL, &context, &e) != CADFT_OK ||
        cadft_model_create(context, &model, &e) != CADFT_OK ||
        cadft_model_init(model, config, strlen(config), SEED, &e) != CADFT_OK ||
        cadft_model_save(model, path, &e) != CADFT_OK)
        status = text_fail(error, TEXT_FAILED, "%s", e.message);
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    free(path);
    return status;
}

int demo_prepare(const char *folder, text_error *error)
{
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return text_fail(error, TEXT_FAILED, "%s: cannot be made: %s", folder,
                         strerror(errno));
    int status = write_data(folder, error);
    if (status == TEXT_OK)
        status = write_model(folder, error);
    return status;
}
