/* SPDX-License-Identifier: Apache-2.0 */
/* The table at the end. What is in it comes from two files of each run's
 * folder, metrics.csv and summary.json, so that it can be printed again at any
 * time, and after a resume as if the run had never stopped. */
#ifndef FINETUNE_SUMMARY_H
#define FINETUNE_SUMMARY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "text/text.h"
#include "metrics.h"

/* Numbers that the metrics do not hold, in OUT/summary.json. The run writes
 * it with the "before" half when it starts, again when it ends. NaN: not
 * measured. */
typedef struct summary_facts {
    char objective[64];                 /* "cadft" */
    int64_t planned;                    /* steps */
    int32_t weighted;                   /* 1: weights were applied */
    int32_t finished;                   /* 1: all steps were done */
    double nll_before, nll_after;       /* held out, nats a token */
    double p_before, p_after;           /* held out, mean probability */
    double moment_before, moment_after; /* mean |gradient of a sample|^2 */
} summary_facts;

/* All NaN, zero, empty. */
void summary_facts_clear(summary_facts *facts);

/* Write folder/summary.json in one step (beside, then renamed). */
int summary_save(const char *folder,
                 const summary_facts *facts,
                 text_error *error);

/* Read it. That it is not there is TEXT_INPUT. */
int summary_load(const char *folder, summary_facts *facts, text_error *error);

/* A line of the table. */
typedef struct summary_run {
    summary_facts facts;
    int64_t steps, rewrites, skipped; /* of the last record */
    double tokens_per_second;         /* over the whole run */
    /* Mean weights over the last quarter of the steps: all samples, and each
     * group. NaN: no sample, or weights were not applied. */
    double w, group_w[METRICS_GROUPS];
    char *groups[METRICS_GROUPS];
    size_t n_groups;
} summary_run;

/* Fill a line from both files of a run's folder. */
int summary_read(const char *folder, summary_run *out, text_error *error);
void summary_free(summary_run *run);

/* The table of n runs: columns that no run has a value for are left out. */
int summary_print(FILE *to,
                  const summary_run *runs,
                  size_t n,
                  text_error *error);

/* summary_read and summary_print for the folders of n runs. */
int summary_show(FILE *to,
                 const char *const *folders,
                 size_t n,
                 text_error *error);

#endif
