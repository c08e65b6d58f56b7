/* SPDX-License-Identifier: Apache-2.0 */
#include "text/sample.h"

#include <stdlib.h>
#include <string.h>

void sample_free(text_sample *s)
{
    free(s->tokens);
    *s = (text_sample){0};
}

static int sample_allocate(size_t n, text_sample *out, text_error *error)
{
    *out = (text_sample){0};
    if (n > INT32_MAX / 2)
        return text_fail(error, TEXT_INPUT, "%zu tokens are too many", n);
    out->tokens = malloc(2 * n * sizeof *out->tokens);
    if (!out->tokens)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu tokens", n);
    out->labels = out->tokens + n;
    out->n = (int32_t)n;
    return TEXT_OK;
}

int sample_of_targets(const int32_t *ids,
                      const unsigned char *target,
                      size_t n,
                      text_sample *out,
                      text_error *error)
{
    size_t first = 0;
    while (n > 0 && !target[n - 1])
        n--;
    while (first < n && !target[first])
        first++;
    *out = (text_sample){0};
    if (n < 2)
        return text_fail(error, TEXT_INPUT, "there is nothing to learn%s",
                         n ? ": the only target is the first token" : "");
    int status = sample_allocate(n, out, error);
    if (status != TEXT_OK)
        return status;
    memcpy(out->tokens, ids, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        int learned = i + 1 < n && target[i + 1];
        out->labels[i] = learned ? ids[i + 1] : DATA_IGNORED;
        out->n_labels += learned;
    }
    out->n_prompt = (int32_t)first;
    return TEXT_OK;
}

int sample_make(const int32_t *prompt,
                size_t n_prompt,
                const int32_t *completion,
                size_t n_completion,
                text_sample *out,
                text_error *error)
{
    size_t n = n_prompt + n_completion;
    *out = (text_sample){0};
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    unsigned char *target = calloc(n + 1, 1);
    int status = TEXT_FAILED;
    if (ids && target) {
        if (n_prompt > 0)
            memcpy(ids, prompt, n_prompt * sizeof *ids);
        if (n_completion > 0)
            memcpy(ids + n_prompt, completion, n_completion * sizeof *ids);
        memset(target + n_prompt, 1, n_completion);
        status = sample_of_targets(ids, target, n, out, error);
    } else {
        text_fail(error, TEXT_FAILED, "out of memory for %zu tokens", n);
    }
    free(ids);
    free(target);
    return status;
}

/* Append ids; `wanted` are the labels or NULL, `standard` is the mark of a
 * token without one. */
static void put_ids(const json_t *from,
                    const json_t *labels,
                    unsigned char standard,
                    int32_t *ids,
                    unsigned char *target)
{
    for (size_t i = 0; i < json_array_size(from); i++) {
        json_int_t label = json_integer_value(json_array_get(labels, i));
        ids[i] = (int32_t)json_integer_value(json_array_get(from, i));
        target[i] = labels ? label != DATA_IGNORED : standard;
    }
}

int sample_of_ids(const jsonl_item *item, text_sample *out, text_error *error)
{
    int pair = item->form == JSONL_IDS;
    size_t n_first = json_array_size(item->first);
    size_t n = n_first + (pair ? json_array_size(item->second) : 0);
    *out = (text_sample){0};
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    unsigned char *target = malloc(n + 1);
    int status = TEXT_FAILED;
    if (ids && target) {
        put_ids(item->first, pair ? NULL : item->second, 0, ids, target);
        if (pair)
            put_ids(item->second, NULL, 1, ids + n_first, target + n_first);
        status = sample_of_targets(ids, target, n, out, error);
    } else {
        text_fail(error, TEXT_FAILED, "out of memory for %zu tokens", n);
    }
    free(ids);
    free(target);
    return status;
}

json_t *sample_request(const jsonl_item *item, int chat)
{
    if (item->form == JSONL_MESSAGES)
        return json_pack("{sO}", "chat", item->first);
    if (!chat)
        return json_pack("{s[OO]}", "pair", item->first, item->second);
    return json_pack("{s[{sssO}{sssO}]}", "chat", "role", "user", "content",
                     item->first, "role", "assistant", "content", item->second);
}
