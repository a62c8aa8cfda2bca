"""TensorFlow (on Keras 2) and Larq, imported when they are first used and without their start-up noise.

Every module of this project takes `tf` and `lq` from here, so that no way of importing it can meet Keras 3 or
print what is of no use to the user. Modules that only compute with TensorFlow inside functions cost nothing
to import; those that define subclasses of Keras' or Larq's classes load it, and are reached through `lazy`
where a listing must stay fast.
"""

from __future__ import annotations

import importlib
import logging
import os
import types
from typing import TYPE_CHECKING, Any

from bnn_tf._runtime import quiet_native_stderr, use_legacy_keras


class _Lazy(types.ModuleType):
    """A module that is imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":  # asked by the import system and by inspection
            raise AttributeError(name)
        if self.__name__ in ("tensorflow", "larq"):
            _import_tensorflow()
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # the next use does not come here
        return value


def lazy(name: str) -> Any:
    """The module called `name`, imported when an attribute of it is first used."""
    return _Lazy(name)


def _import_tensorflow() -> None:
    """Imports TensorFlow and Larq quietly; does nothing the second time."""
    global _imported
    if _imported:
        return
    use_legacy_keras()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_native_stderr():
        import larq  # noqa: F401
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for GPUs, and complains where there is none
    logging.getLogger("larq.layers_base").addFilter(_not_about_starved_weights)
    _imported = True


def _not_about_starved_weights(record: logging.LogRecord) -> bool:
    # Our quantizers choose their gradients so that no weight constraint is needed.
    return "starved weights" not in record.getMessage()


_imported = False
use_legacy_keras()
if TYPE_CHECKING:
    import larq as lq
    import tensorflow as tf
else:
    tf, lq = lazy("tensorflow"), lazy("larq")

__all__ = ["lazy", "lq", "tf"]
