/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file handle.hpp
 * Owners of handles of C, and their knobs.
 */
#ifndef CADFT_CPP_HANDLE_HPP
#define CADFT_CPP_HANDLE_HPP

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cadft/cpp/call.hpp"

namespace cadft
{
inline namespace CADFT_CPP_FORM
{

namespace border
{
/* Owner of one handle of C; Api is a noun's functions. */
template <class Api> class handle
{
  public:
    using c_type = typename Api::type;

    /** None: every call refuses it with CADFT_E_NULL, as after a move. */
    handle() noexcept = default;
    /** Adopt a handle of C, which is destroyed with this. */
    explicit handle(c_type *adopted) noexcept : c_(adopted)
    {
    }
    /** For calls of C; stays owned. */
    c_type *get() const noexcept
    {
        return c_.get();
    }
    /** The caller destroys it. */
    c_type *release() noexcept
    {
        return c_.release();
    }
    void reset(c_type *adopted = nullptr) noexcept
    {
        c_.reset(adopted);
    }
    explicit operator bool() const noexcept
    {
        return c_ != nullptr;
    }

  private:
    struct destroy {
        void operator()(c_type *c) const noexcept
        {
            Api::destroy(c);
        }
    };
    std::unique_ptr<c_type, destroy> c_;
};
} // namespace border

/** Which knob: its constant, CADFT_LOSS_BETA, or its name, "beta". */
class knob
{
  public:
    knob(std::int32_t key) noexcept : key_(key)
    {
    }
    knob(const char *name) noexcept : name_(name)
    {
    }
    knob(const std::string &name) noexcept : name_(name.c_str())
    {
    }
    /** Its constant, found by `find`, cadft_loss_key or another noun's. */
    template <class F>
    std::int32_t key(F find, std::int32_t *out, cadft_error *e) const
    {
        *out = key_;
        return name_ ? find(name_, out, e) : CADFT_OK;
    }

  private:
    std::int32_t key_ = 0;
    const char *name_ = nullptr;
};

/** A knob of a list. The name lives as long as the library. */
struct named_knob {
    const char *name;
    std::int32_t key;
};

/** As cadft_loss_bounds sets them; type 0 i64, 1 f64. */
struct bounds {
    std::int32_t type;
    double smallest, largest, standard;
};

namespace border
{
/* A handle with knobs. */
template <class Api> class with_knobs : public handle<Api>
{
  public:
    using handle<Api>::handle;

    /** Set a knob to a number or a text: cadft_loss_set_i64, _f64 or _str of
     *  the noun, a whole number to an f64 knob as well. Errors as theirs. */
    template <class V> outcome<void> set(knob which, const V &value)
    {
        return run([&](cadft_error *e) {
            std::int32_t key = 0;
            const std::int32_t status = which.key(Api::key, &key, e);
            return status == CADFT_OK ? put(key, value, e) : status;
        });
    }
    /** Read a knob or a fact, as cadft_loss_get_i64. */
    outcome<std::int64_t> get_i64(knob which) const
    {
        return read<std::int64_t>(which, Api::get_i64);
    }
    /** As cadft_loss_get_f64. */
    outcome<double> get_f64(knob which) const
    {
        return read<double>(which, Api::get_f64);
    }
    /** As cadft_loss_get_str. */
    outcome<std::string> get_str(knob which) const
    {
        return text([&](char *buffer, std::size_t n, std::size_t *needed,
                        cadft_error *e) {
            std::int32_t key = 0;
            const std::int32_t status = which.key(Api::key, &key, e);
            return status == CADFT_OK
                       ? Api::get_str(this->get(), key, buffer, n, needed, e)
                       : status;
        });
    }
    /** As cadft_loss_bounds. */
    static outcome<cadft::bounds> bounds(knob which)
    {
        return give<cadft::bounds>([&](cadft::bounds &b, cadft_error *e) {
            std::int32_t key = 0;
            const std::int32_t status = which.key(Api::key, &key, e);
            return status == CADFT_OK ? Api::bounds(key, &b.type, &b.smallest,
                                                    &b.largest, &b.standard, e)
                                      : status;
        });
    }
    /** The constant of a name, as cadft_loss_key. */
    static outcome<std::int32_t> key(const std::string &name)
    {
        return ask<std::int32_t>(Api::key, name.c_str());
    }
    /** All knobs, as cadft_loss_key_at lists them. */
    static outcome<std::vector<named_knob>> knobs()
    {
        using knobs = std::vector<named_knob>;
        return give<knobs>([&](knobs &out, cadft_error *) {
            named_knob next = {};
            for (std::int32_t i = 0;
                 Api::key_at(i, &next.name, &next.key, nullptr) == CADFT_OK;
                 i++)
                out.push_back(next);
            return CADFT_OK;
        });
    }

  private:
    template <class T, class F> outcome<T> read(knob which, F f) const
    {
        return give<T>([&](T &value, cadft_error *e) {
            std::int32_t key = 0;
            const std::int32_t status = which.key(Api::key, &key, e);
            return status == CADFT_OK ? f(this->get(), key, &value, e) : status;
        });
    }
    template <class V>
    std::int32_t put(std::int32_t key, const V &value, cadft_error *e)
    {
        if constexpr (std::is_convertible_v<const V &, const char *>)
            return Api::set_str(this->get(), key, value, e);
        else if constexpr (std::is_convertible_v<const V &, std::string_view>)
            return Api::set_str(this->get(), key,
                                std::string(std::string_view(value)).c_str(),
                                e);
        else if constexpr (std::is_floating_point_v<V>)
            return Api::set_f64(this->get(), key, static_cast<double>(value),
                                e);
        else if (is_f64(key))
            return Api::set_f64(this->get(), key, static_cast<double>(value),
                                e);
        else
            return Api::set_i64(this->get(), key,
                                static_cast<std::int64_t>(value), e);
    }
    static bool is_f64(std::int32_t key) noexcept
    {
        std::int32_t type = 0;
        return Api::bounds(key, &type, nullptr, nullptr, nullptr, nullptr) ==
                   CADFT_OK &&
               type == 1;
    }
};
} // namespace border

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
