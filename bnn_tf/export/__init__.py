"""A trained network as one C99 file that needs nothing but a C compiler.

Names are imported when they are first used: planning and writing a program needs no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnn_tf.export.exporting import ExportReport, export_c

__all__ = ["ExportReport", "export_c"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("bnn_tf.export.exporting"), name)
    raise AttributeError(f"module 'bnn_tf.export' has no attribute {name!r}")
