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
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from bnn_tf.deploy.graph import ConversionError
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce_file import LceFile, Operator, TensorInfo
from bnn_tf.deploy.proof import LAST_DIGIT, deviation
from bnn_tf.errors import UserError, first_line
from bnn_tf.export import operations as ops
from bnn_tf.export.check import TOLERANCE, LayerProof, Outcome
from bnn_tf.export.lowering import FUNCTIONS, Lowering
from bnn_tf.export.operations import Network, Shape, Tensor, Window
from bnn_tf.export.program import Program

_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}
"""Limits of TFLite's fused activations: none, ReLU, hard-tanh, ReLU6."""
_FUNCTIONS = {
    **{
        name.upper(): FUNCTIONS[name]
        for name in ("relu", "relu6", "tanh", "elu", "exp", "abs", "sqrt", "square")
    },
    "LOGISTIC": FUNCTIONS["sigmoid"],
    "NEG": FUNCTIONS["negative"],
    "HARD_SWISH": "t * (t < -3.0f ? 0.0f : (t > 3.0f ? 6.0f : t + 3.0f)) * (1.0f / 6.0f)",
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
    """The operations of a converted file; `origins` are its tensors.

    Raises:
        ConversionError: Something in the file cannot be exported; the message names it.
    """
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
    return _FileLowering(file).network(file.label, file.operators, file)


class _FileLowering(Lowering):
    """Lowers the operators of a file."""

    def __init__(self, file: LceFile) -> None:
        super().__init__(file.label.strip("'"))
        self._file = file
        self._constants: dict[TensorInfo, np.ndarray] = {}

    def named(self, node: Operator) -> tuple[str, str]:
        return node.label, node.name

    def shape_of(self, tensor: TensorInfo) -> Shape:
        if tensor.shape[:1] != (1,):
            raise ConversionError(f"a tensor of shape {tensor.shape} is not the map of one image")
        return super().shape_of(tensor)

    def constant(self, tensor: TensorInfo) -> np.ndarray | None:
        """The value of a tensor that does not depend on the image; None for others."""
        if tensor in self._constants:
            return self._constants[tensor]
        return self._file.data(tensor)

    def parameter(self, operator: Operator, position: int) -> np.ndarray:
        """An input that must be a constant, as float values."""
        tensor = operator.inputs[position]
        values = self.constant(tensor)
        if values is None:
            raise self.refused(operator, "its parameters are computed, not constant")
        if values.dtype.kind == "i" and tensor.scales:
            return _real(tensor, values)
        if values.dtype.kind != "f":
            raise self.refused(operator, f"its parameters are {values.dtype}")
        return values.astype(np.float32)

    def filters(self, operator: Operator, axis: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The kernel as it lies in the file; whole numbers with the step of each filter where it is int8."""
        kernel = operator.inputs[1]
        if kernel.type != "INT8" or kernel in self._constants:
            return self.parameter(operator, 1), None
        levels = self.constant(kernel)
        if levels is None or any(kernel.zero_points) or operator.inputs[0].type != "INT8":
            raise self.refused(operator, "its kernel is int8 in a way that is not known here")
        steps = np.broadcast_to(np.asarray(kernel.scales, np.float32), levels.shape[axis])
        return levels, steps

    def lower(self, node: Operator) -> Tensor | None:
        try:
            return self._lowered(node)
        except UserError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # of a file that was made up
            problem = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
            raise self.refused(node, f"the file is damaged: {problem}") from error

    def _lowered(self, node: Operator) -> Tensor | None:
        if len(node.outputs) != 1:
            raise self.refused(node, "it has several outputs")
        if self._is_constant(node):
            return None
        taken = [*(tensor for tensor in node.inputs if tensor in self._tensors), *node.outputs]
        if any(t.type == "INT16" or (t.type == "INT8" and len(t.scales) != 1) for t in taken):
            raise self.refused(node, "it computes with whole numbers in a way that is not known here")
        if node.name in _FUNCTIONS:
            result = self.apply(node, _FUNCTIONS[node.name])
        elif node.name in _COMBINATIONS:
            result = self.combination(node)
        elif node.name in _LOWERINGS:
            result = _LOWERINGS[node.name](self, node)
        else:
            raise self.refused(node, "no operation of the exported program computes it")
        return self.quantized(node, result)

    def _is_constant(self, operator: Operator) -> bool:
        """Computes what depends on no image: filters of one sign throughout, and weights of other types."""
        values = [self.constant(tensor) for tensor in operator.inputs]
        if not values or any(value is None for value in values):
            return False
        (output,) = operator.outputs
        first = np.asarray(values[0])
        if operator.name == "FILL" and tuple(first.reshape(-1)) == output.shape:
            result = np.full(output.shape, np.asarray(values[1]).reshape(()))
        elif operator.name == "DEQUANTIZE" and first.dtype == np.float16:
            result = first.astype(np.float32)
        elif operator.name == "DEQUANTIZE" and len(operator.inputs[0].scales) == 1:
            result = _real(operator.inputs[0], first)
        elif operator.name == "RESHAPE":
            result = first.reshape(output.shape)
        else:
            raise self.refused(operator, "it computes a constant in a way that is not known here")
        self._constants[output] = result
        return True

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
        (scale,), (zero,) = output.scales, output.zero_points
        tensor = self.map(operator, tensor, "t / {0}", scale)
        source = operator.inputs[0]
        if source.type != "INT8":
            tensor = self.map(operator, tensor, "roundf(t)")
        elif operator.name in _REQUANTIZES:
            # Whole numbers are multiplied by a number below 1, rounded, and shifted right with rounding.
            steps = operator.inputs[1].scales if len(operator.inputs) > 1 else (1.0,)
            _, exponents = np.frexp(np.float64(source.scales[0]) * np.asarray(steps) / scale)
            parts = 2.0 ** np.maximum(-exponents, 0)
            tensor = self.map(operator, tensor, _REQUANTIZED, parts, 1 / parts)
        else:
            stored = operator.name == "AVERAGE_POOL_2D"  # it rounds the numbers with their zero point
            tensor = self.map(operator, tensor, _ROUNDED, zero if stored else 0)
        tensor = self.map(operator, tensor, ops.CLAMP, -128 - zero, 127 - zero)
        return self.map(operator, tensor, ops.SCALE, scale)

    def activated(self, operator: Operator, tensor: Tensor, number: int) -> Tensor:
        """The fused activation of an operator."""
        if number not in _ACTIVATIONS:
            raise self.refused(operator, "its fused activation is unknown")
        low, high = _ACTIVATIONS[number]
        if low is None:
            return tensor
        return self.map(operator, tensor, *((ops.AT_LEAST, low) if high is None else (ops.CLAMP, low, high)))

    # Signs

    def quantize(self, operator: Operator) -> Tensor:
        return self.sign(operator, self.taken(operator))

    def binary_convolution(self, operator: Operator) -> Tensor:
        """`multiplier * activation(sum) + bias`, or the sign of `threshold - differing bits`."""
        options, tensor, packed = operator.options, self.taken(operator), operator.inputs[1]
        shape = self._network.shapes[tensor]
        channels, words = int(options["channels_in"]), self.constant(packed)
        if words is None or words.ndim != 4 or not shape.signs:
            raise self.refused(operator, "it is no binary convolution with constant filters")
        kernel = _signs(words, channels).transpose(1, 2, 3, 0)
        # The packed map says how many words a pixel has, not how many channels.
        if shape.channels != channels:
            raise self.refused(operator, f"it reads {shape.channels} channels as {channels}")
        window = self._window_of(
            operator, tensor, _size(kernel), ("dilation_height_factor", "dilation_width_factor")
        )
        output = dataclasses.replace(self.shape_of(operator.outputs[0]), channels=kernel.shape[3])
        one = int(options["pad_values"]) == 1
        padded = window.reaches_over(shape, output)
        ones = padded and int(options["padding"]) == 0 and one
        counts = self.add(ops.Convolution, operator, tensor, output, window=window, kernel=kernel, ones=ones)
        activation = int(options["fused_activation_function"])
        if operator.outputs[0].type == "INT32":
            thresholds = self.constant(operator.inputs[-1])
            if thresholds is None or thresholds.dtype.kind != "i" or (padded and not one):
                raise self.refused(operator, "its thresholds are not known")
            least = float(np.prod(kernel.shape[:3])) - 2.0 * thresholds.astype(np.float64)
            least = np.clip(least, -_LARGEST_COUNT, _LARGEST_COUNT)
            return self.sign(operator, self.map(operator, counts, "t - {0}", least))
        result = self.activated(operator, counts, activation)
        multiplier, bias = (self.parameter(operator, position) for position in (2, 3))
        return self.map(operator, result, ops.AFFINE, multiplier, bias)

    def pool_signs(self, operator: Operator) -> Tensor:
        options, tensor = operator.options, self.taken(operator)
        shape, output = self._network.shapes[tensor], self.shape_of(operator.outputs[0])
        size = int(options["filter_height"]), int(options["filter_width"])
        window = self._window_of(operator, tensor, size)
        output = dataclasses.replace(output, channels=shape.channels, signs=shape.signs)
        return self.add(ops.Pool, operator, tensor, output, window=window, largest=True)

    def _window_of(
        self, operator: Operator, tensor: Tensor, size: tuple[int, int], dilation: tuple[str, ...] = ()
    ) -> Window:
        """The window of an operator of LCE."""
        options = operator.options
        stride = int(options["stride_height"]), int(options["stride_width"])
        rows, columns = (int(options[name]) for name in dilation) if dilation else (1, 1)
        return self.window_over(tensor, size, stride, (rows, columns), int(options["padding"]) == 0)

    # Layers with kernels

    def _window(
        self, operator: Operator, tensor: Tensor, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)
    ) -> Window:
        """The window of an operator of TFLite; all of them have padding and strides first."""
        stride = _option(operator, 2), _option(operator, 1)
        return self.window_over(tensor, size, stride, dilation, _option(operator, 0, "b") == 0)

    def _with_bias(
        self, operator: Operator, tensor: Tensor, steps: np.ndarray | None, activation: int
    ) -> Tensor:
        if steps is not None:
            tensor = self.map(operator, tensor, ops.SCALE, steps)
        if len(operator.inputs) > 2:
            bias = self.parameter(operator, 2)
            if bias.any():
                tensor = self.map(operator, tensor, ops.BIAS, bias)
        return self.activated(operator, tensor, activation)

    def convolution(self, operator: Operator) -> Tensor:
        filters, steps = self.filters(operator, 0)
        kernel, tensor = filters.transpose(1, 2, 3, 0), self.floats(operator)
        dilation = _option(operator, 5, default=1), _option(operator, 4, default=1)
        groups = self._network.shapes[tensor].channels // kernel.shape[2]
        window = self._window(operator, tensor, _size(kernel), dilation)
        result = self.add(ops.Convolution, operator, tensor, window=window, kernel=kernel, groups=groups)
        return self._with_bias(operator, result, steps, _option(operator, 3, "b"))

    def depthwise(self, operator: Operator) -> Tensor:
        tensor, (weights, steps) = self.floats(operator), self.filters(operator, 3)
        kernel = weights.reshape(*weights.shape[1:3], self._network.shapes[tensor].channels, -1)
        dilation = _option(operator, 6, default=1), _option(operator, 5, default=1)
        window = self._window(operator, tensor, _size(kernel), dilation)
        result = self.add(ops.Depthwise, operator, tensor, window=window, kernel=kernel)
        return self._with_bias(operator, result, steps, _option(operator, 4, "b"))

    def dense(self, operator: Operator) -> Tensor:
        filters, steps = self.filters(operator, 0)
        kernel, tensor = filters.T[None, None], self.floats(operator)
        shape = self._network.shapes[tensor]
        if shape.channels != kernel.shape[2]:  # TFLite lets a map pass as a vector
            flat = Shape(1, 1, shape.pixels * shape.channels)
            tensor = self.add(ops.Reshape, operator, tensor, flat)
        result = self.add(ops.Convolution, operator, tensor, window=Window((1, 1)), kernel=kernel)
        return self._with_bias(operator, result, steps, _option(operator, 0, "b"))

    # Pools and operators that move values

    def pool(self, operator: Operator) -> Tensor:
        tensor, size = self.floats(operator), (_option(operator, 4), _option(operator, 3))
        window, largest = self._window(operator, tensor, size), operator.name == "MAX_POOL_2D"
        result = self.add(ops.Pool, operator, tensor, window=window, largest=largest)
        return self.activated(operator, result, _option(operator, 5, "b"))

    def _takes_rows_and_columns(self, operator: Operator) -> bool:
        axes = self.constant(operator.inputs[1])
        if axes is None or len(operator.inputs[0].shape) != 4:
            return False
        return sorted((axes.reshape(-1) % 4).tolist()) == [1, 2]

    def reduce(self, operator: Operator) -> Tensor:
        if not self._takes_rows_and_columns(operator):
            raise self.refused(operator, "it does not reduce whole maps")
        return self.pool_all(operator, self.floats(operator), operator.name == "REDUCE_MAX")

    def reshape(self, operator: Operator) -> Tensor:
        return self.add(ops.Reshape, operator)

    def pad(self, operator: Operator) -> Tensor:
        sides = self.constant(operator.inputs[1])
        if sides is None or sides[0].any():
            raise self.refused(operator, "what it pads with is not known")
        before = (*[0] * (4 - len(sides)), *(int(side) for side in sides[1:, 0]))
        value = float(self.parameter(operator, 2).reshape(())) if len(operator.inputs) > 2 else 0.0
        return self.add(ops.Place, operator, before=before, value=value)

    def slice(self, operator: Operator) -> Tensor:
        begin, steps = (self.constant(operator.inputs[position]) for position in (1, 3))
        shape, unknown = operator.inputs[0].shape, "it picks values in a way that is not known here"
        if begin is None or steps is None or not len(shape) == len(steps) == 4:
            raise self.refused(operator, unknown)
        starts = []
        for axis in range(4):
            start = 0 if _option(operator, 0) >> axis & 1 else int(begin[axis])
            starts.append(start + shape[axis] if start < 0 else start)
        image, row, column, channel = starts
        stride = (int(steps[1]), int(steps[2]))
        if any(_option(operator, field) for field in (2, 3, 4)) or image or min(stride) < 1:
            raise self.refused(operator, unknown)
        if steps[3] != 1 or steps[0] != 1:
            raise self.refused(operator, unknown)
        if stride == (1, 1):
            return self.add(ops.Place, operator, before=(-row, -column, -channel))
        if channel or self.shape_of(operator.outputs[0]).channels != shape[3]:
            raise self.refused(operator, "it picks pixels and channels at once")
        window = Window((1, 1), stride, before=(-row, -column))
        return self.add(ops.Pool, operator, window=window, largest=True)

    def concatenate(self, operator: Operator) -> Tensor:
        result = self.concatenate_along(operator, _option(operator, 0))
        return self.activated(operator, result, _option(operator, 1, "b"))

    def reverse(self, operator: Operator) -> Tensor:
        if not self._takes_rows_and_columns(operator):
            raise self.refused(operator, "it does not turn maps around")
        return self.add(ops.Flip, operator)

    def resize(self, operator: Operator) -> Tensor:
        bilinear = operator.name == "RESIZE_BILINEAR"
        tensor, output = self.floats(operator), self.shape_of(operator.outputs[0])
        shape = self._network.shapes[tensor]
        corners, half = (_option(operator, field, "b") for field in ((2, 3) if bilinear else (0, 1)))
        factor = output.height // shape.height, output.width // shape.width
        whole = (shape.height * factor[0], shape.width * factor[1]) == (output.height, output.width)
        if corners or not whole or min(factor) < 1 or (bilinear and not half):
            raise self.refused(operator, "it resizes otherwise than by whole factors from the centres")
        return self.add(ops.Upsample, operator, tensor, factor=factor, bilinear=bilinear)

    # Functions of values

    def same(self, operator: Operator) -> Tensor:
        return self.floats(operator)

    def clip(self, operator: Operator) -> Tensor:
        return self.apply(operator, ops.CLAMP, -1.0, 1.0)

    def leaky_relu(self, operator: Operator) -> Tensor:
        return self.apply(operator, ops.PRELU, _option(operator, 0, "f", 0.0))

    def prelu(self, operator: Operator) -> Tensor:
        tensor = self.floats(operator)
        return self.map(operator, tensor, ops.PRELU, self.spread(tensor, self.parameter(operator, 1)))

    def softmax(self, operator: Operator) -> Tensor:
        tensor, beta = self.floats(operator), _option(operator, 0, "f", 0.0)
        if beta != 1:
            tensor = self.map(operator, tensor, ops.SCALE, beta)
        return self.add(ops.Softmax, operator, tensor, self._network.shapes[tensor])

    def cast(self, operator: Operator) -> Tensor:
        pixels = operator.inputs[0].type == "UINT8" and operator.inputs[0] == self._file.inputs[0]
        if not pixels or operator.outputs[0].type != "FLOAT32":
            raise self.refused(operator, "it changes the type of values")
        return self._network.input

    def combination(self, operator: Operator) -> Tensor:
        kind = _COMBINATIONS[operator.name]
        constants = [self.constant(tensor) for tensor in operator.inputs]
        position = next((n for n, value in enumerate(constants) if value is not None), None)
        if position is not None:
            tensor = self.floats(operator, 1 - position)
            values = self.parameter(operator, position)
            if self.shape_of(operator.outputs[0]) != self._network.shapes[tensor]:
                raise self.refused(operator, "it spreads a map over a larger constant")
            expression = ops.COMBINATIONS[kind][1 - position].format(u="{0}")
            result = self.map(operator, tensor, expression, self.spread(tensor, values))
        else:
            result = self.combine(operator, kind, self.floats(operator, 0), self.floats(operator, 1))
        fused = kind not in ("maximum", "minimum")
        return self.activated(operator, result, _option(operator, 0, "b") if fused else 0)


def _option(operator: Operator, field: int, kind: str = "i", default: Any = 0) -> Any:
    options = operator.builtin_options
    return default if options is None else options.number(field, kind, default)


def _real(tensor: TensorInfo, values: np.ndarray) -> np.ndarray:
    """What the whole numbers of a tensor stand for, which has one scale, or one for each of a vector's."""
    zeros = np.asarray(tensor.zero_points or (0,), np.float32)
    return (values.astype(np.float32) - zeros) * np.asarray(tensor.scales, np.float32)


def _signs(words: np.ndarray, channels: int) -> np.ndarray:
    """Signs, -1 and +1, from words of 32 channels along the last axis."""
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., :channels]
    return 1 - 2 * bits.astype(np.float32)


def _size(kernel: np.ndarray) -> tuple[int, int]:
    return kernel.shape[0], kernel.shape[1]


_LOWERINGS: Mapping[str, Callable[[_FileLowering, Operator], Tensor]] = {
    "LceQuantize": _FileLowering.quantize,
    "LceDequantize": _FileLowering.same,
    "QUANTIZE": _FileLowering.same,
    "DEQUANTIZE": _FileLowering.same,
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
    "LEAKY_RELU": _FileLowering.leaky_relu,
    "PRELU": _FileLowering.prelu,
    "SOFTMAX": _FileLowering.softmax,
    "CAST": _FileLowering.cast,
}


# Comparison with LCE's interpreter ---------------------------------------------------------------------


def run_file(file: LceFile, images: np.ndarray) -> list[np.ndarray]:
    """All outputs of LCE's interpreter for preprocessed images, or for pixels where the file takes these."""
    pixels = file.inputs[0].type == "UINT8"
    return list(Interpreter(file).predict_all([images.astype(np.uint8) if pixels else images]).values())


def reference(file: LceFile, program: Program, images: np.ndarray) -> dict[TensorInfo, np.ndarray]:
    """The tensors of a file behind those that a program keeps, as LCE's interpreter computes them.

    Returns:
        Float and int8 tensors as what they stand for, `(n, …)`; packed ones as they are.
    """
    origins, makers = program.network.origins, file.makers()
    wanted = {origins[tensor] for step in program.steps for tensor in step.writes if tensor in origins}
    for tensor in list(wanted):  # the values that signs were taken of say how near to zero they were
        source = _source(makers, tensor)
        if source is not None:
            wanted.add(source)
    probes = sorted(wanted - {*file.inputs, *file.outputs}, key=lambda tensor: tensor.index)
    if not probes:
        return {}
    probed = LceFile(file.with_outputs([tensor.index for tensor in probes]))
    return dict(zip(probes, run_file(probed, images)[-len(probes) :], strict=True))


def _source(makers: Mapping[int, Operator], tensor: TensorInfo) -> TensorInfo | None:
    """What signs were taken of; None where a threshold decides them."""
    if tensor.type != "INT32":
        return tensor
    maker = makers.get(tensor.index)
    return maker.inputs[0] if maker is not None and maker.name == "LceQuantize" else None


def forced(program: Program, expected: Mapping[TensorInfo, np.ndarray]) -> dict[Tensor, np.ndarray]:
    """What a program's tensors are set to once computed, so that each step starts from LCE's values.

    Float maps `(n, height, width, channels)`, signs as -1 and +1.
    """
    network, result = program.network, {}
    for tensor in (tensor for step in program.steps for tensor in step.writes):
        shape, origin = network.shapes[tensor], network.origins.get(tensor)
        array = None if origin is None else expected.get(origin)
        if origin is None or array is None or (origin.type == "INT32" and not shape.signs):
            continue
        if origin.type == "INT32":
            array = _signs(array, shape.channels)
        elif shape.signs:
            array = np.where(array >= 0, np.float32(1), np.float32(-1))
        result[tensor] = array.reshape(len(array), shape.height, shape.width, shape.channels)
    return result


def prove_file(
    file: LceFile,
    program: Program,
    outcome: Outcome,
    expected: Mapping[TensorInfo, np.ndarray],
    outputs: Sequence[np.ndarray],
) -> LayerProof:
    """Compares every tensor that a program kept with LCE's, each computed from LCE's values before it.

    Signs may differ where LCE's value is next to zero; those that a threshold decides may not.

    Args:
        file: The file.
        program: Its program.
        outcome: What the program computed, of the first images with the tensors of `forced` for its own.
        expected: What LCE's interpreter computes inside for these images, see `reference`.
        outputs: The outputs of the interpreter for them.
    """
    network, makers, proof = program.network, file.makers(), LayerProof()
    lost = _lost_digits(network, {*outcome.values, *outcome.signs})
    for tensor, target in forced(program, expected).items():
        origin, rounding = network.origins[tensor], lost.get(tensor, 0.0)
        name = origin.name.split(";")[0]
        if tensor in outcome.values:
            actual = outcome.values[tensor].reshape(target.shape)
            proof.compare_values(name, actual, target, rounding, _step(makers, origin))
        elif tensor in outcome.signs:
            source = _source(makers, origin)
            near = 0.0 if source is None else _step(makers, source)
            sizes = np.ones_like(target)
            if source is not None and source in expected:
                sizes = np.abs(expected[source]).reshape(target.shape)
                near = max(near, TOLERANCE * deviation(expected[source]))
            differs = outcome.signs[tensor].reshape(target.shape) != target
            proof.compare_signs(name, differs, sizes, np.maximum(near, rounding))
    for end, name, tensor, target, actual in zip(
        file.outputs, file.output_names, network.outputs, outputs, outcome.outputs, strict=True
    ):
        shape = network.shapes[tensor]
        target = target.reshape(len(target), shape.height, shape.width, shape.channels)
        actual = actual[: len(target)].reshape(target.shape)
        proof.compare_values(name, actual, target, lost.get(tensor, 0.0), _step(makers, end))
    return proof


def _step(makers: Mapping[int, Operator], tensor: TensorInfo) -> float:
    """By how much rounding may move a tensor: a step of one that is int8, or was just before."""
    maker = makers.get(tensor.index)
    whole = tensor if maker is None or maker.name != "DEQUANTIZE" else maker.inputs[0]
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
        if isinstance(op, ops.Convolution) and network.shapes[op.inputs[0]].signs:
            sums[op.output] = float(np.prod(op.kernel.shape[:3]))
        elif isinstance(op, ops.Map) and op.inputs[0] in sums:
            if op.expression == ops.AFFINE:
                lost[op.output] = LAST_DIGIT * sums[op.inputs[0]] * np.abs(op.parameters[0])
            else:  # an activation before the multiplier
                sums[op.output] = sums[op.inputs[0]]
        elif before and isinstance(op, ops.Map) and op.expression == ops.AFFINE:
            lost[op.output] = np.abs(op.parameters[0]) * before[0]
        elif before and isinstance(op, ops.Map | ops.Combine | ops.Pool | ops.Sign):
            lost[op.output] = np.asarray(np.sum(np.broadcast_arrays(*before), axis=0))
        elif before:  # in other channels
            lost[op.output] = np.asarray(max(one.max() for one in before))
    return lost
