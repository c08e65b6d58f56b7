/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparer of the built-in backend's slots for an optimizer and for a
 * model, all but the matrix product and attention: every usable ISA against
 * float64, with 1, 2 and 7 workers; the fused ISAs and all numbers of workers
 * bit for bit against each other, and against a file.
 *
 *   check_model_kernels [--seed N] [--isa NAME] [--golden FILE]
 *                       [--print-digest] [--bench [ROWS COLUMNS]]
 *
 * --golden compares with tests/model_digest.txt. Exit 1 when a bound is broken
 * or bits differ.
 */
#include "check_slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/context.h"
#include "cadft/cadft.h"
#include "arguments.h"
#include "check_model_bench.h"
#include "cpu/isa.h"

#define GOLDEN_SEED 42

typedef struct options {
    uint64_t seed;
    const char *isa, *golden;
    int print_digest, bench;
    int64_t sizes[2]; /* of --bench: rows, columns */
} options;

static int failures;

static options parse(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL)};
    const argument list[] = {
        {"--seed", .seed = &o.seed},
        {"--isa", .text = &o.isa},
        {"--golden", .text = &o.golden},
        {"--print-digest", .flag = &o.print_digest},
        {"--bench", .flag = &o.bench},
    };
    arguments_read(argc, argv, list, sizeof list / sizeof *list, o.sizes, 2);
    return o;
}

static cadft_context *open_context(const char *isa, int32_t workers)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = workers,
                               .backend_options = isa};
    cadft_error error = {.struct_size = sizeof error};
    cadft_context *context;
    if (cadft_context_create(&desc, &context, &error)) {
        printf("%s\n", error.message);
        exit(2);
    }
    return context;
}

/* Everything once; the digest is left in *bed. */
static void run(const char *isa, int32_t workers, uint64_t seed, check_bed *bed)
{
    cadft_context *context = open_context(isa, workers);
    memset(bed, 0, sizeof *bed);
    bed->backend = context->backend;
    bed->device = context->device;
    bed->tight = 1;
    check_pointwise(bed, seed);
    failures += check_updates(bed, seed);
    cadft_context_destroy(context);
}

static void same(const check_bed *a, const check_bed *b, const char *what)
{
    for (int i = 0; i < a->lines; i++)
        if (a->lines != b->lines || a->line[i].digest != b->line[i].digest) {
            printf("FAIL %s: other bits: %s\n", what, a->line[i].name);
            failures++;
        }
}

static int file_has(const char *path, const char *line)
{
    char have[128];
    int found = 0;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(have, sizeof have, f))
        found = strncmp(have, line, strlen(line)) == 0;
    if (f)
        fclose(f);
    return found;
}

static void golden(const char *isa, const options *o)
{
    check_bed bed;
    run(isa, 1, GOLDEN_SEED, &bed);
    for (int i = 0; i < bed.lines; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s %016llx", bed.line[i].name,
                 (unsigned long long)bed.line[i].digest);
        if (o->print_digest)
            puts(line);
        if (o->golden && !file_has(o->golden, line)) {
            printf("FAIL %s: digest differs: %s\n", isa, line);
            failures++;
        }
    }
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    const cadftk_table *tables[CADFT__ISA_MAX];
    size_t count = cadft__isa_list(tables);
    check_bed fused = {0};
    printf("seed %llu\n", (unsigned long long)o.seed);
    if (o.isa && !cadft__isa_pick(o.isa)) {
        printf("no ISA %s here\n", o.isa);
        return 2;
    }
    for (size_t i = 0; i < count; i++) {
        const char *isa = tables[i]->name;
        int is_fused = strcmp(isa, "c") != 0;
        check_bed one, many;
        if (o.isa && strcmp(o.isa, isa) != 0)
            continue;
        for (int32_t workers = 1; o.bench && workers <= 2; workers++) {
            cadft_context *context = open_context(isa, workers);
            check_model_bench(context, o.sizes[0], o.sizes[1]);
            check_update_bench(context, o.sizes[0] * o.sizes[1]);
            cadft_context_destroy(context);
        }
        if (o.bench)
            continue;
        if (is_fused && (o.golden || o.print_digest))
            golden(isa, &o);
        if (o.print_digest)
            continue;
        run(isa, 1, o.seed, &one);
        for (int32_t workers = 2; workers <= 7; workers += 5) {
            run(isa, workers, o.seed, &many);
            same(&one, &many, isa);
        }
        if (is_fused && fused.lines)
            same(&fused, &one, isa);
        if (is_fused)
            fused = one;
        printf("%-6s %d cases with 1, 2 and 7 workers\n", isa, one.cases);
    }
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
