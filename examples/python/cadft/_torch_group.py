# SPDX-License-Identifier: Apache-2.0
"""Exchanges of a step by torch.distributed."""
from typing import Any, List, Optional

import torch
import torch.distributed as dist

_WIDTH = {"moments": 6, "weights": 2, "report": 10, "count": 1}


class Exchanges:
    """The exchanges of one step, in their order. All processes of the group
    make the same ones. A process that leaves its step says so in the next one,
    so that the others raise too and do not wait for ever.

    :param group: None: nothing is exchanged
    """

    def __init__(self, group: Optional[Any], kinds: List[str]) -> None:
        self._group, self._kinds = group, list(kinds) if group is not None else []

    def __call__(self, kind: str, loss: Any) -> None:
        """Exchange a kind of the library's, if it is the next one."""
        if self._kinds[:1] != [kind]:
            return
        rank, size = dist.get_rank(self._group), dist.get_world_size(self._group)
        values = self._empty()
        loss.export(kind, rank, size, out=values[:-1])
        self._reduce(values)
        loss.import_(kind, values[:-1])

    def count(self, number: float) -> float:
        """The sum of a number over the processes."""
        if self._kinds[:1] != ["count"]:
            return number
        values = self._empty()
        values[dist.get_rank(self._group)] = number
        self._reduce(values)
        return float(values[:-1].sum())

    def leave(self) -> None:
        """This process's step has failed."""
        if not self._kinds:
            return
        values = self._empty()
        values[-1] = 1
        self._kinds = []
        dist.all_reduce(values, group=self._group)

    def _empty(self) -> torch.Tensor:
        """A slot for each process, and how many have failed."""
        size = dist.get_world_size(self._group)
        return torch.zeros(size * _WIDTH[self._kinds[0]] + 1, dtype=torch.float64, device="cpu")

    def _reduce(self, values: torch.Tensor) -> None:
        del self._kinds[0]
        dist.all_reduce(values, group=self._group)
        if values[-1] > 0:
            self._kinds.clear()
            raise RuntimeError(f"{int(values[-1])} of the group's other processes left the step")
