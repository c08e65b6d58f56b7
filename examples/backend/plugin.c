/* SPDX-License-Identifier: Apache-2.0 */
/* The one name that the shared object exports. */
#include "toy.h"

__attribute__((visibility("default"))) int32_t
cadft_backend_query_v0(const cadft_backend **out, cadft_error *error);

int32_t cadft_backend_query_v0(const cadft_backend **out, cadft_error *error)
{
    (void)error;
    *out = &toy_backend;
    return CADFT_OK;
}
