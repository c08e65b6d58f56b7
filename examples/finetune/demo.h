/* SPDX-License-Identifier: Apache-2.0 */
/* finetune without arguments: the whole of it on data and a model made up on
 * the spot, under two minutes on two cores. Into ./finetune-demo/ it writes
 *
 *     base/             config.json, a small model with random weights
 *     pretrain.jsonl    clean arithmetic
 *     train.jsonl       other arithmetic, a share of it mismatched
 *     heldout.jsonl     clean, never trained on
 *
 * and then runs finetune twice, with command lines that it prints: sft on
 * pretrain.jsonl, for a start that can do something; then sft, dft and cadft
 * on train.jsonl from there. At last it lets each model answer the held-out
 * questions. */
#ifndef FINETUNE_DEMO_H
#define FINETUNE_DEMO_H

#include <stdint.h>

#include "text/text.h"

/* What main() does with arguments: parse and run; returns the exit status. */
typedef int (*demo_finetune_fn)(int argc, char **argv);

/* The demonstration. Returns an exit status: that of the first finetune which
 * failed or was interrupted, 1 with a sentence on stderr if something else
 * failed. */
int demo_run(const char *program, demo_finetune_fn finetune);

/* Write the model and the data into `folder`, which is made if missing; files
 * that are there already are written again with the same bytes. */
int demo_prepare(const char *folder, text_error *error);

#endif
