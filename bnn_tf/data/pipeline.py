"""Batches for `model.fit` and `model.evaluate`.

A training pipeline is a pure function of its arguments: the order of an epoch and the random numbers of the
image at each position derive from (seed, epoch, position). So a run can be entered again at any step.
"""

from __future__ import annotations

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data.errors import clear_errors
from bnn_tf.data.images import Images
from bnn_tf.data.passes import Pass, batched_views
from bnn_tf.data.seeds import epoch_seed
from bnn_tf.data.source import ArraySplit, EncodedSplit, Source
from bnn_tf.errors import UsageError

AUTOTUNE = -1  # `tf.data.AUTOTUNE`


def steps(source: Source, split: str, batch_size: int) -> int:
    """Batches of one epoch, the last and perhaps smaller one included: `ceil(size / batch_size)`."""
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    return -(-source.size(split) // batch_size)


def training_batches(
    source: Source,
    images: Images,
    batch_size: int,
    seed: int = 0,
    epochs: int = 1,
    initial_epoch: int = 0,
    initial_step: int = 0,
    workers: int = AUTOTUNE,
) -> tf.data.Dataset:
    """One dataset that runs through the epochs `initial_epoch` to `epochs - 1`.

    For `model.fit(batches, steps_per_epoch=steps(source, "train", batch_size))`. The batch at (epoch, step)
    depends on nothing but `source`, `images`, `batch_size`, `seed`, epoch and step, whatever `workers` and
    wherever the run was entered.

    Args:
        source: the dataset; its `train` split is read.
        images: augmentation and normalisation.
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
        entry = f"epoch {initial_epoch}, step {initial_step}"
        raise UsageError(f"cannot enter at {entry}: there are {epochs} epochs of {per_epoch} steps")
    split = source.split("train")

    unconverted = tf.autograph.experimental.do_not_convert

    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        first = tf.where(epoch == initial_epoch, tf.constant(initial_step, tf.int64), 0)
        return batched_views(split, Pass(images, batch_size, workers, epoch_seed(seed, epoch), first))

    def finish(views: tf.Tensor, draws: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images.inputs(views, draws), labels

    left = (epochs - initial_epoch) * per_epoch - (initial_step if initial_epoch < epochs else 0)
    with tf.device("/CPU:0"):
        run = tf.data.Dataset.range(initial_epoch, epochs).flat_map(unconverted(of_epoch)).prefetch(AUTOTUNE)
        return _finished(run.map(finish), left)


def evaluation_batches(
    source: Source, images: Images, batch_size: int = 128, split: str = "test", workers: int = AUTOTUNE
) -> tf.data.Dataset:
    """One pass through a split in its own order, without augmentation; the last batch may be smaller.

    Raises:
        DataError: while it is read, within `clear_errors`: a file is missing or corrupt.
    """
    with tf.device("/CPU:0"):
        seen = _evaluation_views(source.split(split), images, batch_size, workers)
        batches = seen.map(lambda views, labels: (images.normalize(views), labels))
        return _finished(batches, steps(source, split, batch_size))


def take(
    source: Source, images: Images, n: int, split: str = "test", normalize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`n` evaluation images (fewer, if there are not so many) and their labels as NumPy arrays.

    The first ones, or of an image folder evenly spaced ones. Float32 `[n, h, w, 3]` as the network takes
    them, or with `normalize=False` uint8, as a camera gives them.

    Raises:
        DataError: an image cannot be read.
    """
    examples = source.limited(n).split(split)
    with clear_errors():
        batches = list(_evaluation_views(examples, images, 128, AUTOTUNE).as_numpy_iterator())
    views, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return images.normalize(views) if normalize else views, labels


def _finished(batches: tf.data.Dataset, count: int) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # The files are read by the functions inside, where no strategy could divide them among its workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)


def _evaluation_views(
    split: ArraySplit | EncodedSplit, images: Images, batch_size: int, workers: int
) -> tf.data.Dataset:
    seen = batched_views(split, Pass(images, batch_size, workers))
    return seen.map(lambda views, _, labels: (views, labels)).prefetch(AUTOTUNE)
