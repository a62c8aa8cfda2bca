"""Which layers see nothing of their input but its signs, and what may change before them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
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
