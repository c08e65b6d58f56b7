/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file tensor.hpp
 * Views of the caller's memory: spans and tensors, the same in both forms of
 * errors (call.hpp).
 */
#ifndef CADFT_CPP_TENSOR_HPP
#define CADFT_CPP_TENSOR_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <type_traits>
#include <utility>
#if defined(__has_include)
#    if __has_include(<version>)
#        include <version>
#    endif
#endif
#if defined(__cpp_lib_span)
#    include <span>
#endif

#include "cadft/base.h"

namespace cadft
{

/* ---------------------------------------------------------------- spans */

template <class T> class span;

namespace detail
{
/* Ranges that do not own their elements: a temporary one may be kept. */
template <class R> struct is_view : std::false_type {
};
template <class T> struct is_view<span<T>> : std::true_type {
};
#if defined(__cpp_lib_span)
template <class T, std::size_t N>
struct is_view<std::span<T, N>> : std::true_type {
};
#endif

template <class R>
using element = std::remove_pointer_t<decltype(std::data(std::declval<R &>()))>;

/* R is a range in one piece whose elements can be seen as T. */
template <class R, class T>
using enable_any_range =
    std::enable_if_t<std::is_convertible_v<element<R> (*)[], T (*)[]>>;

/* And it is no temporary that takes them along. */
template <class R, class T>
using enable_range =
    std::enable_if_t<(std::is_lvalue_reference_v<R> ||
                      is_view<std::decay_t<R>>::value) &&
                     std::is_convertible_v<element<R> (*)[], T (*)[]>>;
} // namespace detail

/** [size] elements of the caller's. Vectors, std::array and C arrays convert to
 *  it, unless they are temporaries, and std::span of C++20 both ways. */
template <class T> class span
{
  public:
    constexpr span() noexcept = default;
    /* A template, so that 0 is no pointer: {0, 2} are no two elements. */
    template <class P, class = std::enable_if_t<std::is_convertible_v<P, T *>>>
    constexpr span(P data, std::size_t size) noexcept : data_(data), size_(size)
    {
    }
    template <class R, class = detail::enable_range<R, T>>
    constexpr span(R &&range) noexcept
        : data_(std::data(range)), size_(std::size(range))
    {
    }
    constexpr T *data() const noexcept
    {
        return data_;
    }
    constexpr std::size_t size() const noexcept
    {
        return size_;
    }
    constexpr bool empty() const noexcept
    {
        return size_ == 0;
    }
    constexpr T *begin() const noexcept
    {
        return data_;
    }
    constexpr T *end() const noexcept
    {
        return data_ + size_;
    }
    constexpr T &operator[](std::size_t i) const
    {
        return data_[i];
    }

  private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

template <class R> span(R &&) -> span<detail::element<R>>;
template <class T> span(T *, std::size_t) -> span<T>;

/** A span that a call reads and does not keep: of a temporary as well. */
template <class T> class input : public span<const T>
{
  public:
    using span<const T>::span;
    template <class R, class = detail::enable_any_range<R, const T>>
    constexpr input(R &&range) noexcept
        : span<const T>(std::data(range), std::size(range))
    {
    }
};

/* -------------------------------------------------------------- tensors */

/** Elements of 16 bits, by their bits. */
enum class float16 : std::uint16_t {};
enum class bfloat16 : std::uint16_t {};

namespace detail
{
/* CADFT_DTYPE_... of T; 0 if it has none. */
template <class T> constexpr std::int32_t dtype_or_0() noexcept
{
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<U, float>)
        return CADFT_DTYPE_F32;
    else if constexpr (std::is_same_v<U, double>)
        return CADFT_DTYPE_F64;
    else if constexpr (std::is_same_v<U, float16>)
        return CADFT_DTYPE_F16;
    else if constexpr (std::is_same_v<U, bfloat16>)
        return CADFT_DTYPE_BF16;
    else if constexpr (std::is_integral_v<U> && std::is_signed_v<U> &&
                       sizeof(U) == 4)
        return CADFT_DTYPE_I32;
    else if constexpr (std::is_integral_v<U> && std::is_signed_v<U> &&
                       sizeof(U) == 8)
        return CADFT_DTYPE_I64;
    else
        return 0;
}

/* Do `size` elements hold the product of `shape`? Lets numbers below 0 pass,
 * which the library refuses by name. */
inline bool holds(std::size_t size, span<const std::int64_t> shape) noexcept
{
    for (const std::int64_t n : shape)
        if (n <= 0)
            return true;
    for (const std::int64_t n : shape)
        size /= static_cast<std::size_t>(n);
    return size > 0;
}
} // namespace detail

/** CADFT_DTYPE_... of an element type. */
template <class T> constexpr std::int32_t dtype() noexcept
{
    static_assert(detail::dtype_or_0<T>() != 0,
                  "the library has no data type for these elements");
    return detail::dtype_or_0<T>();
}

/** A view of the caller's memory to read from: cadft_tensor with shape and
 *  strides inside, so that copies are whole. Without arguments it is none, the
 *  NULL of C. A range that is too short for its shape makes a view without
 *  dimensions, and so do too many of them; every call refuses it. */
class const_tensor
{
  public:
    static constexpr std::size_t most_dims = CADFT_NDIM_MAX;

    const_tensor() noexcept = default;
    const_tensor(const const_tensor &other) noexcept : const_tensor(other.c_)
    {
    }
    const_tensor &operator=(const const_tensor &other) noexcept
    {
        take(cadft_tensor(other.c_));
        return *this;
    }
    /** A view that C made; shape and strides are copied. */
    explicit const_tensor(const cadft_tensor &c) noexcept
    {
        take(c);
    }
    /** One dimension: a vector, a C array, a span. */
    template <class R,
              class T = detail::element<R>,
              class = detail::enable_range<R, const T>,
              class = std::enable_if_t<detail::dtype_or_0<T>() != 0>>
    const_tensor(R &&range) noexcept
        : const_tensor(std::data(range),
                       {static_cast<std::int64_t>(std::size(range))})
    {
    }
    /** Two dimensions: float z[4][3]. */
    template <class T, std::size_t N, std::size_t M>
    const_tensor(const T (&array)[N][M]) noexcept
        : const_tensor(
              &array[0][0],
              {static_cast<std::int64_t>(N), static_cast<std::int64_t>(M)})
    {
    }
    /** Any shape; strides in elements, none for dense. */
    template <class T>
    const_tensor(const T *data,
                 std::initializer_list<std::int64_t> shape,
                 std::initializer_list<std::int64_t> strides = {}) noexcept
    {
        fill(data, dtype<T>(), {shape.begin(), shape.size()},
             {strides.begin(), strides.size()});
    }
    /** The same with a type and a shape that are known at run time. */
    const_tensor(const void *data,
                 std::int32_t type,
                 span<const std::int64_t> shape,
                 span<const std::int64_t> strides = {}) noexcept
    {
        fill(data, type, shape, strides);
    }

    /** For a call of C: this view, or NULL for none. As long as this lives. */
    const cadft_tensor *get() const noexcept
    {
        return c_.struct_size ? &c_ : nullptr;
    }
    explicit operator bool() const noexcept
    {
        return c_.struct_size != 0;
    }
    std::int32_t ndim() const noexcept
    {
        return c_.ndim;
    }
    std::int64_t size(std::int32_t dim) const noexcept
    {
        return dim >= 0 && dim < c_.ndim ? c_.shape[dim] : 0;
    }
    /** CADFT_DTYPE_... */
    std::int32_t type() const noexcept
    {
        return static_cast<std::int32_t>(c_.dtype_code |
                                         std::uint32_t{c_.dtype_bits} << 8 |
                                         std::uint32_t{c_.dtype_lanes} << 16);
    }
    /** Its elements, if they are T's, dense and in host memory; else none. */
    template <class T> span<const T> as() const noexcept
    {
        return elements<const T>();
    }

  protected:
    template <class T> span<T> elements() const noexcept
    {
        std::int64_t n = 1;
        if (type() != dtype<T>() || c_.device_type != CADFT_DEVICE_CPU ||
            !c_.data || c_.ndim < 1)
            return {};
        for (std::int32_t d = c_.ndim - 1; d >= 0; d--) {
            if (c_.strides && c_.shape[d] != 1 && c_.strides[d] != n)
                return {};
            n *= c_.shape[d];
        }
        return {reinterpret_cast<T *>(static_cast<char *>(c_.data) +
                                      c_.byte_offset),
                static_cast<std::size_t>(n)};
    }
    void fill(const void *data,
              std::int32_t type,
              span<const std::int64_t> shape,
              span<const std::int64_t> strides) noexcept
    {
        const bool fits = shape.size() <= most_dims &&
                          (strides.empty() || strides.size() == shape.size());
        c_ = cadft_tensor{};
        c_.struct_size = sizeof c_;
        c_.data = const_cast<void *>(data); /* const_tensor gives no way back */
        c_.device_type = CADFT_DEVICE_CPU;
        c_.dtype_code = static_cast<std::uint8_t>(type);
        c_.dtype_bits = static_cast<std::uint8_t>(type >> 8);
        c_.dtype_lanes = static_cast<std::uint16_t>(type >> 16);
        c_.ndim = fits ? static_cast<std::int32_t>(shape.size()) : 0;
        keep(shape.data(), strides.empty() ? nullptr : strides.data());
    }

  private:
    void take(const cadft_tensor &c) noexcept
    {
        c_ = c;
        if (!c.shape || c.ndim > static_cast<std::int32_t>(most_dims))
            c_.ndim = 0;
        keep(c.shape, c.strides);
    }
    void keep(const std::int64_t *shape, const std::int64_t *strides) noexcept
    {
        for (std::int32_t d = 0; shape && d < c_.ndim; d++)
            shape_[static_cast<std::size_t>(d)] = shape[d];
        for (std::int32_t d = 0; strides && d < c_.ndim; d++)
            strides_[static_cast<std::size_t>(d)] = strides[d];
        c_.shape = shape ? shape_.data() : nullptr;
        c_.strides = strides ? strides_.data() : nullptr;
    }

    cadft_tensor c_ = {};
    std::array<std::int64_t, most_dims> shape_, strides_;
};

/** A const_tensor that may be written too, made from memory that may. */
class tensor : public const_tensor
{
  public:
    tensor() noexcept = default;
    explicit tensor(const cadft_tensor &c) noexcept : const_tensor(c)
    {
    }
    template <class R,
              class T = detail::element<R>,
              class = detail::enable_range<R, T>,
              class = std::enable_if_t<detail::dtype_or_0<T>() != 0 &&
                                       !std::is_const_v<T>>>
    tensor(R &&range) noexcept : const_tensor(range)
    {
    }
    template <class T, std::size_t N, std::size_t M>
    tensor(T (&array)[N][M]) noexcept : const_tensor(array)
    {
        static_assert(!std::is_const_v<T>, "a tensor is written");
    }
    template <class T>
    tensor(T *data,
           std::initializer_list<std::int64_t> shape,
           std::initializer_list<std::int64_t> strides = {}) noexcept
        : const_tensor(data, shape, strides)
    {
        static_assert(!std::is_const_v<T>, "a tensor is written");
    }
    tensor(void *data,
           std::int32_t type,
           span<const std::int64_t> shape,
           span<const std::int64_t> strides = {}) noexcept
        : const_tensor(data, type, shape, strides)
    {
    }
    template <class T> span<T> as() const noexcept
    {
        return elements<T>();
    }
};

/** [rows, columns] over a pointer; `stride` elements from row to row, 0:
 *  columns. */
template <
    class P,
    class T = std::remove_pointer_t<std::remove_reference_t<P>>,
    class = std::enable_if_t<std::is_pointer_v<std::decay_t<P>> &&
                             !std::is_array_v<std::remove_reference_t<P>>>>
std::conditional_t<std::is_const_v<T>, const_tensor, tensor>
matrix(P &&data,
       std::int64_t rows,
       std::int64_t columns,
       std::int64_t stride = 0) noexcept
{
    return {data, {rows, columns}, {stride ? stride : columns, 1}};
}

/** [rows, columns] over a vector, array or span, dense. */
template <class R,
          class T = detail::element<R>,
          class = detail::enable_range<R, T>>
std::conditional_t<std::is_const_v<T>, const_tensor, tensor>
matrix(R &&range, std::int64_t rows, std::int64_t columns) noexcept
{
    const std::int64_t shape[2] = {rows, columns};
    if (!detail::holds(std::size(range), shape))
        return {std::data(range), {}};
    return {std::data(range), {rows, columns}};
}

} // namespace cadft

#endif
