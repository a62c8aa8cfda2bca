"""Pieces of C text: indented lines, literals and comments."""

from __future__ import annotations

from collections.abc import Sequence

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

    def block(self, head: str) -> Block:
        """A context in which lines stand in braces behind `head`."""
        return Block(self, head)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Block:
    """Braces around the lines that are added in its context; see `Lines.block`."""

    def __init__(self, lines: Lines, head: str, first: Sequence[str] = ()) -> None:
        self._lines, self._head, self._first = lines, head, first

    def __enter__(self) -> None:
        self._lines.add(f"{self._head} {{")
        self._lines.depth += 1
        for line in self._first:
            self._lines.add(line)

    def __exit__(self, *_: object) -> None:
        self._lines.depth -= 1
        self._lines.add("}")


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
    escaped = "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\?' else f"\\{byte:03o}"
        for char in text
        for byte in ([0] if char.isascii() and char.isprintable() and char not in '"\\?' else char.encode())
    )
    return f'"{escaped}"'


def comment(text: str) -> str:
    """Text that can stand in a comment: it neither begins nor ends one."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")
