/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The build defines CADFTK_HAVE_<ISA> for every kernel library it links; `c`
 * is always there. On x86 an instruction set counts only if the operating
 * system also saves its registers, which XGETBV tells.
 */
#include "cpu/isa.h"

#include <string.h>

#if defined(CADFTK_HAVE_AVX2) || defined(CADFTK_HAVE_AVX512)
#    include <cpuid.h>

enum { ISA_AVX2 = 1, ISA_AVX512 = 2 };

/* XCR0: the register state the operating system switches. */
#    define STATE_YMM 0x06u /* SSE, AVX */
#    define STATE_ZMM 0xe6u /* and opmask, upper halves, upper sixteen */

static unsigned enabled_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static unsigned detect(void)
{
    unsigned a, b, c, d, b7, c7, d7, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return 0;
    const unsigned base = bit_AVX | bit_FMA | bit_F16C;
    const unsigned wide =
        bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    unsigned state = enabled_state();
    if ((c & base) != base || !(b7 & bit_AVX2))
        return 0;
    if ((state & STATE_YMM) == STATE_YMM)
        found |= ISA_AVX2;
    if ((state & STATE_ZMM) == STATE_ZMM && (b7 & wide) == wide)
        found |= ISA_AVX512;
    return found;
}
#endif

size_t cadft__isa_list(const cadftk_table *out[CADFT__ISA_MAX])
{
    size_t count = 0;
#if defined(CADFTK_HAVE_AVX2) || defined(CADFTK_HAVE_AVX512)
    unsigned found = detect();
#endif
#ifdef CADFTK_HAVE_AVX512
    if (found & ISA_AVX512)
        out[count++] = &cadftk_table_avx512;
#endif
#ifdef CADFTK_HAVE_AVX2
    if (found & ISA_AVX2)
        out[count++] = &cadftk_table_avx2;
#endif
#ifdef CADFTK_HAVE_NEON
    out[count++] = &cadftk_table_neon; /* part of every AArch64 */
#endif
    out[count++] = &cadftk_table_c;
    return count;
}

const cadftk_table *cadft__isa_pick(const char *name)
{
    const cadftk_table *tables[CADFT__ISA_MAX];
    size_t count = cadft__isa_list(tables);
    if (!name || strcmp(name, "auto") == 0)
        return tables[0];
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, tables[i]->name) == 0)
            return tables[i];
    return NULL;
}
