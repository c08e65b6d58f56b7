/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bench of the matrix product: own kernels and, where the build has one, the
 * CBLAS in turns, on one thread and on more; the shapes of a transformer's
 * layers. What is printed is the median over the rounds and, for the ratio,
 * the quartiles of the rounds' own ratios; a round's time is the least of
 * a few calls. Where m is small the bytes of B per second stand beside what
 * reading as much memory takes.
 */
#define _POSIX_C_SOURCE 200809L
#include "check_matmul.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HOST_HAVE_CBLAS
#    include <cblas.h>
#    pragma weak openblas_set_num_threads
extern void openblas_set_num_threads(int n);

static void sgemm(int order,
                  int at,
                  int bt,
                  int m,
                  int n,
                  int k,
                  float alpha,
                  const float *a,
                  int lda,
                  const float *b,
                  int ldb,
                  float beta,
                  float *c,
                  int ldc)
{
    cblas_sgemm((CBLAS_ORDER)order, (CBLAS_TRANSPOSE)at, (CBLAS_TRANSPOSE)bt, m,
                n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

cadft__sgemm_fn *cblas_engine(void)
{
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
    return sgemm;
}
#else
cadft__sgemm_fn *cblas_engine(void)
{
    return NULL;
}
#endif

enum { NT, NN, TN };
static const char *const use_name[] = {"NT", "NN", "TN"};

typedef struct shape {
    int use;
    int64_t m, n, k;
} shape;

/* hidden 576, 768, 896, 2048; intermediate 1536, 3072; vocab 49152, 50257 */
static const shape shapes[] = {
    {NT, 1, 576, 576},     {NT, 1, 1536, 576},     {NT, 1, 3072, 768},
    {NT, 1, 49152, 576},   {NT, 1, 50257, 768},    {NT, 1, 2048, 2048},
    {NT, 2, 49152, 576},   {NT, 4, 49152, 576},    {NT, 8, 49152, 576},
    {NT, 16, 49152, 576},  {NT, 4, 2048, 2048},    {NT, 8, 2048, 2048},
    {NT, 16, 2048, 2048},  {NN, 1, 768, 3072},     {NN, 1, 3072, 768},
    {NT, 64, 576, 1536},   {NT, 256, 576, 576},    {NT, 512, 1536, 576},
    {NT, 2048, 576, 576},  {NT, 2048, 1536, 576},  {NT, 2048, 576, 1536},
    {NT, 2048, 896, 896},  {NT, 2048, 2048, 2048}, {NT, 1024, 3072, 768},
    {NT, 8192, 576, 576},  {NT, 512, 49152, 576},  {NN, 2048, 576, 576},
    {NN, 2048, 576, 1536}, {NN, 2048, 1536, 576},  {NN, 2048, 2048, 2048},
    {NN, 512, 576, 49152}, {TN, 576, 576, 2048},   {TN, 1536, 576, 2048},
    {TN, 576, 1536, 2048}, {TN, 2048, 2048, 2048}, {TN, 3072, 768, 1024},
    {TN, 49152, 576, 512},
};

/* On one thread the processor's time, which other work disturbs less. */
static double now(int threads)
{
    struct timespec t;
    clock_gettime(threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *x, int n, int part)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n * part / 4];
}

typedef struct bench_case {
    const cadftk_table *table;
    const shape *shape;
    float *a, *c;
    void *b;
    size_t b_bytes, copies; /* of B, so that a small one comes from memory */
    size_t turn;
    int dtype;
    void *scratch;
} bench_case;

static const void *next_b(bench_case *t)
{
    t->turn = (t->turn + 1) % t->copies;
    return (const char *)t->b + t->turn * t->b_bytes;
}

static void run_own(bench_case *t, const crew *team, cadft__sgemm_fn *engine)
{
    const shape *s = t->shape;
    cadft__matmul_args g = {.m = s->m,
                            .n = s->n,
                            .k = s->k,
                            .a = t->a,
                            .b = next_b(t),
                            .c = t->c,
                            .lda = s->use == TN ? s->m : s->k,
                            .ldb = s->use == NT ? s->k : s->n,
                            .ldc = s->n,
                            .a_transposed = s->use == TN,
                            .b_transposed = s->use == NT,
                            .b_dtype = t->dtype,
                            .accumulate = s->use == TN};
    if (engine)
        cadft__matmul_cblas(engine, &g, &team->host, t->scratch);
    else
        cadft__matmul(t->table, &g, &team->host, t->scratch);
}

static void run_blas(bench_case *t, int threads)
{
#ifdef HOST_HAVE_CBLAS
    const shape *s = t->shape;
    if (openblas_set_num_threads)
        openblas_set_num_threads(threads);
    cblas_sgemm(CblasRowMajor, s->use == TN ? CblasTrans : CblasNoTrans,
                s->use == NT ? CblasTrans : CblasNoTrans, (int)s->m, (int)s->n,
                (int)s->k, 1.0f, t->a, (int)(s->use == TN ? s->m : s->k),
                (const float *)next_b(t), (int)(s->use == NT ? s->k : s->n),
                s->use == TN ? 1.0f : 0.0f, t->c, (int)s->n);
#else
    (void)t;
    (void)threads;
#endif
}

struct reading {
    const uint64_t *from;
    size_t words, tasks;
    uint64_t sink[64];
};

static void read_task(void *task, int64_t index, int32_t worker)
{
    struct reading *r = (struct reading *)task;
    size_t part = r->words / r->tasks / 16 * 16;
    const uint64_t *p = r->from + (size_t)index * part;
    uint64_t x[16] = {0};
    for (size_t i = 0; i < part; i += 16)
        for (size_t j = 0; j < 16; j++)
            x[j] ^= p[i + j];
    for (size_t j = 0; j < 16; j++)
        r->sink[worker] ^= x[j];
}

static void run_read(bench_case *t, const crew *team)
{
    struct reading r = {.from = (const uint64_t *)next_b(t),
                        .words = t->b_bytes / 8,
                        .tasks = (size_t)team->host.max_workers * 4};
    team->host.parallel_for(team->host.user, (int64_t)r.tasks, read_task, &r);
    __asm__ volatile("" : : "r"(&r) : "memory");
}

/* OURS: the BLAS on our workers */
enum { OWN, BLAS, OURS, READ, KINDS };

static double
time_one(bench_case *t, int kind, const crew *team, int threads, int calls)
{
    double best = 1e9;
    for (int i = 0; i < calls; i++) {
        double from = now(threads);
        if (kind == OWN)
            run_own(t, team, NULL);
        else if (kind == OURS)
            run_own(t, team, cblas_engine());
        else if (kind == BLAS)
            run_blas(t, threads);
        else
            run_read(t, team);
        double took = now(threads) - from;
        best = took < best ? took : best;
    }
    return best;
}

#define ROUNDS_MAX 64

#ifdef HOST_HAVE_CBLAS
static void print_blas(double time[KINDS][ROUNDS_MAX], int rounds, double work)
{
    double ratio[ROUNDS_MAX];
    double least =
        quantile(time[BLAS], rounds, 0) / quantile(time[OWN], rounds, 0);
    for (int r = 0; r < rounds; r++)
        ratio[r] = time[BLAS][r] / time[OWN][r];
    printf("  blas %6.1f  own/blas %.3f (%.3f..%.3f) best %.3f",
           work / quantile(time[BLAS], rounds, 2) * 1e-9,
           quantile(ratio, rounds, 2), quantile(ratio, rounds, 1),
           quantile(ratio, rounds, 3), least);
}
#endif

static void
bench_shape(bench_case *t, const crew *team, int threads, int rounds)
{
    const shape *s = t->shape;
    double time[KINDS][ROUNDS_MAX];
    double work = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    int few = s->m <= 16, calls = work < 1e8 ? 8 : work < 1e9 ? 3 : 1;
    for (int r = -1; r < rounds; r++) {
        int at = r < 0 ? 0 : r;
        for (int kind = 0; kind < KINDS; kind++)
            if (kind == OWN || (kind == BLAS && t->dtype == CADFTK_F32) ||
                (kind == OURS && cblas_engine()) || (kind == READ && few))
                time[kind][at] = time_one(t, kind, team, threads, calls);
    }
    double own = quantile(time[OWN], rounds, 2);
    printf("%-6s %d %s %5lld %5lld %5lld %-4s own %6.1f GF", t->table->name,
           threads, use_name[s->use], (long long)s->m, (long long)s->n,
           (long long)s->k, t->dtype ? "bf16" : "f32", work / own * 1e-9);
#ifdef HOST_HAVE_CBLAS
    if (t->dtype == CADFTK_F32)
        print_blas(time, rounds, work);
#endif
    if (cblas_engine())
        printf("  engine %6.1f", work / quantile(time[OURS], rounds, 2) * 1e-9);
    if (few)
        printf("  B %5.1f GB/s, read %5.1f, %3.0f%%",
               (double)t->b_bytes / own * 1e-9,
               (double)t->b_bytes / quantile(time[READ], rounds, 2) * 1e-9,
               100.0 * quantile(time[READ], rounds, 2) / own);
    putchar('\n');
    fflush(stdout);
}

static void fill(float *x, int64_t n)
{
    uint32_t state = 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) * 0x1p-24f - 0.5f;
    }
}

static void bench_dtype(const cadftk_table *table,
                        const shape *s,
                        int dtype,
                        const crew *crews,
                        const bench_options *o)
{
    bench_case t = {.table = table, .shape = s, .dtype = dtype};
    size_t elements = (size_t)(s->n * s->k), cache = (size_t)160 << 20;
    t.b_bytes = elements * (dtype == CADFTK_F32 ? 4 : 2);
    t.copies = s->m <= 16 ? 1 + cache / t.b_bytes : 1;
    t.a = aligned_alloc(64, ((size_t)(s->m * s->k) * 4 + 63) / 64 * 64);
    t.c = aligned_alloc(64, ((size_t)(s->m * s->n) * 4 + 63) / 64 * 64);
    t.b = aligned_alloc(64, (t.copies * t.b_bytes + 64 + 63) / 64 * 64);
    cadft__matmul_args g = {.m = s->m, .n = s->n, .k = s->k};
    g.b_dtype = dtype;
    size_t own = (size_t)cadft__matmul_scratch(table, &g, o->threads);
    size_t blas = (size_t)cadft__matmul_cblas_scratch(&g, o->threads);
    t.scratch = aligned_alloc(64, own > blas ? own : blas);
    if (t.a && t.b && t.c && t.scratch) {
        fill(t.a, s->m * s->k);
        fill(t.c, s->m * s->n);
        if (dtype == CADFTK_F32)
            fill((float *)t.b, (int64_t)(t.copies * elements));
        else
            memset(t.b, 0x3c, t.copies * t.b_bytes);
        for (int32_t i = 1; i <= o->threads; i *= 2)
            bench_shape(&t, &crews[i - 1], i, o->rounds);
    }
    free(t.a);
    free(t.b);
    free(t.c);
    free(t.scratch);
}

#define THREADS_MAX 8

void matmul_bench(const cadftk_table *table, const bench_options *options)
{
    bench_options o = *options;
    static crew crews[THREADS_MAX];
    o.rounds = o.rounds < ROUNDS_MAX ? o.rounds : ROUNDS_MAX;
    o.threads = o.threads < THREADS_MAX ? o.threads : THREADS_MAX;
    for (int32_t i = 0; i < o.threads; i++)
        crew_open(&crews[i], i + 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        if ((o.m && o.m != s->m) || (o.n && o.n != s->n) ||
            (o.k && o.k != s->k))
            continue;
        bench_dtype(table, s, CADFTK_F32, crews, &o);
        if (s->m <= 16)
            bench_dtype(table, s, CADFTK_BF16, crews, &o);
    }
    for (int32_t i = 0; i < o.threads; i++)
        crew_close(&crews[i]);
}
