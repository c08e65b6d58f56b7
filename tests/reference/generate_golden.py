# SPDX-License-Identifier: Apache-2.0
"""Writes the golden cases tests/golden/*.json out of the reference.

    python3 generate_golden.py            write the files (the same bytes on every run)
    python3 generate_golden.py --check    compare with the committed files; 1: they differ
    python3 generate_golden.py --check --rtol 1e-13
                                          the same with a tolerance on the expected numbers,
                                          for machines whose long double is not x87's

The format is described in golden_format.py, the cases are in golden_cases.py and
golden_layouts.py."""
import json
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import golden_cases
import golden_layouts
from golden_format import load, same_expect

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden"
THEMES = {**golden_cases.THEMES, **golden_layouts.THEMES}


def dump(cases):
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def check(path, text, rtol):
    """Message for a committed file that differs from what the reference gives, or None."""
    if not path.exists():
        return "missing"
    if path.read_text() == text:
        return None
    if rtol is None:
        return "differs"
    try:
        same_expect(load(path), json.loads(text), rtol, path.name)
    except AssertionError as err:
        return str(err)
    return None


def main(arguments):
    rtol = float(arguments[arguments.index("--rtol") + 1]) if "--rtol" in arguments else None
    total, failed, count = 0, False, 0
    FOLDER.mkdir(exist_ok=True)
    texts = {name: golden_cases.build(name, theme) for name, theme in THEMES.items()}
    for name, cases in texts.items():
        path, text = FOLDER / f"{name}.json", dump(cases)
        names = [case["name"] for case in cases]
        assert len(set(names)) == len(names), f"{name}: a case name occurs twice"
        total, count = total + len(text), count + len(cases)
        if "--check" in arguments:
            message = check(path, text, rtol)
            failed |= message is not None
            print(f"{path.name}: {message or 'same'}")
        else:
            path.write_text(text)
            print(f"{path.name}: {len(cases)} cases, {len(text)} bytes")
    if "--check" in arguments:
        for path in sorted(FOLDER.glob("*.json")):
            if path.stem not in texts:
                print(f"{path.name}: no theme writes it")
                failed = True
    print(f"{count} cases, {total} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
