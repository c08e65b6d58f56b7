/* SPDX-License-Identifier: Apache-2.0 */
/* Demonstrations out of a file of JSON lines, as token ids. */
#ifndef TEXT_DATA_H
#define TEXT_DATA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "text/text.h"
#include "text/tokenizer.h"

enum {
    DATA_IGNORED = -100, /* label of a row that is not learned */
    DATA_NOTES = 5       /* sentences that are kept */
};

/* One demonstration. Row i has read tokens[0 .. i] and is to predict
 * labels[i]: tokens[i + 1], or DATA_IGNORED. What follows the last target is
 * left out, so that the last row alone has nothing to predict. */
typedef struct text_sample {
    int32_t *tokens; /* [n], then the labels in the same piece of memory */
    int32_t *labels; /* [n] */
    int32_t n;
    int32_t n_labels; /* rows with a label, at least 1 */
    int32_t n_prompt; /* tokens before the first target */
    int32_t group;    /* in text_data.groups; -1: none */
    size_t line;      /* of the file, from 1; 0: none */
} text_sample;

enum { FORMAT_AUTO = 0, FORMAT_PLAIN, FORMAT_CHAT };
enum { BAD_LINES_STOP = 0, BAD_LINES_SKIP };

typedef struct text_data_options {
    /* For texts; NULL: lines with texts are bad, those with ids are read. */
    tokenizer *tokenizer;
    /* What becomes of prompt and completion: chat, messages of a user and of
     * an assistant by the chat template; plain, the texts as they are, then
     * eos; auto, chat if there is a template. */
    int format;
    int bad_lines;
    size_t max_line;    /* bytes; 0: 16 MiB */
    int32_t max_tokens; /* of a sample; 0: any number */
    int strict;         /* a longer sample is an error, not left out */
    int32_t vocab;      /* the model's: ids are below it; 0: any */
} text_data_options;

typedef struct text_data {
    text_sample *samples; /* [n] in the file's order */
    size_t n, capacity;
    size_t n_bad;                 /* lines skipped */
    size_t n_long;                /* samples left out */
    size_t n_split;               /* see tokenized.split */
    text_error notes[DATA_NOTES]; /* on the first lines skipped or left out */
    size_t n_notes;
    /* Texts that the field "group" of a line had, for tables: [n_groups] in
     * the order they came. */
    char **groups;
    size_t n_groups;
} text_data;

/* Read a file. Errors name file, line and field: "train.jsonl, line 17: field
 * "completion" is empty". A file without a sample is one. `out` is to be
 * freed in any case. */
int text_data_read(const char *path,
                   const text_data_options *options,
                   text_data *out,
                   text_error *error);

/* The same from an open file, which is closed; `name` is for sentences. */
int text_data_read_stream(FILE *file,
                          const char *name,
                          const text_data_options *options,
                          text_data *out,
                          text_error *error);

void text_data_free(text_data *data);

/* A sample of a prompt and what is to be learned after it; [n_prompt] and
 * [n_completion] ids. TEXT_INPUT: nothing can be learned, as the first token
 * of all has nothing before it. */
int sample_make(const int32_t *prompt,
                size_t n_prompt,
                const int32_t *completion,
                size_t n_completion,
                text_sample *out,
                text_error *error);
void sample_free(text_sample *s);

#endif
