/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend comparer: every slot of a backend against float64, through the
 * contract alone.
 *
 *   check_backend cpu|PLUGIN.so [--options TEXT] [--threads N] [--seed N]
 *                 [--only SLOT] [--loss-only] [--quick]
 *
 * Each slot runs over types, shapes, strides, offsets, arrays that are absent
 * and rows that are none, in blocks full of NaN; then again on three threads,
 * for the same bits. The table has the error that came nearest to its bound,
 * both relative to the sum of magnitudes, and the speed of one typical call on
 * --threads threads (0: all). --quick leaves speed and the longest cases out;
 * --options goes to the backend. Exit status 1 when a slot is wrong, or
 * absent that a model needs; --loss-only looks at the loss's slots alone. An
 * optimizer's slots may be absent, which is said.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check_backend.h"

struct options {
    const char *backend, *text, *only;
    int32_t threads;
    uint64_t seed;
    int loss_only, quick;
};

static const slot *const topics[] = {memory_slots,    loss_slots,
                                     linear_slots,    pointwise_slots,
                                     attention_slots, update_slots};

enum { TOPICS = sizeof topics / sizeof *topics };

static int usage(void)
{
    fprintf(stderr,
            "usage: check_backend cpu|PLUGIN.so [--options TEXT] "
            "[--threads N]\n"
            "           [--seed N] [--only SLOT] [--loss-only] [--quick]\n");
    return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
    o->seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            o->quick = 1;
        else if (strcmp(argv[i], "--loss-only") == 0)
            o->loss_only = 1;
        else if (strcmp(argv[i], "--options") == 0 && i + 1 < argc)
            o->text = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            o->only = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            o->threads = (int32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            o->seed = strtoull(argv[++i], NULL, 10);
        else if (argv[i][0] != '-' && !o->backend)
            o->backend = argv[i];
        else
            return 0;
    }
    return o->backend != NULL;
}

static cadft_context *open_context(const struct options *o, int32_t threads)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = threads,
                               .backend_options = o->text};
    cadft_error error = {.struct_size = sizeof error};
    cadft_context *context;
    char path[4096];
    /* A path is told by its slash. */
    snprintf(path, sizeof path, "%s%s",
             strcmp(o->backend, "cpu") == 0 || strchr(o->backend, '/') ? ""
                                                                       : "./",
             o->backend);
    desc.backend = path;
    if (cadft_context_create(&desc, &context, &error)) {
        fprintf(stderr, "%s\n", error.message);
        exit(2);
    }
    return context;
}

static int present(cadft_context *context, const slot *s)
{
    const cadft_backend *b = context->backend;
    void (*function)(void);
    if (b->struct_size < s->at + sizeof function)
        return 0;
    memcpy(&function, (const char *)b + s->at, sizeof function);
    return function != NULL;
}

static void run(check *c, const slot *s, cadft_context *context, uint64_t seed)
{
    c->context = context;
    c->random.state = seed;
    c->digest = 0;
    c->cases = 0;
    s->run(c);
    case_close(c);
}

static void print_speed(check *c, const slot *s)
{
    double work;
    c->bench = 1;
    work = s->bench(c);
    case_close(c);
    if (!c->status)
        printf(" %8.3g %-7s", work / c->best * 1e-9, s->unit);
}

/* 1 when the slot does what it should. */
static int
check_slot(const slot *s, const struct options *o, cadft_context *contexts[3])
{
    check c = {.quick = o->quick};
    uint64_t digest;
    int needed = s->part == LOSS || (s->part == MODEL && !o->loss_only);
    printf("%-18s", s->name);
    fflush(stdout);
    if (!present(contexts[0], s)) {
        printf(" %s%s\n", needed ? "ABSENT" : "absent",
               s->part == OPTIMIZER ? ": no optimizer on this backend" : "");
        return !needed;
    }
    run(&c, s, contexts[0], o->seed);
    digest = c.digest;
    run(&c, s, contexts[1], o->seed);
    if (c.digest != digest) {
        snprintf(c.what, sizeof c.what, "all cases");
        complain(&c, "three threads give other bits than one");
    }
    printf(" %6lld %9.1e %9.1e", (long long)c.cases, c.worst, c.bound);
    if (s->bench && !o->quick && !c.failures) {
        c.context = contexts[2];
        print_speed(&c, s);
    }
    printf(" %s\n", c.failures ? "WRONG" : "ok");
    if (c.failures)
        printf("    %lld times, first %s\n", (long long)c.failures, c.first);
    return c.failures == 0;
}

static int asked_for(const slot *s, const struct options *o)
{
    if (o->loss_only && s->part != LOSS && s->part != LOSS_OPTIONAL)
        return 0;
    return !o->only || strcmp(o->only, s->name) == 0;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    cadft_context *contexts[3];
    int good = 1, count = 0;
    if (!parse(argc, argv, &o))
        return usage();
    contexts[0] = open_context(&o, 1);
    contexts[1] = open_context(&o, 3);
    contexts[2] = open_context(&o, o.threads);
    printf("%s (%s), contract %u.%u, seed %llu\n", contexts[0]->backend->name,
           contexts[0]->backend->describe(contexts[0]->device),
           contexts[0]->backend->major, contexts[0]->backend->minor_built,
           (unsigned long long)o.seed);
    printf("%-18s %6s %9s %9s\n", "slot", "cases", "worst", "bound");
    for (int t = 0; t < TOPICS; t++)
        for (const slot *s = topics[t]; s->name; s++)
            if (asked_for(s, &o)) {
                good &= check_slot(s, &o, contexts);
                count++;
            }
    for (int i = 0; i < 3; i++)
        cadft_context_destroy(contexts[i]);
    if (count == 0)
        fprintf(stderr, "no slot is called %s\n", o.only);
    return good && count ? 0 : 1;
}
