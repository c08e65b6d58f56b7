# SPDX-License-Identifier: Apache-2.0
"""The CADFT loss in plain Python, written from the formulas and not from the C.

Sources: CADFT (Zhou, Sheng, Wang, Shen, ACL 2026, arXiv 2606.11206) for the sample
weight, DFT (Wu et al., arXiv 2508.05629) for the token coefficient p.  Everything is
computed in numpy's long double and handed back as float64, so that the results are
good to about 1e-13 relative also where p is within 1e-30 of 0 or of 1.

    rows     one predicted token each; logits are [rows, V], exact values
    sample   the demonstration a row belongs to, 0 .. n_samples-1
    batch    the global batch of one optimizer step: a list of Micro (micro-batches)

Entry point: run_case(batches, options, n_samples) -> one result per global batch.
"""
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

LD = np.longdouble
OBJECTIVES = ("sft", "dft", "dft_nosg", "power", "focal", "eaft", "infosft", "host")
# Objectives whose token loss is sg(k) * l: label smoothing is defined for these only.
STOP_GRADIENT = ("sft", "dft", "eaft", "infosft", "host")
REPORT_FIELDS = ("loss", "nll", "mean_p", "mean_w", "min_w", "share_below", "mu", "sigma",
                 "n_samples", "n_rows", "gradient_scale", "skipped", "infinite")


@dataclass
class Options:
    objective: str = "dft"
    weighting: int = 1            # 0: w = 1 for every sample of B
    beta: float = 1.0
    eps: float = 1e-6
    ddof: int = 0
    scope: str = "exact"          # exact | running | local
    running_decay: float = 0.9
    renormalise: int = 0
    nonfinite: str = "error"      # error | skip
    reduction: str = "token_mean"  # token_mean | sample_sum | sample_mean | sum
    denominator: float = 0.0      # > 0: replaces the count
    grad_scale: float = 1.0       # multiplies gradients only
    ignore_index: int = -100
    label_offset: int = 0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    softcap: float = 0.0
    power_q: float = 0.7
    focal_gamma: float = 2.0
    eaft_alpha: float = 1.0
    infosft_target: float = 0.93


@dataclass
class Micro:
    logits: np.ndarray                 # [rows, V] float64 holding exact values
    labels: np.ndarray                 # [rows] or [B, T]
    sample_ids: np.ndarray             # [rows]
    k: Optional[np.ndarray] = None     # [rows], objective "host" only
    vocab_valid: int = 0               # 0: all columns


@dataclass
class Running:
    """State of scope "running": exponential averages over earlier global batches."""
    mu: np.longdouble = LD(0)
    sigma: np.longdouble = LD(0)
    updates: int = 0


@dataclass
class Row:
    """What one counting row gives; vectors run over the valid columns."""
    z: np.ndarray         # soft-capped logits
    masked: np.ndarray    # bool, logit -inf
    factor: np.ndarray    # dz'/dz of the soft-cap
    nll: np.ndarray       # m - z_v for every column, without cancellation
    pi: np.ndarray        # softmax
    m: np.longdouble      # logsumexp
    y: int
    l: np.longdouble = field(init=False)
    p: np.longdouble = field(init=False)
    u: np.longdouble = field(init=False)   # 1 - p
    h: np.longdouble = field(init=False)   # entropy of pi, nats

    def __post_init__(self):
        self.l = self.nll[self.y]
        self.p = np.exp(-self.l)
        self.u = -np.expm1(-self.l)
        keep = ~self.masked
        self.h = np.sum(self.pi[keep] * self.nll[keep])


class CadftError(Exception):
    """What a caller is told: args = code, micro-batch, row, sample, label value."""


# ---------------------------------------------------------------- rows

def resolve_labels(micro, opt):
    """Label of each row and whether the row counts.

    Offset 0: label[r] = labels[r].  Offset 1: labels[r+1], if row r+1 is in the same
    [B, T] sequence and of the same sample; otherwise the row does not count."""
    ids = np.asarray(micro.sample_ids).reshape(-1)
    raw = np.asarray(micro.labels)
    flat = raw.reshape(-1)
    length = raw.shape[1] if raw.ndim == 2 else len(flat)
    label = np.full(len(flat), opt.ignore_index, dtype=np.int64)
    for r in range(len(flat)):
        if opt.label_offset == 0:
            label[r] = flat[r]
        elif (r + 1) % length != 0 and ids[r + 1] == ids[r]:
            label[r] = flat[r + 1]
    return label, (label != opt.ignore_index) & (ids >= 0)


def analyse_row(raw, y, softcap=0.0):
    """Row, or None when it is not finite (NaN, +inf, nothing but -inf).

        m = logsumexp(z),  nll_v = m - z_v = (max - z_v) + log1p(sum of the others / max)

    The log1p form keeps l exact for p -> 1, where m - z_y would cancel."""
    raw = np.asarray(raw).astype(LD)
    masked = np.isneginf(raw)
    if np.isnan(raw).any() or np.isposinf(raw).any() or masked.all():
        return None
    z, factor = raw.copy(), np.where(masked, LD(0), LD(1))
    if softcap > 0:                       # z' = cap tanh(z / cap), dz'/dz = 1 / cosh^2
        x = raw[~masked] / LD(softcap)
        z[~masked] = LD(softcap) * np.tanh(x)
        with np.errstate(over="ignore"):
            factor[~masked] = (1 / np.cosh(x)) ** 2
    top = int(np.argmax(z))
    with np.errstate(under="ignore"):
        e = np.exp(z - z[top])
        rest = np.sum(np.delete(e, top))
        nll = (z[top] - z) + np.log1p(rest)
        return Row(z, masked, factor, nll, e / (1 + rest), z[top] + np.log1p(rest), int(y))


def coefficient(row, opt, host_k=None):
    """k_r of the objective: dl_token/dz = k (pi - onehot).  Limits taken at p = 0 and 1."""
    l, p, u = row.l, row.p, row.u
    name = opt.objective
    if name == "sft":
        return LD(1)
    if name == "dft":                     # DFT, eq. for the token loss sg(p) l
        return p
    if name == "dft_nosg":                # d(p l) = p (1 - l) dl
        return p * (1 - l) if np.isfinite(l) else LD(0)
    if name == "power":                   # d((1 - p^q) / q) = p^q dl; q = 0 is SFT
        return np.exp(-LD(opt.power_q) * l) if opt.power_q != 0 else LD(1)
    if name == "focal":
        # (1-p)^g + g p (1-p)^(g-1) l, written u^g (1 + g p l/u): l/u -> 1 for p -> 1
        g = LD(opt.focal_gamma)
        if g == 0 or np.isinf(l):
            return LD(1)
        return u ** g * (1 + g * p * (l / u)) if u > 0 else LD(0)
    if name == "eaft":                    # (H / 3)^alpha
        return (row.h / 3) ** LD(opt.eaft_alpha) if opt.eaft_alpha != 0 else LD(1)
    if name == "infosft":                 # p [logit(t) - logit(p)]_+; logit p = -l - log(1-p)
        if p == 0 or u == 0:
            return LD(0)
        t = LD(opt.infosft_target)
        return p * max(LD(0), np.log(t / (1 - t)) + l + np.log(u))
    if name == "host":
        return LD(host_k)
    raise ValueError(name)


def token_loss(row, k, opt):
    """Loss of one row before a_r, with the z-loss lambda m^2 and the label smoothing

        l_s = (1-e) l + (e/U) sum over the U unmasked columns of (m - z_v)."""
    l, e, name = row.l, LD(opt.label_smoothing), opt.objective
    if e != 0:
        if name not in STOP_GRADIENT:
            raise ValueError("label smoothing with " + name)
        l = (1 - e) * l + e * np.mean(row.nll[~row.masked])
    if name in STOP_GRADIENT:
        loss = k * l
    elif name == "dft_nosg":
        loss = row.p * l
    elif name == "power":
        q = LD(opt.power_q)
        loss = -np.expm1(-q * l) / q if q != 0 else l
    else:
        loss = row.u ** LD(opt.focal_gamma) * l
    return loss + LD(opt.z_loss) * row.m ** 2


def row_gradient(row, k, opt):
    """d token_loss / d raw logits on the valid columns (before a_r and grad_scale).

        k (pi_v - (1-e) [v = y] - e/U [v unmasked]) + 2 lambda m pi_v

    times the soft-cap's factor; the true class is k expm1(-l), never pi_y - 1."""
    e = LD(opt.label_smoothing)
    diff = row.pi.copy()
    diff[row.y] = np.expm1(-row.l) + e
    diff -= np.where(row.masked, LD(0), e / np.sum(~row.masked))
    return (k * diff + 2 * LD(opt.z_loss) * row.m * row.pi) * row.factor


# ---------------------------------------------------------------- samples

def moments(c):
    """(n, mean, M2) in two passes; M2 is exactly 0 when all values are equal."""
    c = np.asarray(c, dtype=LD)
    if len(c) == 0:
        return 0, LD(0), LD(0)
    if (c == c[0]).all():
        return len(c), c[0], LD(0)
    mean = np.sum(c) / len(c)
    return len(c), mean, np.sum((c - mean) ** 2)


def merge_moments(a, b):
    """Chan, Golub, LeVeque 1979: how data-parallel shards merge (n, mean, M2)."""
    if a[0] == 0 or b[0] == 0:
        return b if a[0] == 0 else a
    n, delta = a[0] + b[0], b[1] - a[1]
    return n, a[1] + delta * b[0] / n, a[2] + b[2] + delta ** 2 * (LD(a[0]) * b[0] / n)


def mu_sigma(triple, ddof):
    n, mean, m2 = triple
    return mean, np.sqrt(m2 / (n - ddof)) if n - ddof > 0 else LD(0)


def vocab_partial(z, v0, y):
    """(max, sum exp(z - max), z_y) of the columns [v0, v0 + len(z)); z_y -inf elsewhere."""
    z = np.asarray(z).astype(LD)
    top = np.max(z)
    total = np.sum(np.exp(z - top)) if top > -np.inf else LD(0)
    return top, total, z[y - v0] if v0 <= y < v0 + len(z) else LD(-np.inf)


def vocab_combine(parts):
    """(m, l) of a row out of the partials of all its vocabulary shards."""
    top = max(part[0] for part in parts)
    total = sum(part[1] * np.exp(part[0] - top) for part in parts)
    z_y = max(part[2] for part in parts)
    return top + np.log(total), (top - z_y) + np.log(total)


def compatibility_weight(c, mu, sigma, opt):
    """chat = (c - mu) / (sigma + eps), w = exp(-beta max(0, chat)); CADFT's weight."""
    if sigma == 0:
        return LD(0), LD(1)
    chat = (c - mu) / (sigma + LD(opt.eps))
    return chat, np.exp(-LD(opt.beta) * max(LD(0), chat))


# ---------------------------------------------------------------- one global batch

def observe(batch, opt):
    """First pass: counts[m][r] and the analysed rows[m][r] (None: not counting or not
    finite), with the errors a caller would see, in row order."""
    counts, rows = [], []
    for i, micro in enumerate(batch):
        valid = micro.vocab_valid or micro.logits.shape[1]
        label, count = resolve_labels(micro, opt)
        for r in np.flatnonzero(count):           # labels first: nothing is written
            if not 0 <= label[r] < valid:
                raise CadftError("E_LABEL", i, int(r), int(micro.sample_ids[r]), int(label[r]))
        found = [None] * len(label)
        for r in np.flatnonzero(count):
            found[r] = analyse_row(micro.logits[r, :valid], label[r], opt.softcap)
            if found[r] is None and opt.nonfinite == "error":
                raise CadftError("E_NONFINITE", i, int(r), int(micro.sample_ids[r]), None)
        counts.append(count)
        rows.append(found)
    return counts, rows


def sample_statistics(batch, counts, rows, n_samples):
    """n_i, c_i and the sets of B, infinite and skipped samples of the global batch."""
    n = np.zeros(n_samples, dtype=np.int64)
    total = np.zeros(n_samples, dtype=LD)
    bad = np.zeros(n_samples, dtype=bool)
    for micro, count, found in zip(batch, counts, rows):
        for r in np.flatnonzero(count):
            s = micro.sample_ids[r]
            n[s] += 1
            if found[r] is None:
                bad[s] = True
            else:
                total[s] += found[r].l
    c = np.where((n > 0) & ~bad, total / np.maximum(n, 1), LD(np.nan))
    return n, c, np.isfinite(c), np.isposinf(c), bad


def weigh(batch, counts, c, in_b, opt, running):
    """chat and w per sample, and the (mu, sigma) used (NaN when there are several)."""
    chat = np.full(len(c), np.nan, dtype=LD)
    w = np.zeros(len(c), dtype=LD)
    everyone = np.flatnonzero(in_b)
    own = mu_sigma(moments(c[everyone]), opt.ddof)
    groups = [(everyone, own)]
    if opt.scope == "running" and running.updates > 0:
        bias = 1 - LD(opt.running_decay) ** running.updates
        groups = [(everyone, (running.mu / bias, running.sigma / bias))]
    elif opt.scope != "exact":            # local, and running before its first batch
        groups = []
        for micro, count in zip(batch, counts):
            ids = np.unique(np.asarray(micro.sample_ids)[count])
            ids = ids[in_b[ids]]
            assert np.isnan(chat[ids]).all(), "scope local: a sample is split"
            groups.append((ids, mu_sigma(moments(c[ids]), opt.ddof)))
            chat[ids] = 0
    for ids, (mu, sigma) in groups:
        for s in ids:
            chat[s], w[s] = compatibility_weight(c[s], mu, sigma, opt)
    if not opt.weighting:
        w[everyone] = 1
    if opt.scope == "running" and len(everyone) >= 2:
        decay = LD(opt.running_decay)
        running.mu = decay * running.mu + (1 - decay) * own[0]
        running.sigma = decay * running.sigma + (1 - decay) * own[1]
        running.updates += 1
    used = groups[0][1] if len(groups) == 1 else (LD(np.nan), LD(np.nan))
    return chat, w, used if len(everyone) else (LD(0), LD(0))


def row_scale(opt, n_i, n_rows, n_b):
    """scale_r of the four reductions; a host denominator replaces the count."""
    d = LD(opt.denominator)
    if opt.reduction == "token_mean":
        return 1 / (d or LD(n_rows))
    if opt.reduction == "sample_sum":
        return 1 / (d or LD(n_b))
    if opt.reduction == "sample_mean":
        return 1 / ((d or LD(n_b)) * n_i)
    return 1 / (d or LD(1))


def run_batch(batch, opt, n_samples, running=None):
    """Everything about one global batch, float64 arrays; raises CadftError."""
    counts, rows = observe(batch, opt)
    n, c, in_b, infinite, bad = sample_statistics(batch, counts, rows, n_samples)
    chat, w, (mu, sigma) = weigh(batch, counts, c, in_b, opt, running or Running())
    n_b, n_rows = int(in_b.sum()), int(n[in_b].sum())
    share_below = LD(np.sum(w[in_b] < 1)) / n_b if n_b else LD(0)
    mean_w, min_w = (np.mean(w[in_b]), np.min(w[in_b])) if n_b else (0, 0)
    if opt.renormalise and n_b:       # the report shows w before this
        w = w / mean_w
    sums = dict(loss=LD(0), l=LD(0), p=LD(0), ak=LD(0), scale=LD(0))
    micros = []
    for i, micro in enumerate(batch):
        shape = micro.logits.shape
        out = {key: np.zeros(shape[0], dtype=LD) for key in ("l", "p", "H", "k", "scale")}
        out["grad"] = np.zeros(shape, dtype=LD)
        for r in np.flatnonzero(counts[i]):
            row, s = rows[i][r], micro.sample_ids[r]
            if row is None:               # not finite, skipped
                out["l"][r] = out["p"][r] = out["H"][r] = out["k"][r] = np.nan
                continue
            k = coefficient(row, opt, None if micro.k is None else micro.k[r])
            out["l"][r], out["p"][r], out["H"][r], out["k"][r] = row.l, row.p, row.h, k
            if not in_b[s]:               # c = +inf or skipped: scale and gradient stay 0
                continue
            scale = row_scale(opt, n[s], n_rows, n_b)
            a = out["scale"][r] = w[s] * scale
            out["grad"][r, :len(row.z)] = LD(opt.grad_scale) * a * row_gradient(row, k, opt)
            sums["loss"] += a * token_loss(row, k, opt)
            sums["l"] += row.l
            sums["p"] += row.p
            sums["ak"] += a * k
            sums["scale"] += scale
        micros.append({key: as_float64(value) for key, value in out.items()})
    report = dict(
        loss=sums["loss"], nll=sums["l"] / max(n_rows, 1), mean_p=sums["p"] / max(n_rows, 1),
        mean_w=mean_w, min_w=min_w, share_below=share_below, mu=mu, sigma=sigma, n_samples=n_b, n_rows=n_rows,
        gradient_scale=sums["ak"] / sums["scale"] if n_rows else 0,
        skipped=bad.sum(), infinite=infinite.sum())
    return dict(status="OK", micro=micros, n=as_float64(n), c=as_float64(c),
                chat=as_float64(chat), w=as_float64(w),
                report={key: float(report[key]) for key in REPORT_FIELDS})


def as_float64(x):
    """Rounds to float64; -0 becomes +0 and every NaN the same one."""
    with np.errstate(under="ignore"):
        x = np.asarray(x).astype(np.float64) + 0.0
    return np.where(np.isnan(x), np.nan, x)


def run_case(batches, opt, n_samples):
    """Global batches one after another (they share the running statistics)."""
    running, results = Running(), []
    for batch in batches:
        try:
            results.append(run_batch(batch, opt, n_samples, running))
        except CadftError as err:
            results.append(dict(zip(("status", "micro_index", "row", "sample", "value"), err.args)))
    return results
