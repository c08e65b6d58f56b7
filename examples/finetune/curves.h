/* SPDX-License-Identifier: Apache-2.0 */
/* What gnuplot is told: plot.c runs it, curves.c writes its commands. */
#ifndef FINETUNE_CURVES_H
#define FINETUNE_CURVES_H

#include <stddef.h>
#include <stdio.h>

#include "metrics.h"

typedef struct curves_run {
    const char *name;
    metrics_table table;
} curves_run;

/* Write the commands that draw n runs on gnuplot's standard output, with a
 * decimal point in any locale. Returns how many panels there are: 0, and
 * nothing to draw, if no run has a step. */
int curves_write(FILE *to, int png, const curves_run *runs, size_t n);

#endif
