/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/matmul_cblas.h"

#include <limits.h>
#include <string.h>

/* Values of CBLAS' enumerations. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

/* A tile of C; of B where it is converted first, a block of k at a time. */
enum { TILE_ROWS = 512, TILE_COLUMNS = 512, BLOCK_DEPTH = 1024 };

struct matmul {
    cadft__sgemm_fn *sgemm;
    const cadft__matmul_args *args;
    float *scratch;
    int64_t tiles_m;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static float from_bf16(const void *p, int64_t i)
{
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What C is before products are added: C + bias, C, bias or 0. */
static void prepare(const cadft__matmul_args *g,
                    int64_t m,
                    int64_t rows,
                    int64_t n,
                    int64_t columns)
{
    for (int64_t i = m; i < m + rows; i++)
        for (int64_t j = n; j < n + columns; j++) {
            float *c = g->c + i * g->ldc + j;
            float x = g->accumulate ? *c : 0.0f;
            if (g->bias && g->bias_dtype == CADFTK_F32)
                x += ((const float *)g->bias)[j];
            else if (g->bias)
                x += from_bf16(g->bias, j);
            *c = x;
        }
}

/* B[k.., n..] as floats, [depth, columns] or, transposed, [columns, depth]. */
static void convert(const cadft__matmul_args *g,
                    int64_t n,
                    int64_t columns,
                    int64_t k,
                    int64_t depth,
                    float *out)
{
    int64_t rows = g->b_transposed ? columns : depth;
    int64_t length = g->b_transposed ? depth : columns;
    int64_t at = g->b_transposed ? n * g->ldb + k : k * g->ldb + n;
    for (int64_t i = 0; i < rows; i++, at += g->ldb)
        for (int64_t j = 0; j < length; j++)
            out[i * length + j] = from_bf16(g->b, at + j);
}

static void tile_task(void *task, int64_t index, int32_t worker)
{
    const struct matmul *mm = (const struct matmul *)task;
    const cadft__matmul_args *g = mm->args;
    int64_t m = index % mm->tiles_m * TILE_ROWS;
    int64_t n = index / mm->tiles_m * TILE_COLUMNS;
    int64_t rows = smaller(TILE_ROWS, g->m - m);
    int64_t columns = smaller(TILE_COLUMNS, g->n - n);
    int bf16 = g->b_dtype != CADFTK_F32, add = g->accumulate || g->bias;
    int64_t step = bf16 ? BLOCK_DEPTH : g->k;
    float *block = mm->scratch + (int64_t)worker * TILE_COLUMNS * BLOCK_DEPTH;
    if (add || g->k == 0)
        prepare(g, m, rows, n, columns);
    for (int64_t k = 0; k < g->k; k += step) {
        int64_t depth = smaller(step, g->k - k), ldb = g->ldb;
        const float *a = g->a, *b = block;
        a += g->a_transposed ? k * g->lda + m : m * g->lda + k;
        if (bf16) {
            convert(g, n, columns, k, depth, block);
            ldb = g->b_transposed ? depth : columns;
        } else {
            b = (const float *)g->b + (g->b_transposed ? n * ldb : n);
        }
        mm->sgemm(ROW_MAJOR, g->a_transposed ? TRANS : NO_TRANS,
                  g->b_transposed ? TRANS : NO_TRANS, (int)rows, (int)columns,
                  (int)depth, 1.0f, a, (int)g->lda, b, (int)ldb,
                  add || k > 0 ? 1.0f : 0.0f, g->c + m * g->ldc + n,
                  (int)g->ldc);
    }
}

uint64_t cadft__matmul_cblas_scratch(const cadft__matmul_args *args,
                                     int32_t workers)
{
    uint64_t floats = (uint64_t)TILE_COLUMNS * BLOCK_DEPTH;
    return args->b_dtype == CADFTK_F32 ? 0 : 4 * floats * (uint64_t)workers;
}

int32_t cadft__matmul_cblas(cadft__sgemm_fn *sgemm,
                            const cadft__matmul_args *args,
                            const cadft_backend_host *host,
                            void *scratch)
{
    struct matmul mm = {.sgemm = sgemm, .args = args};
    int64_t tiles_n = args->n / TILE_COLUMNS + (args->n % TILE_COLUMNS != 0);
    mm.scratch = (float *)scratch;
    mm.tiles_m = args->m / TILE_ROWS + (args->m % TILE_ROWS != 0);
    if (args->m == 0 || args->n == 0)
        return CADFT_OK;
    if (args->k > INT_MAX || args->lda > INT_MAX || args->ldb > INT_MAX ||
        args->ldc > INT_MAX)
        return CADFT_E_SHAPE;
    return host->parallel_for(host->user, mm.tiles_m * tiles_n, tile_task, &mm);
}
