/* SPDX-License-Identifier: Apache-2.0 */
#include "common/state.h"

#include <string.h>

#include "common/crc.h"
#include "common/error.h"

enum { FRAME = 12 }; /* tag, length, checksum */

static const unsigned char magic[7] = {'C', 'A', 'D', 'F', 'T', 'S', 'T'};

/* ---------------------------------------------------------------- writing */

size_t cadft__state_size(size_t bytes)
{
    return FRAME + bytes;
}

size_t cadft__state_section_size(size_t count)
{
    return cadft__state_size(8 * count);
}

unsigned char *cadft__state_header(unsigned char *at)
{
    memcpy(at, magic, sizeof magic);
    at[7] = CADFT__STATE_VERSION;
    return at + CADFT__STATE_HEADER;
}

unsigned char *cadft__state_start(unsigned char *at, uint32_t tag, size_t bytes)
{
    at = cadft__state_put32(at, tag);
    return cadft__state_put32(at, (uint32_t)bytes);
}

unsigned char *cadft__state_finish(unsigned char *payload, size_t bytes)
{
    return cadft__state_put32(payload + bytes,
                              cadft__crc32(0, payload - 8, bytes + 8));
}

unsigned char *cadft__state_section(unsigned char *at,
                                    uint32_t tag,
                                    const uint64_t *words,
                                    size_t count)
{
    unsigned char *payload = cadft__state_start(at, tag, 8 * count);
    for (size_t i = 0; i < count; i++)
        cadft__state_put64(payload + 8 * i, words[i]);
    return cadft__state_finish(payload, 8 * count);
}

/* ---------------------------------------------------------------- reading */

/* Length of the section at `at`, or 0 when it is damaged. */
static size_t check_section(const unsigned char *at, size_t left)
{
    uint64_t length;
    if (left < FRAME)
        return 0;
    length = cadft__state_get32(at + 4);
    if (length > left - FRAME)
        return 0;
    if (cadft__crc32(0, at, 8 + (size_t)length) !=
        cadft__state_get32(at + 8 + length))
        return 0;
    return FRAME + (size_t)length;
}

int32_t cadft__state_check(const void *buffer, size_t size, cadft_error *error)
{
    const unsigned char *bytes = (const unsigned char *)buffer;
    size_t at = CADFT__STATE_HEADER;
    if (size < CADFT__STATE_HEADER || memcmp(bytes, magic, sizeof magic) != 0)
        return cadft__fail(error, CADFT_E_STATE,
                           "%zu bytes without the mark of a saved state", size);
    if (bytes[7] != CADFT__STATE_VERSION)
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has version %d, expected %d", bytes[7],
                           CADFT__STATE_VERSION);
    while (at < size) {
        size_t length = check_section(bytes + at, size - at);
        if (!length)
            return cadft__fail(error, CADFT_E_STATE,
                               "saved state is damaged at byte %zu of %zu", at,
                               size);
        at += length;
    }
    return CADFT_OK;
}

const unsigned char *cadft__state_next(
    const void *buffer, size_t size, uint32_t tag, size_t *at, size_t *bytes)
{
    if (*at < CADFT__STATE_HEADER)
        *at = CADFT__STATE_HEADER;
    while (*at < size) {
        const unsigned char *section = (const unsigned char *)buffer + *at;
        *bytes = cadft__state_get32(section + 4);
        *at += FRAME + *bytes;
        if (cadft__state_get32(section) == tag)
            return section + 8;
    }
    return NULL;
}

int32_t cadft__state_find(const void *buffer,
                          size_t size,
                          uint32_t tag,
                          uint64_t *words,
                          size_t count,
                          cadft_error *error)
{
    const unsigned char *next, *found = NULL;
    size_t at = 0, bytes = 0, length = 0;
    int32_t status = cadft__state_check(buffer, size, error);
    if (status)
        return status;
    while ((next = cadft__state_next(buffer, size, tag, &at, &bytes)) != NULL) {
        found = next;
        length = bytes;
    }
    if (!found || length != 8 * count)
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has no section %08x of %zu bytes", tag,
                           8 * count);
    for (size_t i = 0; i < count; i++)
        words[i] = cadft__state_get64(found + 8 * i);
    return CADFT_OK;
}
