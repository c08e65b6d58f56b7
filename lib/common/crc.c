/* SPDX-License-Identifier: Apache-2.0 */
#include "common/crc.h"

/* table[k][b]: the CRC of byte b and k zero bytes after it. Made anew in each
 * call, on the stack: the library has no globals that change, and 2048
 * numbers are no source. */
typedef uint32_t crc_table[8][256];

/* From where on a table pays. */
enum { LONG = 4096 };

/* A bit at a time. */
static uint32_t one_byte(uint32_t crc, unsigned char byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    return crc;
}

static void make(crc_table table)
{
    for (uint32_t b = 0; b < 256; b++)
        table[0][b] = one_byte(0, (unsigned char)b);
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t crc = table[k - 1][b];
            table[k][b] = (crc >> 8) ^ table[0][crc & 0xff];
        }
}

/* Eight bytes at a time, as many as there are. */
static uint32_t
many_bytes(uint32_t crc, const unsigned char *at, const unsigned char *end)
{
    crc_table t;
    make(t);
    for (; at < end; at += 8) {
        crc ^= (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
               (uint32_t)at[3] << 24;
        crc = t[7][crc & 0xff] ^ t[6][(crc >> 8) & 0xff] ^
              t[5][(crc >> 16) & 0xff] ^ t[4][crc >> 24] ^ t[3][at[4]] ^
              t[2][at[5]] ^ t[1][at[6]] ^ t[0][at[7]];
    }
    return crc;
}

uint32_t cadft__crc32(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)data;
    size_t many = bytes < LONG ? 0 : bytes / 8 * 8;
    crc = ~crc;
    if (many)
        crc = many_bytes(crc, at, at + many);
    for (size_t i = many; i < bytes; i++)
        crc = one_byte(crc, at[i]);
    return ~crc;
}
