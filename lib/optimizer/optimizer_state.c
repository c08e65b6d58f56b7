/* SPDX-License-Identifier: Apache-2.0 */
/* Moments and masters of all parameters in one block of the backend's
 * memory, with room for the norm. */
#include <string.h>

#include "backend/device.h"
#include "common/tensor.h"
#include "io/element.h"
#include "optimizer/optimizer.h"

enum { ALIGN = 64, PIECE = 1 << 18 /* elements */ };

/* ----------------------------------------------------------------- layout */

/* Set `bytes` aside at *at; returns 0 when they are more than there can be. */
static int place(uint64_t *total, uint64_t bytes, uint64_t *at)
{
    uint64_t end;
    *at = *total;
    if (__builtin_add_overflow(*total, bytes, &end) ||
        end > (uint64_t)INT64_MAX - ALIGN)
        return 0;
    *total = (end + ALIGN - 1) / ALIGN * ALIGN;
    return 1;
}

static int place_member(const cadft_optimizer *optimizer,
                        cadft__member *member,
                        uint64_t *total)
{
    uint64_t bytes = (uint64_t)member->n * sizeof(float);
    int has_v = optimizer->options.kind == CADFT_KIND_ADAMW;
    int has_master =
        optimizer->options.master && member->value_dtype == CADFT_DTYPE_BF16;
    member->v = member->master = CADFT__ABSENT;
    return place(total, bytes, &member->m) &&
           (!has_v || place(total, bytes, &member->v)) &&
           (!has_master || place(total, bytes, &member->master));
}

static uint64_t work_bytes(const cadft_optimizer *optimizer)
{
    uint64_t most = 0;
    for (size_t i = 0; i < optimizer->count; i++) {
        cadft_sum_squares_args args = {
            .struct_size = sizeof args,
            .dtype = optimizer->members[i].grad_dtype,
            .n = optimizer->members[i].n,
        };
        uint64_t bytes = cadft__device_work_bytes(optimizer->handle.context,
                                                  CADFT_OP_SUM_SQUARES, &args);
        most = bytes > most ? bytes : most;
    }
    return most;
}

int32_t cadft__state_plan(cadft_optimizer *optimizer,
                          cadft__optimizer_state *out,
                          cadft_error *error)
{
    int fits = 1;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < optimizer->count && fits; i++)
        fits = place_member(optimizer, &optimizer->members[i], &out->bytes);
    fits = fits &&
           place(&out->bytes, optimizer->count * sizeof(double), &out->sums);
    fits = fits && place(&out->bytes, work_bytes(optimizer), &out->work);
    if (fits)
        return CADFT_OK;
    memset(out, 0, sizeof *out);
    return cadft__fail(error, CADFT_E_NOMEM,
                       "the state of %zu parameters does not fit in memory",
                       optimizer->count);
}

cadft_array cadft__state_array(const cadft__optimizer_state *state,
                               uint64_t offset)
{
    if (offset == CADFT__ABSENT)
        return (cadft_array){NULL, 0};
    return (cadft_array){state->base, offset};
}

/* ----------------------------------------------------------------- memory */

/* Steps, and squares behind them. */
static size_t counts_bytes(const cadft_optimizer *optimizer)
{
    return optimizer->count * (sizeof(int64_t) + sizeof(double));
}

int32_t cadft__state_new(cadft_optimizer *optimizer,
                         cadft__optimizer_state *out,
                         cadft_error *error)
{
    cadft_context *context = optimizer->handle.context;
    int32_t status;
    CADFT__TRY(cadft__state_plan(optimizer, out, error));
    out->steps =
        (int64_t *)cadft__alloc(&context->memory, counts_bytes(optimizer));
    if (!out->steps) {
        memset(out, 0, sizeof *out);
        return cadft__fail(error, CADFT_E_NOMEM,
                           "the allocator has no memory for the counts of %zu "
                           "parameters",
                           optimizer->count);
    }
    out->squares = (double *)(void *)(out->steps + optimizer->count);
    status = cadft__device_alloc(context, out->bytes, &out->base, error);
    if (!status)
        status = cadft__device_zero(context, NULL, (cadft_array){out->base, 0},
                                    out->bytes, error);
    if (status)
        cadft__state_free(optimizer, out);
    return status;
}

void cadft__state_free(cadft_optimizer *optimizer,
                       cadft__optimizer_state *state)
{
    cadft_context *context = optimizer->handle.context;
    cadft__device_free(context, NULL, state->base, state->bytes);
    cadft__free(&context->memory, state->steps, counts_bytes(optimizer));
    memset(state, 0, sizeof *state);
}

/* ---------------------------------------------------------------- masters */

/* master = value, by way of host memory: `buffer` holds PIECE elements in
 * bfloat16 and behind them in float32. */
static int32_t fill_master(cadft_context *context,
                           const cadft__optimizer_state *state,
                           const cadft__member *member,
                           char *buffer,
                           cadft_error *error)
{
    size_t small = cadft__dtype_size(CADFT_DTYPE_BF16);
    char *wide = buffer + PIECE * small;
    for (int64_t at = 0; at < member->n; at += PIECE) {
        size_t n = (size_t)(member->n - at < PIECE ? member->n - at : PIECE);
        cadft_array from = member->value;
        cadft_array to = cadft__state_array(state, member->master);
        from.offset += (uint64_t)at * small;
        to.offset += (uint64_t)at * sizeof(float);
        CADFT__TRY(
            cadft__device_out(context, NULL, buffer, from, n * small, error));
        cadft__elements_convert(CADFT_DTYPE_BF16, buffer, CADFT_DTYPE_F32, wide,
                                n);
        CADFT__TRY(cadft__device_in(context, NULL, to, wide, n * sizeof(float),
                                    error));
    }
    return CADFT_OK;
}

static int32_t fill_masters(cadft_optimizer *optimizer,
                            const cadft__optimizer_state *state,
                            cadft_error *error)
{
    cadft_context *context = optimizer->handle.context;
    size_t bytes = (size_t)PIECE * 6;
    char *buffer = NULL;
    int32_t status = CADFT_OK;
    for (size_t i = 0; i < optimizer->count && !status; i++) {
        if (optimizer->members[i].master == CADFT__ABSENT)
            continue;
        if (!buffer)
            buffer = (char *)cadft__alloc(&context->memory, bytes);
        status = buffer ? fill_master(context, state, &optimizer->members[i],
                                      buffer, error)
                        : cadft__fail(error, CADFT_E_NOMEM,
                                      "the allocator has no memory to make "
                                      "masters");
    }
    cadft__free(&context->memory, buffer, bytes);
    return status;
}

int32_t cadft__state_needed(cadft_optimizer *optimizer, cadft_error *error)
{
    cadft__optimizer_state state;
    int32_t status;
    if (optimizer->state.base)
        return CADFT_OK;
    CADFT__TRY(cadft__state_new(optimizer, &state, error));
    state.skipped = optimizer->state.skipped;
    status = fill_masters(optimizer, &state, error);
    if (status)
        cadft__state_free(optimizer, &state);
    else
        optimizer->state = state;
    return status;
}
