/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "model/config.h"

#define TWO_PI 6.283185307179586

/* Of transformers' _compute_llama3_parameters: frequencies whose waves are
 * longer than the original context are divided by the factor, short ones stay,
 * and between them the two are blended. torch divides a number by a tensor as
 * reciprocal times number. */
static float llama3(const cadft__config *config, float frequency)
{
    float factor = (float)config->rope_factor;
    float wave = 1.0f / frequency * (float)TWO_PI;
    float blend;
    if (wave > (float)(config->rope_original / config->rope_low))
        return frequency / factor;
    if (wave < (float)(config->rope_original / config->rope_high))
        return frequency;
    blend = 1.0f / wave * (float)config->rope_original;
    blend -= (float)config->rope_low;
    blend /= (float)(config->rope_high - config->rope_low);
    return (1.0f - blend) * frequency / factor + blend * frequency;
}

/* Angle per position of the pair (i, i + head_dim / 2). */
static float inverse_frequency(const cadft__config *config, int64_t i)
{
    float exponent = (float)(2 * i) / (float)config->head_dim;
    float power = (float)pow((float)config->rope_theta, exponent);
    float frequency = 1.0f / power;
    if (config->rope_kind == CADFT__ROPE_LINEAR)
        return frequency / (float)config->rope_factor;
    if (config->rope_kind == CADFT__ROPE_LLAMA3)
        return llama3(config, frequency);
    return frequency;
}

void cadft__rope_table(const cadft__config *config,
                       int64_t positions,
                       float *table)
{
    int64_t half = config->head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        float frequency = inverse_frequency(config, i);
        for (int64_t p = 0; p < positions; p++) {
            float *row = table + p * config->head_dim;
            double angle = (float)p * frequency;
            row[i] = (float)cos(angle);
            row[half + i] = (float)sin(angle);
        }
    }
}
