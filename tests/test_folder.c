/* SPDX-License-Identifier: Apache-2.0 */
/* Saving folders: new ones, over earlier ones, what is refused, what a crash
 * at any system call leaves behind, and any failing system call. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "files.h"
#include "io/save.h"
#include "traced.h"

static const char *const names[] = {"config.json", "model.safetensors"};
enum { NAMES = 2 };

static support_heap heap;
static cadft__memory memory;
static cadft_error err;

static void setup_in(const char *folder)
{
    files_setup(folder);
    heap = (support_heap){0};
    memory = counted_memory(&heap);
    err = support_error();
}

static void setup(void)
{
    setup_in("/tmp");
}

/* Hundreds of saves: a disk would take seconds to sync them. */
static void setup_many(void)
{
    setup_in(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
}

static void teardown(void)
{
    ck_assert_int_eq(heap.live_blocks, 0);
    files_teardown();
}

/* Both files, with `text` in them, into scratch/out. */
static int32_t save_both(const char *text)
{
    cadft__save save;
    int32_t status = cadft__save_begin(&memory, in_scratch("out"), names, NAMES,
                                       &save, &err);
    if (status)
        return status;
    for (int i = 0; i < NAMES && !status; i++)
        status = cadft__save_text(&save, names[i], text, strlen(text), &err);
    if (!status)
        return cadft__save_commit(&save, &err);
    cadft__save_cancel(&save);
    return status;
}

/* What scratch/out holds: the text of both files, "" when there is none. */
static void held(char *text, size_t capacity)
{
    char *files[NAMES];
    size_t bytes;
    text[0] = '\0';
    if (access(in_scratch("out"), F_OK))
        return;
    files[0] = get_file("out/config.json", &bytes);
    files[1] = get_file("out/model.safetensors", &bytes);
    ck_assert_int_eq(count_entries(in_scratch("out")), NAMES);
    ck_assert_msg(files[0] && files[1], "a file is missing");
    ck_assert_str_eq(files[0], files[1]);
    snprintf(text, capacity, "%s", files[0]);
    free(files[0]);
    free(files[1]);
}

static void check_held(const char *expected)
{
    char text[64];
    held(text, sizeof text);
    ck_assert_str_eq(text, expected);
}

START_TEST(over_nothing_and_over_itself)
{
    struct stat before, after;
    CHECK_OK(save_both("one"), err);
    check_held("one");
    ck_assert_int_eq(count_entries(scratch), 1);
    stat(in_scratch("out"), &before);
    CHECK_OK(save_both("two"), err);
    stat(in_scratch("out"), &after);
    check_held("two");
    ck_assert_int_ne(before.st_ino, after.st_ino); /* it was exchanged */
    ck_assert_int_eq(count_entries(scratch), 1);
}
END_TEST

START_TEST(cancelled)
{
    cadft__save save;
    CHECK_OK(save_both("one"), err);
    CHECK_OK(cadft__save_begin(&memory, in_scratch("out"), names, NAMES, &save,
                               &err),
             err);
    CHECK_OK(cadft__save_text(&save, names[0], "two", 3, &err), err);
    ck_assert_int_eq(count_entries(scratch), 2);
    cadft__save_cancel(&save);
    ck_assert_int_eq(count_entries(scratch), 1);
    check_held("one");
}
END_TEST

START_TEST(ways_to_write_a_path)
{
    char there[256];
    cadft__save save;
    static const char *const good[] = {"a",        "b/",  "c//",      ".d",
                                       "sub/../e", "x y", "\xc3\xa4", "-f"};
    ck_assert_ptr_nonnull(getcwd(there, sizeof there));
    ck_assert_int_eq(chdir(scratch), 0);
    mkdir("sub", 0700);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK_OK(cadft__save_begin(&memory, good[i], names, NAMES, &save, &err),
                 err);
        CHECK_OK(cadft__save_commit(&save, &err), err);
        ck_assert_int_eq(count_entries(good[i]), 0);
    }
    ck_assert_int_eq(chdir(there), 0);
    ck_assert_int_eq(count_entries(scratch), 9);
}
END_TEST

static int32_t begin(const char *path)
{
    cadft__save save;
    int32_t status =
        cadft__save_begin(&memory, path, names, NAMES, &save, &err);
    if (!status)
        cadft__save_cancel(&save);
    return status;
}

START_TEST(refused_paths)
{
    char name[300];
    static const char *const bad[] = {"", "/", ".", "..", "a/.", "a/..", "//"};
    mkdir(in_scratch("a"), 0700);
    put_text("file", "");
    ck_assert_int_eq(symlink("a", in_scratch("link")), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_ne(begin(bad[i]), CADFT_OK);
    CHECK_SAYS(begin("/tmp/.."), CADFT_E_ARG, "path is \"/tmp/..\"", err);
    CHECK_SAYS(begin(in_scratch("no/out")), CADFT_E_IO, "no such file", err);
    CHECK_SAYS(begin(in_scratch("file/out")), CADFT_E_IO, "not a folder", err);
    CHECK_SAYS(begin(in_scratch("file")), CADFT_E_IO,
               "file is a file, expected a folder or nothing", err);
    CHECK_SAYS(begin(in_scratch("link")), CADFT_E_IO, "is a link", err);
    memset(name, 'n', sizeof name);
    name[201] = '\0';
    CHECK_SAYS(begin(in_scratch(name)), CADFT_E_ARG, "at most 200 bytes", err);
    name[200] = '\0';
    CHECK_OK(begin(in_scratch(name)), err);
    ck_assert_int_eq(count_entries(scratch), 3);
}
END_TEST

/* A folder of somebody's is never removed. */
START_TEST(strange_entries)
{
    cadft__save save;
    mkdir(in_scratch("out"), 0700);
    put_text("out/diary.txt", "dear");
    CHECK_SAYS(begin(in_scratch("out")), CADFT_E_IO,
               "out holds diary.txt, which saving would remove", err);
    ck_assert_int_eq(unlink(in_scratch("out/diary.txt")), 0);
    mkdir(in_scratch("out/config.json"), 0700); /* a folder, no file */
    CHECK_SAYS(begin(in_scratch("out")), CADFT_E_IO, "holds config.json", err);
    ck_assert_int_eq(rmdir(in_scratch("out/config.json")), 0);
    /* An entry that comes while the save is written. */
    CHECK_OK(cadft__save_begin(&memory, in_scratch("out"), names, NAMES, &save,
                               &err),
             err);
    put_text("out/late", "");
    CHECK_SAYS(cadft__save_commit(&save, &err), CADFT_E_IO, "holds late", err);
    ck_assert_int_eq(count_entries(scratch), 1);
    ck_assert_int_eq(count_entries(in_scratch("out")), 1);
    /* A file of ours may be a link: it goes, what it leads to stays. */
    ck_assert_int_eq(unlink(in_scratch("out/late")), 0);
    put_text("kept", "kept");
    ck_assert_int_eq(symlink("../kept", in_scratch("out/config.json")), 0);
    CHECK_OK(save_both("one"), err);
    check_held("one");
    ck_assert_int_eq(access(in_scratch("kept"), F_OK), 0);
}
END_TEST

START_TEST(refused_files)
{
    cadft__save save;
    cadft__sink sink;
    CHECK_OK(cadft__save_begin(&memory, in_scratch("out"), names, NAMES, &save,
                               &err),
             err);
    CHECK_SAYS(cadft__sink_open(&save, "other", &sink, &err), CADFT_E_ARG,
               "out/other is not a name that this save may write", err);
    CHECK_OK(cadft__save_text(&save, names[0], "", 0, &err), err);
    CHECK_SAYS(cadft__sink_open(&save, names[0], &sink, &err), CADFT_E_IO,
               "exists already", err);
    cadft__save_cancel(&save);
}
END_TEST

/* What is left of dead saves goes, what lives or is not ours stays. */
START_TEST(leftovers)
{
    static const char *const foreign[] = {
        ".out.saving-",    ".out.saving-1",    ".out.saving-1-",
        ".out.saving-a-1", ".out.saving-1-2x", ".outer.saving-1-2",
        "out.saving-1-2"};
    enum { FOREIGN = 7 };
    cadft__save alive;
    for (int i = 0; i < FOREIGN; i++)
        ck_assert_int_eq(mkdir(in_scratch(foreign[i]), 0700), 0);
    put_text(".out.saving-4-5", "a file");
    mkdir(in_scratch("elsewhere"), 0700);
    put_text("elsewhere/kept", "kept");
    ck_assert_int_eq(symlink("elsewhere", in_scratch(".out.saving-6-7")), 0);
    mkdir(in_scratch(".out.saving-1-0"), 0700);
    put_text(".out.saving-1-0/config.json", "half");
    ck_assert_int_eq(symlink("../elsewhere",
                             in_scratch(".out.saving-1-0/model.safetensors")),
                     0);
    CHECK_OK(cadft__save_begin(&memory, in_scratch("out"), names, NAMES, &alive,
                               &err),
             err);
    CHECK_OK(save_both("one"), err); /* meanwhile */
    ck_assert_int_eq(access(in_scratch(".out.saving-1-0"), F_OK), -1);
    CHECK_OK(cadft__save_text(&alive, names[0], "two", 3, &err), err);
    CHECK_OK(cadft__save_text(&alive, names[1], "two", 3, &err), err);
    CHECK_OK(cadft__save_commit(&alive, &err), err);
    check_held("two");
    ck_assert_int_eq(access(in_scratch("elsewhere/kept"), F_OK), 0);
    ck_assert_int_eq(count_entries(scratch), FOREIGN + 4);
}
END_TEST

START_TEST(a_full_disk)
{
    struct rlimit before, limit;
    char text[5000];
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK_OK(save_both("one"), err);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 4096;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_SAYS(save_both(text), CADFT_E_IO,
               "out/config.json: writing failed: the file would be too large",
               err);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    check_held("one");
    ck_assert_int_eq(count_entries(scratch), 1);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    int32_t status = CADFT_E_NOMEM;
    int64_t n;
    for (n = 1; status; n++) {
        heap.fail_at = n;
        status = save_both("one");
        if (status)
            CHECK_STATUS(status, CADFT_E_NOMEM, err);
        ck_assert_int_eq(heap.live_blocks, 0);
        ck_assert_int_eq(count_entries(scratch), status ? 0 : 1);
    }
    heap.fail_at = 0;
    ck_assert_int_gt(n, 3);
}
END_TEST

/* ----------------------------------------------------- at any system call */

static int save_text(void *text)
{
    return save_both((const char *)text) ? 2 : 0;
}

static int
traced_save(const char *text, int kill_at, int fail_at, int number, int *result)
{
    return traced(save_text, (void *)text, kill_at, fail_at, number, result);
}

/* Whatever happened: old or new and nothing else, and the next save is well
 * and clears up. */
static void check_aftermath(const char *old, int at)
{
    char text[64];
    held(text, sizeof text);
    ck_assert_msg(strcmp(text, old) == 0 || strcmp(text, "new") == 0,
                  "\"%s\" after stop %d", text, at);
    CHECK_OK(save_both("next"), err);
    check_held("next");
    ck_assert_msg(count_entries(scratch) == 1, "leftovers of stop %d", at);
}

static void prepare(const char *old)
{
    remove_tree(in_scratch("out"));
    if (*old)
        CHECK_OK(save_both(old), err);
}

START_TEST(a_crash_at_any_system_call)
{
    for (int over = 0; over < 2; over++) {
        const char *old = over ? "old" : "";
        int result, stops, kept = 0, replaced = 0;
        char text[64];
        prepare(old);
        stops = traced_save("new", 0, 0, 0, &result);
        ck_assert_int_eq(result, 0);
        ck_assert_int_gt(stops, 40);
        /* Odd stops are entries, and between two calls nothing changes. */
        for (int at = 1; at < stops; at += 2) {
            prepare(old);
            traced_save("new", at, 0, 0, &result);
            ck_assert_int_eq(result, 1);
            held(text, sizeof text);
            replaced += strcmp(text, "new") == 0;
            kept += strcmp(text, old) == 0;
            check_aftermath(old, at);
        }
        ck_assert_int_gt(kept, 10); /* both were seen */
        ck_assert_int_gt(replaced, 2);
    }
}
END_TEST

/* No call fails unnoticed: success means that the new folder is there. */
START_TEST(any_system_call_may_fail)
{
#ifdef __x86_64__
    static const int numbers[] = {EIO, EINTR, EINVAL};
    int result, stops, failed = 0, syncs = 0;
    char text[64];
    prepare("old");
    stops = traced_save("new", 0, 0, 0, &result);
    for (int i = 0; i < 3; i++)
        /* The last stop is the child's exit. */
        for (int at = 1; at < stops; at += 2) {
            prepare("old");
            traced_save("new", 0, at, numbers[i], &result);
            if (result != 1)
                held(text, sizeof text);
            if (result == 0)
                ck_assert_msg(strcmp(text, "new") == 0,
                              "stop %d, errno %d: success without it", at,
                              numbers[i]);
            failed += result == 2;
            if (failed_call == SYS_fsync && numbers[i] == EIO) {
                ck_assert_int_eq(result, 2);
                syncs++;
            }
            check_aftermath("old", at);
        }
    ck_assert_int_gt(failed, 30);
    ck_assert_int_eq(syncs, NAMES + 2); /* and the two folders */
#endif
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("folder");
    TCase *use = tcase_create("use"), *trouble = tcase_create("trouble");
    tcase_add_test(use, over_nothing_and_over_itself);
    tcase_add_test(use, cancelled);
    tcase_add_test(use, ways_to_write_a_path);
    tcase_add_test(use, refused_paths);
    tcase_add_test(use, strange_entries);
    tcase_add_test(use, refused_files);
    tcase_add_test(use, leftovers);
    tcase_add_test(trouble, a_full_disk);
    tcase_add_test(trouble, any_allocation_may_fail);
    tcase_add_test(trouble, a_crash_at_any_system_call);
    tcase_add_test(trouble, any_system_call_may_fail);
    tcase_add_checked_fixture(use, setup, teardown);
    tcase_add_checked_fixture(trouble, setup_many, teardown);
    suite_add_tcase(suite, use);
    suite_add_tcase(suite, trouble);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
