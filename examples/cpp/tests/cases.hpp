/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests with exceptions share. */
#ifndef CASES_HPP
#define CASES_HPP

#include <cadft/cadft.hpp>

#include <cstring>

#include "check.hpp"

// The status of what f throws; 0 if it throws nothing.
template <class F> inline std::int32_t status_of(F f, const char *sentence = "")
{
    try {
        f();
    } catch (const cadft::error &e) {
        if (!std::strstr(e.what(), sentence))
            std::fprintf(stderr, "says: %s\n", e.what());
        CHECK(std::strstr(e.what(), sentence));
        CHECK(*e.what());
        return e.status();
    }
    return CADFT_OK;
}

constexpr char config[] = R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "vocab_size": 11, "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": true})";

// A batch of four rows and two samples.
struct batch {
    float z[4][3] = {{2, 0, 0}, {0, 3, 0}, {3, 0, 0}, {0, 1, 0}};
    std::int32_t y[4] = {0, 1, 2, 2}, s[4] = {0, 0, 1, 1};
    float grad[4][3] = {};

    cadft::loss_batch c() const
    {
        return {z, y, s};
    }
};

#endif
