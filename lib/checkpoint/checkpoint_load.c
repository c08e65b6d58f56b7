/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "common/error.h"
#include "model/model_saved.h"
#include "optimizer/saved.h"

struct loading {
    cadft_context *context;
    const cadft_checkpoint *checkpoint;
    char *path;
    size_t path_size;
    cadft__folder folder; /* stays that of one save all the time */
    cadft__manifest manifest;
    cadft__block fresh[CADFT__PARTS]; /* states that were read */
    cadft__block before[CADFT__PARTS];
    void *host;
    size_t capacity, *host_bytes;
};

static int is_wanted(const struct loading *l, int32_t part)
{
    switch (part) {
    case CADFT__PART_MODEL:
        return l->checkpoint->model != NULL;
    case CADFT__PART_LOSS:
        return l->checkpoint->loss != NULL;
    case CADFT__PART_REWRITE:
        return l->checkpoint->rewrite != NULL;
    case CADFT__PART_OPTIMIZER:
        return l->checkpoint->optimizer != NULL;
    default:
        return l->capacity > 0;
    }
}

/* ------------------------------------------------------------------- read */

static const char *file_of(int32_t part)
{
    return cadft__checkpoint_files[cadft__parts[part].first];
}

static size_t bytes_of(const struct loading *l, int32_t part)
{
    return (size_t)l->manifest.sums[cadft__parts[part].first].bytes;
}

static int32_t check_parts(const struct loading *l, cadft_error *error)
{
    size_t host = bytes_of(l, CADFT__PART_HOST);
    for (int32_t p = 0; p < CADFT__PARTS; p++)
        if (is_wanted(l, p) && !l->manifest.has[p])
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s has no part \"%s\", which is to be loaded",
                               l->folder.shown.text, cadft__parts[p].name);
    if (l->host_bytes)
        *l->host_bytes = host;
    if (l->capacity && l->capacity < host)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu bytes, expected %zu for the "
                           "host's part",
                           l->capacity, host);
    return CADFT_OK;
}

/* A file in memory whose sum was found right. */
static int32_t read_state(struct loading *l, int32_t part, cadft_error *error)
{
    cadft__memory *memory = &l->context->memory;
    cadft__block *block = &l->fresh[part];
    char *text;
    size_t length;
    int32_t status = cadft__file_text(memory, &l->folder, file_of(part),
                                      bytes_of(l, part), &text, &length, error);
    if (!status)
        *block = (cadft__block){text, length + 1};
    return status;
}

static int32_t read_parts(struct loading *l, cadft_error *error)
{
    int32_t status = CADFT_OK;
    for (int32_t p = 0; p < CADFT__PARTS && !status; p++) {
        if (!is_wanted(l, p))
            continue;
        status = cadft__manifest_verify(&l->context->memory, &l->manifest,
                                        &l->folder, p, error);
        if (!status && p != CADFT__PART_MODEL && p != CADFT__PART_OPTIMIZER)
            status = read_state(l, p, error);
    }
    return status;
}

/* ------------------------------------------------------------------ apply */

static int32_t apply_state(struct loading *l, int32_t part, cadft_error *error)
{
    cadft__shown file = cadft__show_path(l->folder.shown.text, file_of(part));
    cadft__block state = {l->fresh[part].data, l->fresh[part].size - 1};
    int32_t status = cadft__part_state(&l->context->memory, l->checkpoint, part,
                                       &l->before[part], error);
    return status ? status
                  : cadft__part_restore(l->checkpoint, part, &state, file.text,
                                        error);
}

static int32_t apply(struct loading *l, int32_t part, cadft_error *error)
{
    switch (part) {
    case CADFT__PART_MODEL:
        return cadft__model_read(l->checkpoint->model, &l->folder, l->path,
                                 error);
    case CADFT__PART_OPTIMIZER:
        return cadft__optimizer_read(l->checkpoint->optimizer, &l->folder,
                                     error);
    case CADFT__PART_HOST:
        memcpy(l->host, l->fresh[part].data, l->fresh[part].size - 1);
        return CADFT_OK;
    default:
        return apply_state(l, part, error);
    }
}

static void undo(struct loading *l, int32_t part)
{
    cadft_error ignored = {sizeof ignored, CADFT_OK, {0}};
    if (part == CADFT__PART_MODEL)
        cadft__model_unread(l->checkpoint->model);
    else
        cadft__part_restore(l->checkpoint, part, &l->before[part], "",
                            &ignored);
}

/* Each part is checked before it changes; those that did are put back when a
 * later one is refused. */
static int32_t apply_parts(struct loading *l, cadft_error *error)
{
    int32_t status = CADFT_OK, p;
    for (p = 0; p < CADFT__PARTS && !status; p++)
        if (is_wanted(l, p))
            status = apply(l, p, error);
    for (p -= 2; status && p >= 0; p--)
        if (is_wanted(l, p))
            undo(l, p);
    return status;
}

/* ------------------------------------------------------------------- load */

static int32_t load_entered(struct loading *l, cadft_error *error)
{
    const cadft_checkpoint *c = l->checkpoint;
    int32_t status =
        c->model ? cadft__model_needs(c->model, 0, error) : CADFT_OK;
    if (!status)
        status = cadft__folder_open(l->path, &l->folder, error);
    if (!status)
        status = cadft__manifest_read(&l->context->memory, &l->folder, c->step,
                                      &l->manifest, error);
    if (!status)
        status = check_parts(l, error);
    if (!status)
        status = read_parts(l, error);
    if (!status)
        status = apply_parts(l, error);
    return status;
}

static int32_t load(struct loading *l, cadft_error *error)
{
    cadft__memory *memory = &l->context->memory;
    const cadft_checkpoint *c = l->checkpoint;
    cadft__entered calls;
    int32_t status;
    if (!l->host && l->capacity)
        return cadft__fail(error, CADFT_E_NULL,
                           "host is NULL, expected %zu bytes", l->capacity);
    status = cadft__step_path(memory, c->folder, c->step, &l->path,
                              &l->path_size, error);
    if (!status)
        status = cadft__parts_enter(c, &calls, error);
    if (!status) {
        status = load_entered(l, error);
        cadft__parts_leave(c, &calls);
    }
    cadft__folder_close(&l->folder);
    for (int32_t p = 0; p < CADFT__PARTS; p++) {
        cadft__block_free(memory, &l->fresh[p]);
        cadft__block_free(memory, &l->before[p]);
    }
    cadft__free(memory, l->path, l->path_size);
    return status;
}

int32_t cadft_checkpoint_load(cadft_context *context,
                              const cadft_checkpoint *checkpoint,
                              void *host,
                              size_t capacity,
                              size_t *host_bytes,
                              cadft_error *error)
{
    cadft_checkpoint copy;
    cadft_error own;
    int before = errno;
    int32_t status = cadft__error_enter(error, &own);
    if (host_bytes)
        *host_bytes = 0;
    if (!status) {
        struct loading l = {.context = context,
                            .checkpoint = &copy,
                            .folder = {.fd = -1},
                            .host = host,
                            .capacity = capacity,
                            .host_bytes = host_bytes};
        status = cadft__checkpoint_in(context, checkpoint, &copy, &own);
        if (!status)
            status = load(&l, &own);
        if (status && context)
            cadft__context_note(context, &own);
    }
    if (status && status != CADFT_E_SPACE && host_bytes)
        *host_bytes = 0;
    errno = before;
    return cadft__error_leave(error, &own, status);
}
