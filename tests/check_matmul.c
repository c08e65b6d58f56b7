/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparer of the matrix product: every usable ISA against a float64
 * reference over sizes, transposes, dtypes, strides and alignments, with
 * canaries around every row of C; and bit for bit what matmul.h promises: any
 * number of workers, any part of C computed alone, operands stored either
 * way, all fused ISAs.
 *
 *   check_matmul [--seed N] [--isa NAME] [--golden FILE] [--quick]
 *                [--print-digest]
 *                [--bench [--threads N] [--rounds N] [M N K, 0 for any]]
 *
 * --golden compares the fused ISAs with tests/matmul_digest.txt.
 */
#include "check_matmul.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"

enum { CREWS = 3 };
static const int32_t crew_workers[CREWS] = {1, 2, 7};
static crew crews[CREWS];
static int failures;
static double worst; /* error over its bound */

/* ------------------------------------------------------------- one product */

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    uint64_t x = random_state ^ random_state >> 33;
    return (x * 0xff51afd7ed558ccdu) >> 17;
}

static int64_t random_below(int64_t n)
{
    return (int64_t)(random_next() % (uint64_t)n);
}

/* Sums of steps of 2^-20 in [-2, 2]: no libm, the same on every machine. */
static float random_float(void)
{
    int64_t x = random_below(1 << 21) + random_below(1 << 21) - (1 << 21);
    return (float)x * 0x1p-20f;
}

/* A matrix of exactly its own allocation, so that a sanitizer sees a read
 * beside it; `at` is what the product is given. */
typedef struct matrix {
    unsigned char *block;
    void *at;
    int64_t rows, columns, ld;
    size_t size;
    int transposed; /* stored as [columns, rows] */
    int dtype;
} matrix;

static void
matrix_open(matrix *x, int64_t rows, int64_t columns, int transposed, int dtype)
{
    int64_t length = transposed ? rows : columns;
    int64_t count = transposed ? columns : rows;
    x->rows = rows;
    x->columns = columns;
    x->transposed = transposed;
    x->dtype = dtype;
    x->size = dtype == CADFTK_F32 ? 4 : 2;
    x->ld = length + (random_below(3) ? random_below(40) : 0);
    if (random_below(6) == 0) /* strides that caches dislike */
        x->ld = (x->ld + 511) / 512 * 512;
    size_t offset = (size_t)random_below(17) * x->size;
    int64_t last = count && length ? (count - 1) * x->ld + length : 0;
    x->block = malloc(offset + (size_t)last * x->size + (last == 0));
    if (!x->block)
        exit(3);
    x->at = x->block + offset;
    memset(x->at, 0xa5, (size_t)last * x->size);
}

static size_t matrix_index(const matrix *x, int64_t i, int64_t j)
{
    return (size_t)(x->transposed ? j * x->ld + i : i * x->ld + j);
}

static double matrix_get(const matrix *x, int64_t i, int64_t j)
{
    const char *p = (const char *)x->at + matrix_index(x, i, j) * x->size;
    uint32_t bits = 0;
    float f;
    uint16_t half;
    if (x->dtype == CADFTK_F32) {
        memcpy(&f, p, 4);
        return (double)f;
    }
    memcpy(&half, p, 2);
    bits = (uint32_t)half << 16;
    memcpy(&f, &bits, 4);
    return (double)f;
}

static void matrix_set(const matrix *x, int64_t i, int64_t j, float f)
{
    char *p = (char *)x->at + matrix_index(x, i, j) * x->size;
    uint32_t bits;
    uint16_t half;
    memcpy(&bits, &f, 4);
    half = (uint16_t)(bits >> 16);
    memcpy(p, x->size == 4 ? (void *)&bits : (void *)&half, x->size);
}

static void matrix_fill(const matrix *x)
{
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->columns; j++)
            matrix_set(x, i, j, random_float());
}

enum { BIAS_NONE, BIAS_F32, BIAS_BF16, BIASES };

typedef struct product {
    int64_t m, n, k;
    int bias_kind, accumulate;
    matrix a, b, bias, before; /* before: C as it was */
} product;

static void product_open(product *p, int b_dtype)
{
    matrix_open(&p->a, p->m, p->k, (int)random_below(2), CADFTK_F32);
    matrix_open(&p->b, p->k, p->n, (int)random_below(2), b_dtype);
    matrix_open(&p->bias, 1, p->n, 0,
                p->bias_kind == BIAS_BF16 ? CADFTK_BF16 : CADFTK_F32);
    matrix_open(&p->before, p->m, p->n, 0, CADFTK_F32);
    matrix_fill(&p->a);
    matrix_fill(&p->b);
    matrix_fill(&p->bias);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            matrix_set(&p->before, i, j, p->accumulate ? random_float() : NAN);
}

static void product_close(product *p)
{
    free(p->a.block);
    free(p->b.block);
    free(p->bias.block);
    free(p->before.block);
}

/* Stands for the CBLAS engine. */
static const cadftk_table blas_table = {.name = "cblas"};

static int is_blas(const cadftk_table *t)
{
    return t == &blas_table;
}

/* Rows [m0, m0 + m) and columns [n0, n0 + n) of the product, into c. */
static void run_part(const cadftk_table *t,
                     const product *p,
                     const crew *team,
                     int64_t m0,
                     int64_t m,
                     int64_t n0,
                     int64_t n,
                     float *c,
                     int64_t ldc)
{
    cadft__matmul_args g = {.m = m,
                            .n = n,
                            .k = p->k,
                            .c = c,
                            .ldc = ldc,
                            .lda = p->a.ld,
                            .ldb = p->b.ld,
                            .a_transposed = p->a.transposed,
                            .b_transposed = p->b.transposed,
                            .b_dtype = p->b.dtype,
                            .bias_dtype = p->bias.dtype,
                            .accumulate = p->accumulate};
    g.a = (const float *)p->a.at + matrix_index(&p->a, m0, 0);
    g.b = (const char *)p->b.at + matrix_index(&p->b, 0, n0) * p->b.size;
    if (p->bias_kind)
        g.bias = (const char *)p->bias.at + (size_t)n0 * p->bias.size;
    int32_t workers = team->host.max_workers;
    uint64_t bytes = is_blas(t) ? cadft__matmul_cblas_scratch(&g, workers)
                                : cadft__matmul_scratch(t, &g, workers);
    if (bytes > (uint64_t)workers << 21) {
        printf("FAIL scratch of %llu bytes\n", (unsigned long long)bytes);
        failures++;
    }
    void *scratch = aligned_alloc(64, bytes ? (size_t)bytes : 64);
    if (!scratch)
        exit(3);
    memset(scratch, 0xff, (size_t)bytes); /* NaNs, should any be read */
    if (is_blas(t)
            ? cadft__matmul_cblas(cblas_engine(), &g, &team->host, scratch)
            : cadft__matmul(t, &g, &team->host, scratch))
        failures++;
    free(scratch);
}

static void
describe(const cadftk_table *t, const product *p, const char *what, double x)
{
    if (failures++ < 20)
        printf("FAIL %s: %s: %lld %lld %lld %c%c %s bias %d accumulate %d "
               "ld %lld %lld: %g\n",
               t->name, what, (long long)p->m, (long long)p->n, (long long)p->k,
               p->a.transposed ? 'T' : 'N', p->b.transposed ? 'T' : 'N',
               p->b.dtype ? "bf16" : "f32", p->bias_kind, p->accumulate,
               (long long)p->a.ld, (long long)p->b.ld, x);
}

/* ---------------------------------------------------------------- bounds */

/* Roundings that one product passes: its chain, the sums of blocks, bias and
 * C; and the product's own where it is not fused. Each is at most 2^-24 of
 * what the magnitudes sum to. */
static double bound(const cadftk_table *t, const product *p, double magnitude)
{
    int64_t depth = cadft__matmul_depth(p->k);
    int64_t blocks = depth ? (p->k + depth - 1) / depth : 0;
    if (is_blas(t)) /* in any order */
        depth = p->k;
    double steps = (double)(depth + blocks + 2);
    steps += strcmp(t->name, "c") == 0;
    return steps * 0x1p-24 * 1.001 * magnitude;
}

static void check_values(const cadftk_table *t,
                         const product *p,
                         const float *c,
                         int64_t ldc)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = p->accumulate ? matrix_get(&p->before, i, j) : 0.0;
            double magnitude = fabs(sum);
            if (p->bias_kind) {
                double b = matrix_get(&p->bias, 0, j);
                sum += b;
                magnitude += fabs(b);
            }
            for (int64_t k = 0; k < p->k; k++) {
                double x = matrix_get(&p->a, i, k) * matrix_get(&p->b, k, j);
                sum += x;
                magnitude += fabs(x);
            }
            double error = fabs((double)c[i * ldc + j] - sum);
            double most = bound(t, p, magnitude);
            if (!(error <= most))
                describe(t, p, "beyond the bound", error);
            if (most > 0.0 && error / most > worst)
                worst = error / most;
        }
}

/* C of the whole product, its rows `gap` apart and canaries around them. */
static float *run_whole(const cadftk_table *t,
                        const product *p,
                        const crew *team,
                        int64_t gap)
{
    int64_t ldc = p->n + gap;
    size_t count = (size_t)(gap + p->m * ldc), at = 0;
    float *block = malloc((count + 1) * sizeof *block);
    if (!block)
        exit(3);
    memset(block, 0xa5, count * sizeof *block);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            block[gap + i * ldc + j] = (float)matrix_get(&p->before, i, j);
    run_part(t, p, team, 0, p->m, 0, p->n, block + gap, ldc);
    for (int64_t i = -1; i < p->m; i++, at += (size_t)p->n)
        for (int64_t j = 0; j < gap; j++, at++) {
            uint32_t bits;
            memcpy(&bits, block + at, 4);
            if (bits != 0xa5a5a5a5u)
                describe(t, p, "canary overwritten", (double)i);
        }
    memmove(block, block + gap, (count - (size_t)gap) * sizeof *block);
    return block;
}

static int
same(const product *p, const float *x, int64_t ldx, const float *y, int64_t ldy)
{
    for (int64_t i = 0; i < p->m; i++)
        if (p->n && memcmp(x + i * ldx, y + i * ldy, (size_t)p->n * 4) != 0)
            return 0;
    return 1;
}

/* A part of C computed alone has the bits it has in the whole. */
static void check_part(const cadftk_table *t,
                       const product *p,
                       const float *c,
                       int64_t ldc,
                       int64_t m0,
                       int64_t m)
{
    int64_t n0 = random_below(p->n), n = 1 + random_below(p->n - n0);
    float *part = malloc((size_t)(m * n) * sizeof *part);
    if (!part)
        exit(3);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            part[i * n + j] = (float)matrix_get(&p->before, m0 + i, n0 + j);
    run_part(t, p, &crews[random_below(CREWS)], m0, m, n0, n, part, n);
    for (int64_t i = 0; i < m; i++)
        if (memcmp(part + i * n, c + (m0 + i) * ldc + n0, (size_t)n * 4) != 0)
            describe(t, p, "a part differs from the whole", (double)(m0 + i));
    free(part);
}

/* The same matrix stored the other way. */
static matrix restored(const matrix *x)
{
    matrix y;
    matrix_open(&y, x->rows, x->columns, !x->transposed, x->dtype);
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->columns; j++)
            matrix_set(&y, i, j, (float)matrix_get(x, i, j));
    return y;
}

static void check_storage(const cadftk_table *t,
                          const product *p,
                          const float *c,
                          int64_t ldc)
{
    product other = *p;
    other.a = restored(&p->a);
    other.b = restored(&p->b);
    float *d = run_whole(t, &other, &crews[0], 3);
    if (!same(p, c, ldc, d, p->n + 3))
        describe(t, p, "stored the other way, other bits", 0.0);
    free(d);
    free(other.a.block);
    free(other.b.block);
}

static void check_product(const cadftk_table *t, product *p, int b_dtype)
{
    int64_t gap = 1 + random_below(20), ldc = p->n + gap;
    product_open(p, b_dtype);
    float *c = run_whole(t, p, &crews[0], gap);
    check_values(t, p, c, ldc);
    for (int i = 1; i < CREWS; i++) {
        float *d = run_whole(t, p, &crews[i], gap);
        if (!same(p, c, ldc, d, ldc))
            describe(t, p, "other workers, other bits", (double)i);
        free(d);
    }
    if (p->m && p->n && !is_blas(t)) { /* whose bits depend on the shape */
        int64_t m0 = random_below(p->m);
        check_part(t, p, c, ldc, m0, 1);
        check_part(t, p, c, ldc, m0, 1 + random_below(p->m - m0));
        check_storage(t, p, c, ldc);
    }
    free(c);
    product_close(p);
}

static void check_products(const cadftk_table *t, int quick)
{
    static const int64_t sizes[] = {0,  1,  2,  3,  4,  5,   6,   7,
                                    8,  12, 13, 15, 16, 17,  24,  31,
                                    32, 33, 47, 64, 65, 100, 129, 241};
    static const int64_t depths[] = {0,  1,  2,   3,   4,   5,   7,   8,
                                     9,  15, 16,  17,  31,  32,  33,  63,
                                     65, 96, 383, 384, 385, 400, 769, 1153};
    static const product large[] = {
        {.m = 250, .n = 530, .k = 400},  {.m = 500, .n = 33, .k = 390},
        {.m = 7, .n = 1100, .k = 300},   {.m = 3, .n = 700, .k = 1537},
        {.m = 1, .n = 5003, .k = 576},   {.m = 40, .n = 50, .k = 5000},
        {.m = 2, .n = 20, .k = 100000},  {.m = 1300, .n = 17, .k = 100},
        {.m = 242, .n = 1050, .k = 900},
    };
    int count = quick ? 600 : 4000;
    for (int i = 0; i < count; i++) {
        product p = {.m = sizes[random_below(24)],
                     .n = sizes[random_below(24)],
                     .k = depths[random_below(24)],
                     .bias_kind = (int)random_below(BIASES),
                     .accumulate = (int)random_below(2)};
        if (p.m * p.n * p.k < 4000000)
            check_product(t, &p, (int)random_below(2));
    }
    for (size_t i = 0; i < sizeof large / sizeof *large - (quick != 0); i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            product p = large[i];
            p.bias_kind = (int)random_below(BIASES);
            p.accumulate = (int)random_below(2);
            check_product(t, &p, dtype);
        }
}

/* A NaN or inf shows in its own row or column, and nowhere else. */
static void check_nonfinite(const cadftk_table *t)
{
    static const float bad[] = {NAN, INFINITY};
    for (int i = 0; i < 200; i++) {
        product p = {.m = 1 + random_below(20),
                     .n = 1 + random_below(40),
                     .k = 1 + random_below(500),
                     .accumulate = (int)random_below(2)};
        product_open(&p, (int)random_below(2));
        int in_b = (int)random_below(2);
        int64_t row = random_below(p.m), k = random_below(p.k);
        int64_t column = random_below(p.n);
        if (in_b)
            matrix_set(&p.b, k, column, bad[i & 1]);
        else
            matrix_set(&p.a, row, k, bad[i & 1]);
        float *c = run_whole(t, &p, &crews[1], 2);
        for (int64_t r = 0; r < p.m; r++)
            for (int64_t j = 0; j < p.n; j++) {
                float x = c[r * (p.n + 2) + j];
                /* inf * 0 is a NaN, not finite either */
                if ((in_b ? j == column : r == row) == (isfinite(x) != 0))
                    describe(t, &p, "NaN or inf astray", (double)x);
            }
        free(c);
        product_close(&p);
    }
}

/* ---------------------------------------------------------------- digest */

static uint64_t
digest_of(const cadftk_table *t, int64_t m, int64_t n, int64_t k, int dtype)
{
    uint64_t h = 0xcbf29ce484222325u;
    random_state = 42;
    for (int i = 0; i < 4; i++) {
        product p = {
            .m = m, .n = n, .k = k, .bias_kind = i & 1, .accumulate = i / 2};
        product_open(&p, dtype);
        float *c = run_whole(t, &p, &crews[1], 1);
        for (int64_t r = 0; r < m; r++) {
            const unsigned char *row = (unsigned char *)(c + r * (n + 1));
            for (size_t b = 0; b < (size_t)n * 4; b++)
                h = (h ^ row[b]) * 0x100000001b3u;
        }
        free(c);
        product_close(&p);
    }
    return h;
}

static int golden_has(const char *path, const char *line)
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

static void check_digest(const cadftk_table *t, const char *golden, int print)
{
    static const int64_t sizes[][3] = {
        {1, 70, 576},  {2, 33, 769},  {4, 50, 100},    {5, 17, 3},
        {13, 65, 385}, {64, 96, 896}, {130, 40, 1025}, {300, 20, 400},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int dtype = 0; dtype < 2; dtype++) {
            const int64_t *s = sizes[i];
            char line[128];
            snprintf(line, sizeof line, "%lld %lld %lld %s %016llx",
                     (long long)s[0], (long long)s[1], (long long)s[2],
                     dtype ? "bf16" : "f32",
                     (unsigned long long)digest_of(t, s[0], s[1], s[2], dtype));
            if (print)
                puts(line);
            if (golden && !golden_has(golden, line)) {
                printf("%s: digest differs: %s\n", t->name, line);
                failures++;
            }
        }
}

/* ------------------------------------------------------------------ main */

static int32_t run_pool(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    cadft__pool_run(((crew *)user)->pool, n, fn, task);
    return CADFT_OK;
}

void crew_open(crew *team, int32_t workers)
{
    memset(team, 0, sizeof *team);
    cadft__memory_init(&team->memory, NULL);
    if (cadft__pool_create(&team->memory, workers, &team->pool, NULL))
        exit(3);
    team->host.user = team;
    team->host.max_workers = workers;
    team->host.parallel_for = run_pool;
}

void crew_close(crew *team)
{
    cadft__pool_destroy(&team->memory, team->pool);
}

typedef struct options {
    uint64_t seed;
    const char *isa, *golden;
    int print_digest, quick, bench;
    bench_options how;
} options;

static options parse(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL),
                 .how = {.threads = 2, .rounds = 7}};
    int64_t sizes[3] = {0};
    const argument list[] = {
        {"--seed", .seed = &o.seed},
        {"--isa", .text = &o.isa},
        {"--golden", .text = &o.golden},
        {"--print-digest", .flag = &o.print_digest},
        {"--bench", .flag = &o.bench},
        {"--quick", .flag = &o.quick},
        {"--threads", .number = &o.how.threads},
        {"--rounds", .number = &o.how.rounds},
    };
    arguments_read(argc, argv, list, sizeof list / sizeof *list, sizes, 3);
    o.how.m = sizes[0];
    o.how.n = sizes[1];
    o.how.k = sizes[2];
    return o;
}

static void check_table(const cadftk_table *t, const options *o)
{
    int fused = strcmp(t->name, "c") != 0 && !is_blas(t);
    if (o->print_digest || (fused && o->golden))
        check_digest(t, fused ? o->golden : NULL, o->print_digest);
    if (o->print_digest)
        return;
    random_state = o->seed;
    worst = 0.0;
    check_products(t, o->quick);
    if (!is_blas(t))
        check_nonfinite(t);
    printf("%-6s worst error %.3f of its bound\n", t->name, worst);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    const cadftk_table *tables[CADFT__ISA_MAX];
    size_t count = cadft__isa_list(tables);
    printf("seed %llu\n", (unsigned long long)o.seed);
    if (o.isa && !cadft__isa_pick(o.isa)) {
        printf("no ISA %s here\n", o.isa);
        return 2;
    }
    if (o.bench) {
        matmul_bench(cadft__isa_pick(o.isa), &o.how);
        return 0;
    }
    for (int i = 0; i < CREWS; i++)
        crew_open(&crews[i], crew_workers[i]);
    for (size_t i = 0; i < count; i++)
        if (!o.isa || strcmp(o.isa, tables[i]->name) == 0)
            check_table(tables[i], &o);
    if (cblas_engine() && !o.isa)
        check_table(&blas_table, &o);
    for (int i = 0; i < CREWS; i++)
        crew_close(&crews[i]);
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
