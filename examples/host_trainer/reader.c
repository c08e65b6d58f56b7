/* SPDX-License-Identifier: Apache-2.0 */
/* A file of JSON lines into demonstrations. The statuses of text/text.h are
 * those of util.h. */
#include <stdio.h>

#include "data.h"
#include "text/jsonl.h"
#include "text/lines.h"
#include "util.h"

enum {
    REPORTED = 5, /* bad lines that are reported one by one */
    MAX_LINE = 64 << 20
};

/* Append a demonstration; TEXT_INPUT with a sentence when it is not one of
 * those that this program takes. */
static int take_item(const jsonl_item *item,
                     const data_options *options,
                     demo_list *out,
                     text_error *why)
{
    if (item->form != JSONL_TEXTS)
        return text_fail(why, TEXT_INPUT,
                         "has no \"prompt\" and \"completion\"");
    size_t n = json_string_length(item->second);
    if (n > options->max_bytes)
        return text_fail(why, TEXT_INPUT,
                         "completion of %zu bytes, at most %zu are taken", n,
                         options->max_bytes);
    return demo_list_add(out, json_string_value(item->first),
                         json_string_length(item->first),
                         json_string_value(item->second), n);
}

static int take_line(const lines *l,
                     const data_options *options,
                     demo_list *out,
                     text_error *why)
{
    jsonl_item item;
    if (l->too_long)
        return text_fail(why, TEXT_INPUT, "longer than %zu bytes",
                         l->max_bytes);
    int status = jsonl_parse_line(l->bytes, l->n, &item, why);
    if (status != TEXT_OK)
        return status;
    status = take_item(&item, options, out, why);
    jsonl_free(&item);
    return status;
}

static int read_all(lines *l, const data_options *options, demo_list *out)
{
    size_t bad = 0;
    int more;
    text_error why;
    for (;;) {
        int status = lines_next(l, &more, &why);
        if (status != TEXT_OK)
            return fail(status, "%s", why.message);
        if (!more)
            break;
        why.message[0] = '\0';
        status = take_line(l, options, out, &why);
        if (status == TEXT_INPUT && !options->strict) {
            if (bad++ < REPORTED)
                fail(HOST_OK, "%s, line %zu: %s", l->name, l->number,
                     why.message);
        } else if (status != TEXT_OK) {
            /* Without a sentence it was demo_list_add that failed and said
             * so. */
            return why.message[0] ? fail(status, "%s, line %zu: %s", l->name,
                                         l->number, why.message)
                                  : status;
        }
    }
    if (bad > 0)
        fail(HOST_OK, "%s: %zu lines skipped, %zu demonstrations taken",
             l->name, bad, out->n);
    return HOST_OK;
}

int data_read(const data_options *options, demo_list *out)
{
    lines l;
    text_error why;
    int status = lines_open(&l, options->path, MAX_LINE, &why);
    if (status != TEXT_OK)
        return fail(status, "%s", why.message);
    status = read_all(&l, options, out);
    lines_close(&l);
    return status;
}
