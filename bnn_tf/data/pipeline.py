"""Batches for `model.fit` and `model.evaluate`.

A training pipeline is a pure function of its arguments: the order of an epoch and the random numbers of the
image at each position derive from (seed, epoch, position). So a run can be entered again at any step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data.folder import fault
from bnn_tf.data.images import Images
from bnn_tf.data.source import (
    ArraySplit,
    DamagedImageError,
    DataError,
    EncodedSplit,
    Source,
    epoch_seed,
    permutation,
    uniform_rows,
)
from bnn_tf.errors import UsageError

AUTOTUNE = -1  # `tf.data.AUTOTUNE`
_ROWS_AT_ONCE = 256  # of random numbers: one call for each image would cost more than decoding a small one


def steps(source: Source, split: str, batch_size: int) -> int:
    """Batches of one epoch, the last and perhaps smaller one included: `ceil(size / batch_size)`.

    Example:
        >>> from bnn_tf import data
        >>> steps(data.load("digits"), "train", batch_size=64)
        23
    """
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    return -(-source.size(split) // batch_size)


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes reads, for its replicas one after the other.

    The images of a batch are divided in order, so that no replica has more than one image more than another.
    If a batch has fewer images than replicas, every replica sees all of them: none is without images, and
    BatchNorm's statistics are those of the batch. Every image then has a weight of 1/replicas, otherwise 1,
    so that the weights of a batch's images always add up to their number.

    Args:
        replicas: How many replicas divide a batch.
        first: Number of this process's first replica.
        count: How many replicas this process has.

    Example:
        >>> share = Share(replicas=4, first=2, count=2)
        >>> [int(row) for row in share.rows(10)], [int(row) for row in share.rows(3)]
        ([6, 10], [0, 3])
    """

    replicas: int
    first: int = 0
    count: int = 1

    def rows(self, size: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows that this process sees of a batch of `size`: the first, and the one after the last."""
        begin, _ = self.of_replica(size, self.first)
        _, end = self.of_replica(size, self.first + self.count - 1)
        return begin, end

    def of_replica(self, size: int | tf.Tensor, replica: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows that a replica sees, likewise."""
        size, replica = tf.cast(size, tf.int64), tf.cast(replica, tf.int64)
        each, more = size // self.replicas, size % self.replicas
        begin = replica * each + tf.minimum(replica, more)
        end = begin + each + tf.cast(replica < more, tf.int64)
        few = each == 0
        return tf.where(few, tf.zeros_like(size), begin), tf.where(few, size, end)


def training_batches(
    source: Source,
    images: Images,
    batch_size: int,
    seed: int = 0,
    epochs: int = 1,
    initial_epoch: int = 0,
    initial_step: int = 0,
    workers: int = AUTOTUNE,
    share: Share | None = None,
) -> tf.data.Dataset:
    """One dataset that runs through the epochs `initial_epoch` to `epochs - 1`.

    For `model.fit(batches, steps_per_epoch=steps(source, "train", batch_size))`. The batch at (epoch, step)
    depends on nothing but `source`, `images`, `batch_size`, `seed`, epoch and step, whatever `workers` and
    wherever the run was entered.

    Args:
        source: The dataset; its `train` split is read.
        images: Augmentation and normalisation.
        batch_size: Images per batch; the last batch of an epoch has what is left.
        seed: Of order and augmentation.
        epochs: Where to stop (as `model.fit` counts: the number of epochs from the very beginning).
        initial_epoch: The first epoch to run.
        initial_step: The first batch of that epoch.
        workers: How many images or batches to prepare at a time; the default lets TensorFlow choose.
        share: The part of each batch that this process computes; by default all of it.

    Returns:
        Float32 images `[b, h, w, c]` and int64 labels `[b]`; of a share also the images' weights `[b]`, and
        an element for each of its replicas.

    Raises:
        DataError: while it is read, within `clear_errors`: a file is missing or corrupt.

    Example:
        >>> from bnn_tf import data
        >>> batches = training_batches(data.load("digits"), data.Images((data.Flip(),)), batch_size=64)
        >>> next(iter(batches))[0].shape
        TensorShape([64, 32, 32, 3])
    """
    per_epoch = steps(source, "train", batch_size)
    if not 0 <= initial_epoch <= epochs or not 0 <= initial_step <= per_epoch:
        entry = f"epoch {initial_epoch}, step {initial_step}"
        raise UsageError(f"cannot enter at {entry}: there are {epochs} epochs of {per_epoch} steps")
    run = _Pass(source.train, images, batch_size, workers, share=share)

    def of_epoch(epoch: int | tf.Tensor, first: int = 0) -> tf.data.Dataset:
        return dataclasses.replace(run, seed=epoch_seed(seed, epoch), first=first).batches()

    def finish(views: tf.Tensor, draws: tf.Tensor, *labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return images.inputs(views, draws), *labels

    left = (epochs - initial_epoch) * per_epoch - (initial_step if initial_epoch < epochs else 0)
    # The first epoch stands apart where it is entered in its middle: then files can be skipped by their
    # record counts, which takes Python.
    apart = bool(initial_step) and initial_epoch < epochs
    with tf.init_scope(), tf.device("/CPU:0"):
        whole = tf.data.Dataset.range(initial_epoch + apart, epochs)
        batches = whole.flat_map(tf.autograph.experimental.do_not_convert(of_epoch))
        if apart:
            batches = of_epoch(initial_epoch, initial_step).concatenate(batches)
        return _finished(batches.prefetch(AUTOTUNE).map(finish), left * (share.count if share else 1))


def evaluation_batches(
    source: Source,
    images: Images,
    batch_size: int = 128,
    split: str = "test",
    workers: int = AUTOTUNE,
    share: Share | None = None,
) -> tf.data.Dataset:
    """One pass through a split in its own order, without augmentation; the last batch may be smaller.

    A `share` has the same effect as in `training_batches`.

    Raises:
        DataError: while it is read, within `clear_errors`: a file is missing or corrupt.

    Example:
        >>> from bnn_tf import data
        >>> batches = evaluation_batches(data.load("digits"), data.Images(), batch_size=100)
        >>> [len(labels) for _, labels in batches]
        [100, 100, 100, 60]
    """
    with tf.device("/CPU:0"):
        reading = _Pass(source.split(split), images, batch_size, workers, share=share)
        views = reading.batches().prefetch(AUTOTUNE)
        batches = views.map(lambda views, _, *labels: (images.normalize(views), *labels))
        return _finished(batches, steps(source, split, batch_size) * (share.count if share else 1))


def take(
    source: Source, images: Images, n: int, split: str = "test", normalize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`n` evaluation images (fewer, if there are not so many) and their labels as NumPy arrays.

    The first ones, or of an image folder evenly spaced ones. Float32 `[n, h, w, c]` as the network takes
    them, or with `normalize=False` uint8, as a camera gives them.

    Raises:
        DataError: an image cannot be read.

    Example:
        >>> from bnn_tf import data
        >>> pixels, labels = take(data.load("digits"), data.Images(), 5, normalize=False)
        >>> pixels.shape, labels.tolist()
        ((5, 32, 32, 3), [0, 7, 0, 7, 4])
    """
    examples = source.limited(n).split(split)
    with clear_errors(), tf.device("/CPU:0"):
        batches = list(_Pass(examples, images, 128, AUTOTUNE).batches().as_numpy_iterator())
    views, _, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return images.normalize(views) if normalize else views, labels


def _finished(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # A share is one process's already. Of whole batches, as in a user's own `model.fit`, every worker takes
    # its rows: the files are read by the functions inside, where no strategy could divide them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)


@dataclasses.dataclass(frozen=True)
class _Pass:
    """One pass through a split: uint8 views of its images, batched, from any step on.

    Attributes:
        split: What to go through.
        images: Which part of the images to see.
        batch_size: Images per batch.
        workers: How many images or batches to prepare at a time.
        seed: int64 `[2]`, of order and augmentation; None: in order and without (evaluation).
        first: The step to begin with; above 0 only outside of graphs.
        share: The part of each batch to see; None: all of it.
    """

    split: ArraySplit | EncodedSplit
    images: Images
    batch_size: int
    workers: int
    seed: tf.Tensor | None = None
    first: int = 0
    share: Share | None = None

    def batches(self) -> tf.data.Dataset:
        """Batches of uint8 images `[b, h, w, c]`, the random numbers `[b, n]` of each, and labels `[b]`.

        Of a share also the weights `[b]` of the images, and an element for each of its replicas.
        """
        build: Any = self._of_arrays if isinstance(self.split, ArraySplit) else self._of_encoded
        # Nothing here needs AutoGraph, and it costs time.
        batches = tf.autograph.experimental.do_not_convert(build)(self.split)
        if self.share is None:
            return batches
        divided = tf.autograph.experimental.do_not_convert(self._for_replicas)
        return batches.enumerate(self.first).flat_map(divided)

    def _size(self, step: tf.Tensor) -> tf.Tensor:
        """How many images the batch of a step has."""
        return tf.minimum(tf.constant(self.batch_size, tf.int64), self.split.size - step * self.batch_size)

    def _rows(self, step: tf.Tensor) -> tuple[Any, Any]:
        """The positions of the images of a step that are seen: the first, and the one after the last."""
        begin = step * self.batch_size
        if self.share is None:
            return begin, begin + self.batch_size
        first, end = self.share.rows(self._size(step))
        return begin + first, begin + end

    def _for_replicas(self, step: tf.Tensor, seen: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
        """What each replica sees of what this process does, and the images' weights."""
        share, size = self.share, self._size(step)
        assert share is not None
        offset, _ = share.rows(size)
        weight = tf.where(size < share.replicas, 1 / share.replicas, 1.0)

        def part(replica: tf.Tensor) -> tuple[tf.Tensor, ...]:
            begin, end = share.of_replica(size, replica)
            own = tuple(tensor[begin - offset : end - offset] for tensor in seen)
            return *own, tf.fill([end - begin], weight)

        return tf.data.Dataset.range(share.first, share.first + share.count).map(part)

    def _draws(self, first: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """The random numbers of some positions, `[count, n]`; n = 0 in evaluation."""
        if self.seed is None:
            return tf.zeros([count, 0])
        return uniform_rows(first, count, self.images.draws, self.seed)

    def _of_arrays(self, split: ArraySplit) -> tf.data.Dataset:
        pixels, labels = split.tensors
        order = tf.range(split.size) if self.seed is None else permutation(split.size, self.seed)

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            begin, end = self._rows(step)
            rows = order[begin:end]
            draws = self._draws(begin, tf.size(rows))
            views = self.images.views(tf.gather(pixels, rows), None if self.seed is None else draws)
            if self.seed is not None:
                views = self.images.augment(views, draws)
            return views, draws, tf.gather(labels, rows)

        numbers = tf.data.Dataset.range(self.first, -(-split.size // self.batch_size))
        return numbers.map(batch, num_parallel_calls=self.workers, deterministic=True)

    def _rows_of_draws(self, start: int) -> tf.data.Dataset:
        """The random numbers of each position from `start` on, `[n]`; zeros where no view needs them."""
        if self.seed is None or not self.images.has_random_view:
            return tf.data.Dataset.from_tensors(tf.zeros([self.images.draws])).repeat()
        blocks = tf.data.Dataset.range(start, self.split.size, _ROWS_AT_ONCE)
        return blocks.map(lambda first: self._draws(first, _ROWS_AT_ONCE)).unbatch()

    def _of_encoded(self, split: EncodedSplit) -> tf.data.Dataset:
        start = min(self.first * self.batch_size, split.size)
        unseen = tf.zeros(self.images.input_shape, tf.uint8), tf.constant(-1, tf.int64)

        def decoded(draws: tf.Tensor, item: Any) -> tuple[tf.Tensor, tf.Tensor]:
            contents, label = split.fetch(item)
            return self.images.view(contents, None if self.seed is None else draws), label

        def example(
            position: tf.Tensor, draws: tf.Tensor, item: Any
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            if self.share is None:
                return position, *decoded(draws, item)
            # What is another process's is passed over; it keeps its place, by which gaps are noticed.
            begin, end = self._rows(position // self.batch_size)
            own = tf.logical_and(begin <= position, position < end)
            return position, *tf.cond(own, lambda: decoded(draws, item), lambda: unseen)

        def batch(step: tf.Tensor, row: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            positions, views, labels = row
            first = start + step * self.batch_size
            expected = first + tf.range(tf.size(positions, tf.int64))
            with tf.control_dependencies([_none_missing(split, self.seed, positions, expected)]):
                if self.share is not None:
                    begin, end = self._rows(self.first + step)
                    views, labels = (part[begin - first : end - first] for part in (views, labels))
                    first = begin
                draws = self._draws(first, tf.size(labels))
            return (views if self.seed is None else self.images.augment(views, draws)), draws, labels

        # A file that cannot be read fails without saying which it is. So failures are left out here and
        # noticed by the gap that they leave among the positions; one more element shows gaps at the very end.
        positions = tf.data.Dataset.range(start, split.size)
        numbered = tf.data.Dataset.zip((positions, self._rows_of_draws(start), split.items(self.seed, start)))
        sound = numbered.map(example, num_parallel_calls=self.workers, deterministic=True).ignore_errors()
        end_element = tf.data.Dataset.from_tensors((tf.constant(split.size, tf.int64), *unseen))
        complete = sound.concatenate(end_element).take(split.size - start)
        return complete.batch(self.batch_size).enumerate().map(batch)


# A tf.data pipeline can only raise TensorFlow's own errors. These marks tell what this package says in them.
_OPEN, _CLOSE = "bnn-tf-data-error<<", ">>"
_MARKED = re.compile(re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE), re.DOTALL)
_FILE = "the image "


def _none_missing(
    split: EncodedSplit, seed: tf.Tensor | None, positions: tf.Tensor, expected: tf.Tensor
) -> tf.Operation:
    """Fails, naming the example that is missing, where the positions are not those that are expected."""
    wrong = tf.not_equal(positions, expected)
    fine = tf.logical_not(tf.reduce_any(wrong))

    def message() -> tf.Tensor:
        missing = expected[tf.argmax(tf.cast(wrong, tf.int32))]
        return tf.strings.join([_OPEN, split.place(seed, missing), _CLOSE])

    return tf.debugging.Assert(fine, [tf.cond(fine, lambda: tf.constant(""), message)])


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turns a failure of a data pipeline inside the body into a `DataError` that names the file.

    `model.fit`, `model.evaluate` and loops over the datasets of this package belong in the body: TensorFlow
    reports what goes wrong in a pipeline as its own errors, wrapped in pages of graph traces.

    Raises:
        DataError: an image or a record could not be read or decoded.

    Example:
        >>> from bnn_tf import data
        >>> with clear_errors():
        ...     images, labels = next(iter(evaluation_batches(data.load("digits"), Images(size=8), 16)))
        >>> images.shape
        TensorShape([16, 8, 8, 3])
    """
    try:
        yield
    except tf.errors.OpError as error:
        marked = _MARKED.search(str(error))
        if not marked:
            raise
        # TensorFlow puts backslashes before quotes and backslashes.
        place = re.sub(r"\\([\\'\"])", r"\1", marked.group(1))
        if not place.startswith(_FILE):
            raise DataError(f"cannot read or decode {place}") from error
        reason = fault(place.removeprefix(_FILE))
        why = f": it {reason}" if reason else ""
        raise DamagedImageError(f"cannot read or decode {place}{why}") from error
