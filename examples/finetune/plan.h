/* SPDX-License-Identifier: Apache-2.0 */
/* --dry-run: what a run would be, without a step and without a file. */
#ifndef FINETUNE_PLAN_H
#define FINETUNE_PLAN_H

#include <stdio.h>

#include "session.h"

int plan_show(const session *s, FILE *to, text_error *error);

#endif
