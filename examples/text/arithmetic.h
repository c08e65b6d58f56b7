/* SPDX-License-Identifier: Apache-2.0 */
/* Demonstrations made up: sums and differences of two numbers with the work
 * shown, and answers that do not match. For demonstrations of the programs
 * beside this folder; training never needs it. */
#ifndef TEXT_ARITHMETIC_H
#define TEXT_ARITHMETIC_H

#include <stddef.h>
#include <stdint.h>

enum {
    ARITHMETIC_LEAST = 10, /* numbers are of two digits */
    ARITHMETIC_MOST = 99
};

typedef struct arithmetic_item {
    char question[16], answer[64]; /* texts */
} arithmetic_item;

/* a + b or, with b at most a, a - b. Every digit has a fixed place, so that a
 * model without attention can learn it:
 *
 *     47+35=  ->  7+5=12;4+3+1=08;#### 82
 *     82-35=  ->  2-5=-3;8-3-1=+4;#### 47 */
void arithmetic_make(int a, char op, int b, arithmetic_item *out);

enum { MISMATCH_GROWTH = 6 }; /* bytes for each of the longer answer */

/* An answer that does not match, by the random state one of: the own answer
 * spelled out in words, its bytes in random order, another question's answer.
 *   to  room for MISMATCH_GROWTH * the longer of both
 * Returns its length; texts are bytes and not terminated. */
size_t mismatch_make(const unsigned char *own,
                     size_t n_own,
                     const unsigned char *other,
                     size_t n_other,
                     unsigned char *to,
                     uint64_t *rng);

#endif
