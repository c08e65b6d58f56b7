/* SPDX-License-Identifier: Apache-2.0 */
/* The host's batch: checked, packed, in int32. */
#include <string.h>

#include "common/error.h"
#include "model/transformer.h"

/* A dense vector of integers of the host. */
typedef struct integers {
    const char *name;
    const void *data;
    int64_t count;
    int32_t wide; /* int64 */
} integers;

static int64_t integer(const integers *v, int64_t i)
{
    return v->wide ? ((const int64_t *)v->data)[i]
                   : ((const int32_t *)v->data)[i];
}

/* See a tensor as integers; `last` gets the size of its last dimension, ndim 2
 * is allowed where it is not NULL. */
static int32_t read_integers(const cadft_tensor *tensor,
                             const char *name,
                             int64_t *last,
                             integers *out,
                             cadft_error *error)
{
    cadft__matrix m;
    memset(out, 0, sizeof *out);
    out->name = name;
    CADFT__TRY(cadft__tensor_matrix(tensor, 0, name, &m, error));
    if (m.dtype != CADFT_DTYPE_I32 && m.dtype != CADFT_DTYPE_I64)
        return cadft__fail(error, CADFT_E_DTYPE,
                           "%s is of type %s, expected int32 or int64", name,
                           cadft__dtype_name(m.dtype));
    if (m.device_type != CADFT_DEVICE_CPU)
        return cadft__fail(error, CADFT_E_DEVICE,
                           "%s lies on device type %d, expected host memory",
                           name, m.device_type);
    if (tensor->ndim > (last ? 2 : 1))
        return cadft__fail(error, CADFT_E_SHAPE, "%s.ndim is %d, expected %s",
                           name, tensor->ndim, last ? "1 or 2" : "1");
    if (m.rows) /* else there may be no memory */
        out->data = (const char *)m.base + m.offset;
    out->count = m.rows;
    out->wide = m.dtype == CADFT_DTYPE_I64;
    if (last)
        *last = tensor->shape[tensor->ndim - 1];
    return CADFT_OK;
}

int32_t cadft__sequences_reserve(cadft_context *context,
                                 cadft__sequences *s,
                                 int64_t rows,
                                 int64_t count,
                                 cadft_error *error)
{
    struct {
        void *block;
        int64_t wanted;
        size_t size;
    } const arrays[] = {
        {&s->tokens, rows, sizeof *s->tokens},
        {&s->positions, rows, sizeof *s->positions},
        {&s->cached, rows, sizeof *s->cached},
        {&s->selected, rows, sizeof *s->selected},
        {&s->first, count + 1, sizeof *s->first},
        {&s->k_first, count, sizeof *s->k_first},
        {&s->k_count, count, sizeof *s->k_count},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        CADFT__TRY(cadft__reserve(&context->memory, arrays[i].block,
                                  &s->capacity[i], 0, (size_t)arrays[i].wanted,
                                  arrays[i].size, error));
    return CADFT_OK;
}

void cadft__sequences_free(cadft_context *context, cadft__sequences *s)
{
    cadft__memory *m = &context->memory;
    cadft__free(m, s->tokens, s->capacity[0] * sizeof *s->tokens);
    cadft__free(m, s->positions, s->capacity[1] * sizeof *s->positions);
    cadft__free(m, s->cached, s->capacity[2] * sizeof *s->cached);
    cadft__free(m, s->selected, s->capacity[3] * sizeof *s->selected);
    cadft__free(m, s->first, s->capacity[4] * sizeof *s->first);
    cadft__free(m, s->k_first, s->capacity[5] * sizeof *s->k_first);
    cadft__free(m, s->k_count, s->capacity[6] * sizeof *s->k_count);
    memset(s, 0, sizeof *s);
}

/* The shape of the host's batch before it is copied. */
typedef struct layout {
    integers tokens, ends, logit_rows;
    int64_t width;   /* T of [B, T]; 0: packed */
    int64_t count;   /* sequences */
    int32_t by_ends; /* `ends` are cu_seqlens, else lengths, if any */
} layout;

static int32_t
read_layout(const cadft_model_batch *b, layout *l, cadft_error *error)
{
    int64_t last;
    CADFT__TRY(read_integers(b->tokens, "tokens", &last, &l->tokens, error));
    l->width = b->tokens->ndim == 2 ? last : 0;
    if (b->cu_seqlens && (l->width || b->tokens->ndim == 2 || b->lengths))
        return cadft__fail(error, CADFT_E_ARG,
                           "cu_seqlens is given, expected tokens of one "
                           "dimension and no lengths with it");
    if (b->lengths && b->tokens->ndim != 2)
        return cadft__fail(error, CADFT_E_ARG,
                           "lengths is given, expected tokens [B, T] with it");
    l->count = b->tokens->ndim == 2 ? b->tokens->shape[0] : 1;
    if (b->cu_seqlens) {
        CADFT__TRY(
            read_integers(b->cu_seqlens, "cu_seqlens", NULL, &l->ends, error));
        if (l->ends.count < 1)
            return cadft__fail(error, CADFT_E_SHAPE,
                               "cu_seqlens has no element, expected [n + 1]");
        l->count = l->ends.count - 1;
        l->by_ends = 1;
    }
    if (b->lengths) {
        CADFT__TRY(read_integers(b->lengths, "lengths", NULL, &l->ends, error));
        if (l->ends.count != l->count)
            return cadft__fail(error, CADFT_E_SHAPE,
                               "lengths has %lld elements, expected %lld",
                               (long long)l->ends.count, (long long)l->count);
    }
    if (b->logit_rows)
        CADFT__TRY(read_integers(b->logit_rows, "logit_rows", NULL,
                                 &l->logit_rows, error));
    if (l->tokens.count > INT32_MAX || l->count > INT32_MAX - 1)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "tokens has %lld elements in %lld sequences, "
                           "expected at most %d",
                           (long long)l->tokens.count, (long long)l->count,
                           INT32_MAX - 1);
    return CADFT_OK;
}

/* Length of sequence s, or -1 with an error. */
static int64_t
length_of(const layout *l, int64_t s, int64_t longest, cadft_error *error)
{
    int64_t length = l->width ? l->width : l->tokens.count;
    int64_t most = l->width || !l->by_ends ? length : l->tokens.count;
    if (l->by_ends) {
        if (__builtin_sub_overflow(integer(&l->ends, s + 1),
                                   integer(&l->ends, s), &length))
            length = -1;
    } else if (l->ends.name) {
        length = integer(&l->ends, s);
    }
    if (length < 0 || length > most) {
        cadft__fail(error, CADFT_E_ARG,
                    "%s gives sequence %lld %lld tokens, expected 0 to %lld",
                    l->ends.name ? l->ends.name : "tokens", (long long)s,
                    (long long)length, (long long)most);
        return -1;
    }
    if (length > longest) {
        cadft__fail(error, CADFT_E_ARG,
                    "sequence %lld has %lld tokens, expected at most %lld "
                    "(max_position_embeddings)",
                    (long long)s, (long long)length, (long long)longest);
        return -1;
    }
    return length;
}

static int32_t read_tokens(const layout *l,
                           int64_t s,
                           int64_t length,
                           int64_t vocab,
                           cadft__sequences *out,
                           cadft_error *error)
{
    int64_t from = l->width ? s * l->width : out->rows;
    for (int64_t i = 0; i < length; i++) {
        int64_t token = integer(&l->tokens, from + i);
        if (token < 0 || token >= vocab)
            return cadft__fail(
                error, CADFT_E_ARG, "tokens[%lld] is %lld, expected 0 to %lld",
                (long long)(from + i), (long long)token, (long long)vocab - 1);
        out->tokens[out->rows + i] = (int32_t)token;
        out->positions[out->rows + i] = (int32_t)i;
    }
    out->rows += length;
    return CADFT_OK;
}

static int32_t
read_selected(const layout *l, cadft__sequences *out, cadft_error *error)
{
    int64_t before = -1;
    out->all_logits = !l->logit_rows.name;
    out->logit_rows = out->all_logits ? out->rows : l->logit_rows.count;
    if (out->logit_rows > out->rows)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "logit_rows has %lld elements, expected at most "
                           "the %lld rows",
                           (long long)out->logit_rows, (long long)out->rows);
    for (int64_t i = 0; !out->all_logits && i < out->logit_rows; i++) {
        int64_t row = integer(&l->logit_rows, i);
        if (row < 0 || row >= out->rows)
            return cadft__fail(error, CADFT_E_ARG,
                               "logit_rows[%lld] is %lld, expected 0 to %lld",
                               (long long)i, (long long)row,
                               (long long)out->rows - 1);
        if (row <= before)
            return cadft__fail(error, CADFT_E_ARG,
                               "logit_rows[%lld] is %lld, expected more than "
                               "the %lld before it",
                               (long long)i, (long long)row, (long long)before);
        out->selected[i] = (int32_t)(before = row);
    }
    return CADFT_OK;
}

int32_t cadft__sequences_read(cadft_model *model,
                              const cadft_model_batch *batch,
                              cadft__sequences *out,
                              cadft_error *error)
{
    layout l;
    memset(&l, 0, sizeof l);
    CADFT__TRY(read_layout(batch, &l, error));
    CADFT__TRY(cadft__sequences_reserve(model->handle.context, out,
                                        l.tokens.count, l.count, error));
    out->rows = out->longest = out->cache_rows = 0;
    out->count = l.count;
    out->no_grad = batch->no_grad;
    if (l.by_ends && integer(&l.ends, 0) != 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "cu_seqlens[0] is %lld, expected 0",
                           (long long)integer(&l.ends, 0));
    if (l.by_ends && integer(&l.ends, l.count) != l.tokens.count)
        return cadft__fail(error, CADFT_E_ARG,
                           "cu_seqlens[%lld] is %lld, expected the %lld rows "
                           "of tokens",
                           (long long)l.count,
                           (long long)integer(&l.ends, l.count),
                           (long long)l.tokens.count);
    for (int64_t s = 0; s < l.count; s++) {
        int64_t length = length_of(&l, s, model->config.positions, error);
        if (length < 0)
            return error->code;
        if (l.by_ends && length > l.tokens.count - out->rows)
            return cadft__fail(error, CADFT_E_ARG,
                               "cu_seqlens[%lld] is %lld, beyond the %lld "
                               "rows of tokens",
                               (long long)s + 1,
                               (long long)integer(&l.ends, s + 1),
                               (long long)l.tokens.count);
        out->first[s] = out->k_first[s] = out->rows;
        out->k_count[s] = length;
        if (length > out->longest)
            out->longest = length;
        CADFT__TRY(read_tokens(&l, s, length, model->config.vocab, out, error));
    }
    out->first[l.count] = out->rows;
    return read_selected(&l, out, error);
}
