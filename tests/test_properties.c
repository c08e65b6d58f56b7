/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold for any input: invariances, linearity, and that neither
 * threads nor instruction sets change a result. Random shapes and values;
 * the seed is printed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "properties.h"

/* -------------------------------------------------------------- invariance */

/* Multiples of a power of two, so that a constant can be added exactly; the
 * results still differ, because the kernels' exponent is taken at another
 * place, but both are within REL of the true value: 2 REL apart. k moves by
 * its derivative, below 3 for every objective; the gradient by 2 GRAD and
 * what k and w carry, taken out by the ratio of the scales. */
START_TEST(shift_of_logits)
{
    for (int i = 0; i < ROUNDS; i++) {
        int32_t dtype = dtypes[i % 3];
        double step = dtype == CADFT_DTYPE_BF16 ? 0.25 : 0x1p-5;
        struct problem p = problem_new(i % 8, dtype);
        struct answer a, b;
        int64_t cols = p.b->cols;
        for (int64_t j = 0; j < p.b->rows * cols; j++)
            support_put(p.b->z, dtype, j,
                        (float)(step * (double)(support_below(33) - 16)));
        a = solve(&p, p.context, NULL);
        for (int64_t r = 0; r < p.b->rows; r++) {
            float shift = (float)(support_below(41) - 20);
            for (int64_t j = r * cols; j < (r + 1) * cols; j++)
                support_put(p.b->z, dtype, j,
                            support_get(p.b->z, dtype, j) + shift);
        }
        b = solve(&p, p.context, NULL);
        for (int64_t r = 0; r < p.b->rows; r++) {
            double ratio = a.scale[r] != 0 ? b.scale[r] / a.scale[r] : 1;
            double most = fabs(ratio) * largest(a.grad + r * cols, cols);
            near("l", r, a.l[r], b.l[r], 2 * REL * a.l[r]);
            near("k", r, a.k[r], b.k[r], 6 * REL);
            for (int64_t j = r * cols; j < (r + 1) * cols; j++)
                near("grad", j, ratio * (double)a.grad[j], (double)b.grad[j],
                     2 * GRAD * most);
        }
        answer_free(&a);
        answer_free(&b);
        problem_free(&p);
    }
}
END_TEST

static void shuffle(int64_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t j = support_below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

/* Row order[i] of the one is row i of the other; sample s becomes id[s].
 * Rows are computed alone, so l is equal bit for bit; sums over rows and
 * samples change their order, so w is equal to 1e-12 and a gradient, one
 * rounding of a float64 product, to one unit. */
static void
permuted(const struct problem *p, const int64_t *order, const int64_t *id)
{
    struct answer a = solve(p, p->context, NULL), b;
    struct problem q = *p;
    size_t size = support_dtype_size(p->b->dtype) * (size_t)p->b->cols;
    q.b = support_batch_copy(p->b);
    q.k = reals(p->b->rows);
    for (int64_t r = 0; r < p->b->rows; r++) {
        memcpy((char *)q.b->z + (size_t)r * size,
               (char *)p->b->z + (size_t)order[r] * size, size);
        q.b->y[r] = p->b->y[order[r]];
        q.b->ids[r] = (int32_t)id[p->b->ids[order[r]]];
        q.k[r] = p->k ? p->k[order[r]] : 0;
    }
    if (!p->k) {
        free(q.k);
        q.k = NULL;
    }
    b = solve(&q, p->context, NULL);
    for (int64_t s = 0; s < p->n; s++)
        near("w", s, a.w[s], b.w[id[s]], EXACT * a.w[s]);
    for (int64_t r = 0; r < p->b->rows; r++) {
        near("l", r, a.l[order[r]], b.l[r], 0);
        for (int64_t v = 0; v < p->b->cols; v++) {
            float x = a.grad[order[r] * p->b->cols + v];
            float y = b.grad[r * p->b->cols + v];
            ck_assert_msg(support_ulps(x, y) <= 1, "grad: %.9g and %.9g", x, y);
        }
    }
    near("loss", 0, a.report.loss, b.report.loss, EXACT * fabs(a.report.loss));
    near("sigma", 0, a.report.sigma, b.report.sigma, EXACT * a.report.mu);
    free(q.k);
    support_batch_free(q.b);
    answer_free(&a);
    answer_free(&b);
}

START_TEST(permutations)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        int64_t order[64], id[64];
        for (int64_t j = 0; j < 64; j++)
            order[j] = id[j] = j;
        add_terms(&p, i % 8, 1);
        shuffle(order, p.b->rows);
        permuted(&p, order, id);
        shuffle(id, p.n);
        permuted(&p, order, id);
        for (int64_t j = 0; j < p.b->rows; j++)
            order[j] = j;
        permuted(&p, order, id);
        problem_free(&p);
    }
}
END_TEST

START_TEST(beta_zero_is_no_weighting)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        struct answer a, b;
        add_terms(&p, i % 8, 1);
        set(&p, CADFT_LOSS_RENORMALISE, i % 2);
        set(&p, CADFT_LOSS_BETA, 0);
        a = solve(&p, p.context, NULL);
        set(&p, CADFT_LOSS_BETA, 2);
        set(&p, CADFT_LOSS_WEIGHTING, 0);
        b = solve(&p, p.context, NULL);
        same_bits(&p, &a, &b);
        answer_free(&a);
        answer_free(&b);
        problem_free(&p);
    }
}
END_TEST

/* A power of two changes no mantissa. Values so small that float32 loses
 * bits of them are left out. */
START_TEST(grad_scale_is_linear)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        int exponent = (int)support_below(31) - 15;
        struct answer a = {0}, b;
        add_terms(&p, i % 8, 1);
        a = solve(&p, p.context, NULL);
        set(&p, CADFT_LOSS_GRAD_SCALE, ldexp(i % 2 ? -1 : 1, exponent));
        b = solve(&p, p.context, NULL);
        for (int64_t j = 0; j < p.b->rows * p.b->cols; j++) {
            float x = ldexpf(i % 2 ? -a.grad[j] : a.grad[j], exponent);
            if (fabsf(a.grad[j]) > 0x1p-100f)
                ck_assert_msg(x == b.grad[j], "grad: %.9g and %.9g", x,
                              b.grad[j]);
        }
        ck_assert_mem_eq(&a.report, &b.report, sizeof a.report);
        answer_free(&a);
        answer_free(&b);
        problem_free(&p);
    }
}
END_TEST

/* softmax and target both sum to 1. Each entry is within GRAD of what it is
 * the difference of, and the errors of a row share a sign at worst. A row's
 * parts are its entries and, where they cancel, the smoothed target. */
START_TEST(gradient_rows_sum_to_zero)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        struct answer a;
        double smoothing = is_scaled(i % 8) ? 0.3 * support_uniform() : 0;
        set(&p, CADFT_LOSS_LABEL_SMOOTHING, smoothing);
        a = solve(&p, p.context, NULL);
        for (int64_t r = 0; r < p.b->rows; r++) {
            const float *row = a.grad + r * p.b->cols;
            double sum = 0, size = smoothing * fabs(a.scale[r]);
            for (int64_t v = 0; v < p.b->cols; v++) {
                sum += (double)row[v];
                size += fabs((double)row[v]);
            }
            near("sum of gradient", r, sum, 0, GRAD * size);
        }
        answer_free(&a);
        problem_free(&p);
    }
}
END_TEST

/* ----------------------------------------------------------- unit gradient */

static void same_scaled(const struct problem *p,
                        const struct answer *two,
                        const float *unit,
                        const double *scale)
{
    for (int64_t r = 0; r < p->b->rows; r++) {
        const float *want = two->grad + r * p->b->cols;
        double most = largest(want, p->b->cols);
        for (int64_t v = 0; v < p->b->cols; v++) {
            float x = (float)(scale[r] * (double)unit[r * p->b->cols + v]);
            if (support_ulps(x, want[v]) > 2)
                near("scale * unit", r * p->b->cols + v, (double)x,
                     (double)want[v], GRAD * most);
        }
    }
}

/* Observe with a unit gradient; row scales after weigh. */
static void unit_in_phases(const struct problem *p, const struct answer *two)
{
    cadft_loss *loss = new_loss(p, p->context);
    cadft_loss_batch batch = p->b->batch;
    cadft_error err = support_error();
    size_t size = (size_t)(p->b->rows * p->b->cols);
    float *unit = (float *)calloc(size, sizeof *unit);
    double *scale;
    cadft_tensor grad, k;
    int64_t micro;
    cadft_tensor_init(&grad, sizeof grad, unit, CADFT_DTYPE_F32, 2, p->b->shape,
                      NULL, NULL);
    cadft_tensor_init(&k, sizeof k, p->k, CADFT_DTYPE_F64, 1, p->b->row_shape,
                      NULL, NULL);
    if (p->k)
        batch.k = &k;
    CHECK_OK(cadft_loss_begin(loss, p->n, &err), err);
    CHECK_OK(cadft_loss_observe(loss, &batch, &grad, &micro, &err), err);
    CHECK_OK(cadft_loss_weigh(loss, &err), err);
    scale = rows_of(loss, CADFT_ROWS_SCALE, p->b->rows);
    same_scaled(p, two, unit, scale);
    CHECK_STATUS(cadft_loss_grad(loss, micro, &batch, &grad, &err),
                 CADFT_E_PHASE, err);
    CHECK_OK(cadft_loss_end(loss, NULL, &err), err);
    free(scale);
    free(unit);
    cadft_loss_destroy(loss);
}

START_TEST(unit_gradient)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        struct answer two, one;
        float row_scale[64] = {0};
        double scale[64];
        add_terms(&p, i % 8, 0);
        set(&p, CADFT_LOSS_GRAD_SCALE, 1 + support_uniform());
        two = solve(&p, p.context, NULL);
        one = solve(&p, p.context, row_scale);
        for (int64_t r = 0; r < p.b->rows; r++)
            scale[r] = (double)row_scale[r];
        same_scaled(&p, &two, one.grad, scale);
        ck_assert_mem_eq(&one.report, &two.report, sizeof one.report);
        unit_in_phases(&p, &two);
        answer_free(&one);
        answer_free(&two);
        problem_free(&p);
    }
}
END_TEST

/* --------------------------------------------- threads and instruction sets */

static int32_t backwards(void *user, int64_t n, cadft_task_fn fn, void *task)
{
    int32_t workers = *(int32_t *)user;
    for (int64_t i = n - 1; i >= 0; i--)
        fn(task, i, (int32_t)(i % workers));
    return 0;
}

static cadft_context *backwards_context(void)
{
    static int32_t workers = 5;
    cadft_parallel parallel = {.struct_size = sizeof parallel,
                               .max_workers = workers,
                               .user = &workers,
                               .parallel_for = backwards};
    cadft_context_desc desc = {.struct_size = sizeof desc,
                               .parallel = &parallel};
    cadft_context *context = NULL;
    cadft_error err = support_error();
    CHECK_OK(cadft_context_create(&desc, &context, &err), err);
    return context;
}

/* Enough rows and columns that the work is cut up. */
static void enlarge(struct problem *p)
{
    int64_t rows = 40 + support_below(80), cols = 300 + support_below(900);
    int32_t dtype = p->b->dtype;
    support_batch_free(p->b);
    p->b = support_batch_new(rows, cols, dtype, p->n, 3);
    if (!p->k)
        return;
    free(p->k);
    p->k = reals(rows);
    for (int64_t r = 0; r < rows; r++)
        p->k[r] = support_uniform();
}

START_TEST(threads_change_nothing)
{
    cadft_context *others[3] = {support_context(NULL, 2),
                                support_context(NULL, 7), backwards_context()};
    for (int i = 0; i < 8; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        struct answer one, other;
        enlarge(&p);
        add_terms(&p, i % 8, 1);
        one = solve(&p, p.context, NULL);
        for (int j = 0; j < 3; j++) {
            other = solve(&p, others[j], NULL);
            same_bits(&p, &one, &other);
            answer_free(&other);
        }
        answer_free(&one);
        problem_free(&p);
    }
    for (int j = 0; j < 3; j++)
        cadft_context_destroy(others[j]);
}
END_TEST

static cadft_context *context_or_null(const char *isa)
{
    cadft_context_desc desc = {
        .struct_size = sizeof desc, .n_threads = 1, .backend_options = isa};
    cadft_context *context = NULL;
    cadft_context_create(&desc, &context, NULL);
    return context;
}

/* What a row's scale multiplies is at most 1 per entry, so that the gradient
 * moves by what the scale did; the z-loss beside it has no part in k. */
static void close_to_portable(const struct problem *p,
                              const struct answer *a,
                              const struct answer *c)
{
    int64_t cols = p->b->cols;
    for (int64_t r = 0; r < p->b->rows; r++) {
        double most = largest(c->grad + r * cols, cols);
        double scale = fabs(c->scale[r]);
        double moved = fabs(a->scale[r] - c->scale[r]);
        near("l", r, a->l[r], c->l[r], REL * c->l[r]);
        near("H", r, a->h[r], c->h[r], REL * c->h[r]);
        near("k", r, a->k[r], c->k[r], 3 * REL);
        for (int64_t j = r * cols; j < (r + 1) * cols; j++)
            near("grad", j, (double)a->grad[j], (double)c->grad[j],
                 GRAD * (most + scale) + moved);
    }
}

START_TEST(instruction_sets_agree)
{
    static const char *const wide[] = {"avx2", "avx512", "neon"};
    cadft_context *portable = support_context("c", 1);
    for (int i = 0; i < ROUNDS; i++) {
        struct problem p = problem_new(i % 8, dtypes[i % 3]);
        struct answer c, first = {0}, a;
        add_terms(&p, i % 8, 1);
        c = solve(&p, portable, NULL);
        for (int j = 0; j < 3; j++) {
            cadft_context *context = context_or_null(wide[j]);
            if (!context)
                continue;
            a = solve(&p, context, NULL);
            cadft_context_destroy(context);
            close_to_portable(&p, &a, &c);
            if (first.grad) {
                same_bits(&p, &a, &first);
                answer_free(&a);
            } else {
                first = a;
            }
        }
        answer_free(&first);
        answer_free(&c);
        problem_free(&p);
    }
    cadft_context_destroy(portable);
}
END_TEST

/* ------------------------------------------------------- finite differences */

/* Loss of float32 logits with one moved by `step`. */
static double moved_loss(const struct problem *p, int64_t at, double step)
{
    float before = support_get(p->b->z, CADFT_DTYPE_F32, at);
    struct answer a;
    double loss;
    support_put(p->b->z, CADFT_DTYPE_F32, at, before + (float)step);
    a = solve(p, p->context, NULL);
    support_put(p->b->z, CADFT_DTYPE_F32, at, before);
    loss = a.report.loss;
    answer_free(&a);
    return loss;
}

/* A sanity check of signs and factors, no measurement: the central
 * difference over 2h = 1/16 is off by h^2/6 f''' < 2e-4 |f'''| and by the
 * loss's 1e-6 / h < 4e-5. A row's third derivatives are below 4. */
static void check_differences(const struct problem *p)
{
    struct answer a = solve(p, p->context, NULL);
    for (int64_t j = 0; j < p->b->rows * p->b->cols; j++) {
        double h = 0x1p-5;
        double slope = (moved_loss(p, j, h) - moved_loss(p, j, -h)) / (2 * h);
        near("slope", j, (double)a.grad[j], slope, 2e-3);
    }
    answer_free(&a);
}

/* Objectives with a stop-gradient are held still as objective host with
 * their own k. The weights carry no gradient, so they are off. */
START_TEST(finite_differences)
{
    for (int i = 0; i < 16; i++) {
        struct problem p = problem_new(i % 7, CADFT_DTYPE_F32);
        struct answer a;
        support_batch_free(p.b);
        p.b = support_batch_new(3, 5, CADFT_DTYPE_F32, p.n, 1.5);
        add_terms(&p, i % 7, 1);
        set(&p, CADFT_LOSS_WEIGHTING, 0);
        set(&p, CADFT_LOSS_REDUCTION, CADFT_REDUCTION_SUM);
        a = solve(&p, p.context, NULL);
        if (is_scaled(i % 7)) {
            p.k = reals(3);
            memcpy(p.k, a.k, 3 * sizeof *p.k);
            set(&p, CADFT_LOSS_OBJECTIVE, CADFT_OBJECTIVE_HOST);
        }
        check_differences(&p);
        answer_free(&a);
        problem_free(&p);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("properties");
    TCase *all = tcase_create("properties");
    tcase_add_test(all, shift_of_logits);
    tcase_add_test(all, permutations);
    tcase_add_test(all, beta_zero_is_no_weighting);
    tcase_add_test(all, grad_scale_is_linear);
    tcase_add_test(all, gradient_rows_sum_to_zero);
    tcase_add_test(all, unit_gradient);
    tcase_add_test(all, threads_change_nothing);
    tcase_add_test(all, instruction_sets_agree);
    tcase_add_test(all, finite_differences);
    suite_add_tcase(suite, all);
    return suite;
}

int main(int argc, char **argv)
{
    return support_main(argc, argv, suite());
}
