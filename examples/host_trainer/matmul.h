/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products in float32, row-major: CBLAS when the build has it
 * (HOST_HAVE_CBLAS), otherwise plain loops. */
#ifndef HOST_MATMUL_H
#define HOST_MATMUL_H

/* y[m, n] = x[m, k] w[n, k]^T; forward through a layer. */
void matmul_nt(int m,
               int n,
               int k,
               const float *x,
               int ldx,
               const float *w,
               int ldw,
               float *y,
               int ldy);

/* dx[m, n] = dy[m, k] w[k, n]; back through a layer. */
void matmul_nn(int m,
               int n,
               int k,
               const float *dy,
               int lddy,
               const float *w,
               int ldw,
               float *dx,
               int lddx);

/* dw[m, n] += dy[k, m]^T x[k, n]; gradient of a layer, k rows. */
void matmul_tn_add(int m,
                   int n,
                   int k,
                   const float *dy,
                   int lddy,
                   const float *x,
                   int ldx,
                   float *dw,
                   int lddw);

/* Keep the BLAS from starting threads of its own: the pool splits the work
 * into pieces of fixed size, so that every product is the same call, with
 * the same result, whatever the number of threads. */
void matmul_single_thread(void);

#endif
