/* SPDX-License-Identifier: Apache-2.0 */
/* A file of JSON lines from anywhere, through examples/text into packed
 * micro-batches. The first byte sets vocabulary, longest line and sample. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>

#include "fuzz.h"
#include "text/data.h"
#include "text/pack.h"

enum { BUDGET = 64 };

static void check_sample(const text_sample *s, int32_t vocab)
{
    int32_t labels = 0;
    REQUIRE(s->n >= 2 && s->n <= BUDGET && s->line >= 1);
    REQUIRE(s->n_prompt >= 0 && s->n_prompt < s->n);
    for (int32_t i = 0; i < s->n; i++) {
        int learned = s->labels[i] != DATA_IGNORED;
        REQUIRE(s->tokens[i] >= 0 && (!vocab || s->tokens[i] < vocab));
        REQUIRE(!learned || (i + 1 < s->n && s->labels[i] == s->tokens[i + 1] &&
                             i + 1 >= s->n_prompt));
        labels += learned;
    }
    REQUIRE(labels == s->n_labels && labels >= 1);
    REQUIRE(s->labels[s->n - 2] != DATA_IGNORED);
}

static void check_packed(const text_data *data)
{
    const text_sample **list =
        (const text_sample **)malloc(data->n * sizeof *list);
    int64_t rows = 0, packed_rows = 0;
    packed_step step;
    text_error error;
    REQUIRE(list);
    for (size_t i = 0; i < data->n; i++) {
        list[i] = &data->samples[order_at(7, 1, data->n, i)];
        rows += list[i]->n;
    }
    REQUIRE(pack_step(list, data->n, BUDGET, &step, &error) == TEXT_OK);
    for (size_t m = 0; m < step.n; m++) {
        REQUIRE(step.micro[m].rows <= BUDGET);
        packed_rows += step.micro[m].rows;
    }
    REQUIRE(rows == packed_rows);
    pack_free(&step);
    free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned knobs = size ? data[0] : 0;
    text_data_options options = {.bad_lines = BAD_LINES_SKIP,
                                 .max_line = knobs & 64 ? 0 : 20,
                                 .max_tokens = knobs & 128 ? BUDGET : 8,
                                 .vocab = 5 * (int32_t)(knobs & 63)};
    text_data out;
    text_error error;
    FILE *file;
    data += size > 0;
    size -= size > 0;
    if (size == 0)
        return 0; /* not every C library opens no memory */
    file = fmemopen((void *)(uintptr_t)data, size, "rb");
    REQUIRE(file);
    REQUIRE(tokenizer_open("bytes", NULL, &options.tokenizer, &error) ==
            TEXT_OK);
    if (text_data_read_stream(file, "input", &options, &out, &error) ==
        TEXT_OK) {
        for (size_t i = 0; i < out.n; i++)
            check_sample(&out.samples[i], options.vocab);
        check_packed(&out);
    } else {
        REQUIRE(memchr(error.message, 0, sizeof error.message));
        REQUIRE(error.message[0]);
    }
    REQUIRE(out.n_notes <= DATA_NOTES);
    REQUIRE(out.n_notes >= (out.n_bad + out.n_long > 0));
    text_data_free(&out);
    text_data_free(&out); /* once more is harmless */
    tokenizer_close(options.tokenizer);
    return 0;
}
