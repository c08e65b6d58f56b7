/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 of IEEE 802.3, as zlib has it. */
#ifndef CADFT_COMMON_CRC_H
#define CADFT_COMMON_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of what `crc` stands for (0: nothing) and then `bytes` more. */
uint32_t cadft__crc32(uint32_t crc, const void *data, size_t bytes);

#endif
