# SPDX-License-Identifier: Apache-2.0
"""Two and four processes of torch.distributed over a batch that was cut."""
import os
import subprocess
import sys
import tempfile
import unittest

import cadft
import cadft.torch
import torch
import torch.distributed as dist

B, T, V = 16, 6, 37
CASES = {
    "exact": {},
    "renormalised": dict(renormalise=1, objective="power"),
    "sample mean": dict(reduction="sample_mean", beta=2.0),
    "running": dict(scope="running"),
}


def data():
    g = torch.Generator().manual_seed(9)
    labels = torch.randint(V, (B, T), generator=g)
    labels[torch.rand(B, T, generator=g) < 0.3] = -100
    labels[3] = -100  # a sample without rows
    return torch.randn(B, T, V, generator=g) * 3, labels


def in_one_call(criterion, logits, labels):
    criterion(logits, labels).backward()


def in_micro_batches(criterion, logits, labels):
    with criterion.step(len(labels)) as step:
        parts = list(zip(logits.split(2), labels.split(2)))
        with torch.no_grad():
            for z, y in parts:
                step.observe(z, y)
        step.weigh()
        for z, _ in parts:
            step.loss(z).backward()


def run(how, knobs, cut, group):
    """Gradient, w and report of this process's part, after two steps."""
    criterion = cadft.torch.Loss(cadft.Context(n_threads=1), group=group, **knobs)
    logits, labels = (t[cut] for t in data())
    leaf = logits.clone().requires_grad_()
    for _ in range(2):
        leaf.grad = None
        how(criterion, leaf, labels)
    return leaf.grad, criterion.samples("w"), tuple(criterion.report)


def results(cut, group):
    found = {}
    for name, knobs in CASES.items():
        found[name] = run(in_one_call, knobs, cut, group)
        if knobs.get("scope", "exact") == "exact":
            found[name + ", micro-batches"] = run(in_micro_batches, knobs, cut, group)
    return found


def failing(rank, group):
    """One process fails; the others do not wait."""
    logits, labels = data()
    criterion = cadft.torch.Loss(cadft.Context(n_threads=1), group=group)
    sentences = []
    for place in ("observe", "loss"):
        try:
            with criterion.step(B) as step:
                broken = torch.full_like(labels, 99) if place == "observe" and rank == 1 else labels
                step.observe(logits, broken)
                step.weigh()
                if place == "loss" and rank == 1:
                    raise KeyError("something of the host's")
        except (cadft.Error, KeyError, RuntimeError) as failure:
            sentences.append(f"{type(failure).__name__}: {failure}")
    try:
        criterion(logits, torch.full_like(labels, 99) if rank == 0 else labels)
    except RuntimeError as failure:
        sentences.append(str(failure))
    except cadft.Error as failure:
        sentences.append(type(failure).__name__)
    leaf = logits.clone().requires_grad_()
    if rank == 0:
        labels = torch.full_like(labels, 99)
    try:
        criterion(leaf, labels)
    except (cadft.Error, RuntimeError) as failure:
        sentences.append(type(failure).__name__)
    return sentences


def main(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank,
                            world_size=size)
    each = B // size
    found = results(slice(rank * each, (rank + 1) * each), dist.group.WORLD)
    torch.save((found, failing(rank, dist.group.WORLD)), f"{folder}/{rank}")
    dist.destroy_process_group()


def ulps(a, b):
    """Distance of float32s in units in the last place."""
    a, b = (t.contiguous().view(torch.int32).long() for t in (a, b))
    a, b = (torch.where(t < 0, -(t & 0x7fffffff), t) for t in (a, b))
    return int((a - b).abs().max())


class Processes(unittest.TestCase):
    def launch(self, size):
        with tempfile.TemporaryDirectory() as folder:
            children = [subprocess.Popen([sys.executable, __file__, str(rank), str(size), folder])
                        for rank in range(size)]
            self.assertEqual([child.wait(300) for child in children], [0] * size)
            return [torch.load(os.path.join(folder, str(rank))) for rank in range(size)]

    def compare(self, size):
        processes, most = self.launch(size), [0, 0.0]
        for name, (grad, w, report) in results(slice(None), None).items():
            parts = [found[name] for found, _ in processes]
            distance = ulps(torch.cat([part[0] for part in parts]), grad)
            error = float((torch.cat([part[1] for part in parts]) - w).abs().max())
            self.assertLessEqual(distance, 1, name)
            self.assertLess(error, 1e-12, name)
            most = [max(most[0], distance), max(most[1], error)]
            for part in parts:
                for field, one, whole in zip(cadft.Report._fields, part[2], report):
                    self.assertAlmostEqual(one, whole, delta=1e-12 * max(1, abs(whole)),
                                           msg=f"{name}: {field}")
        print(f"\n{size} processes: gradients within {most[0]} ulp, weights within {most[1]:.1e}",
              end=" ")
        for rank, (_, sentences) in enumerate(processes):
            left = "RuntimeError: 1 of the group's other processes left the step"
            self.assertEqual(len(sentences), 4 if rank == 0 else 3, sentences)
            if rank == 1:
                self.assertIn("ArgumentError: labels", sentences[0])
                self.assertIn("KeyError", sentences[1])
            else:
                self.assertEqual(sentences[:2], [left, left])
            self.assertEqual(sentences[-1], "ArgumentError" if rank == 0 else "RuntimeError")

    def test_two(self):
        self.compare(2)

    def test_four(self):
        self.compare(4)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        unittest.main()
