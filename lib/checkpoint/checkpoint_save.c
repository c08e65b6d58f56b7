/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "common/error.h"
#include "io/entries.h"
#include "io/others.h"
#include "model/model_saved.h"
#include "optimizer/saved.h"

struct saving {
    cadft_context *context;
    const cadft_checkpoint *checkpoint;
    cadft__folder folder; /* that holds the checkpoints */
    int32_t made;         /* it was missing */
    char *path;           /* of this checkpoint */
    size_t path_size;
    cadft__block loss, rewrite; /* their states */
    cadft__others others;
    cadft__manifest manifest;
};

/* ----------------------------------------------------------------- folder */

/* A name that is new has to be synced in the folder around it. */
static int sync_parent(int fd)
{
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = parent < 0 ? -1 : cadft__sync_folder(parent);
    int number = errno;
    if (parent >= 0)
        close(parent);
    errno = number;
    return result;
}

static int32_t open_folder(struct saving *s, cadft_error *error)
{
    const char *path = s->checkpoint->folder;
    cadft__shown shown = cadft__show_path("", path);
    int32_t status;
    if (cadft__is_missing(path)) {
        if (!mkdirat(AT_FDCWD, path, 0777))
            s->made = 1;
        else if (errno != EEXIST) /* somebody else was faster */
            return cadft__fail_errno(error, &shown, "making the folder", errno);
    }
    status = cadft__folder_open(path, &s->folder, error);
    if (!status && s->made && sync_parent(s->folder.fd))
        status = cadft__fail_errno(error, &s->folder.shown,
                                   "syncing the folder around it", errno);
    return status;
}

/* ------------------------------------------------------------------ write */

static int is_own(const char *name)
{
    for (size_t i = 0; i < CADFT__CHECKPOINT_FILES; i++)
        if (strcmp(name, cadft__checkpoint_files[i]) == 0)
            return 1;
    return cadft__model_replaces(name);
}

/* Where a tokenizer's files may be. */
static int32_t gather_others(struct saving *s, cadft_error *error)
{
    static const cadft__own own = {cadft__checkpoint_files,
                                   CADFT__CHECKPOINT_FILES, is_own};
    cadft__memory *memory = &s->context->memory;
    const cadft_model *model = s->checkpoint->model;
    const char *origin = model ? cadft__model_origin(model) : NULL;
    const char *origins[2] = {origin, NULL};
    char *newest = NULL;
    size_t size = 0;
    int64_t step = -1;
    int32_t status = CADFT_OK;
    if (origin)
        status = cadft__steps_newest(&s->folder, INT64_MAX, s->checkpoint->step,
                                     0, &step, error);
    if (!status && step >= 0)
        status = cadft__step_path(memory, s->checkpoint->folder, step, &newest,
                                  &size, error);
    origins[1] = newest;
    if (!status)
        status = cadft__others_gather(memory, s->path, origins, 2, &own,
                                      &s->others, error);
    if (!status && s->others.lacking)
        cadft__context_log(s->context, CADFT_LOG_WARNING,
                           "%s, where the model was loaded from, is gone: its "
                           "other files are not in the checkpoint",
                           origin);
    cadft__free(memory, newest, size);
    return status;
}

static int32_t
write_parts(struct saving *s, cadft__save *save, cadft_error *error)
{
    const cadft_checkpoint *c = s->checkpoint;
    int32_t *has = s->manifest.has, status = CADFT_OK;
    s->manifest.step = c->step;
    has[CADFT__PART_MODEL] = c->model != NULL;
    has[CADFT__PART_LOSS] = c->loss != NULL;
    has[CADFT__PART_REWRITE] = c->rewrite != NULL;
    has[CADFT__PART_OPTIMIZER] = c->optimizer != NULL;
    has[CADFT__PART_HOST] = c->host_bytes > 0;
    if (c->model)
        status = cadft__model_write(c->model, save, error);
    if (c->loss && !status)
        status = cadft__save_text(save, "loss.state", s->loss.data,
                                  s->loss.size, error);
    if (c->rewrite && !status)
        status = cadft__save_text(save, "rewrite.state", s->rewrite.data,
                                  s->rewrite.size, error);
    if (c->optimizer && !status)
        status = cadft__optimizer_write(c->optimizer, save, error);
    if (c->host_bytes && !status)
        status =
            cadft__save_text(save, "host.state", c->host, c->host_bytes, error);
    if (!status)
        status = cadft__others_copy(&s->others, save, error);
    return status ? status : cadft__manifest_write(&s->manifest, save, error);
}

static int32_t write_folder(struct saving *s, cadft_error *error)
{
    cadft__save save;
    int32_t status = gather_others(s, error);
    if (!status)
        status =
            cadft__save_begin(&s->context->memory, s->path, s->others.names,
                              s->others.n_names, &save, error);
    if (status)
        return status;
    save.sums = s->manifest.sums;
    save.n_sums = CADFT__PART_FILES;
    status = write_parts(s, &save, error);
    return cadft__save_end(&save, status, error);
}

/* ------------------------------------------------------------------- save */

/* A model that was loaded from a checkpoint which is gone by now finds its
 * other files in the new one. */
static void follow(struct saving *s)
{
    cadft_model *model = s->checkpoint->model;
    const char *origin = model ? cadft__model_origin(model) : NULL;
    if (origin && cadft__is_missing(origin))
        cadft__model_move(model, &s->path, &s->path_size);
}

static int32_t save_entered(struct saving *s, cadft_error *error)
{
    const cadft_checkpoint *c = s->checkpoint;
    int32_t status =
        c->model ? cadft__model_needs(c->model, 1, error) : CADFT_OK;
    if (!status && c->loss)
        status = cadft__part_state(&s->context->memory, c, CADFT__PART_LOSS,
                                   &s->loss, error);
    if (!status && c->rewrite)
        status = cadft__part_state(&s->context->memory, c, CADFT__PART_REWRITE,
                                   &s->rewrite, error);
    if (!status)
        status = open_folder(s, error);
    if (status)
        return status;
    cadft__steps_sweep(&s->folder);
    status = write_folder(s, error);
    if (status)
        return status;
    cadft__steps_prune(s->context, &s->folder, c->step, c->keep);
    follow(s);
    return CADFT_OK;
}

static int32_t
save(cadft_context *context, const cadft_checkpoint *c, cadft_error *error)
{
    struct saving s = {
        .context = context, .checkpoint = c, .folder = {.fd = -1}};
    cadft__memory *memory = &context->memory;
    cadft__entered calls;
    int32_t status;
    if (c->keep < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "checkpoint.keep is %d, expected at least 0",
                           c->keep);
    if (!c->host && c->host_bytes)
        return cadft__fail(error, CADFT_E_NULL,
                           "checkpoint.host is NULL, expected %zu bytes",
                           c->host_bytes);
    status = cadft__step_path(memory, c->folder, c->step, &s.path, &s.path_size,
                              error);
    if (status)
        return status;
    s.others.memory = memory;
    status = cadft__parts_enter(c, &calls, error);
    if (!status) {
        status = save_entered(&s, error);
        cadft__parts_leave(c, &calls);
    }
    cadft__folder_close(&s.folder);
    if (status && s.made)
        unlinkat(AT_FDCWD, c->folder, AT_REMOVEDIR);
    cadft__others_free(&s.others);
    cadft__block_free(memory, &s.loss);
    cadft__block_free(memory, &s.rewrite);
    cadft__free(memory, s.path, s.path_size);
    return status;
}

int32_t cadft_checkpoint_save(cadft_context *context,
                              const cadft_checkpoint *checkpoint,
                              cadft_error *error)
{
    cadft_checkpoint copy;
    cadft_error own;
    int before = errno;
    int32_t status = cadft__error_enter(error, &own);
    if (!status) {
        status = cadft__checkpoint_in(context, checkpoint, &copy, &own);
        if (!status)
            status = save(context, &copy, &own);
        if (status && context)
            cadft__context_note(context, &own);
    }
    errno = before;
    return cadft__error_leave(error, &own, status);
}
