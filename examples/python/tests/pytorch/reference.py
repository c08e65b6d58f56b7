# SPDX-License-Identifier: Apache-2.0
"""The loss in float64 PyTorch, from doc/method.md, for autograd to derive."""
import torch

IGNORE = -100


def token_loss(objective, l, p):
    if objective == "sft":
        return l
    if objective == "dft":
        return p.detach() * l
    if objective == "dft_nosg":
        return p * l
    if objective == "power":
        return (1 - p ** 0.7) / 0.7
    if objective == "focal":
        return (1 - p) ** 2 * l
    raise ValueError(objective)


def weights(c, beta, eps=1e-6):
    chat = (c - c.mean()) / (c.std(unbiased=False) + eps)
    return torch.exp(-beta * chat.clamp(min=0))


def shifted(labels, ids):
    """What each row predicts where row r predicts the label of row r + 1, if it
    is of the same sample; both are [B, T]."""
    out = torch.full_like(labels, IGNORE)
    same = ids[:, 1:] == ids[:, :-1]
    out[:, :-1] = torch.where(same, labels[:, 1:], out[:, :-1])
    return out


def cadft(logits, labels, ids, *, objective="dft", beta=1.0, reduction="token_mean",
          denominator=None, z_loss=0.0):
    """Loss, and w of the samples that have rows, in the order of their ids."""
    z = logits.reshape(-1, logits.shape[-1]).double()
    labels, ids = labels.reshape(-1).long(), ids.reshape(-1).long()
    counts = (labels != IGNORE) & (ids >= 0)
    z, labels, ids = z[counts], labels[counts], ids[counts]
    lse = torch.logsumexp(z, -1)
    l = lse - z.gather(1, labels[:, None])[:, 0]
    _, sample, n = torch.unique(ids, return_inverse=True, return_counts=True)
    c = torch.zeros(len(n), dtype=torch.float64).index_add_(0, sample, l.detach()) / n
    w = weights(c, beta)
    losses = token_loss(objective, l, torch.exp(-l)) + z_loss * lse ** 2
    scale = {"token_mean": torch.full_like(l, 1 / (denominator or len(l))),
             "sample_sum": torch.full_like(l, 1 / (denominator or len(n))),
             "sample_mean": 1 / ((denominator or len(n)) * n[sample].double()),
             "sum": torch.ones_like(l)}[reduction].detach()
    return (w[sample] * scale * losses).sum(), w
