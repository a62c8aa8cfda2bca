"""Accuracy and loss of anything that turns images into logits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_tf import data
from bnn_tf.errors import UserError
from bnn_tf.values import InNotebooks

_SUM_ERROR = 0.02  # five levels of 1/256


@dataclasses.dataclass(frozen=True)
class Evaluation(InNotebooks):
    """Results on the held-out images.

    Args:
        images: How many.
        top1: Share of images whose label has the largest logit.
        top5: Share of images whose label is among the five largest; `None` with five classes or fewer.
        loss: Mean cross-entropy.

    Example:
        >>> print(Evaluation(images=360, top1=0.95, top5=None, loss=0.21))
        top-1 95.00%  loss 0.2100  (360 images)
    """

    images: int
    top1: float
    top5: float | None
    loss: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """One line."""
        top5 = "" if self.top5 is None else f"  top-5 {self.top5:.2%}"
        images = f"{self.images:,} image{'s' * (self.images != 1)}"
        return f"top-1 {self.top1:.2%}{top5}  loss {self.loss:.4f}  ({images})"


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    source: data.Source,
    settings: data.Images,
    batch_size: int = 128,
) -> Evaluation:
    """Runs `predict` (images to logits or probabilities) over all of the dataset's held-out images.

    A network with one output tells two classes apart, see `as_logits`.

    Raises:
        UserError: the dataset cannot be read, or has more classes than there are logits, or the outputs are
            no logits of images.

    Example:
        >>> source = data.load("digits")
        >>> evaluate(lambda images: np.zeros((len(images), 10)), source, data.Images(size=8)).images
        360
    """
    logits, labels = [], []
    with data.clear_errors():
        for images, truth in data.evaluation_batches(source, settings, batch_size).as_numpy_iterator():
            logits.append(predict(images))
            labels.append(truth)
    outputs = np.concatenate(logits)
    if outputs.ndim != 2:
        raise UserError(f"the model gives outputs of shape {outputs.shape[1:]}, not one value for each class")
    values = as_logits(outputs)
    if values.shape[1] < source.num_classes:
        raise UserError(f"{source.name} has {source.num_classes} classes, the model knows {values.shape[1]}")
    return score(values, np.concatenate(labels))


def as_logits(values: np.ndarray) -> np.ndarray:
    """The logits `(n, classes)` that a network's outputs `(n, …)` stand for.

    One output tells two classes apart: values that all lie between 0 and 1 are probabilities of class 1, as
    of a sigmoid, others are its logits. Several outputs between 0 and 1 that sum up to 1 for every image are
    probabilities, as of a softmax; the sum may be off by what rounding to 8 bits costs.

    Example:
        >>> as_logits(np.array([[0.2], [0.9]])).argmax(axis=1)
        array([0, 1])
        >>> as_logits(np.array([[0.25, 0.75]])).round(2)
        array([[-1.39, -0.29]])
    """
    shares = ((values >= 0) & (values <= 1) | np.isnan(values)).all()
    if values.shape[1] == 1:
        if not shares:
            return np.concatenate([np.zeros_like(values), values], axis=1)
        values = np.concatenate([1 - values, values], axis=1)
    elif not shares or not (np.abs(values.sum(axis=1) - 1) < _SUM_ERROR).all():
        return values
    return np.log(np.clip(values, 1e-7, 1.0))


def score(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """The result of logits `(n, classes)` against labels `(n,)`.

    A label's rank is the number of classes that come before it: those with larger logits, and of equal
    ones those with smaller numbers, as with `argmax`. Nothing that is not a number counts as correct.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    rank = (~(logits <= own) | ((logits == own) & earlier)).sum(axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    own_shifted = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return Evaluation(
        images=len(labels),
        top1=float(np.mean(rank < 1)),
        top5=float(np.mean(rank < 5)) if logits.shape[1] > 5 else None,
        loss=float(np.mean(log_sum - own_shifted)),
    )
