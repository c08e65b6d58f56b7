# SPDX-License-Identifier: Apache-2.0
"""Steps of several micro-batches, and what a loss costs in memory."""
import unittest

import cadft
import cadft.torch
import torch
from reference import cadft as expected

B, T, V, H = 8, 5, 29, 6
IDS = torch.arange(B)[:, None].expand(B, T)


class Model(torch.nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.head = torch.nn.Parameter(torch.randn(V, H, generator=g))
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, hidden):
        return self.dropout(hidden) @ self.head.T


def data(seed=3):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(V, (B, T), generator=g)
    labels[torch.rand(B, T, generator=g) < 0.2] = -100
    return torch.randn(B, T, H, generator=g), labels


def micro_batches(n, seed=3):
    hidden, labels = data(seed)
    return list(zip(hidden.chunk(n), labels.chunk(n)))


def whole(criterion):
    model, (hidden, labels) = Model(), data()
    loss = criterion(model(hidden), labels)
    loss.backward()
    return float(loss), model.head.grad, criterion.samples("w")


class Exact(unittest.TestCase):
    def accumulate(self, criterion, n, model=None, keep=False):
        model = model or Model()
        batches, kept, total = micro_batches(n), [], 0.0
        with criterion.step(B) as step:
            for hidden, labels in batches:
                with torch.set_grad_enabled(keep):
                    logits = model(hidden)
                step.observe(logits, labels)
                kept.append(logits)
            step.weigh()
            for i, (hidden, labels) in enumerate(batches):
                loss = step.loss(kept[i] if keep else model(hidden))
                loss.backward()
                total += float(loss)
        self.assertAlmostEqual(total, step.report.loss, places=6)
        self.assertIs(criterion.report, step.report)
        return total, model.head.grad, criterion.samples("w")

    def test_accumulation_is_one_batch(self):
        for knobs in ({}, dict(objective="power", reduction="sample_mean", beta=2.0),
                      dict(renormalise=1, z_loss=0.1), dict(grad_scale=3)):
            criterion = cadft.torch.Loss(**knobs)
            loss, grad, w = whole(criterion)
            for n in (1, 2, 8):
                for keep in (False, True):
                    again = self.accumulate(criterion, n, keep=keep)
                    self.assertAlmostEqual(again[0], loss, places=6)
                    self.assertLess(float((again[1] - grad).abs().max() / grad.abs().max()), 1e-6)
                    self.assertLess(float((again[2] - w).abs().max()), 1e-12)

    def test_against_float64(self):
        model, (hidden, labels) = Model().double(), data()
        want, w = expected(model(hidden.double()), labels, IDS)
        want.backward()
        loss, grad, mine = self.accumulate(cadft.torch.Loss(), 4)
        self.assertAlmostEqual(loss, float(want), places=6)
        self.assertLess(float((grad - model.head.grad).abs().max()), 1e-6)
        self.assertLess(float((mine - w).abs().max()), 1e-5)

    def test_second_forward_may_differ(self):
        """With dropout the gradient is that of the second logits, with the
        weights of the first."""
        torch.manual_seed(5)
        model, criterion = Model(dropout=0.3), cadft.torch.Loss(in_place=False)
        hidden, labels = data()
        with criterion.step(B) as step:
            with torch.no_grad():
                step.observe(model(hidden), labels)
            step.weigh()
            logits = model(hidden)
            logits.retain_grad()
            step.loss(logits).backward()
        w = criterion.samples("w")
        exact = logits.detach().double().requires_grad_()
        counts = (labels != -100)
        nll = -torch.log_softmax(exact, -1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
        (w[:, None] * torch.exp(-nll).detach() * nll)[counts].sum().div(counts.sum()).backward()
        self.assertLess(float((logits.grad - exact.grad).abs().max()), 1e-7)

    def test_numbers_and_ids(self):
        criterion, model = cadft.torch.Loss(), Model()
        loss, grad, w = whole(criterion)
        batches = micro_batches(2)
        with criterion.step(B) as step:
            with torch.no_grad():
                numbers = [step.observe(model(h), y, sample_ids=ids)
                           for (h, y), ids in zip(batches, IDS.flip(0).chunk(2))]
            step.weigh()
            for i in reversed(numbers):
                step.loss(model(batches[i][0]), micro=i).backward()
        self.assertLess(float((model.head.grad - grad).abs().max()), 1e-7)
        self.assertLess(float((criterion.samples("w").flip(0) - w).abs().max()), 1e-12)

    def test_errors(self):
        criterion, model = cadft.torch.Loss(), Model()
        hidden, labels = data()
        with self.assertRaisesRegex(cadft.PhaseError, "weigh"):
            with criterion.step(B) as step:
                step.observe(model(hidden), labels)
                step.loss(model(hidden))
        with self.assertRaisesRegex(cadft.ArgumentError, "0 were observed"):
            with criterion.step(B) as step:
                step.weigh()
                step.loss(model(hidden))
        with self.assertRaisesRegex(TypeError, "known from observe"):
            with criterion.step(B) as step:
                step.observe(model(hidden), labels)
                step.weigh()
                step.loss(model(hidden), labels)
        with self.assertRaisesRegex(cadft.ArgumentError, "sample_ids"):
            with criterion.step(B - 1) as step:
                step.observe(model(hidden), labels)
        with criterion.step(B) as step:
            step.observe(model(hidden), labels)
            step.weigh()
            late = step.loss(model(hidden))
        with self.assertRaisesRegex(cadft.PhaseError, "end of the step"):
            late.backward()
        with self.assertRaisesRegex(cadft.PhaseError, "with block"):
            step.observe(model(hidden), labels)
        with self.assertRaisesRegex(cadft.PhaseError, "once"):
            step.__enter__()
        self.assertEqual(len(criterion._free), 1)
        whole(criterion)

    def test_empty_step(self):
        criterion, model = cadft.torch.Loss(), Model()
        hidden, labels = data()
        loss = criterion(model(hidden), torch.full_like(labels, -100))
        loss.backward()
        self.assertEqual((float(loss), criterion.report.n_samples), (0.0, 0))
        self.assertEqual(float(model.head.grad.abs().max()), 0.0)
        criterion(model(hidden[:0]), labels[:0]).backward()
        self.assertEqual(criterion.report.n_rows, 0)


class OnePass(unittest.TestCase):
    def run_step(self, criterion, seed=3):
        model, total = Model(), 0.0
        batches = micro_batches(4, seed)
        n_rows = int(sum((y != -100).sum() for _, y in batches))
        with criterion.step(B, denominator=n_rows) as step:
            for hidden, labels in batches:
                loss = step.loss(model(hidden), labels)
                loss.backward()
                total += float(loss)
        self.assertAlmostEqual(total, step.report.loss, places=6)
        return total, model.head.grad

    def test_local(self):
        total, grad = self.run_step(cadft.torch.Loss(scope="local"))
        model, want = Model().double(), 0
        batches = micro_batches(4)
        n_rows = int(sum((y != -100).sum() for _, y in batches))
        for hidden, labels in batches:
            want = want + expected(model(hidden.double()), labels, IDS[:len(labels)],
                                   denominator=n_rows)[0]
        want.backward()
        self.assertAlmostEqual(total, float(want), places=6)
        self.assertLess(float((grad - model.head.grad).abs().max()), 1e-6)

    def test_running(self):
        """The first step is as local; the second uses the first one's mean and
        deviation; a criterion call is a step, too."""
        criterion, local = cadft.torch.Loss(scope="running"), cadft.torch.Loss(scope="local")
        self.assertEqual(self.run_step(criterion)[0], self.run_step(local)[0])
        exact = cadft.torch.Loss()
        whole(exact)
        self.run_step(criterion, seed=4)
        self.assertAlmostEqual(criterion.report.mu, exact.report.mu, places=12)
        self.assertAlmostEqual(criterion.report.sigma, exact.report.sigma, places=12)
        fresh = cadft.torch.Loss(scope="running", reduction="sample_mean")
        self.assertAlmostEqual(whole(fresh)[0], whole(cadft.torch.Loss(
            scope="local", reduction="sample_mean"))[0], places=12)
        self.assertAlmostEqual(whole(fresh)[0], whole(cadft.torch.Loss(
            reduction="sample_mean"))[0], places=9)

    def test_unknown_denominator(self):
        criterion, (hidden, labels) = cadft.torch.Loss(scope="local"), data()
        with self.assertRaisesRegex(cadft.UnsupportedError, "denominator"):
            with criterion.step(B) as step:
                step.loss(Model()(hidden), labels)
        with self.assertRaisesRegex(TypeError, "need labels"):
            with criterion.step(B) as step:
                step.loss(Model()(hidden))
        whole(criterion)


def peak_kib():
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def extra_kib(loss, head, labels):
    """What forward and backward of a loss need beyond the logits: the peak is
    reset when these are there."""
    logits = torch.randn(labels.numel(), head.shape[1]) @ head.T
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")
    before = peak_kib()
    loss(logits.view(*labels.shape, -1), labels).backward()
    return peak_kib() - before


def eager(logits, labels):
    logp = torch.log_softmax(logits.float(), -1).gather(2, labels[..., None])[..., 0]
    with torch.no_grad():
        c = -logp.mean(1)
        chat = (c - c.mean()) / (c.std(unbiased=False) + 1e-6)
        k = torch.exp(-chat.clamp(min=0))[:, None] * logp.exp()
    return -(k * logp).mean()


class Memory(unittest.TestCase):
    def test_no_second_logits(self):
        head = torch.randn(32768, 4, requires_grad=True)
        labels = torch.randint(32768, (8, 64))  # logits of 64 MiB
        criterion = cadft.torch.Loss()
        extra_kib(criterion, head, labels)
        mine, theirs = (extra_kib(loss, head, labels) for loss in (criterion, eager))
        print(f"\nextra memory beside {512 * 32768 * 4 >> 10} KiB of logits: {mine} KiB, "
              f"eager PyTorch {theirs} KiB", end=" ")
        self.assertGreater(theirs, 64 << 10)
        self.assertLess(mine, theirs / 10)


if __name__ == "__main__":
    unittest.main()
