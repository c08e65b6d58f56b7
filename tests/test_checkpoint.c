/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: saved, found, loaded, pruned; the files of others; damage. */
#define _GNU_SOURCE
#include "checkpoint_world.h"

static cadft_context *context;
static world w;

static void setup(void)
{
    context = support_context(NULL, 2);
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    world_new(&w, context, 1);
}

static void teardown(void)
{
    world_close(&w);
    cadft_context_destroy(context);
    files_teardown();
}

static void check_gone(const char *name)
{
    ck_assert_msg(access(in_scratch(name), F_OK) == -1, "%s is there", name);
}

static void check_text(const char *name, const char *text)
{
    size_t bytes;
    char *is = get_file(name, &bytes);
    ck_assert_msg(is && strcmp(is, text) == 0, "%s is \"%s\"", name,
                  is ? is : "not there");
    free(is);
}

/* No part of run's checkpoint: what its manifest says. */
static int32_t load_nothing(int64_t step)
{
    char run[128];
    cadft_checkpoint point = {
        .struct_size = sizeof point, .folder = run, .step = step};
    snprintf(run, sizeof run, "%s", in_scratch("run"));
    return cadft_checkpoint_load(context, &point, NULL, 0, NULL, &err);
}

/* ------------------------------------------------------------ save and load */

START_TEST(all_parts_come_back)
{
    world other;
    CHECK_OK(world_save(&w, "run", 42, 0), err);
    ck_assert_int_eq(count_entries(in_scratch("run")), 1);
    ck_assert_int_eq(count_entries(in_scratch("run/step-00000042")),
                     WORLD_FILES);
    world_open(&other, context);
    world_load(&other, "run", 42);
    ck_assert_int_eq(memcmp(other.host, w.host, WORLD_HOST), 0);
    check_is(&other, "run", 42);
    /* and both go on alike */
    support_seed(8);
    world_step(&w);
    support_seed(8);
    world_step(&other);
    CHECK_OK(world_save(&w, "run", 43, 0), err);
    check_is(&other, "run", 43);
    world_close(&other);
}
END_TEST

START_TEST(each_part_alone)
{
    cadft_checkpoint all = world_point(&w, "run", 1), one = all;
    char host[WORLD_HOST];
    size_t bytes = 5;
    for (int i = 0; i < 5; i++) {
        one.model = i == 0 ? w.model : NULL;
        one.optimizer = i == 1 ? w.optimizer : NULL;
        one.loss = i == 2 ? w.loss : NULL;
        one.rewrite = i == 3 ? w.rewrite : NULL;
        one.host = i == 4 ? w.host : NULL;
        one.host_bytes = i == 4 ? WORLD_HOST : 0;
        one.step = i;
        CHECK_OK(cadft_checkpoint_save(context, &one, &err), err);
        if (i > 0)
            CHECK_OK(cadft_checkpoint_load(context, &one, i == 4 ? host : NULL,
                                           i == 4 ? sizeof host : 0, &bytes,
                                           &err),
                     err);
        if (i > 0)
            ck_assert_uint_eq(bytes, i == 4 ? WORLD_HOST : 0);
    }
    ck_assert_int_eq(memcmp(host, w.host, WORLD_HOST), 0);
    ck_assert_int_eq(count_entries(in_scratch("run/step-00000000")), 3);
    ck_assert_int_eq(count_entries(in_scratch("run/step-00000004")), 2);
    /* no part at all; the host's without bytes is none */
    one = (cadft_checkpoint){
        .struct_size = sizeof one, .folder = all.folder, .step = 5};
    CHECK_OK(cadft_checkpoint_save(context, &one, &err), err);
    CHECK_OK(cadft_checkpoint_load(context, &one, NULL, 0, &bytes, &err), err);
    ck_assert_uint_eq(bytes, 0);
    one.host = host;
    CHECK_OK(cadft_checkpoint_save(context, &one, &err), err);
    CHECK_OK(cadft_checkpoint_load(context, &one, NULL, 0, &bytes, &err), err);
    ck_assert_uint_eq(bytes, 0);
    CHECK_OK(cadft_checkpoint_load(context, &one, host, 0, NULL, &err), err);
    CHECK_SAYS(cadft_checkpoint_load(context, &one, host, 1, NULL, &err),
               CADFT_E_FORMAT, "has no part \"host\"", err);
    CHECK_OK(world_save(&w, "run", 6, 0), err);
    check_is(&w, "run", 6);
}
END_TEST

static void missing(int part, const char *name)
{
    cadft_checkpoint point = world_point(&w, "run", 7);
    char host[WORLD_HOST], says[64];
    point.model = NULL;
    point.optimizer = part == 0 ? w.optimizer : NULL;
    point.loss = part == 1 ? w.loss : NULL;
    point.rewrite = part == 2 ? w.rewrite : NULL;
    snprintf(says, sizeof says, "has no part \"%s\"", name);
    CHECK_SAYS(cadft_checkpoint_load(context, &point, part == 3 ? host : NULL,
                                     part == 3 ? sizeof host : 0, NULL, &err),
               CADFT_E_FORMAT, says, err);
}

START_TEST(parts_that_are_missing)
{
    cadft_checkpoint point = world_point(&w, "run", 7);
    world other;
    point.optimizer = NULL;
    point.loss = NULL;
    point.rewrite = NULL;
    point.host = NULL;
    point.host_bytes = 0;
    CHECK_OK(cadft_checkpoint_save(context, &point, &err), err);
    missing(0, "optimizer");
    missing(1, "loss");
    missing(2, "rewrite");
    missing(3, "host");
    point.model = NULL;
    point.loss = w.loss;
    CHECK_OK(cadft_checkpoint_save(context, &point, &err), err);
    world_open(&other, context);
    point.loss = NULL;
    point.model = other.model;
    CHECK_SAYS(cadft_checkpoint_load(context, &point, NULL, 0, NULL, &err),
               CADFT_E_FORMAT, "step-00000007 has no part \"model\"", err);
    CHECK_OK(world_save(&w, "run", 8, 0), err);
    check_is(&w, "run", 8);
    world_close(&other);
}
END_TEST

/* A checkpoint is a model's folder; a model saved over it ends it. */
START_TEST(a_folder_of_a_model)
{
    cadft_model *model;
    char path[128];
    CHECK_OK(world_save(&w, "run", 3, 0), err);
    CHECK_OK(cadft_checkpoint_path(in_scratch("run"), 3, path, sizeof path,
                                   NULL, &err),
             err);
    CHECK_OK(cadft_model_create(context, &model, &err), err);
    CHECK_OK(cadft_model_load(model, path, &err), err);
    CHECK_OK(cadft_model_save(model, in_scratch("final"), &err), err);
    ck_assert_int_eq(count_entries(in_scratch("final")), 2);
    check_same_file("final", "run/step-00000003", "model.safetensors");
    CHECK_OK(cadft_model_save(model, path, &err), err);
    ck_assert_int_eq(world_find(context, "run", -1), 3);
    CHECK_SAYS(load_nothing(3), CADFT_E_FORMAT,
               "run/step-00000003 has no checkpoint.json", err);
    cadft_model_destroy(model);
}
END_TEST

/* --------------------------------------------------------------------- find */

START_TEST(finding)
{
    static const char *const strange[] = {"step-1",
                                          "step-000000042",
                                          "step-0000042x",
                                          "step--0000001",
                                          "step-",
                                          "Step-00000099",
                                          "step-99999999999999999999",
                                          ".step-00000050.saving-1-2"};
    static const int64_t steps[] = {0, 7, 99999999, 100000000, INT64_MAX};
    ck_assert_int_eq(world_find(context, "no/such", -1), -1);
    mkdir(in_scratch("run"), 0700);
    ck_assert_int_eq(world_find(context, "run", -1), -1);
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        char name[64];
        snprintf(name, sizeof name, "run/%s", strange[i]);
        mkdir(in_scratch(name), 0700);
    }
    put_text("run/step-00000098", "a file");
    ck_assert_int_eq(symlink("nowhere", in_scratch("run/step-00000097")), 0);
    ck_assert_int_eq(world_find(context, "run", -1), -1);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(world_save(&w, "run", steps[i], 0), err);
        ck_assert_int_eq(world_find(context, "run", -1), steps[i]);
        ck_assert_int_eq(world_find(context, "run", steps[i]),
                         i ? steps[i - 1] : -1);
        if (steps[i] < INT64_MAX)
            ck_assert_int_eq(world_find(context, "run", steps[i] + 1),
                             steps[i]);
    }
    ck_assert_int_eq(world_find(context, "run/", 0), -1);
    /* the leftover went, all else is there */
    ck_assert_int_eq(count_entries(in_scratch("run")), 7 + 2 + 5);
    check_text("run/step-00000098", "a file");
    CHECK_SAYS(world_save(&w, "run", 98, 0), CADFT_E_IO, "is a file", err);
    CHECK_SAYS(world_save(&w, "run", 97, 0), CADFT_E_IO, "is a link", err);
}
END_TEST

/* One that was moved and linked to is a checkpoint still, but not ours. */
START_TEST(links)
{
    world other;
    CHECK_OK(world_save(&w, "run", 5, 0), err);
    ck_assert_int_eq(
        rename(in_scratch("run/step-00000005"), in_scratch("moved")), 0);
    ck_assert_int_eq(symlink("../moved", in_scratch("run/step-00000005")), 0);
    ck_assert_int_eq(world_find(context, "run", -1), 5);
    world_open(&other, context);
    world_load(&other, "run", 5);
    world_close(&other);
    CHECK_OK(world_save(&w, "run", 6, 1), err);
    CHECK_OK(world_save(&w, "run", 7, 1), err);
    ck_assert_int_eq(world_find(context, "run", 7), 5);
    ck_assert_int_eq(count_entries(in_scratch("run")), 2);
    /* a place that is not there is no place without checkpoints */
    ck_assert_int_eq(symlink("unmounted", in_scratch("disk")), 0);
    ck_assert_int_eq(cadft_checkpoint_find(context, in_scratch("disk"), -1,
                                           &(int64_t){0}, &err),
                     CADFT_E_IO);
    CHECK_STATUS(world_save(&w, "disk", 1, 0), CADFT_E_IO, err);
}
END_TEST

START_TEST(paths)
{
    char path[64];
    size_t needed;
    CHECK_OK(cadft_checkpoint_path("a/b", 42, path, sizeof path, &needed, &err),
             err);
    ck_assert_str_eq(path, "a/b/step-00000042");
    ck_assert_uint_eq(needed, strlen(path) + 1);
    CHECK_OK(
        cadft_checkpoint_path("/", INT64_MAX, path, sizeof path, NULL, &err),
        err);
    ck_assert_str_eq(path, "/step-9223372036854775807");
    CHECK_OK(cadft_checkpoint_path("a", 0, NULL, 0, &needed, &err), err);
    CHECK_OK(cadft_checkpoint_path("a", 0, path, needed, NULL, &err), err);
    ck_assert_int_eq(
        cadft_checkpoint_path("a", 0, path, needed - 1, NULL, &err),
        CADFT_E_SPACE);
    ck_assert_int_eq(cadft_checkpoint_path("a", 0, NULL, 5, NULL, &err),
                     CADFT_E_NULL);
    ck_assert_int_eq(cadft_checkpoint_path(NULL, 0, path, 5, NULL, &err),
                     CADFT_E_NULL);
    ck_assert_int_eq(cadft_checkpoint_path("", 0, path, 5, NULL, &err),
                     CADFT_E_ARG);
    ck_assert_int_eq(cadft_checkpoint_path("a", -1, path, 5, NULL, NULL),
                     CADFT_E_ARG);
}
END_TEST

/* --------------------------------------------------------------------- keep */

START_TEST(keeping)
{
    for (int64_t step = 10; step < 15; step++)
        CHECK_OK(world_save(&w, "run", step, 2), err);
    ck_assert_int_eq(count_entries(in_scratch("run")), 2);
    ck_assert_int_eq(world_find(context, "run", 14), 13);
    /* an earlier one, of a run that went back: later ones stay */
    CHECK_OK(world_save(&w, "run", 11, 1), err);
    ck_assert_int_eq(count_entries(in_scratch("run")), 3);
    ck_assert_int_eq(world_find(context, "run", 12), 11);
    CHECK_OK(world_save(&w, "run", 12, 1), err);
    ck_assert_int_eq(count_entries(in_scratch("run")), 3);
    ck_assert_int_eq(world_find(context, "run", 12), -1);
    /* all of them, and exactly as many as there are */
    CHECK_OK(world_save(&w, "run", 15, 0), err);
    CHECK_OK(world_save(&w, "run", 16, 5), err);
    ck_assert_int_eq(count_entries(in_scratch("run")), 5);
    CHECK_OK(world_save(&w, "run", 16, 1), err); /* over itself */
    ck_assert_int_eq(count_entries(in_scratch("run")), 1);
    check_is(&w, "run", 16);
}
END_TEST

START_TEST(what_is_not_ours_stays)
{
    CHECK_OK(world_save(&w, "run", 1, 0), err);
    CHECK_OK(world_save(&w, "run", 2, 0), err);
    put_text("run/metrics.csv", "step,loss\n");
    mkdir(in_scratch("run/step-00000001/plots"), 0700);
    put_text("run/step-00000001/plots/a.svg", "<svg/>");
    put_text("run/step-00000002/notes", "good one");
    mkdir(in_scratch("run/.step-00000009.saving-7-0"), 0700);
    put_text("run/.step-00000009.saving-7-0/config.json", "half");
    mkdir(in_scratch("run/.other.saving-7-0"), 0700);
    CHECK_OK(world_save(&w, "run", 3, 1), err);
    check_text("run/metrics.csv", "step,loss\n");
    check_text("run/step-00000001/plots/a.svg", "<svg/>");
    ck_assert_int_eq(world_find(context, "run", 3), 1);
    check_gone("run/.step-00000009.saving-7-0");
    check_gone("run/step-00000002");
    ck_assert_int_eq(count_entries(in_scratch("run")), 4);
}
END_TEST

/* ------------------------------------------------------------- other files */

START_TEST(a_tokenizer_goes_along)
{
    world other;
    CHECK_OK(cadft_model_save(w.model, in_scratch("base"), &err), err);
    put_text("base/tokenizer.json", "tokens");
    put_text("base/old.bin", "weights");
    world_open(&other, context);
    CHECK_OK(cadft_model_load(other.model, in_scratch("base"), &err), err);
    CHECK_OK(
        cadft_optimizer_add_model(other.optimizer, other.model, NULL, &err),
        err);
    CHECK_OK(world_save(&other, "run", 1, 1), err);
    check_text("run/step-00000001/tokenizer.json", "tokens");
    check_gone("run/step-00000001/old.bin");
    ck_assert_int_eq(count_entries(in_scratch("run/step-00000001")),
                     WORLD_FILES + 1);
    /* replaced: notes stay too */
    put_text("run/step-00000001/notes", "dear diary");
    CHECK_OK(world_save(&other, "run", 1, 1), err);
    check_text("run/step-00000001/notes", "dear diary");
    check_text("run/step-00000001/tokenizer.json", "tokens");
    world_close(&other);
    /* gone on from a checkpoint, which then goes */
    world_open(&other, context);
    world_load(&other, "run", 1);
    CHECK_OK(world_save(&other, "run", 2, 1), err);
    check_gone("run/step-00000001");
    CHECK_OK(world_save(&other, "run", 3, 1), err);
    check_text("run/step-00000003/tokenizer.json", "tokens");
    CHECK_OK(cadft_model_save(other.model, in_scratch("final"), &err), err);
    check_text("final/tokenizer.json", "tokens");
    check_text("final/notes", "dear diary");
    ck_assert_int_eq(count_entries(in_scratch("final")), 4);
    world_close(&other);
    /* the folder that it came from is taken away by somebody */
    world_open(&other, context);
    CHECK_OK(cadft_model_load(other.model, in_scratch("base"), &err), err);
    CHECK_OK(
        cadft_optimizer_add_model(other.optimizer, other.model, NULL, &err),
        err);
    remove_tree(in_scratch("base"));
    CHECK_OK(world_save(&other, "run", 4, 1), err);
    check_text("run/step-00000004/tokenizer.json", "tokens");
    world_close(&other);
}
END_TEST

/* ------------------------------------------------------------------- damage */

static int32_t load_all(world *into)
{
    cadft_checkpoint point = world_point(into, "run", 9);
    char host[WORLD_HOST];
    int32_t status;
    memset(host, 7, sizeof host);
    err = support_error();
    status =
        cadft_checkpoint_load(context, &point, host, sizeof host, NULL, &err);
    for (int i = 0; status && i < WORLD_HOST; i++)
        ck_assert_int_eq(host[i], 7);
    return status;
}

/* A flipped bit in any file, a byte less, a byte more, no file. */
START_TEST(damaged_files)
{
    world other, empty;
    world_new(&other, context, 2);
    CHECK_OK(world_save(&w, "run", 9, 0), err);
    CHECK_OK(world_save(&other, "is", 9, 0), err);
    world_open(&empty, context);
    for (int f = 0; f < WORLD_FILES - 1; f++) {
        char name[64];
        size_t bytes;
        char *data;
        /* The model's are loaded into a model, the others into handles that
         * have a past, which they keep. */
        world *into = f < 2 ? &empty : &other;
        cadft_model *model = into->model;
        cadft_optimizer *optimizer = into->optimizer;
        if (f >= 2)
            into->model = NULL;
        else
            into->optimizer = NULL;
        snprintf(name, sizeof name, "run/step-00000009/%s", world_files[f]);
        data = get_file(name, &bytes);
        for (int i = 0; i < 23; i++) {
            size_t at = i == 0   ? 0
                        : i == 1 ? bytes - 1
                                 : (size_t)support_below((int64_t)bytes);
            size_t size = bytes + (i == 20) - (i == 21);
            data[at] ^= (char)(i < 20 ? 1 << i % 8 : 0);
            put_file(name, data, size);
            if (i == 22)
                unlink(in_scratch(name));
            ck_assert_msg(load_all(into) ==
                              (i == 22 ? CADFT_E_IO : CADFT_E_FORMAT),
                          "%s at %zu: %s", name, at, err.message);
            ck_assert_msg(strstr(err.message, world_files[f]) != NULL, "%s",
                          err.message);
            data[at] ^= (char)(i < 20 ? 1 << i % 8 : 0);
        }
        put_file(name, data, bytes);
        free(data);
        into->model = model;
        into->optimizer = optimizer;
    }
    check_is(&other, "is", 9);
    world_load(&empty, "run", 9);
    check_is(&empty, "run", 9);
    world_close(&other);
    world_close(&empty);
}
END_TEST

/* Any byte of checkpoint.json: refused, or of no meaning. */
START_TEST(damaged_manifest)
{
    static const char name[] = "run/step-00000009/checkpoint.json";
    cadft_model *model = w.model;
    size_t bytes;
    int refused = 0;
    char *data;
    CHECK_OK(world_save(&w, "run", 9, 0), err);
    data = get_file(name, &bytes);
    w.model = NULL; /* it has weights */
    for (size_t at = 0; at < bytes; at++) {
        char was = data[at];
        data[at] ^= 1;
        put_file(name, data, bytes);
        refused += load_all(&w) != CADFT_OK;
        ck_assert_msg(err.code == CADFT_OK || err.code == CADFT_E_FORMAT ||
                          err.code == CADFT_E_SPACE,
                      "%zu: %s", at, err.message);
        data[at] = was;
    }
    ck_assert_int_gt(refused, (int)bytes / 2);
    for (size_t size = 0; size < bytes - 2; size++) {
        put_file(name, data, size);
        ck_assert_int_eq(load_all(&w), CADFT_E_FORMAT);
        ck_assert_ptr_nonnull(strstr(err.message, "checkpoint.json"));
        ck_assert_int_eq(world_find(context, "run", -1), 9);
    }
    put_file(name, data, bytes);
    free(data);
    /* under another name */
    ck_assert_int_eq(rename(in_scratch("run/step-00000009"),
                            in_scratch("run/step-00000008")),
                     0);
    CHECK_SAYS(load_nothing(8), CADFT_E_FORMAT, "step is 9, expected 8", err);
    w.model = model;
}
END_TEST

static void put_manifest(const char *text)
{
    put_text("run/step-00000009/checkpoint.json", text);
}

START_TEST(other_manifests)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"format\": 2, \"step\": 9, \"parts\": {}}", "format is 2"},
        {"{\"step\": 9, \"parts\": {}}", "format is missing"},
        {"{\"format\": 1, \"step\": 9}", "parts is missing"},
        {"{\"format\": 1, \"step\": 9, \"parts\": []}", "parts is an array"},
        {"{\"format\": 1, \"step\": -9, \"parts\": {}}", "step is -9"},
        {"{\"format\": 1, \"step\": 9, \"parts\": {\"loss\": {}}}",
         "parts.loss.loss.state is missing"},
        {"{\"format\": 1, \"step\": 9, \"parts\": {\"loss\": {\"loss.state\":"
         " {\"bytes\": 44}}}}",
         "crc32 is missing"},
        {"{\"format\": 1, \"step\": 9, \"parts\": {\"loss\": {\"loss.state\":"
         " {\"bytes\": 44, \"crc32\": 4294967296}}}}",
         "crc32 is 4294967296"},
        {"{\"format\": 1, \"step\": 9, \"parts\": {\"host\": {\"host.state\":"
         " {\"bytes\": 9223372036854775807, \"crc32\": 0}}}}",
         ""},
        {"[]", "expected an object"},
        {"", "line 1"},
    };
    char host[1], folder[128];
    cadft_checkpoint point = {
        .struct_size = sizeof point, .folder = folder, .step = 9};
    snprintf(folder, sizeof folder, "%s", in_scratch("run"));
    CHECK_OK(cadft_checkpoint_save(context, &point, &err), err);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t status;
        put_manifest(bad[i].text);
        status = cadft_checkpoint_load(context, &point, host, 1, NULL, &err);
        ck_assert_msg(status == CADFT_E_FORMAT || status == CADFT_E_SPACE,
                      "%s: %s", bad[i].text, err.message);
        ck_assert_msg(strstr(err.message, bad[i].says) != NULL, "%s",
                      err.message);
    }
    /* parts of a later version are let pass */
    put_manifest("{\"format\": 1, \"step\": 9, \"parts\": {\"new\": 1}}");
    CHECK_OK(cadft_checkpoint_load(context, &point, NULL, 0, NULL, &err), err);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, all_parts_come_back);
    tcase_add_test(t, each_part_alone);
    tcase_add_test(t, parts_that_are_missing);
    tcase_add_test(t, a_folder_of_a_model);
    tcase_add_test(t, finding);
    tcase_add_test(t, links);
    tcase_add_test(t, paths);
    tcase_add_test(t, keeping);
    tcase_add_test(t, what_is_not_ours_stays);
    tcase_add_test(t, a_tokenizer_goes_along);
    tcase_add_test(t, damaged_files);
    tcase_add_test(t, damaged_manifest);
    tcase_add_test(t, other_manifests);
    suite_add_tcase(suite, t);
    return support_main(argc, argv, suite);
}
