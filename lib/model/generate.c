/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to more tokens: the prompts in one pass, then a row for each prompt
 * that goes on. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "backend/device.h"
#include "common/error.h"
#include "common/random.h"
#include "model/sample.h"
#include "model/transformer.h"

/* A prompt on its way. */
typedef struct prompt {
    int64_t key, cache_first;
    int64_t length; /* keys in the cache after the next pass */
    int64_t drawn;
    int32_t token; /* drawn last */
    int32_t done;
    double logprob;
} prompt;

typedef struct generation {
    cadft_model *model;
    cadft_generate_desc desc;
    cadft__sampling sampling;
    int64_t count, active, cache_rows, longest;
    prompt *prompts;  /* [count] */
    int64_t *running; /* [active], of the rows of a pass */
    float *logits;    /* [count, V] */
    double *mass;     /* [workers, V] */
    int32_t *heap;    /* [workers, V] */
    int32_t *tokens;  /* the host's */
    int64_t *lengths;
} generation;

/* ------------------------------------------------------------ description */

static int32_t check(const cadft_generate_desc *d, cadft_error *error)
{
    if (d->reserved)
        return cadft__fail(error, CADFT_E_TOO_NEW, "desc.reserved is not 0");
    if (d->max_new_tokens < 1 || d->max_new_tokens > INT32_MAX)
        return cadft__fail(error, CADFT_E_ARG,
                           "max_new_tokens is %lld, expected 1 to %d",
                           (long long)d->max_new_tokens, INT32_MAX);
    if (!(d->temperature >= 0 && d->temperature <= 1e6))
        return cadft__fail(error, CADFT_E_ARG,
                           "temperature is %g, expected 0 to 1e6",
                           d->temperature);
    if (!(d->top_p >= 0 && d->top_p <= 1))
        return cadft__fail(error, CADFT_E_ARG,
                           "top_p is %g, expected above 0 to 1", d->top_p);
    if (d->n_stop_tokens < 0 || (d->n_stop_tokens && !d->stop_tokens))
        return cadft__fail(
            error, d->n_stop_tokens < 0 ? CADFT_E_ARG : CADFT_E_NULL,
            "n_stop_tokens is %lld with stop_tokens %s",
            (long long)d->n_stop_tokens, d->stop_tokens ? "given" : "NULL");
    if (d->step < 0 || d->step > UINT32_MAX)
        return cadft__fail(error, CADFT_E_ARG, "step is %lld, expected 0 to %u",
                           (long long)d->step, UINT32_MAX);
    return CADFT_OK;
}

/* Prompts into the model's sequences, and where their keys will lie. */
static int32_t read_prompts(generation *g, cadft_error *error)
{
    cadft__sequences *s = &g->model->incoming;
    cadft_model_batch batch = {
        .struct_size = sizeof batch,
        .no_grad = 1,
        .tokens = g->desc.tokens,
        .cu_seqlens = g->desc.cu_seqlens,
        .lengths = g->desc.lengths,
    };
    int64_t positions = g->model->config.positions;
    CADFT__TRY(cadft__sequences_read(g->model, &batch, s, error));
    g->count = s->count;
    if (g->desc.n_prompts && g->desc.n_prompts != s->count)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "tokens hold %lld prompts, expected n_prompts, %lld",
                           (long long)s->count, (long long)g->desc.n_prompts);
    for (int64_t i = 0; i < s->count; i++) {
        if (s->k_count[i] < 1)
            return cadft__fail(error, CADFT_E_ARG,
                               "prompt %lld has no tokens, expected at least "
                               "1",
                               (long long)i);
        if (s->k_count[i] + g->desc.max_new_tokens > positions)
            return cadft__fail(error, CADFT_E_ARG,
                               "prompt %lld has %lld tokens and "
                               "max_new_tokens is %lld, expected at most %lld "
                               "together (max_position_embeddings)",
                               (long long)i, (long long)s->k_count[i],
                               (long long)g->desc.max_new_tokens,
                               (long long)positions);
        g->cache_rows += s->k_count[i] + g->desc.max_new_tokens;
        if (g->cache_rows > INT32_MAX)
            return cadft__fail(error, CADFT_E_ARG,
                               "prompts and max_new_tokens make more than %d "
                               "rows together",
                               INT32_MAX);
    }
    g->longest = s->longest + g->desc.max_new_tokens;
    return CADFT_OK;
}

/* ------------------------------------------------------------------ passes */

/* The first pass: all rows of the prompts, logits of each one's last. */
static void prefill_rows(const generation *g, cadft__sequences *s)
{
    for (int64_t i = 0; i < g->count; i++) {
        const prompt *p = &g->prompts[i];
        s->k_first[i] = p->cache_first;
        s->selected[i] = (int32_t)(s->first[i + 1] - 1);
        for (int64_t r = s->first[i]; r < s->first[i + 1]; r++)
            s->cached[r] = (int32_t)(p->cache_first + r - s->first[i]);
    }
    s->all_logits = 0;
    s->logit_rows = g->count;
    s->cache_rows = g->cache_rows;
}

/* A later pass: one row for each running prompt. With `last` as it will be
 * at the end, for planning. */
static void decode_rows(const generation *g, cadft__sequences *s, int32_t last)
{
    s->rows = s->count = s->logit_rows = g->active;
    s->longest = 0;
    for (int64_t i = 0; i < g->active; i++) {
        const prompt *p = &g->prompts[g->running[i]];
        int64_t keys = p->length + (last ? g->desc.max_new_tokens : 0);
        s->tokens[i] = p->token;
        s->positions[i] = (int32_t)(keys - 1);
        s->cached[i] = (int32_t)(p->cache_first + keys - 1);
        s->first[i] = i;
        s->k_first[i] = p->cache_first;
        s->k_count[i] = keys;
        if (keys > s->longest)
            s->longest = keys;
    }
    s->first[g->active] = g->active;
    s->all_logits = 1;
    s->no_grad = 1;
    s->cache_rows = g->cache_rows;
}

/* The arena for every pass: it must not move while it holds the cache. */
static int32_t reserve(generation *g, cadft_error *error)
{
    cadft_model *model = g->model;
    cadft__sequences decode;
    uint64_t first, later;
    int32_t status;
    memset(&decode, 0, sizeof decode);
    CADFT__TRY(cadft__forward_plan(model, &model->sequences, &first, error));
    status = cadft__sequences_reserve(model->handle.context, &decode, g->count,
                                      g->count, error);
    if (!status) {
        decode_rows(g, &decode, 1);
        status = cadft__forward_plan(model, &decode, &later, error);
    }
    cadft__sequences_free(model->handle.context, &decode);
    if (!status)
        status = cadft__rope_reserve(model, g->longest, error);
    if (!status)
        status = cadft__workspace_reserve(model, first > later ? first : later,
                                          error);
    return status;
}

/* One pass, and its logits to the host. */
static int32_t pass(generation *g, cadft_error *error)
{
    cadft_model *model = g->model;
    const void *before = model->workspace.base;
    CADFT__TRY(cadft__forward(model, &model->sequences, NULL, error));
    if (model->workspace.base != before)
        return cadft__fail(error, CADFT_E_BACKEND,
                           "the backend's work_bytes asked for more than for "
                           "a longer sequence");
    return cadft__device_out(
        model->handle.context, NULL, g->logits, model->workspace.logits,
        (uint64_t)(g->active * model->config.vocab) * sizeof(float), error);
}

/* ----------------------------------------------------------------- drawing */

static void draw(void *task, int64_t index, int32_t worker)
{
    generation *g = (generation *)task;
    prompt *p = &g->prompts[g->running[index]];
    int64_t vocab = g->model->config.vocab;
    int before = errno; /* libm sets it, and the thread may be the host's */
    uint32_t random[4];
    cadft__random_block(g->desc.seed, (uint64_t)p->key,
                        (uint64_t)g->desc.step << 32 | (uint64_t)p->drawn,
                        random);
    p->token = cadft__sample(g->logits + index * vocab, vocab, &g->sampling,
                             cadft__random_uniform(random[0], random[1]),
                             g->mass + worker * vocab, g->heap + worker * vocab,
                             &p->logprob);
    errno = before;
}

static int is_stop(const cadft_generate_desc *d, int32_t token)
{
    for (int64_t i = 0; i < d->n_stop_tokens; i++)
        if (d->stop_tokens[i] == token)
            return 1;
    return 0;
}

/* Hand a prompt's token to the host. */
static int32_t deliver(generation *g, int64_t index, cadft_error *error)
{
    prompt *p = &g->prompts[index];
    const cadft_generate_desc *d = &g->desc;
    int32_t answer = 0;
    if (p->token < 0)
        return cadft__fail(error, CADFT_E_NONFINITE,
                           "logits of prompt %lld after %lld new tokens have "
                           "NaN, +inf or nothing but -inf",
                           (long long)index, (long long)p->drawn);
    g->tokens[index * d->max_new_tokens + p->drawn] = p->token;
    g->lengths[index] = p->drawn + 1;
    if (d->on_token)
        answer = d->on_token(d->user, index, p->drawn, p->token, p->logprob);
    if (answer < 0)
        return cadft__fail(error, CADFT_E_CALLBACK,
                           "on_token returned %d at prompt %lld, token %lld",
                           answer, (long long)index, (long long)p->drawn);
    p->drawn++;
    p->length++;
    p->done = answer || p->drawn == d->max_new_tokens || is_stop(d, p->token);
    return CADFT_OK;
}

static int32_t step(generation *g, cadft_error *error)
{
    const cadft_backend_host *host = &g->model->handle.context->host;
    int64_t active = g->active;
    CADFT__TRY(pass(g, error));
    if (host->parallel_for(host->user, active, draw, g))
        return cadft__fail(error, CADFT_E_THREADS,
                           "parallel_for did not run all of %lld tasks",
                           (long long)active);
    g->active = 0;
    for (int64_t i = 0; i < active; i++) {
        CADFT__TRY(deliver(g, g->running[i], error));
        if (!g->prompts[g->running[i]].done)
            g->running[g->active++] = g->running[i];
    }
    return CADFT_OK;
}

/* ------------------------------------------------------------------- whole */

static void give_back(generation *g)
{
    cadft__memory *m = &g->model->handle.context->memory;
    size_t n = (size_t)g->count, vocab = (size_t)g->model->config.vocab;
    size_t workers = (size_t)g->model->handle.context->workers;
    cadft__free(m, g->prompts, n * sizeof *g->prompts);
    cadft__free(m, g->running, n * sizeof *g->running);
    cadft__free(m, g->logits, n * vocab * sizeof *g->logits);
    cadft__free(m, g->mass, workers * vocab * sizeof *g->mass);
    cadft__free(m, g->heap, workers * vocab * sizeof *g->heap);
}

static int32_t take_memory(generation *g, cadft_error *error)
{
    cadft__memory *m = &g->model->handle.context->memory;
    size_t n = (size_t)g->count, vocab = (size_t)g->model->config.vocab;
    size_t workers = (size_t)g->model->handle.context->workers;
    g->prompts = (prompt *)cadft__alloc(m, n * sizeof *g->prompts);
    g->running = (int64_t *)cadft__alloc(m, n * sizeof *g->running);
    g->logits = (float *)cadft__alloc(m, n * vocab * sizeof *g->logits);
    g->mass = (double *)cadft__alloc(m, workers * vocab * sizeof *g->mass);
    g->heap = (int32_t *)cadft__alloc(m, workers * vocab * sizeof *g->heap);
    if (!g->prompts || !g->running || !g->logits || !g->mass || !g->heap)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "no memory to generate for %zu prompts", n);
    return CADFT_OK;
}

static void start(generation *g)
{
    const cadft__sequences *s = &g->model->sequences;
    int64_t at = 0;
    for (int64_t i = 0; i < g->count; i++) {
        g->prompts[i] = (prompt){
            .key = g->desc.keys ? g->desc.keys[i] : i,
            .cache_first = at,
            .length = s->k_count[i],
        };
        g->running[i] = i;
        g->lengths[i] = 0;
        at += s->k_count[i] + g->desc.max_new_tokens;
    }
    g->active = g->count;
}

static int32_t run(generation *g, cadft_error *error)
{
    cadft__sequences *s = &g->model->sequences;
    CADFT__TRY(take_memory(g, error));
    start(g);
    prefill_rows(g, s);
    CADFT__TRY(reserve(g, error));
    for (;;) {
        CADFT__TRY(step(g, error));
        if (!g->active)
            return CADFT_OK;
        decode_rows(g, s, 0);
    }
}

static int32_t generate(cadft_model *model,
                        const cadft_generate_desc *desc,
                        int32_t *tokens,
                        int64_t *lengths,
                        cadft_error *error)
{
    generation g = {.model = model, .tokens = tokens, .lengths = lengths};
    int32_t status;
    CADFT__TRY(cadft__needs_weights(model, error));
    CADFT__TRY(cadft__struct_in(&g.desc, sizeof g.desc, desc,
                                CADFT__SIZE_TO(cadft_generate_desc, user),
                                "desc", error));
    CADFT__TRY(check(&g.desc, error));
    if (!tokens || !lengths)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           tokens ? "lengths" : "tokens");
    g.sampling = (cadft__sampling){
        .temperature = g.desc.temperature,
        .top_p = g.desc.top_p > 0 ? g.desc.top_p : 1,
        .want_logprob = g.desc.on_token != NULL,
    };
    CADFT__TRY(read_prompts(&g, error));
    cadft__model_accept(model);
    if (!g.count)
        return CADFT_OK;
    status = run(&g, error);
    give_back(&g);
    return status;
}

int32_t cadft_model_generate(cadft_model *model,
                             const cadft_generate_desc *desc,
                             int32_t *tokens,
                             int64_t *lengths,
                             cadft_error *error)
{
    CADFT__ENTER(model);
    status = generate(model, desc, tokens, lengths, &call.error);
    CADFT__LEAVE(model);
}
