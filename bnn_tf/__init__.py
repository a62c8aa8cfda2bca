"""Train accurate binary and sub-bit neural networks, and put them on phones, boards and web pages.

Importing this package is cheap: TensorFlow is imported when a name is first used. Keras 2 is
selected right away, because that must happen before anything imports TensorFlow.
"""

import importlib as _importlib
from typing import Any as _Any

from bnn_tf import _runtime

_runtime.configure_tensorflow()
_runtime.require_own_zoo()

__version__ = "0.1.0"

_FUNCTIONS = {
    "binarize": "binarization",
    "binarize_report": "binarization",
    "convert": "deploy.convert",
    "export_c": "export",
    "lint": "deploy.lint",
    "load_model": "model_files",
}

__all__ = [
    "__version__",
    "binarize",
    "binarize_report",
    "callbacks",
    "codebook",
    "convert",
    "data",
    "deploy",
    "distillation",
    "errors",
    "export_c",
    "layers",
    "lint",
    "load_model",
    "losses",
    "math",
    "methods",
    "observe",
    "optimizers",
    "quantizers",
    "registry",
    "report",
    "schedules",
    "training",
    "transforms",
    "values",
]


def __getattr__(name: str) -> _Any:
    if name in _FUNCTIONS:
        return getattr(_importlib.import_module(f"bnn_tf.{_FUNCTIONS[name]}"), name)
    if name in __all__:
        return _importlib.import_module(f"bnn_tf.{name}")
    raise AttributeError(f"module 'bnn_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
