/* SPDX-License-Identifier: Apache-2.0 */
/* splitmix64: tiny, seedable, the same on every machine. */
#ifndef TEXT_RANDOM_H
#define TEXT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

uint64_t rng_next(uint64_t *state);

/* Uniform in [0, n), n > 0. */
size_t rng_below(uint64_t *state, size_t n);

/* Uniform in [0, 1), 24 random bits: exact in float. */
float rng_unit(uint64_t *state);

/* A generator of its own for each purpose, so that changing how one purpose
 * draws does not disturb the others. */
uint64_t rng_for(uint64_t seed, uint64_t purpose);

#endif
