/* SPDX-License-Identifier: Apache-2.0 */
/* Bad batches and gradients: sizes of structs, types, shapes, strides,
 * addresses, devices, overlaps. Each one through compute, observe and grad.
 */
#include "hostile_batch.h"

/* -------------------------------------------------------------- structs */

START_TEST(missing_parts)
{
    BATCH(CADFT_E_NULL, "logits", v->batch.logits = NULL);
    BATCH(CADFT_E_NULL, "labels", v->batch.labels = NULL);
    BATCH(CADFT_E_NULL, "sample_ids", v->batch.sample_ids = NULL);
    BATCH(CADFT_E_NULL, "logits.data", v->logits.data = NULL);
    BATCH(CADFT_E_NULL, "labels.data", v->labels.data = NULL);
    BATCH(CADFT_E_NULL, "sample_ids.data", v->ids.data = NULL);
    BATCH(CADFT_E_NULL, "logits.shape", v->logits.shape = NULL);
    BATCH(CADFT_E_NULL, "labels.shape", v->labels.shape = NULL);
    BATCH(CADFT_E_NULL, "sample_ids.shape", v->ids.shape = NULL);
    GRADIENT(CADFT_E_NULL, "grad.data", v->grad.data = NULL);
    GRADIENT(CADFT_E_NULL, "grad.shape", v->grad.shape = NULL);
}
END_TEST

START_TEST(missing_structs)
{
    int64_t micro;
    REFUSE(v, CADFT_E_NULL, "batch",
           cadft_loss_compute(v->loss, NULL, 1, &v->grad, NULL, NULL, e));
    weighed_step(0);
    REFUSE_ONLY(v, CADFT_E_NULL, "batch",
                cadft_loss_observe(v->loss, NULL, NULL, &micro, e));
    REFUSE_ONLY(v, CADFT_E_NULL, "micro",
                cadft_loss_observe(v->loss, &v->batch, NULL, NULL, e));
    CHECK_OK(cadft_loss_weigh(v->loss, &v->err), v->err);
    REFUSE_ONLY(v, CADFT_E_NULL, "batch",
                cadft_loss_grad(v->loss, 0, NULL, &v->grad, e));
    REFUSE_ONLY(v, CADFT_E_NULL, "grad",
                cadft_loss_grad(v->loss, 0, &v->batch, NULL, e));
    end_step();
}
END_TEST

START_TEST(struct_sizes)
{
    static const uint32_t sizes[] = {0, 1, 4097, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        BATCH(CADFT_E_ARG, "batch.struct_size",
              v->batch.struct_size = sizes[i]);
        BATCH(CADFT_E_ARG, "logits.struct_size",
              v->logits.struct_size = sizes[i]);
        BATCH(CADFT_E_ARG, "labels.struct_size",
              v->labels.struct_size = sizes[i]);
        BATCH(CADFT_E_ARG, "sample_ids.struct_size",
              v->ids.struct_size = sizes[i]);
        GRADIENT(CADFT_E_ARG, "grad.struct_size",
                 v->grad.struct_size = sizes[i]);
    }
    BATCH(CADFT_E_ARG, "batch.struct_size",
          v->batch.struct_size = sizeof v->batch - 1);
    BATCH(CADFT_E_TOO_NEW, "batch.reserved", v->batch.reserved = 1);
    BATCH(CADFT_E_TOO_NEW, "logits.reserved", v->logits.reserved = 1);
    BATCH(CADFT_E_TOO_NEW, "labels.flags", v->labels.flags = 1);
    GRADIENT(CADFT_E_TOO_NEW, "grad.flags", v->grad.flags = 1ull << 63);
}
END_TEST

/* A report that cannot be filled is known before anything is written. */
START_TEST(report_struct_sizes)
{
    static const uint32_t sizes[] = {0, 1, sizeof(cadft_loss_report) - 1, 4097,
                                     UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        weighed_step(1);
        v->report.struct_size = sizes[i];
        REFUSE_ONLY(v, CADFT_E_ARG, "report.struct_size",
                    cadft_loss_end(v->loss, &v->report, e));
        end_step();
        fresh(v);
        v->report.struct_size = sizes[i];
        REFUSE(v, CADFT_E_ARG, "report.struct_size", compute(v, e));
        fresh(v);
    }
}
END_TEST

/* From the future: a zero tail is accepted, another one is not. */
START_TEST(structs_from_the_future)
{
    struct {
        cadft_loss_batch b;
        unsigned char tail[40];
    } batch;
    struct {
        cadft_tensor t;
        unsigned char tail[24];
    } tensor;
    memset(&batch, 0, sizeof batch);
    memset(&tensor, 0, sizeof tensor);
    fresh(v);
    batch.b = v->batch;
    batch.b.struct_size = sizeof batch;
    tensor.t = v->logits;
    tensor.t.struct_size = sizeof tensor;
    batch.b.logits = &tensor.t;
    CHECK_OK(cadft_loss_compute(v->loss, &batch.b, SAMPLES, &v->grad, NULL,
                                NULL, &v->err),
             v->err);
    ck_assert_mem_eq(v->grad.data, v->best, sizeof v->best);
    tensor.tail[23] = 1;
    REFUSE(v, CADFT_E_TOO_NEW, "logits",
           cadft_loss_compute(v->loss, &batch.b, SAMPLES, &v->grad, NULL, NULL,
                              e));
    tensor.tail[23] = 0;
    batch.tail[0] = 1;
    REFUSE(v, CADFT_E_TOO_NEW, "batch",
           cadft_loss_compute(v->loss, &batch.b, SAMPLES, &v->grad, NULL, NULL,
                              e));
}
END_TEST

/* A longer report is filled as far as is known, its tail left alone. */
START_TEST(report_from_the_future)
{
    struct {
        cadft_loss_report r;
        unsigned char tail[32];
    } report;
    memset(&report, 0x77, sizeof report);
    report.r.struct_size = sizeof report;
    CHECK_OK(cadft_loss_compute(v->loss, &v->batch, SAMPLES, NULL, NULL,
                                &report.r, &v->err),
             v->err);
    ck_assert(report.r.loss == v->best_report.loss);
    ck_assert_uint_eq(report.r.struct_size, sizeof report);
    for (size_t i = 0; i < sizeof report.tail; i++)
        ck_assert_int_eq(report.tail[i], 0x77);
}
END_TEST

/* ---------------------------------------------------------------- types */

START_TEST(data_types)
{
    static const int32_t integers[] = {CADFT_DTYPE_I32, CADFT_DTYPE_I64};
    static const int32_t floats[] = {CADFT_DTYPE_F16, CADFT_DTYPE_BF16,
                                     CADFT_DTYPE_F64};
    for (int i = 0; i < 2; i++) {
        BATCH(CADFT_E_DTYPE, "logits", set_dtype(&v->logits, integers[i]));
        GRADIENT(CADFT_E_DTYPE, "grad", set_dtype(&v->grad, integers[i]));
    }
    for (int i = 0; i < 3; i++) {
        BATCH(CADFT_E_DTYPE, "labels", set_dtype(&v->labels, floats[i]));
        BATCH(CADFT_E_DTYPE, "sample_ids", set_dtype(&v->ids, floats[i]));
        GRADIENT(CADFT_E_DTYPE, "grad", set_dtype(&v->grad, floats[i]));
    }
    BATCH(CADFT_E_DTYPE, "logits", set_dtype(&v->logits, CADFT_DTYPE_F64));
    BATCH(CADFT_E_DTYPE, "sample_ids", set_dtype(&v->ids, CADFT_DTYPE_I64));
    BATCH(CADFT_E_DTYPE, "logits", v->logits.dtype_lanes = 2);
    BATCH(CADFT_E_DTYPE, "logits", v->logits.dtype_lanes = 0);
    BATCH(CADFT_E_DTYPE, "labels", v->labels.dtype_bits = 8);
    BATCH(CADFT_E_DTYPE, "labels", v->labels.dtype_code = 1);
    BATCH(CADFT_E_DTYPE, "logits", v->logits.dtype_code = 255);
    GRADIENT(CADFT_E_DTYPE, "grad", v->grad.dtype_lanes = 0xffff);
}
END_TEST

START_TEST(device_types)
{
    static const int32_t devices[] = {0, 2, 4, 10, 12, 12345, -1, INT32_MIN};
    for (int i = 0; i < 8; i++) {
        BATCH(CADFT_E_DEVICE, "logits", v->logits.device_type = devices[i]);
        BATCH(CADFT_E_DEVICE, "labels", v->labels.device_type = devices[i]);
        BATCH(CADFT_E_DEVICE, "sample_ids", v->ids.device_type = devices[i]);
        GRADIENT(CADFT_E_DEVICE, "grad", v->grad.device_type = devices[i]);
    }
    BATCH(CADFT_E_ARG, "stream", v->batch.stream = v);
}
END_TEST

/* --------------------------------------------------------------- shapes */

START_TEST(numbers_of_dimensions)
{
    static const int32_t ranks[] = {0, -1, 17, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; i++) {
        BATCH(CADFT_E_SHAPE, "logits.ndim", v->logits.ndim = ranks[i]);
        BATCH(CADFT_E_SHAPE, "labels.ndim", v->labels.ndim = ranks[i]);
        BATCH(CADFT_E_SHAPE, "sample_ids.ndim", v->ids.ndim = ranks[i]);
        GRADIENT(CADFT_E_SHAPE, "grad.ndim", v->grad.ndim = ranks[i]);
    }
    BATCH(CADFT_E_SHAPE, "logits.ndim", v->logits.ndim = 1);
    GRADIENT(CADFT_E_SHAPE, "grad.ndim", v->grad.ndim = 1);
}
END_TEST

START_TEST(dimensions)
{
    BATCH(CADFT_E_SHAPE, "logits.shape[0]", v->logits.shape = DIMS(-1, COLS));
    BATCH(CADFT_E_SHAPE, "logits.shape[1]", v->logits.shape = DIMS(ROWS, -1));
    BATCH(CADFT_E_SHAPE, "logits.shape[0]",
          v->logits.shape = DIMS(INT64_MIN, COLS));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(ROWS, 0));
    BATCH(CADFT_E_SHAPE, "sample_ids", v->ids.shape = DIMS(ROWS - 1));
    BATCH(CADFT_E_SHAPE, "sample_ids", v->ids.shape = DIMS(0));
    BATCH(CADFT_E_SHAPE, "sample_ids", v->ids.shape = DIMS(INT64_MAX / 8));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.shape = DIMS(ROWS + 1));
    BATCH(CADFT_E_SHAPE, "labels.shape[0]", v->labels.shape = DIMS(-ROWS));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(ROWS - 1, COLS));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(ROWS, COLS - 1));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(ROWS, COLS + 1));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(0, COLS));
    GRADIENT(CADFT_E_SHAPE, "grad.shape[1]", v->grad.shape = DIMS(ROWS, -1));
}
END_TEST

START_TEST(dimensions_that_overflow)
{
    const int64_t big = INT64_MAX, half = (int64_t)1 << 32;
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(big, big));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(big, 1));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(1, big));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(half, half));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.shape = DIMS(half, half / 8));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.ndim = 3,
          v->logits.shape = DIMS(half, half, 1));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.ndim = 3,
          v->logits.shape = DIMS(half, half, 0));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.shape = DIMS(big));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.ndim = 2,
          v->labels.shape = DIMS(half, half));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.byte_offset = UINT64_MAX - 3);
    BATCH(CADFT_E_SHAPE, "logits", v->logits.byte_offset = INT64_MAX - 7);
    BATCH(CADFT_E_SHAPE, "labels", v->labels.byte_offset = UINT64_MAX - 3);
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.byte_offset = UINT64_MAX - 3);
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(big, COLS));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.shape = DIMS(ROWS, big));
}
END_TEST

/* More rows than labels is a wrong shape, not a lack of memory. */
START_TEST(rows_that_nothing_else_has)
{
    int64_t before = v->memory.heap.allocations;
    BATCH(CADFT_E_SHAPE, "elements",
          v->logits.shape = DIMS((int64_t)1 << 40, 1),
          v->logits.strides = NULL);
    ck_assert_int_eq(v->memory.heap.allocations, before);
}
END_TEST

START_TEST(strides)
{
    const int64_t big = INT64_MAX;
    BATCH(CADFT_E_SHAPE, "row stride", v->logits.strides = DIMS(COLS - 1, 1));
    BATCH(CADFT_E_SHAPE, "row stride", v->logits.strides = DIMS(0, 1));
    BATCH(CADFT_E_SHAPE, "row stride", v->logits.strides = DIMS(-COLS, 1));
    BATCH(CADFT_E_SHAPE, "row stride", v->logits.strides = DIMS(INT64_MIN, 1));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.strides = DIMS(big, 1));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.strides = DIMS(big / 4, 1));
    BATCH(CADFT_E_SHAPE, "logits.strides[1]",
          v->logits.strides = DIMS(COLS, 2));
    BATCH(CADFT_E_SHAPE, "logits.strides[1]",
          v->logits.strides = DIMS(COLS, 0));
    BATCH(CADFT_E_SHAPE, "logits.strides[1]",
          v->logits.strides = DIMS(COLS, -1));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.strides = DIMS(2));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.strides = DIMS(0));
    BATCH(CADFT_E_SHAPE, "labels", v->labels.strides = DIMS(-1));
    BATCH(CADFT_E_SHAPE, "sample_ids", v->ids.strides = DIMS(INT64_MIN));
    GRADIENT(CADFT_E_SHAPE, "row stride", v->grad.strides = DIMS(1, 1));
    GRADIENT(CADFT_E_SHAPE, "grad", v->grad.strides = DIMS(big, 1));
    GRADIENT(CADFT_E_SHAPE, "grad.strides[1]", v->grad.strides = DIMS(COLS, 3));
}
END_TEST

/* [B, T, V] must collapse to one row stride. */
START_TEST(strides_that_do_not_collapse)
{
    const int64_t big = INT64_MAX;
    BATCH(CADFT_E_SHAPE, "logits.strides[0]", v->logits.ndim = 3,
          v->logits.shape = DIMS(2, 3, COLS),
          v->logits.strides = DIMS(3 * COLS + 1, COLS, 1));
    BATCH(CADFT_E_SHAPE, "logits.strides[0]", v->logits.ndim = 3,
          v->logits.shape = DIMS(2, 3, COLS),
          v->logits.strides = DIMS(COLS, 2 * COLS, 1));
    BATCH(CADFT_E_SHAPE, "logits", v->logits.ndim = 3,
          v->logits.shape = DIMS(2, 3, COLS),
          v->logits.strides = DIMS(big, big, 1));
    BATCH(CADFT_E_SHAPE, "labels.strides[0]", v->labels.ndim = 2,
          v->labels.shape = DIMS(2, 3), v->labels.strides = DIMS(1, 2));
    GRADIENT(CADFT_E_SHAPE, "grad.strides[0]", v->grad.ndim = 3,
             v->grad.shape = DIMS(2, 3, COLS),
             v->grad.strides = DIMS(COLS, 2 * COLS, 1));
    fresh(v); /* what collapses is accepted: strides of ones do not matter */
    v->logits.ndim = 4;
    v->logits.shape = DIMS(1, 2, 3, COLS);
    v->logits.strides = DIMS(-99, 3 * COLS, COLS, 1);
    CHECK_OK(compute(v, &v->err), v->err);
    ck_assert_mem_eq(v->grad.data, v->best, sizeof v->best);
}
END_TEST

START_TEST(vocabularies)
{
    BATCH(CADFT_E_SHAPE, "vocab_valid is", v->batch.vocab_valid = -1);
    BATCH(CADFT_E_SHAPE, "vocab_valid is", v->batch.vocab_valid = COLS + 1);
    BATCH(CADFT_E_SHAPE, "vocab_valid is", v->batch.vocab_valid = INT64_MAX);
    BATCH(CADFT_E_SHAPE, "vocab_valid is", v->batch.vocab_valid = INT64_MIN);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_start = 1);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_start = -1);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = COLS - 1);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = -1);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = INT64_MAX);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = INT64_MIN);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = 20,
          v->batch.vocab_start = 11);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = 20,
          v->batch.vocab_start = INT64_MAX);
    BATCH(CADFT_E_SHAPE, "vocabulary", v->batch.vocab_total = 20,
          v->batch.vocab_start = INT64_MIN);
}
END_TEST

/* ------------------------------------------------------------ addresses */

START_TEST(misaligned_addresses)
{
    for (int i = 1; i < 4; i++) {
        BATCH(CADFT_E_ALIGN, "logits",
              v->logits.data = (char *)v->logits.data + i);
        BATCH(CADFT_E_ALIGN, "logits", v->logits.byte_offset = (uint64_t)i);
        BATCH(CADFT_E_ALIGN, "labels", v->labels.data = (char *)v->y + i);
        BATCH(CADFT_E_ALIGN, "sample_ids", v->ids.data = (char *)v->s + i);
        GRADIENT(CADFT_E_ALIGN, "grad", v->grad.byte_offset = (uint64_t)i);
    }
}
END_TEST

START_TEST(overlapping_gradients)
{
    float *z = (float *)v->good->z;
    float before[ROWS * COLS];
    memcpy(before, z, sizeof before);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z + 1);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z - 1);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z + ROWS * COLS - 1);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z - ROWS * COLS + 1);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z + COLS);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z,
             v->grad.byte_offset = COLS * sizeof *z);
    GRADIENT(CADFT_E_ALIAS, "grad", v->grad.data = z,
             v->grad.strides = DIMS(COLS + 1, 1));
    fresh(v); /* the valid columns, dense: another stride */
    memset(v->y, 0, sizeof v->y);
    v->batch.vocab_valid = COLS - 1;
    v->grad.data = z;
    v->grad.shape = DIMS(ROWS, COLS - 1);
    REFUSE(v, CADFT_E_ALIAS, "grad", compute(v, e));
    ck_assert_mem_eq(z, before, sizeof before);
}
END_TEST

/* float32 over float16 at the same address: the rows run into each other. */
START_TEST(overlapping_gradient_of_another_type)
{
    float z[ROWS * COLS] = {0};
    fresh(v);
    set_dtype(&v->logits, CADFT_DTYPE_F16);
    v->logits.data = v->grad.data = z;
    REFUSE(v, CADFT_E_ALIAS, "grad", compute(v, e));
    fresh(v);
    set_dtype(&v->logits, CADFT_DTYPE_F16);
    v->logits.data = z;
    v->grad.data = (char *)z + ROWS * COLS * 2 - 4;
    REFUSE(v, CADFT_E_ALIAS, "grad", compute(v, e));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile_batch");
    TCase *t = tcase_create("batches");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, missing_parts);
    tcase_add_test(t, missing_structs);
    tcase_add_test(t, struct_sizes);
    tcase_add_test(t, report_struct_sizes);
    tcase_add_test(t, structs_from_the_future);
    tcase_add_test(t, report_from_the_future);
    tcase_add_test(t, data_types);
    tcase_add_test(t, device_types);
    tcase_add_test(t, numbers_of_dimensions);
    tcase_add_test(t, dimensions);
    tcase_add_test(t, dimensions_that_overflow);
    tcase_add_test(t, rows_that_nothing_else_has);
    tcase_add_test(t, strides);
    tcase_add_test(t, strides_that_do_not_collapse);
    tcase_add_test(t, vocabularies);
    tcase_add_test(t, misaligned_addresses);
    tcase_add_test(t, overlapping_gradients);
    tcase_add_test(t, overlapping_gradient_of_another_type);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
