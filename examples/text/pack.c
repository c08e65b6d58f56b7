/* SPDX-License-Identifier: Apache-2.0 */
#include "text/pack.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ order */

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* A Feistel network permutes the numbers of 2 * half bits; walking on while
 * the number is not below n makes it a permutation of those below n. Less
 * than four steps on average, as 4^half < 4 n. */
uint64_t order_at(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position)
{
    enum { ROUNDS = 8 };
    const uint64_t key =
        mix(mix(seed + UINT64_C(0x9E3779B97F4A7C15)) ^ (epoch + 1));
    unsigned half = 1;
    while (half < 32 && UINT64_C(1) << (2 * half) < n)
        half++;
    const uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t x = position;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t f = mix(key + mix((round << 56) ^ right));
            uint64_t next = left ^ (f & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= n);
    return x;
}

/* ------------------------------------------------------------------- pack */

/* Choose a micro-batch for each sample, and count what is in each. */
static int assign(const text_sample *const *samples,
                  size_t n,
                  int64_t budget,
                  packed_step *out,
                  size_t *chosen,
                  text_error *error)
{
    for (size_t i = 0; i < n; i++) {
        const text_sample *s = samples[i];
        size_t m = 0;
        if (s->n > budget)
            return text_fail(error, TEXT_INPUT,
                             "a sample of %d tokens (line %zu) does not fit "
                             "into a micro-batch of %" PRId64,
                             s->n, s->line, budget);
        while (m < out->n && out->micro[m].rows + s->n > budget)
            m++;
        if (m == out->n)
            out->micro[out->n++] = (micro_batch){0};
        out->micro[m].rows += s->n;
        out->micro[m].n_samples++;
        out->micro[m].n_logit_rows += s->n_labels;
        chosen[i] = m;
    }
    return TEXT_OK;
}

static int32_t *take(int32_t **memory, int64_t n)
{
    int32_t *piece = *memory;
    *memory += n;
    return piece;
}

static size_t int32s_of(const micro_batch *m)
{
    return (size_t)(m->rows + 2 * m->n_samples + 1 + 3 * m->n_logit_rows);
}

/* Cut the memory into arrays of the size counted; then count anew while they
 * are filled. */
static void lay_out(packed_step *out)
{
    int32_t *at = out->memory;
    for (size_t i = 0; i < out->n; i++) {
        micro_batch *m = &out->micro[i];
        m->tokens = take(&at, m->rows);
        m->cu_seqlens = take(&at, m->n_samples + 1);
        m->sample = take(&at, m->n_samples);
        m->logit_rows = take(&at, m->n_logit_rows);
        m->labels = take(&at, m->n_logit_rows);
        m->sample_ids = take(&at, m->n_logit_rows);
        m->cu_seqlens[0] = 0;
        if (m->rows > out->max_rows)
            out->max_rows = m->rows;
        if (m->n_samples > out->max_samples)
            out->max_samples = m->n_samples;
        if (m->n_logit_rows > out->max_logit_rows)
            out->max_logit_rows = m->n_logit_rows;
        m->rows = m->n_samples = m->n_logit_rows = 0;
    }
}

static void add_sample(micro_batch *m, const text_sample *s, size_t number)
{
    memcpy(m->tokens + m->rows, s->tokens, (size_t)s->n * sizeof *s->tokens);
    for (int32_t i = 0; i < s->n; i++)
        if (s->labels[i] != DATA_IGNORED) {
            m->logit_rows[m->n_logit_rows] = (int32_t)(m->rows + i);
            m->labels[m->n_logit_rows] = s->labels[i];
            m->sample_ids[m->n_logit_rows++] = (int32_t)number;
        }
    m->sample[m->n_samples++] = (int32_t)number;
    m->rows += s->n;
    m->cu_seqlens[m->n_samples] = (int32_t)m->rows;
}

static int fill(const text_sample *const *samples,
                size_t n,
                const size_t *chosen,
                packed_step *out,
                text_error *error)
{
    size_t total = 0;
    for (size_t i = 0; i < out->n; i++)
        total += int32s_of(&out->micro[i]);
    out->memory = malloc(total * sizeof *out->memory);
    if (!out->memory)
        return text_fail(error, TEXT_FAILED,
                         "out of memory for %zu micro-batches", out->n);
    lay_out(out);
    for (size_t i = 0; i < n; i++)
        add_sample(&out->micro[chosen[i]], samples[i], i);
    return TEXT_OK;
}

int pack_step(const text_sample *const *samples,
              size_t n,
              int64_t budget,
              packed_step *out,
              text_error *error)
{
    *out = (packed_step){0};
    if (n == 0 || n > INT32_MAX || budget < 1 || budget > INT32_MAX)
        return text_fail(error, TEXT_INPUT,
                         "%zu samples into micro-batches of %" PRId64
                         " tokens: both must be from 1 to %d",
                         n, budget, INT32_MAX);
    size_t *chosen = malloc(n * sizeof *chosen);
    out->micro = malloc(n * sizeof *out->micro);
    int status = TEXT_OK;
    if (!chosen || !out->micro)
        status = text_fail(error, TEXT_FAILED,
                           "out of memory for a step of %zu samples", n);
    if (status == TEXT_OK)
        status = assign(samples, n, budget, out, chosen, error);
    if (status == TEXT_OK)
        status = fill(samples, n, chosen, out, error);
    free(chosen);
    if (status != TEXT_OK)
        pack_free(out);
    return status;
}

void pack_free(packed_step *step)
{
    free(step->micro);
    free(step->memory);
    *step = (packed_step){0};
}

int pack_check(const text_data *data,
               const char *path,
               int64_t budget,
               text_error *error)
{
    for (size_t i = 0; i < data->n; i++)
        if (data->samples[i].n > budget)
            return text_fail(error, TEXT_INPUT,
                             "%s, line %zu: %d tokens do not fit into a "
                             "micro-batch of %" PRId64,
                             path, data->samples[i].line, data->samples[i].n,
                             budget);
    return TEXT_OK;
}
