/* SPDX-License-Identifier: Apache-2.0 */
#include "io/element.h"

#include <string.h>

#include "common/tensor.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#    error "files are little-endian, and so must be the machine"
#endif

static int is_short_float(int32_t dtype)
{
    return dtype == CADFT_DTYPE_F32 || dtype == CADFT_DTYPE_BF16 ||
           dtype == CADFT_DTYPE_F16;
}

int cadft__elements_can(int32_t from, int32_t to)
{
    if (from == to)
        return cadft__dtype_size(from) != 0;
    return is_short_float(from) &&
           (to == CADFT_DTYPE_F32 || to == CADFT_DTYPE_BF16);
}

/* The bits of a float32, from those of a float16. Subnormals are scaled by a
 * multiplication, which is exact. */
static uint32_t widen_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t bits = (uint32_t)(h & 0x7fffu) << 13;
    float value;
    if ((h & 0x7c00u) == 0x7c00u)
        return sign | bits | 0x7f800000u;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    return sign | bits;
}

static uint16_t narrow_bf16(uint32_t bits)
{
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* Loops of their own, so that each can be vectorised. */
static void widen(int32_t from, const char *source, char *target, size_t count)
{
    uint16_t h;
    uint32_t bits;
    if (from == CADFT_DTYPE_BF16)
        for (size_t i = 0; i < count; i++) {
            memcpy(&h, source + 2 * i, sizeof h);
            bits = (uint32_t)h << 16;
            memcpy(target + 4 * i, &bits, sizeof bits);
        }
    else
        for (size_t i = 0; i < count; i++) {
            memcpy(&h, source + 2 * i, sizeof h);
            bits = widen_f16(h);
            memcpy(target + 4 * i, &bits, sizeof bits);
        }
}

static void narrow(int32_t from, const char *source, char *target, size_t count)
{
    uint16_t h;
    uint32_t bits;
    if (from == CADFT_DTYPE_F32)
        for (size_t i = 0; i < count; i++) {
            memcpy(&bits, source + 4 * i, sizeof bits);
            h = narrow_bf16(bits);
            memcpy(target + 2 * i, &h, sizeof h);
        }
    else
        for (size_t i = 0; i < count; i++) {
            memcpy(&h, source + 2 * i, sizeof h);
            h = narrow_bf16(widen_f16(h));
            memcpy(target + 2 * i, &h, sizeof h);
        }
}

void cadft__elements_convert(
    int32_t from, const void *source, int32_t to, void *target, size_t count)
{
    if (from == to)
        memcpy(target, source, count * cadft__dtype_size(from));
    else if (to == CADFT_DTYPE_F32)
        widen(from, (const char *)source, (char *)target, count);
    else
        narrow(from, (const char *)source, (char *)target, count);
}
