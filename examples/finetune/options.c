/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "knobs.h"
#include "text/data.h"

enum {
    OPT_MODEL = 256,
    OPT_DATA,
    OPT_OUT,
    OPT_OBJECTIVE,
    OPT_TOKENIZER,
    OPT_FORMAT,
    OPT_BAD_LINES,
    OPT_EVAL_FILE,
    OPT_EVAL_SHARE,
    OPT_MAX_LENGTH,
    OPT_EPOCHS,
    OPT_STEPS,
    OPT_BATCH,
    OPT_MICRO_TOKENS,
    OPT_LR,
    OPT_WARMUP,
    OPT_SCHEDULE,
    OPT_SCOPE,
    OPT_REWRITE,
    OPT_NO_REWRITE,
    OPT_FREEZE,
    OPT_DTYPE,
    OPT_CHECKPOINTING,
    OPT_SET,
    OPT_SEED,
    OPT_THREADS,
    OPT_EVAL_EVERY,
    OPT_SAVE_EVERY,
    OPT_KEEP,
    OPT_FRESH,
    OPT_SECOND_MOMENT,
    OPT_PLOT,
    OPT_FROM,
    OPT_LOG_EVERY,
    OPT_QUIET,
    OPT_DRY_RUN
};

static const char before_options[] =
    "Fine-tune a model folder of Hugging Face on JSON lines, by default with "
    "CADFT. Without any argument: a demonstration, into ./finetune-demo.\v"
    "The same command again goes on from the last checkpoint in OUT. Ctrl-C "
    "ends the step, saves a checkpoint and exits with status 130. Exit "
    "status: 0 done, 1 failed, 2 wrong arguments.";

static const struct argp_option table[] = {
    {"model", OPT_MODEL, "DIR", 0, "config.json, weights, tokenizer", 1},
    {"data", OPT_DATA, "FILE", 0,
     "JSON lines: prompt/completion, question/answer, messages, or token ids",
     1},
    {"out", OPT_OUT, "DIR", 0, "Metrics, checkpoints, final model", 1},
    {"objective", OPT_OBJECTIVE, "LIST", 0,
     "cadft, or several between commas, each from the same start: sft, dft, "
     "cadft, dft_nosg, power, focal, eaft, infosft; NAME+w with sample weights",
     1},
    {"tokenizer", OPT_TOKENIZER, "NAME", 0,
     "A folder, or bytes (default: the model's)", 2},
    {"format", OPT_FORMAT, "auto|chat|plain", 0,
     "Texts by the chat template, or as they are", 2},
    {"bad-lines", OPT_BAD_LINES, "stop|skip", 0,
     "What a line does that cannot be used (stop)", 2},
    {"eval-file", OPT_EVAL_FILE, "FILE", 0, "Held-out data", 2},
    {"eval-share", OPT_EVAL_SHARE, "X", 0,
     "Else this share of the data is held out, at most 512 samples (0.05)", 2},
    {"max-length", OPT_MAX_LENGTH, "N", 0,
     "Tokens; longer samples are left out (what a micro-batch and the model "
     "hold)",
     2},
    {"epochs", OPT_EPOCHS, "X", 0, "How often each sample is seen (1)", 3},
    {"steps", OPT_STEPS, "N", 0, "Optimizer steps, instead of epochs", 3},
    {"batch", OPT_BATCH, "N", 0, "Samples of an optimizer step (16)", 3},
    {"micro-tokens", OPT_MICRO_TOKENS, "N", 0, "Tokens of a micro-batch (2048)",
     3},
    {"lr", OPT_LR, "X", 0, "Learning rate (5e-5)", 3},
    {"warmup", OPT_WARMUP, "X", 0, "Share of the steps (0.1)", 3},
    {"schedule", OPT_SCHEDULE, "constant|linear|cosine", 0,
     "How the rate falls after the warm-up (cosine)", 3},
    {"scope", OPT_SCOPE, "exact|running|local", 0,
     "Where the statistics of the sample weights come from (exact)", 3},
    {"rewrite", OPT_REWRITE, NULL, 0,
     "Rewrite targets (default: cadft of three epochs and more)", 3},
    {"no-rewrite", OPT_NO_REWRITE, NULL, 0, "Never rewrite", 3},
    {"freeze", OPT_FREEZE, "PATTERN", 0,
     "Parameters that stay as they are: \"model.embed*\"; may be repeated", 3},
    {"dtype", OPT_DTYPE, "stored|f32|bf16", 0, "Of the weights (stored)", 3},
    {"checkpointing", OPT_CHECKPOINTING, NULL, 0,
     "Less memory for more time: activations are computed twice", 3},
    {"set", OPT_SET, "NOUN.KEY=VALUE", 0,
     "Any knob of the library: loss.beta=2, optimizer.beta2=0.99, "
     "rewrite.interval=100, model.checkpointing=1; may be repeated",
     3},
    {"seed", OPT_SEED, "N", 0, "The same seed gives the same bits (1)", 3},
    {"threads", OPT_THREADS, "N", 0,
     "Any number gives the same bits (as many as processors)", 4},
    {"eval-every", OPT_EVAL_EVERY, "N", 0,
     "Steps between evaluations (a tenth of the run)", 4},
    {"save-every", OPT_SAVE_EVERY, "N", 0, "Between checkpoints (100)", 4},
    {"keep", OPT_KEEP, "N", 0, "Checkpoints that stay, 0 for all (2)", 4},
    {"fresh", OPT_FRESH, NULL, 0, "Remove the checkpoints, start over", 4},
    {"second-moment", OPT_SECOND_MOMENT, "N", 0,
     "Mean squared norm of the gradients of N samples, before and after", 5},
    {"plot", OPT_PLOT, "FILE", 0, "Draw the metrics: .svg or .png", 5},
    {"from", OPT_FROM, "DIR", 0,
     "With --plot: only draw what lies in this OUT; may be repeated", 5},
    {"log-every", OPT_LOG_EVERY, "N", 0,
     "Steps between lines where stderr is no terminal (10)", 5},
    {"quiet", OPT_QUIET, NULL, 0, "No progress", 5},
    {"dry-run", OPT_DRY_RUN, NULL, 0,
     "Show sizes, steps and memory; write nothing", 5},
    {0}};

/* Options that set one field and nothing else; a flag sets it to `high`. */
enum { WHOLE, REAL, TEXT, FLAG };

typedef struct field {
    int key, type;
    size_t offset;
    double low, high;
} field;

#define FIELD(key, type, name, low, high)                                      \
    {                                                                          \
        key, type, offsetof(options, name), low, high                          \
    }

static const field fields[] = {
    FIELD(OPT_MODEL, TEXT, model, 0, 0),
    FIELD(OPT_DATA, TEXT, data, 0, 0),
    FIELD(OPT_OUT, TEXT, out, 0, 0),
    FIELD(OPT_TOKENIZER, TEXT, tokenizer, 0, 0),
    FIELD(OPT_EVAL_FILE, TEXT, eval_file, 0, 0),
    FIELD(OPT_PLOT, TEXT, plot, 0, 0),
    FIELD(OPT_EPOCHS, REAL, epochs, 1e-6, 1e6),
    FIELD(OPT_EVAL_SHARE, REAL, eval_share, 0, 0.9),
    FIELD(OPT_STEPS, WHOLE, steps, 1, 1e9),
    FIELD(OPT_BATCH, WHOLE, batch, 1, 1 << 20),
    FIELD(OPT_MICRO_TOKENS, WHOLE, micro_tokens, 2, 1 << 24),
    FIELD(OPT_MAX_LENGTH, WHOLE, max_length, 2, 1 << 24),
    FIELD(OPT_SEED, WHOLE, seed, 0, 0x1p53),
    FIELD(OPT_THREADS, WHOLE, threads, 1, 1024),
    FIELD(OPT_EVAL_EVERY, WHOLE, eval_every, 1, 1e9),
    FIELD(OPT_SAVE_EVERY, WHOLE, save_every, 1, 1e9),
    FIELD(OPT_KEEP, WHOLE, keep, 0, 1e6),
    FIELD(OPT_LOG_EVERY, WHOLE, log_every, 1, 1e9),
    FIELD(OPT_SECOND_MOMENT, WHOLE, second_moment, 0, 1e6),
    FIELD(OPT_REWRITE, FLAG, rewriting, 0, 1),
    FIELD(OPT_NO_REWRITE, FLAG, rewriting, 0, 0),
    FIELD(OPT_FRESH, FLAG, fresh, 0, 1),
    FIELD(OPT_QUIET, FLAG, quiet, 0, 1),
    FIELD(OPT_DRY_RUN, FLAG, dry_run, 0, 1)};

/* Options that mean a knob of the library. */
static const struct {
    int key, noun;
    const char *name;
} short_forms[] = {{OPT_LR, NOUN_OPTIMIZER, "lr"},
                   {OPT_WARMUP, NOUN_OPTIMIZER, "warmup_fraction"},
                   {OPT_SCHEDULE, NOUN_OPTIMIZER, "schedule"},
                   {OPT_SCOPE, NOUN_LOSS, "scope"},
                   {OPT_DTYPE, NOUN_MODEL, "weight_dtype"},
                   {OPT_CHECKPOINTING, NOUN_MODEL, "checkpointing"}};

/* What the program itself has to decide. */
static const struct {
    int noun;
    const char *name, *instead;
} reserved[] = {{NOUN_LOSS, "objective", "use --objective"},
                {NOUN_LOSS, "weighting", "use --objective NAME+w"},
                {NOUN_LOSS, "denominator", "it follows from the batch"},
                {NOUN_LOSS, "ignore_index", "it follows from the data"},
                {NOUN_LOSS, "label_offset", "it follows from the data"},
                {NOUN_OPTIMIZER, "planned_steps", "use --steps"},
                {NOUN_REWRITE, "planned_steps", "use --steps"},
                {NOUN_REWRITE, "seed", "use --seed"}};

static const char *const nouns[NOUNS] = {"loss", "optimizer", "rewrite",
                                         "model"};

const char *noun_name(int noun)
{
    return nouns[noun];
}

static const char *option_name(int key)
{
    for (const struct argp_option *o = table; o->name; o++)
        if (o->key == key)
            return o->name;
    return "?";
}

static void take_number(const field *f,
                        const char *text,
                        options *o,
                        struct argp_state *state)
{
    char *end, *at = (char *)o + f->offset;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end || errno || !(value >= f->low) || value > f->high ||
        (f->type == WHOLE && value != floor(value)))
        argp_error(state, "--%s %s: expected a %snumber from %.15g to %.15g",
                   option_name(f->key), text, f->type == WHOLE ? "whole " : "",
                   f->low, f->high);
    if (f->type == WHOLE)
        *(int64_t *)(void *)at = (int64_t)value;
    else
        *(double *)(void *)at = value;
}

/* The place of `text` in a list of words. */
static int take_word(int key,
                     const char *text,
                     const char *const *words,
                     struct argp_state *state)
{
    char all[64] = "";
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
        strcat(strcat(all, i ? ", " : ""), words[i]);
    }
    argp_error(state, "--%s %s: expected one of %s", option_name(key), text,
               all);
    return 0;
}

static void add_setting(options *o,
                        int noun,
                        const char *name,
                        size_t length,
                        const char *value,
                        struct argp_state *state)
{
    if (o->n_settings == MAX_SETTINGS)
        argp_error(state, "more than %d settings", MAX_SETTINGS);
    setting *s = &o->settings[o->n_settings++];
    s->noun = noun;
    s->value = value;
    memcpy(s->name, name, length);
    s->name[length] = '\0';
}

/* NOUN.KEY=VALUE; whether the value will do the library says later. */
static void take_setting(const char *text, options *o, struct argp_state *state)
{
    const char *dot = strchr(text, '.'), *equal = strchr(text, '=');
    cadft_error e = {.struct_size = sizeof e};
    int noun = 0;
    int32_t key;
    if (dot && equal && dot < equal)
        while (noun < NOUNS &&
               (strlen(nouns[noun]) != (size_t)(dot - text) ||
                strncmp(nouns[noun], text, strlen(nouns[noun]))))
            noun++;
    size_t length = dot && equal > dot ? (size_t)(equal - dot) - 1 : 0;
    if (length == 0 || length >= sizeof o->settings->name || noun == NOUNS)
        argp_error(state,
                   "--set %s: expected NOUN.KEY=VALUE with loss, "
                   "optimizer, rewrite or model for NOUN",
                   text);
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (reserved[i].noun == noun && strlen(reserved[i].name) == length &&
            strncmp(reserved[i].name, dot + 1, length) == 0)
            argp_error(state, "--set %s: %s", text, reserved[i].instead);
    add_setting(o, noun, dot + 1, length, equal + 1, state);
    if (knobs_key(noun, o->settings[o->n_settings - 1].name, &key, &e))
        argp_error(state, "--set %s: %s of %s", text, e.message, nouns[noun]);
}

static void take_objective(const char *name,
                           size_t length,
                           const char *all,
                           options *o,
                           struct argp_state *state)
{
    if (o->n_objectives == MAX_OBJECTIVES)
        argp_error(state, "--objective %s: at most %d", all, MAX_OBJECTIVES);
    objective_option *x = &o->objectives[o->n_objectives++];
    if (length == 0 || length >= sizeof x->name || *name == '.' ||
        memchr(name, '/', length))
        argp_error(state, "--objective %s: expected names between commas", all);
    memcpy(x->name, name, length);
    x->name[length] = '\0';
    strcpy(x->token, x->name);
    char *plus = strstr(x->token, "+w");
    x->weighted = plus && !plus[2];
    if (x->weighted)
        *plus = '\0';
    if (strcmp(x->token, "cadft") == 0) {
        x->weighted = 1;
        strcpy(x->token, "dft");
    }
    if (strcmp(x->token, "host") == 0)
        argp_error(state,
                   "--objective %s: host is for programs that bring "
                   "their own coefficient",
                   all);
    for (int i = 0; i + 1 < o->n_objectives; i++)
        if (strcmp(o->objectives[i].name, x->name) == 0)
            argp_error(state, "--objective %s: %s is there twice", all,
                       x->name);
}

static void take_objectives(const char *all, options *o, struct argp_state *s)
{
    o->n_objectives = 0;
    for (const char *at = all;; at++) {
        size_t length = strcspn(at, ",");
        take_objective(at, length, all, o, s);
        at += length;
        if (!*at)
            break;
    }
}

static const char *dtype_of(const char *text)
{
    return strcmp(text, "f32") == 0    ? "float32"
           : strcmp(text, "bf16") == 0 ? "bfloat16"
                                       : text;
}

static int
take_short_form(int key, const char *text, options *o, struct argp_state *state)
{
    for (size_t i = 0; i < sizeof short_forms / sizeof *short_forms; i++) {
        if (short_forms[i].key != key)
            continue;
        const char *value = key == OPT_CHECKPOINTING ? "1"
                            : key == OPT_DTYPE       ? dtype_of(text)
                                                     : text;
        add_setting(o, short_forms[i].noun, short_forms[i].name,
                    strlen(short_forms[i].name), value, state);
        return 1;
    }
    return 0;
}

static void
add_text(int key, const char *text, options *o, struct argp_state *state)
{
    const char **list = key == OPT_FREEZE ? o->freeze : o->from;
    int *n = key == OPT_FREEZE ? &o->n_freeze : &o->n_from;
    if (*n == MAX_PATTERNS)
        argp_error(state, "--%s: at most %d times", option_name(key),
                   MAX_PATTERNS);
    list[(*n)++] = text;
}

static void check_whole(options *o, struct argp_state *state)
{
    if (o->n_from > 0) {
        if (!o->plot)
            argp_error(state, "--from needs --plot FILE");
        return;
    }
    if (!o->model || !o->data || (!o->out && !o->dry_run))
        argp_error(state, "%s is missing",
                   !o->model  ? "--model DIR"
                   : !o->data ? "--data FILE"
                              : "--out DIR");
    if (o->max_length > o->micro_tokens)
        argp_error(state,
                   "--max-length %lld: a micro-batch holds %lld tokens, see "
                   "--micro-tokens",
                   (long long)o->max_length, (long long)o->micro_tokens);
}

static int take_field(int key, char *text, options *o, struct argp_state *state)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const field *f = &fields[i];
        void *at = (char *)o + f->offset;
        if (f->key != key)
            continue;
        if (f->type == TEXT)
            *(const char **)at = text;
        else if (f->type == FLAG)
            *(int *)at = (int)f->high;
        else
            take_number(f, text, o, state);
        return 1;
    }
    return 0;
}

static error_t take(int key, char *text, struct argp_state *state)
{
    static const char *const formats[] = {"auto", "plain", "chat", NULL};
    static const char *const bad_lines[] = {"stop", "skip", NULL};
    options *o = state->input;
    if (take_field(key, text, o, state) || take_short_form(key, text, o, state))
        return 0;
    switch (key) {
    case OPT_OBJECTIVE:
        take_objectives(text, o, state);
        break;
    case OPT_FORMAT:
        o->format = take_word(key, text, formats, state);
        break;
    case OPT_BAD_LINES:
        o->bad_lines = take_word(key, text, bad_lines, state);
        break;
    case OPT_SET:
        take_setting(text, o, state);
        break;
    case OPT_FREEZE:
    case OPT_FROM:
        add_text(key, text, o, state);
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "%s: not expected here", text);
        break;
    case ARGP_KEY_END:
        check_whole(o, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void options_parse(int argc, char **argv, options *o)
{
    static const struct argp parser = {
        .options = table, .parser = take, .doc = before_options};
    *o = (options){.epochs = 1,
                   .eval_share = 0.05,
                   .batch = 16,
                   .micro_tokens = 2048,
                   .seed = 1,
                   .save_every = 100,
                   .keep = 2,
                   .log_every = 10,
                   .rewriting = -1,
                   .n_objectives = 1,
                   .objectives = {{"cadft", "dft", 1}}};
    argp_err_exit_status = 2;
    argp_parse(&parser, argc, argv, 0, NULL, o);
}

const char *options_find(const options *o, int noun, const char *name)
{
    for (int i = o->n_settings; i-- > 0;)
        if (o->settings[i].noun == noun &&
            strcmp(o->settings[i].name, name) == 0)
            return o->settings[i].value;
    return NULL;
}
