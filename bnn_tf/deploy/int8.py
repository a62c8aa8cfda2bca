"""Networks with 8-bit parts: fake quantization put into a graph before conversion.

Binary convolutions leave the input, the real convolutions and the classifier as the places where
multiplications cost; int8 pays there, and loses where single elements are touched (sums, above all PReLU).
`FORMS` says what each form makes int8, `choose` which one fits a network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.fold import (
    Affine,
    add_bias,
    affine_of,
    layer_of,
    scale_inputs,
    shifted,
    split_activation,
)
from bnn_tf.deploy.graph import Call, ConversionError, Graph, Spec, Tensor, outputs_of, unique_name
from bnn_tf.deploy.lce_file import LceFile
from bnn_tf.errors import some, unknown
from bnn_tf.layers import OutputScale
from bnn_tf.values import InNotebooks

_layers = tf.keras.layers
_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")

FORMS = {
    "classifier": "the dense layers at the end: the file gets smaller, and nothing slower",
    "mixed": "the input, the first convolution and the classifier; the trunk stays float",
    "plus": "every real convolution (first one, shortcuts) and the classifier; the trunk stays float",
    "full": "everything that is not binary, but the average before the classifier; needs binary convolutions "
    "that pad with ones",
}
"""The forms by name, with what is int8 in each."""

AUTO = (
    (20e6, "plus", "its real convolutions take {:.0f} million multiplications, which int8 makes cheaper"),
    (0.0, "classifier", "its real convolutions take only {:.1f} million multiplications, so that changing "
     "between int8 and float around them would cost more than it saves"),
)  # fmt: skip
"""Which form `"auto"` takes: the first row whose number of multiplications of real convolutions is reached.

Counted on AArch64 (millions of instructions, Cortex-A72 / A76): Bi-Real-18 with its 7×7 stem 120 / 119 in
float, 112 / 83 as `plus`, 115 / 86 as `full`; with a cheap stem 67.4 in float, 67.2 as `classifier`, 70.1 /
65.9 as `plus`; CIFAR's ResNet-18 19.2 in float, 19.8 / 19.0 as `mixed`.
"""
_BATCH = 16
_STEP_BITS = 12
_GUARD = 2.0


@dataclasses.dataclass(frozen=True)
class Int8:
    """How a model is to be converted with 8-bit parts.

    Args:
        form: One of `FORMS`, or `"auto"` for the one that `choose` names.
        int8_input: Whether the file takes int8 images, instead of quantizing float32 ones itself.
        int8_output: Whether it returns int8 logits.

    Raises:
        UsageError: There is no such form.

    Example:
        >>> Int8("plus").form
        'plus'
    """

    form: str = "mixed"
    int8_input: bool = False
    int8_output: bool = False

    def __post_init__(self) -> None:
        if self.form not in (*FORMS, "auto"):
            raise unknown("form of int8", self.form, (*FORMS, "auto"))


@dataclasses.dataclass(frozen=True)
class Int8Report(InNotebooks):
    """The 8-bit parts of a file.

    Attributes:
        form: One of `FORMS`.
        reason: Why this form, where it was chosen by `"auto"` or is not quite what was asked for.
        calibration_images: On how many images the ranges were measured.
        layers: The layers with int8 kernels.
        input_type: Element type of the file's input, as it stands in the file.
        output_type: Element type of the output.
        float_agreement: Share of images with the same top-1 class as the model before quantization;
            None where it was not asked for.
    """

    form: str
    reason: str
    calibration_images: int
    layers: list[str]
    input_type: str = ""
    output_type: str = ""
    float_agreement: float | None = None

    def __str__(self) -> str:
        agreement = "not checked" if self.float_agreement is None else f"{self.float_agreement:.2%}"
        return (
            f"int8: {self.form}, {len(self.layers)} layers with int8 kernels, ranges from "
            f"{self.calibration_images} images, {self.input_type} input, {self.output_type} output\n"
            + (f"{self.reason}\n" if self.reason else "")
            + f"agreement with the model before quantization: {agreement}"
        )

    def of_file(self, file: LceFile, settings: Int8) -> Int8Report:
        """The report with the types of input and output as they stand in the file.

        Raises:
            ConversionError: The input or output is not of the type that was asked for.
        """
        types = {"input": file.inputs[0].type.lower(), "output": file.outputs[0].type.lower()}
        for what, wanted in (("input", settings.int8_input), ("output", settings.int8_output)):
            if wanted and types[what] != "int8":
                raise ConversionError(
                    f"the {what} of the file stayed {types[what]}, because the layer there cannot be int8; "
                    f"convert without an int8 {what}, or put a real convolution first and a dense layer last"
                )
        return dataclasses.replace(self, input_type=types["input"], output_type=types["output"])


def choose(graph: Graph, int8_input: bool = False) -> tuple[str, str]:
    """The form that suits a folded network by the table `AUTO`, and why; one with an int8 input if asked."""
    count = sum(_multiplications(call) for call in graph.calls if _is_convolution(graph, call)) / 1e6
    form, reason = next((form, reason) for least, form, reason in AUTO if count >= least / 1e6)
    if int8_input and form == "classifier":
        form, reason = "mixed", "an int8 input needs a first convolution that is int8 as well"
    return form, f"int8 form '{form}': {reason.format(count)}"


def _multiplications(call: Call) -> int:
    transposed = call.layer.kind in _TRANSPOSED
    pixels = (call.inputs if transposed else call.outputs)[0].shape[1:-1]
    return math.prod(_kernel(call.layer).shape) * math.prod(filter(None, pixels))


def quantize_graph(graph: Graph, images: Sequence[np.ndarray], settings: Int8) -> Int8Report:
    """Puts fake quantization into a folded graph; returns what became int8.

    Batch normalisation behind real-valued convolutions is folded into their kernels first. In `plus` and
    `full` a layer used several times becomes several, because biases are multiples of the inputs' steps.
    Kernels get ranges symmetric around 0 (convolutions one per output channel), activations one range each.
    From here on the file is compared with the folded network, not with what its layers read before.

    Args:
        graph: A graph that `fold_graph` has folded; it is changed.
        images: Preprocessed images for each input, on which the activations' ranges are measured.
        settings: The form.

    Raises:
        ConversionError: Form `full`, and a binary convolution pads with zeros; or there are no images for an
            input, or no layer that could be int8.
    """
    if len(images) != len(graph.inputs):
        raise ConversionError(
            f"the model has {len(graph.inputs)} inputs; pass an array of calibration images for each"
        )
    for array, tensor in zip(images, graph.inputs, strict=True):
        if array.shape[1:] != tensor.shape[1:]:
            raise ConversionError(
                f"calibration takes images of shape {tensor.shape[1:]}, but was given {array.shape}"
            )
        if not len(array):
            raise ConversionError("there are no images to measure the ranges of the activations on")
    form, reason = (settings.form, "") if settings.form != "auto" else choose(graph, settings.int8_input)
    for call in graph.calls:
        call.restores = []
    if form in ("plus", "full"):
        _unshare(graph)
    for call in list(graph.calls):
        if is_real(graph, call):
            split_activation(graph, call)
            _fold_into_kernel(graph, call)
    if form == "full" and any(issubclass(call.layer.kind, _layers.PReLU) for call in graph.calls):
        form = "plus"
        reason = "PReLU stays float, and with it the trunk: an int8 PReLU costs more than a float one"
    if form == "full":
        _check_padding(graph)
    sites = _FORMS[form](graph)
    if not sites.layers:
        raise ConversionError(f"'{graph.name}' has no convolution or dense layer that could be int8")
    _balance(graph, sites, images)
    measured = ranges(graph, [*sites.tensors, *(site.tensor for site in sites.entries)], images)
    for call in sites.layers:
        call.layer = _with_int8_kernel(call.layer)
    _insert(graph, sites, measured)
    for call in sites.layers:
        _round_constants(graph, call)
    return Int8Report(form, reason, len(images[0]), [call.layer.name for call in sites.layers])


def _check_padding(graph: Graph) -> None:
    binary = [call.layer for call in graph.calls if facts.convolves_signs(graph, call)]
    names = [f"'{layer.name}'" for layer in binary if not facts.pads_only_with(layer, 1.0)]
    if names:
        raise ConversionError(
            f"a full int8 model needs binary convolutions that pad with ones, but {len(names)} pad with "
            f"zeros: {some(names)}. Train with pad_values=1, or convert with another form of int8"
        )


def _unshare(graph: Graph) -> None:
    """Gives every call of a real layer that is used several times a layer of its own."""
    for number, call in enumerate(graph.calls):
        layer = call.layer
        is_first = all(other.layer is not layer for other in graph.calls[:number])
        if is_first or not _has_real_kernel(graph, call):
            continue
        config = {**layer.config, "name": unique_name(graph, layer.name)}
        call.layer = Spec(layer.kind, config, dict(layer.weights), layer.origin)


def _fold_into_kernel(graph: Graph, call: Call) -> None:
    """Makes the affine maps directly behind a real-valued layer part of its kernel and bias."""
    layer = call.layer
    while (reader := graph.sole_consumer(call.outputs[0])) and (affine := affine_of(reader)):
        kernel, bias = _kernel(layer), layer.weights.get("bias", np.float32(0))
        scale = np.broadcast_to(affine.scale, call.outputs[0].channels or 1)
        layer.weights[_kernel_name(layer)] = (kernel * _per_channel(layer, scale)).astype(np.float32)
        layer.weights["bias"] = (bias * scale + affine.bias).astype(np.float32)
        layer.config["use_bias"] = True
        graph.remove(reader)


def _balance(graph: Graph, sites: Sites, images: Sequence[np.ndarray]) -> None:
    """Brings the float inputs of dense layers to one range, where that leaves a quarter of the error.

    A dense layer has one step for all its inputs and one for all its weights. Where a normalization before
    it was folded into it, inputs that vary little have large weights, and rounding costs most there. With m
    and h the middle and the half of the range of each input over the images,

        W x + c = (W h) · (x - m)/h + (c + W m)
    """
    entries = [
        entry
        for entry in sites.entries
        if entry.call.layer.kind in facts.DENSE and len(entry.tensor.shape) == 2
        if source(graph, entry.tensor) not in sites.tensors  # or the map per channel would be int8
    ]
    if not entries:
        return
    network = dataclasses.replace(graph, outputs=[entry.tensor for entry in entries])
    for entry, values in zip(entries, outputs_of(network, images, _BATCH), strict=True):
        layer, low, high = entry.call.layer, values.min(axis=0), values.max(axis=0)
        middle, half = (low + high) / 2, np.where(high > low, (high - low) / 2, np.float32(1))
        kernel, scaled = layer.weights["kernel"], layer.weights["kernel"] * half[:, None]
        before = _dense_error(values, kernel, high.max() - low.min())
        if 16 * _dense_error((values - middle) / half, scaled, 2.0) < before:
            add_bias(layer, shifted(layer, middle))
            scale_inputs(layer, half)
            name = unique_name(graph, f"{layer.name}/balance")
            balanced = layer_of(name, Affine(1 / half, -middle / half))
            entry.tensor = _branch(graph, entry.call, entry.tensor, balanced)
            entry.guarded = False


def _dense_error(values: np.ndarray, kernel: np.ndarray, span: float) -> float:
    """The variance that rounding inputs of a range and weights adds to the outputs, but for a factor."""
    of_inputs = span**2 * np.square(kernel).sum()
    of_weights = (2 * np.abs(kernel).max()) ** 2 * np.square(values).mean(axis=0).sum() * kernel.shape[1]
    return float(of_inputs + of_weights)


def _with_int8_kernel(layer: Spec) -> Spec:
    """The layer with a rounded kernel.

    Two kinds tell the converter the kernel's range. It takes that of the others from the largest values, so
    that these are rounded where they stand.
    """
    kind = _FAKE_QUANT.get(layer.kind)
    if kind is None or layer.config.get("groups", 1) > 1 or layer.config.get("pad_values", 0):
        step = _per_channel(layer, kernel_range(layer)) / 127
        rounded = (np.round(_kernel(layer) / step) * step).astype(np.float32)
        return dataclasses.replace(layer, weights={**layer.weights, _kernel_name(layer): rounded})
    plain = _layers.Dense(1) if kind is FakeQuantDense else _layers.Conv2D(1, 1)
    weights = {**layer.weights, "kernel_range": kernel_range(layer).astype(np.float32)}
    return Spec(kind, {key: layer.config[key] for key in plain.get_config()}, weights)


def _round_constants(graph: Graph, call: Call) -> None:
    """Makes the bias a multiple of the steps of input and kernel, as the file's int32 bias is one.

    What a layer pads with becomes one of its input's levels.
    """
    config, weights = call.layer.config, call.layer.weights
    origin = graph.producer(source(graph, call.inputs[0]))
    if origin.layer.kind is not FakeQuant:
        return
    rounding = origin.layer.build()
    if config.get("pad_values", 0):
        level = np.round(config["pad_values"] / rounding.step) * rounding.step
        config["pad_values"] = float(np.clip(level, rounding.minimum, rounding.maximum))
    if "bias" in weights:
        own = rounding.step * kernel_range(call.layer) / 127
        weights["bias"] = (np.round(weights["bias"] / own) * own).astype(np.float32)


# Kernels ----------------------------------------------------------------------------------------------


_DEPTHWISE = (_layers.DepthwiseConv2D, lq.layers.QuantDepthwiseConv2D)
_TRANSPOSED = (_layers.Conv2DTranspose, lq.layers.QuantConv2DTranspose)
_ONE_DIMENSIONAL = (_layers.Conv1D, lq.layers.QuantConv1D)
_KERNELS = {
    **dict.fromkeys((*facts.CONVOLUTIONS, *_ONE_DIMENSIONAL, *facts.DENSE), (-1,)),
    **dict.fromkeys(_DEPTHWISE, (-2, -1)),
    **dict.fromkeys(_TRANSPOSED, (-2,)),
}
"""The kinds of layers that can get an int8 kernel, and which axes of the kernel are the output channels.

Each channel has a range of its own, but dense layers have one range for all.
"""


def _kernel_name(layer: Spec) -> str:
    return "depthwise_kernel" if layer.kind in _DEPTHWISE else "kernel"


def _kernel(layer: Spec) -> np.ndarray:
    return layer.weights[_kernel_name(layer)]


def _per_channel(layer: Spec, values: np.ndarray) -> np.ndarray:
    """Values for the output channels, or one for all, in a shape that goes with the kernel's."""
    shape, axes = _kernel(layer).shape, _KERNELS[layer.kind]
    if not np.ndim(values):
        return values
    return values.reshape([size if n - len(shape) in axes else 1 for n, size in enumerate(shape)])


def kernel_range(layer: Spec) -> np.ndarray:
    """The largest magnitude of a kernel, for each output channel of a convolution; above 0."""
    if "kernel_range" in layer.weights:
        return layer.weights["kernel_range"].astype(np.float64)
    magnitude, axes = np.abs(_kernel(layer)).astype(np.float64), _KERNELS[layer.kind]
    others = tuple(n for n in range(magnitude.ndim) if n - magnitude.ndim not in axes)
    largest = magnitude.max() if layer.kind in facts.DENSE else magnitude.max(axis=others).ravel()
    return np.maximum(largest, 1e-6)


# Where a network computes with 8-bit numbers ----------------------------------------------------------


@dataclasses.dataclass
class Entry:
    """The input of an int8 layer in a float network, which is rounded for this layer alone.

    Attributes:
        call: The layer's call.
        tensor: The tensor that is rounded.
        guarded: Whether a multiplication must keep the range from reaching what the tensor is made of.
    """

    call: Call
    tensor: Tensor
    guarded: bool


@dataclasses.dataclass
class Sites:
    """What becomes int8.

    Attributes:
        layers: Calls of the convolutions and dense layers that get int8 kernels.
        tensors: Tensors that are rounded to a range of their own, for all that read them.
        entries: Inputs of layers that are rounded for one reader.
        averages: Average-pooled tensors that take the range of what was pooled, with that tensor.
        exits: Rounded tensors whose range must not reach what is behind, with the layer that makes them.
        probabilities: Outputs of softmax and sigmoid behind a classifier, whose range is fixed.
    """

    layers: list[Call] = dataclasses.field(default_factory=list)
    tensors: list[Tensor] = dataclasses.field(default_factory=list)
    entries: list[Entry] = dataclasses.field(default_factory=list)
    averages: dict[Tensor, Tensor] = dataclasses.field(default_factory=dict)
    exits: list[tuple[Tensor, Call]] = dataclasses.field(default_factory=list)
    probabilities: list[Tensor] = dataclasses.field(default_factory=list)

    def add(self, graph: Graph, call: Call) -> None:
        """Makes a layer within a float network int8, with its input and output.

        A layer stays float where its output reaches what joins several tensors (`Concatenate`) through an
        activation that cannot take the power of two which keeps the range from spreading there.
        """
        output = _fusion(graph, call)[-1]
        if _spreads_forwards(graph, output):
            fused = [facts.of(graph.producer(tensor)) for tensor in _fusion(graph, call)[1:]]
            if any(known.clips and not known.homogeneous for known in fused):
                return
            self.exits.append((output, call))
        self.layers.append(call)
        if output not in self.tensors:
            self.tensors.append(output)
        start = _start(graph, call.inputs[0])
        outputs = [_fusion(graph, other)[-1] for other in self.layers]
        if start in outputs or (start in graph.inputs and not _spreads_forwards(graph, start)):
            self.tensors += [start] * (start not in self.tensors)
        else:
            guarded = start in graph.inputs or _spreads_backwards(graph, call.inputs[0])
            self.entries.append(Entry(call, call.inputs[0], guarded))


def classifier(graph: Graph) -> Sites:
    """The dense layers at the end."""
    sites = Sites()
    for output in graph.outputs:
        calls = _classifier(graph, output)
        for call in calls:
            if call not in sites.layers:
                sites.add(graph, call)
        if calls and facts.of(graph.producer(output)).probabilities:
            sites.probabilities.append(output)
    return sites


def mixed(graph: Graph) -> Sites:
    """The inputs, the first convolutions with their pools, and the dense layers at the end."""
    return _joined(graph, [call for tensor in graph.inputs if (call := _stem(graph, tensor)) is not None])


def plus(graph: Graph) -> Sites:
    """Every real convolution, and the dense layers at the end."""
    return _joined(graph, [call for call in graph.calls if _is_convolution(graph, call)])


def _joined(graph: Graph, calls: list[Call]) -> Sites:
    sites, last = Sites(), classifier(graph)
    for call in [*calls, *last.layers]:
        if call not in sites.layers:
            sites.add(graph, call)
    return dataclasses.replace(sites, probabilities=last.probabilities)


def full(graph: Graph) -> Sites:
    """Everything that is not binary, but for the sum that a classifier's average is made of."""
    layers = [call for call in graph.calls if is_real(graph, call)]
    ends = [t for t in graph.outputs if facts.of(graph.producer(t)).probabilities]
    averaged = _averaged(graph)
    entries = [Entry(call, call.inputs[0], guarded=True) for call in averaged.values()]
    sites = Sites(layers=layers, entries=entries, probabilities=ends)
    fusing = (*_KERNELS, _layers.Add)
    chains = [_fusion(graph, call) for call in graph.calls if call.layer.kind in fusing]
    fused = {tensor for chain in chains for tensor in chain[:-1]}
    binary_ends = {_fusion(graph, call)[-1] for call in graph.calls if facts.convolves_signs(graph, call)}
    for call in graph.calls:
        output = call.outputs[0]
        if len(call.outputs) > 1 or output in fused or _keeps_values(call) or output in ends:
            continue
        if output in binary_ends and _only_signs_read(graph, output):
            continue  # the convolution gives bits
        if source(graph, output) in averaged:
            continue
        pooled = source(graph, call.inputs[0]) if _is_average(call) else None
        if pooled in sites.tensors:
            sites.averages[output] = pooled
        else:
            sites.tensors.append(output)
    return sites


def _averaged(graph: Graph) -> dict[Tensor, Call]:
    """Sums that are only averaged for a classifier, with the classifier; they and their averages stay float.

    The average of many 8-bit values lies between two of their levels, and where a normalization was folded
    into the classifier, its weights make much of that difference.
    """
    sums = {}
    for call in classifier(graph).layers:
        start = source(graph, call.inputs[0])
        maker = graph.producer(start)
        if facts.of(maker).clips:
            maker = graph.producer(maker.inputs[0])
        averages = start is not _start(graph, call.inputs[0])
        if averages and facts.is_sum(maker.layer) and len(graph.consumers(start)) == 1:
            sums[start] = call
    return sums


_FORMS = {"classifier": classifier, "mixed": mixed, "plus": plus, "full": full}


def is_real(graph: Graph, call: Call) -> bool:
    """Whether a call is of a real-valued convolution or dense layer that can get an int8 kernel."""
    return _has_real_kernel(graph, call) and not graph.is_shared(call.layer)


def _has_real_kernel(graph: Graph, call: Call) -> bool:
    config = call.layer.config
    if call.layer.kind not in _KERNELS or config.get("input_quantizer") or config.get("kernel_quantizer"):
        return False
    if config.get("depthwise_quantizer") or config.get("data_format", "channels_last") != "channels_last":
        return False
    return not facts.convolves_signs(graph, call)


def _is_convolution(graph: Graph, call: Call) -> bool:
    """Whether a call is of a real convolution; a dense layer on a map is one too."""
    on_map = call.layer.kind not in facts.DENSE or len(call.inputs[0].shape) > 2
    return on_map and is_real(graph, call)


def _is_average(call: Call) -> bool:
    return call.layer.kind is _layers.AveragePooling2D


def _keeps_values(call: Call) -> bool:
    """Whether a call only hands on values (and zeros), or takes their signs."""
    return facts.of(call).moves_values or facts.is_quantizer(call.layer)


def _stem(graph: Graph, tensor: Tensor) -> Call | None:
    """The convolution that takes an input, perhaps padded."""
    for reader in graph.forwards(tensor):
        if reader.layer.kind in _KERNELS and reader.layer.kind not in facts.DENSE:
            return reader if is_real(graph, reader) else None
        if not (_keeps_values(reader) or facts.of(reader).affine):
            return None
    return None


def _classifier(graph: Graph, output: Tensor) -> list[Call]:
    """The dense layers before an output, with what may stand between and behind them."""
    calls = []
    for call in graph.backwards(output, alone=True):
        known = facts.of(call)
        if call.layer.kind in facts.DENSE and is_real(graph, call):
            calls.append(call)
        elif not (_keeps_values(call) or known.clips or known.probabilities):
            break
    return calls[::-1]


def source(graph: Graph, tensor: Tensor) -> Tensor:
    """The tensor whose range `tensor` has, before pools and layers that only hand on values."""
    maker = graph.producer(tensor)
    return source(graph, maker.inputs[0]) if _keeps_values(maker) or _is_average(maker) else tensor


def _start(graph: Graph, tensor: Tensor) -> Tensor:
    """The tensor whose values `tensor` holds, before layers that only hand on values and are read once."""
    for call in graph.backwards(tensor, alone=True):
        if not _keeps_values(call):
            return call.outputs[0]
        tensor = call.inputs[0]
    return tensor


def _spreads_backwards(graph: Graph, tensor: Tensor) -> bool:
    """Whether the converter carries a range from a tensor to what it is made of.

    It does so through pools and layers that only hand on values, whose other readers would then get rounded
    values, and through those that join tensors. The values of a map also exceed those of its mean.
    """
    maker = graph.producer(tensor)
    if maker.layer.kind in _KERNELS:
        return False
    known = facts.of(maker)
    if len(maker.inputs) > 1:
        return not facts.is_sum(maker.layer)
    if known.mean:
        return True
    if not _keeps_values(maker) or not maker.inputs:
        return False
    return len(graph.consumers(maker.inputs[0])) > 1 or _spreads_backwards(graph, maker.inputs[0])


def _spreads_forwards(graph: Graph, tensor: Tensor) -> bool:
    """Whether the converter carries a range from a tensor into what joins it with others."""
    return any(
        not (facts.is_sum(reader.layer) or reader.layer.kind in _ARITHMETIC)
        if len(reader.inputs) > 1
        else (facts.of(reader).moves_values or facts.of(reader).mean)
        and _spreads_forwards(graph, reader.outputs[0])
        for reader in graph.consumers(tensor)
    )


_ARITHMETIC = (_layers.Multiply, _layers.Subtract)


def _fusion(graph: Graph, call: Call) -> list[Tensor]:
    """The outputs of a call and of the layers behind it that the converter makes part of it."""
    tensors = [call.outputs[0]]
    reader = graph.sole_consumer(tensors[-1])
    if reader is not None and facts.of(reader).clips:
        tensors.append(reader.outputs[0])
        reader = graph.sole_consumer(tensors[-1])
    if reader is not None and facts.convolves_signs(graph, call) and facts.of(reader).affine:
        tensors.append(reader.outputs[0])
    return tensors


def _only_signs_read(graph: Graph, tensor: Tensor) -> bool:
    readers = graph.consumers(tensor)
    return bool(readers) and all(
        _only_signs_read(graph, reader.outputs[0])
        if reader.layer.kind is _layers.MaxPooling2D
        else facts.takes_signs(reader.layer)
        for reader in readers
    )


def _insert(graph: Graph, sites: Sites, measured: dict[Tensor, Range]) -> None:
    """Puts the rounding behind its tensors, and multiplications where a range must not spread."""
    names = {tensor: call.layer.name for call in graph.calls for tensor in call.outputs}
    for tensor, call in sites.exits:
        _multiply(call.layer, ("kernel", "depthwise_kernel", "kernel_range", "bias"), _GUARD)
        measured[tensor] = measured[tensor].times(_GUARD)
        scale = _scale(unique_name(graph, f"{names[tensor]}_scale"), tensor.channels or 1, 1 / _GUARD)
        graph.insert_after(tensor, scale)
    for tensor, pooled in sites.averages.items():
        measured[tensor] = measured[pooled]
    for entry in sites.entries:
        limits, tensor = measured[entry.tensor], entry.tensor
        if entry.guarded:
            name = unique_name(graph, "pool_scale")
            tensor = _branch(graph, entry.call, tensor, _scale(name, tensor.channels or 1, _GUARD))
            limits = limits.times(_GUARD)
            _multiply(entry.call.layer, ("kernel", "depthwise_kernel", "kernel_range"), 1 / _GUARD)
        name = unique_name(graph, f"{names[entry.tensor]}_int8")
        _branch(graph, entry.call, tensor, _rounding(name, limits))
    measured |= dict.fromkeys(sites.probabilities, PROBABILITIES)
    for tensor in [*sites.tensors, *sites.averages, *sites.probabilities]:
        name = unique_name(graph, f"{names[tensor]}_int8")
        graph.insert_after(tensor, _rounding(name, measured[tensor]))


def _branch(graph: Graph, reader: Call, tensor: Tensor, layer: Spec) -> Tensor:
    """Puts a layer between a tensor and one call that reads it; returns what the call reads now."""
    call = Call(layer, [tensor], [Tensor(tensor.shape)])
    graph.calls.insert(graph.calls.index(reader), call)
    reader.inputs = [call.outputs[0] if one is tensor else one for one in reader.inputs]
    return call.outputs[0]


def _rounding(name: str, limits: Range) -> Spec:
    return Spec(FakeQuant, {"name": name, **dataclasses.asdict(limits), "dtype": "float32"})


def _multiply(layer: Spec, keys: Sequence[str], factor: float) -> None:
    for key in keys:
        if key in layer.weights:
            layer.weights[key] = layer.weights[key] * np.float32(factor)


def _scale(name: str, channels: int, factor: float) -> Spec:
    """A multiplication, through which the converter carries no range.

    The layer before or behind it takes the inverse, and a power of two changes no digit.
    """
    weights = {"scale": np.full(channels, factor, np.float32)}
    return Spec(OutputScale, {"name": name, "dtype": "float32"}, weights)


# Ranges -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Range:
    """From where to where a tensor's values go; 0 lies within."""

    minimum: float
    maximum: float

    def times(self, factor: float) -> Range:
        """The range of values that are multiplied by a factor above 0."""
        return Range(factor * self.minimum, factor * self.maximum)

    def on_grid(self) -> Range:
        """The smallest range around this one with 256 levels of which one is 0, exactly in float32.

        TensorFlow and the converter shift other ranges, and not alike; where the level 0 becomes -1e-8,
        its sign differs.
        """
        zero = round(-255 * self.minimum / (self.maximum - self.minimum))  # levels below 0
        above = self.maximum / (255 - zero) if zero < 255 else 0.0
        below = -self.minimum / zero if zero > 0 else 0.0
        fraction, exponent = math.frexp(max(above, below))
        step = math.ldexp(math.ceil(fraction * 2**_STEP_BITS), exponent - _STEP_BITS)
        return Range(-zero * step, (255 - zero) * step)


PROBABILITIES = Range(0.0, 255 / 256)
"""The only range that TFLite's int8 operators for probabilities have."""


def ranges(graph: Graph, tensors: Sequence[Tensor], images: Sequence[np.ndarray]) -> dict[Tensor, Range]:
    """The range of each tensor over the images: from its smallest to its largest value.

    Args:
        graph: The network.
        tensors: Which tensors.
        images: Preprocessed images `(n, …)` for each input; not empty.
    """
    tensors = list(dict.fromkeys(tensors))
    if not tensors:
        return {}
    network = dataclasses.replace(graph, outputs=tensors).function()
    extremes = np.zeros((len(tensors), 2))
    for start in range(0, len(images[0]), _BATCH):
        outputs = network([tf.constant(array[start : start + _BATCH], tf.float32) for array in images])
        for extreme, output in zip(extremes, map(np.asarray, outputs), strict=True):
            extreme[:] = min(extreme[0], output.min()), max(extreme[1], output.max())
    return {t: _range(*map(float, extreme)) for t, extreme in zip(tensors, extremes, strict=True)}


def _range(minimum: float, maximum: float) -> Range:
    return Range(minimum, maximum).on_grid() if maximum > minimum else Range(-1.0, 1.0).on_grid()


# Layers that compute with 8-bit numbers in floating point, as the converted file will -----------------


@_serializable
class FakeQuant(tf.keras.layers.Layer):
    """Rounds to the 256 levels of an int8 tensor: `y = s · (clip(round(x / s) + z, -128, 127) - z)`.

    Scale s and zero point z follow from the range; 0 is always a level. The converter takes the range of the
    tensor from it.

    Args:
        minimum: Lower end of the range, at most 0.
        maximum: Upper end, at least 0.
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    def __init__(self, minimum: float, maximum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    @property
    def step(self) -> float:
        """Distance s of two levels."""
        return (self.maximum - self.minimum) / 255

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Rounds to the levels."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.minimum, self.maximum)

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "minimum": self.minimum, "maximum": self.maximum}


@_serializable
class FakeQuantConv2D(tf.keras.layers.Conv2D):
    """A convolution whose kernel is rounded to 255 levels, symmetric around 0.

    Its weight `kernel_range` is the largest magnitude of each output channel.
    """

    def build(self, input_shape: Any) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.kernel_range = self.add_weight(
            "kernel_range", shape=(self.filters,), initializer="ones", trainable=False
        )

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves with the rounded kernel."""
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -self.kernel_range, self.kernel_range, narrow_range=True
        )
        return super().convolution_op(inputs, rounded)


@_serializable
class FakeQuantDense(tf.keras.layers.Dense):
    """A dense layer whose kernel is rounded to 255 levels, symmetric around 0.

    Its weight `kernel_range` is the largest magnitude of the kernel. Ranges per output would make
    the file of a classifier 5 % larger, and the converter takes them for convolutions only.
    """

    def build(self, input_shape: Any) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.kernel_range = self.add_weight("kernel_range", shape=(), initializer="ones", trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`(n, …, features)` becomes `(n, …, units)`."""
        rounded = tf.quantization.fake_quant_with_min_max_vars(
            self.kernel, -self.kernel_range, self.kernel_range, narrow_range=True
        )
        outputs = tf.matmul(inputs, rounded) if inputs.shape.rank == 2 else tf.tensordot(inputs, rounded, 1)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)


_FAKE_QUANT = dict.fromkeys(facts.CONVOLUTIONS, FakeQuantConv2D) | dict.fromkeys(facts.DENSE, FakeQuantDense)
