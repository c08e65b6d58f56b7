/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file rewrite.hpp
 * The rewriting of rewrite.h.
 */
#ifndef CADFT_CPP_REWRITE_HPP
#define CADFT_CPP_REWRITE_HPP

#include "cadft/cpp/context.hpp"
#include "cadft/rewrite.h"

namespace cadft
{

/** An answer to a pick, as cadft_rewrite_result. A host that keeps the tokens
 *  gives a span of nullptr and their number. */
struct rewrite_result {
    span<const std::int32_t> tokens;
    bool ended = false;
    double c_new = 0, c_old = 0;
};

inline namespace CADFT_CPP_FORM
{

namespace border
{
struct rewrite_api {
    using type = cadft_rewrite;
    static constexpr auto destroy = cadft_rewrite_destroy;
    static constexpr auto set_i64 = cadft_rewrite_set_i64;
    static constexpr auto set_f64 = cadft_rewrite_set_f64;
    static constexpr auto set_str = cadft_rewrite_set_str;
    static constexpr auto get_i64 = cadft_rewrite_get_i64;
    static constexpr auto get_f64 = cadft_rewrite_get_f64;
    static constexpr auto get_str = cadft_rewrite_get_str;
    static constexpr auto bounds = cadft_rewrite_bounds;
    static constexpr auto key = cadft_rewrite_key;
    static constexpr auto key_at = cadft_rewrite_key_at;
};
} // namespace border

/** Rewriting of one data set. */
class rewrite : public border::with_knobs<border::rewrite_api>
{
  public:
    using with_knobs::with_knobs;

    /** As cadft_rewrite_create. */
    static outcome<rewrite> create(const context &ctx, std::int64_t n_samples)
    {
        return border::make<rewrite>(cadft_rewrite_create, ctx.get(),
                                     n_samples);
    }
#if CADFT_CPP_THROWS
    rewrite(const context &ctx, std::int64_t n_samples)
        : rewrite(create(ctx, n_samples))
    {
    }
#endif

    /** What a step has shown, as cadft_rewrite_observe. `c` or `chat` may be
     *  none, else they are as long as `ids`. */
    outcome<void>
    observe(input<std::int64_t> ids, input<double> c, input<double> chat)
    {
        return border::run([&](cadft_error *e) {
            if ((c.data() && c.size() != ids.size()) ||
                (chat.data() && chat.size() != ids.size()))
                return border::refuse(e, CADFT_E_SHAPE,
                                      "ids, c and chat differ in length");
            return cadft_rewrite_observe(
                get(), ids.data(), c.data(), chat.data(),
                static_cast<std::int64_t>(ids.size()), e);
        });
    }
    /** As cadft_rewrite_sample. */
    outcome<cadft_rewrite_info> sample(std::int64_t id) const
    {
        return border::ask<cadft_rewrite_info>(cadft_rewrite_sample, get(), id);
    }
    /** As cadft_rewrite_due. A result is true when the call succeeded: ask
     *  *due. */
    outcome<bool> due(std::int64_t step) const
    {
        return border::give<bool>([&](bool &out, cadft_error *e) {
            std::int32_t is = 0;
            const std::int32_t status = cadft_rewrite_due(get(), step, &is, e);
            out = is != 0;
            return status;
        });
    }
    /** The picks of a step, as cadft_rewrite_select. */
    outcome<std::vector<std::int64_t>> select(std::int64_t step)
    {
        return border::list<std::int64_t>(cadft_rewrite_select, get(), step);
    }
    /** The picks that are open, as cadft_rewrite_open. */
    outcome<std::vector<std::int64_t>> open() const
    {
        return border::list<std::int64_t>(cadft_rewrite_open, get());
    }
    /** As cadft_rewrite_cancel. */
    void cancel() noexcept
    {
        cadft_rewrite_cancel(get());
    }
    /** CADFT_REJECTED_..., as cadft_rewrite_commit. */
    outcome<std::int32_t> commit(std::int64_t id, const rewrite_result &result)
    {
        cadft_rewrite_result c = {};
        c.struct_size = sizeof c;
        c.ended = result.ended;
        c.tokens = result.tokens.data();
        c.n_tokens = static_cast<std::int64_t>(result.tokens.size());
        c.c_new = result.c_new;
        c.c_old = result.c_old;
        return border::ask<std::int32_t>(cadft_rewrite_commit, get(), id, &c);
    }
    /** As cadft_rewrite_reject. */
    outcome<void> reject(std::int64_t id)
    {
        return border::run(cadft_rewrite_reject, get(), id);
    }
    /** The replacement that holds, in the handle's memory; none: nullptr. As
     *  cadft_rewrite_target. */
    outcome<span<const std::int32_t>> target(std::int64_t id) const
    {
        using tokens = span<const std::int32_t>;
        return border::give<tokens>([&](tokens &out, cadft_error *e) {
            const std::int32_t *data = nullptr;
            std::int64_t n = 0;
            const std::int32_t status =
                cadft_rewrite_target(get(), id, &data, &n, e);
            out = tokens(data, static_cast<std::size_t>(n));
            return status;
        });
    }
    /** As cadft_rewrite_restore. */
    outcome<void> restore(std::int64_t id)
    {
        return border::run(cadft_rewrite_restore, get(), id);
    }
    /** As cadft_rewrite_state_save. */
    outcome<std::vector<std::byte>> state_save() const
    {
        return border::list<std::byte>(cadft_rewrite_state_save, get());
    }
    /** As cadft_rewrite_state_load. */
    outcome<void> state_load(input<std::byte> state)
    {
        return border::run(cadft_rewrite_state_load, get(), state.data(),
                           state.size());
    }
};

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
