/* SPDX-License-Identifier: Apache-2.0 */
/* The loss's slots. What may look odd is explained in doc/backend.md: the
 * sum without its largest term, masks that are told by the raw logit. */
#include "numbers.h"
#include "toy.h"

static double capped(const cadft_loss_rows *rows, double z)
{
    if (rows->softcap > 0 && isfinite(z))
        return rows->softcap * tanh(z / rows->softcap);
    return z;
}

void toy_row_stats(const cadft_loss_rows *rows,
                   const void *z,
                   int32_t label,
                   uint32_t want,
                   double *stats)
{
    double max = -INFINITY, rest = 0, t = 0, sum = 0, unmasked = 0;
    int64_t at_max = -1;
    int bad = 0;
    for (int64_t v = 0; v < rows->cols; v++) {
        double x = toy_get(z, rows->dtype, v);
        bad |= isnan(x) || x == INFINITY;
        x = capped(rows, x);
        if (x > max) {
            max = x;
            at_max = v;
        }
    }
    for (int64_t v = 0; v < rows->cols && !bad; v++) {
        double x = capped(rows, toy_get(z, rows->dtype, v));
        if (x == -INFINITY)
            continue;
        rest += v == at_max ? 0 : exp(x - max);
        t += exp(x - max) * (max - x);
        sum += x;
        unmasked += 1;
    }
    memset(stats, 0, CADFT_STAT_STRIDE * sizeof *stats);
    stats[CADFT_STAT_Z_MAX] = bad ? NAN : max;
    stats[CADFT_STAT_SUM_REST] = rest;
    if (label >= 0)
        stats[CADFT_STAT_Z_LABEL] =
            capped(rows, toy_get(z, rows->dtype, label));
    if (want & CADFT_WANT_ENTROPY)
        stats[CADFT_STAT_SUM_T] = t;
    if (want & CADFT_WANT_SUM) {
        stats[CADFT_STAT_SUM_Z] = sum;
        stats[CADFT_STAT_UNMASKED] = unmasked;
    }
}

void toy_row_grad(const cadft_loss_rows *rows,
                  const void *z,
                  int32_t label,
                  const double *coef,
                  const cadft_loss_grad_out *out,
                  void *grad)
{
    for (int64_t v = 0; v < out->cols; v++) {
        double g = 0;
        if (coef && v < rows->cols) {
            double x = capped(rows, toy_get(z, rows->dtype, v));
            if (v == label)
                g = coef[CADFT_COEF_LABEL];
            else if (x != -INFINITY)
                g = coef[CADFT_COEF_A] * exp(x - coef[CADFT_COEF_LSE]) -
                    coef[CADFT_COEF_C];
            if (rows->softcap > 0 && g != 0)
                g *= x == -INFINITY
                         ? 0
                         : 1 - x / rows->softcap * (x / rows->softcap);
        }
        toy_put(grad, out->dtype, v, g);
    }
}

void toy_loss_stats(const void *args, cadft_error *error)
{
    const toy_loss_args *a = args;
    const cadft_loss_rows *rows = &a->rows;
    const char *z = toy_rows(&rows->logits, rows->rows, rows->cols,
                             rows->row_stride, rows->dtype, error);
    const int32_t *labels =
        toy_rows(&rows->labels, 1, rows->rows, 0, CADFT_DTYPE_I32, error);
    double *stats = toy_rows(&a->stats, rows->rows, CADFT_STAT_STRIDE,
                             CADFT_STAT_STRIDE, CADFT_DTYPE_F64, error);
    for (int64_t r = 0; r < rows->rows && !error->code; r++)
        if (labels[r] != CADFT_ROW_SKIP)
            toy_row_stats(rows,
                          z + r * rows->row_stride * toy_size(rows->dtype),
                          labels[r], a->want, stats + r * CADFT_STAT_STRIDE);
}

void toy_loss_grad(const void *args, cadft_error *error)
{
    const toy_loss_args *a = args;
    const cadft_loss_rows *rows = &a->rows;
    const cadft_loss_grad_out *out = &a->out;
    const char *z = toy_rows(&rows->logits, rows->rows, rows->cols,
                             rows->row_stride, rows->dtype, error);
    const int32_t *labels =
        toy_rows(&rows->labels, 1, rows->rows, 0, CADFT_DTYPE_I32, error);
    const double *coef = toy_rows(&a->coef, rows->rows, CADFT_COEF_STRIDE,
                                  CADFT_COEF_STRIDE, CADFT_DTYPE_F64, error);
    char *grad = toy_rows(&out->grad, rows->rows, out->cols, out->row_stride,
                          out->dtype, error);
    for (int64_t r = 0; r < rows->rows && !error->code; r++)
        toy_row_grad(
            rows, z + r * rows->row_stride * toy_size(rows->dtype), labels[r],
            labels[r] == CADFT_ROW_SKIP ? NULL : coef + r * CADFT_COEF_STRIDE,
            out, grad + r * out->row_stride * toy_size(out->dtype));
}
