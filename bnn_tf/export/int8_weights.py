"""Kernels of real layers as 8-bit whole numbers with a step for each output channel.

`W_o ≈ q_o · s_o` with `s_o = max |W_o| / 127` and `q_o` from -127 to 127, as in TFLite's int8 convolutions;
activations stay float. The program sums `q · x` and multiplies by `s` behind the sum. It is compared with the
network (or the file) whose kernels are rounded to `q · s`, so that the limits are those of float weights.
"""

from __future__ import annotations

import numpy as np

from bnn_tf.deploy import facts
from bnn_tf.deploy.graph import ConversionError, Graph
from bnn_tf.deploy.lce_file import LceFile
from bnn_tf.export.operations import AFFINE, BIAS, SCALE, Convolution, Depthwise, Map, Network

_KERNELS = {"kernel": 1, "depthwise_kernel": 2, "pointwise_kernel": 1}
"""Names of weights that are kernels, and how many of their last axes are output channels."""


def levels_of(kernel: np.ndarray, axes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A kernel as whole numbers of its shape, int8, and the step of each output channel, float32.

    Args:
        kernel: Its last axes are the output channels.
        axes: How many of the axes.

    Example:
        >>> levels, steps = levels_of(np.float32([[1.0, -0.5], [0.25, 0.0]]))
        >>> levels.tolist(), (levels * steps).round(3).tolist()
        ([[127, -127], [32, 0]], [[1.0, -0.5], [0.252, 0.0]])
    """
    table = kernel.astype(np.float64).reshape(-1, int(np.prod(kernel.shape[-axes:])))
    steps = (np.abs(table).max(axis=0) / 127).astype(np.float32)
    steps[steps < np.finfo(np.float32).tiny] = 1
    levels = np.clip(np.round(table / steps), -127, 127).astype(np.int8)
    return levels.reshape(kernel.shape), steps


def _rounded(kernel: np.ndarray, axes: int) -> np.ndarray:
    levels, steps = levels_of(kernel, axes)
    return levels.astype(np.float32) * steps.reshape(kernel.shape[-axes:])


def round_graph(graph: Graph) -> None:
    """Rounds the kernels of a folded graph's real layers; binary ones keep theirs."""
    for layer in dict.fromkeys(call.layer for call in graph.calls):
        for name, axes in _KERNELS.items():
            kernel = layer.weights.get(name)
            if kernel is not None and not (name == "kernel" and facts.filter_scales(kernel) is not None):
                layer.weights[name] = _rounded(kernel, axes)


def round_file(file: LceFile) -> LceFile:
    """The file with the kernels of its float convolutions and dense layers rounded; int8 ones are so already.

    Raises:
        ConversionError: A kernel is stored as another type than float32.
    """
    content = bytearray(file.content)
    for operator in file.operators:
        if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        kernel = operator.inputs[1]
        values = file.data(kernel)
        if kernel.type == "INT8":
            continue
        if values is None or kernel.type != "FLOAT32":
            raise ConversionError(
                f"'{operator.label}' ({operator.name}): its weights are no float32 constants to round"
            )
        # Filters of convolutions lie behind one another, depthwise ones side by side.
        if operator.name == "DEPTHWISE_CONV_2D":
            rounded = _rounded(values, 1)
        else:
            rounded = np.moveaxis(_rounded(np.moveaxis(values, 0, -1), 1), -1, 0)
        start, size = file.place(kernel)
        content[start : start + size] = np.ascontiguousarray(rounded, "<f4").tobytes()
    result = LceFile(bytes(content))
    result.label = file.label
    return result


def store_levels(network: Network) -> None:
    """Makes the kernels of a network's real layers int8; those that are so already stay.

    The scale becomes part of an affine map that alone follows, or a map of its own.
    """
    for operation in list(network.operations):
        if not isinstance(operation, Convolution | Depthwise) or operation.kernel.dtype == np.int8:
            continue
        if network.shapes[operation.inputs[0]].signs:
            continue
        operation.kernel, steps = levels_of(operation.kernel, 2 if isinstance(operation, Depthwise) else 1)
        _scale(network, operation, steps)


def _scale(network: Network, operation: Convolution | Depthwise, steps: np.ndarray) -> None:
    """Multiplies what an operation makes by a value per channel."""
    sums, readers = operation.output, network.consumers(operation.output)
    (reader,) = readers if len(readers) == 1 else (None,)
    if isinstance(reader, Map) and sums not in network.outputs and reader.expression in (AFFINE, BIAS, SCALE):
        *scale, last = reader.parameters if reader.expression != SCALE else (*reader.parameters, None)
        per_channel = [values.size in (1, steps.size) for values in reader.parameters]
        if all(per_channel):
            whole = steps * scale[0] if scale else steps
            reader.expression = SCALE if last is None else AFFINE
            reader.parameters = (whole,) if last is None else (whole, last)
            network.origins.pop(sums, None)
            return
    scaled = network.new_tensor(network.shapes[sums])
    for other in readers:
        other.inputs = [scaled if tensor == sums else tensor for tensor in other.inputs]
    network.outputs = [scaled if tensor == sums else tensor for tensor in network.outputs]
    if sums in network.origins:
        network.origins[scaled] = network.origins.pop(sums)
    position = network.operations.index(operation) + 1
    network.operations.insert(position, Map(operation.name, [sums], scaled, SCALE, (steps,)))
