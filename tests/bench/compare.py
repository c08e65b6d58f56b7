#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The loss against the machine's bandwidth and against PyTorch, in one run.

    python3 tests/bench/compare.py BUILD_DIR [--quick] [--isa NAME] [--json FILE]

For every shape, data type and number of threads, in turns: bench_loss, PyTorch
eager as installed, and PyTorch at its best (heap kept between steps, transparent
huge pages, the widest ATen kernels the processor has). Medians over all turns;
the spread is the range of the turns' medians. Needs the python with the
torch to compare against; without torch only the library is measured.

  floor   read + copy over the time of compute, in percent
  unit    time of compute over that of the one-sweep unit gradient
  torch   PyTorch's time over that of compute (as installed / at its best)
  bf16    time of compute in float32 over bfloat16
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = [(2048, 32000), (2048, 49152), (1024, 151936), (4096, 50257)]


def clean_environment():
    env = {k: v for k, v in os.environ.items()
           if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE")}
    return env


def best_environment():
    """glibc keeps the heap and asks for huge pages; ATen may use AVX-512."""
    env = clean_environment()
    env["MALLOC_MMAP_MAX_"] = "0"
    env["MALLOC_TRIM_THRESHOLD_"] = "-1"
    env["MALLOC_TOP_PAD_"] = str(1 << 28)
    env["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        if "avx512vl" in f.read():
            env["ATEN_CPU_CAPABILITY"] = "avx512"
    return env


# ---------------------------------------------------------------- the peer

def torch_cadft(torch, logits, labels, ids, n_samples):
    """CADFT with its defaults, written the way an eager trainer would."""
    logp = torch.log_softmax(logits.float(), dim=-1)
    nll = -logp.gather(1, labels[:, None])[:, 0]
    with torch.no_grad():
        rows = torch.zeros(n_samples).index_add_(0, ids, torch.ones_like(nll))
        c = torch.zeros(n_samples).index_add_(0, ids, nll) / rows
        chat = (c - c.mean()) / (c.std(unbiased=False) + 1e-6)
        k = torch.exp(-chat.clamp(min=0))[ids] * torch.exp(-nll)
    loss = (k * nll).sum() / len(nll)
    loss.backward()
    return loss


def peer():
    """Child process: one JSON request a line, one JSON list of seconds back."""
    import torch
    for line in sys.stdin:
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        torch.manual_seed(1)
        dtype = torch.bfloat16 if job["dtype"] == "bf16" else torch.float32
        logits = (torch.randn(job["rows"], job["cols"]) * 2).to(dtype).requires_grad_()
        labels = torch.randint(job["cols"], (job["rows"],))
        ids = torch.arange(job["rows"]) // 128
        times = []
        for _ in range(job["repeat"] + 1):
            logits.grad = None
            start = time.perf_counter()
            torch_cadft(torch, logits, labels, ids, int(ids[-1]) + 1)
            times.append(time.perf_counter() - start)
        del logits
        print(json.dumps(times[1:]), flush=True)


class Peer:
    def __init__(self, env):
        self.process = subprocess.Popen([sys.executable, __file__, "--peer"], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("compare.py: the PyTorch process died")
        return json.loads(line)


def start_peers():
    try:
        import torch
    except ImportError:
        print("no torch for this python: only the library is measured", file=sys.stderr)
        return {}, None
    return {"installed": Peer(clean_environment()), "best": Peer(best_environment())}, \
        torch.__version__


# ---------------------------------------------------------------- measuring

def bench(program, job, isa):
    command = [program, "--rows", job["rows"], "--cols", job["cols"], "--dtype", job["dtype"],
               "--threads", job["threads"], "--repeat", job["repeat"]]
    if isa:
        command += ["--isa", isa]
    out = subprocess.run([str(c) for c in command], env=clean_environment(), check=True,
                         capture_output=True, text=True).stdout
    return json.loads(out)


def measure(program, peers, job, turns, isa):
    times, medians = {}, {}
    for _ in range(turns):
        result = bench(program, job, isa)
        turn = {k: v for k, v in result.items() if isinstance(v, list)}
        for name, child in peers.items():
            turn[name] = child.run(dict(job, repeat=max(2, job["repeat"] // 2)))
        for key, value in turn.items():
            times.setdefault(key, []).extend(value)
            medians.setdefault(key, []).append(statistics.median(value))
    record = dict(job, isa=result["isa"], bytes=result["bytes"])
    record["median"] = {k: statistics.median(v) for k, v in times.items()}
    record["spread"] = {k: [min(v), max(v)] for k, v in medians.items()}
    # The floor is taken turn by turn: bandwidth and loss of the same seconds.
    record["floor"] = [100 * (r + c) / t for r, c, t in
                       zip(times["read"], times["copy"], times["compute"])]
    return record


def row_of(record, f32):
    m, gb = record["median"], record["bytes"] / 1e9
    floor = sorted(record["floor"])
    cells = [f'{record["rows"]}x{record["cols"]}', record["dtype"], str(record["threads"]),
             record["isa"], f'{gb / m["read"]:.1f}', f'{2 * gb / m["copy"]:.1f}',
             f'{1e3 * m["compute"]:.1f}',
             f'{statistics.median(floor):.0f} ({floor[0]:.0f}-{floor[-1]:.0f})',
             f'{m["compute"] / m["unit"]:.2f}']
    cells.append("" if f32 is None else f'{f32["median"]["compute"] / m["compute"]:.2f}')
    for name in ("installed", "best"):
        cells.append(f'{m[name] / m["compute"]:.1f}' if name in m else "")
    return cells


HEADER = ["rows x V", "type", "threads", "isa", "read GB/s", "copy GB/s", "compute ms",
          "% of floor", "unit x", "bf16 x", "torch x installed", "torch x best"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build_dir")
    parser.add_argument("--quick", action="store_true", help="one shape, one turn")
    parser.add_argument("--isa", help="c, avx2, avx512 or neon instead of the best")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    program = os.path.join(args.build_dir, "tests", "bench_loss")
    peers, torch_version = start_peers()
    print(f"torch {torch_version}; medians of {args.turns} turns of {args.repeat}")
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    records = []
    for rows, cols in SHAPES[1:2] if args.quick else SHAPES:
        for threads in args.threads:
            f32 = None
            for dtype in ("f32", "bf16"):
                job = dict(rows=rows, cols=cols, dtype=dtype, threads=threads, repeat=args.repeat)
                record = measure(program, peers, job, 1 if args.quick else args.turns, args.isa)
                print("| " + " | ".join(row_of(record, f32)) + " |", flush=True)
                records.append(record)
                f32 = f32 or record
    if args.json:
        with open(args.json, "w", encoding="ascii") as f:
            json.dump(records, f, indent=1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--peer"]:
        peer()
    else:
        main()
