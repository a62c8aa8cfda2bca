"""Convolutions and dense layers as linear maps, into which affine maps around them can be folded."""

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.folding.affine import Affine, double, single
from bnn_tf.deploy.graph import Call, Graph, Spec

_CONVOLUTIONS = (tf.keras.layers.Conv2D, lq.layers.QuantConv2D)
_DENSE = (tf.keras.layers.Dense, lq.layers.QuantDense)


def is_convolution(layer: Spec) -> bool:
    """Whether a layer is a plain or Larq's Conv2D on channels-last maps, whatever goes in."""
    return layer.kind in _CONVOLUTIONS and layer.config["data_format"] == "channels_last"


def is_linear(layer: Spec) -> bool:
    """Whether what a convolution or dense layer computes is linear in its real-valued input."""
    return has_matrix(layer) and layer.config.get("input_quantizer") is None


def has_activation(layer: Spec) -> bool:
    """Whether a convolution or dense layer applies an activation after its bias."""
    return layer.config["activation"] != "linear"


def is_fused(graph: Graph, call: Call) -> bool:
    """Whether a map per channel alone reads a convolution or dense layer; converters make one of both."""
    producer = graph.producer(call.inputs[0])
    known = is_convolution(producer.layer) or producer.layer.kind in _DENSE
    return known and not has_activation(producer.layer) and graph.sole_consumer(call.inputs[0]) is call


def takes_shift(layer: Spec) -> bool:
    """Whether a constant per input channel is a constant per output channel: no zeros are padded."""
    return is_linear(layer) and not pads(layer)


def takes_scale(layer: Spec) -> bool:
    """Whether scales of the input channels can go into the kernel."""
    return is_linear(layer) and pads_with_zeros(layer)


def pads(layer: Spec) -> bool:
    """Whether a convolution or dense layer sees anything but its input."""
    if layer.kind in _DENSE:
        return False
    return layer.config["padding"] != "valid" and tuple(layer.config["kernel_size"]) != (1, 1)


def pads_with_zeros(layer: Spec) -> bool:
    """Whether a layer sees nothing but its input and zeros."""
    return not pads(layer) or layer.config.get("pad_values", 0.0) == 0


def inputs(layer: Spec) -> int:
    """Input channels of a convolution, inputs of a dense layer."""
    return layer.weights["kernel"].shape[-2]


def shifted(layer: Spec, offset: np.ndarray) -> np.ndarray:
    """What a constant input adds to the output: `Σ_ij W_ij^T o`, shape `(outputs,)`."""
    kernel = double(layer.weights["kernel"])
    return np.einsum("kio,i->o", kernel.reshape(-1, *kernel.shape[-2:]), offset)


def add_bias(layer: Spec, bias: np.ndarray) -> None:
    """Adds to a layer's bias, which it gets if it has none."""
    own = layer.weights.get("bias")
    layer.weights["bias"] = single(bias if own is None else double(own) + bias)
    layer.config["use_bias"] = True


def take_affine(layer: Spec, affine: Affine) -> None:
    """Folds a map before the layer into it: `W(a x + b) + c = (W a) x + (W b + c)`."""
    if affine.bias.any():
        add_bias(layer, shifted(layer, affine.bias))
    scale_inputs(layer, affine.scale)


def scale_inputs(layer: Spec, scale: np.ndarray) -> None:
    """Multiplies the part of the kernel that each input channel meets."""
    layer.weights["kernel"] = single(double(layer.weights["kernel"]) * scale[:, None])


def has_matrix(layer: Spec) -> bool:
    """Whether a layer is a convolution or dense layer, in which every output sees every input channel."""
    if layer.kind in _DENSE:
        return True
    return is_convolution(layer) and layer.config.get("groups", 1) == 1
