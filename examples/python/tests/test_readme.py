# SPDX-License-Identifier: Apache-2.0
"""The program of the README runs."""
import contextlib
import io
import pathlib
import re
import unittest

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


class Readme(unittest.TestCase):
    def test_first_program(self):
        program = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)[1]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, str(README), "exec"), {})
        # The numbers of the same example in C, in the README of the library.
        self.assertIn("loss 0.1118  nll 1.2452  smallest w 0.3679", printed.getvalue())
        self.assertIn("[-0.0419", printed.getvalue())
        self.assertIn("CADFT_E_LABEL", printed.getvalue())


if __name__ == "__main__":
    unittest.main()
