/* SPDX-License-Identifier: Apache-2.0 */
/* The host's tensors: checked before anything is read or written, labels and
 * sample ids brought to int32 arrays of ours. */
#include <math.h>

#include "common/error.h"
#include "loss/loss.h"

/* Host memory by any of DLPack's names for it: plain, CUDA's and ROCm's
 * pinned. */
static int is_host(int32_t device_type)
{
    return device_type == CADFT_DEVICE_CPU ||
           device_type == CADFT_DEVICE_CUDA_HOST || device_type == 11;
}

/* Logits and gradients are reached by the kernels. */
static int32_t check_device(const cadft_loss *loss,
                            const cadft__matrix *m,
                            const char *name,
                            cadft_error *error)
{
    int32_t ours = loss->handle.context->backend->device_type;
    if (m->device_type == ours || (is_host(ours) && is_host(m->device_type)))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_DEVICE,
                       "%s.device_type is %d, expected %d, the memory of "
                       "backend %s",
                       name, m->device_type, ours,
                       loss->handle.context->backend->name);
}

/* Read `rows` elements of a dense vector: the host's own memory, or a copy
 * of the device's in `staging`. */
static int32_t fetch(cadft_loss *loss,
                     const cadft__matrix *m,
                     void *stream,
                     int64_t **staging,
                     size_t *capacity,
                     const char *name,
                     const void **out,
                     cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    cadft_array from = {m->base, m->offset};
    int32_t status;
    if (is_host(m->device_type)) {
        *out = m->base ? (const char *)m->base + m->offset : NULL;
        return CADFT_OK;
    }
    status = check_device(loss, m, name, error);
    if (!status)
        status = cadft__reserve(&context->memory, staging, capacity, 0,
                                (size_t)m->rows, sizeof **staging, error);
    if (status)
        return status;
    *out = *staging;
    return cadft__device_out(context, stream, *staging, from,
                             cadft__matrix_span(m), error);
}

/* ------------------------------------------------------------ vocabulary */

static int32_t
read_vocab(const cadft_loss_batch *t, cadft__batch *b, cadft_error *error)
{
    int64_t cols = t->vocab_valid ? t->vocab_valid : b->logits.cols;
    if (t->vocab_valid && (cols < 1 || cols > b->logits.cols))
        return cadft__fail(error, CADFT_E_SHAPE,
                           "vocab_valid is %lld, expected 0 to %lld, the "
                           "columns of logits",
                           (long long)cols, (long long)b->logits.cols);
    if (cols < 1 || cols > INT32_MAX)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "logits have %lld columns, expected 1 to %d",
                           (long long)cols, INT32_MAX);
    b->cols = cols;
    b->vocab = t->vocab_total ? t->vocab_total : cols;
    b->vocab_start = t->vocab_start;
    b->sharded = t->vocab_total != 0;
    if (b->vocab_start < 0 || b->vocab < cols || b->vocab > INT32_MAX ||
        b->vocab_start > b->vocab - cols)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "%lld columns from vocab_start %lld lie outside a "
                           "vocabulary of %lld",
                           (long long)cols, (long long)b->vocab_start,
                           (long long)b->vocab);
    return CADFT_OK;
}

static int32_t read_logits(cadft_loss *loss,
                           const cadft_loss_batch *t,
                           cadft__batch *b,
                           cadft_error *error)
{
    int32_t status =
        cadft__tensor_matrix(t->logits, 1, "logits", &b->logits, error);
    if (!status)
        status = check_device(loss, &b->logits, "logits", error);
    if (status)
        return status;
    if (!loss->handle.context->backend->supports(
            loss->handle.context->device, CADFT_OP_LOSS_ROW_STATS,
            b->logits.dtype, b->logits.dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "logits are %s, expected float32, bfloat16 or "
                           "float16",
                           cadft__dtype_name(b->logits.dtype));
    return read_vocab(t, b, error);
}

/* ------------------------------------------------------ labels and samples */

static int32_t read_samples(cadft_loss *loss,
                            const cadft__matrix *m,
                            cadft__batch *b,
                            cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    const void *data;
    const int32_t *ids;
    int32_t status = fetch(loss, m, b->stream, &s->wide, &s->capacity[6],
                           "sample_ids", &data, error);
    if (status)
        return status;
    ids = (const int32_t *)data;
    for (int64_t r = 0; r < m->rows; r++) {
        if (ids[r] >= loss->step.n_samples)
            return cadft__fail(error, CADFT_E_SAMPLE,
                               "sample_ids[%lld] is %d, expected below %lld, "
                               "the demonstrations of the global batch",
                               (long long)r, ids[r],
                               (long long)loss->step.n_samples);
        s->samples[r] = ids[r] < 0 ? -1 : ids[r];
    }
    b->samples = s->samples;
    return CADFT_OK;
}

/* With label offset 1 row r predicts the next row's label, while that
 * belongs to the same sample and sequence; -1 when there is none. */
static int64_t label_place(const cadft_loss *loss,
                           const cadft__batch *b,
                           const cadft__matrix *labels,
                           int64_t r)
{
    if (!loss->active.label_offset)
        return r;
    if ((r + 1) % labels->last == 0 || b->samples[r + 1] != b->samples[r])
        return -1;
    return r + 1;
}

/* Row r's label, or its sample set to -1 when the row does not count. */
static int32_t read_label(const cadft_loss *loss,
                          cadft__batch *b,
                          const cadft__matrix *m,
                          const void *data,
                          int64_t r,
                          cadft_error *error)
{
    int64_t place = label_place(loss, b, m, r), label;
    b->labels[r] = 0;
    if (b->samples[r] < 0)
        return CADFT_OK;
    label = place < 0                     ? loss->active.ignore_index
            : m->dtype == CADFT_DTYPE_I32 ? ((const int32_t *)data)[place]
                                          : ((const int64_t *)data)[place];
    if (label == loss->active.ignore_index) {
        b->samples[r] = -1;
        return CADFT_OK;
    }
    if (label < 0 || label >= b->vocab)
        return cadft__fail(error, CADFT_E_LABEL,
                           "labels[%lld], of row %lld and sample %d, is "
                           "%lld, expected 0 to %lld or ignore_index %lld",
                           (long long)place, (long long)r, b->samples[r],
                           (long long)label, (long long)(b->vocab - 1),
                           (long long)loss->active.ignore_index);
    b->labels[r] = (int32_t)label;
    return CADFT_OK;
}

static int32_t read_labels(cadft_loss *loss,
                           const cadft__matrix *m,
                           cadft__batch *b,
                           cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    const void *data;
    int32_t status = fetch(loss, m, b->stream, &s->wide, &s->capacity[6],
                           "labels", &data, error);
    b->labels = s->labels;
    /* Rows ascend: a row's own sample id is set to -1 only after the row
     * before it has compared with it. */
    for (int64_t r = 0; !status && r < m->rows; r++)
        status = read_label(loss, b, m, data, r, error);
    return status;
}

/* A vector beside the logits: one element a row, of one of two types. */
static int32_t check_vector(const cadft_tensor *tensor,
                            int64_t rows,
                            int32_t dtype,
                            int32_t other,
                            const char *name,
                            cadft__matrix *out,
                            cadft_error *error)
{
    int32_t status = cadft__tensor_matrix(tensor, 0, name, out, error);
    if (!status && out->dtype != dtype && out->dtype != other)
        status =
            cadft__fail(error, CADFT_E_DTYPE, "%s has type %s, expected %s%s%s",
                        name, cadft__dtype_name(out->dtype),
                        cadft__dtype_name(dtype), other == dtype ? "" : " or ",
                        other == dtype ? "" : cadft__dtype_name(other));
    if (!status && out->rows != rows)
        status = cadft__fail(error, CADFT_E_SHAPE,
                             "%s has %lld elements, expected %lld, one a row "
                             "of logits",
                             name, (long long)out->rows, (long long)rows);
    return status;
}

/* ------------------------------------------------------- the host's k */

static int32_t read_k(cadft_loss *loss,
                      const cadft__matrix *m,
                      cadft__batch *b,
                      cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    const void *data;
    int32_t status =
        cadft__reserve(&loss->handle.context->memory, &s->k, &s->capacity[5], 0,
                       (size_t)m->rows, sizeof *s->k, error);
    if (!status)
        status = fetch(loss, m, b->stream, &s->wide, &s->capacity[6], "k",
                       &data, error);
    if (status)
        return status;
    for (int64_t r = 0; r < m->rows; r++) {
        s->k[r] = m->dtype == CADFT_DTYPE_F32 ? ((const float *)data)[r]
                                              : ((const double *)data)[r];
        if (b->samples[r] >= 0 && !isfinite(s->k[r]))
            return cadft__fail(error, CADFT_E_NONFINITE,
                               "k[%lld] is %g, expected a finite coefficient",
                               (long long)r, s->k[r]);
    }
    b->k = s->k;
    return CADFT_OK;
}

static int32_t
check_k(const cadft_loss *loss, const cadft_loss_batch *t, cadft_error *error)
{
    int host = loss->active.objective == CADFT_OBJECTIVE_HOST;
    if (t->k && !host)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "k is given, but the objective is not host");
    if (t->k && loss->coefficient.fn)
        return cadft__fail(error, CADFT_E_UNSUPPORTED,
                           "k is given as an array and as a callback");
    if (host && !t->k && !loss->coefficient.fn)
        return cadft__fail(error, CADFT_E_NULL,
                           "k is NULL and there is no callback, but the "
                           "objective is host");
    return CADFT_OK;
}

/* ------------------------------------------------------------------- all */

/* sample_ids, labels and, if given, k. */
static int32_t check_vectors(const cadft_loss_batch *t,
                             int64_t rows,
                             cadft__matrix v[3],
                             cadft_error *error)
{
    int32_t status = check_vector(t->sample_ids, rows, CADFT_DTYPE_I32,
                                  CADFT_DTYPE_I32, "sample_ids", &v[0], error);
    if (!status)
        status = check_vector(t->labels, rows, CADFT_DTYPE_I32, CADFT_DTYPE_I64,
                              "labels", &v[1], error);
    if (!status && t->k)
        status = check_vector(t->k, rows, CADFT_DTYPE_F32, CADFT_DTYPE_F64, "k",
                              &v[2], error);
    return status;
}

static int32_t reserve(cadft_loss *loss, int64_t rows, cadft_error *error)
{
    cadft__scratch *s = &loss->scratch;
    cadft__memory *memory = &loss->handle.context->memory;
    int32_t status = cadft__reserve(memory, &s->labels, &s->capacity[0], 0,
                                    (size_t)rows, sizeof *s->labels, error);
    if (!status)
        status = cadft__reserve(memory, &s->samples, &s->capacity[1], 0,
                                (size_t)rows, sizeof *s->samples, error);
    return status;
}

int32_t cadft__batch_read(cadft_loss *loss,
                          const cadft_loss_batch *theirs,
                          cadft__batch *out,
                          cadft_error *error)
{
    cadft__matrix v[3];
    cadft_loss_batch t;
    int32_t status = cadft__struct_in(&t, sizeof t, theirs,
                                      CADFT__SIZE_TO(cadft_loss_batch, stream),
                                      "batch", error);
    if (status)
        return status;
    *out = (cadft__batch){.stream = t.stream};
    if (t.reserved)
        return cadft__fail(error, CADFT_E_TOO_NEW, "batch.reserved is not 0");
    if (t.stream && is_host(loss->handle.context->backend->device_type))
        return cadft__fail(error, CADFT_E_ARG,
                           "batch.stream is not NULL, but host memory has no "
                           "streams");
    status = check_k(loss, &t, error);
    if (!status)
        status = read_logits(loss, &t, out, error);
    if (!status) /* all shapes before any memory */
        status = check_vectors(&t, out->logits.rows, v, error);
    if (!status)
        status = reserve(loss, out->logits.rows, error);
    if (!status)
        status = read_samples(loss, &v[0], out, error);
    if (!status)
        status = read_labels(loss, &v[1], out, error);
    if (!status && t.k)
        status = read_k(loss, &v[2], out, error);
    return status;
}

cadft_loss_rows cadft__batch_rows(const cadft_loss *loss,
                                  const cadft__batch *batch,
                                  cadft_array labels)
{
    return (cadft_loss_rows){
        .struct_size = sizeof(cadft_loss_rows),
        .dtype = batch->logits.dtype,
        .logits = {batch->logits.base, batch->logits.offset},
        .rows = batch->logits.rows,
        .cols = batch->cols,
        .row_stride = batch->logits.row_stride,
        .softcap = loss->active.softcap,
        .labels = labels,
    };
}

/* -------------------------------------------------------------- gradient */

/* Either the very same rows, or no byte in common. Off the host a base is a
 * handle, and only offsets from the same one can be compared. */
static int32_t
check_alias(const cadft__matrix *z, const cadft__matrix *g, cadft_error *error)
{
    int host = is_host(z->device_type);
    uint64_t a = z->offset + (host ? (uintptr_t)z->base : 0);
    uint64_t b = g->offset + (host ? (uintptr_t)g->base : 0);
    if (!host && z->base != g->base)
        return CADFT_OK;
    if (cadft__matrix_span(z) == 0 || cadft__matrix_span(g) == 0)
        return CADFT_OK;
    if (a + cadft__matrix_span(z) <= b || b + cadft__matrix_span(g) <= a)
        return CADFT_OK;
    if (a == b && z->dtype == g->dtype &&
        (z->row_stride == g->row_stride || z->rows == 1))
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_ALIAS,
                       "grad overlaps logits; expected the same address, "
                       "data type and strides, or separate memory");
}

int32_t cadft__batch_grad(const cadft_loss *loss,
                          const cadft__batch *batch,
                          const cadft_tensor *theirs,
                          cadft_loss_grad_out *out,
                          cadft_error *error)
{
    cadft_context *context = loss->handle.context;
    cadft__matrix g;
    int32_t status = cadft__tensor_matrix(theirs, 1, "grad", &g, error);
    if (!status)
        status = check_device(loss, &g, "grad", error);
    if (status)
        return status;
    if (!context->backend->supports(context->device, CADFT_OP_LOSS_ROW_GRAD,
                                    batch->logits.dtype, g.dtype))
        return cadft__fail(error, CADFT_E_DTYPE,
                           "grad is %s, expected %s like the logits, or "
                           "float32",
                           cadft__dtype_name(g.dtype),
                           cadft__dtype_name(batch->logits.dtype));
    if (g.rows != batch->logits.rows ||
        (g.cols != batch->cols && g.cols != batch->logits.cols))
        return cadft__fail(
            error, CADFT_E_SHAPE,
            "grad is [%lld, %lld], expected [%lld, %lld] or "
            "the %lld valid columns",
            (long long)g.rows, (long long)g.cols, (long long)batch->logits.rows,
            (long long)batch->logits.cols, (long long)batch->cols);
    *out = (cadft_loss_grad_out){
        .struct_size = sizeof *out,
        .dtype = g.dtype,
        .grad = {g.base, g.offset},
        .cols = g.cols,
        .row_stride = g.row_stride,
    };
    return check_alias(&batch->logits, &g, error);
}
