/* SPDX-License-Identifier: Apache-2.0 */
#include "common/random.h"

enum { ROUNDS = 10 };
#define MULTIPLY_0 0xD2511F53u
#define MULTIPLY_1 0xCD9E8D57u
#define WEYL_0 0x9E3779B9u
#define WEYL_1 0xBB67AE85u

void cadft__random_block(uint64_t key,
                         uint64_t high,
                         uint64_t low,
                         uint32_t out[4])
{
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p = (uint64_t)MULTIPLY_0 * c0, q = (uint64_t)MULTIPLY_1 * c2;
        c0 = (uint32_t)(q >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)q;
        c3 = (uint32_t)p;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double cadft__random_uniform(uint32_t a, uint32_t b)
{
    uint64_t bits = (uint64_t)a << 32 | b;
    return (double)(bits >> 11) * 0x1p-53;
}
