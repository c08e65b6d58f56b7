/* SPDX-License-Identifier: Apache-2.0 */
#include "common/random.h"

#include <math.h>

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

/* ln x for normal x > 0: x = 2^e m with m in [sqrt(1/2), sqrt(2)], and
 * ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172, as its series. */
static double natural_log(double x)
{
    int e;
    double m = frexp(x, &e), s, square, sum = 0;
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    s = (m - 1) / (m + 1);
    square = s * s;
    for (int n = 21; n >= 1; n -= 2)
        sum = sum * square + 1.0 / n;
    return 2 * s * sum + e * 0.69314718055994531;
}

/* sin and cos of 2 pi u for u in [0, 1), by their series to the 17th power
 * about the nearest quarter. */
static void sine_cosine(double u, double *sine, double *cosine)
{
    int quarter = (int)(4 * u + 0.5);
    double x = (u - 0.25 * quarter) * 6.28318530717958648; /* |x| <= pi/4 */
    double square = x * x, s = 1, c = 1;
    for (int n = 16; n >= 2; n -= 2) {
        s = 1 - s * square / (n * (n + 1));
        c = 1 - c * square / (n * (n - 1));
    }
    s *= x;
    *sine = quarter % 2 ? c : s;
    *cosine = quarter % 2 ? s : c;
    if (quarter % 4 >= 2)
        *sine = -*sine;
    if (quarter % 4 == 1 || quarter % 4 == 2)
        *cosine = -*cosine;
}

void cadft__random_normal(const uint32_t words[4], double out[2])
{
    double u = cadft__random_uniform(words[0], words[1]);
    double sine, cosine, radius;
    /* 1 - u is exact and in (0, 1] */
    radius = sqrt(-2 * natural_log(1 - u));
    sine_cosine(cadft__random_uniform(words[2], words[3]), &sine, &cosine);
    out[0] = radius * cosine;
    out[1] = radius * sine;
}
