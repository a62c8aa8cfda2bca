"""Pieces of C text: indented lines, literals and comments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

_COLUMNS = 110


class Lines:
    """Indented lines."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[str] = []
        self.depth = depth

    def add(self, line: str) -> None:
        """Adds one at the present depth."""
        self.lines.append("    " * self.depth + line)

    @contextlib.contextmanager
    def block(self, head: str, *first: str) -> Iterator[None]:
        """Lines that are added in its context stand in braces behind `head`, after the lines `first`."""
        self.add(f"{head} {{")
        self.depth += 1
        for line in first:
            self.add(line)
        yield
        self.depth -= 1
        self.add("}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


def c_type(values: np.ndarray) -> str:
    """The type of a constant array: `int8_t` or `float`."""
    return "int8_t" if values.dtype == np.int8 else "float"


def float_literal(value: float) -> str:
    """A float with the digits that give the same float again."""
    text = f"{np.float32(value):.9g}"
    if text in ("inf", "-inf", "nan"):
        return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}[text]
    return text + ("f" if "." in text or "e" in text else ".0f")


def wrapped(texts: Sequence[str], indent: int = 4) -> str:
    """Elements of an initializer, with commas, in lines of at most 110 columns."""
    lines, line = [], " " * indent
    for text in texts:
        if len(line) + len(text) + 2 > _COLUMNS:
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{text}, "
    return "\n".join([*lines, line.rstrip().rstrip(",")])


def string_literal(text: str) -> str:
    """A string; what is not plain ASCII as octal bytes of UTF-8."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    plain = char.isascii() and char.isprintable() and char not in '"\\?'
    return char if plain else "".join(f"\\{byte:03o}" for byte in char.encode())


def comment(text: str) -> str:
    """Text that can stand in a comment: it neither begins nor ends one."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")
