"""Image folders: train/<class>/* and val|test/<class>/*, or Tiny-ImageNet as it is distributed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.data.errors import DataError
from bnn_tf.data.seeds import permutation
from bnn_tf.data.source import EncodedSplit, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
LAYOUT = "train/<class>/* and val/<class>/* (or test/<class>/*)"
_EVALUATION = ("val", "validation", "test")
_ANNOTATIONS = "val_annotations.txt"

Labelled = list[tuple[str, int]]


class FileSplit(EncodedSplit):
    """Image files and their labels; an epoch visits them in a permutation drawn from its seed."""

    def __init__(self, files: Labelled) -> None:
        self.files = files
        self.size = len(files)
        with tf.device("/CPU:0"):
            self._paths = tf.constant([os.fsencode(path) for path, _ in files], tf.string)
            self._labels = tf.constant([label for _, label in files], tf.int64)

    def _order(self, seed: tf.Tensor | None) -> tf.Tensor:
        return tf.range(self.size) if seed is None else permutation(self.size, seed)

    def items(self, seed: tf.Tensor | None, start: int | tf.Tensor) -> tf.data.Dataset:
        """The numbers of the files; entering at any position costs nothing."""
        order = self._order(seed)
        return tf.data.Dataset.range(start, self.size).map(lambda position: order[position])

    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a file."""
        return tf.io.read_file(self._paths[item]), self._labels[item]

    def blame(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """The path."""
        return tf.strings.join(["the image ", self._paths[self._order(seed)[position]]])

    def limited(self, count: int) -> FileSplit:
        """Evenly spaced files, because they are sorted by class."""
        count = min(count, self.size)
        return FileSplit([self.files[i * self.size // count] for i in range(count)])


def is_image_folder(root: Path) -> bool:
    """Whether a folder is meant as an image folder (it need not be a sound one)."""
    return (root / "train").is_dir()


def load(root: Path, name: str = "folder") -> Source:
    """Reads the lists of files below a folder; images are read when they are used.

    Labels number the class folders of train/ in alphabetic order. A sub-folder `images` counts as its class
    folder, as in Tiny-ImageNet, whose val/ folder may also have its original form.

    Raises:
        DataError: the layout is another, a class is empty, or train and val have different classes.
    """
    held_out = next((root / part for part in _EVALUATION if (root / part).is_dir()), None)
    if not is_image_folder(root) or held_out is None:
        raise DataError(f"{root} is not an image folder: expected {LAYOUT} in it.")
    class_names = _class_names(root / "train")
    if len(class_names) < 2:
        raise DataError(f"{root / 'train'} holds one class only, {class_names[0]}; training needs two.")
    splits = {
        "train": FileSplit(_files_by_class(root / "train", class_names)),
        "test": FileSplit(_held_out_files(held_out, class_names)),
    }
    return Source(name, class_names, None, splits)


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        raise DataError(f"{folder} holds no class folders: expected {LAYOUT}.")
    return names


def _held_out_files(folder: Path, class_names: list[str]) -> Labelled:
    if (folder / _ANNOTATIONS).is_file() and (folder / "images").is_dir():
        return _annotated_files(folder, class_names)
    found = _class_names(folder)
    if found != class_names:
        only_train, only_here = set(class_names) - set(found), set(found) - set(class_names)
        raise DataError(
            f"The class folders of {folder} differ from those of {folder.parent / 'train'}: "
            f"missing {_few(only_train)}; not in train: {_few(only_here)}."
        )
    return _files_by_class(folder, class_names)


def _files_by_class(folder: Path, class_names: list[str]) -> Labelled:
    files: Labelled = []
    for label, name in enumerate(class_names):
        images = _images(folder / name) or _images(folder / name / "images")
        if not images:
            raise DataError(f"The class folder {folder / name} holds no images ({', '.join(SUFFIXES)}).")
        files += [(path, label) for path in images]
    return files


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."
    )


def _annotated_files(folder: Path, class_names: list[str]) -> Labelled:
    """Tiny-ImageNet's original val/: lines of file name, tab, class and more."""
    labels = {name: label for label, name in enumerate(class_names)}
    files: Labelled = []
    for number, line in enumerate((folder / _ANNOTATIONS).read_text().splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in labels:
            raise DataError(f"Line {number} of {folder / _ANNOTATIONS} names no class of train: {line!r}.")
        files.append((str(folder / "images" / fields[0]), labels[fields[1]]))
    if not files:
        raise DataError(f"{folder / _ANNOTATIONS} is empty.")
    return files


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more if listed else "none"
