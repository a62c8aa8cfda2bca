"""Where a `.tflite` keeps the bit-packed filters of its binary convolutions."""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf.errors import UserError

_FILE_IDENTIFIER = b"TFL3"
_BINARY_CONVOLUTION = b"LceBconv2d"
_FILTER_INPUT = 1  # among the operator's inputs
_BUFFER_DATA = 4  # the field's place in a Buffer's flatbuffer table
_WORD_BYTES = 4


class Filter(NamedTuple):
    """A filter constant: `size` bytes at `offset`; `shape` is `(cout, kh, kw, words of 32 bits)`."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


def binary_filters(model: bytes) -> list[Filter]:
    """Returns the filters of every `LceBconv2d` in a `.tflite` by ascending offset, shared ones once.

    Raises:
        UserError: `model` is not a TensorFlow Lite file.
    """
    if model[4:8] != _FILE_IDENTIFIER:
        raise UserError("Not a TensorFlow Lite model: convert the network first and give the .tflite file.")
    try:
        filters = sorted(_filters(model), key=lambda found: found.offset)
    except (AttributeError, IndexError, TypeError, ValueError, UnicodeDecodeError, struct.error) as error:
        raise UserError("The TensorFlow Lite model is damaged: convert the network again.") from error
    return _disjoint(filters, len(model))


def _filters(model: bytes) -> Iterator[Filter]:
    with quiet_native_stderr():
        from larq_compute_engine.mlir.python import tflite_schema
    root = tflite_schema.Model.GetRootAs(model, 0)
    for graph in map(root.Subgraphs, range(root.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            if root.OperatorCodes(operator.OpcodeIndex()).CustomCode() == _BINARY_CONVOLUTION:
                tensor = graph.Tensors(operator.Inputs(_FILTER_INPUT))
                if tensor.Type() == tflite_schema.TensorType.INT32:
                    name = graph.Tensors(operator.Outputs(0)).Name().decode().split(";")[0]
                    yield _filter(name, tensor, root.Buffers(tensor.Buffer()))


def _filter(name: str, tensor: Any, buffer: Any) -> Filter:
    table = buffer._tab  # the schema's classes give a buffer's contents, but not where it stands
    offset = table.Vector(table.Offset(_BUFFER_DATA)) if buffer.DataLength() else 0
    return Filter(name, tuple(tensor.ShapeAsNumpy().tolist()), offset, buffer.DataLength())


def _disjoint(filters: list[Filter], size: int) -> list[Filter]:
    """Drops filters seen before and those whose data are not where their shape says."""
    kept, end = [], 0
    for found in filters:
        cells = 1
        for length in found.shape:
            cells *= length
        if found.size == cells * _WORD_BYTES > 0 and end <= found.offset <= size - found.size:
            kept.append(found)
            end = found.offset + found.size
    return kept
