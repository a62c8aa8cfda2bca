"""Datasets by name: registered ones, the embedded digits, image folders, TensorFlow Datasets."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache, partial
from os import PathLike
from pathlib import Path

import numpy as np

from bnn_tf import files, registry
from bnn_tf._tensorflow import tf
from bnn_tf.data import folder, tfds
from bnn_tf.data.source import (
    AbsentError,
    Arrays,
    ArraySplit,
    DataError,
    Facts,
    NoFolderError,
    Source,
    describe,
)

DATASETS: registry.Registry[Callable[..., Source]] = registry.Registry(
    "dataset", "bnn_tf.datasets", functions=True
)
"""Functions that return a `Source`. They may take `data_dir` (a `Path` or None) and `download` (a bool)."""

register = DATASETS.register

_DIGITS_HELD_OUT = 360

# What is known of datasets that come as image folders, without the folder.
_FOLDERS = {"tiny_imagenet": Facts("tiny_imagenet", (), 100_000, 10_000, (64, 64), 64, unnamed=200)}


def list_datasets() -> list[str]:
    """The names that `load` is meant for first; every other classification set of TFDS works as well.

    Example:
        >>> "digits" in list_datasets()
        True
    """
    return DATASETS.names()


def load(
    name: str, data_dir: str | PathLike[str] | None = None, *, download: bool = True, limit: int | None = None
) -> Source:
    """Opens a dataset; images are read when they are used.

    - Where `data_dir` holds an image folder (`train/<class>/*`), it is read, whatever the name; but an own
      dataset reads it itself.
    - `digits` is embedded and needs no files; `folder` is an image folder in any layout that
      `bnn_tf.data.folder` knows.
    - `package.module:function` is a function that returns a `Source`.
    - Any other name is one of TensorFlow Datasets', prepared in `data_dir` or downloaded there. Its `test`
      split is held out (of ImageNet and others named after it `validation`), where there is neither,
      the last fifth of `train`.

    Args:
        name: One of `list_datasets()` or of TFDS, or `package.module:function`.
        data_dir: Folder with the data.
        download: Whether an absent dataset may be downloaded.
        limit: The largest number of examples of each split (see `Source.limited`).

    Raises:
        UnknownDatasetError: there is no dataset of that name.
        AbsentError: the data are not on this machine, and not to be downloaded or not for download.
        DataError: the data cannot be downloaded or read; the message says what and where.
        UntrustedModuleError: `package.module:function` is neither registered nor in a module that
            `bnn_tf.registry.trust` was called for.

    Example:
        >>> load("digits").size("train")
        1437
    """
    place = _place(data_dir)
    own = registry.is_path(name) or (name in DATASETS and name not in _BUILT_IN)
    if place is not None and not own and folder.is_image_folder(place):
        source = folder.load(place)
    elif own or name in _BUILT_IN:
        function = DATASETS.get(name)
        takes = inspect.signature(function).parameters
        arguments = {"data_dir": place, "download": download}
        source = function(**{key: value for key, value in arguments.items() if key in takes})
        if not isinstance(source, Source):
            raise DataError(f"the dataset {name} is not one: its function returned {type(source).__name__}")
    else:
        source = tfds.load(name, place, download, known=_BUILT_IN)
    source = dataclasses.replace(source, name=name)
    return source if limit is None else source.limited(limit)


def require_possible(name: str, data_dir: str | PathLike[str] | None = None) -> None:
    """Refuses, without TensorFlow, what `load` will refuse: a misspelt name, or a folder that is not there.

    Raises:
        UnknownDatasetError: the name can only be a misspelling of a common one.
        AbsentError: there is no such folder.
    """
    if _place(data_dir) is None and not registry.is_path(name) and name not in DATASETS:
        tfds.refuse_misspelt(name, known=_BUILT_IN)


def _place(data_dir: str | PathLike[str] | None) -> Path | None:
    place = None if data_dir is None else files.expanded(data_dir)
    if place is not None and not place.is_dir():
        raise AbsentError(f"the data directory {place} does not exist")
    return place


def facts(name: str, data_dir: str | PathLike[str] | None = None) -> Facts:
    """What is known of a dataset, also where its files are absent: nothing is downloaded.

    Of an absent dataset, TensorFlow Datasets' own description says the classes; the numbers of images are
    known for the common ones. Of Tiny ImageNet, which TFDS does not have, the names of the classes are not.

    Raises:
        UnknownDatasetError: there is no dataset of that name.
        DataError: its files are there and cannot be read, or there is no description.

    Example:
        >>> print(facts("digits"))
        10 classes, 1,437 + 360 images, 32 px
    """
    try:
        return describe(load(name, data_dir, download=False))
    except AbsentError as error:
        if error.facts is None:
            raise
        return error.facts


@register("digits")
def digits() -> Source:
    """1,797 handwritten digits as 32×32×3 images: 1,437 to train and 360 held out (see DIGITS.md).

    The held-out ones were drawn once, from each class alike.
    """
    labels = _raw_digits()[1]
    test = _held_out_digits(labels)
    train = np.setdiff1d(np.arange(len(labels)), test)
    train = np.random.default_rng(1).permutation(train)  # the file repeats 0..9, writer by writer
    train_split, test_split = (
        ArraySplit.deferred(len(rows), (32, 32, 3), partial(_digit_images, rows)) for rows in (train, test)
    )
    return Source([str(digit) for digit in range(10)], train_split, test_split)


@cache
def _raw_digits() -> Arrays:
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return file["images"].astype(np.float64), file["labels"].astype(np.int64)


def _held_out_digits(labels: np.ndarray) -> np.ndarray:
    """Indices of a fixed random part that holds every class in proportion (to within one example)."""
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    even = (np.arange(_DIGITS_HELD_OUT) * len(labels)) // _DIGITS_HELD_OUT
    return rng.permutation(by_class[even])


def _digit_images(rows: np.ndarray, count: int) -> Arrays:
    """The first 8×8 images of values 0..16, scaled up bicubically to 32×32×3 and to 0..255."""
    images, labels = _raw_digits()
    rows = rows[:count]
    grey = tf.image.resize(images[rows, :, :, None] * (255 / 16), (32, 32), method="bicubic")
    whole = tf.saturate_cast(tf.round(grey), tf.uint8).numpy()
    return np.repeat(whole, 3, axis=-1), labels[rows]


def _of_folder(name: str, data_dir: Path | None) -> Source:
    if data_dir is None:
        error = NoFolderError(f"the dataset {name} is read from an image folder with {folder.LAYOUT}")
        error.facts = _FOLDERS.get(name)
        raise error
    return folder.load(data_dir)


_BUILT_IN = ("digits", "cifar10", "cifar100", "imagenet2012", "tiny_imagenet", "folder")
for _name in ("cifar10", "cifar100", "imagenet2012"):
    register(_name)(partial(tfds.load, _name))
for _name in ("tiny_imagenet", "folder"):
    register(_name)(partial(_of_folder, _name))
