"""Which layers see nothing of their input but its signs, and what may change before them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.folding import linear
from bnn_tf.deploy.folding.affine import Affine
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor

_RESHAPING = (
    tf.keras.layers.Dropout,
    tf.keras.layers.Flatten,
    tf.keras.layers.GlobalMaxPooling2D,
    tf.keras.layers.MaxPooling2D,
    tf.keras.layers.Reshape,
)
"""Layers that commute with the sign: they move values or take the largest of some."""
_PROBES = np.array([1e-30, 1e-6, 0.3, 1.0, 1.5, 40.0], np.float32)


def readers(graph: Graph, tensor: Tensor) -> list[Call] | None:
    """The calls that take the signs of `tensor`, directly or behind max pools.

    None if anything else can see its values.
    """
    if tensor in graph.outputs:
        return None
    found: list[Call] = []
    for call in graph.consumers(tensor):
        if takes_signs(call.layer):
            found.append(call)
        elif call.layer.kind in _RESHAPING:
            behind = readers(graph, call.outputs[0])
            if behind is None:
                return None
            found += behind
        else:
            return None
    return found


def takes_signs(layer: Spec) -> bool:
    """Whether a layer turns its input into -1 and +1 first, 0 becoming +1."""
    return is_sign(_input_quantizer(layer))


def is_sign(quantizer: Any) -> bool:
    """Whether a quantizer is `x -> +1 if x >= 0 else -1`, element by element; found by trying it."""
    if not callable(quantizer) or getattr(quantizer, "weights", []):
        return False
    probes = [_PROBES, -_PROBES, np.zeros_like(_PROBES), np.concatenate([_PROBES, 1 - _PROBES])]
    for values in probes:
        signs: np.ndarray = np.asarray(quantizer(tf.constant(values[None])))
        if signs.shape != (1, *values.shape) or (signs[0] != np.where(values >= 0, 1, -1)).any():
            return False
    return True


def _input_quantizer(layer: Spec) -> Any:
    if layer.kind is tf.keras.layers.Activation:
        activation = layer.config["activation"]
        return activation if isinstance(activation, lq.quantizers.Quantizer) else None
    if issubclass(layer.kind, lq.quantizers.Quantizer):
        return layer.origin
    return layer.config.get("input_quantizer")


def view(calls: list[Call], restore: Callable[[np.ndarray], np.ndarray]) -> None:
    """Notes for the proof of a conversion how to get back what `calls` read before folding."""
    for call in calls:
        call.restores.insert(0, restore)


def with_positive_scale(graph: Graph, tensor: Tensor, affine: Affine) -> Affine | None:
    """A map with scales above 0 that may stand for `affine`, which makes `tensor`; None if there is none.

    Where only signs are seen, `sign(a x + b) = -sign(|a| x - b)` for `a < 0`. The minus goes into the
    kernels behind, provided that they pad with zeros or not at all. At `a x + b = 0` the sign is +1, so
    that the bias moves a little to keep it: to `-b - ε` with `ε = 1e-6 max(|b|, |a|)`, which is about the
    rounding error of float32.
    """
    negative = affine.scale < 0
    if not negative.any():
        return affine
    found = readers(graph, tensor)
    if not found or not all(_takes_flips(graph, call) for call in found):
        return None
    flip = np.where(negative, -1.0, 1.0)
    for call in found:
        linear.scale_inputs(call.layer, flip)
    view(found, lambda values: values * flip.astype(values.dtype))
    size = np.abs(affine.scale)
    nudge = np.where(negative, 1e-6 * np.maximum(np.abs(affine.bias), size), 0.0)
    return Affine(size, flip * affine.bias - nudge)


def _takes_flips(graph: Graph, call: Call) -> bool:
    layer = call.layer
    if not linear.is_convolution(layer) or layer.config.get("groups", 1) != 1 or graph.is_shared(layer):
        return False
    same_channels = graph.shapes[call.inputs[0]][-1] == layer.weights["kernel"].shape[-2]
    return same_channels and (not linear.pads(layer) or linear.pad_value(layer) == 0)
