/* SPDX-License-Identifier: Apache-2.0 */
/* A sample's average of what was observed of it. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "rewrite/rewrite.h"

int32_t
cadft__rewrite_id(const cadft_rewrite *rewrite, int64_t id, cadft_error *error)
{
    if (id >= 0 && id < rewrite->n_samples)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_SAMPLE, "id is %lld, expected 0 to %lld",
                       (long long)id, (long long)rewrite->n_samples - 1);
}

void cadft__tracked_restart(cadft__tracked *sample)
{
    sample->average = 0;
    sample->c = 0;
    sample->observed = 0;
}

/* 1 + d + ... + d^(n-1) for n >= 1: by the bits of n from the highest on,
 * sum(2k) = sum(k) (1 + d^k) and sum(k + 1) = 1 + d sum(k). Nothing is
 * subtracted, and no library function has a say in the bits. */
static double geometric_sum(double d, uint32_t n)
{
    double sum = 1, power = d; /* of 1 term, and d to that many */
    uint32_t bit = 1;
    while (bit <= n >> 1)
        bit <<= 1;
    for (bit >>= 1; bit; bit >>= 1) {
        sum *= 1 + power;
        power *= power;
        if (n & bit) {
            sum = 1 + d * sum;
            power *= d;
        }
    }
    return sum;
}

/* The average itself is kept, not the sums above and below the line: a
 * change of decay leaves it what it is, and equal values leave it exact. */
static void observe_one(cadft__tracked *sample, double value, double decay)
{
    if (sample->observed < CADFT__MANY)
        sample->observed++;
    sample->average +=
        (value - sample->average) / geometric_sum(decay, sample->observed);
}

/* Finite, and so small that nothing computed from it overflows. */
static int counts(double value)
{
    return fabs(value) <= FLT_MAX;
}

static int32_t check(const cadft_rewrite *rewrite,
                     const int64_t *ids,
                     const double *c,
                     const double *chat,
                     int64_t n,
                     cadft_error *error)
{
    int use_c = rewrite->options.signal == CADFT_SIGNAL_C;
    if (n < 0)
        return cadft__fail(error, CADFT_E_ARG, "n is %lld, expected at least 0",
                           (long long)n);
    if (n > 0 && !ids)
        return cadft__fail(error, CADFT_E_NULL, "ids is NULL");
    if (n > 0 && !(use_c ? c : chat))
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL, the signal",
                           use_c ? "c" : "chat");
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= rewrite->n_samples)
            return cadft__fail(error, CADFT_E_SAMPLE,
                               "ids[%lld] is %lld, expected 0 to %lld",
                               (long long)i, (long long)ids[i],
                               (long long)rewrite->n_samples - 1);
    return CADFT_OK;
}

static void observe(cadft_rewrite *rewrite,
                    const int64_t *ids,
                    const double *c,
                    const double *chat,
                    int64_t n)
{
    const double *signal = rewrite->options.signal == CADFT_SIGNAL_C ? c : chat;
    double decay = rewrite->options.decay;
    for (int64_t i = 0; i < n; i++) {
        cadft__tracked *sample = &rewrite->samples[ids[i]];
        if ((c && !counts(c[i])) || (chat && !counts(chat[i]))) {
            rewrite->counts.ignored++;
            continue;
        }
        if (c)
            sample->c = (float)c[i];
        else if (!sample->observed)
            sample->c = NAN;
        observe_one(sample, signal[i], decay);
        rewrite->counts.observed++;
    }
}

int32_t cadft_rewrite_observe(cadft_rewrite *rewrite,
                              const int64_t *ids,
                              const double *c,
                              const double *chat,
                              int64_t n,
                              cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = check(rewrite, ids, c, chat, n, &call.error);
    if (!status)
        observe(rewrite, ids, c, chat, n);
    CADFT__LEAVE(rewrite);
}

/* ----------------------------------------------------------------- reading */

static int32_t read_sample(const cadft_rewrite *rewrite,
                           int64_t id,
                           cadft_rewrite_info *out,
                           cadft_error *error)
{
    const cadft__tracked *sample;
    cadft_rewrite_info info;
    uint32_t size;
    int32_t status;
    if (!out)
        return cadft__fail(error, CADFT_E_NULL, "out is NULL");
    size = out->struct_size;
    if (size < CADFT__SIZE_TO(cadft_rewrite_info, reserved) || size > 4096)
        return cadft__fail(error, CADFT_E_ARG,
                           "out.struct_size is %u, expected sizeof the struct "
                           "(%zu in this library)",
                           size, sizeof *out);
    status = cadft__rewrite_id(rewrite, id, error);
    if (status)
        return status;
    sample = &rewrite->samples[id];
    info = (cadft_rewrite_info){
        .is_open = (sample->flags & CADFT__OPEN) != 0,
        .average = sample->observed ? sample->average : NAN,
        .c = sample->observed ? (double)sample->c : NAN,
        .observations = sample->observed,
        .rewrites = sample->rewrites,
        .is_rewritten = (sample->flags & CADFT__REWRITTEN) != 0,
    };
    memcpy((char *)out + sizeof size, (const char *)&info + sizeof size,
           (size < sizeof info ? size : sizeof info) - sizeof size);
    return CADFT_OK;
}

int32_t cadft_rewrite_sample(cadft_rewrite *rewrite,
                             int64_t id,
                             cadft_rewrite_info *out,
                             cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = read_sample(rewrite, id, out, &call.error);
    CADFT__LEAVE(rewrite);
}
