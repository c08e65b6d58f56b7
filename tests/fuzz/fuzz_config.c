/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a config.json from anywhere: what is accepted has sizes that a
 * list of parameters can be made of. */
#include "fuzz.h"
#include "model/parameters.h"

/* The sums that the plan takes, taken in double. */
static void check_sizes(const cadft__config *c)
{
    double q = (double)c->heads * (double)c->head_dim;
    double matrices = 4 * q + 3 * (double)c->intermediate;
    REQUIRE(c->vocab > 0 && c->hidden > 0 && c->layers > 0 && c->heads > 0);
    REQUIRE(c->kv_heads > 0 && c->head_dim > 0 && c->intermediate > 0);
    REQUIRE(c->positions > 0 && c->window >= 0);
    REQUIRE(c->heads % c->kv_heads == 0 && c->head_dim % 2 == 0);
    REQUIRE(q < 0x1p31);
    REQUIRE((double)c->layers * matrices * (double)c->hidden +
                2 * (double)c->vocab * (double)c->hidden <
            0x1p59);
    REQUIRE(c->norm_eps >= 0 && c->initializer_range >= 0);
    REQUIRE(c->rope_theta >= 1 && c->rope_factor > 0);
}

static void check_plan(cadft_context *context, const cadft__config *config)
{
    cadft_error err = {sizeof err, 0, {0}};
    cadft__parameters p;
    int64_t end = 0;
    if (checked(cadft__parameters_plan(context, config, &p, &err), &err)) {
        REQUIRE(err.code == CADFT_E_NOMEM);
        return;
    }
    for (int64_t i = 0; i < p.count; i++) {
        REQUIRE(p.list[i].count > 0 && p.list[i].offset >= end);
        end = p.list[i].offset + p.list[i].count;
    }
    REQUIRE(p.elements == end && p.numbers <= end);
    cadft__parameters_free(context, &p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heap heap = {0};
    cadft_context *context = fuzz_context(&heap);
    cadft_error err = {sizeof err, 0, {0}};
    cadft__config config;
    char *text = (char *)malloc(size + !size);
    if (size)
        memcpy(text, data, size);
    if (!checked(cadft__config_parse(text, size, "fuzz", &config, &err),
                 &err)) {
        check_sizes(&config);
        check_plan(context, &config);
        if (config.head_dim <= 512) {
            float table[3 * 512];
            cadft__rope_table(&config, 3, table);
            REQUIRE(table[0] == 1 && table[config.head_dim / 2] == 0);
        }
    } else {
        REQUIRE(err.code == CADFT_E_FORMAT || err.code == CADFT_E_UNSUPPORTED);
    }
    free(text);
    cadft_context_destroy(context);
    REQUIRE(heap.live == 0);
    return 0;
}
