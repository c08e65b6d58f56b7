/* SPDX-License-Identifier: Apache-2.0 */
/* State to a file and back. Tensors of a parameter are its name and what is
 * listed in `parts`; their last letters differ, so that no two parameters'
 * can have the same name, nor that of the counters. */
#include "optimizer/saved.h"

#include <stdio.h>
#include <string.h>

#include "backend/device.h"
#include "io/safetensors.h"
#include "optimizer/optimizer.h"

enum {
    PIECE = 1 << 18, /* elements */
    VERSION = 1,
    PARTS = 4, /* tensors of a parameter, at most */
    NAME_SIZE = 272
};

const char *const cadft__optimizer_files[CADFT__OPTIMIZER_FILES] = {
    "optimizer.safetensors"};

/* I64, see `counters`. */
static const char counters_name[] = "optimizer.counters";
enum { AT_VERSION, AT_KIND, AT_STEPS, AT_SKIPPED, COUNTERS };

/* A tensor of the file. */
struct part {
    char name[NAME_SIZE];
    uint64_t offset; /* in the state's block; the steps': CADFT__ABSENT */
};

/* The tensors of a parameter; returns how many. */
static int parts_of(const cadft_optimizer *optimizer,
                    const cadft__member *member,
                    struct part out[PARTS])
{
    const struct {
        const char *tail;
        uint64_t offset;
    } all[] = {{"m", member->m},
               {"v", member->v},
               {"master", member->master},
               {"t", CADFT__ABSENT}};
    int n = 0;
    for (int i = 0; i < PARTS; i++) {
        if (all[i].offset == CADFT__ABSENT && i < PARTS - 1)
            continue;
        snprintf(out[n].name, sizeof out[n].name, "%s.%s",
                 cadft__member_name(optimizer, member), all[i].tail);
        out[n++].offset = all[i].offset;
    }
    return n;
}

static int32_t no_memory(cadft_error *error)
{
    return cadft__fail(error, CADFT_E_NOMEM,
                       "the allocator has no memory for the list of tensors");
}

/* ------------------------------------------------------------------ write */

/* What the items of a file point to. */
struct lists {
    cadft__safetensors_item *items; /* [capacity] */
    struct source {
        cadft_context *context;
        cadft_array from;
    } * sources;
    struct part *parts;
    size_t count, capacity;
};

static int32_t read_array(
    void *user, int64_t offset, void *out, size_t bytes, cadft_error *error)
{
    const struct source *source = (const struct source *)user;
    cadft_array from = source->from;
    from.offset += (uint64_t)offset;
    return cadft__device_out(source->context, NULL, out, from, bytes, error);
}

static void
list_member(const cadft_optimizer *optimizer, size_t index, struct lists *lists)
{
    static const int64_t one = 1;
    const cadft__member *member = &optimizer->members[index];
    struct part *parts = lists->parts + lists->count;
    int n = parts_of(optimizer, member, parts);
    for (int i = 0; i < n; i++) {
        struct source *source = &lists->sources[lists->count];
        cadft__safetensors_item *item = &lists->items[lists->count++];
        *item = (cadft__safetensors_item){.name = parts[i].name,
                                          .dtype = CADFT_DTYPE_F32,
                                          .ndim = member->ndim,
                                          .shape = member->shape,
                                          .fill = read_array,
                                          .user = source};
        *source = (struct source){
            optimizer->handle.context,
            cadft__state_array(&optimizer->state, parts[i].offset)};
        if (parts[i].offset != CADFT__ABSENT)
            continue;
        item->dtype = CADFT_DTYPE_I64;
        item->ndim = 1;
        item->shape = &one;
        item->data = &optimizer->state.steps[index];
    }
}

static int32_t write_lists(cadft_optimizer *optimizer,
                           const cadft__save *save,
                           struct lists *lists,
                           cadft_error *error)
{
    static const int64_t shape = COUNTERS;
    int64_t counters[COUNTERS] = {
        [AT_VERSION] = VERSION,
        [AT_KIND] = optimizer->options.kind,
        [AT_STEPS] = optimizer->state.done,
        [AT_SKIPPED] = optimizer->state.skipped,
    };
    for (size_t i = 0; i < optimizer->count; i++)
        list_member(optimizer, i, lists);
    lists->items[lists->count++] =
        (cadft__safetensors_item){.name = counters_name,
                                  .dtype = CADFT_DTYPE_I64,
                                  .ndim = 1,
                                  .shape = &shape,
                                  .data = counters};
    return cadft__safetensors_write(save, cadft__optimizer_files[0],
                                    lists->items, lists->count, error);
}

int32_t cadft__optimizer_write(cadft_optimizer *optimizer,
                               const cadft__save *save,
                               cadft_error *error)
{
    cadft__memory *memory = &optimizer->handle.context->memory;
    struct lists lists = {.capacity = optimizer->count * PARTS + 1};
    size_t n = lists.capacity;
    int32_t status;
    CADFT__TRY(cadft__members_needed(optimizer, error));
    CADFT__TRY(cadft__state_needed(optimizer, error));
    lists.items = (cadft__safetensors_item *)cadft__alloc(
        memory, n * sizeof *lists.items);
    lists.sources =
        (struct source *)cadft__alloc(memory, n * sizeof *lists.sources);
    lists.parts = (struct part *)cadft__alloc(memory, n * sizeof *lists.parts);
    status = lists.items && lists.sources && lists.parts
                 ? write_lists(optimizer, save, &lists, error)
                 : no_memory(error);
    cadft__free(memory, lists.items, n * sizeof *lists.items);
    cadft__free(memory, lists.sources, n * sizeof *lists.sources);
    cadft__free(memory, lists.parts, n * sizeof *lists.parts);
    return status;
}

static int32_t
save_folder(cadft_optimizer *optimizer, const char *folder, cadft_error *error)
{
    cadft__save save;
    int32_t status;
    if (!folder)
        return cadft__fail(error, CADFT_E_NULL, "folder is NULL");
    CADFT__TRY(cadft__members_needed(optimizer, error));
    CADFT__TRY(cadft__save_begin(&optimizer->handle.context->memory, folder,
                                 cadft__optimizer_files, CADFT__OPTIMIZER_FILES,
                                 &save, error));
    status = cadft__optimizer_write(optimizer, &save, error);
    if (!status)
        return cadft__save_commit(&save, error);
    cadft__save_cancel(&save);
    return status;
}

int32_t cadft_optimizer_save(cadft_optimizer *optimizer,
                             const char *folder,
                             cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = save_folder(optimizer, folder, &call.error);
    CADFT__LEAVE(optimizer);
}

/* ------------------------------------------------------------------- read */

/* A state that is being read. */
struct load {
    cadft_optimizer *optimizer;
    cadft__optimizer_state state;
    cadft__safetensors table;
    const char *file;     /* for sentences */
    unsigned char *taken; /* [table.n_tensors] */
    float *buffer;        /* [PIECE] */
};

static int32_t find(struct load *load,
                    const char *name,
                    int32_t dtype,
                    int32_t ndim,
                    const int64_t *shape,
                    const cadft__safetensor **out,
                    cadft_error *error)
{
    const cadft__safetensor *tensor =
        cadft__safetensors_find(&load->table, name);
    cadft__shown shown = cadft__show(name);
    if (!tensor)
        return cadft__fail(error, CADFT_E_FORMAT, "%s: %s is missing",
                           load->file, shown.text);
    if (tensor->dtype != dtype)
        return cadft__fail(error, CADFT_E_FORMAT, "%s: %s is %s, expected %s",
                           load->file, shown.text, tensor->type,
                           cadft__safetensors_type_name(dtype));
    if (tensor->ndim != ndim)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s has %d dimensions, expected %d", load->file,
                           shown.text, tensor->ndim, ndim);
    for (int32_t d = 0; d < ndim; d++)
        if (tensor->shape[d] != shape[d])
            return cadft__fail(
                error, CADFT_E_FORMAT,
                "%s: dimension %d of %s is %lld, expected %lld", load->file, d,
                shown.text, (long long)tensor->shape[d], (long long)shape[d]);
    load->taken[tensor - load->table.tensors] = 1;
    *out = tensor;
    return CADFT_OK;
}

static int32_t read_counters(struct load *load, cadft_error *error)
{
    static const int64_t shape = COUNTERS;
    int64_t counters[COUNTERS], kind = load->optimizer->options.kind;
    const cadft__safetensor *tensor;
    CADFT__TRY(
        find(load, counters_name, CADFT_DTYPE_I64, 1, &shape, &tensor, error));
    CADFT__TRY(cadft__safetensors_read(&load->table, tensor, 0, COUNTERS,
                                       CADFT_DTYPE_I64, counters, error));
    if (counters[AT_VERSION] != VERSION)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s has version %lld, expected %d", load->file,
                           counters_name, (long long)counters[AT_VERSION],
                           VERSION);
    if (counters[AT_KIND] != kind)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s has kind %lld, expected %lld, which the "
                           "optimizer is",
                           load->file, counters_name,
                           (long long)counters[AT_KIND], (long long)kind);
    if (counters[AT_STEPS] < 0 || counters[AT_SKIPPED] < 0)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s has %lld steps and %lld skipped, expected "
                           "0 or more",
                           load->file, counters_name,
                           (long long)counters[AT_STEPS],
                           (long long)counters[AT_SKIPPED]);
    load->state.done = counters[AT_STEPS];
    load->state.skipped = counters[AT_SKIPPED];
    return CADFT_OK;
}

static int32_t read_steps(struct load *load,
                          const char *name,
                          int64_t *steps,
                          cadft_error *error)
{
    static const int64_t one = 1;
    const cadft__safetensor *tensor;
    CADFT__TRY(find(load, name, CADFT_DTYPE_I64, 1, &one, &tensor, error));
    CADFT__TRY(cadft__safetensors_read(&load->table, tensor, 0, 1,
                                       CADFT_DTYPE_I64, steps, error));
    if (*steps < 0 || *steps > load->state.done)
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s: %s is %lld, expected 0 to %lld", load->file,
                           cadft__show(name).text, (long long)*steps,
                           (long long)load->state.done);
    return CADFT_OK;
}

static int32_t read_floats(struct load *load,
                           const cadft__member *member,
                           const struct part *part,
                           cadft_error *error)
{
    cadft_array to = cadft__state_array(&load->state, part->offset);
    const cadft__safetensor *tensor = NULL;
    CADFT__TRY(find(load, part->name, CADFT_DTYPE_F32, member->ndim,
                    member->shape, &tensor, error));
    for (int64_t at = 0; at < member->n; at += PIECE) {
        int64_t n = member->n - at < PIECE ? member->n - at : PIECE;
        uint64_t bytes = (uint64_t)n * sizeof(float);
        CADFT__TRY(cadft__safetensors_read(
            &load->table, tensor, at, n, CADFT_DTYPE_F32, load->buffer, error));
        CADFT__TRY(cadft__device_in(load->optimizer->handle.context, NULL, to,
                                    load->buffer, bytes, error));
        to.offset += bytes;
    }
    return CADFT_OK;
}

static int32_t read_member(struct load *load, size_t index, cadft_error *error)
{
    const cadft__member *member = &load->optimizer->members[index];
    struct part parts[PARTS];
    int n = parts_of(load->optimizer, member, parts);
    for (int i = 0; i < n; i++)
        CADFT__TRY(parts[i].offset == CADFT__ABSENT
                       ? read_steps(load, parts[i].name,
                                    &load->state.steps[index], error)
                       : read_floats(load, member, &parts[i], error));
    return CADFT_OK;
}

static int32_t read_all(struct load *load, cadft_error *error)
{
    CADFT__TRY(read_counters(load, error));
    for (size_t i = 0; i < load->optimizer->count; i++)
        CADFT__TRY(read_member(load, i, error));
    for (size_t i = 0; i < load->table.n_tensors; i++)
        if (!load->taken[i])
            return cadft__fail(error, CADFT_E_FORMAT,
                               "%s: %s belongs to no parameter of the "
                               "optimizer",
                               load->file,
                               cadft__show(load->table.tensors[i].name).text);
    return cadft__device_sync(load->optimizer->handle.context, NULL, error);
}

/* Into a new state, which takes the old one's place. */
static int32_t read_table(struct load *load, cadft_error *error)
{
    cadft_optimizer *optimizer = load->optimizer;
    cadft__memory *memory = &optimizer->handle.context->memory;
    size_t taken = load->table.n_tensors + 1;
    int32_t status;
    CADFT__TRY(cadft__state_new(optimizer, &load->state, error));
    load->taken = (unsigned char *)cadft__alloc(memory, taken);
    load->buffer = (float *)cadft__alloc(memory, PIECE * sizeof *load->buffer);
    status =
        load->taken && load->buffer ? read_all(load, error) : no_memory(error);
    cadft__free(memory, load->taken, taken);
    cadft__free(memory, load->buffer, PIECE * sizeof *load->buffer);
    if (status) {
        cadft__state_free(optimizer, &load->state);
        return status;
    }
    cadft__state_free(optimizer, &optimizer->state);
    optimizer->state = load->state;
    return CADFT_OK;
}

int32_t cadft__optimizer_read(cadft_optimizer *optimizer,
                              const cadft__folder *folder,
                              cadft_error *error)
{
    cadft__shown shown =
        cadft__show_path(folder->shown.text, cadft__optimizer_files[0]);
    struct load load = {.optimizer = optimizer, .file = shown.text};
    cadft__file file;
    int32_t status;
    CADFT__TRY(cadft__members_needed(optimizer, error));
    CADFT__TRY(
        cadft__file_open(folder, cadft__optimizer_files[0], &file, error));
    CADFT__TRY(cadft__safetensors_open_file(&optimizer->handle.context->memory,
                                            &file, &load.table, error));
    status = read_table(&load, error);
    cadft__safetensors_close(&load.table);
    return status;
}

static int32_t
load_folder(cadft_optimizer *optimizer, const char *path, cadft_error *error)
{
    cadft__folder folder;
    int32_t status;
    if (!path)
        return cadft__fail(error, CADFT_E_NULL, "folder is NULL");
    CADFT__TRY(cadft__members_needed(optimizer, error));
    CADFT__TRY(cadft__folder_open(path, &folder, error));
    status = cadft__optimizer_read(optimizer, &folder, error);
    cadft__folder_close(&folder);
    return status;
}

int32_t cadft_optimizer_load(cadft_optimizer *optimizer,
                             const char *folder,
                             cadft_error *error)
{
    CADFT__ENTER(optimizer);
    status = load_folder(optimizer, folder, &call.error);
    CADFT__LEAVE(optimizer);
}
