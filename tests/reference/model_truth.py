# SPDX-License-Identifier: Apache-2.0
"""What a transformers model computes, in float64: logits, loss, gradients, greedy tokens.

Shared by generate_models.py and smollm2.py, which write it to a file `expected.safetensors`
beside config.json and the weights. In that file (R rows in all, V vocabulary, B sequences):

    tokens         int32   [R]       sequences one after the other
    cu_seqlens     int32   [B + 1]   where they start; positions restart at each
    labels         int32   [R]       row r is to predict labels[r]: the next token, or -100 for
                                     rows not counted (prompt, last row of a sequence)
    logits         float32 [L, V]    rounded from float64
    logits_rows    int32   [L]       the rows these are; absent if they are all rows in order
    loss           float64 [1]       mean cross-entropy over the counted rows
    grad.<name>    float32           its gradient by a parameter, named as in the weights file;
                                     all parameters, or a choice of them; a tied output matrix
                                     counts into model.embed_tokens.weight
    greedy_prompt  int32   [B]       length of the prompt, the first tokens of the sequence
    greedy         int32   [B, N]    the tokens that follow it by argmax; an end token ends nothing
    greedy_margin  float32 [B, N]    largest logit less the second largest, where it was chosen

transformers keeps float32 inside a float64 model: in RMSNorm and for the angles of the rotary
embedding. `double_everywhere` runs its code with torch's float32 names meaning float64, so the
numbers are those of the formulas; `check_gradient` fails if any float32 was left."""
import contextlib
import unittest.mock

import numpy as np
import torch


@contextlib.contextmanager
def double_everywhere(active=True):
    """Inside, code that asks torch for float32 by name or by .float() gets float64."""
    if not active:
        yield
        return
    names = {"float32": torch.float64, "float": torch.float64}
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with unittest.mock.patch.multiple(torch, **names), \
                unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(default)


class Truth:
    """A model in float64, or in plain float32 to see how far that is from it."""

    def __init__(self, config, state, double=True, attention="sdpa"):
        from transformers import AutoModelForCausalLM
        self.double = double
        kind = torch.float64 if double else torch.float32
        with double_everywhere(double):
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
        self.model = model.to(kind).eval()
        assert all(p.dtype == kind for p in self.model.parameters())
        assert all(b.dtype == kind for b in self.model.buffers() if b.is_floating_point())

    def forward(self, tokens, **more):
        with double_everywhere(self.double):
            return self.model(input_ids=torch.as_tensor(np.asarray(tokens)[None]).long(), **more)

    def evaluate(self, batch, rows=None, gradient=True):
        """Logits of the rows (all if None), mean loss, gradients by name; one sequence at a
        time, so that nothing of packing or padding enters. The loss of float32 logits is in
        float64 too: torch 2.15's own, over 49152 of them, is 1e-5 too small, which makes
        errors of 1e-3 in some gradients and says nothing about the model."""
        count = int((batch["labels"] != -100).sum())
        logits, loss = [], 0.0
        self.model.zero_grad(set_to_none=True)
        for start, end in zip(batch["cu_seqlens"][:-1], batch["cu_seqlens"][1:]):
            labels = torch.as_tensor(batch["labels"][start:end]).long()
            with torch.set_grad_enabled(gradient):
                out = self.forward(batch["tokens"][start:end], use_cache=False).logits[0]
                part = torch.nn.functional.cross_entropy(out.double(), labels,
                                                         ignore_index=-100,
                                                         reduction="sum") / count
            loss += float(part.detach())
            if gradient:
                part.backward()
            wanted = range(end - start) if rows is None else \
                [r - start for r in rows if start <= r < end]
            logits.append(out.detach()[list(wanted)].numpy())
        grads = {name: p.grad.numpy().copy() for name, p in self.model.named_parameters()} \
            if gradient else {}
        return np.concatenate(logits), loss, grads

    @torch.no_grad()
    def greedy(self, prompt, length):
        """Tokens by argmax with the key-value cache, and the margins over the second best."""
        cache, feed, tokens, margins = None, list(prompt), [], []
        for _ in range(length):
            out = self.forward(feed, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            best = torch.topk(out.logits[0, -1], 2)
            margins.append(float(best.values[0] - best.values[1]))
            tokens.append(int(best.indices[0]))
            feed = tokens[-1:]
        return tokens, margins

    def continuations(self, batch, prompts, length):
        found = [self.greedy(batch["tokens"][start:start + n], length)
                 for start, n in zip(batch["cu_seqlens"], prompts)]
        return {"greedy_prompt": np.array(prompts, np.int32),
                "greedy": np.array([f[0] for f in found], np.int32),
                "greedy_margin": np.array([f[1] for f in found], np.float32)}

    def check_gradient(self, batch, grads, rng):
        """The gradient along a random direction against differences of the loss. With a step
        of 1e-6 a float32 rounding anywhere would show as 1e-2, float64 leaves about 1e-8."""
        step, parameters = 1e-6, dict(self.model.named_parameters())
        direction = {n: torch.as_tensor(rng.standard_normal(tuple(p.shape)))
                     for n, p in parameters.items()}
        losses = []
        for sign in (1, -2):
            with torch.no_grad():
                for name, p in parameters.items():
                    p += sign * step * direction[name]
            losses.append(self.evaluate(batch, gradient=False)[1])
        with torch.no_grad():
            for name, p in parameters.items():
                p += step * direction[name]
        slope = (losses[0] - losses[1]) / (2 * step)
        exact = sum(float((direction[n].numpy() * g).sum()) for n, g in grads.items())
        assert abs(slope - exact) < 1e-6 * max(1.0, abs(exact)), (slope, exact)
        return abs(slope - exact)


def difference(single, double):
    """Largest absolute error of float32 in logits, in the loss, and in the gradients in parts
    of each one's largest entry."""
    grads = max((np.abs(single[2][n] - g).max() / np.abs(g).max() for n, g in double[2].items()),
                default=0.0)
    return {"logits": float(np.abs(single[0] - double[0]).max()),
            "loss": abs(single[1] - double[1]), "grad": float(grads)}


def expected(batch, result, rows=None):
    """The tensors of the file out of what evaluate gave."""
    logits, loss, grads = result
    file = {"tokens": batch["tokens"], "cu_seqlens": batch["cu_seqlens"],
            "labels": batch["labels"], "logits": logits.astype(np.float32),
            "loss": np.array([loss], np.float64)}
    if rows is not None:
        file["logits_rows"] = np.asarray(rows, np.int32)
    for name, grad in grads.items():
        file["grad." + name] = np.ascontiguousarray(grad.astype(np.float32))
    return file
