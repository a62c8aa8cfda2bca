"""TensorFlow (on Keras 2) and Larq, imported when they are first used and without their start-up noise.

Every module of this project takes `tf` and `lq` from here, so that no way of importing it can meet Keras 3 or
print what is of no use to the user. Modules that only compute with TensorFlow inside functions cost nothing
to import; those that define subclasses of Keras' or Larq's classes load it, and are reached through `lazy`
where a listing must stay fast.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bnn_tf._runtime import configure_tensorflow, quiet_native_stderr

KERNELS = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "pointwise_quantizer": "pointwise_kernel",
}
"""In which attributes (and configuration keys) Larq's layers keep the quantizers of which kernels."""


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
    with _importing:  # several threads may be the first to use it, and none must see half of it
        if _imported:
            return
        configure_tensorflow()
        with quiet_native_stderr():
            import larq  # noqa: F401
            import tensorflow

            tensorflow.config.list_physical_devices()  # looks for GPUs, and complains where there is none
        logging.getLogger("larq.layers_base").addFilter(_is_for_the_user)
        _take_quantizers_as_activations()
        _imported = True


def _take_quantizers_as_activations() -> None:
    """Makes `Activation("ste_sign")`, as Larq documents it, work with this Keras.

    Keras looks the name up, finds the class that Larq registered, and would call it with the tensor as its
    first argument. Here the class becomes an object first, as Keras itself does with its own classes.
    """
    import larq
    from tf_keras.src import activations

    deserialize = activations.deserialize

    @functools.wraps(deserialize)
    def with_quantizers(*args: Any, **kwargs: Any) -> Any:
        activation = deserialize(*args, **kwargs)
        is_class = isinstance(activation, type) and issubclass(activation, larq.quantizers.Quantizer)
        return activation() if is_class else activation

    activations.deserialize = with_quantizers


def _is_for_the_user(record: logging.LogRecord) -> bool:
    """Whether a message of Larq's is shown: of that about starved weights one per process, where it applies.

    Quantizers whose gradient needs no constraint say so (`needs_constraint = False`). Larq warns from the
    constructor of the layer, which is therefore the caller of the logger.
    """
    global _warned
    if "starved weights" not in record.getMessage():
        return True
    if _warned:
        return False
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "larq.layers_base":
        frame = frame.f_back
    layer = frame.f_locals.get("self") if frame is not None else None
    binary = list(filter(claims_one_bit, (getattr(layer, key, None) for key in KERNELS)))
    _warned = not binary or any(getattr(quantizer, "needs_constraint", True) for quantizer in binary)
    return _warned


def claims_one_bit(thing: Any) -> bool:
    """Whether a quantizer, or a weight by its quantizer, says that it gives one bit (Larq's `precision`)."""
    return getattr(thing, "precision", None) == 1


def without_autograph(build: Callable[[bool], Any]) -> Any:
    """`build(False)`, which makes graphs of layers without AutoGraph; `build(True)` where one needs it.

    AutoGraph lets layers branch on tensors, and takes up to half of the time of making a graph. Nothing in
    this project needs it, but somebody's own layer or quantizer may. The argument is for `tf.function`, which
    takes no notice of the context that it is called in.
    """
    try:
        return tf.autograph.experimental.do_not_convert(build)(False)
    except (TypeError, tf.errors.OperatorNotAllowedInGraphError):
        return build(True)


_imported, _importing = False, threading.RLock()
_warned = False
configure_tensorflow()
if TYPE_CHECKING:
    import larq as lq
    import tensorflow as tf
else:
    tf, lq = lazy("tensorflow"), lazy("larq")
# For checking saved models without loading them.
saved_model_pb2 = lazy("tensorflow.core.protobuf.saved_model_pb2")
saved_metadata_pb2 = lazy("tf_keras.protobuf.saved_metadata_pb2")
constants = lazy("tensorflow.python.framework.convert_to_constants")
tf_export = lazy("tensorflow.python.util.tf_export")
# For taking back what `tf.keras.utils.set_random_seed` leaves behind.
keras_backend = lazy("tf_keras.src.backend")
# For asking whether a layer is called in training, where its `call` has no such argument.
keras_calls = lazy("tf_keras.src.engine.base_layer_utils")
# For setting how soon a silent worker is taken as dead.
eager_context = lazy("tensorflow.python.eager.context")
coordination_pb2 = lazy("tensorflow.tsl.protobuf.coordination_config_pb2")
# For asking whether TensorFlow computes with oneDNN: `IsMklEnabled()`.
util_port = lazy("tensorflow.python.util._pywrap_util_port")

__all__ = [
    "KERNELS",
    "claims_one_bit",
    "constants",
    "coordination_pb2",
    "eager_context",
    "keras_backend",
    "keras_calls",
    "lazy",
    "lq",
    "saved_metadata_pb2",
    "saved_model_pb2",
    "tf",
    "tf_export",
    "util_port",
    "without_autograph",
]
