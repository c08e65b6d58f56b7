/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state: little-endian; magic "CADFTST", version byte, then sections of
 * tag (u32), length (u32), payload, CRC-32 of tag, length and payload. A
 * reader finds sections by tag and leaves unknown ones alone. */
#ifndef CADFT_COMMON_STATE_H
#define CADFT_COMMON_STATE_H

#include "cadft/base.h"

enum { CADFT__STATE_VERSION = 1, CADFT__STATE_HEADER = 8 };

/* A section of `count` 64-bit words and its size on disk. */
size_t cadft__state_section_size(size_t count);

/* Write the header; returns the position after it. */
unsigned char *cadft__state_header(unsigned char *at);

/* Write a section of 64-bit words; returns the position after it. */
unsigned char *cadft__state_section(unsigned char *at,
                                    uint32_t tag,
                                    const uint64_t *words,
                                    size_t count);

/* Check the whole buffer and read the section `tag`, which must have `count`
 * words. CADFT_E_STATE says what is wrong. */
int32_t cadft__state_find(const void *buffer,
                          size_t size,
                          uint32_t tag,
                          uint64_t *words,
                          size_t count,
                          cadft_error *error);

#endif
