#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cadft.torch.Loss against the same loss in eager PyTorch: forward and backward
from logits to their gradient, and the memory beyond the logits.

    PYTHON tests/bench/compare_torch.py [--rows 2048] [--cols 49152] [--threads 1 2]
                                        [--turns 3] [--repeat 5] [--json FILE]

PYTHON has torch and the cadft package (examples/python). Both run in child
processes, in turns, as installed and with PyTorch at its best: compare.py says
what that is. Eager PyTorch's is written as a trainer would write it, and given
the logits as they are; DFT is the same without sample weights. Memory is the
peak of a child's first step over what it had with the logits. The module's
gradient goes over the logits, so each of its steps begins with a copy of them
that is not timed."""
import argparse
import json
import statistics
import subprocess
import sys
import time

from compare import best_environment, clean_environment, torch_cadft

SAMPLE_ROWS = 128  # of a sample


def eager_dft(torch, logits, labels):
    logp = torch.log_softmax(logits.float(), dim=-1).gather(1, labels[:, None])[:, 0]
    loss = -(logp.detach().exp() * logp).mean()
    loss.backward()
    return loss


# ------------------------------------------------------------------- the child

def peak_kib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def reset_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")


class Child:
    def __init__(self, job):
        import torch
        self.torch, self.name = torch, job["name"]
        torch.set_num_threads(job["threads"])
        torch.manual_seed(1)
        self.source = torch.randn(job["rows"], job["cols"]).mul_(2)
        self.labels = torch.randint(job["cols"], (job["rows"],))
        self.ids = torch.arange(job["rows"], dtype=torch.int32) // SAMPLE_ROWS
        self.n = int(self.ids[-1]) + 1
        self.logits = torch.empty_like(self.source)
        if self.name == "module":
            import cadft
            import cadft.torch
            self.criterion = cadft.torch.Loss(cadft.Context(n_threads=job["threads"]))

    def step(self):
        """Seconds, loss."""
        torch = self.torch
        self.logits.copy_(self.source)
        if self.name == "module":
            # As a model's output: no leaf, and what is behind it costs nothing.
            logits = Output.of(torch)(self.logits.detach(), torch.zeros(1, requires_grad=True))
            start = time.perf_counter()
            loss = self.criterion(logits, self.labels, sample_ids=self.ids)
            loss.backward()
        else:
            leaf = self.logits.detach().requires_grad_()
            start = time.perf_counter()
            if self.name == "dft":
                loss = eager_dft(torch, leaf, self.labels)
            else:
                loss = torch_cadft(torch, leaf, self.labels, self.ids.long(), self.n)
        return time.perf_counter() - start, float(loss.detach())

    def run(self, repeat):
        self.logits.copy_(self.source)
        reset_peak()
        before = peak_kib()
        _, loss = self.step()
        extra = peak_kib() - before
        times = [self.step()[0] for _ in range(repeat)]
        return {"seconds": times, "extra": extra * 1024, "loss": loss,
                "torch": self.torch.__version__}


class Output:
    """Logits that a graph made, for nothing."""

    function = None

    @classmethod
    def of(cls, torch):
        if cls.function is None:
            class Made(torch.autograd.Function):
                @staticmethod
                def forward(ctx, logits, parameter):
                    ctx.mark_dirty(logits)
                    return logits

                @staticmethod
                def backward(ctx, grad):
                    return None, None

            cls.function = Made
        return cls.function.apply


# --------------------------------------------------------------------- by hand

SETTINGS = {"installed": clean_environment, "best": best_environment}


def measure(job, setting):
    out = subprocess.run([sys.executable, __file__, "--child", json.dumps(job)], check=True,
                         env=SETTINGS[setting](), stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def compare(args, threads):
    found = {}
    for turn in range(args.turns):
        for setting in SETTINGS:
            for name in ("module", "cadft", "dft"):
                job = dict(name=name, rows=args.rows, cols=args.cols, threads=threads,
                           repeat=args.repeat)
                found.setdefault((setting, name), []).append(measure(job, setting))
    return found


def median(records):
    return statistics.median(s for r in records for s in r["seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--cols", type=int, default=49152)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", help="all numbers")
    args = parser.parse_args()
    size, everything = args.rows * args.cols * 4, []
    print(f"{args.rows}x{args.cols} float32, logits {size / 2**20:.0f} MiB; medians of "
          f"{args.turns} turns of {args.repeat}")
    print("| threads | setting | module ms | eager CADFT x | eager DFT x | module MiB | "
          "eager MiB | memory x |\n|---|---|---|---|---|---|---|---|")
    for threads in args.threads:
        found = compare(args, threads)
        for setting in SETTINGS:
            module, cadft, dft = (found[setting, n] for n in ("module", "cadft", "dft"))
            if abs(module[0]["loss"] / cadft[0]["loss"] - 1) > 1e-4:
                sys.exit(f"losses differ: {module[0]['loss']} and {cadft[0]['loss']}")
            extra = [min(r["extra"] for r in records) for records in (module, cadft)]
            print(f"| {threads} | {setting} | {1e3 * median(module):.1f} | "
                  f"{median(cadft) / median(module):.1f} | {median(dft) / median(module):.1f} | "
                  f"{extra[0] / 2**20:.1f} | {extra[1] / 2**20:.0f} | "
                  f"{extra[0] / extra[1]:.4f} |", flush=True)
        everything += [dict(threads=threads, setting=s, name=n, records=r)
                       for (s, n), r in found.items()]
    print(f"torch {everything[0]['records'][0]['torch']}")
    if args.json:
        with open(args.json, "w", encoding="ascii") as file:
            json.dump(everything, file, indent=1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        job = json.loads(sys.argv[2])
        print(json.dumps(Child(job).run(job["repeat"])))
    else:
        main()
