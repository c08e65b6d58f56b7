// SPDX-License-Identifier: Apache-2.0
// What each noun does, with exceptions.
#include <cadft/cadft.hpp>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <vector>

#include "check.hpp"
#include "cases.hpp"

// What C++ itself allocates. Not inlined: gcc would see free() behind new.
static long long allocations = 0;

__attribute__((noinline)) void *operator new(std::size_t size)
{
    allocations++;
    if (void *memory = std::malloc(size ? size : 1))
        return memory;
    throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void *memory) noexcept
{
    std::free(memory);
}
__attribute__((noinline)) void operator delete(void *memory,
                                               std::size_t) noexcept
{
    std::free(memory);
}

namespace
{

/* ----------------------------------------------------------------- loss */

void test_loss()
{
    const auto ctx = cadft::context::create();
    cadft::loss loss(ctx), other(ctx);
    batch b;
    loss.begin(2);
    const auto micro = loss.observe(b.c());
    const auto sums = loss.export_values(CADFT_EXCHANGE_SAMPLES);
    CHECK(sums.size() == 8);
    loss.import_values(CADFT_EXCHANGE_SAMPLES, sums);
    loss.import_values(CADFT_EXCHANGE_MOMENTS,
                       loss.export_values(CADFT_EXCHANGE_MOMENTS));
    loss.weigh();
    loss.grad(micro, b.c(), b.grad);
    std::vector<double> w(2), short_w(1);
    CHECK(loss.samples(CADFT_SAMPLES_W, w) == 2);
    CHECK(loss.samples(CADFT_SAMPLES_W) == w);
    CHECK(status_of([&] { loss.samples(CADFT_SAMPLES_W, short_w); }) ==
          CADFT_E_SPACE);
    CHECK(loss.rows(micro, CADFT_ROWS_P).size() == 4);
    const auto report = loss.end();
    const auto whole = other.compute(b.c(), 2);
    CHECK(report.struct_size == sizeof report && report.loss > 0);
    CHECK(std::fabs(report.loss - whole.loss) < 1e-12);
    loss.set("scope", "running");
    other.set("scope", "running");
    loss.compute(b.c(), 2);
    const auto state = loss.state_save();
    other.state_load(state);
    CHECK(other.state_save() == state);
    CHECK(status_of([&] {
              other.state_load({state.data(), state.size() - 1});
          }) == CADFT_E_STATE);

    std::vector<std::int32_t> ids(6);
    const std::int64_t lengths[2] = {3, 1};
    cadft::sample_ids_padded(2, 3, lengths, 5, ids);
    CHECK((ids == std::vector<std::int32_t>{5, 5, 5, 6, -1, -1}));
    cadft::sample_ids_padded(2, 3, {}, 0, ids);
    CHECK((ids == std::vector<std::int32_t>{0, 0, 0, 1, 1, 1}));
    CHECK(status_of([&] { cadft::sample_ids_padded(2, 4, {}, 0, ids); }) ==
          CADFT_E_SPACE);
    const std::int32_t cu[3] = {0, 2, 6};
    cadft::sample_ids_cu_seqlens(cu, 0, ids);
    CHECK((ids == std::vector<std::int32_t>{0, 0, 1, 1, 1, 1}));
    const std::int32_t positions[6] = {0, 1, 2, 0, 1, 0};
    CHECK(cadft::sample_ids_position_ids(positions, 0, ids) == 3);
    CHECK((ids == std::vector<std::int32_t>{0, 0, 0, 1, 1, 2}));
    ids.pop_back();
    CHECK(status_of([&] {
              cadft::sample_ids_position_ids(positions, 0, ids);
          }) == CADFT_E_SPACE);
}

// No copy of the logits, and nothing allocated by these headers.
void test_no_copy()
{
    counting memory;
    cadft::context_desc desc;
    desc.allocator = &memory.c;
    const auto ctx = cadft::context::create(desc);
    cadft::loss loss(ctx);
    const std::int64_t rows = 64, vocab = 16384;
    std::vector<float> z(static_cast<std::size_t>(rows * vocab), 0.5f);
    const std::vector<std::int32_t> y(64, 3);
    std::vector<std::int32_t> s(64);
    cadft::sample_ids_padded(4, 16, {}, 0, s);
    const auto logits = cadft::matrix(z, rows, vocab);
    const auto before = allocations;
    const auto bytes = ctx.get_i64(CADFT_CONTEXT_BYTES);
    loss.compute({logits, y, s}, 4, logits);
    loss.begin(4);
    const auto micro = loss.observe({logits, y, s});
    loss.weigh();
    loss.grad(micro, {logits, y, s}, logits);
    loss.end();
    CHECK(allocations == before);
    const auto peak = ctx.get_i64(CADFT_CONTEXT_PEAK_BYTES) - bytes;
    CHECK(peak < rows * vocab * 4 / 16);
    std::printf("logits of %lld bytes, at most %lld more\n",
                static_cast<long long>(rows * vocab * 4),
                static_cast<long long>(peak));
}

/* ------------------------------------------------------ model, optimizer */

void test_training()
{
    const auto ctx = cadft::context::create();
    cadft::model model(ctx);
    cadft::loss loss(ctx);
    cadft::optimizer optimizer(ctx);
    model.init(config, 11);
    CHECK(model.plan({8}) > 0);
    model.reserve({8});
    loss.set("objective", "sft");
    optimizer.set("lr", 1e-2);
    CHECK(optimizer.add_model(model) == model.get_i64(CADFT_MODEL_PARAMETERS));
    CHECK(optimizer.group("model.layers.*", 1.0, 0.0) > 0);
    const std::vector<std::int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
    const std::vector<std::int32_t> labels = {2, 3, 4, -100, 6, 7, 8, -100};
    const std::vector<std::int32_t> ids = {0, 0, 0, 0, 1, 1, 1, 1};
    const std::vector<std::int64_t> ends = {0, 4, 8};
    double losses[3];
    for (double &value : losses) {
        model.zero_grad();
        const auto logits = model.forward({tokens, ends});
        CHECK(logits.size(0) == 8 && logits.size(1) == 11);
        CHECK(logits.as<float>().size() == 88);
        value = loss.compute({logits, labels, ids}, 2, logits).loss;
        model.backward(logits);
        const double norm = optimizer.norm();
        const auto report =
            &value == losses ? optimizer.step(norm) : optimizer.step();
        CHECK(std::fabs(report.grad_norm - std::sqrt(norm)) < 1e-9);
    }
    std::printf("loss %.4f, %.4f, %.4f\n", losses[0], losses[1], losses[2]);
    CHECK(losses[1] < losses[0] && losses[2] < losses[1]);
    CHECK(optimizer.lr(0) == 1e-2);

    const auto index = model.find("model.norm.weight");
    const cadft::parameter p = model.parameter(index);
    CHECK(std::string(p.name) == "model.norm.weight" && p.trainable);
    CHECK(p.value.ndim() == 1 && p.value.size(0) == 16 && p.grad);
    std::vector<float> copy(16);
    ctx.read(p.value, copy);
    CHECK(copy[3] == p.value.as<float>()[3]);
    copy[3] = 2;
    ctx.write(p.value, copy);
    CHECK(p.value.as<float>()[3] == 2);
    CHECK(status_of([&] { ctx.read(p.value, cadft::span(copy.data(), 15)); }) ==
          CADFT_E_SPACE);
    CHECK(model.freeze("model.layers.*") > 0);
    const cadft::parameter frozen =
        model.parameter(model.find("model.layers.0.mlp.up_proj.weight"));
    CHECK(!frozen.trainable && !frozen.grad && frozen.value);
    CHECK(model.thaw("model.layers.*") > 0);
    CHECK(status_of([&] { model.find("no"); }) == CADFT_E_KEY);
    cadft::model_batch evaluated = {tokens};
    evaluated.no_grad = true;
    CHECK(status_of([&] { model.backward(model.forward(evaluated)); }) ==
          CADFT_E_PHASE);
}

/* ------------------------------------------------- rewrite, checkpoints */

void test_rewrite()
{
    const auto ctx = cadft::context::create();
    cadft::rewrite rewrite(ctx, 8);
    rewrite.set("warmup_steps", 0);
    rewrite.set("interval", 1);
    rewrite.set("fraction", 0.25);
    rewrite.set("probability", 1.0);
    rewrite.set("min_observations", 1);
    const std::vector<std::int64_t> ids = {0, 1, 2, 3};
    const std::vector<double> c = {1, 2, 3, 4}, chat = {-1, 2, 1, -2};
    rewrite.observe(ids, c, chat);
    CHECK(status_of([&] {
              rewrite.observe(ids, c, {chat.data(), 3});
          }) == CADFT_E_SHAPE);
    CHECK(rewrite.due(5));
    CHECK(rewrite.sample(1).average == 2 && rewrite.sample(1).c == 2);
    const std::vector<std::int64_t> picks = {1, 2};
    CHECK(rewrite.select(5) == picks && rewrite.open() == picks);
    CHECK(status_of([&] { rewrite.select(6); }) == CADFT_E_PHASE);
    const std::vector<std::int32_t> answer = {7, 8, 9};
    cadft::rewrite_result result = {answer};
    CHECK(rewrite.commit(1, result) == CADFT_REJECTED_NOT_ENDED);
    rewrite.cancel();
    CHECK(rewrite.open().empty() && rewrite.select(6) == picks);
    result.ended = true;
    CHECK(rewrite.commit(1, result) == CADFT_REJECTED_NOT);
    rewrite.reject(2);
    const auto target = rewrite.target(1);
    CHECK(target.size() == 3 && target[2] == 9);
    CHECK(!rewrite.target(2).data());
    cadft::rewrite other(ctx, 8);
    other.state_load(rewrite.state_save());
    CHECK(other.target(1).size() == 3);
    other.restore(1);
    CHECK(!other.target(1).data());
    CHECK(status_of([&] { other.target(8); }) == CADFT_E_SAMPLE);
}

void test_checkpoint()
{
    const auto ctx = cadft::context::create();
    const std::filesystem::path folder = "checkpoints";
    std::filesystem::remove_all(folder);
    cadft::model model(ctx), again(ctx);
    cadft::loss loss(ctx);
    cadft::rewrite rewrite(ctx, 3);
    model.init(config, 5);
    CHECK(cadft::checkpoint::find(ctx, folder) == -1);
    const std::byte order[3] = {std::byte{1}, std::byte{2}, std::byte{3}};
    cadft::checkpoint point = {folder};
    point.step = 7;
    point.model = &model;
    point.loss = &loss;
    point.rewrite = &rewrite;
    point.host = order;
    point.save(ctx);
    CHECK(cadft::checkpoint::find(ctx, folder) == 7);
    CHECK(cadft::checkpoint::find(ctx, folder, 7) == -1);
    point.model = &again;
    const auto host = point.load(ctx);
    CHECK(host.size() == 3 && host[2] == std::byte{3});
    CHECK(again.get_i64(CADFT_MODEL_ELEMENTS) ==
          model.get_i64(CADFT_MODEL_ELEMENTS));
    const auto path = cadft::checkpoint::path(folder, 7);
    CHECK(path == "checkpoints/step-00000007");
    cadft::model third(ctx);
    third.load(path);
    third.save("model");
    cadft::optimizer optimizer(ctx), loaded(ctx);
    optimizer.add_model(third);
    optimizer.save("optimizer");
    loaded.add_model(third);
    loaded.load("optimizer");
    // Without host's bytes, and damaged.
    point.model = nullptr;
    point.host = {};
    point.step = 8;
    point.save(ctx);
    CHECK(point.load(ctx).empty());
    std::filesystem::resize_file(folder / "step-00000008/checkpoint.json", 5);
    CHECK(cadft::checkpoint::find(ctx, folder) == 8);
    CHECK(status_of([&] { point.load(ctx); }, "step-00000008") ==
          CADFT_E_FORMAT);
    CHECK(cadft::checkpoint::find(ctx, folder, 8) == 7);
}

} // namespace

int main()
{
    test_loss();
    test_no_copy();
    test_training();
    test_rewrite();
    test_checkpoint();
    std::puts("nouns");
}
