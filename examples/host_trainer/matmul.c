/* SPDX-License-Identifier: Apache-2.0 */
#include "matmul.h"

#ifdef HOST_HAVE_CBLAS

#    include <cblas.h>

/* OpenBLAS reads its environment before main, so only this call is left;
 * weak, because other BLAS libraries do not have it. */
#    if defined(__GNUC__)
#        pragma weak openblas_set_num_threads
extern void openblas_set_num_threads(int n);
#    endif

void matmul_single_thread(void)
{
#    if defined(__GNUC__)
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
#    endif
}

void matmul_nt(int m,
               int n,
               int k,
               const float *x,
               int ldx,
               const float *w,
               int ldw,
               float *y,
               int ldy)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, x, ldx,
                w, ldw, 0.0f, y, ldy);
}

void matmul_nn(int m,
               int n,
               int k,
               const float *dy,
               int lddy,
               const float *w,
               int ldw,
               float *dx,
               int lddx)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, dy,
                lddy, w, ldw, 0.0f, dx, lddx);
}

void matmul_tn_add(int m,
                   int n,
                   int k,
                   const float *dy,
                   int lddy,
                   const float *x,
                   int ldx,
                   float *dw,
                   int lddw)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, 1.0f, dy,
                lddy, x, ldx, 1.0f, dw, lddw);
}

#else

#    include <stddef.h>

void matmul_single_thread(void)
{
}

enum { LANES = 16 };

/* Independent partial sums, so that a compiler can use vector registers
 * without being allowed to reorder float additions. */
static float dot(int n, const float *a, const float *b)
{
    float part[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            part[j] += a[i + j] * b[i + j];
    float sum = 0;
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int j = 0; j < LANES; j++)
        sum += part[j];
    return sum;
}

static void add_scaled(int n, float s, const float *a, float *out)
{
    for (int i = 0; i < n; i++)
        out[i] += s * a[i];
}

void matmul_nt(int m,
               int n,
               int k,
               const float *x,
               int ldx,
               const float *w,
               int ldw,
               float *y,
               int ldy)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++)
            y[(ptrdiff_t)i * ldy + j] =
                dot(k, x + (ptrdiff_t)i * ldx, w + (ptrdiff_t)j * ldw);
}

void matmul_nn(int m,
               int n,
               int k,
               const float *dy,
               int lddy,
               const float *w,
               int ldw,
               float *dx,
               int lddx)
{
    for (int i = 0; i < m; i++) {
        float *out = dx + (ptrdiff_t)i * lddx;
        for (int j = 0; j < n; j++)
            out[j] = 0;
        for (int p = 0; p < k; p++)
            add_scaled(n, dy[(ptrdiff_t)i * lddy + p], w + (ptrdiff_t)p * ldw,
                       out);
    }
}

void matmul_tn_add(int m,
                   int n,
                   int k,
                   const float *dy,
                   int lddy,
                   const float *x,
                   int ldx,
                   float *dw,
                   int lddw)
{
    for (int p = 0; p < k; p++)
        for (int i = 0; i < m; i++)
            add_scaled(n, dy[(ptrdiff_t)p * lddy + i], x + (ptrdiff_t)p * ldx,
                       dw + (ptrdiff_t)i * lddw);
}

#endif
