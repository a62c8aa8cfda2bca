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
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from bnn_tf import codebook
from bnn_tf._tensorflow import claims_one_bit, lazy, lq, tf
from bnn_tf.errors import UserError

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
        return REAL_BITS * self.real_parameters + self.binary_bits + self.codebook_bits

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
    """The cost of one layer.

    Args:
        name: Its name, after those of the models in which it is nested.
        kind: Its class.
        kernel: Shape of its kernel; `None` where it multiplies nothing.
        output: Shape of its output without the batch.
        binary_input: Whether a quantizer of precision 1 makes its inputs binary.
        cost: The figures.

    Example:
        >>> dense = tf.keras.layers.Dense(2, input_shape=(3,), name="logits")
        >>> (layer,) = account(tf.keras.Sequential([dense])).layers
        >>> layer.name, layer.kernel, layer.binary_input, layer.cost.real_macs
        ('logits', (3, 2), False, 6)
    """

    name: str
    kind: str
    kernel: tuple[int, ...] | None
    output: tuple[int | None, ...]
    binary_input: bool
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "cost": self.cost.to_dict()}


@dataclasses.dataclass(frozen=True, repr=False)
class Account:
    """The costs of a network.

    Args:
        model: Its name.
        input_shape: Shape of its input without the batch.
        layers: The layers that have parameters or multiply, in the network's order.

    Example:
        >>> import zoo
        >>> account(zoo.CifarResNet20(method="subbit"))
        Account(cifar_resnet20: 267,264 binary and 2,586 real parameters, 0.03 MB, 40 layers)
    """

    model: str
    input_shape: tuple[int | None, ...]
    layers: tuple[LayerCost, ...]

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
        lines = [(layer.name, layer.kind, layer.kernel, layer.cost) for layer in self.layers]
        rows = [
            (name, kind, "×".join(map(str, kernel or ())), *_short(cost))
            for name, kind, kernel, cost in [*lines, ("total", "", (), self.total)]
        ]
        cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        header = "".join(f"<th>{column}</th>" for column in columns)
        return f"<table><thead><tr>{header}</tr></thead><tbody>{cells}</tbody></table>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        layers = [layer.to_dict() for layer in self.layers]
        return {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "total": self.total.to_dict(),
            "layers": layers,
        }


def _short(cost: Cost) -> tuple[str, ...]:
    counts = (f"{cost.real_macs / 1e6:.3f}", f"{cost.binary_macs / 1e6:.3f}")
    return (f"{cost.binary_bits:,}", f"{cost.real_parameters:,}", *counts)


def account(model: tf.keras.Model) -> Account:
    """Counts what a network costs.

    Layers that are used several times count once with their parameters and every time with their
    multiply-accumulates.

    Raises:
        UserError: the model has no graph (subclassed, or not built), or its input has no fixed size.

    Example:
        >>> quantizers = {"input_quantizer": "approx_sign", "kernel_quantizer": "recu"}
        >>> conv = lq.layers.QuantConv2D(8, 3, use_bias=False, input_shape=(6, 6, 4), **quantizers)
        >>> account(tf.keras.Sequential([conv])).total.binary_macs == 16 * 9 * 4 * 8
        True
    """
    layers = tuple(layer for layer in _layers(model, "", 1) if layer.cost != Cost())
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
    patterns = 2**bits
    responses = cin * min(cout, patterns) * codebook.SLICE * pixels
    return responses + (cin * cout * pixels / 2 if cout > patterns else 0)


def _layers(model: tf.keras.Model, prefix: str, times: int) -> Iterator[LayerCost]:
    """The layers of a model that is called `times` times, those of nested models included."""
    nodes = getattr(model, "_network_nodes", None)
    if not nodes:
        raise UserError(
            f"{model.name} cannot be counted: only functional and Sequential models of known input shape can"
        )
    for layer in model.layers:
        calls = [
            node for i, node in enumerate(layer._inbound_nodes) if f"{layer.name}_ib-{i}" in nodes
        ]  # a layer that other models share has calls of theirs, too
        if isinstance(layer, tf.keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/", times * len(calls))
        else:
            yield _layer_cost(layer, f"{prefix}{layer.name}", calls, times)


def _layer_cost(layer: tf.keras.layers.Layer, name: str, calls: Sequence[Any], times: int) -> LayerCost:
    # Weights that are no kernels: biases, BatchNorm's vectors, slopes, whatever else a layer learns.
    kernels = _kernels(layer)
    ignored = {id(weight) for weight in (*_state(layer), *(kernel for kernel, _ in kernels))}
    real = sum(_size(weight) for weight in layer.weights if id(weight) not in ignored)
    cost = Cost(real_parameters=real)
    for kernel, binary_input in kernels:
        pixels = times * sum(_pixels(layer, call, name) for call in calls)
        cost += _kernel_cost(kernel, binary_input, pixels)
    return LayerCost(
        name=name,
        kind=type(layer).__name__,
        kernel=tuple(kernels[0][0].shape) if kernels else None,
        output=_output_shape(calls),
        binary_input=bool(kernels) and kernels[0][1],
        cost=cost,
    )


def _kernel_cost(kernel: tf.Variable, binary_input: bool, pixels: int) -> Cost:
    size = _size(kernel)
    macs = size * pixels
    if not claims_one_bit(kernel):
        return Cost(real_parameters=size, real_macs=macs)
    quantizer = kernel.quantizer
    bits = round(codebook.SLICE * getattr(quantizer, "bits_per_weight", 1))
    shared = bits < codebook.SLICE
    cin, cout = kernel.shape[-2:]
    operations = bit_operations(cin, cout, pixels, bits) if shared else macs
    return Cost(
        binary_parameters=size,
        binary_bits=size * bits // codebook.SLICE if shared else size,
        codebook_bits=codebook.SLICE * 2**bits if shared else 0,
        binary_macs=macs if binary_input else 0,
        real_macs=0 if binary_input else macs,
        bit_operations=operations if binary_input else 0,
    )


_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def _kernels(layer: tf.keras.layers.Layer) -> list[tuple[tf.Variable, bool]]:
    """The kernels of a convolution or dense layer, and whether each meets binary inputs."""
    if not isinstance(layer, facts.KERNEL_LAYERS):
        return []
    binary_input = claims_one_bit(getattr(layer, "input_quantizer", None))
    kernels = [getattr(layer, name) for name in _KERNELS if hasattr(layer, name)]
    # The pointwise part of a separable convolution takes the sums of the depthwise one.
    return [(kernel, binary_input and index == 0) for index, kernel in enumerate(kernels)]


def _state(layer: tf.keras.layers.Layer) -> Iterator[tf.Variable]:
    """Variables that a deployed network does not have."""
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        yield from (layer.moving_mean, layer.moving_variance)
    for module in layer.submodules:
        if isinstance(module, lq.quantizers.Quantizer):
            scale = getattr(module, "learned_scale", None)
            yield from (variable for variable in module.variables if variable is not scale)


def _pixels(layer: tf.keras.layers.Layer, call: Any, name: str) -> int:
    """How often a call of the layer applies its kernel."""
    if isinstance(layer, (tf.keras.layers.LocallyConnected1D, tf.keras.layers.LocallyConnected2D)):
        return 1  # it has a kernel of its own for every place
    transposed = isinstance(layer, (tf.keras.layers.Conv2DTranspose, tf.keras.layers.Conv3DTranspose))
    shape = call.input_shapes if transposed else call.output_shapes
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    places = shape[2:] if first else shape[1:-1]
    if None in places:
        raise UserError(f"{name} has images of unknown size: build it for one size to count its operations")
    return math.prod(places)


def _output_shape(calls: Sequence[Any]) -> tuple[int | None, ...]:
    shape = calls[0].output_shapes if calls else ()
    shape = shape[0] if shape and isinstance(shape, list) else shape
    return tuple(shape[1:])


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


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
    for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer"):
        quantizer = getattr(layer, key, None)
        if claims_one_bit(quantizer) and getattr(quantizer, "variables", None):
            config[key] = quantizers.ScaledSign()
    return type(layer).from_config(config)
