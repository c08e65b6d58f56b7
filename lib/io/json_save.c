/* SPDX-License-Identifier: Apache-2.0 */
#include "io/json_save.h"

#include <jansson.h>
#include <string.h>

#include "common/error.h"

int32_t cadft__json_set_text(cadft__json *object,
                             const char *key,
                             const char *text,
                             cadft_error *error)
{
    if (json_object_set_new(object->value, key, json_string(text)))
        return cadft__fail(error, CADFT_E_NOMEM,
                           "%s: no memory for the JSON values",
                           object->file.text);
    return CADFT_OK;
}

/* jansson writes in pieces of a few bytes. */
struct writer {
    cadft__sink *sink;
    cadft_error *error;
    int32_t status;
    size_t used;
    char buffer[4096];
};

static void flush(struct writer *w)
{
    if (!w->status)
        w->status = cadft__sink_write(w->sink, w->buffer, w->used, w->error);
    w->used = 0;
}

static int write_piece(const char *piece, size_t size, void *user)
{
    struct writer *w = (struct writer *)user;
    while (size && !w->status) {
        size_t room = sizeof w->buffer - w->used;
        size_t n = size < room ? size : room;
        memcpy(w->buffer + w->used, piece, n);
        w->used += n;
        piece += n;
        size -= n;
        if (w->used == sizeof w->buffer)
            flush(w);
    }
    return w->status ? -1 : 0;
}

int32_t cadft__json_save(const cadft__json *object,
                         const cadft__save *save,
                         const char *name,
                         cadft_error *error)
{
    cadft__sink sink;
    struct writer w = {.sink = &sink, .error = error};
    w.status = cadft__sink_open(save, name, &sink, error);
    if (!w.status &&
        json_dump_callback(object->value, write_piece, &w, JSON_INDENT(2)) &&
        !w.status)
        w.status = cadft__fail(error, CADFT_E_NOMEM,
                               "%s: no memory to write it", sink.shown.text);
    write_piece("\n", 1, &w);
    flush(&w);
    return cadft__sink_close(&sink, w.status, error);
}
