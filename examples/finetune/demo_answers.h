/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FINETUNE_DEMO_ANSWERS_H
#define FINETUNE_DEMO_ANSWERS_H

#include "text/data.h"
#include "text/text.h"

/* Let the model of a folder answer the prompts of samples of bytes, greedily.
 *   share  of the samples whose answer behind "####" is right, byte for byte
 *          up to the end */
int demo_answers(const char *folder,
                 const text_data *data,
                 double *share,
                 text_error *error);

#endif
