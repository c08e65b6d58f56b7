/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of device_backend.c: plain loops in float64, written from
 * the comments of cadft/backend.h alone. */
#ifndef TESTS_DEVICE_ROWS_H
#define TESTS_DEVICE_ROWS_H

#include <math.h>
#include <string.h>

#include "cadft/backend.h"

/* --------------------------------------------------------------- numbers */

static double get16(const uint16_t *at, int32_t dtype)
{
    uint32_t bits = (uint32_t)*at << 16;
    int exponent = *at >> 10 & 31, mantissa = *at & 1023;
    double sign = *at >> 15 ? -1 : 1;
    float f;
    if (dtype == CADFT_DTYPE_BF16) {
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    return exponent ? sign * ldexp(mantissa + 1024, exponent - 25)
                    : sign * ldexp(mantissa, -24);
}

static double get(const char *z, int32_t dtype, int64_t i)
{
    return dtype == CADFT_DTYPE_F32
               ? ((const float *)(const void *)z)[i]
               : get16((const uint16_t *)(const void *)z + i, dtype);
}

/* Truncated bfloat16 and float32 are enough for the tests. */
static void put(char *g, int32_t dtype, int64_t i, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (dtype == CADFT_DTYPE_F32)
        ((float *)(void *)g)[i] = f;
    else
        ((uint16_t *)(void *)g)[i] = (uint16_t)(bits >> 16);
}

/* ------------------------------------------------------------------ rows */

static uint64_t size_of(int32_t dtype)
{
    return dtype == CADFT_DTYPE_F32 ? 4 : 2;
}

static uint64_t span(int64_t rows, int64_t cols, int64_t stride, int32_t dtype)
{
    return rows ? (uint64_t)((rows - 1) * stride + cols) * size_of(dtype) : 0;
}

static double capped(const cadft_loss_rows *rows, double z)
{
    return rows->softcap > 0 && isfinite(z)
               ? rows->softcap * tanh(z / rows->softcap)
               : z;
}

static void
row_stats(const cadft_loss_rows *rows, const char *z, int32_t label, double *s)
{
    double max = -INFINITY, sum = 0, t = 0, sum_z = 0, n = 0;
    int bad = 0, at_max = -1;
    for (int64_t v = 0; v < rows->cols; v++) {
        double x = get(z, rows->dtype, v);
        bad |= isnan(x) || x == INFINITY;
        x = capped(rows, x);
        if (x > max) {
            max = x;
            at_max = (int)v;
        }
    }
    for (int64_t v = 0; v < rows->cols; v++) {
        double x = capped(rows, get(z, rows->dtype, v));
        if (x == -INFINITY || bad)
            continue;
        sum += v == at_max ? 0 : exp(x - max);
        t += exp(x - max) * (max - x);
        sum_z += x;
        n += 1;
    }
    s[CADFT_STAT_Z_MAX] = bad ? NAN : max;
    s[CADFT_STAT_SUM_REST] = sum;
    s[CADFT_STAT_Z_LABEL] =
        label >= 0 ? capped(rows, get(z, rows->dtype, label)) : 0;
    s[CADFT_STAT_SUM_T] = t;
    s[CADFT_STAT_SUM_Z] = sum_z;
    s[CADFT_STAT_UNMASKED] = n;
    s[CADFT_STAT_RATE] = s[CADFT_STAT_STRIDE - 1] = 0;
}

/* NULL coef: the row's gradient is zero. */
static void row_grad(const cadft_loss_rows *rows,
                     const char *z,
                     int32_t label,
                     const double *c,
                     const cadft_loss_grad_out *out,
                     char *g)
{
    for (int64_t v = 0; v < out->cols; v++) {
        double x, value = 0;
        if (c && v < rows->cols) {
            x = capped(rows, get(z, rows->dtype, v));
            if (v == label)
                value = c[CADFT_COEF_LABEL];
            else if (x != -INFINITY)
                value = c[CADFT_COEF_A] * exp(x - c[CADFT_COEF_LSE]) -
                        c[CADFT_COEF_C];
            if (rows->softcap > 0)
                value *= x == -INFINITY
                             ? 0
                             : 1 - x / rows->softcap * x / rows->softcap;
        }
        put(g, out->dtype, v, value);
    }
}

static void unit_coef(const double *s, double e, double *c)
{
    double tail = log1p(s[CADFT_STAT_SUM_REST]);
    c[CADFT_COEF_LSE] = s[CADFT_STAT_Z_MAX] + tail;
    c[CADFT_COEF_A] = 1;
    c[CADFT_COEF_C] = e / s[CADFT_STAT_UNMASKED];
    c[CADFT_COEF_LABEL] =
        expm1(s[CADFT_STAT_Z_LABEL] - c[CADFT_COEF_LSE]) + e - c[CADFT_COEF_C];
}

#endif
