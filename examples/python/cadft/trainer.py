# SPDX-License-Identifier: Apache-2.0
"""The loss in the Trainer of transformers and the SFTTrainer of TRL.

    class Trainer(cadft.trainer.TrainerMixin, trl.SFTTrainer):
        pass
    Trainer(model=..., criterion=dict(beta=1.0), ...).train()

weighs each sample against the whole optimizer step (scope exact). Without a
class of one's own, with weights from the micro-batch at hand (scope local):

    loss = cadft.trainer.LossFunction(beta=1.0)
    trainer = transformers.Trainer(..., compute_loss_func=loss)
    loss.attach(trainer)
"""
import functools
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import torch
import torch.distributed as dist

from ._errors import error
from ._ffi import lib
from ._loss import Report
from ._torch_rows import Rows
from .torch import Loss, Step


def rows_of(inputs: Mapping[str, Any]) -> Dict[str, Any]:
    """Which rows belong together, from a model's inputs: for `Loss.forward`."""
    rows = {"attention_mask": inputs.get("attention_mask")}
    if inputs.get("position_ids") is not None:
        rows["position_ids"] = inputs["position_ids"]
    elif inputs.get("cu_seq_lens_q") is not None:
        rows["cu_seqlens"] = inputs["cu_seq_lens_q"]
    return rows


class _Meter:
    """Sums of reports: rows, samples, and nll, p and w of all of them."""

    def __init__(self) -> None:
        self._sums = torch.zeros(5, dtype=torch.float64, device="cpu")

    def add(self, report: Optional[Report]) -> None:
        if report is not None:
            rows, samples = report.n_rows, report.n_samples
            self._sums += self._sums.new_tensor([
                rows, samples, report.nll * rows, report.mean_p * rows, report.mean_w * samples])

    def take(self, prefix: str = "", group: Optional[Any] = None) -> Dict[str, float]:
        """The means: nll and mean_p over tokens, mean_w over samples. Begins
        again.

        :param group: processes that have the other reports
        """
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        if group is not None:
            dist.all_reduce(sums, group=group)
        rows, samples, nll, p, w = sums.tolist()
        if not rows:
            return {}
        return {prefix + "nll": nll / rows, prefix + "mean_w": w / samples,
                prefix + "mean_p": p / rows}


class _Meters:
    """One for training, whose reports are of all processes, and one for
    evaluation, whose are not."""

    def __init__(self, group: Optional[Any] = None) -> None:
        self._train, self._eval, self._group = _Meter(), _Meter(), group

    def add(self, report: Optional[Report], training: bool) -> None:
        (self._train if training else self._eval).add(report)

    def log(self, log: Callable[..., None], logs: Dict[str, float], *args: Any,
            **names: Any) -> None:
        """Call the Trainer's log: with more, if it is about training."""
        log({**logs, **self._train.take()} if "loss" in logs else logs, *args, **names)

    def evaluate(self, loop: Callable[..., Any], *args: Any, **names: Any) -> Any:
        """Call the Trainer's evaluation_loop, and add to the metrics that it
        returns: they are logged, and may choose the best model."""
        self._eval = _Meter()
        output = loop(*args, **names)
        prefix = next((key[:-4] for key in output.metrics if key.endswith("_loss")), None)
        if prefix is not None:
            output.metrics.update(self._eval.take(prefix, self._group))
        return output


def _criterion(criterion: Union[Loss, Mapping[str, Any], None], **defaults: Any) -> Loss:
    if isinstance(criterion, Loss):
        return criterion
    return Loss(**{"label_offset": 1, **defaults, **(criterion or {})})


def _refuse_smoothing(trainer: Any) -> None:
    factor = getattr(trainer.args, "label_smoothing_factor", 0)
    if factor:
        raise error(lib.CADFT_E_UNSUPPORTED, f"label_smoothing_factor is {factor}: expected 0, and "
                    "the criterion's knob label_smoothing")


def _denominator(criterion: Loss, num_items: Any) -> Optional[float]:
    """num_items_in_batch is the number of tokens: a mean over samples cannot
    use it."""
    if num_items is None or criterion.get("reduction") != "token_mean":
        return None
    return float(num_items)


class LossFunction:
    """A ``compute_loss_func``, with ``num_items_in_batch`` as the denominator.
    It sees one micro-batch at a time, so its scope is local, unless one
    micro-batch is the whole step.

    :param criterion: a `cadft.torch.Loss`, or None: a new one
    :param knobs: of the new one; ``label_offset`` is 1, ``scope`` local
    """

    def __init__(self, criterion: Optional[Loss] = None, **knobs: Any) -> None:
        if criterion is not None and knobs:
            raise TypeError("LossFunction takes a criterion or knobs")
        self.criterion = _criterion(criterion or knobs, scope="local")
        if self.criterion.group is not None:
            raise error(lib.CADFT_E_UNSUPPORTED, "a criterion with a group: expected TrainerMixin")
        self._meters = _Meters()
        self._inputs: Optional[Tuple[Mapping[str, Any], bool]] = None
        self._watched = False

    def watch(self, model: torch.nn.Module) -> Any:
        """Look at the inputs of the model, which ``compute_loss_func`` is not
        given: they say which rows belong together. Returns the hook's handle."""
        self._watched = True
        return model.register_forward_pre_hook(self._look, with_kwargs=True)

    def attach(self, trainer: Any) -> "LossFunction":
        """Watch the trainer's model, be its ``compute_loss_func``, and add nll,
        mean_w and mean_p to what it logs."""
        trainer.compute_loss_func = self
        self.watch(trainer.model)
        _refuse_smoothing(trainer)
        trainer.log = functools.partial(self._meters.log, trainer.log)
        trainer.evaluation_loop = functools.partial(self._meters.evaluate, trainer.evaluation_loop)
        return self

    def _look(self, model: torch.nn.Module, args: Tuple[Any, ...], inputs: Dict[str, Any]) -> None:
        self._inputs = rows_of(inputs), model.training

    def __call__(self, outputs: Any, labels: torch.Tensor,
                 num_items_in_batch: Any = None) -> torch.Tensor:
        if not self._watched:
            raise error(lib.CADFT_E_PHASE, "the model's inputs are unknown: expected "
                        "attach(trainer) or watch(model) before the first loss")
        if self._inputs is None:
            raise error(lib.CADFT_E_PHASE, "the watched model was not called before the loss")
        (rows, training), self._inputs = self._inputs, None
        if training and num_items_in_batch is not None:
            self._check(labels, int(num_items_in_batch))
        loss: torch.Tensor = self.criterion(
            outputs["logits"], labels, **rows,
            denominator=_denominator(self.criterion, num_items_in_batch))
        self._meters.add(self.criterion.report, training)
        return loss

    def _check(self, labels: torch.Tensor, num_items: int) -> None:
        """What needs the whole step is refused where this is a part of it."""
        if int((labels != -100).sum()) >= num_items:
            return
        scope, reduction = self.criterion.get("scope"), self.criterion.get("reduction")
        if scope == "exact" or reduction in ("sample_sum", "sample_mean"):
            raise error(lib.CADFT_E_UNSUPPORTED, f"scope {scope}, reduction {reduction}: this "
                        f"micro-batch has {int((labels != -100).sum())} of the step's {num_items} "
                        "tokens: expected scope local and token_mean or sum, or TrainerMixin, "
                        "which sees the whole step")


class TrainerMixin:
    """Goes before ``Trainer`` or ``SFTTrainer`` in the bases of a class.

    Scope exact, the default: before the first backward of an optimizer step the
    model sees all its micro-batches without gradient, in evaluation mode; with
    a single micro-batch it sees it once. Scopes running and local: one forward.
    Statistics are over all processes of torch.distributed. Evaluation weighs
    each batch by itself.

    :param criterion: a `cadft.torch.Loss`, or its knobs; ``label_offset`` is 1
    """

    #: for the Trainer: the loss of a micro-batch is a part of the step's
    loss_is_scaled_for_ga: Any = True

    def __init_subclass__(cls, **names: Any) -> None:
        super().__init_subclass__(**names)
        for base in cls.__mro__[:cls.__mro__.index(TrainerMixin)]:
            if "compute_loss" in vars(base) and not issubclass(base, TrainerMixin):
                raise TypeError(f"{cls.__name__}: expected TrainerMixin before {base.__name__}, "
                                "whose loss it replaces")

    def __init__(self, *args: Any, criterion: Union[Loss, Mapping[str, Any], None] = None,
                 **names: Any) -> None:
        if names.get("compute_loss_func") is not None:
            raise TypeError("compute_loss_func: this trainer's loss is its criterion")
        super().__init__(*args, **names)
        _refuse_smoothing(self)
        self.criterion = _criterion(criterion)
        if self.criterion.group is None and dist.is_available() and dist.is_initialized():
            self.criterion.group = dist.group.WORLD
        if getattr(self, "aux_loss_enabled", False):
            raise error(lib.CADFT_E_UNSUPPORTED, "the router's auxiliary loss is not added: "
                        "expected router_aux_loss_coef 0")
        # So that the Trainer counts num_items_in_batch.
        self.compute_loss_func: Any = self._no_function
        self._meters = _Meters(self.criterion.group)
        self._batches: List[Mapping[str, Any]] = []
        self._step: Optional[Step] = None
        self._left = 0  # micro-batches of the step without backward

    @staticmethod
    def _no_function(*args: Any, **names: Any) -> Any:
        raise error(lib.CADFT_E_UNSUPPORTED, "this trainer computes its loss in compute_loss")

    # ----------------------------------------------------- what the Trainer calls

    def get_batch_samples(self, *args: Any, **names: Any) -> Any:
        """The micro-batches of the next optimizer step."""
        if self._step is not None:  # the Trainer left the last one half-way
            self._step.cancel()
        batches, num_items = super().get_batch_samples(*args, **names)  # type: ignore[misc]
        self._batches, self._step = list(batches), None
        return batches, num_items

    def training_step(self, model: Any, inputs: Any, *args: Any, **names: Any) -> Any:
        """Forward and backward of a micro-batch."""
        try:
            loss = super().training_step(model, inputs, *args, **names)  # type: ignore[misc]
            self._left -= 1
            if self._step is not None and self._left == 0:
                self._step.end()
                self._meters.add(self._step.report, True)
                self._step = None
        except BaseException:
            if self._step is not None:
                self._step.cancel()
                self._step = None
            raise
        return loss

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False,
                     num_items_in_batch: Any = None) -> Any:
        """The loss of a micro-batch."""
        inputs = {**inputs, "use_cache": False}
        labels = inputs.pop("labels")
        if not (model.training and torch.is_grad_enabled()):
            outputs = model(**inputs)
            loss = self.criterion(outputs["logits"], labels, **rows_of(inputs))
            self._meters.add(self.criterion.report, False)
            return (loss, outputs) if return_outputs else loss
        if self._step is None:
            self._open_step(model, num_items_in_batch)
        outputs = model(**inputs)
        loss = self._part(outputs["logits"], labels, rows_of(inputs))
        loss = loss * self._processes(num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: Dict[str, float], *args: Any, **names: Any) -> None:
        """With nll, mean_w and mean_p."""
        self._meters.log(super().log, logs, *args, **names)  # type: ignore[misc]

    def evaluation_loop(self, *args: Any, **names: Any) -> Any:
        """With those of the evaluation among its metrics."""
        return self._meters.evaluate(super().evaluation_loop, *args, **names)  # type: ignore[misc]

    # ------------------------------------------------------------------- the step

    def _open_step(self, model: Any, num_items: Any) -> None:
        rows = [Rows(batch["labels"], **rows_of(batch)) for batch in self._batches]
        step = self.criterion.step(sum(r.count for r in rows),
                                   denominator=_denominator(self.criterion, num_items))
        self._left = len(rows)
        step.__enter__()
        self._step = step
        if self.criterion.get("scope") == "exact" and len(rows) > 1:
            self._observe(model, step)

    def _observe(self, model: Any, step: Step) -> None:
        model.eval()
        try:
            with torch.no_grad():
                for batch in self._batches:
                    prepared = {**self._prepare_inputs(batch), "use_cache": False}  # type: ignore
                    labels = prepared.pop("labels")
                    step.observe(model(**prepared)["logits"], labels, **rows_of(prepared))
        finally:
            model.train()
        step.weigh()

    def _part(self, logits: torch.Tensor, labels: torch.Tensor,
              rows: Dict[str, Any]) -> torch.Tensor:
        step = self._step
        assert step is not None
        if self.criterion.get("scope") != "exact":
            return step.loss(logits, labels, **rows)
        if len(self._batches) == 1:
            step.observe(logits, labels, **rows)
            step.weigh()
        return step.loss(logits)

    def _processes(self, num_items: Any) -> int:
        """The wrapper takes the mean over processes of what is a sum, unless
        each one has divided by a number of its own."""
        shared = getattr(self.args, "average_tokens_across_devices", True)  # type: ignore
        return dist.get_world_size(self.criterion.group) if (
            self.criterion.group is not None and (shared or num_items is None)) else 1
