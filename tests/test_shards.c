/* SPDX-License-Identifier: Apache-2.0 */
/* However a global batch is cut, over data, context and vocabulary parallel
 * processes and micro-batches, the result is the uncut one.
 *
 * What holds, and why:
 *  - rows cut (data, context, accumulation): a row's statistics come from
 *    the row alone, so l, p, H and k are equal bit for bit. c, mu and sigma
 *    are float64 sums in another order: 1e-12. A gradient entry is one
 *    rounding of a float64 product: within one unit of float32.
 *  - columns cut: a shard's sums are compensated, so l is that of the uncut
 *    row to 1e-12, absolutely, and to the 1e-6 that kernels promise where it
 *    is small; the rest follows. The gradient is within one unit of float32.
 *    Among the shards everything is equal bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shards.h"

#define REL 1e-6
#define FLOOR 0x1p-120 /* sums may lose terms below the least normal float */
#define EXACT 1e-12

/* --------------------------------------------------------------- comparing */

static int near(double got, double want, double tolerance)
{
    if (!isfinite(want))
        return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= tolerance;
}

#define SAME(what, i, got, want, tolerance)                                    \
    ck_assert_msg(near(got, want, tolerance),                                  \
                  "%s: %s[%lld] is %.17g, uncut %.17g, tolerance %.3g", name,  \
                  what, (long long)(i), got, want, tolerance)

static double option(const struct world *w, int32_t key)
{
    double value = 0;
    cadft_loss_bounds(key, NULL, NULL, NULL, &value, NULL);
    for (int i = 0; i < w->n_settings; i++)
        if (w->settings[i].key == key)
            value = w->settings[i].value;
    return value;
}

static void same_rows(const char *name,
                      const struct world *w,
                      const struct result *a,
                      const struct result *b,
                      int columns)
{
    for (int64_t r = 0; r < w->b->rows; r++) {
        double l = a->rows[0][r], h = a->rows[2][r];
        double rel = columns ? EXACT : 0, floor = columns ? FLOOR : 0;
        SAME("l", r, b->rows[0][r], l,
             fmin(rel * (1 + l), columns * REL * l) + floor);
        SAME("p", r, b->rows[1][r], a->rows[1][r],
             isinf(l) ? 0 : rel * (1 + l) * a->rows[1][r] + floor);
        SAME("H", r, b->rows[2][r], h,
             fmin(10 * rel * (1 + h), columns * REL * h) + floor);
        /* |dk/dl| + |dk/dH| is below 10 for every objective. */
        SAME("k", r, b->rows[3][r], a->rows[3][r], 100 * rel);
    }
}

/* chat and w of a result from its own c, in two passes. */
static void
own_weights(const char *name, const struct world *w, const struct result *x)
{
    long double n = 0, mean = 0, m2 = 0, sum = 0;
    double sigma = 0, beta = option(w, CADFT_LOSS_BETA);
    double ddof = option(w, CADFT_LOSS_DDOF);
    for (int64_t i = 0; i < w->n_samples; i++)
        if (isfinite(x->samples[0][i])) {
            n += 1;
            mean += x->samples[0][i];
        }
    mean /= n > 0 ? n : 1;
    for (int64_t i = 0; i < w->n_samples; i++)
        if (isfinite(x->samples[0][i]))
            m2 += (x->samples[0][i] - mean) * (x->samples[0][i] - mean);
    if (n > ddof && n > 1)
        sigma = sqrt((double)(m2 / (n - ddof)));
    for (int64_t i = 0; i < w->n_samples; i++)
        if (isfinite(x->samples[0][i]))
            sum += exp(-beta * fmax(0, x->samples[1][i]));
    for (int64_t i = 0; i < w->n_samples; i++) {
        double chat = (x->samples[0][i] - (double)mean) / (sigma + 1e-6);
        double weight = exp(-beta * fmax(0, chat));
        if (!isfinite(x->samples[0][i]))
            continue;
        if (sigma == 0)
            chat = 0, weight = 1;
        if (option(w, CADFT_LOSS_RENORMALISE) != 0)
            weight *= (double)(n / sum);
        SAME("chat of own c", i, x->samples[1][i], chat,
             EXACT * (1 + fabs(chat)));
        SAME("w of own c", i, x->samples[2][i], weight, EXACT * weight);
    }
}

static void same_samples(const char *name,
                         const struct world *w,
                         const struct result *a,
                         const struct result *b,
                         int columns)
{
    for (int64_t i = 0; i < w->n_samples; i++) {
        double c = a->samples[0][i], chat = a->samples[1][i];
        SAME("rows", i, b->samples[3][i], a->samples[3][i], 0.0);
        SAME("c", i, b->samples[0][i], c,
             columns ? fmin(EXACT * (1 + c), REL * c) + FLOOR : EXACT * c);
        /* chat divides by sigma, which may be small beside c. */
        double sigma = a->report.sigma, c_scale = 1 + a->report.mu;
        double slack = sigma > 0 ? (columns ? 1 : 0.1) * c_scale / sigma : 0;
        double beta = option(w, CADFT_LOSS_BETA);
        double far = isnan(chat) ? 0 : 1 + fabs(chat);
        SAME("chat", i, b->samples[1][i], chat,
             EXACT * (1 + fabs(chat)) * (1 + slack));
        SAME("w", i, b->samples[2][i], a->samples[2][i],
             EXACT * a->samples[2][i] * (1 + beta * far * slack));
    }
    own_weights(name, w, a);
    own_weights(name, w, b);
}

static void same_grad(const char *name,
                      const struct world *w,
                      const struct result *a,
                      const struct result *b,
                      int columns)
{
    int64_t cols = w->b->cols;
    for (int64_t r = 0; r < w->b->rows; r++) {
        const float *x = a->grad + r * cols, *y = b->grad + r * cols;
        /* Where l is tiny its last digits are float32's, see above. */
        double floor = columns ? 1e-15 : 0;
        for (int64_t v = 0; v < cols; v++)
            ck_assert_msg(support_ulps(x[v], y[v]) <= 1 ||
                              fabs(x[v] - y[v]) <= floor,
                          "%s: grad[%lld][%lld] is %.9g, uncut %.9g", name,
                          (long long)r, (long long)v, y[v], x[v]);
    }
}

static void same_report(const char *name,
                        const cadft_loss_report *a,
                        const cadft_loss_report *b,
                        int columns)
{
    /* Columns cut: l within REL moves w by REL c / sigma, c / sigma < 50. */
    double rel = columns ? 50 * REL : EXACT;
    SAME("loss", 0, b->loss, a->loss, rel * fabs(a->loss));
    SAME("nll", 0, b->nll, a->nll, rel * a->nll);
    SAME("mean_p", 0, b->mean_p, a->mean_p, rel);
    SAME("mean_w", 0, b->mean_w, a->mean_w, rel);
    SAME("min_w", 0, b->min_w, a->min_w, rel);
    SAME("share_below", 0, b->share_below, a->share_below, EXACT);
    SAME("mu", 0, b->mu, a->mu, rel * a->mu);
    SAME("sigma", 0, b->sigma, a->sigma, rel * (a->mu + a->sigma));
    SAME("grad_scale", 0, b->grad_scale, a->grad_scale, rel);
    ck_assert_int_eq(b->n_samples, a->n_samples);
    ck_assert_int_eq(b->n_rows, a->n_rows);
    ck_assert_int_eq(b->n_skipped, a->n_skipped);
    ck_assert_int_eq(b->n_infinite, a->n_infinite);
}

static void compare(const struct world *w, const struct plan *p)
{
    struct result whole, merged;
    char name[160];
    int columns = p->n_tp > 1;
    snprintf(name, sizeof name,
             "%d data, %d context, %d vocabulary, %d micro, objective %g, "
             "rows %lld, cols %lld",
             p->n_dp, p->n_cp, p->n_tp, p->n_micro,
             option(w, CADFT_LOSS_OBJECTIVE), (long long)w->b->rows,
             (long long)w->b->cols);
    uncut(w, &whole);
    if (p->in_turn)
        cut_in_turn(w, p, &merged);
    else
        cut(w, p, &merged);
    same_rows(name, w, &whole, &merged, columns);
    same_samples(name, w, &whole, &merged, columns);
    same_grad(name, w, &whole, &merged, columns);
    same_report(name, &whole.report, &merged.report, columns);
    result_free(&whole);
    result_free(&merged);
}

/* ------------------------------------------------------------------- cuts */

/* Every objective, random options, random cuts. */
static void rounds(int n_dp, int n_cp, int n_tp, int n_micro)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct world w = world_new(i % 8);
        struct plan p;
        int dp = n_dp ? n_dp : 2 + (int)support_below(MAX_SHARDS - 1);
        int cp = n_cp ? n_cp : 2 + (int)support_below(MAX_SHARDS - 1);
        int tp = n_tp ? n_tp : 2 + (int)support_below(MAX_SHARDS - 1);
        p = plan_new(&w, dp, cp, tp,
                     n_micro ? n_micro : 2 + (int)support_below(MAX_MICRO - 1));
        p.everyone = i % 3 == 0;
        compare(&w, &p);
        plan_free(&p);
        world_free(&w);
    }
}

START_TEST(data_parallel)
{
    rounds(0, 1, 1, 1);
}
END_TEST

START_TEST(context_parallel)
{
    rounds(1, 0, 1, 1);
}
END_TEST

START_TEST(data_and_context_parallel)
{
    rounds(0, 0, 1, 1);
}
END_TEST

START_TEST(vocabulary_parallel)
{
    rounds(1, 1, 0, 1);
}
END_TEST

START_TEST(accumulation)
{
    rounds(1, 1, 1, 0);
}
END_TEST

START_TEST(all_at_once)
{
    rounds(2, 2, 2, 0);
    rounds(0, 0, 0, 0);
}
END_TEST

/* -------------------------------------------------- columns, special cases */

/* Float32, scope exact, dft, nothing spoilt. */
static struct world plain_world(int64_t rows, int64_t cols, int64_t n)
{
    struct world w = {.n_samples = n};
    w.context = support_context(NULL, 1);
    w.b = support_batch_new(rows, cols, CADFT_DTYPE_F32, n, 2);
    return w;
}

static void put(struct world *w, int64_t r, int64_t v, double value)
{
    support_put(w->b->z, w->b->dtype, r * w->b->cols + v, (float)value);
}

/* Shards of one column, and in each row one shard that is all masked. */
START_TEST(narrow_and_masked_shards)
{
    static const int64_t cuts[] = {0, 1, 2, 5, 6, 9};
    for (int objective = 0; objective < 7; objective++) {
        struct world w = plain_world(12, 9, 3);
        struct plan p = plan_new(&w, 1, 1, 5, 1);
        memcpy(p.cut, cuts, sizeof cuts);
        set(&w, CADFT_LOSS_OBJECTIVE, objective);
        for (int64_t r = 0; r < 12; r++) {
            for (int64_t v = cuts[r % 5]; v < cuts[r % 5 + 1]; v++)
                put(&w, r, v, -INFINITY);
            w.b->y[r] = (int32_t)cuts[(r + 2) % 5];
        }
        compare(&w, &p);
        plan_free(&p);
        world_free(&w);
    }
}
END_TEST

/* 1 - p from 1e-6 to 1e-30, with the label on either side of every cut. */
START_TEST(easy_rows_over_shards)
{
    struct world w = plain_world(60, 6, 3);
    struct plan p = plan_new(&w, 1, 1, 3, 1);
    set(&w, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_SFT);
    for (int64_t r = 0; r < 60; r++) {
        w.b->y[r] = (int32_t)(r % 6);
        put(&w, r, r % 6, 16 + (double)r);
    }
    compare(&w, &p);
    plan_free(&p);
    world_free(&w);
}
END_TEST

/* Rows of many blocks, of every type: what a cut moves from one block's sum
 * to another's does not show. */
START_TEST(wide_rows_over_shards)
{
    static const int32_t dtypes[] = {CADFT_DTYPE_F32, CADFT_DTYPE_BF16,
                                     CADFT_DTYPE_F16};
    for (int i = 0; i < 12; i++) {
        struct world w = {.n_samples = 4};
        struct plan p;
        w.context = support_context(NULL, 1);
        w.b = support_batch_new(12, 3000 + support_below(3000), dtypes[i % 3],
                                w.n_samples, i < 6 ? 1.0 : 4.0);
        p = plan_new(&w, 1, 1, 2 + (int)support_below(MAX_SHARDS - 1), 1);
        compare(&w, &p);
        plan_free(&p);
        world_free(&w);
    }
}
END_TEST

/* Observe and exchange over two shards; what both get from the last import.
 * `total` columns are claimed. */
static int32_t
two_shards(const struct world *w, int64_t total, cadft_error *err)
{
    struct plan p = plan_new(w, 1, 1, 2, 1);
    struct rank *ranks = ranks_new(w, &p);
    cadft_loss *losses[2] = {ranks[0].loss, ranks[1].loss};
    double all[64], part[64];
    int32_t status[2];
    for (int t = 0; t < 2; t++) {
        struct piece *piece = &ranks[t].pieces[0];
        piece->b->batch.vocab_total = total;
        CHECK_OK(cadft_loss_observe(losses[t], &piece->b->batch, NULL,
                                    &piece->number, err),
                 *err);
    }
    exchange(losses, 2, CADFT_EXCHANGE_ROW_MAX, 0);
    for (int t = 0; t < 2; t++) {
        CHECK_OK(cadft_loss_export(losses[t], CADFT_EXCHANGE_ROW_SUM, 0, 1,
                                   part, 64, NULL, err),
                 *err);
        for (int i = 0; i < 64; i++)
            all[i] = part[i] + (t ? all[i] : 0);
    }
    for (int t = 0; t < 2; t++)
        status[t] = cadft_loss_import(losses[t], CADFT_EXCHANGE_ROW_SUM, all,
                                      (size_t)w->b->rows * 8, err);
    ck_assert_int_eq(status[0], status[1]);
    ranks_free(&p, ranks);
    plan_free(&p);
    return status[0];
}

/* NaN, +inf and only -inf in one shard are seen by both; so is a label that
 * lies in nobody's columns. */
START_TEST(bad_rows_reach_every_shard)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        struct world w = plain_world(8, 8, 1);
        cadft_error err = support_error();
        for (int64_t v = 0; v < 8 && i < 3; v++)
            if (v == 7 || i == 2)
                put(&w, 3, v, values[i]);
        if (i == 3)
            w.b->y[3] = 8;
        CHECK_STATUS(two_shards(&w, i == 3 ? 9 : 8, &err),
                     i == 3 ? CADFT_E_LABEL : CADFT_E_NONFINITE, err);
        ck_assert_msg(strstr(err.message, "row 3") != NULL, "%s", err.message);
        world_free(&w);
    }
}
END_TEST

/* With one process, importing what was exported changes nothing. */
START_TEST(exchange_with_oneself)
{
    for (int i = 0; i < 16; i++) {
        struct world w = world_new(i % 8);
        struct plan p = plan_new(&w, 1, 1, 1, 2);
        struct result alone, merged;
        cut(&w, &p, &alone);
        p.always = 1;
        cut(&w, &p, &merged);
        ck_assert_mem_eq(alone.grad, merged.grad,
                         (size_t)(w.b->rows * w.b->cols) * sizeof(float));
        ck_assert_mem_eq(&alone.report, &merged.report, sizeof merged.report);
        result_free(&alone);
        result_free(&merged);
        plan_free(&p);
        world_free(&w);
    }
}
END_TEST

/* ------------------------------------------------------------------- scopes */

/* Scope local: samples 0 to 2 in the first micro-batch, 3 to 5 in the second,
 * their rows spread over two processes. The same as with one process. */
START_TEST(local_over_context)
{
    struct world w = plain_world(30, 12, 6);
    struct plan p = plan_new(&w, 1, 2, 1, 2);
    struct result one, two;
    const char *name = "local over two processes";
    set(&w, CADFT_LOSS_SCOPE, CADFT_SCOPE_LOCAL);
    set(&w, CADFT_LOSS_REDUCTION, CADFT_REDUCTION_SAMPLE_MEAN);
    set(&w, CADFT_LOSS_DENOMINATOR, 6);
    for (int64_t r = 0; r < 30; r++) {
        p.context[r] = (int)(r % 2);
        p.micro[r] = w.b->ids[r] >= 3;
    }
    p.in_turn = 1;
    cut_in_turn(&w, &p, &two);
    p.n_cp = 1;
    memset(p.context, 0, 30 * sizeof *p.context);
    cut_in_turn(&w, &p, &one);
    for (int64_t i = 0; i < 6; i++) {
        SAME("rows", i, two.samples[3][i], one.samples[3][i], 0.0);
        SAME("w", i, two.samples[2][i], one.samples[2][i],
             EXACT * one.samples[2][i]);
    }
    same_grad(name, &w, &one, &two, 0);
    same_report(name, &one.report, &two.report, 0);
    result_free(&one);
    result_free(&two);
    plan_free(&p);
    world_free(&w);
}
END_TEST

struct statistics {
    double n, mu, sigma;
};

static struct statistics statistics_of(const double *c, int64_t n)
{
    struct statistics s = {(double)n, 0, 0};
    for (int64_t i = 0; i < n; i++)
        s.mu += c[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        s.sigma += (c[i] - s.mu) * (c[i] - s.mu) / (double)n;
    s.sigma = sqrt(s.sigma);
    return s;
}

enum { STEPS = 5, SAMPLES = 12, GROUP = 3 };

/* chat and w of each group of three samples, a micro-batch, against the
 * average so far; before there is one, and with scope local, its own. */
static void check_groups(const struct world *w,
                         const struct result *x,
                         const struct statistics *average)
{
    const char *name = "scopes";
    int local = option(w, CADFT_LOSS_SCOPE) == CADFT_SCOPE_LOCAL;
    for (int64_t i = 0; i < SAMPLES; i++) {
        const double *c = x->samples[0];
        struct statistics s = statistics_of(c + i / GROUP * GROUP, GROUP);
        double chat, bias = 1 - pow(0.8, average->n);
        if (!local && average->n > 0) {
            s.mu = average->mu / bias;
            s.sigma = average->sigma / bias;
        }
        chat = (c[i] - s.mu) / (s.sigma + 1e-6);
        SAME("chat", i, x->samples[1][i], chat, EXACT * (1 + fabs(chat)));
        SAME("w", i, x->samples[2][i], exp(-fmax(0, chat)), EXACT);
    }
    for (int64_t r = 0; r < w->b->rows; r++) {
        double a = x->samples[2][w->b->ids[r]] * x->rows[3][r] / 48;
        SAME("scale", r, x->rows[4][r], a, EXACT * a);
    }
}

/* Two processes with two micro-batches each. A running average lives in the
 * handles, so each step loads it from the one before. */
static void scope_steps(int scope)
{
    struct statistics average = {0};
    unsigned char state[256];
    size_t size = 0;
    for (int step = 0; step < STEPS; step++) {
        struct world w = plain_world(48, 10, SAMPLES);
        struct plan p = plan_new(&w, 2, 1, 1, 2);
        struct statistics all;
        struct result x;
        set(&w, CADFT_LOSS_SCOPE, scope);
        set(&w, CADFT_LOSS_RUNNING_DECAY, 0.8);
        set(&w, CADFT_LOSS_DENOMINATOR, 48);
        for (int64_t r = 0; r < 48; r++) {
            p.data[r] = w.b->ids[r] / (2 * GROUP);
            p.micro[r] = w.b->ids[r] / GROUP % 2;
        }
        p.in_turn = 1;
        w.state = state;
        w.state_size = size;
        w.state_out = &size;
        cut_in_turn(&w, &p, &x);
        check_groups(&w, &x, &average);
        all = statistics_of(x.samples[0], SAMPLES);
        average.mu = 0.8 * average.mu + 0.2 * all.mu;
        average.sigma = 0.8 * average.sigma + 0.2 * all.sigma;
        average.n += 1;
        result_free(&x);
        plan_free(&p);
        world_free(&w);
    }
}

START_TEST(running_and_local)
{
    scope_steps(CADFT_SCOPE_RUNNING);
    scope_steps(CADFT_SCOPE_LOCAL);
}
END_TEST

/* Without the host's denominator such a scope cannot know the counts. */
START_TEST(scopes_need_a_denominator)
{
    for (int reduction = 0; reduction < 4; reduction++)
        for (int scope = 1; scope < 3; scope++) {
            struct world w = plain_world(6, 5, 2);
            struct plan p = plan_new(&w, 1, 1, 1, 1);
            struct rank *ranks;
            cadft_error err = support_error();
            set(&w, CADFT_LOSS_SCOPE, scope);
            set(&w, CADFT_LOSS_REDUCTION, reduction);
            ranks = ranks_new(&w, &p);
            observe_micro(&p, ranks, 0);
            CHECK_STATUS(cadft_loss_weigh(ranks[0].loss, &err),
                         reduction == CADFT_REDUCTION_SUM ? CADFT_OK
                                                          : CADFT_E_UNSUPPORTED,
                         err);
            ranks_free(&p, ranks);
            plan_free(&p);
            world_free(&w);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("shards");
    TCase *cuts = tcase_create("cuts"), *scopes = tcase_create("scopes");
    tcase_add_test(cuts, data_parallel);
    tcase_add_test(cuts, context_parallel);
    tcase_add_test(cuts, data_and_context_parallel);
    tcase_add_test(cuts, vocabulary_parallel);
    tcase_add_test(cuts, accumulation);
    tcase_add_test(cuts, all_at_once);
    tcase_add_test(cuts, narrow_and_masked_shards);
    tcase_add_test(cuts, easy_rows_over_shards);
    tcase_add_test(cuts, wide_rows_over_shards);
    tcase_add_test(cuts, bad_rows_reach_every_shard);
    tcase_add_test(cuts, exchange_with_oneself);
    tcase_add_test(scopes, local_over_context);
    tcase_add_test(scopes, running_and_local);
    tcase_add_test(scopes, scopes_need_a_denominator);
    suite_add_tcase(suite, cuts);
    suite_add_tcase(suite, scopes);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
