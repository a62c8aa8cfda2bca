"""From a trained Keras model to a checked file for Larq Compute Engine."""

from bnn_tf.deploy import parity
from bnn_tf.deploy.conversion import ConversionReport, convert
from bnn_tf.deploy.errors import ConversionError
from bnn_tf.deploy.flatbuffer import operators
from bnn_tf.deploy.folding import fold
from bnn_tf.deploy.freezing import freeze
from bnn_tf.deploy.interpreter import Interpreter

__all__ = [
    "ConversionError",
    "ConversionReport",
    "Interpreter",
    "convert",
    "fold",
    "freeze",
    "operators",
    "parity",
]
