"""Which convolutions are binary, and what keeps one from becoming `LceBconv2d`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.graph import Graph

SMALLEST_SCALE = 1e-7
"""LCE's converter takes a kernel for a float one if a weight is this small; 1.2e-7 was still binary."""

_UNSUPPORTED = (
    lq.layers.QuantConv1D,
    lq.layers.QuantConv3D,
    lq.layers.QuantConv2DTranspose,
    lq.layers.QuantConv3DTranspose,
    lq.layers.QuantDepthwiseConv2D,
    lq.layers.QuantSeparableConv1D,
    lq.layers.QuantSeparableConv2D,
    lq.layers.QuantLocallyConnected1D,
    lq.layers.QuantLocallyConnected2D,
)


@dataclasses.dataclass(frozen=True)
class BinaryConvolution:
    """One use of a convolution that must become `LceBconv2d`."""

    name: str
    layer: tf.keras.layers.Layer

    @property
    def geometry(self) -> tuple[int, ...]:
        """Filters and kernel size, by which its operator is recognised in a file."""
        return (getattr(self.layer, "filters", 0), *self.layer.kernel_size)


def is_binary(quantizer: Any) -> bool:
    """Whether a quantizer claims one bit (`precision == 1`)."""
    return getattr(quantizer, "precision", None) == 1 and not isinstance(quantizer, lq.quantizers.NoOp)


def binary_convolutions(graph: Graph) -> list[BinaryConvolution]:
    """The convolutions with a binary input quantizer and a binary kernel, once for each use.

    A kernel is binary if its quantizer says so, or if it has none and every filter is ±s (frozen
    models). Layers inside composite layers count, too.
    """
    return [
        BinaryConvolution(name, layer)
        for call in graph.calls
        for name, layer in larq_layers(call.layer.name, call.layer.origin)
        if isinstance(layer, (lq.layers.QuantConv2D, *_UNSUPPORTED))
        and is_binary(layer.input_quantizer)
        and _has_binary_kernel(layer)
    ]


def larq_layers(
    name: str, origin: tf.keras.layers.Layer | None
) -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    """The layer called `name` and all layers inside it, with their names."""
    if origin is not None:
        for layer in origin._flatten_layers():
            yield (name if layer is origin else f"{name}/{layer.name}"), layer


def _has_binary_kernel(layer: tf.keras.layers.Layer) -> bool:
    quantizers = [
        getattr(layer, key)
        for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
        if hasattr(layer, key)
    ]
    if any(quantizer is not None for quantizer in quantizers):
        return all(map(is_binary, quantizers))
    return isinstance(layer, lq.layers.QuantConv2D) and filter_scales(layer.kernel.numpy()) is not None


def quantized_kernel(layer: tf.keras.layers.Layer) -> np.ndarray:
    """The kernel as the convolution uses it."""
    with lq.context.quantized_scope(True):
        return layer.kernel.numpy()


def filter_scales(kernel: np.ndarray) -> np.ndarray | None:
    """The `s >= 0` of each filter if every filter is ±s, shape `(filters,)`; None otherwise."""
    magnitude = np.abs(kernel.reshape(-1, kernel.shape[-1]))
    scales = magnitude.max(axis=0)
    even = magnitude.min(axis=0) >= scales * (1 - 1e-6)
    return scales if even.all() and np.isfinite(scales).all() else None


def obstacle(convolution: BinaryConvolution, folded: bool) -> str | None:
    """What keeps `convolution` float in LCE, as far as it can be seen from the layer.

    Args:
        convolution: The layer.
        folded: Whether the scales of its filters were moved into the following layer.
    """
    layer = convolution.layer
    if isinstance(layer, _UNSUPPORTED):
        return f"LCE has no binary {type(layer).__name__}"
    if not _gives_signs(layer.input_quantizer):
        return "its input quantizer gives other values than -1 and +1"
    kernel = quantized_kernel(layer)
    scales = filter_scales(kernel)
    if scales is None:
        return "the weights of a filter are not all +s or -s with one s"
    if not folded and (tiny := int((scales <= SMALLEST_SCALE).sum())):
        return f"{tiny} of its filters have a scale of nearly 0; convert with fold=True"
    return None


def _gives_signs(quantizer: Any) -> bool:
    probe = tf.constant([[-2.0, -0.5, 0.5, 2.0]])
    return set(np.unique(quantizer(probe).numpy())) <= {-1.0, 1.0}
