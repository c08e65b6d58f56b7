/* SPDX-License-Identifier: Apache-2.0 */
/* When rewrites are due, who is a candidate, and who is drawn.
 *
 * The k highest averages of n are found without an order of all and without
 * memory for each: averages as whole numbers of the same order, and a count
 * of their digits from the highest on, until it is known which number is the
 * k-th. Each digit is a pass over the samples; two or three are the rule. */
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "common/random.h"
#include "rewrite/rewrite.h"

int64_t cadft__share(double share, int64_t count)
{
    /* share and the product are each off by half a unit in the last place */
    double product = share * (double)count, whole = floor(product);
    if (product - whole > product * 0x1p-52)
        whole += 1;
    return whole < (double)count ? (int64_t)whole : count;
}

/* --------------------------------------------------------------- when */

static int32_t
check_step(const cadft_rewrite *rewrite, int64_t step, cadft_error *error)
{
    if (step < 0 || step > UINT32_MAX)
        return cadft__fail(error, CADFT_E_ARG, "step is %lld, expected 0 to %u",
                           (long long)step, UINT32_MAX);
    return cadft__rewrite_check(rewrite, error);
}

static int is_due(const cadft__rewrite_options *o, int64_t step)
{
    int64_t warmup = o->warmup_fraction > 0
                         ? cadft__share(o->warmup_fraction, o->planned_steps)
                         : o->warmup_steps;
    return step >= warmup && step % o->interval == 0;
}

int32_t cadft_rewrite_due(cadft_rewrite *rewrite,
                          int64_t step,
                          int32_t *due,
                          cadft_error *error)
{
    CADFT__ENTER(rewrite);
    if (!due)
        status = cadft__fail(&call.error, CADFT_E_NULL, "due is NULL");
    else
        status = check_step(rewrite, step, &call.error);
    if (!status)
        *due = is_due(&rewrite->options, step);
    CADFT__LEAVE(rewrite);
}

/* --------------------------------------------------------------- candidates */

/* Without branches: about half of the samples are. */
static int is_eligible(const cadft__rewrite_options *o,
                       const cadft__tracked *sample)
{
    return (sample->observed >= o->min_observations) &
           (sample->average > o->threshold) & (sample->rewrites < o->cap);
}

/* The bits of a finite double as a number of the same order. An average is
 * never -0: it is a sum that starts with 0. */
static uint64_t image(double value)
{
    const uint64_t sign = (uint64_t)1 << 63;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & sign ? ~bits : bits | sign;
}

/* Candidates are those above `cutoff`, and of those at it the first `at`. */
typedef struct candidates {
    uint64_t cutoff;
    int64_t at;
} candidates;

/* Digits of an image from the highest on: five of 11 bits, one of 9. */
enum { DIGITS = 6, WIDTH = 11, BUCKETS = 1 << WIDTH };

static int shift_of(int digit)
{
    int shift = 64 - WIDTH * (digit + 1);
    return shift < 0 ? 0 : shift;
}

/* Count the eligible whose image under `mask` is `fixed` by the digit above
 * `shift`; returns how many they are. */
static int64_t count_digits(const cadft_rewrite *rewrite,
                            uint64_t mask,
                            uint64_t fixed,
                            int shift,
                            int64_t buckets[BUCKETS])
{
    int64_t total = 0;
    memset(buckets, 0, BUCKETS * sizeof *buckets);
    for (int64_t i = 0; i < rewrite->n_samples; i++) {
        const cadft__tracked *sample = &rewrite->samples[i];
        uint64_t bits = image(sample->average);
        int eligible = is_eligible(&rewrite->options, sample);
        if ((bits & mask) != fixed)
            continue;
        buckets[(bits & ~mask) >> shift] += eligible;
        total += eligible;
    }
    return total;
}

static candidates find_candidates(const cadft_rewrite *rewrite)
{
    int64_t left = cadft__share(rewrite->options.fraction, rewrite->n_samples);
    int64_t buckets[BUCKETS];
    uint64_t mask = 0, fixed = 0;
    if (left == 0)
        return (candidates){UINT64_MAX, 0};
    for (int digit = 0; digit < DIGITS; digit++) {
        int shift = shift_of(digit), at = BUCKETS - 1;
        int64_t total = count_digits(rewrite, mask, fixed, shift, buckets);
        if (total <= left) /* at the first digit: fewer than asked for */
            return (candidates){0, INT64_MAX};
        for (; left > buckets[at]; at--)
            left -= buckets[at];
        fixed |= (uint64_t)at << shift;
        mask = UINT64_MAX << shift;
        if (buckets[at] == left)
            return (candidates){fixed, INT64_MAX};
    }
    return (candidates){fixed, left};
}

/* Asked of all samples by rising id. */
static int is_candidate(candidates *c,
                        const cadft__rewrite_options *o,
                        const cadft__tracked *sample)
{
    uint64_t bits = image(sample->average);
    if (bits < c->cutoff || !is_eligible(o, sample))
        return 0;
    return bits > c->cutoff || c->at-- > 0;
}

/* -------------------------------------------------------------------- draw */

/* Generation draws at positions 0, 1, ... of the same seed, id and step; it
 * does not get as far as this one. */
static int is_drawn(const cadft__rewrite_options *o, int64_t id, int64_t step)
{
    uint32_t random[4];
    cadft__random_block((uint64_t)o->seed, (uint64_t)id,
                        (uint64_t)step << 32 | UINT32_MAX, random);
    return cadft__random_uniform(random[0], random[1]) < o->probability;
}

/* The picks by rising id, opened and written unless `ids` is NULL. */
static int64_t
pick(cadft_rewrite *rewrite, int64_t step, candidates c, int64_t *ids)
{
    int64_t count = 0;
    for (int64_t id = 0; id < rewrite->n_samples; id++) {
        cadft__tracked *sample = &rewrite->samples[id];
        if (!is_candidate(&c, &rewrite->options, sample) ||
            !is_drawn(&rewrite->options, id, step))
            continue;
        if (ids) {
            ids[count] = id;
            sample->flags |= CADFT__OPEN;
        }
        count++;
    }
    return count;
}

int32_t cadft__rewrite_room(const void *buffer,
                            size_t capacity,
                            size_t found,
                            size_t *needed,
                            const char *name,
                            cadft_error *error)
{
    if (!buffer && capacity)
        return cadft__fail(error, CADFT_E_NULL,
                           "%s is NULL with capacity %zu, expected 0", name,
                           capacity);
    if (needed)
        *needed = found;
    if (buffer && capacity < found)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity of %s is %zu, expected %zu", name,
                           capacity, found);
    return CADFT_OK;
}

static int32_t select_picks(cadft_rewrite *rewrite,
                            int64_t step,
                            int64_t *ids,
                            size_t capacity,
                            size_t *needed,
                            cadft_error *error)
{
    candidates c = {UINT64_MAX, 0};
    int64_t found = 0;
    int32_t status = check_step(rewrite, step, error);
    if (status)
        return status;
    if (is_due(&rewrite->options, step)) {
        if (rewrite->counts.open)
            return cadft__fail(error, CADFT_E_PHASE,
                               "%lld picks of step %lld are open: commit, "
                               "reject or cancel them first",
                               (long long)rewrite->counts.open,
                               (long long)rewrite->counts.last_step);
        c = find_candidates(rewrite);
        found = pick(rewrite, step, c, NULL);
    }
    status =
        cadft__rewrite_room(ids, capacity, (size_t)found, needed, "ids", error);
    if (status || !ids || found == 0)
        return status;
    pick(rewrite, step, c, ids);
    rewrite->counts.open = found;
    rewrite->counts.picked += found;
    rewrite->counts.last_step = step;
    return CADFT_OK;
}

int32_t cadft_rewrite_select(cadft_rewrite *rewrite,
                             int64_t step,
                             int64_t *ids,
                             size_t capacity,
                             size_t *needed,
                             cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = select_picks(rewrite, step, ids, capacity, needed, &call.error);
    CADFT__LEAVE(rewrite);
}

/* ------------------------------------------------------------- open picks */

static void list_open(const cadft_rewrite *rewrite, int64_t *ids)
{
    int64_t count = 0;
    for (int64_t id = 0; count < rewrite->counts.open; id++)
        if (rewrite->samples[id].flags & CADFT__OPEN)
            ids[count++] = id;
}

int32_t cadft_rewrite_open(cadft_rewrite *rewrite,
                           int64_t *ids,
                           size_t capacity,
                           size_t *needed,
                           cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = cadft__rewrite_room(ids, capacity, (size_t)rewrite->counts.open,
                                 needed, "ids", &call.error);
    if (!status && ids)
        list_open(rewrite, ids);
    CADFT__LEAVE(rewrite);
}

void cadft_rewrite_cancel(cadft_rewrite *rewrite)
{
    cadft__call call;
    if (!rewrite ||
        cadft__handle_enter(&rewrite->handle, "rewrite", NULL, &call))
        return;
    for (int64_t id = 0; rewrite->counts.open > 0; id++)
        if (rewrite->samples[id].flags & CADFT__OPEN) {
            rewrite->samples[id].flags &= (uint8_t)~CADFT__OPEN;
            rewrite->counts.open--;
        }
    cadft__handle_leave(&rewrite->handle, NULL, &call, CADFT_OK);
}
