"""Larq's own summary, free of what our quantizers keep beside the weights."""

from bnn_tf._tensorflow import lq, tf
from bnn_tf.analysis.accounting import is_binary
from bnn_tf.quantizers import ScaledSign


def print_larq_summary(model: tf.keras.Model) -> None:
    """Prints `larq.models.summary`.

    Larq takes every variable of a layer for a kernel, and would count τ and codebooks as 32-bit weights with
    32-bit multiply-accumulates. It is therefore shown the same network with quantizers without variables.
    """
    lq.models.summary(_without_state(model))


def _without_state(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    if isinstance(layer, tf.keras.Model):
        return tf.keras.models.clone_model(layer, clone_function=_without_state)
    config = layer.get_config()
    for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer"):
        quantizer = getattr(layer, key, None)
        if is_binary(quantizer) and getattr(quantizer, "variables", None):
            config[key] = ScaledSign()
    return type(layer).from_config(config)
