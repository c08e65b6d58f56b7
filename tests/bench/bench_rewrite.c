/* SPDX-License-Identifier: Apache-2.0 */
/* What rewriting costs in processor time of its one thread: a selection, an
 * observation, a state, for a data set of N samples, in JSON.
 *
 *   bench_rewrite [N]          default 10000000 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cadft/cadft.h"

enum { BATCH = 256, ROUNDS = 7 };

#define MUST(call)                                                             \
    do {                                                                       \
        if ((call) != CADFT_OK) {                                              \
            fprintf(stderr, "%s: %s\n", #call, err.message);                   \
            exit(EXIT_FAILURE);                                                \
        }                                                                      \
    } while (0)

static cadft_error err = {sizeof err, 0, {0}};
static uint64_t state = 1;

static uint64_t bits(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* About normal: twelve uniform numbers less their mean. */
static double normal(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (double)(bits() >> 11) * 0x1p-53;
    return sum;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one pass over all samples in random order, by batches. */
static double observe_all(cadft_rewrite *rw, int64_t n)
{
    int64_t ids[BATCH];
    double c[BATCH], chat[BATCH], seconds = 0;
    for (int64_t done = 0; done < n; done += BATCH) {
        double start;
        for (int i = 0; i < BATCH; i++) {
            ids[i] = (int64_t)(bits() % (uint64_t)n);
            c[i] = 1;
            chat[i] = normal();
        }
        start = now();
        MUST(cadft_rewrite_observe(rw, ids, c, chat, BATCH, &err));
        seconds += now() - start;
    }
    return seconds;
}

/* Best of some. */
static double select_some(cadft_rewrite *rw, size_t *picks)
{
    double best = 1e9;
    for (int64_t round = 0; round < ROUNDS; round++) {
        double start = now(), seconds;
        MUST(cadft_rewrite_select(rw, 3000 + 1000 * round, NULL, 0, picks,
                                  &err));
        seconds = now() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void state_times(cadft_rewrite *rw, double *save, double *load)
{
    size_t size;
    void *buffer;
    double start;
    MUST(cadft_rewrite_state_save(rw, NULL, 0, &size, &err));
    buffer = malloc(size);
    if (!buffer)
        exit(EXIT_FAILURE);
    *save = *load = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double seconds;
        start = now();
        MUST(cadft_rewrite_state_save(rw, buffer, size, NULL, &err));
        seconds = now() - start;
        *save = seconds < *save ? seconds : *save;
        start = now();
        MUST(cadft_rewrite_state_load(rw, buffer, size, &err));
        seconds = now() - start;
        *load = seconds < *load ? seconds : *load;
    }
    free(buffer);
}

int main(int argc, char **argv)
{
    int64_t n = argc > 1 ? strtoll(argv[1], NULL, 10) : 10000000;
    cadft_context_desc desc = {.struct_size = sizeof desc, .n_threads = 1};
    cadft_context *context;
    cadft_rewrite *rw;
    double observed, selected, saved, loaded;
    size_t picks;
    MUST(cadft_context_create(&desc, &context, &err));
    MUST(cadft_rewrite_create(context, n, &rw, &err));
    for (int pass = 0; pass < 3; pass++)
        observed = observe_all(rw, n);
    selected = select_some(rw, &picks);
    state_times(rw, &saved, &loaded);
    printf("{\"samples\": %lld, \"observe_ns\": %.1f, \"select_s\": %.4f, "
           "\"picks\": %zu, \"save_s\": %.4f, \"load_s\": %.4f}\n",
           (long long)n, 1e9 * observed / (double)n, selected, picks, saved,
           loaded);
    cadft_rewrite_destroy(rw);
    cadft_context_destroy(context);
    return 0;
}
