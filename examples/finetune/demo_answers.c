/* SPDX-License-Identifier: Apache-2.0 */
#include "demo_answers.h"

#include <stdlib.h>
#include <string.h>

#include "cadft/cadft.h"
#include "text/tokenizer.h"

enum { PROMPTS = 64, NEW_TOKENS = 40 }; /* at once; of each */

typedef struct answers {
    int32_t *prompts;                /* packed */
    int32_t cu_seqlens[PROMPTS + 1]; /* first row of each */
    int32_t tokens[PROMPTS * NEW_TOKENS];
    int64_t lengths[PROMPTS];
} answers;

/* The last "####" and what follows it: [n] tokens from `ids`. */
static const int32_t *final_answer(const int32_t *ids, size_t *n)
{
    size_t run = 0, from = *n;
    for (size_t i = 0; i < *n; i++) {
        run = ids[i] == '#' ? run + 1 : 0;
        if (run == 4)
            from = i + 1;
    }
    *n -= from;
    return ids + from;
}

static int is_right(const text_sample *s, const int32_t *tokens, size_t n)
{
    size_t n_wanted = (size_t)(s->n - s->n_prompt);
    const int32_t *wanted = final_answer(s->tokens + s->n_prompt, &n_wanted);
    const int32_t *given = final_answer(tokens, &n);
    /* Both with the end. */
    return n == n_wanted &&
           memcmp(given, wanted, n_wanted * sizeof *given) == 0;
}

static int32_t
generate(cadft_model *model, answers *a, size_t n, cadft_error *error)
{
    static const int32_t end = BYTES_END;
    int64_t rows = a->cu_seqlens[n], sequences = (int64_t)n + 1;
    cadft_tensor tokens, cu_seqlens;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &tokens,
                                .cu_seqlens = &cu_seqlens,
                                .max_new_tokens = NEW_TOKENS,
                                .stop_tokens = &end,
                                .n_stop_tokens = 1};
    int32_t status = cadft_tensor_init(&tokens, sizeof tokens, a->prompts,
                                       CADFT_DTYPE_I32, 1, &rows, NULL, error);
    if (status == CADFT_OK)
        status =
            cadft_tensor_init(&cu_seqlens, sizeof cu_seqlens, a->cu_seqlens,
                              CADFT_DTYPE_I32, 1, &sequences, NULL, error);
    if (status == CADFT_OK)
        status =
            cadft_model_generate(model, &desc, a->tokens, a->lengths, error);
    return status;
}

/* Pack the prompts of samples [first, first + n). */
static void take_prompts(answers *a, const text_sample *samples, size_t n)
{
    a->cu_seqlens[0] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = (size_t)samples[i].n_prompt;
        memcpy(a->prompts + a->cu_seqlens[i], samples[i].tokens,
               length * sizeof *a->prompts);
        a->cu_seqlens[i + 1] = a->cu_seqlens[i] + samples[i].n_prompt;
    }
}

static int32_t count_right(cadft_model *model,
                           answers *a,
                           const text_data *data,
                           size_t *right,
                           cadft_error *error)
{
    for (size_t first = 0; first < data->n; first += PROMPTS) {
        size_t n = data->n - first < PROMPTS ? data->n - first : PROMPTS;
        const text_sample *samples = data->samples + first;
        take_prompts(a, samples, n);
        int32_t status = generate(model, a, n, error);
        if (status != CADFT_OK)
            return status;
        for (size_t i = 0; i < n; i++)
            *right += is_right(&samples[i], a->tokens + i * NEW_TOKENS,
                               (size_t)a->lengths[i]);
    }
    return CADFT_OK;
}

static int create_answers(const text_data *data, answers **out)
{
    size_t longest = 1;
    for (size_t i = 0; i < data->n; i++)
        if ((size_t)data->samples[i].n_prompt > longest)
            longest = (size_t)data->samples[i].n_prompt;
    answers *a = malloc(sizeof *a);
    if (!a)
        return 0;
    a->prompts = malloc(PROMPTS * longest * sizeof *a->prompts);
    *out = a;
    return a->prompts != NULL;
}

int demo_answers(const char *folder,
                 const text_data *data,
                 double *share,
                 text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    cadft_context *context = NULL;
    cadft_model *model = NULL;
    answers *a = NULL;
    size_t right = 0;
    int status = TEXT_OK;
    if (!create_answers(data, &a))
        status = text_fail(error, TEXT_FAILED, "out of memory for answers");
    else if (cadft_context_create(NULL, &context, &e) != CADFT_OK ||
             cadft_model_create(context, &model, &e) != CADFT_OK ||
             cadft_model_load(model, folder, &e) != CADFT_OK ||
             count_right(model, a, data, &right, &e) != CADFT_OK)
        status = text_fail(error, TEXT_FAILED, "%s", e.message);
    else
        *share = (double)right / (double)data->n;
    cadft_model_destroy(model);
    cadft_context_destroy(context);
    if (a)
        free(a->prompts);
    free(a);
    return status;
}
