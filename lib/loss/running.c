/* SPDX-License-Identifier: Apache-2.0 */
/* Running statistics, saved and restored bit for bit. */
#include <math.h>
#include <string.h>

#include "common/error.h"
#include "common/state.h"
#include "loss/loss.h"

enum { TAG_RUNNING = 0x314e5552 /* "RUN1" */, RUNNING_WORDS = 3 };

static int32_t check_phase(const cadft_loss *loss, cadft_error *error)
{
    if (loss->step.phase == PHASE_IDLE)
        return CADFT_OK;
    return cadft__fail(error, CADFT_E_PHASE,
                       "state is saved and loaded between steps");
}

static int32_t save(const cadft_loss *loss,
                    void *buffer,
                    size_t capacity,
                    size_t *needed,
                    cadft_error *error)
{
    double values[RUNNING_WORDS] = {loss->running.mu, loss->running.sigma,
                                    loss->running.weight};
    uint64_t words[RUNNING_WORDS];
    size_t size =
        CADFT__STATE_HEADER + cadft__state_section_size(RUNNING_WORDS);
    int32_t status = check_phase(loss, error);
    if (status)
        return status;
    if (needed)
        *needed = size;
    if (!buffer && capacity == 0)
        return CADFT_OK;
    if (!buffer)
        return cadft__fail(error, CADFT_E_NULL, "buffer is NULL");
    if (capacity < size)
        return cadft__fail(error, CADFT_E_SPACE,
                           "capacity is %zu bytes, expected %zu", capacity,
                           size);
    memcpy(words, values, sizeof words);
    cadft__state_section(cadft__state_header((unsigned char *)buffer),
                         TAG_RUNNING, words, RUNNING_WORDS);
    return CADFT_OK;
}

int32_t cadft_loss_state_save(cadft_loss *loss,
                              void *buffer,
                              size_t capacity,
                              size_t *needed,
                              cadft_error *error)
{
    CADFT__ENTER(loss);
    status = save(loss, buffer, capacity, needed, &call.error);
    CADFT__LEAVE(loss);
}

/* Averages that steps can have left: finite once the weight is divided out,
 * nothing at all without weight. */
static int is_running(const double v[RUNNING_WORDS])
{
    if (v[2] == 0)
        return v[0] == 0 && v[1] == 0;
    return v[2] > 0 && v[2] <= 1 && v[1] >= 0 && isfinite(v[0] / v[2]) &&
           isfinite(v[1] / v[2]);
}

static int32_t
load(cadft_loss *loss, const void *buffer, size_t size, cadft_error *error)
{
    double values[RUNNING_WORDS];
    uint64_t words[RUNNING_WORDS];
    int32_t status = check_phase(loss, error);
    if (!status && !buffer)
        status = cadft__fail(error, CADFT_E_NULL, "buffer is NULL");
    if (!status)
        status = cadft__state_find(buffer, size, TAG_RUNNING, words,
                                   RUNNING_WORDS, error);
    if (status)
        return status;
    memcpy(values, words, sizeof values);
    if (!is_running(values))
        return cadft__fail(error, CADFT_E_STATE,
                           "running statistics are (%g, %g) of weight %g, "
                           "which no step leaves behind",
                           values[0], values[1], values[2]);
    loss->running = (cadft__running){values[0], values[1], values[2]};
    return CADFT_OK;
}

int32_t cadft_loss_state_load(cadft_loss *loss,
                              const void *buffer,
                              size_t size,
                              cadft_error *error)
{
    CADFT__ENTER(loss);
    status = load(loss, buffer, size, &call.error);
    CADFT__LEAVE(loss);
}
