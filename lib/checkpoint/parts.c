/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the nouns. */
#include "checkpoint/checkpoint.h"
#include "common/error.h"

void cadft__block_free(cadft__memory *memory, cadft__block *block)
{
    cadft__free(memory, block->data, block->size);
    block->data = NULL;
}

/* -------------------------------------------------------------- arguments */

/* A handle is the first member of every noun. */
static int32_t check_context(const cadft_context *context,
                             const void *part,
                             const char *name,
                             cadft_error *error)
{
    const cadft__handle *handle = (const cadft__handle *)part;
    return !part || handle->context == context
               ? CADFT_OK
               : cadft__fail(error, CADFT_E_ARG,
                             "checkpoint.%s belongs to another context, "
                             "expected that of the call",
                             name);
}

int32_t cadft__checkpoint_in(cadft_context *context,
                             const cadft_checkpoint *theirs,
                             cadft_checkpoint *out,
                             cadft_error *error)
{
    int32_t status;
    if (!context || !theirs)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           context ? "checkpoint" : "context");
    status = cadft__struct_in(out, sizeof *out, theirs,
                              CADFT__SIZE_TO(cadft_checkpoint, host_bytes),
                              "checkpoint", error);
    if (status)
        return status;
    if (!out->folder)
        return cadft__fail(error, CADFT_E_NULL, "checkpoint.folder is NULL");
    if (out->step < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "checkpoint.step is %lld, expected at least 0",
                           (long long)out->step);
    status = check_context(context, out->model, "model", error);
    if (!status)
        status = check_context(context, out->optimizer, "optimizer", error);
    if (!status)
        status = check_context(context, out->loss, "loss", error);
    if (!status)
        status = check_context(context, out->rewrite, "rewrite", error);
    return status;
}

/* ---------------------------------------------------------------- handles */

static void leave(void *part, cadft__call *call)
{
    if (part)
        cadft__handle_leave((cadft__handle *)part, NULL, call, CADFT_OK);
}

int32_t cadft__parts_enter(const cadft_checkpoint *checkpoint,
                           cadft__entered *calls,
                           cadft_error *error)
{
    cadft__handle *model = (cadft__handle *)checkpoint->model;
    cadft__handle *optimizer = (cadft__handle *)checkpoint->optimizer;
    int32_t status = CADFT_OK;
    if (model)
        status = cadft__handle_enter(model, "model", error, &calls->model);
    if (status || !optimizer)
        return status;
    status =
        cadft__handle_enter(optimizer, "optimizer", error, &calls->optimizer);
    if (status)
        leave(model, &calls->model);
    return status;
}

void cadft__parts_leave(const cadft_checkpoint *checkpoint,
                        cadft__entered *calls)
{
    leave(checkpoint->model, &calls->model);
    leave(checkpoint->optimizer, &calls->optimizer);
}

/* ----------------------------------------------------------------- states */

static int32_t save_state(const cadft_checkpoint *c,
                          int32_t part,
                          cadft__block *out,
                          size_t *needed,
                          cadft_error *error)
{
    return part == CADFT__PART_LOSS
               ? cadft_loss_state_save(c->loss, out->data, out->size, needed,
                                       error)
               : cadft_rewrite_state_save(c->rewrite, out->data, out->size,
                                          needed, error);
}

int32_t cadft__part_state(cadft__memory *memory,
                          const cadft_checkpoint *checkpoint,
                          int32_t part,
                          cadft__block *out,
                          cadft_error *error)
{
    cadft_error own = {sizeof own, CADFT_OK, {0}};
    size_t size;
    int32_t status;
    *out = (cadft__block){NULL, 0};
    status = save_state(checkpoint, part, out, &size, &own);
    if (!status) {
        *out = (cadft__block){cadft__alloc(memory, size), size};
        if (!out->data)
            return cadft__fail(error, CADFT_E_NOMEM,
                               "the allocator has no %zu bytes for the state "
                               "of the %s",
                               size, cadft__parts[part].name);
        status = save_state(checkpoint, part, out, &size, &own);
    }
    if (status) {
        cadft__block_free(memory, out);
        return cadft__fail(error, status, "%s: %s", cadft__parts[part].name,
                           own.message);
    }
    return CADFT_OK;
}

int32_t cadft__part_restore(const cadft_checkpoint *checkpoint,
                            int32_t part,
                            const cadft__block *state,
                            const char *from,
                            cadft_error *error)
{
    cadft_error own = {sizeof own, CADFT_OK, {0}};
    int32_t status =
        part == CADFT__PART_LOSS
            ? cadft_loss_state_load(checkpoint->loss, state->data, state->size,
                                    &own)
            : cadft_rewrite_state_load(checkpoint->rewrite, state->data,
                                       state->size, &own);
    return status ? cadft__fail(error, status, "%s: %s", from, own.message)
                  : CADFT_OK;
}
