/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file call.hpp
 * Errors, and the border to C that every function passes.
 *
 * Errors come in two forms of one text. Each function hands a C call with its
 * error to border::call, and that decides:
 *
 * - With exceptions a function returns its value and throws cadft::error.
 * - With -fno-exceptions, or CADFT_NO_EXCEPTIONS defined before the first
 *   include, it returns cadft::result<T>: false after a failure, with status()
 *   and message(); the value is *result.
 *
 * Comments write outcome<T> for both. The forms are inline namespaces apart, so
 * files of both may be linked together. -fno-rtti makes no difference.
 *
 * A callback is any callable. What it throws is caught before it reaches C, the
 * C call fails (a log sink cannot make it fail), and the C++ function that
 * made this call throws it again. Where there is none, the host called C by
 * get() or destroyed a handle, it is lost, and the C call fails with
 * CADFT_E_CALLBACK or CADFT_E_THREADS.
 *
 * Beyond memory for results that are vectors or strings, and for callbacks
 * that are kept, nothing is allocated and nothing copied. Memory that C++
 * itself cannot get throws std::bad_alloc, as usual.
 */
#ifndef CADFT_CPP_CALL_HPP
#define CADFT_CPP_CALL_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cadft/cpp/tensor.hpp"

#if defined(__cpp_exceptions) && !defined(CADFT_NO_EXCEPTIONS)
#    include <exception>
#    include <stdexcept>
#    define CADFT_CPP_THROWS 1
#    define CADFT_CPP_FORM throwing
#else
#    define CADFT_CPP_THROWS 0
#    define CADFT_CPP_FORM returning
#endif

namespace cadft
{
inline namespace CADFT_CPP_FORM
{

/* --------------------------------------------------------------- errors */

#if CADFT_CPP_THROWS

/** A call of the library failed: its sentence, and the status. */
class error : public std::runtime_error
{
  public:
    error(std::int32_t status, const char *message)
        : std::runtime_error(message), status_(status)
    {
    }
    /** CADFT_E_... */
    std::int32_t status() const noexcept
    {
        return status_;
    }

  private:
    std::int32_t status_;
};

template <class T> using outcome = T;

#else

/** What a call returned: its value, or why there is none. */
template <class T> class result;

template <> class [[nodiscard]] result<void>
{
  public:
    explicit result(const cadft_error &e) noexcept : error_(e)
    {
    }
    /** Did it succeed? */
    explicit operator bool() const noexcept
    {
        return error_.code == CADFT_OK;
    }
    /** CADFT_OK or CADFT_E_... */
    std::int32_t status() const noexcept
    {
        return error_.code;
    }
    /** The sentence; "" after success. */
    const char *message() const noexcept
    {
        return error_.message;
    }

  private:
    cadft_error error_;
};

/** After a failure the value is empty: zeros, an empty handle. */
template <class T> class [[nodiscard]] result : public result<void>
{
  public:
    result(const cadft_error &e, T &&value)
        : result<void>(e), value_(std::move(value))
    {
    }
    T &operator*() &noexcept
    {
        return value_;
    }
    const T &operator*() const &noexcept
    {
        return value_;
    }
    /** By value: for (auto x : *call()) may go on over it. */
    T operator*() &&
    {
        return std::move(value_);
    }
    T *operator->() noexcept
    {
        return &value_;
    }
    const T *operator->() const noexcept
    {
        return &value_;
    }

  private:
    T value_;
};

template <class T> using outcome = result<T>;

#endif

/* ------------------------------------------------------------ the border */

namespace border
{
/* A call of C that is under way: its error, and what a callback threw. */
class call
{
  public:
    call() noexcept
    {
        error_.struct_size = sizeof error_;
        error_.code = CADFT_OK;
        error_.message[0] = '\0'; /* the rest of it is not read */
    }
    call(const call &) = delete;
    call &operator=(const call &) = delete;
    cadft_error *error() noexcept
    {
        return &error_;
    }

#if CADFT_CPP_THROWS
    ~call()
    {
        current = outer_;
    }
    void finish(std::int32_t status)
    {
        if (thrown_)
            std::rethrow_exception(std::move(thrown_));
        if (status != CADFT_OK)
            throw cadft::error(status, error_.message);
    }
    template <class T> T finish(std::int32_t status, T &&value)
    {
        finish(status);
        return std::move(value);
    }
    /* What is being handled belongs to the innermost call of this thread; the
     * first of several is the one. */
    static void caught() noexcept
    {
        if (current && !current->thrown_)
            current->thrown_ = std::current_exception();
    }

  private:
    static inline thread_local call *current = nullptr;
    call *outer_ = std::exchange(current, this);
    std::exception_ptr thrown_;
    cadft_error error_;
#else
    result<void> finish(std::int32_t status) noexcept
    {
        error_.code = status;
        return result<void>(error_);
    }
    template <class T> result<T> finish(std::int32_t status, T &&value)
    {
        error_.code = status;
        return result<T>(error_, std::move(value));
    }

  private:
    cadft_error error_ = {}; /* is returned */
#endif
};

/* f(args..., &error), a function of C. */
template <class F, class... A> outcome<void> run(F f, A... args)
{
    call c;
    return c.finish(f(args..., c.error()));
}

/* The value that f(value, &error) sets. */
template <class T, class F> outcome<T> give(F f)
{
    call c;
    T value{};
    const std::int32_t status = f(value, c.error());
    return c.finish(status, std::move(value));
}

template <class T, class = void> struct tells_size : std::false_type {
};
template <class T>
struct tells_size<T, std::void_t<decltype(T::struct_size)>> : std::true_type {
};

/* The value that f(args..., &value, &error) sets: a number, a struct of C. */
template <class T, class F, class... A> outcome<T> ask(F f, A... args)
{
    return give<T>([&](T &value, cadft_error *e) {
        if constexpr (tells_size<T>::value)
            value.struct_size = sizeof value;
        return f(args..., &value, e);
    });
}

/* The handle that f(args..., &handle, &error) makes. */
template <class H, class F, class... A> outcome<H> make(F f, A... args)
{
    return give<H>([&](H &handle, cadft_error *e) {
        typename H::c_type *c = nullptr;
        const std::int32_t status = f(args..., &c, e);
        handle.reset(c);
        return status;
    });
}

/* The array of f(args..., array, capacity, &needed, &error), after its length
 * was asked for. */
template <class T, class F, class... A>
outcome<std::vector<T>> list(F f, A... args)
{
    return give<std::vector<T>>([&](std::vector<T> &out, cadft_error *e) {
        std::size_t n = 0;
        std::int32_t status = f(args..., nullptr, 0, &n, e);
        if (status != CADFT_OK)
            return status;
        out.resize(n + 1); /* none is not NULL, which would ask again */
        status = f(args..., out.data(), n, &n, e);
        out.resize(status == CADFT_OK ? n : 0);
        return status;
    });
}

/* The same into the caller's memory; returns how many. */
template <class T, class F, class... A>
outcome<std::size_t> list_into(span<T> out, F f, A... args)
{
    return ask<std::size_t>(f, args..., out.data(), out.size());
}

/* The same of a text. */
template <class F, class... A> outcome<std::string> text(F f, A... args)
{
    return give<std::string>([&](std::string &out, cadft_error *e) {
        std::size_t n = 0;
        std::int32_t status = f(args..., nullptr, 0, &n, e);
        if (status != CADFT_OK)
            return status;
        out.resize(n);
        status = f(args..., &out[0], n, &n, e);
        out.resize(status == CADFT_OK ? n - 1 : 0);
        return status;
    });
}

/* A refusal by these headers, in the library's way. */
inline std::int32_t
refuse(cadft_error *e, std::int32_t status, const char *sentence) noexcept
{
    e->code = status;
    e->message[std::string_view(sentence).copy(e->message,
                                               sizeof e->message - 1)] = '\0';
    return status;
}

/* f() in a callback of C; `failed` if it throws. */
template <class F>
std::int32_t guarded(F &&f, std::int32_t failed = -1) noexcept
{
#if CADFT_CPP_THROWS
    try {
        return f();
    } catch (...) {
        call::caught();
        return failed;
    }
#else
    (void)failed;
    return f();
#endif
}

/* The status that a host's callable returns; 0 for one that returns none. */
template <class F, class... A> std::int32_t status_of(F &f, A &&...args)
{
    if constexpr (std::is_void_v<std::invoke_result_t<F &, A...>>) {
        f(std::forward<A>(args)...);
        return 0;
    } else {
        return static_cast<std::int32_t>(f(std::forward<A>(args)...));
    }
}
} // namespace border

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
