# SPDX-License-Identifier: Apache-2.0
"""Compatibility-aware dynamic fine-tuning: the Python binding of libcadft.

    import cadft
    loss = cadft.Loss(objective="dft", beta=1.0)
    report = loss.compute(logits, labels, sample_ids, n_samples, grad=logits)
"""
from typing import Tuple

from ._checkpoint import checkpoint_path, find_checkpoint, load_checkpoint, save_checkpoint
from ._context import Context, default_context
from ._errors import (ArgumentError, BackendError, DataError, DtypeError, Error, FileError,
                      KnobError, OutOfMemoryError, PhaseError, UnsupportedError)
from ._ffi import lib as _lib
from ._handle import Bounds
from ._loss import Batch, Loss, Report
from ._model import Model, Parameter
from ._optimizer import Optimizer, StepReport
from ._rewrite import Rewrite, SampleInfo
from ._samples import sample_ids_cu_seqlens, sample_ids_padded, sample_ids_position_ids
from ._tensor import Tensor

__version__ = "0.1.0"


def library_version() -> Tuple[int, int, int]:
    """Version of the libcadft that is loaded."""
    number = _lib.cadft_version()
    return number // 1000000, number // 1000 % 1000, number % 1000


__all__ = [
    "ArgumentError", "BackendError", "Batch", "Bounds", "Context", "DataError", "DtypeError",
    "Error", "FileError", "KnobError", "Loss", "Model", "Optimizer", "OutOfMemoryError",
    "Parameter", "PhaseError", "Report", "Rewrite", "SampleInfo", "StepReport", "Tensor",
    "UnsupportedError", "checkpoint_path", "default_context", "find_checkpoint",
    "library_version", "load_checkpoint", "sample_ids_cu_seqlens", "sample_ids_padded",
    "sample_ids_position_ids", "save_checkpoint",
]
