"""Scales of binary kernels: every kernel becomes ±1, and its scale part of what follows."""

import functools

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import binary
from bnn_tf.deploy.folding import activations
from bnn_tf.deploy.folding.affine import Affine, affine_of, batch_norm, chain_after, double, is_batch_norm
from bnn_tf.deploy.graph import Call, Graph, Spec, unique_name
from bnn_tf.layers import OutputScale

_HOMOGENEOUS = (
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.Dropout,
    tf.keras.layers.GlobalAveragePooling2D,
    tf.keras.layers.GlobalMaxPooling2D,
    tf.keras.layers.LeakyReLU,
    tf.keras.layers.MaxPooling2D,
    tf.keras.layers.PReLU,
)


def is_binary_convolution(layer: Spec) -> bool:
    """Whether a frozen convolution takes signs and each of its filters is ±s."""
    return (
        issubclass(layer.kind, lq.layers.QuantConv2D)
        and not issubclass(layer.kind, lq.layers.QuantConv2DTranspose)
        and layer.config["data_format"] == "channels_last"
        and binary.is_binary(layer.config["input_quantizer"])
        and layer.config["kernel_quantizer"] is None
        and binary.filter_scales(layer.weights["kernel"]) is not None
    )


def split_activations(graph: Graph) -> None:
    """Makes the activations inside binary convolutions layers of their own."""
    for call in list(graph.calls):
        if is_binary_convolution(call.layer) and not graph.is_shared(call.layer):
            activations.split(graph, call)


def fold_scales(graph: Graph) -> None:
    """Moves the scale of each filter, `W = s · sign(W)`, behind the convolution.

    There it meets the convolution's bias and the affine maps, which become one map per channel. If that
    is a mere scale, it goes on behind layers that commute with it (pools, ReLU), where a map waits.
    A filter with scale 0 thereby works, which LCE's converter alone would leave in float.
    """
    for call in list(graph.calls):
        if is_binary_convolution(call.layer) and not graph.is_shared(call.layer):
            _fold_after(graph, call)


def _fold_after(graph: Graph, convolution: Call) -> None:
    """Makes the kernel ±1 and joins its scales and the affine maps directly behind it into one."""
    output, layer = convolution.outputs[0], convolution.layer
    chain = chain_after(graph, output)
    maps = [_kernel_map(layer), *(affine for _, affine in chain)]
    if maps[0].is_identity and all(is_batch_norm(call.layer) for call, _ in chain) and len(chain) <= 1:
        return
    _normalize_kernel(layer)
    for call, _ in chain:
        graph.remove(call)
    joined = functools.reduce(lambda first, second: second.after(first), maps)
    if joined.is_scale:
        joined = _push_scale(graph, convolution, joined)
    if not joined.is_identity:
        names = [call.layer.name for call, _ in chain if is_batch_norm(call.layer)]
        name = names[-1] if names else unique_name(graph, f"{layer.name}_affine")
        graph.insert_after(output, batch_norm(name, joined))


def _push_scale(graph: Graph, convolution: Call, joined: Affine) -> Affine:
    """Moves a scale behind commuting layers into the next affine map; returns what is left to do here."""
    reader = graph.sole_consumer(convolution.outputs[0])
    while reader is not None and _commutes_with_scales(reader.layer):
        reader = graph.sole_consumer(reader.outputs[0])
    own = affine_of(graph, reader) if reader else None
    if reader is None or own is None or not (is_batch_norm(reader.layer) or reader.layer.kind is OutputScale):
        return joined  # a mere shift would have to learn to multiply
    # Max pooling and ReLU commute with positive scales only; a binary kernel takes any sign for free.
    kernel = convolution.layer.weights["kernel"]
    convolution.layer.weights["kernel"] = np.where(joined.scale < 0, -kernel, kernel)
    reader.layer = batch_norm(reader.layer.name, own.after(Affine(np.abs(joined.scale), joined.bias)))
    return Affine(np.ones_like(joined.scale), joined.bias)


def _kernel_map(layer: Spec) -> Affine:
    scale = binary.filter_scales(layer.weights["kernel"])
    assert scale is not None  # checked by the caller
    return Affine(scale.astype(np.float64), double(layer.weights.get("bias", np.zeros_like(scale))))


def _normalize_kernel(layer: Spec) -> None:
    layer.weights["kernel"] = np.where(layer.weights["kernel"] < 0, -1.0, 1.0).astype(np.float32)
    layer.weights.pop("bias", None)
    layer.config["use_bias"] = False


def _commutes_with_scales(layer: Spec) -> bool:
    """Whether `f(s · x) = s · f(x)` for every s >= 0 that is constant over the map."""
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in ("linear", "relu")
    if layer.kind is tf.keras.layers.ReLU:
        return layer.config["max_value"] is None and layer.config["threshold"] == 0
    return layer.kind in _HOMOGENEOUS
