/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file checkpoint.hpp
 * The checkpoints of checkpoint.h.
 */
#ifndef CADFT_CPP_CHECKPOINT_HPP
#define CADFT_CPP_CHECKPOINT_HPP

#include "cadft/checkpoint.h"
#include "cadft/cpp/loss.hpp"
#include "cadft/cpp/optimizer.hpp"
#include "cadft/cpp/rewrite.hpp"

namespace cadft
{
inline namespace CADFT_CPP_FORM
{

/** A checkpoint and its parts, as cadft_checkpoint; any of them may be left
 *  out. */
struct checkpoint {
    std::string folder;
    std::int64_t step = 0;
    std::int32_t keep = 0;
    cadft::model *model = nullptr;
    cadft::optimizer *optimizer = nullptr;
    cadft::loss *loss = nullptr;
    cadft::rewrite *rewrite = nullptr;
    span<const std::byte> host = {};

    /** As cadft_checkpoint_save. */
    outcome<void> save(const context &ctx) const
    {
        const cadft_checkpoint point = c();
        return border::run(cadft_checkpoint_save, ctx.get(), &point);
    }
    /** Load the parts that are given; returns the host's bytes. As
     *  cadft_checkpoint_load. */
    outcome<std::vector<std::byte>> load(const context &ctx) const
    {
        using bytes = std::vector<std::byte>;
        return border::give<bytes>([&](bytes &out, cadft_error *e) {
            const cadft_checkpoint point = c();
            cadft_checkpoint none = point;
            std::size_t n = 0;
            none.model = nullptr;
            none.optimizer = nullptr;
            none.loss = nullptr;
            none.rewrite = nullptr;
            std::int32_t status =
                cadft_checkpoint_load(ctx.get(), &none, nullptr, 0, &n, e);
            if (status != CADFT_OK)
                return status;
            out.resize(n);
            status =
                cadft_checkpoint_load(ctx.get(), &point, out.data(), n, &n, e);
            if (status != CADFT_OK)
                out.clear();
            return status;
        });
    }
    /** Step of the newest, -1 if there is none, as cadft_checkpoint_find. */
    static outcome<std::int64_t> find(const context &ctx,
                                      const std::string &folder,
                                      std::int64_t before = -1)
    {
        return border::ask<std::int64_t>(cadft_checkpoint_find, ctx.get(),
                                         folder.c_str(), before);
    }
    /** As cadft_checkpoint_path. */
    static outcome<std::string> path(const std::string &folder,
                                     std::int64_t step)
    {
        return border::text(cadft_checkpoint_path, folder.c_str(), step);
    }

    /** For calls of C; as long as this lives. */
    cadft_checkpoint c() const noexcept
    {
        cadft_checkpoint out = {};
        out.struct_size = sizeof out;
        out.keep = keep;
        out.folder = folder.c_str();
        out.step = step;
        out.model = model ? model->get() : nullptr;
        out.optimizer = optimizer ? optimizer->get() : nullptr;
        out.loss = loss ? loss->get() : nullptr;
        out.rewrite = rewrite ? rewrite->get() : nullptr;
        out.host = host.data();
        out.host_bytes = host.size();
        return out;
    }
};

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
