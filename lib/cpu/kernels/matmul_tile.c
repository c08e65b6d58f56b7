/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix product, see kernels.h. B lies packed in panels [depth, PANEL], A in
 * panels [depth, r] of r <= PANEL_ROWS rows; the tile r x PANEL of C stays in
 * registers over all of depth.
 */
#include "cpu/kernels/matmul_rows.h"

#define ROWS_MAX                                                               \
    (PANEL_ROWS > CADFTK_STREAM_ROWS ? PANEL_ROWS : CADFTK_STREAM_ROWS)

typedef struct place {
    float *c; /* the tile's corner */
    int64_t ldc, columns;
    const float *bias; /* or NULL */
    const cadftk_panel_source *next;
    uint32_t flags;
} place;

/* One line of each of the rows that hold element k of what is packed next:
 * memory has nothing else to do meanwhile. */
static NOINLINE void fetch_lines(const cadftk_panel_source *next, int64_t k)
{
    uintptr_t at = (uintptr_t)next->base + (uintptr_t)(k / 16 * next->step);
    for (int i = 0; i < 16; i++, at += (uintptr_t)next->stride)
        __builtin_prefetch((const void *)at, 0, 2);
}

/* Any tile into C; its rows are PANEL floats apart. */
static NOINLINE void
settle_part(const place *at, int64_t count, const float *sum)
{
    int add = (at->flags & CADFTK_ADD) != 0;
    for (int64_t i = 0; i < count; i++, sum += PANEL) {
        float *c = at->c + i * at->ldc;
        int64_t j = 0;
        for (; j + LANES <= at->columns; j += LANES) {
            vf s = vf_load(sum + j);
            if (at->bias) {
                vf bias = vf_load(at->bias + j);
                s = vf_add(add ? vf_add(vf_load(c + j), bias) : bias, s);
            } else if (add) {
                s = vf_add(vf_load(c + j), s);
            }
            vf_store(c + j, s);
        }
        for (; j < at->columns; j++) {
            float s = sum[j];
            if (at->bias)
                s = (add ? c[j] + at->bias[j] : at->bias[j]) + s;
            else if (add)
                s = c[j] + s;
            c[j] = s;
        }
    }
}

/* The most frequent case goes to C without a detour. */
INLINE void
settle(const place *at, int count, int vectors, vf sum[][PANEL_VECTORS])
{
    if (at->columns == PANEL && vectors == PANEL_VECTORS && !at->bias &&
        at->flags & CADFTK_ADD) {
        UNROLLED
        for (int i = 0; i < count; i++) {
            float *c = at->c + i * at->ldc;
            UNROLLED
            for (int v = 0; v < vectors; v++, c += LANES)
                vf_store(c, vf_add(vf_load(c), sum[i][v]));
        }
        return;
    }
    float part[ROWS_MAX * PANEL];
    UNROLLED
    for (int i = 0; i < count; i++) {
        UNROLLED
        for (int v = 0; v < vectors; v++)
            vf_store(part + i * PANEL + v * LANES, sum[i][v]);
    }
    settle_part(at, count, part);
}

#define FETCH_STEP 16

INLINE void tile_step(const int count,
                      const float *a,
                      const float *b,
                      vf sum[][PANEL_VECTORS])
{
    vf y[PANEL_VECTORS];
    UNROLLED
    for (int v = 0; v < PANEL_VECTORS; v++)
        y[v] = vf_load(b + v * LANES);
    UNROLLED
    for (int i = 0; i < count; i++) {
        vf x = vf_set1(a[i]);
        UNROLLED
        for (int v = 0; v < PANEL_VECTORS; v++)
            sum[i][v] = vf_fma(x, y[v], sum[i][v]);
    }
}

INLINE void tile(const int count,
                 int64_t depth,
                 const float *a,
                 const float *b,
                 const place *at)
{
    vf sum[ROWS_MAX][PANEL_VECTORS];
    UNROLLED
    for (int i = 0; i < count; i++) {
        __builtin_prefetch(at->c + i * at->ldc, 1);
        UNROLLED
        for (int v = 0; v < PANEL_VECTORS; v++)
            sum[i][v] = vf_set1(0.0f);
    }
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
        if (at->next && k % FETCH_STEP == 0)
            fetch_lines(at->next, k);
        UNROLLED
        for (int i = 0; i < 4; i++)
            tile_step(count, a + (k + i) * count, b + (k + i) * PANEL, sum);
    }
    for (; k < depth; k++)
        tile_step(count, a + k * count, b + k * PANEL, sum);
    settle(at, count, PANEL_VECTORS, sum);
}

#define TILE(n)                                                                \
    static void tile_##n(int64_t depth, const float *a, const float *b,        \
                         const place *at)                                      \
    {                                                                          \
        tile(n, depth, a, b, at);                                              \
    }

TILE(1)
TILE(2)
#if PANEL_ROWS > 2
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#endif
#if PANEL_ROWS > 6
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#endif

typedef void tile_fn(int64_t, const float *, const float *, const place *);

static tile_fn *const tiles[PANEL_ROWS + 1] = {
    NULL,   tile_1, tile_2,
#if PANEL_ROWS > 2
    tile_3, tile_4, tile_5, tile_6,
#endif
#if PANEL_ROWS > 6
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
#endif
};

cadftk_multiply_fn CADFTK_SYMBOL(cadftk_multiply);
void CADFTK_SYMBOL(cadftk_multiply)(int64_t count,
                                    int64_t columns,
                                    int64_t depth,
                                    const float *a,
                                    const float *b,
                                    const cadftk_panel_source *next,
                                    float *c,
                                    int64_t ldc,
                                    const float *bias,
                                    uint32_t flags)
{
    place at = {.ldc = ldc,
                .columns = columns,
                .bias = bias,
                .next = next,
                .flags = flags};
    int64_t panels = row_panels(count);
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = row_start(count, p, panels);
        int64_t end = row_start(count, p + 1, panels);
        at.c = c + first * ldc;
        tiles[end - first](depth, a + first * depth, b, &at);
        at.next = NULL;
    }
}

/* ------------------------------------- few rows: B is not worth packing */

/* Elements [k, k + length) of the rows of B, of one line. */
INLINE void stream_line(const int count,
                        int dtype,
                        rows *r,
                        int64_t k,
                        int64_t length,
                        const float *a,
                        vf sum[][PANEL_VECTORS])
{
    const int64_t step = line_elements(dtype) / 4;
    int64_t stride;
    const char *p = rows_line(r, dtype, k, &stride);
    a += k * count;
    for (int64_t at = 0; at < length; at += step, p += 16) {
        vf x[8];
        rows_quads(dtype, LANES, p, stride, x);
        UNROLLED
        for (int64_t l = 0; l < step; l++) {
            if (at + l >= length)
                break;
            UNROLLED
            for (int i = 0; i < count; i++)
                sum[i][0] =
                    vf_fma(vf_set1(a[(at + l) * count + i]), x[l], sum[i][0]);
        }
    }
}

INLINE void
stream(const int count, int dtype, rows *r, const float *a, const place *at)
{
    const int64_t line = line_elements(dtype);
    vf sum[ROWS_MAX][PANEL_VECTORS];
    int64_t k = 0;
    UNROLLED
    for (int i = 0; i < count; i++)
        sum[i][0] = vf_set1(0.0f);
    rows_open(r);
    for (; k + line <= r->depth; k += line)
        stream_line(count, dtype, r, k, line, a, sum);
    if (k < r->depth)
        stream_line(count, dtype, r, k, r->depth - k, a, sum);
    settle(at, count, 1, sum);
}

INLINE void stream_panel(int dtype,
                         int64_t count,
                         int64_t columns,
                         int64_t depth,
                         const float *a,
                         const void *b,
                         int64_t ldb,
                         float *c,
                         int64_t ldc,
                         const float *bias,
                         uint32_t flags)
{
    rows r = {.stride = ldb * (int64_t)dtype_size(dtype),
              .depth = depth,
              .lanes = LANES};
    r.ahead = (uintptr_t)(r.stride * PANEL);
    for (int64_t j = 0; j < columns; j += LANES) {
        int64_t left = columns - j;
        place at = {.c = c + j,
                    .ldc = ldc,
                    .columns = left < LANES ? left : LANES,
                    .bias = bias ? bias + j : NULL,
                    .flags = flags};
        r.base = (const char *)b + j * r.stride;
        r.count = left;
        if (count == 1)
            stream(1, dtype, &r, a, &at);
        else if (count == 2)
            stream(2, dtype, &r, a, &at);
        else if (count == 3)
            stream(3, dtype, &r, a, &at);
        else
            stream(4, dtype, &r, a, &at);
    }
}

#define STREAM(suffix, dtype)                                                  \
    cadftk_stream_fn CADFTK_SYMBOL(cadftk_stream_##suffix);                    \
    void CADFTK_SYMBOL(cadftk_stream_##suffix)(                                \
        int64_t count, int64_t columns, int64_t depth, const float *a,         \
        const void *b, int64_t ldb, float *c, int64_t ldc, const float *bias,  \
        uint32_t flags)                                                        \
    {                                                                          \
        stream_panel(dtype, count, columns, depth, a, b, ldb, c, ldc, bias,    \
                     flags);                                                   \
    }

STREAM(f32, CADFTK_F32)
STREAM(bf16, CADFTK_BF16)
