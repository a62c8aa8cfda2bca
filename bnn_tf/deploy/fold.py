"""Algebra on the graph before conversion: what need not be computed on the device is folded away.

`folded(model)` gives the graph that `convert` hands to LCE's converter, `fold(model)` the Keras model of it.
Maps per channel (scales, biases, batch normalization) move to where they cost nothing; every rule is an
identity of real numbers, stated in its docstring.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor, read_frozen, unique_name
from bnn_tf.layers import ChannelPad, LearnableBias, OutputScale


def folded(model: tf.keras.Model) -> Graph:
    """The graph that `convert` hands to LCE's converter: frozen (`graph.read_frozen`) and folded.

    Kernels of binary convolutions are ±1, quantized layers have no kernel quantizer left, and what was
    folded away is missing. `Graph.build` makes the Keras model of it. The model stays as it is.

    Raises:
        ConversionError: The model is subclassed or not built.

    Example:
        >>> import zoo
        >>> graph = folded(zoo.CifarResNet20(method="bireal", input_shape=(32, 32, 3), num_classes=10))
        >>> sum(call.layer.kind.__name__ == "QuantConv2D" for call in graph.calls)
        18
    """
    graph = read_frozen(model)
    fold_graph(graph)
    return graph


def fold(model: tf.keras.Model) -> tf.keras.Model:
    """The frozen network (see `freeze`) without operations that algebra can remove; see `fold_graph`.

    The result computes the same in inference, up to rounding, and is not for training.

    Raises:
        ConversionError: The model is subclassed or not built.

    Example:
        >>> conv = tf.keras.layers.Conv2D(8, 3, input_shape=(6, 6, 4))
        >>> model = tf.keras.Sequential([conv, bnn_tf.layers.LearnableBias()])
        >>> [type(layer).__name__ for layer in fold(model).layers]
        ['InputLayer', 'Conv2D']
    """
    return folded(model).build()


def fold_graph(graph: Graph) -> None:
    """Applies all rules to a graph of frozen layers.

    Layers that are shared or read several times, and outputs, are changed only where that is exact for all
    readers.
    """
    drop_no_ops(graph)
    take_signs_in_layers(graph)
    as_convolutions(graph)
    for call in list(graph.calls):
        if facts.is_binary_convolution(call.layer) and not graph.is_shared(call.layer):
            split_activation(graph, call)
    size_global_pools(graph)
    share_slopes(graph)
    drop_before_signs(graph)
    move_affine_before(graph)
    fold_scales(graph)
    join_chains(graph)
    fold_thresholds(graph)
    fold_biases(graph)
    fold_inputs(graph)


# Maps per channel -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map `y = scale · x + bias` per channel, in double precision."""

    scale: np.ndarray
    bias: np.ndarray

    def after(self, first: Affine) -> Affine:
        """The map that applies `first` and then this one."""
        return Affine(self.scale * first.scale, self.scale * first.bias + self.bias)

    @property
    def is_scale(self) -> bool:
        """Whether it adds nothing."""
        return not self.bias.any()

    @property
    def is_shift(self) -> bool:
        """Whether it multiplies by 1."""
        return bool((self.scale == 1).all())

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.is_scale and self.is_shift


def affine_of(call: Call) -> Affine | None:
    """The affine map per channel (last axis) that a call computes in inference, if it is one."""
    weights = call.layer.weights
    if call.layer.kind is OutputScale:
        return Affine(double(weights["scale"]), np.zeros(weights["scale"].shape))
    if call.layer.kind is LearnableBias:
        return Affine(np.ones(weights["bias"].shape), double(weights["bias"]))
    if not facts.is_batch_norm(call.layer):
        return None
    rank = len(call.inputs[0].shape)
    if [axis % rank for axis in np.atleast_1d(call.layer.config["axis"])] != [rank - 1]:
        return None
    mean, variance = double(weights["moving_mean"]), double(weights["moving_variance"])
    scale = weights.get("gamma", 1.0) / np.sqrt(variance + call.layer.config["epsilon"])
    return Affine(scale, weights.get("beta", 0.0) - mean * scale)


def batch_norm(name: str, affine: Affine) -> Spec:
    """A BatchNormalization that computes `affine` in inference (mean 0, variance 1, no epsilon)."""
    weights = {
        "gamma": affine.scale,
        "beta": affine.bias,
        "moving_mean": np.zeros_like(affine.scale),
        "moving_variance": np.ones_like(affine.scale),
    }
    config = {"name": name, "axis": -1, "epsilon": 0.0, "dtype": "float32"}
    return Spec(
        tf.keras.layers.BatchNormalization, config, {key: single(value) for key, value in weights.items()}
    )


def shift(name: str, bias: np.ndarray) -> Spec:
    """A `LearnableBias` that adds `bias`."""
    return Spec(LearnableBias, {"name": name, "dtype": "float32"}, {"bias": single(bias)})


def layer_of(name: str, affine: Affine) -> Spec:
    """The cheapest layer that computes `affine`."""
    return shift(name, affine.bias) if affine.is_shift else batch_norm(name, affine)


def chain_after(graph: Graph, tensor: Tensor) -> list[tuple[Call, Affine]]:
    """The affine maps behind `tensor`, as far as each is the only one to read what comes before it."""
    chain: list[tuple[Call, Affine]] = []
    for reader in graph.forwards(tensor):
        if (affine := affine_of(reader)) is None:
            break
        chain.append((reader, affine))
    return chain


def join_chains(graph: Graph) -> None:
    """Makes one map of each chain: `a2 · (a1 · x + b1) + b2 = a2 a1 · x + (a2 b1 + b2)`."""
    for call in list(graph.calls):
        if call not in graph.calls or graph.is_shared(call.layer):
            continue
        joined = affine_of(call)
        if joined is None:
            continue
        chain = chain_after(graph, call.outputs[0])
        for follower, affine in chain:
            joined = affine.after(joined)
            graph.remove(follower)
        if chain:
            norms = [c.layer.name for c in (call, *(c for c, _ in chain)) if facts.is_batch_norm(c.layer)]
            call.layer = layer_of((norms or [call.layer.name])[-1], joined)


def double(values: np.ndarray) -> np.ndarray:
    """The values in double precision, in which folding computes."""
    return values.astype(np.float64)


def single(values: np.ndarray) -> np.ndarray:
    """The values in single precision, in which layers keep them."""
    return values.astype(np.float32)


# Convolutions and dense layers, as linear maps --------------------------------------------------------


def is_fused(graph: Graph, call: Call) -> bool:
    """Whether a map per channel alone reads a convolution or dense layer; converters make one of both."""
    layer = graph.producer(call.inputs[0]).layer
    kernel = facts.is_convolution(layer) or layer.kind in facts.DENSE
    return kernel and not facts.has_activation(layer) and graph.sole_consumer(call.inputs[0]) is call


def shifted(layer: Spec, offset: np.ndarray) -> np.ndarray:
    """What a constant input adds to the output: `Σ_ij W_ij^T o`, shape `(outputs,)`."""
    kernel = double(layer.weights["kernel"])
    return np.einsum("kio,i->o", kernel.reshape(-1, *kernel.shape[-2:]), offset)


def add_bias(layer: Spec, bias: np.ndarray) -> None:
    """Adds to a layer's bias, which it gets if it has none."""
    own = layer.weights.get("bias")
    layer.weights["bias"] = single(bias if own is None else double(own) + bias)
    layer.config["use_bias"] = True


def scale_inputs(layer: Spec, scale: np.ndarray) -> None:
    """Multiplies the part of the kernel that each input channel meets."""
    layer.weights["kernel"] = single(double(layer.weights["kernel"]) * scale[:, None])


# Signs ------------------------------------------------------------------------------------------------


def _restore_with(calls: list[Call], restore: Callable[[np.ndarray], np.ndarray]) -> None:
    """Notes for the proof of a conversion how to get back what `calls` read before folding."""
    for call in calls:
        call.restores.insert(0, restore)


def _multiply_by(scale: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Multiplies each channel by its scale; `Flatten` may have repeated the channels."""

    def multiply(values: np.ndarray) -> np.ndarray:
        return values * np.tile(scale, values.shape[-1] // len(scale)).astype(values.dtype)

    return multiply


# Activations ------------------------------------------------------------------------------------------


def drop_no_ops(graph: Graph) -> None:
    """Removes layers that change nothing in inference, such as dropout and noise."""
    for call in list(graph.calls):
        if not facts.of(call).no_op:
            continue
        if call.inputs[0] not in graph.inputs or call.outputs[0] not in graph.outputs:
            graph.remove(call)


def as_convolutions(graph: Graph) -> None:
    """Makes 2D convolutions of binary dense layers and 1D convolutions, which LCE has no operators for.

    A dense layer is a 1×1 convolution of a map of one pixel, a 1D convolution of size k a (1, k) convolution
    of a map one pixel high. Maps per channel and activations move before the reshaping behind them, so that
    reshapings between such layers vanish.
    """
    for call in list(graph.calls):
        if not graph.is_shared(call.layer) and (layer := _as_convolution(call)) is not None:
            _replace(graph, call, layer)


def _as_convolution(call: Call) -> Spec | None:
    layer, config = call.layer, call.layer.config
    if layer.kind not in (lq.layers.QuantDense, lq.layers.QuantConv1D) or not facts.takes_signs(layer):
        return None
    kernel = layer.weights["kernel"]
    if config["kernel_quantizer"] is not None or facts.filter_scales(kernel) is None:
        return None
    if None in call.inputs[0].shape[1:]:
        return None
    if layer.kind is lq.layers.QuantDense:
        plain = lq.layers.QuantConv2D(kernel.shape[-1], 1)
        weights = {**layer.weights, "kernel": kernel[None, None]}
    else:
        if config["padding"] == "causal" or config["groups"] > 1 or config["data_format"] != "channels_last":
            return None
        plain = lq.layers.QuantConv2D(
            kernel.shape[-1],
            (1, *config["kernel_size"]),
            strides=tuple(config["strides"]) * 2,  # Keras knows only equal ones; the height is 1
            dilation_rate=(1, *config["dilation_rate"]),
            padding=config["padding"],
            pad_values=config.get("pad_values", 0.0),
        )
        weights = {**layer.weights, "kernel": kernel[None]}
    kept = ("name", "use_bias", "activation", "input_quantizer", "dtype")
    config = {**plain.get_config(), **{key: config[key] for key in kept}, "kernel_quantizer": None}
    return Spec(lq.layers.QuantConv2D, config, weights, layer.origin)


def _replace(graph: Graph, call: Call, layer: Spec) -> None:
    """Puts a convolution in place of a call, between reshapings to a map and back."""
    source, output = call.inputs[0], call.outputs[0]
    flat, result = source.shape[1:], output.shape[1:]
    above = (1,) * (3 - len(flat))
    opening = _reshape(unique_name(graph, f"{layer.name}_map"), (*above, *flat))
    image, map_ = Tensor((None, *above, *flat)), Tensor((None, *above, *result))
    back = Call(_reshape(unique_name(graph, f"{layer.name}_back"), result), [map_], [output])
    convolution = Call(layer, [image], [map_])
    position = graph.calls.index(call)
    graph.calls[position : position + 1] = [Call(opening, [source], [image]), convolution, back]
    _restore_with([convolution], lambda values: values.reshape(len(values), *flat))
    while (reader := graph.sole_consumer(back.outputs[0])) is not None:
        if not facts.of(reader).by_element and affine_of(reader) is None:
            break
        _swap(graph, back, reader)
    before = graph.producer(source)
    if before.layer.kind is tf.keras.layers.Reshape and before.inputs[0].shape[1:] == image.shape[1:]:
        # The reshaping back of the layer before, and the one to a map, undo each other.
        convolution.inputs = list(before.inputs)
        graph.calls = [one for one in graph.calls if image not in one.outputs]
        if not graph.consumers(source) and source not in graph.outputs:
            graph.calls.remove(before)


def _reshape(name: str, shape: Sequence[int | None]) -> Spec:
    return Spec(tf.keras.layers.Reshape, {"name": name, "target_shape": tuple(shape), "dtype": "float32"})


def _swap(graph: Graph, back: Call, reader: Call) -> None:
    """Lets a layer act before a reshaping that stood before it."""
    output, changed = reader.outputs[0], Tensor(back.inputs[0].shape)
    reader.inputs, reader.outputs = list(back.inputs), [changed]
    back.inputs, back.outputs = [changed], [output]
    if facts.is_batch_norm(reader.layer):
        reader.layer.config["axis"] = -1
    graph.calls.remove(back)
    graph.calls.insert(graph.calls.index(reader) + 1, back)


def take_signs_in_layers(graph: Graph) -> None:
    """Takes signs where kernels meet them instead of before layers that move values or take the largest.

    `max(sign(x), sign(y)) = sign(max(x, y))`. LCE recognises a sign only straight before the convolution, and
    `as_convolutions` one that the layer itself takes.
    """
    for call in list(graph.calls):
        alone = not graph.is_shared(call.layer) and call.outputs[0] not in graph.outputs
        if not (facts.is_quantizer(call.layer) and facts.takes_signs(call.layer) and alone):
            continue
        readers = facts.readers_behind(
            graph,
            call.outputs[0],
            lambda reader: _reads_raw(graph, reader.layer),
            lambda known: known.commutes_with_sign,
        )
        convolved = [facts.is_convolution(one.layer) and call.outputs[0] in one.inputs for one in readers]
        if not all(convolved):
            for one in readers:
                one.layer.config["input_quantizer"] = facts.input_quantizer(call.layer)
            graph.remove(call)


def _reads_raw(graph: Graph, layer: Spec) -> bool:
    """Whether a binary kernel has no quantizer of its input, and may get one."""
    if layer.kind not in facts.BINARY_KINDS or graph.is_shared(layer):
        return False
    frozen = layer.config["kernel_quantizer"] is None
    raw = frozen and not facts.is_active(layer.config["input_quantizer"])
    return raw and facts.filter_scales(layer.weights["kernel"]) is not None


def split_activation(graph: Graph, call: Call) -> None:
    """Makes the activation inside a layer a layer of its own, so that others can stand between."""
    if not facts.has_activation(call.layer):
        return
    name = unique_name(graph, f"{call.layer.name}_activation")
    config = {"name": name, "activation": call.layer.config["activation"], "dtype": "float32"}
    graph.insert_after(call.outputs[0], Spec(tf.keras.layers.Activation, config))
    call.layer.config["activation"] = "linear"


def drop_before_signs(graph: Graph) -> None:
    """Removes activations that keep the sign of every value where only signs are taken of the result.

    For an `f` with `f(x) >= 0` exactly if `x >= 0`: `sign(f(x)) = sign(x)`, and because the sign is
    monotone, `sign(max(f(x), f(y), …)) = max(sign(x), sign(y), …) = sign(max(x, y, …))`.
    """
    for call in reversed(list(graph.calls)):
        weights = call.layer.weights.values()
        shared = all(weight.shape[:-1] == (1,) * (weight.ndim - 1) for weight in weights)  # by all pixels
        if not facts.of(call).keeps_sign or not shared:
            continue
        takers = facts.sign_readers(graph, call.outputs[0], ("same",) if weights else ("", "same", "tiled"))
        if takers:
            graph.remove(call)
            _restore_with(takers, functools.partial(_compute, call))


def _compute(call: Call, values: np.ndarray) -> np.ndarray:
    return np.asarray(call.compute([tf.constant(values)], {})[0])


def share_slopes(graph: Graph) -> None:
    """Gives a PReLU one slope per channel where all pixels of the map have the same ones.

    By default Keras keeps (and trains) a slope per pixel, and so does the file.
    """
    for call in graph.calls:
        slopes = call.layer.weights.get("alpha")
        if call.layer.kind is tf.keras.layers.PReLU and slopes is not None and slopes.ndim == 3:
            first = slopes[:1, :1]
            if slopes.shape[:2] != (1, 1) and (slopes == first).all():
                call.layer.weights["alpha"] = first.copy()
                call.layer.config["shared_axes"] = [1, 2]


# Minus signs of channels ------------------------------------------------------------------------------


def with_positive_scale(graph: Graph, tensor: Tensor, affine: Affine) -> Affine | None:
    """A map with no scale below 0 that may stand for `affine`, which makes `tensor`; None if there is none.

    Where all that reads `tensor` is a kernel, behind odd functions (`f(-x) = -f(x)`: signs, hard-tanh,
    average pools), the minus of a channel goes into the kernel: `W f(a x + b) = -W f(|a| x - b)` for
    `a < 0`. Padding must be zero, or none. At `a x + b = 0` the sign is +1 on either side; to keep it the
    bias moves to `-b - ε` with `ε = 1e-6 max(|b|, |a|)`, which is about the rounding error of float32.
    """
    negative = affine.scale < 0
    if not negative.any():
        return affine
    readers = facts.readers_behind(
        graph,
        tensor,
        lambda call: _takes_flips(graph, call.layer),
        lambda known: known.odd and known.channels != "",
    )
    if not readers:
        return None
    flip = np.where(negative, -1.0, 1.0)
    for call in readers:
        scale_inputs(call.layer, np.tile(flip, call.layer.weights["kernel"].shape[-2] // len(flip)))
    _restore_with(readers, _multiply_by(flip))
    return absolute(affine, any(facts.takes_signs(call.layer) for call in readers))


def absolute(affine: Affine, strict: bool = True) -> Affine:
    """The map with the channels of negative scale turned around, 0 becoming a little less if `strict`."""
    size, negative = np.abs(affine.scale), affine.scale < 0
    nudge = 1e-6 * np.maximum(np.abs(affine.bias), size) if strict else 0.0
    return Affine(size, np.where(negative, -affine.bias - nudge, affine.bias))


def _takes_flips(graph: Graph, layer: Spec) -> bool:
    """Whether a layer's kernel may take the minus of an input channel."""
    alone = facts.has_matrix(layer) and not graph.is_shared(layer) and facts.pads_only_with(layer, 0.0)
    return alone and (facts.is_linear(layer) or facts.takes_signs(layer))


def with_constant_channels(graph: Graph, makers: list[Call], affine: Affine) -> Affine | None:
    """As `with_positive_scale`, for convolutions that pad with ones; None if it cannot be done.

    A channel c whose sign turns around, and its kernel with it, is wrong only where the padding, which stays
    +1, meets the kernel: -w instead of +w. One more channel that is always -1, with the kernel w of c, makes
    up for it:

        inside:  (-s)(-w) + (-1) w = s w - w
        padding: (+1)(-w) + (+1) w = w - w

    Both lack the same `Σ w` over the kernel, which goes into the bias. Everything is integer and exact. The
    convolution before gets a filter for each such channel, of ones with a bias below all its sums.

    Args:
        graph: The graph; it is changed.
        makers: The binary convolution, what follows it up to a max pool, the pool, and the affine map.
        affine: What the last of them computes.
    """
    convolution, *_, last = makers
    readers = graph.consumers(last.outputs[0])
    fits = all(_takes_channels(graph, call) for call in readers) and last.outputs[0] not in graph.outputs
    if not readers or not fits or not facts.is_binary_convolution(convolution.layer):
        return None
    turned = np.flatnonzero(affine.scale < 0)
    lowest = -1.0 - math.prod(convolution.layer.weights["kernel"].shape[:-1])
    for call in readers:
        _add_inputs(call, turned)
    _add_filters(convolution, len(turned))
    for call in makers:
        if (own := affine_of(call)) is not None:
            call.layer = layer_of(call.layer.name, _joined(own, len(turned), 0.0))
        *sizes, channels = call.outputs[0].shape
        call.outputs[0].shape = (*sizes, (channels or 0) + len(turned))
    return _joined(absolute(affine), len(turned), lowest)


def _takes_channels(graph: Graph, call: Call) -> bool:
    layer = call.layer
    alone = facts.has_matrix(layer) and facts.is_convolution(layer) and not graph.is_shared(layer)
    return alone and facts.pads_only_with(layer, 1.0) and facts.takes_signs(layer)


def _add_inputs(call: Call, turned: np.ndarray) -> None:
    kernel = call.layer.weights["kernel"]
    channels, extra = kernel.shape[-2], kernel[:, :, turned]
    flip = np.ones(channels, np.float32)
    flip[turned] = -1
    scale_inputs(call.layer, flip)
    call.layer.weights["kernel"] = np.concatenate([call.layer.weights["kernel"], extra], axis=2)
    add_bias(call.layer, extra.sum(axis=(0, 1, 2), dtype=np.float64))
    _restore_with([call], lambda values: values[..., :channels] * flip)


def _add_filters(call: Call, count: int) -> None:
    weights, config = call.layer.weights, call.layer.config
    ones = np.ones((*weights["kernel"].shape[:-1], count), np.float32)
    weights["kernel"] = np.concatenate([weights["kernel"], ones], axis=-1)
    if "bias" in weights:
        weights["bias"] = np.append(weights["bias"], np.zeros(count, np.float32))
    config["filters"] += count


def _joined(affine: Affine, count: int, bias: float) -> Affine:
    return Affine(np.append(affine.scale, np.ones(count)), np.append(affine.bias, np.full(count, bias)))


# Pools ------------------------------------------------------------------------------------------------


def move_affine_before(graph: Graph) -> None:
    """Moves affine maps from behind pools to before them, where a convolution takes them for nothing.

    `mean(a x + b) = a mean(x) + b`, and for `a >= 0` also `max(a x + b) = a max(x) + b`. Channels with
    `a < 0` behind a max pool stay, unless kernels can take the minus, see `with_positive_scale` and
    `with_constant_channels`.
    A sign that thus follows a max pool directly is taken before it by LCE's converter (`LceBMaxPool2d`).
    """
    while any(_move(graph, call) for call in list(graph.calls) if facts.is_pool(call)):
        pass


def _move(graph: Graph, pool: Call) -> bool:
    follower = graph.sole_consumer(pool.outputs[0])
    affine = affine_of(follower) if follower else None
    makers = _from_convolution(graph, pool)
    if follower is None or affine is None or not makers:
        return False
    moved: Affine | None = affine
    if facts.of(pool).maximum:
        moved = with_positive_scale(graph, follower.outputs[0], affine)
        moved = moved or with_constant_channels(graph, [*makers, follower], affine)
    if moved is None:
        return False
    graph.remove(follower)
    graph.insert_after(pool.inputs[0], layer_of(follower.layer.name, moved))
    return True


def _from_convolution(graph: Graph, pool: Call) -> list[Call]:
    """The calls from a convolution to the pool, if only affine maps are between and each is read once."""
    calls = [pool]
    while graph.sole_consumer(calls[0].inputs[0]) is calls[0]:
        call = graph.producer(calls[0].inputs[0])
        calls = [call, *calls]
        if graph.is_shared(call.layer):
            return []
        if facts.is_convolution(call.layer):
            return [] if facts.has_activation(call.layer) else calls
        if affine_of(call) is None:
            return []
    return []


def size_global_pools(graph: Graph) -> None:
    """Replaces global average pools by pools of the map's size, where it is known; LCE runs them faster."""
    for call in list(graph.calls):
        is_global = call.layer.kind is tf.keras.layers.GlobalAveragePooling2D and facts.is_pool(call)
        if not is_global or graph.is_shared(call.layer) or None in call.inputs[0].shape[1:]:
            continue
        batch, height, width, channels = call.inputs[0].shape
        name, flat = call.layer.name, not call.layer.config["keepdims"]
        common = {"data_format": "channels_last", "dtype": "float32"}
        config = {"name": name, "pool_size": (height, width), **common}
        call.layer = Spec(tf.keras.layers.AveragePooling2D, config, origin=call.layer.origin)
        if flat:
            config = {"name": unique_name(graph, f"{name}_flatten"), **common}
            graph.insert_after(call.outputs[0], Spec(tf.keras.layers.Flatten, config))
            call.outputs[0].shape = (batch, 1, 1, channels)


# Scales of kernels ------------------------------------------------------------------------------------


def fold_scales(graph: Graph) -> None:
    """Moves the scale of each filter, `W = s · sign(W)`, behind the convolution.

    There it meets the convolution's bias and the affine maps, which become one map per channel. If that
    is a mere scale, it goes on behind layers that commute with it (pools, ReLU), where a map waits.
    Kernels of ±1 have no filter of scale 0, for which LCE's converter leaves a convolution in float.
    """
    for call in list(graph.calls):
        if facts.is_binary_convolution(call.layer) and not graph.is_shared(call.layer):
            _fold_scale(graph, call)


def _fold_scale(graph: Graph, convolution: Call) -> None:
    output, layer = convolution.outputs[0], convolution.layer
    scale = facts.filter_scales(layer.weights["kernel"])
    assert scale is not None  # it is a binary convolution
    own = Affine(double(scale), double(layer.weights.get("bias", np.zeros_like(scale))))
    chain = chain_after(graph, output)
    if own.is_identity and all(facts.is_batch_norm(call.layer) for call, _ in chain) and len(chain) <= 1:
        return
    layer.weights["kernel"] = np.where(layer.weights["kernel"] < 0, -1.0, 1.0).astype(np.float32)
    layer.weights.pop("bias", None)
    layer.config["use_bias"] = False
    for call, _ in chain:
        graph.remove(call)
    joined = functools.reduce(lambda first, second: second.after(first), [affine for _, affine in chain], own)
    if joined.is_scale:
        joined = _push_scale(graph, convolution, joined)
    if not joined.is_identity:
        names = [call.layer.name for call, _ in chain if facts.is_batch_norm(call.layer)]
        name = names[-1] if names else unique_name(graph, f"{layer.name}_affine")
        graph.insert_after(output, batch_norm(name, joined))


def _push_scale(graph: Graph, convolution: Call, joined: Affine) -> Affine:
    """Moves a scale behind commuting layers into the next affine map; returns what is left to do here."""
    reader = facts.reader_behind(
        graph, convolution.outputs[0], lambda known: known.homogeneous and known.channels == "same"
    )
    own = affine_of(reader) if reader else None
    if reader is None or own is None or reader.layer.kind is LearnableBias:
        return joined  # a mere shift would have to learn to multiply
    # Max pooling and ReLU commute with positive scales only; a binary kernel takes any sign for free.
    kernel = convolution.layer.weights["kernel"]
    convolution.layer.weights["kernel"] = np.where(joined.scale < 0, -kernel, kernel)
    reader.layer = batch_norm(reader.layer.name, own.after(Affine(np.abs(joined.scale), joined.bias)))
    return Affine(np.ones_like(joined.scale), joined.bias)


# Thresholds and the inputs of real layers -------------------------------------------------------------


def fold_thresholds(graph: Graph) -> None:
    """Makes mere shifts of maps before signs: `sign(a x + b) = sign(x + b / a)` for `a > 0`.

    For `a < 0` see `with_positive_scale`. Maps behind a convolution stay, for they cost nothing there.
    """
    for call in list(graph.calls):
        affine = affine_of(call)
        if affine is None or affine.is_shift or graph.is_shared(call.layer) or is_fused(graph, call):
            continue
        if (affine.scale == 0).any() or not facts.sign_readers(graph, call.outputs[0], ("same", "tiled")):
            continue
        positive = with_positive_scale(graph, call.outputs[0], affine)
        if positive is not None:
            _restore_with(facts.sign_readers(graph, call.outputs[0]), _multiply_by(positive.scale))
            call.layer = shift(call.layer.name, positive.bias / positive.scale)


def fold_inputs(graph: Graph) -> None:
    """Folds maps into the dense layer or real convolution that reads them.

    `W(a x + b) + c = (W a) x + (W b + c)`.

    Average pools, Flatten and Dropout may stand between. Convolutions that pad take scales only. Maps
    behind a convolution stay, for they cost nothing there.
    """
    for call in reversed(list(graph.calls)):
        affine = affine_of(call)
        if affine is None or graph.is_shared(call.layer) or is_fused(graph, call):
            continue
        reader = facts.reader_behind(graph, call.outputs[0], lambda known: known.commutes_with_affine)
        if reader is None or not facts.is_linear(reader.layer):
            continue
        if facts.pads_only_with(reader.layer, 0.0) and (affine.is_scale or not facts.pads(reader.layer)):
            # A layer behind Flatten sees every channel of every pixel.
            pixels = reader.layer.weights["kernel"].shape[-2] // len(affine.scale)
            spread = Affine(np.tile(affine.scale, pixels), np.tile(affine.bias, pixels))
            if spread.bias.any():
                add_bias(reader.layer, shifted(reader.layer, spread.bias))
            scale_inputs(reader.layer, spread.scale)
            graph.remove(call)


# Biases on their way through the network --------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    """What stands for a tensor of the unfolded network: it is `carrier + offset`, offset per channel.

    `name` is that of the layer which added to the offset last.
    """

    carrier: Tensor
    offset: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(()))
    name: str = ""

    @property
    def is_exact(self) -> bool:
        return not self.offset.any()


def fold_biases(graph: Graph) -> None:
    """Moves `LearnableBias` layers forward until something takes them.

    Each tensor `y` is computed without its pending offset `o`, as `x` with `y = x + o`:

        bias b:            o → o + b                  (no operation left)
        sum:               o → o_1 + o_2 + …
        pools:             mean(x + o) = mean(x) + o, max(x + o) = max(x) + o
        channel padding:   o → (0, o, 0)
        real convolution:  W(x + o) = W x + Σ W^T o   (where it does not pad)
        BatchNorm:         a (x + o) + b = a x + (a o + b)

    Where `y` itself is needed (a sign, a PReLU, an output), the offset goes back into the BatchNorm,
    convolution or dense layer that `x` comes from, also through sums and pools, if nothing else needs
    `x`; else one addition is left. Others that can read `y` rather than `x` then do, so that `x` need not
    be kept. Thus a ReAct block keeps its threshold alone: the bias behind its PReLU joins the threshold
    of the next block, its shortcut hands it to the next BatchNorm, and this one also takes the bias
    before the next PReLU.
    """
    if any(call.layer.kind is LearnableBias for call in graph.calls):
        _Flow(graph).run()


class _Flow:
    """One pass over the calls in their order; the graph holds those that are settled."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._waiting, graph.calls = graph.calls, []
        self._held: dict[Tensor, _Held] = {}
        self._shown: set[Tensor] = set()  # outputs of the network
        self._unread = collections.Counter(tensor for call in self._waiting for tensor in call.inputs)
        self._unread.update(graph.outputs)
        uses = collections.Counter(call.layer for call in self._waiting)
        self._shared = {layer for layer, count in uses.items() if count > 1}

    def run(self) -> None:
        for call in self._waiting:
            self._unread.subtract(call.inputs)
            self._visit(call)
        for number, tensor in enumerate(self._graph.outputs):
            self._unread[tensor] -= 1
            self._graph.outputs[number] = self._exact(tensor)
            self._shown.add(self._graph.outputs[number])

    def _visit(self, call: Call) -> None:
        held = [self._held[tensor] for tensor in call.inputs]
        if call.layer.kind is LearnableBias:
            offset = held[0].offset + double(call.layer.weights["bias"])
            self._held[call.outputs[0]] = _Held(held[0].carrier, offset, call.layer.name)
            return
        passed = None
        if not all(one.is_exact for one in held):
            passed = _passed(call, [one.offset for one in held], call.layer in self._shared)
            if passed is None:
                held = [_Held(self._exact(tensor)) for tensor in call.inputs]
        name = next((one.name for one in held if one.name), "")
        call.inputs = [one.carrier for one in held]
        self._graph.calls.append(call)
        self._held |= {tensor: _Held(tensor) for tensor in call.outputs}
        if passed is not None and not self._take(call, passed):
            self._held[call.outputs[0]] = _Held(call.outputs[0], passed, name)

    def _take(self, call: Call, offset: np.ndarray) -> bool:
        """Adds to what the call computes, before its activation, if its layer has a bias or may get one.

        A convolution before a BatchNorm leaves it to that.
        """
        layer = call.layer
        if layer in self._shared:
            return False
        if facts.has_matrix(layer):
            readers = [reader for reader in self._waiting if call.outputs[0] in reader.inputs]
            normalized = len(readers) == 1 and facts.is_batch_norm(readers[0].layer)
            if normalized and not facts.has_activation(layer):
                return False
        return _add_to(call, offset)

    def _exact(self, tensor: Tensor) -> Tensor:
        """A tensor that holds the value of `tensor` with its offset."""
        held = self._held[tensor]
        if held.is_exact:
            return held.carrier
        carrier, offset = held.carrier, held.offset
        if not self._is_seen(carrier) and self._take_back(carrier, offset):
            result = carrier
        else:
            result = self._add(carrier, offset, held.name)
        for other, its in self._held.items():  # they read the new value instead, so that the old one can go
            if its.carrier == carrier and not its.is_exact:
                self._held[other] = _Held(result, its.offset - offset, its.name)
        return result

    def _add(self, carrier: Tensor, offset: np.ndarray, name: str) -> Tensor:
        result = Tensor(carrier.shape)
        waiting = [call for call in self._waiting if call.layer.kind is not LearnableBias]
        everything = dataclasses.replace(self._graph, calls=[*self._graph.calls, *waiting])
        layer = shift(unique_name(everything, name or "bias"), offset)
        self._graph.calls.append(Call(layer, [carrier], [result]))
        return result

    def _is_seen(self, carrier: Tensor) -> bool:
        """Whether anything has read `carrier`, or will read it as it is."""
        wanted = any(
            held.carrier == carrier and held.is_exact and self._unread[tensor] > 0
            for tensor, held in self._held.items()
        )
        return wanted or carrier in self._shown or bool(self._graph.consumers(carrier))

    def _take_back(self, carrier: Tensor, offset: np.ndarray) -> bool:
        """Adds to `carrier` within the layers that make it, if one of them can."""
        maker = self._graph.producer(carrier)
        if len(maker.outputs) > 1 or maker.layer in self._shared:
            return False
        if facts.has_matrix(maker.layer) and facts.has_activation(maker.layer):
            return False
        if _add_to(maker, offset):
            return True
        if not (facts.is_sum(maker.layer) or facts.is_pool(maker)):
            return False
        return any(
            self._serves_only(maker, source) and self._take_back(source, offset) for source in maker.inputs
        )

    def _serves_only(self, reader: Call, source: Tensor) -> bool:
        later = any(h.carrier == source and self._unread[t] > 0 for t, h in self._held.items())
        once = self._graph.consumers(source) == [reader] and reader.inputs.count(source) == 1
        full = source.shape == reader.outputs[0].shape or len(reader.inputs) == 1
        return once and full and not later and source not in self._shown


def _add_to(call: Call, offset: np.ndarray) -> bool:
    """Adds to what a convolution, dense layer or map per channel computes before its activation."""
    if facts.has_matrix(call.layer):
        add_bias(call.layer, offset)
    elif (affine := affine_of(call)) is not None:
        call.layer = layer_of(call.layer.name, Affine(affine.scale, affine.bias + offset))
    else:
        return False
    return True


def _passed(call: Call, offsets: list[np.ndarray], is_shared: bool) -> np.ndarray | None:
    """The output's offset per channel where the inputs are computed without theirs; None if it has none."""
    layer, known, channels = call.layer, facts.of(call), call.outputs[0].channels
    if facts.has_matrix(layer):
        straight = not facts.has_activation(layer) or not is_shared
        fits = straight and facts.is_linear(layer) and not facts.pads(layer)
        return shifted(layer, offsets[0]) if fits else None
    if (affine := affine_of(call)) is not None:
        return affine.scale * offsets[0]
    if channels is None or any(tensor.channels is None for tensor in call.inputs):
        return None
    constants = [
        np.broadcast_to(offset, tensor.channels or 0)
        for offset, tensor in zip(offsets, call.inputs, strict=True)
    ]
    if len(constants) > 1:
        if facts.is_sum(layer) and all(tensor.channels == channels for tensor in call.inputs):
            return np.sum(constants, axis=0)
        return np.concatenate(constants) if facts.is_concatenation(call) else None
    (constant,) = constants
    if known.channels == "same" and (known.commutes_with_affine or known.maximum):
        return constant
    if known.channels == "tiled":
        return np.tile(constant, channels // len(constant))
    if layer.kind is tf.keras.layers.Reshape:
        return constant if channels == len(constant) else None
    if layer.kind is ChannelPad:
        return np.pad(constant, (layer.config["before"], layer.config["after"]))
    return None
