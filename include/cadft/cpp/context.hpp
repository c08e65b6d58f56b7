/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file context.hpp
 * The context of base.h: backend, threads, memory, log.
 */
#ifndef CADFT_CPP_CONTEXT_HPP
#define CADFT_CPP_CONTEXT_HPP

#include <functional>

#include "cadft/cpp/handle.hpp"

namespace cadft
{

/** One job of the library for a host's parallel_for: task(index, worker), as
 *  cadft_task_fn. */
class task
{
  public:
    task(cadft_task_fn fn, void *job) noexcept : fn_(fn), job_(job)
    {
    }
    void operator()(std::int64_t index, std::int32_t worker) const
    {
        fn_(job_, index, worker);
    }

  private:
    cadft_task_fn fn_;
    void *job_;
};

/** As cadft_log.write, and cadft_parallel.parallel_for: return when no task
 *  is running any more, and throw when not all of them ran. */
using log_fn = std::function<void(std::int32_t level, std::string_view text)>;
using parallel_for_fn = std::function<void(std::int64_t n, task run)>;

/** As cadft_context_desc. */
struct context_desc {
    std::int32_t n_threads = 0;
    std::string backend = {};         /**< "": the built-in one */
    std::string backend_options = {}; /**< "": its defaults */
    log_fn log = {};                  /**< none: silent */
    std::int32_t log_level = CADFT_LOG_INFO;
    parallel_for_fn parallel_for = {}; /**< none: own threads */
    std::int32_t max_workers = 1;      /**< of parallel_for */
    const cadft_allocator *allocator = nullptr;
};

/** Version of the library that is loaded, as cadft_version. */
inline std::uint32_t version() noexcept
{
    return cadft_version();
}

/** Name of a status, as cadft_status_string. */
inline const char *status_string(std::int32_t status) noexcept
{
    return cadft_status_string(status);
}

inline namespace CADFT_CPP_FORM
{

namespace border
{
struct context_api {
    using type = cadft_context;
    static constexpr auto destroy = cadft_context_destroy;
};

template <class F> void destroy_callable(void *user)
{
    delete static_cast<F *>(user);
}

inline void
write_log(void *user, std::int32_t level, const char *line, std::size_t n)
{
    guarded([&] {
        (*static_cast<log_fn *>(user))(level, std::string_view(line, n));
        return 0;
    });
}

inline std::int32_t
run_tasks(void *user, std::int64_t n, cadft_task_fn fn, void *job)
{
    return guarded([&] {
        (*static_cast<parallel_for_fn *>(user))(n, task(fn, job));
        return 0;
    });
}
} // namespace border

/** A context; what is made from it keeps it alive. */
class context : public border::handle<border::context_api>
{
  public:
    using handle::handle;

    /** As cadft_context_create. */
    static outcome<context> create(const context_desc &desc = {})
    {
        return border::give<context>(
            [&](context &out, cadft_error *e) { return start(desc, out, e); });
    }
#if CADFT_CPP_THROWS
    /** The same, as constructor. */
    explicit context(const context_desc &desc) : context(create(desc))
    {
    }
#endif

    /** CADFT_CONTEXT_..., as cadft_context_get_i64. */
    outcome<std::int64_t> get_i64(std::int32_t key) const
    {
        return border::ask<std::int64_t>(cadft_context_get_i64, get(), key);
    }
    /** As cadft_context_get_str. */
    outcome<std::string> get_str(std::int32_t key) const
    {
        return border::text(cadft_context_get_str, get(), key);
    }
    /** Copy a tensor of the backend's memory out, into a vector, an array or a
     *  span of as many bytes: as cadft_context_read. */
    template <class R,
              class T = detail::element<R>,
              class = detail::enable_range<R, T>>
    outcome<void> read(const const_tensor &from, R &&to) const
    {
        const span<T> out(to);
        return border::run(cadft_context_read, get(), from.get(), out.data(),
                           out.size() * sizeof(T));
    }
    /** Copy into one, as cadft_context_write. */
    template <class R,
              class T = detail::element<R>,
              class = detail::enable_range<R, T>>
    outcome<void> write(const tensor &to, R &&from) const
    {
        const span<T> in(from);
        return border::run(cadft_context_write, get(), to.get(), in.data(),
                           in.size() * sizeof(T));
    }

  private:
    static std::int32_t
    start(const context_desc &desc, context &out, cadft_error *e)
    {
        cadft_context_desc c = {};
        cadft_log log = {};
        cadft_parallel parallel = {};
        cadft_context *made = nullptr;
        std::unique_ptr<log_fn> sink;
        std::unique_ptr<parallel_for_fn> threads;
        c.struct_size = sizeof c;
        c.n_threads = desc.n_threads;
        c.allocator = desc.allocator;
        c.backend = desc.backend.empty() ? nullptr : desc.backend.c_str();
        c.backend_options = desc.backend_options.empty()
                                ? nullptr
                                : desc.backend_options.c_str();
        if (desc.log) {
            sink = std::make_unique<log_fn>(desc.log);
            log.struct_size = sizeof log;
            log.max_level = desc.log_level;
            log.user = sink.get();
            log.write = border::write_log;
            log.destroy = border::destroy_callable<log_fn>;
            c.log = &log;
        }
        if (desc.parallel_for) {
            threads = std::make_unique<parallel_for_fn>(desc.parallel_for);
            parallel.struct_size = sizeof parallel;
            parallel.max_workers = desc.max_workers;
            parallel.user = threads.get();
            parallel.parallel_for = border::run_tasks;
            parallel.destroy = border::destroy_callable<parallel_for_fn>;
            c.parallel = &parallel;
        }
        sink.release(); /* the library's, also when it fails */
        threads.release();
        const std::int32_t status = cadft_context_create(&c, &made, e);
        out.reset(made);
        return status;
    }
};

} // namespace CADFT_CPP_FORM
} // namespace cadft

#endif
