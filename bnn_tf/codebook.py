"""The codebook of sub-bit networks (SNN, ICCV 2021) as pure functions.

A codebook of `2^b` patterns stands for the 3×3 slices of a kernel; element `e = 3·row + column` of a
pattern belongs to `kernel[row, column]`. `latent` are real-valued patterns `P`, `memory` are the signs
`M ∈ {±1}` in force, both of shape `(2^b, 9)`.
"""

from typing import Any

import numpy as np

from bnn_tf import math
from bnn_tf._tensorflow import tf

SLICE = 9  # signs of a 3×3 slice
DEAD_ZONE = 1e-3  # latent values this small keep their previous sign
LIMIT = 3.0  # latent patterns are clipped to ±LIMIT
_BIT_VALUES = 2 ** np.arange(SLICE)


def all_patterns() -> np.ndarray:
    """All 512 sign patterns, `(512, 9)`; row i has +1 where bit e of i is set.

    Example:
        >>> all_patterns()[5, :4]
        array([ 1., -1.,  1., -1.], dtype=float32)
    """
    return np.where(np.arange(2**SLICE)[:, None] & _BIT_VALUES, 1.0, -1.0).astype(np.float32)


def initial_patterns(bits: int, seed: int) -> np.ndarray:
    """A random subset of `2^bits` different patterns, `(2^bits, 9)`, reproducible from the seed.

    Example:
        >>> initial_patterns(bits=4, seed=0).shape
        (16, 9)
    """
    rows = np.random.default_rng(seed).permutation(2**SLICE)[: 2**bits]
    return all_patterns()[rows]


def frequent_patterns(kernel: np.ndarray, bits: int) -> np.ndarray:
    """The `2^bits` sign patterns that most slices of a kernel `(3, 3, cin, cout)` have, `(2^bits, 9)`.

    The most frequent comes first; of equally frequent ones that of the smaller number.

    Example:
        >>> kernel = all_patterns()[[7, 7, 500]].T.reshape(3, 3, 1, 3)
        >>> pattern_numbers(tf.constant(frequent_patterns(kernel, bits=1))).numpy()
        array([  7, 500], dtype=int32)
    """
    numbers = _BIT_VALUES @ (np.reshape(kernel, (SLICE, -1)) >= 0)
    counts = np.bincount(numbers, minlength=2**SLICE)
    return all_patterns()[np.argsort(-counts, kind="stable")[: 2**bits]]


def is_codebook(variable: tf.Variable) -> bool:
    """Whether a variable holds latent patterns, which only some of the steps train.

    Example:
        >>> is_codebook(bnn_tf.quantizers.SubBit(bits=4).codebook), is_codebook(tf.Variable(0.0))
        (True, False)
    """
    return isinstance(getattr(variable, "constraint", None), Refinement)


def patterns_of(quantizer: Any) -> tf.Tensor | None:
    """The signs in force of a quantizer with a codebook, `(count, 9)`; `None` for any other.

    Other packages' quantizers have a codebook where a method `patterns` says so.

    Example:
        >>> patterns_of(bnn_tf.quantizers.SubBit(bits=4)).shape
        TensorShape([16, 9])
        >>> patterns_of(lq.quantizers.SteSign()) is None
        True
    """
    return quantizer.patterns() if hasattr(quantizer, "patterns") else None


def pattern_numbers(latent: tf.Tensor) -> tf.Tensor:
    """The number 0…511 of each row's sign pattern, int32 `(rows,)`; a latent 0 counts as -1 here.

    Example:
        >>> pattern_numbers(tf.constant(all_patterns()[[3, 500]])).numpy()
        array([  3, 500], dtype=int32)
    """
    return tf.linalg.matvec(tf.cast(latent > 0, tf.int32), tf.constant(_BIT_VALUES, tf.int32))


def current_memory(latent: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
    """`M = sign(P)` where `|P| ≥ 1e-3`, else the previous `M`.

    Example:
        >>> current_memory(tf.constant([0.5, -0.0005]), tf.constant([-1.0, 1.0])).numpy()
        array([1., 1.], dtype=float32)
    """
    return tf.where(tf.abs(latent) >= DEAD_ZONE, math.sign(latent), previous)


def slices(kernel: tf.Tensor) -> tf.Tensor:
    """The kernel `(3, 3, cin, cout)` as rows of 9, `(cin·cout, 9)`, output channels running fastest.

    Example:
        >>> slices(tf.zeros((3, 3, 4, 8))).shape
        TensorShape([32, 9])
    """
    return tf.transpose(tf.reshape(kernel, (SLICE, -1)))


def indices(kernel: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
    """Which pattern of the memory each slice takes: the nearest in L2, int32 `(cin, cout)`.

    All patterns have the same norm, so the nearest has the largest inner product; one matrix product of
    `cin·cout × 2^b` floats finds it. The first of several equally near ones wins.

    Example:
        >>> patterns = tf.constant(initial_patterns(bits=2, seed=0))
        >>> indices(lookup(patterns, tf.constant([[3, 1]])), patterns).numpy()
        array([[3, 1]], dtype=int32)
    """
    scores = tf.matmul(slices(kernel), memory, transpose_b=True)
    return tf.reshape(tf.argmax(scores, axis=1, output_type=tf.int32), kernel.shape[2:])


def lookup(memory: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The kernel `(3, 3, cin, cout)` whose slices are `memory[index]`.

    Example:
        >>> lookup(tf.constant(all_patterns()), tf.constant([[0, 511]])).shape
        TensorShape([3, 3, 1, 2])
    """
    return tf.reshape(tf.transpose(tf.gather(memory, index), (2, 0, 1)), (3, 3, *index.shape))


def quantize(kernel: tf.Tensor, latent: tf.Tensor, memory: tf.Tensor, learn: tf.Tensor) -> tf.Tensor:
    """Each 3×3 slice of the kernel replaced by its nearest pattern of `memory`.

    Gradients: to the kernel `dy · 1[|W| ≤ 1]`; to the latent patterns, where the scalar `learn` is 1, the
    sum of `dy` over the slices that chose the pattern, where it is 0 nothing.

    Example:
        >>> patterns = tf.constant(initial_patterns(bits=2, seed=0))
        >>> kernel = tf.random.normal((3, 3, 4, 8))
        >>> quantize(kernel, patterns, patterns, learn=tf.constant(True)).shape
        TensorShape([3, 3, 4, 8])
    """

    @tf.custom_gradient
    def call(kernel: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        index = indices(kernel, memory)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_kernel = tf.where(tf.abs(kernel) <= 1, upstream, tf.zeros_like(upstream))
            chosen = tf.reshape(index, (-1,))
            to_latent = tf.math.unsorted_segment_sum(slices(upstream), chosen, latent.shape[0])
            return to_kernel, to_latent * tf.cast(learn, upstream.dtype)

        return lookup(memory, index), gradient

    return call(kernel, latent)


def refine(latent: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Replaces rows whose sign pattern stands in an earlier row, and clips to ±3.

    Each such row becomes a ±1 pattern that no row has, drawn at random from `seed` (two integers), so
    that all rows differ afterwards. Survivors keep their rows, and with them the optimizer's moments
    (the authors' code moves survivors up and leaves the moments behind).

    Example:
        >>> doubled = tf.repeat(tf.constant(initial_patterns(bits=1, seed=0)), 2, axis=0)
        >>> len(set(pattern_numbers(refine(doubled, tf.constant([0, 1]))).numpy().tolist()))
        4
    """
    rows = tf.shape(latent)[0]
    numbers = pattern_numbers(latent)
    first = tf.math.unsorted_segment_min(tf.range(rows), numbers, 2**SLICE)
    duplicate = tf.gather(first, numbers) < tf.range(rows)
    # A random order of all patterns in which those in use come last.
    in_use = tf.cast(tf.math.bincount(numbers, minlength=2**SLICE) > 0, tf.float32)
    order = tf.argsort(in_use + tf.random.stateless_uniform((2**SLICE,), seed, maxval=0.5))
    rank = tf.maximum(tf.cumsum(tf.cast(duplicate, tf.int32)) - 1, 0)
    fresh = tf.gather(tf.constant(all_patterns(), latent.dtype), tf.gather(order, rank))
    return tf.clip_by_value(tf.where(duplicate[:, None], fresh, latent), -LIMIT, LIMIT)


class Refinement(tf.keras.constraints.Constraint):
    """What happens to a codebook after each update of its latent patterns.

    As a Keras constraint it runs inside every optimizer's update, once per training step and the same on
    every replica: it counts the update, refines the latent patterns on every `interval`-th, and sets the
    memory that the next forward pass will use. All state stands in the two variables.

    Args:
        updates: Counts the updates; int64 scalar.
        memory: The patterns in force, `(2^b, 9)`.
        seed: Seed of the replacements.
        interval: Updates between refinements.

    Example:
        >>> quantizer = bnn_tf.quantizers.SubBit(bits=3, interval=2)
        >>> isinstance(quantizer.codebook.constraint, Refinement)
        True
    """

    def __init__(self, updates: tf.Variable, memory: tf.Variable, seed: int, interval: int) -> None:
        self.updates, self.memory, self.seed, self.interval = updates, memory, seed, interval

    def due(self) -> tf.Tensor:
        """Whether the coming update trains the latent patterns; a Boolean scalar."""
        return (self.updates + 1) % self.interval == 0

    def __call__(self, latent: tf.Tensor) -> tf.Tensor:
        """Returns the latent patterns that are in force after this update."""
        count = tf.convert_to_tensor(self.updates.assign_add(1))
        latent = tf.convert_to_tensor(latent)
        refined = tf.cond(
            count % self.interval == 0,
            lambda: refine(latent, tf.stack([tf.constant(self.seed, tf.int64), count])),
            lambda: latent,
        )
        self.memory.assign(current_memory(refined, self.memory))
        return refined
