# SPDX-License-Identifier: Apache-2.0
"""The golden cases, theme by theme: THEMES[name](add) adds the cases of one file.

Every case draws from its own generator, seeded by its name, so that adding a case leaves
the others as they are.  Only RandomState.random_sample and .permutation are drawn from
(numpy froze these streams) and only exact or correctly rounded arithmetic follows."""
import zlib

import numpy as np

import cadft_reference as ref
from golden_format import Spec, make_case

NAN, INF = np.nan, np.inf
REDUCTIONS = ("token_mean", "sample_sum", "sample_mean", "sum")


class Source:
    """Random inputs of one case."""

    def __init__(self, name):
        self.state = np.random.RandomState(zlib.crc32(name.encode()))

    def uniform(self, *shape):
        return self.state.random_sample(shape)

    def bell(self, *shape):
        """About normal(0, 1): four uniforms added, without any library function."""
        u = [self.uniform(*shape) for _ in range(4)]
        return (u[0] + u[1] + u[2] + u[3] - 2.0) * 1.75

    def integers(self, high, *shape):
        return (self.uniform(*shape) * high).astype(np.int64)

    def spec(self, rows=9, columns=7, samples=3, spread=2.0, first=0, ignored=1, host=False,
             ids=None, **rest):
        """Rows of samples first, first + 1, ... laid end to end, the last `ignored` rows of the
        first sample without a label; half the labels are raised so that p spans (0, 1)."""
        if ids is None:
            ids = first + np.arange(rows) * samples // max(rows, 1)
        ids = np.asarray(ids)
        labels = self.integers(rest.get("vocab_valid") or columns, rows)
        logits = self.bell(rows, columns) * spread
        raised = self.uniform(rows) * (self.uniform(rows) < 0.5) * 3 * spread
        logits[np.arange(rows), labels] += raised
        if ignored:
            labels[np.flatnonzero(ids == ids[0])[1:][:ignored]] = -100
        k = np.floor(self.uniform(rows) * 128 - 32) / 64 if host else None
        return Spec(logits, labels, ids, k, **rest)


def build(name_of_theme, theme):
    """The encoded cases of one theme."""
    cases = []

    def add(name, make, n_samples=3, **options):
        """make(source) -> a Spec, a list of Spec (micro-batches) or a list of such lists."""
        for attempt in range(20):         # drawn again until it is well conditioned
            made = make(Source(f"{name_of_theme}/{name}/{attempt}"))
            if isinstance(made, Spec):
                made = [made]
            if isinstance(made[0], Spec):
                made = [made]
            case = make_case(name, made, n_samples, **options)
            if case:
                cases.append(case)
                return
        raise ValueError(f"{name}: not well conditioned")

    theme(add)
    return cases


def host_of(objective):
    return {"host": objective == "host"}


# ---------------------------------------------------------------- themes

def objectives(add):
    for o in ref.OBJECTIVES:
        for weighting in (1, 0):
            add(f"{o}_weighting{weighting}", lambda s: s.spec(**host_of(o)),
                objective=o, weighting=weighting)
        add(f"{o}_wide", lambda s: s.spec(6, 40, 3, 3.0, **host_of(o)), objective=o)
    for key, o, values in (("power_q", "power", (0.0, 0.25, 1.0)),
                           ("focal_gamma", "focal", (0.0, 0.5, 1.0, 5.0)),
                           ("eaft_alpha", "eaft", (0.0, 0.5, 2.0)),
                           ("infosft_target", "infosft", (0.5, 0.99))):
        for value in values:
            add(f"{key}_{value}", lambda s: s.spec(8, 6, 3), objective=o, **{key: value})


def weighting(add):
    for o in ("dft", "sft"):
        for beta in (0.0, 0.25, 3.0, 10.0):
            add(f"{o}_beta_{beta}", lambda s: s.spec(10, 5, 4), 4, objective=o, beta=beta)
    for eps in (1e-3, 1.0):
        add(f"eps_{eps}", lambda s: s.spec(10, 5, 4), 4, eps=eps)
    for b in (1, 2, 5):
        for ddof in (0, 1):
            add(f"samples_{b}_ddof_{ddof}", lambda s: s.spec(10, 5, b), 5, ddof=ddof)
    add("off_one_sample", lambda s: s.spec(4, 5, 1), 1, weighting=0)
    add("sixteen_samples_one_row", lambda s: s.spec(16, 6, 16, ignored=0), 16)
    for beta in (0.0, 1.0, 3.0):
        add(f"renormalise_beta_{beta}", lambda s: s.spec(10, 5, 4), 4, beta=beta, renormalise=1)
    add("renormalise_sft_ddof", lambda s: s.spec(10, 5, 4), 4, objective="sft", ddof=1, renormalise=1)
    add("renormalise_off", lambda s: s.spec(10, 5, 4), 4, weighting=0, renormalise=1)
    add("renormalise_one_sample", lambda s: s.spec(4, 5, 1), 1, renormalise=1)

    def equal(counts):              # one or two rows each: the sums, so the c, are exact
        def make(s):
            ids = np.repeat(np.arange(len(counts)), counts)
            row = s.bell(1, 6) * 2
            return Spec(np.repeat(row, len(ids), 0), np.full(len(ids), 2), ids)
        return make
    for ddof in (0, 1):
        add(f"equal_c_ddof_{ddof}", equal((1, 2, 2)), ddof=ddof)
    add("equal_c_two", equal((2, 2)), 2, renormalise=1, beta=3.0)

    def outlier(s):
        spec = s.spec(12, 6, 6, ignored=0)
        spec.logits[4:6] = 0
        spec.logits[[4, 5], spec.labels[4:6]] = -40
        return spec
    add("outlier", outlier, 6)
    add("outlier_renormalise", outlier, 6, renormalise=1, ddof=1)
    add("one_counting_row_each", lambda s: s.spec(6, 4, 3, ids=[0, 0, 1, 2, 2, 0], ignored=2))


def terms(add):
    for o in ref.OBJECTIVES:
        add(f"{o}_z_loss", lambda s: s.spec(6, 6, 3, **host_of(o)), objective=o, z_loss=0.01)
        add(f"{o}_softcap", lambda s: s.spec(6, 6, 3, 5.0, **host_of(o)), objective=o, softcap=8.0)
    for o in ("dft_nosg", "power", "focal"):
        add(f"{o}_z_loss_softcap", lambda s: s.spec(6, 6, 3, 5.0, **host_of(o)), objective=o,
            softcap=8.0, z_loss=0.5)
    for o in ref.STOP_GRADIENT:
        for name, more in (("", {}), ("_z_loss", {"z_loss": 0.25}), ("_softcap", {"softcap": 8.0}),
                           ("_all", {"z_loss": 0.25, "softcap": 8.0, "weighting": 0})):
            add(f"{o}_smoothing{name}", lambda s: s.spec(6, 6, 3, 4.0, **host_of(o)),
                objective=o, label_smoothing=0.1, **more)

    def masked(s, **rest):
        spec = s.spec(6, 9, 3, 4.0, **rest)
        keep = np.arange(9) == spec.labels[:, None]
        spec.logits[(s.uniform(6, 9) < 0.4) & ~keep] = -INF
        return spec
    for name, more in (("z_loss", {"z_loss": 0.1}), ("smoothing", {"label_smoothing": 0.2}),
                       ("softcap", {"softcap": 6.0}),
                       ("all", {"z_loss": 0.1, "label_smoothing": 0.2, "softcap": 6.0})):
        add(f"masked_{name}", masked, **more)
        add(f"padded_{name}", lambda s: masked(s, vocab_valid=7), objective="sft", **more)

    def masked_label(s):
        spec = masked(s)
        spec.logits[4, spec.labels[4]] = -INF
        return spec
    for w in (0, 1):
        add(f"masked_label_all_weighting{w}", masked_label, weighting=w, z_loss=0.1,
            label_smoothing=0.2, softcap=6.0)
    add("softcap_saturated", lambda s: s.spec(6, 6, 3, 60.0), softcap=10.0)
    add("softcap_wide", lambda s: s.spec(6, 6, 3), softcap=1000.0)
    add("smoothing_heavy", lambda s: s.spec(6, 6, 3), objective="sft", label_smoothing=0.9)
    add("z_loss_bf16", lambda s: s.spec(6, 6, 3, dtype="bf16"), z_loss=1e-4)
    add("all_f16_renormalise", lambda s: s.spec(8, 7, 3, dtype="f16"), z_loss=1e-3, softcap=30.0,
        label_smoothing=0.1, renormalise=1, grad_scale=128.0, reduction="sample_mean")


def reductions(add):
    for r in REDUCTIONS:
        for d in (0.0, 37.5):
            for g in (1.0, 1024.0):
                add(f"{r}_denominator_{d}_scale_{g}", lambda s: s.spec(8, 5, 3), reduction=r,
                    denominator=d, grad_scale=g)
        add(f"{r}_weighting_off", lambda s: s.spec(8, 5, 3), reduction=r, weighting=0, objective="sft")
        add(f"{r}_renormalise", lambda s: s.spec(8, 5, 3), reduction=r, renormalise=1)
        add(f"{r}_uneven", lambda s: s.spec(8, 5, 3, ids=[0, 1, 1, 1, 1, 1, 2, 2]), reduction=r)

        def left_out(s):            # sample 1 infinite, 2 skipped, 4 absent
            spec = s.spec(10, 5, 5, ids=[0, 0, 1, 1, 2, 2, 3, 3, 3, -1])
            spec.logits[2, spec.labels[2]] = -INF
            spec.logits[5, 1] = NAN
            return spec
        for d in (0.0, 12.0):
            add(f"{r}_left_out_{d}", left_out, 5, reduction=r, nonfinite="skip", denominator=d)


def dtypes(add):
    for t in ("bf16", "f16"):
        for o in ref.OBJECTIVES:
            add(f"{t}_{o}", lambda s: s.spec(6, 7, 3, 3.0, dtype=t, **host_of(o)), objective=o)
        for o in ("dft", "sft", "focal"):
            add(f"{t}_peaked_{o}", lambda s: peaked(s, t), objective=o)
            add(f"{t}_large_{o}", lambda s: s.spec(6, 7, 3, 30.0, dtype=t), objective=o)
        add(f"{t}_wide", lambda s: s.spec(6, 70, 3, 4.0, dtype=t))
        add(f"{t}_sixty", lambda s: sixty(s, t))
        add(f"{t}_grad_scale", lambda s: s.spec(6, 7, 3, dtype=t), grad_scale=65536.0)
        add(f"{t}_z_loss_smoothing", lambda s: s.spec(6, 7, 3, dtype=t), z_loss=0.01,
            label_smoothing=0.1)

    def f16_max(s):
        spec = s.spec(6, 5, 3, 2.0, ignored=0, dtype="f16")
        spec.logits[0, :] = (65504, -65504, 0, 60000, 6.2e-5)
        spec.logits[1, :] = (65504, 65504, 0, -1, 65504)
        spec.logits[2, :] = (-65504, -65504, -65504, -65504, -65504)
        spec.logits[3, :] = 2.0 ** -24 * np.arange(5)         # subnormal
        spec.labels[:4] = (3, 1, 2, 4)
        return spec
    for o in ("dft", "sft", "eaft", "infosft"):
        add(f"f16_max_{o}", f16_max, objective=o)
    add("bf16_subnormal_and_1e4", lambda s: Spec([[1e-40, -1e-39, 0.5], [10048, 9984, -1e4],
                                                  [256, 257, 258.0]], [1, 0, 0], [0, 0, 1],
                                                 dtype="bf16"))
    add("f32_neighbours", lambda s: Spec([[1, 1 + 2.0 ** -23, 1 - 2.0 ** -24], [8e6, 8e6 + .5, 8e6 - 1],
                                          [-1e6, -1e6 + 8, -1e6]], [1, 0, 0], [0, 1, 1]))


def peaked(s, dtype):
    """p between 0.9 and 1 - 1e-6 on most rows, one surprised row."""
    spec = s.spec(9, 7, 3, 1.0, ignored=0, dtype=dtype)
    boost = np.floor(s.uniform(9) * 12 + 4)
    boost[8] = -8
    logits = np.floor(s.bell(9, 7) * 4) / 4
    logits[np.arange(9), spec.labels] = boost
    spec.logits = logits
    return spec


def sixty(s, dtype):
    logits = np.where(s.uniform(6, 7) < 0.5, -60.0, 60.0)
    logits[:, 0], logits[:, 1] = 60.0, -60.0
    return Spec(logits, [0, 2, 0, 0, 1, 2], [0, 0, 0, 1, 1, 1], dtype=dtype)


THEMES = {"objectives": objectives, "weighting": weighting, "terms": terms,
          "reductions": reductions, "dtypes": dtypes}
