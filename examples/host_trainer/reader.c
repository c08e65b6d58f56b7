/* SPDX-License-Identifier: Apache-2.0 */
/* A file of JSON lines into demonstrations. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "jsonl.h"
#include "util.h"

enum { REPORTED = 5 }; /* bad lines that are reported one by one */

typedef struct line_buffer {
    char *bytes;
    size_t n, capacity;
    size_t number; /* from 1 */
    int last;      /* the file ended with this line */
} line_buffer;

/* One line without its end. Of a line longer than JSONL_MAX_LINE one byte
 * more than that is kept, enough for the parser to refuse it, and the rest
 * is read over: memory stays bounded whatever the file is. */
static int read_line(FILE *file, line_buffer *line)
{
    line->n = 0;
    line->number++;
    int c;
    while ((c = getc(file)) != EOF && c != '\n') {
        if (line->n > JSONL_MAX_LINE)
            continue;
        if (line->n == line->capacity) {
            size_t capacity = line->capacity ? 2 * line->capacity : 4096;
            char *bytes = realloc(line->bytes, capacity);
            if (!bytes)
                return fail(HOST_FAILED, "out of memory for line %zu",
                            line->number);
            line->bytes = bytes;
            line->capacity = capacity;
        }
        line->bytes[line->n++] = (char)c;
    }
    line->last = c == EOF;
    return HOST_OK;
}

static int is_blank_line(const line_buffer *line)
{
    for (size_t i = 0; i < line->n; i++)
        if (!memchr(" \t\r", line->bytes[i], 3))
            return 0;
    return 1;
}

/* Parse one line and append it; `why` is "" unless the line is bad. */
static int take_line(const line_buffer *line,
                     const data_options *options,
                     demo_list *out,
                     char *why,
                     size_t capacity)
{
    const char *bytes = line->bytes;
    size_t n = line->n;
    if (line->number == 1 && n >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) {
        bytes += 3; /* a byte order mark that some editors leave */
        n -= 3;
    }
    jsonl_item item;
    int parsed = jsonl_parse_line(bytes, n, line->number, &item, why, capacity);
    if (parsed == JSONL_NOMEM)
        return fail(HOST_FAILED, "%s: %s", options->path, why);
    if (parsed != JSONL_OK)
        return HOST_OK;
    int status = HOST_OK;
    if (item.n_completion > options->max_bytes)
        snprintf(why, capacity,
                 "line %zu: completion of %zu bytes, at most %zu are taken",
                 line->number, item.n_completion, options->max_bytes);
    else
        status = demo_list_add(out, item.text, item.n_prompt,
                               item.text + item.n_prompt, item.n_completion);
    jsonl_free(&item);
    return status;
}

static int read_all(FILE *file,
                    const data_options *options,
                    demo_list *out,
                    line_buffer *line)
{
    size_t bad = 0;
    char why[512];
    do {
        int status = read_line(file, line);
        if (status != HOST_OK)
            return status;
        if (is_blank_line(line))
            continue;
        why[0] = '\0';
        status = take_line(line, options, out, why, sizeof why);
        if (status != HOST_OK)
            return status;
        if (why[0] && options->strict)
            return fail(HOST_INPUT, "%s: %s", options->path, why);
        if (why[0] && bad++ < REPORTED)
            fail(HOST_OK, "%s: %s", options->path, why);
    } while (!line->last);
    if (ferror(file))
        return fail(HOST_INPUT, "%s: cannot be read: %s", options->path,
                    strerror(errno));
    if (bad > 0)
        fail(HOST_OK, "%s: %zu lines skipped, %zu demonstrations taken",
             options->path, bad, out->n);
    return HOST_OK;
}

int data_read(const data_options *options, demo_list *out)
{
    FILE *file = fopen(options->path, "rb");
    if (!file)
        return fail(HOST_INPUT, "%s: cannot be opened: %s", options->path,
                    strerror(errno));
    line_buffer line = {0};
    int status = read_all(file, options, out, &line);
    free(line.bytes);
    fclose(file);
    return status;
}
