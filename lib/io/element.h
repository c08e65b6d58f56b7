/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of files: little-endian, at any address. */
#ifndef CADFT_IO_ELEMENT_H
#define CADFT_IO_ELEMENT_H

#include "cadft/base.h"

/* What `from` can be read as: itself, and F32, BF16, F16 as F32 or BF16. */
int cadft__elements_can(int32_t from, int32_t to);

/* Convert `count` elements. To F32 exactly; to BF16 to nearest even, beyond
 * its range to infinity, a NaN to a quiet NaN. No alignment is asked for, no
 * overlap allowed. The pair is one that cadft__elements_can allows. */
void cadft__elements_convert(
    int32_t from, const void *source, int32_t to, void *target, size_t count);

#endif
