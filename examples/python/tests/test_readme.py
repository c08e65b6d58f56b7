# SPDX-License-Identifier: Apache-2.0
"""The programs of the README run, each by itself."""
import contextlib
import io
import os
import pathlib
import re
import tempfile
import unittest

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)


def printed(program):
    """What a program prints, run in a folder of its own."""
    text, before = io.StringIO(), os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(text):
        os.chdir(folder)
        try:
            exec(compile(program, str(README), "exec"), {})
        finally:
            os.chdir(before)
    return text.getvalue()


class Readme(unittest.TestCase):
    def test_all_are_here(self):
        self.assertEqual(len(PROGRAMS), 2)

    def test_loss(self):
        text = printed(PROGRAMS[0])
        # The numbers of the same example in C, in the README of the library.
        self.assertIn("loss 0.1118  nll 1.2452  smallest w 0.3679", text)
        self.assertIn("[-0.0419", text)
        self.assertIn("CADFT_E_LABEL", text)

    def test_training(self):
        text = printed(PROGRAMS[1])
        nll = [float(n) for n in re.findall(r"nll (\S+)", text)]
        self.assertEqual(len(nll), 3)
        self.assertLess(nll[1], nll[0])
        self.assertLess(nll[2], nll[1])
        self.assertEqual(text.splitlines()[-1], "[4, 5, 6, 7, 8, 9, 10]")


if __name__ == "__main__":
    unittest.main()
