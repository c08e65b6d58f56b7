/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state: little-endian; magic "CADFTST", version byte, then sections of
 * tag (u32), length (u32), payload, CRC-32 of tag, length and payload. A
 * reader finds sections by tag and leaves unknown ones alone. */
#ifndef CADFT_COMMON_STATE_H
#define CADFT_COMMON_STATE_H

#include "cadft/base.h"

enum { CADFT__STATE_VERSION = 1, CADFT__STATE_HEADER = 8 };

/* Little-endian numbers of 4 and 8 bytes. Written out, so that a compiler
 * sees one load or store; put returns the position after. */
static inline uint32_t cadft__state_get32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

static inline uint64_t cadft__state_get64(const unsigned char *at)
{
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 |
           (uint64_t)at[3] << 24 | (uint64_t)at[4] << 32 |
           (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 |
           (uint64_t)at[7] << 56;
}

static inline unsigned char *cadft__state_put32(unsigned char *at, uint32_t x)
{
    at[0] = (unsigned char)x;
    at[1] = (unsigned char)(x >> 8);
    at[2] = (unsigned char)(x >> 16);
    at[3] = (unsigned char)(x >> 24);
    return at + 4;
}

static inline unsigned char *cadft__state_put64(unsigned char *at, uint64_t x)
{
    at[0] = (unsigned char)x;
    at[1] = (unsigned char)(x >> 8);
    at[2] = (unsigned char)(x >> 16);
    at[3] = (unsigned char)(x >> 24);
    at[4] = (unsigned char)(x >> 32);
    at[5] = (unsigned char)(x >> 40);
    at[6] = (unsigned char)(x >> 48);
    at[7] = (unsigned char)(x >> 56);
    return at + 8;
}

/* A section of `bytes` of payload, its size on disk. */
size_t cadft__state_size(size_t bytes);

/* Write the header; returns the position after it. */
unsigned char *cadft__state_header(unsigned char *at);

/* Write a section: start returns where its payload goes, finish takes that
 * and returns the position after the section. A payload has less than 2^32
 * bytes; what is longer is cut into several sections of one tag. */
unsigned char *
cadft__state_start(unsigned char *at, uint32_t tag, size_t bytes);
unsigned char *cadft__state_finish(unsigned char *payload, size_t bytes);

/* The same for a payload of 64-bit words. */
size_t cadft__state_section_size(size_t count);
unsigned char *cadft__state_section(unsigned char *at,
                                    uint32_t tag,
                                    const uint64_t *words,
                                    size_t count);

/* Check the whole buffer: mark, version, every section's checksum.
 * CADFT_E_STATE says what is wrong. */
int32_t cadft__state_check(const void *buffer, size_t size, cadft_error *error);

/* Walk through a checked buffer: the payload of the next section `tag` and
 * its bytes, or NULL behind the last. *at starts with 0. */
const unsigned char *cadft__state_next(
    const void *buffer, size_t size, uint32_t tag, size_t *at, size_t *bytes);

/* Check the whole buffer and read the last section `tag`, which must have
 * `count` words. CADFT_E_STATE says what is wrong. */
int32_t cadft__state_find(const void *buffer,
                          size_t size,
                          uint32_t tag,
                          uint64_t *words,
                          size_t count,
                          cadft_error *error);

#endif
