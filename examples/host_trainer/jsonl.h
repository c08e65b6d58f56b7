/* SPDX-License-Identifier: Apache-2.0 */
/* One demonstration from one line of JSON. Knows nothing of files or of the
 * rest of the program, so that a fuzzer can drive it alone. */
#ifndef HOST_JSONL_H
#define HOST_JSONL_H

#include <stddef.h>

enum {
    JSONL_OK = 0,
    JSONL_BAD = 1, /* the line; `why` says what is wrong with it */
    JSONL_NOMEM = 2,
    JSONL_MAX_LINE = 64 << 20 /* bytes; longer lines are refused */
};

/* Prompt and completion as bytes (UTF-8), prompt first, in one piece of
 * memory from malloc. NUL bytes are possible (from \u0000 escapes). */
typedef struct jsonl_item {
    char *text; /* [n_prompt + n_completion] */
    size_t n_prompt;
    size_t n_completion; /* at least 1 */
} jsonl_item;

/* Parse one line: an object with the texts "prompt" and "completion", or
 * "question" and "answer"; further keys are ignored, a key that occurs twice
 * is an error.
 * line     [length] bytes without the end of line; need not be terminated
 * number   line number for the message, from 1
 * item     filled on success (free with jsonl_free), emptied otherwise
 * why      [capacity] a sentence naming line and field; "" on success */
int jsonl_parse_line(const char *line,
                     size_t length,
                     size_t number,
                     jsonl_item *item,
                     char *why,
                     size_t capacity);

void jsonl_free(jsonl_item *item);

#endif
