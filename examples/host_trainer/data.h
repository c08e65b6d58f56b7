/* SPDX-License-Identifier: Apache-2.0 */
/* Demonstrations: made up here or read from a file, split once, and a share
 * of those to train on spoiled on purpose. */
#ifndef HOST_DATA_H
#define HOST_DATA_H

#include <stddef.h>
#include <stdint.h>

/* One demonstration; bytes, not terminated. */
typedef struct demo {
    unsigned char *text; /* prompt, then completion */
    size_t n_prompt, n_completion;
    /* Was spoiled. For the tables only: training never looks at it. */
    int mismatched;
} demo;

typedef struct demo_list {
    demo *items;
    size_t n, capacity;
} demo_list;

typedef struct data_options {
    const char *path; /* NULL: generated */
    int strict;       /* stop at the first bad line */
    double mismatch;  /* share of `train` and `probe` that is spoiled */
    size_t heldout;   /* wanted size of `heldout` */
    size_t max_bytes; /* longest completion that is kept */
    uint64_t seed;
} data_options;

typedef struct data_set {
    demo_list pretrain;    /* clean, for the common starting point */
    demo_list train;       /* a share mismatched */
    demo_list heldout;     /* clean, never trained on */
    demo_list probe;       /* as train, never trained on: second moments */
    size_t max_completion; /* bytes, over all lists */
} data_set;

int data_load(const data_options *options, data_set *out);
void data_free(data_set *data);

/* All demonstrations of the source, in order. */
int data_generate(demo_list *out);
int data_read(const data_options *options, demo_list *out);

/* Append; copies both texts. */
int demo_list_add(demo_list *list,
                  const void *prompt,
                  size_t n_prompt,
                  const void *completion,
                  size_t n_completion);
void demo_list_free(demo_list *list);

/* The final answer of a completion: what follows its last "####", without
 * blanks around; the whole completion where there is none. */
const unsigned char *
final_answer(const unsigned char *text, size_t n, size_t *n_answer);

#endif
