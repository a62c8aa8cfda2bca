"""From a trained Keras model to a checked file for Larq Compute Engine.

The modules `convert`, `lint`, `fold`, … hold functions of the same names; `bnn_tf.convert` and `bnn_tf.lint`
are those functions. Names are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn_tf.deploy.arrays import weights
    from bnn_tf.deploy.convert import ConversionReport, Normalization
    from bnn_tf.deploy.graph import ConversionError, freeze
    from bnn_tf.deploy.int8 import Int8
    from bnn_tf.deploy.interpreter import Interpreter
    from bnn_tf.deploy.lce_file import LceFile

_HOMES = {
    "ConversionError": "graph",
    "ConversionReport": "convert",
    "Int8": "int8",
    "Interpreter": "interpreter",
    "LceFile": "lce_file",
    "Normalization": "convert",
    "freeze": "graph",
    "weights": "arrays",
}

__all__ = [
    "ConversionError",
    "ConversionReport",
    "Int8",
    "Interpreter",
    "LceFile",
    "Normalization",
    "benchmark",
    "contract",
    "convert",
    "facts",
    "fold",
    "freeze",
    "graph",
    "int8",
    "interpreter",
    "lce_file",
    "lint",
    "proof",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"bnn_tf.deploy.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"bnn_tf.deploy.{name}")
    raise AttributeError(f"module 'bnn_tf.deploy' has no attribute {name!r}")
