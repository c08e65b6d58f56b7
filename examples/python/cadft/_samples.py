# SPDX-License-Identifier: Apache-2.0
"""Sample ids of the rows of a batch, from what trainers have."""
from array import array
from typing import Any, Tuple

from ._arrays import memory, optional, pointer
from ._errors import call
from ._ffi import ffi, lib
from ._tensor import Tensor


def _ids(out: Any, rows: int) -> Tuple[Any, Tensor, Any]:
    if out is None:
        out = array("i", bytes(4 * max(rows, 0)))
    tensor, address = memory(out, "int32", rows, "out", True)
    return out, tensor, ffi.cast("int32_t *", address)


def sample_ids_padded(n_sequences: int, length: int, lengths: Any = None, *, first_id: int = 0,
                      out: Any = None) -> Any:
    """Ids of padded [B, T] rows: those of sequence b, as far as its length
    (int32 or int64 [B]; None: all), belong to sample first_id + b."""
    tensor, at = optional(lengths)
    ids, keep, address = _ids(out, n_sequences * length)
    call(lib.cadft_sample_ids_padded, n_sequences, length, at, first_id, address)
    return ids


def sample_ids_cu_seqlens(cu_seqlens: Any, rows: int, *, first_id: int = 0, out: Any = None) -> Any:
    """Ids of packed rows from cumulative lengths, int32 or int64 [n + 1]."""
    tensor = Tensor(cu_seqlens)
    ids, keep, address = _ids(out, rows)
    call(lib.cadft_sample_ids_cu_seqlens, pointer(tensor), rows, first_id, address)
    return ids


def sample_ids_position_ids(position_ids: Any, *, first_id: int = 0,
                            out: Any = None) -> Tuple[Any, int]:
    """Ids of packed rows from position ids, and how many samples there are: one
    starts wherever the position does not rise."""
    tensor = Tensor(position_ids)
    ids, keep, address = _ids(out, tensor.size)
    count = ffi.new("int64_t *")
    call(lib.cadft_sample_ids_position_ids, pointer(tensor), first_id, address, count)
    return ids, int(count[0])
