/* SPDX-License-Identifier: Apache-2.0 */
/* Bad inputs of cadft_tensor_init and of the sample id helpers. */
#include "hostile.h"

static struct victim *v;
static int32_t ids[ROWS];

static void setup(void)
{
    v = victim_new();
    memset(ids, 0x66, sizeof ids);
}

/* Whatever was refused has not touched the ids. */
static void teardown(void)
{
    for (int r = 0; r < ROWS; r++)
        ck_assert_int_eq(ids[r], 0x66666666);
    victim_free(v);
}

START_TEST(tensor_init_arguments)
{
    cadft_tensor t, before;
    int64_t shape[1] = {3};
    static const int32_t dtypes[] = {0, -1, 0x11, 0x12003, 0x22002, INT32_MAX};
    static const int32_t ranks[] = {0, -1, 17, INT32_MIN, INT32_MAX};
    static const uint32_t sizes[] = {0, 1, sizeof t - 1, 4097, UINT32_MAX};
    memset(&t, 0x31, sizeof t);
    before = t;
    REFUSE(v, CADFT_E_NULL, "tensor",
           cadft_tensor_init(NULL, sizeof t, NULL, CADFT_DTYPE_F32, 1, shape,
                             NULL, e));
    REFUSE(v, CADFT_E_NULL, "shape",
           cadft_tensor_init(&t, sizeof t, NULL, CADFT_DTYPE_F32, 1, NULL, NULL,
                             e));
    for (int i = 0; i < 5; i++)
        REFUSE(v, CADFT_E_ARG, "struct_size",
               cadft_tensor_init(&t, sizes[i], NULL, CADFT_DTYPE_F32, 1, shape,
                                 NULL, e));
    for (int i = 0; i < 6; i++)
        REFUSE(v, CADFT_E_DTYPE, "dtype",
               cadft_tensor_init(&t, sizeof t, NULL, dtypes[i], 1, shape, NULL,
                                 e));
    for (int i = 0; i < 5; i++)
        REFUSE(v, CADFT_E_ARG, "ndim",
               cadft_tensor_init(&t, sizeof t, NULL, CADFT_DTYPE_F32, ranks[i],
                                 shape, NULL, e));
    ck_assert_mem_eq(&t, &before, sizeof t);
}
END_TEST

/* ------------------------------------------------------------ the helpers */

/* `values` as an int64 vector of n elements. */
static const cadft_tensor *vector(const int64_t *values, int64_t n)
{
    static cadft_tensor t;
    static int64_t shape[1], copy[16];
    for (int64_t i = 0; i < n; i++)
        copy[i] = values[i];
    shape[0] = n;
    cadft_tensor_init(&t, sizeof t, copy, CADFT_DTYPE_I64, 1, shape, NULL,
                      NULL);
    return &t;
}
#define VECTOR(...)                                                            \
    vector((int64_t[]){__VA_ARGS__},                                           \
           (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

START_TEST(padded_arguments)
{
    const int64_t big = INT64_MAX, many = (int64_t)1 << 33;
#define PADDED(want, name, ...)                                                \
    REFUSE(v, want, name, cadft_sample_ids_padded(__VA_ARGS__, e))
    PADDED(CADFT_E_SHAPE, "[-1, 3]", -1, 3, NULL, 0, ids);
    PADDED(CADFT_E_SHAPE, "[2, -3]", 2, -3, NULL, 0, ids);
    PADDED(CADFT_E_SHAPE, "shape", big, 2, NULL, 0, ids);
    PADDED(CADFT_E_SHAPE, "shape", many, many, NULL, 0, ids);
    PADDED(CADFT_E_ARG, "first_id", 2, 3, NULL, -1, ids);
    PADDED(CADFT_E_SAMPLE, "2147483647", 2, 3, NULL, INT32_MAX, ids);
    PADDED(CADFT_E_SAMPLE, "2147483646", 2, 3, NULL, INT32_MAX - 1, ids);
    PADDED(CADFT_E_SAMPLE, "samples", many, 1, NULL, 0, ids);
    PADDED(CADFT_E_NULL, "ids", 2, 3, NULL, 0, NULL);
    PADDED(CADFT_E_SHAPE, "lengths", 2, 3, VECTOR(1), 0, ids);
    PADDED(CADFT_E_SHAPE, "lengths", 2, 3, VECTOR(1, 2, 3), 0, ids);
    PADDED(CADFT_E_ARG, "lengths[1]", 2, 3, VECTOR(1, 4), 0, ids);
    PADDED(CADFT_E_ARG, "lengths[0]", 2, 3, VECTOR(-1, 3), 0, ids);
    PADDED(CADFT_E_ARG, "lengths[0]", 2, 3, VECTOR(many, 3), 0, ids);
#undef PADDED
}
END_TEST

START_TEST(cu_seqlens_arguments)
{
    const int64_t many = (int64_t)1 << 32;
#define CU(want, name, ...)                                                    \
    REFUSE(v, want, name, cadft_sample_ids_cu_seqlens(__VA_ARGS__, e))
    CU(CADFT_E_NULL, "cu_seqlens", NULL, ROWS, 0, ids);
    CU(CADFT_E_SHAPE, "cu_seqlens", vector(NULL, 0), ROWS, 0, ids);
    CU(CADFT_E_SHAPE, "-6", VECTOR(0, 3), -ROWS, 0, ids);
    CU(CADFT_E_ARG, "cu_seqlens[1]", VECTOR(0, 7), ROWS, 0, ids);
    CU(CADFT_E_ARG, "cu_seqlens[0]", VECTOR(-1, 3), ROWS, 0, ids);
    CU(CADFT_E_ARG, "cu_seqlens[2]", VECTOR(0, 3, 2), ROWS, 0, ids);
    CU(CADFT_E_ARG, "cu_seqlens[1]", VECTOR(0, many), ROWS, 0, ids);
    CU(CADFT_E_ARG, "first_id", VECTOR(0, 3), ROWS, -1, ids);
    CU(CADFT_E_SAMPLE, "2147483647", VECTOR(0, 3), ROWS, INT32_MAX, ids);
    CU(CADFT_E_NULL, "ids", VECTOR(0, 3), ROWS, 0, NULL);
#undef CU
}
END_TEST

START_TEST(position_ids_arguments)
{
    int64_t n = 5;
#define POSITIONS(want, name, ...)                                             \
    REFUSE(v, want, name, cadft_sample_ids_position_ids(__VA_ARGS__, e))
    POSITIONS(CADFT_E_NULL, "position_ids", NULL, 0, ids, &n);
    POSITIONS(CADFT_E_ARG, "first_id", VECTOR(0, 1, 2), -1, ids, &n);
    POSITIONS(CADFT_E_SAMPLE, "2147483646", VECTOR(0, 0, 0), INT32_MAX - 1, ids,
              &n);
    POSITIONS(CADFT_E_NULL, "ids", VECTOR(0, 1, 2), 0, NULL, &n);
#undef POSITIONS
    ck_assert_int_eq(n, 5);
}
END_TEST

/* What all helpers refuse of their tensor. */
START_TEST(helpers_check_their_tensor)
{
    cadft_tensor t;
    int64_t data[4] = {0, 1, 2, 3}, shape[1] = {3}, stride[1] = {2};
    static const int32_t floats[] = {CADFT_DTYPE_F16, CADFT_DTYPE_F32,
                                     CADFT_DTYPE_BF16};
#define ALL(want, name)                                                        \
    do {                                                                       \
        REFUSE(v, want, name, cadft_sample_ids_padded(3, 2, &t, 0, ids, e));   \
        REFUSE(v, want, name,                                                  \
               cadft_sample_ids_cu_seqlens(&t, ROWS, 0, ids, e));              \
        REFUSE(v, want, name,                                                  \
               cadft_sample_ids_position_ids(&t, 0, ids, NULL, e));            \
        cadft_tensor_init(&t, sizeof t, data, CADFT_DTYPE_I64, 1, shape, NULL, \
                          NULL);                                               \
    } while (0)
    for (int i = 0; i < 3; i++) {
        cadft_tensor_init(&t, sizeof t, data, floats[i], 1, shape, NULL, NULL);
        ALL(CADFT_E_DTYPE, "int64");
    }
    t.device_type = 2;
    ALL(CADFT_E_DEVICE, "device_type");
    t.byte_offset = 4;
    ALL(CADFT_E_ALIGN, "multiple of 8");
    t.strides = stride;
    ALL(CADFT_E_SHAPE, "dense");
    t.ndim = 0;
    ALL(CADFT_E_SHAPE, "ndim");
    t.struct_size = 1;
    ALL(CADFT_E_ARG, "struct_size");
    t.data = NULL;
    ALL(CADFT_E_NULL, "data");
#undef ALL
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile_samples");
    TCase *t = tcase_create("helpers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, tensor_init_arguments);
    tcase_add_test(t, padded_arguments);
    tcase_add_test(t, cu_seqlens_arguments);
    tcase_add_test(t, position_ids_arguments);
    tcase_add_test(t, helpers_check_their_tensor);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
