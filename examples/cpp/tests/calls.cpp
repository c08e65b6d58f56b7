// SPDX-License-Identifier: Apache-2.0
// Tensors, errors, ownership, knobs and callbacks, with exceptions.
#include <cadft/cadft.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "cases.hpp"

namespace
{

struct own_exception {
    int number;
};

// The number of the own exception that f throws; 0 if it throws none.
template <class F> int thrown_by(F f)
{
    try {
        f();
    } catch (const own_exception &e) {
        return e.number;
    }
    return 0;
}

/* -------------------------------------------------------------- tensors */

static_assert(!std::is_copy_constructible_v<cadft::loss>);
static_assert(std::is_nothrow_move_constructible_v<cadft::loss>);
static_assert(std::is_nothrow_move_assignable_v<cadft::model>);
// A temporary that owns its memory is refused, a view is not.
static_assert(
    !std::is_constructible_v<cadft::const_tensor, std::vector<float>>);
static_assert(std::is_constructible_v<cadft::const_tensor, cadft::span<float>>);
static_assert(
    !std::is_constructible_v<cadft::span<const int>, std::vector<int>>);
static_assert(
    std::is_constructible_v<cadft::input<int>, const std::vector<int>>);
static_assert(std::is_constructible_v<cadft::input<int>, std::vector<int> &>);
static_assert(std::is_constructible_v<cadft::input<int>, cadft::span<int>>);
static_assert(!std::is_constructible_v<cadft::input<int>, std::vector<long>>);
// Two elements, not the null pointer and a length.
template <class S> auto from_zero(int) -> decltype(S{0, 2}, std::true_type{});
template <class S> std::false_type from_zero(...);
static_assert(!decltype(from_zero<cadft::span<const int>>(0))::value);
static_assert(!decltype(from_zero<cadft::input<int>>(0))::value);
static_assert(
    std::is_constructible_v<cadft::span<const int>, std::nullptr_t, int>);
// What is written is not const, and of a type that the library has.
static_assert(
    !std::is_constructible_v<cadft::tensor, const std::vector<float> &>);
static_assert(!std::is_constructible_v<cadft::tensor, cadft::const_tensor>);
static_assert(!std::is_constructible_v<cadft::tensor, std::vector<char> &>);
static_assert(cadft::dtype<long long>() == CADFT_DTYPE_I64);
static_assert(cadft::dtype<cadft::bfloat16>() == CADFT_DTYPE_BF16);
static_assert(sizeof(cadft::bfloat16) == 2 && sizeof(cadft::float16) == 2);
#if defined(__cpp_lib_span)
static_assert(std::is_constructible_v<cadft::tensor, std::span<float>>);
static_assert(
    std::is_constructible_v<std::span<double>, cadft::span<double> &>);
#endif

cadft::tensor copy_of_a_copy(float *data)
{
    const cadft::tensor first(data, {2, 3}, {4, 1});
    const cadft::tensor second = first;
    return second;
}

void test_tensors()
{
    std::vector<float> v(12);
    const std::vector<double> d(5);
    const cadft::tensor one = copy_of_a_copy(v.data());
    const cadft_tensor *c = one.get();
    CHECK(c->shape[0] == 2 && c->shape[1] == 3);
    CHECK(c->strides[0] == 4 && c->strides[1] == 1);
    CHECK(reinterpret_cast<const char *>(c->shape) >=
              reinterpret_cast<const char *>(&one) &&
          reinterpret_cast<const char *>(c->shape) <
              reinterpret_cast<const char *>(&one + 1));
    CHECK(one.as<float>().empty()); // padded
    CHECK(cadft::matrix(v, 3, 4).as<float>().size() == 12);
    CHECK(cadft::matrix(v, 3, 4).as<float>().data() == v.data());
    CHECK(cadft::matrix(v, 3, 4).as<std::int32_t>().empty());
    CHECK(cadft::matrix(v, 3, 5).ndim() == 0); // too short
    CHECK(cadft::matrix(v, INT64_MAX, INT64_MAX).ndim() == 0);
    CHECK(cadft::matrix(v.data(), 2, 3, 6).get()->strides[0] == 6);
    CHECK(cadft::const_tensor(d).type() == CADFT_DTYPE_F64);
    CHECK(cadft::const_tensor(d).size(0) == 5);
    CHECK(!cadft::const_tensor() && !cadft::tensor().get());
    const std::vector<std::int64_t> ones(CADFT_NDIM_MAX + 1, 1);
    const cadft::span<const std::int64_t> most(ones.data(), CADFT_NDIM_MAX);
    CHECK(cadft::tensor(v.data(), CADFT_DTYPE_F32, most).ndim() == 16);
    CHECK(cadft::tensor(v.data(), CADFT_DTYPE_F32, ones).ndim() == 0);
    cadft::const_tensor assigned;
    assigned = one;
    CHECK(assigned.get()->shape != one.get()->shape && assigned.size(1) == 3);
    // C fills and reads the same struct.
    std::int64_t shape[2] = {3, 4};
    cadft_tensor filled;
    CHECK(!cadft_tensor_init(&filled, sizeof filled, v.data(), CADFT_DTYPE_F32,
                             2, shape, nullptr, nullptr));
    const cadft::tensor kept = cadft::matrix(v, 3, 4);
    const cadft_tensor *ours = kept.get();
    CHECK(filled.data == ours->data && filled.ndim == ours->ndim);
    CHECK(filled.device_type == ours->device_type);
    CHECK(filled.dtype_code == ours->dtype_code);
    CHECK(filled.dtype_bits == ours->dtype_bits);
    CHECK(filled.dtype_lanes == ours->dtype_lanes);
    filled.shape = nullptr;
    CHECK(cadft::tensor(filled).as<float>().empty());
    CHECK(cadft::span(d)[4] == 0);
}

/* --------------------------------------------------------------- errors */

void test_errors()
{
    const auto ctx = cadft::context::create();
    cadft::loss loss(ctx);
    batch b;
    CHECK(status_of([&] { loss.set("beta", -1.0); }, "beta") == CADFT_E_ARG);
    CHECK(status_of([&] { loss.set("bta", 1.0); }, "bta") == CADFT_E_KEY);
    CHECK(status_of([&] { loss.set(CADFT_LOSS_SCOPE, 0.5); }, "i64") ==
          CADFT_E_KEY);
    CHECK(status_of([&] { loss.weigh(); }) == CADFT_E_PHASE);
    b.y[2] = 3;
    CHECK(status_of([&] { loss.compute(b.c(), 2, b.grad); }, "3") ==
          CADFT_E_LABEL);
    b.y[2] = 2;
    CHECK(b.grad[0][0] == 0);
    loss.compute(b.c(), 2, b.grad);
    CHECK(b.grad[0][0] != 0);
    float scale[4] = {};
    CHECK(status_of([&] {
              loss.compute(b.c(), 2, b.grad, cadft::span<float>(scale, 3));
          }) == CADFT_E_SPACE);
    loss.compute(b.c(), 2, b.grad, scale);
    CHECK(scale[0] != 0);
    // an empty vector is one that is too short, and not none
    std::vector<float> empty;
    CHECK(status_of([&] { loss.compute(b.c(), 2, b.grad, empty); }) ==
          CADFT_E_SPACE);
    // a view that is too short is refused, not read
    const std::vector<float> few(11);
    CHECK(status_of([&] {
              loss.compute({cadft::matrix(few, 4, 3), b.y, b.s}, 2);
          }) == CADFT_E_SHAPE);
    CHECK(status_of(
              [&] {
                  cadft::context_desc desc;
                  desc.backend = "none";
                  cadft::context::create(desc);
              },
              "none") == CADFT_E_BACKEND);
    CHECK(std::string(cadft::status_string(CADFT_E_PHASE)) == "CADFT_E_PHASE");
    CHECK(cadft::version() >= 1000);
    try {
        loss.set("beta", -1.0);
    } catch (const std::runtime_error &e) {
        CHECK(std::string(e.what()).find("-1") != std::string::npos);
    }
}

/* -------------------------------------------------------------- handles */

void test_handles()
{
    counting memory;
    {
        cadft::context_desc desc;
        desc.allocator = &memory.c;
        desc.n_threads = 1;
        auto ctx = cadft::context::create(desc);
        cadft::loss a(ctx), b(ctx);
        cadft::model model(ctx);
        cadft::optimizer optimizer(ctx);
        model.init(config, 1);
        optimizer.add_model(model);
        model.reset(); // the optimizer keeps it
        ctx.reset();   // and everything the context
        CHECK(memory.destroyed == 0);
        cadft_loss *handle = a.get();
        cadft::loss moved = std::move(a);
        CHECK(moved.get() == handle && !a && moved);
        CHECK(status_of([&] { a.weigh(); }, "NULL") == CADFT_E_NULL);
        b = std::move(moved); // the old b is destroyed
        CHECK(b.get() == handle);
        cadft::loss adopted(b.release());
        CHECK(!b && adopted.get() == handle);
        adopted.reset();
        adopted.reset();
        optimizer.group("*", 1, 1);
        CHECK(memory.blocks > 0);
    }
    CHECK(memory.blocks == 0 && memory.bytes == 0 && memory.destroyed == 1);
    const cadft::context none;
    CHECK(status_of([&] { cadft::loss l(none); }) == CADFT_E_NULL);
    cadft::loss().cancel();
}

// Moved onto itself, swapped, in containers, after its context.
void test_moves()
{
    counting memory;
    std::vector<cadft::loss> losses;
    std::map<std::string, cadft::model> models;
    {
        cadft::context_desc desc;
        desc.allocator = &memory.c;
        const auto ctx = cadft::context::create(desc);
        for (int i = 0; i < 9; i++) {
            losses.emplace_back(ctx);
            losses.back().set("beta", i);
        }
        models.emplace("small", ctx);
        models["other"] = cadft::model(ctx);
    }
    CHECK(memory.destroyed == 0);
    std::swap(losses[0], losses[8]);
    CHECK(losses[0].get_f64("beta") == 8 && losses[8].get_f64("beta") == 0);
    losses.erase(losses.begin() + 1, losses.begin() + 7);
    CHECK(losses[1].get_f64("beta") == 7);
    cadft::loss &same = losses[1];
    losses[1] = std::move(same);
    CHECK(losses[1].get_f64("beta") == 7);
    models.at("small").init(config, 1);
    models.erase("other");
    losses.clear();
    CHECK(memory.destroyed == 0);
    models.clear();
    CHECK(memory.blocks == 0 && memory.bytes == 0 && memory.destroyed == 1);
}

/* ---------------------------------------------------------------- knobs */

void test_knobs()
{
    const auto ctx = cadft::context::create();
    cadft::loss loss(ctx);
    const std::string name = "beta";
    loss.set("beta", 2); // a whole number for f64
    CHECK(loss.get_f64(CADFT_LOSS_BETA) == 2);
    loss.set(CADFT_LOSS_BETA, 0.5f);
    CHECK(loss.get_f64(name) == 0.5);
    loss.set(name, "0.25");
    CHECK(loss.get_f64("beta") == 0.25);
    loss.set("scope", CADFT_SCOPE_RUNNING);
    CHECK(loss.get_str("scope") == "running");
    loss.set("scope", std::string("local"));
    CHECK(loss.get_i64("scope") == CADFT_SCOPE_LOCAL);
    loss.set("scope", std::string_view("exact"));
    loss.set("weighting", false);
    CHECK(loss.get_i64("weighting") == 0);
    CHECK(cadft::loss::key("beta") == CADFT_LOSS_BETA);
    const auto b = cadft::loss::bounds("running_decay");
    CHECK(b.type == 1 && b.smallest == 0 && b.largest < 1 && b.standard == 0.9);
    const auto all = cadft::loss::knobs();
    CHECK(all.size() == 21 && all[2].key == CADFT_LOSS_BETA);
    CHECK(all[2].name == name && cadft::model::knobs().size() == 2);
    cadft::model model(ctx);
    model.set("checkpointing", 1);
    model.set("weight_dtype", "bfloat16");
    CHECK(model.get_i64("weight_dtype") == CADFT_DTYPE_BF16);
    CHECK(status_of([&] { model.set("checkpointing", 0.5); }) == CADFT_E_KEY);
    cadft::rewrite rewrite(ctx, 5);
    rewrite.set("fraction", 1);
    CHECK(rewrite.get_f64("fraction") == 1);
    CHECK(rewrite.get_i64(CADFT_REWRITE_SAMPLES) == 5);
    CHECK(ctx.get_i64(CADFT_CONTEXT_WORKERS) >= 1);
    CHECK(ctx.get_str(CADFT_CONTEXT_BACKEND) == "cpu");
    CHECK(status_of([&] { loss.set("eps", -1.0); }) == CADFT_E_ARG);
    CHECK(ctx.get_str(CADFT_CONTEXT_LAST_ERROR).find("eps") !=
          std::string::npos);
}

/* ------------------------------------------------------------ callbacks */

void test_coefficient()
{
    const auto ctx = cadft::context::create();
    const auto life = std::make_shared<int>(0);
    batch b, sft;
    cadft::loss loss(ctx), plain(ctx);
    loss.set("objective", "host");
    plain.set("objective", "sft");
    const auto two = [life](cadft::span<const double> l, auto p, auto,
                            cadft::span<double> k) {
        ++*life;
        for (std::size_t i = 0; i < k.size(); i++) {
            CHECK(std::fabs(p[i] - std::exp(-l[i])) < 1e-12);
            k[i] = 2;
        }
    };
    loss.set_coefficient(two);
    CHECK(life.use_count() == 3);
    loss.compute(b.c(), 2, b.grad);
    plain.compute(sft.c(), 2, sft.grad);
    CHECK(*life == 1);
    for (int r = 0; r < 4; r++)
        for (int v = 0; v < 3; v++)
            CHECK(std::fabs(b.grad[r][v] - 2 * sft.grad[r][v]) < 1e-6);

    loss.set_coefficient([](auto, auto, auto, auto k) {
        if (k.size() == 4)
            throw own_exception{7};
    });
    CHECK(life.use_count() == 2); // the old one is destroyed
    CHECK(thrown_by([&] { loss.compute(b.c(), 2, b.grad); }) == 7);
    loss.begin(2);
    CHECK(thrown_by([&] { loss.observe(b.c()); }) == 7);
    loss.cancel();
    // Through C alone nobody can throw it, nor later.
    const cadft_loss_batch c = b.c().c();
    CHECK(cadft_loss_compute(loss.get(), &c, 2, nullptr, nullptr, nullptr,
                             nullptr) == CADFT_E_CALLBACK);
    loss.set_coefficient([](auto, auto, auto, auto) { return 5; });
    CHECK(status_of([&] { loss.compute(b.c(), 2, b.grad); }) ==
          CADFT_E_CALLBACK);
    // A call inside a callback has errors of its own.
    loss.set_coefficient([&](auto, auto, auto, auto k) {
        CHECK(status_of([&] { plain.weigh(); }) == CADFT_E_PHASE);
        for (auto &x : k)
            x = 1;
    });
    loss.compute(b.c(), 2, b.grad);
    loss.set_coefficient([&](auto, auto, auto, auto) { plain.weigh(); });
    CHECK(status_of([&] { loss.compute(b.c(), 2, b.grad); }, "weigh") ==
          CADFT_E_PHASE);
    loss.remove_coefficient();
    CHECK(status_of([&] { loss.compute(b.c(), 2, b.grad); }) != CADFT_OK);
}

void test_log()
{
    counting memory;
    const auto life = std::make_shared<int>(0);
    cadft::context_desc desc;
    desc.allocator = &memory.c;
    desc.log = [life](std::int32_t level, std::string_view line) {
        CHECK(level >= CADFT_LOG_WARNING && !line.empty());
        ++*life;
    };
    {
        const auto ctx = cadft::context::create(desc);
        CHECK(*life >= 1);
    }
    CHECK(life.use_count() == 2);
    desc.log = [](std::int32_t, std::string_view) { throw own_exception{3}; };
    CHECK(life.use_count() == 1);
    // It was made, and is destroyed before the sink's exception goes on.
    CHECK(thrown_by([&] { cadft::context::create(desc); }) == 3);
    CHECK(memory.blocks == 0 && memory.destroyed == 2);
    // A step that is skipped tells so, and has been counted.
    desc.log_level = CADFT_LOG_WARNING;
    const auto ctx = cadft::context::create(desc);
    cadft::optimizer optimizer(ctx);
    float value[2] = {1, 2};
    const float grad[2] = {std::numeric_limits<float>::quiet_NaN(), 0};
    optimizer.add("w", value, grad);
    CHECK(thrown_by([&] { optimizer.step(); }) == 3);
    CHECK(optimizer.get_i64(CADFT_OPTIMIZER_SKIPPED) == 1);
    CHECK(status_of([&] { optimizer.lr(-1); }) == CADFT_E_ARG);
}

std::vector<float> gradient(cadft::context_desc desc)
{
    const auto ctx = cadft::context::create(desc);
    cadft::loss loss(ctx);
    std::vector<float> z(256 * 64), out(z.size());
    std::vector<std::int32_t> y(256), s(256);
    for (std::size_t i = 0; i < z.size(); i++)
        z[i] = static_cast<float>(i * 7919 % 1009) / 200;
    for (std::size_t i = 0; i < y.size(); i++) {
        y[i] = static_cast<std::int32_t>(i % 64);
        s[i] = static_cast<std::int32_t>(i / 16);
    }
    loss.compute({cadft::matrix(z, 256, 64), y, s}, 16,
                 cadft::matrix(out, 256, 64));
    return out;
}

void test_parallel()
{
    int calls = 0;
    cadft::context_desc desc;
    desc.max_workers = 2;
    desc.parallel_for = [&](std::int64_t n, cadft::task run) {
        calls++;
        std::thread other([&] {
            for (std::int64_t i = 1; i < n; i += 2)
                run(i, 1);
        });
        for (std::int64_t i = 0; i < n; i += 2)
            run(i, 0);
        other.join();
    };
    cadft::context_desc single;
    single.n_threads = 1;
    CHECK(gradient(desc) == gradient(single));
    CHECK(calls > 0);
    desc.parallel_for = [](std::int64_t, cadft::task) {
        throw own_exception{4};
    };
    CHECK(thrown_by([&] { gradient(desc); }) == 4);
    desc.parallel_for = [](std::int64_t n, cadft::task run) {
        for (std::int64_t i = 1; i < n; i++) // one is missing
            run(i, 0);
    };
    CHECK(status_of([&] { gradient(desc); }) == CADFT_E_THREADS);
}

void test_token()
{
    const auto ctx = cadft::context::create();
    cadft::model model(ctx);
    model.init(config, 3);
    const std::vector<std::int32_t> prompts = {1, 2, 3, 4, 5};
    const std::vector<std::int32_t> ends = {0, 2, 5};
    cadft::generate_desc desc = {prompts, ends};
    desc.max_new_tokens = 4;
    const auto all = model.generate(desc);
    CHECK(all.size() == 2 && all[0].size() == 4 && all[1].size() == 4);
    int count = 0;
    const auto counted =
        model.generate(desc, [&](std::int64_t prompt, std::int64_t position,
                                 std::int32_t token, double logprob) {
            CHECK(all.at(static_cast<std::size_t>(prompt))
                          .at(static_cast<std::size_t>(position)) == token &&
                  logprob <= 0);
            count++;
        });
    CHECK(counted == all && count == 8);
    const auto one = model.generate(
        desc, [](auto prompt, auto, auto, auto) { return prompt == 0; });
    CHECK(one[0].size() == 1 && one[1].size() == 4);
    CHECK(thrown_by([&] {
              model.generate(desc, [](auto, auto position, auto, auto) {
                  if (position == 2)
                      throw own_exception{5};
              });
          }) == 5);
    CHECK(status_of([&] {
              model.generate(desc, [](auto, auto, auto, auto) { return -1; });
          }) == CADFT_E_CALLBACK);
    std::vector<std::int32_t> tokens(8);
    std::vector<std::int64_t> lengths(2), few(1);
    model.generate(desc, tokens, lengths);
    CHECK(tokens[0] == all[0][0] && tokens[7] == all[1][3] && lengths[1] == 4);
    CHECK(status_of([&] { model.generate(desc, tokens, few); }) ==
          CADFT_E_SPACE);
    tokens.pop_back();
    CHECK(status_of([&] { model.generate(desc, tokens, lengths); }) ==
          CADFT_E_SPACE);
    desc.keys = few;
    CHECK(status_of([&] { model.generate(desc); }) == CADFT_E_SPACE);
    desc.keys = {};
    desc.max_new_tokens = INT64_MAX;
    CHECK(status_of([&] { model.generate(desc); }) == CADFT_E_ARG);
    desc.max_new_tokens = -1;
    CHECK(status_of([&] { model.generate(desc); }) == CADFT_E_ARG);
}

} // namespace

int main()
{
    test_tensors();
    test_errors();
    test_handles();
    test_moves();
    test_knobs();
    test_coefficient();
    test_log();
    test_parallel();
    test_token();
    std::puts("calls");
}
