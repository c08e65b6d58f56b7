/* SPDX-License-Identifier: Apache-2.0 */
/* generate: continue a prompt with the model of a folder. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cadft/cadft.h"
#include "options.h"
#include "prompt.h"

enum { INTERRUPTED = 130 };

static int complain(int status, const char *sentence)
{
    fprintf(stderr, "generate: %s\n", sentence);
    return status;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ----------------------------------------------------------------- Ctrl-C */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* The first one ends the text after the token at hand, a second one the
 * program at once. */
static void stop_on_interrupt(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART | (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

/* ------------------------------------------------------------------ model */

/* What the library is to load, and what it was asked with. */
static int load(const options *o, cadft_model **out)
{
    cadft_error error = {.struct_size = sizeof error};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = o->threads};
    cadft_context *context = NULL;
    cadft_model *model = NULL;
    int32_t status = cadft_context_create(&desc, &context, &error);
    if (status == CADFT_OK)
        status = cadft_model_create(context, &model, &error);
    /* The model keeps what it needs of its context. */
    cadft_context_destroy(context);
    if (status == CADFT_OK)
        status = cadft_model_set_str(model, CADFT_MODEL_WEIGHT_DTYPE, o->dtype,
                                     &error);
    if (status == CADFT_OK)
        status = cadft_model_load(model, o->model, &error);
    if (status != CADFT_OK) {
        cadft_model_destroy(model);
        return complain(status == CADFT_E_NOMEM ? TEXT_FAILED : TEXT_INPUT,
                        error.message);
    }
    *out = model;
    return TEXT_OK;
}

/* ----------------------------------------------------------------- output */

typedef struct output {
    tokenizer *tokenizer; /* NULL: print ids */
    tokenizer_info info;
    text_error error; /* of a callback that failed */
    int failed;
    double first; /* seconds_now() of the first token */
} output;

static int print(output *out, const char *text, size_t n)
{
    if (fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0)
        return TEXT_OK;
    return text_fail(&out->error, TEXT_FAILED, "cannot write: %s",
                     strerror(errno));
}

static int print_token(output *out, int32_t token)
{
    char number[16];
    const char *piece = number;
    size_t n;
    if (out->tokenizer) {
        int status =
            tokenizer_piece(out->tokenizer, token, &piece, &n, &out->error);
        if (status != TEXT_OK)
            return status;
    } else {
        n = (size_t)snprintf(number, sizeof number, "%" PRId32 " ", token);
    }
    return print(out, piece, n);
}

static int32_t on_token(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    output *out = user;
    (void)prompt;
    (void)logprob;
    if (position == 0)
        out->first = seconds_now();
    for (size_t i = 0; i < out->info.n_eos; i++)
        if (token == out->info.eos[i])
            return 1; /* not to be shown, whatever the tokenizer makes of it */
    out->failed = print_token(out, token);
    if (out->failed)
        return -1;
    return interrupted ? 1 : 0;
}

/* What is left of an incomplete character, and the end of the line. */
static int print_end(output *out)
{
    const char *rest = "";
    size_t n = 0;
    int status = TEXT_OK;
    if (out->tokenizer)
        status = tokenizer_flush(out->tokenizer, &rest, &n, &out->error);
    if (status == TEXT_OK)
        status = print(out, rest, n);
    return status == TEXT_OK ? print(out, "\n", 1) : status;
}

static void print_stats(size_t n_prompt, int64_t n, double start, double first)
{
    double end = seconds_now();
    fprintf(stderr, "prompt: %zu tokens, %.3f s\n", n_prompt, first - start);
    /* The first token comes out of the prompt's pass. */
    fprintf(stderr, "text: %" PRId64 " tokens, %.3f s", n, end - first);
    if (n > 1 && end > first)
        fprintf(stderr, ", %.1f tokens/s", (double)(n - 1) / (end - first));
    fputc('\n', stderr);
}

/* --------------------------------------------------------------- generate */

static int run(const options *o,
               cadft_model *model,
               output *out,
               int32_t *ids,
               size_t n_ids)
{
    cadft_error error = {.struct_size = sizeof error};
    cadft_tensor prompt;
    int64_t shape = (int64_t)n_ids, n = 0;
    int32_t *tokens = malloc((size_t)o->max_new_tokens * sizeof *tokens);
    if (!tokens)
        return complain(TEXT_FAILED, "out of memory for the tokens");
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &prompt,
                                .max_new_tokens = o->max_new_tokens,
                                .temperature = o->temperature,
                                .top_p = o->top_p,
                                .stop_tokens = out->info.eos,
                                .n_stop_tokens = (int64_t)out->info.n_eos,
                                .seed = o->seed,
                                .on_token = on_token,
                                .user = out};
    double start = out->first = seconds_now();
    int32_t status = cadft_tensor_init(
        &prompt, sizeof prompt, ids, CADFT_DTYPE_I32, 1, &shape, NULL, &error);
    if (status == CADFT_OK)
        status = cadft_model_generate(model, &desc, tokens, &n, &error);
    free(tokens);
    if (status == CADFT_E_CALLBACK)
        return complain(out->failed, out->error.message);
    if (status != CADFT_OK)
        return complain(status == CADFT_E_ARG ? TEXT_INPUT : TEXT_FAILED,
                        error.message);
    int ended = print_end(out);
    if (ended != TEXT_OK)
        return complain(ended, out->error.message);
    if (o->stats)
        print_stats(n_ids, n, start, out->first);
    return interrupted ? INTERRUPTED : TEXT_OK;
}

static int generate(const options *o, output *out)
{
    cadft_model *model = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    text_error error;
    int status = TEXT_OK;
    /* The tokenizer first, as it is the quicker one to find a mistake. */
    if (!o->ids)
        status = tokenizer_open(o->tokenizer ? o->tokenizer : o->model,
                                o->script, &out->tokenizer, &error);
    if (status == TEXT_OK && out->tokenizer)
        out->info = tokenizer_about(out->tokenizer);
    if (status == TEXT_OK)
        status = prompt_ids(o, out->tokenizer, &ids, &n_ids, &error);
    if (status != TEXT_OK)
        return complain(status, error.message);
    status = load(o, &model);
    if (status == TEXT_OK)
        status = run(o, model, out, ids, n_ids);
    cadft_model_destroy(model);
    free(ids);
    return status;
}

int main(int argc, char **argv)
{
    options o;
    output out = {0};
    options_parse(argc, argv, &o);
    stop_on_interrupt();
    int status = generate(&o, &out);
    tokenizer_close(out.tokenizer);
    return status;
}
