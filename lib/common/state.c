/* SPDX-License-Identifier: Apache-2.0 */
#include "common/state.h"

#include <string.h>

#include "common/error.h"

static const unsigned char magic[7] = {'C', 'A', 'D', 'F', 'T', 'S', 'T'};

static unsigned char *put(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
    return at + bytes;
}

static uint64_t get(const unsigned char *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* CRC-32 of IEEE 802.3, a bit at a time: states are a few dozen bytes. */
static uint32_t crc32(const unsigned char *data, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

size_t cadft__state_section_size(size_t count)
{
    return 8 + 8 * count + 4;
}

unsigned char *cadft__state_header(unsigned char *at)
{
    memcpy(at, magic, sizeof magic);
    at[7] = CADFT__STATE_VERSION;
    return at + CADFT__STATE_HEADER;
}

unsigned char *cadft__state_section(unsigned char *at,
                                    uint32_t tag,
                                    const uint64_t *words,
                                    size_t count)
{
    unsigned char *start = at;
    at = put(at, tag, 4);
    at = put(at, 8 * count, 4);
    for (size_t i = 0; i < count; i++)
        at = put(at, words[i], 8);
    return put(at, crc32(start, (size_t)(at - start)), 4);
}

/* Length of the section at `at`, or 0 when it is damaged. */
static size_t check_section(const unsigned char *at, size_t left)
{
    uint64_t length;
    if (left < 12)
        return 0;
    length = get(at + 4, 4);
    if (length > left - 12)
        return 0;
    if (crc32(at, 8 + (size_t)length) != get(at + 8 + length, 4))
        return 0;
    return 12 + (size_t)length;
}

int32_t cadft__state_find(const void *buffer,
                          size_t size,
                          uint32_t tag,
                          uint64_t *words,
                          size_t count,
                          cadft_error *error)
{
    const unsigned char *bytes = (const unsigned char *)buffer, *found = NULL;
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
        if (get(bytes + at, 4) == tag)
            found = bytes + at;
        at += length;
    }
    if (!found || get(found + 4, 4) != 8 * count)
        return cadft__fail(error, CADFT_E_STATE,
                           "saved state has no section %08x of %zu bytes", tag,
                           8 * count);
    for (size_t i = 0; i < count; i++)
        words[i] = get(found + 8 + 8 * i, 8);
    return CADFT_OK;
}
