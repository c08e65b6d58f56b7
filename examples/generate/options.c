/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPT_CHAT = 256,
    OPT_MAX_NEW_TOKENS,
    OPT_TEMPERATURE,
    OPT_TOP_P,
    OPT_SEED,
    OPT_DTYPE,
    OPT_THREADS,
    OPT_IDS,
    OPT_STATS,
    OPT_TOKENIZER,
    OPT_SCRIPT
};

static const struct argp_option listed[] = {
    {"model", 'm', "DIR", 0,
     "model folder as Hugging Face's transformers "
     "writes it; needed",
     1},
    {"prompt", 'p', "TEXT", 0,
     "what to continue; without it, standard input "
     "less a newline at its end",
     1},
    {"chat", OPT_CHAT, NULL, 0,
     "the prompt is what a user says: write it by "
     "the folder's chat template",
     1},
    {"max-new-tokens", OPT_MAX_NEW_TOKENS, "N", 0, "stop after N tokens (256)",
     1},
    {"temperature", OPT_TEMPERATURE, "T", 0,
     "0, the default: always the most likely token", 2},
    {"top-p", OPT_TOP_P, "P", 0,
     "draw from the fewest tokens with this "
     "probability together (1)",
     2},
    {"seed", OPT_SEED, "S", 0, "of the random numbers (1)", 2},
    {"dtype", OPT_DTYPE, "TYPE", 0,
     "of the weights in memory: bf16, f32, or "
     "stored (default), as the folder has them",
     3},
    {"threads", OPT_THREADS, "N", 0,
     "any number gives the same tokens (all "
     "cores)",
     3},
    {"tokenizer", OPT_TOKENIZER, "NAME", 0, "another folder, or bytes", 4},
    {"tokenizer-script", OPT_SCRIPT, "FILE", 0, "another tokenizer.py", 4},
    {"ids", OPT_IDS, NULL, 0,
     "the prompt is token ids between blanks, the "
     "output too; without a tokenizer, so only "
     "--max-new-tokens ends it",
     4},
    {"stats", OPT_STATS, NULL, 0, "say on standard error how fast it was", 5},
    {0}};

static double number(struct argp_state *state,
                     const char *name,
                     const char *text,
                     double low,
                     double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        argp_error(state, "--%s %s: expected a number from %g to %g", name,
                   text, low, high);
    return value;
}

static int64_t whole(struct argp_state *state,
                     const char *name,
                     const char *text,
                     int64_t low,
                     int64_t high)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < low || value > high)
        argp_error(state, "--%s %s: expected a whole number from %lld to %lld",
                   name, text, (long long)low, (long long)high);
    return value;
}

static const char *dtype(struct argp_state *state, const char *text)
{
    static const char *const names[][2] = {
        {"stored", "stored"}, {"f32", "float32"}, {"bf16", "bfloat16"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i][0]) == 0)
            return names[i][1];
    argp_error(state, "--dtype %s: expected bf16, f32 or stored", text);
    return NULL;
}

static void finish(struct argp_state *state, const options *o)
{
    if (!o->model)
        argp_error(state, "--model DIR is needed");
    if (o->chat && o->ids)
        argp_error(state, "--chat needs a tokenizer, --ids has none");
}

static error_t take(int key, char *text, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'm':
        o->model = text;
        break;
    case 'p':
        o->prompt = text;
        break;
    case OPT_CHAT:
        o->chat = 1;
        break;
    case OPT_MAX_NEW_TOKENS:
        o->max_new_tokens = whole(state, "max-new-tokens", text, 1, 1 << 24);
        break;
    case OPT_TEMPERATURE:
        o->temperature = number(state, "temperature", text, 0, 100);
        break;
    case OPT_TOP_P:
        o->top_p = number(state, "top-p", text, 1e-9, 1);
        break;
    case OPT_SEED:
        o->seed = (uint64_t)whole(state, "seed", text, 0, INT64_MAX);
        break;
    case OPT_DTYPE:
        o->dtype = dtype(state, text);
        break;
    case OPT_THREADS:
        o->threads = (int32_t)whole(state, "threads", text, 1, 1024);
        break;
    case OPT_IDS:
        o->ids = 1;
        break;
    case OPT_STATS:
        o->stats = 1;
        break;
    case OPT_TOKENIZER:
        o->tokenizer = text;
        break;
    case OPT_SCRIPT:
        o->script = text;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "%s: not expected here", text);
        break;
    case ARGP_KEY_END:
        finish(state, o);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void options_parse(int argc, char **argv, options *o)
{
    static const struct argp parser = {
        .options = listed,
        .parser = take,
        .doc = "Continue a prompt with a language model."
               "\vCtrl-C ends the text where it is (exit status 130). Exit "
               "status: 0 done, 1 failed, 2 wrong arguments or files."};
    argp_err_exit_status = 2;
    *o = (options){
        .dtype = "stored", .top_p = 1, .seed = 1, .max_new_tokens = 256};
    argp_parse(&parser, argc, argv, 0, NULL, o);
}
