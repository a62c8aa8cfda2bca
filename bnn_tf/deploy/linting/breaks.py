"""Checks for binary layers that stay float, or that LCE's interpreter cannot run or computes wrongly.

All were measured with larq-compute-engine 0.16 by converting a small network.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn_tf import quantizers
from bnn_tf._tensorflow import lq
from bnn_tf.deploy import binary
from bnn_tf.deploy.linting import probe, walk
from bnn_tf.deploy.linting.findings import Finding, Severity
from bnn_tf.deploy.linting.quantized import Network, Quantized

_KNOWN_SIGNS = (
    lq.quantizers.ApproxSign,
    lq.quantizers.SteSign,
    lq.quantizers.SwishSign,
    quantizers.ApproxSign,
)
_STAYS_FLOAT = "it stays a float operator with 32-bit weights"
_WORD = 32  # channels in a bit-packed element


def unsupported_layer(network: Network) -> Iterator[Finding]:
    """Binary layers of a kind that LCE has no operator for, other than dense ones."""
    for layer in network.binary:
        kind = type(layer.layer).__name__
        if not layer.is_convolution and not isinstance(layer.layer, lq.layers.QuantDense):
            reason = f"LCE has no binary {kind}: {_STAYS_FLOAT}"
            yield _error("unsupported-layer", layer, reason, "Use a QuantConv2D, or leave it unquantized")


def grouped(network: Network) -> Iterator[Finding]:
    """Grouped binary convolutions."""
    for layer in network.binary:
        groups = getattr(layer.layer, "groups", 1)
        if layer.is_convolution and groups > 1:
            packs = layer.layer.kernel.shape[2] % _WORD == 0
            fate = "it converts, but LCE's interpreter cannot run it" if packs else _STAYS_FLOAT
            reason = f"it has {groups} groups: {fate}"
            remedy = "Split the channels and use one QuantConv2D for each group, or use groups=1"
            yield _error("grouped-convolution", layer, reason, remedy)


def channels_first(network: Network) -> Iterator[Finding]:
    """Binary convolutions with the channels before the map."""
    for layer in network.binary:
        if layer.is_convolution and layer.layer.data_format == "channels_first":
            reason = f"its channels come first: {_STAYS_FLOAT}"
            yield _error("channels-first", layer, reason, 'Use data_format="channels_last"')


def kernel_values(network: Network) -> Iterator[Finding]:
    """Kernels that are not ±s with one s > 0 in every filter; a scale near 0 is folded away."""
    for layer in network.binary:
        if not layer.is_convolution or layer.kernel is None:
            continue
        scales = binary.filter_scales(layer.kernel)
        if scales is None:
            code, what = _describe_kernel(layer.kernel)
            remedy = "Give the weights of each filter one scale, as ste_sign and magnitude_aware_sign do"
            yield _error(code, layer, f"{what}: {_STAYS_FLOAT}", remedy)
        elif tiny := int((scales <= binary.SMALLEST_SCALE).sum()):
            reason = f"{tiny} of its filters have a scale of nearly 0: {_STAYS_FLOAT}"
            yield _error("tiny-filters", layer, reason, "Let every filter have a scale above 1e-7")


def _describe_kernel(kernel: np.ndarray) -> tuple[str, str]:
    magnitude = np.abs(kernel.reshape(-1, *kernel.shape[-2:]))
    largest = magnitude.max(axis=(0, 1))
    if np.isin(magnitude / np.where(largest > 0, largest, 1), (0, 1)).all():
        return "ternary-weights", "its filters hold zeros beside +s and -s"
    if np.allclose(magnitude, magnitude[0], rtol=1e-6, atol=0):
        return "per-input-channel-scale", "its weights have a scale for each input channel"
    return "uneven-weights", "the weights of a filter are not all +s or -s with one s"


def activation_values(network: Network) -> Iterator[Finding]:
    """Input quantizers that give other values than -1 and +1."""
    for layer in network.binary:
        model = network.activations(layer)
        if not layer.is_convolution or layer.input_quantizer is None or model is None:
            continue
        found = probe.values(model)
        if found <= {-1.0, 1.0}:
            continue
        code = "zero-one-activations" if found <= {0.0, 1.0} else "activations-not-signs"
        shown = ", ".join(f"{value:.3g}" for value in sorted(found)[:4]) + ", …" * (len(found) > 4)
        reason = f"its input quantizer gives {shown}: {_STAYS_FLOAT}"
        remedy = "Use a quantizer to -1 and +1, such as ste_sign or approx_sign; scale after the convolution"
        yield _error(code, layer, reason, remedy)


def unrecognized_sign(network: Network) -> Iterator[Finding]:
    """Signs that LCE's converter does not take for binary; unknown ones are tried out."""
    tried: dict[Any, bool] = {}
    for layer in network.convolutions:
        quantizer, model = layer.input_quantizer, network.activations(layer)
        if type(quantizer) in _KNOWN_SIGNS or model is None or not probe.values(model) <= {-1.0, 1.0}:
            continue
        key = _identity(quantizer) if quantizer is not None else layer
        if key not in tried:
            tried[key] = probe.is_recognized(model)
        if not tried[key]:
            reason = f"LCE does not recognize that its input is binary: {_STAYS_FLOAT}"
            remedy = (
                "Take the sign straight before it, by input_quantizer=, with Larq's quantizers or its sign"
            )
            yield _error("unrecognized-sign", layer, reason, remedy)


def _identity(quantizer: Any) -> Any:
    if not isinstance(quantizer, lq.quantizers.Quantizer):
        return quantizer
    config = {key: value for key, value in quantizer.get_config().items() if key != "name"}
    return type(quantizer), json.dumps(config, sort_keys=True, default=str)


def padded_signs(network: Network) -> Iterator[Finding]:
    """Padding by a layer between the sign and the convolution, with anything but 1."""
    for layer in network.convolutions:
        if layer.input_quantizer is None:
            values = [padding.value for padding in network.paddings(layer)]
            if any(value != 1.0 for value in values):
                reason = (
                    f"the padding between the sign and it makes values other than -1 and +1: {_STAYS_FLOAT}"
                )
                remedy = 'Use padding="same" with pad_values=1 (or 0) in the QuantConv2D itself'
                yield _error("padded-signs", layer, reason, remedy)


def int8_zero_padding(network: Network) -> Iterator[Finding]:
    """Zero-padded binary convolutions whose output is fake-quantized, so that it becomes int8."""
    for layer in network.convolutions:
        if not layer.pads_zeros:
            continue
        _, reader = walk.behind_affine(network.graph, layer.call.outputs[0])
        if reader is not None and walk.function_of(reader.layer).startswith("quantization.fake_quant"):
            reason = "it pads with zeros and its output is int8, which LCE's interpreter cannot run"
            remedy = 'Use pad_values=1 or padding="valid", or leave its output float'
            yield _error("int8-zero-padding", layer, reason, remedy)


def small_map(network: Network) -> Iterator[Finding]:
    """Zero-padded binary convolutions of maps smaller than their kernel, at any stride."""
    for layer in network.convolutions:
        extents = [
            (size - 1) * dilation + 1
            for size, dilation in zip(layer.layer.kernel_size, layer.layer.dilation_rate, strict=True)
        ]
        sides = layer.call.inputs[0].shape[1:3]
        small = any(side and side < extent for side, extent in zip(sides, extents, strict=True))
        if layer.pads_zeros and small:
            kernel, found = ("×".join(map(str, shape)) for shape in (extents, sides))
            reason = (
                f"its {kernel} kernel is larger than its {found} map, which it pads with zeros: "
                "LCE's interpreter computes something else, silently"
            )
            yield _error("small-map", layer, reason, "Use pad_values=1, or larger images")


def _error(code: str, layer: Quantized, reason: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, layer.name, reason, remedy)
