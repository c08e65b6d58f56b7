/* SPDX-License-Identifier: Apache-2.0 */
/* What metrics.c writes and metrics_read.c reads: the columns, in order. */
#ifndef FINETUNE_COLUMNS_H
#define FINETUNE_COLUMNS_H

#include <stddef.h>

#include "metrics.h"

typedef struct column {
    const char *name;
    int real;      /* double, else int64_t */
    size_t offset; /* in metrics_record */
} column;

enum { N_COLUMNS = 17, N_GROUP_COLUMNS = 3 };

extern const column columns[N_COLUMNS];

/* Of each group; offsets are in metrics_group. In the CSV the group's name
 * follows the column's: "w_mismatched". */
extern const column group_columns[N_GROUP_COLUMNS];

typedef struct metrics_names {
    char *name[METRICS_GROUPS];
    size_t n;
} metrics_names;

/* A record as a line of the CSV or of JSON, with its newline and a decimal
 * point in any locale; record NULL: the CSV's header. To be freed; NULL without
 * memory. */
char *metrics_line(const metrics_names *groups,
                   int json,
                   const metrics_record *record,
                   size_t *n);

/* folder/name, to be freed; NULL without memory. */
char *metrics_path(const char *folder, const char *name);

#endif
