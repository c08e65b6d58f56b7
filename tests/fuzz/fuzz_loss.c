/* SPDX-License-Identifier: Apache-2.0 */
/* A host that calls the loss in any order with any options, shapes, strides,
 * types, labels and ids. Its one virtue: an address it passes is backed by
 * memory for the shape it declares, unless the shape cannot be met by any
 * memory. Checked: no crash, no leak, status and message agree, and a call
 * that fails leaves the gradient as it was, one that succeeds writes only
 * inside its rows. */
#include "views.h"

enum { OPS = 48 };

struct host {
    struct input in;
    cadft_loss *loss;
    cadft_error err;
    int64_t n_samples, micro;
    _Alignas(64) uint8_t z[MEMORY], g[MEMORY], before[2 * MEMORY];
    _Alignas(64) uint8_t y[MEMORY], ids[MEMORY], k[MEMORY];
    float scale[MEMORY / 4];
    struct view logits, labels, samples, coefficients, grad;
    cadft_loss_batch batch;
    cadft_loss_report report;
};

/* ------------------------------------------------------------- numbers */

static double real(struct input *in)
{
    static const double some[] = {0,      1,     -1,   0.5, 0.1,   2,       16,
                                  1e-300, 1e300, 1e38, 30,  -1e-9, 0.999999};
    uint8_t b = take8(in);
    return b < 13 * 18 ? some[b % 13] : take_f64(in);
}

/* --------------------------------------------------------------- batches */

static void fill_logits(struct host *h, int32_t dtype)
{
    uint8_t mode = take8(&h->in);
    for (size_t i = 0; i < MEMORY / 4; i++) {
        float f = (float)((int)(take8(&h->in) ^ (i * 37 & 63)) - 64) / 8;
        uint32_t bits;
        if (mode == 1 && i % 7 == 3)
            f = -__builtin_inff();
        if (mode == 2 && i % 11 == 3)
            f = __builtin_nanf("");
        if (mode == 3)
            f *= 1e36f;
        memcpy(&bits, &f, sizeof bits);
        if (mode > 250) {
            bits = (uint32_t)take64(&h->in);
        } else if (dtype == CADFT_DTYPE_BF16) {
            bits = bits >> 16 | (bits & 0xffff0000u);
        } else if (dtype == CADFT_DTYPE_F16) {
            bits = (uint32_t)(0x3c00 + 64 * (i % 9)) * 0x10001u;
        }
        memcpy(h->z + 4 * i, &bits, sizeof bits);
    }
}

static void fill_rows(struct host *h, int64_t rows, int64_t cols, int wide)
{
    for (int64_t r = 0; r < MEMORY / 8; r++) {
        int64_t label = r < rows ? number(&h->in, cols) : 0;
        int32_t narrow = (int32_t)label;
        int32_t id = r < rows ? (int32_t)number(&h->in, h->n_samples) : -1;
        double k = r < rows ? real(&h->in) : 0;
        if (wide)
            memcpy(h->y + 8 * r, &label, sizeof label);
        else
            memcpy(h->y + 4 * r, &narrow, sizeof narrow);
        memcpy(h->ids + 4 * r, &id, sizeof id);
        memcpy(h->k + 8 * r, &k, sizeof k);
    }
}

static void make_batch(struct host *h)
{
    static const int32_t floats[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                     CADFT_DTYPE_F16};
    struct input *in = &h->in;
    uint8_t kind = take8(in);
    int32_t dtype = floats[kind % 3];
    int64_t rows = take8(in) % 9, cols = 1 + take8(in) % 40;
    struct view *all[] = {&h->logits, &h->labels, &h->samples, &h->coefficients,
                          &h->grad};
    make_view(&h->logits, h->z, dtype, rows, cols);
    make_view(&h->labels, h->y, kind & 64 ? CADFT_DTYPE_I64 : CADFT_DTYPE_I32,
              rows, 0);
    make_view(&h->samples, h->ids, CADFT_DTYPE_I32, rows, 0);
    make_view(&h->coefficients, h->k, CADFT_DTYPE_F64, rows, 0);
    make_view(&h->grad, kind & 32 ? h->z : h->g,
              kind & 16 ? CADFT_DTYPE_F32 : dtype, rows, cols);
    fill_logits(h, dtype);
    fill_rows(h, rows, cols, kind & 64);
    h->batch = (cadft_loss_batch){.struct_size = sizeof h->batch,
                                  .logits = &h->logits.tensor,
                                  .labels = &h->labels.tensor,
                                  .sample_ids = &h->samples.tensor};
    if (kind & 128)
        h->batch.k = &h->coefficients.tensor;
    for (int n = take8(in) % 8 - 4; n > 0; n--)
        spoil_view(in, all[take8(in) % 5]);
    for (int i = 0; i < 5; i++)
        make_honest(all[i], rows);
    if (take8(in) % 4 == 0) {
        h->batch.vocab_valid = number(in, cols + 2);
        h->batch.vocab_start = number(in, 8);
        h->batch.vocab_total = number(in, 4 * cols);
        if (take8(in) > 250)
            h->batch.reserved = 1;
        if (take8(in) > 250)
            h->batch.labels = NULL;
        if (take8(in) > 250)
            h->batch.stream = h;
    }
}

/* ---------------------------------------------------- what was written */

static void remember(struct host *h)
{
    memcpy(h->before, h->z, MEMORY);
    memcpy(h->before + MEMORY, h->g, MEMORY);
}

/* Does byte `at` of the gradient's memory lie inside one of its rows? */
static int inside(const struct view *v, size_t at)
{
    const cadft_tensor *t = &v->tensor;
    size_t size = element(t), width = (size_t)t->shape[t->ndim - 1] * size;
    size_t rows = 1, stride = (size_t)t->shape[t->ndim - 1] * size;
    for (int d = 0; d < t->ndim - 1; d++)
        rows *= (size_t)t->shape[d];
    for (int d = 0; t->strides && d < t->ndim - 1; d++)
        if (t->shape[d] > 1)
            stride = (size_t)t->strides[d] * size; /* the last one counts */
    if (at < t->byte_offset || !width || !rows)
        return 0;
    at -= t->byte_offset;
    return stride ? at / stride < rows && at % stride < width : at < width;
}

static void check_written(const struct host *h, int wrote)
{
    int in_place = h->grad.tensor.data == h->z;
    const uint8_t *memory = in_place ? h->z : h->g;
    const uint8_t *before = h->before + (in_place ? 0 : MEMORY);
    REQUIRE(memcmp(in_place ? h->g : h->z, h->before + (in_place ? MEMORY : 0),
                   MEMORY) == 0);
    for (size_t i = 0; i < MEMORY; i++)
        if (memory[i] != before[i])
            REQUIRE(wrote && inside(&h->grad, i));
}

/* ------------------------------------------------------------ operations */

static int32_t coefficient(void *user,
                           int64_t rows,
                           const double *l,
                           const double *p,
                           const double *entropy,
                           double *k)
{
    struct host *h = (struct host *)user;
    REQUIRE(cadft_loss_weigh(h->loss, NULL) == CADFT_E_BUSY);
    for (int64_t r = 0; r < rows; r++) {
        REQUIRE(l[r] >= 0 && p[r] >= 0 && entropy[r] >= -1e-3);
        k[r] = p[r] + 0.5 * entropy[r];
    }
    return rows == 7;
}

static void set_knob(struct host *h)
{
    int32_t key = 1 + take8(&h->in) % 23, type = 0;
    double low = 0, high = 0, value = real(&h->in);
    int64_t whole = number(&h->in, 9);
    if (cadft_loss_bounds(key, &type, &low, &high, NULL, NULL))
        type = key & 1;
    if (type)
        checked(cadft_loss_set_f64(h->loss, key, value, &h->err), &h->err);
    else
        checked(cadft_loss_set_i64(h->loss, key, whole, &h->err), &h->err);
}

static void compute(struct host *h, int unit)
{
    int32_t status;
    make_batch(h);
    h->report.struct_size = (uint32_t)sizeof h->report;
    remember(h);
    status = checked(cadft_loss_compute(h->loss, &h->batch, h->n_samples,
                                        &h->grad.tensor, unit ? h->scale : NULL,
                                        &h->report, &h->err),
                     &h->err);
    check_written(h,
                  status == CADFT_OK || (unit && (status == CADFT_E_NONFINITE ||
                                                  status == CADFT_E_CALLBACK)));
    if (status == CADFT_OK)
        REQUIRE(h->report.n_rows >= 0 && h->report.mean_w <= 1 &&
                h->report.min_w >= 0);
}

static void observe(struct host *h, int unit)
{
    int64_t micro = -5;
    int32_t status;
    make_batch(h);
    remember(h);
    status = checked(cadft_loss_observe(h->loss, &h->batch,
                                        unit ? &h->grad.tensor : NULL, &micro,
                                        &h->err),
                     &h->err);
    REQUIRE((status == CADFT_OK) == (micro >= 0));
    if (status == CADFT_OK)
        h->micro = micro;
    check_written(h,
                  unit && (status == CADFT_OK || status == CADFT_E_NONFINITE ||
                           status == CADFT_E_CALLBACK));
}

static void grad(struct host *h)
{
    int again = take8(&h->in) & 1;
    int64_t micro = take8(&h->in) % 4 ? h->micro : number(&h->in, 4);
    int32_t status;
    if (!again)
        make_batch(h);
    if (take8(&h->in) % 4 == 0)
        micro = -1;
    remember(h);
    status = checked(
        cadft_loss_grad(h->loss, micro, &h->batch, &h->grad.tensor, &h->err),
        &h->err);
    check_written(h, status == CADFT_OK);
}

/* Export, perhaps spoil, import: exactly as many doubles as said. */
static void exchange(struct host *h)
{
    struct input *in = &h->in;
    int32_t kind = (int32_t)number(in, 8);
    int64_t shards = 1 + take8(in) % 3, shard = number(in, 3);
    size_t needed = 0;
    double *values;
    if (kind <= CADFT_EXCHANGE_SAMPLES && take8(in) % 8)
        shards = 1, shard = 0;
    if (checked(cadft_loss_export(h->loss, kind, shard, shards, NULL, 0,
                                  &needed, &h->err),
                &h->err))
        return;
    if (needed > 1 << 16)
        return;
    values = (double *)malloc((needed + !needed) * sizeof *values);
    if (checked(cadft_loss_export(h->loss, kind, shard, shards, values, needed,
                                  NULL, &h->err),
                &h->err)) {
        free(values);
        return;
    }
    for (int n = take8(in) % 8 - 4; n > 0 && needed; n--)
        values[take8(in) % needed] = real(in);
    checked(cadft_loss_import(h->loss, kind, values, needed, &h->err), &h->err);
    free(values);
}

static void read_arrays(struct host *h)
{
    int32_t what = (int32_t)number(&h->in, 7);
    int64_t micro = number(&h->in, 3);
    size_t capacity = (size_t)(take8(&h->in) % 32);
    double *out = (double *)malloc((capacity + 1) * sizeof *out);
    checked(
        cadft_loss_get_rows(h->loss, micro, what, out, capacity, NULL, &h->err),
        &h->err);
    checked(cadft_loss_get_samples(h->loss, what, out, capacity, NULL, &h->err),
            &h->err);
    free(out);
}

static void operate(struct host *h)
{
    cadft_coefficient c = {
        .struct_size = sizeof c, .user = h, .fn = coefficient};
    uint8_t op = take8(&h->in);
    switch (op % 16) {
    case 0:
    case 1:
        compute(h, op & 1);
        break;
    case 2:
        h->n_samples = number(&h->in, 6);
        checked(cadft_loss_begin(h->loss, h->n_samples, &h->err), &h->err);
        break;
    case 3:
    case 4:
        observe(h, 0);
        break;
    case 5:
        observe(h, 1);
        break;
    case 6:
        checked(cadft_loss_weigh(h->loss, &h->err), &h->err);
        break;
    case 7:
    case 8:
        grad(h);
        break;
    case 9:
        h->report.struct_size = (uint32_t)sizeof h->report;
        checked(cadft_loss_get_report(h->loss, &h->report, &h->err), &h->err);
        checked(cadft_loss_end(h->loss, &h->report, &h->err), &h->err);
        break;
    case 10:
    case 11:
        exchange(h);
        break;
    case 12:
        read_arrays(h);
        break;
    case 13:
        set_knob(h);
        break;
    case 14:
        checked(
            cadft_loss_set_coefficient(h->loss, op & 64 ? &c : NULL, &h->err),
            &h->err);
        break;
    default:
        if (op & 64)
            cadft_loss_cancel(h->loss);
        h->n_samples = number(&h->in, 6);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host h;
    struct heap heap = {0};
    cadft_context *context = fuzz_context(&heap);
    memset(&h, 0, sizeof h);
    h.in = (struct input){data, size};
    h.err.struct_size = sizeof h.err;
    h.n_samples = 4;
    REQUIRE(cadft_loss_create(context, &h.loss, NULL) == CADFT_OK);
    for (int n = take8(&h.in) % 4; n > 0; n--)
        set_knob(&h);
    for (int n = 0; n < OPS && h.in.left; n++)
        operate(&h);
    cadft_context_destroy(context);
    cadft_loss_destroy(h.loss);
    REQUIRE(heap.live == 0);
    return 0;
}
