"""Datasets by name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from bnn_tf.data import digits, folder, tfds
from bnn_tf.data.errors import DataError
from bnn_tf.data.source import Source

_NAMES = ("digits", "cifar10", "cifar100", "imagenet2012", "tiny_imagenet", "folder")


def list_datasets() -> list[str]:
    """The names that `load` is meant for first; every other classification set of TFDS works as well."""
    return list(_NAMES)


def load(
    name: str, data_dir: str | PathLike[str] | None = None, *, download: bool = True, limit: int | None = None
) -> Source:
    """Opens a dataset; images are read when they are used.

    - Where `data_dir` holds an image folder (`train/<class>/*` and `val|test/<class>/*`), it is read,
      whatever the name.
    - `digits` is embedded and needs no files.
    - Any other name is one of TensorFlow Datasets', prepared in `data_dir` or downloaded there. Its `test`
      split is held out (of ImageNet and others named after it `validation`), where there is neither,
      the last fifth of `train`.

    Args:
        name: one of `list_datasets()` or of TFDS.
        data_dir: folder with the data.
        download: whether an absent dataset may be downloaded.
        limit: no more than so many examples of each split (see `Source.limited`).

    Raises:
        UnknownDatasetError: there is no dataset of that name.
        DataError: the data are absent or cannot be read; the message says what and where.
    """
    source = _open(name, None if data_dir is None else Path(data_dir).expanduser(), download)
    return source if limit is None else source.limited(limit)


def _open(name: str, data_dir: Path | None, download: bool) -> Source:
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(f"The data directory {data_dir} (--data-dir) does not exist.")
    if data_dir is not None and (name == "folder" or folder.is_image_folder(data_dir)):
        return folder.load(data_dir, name)
    if name == "digits":
        return digits.load()
    if name in ("folder", "tiny_imagenet"):
        place = "no --data-dir is given" if data_dir is None else f"{data_dir} has no folder train"
        raise DataError(f"The dataset {name} is read from an image folder with {folder.LAYOUT}, but {place}.")
    return tfds.load(name, data_dir, download, known=_NAMES)
