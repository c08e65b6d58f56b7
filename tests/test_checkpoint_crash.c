/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints and trouble: killed, and failing, at every system call; a full
 * disk; places that cannot be written. Whatever happens there is a whole
 * checkpoint, and the next save is well and clears up. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "checkpoint_world.h"
#include "traced.h"

static cadft_context *context;
static world w;
static char run[128]; /* scratch/run */

static void setup(void)
{
    context = support_context(NULL, 1);
    /* Hundreds of saves: a disk would take minutes to sync them. */
    files_setup(access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    snprintf(run, sizeof run, "%s", in_scratch("run"));
    world_new(&w, context, 1);
}

static void teardown(void)
{
    world_close(&w);
    cadft_context_destroy(context);
    files_teardown();
}

/* ----------------------------------------------------- at any system call */

/* A small checkpoint: the host's bytes are the number of the save. */
typedef struct save_args {
    int64_t step;
    int32_t keep;
    char mark;
    cadft_model *model;
} save_args;

static int32_t save_mark(const save_args *args)
{
    cadft_checkpoint p = {.struct_size = sizeof p,
                          .keep = args->keep,
                          .folder = run,
                          .step = args->step,
                          .model = args->model,
                          .loss = w.loss,
                          .host = &args->mark,
                          .host_bytes = 1};
    err = support_error();
    return cadft_checkpoint_save(context, &p, &err);
}

static int act(void *user)
{
    int32_t status = save_mark((const save_args *)user);
    if (status && !err.message[0])
        return 3;
    return status ? 2 : 0;
}

/* What is found can be loaded: the mark of the newest, or 0 for none. So can
 * all before it: nothing half lies under a checkpoint's name. */
static char held(int64_t *step)
{
    cadft_checkpoint p = {
        .struct_size = sizeof p, .folder = run, .loss = w.loss};
    char first = 0, mark;
    int64_t before = -1;
    *step = -1;
    do {
        CHECK_OK(cadft_checkpoint_find(context, run, before, &p.step, &err),
                 err);
        if (p.step < 0)
            break;
        CHECK_OK(cadft_checkpoint_load(context, &p, &mark, 1, NULL, &err), err);
        first = before < 0 ? mark : first;
        *step = before < 0 ? p.step : *step;
        before = p.step;
    } while (1);
    return first;
}

/* How the folder is before: nothing, or steps 1 and 2. */
static void prepare(int before)
{
    remove_tree(run);
    for (int64_t step = 1; before && step < 3; step++)
        CHECK_OK(save_mark(&(save_args){step, 0, 'o', w.model}), err);
}

/* Old or new; the next save works and leaves nothing behind. */
static char check_aftermath(const char *what, int at)
{
    int64_t step;
    char mark = held(&step), next;
    ck_assert_msg(mark == 'o' || mark == 'n' || (!mark && step < 0),
                  "%s at stop %d: mark %d", what, at, mark);
    CHECK_OK(save_mark(&(save_args){4, 1, 'x', NULL}), err);
    next = held(&step);
    ck_assert_int_eq(next, 'x');
    ck_assert_int_eq(step, 4);
    ck_assert_msg(count_entries(run) == 1, "leftovers of %s at stop %d", what,
                  at);
    return mark;
}

static const struct scenario {
    const char *name;
    int before;
    save_args args;
} scenarios[] = {
    {"the first", 0, {1, 1, 'n', NULL}},
    {"one more, the oldest goes", 1, {3, 1, 'n', NULL}},
    {"over the newest", 1, {2, 0, 'n', NULL}},
};

START_TEST(a_crash_at_any_system_call)
{
    const struct scenario *s = &scenarios[_i];
    save_args args = s->args;
    int result, stops, old = 0, new = 0;
    prepare(s->before);
    args.model = w.model;
    stops = traced(act, &args, 0, 0, 0, &result);
    ck_assert_int_eq(result, 0);
    ck_assert_int_gt(stops, 60);
    for (int at = 1; at < stops; at += 2) {
        char mark;
        prepare(s->before);
        traced(act, &args, at, 0, 0, &result);
        if (result == 0)
            break; /* a sanitizer asks for memory less often than at first */
        ck_assert_int_eq(result, 1);
        mark = check_aftermath(s->name, at);
        old += mark == 'o' || (!s->before && !mark);
        new += mark == 'n';
    }
    ck_assert_int_gt(old, 20);
    ck_assert_int_gt(new, 2);
}
END_TEST

/* Success means that the new one is there; a failure has a sentence, and
 * leaves the old one. (But one of the last sync, after which either may be
 * found.) */
START_TEST(any_system_call_may_fail)
{
#ifdef __x86_64__
    static const int numbers[] = {EIO, ENOSPC, EINTR};
    const struct scenario *s = &scenarios[_i];
    save_args args = s->args;
    int result, stops, failed = 0;
    prepare(s->before);
    stops = traced(act, &args, 0, 0, 0, &result);
    for (int i = 0; i < 3; i++)
        for (int at = 1; at < stops; at += 2) {
            int64_t step;
            char mark;
            prepare(s->before);
            traced(act, &args, 0, at, numbers[i], &result);
            mark = held(&step);
            if (result == 0)
                ck_assert_msg(mark == 'n', "%s, stop %d, errno %d: no success",
                              s->name, at, numbers[i]);
            ck_assert_int_ne(result, 3);
            failed += result == 2;
            check_aftermath(s->name, at);
        }
    ck_assert_int_gt(failed, 30);
#endif
}
END_TEST

/* ----------------------------------------------------------------- the disk */

START_TEST(a_full_disk)
{
    static const rlim_t sizes[] = {0, 1, 40, 100, 1000, 5000, 20000};
    struct rlimit before, limit;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(world_save(&w, "run", 1, 1), err);
    getrlimit(RLIMIT_FSIZE, &before);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int64_t step = 1; step < 3; step++) {
            int32_t status;
            limit = before;
            limit.rlim_cur = sizes[i];
            ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
            status = world_save(&w, "run", step, 1);
            ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
            CHECK_SAYS(status, CADFT_E_IO,
                       "writing failed: the file would be too large", err);
            ck_assert_int_eq(count_entries(run), 1);
            ck_assert_int_eq(world_find(context, "run", -1), 1);
            check_is(&w, "run", 1);
        }
    signal(SIGXFSZ, handler);
}
END_TEST

/* A small file system of our own, which goes with this process; 0 where none
 * can be had. */
static int mounted(const char *options)
{
    mkdir(run, 0700);
    return !unshare(CLONE_NEWNS) &&
           !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("none", run, "tmpfs", 0, options);
}

START_TEST(a_disk_that_fills_up)
{
    int64_t step = 0, found;
    if (!mounted("size=400k")) {
        printf("skipped: no file system can be mounted here\n");
        return;
    }
    while (world_save(&w, "run", step, 0) == CADFT_OK)
        ck_assert_int_lt(step++, 1000);
    CHECK_SAYS(err.code, CADFT_E_IO, "no space left", err);
    ck_assert_int_gt(step, 1);
    ck_assert_int_eq(count_entries(run), (int)step);
    found = world_find(context, "run", -1);
    check_is(&w, "run", found);
    /* and one that keeps fewer goes on, as soon as there is room */
    remove_tree(in_scratch("run/step-00000000"));
    CHECK_OK(world_save(&w, "run", step, 1), err);
    ck_assert_int_eq(count_entries(run), 1);
    CHECK_OK(world_save(&w, "run", step + 1, 1), err);
    ck_assert_int_eq(mount("none", run, "tmpfs", MS_REMOUNT | MS_RDONLY, ""),
                     0);
    CHECK_SAYS(world_save(&w, "run", step + 2, 1), CADFT_E_IO,
               "the file system is read-only", err);
    check_is(&w, "run", step + 1);
    ck_assert_int_eq(umount(run), 0);
}
END_TEST

START_TEST(places_that_are_none)
{
    put_text("run", "a file");
    CHECK_SAYS(world_save(&w, "run", 1, 1), CADFT_E_IO, "run is not a folder",
               err);
    unlink(run);
    mkdir(run, 0700);
    put_text("run/step-00000001", "a file");
    CHECK_SAYS(world_save(&w, "run", 1, 1), CADFT_E_IO,
               "run/step-00000001 is a file, expected a folder or nothing",
               err);
    CHECK_OK(world_save(&w, "run", 2, 1), err);
    ck_assert_int_eq(count_entries(run), 2);
    mkdir(in_scratch("run/step-00000002/plots"), 0700);
    CHECK_SAYS(world_save(&w, "run", 2, 1), CADFT_E_IO,
               "holds plots, which saving would remove", err);
    check_is(&w, "run", 2);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("checkpoint_crash");
    TCase *t = tcase_create("crash");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, a_crash_at_any_system_call, 0, 3);
    tcase_add_loop_test(t, any_system_call_may_fail, 0, 3);
    tcase_add_test(t, a_full_disk);
    tcase_add_test(t, a_disk_that_fills_up);
    tcase_add_test(t, places_that_are_none);
    suite_add_tcase(suite, t);
    return support_main(argc, argv, suite);
}
