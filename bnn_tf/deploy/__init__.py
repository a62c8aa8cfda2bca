"""From a trained Keras model to a checked file for Larq Compute Engine.

Names are imported when they are first used, so that expanding a `.snn` file needs no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn_tf.deploy import facts, fold, graph, parity
    from bnn_tf.deploy.conversion import ConversionReport, convert
    from bnn_tf.deploy.finetuning import Finetune
    from bnn_tf.deploy.flatbuffer import operators
    from bnn_tf.deploy.graph import ConversionError, freeze
    from bnn_tf.deploy.int8 import Int8
    from bnn_tf.deploy.interpreter import Interpreter

_HOMES = {
    "ConversionError": "graph",
    "ConversionReport": "conversion",
    "Finetune": "finetuning",
    "Int8": "int8",
    "Interpreter": "interpreter",
    "convert": "conversion",
    "freeze": "graph",
    "operators": "flatbuffer",
}

__all__ = [
    "ConversionError",
    "ConversionReport",
    "Finetune",
    "Int8",
    "Interpreter",
    "convert",
    "facts",
    "fold",
    "freeze",
    "graph",
    "operators",
    "parity",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"bnn_tf.deploy.{_HOMES[name]}"), name)
    if name in ("facts", "fold", "graph", "parity"):
        return importlib.import_module(f"bnn_tf.deploy.{name}")
    raise AttributeError(f"module 'bnn_tf.deploy' has no attribute {name!r}")
