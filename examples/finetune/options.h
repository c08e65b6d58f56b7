/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. */
#ifndef FINETUNE_OPTIONS_H
#define FINETUNE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "text/text.h"

enum { MAX_OBJECTIVES = 16, MAX_SETTINGS = 64, MAX_PATTERNS = 64 };

/* Whose knob a setting is. */
enum { NOUN_LOSS = 0, NOUN_OPTIMIZER, NOUN_REWRITE, NOUN_MODEL, NOUNS };

/* A knob of the library by name: --set optimizer.beta2=0.99, or an option of
 * its own (--lr) that means one. */
typedef struct setting {
    int noun;
    char name[32];
    const char *value;
} setting;

/* What a run trains with: "cadft" is dft with sample weights; "eaft" is the
 * library's eaft without them, "eaft+w" with them. */
typedef struct objective_option {
    char name[32];  /* as given; names the folder of its run */
    char token[32]; /* the library's name of the token loss */
    int weighted;
} objective_option;

/* Strings are those of argv. */
typedef struct options {
    const char *model, *data, *out;
    const char *eval_file; /* NULL: a share of the data is held out */
    const char *tokenizer; /* NULL: the model's */
    const char *plot;      /* NULL: no picture */
    int format, bad_lines; /* see text/data.h */
    objective_option objectives[MAX_OBJECTIVES];
    int n_objectives;
    double epochs, eval_share;
    int64_t steps; /* 0: epochs count */
    int64_t batch, micro_tokens, max_length;
    int64_t seed, threads;
    int64_t eval_every, save_every, keep, log_every; /* 0: see options.c */
    int64_t second_moment;
    int rewriting; /* 1, 0; -1: see rewriting.h */
    int dry_run, quiet, fresh;
    setting settings[MAX_SETTINGS]; /* later ones win */
    int n_settings;
    const char *freeze[MAX_PATTERNS];
    int n_freeze;
    const char *from[MAX_PATTERNS]; /* folders to draw: --plot with --from */
    int n_from;
} options;

/* Fill `o`. --help, --version and mistakes end the program here, the latter
 * with a sentence and exit status 2. */
void options_parse(int argc, char **argv, options *o);

/* The value that was given to a knob last, or NULL. */
const char *options_find(const options *o, int noun, const char *name);

/* "loss", "optimizer", "rewrite", "model". */
const char *noun_name(int noun);

#endif
