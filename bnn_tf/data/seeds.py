"""Randomness of an epoch as pure functions of a seed: one generator for order and augmentation."""

from __future__ import annotations

from bnn_tf._tensorflow import tf

# The algorithm is named so that no device chooses another and with it other numbers.
_ALGORITHM, _PHILOX = "philox", 1


def epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
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
