/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file optimizer.hpp
 * The optimizer of optimizer.h.
 */
#ifndef CADFT_CPP_OPTIMIZER_HPP
#define CADFT_CPP_OPTIMIZER_HPP

#include "cadft/cpp/model.hpp"
#include "cadft/optimizer.h"

namespace cadft
{
inline namespace CADFT_CPP_FORM
{

namespace border
{
struct optimizer_api {
    using type = cadft_optimizer;
    static constexpr auto destroy = cadft_optimizer_destroy;
    static constexpr auto set_i64 = cadft_optimizer_set_i64;
    static constexpr auto set_f64 = cadft_optimizer_set_f64;
    static constexpr auto set_str = cadft_optimizer_set_str;
    static constexpr auto get_i64 = cadft_optimizer_get_i64;
    static constexpr auto get_f64 = cadft_optimizer_get_f64;
    static constexpr auto get_str = cadft_optimizer_get_str;
    static constexpr auto bounds = cadft_optimizer_bounds;
    static constexpr auto key = cadft_optimizer_key;
    static constexpr auto key_at = cadft_optimizer_key_at;
};
} // namespace border

/** An optimizer. */
class optimizer : public border::with_knobs<border::optimizer_api>
{
  public:
    using with_knobs::with_knobs;

    /** As cadft_optimizer_create. */
    static outcome<optimizer> create(const context &ctx)
    {
        return border::make<optimizer>(cadft_optimizer_create, ctx.get());
    }
#if CADFT_CPP_THROWS
    explicit optimizer(const context &ctx) : optimizer(create(ctx))
    {
    }
#endif

    /** A parameter of the host's, whose arrays outlive this: as
     *  cadft_optimizer_add. */
    outcome<void>
    add(const std::string &name, const tensor &value, const const_tensor &grad)
    {
        return border::run(cadft_optimizer_add, get(), name.c_str(),
                           value.get(), grad.get());
    }
    /** How many, as cadft_optimizer_add_model. */
    outcome<std::int64_t> add_model(const model &of)
    {
        return border::ask<std::int64_t>(cadft_optimizer_add_model, get(),
                                         of.get());
    }
    /** How many match, as cadft_optimizer_group. */
    outcome<std::int64_t>
    group(const std::string &pattern, double lr_scale, double decay_scale)
    {
        return border::ask<std::int64_t>(cadft_optimizer_group, get(),
                                         pattern.c_str(), lr_scale,
                                         decay_scale);
    }
    /** Sum of squares, as cadft_optimizer_norm. */
    outcome<double> norm()
    {
        return border::ask<double>(cadft_optimizer_norm, get());
    }
    /** As cadft_optimizer_step, by the norm of the gradients at hand. */
    outcome<cadft_optimizer_report> step()
    {
        return border::ask<cadft_optimizer_report>(cadft_optimizer_step, get(),
                                                   nullptr);
    }
    /** The same by the square of the norm over all processes. */
    outcome<cadft_optimizer_report> step(double sum_squares)
    {
        return border::ask<cadft_optimizer_report>(cadft_optimizer_step, get(),
                                                   &sum_squares);
    }
    /** As cadft_optimizer_lr. */
    outcome<double> lr(std::int64_t step) const
    {
        return border::ask<double>(cadft_optimizer_lr, get(), step);
    }
    /** As cadft_optimizer_save. */
    outcome<void> save(const std::string &folder)
    {
        return border::run(cadft_optimizer_save, get(), folder.c_str());
    }
    /** As cadft_optimizer_load. */
    outcome<void> load(const std::string &folder)
    {
        return border::run(cadft_optimizer_load, get(), folder.c_str());
    }
};

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
