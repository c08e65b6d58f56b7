// SPDX-License-Identifier: Apache-2.0
// golden FILE
//
// Replays the golden cases of the loss, as text (doc/bindings.md), and expects
// the same bits: in phases, and those of one micro-batch and scope exact by
// compute as well.
#include <cadft/cadft.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "check.hpp"

namespace
{

std::string hex(const void *data, std::size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(2 * bytes);
    for (std::size_t i = 0; i < bytes; i++) {
        const unsigned byte = static_cast<const unsigned char *>(data)[i];
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    return out;
}

template <class T> std::string hex(const std::vector<T> &values)
{
    return hex(values.data(), values.size() * sizeof(T));
}

// An input: its memory is aligned for all types.
struct array {
    std::int32_t type = 0;
    std::vector<std::int64_t> shape;
    std::vector<std::uint64_t> memory;

    cadft::const_tensor view() const
    {
        if (!type)
            return {};
        return {static_cast<const void *>(memory.data()), type, shape};
    }
};

array read_array(std::istream &words)
{
    static const std::map<std::string, std::int32_t> types = {
        {"f32", cadft::dtype<float>()},
        {"f64", cadft::dtype<double>()},
        {"f16", cadft::dtype<cadft::float16>()},
        {"bf16", cadft::dtype<cadft::bfloat16>()},
        {"i32", cadft::dtype<std::int32_t>()},
        {"i64", cadft::dtype<std::int64_t>()}};
    array a;
    std::string name, digits;
    std::size_t ndim = 0;
    words >> name >> ndim;
    a.type = types.at(name);
    a.shape.resize(ndim);
    for (auto &n : a.shape)
        words >> n;
    words >> digits;
    a.memory.resize(digits.size() / 16 + 1);
    auto *byte = reinterpret_cast<unsigned char *>(a.memory.data());
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        *byte++ = static_cast<unsigned char>(
            std::stoi(digits.substr(i, 2), nullptr, 16));
    return a;
}

struct micro {
    array logits, labels, ids, k;
    std::int64_t vocab_valid = 0;

    cadft::loss_batch batch() const
    {
        cadft::loss_batch b = {logits.view(), labels.view(), ids.view()};
        b.k = k.view();
        b.vocab_valid = vocab_valid;
        return b;
    }
    std::vector<float> grad() const
    {
        std::size_t n = 1;
        for (const auto size : logits.shape)
            n *= static_cast<std::size_t>(size);
        return std::vector<float>(n);
    }
};

// What goes in, and the lines that should come out.
struct step {
    std::int64_t n_samples = 0;
    std::vector<micro> micros;
    std::vector<std::string> lines;
};

struct golden {
    std::string name;
    std::vector<std::pair<std::string, std::string>> options;
    std::vector<step> steps;
};

void read_line(golden &g, const std::string &line)
{
    std::istringstream words(line);
    std::string word;
    words >> word;
    const bool described = std::count(line.begin(), line.end(), ' ') > 2;
    if (word == "option") {
        std::string name, value;
        words >> name >> value;
        g.options.emplace_back(name, value);
    } else if (word == "step") {
        g.steps.emplace_back();
        words >> g.steps.back().n_samples;
    } else if (word == "micro") {
        g.steps.back().micros.emplace_back();
        words >> g.steps.back().micros.back().vocab_valid;
    } else if (word == "logits") {
        g.steps.back().micros.back().logits = read_array(words);
    } else if (word == "labels") {
        g.steps.back().micros.back().labels = read_array(words);
    } else if (word == "sample_ids") {
        g.steps.back().micros.back().ids = read_array(words);
    } else if (word == "k" && described) {
        g.steps.back().micros.back().k = read_array(words);
    } else {
        g.steps.back().lines.push_back(line);
    }
}

std::vector<golden> read(const char *path)
{
    std::vector<golden> all;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("case ", 0) == 0)
            all.push_back({line.substr(5), {}, {}});
        else
            read_line(all.back(), line);
    }
    return all;
}

using lines = std::vector<std::string>;

void gradient(cadft::loss &loss,
              std::int64_t number,
              const micro &m,
              lines &out)
{
    auto grad = m.grad();
    loss.grad(number, m.batch(),
              {grad.data(), CADFT_DTYPE_F32, m.logits.shape});
    out.push_back("grad " + hex(grad));
    out.push_back("l " + hex(loss.rows(number, CADFT_ROWS_NLL)));
    out.push_back("k " + hex(loss.rows(number, CADFT_ROWS_K)));
    out.push_back("scale " + hex(loss.rows(number, CADFT_ROWS_SCALE)));
}

void finish(const cadft_loss_report &report, lines &out)
{
    out.push_back("loss " + hex(&report.loss, sizeof report.loss));
    out.push_back("mean_w " + hex(&report.mean_w, sizeof report.mean_w));
}

void in_phases(cadft::loss &loss, const step &s, lines &out)
{
    const bool exact = loss.get_i64("scope") == CADFT_SCOPE_EXACT;
    std::vector<std::int64_t> numbers;
    loss.begin(s.n_samples);
    for (const auto &m : s.micros) {
        numbers.push_back(loss.observe(m.batch()));
        if (!exact) {
            loss.weigh();
            gradient(loss, numbers.back(), m, out);
        }
    }
    if (exact) {
        loss.weigh();
        for (std::size_t i = 0; i < numbers.size(); i++)
            gradient(loss, numbers[i], s.micros[i], out);
    }
    out.push_back("c " + hex(loss.samples(CADFT_SAMPLES_C)));
    out.push_back("w " + hex(loss.samples(CADFT_SAMPLES_W)));
    finish(loss.end(), out);
}

void in_one_call(cadft::loss &loss, const step &s, lines &out)
{
    const micro &m = s.micros.at(0);
    auto grad = m.grad();
    const auto report = loss.compute(
        m.batch(), s.n_samples, {grad.data(), CADFT_DTYPE_F32, m.logits.shape});
    out.push_back("grad " + hex(grad));
    out.push_back("l " + hex(loss.rows(0, CADFT_ROWS_NLL)));
    out.push_back("k " + hex(loss.rows(0, CADFT_ROWS_K)));
    out.push_back("scale " + hex(loss.rows(0, CADFT_ROWS_SCALE)));
    out.push_back("c " + hex(loss.samples(CADFT_SAMPLES_C)));
    out.push_back("w " + hex(loss.samples(CADFT_SAMPLES_W)));
    finish(report, out);
}

// The lines of one step, its error among them.
template <class F> bool same(const golden &g, const step &s, F run)
{
    lines out;
    try {
        run(out);
        out.push_back("status 0 ");
    } catch (const cadft::error &e) {
        out.push_back("status " + std::to_string(e.status()) + " " + e.what());
    }
    for (std::size_t i = 0; i < s.lines.size() || i < out.size(); i++) {
        const std::string is = i < out.size() ? out[i] : "";
        const std::string expected = i < s.lines.size() ? s.lines[i] : "";
        if (is == expected)
            continue;
        std::cerr << g.name << ", line " << i << "\n  is       "
                  << is.substr(0, 200) << "\n  expected "
                  << expected.substr(0, 200) << "\n";
        return false;
    }
    return true;
}

struct counts {
    int cases = 0, errors = 0, computed = 0, failed = 0;
};

void replay(const cadft::context &ctx, const golden &g, counts &n)
{
    cadft::loss loss(ctx), other(ctx);
    for (const auto &[name, value] : g.options) {
        loss.set(name, value);
        other.set(name, value);
    }
    const bool exact = loss.get_i64(CADFT_LOSS_SCOPE) == CADFT_SCOPE_EXACT;
    n.cases++;
    for (const auto &s : g.steps) {
        const bool error = s.lines.back() != "status 0 ";
        n.errors += error;
        n.failed += !same(g, s, [&](lines &out) { in_phases(loss, s, out); });
        loss.cancel();
        if (exact && s.micros.size() == 1 && !error) {
            n.computed++;
            n.failed +=
                !same(g, s, [&](lines &out) { in_one_call(other, s, out); });
        }
    }
}

} // namespace

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    counts n;
    const auto ctx = cadft::context::create();
    for (const auto &g : read(argv[1]))
        replay(ctx, g, n);
    std::cout << n.cases << " cases, " << n.errors << " with errors; "
              << n.computed << " by compute too; " << n.failed << " failed\n";
    return n.failed || !n.cases || !n.errors || !n.computed ? 1 : 0;
}
