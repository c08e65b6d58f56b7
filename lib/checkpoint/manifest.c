/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "common/crc.h"
#include "common/error.h"
#include "io/json.h"

enum {
    FORMAT = 1,
    READ_LIMIT = 1 << 16, /* of what somebody else may have put there */
    PIECE = 1 << 20
};

/* As cadft__model_files and cadft__optimizer_files have them. */
const char *const cadft__checkpoint_files[CADFT__CHECKPOINT_FILES] = {
    "config.json",    "model.safetensors",     "loss.state",
    "rewrite.state",  "optimizer.safetensors", "host.state",
    "checkpoint.json"};

const cadft__part cadft__parts[CADFT__PARTS] = {
    [CADFT__PART_MODEL] = {"model", 0, 2},
    [CADFT__PART_LOSS] = {"loss", 2, 1},
    [CADFT__PART_REWRITE] = {"rewrite", 3, 1},
    [CADFT__PART_OPTIMIZER] = {"optimizer", 4, 1},
    [CADFT__PART_HOST] = {"host", 5, 1},
};

static const char *const manifest_name =
    "checkpoint.json"; /* cadft__checkpoint_files[CADFT__PART_FILES] */

/* ------------------------------------------------------------------ write */

/* A line for each file; `room` is always enough. */
static size_t write_files(const cadft__manifest *m,
                          const cadft__part *part,
                          char *at,
                          size_t room)
{
    size_t used = 0;
    int32_t end = part->first + part->count;
    for (int32_t i = part->first; i < end; i++)
        used += (size_t)snprintf(
            at + used, room - used,
            "      \"%s\": {\"bytes\": %lld, \"crc32\": %lu}%s\n",
            cadft__checkpoint_files[i], (long long)m->sums[i].bytes,
            (unsigned long)m->sums[i].crc, i + 1 < end ? "," : "");
    return used;
}

int32_t cadft__manifest_write(const cadft__manifest *manifest,
                              const cadft__save *save,
                              cadft_error *error)
{
    char text[2048]; /* with all parts it is about 900 */
    const char *comma = "";
    size_t used =
        (size_t)snprintf(text, sizeof text,
                         "{\n  \"format\": %d,\n  \"library\": \"%d.%d.%d\",\n"
                         "  \"step\": %lld,\n  \"parts\": {",
                         FORMAT, CADFT_VERSION_MAJOR, CADFT_VERSION_MINOR,
                         CADFT_VERSION_PATCH, (long long)manifest->step);
    for (int32_t p = 0; p < CADFT__PARTS; p++) {
        if (!manifest->has[p])
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\n    \"%s\": {\n", comma,
                                 cadft__parts[p].name);
        used += write_files(manifest, &cadft__parts[p], text + used,
                            sizeof text - used);
        used += (size_t)snprintf(text + used, sizeof text - used, "    }");
        comma = ",";
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "\n  }\n}\n");
    return cadft__save_text(save, manifest_name, text, used, error);
}

/* ------------------------------------------------------------------- read */

static int32_t read_sum(const cadft__json *files,
                        const char *name,
                        cadft__sum *out,
                        cadft_error *error)
{
    cadft__json sum;
    int64_t crc = 0;
    int32_t status = cadft__json_object(files, name, 0, &sum, error);
    if (!status)
        status = cadft__json_i64(&sum, "bytes", 0, INT64_MAX, NULL, &out->bytes,
                                 error);
    if (!status)
        status =
            cadft__json_i64(&sum, "crc32", 0, UINT32_MAX, NULL, &crc, error);
    out->crc = (uint32_t)crc;
    return status;
}

static int32_t read_part(const cadft__json *parts,
                         int32_t p,
                         cadft__manifest *out,
                         cadft_error *error)
{
    const cadft__part *part = &cadft__parts[p];
    cadft__json files;
    int32_t status = cadft__json_object(parts, part->name, 1, &files, error);
    if (status || !files.value)
        return status;
    out->has[p] = 1;
    for (int32_t i = part->first; i < part->first + part->count && !status; i++)
        status =
            read_sum(&files, cadft__checkpoint_files[i], &out->sums[i], error);
    return status;
}

static int32_t
read_all(const cadft__json *json, cadft__manifest *out, cadft_error *error)
{
    cadft__json parts;
    int64_t format;
    int32_t status =
        cadft__json_i64(json, "format", FORMAT, FORMAT, NULL, &format, error);
    if (!status)
        status = cadft__json_i64(json, "step", 0, INT64_MAX, NULL, &out->step,
                                 error);
    if (!status)
        status = cadft__json_object(json, "parts", 0, &parts, error);
    for (int32_t p = 0; p < CADFT__PARTS && !status; p++)
        status = read_part(&parts, p, out, error);
    return status;
}

int32_t cadft__manifest_read(cadft__memory *memory,
                             const cadft__folder *folder,
                             int64_t step,
                             cadft__manifest *out,
                             cadft_error *error)
{
    cadft__json json;
    int32_t status;
    memset(out, 0, sizeof *out);
    if (!cadft__folder_has(folder, manifest_name))
        return cadft__fail(error, CADFT_E_FORMAT,
                           "%s has no %s, expected a whole checkpoint",
                           folder->shown.text, manifest_name);
    status = cadft__json_read(memory, folder, manifest_name, READ_LIMIT, &json,
                              error);
    if (status)
        return status;
    status = read_all(&json, out, error);
    if (!status && out->step != step)
        status =
            cadft__fail(error, CADFT_E_FORMAT,
                        "%s: step is %lld, expected %lld as in the "
                        "folder's name",
                        json.file.text, (long long)out->step, (long long)step);
    cadft__json_free(&json);
    return status;
}

/* ----------------------------------------------------------------- verify */

static int32_t sum_file(const cadft__file *file,
                        char *piece,
                        uint32_t *crc,
                        cadft_error *error)
{
    int32_t status = CADFT_OK;
    *crc = 0;
    for (int64_t at = 0; at < file->size && !status; at += PIECE) {
        int64_t left = file->size - at;
        size_t bytes = (size_t)(left < PIECE ? left : PIECE);
        status = cadft__file_read(file, at, piece, bytes, error);
        if (!status)
            *crc = cadft__crc32(*crc, piece, bytes);
    }
    return status;
}

static int32_t verify_file(const cadft__folder *folder,
                           const char *name,
                           const cadft__sum *sum,
                           char *piece,
                           cadft_error *error)
{
    cadft__file file;
    uint32_t crc = 0;
    int32_t status = cadft__file_open(folder, name, &file, error);
    if (status)
        return status;
    if (file.size != sum->bytes)
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s has %lld bytes, expected the %lld that were "
                             "saved",
                             file.shown.text, (long long)file.size,
                             (long long)sum->bytes);
    else
        status = sum_file(&file, piece, &crc, error);
    if (!status && crc != sum->crc)
        status = cadft__fail(error, CADFT_E_FORMAT,
                             "%s is damaged: its CRC-32 is %08lx, expected "
                             "%08lx as it was saved",
                             file.shown.text, (unsigned long)crc,
                             (unsigned long)sum->crc);
    cadft__file_close(&file);
    return status;
}

int32_t cadft__manifest_verify(cadft__memory *memory,
                               const cadft__manifest *manifest,
                               const cadft__folder *folder,
                               int32_t part,
                               cadft_error *error)
{
    int32_t first = cadft__parts[part].first;
    int32_t end = first + cadft__parts[part].count, status = CADFT_OK;
    char *piece = (char *)cadft__alloc(memory, PIECE);
    if (!piece)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory to check a file");
    for (int32_t i = first; i < end && !status; i++)
        status = verify_file(folder, cadft__checkpoint_files[i],
                             &manifest->sums[i], piece, error);
    cadft__free(memory, piece, PIECE);
    return status;
}
