/* SPDX-License-Identifier: Apache-2.0 */
#include "text/arithmetic.h"

#include <stdio.h>
#include <string.h>

#include "text/random.h"

void arithmetic_make(int a, char op, int b, arithmetic_item *out)
{
    int a0 = a % 10, a1 = a / 10, b0 = b % 10, b1 = b / 10;
    snprintf(out->question, sizeof out->question, "%d%c%d=", a, op, b);
    if (op == '+') {
        int units = a0 + b0, carry = units / 10;
        snprintf(out->answer, sizeof out->answer,
                 "%d+%d=%02d;%d+%d+%d=%02d;#### %d", a0, b0, units, a1, b1,
                 carry, a1 + b1 + carry, a + b);
    } else {
        int units = a0 - b0, borrow = units < 0;
        snprintf(out->answer, sizeof out->answer,
                 "%d-%d=%+d;%d-%d-%d=%+d;#### %d", a0, b0, units, a1, b1,
                 borrow, a1 - b1 - borrow, a - b);
    }
}

/* The same content in an alien style: digits and signs spelled out. No word
 * is longer than MISMATCH_GROWTH. */
static size_t spell(const unsigned char *from, size_t n, unsigned char *to)
{
    static const char *const digits[10] = {" zero",  " one",  " two", " three",
                                           " four",  " five", " six", " seven",
                                           " eight", " nine"};
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = from[i];
        const char *word = c >= '0' && c <= '9' ? digits[c - '0']
                           : c == '+'           ? " plus"
                           : c == '-'           ? " minus"
                           : c == '='           ? " is"
                           : c == ';'           ? " then"
                                                : NULL;
        size_t k = word ? strlen(word) : 1;
        memcpy(to + at, word ? (const void *)word : &c, k);
        at += k;
    }
    return at;
}

enum { IN_WORDS, OUT_OF_ORDER, OF_ANOTHER, KINDS };

size_t mismatch_make(const unsigned char *own,
                     size_t n_own,
                     const unsigned char *other,
                     size_t n_other,
                     unsigned char *to,
                     uint64_t *rng)
{
    size_t kind = rng_below(rng, KINDS);
    if (kind == IN_WORDS)
        return spell(own, n_own, to);
    if (kind == OF_ANOTHER) {
        memcpy(to, other, n_other);
        return n_other;
    }
    memcpy(to, own, n_own);
    for (size_t i = n_own; i > 1; i--) {
        size_t j = rng_below(rng, i);
        unsigned char c = to[i - 1];
        to[i - 1] = to[j];
        to[j] = c;
    }
    return n_own;
}
