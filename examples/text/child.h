/* SPDX-License-Identifier: Apache-2.0 */
/* Another program that answers JSON with JSON, an object a line, over its
 * standard input and output. */
#ifndef TEXT_CHILD_H
#define TEXT_CHILD_H

#include <jansson.h>
#include <sys/types.h>

#include "text/text.h"

typedef struct child {
    const char *name; /* for sentences */
    pid_t pid;        /* 0: none */
    int fd;           /* a socket: our end of its input and output */
    char *answer;     /* [n] read so far */
    size_t n, capacity;
} child;

/* Start argv[0], which is looked for in PATH; its standard error is ours.
 * An interrupt from the terminal (Ctrl-C) is ours to handle and does not
 * reach it. `name` must outlive the child. */
int child_start(child *c,
                const char *name,
                char *const argv[],
                text_error *error);

/* Send a request and wait for its answer, an object. Requests of any size;
 * both directions are served at once, so that neither side waits for the
 * other. An answer with a text "error" is a failure with that sentence,
 * TEXT_INPUT. SIGPIPE is never raised. */
int child_ask(child *c,
              const json_t *request,
              json_t **answer,
              text_error *error);

/* End the program, which keeps nothing worth saving, and collect its exit
 * status. Harmless twice and after a failed start. */
void child_stop(child *c);

#endif
