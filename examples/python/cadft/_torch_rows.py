# SPDX-License-Identifier: Apache-2.0
"""What a micro-batch of a PyTorch trainer says about its rows."""
import math
from typing import Any, Tuple

import torch

from ._errors import error
from ._ffi import lib
from ._handle import Value
from ._loss import Batch
from ._samples import sample_ids_cu_seqlens, sample_ids_padded, sample_ids_position_ids


def host(name: str, tensor: Any) -> torch.Tensor:
    """The tensor, if the library can reach its memory."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}: expected a torch.Tensor")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise error(lib.CADFT_E_DEVICE, f"{name} is {tensor.layout} on {tensor.device}: expected a "
                    "strided tensor on cpu, since the library computes in host memory")
    return tensor


def _same_shape(name: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    try:
        return host(name, tensor).expand(shape)
    except RuntimeError:
        raise error(lib.CADFT_E_SHAPE, f"{name} is {list(tensor.shape)}: expected the shape of the "
                    f"labels, {list(shape)}") from None


def _given(sample_ids: Any, shape: torch.Size) -> Tuple[torch.Tensor, int]:
    """The caller's ids, and the number that they are below."""
    ids = _same_shape("sample_ids", sample_ids, shape)
    if ids.dtype not in (torch.int32, torch.int64):
        raise error(lib.CADFT_E_DTYPE, f"sample_ids are {ids.dtype}: expected int32 or int64")
    count = max(int(ids.max()) + 1, 0) if ids.numel() else 0
    if count >= 2 ** 31:
        raise error(lib.CADFT_E_SAMPLE, f"sample_ids have a {count - 1}: expected numbers from 0 "
                    "to the demonstrations of the step")
    return ids.clamp(min=-1).to(torch.int32), count


def _numbered(shape: torch.Size, first_id: int, position_ids: Any, lengths: Any,
              cu_seqlens: Any) -> Tuple[torch.Tensor, int]:
    """Ids from where samples begin, and how many there are."""
    rows = shape.numel()
    ids = torch.empty(shape, dtype=torch.int32, device="cpu")
    if position_ids is not None:
        positions = _same_shape("position_ids", position_ids, shape).contiguous()
        return ids, sample_ids_position_ids(positions, first_id=first_id, out=ids)[1]
    if cu_seqlens is not None:
        starts = host("cu_seqlens", cu_seqlens).contiguous()
        sample_ids_cu_seqlens(starts, rows, first_id=first_id, out=ids)
        return ids, max(starts.numel() - 1, 0)
    if len(shape) != 2:
        raise error(lib.CADFT_E_SHAPE, f"labels are {list(shape)}: expected [B, T], or one of "
                    "sample_ids, position_ids and cu_seqlens")
    if lengths is not None:
        lengths = host("lengths", lengths).contiguous()
    sample_ids_padded(shape[0], shape[1], lengths, first_id=first_id, out=ids)
    return ids, shape[0]


class Rows:
    """Labels and sample ids of a micro-batch.

    :param first_id: ids that are counted here begin with this one
    :param count: ids are below first_id + count
    """

    def __init__(self, labels: Any, first_id: int = 0, *, sample_ids: Any = None,
                 position_ids: Any = None, attention_mask: Any = None, lengths: Any = None,
                 cu_seqlens: Any = None, k: Any = None, vocab_valid: int = 0) -> None:
        given = [name for name, value in (("sample_ids", sample_ids),
                                          ("position_ids", position_ids), ("lengths", lengths),
                                          ("cu_seqlens", cu_seqlens)) if value is not None]
        if len(given) > 1:
            raise TypeError(f"{' and '.join(given)}: expected one of them")
        self.labels = host("labels", labels).contiguous()
        shape = self.labels.shape
        if sample_ids is not None:
            ids, self.count = _given(sample_ids, shape)
        else:
            ids, self.count = _numbered(shape, first_id, position_ids, lengths, cu_seqlens)
        if attention_mask is not None:
            ids = _masked(ids, attention_mask)
        self.ids = ids.contiguous()
        self.k = None if k is None else host("k", k).contiguous()
        self.vocab_valid = vocab_valid

    def batch(self, logits: torch.Tensor) -> Batch:
        """With its logits."""
        shape = host("logits", logits).shape[:-1]
        if shape.numel() != self.labels.numel():
            raise error(lib.CADFT_E_SHAPE, f"labels are {list(self.labels.shape)}: expected one "
                        f"for each row of the logits, {list(shape)}")
        return Batch(logits, self.labels, self.ids, k=self.k,
                     vocab_valid=self.vocab_valid)


def _masked(ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Rows that the mask leaves out belong to no sample."""
    mask = host("attention_mask", attention_mask)
    if mask.shape != ids.shape:
        raise error(lib.CADFT_E_SHAPE, f"attention_mask is {list(mask.shape)}: expected "
                    f"the shape of the labels, {list(ids.shape)}")
    others = mask[(mask != 0) & (mask != 1)]
    if others.numel():
        raise error(lib.CADFT_E_ARG, f"attention_mask has a {others[0].item()}: expected 0 and 1")
    return ids.masked_fill(mask == 0, -1)


def loss_count(loss: Any, reduction: Value) -> float:
    """What a reduction divides by, of the samples that a loss has observed."""
    rows = [n for n, c in zip(loss.samples("rows"), loss.samples("c")) if math.isfinite(c)]
    return sum(rows) if reduction == "token_mean" else float(len(rows))
