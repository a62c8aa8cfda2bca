"""What the name of a network stands for, wherever weights or a teacher are named; read without TensorFlow.

| name | kind |
| --- | --- |
| a folder with a `config.json` | `run` |
| a folder with a `saved_model.pb`, a file (`.keras`, `.h5`) | `saved model` |
| `zoo:NAME` | `zoo`: weights that come with the package (`zoo.pretrained`) |
| `larq-zoo:NAME` | `larq-zoo`: a network of Larq Zoo (see `parse_larq_zoo`) |
| `keras:NAME` | `keras`: a network of `tf.keras.applications`, which can only teach |
| a file `.tflite`, `.snn` | `tflite`, `snn`: a converted file, which has no weights to take |
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from pathlib import Path

from bnn_tf import files
from bnn_tf.errors import UsageError, UserError, unknown
from zoo import pretrained

KERAS = "keras:"
LARQ_ZOO = "larq-zoo:"
WEIGHTS = ("run", "saved model", "zoo", "larq-zoo")
"""Kinds whose weights a phase can start from."""
TEACHERS = (*WEIGHTS, "keras")
"""Kinds that a student can learn from."""

LARQ_ZOO_NAMES = (
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

_CONVERTED = {".tflite": "tflite", ".snn": "snn"}


def kind_of(name: str | os.PathLike[str]) -> str | None:
    """Of what kind the network is that a name stands for; `None` where there is nothing of that name.

    Raises:
        UsageError: there is no such network in the zoo or in Larq Zoo.
        UserError: the folder is neither a run nor a SavedModel.

    Example:
        >>> kind_of("zoo:cifar_resnet20-ovsw"), kind_of("larq-zoo:QuickNet"), kind_of("no_such_folder")
        ('zoo', 'larq-zoo', None)
    """
    text, path = os.fspath(name), files.expanded(name)
    if text.startswith(LARQ_ZOO):
        parse_larq_zoo(text)
        return "larq-zoo"
    if text.startswith(pretrained.PREFIX):
        pretrained.record(text.removeprefix(pretrained.PREFIX))
        return "zoo"
    if text.startswith(KERAS):
        return "keras"
    if (path / "config.json").is_file():
        return "run"
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise UserError(f"{name} is neither a run directory (no config.json) nor a SavedModel")
        return "saved model"
    return _CONVERTED.get(path.suffix.lower(), "saved model") if path.is_file() else None


def parse_larq_zoo(text: str | os.PathLike) -> tuple[str, bool, tuple[int, int]]:
    """Name, whether the weights are random, and height and width, of `larq-zoo:NAME[:random][:SIZE]`.

    Without `:random` they are those that Larq Zoo trained on ImageNet; without a size (`:192`, `:128x96`) the
    images are 224×224.

    Raises:
        UsageError: there is no such network, or something else follows.

    Example:
        >>> parse_larq_zoo("larq-zoo:QuickNet:random:128x96")
        ('QuickNet', True, (128, 96))
    """
    name, *options = os.fspath(text).removeprefix(LARQ_ZOO).split(":")
    if name not in LARQ_ZOO_NAMES:
        raise unknown("network in Larq Zoo", name, LARQ_ZOO_NAMES)
    random, size = False, (224, 224)
    for option in options:
        match = _SIZE.fullmatch(option)
        if match:
            size = int(match[1]), int(match[2] or match[1])
        elif option == "random":
            random = True
        else:
            raise UsageError(f"{text}: after {LARQ_ZOO}{name} come :random and a size (:192), not {option!r}")
    return name, random, size


def require(name: str | os.PathLike[str], kinds: Collection[str] = WEIGHTS) -> str:
    """The kind of a network that must be there.

    Args:
        name: The network.
        kinds: Of what kinds it may be.

    Raises:
        UserError: there is none, or it is of another kind.
    """
    kind = kind_of(name)
    if kind is None:
        raise UserError(f"there is no run and no model at {name}{near(Path(name))}")
    if kind == "keras" and kind not in kinds:
        raise UsageError(f"{name} can only be a teacher; its weights fit no network of this package")
    if kind not in kinds:
        raise UsageError(f"{name} is neither a run nor a saved Keras model")
    return kind


def near(path: Path) -> str:
    """The end of a message about a path that does not exist: what lies beside it, or nothing."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.with_name(close[0])}?" if close else ""
