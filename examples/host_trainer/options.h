/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. */
#ifndef HOST_OPTIONS_H
#define HOST_OPTIONS_H

#include <stdint.h>

#include "data.h"
#include "model.h"

enum { MAX_OBJECTIVES = 8 };

typedef struct objective_option {
    char name[24];
    double learning_rate;
} objective_option;

typedef struct options {
    data_options data;
    model_shape shape;
    objective_option objectives[MAX_OBJECTIVES];
    int n_objectives;
    const char *list; /* --objectives as given */
    const char *csv;  /* NULL: host_trainer.csv in `out` */
    const char *out;  /* directory, NULL: the current one */
    double learning_rate, pretrain_rate, beta;
    int64_t steps, pretrain_steps;
    int64_t batch;      /* demonstrations of an optimizer step */
    int64_t micro_rows; /* rows of a micro-batch, at least one sample's */
    int64_t decode;     /* held-out items to decode */
    int threads;
    int quick, check, help;
} options;

/* Fill `o`. On HOST_OK with o->help set there is nothing left to do. */
int options_parse(int argc, char **argv, options *o);

/* Print the help to stdout. */
void options_help(void);

#endif
