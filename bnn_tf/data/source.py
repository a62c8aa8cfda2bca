"""What a dataset is to the pipelines: class names, two splits of one of two kinds, the order of an epoch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bnn_tf import files
from bnn_tf._tensorflow import tf
from bnn_tf.errors import AdvisingError, UsageError, UserError
from bnn_tf.values import InNotebooks

Arrays = tuple[np.ndarray, np.ndarray]
Range = tuple[int, int]
Sizes = list[tuple[int, int]]


class DataError(UserError):
    """A dataset is missing, incomplete, corrupt or laid out in a way that cannot be read.

    Example:
        >>> try:
        ...     ArraySplit(np.zeros((2, 8, 8, 3)), np.zeros(2, int))
        ... except DataError as error:
        ...     print(error)
        images in memory are uint8 [n, height, width, 1 or 3], not float64 [2, 8, 8, 3]
    """


class DamagedImageError(AdvisingError, DataError):
    """An image of an image folder cannot be read or decoded.

    Example:
        >>> str(DamagedImageError("Cannot read cat/7.jpg: it is empty"))
        'Cannot read cat/7.jpg: it is empty; bnn_tf.data.check(folder) lists all such files'
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "bnn_tf.data.check(folder) lists all such files")


class AbsentError(DataError):
    """A dataset is not on this machine; `facts` says what is known of it nevertheless.

    Example:
        >>> from bnn_tf import data
        >>> import tempfile
        >>> try:
        ...     data.load("cifar10", tempfile.mkdtemp(), download=False)
        ... except AbsentError as error:
        ...     print(error.facts)
        10 classes, 50,000 + 10,000 images, 32 px
    """

    facts: Facts | None = None


class NoFolderError(AdvisingError, AbsentError):
    """A dataset that is read from an image folder, and nobody said which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "say where it is: data_dir=…")


class OtherFolderError(AdvisingError, DataError):
    """A dataset is not where it was looked for, and may be in another folder.

    Args:
        reason: What is wrong.
        other: What helps as well, such as `"check the network"`.

    Example:
        >>> OtherFolderError("the dataset cifar10 is not here").advise(" with --data-dir DIR")[:45]
        'say in which folder it is with --data-dir DIR'
    """

    def __init__(self, reason: str, other: str = "") -> None:
        self._other = f"{other}, or " if other else ""
        super().__init__(reason, self.advise(": data_dir=…"))

    def advise(self, named: str) -> str:
        """The advice, with the way in which the caller names a folder."""
        layout = "prepared by TensorFlow Datasets, or with train/<class>/* and val/<class>/*"
        return f"{self._other}say in which folder it is{named} ({layout})"


class UnknownDatasetError(DataError, UsageError):
    """No dataset has the name that was asked for (exit code 2).

    Example:
        >>> from bnn_tf import data
        >>> try:
        ...     data.load("digit")
        ... except UnknownDatasetError as error:
        ...     print(error.exit_code, "digits" in str(error))
        2 True
    """


class NamedFolderError(AdvisingError, UnknownDatasetError):
    """A folder was named in place of a dataset."""

    def __init__(self, folder: str) -> None:
        what = "that is a folder" if files.expanded(folder).is_dir() else "that looks like a folder"
        super().__init__(f"there is no dataset {folder!r}: {what}", f"give it as data_dir={folder!r}")
        self.folder = folder


class TooDeepError(AdvisingError, DataError):
    """A folder of one dataset was named in place of the folder that holds the datasets."""

    def __init__(self, folder: str, root: str) -> None:
        reason = f"{folder} is the folder of one dataset"
        super().__init__(reason, f"name the folder that contains it: data_dir={root!r}")
        self.root = root


def placeholder_names(count: int) -> tuple[str, ...]:
    """Names for classes of which only the number is known: `class 0`, `class 1`, ….

    Example:
        >>> placeholder_names(2)
        ('class 0', 'class 1')
    """
    return tuple(f"class {label}" for label in range(count))


class ArraySplit:
    """Examples that fit into memory.

    Args:
        images: uint8 `[n, height, width, 1 or 3]`.
        labels: Whole numbers from 0 on, `[n]`.

    Raises:
        DataError: the arrays have other types or shapes.

    Example:
        >>> ArraySplit(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5) % 2).size
        5
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise DataError(
                "images in memory are uint8 [n, height, width, 1 or 3], "
                f"not {images.dtype} {list(images.shape)}"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or (labels < 0).any():
            raise DataError(f"labels are {len(images)} whole numbers from 0 on, one for each image")
        self.size: int = len(images)
        self.image_shape: tuple[int, ...] = images.shape[1:]
        self._load: Callable[[int], Arrays] = lambda count: (images[:count], labels[:count])

    @classmethod
    def deferred(cls, size: int, image_shape: tuple[int, ...], load: Callable[[int], Arrays]) -> ArraySplit:
        """Examples that are loaded when they are first used.

        Args:
            size: Number of examples.
            image_shape: Height, width and channels of each image.
            load: Returns the first `count` images and labels.
        """
        split = cls.__new__(cls)
        split.size, split.image_shape, split._load = size, image_shape, load
        return split

    @cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels (int64), in main memory."""
        with tf.init_scope(), tf.device("/CPU:0"):  # a pipeline may ask first while it is being traced
            images, labels = self._load(self.size)
            return tf.constant(images), tf.constant(labels, tf.int64)

    def limited(self, count: int) -> ArraySplit:
        """The first `count` examples."""
        return ArraySplit.deferred(min(count, self.size), self.image_shape, self._load)

    def sizes(self) -> Sizes:
        """Height and width that all images have."""
        return [(self.image_shape[0], self.image_shape[1])]


class EncodedSplit(ABC):
    """Examples that are read and decoded again in every epoch."""

    size: int

    @abstractmethod
    def items(self, seed: tf.Tensor | None, start: int) -> tf.data.Dataset:
        """Something cheap for each example, in the order that `seed` (int64 `[2]`) gives, from `start` on.

        Without a seed the order is that of storage. `start` is above 0 only outside of graphs.
        """

    @abstractmethod
    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image (string) and the label (int64) of an item; runs in parallel."""

    @abstractmethod
    def place(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """Names the example at a position of that order, for an error message."""

    @abstractmethod
    def limited(self, count: int) -> EncodedSplit:
        """A split of `count` of the examples (all, if there are fewer)."""

    def sizes(self) -> Sizes:
        """Height and width of a sample of the images; empty where that is not known without decoding."""
        return []


@dataclasses.dataclass(frozen=True)
class Source:
    """A classification dataset, ready to be read.

    Args:
        class_names: The names of the labels 0, 1, ….
        train: The examples to train on.
        test: The examples held out.
        name: The name under which it was loaded.
        notes: What may surprise about it, a sentence each.

    Raises:
        DataError: there are fewer than two classes, or a split holds no examples.

    Example:
        >>> split = ArraySplit(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5) % 2)
        >>> Source(("even", "odd"), train=split, test=split).num_classes
        2
    """

    class_names: Sequence[str]
    train: ArraySplit | EncodedSplit
    test: ArraySplit | EncodedSplit
    name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", list(self.class_names))
        the_dataset = f"the dataset {self.name}".rstrip()
        if self.num_classes < 2:
            raise DataError(f"{the_dataset} has {self.num_classes} class; classification needs at least 2")
        for split in ("train", "test"):
            if not self.size(split):
                raise DataError(f"{the_dataset} holds no examples in its {split} split")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def size(self, split: str) -> int:
        """Number of examples in `"train"` or `"test"`."""
        return self.split(split).size

    def split(self, name: str) -> ArraySplit | EncodedSplit:
        """The examples of `"train"` or `"test"`.

        Raises:
            UsageError: there is no such split.
        """
        if name not in ("train", "test"):
            raise UsageError(f"split {name!r} is not one of train, test")
        return getattr(self, name)

    def limited(self, count: int) -> Source:
        """The same dataset with no more than `count` examples in each split, for a quick try.

        The first ones, or of an image folder evenly spaced ones, so that all classes occur.
        """
        if count < 1:
            raise UsageError(f"limit must be at least 1, not {count}")
        return dataclasses.replace(self, train=self.train.limited(count), test=self.test.limited(count))


@dataclasses.dataclass(frozen=True)
class Facts(InNotebooks):
    """What can be said of a dataset in one line.

    Attributes:
        name: Its name.
        class_names: The names of its classes, where they are known.
        train: Number of examples to train on; `None` where it is not known.
        test: Number of examples held out, likewise.
        pixels: The shortest and the longest side of the images; of a large folder those of a sample.
        side: What both sides of nine in ten images have at least; `None` where it is not known.
        notes: What may surprise about the dataset, a sentence each.
        unnamed: Number of classes whose names are not known.

    Example:
        >>> print(Facts("pictures", ("a", "b", "c"), 120, 36, (60, 200)))
        3 classes, 120 + 36 images, 60–200 px
    """

    name: str
    class_names: Sequence[str]
    train: int | None
    test: int | None
    pixels: Range | None
    side: int | None = None
    notes: tuple[str, ...] = ()
    unnamed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """`3 classes, 120 + 36 images, 60–200 px`."""
        parts = [f"{len(self.class_names) + self.unnamed:,} classes"]
        if self.train is not None and self.test is not None:
            parts.append(f"{self.train:,} + {self.test:,} images")
        if self.pixels is not None:
            shortest, longest = self.pixels
            parts.append(f"{shortest}–{longest} px" if shortest < longest else f"{longest} px")
        return ", ".join(parts)


def describe(source: Source) -> Facts:
    """The facts of a dataset that was loaded; images are not decoded for it.

    Example:
        >>> split = ArraySplit(np.zeros((5, 8, 9, 1), np.uint8), np.arange(5) % 2)
        >>> print(describe(Source(("even", "odd"), split, split)))
        2 classes, 5 + 5 images, 8–9 px
    """
    sizes = [*source.train.sizes(), *source.test.sizes()]
    pixels = (min(map(min, sizes)), max(map(max, sizes))) if sizes else None
    side = sorted(map(min, sizes))[len(sizes) // 10] if sizes else None
    counts = (source.train.size, source.test.size)
    return Facts(source.name, source.class_names, *counts, pixels, side, source.notes)


# Randomness of an epoch, as pure functions of its seed. The algorithm is named so that no device chooses
# another and with it other numbers.
_ALGORITHM, _PHILOX = "philox", 1


def epoch_seed(seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """The seed (int64 `[2]`) of one epoch of a run."""
    return tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])


def derived(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """An independent seed for purpose or part `number`."""
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64), alg=_ALGORITHM)


def permutation(count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The numbers 0..count-1 in random order."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), derived(seed, 0), alg=_ALGORITHM)


def uniform_rows(first: int | tf.Tensor, count: int | tf.Tensor, width: int, seed: tf.Tensor) -> tf.Tensor:
    """Rows `first` to `first + count - 1` of an endless table of uniform numbers in [0, 1), `[count, width]`.

    Any part of the table can be computed alone: Philox makes four numbers from one value of its counter.
    """
    start = tf.cast(first, tf.uint64) * tf.constant(width, tf.uint64)
    length = tf.cast(count, tf.int32) * width
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=derived(seed, 1))
    counter += tf.stack([start // 4, tf.constant(0, tf.uint64)])
    numbers = tf.raw_ops.StatelessRandomUniformV2(shape=[length + 3], key=key, counter=counter, alg=_PHILOX)
    lane = tf.cast(start % 4, tf.int32)
    return tf.reshape(numbers[lane : lane + length], [count, width])
