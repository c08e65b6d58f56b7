/* SPDX-License-Identifier: Apache-2.0 */
/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A
 * block is a function of key and counter, so that nothing depends on the
 * order in which numbers are drawn. */
#ifndef CADFT_COMMON_RANDOM_H
#define CADFT_COMMON_RANDOM_H

#include <stdint.h>

/* Four words of 32 bits for a key of 64 and a counter of 128 bits. */
void cadft__random_block(uint64_t key,
                         uint64_t high,
                         uint64_t low,
                         uint32_t out[4]);

/* In [0, 1), 53 bits, from two words. */
double cadft__random_uniform(uint32_t a, uint32_t b);

/* Two independent numbers of the standard normal distribution, from four
 * words: Box and Muller, with a logarithm and a sine of their own, so that the
 * bits are the same with every math library. To 1e-14. */
void cadft__random_normal(const uint32_t words[4], double out[2]);

#endif
