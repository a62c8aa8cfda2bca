"""A picture and what the network says of it, for comparison on a device."""

import dataclasses
from collections.abc import Callable

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
        inputs: What the image becomes: float32 `(1, height, width, 3)`.
        outputs: What LCE's interpreter gives: float32 `(1, classes)`.
        spread: Largest change of an output by what should change nothing (see `choose`).
        keras_gap: Largest difference of an output between LCE and Keras.
        agreement: Share of the images tried for which LCE and Keras name the same class.
    """

    image: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    spread: float
    keras_gap: float
    agreement: float = 1.0

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
    each picture is run by LCE with inputs a millionth larger and smaller, and by Keras; the one whose
    outputs change least is taken. Where Keras differs on every picture (it does not compute in int8), the
    nudged inputs alone decide.

    Args:
        lite: The converted model.
        keras: The same in Keras.
        images: uint8 `(n, height, width, 3)`.
        inputs: The same as float32 inputs.
    """
    outputs, keras_outputs = lite(inputs), keras(inputs)
    keras_gaps = _gaps(outputs, keras_outputs)
    spreads = np.maximum(*(_gaps(outputs, lite(inputs * np.float32(1 + s))) for s in (_NUDGE, -_NUDGE)))
    limits = TOLERANCE * np.maximum(1, np.abs(outputs).reshape(len(outputs), -1).max(axis=1))
    if (keras_gaps <= limits).any():
        spreads = np.maximum(spreads, keras_gaps)
    best = int(np.argmin(spreads))
    one = slice(best, best + 1)
    same = np.equal(*(one.reshape(len(one), -1).argmax(axis=1) for one in (outputs, keras_outputs)))
    return Reference(
        image=images[best],
        inputs=inputs[one],
        outputs=outputs[one],
        spread=float(spreads[best]),
        keras_gap=float(keras_gaps[best]),
        agreement=float(same.mean()),
    )


def _gaps(outputs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Per picture, the largest difference; infinite where something is no number."""
    gaps = np.abs(others - outputs)
    return np.where(np.isfinite(gaps), gaps, np.inf).reshape(len(outputs), -1).max(axis=1)
