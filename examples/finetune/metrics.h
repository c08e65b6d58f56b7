/* SPDX-License-Identifier: Apache-2.0 */
/* What a step did, kept in two files of a run's folder with the same content:
 *
 *     OUT/metrics.csv     for plots and spreadsheets; a header, a line a step
 *     OUT/metrics.jsonl   for programs; an object a line
 *
 * Numbers have a decimal point whatever the locale, in nine digits. What there
 * is not (no evaluation at this step, no sample of a group) is an empty field
 * of the CSV and has no key in the JSON.
 *
 * Functions that can fail return TEXT_OK, TEXT_FAILED (disk, memory) or
 * TEXT_INPUT (a file whose content cannot be), with a sentence in `error` that
 * names the file, and the line. */
#ifndef FINETUNE_METRICS_H
#define FINETUNE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "text/text.h"

enum { METRICS_GROUPS = 8 }; /* most groups that a run can have */

/* The samples of one group ("clean", "mismatched", a source) in a step. */
typedef struct metrics_group {
    int64_t samples; /* 0: w and c are not written, and are read as NaN */
    double w;        /* mean weight as applied */
    double c;        /* mean of c, nats a token */
} metrics_group;

/* A step. NaN: not known. */
typedef struct metrics_record {
    int64_t step;     /* optimizer steps done with this one, from 1 */
    int64_t samples;  /* so far, over all steps */
    int64_t tokens;   /* so far, prompts and completions */
    double seconds;   /* so far, in training; goes on over a resume */
    double loss;      /* the objective's own value */
    double nll;       /* mean of c over the samples, nats */
    double token_nll; /* mean over the counting tokens, nats */
    double mean_p;    /* mean probability of the labels */
    double mean_w;    /* mean weight as applied, 1 without weights */
    double sd_c;      /* standard deviation of c over the samples */
    double grad_norm; /* before clipping */
    double lr;
    double clip;      /* factor on the gradient, 1 without */
    int64_t skipped;  /* steps skipped as non-finite, so far */
    int64_t rewrites; /* targets rewritten, so far */
    double eval_nll;  /* held out, nats a token; NaN: not at this step */
    double eval_p;    /* held out, mean probability */
    metrics_group groups[METRICS_GROUPS]; /* in the order of the names */
} metrics_record;

typedef struct metrics metrics;

/* Open the files of `folder`, which exists, to go on after step `after`: what
 * they hold of later steps is cut off, so is a last line that a crash left
 * unfinished. after = 0 starts them anew; nothing is touched before the first
 * record then, so that a run which fails before leaves nothing behind. With
 * after > 0 files that are not there are begun at that step; files that end
 * before it, or have other columns, are refused (TEXT_INPUT).
 *   groups  [n_groups] names, 0 to METRICS_GROUPS; any text */
int metrics_open(const char *folder,
                 int64_t after,
                 const char *const *groups,
                 size_t n_groups,
                 metrics **out,
                 text_error *error);

/* Append a step to both files. Steps ascend. A failed call may leave half a
 * line, which the next metrics_open cuts off. */
int metrics_append(metrics *m, const metrics_record *record, text_error *error);

/* Have all that was appended on the disk. Before each checkpoint: a checkpoint
 * must not be ahead of its metrics. */
int metrics_sync(metrics *m, text_error *error);

/* Close the files; NULL allowed. What was appended is in the files already. */
void metrics_close(metrics *m);

/* All steps of a run, read back. */
typedef struct metrics_table {
    metrics_record *records; /* [n], ascending steps */
    size_t n;
    char *groups[METRICS_GROUPS];
    size_t n_groups;
} metrics_table;

/* Read folder/metrics.csv. An unfinished last line is left out. */
int metrics_read(const char *folder, metrics_table *out, text_error *error);
void metrics_table_free(metrics_table *table);

/* A record in which everything is 0 or, if it can be unknown, NaN. */
void metrics_record_clear(metrics_record *record);

#endif
