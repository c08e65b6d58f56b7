// SPDX-License-Identifier: Apache-2.0
// bench [CALLS]
//
// The time of a tiny cadft_loss_compute (4 rows, 3 columns, one thread) from C
// and from C++, in turns: the fastest and the median of ROUNDS rounds of CALLS
// calls. Ends with 1 when C++ takes more than LIMIT longer.
#include <cadft/cadft.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace
{

constexpr int rounds = 101;
constexpr double limit = 5000; // ns

struct batch {
    float z[4][3] = {{2, 0, 0}, {0, 3, 0}, {3, 0, 0}, {0, 1, 0}};
    std::int32_t y[4] = {0, 1, 2, 2}, s[4] = {0, 0, 1, 1};
    float grad[4][3] = {};
};

// As a careful host in C: views made once, an error for each call.
double from_c(cadft_loss *loss, batch &b, int calls)
{
    std::int64_t shape[2] = {4, 3};
    cadft_tensor logits, labels, ids, grad;
    cadft_tensor_init(&logits, sizeof logits, b.z, CADFT_DTYPE_F32, 2, shape,
                      nullptr, nullptr);
    cadft_tensor_init(&labels, sizeof labels, b.y, CADFT_DTYPE_I32, 1, shape,
                      nullptr, nullptr);
    cadft_tensor_init(&ids, sizeof ids, b.s, CADFT_DTYPE_I32, 1, shape, nullptr,
                      nullptr);
    cadft_tensor_init(&grad, sizeof grad, b.grad, CADFT_DTYPE_F32, 2, shape,
                      nullptr, nullptr);
    cadft_loss_batch batch = {};
    batch.struct_size = sizeof batch;
    batch.logits = &logits;
    batch.labels = &labels;
    batch.sample_ids = &ids;
    double sum = 0;
    for (int i = 0; i < calls; i++) {
        cadft_error e;
        cadft_loss_report report;
        e.struct_size = sizeof e;
        report.struct_size = sizeof report;
        if (cadft_loss_compute(loss, &batch, 2, &grad, nullptr, &report, &e))
            std::exit(1);
        sum += report.loss;
    }
    return sum;
}

double from_cpp(cadft::loss &loss, batch &b, int calls)
{
    const cadft::loss_batch batch = {b.z, b.y, b.s};
    const cadft::tensor grad = b.grad;
    double sum = 0;
    for (int i = 0; i < calls; i++)
        sum += loss.compute(batch, 2, grad).loss;
    return sum;
}

// The views made anew for each call.
double from_cpp_views(cadft::loss &loss, batch &b, int calls)
{
    double sum = 0;
    for (int i = 0; i < calls; i++)
        sum += loss.compute({b.z, b.y, b.s}, 2, b.grad).loss;
    return sum;
}

struct times {
    std::vector<double> ns; // of a call, one a round
    double sum = 0;

    template <class F> void add(int calls, F run)
    {
        const auto start = std::chrono::steady_clock::now();
        sum = run();
        const std::chrono::duration<double, std::nano> t =
            std::chrono::steady_clock::now() - start;
        ns.push_back(t.count() / calls);
    }
    void print(const char *name, times &base)
    {
        std::sort(ns.begin(), ns.end());
        std::printf(
            "%-22s %8.1f ns  median %8.1f  over C %+6.1f  median %+6.1f\n",
            name, ns[0], ns[ns.size() / 2], ns[0] - base.ns[0],
            ns[ns.size() / 2] - base.ns[base.ns.size() / 2]);
    }
};

} // namespace

int main(int argc, char **argv)
try {
    const int calls = argc > 1 ? std::atoi(argv[1]) : 500;
    cadft::context_desc desc;
    desc.n_threads = 1;
    const auto ctx = cadft::context::create(desc);
    cadft::loss loss(ctx);
    batch b;
    times c, cpp, views;
    for (int i = 0; i < rounds; i++) {
        c.add(calls, [&] { return from_c(loss.get(), b, calls); });
        cpp.add(calls, [&] { return from_cpp(loss, b, calls); });
        views.add(calls, [&] { return from_cpp_views(loss, b, calls); });
    }
    c.print("C", c);
    cpp.print("C++", c);
    views.print("C++, views each call", c);
    const bool same = c.sum == cpp.sum && c.sum == views.sum;
    return same && views.ns[0] - c.ns[0] < limit ? 0 : 1;
} catch (const cadft::error &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
