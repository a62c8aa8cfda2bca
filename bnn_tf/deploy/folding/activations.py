"""Activations that nobody sees, and the slopes of PReLU."""

from collections.abc import Callable

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.folding import linear, signs
from bnn_tf.deploy.graph import Call, Graph, Spec, unique_name
from bnn_tf.layers import HardTanh, LeakyClip

_MONOTONE = (lq.activations.hard_tanh, lq.activations.leaky_tanh, "tanh", "softsign", "linear")


def split(graph: Graph, call: Call) -> None:
    """Makes the activation inside a layer a layer of its own, so that others can stand between."""
    if not linear.has_activation(call.layer):
        return
    name = unique_name(graph, f"{call.layer.name}_activation")
    config = {"name": name, "activation": call.layer.config["activation"], "dtype": "float32"}
    graph.insert_after(call.outputs[0], Spec(tf.keras.layers.Activation, config))
    call.layer.config["activation"] = "linear"


def drop_before_signs(graph: Graph) -> None:
    """Removes activations that keep the sign of every value where only signs are taken of the result.

    For an `f` with `f(x) >= 0` exactly if `x >= 0`: `sign(f(x)) = sign(x)`, and because the sign is
    monotone, `sign(max(f(x), f(y), …)) = max(sign(x), sign(y), …) = sign(max(x, y, …))`.
    """
    for call in reversed(list(graph.calls)):
        if not _keeps_signs(call.layer):
            continue
        found = signs.readers(graph, call.outputs[0])
        if found and all(_same_channels(graph, call, reader) for reader in found):
            graph.remove(call)
            signs.view(found, _function_of(call.layer))


def _same_channels(graph: Graph, call: Call, reader: Call) -> bool:
    return graph.shapes[call.outputs[0]][-1] == graph.shapes[reader.inputs[0]][-1]


def _keeps_signs(layer: Spec) -> bool:
    if layer.kind in (HardTanh, LeakyClip):
        return layer.config.get("slope", 0.1) > 0
    if layer.kind is tf.keras.layers.PReLU:
        return bool((layer.weights["alpha"] > 0).all()) and layer.weights["alpha"].shape[:-1] == (1, 1)
    if layer.kind is tf.keras.layers.LeakyReLU:
        return layer.config["alpha"] > 0
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in _MONOTONE
    return False


def _function_of(layer: Spec) -> Callable[[np.ndarray], np.ndarray]:
    def apply(values: np.ndarray) -> np.ndarray:
        live = layer.build()
        live.build(values.shape)
        layer.assign(live)
        return np.asarray(live(values))

    return apply


def share_slopes(graph: Graph) -> None:
    """Gives a PReLU one slope per channel where all pixels of the map have the same ones.

    By default Keras keeps (and trains) a slope per pixel, and so does the file.
    """
    for call in graph.calls:
        slopes = call.layer.weights.get("alpha")
        if call.layer.kind is tf.keras.layers.PReLU and slopes is not None and slopes.ndim == 3:
            first = slopes[:1, :1]
            if slopes.shape[:2] != (1, 1) and (slopes == first).all():
                call.layer.weights["alpha"] = first.copy()
                call.layer.config["shared_axes"] = [1, 2]
