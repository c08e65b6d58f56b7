# SPDX-License-Identifier: Apache-2.0
"""The golden cases about how rows are laid out, spread over micro-batches, and about the
edge cases of the method."""
import numpy as np

import cadft_reference as ref
from golden_cases import INF, NAN, REDUCTIONS, Source, Spec, host_of


def layouts(add):
    for o in ("dft", "sft"):
        add(f"{o}_permuted_ids", lambda s: s.spec(9, 6, ids=[2, 0, 1, 1, 2, 0, 0, 2, 1]), objective=o)
        add(f"{o}_gaps_in_ids", lambda s: s.spec(8, 6, ids=[1, 1, 4, 4, 4, 7, 7, 7]), 9, objective=o)
        add(f"{o}_negative_ids", lambda s: s.spec(9, 6, ids=[0, -1, 0, 1, -1, -1, 1, 0, -2]), 2,
            objective=o)
        add(f"{o}_prompt_rows", prompts, objective=o)
    for reduction in REDUCTIONS:
        add(f"gaps_{reduction}", lambda s: s.spec(8, 6, ids=[5, 5, 4, -1, 4, 0, 0, 4]), 6,
            reduction=reduction)
    add("labels_i64", lambda s: s.spec(8, 6, label_dtype="i64"), objective="focal")
    add("labels_2d", lambda s: two_dimensional(s, 3, 4))
    add("labels_2d_i64_bf16", lambda s: two_dimensional(s, 2, 5, label_dtype="i64", dtype="bf16"))
    for o in ("dft", "sft", "host"):
        add(f"offset_1d_{o}", lambda s: shifted(s, 12, None, **host_of(o)), label_offset=1, objective=o)
        add(f"offset_2d_{o}", lambda s: shifted(s, 12, 4, **host_of(o)), label_offset=1, objective=o)
    add("offset_1d_i64", lambda s: shifted(s, 10, None, label_dtype="i64"), label_offset=1)
    add("offset_packed_2d",
        lambda s: shifted(s, 12, 6, ids=[0, 0, 0, 1, 1, -1, 2, 2, 2, 2, -1, -1]), label_offset=1)
    add("offset_sequence_end", lambda s: shifted(s, 8, 4, ids=[0] * 8), 1, label_offset=1)
    add("offset_alternating", lambda s: shifted(s, 6, None, ids=[0, 1, 0, 1, 0, 1]), 2, label_offset=1)
    add("offset_one_row", lambda s: shifted(s, 1, None, ids=[0]), 1, label_offset=1)
    add("offset_first_label_out_of_range", first_label_unused, 2, label_offset=1)
    for ignore in (-1, 0, 3):
        add(f"ignore_index_{ignore}", lambda s: ignoring(s, ignore), ignore_index=ignore)
    for o in ref.OBJECTIVES:
        add(f"vocab_valid_{o}", lambda s: padded(s, 11, 8, **host_of(o)), objective=o)
    for valid in (1, 33):
        add(f"vocab_valid_{valid}_of_40", lambda s: padded(s, 40, valid))
    add("vocab_valid_bf16", lambda s: padded(s, 16, 13, dtype="bf16"), z_loss=0.1, softcap=20.0)
    add("vocab_valid_smoothing", lambda s: padded(s, 11, 8), label_smoothing=0.1)
    for o in ref.OBJECTIVES:
        add(f"single_row_{o}", lambda s: s.spec(1, 6, 1, ignored=0, **host_of(o)), 1, objective=o)
        add(f"one_column_{o}", lambda s: s.spec(4, 1, 2, ignored=0, **host_of(o)), 2, objective=o)
    add("one_column_terms", lambda s: s.spec(4, 1, 2, ignored=0), 2, z_loss=0.1, label_smoothing=0.1)
    for columns in (2, 3, 4, 8, 15, 16, 17, 31, 33, 65, 130):
        add(f"columns_{columns}", lambda s: s.spec(3, columns, 3, 3.0, ignored=0))
    for columns in (7, 9, 33, 130):
        for dtype in ("bf16", "f16"):
            add(f"columns_{columns}_{dtype}", lambda s: s.spec(3, columns, 3, 3.0, ignored=0, dtype=dtype),
                objective="sft")


def prompts(s):
    """Packed samples whose first rows are prompt: no label, never read."""
    spec = s.spec(12, 6, 3, ignored=0)
    spec.labels[[0, 1, 4, 8, 9, 10]] = -100
    return spec


def two_dimensional(s, sequences, length, **rest):
    spec = s.spec(sequences * length, 6, sequences, **rest)
    spec.labels = spec.labels.reshape(sequences, length)
    return spec


def shifted(s, rows, length, **rest):
    """Labels still aligned with their own token; one position has none."""
    spec = s.spec(rows, 6, 3, ignored=0, **rest)
    if rows > 8:
        spec.labels[2] = -100
    if length:
        spec.labels = spec.labels.reshape(-1, length)
    return spec


def first_label_unused(s):
    """The first label of a sequence is the label of no row: its value does not matter."""
    spec = shifted(s, 8, 4, ids=[0, 0, 0, 0, 1, 1, 1, 1])
    spec.labels[:, 0] = (77, -5)
    return spec


def ignoring(s, ignore):
    spec = s.spec(9, 6, ignored=0)
    spec.labels[[1, 7]] = ignore
    return spec


def padded(s, columns, valid, **rest):
    """Columns from vocab_valid on hold what nobody may read."""
    spec = s.spec(6, columns, 3, ignored=0, vocab_valid=valid, **rest)
    spec.logits[:, valid:] = np.where(s.uniform(6, columns - valid) < 0.5, NAN, INF)
    return spec


# ---------------------------------------------------------------- micro-batches and scopes

def accumulation(add):
    def split(s, rows=(5, 3, 4), samples=4, columns=6, **rest):
        """Samples dealt over all micro-batches, so that every one is split."""
        return [s.spec(n, columns, ids=s.integers(samples, n), ignored=0, **rest) for n in rows]

    def whole(s, sizes=(4, 5, 3), first=0, **rest):
        """Two samples per micro-batch, none split; the labels all count."""
        return [s.spec(n, 6, 2, first=first + 2 * i, ignored=0, **rest) for i, n in enumerate(sizes)]

    for o in ("dft", "sft", "dft_nosg", "host"):
        add(f"exact_split_{o}", lambda s: split(s, **host_of(o)), 4, objective=o)
    for r in REDUCTIONS:
        add(f"exact_split_{r}", lambda s: split(s), 4, reduction=r)
        add(f"exact_split_{r}_denominator", lambda s: split(s), 4, reduction=r, denominator=20.0,
            renormalise=1)
    add("exact_whole", lambda s: whole(s), 6)
    add("exact_bf16", lambda s: split(s, dtype="bf16"), 4, z_loss=0.01, ddof=1)
    add("exact_one_row_each", lambda s: split(s, (1,) * 6, 3), 3)
    add("exact_empty_micro", lambda s: split(s, (4, 0, 5)), 4)
    add("exact_two_steps", lambda s: [split(s), split(s, (6, 2))], 4)
    add("exact_offset", split_sequence, 2, label_offset=1)

    def broken(s, value):
        batch = split(s, (5, 5), 3)
        batch[0].sample_ids[:] = (0, 1, 1, 2, 2)
        batch[1].sample_ids[:] = (0, 0, 1, 0, 2)
        r = 2
        if value == "masked label":
            batch[1].logits[r, batch[1].labels[r]] = -INF
        else:
            batch[1].logits[r, 3] = value
        return batch
    add("exact_error_second_micro", lambda s: broken(s, NAN))
    add("exact_skip_split", lambda s: broken(s, NAN), nonfinite="skip")
    add("exact_infinite_split", lambda s: broken(s, "masked label"))
    for name, more in (("sum", {"reduction": "sum"}), ("denominator", {"denominator": 16.0}),
                       ("samples", {"reduction": "sample_sum", "denominator": 6.0, "ddof": 1}),
                       ("sample_mean", {"reduction": "sample_mean", "denominator": 6.0})):
        add(f"local_{name}", lambda s: whole(s), 6, scope="local", **more)
    add("local_one_micro", lambda s: s.spec(), scope="local", renormalise=1)
    add("local_one_sample_each", lambda s: [s.spec(4, 6, 1, first=i) for i in range(3)], 3,
        scope="local", reduction="sum")

    def steps(s, samples=(3, 4, 3, 4), **rest):
        """Global batches of one micro-batch each."""
        return [[s.spec(b + 3, 4, b, **rest)] for b in samples]
    for name, more in (("default", {}), ("decay", {"running_decay": 0.5}), ("ddof", {"ddof": 1}),
                       ("renormalise", {"renormalise": 1}), ("sft", {"objective": "sft", "beta": 2.0}),
                       ("weighting_off", {"weighting": 0})):
        add(f"running_{name}", lambda s: steps(s), 4, scope="running", **more)
    add("running_first_one_sample", lambda s: steps(s, (1, 3, 1, 4)), 4, scope="running")
    add("running_first_one_sample_ddof", lambda s: steps(s, (1, 2, 1, 4)), 4, scope="running", ddof=1)

    def equal_first(s):
        batches = steps(s, (2, 3, 3, 4))
        batches[0] = [Spec(np.repeat(s.bell(1, 4), 4, 0), [1] * 4, [0, 0, 1, 1])]
        return batches
    add("running_sigma_zero_first", equal_first, 4, scope="running")

    def with_empty(s):
        batches = steps(s)
        batches[1][0].labels[:] = -100
        return batches
    add("running_empty_step", with_empty, 4, scope="running")

    def with_left_out(s):
        batches = steps(s, (4, 4, 4, 4))
        batches[0][0].logits[0, 2] = NAN
        batches[2][0].logits[3, batches[2][0].labels[3]] = -INF
        return batches
    add("running_left_out", with_left_out, 4, scope="running", nonfinite="skip")
    for name, more in (("sum", {"reduction": "sum"}), ("denominator", {"denominator": 12.0})):
        add(f"running_micro_batches_{name}",
            lambda s: [[s.spec(7, 6, 3)], whole(s), whole(s, (3, 4)), whole(s)], 6,
            scope="running", **more)


def split_sequence(s):
    """Two micro-batches cut inside a sample: the row at the cut has no next label."""
    return [s.spec(5, 6, ids=[0, 0, 0, 1, 1], ignored=0), s.spec(5, 6, ids=[1, 1, 1, 0, 0], ignored=0)]


# ---------------------------------------------------------------- edge cases

# Logit of the label against 0 and -1: p from 1e-35 over 1/2 to 1 - 1e-7 and 1 - 1e-35.
EXTREME = (-80.0, -69.125, -20.0, 0.0, 2.0, 9.0, 16.25, 40.0, 80.0)


def extreme(dtype="f32", host=False):
    def make(s):
        logits = np.array([[0.0, label, -1.0] for label in EXTREME])
        return Spec(logits, [1] * 9, [0, 1, 2, 0, 1, 2, 0, 1, 2],
                    np.arange(9) / 8 if host else None, dtype=dtype)
    return make


def edges(add):
    for o in ref.OBJECTIVES:
        add(f"extreme_p_{o}", extreme(host=o == "host"), objective=o)
        add(f"masks_{o}", lambda s: masks(s, **host_of(o)), objective=o)
        for w in (0, 1):
            add(f"masked_label_{o}_weighting{w}", lambda s: masked_label(s, **host_of(o)), objective=o,
                weighting=w)
    for o in ("sft", "dft", "focal", "eaft"):
        add(f"hundred_{o}", hundred, objective=o)
    add("extreme_p_bf16", extreme("bf16"))
    add("extreme_p_f16", extreme("f16"))
    add("extreme_p_z_loss_smoothing", extreme(), z_loss=0.1, label_smoothing=0.1)
    for gamma in (0.0, 0.5, 1.0, 5.0):
        add(f"extreme_p_focal_{gamma}", extreme(), objective="focal", focal_gamma=gamma)
    add("extreme_p_power_0", extreme(), objective="power", power_q=0.0)
    for dtype in ("bf16", "f16"):
        add(f"masks_{dtype}", lambda s: masks(s, dtype=dtype))
        add(f"masked_label_{dtype}", lambda s: masked_label(s, dtype=dtype))
        add(f"nan_skip_{dtype}", lambda s: poisoned(s, NAN, dtype=dtype), nonfinite="skip")
        add(f"inf_error_{dtype}", lambda s: poisoned(s, INF, dtype=dtype))
    for r in REDUCTIONS:
        add(f"masked_label_{r}", masked_label, reduction=r, renormalise=1)
        add(f"all_ignored_{r}", all_ignored, reduction=r)
    add("masked_label_smoothing", masked_label, label_smoothing=0.1)
    add("masked_label_every_sample", lambda s: masked_label(s, rows=(0, 4, 8)))
    add("masked_label_one_left", lambda s: masked_label(s, rows=(0, 4)), ddof=1)
    add("only_label_unmasked", only_label, label_smoothing=0.1, z_loss=0.1)
    add("all_ignored_renormalise", all_ignored, renormalise=1, nonfinite="skip")
    add("all_ids_negative", lambda s: s.spec(5, 4, ids=[-1, -1, -3, -1, -1], ignored=0))
    add("zero_rows", lambda s: Spec(np.zeros((0, 5)), np.zeros(0, int), np.zeros(0, int)))
    add("zero_rows_2d", lambda s: Spec(np.zeros((0, 5)), np.zeros((0, 4), int), np.zeros(0, int)),
        label_offset=1)
    for dtype, base in (("f32", 0.0), ("f32", 1e4), ("f32", -1e4)):
        for o in ("dft", "sft"):
            add(f"shift_{base:g}_{o}", lambda s: shift(base, dtype), objective=o)
    for name, value in (("nan", NAN), ("inf", INF), ("all_masked", None)):
        add(f"{name}_error", lambda s: poisoned(s, value))
        for w in (0, 1):
            add(f"{name}_skip_weighting{w}", lambda s: poisoned(s, value), nonfinite="skip", weighting=w)
        add(f"{name}_softcap_skip", lambda s: poisoned(s, value), nonfinite="skip", softcap=5.0)
    add("inf_error_softcap", lambda s: poisoned(s, INF), softcap=5.0)
    add("nan_error_first_of_two", lambda s: poisoned(s, NAN, rows=(7, 4)))
    add("nan_skip_every_sample", lambda s: poisoned(s, NAN, rows=(0, 3, 8)), nonfinite="skip")
    add("nan_skip_one_left", lambda s: poisoned(s, NAN, rows=(0, 8)), nonfinite="skip", renormalise=1)
    add("nan_on_the_label", lambda s: poisoned(s, NAN, label=True), nonfinite="skip")
    add("skip_and_infinite", skip_and_infinite, nonfinite="skip")
    add("skip_wins_over_infinite", lambda s: skip_and_infinite(s, same=True), nonfinite="skip")
    add("all_masked_but_padding", poisoned_padding, nonfinite="skip")
    for name, value, more in (("too_large", 6, {}), ("negative", -1, {}), ("in_padding", 5, {}),
                              ("old_ignore", -100, {"ignore_index": -1}),
                              ("minus_99", -99, {}), ("skip", 9, {"nonfinite": "skip"})):
        add(f"label_{name}", lambda s: wrong_label(s, value), **more)
    add("label_i64_wraps", lambda s: wrong_label(s, 2 ** 32 + 1, label_dtype="i64"))
    add("label_offset_wrong", lambda s: wrong_label(s, 6), label_offset=1)


def masks(s, **rest):
    """Masked columns in every row, among them the largest and all but two."""
    spec = s.spec(9, 8, 3, 3.0, ignored=0, **rest)
    keep = np.arange(8) == spec.labels[:, None]
    spec.logits[(s.uniform(9, 8) < 0.3) & ~keep] = -INF
    spec.logits[3] = np.where(keep[3] | keep[3][::-1], spec.logits[3], -INF)
    return spec


def masked_label(s, rows=(4,), **rest):
    spec = s.spec(9, 5, 3, ignored=0, **rest)
    for r in rows:
        spec.logits[r, spec.labels[r]] = -INF
    return spec


def only_label(s):
    """Nothing but the label is unmasked: p = 1, gradient 0 but for the z-loss."""
    spec = s.spec(6, 5, 3, ignored=0)
    for r in (0, 3):
        spec.logits[r] = np.where(np.arange(5) == spec.labels[r], spec.logits[r], -INF)
    return spec


def hundred(s):
    spec = s.spec(9, 6, 3, ignored=0)
    spec.logits[:6] = np.where(s.uniform(6, 6) < 0.5, 100.0, -100.0)
    spec.logits[0] = 100.0
    spec.logits[4] = -100.0
    return spec


def all_ignored(s):
    spec = s.spec(6, 5, 3, ignored=0)
    spec.labels[:] = -100
    return spec


def shift(base, dtype):
    """The same rows around 0 and around +-1e4: float32 holds both exactly."""
    rows = np.floor(Source("shift").bell(6, 7) * 512) / 256
    return Spec(base + rows, [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], dtype=dtype)


def poisoned(s, value, rows=(4,), label=False, **rest):
    """value in one column of the rows, or (None) -inf in all columns."""
    spec = s.spec(9, 5, 3, ignored=0, **rest)
    for r in rows:
        if value is None:
            spec.logits[r] = -INF
        else:
            spec.logits[r, spec.labels[r] if label else (spec.labels[r] + 2) % 5] = value
    return spec


def poisoned_padding(s):
    """A row whose valid columns are all -inf, while the padding is finite."""
    spec = s.spec(6, 6, 3, ignored=0, vocab_valid=4)
    spec.logits[2, :4] = -INF
    return spec


def skip_and_infinite(s, same=False):
    spec = masked_label(s, rows=(4,))
    spec.logits[3 if same else 7, 0] = NAN
    spec.labels[3 if same else 7] = 1
    return spec


def wrong_label(s, value, **rest):
    spec = s.spec(9, 6, 3, ignored=0, vocab_valid=5, **rest)
    spec.labels[5] = value
    return spec


THEMES = {"layouts": layouts, "accumulation": accumulation, "edges": edges}
