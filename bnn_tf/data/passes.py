"""One pass through a split: uint8 views of its images, batched, from any step on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.data.errors import marked
from bnn_tf.data.images import Images
from bnn_tf.data.seeds import permutation, uniform_rows
from bnn_tf.data.source import ArraySplit, EncodedSplit


@dataclass(frozen=True)
class Pass:
    """How to go through a split.

    Attributes:
        settings: which part of the images to see.
        batch_size: images per batch.
        workers: how many images or batches to prepare at a time.
        seed: int64 `[2]`, of order and augmentation; None: in order and without (evaluation).
        first: the step to begin with.
    """

    settings: Images
    batch_size: int
    workers: int
    seed: tf.Tensor | None = None
    first: int | tf.Tensor = 0

    def draws(self, first: int | tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """The random numbers of some positions, `[count, n]`; n = 0 in evaluation."""
        if self.seed is None:
            return tf.zeros([count, 0])
        return uniform_rows(first, count, self.settings.draws, self.seed)


def batched_views(split: ArraySplit | EncodedSplit, run: Pass) -> tf.data.Dataset:
    """Batches of uint8 images `[b, h, w, 3]`, the random numbers `[b, n]` of each, and labels `[b]`."""
    build: Any = _of_arrays if isinstance(split, ArraySplit) else _of_encoded
    # Nothing here needs AutoGraph, and it costs time.
    return tf.autograph.experimental.do_not_convert(build)(split, run)


def _of_arrays(split: ArraySplit, run: Pass) -> tf.data.Dataset:
    images, labels = split.tensors
    order = tf.range(split.size) if run.seed is None else permutation(split.size, run.seed)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = order[step * run.batch_size : (step + 1) * run.batch_size]
        draws = run.draws(step * run.batch_size, tf.size(rows))
        some = tf.gather(images, rows)
        if run.seed is None:
            some = run.settings.views(some)
        else:
            some = run.settings.augment(run.settings.views(some, draws), draws)
        return some, draws, tf.gather(labels, rows)

    steps = tf.data.Dataset.range(run.first, -(-split.size // run.batch_size))
    return steps.map(batch, num_parallel_calls=run.workers, deterministic=True)


def _of_encoded(split: EncodedSplit, run: Pass) -> tf.data.Dataset:
    start = tf.minimum(tf.cast(run.first * run.batch_size, tf.int64), split.size)

    def example(position: tf.Tensor, item: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        contents, label = split.fetch(item)
        draws = None if run.seed is None else run.draws(position, 1)[0]
        return position, run.settings.view(contents, draws), label

    def batch(step: tf.Tensor, row: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions, some, labels = row
        first = start + step * run.batch_size
        expected = first + tf.range(tf.size(positions, tf.int64))
        with tf.control_dependencies([_none_missing(split, run.seed, positions, expected)]):
            draws = run.draws(first, tf.size(positions))
        return (some if run.seed is None else run.settings.augment(some, draws)), draws, labels

    # A file that cannot be read fails without saying which it is. So failures are left out here and noticed
    # by the gap that they leave among the positions; one more element shows gaps at the very end.
    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(start, split.size), split.items(run.seed, start)))
    sound = numbered.map(example, num_parallel_calls=run.workers, deterministic=True).ignore_errors()
    complete = sound.concatenate(_end(split.size, run.settings)).take(split.size - start)
    return complete.batch(run.batch_size).enumerate().map(batch)


def _end(size: int, settings: Images) -> tf.data.Dataset:
    """One element that looks like the example after the last."""
    image = tf.zeros(settings.input_shape, tf.uint8)
    return tf.data.Dataset.from_tensors((tf.constant(size, tf.int64), image, tf.constant(-1, tf.int64)))


def _none_missing(
    split: EncodedSplit, seed: tf.Tensor | None, positions: tf.Tensor, expected: tf.Tensor
) -> tf.Operation:
    """Fails, naming the example that is missing, where the positions are not those that are expected."""
    wrong = tf.not_equal(positions, expected)
    fine = tf.logical_not(tf.reduce_any(wrong))

    def message() -> tf.Tensor:
        missing = expected[tf.argmax(tf.cast(wrong, tf.int32))]
        return marked(tf.strings.join(["Cannot read or decode ", split.blame(seed, missing), "."]))

    return tf.debugging.Assert(fine, [tf.cond(fine, lambda: tf.constant(""), message)])
