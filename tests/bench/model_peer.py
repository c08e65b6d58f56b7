#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's side of the model benchmark: transformers' Llama in float32, eager.

    python3 tests/bench/model_peer.py [--shape gpt2 smollm2] [--batch 4x256 1x1024]
                                      [--threads 1 2] [--kind train generate gemm]
                                      [--attention sdpa eager] [--repeat 3]
                                      [--installed]

Needs torch and transformers; written with 2.15.0 and 5.23.0. Prints a JSON line a measurement,
with all its repetitions in seconds, the first left out:

  train     forward and backward of mean cross-entropy (`seconds`), its forward part
            (`forward`), multiplications of matrices in it (`gflop`), resident memory: with the
            model loaded (`rss_model`) and at most (`rss_peak`), bytes, both including
            torch itself (`rss_torch`)
  generate  greedy, one sequence, key-value cache, 64 prompt and 64 new tokens: by a loop over
            the model (`prefill`, `decode`: the 63 tokens after the first), and by
            transformers' generate (`generate`: prompt and all 64)
  gemm      GFLOP/s of torch's product of float32 matrices: 2048 cubed, and those of the
            shape, forward (y), backward by input (dx) and by weight (dw)

The process keeps its heap and asks for huge pages, as PyTorch at its best does in compare.py.
With --installed it does not, which is the one for peak memory: a kept heap also
keeps what making the model took.
A script that measures something else beside it holds one by ModelPeer and takes turns. On a
busy machine take one thread: OpenMP's threads spin while they wait for each other."""
import argparse
import json
import subprocess
import sys
import time

SHAPES = {
    # GPT-2's size with a gated MLP: hidden * 8 / 3 makes it 123.6 million parameters.
    "gpt2": dict(vocab_size=50257, hidden_size=768, intermediate_size=2048,
                 num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=12,
                 max_position_embeddings=1024, rms_norm_eps=1e-5),
    # SmolLM2-135M.
    "smollm2": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536,
                    num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                    max_position_embeddings=8192, rms_norm_eps=1e-5),
}
PROMPT, NEW = 64, 64


class ModelPeer:
    """A child process: run(job) gives the record of one measurement. A job has kind, shape,
    threads, repeat, and but for gemm attention; train and gemm also batch and length. Peak
    memory is right in a child's first job only: the heap is kept."""

    def __init__(self, env, nice=0):
        self.process = subprocess.Popen(["nice", "-n", str(nice), sys.executable, __file__,
                                         "--peer"], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("model_peer.py: the PyTorch process died")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------- the child

def memory(field):
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def matrices(shape):
    """(name, inputs, outputs, how many) of the matrices that every row is multiplied by."""
    c = SHAPES[shape]
    hidden, layers = c["hidden_size"], c["num_hidden_layers"]
    key = hidden // c["num_attention_heads"] * c["num_key_value_heads"]
    return [("q_o", hidden, hidden, 2 * layers), ("k_v", hidden, key, 2 * layers),
            ("gate_up", hidden, c["intermediate_size"], 2 * layers),
            ("down", c["intermediate_size"], hidden, layers),
            ("head", hidden, c["vocab_size"], 1)]


def train_gflop(shape, batch, length):
    """Forward and backward: three products a matrix, and causal attention's two, of which
    backward has four (without what is computed again)."""
    c = SHAPES[shape]
    linear = 6 * batch * length * sum(i * o * n for _, i, o, n in matrices(shape))
    pairs = batch * length * (length + 1) // 2
    return (linear + 12 * pairs * c["hidden_size"] * c["num_hidden_layers"]) / 1e9


class Child:
    def __init__(self):
        import torch
        import transformers
        self.torch, self.transformers = torch, transformers
        self.rss_torch = memory("VmRSS")
        self.models = {}

    def model(self, job):
        key = job["shape"], job["attention"]
        if key not in self.models:
            self.models.clear()
            self.torch.manual_seed(1)
            config = self.transformers.LlamaConfig(tie_word_embeddings=True, eos_token_id=None,
                                                   **SHAPES[job["shape"]])
            self.models[key] = self.transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation=job["attention"], dtype=self.torch.float32)
        return self.models[key]

    def train(self, job):
        torch, model = self.torch, self.model(job).train()
        vocab = SHAPES[job["shape"]]["vocab_size"]
        tokens = torch.randint(vocab, (job["batch"], job["length"]))
        labels = torch.randint(vocab, (job["batch"] * job["length"],))
        record = {"rss_torch": self.rss_torch, "rss_model": memory("VmRSS"),
                  "seconds": [], "forward": []}
        for _ in range(job["repeat"] + 1):
            model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            logits = model(input_ids=tokens, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.view(-1, vocab), labels)
            middle = time.perf_counter()
            loss.backward()
            end = time.perf_counter()
            record["seconds"].append(end - start)
            record["forward"].append(middle - start)
            del logits, loss
        model.zero_grad(set_to_none=True)
        record.update(rss_peak=memory("VmHWM"), parameters=model.num_parameters(),
                      gflop=train_gflop(job["shape"], job["batch"], job["length"]))
        return record

    def decode(self, model, prompt):
        torch = self.torch
        start = time.perf_counter()
        out = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        middle = time.perf_counter()
        tokens = [token]
        for _ in range(NEW - 1):
            out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            tokens.append(token)
        end = time.perf_counter()
        return middle - start, end - middle, torch.cat(tokens, 1)

    def generate(self, job):
        torch, model = self.torch, self.model(job).eval()
        prompt = torch.randint(SHAPES[job["shape"]]["vocab_size"], (1, PROMPT))
        mask = torch.ones_like(prompt)
        record = {"prefill": [], "decode": [], "generate": [], "prompt": PROMPT, "new": NEW}
        with torch.inference_mode():
            for _ in range(job["repeat"] + 1):
                prefill, decode, tokens = self.decode(model, prompt)
                start = time.perf_counter()
                whole = model.generate(prompt, attention_mask=mask, do_sample=False,
                                       max_new_tokens=NEW, pad_token_id=0)
                record["generate"].append(time.perf_counter() - start)
                record["prefill"].append(prefill)
                record["decode"].append(decode)
        record["same_tokens"] = bool((whole[:, PROMPT:] == tokens).all())
        return record

    def rate(self, a, b, repeat):
        """GFLOP/s of a @ b, the best of the repetitions; one that is long is run twice."""
        gflop, best = 2e-9 * a.shape[0] * a.shape[1] * b.shape[1], float("inf")
        out = self.torch.empty(a.shape[0], b.shape[1])
        for turn in range(max(5, 3 * repeat)):
            start = time.perf_counter()
            self.torch.mm(a, b, out=out)
            seconds = time.perf_counter() - start
            best = min(best, seconds)
            if turn and seconds > 1:
                break
        return round(gflop / best, 2)

    def gemm(self, job):
        torch, rows = self.torch, job["batch"] * job["length"]
        cube = torch.randn(2048, 2048)
        record = {"cube_2048": self.rate(cube, cube.clone(), job["repeat"])}
        for name, inputs, outputs, _ in matrices(job["shape"]):
            x, w = torch.randn(rows, inputs), torch.randn(outputs, inputs)
            y = torch.randn(rows, outputs)
            record[name] = {"y": self.rate(x, w.t(), job["repeat"]),
                            "dx": self.rate(y, w, job["repeat"]),
                            "dw": self.rate(y.t(), x, job["repeat"])}
        return {"gflops": record}

    def run(self, job):
        self.torch.set_num_threads(job["threads"])
        record = getattr(self, job["kind"])(job)
        record = {k: v[1:] if isinstance(v, list) else v for k, v in record.items()}
        return dict(job, **record, torch=self.torch.__version__,
                    transformers=self.transformers.__version__)


def child():
    """One JSON job a line in, one JSON record a line out."""
    worker = Child()
    for line in sys.stdin:
        print(json.dumps(worker.run(json.loads(line))), flush=True)


# ---------------------------------------------------------------- by hand

def jobs(args):
    for shape in args.shape:
        for threads in args.threads:
            common = dict(shape=shape, threads=threads, repeat=args.repeat)
            for size in args.batch:
                batch, length = map(int, size.split("x"))
                sized = dict(common, batch=batch, length=length)
                if "gemm" in args.kind:
                    yield dict(sized, kind="gemm")
                if "train" in args.kind:
                    yield from (dict(sized, kind="train", attention=a) for a in args.attention)
            if "generate" in args.kind:
                yield from (dict(common, kind="generate", attention=a) for a in args.attention)


def main():
    import compare
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--batch", nargs="+", default=["4x256", "1x1024"], help="sequences x T")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kind", nargs="+", default=["train", "generate", "gemm"],
                        choices=["train", "generate", "gemm"])
    parser.add_argument("--attention", nargs="+", default=["sdpa", "eager"],
                        choices=["sdpa", "eager"])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--installed", action="store_true", help="allocator as it comes")
    parser.add_argument("--nice", type=int, default=0)
    args = parser.parse_args()
    env = compare.clean_environment() if args.installed else compare.best_environment()
    for job in jobs(args):
        peer = ModelPeer(env, args.nice)
        print(json.dumps(peer.run(job)), flush=True)
        peer.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--peer"]:
        child()
    else:
        main()
