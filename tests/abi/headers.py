# SPDX-License-Identifier: Apache-2.0
"""What the public headers declare, read with regular expressions: the headers keep to
a form plain enough for that (and for the binding generators of other languages)."""
import pathlib
import re


def strip_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def read(include):
    """All public headers in one text without comments."""
    paths = sorted((pathlib.Path(include) / "cadft").glob("*.h"))
    assert paths, f"no headers in {include}/cadft"
    return "\n".join(strip_comments(path.read_text()) for path in paths)


def functions(text):
    return set(re.findall(r"^CADFT_API\b[^;(]*?\b(\w+)\s*\(", text, re.M))


def constants(text):
    """Names in enums, and of the macros that have a number for a value."""
    names = []
    for body in re.findall(r"\benum\s*\{(.*?)\}", text, re.S):
        names += re.findall(r"(\w+)\s*=", body)
        assert len(names) and body.count("=") == len([e for e in body.split(",") if e.strip()]), \
            "every constant has its value written down"
    names += re.findall(r"^#\s*define\s+(CADFT_\w+)[ \t]+\d+[ \t]*$", text, re.M)
    # The version of a release changes with it, by definition.
    return [n for n in names if not n.startswith("CADFT_VERSION_")]


def field_name(declaration):
    pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", declaration)
    if pointer:
        return pointer.group(1)
    return re.search(r"(\w+)\s*(\[[^]]*\])?\s*$", declaration).group(1)


def structs(text):
    """{struct: [fields]} of the structs whose fields are public."""
    found = {}
    for name, body in re.findall(r"typedef struct (\w+)\s*\{(.*?)\}\s*\1;", text, re.S):
        fields = []
        for statement in filter(str.strip, body.split(";")):
            # "int64_t a, b" declares two; the commas of a function pointer none
            parts = [statement] if "(" in statement else statement.split(",")
            fields += [field_name(part) for part in parts]
        found[name] = fields
    return found
