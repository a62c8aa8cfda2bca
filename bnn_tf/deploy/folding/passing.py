"""How a constant per channel passes through layers without weights."""

from collections.abc import Sequence

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.folding import pooling
from bnn_tf.deploy.graph import Spec
from bnn_tf.layers import ChannelPad

Shape = tuple[int | None, ...]


def is_sum(layer: Spec) -> bool:
    """Whether a layer adds up its inputs, also as the operator `+`."""
    operator = layer.config.get("function") in ("__operators__.add", "math.add")
    return layer.kind is tf.keras.layers.Add or operator


def through(layer: Spec, offsets: Sequence[np.ndarray | None], shapes: Sequence[Shape]) -> np.ndarray | None:
    """The constant of the output if each input has one more `offset` per channel; None if it is no constant.

    Args:
        layer: A layer that is neither affine nor a convolution nor dense.
        offsets: One for each input; None stands for zeros.
        shapes: Those of the inputs, then that of the output.
    """
    *sources, result = shapes
    given = [
        np.zeros(shape[-1:]) if offset is None else offset  # type: ignore[arg-type]
        for offset, shape in zip(offsets, sources, strict=True)
    ]
    channels = result[-1] if result else None
    if is_sum(layer) and len(given) > 1 and all(shape[-1:] == (channels,) for shape in sources):
        return np.sum(given, axis=0)
    if len(given) > 1 or channels is None:
        return None
    if pooling.is_pool(layer) or layer.kind is tf.keras.layers.Dropout:
        return given[0]
    if layer.kind is tf.keras.layers.Reshape:
        return given[0] if channels == len(given[0]) else None
    if layer.kind is tf.keras.layers.Flatten and layer.config["data_format"] == "channels_last":
        return np.tile(given[0], channels // len(given[0]))
    if layer.kind is ChannelPad:
        return np.pad(given[0], (layer.config["before"], layer.config["after"]))
    return None
