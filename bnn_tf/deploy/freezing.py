"""Binary layers whose kernels are plain constants."""

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import graph as graphs
from bnn_tf.deploy.graph import Graph, Spec

_KERNELS = {
    "kernel_quantizer": "kernel",
    "depthwise_quantizer": "depthwise_kernel",
    "pointwise_quantizer": "pointwise_kernel",
}


def freeze(model: tf.keras.Model) -> tf.keras.Model:
    """The same network with the quantized kernels as plain constants.

    Every Larq layer loses its kernel quantizer, and its kernel variable holds what the quantizer made of
    the latent kernel; input quantizers stay. Kernel quantizers with gathers, look-ups or variables
    therefore need no constant folding in LCE's converter. Nested models are inlined, low-precision
    policies become float32, and the given model stays as it is.

    Args:
        model: A functional or built Sequential model.

    Raises:
        ConversionError: The model is subclassed or not built.
    """
    return read_frozen(model).build()


def read_frozen(model: tf.keras.Model) -> Graph:
    """The graph of `freeze(model)`."""
    return graphs.read(in_float32(model), _frozen)  # or kernels would be quantized in half precision


def in_float32(model: tf.keras.Model) -> tf.keras.Model:
    """The model itself if it computes in float32 throughout, else the same network rebuilt in float32."""
    types = [str(getattr(module, "compute_dtype", "")) for module in model.submodules]
    return graphs.read(model).build() if any("float16" in name for name in types) else model


def _frozen(layer: tf.keras.layers.Layer) -> Spec:
    spec = graphs.copy_of(layer)
    for key, kernel in _KERNELS.items():
        if spec.config.get(key) is None:
            continue
        with lq.context.quantized_scope(True):
            spec.weights[kernel] = getattr(layer, kernel).numpy()
        spec.config[key] = None
        spec.weights = {path: w for path, w in spec.weights.items() if not path.startswith(f"{key}.")}
        role = key.removesuffix("_quantizer")
        spec.config |= {
            f"{role}_constraint": None,
            f"{role}_regularizer": None,
            f"{role}_initializer": "zeros",
        }
    return spec
