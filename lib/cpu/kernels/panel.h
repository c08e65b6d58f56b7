/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The register tile of the matrix product, PANEL_ROWS x PANEL: as many
 * accumulators as the registers hold beside a vf of B and a broadcast of A.
 * Two fused multiply-adds start per cycle and take four cycles or five, so
 * ten of them must be under way.
 *   avx2     6 x 16   12 accumulators of 16 registers
 *   avx512  12 x 32   24 of 32
 *   neon     6 x 16   24 of 32
 *   c        2 x 16    8 of 16 (SSE2)
 */
#ifndef CADFT_CPU_KERNELS_PANEL_H
#define CADFT_CPU_KERNELS_PANEL_H

#include "cpu/kernels/lanes.h"

#if defined(CADFTK_LANES_AVX512)
#    define PANEL_ROWS 12
#    define PANEL_VECTORS 2
#elif LANES_FUSED
#    define PANEL_ROWS 6
#    define PANEL_VECTORS 1
#else
#    define PANEL_ROWS 2
#    define PANEL_VECTORS 1
#endif

#define PANEL (PANEL_VECTORS * LANES)

#define NOINLINE __attribute__((noinline))

/* Complete unrolling before registers are assigned: an array of accumulators
 * that is indexed at run time would live in memory. */
#if defined(__clang__)
#    define UNROLLED _Pragma("clang loop unroll(full)")
#else
#    define UNROLLED _Pragma("GCC unroll 16")
#endif

INLINE int64_t row_panels(int64_t rows)
{
    return (rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* Panels of A are as equal as can be: panel p of n begins here. */
INLINE int64_t row_start(int64_t rows, int64_t p, int64_t panels)
{
    return rows * p / panels;
}

#endif
