/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "util.h"

/* Only the end of a longer prompt is ever seen through the window. */
static size_t prompt_tail(const demo *d, int context)
{
    size_t c = (size_t)context;
    return d->n_prompt < c ? d->n_prompt : c;
}

/* The sequence is: boundary, prompt, completion, boundary. Each token but
 * the last is a row, which predicts the token after it. */
int64_t demo_rows(const demo *d, int context)
{
    return (int64_t)(prompt_tail(d, context) + d->n_completion) + 1;
}

int packed_create(packed *b, int64_t capacity, int context)
{
    memset(b, 0, sizeof *b);
    size_t n = (size_t)capacity;
    b->capacity = capacity;
    b->context = calloc(n * (size_t)context, sizeof *b->context);
    b->labels = calloc(n, sizeof *b->labels);
    b->sample_ids = calloc(n, sizeof *b->sample_ids);
    b->cu_seqlens = calloc(n + 1, sizeof *b->cu_seqlens);
    if (!b->context || !b->labels || !b->sample_ids || !b->cu_seqlens)
        return fail(HOST_FAILED, "out of memory for micro-batches");
    return HOST_OK;
}

void packed_free(packed *b)
{
    free(b->context);
    free(b->labels);
    free(b->sample_ids);
    free(b->cu_seqlens);
    memset(b, 0, sizeof *b);
}

static void add_demo(packed *b, int context, const demo *d)
{
    size_t c = (size_t)context, tail = prompt_tail(d, context);
    size_t rows = (size_t)demo_rows(d, context);
    const unsigned char *text = d->text + (d->n_prompt - tail);
    int32_t *seen = b->context + (size_t)b->rows * c;
    int32_t *label = b->labels + b->rows;
    for (size_t r = 0; r < rows; r++) {
        /* Row r has seen text[0..r); further back is boundary. */
        for (size_t j = 0; j < c; j++)
            seen[r * c + j] =
                r + j >= c ? (int32_t)text[r + j - c] : MODEL_BOUNDARY;
        /* The prompt is context, not something to learn. */
        label[r] = r < tail       ? IGNORE_INDEX
                   : r + 1 < rows ? (int32_t)text[r]
                                  : MODEL_BOUNDARY;
    }
    b->rows += (int64_t)rows;
}

int packed_fill(
    packed *b, int context, const demo *const *demos, size_t first, size_t n)
{
    b->rows = 0;
    b->first = first;
    b->count = 0;
    b->cu_seqlens[0] = 0;
    for (size_t i = first; i < n; i++) {
        if (b->rows + demo_rows(demos[i], context) > b->capacity)
            break;
        add_demo(b, context, demos[i]);
        b->cu_seqlens[++b->count] = (int32_t)b->rows;
    }
    /* Which demonstration of the global batch each row belongs to: all that
     * libcadft has to know about packing. */
    int64_t shape = (int64_t)b->count + 1;
    cadft_tensor cu;
    cadft_error error = {.struct_size = sizeof error};
    if (cadft_tensor_init(&cu, sizeof cu, b->cu_seqlens, CADFT_DTYPE_I32, 1,
                          &shape, NULL, &error) != CADFT_OK)
        return library_failed("cadft_tensor_init", &error);
    if (cadft_sample_ids_cu_seqlens(&cu, b->rows, (int32_t)first, b->sample_ids,
                                    &error) != CADFT_OK)
        return library_failed("cadft_sample_ids_cu_seqlens", &error);
    return HOST_OK;
}
