"""Randomness of an epoch as pure functions of a seed: one generator for order and augmentation."""

from bnn_tf._tensorflow import tf

# The algorithm is named so that no device chooses another and with it other numbers.
_ALGORITHM = "philox"


def epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The seed (int64 `[2]`) of one epoch of a run."""
    return tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])


def derived(seed: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """An independent seed for purpose or part `number`."""
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64), alg=_ALGORITHM)


def permutation(count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The numbers 0..count-1 in random order."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), derived(seed, 0), alg=_ALGORITHM)


def uniform(shape: list[int], seed: tf.Tensor) -> tf.Tensor:
    """Uniform numbers in [0, 1)."""
    return tf.random.stateless_uniform(shape, derived(seed, 1), alg=_ALGORITHM)
