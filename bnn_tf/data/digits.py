"""The embedded default: scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from functools import partial

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.data.source import Arrays, ArraySplit, Source

_HELD_OUT = 360


def load(name: str = "digits") -> Source:
    """Digits as 32x32x3 images: 1,437 to train and 360, drawn once from each class alike, held out."""
    labels = _raw()[1]
    test = _held_out(labels)
    train = np.setdiff1d(np.arange(len(labels)), test)
    shuffled = np.random.default_rng(1).permutation(train)  # the file repeats 0..9, writer by writer
    splits = {
        split: ArraySplit(len(indices), partial(_images, indices))
        for split, indices in (("train", shuffled), ("test", test))
    }
    return Source(name, [str(digit) for digit in range(10)], (32, 32, 3), splits)


def _raw() -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Indices of a fixed random part that holds every class in proportion (to within one example)."""
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    even = (np.arange(_HELD_OUT) * len(labels)) // _HELD_OUT
    return rng.permutation(by_class[even])


def _images(indices: np.ndarray, count: int) -> Arrays:
    """The first 8x8 images of values 0..16, scaled up bicubically to 32x32x3 and to 0..255."""
    images, labels = _raw()
    indices = indices[:count]
    grey = tf.image.resize(images[indices, :, :, None] * (255 / 16), (32, 32), method="bicubic")
    whole = tf.saturate_cast(tf.round(grey), tf.uint8).numpy()
    return np.repeat(whole, 3, axis=-1), labels[indices]
