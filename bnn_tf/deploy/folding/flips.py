"""Minus signs of channels on their way into the kernels that read them."""

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.folding import linear, signs
from bnn_tf.deploy.folding.affine import Affine
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.layers import HardTanh, LeakyClip

_ODD = (
    HardTanh,
    LeakyClip,
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.Dropout,
    tf.keras.layers.Flatten,
    tf.keras.layers.GlobalAveragePooling2D,
)
_ODD_FUNCTIONS = (lq.activations.hard_tanh, lq.activations.leaky_tanh, "tanh", "softsign", "linear")


def with_positive_scale(graph: Graph, tensor: Tensor, affine: Affine) -> Affine | None:
    """A map with no scale below 0 that may stand for `affine`, which makes `tensor`; None if there is none.

    Where all that reads `tensor` is a kernel, behind odd functions (`f(-x) = -f(x)`: signs, hard-tanh,
    average pools), the minus of a channel goes into the kernel: `W f(a x + b) = -W f(|a| x - b)` for
    `a < 0`. Padding must be zero, or none. At `a x + b = 0` the sign is +1 on either side; to keep it the
    bias moves to `-b - ε` with `ε = 1e-6 max(|b|, |a|)`, which is about the rounding error of float32.
    """
    negative = affine.scale < 0
    if not negative.any():
        return affine
    found = _kernels(graph, tensor)
    if not found:
        return None
    flip = np.where(negative, -1.0, 1.0)
    for call in found:
        _flip_inputs(call, np.tile(flip, linear.inputs(call.layer) // len(flip)))
    return absolute(affine, any(signs.takes_signs(call.layer) for call in found))


def absolute(affine: Affine, strict: bool = True) -> Affine:
    """The map with the channels of negative scale turned around, 0 becoming a little less if `strict`."""
    size, negative = np.abs(affine.scale), affine.scale < 0
    nudge = 1e-6 * np.maximum(np.abs(affine.bias), size) if strict else 0.0
    return Affine(size, np.where(negative, -affine.bias - nudge, affine.bias))


def _flip_inputs(call: Call, flip: np.ndarray) -> None:
    linear.scale_inputs(call.layer, flip)
    signs.view([call], lambda values: values * flip.astype(values.dtype))


def _kernels(graph: Graph, tensor: Tensor) -> list[Call]:
    """The calls whose kernels may take the minus; none if anything else reads `tensor`."""
    found: list[Call] = []
    for call in graph.consumers(tensor):
        behind = [call] if _takes_flips(graph, call) else []
        if not behind and _is_odd(call.layer):
            behind = _kernels(graph, call.outputs[0])
        if not behind or tensor in graph.outputs:
            return []
        found += behind
    return found


def _is_odd(layer: Spec) -> bool:
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in _ODD_FUNCTIONS
    return layer.kind in _ODD and layer.config.get("data_format", "channels_last") == "channels_last"


def _takes_flips(graph: Graph, call: Call) -> bool:
    layer = call.layer
    if not linear.has_matrix(layer) or graph.is_shared(layer):
        return False
    real = layer.config.get("input_quantizer") is None
    return (real or signs.takes_signs(layer)) and linear.pads_with_zeros(layer)
