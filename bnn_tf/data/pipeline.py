"""Batches for `model.fit` and `model.evaluate`.

A training pipeline is a pure function of its arguments: the order of an epoch and the random numbers of the
image at each position derive from (seed, epoch, position). So a run can be entered again at any step.
"""

from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data import views
from bnn_tf.data.errors import clear_errors, marked
from bnn_tf.data.preprocessing import Preprocessing
from bnn_tf.data.seeds import epoch_seed, permutation, uniform
from bnn_tf.data.source import ArraySplit, EncodedSplit, Source
from bnn_tf.errors import UsageError

AUTOTUNE = tf.data.AUTOTUNE


def steps(source: Source, split: str, batch_size: int) -> int:
    """Batches of one epoch, the last and perhaps smaller one included: `ceil(size / batch_size)`."""
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    return -(-source.size(split) // batch_size)


def training_batches(
    source: Source,
    pre: Preprocessing,
    batch_size: int,
    seed: int = 0,
    epochs: int = 1,
    initial_epoch: int = 0,
    initial_step: int = 0,
    workers: int = AUTOTUNE,
) -> tf.data.Dataset:
    """One dataset that runs through the epochs `initial_epoch` to `epochs - 1`.

    For `model.fit(batches, steps_per_epoch=steps(source, "train", batch_size))`. The batch at (epoch, step)
    depends on nothing but `source`, `pre`, `batch_size`, `seed`, epoch and step, whatever `workers` and
    wherever the run was entered.

    Args:
        source: the dataset; its `train` split is read.
        pre: augmentation and normalisation.
        batch_size: images per batch; the last batch of an epoch has what is left.
        seed: of order and augmentation.
        epochs: where to stop (as `model.fit` counts: the number of epochs from the very beginning).
        initial_epoch: the first epoch to run.
        initial_step: the first batch of that epoch.
        workers: how many images or batches to prepare at a time; the default lets TensorFlow choose.

    Returns:
        Float32 images `[b, h, w, 3]` and int64 labels `[b]`.

    Raises:
        DataError: while it is read, within `clear_errors`: a file is missing or corrupt.
    """
    per_epoch = steps(source, "train", batch_size)
    if not 0 <= initial_epoch <= epochs or not 0 <= initial_step <= per_epoch:
        raise UsageError(f"epoch {initial_epoch}, step {initial_step} is not within {epochs} epochs of {per_epoch} steps")
    split = source.split("train")
    run = _array_epoch if isinstance(split, ArraySplit) else _encoded_epoch

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        first = tf.where(epoch == initial_epoch, tf.constant(initial_step, tf.int64), 0)
        return run(split, pre, batch_size, workers, first, epoch_seed(seed, epoch))

    with tf.device("/CPU:0"):
        views_of_run = tf.data.Dataset.range(initial_epoch, epochs).flat_map(of_epoch).prefetch(AUTOTUNE)
        batches = views_of_run.map(lambda images, draws, labels: (views.training_input(images, draws, pre), labels))
        left = (epochs - initial_epoch) * per_epoch - (initial_step if initial_epoch < epochs else 0)
        return _finished(batches, left)


def evaluation_batches(
    source: Source, pre: Preprocessing, batch_size: int = 128, split: str = "test", workers: int = AUTOTUNE
) -> tf.data.Dataset:
    """One pass through a split in its own order, without augmentation; the last batch may be smaller.

    Raises:
        DataError: while it is read, within `clear_errors`: a file is missing or corrupt.
    """
    examples = source.split(split)
    with tf.device("/CPU:0"):
        return _finished(
            _evaluation_views(examples, pre, batch_size, workers).map(
                lambda images, labels: (pre.normalize(images), labels)
            ),
            steps(source, split, batch_size),
        )


def take(
    source: Source, pre: Preprocessing, n: int, split: str = "test", normalize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`n` evaluation images (fewer, if there are not so many) and their labels as NumPy arrays.

    The first ones, or of an image folder evenly spaced ones. Float32 `[n, h, w, 3]` as the network takes
    them, or with `normalize=False` uint8, as a camera gives them.

    Raises:
        DataError: an image cannot be read.
    """
    examples = source.limited(n).split(split)
    with clear_errors():
        batches = list(_evaluation_views(examples, pre, 128, AUTOTUNE).as_numpy_iterator())
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return pre.normalize(images) if normalize else images, labels


def _finished(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The files are read by the functions inside, where no strategy could divide them among its workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)


def _evaluation_views(split: Any, pre: Preprocessing, batch_size: int, workers: int) -> tf.data.Dataset:
    run = _array_epoch if isinstance(split, ArraySplit) else _encoded_epoch
    views_of_pass = run(split, pre, batch_size, workers, tf.constant(0, tf.int64), None)
    return views_of_pass.map(lambda images, _, labels: (images, labels)).prefetch(AUTOTUNE)


def _draws(size: int, pre: Preprocessing, seed: tf.Tensor | None) -> tf.Tensor:
    """The random numbers of each position of an epoch; none in evaluation."""
    return tf.zeros([size, 0]) if seed is None else uniform([size, views.draws_per_image(pre)], seed)


def _array_epoch(
    split: ArraySplit, pre: Preprocessing, batch_size: int, workers: int, first: tf.Tensor, seed: tf.Tensor | None
) -> tf.data.Dataset:
    """The batches of one epoch from step `first` on: uint8 images, random numbers, labels."""
    images, labels = split.tensors
    order = tf.range(split.size) if seed is None else permutation(split.size, seed)
    draws = _draws(split.size, pre, seed)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = slice(step * batch_size, (step + 1) * batch_size)
        some, numbers = views.colour(tf.gather(images, order[rows])), draws[rows]
        if seed is None:
            some = views.evaluation_view(some, pre)
        else:
            some = views.jitter(views.training_views(some, numbers, pre), numbers, pre)
        return some, numbers, tf.gather(labels, order[rows])

    count = -(-split.size // batch_size)
    return tf.data.Dataset.range(first, count).map(batch, num_parallel_calls=workers, deterministic=True)


def _encoded_epoch(
    split: EncodedSplit, pre: Preprocessing, batch_size: int, workers: int, first: tf.Tensor, seed: tf.Tensor | None
) -> tf.data.Dataset:
    """The batches of one epoch from step `first` on: uint8 images, random numbers, labels."""
    start = first * batch_size
    draws = _draws(split.size, pre, seed)

    def example(position: tf.Tensor, item: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        contents, label = split.fetch(item)
        if seed is None:
            view = views.evaluation_view(views.decode(contents), pre)
        else:
            view = views.encoded_training_view(contents, draws[position], pre)
        return position, tf.ensure_shape(view, [*pre.image_size, 3]), label

    def batch(step: tf.Tensor, row: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions, some, labels = row
        expected = start + step * batch_size + tf.range(tf.size(positions, tf.int64))
        with tf.control_dependencies([_none_missing(split, seed, positions, expected)]):
            numbers = tf.gather(draws, expected)
        return (some if seed is None else views.jitter(some, numbers, pre)), numbers, labels

    # A file that cannot be read fails without saying which it is. So failures are left out here and noticed
    # by the gap that they leave among the positions; the last element closes the epoch for that purpose.
    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(start, split.size), split.items(seed, start)))
    sound = numbered.map(example, num_parallel_calls=workers, deterministic=True).ignore_errors()
    end = tf.data.Dataset.from_tensors(
        (tf.constant(split.size, tf.int64), tf.zeros([*pre.image_size, 3], tf.uint8), tf.constant(-1, tf.int64))
    )
    complete = sound.concatenate(end).take(split.size - start)
    return complete.batch(batch_size).enumerate().map(batch)


def _none_missing(split: EncodedSplit, seed: tf.Tensor | None, found: tf.Tensor, expected: tf.Tensor) -> tf.Operation:
    """Fails, naming the example that is missing, where positions are not those that are expected."""
    wrong = tf.not_equal(found, expected)

    def message() -> tf.Tensor:
        missing = expected[tf.argmax(tf.cast(wrong, tf.int32))]
        return marked(tf.strings.join(["Cannot read or decode the image ", split.blame(seed, missing)]))

    fine = tf.logical_not(tf.reduce_any(wrong))
    return tf.debugging.Assert(fine, [tf.cond(fine, lambda: tf.constant(""), message)])
