/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of c and what follows from them (lib/loss/compat.h), against
 * two passes in long double. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "loss/compat.h"
#include "support.h"

enum { MOST = 400 };

struct truth {
    long double mean, m2;
};

static struct truth two_passes(const double *c, int64_t n)
{
    struct truth t = {0, 0};
    for (int64_t i = 0; i < n; i++)
        t.mean += c[i];
    t.mean /= n ? (long double)n : 1;
    for (int64_t i = 0; i < n; i++)
        t.m2 += (c[i] - t.mean) * (c[i] - t.mean);
    return t;
}

static cadft__moments add_all(const double *c, int64_t n)
{
    cadft__moments m = {0, 0, 0};
    for (int64_t i = 0; i < n; i++)
        cadft__moments_add(&m, c[i]);
    return m;
}

static void within(const char *what, double got, double want, double most)
{
    ck_assert_msg(fabs(got - want) <= most, "%s is %.17g, expected %.17g to %g",
                  what, got, want, most);
}

static void near(const char *what, double got, double want, double rel)
{
    ck_assert_msg(fabs(got - want) <= rel * fabs(want),
                  "%s is %.17g, expected %.17g to %.3g of it", what, got, want,
                  rel);
}

/* What rounding can do. Every step rounds the mean to half an ulp of the
 * largest c, u; those errors shrink by (k-1)/k a step and add up like a
 * random walk, e = 2 u sqrt(n) at most in practice. m2 is the sum of products
 * of two deviations that are each off by e, so it is off by 2 e sum|c - mean|
 * <= 2 e sqrt(n m2), plus its own n roundings. Relative to m2 that has no
 * bound: two values may lie as close as they like. */
static void check_moments(const cadft__moments *m, const double *c, int64_t n)
{
    struct truth t = two_passes(c, n);
    double m2 = (double)t.m2, most = 0, e;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(c[i]));
    e = sqrt((double)n) * DBL_EPSILON * most;
    ck_assert_double_eq(m->n, (double)n);
    within("mean", m->mean, (double)t.mean, e);
    within("m2", m->m2, m2,
           2 * e * sqrt((double)n * m2) + (double)n * e * e +
               (double)n * DBL_EPSILON * m2);
}

START_TEST(none_and_one)
{
    cadft__moments none = {0, 0, 0}, one = {0, 0, 0};
    ck_assert_double_eq(cadft__moments_sigma(&none, 0), 0);
    ck_assert_double_eq(cadft__moments_sigma(&none, 1), 0);
    cadft__moments_merge(&none, &one);
    ck_assert_double_eq(none.n, 0);
    ck_assert_double_eq(none.mean, 0);
    cadft__moments_add(&one, 2.75);
    ck_assert_double_eq(one.n, 1);
    ck_assert_double_eq(one.mean, 2.75);
    ck_assert_double_eq(one.m2, 0);
    ck_assert_double_eq(cadft__moments_sigma(&one, 0), 0);
    ck_assert_double_eq(cadft__moments_sigma(&one, 1), 0);
    cadft__moments_merge(&none, &one); /* into nothing: a copy */
    ck_assert_mem_eq(&none, &one, sizeof one);
    cadft__moments_merge(&one, &(cadft__moments){0, 0, 0});
    ck_assert_mem_eq(&none, &one, sizeof one);
}
END_TEST

START_TEST(random_values)
{
    double c[MOST];
    for (int round = 0; round < 200; round++) {
        int64_t n = 2 + support_below(MOST - 2);
        cadft__moments m;
        for (int64_t i = 0; i < n; i++)
            c[i] = exp(2 * support_normal());
        m = add_all(c, n);
        check_moments(&m, c, n);
        near("sigma", cadft__moments_sigma(&m, 0), sqrt(m.m2 / (double)n),
             1e-15);
        near("sigma", cadft__moments_sigma(&m, 1), sqrt(m.m2 / (double)(n - 1)),
             1e-15);
    }
}
END_TEST

/* c = 1e6 + 1e-3 noise: an ulp of c is 1e-7 of the spread, and the textbook
 * sum(c^2) - n mean^2 has no digit left. */
START_TEST(large_mean_small_spread)
{
    double c[MOST];
    for (int round = 0; round < 50; round++) {
        int64_t n = 2 + support_below(MOST - 2);
        cadft__moments m, half;
        for (int64_t i = 0; i < n; i++)
            c[i] = 1e6 + 1e-3 * support_normal();
        m = add_all(c, n);
        check_moments(&m, c, n);
        m = add_all(c, n / 2);
        half = add_all(c + n / 2, n - n / 2);
        cadft__moments_merge(&m, &half);
        check_moments(&m, c, n);
    }
}
END_TEST

static void shuffle(cadft__moments *parts, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = support_below(i + 1);
        cadft__moments swap = parts[i];
        parts[i] = parts[j];
        parts[j] = swap;
    }
}

/* Shards of any size, empty ones too, merged in any order and as a tree. */
START_TEST(merge_in_any_order)
{
    double c[MOST];
    for (int round = 0; round < 200; round++) {
        int64_t n = 1 + support_below(MOST - 1), k = 1 + support_below(9);
        int64_t first = 0;
        cadft__moments parts[16], line = {0, 0, 0};
        for (int64_t i = 0; i < n; i++)
            c[i] = 3 + support_normal();
        for (int64_t s = 0; s < k; s++) {
            int64_t size = s + 1 < k ? support_below(n - first + 1) : n - first;
            parts[s] = add_all(c + first, size);
            first += size;
        }
        shuffle(parts, k);
        for (int64_t s = 0; s < k; s++)
            cadft__moments_merge(&line, &parts[s]);
        check_moments(&line, c, n);
        for (int64_t step = 1; step < k; step *= 2)
            for (int64_t s = 0; s + step < k; s += 2 * step)
                cadft__moments_merge(&parts[s], &parts[s + step]);
        check_moments(&parts[0], c, n);
    }
}
END_TEST

/* All equal: no spread, to the last bit, however they are merged. */
START_TEST(equal_values)
{
    for (int round = 0; round < 100; round++) {
        double c[64], value = 5 * support_uniform();
        cadft__compat compat = {.eps = 1e-6, .beta = 1};
        cadft__moments a, b;
        for (int i = 0; i < 64; i++)
            c[i] = value;
        a = add_all(c, 1 + support_below(64));
        b = add_all(c, 1 + support_below(64));
        cadft__moments_merge(&a, &b);
        ck_assert_double_eq(a.mean, value);
        ck_assert_double_eq(a.m2, 0);
        compat.mu = a.mean;
        compat.sigma = cadft__moments_sigma(&a, 1);
        ck_assert_double_eq(cadft__compat_score(&compat, value), 0);
        ck_assert_double_eq(cadft__compat_weight(&compat, 0), 1);
    }
}
END_TEST

START_TEST(score_and_weight)
{
    cadft__compat compat = {.mu = 2, .sigma = 0.5, .eps = 0.25, .beta = 3};
    ck_assert_double_eq(cadft__compat_score(&compat, 3.5), 2);
    ck_assert_double_eq(cadft__compat_score(&compat, 0.5), -2);
    near("w", cadft__compat_weight(&compat, 2), exp(-6), 1e-15);
    near("w", cadft__compat_weight(&compat, 1e-9), 1 - 3e-9, 1e-15);
    ck_assert_double_eq(cadft__compat_weight(&compat, 0), 1);
    ck_assert_double_eq(cadft__compat_weight(&compat, -2), 1);
    ck_assert_double_eq(cadft__compat_weight(&compat, -1e300), 1);
    ck_assert_double_eq(cadft__compat_weight(&compat, 1e300), 0);
    compat.beta = 0;
    ck_assert_double_eq(cadft__compat_weight(&compat, 7), 1);
    compat.sigma = 0; /* nothing to compare with, eps or not */
    ck_assert_double_eq(cadft__compat_score(&compat, 100), 0);
    compat.eps = 0;
    ck_assert_double_eq(cadft__compat_score(&compat, 100), 0);
}
END_TEST

/* The weighted mean of the steps so far. With one decay their weights are
 * (1 - decay) decay^(t - s); a decay that changes on the way stays right. */
START_TEST(running_average)
{
    static const double decays[] = {0, 0.5, 0.9, 0.999, -1};
    for (int d = 0; d < 5; d++) {
        cadft__running running = {0, 0, 0};
        long double above = 0, above_sigma = 0, below = 0;
        for (int t = 0; t < 60; t++) {
            double decay = decays[d] < 0 ? support_uniform() : decays[d];
            double mu = 1 + support_uniform(), sigma = support_uniform();
            double got_mu, got_sigma;
            above = decay * above + (1 - decay) * mu;
            above_sigma = decay * above_sigma + (1 - decay) * sigma;
            below = decay * below + (1 - decay);
            cadft__running_add(&running, decay, mu, sigma);
            cadft__running_get(&running, &got_mu, &got_sigma);
            near("mu", got_mu, (double)(above / below), 1e-12);
            near("sigma", got_sigma, (double)(above_sigma / below), 1e-12);
            if (decays[d] >= 0)
                near("weight", running.weight, 1 - pow(decay, t + 1), 1e-12);
        }
    }
}
END_TEST

/* A constant comes out as itself from the first step on. */
START_TEST(running_average_of_a_constant)
{
    cadft__running running = {0, 0, 0};
    double mu, sigma;
    for (int t = 0; t < 2000; t++) {
        cadft__running_add(&running, 0.9, 1.5, 0.25);
        cadft__running_get(&running, &mu, &sigma);
        near("mu", mu, 1.5, 1e-14);
        near("sigma", sigma, 0.25, 1e-14);
        ck_assert_double_le(running.weight, 1);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("compat");
    TCase *moments = tcase_create("moments");
    TCase *weights = tcase_create("weights");
    tcase_add_test(moments, none_and_one);
    tcase_add_test(moments, random_values);
    tcase_add_test(moments, large_mean_small_spread);
    tcase_add_test(moments, merge_in_any_order);
    tcase_add_test(moments, equal_values);
    tcase_add_test(weights, score_and_weight);
    tcase_add_test(weights, running_average);
    tcase_add_test(weights, running_average_of_a_constant);
    suite_add_tcase(suite, moments);
    suite_add_tcase(suite, weights);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
