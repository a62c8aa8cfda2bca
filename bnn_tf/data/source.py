"""What a dataset is to the pipelines: names, sizes, and splits of one of two kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data.errors import DataError
from bnn_tf.errors import UsageError

Arrays = tuple[np.ndarray, np.ndarray]


def placeholder_names(count: int) -> tuple[str, ...]:
    """Names for classes of which only the number is known: `class 0`, `class 1`, …."""
    return tuple(f"class {label}" for label in range(count))


@dataclass(frozen=True)
class ArraySplit:
    """Examples that fit into memory; they are loaded when first used.

    Args:
        size: number of examples.
        load: gives the first so many images, uint8 `[size, h, w, 1 or 3]`, and labels, `[size]`.
    """

    size: int
    load: Callable[[int], Arrays]

    @cached_property
    def tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and labels (int64), in main memory."""
        with tf.init_scope(), tf.device("/CPU:0"):  # a pipeline may ask first while it is being traced
            images, labels = self.load(self.size)
            return tf.constant(images), tf.constant(labels, tf.int64)

    def limited(self, count: int) -> ArraySplit:
        """The first `count` examples."""
        return ArraySplit(min(count, self.size), self.load)


class EncodedSplit(ABC):
    """Examples that are read and decoded anew in every epoch."""

    size: int

    @abstractmethod
    def items(self, seed: tf.Tensor | None, start: int | tf.Tensor) -> tf.data.Dataset:
        """Something cheap for each example, in the order that `seed` (int64 `[2]`) gives, from `start` on.

        Without a seed the order is that of storage.
        """

    @abstractmethod
    def fetch(self, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded image (string) and the label (int64) of an item; runs in parallel."""

    @abstractmethod
    def blame(self, seed: tf.Tensor | None, position: tf.Tensor) -> tf.Tensor:
        """Names the example at a position of that order, for an error message."""

    @abstractmethod
    def limited(self, count: int) -> EncodedSplit:
        """A split of `count` of the examples (all, if there are fewer)."""


@dataclass(frozen=True)
class Source:
    """A classification dataset, ready to be read.

    Attributes:
        name: what it was asked for as.
        class_names: the names of the labels 0, 1, ...
        image_shape: height, width and 3, or None where images differ in size.
        splits: `"train"` and `"test"`.
    """

    name: str
    class_names: list[str]
    image_shape: tuple[int, int, int] | None
    splits: Mapping[str, ArraySplit | EncodedSplit]

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise DataError(
                f"The dataset {self.name} has {self.num_classes} class; classification needs at least 2."
            )
        for split, examples in self.splits.items():
            if not examples.size:
                raise DataError(f"The {split} split of the dataset {self.name} holds no examples.")

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
        if name not in self.splits:
            raise UsageError(f"split {name!r} is not one of {', '.join(self.splits)}")
        return self.splits[name]

    def limited(self, count: int) -> Source:
        """The same dataset with no more than `count` examples in each split, for a quick try.

        The first ones, or of an image folder evenly spaced ones, so that all classes occur.
        """
        if count < 1:
            raise UsageError(f"limit must be at least 1, not {count}")
        splits = {name: split.limited(count) for name, split in self.splits.items()}
        return Source(self.name, self.class_names, self.image_shape, splits)
