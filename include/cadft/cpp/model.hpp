/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file model.hpp
 * The transformer of model.h.
 */
#ifndef CADFT_CPP_MODEL_HPP
#define CADFT_CPP_MODEL_HPP

#include "cadft/cpp/context.hpp"
#include "cadft/model.h"

namespace cadft
{

/** Sequences, as cadft_model_batch. */
struct model_batch {
    const_tensor tokens;
    const_tensor cu_seqlens = {}, lengths = {}, logit_rows = {};
    bool no_grad = false;
    void *stream = nullptr;

    /** For calls of C; as long as this lives. */
    cadft_model_batch c() const noexcept
    {
        cadft_model_batch out = {};
        out.struct_size = sizeof out;
        out.no_grad = no_grad;
        out.tokens = tokens.get();
        out.cu_seqlens = cu_seqlens.get();
        out.lengths = lengths.get();
        out.logit_rows = logit_rows.get();
        out.stream = stream;
        return out;
    }
};

/** The largest batch that is coming, as cadft_model_limits. */
struct model_limits {
    std::int64_t rows;
    std::int64_t logit_rows = 0, sequences = 0;
    bool no_grad = false;

    cadft_model_limits c() const noexcept
    {
        cadft_model_limits out = {};
        out.struct_size = sizeof out;
        out.no_grad = no_grad;
        out.rows = rows;
        out.logit_rows = logit_rows;
        out.sequences = sequences;
        return out;
    }
};

/** What to generate, as cadft_generate_desc. */
struct generate_desc {
    const_tensor tokens;
    const_tensor cu_seqlens = {}, lengths = {};
    std::int64_t max_new_tokens = 1;
    double temperature = 0, top_p = 0;
    span<const std::int32_t> stop_tokens = {};
    std::uint64_t seed = 0;
    span<const std::int64_t> keys = {}; /**< one a prompt, or none */
    std::int64_t step = 0;

    cadft_generate_desc c() const noexcept
    {
        cadft_generate_desc out = {};
        out.struct_size = sizeof out;
        out.tokens = tokens.get();
        out.cu_seqlens = cu_seqlens.get();
        out.lengths = lengths.get();
        out.max_new_tokens = max_new_tokens;
        out.temperature = temperature;
        out.top_p = top_p;
        out.stop_tokens = stop_tokens.data();
        out.n_stop_tokens = static_cast<std::int64_t>(stop_tokens.size());
        out.seed = seed;
        out.keys = keys.data();
        out.step = step;
        out.n_prompts = prompts();
        return out;
    }
    /** How many prompts that makes. */
    std::int64_t prompts() const noexcept
    {
        if (tokens.ndim() > 1)
            return tokens.size(0);
        return cu_seqlens ? cu_seqlens.size(0) - 1 : 1;
    }
};

/** A parameter, as cadft_model_parameter. Name and memory are the model's; one
 *  that is frozen, or before the first zero_grad, has no grad. */
struct parameter {
    const char *name;
    tensor value, grad;
    bool trainable;
};

inline namespace CADFT_CPP_FORM
{

namespace border
{
struct model_api {
    using type = cadft_model;
    static constexpr auto destroy = cadft_model_destroy;
    static constexpr auto set_i64 = cadft_model_set_i64;
    static constexpr auto set_f64 = cadft_model_set_f64;
    static constexpr auto set_str = cadft_model_set_str;
    static constexpr auto get_i64 = cadft_model_get_i64;
    static constexpr auto get_f64 = cadft_model_get_f64;
    static constexpr auto get_str = cadft_model_get_str;
    static constexpr auto bounds = cadft_model_bounds;
    static constexpr auto key = cadft_model_key;
    static constexpr auto key_at = cadft_model_key_at;
};

struct no_callback {
};

template <class F>
std::int32_t drawn(void *user,
                   std::int64_t prompt,
                   std::int64_t position,
                   std::int32_t token,
                   double logprob)
{
    return guarded([&] {
        return status_of(*static_cast<F *>(user), prompt, position, token,
                         logprob);
    });
}
} // namespace border

/** A model. */
class model : public border::with_knobs<border::model_api>
{
  public:
    using with_knobs::with_knobs;

    /** Without weights, as cadft_model_create. */
    static outcome<model> create(const context &ctx)
    {
        return border::make<model>(cadft_model_create, ctx.get());
    }
#if CADFT_CPP_THROWS
    explicit model(const context &ctx) : model(create(ctx))
    {
    }
#endif

    /** As cadft_model_load. */
    outcome<void> load(const std::string &folder)
    {
        return border::run(cadft_model_load, get(), folder.c_str());
    }
    /** Random weights by the text of a config.json, as cadft_model_init. */
    outcome<void> init(std::string_view config, std::uint64_t seed)
    {
        return border::run(cadft_model_init, get(), config.data(),
                           config.size(), seed);
    }
    /** As cadft_model_save. */
    outcome<void> save(const std::string &folder)
    {
        return border::run(cadft_model_save, get(), folder.c_str());
    }

    /** Parameter 0 to CADFT_MODEL_PARAMETERS - 1, as cadft_model_parameter. */
    outcome<cadft::parameter> parameter(std::int64_t index) const
    {
        return border::give<cadft::parameter>(
            [&](cadft::parameter &out, cadft_error *e) {
                cadft_tensor value = {}, grad = {};
                std::int32_t trainable = 0;
                value.struct_size = grad.struct_size = sizeof value;
                const std::int32_t status = cadft_model_parameter(
                    get(), index, &out.name, &value, &grad, &trainable, e);
                if (status == CADFT_OK) {
                    out.value = tensor(value);
                    if (grad.data)
                        out.grad = tensor(grad);
                    out.trainable = trainable != 0;
                }
                return status;
            });
    }
    /** Index of a parameter, as cadft_model_find. */
    outcome<std::int64_t> find(const std::string &name) const
    {
        return border::ask<std::int64_t>(cadft_model_find, get(), name.c_str());
    }
    /** How many match, as cadft_model_freeze. */
    outcome<std::int64_t> freeze(const std::string &pattern)
    {
        return trainable(pattern, 0);
    }
    outcome<std::int64_t> thaw(const std::string &pattern)
    {
        return trainable(pattern, 1);
    }

    /** Bytes, as cadft_model_plan. */
    outcome<std::int64_t> plan(const model_limits &limits)
    {
        const cadft_model_limits c = limits.c();
        return border::ask<std::int64_t>(cadft_model_plan, get(), &c);
    }
    /** As cadft_model_reserve. */
    outcome<void> reserve(const model_limits &limits)
    {
        const cadft_model_limits c = limits.c();
        return border::run(cadft_model_reserve, get(), &c);
    }
    /** The logits, a view of the model's memory: as cadft_model_forward. */
    outcome<tensor> forward(const model_batch &batch)
    {
        return border::give<tensor>([&](tensor &logits, cadft_error *e) {
            const cadft_model_batch c = batch.c();
            cadft_tensor view = {};
            view.struct_size = sizeof view;
            const std::int32_t status =
                cadft_model_forward(get(), &c, &view, e);
            if (status == CADFT_OK)
                logits = tensor(view);
            return status;
        });
    }
    /** As cadft_model_backward. */
    outcome<void> backward(const const_tensor &grad_logits)
    {
        return border::run(cadft_model_backward, get(), grad_logits.get());
    }
    /** As cadft_model_zero_grad. */
    outcome<void> zero_grad()
    {
        return border::run(cadft_model_zero_grad, get());
    }

    /** Continue prompts, as cadft_model_generate.
     *  @param tokens    at least [prompts, max_new_tokens], written
     *  @param lengths   at least [prompts], written
     *  @param on_token  f(prompt, position, token, logprob): returns nothing,
     *                   or what cadft_token_fn does */
    template <class F = border::no_callback>
    outcome<void> generate(const generate_desc &desc,
                           span<std::int32_t> tokens,
                           span<std::int64_t> lengths,
                           F &&on_token = {})
    {
        return border::run([&](cadft_error *e) {
            return draw(desc, tokens, lengths, on_token, e);
        });
    }
    /** The same; returns the new tokens of each prompt. */
    template <class F = border::no_callback>
    outcome<std::vector<std::vector<std::int32_t>>>
    generate(const generate_desc &desc, F &&on_token = {})
    {
        using answers = std::vector<std::vector<std::int32_t>>;
        return border::give<answers>([&](answers &out, cadft_error *e) {
            std::int64_t width = 0;
            std::int32_t status =
                cadft_model_get_i64(get(), CADFT_MODEL_POSITIONS, &width, e);
            if (status != CADFT_OK)
                return status;
            if (desc.max_new_tokens > width)
                return border::refuse(e, CADFT_E_ARG,
                                      "max_new_tokens is more than the "
                                      "positions of the model");
            width = desc.max_new_tokens > 0 ? desc.max_new_tokens : 0;
            std::int64_t n = desc.prompts();
            if (n < 0 || n > INT32_MAX)
                n = 0; /* refused below */
            std::vector<std::int32_t> tokens(
                static_cast<std::size_t>(n * width));
            std::vector<std::int64_t> lengths(static_cast<std::size_t>(n));
            status = draw(desc, tokens, lengths, on_token, e);
            for (std::size_t i = 0; status == CADFT_OK && i < lengths.size();
                 i++) {
                const auto first =
                    tokens.begin() + static_cast<std::int64_t>(i) * width;
                out.emplace_back(first, first + lengths[i]);
            }
            return status;
        });
    }

  private:
    outcome<std::int64_t> trainable(const std::string &pattern, std::int32_t on)
    {
        return border::ask<std::int64_t>(cadft_model_freeze, get(),
                                         pattern.c_str(), on);
    }
    template <class F>
    std::int32_t draw(const generate_desc &desc,
                      span<std::int32_t> tokens,
                      span<std::int64_t> lengths,
                      F &on_token,
                      cadft_error *e)
    {
        cadft_generate_desc c = desc.c();
        const std::int64_t n = desc.prompts();
        const std::int64_t shape[2] = {n, desc.max_new_tokens};
        if (!detail::holds(tokens.size(), shape))
            return border::refuse(e, CADFT_E_SPACE,
                                  "tokens is shorter than prompts * "
                                  "max_new_tokens");
        if (!detail::holds(lengths.size(), {&n, 1}))
            return border::refuse(e, CADFT_E_SPACE,
                                  "lengths is shorter than prompts");
        if (!desc.keys.empty() && !detail::holds(desc.keys.size(), {&n, 1}))
            return border::refuse(e, CADFT_E_SPACE,
                                  "keys is shorter than prompts");
        if constexpr (!std::is_same_v<std::decay_t<F>, border::no_callback>) {
            c.on_token = border::drawn<F>;
            c.user = const_cast<std::remove_const_t<F> *>(&on_token);
        }
        return cadft_model_generate(get(), &c, tokens.data(), lengths.data(),
                                    e);
    }
};

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
