"""From a converted `.tflite` file to operations of a program, and its comparison with LCE's interpreter.

The numbers in a file are those that `convert` folded, so its program computes what the program of the Keras
model computes. Where LCE has fused a normalization and a sign into a convolution, the file holds a threshold
for each filter instead; it is compared with whole numbers, so nothing is rounded there.

An int8 tensor of a file is a float map in the program that holds what its whole numbers stand for,
`scale · (q - zero point)`; int8 kernels stay int8. TFLite rounds whole numbers where the program rounds
floats, so values next to the middle between two steps may get the other one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np

from bnn_tf.deploy.graph import ConversionError
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce_file import LceFile, Operator, TensorInfo
from bnn_tf.deploy.proof import LAST_DIGIT, deviation
from bnn_tf.errors import some
from bnn_tf.export import lowering, operations
from bnn_tf.export.check import TOLERANCE, Difference, LayerProof, Outcome, largest_rounding
from bnn_tf.export.operations import Builder, Network, Shape, Tensor, Window
from bnn_tf.export.program import Program

_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}
"""Limits of TFLite's fused activations: none, ReLU, hard-tanh, ReLU6."""
_FUNCTIONS = {
    "RELU": "relu",
    "RELU6": "relu6",
    "LOGISTIC": "sigmoid",
    "TANH": "tanh",
    "ELU": "elu",
    "EXP": "exp",
    "ABS": "abs",
    "NEG": "negative",
    "SQRT": "sqrt",
    "SQUARE": "square",
}
_COMBINATIONS = {
    "ADD": "add",
    "SUB": "subtract",
    "MUL": "multiply",
    "DIV": "divide",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
}
_REQUANTIZED = "floorf(rintf(t * {0}) * {1} + 0.5f)"
"""What TFLite makes of a sum `t` in steps, which it first rounds to a multiple of 1 / {0} = {1}."""
_REQUANTIZES = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "QUANTIZE")
"""Operators that do so with int8 values."""
_ROUNDED = "copysignf(floorf(fabsf(t + {0}) + 0.5001f), t + {0}) - {0}"
"""The nearest whole number; ties go away from -{0}. As a float, a tie may lie a little below the middle."""
_MOVES = (
    *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2", "STRIDED_SLICE", "MAX_POOL_2D", "REDUCE_MAX"),
    *("REVERSE_V2", "RESIZE_NEAREST_NEIGHBOR", "CONCATENATION"),
)
"""Operators that make no new values."""
_LARGEST_COUNT = 2.0**20  # no count of bits is as large; whole numbers up to it are exact floats


def lower_file(file: LceFile) -> Network:
    """The operations of a converted file; `origins` are numbers of tensors of the file.

    Raises:
        ConversionError: Something in the file cannot be exported; the message names it.
    """
    return _FileLowering(file).network()


class _FileLowering(Builder):
    """Writes the operations of one file. `tensors` maps the file's tensors to the network's."""

    def __init__(self, file: LceFile) -> None:
        super().__init__(file.label.strip("'"))
        self._file = file
        self._tensors: dict[int, Tensor] = {}
        self._constants: dict[int, np.ndarray] = {}

    def network(self) -> Network:
        file, network = self._file, self._network
        if len(file.inputs) != 1:
            raise ConversionError(f"{file.label} has {len(file.inputs)} inputs; a program takes one image")
        (image,) = file.inputs
        if image.type not in ("FLOAT32", "UINT8"):
            raise ConversionError(
                f"{file.label} takes {image.type.lower()} images, but a program takes float values or "
                "pixels; convert the network with float32 or uint8 input"
            )
        if any(tensor.type == "INT8" for tensor in file.outputs):
            raise ConversionError(
                f"{file.label} gives int8 values, but a program gives float values; "
                "convert the network with float32 output"
            )
        network.input = network.new_tensor(self._shape(image))
        self._tensors[image.index] = network.input
        refused = []
        for operator in file.operators:
            try:
                result = self._lower(operator)
            except ConversionError as error:
                refused.append(str(error))
                result = network.new_tensor(Shape(1, 1, 1))  # so that everything refused gets named at once
                for output in operator.outputs:
                    if len(output.shape) in (2, 3, 4) and 0 not in output.shape:
                        result = network.new_tensor(self._shape(output))
            if result is not None:
                result = self.quantized(operator, result)
                self._tensors[operator.outputs[0].index] = result
                network.origins.setdefault(result, operator.outputs[0].index)
        if refused:
            raise ConversionError(f"{file.label} cannot be exported: {some(list(dict.fromkeys(refused)))}")
        network.outputs = [self.values(self._tensors[tensor.index]) for tensor in file.outputs]
        return lowering.without_dead(lowering.pool_signs(network))

    def _shape(self, tensor: TensorInfo) -> Shape:
        if not 2 <= len(tensor.shape) <= 4 or tensor.shape[0] != 1 or 0 in tensor.shape:
            raise ConversionError(f"a tensor of shape {tensor.shape} is not the map of one image")
        height, width, channels = [1] * (4 - len(tensor.shape)) + list(tensor.shape[1:])
        return Shape(height, width, channels)

    def constant(self, tensor: TensorInfo) -> np.ndarray | None:
        """The value of a tensor that does not depend on the image; None for others."""
        if tensor.index in self._constants:
            return self._constants[tensor.index]
        return self._file.data(tensor)

    def parameter(self, operator: Operator, position: int) -> np.ndarray:
        """An input that must be a constant, as float values."""
        values = self.constant(operator.inputs[position])
        if values is None:
            raise _refused(operator, "its parameters are computed, not constant")
        tensor = operator.inputs[position]
        if values.dtype.kind == "i" and tensor.scales:
            return _real(tensor, values)
        if values.dtype.kind != "f":
            raise _refused(operator, f"its parameters are {values.dtype}")
        return values.astype(np.float32)

    def filters(self, operator: Operator, axis: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The kernel as it lies in the file; whole numbers with the step of each filter where it is int8."""
        kernel = operator.inputs[1]
        if kernel.type != "INT8" or kernel.index in self._constants:
            return self.parameter(operator, 1), None
        levels = self.constant(kernel)
        if levels is None or any(kernel.zero_points) or operator.inputs[0].type != "INT8":
            raise _refused(operator, "its kernel is int8 in a way that is not known here")
        steps = np.broadcast_to(np.asarray(kernel.scales, np.float32), levels.shape[axis])
        return levels, steps

    def quantized(self, operator: Operator, tensor: Tensor) -> Tensor:
        """What an operator makes, rounded to the steps of its output if that is int8."""
        (output,) = operator.outputs
        if output.type != "INT8":
            return tensor
        same = all(
            (one.scales, one.zero_points) == (output.scales, output.zero_points)
            for one in operator.inputs
            if one.type == "INT8"
        )
        if operator.name in _MOVES and same:
            return tensor
        (scale,), (zero,), name = output.scales, output.zero_points, operator.label
        tensor = self.map(name, tensor, "t / {0}", scale)
        source = operator.inputs[0]
        if source.type != "INT8":
            tensor = self.map(name, tensor, "roundf(t)")
        elif operator.name in _REQUANTIZES:
            # Whole numbers are multiplied by a number below 1, rounded, and shifted right with rounding.
            steps = operator.inputs[1].scales if len(operator.inputs) > 1 else (1.0,)
            _, exponents = np.frexp(np.float64(source.scales[0]) * np.asarray(steps) / scale)
            parts = 2.0 ** np.maximum(-exponents, 0)
            tensor = self.map(name, tensor, _REQUANTIZED, parts, 1 / parts)
        else:
            stored = operator.name == "AVERAGE_POOL_2D"  # it rounds the numbers with their zero point
            tensor = self.map(name, tensor, _ROUNDED, zero if stored else 0)
        tensor = self.map(name, tensor, operations.CLAMP, -128 - zero, 127 - zero)
        return self.map(name, tensor, operations.SCALE, scale)

    def floats(self, operator: Operator, position: int = 0) -> Tensor:
        """An input as float values."""
        if operator.inputs[position].index not in self._tensors:
            raise _refused(operator, "it reads a constant where a map is expected")
        return self.values(self._tensors[operator.inputs[position].index])

    def activated(self, operator: Operator, tensor: Tensor, number: int) -> Tensor:
        """The fused activation of an operator."""
        if number not in _ACTIVATIONS:
            raise _refused(operator, "its fused activation is unknown")
        low, high = _ACTIVATIONS[number]
        if low is not None:
            expression = operations.AT_LEAST if high is None else operations.CLAMP
            limits = [low] if high is None else [low, high]
            tensor = self.map(operator.label, tensor, expression, *limits)
        return tensor

    def _lower(self, operator: Operator) -> Tensor | None:
        """What an operator makes; None where it makes a constant."""
        if len(operator.outputs) != 1:
            raise _refused(operator, "it has several outputs")
        if self._is_constant(operator):
            return None
        taken = [
            t
            for t in (*operator.inputs, *operator.outputs)
            if t.index in self._tensors or t in operator.outputs
        ]
        if any(t.type == "INT16" or (t.type == "INT8" and len(t.scales) != 1) for t in taken):
            raise _refused(operator, "it computes with whole numbers in a way that is not known here")
        if operator.name in _FUNCTIONS:
            function = lowering.FUNCTIONS[_FUNCTIONS[operator.name]]
            return self.map(operator.label, self.floats(operator), function)
        if operator.name in _COMBINATIONS:
            return self.combination(operator)
        if operator.name not in _LOWERINGS:
            raise _refused(operator, "no operation of the exported program computes it")
        try:
            return _LOWERINGS[operator.name](self, operator)
        except KeyError as error:
            raise _refused(operator, f"the file is damaged: it has no {error}") from error

    def _is_constant(self, operator: Operator) -> bool:
        """Computes what depends on no image: filters of one sign throughout, and weights of other types."""
        values = [self.constant(tensor) for tensor in operator.inputs]
        if not values or any(value is None for value in values):
            return False
        (output,) = operator.outputs
        first = np.asarray(values[0])
        if operator.name == "FILL":
            result = np.full(tuple(first.reshape(-1)), np.asarray(values[1]).reshape(()))
        elif operator.name == "DEQUANTIZE" and first.dtype == np.float16:
            result = first.astype(np.float32)
        elif operator.name == "DEQUANTIZE" and len(operator.inputs[0].scales) == 1:
            result = _real(operator.inputs[0], first)
        elif operator.name == "RESHAPE":
            result = first.reshape(output.shape)
        else:
            raise _refused(operator, "it computes a constant in a way that is not known here")
        self._constants[output.index] = result
        return True

    # Signs

    def quantize(self, operator: Operator) -> Tensor:
        tensor = self._tensors[operator.inputs[0].index]
        shape = self._network.shapes[tensor]
        if shape.signs:
            return tensor
        return self.add(operations.Sign, operator.label, [tensor], dataclasses.replace(shape, signs=True))

    def dequantize(self, operator: Operator) -> Tensor:
        return self.floats(operator)

    def binary_convolution(self, operator: Operator) -> Tensor:
        """`multiplier * activation(sum) + bias`, or the sign of `threshold - differing bits`."""
        options, (source, packed) = operator.options, operator.inputs[:2]
        tensor = self._tensors[source.index]
        inputs, words = int(options["channels_in"]), self.constant(packed)
        if words is None or words.ndim != 4 or not self._network.shapes[tensor].signs:
            raise _refused(operator, "it is no binary convolution with constant filters")
        octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., :inputs]
        kernel = np.where(bits == 1, np.float32(-1), np.float32(1)).transpose(1, 2, 3, 0)
        # The packed map says how many words a pixel has, not how many channels.
        shape = self._network.shapes[tensor]
        if shape.channels != inputs:
            raise _refused(operator, f"it reads {shape.channels} channels as {inputs}")
        same = int(options["padding"]) == 0
        stride = int(options["stride_height"]), int(options["stride_width"])
        dilation = int(options["dilation_height_factor"]), int(options["dilation_width_factor"])
        window = lowering.same_window((shape.height, shape.width), _size(kernel), stride, dilation, same)
        output = self._map_shape(operator, kernel.shape[3])
        one, name = int(options["pad_values"]) == 1, operator.label
        padded = window.reaches_over(shape, output)
        ones = padded and same and one
        counts = self.add(
            operations.Convolution, name, [tensor], output, window=window, kernel=kernel, ones=ones
        )
        activation = int(options["fused_activation_function"])
        if operator.outputs[0].type == "INT32":
            thresholds = self.constant(operator.inputs[-1])
            if thresholds is None or thresholds.dtype.kind != "i" or (padded and not one):
                raise _refused(operator, "its thresholds are not known")
            least = float(np.prod(kernel.shape[:3])) - 2.0 * thresholds.astype(np.float64)
            least = np.clip(least, -_LARGEST_COUNT, _LARGEST_COUNT)
            margin = self.map(name, counts, "t - {0}", least)
            return self.add(operations.Sign, name, [margin], dataclasses.replace(output, signs=True))
        result = self.activated(operator, counts, activation)
        multiplier, bias = (self.parameter(operator, position) for position in (2, 3))
        return self.map(name, result, operations.AFFINE, multiplier, bias)

    def _map_shape(self, operator: Operator, channels: int) -> Shape:
        """The shape of the output; that of a packed map does not say how many channels it has."""
        return dataclasses.replace(self._shape(operator.outputs[0]), channels=channels)

    def pool_signs(self, operator: Operator) -> Tensor:
        options, tensor = operator.options, self._tensors[operator.inputs[0].index]
        shape = self._network.shapes[tensor]
        size = int(options["filter_height"]), int(options["filter_width"])
        stride = int(options["stride_height"]), int(options["stride_width"])
        window = lowering.same_window(
            (shape.height, shape.width), size, stride, (1, 1), int(options["padding"]) == 0
        )
        output = dataclasses.replace(self._map_shape(operator, shape.channels), signs=shape.signs)
        return self.add(operations.Pool, operator.label, [tensor], output, window=window, largest=True)

    # Layers with kernels

    def _window(
        self, operator: Operator, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
    ) -> Window:
        shape = self._network.shapes[self._tensors[operator.inputs[0].index]]
        same = _option(operator, 0, "b") == 0
        return lowering.same_window((shape.height, shape.width), size, stride, dilation, same)

    def _with_bias(
        self, operator: Operator, tensor: Tensor, steps: np.ndarray | None, activation: int
    ) -> Tensor:
        if steps is not None:
            tensor = self.map(operator.label, tensor, operations.SCALE, steps)
        if len(operator.inputs) > 2:
            bias = self.parameter(operator, 2)
            if bias.any():
                tensor = self.map(operator.label, tensor, operations.BIAS, bias)
        return self.activated(operator, tensor, activation)

    def convolution(self, operator: Operator) -> Tensor:
        kernel, steps = self.filters(operator, 0)
        kernel = kernel.transpose(1, 2, 3, 0)
        stride = _option(operator, 2), _option(operator, 1)
        dilation = _option(operator, 5, default=1), _option(operator, 4, default=1)
        tensor = self.floats(operator)
        groups = self._network.shapes[tensor].channels // kernel.shape[2]
        window = self._window(operator, _size(kernel), stride, dilation)
        name, output = operator.label, self._shape(operator.outputs[0])
        result = self.add(
            operations.Convolution, name, [tensor], output, window=window, kernel=kernel, groups=groups
        )
        return self._with_bias(operator, result, steps, _option(operator, 3, "b"))

    def depthwise(self, operator: Operator) -> Tensor:
        tensor, (weights, steps) = self.floats(operator), self.filters(operator, 3)
        channels = self._network.shapes[tensor].channels
        kernel = weights.reshape(*weights.shape[1:3], channels, -1)
        stride = _option(operator, 2), _option(operator, 1)
        dilation = _option(operator, 6, default=1), _option(operator, 5, default=1)
        window = self._window(operator, _size(kernel), stride, dilation)
        output = self._shape(operator.outputs[0])
        result = self.add(
            operations.Depthwise, operator.label, [tensor], output, window=window, kernel=kernel
        )
        return self._with_bias(operator, result, steps, _option(operator, 4, "b"))

    def dense(self, operator: Operator) -> Tensor:
        kernel, steps = self.filters(operator, 0)
        kernel = kernel.T[None, None]
        tensor, output = self.floats(operator), self._shape(operator.outputs[0])
        shape = self._network.shapes[tensor]
        if shape.channels != kernel.shape[2]:  # TFLite lets a map pass as a vector
            flat = Shape(1, 1, shape.pixels * shape.channels)
            tensor = self.add(operations.Reshape, operator.label, [tensor], flat)
        window = Window((1, 1), (1, 1), (1, 1), (0, 0))
        result = self.add(
            operations.Convolution, operator.label, [tensor], output, window=window, kernel=kernel
        )
        return self._with_bias(operator, result, steps, _option(operator, 0, "b"))

    # Pools and operators that move values

    def pool(self, operator: Operator) -> Tensor:
        size = _option(operator, 4), _option(operator, 3)
        stride = _option(operator, 2), _option(operator, 1)
        window = self._window(operator, size, stride, (1, 1))
        largest = operator.name == "MAX_POOL_2D"
        output = self._shape(operator.outputs[0])
        result = self.add(
            operations.Pool, operator.label, [self.floats(operator)], output, window=window, largest=largest
        )
        return self.activated(operator, result, _option(operator, 5, "b"))

    def reduce(self, operator: Operator) -> Tensor:
        rank = len(operator.inputs[0].shape)
        axes = np.asarray(self.constant(operator.inputs[1])).reshape(-1) % rank
        if rank != 4 or sorted(axes.tolist()) != [1, 2]:
            raise _refused(operator, "it does not reduce whole maps")
        tensor = self.floats(operator)
        shape = self._network.shapes[tensor]
        window = Window((shape.height, shape.width), (1, 1), (1, 1), (0, 0))
        output = Shape(1, 1, shape.channels)
        return self.add(
            operations.Pool,
            operator.label,
            [tensor],
            output,
            window=window,
            largest=operator.name == "REDUCE_MAX",
        )

    def reshape(self, operator: Operator) -> Tensor:
        return self.add(
            operations.Reshape, operator.label, [self.floats(operator)], self._shape(operator.outputs[0])
        )

    def pad(self, operator: Operator) -> Tensor:
        sides = self.constant(operator.inputs[1])
        if sides is None or sides[0].any():
            raise _refused(operator, "what it pads with is not known")
        before = [0] * (4 - len(sides)) + [int(side) for side in sides[1:, 0]]
        value = float(self.parameter(operator, 2).reshape(())) if len(operator.inputs) > 2 else 0.0
        return self._place(operator, (before[0], before[1], before[2]), value)

    def _place(self, operator: Operator, before: tuple[int, int, int], value: float = 0.0) -> Tensor:
        shape = self._shape(operator.outputs[0])
        return self.add(
            operations.Place, operator.label, [self.floats(operator)], shape, before=before, value=value
        )

    def slice(self, operator: Operator) -> Tensor:
        begin, steps = (self.constant(operator.inputs[position]) for position in (1, 3))
        shape = operator.inputs[0].shape
        known = begin is not None and steps is not None and len(shape) == len(steps) == 4
        if begin is None or steps is None or not known or any(_option(operator, f) for f in (2, 3, 4)):
            raise _refused(operator, "it picks values in a way that is not known here")
        starts = []
        for axis in range(4):
            start = 0 if _option(operator, 0) >> axis & 1 else int(begin[axis])
            starts.append(start + shape[axis] if start < 0 else start)
        first = (starts[1], starts[2], starts[3])
        stride = (int(steps[1]), int(steps[2]))
        if starts[0] or min(stride) < 1 or steps[3] != 1 or steps[0] != 1:
            raise _refused(operator, "it picks values in a way that is not known here")
        if stride == (1, 1):
            return self._place(operator, (-first[0], -first[1], -first[2]))
        output = self._shape(operator.outputs[0])
        if first[2] or output.channels != shape[3]:
            raise _refused(operator, "it picks pixels and channels at once")
        window = Window((1, 1), stride, (1, 1), (-first[0], -first[1]))
        return self.add(
            operations.Pool, operator.label, [self.floats(operator)], output, window=window, largest=True
        )

    def concatenate(self, operator: Operator) -> Tensor:
        rank = len(operator.outputs[0].shape)
        axis = _option(operator, 0) % rank
        if axis == 0:
            raise _refused(operator, "it joins images")
        inputs = [self.floats(operator, position) for position in range(len(operator.inputs))]
        shape = self._shape(operator.outputs[0])
        result = self.add(operations.Concatenate, operator.label, inputs, shape, axis=axis + 3 - rank)
        return self.activated(operator, result, _option(operator, 1, "b"))

    def reverse(self, operator: Operator) -> Tensor:
        axes = np.asarray(self.constant(operator.inputs[1])).reshape(-1) % 4
        if sorted(axes.tolist()) != [1, 2] or len(operator.inputs[0].shape) != 4:
            raise _refused(operator, "it does not turn maps around")
        return self.add(
            operations.Flip, operator.label, [self.floats(operator)], self._shape(operator.outputs[0])
        )

    def resize(self, operator: Operator) -> Tensor:
        bilinear = operator.name == "RESIZE_BILINEAR"
        tensor, output = self.floats(operator), self._shape(operator.outputs[0])
        shape = self._network.shapes[tensor]
        corners, half = (_option(operator, field, "b") for field in ((2, 3) if bilinear else (0, 1)))
        factor = output.height // shape.height, output.width // shape.width
        whole = (shape.height * factor[0], shape.width * factor[1]) == (output.height, output.width)
        if corners or not whole or min(factor) < 1 or (bilinear and not half):
            raise _refused(operator, "it resizes otherwise than by whole factors from the centres")
        return self.add(
            operations.Upsample, operator.label, [tensor], output, factor=factor, bilinear=bilinear
        )

    # Functions of values

    def clip(self, operator: Operator) -> Tensor:
        return self.map(operator.label, self.floats(operator), operations.CLAMP, -1.0, 1.0)

    def hard_swish(self, operator: Operator) -> Tensor:
        expression = "t * (t < -3.0f ? 0.0f : (t > 3.0f ? 6.0f : t + 3.0f)) * (1.0f / 6.0f)"
        return self.map(operator.label, self.floats(operator), expression)

    def leaky_relu(self, operator: Operator) -> Tensor:
        alpha = _option(operator, 0, "f", 0.0)
        return self.map(operator.label, self.floats(operator), operations.PRELU, alpha)

    def prelu(self, operator: Operator) -> Tensor:
        tensor, slopes = self.floats(operator), self.parameter(operator, 1)
        return self.map(operator.label, tensor, operations.PRELU, self._spread(tensor, slopes))

    def _spread(self, tensor: Tensor, values: np.ndarray) -> np.ndarray:
        """A constant as one value, a value per channel or a value per element of a map."""
        shape = self._network.shapes[tensor]
        if values.size == 1 or values.size == values.shape[-1] == shape.channels:
            return values.reshape(-1)
        while values.ndim > 3:
            values = values[0]
        return np.broadcast_to(values, (shape.height, shape.width, shape.channels)).reshape(-1)

    def softmax(self, operator: Operator) -> Tensor:
        tensor = self.floats(operator)
        beta = _option(operator, 0, "f", 0.0)
        if beta != 1:
            tensor = self.map(operator.label, tensor, operations.SCALE, beta)
        return self.add(operations.Softmax, operator.label, [tensor], self._network.shapes[tensor])

    def cast(self, operator: Operator) -> Tensor:
        pixels = operator.inputs[0].type == "UINT8" and operator.inputs[0] == self._file.inputs[0]
        if not pixels or operator.outputs[0].type != "FLOAT32":
            raise _refused(operator, "it changes the type of values")
        return self._network.input

    def combination(self, operator: Operator) -> Tensor:
        kind = _COMBINATIONS[operator.name]
        constants = [self.constant(tensor) for tensor in operator.inputs]
        fused = kind in ("add", "subtract", "multiply", "divide")
        position = next((n for n, value in enumerate(constants) if value is not None), None)
        if position is not None:
            tensor = self.floats(operator, 1 - position)
            values = self.parameter(operator, position)
            if self._shape(operator.outputs[0]) != self._network.shapes[tensor]:
                raise _refused(operator, "it spreads a map over a larger constant")
            expression = operations.COMBINATIONS[kind][1 - position].format(u="{0}")
            result = self.map(operator.label, tensor, expression, self._spread(tensor, values))
        else:
            first, second = self.floats(operator, 0), self.floats(operator, 1)
            combined = self.combine(operator.label, kind, first, second)
            if combined is None:
                raise _refused(operator, "it combines maps of different shapes")
            result = combined
        return self.activated(operator, result, _option(operator, 0, "b") if fused else 0)


def _option(operator: Operator, field: int, kind: str = "i", default: Any = 0) -> Any:
    options = operator.builtin_options
    return default if options is None else options.number(field, kind, default)


def _refused(operator: Operator, reason: str) -> ConversionError:
    return ConversionError(f"'{operator.label}' ({operator.name}): {reason}")


def _real(tensor: TensorInfo, values: np.ndarray) -> np.ndarray:
    """What the whole numbers of a tensor stand for, which has one scale, or one for each of a vector's."""
    zeros = np.asarray(tensor.zero_points or (0,), np.float32)
    return (values.astype(np.float32) - zeros) * np.asarray(tensor.scales, np.float32)


def _size(kernel: np.ndarray) -> tuple[int, int]:
    return kernel.shape[0], kernel.shape[1]


_LOWERINGS: Mapping[str, Callable[[_FileLowering, Operator], Tensor]] = {
    "LceQuantize": _FileLowering.quantize,
    "LceDequantize": _FileLowering.dequantize,
    "QUANTIZE": _FileLowering.dequantize,
    "DEQUANTIZE": _FileLowering.dequantize,
    "LceBconv2d": _FileLowering.binary_convolution,
    "LceBMaxPool2d": _FileLowering.pool_signs,
    "CONV_2D": _FileLowering.convolution,
    "DEPTHWISE_CONV_2D": _FileLowering.depthwise,
    "FULLY_CONNECTED": _FileLowering.dense,
    "MAX_POOL_2D": _FileLowering.pool,
    "AVERAGE_POOL_2D": _FileLowering.pool,
    "MEAN": _FileLowering.reduce,
    "REDUCE_MAX": _FileLowering.reduce,
    "RESHAPE": _FileLowering.reshape,
    "SQUEEZE": _FileLowering.reshape,
    "EXPAND_DIMS": _FileLowering.reshape,
    "PAD": _FileLowering.pad,
    "PADV2": _FileLowering.pad,
    "STRIDED_SLICE": _FileLowering.slice,
    "CONCATENATION": _FileLowering.concatenate,
    "REVERSE_V2": _FileLowering.reverse,
    "RESIZE_NEAREST_NEIGHBOR": _FileLowering.resize,
    "RESIZE_BILINEAR": _FileLowering.resize,
    "RELU_N1_TO_1": _FileLowering.clip,
    "HARD_SWISH": _FileLowering.hard_swish,
    "LEAKY_RELU": _FileLowering.leaky_relu,
    "PRELU": _FileLowering.prelu,
    "SOFTMAX": _FileLowering.softmax,
    "CAST": _FileLowering.cast,
}


# Comparison with LCE's interpreter ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reference:
    """What LCE's interpreter computes on images: the outputs, and the tensors that a program keeps.

    Attributes:
        outputs: Each output, `(n, …)`.
        values: Float and int8 tensors by their number in the file, as what they stand for, `(n, …)`; of the
            first images only.
        signs: Packed tensors the same way, `(n, height, width, words)`.
    """

    outputs: list[np.ndarray]
    values: dict[int, np.ndarray]
    signs: dict[int, np.ndarray]


def reference(file: LceFile, program: Program, images: np.ndarray, traced: int) -> Reference:
    """Runs a file in LCE's interpreter, on the first `traced` images with the tensors behind a program."""
    inputs = images
    if file.inputs[0].type == "UINT8":
        inputs = np.asarray(images, np.uint8)
    outputs = list(Interpreter(file).predict_all([inputs]).values())
    kept = {tensor for step in program.steps for tensor in step.writes}
    wanted = {program.network.origins[tensor] for tensor in kept if tensor in program.network.origins}
    makers = file.makers()
    for number in list(wanted):  # the values that signs were taken of say how near to zero they were
        maker = makers.get(number)
        if maker is not None and maker.name == "LceQuantize":
            wanted.add(maker.inputs[0].index)
    numbers = sorted(wanted - {tensor.index for tensor in (*file.inputs, *file.outputs)})
    probed = LceFile(file.with_outputs(numbers))
    arrays = (
        list(Interpreter(probed).predict_all([inputs[:traced]]).values())[-len(numbers) :] if numbers else []
    )
    values: dict[int, np.ndarray] = {}
    signs: dict[int, np.ndarray] = {}
    for number, array in zip(numbers, arrays, strict=True):
        (signs if file.tensors[number].type == "INT32" else values)[number] = array
    return Reference(outputs, values, signs)


def forced(program: Program, expected: Reference) -> dict[Tensor, np.ndarray]:
    """What a program's tensors are set to once computed, so that each step starts from LCE's values.

    Float maps `(n, height, width, channels)`, signs as -1 and +1.
    """
    network, result = program.network, {}
    for tensor in (tensor for step in program.steps for tensor in step.writes):
        shape, number = network.shapes[tensor], network.origins.get(tensor)
        array = _of_tensor(expected, number, shape)
        if array is not None:
            size = (len(array), shape.height, shape.width, shape.channels)
            result[tensor] = array.reshape(size)
    return result


def _of_tensor(expected: Reference, number: int | None, shape: Shape) -> np.ndarray | None:
    if number in expected.values:
        values = expected.values[number]
        return np.where(values >= 0, np.float32(1), np.float32(-1)) if shape.signs else values
    if number not in expected.signs or not shape.signs:
        return None
    octets = np.ascontiguousarray(expected.signs[number], "<i4").view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., : shape.channels]
    return 1 - 2 * bits.astype(np.float32)


def prove_file(
    file: LceFile, program: Program, outcome: Outcome, expected: Reference, traced: int
) -> LayerProof:
    """Compares every tensor that a program kept with LCE's, each computed from LCE's values before it.

    Signs may differ where LCE's value is next to zero; those that a threshold decides may not. The first
    `traced` outputs of the program must be those that it computed from LCE's values.
    """
    makers, network = file.makers(), program.network
    compared = flipped = total = 0
    difference = None
    targets = forced(program, expected)
    lost = _lost_digits(network, {*outcome.values, *outcome.signs})
    for tensor, target in targets.items():
        number = network.origins[tensor]
        name, shape = file.tensors[number].name.split(";")[0], network.shapes[tensor]
        compared += 1
        if not shape.signs:
            if tensor not in outcome.values:
                compared -= 1
                continue
            actual = outcome.values[tensor].reshape(target.shape)
            gap = np.abs(actual - target)
            limit = largest_rounding(target, lost.get(tensor, 0.0))
            wrong = ~(gap <= np.maximum(limit, _step(file, makers, number)))
            largest = float(gap.max())
        else:
            other = outcome.signs[tensor].reshape(target.shape) != target
            maker = makers.get(number)
            source = number if number in expected.values else None
            if source is None and maker is not None and maker.name == "LceQuantize":
                source = maker.inputs[0].index
            values = expected.values.get(source) if source is not None else None
            size = np.ones_like(target) if values is None else np.abs(values).reshape(target.shape)
            near = 0.0 if values is None else TOLERANCE * deviation(values)
            near = max(near, 0.0 if source is None else _step(file, makers, source))
            wrong = other & ~(size <= np.maximum(near, lost.get(tensor, 0.0)))
            flipped, total = flipped + int(other.sum()), total + other.size
            largest = float(size[wrong].max(initial=0.0))
        if wrong.any() and difference is None:
            difference = Difference(name, float(wrong.mean()), largest)
    for end, name, tensor, target, actual in zip(
        file.outputs, file.output_names, network.outputs, expected.outputs, outcome.outputs, strict=True
    ):
        shape = network.shapes[tensor]
        target = target[:traced].reshape(traced, shape.height, shape.width, shape.channels)
        gap = np.abs(actual[:traced].reshape(target.shape) - target)
        limit = largest_rounding(target, lost.get(tensor, 0.0))
        wrong = ~(gap <= np.maximum(limit, _step(file, makers, end.index)))
        compared += 1
        if wrong.any() and difference is None:
            difference = Difference(name, float(wrong.mean()), float(gap.max()))
    return LayerProof(compared, flipped, total, difference)


def _step(file: LceFile, makers: Mapping[int, Operator], number: int) -> float:
    """By how much rounding may move a tensor: a step of one that is int8, or was just before."""
    maker = makers.get(number)
    whole = file.tensors[number] if maker is None or maker.name != "DEQUANTIZE" else maker.inputs[0]
    return 1.001 * whole.scales[0] if whole.type == "INT8" else 0.0


def _lost_digits(network: Network, exact: Container[Tensor]) -> dict[Tensor, np.ndarray]:
    """How far rounding may move what binary convolutions give, per channel or one for all.

    LCE adds `K` times the multiplier of a channel to the bias of a binary convolution of `K` inputs, which
    takes digits from every value of the channel; see `bnn_tf.deploy.proof`.

    Args:
        network: The network.
        exact: Tensors that the program takes over from LCE.
    """
    sums: dict[Tensor, float] = {}
    lost: dict[Tensor, np.ndarray] = {}
    for op in network.operations:
        before = [lost[tensor] for tensor in op.inputs if tensor in lost and tensor not in exact]
        if isinstance(op, operations.Convolution) and network.shapes[op.inputs[0]].signs:
            sums[op.output] = float(np.prod(op.kernel.shape[:3]))
        elif isinstance(op, operations.Map) and op.inputs[0] in sums:
            if op.expression == operations.AFFINE:
                lost[op.output] = LAST_DIGIT * sums[op.inputs[0]] * np.abs(op.parameters[0])
            else:  # an activation before the multiplier
                sums[op.output] = sums[op.inputs[0]]
        elif before and isinstance(op, operations.Map) and op.expression == operations.AFFINE:
            lost[op.output] = np.abs(op.parameters[0]) * before[0]
        elif before and isinstance(
            op, operations.Map | operations.Combine | operations.Pool | operations.Sign
        ):
            lost[op.output] = np.asarray(np.sum(np.broadcast_arrays(*before), axis=0))
        elif before:  # in other channels
            lost[op.output] = np.asarray(max(one.max() for one in before))
    return lost
