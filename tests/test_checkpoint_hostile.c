/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: every call refused in every way, with nothing changed; any
 * allocation may fail; a device that the host cannot reach. */
#define _GNU_SOURCE
#include <errno.h>

#include "checkpoint_world.h"

static cadft_context *context;
static support_heap heap;
static world w;
static char run[128]; /* scratch/run */

static void setup(void)
{
    cadft_allocator allocator;
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .allocator = &allocator};
    heap = (support_heap){0};
    allocator = support_allocator(&heap);
    err = support_error();
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    snprintf(run, sizeof run, "%s", in_scratch("run"));
    world_new(&w, context, 1);
}

static void teardown(void)
{
    cadft_context_destroy(context);
    world_close(&w);
    ck_assert_int_eq(heap.live_blocks, 0);
    files_teardown();
}

/* The call is refused with this status, and a sentence that has the part in
 * it; without an error struct too; and errno stays. */
#define REFUSED(expected, part, call)                                          \
    do {                                                                       \
        cadft_error *e = &err;                                                 \
        int64_t live_ = heap.live_blocks;                                      \
        err = support_error();                                                 \
        errno = 4711;                                                          \
        CHECK_SAYS((call), expected, part, err);                               \
        ck_assert_int_eq(err.code, expected);                                  \
        ck_assert_int_eq(errno, 4711);                                         \
        e = NULL;                                                              \
        ck_assert_int_eq((call), expected);                                    \
        ck_assert_int_eq(heap.live_blocks, live_);                             \
    } while (0)

static cadft_checkpoint good(void)
{
    cadft_checkpoint point = world_point(&w, "run", 3);
    point.folder = run;
    return point;
}

/* ---------------------------------------------------------------- arguments */

START_TEST(save_refused)
{
    cadft_checkpoint p = good();
    struct {
        cadft_checkpoint point;
        char tail[8];
    } large = {p, {1}};
    char long_name[300];
    REFUSED(CADFT_E_NULL, "context is NULL",
            cadft_checkpoint_save(NULL, &p, e));
    REFUSED(CADFT_E_NULL, "checkpoint is NULL",
            cadft_checkpoint_save(context, NULL, e));
    p.struct_size = 8;
    REFUSED(CADFT_E_ARG, "struct_size", cadft_checkpoint_save(context, &p, e));
    large.point.struct_size = sizeof large;
    REFUSED(CADFT_E_TOO_NEW, "checkpoint",
            cadft_checkpoint_save(context, &large.point, e));
    p = good();
    p.folder = NULL;
    REFUSED(CADFT_E_NULL, "checkpoint.folder is NULL",
            cadft_checkpoint_save(context, &p, e));
    p.folder = "";
    REFUSED(CADFT_E_ARG, "folder is \"\"",
            cadft_checkpoint_save(context, &p, e));
    p.folder = "/proc/self/no";
    REFUSED(CADFT_E_IO, "/proc/self/no: making the folder failed",
            cadft_checkpoint_save(context, &p, e));
    p.folder = in_scratch("no/run");
    REFUSED(CADFT_E_IO, "no such file", cadft_checkpoint_save(context, &p, e));
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    p.folder = in_scratch(long_name);
    REFUSED(CADFT_E_IO, "name is too long",
            cadft_checkpoint_save(context, &p, e));
    p = good();
    p.step = -1;
    REFUSED(CADFT_E_ARG, "checkpoint.step is -1, expected at least 0",
            cadft_checkpoint_save(context, &p, e));
    p = good();
    p.keep = -1;
    REFUSED(CADFT_E_ARG, "checkpoint.keep is -1, expected at least 0",
            cadft_checkpoint_save(context, &p, e));
    p = good();
    p.host = NULL;
    REFUSED(CADFT_E_NULL, "checkpoint.host is NULL, expected 100 bytes",
            cadft_checkpoint_save(context, &p, e));
    ck_assert_int_eq(count_entries(scratch), 0);
}
END_TEST

START_TEST(find_refused)
{
    int64_t step = 5;
    REFUSED(CADFT_E_NULL, "context is NULL",
            cadft_checkpoint_find(NULL, run, -1, &step, e));
    ck_assert_int_eq(step, -1);
    REFUSED(CADFT_E_NULL, "folder is NULL",
            cadft_checkpoint_find(context, NULL, -1, &step, e));
    REFUSED(CADFT_E_NULL, "step is NULL",
            cadft_checkpoint_find(context, run, -1, NULL, e));
    REFUSED(CADFT_E_ARG, "before is -2",
            cadft_checkpoint_find(context, run, -2, &step, e));
    REFUSED(CADFT_E_ARG, "folder is \"\"",
            cadft_checkpoint_find(context, "", -1, &step, e));
    put_text("file", "");
    REFUSED(CADFT_E_IO, "file is not a folder",
            cadft_checkpoint_find(context, in_scratch("file"), -1, &step, e));
    REFUSED(CADFT_E_IO, "not a folder",
            cadft_checkpoint_find(context, in_scratch("file/x"), -1, &step, e));
    ck_assert_int_eq(step, -1);
}
END_TEST

START_TEST(load_refused)
{
    cadft_checkpoint p = good();
    char host[WORLD_HOST];
    size_t bytes = 5;
    CHECK_OK(cadft_checkpoint_save(context, &p, &err), err);
    p.model = NULL; /* w.model has weights */
    memset(host, 7, sizeof host);
    REFUSED(CADFT_E_NULL, "context is NULL",
            cadft_checkpoint_load(NULL, &p, host, WORLD_HOST, &bytes, e));
    ck_assert_uint_eq(bytes, 0);
    REFUSED(CADFT_E_NULL, "checkpoint is NULL",
            cadft_checkpoint_load(context, NULL, host, WORLD_HOST, NULL, e));
    p.folder = NULL;
    REFUSED(CADFT_E_NULL, "checkpoint.folder is NULL",
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, e));
    p.folder = run;
    p.step = -1;
    REFUSED(CADFT_E_ARG, "checkpoint.step is -1",
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, e));
    p.step = 4;
    REFUSED(CADFT_E_IO, "step-00000004: opening the folder failed",
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, e));
    p.step = 3;
    REFUSED(CADFT_E_NULL, "host is NULL, expected 5 bytes",
            cadft_checkpoint_load(context, &p, NULL, 5, NULL, e));
    REFUSED(
        CADFT_E_SPACE, "capacity is 99 bytes, expected 100",
        cadft_checkpoint_load(context, &p, host, WORLD_HOST - 1, &bytes, e));
    ck_assert_uint_eq(bytes, WORLD_HOST);
    for (int i = 0; i < WORLD_HOST; i++)
        ck_assert_int_eq(host[i], 7);
    bytes = 0;
    CHECK_OK(cadft_checkpoint_load(context, &p, NULL, 0, &bytes, &err), err);
    ck_assert_uint_eq(bytes, WORLD_HOST);
    check_is(&w, "run", 3);
}
END_TEST

/* --------------------------------------------------------- handles, phases */

START_TEST(handles_of_another_context)
{
    cadft_context *elsewhere = support_context(NULL, 1);
    cadft_checkpoint p;
    world other;
    world_new(&other, elsewhere, 2);
    CHECK_OK(world_save(&w, "run", 3, 0), err);
    for (int i = 0; i < 4; i++) {
        static const char *const says[] = {
            "checkpoint.model belongs to another context",
            "checkpoint.optimizer belongs", "checkpoint.loss belongs",
            "checkpoint.rewrite belongs"};
        p = good();
        p.model = i == 0 ? other.model : NULL;
        p.optimizer = i == 1 ? other.optimizer : w.optimizer;
        p.loss = i == 2 ? other.loss : w.loss;
        p.rewrite = i == 3 ? other.rewrite : w.rewrite;
        REFUSED(CADFT_E_ARG, says[i], cadft_checkpoint_save(context, &p, e));
        REFUSED(CADFT_E_ARG, says[i],
                cadft_checkpoint_load(context, &p, NULL, 0, NULL, e));
    }
    check_is(&w, "run", 3);
    ck_assert_int_eq(count_entries(run), 1);
    /* what one context saved another loads */
    world_close(&other);
    world_open(&other, elsewhere);
    world_load(&other, "run", 3);
    check_is(&other, "run", 3);
    world_close(&other);
    cadft_context_destroy(elsewhere);
}
END_TEST

START_TEST(phases)
{
    cadft_checkpoint p = good();
    world empty;
    world_open(&empty, context);
    p.model = empty.model;
    REFUSED(CADFT_E_PHASE, "the model has no weights",
            cadft_checkpoint_save(context, &p, e));
    p = good();
    p.optimizer = empty.optimizer;
    REFUSED(CADFT_E_PHASE, "", cadft_checkpoint_save(context, &p, e));
    p = good();
    CHECK_OK(cadft_loss_begin(w.loss, 2, &err), err);
    REFUSED(CADFT_E_PHASE, "loss: state is saved and loaded between steps",
            cadft_checkpoint_save(context, &p, e));
    ck_assert_int_eq(count_entries(scratch), 0);
    cadft_loss_cancel(w.loss);
    CHECK_OK(cadft_checkpoint_save(context, &p, &err), err);
    REFUSED(CADFT_E_PHASE, "the model has weights",
            cadft_checkpoint_load(context, &p, NULL, 0, NULL, e));
    p.model = NULL;
    CHECK_OK(cadft_loss_begin(w.loss, 2, &err), err);
    REFUSED(CADFT_E_PHASE,
            "loss: ", cadft_checkpoint_load(context, &p, NULL, 0, NULL, e));
    cadft_loss_cancel(w.loss);
    check_is(&w, "run", 3);
    p = good();
    p.model = NULL;
    p.optimizer = empty.optimizer;
    REFUSED(CADFT_E_PHASE, "",
            cadft_checkpoint_load(context, &p, NULL, 0, NULL, e));
    world_close(&empty);
}
END_TEST

static int32_t save_inside(
    void *user, int64_t prompt, int64_t position, int32_t token, double logprob)
{
    cadft_checkpoint p = good();
    (void)user, (void)prompt, (void)position, (void)token, (void)logprob;
    REFUSED(CADFT_E_BUSY, "model is inside another call",
            cadft_checkpoint_save(context, &p, e));
    REFUSED(CADFT_E_BUSY, "model is inside another call",
            cadft_checkpoint_load(context, &p, NULL, 0, NULL, e));
    p.model = NULL; /* of the others nothing stands against it */
    ck_assert_int_eq(cadft_checkpoint_save(context, &p, NULL), CADFT_OK);
    return 0;
}

START_TEST(a_model_inside_a_call)
{
    int32_t token = 3, drawn[1];
    int64_t length, shape[1] = {1};
    cadft_tensor prompt;
    cadft_generate_desc desc = {.struct_size = sizeof desc,
                                .tokens = &prompt,
                                .max_new_tokens = 1,
                                .on_token = save_inside};
    cadft_tensor_init(&prompt, sizeof prompt, &token, CADFT_DTYPE_I32, 1, shape,
                      NULL, NULL);
    CHECK_OK(cadft_model_generate(w.model, &desc, drawn, &length, &err), err);
    ck_assert_int_eq(length, 1);
    ck_assert_int_eq(count_entries(in_scratch("run/step-00000003")), 5);
    CHECK_OK(world_save(&w, "run", 3, 0), err); /* over it, with the model */
    check_is(&w, "run", 3);
}
END_TEST

/* What was loaded before the part that is refused is put back. */
START_TEST(the_last_part_is_refused)
{
    cadft_checkpoint p = good();
    char host[WORLD_HOST];
    world other, odd;
    CHECK_OK(cadft_checkpoint_save(context, &p, &err), err);
    world_new(&other, context, 2);
    CHECK_OK(world_save(&other, "is", 3, 0), err);
    world_open(&odd, context);
    CHECK_OK(cadft_optimizer_set_i64(odd.optimizer, CADFT_OPTIMIZER_KIND,
                                     CADFT_KIND_SGD, &err),
             err);
    CHECK_OK(cadft_optimizer_add_model(odd.optimizer, other.model, NULL, &err),
             err);
    p.model = odd.model;
    p.loss = other.loss;
    p.rewrite = other.rewrite;
    p.optimizer = odd.optimizer;
    memset(host, 7, sizeof host);
    REFUSED(CADFT_E_FORMAT, "optimizer.safetensors",
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, e));
    ck_assert_int_eq(host[0] == 7 && host[WORLD_HOST - 1] == 7, 1);
    check_is(&other, "is", 3);
    world_init_model(odd.model ? &odd : NULL, 4); /* it has no weights still */
    /* a tracker of another data set, behind the loss */
    cadft_rewrite_destroy(odd.rewrite);
    CHECK_OK(
        cadft_rewrite_create(context, WORLD_SAMPLES + 1, &odd.rewrite, &err),
        err);
    p = good();
    p.model = NULL;
    p.loss = other.loss;
    p.rewrite = odd.rewrite;
    p.optimizer = other.optimizer;
    REFUSED(CADFT_E_STATE, "step-00000003/rewrite.state: ",
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, e));
    check_is(&other, "is", 3);
    world_close(&odd);
    world_close(&other);
}
END_TEST

/* --------------------------------------------------------------- allocation */

START_TEST(nth_allocation_of_save)
{
    cadft_checkpoint p;
    int64_t live = heap.live_blocks, n;
    put_text("file", "");
    for (n = 1;; n++) {
        int32_t status;
        p = good();
        p.keep = 1;
        heap.fail_at = n;
        status = cadft_checkpoint_save(context, &p, &err);
        heap.fail_at = 0;
        ck_assert_int_eq(heap.live_blocks, live);
        if (!status)
            break;
        CHECK_STATUS(status, CADFT_E_NOMEM, err);
        ck_assert_int_eq(count_entries(scratch), 1); /* not even the folder */
    }
    ck_assert_int_gt(n, 10);
    check_is(&w, "run", 3);
    /* over an earlier one, which is unharmed */
    world_step(&w);
    CHECK_OK(world_save(&w, "run", 4, 1), err);
    live = heap.live_blocks;
    for (n = 1;; n++) {
        int32_t status;
        p = good();
        p.step = 4;
        heap.fail_at = n;
        status = cadft_checkpoint_save(context, &p, &err);
        heap.fail_at = 0;
        ck_assert_int_eq(heap.live_blocks, live);
        ck_assert_int_eq(count_entries(run), 1);
        check_is(&w, "run", 4);
        if (!status)
            break;
        CHECK_STATUS(status, CADFT_E_NOMEM, err);
    }
    ck_assert_int_gt(n, 10);
}
END_TEST

START_TEST(nth_allocation_of_load)
{
    world other;
    int64_t n, live;
    char host[WORLD_HOST];
    int32_t status = CADFT_E_NOMEM;
    CHECK_OK(world_save(&w, "run", 3, 0), err);
    world_new(&other, context, 2);
    CHECK_OK(world_save(&other, "is", 3, 0), err);
    live = heap.live_blocks;
    for (n = 1; status; n++) {
        cadft_checkpoint p = world_point(&other, "run", 3);
        p.model = NULL;
        heap.fail_at = n;
        status =
            cadft_checkpoint_load(context, &p, host, WORLD_HOST, NULL, &err);
        heap.fail_at = 0;
        ck_assert_int_eq(heap.live_blocks, live);
        if (status) {
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
            check_is(&other, "is", 3);
        }
    }
    ck_assert_int_gt(n, 10);
    world_close(&other);
    world_open(&other, context);
    status = CADFT_E_NOMEM;
    for (n = 1; status; n++) {
        cadft_checkpoint p = {.struct_size = sizeof p,
                              .folder = run,
                              .step = 3,
                              .model = other.model};
        live = heap.live_blocks;
        heap.fail_at = n;
        status = cadft_checkpoint_load(context, &p, NULL, 0, NULL, &err);
        heap.fail_at = 0;
        if (status) {
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
            ck_assert_int_eq(heap.live_blocks, live);
        }
    }
    ck_assert_int_gt(n, 10);
    world_close(&other);
}
END_TEST

/* ------------------------------------------------------------------- device */

/* Memory that the host cannot reach, and copies out of it that fail. */
START_TEST(a_device)
{
    static const char *const options[] = {NULL, "fail-copy-out"};
    for (int i = 0; i < 2; i++) {
        cadft_context_desc desc = {.struct_size = sizeof desc,
                                   .backend = DEVICE_BACKEND_PATH,
                                   .backend_options = options[i]};
        cadft_context *far;
        cadft_model *model;
        cadft_checkpoint p = {.struct_size = sizeof p, .folder = run};
        model_text text = text_of("Qwen3");
        const char *json = text_json(&text);
        CHECK_OK(cadft_context_create(&desc, &far, &err), err);
        CHECK_OK(cadft_model_create(far, &model, &err), err);
        CHECK_OK(cadft_model_init(model, json, strlen(json), 1, &err), err);
        p.model = model;
        p.step = i;
        if (i == 0) {
            CHECK_OK(cadft_checkpoint_save(far, &p, &err), err);
        } else {
            CHECK_SAYS(cadft_checkpoint_save(far, &p, &err), CADFT_E_BACKEND,
                       "device: ", err);
            ck_assert_int_eq(count_entries(run), 1);
        }
        cadft_model_destroy(model);
        cadft_context_destroy(far);
    }
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("checkpoint_hostile");
    TCase *t = tcase_create("hostile");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, save_refused);
    tcase_add_test(t, find_refused);
    tcase_add_test(t, load_refused);
    tcase_add_test(t, handles_of_another_context);
    tcase_add_test(t, phases);
    tcase_add_test(t, a_model_inside_a_call);
    tcase_add_test(t, the_last_part_is_refused);
    tcase_add_test(t, nth_allocation_of_save);
    tcase_add_test(t, nth_allocation_of_load);
    tcase_add_test(t, a_device);
    suite_add_tcase(suite, t);
    return support_main(argc, argv, suite);
}
