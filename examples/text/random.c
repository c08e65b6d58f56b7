/* SPDX-License-Identifier: Apache-2.0 */
#include "text/random.h"

uint64_t rng_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

size_t rng_below(uint64_t *state, size_t n)
{
    /* The modulo's bias is below n / 2^64: nothing an experiment can see. */
    return (size_t)(rng_next(state) % n);
}

float rng_unit(uint64_t *state)
{
    return (float)(rng_next(state) >> 40) * 0x1p-24f;
}

uint64_t rng_for(uint64_t seed, uint64_t purpose)
{
    uint64_t state = seed ^ (purpose * UINT64_C(0xD1342543DE82EF95));
    return rng_next(&state);
}
