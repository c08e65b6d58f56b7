/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

static const char help_text[] =
    "host_trainer: fine-tune one small byte model with several objectives of\n"
    "libcadft, from the same start on the same data, and compare.\n"
    "\n"
    "data\n"
    "  --data FILE         JSON lines with prompt/completion or question/\n"
    "                      answer; without it, arithmetic is made up\n"
    "  --mismatch SHARE    share of training demonstrations that is spoiled\n"
    "                      (default 0.25 made up, 0 from a file)\n"
    "  --max-bytes N       longest completion that is taken (1024)\n"
    "  --heldout N         clean items kept for evaluation (1000)\n"
    "  --strict            stop at the first bad line instead of skipping it\n"
    "training\n"
    "  --objectives LIST   of sft, dft, cadft, or any token objective of\n"
    "                      libcadft, with +w for sample weights (eaft+w);\n"
    "                      NAME:RATE gives one its own learning rate\n"
    "                      (sft,dft,cadft)\n"
    "  --steps N           optimizer steps of each objective (300)\n"
    "  --pretrain N        steps of the common start, SFT on clean data (200)\n"
    "  --batch N           demonstrations of a step (64)\n"
    "  --micro-rows N      rows of a micro-batch (512)\n"
    "  --lr RATE           learning rate of all objectives (0.02)\n"
    "  --pretrain-lr RATE  learning rate of the common start (0.02)\n"
    "  --beta B            strength of the sample weights (1)\n"
    "model\n"
    "  --context N  --embed N  --hidden N  --depth 1|2   (18, 8, 128, 1)\n"
    "running\n"
    "  --seed N            (1); the same seed gives the same bits\n"
    "  --threads N         any number gives the same bits (all cores)\n"
    "  --decode N          held-out items to decode greedily (all)\n"
    "  --csv FILE          metrics, a row per step (host_trainer.csv)\n"
    "  --out DIR           where the default CSV goes (.)\n"
    "  --quick             a few seconds, for tests\n"
    "  --check             compare gradients with finite differences, exit\n"
    "  --help\n"
    "\n"
    "Ctrl-C ends training early and prints what there is (exit status 130).\n"
    "Exit status: 0 done, 1 failed, 2 wrong arguments or data.\n";

enum {
    OPT_DATA = 256,
    OPT_MISMATCH,
    OPT_MAX_BYTES,
    OPT_HELDOUT,
    OPT_STRICT,
    OPT_OBJECTIVES,
    OPT_STEPS,
    OPT_PRETRAIN,
    OPT_BATCH,
    OPT_MICRO_ROWS,
    OPT_LR,
    OPT_PRETRAIN_LR,
    OPT_BETA,
    OPT_CONTEXT,
    OPT_EMBED,
    OPT_HIDDEN,
    OPT_DEPTH,
    OPT_SEED,
    OPT_THREADS,
    OPT_DECODE,
    OPT_CSV,
    OPT_OUT,
    OPT_QUICK,
    OPT_CHECK,
    OPT_HELP
};

static const struct option long_options[] = {
    {"data", required_argument, NULL, OPT_DATA},
    {"mismatch", required_argument, NULL, OPT_MISMATCH},
    {"max-bytes", required_argument, NULL, OPT_MAX_BYTES},
    {"heldout", required_argument, NULL, OPT_HELDOUT},
    {"strict", no_argument, NULL, OPT_STRICT},
    {"objectives", required_argument, NULL, OPT_OBJECTIVES},
    {"steps", required_argument, NULL, OPT_STEPS},
    {"pretrain", required_argument, NULL, OPT_PRETRAIN},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"micro-rows", required_argument, NULL, OPT_MICRO_ROWS},
    {"lr", required_argument, NULL, OPT_LR},
    {"pretrain-lr", required_argument, NULL, OPT_PRETRAIN_LR},
    {"beta", required_argument, NULL, OPT_BETA},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"embed", required_argument, NULL, OPT_EMBED},
    {"hidden", required_argument, NULL, OPT_HIDDEN},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"seed", required_argument, NULL, OPT_SEED},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"decode", required_argument, NULL, OPT_DECODE},
    {"csv", required_argument, NULL, OPT_CSV},
    {"out", required_argument, NULL, OPT_OUT},
    {"quick", no_argument, NULL, OPT_QUICK},
    {"check", no_argument, NULL, OPT_CHECK},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0}};

static const char *name_of(int key)
{
    return long_options[key - OPT_DATA].name;
}

static int
parse_i64(int key, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < low || value > high)
        return fail(HOST_INPUT,
                    "--%s %s: expected a whole number from %lld to %lld",
                    name_of(key), text, (long long)low, (long long)high);
    *out = value;
    return HOST_OK;
}

static int parse_int(int key, const char *text, int low, int high, int *out)
{
    int64_t value = 0;
    int status = parse_i64(key, text, low, high, &value);
    if (status == HOST_OK)
        *out = (int)value;
    return status;
}

static int
parse_f64(int key, const char *text, double low, double high, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high))
        return fail(HOST_INPUT, "--%s %s: expected a number from %g to %g",
                    name_of(key), text, low, high);
    *out = value;
    return HOST_OK;
}

static int
parse_size(int key, const char *text, int64_t low, int64_t high, size_t *out)
{
    int64_t value = 0;
    int status = parse_i64(key, text, low, high, &value);
    if (status == HOST_OK)
        *out = (size_t)value;
    return status;
}

/* "sft,dft:0.002,eaft+w" into o->objectives. Names are checked later, by
 * the library that knows them. */
static int parse_objectives(options *o)
{
    const char *at = o->list;
    for (o->n_objectives = 0;; o->n_objectives++) {
        if (o->n_objectives == MAX_OBJECTIVES)
            return fail(HOST_INPUT, "--objectives %s: at most %d", o->list,
                        MAX_OBJECTIVES);
        objective_option *x = &o->objectives[o->n_objectives];
        size_t length = strcspn(at, ",:");
        if (length == 0 || length >= sizeof x->name)
            return fail(HOST_INPUT,
                        "--objectives %s: expected names separated by commas",
                        o->list);
        memcpy(x->name, at, length);
        x->name[length] = '\0';
        x->learning_rate = o->learning_rate;
        at += length;
        if (*at == ':') {
            char *end;
            x->learning_rate = strtod(at + 1, &end);
            if (end == at + 1 || (*end && *end != ',') ||
                !(x->learning_rate > 0 && x->learning_rate <= 1))
                return fail(HOST_INPUT,
                            "--objectives %s: the learning rate of %s must "
                            "be a number above 0 and at most 1",
                            o->list, x->name);
            at = end;
        }
        if (*at++ == '\0')
            break;
    }
    o->n_objectives++;
    return HOST_OK;
}

static int take_number(int key, const char *text, options *o)
{
    const int64_t many = 1000000000;
    const double least = 1e-9;
    switch (key) {
    case OPT_MISMATCH:
        return parse_f64(key, text, 0, 1, &o->data.mismatch);
    case OPT_MAX_BYTES:
        return parse_size(key, text, 1, 1 << 20, &o->data.max_bytes);
    case OPT_HELDOUT:
        return parse_size(key, text, 1, many, &o->data.heldout);
    case OPT_STEPS:
        return parse_i64(key, text, 1, many, &o->steps);
    case OPT_PRETRAIN:
        return parse_i64(key, text, 0, many, &o->pretrain_steps);
    case OPT_BATCH:
        return parse_i64(key, text, 1, 1 << 20, &o->batch);
    case OPT_MICRO_ROWS:
        return parse_i64(key, text, 1, 1 << 20, &o->micro_rows);
    case OPT_LR:
        return parse_f64(key, text, least, 1, &o->learning_rate);
    case OPT_PRETRAIN_LR:
        return parse_f64(key, text, least, 1, &o->pretrain_rate);
    case OPT_BETA:
        return parse_f64(key, text, 0, 1000, &o->beta);
    case OPT_CONTEXT:
        return parse_int(key, text, 1, 256, &o->shape.context);
    case OPT_EMBED:
        return parse_int(key, text, 1, 256, &o->shape.embed);
    case OPT_HIDDEN:
        return parse_int(key, text, 1, 4096, &o->shape.hidden);
    case OPT_DEPTH:
        return parse_int(key, text, 1, MODEL_MAX_HIDDEN, &o->shape.depth);
    case OPT_THREADS:
        return parse_int(key, text, 1, 256, &o->threads);
    default:
        return parse_i64(key, text, 0, many, &o->decode);
    }
}

static int take(int key, const char *text, options *o)
{
    int64_t seed = 0;
    int status = HOST_OK;
    switch (key) {
    case OPT_DATA:
        o->data.path = text;
        break;
    case OPT_OBJECTIVES:
        o->list = text;
        break;
    case OPT_CSV:
        o->csv = text;
        break;
    case OPT_OUT:
        o->out = text;
        break;
    case OPT_SEED:
        status = parse_i64(key, text, 0, INT64_MAX, &seed);
        o->data.seed = (uint64_t)seed;
        break;
    case OPT_STRICT:
        o->data.strict = 1;
        break;
    case OPT_QUICK: /* taken before all others */
        break;
    case OPT_CHECK:
        o->check = 1;
        break;
    case OPT_HELP:
        o->help = 1;
        break;
    default:
        status = take_number(key, text, o);
        break;
    }
    return status;
}

static void set_defaults(options *o, int quick)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *o = (options){
        .data = {.mismatch = -1, .heldout = 1000, .max_bytes = 1024, .seed = 1},
        .shape = {.context = 18, .embed = 8, .hidden = 128, .depth = 1},
        .list = "sft,dft,cadft",
        .learning_rate = 0.02,
        .pretrain_rate = 0.02,
        .beta = 1,
        .steps = 300,
        .pretrain_steps = 200,
        .batch = 64,
        .micro_rows = 512,
        .decode = INT64_MAX,
        .threads = cores < 1     ? 1
                   : cores > 256 ? 256
                                 : (int)cores,
        .quick = quick};
    if (quick) {
        o->shape = (model_shape){18, 8, 64, 1};
        o->data.heldout = 200;
        o->steps = 30;
        o->pretrain_steps = 120;
        o->batch = 32;
    }
}

int options_parse(int argc, char **argv, options *o)
{
    int key, status = HOST_OK, quick = 0;
    opterr = 0;
    /* Twice: --quick changes the defaults that the others start from. */
    while ((key = getopt_long(argc, argv, ":", long_options, NULL)) != -1)
        quick |= key == OPT_QUICK;
    optind = 1;
    set_defaults(o, quick);
    while (status == HOST_OK &&
           (key = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (key == ':')
            return fail(HOST_INPUT, "%s: needs a value, see --help",
                        argv[optind - 1]);
        if (key == '?')
            return fail(HOST_INPUT, "%s: no such option, see --help",
                        argv[optind - 1]);
        status = take(key, optarg, o);
    }
    if (status == HOST_OK && optind < argc)
        return fail(HOST_INPUT, "%s: not expected here, see --help",
                    argv[optind]);
    if (o->data.mismatch < 0)
        o->data.mismatch = o->data.path ? 0 : 0.25;
    return status == HOST_OK ? parse_objectives(o) : status;
}

void options_help(void)
{
    fputs(help_text, stdout);
}
