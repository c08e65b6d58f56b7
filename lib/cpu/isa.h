/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which kernel tables this build has and this machine can run. Pure
 * functions: nothing is cached, so a context asks once and keeps the pointer
 * (tables are constants and live as long as the program). Thread-safe.
 */
#ifndef CADFT_CPU_ISA_H
#define CADFT_CPU_ISA_H

#include <stddef.h>

#include "cpu/kernels/kernels.h"

/* As many tables as any build can have. */
#define CADFT__ISA_MAX 4

/*
 * NULL or "auto": the best table there is, never NULL. A name ("c", "avx2",
 * "avx512", "neon") forces that one: NULL if the name is unknown, the build
 * lacks it, or the processor or the operating system does not support it.
 */
const cadftk_table *cadft__isa_pick(const char *name);

/* Writes the usable tables, best first, and returns how many there are. */
size_t cadft__isa_list(const cadftk_table *out[CADFT__ISA_MAX]);

#endif
