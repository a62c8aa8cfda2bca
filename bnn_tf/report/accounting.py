"""What a network costs: bits, parameters, multiply-accumulates and bit operations, per layer and in all.

Conventions, as in the papers' tables:

- A weight is *binary* where its layer has a kernel quantizer of precision 1; it takes 1 bit, or `b/9` bits
  where `quantizers.SubBit` shares a codebook of `2^b` patterns. Every other parameter is real and takes 32
  bits. BatchNorm counts with two vectors, the scale and shift to which it folds, not four. What quantizers
  keep for training (τ, latent patterns, counters) does not count; a codebook's signs (`9 · 2^b` bits) do, in
  the memory.
- Multiply-accumulates are those of convolutions and dense layers for one image, padding included. They are
  binary where weights and inputs both are.
- *Bit operations* are binary multiply-accumulates, less what a codebook shares (SNN, ICCV 2021): see
  `bit_operations`.
- *Operations* are Bi-Real Net's: one real multiply-accumulate, or 64 binary ones.

Of a converted file the same is counted, but parameters take the bits that are stored: 8 for int8 weights,
whole words of 32 channels for the filters of `LceBconv2d`, and what indices and codebooks take in a `.snn`
file.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from bnn_tf._tensorflow import KERNELS, claims_one_bit, lazy, lq, tf
from bnn_tf.deploy import graph as graphs
from bnn_tf.deploy.graph import Call, Graph, Spec
from bnn_tf.deploy.lce_file import BINARY_CONVOLUTION, SIZES, LceFile, Operator
from bnn_tf.errors import UserError
from bnn_tf.model_files import opened
from bnn_tf.subbit import LayerReport, decode

# Files are counted without TensorFlow.
codebook = lazy("bnn_tf.codebook")
facts = lazy("bnn_tf.deploy.facts")
quantizers = lazy("bnn_tf.quantizers")

REAL_BITS = 32
BINARY_MACS_PER_OPERATION = 64


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a layer or a network costs.

    Args:
        binary_parameters: Weights of one bit or less.
        binary_bits: Bits that they take.
        codebook_bits: Bits of the codebooks to which they refer.
        real_parameters: All other parameters.
        real_bits: Bits that they take.
        binary_macs: Multiply-accumulates of ±1 with ±1.
        real_macs: All others.
        bit_operations: `binary_macs`, less what codebooks share.

    Example:
        >>> cost = Cost(binary_parameters=9000, binary_bits=5000, binary_macs=640, real_macs=5)
        >>> cost.operations, round(cost.bits_per_weight, 3)
        (15.0, 0.556)
    """

    binary_parameters: int = 0
    binary_bits: int = 0
    codebook_bits: int = 0
    real_parameters: int = 0
    real_bits: int = 0
    binary_macs: int = 0
    real_macs: int = 0
    bit_operations: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        terms = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(a + b for a, b in terms))

    @property
    def bits_per_weight(self) -> float | None:
        """Mean bits of a binary weight; `None` where there is none."""
        return self.binary_bits / self.binary_parameters if self.binary_parameters else None

    @property
    def memory_bits(self) -> int:
        """Bits of all parameters."""
        return self.real_bits + self.binary_bits + self.codebook_bits

    @property
    def operations(self) -> float:
        """Real multiply-accumulates plus a 64th of the binary ones."""
        return self.real_macs + self.binary_macs / BINARY_MACS_PER_OPERATION

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, derived ones included."""
        derived = {name: getattr(self, name) for name in ("bits_per_weight", "memory_bits", "operations")}
        return {**dataclasses.asdict(self), **derived}


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """The cost of one layer of a network, or of one operator of a converted file.

    Args:
        name: Its name, after those of the models in which it is nested.
        kind: Its class, or TFLite's or LCE's name of the operator.
        kernel: Shape of its kernel in Keras' order; `None` where it multiplies nothing.
        output: Shape of its output without the batch.
        cost: The figures.
        weight_bits: Bits of a weight of its kernel.
        input_bits: Bits of an element of its input: 1 where a quantizer makes it binary.
        patterns: Size of the codebook to which its kernel refers; 0 without one.

    Example:
        >>> dense = tf.keras.layers.Dense(2, input_shape=(3,), name="logits")
        >>> (layer,) = account(tf.keras.Sequential([dense])).layers
        >>> layer.name, layer.kernel, layer.input_bits, layer.cost.real_macs
        ('logits', (3, 2), 32, 6)
    """

    name: str
    kind: str
    kernel: tuple[int, ...] | None
    output: tuple[int | None, ...]
    cost: Cost
    weight_bits: float = REAL_BITS
    input_bits: int = REAL_BITS
    patterns: int = 0

    @property
    def binary_input(self) -> bool:
        """Whether its inputs are signs."""
        return self.input_bits == 1

    @property
    def widths(self) -> str:
        """Bits of weights and inputs, as papers write them; empty where it multiplies nothing."""
        return "" if self.kernel is None else f"{self.weight_bits:.3g} / {self.input_bits}"

    @property
    def index_bits(self) -> int:
        """Bits of an index into its codebook; 0 without one."""
        return decode.index_bits(self.patterns) if self.patterns else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        derived = {"binary_input": self.binary_input, "index_bits": self.index_bits}
        return {**values, **derived, "cost": self.cost.to_dict()}


@dataclasses.dataclass(frozen=True, repr=False)
class Account:
    """The costs of a network or of a converted file.

    Args:
        model: Its name.
        input_shape: Shape of its input without the batch.
        layers: The layers of a network that have parameters or multiply, in the network's order; all
            operators of a file, in the order in which they run.
        file_size: Bytes of the file; `None` for a network.

    Example:
        >>> import zoo
        >>> account(zoo.CifarResNet20(method="subbit"))
        Account(cifar_resnet20: 267,264 binary and 2,586 real parameters, 0.03 MB, 40 layers)
    """

    model: str
    input_shape: tuple[int | None, ...]
    layers: tuple[LayerCost, ...]
    file_size: int | None = None

    @property
    def total(self) -> Cost:
        """All layers together."""
        return sum((layer.cost for layer in self.layers), Cost())

    def __repr__(self) -> str:
        total = self.total
        return (
            f"Account({self.model}: {total.binary_parameters:,} binary and {total.real_parameters:,} real "
            f"parameters, {total.memory_bits / 8e6:.2f} MB, {len(self.layers)} layers)"
        )

    def _repr_html_(self) -> str:
        """A table of the layers, for notebooks."""
        columns = ("layer", "kind", "kernel", "binary bits", "real parameters", "real MMAC", "binary MMAC")
        rows = [
            (layer.name, layer.kind, "×".join(map(str, layer.kernel or ())), *_short(layer.cost))
            for layer in self.layers
        ]
        rows.append(("total", "", "", *_short(self.total)))
        cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        header = "".join(f"<th>{column}</th>" for column in columns)
        return f"<table><thead><tr>{header}</tr></thead><tbody>{cells}</tbody></table>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "file_size": self.file_size,
            "total": self.total.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }


def _short(cost: Cost) -> tuple[str, ...]:
    macs = (f"{count / 1e6:.3f}" for count in (cost.real_macs, cost.binary_macs))
    return (f"{cost.binary_bits:,}", f"{cost.real_parameters:,}", *macs)


def account(model: tf.keras.Model | str | os.PathLike[str]) -> Account:
    """Counts what a network costs.

    Layers that are used several times count once with their parameters and every time with their
    multiply-accumulates.

    Args:
        model: The network, or the path of a saved one.

    Raises:
        UserError: the model has no graph (subclassed, or not built), or its input has no fixed size.

    Example:
        >>> quantizers = {"input_quantizer": "approx_sign", "kernel_quantizer": "recu"}
        >>> conv = lq.layers.QuantConv2D(8, 3, use_bias=False, input_shape=(6, 6, 4), **quantizers)
        >>> account(tf.keras.Sequential([conv])).total.binary_macs == 16 * 9 * 4 * 8
        True
    """
    model = opened(model)
    if (opaque := _without_graph(model)) is not None:
        raise UserError(
            f"{opaque.name} cannot be counted: only functional and Sequential models of known input shape "
            "can be; build it as one of these, from a tf.keras.Input"
        )
    graph = graphs.read(model, _record)
    specs = {id(call.layer.origin): call.layer for call in graph.calls}
    # In Keras' order, which that of the calls is not where the network has branches.
    ordered = [specs[id(layer)] for layer in model._flatten_layers() if id(layer) in specs]
    costs = (_layer_cost(graph, spec) for spec in ordered)
    layers = tuple(layer for layer in costs if layer.cost != Cost())
    shape = model.input_shape[0] if isinstance(model.input_shape, list) else model.input_shape
    return Account(model.name, tuple(shape[1:]), layers)


def at_size(model: tf.keras.Model, size: tuple[int, int]) -> tf.keras.Model:
    """The network with new weights for images of another height and width.

    Raises:
        UserError: the network does not take such images, or only with kernels of other shapes.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(32, 32, 3))])
        >>> at_size(model, (64, 48)).output_shape
        (None, 62, 46, 4)
    """
    try:
        image = tf.keras.Input((*size, model.input_shape[-1]), name="image")
        resized = tf.keras.models.clone_model(model, input_tensors=image)
    except (ValueError, TypeError, AttributeError, IndexError):
        resized = None
    if resized is None or [w.shape for w in resized.weights] != [w.shape for w in model.weights]:
        raise UserError(
            f"{model.name} does not take images of {size[0]}×{size[1]}: a layer is made for another size"
        )
    return resized


def bit_operations(cin: int, cout: int, pixels: int, bits: int) -> float:
    """Bit operations of a 3×3 convolution whose slices are patterns of a codebook (SNN, ICCV 2021).

    `cin · min(cout, 2^b) · 9 · pixels` for the responses to the distinct patterns, of which each input
    channel needs no more than there are, plus `½ · cin · cout · pixels` for gathering them where
    `cout > 2^b`.

    Args:
        cin: Input channels.
        cout: Output channels.
        pixels: Height times width of the output.
        bits: b, bits per 3×3 slice.

    Example:
        >>> bit_operations(cin=64, cout=64, pixels=1, bits=5) / (64 * 64 * 9)
        0.5555555555555556
    """
    return _shared_operations(cin, cout, pixels, 2**bits)


def _shared_operations(cin: int, cout: int, pixels: int, patterns: int) -> float:
    responses = cin * min(cout, patterns) * codebook.SLICE * pixels
    return responses + (cin * cout * pixels / 2 if cout > patterns else 0)


def _without_graph(model: tf.keras.Model) -> tf.keras.Model | None:
    """The first model, of this one and those that it calls, whose layers cannot be followed."""
    if not graphs.is_functional(model):
        return model
    inner = (_without_graph(layer) for layer in model.layers if isinstance(layer, tf.keras.Model))
    return next(filter(None, inner), None)


def _record(layer: tf.keras.layers.Layer) -> Spec:
    try:
        return graphs.copy_of(layer)
    except Exception:  # somebody's layer without a configuration; what it costs can be counted nevertheless
        quantizers = {key: getattr(layer, key) for key in graphs.QUANTIZERS if hasattr(layer, key)}
        return Spec(type(layer), {"name": layer.name, **quantizers}, {}, layer)


def _layer_cost(graph: Graph, spec: Spec) -> LayerCost:
    layer: Any = spec.origin
    calls = [call for call in graph.calls if call.layer is spec]
    # Weights that are no kernels: biases, BatchNorm's vectors, slopes, whatever else a layer learns.
    kernels = _kernels(layer)
    ignored = {id(weight) for weight in (*_state(layer), *kernels)}
    real = sum(_size(weight) for weight in layer.weights if id(weight) not in ignored)
    cost = Cost(real_parameters=real, real_bits=REAL_BITS * real)
    on_bits = [facts.reads_one_bit(graph, call) for call in calls if kernels]
    for index, kernel in enumerate(kernels):
        pixels = [_pixels(layer, call) for call in calls]
        # The pointwise part of a separable convolution takes the sums of the depthwise one.
        binary = sum(itertools.compress(pixels, on_bits), 0) if index == 0 else 0
        cost += _kernel_cost(kernel, binary, sum(pixels) - binary)
    bits = cost.bits_per_weight
    return LayerCost(
        name=spec.name,
        kind=type(layer).__name__,
        kernel=tuple(kernels[0].shape) if kernels else None,
        output=tuple(calls[0].outputs[0].shape[1:]),
        cost=cost,
        weight_bits=REAL_BITS if bits is None else bits,
        input_bits=1 if kernels and all(on_bits) else REAL_BITS,
        patterns=cost.codebook_bits // codebook.SLICE,
    )


def _kernel_cost(kernel: tf.Variable, binary_pixels: int, real_pixels: int) -> Cost:
    """What a kernel costs that is applied so often to signs, and so often to numbers."""
    size = _size(kernel)
    if not claims_one_bit(kernel):
        macs = size * (binary_pixels + real_pixels)
        return Cost(real_parameters=size, real_bits=REAL_BITS * size, real_macs=macs)
    quantizer = kernel.quantizer
    operations: float = size * binary_pixels
    if (rows := codebook.patterns_of(quantizer)) is not None:
        cin, cout = kernel.shape[-2:]
        operations = _shared_operations(cin, cout, binary_pixels, len(rows))
    return Cost(
        binary_parameters=size,
        binary_bits=round(size * getattr(quantizer, "bits_per_weight", 1)),
        codebook_bits=0 if rows is None else _size(rows),
        binary_macs=size * binary_pixels,
        real_macs=size * real_pixels,
        bit_operations=operations,
    )


def _kernels(layer: tf.keras.layers.Layer) -> list[tf.Variable]:
    """The kernels of a convolution or dense layer, in the order in which they are applied."""
    if not isinstance(layer, facts.KERNEL_LAYERS):
        return []
    return [getattr(layer, name) for name in KERNELS.values() if hasattr(layer, name)]


def _state(layer: tf.keras.layers.Layer) -> Iterator[tf.Variable]:
    """Variables that a deployed network does not have."""
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        yield from (layer.moving_mean, layer.moving_variance)
    for module in layer.submodules:
        if isinstance(module, lq.quantizers.Quantizer):
            scale = getattr(module, "learned_scale", None)
            yield from (variable for variable in module.variables if variable is not scale)


def _pixels(layer: tf.keras.layers.Layer, call: Call) -> int:
    """How often a call of the layer applies its kernel."""
    if isinstance(layer, (tf.keras.layers.LocallyConnected1D, tf.keras.layers.LocallyConnected2D)):
        return 1  # it has a kernel of its own for every place
    transposed = isinstance(layer, (tf.keras.layers.Conv2DTranspose, tf.keras.layers.Conv3DTranspose))
    shape = (call.inputs if transposed else call.outputs)[0].shape
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    places = [size for size in (shape[2:] if first else shape[1:-1]) if size is not None]
    if len(places) < len(shape) - 2:
        name = call.layer.name
        raise UserError(f"{name} has images of unknown size: build it for one size to count its operations")
    return math.prod(places)


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


_TRANSPOSED = "TRANSPOSE_CONV"
# Operators with a kernel, and its axes in Keras' order.
_FILE_KERNELS = {
    BINARY_CONVOLUTION: (1, 2, 3, 0),
    "CONV_2D": (1, 2, 3, 0),
    "CONV_3D": (0, 1, 2, 3, 4),
    "DEPTHWISE_CONV_2D": (1, 2, 3, 0),
    "FULLY_CONNECTED": (1, 0),
    _TRANSPOSED: (1, 2, 0, 3),
}


def account_file(file: LceFile, filters: Sequence[LayerReport] = ()) -> Account:
    """Counts what a converted file costs, operator by operator.

    A constant that several operators read counts for the first one. Multiply-accumulates are those of
    convolutions and fully connected operators for one image.

    Args:
        file: The file.
        filters: How a `.snn` file stores each of `file.binary_filters()`.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> model = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3))])
        >>> counted = account_file(LceFile(to_flatbuffer(model)))
        >>> [(layer.kind, layer.output, layer.widths) for layer in counted.layers]
        [('CONV_2D', (6, 6, 4), '32 / 32')]
        >>> counted.total.real_macs == account(model).total.real_macs
        True
    """
    counter = _OperatorCounter(file, filters)
    layers = tuple(map(counter.count, file.operators))
    return Account(file.label, file.inputs[0].shape[1:] if file.inputs else (), layers, len(file.content))


class _OperatorCounter:
    """Counts the operators of a file in their order."""

    def __init__(self, file: LceFile, filters: Sequence[LayerReport]) -> None:
        self._file = file
        stored = zip(file.binary_filters(), filters, strict=True) if filters else ()
        self._coded = {place.offset: report for place, report in stored if report.method != "raw"}
        self._counted: set[int] = set()  # where the constants stand that have been counted
        self._channels: dict[int, int] = {}  # of packed signs, whose shapes have words of 32 channels instead

    def count(self, operator: Operator) -> LayerCost:
        """The cost of the next operator."""
        kernel = self._kernel(operator)
        output, cost = self._output(operator, kernel), self._parameters(operator, kernel)
        if kernel is None:
            return LayerCost(operator.label, operator.name, None, output, cost)
        weights, source = operator.inputs[1], operator.inputs[_image_of(operator)]
        places = source.shape[1:-1] if operator.name == _TRANSPOSED else output[:-1]
        macs = math.prod(kernel) * math.prod(places)
        if operator.name != BINARY_CONVOLUTION:
            cost += Cost(real_macs=macs)
            widths = (8 * SIZES.get(tensor.type, 4) for tensor in (weights, source))
            return LayerCost(operator.label, operator.name, kernel, output, cost, *widths)
        cost += Cost(binary_macs=macs, bit_operations=macs)
        coded = self._coded.get(self._file.place(weights)[0])
        bits, patterns = (coded.bits_per_weight, coded.patterns) if coded else (1, 0)
        return LayerCost(operator.label, operator.name, kernel, output, cost, bits, 1, patterns)

    def _kernel(self, operator: Operator) -> tuple[int, ...] | None:
        """The shape of its kernel in Keras' order; None where it has none."""
        axes = _FILE_KERNELS.get(operator.name)
        if axes is None or len(operator.inputs) <= max(1, _image_of(operator)):
            return None
        source, weights = operator.inputs[:2]
        shape = weights.shape
        if len(shape) != len(axes):
            return None
        if operator.name == BINARY_CONVOLUTION:
            words = shape[-1]  # the filters of a grouped convolution take fewer than its input has
            channels = self._channels.get(source.index) if source.shape[-1:] == (words,) else None
            shape = (*shape[:-1], channels or 32 * words)
        return tuple(shape[axis] for axis in axes)

    def _output(self, operator: Operator, kernel: tuple[int, ...] | None) -> tuple[int, ...]:
        """The shape of what it makes, without the batch."""
        output = operator.outputs[0].shape[1:] if operator.outputs else ()
        if not output or not operator.inputs or not operator.is_packed(operator.outputs[0]):
            return output
        source = operator.inputs[0]
        channels = kernel[-1] if kernel else self._channels.get(source.index, source.shape[-1])
        self._channels[operator.outputs[0].index] = channels
        return (*output[:-1], channels)

    def _parameters(self, operator: Operator, kernel: tuple[int, ...] | None) -> Cost:
        """What the constants take that no operator before it reads."""
        cost = Cost()
        for position, tensor in enumerate(operator.inputs):
            place, size = self._file.place(tensor)
            learned = tensor.scales or tensor.type.startswith("FLOAT") or operator.name.startswith("Lce")
            if not size or place in self._counted or not learned:  # others are shapes, paddings and axes
                continue
            self._counted.add(place)
            if kernel is None or operator.name != BINARY_CONVOLUTION or position != 1:
                cost += Cost(real_parameters=math.prod(tensor.shape), real_bits=8 * size)
                continue
            coded = self._coded.get(place)
            books = decode.TAPS * coded.patterns if coded else 0
            bits = 8 * (coded.coded_bytes if coded else size) - books
            cost += Cost(binary_parameters=math.prod(kernel), binary_bits=bits, codebook_bits=books)
        return cost


def _image_of(operator: Operator) -> int:
    """Which input is the image: a transposed convolution takes its output's shape and its weights first."""
    return 2 if operator.name == _TRANSPOSED else 0


# The papers' own cost tables, to set beside the figures here.
#
# The rules of `accounting` are the papers' as far as they are stated, at 224×224 and with 1000 classes. What
# they give differs from the printed figures as follows.
#
# - SNN's binary parameters agree to the last digit. Its bit operations come to 1.6763, 0.8839, 0.5014 and
#   0.2972 G where the paper prints 1.677, 0.883, 0.501 and 0.297: less than one unit of the last digit, but
#   rounded up in the first and cut off in the second. No one way of rounding gives all four.
# - Bi-Real Net's memory comes to 33.51 Mbit (printed 33.6) and 43.85 Mbit (43.7), its operations to 1.640e8
#   (1.63e8) and 1.929e8 (1.93e8). No one rule gives both networks: the printed memories differ by the weights
#   of the 16 further binary convolutions alone (10.10 Mbit), so that their BatchNorms are missing from 43.7;
#   and 1.63e8 follows without the classifier's 512,000 multiply-accumulates, 1.93e8 only with them.
#
# Network and bits per 3×3 slice: names of properties of `Cost`, and their printed values.
_TABLES: dict[tuple[str, int], dict[str, float]] = {
    ("react_resnet18", 9): {"binary_bits": 10.99e6, "bit_operations": 1.677e9},
    ("react_resnet18", 6): {"binary_bits": 7.324e6, "bit_operations": 0.883e9},
    ("react_resnet18", 5): {"binary_bits": 6.103e6, "bit_operations": 0.501e9},
    ("react_resnet18", 4): {"binary_bits": 4.882e6, "bit_operations": 0.297e9},
    ("bireal_net18", 9): {"memory_bits": 33.6e6, "operations": 1.63e8},
    ("bireal_net34", 9): {"memory_bits": 43.7e6, "operations": 1.93e8},
}


def published(account: Account) -> dict[str, float]:
    """What the network's paper prints, by property of `Cost`; empty where it prints nothing.

    Example:
        >>> published(Account("my_network", (32, 32, 3), ()))
        {}
    """
    bits = account.total.bits_per_weight
    last = account.layers[-1].output if account.layers else ()
    if bits is None or account.input_shape != (224, 224, 3) or last != (1000,):
        return {}
    return _TABLES.get((account.model, round(9 * bits)), {})


def print_larq_summary(model: tf.keras.Model) -> None:
    """Prints `larq.models.summary`.

    Larq takes every variable of a layer for a kernel, and would count τ and codebooks as 32-bit weights with
    32-bit multiply-accumulates. It is therefore shown the same network with quantizers without variables.

    Example:
        >>> dense = tf.keras.layers.Dense(2, input_shape=(3,), name="logits")
        >>> print_larq_summary(tf.keras.Sequential([dense], name="small"))  # doctest: +ELLIPSIS
        +small stats...
    """
    lq.models.summary(_without_state(model))


def _without_state(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    if isinstance(layer, tf.keras.Model):
        return tf.keras.models.clone_model(layer, clone_function=_without_state)
    config = layer.get_config()
    for key in KERNELS:
        quantizer = getattr(layer, key, None)
        if claims_one_bit(quantizer) and getattr(quantizer, "variables", None):
            config[key] = quantizers.ScaledSign()
    return type(layer).from_config(config)
