# SPDX-License-Identifier: Apache-2.0
"""The criterion against autograd in float64, and what autograd must not see."""
import copy
import gc
import io
import unittest
import weakref

import cadft
import cadft.torch
import torch
import torch.utils.checkpoint
from reference import IGNORE, cadft as expected, shifted

B, T, V = 6, 7, 33
PACKED = torch.tensor([[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 0, 1, 2]] * 2)


def ids_of(position_ids):
    """Samples begin where the position does not rise."""
    starts = torch.ones_like(position_ids, dtype=torch.bool)
    starts[:, 1:] = position_ids[:, 1:] <= position_ids[:, :-1]
    return (starts.reshape(-1).cumsum(0) - 1).reshape(position_ids.shape)


def problem(seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, T, 8, generator=g, requires_grad=True)
    head = torch.randn(V, 8, generator=g, requires_grad=True)
    labels = torch.randint(V, (B, T), generator=g)
    labels[torch.rand(B, T, generator=g) < 0.2] = IGNORE
    return hidden, head, labels


def rounded(hidden, head, dtype):
    """Logits of a data type, as a model makes them."""
    return (hidden @ head.T).to(dtype)


class Gradients(unittest.TestCase):
    def compare(self, seed, dtype, knobs, rows, ids, labels=None, bound=2e-6, upstream=1.0):
        hidden, head, made = problem(seed)
        criterion = cadft.torch.Loss(**knobs)
        logits = rounded(hidden, head, dtype)
        exact = logits.detach().double().requires_grad_()
        names = {k: v for k, v in knobs.items() if k != "label_offset"}
        want, w = expected(exact, made if labels is None else labels(made), ids, **names)
        (want * upstream).backward()
        kept = []
        logits.register_hook(lambda grad: kept.append(grad.clone()))
        loss = criterion(logits, made, **rows)
        (loss * upstream).backward()
        scale = float(exact.grad.abs().max())
        error = float((kept[0].double() - exact.grad).abs().max()) / scale
        unit = {torch.float32: bound, torch.bfloat16: 2.0 ** -8, torch.float16: 2.0 ** -10}[dtype]
        self.assertLess(error, unit, (seed, dtype, knobs))
        self.assertAlmostEqual(float(loss), float(want), delta=1e-6 * max(1, abs(float(want))))
        self.assertAlmostEqual(criterion.report.loss, float(want),
                               delta=1e-6 * max(1, abs(float(want))))
        mine = criterion.samples("w")[criterion.samples("rows") > 0]
        self.assertLess(float((mine - w).abs().max()), 1e-5)

    def test_objectives(self):
        ids = torch.arange(B)[:, None].expand(B, T)
        for seed, objective in enumerate(("sft", "dft", "dft_nosg", "power", "focal")):
            for reduction in ("token_mean", "sample_sum", "sample_mean", "sum"):
                self.compare(seed, torch.float32, dict(objective=objective, reduction=reduction,
                                                       beta=0.5 * seed, z_loss=0.1), {}, ids)

    def test_dtypes_and_upstream(self):
        ids = torch.arange(B)[:, None].expand(B, T)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for upstream in (1.0, -0.5, 1024.0):
                self.compare(7, dtype, {}, {}, ids, upstream=upstream)

    def test_packed(self):
        ids = ids_of(PACKED)
        self.compare(1, torch.float32, {}, dict(position_ids=PACKED), ids)
        self.compare(2, torch.float32, dict(label_offset=1), dict(position_ids=PACKED), ids,
                     labels=lambda y: shifted(y, ids))
        self.compare(3, torch.float32, {}, dict(sample_ids=ids), ids)
        starts = torch.cat([torch.arange(B * T)[PACKED.reshape(-1) == 0], torch.tensor([B * T])])
        self.compare(4, torch.float32, {}, dict(cu_seqlens=starts), ids)

    def test_padded(self):
        lengths = torch.tensor([7, 3, 5, 1, 6, 2])
        mask = (torch.arange(T) < lengths[:, None]).long()
        ids = torch.arange(B)[:, None].expand(B, T).masked_fill(mask == 0, -1)
        self.compare(1, torch.float32, {}, dict(lengths=lengths), ids)
        self.compare(2, torch.float32, dict(label_offset=1), dict(attention_mask=mask), ids,
                     labels=lambda y: shifted(y, ids))
        left = mask.flip(1)
        self.compare(3, torch.float32, dict(label_offset=1),
                     dict(attention_mask=left, position_ids=(left.cumsum(1) - 1).clamp(min=0)),
                     torch.arange(B)[:, None].expand(B, T).masked_fill(left == 0, -1),
                     labels=lambda y: shifted(y, ids.flip(1)))

    def test_rows(self):
        hidden, head, labels = problem(5)
        ids = torch.arange(B).repeat_interleave(T)
        grads = []
        for shape in ((B, T, V), (B * T, V)):
            logits = (hidden @ head.T).detach().reshape(shape).requires_grad_()
            cadft.torch.Loss()(logits, labels.reshape(shape[:-1]), sample_ids=ids.reshape(
                shape[:-1])).backward()
            grads.append(logits.grad.reshape(-1, V))
        self.assertTrue(torch.equal(*grads))

    def test_denominator_and_grad_scale(self):
        ids = torch.arange(B)[:, None].expand(B, T)
        hidden, head, labels = problem(6)
        z = (hidden @ head.T).detach().requires_grad_()
        criterion = cadft.torch.Loss(grad_scale=2)
        loss = criterion(z, labels, denominator=10)
        (loss * 3).backward()
        exact = z.detach().double().requires_grad_()
        want, _ = expected(exact, labels, ids, denominator=10)
        (want * 6).backward()
        self.assertAlmostEqual(float(loss), float(want), places=6)
        self.assertLess(float((z.grad - exact.grad).abs().max()), 2e-6)
        again = criterion(z, labels)  # neither stays
        self.assertAlmostEqual(float(again), float(expected(exact, labels, ids)[0]), places=6)

    def test_callback_and_k(self):
        hidden, head, labels = problem(8)
        z = (hidden @ head.T).detach()
        grads = []
        for coefficient, k in ((lambda l, p, h: p, None), (None, torch.full((B * T,), 0.5))):
            criterion = cadft.torch.Loss(objective="host")
            criterion.set_coefficient(coefficient)
            leaf = z.clone().requires_grad_()
            criterion(leaf, labels, k=k).backward()
            grads.append(leaf.grad)
        leaf = z.clone().requires_grad_()
        cadft.torch.Loss(objective="dft")(leaf, labels).backward()
        self.assertLess(float((leaf.grad - grads[0]).abs().max()), 1e-7)
        leaf.grad = None
        cadft.torch.Loss(objective="sft")(leaf, labels).backward()
        self.assertLess(float((leaf.grad / 2 - grads[1]).abs().max()), 1e-7)


class Autograd(unittest.TestCase):
    def setUp(self):
        self.hidden, self.head, self.labels = problem(11)

    def logits(self):
        return self.hidden @ self.head.T

    def grads(self, criterion):
        self.hidden.grad = self.head.grad = None
        logits = self.logits()
        criterion(logits, self.labels).backward()
        return logits, self.hidden.grad, self.head.grad

    def test_in_place_and_not(self):
        logits, *over = self.grads(cadft.torch.Loss())
        apart_logits, *apart = self.grads(cadft.torch.Loss(in_place=False))
        for a, b in zip(over, apart):
            self.assertTrue(torch.equal(a, b))
        self.assertTrue(torch.equal(apart_logits, self.logits()))
        self.assertLess(float(logits.detach().sum(-1).abs().max()), 1e-6)  # a gradient's rows

    def test_leaves_are_not_overwritten(self):
        for view in (lambda z: z, lambda z: z.view(-1, V).view(B, T, V), lambda z: z[:, :]):
            leaf = self.logits().detach().requires_grad_()
            before = leaf.detach().clone()
            cadft.torch.Loss()(view(leaf), self.labels).backward()
            self.assertTrue(torch.equal(leaf.detach(), before))
            self.assertGreater(float(leaf.grad.abs().max()), 0)
            with self.assertRaisesRegex(ValueError, "leaf"):
                cadft.torch.Loss(in_place=True)(view(leaf), self.labels)

    def test_logits_that_are_kept_elsewhere(self):
        logits = self.logits()
        kept = (logits ** 2).sum()
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            (kept + cadft.torch.Loss()(logits, self.labels)).backward()
        logits = self.logits()
        (logits.exp().sum() + cadft.torch.Loss(in_place=False)(logits, self.labels)).backward()

    def test_logits_that_change(self):
        logits = self.logits()
        loss = cadft.torch.Loss()(logits, self.labels)
        logits.detach().mul_(2)
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            loss.backward()

    def test_two_losses_at_a_time(self):
        criterion = cadft.torch.Loss(beta=2.0)
        _, one, _ = self.grads(criterion)
        self.hidden.grad = None
        first, second = (criterion(self.logits(), self.labels) for _ in range(2))
        (first + second).backward()
        self.assertLess(float((self.hidden.grad - 2 * one).abs().max()), 1e-6)
        running = cadft.torch.Loss(scope="running")
        kept = running(self.logits(), self.labels)
        with self.assertRaises(cadft.PhaseError):
            running(self.logits(), self.labels)
        del kept
        running(self.logits(), self.labels).backward()

    def test_second_backward_is_refused(self):
        for in_place in (None, False):
            loss = cadft.torch.Loss(in_place=in_place)(self.logits(), self.labels)
            loss.backward(retain_graph=True)
            with self.assertRaisesRegex(RuntimeError, "second time"):
                loss.backward()

    def test_double_backward_is_refused(self):
        logits = self.logits()
        with self.assertRaisesRegex(RuntimeError, "second derivative"):
            torch.autograd.grad(cadft.torch.Loss()(logits, self.labels), self.hidden,
                                create_graph=True)

    def test_nothing_leaks(self):
        criterion = cadft.torch.Loss()
        kept = []
        for train in (True, False):
            logits = self.logits()
            loss = criterion(logits, self.labels)
            kept.append(weakref.ref(logits))
            if train:
                loss.backward()
            del logits, loss
        self.assertEqual([r() for r in kept], [None, None])
        self.assertEqual(len(criterion._free), 1)
        bytes_ = criterion._context.bytes
        for _ in range(5):
            criterion(self.logits(), self.labels).backward()
            criterion(self.logits(), self.labels)
        self.assertEqual(criterion._context.bytes, bytes_)
        alive = weakref.ref(criterion)
        loss = criterion(self.logits(), self.labels)
        del criterion
        loss.backward()
        del loss
        gc.collect()
        self.assertIsNone(alive())

    def test_evaluation(self):
        criterion = cadft.torch.Loss(scope="running")
        before = criterion.get_extra_state()
        with torch.no_grad():
            loss = criterion(self.logits(), self.labels)
        self.assertFalse(loss.requires_grad)
        self.assertAlmostEqual(float(loss), criterion.report.loss, places=6)
        self.assertTrue(torch.equal(criterion.get_extra_state(), before))
        criterion(self.logits(), self.labels).backward()
        self.assertFalse(torch.equal(criterion.get_extra_state(), before))

    def test_inference_mode(self):
        with torch.no_grad():
            expected_ = self.logits()
            value = float(cadft.torch.Loss()(expected_, self.labels))
        criterion = cadft.torch.Loss()
        with torch.inference_mode():
            self.assertEqual(float(criterion(self.logits(), self.labels)), value)
        with criterion.step(B) as step:
            with torch.inference_mode():
                step.observe(self.logits(), self.labels)
            step.weigh()
            step.loss(self.logits()).backward()
        self.assertAlmostEqual(step.report.loss, value, places=6)

    def test_inside_checkpointing(self):
        """The criterion runs a second time, inside of backward."""
        criterion = cadft.torch.Loss()
        _, hidden, head = self.grads(criterion)
        for reentrant in (True, False):
            self.hidden.grad = self.head.grad = None
            torch.utils.checkpoint.checkpoint(
                lambda h: criterion(h @ self.head.T, self.labels), self.hidden,
                use_reentrant=reentrant).backward()
            self.assertTrue(torch.equal(self.hidden.grad, hidden))
            self.assertTrue(torch.equal(self.head.grad, head))
        gc.collect()
        self.assertEqual(len(criterion._free), len(criterion._spares))

    def test_hooks_on_saved_tensors(self):
        """With them autograd does not see what is written over."""
        def both(hidden, in_place=None):
            logits = hidden @ self.head.T
            loss = cadft.torch.Loss(reduction="sum", in_place=in_place)
            return loss(logits, self.labels) + loss(logits, self.labels) + (logits ** 2).sum()

        self.hidden.grad = self.head.grad = None
        both(self.hidden, in_place=False).backward()
        expected_ = self.head.grad
        with self.assertRaisesRegex(RuntimeError, "inplace"):
            both(self.hidden).backward()
        for run in (lambda h: torch.utils.checkpoint.checkpoint(both, h, use_reentrant=False), both):
            self.hidden.grad = self.head.grad = None
            with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                run(self.hidden).backward()
            error = (self.head.grad - expected_).abs().max() / expected_.abs().max()
            self.assertLess(float(error), 1e-6)

    def test_autocast(self):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.logits()
            loss = cadft.torch.Loss()(logits, self.labels)
        self.assertEqual((logits.dtype, loss.dtype), (torch.bfloat16, torch.float32))
        loss.backward()
        rounded_, mine = self.head.grad, self.grads(cadft.torch.Loss())[2]
        self.assertLess(float((rounded_ - mine).abs().max() / mine.abs().max()), 0.05)

    @unittest.skipUnless(hasattr(torch, "compiler"), "torch without torch.compiler")
    def test_compiled(self):
        """A compiled model, and a compiled step, which the criterion leaves."""
        _, hidden, head = self.grads(cadft.torch.Loss())
        criterion = cadft.torch.Loss()

        def training(h, w):
            logits = torch.softmax(h @ w.T, -1).log()
            return criterion(logits * 2 / 2, self.labels)

        def stepped(h, w):
            with criterion.step(B) as step:
                with torch.no_grad():
                    step.observe(h @ w.T, self.labels)
                step.weigh()
                step.loss(h @ w.T).backward()

        plain = torch.compile(lambda h, w: h @ w.T, backend="aot_eager")
        for run in (lambda h, w: criterion(plain(h, w), self.labels).backward(),
                    lambda h, w: torch.compile(training, backend="aot_eager")(h, w).backward(),
                    torch.compile(stepped, backend="aot_eager")):
            self.hidden.grad = self.head.grad = None
            run(self.hidden, self.head)
            self.assertLess(float((self.hidden.grad - hidden).abs().max()), 1e-6)
            self.assertLess(float((self.head.grad - head).abs().max()), 1e-6)

    def test_state(self):
        one, other = cadft.torch.Loss(scope="running"), cadft.torch.Loss(scope="running")
        one(self.logits(), self.labels).backward()
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file))
        second = [c(self.logits(), self.labels) for c in (one, other)]
        self.assertEqual(float(second[0]), float(second[1]))
        self.assertEqual(one.report, other.report)

    def test_copy(self):
        one = cadft.torch.Loss(scope="running", beta=3.0, in_place=False)
        one(self.logits(), self.labels).backward()
        other = copy.deepcopy(one).eval()
        self.assertEqual((other.get("beta"), other.in_place, other.training), (3.0, False, False))
        self.assertEqual(float(one(self.logits(), self.labels)),
                         float(other(self.logits(), self.labels)))

    def test_half_scaled(self):
        """As a GradScaler would: the gradient in float16 survives by the scale."""
        logits = self.logits().half()
        loss = cadft.torch.Loss()(logits, self.labels, denominator=1e7)
        (loss * 2.0 ** 16).backward()
        self.assertGreater(float(self.head.grad.abs().max()), 0)


class Errors(unittest.TestCase):
    def setUp(self):
        self.hidden, self.head, self.labels = problem(12)
        self.logits = self.hidden @ self.head.T
        self.criterion = cadft.torch.Loss()

    def refuse(self, kind, sentence, *args, **rows):
        with self.assertRaisesRegex(kind, sentence):
            self.criterion(*args, **rows)
        self.criterion(self.hidden @ self.head.T, self.labels).backward()  # as good as new

    def test_inputs(self):
        z, y = self.logits, self.labels
        self.refuse(cadft.ArgumentError, "meta", z.to("meta"), y)
        self.refuse(cadft.ArgumentError, "meta", z, y.to("meta"))
        self.refuse(cadft.DtypeError, "float64", z.double(), y)
        self.refuse(cadft.DtypeError, "labels", z, y.float())
        self.refuse(TypeError, "labels", z, [1, 2])
        self.refuse(cadft.ArgumentError, "labels", z, y[:, 1:])
        self.refuse(cadft.ArgumentError, "77", z, torch.full_like(y, 77))
        self.refuse(cadft.ArgumentError, "expected .B, T., or one of", z.reshape(-1, V),
                    y.reshape(-1))
        self.refuse(cadft.ArgumentError, "stride", z.transpose(1, 2).contiguous().transpose(1, 2),
                    y)
        self.refuse(TypeError, "position_ids and lengths", z, y,
                    position_ids=PACKED, lengths=torch.full((B,), 2))
        self.refuse(cadft.ArgumentError, "position_ids", z, y, position_ids=PACKED[:2])
        self.refuse(cadft.ArgumentError, "attention_mask", z, y, attention_mask=PACKED[:2])
        self.refuse(cadft.ArgumentError, "has a [2-6]", z, y, attention_mask=PACKED)
        additive = torch.zeros(B, T).masked_fill(PACKED > 0, -float("inf"))
        self.refuse(cadft.ArgumentError, "has a -inf", z, y, attention_mask=additive)
        self.refuse(TypeError, "attention_mask", z, y, attention_mask=PACKED.tolist())
        self.refuse(cadft.DtypeError, "sample_ids", z, y, sample_ids=PACKED.float())
        self.refuse(cadft.ArgumentError, "have a 4294967297", z, y, sample_ids=PACKED + 2**32 - 5)
        self.refuse(TypeError, "logits is a tuple", (z,), y)
        self.refuse(cadft.ArgumentError, "follow each other", z[:, :-1], y[:, 1:])
        self.refuse(TypeError, "unexpected", z, y, mask=PACKED)
        bad = z.detach().clone()
        bad[0, 0, 0] = float("nan")
        y[0, 0] = 1
        self.refuse(cadft.DataError, "row 0", bad, y)

    def test_knobs(self):
        with self.assertRaises(cadft.KnobError):
            cadft.torch.Loss(alpha=1)
        with self.assertRaises(cadft.ArgumentError):
            cadft.torch.Loss(beta=-1)
        self.criterion.set(beta=0.5, objective="sft")
        self.assertEqual((self.criterion.get("beta"), self.criterion.get("objective")),
                         (0.5, "sft"))
        self.assertIn("beta=0.5", repr(self.criterion))


if __name__ == "__main__":
    unittest.main()
