# SPDX-License-Identifier: Apache-2.0
"""AdamW and SGD with schedules and clipping."""
import os
from typing import Any, List, NamedTuple, Optional

from ._arrays import pointer
from ._context import Context, context_or_default
from ._ffi import ffi, lib
from ._handle import Knobs, Value
from ._model import Folder, Model
from ._tensor import Tensor


class StepReport(NamedTuple):
    """What an optimizer step did."""

    skipped: bool  #: the norm was not finite, nothing was done
    step: int  #: steps done, this one included
    lr: float  #: rate of this step, before groups
    grad_norm: float  #: before clipping
    clip: float  #: factor on the gradient; 1: was not clipped
    skipped_total: int


class Optimizer(Knobs):
    """An optimizer.

        optimizer = cadft.Optimizer(lr=2e-5, schedule="cosine", planned_steps=1000)
        optimizer.add_model(model)
        optimizer.step()
    """

    _noun = "optimizer"

    def __init__(self, context: Optional[Context] = None, /, **knobs: Value) -> None:
        self.context = context_or_default(context)
        super().__init__(self.context._create(lib.cadft_optimizer_create, "optimizer"),
                         lib.cadft_optimizer_destroy)
        self._arrays: List[Tensor] = []  # the steps read and write them
        self.set(**knobs)

    def add(self, name: str, value: Any, grad: Any) -> None:
        """Add a parameter of the host's, which the steps write, and its
        gradient: float32 or bfloat16 of the same shape. Kept until `close`."""
        tensors = [Tensor(value, writable=True), Tensor(grad)]
        self._call(lib.cadft_optimizer_add, name.encode(), *map(pointer, tensors))
        self._arrays += tensors

    def add_model(self, model: Model) -> int:
        """Add the trainable parameters of a model. Returns how many."""
        added = ffi.new("int64_t *")
        other = model._enter()
        try:
            self._call(lib.cadft_optimizer_add_model, other, added)
        finally:
            model._lock.release()
        return int(added[0])

    def group(self, pattern: str, lr_scale: float = 1.0, decay_scale: float = 1.0) -> int:
        """Scale rate and decay of the parameters, of those added so far, whose
        names match. Returns how many."""
        matched = ffi.new("int64_t *")
        self._call(lib.cadft_optimizer_group, pattern.encode(), lr_scale, decay_scale, matched)
        return int(matched[0])

    def norm(self) -> float:
        """Sum of the squares of all gradients times the knob grad_scale."""
        total = ffi.new("double *")
        self._call(lib.cadft_optimizer_norm, total)
        return float(total[0])

    def step(self, sum_squares: Optional[float] = None) -> StepReport:
        """Change the weights by their gradients.

        :param sum_squares: square of the gradient's norm over all processes;
            None: of the gradients at hand
        """
        report = ffi.new("cadft_optimizer_report *",
                         {"struct_size": ffi.sizeof("cadft_optimizer_report")})
        squares = ffi.NULL if sum_squares is None else ffi.new("double *", sum_squares)
        self._call(lib.cadft_optimizer_step, squares, report)
        return StepReport(bool(report.skipped),
                          *(getattr(report, name) for name in StepReport._fields[1:]))

    def lr(self, step: int) -> float:
        """Learning rate of a step, the first being 0."""
        rate = ffi.new("double *")
        self._call(lib.cadft_optimizer_lr, step, rate)
        return float(rate[0])

    def save(self, folder: Folder) -> None:
        """Write folder/optimizer.safetensors."""
        self._call(lib.cadft_optimizer_save, os.fsencode(folder))

    def load(self, folder: Folder) -> None:
        """Take the state from such a folder."""
        self._call(lib.cadft_optimizer_load, os.fsencode(folder))

    def close(self) -> None:
        super().close()
        self._arrays = []
