/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

/* An answer has room for at least this many tokens, or twice the target that
 * it replaces: what is still going on then is not going to end. */
enum { ROOM = 64 };

/* Prompts that are continued together. */
typedef struct answers {
    size_t n;
    int64_t *ids;     /* [n] picks */
    int32_t *prompts; /* packed */
    int32_t *bounds;  /* [n + 1] of the prompts */
    int32_t *limits;  /* [n] tokens of an answer at most */
    double *logprobs; /* [n] sums */
    int64_t *lengths; /* [n] of the answers */
    int32_t *tokens;  /* [n, longest] the answers */
    int64_t longest;
} answers;

static void answers_free(answers *a)
{
    free(a->prompts);
    free(a->bounds);
    free(a->limits);
    free(a->logprobs);
    free(a->lengths);
    free(a->tokens);
}

/* One prompt, and one target which is all of the rest? Other samples (several
 * turns of an assistant) stay as they are. */
static int can_rewrite(const text_sample *s)
{
    return s->n_prompt > 0 && s->n_labels == s->n - s->n_prompt;
}

static int32_t room_of(const trainer *t, const text_sample *s, int64_t most)
{
    int64_t room = t->session->max_length - s->n_prompt;
    int64_t wanted = 2 * (int64_t)(s->n - s->n_prompt);
    wanted = wanted < ROOM ? ROOM : wanted;
    room = wanted < room ? wanted : room;
    return (int32_t)(most > 0 && most < room ? most : room);
}

static int answers_alloc(answers *a, int64_t prompt_tokens, text_error *error)
{
    size_t n = a->n;
    a->prompts = calloc((size_t)prompt_tokens + 1, sizeof *a->prompts);
    a->bounds = calloc(n + 1, sizeof *a->bounds);
    a->limits = calloc(n, sizeof *a->limits);
    a->logprobs = calloc(n, sizeof *a->logprobs);
    a->lengths = calloc(n, sizeof *a->lengths);
    a->tokens = calloc(n * (size_t)a->longest, sizeof *a->tokens);
    return a->prompts && a->bounds && a->limits && a->logprobs && a->lengths &&
                   a->tokens
               ? TEXT_OK
               : text_fail(error, TEXT_FAILED, "out of memory for answers");
}

/* How many of the picks are continued together: what a micro-batch has room
 * for, prompts and answers. The longest answer must fit behind the longest
 * prompt, as the library gives all of them the same room. */
static int64_t
answers_choose(const trainer *t, size_t n, int64_t most, answers *a)
{
    int64_t used = 0, prompts = 0, longest_prompt = 0;
    for (; a->n < n; a->n++) {
        const text_sample *s = t->samples[a->ids[a->n]];
        int64_t room = room_of(t, s, most), prompt = s->n_prompt;
        used += prompt + room;
        room = room > a->longest ? room : a->longest;
        prompt = prompt > longest_prompt ? prompt : longest_prompt;
        if (a->n > 0 && (used > t->session->options->micro_tokens ||
                         prompt + room > t->session->max_length))
            break;
        a->longest = room;
        longest_prompt = prompt;
        prompts += s->n_prompt;
    }
    return prompts;
}

static int answers_begin(
    const trainer *t, int64_t *ids, size_t n, answers *a, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    int64_t most = 0;
    *a = (answers){.ids = ids};
    int status = checked(
        cadft_rewrite_get_i64(t->rewrite, CADFT_REWRITE_MAX_LENGTH, &most, &e),
        &e, error);
    if (status != TEXT_OK)
        return status;
    status = answers_alloc(a, answers_choose(t, n, most, a), error);
    for (size_t i = 0; i < a->n && status == TEXT_OK; i++) {
        const text_sample *s = t->samples[ids[i]];
        memcpy(a->prompts + a->bounds[i], s->tokens,
               (size_t)s->n_prompt * sizeof *s->tokens);
        a->bounds[i + 1] = a->bounds[i] + s->n_prompt;
        a->limits[i] = room_of(t, s, most);
    }
    return status;
}

static int32_t on_token(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    answers *a = user;
    (void)token;
    a->logprobs[prompt] += logprob;
    return position + 1 >= a->limits[prompt];
}

/* Random numbers are a function of seed, sample and step: a resumed run draws
 * the same answers, however they are batched. */
static int generate(trainer *t, answers *a, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    const session *s = t->session;
    int64_t rows = a->bounds[a->n], bounds = (int64_t)a->n + 1;
    cadft_tensor tokens, cu_seqlens;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &tokens,
                                .cu_seqlens = &cu_seqlens,
                                .max_new_tokens = a->longest,
                                .stop_tokens = s->ends,
                                .n_stop_tokens = s->n_ends,
                                .seed = (uint64_t)s->options->seed,
                                .keys = a->ids,
                                .step = t->step,
                                .on_token = on_token,
                                .user = a};
    int32_t status = cadft_tensor_init(&tokens, sizeof tokens, a->prompts,
                                       CADFT_DTYPE_I32, 1, &rows, NULL, &e);
    if (status == CADFT_OK)
        status = cadft_tensor_init(&cu_seqlens, sizeof cu_seqlens, a->bounds,
                                   CADFT_DTYPE_I32, 1, &bounds, NULL, &e);
    if (status == CADFT_OK)
        status = cadft_rewrite_get_f64(t->rewrite, CADFT_REWRITE_TEMPERATURE,
                                       &desc.temperature, &e);
    if (status == CADFT_OK)
        status = cadft_rewrite_get_f64(t->rewrite, CADFT_REWRITE_TOP_P,
                                       &desc.top_p, &e);
    if (status == CADFT_OK)
        status =
            cadft_model_generate(t->model, &desc, a->tokens, a->lengths, &e);
    return checked(status, &e, error);
}

/* The handle's target of a sample, as the sample to train on. */
static int take_target(trainer *t, int64_t id, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    const int32_t *tokens = NULL;
    int64_t n = 0;
    const text_sample *old = t->session->train[id];
    text_sample made;
    int status = checked(cadft_rewrite_target(t->rewrite, id, &tokens, &n, &e),
                         &e, error);
    if (status != TEXT_OK || !tokens)
        return status;
    status = sample_make(old->tokens, (size_t)old->n_prompt, tokens, (size_t)n,
                         &made, error);
    if (status != TEXT_OK)
        return status;
    made.line = old->line;
    made.group = old->group;
    sample_free(&t->rewritten[id]);
    t->rewritten[id] = made;
    t->samples[id] = &t->rewritten[id];
    return TEXT_OK;
}

static int is_end(const session *s, int32_t token)
{
    for (int64_t i = 0; i < s->n_ends; i++)
        if (s->ends[i] == token)
            return 1;
    return 0;
}

static int commit(trainer *t, const answers *a, size_t i, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    const int32_t *tokens = a->tokens + (int64_t)i * a->longest;
    int64_t n = a->lengths[i];
    int32_t rejected = 0;
    cadft_rewrite_result result = {.struct_size = sizeof result,
                                   .ended = is_end(t->session, tokens[n - 1]),
                                   .tokens = tokens,
                                   .n_tokens = n,
                                   .c_new = -a->logprobs[i] / (double)n,
                                   .c_old = NAN};
    int status = checked(
        cadft_rewrite_commit(t->rewrite, a->ids[i], &result, &rejected, &e), &e,
        error);
    return status == TEXT_OK && !rejected ? take_target(t, a->ids[i], error)
                                          : status;
}

static int answer(trainer *t, int64_t *ids, size_t n, text_error *error)
{
    int status = TEXT_OK;
    for (size_t done = 0; done < n && status == TEXT_OK;) {
        answers a;
        status = answers_begin(t, ids + done, n - done, &a, error);
        if (status == TEXT_OK)
            status = generate(t, &a, error);
        for (size_t i = 0; i < a.n && status == TEXT_OK; i++)
            status = commit(t, &a, i, error);
        done += a.n;
        answers_free(&a);
    }
    return status;
}

/* Leave those out that cannot be rewritten; returns how many stay. */
static size_t
reject_some(trainer *t, int64_t *ids, size_t n, int32_t *status, cadft_error *e)
{
    size_t stay = 0;
    for (size_t i = 0; i < n && *status == CADFT_OK; i++) {
        const text_sample *s = t->samples[ids[i]];
        if (can_rewrite(s) && s->n_prompt < t->session->max_length)
            ids[stay++] = ids[i];
        else
            *status = cadft_rewrite_reject(t->rewrite, ids[i], e);
    }
    return stay;
}

int rewriting_due(trainer *t, text_error *error)
{
    cadft_error e = {.struct_size = sizeof e};
    size_t n = 0;
    if (!t->rewrite || t->step == 0)
        return TEXT_OK;
    int32_t status = cadft_rewrite_select(t->rewrite, t->step, NULL, 0, &n, &e);
    if (status == CADFT_E_SPACE)
        status = CADFT_OK;
    if (status != CADFT_OK || n == 0)
        return checked(status, &e, error);
    int64_t *ids = calloc(n, sizeof *ids);
    if (!ids)
        return text_fail(error, TEXT_FAILED, "out of memory for %zu picks", n);
    status = cadft_rewrite_select(t->rewrite, t->step, ids, n, &n, &e);
    n = reject_some(t, ids, n, &status, &e);
    int result = checked(status, &e, error);
    if (result == TEXT_OK)
        result = answer(t, ids, n, error);
    free(ids);
    return result;
}

int rewriting_restore(trainer *t, text_error *error)
{
    int status = TEXT_OK;
    for (size_t i = 0; t->rewrite && i < t->session->n_train; i++)
        if (status == TEXT_OK)
            status = take_target(t, (int64_t)i, error);
    return status;
}
