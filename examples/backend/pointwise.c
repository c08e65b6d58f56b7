/* SPDX-License-Identifier: Apache-2.0 */
/* What touches each element once or twice: RMSNorm, rotary embedding,
 * SwiGLU. */
#include "numbers.h"
#include "toy.h"

/* ---------------------------------------------------------------- norm */

void toy_norm(const void *args, cadft_error *error)
{
    const cadft_norm_args *a = args;
    int64_t width = a->groups * a->cols;
    const float *x =
        toy_rows(&a->x, a->rows, width, a->x_stride, CADFT_DTYPE_F32, error);
    float *y =
        toy_rows(&a->y, a->rows, width, a->y_stride, CADFT_DTYPE_F32, error);
    const void *weight =
        toy_rows(&a->weight, 1, a->cols, 0, a->weight_dtype, error);
    float *inv = a->inv.base ? toy_rows(&a->inv, a->rows, a->groups, a->groups,
                                        CADFT_DTYPE_F32, error)
                             : NULL;
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t g = 0; g < a->groups; g++) {
            const float *from = x + r * a->x_stride + g * a->cols;
            float *to = y + r * a->y_stride + g * a->cols;
            double squares = 0, scale;
            for (int64_t i = 0; i < a->cols; i++)
                squares += (double)from[i] * (double)from[i];
            scale = 1 / sqrt(squares / (double)a->cols + a->eps);
            if (inv)
                inv[r * a->groups + g] = (float)scale;
            for (int64_t i = 0; i < a->cols; i++)
                to[i] = (float)((double)from[i] * scale *
                                toy_get(weight, a->weight_dtype, i));
        }
}

/* One vector: grad_x and y, and its part of grad_weight into `sum`. */
static void norm_grad_vector(const cadft_norm_args *a,
                             const float *x,
                             const float *grad_y,
                             const void *weight,
                             double inv,
                             float *grad_x,
                             float *y,
                             double *sum)
{
    double mean = 0;
    for (int64_t i = 0; i < a->cols; i++)
        mean += (double)grad_y[i] * toy_get(weight, a->weight_dtype, i) *
                (double)x[i];
    mean /= (double)a->cols;
    for (int64_t i = 0; i < a->cols; i++) {
        double w = toy_get(weight, a->weight_dtype, i);
        double normed = (double)x[i] * inv;
        double g = (double)grad_y[i];
        grad_x[i] += (float)(inv * (g * w - normed * inv * mean));
        sum[i] += g * normed;
        if (y)
            y[i] = (float)(normed * w);
    }
}

void toy_norm_grad(const void *args, cadft_error *error)
{
    const cadft_norm_args *a = args;
    int64_t width = a->groups * a->cols;
    const float *x =
        toy_rows(&a->x, a->rows, width, a->x_stride, CADFT_DTYPE_F32, error);
    const float *grad_y = toy_rows(&a->grad_y, a->rows, width, a->y_stride,
                                   CADFT_DTYPE_F32, error);
    float *grad_x = toy_rows(&a->grad_x, a->rows, width, a->grad_x_stride,
                             CADFT_DTYPE_F32, error);
    float *y = a->y.base ? toy_rows(&a->y, a->rows, width, a->y_stride,
                                    CADFT_DTYPE_F32, error)
                         : NULL;
    const float *inv = toy_rows(&a->inv, a->rows, a->groups, a->groups,
                                CADFT_DTYPE_F32, error);
    const void *weight =
        toy_rows(&a->weight, 1, a->cols, 0, a->weight_dtype, error);
    float *grad_weight =
        a->grad_weight.base
            ? toy_rows(&a->grad_weight, 1, a->cols, 0, CADFT_DTYPE_F32, error)
            : NULL;
    double *sum = toy_rows(&a->work, 1, a->cols, 0, CADFT_DTYPE_F64, error);
    if (error->code)
        return;
    memset(sum, 0, (size_t)a->cols * sizeof *sum);
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t g = 0; g < a->groups; g++) {
            int64_t i = g * a->cols;
            norm_grad_vector(a, x + r * a->x_stride + i,
                             grad_y + r * a->y_stride + i, weight,
                             (double)inv[r * a->groups + g],
                             grad_x + r * a->grad_x_stride + i,
                             y ? y + r * a->y_stride + i : NULL, sum);
        }
    for (int64_t i = 0; i < a->cols && grad_weight; i++)
        grad_weight[i] = (float)((double)grad_weight[i] + sum[i]);
}

/* ---------------------------------------------------------------- rope */

void toy_rope(const void *args, cadft_error *error)
{
    const cadft_rope_args *a = args;
    int64_t half = a->head_dim / 2;
    float *x = toy_rows(&a->x, a->rows, a->groups * a->head_dim, a->x_stride,
                        CADFT_DTYPE_F32, error);
    const int32_t *indices =
        toy_rows(&a->indices, 1, a->rows, 0, CADFT_DTYPE_I32, error);
    for (int64_t r = 0; r < a->rows && !error->code; r++) {
        /* How many positions the table has is not in the arguments. */
        const float *table = toy_rows(&a->table, indices[r] + 1, a->head_dim,
                                      a->head_dim, CADFT_DTYPE_F32, error);
        if (!table)
            return;
        table += indices[r] * a->head_dim;
        for (int64_t g = 0; g < a->groups; g++) {
            float *head = x + r * a->x_stride + g * a->head_dim;
            for (int64_t i = 0; i < half; i++) {
                double cosine = (double)table[i];
                double sine = (double)table[half + i] * (a->inverse ? -1 : 1);
                double u = (double)head[i], v = (double)head[half + i];
                head[i] = (float)(u * cosine - v * sine);
                head[half + i] = (float)(v * cosine + u * sine);
            }
        }
    }
}

/* -------------------------------------------------------------- swiglu */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void toy_swiglu(const void *args, cadft_error *error)
{
    const cadft_swiglu_args *a = args;
    const float *gate = toy_rows(&a->gate, a->rows, a->cols, a->in_stride,
                                 CADFT_DTYPE_F32, error);
    const float *up = toy_rows(&a->up, a->rows, a->cols, a->in_stride,
                               CADFT_DTYPE_F32, error);
    float *out = toy_rows(&a->out, a->rows, a->cols, a->out_stride,
                          CADFT_DTYPE_F32, error);
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++) {
            double x = (double)gate[r * a->in_stride + i];
            double u = (double)up[r * a->in_stride + i];
            out[r * a->out_stride + i] = (float)(x * sigmoid(x) * u);
        }
}

/* Everything of an element is read before anything of it is written: the
 * gradients may lie over the inputs, and out over grad_out. */
void toy_swiglu_grad(const void *args, cadft_error *error)
{
    const cadft_swiglu_args *a = args;
    const cadft_array *arrays[] = {&a->gate, &a->up, &a->grad_gate,
                                   &a->grad_up};
    float *in[4], *grad_out, *out;
    for (int i = 0; i < 4; i++)
        in[i] = toy_rows(arrays[i], a->rows, a->cols, a->in_stride,
                         CADFT_DTYPE_F32, error);
    grad_out = toy_rows(&a->grad_out, a->rows, a->cols, a->out_stride,
                        CADFT_DTYPE_F32, error);
    out = a->out.base ? toy_rows(&a->out, a->rows, a->cols, a->out_stride,
                                 CADFT_DTYPE_F32, error)
                      : NULL;
    for (int64_t r = 0; r < a->rows && !error->code; r++)
        for (int64_t i = 0; i < a->cols; i++) {
            int64_t at = r * a->in_stride + i, to = r * a->out_stride + i;
            double x = (double)in[0][at], u = (double)in[1][at];
            double g = (double)grad_out[to], s = sigmoid(x);
            in[2][at] = (float)(g * u * s * (1 + x * sigmoid(-x)));
            in[3][at] = (float)(g * x * s);
            if (out)
                out[to] = (float)(x * s * u);
        }
}
