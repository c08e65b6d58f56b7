// SPDX-License-Identifier: Apache-2.0
// The same host in C++17: structs filled field by field, handles owned.
#include <cadft/cadft.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

int main()
{
    const std::int64_t rows = 4, vocab = 5;
    std::vector<float> z = {0.5f, 1, -2, 0, 3, 0, 0, 0, 0, 0,
                            -1,   2, 2,  1, 0, 4, 0, 1, 0, -3};
    std::vector<std::int32_t> y = {0, 3, 1, 1}, s = {0, 0, 1, 1};
    cadft_error err = {};
    err.struct_size = sizeof err;

    cadft_context *context = nullptr;
    cadft_context_create(nullptr, &context, &err);
    std::unique_ptr<cadft_context, void (*)(cadft_context *)> owned(
        context, cadft_context_destroy);
    cadft_loss *loss = nullptr;
    cadft_loss_create(context, &loss, &err);
    std::unique_ptr<cadft_loss, void (*)(cadft_loss *)> owned_loss(
        loss, cadft_loss_destroy);

    std::int64_t shape[2] = {rows, vocab};
    cadft_tensor logits, labels, ids;
    cadft_tensor_init(&logits, sizeof logits, z.data(), CADFT_DTYPE_F32, 2,
                      shape, nullptr, &err);
    cadft_tensor_init(&labels, sizeof labels, y.data(), CADFT_DTYPE_I32, 1,
                      shape, nullptr, &err);
    cadft_tensor_init(&ids, sizeof ids, s.data(), CADFT_DTYPE_I32, 1, shape,
                      nullptr, &err);
    cadft_loss_batch batch = {};
    batch.struct_size = sizeof batch;
    batch.logits = &logits;
    batch.labels = &labels;
    batch.sample_ids = &ids;
    cadft_loss_report report = {};
    report.struct_size = sizeof report;
    if (cadft_loss_compute(loss, &batch, 2, &logits, nullptr, &report, &err)) {
        std::fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    std::printf("version %u, loss %.6f\n", cadft_version(), report.loss);
    return report.loss > 0 && std::isfinite(z[0]) ? 0 : 1;
}
