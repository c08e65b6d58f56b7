/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. */
#ifndef GENERATE_OPTIONS_H
#define GENERATE_OPTIONS_H

#include <stdint.h>

typedef struct options {
    const char *model;     /* folder */
    const char *prompt;    /* NULL: standard input */
    const char *tokenizer; /* NULL: the model folder's; or "bytes" */
    const char *script;    /* NULL: the one this was built with */
    const char *dtype;     /* of the weights in memory, as the library names
                            * it */
    double temperature, top_p;
    uint64_t seed;
    int64_t max_new_tokens;
    int32_t threads; /* 0: all cores */
    int chat, ids, stats;
} options;

/* Fill `o`, or print what is wrong or was asked for and end the program, as
 * argp does: status 2 for wrong arguments, 0 for --help. */
void options_parse(int argc, char **argv, options *o);

#endif
