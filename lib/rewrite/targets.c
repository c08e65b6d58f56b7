/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to picks, taken or not, and the replacements that hold. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "rewrite/rewrite.h"

/* -------------------------------------------------------------- the table */

size_t cadft__replacements_find(const cadft__replacements *all, int64_t id)
{
    size_t low = 0, high = all->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (all->list[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t token_bytes(int64_t count)
{
    return (size_t)count * sizeof(int32_t);
}

/* Room for one more, and for its tokens; nothing is in the table yet. */
static int32_t prepare(cadft__memory *memory,
                       cadft__replacements *all,
                       int64_t count,
                       int32_t **tokens,
                       cadft_error *error)
{
    int32_t status =
        cadft__reserve(memory, &all->list, &all->capacity, all->count,
                       all->count + 1, sizeof *all->list, error);
    if (status)
        return status;
    *tokens = (int32_t *)cadft__alloc(memory, token_bytes(count));
    if (!*tokens)
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no %zu bytes for %lld tokens",
                           token_bytes(count), (long long)count);
    return CADFT_OK;
}

static void insert(cadft__replacements *all,
                   size_t at,
                   int64_t id,
                   int32_t *tokens,
                   int64_t count)
{
    memmove(all->list + at + 1, all->list + at,
            (all->count - at) * sizeof *all->list);
    all->list[at] = (cadft__replacement){id, tokens, count};
    all->count++;
    all->bytes += (int64_t)token_bytes(count);
}

int32_t cadft__replacements_append(cadft__memory *memory,
                                   cadft__replacements *all,
                                   int64_t id,
                                   int64_t count,
                                   int32_t **tokens,
                                   cadft_error *error)
{
    int32_t status = prepare(memory, all, count, tokens, error);
    if (!status)
        insert(all, all->count, id, *tokens, count);
    return status;
}

void cadft__replacements_free(cadft__memory *memory, cadft__replacements *all)
{
    for (size_t i = 0; i < all->count; i++)
        cadft__free(memory, all->list[i].tokens,
                    token_bytes(all->list[i].count));
    cadft__free(memory, all->list, all->capacity * sizeof *all->list);
    *all = (cadft__replacements){NULL, 0, 0, 0};
}

/* Take a sample's replacement, if any, out of the table. */
static void drop(cadft_rewrite *rewrite, int64_t id)
{
    cadft__replacements *all = &rewrite->replacements;
    cadft__tracked *sample = &rewrite->samples[id];
    cadft__replacement *old;
    if (!(sample->flags & CADFT__KEPT))
        return;
    old = &all->list[cadft__replacements_find(all, id)];
    cadft__free(&rewrite->handle.context->memory, old->tokens,
                token_bytes(old->count));
    all->bytes -= (int64_t)token_bytes(old->count);
    all->count--;
    memmove(old, old + 1, (size_t)(all->list + all->count - old) * sizeof *old);
    sample->flags &= (uint8_t)~CADFT__KEPT;
}

/* ----------------------------------------------------------------- picks */

static int32_t
check_open(const cadft_rewrite *rewrite, int64_t id, cadft_error *error)
{
    int32_t status = cadft__rewrite_id(rewrite, id, error);
    if (status)
        return status;
    if (!(rewrite->samples[id].flags & CADFT__OPEN))
        return cadft__fail(error, CADFT_E_PHASE, "sample %lld is no open pick",
                           (long long)id);
    return CADFT_OK;
}

static void close_pick(cadft_rewrite *rewrite, int64_t id)
{
    rewrite->samples[id].flags &= (uint8_t)~CADFT__OPEN;
    rewrite->counts.open--;
}

int32_t
cadft_rewrite_reject(cadft_rewrite *rewrite, int64_t id, cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = check_open(rewrite, id, &call.error);
    if (!status) {
        close_pick(rewrite, id);
        rewrite->counts.rejected++;
    }
    CADFT__LEAVE(rewrite);
}

static int32_t check_result(const cadft_rewrite_result *r, cadft_error *error)
{
    if (r->ended != 0 && r->ended != 1)
        return cadft__fail(error, CADFT_E_ARG,
                           "result.ended is %d, expected 0 or 1", r->ended);
    if (r->n_tokens < 0 || r->n_tokens > CADFT__MOST_TOKENS)
        return cadft__fail(error, CADFT_E_ARG,
                           "result.n_tokens is %lld, expected 0 to %d",
                           (long long)r->n_tokens, CADFT__MOST_TOKENS);
    for (int64_t i = 0; r->tokens && i < r->n_tokens; i++)
        if (r->tokens[i] < 0)
            return cadft__fail(error, CADFT_E_ARG,
                               "result.tokens[%lld] is %d, expected at least "
                               "0",
                               (long long)i, r->tokens[i]);
    return CADFT_OK;
}

/* Is c_new below c_old? */
static int32_t compare(const cadft__tracked *sample,
                       const cadft_rewrite_result *r,
                       int *lower,
                       cadft_error *error)
{
    if (isnan(r->c_new))
        return cadft__fail(error, CADFT_E_ARG,
                           "result.c_new is NaN, expected a number because "
                           "require_lower is 1");
    if (!isnan(r->c_old)) {
        *lower = r->c_new < r->c_old;
        return CADFT_OK;
    }
    if (isnan(sample->c))
        return cadft__fail(error, CADFT_E_PHASE,
                           "result.c_old is NaN and no c of the sample has "
                           "been observed, expected either because "
                           "require_lower is 1");
    /* as float32, which c was rounded to; too large for it is not lower */
    *lower = r->c_new <= (double)FLT_MAX && (float)r->c_new < sample->c;
    return CADFT_OK;
}

static int32_t judge(const cadft_rewrite *rewrite,
                     int64_t id,
                     const cadft_rewrite_result *r,
                     int32_t *rejected,
                     cadft_error *error)
{
    const cadft__rewrite_options *o = &rewrite->options;
    int lower = 1;
    if (o->require_lower) {
        int32_t status = compare(&rewrite->samples[id], r, &lower, error);
        if (status)
            return status;
    }
    *rejected = CADFT_REJECTED_NOT;
    if (r->n_tokens < o->min_length)
        *rejected = CADFT_REJECTED_TOO_SHORT;
    else if (o->max_length && r->n_tokens > o->max_length)
        *rejected = CADFT_REJECTED_TOO_LONG;
    else if (o->require_end && !r->ended)
        *rejected = CADFT_REJECTED_NOT_ENDED;
    else if (!lower)
        *rejected = CADFT_REJECTED_NOT_LOWER;
    return CADFT_OK;
}

static int32_t accept(cadft_rewrite *rewrite,
                      int64_t id,
                      const cadft_rewrite_result *r,
                      cadft_error *error)
{
    cadft__replacements *all = &rewrite->replacements;
    cadft__tracked *sample = &rewrite->samples[id];
    int32_t *copy = NULL;
    if (r->tokens) {
        int32_t status = prepare(&rewrite->handle.context->memory, all,
                                 r->n_tokens, &copy, error);
        if (status)
            return status;
        memcpy(copy, r->tokens, token_bytes(r->n_tokens));
    }
    drop(rewrite, id);
    if (copy) {
        insert(all, cadft__replacements_find(all, id), id, copy, r->n_tokens);
        sample->flags |= CADFT__KEPT;
    }
    if (!(sample->flags & CADFT__REWRITTEN))
        rewrite->counts.rewritten++;
    sample->flags |= CADFT__REWRITTEN;
    sample->rewrites++;
    cadft__tracked_restart(sample);
    return CADFT_OK;
}

static int32_t commit(cadft_rewrite *rewrite,
                      int64_t id,
                      const cadft_rewrite_result *theirs,
                      int32_t *rejected,
                      cadft_error *error)
{
    cadft_rewrite_result r;
    int32_t why;
    int32_t status = cadft__struct_in(
        &r, sizeof r, theirs, CADFT__SIZE_TO(cadft_rewrite_result, c_old),
        "result", error);
    if (!status)
        status = cadft__rewrite_check(rewrite, error);
    if (!status)
        status = check_open(rewrite, id, error);
    if (!status)
        status = check_result(&r, error);
    if (!status)
        status = judge(rewrite, id, &r, &why, error);
    if (!status && !why)
        status = accept(rewrite, id, &r, error);
    if (status)
        return status;
    close_pick(rewrite, id);
    if (why)
        rewrite->counts.rejected++;
    else
        rewrite->counts.accepted++;
    if (rejected)
        *rejected = why;
    return CADFT_OK;
}

int32_t cadft_rewrite_commit(cadft_rewrite *rewrite,
                             int64_t id,
                             const cadft_rewrite_result *result,
                             int32_t *rejected,
                             cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = commit(rewrite, id, result, rejected, &call.error);
    CADFT__LEAVE(rewrite);
}

/* ---------------------------------------------------------------- targets */

static int32_t target(const cadft_rewrite *rewrite,
                      int64_t id,
                      const int32_t **tokens,
                      int64_t *n,
                      cadft_error *error)
{
    const cadft__replacements *all = &rewrite->replacements;
    const cadft__replacement *found;
    int32_t status;
    if (!tokens || !n)
        return cadft__fail(error, CADFT_E_NULL, "%s is NULL",
                           tokens ? "n" : "tokens");
    status = cadft__rewrite_id(rewrite, id, error);
    if (status || !(rewrite->samples[id].flags & CADFT__KEPT))
        return status;
    found = &all->list[cadft__replacements_find(all, id)];
    *tokens = found->tokens;
    *n = found->count;
    return CADFT_OK;
}

int32_t cadft_rewrite_target(cadft_rewrite *rewrite,
                             int64_t id,
                             const int32_t **tokens,
                             int64_t *n,
                             cadft_error *error)
{
    if (tokens)
        *tokens = NULL;
    if (n)
        *n = 0;
    {
        CADFT__ENTER(rewrite);
        status = target(rewrite, id, tokens, n, &call.error);
        CADFT__LEAVE(rewrite);
    }
}

static int32_t restore(cadft_rewrite *rewrite, int64_t id, cadft_error *error)
{
    cadft__tracked *sample;
    int32_t status = cadft__rewrite_id(rewrite, id, error);
    if (status)
        return status;
    sample = &rewrite->samples[id];
    if (sample->flags & CADFT__OPEN)
        return cadft__fail(error, CADFT_E_PHASE,
                           "sample %lld is an open pick: commit, reject or "
                           "cancel it first",
                           (long long)id);
    if (!(sample->flags & CADFT__REWRITTEN))
        return cadft__fail(error, CADFT_E_PHASE, "sample %lld is not rewritten",
                           (long long)id);
    drop(rewrite, id);
    sample->flags &= (uint8_t)~CADFT__REWRITTEN;
    rewrite->counts.rewritten--;
    cadft__tracked_restart(sample);
    return CADFT_OK;
}

int32_t
cadft_rewrite_restore(cadft_rewrite *rewrite, int64_t id, cadft_error *error)
{
    CADFT__ENTER(rewrite);
    status = restore(rewrite, id, &call.error);
    CADFT__LEAVE(rewrite);
}
