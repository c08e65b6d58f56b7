// SPDX-License-Identifier: Apache-2.0
// The functions that return results: compiled with -fno-exceptions -fno-rtti.
#include <cadft/cadft.hpp>

#include <cstring>
#include <type_traits>

#include "check.hpp"

#if defined(__cpp_exceptions)
#    error "compile this with -fno-exceptions"
#endif

namespace
{

static_assert(!std::is_constructible_v<cadft::loss, const cadft::context &>);
// What is taken out of a temporary result outlives it.
static_assert(!std::is_reference_v<decltype(*cadft::loss::knobs())>);

struct batch {
    float z[4][3] = {{2, 0, 0}, {0, 3, 0}, {3, 0, 0}, {0, 1, 0}};
    std::int32_t y[4] = {0, 1, 2, 2}, s[4] = {0, 0, 1, 1};
    float grad[4][3] = {};
};

void test_loss(const cadft::context_desc &desc)
{
    batch b;
    auto ctx = cadft::context::create(desc);
    CHECK(ctx && ctx.status() == CADFT_OK && !*ctx.message());
    auto made = cadft::loss::create(*ctx);
    CHECK(made);
    cadft::loss loss = *std::move(made);
    ctx->reset();
    CHECK(loss.set("beta", 1));
    const auto refused = loss.set("beta", -1.0);
    CHECK(!refused && refused.status() == CADFT_E_ARG);
    CHECK(std::strstr(refused.message(), "beta is -1"));
    auto report = loss.compute({b.z, b.y, b.s}, 2, b.grad);
    CHECK(report && report->loss > 0 && b.grad[0][0] != 0);
    const auto kept = std::move(report);
    CHECK(kept->n_rows == 4);
    CHECK(loss.begin(2));
    const auto micro = loss.observe({b.z, b.y, b.s});
    CHECK(micro && *micro == 0 && loss.weigh());
    CHECK(loss.grad(*micro, {b.z, b.y, b.s}, b.grad));
    CHECK(loss.end());
    const auto w = loss.samples(CADFT_SAMPLES_W);
    CHECK(w && (*w).size() == 2);
    b.y[0] = 9;
    report = loss.compute({b.z, b.y, b.s}, 2, b.grad);
    CHECK(!report && report.status() == CADFT_E_LABEL && report->loss == 0);
    float scale[3];
    report = loss.compute({b.z, b.y, b.s}, 2, b.grad, scale);
    CHECK(report.status() == CADFT_E_SPACE && *report.message());
    CHECK(loss.get_str("no").status() == CADFT_E_KEY);
    CHECK(*loss.get_str("scope") == "exact");
}

void test_callback(const cadft::context_desc &desc)
{
    batch b;
    auto ctx = cadft::context::create(desc);
    auto loss = cadft::loss::create(*ctx);
    CHECK(ctx && loss && loss->set("objective", "host"));
    CHECK(loss->set_coefficient([](auto, auto, auto, auto k) {
        for (auto &x : k)
            x = 1;
    }));
    CHECK(loss->compute({b.z, b.y, b.s}, 2));
    CHECK(loss->set_coefficient([](auto, auto, auto, auto) { return -1; }));
    CHECK(loss->compute({b.z, b.y, b.s}, 2).status() == CADFT_E_CALLBACK);
}

} // namespace

int main()
{
    counting memory;
    int lines = 0;
    cadft::context_desc desc;
    desc.allocator = &memory.c;
    desc.log = [&](std::int32_t, std::string_view) { lines++; };
    test_loss(desc);
    test_callback(desc);
    CHECK(memory.blocks == 0 && memory.bytes == 0 && memory.destroyed == 2);
    CHECK(lines >= 2);
    desc.backend = "none";
    const auto none = cadft::context::create(desc);
    CHECK(none.status() == CADFT_E_BACKEND && memory.destroyed == 3);
    std::puts("returning");
    return 0;
}
