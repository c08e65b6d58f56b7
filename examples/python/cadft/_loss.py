# SPDX-License-Identifier: Apache-2.0
"""The loss: logits and labels in, compatibility-weighted gradients out."""
import struct
from array import array
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

from . import _callbacks
from ._arrays import memory, optional, pointer
from ._context import Context, context_or_default
from ._errors import error
from ._ffi import ffi, lib
from ._handle import Knobs, Value
from ._tensor import Tensor, point_all, release_all


class Report(NamedTuple):
    """What a step did, over the global batch as far as the loss knows it."""

    loss: float  #: sum of scale * w * token loss; no grad_scale
    nll: float  #: mean negative log-likelihood: the plain SFT loss
    mean_p: float  #: mean probability of the labels
    mean_w: float  #: mean weight of the samples, before renormalise
    min_w: float  #: smallest weight, likewise
    share_below: float  #: share of the samples with a weight below 1
    mu: float  #: mean of c that the weights used
    sigma: float  #: its standard deviation
    grad_scale: float  #: sum of coefficients over what SFT would have
    n_samples: int  #: samples in the statistics
    n_rows: int  #: their counting rows
    n_skipped: int  #: samples skipped as non-finite
    n_infinite: int  #: samples with c = +inf


# The fields of the C struct behind struct_size and reserved, in their order.
_FIELDS = ffi.typeof("cadft_loss_report").fields[2:]
_LAYOUT = struct.Struct(f"={_FIELDS[0][1].offset}x" + "".join(
    "d" if field.type.cname == "double" else "q" for _, field in _FIELDS))
_unpack = _LAYOUT.unpack
if (tuple(name for name, _ in _FIELDS) != Report._fields
        or _LAYOUT.size != ffi.sizeof("cadft_loss_report")):
    raise ImportError("cadft.Report is not the cadft_loss_report of the headers")

Coefficient = Callable[["array[float]", "array[float]", "array[float]"], Any]


def _constant(kind: str, name: str) -> int:
    value = getattr(lib, f"CADFT_{kind}_{name.upper()}", None)
    if value is None or name != name.lower():
        prefix = f"CADFT_{kind}_"
        known = ", ".join(c[len(prefix):].lower() for c in dir(lib) if c.startswith(prefix))
        raise error(lib.CADFT_E_ARG, f"{name!r}: expected one of {known}")
    return int(value)


class Batch:
    """A micro-batch: arrays that stay in place, and how to read them. It keeps
    the arrays; it may be used again, by any loss.

    :param logits: float32, bfloat16 or float16 [..., V]
    :param labels: int32 or int64, [rows] or [B, T]
    :param sample_ids: int32, which demonstration of the global batch each row
        belongs to; negative: none
    :param k: float32 or float64 coefficients, objective host only
    :param vocab_valid: columns that are vocabulary, not padding; 0: all
    :param vocab_start: vocabulary parallel: the first id of this shard
    :param vocab_total: vocabulary parallel: ids in all; 0: not sharded
    """

    def __init__(self, logits: Any, labels: Any, sample_ids: Any, *, k: Any = None,
                 vocab_valid: int = 0, vocab_start: int = 0, vocab_total: int = 0) -> None:
        self.logits, self.labels = Tensor(logits), Tensor(labels)
        self.sample_ids = Tensor(sample_ids)
        self.k, k_pointer = optional(k)
        self._batch = ffi.new("cadft_loss_batch *", {
            "struct_size": ffi.sizeof("cadft_loss_batch"), "logits": pointer(self.logits),
            "labels": pointer(self.labels), "sample_ids": pointer(self.sample_ids),
            "k": k_pointer, "vocab_valid": vocab_valid, "vocab_start": vocab_start,
            "vocab_total": vocab_total})

    @property
    def rows(self) -> int:
        """Rows of the logits."""
        shape = self.logits.shape
        return self.logits.size // shape[-1] if shape and shape[-1] else 0


class Loss(Knobs):
    """A loss, by default CADFT: DFT with sample weights.

        loss = cadft.Loss(objective="dft", beta=1.0)
        report = loss.compute(logits, labels, sample_ids, n_samples, grad=logits)

    The knobs are those of loss.h, in lower case: ``Loss.knobs()``. Arrays are
    anything with the buffer protocol or ``__dlpack__``, and are never copied.
    """

    _noun = "loss"

    def __init__(self, context: Optional[Context] = None, /, **knobs: Value) -> None:
        self.context = context_or_default(context)
        super().__init__(self.context._create(lib.cadft_loss_create, "loss"),
                         lib.cadft_loss_destroy)
        # What compute fills anew each time.
        self._tensors = tuple(Tensor() for _ in range(5))
        self._pointers = [pointer(tensor) for tensor in self._tensors]
        self._batch = ffi.new("cadft_loss_batch *", {
            "struct_size": ffi.sizeof("cadft_loss_batch"), "logits": self._pointers[0],
            "labels": self._pointers[1], "sample_ids": self._pointers[2]})
        self._report = ffi.new("cadft_loss_report *",
                               {"struct_size": ffi.sizeof("cadft_loss_report")})
        self._report_bytes = memoryview(ffi.buffer(self._report))
        self._last = (False, 0, 0, 0)
        self.set(**knobs)

    def _read_report(self) -> Report:
        return tuple.__new__(Report, _unpack(self._report_bytes))

    # ---------------------------------------------------------------- one call

    def compute(self, logits: Any, labels: Any, sample_ids: Any, n_samples: int, *,
                grad: Any = None, row_scale: Any = None, k: Any = None, vocab_valid: int = 0,
                vocab_start: int = 0, vocab_total: int = 0) -> Report:
        """The simple case: this batch (see `Batch`) is the whole global batch.

        :param n_samples: sample ids are below this
        :param grad: where the gradient goes; may be the logits themselves.
            None: report only
        :param row_scale: float32 [rows]: ``grad`` then gets softmax - target,
            and the true gradient of row r is row_scale[r] * grad[r]
        """
        if not self._lock.acquire(False):  # _enter, in place: this is the hot call
            raise self._busy()
        try:
            pointer_ = self._pointer
            if pointer_ is None:
                raise self._closed()
            out = scales = ffi.NULL
            point_all(self._tensors, logits, labels, sample_ids, k, grad)
            if grad is not None:
                out = self._pointers[4]
            if (k is not None, vocab_valid, vocab_start, vocab_total) != self._last:
                self._set_batch(k is not None, vocab_valid, vocab_start, vocab_total)
            if row_scale is not None:
                columns = (self._tensors[0].shape or (1,))[-1] or 1
                keep, scales = memory(row_scale, "float32", self._tensors[0].size // columns,
                                      "row_scale", True)
            status = lib.cadft_loss_compute(pointer_, self._batch, n_samples, out, scales,
                                            self._report, self._error)
            if status:
                self._fail(status)
            return self._read_report()
        finally:
            release_all(self._tensors)
            self._lock.release()

    def _set_batch(self, with_k: bool, valid: int, start: int, total: int) -> None:
        batch = self._batch
        batch.k = self._pointers[3] if with_k else ffi.NULL
        batch.vocab_valid, batch.vocab_start, batch.vocab_total = valid, start, total
        self._last = (with_k, valid, start, total)

    # ------------------------------------------------------------------ phases

    def begin(self, n_samples: int) -> None:
        """Start an optimizer step of so many demonstrations."""
        self._call(lib.cadft_loss_begin, n_samples)

    def observe(self, batch: Batch, unit_grad: Any = None) -> int:
        """Read a micro-batch's logits and remember O(rows) about it. Returns
        its number.

        :param unit_grad: where to write softmax - target in the same sweep
        """
        grad = None if unit_grad is None else Tensor(unit_grad, writable=True)
        micro = ffi.new("int64_t *")
        self._call(lib.cadft_loss_observe, batch._batch, pointer(grad) if grad else ffi.NULL, micro)
        return int(micro[0])

    def weigh(self) -> None:
        """Turn what was observed into weights."""
        self._call(lib.cadft_loss_weigh)

    def grad(self, micro: int, batch: Batch, grad: Any) -> None:
        """Write a micro-batch's gradient.

        :param micro: number from `observe`; -1: compute the rows again
        :param grad: logits' type or float32; may be the logits themselves
        """
        out = Tensor(grad, writable=True)
        self._call(lib.cadft_loss_grad, micro, batch._batch, pointer(out))

    def end(self) -> Report:
        """End the step."""
        pointer_ = self._enter()
        try:
            status = lib.cadft_loss_end(pointer_, self._report, self._error)
            if status:
                self._fail(status)
            return self._read_report()
        finally:
            self._lock.release()

    def report(self) -> Report:
        """What `end` would report now, once all is weighed, or what it
        reported."""
        pointer_ = self._enter()
        try:
            status = lib.cadft_loss_get_report(pointer_, self._report, self._error)
            if status:
                self._fail(status)
            return self._read_report()
        finally:
            self._lock.release()

    def cancel(self) -> None:
        """Leave the step, if any, as if it had not begun."""
        pointer_ = self._enter()
        try:
            lib.cadft_loss_cancel(pointer_)
        finally:
            self._lock.release()

    @contextmanager
    def step(self, n_samples: int) -> Iterator[List[Report]]:
        """`begin`, and at the end of the block `end`, whose report is then the
        one item of the list; `cancel` if the block raises."""
        reports: List[Report] = []
        self.begin(n_samples)
        try:
            yield reports
            reports.append(self.end())
        except BaseException:
            self.cancel()
            raise

    # --------------------------------------------------------------- exchanges

    def export(self, kind: str, shard: int = 0, n_shards: int = 1, out: Any = None) -> Any:
        """This process's part of an exchange, float64, for the host to
        all-reduce in place: ``row_max`` (by maximum), and by sum ``row_sum``,
        ``samples``, ``moments``, ``weights``, ``report``."""
        return self._doubles(lib.cadft_loss_export, out, _constant("EXCHANGE", kind), shard,
                             n_shards)

    def import_(self, kind: str, values: Any) -> None:
        """Take the reduced array back."""
        tensor, address = memory(values, "float64", 0, "values", False)
        self._call(lib.cadft_loss_import, _constant("EXCHANGE", kind), address, tensor.size)

    # ------------------------------------------------------ per row, per sample

    def rows(self, micro: int, what: str, out: Any = None) -> Any:
        """A per-row array of a micro-batch, float64: ``nll``, ``p``,
        ``entropy``, ``k``, ``scale`` or ``loss``."""
        return self._doubles(lib.cadft_loss_get_rows, out, micro, _constant("ROWS", what))

    def samples(self, what: str, out: Any = None) -> Any:
        """A per-sample array, float64: ``c``, ``chat``, ``w`` or ``rows``."""
        return self._doubles(lib.cadft_loss_get_samples, out, _constant("SAMPLES", what))

    def _doubles(self, function: Any, out: Any, *args: Any) -> Any:
        if out is None:
            return array("d", self._sized("double[]", function, *args))
        tensor, address = memory(out, "float64", 0, "out", True)
        self._call(function, *args, address, tensor.size, ffi.NULL)
        return out

    # ------------------------------------------------------ callback and state

    def set_coefficient(self, function: Optional[Coefficient]) -> None:
        """The coefficient of objective host: called with the rows' negative
        log-likelihood, probability and entropy, arrays of float64, it returns
        as many finite numbers. What it raises comes out of the call that
        needed it. None removes it."""
        if function is None:
            self._call(lib.cadft_loss_set_coefficient, ffi.NULL)
            return
        registration = ffi.new("cadft_coefficient *", {
            "struct_size": ffi.sizeof("cadft_coefficient"),
            "user": _callbacks.keep(_coefficient(self, function)),
            "fn": lib.cadft_py_coefficient, "destroy": lib.cadft_py_forget})
        self._call(lib.cadft_loss_set_coefficient, registration)

    def state_save(self) -> bytes:
        """The running statistics (scope running)."""
        return self._sized("char[]", lib.cadft_loss_state_save)

    def state_load(self, state: Any) -> None:
        """Restore what `state_save` gave."""
        memory_ = ffi.from_buffer(state)
        self._call(lib.cadft_loss_state_load, memory_, len(memory_))


def _coefficient(loss: Loss, function: Coefficient) -> Callable[..., int]:
    """What the C callback calls."""
    import weakref
    owner = weakref.ref(loss)  # the loss owns the callback, not the reverse

    def coefficient(rows: int, l: Any, p: Any, entropy: Any, k: Any) -> int:
        try:
            arrays = [array("d", bytes(ffi.buffer(a, 8 * rows))) for a in (l, p, entropy)]
            values = array("d", function(*arrays))
            if len(values) != rows:
                raise ValueError(f"the coefficient has {len(values)} values: expected {rows}")
            ffi.memmove(k, values, 8 * rows)
            return 0
        except BaseException as failure:
            alive = owner()
            if alive is not None:
                alive._raised = failure
            return -1

    return coefficient
