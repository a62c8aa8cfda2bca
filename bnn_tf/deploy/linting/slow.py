"""Checks for what converts and is right, but costs time or memory on the device.

The rules are those of LCE's optimization guide and what was measured on converted networks.
"""

from collections.abc import Iterator

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.graph import Call, Graph, Spec
from bnn_tf.deploy.linting import walk
from bnn_tf.deploy.linting.findings import Finding, Severity
from bnn_tf.deploy.linting.quantized import Network
from bnn_tf.layers import HardTanh

_IN, _OUT = 32, 8  # channels that the kernels take at a time
_BLOCK = 128  # weights of a filter that the kernels take at a time
_WASTE = 0.2  # share of them that may be padding
_OWN_OPERATOR = (tf.keras.layers.PReLU, tf.keras.layers.LeakyReLU, tf.keras.layers.ELU)
_CLIPS = (HardTanh, tf.keras.layers.ReLU)
_CLIP_NAMES = ("relu", "relu6", "hard_tanh")
_CLIP_FUNCTIONS = ("nn.relu", "nn.relu6", "clip_by_value")
_GLOBAL_POOLS = (tf.keras.layers.GlobalAveragePooling2D, tf.keras.layers.GlobalMaxPooling2D)


def zero_padding(network: Network) -> Iterator[Finding]:
    """Binary convolutions padded with zeros."""
    for layer in network.convolutions:
        if layer.pads_zeros and max(layer.layer.kernel_size) > 1:
            reason = (
                "it pads with zeros, which LCE corrects afterwards, and which keeps activations and "
                "bit-packed output from being fused"
            )
            remedy = "Train with pad_values=1 (bnn-tf: --set model.pad_values=1)"
            yield _warning("zero-padding", layer.name, reason, remedy)


def channels(network: Network) -> Iterator[Finding]:
    """Numbers of channels that leave part of the kernels' width unused."""
    for layer in network.convolutions:
        inputs, outputs = layer.layer.kernel.shape[2:]
        if inputs % _IN:
            reason = f"its {inputs} input channels are padded to {-(-inputs // _IN) * _IN}"
            yield _warning("input-channels", layer.name, reason, f"Use a multiple of {_IN}")
        if outputs % _OUT:
            reason = f"its {outputs} output channels are no multiple of {_OUT}"
            yield _warning("output-channels", layer.name, reason, f"Use a multiple of {_OUT}")


def kernel_volume(network: Network) -> Iterator[Finding]:
    """Filters of a size that the kernels pad by much."""
    for layer in network.convolutions:
        height, width, inputs, _ = layer.layer.kernel.shape
        volume = height * width * inputs
        padded = -(-volume // _BLOCK) * _BLOCK
        if 1 - volume / padded > _WASTE:
            reason = f"its filters have {height}·{width}·{inputs} = {volume} weights, padded to {padded}"
            remedy = f"Best is a multiple of {_BLOCK}"
            yield Finding("kernel-volume", Severity.INFO, layer.name, reason, remedy)


def half_quantized(network: Network) -> Iterator[Finding]:
    """Layers that quantize only their kernel or only their input, so that they run in float."""
    for layer in network.quantized:
        if layer in network.binary or not (layer.quantizes_kernel or layer.input_quantizer is not None):
            continue
        side, other = ("kernel", "input") if layer.quantizes_kernel else ("input", "kernel")
        reason = f"only its {side} is quantized, not its {other}: it runs and is stored in float32"
        remedy = f"Give it a quantizer for its {other} too, or none at all (usual in a first layer)"
        yield _warning("half-quantized", layer.name, reason, remedy)


def quantized_dense(network: Network) -> Iterator[Finding]:
    """Quantized dense layers."""
    for layer in network.binary:
        if isinstance(layer.layer, lq.layers.QuantDense):
            reason = "LCE has no binary dense layer: it runs and is stored in float32"
            yield _warning("quantized-dense", layer.name, reason, "Use a QuantConv2D with a 1×1 kernel")


def prelu_axes(network: Network) -> Iterator[Finding]:
    """PReLUs with a slope for every pixel."""
    for call in network.graph.calls:
        if not issubclass(call.layer.kind, tf.keras.layers.PReLU):
            continue
        shape = call.inputs[0].shape
        if len(shape) == 4 and not {1, 2} <= set(call.layer.config["shared_axes"] or ()):
            reason = "it learns, stores and reads a slope for every pixel"
            yield _warning("prelu-axes", call.layer.name, reason, "Use PReLU(shared_axes=[1, 2])")


def global_pooling(network: Network) -> Iterator[Finding]:
    """Global pools, which run as reductions."""
    for call in network.graph.calls:
        if issubclass(call.layer.kind, _GLOBAL_POOLS) or _averages_map(network.graph, call):
            reason = "global pooling becomes a reduction, which is slower than a pool"
            remedy = "Use AveragePooling2D (or MaxPool2D) with a pool of the map's size, then Flatten"
            yield _warning("global-pooling", call.layer.name, reason, remedy)


def _averages_map(graph: Graph, call: Call) -> bool:
    if walk.function_of(call.layer) != "math.reduce_mean" or len(call.inputs[0].shape) != 4:
        return False
    args, kwargs = call.arguments([None])
    axes = kwargs.get("axis", args[1] if len(args) > 1 else None)
    return axes is not None and sorted(axis % 4 for axis in tf.nest.flatten(axes)) == [1, 2]


def activation_order(network: Network) -> Iterator[Finding]:
    """Activations and normalizations in the order that cannot be fused into the convolution."""
    for layer in network.convolutions:
        affine, call = walk.behind_affine(network.graph, layer.call.outputs[0])
        if call is None:
            continue
        name = call.layer.name
        if affine and is_clip(call.layer):
            reason = (
                f"it follows the normalization or scale of '{layer.name}': it becomes an operator of its own"
            )
            remedy = "Put the activation straight after the convolution, and the BatchNormalization last"
            yield _warning("activation-order", name, reason, remedy)
        elif not affine and _blocks_fusing(network.graph, call):
            reason = "it keeps the normalization behind it from being fused into the convolution"
            remedy = "Put the BatchNormalization straight after the convolution"
            yield _warning("activation-order", name, reason, remedy)


def _blocks_fusing(graph: Graph, call: Call) -> bool:
    return issubclass(call.layer.kind, _OWN_OPERATOR) and walk.behind_affine(graph, call.outputs[0])[0]


def is_clip(layer: Spec) -> bool:
    """Whether a layer is a ReLU or clips, which LCE can fuse into a convolution."""
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in _CLIP_NAMES
    return issubclass(layer.kind, _CLIPS) or walk.function_of(layer) in _CLIP_FUNCTIONS


def clip_before_sign(network: Network) -> Iterator[Finding]:
    """Clips whose values only go to signs, where they change nothing."""
    signs = {layer.call for layer in network.quantized if layer.input_quantizer is not None}
    for call in network.graph.calls:
        if _keeps_signs(call.layer):
            readers = walk.forwards(network.graph, call.outputs[0])
            reader = next((c for c in readers if not _passes_signs(c.layer)), None)
            if reader in signs:
                reason = (
                    f"only '{reader.layer.name}' reads it, which takes the sign: clipping changes nothing"
                )
                yield _warning("clip-before-sign", call.layer.name, reason, "Leave the clip out")


def _keeps_signs(layer: Spec) -> bool:
    if layer.kind is tf.keras.layers.Activation:
        return layer.config["activation"] in ("tanh", "softsign")
    return issubclass(layer.kind, HardTanh) or walk.function_of(layer) in ("clip_by_value", "math.tanh")


def _passes_signs(layer: Spec) -> bool:
    return walk.is_no_op(layer) or issubclass(layer.kind, tf.keras.layers.MaxPooling2D)


def explicit_padding(network: Network) -> Iterator[Finding]:
    """Padding of the map by a layer, which is a pass over the map unless a convolution takes it in."""
    for call in network.graph.calls:
        reader = network.graph.sole_consumer(call.outputs[0])
        if walk.padding_of(call) is None or reader is None:
            continue
        if issubclass(reader.layer.kind, (tf.keras.layers.MaxPooling2D, tf.keras.layers.AveragePooling2D)):
            reason = "it stays an operator of its own before the pool (and is computed right)"
            remedy = "Use padding='same' in the pool where that is the same"
            yield Finding("explicit-padding", Severity.INFO, call.layer.name, reason, remedy)


def _warning(code: str, layer: str, reason: str, remedy: str) -> Finding:
    return Finding(code, Severity.WARNING, layer, reason, remedy)
