#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model against the machine's product of matrices and against PyTorch, in one run.

    python3 tests/bench/compare_model.py BUILD_DIR [--shape gpt2 smollm2]
        [--batch 4x256 1x1024] [--threads 1 2] [--kind train generate] [--turns 3]
        [--json FILE]

For every shape, batch and number of threads, in turns: bench_model and, if this python has
torch and transformers, model_peer.py with PyTorch at its best and its faster attention.
Medians over all turns; the spread is the range of the turns' medians.

  floor    time that the products of a step take at the best rate for 2048-cubed matrices
           measured in the same turn (ours, CBLAS, torch), over the time of a step, in percent
  torch    PyTorch's time over ours
  read     bytes of the weights over measured read bandwidth, over the time of a token
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

import compare
import model_peer


def bench(program, job):
    command = [program, "--kind", job["kind"], "--shape", job["shape"],
               "--threads", job["threads"], "--repeat", job["repeat"],
               "--sequences", job.get("batch", 1), "--length", job.get("length", 128),
               "--dtype", job.get("dtype", "f32")]
    # A CBLAS has threads of its own; ours run nothing while it is timed.
    env = dict(compare.clean_environment(), OPENBLAS_NUM_THREADS=str(job["threads"]))
    out = subprocess.run([str(c) for c in command], env=env, check=True, capture_output=True,
                         text=True).stdout
    return json.loads(out)


def start_peer():
    try:
        import torch
        import transformers
    except ImportError:
        print("no torch or no transformers for this python: only the library is measured",
              file=sys.stderr)
        return None, None
    return (model_peer.ModelPeer(compare.best_environment()),
            f"torch {torch.__version__}, transformers {transformers.__version__}")


def median(values):
    return statistics.median(values)


def spread(values):
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def cube_rate(ours, peer):
    """GFLOP/s of the best product of 2048-cubed matrices in this turn."""
    rates = [2e-9 * 2048 ** 3 / min(ours[k]) for k in ("own", "cblas") if k in ours]
    return max(rates + ([peer["gflops"]["cube_2048"]] if peer else []))


def train(program, peer, job, turns):
    records = {"floor": [], "torch": [], "seconds": [], "own": [], "cblas": []}
    for _ in range(turns):
        ours = bench(program, job)
        gemm = peer and peer.run(dict(job, kind="gemm"))
        seconds = median(ours["seconds"])
        records["seconds"].append(seconds)
        records["floor"].append(100 * ours["gflop"] / cube_rate(ours, gemm) / seconds)
        for k in ("own", "cblas"):
            if k in ours:
                records[k].append(2e-9 * 2048 ** 3 / min(ours[k]))
        if peer:
            theirs = min(median(peer.run(dict(job, attention=a))["seconds"])
                         for a in ("sdpa", "eager"))
            records["torch"].append(theirs / seconds)
    records["rss_peak"], records["gflop"] = ours["rss_peak"], ours["gflop"]
    print(f'| {job["shape"]} | {job["batch"]}x{job["length"]} | {job["threads"]} '
          f'| {ours["device"]} | {spread(records["seconds"])} '
          f'| {ours["gflop"] / median(records["seconds"]):.0f} '
          f'| {spread(records["own"])} '
          f'| {spread(records["cblas"]) if records["cblas"] else ""} '
          f'| {spread(records["floor"])} '
          f'| {spread(records["torch"]) if records["torch"] else ""} '
          f'| {ours["rss_peak"] / 1e6:.0f} |', flush=True)
    return dict(job, **records)


def generate(program, peer, job, turns):
    records = {"read": [], "torch": [], "rate": [], "whole": []}
    for _ in range(turns):
        ours = bench(program, job)
        token = median(ours["decode"]) / (ours["new"] - 1)
        records["rate"].append(1 / token)
        records["read"].append(100 * median(ours["read"]) / token)
        if peer and job["dtype"] == "f32":
            theirs = [peer.run(dict(job, attention=a)) for a in ("sdpa", "eager")]
            whole = median(ours["prefill"]) + median(ours["decode"])
            records["torch"].append(min(median(t["decode"]) for t in theirs) /
                                    median(ours["decode"]))
            records["whole"].append(min(median(t["generate"]) for t in theirs) / whole)
    print(f'| {job["shape"]} | {job["dtype"]} | {job["threads"]} | {ours["device"]} '
          f'| {spread(records["rate"])} | {spread(records["read"])} '
          f'| {spread(records["torch"]) if records["torch"] else ""} '
          f'| {spread(records["whole"]) if records["whole"] else ""} |', flush=True)
    return dict(job, **records)


TRAIN = ["shape", "batch", "threads", "isa", "seconds a step", "GFLOP/s", "own 2048^3",
         "CBLAS 2048^3", "% of floor", "torch x", "peak MB"]
GENERATE = ["shape", "weights", "threads", "isa", "tokens/s", "% of read", "torch loop x",
            "transformers generate x"]


def header(cells):
    print("\n| " + " | ".join(cells) + " |\n|" + "---|" * len(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build_dir")
    parser.add_argument("--shape", nargs="+", default=list(model_peer.SHAPES))
    parser.add_argument("--batch", nargs="+", default=["4x256", "1x1024"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kind", nargs="+", default=["train", "generate"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", help="write all numbers to this file")
    args = parser.parse_args()
    program = os.path.join(args.build_dir, "tests", "bench_model")
    peer, versions = start_peer()
    print(f"{versions}; medians of {args.turns} turns of {args.repeat}")
    jobs, records = [], []
    for shape in args.shape:
        jobs += [dict(shape=shape, threads=t, repeat=args.repeat) for t in args.threads]
    if "train" in args.kind:
        header(TRAIN)
        for job in jobs:
            for size in args.batch:
                batch, length = map(int, size.split("x"))
                records.append(train(program, peer, dict(job, kind="train", batch=batch,
                                                         length=length), args.turns))
    if "generate" in args.kind:
        header(GENERATE)
        for job in jobs:
            for dtype in ("f32", "bf16"):
                records.append(generate(program, peer, dict(job, kind="generate", dtype=dtype),
                                        args.turns))
    if args.json:
        with open(args.json, "w", encoding="ascii") as f:
            json.dump(records, f, indent=1)


if __name__ == "__main__":
    main()
