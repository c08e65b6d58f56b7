/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C (SIGINT) and SIGTERM ask the program to stop after the step at hand;
 * a second one of the same kind ends it at once. */
#ifndef FINETUNE_STOP_H
#define FINETUNE_STOP_H

void stop_listen(void);

/* The signal's number, 0 without one. */
int stop_asked(void);

#endif
