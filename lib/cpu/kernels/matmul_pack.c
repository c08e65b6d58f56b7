/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of the matrix product's operands, see kernels.h. */
#include "cpu/kernels/matmul_rows.h"

/* Rows of a [depth, columns] block to look ahead. */
#define ROWS_AHEAD 8

/* Elements [k, k + count) of each row, of one line. */
INLINE void rows_pack_line(
    rows *r, int dtype, int64_t k, int64_t count, int64_t pitch, float *out)
{
    const int64_t step = line_elements(dtype) / 4;
    int64_t stride;
    const char *p = rows_line(r, dtype, k, &stride);
    for (int64_t at = 0; at < count; at += step, p += 16) {
        vf x[8];
        rows_quads(dtype, r->lanes, p, stride, x);
        UNROLLED
        for (int64_t i = 0; i < step; i++) {
            float *to = out + (k + at + i) * pitch;
            if (at + i < count && r->lanes <= 8)
                vf_store_low(to, x[i]);
            else if (at + i < count)
                vf_store(to, x[i]);
        }
    }
}

/*
 * out[k * pitch + i] = element k of row i < lanes. With a pitch below that,
 * what step k writes beyond it is overwritten by step k + 1.
 */
INLINE void rows_pack(rows *r, int dtype, int64_t pitch, float *out)
{
    const int64_t line = line_elements(dtype);
    int64_t k = 0;
    rows_open(r);
    for (; k + line <= r->depth; k += line)
        rows_pack_line(r, dtype, k, line, pitch, out);
    if (k < r->depth)
        rows_pack_line(r, dtype, k, r->depth - k, pitch, out);
}

cadftk_pack_a_fn CADFTK_SYMBOL(cadftk_pack_a);
void CADFTK_SYMBOL(cadftk_pack_a)(const float *a,
                                  int64_t ld,
                                  int64_t count,
                                  int64_t depth,
                                  int64_t readable,
                                  float *out)
{
    int64_t panels = row_panels(count);
    rows r = {.stride = ld * (int64_t)sizeof *a,
              .depth = depth,
              .lanes = PANEL_ROWS > 8 ? LANES : 8};
    if (count == 1) {
        memcpy(out, a, (size_t)depth * sizeof *a);
        return;
    }
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = row_start(count, p, panels);
        r.base = (const char *)(a + first * ld);
        r.count = readable - first;
        rows_pack(&r, CADFTK_F32, row_start(count, p + 1, panels) - first,
                  out + first * depth);
    }
}

cadftk_pack_a_fn CADFTK_SYMBOL(cadftk_pack_a_t);
void CADFTK_SYMBOL(cadftk_pack_a_t)(const float *a,
                                    int64_t ld,
                                    int64_t count,
                                    int64_t depth,
                                    int64_t readable,
                                    float *out)
{
    const int lanes = PANEL_ROWS > 8 ? LANES : 8;
    int64_t panels = row_panels(count);
    for (int64_t p = 0; p < panels; p++) {
        int64_t first = row_start(count, p, panels);
        int64_t pitch = row_start(count, p + 1, panels) - first;
        const float *from = a + first;
        float *to = out + first * depth;
        for (int64_t k = 0; k < depth; k++, from += ld, to += pitch) {
            if (readable - first < lanes)
                for (int64_t i = 0; i < pitch; i++)
                    to[i] = from[i];
            else if (lanes <= 8)
                vf_store_low(to, vf_load_low(from));
            else
                vf_store(to, vf_load(from));
        }
    }
}

INLINE int64_t padded(int64_t columns)
{
    return (columns + PANEL - 1) / PANEL * PANEL;
}

/* Where element [0, j] of B goes. */
INLINE float *in_panel(float *out, int64_t j, int64_t depth)
{
    return out + j / PANEL * PANEL * depth + j % PANEL;
}

/* B stored [columns, depth]. */
INLINE void pack_rows(int dtype,
                      const void *b,
                      int64_t ld,
                      int64_t columns,
                      int64_t depth,
                      float *out)
{
    rows r = {.stride = ld * (int64_t)dtype_size(dtype),
              .depth = depth,
              .lanes = LANES};
    for (int64_t j = 0; j < padded(columns); j += LANES) {
        int64_t first = j < columns ? j : columns - 1;
        r.base = (const char *)b + first * r.stride;
        r.count = columns - first;
        rows_pack(&r, dtype, PANEL, in_panel(out, j, depth));
    }
}

INLINE vf load_lanes(int dtype, const void *p)
{
    return dtype == CADFTK_F32 ? vf_load((const float *)p)
                               : vf_load_bf16((const uint16_t *)p);
}

/* B stored [depth, columns]: row by row over all panels, so that whole
 * stretches of a row are read at a time. */
INLINE void pack_columns(int dtype,
                         const void *b,
                         int64_t ld,
                         int64_t columns,
                         int64_t depth,
                         float *out)
{
    const size_t size = dtype_size(dtype), stride = (size_t)ld * size;
    for (int64_t k = 0; k < depth; k++) {
        const char *row = (const char *)b + (size_t)k * stride;
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES) {
            const char *p = row + (size_t)j * size;
            uintptr_t ahead = (uintptr_t)p + ROWS_AHEAD * stride;
            __builtin_prefetch((const void *)ahead, 0, 2);
            vf_store(in_panel(out, j, depth) + k * PANEL, load_lanes(dtype, p));
        }
        for (; j < padded(columns); j++)
            in_panel(out, j, depth)[k * PANEL] =
                j < columns ? load_one(dtype, row, j) : 0.0f;
    }
}

#define PACK_B(suffix, dtype, how)                                             \
    cadftk_pack_b_fn CADFTK_SYMBOL(cadftk_pack_b_##suffix);                    \
    void CADFTK_SYMBOL(cadftk_pack_b_##suffix)(                                \
        const void *b, int64_t ld, int64_t columns, int64_t depth, float *out) \
    {                                                                          \
        how(dtype, b, ld, columns, depth, out);                                \
    }

PACK_B(f32, CADFTK_F32, pack_columns)
PACK_B(f32_t, CADFTK_F32, pack_rows)
PACK_B(bf16, CADFTK_BF16, pack_columns)
PACK_B(bf16_t, CADFTK_BF16, pack_rows)
