"""How a network of Larq Zoo is named: `larq-zoo:NAME[:random][:HEIGHTxWIDTH]`; read without TensorFlow."""

from __future__ import annotations

import os
import re

from bnn_tf.errors import UsageError, unknown

PREFIX = "larq-zoo:"

NAMES = (
    "BiRealNet",
    "BinaryAlexNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "BinaryResNetE18",
    "DoReFaNet",
    "MeliusNet22",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "RealToBinaryNet",
    "XNORNet",
)
"""Larq Zoo's networks."""

_SIZE = re.compile(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?")


def is_larq_zoo(text: str | os.PathLike) -> bool:
    """Whether this names a network of Larq Zoo."""
    return os.fspath(text).startswith(PREFIX)


def parse_larq_zoo(text: str | os.PathLike) -> tuple[str, bool, tuple[int, int]]:
    """Name, whether the weights are random, and height and width.

    Raises:
        UsageError: there is no such network, or something else follows.

    Example:
        >>> parse_larq_zoo("larq-zoo:QuickNet:random:128x96")
        ('QuickNet', True, (128, 96))
    """
    name, *options = os.fspath(text).removeprefix(PREFIX).split(":")
    if name not in NAMES:
        raise unknown("network in Larq Zoo", name, NAMES)
    random, size = False, (224, 224)
    for option in options:
        match = _SIZE.fullmatch(option)
        if match:
            size = int(match[1]), int(match[2] or match[1])
        elif option == "random":
            random = True
        else:
            raise UsageError(f"{text}: after {PREFIX}{name} come :random and a size (:192), not {option!r}")
    return name, random, size
