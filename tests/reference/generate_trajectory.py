# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/trajectory/steps.json, fine-tuning by PyTorch; run by hand.

    python3 -m venv env && env/bin/pip install torch transformers numpy safetensors
    env/bin/python tests/reference/generate_trajectory.py            write the file
    env/bin/python tests/reference/generate_trajectory.py --check    make it anew and compare;
                                                                     1: they differ

The committed one is of torch 2.15.0, transformers 5.23.0, numpy 2.4.6.

A case is STEPS optimizer steps, in float64, of a small model of tests/golden/models. The loss is
written here from the formulas of doc/method.md, its gradient is autograd's, clipping and AdamW
are torch's. A demonstration goes through the model alone, so nothing of packing enters; GROUPS
are the micro-batches, in which statistics of one micro-batch or running ones see a step.

The file: of each model the demonstrations (`tokens`, the first `prompt` of them given); `batches`
[steps, demonstrations of the step]; `groups`, how many of these are in each micro-batch; and of
each case the knobs of `loss` and `optimizer`, by their names, where they may differ from the
library's defaults; and in `steps`, per step,

    lr, norm     rate; norm of the gradient before clipping
    loss, nll    sum of scale * w * token loss; mean negative log-likelihood
    c, w         per demonstration of the step

and of the `parameters` in the end `norm`, `moved` (norm of the change), `largest` magnitude,
and `elements`, one at each of PLACES (shares of the count, row-major). Half of the demonstrations are mostly the model's own
words, so that they differ in compatibility.

Each run prints how far torch's float32 is from float64, and fails where that is more than
LIMIT. AdamW begins with the sign of the gradient: an element that is all but zero in the first
step goes wherever rounding sends it, and the run tells of that element only. Then another SEED
or model is due; those with large logits or with biases of keys (which nearly cancel out) rarely
do."""
import json
import math
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import model_truth

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
FILE = GOLDEN / "trajectory" / "steps.json"
STEPS, DEMONSTRATIONS, GROUPS = 20, 24, (3, 5)
PLACES = (0.0, 0.21, 0.5, 0.77, 0.999)
SEED, LIMIT = 20, 8e-6

OPTIMIZER = dict(lr="0.002", beta1="0.9", beta2="0.95", eps="1e-8", weight_decay="0.01",
                 clip_norm="1", schedule="cosine", planned_steps=str(STEPS), warmup_steps="3",
                 lr_floor="0.1")
LOSS = dict(objective="dft", weighting="1", beta="1", eps="1e-6", ddof="0", scope="exact",
            running_decay="0.9", renormalise="0", reduction="token_mean")
CASES = [
    dict(name="sft", model="llama_tied", loss=dict(objective="sft", weighting="0")),
    dict(name="dft", model="llama_tied", loss=dict(weighting="0")),
    dict(name="cadft", model="llama_tied", loss={}),
    dict(name="cadft_running", model="llama_tied", loss=dict(scope="running")),
    dict(name="cadft_local", model="mistral", loss=dict(scope="local", reduction="sum"),
         optimizer=dict(grad_scale="0.01", clip_norm="0.1")),
    dict(name="weighted_sft", model="qwen3",
         loss=dict(objective="sft", beta="2", ddof="1", renormalise="1",
                   reduction="sample_mean")),
]


# -------------------------------------------------------------------------------------- data

def load(name):
    """The stored parameters (exact in float32) and the configuration."""
    folder = GOLDEN / "models" / name
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return (AutoConfig.from_pretrained(folder),
            {key: value.clone() for key, value in stored.state_dict().items()})


@torch.no_grad()
def demonstrate(truth, vocab, rng):
    """One demonstration: a random prompt, then words of the model's or random ones."""
    prompt, length = int(rng.integers(1, 6)), int(rng.integers(3, 15))
    share = rng.choice([0.1, 0.8])
    tokens = rng.integers(0, vocab, prompt).tolist()
    for _ in range(length):
        p = torch.softmax(truth.forward(tokens, use_cache=False).logits[0, -1], -1).numpy()
        own = rng.random() < share
        tokens.append(int(rng.choice(vocab, p=p) if own else rng.integers(0, vocab)))
    return {"prompt": prompt, "tokens": tokens}


def make_data(name):
    config, state = load(name)
    truth, rng = model_truth.Truth(config, state), np.random.default_rng(SEED)
    return [demonstrate(truth, config.vocab_size, rng) for _ in range(DEMONSTRATIONS)]


def make_batches():
    """Epochs in random order, cut into steps."""
    rng, size = np.random.default_rng([SEED, 1]), sum(GROUPS)
    epochs = math.ceil(STEPS * size / DEMONSTRATIONS)
    order = np.concatenate([rng.permutation(DEMONSTRATIONS) for _ in range(epochs)])
    return order[:STEPS * size].reshape(STEPS, size).tolist()


# -------------------------------------------------------------------------------------- loss

class Weights:
    """c of the demonstrations to w; keeps what scope running remembers."""

    def __init__(self, knobs):
        self.k, self.past = knobs, [0.0, 0.0, 0.0]

    def statistics(self, c):
        mu, n = sum(c) / len(c), len(c) - int(self.k["ddof"])
        return mu, math.sqrt(sum((x - mu) ** 2 for x in c) / n) if n > 0 else 0.0

    def weigh(self, c):
        """Of all micro-batches of a step: c[g] is a list."""
        every = [x for group in c for x in group]
        if self.k["weighting"] == "0":
            return [1.0] * len(every)
        if self.k["scope"] == "exact":
            used = [self.statistics(every)] * len(c)
        elif self.k["scope"] == "running" and self.past[2] > 0:
            used = [(self.past[0] / self.past[2], self.past[1] / self.past[2])] * len(c)
        else:
            used = [self.statistics(group) for group in c]
        beta, eps = float(self.k["beta"]), float(self.k["eps"])
        w = [math.exp(-beta * max(0.0, (x - mu) / (sigma + eps)))
             for group, (mu, sigma) in zip(c, used) for x in group]
        if self.k["renormalise"] == "1":
            w = [x * len(w) / sum(w) for x in w]
        decay = float(self.k["running_decay"])
        self.past = [decay * a + (1 - decay) * b
                     for a, b in zip(self.past, (*self.statistics(every), 1.0))]
        return w


def nll(truth, demonstration):
    """[counted rows], differentiable: token t + 1 from the logits at t, none of the prompt."""
    tokens = torch.as_tensor(demonstration["tokens"])
    logits = truth.forward(demonstration["tokens"], use_cache=False).logits[0]
    each = torch.logsumexp(logits[:-1], -1) - logits[:-1].gather(1, tokens[1:, None])[:, 0]
    return each[demonstration["prompt"] - 1:]


def loss_of(rows, w, k):
    """Of lists of NLL by demonstration."""
    total = sum(len(l) for l in rows)
    parts = []
    for l, weight in zip(rows, w):
        token = l if k["objective"] == "sft" else torch.exp(-l).detach() * l
        scale = {"token_mean": 1 / total, "sample_mean": 1 / (len(rows) * len(l)),
                 "sum": 1.0}[k["reduction"]]
        parts.append(weight * scale * token.sum())
    return sum(parts)


# ------------------------------------------------------------------------------------- steps

def rate(step, k):
    planned, warm = int(k["planned_steps"]), int(k["warmup_steps"])
    if step < warm:
        return (step + 1) / warm
    floor = float(k["lr_floor"])
    return floor + (1 - floor) * (1 + math.cos(math.pi * (step - warm) / (planned - warm))) / 2


def make_optimizer(parameters, k):
    decay = float(k["weight_decay"])
    groups = [dict(params=[p for p in parameters if p.ndim > 1], weight_decay=decay),
              dict(params=[p for p in parameters if p.ndim == 1], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=float(k["lr"]), eps=float(k["eps"]),
                                  betas=(float(k["beta1"]), float(k["beta2"])))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: rate(t, k))


def train(case, data, batches, double=True):
    truth = model_truth.Truth(*load(case["model"]), double=double)
    kl, ko = {**LOSS, **case["loss"]}, {**OPTIMIZER, "grad_scale": "1", **case["optimizer"]}
    parameters = dict(truth.model.named_parameters())
    first = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer, schedule = make_optimizer(parameters.values(), ko)
    weights = Weights(kl)
    steps = {key: [] for key in ("lr", "norm", "loss", "nll", "c", "w")}
    for batch in batches:
        optimizer.zero_grad()
        rows = [nll(truth, data[i]) for i in batch]
        c = [float(l.detach().mean()) for l in rows]
        w = weights.weigh([c[:GROUPS[0]], c[GROUPS[0]:]])
        loss = loss_of(rows, w, kl)
        loss.backward()
        for p in parameters.values():
            p.grad *= float(ko["grad_scale"])
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), float(ko["clip_norm"]))
        values = (schedule.get_last_lr()[0], float(norm), float(loss.detach()),
                  float(torch.cat(rows).detach().mean()), c, w)
        for key, value in zip(steps, values):
            steps[key].append(value)
        optimizer.step()
        schedule.step()
    return steps, {name: digest(p.detach(), first[name]) for name, p in parameters.items()}


def digest(value, first):
    flat = value.double().flatten()
    return {"norm": float(flat.norm()), "moved": float((value - first).double().norm()),
            "elements": [float(flat[int(place * len(flat))]) for place in PLACES],
            "largest": float(flat.abs().max())}


# -------------------------------------------------------------------------------------- file

def gap(a, b, unit=None):
    """Largest difference, in units of b or of `unit`."""
    a, b = np.array(a), np.array(b)
    return float(np.max(np.abs(a - b) / (np.abs(b) if unit is None else unit)))


def tell(case, double, single):
    """How the case went, and its float32."""
    s, end = double
    print(f"{case['name']}: loss {s['loss'][0]:.4f} to {s['loss'][-1]:.4f}, nll "
          f"{s['nll'][0]:.3f} to {s['nll'][-1]:.3f}, norm {min(s['norm']):.3f} to "
          f"{max(s['norm']):.3f}, least w {min(map(min, s['w'])):.3f}, moved "
          f"{min(d['moved'] / d['norm'] for d in end.values()):.1e} to "
          f"{max(d['moved'] / d['norm'] for d in end.values()):.1e}")
    gaps = {key: gap(single[0][key], s[key]) for key in s}
    for key in ("norm", "moved", "elements"):
        gaps["end " + key] = max(
            gap(single[1][n][key], d[key], d["largest"] if key == "elements" else None)
            for n, d in end.items())
    print("    float32: " + ", ".join(f"{key} {value:.1e}" for key, value in gaps.items()))
    assert max(gaps.values()) < LIMIT, "take another seed"


def rounded(x):
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(y) for y in x]
    return float(f"{x:.12g}") if isinstance(x, float) else x


def make():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    batches = make_batches()
    models = {name: make_data(name) for name in sorted({case["model"] for case in CASES})}
    out = {"groups": list(GROUPS), "places": list(PLACES), "batches": batches,
           "models": models, "cases": []}
    for case in CASES:
        case = {"optimizer": {}, **case}
        data = models[case["model"]]
        result = train(case, data, batches)
        tell(case, result, train(case, data, batches, double=False))
        case["optimizer"] = {**OPTIMIZER, **case["optimizer"]}
        out["cases"].append({**case, "steps": rounded(result[0]),
                             "parameters": rounded(result[1])})
    text = json.dumps(out, separators=(",", ":"))
    return text.replace('{"name"', '\n{"name"').replace('"models"', '\n"models"') + "\n"


def same(a, b):
    """Alike, numbers to 1e-7: BLAS and libm may differ from machine to machine."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return abs(a - b) <= 1e-7 * max(abs(a), 1e-3)
    return a == b


def main():
    text = make()
    if "--check" in sys.argv:
        good = same(json.loads(text), json.loads(FILE.read_text()))
        print("as committed" if good else "differs from the committed file")
        return 0 if good else 1
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text)
    print(f"{len(text)} bytes, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
