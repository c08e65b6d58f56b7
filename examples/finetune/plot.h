/* SPDX-License-Identifier: Apache-2.0 */
/* The curves of one or several runs as a picture, drawn by gnuplot (Debian:
 * gnuplot-nox), which runs as a child process. */
#ifndef FINETUNE_PLOT_H
#define FINETUNE_PLOT_H

#include <stddef.h>
#include <stdint.h>

#include "text/text.h"

/* One curve of each panel. */
typedef struct plot_run {
    const char *name;   /* in the legend */
    const char *folder; /* that holds metrics.csv */
} plot_run;

/* Draw n runs into `file`, whose name ends in .svg or .png: panels of NLL
 * (training and held out), the objective's loss, weights (of each group),
 * norm of the gradient, and rewrites, each only if there is something in it.
 * The file appears as a whole; an older one stays after a failure.
 * A failure is one of the picture only: gnuplot is not installed, or fails (the
 * sentence says which and what to do), another ending, no run (TEXT_INPUT). */
int plot_draw(const char *file,
              const plot_run *runs,
              size_t n,
              text_error *error);

/* finetune --plot FILE --from OUT...: draw what lies in folders. A folder with
 * metrics.csv is a run, named by its last part; of another one each subfolder
 * with metrics.csv is, in the order sft, dft, cadft, then by name. A
 * folder without any is TEXT_INPUT. */
int plot_from(const char *file,
              const char *const *folders,
              size_t n,
              text_error *error);

#endif
