/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The attention comparer: the slots attention and attention_grad of a context
 * against float64, with NaN around what may be read and canaries around what
 * may be written; decoding against the full pass, numbers of workers, and the
 * built-in backend's instruction sets bit for bit.
 *
 *   check_attention [--seed N] [--isa NAME] [--backend PATH] [--quick]
 *                   [--golden FILE] [--digest-only] [--print-digest]
 *                   [--bench [SHAPE]]
 *
 * --backend drives another backend by the same cases; --golden compares the
 * fused instruction sets with tests/attention_digest.txt, --digest-only does
 * nothing else, which is what an emulator has the time for. Exit 1 when a bound
 * is broken.
 */
#include "check_attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "cpu/isa.h"

static const float canary = 7777.25f;

static int failures;
static double worst_seen; /* largest error over its bound */

static void fail(const char *what, double value)
{
    if (failures++ < 20)
        printf("FAIL %s (%g)\n", what, value);
}

static void fail_shape(const attention_shape *s, const char *what, double value)
{
    char line[200];
    snprintf(line, sizeof line,
             "%s: heads %lld/%lld dim %lld window %lld, %lld sequences", what,
             (long long)s->heads, (long long)s->kv_heads, (long long)s->dim,
             (long long)s->window, (long long)s->sequences);
    fail(line, value);
}

/* Cells with a bound above 0 against the reference, the others canaries. */
static void check_array(const attention_shape *s,
                        const char *what,
                        const float *got,
                        const double *want,
                        const double *bound,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (bound[i] <= 0) {
            if (memcmp(got + i, &canary, sizeof canary))
                fail_shape(s, "canary overwritten", (double)i);
            continue;
        }
        if (!(error <= bound[i]))
            fail_shape(s, what, error / bound[i]);
        if (!(error / bound[i] <= worst_seen))
            worst_seen = error / bound[i];
    }
}

static void compare(const attention_shape *s, const attention_data *d, int grad)
{
    attention_reference ref;
    if (!attention_reference_make(s, d, grad, &ref)) {
        fail("no memory", 0);
        return;
    }
    check_array(s, "out", d->out, ref.out, ref.out_bound,
                attention_cells(s->rows, s->out_stride));
    check_array(s, "lse", d->lse, ref.lse, ref.lse_bound,
                attention_cells(s->rows, s->heads));
    check_array(s, "grad_q", d->grad_q, ref.grad_q, ref.grad_q_bound,
                attention_cells(s->rows, s->q_stride));
    check_array(s, "grad_k", d->grad_k, ref.grad_k, ref.grad_k_bound,
                attention_cells(s->key_rows, s->k_stride));
    check_array(s, "grad_v", d->grad_v, ref.grad_v, ref.grad_v_bound,
                attention_cells(s->key_rows, s->v_stride));
    attention_reference_free(&ref);
}

static const int64_t mixed[] = {64, 1, 200, 2, 65, 63, 300};

/* One shape, both directions. */
static void check_shape(cadft_context *context,
                        const attention_shape *s,
                        double spread,
                        attention_rng *r)
{
    attention_data d;
    if (!attention_fill(s, spread, r, &d))
        fail("no memory", 0);
    else if (attention_run(context, s, &d, 1, canary))
        fail_shape(s, "refused", 0);
    else
        compare(s, &d, 1);
    attention_free(&d);
}

/* Queries that follow keys of an earlier call. */
static void
check_cached(cadft_context *context, const attention_shape *s, attention_rng *r)
{
    attention_data d;
    if (!attention_fill(s, 1, r, &d))
        fail("no memory", 0);
    else if (attention_run(context, s, &d, 1, canary))
        fail_shape(s, "refused", 0);
    else
        compare(s, &d, 1);
    attention_free(&d);
}

static void check_values(cadft_context *context, attention_rng *r, int quick)
{
    static const int64_t dims[] = {1, 7, 16, 24, 64, 80, 128, 250, 256};
    static const int64_t windows[] = {0, 1, 5, 64, 100};
    static const int64_t kept[] = {0, 5, 63, 64, 130, 700, 1};
    static const int64_t few[] = {3, 1, 0, 64, 7, 1, 150};
    int n = 0;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t w = 0; w < 5; w++, n++) {
            int64_t group = 1 + n % 4, kv = 1 + (n / 4) % 2;
            int64_t take = quick && dims[i] > 64 ? 5 : 7;
            attention_shape s =
                attention_make(mixed, NULL, take, group * kv, kv, dims[i],
                               windows[w], n % 3, 1 + n % 2);
            check_shape(context, &s, 1, r);
            if (quick && w % 2)
                continue;
            s = attention_make(few, kept, 7, group * kv, kv, dims[i],
                               windows[w], n % 3, 1 + n % 2);
            check_cached(context, &s, r);
        }
    for (int64_t group = 9; group < 250; group += 61) {
        static const int64_t counts[] = {17, 3};
        attention_shape s =
            attention_make(counts, NULL, 2, group, 1, 8, 0, 0, 0);
        check_shape(context, &s, 1, r);
    }
}

/* Scores over +-80: exp must neither overflow nor lose the largest. */
static void check_large(cadft_context *context, attention_rng *r)
{
    for (int64_t dim = 16; dim <= 64; dim += 48) {
        attention_shape s = attention_make(mixed, NULL, 7, 2, 1, dim, 0, 0, 0);
        check_shape(context, &s, 80, r);
        s.scale = 1;
        check_shape(context, &s, 80, r);
        s.scale = -0.3;
        check_shape(context, &s, 1, r);
    }
}

/* ------------------------------------------------------- bit for bit */

/* Every prefix a sequence was decoded by gives the rows of the full pass. */
static void check_decoding(cadft_context *context,
                           attention_rng *r,
                           int64_t group,
                           int64_t dim,
                           int64_t window)
{
    attention_shape full =
        attention_make(mixed, NULL, 7, 2 * group, 2, dim, window, 1, 1);
    attention_data a, b;
    if (!attention_fill(&full, 3, r, &a) ||
        attention_run(context, &full, &a, 0, canary))
        fail_shape(&full, "refused", 0);
    for (int round = 0; round < 8; round++) {
        int64_t counts[7], before[7];
        attention_shape part;
        for (int i = 0; i < 7; i++) {
            int64_t last = 1 + attention_below(r, mixed[i]);
            counts[i] = round < 4 ? 1 : 1 + attention_below(r, last);
            before[i] = last - counts[i];
        }
        part =
            attention_make(counts, before, 7, 2 * group, 2, dim, window, 1, 1);
        memcpy(part.k_first, full.k_first, sizeof part.k_first);
        part.key_rows = full.key_rows;
        if (!attention_fill(&part, 3, r, &b))
            fail("no memory", 0);
        memcpy(b.k, a.k,
               attention_cells(full.key_rows, full.k_stride) * sizeof *a.k);
        memcpy(b.v, a.v,
               attention_cells(full.key_rows, full.v_stride) * sizeof *a.v);
        for (int i = 0; i < 7; i++)
            memcpy(b.q + part.q_first[i] * part.q_stride,
                   a.q + (full.q_first[i] + before[i]) * full.q_stride,
                   (size_t)(counts[i] * full.q_stride) * sizeof *a.q);
        if (attention_run(context, &part, &b, 0, canary))
            fail_shape(&part, "refused", 0);
        for (int i = 0; i < 7; i++) {
            int64_t x = part.q_first[i], y = full.q_first[i] + before[i];
            size_t n = (size_t)counts[i];
            if (memcmp(b.out + x * part.out_stride, a.out + y * full.out_stride,
                       n * (size_t)full.out_stride * sizeof(float)) ||
                memcmp(b.lse + x * part.heads, a.lse + y * full.heads,
                       n * (size_t)full.heads * sizeof(float)))
                fail_shape(&part, "decoding differs from the full pass", i);
        }
        attention_free(&b);
    }
    attention_free(&a);
}

static uint64_t fnv(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return h;
}

/* Of everything a call writes. */
static uint64_t digest(cadft_context *context,
                       int64_t group,
                       int64_t dim,
                       int64_t window,
                       double spread)
{
    attention_shape s =
        attention_make(mixed, NULL, 7, 3 * group, 3, dim, window, 0, 0);
    attention_rng r = {42};
    attention_data d;
    uint64_t h = 0xcbf29ce484222325u;
    if (!attention_fill(&s, spread, &r, &d) ||
        attention_run(context, &s, &d, 1, canary))
        fail_shape(&s, "refused", 0);
    h = fnv(h, d.out, attention_cells(s.rows, s.out_stride) * 4);
    h = fnv(h, d.lse, attention_cells(s.rows, s.heads) * 4);
    h = fnv(h, d.grad_q, attention_cells(s.rows, s.q_stride) * 4);
    h = fnv(h, d.grad_k, attention_cells(s.key_rows, s.k_stride) * 4);
    h = fnv(h, d.grad_v, attention_cells(s.key_rows, s.v_stride) * 4);
    attention_free(&d);
    return h;
}

static const struct {
    int64_t group, dim, window;
    double spread;
} digests[] = {{1, 64, 0, 1},  {3, 64, 0, 8},  {2, 80, 100, 1},
               {4, 128, 0, 1}, {1, 7, 5, 100}, {2, 24, 64, 3}};

enum { DIGESTS = sizeof digests / sizeof *digests };

static void digest_all(cadft_context *context, uint64_t *h)
{
    for (int i = 0; i < DIGESTS; i++)
        h[i] = digest(context, digests[i].group, digests[i].dim,
                      digests[i].window, digests[i].spread);
}

static void digest_line(int i, uint64_t h, char *line, size_t size)
{
    snprintf(line, size, "attention group %d dim %d window %d %016llx",
             (int)digests[i].group, (int)digests[i].dim, (int)digests[i].window,
             (unsigned long long)h);
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

/* ------------------------------------------------- directional differences */

/* sum of grad_out out over the sequences' rows */
static double objective(const attention_shape *s, const attention_data *d)
{
    double sum = 0;
    for (int64_t i = 0; i < s->q_first[s->sequences]; i++)
        for (int64_t j = 0; j < s->heads * s->dim; j++)
            sum += (double)d->grad_out[i * s->out_stride + j] *
                   (double)d->out[i * s->out_stride + j];
    return sum;
}

/* The objective at x + h direction, x one of q, k, v. */
static double moved(cadft_context *context,
                    const attention_shape *s,
                    attention_data *d,
                    float *x,
                    const float *direction,
                    size_t n,
                    double h)
{
    float *keep = (float *)malloc(n * sizeof *keep);
    double f;
    memcpy(keep, x, n * sizeof *keep);
    for (size_t i = 0; i < n; i++)
        x[i] += (float)h * direction[i];
    if (attention_run(context, s, d, 0, canary))
        fail_shape(s, "refused", 0);
    f = objective(s, d);
    memcpy(x, keep, n * sizeof *keep);
    free(keep);
    return f;
}

/* Central differences of two steps, extrapolated: the error is of fourth
 * order in h = 1/32, and of rounding 1e-7 |f| / h. */
static void check_differences(cadft_context *context, attention_rng *r)
{
    static const int64_t counts[] = {70, 5, 33};
    attention_shape s = attention_make(counts, NULL, 3, 4, 2, 24, 40, 0, 0);
    attention_data d;
    size_t q = attention_cells(s.rows, s.q_stride);
    size_t k = attention_cells(s.key_rows, s.k_stride);
    float *direction = (float *)malloc(q * sizeof *direction);
    if (!direction || !attention_fill(&s, 1, r, &d))
        return;
    for (int which = 0; which < 3; which++) {
        float *x = which == 0 ? d.q : which == 1 ? d.k : d.v;
        size_t n = which == 0 ? q : k;
        const float *g = which == 0   ? d.grad_q
                         : which == 1 ? d.grad_k
                                      : d.grad_v;
        double want = 0, size = 0, one, two, h = 1.0 / 32;
        if (attention_run(context, &s, &d, 1, canary))
            fail_shape(&s, "refused", 0);
        for (size_t i = 0; i < n; i++) {
            direction[i] = attention_bell(r);
            want += (double)g[i] * (double)direction[i];
            size += pow((double)g[i] * (double)direction[i], 2);
        }
        one = moved(context, &s, &d, x, direction, n, h) -
              moved(context, &s, &d, x, direction, n, -h);
        two = moved(context, &s, &d, x, direction, n, 2 * h) -
              moved(context, &s, &d, x, direction, n, -2 * h);
        one = (8 * one - two) / (12 * h);
        if (!(fabs(one - want) <= 2e-4 * sqrt(size)))
            fail_shape(&s, "gradient differs from finite differences",
                       (one - want) / sqrt(size));
    }
    free(direction);
    attention_free(&d);
}

/* ------------------------------------------------------------- refusals */

static void expect(int32_t status, int32_t want, const char *what)
{
    if (status != want)
        fail(what, status);
}

static void check_refusals(cadft_context *context)
{
    cadft_error e = {sizeof e, 0, {0}};
    static const int64_t counts[] = {40, 3}, before[] = {0, 1};
    attention_shape s = attention_make(counts, before, 2, 4, 2, 8, 0, 0, 0);
    cadft_attention_args args = attention_sizes(&s);
    expect(cadft__device_attention(context, NULL, &args, &e), CADFT_E_NULL,
           "work that is absent is not refused");
    expect(cadft__device_attention_grad(context, NULL, &args, &e), CADFT_E_NULL,
           "work that is absent is not refused");
    args.kv_heads = 3;
    expect(cadft__device_attention(context, NULL, &args, &e), CADFT_E_SHAPE,
           "heads that kv_heads do not divide are not refused");
    args.kv_heads = 2;
    args.head_dim = 257;
    expect(cadft__device_attention(context, NULL, &args, &e),
           CADFT_E_UNSUPPORTED, "head_dim 257 is not refused");
    s.k_count[0] = 39;
    args.head_dim = 8;
    expect(cadft__device_attention(context, NULL, &args, &e), CADFT_E_SHAPE,
           "fewer keys than queries are not refused");
}

/* Scratch never falls when there are more rows, a longer sequence, or more
 * sequences; nor when the same rows are divided otherwise. */
static void check_work(cadft_context *context)
{
    for (int32_t op = CADFT_OP_ATTENTION; op <= CADFT_OP_ATTENTION_GRAD; op++) {
        uint64_t last = 0;
        for (int64_t rows = 4; rows < 3000; rows += 124) {
            int64_t one[] = {rows}, parts[] = {rows / 4, rows / 4, rows / 2, 0};
            attention_shape s = attention_make(one, NULL, 1, 9, 3, 64, 0, 0, 0);
            cadft_attention_args args = attention_sizes(&s);
            uint64_t bytes = cadft__device_work_bytes(context, op, &args);
            if (bytes < last)
                fail("scratch falls with the rows", (double)rows);
            last = bytes;
            parts[3] = rows - parts[0] - parts[1] - parts[2];
            s = attention_make(parts, NULL, 4, 9, 3, 64, 0, 0, 0);
            args = attention_sizes(&s);
            if (cadft__device_work_bytes(context, op, &args) < bytes)
                fail("scratch falls with the sequences", (double)rows);
        }
    }
}

/* All cases that any backend must pass. */
static void check_attention(cadft_context *context,
                            const char *label,
                            uint64_t seed,
                            int quick)
{
    attention_rng r = {seed};
    worst_seen = 0;
    check_values(context, &r, quick);
    check_large(context, &r);
    for (int64_t group = 1; group <= 4; group++) {
        check_decoding(context, &r, group, 64, 0);
        check_decoding(context, &r, group, 17 * group, group * group * 10);
    }
    check_differences(context, &r);
    check_refusals(context);
    check_work(context);
    printf("%-8s largest error %.2f of its bound\n", label, worst_seen);
}

/* ------------------------------------------------------------------ main */

typedef struct options {
    uint64_t seed;
    const char *isa, *backend, *golden;
    int quick, print_digest, digest_only, bench;
    int64_t shape; /* of --bench, 0 for any */
} options;

static cadft_context *
open_context(const options *o, const char *isa, int32_t threads)
{
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .n_threads = threads,
                               .backend = o->backend,
                               .backend_options = isa};
    cadft_error error = {sizeof error, 0, {0}};
    cadft_context *context = NULL;
    if (cadft_context_create(&desc, &context, &error)) {
        printf("%s\n", error.message);
        exit(1);
    }
    return context;
}

static void check_one(const options *o, const char *isa, uint64_t *h)
{
    static const int32_t workers[] = {1, 2, 7};
    cadft_context *context = open_context(o, isa, 2);
    const char *label = isa ? isa : "backend";
    if (!o->digest_only)
        check_attention(context, label, o->seed, o->quick);
    cadft_context_destroy(context);
    for (int i = 0; i < (o->digest_only ? 1 : 3); i++) {
        uint64_t other[DIGESTS];
        context = open_context(o, isa, workers[i]);
        digest_all(context, i ? other : h);
        if (i && memcmp(h, other, sizeof other))
            fail("bits depend on the number of workers", workers[i]);
        cadft_context_destroy(context);
    }
}

/* The instruction sets with a fused multiply-add against each other. */
static void check_isas(const options *o)
{
    const cadftk_table *tables[CADFT__ISA_MAX];
    size_t count = cadft__isa_list(tables);
    uint64_t first[DIGESTS], h[DIGESTS];
    int have = 0;
    for (size_t i = 0; i < count; i++) {
        const char *isa = tables[i]->name;
        int fused = strcmp(isa, "c") != 0;
        if (o->isa && strcmp(o->isa, isa) != 0)
            continue;
        check_one(o, isa, h);
        for (int k = 0; k < DIGESTS && fused; k++) {
            char line[128];
            digest_line(k, h[k], line, sizeof line);
            if (o->print_digest)
                puts(line);
            if (o->golden && !golden_has(o->golden, line))
                fail(line, k);
        }
        if (fused && have && memcmp(first, h, sizeof h))
            fail("instruction sets differ", (double)i);
        if (fused && !have++)
            memcpy(first, h, sizeof h);
    }
}

static void bench(const options *o)
{
    for (int32_t threads = 1; threads <= 2; threads++) {
        char label[32];
        cadft_context *context = open_context(o, o->isa, threads);
        snprintf(label, sizeof label, "%d thread%s", threads,
                 threads > 1 ? "s" : "");
        attention_bench(context, label, (int)o->shape);
        cadft_context_destroy(context);
    }
}

int main(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL)};
    const argument list[] = {
        {"--seed", .seed = &o.seed},
        {"--isa", .text = &o.isa},
        {"--golden", .text = &o.golden},
        {"--print-digest", .flag = &o.print_digest},
        {"--bench", .flag = &o.bench},
        {"--quick", .flag = &o.quick},
        {"--backend", .text = &o.backend},
        {"--digest-only", .flag = &o.digest_only},
    };
    arguments_read(argc, argv, list, sizeof list / sizeof *list, &o.shape, 1);
    o.digest_only |= o.print_digest;
    if (!o.print_digest)
        printf("seed %llu\n", (unsigned long long)o.seed);
    if (o.bench) {
        bench(&o);
    } else if (o.backend) {
        uint64_t h[DIGESTS];
        check_one(&o, NULL, h);
    } else {
        check_isas(&o);
    }
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
