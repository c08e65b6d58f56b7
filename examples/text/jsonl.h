/* SPDX-License-Identifier: Apache-2.0 */
/* One demonstration from one line of JSON. Knows nothing of files, tokenizers
 * or the rest of the program, so that a fuzzer can drive it alone. */
#ifndef TEXT_JSONL_H
#define TEXT_JSONL_H

#include <jansson.h>
#include <stddef.h>

#include "text/text.h"

/* The form of a line follows from the first of these keys that it has; keys
 * of later forms and all others are ignored. */
enum {
    JSONL_MESSAGES = 1, /* messages: a chat */
    JSONL_TEXTS,        /* prompt, completion, or question, answer: texts */
    JSONL_IDS,          /* prompt_ids, completion_ids: token ids */
    JSONL_LABELS        /* tokens, labels: as long as each other */
};

/* What stands in the line, checked:
 *   MESSAGES  first: array of objects with the texts role and content (of
 *             which one at least is the assistant's and none of these empty)
 *   TEXTS     two texts, the second not empty
 *   IDS       two arrays of numbers from 0 to INT32_MAX, the second not empty
 *   LABELS    two arrays, labels[i] is tokens[i] or -100, not all -100
 * Both belong to `root`. */
typedef struct jsonl_item {
    int form; /* 0: empty */
    json_t *root, *first, *second;
} jsonl_item;

/* Parse one line: an object in which no key occurs twice.
 * line  [length] bytes without the end of line; need not be terminated
 * item  filled on success (free with jsonl_free), emptied otherwise
 * TEXT_INPUT: the sentence names the field, not the line or the file. */
int jsonl_parse_line(const char *line,
                     size_t length,
                     jsonl_item *item,
                     text_error *error);

void jsonl_free(jsonl_item *item);

#endif
