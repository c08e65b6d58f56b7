# SPDX-License-Identifier: Apache-2.0
"""Delayed rewriting: samples that stay incompatible get the model's answers."""
from array import array
from typing import Any, Iterable, List, NamedTuple, Optional

from ._arrays import memory
from ._context import Context, context_or_default
from ._ffi import ffi, lib
from ._handle import Knobs, Value

_REASONS = {getattr(lib, name): name[len("CADFT_REJECTED_"):].lower()
            for name in dir(lib) if name.startswith("CADFT_REJECTED_")}


class SampleInfo(NamedTuple):
    """What is known of a sample."""

    is_open: bool  #: picked, neither committed nor rejected
    average: float  #: of the signal; NaN without observation
    c: float  #: last observed; NaN if unknown
    observations: int  #: of the present target
    rewrites: int
    is_rewritten: bool


class Rewrite(Knobs):
    """Follows the samples of a data set, 0 to n_samples - 1.

        rewrite = cadft.Rewrite(n_samples, warmup_steps=100, interval=50)
        for id in rewrite.select(step):
            rewrite.commit(id, answer, ended=True)
        rewrite.observe(ids, loss.samples("c"), loss.samples("chat"))
    """

    _noun = "rewrite"

    def __init__(self, n_samples: int, context: Optional[Context] = None, /,
                 **knobs: Value) -> None:
        self.context = context_or_default(context)
        super().__init__(self.context._create(lib.cadft_rewrite_create, "rewrite", n_samples),
                         lib.cadft_rewrite_destroy)
        self.set(**knobs)

    def observe(self, ids: Iterable[int], c: Any = None, chat: Any = None) -> None:
        """What a step has shown of its samples: ids, and for each c and chat as
        `Loss.samples` gives them."""
        ids = array("q", ids)
        kept, columns = [], []
        for name, values in (("c", c), ("chat", chat)):
            if values is None:
                columns.append(ffi.NULL)
            else:
                tensor, at = memory(values, "float64", len(ids), name, False)
                kept.append(tensor)
                columns.append(ffi.cast("double *", at))
        self._call(lib.cadft_rewrite_observe, ffi.from_buffer("int64_t[]", ids), *columns, len(ids))

    def sample(self, id: int) -> SampleInfo:
        """What is known of a sample."""
        info = ffi.new("cadft_rewrite_info *", {"struct_size": ffi.sizeof("cadft_rewrite_info")})
        self._call(lib.cadft_rewrite_sample, id, info)
        return SampleInfo(bool(info.is_open), info.average, info.c, info.observations,
                          info.rewrites, bool(info.is_rewritten))

    def due(self, step: int) -> bool:
        """Are rewrites due at a step?"""
        due = ffi.new("int32_t *")
        self._call(lib.cadft_rewrite_due, step, due)
        return bool(due[0])

    def select(self, step: int) -> List[int]:
        """Picks of a step, if it is due; they are open then."""
        return self._ids(lib.cadft_rewrite_select, step)

    def open(self) -> List[int]:
        """The picks that are open."""
        return self._ids(lib.cadft_rewrite_open)

    def _ids(self, function: Any, *args: Any) -> List[int]:
        return array("q", self._sized("int64_t[]", function, *args)).tolist()

    def cancel(self) -> None:
        """Close all open picks."""
        pointer_ = self._enter()
        try:
            lib.cadft_rewrite_cancel(pointer_)
        finally:
            self._lock.release()

    def commit(self, id: int, tokens: Optional[Iterable[int]], *, ended: bool,
               n_tokens: Optional[int] = None, c_new: float = float("nan"),
               c_old: float = float("nan")) -> Optional[str]:
        """Give an open pick its answer. Returns None when it was taken, else
        why not: ``too_short``, ``too_long``, ``not_ended``, ``not_lower``.

        :param tokens: None: the host keeps the n_tokens of them
        """
        values = None if tokens is None else array("i", tokens)
        at = ffi.NULL if values is None else ffi.from_buffer("int32_t[]", values)
        if values is not None:
            n_tokens = len(values)
        result = ffi.new("cadft_rewrite_result *", {
            "struct_size": ffi.sizeof("cadft_rewrite_result"), "ended": int(ended), "tokens": at,
            "n_tokens": n_tokens or 0, "c_new": c_new, "c_old": c_old})
        rejected = ffi.new("int32_t *")
        self._call(lib.cadft_rewrite_commit, id, result, rejected)
        return _REASONS[rejected[0]] if rejected[0] else None

    def reject(self, id: int) -> None:
        """Close an open pick without an answer."""
        self._call(lib.cadft_rewrite_reject, id)

    def target(self, id: int) -> Optional["array[int]"]:
        """Tokens that replace a sample's target, a copy; None: the original."""
        tokens, n = ffi.new("const int32_t **"), ffi.new("int64_t *")
        pointer_ = self._enter()
        try:
            status = lib.cadft_rewrite_target(pointer_, id, tokens, n, self._error)
            if status:
                self._fail(status)
            if not tokens[0]:
                return None
            return array("i", bytes(ffi.buffer(tokens[0], 4 * n[0])))
        finally:
            self._lock.release()

    def restore(self, id: int) -> None:
        """Take a sample back to its original target."""
        self._call(lib.cadft_rewrite_restore, id)

    def state_save(self) -> bytes:
        """Everything but the knobs."""
        return self._sized("char[]", lib.cadft_rewrite_state_save)

    def state_load(self, state: Any) -> None:
        """Restore what `state_save` gave."""
        memory_ = ffi.from_buffer(state)
        self._call(lib.cadft_rewrite_state_load, memory_, len(memory_))
