/* SPDX-License-Identifier: Apache-2.0 */
/* What a config.json says, as far as the arithmetic needs it. */
#ifndef CADFT_MODEL_CONFIG_H
#define CADFT_MODEL_CONFIG_H

#include "cadft/base.h"

enum { CADFT__ROPE_PLAIN = 0, CADFT__ROPE_LINEAR = 1, CADFT__ROPE_LLAMA3 = 2 };

/* Bytes of a config.json; real ones have a few thousand. A quantized
 * model's, which is refused by its key, has some hundred thousand. */
enum { CADFT__CONFIG_MOST = 1 << 20 };

typedef struct cadft__config {
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, intermediate;
    int64_t positions; /* max_position_embeddings */
    int64_t window;    /* keys that a query sees, itself one; 0: all */
    double norm_eps, initializer_range;
    int32_t tied;               /* lm_head is embed_tokens */
    int32_t qkv_bias, out_bias; /* of q, k, v; of o_proj */
    int32_t mlp_bias;
    int32_t qk_norm; /* RMSNorm on each head of q and k */
    int32_t rope_kind;
    double rope_theta, rope_factor;
    double rope_low, rope_high, rope_original; /* llama3 */
    int32_t stored_dtype; /* "dtype" or "torch_dtype", 0 if absent */
} cadft__config;

/* Read a config.json of `length` bytes; `name` of the file for messages.
 * CADFT_E_FORMAT for what is malformed, CADFT_E_UNSUPPORTED for what is not
 * here, naming the key. Keys that do not change what a decoder computes are
 * not looked at.
 *
 * Then every size is positive and at most 2^31 - 1, every matrix has at most
 * 2^40 elements, and all together fewer than 2^59. */
int32_t cadft__config_parse(const char *text,
                            size_t length,
                            const char *name,
                            cadft__config *out,
                            cadft_error *error);

/* cos and sin of the rotary embedding: float32 [positions, head_dim], the
 * cosines of a position first, head_dim / 2 of them. Positions count from 0.
 *
 * The arithmetic is transformers', operation for operation in float32; where
 * its result hangs on the math library (the power, the cosine and the sine)
 * the value here is the nearest float32. torch's own are within an ulp of
 * that, so an angle may differ by position * inverse frequency * 2^-23. */
void cadft__rope_table(const cadft__config *config,
                       int64_t positions,
                       float *table);

#endif
