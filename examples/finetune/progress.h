/* SPDX-License-Identifier: Apache-2.0 */
/* How far a run is: one line on stderr that rewrites itself on a terminal, a
 * line every few steps elsewhere. The clock is the record's `seconds`. */
#ifndef FINETUNE_PROGRESS_H
#define FINETUNE_PROGRESS_H

#include <stdint.h>
#include <stdio.h>

#include "metrics.h"

enum { PROGRESS_WINDOW = 32 }; /* steps that the rate is taken over */

/* Members are progress.c's own. */
typedef struct progress {
    FILE *to; /* NULL: silent */
    const char *name;
    int64_t steps, log_every;
    int terminal, shown; /* a line is on the terminal */
    double last;         /* seconds when it was drawn */
    int64_t seen;        /* steps of this process */
    double time[PROGRESS_WINDOW];
    int64_t tokens[PROGRESS_WINDOW], at[PROGRESS_WINDOW];
} progress;

/* Begin. `first` is the run as it stands before its next step: step, tokens
 * and seconds of a resumed run, zeros of a new one.
 *   to         stderr, or NULL: --quiet
 *   name       of the objective or NULL; lives as long as the progress
 *   steps      planned
 *   log_every  steps between two lines where `to` is no terminal, at least 1;
 *              the last step always has one */
void progress_start(progress *p,
                    FILE *to,
                    const char *name,
                    int64_t steps,
                    int64_t log_every,
                    const metrics_record *first);

/* After a step. Errors of `to` are not looked at: progress is no result. */
void progress_step(progress *p, const metrics_record *record);

/* A line of its own between the others: "checkpoint of step 40". No newline in
 * it. Nothing with --quiet. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void progress_note(progress *p, const char *format, ...);

/* Leave the last line standing and go to the next one; before anything else is
 * printed, an error's sentence for instance. May be called twice. */
void progress_end(progress *p);

#endif
