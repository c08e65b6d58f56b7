/* SPDX-License-Identifier: Apache-2.0 */
/* Sample ids from the layouts that hosts have. Boundaries come from lengths
 * and positions, never from labels. */
#include "common/error.h"
#include "common/tensor.h"
#include "cadft/loss.h"

/* A dense vector of integers in host memory. */
struct integers {
    const void *data;
    int64_t count, last; /* last: size of the last dimension */
    int wide;
};

static int64_t at(const struct integers *v, int64_t i)
{
    return v->wide ? ((const int64_t *)v->data)[i]
                   : ((const int32_t *)v->data)[i];
}

static int32_t read_integers(const cadft_tensor *tensor,
                             const char *name,
                             struct integers *out,
                             cadft_error *error)
{
    cadft__matrix m;
    int32_t status = cadft__tensor_matrix(tensor, 0, name, &m, error);
    if (status)
        return status;
    if (m.dtype != CADFT_DTYPE_I32 && m.dtype != CADFT_DTYPE_I64)
        return cadft__fail(error, CADFT_E_DTYPE,
                           "%s is %s, expected int32 or int64", name,
                           cadft__dtype_name(m.dtype));
    if (m.device_type != CADFT_DEVICE_CPU)
        return cadft__fail(error, CADFT_E_DEVICE,
                           "%s.device_type is %d, expected host memory, %d",
                           name, m.device_type, CADFT_DEVICE_CPU);
    out->data = m.base ? (const char *)m.base + m.offset : NULL;
    out->count = m.rows;
    out->last = m.last;
    out->wide = m.dtype == CADFT_DTYPE_I64;
    return CADFT_OK;
}

/* Ids first_id to first_id + n - 1 must fit in int32. */
static int32_t check_ids(int32_t first_id,
                         int64_t n,
                         int64_t rows,
                         const int32_t *ids,
                         cadft_error *error)
{
    if (first_id < 0)
        return cadft__fail(error, CADFT_E_ARG,
                           "first_id is %d, expected 0 or more", first_id);
    if (n > (int64_t)INT32_MAX - first_id)
        return cadft__fail(error, CADFT_E_SAMPLE,
                           "%lld samples from id %d on pass %d", (long long)n,
                           first_id, INT32_MAX);
    if (!ids && rows)
        return cadft__fail(error, CADFT_E_NULL, "ids is NULL");
    return CADFT_OK;
}

/* ---------------------------------------------------------------- padded */

static int32_t check_lengths(const struct integers *v,
                             int64_t n,
                             int64_t length,
                             cadft_error *error)
{
    if (v->count != n)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "lengths has %lld elements, expected %lld",
                           (long long)v->count, (long long)n);
    for (int64_t b = 0; b < n; b++)
        if (at(v, b) < 0 || at(v, b) > length)
            return cadft__fail(
                error, CADFT_E_ARG, "lengths[%lld] is %lld, expected 0 to %lld",
                (long long)b, (long long)at(v, b), (long long)length);
    return CADFT_OK;
}

static int32_t padded(int64_t n,
                      int64_t length,
                      const cadft_tensor *lengths,
                      int32_t first_id,
                      int32_t *ids,
                      cadft_error *error)
{
    struct integers v = {0};
    int64_t rows;
    int32_t status = CADFT_OK;
    if (n < 0 || length < 0 || __builtin_mul_overflow(n, length, &rows))
        return cadft__fail(error, CADFT_E_SHAPE,
                           "[%lld, %lld] is no shape of rows", (long long)n,
                           (long long)length);
    if (lengths) {
        status = read_integers(lengths, "lengths", &v, error);
        if (!status)
            status = check_lengths(&v, n, length, error);
    }
    if (!status)
        status = check_ids(first_id, n, rows, ids, error);
    for (int64_t b = 0; !status && b < n; b++)
        for (int64_t t = 0; t < length; t++)
            ids[b * length + t] =
                !lengths || t < at(&v, b) ? (int32_t)(first_id + b) : -1;
    return status;
}

int32_t cadft_sample_ids_padded(int64_t n_sequences,
                                int64_t length,
                                const cadft_tensor *lengths,
                                int32_t first_id,
                                int32_t *ids,
                                cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = padded(n_sequences, length, lengths, first_id, ids, &own);
    return cadft__error_leave(error, &own, status);
}

/* ---------------------------------------------------------------- packed */

static int32_t
check_cu(const struct integers *v, int64_t rows, cadft_error *error)
{
    int64_t before = 0;
    if (v->count < 1 || rows < 0)
        return cadft__fail(error, CADFT_E_SHAPE,
                           "cu_seqlens has %lld elements for %lld rows, "
                           "expected at least 1",
                           (long long)v->count, (long long)rows);
    for (int64_t i = 0; i < v->count; i++) {
        if (at(v, i) < before || at(v, i) > rows)
            return cadft__fail(error, CADFT_E_ARG,
                               "cu_seqlens[%lld] is %lld, expected %lld to "
                               "%lld",
                               (long long)i, (long long)at(v, i),
                               (long long)before, (long long)rows);
        before = at(v, i);
    }
    return CADFT_OK;
}

static int32_t cu_seqlens(const cadft_tensor *tensor,
                          int64_t rows,
                          int32_t first_id,
                          int32_t *ids,
                          cadft_error *error)
{
    struct integers v;
    int64_t row = 0;
    int32_t status = read_integers(tensor, "cu_seqlens", &v, error);
    if (!status)
        status = check_cu(&v, rows, error);
    if (!status)
        status = check_ids(first_id, v.count - 1, rows, ids, error);
    if (status)
        return status;
    while (row < at(&v, 0))
        ids[row++] = -1;
    for (int64_t i = 0; i + 1 < v.count; i++)
        while (row < at(&v, i + 1))
            ids[row++] = (int32_t)(first_id + i);
    while (row < rows)
        ids[row++] = -1;
    return CADFT_OK;
}

int32_t cadft_sample_ids_cu_seqlens(const cadft_tensor *tensor,
                                    int64_t rows,
                                    int32_t first_id,
                                    int32_t *ids,
                                    cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = cu_seqlens(tensor, rows, first_id, ids, &own);
    return cadft__error_leave(error, &own, status);
}

/* ----------------------------------------------------------- position ids */

static int starts(const struct integers *v, int64_t r)
{
    return r % v->last == 0 || at(v, r) <= at(v, r - 1);
}

static int32_t position_ids(const cadft_tensor *tensor,
                            int32_t first_id,
                            int32_t *ids,
                            int64_t *n_samples,
                            cadft_error *error)
{
    struct integers v;
    int64_t n = 0;
    int32_t status = read_integers(tensor, "position_ids", &v, error);
    if (status)
        return status;
    for (int64_t r = 0; r < v.count; r++)
        n += starts(&v, r);
    status = check_ids(first_id, n, v.count, ids, error);
    if (status)
        return status;
    n = 0;
    for (int64_t r = 0; r < v.count; r++) {
        n += starts(&v, r);
        ids[r] = (int32_t)(first_id + n - 1);
    }
    if (n_samples)
        *n_samples = n;
    return CADFT_OK;
}

int32_t cadft_sample_ids_position_ids(const cadft_tensor *tensor,
                                      int32_t first_id,
                                      int32_t *ids,
                                      int64_t *n_samples,
                                      cadft_error *error)
{
    cadft_error own;
    int32_t status = cadft__error_enter(error, &own);
    if (!status)
        status = position_ids(tensor, first_id, ids, n_samples, &own);
    return cadft__error_leave(error, &own, status);
}
