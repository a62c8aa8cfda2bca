"""Trying out what quantizes activations: which values it gives, and whether LCE takes them for bits."""

from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import lce
from bnn_tf.deploy.flatbuffer import operators
from bnn_tf.deploy.graph import Call, ConversionError, Graph, Spec, Tensor
from bnn_tf.deploy.linting import walk

_SIZE = 8
_CHANNELS = 32
_SHOWN = 8  # more values than these are as good as real ones


def of_quantizer(quantizer: Any, layer: tf.keras.layers.Layer) -> tf.keras.Model:
    """A model that quantizes a small input of the rank and channels that `layer` takes."""
    channels = (layer.input_spec.axes or {}).get(-1, _CHANNELS) if layer.input_spec else _CHANNELS
    rank = len(layer.kernel_size) if hasattr(layer, "kernel_size") else 0
    image = tf.keras.Input((*[_SIZE] * rank, channels))
    activation = tf.keras.layers.Activation(quantizer, dtype="float32")
    activation.quantizer = quantizer  # so that its weights belong to the model
    return tf.keras.Model(image, activation(image), name="activations")


def of_calls(graph: Graph, tensor: Tensor) -> tf.keras.Model | None:
    """A model of the calls without weights that made `tensor`; None where there are none."""
    calls = list(walk.backwards(graph, tensor))[::-1]
    if not calls:
        return None
    start = calls[0].inputs[0]
    shape = (None, *(size or _SIZE for size in start.shape[1:]))
    config = {"name": "probe/start", "batch_input_shape": shape, "dtype": "float32"}
    source = Call(Spec(tf.keras.layers.InputLayer, config), [], [start])
    segment = Graph("activations", [source, *calls], [start], [tensor])
    return segment.build()


def values(model: tf.keras.Model) -> set[float]:
    """The values that a model gives for normal noise, up to a few."""
    noise = np.random.default_rng(0).standard_normal((2, *model.input_shape[1:]), np.float32)
    found = np.unique(np.asarray(model(2 * noise, training=False), np.float64))
    return set(found[:_SHOWN].tolist())


def is_recognized(model: tf.keras.Model) -> bool:
    """Whether LCE convolves what the model gives on bits, found by converting such a convolution."""
    if len(model.output_shape) != 4:
        return False
    image = tf.keras.Input(model.input_shape[1:])
    convolution = lq.layers.QuantConv2D(_CHANNELS, 1, use_bias=False)
    network = tf.keras.Model(image, convolution(model(image)))
    kernel = convolution.kernel.shape
    convolution.kernel.assign(np.random.default_rng(0).choice([-1.0, 1.0], kernel))
    try:
        content = lce.to_flatbuffer(network)
    except ConversionError:
        return False
    return any(operator.name == "LceBconv2d" for operator in operators(content))
