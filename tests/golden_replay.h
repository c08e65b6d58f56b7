/* SPDX-License-Identifier: Apache-2.0 */
/* A golden case in memory, for test_golden.c alone: reads the JSON (format:
 * tests/reference/golden_format.py), lays tensors out as a call form wants
 * them, watches the bytes that nobody may write, and recomputes in float64
 * what follows from the library's own l and c. */
#ifndef TESTS_GOLDEN_REPLAY_H
#define TESTS_GOLDEN_REPLAY_H

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* Tolerances: test_golden.c says why. */
#define REL 1e-6
#define FLOOR 0x1p-120
#define GRAD 2e-6
#define EXACT 1e-12

enum { APART, IN_PLACE, WIDE, NONE };

struct form {
    const char *name;
    int compute; /* one call, else phases */
    int again;   /* grad with micro = -1 */
    int place;   /* where the gradient goes */
    int pad;     /* row stride - columns, for logits and gradient */
    int narrow;  /* gradient of the valid columns only */
};

static const struct form forms[] = {
    {"compute in place", 1, 0, IN_PLACE, 0, 0},
    {"compute apart", 1, 0, APART, 0, 0},
    {"compute to float32, padded", 1, 0, WIDE, 3, 0},
    {"compute without gradient", 1, 0, NONE, 1, 0},
    {"phases apart, padded", 0, 0, APART, 5, 0},
    {"phases in place, padded", 0, 0, IN_PLACE, 2, 0},
    {"phases in place, valid columns", 0, 0, IN_PLACE, 0, 1},
    {"phases to float32, valid columns, padded", 0, 0, WIDE, 1, 1},
    {"phases read again, to float32", 0, 1, WIDE, 0, 0},
    {"phases read again, in place, padded", 0, 1, IN_PLACE, 4, 0},
};

/* Memory that the library may write only in part. */
struct block {
    unsigned char *now, *before;
    size_t bytes;
};

struct array {
    int32_t dtype, ndim;
    int64_t shape[2], count;
    void *data;
};

struct micro {
    struct array logits, labels, ids, host_k;
    int64_t rows, cols, valid;
    const double *l, *p, *h, *k, *scale, *grad; /* expected */
    struct array expected[6];
    struct block z, g;
    int64_t g_shape[2], strides[2], id_shape[1];
    int32_t g_dtype;
    cadft_tensor tz, ty, ts, tk, tg;
    cadft_loss_batch batch;
};

/* One case through one form on one instruction set. */
struct run {
    const char *isa, *theme, *name;
    const struct form *form;
    cadft_loss *loss;
    int64_t n_samples;
    int step;
    struct micro *micro;
    size_t n_micro;
    double mu, sigma, steps; /* running statistics, recomputed here */
    const double *want_n, *want_c, *want_chat, *want_w; /* [n_samples] */
    double *c, *chat, *w, *tol_chat, *tol_w;
};

/* ---------------------------------------------------------------- verdict */

static int failures;
static char first[512];

static void miss(const struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void miss(const struct run *run, const char *format, ...)
{
    static const char *last_name; /* a few lines of each case are enough */
    static int lines;
    char text[256], line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(line, sizeof line, "%s/%s on %s, %s, step %d: %s", run->theme,
             run->name, run->isa, run->form->name, run->step, text);
    if (failures++ == 0)
        memcpy(first, line, sizeof first);
    if (last_name != run->name)
        lines = 0;
    last_name = run->name;
    if (++lines <= 3)
        fprintf(stderr, "%s\n", line);
}

/* Equal to `tolerance`, or the same kind of non-finite. */
static int near(double got, double want, double tolerance)
{
    if (!isfinite(want))
        return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= tolerance;
}

static void expect(const struct run *run,
                   const char *what,
                   int64_t i,
                   double got,
                   double want,
                   double tolerance)
{
    if (!near(got, want, tolerance))
        miss(run, "%s[%lld] is %.17g, expected %.17g to %.3g, off by %.3g",
             what, (long long)i, got, want, tolerance, got - want);
}

/* ---------------------------------------------------------------- reading */

static unsigned digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The bytes are little-endian, as is every machine the library is built
 * for. */
static void unhex(const char *hex, void *out, size_t bytes)
{
    ck_assert_uint_eq(strlen(hex), 2 * bytes);
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)out)[i] =
            (unsigned char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
}

static double number(const json_t *object, const char *key)
{
    double x = 0;
    unhex(json_string_value(json_object_get(object, key)), &x, sizeof x);
    return x;
}

static int32_t dtype_of(const char *name)
{
    static const struct {
        const char *name;
        int32_t dtype;
    } names[] = {{"f32", CADFT_DTYPE_F32}, {"bf16", CADFT_DTYPE_BF16},
                 {"f16", CADFT_DTYPE_F16}, {"f64", CADFT_DTYPE_F64},
                 {"i32", CADFT_DTYPE_I32}, {"i64", CADFT_DTYPE_I64}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].dtype;
    ck_abort_msg("data type %s", name);
}

static struct array read_array(const json_t *object, const char *key)
{
    const json_t *json = json_object_get(object, key), *shape;
    struct array a = {.count = 1};
    size_t bytes;
    if (!json)
        return (struct array){0};
    a.dtype = dtype_of(json_string_value(json_object_get(json, "dtype")));
    shape = json_object_get(json, "shape");
    a.ndim = (int32_t)json_array_size(shape);
    for (int32_t d = 0; d < a.ndim; d++) {
        a.shape[d] = json_integer_value(json_array_get(shape, (size_t)d));
        a.count *= a.shape[d];
    }
    bytes = (size_t)a.count * support_dtype_size(a.dtype);
    a.data = malloc(bytes + 1);
    unhex(json_string_value(json_object_get(json, "hex")), a.data, bytes);
    return a;
}

static void set_options(struct run *run, const json_t *options)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)options, name, value)
    {
        cadft_error err = support_error();
        int32_t key, type, status;
        CHECK_OK(cadft_loss_key(name, &key, &err), err);
        CHECK_OK(cadft_loss_bounds(key, &type, NULL, NULL, NULL, &err), err);
        if (json_is_string(value))
            status = cadft_loss_set_str(run->loss, key,
                                        json_string_value(value), &err);
        else if (type == 0)
            status = cadft_loss_set_i64(run->loss, key,
                                        json_integer_value(value), &err);
        else
            status = cadft_loss_set_f64(run->loss, key,
                                        json_number_value(value), &err);
        CHECK_OK(status, err);
    }
}

static int64_t whole(const struct run *run, int32_t key)
{
    int64_t value = 0;
    ck_assert_int_eq(cadft_loss_get_i64(run->loss, key, &value, NULL), 0);
    return value;
}

static double real(const struct run *run, int32_t key)
{
    double value = 0;
    ck_assert_int_eq(cadft_loss_get_f64(run->loss, key, &value, NULL), 0);
    return value;
}

/* ---------------------------------------------------------- memory, views */

static struct block block_new(size_t bytes)
{
    struct block b = {malloc(bytes + 1), malloc(bytes + 1), bytes};
    memset(b.now, 0xa5, bytes + 1);
    return b;
}

static void block_free(struct block *b)
{
    free(b->now);
    free(b->before);
}

/* Rows of `width` bytes every `stride` bytes from `offset` on may change. */
static void check_canaries(const struct run *run,
                           const struct block *b,
                           const char *name,
                           int64_t rows,
                           size_t offset,
                           size_t stride,
                           size_t width)
{
    for (size_t i = 0; i < b->bytes; i++) {
        size_t row = i < offset ? 0 : (i - offset) / stride;
        if (i >= offset && (int64_t)row < rows && (i - offset) % stride < width)
            continue;
        if (b->now[i] != b->before[i])
            miss(run, "%s: byte %zu behind row %zu was written", name, i, row);
    }
}

static void view(cadft_tensor *t,
                 void *data,
                 int32_t dtype,
                 int32_t ndim,
                 int64_t *shape,
                 int64_t *strides)
{
    cadft_error err = support_error();
    CHECK_OK(cadft_tensor_init(t, sizeof *t, data, dtype, ndim, shape, strides,
                               &err),
             err);
}

/* Logits and gradient start one element into their memory: no vector is
 * aligned. */
static void place(const struct run *run, struct micro *m)
{
    int32_t dtype = m->logits.dtype;
    size_t size = support_dtype_size(dtype), g_size;
    int64_t stride = m->cols + run->form->pad;
    m->g_dtype = run->form->place == WIDE ? CADFT_DTYPE_F32 : dtype;
    g_size = support_dtype_size(m->g_dtype);
    m->z = block_new(size * (size_t)(m->rows * stride + 2));
    m->g = block_new(g_size * (size_t)(m->rows * stride + 2));
    for (int64_t r = 0; r < m->rows; r++)
        memcpy(m->z.now + size * (size_t)(r * stride + 1),
               (char *)m->logits.data + size * (size_t)(r * m->cols),
               size * (size_t)m->cols);
    memcpy(m->z.before, m->z.now, m->z.bytes);
    memcpy(m->g.before, m->g.now, m->g.bytes);
    m->strides[0] = stride;
    m->strides[1] = 1;
    m->g_shape[0] = m->rows;
    m->g_shape[1] = run->form->narrow ? m->valid : m->cols;
    view(&m->tz, m->z.now, dtype, 2, m->logits.shape, m->strides);
    m->tz.byte_offset = size;
    if (run->form->place == IN_PLACE)
        view(&m->tg, m->z.now, dtype, 2, m->g_shape, m->strides);
    else
        view(&m->tg, m->g.now, m->g_dtype, 2, m->g_shape, m->strides);
    m->tg.byte_offset = g_size;
}

static void load_micro(const struct run *run,
                       struct micro *m,
                       const json_t *json,
                       const json_t *expected)
{
    static const char *const names[6] = {"l", "p", "H", "k", "scale", "grad"};
    const double **fields[6] = {&m->l, &m->p,     &m->h,
                                &m->k, &m->scale, &m->grad};
    m->logits = read_array(json, "logits");
    m->labels = read_array(json, "labels");
    m->ids = read_array(json, "sample_ids");
    m->host_k = read_array(json, "k");
    m->rows = m->id_shape[0] = m->logits.shape[0];
    m->cols = m->logits.shape[1];
    m->valid = json_integer_value(json_object_get(json, "vocab_valid"));
    for (int i = 0; expected && i < 6; i++) {
        m->expected[i] = read_array(expected, names[i]);
        *fields[i] = (const double *)m->expected[i].data;
    }
    place(run, m);
    view(&m->ty, m->labels.data, m->labels.dtype, m->labels.ndim,
         m->labels.shape, NULL);
    view(&m->ts, m->ids.data, CADFT_DTYPE_I32, 1, m->id_shape, NULL);
    if (m->host_k.data)
        view(&m->tk, m->host_k.data, CADFT_DTYPE_F64, 1, m->id_shape, NULL);
    m->batch = (cadft_loss_batch){.struct_size = sizeof m->batch,
                                  .logits = &m->tz,
                                  .labels = &m->ty,
                                  .sample_ids = &m->ts,
                                  .k = m->host_k.data ? &m->tk : NULL,
                                  .vocab_valid = m->valid};
}

static void free_micro(struct micro *m)
{
    free(m->logits.data);
    free(m->labels.data);
    free(m->ids.data);
    free(m->host_k.data);
    for (int i = 0; i < 6; i++)
        free(m->expected[i].data);
    block_free(&m->z);
    block_free(&m->g);
}

/* ---------------------------------------------------- what rows should be */

/* k from l and H, from the table of the method. */
static double
coefficient(const struct run *run, double l, double h, double host)
{
    double p = exp(-l), u = -expm1(-l), x;
    switch (whole(run, CADFT_LOSS_OBJECTIVE)) {
    case CADFT_OBJECTIVE_SFT:
        return 1;
    case CADFT_OBJECTIVE_DFT:
        return p;
    case CADFT_OBJECTIVE_DFT_NOSG:
        return p * (1 - l);
    case CADFT_OBJECTIVE_POWER:
        return exp(-real(run, CADFT_LOSS_POWER_Q) * l);
    case CADFT_OBJECTIVE_FOCAL:
        x = real(run, CADFT_LOSS_FOCAL_GAMMA);
        if (u == 0)
            return x == 0 ? 1 : 0;
        return pow(u, x) + x * p * pow(u, x - 1) * l;
    case CADFT_OBJECTIVE_EAFT:
        return pow(h / 3, real(run, CADFT_LOSS_EAFT_ALPHA));
    case CADFT_OBJECTIVE_INFOSFT:
        x = real(run, CADFT_LOSS_INFOSFT_TARGET);
        if (u == 0)
            return 0;
        return p * fmax(0, log(x / (1 - x)) + l + log(u));
    default:
        return host;
    }
}

static const double *
get_rows(const struct run *run, size_t micro, int32_t what, double *out)
{
    cadft_error err = support_error();
    size_t needed = 0, rows = (size_t)run->micro[micro].rows;
    CHECK_OK(cadft_loss_get_rows(run->loss, (int64_t)micro, what, out, rows,
                                 &needed, &err),
             err);
    ck_assert_uint_eq(needed, rows);
    return out;
}

static int counts(const struct run *run, const struct micro *m, int64_t r)
{
    const int32_t *ids = (const int32_t *)m->ids.data;
    int64_t label, length = m->labels.shape[m->labels.ndim - 1];
    int64_t at = r + whole(run, CADFT_LOSS_LABEL_OFFSET);
    if (ids[r] < 0 || (at > r && (at % length == 0 || ids[at] != ids[r])))
        return 0;
    label = m->labels.dtype == CADFT_DTYPE_I32
                ? ((const int32_t *)m->labels.data)[at]
                : ((const int64_t *)m->labels.data)[at];
    return label != whole(run, CADFT_LOSS_IGNORE_INDEX);
}

/* How far k may move when l and H move by REL of themselves. */
static double k_tolerance(const struct run *run, double l, double h, double k)
{
    double there = coefficient(run, l * (1 + REL), h * (1 + REL), k);
    double back = coefficient(run, l * (1 - REL), h * (1 - REL), k);
    return fabs(there - back) + REL * fabs(k) + FLOOR;
}

/* -------------------------------------------------- what samples should be */

/* Mean and standard deviation in two passes over the samples of a group. */
static void
two_pass(const struct run *run, const int *group, int which, double out[3])
{
    long double n = 0, mean = 0, m2 = 0, ddof;
    double lowest = INFINITY, highest = -INFINITY;
    for (int64_t i = 0; i < run->n_samples; i++)
        if (group[i] == which) {
            n += 1;
            mean += run->c[i];
            lowest = fmin(lowest, run->c[i]);
            highest = fmax(highest, run->c[i]);
        }
    mean /= n > 0 ? n : 1;
    for (int64_t i = 0; i < run->n_samples; i++)
        if (group[i] == which)
            m2 += (run->c[i] - mean) * (run->c[i] - mean);
    ddof = (long double)whole(run, CADFT_LOSS_DDOF);
    out[0] = (double)n;
    out[1] = (double)mean;
    out[2] = n > ddof && lowest < highest ? sqrt((double)(m2 / (n - ddof))) : 0;
}

/* Which micro-batch weighs a sample; -1 when it is outside the statistics. */
static void groups(const struct run *run, int separate, int *group)
{
    for (int64_t i = 0; i < run->n_samples; i++)
        group[i] = -1;
    for (size_t m = 0; m < run->n_micro; m++)
        for (int64_t r = 0; r < run->micro[m].rows; r++) {
            int32_t s = ((const int32_t *)run->micro[m].ids.data)[r];
            if (s >= 0 && counts(run, &run->micro[m], r) &&
                isfinite(run->want_c[s]))
                group[s] = separate ? (int)m : 0;
        }
}

/* chat and w of a group from the library's own c. */
static void weigh_group(
    struct run *run, const int *group, int which, double mu, double sigma)
{
    double beta = real(run, CADFT_LOSS_BETA), most = mu;
    double spread = sigma + real(run, CADFT_LOSS_EPS);
    for (int64_t i = 0; i < run->n_samples; i++)
        if (group[i] == which)
            most = fmax(most, run->c[i]);
    for (int64_t i = 0; i < run->n_samples; i++) {
        double chat = sigma > 0 ? (run->c[i] - mu) / spread : 0;
        if (group[i] != which)
            continue;
        run->chat[i] = chat;
        run->w[i] =
            whole(run, CADFT_LOSS_WEIGHTING) ? exp(-beta * fmax(0, chat)) : 1;
        /* d chat = (dc - dmu)/spread - chat dsigma/spread, each within REL
         * of the largest c. */
        run->tol_chat[i] =
            sigma > 0 ? REL * most * (2 + fabs(chat)) / spread : 0;
        run->tol_w[i] = run->w[i] < 1 ? beta * run->tol_chat[i] + EXACT : EXACT;
    }
}

static void renormalise(struct run *run, const int *group)
{
    double sum = 0, n = 0, most = 0;
    for (int64_t i = 0; i < run->n_samples; i++)
        if (group[i] >= 0) {
            n += 1;
            sum += run->w[i];
            most = fmax(most, run->tol_w[i]);
        }
    for (int64_t i = 0; i < run->n_samples; i++)
        if (group[i] >= 0) {
            run->w[i] *= n / sum;
            run->tol_w[i] += most;
        }
}

/* Recompute chat and w in float64; keeps the running statistics. */
static void weigh(struct run *run)
{
    int64_t scope = whole(run, CADFT_LOSS_SCOPE);
    double decay = real(run, CADFT_LOSS_RUNNING_DECAY), all[3], part[3];
    int *group = (int *)calloc((size_t)run->n_samples + 1, sizeof *group);
    int history = scope == CADFT_SCOPE_RUNNING && run->steps > 0;
    int separate = scope != CADFT_SCOPE_EXACT && !history;
    double bias = 1 - pow(decay, run->steps);
    for (int64_t i = 0; i < run->n_samples; i++) {
        run->chat[i] = NAN;
        run->w[i] = run->tol_w[i] = run->tol_chat[i] = 0;
    }
    groups(run, 0, group);
    two_pass(run, group, 0, all);
    groups(run, separate, group);
    for (int m = 0; m < (separate ? (int)run->n_micro : 1); m++) {
        two_pass(run, group, m, part);
        weigh_group(run, group, m, history ? run->mu / bias : part[1],
                    history ? run->sigma / bias : part[2]);
    }
    if (whole(run, CADFT_LOSS_RENORMALISE))
        renormalise(run, group);
    if (scope == CADFT_SCOPE_RUNNING && all[0] >= 2) {
        run->mu = decay * run->mu + (1 - decay) * all[1];
        run->sigma = decay * run->sigma + (1 - decay) * all[2];
        run->steps += 1;
    }
    free(group);
}

#endif
