# SPDX-License-Identifier: Apache-2.0
"""Decoder-only transformers: forward, backward, generation."""
import json
import os
import weakref
from array import array
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Union

from . import _callbacks  # noqa: F401, defines cadft_py_token
from ._arrays import memory, optional, pointer
from ._context import Context, context_or_default
from ._errors import Error
from ._ffi import ffi, lib
from ._handle import Knobs, Value
from ._tensor import Tensor

Folder = Union[str, "os.PathLike[str]"]
OnToken = Callable[[int, int, int, float], Any]


class Parameter(NamedTuple):
    """A parameter of a model: views of its memory."""

    name: str
    value: Tensor  #: may be written between backward and forward
    grad: Optional[Tensor]  #: float32; None: frozen, or before zero_grad
    trainable: bool


class Model(Knobs):
    """A model without weights; `load` or `init` gives it some.

        model = cadft.Model()
        model.load("SmolLM2-135M")
        model.zero_grad()
        logits = model.forward(tokens, cu_seqlens=cu_seqlens)
        loss.compute(logits, labels, sample_ids, n_samples, grad=logits)
        model.backward(logits)

    Tensors that it hands out look at its memory. A call that would free that
    memory voids them, and raises BufferError as long as an array made of one
    (``numpy.asarray``, ``torch.from_dlpack``) lives.
    """

    _noun = "model"

    def __init__(self, context: Optional[Context] = None, /, **knobs: Value) -> None:
        self.context = context_or_default(context)
        super().__init__(self.context._create(lib.cadft_model_create, "model"),
                         lib.cadft_model_destroy)
        # Views of what is freed together.
        self._views: Dict[str, List["weakref.ref[Tensor]"]] = {}
        self.set(**knobs)

    def _view(self, tensor: Any, kind: str) -> Tensor:
        """A Tensor of the model's memory; the C handle is its owner."""
        view = Tensor()
        view._adopt(int(ffi.cast("uintptr_t", tensor)), self._pointer)
        alive = [one for one in self._views.get(kind, []) if one() is not None]
        self._views[kind] = [*alive, weakref.ref(view)]
        return view

    def _void(self, *kinds: str) -> None:
        """Views of these kinds end; BufferError if an array has one."""
        for kind in kinds:
            for one in self._views.get(kind, []):
                view = one()
                if view is not None:
                    view.release()
            self._views.pop(kind, None)

    def _before_close(self) -> None:
        self._void("weights", "grads", "logits")

    def set(self, name: Optional[str] = None, value: Optional[Value] = None, /,
            **knobs: Value) -> None:
        self._void("logits")
        super().set(name, value, **knobs)

    # ----------------------------------------------------------------- weights

    def load(self, folder: Folder) -> None:
        """Weights of a folder of Hugging Face's transformers."""
        self._call(lib.cadft_model_load, os.fsencode(folder))

    def init(self, config: Union[str, Mapping[str, Any]], seed: int = 0) -> None:
        """Random weights; config is the text of a config.json, or a dict."""
        text = (config if isinstance(config, str) else json.dumps(config)).encode()
        self._call(lib.cadft_model_init, text, len(text), seed)

    def save(self, folder: Folder) -> None:
        """Write a folder that transformers loads."""
        self._call(lib.cadft_model_save, os.fsencode(folder))

    def parameter(self, which: Union[int, str]) -> Parameter:
        """A parameter by index or name."""
        if isinstance(which, str):
            index = ffi.new("int64_t *")
            self._call(lib.cadft_model_find, which.encode(), index)
            which = int(index[0])
        name, trainable = ffi.new("const char **"), ffi.new("int32_t *")
        value, grad = (ffi.new("cadft_tensor *", {"struct_size": ffi.sizeof("cadft_tensor")})
                       for _ in range(2))
        self._call(lib.cadft_model_parameter, which, name, value, grad, trainable)
        return Parameter(ffi.string(name[0]).decode(), self._view(value, "weights"),
                         self._view(grad, "grads") if grad.data else None, bool(trainable[0]))

    def parameters(self) -> Iterator[Parameter]:
        """All parameters in their order."""
        for index in range(int(self.get("parameters"))):
            yield self.parameter(index)

    def freeze(self, pattern: str, trainable: bool = False) -> int:
        """Freeze, or thaw, the parameters whose names match a shell pattern.
        Returns how many match. Frees the gradients."""
        self._void("grads")
        matched = ffi.new("int64_t *")
        self._call(lib.cadft_model_freeze, pattern.encode(), int(trainable), matched)
        return int(matched[0])

    # --------------------------------------------------------------- one batch

    def plan(self, rows: int, logit_rows: int = 0, sequences: int = 0,
             no_grad: bool = False) -> int:
        """Bytes of activations that batches within these limits need."""
        count = ffi.new("int64_t *")
        self._call(lib.cadft_model_plan, self._limits(rows, logit_rows, sequences, no_grad), count)
        return int(count[0])

    def reserve(self, rows: int, logit_rows: int = 0, sequences: int = 0,
                no_grad: bool = False) -> None:
        """Allocate them in advance."""
        self._void("logits")
        self._call(lib.cadft_model_reserve, self._limits(rows, logit_rows, sequences, no_grad))

    @staticmethod
    def _limits(rows: int, logit_rows: int, sequences: int, no_grad: bool) -> Any:
        return ffi.new("cadft_model_limits *", {
            "struct_size": ffi.sizeof("cadft_model_limits"), "no_grad": int(no_grad),
            "rows": rows, "logit_rows": logit_rows, "sequences": sequences})

    def _make_room(self, no_grad: bool, tokens: Tensor, cu_seqlens: Optional[Tensor],
                   lengths: Optional[Tensor], logit_rows: Optional[Tensor]) -> None:
        """Before a forward pass. Arrays may go on looking at the logits as long
        as the memory, which only grows, stays where it is. Growing to what is
        planned, which is a bit more than a batch takes, leaves it there for all
        batches of this size."""
        rows = int(sum(memoryview(lengths))) if lengths else tokens.size
        limits = (rows, logit_rows.size if logit_rows else rows, _sequences(tokens, cu_seqlens),
                  no_grad)
        try:
            if self.plan(*limits) > self._read_int(lib.CADFT_MODEL_ARENA_BYTES):
                self.reserve(*limits)
                return
        except Error:  # the forward pass says what is wrong, or grows by itself
            self._void("logits")
        try:
            self._void("logits")
        except BufferError:  # of memory that stays
            pass

    def forward(self, tokens: Any, *, cu_seqlens: Any = None, lengths: Any = None,
                logit_rows: Any = None, no_grad: bool = False) -> Tensor:
        """Logits of a batch, float32 [logit rows, vocab] in the model's memory,
        until the next forward, reserve, generate or change of a knob. The loss
        may put the gradient there.

        :param tokens: int32 or int64; packed [rows], or padded [B, T]
        :param cu_seqlens: packed: [n + 1]; None: one sequence
        :param lengths: padded: [B]; None: all T
        :param logit_rows: packed rows that need logits; None: all
        """
        given = {"tokens": Tensor(tokens), "cu_seqlens": cu_seqlens, "lengths": lengths,
                 "logit_rows": logit_rows}
        tensors: Dict[str, Any] = {}
        fields: Dict[str, Any] = {"struct_size": ffi.sizeof("cadft_model_batch"),
                                  "no_grad": int(no_grad)}
        for name, value in given.items():
            tensors[name], fields[name] = optional(value)
        self._make_room(no_grad, **tensors)
        logits = ffi.new("cadft_tensor *", {"struct_size": ffi.sizeof("cadft_tensor")})
        self._call(lib.cadft_model_forward, ffi.new("cadft_model_batch *", fields), logits)
        return self._view(logits, "logits")

    def backward(self, grad_logits: Any) -> None:
        """Add the gradient of the last forward pass to the parameters'."""
        tensor = Tensor(grad_logits)
        self._call(lib.cadft_model_backward, pointer(tensor))

    def zero_grad(self) -> None:
        """Set all gradients to zero; the first call allocates them."""
        self._call(lib.cadft_model_zero_grad)

    # -------------------------------------------------------------- generation

    def generate(self, tokens: Any, max_new_tokens: int, *, cu_seqlens: Any = None,
                 lengths: Any = None, temperature: float = 0.0, top_p: float = 0.0,
                 stop_tokens: Any = (), seed: int = 0, keys: Any = None, step: int = 0,
                 on_token: Optional[OnToken] = None) -> List["array[int]"]:
        """Continue prompts, given as to `forward`. Returns what was drawn for
        each; a stop token is its last one.

        :param on_token: called with prompt, position, token and log-probability;
            a true result ends that prompt, an exception ends the call
        """
        self._void("logits")
        prompts = Tensor(tokens)
        cu, cu_at = optional(cu_seqlens)
        tails, tails_at = optional(lengths)
        n = _sequences(prompts, cu)
        stops = array("i", stop_tokens)
        stops_, stops_at = memory(stops, "int32", 0, "stop_tokens", False)
        fields = {"struct_size": ffi.sizeof("cadft_generate_desc"), "tokens": pointer(prompts),
                  "cu_seqlens": cu_at, "lengths": tails_at, "max_new_tokens": max_new_tokens,
                  "temperature": temperature, "top_p": top_p, "n_stop_tokens": len(stops),
                  "stop_tokens": ffi.cast("int32_t *", stops_at), "seed": seed, "step": step,
                  "n_prompts": max(n, 0)}
        if keys is not None:
            keys = array("q", keys)
            keys_, keys_at = memory(keys, "int64", n, "keys", False)
            fields["keys"] = ffi.cast("int64_t *", keys_at)
        if on_token is not None:
            handle = ffi.new_handle(_token(self, on_token))
            fields.update(on_token=lib.cadft_py_token, user=handle)
        drawn = array("i", bytes(4 * max(n * max_new_tokens, 0)))
        counts = array("q", bytes(8 * max(n, 0)))
        self._call(lib.cadft_model_generate, ffi.new("cadft_generate_desc *", fields),
                   ffi.from_buffer("int32_t[]", drawn), ffi.from_buffer("int64_t[]", counts))
        return [drawn[i * max_new_tokens:i * max_new_tokens + count]
                for i, count in enumerate(counts)]


def _sequences(tokens: Tensor, cu_seqlens: Optional[Tensor]) -> int:
    """How many sequences a batch has."""
    if cu_seqlens:
        return max(cu_seqlens.size - 1, 0)
    return tokens.shape[0] if len(tokens.shape) > 1 else 1


def _token(model: Model, function: OnToken) -> Callable[..., int]:
    def token(*args: Any) -> int:
        try:
            return int(bool(function(*args)))
        except BaseException as failure:
            model._raised = failure
            return -1

    return token
