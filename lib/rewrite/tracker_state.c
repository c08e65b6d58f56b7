/* SPDX-License-Identifier: Apache-2.0 */
/* A tracker saved and loaded. Sections:
 *
 *     RWH1  words: n_samples, signal, then the counts of write_head
 *     RWE1  id of the first sample (u64), then 16 bytes each: average f64,
 *           c f32, observed u16, rewrites u8, flags u8; sections follow each
 *           other by id until all are there
 *     RWT1  for each sample with flag CADFT__KEPT, by id: id (u64), count
 *           (u64), tokens i32 [count]; in as many sections as wanted
 *
 * Sections end at about SECTION bytes, so that a length of 32 bits does for
 * any number of samples. */
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "common/state.h"
#include "rewrite/rewrite.h"

enum {
    TAG_HEAD = 0x31485752,    /* "RWH1" */
    TAG_SAMPLES = 0x31455752, /* "RWE1" */
    TAG_TOKENS = 0x31545752,  /* "RWT1" */
    HEAD_WORDS = 8,
    SAMPLE = 16, /* bytes of one */
    RECORD = 16, /* bytes of a replacement before its tokens */
    SECTION = 1 << 20,
    SAMPLES_OF_SECTION = SECTION / SAMPLE
};

/* ----------------------------------------------------------------- saving */

static unsigned char *write_head(const cadft_rewrite *r, unsigned char *at)
{
    const cadft__rewrite_counts *c = &r->counts;
    const uint64_t words[HEAD_WORDS] = {
        (uint64_t)r->n_samples, (uint64_t)r->options.signal,
        (uint64_t)c->observed,  (uint64_t)c->ignored,
        (uint64_t)c->picked,    (uint64_t)c->accepted,
        (uint64_t)c->rejected,  (uint64_t)c->last_step};
    return cadft__state_section(at, TAG_HEAD, words, HEAD_WORDS);
}

static void write_sample(const cadft__tracked *sample, unsigned char *at)
{
    uint64_t average;
    uint32_t c;
    memcpy(&average, &sample->average, sizeof average);
    memcpy(&c, &sample->c, sizeof c);
    cadft__state_put64(at, average);
    cadft__state_put32(at + 8, c);
    cadft__state_put32(at + 12, (uint32_t)sample->observed |
                                    (uint32_t)sample->rewrites << 16 |
                                    (uint32_t)sample->flags << 24);
}

static int64_t samples_of_section(const cadft_rewrite *rewrite, int64_t first)
{
    int64_t left = rewrite->n_samples - first;
    return left < SAMPLES_OF_SECTION ? left : SAMPLES_OF_SECTION;
}

static unsigned char *write_samples(const cadft_rewrite *r, unsigned char *at)
{
    for (int64_t first = 0, n; first < r->n_samples; first += n) {
        size_t bytes;
        unsigned char *payload;
        n = samples_of_section(r, first);
        bytes = 8 + (size_t)n * SAMPLE;
        payload = cadft__state_start(at, TAG_SAMPLES, bytes);
        cadft__state_put64(payload, (uint64_t)first);
        for (int64_t i = 0; i < n; i++)
            write_sample(&r->samples[first + i], payload + 8 + i * SAMPLE);
        at = cadft__state_finish(payload, bytes);
    }
    return at;
}

/* Replacements from `first` on that go into one section: the index after
 * them, and their bytes. */
static size_t
tokens_of_section(const cadft__replacements *all, size_t first, size_t *bytes)
{
    *bytes = 0;
    while (first < all->count && *bytes < SECTION)
        *bytes += RECORD + 4 * (size_t)all->list[first++].count;
    return first;
}

static unsigned char *write_record(const cadft__replacement *one,
                                   unsigned char *at)
{
    at = cadft__state_put64(at, (uint64_t)one->id);
    at = cadft__state_put64(at, (uint64_t)one->count);
    for (int64_t i = 0; i < one->count; i++)
        at = cadft__state_put32(at, (uint32_t)one->tokens[i]);
    return at;
}

static unsigned char *write_tokens(const cadft__replacements *all,
                                   unsigned char *at)
{
    for (size_t i = 0, end, bytes; i < all->count;) {
        unsigned char *payload, *record;
        end = tokens_of_section(all, i, &bytes);
        record = payload = cadft__state_start(at, TAG_TOKENS, bytes);
        while (i < end)
            record = write_record(&all->list[i++], record);
        at = cadft__state_finish(payload, bytes);
    }
    return at;
}

static size_t state_size(const cadft_rewrite *r)
{
    size_t size = CADFT__STATE_HEADER + cadft__state_section_size(HEAD_WORDS);
    for (int64_t first = 0, n; first < r->n_samples; first += n) {
        n = samples_of_section(r, first);
        size += cadft__state_size(8 + (size_t)n * SAMPLE);
    }
    for (size_t i = 0, bytes; i < r->replacements.count;) {
        i = tokens_of_section(&r->replacements, i, &bytes);
        size += cadft__state_size(bytes);
    }
    return size;
}

int32_t cadft_rewrite_state_save(cadft_rewrite *rewrite,
                                 void *buffer,
                                 size_t capacity,
                                 size_t *needed,
                                 cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = cadft__rewrite_room(buffer, capacity, state_size(rewrite), needed,
                                 "buffer", &call.error);
    if (!status && buffer) {
        unsigned char *at = cadft__state_header((unsigned char *)buffer);
        at = write_head(rewrite, at);
        at = write_samples(rewrite, at);
        write_tokens(&rewrite->replacements, at);
    }
    CADFT__LEAVE(rewrite);
}

/* ---------------------------------------------------------------- loading */

/* A buffer, and what comes of it. */
typedef struct reader {
    cadft_rewrite *rewrite;
    const void *buffer;
    size_t size;
    cadft__rewrite_counts counts;
    cadft__replacements replacements;
    /* of RWT1: where the next section is looked for, and what is left of the
     * present one */
    size_t at;
    const unsigned char *record;
    size_t record_bytes;
} reader;

static void read_sample(const unsigned char *at, cadft__tracked *out)
{
    uint64_t average = cadft__state_get64(at);
    uint32_t c = cadft__state_get32(at + 8);
    uint32_t rest = cadft__state_get32(at + 12);
    memcpy(&out->average, &average, sizeof average);
    memcpy(&out->c, &c, sizeof c);
    out->observed = (uint16_t)rest;
    out->rewrites = (uint8_t)(rest >> 16);
    out->flags = (uint8_t)(rest >> 24);
}

/* Can calls have left a sample like this? */
static int is_possible(const cadft__tracked *s)
{
    static const cadft__tracked nothing;
    if (s->flags & ~CADFT__FLAGS)
        return 0;
    if (s->flags & CADFT__KEPT && !(s->flags & CADFT__REWRITTEN))
        return 0;
    if (s->flags & CADFT__REWRITTEN && !s->rewrites)
        return 0;
    if (s->flags & CADFT__OPEN && (!s->observed || s->rewrites == UINT8_MAX))
        return 0;
    if (!s->observed)
        return memcmp(s, &nothing, offsetof(cadft__tracked, rewrites)) == 0;
    if (s->average == 0 && signbit(s->average))
        return 0;
    return isfinite(s->average) && !isinf(s->c);
}

static int32_t read_head(reader *in, cadft_error *error)
{
    const cadft_rewrite *r = in->rewrite;
    cadft__rewrite_counts *c = &in->counts;
    uint64_t words[HEAD_WORDS];
    int32_t status = cadft__state_find(in->buffer, in->size, TAG_HEAD, words,
                                       HEAD_WORDS, error);
    if (status)
        return status;
    if (words[0] != (uint64_t)r->n_samples ||
        words[1] != (uint64_t)r->options.signal)
        return cadft__fail(
            error, CADFT_E_STATE,
            "saved state is of %llu samples and signal %llu, expected %lld "
            "and %lld",
            (unsigned long long)words[0], (unsigned long long)words[1],
            (long long)r->n_samples, (long long)r->options.signal);
    *c = (cadft__rewrite_counts){.observed = (int64_t)words[2],
                                 .ignored = (int64_t)words[3],
                                 .picked = (int64_t)words[4],
                                 .accepted = (int64_t)words[5],
                                 .rejected = (int64_t)words[6],
                                 .last_step = (int64_t)words[7]};
    return CADFT_OK;
}

/* After the samples, which say how many are open. */
static int32_t check_counts(const cadft__rewrite_counts *c, cadft_error *error)
{
    const int64_t most = INT64_MAX / 2; /* as many more can be counted */
    int possible = c->observed >= 0 && c->observed <= most && c->ignored >= 0 &&
                   c->ignored <= most && c->picked >= 0 && c->picked <= most &&
                   c->accepted >= 0 && c->accepted <= c->picked &&
                   c->rejected >= 0 && c->rejected <= c->picked - c->accepted &&
                   c->open <= c->picked - c->accepted - c->rejected &&
                   c->last_step <= UINT32_MAX &&
                   c->last_step >= (c->picked ? 0 : -1);
    if (possible)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_STATE,
                       "saved state has counts that no calls leave behind");
}

static int32_t
read_tokens(reader *in, int64_t id, int64_t count, cadft_error *error)
{
    const unsigned char *from = in->record + RECORD;
    int32_t *tokens;
    int32_t status = cadft__replacements_append(
        &in->rewrite->handle.context->memory, &in->replacements, id, count,
        &tokens, error);
    if (status)
        return status;
    for (int64_t i = 0; i < count; i++) {
        uint32_t token = cadft__state_get32(from + 4 * i);
        if (token > INT32_MAX)
            return cadft__fail(error, CADFT_E_STATE,
                               "replacement of sample %lld has a negative "
                               "token",
                               (long long)id);
        tokens[i] = (int32_t)token;
    }
    in->record = from + 4 * count;
    in->record_bytes -= RECORD + 4 * (size_t)count;
    return CADFT_OK;
}

/* The next record of a replacement, which must be of sample `id`. */
static int32_t read_record(reader *in, int64_t id, cadft_error *error)
{
    uint64_t count;
    if (in->record_bytes == 0)
        in->record = cadft__state_next(in->buffer, in->size, TAG_TOKENS,
                                       &in->at, &in->record_bytes);
    if (!in->record || in->record_bytes < RECORD ||
        cadft__state_get64(in->record) != (uint64_t)id)
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state lacks the replacement of sample %lld",
                           (long long)id);
    count = cadft__state_get64(in->record + 8);
    if (count < 1 || count > CADFT__MOST_TOKENS ||
        count > (in->record_bytes - RECORD) / 4)
        return cadft__fail(error, CADFT_E_STATE,
                           "replacement of sample %lld has %llu tokens in %zu "
                           "bytes",
                           (long long)id, (unsigned long long)count,
                           in->record_bytes);
    return read_tokens(in, id, (int64_t)count, error);
}

static int32_t check_sample(reader *in,
                            int64_t id,
                            const unsigned char *at,
                            cadft_error *error)
{
    cadft__tracked sample;
    read_sample(at, &sample);
    if (!is_possible(&sample))
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has sample %lld as no calls leave it",
                           (long long)id);
    in->counts.open += (sample.flags & CADFT__OPEN) != 0;
    in->counts.rewritten += (sample.flags & CADFT__REWRITTEN) != 0;
    return sample.flags & CADFT__KEPT ? read_record(in, id, error) : CADFT_OK;
}

/* The samples of the section at hand, which must begin with `first`; 0 for
 * one that does not fit. */
static int64_t section_samples(const cadft_rewrite *rewrite,
                               const unsigned char *payload,
                               size_t bytes,
                               int64_t first)
{
    int64_t n = (int64_t)(bytes / SAMPLE); /* 8 more for the id */
    if (bytes % SAMPLE != 8 || n > rewrite->n_samples - first ||
        cadft__state_get64(payload) != (uint64_t)first)
        return 0;
    return n;
}

static int32_t check_samples(reader *in, cadft_error *error)
{
    const unsigned char *payload;
    int64_t first = 0, n = 1;
    size_t at = 0, bytes;
    while (n && (payload = cadft__state_next(in->buffer, in->size, TAG_SAMPLES,
                                             &at, &bytes)) != NULL) {
        n = section_samples(in->rewrite, payload, bytes, first);
        for (int64_t i = 0; i < n; i++) {
            int32_t status =
                check_sample(in, first + i, payload + 8 + i * SAMPLE, error);
            if (status)
                return status;
        }
        first += n;
    }
    if (!n || first != in->rewrite->n_samples)
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has not all samples in order: %lld "
                           "before it breaks off, expected %lld",
                           (long long)first, (long long)in->rewrite->n_samples);
    if (in->record_bytes ||
        cadft__state_next(in->buffer, in->size, TAG_TOKENS, &in->at, &bytes))
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has a replacement of no sample");
    return CADFT_OK;
}

/* All was checked: nothing here can fail. */
static void take(reader *in)
{
    cadft_rewrite *r = in->rewrite;
    cadft__replacements old = r->replacements;
    const unsigned char *payload;
    int64_t id = 0;
    size_t at = 0, bytes;
    while ((payload = cadft__state_next(in->buffer, in->size, TAG_SAMPLES, &at,
                                        &bytes)) != NULL)
        for (size_t i = 8; i < bytes; i += SAMPLE)
            read_sample(payload + i, &r->samples[id++]);
    r->counts = in->counts;
    r->replacements = in->replacements;
    in->replacements = old;
}

static int32_t load(cadft_rewrite *rewrite,
                    const void *buffer,
                    size_t size,
                    cadft_error *error)
{
    reader in = {.rewrite = rewrite, .buffer = buffer, .size = size};
    int32_t status;
    if (!buffer)
        return cadft__fail(error, CADFT_E_NULL, "buffer is NULL");
    status = read_head(&in, error);
    if (!status)
        status = check_samples(&in, error);
    if (!status)
        status = check_counts(&in.counts, error);
    if (!status)
        take(&in);
    cadft__replacements_free(&rewrite->handle.context->memory,
                             &in.replacements); /* the refused, or the old */
    return status;
}

int32_t cadft_rewrite_state_load(cadft_rewrite *rewrite,
                                 const void *buffer,
                                 size_t size,
                                 cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = load(rewrite, buffer, size, &call.error);
    CADFT__LEAVE(rewrite);
}
