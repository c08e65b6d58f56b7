/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C is cut into tiles, a task each. A task packs what it needs of A and B
 * into scratch of its own and has no need to wait for others: packing twice
 * what two tasks share costs less than meeting in between, see tile_cost().
 *
 * Inside a task, blocks are sized for the caches: a panel of B, [384, 16] or
 * 24 KiB, stays in L1 while a block of A, 240 rows or 360 KiB in L2, passes
 * by it. A short task is one whose rows of A fit that block over all of k:
 * then panels are packed once, used, and forgotten, and B is read in
 * sequence, as the few rows of generation need it. Otherwise a block of k at a
 * time is packed of all the tile's columns, up to 512.
 */
#include "cpu/matmul.h"

#include <string.h>

#include "common/error.h"

enum {
    BLOCK_ROWS = 240,    /* of A, a multiple of every table's panel_rows */
    BLOCK_COLUMNS = 512, /* of B, a multiple of every table's panel */
    GROUP_COLUMNS = 128, /* columns packed in one go where rows hold them */
    LINE = 64
};

#define A_FLOATS ((int64_t)BLOCK_ROWS * CADFT__MATMUL_DEPTH)

struct matmul {
    const cadftk_table *table;
    const cadft__matmul_args *args;
    char *scratch;
    int64_t stride; /* bytes of scratch of a worker */
    int64_t a_floats;
    int64_t depth; /* of a block of k */
    int64_t tiles_m, tiles_n;
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static int64_t round_up(int64_t a, int64_t b)
{
    return ceil_div(a, b) * b;
}

int64_t cadft__matmul_depth(int64_t k)
{
    int64_t blocks = ceil_div(k, CADFT__MATMUL_DEPTH);
    return blocks ? round_up(ceil_div(k, blocks), 8) : 0;
}

/* ---------------------------------------------------------------- a tile */

/* A part of C: rows [m0, m0 + rows), columns [n0, n0 + columns). */
struct span {
    const struct matmul *mm;
    float *a, *b; /* packed */
    int64_t m0, rows, n0, columns;
};

static void pack_a(const struct span *s,
                   int64_t m,
                   int64_t rows,
                   int64_t k,
                   int64_t depth,
                   float *out)
{
    const cadft__matmul_args *g = s->mm->args;
    const float *from =
        g->a_transposed ? g->a + k * g->lda + m : g->a + m * g->lda + k;
    s->mm->table->pack_a[g->a_transposed != 0](from, g->lda, rows, depth,
                                               g->m - m, out);
}

static void pack_b(const struct span *s,
                   int64_t n,
                   int64_t columns,
                   int64_t k,
                   int64_t depth,
                   float *out)
{
    const cadft__matmul_args *g = s->mm->args;
    int64_t at = g->b_transposed ? n * g->ldb + k : k * g->ldb + n;
    size_t size = g->b_dtype == CADFTK_F32 ? 4 : 2;
    s->mm->table->pack_b[g->b_dtype][g->b_transposed != 0](
        (const char *)g->b + (size_t)at * size, g->ldb, columns, depth, out);
}

/* The bias of columns [n, n + columns) as floats, or NULL. */
static const float *
bias_of(const struct matmul *mm, int64_t n, int64_t columns, float *out)
{
    const cadft__matmul_args *g = mm->args;
    if (!g->bias)
        return NULL;
    memset(out, 0, CADFTK_PANEL_MAX * sizeof *out);
    if (g->bias_dtype == CADFTK_F32) {
        memcpy(out, (const float *)g->bias + n, (size_t)columns * sizeof *out);
        return out;
    }
    for (int64_t j = 0; j < columns; j++) {
        uint32_t bits = (uint32_t)((const uint16_t *)g->bias)[n + j] << 16;
        memcpy(out + j, &bits, sizeof bits);
    }
    return out;
}

/* Packed rows [m, m + rows) of A by packed columns [n, n + columns) of B,
 * block of k at k. */
static void multiply(const struct span *s,
                     int64_t m,
                     int64_t rows,
                     int64_t n,
                     int64_t columns,
                     int64_t k,
                     int64_t depth,
                     const float *a,
                     const float *b,
                     const cadftk_panel_source *next)
{
    const cadft__matmul_args *g = s->mm->args;
    const cadftk_table *table = s->mm->table;
    uint32_t flags = k > 0 || g->accumulate ? CADFTK_ADD : 0;
    float bias[CADFTK_PANEL_MAX];
    for (int64_t j = 0; j < columns; j += table->panel) {
        int64_t width = smaller(table->panel, columns - j);
        table->multiply(rows, width, depth, a, b + j * depth, next,
                        g->c + m * g->ldc + n + j, g->ldc,
                        k > 0 ? NULL : bias_of(s->mm, n + j, width, bias),
                        flags);
    }
}

/* Where the panel lies that is packed next, or NULL. */
static const cadftk_panel_source *
next_panel(const struct span *s, int64_t n, int64_t k, cadftk_panel_source *out)
{
    const cadft__matmul_args *g = s->mm->args;
    int64_t size = g->b_dtype == CADFTK_F32 ? 4 : 2;
    if (!g->b_transposed || n >= s->n0 + s->columns)
        return NULL;
    out->base = (const char *)g->b + (n * g->ldb + k) * size;
    out->stride = g->ldb * size;
    out->step = 16 * size;
    return out;
}

/* Columns to pack in one go: a panel, which L1 holds; of rows that hold them
 * side by side, some more. */
static int64_t group_columns(const struct matmul *mm)
{
    return mm->args->b_transposed ? mm->table->panel : GROUP_COLUMNS;
}

/* Generation: a few rows, B as stored [n, k]. */
static int is_stream(const struct matmul *mm, int64_t rows)
{
    return rows <= CADFTK_STREAM_ROWS && rows <= mm->table->panel_rows &&
           mm->args->b_transposed;
}

static void stream_span(const struct span *s)
{
    const struct matmul *mm = s->mm;
    const cadft__matmul_args *g = mm->args;
    size_t size = g->b_dtype == CADFTK_F32 ? 4 : 2;
    float bias[CADFTK_PANEL_MAX];
    for (int64_t k = 0; k < g->k; k += mm->depth)
        pack_a(s, s->m0, s->rows, k, smaller(mm->depth, g->k - k),
               s->a + s->rows * k);
    for (int64_t j = s->n0; j < s->n0 + s->columns; j += mm->table->panel)
        for (int64_t k = 0; k < g->k; k += mm->depth) {
            int64_t columns = smaller(mm->table->panel, s->n0 + s->columns - j);
            const float *b = k > 0 ? NULL : bias_of(mm, j, columns, bias);
            mm->table->stream[g->b_dtype](
                s->rows, columns, smaller(mm->depth, g->k - k),
                s->a + s->rows * k,
                (const char *)g->b + (size_t)(j * g->ldb + k) * size, g->ldb,
                g->c + s->m0 * g->ldc + j, g->ldc, b,
                k > 0 || g->accumulate ? CADFTK_ADD : 0);
        }
}

/* All of k of the rows fits the block of A. */
static void short_span(const struct span *s)
{
    const struct matmul *mm = s->mm;
    int64_t all = mm->args->k, group = group_columns(mm);
    for (int64_t k = 0; k < all; k += mm->depth)
        pack_a(s, s->m0, s->rows, k, smaller(mm->depth, all - k),
               s->a + s->rows * k);
    for (int64_t j = 0; j < s->columns; j += group)
        for (int64_t k = 0; k < all; k += mm->depth) {
            int64_t depth = smaller(mm->depth, all - k);
            int64_t columns = smaller(group, s->columns - j);
            int64_t after_k = k + depth < all ? k + depth : 0;
            int64_t after = s->n0 + (after_k ? j : j + columns);
            cadftk_panel_source next;
            pack_b(s, s->n0 + j, columns, k, depth, s->b);
            multiply(s, s->m0, s->rows, s->n0 + j, columns, k, depth,
                     s->a + s->rows * k, s->b,
                     next_panel(s, after, after_k, &next));
        }
}

/* Columns of a block of B at a time, over one block of k. */
static void
long_block(const struct span *s, int64_t j, int64_t columns, int64_t k)
{
    const struct matmul *mm = s->mm;
    int64_t depth = smaller(mm->depth, mm->args->k - k);
    int64_t blocks = ceil_div(s->rows, BLOCK_ROWS), group = group_columns(mm);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t first = s->rows * i / blocks;
        int64_t rows = s->rows * (i + 1) / blocks - first;
        pack_a(s, s->m0 + first, rows, k, depth, s->a);
        for (int64_t p = 0; p < columns; p += group) {
            int64_t width = smaller(group, columns - p);
            cadftk_panel_source next;
            if (i == 0)
                pack_b(s, s->n0 + j + p, width, k, depth, s->b + p * depth);
            multiply(s, s->m0 + first, rows, s->n0 + j + p, width, k, depth,
                     s->a, s->b + p * depth,
                     next_panel(s, s->n0 + j + p + width, k, &next));
        }
    }
}

static void long_span(const struct span *s)
{
    const struct matmul *mm = s->mm;
    for (int64_t j = 0; j < s->columns; j += BLOCK_COLUMNS)
        for (int64_t k = 0; k < mm->args->k; k += mm->depth)
            long_block(s, j, smaller(BLOCK_COLUMNS, s->columns - j), k);
}

/* Where tile i of count begins, in units of `unit`. */
static int64_t tile_start(int64_t size, int64_t unit, int64_t count, int64_t i)
{
    return smaller(size, ceil_div(size, unit) * i / count * unit);
}

static void tile_task(void *task, int64_t index, int32_t worker)
{
    const struct matmul *mm = (const struct matmul *)task;
    const cadft__matmul_args *g = mm->args;
    int64_t tm = index % mm->tiles_m, tn = index / mm->tiles_m;
    struct span s = {.mm = mm};
    s.a = (float *)(void *)(mm->scratch + worker * mm->stride);
    s.b = s.a + mm->a_floats;
    s.m0 = tile_start(g->m, mm->table->panel_rows, mm->tiles_m, tm);
    s.rows =
        tile_start(g->m, mm->table->panel_rows, mm->tiles_m, tm + 1) - s.m0;
    s.n0 = tile_start(g->n, mm->table->panel, mm->tiles_n, tn);
    s.columns = tile_start(g->n, mm->table->panel, mm->tiles_n, tn + 1) - s.n0;
    if (s.rows * g->k <= A_FLOATS && is_stream(mm, s.rows))
        stream_span(&s);
    else if (s.rows * g->k <= A_FLOATS)
        short_span(&s);
    else
        long_span(&s);
}

/* ----------------------------------------------------------- the division */

/*
 * Time of a tile per unit of k, in multiply-adds: packing an element costs
 * about as much as PACK of them, and fewer than LEAST rows take as long as
 * LEAST, since then B is what is waited for.
 */
enum { PACK = 5, LEAST = 6 };

static double
tile_cost(const cadftk_table *table, int64_t rows, int64_t columns)
{
    double r = (double)round_up(rows, table->panel_rows);
    double c = (double)round_up(columns, table->panel);
    double again = (double)ceil_div(columns, BLOCK_COLUMNS);
    return c * ((r < LEAST ? LEAST : r) + PACK) + PACK * r * again + 64.0;
}

/* Tiles of about equal size, several for each worker, so that a slow one does
 * not leave the others idle, but no more than packing is worth. */
static void
divide(struct matmul *mm, int64_t panels_m, int64_t panels_n, int64_t workers)
{
    double best = 0.0;
    mm->tiles_m = mm->tiles_n = 1;
    for (int64_t each = 1; each <= 8; each++)
        for (int64_t tm = 1; tm <= panels_m && tm <= each * workers; tm++) {
            int64_t tn = smaller(panels_n, ceil_div(each * workers, tm));
            int64_t rows = ceil_div(panels_m, tm) * mm->table->panel_rows;
            int64_t columns = ceil_div(panels_n, tn) * mm->table->panel;
            double rounds = (double)ceil_div(tm * tn, workers);
            double cost = (rounds + (workers > 1 ? 0.2 : 0.0)) *
                          tile_cost(mm->table, smaller(rows, mm->args->m),
                                    smaller(columns, mm->args->n));
            if (best == 0.0 || cost < best) {
                best = cost;
                mm->tiles_m = tm;
                mm->tiles_n = tn;
            }
        }
}

static int64_t a_floats(const cadft__matmul_args *args)
{
    int64_t rows = smaller(args->m, A_FLOATS), k = smaller(args->k, A_FLOATS);
    int64_t floats = smaller(A_FLOATS, rows * k) + CADFTK_PACK_SLACK;
    return round_up(floats, LINE / 4);
}

static int64_t worker_bytes(const cadftk_table *table,
                            const cadft__matmul_args *args)
{
    int64_t n = smaller(args->n, BLOCK_COLUMNS), b;
    b = round_up(n, table->panel) * smaller(args->k, CADFT__MATMUL_DEPTH);
    return round_up((a_floats(args) + b) * 4, LINE);
}

uint64_t cadft__matmul_scratch(const cadftk_table *table,
                               const cadft__matmul_args *args,
                               int32_t workers)
{
    return (uint64_t)worker_bytes(table, args) * (uint64_t)workers;
}

/* k = 0. */
static void no_products(const cadft__matmul_args *g, const struct matmul *mm)
{
    float bias[CADFTK_PANEL_MAX];
    for (int64_t j = 0; j < g->n; j += CADFTK_PANEL_MAX) {
        int64_t width = smaller(CADFTK_PANEL_MAX, g->n - j);
        const float *add = bias_of(mm, j, width, bias);
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t l = 0; l < width; l++) {
                float *c = g->c + i * g->ldc + j + l;
                float b = add ? add[l] : 0.0f;
                *c = !g->accumulate ? b : add ? *c + b : *c;
            }
    }
}

int32_t cadft__matmul(const cadftk_table *table,
                      const cadft__matmul_args *args,
                      const cadft_backend_host *host,
                      void *scratch)
{
    struct matmul mm = {.table = table, .args = args};
    if (args->m == 0 || args->n == 0)
        return CADFT_OK;
    if (args->k == 0) {
        no_products(args, &mm);
        return CADFT_OK;
    }
    mm.scratch = (char *)scratch;
    mm.stride = worker_bytes(table, args);
    mm.a_floats = a_floats(args);
    mm.depth = cadft__matmul_depth(args->k);
    divide(&mm, ceil_div(args->m, table->panel_rows),
           ceil_div(args->n, table->panel), host->max_workers);
    return host->parallel_for(host->user, mm.tiles_m * mm.tiles_n, tile_task,
                              &mm);
}
