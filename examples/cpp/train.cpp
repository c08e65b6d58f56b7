// SPDX-License-Identifier: Apache-2.0
// train [FOLDER]
//
// Fine-tunes a small transformer with random weights on four demonstrations of
// counting, one of which is wrong, and continues a prompt. With FOLDER it
// leaves a checkpoint there, and goes on from one that it finds.
#include <cadft/cadft.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace
{

constexpr char config[] = R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "vocab_size": 16, "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": true})";

constexpr std::int64_t samples = 4;

// Demonstrations one after the other; row r predicts labels[r].
struct data {
    std::vector<std::int32_t> tokens, labels, ids, ends = {0};

    void add(std::initializer_list<std::int32_t> words)
    {
        const auto id = static_cast<std::int32_t>(ends.size() - 1);
        for (const auto *word = words.begin(); word != words.end(); word++) {
            tokens.push_back(*word);
            labels.push_back(word + 1 < words.end() ? word[1] : -100);
            ids.push_back(id);
        }
        ends.push_back(static_cast<std::int32_t>(tokens.size()));
    }
};

data demonstrations()
{
    data d;
    d.add({1, 2, 3, 4, 5, 6});
    d.add({3, 4, 5, 6, 7, 8});
    d.add({5, 6, 7, 8, 9, 10});
    d.add({2, 3, 4, 11, 0, 13});
    return d;
}

struct trainer {
    cadft::context ctx = cadft::context::create();
    cadft::model model{ctx};
    cadft::loss loss{ctx};
    cadft::optimizer optimizer{ctx};
};

// Random weights, or the newest checkpoint; returns the steps done.
std::int64_t begin(trainer &t, const std::string &folder)
{
    cadft::checkpoint point = {folder};
    point.step = folder.empty() ? -1 : cadft::checkpoint::find(t.ctx, folder);
    if (point.step < 0) {
        t.model.init(config, 7);
        t.optimizer.add_model(t.model);
        return 0;
    }
    point.model = &t.model;
    point.load(t.ctx); // the optimizer needs the parameters
    t.optimizer.add_model(t.model);
    point.model = nullptr;
    point.optimizer = &t.optimizer;
    point.loss = &t.loss;
    point.load(t.ctx);
    return point.step;
}

cadft_loss_report train_step(trainer &t, const data &d)
{
    t.model.zero_grad();
    const cadft::tensor logits = t.model.forward({d.tokens, d.ends});
    const auto report =
        t.loss.compute({logits, d.labels, d.ids}, samples, logits);
    t.model.backward(logits);
    t.optimizer.step();
    return report;
}

void save(trainer &t, const std::string &folder, std::int64_t step)
{
    cadft::checkpoint point = {folder, step};
    point.model = &t.model;
    point.optimizer = &t.optimizer;
    point.loss = &t.loss;
    point.save(t.ctx);
}

void train(const std::string &folder)
{
    trainer t;
    const data d = demonstrations();
    t.optimizer.set("lr", 1e-2);
    auto step = begin(t, folder);
    for (const auto last = step + 20; step < last; step++) {
        const auto report = train_step(t, d);
        std::printf("step %2d  loss %.4f  nll %.4f  smallest w %.3f\n",
                    static_cast<int>(step), report.loss, report.nll,
                    report.min_w);
    }

    const std::vector<std::int32_t> prompt = {4, 5};
    cadft::generate_desc wanted = {prompt};
    wanted.max_new_tokens = 4;
    const auto answers = t.model.generate(wanted);
    std::printf("4 5 ->");
    for (const auto token : answers.at(0))
        std::printf(" %d", static_cast<int>(token));
    std::printf("\n");
    if (!folder.empty())
        save(t, folder, step);
}

} // namespace

int main(int argc, char **argv)
try {
    train(argc > 1 ? argv[1] : "");
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s: %s\n", argv[0], e.what());
    return 1;
}
