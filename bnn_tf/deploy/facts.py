"""What layers compute in inference: one table of kinds, read by all that folds, lints, quantizes and proves.

`of(call)` says what is known of a call's function, `takes_signs` and `is_binary_convolution` say what is
binary. A kind that is not in the table has no known properties, and so nothing is folded through it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import claims_one_bit, lq, tf
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.layers import (
    BatchNormalization,
    ChannelPad,
    Flip,
    HardTanh,
    LeakyClip,
    LearnableBias,
    OutputScale,
)

_layers = tf.keras.layers

SMALLEST_SCALE = 1e-7
"""LCE's converter takes a kernel for a float one if a weight is this small; 1.2e-7 was still binary."""
KERNEL_LAYERS = (
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.Conv3D,
    _layers.Dense,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
    _layers.LocallyConnected1D,
    _layers.LocallyConnected2D,
    _layers.SeparableConv1D,
    _layers.SeparableConv2D,
)
"""What multiplies by a kernel; Keras' other convolutions, and Larq's, are subclasses of these."""
CONVOLUTIONS = (_layers.Conv2D, lq.layers.QuantConv2D)
DENSE = (_layers.Dense, lq.layers.QuantDense)
BINARY_KINDS = (lq.layers.QuantConv2D, lq.layers.QuantConv1D, lq.layers.QuantDense)
"""What can run on bits: LCE has an operator for the first kind, and folding makes that of the others."""
BATCH_NORMS = (BatchNormalization, _layers.BatchNormalization, _layers.experimental.SyncBatchNormalization)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Properties of a layer's function `f` in inference; all False where nothing is known.

    Attributes:
        no_op: `f(x) = x`.
        affine: `f(x) = a · x + b` with constants per channel.
        moves_values: Every value of `f(x)` is one of `x` or 0.
        mean: `f` averages each channel over pixels.
        maximum: `f` takes the largest values of each channel over pixels.
        odd: `f(-x) = -f(x)` for any choice of channels whose sign changes, and `f` adds no zeros.
        homogeneous: `f(s · x) = s · f(x)` for `s >= 0`, constant or one per channel.
        commutes_with_affine: `f(a · x + b) = a · f(x) + b` with constants per channel.
        keeps_sign: `f(x) >= 0` exactly where `x >= 0`, element by element.
        commutes_with_sign: `sign(f(x)) = f(sign(x))`.
        never_negative: `f(x) >= 0` whatever `x` is, so that its sign says nothing.
        by_element: Each value of `f(x)` is a function of the value of `x` there, the same for all.
        keeps_nonnegative: `f(x) >= 0` where no value of any input is below 0.
        clips: A function that the converter makes part of the convolution before it.
        probabilities: `f` gives values from 0 to 1 that sum up to 1 or are independent (softmax, sigmoid).
        channels: `"same"` where channel c of `f(x)` comes from channel c of `x`; `"tiled"` where the channels
            are repeated for each pixel (Flatten); else empty.
    """

    no_op: bool = False
    affine: bool = False
    moves_values: bool = False
    mean: bool = False
    maximum: bool = False
    odd: bool = False
    homogeneous: bool = False
    commutes_with_affine: bool = False
    keeps_sign: bool = False
    commutes_with_sign: bool = False
    by_element: bool = False
    never_negative: bool = False
    keeps_nonnegative: bool = False
    clips: bool = False
    probabilities: bool = False
    channels: str = ""


_NOTHING = Facts()
_NO_OP = Facts(
    no_op=True,
    moves_values=True,
    odd=True,
    homogeneous=True,
    commutes_with_affine=True,
    keeps_sign=True,
    commutes_with_sign=True,
    keeps_nonnegative=True,
    channels="same",
)
_AFFINE = Facts(affine=True, channels="same")
_KEEPS_NONNEGATIVE = Facts(keeps_nonnegative=True)
_MEAN = dataclasses.replace(
    _KEEPS_NONNEGATIVE, mean=True, odd=True, homogeneous=True, commutes_with_affine=True, channels="same"
)
_MOVES = dataclasses.replace(_KEEPS_NONNEGATIVE, moves_values=True, homogeneous=True, commutes_with_sign=True)
_MAXIMUM = dataclasses.replace(_MOVES, maximum=True, channels="same")
_SELECTS = dataclasses.replace(_NO_OP, no_op=False, keeps_sign=False)
_ADDS_ZEROS = dataclasses.replace(_MOVES, commutes_with_sign=False, channels="same")
_BY_ELEMENT = Facts(by_element=True, channels="same")
_BENDS = dataclasses.replace(_BY_ELEMENT, homogeneous=True, keeps_nonnegative=True)
_SQUASHES = dataclasses.replace(_BY_ELEMENT, odd=True, keeps_sign=True, keeps_nonnegative=True)
_NEVER_NEGATIVE = dataclasses.replace(_BY_ELEMENT, never_negative=True)
_RELU = dataclasses.replace(_NEVER_NEGATIVE, homogeneous=True, clips=True)
_RELU6 = dataclasses.replace(_NEVER_NEGATIVE, clips=True)
_SIGMOID = dataclasses.replace(_NEVER_NEGATIVE, probabilities=True)
_SOFTMAX = dataclasses.replace(_SIGMOID, by_element=False)

_MERGES = (
    _layers.Add,
    _layers.Average,
    _layers.Concatenate,
    _layers.Maximum,
    _layers.Minimum,
    _layers.Multiply,
)
_ARITHMETIC = (
    "__operators__.add",
    "math.add",
    "math.add_n",
    "math.divide",
    "math.maximum",
    "math.minimum",
    "math.multiply",
    "math.truediv",
)
_REARRANGE = (
    "compat.v1.transpose",
    "concat",
    "expand_dims",
    "math.reduce_max",
    "math.reduce_mean",
    "nn.avg_pool2d",
    "nn.max_pool2d",
    "reshape",
)

_KINDS: dict[Any, Facts] = {
    _layers.ActivityRegularization: _NO_OP,
    _layers.AlphaDropout: _NO_OP,
    _layers.Dropout: _NO_OP,
    _layers.GaussianDropout: _NO_OP,
    _layers.GaussianNoise: _NO_OP,
    _layers.SpatialDropout1D: _NO_OP,
    _layers.SpatialDropout2D: _NO_OP,
    **dict.fromkeys((*BATCH_NORMS, LearnableBias, OutputScale), _AFFINE),
    _layers.AveragePooling1D: _MEAN,
    _layers.AveragePooling2D: _MEAN,
    _layers.GlobalAveragePooling1D: _MEAN,
    _layers.GlobalAveragePooling2D: _MEAN,
    _layers.MaxPooling1D: _MAXIMUM,
    _layers.MaxPooling2D: _MAXIMUM,
    _layers.GlobalMaxPooling1D: _MAXIMUM,
    _layers.GlobalMaxPooling2D: _MAXIMUM,
    _layers.Cropping2D: _SELECTS,
    Flip: _SELECTS,
    _layers.Flatten: dataclasses.replace(_SELECTS, channels="tiled"),
    _layers.Permute: _MOVES,
    _layers.Reshape: _MOVES,
    _layers.ZeroPadding2D: _ADDS_ZEROS,
    ChannelPad: dataclasses.replace(_ADDS_ZEROS, channels=""),
    _layers.LeakyReLU: _BENDS,
    _layers.PReLU: dataclasses.replace(_BENDS, by_element=False),
    _layers.ReLU: _BY_ELEMENT,
    _layers.ELU: _BY_ELEMENT,
    _layers.ThresholdedReLU: _NEVER_NEGATIVE,
    HardTanh: dataclasses.replace(_SQUASHES, clips=True),
    LeakyClip: dataclasses.replace(_SQUASHES, keeps_sign=False),
    _layers.Softmax: _SOFTMAX,
    **dict.fromkeys(_MERGES, _KEEPS_NONNEGATIVE),
}
"""Facts that hold whatever the layer's arguments are; `_refined` adds those that depend on them."""

_FUNCTIONS: dict[Any, Facts] = {
    "linear": _NO_OP,
    "relu": _RELU,
    "relu6": _RELU6,
    "tanh": _SQUASHES,
    "softsign": _SQUASHES,
    lq.activations.hard_tanh: dataclasses.replace(_SQUASHES, clips=True),
    lq.activations.leaky_tanh: _SQUASHES,
    "softmax": _SOFTMAX,
    "sigmoid": _SIGMOID,
    **dict.fromkeys(("hard_sigmoid", "softplus", "exponential"), _NEVER_NEGATIVE),
    **dict.fromkeys(("elu", "gelu", "mish", "selu", "swish"), _BY_ELEMENT),
    "nn.relu": _RELU,
    "nn.relu6": _RELU6,
    "math.tanh": _SQUASHES,
    "math.softsign": _SQUASHES,
    "nn.softmax": _SOFTMAX,
    "math.sigmoid": _SIGMOID,
    **dict.fromkeys(("math.softplus", "math.exp", "math.abs", "math.square"), _NEVER_NEGATIVE),
    **dict.fromkeys(("nn.elu", "nn.gelu", "nn.selu", "nn.silu"), _BY_ELEMENT),
    "clip_by_value": dataclasses.replace(_BY_ELEMENT, clips=True),
    **dict.fromkeys(_ARITHMETIC, _KEEPS_NONNEGATIVE),
    **dict.fromkeys(_REARRANGE, _KEEPS_NONNEGATIVE),
}
"""Functions as they stand in layers' configurations, and in layers that Keras makes of TensorFlow calls."""


def of(call: Call) -> Facts:
    """What is known of the function that a call computes in inference.

    Facts on channels hold for the last axis; a layer that has its channels elsewhere has none of them.
    """
    layer = call.layer
    if layer.kind is _layers.Activation:
        known = of_function(layer.config["activation"])
    elif name := function_of(layer):
        known = of_function(name)
    else:
        known = _KINDS.get(layer.kind, _NOTHING)
    known = _refined(call, known)
    if layer.config.get("data_format", "channels_last") != "channels_last":
        known = dataclasses.replace(
            known, odd=False, homogeneous=False, commutes_with_affine=False, channels=""
        )
    return known


def is_kind_known(layer: Spec) -> bool:
    """Whether a layer is of a kind in the table, an input, or Keras' or Larq's layer with a kernel."""
    origin = layer.kind.__module__.partition(".")[0]
    kernel = issubclass(layer.kind, KERNEL_LAYERS) and origin in ("keras", "tf_keras", "larq")
    return kernel or layer.kind in (*_KINDS, _layers.Activation, _layers.InputLayer)


def of_function(function: Any) -> Facts:
    """What is known of an activation, given as in a layer's configuration."""
    return _FUNCTIONS.get(function, _NOTHING) if isinstance(function, Hashable) else _NOTHING


def _refined(call: Call, known: Facts) -> Facts:
    """The facts that depend on a layer's arguments or weights."""
    layer, config = call.layer, call.layer.config
    if layer.kind is _layers.ReLU:
        highest, threshold, bends = config["max_value"], config["threshold"], bool(config["negative_slope"])
        return dataclasses.replace(
            known,
            homogeneous=highest is None and threshold == 0,
            never_negative=not bends and threshold >= 0,
            keeps_nonnegative=not bends or threshold <= 0,
            clips=highest in (None, 6) and not threshold and not bends,
        )
    if layer.kind is _layers.UpSampling2D:
        known = _KEEPS_NONNEGATIVE if config["interpolation"] == "bilinear" else _NOTHING
        return _SELECTS if config["interpolation"] == "nearest" else known
    if layer.kind is _layers.PReLU:
        return dataclasses.replace(known, keeps_sign=bool((layer.weights["alpha"] > 0).all()))
    if layer.kind is _layers.LeakyReLU:
        return dataclasses.replace(known, keeps_sign=config["alpha"] > 0)
    if layer.kind is LeakyClip:
        return dataclasses.replace(known, keeps_sign=config.get("slope", 0.1) > 0)
    if (bounds := clip_bounds(call)) is not None:
        low, high = bounds
        return dataclasses.replace(
            known,
            keeps_sign=low < 0 <= high,
            odd=low == -high,
            never_negative=low >= 0,
            keeps_nonnegative=high >= 0,
        )
    if (function := function_of(layer)) in _ARITHMETIC:
        positive = [bool(np.all(np.asarray(one) >= 0)) for one in _constants(call)]
        if function == "math.maximum":
            return dataclasses.replace(known, never_negative=any(positive))
        return dataclasses.replace(known, keeps_nonnegative=all(positive))
    if (padding := padding_of(call)) is not None:
        return dataclasses.replace(known, keeps_nonnegative=(padding.value or 0) >= 0)
    return known


def clip_bounds(call: Call) -> tuple[float, float] | None:
    """The limits of a `tf.clip_by_value` between two numbers; None where a call is none."""
    if function_of(call.layer) != "clip_by_value":
        return None
    arguments = _arguments(call, tf.clip_by_value)
    low, high = arguments["clip_value_min"], arguments["clip_value_max"]
    return (low, high) if isinstance(low, int | float) and isinstance(high, int | float) else None


def function_of(layer: Spec) -> str:
    """Name of the TensorFlow function that stands as a layer in the graph, e.g. `"math.sign"`; else empty."""
    return str(layer.config.get("function", "")) if layer.kind.__name__ == "TFOpLambda" else ""


def is_batch_norm(layer: Spec) -> bool:
    """Whether a layer is a batch normalization of known formula; that of a derived class may be another."""
    return layer.kind in BATCH_NORMS


def normalizes(layer: Spec) -> bool:
    """Whether a layer is meant as a batch normalization, also one of a class derived from these."""
    return issubclass(layer.kind, BATCH_NORMS)


def is_pool(call: Call) -> bool:
    """Whether a call pools channels-last maps. Padding never counts in any of them."""
    known = of(call)
    return (known.mean or known.maximum) and known.channels == "same"


def is_sum(layer: Spec) -> bool:
    """Whether a layer adds up its inputs, also as the operator `+`."""
    return layer.kind is _layers.Add or function_of(layer) in ("__operators__.add", "math.add")


def is_product(layer: Spec) -> bool:
    """Whether a layer multiplies its inputs, also as the operator `*`."""
    return layer.kind is _layers.Multiply or function_of(layer) == "math.multiply"


def is_concatenation(call: Call) -> bool:
    """Whether a call joins maps along their channels."""
    rank = len(call.outputs[0].shape)
    if call.layer.kind is _layers.Concatenate:
        return call.layer.config["axis"] in (-1, rank - 1)
    if function_of(call.layer) != "concat":
        return False
    return _arguments(call, tf.concat).get("axis") in (-1, rank - 1)


def averages_map(call: Call) -> bool:
    """Whether a call is `tf.reduce_mean` over height and width."""
    if function_of(call.layer) != "math.reduce_mean" or len(call.inputs[0].shape) != 4:
        return False
    axes = _arguments(call, tf.reduce_mean).get("axis")
    return axes is not None and sorted(axis % 4 for axis in tf.nest.flatten(axes)) == [1, 2]


@dataclasses.dataclass(frozen=True)
class Padding:
    """Padding of the map by a layer of its own.

    Attributes:
        sides: `((top, bottom), (left, right))`.
        value: What is put there; None for reflections.
    """

    sides: tuple[tuple[int, int], tuple[int, int]]
    value: float | None


def padding_of(call: Call) -> Padding | None:
    """What a call pads the map with, if that is all it does."""
    if issubclass(call.layer.kind, _layers.ZeroPadding2D):
        if call.layer.config["data_format"] != "channels_last":
            return None
        return Padding(_sides(*call.layer.config["padding"]), 0.0)
    if function_of(call.layer) not in ("pad", "compat.v1.pad"):
        return None
    arguments = _arguments(call, tf.compat.v1.pad)
    sides = np.asarray(arguments["paddings"])
    if sides.shape != (4, 2) or sides[[0, 3]].any():
        return None
    constant = str(arguments.get("mode", "CONSTANT")).upper() == "CONSTANT"
    return Padding(_sides(*sides[1:3]), float(arguments.get("constant_values", 0.0)) if constant else None)


def _sides(height: Sequence[int], width: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (int(height[0]), int(height[1])), (int(width[0]), int(width[1]))


def _arguments(call: Call, function: Any) -> dict[str, Any]:
    args, kwargs = call.arguments([None] * len(call.inputs))
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


def _constants(call: Call) -> list[Any]:
    """The numbers and arrays that a call is given beside its input tensors."""
    arguments = tf.nest.flatten(call.arguments([None] * len(call.inputs)))
    return [one for one in arguments if one is not None and not isinstance(one, str)]


def padding_before(graph: Graph, tensor: Tensor) -> tuple[Padding, Tensor] | None:
    """The padding by a layer of its own that the reader of `tensor` alone sees, and the tensor it pads."""
    for call in graph.backwards(tensor):
        if graph.sole_consumer(call.outputs[0]) is None:
            return None
        if (padding := padding_of(call)) is not None:
            return padding, call.inputs[0]
        if not of(call).no_op:
            return None
    return None


# Convolutions and dense layers --------------------------------------------------------------------------


def is_convolution(layer: Spec) -> bool:
    """Whether a layer is a plain or Larq's Conv2D on channels-last maps, whatever goes in."""
    return layer.kind in CONVOLUTIONS and layer.config["data_format"] == "channels_last"


def has_matrix(layer: Spec) -> bool:
    """Whether a layer is a convolution or dense layer, in which every output sees every input channel."""
    return layer.kind in DENSE or (is_convolution(layer) and layer.config.get("groups", 1) == 1)


def is_linear(layer: Spec) -> bool:
    """Whether what such a layer computes before its activation is linear in its input."""
    return has_matrix(layer) and not is_active(layer.config.get("input_quantizer"))


def has_activation(layer: Spec) -> bool:
    """Whether a convolution or dense layer applies an activation after its bias."""
    return layer.config["activation"] != "linear"


def pads(layer: Spec) -> bool:
    """Whether a convolution or dense layer sees anything but its input."""
    if layer.kind in DENSE:
        return False
    return layer.config["padding"] != "valid" and tuple(layer.config["kernel_size"]) != (1, 1)


def pads_only_with(layer: Spec, value: float) -> bool:
    """Whether a convolution or dense layer sees nothing but its input and `value`."""
    return not pads(layer) or layer.config.get("pad_values", 0.0) == value


# Who reads a tensor -----------------------------------------------------------------------------------


def reader_behind(graph: Graph, tensor: Tensor, passes: Callable[[Facts], bool]) -> Call | None:
    """The sole reader of `tensor` behind layers with properties that may stand between; None for several."""
    return next((call for call in graph.forwards(tensor) if not passes(of(call))), None)


def behind_affine(graph: Graph, tensor: Tensor) -> tuple[bool, Call | None]:
    """Whether a BatchNormalization or other map per channel follows, and the sole reader after it."""
    passed = False
    for call in graph.forwards(tensor):
        known = of(call)
        if not known.affine and not known.no_op:
            return passed, call
        passed |= known.affine
    return passed, None


def readers_behind(
    graph: Graph, tensor: Tensor, reads: Callable[[Call], bool], passes: Callable[[Facts], bool]
) -> list[Call]:
    """The calls that read `tensor`, directly or behind layers that may stand between.

    Args:
        graph: The graph.
        tensor: What is read.
        reads: Whether a call is such a reader.
        passes: Whether a layer with these properties may stand between.

    Returns:
        None of them where anything else can see the values of `tensor`.
    """
    if tensor in graph.outputs:
        return []
    readers: list[Call] = []
    for call in graph.consumers(tensor):
        behind = [call] if reads(call) else []
        if not behind and passes(of(call)):
            behind = readers_behind(graph, call.outputs[0], reads, passes)
        if not behind:
            return []
        readers += behind
    return readers


def norm_behind(graph: Graph, tensor: Tensor) -> Call | None:
    """The BatchNormalization that alone reads `tensor`, behind layers that treat channels apart; or None."""
    for call in graph.forwards(tensor):
        if normalizes(call.layer):
            return call
        if of(call).channels != "same":
            return None
    return None


def rectifiers(graph: Graph, tensor: Tensor) -> list[Call]:
    """The calls whose activations keep values from being negative, so that their signs are all +1.

    Of a sum they are returned only if no summand can be negative, of a product for one factor (the other may
    be a gate), of a concatenation for the channels where they are.
    """
    call = graph.producer(tensor)
    known = of(call)
    inner = issubclass(call.layer.kind, KERNEL_LAYERS) and of_function(call.layer.config["activation"])
    if known.never_negative or (inner and inner.never_negative):
        return [call]
    before = [rectifiers(graph, one) for one in call.inputs] if known.keeps_nonnegative else []
    joins = call.layer.kind is _layers.Concatenate or function_of(call.layer) == "concat"
    if not joins and not all(before):
        return []
    if is_product(call.layer):
        full = [one for one, source in zip(before, call.inputs, strict=True) if source.shape == tensor.shape]
        before = full[:1]
    return [one for some in before for one in some]


# What is binary ---------------------------------------------------------------------------------------

_PROBES = np.array([1e-30, 1e-6, 0.3, 1.0, 1.5, 40.0], np.float32)


def takes_signs(layer: Spec) -> bool:
    """Whether a layer turns its input into -1 and +1 first, 0 becoming +1."""
    return is_sign(input_quantizer(layer))


def is_quantizer(layer: Spec) -> bool:
    """Whether a layer is nothing but a quantizer: as a layer, or as an `Activation`."""
    return input_quantizer(layer) is not None and "input_quantizer" not in layer.config


def input_quantizer(layer: Spec) -> Any:
    """What quantizes the input of a layer, also where the layer is nothing but a quantizer; or None."""
    if layer.kind is _layers.Activation:
        activation = layer.config["activation"]
        return activation if isinstance(activation, lq.quantizers.Quantizer) else None
    if issubclass(layer.kind, lq.quantizers.Quantizer):
        return layer.origin
    return layer.config.get("input_quantizer")


@functools.lru_cache(maxsize=1024)
def is_sign(quantizer: Any) -> bool:
    """Whether a quantizer is `x -> +1 if x >= 0 else -1`, element by element; it is tried out on values."""
    if not callable(quantizer) or getattr(quantizer, "weights", []):
        return False
    tried = to_try(quantizer)
    probes = [_PROBES, -_PROBES, np.zeros_like(_PROBES), np.concatenate([_PROBES, 1 - _PROBES])]
    try:
        for values in probes:
            signs: np.ndarray = np.asarray(tried(tf.constant(values[None])))
            if signs.shape != (1, *values.shape) or (signs[0] != np.where(values >= 0, 1, -1)).any():
                return False
    except Exception:  # a user's quantizer that wants other shapes
        return False
    return not getattr(tried, "weights", [])


def to_try(quantizer: Any) -> Any:
    """What may be called in place of a quantizer without building it for a shape."""
    if not isinstance(quantizer, tf.keras.layers.Layer):
        return quantizer
    return type(quantizer).from_config(quantizer.get_config())


def carries_signs(graph: Graph, tensor: Tensor) -> bool:
    """Whether a tensor holds nothing but signs that a layer before has taken, moved, joined, or padded."""
    call = graph.producer(tensor)
    if is_quantizer(call.layer) and takes_signs(call.layer):
        return True
    known = of(call)
    hands_on = known.moves_values or known.commutes_with_sign or is_concatenation(call)
    hands_on = hands_on or padding_of(call) is not None
    return bool(call.inputs) and hands_on and all(carries_signs(graph, one) for one in call.inputs)


def sign_readers(graph: Graph, tensor: Tensor, channels: Sequence[str] = ("", "same", "tiled")) -> list[Call]:
    """The calls that take the signs of `tensor`, behind layers that do `channels` with them; see `Facts`."""

    def passes(known: Facts) -> bool:
        return known.commutes_with_sign and known.channels in channels

    return readers_behind(graph, tensor, lambda call: takes_signs(call.layer), passes)


def is_active(quantizer: Any) -> bool:
    """Whether there is a quantizer that does something (`NoOp` does not)."""
    return quantizer is not None and not isinstance(quantizer, lq.quantizers.NoOp)


def reads_one_bit(graph: Graph, call: Call) -> bool:
    """Whether a layer with a kernel works on one bit: its own quantizer gives it, or a layer before does."""
    own = call.layer.config.get("input_quantizer")
    return (is_active(own) and claims_one_bit(own)) or carries_signs(graph, call.inputs[0])


def filter_scales(kernel: np.ndarray) -> np.ndarray | None:
    """The `s >= 0` of each filter if every filter is ±s, shape `(filters,)`; None otherwise."""
    magnitude = np.abs(kernel.reshape(-1, kernel.shape[-1]))
    scales = magnitude.max(axis=0)
    even = magnitude.min(axis=0) >= scales * (1 - 1e-6)
    return scales if even.all() and np.isfinite(scales).all() else None


def is_binary_convolution(layer: Spec) -> bool:
    """Whether a frozen channels-last QuantConv2D quantizes its input to one bit, and its filters are ±s."""
    quantizer = layer.config.get("input_quantizer")
    return (
        issubclass(layer.kind, lq.layers.QuantConv2D)
        and layer.config["data_format"] == "channels_last"
        and layer.config["kernel_quantizer"] is None
        and is_active(quantizer)
        and claims_one_bit(quantizer)
        and filter_scales(layer.weights["kernel"]) is not None
    )


def convolves_signs(graph: Graph, call: Call) -> bool:
    """Whether a frozen convolution has filters ±s and convolves signs, its own or those of a layer before.

    Where a filter is but one weight, it has no sign that says more than its value.
    """
    layer, kernel = call.layer, call.layer.weights.get("kernel")
    if layer.kind not in CONVOLUTIONS or kernel is None or layer.config.get("kernel_quantizer") is not None:
        return False
    if kernel[..., 0].size == 1 or filter_scales(kernel) is None:
        return False
    return takes_signs(layer) or carries_signs(graph, call.inputs[0])


def parts(name: str, origin: tf.keras.layers.Layer | None) -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    """The live layer called `name` and all layers inside it, with their names."""
    if origin is not None:
        for layer in origin._flatten_layers():
            yield (name if layer is origin else f"{name}/{layer.name}"), layer
