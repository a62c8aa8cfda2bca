"""What Larq Compute Engine makes of small parts of a network, seen by converting them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.graph import SIZE, Call, ConversionError
from bnn_tf.deploy.interpreter import Interpreter
from bnn_tf.deploy.lce_file import BINARY_CONVOLUTION, LceFile, is_installed, to_flatbuffer
from bnn_tf.errors import UserError, first_line

_CHANNELS = 32
_PLAIN = ("linear", "relu", "relu6", "sigmoid", "softmax", "tanh", lq.activations.hard_tanh)
"""Activations that need no trial; LCE lacks some of the others (softsign)."""
_answers: dict[Any, str | None] = {}


def is_recognized(model: tf.keras.Model) -> bool:
    """Whether LCE convolves what the model gives on bits, seen by converting such a convolution."""
    if len(model.output_shape) != 4:
        return False
    inputs = [tf.keras.Input(tensor.shape[1:]) for tensor in model.inputs]
    convolution = lq.layers.QuantConv2D(_CHANNELS, 1, use_bias=False)
    network = tf.keras.Model(inputs, convolution(model(inputs if len(inputs) > 1 else inputs[0])))
    convolution.kernel.assign(np.random.default_rng(0).choice([-1.0, 1.0], convolution.kernel.shape))
    try:
        operators = LceFile(to_flatbuffer(network)).operators
    except ConversionError:
        return False
    return any(operator.name == BINARY_CONVOLUTION for operator in operators)


def problem(call: Call) -> str | None:
    """Why LCE cannot convert or run a layer by itself, as part of a sentence; None where nothing is wrong.

    Layers that are known to convert are not tried out, others once for all calls with the same settings and
    shapes. Nothing is said of layers that cannot be called alone, and of all where LCE is not installed.
    """
    layer = call.layer
    plain = facts.is_kind_known(layer) and layer.config.get("activation", "linear") in _PLAIN
    batched = all(tensor.shape[:1] == (None,) for tensor in call.inputs)
    if plain or facts.is_quantizer(layer) or not batched or not is_installed():
        return None
    config = {name: value for name, value in layer.config.items() if name != "name"}
    settings = tf.nest.flatten([config, call.arguments([None] * len(call.inputs))])
    key = (
        layer.kind,
        tuple((tensor.shape, tensor.dtype) for tensor in call.inputs),
        tuple(one if callable(one) else repr(one) for one in settings),
    )
    if key not in _answers:
        _answers[key] = _tried(call)
    return _answers[key]


def _tried(call: Call) -> str | None:
    inputs = [tf.keras.Input([size or SIZE for size in tensor.shape[1:]]) for tensor in call.inputs]
    try:
        values = [tf.cast(one, tensor.dtype) for one, tensor in zip(inputs, call.inputs, strict=True)]
        model = tf.keras.Model(inputs, call.apply(call.layer.build(), values), name="trial")
    except Exception:  # a user's layer that wants other inputs
        return None
    try:
        Interpreter(LceFile(to_flatbuffer(model)), trusted=True)
    except UserError as error:
        who = "converter" if isinstance(error, ConversionError) else "interpreter"
        return f"LCE's {who} refuses it: {first_line(error).partition(': ')[2]}"
    return None
