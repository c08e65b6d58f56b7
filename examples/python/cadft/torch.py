# SPDX-License-Identifier: Apache-2.0
"""The loss of a PyTorch training loop, in place of its cross-entropy.

    criterion = cadft.torch.Loss(beta=1.0, label_offset=1)
    loss = criterion(model(input_ids).logits, labels, attention_mask=attention_mask)
    loss.backward()
    print(criterion.report.nll)

Several micro-batches or processes are one step of several parts: `Loss.step`.
"""
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar

import torch

from . import _loss
from ._context import Context
from ._errors import error
from ._ffi import lib
from ._handle import Value
from ._torch_group import Exchanges
from ._torch_rows import Rows, host, loss_count


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _eager(function: _Function) -> _Function:
    """torch.compile leaves this out of its graphs: it cannot trace the
    library."""
    disable: Any = getattr(getattr(torch, "compiler", None), "disable", None)
    left_out: _Function = disable(function) if disable else function
    return left_out


class _Gradient(torch.autograd.Function):
    """From logits to their loss, which is known already."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, part: "_Part", in_place: bool) -> torch.Tensor:
        ctx.part, ctx.in_place, ctx.given = part, in_place, weakref.ref(logits)
        ctx.save_for_backward(logits)
        return _scalar(part.value)

    @staticmethod
    @_eager
    def backward(ctx: Any, upstream: torch.Tensor) -> Tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph=True: the library has no second derivative of the "
                               "loss, and a gradient taken as a constant would be wrong")
        ctx.part.check()
        logits, = ctx.saved_tensors
        # Hooks on saved tensors (checkpointing, save_on_cpu) have made it another
        # tensor: then autograd does not know who else keeps its memory.
        in_place = ctx.in_place and ctx.given() is logits
        grad = logits.detach() if in_place else torch.empty_like(logits)
        ctx.part.write(logits, grad, float(upstream))
        if in_place:
            # Autograd counts changes: who else kept these logits is told.
            grad.narrow(0, 0, 0).zero_()
        return grad, None, None


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32, device="cpu")


class _Part:
    """A micro-batch between its loss and its gradient."""

    def __init__(self, step: "Step", micro: int, rows: Rows, value: float) -> None:
        self.step, self.micro, self.rows, self.value = step, micro, rows, value
        self.written = False

    def check(self) -> None:
        """May the gradient be written?"""
        if self.written:
            raise RuntimeError("backward a second time through the same loss: the first one ended "
                               "its step, and wrote the gradient over the logits if in_place")
        if self.step.closed:
            raise error(lib.CADFT_E_PHASE, "backward after the end of the step: expected inside "
                        "its with block")

    def write(self, logits: torch.Tensor, grad: torch.Tensor, scale: float) -> None:
        self.step._grad(self.micro, self.rows, logits, grad, scale)
        self.written = True

    def __del__(self) -> None:
        if self.step.single and not self.written:
            self.step.cancel()


class Step:
    """An optimizer step, made by `Loss.step`, used in a ``with`` block."""

    def __init__(self, owner: "Loss", n_samples: int, group: Optional[Any],
                 denominator: Optional[float], single: bool = False) -> None:
        self._owner, self._n_samples = owner, n_samples
        self._denominator = denominator
        self._one_pass = owner.get("scope") != "exact"
        self._to_count = (single and self._one_pass and not denominator
                          and not owner.get("denominator") and owner.get("reduction") != "sum")
        kinds = ["moments"] + ["weights"] * bool(owner.get("renormalise"))
        if self._one_pass:
            kinds = ["count"] * self._to_count + ["moments"]
        self._exchange = Exchanges(group, [*kinds, "report"])
        self._micros: List[Rows] = []
        self._seen: List[Tuple[Any, Optional[int]]] = []
        self._next = 0  # micro-batch that `loss` takes, scope exact
        self._first_id = 0
        self._loss: Optional[_loss.Loss] = None
        #: of one micro-batch: its backward is the end
        self.single = single
        #: what the step did, after its end
        self.report: Optional[_loss.Report] = None

    # ------------------------------------------------------------------- phases

    @_eager
    def __enter__(self) -> "Step":
        self._begin()
        return self

    def _begin(self) -> None:
        if self._loss is not None or self.report is not None:
            raise error(lib.CADFT_E_PHASE, "a step is entered once")
        self._loss = self._owner._take()
        try:
            if self._denominator:
                self._loss.set(denominator=float(self._denominator))
            self._loss.begin(self._n_samples)
        except BaseException:
            self.cancel()
            raise

    @_eager
    def __exit__(self, kind: Optional[Type[BaseException]], *rest: Any) -> None:
        if kind is not None:
            self.cancel()
        elif not self.closed:
            self.end()

    @property
    def closed(self) -> bool:
        """Is it over, or not begun?"""
        return self._loss is None

    def _open(self) -> _loss.Loss:
        if self._loss is None:
            raise error(lib.CADFT_E_PHASE, "the step is over, or not begun: expected inside its "
                        "with block")
        return self._loss

    @_eager
    def observe(self, logits: torch.Tensor, labels: torch.Tensor, **rows: Any) -> int:
        """Scope exact: the logits of a micro-batch, for the statistics. They
        need no gradient (``torch.no_grad``).

        :param rows: as `Loss.forward`'s. Samples are numbered on from one
            micro-batch to the next, but for ``sample_ids``, which are of the
            step
        """
        return self._observe(logits, Rows(labels, self._first_id, **rows))

    def _observe(self, logits: torch.Tensor, rows: Rows) -> int:
        micro = self._open().observe(rows.batch(logits))
        self._micros.append(rows)
        # Tensors of inference_mode count no changes, and need no gradient.
        version = None if logits.is_inference() else logits._version
        self._seen.append((weakref.ref(logits), version))
        self._first_id += rows.count
        return micro

    @_eager
    def weigh(self) -> None:
        """From what was observed, by all processes, to weights. Scope exact:
        once, after the last `observe`."""
        loss = self._open()
        if self._to_count:
            counted = loss_count(loss, self._owner.get("reduction"))
            loss.set(denominator=max(self._exchange.count(counted), 1.0))
        if not self._one_pass:
            self._exchange("moments", loss)
        loss.weigh()
        if not self._one_pass:
            self._exchange("weights", loss)

    @_eager
    def loss(self, logits: torch.Tensor, labels: Optional[torch.Tensor] = None, *,
             micro: Optional[int] = None, **rows: Any) -> torch.Tensor:
        """The loss of a micro-batch, part of the step's sum: call ``backward``
        on it inside the block.

        Scope exact: the micro-batches come in the order in which they were
        observed, or by number. Of logits that are computed a second time the
        statistics are read again, so dropout may differ; the weights are those
        of the first time. The value is that of the observed logits. Scopes
        running and local: labels and rows as for `observe`."""
        if self._one_pass:
            if labels is None:
                raise TypeError("loss: scopes running and local need labels")
            micro = self.observe(logits, labels, **rows)
            self._open().weigh()
        elif labels is not None or rows:
            raise TypeError("loss: labels and rows are known from observe, in scope exact")
        return self._loss_of(logits, micro)

    def _loss_of(self, logits: torch.Tensor, micro: Optional[int]) -> torch.Tensor:
        micro = self._next if micro is None else micro
        if not 0 <= micro < len(self._micros):
            raise error(lib.CADFT_E_ARG, f"micro-batch {micro}: {len(self._micros)} were observed")
        self._next = micro + 1
        rows = self._micros[micro]
        values = torch.empty(rows.labels.numel(), dtype=torch.float64, device="cpu")
        value = float(self._open().rows(micro, "loss", out=values).sum())
        if not (logits.requires_grad and torch.is_grad_enabled()):
            return _scalar(value)
        seen, version = self._seen[micro]
        same = seen() is logits and version == logits._version
        part = _Part(self, micro if same else -1, rows, value)
        loss: torch.Tensor = _Gradient.apply(logits, part, self._owner._overwrites(logits))
        return loss

    def _grad(self, micro: int, rows: Rows, logits: torch.Tensor, grad: torch.Tensor,
              scale: float) -> None:
        loss = self._open()
        loss.set(grad_scale=self._owner._knob("grad_scale", 1.0) * scale)
        loss.grad(micro, rows.batch(logits), grad)
        if self.single:
            self.end()

    def _exchange_report(self) -> None:
        loss = self._open()
        if self._one_pass:
            self._exchange("moments", loss)
        self._exchange("report", loss)

    def end(self) -> None:
        """The end of the block: the report, and running statistics."""
        loss = self._open()
        try:
            self._exchange_report()
            self.report = self._owner.report = loss.end()
        except BaseException:
            self.cancel()
            raise
        self._close()

    def cancel(self) -> None:
        """Leave the step as if it had not begun."""
        if self._loss is not None:
            self._loss.cancel()
            self._close()
            self._exchange.leave()

    def _close(self) -> None:
        loss, self._loss = self._loss, None
        if loss is not None:
            self._owner._give(loss)


class Loss(torch.nn.Module):
    """CADFT as a criterion: DFT with sample weights, or what the knobs say.

    :param knobs: those of `cadft.Loss`. ``label_offset=1`` is for labels that
        are not shifted, as models of transformers take them
    :param in_place: backward writes the gradient over the logits. None: unless
        they are a leaf of the graph, or a view of one. If another operation
        keeps the logits for its own backward, autograd raises
    :param group: processes of torch.distributed that have the other samples of
        each step (``torch.distributed.group.WORLD``); None: there are none.
        Each gradient is a part of the sum over processes. For a wrapper that
        takes the mean set the knob ``grad_scale`` to their number
    :param context: backend and threads
    """

    #: what the last step, or call, did
    report: Optional[_loss.Report]

    def __init__(self, context: Optional[Context] = None, *, in_place: Optional[bool] = None,
                 group: Optional[Any] = None, **knobs: Value) -> None:
        super().__init__()
        self.in_place, self.group, self.report = in_place, group, None
        self._knobs: Dict[str, Value] = dict(knobs)
        self._coefficient: Optional[_loss.Coefficient] = None
        self._open_first(context)

    def _open_first(self, context: Optional[Context]) -> None:
        self._first = _loss.Loss(context, **self._knobs)
        self._context = self._first.context
        # One for each step that is open at a time; they have the same knobs.
        self._free, self._spares = [self._first], [self._first]
        self._last = self._first

    # -------------------------------------------------------------------- calls

    @_eager
    def forward(self, logits: torch.Tensor, labels: torch.Tensor, *,
                denominator: Optional[float] = None, **rows: Any) -> torch.Tensor:
        """The loss of a batch that is a whole step (of its group): float32, one
        number.

        Which rows belong together is told by one of ``sample_ids``,
        ``position_ids`` (a sample begins where they do not rise),
        ``cu_seqlens`` and ``lengths`` [B]; else each of [B, T] labels is one
        sample. ``attention_mask`` (0, 1) takes rows out.

        Without gradient (``torch.no_grad``) it is an evaluation of these
        logits alone: no other process is asked and running statistics stay.

        :param logits: float32, bfloat16 or float16 [B, T, V] or [rows, V], on
            the CPU
        :param labels: int64 or int32 [B, T] or [rows]; -100 (``ignore_index``)
            takes a row out
        :param denominator: what the reduction divides by; None: counted
        :param rows: the above; ``k``, coefficients of objective host;
            ``vocab_valid``, columns that are not padding
        """
        made = Rows(labels, **rows)
        trains = host("logits", logits).requires_grad and torch.is_grad_enabled()
        step = Step(self, made.count, self.group if trains else None, denominator, single=True)
        step._begin()
        try:
            step._observe(logits, made)
            step.weigh()
            step._exchange_report()
            self.report = step._open().report()
            loss = step._loss_of(logits, 0)
        except BaseException:
            step.cancel()
            raise
        if not trains:
            step.cancel()
        return loss

    @_eager
    def step(self, n_samples: int, *, denominator: Optional[float] = None,
             group: Optional[Any] = None) -> Step:
        """A step of several micro-batches.

            with criterion.step(n_samples) as step:
                with torch.no_grad():
                    for batch in batches:
                        step.observe(model(batch.input_ids), batch.labels)
                step.weigh()
                for batch in batches:
                    step.loss(model(batch.input_ids)).backward()
            optimizer.step()

        :param n_samples: demonstrations of this process's micro-batches, or more
        :param denominator: what the reduction divides by, over all processes.
            None: counted. Scopes running and local cannot count, unless the
            reduction is sum
        :param group: None: the criterion's
        """
        return Step(self, n_samples, self.group if group is None else group, denominator)

    # -------------------------------------------------------------------- knobs

    def set(self, **knobs: Value) -> None:
        """Set knobs, between steps."""
        self._first.set(**knobs)
        self._knobs.update(knobs)
        self._forget_spares()

    def get(self, name: str) -> Value:
        """A knob."""
        if name in ("denominator", "grad_scale"):
            return self._knob(name, 0.0 if name == "denominator" else 1.0)
        return self._first.get(name)

    def set_coefficient(self, function: Optional[_loss.Coefficient]) -> None:
        """The coefficient of objective host: `cadft.Loss.set_coefficient`."""
        self._first.set_coefficient(function)
        self._coefficient = function
        self._forget_spares()

    def _forget_spares(self) -> None:
        self._spares = [self._first]
        self._free = [loss for loss in self._free if loss is self._first]

    def _knob(self, name: str, default: float) -> float:
        return float(self._knobs.get(name, default))

    def samples(self, what: str) -> torch.Tensor:
        """``c``, ``chat``, ``w`` or ``rows`` of the samples of the last step,
        float64."""
        return torch.tensor(list(self._last.samples(what)), dtype=torch.float64, device="cpu")

    def get_extra_state(self) -> torch.Tensor:
        """The running statistics, in ``state_dict``."""
        return torch.tensor(list(self._first.state_save()), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore them."""
        self._first.state_load(bytes(state.tolist()))

    def __getstate__(self) -> Dict[str, Any]:
        handles = {"_first", "_free", "_spares", "_last", "_context"}
        return {**{name: value for name, value in self.__dict__.items() if name not in handles},
                "_history": self._first.state_save()}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        history = state.pop("_history")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._open_first(None)
        self._first.state_load(history)
        if self._coefficient is not None:
            self._first.set_coefficient(self._coefficient)

    def extra_repr(self) -> str:
        """For print."""
        return ", ".join(f"{name}={value!r}" for name, value in self._knobs.items())

    # ------------------------------------------------------------------ handles

    def _take(self) -> _loss.Loss:
        """A loss that is between steps."""
        if self._first in self._free:
            self._last = self._first
        elif self._first.get("scope") == "running":
            raise error(lib.CADFT_E_PHASE, "another step is open: expected its backward or end "
                        "first, since scope running has one history")
        else:
            self._last = self._free[-1] if self._free else self._new_spare()
        self._free.remove(self._last)
        return self._last

    def _new_spare(self) -> _loss.Loss:
        spare = _loss.Loss(self._context, **self._knobs)
        if self._coefficient is not None:
            spare.set_coefficient(self._coefficient)
        self._spares.append(spare)
        self._free.append(spare)
        return spare

    def _give(self, loss: _loss.Loss) -> None:
        loss.set(denominator=self._knob("denominator", 0.0),
                 grad_scale=self._knob("grad_scale", 1.0))
        if any(loss is spare for spare in self._spares):
            self._free.append(loss)

    def _overwrites(self, logits: torch.Tensor) -> bool:
        """Does backward write over the logits?"""
        base = logits._base if logits._is_view() else logits
        if base is None or base.is_leaf:
            if self.in_place:
                raise ValueError("in_place: the logits are a leaf of the graph, or a view of one, "
                                 "which the gradient would destroy")
            return False
        return self.in_place is not False


__all__ = ["Loss", "Step"]
