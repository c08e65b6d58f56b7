/* SPDX-License-Identifier: Apache-2.0 */
/* The context: descriptions, the log, callbacks' destroy, getters, the last
 * error, unknown backends; version and status strings. */
#include <math.h>
#include <string.h>

#include "support.h"

static cadft_error err;

/* ---------------------------------------------------- bundles that count */

struct sink {
    int lines, destroyed, wrong;
    int32_t level;
    char last[600];
};

static void
sink_write(void *user, int32_t level, const char *text, size_t length)
{
    struct sink *sink = (struct sink *)user;
    sink->lines++;
    sink->level = level;
    sink->wrong += strlen(text) != length || length >= sizeof sink->last ||
                   strchr(text, '\n') != NULL;
    memcpy(sink->last, text, length < sizeof sink->last ? length + 1 : 0);
}

static void sink_destroy(void *user)
{
    ((struct sink *)user)->destroyed++;
}

static int32_t in_order(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    (void)user;
    for (int64_t i = 0; i < n; i++)
        fn(task, i, 0);
    return 0;
}

static void parallel_destroy(void *user)
{
    ++*(int *)user;
}

static struct host {
    support_heap heap;
    struct sink sink;
    int parallel_destroyed;
    cadft_allocator allocator;
    cadft_log log;
    cadft_parallel parallel;
    cadft_context_desc desc;
} h;

static void setup(void)
{
    memset(&h, 0, sizeof h);
    err = support_error();
    h.allocator = support_allocator(&h.heap);
    h.log = (cadft_log){.struct_size = sizeof h.log,
                        .max_level = CADFT_LOG_INFO,
                        .user = &h.sink,
                        .write = sink_write,
                        .destroy = sink_destroy};
    h.parallel = (cadft_parallel){.struct_size = sizeof h.parallel,
                                  .max_workers = 2,
                                  .user = &h.parallel_destroyed,
                                  .parallel_for = in_order,
                                  .destroy = parallel_destroy};
    h.desc = (cadft_context_desc){.struct_size = sizeof h.desc,
                                  .allocator = &h.allocator,
                                  .log = &h.log,
                                  .parallel = &h.parallel};
}

static void check_destroyed(int allocator, int log, int parallel)
{
    ck_assert_int_eq(h.heap.destroyed, allocator);
    ck_assert_int_eq(h.sink.destroyed, log);
    ck_assert_int_eq(h.parallel_destroyed, parallel);
    ck_assert_int_eq(h.heap.live_blocks, 0);
    ck_assert_int_eq(h.sink.wrong, 0);
}

static cadft_context *create(void)
{
    cadft_context *context = NULL;
    CHECK_OK(cadft_context_create(&h.desc, &context, &err), err);
    return context;
}

/* create fails, says so, and has destroyed what it could read. */
static void refuse(int32_t want, const char *name)
{
    cadft_context *context = (cadft_context *)&h;
    CHECK_STATUS(cadft_context_create(&h.desc, &context, &err), want, err);
    ck_assert_ptr_null(context);
    ck_assert_msg(strstr(err.message, name), "\"%s\" does not name %s",
                  err.message, name);
}

/* ---------------------------------------------------------- descriptions */

START_TEST(defaults)
{
    cadft_context *context = NULL;
    cadft_context_desc empty = {.struct_size = sizeof empty};
    int64_t workers = 0;
    CHECK_OK(cadft_context_create(NULL, &context, &err), err);
    CHECK_OK(
        cadft_context_get_i64(context, CADFT_CONTEXT_WORKERS, &workers, &err),
        err);
    ck_assert_int_ge(workers, 1);
    cadft_context_destroy(context);
    CHECK_OK(cadft_context_create(&empty, &context, NULL), err);
    cadft_context_destroy(context);
}
END_TEST

START_TEST(everything_given)
{
    cadft_context *context = create();
    int64_t workers;
    h.desc.allocator = NULL; /* the description was copied */
    memset(&h.log, 0, sizeof h.log);
    memset(&h.parallel, 0, sizeof h.parallel);
    CHECK_OK(
        cadft_context_get_i64(context, CADFT_CONTEXT_WORKERS, &workers, &err),
        err);
    ck_assert_int_eq(workers, 2);
    ck_assert_int_eq(h.sink.destroyed, 0);
    cadft_context_destroy(context);
    check_destroyed(1, 1, 1);
}
END_TEST

START_TEST(destroy_is_optional)
{
    h.allocator.destroy = NULL;
    h.log.destroy = NULL;
    h.parallel.destroy = NULL;
    cadft_context_destroy(create());
    check_destroyed(0, 0, 0);
}
END_TEST

/* Whole bundles in a description with a bad value: all three are destroyed,
 * exactly once. */
START_TEST(values_that_are_refused)
{
#define VALUE(want, name, change)                                              \
    do {                                                                       \
        setup();                                                               \
        change;                                                                \
        refuse(want, name);                                                    \
        check_destroyed(1, 1, 1);                                              \
    } while (0)
    VALUE(CADFT_E_ARG, "n_threads", h.desc.n_threads = -1);
    VALUE(CADFT_E_ARG, "n_threads", h.desc.n_threads = 1);
    VALUE(CADFT_E_ARG, "n_threads", h.desc.n_threads = INT32_MAX);
    VALUE(CADFT_E_ARG, "n_threads", h.desc.n_threads = INT32_MIN);
    VALUE(CADFT_E_ARG, "max_workers", h.parallel.max_workers = 0);
    VALUE(CADFT_E_ARG, "max_workers", h.parallel.max_workers = -3);
    VALUE(CADFT_E_NULL, "parallel_for", h.parallel.parallel_for = NULL);
    VALUE(CADFT_E_NULL, "write", h.log.write = NULL);
    VALUE(CADFT_E_NULL, "alloc", h.allocator.alloc = NULL);
    VALUE(CADFT_E_NULL, "free", h.allocator.free = NULL);
    VALUE(CADFT_E_BACKEND, "gpu", h.desc.backend = "gpu");
    VALUE(CADFT_E_BACKEND, "backend", h.desc.backend = "");
    VALUE(CADFT_E_BACKEND, "CPU", h.desc.backend = "CPU");
    VALUE(CADFT_E_BACKEND, "/nowhere/x.so", h.desc.backend = "/nowhere/x.so");
    VALUE(CADFT_E_BACKEND, "mmx", h.desc.backend_options = "mmx");
    VALUE(CADFT_E_BACKEND, "instruction set", h.desc.backend_options = "");
    VALUE(CADFT_E_BACKEND, "mmx", h.desc.backend_options = "matmul=own,mmx");
    VALUE(CADFT_E_BACKEND, "matmul=", h.desc.backend_options = "c,matmul=");
    VALUE(CADFT_E_BACKEND, "/nowhere/blas.so",
          h.desc.backend_options = "matmul=/nowhere/blas.so");
    VALUE(CADFT_E_BACKEND, "cblas_sgemm",
          h.desc.backend_options = "matmul=libm.so.6,auto");
    VALUE(CADFT_E_TOO_NEW, "allocator", h.allocator.reserved = 1);
    VALUE(CADFT_E_NOMEM, "memory", h.heap.fail_at = 1);
#undef VALUE
}
END_TEST

/* A bundle that cannot be read does not keep the others from being
 * destroyed. */
START_TEST(bundles_that_cannot_be_read)
{
    static const uint32_t sizes[] = {0, 1, 4097, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        setup();
        h.allocator.struct_size = sizes[i];
        refuse(CADFT_E_ARG, "allocator.struct_size");
        check_destroyed(0, 1, 1);
        setup();
        h.log.struct_size = sizes[i];
        refuse(CADFT_E_ARG, "log.struct_size");
        check_destroyed(1, 0, 1);
        setup();
        h.parallel.struct_size = sizes[i];
        refuse(CADFT_E_ARG, "parallel.struct_size");
        check_destroyed(1, 1, 0);
        setup();
        h.desc.struct_size = sizes[i];
        refuse(CADFT_E_ARG, "desc.struct_size");
        check_destroyed(0, 0, 0); /* nobody knows where they are */
    }
}
END_TEST

START_TEST(description_from_the_future)
{
    struct {
        cadft_context_desc d;
        unsigned char tail[32];
    } desc = {.d = h.desc};
    cadft_context *context;
    desc.d.struct_size = sizeof desc;
    CHECK_OK(cadft_context_create(&desc.d, &context, &err), err);
    cadft_context_destroy(context);
    check_destroyed(1, 1, 1);
    desc.tail[31] = 1;
    CHECK_STATUS(cadft_context_create(&desc.d, &context, &err), CADFT_E_TOO_NEW,
                 err);
    ck_assert_ptr_null(context);
}
END_TEST

START_TEST(no_place_for_the_handle_or_the_error)
{
    cadft_context *context = (cadft_context *)&h;
    cadft_error stunted, before;
    CHECK_STATUS(cadft_context_create(&h.desc, NULL, &err), CADFT_E_NULL, err);
    check_destroyed(1, 1, 1);
    setup();
    memset(&stunted, 0x11, sizeof stunted);
    stunted.struct_size = 12;
    before = stunted;
    ck_assert_int_eq(cadft_context_create(&h.desc, &context, &stunted),
                     CADFT_E_ARG);
    ck_assert_ptr_null(context);
    ck_assert_mem_eq(&stunted, &before, sizeof stunted);
    check_destroyed(1, 1, 1);
}
END_TEST

/* A loss keeps its context: bundles live until both are gone. */
START_TEST(children_keep_the_context)
{
    cadft_context *context = create();
    cadft_loss *loss[2];
    CHECK_OK(cadft_loss_create(context, &loss[0], &err), err);
    CHECK_OK(cadft_loss_create(context, &loss[1], &err), err);
    cadft_context_destroy(context);
    ck_assert_int_eq(h.sink.destroyed, 0);
    cadft_loss_destroy(loss[1]);
    CHECK_OK(cadft_loss_begin(loss[0], 3, &err), err);
    ck_assert_int_eq(h.sink.destroyed, 0);
    cadft_loss_destroy(loss[0]);
    check_destroyed(1, 1, 1);
}
END_TEST

/* ---------------------------------------------------------------- the log */

START_TEST(log_levels)
{
    for (int32_t level = -1; level <= 3; level++) {
        setup();
        h.log.max_level = level;
        cadft_context_destroy(create());
        ck_assert_int_eq(h.sink.lines > 0, level >= CADFT_LOG_INFO);
        ck_assert_int_eq(h.sink.wrong, 0);
    }
    ck_assert_int_eq(h.sink.level, CADFT_LOG_INFO);
    ck_assert_ptr_nonnull(strstr(h.sink.last, "cpu"));
}
END_TEST

/* A step that leaves samples out warns; others say nothing. */
START_TEST(log_warnings)
{
    support_batch *b = support_batch_new(4, 5, CADFT_DTYPE_F32, 2, 1);
    cadft_context *context;
    cadft_loss *loss;
    h.log.max_level = CADFT_LOG_WARNING;
    context = create();
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    CHECK_OK(cadft_loss_compute(loss, &b->batch, 2, NULL, NULL, NULL, &err),
             err);
    ck_assert_int_eq(h.sink.lines, 0);
    CHECK_OK(cadft_loss_set_str(loss, CADFT_LOSS_NONFINITE, "skip", &err), err);
    ((float *)b->z)[0] = INFINITY;
    CHECK_OK(cadft_loss_compute(loss, &b->batch, 2, NULL, NULL, NULL, &err),
             err);
    ck_assert_int_eq(h.sink.lines, 1);
    ck_assert_int_eq(h.sink.level, CADFT_LOG_WARNING);
    ck_assert_ptr_nonnull(strstr(h.sink.last, "1 non-finite"));
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
    check_destroyed(1, 1, 1);
    support_batch_free(b);
}
END_TEST

/* --------------------------------------------------------------- getters */

START_TEST(texts_and_their_space)
{
    cadft_context *context = create();
    char text[16];
    size_t needed;
    memset(text, 'x', sizeof text);
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_BACKEND, NULL, 0,
                                   &needed, &err),
             err);
    ck_assert_uint_eq(needed, sizeof "cpu");
    CHECK_STATUS(cadft_context_get_str(context, CADFT_CONTEXT_BACKEND, text,
                                       needed - 1, &needed, &err),
                 CADFT_E_SPACE, err);
    ck_assert_int_eq(text[0], 'x');
    ck_assert_uint_eq(needed, sizeof "cpu");
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_BACKEND, text, needed,
                                   NULL, &err),
             err);
    ck_assert_str_eq(text, "cpu");
    ck_assert_int_eq(text[needed], 'x');
    CHECK_STATUS(cadft_context_get_str(context, CADFT_CONTEXT_BACKEND, text, 0,
                                       NULL, &err),
                 CADFT_E_SPACE, err);
    cadft_context_destroy(context);
}
END_TEST

START_TEST(instruction_sets)
{
    static const char *const names[] = {"c", "avx2", "avx512", "neon"};
    char text[16];
    int found = 0;
    for (int i = 0; i < 4; i++) {
        cadft_context_desc desc = {.struct_size = sizeof desc,
                                   .n_threads = 1,
                                   .backend = "cpu",
                                   .backend_options = names[i]};
        cadft_context *context;
        if (cadft_context_create(&desc, &context, &err)) {
            CHECK_STATUS(err.code, CADFT_E_BACKEND, err);
            ck_assert_ptr_nonnull(strstr(err.message, names[i]));
            continue;
        }
        found++;
        CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_DEVICE, text,
                                       sizeof text, NULL, &err),
                 err);
        ck_assert_str_eq(text, names[i]);
        cadft_context_destroy(context);
    }
    ck_assert_int_ge(found, 1);
    h.desc.backend_options = "auto";
    cadft_context_destroy(create());
}
END_TEST

START_TEST(last_error)
{
    cadft_context *context = create();
    char text[256] = "x";
    cadft_loss *loss;
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_LAST_ERROR, text,
                                   sizeof text, NULL, &err),
             err);
    ck_assert_str_eq(text, "");
    CHECK_OK(cadft_loss_create(context, &loss, &err), err);
    ck_assert_int_eq(cadft_loss_weigh(loss, NULL), CADFT_E_PHASE);
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_LAST_ERROR, text,
                                   sizeof text, NULL, &err),
             err);
    ck_assert_ptr_nonnull(strstr(text, "weigh"));
    CHECK_STATUS(cadft_loss_set_f64(loss, CADFT_LOSS_BETA, -1, &err),
                 CADFT_E_ARG, err);
    CHECK_OK(cadft_loss_begin(loss, 1, NULL), err); /* does not clear it */
    CHECK_OK(cadft_context_get_str(context, CADFT_CONTEXT_LAST_ERROR, text,
                                   sizeof text, NULL, &err),
             err);
    ck_assert_ptr_nonnull(strstr(text, "beta"));
    cadft_loss_destroy(loss);
    cadft_context_destroy(context);
}
END_TEST

START_TEST(error_struct_of_the_future)
{
    struct {
        cadft_error e;
        unsigned char tail[16];
    } big;
    int64_t value;
    memset(&big, 0x22, sizeof big);
    big.e.struct_size = sizeof big;
    ck_assert_int_eq(cadft_context_get_i64(NULL, 1, &value, &big.e),
                     CADFT_E_NULL);
    ck_assert_int_eq(big.e.code, CADFT_E_NULL);
    ck_assert_uint_eq(big.e.struct_size, sizeof big);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(big.tail[i], 0x22);
}
END_TEST

/* --------------------------------------------------- versions and strings */

START_TEST(version_and_status)
{
    static const int32_t unknown[] = {1,     -1,        -9,       -20,
                                      -1000, INT32_MIN, INT32_MAX};
    ck_assert_uint_eq(cadft_version(), CADFT_VERSION_MAJOR * 1000000u +
                                           CADFT_VERSION_MINOR * 1000u +
                                           CADFT_VERSION_PATCH);
    ck_assert_str_eq(cadft_status_string(CADFT_OK), "CADFT_OK");
    ck_assert_str_eq(cadft_status_string(-50), "CADFT_E_LABEL");
    ck_assert_str_eq(cadft_status_string(-73), "CADFT_E_CALLBACK");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        ck_assert_str_eq(cadft_status_string(unknown[i]), "unknown status");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("context");
    TCase *t = tcase_create("context");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, defaults);
    tcase_add_test(t, everything_given);
    tcase_add_test(t, destroy_is_optional);
    tcase_add_test(t, values_that_are_refused);
    tcase_add_test(t, bundles_that_cannot_be_read);
    tcase_add_test(t, description_from_the_future);
    tcase_add_test(t, no_place_for_the_handle_or_the_error);
    tcase_add_test(t, children_keep_the_context);
    tcase_add_test(t, log_levels);
    tcase_add_test(t, log_warnings);
    tcase_add_test(t, texts_and_their_space);
    tcase_add_test(t, instruction_sets);
    tcase_add_test(t, last_error);
    tcase_add_test(t, error_struct_of_the_future);
    tcase_add_test(t, version_and_status);
    suite_add_tcase(s, t);
    return s;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
