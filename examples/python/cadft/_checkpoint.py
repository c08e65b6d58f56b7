# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that a run goes on from."""
import os
from contextlib import ExitStack
from typing import Any, List, Optional

from ._context import Context, context_or_default
from ._ffi import ffi, lib
from ._handle import Handle, read_text
from ._loss import Loss
from ._model import Folder, Model
from ._optimizer import Optimizer
from ._rewrite import Rewrite


class _Parts:
    """The C struct of a call, with all parts locked."""

    def __init__(self, folder: Folder, step: int, context: Optional[Context],
                 **parts: Optional[Handle]) -> None:
        given = {name: part for name, part in parts.items() if part is not None}
        contexts: List[Any] = [getattr(part, "context") for part in given.values()]
        self.context = context_or_default(context or (contexts[0] if contexts else None))
        self.folder = ffi.new("char[]", os.fsencode(folder))
        self.given = given
        self.struct = ffi.new("cadft_checkpoint *", {
            "struct_size": ffi.sizeof("cadft_checkpoint"), "folder": self.folder, "step": step})

    def call(self, function: Any, *args: Any, with_parts: bool = True) -> None:
        with ExitStack() as held:
            for name, part in self.given.items():
                handle = part._enter()
                held.callback(part._lock.release)
                setattr(self.struct, name, handle if with_parts else ffi.NULL)
            self.context._call(function, self.struct, *args)


def save_checkpoint(folder: Folder, step: int, *, model: Optional[Model] = None,
                    optimizer: Optional[Optimizer] = None, loss: Optional[Loss] = None,
                    rewrite: Optional[Rewrite] = None, host: Any = None, keep: int = 0,
                    context: Optional[Context] = None) -> None:
    """Save a checkpoint in folder, which is made if it is missing.

    :param step: steps done; names the checkpoint
    :param host: bytes that the program needs to go on
    :param keep: how many checkpoints stay, this one included; 0: all
    """
    parts = _Parts(folder, step, context, model=model, optimizer=optimizer, loss=loss,
                   rewrite=rewrite)
    parts.struct.keep = keep
    if host is not None:
        memory = ffi.from_buffer(host)
        parts.struct.host, parts.struct.host_bytes = memory, len(memory)
    parts.call(lib.cadft_checkpoint_save)


def load_checkpoint(folder: Folder, step: int, *, model: Optional[Model] = None,
                    optimizer: Optional[Optimizer] = None, loss: Optional[Loss] = None,
                    rewrite: Optional[Rewrite] = None,
                    context: Optional[Context] = None) -> bytes:
    """Load the parts that are given. Returns the host's bytes.

    A model must be without weights; the optimizer is loaded after it, with the
    same parameters as it was saved with.
    """
    parts = _Parts(folder, step, context, model=model, optimizer=optimizer, loss=loss,
                   rewrite=rewrite)
    count = ffi.new("size_t *")
    parts.call(lib.cadft_checkpoint_load, ffi.NULL, 0, count, with_parts=False)
    host = ffi.new("char[]", max(int(count[0]), 1))
    parts.call(lib.cadft_checkpoint_load, host, count[0], count)
    return bytes(ffi.buffer(host, count[0]))


def find_checkpoint(folder: Folder, before: int = -1,
                    context: Optional[Context] = None) -> Optional[int]:
    """Step of the newest checkpoint, of those below `before` if that is given;
    None: there is none. A damaged one is `load_checkpoint`'s to refuse."""
    step = ffi.new("int64_t *")
    context_or_default(context)._call(lib.cadft_checkpoint_find, os.fsencode(folder), before,
                                      step)
    return int(step[0]) if step[0] >= 0 else None


def checkpoint_path(folder: Folder, step: int) -> str:
    """Path of a step's checkpoint, there or not."""
    return read_text(lib.cadft_checkpoint_path, os.fsencode(folder), step)
