/* SPDX-License-Identifier: Apache-2.0 */
/* Replays tests/golden/<theme>.json, which an independent float64 reference
 * wrote (tests/reference), through every call form and every instruction set.
 *
 * Tolerances. The kernels promise the sums of a row to 1e-6 relative, so
 * REL = 1e-6 for what comes straight from logits (16-bit logits are exact
 * values like any other). FLOOR stands for terms below the least normal
 * float32, 2^-126, which a float32 sum may lose: 64 of them. What is float64
 * from there on is recomputed here from the library's own l and c and held
 * to 1e-12; against the golden numbers its tolerance is REL times its
 * derivative. Gradients: 2e-6 of the row's largest entry, in 16 bits one
 * unit in the last place more; what is below the least normal float32 may
 * be lost. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden_replay.h"

/* ------------------------------------------------------------------- rows */

static void check_row(const struct run *run,
                      const struct micro *m,
                      int64_t r,
                      const double *got[5])
{
    int64_t kind = whole(run, CADFT_LOSS_OBJECTIVE);
    double l = got[0][r], h = got[2][r], k = got[3][r], own;
    int entropy = kind == CADFT_OBJECTIVE_EAFT || kind == CADFT_OBJECTIVE_HOST;
    double host = m->host_k.data ? ((double *)m->host_k.data)[r] : 0;
    expect(run, "l", r, l, m->l[r], REL * m->l[r] + FLOOR);
    expect(run, "p", r, got[1][r], m->p[r],
           m->p[r] > 0 ? REL * (1 + m->l[r]) * m->p[r] + FLOOR : FLOOR);
    if (isinf(m->l[r]))
        return; /* H and k of such a row are free */
    expect(run, "H", r, h, entropy || isnan(m->h[r]) ? m->h[r] : 0,
           REL * m->h[r] + FLOOR);
    expect(run, "k", r, k, m->k[r],
           k_tolerance(run, m->l[r], m->h[r], m->k[r]));
    if (isnan(m->l[r]) || !counts(run, m, r))
        return;
    own = coefficient(run, l, h, host);
    expect(run, "p from own l", r, got[1][r], exp(-l), EXACT * exp(-l));
    expect(run, "k from own l", r, k, own,
           EXACT * fabs(own) + (kind == CADFT_OBJECTIVE_INFOSFT ? EXACT : 0));
}

/* CADFT_ROWS_SCALE is a_r k_r grad_scale. */
static void check_scale(const struct run *run,
                        const struct micro *m,
                        int64_t r,
                        double k,
                        double scale)
{
    int64_t s = ((const int32_t *)m->ids.data)[r];
    double factor = m->scale[r] * real(run, CADFT_LOSS_GRAD_SCALE);
    double own;
    if (m->scale[r] == 0) {
        expect(run, "scale", r, scale, 0, 0);
        return;
    }
    expect(run, "scale", r, scale, factor * m->k[r],
           fabs(factor) * (k_tolerance(run, m->l[r], m->h[r], m->k[r]) +
                           run->tol_w[s] * fabs(m->k[r])));
    /* The reduction's part alone, free of the tolerance of w: a_r / w. */
    own = scale / run->w[s];
    factor /= run->want_w[s];
    expect(run, "scale of own k", r, own, factor * k, EXACT * fabs(factor * k));
}

/* ---------------------------------------------------------------- samples */

static void get_samples(const struct run *run, int32_t what, double *out)
{
    cadft_error err = support_error();
    size_t needed = 0, n = (size_t)run->n_samples;
    CHECK_OK(cadft_loss_get_samples(run->loss, what, out, n, &needed, &err),
             err);
    ck_assert_uint_eq(needed, n);
}

/* c is the mean of the library's own l. */
static void check_means(const struct run *run, const double *n)
{
    double *sum = (double *)calloc((size_t)run->n_samples + 1, sizeof *sum);
    for (size_t m = 0; m < run->n_micro; m++) {
        const struct micro *micro = &run->micro[m];
        double *l = (double *)malloc((size_t)(micro->rows + 1) * sizeof *l);
        get_rows(run, m, CADFT_ROWS_NLL, l);
        for (int64_t r = 0; r < micro->rows; r++)
            if (counts(run, micro, r))
                sum[((const int32_t *)micro->ids.data)[r]] += l[r];
        free(l);
    }
    for (int64_t i = 0; i < run->n_samples; i++)
        expect(run, "c from own l", i, run->c[i],
               n[i] > 0 ? sum[i] / n[i] : NAN, EXACT * run->c[i]);
    free(sum);
}

static void check_samples(struct run *run)
{
    size_t n = (size_t)run->n_samples;
    double *got = (double *)malloc((n + 1) * sizeof *got);
    get_samples(run, CADFT_SAMPLES_C, run->c);
    get_samples(run, CADFT_SAMPLES_ROWS, got);
    for (size_t i = 0; i < n; i++) {
        expect(run, "rows", (int64_t)i, got[i], run->want_n[i], 0);
        expect(run, "c", (int64_t)i, run->c[i], run->want_c[i],
               REL * run->want_c[i] + FLOOR);
    }
    check_means(run, got);
    weigh(run);
    get_samples(run, CADFT_SAMPLES_CHAT, got);
    for (size_t i = 0; i < n; i++) {
        expect(run, "chat from own c", (int64_t)i, got[i], run->chat[i],
               EXACT * (1 + fabs(run->chat[i])));
        expect(run, "chat", (int64_t)i, got[i], run->want_chat[i],
               run->tol_chat[i]);
    }
    get_samples(run, CADFT_SAMPLES_W, got);
    for (size_t i = 0; i < n; i++) {
        expect(run, "w from own c", (int64_t)i, got[i], run->w[i],
               EXACT * run->w[i]);
        expect(run, "w", (int64_t)i, got[i], run->want_w[i],
               run->tol_w[i] * run->want_w[i]);
    }
    free(got);
}

/* --------------------------------------------------------------- gradient */

/* A unit in the last place of a value in the gradient's type; 0 for float32,
 * where 2e-6 is wider. */
static double unit(int32_t dtype, double value)
{
    int e;
    if (dtype == CADFT_DTYPE_F32)
        return 0;
    frexp(value, &e);
    return dtype == CADFT_DTYPE_BF16 ? ldexp(1, e < -125 ? -133 : e - 8)
                                     : ldexp(1, e < -13 ? -24 : e - 11);
}

/* The golden gradient of a row carries the golden a_r k_r; both were checked
 * with their own tolerance, so the library's stand in for them here. With
 * z-loss a row is no multiple of k: there w alone is replaced. */
static double own_over_golden(const struct run *run,
                              const struct micro *m,
                              int64_t r,
                              double scale)
{
    int64_t s = ((const int32_t *)m->ids.data)[r];
    double golden = m->scale[r] * m->k[r] * real(run, CADFT_LOSS_GRAD_SCALE);
    if (m->scale[r] == 0)
        return 1;
    if (real(run, CADFT_LOSS_Z_LOSS) > 0 || golden == 0)
        return run->w[s] / run->want_w[s];
    return scale / golden;
}

static void
check_grad(const struct run *run, size_t number, const double *scale)
{
    const struct micro *m = &run->micro[number];
    int in_place = run->form->place == IN_PLACE;
    const void *g = (in_place ? m->z.now : m->g.now) + m->tg.byte_offset;
    for (int64_t r = 0; r < m->rows; r++) {
        const double *want = m->grad + r * m->cols;
        double ratio = own_over_golden(run, m, r, scale[r]), most = 0;
        for (int64_t v = 0; v < m->cols; v++)
            most = fmax(most, fabs(ratio * want[v]));
        for (int64_t v = 0; v < m->g_shape[1]; v++) {
            double x = ratio * want[v];
            double got = support_get(g, m->g_dtype, r * m->strides[0] + v);
            double tolerance = GRAD * most + 0x1p-126;
            tolerance += unit(m->g_dtype, x);
            expect(run, "grad", r * m->cols + v, got, x,
                   want[v] == 0 ? 0 : tolerance);
        }
    }
}

/* What the library was not asked to write is as it was. */
static void
check_memory(const struct run *run, const struct micro *m, int written)
{
    size_t size = support_dtype_size(m->logits.dtype);
    size_t g_size = support_dtype_size(m->g_dtype);
    size_t stride = (size_t)m->strides[0], width = (size_t)m->g_shape[1];
    int place = written ? run->form->place : NONE;
    check_canaries(run, &m->z, "logits", place == IN_PLACE ? m->rows : 0, size,
                   size * stride, size * width);
    check_canaries(run, &m->g, "grad",
                   place == APART || place == WIDE ? m->rows : 0, g_size,
                   g_size * stride, g_size * width);
}

static void check_micro(const struct run *run, size_t number)
{
    const struct micro *m = &run->micro[number];
    size_t n = (size_t)m->rows + 1;
    double *all = (double *)calloc(5 * n, sizeof *all);
    const double *got[5];
    for (int32_t i = 0; i < 5; i++)
        got[i] = get_rows(run, number, CADFT_ROWS_NLL + i, all + (size_t)i * n);
    for (int64_t r = 0; r < m->rows; r++) {
        check_row(run, m, r, got);
        check_scale(run, m, r, got[3][r], got[4][r]);
    }
    if (run->form->place != NONE)
        check_grad(run, number, got[4]);
    check_memory(run, m, 1);
    free(all);
}

/* ----------------------------------------------------------------- report */

static void check_field(const struct run *run,
                        const json_t *want,
                        const char *name,
                        double got,
                        double tolerance)
{
    if (json_object_get(want, name))
        expect(run, name, 0, got, number(want, name),
               tolerance * fabs(number(want, name)));
}

/* Sums of loss and gradient scale move with l, k and w of their terms; they
 * are relative to the sum of magnitudes, which k < 0 makes larger than the
 * sum itself. */
static double sum_tolerance(const struct run *run)
{
    double size = 0, sum = 0, worst = 0;
    for (size_t i = 0; i < run->n_micro; i++) {
        const struct micro *m = &run->micro[i];
        for (int64_t r = 0; r < m->rows; r++) {
            double k = m->k[r], t;
            if (m->scale[r] == 0)
                continue;
            t = k_tolerance(run, m->l[r], m->h[r], k) +
                (REL + run->tol_w[((int32_t *)m->ids.data)[r]]) * fabs(k);
            size += m->scale[r] * fabs(k);
            sum += m->scale[r] * k;
            worst = fmax(worst, t / fmax(fabs(k), 1e-30));
        }
    }
    return sum == 0 ? 0 : 2 * worst * size / fabs(sum);
}

static void check_report(const struct run *run,
                         const json_t *want,
                         const cadft_loss_report *got)
{
    double w = EXACT, most = 0, sums = sum_tolerance(run), sigma, l = 0;
    for (int64_t i = 0; i < run->n_samples; i++) {
        w = fmax(w, run->tol_w[i]);
        if (isfinite(run->c[i]))
            most = fmax(most, run->c[i]);
    }
    for (size_t i = 0; i < run->n_micro; i++)
        for (int64_t r = 0; r < run->micro[i].rows; r++)
            if (isfinite(run->micro[i].l[r]))
                l = fmax(l, run->micro[i].l[r]);
    sigma = json_object_get(want, "sigma") ? number(want, "sigma") : 0;
    check_field(run, want, "loss", got->loss, sums + REL);
    check_field(run, want, "gradient_scale", got->grad_scale, sums);
    check_field(run, want, "nll", got->nll, REL);
    check_field(run, want, "mean_p", got->mean_p, REL * (1 + l));
    check_field(run, want, "mean_w", got->mean_w, w);
    check_field(run, want, "min_w", got->min_w, w);
    check_field(run, want, "share_below", got->share_below, EXACT);
    check_field(run, want, "mu", got->mu, REL);
    check_field(run, want, "sigma", got->sigma,
                sigma > 0 ? 2 * REL * most / sigma : 0);
    check_field(run, want, "n_samples", (double)got->n_samples, 0);
    check_field(run, want, "n_rows", (double)got->n_rows, 0);
    check_field(run, want, "skipped", (double)got->n_skipped, 0);
    check_field(run, want, "infinite", (double)got->n_infinite, 0);
}

/* ------------------------------------------------------------------- runs */

static int32_t status_of(const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "CADFT_%s", name);
    for (int32_t status = 0; status > -100; status--)
        if (strcmp(cadft_status_string(status), full) == 0)
            return status;
    ck_abort_msg("status %s", name);
}

/* Scopes that see one micro-batch at a time refuse what needs them all. */
static int refused(const struct run *run)
{
    if (run->form->compute || whole(run, CADFT_LOSS_SCOPE) == CADFT_SCOPE_EXACT)
        return 0;
    return whole(run, CADFT_LOSS_RENORMALISE) ||
           (whole(run, CADFT_LOSS_REDUCTION) != CADFT_REDUCTION_SUM &&
            real(run, CADFT_LOSS_DENOMINATOR) == 0);
}

static int32_t grad_one(const struct run *run,
                        size_t i,
                        const int64_t *number,
                        cadft_error *err)
{
    const struct micro *m = &run->micro[i];
    return cadft_loss_grad(run->loss, run->form->again ? -1 : number[i],
                           &m->batch, &m->tg, err);
}

/* Observe, weigh and write in phases; `at` is where it stopped. */
static int32_t phases(const struct run *run,
                      cadft_loss_report *report,
                      size_t *at,
                      cadft_error *err)
{
    int exact = whole(run, CADFT_LOSS_SCOPE) == CADFT_SCOPE_EXACT;
    int64_t *number = (int64_t *)calloc(run->n_micro + 1, sizeof *number);
    int32_t status = cadft_loss_begin(run->loss, run->n_samples, err);
    for (size_t i = 0; !status && i < run->n_micro; i++) {
        *at = i;
        status = cadft_loss_observe(run->loss, &run->micro[i].batch, NULL,
                                    &number[i], err);
        if (!status && number[i] != (int64_t)i)
            miss(run, "micro-batch %zu got number %lld", i,
                 (long long)number[i]);
        if (!status && !exact)
            status = cadft_loss_weigh(run->loss, err);
        if (!status && !exact)
            status = grad_one(run, i, number, err);
    }
    if (!status && exact)
        status = cadft_loss_weigh(run->loss, err);
    for (size_t i = 0; !status && exact && i < run->n_micro; i++)
        status = grad_one(run, i, number, err);
    if (!status)
        status = cadft_loss_end(run->loss, report, err);
    if (status)
        cadft_loss_cancel(run->loss);
    free(number);
    return status;
}

/* Does the sentence contain the number, as a word? */
static int names(const char *message, const json_t *object, const char *key)
{
    char text[32];
    size_t length;
    const json_t *value = json_object_get(object, key);
    if (!value)
        return 1;
    length = (size_t)snprintf(text, sizeof text, "%lld",
                              (long long)json_integer_value(value));
    for (const char *at = message; (at = strstr(at, text)) != NULL; at++)
        if ((at == message || !strchr("-0123456789", at[-1])) &&
            !strchr("0123456789", at[length]))
            return 1;
    return 0;
}

static void check_failure(const struct run *run,
                          const json_t *want,
                          int32_t status,
                          size_t at,
                          const cadft_error *err,
                          const cadft_loss_report *report)
{
    static const char *const keys[] = {"row", "sample", "value"};
    const char *expected = json_string_value(json_object_get(want, "status"));
    cadft_loss_report untouched = {.struct_size = sizeof untouched};
    if (status != status_of(expected) || err->code != status)
        miss(run, "status %s (code %d), expected %s",
             cadft_status_string(status), err->code, expected);
    if ((json_int_t)at !=
        json_integer_value(json_object_get(want, "micro_index")))
        miss(run, "failed at micro-batch %zu", at);
    for (int i = 0; i < 3; i++)
        if (!names(err->message, want, keys[i]))
            miss(run, "%s is missing in \"%s\"", keys[i], err->message);
    if (memcmp(report, &untouched, sizeof untouched) != 0)
        miss(run, "a failed call wrote the report");
    for (size_t i = 0; i < run->n_micro; i++)
        check_memory(run, &run->micro[i], 0);
}

/* One step of a case: one global batch. */
static void replay_step(struct run *run, const json_t *want)
{
    cadft_loss_report report = {.struct_size = sizeof report};
    cadft_error err = support_error();
    int ok =
        strcmp(json_string_value(json_object_get(want, "status")), "OK") == 0;
    size_t at = 0;
    int32_t status;
    if (run->form->compute)
        status = cadft_loss_compute(
            run->loss, &run->micro[0].batch, run->n_samples,
            run->form->place == NONE ? NULL : &run->micro[0].tg, NULL, &report,
            &err);
    else
        status = phases(run, &report, &at, &err);
    if (!ok) {
        check_failure(run, want, status, at, &err, &report);
    } else if (refused(run)) {
        if (status != CADFT_E_UNSUPPORTED)
            miss(run, "status %s, expected CADFT_E_UNSUPPORTED",
                 cadft_status_string(status));
    } else if (status) {
        miss(run, "status %s: %s", cadft_status_string(status), err.message);
    } else {
        check_samples(run);
        for (size_t i = 0; i < run->n_micro; i++)
            check_micro(run, i);
        check_report(run, json_object_get(want, "report"), &report);
    }
}

static double *samples_of(struct array *a, const json_t *want, const char *key)
{
    *a = read_array(want, key);
    return (double *)a->data;
}

static void replay_batch(struct run *run, const json_t *batch)
{
    const json_t *micro = json_object_get(batch, "micro");
    const json_t *want = json_object_get(batch, "expect");
    const json_t *rows = json_object_get(want, "micro");
    struct array samples[4];
    run->want_n = samples_of(&samples[0], want, "n");
    run->want_c = samples_of(&samples[1], want, "c");
    run->want_chat = samples_of(&samples[2], want, "chat");
    run->want_w = samples_of(&samples[3], want, "w");
    run->n_micro = json_array_size(micro);
    run->micro = (struct micro *)calloc(run->n_micro + 1, sizeof *run->micro);
    for (size_t i = 0; i < run->n_micro; i++)
        load_micro(run, &run->micro[i], json_array_get(micro, i),
                   rows ? json_array_get(rows, i) : NULL);
    if (!run->form->compute || run->n_micro == 1)
        replay_step(run, want);
    for (size_t i = 0; i < run->n_micro; i++)
        free_micro(&run->micro[i]);
    free(run->micro);
    for (int i = 0; i < 4; i++)
        free(samples[i].data);
}

/* The steps of a case share the running statistics, so a form that cannot
 * take one of them takes none. */
static int takes(const struct form *form, const json_t *batches)
{
    for (size_t i = 0; form->compute && i < json_array_size(batches); i++)
        if (json_array_size(
                json_object_get(json_array_get(batches, i), "micro")) != 1)
            return 0;
    return 1;
}

static void
replay_case(cadft_context *context, struct run *run, const json_t *json)
{
    const json_t *batches = json_object_get(json, "batches");
    cadft_error err = support_error();
    double *arrays;
    size_t n;
    run->name = json_string_value(json_object_get(json, "name"));
    run->n_samples = json_integer_value(json_object_get(json, "n_samples"));
    run->mu = run->sigma = run->steps = 0;
    if (!takes(run->form, batches))
        return;
    n = (size_t)run->n_samples;
    arrays = (double *)calloc(5 * n + 1, sizeof *arrays);
    run->c = arrays;
    run->chat = arrays + n;
    run->w = arrays + 2 * n;
    run->tol_chat = arrays + 3 * n;
    run->tol_w = arrays + 4 * n;
    CHECK_OK(cadft_loss_create(context, &run->loss, &err), err);
    set_options(run, json_object_get(json, "options"));
    for (size_t i = 0; i < json_array_size(batches); i++) {
        run->step = (int)i;
        replay_batch(run, json_array_get(batches, i));
    }
    cadft_loss_destroy(run->loss);
    free(arrays);
}

/* ------------------------------------------------------------------- tests */

static const char *const themes[] = {"objectives",   "weighting", "terms",
                                     "reductions",   "dtypes",    "layouts",
                                     "accumulation", "edges"};
static const char *const isas[] = {"c", "avx2", "avx512", "neon"};

enum {
    THEMES = sizeof themes / sizeof themes[0],
    ISAS = sizeof isas / sizeof isas[0]
};

static int available(const char *isa)
{
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .backend_options = isa};
    cadft_context *context = NULL;
    int32_t status = cadft_context_create(&desc, &context, NULL);
    cadft_context_destroy(context);
    return status != CADFT_E_BACKEND;
}

START_TEST(theme_on_isa)
{
    struct run run = {.theme = themes[_i / ISAS], .isa = isas[_i % ISAS]};
    cadft_context *context = support_context(run.isa, 1);
    char path[512];
    json_error_t error;
    json_t *cases;
    snprintf(path, sizeof path, "%s/%s.json", GOLDEN_DIR, run.theme);
    cases = json_load_file(path, 0, &error);
    ck_assert_msg(cases != NULL, "%s: %s", path, error.text);
    ck_assert_uint_gt(json_array_size(cases), 0);
    failures = 0;
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++)
        for (size_t i = 0; i < json_array_size(cases); i++) {
            run.form = &forms[f];
            replay_case(context, &run, json_array_get(cases, i));
        }
    json_decref(cases);
    cadft_context_destroy(context);
    ck_assert_msg(failures == 0, "%d failures, first: %s", failures, first);
}
END_TEST

static Suite *suite(void)
{
    static char names[THEMES * ISAS][32];
    Suite *suite = suite_create("golden");
    for (int i = 0; i < THEMES * ISAS; i++) {
        TCase *tcase;
        if (!available(isas[i % ISAS]))
            continue;
        snprintf(names[i], sizeof names[i], "%s/%s", themes[i / ISAS],
                 isas[i % ISAS]);
        tcase = tcase_create(names[i]);
        tcase_add_loop_test(tcase, theme_on_isa, i, i + 1);
        suite_add_tcase(suite, tcase);
    }
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
