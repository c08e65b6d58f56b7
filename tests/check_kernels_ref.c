/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel comparer's inputs and its float64 (long double) reference. */
#include "check_kernels.h"

#include <math.h>
#include <string.h>

const char *const dtype_name[CADFTK_DTYPES] = {"f32", "bf16", "f16"};

const char *const row_name[ROW_KINDS] = {
    "small",  "unit",     "ten",        "hundred", "1e4",    "1e6",  "huge",
    "masked", "one-left", "all-masked", "peak-4",  "peak-7", "jump", "stairs",
    "equal",  "level",    "levels",     "low",     "nan",    "inf",
};

uint64_t rng_next(rng *r) /* splitmix64 */
{
    uint64_t x = r->state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int64_t rng_below(rng *r, int64_t n)
{
    return (int64_t)(rng_next(r) % (uint64_t)n);
}

float rng_bell(rng *r)
{
    uint64_t x = rng_next(r);
    int32_t sum = (int32_t)(x & 0xffff) + (int32_t)(x >> 16 & 0xffff) +
                  (int32_t)(x >> 32 & 0xffff) + (int32_t)(x >> 48);
    return (float)(sum - 2 * 65535) / 65536.0f;
}

size_t dtype_bytes(int dtype)
{
    return dtype == CADFTK_F32 ? 4 : 2;
}

static float decode_f16(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float x;
    if (exponent == 31)
        x = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        x = ldexpf((float)fraction, -24);
    else
        x = ldexpf((float)(fraction + 1024), exponent - 25);
    return h & 0x8000 ? -x : x;
}

/* By search, so as to share nothing with the code under test: the nearest
 * magnitude, ties to the even pattern. */
static uint16_t encode_f16(float x)
{
    if (isnan(x))
        return 0x7e00;
    uint16_t sign = signbit(x) ? 0x8000 : 0, low = 0, high = 0x7c00;
    double mag = fabs((double)x);
    if (mag >= 65520.0)
        return (uint16_t)(sign | 0x7c00);
    while (high - low > 1) {
        uint16_t mid = (uint16_t)((low + high) / 2);
        if ((double)decode_f16(mid) <= mag)
            low = mid;
        else
            high = mid;
    }
    double below = mag - (double)decode_f16(low);
    double above = (high == 0x7c00 ? 65536.0 : (double)decode_f16(high)) - mag;
    uint16_t r = below < above || (below == above && !(low & 1)) ? low : high;
    return (uint16_t)(sign | r);
}

float decode(int dtype, const void *p, int64_t j)
{
    uint32_t u;
    uint16_t h;
    float x;
    if (dtype == CADFTK_F32) {
        memcpy(&x, (const char *)p + 4 * j, 4);
        return x;
    }
    memcpy(&h, (const char *)p + 2 * j, 2);
    if (dtype == CADFTK_F16)
        return decode_f16(h);
    u = (uint32_t)h << 16;
    memcpy(&x, &u, 4);
    return x;
}

void encode(int dtype, void *p, int64_t j, float x)
{
    uint32_t u;
    uint16_t h;
    memcpy(&u, &x, 4);
    if (dtype == CADFTK_F32) {
        memcpy((char *)p + 4 * j, &x, 4);
        return;
    }
    if (dtype == CADFTK_F16)
        h = encode_f16(x);
    else
        h = (uint16_t)(isnan(x) ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
    memcpy((char *)p + 2 * j, &h, 2);
}

static float largest(int dtype)
{
    return dtype == CADFTK_F16 ? 65504.0f : 3e38f;
}

static float clip(int dtype, float x)
{
    float m = largest(dtype);
    return x > m ? m : x < -m ? -m : x;
}

static const float scale_of[ROW_KINDS] = {
    [ROW_SMALL] = 0.1f,
    [ROW_UNIT] = 1.0f,
    [ROW_TEN] = 10.0f,
    [ROW_HUNDRED] = 50,
    [ROW_TEN_THOUSAND] = 5e3f,
    [ROW_MILLION] = 5e5f,
    [ROW_HUGE] = 1.5e38f,
    [ROW_MASKED] = 5,
    [ROW_ONE_LEFT] = 5,
    [ROW_ALL_MASKED] = 5,
    [ROW_PEAK_4] = 1,
    [ROW_PEAK_7] = 1,
    [ROW_JUMP] = 4,
    [ROW_STAIRS] = 1,
    [ROW_EQUAL] = 0,
    [ROW_LEVEL] = 0,
    [ROW_LEVELS] = 0,
    [ROW_LOW] = 3,
    [ROW_NAN] = 5,
    [ROW_INF] = 5,
};

/* NaN patterns: quiet, signalling, either sign, smallest and all ones. */
static void put_nan(int dtype, void *p, int64_t j, rng *r)
{
    static const uint32_t wide[] = {0x7fc00000, 0x7f800001, 0xff800001,
                                    0x7fffffff, 0xffffffff, 0x7fa00000};
    static const uint16_t brain[] = {0x7fc0, 0x7f81, 0xff81,
                                     0x7fff, 0xffff, 0x7fa0};
    static const uint16_t half[] = {0x7e00, 0x7c01, 0xfc01,
                                    0x7fff, 0xffff, 0x7d00};
    int64_t k = rng_below(r, 6);
    if (dtype == CADFTK_F32)
        memcpy((char *)p + 4 * j, &wide[k], 4);
    else
        memcpy((char *)p + 2 * j, dtype == CADFTK_BF16 ? &brain[k] : &half[k],
               2);
}

/* What sets the row's kind apart, after the bell. */
static void row_decorate(int kind, int dtype, void *p, int64_t n, rng *r)
{
    int64_t pick = rng_below(r, n);
    float base = decode(dtype, p, pick);
    switch (kind) {
    case ROW_MASKED:
        for (int64_t j = 0; j < n; j++)
            if (rng_next(r) & 1)
                encode(dtype, p, j, -INFINITY);
        break;
    case ROW_ONE_LEFT:
    case ROW_ALL_MASKED:
        for (int64_t j = 0; j < n; j++)
            encode(dtype, p, j, -INFINITY);
        if (kind == ROW_ONE_LEFT)
            encode(dtype, p, pick, base);
        break;
    case ROW_PEAK_4: /* the others sum to about 1.2 n */
        encode(dtype, p, pick, (float)(9.21 + log(1.2 * (double)n)));
        break;
    case ROW_PEAK_7:
        encode(dtype, p, pick, (float)(16.12 + log(1.2 * (double)n)));
        break;
    case ROW_JUMP:
        encode(dtype, p, n - 1 - rng_below(r, (n + 9) / 10), 300.0f);
        break;
    case ROW_NAN:
        put_nan(dtype, p, rng_next(r) & 1 ? pick : n - 1, r);
        break;
    case ROW_INF:
        encode(dtype, p, rng_next(r) & 1 ? pick : n - 1, INFINITY);
        break;
    default:
        break;
    }
}

/* Terms that round alike: plain sums of them drift. The higher level, if
 * any, is scattered or comes at the start of each 512 columns. */
static void row_levels(int kind, int dtype, void *p, int64_t n, rng *r)
{
    float low = -5.0f + 4.0f * rng_bell(r), high = low;
    int scattered = (int)rng_below(r, 2);
    if (kind == ROW_LEVELS)
        high += 6.0f + 3.0f * rng_bell(r);
    for (int64_t j = 0; j < n; j++) {
        int up = scattered ? rng_below(r, 32) == 0 : j % 512 < 32;
        encode(dtype, p, j, up ? high : low);
    }
    encode(dtype, p, rng_below(r, n), high + 20.0f + 10.0f * rng_bell(r));
}

void row_fill(int kind, int dtype, void *p, int64_t n, rng *r)
{
    for (int64_t j = 0; j < n; j++) {
        float x = scale_of[kind] * rng_bell(r);
        if (kind == ROW_STAIRS)
            x += 400.0f * (float)j / (float)n;
        if (kind == ROW_EQUAL)
            x = 3.25f;
        if (kind == ROW_LOW)
            x -= 700.0f;
        encode(dtype, p, j, clip(dtype, x));
    }
    if (n > 0 && (kind == ROW_LEVEL || kind == ROW_LEVELS))
        row_levels(kind, dtype, p, n, r);
    else if (n > 0)
        row_decorate(kind, dtype, p, n, r);
}

static long double capped(double z, double cap)
{
    if (cap <= 0.0 || isinf(z))
        return (long double)z;
    return (long double)cap * tanhl((long double)z / (long double)cap);
}

ref_stats
reference_stats(int dtype, const void *z, int64_t n, int64_t label, double cap)
{
    ref_stats s = {0};
    int64_t where = -1;
    s.z_max = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        double raw = (double)decode(dtype, z, j);
        s.nonfinite |= !(raw < INFINITY);
        if (capped(raw, cap) > s.z_max) {
            s.z_max = capped(raw, cap);
            where = j;
        }
    }
    if (label >= 0)
        s.z_label = capped((double)decode(dtype, z, label), cap);
    if (s.nonfinite || where < 0)
        return s;
    for (int64_t j = 0; j < n; j++) {
        long double x = capped((double)decode(dtype, z, j), cap);
        if (isinf(x))
            continue;
        long double e = expl(x - s.z_max);
        s.sum_rest += j == where ? 0.0L : e;
        s.sum_t += e > 0.0L ? e * (s.z_max - x) : 0.0L;
        s.sum_z += x;
        s.abs_z += fabsl(x);
        s.unmasked++;
    }
    s.entropy = log1pl(s.sum_rest) + s.sum_t / (1.0L + s.sum_rest);
    return s;
}

long double
reference_rest(int dtype, const void *z, int64_t n, double cap, double rate)
{
    long double top = -INFINITY, sum = 0.0L;
    int64_t where = 0;
    for (int64_t j = 0; j < n; j++) {
        long double x = capped((double)decode(dtype, z, j), cap);
        where = x > top ? j : where;
        top = x > top ? x : top;
    }
    for (int64_t j = 0; j < n; j++) {
        long double x = capped((double)decode(dtype, z, j), cap);
        if (j != where && !isinf(x))
            sum += expl((long double)rate * (x - top));
    }
    return sum;
}

void reference_grad(int dtype,
                    const void *z,
                    int64_t n,
                    const cadftk_row_grad *args,
                    double *g,
                    double *soft)
{
    double cap = args->softcap;
    for (int64_t j = 0; j < n; j++) {
        double raw = (double)decode(dtype, z, j);
        long double x = capped(raw, cap), chain = 1.0L;
        if (cap > 0.0) {
            long double c = coshl((long double)raw / (long double)cap);
            chain = 1.0L / (c * c);
        }
        int masked = raw == -INFINITY;
        long double e =
            (long double)args->a * chain * expl(x - (long double)args->lse);
        soft[j] = masked ? 0.0 : (double)e;
        g[j] = masked ? 0.0 : (double)(e - (long double)args->c * chain);
        if (j == args->label)
            g[j] = (double)((long double)args->at_label * chain);
    }
}
