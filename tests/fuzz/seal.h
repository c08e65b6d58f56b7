/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the checksums of a saved state's sections right. */
#ifndef TESTS_SEAL_H
#define TESTS_SEAL_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t crc32(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static inline void seal(uint8_t *state, size_t size)
{
    size_t at = 8;
    while (at + 12 <= size) {
        uint32_t length = 0, crc;
        for (size_t i = 0; i < 4; i++)
            length |= (uint32_t)state[at + 4 + i] << (8 * i);
        if (length > size - at - 12)
            return;
        crc = crc32(state + at, 8 + length);
        for (size_t i = 0; i < 4; i++)
            state[at + 8 + length + i] = (uint8_t)(crc >> (8 * i));
        at += 12 + length;
    }
}

#endif
