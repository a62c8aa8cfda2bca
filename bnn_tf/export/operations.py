"""What an exported program computes: a short list of typed operations on maps of known shape.

Everything that can be exported is lowered to these first, whatever it was read from. A map is
`(height, width, channels)`, float32 or signs; a vector is a map of one pixel.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

AFFINE = "t * {0} + {1}"
BIAS = "t + {0}"
SCALE = "t * {0}"
AT_LEAST = "t < {0} ? {0} : t"
CLAMP = "t < {0} ? {0} : (t > {1} ? {1} : t)"
RELU = "t > 0.0f ? t : 0.0f"
RELU6 = "t < 0.0f ? 0.0f : (t > 6.0f ? 6.0f : t)"
PRELU = "t >= 0.0f ? t : {0} * t"

Tensor = int
"""Number of a tensor within its network."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Size of a map; `signs` are packed, eight channels to a byte, bit 1 for -1."""

    height: int
    width: int
    channels: int
    signs: bool = False

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def values(self) -> int:
        """Number of values."""
        return self.pixels * self.channels

    @property
    def pixel_size(self) -> int:
        """Elements of one pixel, each of `c_type`."""
        return -(-self.channels // 8) if self.signs else self.channels

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel."""
        return self.pixel_size if self.signs else 4 * self.pixel_size

    @property
    def c_type(self) -> str:
        """The type of its elements in C."""
        return "uint8_t" if self.signs else "float"


@dataclasses.dataclass(frozen=True)
class Window:
    """Which pixels an output pixel sees: `first = stride * position - before`, then `dilation` apart."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)

    def taps(self, axis: int, position: int, length: int) -> tuple[int, int]:
        """First tap inside a map of `length` and the number of taps inside, for one output position."""
        start = self.stride[axis] * position - self.before[axis]
        step = self.dilation[axis]
        inside = [tap for tap in range(self.size[axis]) if 0 <= start + tap * step < length]
        return (inside[0], len(inside)) if inside else (0, 0)

    def seen(self, source: Shape, output: Shape) -> tuple[list[int], list[int]]:
        """How many rows and columns of taps are inside the map, for each row and column of output."""
        rows = [self.taps(0, position, source.height)[1] for position in range(output.height)]
        columns = [self.taps(1, position, source.width)[1] for position in range(output.width)]
        return rows, columns

    def reaches_over(self, source: Shape, output: Shape) -> bool:
        """Whether a pixel of the output sees taps outside of the map."""
        rows, columns = self.seen(source, output)
        return min(rows) < self.size[0] or min(columns) < self.size[1]

    def reach(self, output: Shape) -> tuple[int, int]:
        """Rows and columns from the first tap of the first output pixel to the last tap of the last one."""
        rows, columns = (
            (count - 1) * stride + (size - 1) * dilation + 1
            for count, stride, size, dilation in zip(
                (output.height, output.width), self.stride, self.size, self.dilation, strict=True
            )
        )
        return rows, columns


@dataclasses.dataclass(eq=False)
class Operation:
    """One operation.

    Attributes:
        name: The layer it came from, for messages and comments.
        inputs: Tensors it reads.
        output: The tensor it makes.
    """

    name: str
    inputs: list[Tensor]
    output: Tensor


@dataclasses.dataclass(eq=False)
class Convolution(Operation):
    """`y_o = sum_kc W_kco x_kc` over the window; taps outside of the map count nothing, or +1 for `ones`.

    Attributes:
        window: The window.
        kernel: `(height, width, inputs / groups, outputs)`; exactly -1 and +1 where the input is signs.
        groups: Groups of channels; 1 where the input is signs.
        ones: Whether signs outside of the map are +1.
    """

    window: Window
    kernel: np.ndarray
    groups: int = 1
    ones: bool = False


@dataclasses.dataclass(eq=False)
class Depthwise(Operation):
    """`y_cm = sum_k W_kcm x_kc`, kernel `(height, width, inputs, multiplier)`."""

    window: Window
    kernel: np.ndarray


@dataclasses.dataclass(eq=False)
class Pool(Operation):
    """The largest or mean value of the window, of what is inside the map; the largest also of signs."""

    window: Window
    largest: bool


class Sign(Operation):
    """Signs of a float map: +1 for `x >= 0`, else -1."""


class Values(Operation):
    """Signs as float values -1 and +1."""


@dataclasses.dataclass(eq=False)
class Map(Operation):
    """A function of each value.

    Attributes:
        expression: C expression of the value `t`; `{0}`, `{1}`, … stand for the parameters.
        parameters: Float arrays of one value, of a value per channel, or of a value per element.
    """

    expression: str
    parameters: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(eq=False)
class Combine(Operation):
    """A function of the values of two maps at the same place; the second may be a single pixel.

    Attributes:
        expression: C expression of `t` (the first) and `{u}` (the second).
        swapped: The expression with the maps in the other order.
    """

    expression: str
    swapped: str


COMBINATIONS = {
    "add": ("t + {u}", "{u} + t"),
    "subtract": ("t - {u}", "{u} - t"),
    "multiply": ("t * {u}", "{u} * t"),
    "divide": ("t / {u}", "{u} / t"),
    "maximum": ("t > {u} ? t : {u}", "t > {u} ? t : {u}"),
    "minimum": ("t < {u} ? t : {u}", "t < {u} ? t : {u}"),
}
"""Expressions of `Combine` by name, for the maps in their order and in the other one."""


class Softmax(Operation):
    """`exp(x_c) / sum exp(x)` over the channels."""


@dataclasses.dataclass(eq=False)
class Concatenate(Operation):
    """Maps behind one another along an axis (0: rows, 1: columns, 2: channels)."""

    axis: int = 2


@dataclasses.dataclass(eq=False)
class Place(Operation):
    """The map moved by `before` (rows, columns, channels; negative crops) onto a constant background."""

    before: tuple[int, int, int]
    value: float = 0.0


@dataclasses.dataclass(eq=False)
class Upsample(Operation):
    """The map `factor` times as large: nearest values, or bilinear with half-pixel centres."""

    factor: tuple[int, int]
    bilinear: bool


class Flip(Operation):
    """Rows and columns in reverse order."""


class Reshape(Operation):
    """The same values in the same order under another shape."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Multiplications of an inference, taps outside of a map not counted.

    Attributes:
        binary: Of signs with signs: an exclusive or, and a bit to count.
        real: Of float values.
    """

    binary: int
    real: int

    def __str__(self) -> str:
        return f"{self.binary / 1e6:,.1f} M binary and {self.real / 1e6:,.1f} M real multiplications"


@dataclasses.dataclass(eq=False)
class Network:
    """Operations in an order in which they can run.

    Attributes:
        name: Name of the model.
        operations: The operations.
        shapes: Shape of every tensor.
        input: The image.
        outputs: What is returned.
        origins: For tensors that are those of a Keras graph or of a file, or their signs: the tensor there.
    """

    name: str
    operations: list[Operation]
    shapes: dict[Tensor, Shape]
    input: Tensor
    outputs: list[Tensor]
    origins: dict[Tensor, Any] = dataclasses.field(default_factory=dict)

    def new_tensor(self, shape: Shape) -> Tensor:
        """Number of one more tensor."""
        tensor = len(self.shapes)
        self.shapes[tensor] = shape
        return tensor

    def consumers(self, tensor: Tensor) -> list[Operation]:
        """The operations that read a tensor."""
        return [operation for operation in self.operations if tensor in operation.inputs]

    def work(self) -> Work:
        """The multiplications of convolutions and dense layers."""
        counts = {True: 0, False: 0}
        for operation in self.operations:
            if isinstance(operation, Convolution | Depthwise):
                source, output = self.shapes[operation.inputs[0]], self.shapes[operation.output]
                inputs, (rows, columns) = 1, operation.window.seen(source, output)
                taps = sum(rows) * sum(columns)
                if isinstance(operation, Convolution):
                    inputs = operation.kernel.shape[2]
                    if operation.ones:
                        taps = output.pixels * operation.window.size[0] * operation.window.size[1]
                counts[source.signs] += taps * inputs * output.channels
        return Work(counts[True], counts[False])
