"""The same architecture without binary layers, as plain TFLite files to compare with."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import graph as graphs
from bnn_tf.deploy.graph import QUANTIZERS, Spec
from bnn_tf.errors import UserError

_OF_LARQ = (*QUANTIZERS, "pad_values", "metrics")


def real_valued(model: tf.keras.Model) -> tf.keras.Model:
    """The architecture with real weights and activations: every Larq layer becomes Keras' own.

    Its kernels are the latent ones, so that it shows what a real network of this form costs, not how
    accurate a trained one would be.

    Raises:
        ConversionError: The model is subclassed or not built.
    """
    return graphs.read(graphs.in_float32(model), _real).build()


def _real(layer: tf.keras.layers.Layer) -> Spec:
    spec = graphs.copy_of(layer)
    if isinstance(layer, lq.quantizers.Quantizer) or _is_sign(layer):
        passing = {"name": spec.name, "activation": "linear", "dtype": "float32"}
        return Spec(tf.keras.layers.Activation, passing)
    if not hasattr(layer, "input_quantizer"):
        return spec
    config: dict[str, Any] = {key: value for key, value in spec.config.items() if key not in _OF_LARQ}
    # A constraint or regularizer of Larq's means nothing to an inference.
    config |= dict.fromkeys(key for key in config if key.endswith(("constraint", "regularizer")))
    own = {path: weight for path, weight in spec.weights.items() if not path.startswith(QUANTIZERS)}
    return Spec(_keras_class(spec.kind), config, own)


def _is_sign(layer: tf.keras.layers.Layer) -> bool:
    activation = isinstance(layer, tf.keras.layers.Activation)
    return activation and isinstance(layer.activation, lq.quantizers.Quantizer)


def _keras_class(kind: Any) -> Any:
    """The layer of Keras that a layer of Larq extends."""
    return next(base for base in kind.__mro__ if "keras" in base.__module__.split(".")[0])


def plain_tflite(model: tf.keras.Model, calibration: np.ndarray | None = None) -> bytes:
    """Content of a plain `.tflite` file that computes a float32 model for one image at a time.

    Args:
        model: A functional or Sequential model with one input of fixed size and one output.
        calibration: Preprocessed images `(n, height, width, channels)` to measure ranges on. With them
            weights and activations are int8 (input and output stay float32), without they are float32.

    Raises:
        UserError: TFLite's converter refuses the model.
    """
    shape = (1, *model.input_shape[1:])
    function = tf.function(
        functools.partial(model, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = functools.partial(_one_by_one, calibration)
    with quiet_native_stderr():
        try:
            return converter.convert()
        except Exception as error:  # it raises several kinds, whose message is a page of MLIR
            reason = str(error).strip().splitlines()[0][:300]
            raise UserError(f"TFLite's converter refuses '{model.name}': {reason}") from error


def _one_by_one(images: np.ndarray) -> Iterator[list[np.ndarray]]:
    for image in images:
        yield [image[None].astype(np.float32)]
