"""Does the converted model compute the same as the Keras model?

Both round differently, in the last bits. Where an activation lies so near to zero that rounding decides
its sign, the sign may flip, and one flip spreads: the logits of that image move visibly although nothing
is wrong. An error of the conversion moves the logits of *every* image. So what is judged is how many
images moved, not how far one of them did. Without errors, 1 % of the images moved in a trained CIFAR
ResNet-20, but up to half of them in an untrained Bi-Real-18 at 224x224, which has ten times as many
activations. Where too many moved, `bnn_tf.deploy.layerwise` decides.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from bnn_tf.deploy.graph import ConversionError

MOVED = 1e-3
"""An image has moved if one of its logits differs by more than this times the deviation of all logits."""
MOVED_LIMIT = 0.25
"""Largest share of moved images that is put down to rounding. The median image has then not moved."""
NEAR_TIE = 0.1
"""Two logits of an image closer than this times the deviation of all logits are a near tie."""
DISAGREEMENT_LIMIT = 0.01
"""Largest share of images whose top-1 class differs without a near tie."""


@dataclasses.dataclass(frozen=True)
class LayerSigns:
    """Signs that a layer takes, in Keras and in the file, both given the same signs before.

    Attributes:
        layer: Name of the layer.
        signs: Number of signs compared.
        flipped: How many differ.
        wrong: How many of these belong to values further from zero than rounding reaches.
        largest: Largest value of Keras, in magnitude, whose sign differs.
    """

    layer: str
    signs: int
    flipped: int
    wrong: int
    largest: float

    def __str__(self) -> str:
        wrong = f", {self.wrong:,} not near zero (up to {self.largest:.2g})" if self.wrong else ""
        return f"{self.layer}: {self.flipped:,} of {self.signs:,} signs flipped{wrong}"


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """Comparison of the logits of the same images.

    Attributes:
        images: Number of images compared.
        agreement: Share of images with the same top-1 class.
        disagreements: Number of images with another top-1 class.
        largest_margin: Over the disagreements, the largest lead of Keras' class in Keras' logits.
        clear_disagreements: The disagreements that are no near tie (`NEAR_TIE`).
        moved_share: Share of images that moved (`MOVED`).
        median_difference: Median over the images of the largest difference of a logit.
        max_difference: Largest difference of a logit.
        deviation: Standard deviation of all logits of Keras, the unit of the limits.
        layers_agree: The logits did not settle it, but every layer by itself computes the same
            (`bnn_tf.deploy.layerwise`).
        layers: Flipped signs of each layer that takes some, in the order of the network.
    """

    images: int
    agreement: float
    disagreements: int
    largest_margin: float
    clear_disagreements: int
    moved_share: float
    median_difference: float
    max_difference: float
    deviation: float
    layers_agree: bool = False
    layers: tuple[LayerSigns, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why the models disagree, as part of a sentence; None where they agree."""
        if self.layers_agree:
            return None
        if not math.isfinite(self.max_difference):
            return "one of them gives values that are not finite"
        if self.moved_share > MOVED_LIMIT:
            return (
                f"the logits of {self.moved_share:.0%} of the images differ "
                f"(median difference {self.median_difference:.2g}, logits deviate by {self.deviation:.2g})"
            )
        if self.clear_disagreements > DISAGREEMENT_LIMIT * self.images:
            return (
                f"{self.clear_disagreements} of {self.images} images are classified otherwise "
                f"although their logits are no near tie (largest lead {self.largest_margin:.2g})"
            )
        return None

    @property
    def agrees(self) -> bool:
        """Whether the differences are explained by rounding; the limits stand at the top of this module."""
        return self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {**dataclasses.asdict(self), "agrees": self.agrees}

    def table(self) -> str:
        """Flipped signs, a line per layer."""
        return "\n".join(f"  {layer}" for layer in self.layers)

    def __str__(self) -> str:
        return (
            f"{self.agreement:.2%} of {self.images} images classified alike, {self.moved_share:.1%} moved, "
            f"logit difference median {self.median_difference:.2g}, largest {self.max_difference:.2g}"
            + (
                " (rounding, amplified by the network: each layer by itself agrees)"
                if self.layers_agree
                else ""
            )
        )


class Disagreement(ConversionError):
    """The converted model computes something else; nothing was written.

    Attributes:
        report: The comparison, with the flipped signs of each layer.
    """

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message)
        self.report = report


def compare(keras_logits: np.ndarray, lite_logits: np.ndarray) -> ParityReport:
    """Compares the outputs of the Keras model and of the converted one for the same images.

    Args:
        keras_logits: `(n, classes)`; further axes are flattened.
        lite_logits: The same from the interpreter.

    Raises:
        ValueError: The shapes differ, or there are no images.
    """
    if keras_logits.shape != lite_logits.shape or not len(keras_logits):
        raise ValueError(
            f"expected two equal, non-empty shapes, got {keras_logits.shape} and {lite_logits.shape}"
        )
    images = len(keras_logits)
    keras = np.asarray(keras_logits, np.float64).reshape(images, -1)
    lite = np.asarray(lite_logits, np.float64).reshape(images, -1)
    if not (np.isfinite(keras).all() and np.isfinite(lite).all()):
        return ParityReport(images, 0.0, images, math.nan, images, 1.0, math.nan, math.nan, math.nan)
    unit = deviation(keras)
    difference = np.abs(keras - lite).max(axis=1)
    margin = keras.max(axis=1) - np.take_along_axis(keras, lite.argmax(axis=1)[:, None], axis=1)[:, 0]
    differs = keras.argmax(axis=1) != lite.argmax(axis=1)
    return ParityReport(
        images=images,
        agreement=float(1 - differs.mean()),
        disagreements=int(differs.sum()),
        largest_margin=float(margin[differs].max(initial=0.0)),
        clear_disagreements=int((margin[differs] > NEAR_TIE * unit).sum()),
        moved_share=float((difference > MOVED * unit).mean()),
        median_difference=float(np.median(difference)),
        max_difference=float(difference.max()),
        deviation=unit,
    )


def deviation(logits: np.ndarray) -> float:
    """The unit in which differences are judged: the standard deviation of all values."""
    # Outputs that are all alike (a single unit, an untrained classifier of zeros) have no deviation
    # of their own, and rounding still must not count as movement.
    return max(float(logits.std()), 1e-3 * float(np.abs(logits).max()), 1e-6)
