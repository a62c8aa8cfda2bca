"""Ranges of a network's tensors, measured on images."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from bnn_tf.deploy.graph import Graph, Tensor
from bnn_tf.errors import unknown

METHODS = ("minmax", "percentile")
"""How a range is taken from the values: all of them, or all but the outermost `OUTSIDE` on either side."""
OUTSIDE = 1e-4
_BATCH = 16
_SAMPLE = 2**16  # values of a tensor kept from each batch
_STEP_BITS = 12


@dataclasses.dataclass(frozen=True)
class Range:
    """From where to where a tensor's values go; 0 lies within."""

    minimum: float
    maximum: float

    def on_grid(self) -> "Range":
        """The smallest range around this one with 256 levels of which one is 0, exactly in float32.

        TensorFlow and the converter shift other ranges, and not alike; where the level 0 becomes -1e-8,
        its sign differs.
        """
        zero = round(-255 * self.minimum / (self.maximum - self.minimum))  # levels below 0
        above = self.maximum / (255 - zero) if zero < 255 else 0.0
        below = -self.minimum / zero if zero > 0 else 0.0
        fraction, exponent = math.frexp(max(above, below))
        step = math.ldexp(math.ceil(fraction * 2**_STEP_BITS), exponent - _STEP_BITS)
        return Range(-zero * step, (255 - zero) * step)


def check_method(method: str) -> None:
    """Raises UsageError if there is no such method."""
    if method not in METHODS:
        raise unknown("calibration", method, METHODS)


def ranges(graph: Graph, tensors: Sequence[Tensor], images: np.ndarray, method: str) -> dict[Tensor, Range]:
    """The range of each tensor over the images.

    Args:
        graph: The network.
        tensors: Which tensors.
        images: Preprocessed images, `(n, height, width, channels)`; not empty.
        method: One of `METHODS`.

    Raises:
        UsageError: There is no such method.
    """
    check_method(method)
    tensors = list(dict.fromkeys(tensors))
    network = dataclasses.replace(graph, outputs=tensors).build()
    rng = np.random.default_rng(0)
    kept: list[list[np.ndarray]] = [[] for _ in tensors]
    for start in range(0, len(images), _BATCH):
        outputs = network(images[start : start + _BATCH], training=False)
        for values, output in zip(kept, outputs if len(tensors) > 1 else [outputs], strict=True):
            values.append(_summary(np.asarray(output).ravel(), method, rng))
    return {t: _range(np.concatenate(values), method) for t, values in zip(tensors, kept, strict=True)}


def _summary(values: np.ndarray, method: str, rng: np.random.Generator) -> np.ndarray:
    """What is kept of a batch: the extremes, or a sample."""
    if method == "minmax":
        return np.array([values.min(), values.max()])
    return values if values.size <= _SAMPLE else rng.choice(values, _SAMPLE)


def _range(values: np.ndarray, method: str) -> Range:
    outside = OUTSIDE if method == "percentile" else 0.0
    minimum, maximum = np.quantile(values, [outside, 1 - outside])
    minimum, maximum = min(float(minimum), 0.0), max(float(maximum), 0.0)
    return Range(minimum, maximum).on_grid() if maximum > minimum else Range(-1.0, 1.0).on_grid()
