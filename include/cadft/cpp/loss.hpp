/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file loss.hpp
 * The loss of loss.h.
 */
#ifndef CADFT_CPP_LOSS_HPP
#define CADFT_CPP_LOSS_HPP

#include "cadft/cpp/context.hpp"
#include "cadft/loss.h"

namespace cadft
{

/** One micro-batch, as cadft_loss_batch: {logits, labels, sample_ids}. */
struct loss_batch {
    const_tensor logits, labels, sample_ids;
    const_tensor k = {};
    std::int64_t vocab_valid = 0, vocab_start = 0, vocab_total = 0;
    void *stream = nullptr;

    /** For calls of C; as long as this lives. */
    cadft_loss_batch c() const noexcept
    {
        cadft_loss_batch out = {};
        out.struct_size = sizeof out;
        out.logits = logits.get();
        out.labels = labels.get();
        out.sample_ids = sample_ids.get();
        out.k = k.get();
        out.vocab_valid = vocab_valid;
        out.vocab_start = vocab_start;
        out.vocab_total = vocab_total;
        out.stream = stream;
        return out;
    }
};

inline namespace CADFT_CPP_FORM
{

namespace border
{
struct loss_api {
    using type = cadft_loss;
    static constexpr auto destroy = cadft_loss_destroy;
    static constexpr auto set_i64 = cadft_loss_set_i64;
    static constexpr auto set_f64 = cadft_loss_set_f64;
    static constexpr auto set_str = cadft_loss_set_str;
    static constexpr auto get_i64 = cadft_loss_get_i64;
    static constexpr auto get_f64 = cadft_loss_get_f64;
    static constexpr auto get_str = cadft_loss_get_str;
    static constexpr auto bounds = cadft_loss_bounds;
    static constexpr auto key = cadft_loss_key;
    static constexpr auto key_at = cadft_loss_key_at;
};

template <class F>
std::int32_t coefficients(void *user,
                          std::int64_t rows,
                          const double *l,
                          const double *p,
                          const double *entropy,
                          double *k)
{
    const auto n = static_cast<std::size_t>(rows);
    return guarded([&] {
        return status_of(*static_cast<F *>(user), span<const double>(l, n),
                         span<const double>(p, n),
                         span<const double>(entropy, n), span<double>(k, n));
    });
}
} // namespace border

/** A loss. Knobs: set("beta", 1.0) or set(CADFT_LOSS_BETA, 1.0). */
class loss : public border::with_knobs<border::loss_api>
{
  public:
    using with_knobs::with_knobs;

    /** As cadft_loss_create. */
    static outcome<loss> create(const context &ctx)
    {
        return border::make<loss>(cadft_loss_create, ctx.get());
    }
#if CADFT_CPP_THROWS
    explicit loss(const context &ctx) : loss(create(ctx))
    {
    }
#endif

    /** Keep `f` as the coefficients of objective host: f(l, p, entropy, k),
     *  spans [rows] of which it writes k. Returns nothing or the status of
     *  cadft_coefficient_fn. As cadft_loss_set_coefficient. */
    template <class F> outcome<void> set_coefficient(F f)
    {
        return border::run([&](cadft_error *e) {
            cadft_coefficient c = {};
            c.struct_size = sizeof c;
            c.user = new F(std::move(f));
            c.fn = border::coefficients<F>;
            c.destroy = border::destroy_callable<F>;
            return cadft_loss_set_coefficient(get(), &c, e);
        });
    }
    /** Remove it. */
    outcome<void> remove_coefficient()
    {
        return border::run(cadft_loss_set_coefficient, get(), nullptr);
    }

    /** This batch is the whole global batch: as cadft_loss_compute.
     *  @param grad  none: report only */
    outcome<cadft_loss_report> compute(const loss_batch &batch,
                                       std::int64_t n_samples,
                                       const tensor &grad = {})
    {
        const cadft_loss_batch c = batch.c();
        return border::ask<cadft_loss_report>(cadft_loss_compute, get(), &c,
                                              n_samples, grad.get(), nullptr);
    }
    /** The same with unit gradients and their scales.
     *  @param row_scale  at least [rows], written */
    outcome<cadft_loss_report> compute(const loss_batch &batch,
                                       std::int64_t n_samples,
                                       const tensor &grad,
                                       span<float> row_scale)
    {
        return border::give<cadft_loss_report>([&](cadft_loss_report &report,
                                                   cadft_error *e) {
            const cadft_loss_batch c = batch.c();
            report.struct_size = sizeof report;
            if (c.logits && c.logits->ndim > 0 &&
                !detail::holds(row_scale.size(),
                               {c.logits->shape,
                                static_cast<std::size_t>(c.logits->ndim) - 1}))
                return border::refuse(e, CADFT_E_SPACE,
                                      "row_scale is shorter than rows");
            return cadft_loss_compute(get(), &c, n_samples, grad.get(),
                                      row_scale.data(), &report, e);
        });
    }

    /** As cadft_loss_begin. */
    outcome<void> begin(std::int64_t n_samples)
    {
        return border::run(cadft_loss_begin, get(), n_samples);
    }
    /** Number of the micro-batch, as cadft_loss_observe. */
    outcome<std::int64_t> observe(const loss_batch &batch,
                                  const tensor &unit_grad = {})
    {
        const cadft_loss_batch c = batch.c();
        return border::ask<std::int64_t>(cadft_loss_observe, get(), &c,
                                         unit_grad.get());
    }
    /** As cadft_loss_weigh. */
    outcome<void> weigh()
    {
        return border::run(cadft_loss_weigh, get());
    }
    /** As cadft_loss_grad. */
    outcome<void>
    grad(std::int64_t micro, const loss_batch &batch, const tensor &grad)
    {
        const cadft_loss_batch c = batch.c();
        return border::run(cadft_loss_grad, get(), micro, &c, grad.get());
    }
    /** As cadft_loss_end. */
    outcome<cadft_loss_report> end()
    {
        return border::ask<cadft_loss_report>(cadft_loss_end, get());
    }
    /** What end would report now, as cadft_loss_get_report. */
    outcome<cadft_loss_report> report() const
    {
        return border::ask<cadft_loss_report>(cadft_loss_get_report, get());
    }
    /** As cadft_loss_cancel. */
    void cancel() noexcept
    {
        cadft_loss_cancel(get());
    }

    /** This process's part of an exchange, as cadft_loss_export. */
    outcome<std::vector<double>> export_values(std::int32_t kind,
                                               std::int64_t shard = 0,
                                               std::int64_t n_shards = 1)
    {
        return border::list<double>(cadft_loss_export, get(), kind, shard,
                                    n_shards);
    }
    /** The same into memory of the host; returns how many. */
    outcome<std::size_t> export_values(std::int32_t kind,
                                       std::int64_t shard,
                                       std::int64_t n_shards,
                                       span<double> out)
    {
        return border::list_into(out, cadft_loss_export, get(), kind, shard,
                                 n_shards);
    }
    /** The reduced array back, as cadft_loss_import. */
    outcome<void> import_values(std::int32_t kind, input<double> values)
    {
        return border::run(cadft_loss_import, get(), kind, values.data(),
                           values.size());
    }

    /** CADFT_ROWS_... of a micro-batch, as cadft_loss_get_rows. */
    outcome<std::vector<double>> rows(std::int64_t micro,
                                      std::int32_t what) const
    {
        return border::list<double>(cadft_loss_get_rows, get(), micro, what);
    }
    outcome<std::size_t>
    rows(std::int64_t micro, std::int32_t what, span<double> out) const
    {
        return border::list_into(out, cadft_loss_get_rows, get(), micro, what);
    }
    /** CADFT_SAMPLES_..., as cadft_loss_get_samples. */
    outcome<std::vector<double>> samples(std::int32_t what) const
    {
        return border::list<double>(cadft_loss_get_samples, get(), what);
    }
    outcome<std::size_t> samples(std::int32_t what, span<double> out) const
    {
        return border::list_into(out, cadft_loss_get_samples, get(), what);
    }

    /** As cadft_loss_state_save. */
    outcome<std::vector<std::byte>> state_save() const
    {
        return border::list<std::byte>(cadft_loss_state_save, get());
    }
    /** As cadft_loss_state_load. */
    outcome<void> state_load(input<std::byte> state)
    {
        return border::run(cadft_loss_state_load, get(), state.data(),
                           state.size());
    }
};

/* ----------------------------------------------------------- sample ids */

/** As cadft_sample_ids_padded; `ids` holds at least n_sequences * length. */
inline outcome<void> sample_ids_padded(std::int64_t n_sequences,
                                       std::int64_t length,
                                       const const_tensor &lengths,
                                       std::int32_t first_id,
                                       span<std::int32_t> ids)
{
    return border::run([&](cadft_error *e) {
        const std::int64_t shape[2] = {n_sequences, length};
        if (!detail::holds(ids.size(), shape))
            return border::refuse(e, CADFT_E_SPACE,
                                  "ids is shorter than n_sequences * length");
        return cadft_sample_ids_padded(n_sequences, length, lengths.get(),
                                       first_id, ids.data(), e);
    });
}

/** As cadft_sample_ids_cu_seqlens; `ids` is [rows]. */
inline outcome<void> sample_ids_cu_seqlens(const const_tensor &cu_seqlens,
                                           std::int32_t first_id,
                                           span<std::int32_t> ids)
{
    return border::run(cadft_sample_ids_cu_seqlens, cu_seqlens.get(),
                       static_cast<std::int64_t>(ids.size()), first_id,
                       ids.data());
}

/** As cadft_sample_ids_position_ids; returns how many samples. */
inline outcome<std::int64_t>
sample_ids_position_ids(const const_tensor &position_ids,
                        std::int32_t first_id,
                        span<std::int32_t> ids)
{
    return border::give<std::int64_t>([&](std::int64_t &n, cadft_error *e) {
        const cadft_tensor *c = position_ids.get();
        if (c && c->ndim > 0 &&
            !detail::holds(ids.size(),
                           {c->shape, static_cast<std::size_t>(c->ndim)}))
            return border::refuse(e, CADFT_E_SPACE,
                                  "ids is shorter than position_ids");
        return cadft_sample_ids_position_ids(c, first_id, ids.data(), &n, e);
    });
}

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
