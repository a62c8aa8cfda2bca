"""Algebra on the graph before conversion: what need not be computed on the device is folded away.

Every rule keeps the network's function (up to rounding) in inference. A chain of per-channel affine
maps after a convolution becomes one map `y = a · x + b`, written as a BatchNormalization, which LCE
fuses into the convolution.
"""

import dataclasses
import functools

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import binary, freezing
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor, unique_name
from bnn_tf.layers import LearnableBias, OutputScale

_BatchNormalization = tf.keras.layers.BatchNormalization
_HOMOGENEOUS = (
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.Dropout,
    tf.keras.layers.GlobalAveragePooling2D,
    tf.keras.layers.GlobalMaxPooling2D,
    tf.keras.layers.LeakyReLU,
    tf.keras.layers.MaxPooling2D,
    tf.keras.layers.PReLU,
)


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map `y = scale · x + bias` per channel, in double precision."""

    scale: np.ndarray
    bias: np.ndarray

    def after(self, first: "Affine") -> "Affine":
        """The map that applies `first` and then this one."""
        return Affine(self.scale * first.scale, self.scale * first.bias + self.bias)

    @property
    def is_scale(self) -> bool:
        """Whether it adds nothing."""
        return not self.bias.any()

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.is_scale and bool((self.scale == 1).all())


def fold(model: tf.keras.Model) -> tf.keras.Model:
    """The frozen network (see `freeze`) without operations that algebra can remove.

    - Kernels of binary convolutions become exactly ±1. Their scale per filter, the convolution's bias
      and the `OutputScale`, `LearnableBias` and `BatchNormalization` layers behind it become one map
      per channel. On its way, a scale passes pooling and layers that commute with it (ReLU, PReLU).
      So a filter with scale 0 works, which LCE's converter alone would leave in float.

    The result computes the same in inference and is not for training.

    Raises:
        ConversionError: The model is subclassed or not built.
    """
    graph = freezing.read_frozen(model)
    fold_graph(graph)
    return graph.build()


def fold_graph(graph: Graph) -> None:
    """Applies all rules to a graph of frozen layers."""
    for call in list(graph.calls):
        if _is_binary_convolution(call.layer) and not graph.is_shared(call.layer):
            _split_activation(graph, call)
            _fold_after(graph, call)


def _is_binary_convolution(layer: Spec) -> bool:
    return (
        issubclass(layer.kind, lq.layers.QuantConv2D)
        and not issubclass(layer.kind, lq.layers.QuantConv2DTranspose)
        and layer.config["data_format"] == "channels_last"
        and binary.is_binary(layer.config["input_quantizer"])
        and layer.config["kernel_quantizer"] is None
        and binary.filter_scales(layer.weights["kernel"]) is not None
    )


def _split_activation(graph: Graph, call: Call) -> None:
    """Makes the activation inside a convolution a layer of its own, so that scales can stand between."""
    activation = call.layer.config["activation"]
    if activation == "linear":
        return
    name = unique_name(graph, f"{call.layer.name}_activation")
    config = {"name": name, "activation": activation, "dtype": "float32"}
    graph.insert_after(call.outputs[0], Spec(tf.keras.layers.Activation, config))
    call.layer.config["activation"] = "linear"


def _fold_after(graph: Graph, convolution: Call) -> None:
    """Makes the kernel ±1 and joins its scales and the affine maps directly behind it into one."""
    output, layer = convolution.outputs[0], convolution.layer
    chain = _affine_chain(graph, output)
    maps = [_kernel_map(layer), *(affine for _, affine in chain)]
    if maps[0].is_identity and all(_is_batch_norm(call.layer) for call, _ in chain) and len(chain) <= 1:
        return
    _normalize_kernel(layer)
    for call, _ in chain:
        graph.remove(call)
    joined = functools.reduce(lambda first, second: second.after(first), maps)
    if joined.is_scale:
        joined = _push_scale(graph, convolution, joined)
    if not joined.is_identity:
        names = [call.layer.name for call, _ in chain if _is_batch_norm(call.layer)]
        name = names[-1] if names else unique_name(graph, f"{layer.name}_affine")
        graph.insert_after(output, batch_norm(name, joined))


def _affine_chain(graph: Graph, tensor: Tensor) -> list[tuple[Call, Affine]]:
    chain: list[tuple[Call, Affine]] = []
    while (reader := graph.sole_consumer(tensor)) and (affine := affine_of(graph, reader)):
        chain.append((reader, affine))
        tensor = reader.outputs[0]
    return chain


def _push_scale(graph: Graph, convolution: Call, joined: Affine) -> Affine:
    """Moves a scale behind commuting layers into the next affine map; returns what is left to do here."""
    reader = graph.sole_consumer(convolution.outputs[0])
    while reader is not None and _commutes_with_scales(reader.layer):
        reader = graph.sole_consumer(reader.outputs[0])
    own = affine_of(graph, reader) if reader else None
    if reader is None or own is None:
        return joined
    # Max pooling and ReLU commute with positive scales only; a binary kernel takes any sign for free.
    kernel = convolution.layer.weights["kernel"]
    convolution.layer.weights["kernel"] = np.where(joined.scale < 0, -kernel, kernel)
    reader.layer = batch_norm(reader.layer.name, own.after(Affine(np.abs(joined.scale), joined.bias)))
    return Affine(np.ones_like(joined.scale), joined.bias)


def _kernel_map(layer: Spec) -> Affine:
    scale = binary.filter_scales(layer.weights["kernel"])
    assert scale is not None  # checked by the caller
    return Affine(scale.astype(np.float64), _double(layer.weights.get("bias", np.zeros_like(scale))))


def _normalize_kernel(layer: Spec) -> None:
    layer.weights["kernel"] = np.where(layer.weights["kernel"] < 0, -1.0, 1.0).astype(np.float32)
    layer.weights.pop("bias", None)
    layer.config["use_bias"] = False


def affine_of(graph: Graph, call: Call) -> Affine | None:
    """The affine map per channel (last axis) that a call computes in inference, if it is one."""
    weights = call.layer.weights
    if call.layer.kind is OutputScale:
        return Affine(_double(weights["scale"]), np.zeros(weights["scale"].shape))
    if call.layer.kind is LearnableBias:
        return Affine(np.ones(weights["bias"].shape), _double(weights["bias"]))
    if not _is_batch_norm(call.layer):
        return None
    rank = len(graph.shapes[call.inputs[0]])
    if [axis % rank for axis in np.atleast_1d(call.layer.config["axis"])] != [rank - 1]:
        return None
    mean, variance = _double(weights["moving_mean"]), _double(weights["moving_variance"])
    scale = weights.get("gamma", 1.0) / np.sqrt(variance + call.layer.config["epsilon"])
    return Affine(scale, weights.get("beta", 0.0) - mean * scale)


def batch_norm(name: str, affine: Affine) -> Spec:
    """A BatchNormalization that computes `affine` in inference (mean 0, variance 1, no epsilon)."""
    weights = {
        "gamma": affine.scale,
        "beta": affine.bias,
        "moving_mean": np.zeros_like(affine.scale),
        "moving_variance": np.ones_like(affine.scale),
    }
    config = {"name": name, "axis": -1, "epsilon": 0.0, "dtype": "float32"}
    return Spec(
        _BatchNormalization, config, {key: value.astype(np.float32) for key, value in weights.items()}
    )


def _double(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _is_batch_norm(layer: Spec) -> bool:
    return layer.kind in (_BatchNormalization, tf.keras.layers.experimental.SyncBatchNormalization)


def _commutes_with_scales(layer: Spec) -> bool:
    """Whether `f(s · x) = s · f(x)` for every s >= 0 that is constant over the map."""
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in ("linear", "relu")
    if layer.kind is tf.keras.layers.ReLU:
        return layer.config["max_value"] is None and layer.config["threshold"] == 0
    return layer.kind in _HOMOGENEOUS
