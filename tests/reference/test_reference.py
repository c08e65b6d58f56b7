# SPDX-License-Identifier: Apache-2.0
"""Self tests of the reference: against finite differences, against 60-digit decimals,
and against the rules of the method's edge cases, shards and scopes.

    python3 test_reference.py [--seed N] [unittest arguments]

A fresh seed is drawn and printed on every run; --seed N repeats one."""
import decimal
import itertools
import os
import pathlib
import sys
import unittest
from decimal import Decimal

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))
import cadft_reference as ref
import golden_format
from cadft_reference import LD, Micro, Options, run_case

SEED = 0
INF = np.inf
REDUCTIONS = ("token_mean", "sample_sum", "sample_mean", "sum")
decimal.getcontext().prec = 60


def make_micro(rng, rows=7, columns=6, samples=3, spread=2.0, host=False, vocab_valid=0):
    """Random micro-batch: every sample gets a row, one label is ignored."""
    ids = rng.permutation(np.arange(rows) % samples)
    labels = rng.integers(0, vocab_valid or columns, rows)
    if rows > samples:
        labels[np.flatnonzero(ids == ids[0])[-1]] = -100
    logits = np.asarray(rng.normal(0, spread, (rows, columns)), dtype=np.float32)
    k = rng.uniform(-0.5, 1.5, rows) if host else None
    return Micro(logits.astype(np.float64), labels, ids, k, vocab_valid)


def frozen_loss(batch, opt, base, shift=None):
    """L with w and every sg() factor taken from `base`, straight from the method's table.

    Naive long double formulas, shared with nothing in the reference; shift = (micro, row,
    column, step) moves one raw logit."""
    total = LD(0)
    for i, micro in enumerate(batch):
        z_all = micro.logits.astype(LD)
        if shift and shift[0] == i:
            z_all[shift[1], shift[2]] += shift[3]
        out = base["micro"][i]
        for r in np.flatnonzero(out["scale"]):
            z = z_all[r, :micro.vocab_valid or z_all.shape[1]]
            if opt.softcap > 0:
                masked = np.isneginf(z)
                z = LD(opt.softcap) * np.tanh(np.where(masked, 0, z) / LD(opt.softcap))
                z[masked] = -INF
            y, m = micro.labels[r], np.log(np.sum(np.exp(z)))
            l, p = m - z[y], np.exp(z[y] - m)
            if opt.objective in ref.STOP_GRADIENT:
                e, seen = LD(opt.label_smoothing), z[np.isfinite(z)]
                loss = LD(out["k"][r]) * (m - (1 - e) * z[y] - e / len(seen) * np.sum(seen))
            elif opt.objective == "dft_nosg":
                loss = p * l
            elif opt.objective == "power":
                loss = (1 - p ** LD(opt.power_q)) / LD(opt.power_q) if opt.power_q else l
            else:
                loss = (1 - p) ** LD(opt.focal_gamma) * l
            total += LD(out["scale"][r]) * (loss + LD(opt.z_loss) * m ** 2)
    return total


class Base(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng([SEED, sum(map(ord, self.id()))])

    def close(self, a, b, rtol=1e-12, atol=0.0, what=""):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol, atol,
                                   err_msg=what)

    def check_gradient(self, batch, opt, n_samples):
        base = ref.run_batch(batch, opt, n_samples)
        self.close(frozen_loss(batch, opt, base), base["report"]["loss"], 1e-12, 1e-15, str(opt))
        h = LD(2.0) ** -10                      # fourth order: error about h^4
        for i, micro in enumerate(batch):
            grad = base["micro"][i]["grad"]
            numeric = np.zeros_like(grad)
            for r, v in np.ndindex(grad.shape):
                if base["micro"][i]["scale"][r] == 0:
                    continue
                f = [frozen_loss(batch, opt, base, (i, r, v, s * h)) for s in (-2, -1, 1, 2)]
                numeric[r, v] = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
            self.close(grad, opt.grad_scale * numeric, 1e-8, 1e-10 * opt.grad_scale, str(opt))


class Gradients(Base):
    def test_objectives(self):
        for name, weighting in itertools.product(ref.OBJECTIVES, (0, 1)):
            micro = make_micro(self.rng, host=name == "host", vocab_valid=5)
            self.check_gradient([micro], Options(objective=name, weighting=weighting), 3)

    def test_parameters(self):
        for name, key, values in (("power", "power_q", (0.0, 1.0)), ("eaft", "eaft_alpha", (0.0, 2.0)),
                                  ("focal", "focal_gamma", (0.0, 0.5)),
                                  ("infosft", "infosft_target", (0.5,))):
            for value in values:
                self.check_gradient([make_micro(self.rng)], Options(objective=name, **{key: value}), 3)

    def test_terms(self):
        for name in ref.OBJECTIVES:
            for z_loss, smooth, cap in itertools.product((0, 0.1), (0, 0.2), (0, 3.0)):
                if smooth and name not in ref.STOP_GRADIENT:
                    continue
                micro = make_micro(self.rng, rows=4, columns=5, samples=2, host=name == "host")
                micro.logits[0, (micro.labels[0] + 1) % 5] = -INF
                self.check_gradient([micro], Options(objective=name, z_loss=z_loss,
                                                     label_smoothing=smooth, softcap=cap), 2)

    def test_reductions(self):
        for red, d, scale in itertools.product(REDUCTIONS, (0, 37.5), (1, 1024.0)):
            batch = [make_micro(self.rng, rows=4), make_micro(self.rng, rows=3)]
            opt = Options(reduction=red, denominator=d, grad_scale=scale, renormalise=1)
            self.check_gradient(batch, opt, 3)


class Precision(Base):
    def test_against_decimal(self):
        """l, p, H, k and gradient of hard rows to 1e-13 relative."""
        hard = [[L, 0.0, -1.0] for L in (-80.0, -69.0, -20.0, 0.0, 1.5, 16.118, 40.0, 69.0, 80.0)]
        hard += list(self.rng.normal(0, 8, (12, 3)).astype(np.float32).astype(float))
        for z in hard:
            zd = [Decimal(float(x)) for x in z]
            m = sum(x.exp() for x in zd).ln()
            pi = [(x - m).exp() for x in zd]
            l, p = m - zd[0], pi[0]
            u = 1 - p
            h = sum(a * (m - x) for a, x in zip(pi, zd))
            t = Decimal(0.93)
            k = dict(sft=Decimal(1), dft=p, dft_nosg=p * (1 - l), power=(-Decimal(0.7) * l).exp(),
                     focal=u ** 2 + 2 * p * u * l, eaft=h / 3,
                     infosft=p * max(Decimal(0), (t / (1 - t)).ln() - (p / u).ln()))
            row = ref.analyse_row(z, 0)
            for got, want in ((row.l, l), (row.p, p), (row.h, h), (row.u, u), (row.m, m)):
                self.close(got, float(want), 1e-13)
            for name, want in k.items():
                opt = Options(objective=name)
                got = ref.coefficient(row, opt)
                self.close(got, float(want), 1e-13, what=name)
                grad = [float(want * (a - (v == 0))) for v, a in enumerate(pi)]
                self.close(ref.row_gradient(row, got, opt), grad, 1e-13, what=name)

    def test_shift(self):
        z = np.round(self.rng.normal(0, 3, 9) * 256) / 256
        a, b = ref.analyse_row(z, 4), ref.analyse_row(z + 1e4, 4)
        self.assertEqual(a.l, b.l)
        self.assertTrue((a.pi == b.pi).all())


class Edges(Base):
    def run_one(self, micro, n_samples=3, **options):
        return run_case([[micro]], Options(**options), n_samples)[0]

    def test_masked_label(self):
        for name, weighting in itertools.product(ref.OBJECTIVES, (0, 1)):
            micro = make_micro(self.rng, host=name == "host")
            s = micro.sample_ids[1]
            r = np.flatnonzero((micro.sample_ids == s) & (micro.labels >= 0))[0]
            micro.logits[r, micro.labels[r]] = -INF
            out = self.run_one(micro, objective=name, weighting=weighting)
            self.assertEqual((out["c"][s], out["w"][s]), (INF, 0))
            self.assertEqual((out["report"]["infinite"], out["report"]["n_samples"]), (1, 2))
            self.assertFalse(out["micro"][0]["grad"][micro.sample_ids == s].any())
            self.assertTrue(np.isfinite(out["micro"][0]["k"]).all())
            self.assertTrue(np.isfinite(out["report"]["loss"]))
            micro.labels[micro.sample_ids == s] = -100          # same as without the sample
            rest = self.run_one(micro, objective=name, weighting=weighting)
            self.close(out["micro"][0]["grad"], rest["micro"][0]["grad"])
            self.assertEqual(out["report"]["n_rows"], rest["report"]["n_rows"])

    def test_nonfinite(self):
        for bad in ([np.nan, 0, 0], [INF, 0, 0], [-INF] * 3):
            logits = np.array([[1.0, 2, 3], bad, [0, 1, 0], [3, 0, 0]])
            micro = Micro(logits, np.array([0, 1, 2, 1]), np.array([0, 2, 2, 1]))
            out = self.run_one(micro)
            self.assertEqual((out["status"], out["row"], out["sample"]), ("E_NONFINITE", 1, 2))
            out = self.run_one(micro, nonfinite="skip")
            self.assertEqual((out["w"][2], out["report"]["skipped"]), (0, 1))
            self.assertEqual(out["report"]["n_rows"], 2)
            self.assertTrue(np.isnan(out["c"][2]) and np.isnan(out["chat"][2]))
            self.assertFalse(out["micro"][0]["grad"][1:3].any())
            micro.sample_ids[1] = -1                            # not counting: never read
            self.assertEqual(self.run_one(micro)["status"], "OK")

    def test_empty(self):
        for rows, ignore in ((0, -100), (4, 1)):
            micro = Micro(np.full((rows, 3), np.nan), np.full(rows, ignore), np.zeros(rows, int))
            out = self.run_one(micro, ignore_index=ignore)
            self.assertEqual(out["status"], "OK")
            self.assertEqual(set(out["report"].values()), {0.0})
            self.assertFalse(out["w"].any())

    def test_labels(self):
        micro = make_micro(self.rng, vocab_valid=4)
        micro.labels[0] = 4
        self.assertEqual(self.run_one(micro)["status"], "E_LABEL")
        micro.labels[0] = -100
        self.assertEqual(self.run_one(micro)["status"], "OK")

    def test_label_offset(self):
        ids = np.array([0, 0, 0, 1, 1, -1, -1, 2, 2, 2])
        flat = np.array([7, 1, 2, 3, 4, 5, 6, 0, -100, 3])
        micro = Micro(np.zeros((10, 8)), flat, ids)
        label, counts = ref.resolve_labels(micro, Options(label_offset=1))
        self.assertEqual(list(np.flatnonzero(counts)), [0, 1, 3, 8])
        self.assertEqual(list(label[counts]), [1, 2, 4, 3])
        micro.labels = flat.reshape(5, 2)
        label, counts = ref.resolve_labels(micro, Options(label_offset=1))
        self.assertEqual(list(np.flatnonzero(counts)), [0, 8])

    def test_weights(self):
        micro = make_micro(self.rng)
        plain = self.run_one(micro, weighting=0)
        zero = self.run_one(micro, beta=0.0)
        self.assertTrue((plain["micro"][0]["grad"] == zero["micro"][0]["grad"]).all())
        out = self.run_one(micro)
        self.assertTrue(((out["w"] < 1) == (out["c"] > out["c"].mean())).all())
        before = out["report"]["mean_w"]
        out = self.run_one(micro, renormalise=1)
        self.close(np.mean(out["w"]), 1)
        self.close(out["report"]["mean_w"], before)    # the report shows w before it
        absent = self.run_one(micro, n_samples=5, renormalise=1)     # w = 0 is not in the mean
        self.close(absent["w"], np.append(out["w"], [0, 0]))
        micro = make_micro(self.rng, rows=6)      # two equal rows each: c is equal exactly
        micro.logits[:] = micro.logits[0]
        micro.labels[:] = 2
        self.assertTrue((self.run_one(micro, ddof=1)["w"] == 1).all())
        micro.sample_ids[:] = 1
        self.assertEqual(list(self.run_one(micro, ddof=1)["w"]), [0, 1, 0])


class Reports(Base):
    def test_scales(self):
        """scale_r = w_i times the table of reductions; B and n_i are counted numbers."""
        micro = make_micro(self.rng, rows=8)
        count = micro.labels != -100
        ids = micro.sample_ids[count]
        n = np.bincount(ids)[ids]
        for d in (0.0, 12.5):
            for red, want in (("token_mean", 1 / (d or 7)), ("sample_sum", 1 / (d or 3)),
                              ("sample_mean", 1 / ((d or 3) * n)), ("sum", 1 / (d or 1))):
                out = ref.run_batch([micro], Options(reduction=red, denominator=d, grad_scale=8.0), 5)
                self.close(out["micro"][0]["scale"][count], out["w"][ids] * want, what=red)

    def test_report(self):
        micro = make_micro(self.rng, rows=8)
        count = micro.labels != -100
        out = ref.run_batch([micro], Options(reduction="sum"), 4)
        rows, rep, w = out["micro"][0], out["report"], out["w"][:3]
        l, p, a = (rows[key][count] for key in ("l", "p", "scale"))
        self.close(rep["loss"], np.sum(a * p * l))
        self.close((rep["nll"], rep["mean_p"]), (l.mean(), p.mean()))
        self.close(rep["gradient_scale"], np.sum(a * p) / 7)
        self.close((rep["mean_w"], rep["min_w"]), (w.mean(), w.min()))
        self.close(rep["share_below"], np.mean(w < 1))
        self.close((rep["mu"], rep["sigma"]), (out["c"][:3].mean(), out["c"][:3].std()))
        self.assertEqual([rep["n_samples"], rep["n_rows"], list(out["n"][3:])], [3, 7, [0]])
        self.assertTrue(np.isnan(out["c"][3]) and np.isnan(out["chat"][3]) and out["w"][3] == 0)


class Shards(Base):
    def test_moments(self):
        c = self.rng.gamma(2, 1, 200) + 1e6
        whole = ref.moments(c)
        for _ in range(20):
            cuts = np.sort(self.rng.integers(0, 201, 7))
            parts = [ref.moments(x) for x in np.split(self.rng.permutation(c), cuts)]
            merged = parts[0]
            for part in parts[1:]:
                merged = ref.merge_moments(merged, part)
            self.close(merged, whole)

    def test_vocabulary(self):
        for _ in range(20):
            z = self.rng.normal(0, 6, 23)
            z[self.rng.integers(0, 23, 4)] = -INF
            y = int(self.rng.integers(0, 23))
            cuts = [0, *np.sort(self.rng.integers(0, 24, 3)), 23]
            parts = [ref.vocab_partial(z[a:b], a, y) for a, b in zip(cuts, cuts[1:]) if b > a]
            row = ref.analyse_row(z, y)
            self.close(ref.vocab_combine(parts), (row.m, row.l), 1e-12, 1e-15)

    def test_rows(self):
        """Micro-batches and rows in any order give what one micro-batch gives."""
        micro = make_micro(self.rng, rows=12)
        whole = ref.run_batch([micro], Options(), 3)
        order = self.rng.permutation(12)
        parts = np.split(order, [0, 4, 9])
        batch = [Micro(micro.logits[i], micro.labels[i], micro.sample_ids[i]) for i in parts]
        split = ref.run_batch(batch, Options(), 3)
        for i, out in zip(parts, split["micro"]):
            self.close(out["grad"], whole["micro"][0]["grad"][i], 1e-12, 1e-18)
        self.close(split["w"], whole["w"])
        self.close(split["report"]["loss"], whole["report"]["loss"])


class Scopes(Base):
    def test_running(self):
        decay, mu, sigma, t = 0.8, 0.0, 0.0, 0
        sizes = (1, 3, 3, 1, 3)                       # B = 1 does not update
        batches = [[make_micro(self.rng, samples=b)] for b in sizes]
        results = run_case(batches, Options(scope="running", running_decay=decay, ddof=1), 3)
        for out, b in zip(results, sizes):
            c = out["c"][:b]
            own = (c.mean(), c.std(ddof=1)) if b > 1 else (c.mean(), 0.0)
            use = (mu / (1 - decay ** t), sigma / (1 - decay ** t)) if t else own
            chat = (c - use[0]) / (use[1] + 1e-6)
            self.close(out["w"][:b], np.exp(-np.maximum(0, chat)))
            self.close((out["report"]["mu"], out["report"]["sigma"]), use)
            if b >= 2:
                mu, sigma = decay * mu + (1 - decay) * own[0], decay * sigma + (1 - decay) * own[1]
                t += 1

    def test_local(self):
        a, b = make_micro(self.rng), make_micro(self.rng)
        b.sample_ids += 3
        out = ref.run_batch([a, b], Options(scope="local"), 6)
        for ids, micro in ((range(3), a), (range(3, 6), b)):
            self.close(out["w"][list(ids)], ref.run_batch([micro], Options(), 6)["w"][list(ids)])


class Golden(Base):
    def test_decode(self):
        """The committed files decode to inputs that give the committed results."""
        files = sorted(GOLDEN.glob("*.json"))
        if not files:
            self.skipTest("no golden files")
        for path, case in ((p, c) for p in files for c in golden_format.load(p)):
            results = run_case(golden_format.decode_batches(case), Options(**case["options"]),
                               case["n_samples"])
            for want, got in zip(case["batches"], results):
                got = golden_format.encode_expect(got)
                golden_format.same_expect(want["expect"], got, 1e-12, f"{path.name} {case['name']}")


if __name__ == "__main__":
    SEED = int.from_bytes(os.urandom(4), "little")
    if "--seed" in sys.argv:
        at = sys.argv.index("--seed")
        SEED = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    print(f"seed {SEED}", flush=True)
    unittest.main()
