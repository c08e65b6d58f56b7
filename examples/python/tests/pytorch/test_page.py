# SPDX-License-Identifier: Apache-2.0
"""The programs of pytorch.md run, and train."""
import contextlib
import io
import pathlib
import re
import types
import unittest

import cadft.torch
import torch

PAGE = pathlib.Path(__file__).resolve().parents[2] / "pytorch.md"


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.head = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)

    def forward(self, input_ids, attention_mask=None):
        return types.SimpleNamespace(logits=self.head(self.embed(input_ids)))


def batches():
    g = torch.Generator().manual_seed(4)
    tokens = [torch.randint(11, (4, 6), generator=g) for _ in range(2)]
    return [dict(input_ids=t, labels=t.clone(), attention_mask=torch.ones_like(t))
            for t in tokens]


class Page(unittest.TestCase):
    def test_training(self):
        text = PAGE.read_text("utf-8")
        programs = [p for p in re.findall(r"```python\n(.*?)```", text, re.S)
                    if "backward()" in p]
        self.assertEqual(len(programs), 2)
        model = Model()
        names = dict(cadft=cadft, torch=torch, model=model, loader=batches() * 2,
                     batches=batches(), n_samples=8,
                     optimizer=torch.optim.Adam(model.parameters(), lr=0.05))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            for program in programs:
                exec(compile(program, str(PAGE), "exec"), names)
        nll = [float(line.split()[0]) for line in printed.getvalue().splitlines()]
        self.assertEqual(len(nll), 4)
        self.assertLess(nll[2], nll[0])  # the same batch, two steps later
        self.assertLess(names["step"].report.nll, nll[0])


if __name__ == "__main__":
    unittest.main()
