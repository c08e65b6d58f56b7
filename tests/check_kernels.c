/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel comparer: every kernel of every usable ISA against a long double
 * reference, over dtypes, lengths, alignments, padded rows with canaries and
 * the inputs of row_fill(); fused ISAs bit for bit against each other.
 *
 *   check_kernels [--seed N] [--isa NAME] [--golden FILE] [--quick]
 *                 [--print-digest] [--bench [ROWS COLUMNS]]
 *
 * --golden compares the fused ISAs with tests/kernels_digest.txt. Exit 1 when
 * a bound is broken. Without the build system:
 *   for each ISA: cc -std=c11 -O3 -ffp-contract=off -Ilib -DCADFTK_ISA=avx2
 *     -DCADFTK_LANES_AVX2 -mavx2 -mfma -mf16c -c lib/cpu/kernels/?*.c
 *   cc -std=c11 -O2 -Ilib -Itests -DCADFTK_HAVE_AVX2 tests/check_kernels*.c
 *     lib/cpu/isa.c *.o -lm
 */
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"

/* The documented bounds. */
#define REST_REL 4e-7     /* sum_rest, relative, plus REST_FAR, REST_ABS */
#define REST_FAR 1.4e-8   /* per nat below the maximum: stats.rate */
#define REST_ABS 1e-37    /* terms below are flushed */
#define ENTROPY_REL 5e-7  /* H, plus the same */
#define GRAD_REL 5e-7     /* of the entry, plus half an ulp of the output */
#define GRAD_FAR 1.5e-8   /* and this per nat below lse */
#define GRAD_BF16 0x1p-14 /* the same from bf16 to bf16, c = 0, no soft-cap */
#define SOFTCAP_REL 2e-15
#define SUM_Z_REL 1e-12 /* of the sum of |z| */
#define EXP_REL 2e-7    /* float32 kernel exp */

typedef struct worst {
    double rest, z, entropy, sum_z, grad, grad_row, exp;
} worst;

static int failures;
static worst seen;

static void fail(const cadftk_table *t, const char *what, double value)
{
    if (failures++ < 20)
        printf("FAIL %s: %s (%g)\n", t->name, what, value);
}

static void raise_to(double *worst_seen, double x)
{
    if (!(x <= *worst_seen)) /* a NaN stays */
        *worst_seen = x;
}

/* One row under test: exactly its own allocation, so that a sanitizer sees a
 * read beside it; the output between canaries. */
typedef struct bed {
    const cadftk_table *t;
    int kind, dtype;
    int64_t n, label;
    double cap;
    unsigned char *block; /* malloc'ed */
    unsigned char *z;     /* [n], ends where block ends */
    unsigned char *out;   /* canary, [n] float or less, canary */
    double *g, *soft;
} bed;

#define CANARY 64

static int bed_open(bed *b, rng *r)
{
    size_t size = dtype_bytes(b->dtype), n = (size_t)b->n;
    size_t offset = size * (size_t)rng_below(r, 16);
    b->block = malloc(offset + n * size + 1);
    b->out = malloc(4 * n + 4 * CANARY);
    b->g = malloc((n + 1) * sizeof *b->g);
    b->soft = malloc((n + 1) * sizeof *b->soft);
    if (!b->block || !b->out || !b->g || !b->soft)
        return 0;
    b->z = b->block + offset;
    row_fill(b->kind, b->dtype, b->z, b->n, r);
    return 1;
}

static void bed_close(bed *b)
{
    free(b->block);
    free(b->out);
    free(b->g);
    free(b->soft);
}

static void describe(const bed *b, const char *what, double x)
{
    char line[160];
    snprintf(line, sizeof line, "%s: row %s %s n %lld label %lld cap %g", what,
             row_name[b->kind], dtype_name[b->dtype], (long long)b->n,
             (long long)b->label, b->cap);
    fail(b->t, line, x);
}

/* Relative to the reference, with an absolute floor; -1 flags a mismatch of
 * infinities or NaN. */
static double relative(long double got, long double want, double floor_abs)
{
    if (isnan(got) || isnan(want) || isinf(got) || isinf(want))
        return got == want ? 0.0 : INFINITY;
    long double d = fabsl(got - want) - (long double)floor_abs;
    return d <= 0.0L ? 0.0 : (double)(d / (fabsl(want) + 1e-4000L));
}

/* Against what the kernel's own base makes of the row. */
static void check_rest(const bed *b, const cadftk_row_stats *s)
{
    double rate = s->rate > 0.0 ? s->rate : 1.0; /* 0: by float64 */
    long double want = reference_rest(b->dtype, b->z, b->n, b->cap, rate);
    double rest = relative((long double)s->sum_rest, want, REST_ABS);
    raise_to(&seen.rest, rest);
    if (rest > REST_REL)
        describe(b, "sum_rest at its rate", rest);
}

static void check_stats(const bed *b)
{
    ref_stats want = reference_stats(b->dtype, b->z, b->n, b->label, b->cap);
    for (uint32_t ask = 0; ask < 4; ask++) {
        cadftk_row_stats s;
        memset(&s, 0x55, sizeof s);
        b->t->row_stats[b->dtype](b->z, b->n, b->label, b->cap, ask, &s);
        if (want.nonfinite) {
            if (!isnan(s.z_max) || !isnan(s.sum_rest))
                describe(b, "NaN or +inf not reported", s.z_max);
            continue;
        }
        double far = REST_FAR * fmax(0.0, -log((double)want.sum_rest));
        double z_tol = b->cap > 0.0 ? SOFTCAP_REL : 0.0;
        double z = relative((long double)s.z_max, want.z_max, 0.0);
        raise_to(&z, relative((long double)s.z_label, want.z_label, 0.0));
        raise_to(&seen.z, z);
        if (z > z_tol)
            describe(b, "z_max or z_label", z);
        /* Ties of the soft-capped maximum shift every term by an ulp. */
        double rest =
            relative((long double)s.sum_rest, want.sum_rest, REST_ABS);
        if (rest > REST_REL + far || s.sum_rest < 0.0)
            describe(b, "sum_rest", rest);
        if (ask == 0)
            check_rest(b, &s);
        if (ask & CADFTK_WANT_ENTROPY) {
            long double h =
                log1pl((long double)s.sum_rest) +
                (long double)s.sum_t / (1 + (long double)s.sum_rest);
            double e = relative(h, want.entropy, 20 * REST_ABS);
            raise_to(&seen.entropy, e);
            if (e > ENTROPY_REL + far || s.sum_t < 0.0)
                describe(b, "entropy", e);
        } else if (s.sum_t != 0.0) {
            describe(b, "sum_t not asked for", s.sum_t);
        }
        if (ask & CADFTK_WANT_SUM) {
            double e = (double)(fabsl((long double)s.sum_z - want.sum_z) /
                                (want.abs_z + 1e-4000L));
            raise_to(&seen.sum_z, e);
            if (e > SUM_Z_REL || s.unmasked != want.unmasked)
                describe(b, "sum_z or unmasked", e);
        } else if (s.sum_z != 0.0 || s.unmasked != 0) {
            describe(b, "sum_z not asked for", s.sum_z);
        }
    }
}

/* Half an ulp of the output type at x, or what may be flushed to 0. */
static double half_ulp(int dtype, double x)
{
    static const int bits[] = {24, 8, 11};
    static const double least[] = {0x1p-125, 0x1p-125, 0x1p-25};
    return (x != 0.0 ? ldexp(1.0, ilogb(x) - bits[dtype]) : 0.0) + least[dtype];
}

static void
check_grad_row(const bed *b, const cadftk_row_grad *a, int out, const void *g)
{
    double largest = 0.0, worst_abs = 0.0;
    int coarse = b->dtype == CADFTK_BF16 && out == CADFTK_BF16 && a->c == 0.0 &&
                 b->cap == 0.0;
    for (int64_t j = 0; j < b->n; j++) {
        double got = (double)decode(out, g, j), want = b->g[j];
        double z = (double)decode(b->dtype, b->z, j);
        double error = fabs(got - want), tol = half_ulp(out, want);
        double far = b->cap > 0.0 ? fmin(fmax(z, -b->cap), b->cap) : z;
        far = isinf(far) ? 0.0 : fabs(a->lse - far);
        double rel = j == a->label ? 0.0 : GRAD_REL + GRAD_FAR * far;
        if (coarse) {
            rel = j == a->label ? 0.0 : GRAD_BF16;
            tol += 0x1p-123 * fmax(1.0, fabs(a->a));
        }
        if (out == CADFTK_F16 && fabs(want) > 65000.0)
            continue; /* may overflow, by contract */
        if (z == -INFINITY && j != a->label && (got != 0.0 || signbit(got)))
            describe(b, "masked column not +0", got);
        /* c rounds to float on its own */
        tol += rel * fabs(b->soft[j]) + 0x1p-22 * fabs(a->c);
        if (!(error <= tol))
            describe(b, "gradient", error);
        if (j != a->label && out == CADFTK_F32 && a->c == 0.0 &&
            fabs(b->soft[j]) > 1e-30)
            raise_to(&seen.grad, error / fabs(b->soft[j]));
        if (j != a->label) {
            raise_to(&largest, fabs(want));
            raise_to(&worst_abs, error);
        }
    }
    if (out == CADFTK_F32 && largest > 1e-30 && a->c == 0.0)
        raise_to(&seen.grad_row, worst_abs / largest);
}

static void check_grad_one(const bed *b, const cadftk_row_grad *a, int f32_out)
{
    int out = f32_out ? CADFTK_F32 : b->dtype;
    size_t size = dtype_bytes(out), n = (size_t)b->n;
    unsigned char *g = b->out + CANARY + size * (n % 7);
    size_t total = 4 * n + 4 * CANARY, head = (size_t)(g - b->out);
    for (int in_place = 0; in_place <= (out == b->dtype); in_place++) {
        memset(b->out, 0xa5, total);
        if (in_place)
            memcpy(g, b->z, n * size);
        b->t->row_grad[b->dtype][f32_out](in_place ? g : b->z, g, b->n, a);
        for (size_t i = 0; i < total; i++)
            if ((i < head || i >= head + n * size) && b->out[i] != 0xa5)
                describe(b, "canary overwritten", (double)i);
        check_grad_row(b, a, out, g);
    }
}

/* A NaN in one column gives a NaN there. */
static void check_grad_nan(const bed *b, const cadftk_row_grad *a, rng *r)
{
    size_t size = dtype_bytes(b->dtype), n = (size_t)b->n;
    int64_t j = rng_below(r, b->n);
    unsigned char *g = b->out + CANARY;
    float x = rng_below(r, 2) ? NAN : -NAN;
    memcpy(g, b->z, n * size);
    encode(b->dtype, g, j, x);
    if (b->dtype == CADFTK_BF16 && signbit(x))
        memcpy(g + 2 * (size_t)j, &(uint16_t){0xffc0}, 2);
    b->t->row_grad[b->dtype][0](g, g, b->n, a);
    if (j != a->label && a->a != 0.0 && !isnan(decode(b->dtype, g, j)))
        describe(b, "NaN lost", (double)decode(b->dtype, g, j));
}

static void check_grad(const bed *b, rng *r)
{
    static const double coefficient[] = {1.0, -0.37, 3e-7, 0.0, 65536.0, 2e-33};
    ref_stats s = reference_stats(b->dtype, b->z, b->n, b->label, b->cap);
    if (s.nonfinite || s.unmasked == 0)
        return;
    cadftk_row_grad a = {.a = coefficient[rng_below(r, 6)],
                         .c = rng_below(r, 3) ? 0.0 : 1e-3,
                         .label = b->label,
                         .softcap = b->cap};
    a.lse = (double)(s.z_max + log1pl(s.sum_rest));
    a.at_label = -0.7 * a.a;
    reference_grad(b->dtype, b->z, b->n, &a, b->g, b->soft);
    check_grad_one(b, &a, 0);
    check_grad_one(b, &a, 1);
    check_grad_nan(b, &a, r);
}

/* A row cut in two, each part with its own reference, says the same. */
static void check_shards(const bed *b, rng *r)
{
    cadftk_row_stats whole, part[2];
    if (b->n < 2 || b->kind >= ROW_FINITE)
        return;
    int64_t cut = 1 + rng_below(r, b->n - 1);
    size_t skip = (size_t)cut * dtype_bytes(b->dtype);
    cadftk_row_stats_fn *f = b->t->row_stats[b->dtype];
    f(b->z, b->n, -1, b->cap, 0, &whole);
    f(b->z, cut, -1, b->cap, 0, &part[0]);
    f(b->z + skip, b->n - cut, -1, b->cap, 0, &part[1]);
    if (isinf(whole.z_max))
        return;
    double top = fmax(part[0].z_max, part[1].z_max), sum = 0.0;
    for (int i = 0; i < 2; i++)
        if (!isinf(part[i].z_max))
            sum += (1.0 + part[i].sum_rest) * exp(part[i].z_max - top);
    double e =
        relative((long double)sum, 1.0L + (long double)whole.sum_rest, 0.0);
    double apart = fabs(top - whole.z_max), ulps = b->cap > 0.0 ? 2e-15 : 0.0;
    if (apart > ulps * fabs(top) || e > 3e-7)
        describe(b, "shards differ from the whole", e);
}

static void
check_row(const cadftk_table *t, int kind, int dtype, int64_t n, rng *r)
{
    static const double caps[] = {0.0, 0.0, 5.0, 30.0};
    bed b = {.t = t, .kind = kind, .dtype = dtype, .n = n};
    b.label = n > 0 && rng_below(r, 5) ? rng_below(r, n) : -1;
    b.cap = caps[rng_below(r, 4)];
    if (bed_open(&b, r)) {
        check_stats(&b);
        check_grad(&b, r);
        check_shards(&b, r);
    }
    bed_close(&b);
}

static void check_rows(const cadftk_table *t, uint64_t seed, int quick)
{
    static const int64_t more[] = {127, 128,  129,  511,  512,
                                   513, 1000, 4099, 50257};
    rng r = {seed};
    int count = quick ? 7 : 9;
    for (int kind = 0; kind < ROW_KINDS; kind++)
        for (int dtype = 0; dtype < CADFTK_DTYPES; dtype++) {
            for (int64_t n = 0; n <= 70; n++)
                check_row(t, kind, dtype, n, &r);
            for (int i = 0; i < count; i++)
                for (int k = 0; k < (more[i] > 5000 ? 1 : 3); k++)
                    check_row(t, kind, dtype, more[i], &r);
        }
}

/* The float32 exp over every stride-th float of [1, 2) and [-2, -1),
 * which take every reduced argument, and sparsely elsewhere. */
static void check_exp(const cadftk_table *t, int stride)
{
    cadftk_exp_probe_fn *probe = NULL;
    double base = (double)0x1.715476p+0f; /* log2 of the fused ISAs' base */
#ifdef CADFTK_HAVE_AVX2
    if (strcmp(t->name, "avx2") == 0)
        probe = cadftk_exp_probe_avx2;
#endif
#ifdef CADFTK_HAVE_AVX512
    if (strcmp(t->name, "avx512") == 0)
        probe = cadftk_exp_probe_avx512;
#endif
#ifdef CADFTK_HAVE_NEON
    if (strcmp(t->name, "neon") == 0)
        probe = cadftk_exp_probe_neon;
#endif
    if (strcmp(t->name, "c") == 0) {
        probe = cadftk_exp_probe_c;
        base = 0x1.71547652b82fep+0;
    }
    enum { CHUNK = 1024 };
    static float z[CHUNK];
    static double e[CHUNK];
    /* the last one stays within 2^-126 of its reference */
    static const float from[] = {1.0f, -1.0f, 0x1p-20f, 60.0f, -256.0f};
    static const uint32_t span[] = {1 << 23, 1 << 23, 1 << 23, 1 << 23,
                                    1 << 20};
    for (int k = 0; k < 5; k++)
        for (uint32_t i = 0; i + CHUNK * (uint32_t)stride <= span[k];
             i += (uint32_t)stride * CHUNK) {
            uint32_t u;
            memcpy(&u, &from[k], 4);
            for (uint32_t j = 0; j < CHUNK; j++) {
                uint32_t v = u + i + j * (uint32_t)stride;
                memcpy(&z[j], &v, 4);
            }
            probe(z, e, CHUNK, (double)from[k]);
            long double shift = rintl((long double)from[k] * base);
            for (int j = 0; j < CHUNK; j++) {
                long double x = (long double)z[j] * base - shift;
                double err = relative((long double)e[j], exp2l(x), 0.0);
                raise_to(&seen.exp, err);
            }
        }
    if (!(seen.exp <= EXP_REL))
        fail(t, "float32 exp", seen.exp);
}

/* All but `c` promise the same bits. */
static int fused(const cadftk_table *t)
{
    return strcmp(t->name, "c") != 0;
}

typedef struct options {
    uint64_t seed;
    const char *isa, *golden;
    int print_digest, quick, bench;
    int64_t sizes[2]; /* of --bench: rows, columns */
} options;

static options parse(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL), .sizes = {2048, 49152}};
    const argument list[] = {
        {"--seed", .seed = &o.seed},
        {"--isa", .text = &o.isa},
        {"--golden", .text = &o.golden},
        {"--print-digest", .flag = &o.print_digest},
        {"--bench", .flag = &o.bench},
        {"--quick", .flag = &o.quick},
    };
    arguments_read(argc, argv, list, sizeof list / sizeof *list, o.sizes, 2);
    return o;
}

static void check_table(const cadftk_table *t, const options *o)
{
    if (o->bench) {
        bench(t, o->sizes[0], o->sizes[1], 7);
        return;
    }
    memset(&seen, 0, sizeof seen);
    if (o->print_digest || fused(t))
        failures +=
            check_digest(t, fused(t) ? o->golden : NULL, o->print_digest);
    if (o->print_digest)
        return;
    check_exp(t, o->quick ? 1009 : 7);
    check_rows(t, o->seed, o->quick);
    printf("%-6s worst: exp %.2e; sum_rest %.1e (bound %.0e; "
           "as computed, %.1e per nat more); z %.1e; entropy %.1e (%.0e and "
           "the same); sum_z "
           "%.1e; gradient %.1e of the entry, "
           "%.1e of the row's largest\n",
           t->name, seen.exp, seen.rest, REST_REL, REST_FAR, seen.z,
           seen.entropy, ENTROPY_REL, seen.sum_z, seen.grad, seen.grad_row);
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
    for (size_t i = 0; i < count; i++)
        if (!o.isa || strcmp(o.isa, "auto") == 0 ||
            strcmp(o.isa, tables[i]->name) == 0)
            check_table(tables[i], &o);
    for (size_t i = 1; i < count && !o.isa && !o.bench; i++)
        if (fused(tables[i - 1]) && fused(tables[i]))
            failures += !same_digest(tables[i - 1], tables[i]);
    if (cadft__isa_pick("no such") || cadft__isa_pick(NULL) != tables[0])
        failures++;
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
