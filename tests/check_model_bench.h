/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CADFT_TESTS_CHECK_MODEL_BENCH_H
#define CADFT_TESTS_CHECK_MODEL_BENCH_H

#include <stdint.h>

#include "cadft/base.h"

/* Times the slots of check_pointwise beside memcpy, both over arrays that are
 * out of the caches; rows 0: a list of shapes. */
void check_model_bench(cadft_context *context, int64_t rows, int64_t cols);

/* The same of an optimizer's, n elements; 0: more than a cache holds. */
void check_update_bench(cadft_context *context, int64_t n);

#endif
