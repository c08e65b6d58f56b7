/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state: little-endian; magic "CADFTST", version byte, then sections of
 * tag (u32), length (u32), payload, CRC-32 of tag, length and payload. A
 * reader finds sections by tag and leaves unknown ones alone. */
#ifndef CADFT_COMMON_STATE_H
#define CADFT_COMMON_STATE_H

#include "cadft/base.h"

enum { CADFT__STATE_VERSION = 1, CADFT__STATE_HEADER = 8 };

/* Little-endian numbers of 1 to 8 bytes; put returns the position after. */
unsigned char *
cadft__state_put(unsigned char *at, uint64_t value, size_t bytes);
uint64_t cadft__state_get(const unsigned char *at, size_t bytes);

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
