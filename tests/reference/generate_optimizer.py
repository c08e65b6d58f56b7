# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/optimizer/steps.json with PyTorch's optimizers; run by hand.

    python3 -m venv env && env/bin/pip install torch
    env/bin/python tests/reference/generate_optimizer.py            write the file
    env/bin/python tests/reference/generate_optimizer.py --check    make it anew and compare;
                                                                    1: it differs

The committed one is of torch 2.15.0.

A case is STEPS steps of torch.optim.AdamW or SGD in float64 on three small tensors, with
clip_grad_norm_ and the schedulers of torch.optim.lr_scheduler. Initial values and gradients
are made of integers by a rule that test_optimizer_golden.c has too (`number`), exact in
float32, with `bits` 8 in bfloat16 too: so the file holds results only. `knobs` are those of
cadft_optimizer_set_str; `groups` are [pattern, lr_scale, decay_scale].

Each run prints how far torch's own float32 is from its float64, in units of the largest
weight of a tensor: what the test may ask of another float32."""
import fnmatch
import json
import math
import pathlib
import sys

import torch
from torch.optim import lr_scheduler

FILE = pathlib.Path(__file__).resolve().parent.parent / "golden" / "optimizer" / "steps.json"
STEPS = 50
KEPT = (1, 10, STEPS)
SHAPES = {"block.weight": (3, 5), "block.bias": (7,), "embed.weight": (2, 2, 3)}
MASK = (1 << 64) - 1

CASES = [
    dict(name="adamw", knobs=dict(lr="0.01", clip_norm="0")),
    dict(name="adamw_defaults", knobs=dict()),
    dict(name="adamw_linear", bits=8,
         knobs=dict(lr="0.02", weight_decay="0.1", schedule="linear", planned_steps="60",
                    warmup_steps="7")),
    dict(name="adamw_cosine",
         knobs=dict(lr="0.02", beta1="0.8", beta2="0.99", eps="1e-6", schedule="cosine",
                    planned_steps="40", warmup_fraction="0.1", lr_floor="0.1")),
    dict(name="adamw_groups", bits=8,
         knobs=dict(lr="0.01", weight_decay="0.2"),
         groups=[["*", 1.0, 0.5], ["block.*", 0.25, 2.0], ["*.bias", 3.0, 0.0]]),
    dict(name="adamw_scaled",
         knobs=dict(lr="0.01", grad_scale="0.015625", clip_norm="0.05")),
    dict(name="sgd", knobs=dict(kind="sgd", lr="0.1", momentum="0", weight_decay="0",
                                clip_norm="0")),
    dict(name="sgd_momentum", bits=8,
         knobs=dict(kind="sgd", lr="0.01", momentum="0.9", weight_decay="0.05", clip_norm="2",
                    schedule="cosine", planned_steps="50", lr_floor="0.05")),
    dict(name="sgd_nesterov",
         knobs=dict(kind="sgd", lr="0.02", momentum="0.8", nesterov="1", weight_decay="0.01",
                    schedule="linear", planned_steps="45", lr_floor="0.5")),
]

DEFAULTS = dict(kind="adamw", lr="5e-5", beta1="0.9", beta2="0.95", eps="1e-8",
                weight_decay="0.01", momentum="0.9", nesterov="0", clip_norm="1",
                grad_scale="1", schedule="constant", planned_steps="0", warmup_steps="0",
                warmup_fraction="0", lr_floor="0")


def number(seed, step, tensor, element, bits):
    """An integer of `bits` bits, below 0 too, over 2^(bits - 1): in [-1, 1). step 0: initial
    values. splitmix64's mixing of a counter."""
    z = (seed * 1000003 + step * 10007 + tensor * 1009 + element + 1) * 0x9e3779b97f4a7c15 & MASK
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9 & MASK
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb & MASK
    z ^= z >> 31
    return ((z >> (64 - bits)) - (1 << (bits - 1))) / (1 << (bits - 1))


def fill(case, step, index, shape, dtype):
    count = int(torch.Size(shape).numel())
    values = [number(case["seed"], step, index, i, case["bits"]) for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).to(dtype).reshape(shape)


def scales(case, name, shape):
    lr, decay = 1.0, 1.0 if len(shape) > 1 else 0.0
    for pattern, lr_scale, decay_scale in case["groups"]:
        if fnmatch.fnmatchcase(name, pattern):
            lr, decay = lr_scale, decay_scale
    return lr, decay


def schedule(optimizer, k):
    planned = int(k["planned_steps"])
    warm = int(k["warmup_steps"]) or round(float(k["warmup_fraction"]) * planned)
    floor, lr = float(k["lr_floor"]), float(k["lr"])
    if k["schedule"] == "constant":
        after = lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=1)
    elif k["schedule"] == "linear":
        after = lr_scheduler.LinearLR(optimizer, 1.0, floor, total_iters=planned - warm)
    elif not warm and planned >= STEPS:
        after = lr_scheduler.CosineAnnealingLR(optimizer, planned, eta_min=floor * lr)
    else:  # CosineAnnealingLR rises again behind its end
        def cosine(t):
            x = min(1.0, t / (planned - warm))
            return (1 + math.cos(math.pi * x)) / 2 * (1 - floor) + floor
        after = lr_scheduler.LambdaLR(optimizer, cosine)
    if not warm:
        return after
    rise = lr_scheduler.LinearLR(optimizer, 1.0 / warm, 1.0, total_iters=warm - 1)
    return lr_scheduler.SequentialLR(optimizer, [rise, after], [warm])


def build(case, k, dtype):
    parameters, groups = [], []
    for index, (name, shape) in enumerate(SHAPES.items()):
        parameter = torch.nn.Parameter(fill(case, 0, index, shape, dtype))
        lr_scale, decay_scale = scales(case, name, shape)
        parameters.append(parameter)
        groups.append(dict(params=[parameter], lr=float(k["lr"]) * lr_scale,
                           weight_decay=float(k["weight_decay"]) * decay_scale))
    # The first group tells the rate of the schedule; it has no parameters.
    groups.insert(0, dict(params=[torch.nn.Parameter(torch.zeros(0, dtype=dtype))],
                          lr=float(k["lr"]), weight_decay=0.0))
    if k["kind"] == "adamw":
        return parameters, torch.optim.AdamW(
            groups, betas=(float(k["beta1"]), float(k["beta2"])), eps=float(k["eps"]))
    return parameters, torch.optim.SGD(groups, lr=float(k["lr"]), momentum=float(k["momentum"]),
                                       nesterov=k["nesterov"] == "1")


def run(case, dtype):
    k = {**DEFAULTS, **case["knobs"]}
    parameters, optimizer = build(case, k, dtype)
    scheduler = schedule(optimizer, k)
    rates, norms, values = [], [], []
    for step in range(1, STEPS + 1):
        for index, (parameter, shape) in enumerate(zip(parameters, SHAPES.values())):
            parameter.grad = fill(case, step, index, shape, dtype) * float(k["grad_scale"])
        clip = float(k["clip_norm"])
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip if clip else float("inf"))
        rates.append(optimizer.param_groups[0]["lr"])
        norms.append(norm.item())
        optimizer.step()
        scheduler.step()
        if step in KEPT:
            values.append([p.detach().double().flatten().tolist() for p in parameters])
    return rates, norms, values


def rounded(x):
    if isinstance(x, list):
        return [rounded(y) for y in x]
    return float(f"{x:.11g}")


def make():
    out = {"steps": STEPS, "kept": list(KEPT),
           "tensors": [{"name": n, "shape": list(s)} for n, s in SHAPES.items()], "cases": []}
    for seed, case in enumerate(CASES, 1):
        case = {"groups": [], "bits": 24, "seed": seed, **case}
        rates, norms, values = run(case, torch.float64)
        _, _, single = run(case, torch.float32)
        worst = max(max(abs(a - b) for a, b in zip(x, y)) / max(map(abs, y))
                    for s, v in zip(single, values) for x, y in zip(s, v))
        print(f"{case['name']}: float32 differs from float64 by {worst:.1e}")
        case |= {"lr": rounded(rates), "norm": rounded(norms), "values": rounded(values)}
        out["cases"].append(case)
    return json.dumps(out, separators=(",", ":")).replace('{"groups"', '\n{"groups"') + "\n"


def main():
    text = make()
    if "--check" in sys.argv:
        same = FILE.read_text() == text
        print("as committed" if same else "differs from the committed file")
        return 0 if same else 1
    FILE.write_text(text)
    print(f"{len(text)} bytes, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
