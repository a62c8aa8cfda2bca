"""Affine maps before dense layers and real convolutions."""

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.folding import linear
from bnn_tf.deploy.folding.affine import Affine, affine_of
from bnn_tf.deploy.graph import Call, Graph, Spec

_TRANSPARENT = (
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.Dropout,
    tf.keras.layers.Flatten,
    tf.keras.layers.GlobalAveragePooling2D,
)
"""Layers that commute with maps per channel."""


def fold_inputs(graph: Graph) -> None:
    """Folds maps into the dense layer or real convolution that reads them.

    `W(a x + b) + c = (W a) x + (W b + c)`.

    Average pools, Flatten and Dropout may stand between. Convolutions that pad take scales only. Maps
    behind a convolution stay, for they cost nothing there.
    """
    for call in reversed(list(graph.calls)):
        affine = affine_of(graph, call)
        if affine is None or graph.is_shared(call.layer) or linear.is_fused(graph, call):
            continue
        reader = _reader(graph, call)
        if reader is not None and _takes(reader, affine):
            linear.take_affine(reader.layer, _spread(affine, reader))
            graph.remove(call)


def _reader(graph: Graph, call: Call) -> Call | None:
    reader = graph.sole_consumer(call.outputs[0])
    while reader is not None and _is_transparent(reader.layer):
        reader = graph.sole_consumer(reader.outputs[0])
    return reader if reader is not None and linear.is_linear(reader.layer) else None


def _is_transparent(layer: Spec) -> bool:
    return layer.kind in _TRANSPARENT and layer.config.get("data_format", "channels_last") == "channels_last"


def _takes(reader: Call, affine: Affine) -> bool:
    shift_fits = affine.is_scale or linear.takes_shift(reader.layer)
    return shift_fits and linear.takes_scale(reader.layer)


def _spread(affine: Affine, reader: Call) -> Affine:
    """The map for all inputs of a layer that sees every channel of every pixel."""
    pixels = linear.inputs(reader.layer) // len(affine.scale)
    return Affine(np.tile(affine.scale, pixels), np.tile(affine.bias, pixels))
