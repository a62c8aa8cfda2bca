"""A picture and what the network says of it, for comparison on a device."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]

TOLERANCE = 1e-3
"""A device's output may differ by this times the largest expected output (at least 1)."""
_NUDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Reference:
    """One example.

    Attributes:
        image: uint8 `(height, width, 3)`.
        inputs: What the network takes: float32 `(1, height, width, 3)`.
        outputs: What LCE's interpreter gives: `(1, classes)`.
        spread: Largest difference of an output between LCE and Keras, or between inputs that differ
            in their last bits.
    """

    image: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    spread: float

    @property
    def tolerance(self) -> float:
        """The largest difference that still counts as agreement: `TOLERANCE · max(1, largest output)`."""
        return TOLERANCE * max(1.0, float(np.abs(self.outputs).max()))

    @property
    def steady(self) -> bool:
        """Whether rounding moves the outputs by less than the tolerance."""
        return self.spread <= self.tolerance


def choose(lite: Predict, keras: Predict, images: np.ndarray, inputs: np.ndarray) -> Reference:
    """The picture whose outputs depend least on rounding.

    Where an activation is almost zero, rounding decides its sign, and a device rounds in its own way. So
    each picture is run by LCE, by Keras, and by LCE with inputs a millionth larger and smaller; the one
    whose outputs differ least is taken.

    Args:
        lite: The converted model.
        keras: The same in Keras.
        images: uint8 `(n, height, width, 3)`.
        inputs: The same as the network takes them, float32.
    """
    outputs = lite(inputs)
    others = (keras(inputs), lite(_nudged(inputs, 1 + _NUDGE)), lite(_nudged(inputs, 1 - _NUDGE)))
    spreads = _spreads(outputs, others)
    best = int(np.argmin(spreads))
    one = slice(best, best + 1)
    return Reference(images[best], inputs[one], outputs[one], float(spreads[best]))


def _nudged(inputs: np.ndarray, factor: float) -> np.ndarray:
    return inputs * np.float32(factor)


def _spreads(outputs: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Per picture, the largest difference; infinite where something is no number."""
    gaps = np.abs(np.stack(others) - outputs)
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    return gaps.reshape(len(others), len(outputs), -1).max(axis=(0, 2))
