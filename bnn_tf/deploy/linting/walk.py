"""Ways through a graph that lint takes: back to what made a tensor, forward to who reads it."""

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor

_NO_OPS = (
    tf.keras.layers.ActivityRegularization,
    tf.keras.layers.AlphaDropout,
    tf.keras.layers.Dropout,
    tf.keras.layers.GaussianDropout,
    tf.keras.layers.GaussianNoise,
    tf.keras.layers.SpatialDropout2D,
)
BATCH_NORMS = (
    tf.keras.layers.BatchNormalization,
    tf.keras.layers.experimental.SyncBatchNormalization,
)


@dataclasses.dataclass(frozen=True)
class Padding:
    """Padding of the map by a layer of its own.

    Attributes:
        sides: `((top, bottom), (left, right))`.
        value: What is put there; None for reflections.
    """

    sides: tuple[tuple[int, int], tuple[int, int]]
    value: float | None


def producer(graph: Graph, tensor: Tensor) -> Call:
    """The call that makes a tensor."""
    return next(call for call in graph.calls if tensor in call.outputs)


def is_no_op(layer: Spec) -> bool:
    """Whether a layer passes its input on unchanged in inference."""
    if issubclass(layer.kind, tf.keras.layers.Activation):
        return layer.config["activation"] == "linear"
    return issubclass(layer.kind, _NO_OPS)


def function_of(layer: Spec) -> str:
    """Name of the TensorFlow function that stands as a layer in the graph, e.g. `"math.sign"`; else empty."""
    return str(layer.config.get("function", "")) if layer.kind.__name__ == "TFOpLambda" else ""


def is_batch_norm(layer: Spec) -> bool:
    """Whether a layer is a batch normalization."""
    return issubclass(layer.kind, BATCH_NORMS)


def padding_of(call: Call) -> Padding | None:
    """What a call pads the map with, if that is all it does."""
    if issubclass(call.layer.kind, tf.keras.layers.ZeroPadding2D):
        if call.layer.config["data_format"] != "channels_last":
            return None
        return Padding(_sides(*call.layer.config["padding"]), 0.0)
    if function_of(call.layer) not in ("pad", "compat.v1.pad"):
        return None
    given = _arguments(call, tf.compat.v1.pad)
    sides = np.asarray(given["paddings"])
    if sides.shape != (4, 2) or sides[[0, 3]].any():
        return None
    constant = str(given.get("mode", "CONSTANT")).upper() == "CONSTANT"
    return Padding(_sides(*sides[1:3]), float(given.get("constant_values", 0.0)) if constant else None)


def _sides(height: Sequence[int], width: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (int(height[0]), int(height[1])), (int(width[0]), int(width[1]))


def _arguments(call: Call, function: Any) -> dict[str, Any]:
    args, kwargs = call.arguments([None] * len(call.inputs))
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


def backwards(graph: Graph, tensor: Tensor) -> Iterator[Call]:
    """The calls that made `tensor`, the last one first, as long as each has one input and no weights."""
    while True:
        call = producer(graph, tensor)
        if len(set(call.inputs)) != 1 or len(call.outputs) != 1 or call.layer.weights:
            return
        yield call
        tensor = call.inputs[0]


def forwards(graph: Graph, tensor: Tensor) -> Iterator[Call]:
    """The calls behind `tensor`, each being the only reader of the one before."""
    while (call := graph.sole_consumer(tensor)) is not None:
        yield call
        tensor = call.outputs[0]


def behind_affine(graph: Graph, tensor: Tensor) -> tuple[bool, Call | None]:
    """Whether a BatchNormalization or other map per channel follows, and the sole reader after it."""
    passed = False
    for call in forwards(graph, tensor):
        affine = is_batch_norm(call.layer) or call.layer.kind.__name__ in ("OutputScale", "LearnableBias")
        if not affine and not is_no_op(call.layer):
            return passed, call
        passed |= affine
    return passed, None
