"""Where a network computes with 8-bit numbers: which layers, and which of the tensors between them."""

import dataclasses
from collections.abc import Iterator

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import binary
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.layers import BatchNormalization, ChannelPad, Flip, HardTanh, LearnableBias, OutputScale

_layers = tf.keras.layers
_CONVOLUTIONS = (_layers.Conv2D, lq.layers.QuantConv2D)
_DENSE = (_layers.Dense, lq.layers.QuantDense)
_FUSING = (*_CONVOLUTIONS, *_DENSE, _layers.Add)
_AFFINE = (BatchNormalization, _layers.BatchNormalization, LearnableBias, OutputScale)
_RELUS = ("linear", "relu", "relu6")
_SAME_VALUES = (
    _layers.Cropping2D,
    _layers.Dropout,
    _layers.Flatten,
    _layers.MaxPooling2D,
    _layers.Permute,
    _layers.Reshape,
    _layers.ZeroPadding2D,
    ChannelPad,
    Flip,
)
"""Layers that only hand on values and zeros, so that their output needs no range of its own."""


@dataclasses.dataclass
class Sites:
    """What becomes int8.

    Attributes:
        layers: Calls of the convolutions and dense layers that get int8 kernels.
        tensors: Tensors that are rounded to a range of their own.
        averages: Average-pooled tensors that take the range of what was pooled, with that tensor.
        guarded: Average-pooled tensors through which the range of a layer's input must not reach what
            was pooled, with that layer's call.
        probabilities: Outputs of softmax and sigmoid behind a classifier, whose range is fixed.
    """

    layers: list[Call] = dataclasses.field(default_factory=list)
    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    averages: dict[Tensor, Tensor] = dataclasses.field(default_factory=dict)
    guarded: list[tuple[Tensor, Call]] = dataclasses.field(default_factory=list)
    probabilities: list[Tensor] = dataclasses.field(default_factory=list)

    def add(self, graph: Graph, call: Call, before: Tensor) -> None:
        """Makes a layer int8, with its input (rounded at `before`) and output."""
        self.layers.append(call)
        self.tensors += [before, _fusion(graph, call)[-1]]


def mixed(graph: Graph) -> Sites:
    """The input, the first convolution with its pool, and the dense layers at the end."""
    sites = Sites()
    stem = _stem(graph)
    if stem is not None:
        sites.add(graph, stem, graph.inputs[0])
    classifier = _classifier(graph)
    if classifier:
        sites.probabilities += _probabilities(graph)
    for call in classifier:
        if call is not stem:
            sites.add(graph, call, call.inputs[0])
            sites.guarded += [(pooled, call) for pooled in _averages_before(graph, call.inputs[0])]
    return sites


def full(graph: Graph) -> Sites:
    """Everything that is not binary."""
    layers = [call for call in graph.calls if is_real(graph, call)]
    sites = Sites(layers=layers, probabilities=_probabilities(graph))
    chains = [_fusion(graph, call) for call in graph.calls if call.layer.kind in _FUSING]
    fused = {tensor for chain in chains for tensor in chain[:-1]}
    binary_ends = {_fusion(graph, call)[-1] for call in graph.calls if is_binary_kernel(call)}
    for call in graph.calls:
        output = call.outputs[0]
        if (
            len(call.outputs) > 1
            or output in fused
            or _keeps_values(call.layer)
            or output in sites.probabilities
        ):
            continue
        if output in binary_ends and _only_signs_read(graph, output):
            continue  # the convolution gives bits
        pooled = source(graph, call.inputs[0]) if call.layer.kind is _layers.AveragePooling2D else None
        if pooled in sites.tensors:
            sites.averages[output] = pooled
        else:
            sites.tensors.append(output)
    return sites


def is_real(graph: Graph, call: Call) -> bool:
    """Whether a call is of a real-valued convolution or dense layer that can get an int8 kernel."""
    config, kernel = call.layer.config, call.layer.weights.get("kernel")
    if call.layer.kind not in _CONVOLUTIONS + _DENSE or kernel is None or graph.is_shared(call.layer):
        return False
    if config.get("input_quantizer") or config.get("kernel_quantizer"):
        return False
    if call.layer.kind in _DENSE:
        return len(call.inputs[0].shape) == 2
    return (
        config["data_format"] == "channels_last"
        and config.get("groups", 1) == 1
        and not (config["padding"] == "same" and config.get("pad_values", 0))
        and not is_binary_kernel(call)
    )


def without_one_padding(graph: Graph) -> list[str]:
    """The binary convolutions that pad with zeros, whose output cannot be int8."""
    return [
        call.layer.name
        for call in graph.calls
        if is_binary_kernel(call)
        and call.layer.config["padding"] == "same"
        and call.layer.config.get("pad_values", 0) != 1
        and set(call.layer.config["kernel_size"]) != {1}
    ]


def is_binary_kernel(call: Call) -> bool:
    """Whether a call is of a convolution of which every filter is ±s."""
    if call.layer.kind not in _CONVOLUTIONS or "kernel" not in call.layer.weights:
        return False
    kernel = call.layer.weights["kernel"]
    return kernel[..., 0].size > 1 and binary.filter_scales(kernel) is not None


def _stem(graph: Graph) -> Call | None:
    """The convolution that takes the input, perhaps padded."""
    tensor = graph.inputs[0]
    while (reader := graph.sole_consumer(tensor)) is not None:
        if reader.layer.kind in _CONVOLUTIONS:
            return reader if is_real(graph, reader) else None
        if not _keeps_values(reader.layer):
            return None
        tensor = reader.outputs[0]
    return None


def _classifier(graph: Graph) -> list[Call]:
    """The dense layers at the end, with what may stand between and behind them."""
    found = []
    for call in _backwards(graph, graph.outputs[0]):
        if call.layer.kind in _DENSE and is_real(graph, call):
            found.append(call)
        elif not (_keeps_values(call.layer) or _is_relu(call.layer) or _gives_probabilities(call.layer)):
            break
    return found[::-1]


def _averages_before(graph: Graph, tensor: Tensor) -> list[Tensor]:
    """The average-pooled tensor that reaches `tensor` through layers that only hand on values, if any."""
    for call in _backwards(graph, tensor):
        if call.layer.kind is _layers.AveragePooling2D:
            return [call.outputs[0]]
        if not _keeps_values(call.layer):
            break
    return []


def source(graph: Graph, tensor: Tensor) -> Tensor:
    """The tensor whose range `tensor` has, before pools and layers that only hand on values."""
    maker = graph.producer(tensor)
    keeps = _keeps_values(maker.layer) or maker.layer.kind is _layers.AveragePooling2D
    return source(graph, maker.inputs[0]) if keeps else tensor


def _backwards(graph: Graph, tensor: Tensor) -> Iterator[Call]:
    """The calls that made `tensor`, last first, as long as each has one input that nothing else reads."""
    while True:
        maker = graph.producer(tensor)
        yield maker
        if len(maker.inputs) != 1 or graph.sole_consumer(maker.inputs[0]) is not maker:
            return
        (tensor,) = maker.inputs


def _fusion(graph: Graph, call: Call) -> list[Tensor]:
    """The outputs of a call and of the layers behind it that the converter makes part of it."""
    tensors = [call.outputs[0]]
    reader = graph.sole_consumer(tensors[-1])
    if reader is not None and _is_relu(reader.layer):
        tensors.append(reader.outputs[0])
        reader = graph.sole_consumer(tensors[-1])
    if reader is not None and is_binary_kernel(call) and reader.layer.kind in _AFFINE:
        tensors.append(reader.outputs[0])
    return tensors


def _only_signs_read(graph: Graph, tensor: Tensor) -> bool:
    readers = graph.consumers(tensor)
    return bool(readers) and all(
        _only_signs_read(graph, reader.outputs[0])
        if reader.layer.kind is _layers.MaxPooling2D
        else _takes_signs(reader.layer)
        for reader in readers
    )


def _takes_signs(layer: Spec) -> bool:
    activation = layer.config.get("activation") if layer.kind is _layers.Activation else None
    return (
        _is_sign(activation)
        or issubclass(layer.kind, lq.quantizers.Quantizer)
        or bool(layer.config.get("input_quantizer"))
    )


def _is_sign(activation: object) -> bool:
    return isinstance(activation, lq.quantizers.Quantizer)


def _keeps_values(layer: Spec) -> bool:
    if layer.kind is _layers.Activation:
        return _is_sign(layer.config["activation"]) or layer.config["activation"] == "linear"
    return layer.kind in _SAME_VALUES or issubclass(layer.kind, lq.quantizers.Quantizer)


def _is_relu(layer: Spec) -> bool:
    """Whether the converter makes the layer the activation of a convolution."""
    config = layer.config
    if layer.kind is _layers.Activation:
        return config["activation"] in _RELUS
    if layer.kind is _layers.ReLU:
        return config["max_value"] in (None, 6) and not config["threshold"] and not config["negative_slope"]
    return layer.kind is HardTanh


def _probabilities(graph: Graph) -> list[Tensor]:
    return [tensor for tensor in graph.outputs if _gives_probabilities(graph.producer(tensor).layer)]


def _gives_probabilities(layer: Spec) -> bool:
    return layer.kind is _layers.Softmax or (
        layer.kind is _layers.Activation and layer.config["activation"] in ("softmax", "sigmoid")
    )
