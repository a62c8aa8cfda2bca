"""From the folded Keras graph, which `convert` hands to LCE, to operations of a program.

What cannot be exported is refused here, by the name of the layer, before anything is written. `Lowering` is
what this has in common with the lowering of files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.fold import affine_of, folded
from bnn_tf.deploy.graph import Call, ConversionError, Graph
from bnn_tf.errors import some
from bnn_tf.export import operations as ops
from bnn_tf.export.int8_weights import round_graph
from bnn_tf.export.operations import Network, Shape, Tensor, Window
from bnn_tf.layers import ChannelPad, HardTanh, LeakyClip
from bnn_tf.layers import Flip as FlipLayer

layers = tf.keras.layers

FUNCTIONS = {
    "relu": ops.RELU,
    "relu6": ops.RELU6,
    "tanh": "tanhf(t)",
    "sigmoid": "1.0f / (1.0f + expf(-t))",
    "hard_sigmoid": "t < -2.5f ? 0.0f : (t > 2.5f ? 1.0f : 0.2f * t + 0.5f)",
    "exponential": "expf(t)",
    "exp": "expf(t)",
    "elu": "t > 0.0f ? t : expm1f(t)",
    "selu": "1.05070098f * (t > 0.0f ? t : 1.67326324f * expm1f(t))",
    "softplus": "t > 0.0f ? t + log1pf(expf(-t)) : log1pf(expf(t))",
    "softsign": "t / (1.0f + fabsf(t))",
    "swish": "t / (1.0f + expf(-t))",
    "silu": "t / (1.0f + expf(-t))",
    "gelu": "0.5f * t * (1.0f + erff(t * 0.707106781f))",
    "abs": "fabsf(t)",
    "square": "t * t",
    "sqrt": "sqrtf(t)",
    "negative": "-t",
}
"""Functions of one value: Keras' activations and TensorFlow's operators, by their names."""

_EXPRESSIONS: list[tuple[Any, str, tuple[Any, ...]]] = [
    (HardTanh, ops.CLAMP, (-1.0, 1.0)),
    (LeakyClip, "t > 1.0f ? 1.0f + {0} * (t - 1.0f) : (t < -1.0f ? {0} * (t + 1.0f) - 1.0f : t)", ("slope",)),
    (layers.LeakyReLU, ops.PRELU, ("alpha",)),
    (layers.ELU, "t > 0.0f ? t : {0} * expm1f(t)", ("alpha",)),
    (layers.Rescaling, ops.AFFINE, ("scale", "offset")),
]
"""Layers that are a function of each value: its parameters are numbers, or names in their configuration."""

_OPERATORS = {
    "__operators__.add": "add",
    "math.add": "add",
    "math.add_v2": "add",
    "math.subtract": "subtract",
    "math.multiply": "multiply",
    "math.truediv": "divide",
    "math.divide": "divide",
    "math.maximum": "maximum",
    "math.minimum": "minimum",
}


def lower(model: tf.keras.Model, rounded: bool = False) -> tuple[Network, Graph]:
    """The operations of a model's folded graph, and the graph; `rounded` rounds the kernels of real layers.

    Raises:
        ConversionError: Something in the model cannot be exported; the message names it.
    """
    graph = folded(model)
    if rounded:
        round_graph(graph)
    if len(graph.inputs) != 1:
        raise ConversionError(
            f"the model '{graph.name}' has {len(graph.inputs)} inputs; a program takes one image"
        )
    calls = [call for call in graph.calls if call.layer.kind is not layers.InputLayer]
    return _GraphLowering(graph.name).network(f"The model '{graph.name}'", calls, graph), graph


class Lowering:
    """Writes the operations of a network, one behind the other: what lowers a graph or a file extends it.

    A node is what is lowered in one go, a call of a layer or an operator of a file. It has `inputs` and
    `outputs`, of which `_tensors` says what they are in the network.
    """

    def __init__(self, name: str) -> None:
        self._network = Network(name, [], {}, 0, [])
        self._tensors: dict[Any, Tensor] = {}

    def network(self, what: str, nodes: Iterable[Any], ends: Any) -> Network:
        """The network of all nodes, with the first of `ends.inputs` as its image and `ends.outputs`.

        Raises:
            ConversionError: Nodes are refused; the message says of `what`, and names all of them.
        """
        network, image = self._network, ends.inputs[0]
        network.input = self._tensors[image] = network.new_tensor(self.shape_of(image))
        network.origins[network.input] = image
        refused: dict[str, None] = {}
        for node in nodes:
            try:
                result = self.lower(node)
            except ConversionError as error:
                refused[str(error)] = None
                for output in node.outputs:  # so that everything that is refused gets named at once
                    self._tensors[output] = network.new_tensor(self._shape_or_pixel(output))
                continue
            if result is not None:
                self._tensors[node.outputs[0]] = result
                network.origins.setdefault(result, node.outputs[0])
        if refused:
            raise ConversionError(f"{what} cannot be exported: {some(refused)}")
        if not all(tensor in self._tensors for tensor in ends.outputs):
            raise ConversionError(f"{what} has an output that does not depend on the image")
        network.outputs = [self.values(self._tensors[tensor]) for tensor in ends.outputs]
        return _without_dead(_pool_signs(network))

    def lower(self, node: Any) -> Tensor | None:
        """What a node makes; None where that is a constant."""
        raise NotImplementedError

    def named(self, node: Any) -> tuple[str, str]:
        """Name and kind of a node, for messages and comments."""
        raise NotImplementedError

    def refused(self, node: Any, reason: str) -> ConversionError:
        """The error for a node that cannot be exported."""
        name, kind = self.named(node)
        return ConversionError(f"'{name}' ({kind}): {reason}")

    def shape_of(self, tensor: Any) -> Shape:
        """The shape of a map or a vector `(batch, …)` in the graph or file."""
        _, *sizes = tensor.shape or (None,)
        if not 1 <= len(sizes) <= 3 or not all(sizes):
            raise ConversionError(f"a tensor of shape {tuple(tensor.shape)} is no map of known size")
        height, width, channels = [1] * (3 - len(sizes)) + sizes
        return Shape(height, width, channels)

    def _shape_or_pixel(self, tensor: Any) -> Shape:
        try:
            return self.shape_of(tensor)
        except ConversionError:
            return Shape(1, 1, 1)

    def taken(self, node: Any, position: int = 0) -> Tensor:
        """An input of a node, as float values or signs."""
        if node.inputs[position] not in self._tensors:
            raise self.refused(node, "it reads a constant where a map is expected")
        return self._tensors[node.inputs[position]]

    def floats(self, node: Any, position: int = 0) -> Tensor:
        """An input of a node as float values."""
        return self.values(self.taken(node, position))

    def values(self, tensor: Tensor) -> Tensor:
        """A tensor as float values."""
        shape = self._network.shapes[tensor]
        if not shape.signs:
            return tensor
        values = self._network.new_tensor(dataclasses.replace(shape, signs=False))
        self._network.operations.append(ops.Values("signs", [tensor], values))
        return values

    def add(
        self,
        kind: type[ops.Operation],
        node: Any,
        tensor: Tensor | Sequence[Tensor] | None = None,
        shape: Shape | None = None,
        **options: Any,
    ) -> Tensor:
        """Adds an operation and returns what it makes.

        By default it reads the float values of the node's first input, and has the shape of its output.
        """
        tensor = self.floats(node) if tensor is None else tensor
        inputs = [tensor] if isinstance(tensor, int) else list(tensor)
        output = self._network.new_tensor(self.shape_of(node.outputs[0]) if shape is None else shape)
        self._network.operations.append(kind(self.named(node)[0], inputs, output, **options))
        return output

    def map(self, node: Any, tensor: Tensor, expression: str, *parameters: Any) -> Tensor:
        """A function of each value; see `Map`."""
        arrays = tuple(np.atleast_1d(np.asarray(values, np.float32)) for values in parameters)
        shape = self._network.shapes[tensor]
        return self.add(ops.Map, node, tensor, shape, expression=expression, parameters=arrays)

    def apply(self, node: Any, expression: str, *parameters: Any) -> Tensor:
        """A function of each value of a node's first input."""
        return self.map(node, self.floats(node), expression, *parameters)

    def sign(self, node: Any, tensor: Tensor) -> Tensor:
        """The signs of a tensor, which may be signs already."""
        shape = self._network.shapes[tensor]
        if shape.signs:
            return tensor
        return self.add(ops.Sign, node, tensor, dataclasses.replace(shape, signs=True))

    def combine(self, node: Any, kind: str, first: Tensor, second: Tensor) -> Tensor:
        """A function of two maps, one of `COMBINATIONS`."""
        expression, swapped = ops.COMBINATIONS[kind]
        shapes = [self._network.shapes[tensor] for tensor in (first, second)]
        if shapes[0].pixels < shapes[1].pixels or shapes[0].channels < shapes[1].channels:
            first, second, expression, swapped = second, first, swapped, expression
            shapes.reverse()
        if shapes[0] != shapes[1] and (shapes[1].pixels, shapes[1].channels) != (1, shapes[0].channels):
            raise self.refused(node, "it combines maps of different shapes")
        return self.add(ops.Combine, node, (first, second), shapes[0], expression=expression, swapped=swapped)

    def concatenate_along(self, node: Any, axis: int) -> Tensor:
        """A node's inputs behind one another along an axis of its output."""
        rank = len(node.outputs[0].shape)
        if axis % rank == 0:
            raise self.refused(node, "it joins images")
        inputs = [self.floats(node, position) for position in range(len(node.inputs))]
        return self.add(ops.Concatenate, node, inputs, axis=axis % rank + 3 - rank)

    def pool_all(self, node: Any, tensor: Tensor, largest: bool) -> Tensor:
        """The largest or the mean value of each channel of a map."""
        shape = self._network.shapes[tensor]
        output = dataclasses.replace(shape, height=1, width=1)
        window = Window((shape.height, shape.width))
        return self.add(ops.Pool, node, tensor, output, window=window, largest=largest)

    def window_over(
        self,
        tensor: Tensor,
        size: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        same: bool,
    ) -> Window:
        """TensorFlow's window over a map.

        `same` pads `(ceil(n / s) - 1) s + d (k - 1) + 1 - n`, the smaller half first.
        """
        shape, before = self._network.shapes[tensor], [0, 0]
        for axis, length in enumerate((shape.height, shape.width) if same else ()):
            count = -(-length // stride[axis])
            total = (count - 1) * stride[axis] + dilation[axis] * (size[axis] - 1) + 1 - length
            before[axis] = max(total, 0) // 2
        return Window(size, stride, dilation, (before[0], before[1]))

    def spread(self, tensor: Tensor, values: np.ndarray) -> np.ndarray:
        """A constant as one value, a value per channel or a value per element of a map."""
        shape = self._network.shapes[tensor]
        if values.size == 1 or values.size == values.shape[-1] == shape.channels:
            return values.reshape(-1)
        while values.ndim > 3:
            values = values[0]
        return np.broadcast_to(values, (shape.height, shape.width, shape.channels)).reshape(-1)


class _GraphLowering(Lowering):
    """Lowers the calls of a folded graph."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._signs: dict[Tensor, Tensor] = {}

    def named(self, node: Call) -> tuple[str, str]:
        return node.layer.name, node.layer.kind.__name__

    def sign(self, node: Call, tensor: Tensor) -> Tensor:
        """The signs of a tensor, which are taken once."""
        if tensor not in self._signs:
            signs = self._signs[tensor] = super().sign(node, tensor)
            if tensor in self._network.origins:
                self._network.origins[signs] = self._network.origins[tensor]
        return self._signs[tensor]

    def lower(self, node: Call) -> Tensor:
        layer = node.layer
        if len(node.outputs) != 1:
            raise self.refused(node, "it has several outputs")
        if layer.config.get("data_format") == "channels_first":
            raise self.refused(node, "its maps have their channels first")
        self.shape_of(node.outputs[0])
        affine = affine_of(node)
        if affine is not None:
            return self.apply(node, ops.AFFINE, affine.scale, affine.bias)
        if facts.of(node).no_op:
            return self._tensors[node.inputs[0]]
        if (padding := facts.padding_of(node)) is not None:
            if padding.value is None:
                raise self.refused(node, "it pads with reflections")
            (top, _), (left, _) = padding.sides
            return self.add(ops.Place, node, before=(top, left, 0), value=padding.value)
        if facts.function_of(layer):
            return self.operator(node)
        for kind, expression, parameters in _EXPRESSIONS:
            if issubclass(layer.kind, kind):
                return self.apply(node, expression, *(layer.config.get(one, one) for one in parameters))
        for kinds, lowering in _LOWERINGS:
            if issubclass(layer.kind, kinds) and not issubclass(layer.kind, layers.Conv2DTranspose):
                result = lowering(self, node)
                has_kernel = "kernel_size" in layer.config or "units" in layer.config
                return self._activated(node, result) if has_kernel else result
        if issubclass(layer.kind, lq.quantizers.Quantizer):
            if facts.is_sign(layer.origin):
                return self.sign(node, self._tensors[node.inputs[0]])
            raise self.refused(node, "it gives other values than -1 and +1")
        raise self.refused(node, "no operation of the exported program computes it")

    def _activated(self, call: Call, tensor: Tensor) -> Tensor:
        """The activation of a layer, of what it makes before."""
        function = call.layer.config.get("activation", "linear")
        if isinstance(function, dict):
            function = tf.keras.activations.deserialize(function)
        if isinstance(function, lq.quantizers.Quantizer) or facts.is_sign(function):
            if not facts.is_sign(function):
                raise self.refused(call, "its quantizer gives other values than -1 and +1")
            return self.sign(call, tensor)
        key = (
            function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
        )
        tensor = self.values(tensor)
        if key in ("linear", None):
            return tensor
        if key == "softmax":
            return self.add(ops.Softmax, call, tensor, self._network.shapes[tensor])
        if key in ("hard_tanh", "clip_by_value_activation") and _is_clip(function):
            return self.map(call, tensor, ops.CLAMP, -1.0, 1.0)
        home = str(getattr(function, "__module__", "")).split(".")[0]
        if key in FUNCTIONS and (isinstance(function, str) or home in ("keras", "tf_keras", "tensorflow")):
            return self.map(call, tensor, FUNCTIONS[key])
        raise self.refused(call, f"there is no C for its activation '{key}'")

    # Layers with kernels

    def _quantized(self, call: Call) -> Tensor:
        """The input of a layer after its input quantizer."""
        quantizer = call.layer.config.get("input_quantizer")
        tensor = self._tensors[call.inputs[0]]
        if not facts.is_active(quantizer):
            return tensor
        if facts.is_sign(quantizer):
            return self.sign(call, tensor)
        raise self.refused(call, "its input quantizer gives other values than -1 and +1")

    def _convolve(self, call: Call, window: Window, kernel: np.ndarray, groups: int, pad: float) -> Tensor:
        """A convolution: binary where its input is signs and its filters are ±s."""
        layer, tensor, output = call.layer, self._quantized(call), self.shape_of(call.outputs[0])
        scale = facts.filter_scales(kernel)
        depth = int(np.prod(kernel.shape[:2])) * (-(-kernel.shape[2] // 8))
        binary = self._network.shapes[tensor].signs and groups == 1 and pad in (0, 1) and depth <= 8191
        ones = False
        if binary and scale is not None:
            kernel = np.where(kernel < 0, np.float32(-1), np.float32(1))
            ones = bool(pad == 1 and window.reaches_over(self._network.shapes[tensor], output))
        else:
            scale, tensor = np.ones(output.channels), self.values(tensor)
            if pad:
                tensor, window = self._padded(call, tensor, window, pad)
        options = {"window": window, "kernel": kernel, "groups": groups, "ones": ones}
        result = self.add(ops.Convolution, call, tensor, output, **options)
        bias = layer.weights.get("bias") if layer.config["use_bias"] else None
        if bias is None and (scale == 1).all():
            return result
        return self.map(call, result, ops.AFFINE, scale, np.zeros(output.channels) if bias is None else bias)

    def _padded(self, call: Call, tensor: Tensor, window: Window, value: float) -> tuple[Tensor, Window]:
        """The map with a border of `value`, as far as the window reaches over it."""
        shape, output = self._network.shapes[tensor], self.shape_of(call.outputs[0])
        rows, columns = window.reach(output)
        height = max(rows, shape.height + window.before[0])
        width = max(columns, shape.width + window.before[1])
        larger, before = Shape(height, width, shape.channels), (*window.before, 0)
        padded = self.add(ops.Place, call, tensor, larger, before=before, value=value)
        return padded, dataclasses.replace(window, before=(0, 0))

    def _window(self, call: Call, size: Any) -> Window:
        config, tensor = call.layer.config, self._tensors[call.inputs[0]]
        stride = _pair(config.get("strides") or size)
        dilation = _pair(config.get("dilation_rate", 1))
        return self.window_over(tensor, _pair(size), stride, dilation, config.get("padding") == "same")

    def convolution(self, call: Call) -> Tensor:
        config = call.layer.config
        if config["padding"] not in ("same", "valid"):
            raise self.refused(call, f"its padding is '{config['padding']}'")
        window = self._window(call, config["kernel_size"])
        kernel = call.layer.weights["kernel"]
        return self._convolve(call, window, kernel, config.get("groups", 1), _pad_value(config))

    def dense(self, call: Call) -> Tensor:
        if len(call.inputs[0].shape) not in (2, 4):
            raise self.refused(call, "its input is neither a vector nor a map")
        return self._convolve(call, Window((1, 1)), call.layer.weights["kernel"][None, None], 1, 0.0)

    def depthwise(self, call: Call) -> Tensor:
        layer, tensor = call.layer, self.values(self._quantized(call))
        window, pad = self._window(call, layer.config["kernel_size"]), _pad_value(layer.config)
        if pad:
            tensor, window = self._padded(call, tensor, window, pad)
        kernel, second = layer.weights["depthwise_kernel"], layer.weights.get("pointwise_kernel")
        channels = kernel.shape[2] * kernel.shape[3]
        shape = dataclasses.replace(self.shape_of(call.outputs[0]), channels=channels)
        result = self.add(ops.Depthwise, call, tensor, shape, window=window, kernel=kernel)
        if second is not None:
            result = self.add(ops.Convolution, call, result, window=Window((1, 1)), kernel=second)
        if layer.config["use_bias"]:
            result = self.map(call, result, ops.BIAS, layer.weights["bias"])
        return result

    # Pools and layers that move values

    def pool(self, call: Call) -> Tensor:
        largest = issubclass(call.layer.kind, layers.MaxPooling2D)
        tensor = self._tensors[call.inputs[0]] if largest else self.floats(call)
        signs = self._network.shapes[tensor].signs
        shape = dataclasses.replace(self.shape_of(call.outputs[0]), signs=signs)
        window = self._window(call, call.layer.config["pool_size"])
        return self.add(ops.Pool, call, tensor, shape, window=window, largest=largest)

    def global_pool(self, call: Call) -> Tensor:
        largest = issubclass(call.layer.kind, layers.GlobalMaxPooling2D)
        return self.pool_all(call, self._tensors[call.inputs[0]] if largest else self.floats(call), largest)

    def reshape(self, call: Call) -> Tensor:
        return self.add(ops.Reshape, call)

    def concatenate(self, call: Call) -> Tensor:
        return self.concatenate_along(call, call.layer.config["axis"])

    def cropping(self, call: Call) -> Tensor:
        (top, _), (left, _) = call.layer.config["cropping"]
        return self.add(ops.Place, call, before=(-top, -left, 0))

    def channel_pad(self, call: Call) -> Tensor:
        return self.add(ops.Place, call, before=(0, 0, call.layer.config["before"]))

    def upsampling(self, call: Call) -> Tensor:
        config = call.layer.config
        if config["interpolation"] not in ("nearest", "bilinear"):
            raise self.refused(call, f"its interpolation is '{config['interpolation']}'")
        bilinear = config["interpolation"] == "bilinear"
        return self.add(ops.Upsample, call, factor=_pair(config["size"]), bilinear=bilinear)

    def flip(self, call: Call) -> Tensor:
        return self.add(ops.Flip, call)

    def unknown_function(self, call: Call) -> Tensor:
        """A Lambda layer that changes nothing, as Larq Zoo has some."""
        sizes = [int(size or 0) for size in call.inputs[0].shape[1:]]
        probe = np.random.default_rng(0).standard_normal((1, *sizes), np.float32)
        result = np.asarray(call.layer.origin(tf.constant(probe))) if call.layer.origin is not None else None
        if result is None or result.shape != probe.shape or (result != probe).any():
            raise self.refused(call, "it is a function of its own")
        return self._tensors[call.inputs[0]]

    # Functions of values

    def activation(self, call: Call) -> Tensor:
        return self._activated(call, self._tensors[call.inputs[0]])

    def relu(self, call: Call) -> Tensor:
        config = call.layer.config
        threshold, top = config["threshold"], config["max_value"]
        if threshold == config["negative_slope"] == 0:
            tensor = self.apply(call, ops.RELU)
        else:
            tensor = self.apply(call, "t >= {0} ? t : {1} * (t - {0})", threshold, config["negative_slope"])
        return tensor if top is None else self.map(call, tensor, "t > {0} ? {0} : t", top)

    def prelu(self, call: Call) -> Tensor:
        tensor = self.floats(call)
        return self.map(call, tensor, ops.PRELU, self.spread(tensor, call.layer.weights["alpha"]))

    def softmax(self, call: Call) -> Tensor:
        if call.layer.config["axis"] not in (-1, len(call.inputs[0].shape) - 1):
            raise self.refused(call, "it is taken over another axis than the last")
        return self.add(ops.Softmax, call)

    def normalization(self, call: Call) -> Tensor:
        origin = call.layer.origin
        if origin is None or origin.mean is None:
            raise self.refused(call, "its statistics are not known")
        mean, variance = np.asarray(origin.mean), np.asarray(origin.variance)
        channels = self.shape_of(call.inputs[0]).channels
        of_channels = mean.size == channels == mean.shape[-1]
        if not (mean.size == 1 or of_channels) or call.layer.config.get("invert"):
            raise self.refused(call, "it does not normalize channels")
        deviation = np.maximum(np.sqrt(variance).reshape(-1), 1e-7)
        return self.apply(call, "(t - {0}) / {1}", mean.reshape(-1), deviation)

    def merge(self, call: Call) -> Tensor:
        kind = call.layer.kind.__name__.lower()
        tensor = self.floats(call)
        for position in range(1, len(call.inputs)):
            other = self.floats(call, position)
            tensor = self.combine(call, "add" if kind == "average" else kind, tensor, other)
        return self.map(call, tensor, ops.SCALE, 1.0 / len(call.inputs)) if kind == "average" else tensor

    def operator(self, call: Call) -> Tensor:
        """An operator of TensorFlow in a functional model, such as `a + b` or `tf.nn.relu`."""
        function = call.layer.config["function"]
        marks: list[Any] = [object() for _ in call.inputs]
        arguments, options = call.arguments(marks)
        operands = list(arguments) + [value for key, value in options.items() if key != "name"]
        positions = [next((n for n, mark in enumerate(marks) if value is mark), None) for value in operands]
        if function in _OPERATORS and len(operands) == 2:
            kind = _OPERATORS[function]
            if len(marks) == 2 and all(position is not None for position in positions):
                first, second = (self.floats(call, position or 0) for position in positions)
                return self.combine(call, kind, first, second)
            if len(marks) == 1:
                constant = np.asarray(operands[positions.index(None)], np.float32)
                expression = ops.COMBINATIONS[kind][positions.index(0)].format(u="{0}")
                channels = self.shape_of(call.inputs[0]).channels
                if constant.size == 1 or (constant.size == channels == constant.shape[-1]):
                    return self.apply(call, expression, constant.reshape(-1))
                reason = f"its constant of shape {constant.shape} is not one value for each channel"
                raise self.refused(call, reason)
        if (bounds := facts.clip_bounds(call)) is not None:
            return self.apply(call, ops.CLAMP, *bounds)
        short = function.split(".")[-1]
        if function.split(".")[0] in ("nn", "math", "keras") and short in FUNCTIONS and len(operands) == 1:
            return self.apply(call, FUNCTIONS[short])
        raise self.refused(call, f"there is no C for '{function}'")


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _pad_value(config: dict[str, Any]) -> float:
    return config.get("pad_values", 0.0) if config["padding"] == "same" else 0.0


def _is_clip(function: Any) -> bool:
    if not callable(function):
        return False
    values = np.linspace(-3, 3, 25, dtype=np.float32)
    return bool((np.asarray(function(tf.constant(values))) == np.clip(values, -1, 1)).all())


_LOWERINGS: list[tuple[Any, Callable[[_GraphLowering, Call], Tensor]]] = [
    ((layers.SeparableConv2D, layers.DepthwiseConv2D), _GraphLowering.depthwise),
    ((layers.Conv2D,), _GraphLowering.convolution),
    ((layers.Dense,), _GraphLowering.dense),
    ((layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D), _GraphLowering.global_pool),
    ((layers.MaxPooling2D, layers.AveragePooling2D), _GraphLowering.pool),
    ((layers.Flatten, layers.Reshape), _GraphLowering.reshape),
    ((layers.Concatenate,), _GraphLowering.concatenate),
    ((layers.Cropping2D,), _GraphLowering.cropping),
    ((layers.UpSampling2D,), _GraphLowering.upsampling),
    ((ChannelPad,), _GraphLowering.channel_pad),
    ((FlipLayer,), _GraphLowering.flip),
    ((layers.PReLU,), _GraphLowering.prelu),
    ((layers.ReLU,), _GraphLowering.relu),
    ((layers.Softmax,), _GraphLowering.softmax),
    ((layers.Activation,), _GraphLowering.activation),
    ((layers.Normalization,), _GraphLowering.normalization),
    ((layers.Add, layers.Subtract, layers.Multiply), _GraphLowering.merge),
    ((layers.Average, layers.Maximum, layers.Minimum), _GraphLowering.merge),
    ((layers.Lambda,), _GraphLowering.unknown_function),
]


def _pool_signs(network: Network) -> Network:
    """Takes signs before max pools where only signs are read behind them: `sign(max x) = max sign(x)`."""
    for pool in list(network.operations):
        if not isinstance(pool, ops.Pool) or not pool.largest:
            continue
        readers = network.consumers(pool.output)
        if network.shapes[pool.output].signs or pool.output in network.outputs:
            continue
        if not readers or not all(isinstance(reader, ops.Sign) for reader in readers):
            continue
        source = network.shapes[pool.inputs[0]]
        same = [op for op in network.consumers(pool.inputs[0]) if isinstance(op, ops.Sign)]
        position = network.operations.index(pool)
        if same and network.operations.index(same[0]) < position:
            packed = same[0].output
        else:
            packed = network.new_tensor(Shape(source.height, source.width, source.channels, signs=True))
            network.operations.insert(position, ops.Sign(pool.name, [pool.inputs[0]], packed))
            if pool.inputs[0] in network.origins:
                network.origins[packed] = network.origins[pool.inputs[0]]
        result = readers[0].output
        network.operations = [operation for operation in network.operations if operation not in readers]
        pool.inputs, pool.output = [packed], result
    return network


def _without_dead(network: Network) -> Network:
    """Drops operations whose results nobody reads."""
    alive = set(network.outputs)
    kept: list[ops.Operation] = []
    for operation in reversed(network.operations):
        if operation.output in alive:
            alive.update(operation.inputs)
            kept.append(operation)
    network.operations = kept[::-1]
    return network
