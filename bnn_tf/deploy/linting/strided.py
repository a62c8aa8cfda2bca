"""The check for padding that LCE's converter misreads.

The converter takes a padding layer before a `valid` convolution for `same` padding if the output has the
size that `same` would give, and forgets what was padded where. `same` at stride 2 on even sizes pads (0, 1).
Measured: a sole reader, nothing but no-ops between, zeros (also ones before a binary convolution), and an
end that is padded by as much as the start or one more. Pools and transposed convolutions are right.
"""

from collections.abc import Iterator

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.graph import Call, Graph, Tensor
from bnn_tf.deploy.linting import walk
from bnn_tf.deploy.linting.findings import Finding, Severity
from bnn_tf.deploy.linting.quantized import Network
from bnn_tf.deploy.linting.walk import Padding

Axis = tuple[tuple[int, int], int | None, int, int]
_CONVOLUTIONS = (
    tf.keras.layers.Conv2D,
    tf.keras.layers.DepthwiseConv2D,
    tf.keras.layers.SeparableConv2D,
)


def strided_padding(network: Network) -> Iterator[Finding]:
    """Padding by hand before a strided convolution that LCE misreads."""
    fed_signs = {layer.call for layer in network.convolutions if layer.input_quantizer is None}
    for call in network.graph.calls:
        if not _reads_raw(call):
            continue
        found = _padding_before(network.graph, call.inputs[0])
        if found is None:
            continue
        padding, start = found
        fused = padding.value == 0.0 or (padding.value == 1.0 and call in fed_signs)
        axes = _axes(call, padding, start.shape)
        if fused and all(_looks_same(*axis) for axis in axes) and not all(_is_same(*axis) for axis in axes):
            yield _finding(call, padding)


def _finding(call: Call, padding: Padding) -> Finding:
    height, width = padding.sides
    reason = (
        f"LCE takes the padding of {height} and {width} before its stride for padding='same', which pads "
    )
    remedy = (
        "Use padding='same' in the layer itself and train with it; to keep PyTorch weights exact, flip the "
        "images and all kernels in both directions, as torch_padding=True does in the zoo's networks"
    )
    reason += "other sides here: the file computes something else, silently"
    return Finding("strided-padding", Severity.ERROR, call.layer.name, reason, remedy)


def _reads_raw(call: Call) -> bool:
    """Whether a call convolves its input as it is, unpadded and not on every pixel."""
    layer = call.layer
    if not issubclass(layer.kind, _CONVOLUTIONS) or issubclass(layer.kind, tf.keras.layers.Conv2DTranspose):
        return False
    quantizer = layer.config.get("input_quantizer")
    raw = quantizer is None or isinstance(quantizer, lq.quantizers.NoOp)
    return raw and layer.config["padding"] == "valid" and max(layer.config["strides"]) > 1


def _padding_before(graph: Graph, tensor: Tensor) -> tuple[Padding, Tensor] | None:
    """The padding that the convolution alone reads, and the tensor that it pads."""
    for call in walk.backwards(graph, tensor):
        if graph.sole_consumer(call.outputs[0]) is None:
            return None
        if (padding := walk.padding_of(call)) is not None:
            return padding, call.inputs[0]
        if not walk.is_no_op(call.layer):
            return None
    return None


def _axes(call: Call, padding: Padding, shape: tuple[int | None, ...]) -> list[Axis]:
    """For height and width: padding, size, extent of the kernel, and stride."""
    config = call.layer.config
    kernel = zip(config["kernel_size"], config["dilation_rate"], strict=True)
    extents = [(size - 1) * rate + 1 for size, rate in kernel]
    return list(zip(padding.sides, shape[1:3], extents, config["strides"], strict=True))


def _looks_same(sides: tuple[int, int], size: int | None, extent: int, stride: int) -> bool:
    if not 0 <= sides[1] - sides[0] <= 1:
        return False
    if size is None:
        return sum(sides) == extent - 1
    return (size + sum(sides) - extent) // stride + 1 == -(-size // stride)


def _is_same(sides: tuple[int, int], size: int | None, extent: int, stride: int) -> bool:
    if size is None:  # right for some sizes, wrong for others
        return stride == 1 or sum(sides) == 0
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return sides == (total // 2, total - total // 2)
