#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory and time of examples/finetune against PyTorch on the same job, in one run.

    python3 tests/bench/compare_finetune.py BUILD_DIR --model DIR --data FILE [--steps 2]
        [--logits rows all] [--threads 2] [--checkpointing] [--json FILE]

CADFT with exact scope in float32, AdamW, clipping: steps of 16 samples of at most 192 tokens
in micro-batches of at most 1024, at a constant rate, without evaluation. Each side is a
process of its own. The script turns the data into token ids once, with
examples/text/tokenizer.py, so that both learn the same ids of the same samples in the same
order. It fails where loss or NLL of a step differ by more than 1e-4 of their value. PyTorch's
cross_entropy on the CPU, which in float32 sums a row's exponentials to about 1e-5 only, makes
the difference of the first NLL: taken in float64 of the same logits it is 1e-7.

  libcadft  finetune; its micro-batches are packed, logits for rows with a label only
  rows      transformers' model, eager; micro-batches are padded, of samples of like length,
            and padding counts; logits_to_keep as a mask: logits for rows with a label only
  all       the same with logits for all positions, as a training loop usually has it

  peak      most resident memory, ru_maxrss of wait4: of finetune from start to the model it
            saves; of Python with torch. The tokenizer of a run on text is a process of its
            own that ends before the model is loaded; its peak is quoted apart
  import    resident after `import torch, transformers`
  seconds   of a step: median (least-most) without the first

At least two steps, as PyTorch has its optimizer's state from the first one on. Both sides run
all micro-batches forward without gradient first; finetune keeps what it computed for the
last of them, PyTorch computes all again. Memory does not mind a busy machine, seconds do: take --steps 30 on a quiet one. Needs the
python with torch, transformers, tokenizers and jinja2; PyTorch has the allocator as it comes
and the fused AdamW."""
import argparse
import csv
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import compare

BATCH, MICRO_TOKENS, MAX_LENGTH = 16, 1024, 192
SEED, RATE, IGNORED = 1, 5e-5, -100
SAME = 1e-4  # relative difference of losses that is still the same job
MIB = 1 << 20
TOKENIZER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "text" / "tokenizer.py"


# ---------------------------------------------------------------- data

def run_child(command, **how):
    """Runs it to its end: output, peak resident bytes of it and of children it waited for."""
    child = subprocess.Popen([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                             env=compare.clean_environment(), **how)
    output = child.stdout.read()
    child.stdout.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command[0]}: exit status {child.returncode}")
    return output, usage.ru_maxrss * 1024


def requests(data, file):
    """The lines of the data as requests for tokenizer.py."""
    with open(data, encoding="utf-8") as lines:
        samples = [json.loads(line) for line in lines]
    for i in range(0, len(samples), 64):
        chats = [{"chat": [{"role": "user", "content": s["question"]},
                           {"role": "assistant", "content": s["answer"]}]}
                 for s in samples[i:i + 64]]
        file.write(json.dumps({"samples": chats}) + "\n")
    file.seek(0)


def sample_of(answer):
    """Tokens and labels as finetune takes and cuts them: nothing behind the last target."""
    if "error" in answer:
        sys.exit(f"tokenizer: {answer['error']}")
    ids, (begin, end) = answer["ids"], answer["targets"][-1]
    return {"tokens": ids[:end], "labels": [IGNORED] * begin + ids[begin:end]}


def read_samples(model, data):
    """All samples that are short enough, and the peak memory of the tokenizer."""
    with tempfile.TemporaryFile("w+", encoding="ascii") as file:
        requests(data, file)
        output, peak = run_child([sys.executable, TOKENIZER, model], stdin=file)
    answers = [a for line in output.splitlines() for a in json.loads(line)["samples"]]
    samples = [sample_of(a) for a in answers]
    return [s for s in samples if len(s["tokens"]) <= MAX_LENGTH], peak


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % (1 << 64)
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % (1 << 64)
    return z ^ (z >> 31)


def order_at(epoch, n, position):
    """Which sample finetune takes: order_at of examples/text/pack.h."""
    key = mix(mix(SEED + 0x9E3779B97F4A7C15) ^ (epoch + 1))
    half = max(1, -(-(n - 1).bit_length() // 2))
    mask, at = (1 << half) - 1, position
    while True:
        left, right = at >> half, at & mask
        for step in range(8):
            f = mix((key + mix(step << 56 ^ right)) % (1 << 64))
            left, right = right, left ^ (f & mask)
        at = left << half | right
        if at < n:
            return at


def step_samples(samples, step):
    places = range(step * BATCH, (step + 1) * BATCH)
    return [samples[order_at(p // len(samples), len(samples), p % len(samples))] for p in places]


def write_lines(path, values):
    with open(path, "w", encoding="ascii") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)


# ---------------------------------------------------------------- ours

def finetune(args, ids, out):
    """Record of a run and the memory that --dry-run foretells, in bytes."""
    program = os.path.join(args.build_dir, "examples", "finetune", "finetune")
    command = [program, "--model", args.model, "--tokenizer", "none", "--data", ids,
               "--objective", "cadft", "--scope", "exact", "--no-rewrite", "--dtype", "f32",
               "--steps", args.steps, "--batch", BATCH, "--micro-tokens", MICRO_TOKENS,
               "--max-length", MAX_LENGTH, "--lr", RATE, "--schedule", "constant",
               "--warmup", 0, "--eval-share", 0, "--save-every", 10 ** 9, "--seed", SEED,
               "--threads", args.threads, "--quiet"]
    command += ["--checkpointing"] if args.checkpointing else []
    text, _ = run_child(command + ["--dry-run"])
    plan = {name.strip(): float(number) * MIB for name, number in
            re.findall(r"^ +(\S.*?) +([\d.]+) MiB$", text, re.M)}
    largest = int(re.search(r"largest micro-batch +(\d+)", text).group(1))
    _, peak = run_child(command + ["--out", out])
    with open(os.path.join(out, "metrics.csv"), encoding="ascii") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    ends = [0] + [row["seconds"] for row in rows]
    steps = [dict(tokens=round(row["tokens"]), loss=row["loss"], nll=row["nll"],
                  w=row["mean_w"], norm=row["grad_norm"]) for row in rows]
    return dict(peak=peak, steps=steps, largest=largest,
                seconds=[b - a for a, b in zip(ends, ends[1:])]), plan


# ---------------------------------------------------------------- PyTorch

def peer(args, chosen, logits):
    job = dict(model=args.model, steps=chosen, logits=logits, threads=args.threads,
               checkpointing=args.checkpointing)
    output, peak = run_child([sys.executable, __file__, "--peer", json.dumps(job)])
    return dict(json.loads(output), peak=peak)


def resident():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def pad(torch, group):
    """A micro-batch of (number in the step, sample): [sequences, longest] each."""
    longest = max(len(s["tokens"]) for _, s in group)

    def rows(values, filler):
        return torch.tensor([v + [filler] * (longest - len(v)) for v in values])
    # The model's row predicts the token behind it.
    labels = rows([s["labels"][1:] for _, s in group], IGNORED)
    return dict(tokens=rows([s["tokens"] for _, s in group], 0), labels=labels,
                mask=rows([[1] * len(s["tokens"]) for _, s in group], 0),
                sample=torch.tensor([i for i, _ in group])[:, None].expand_as(labels))


def micro_batches(torch, samples):
    """Samples of like length together, so that there is little padding."""
    numbered = sorted(enumerate(samples), key=lambda pair: -len(pair[1]["tokens"]))
    groups = [[]]
    for pair in numbered:
        longest = len((groups[-1] or [pair])[0][1]["tokens"])
        if (len(groups[-1]) + 1) * longest > MICRO_TOKENS:
            groups.append([])
        groups[-1].append(pair)
    return [pad(torch, group) for group in groups]


def rows_nll(torch, model, micro, logits):
    """NLL of the rows with a label, and the sample of each."""
    picked = micro["labels"] != IGNORED
    keep = picked if logits == "rows" else 0
    z = model(input_ids=micro["tokens"], attention_mask=micro["mask"], use_cache=False,
              logits_to_keep=keep).logits
    labels = micro["labels"][picked] if logits == "rows" else micro["labels"].flatten()
    nll = torch.nn.functional.cross_entropy(z.view(-1, z.shape[-1]), labels, reduction="none",
                                            ignore_index=IGNORED)
    if logits == "all":
        nll = nll[picked.flatten()]
    return nll, micro["sample"][picked]


def peer_step(torch, model, optimizer, samples, logits):
    """CADFT with exact scope: all losses, the weights, then the gradients."""
    micro = micro_batches(torch, samples)
    c, rows = torch.zeros(2, len(samples), dtype=torch.float64)
    with torch.no_grad():
        for m in micro:
            nll, sample = rows_nll(torch, model, m, logits)
            c.index_add_(0, sample, nll.double())
            rows.index_add_(0, sample, torch.ones_like(nll, dtype=torch.float64))
    c /= rows
    w = torch.exp(-((c - c.mean()) / (c.std(unbiased=False) + 1e-6)).clamp(min=0)).float()
    loss = 0
    for m in micro:
        nll, sample = rows_nll(torch, model, m, logits)
        part = (w[sample] * torch.exp(-nll.detach()) * nll).sum() / rows.sum().item()
        part.backward()
        loss += part.item()
        del nll, part
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return dict(loss=loss, nll=c.mean().item(), w=w.mean().item(), norm=norm.item(),
                positions=max(m["tokens"].numel() for m in micro))


def run_peer(job):
    import torch
    import transformers
    imported = resident()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    model = transformers.LlamaForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    model.train()
    if job["checkpointing"]:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.ndim > 1]},
         {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}],
        lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, fused=True)
    with open(job["steps"], encoding="ascii") as file:
        steps = [json.loads(line) for line in file]
    record = dict(imported=imported, loaded=resident(), seconds=[], steps=[], largest=0,
                  torch=torch.__version__, transformers=transformers.__version__)
    tokens = 0
    for samples in steps:
        start = time.perf_counter()
        done = peer_step(torch, model, optimizer, samples, job["logits"])
        record["seconds"].append(time.perf_counter() - start)
        tokens += sum(len(s["tokens"]) for s in samples)
        record["largest"] = max(record["largest"], done.pop("positions"))
        record["steps"].append(dict(done, tokens=tokens))
    print(json.dumps(record))


# ---------------------------------------------------------------- tables

def header(cells):
    print("\n| " + " | ".join(cells) + " |\n|" + "---|" * len(cells))


def show_steps(records):
    """Losses side by side; whether they are the same."""
    ours, apart = records["libcadft"]["steps"], []
    header(["step"] + [f"{name} {key}" for key in ("loss", "nll", "w", "norm")
                       for name in records])
    for i, mine in enumerate(ours):
        all_sides = [r["steps"][i] for r in records.values()]
        if any(side["tokens"] != mine["tokens"] for side in all_sides):
            sys.exit(f"step {i + 1}: not the same samples: "
                     f"{[side['tokens'] for side in all_sides]} tokens")
        print(f"| {i + 1} | " + " | ".join(f"{side[key]:.6f}" for key in mine if key != "tokens"
                                           for side in all_sides) + " |")
        apart += [abs(side[key] / mine[key] - 1) for side in all_sides for key in ("loss", "nll")]
    print(f"\nlargest relative difference of loss and NLL: {max(apart):.1e}, at most {SAME:.0e}")
    return all(x <= SAME for x in apart)  # not so with a NaN among them


def show_sides(records):
    header(["", "peak MiB", "x ours", "import MiB", "peak - import", "largest micro-batch",
            "seconds a step"])
    for name, r in records.items():
        times = r["seconds"][1:]
        imported = r.get("imported")
        cells = [name, f"{r['peak'] / MIB:.0f}",
                 f"{r['peak'] / records['libcadft']['peak']:.2f}",
                 f"{imported / MIB:.0f}" if imported else "",
                 f"{(r['peak'] - imported) / MIB:.0f}" if imported else "",
                 f"{r['largest']}",
                 f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"]
        print("| " + " | ".join(cells) + " |")


def show_plan(plan, peak):
    header(["--dry-run", "MiB"])
    for name, size in plan.items():
        print(f"| {name} | {size / MIB:.1f} |")
    print(f"| measured peak | {peak / MIB:.1f} |")
    extra = peak - plan["together"]
    print(f"\nmeasured - foretold: {extra / MIB:.1f} MiB, {100 * extra / peak:.1f} % of the peak")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build_dir")
    parser.add_argument("--model", required=True, help="folder of a Llama with a chat template")
    parser.add_argument("--data", required=True, help="JSON lines: question, answer")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--logits", nargs="*", default=["rows", "all"], choices=["rows", "all"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--checkpointing", action="store_true", help="of activations, both sides")
    parser.add_argument("--json", help="write all numbers to this file")
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps: at least 2")
    with tempfile.TemporaryDirectory(prefix="compare-finetune-") as folder:
        ids, chosen, out = (os.path.join(folder, name) for name in ("ids", "chosen", "out"))
        samples, tokenizer = read_samples(args.model, args.data)
        write_lines(ids, samples)
        write_lines(chosen, (step_samples(samples, i) for i in range(args.steps)))
        ours, plan = finetune(args, ids, out)
        records = {"libcadft": ours, **{k: peer(args, chosen, k) for k in args.logits}}
    versions = [f"torch {r['torch']}, transformers {r['transformers']}" for r in records.values()
                if "torch" in r][:1]
    print("; ".join(versions + [f"{len(samples)} samples, {args.steps} steps, "
                                f"{args.threads} threads"]))
    same = show_steps(records)
    show_sides(records)
    show_plan(plan, ours["peak"])
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\ntokenizer.py: peak {tokenizer / MIB:.0f} MiB. A peak below {own / MIB:.0f} MiB, "
          "that of this script, would not show")
    if args.json:
        with open(args.json, "w", encoding="ascii") as file:
            json.dump(dict(records, plan=plan, tokenizer=tokenizer), file, indent=1)
    if not same:
        sys.exit("compare_finetune.py: the losses differ: this is not the same job")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        run_peer(json.loads(sys.argv[2]))
    else:
        main()
