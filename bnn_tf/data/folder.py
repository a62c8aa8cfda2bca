"""Image folders: train/<class>/* and val|test/<class>/*, <class>/* alone, or Tiny-ImageNet as distributed."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import stat
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.data import images
from bnn_tf.data.source import DataError, EncodedSplit, Facts, Sizes, Source, describe, permutation
from bnn_tf.errors import some
from bnn_tf.files import expanded
from bnn_tf.values import InNotebooks

LAYOUT = "train/<class>/* and val/<class>/* (or test/<class>/*), or <class>/* alone"
HELD_OUT = 5
"""One of this number of images of each class is held out where a folder has no images for testing."""

_TRAIN = "train"
_EVALUATION = ("val", "validation", "test")
_ANNOTATIONS = "val_annotations.txt"
_SAMPLE = 200  # images whose size is looked up

Labelled = list[tuple[str, int]]


class FileSplit(EncodedSplit):
    """Image files and their labels; an epoch visits them in a permutation drawn from its seed."""

    def __init__(self, files: Labelled) -> None:
        self.files = files
        self.size = len(files)

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.init_scope(), tf.device("/CPU:0"):  # a pipeline may ask first while it is being traced
            paths = tf.constant([os.fsencode(path) for path, _ in self.files], tf.string)
            return paths, tf.constant([label for _, label in self.files], tf.int64)

    def _order(self, seed: tf.Tensor | None) -> tf.Tensor:
        return tf.range(self.size) if seed is None else permutation(self.size, seed)

    def items(self, seed: tf.Tensor | None, start: int) -> tf.data.Dataset:
        """The numbers of the files; entering at any position costs nothing."""
        order = self._order(seed)
        return tf.data.Dataset.range(start, self.size).map(lambda position: order[position])

    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a file."""
        paths, labels = self._tensors
        return tf.io.read_file(paths[item]), labels[item]

    def place(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """The path."""
        return tf.strings.join(["the image ", self._tensors[0][self._order(seed)[position]]])

    def limited(self, count: int) -> FileSplit:
        """Evenly spaced files, because they are sorted by class."""
        count = min(count, self.size)
        return FileSplit([self.files[i * self.size // count] for i in range(count)])

    def sizes(self) -> Sizes:
        """Height and width of an evenly spaced sample of the images."""
        sizes: Sizes = []
        for path, _ in self.limited(_SAMPLE).files:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                size = images.size(file.read(2**18))
                sizes += [size] if size else []
        return sizes


def is_image_folder(root: Path) -> bool:
    """Whether a folder is meant as an image folder (it need not be a sound one)."""
    return (root / _TRAIN).is_dir()


def holds_pictures(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds class folders with images, in one of the layouts that `load` reads."""
    folder = expanded(root)
    try:
        if is_image_folder(folder):
            return True
        classes = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
        return any(images_in(entry) for entry in classes)
    except (OSError, DataError):
        return False


def load(root: Path) -> Source:
    """Reads the lists of files below a folder; images are read when they are used.

    Labels number the class folders in alphabetic order. A sub-folder `images` counts as its class folder, as
    in Tiny-ImageNet, whose val/ folder may have its original form. Where there are no images for testing,
    one in `HELD_OUT` of each class is held out; which ones depends on their names alone, so that
    new images change little.

    Raises:
        DataError: the layout is another, a class is empty, train and val have different classes, or what is
            named like an image is a pipe, a device or a folder.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (root / name).mkdir()
        ...     for number in range(5):
        ...         png = tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)).numpy()
        ...         _ = (root / name / f"{number}.png").write_bytes(png)
        >>> source = load(root)
        >>> source.class_names, source.size("train"), source.size("test")
        (['cat', 'dog'], 8, 2)
    """
    training = root / _TRAIN if is_image_folder(root) else root
    class_names = _class_names(training, root)
    if len(class_names) < 2:
        raise DataError(f"{training} holds one class only, {class_names[0]}; training needs two")
    _warn_of_numbers(training, class_names)
    files = _files_by_class(training, class_names)
    held_out = next((root / part for part in _EVALUATION if (root / part).is_dir()), None)
    notes = []
    if training == root or held_out is None:
        train, test = _divided(files, training)
        notes.append(f"One image in {HELD_OUT} of each class is held out for testing.")
    else:
        train, test = files, _held_out_files(held_out, class_names)
    if loose := len(images_in(training)):
        number, verb = ("1 image", "is") if loose == 1 else (f"{loose:,} images", "are")
        notes.append(f"{number} beside the class folders {verb} passed over.")
    others = [suffix for name in class_names for suffix in _other_suffixes(training / name)]
    if others:
        kinds = collections.Counter(others)
        number = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
        notes.append(f"{number} passed over ({', '.join(sorted(kinds))}){_pillow(kinds)}.")
    return Source(class_names, FileSplit(train), FileSplit(test), notes=tuple(notes))


def _class_names(folder: Path, root: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if folder == root and not any(images_in(folder / name) for name in names):
        raise DataError(f"{root} is not an image folder: expected {LAYOUT} in it")
    if not names:
        raise DataError(f"{folder} holds no class folders: expected {LAYOUT}")
    return names


def _warn_of_numbers(folder: Path, names: list[str]) -> None:
    """Labels follow the alphabet, which is not the order of numbers without leading zeros."""
    if all(name.isdecimal() for name in names) and names != sorted(names, key=int):
        wrong = next(label for label, name in enumerate(names) if name != sorted(names, key=int)[label])
        warnings.warn(
            f"the class folders of {folder} are numbers in alphabetic order ({some(names)}): label {wrong} "
            f"stands for the folder {names[wrong]}. Rename them with leading zeros (00, 01, …) if the labels "
            "are to be those numbers.",
            stacklevel=3,
        )


def _divided(files: Labelled, folder: Path) -> tuple[Labelled, Labelled]:
    """Training and held-out images of each class; the held-out ones are those of the smallest checksums."""
    train: Labelled = []
    test: Labelled = []
    for label in sorted({label for _, label in files}):
        paths = [path for path, other in files if other == label]
        if len(paths) < 2:
            raise DataError(f"{folder} holds one image only of a class, {paths[0]}; there must be two")
        by_checksum = sorted(paths, key=lambda path: zlib.crc32(os.fsencode(os.path.basename(path))))
        chosen = set(by_checksum[: max(1, round(len(paths) / HELD_OUT))])
        train += [(path, label) for path in paths if path not in chosen]
        test += [(path, label) for path in paths if path in chosen]
    return train, test


def _held_out_files(folder: Path, class_names: list[str]) -> Labelled:
    if (folder / _ANNOTATIONS).is_file() and (folder / "images").is_dir():
        return _annotated_files(folder, class_names)
    names = _class_names(folder, folder.parent)
    if names != class_names:
        missing, extra = sorted(set(class_names) - set(names)), sorted(set(names) - set(class_names))
        raise DataError(
            f"the class folders of {folder} differ from those of {folder.parent / _TRAIN}: "
            f"missing {some(missing) or 'none'}; not in train: {some(extra) or 'none'}"
        )
    return _files_by_class(folder, class_names)


def _files_by_class(folder: Path, class_names: list[str]) -> Labelled:
    files: Labelled = []
    for label, name in enumerate(class_names):
        paths = images_in(folder / name) or images_in(folder / name / "images")
        if not paths:
            suffixes = ", ".join(images.suffixes())
            raise DataError(f"the class folder {folder / name} holds no images ({suffixes})")
        files += [(path, label) for path in paths]
    return files


def images_in(folder: Path) -> list[str]:
    """The paths of what is named like an image, directly in a folder.

    Raises:
        DataError: one is neither a file nor a link to one (reading a pipe would wait for ever).
    """
    if not folder.is_dir():
        return []
    suffixes, paths = images.suffixes(), []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in suffixes:
                if not entry.is_file():
                    raise DataError(f"{entry.path} is named like an image but {fault(entry.path)}")
                paths.append(entry.path)
    return sorted(paths)


def _other_suffixes(folder: Path) -> list[str]:
    """The suffixes of files that may be images and are not read."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
    suffixes = [os.path.splitext(name)[1].lower() for name in names if _may_be_image(name)]
    return [suffix for suffix in suffixes if suffix not in images.suffixes()]


def _pillow(suffixes: Iterable[str]) -> str:
    """How some of the kinds of images that are not read could be."""
    lacks = set(images.PILLOW_SUFFIXES).difference(images.suffixes()).intersection(suffixes)
    return f"; `pip install pillow` lets {' and '.join(sorted(lacks))} be read" if lacks else ""


def _annotated_files(folder: Path, class_names: list[str]) -> Labelled:
    """Tiny-ImageNet's original val/: lines of file name, tab, class and more."""
    labels = {name: label for label, name in enumerate(class_names)}
    files: Labelled = []
    for number, line in enumerate((folder / _ANNOTATIONS).read_text().splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in labels:
            raise DataError(f"line {number} of {folder / _ANNOTATIONS} names no class of train: {line!r}")
        files.append((str(folder / "images" / fields[0]), labels[fields[1]]))
    if not files:
        raise DataError(f"{folder / _ANNOTATIONS} is empty")
    return files


def fault(path: str | os.PathLike[str]) -> str | None:
    """Why a file cannot be used as an image, as the end of a sentence that begins with its path.

    `None` where it can be used. The whole image is decoded to find out.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return "is a folder" if stat.S_ISDIR(mode) else "is a pipe or a device, not a file"
        with open(path, "rb") as file:
            contents = file.read()
    except FileNotFoundError:
        return "is a link to nothing" if os.path.islink(path) else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not contents:
        return "is empty"
    kind, size = images.kind(contents), images.size(contents)
    if kind is None:
        suffix = os.path.splitext(path)[1].lower()
        readable = images.suffixes()
        misnamed = ", whatever its name says" if suffix in readable else ""
        return f"is no image of a kind that is read ({', '.join(readable)}){_pillow([suffix])}{misnamed}"
    if size is not None and size[0] * size[1] > images.MAX_PIXELS:
        return f"has {size[1]}×{size[0]} pixels; {images.MAX_PIXELS:,} in all are the most that are read"
    try:
        with tf.device("/CPU:0"):
            images.decode(tf.constant(contents))
    except Exception:  # TensorFlow's errors of many kinds, and Pillow's
        return f"is a {kind} image that is damaged or cut off"
    return None


def faults(paths: Sequence[str], workers: int = 4) -> tuple[tuple[str, str], ...]:
    """The path and the fault of every file that cannot be used as an image; see `fault`."""
    with quiet_native_stderr(), concurrent.futures.ThreadPoolExecutor(workers) as pool:
        reasons = list(pool.map(fault, paths))
    return tuple((path, reason) for path, reason in zip(paths, reasons, strict=True) if reason)


@dataclasses.dataclass(frozen=True)
class FolderCheck(InNotebooks):
    """What `check` found.

    Attributes:
        folder: What was checked.
        images: How many images can be used.
        faults: The path and the fault of every file that cannot.
        facts: What a training would read; `None` where it would refuse the folder.
        problem: Why it would refuse the folder; `None` where it would not.

    Example:
        >>> faults = (("pictures/cat/7.jpg", "is empty"),)
        >>> print(FolderCheck(Path("pictures"), 40, faults, Facts("folder", ("cat", "dog"), 33, 8, (60, 70))))
        pictures/cat/7.jpg is empty
        2 classes, 33 + 8 images, 60–70 px
        40 images can be used, 1 file cannot
    """

    folder: Path
    images: int
    faults: tuple[tuple[str, str], ...]
    facts: Facts | None = None
    problem: str | None = None

    @property
    def sound(self) -> bool:
        """Whether a training can use every image."""
        return self.images > 0 and not self.faults and self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "folder": str(self.folder),
            "images": self.images,
            "faults": [{"path": path, "fault": reason} for path, reason in self.faults],
            "facts": self.facts and self.facts.to_dict(),
            "problem": self.problem,
        }

    def __str__(self) -> str:
        lines = [f"{path} {reason}" for path, reason in self.faults]
        if self.facts is not None:
            lines += [str(self.facts), *self.facts.notes]
        if self.problem is not None:
            lines.append(self.problem)
        images = f"{self.images:,} image{'s' * (self.images != 1)} can be used"
        return "\n".join(
            [*lines, f"{images}, {len(self.faults):,} file{'s' * (len(self.faults) != 1)} cannot"]
        )


def check(folder: str | os.PathLike[str], workers: int = 4) -> FolderCheck:
    """Reads and decodes every image below a folder and lists all files that cannot be used.

    Hidden files and what is not meant as an image (no suffix, text files) are passed over; other files whose
    kind is not read, such as `.heic`, are listed. Of a folder that `load` reads, the images are counted that
    it reads.

    Args:
        folder: An image folder, or any folder with images in it.
        workers: How many images to read at a time.

    Raises:
        DataError: there is no such folder, or it is a file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "cat.png").touch()
        >>> [reason for path, reason in check(folder).faults]
        ['is empty']
    """
    root = expanded(folder)
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root} is a file; name the folder that holds the class folders")
        raise DataError(f"the folder {root} does not exist")
    paths = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        shown = sorted(name for name in names if name[0] != ".")
        paths += [os.path.join(place, name) for name in shown if _may_be_image(name)]
    suffixes = images.suffixes()
    unsuited = dict(faults(paths, workers))
    for path in paths:
        if os.path.splitext(path)[1].lower() not in suffixes:
            unsuited.setdefault(path, f"is an image, but is not named like one ({', '.join(suffixes)})")
    try:
        source = load(root)
    except DataError as error:
        named = any(path in str(error) for path in unsuited)
        problem = None if named else str(error)
        return FolderCheck(root, len(paths) - len(unsuited), tuple(unsuited.items()), problem=problem)
    read = {path for split in (source.train, source.test) for path, _ in split.files}  # type: ignore[union-attr]
    return FolderCheck(root, len(read - unsuited.keys()), tuple(unsuited.items()), describe(source))


def _may_be_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() not in _NOT_IMAGES


_NOT_IMAGES = ("", ".txt", ".csv", ".json", ".xml", ".yaml", ".md", ".db", ".ini", ".py", ".zip", ".tar")
