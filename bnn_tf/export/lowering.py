"""From the folded Keras graph, which `convert` hands to LCE, to operations of a program.

What cannot be exported is refused here, by the name of the layer, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.fold import affine_of, folded
from bnn_tf.deploy.graph import Call, ConversionError, Graph
from bnn_tf.deploy.graph import Tensor as Value
from bnn_tf.errors import some
from bnn_tf.export import operations
from bnn_tf.export.int8_weights import round_graph
from bnn_tf.export.operations import (
    AFFINE,
    BIAS,
    CLAMP,
    PRELU,
    RELU,
    RELU6,
    SCALE,
    Builder,
    Network,
    Operation,
    Shape,
    Tensor,
    Window,
)
from bnn_tf.layers import ChannelPad, HardTanh, LeakyClip
from bnn_tf.layers import Flip as FlipLayer

layers = tf.keras.layers

FUNCTIONS = {
    "relu": RELU,
    "relu6": RELU6,
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
    return _Lowering(graph).network(), graph


class _Lowering(Builder):
    """Writes the operations of one graph. `tensors` maps the graph's tensors to the network's."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name)
        self._graph = graph
        self._tensors: dict[Value, Tensor] = {}
        self._signs: dict[Tensor, Tensor] = {}

    def network(self) -> Network:
        if len(self._graph.inputs) != 1:
            raise ConversionError(
                f"The model '{self._graph.name}' has {len(self._graph.inputs)} inputs; "
                "a program takes one image."
            )
        source = self._graph.inputs[0]
        self._tensors[source] = self._network.input = self._tensor(source)
        self._network.origins[self._network.input] = source
        refused = []
        for call in self._graph.calls:
            if call.layer.kind is layers.InputLayer:
                continue
            try:
                result = self._lower(call)
            except ConversionError as error:
                refused.append(str(error))
                for output in call.outputs:  # so that everything that is refused gets named at once
                    self._tensors[output] = self._tensor(output)
                continue
            self._tensors[call.outputs[0]] = result
            self._network.origins.setdefault(result, call.outputs[0])
        if refused:
            raise ConversionError(f"The model '{self._graph.name}' cannot be exported: {some(refused)}.")
        self._network.outputs = [self.values(self._tensors[tensor]) for tensor in self._graph.outputs]
        return without_dead(pool_signs(self._network))

    def _shape(self, tensor: Value) -> Shape:
        _, *sizes = tensor.shape
        if None in sizes or not 1 <= len(sizes) <= 3:
            raise ConversionError(f"a tensor of shape {tuple(tensor.shape)} is no map of known size")
        height, width, channels = [1] * (3 - len(sizes)) + [int(size or 0) for size in sizes]
        return Shape(height, width, channels)

    def _tensor(self, tensor: Value) -> Tensor:
        return self._network.new_tensor(self._shape(tensor))

    def _float(self, call: Call, position: int = 0) -> Tensor:
        """An input as float values."""
        return self.values(self._tensors[call.inputs[position]])

    def _sign(self, name: str, tensor: Tensor) -> Tensor:
        shape = self._network.shapes[tensor]
        if shape.signs:
            return tensor
        if tensor not in self._signs:
            packed = Shape(shape.height, shape.width, shape.channels, signs=True)
            self._signs[tensor] = self.add(operations.Sign, name, [tensor], packed)
            if tensor in self._network.origins:
                self._network.origins[self._signs[tensor]] = self._network.origins[tensor]
        return self._signs[tensor]

    def _lower(self, call: Call) -> Tensor:
        layer = call.layer
        refuse = _refuser(layer)
        if len(call.outputs) != 1:
            raise refuse("it has several outputs")
        if layer.config.get("data_format") == "channels_first":
            raise refuse("its maps have their channels first")
        self._shape(call.outputs[0])
        affine = affine_of(call)
        if affine is not None:
            return self.map(layer.name, self._float(call), AFFINE, affine.scale, affine.bias)
        if facts.of(call).no_op:
            return self._tensors[call.inputs[0]]
        if (padding := facts.padding_of(call)) is not None:
            if padding.value is None:
                raise refuse("it pads with reflections")
            (top, _), (left, _) = padding.sides
            return self._place(call, (top, left, 0), padding.value)
        if facts.function_of(layer):
            return self.operator(call)
        for kinds, lowering in _LOWERINGS:
            if issubclass(layer.kind, kinds) and not issubclass(layer.kind, layers.Conv2DTranspose):
                result = lowering(self, call)
                has_kernel = "kernel_size" in layer.config or "units" in layer.config
                return self._activated(call, result) if has_kernel else result
        if issubclass(layer.kind, lq.quantizers.Quantizer):
            if facts.is_sign(layer.origin):
                return self._sign(layer.name, self._tensors[call.inputs[0]])
            raise refuse("it gives other values than -1 and +1")
        raise refuse("no operation of the exported program computes it")

    def _activated(self, call: Call, tensor: Tensor) -> Tensor:
        return self._activation(call, tensor, call.layer.config.get("activation", "linear"))

    def _activation(self, call: Call, tensor: Tensor, function: Any) -> Tensor:
        name = call.layer.name
        if isinstance(function, dict):
            function = tf.keras.activations.deserialize(function)
        if isinstance(function, lq.quantizers.Quantizer) or facts.is_sign(function):
            if not facts.is_sign(function):
                raise _refuser(call.layer)("its quantizer gives other values than -1 and +1")
            return self._sign(name, tensor)
        key = (
            function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
        )
        tensor = self.values(tensor)
        if key in ("linear", None):
            return tensor
        if key == "softmax":
            return self.add(operations.Softmax, name, [tensor], self._network.shapes[tensor])
        if key in ("hard_tanh", "clip_by_value_activation") and _is_clip(function):
            return self.map(name, tensor, CLAMP, -1.0, 1.0)
        home = str(getattr(function, "__module__", "")).split(".")[0]
        if key in FUNCTIONS and (isinstance(function, str) or home in ("keras", "tf_keras", "tensorflow")):
            return self.map(name, tensor, FUNCTIONS[key])
        raise _refuser(call.layer)(f"there is no C for its activation '{key}'")

    # Layers with kernels

    def _quantized(self, call: Call) -> tuple[Tensor, bool]:
        """The input of a layer after its input quantizer, and whether it is signs."""
        quantizer = call.layer.config.get("input_quantizer")
        tensor = self._tensors[call.inputs[0]]
        if not facts.is_active(quantizer):
            return tensor, self._network.shapes[tensor].signs
        if facts.is_sign(quantizer):
            return self._sign(call.layer.name, tensor), True
        raise _refuser(call.layer)("its input quantizer gives other values than -1 and +1")

    def _convolve(self, call: Call, window: Window, kernel: np.ndarray, groups: int, pad: float) -> Tensor:
        """A convolution: binary where its input is signs and its filters are ±s."""
        layer = call.layer
        tensor, are_signs = self._quantized(call)
        output = self._shape(call.outputs[0])
        scales = facts.filter_scales(kernel)
        depth = int(np.prod(kernel.shape[:2])) * (-(-kernel.shape[2] // 8))
        binary = are_signs and groups == 1 and scales is not None and pad in (0, 1) and depth <= 8191
        scale, bias = (
            np.ones(output.channels),
            layer.weights.get("bias") if layer.config["use_bias"] else None,
        )
        if binary and scales is not None:
            kernel = np.where(kernel < 0, np.float32(-1), np.float32(1))
            scale = scales
        elif pad:
            tensor, window = self._padded(call, self.values(tensor), window, pad)
        else:
            tensor = self.values(tensor)
        result = self.add(
            operations.Convolution,
            layer.name,
            [tensor],
            output,
            window=window,
            kernel=kernel,
            groups=groups,
            ones=bool(binary and pad == 1 and window.reaches_over(self._network.shapes[tensor], output)),
        )
        if bias is None and (scale == 1).all():
            return result
        return self.map(
            layer.name, result, AFFINE, scale, np.zeros(output.channels) if bias is None else bias
        )

    def _size(self, tensor: Tensor) -> tuple[int, int]:
        shape = self._network.shapes[tensor]
        return shape.height, shape.width

    def _padded(self, call: Call, tensor: Tensor, window: Window, value: float) -> tuple[Tensor, Window]:
        """The map with a border of `value`, as far as the window reaches over it."""
        shape, output = self._network.shapes[tensor], self._shape(call.outputs[0])
        reach = [
            (count - 1) * window.stride[axis] + (window.size[axis] - 1) * window.dilation[axis] + 1
            for axis, count in enumerate((output.height, output.width))
        ]
        larger = [
            max(r, size + b) for r, size, b in zip(reach, self._size(tensor), window.before, strict=True)
        ]
        padded = self.add(
            operations.Place,
            call.layer.name,
            [tensor],
            Shape(larger[0], larger[1], shape.channels),
            before=(*window.before, 0),
            value=value,
        )
        return padded, Window(window.size, window.stride, window.dilation, (0, 0))

    def _window(self, call: Call, size: Any) -> Window:
        config = call.layer.config
        shape = self._network.shapes[self._tensors[call.inputs[0]]]
        stride = _pair(config.get("strides") or size)
        dilation = _pair(config.get("dilation_rate", 1))
        return same_window(
            (shape.height, shape.width), _pair(size), stride, dilation, config.get("padding") == "same"
        )

    def convolution(self, call: Call) -> Tensor:
        config = call.layer.config
        if config["padding"] not in ("same", "valid"):
            raise _refuser(call.layer)(f"its padding is '{config['padding']}'")
        window = self._window(call, config["kernel_size"])
        pad = config.get("pad_values", 0.0) if config["padding"] == "same" else 0.0
        return self._convolve(call, window, call.layer.weights["kernel"], config.get("groups", 1), pad)

    def dense(self, call: Call) -> Tensor:
        if len(call.inputs[0].shape) not in (2, 4):
            raise _refuser(call.layer)("its input is neither a vector nor a map")
        window = Window((1, 1), (1, 1), (1, 1), (0, 0))
        return self._convolve(call, window, call.layer.weights["kernel"][None, None], 1, 0.0)

    def depthwise(self, call: Call, kernel: str = "depthwise_kernel") -> Tensor:
        layer = call.layer
        tensor = self.values(self._quantized(call)[0])
        window = self._window(call, layer.config["kernel_size"])
        pad = layer.config.get("pad_values", 0.0) if layer.config["padding"] == "same" else 0.0
        if pad:
            tensor, window = self._padded(call, tensor, window, pad)
        output = self._shape(call.outputs[0])
        weights = layer.weights[kernel]
        shape = Shape(output.height, output.width, weights.shape[2] * weights.shape[3])
        result = self.add(operations.Depthwise, layer.name, [tensor], shape, window=window, kernel=weights)
        if "pointwise_kernel" in layer.weights:
            one = Window((1, 1), (1, 1), (1, 1), (0, 0))
            result = self.add(
                operations.Convolution,
                layer.name,
                [result],
                output,
                window=one,
                kernel=layer.weights["pointwise_kernel"],
            )
        if layer.config["use_bias"]:
            result = self.map(layer.name, result, BIAS, layer.weights["bias"])
        return result

    # Pools and layers that move values

    def pool(self, call: Call) -> Tensor:
        largest = issubclass(call.layer.kind, layers.MaxPooling2D)
        tensor = self._tensors[call.inputs[0]] if largest else self._float(call)
        output = self._shape(call.outputs[0])
        shape = Shape(output.height, output.width, output.channels, self._network.shapes[tensor].signs)
        window = self._window(call, call.layer.config["pool_size"])
        return self.add(operations.Pool, call.layer.name, [tensor], shape, window=window, largest=largest)

    def global_pool(self, call: Call) -> Tensor:
        largest = issubclass(call.layer.kind, layers.GlobalMaxPooling2D)
        tensor = self._tensors[call.inputs[0]] if largest else self._float(call)
        shape = self._network.shapes[tensor]
        window = Window((shape.height, shape.width), (1, 1), (1, 1), (0, 0))
        output = Shape(1, 1, shape.channels, shape.signs)
        return self.add(operations.Pool, call.layer.name, [tensor], output, window=window, largest=largest)

    def reshape(self, call: Call) -> Tensor:
        return self.add(
            operations.Reshape, call.layer.name, [self._float(call)], self._shape(call.outputs[0])
        )

    def concatenate(self, call: Call) -> Tensor:
        rank = len(call.outputs[0].shape)
        axis = call.layer.config["axis"] % rank
        if axis == 0:
            raise _refuser(call.layer)("it joins images")
        inputs = [self._float(call, position) for position in range(len(call.inputs))]
        return self.add(
            operations.Concatenate,
            call.layer.name,
            inputs,
            self._shape(call.outputs[0]),
            axis=axis + 3 - rank,
        )

    def cropping(self, call: Call) -> Tensor:
        (top, _), (left, _) = call.layer.config["cropping"]
        return self._place(call, (-top, -left, 0))

    def channel_pad(self, call: Call) -> Tensor:
        return self._place(call, (0, 0, call.layer.config["before"]))

    def _place(self, call: Call, before: tuple[int, int, int], value: float = 0.0) -> Tensor:
        shape = self._shape(call.outputs[0])
        return self.add(
            operations.Place, call.layer.name, [self._float(call)], shape, before=before, value=value
        )

    def upsampling(self, call: Call) -> Tensor:
        config = call.layer.config
        if config["interpolation"] not in ("nearest", "bilinear"):
            raise _refuser(call.layer)(f"its interpolation is '{config['interpolation']}'")
        return self.add(
            operations.Upsample,
            call.layer.name,
            [self._float(call)],
            self._shape(call.outputs[0]),
            factor=_pair(config["size"]),
            bilinear=config["interpolation"] == "bilinear",
        )

    def flip(self, call: Call) -> Tensor:
        return self.add(operations.Flip, call.layer.name, [self._float(call)], self._shape(call.outputs[0]))

    def unknown_function(self, call: Call) -> Tensor:
        """A Lambda layer that changes nothing, as Larq Zoo has some."""
        shape = self._shape(call.inputs[0])
        probe = np.random.default_rng(0).standard_normal(
            (1, shape.height, shape.width, shape.channels), np.float32
        )
        probe = probe.reshape(1, *[int(size or 0) for size in call.inputs[0].shape[1:]])
        result = np.asarray(call.layer.origin(tf.constant(probe))) if call.layer.origin is not None else None
        if result is None or result.shape != probe.shape or (result != probe).any():
            raise _refuser(call.layer)("it is a function of its own")
        return self._tensors[call.inputs[0]]

    # Functions of values

    def activation(self, call: Call) -> Tensor:
        return self._activation(call, self._tensors[call.inputs[0]], call.layer.config["activation"])

    def hard_tanh(self, call: Call) -> Tensor:
        return self.map(call.layer.name, self._float(call), CLAMP, -1.0, 1.0)

    def leaky_clip(self, call: Call) -> Tensor:
        expression = "t > 1.0f ? 1.0f + {0} * (t - 1.0f) : (t < -1.0f ? {0} * (t + 1.0f) - 1.0f : t)"
        return self.map(call.layer.name, self._float(call), expression, call.layer.config["slope"])

    def relu(self, call: Call) -> Tensor:
        config, tensor = call.layer.config, self._float(call)
        name, threshold, top = call.layer.name, config["threshold"], config["max_value"]
        if threshold == config["negative_slope"] == 0:
            tensor = self.map(name, tensor, RELU)
        else:
            form = "t >= {0} ? t : {1} * (t - {0})"
            tensor = self.map(name, tensor, form, threshold, config["negative_slope"])
        return tensor if top is None else self.map(name, tensor, "t > {0} ? {0} : t", top)

    def leaky_relu(self, call: Call) -> Tensor:
        return self.map(call.layer.name, self._float(call), PRELU, call.layer.config["alpha"])

    def elu(self, call: Call) -> Tensor:
        return self.map(
            call.layer.name, self._float(call), "t > 0.0f ? t : {0} * expm1f(t)", call.layer.config["alpha"]
        )

    def prelu(self, call: Call) -> Tensor:
        alpha, shape = call.layer.weights["alpha"], self._shape(call.inputs[0])
        if alpha.size == alpha.shape[-1]:
            alpha = alpha.reshape(-1)
        else:
            whole = alpha.reshape([1] * (3 - alpha.ndim) + list(alpha.shape))
            alpha = np.broadcast_to(whole, (shape.height, shape.width, shape.channels)).reshape(-1)
        return self.map(call.layer.name, self._float(call), PRELU, alpha)

    def softmax(self, call: Call) -> Tensor:
        if call.layer.config["axis"] not in (-1, len(call.inputs[0].shape) - 1):
            raise _refuser(call.layer)("it is taken over another axis than the last")
        tensor = self._float(call)
        return self.add(operations.Softmax, call.layer.name, [tensor], self._network.shapes[tensor])

    def normalization(self, call: Call) -> Tensor:
        origin = call.layer.origin
        if origin is None or origin.mean is None:
            raise _refuser(call.layer)("its statistics are not known")
        mean, deviation = (
            np.asarray(origin.mean).reshape(-1),
            np.sqrt(np.asarray(origin.variance)).reshape(-1),
        )
        deviation = np.maximum(deviation, 1e-7)
        channels = self._shape(call.inputs[0]).channels
        of_channels = mean.size == channels == np.asarray(origin.mean).shape[-1]
        if not (mean.size == 1 or of_channels) or call.layer.config.get("invert"):
            raise _refuser(call.layer)("it does not normalize channels")
        return self.map(call.layer.name, self._float(call), "(t - {0}) / {1}", mean, deviation)

    def rescaling(self, call: Call) -> Tensor:
        config = call.layer.config
        return self.map(call.layer.name, self._float(call), AFFINE, config["scale"], config["offset"])

    def merge(self, call: Call) -> Tensor:
        kind = call.layer.kind.__name__.lower()
        tensor = self._combined(call, "add" if kind == "average" else kind)
        if kind != "average":
            return tensor
        return self.map(call.layer.name, tensor, SCALE, 1.0 / len(call.inputs))

    def _combined(self, call: Call, kind: str) -> Tensor:
        tensor = self._float(call)
        for position in range(1, len(call.inputs)):
            tensor = self._combine(call, kind, tensor, self._float(call, position))
        return tensor

    def _combine(self, call: Call, kind: str, first: Tensor, second: Tensor) -> Tensor:
        result = self.combine(call.layer.name, kind, first, second)
        if result is None:
            raise _refuser(call.layer)("it combines maps of different shapes")
        return result

    def operator(self, call: Call) -> Tensor:
        """An operator of TensorFlow in a functional model, such as `a + b` or `tf.nn.relu`."""
        function, refuse = call.layer.config["function"], _refuser(call.layer)
        marks: list[Any] = [object() for _ in call.inputs]
        arguments, options = call.arguments(marks)
        operands = list(arguments) + [value for key, value in options.items() if key != "name"]
        positions = [next((n for n, mark in enumerate(marks) if value is mark), None) for value in operands]
        if function in _OPERATORS and len(operands) == 2:
            kind = _OPERATORS[function]
            if len(marks) == 2 and all(position is not None for position in positions):
                first, second = (self._float(call, position or 0) for position in positions)
                return self._combine(call, kind, first, second)
            if len(marks) == 1:
                constant = np.asarray(operands[positions.index(None)], np.float32)
                expression = operations.COMBINATIONS[kind][positions.index(0)]
                channels = self._shape(call.inputs[0]).channels
                if constant.size == 1 or (constant.size == channels == constant.shape[-1]):
                    return self.map(
                        call.layer.name, self._float(call), expression.format(u="{0}"), constant.reshape(-1)
                    )
                raise refuse(f"its constant of shape {constant.shape} is not one value for each channel")
        if (bounds := facts.clip_bounds(call)) is not None:
            return self.map(call.layer.name, self._float(call), CLAMP, *bounds)
        short = function.split(".")[-1]
        if function.split(".")[0] in ("nn", "math", "keras") and short in FUNCTIONS and len(operands) == 1:
            return self.map(call.layer.name, self._float(call), FUNCTIONS[short])
        raise refuse(f"there is no C for '{function}'")


def _refuser(layer: Any) -> Callable[[str], ConversionError]:
    return lambda reason: ConversionError(f"'{layer.name}' ({layer.kind.__name__}): {reason}")


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def same_window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    same: bool,
) -> Window:
    """TensorFlow's window: `same` pads `(ceil(n / s) - 1) s + d (k - 1) + 1 - n`, the smaller half first."""
    before = [0, 0]
    if same:
        for axis in range(2):
            count = -(-size[axis] // stride[axis])
            total = (count - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - size[axis]
            before[axis] = max(total, 0) // 2
    return Window(kernel, stride, dilation, (before[0], before[1]))


def _is_clip(function: Any) -> bool:
    if not callable(function):
        return False
    values = np.linspace(-3, 3, 25, dtype=np.float32)
    return bool((np.asarray(function(tf.constant(values))) == np.clip(values, -1, 1)).all())


_LOWERINGS: list[tuple[Any, Callable[[_Lowering, Call], Tensor]]] = [
    ((layers.SeparableConv2D,), _Lowering.depthwise),
    ((layers.DepthwiseConv2D,), _Lowering.depthwise),
    ((layers.Conv2D,), _Lowering.convolution),
    ((layers.Dense,), _Lowering.dense),
    ((layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D), _Lowering.global_pool),
    ((layers.MaxPooling2D, layers.AveragePooling2D), _Lowering.pool),
    ((layers.Flatten, layers.Reshape), _Lowering.reshape),
    ((layers.Concatenate,), _Lowering.concatenate),
    ((layers.Cropping2D,), _Lowering.cropping),
    ((layers.UpSampling2D,), _Lowering.upsampling),
    ((ChannelPad,), _Lowering.channel_pad),
    ((FlipLayer,), _Lowering.flip),
    ((HardTanh,), _Lowering.hard_tanh),
    ((LeakyClip,), _Lowering.leaky_clip),
    ((layers.PReLU,), _Lowering.prelu),
    ((layers.LeakyReLU,), _Lowering.leaky_relu),
    ((layers.ELU,), _Lowering.elu),
    ((layers.ReLU,), _Lowering.relu),
    ((layers.Softmax,), _Lowering.softmax),
    ((layers.Activation,), _Lowering.activation),
    ((layers.Normalization,), _Lowering.normalization),
    ((layers.Rescaling,), _Lowering.rescaling),
    ((layers.Add, layers.Subtract, layers.Multiply), _Lowering.merge),
    ((layers.Average, layers.Maximum, layers.Minimum), _Lowering.merge),
    ((layers.Lambda,), _Lowering.unknown_function),
]


def pool_signs(network: Network) -> Network:
    """Takes signs before max pools where only signs are read behind them: `sign(max x) = max sign(x)`."""
    for pool in [
        operation
        for operation in network.operations
        if isinstance(operation, operations.Pool) and operation.largest
    ]:
        readers = network.consumers(pool.output)
        if network.shapes[pool.output].signs or pool.output in network.outputs:
            continue
        if not readers or not all(isinstance(reader, operations.Sign) for reader in readers):
            continue
        source = network.shapes[pool.inputs[0]]
        same = [op for op in network.consumers(pool.inputs[0]) if isinstance(op, operations.Sign)]
        position = network.operations.index(pool)
        if same and network.operations.index(same[0]) < position:
            packed = same[0].output
        else:
            packed = network.new_tensor(Shape(source.height, source.width, source.channels, signs=True))
            network.operations.insert(position, operations.Sign(pool.name, [pool.inputs[0]], packed))
            if pool.inputs[0] in network.origins:
                network.origins[packed] = network.origins[pool.inputs[0]]
        result = readers[0].output
        network.operations = [operation for operation in network.operations if operation not in readers]
        pool.inputs, pool.output = [packed], result
    return network


def without_dead(network: Network) -> Network:
    """Drops operations whose results nobody reads."""
    alive = set(network.outputs)
    kept: list[Operation] = []
    for operation in reversed(network.operations):
        if operation.output in alive:
            alive.update(operation.inputs)
            kept.append(operation)
    network.operations = kept[::-1]
    return network
