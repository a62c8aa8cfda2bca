"""What stands in a `.tflite` file: operators and tensors."""

import dataclasses
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file.

    Attributes:
        name: Its name; converters put the names of the Keras layers it came from into it.
        shape: Its shape.
        type: Its element type, e.g. `"FLOAT32"`; bit-packed tensors are `"INT32"`, 32 channels to an element.
        is_constant: Whether its value stands in the file.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    is_constant: bool


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a file: TFLite's or LCE's name, e.g. `"CONV_2D"` or `"LceBconv2d"`."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def operators(model: bytes | str | os.PathLike[str]) -> list[Operator]:
    """The operators of a `.tflite` file in order of execution.

    Args:
        model: The file's path or its content.

    Raises:
        UserError: There is no such file, or it is not a TFLite model.
    """
    parsed = parse(model)
    types, kinds = type_names(), operator_names(parsed)
    graph = parsed.subgraphs[0]

    def tensors(indices: Any) -> tuple[TensorInfo, ...]:
        # -1 stands for an optional input that is not there
        return tuple(describe(graph.tensors[i]) for i in indices if i >= 0)

    def describe(tensor: Any) -> TensorInfo:
        shape = tuple(int(size) for size in tensor.shape) if np.size(tensor.shape) else ()
        is_constant = parsed.buffers[tensor.buffer].data is not None
        return TensorInfo(tensor.name.decode(), shape, types[tensor.type], is_constant)

    return [
        Operator(kinds[op.opcodeIndex], tensors(op.inputs), tensors(op.outputs)) for op in graph.operators
    ]


def operator_names(parsed: Any) -> list[str]:
    """The names of the kinds of operators of a parsed file, in the order of its operator codes."""
    builtins = _names(_schema().BuiltinOperator)

    def name(code: Any) -> str:
        if code.customCode is not None:
            return code.customCode.decode()
        return builtins[max(code.builtinCode, code.deprecatedBuiltinCode)]

    return [name(code) for code in parsed.operatorCodes]


def type_names() -> dict[int, str]:
    """The names of the element types, e.g. `"FLOAT32"`, by their numbers."""
    return _names(_schema().TensorType)


def output_order(model: bytes) -> list[int]:
    """For each output in the order of its name in the signature, its position in the file."""
    parsed = parse(model)
    positions = list(parsed.subgraphs[0].outputs)
    outputs = sorted(parsed.signatureDefs[0].outputs, key=lambda output: output.name)
    return [positions.index(output.tensorIndex) for output in outputs]


def with_outputs(model: bytes, tensors: Sequence[int]) -> bytes:
    """The file with the tensors of these numbers as further outputs, in the order of `output_order`."""
    import flatbuffers

    schema, parsed = _schema(), parse(model)
    for number, tensor in enumerate(tensors):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"probe_{number:04d}".encode(), tensor
        parsed.signatureDefs[0].outputs.append(entry)
    parsed.subgraphs[0].outputs = [*parsed.subgraphs[0].outputs, *tensors]
    builder = flatbuffers.Builder(len(model) + 1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def parse(model: bytes | str | os.PathLike[str]) -> Any:
    """The whole file as objects of TFLite's schema (`ModelT`).

    Raises:
        UserError: There is no such file, or it is not a TFLite model.
    """
    schema, content = _schema(), read_model(model)
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise damaged(model) from error


def read_model(model: bytes | str | os.PathLike[str]) -> bytes:
    """The content of a `.tflite` file, checked for TFLite's mark.

    Raises:
        UserError: There is no such file, or it does not bear the mark.
    """
    if isinstance(model, bytes):
        content = model
    else:
        try:
            content = Path(model).read_bytes()
        except OSError as error:
            raise UserError(f"Cannot read the model file '{os.fspath(model)}': {error.strerror}.") from error
    if content[4:8] != b"TFL3":
        raise UserError(f"{label(model)} is not a TFLite model; expected a file that `bnn-tf convert` wrote.")
    return content


def label(model: bytes | str | os.PathLike[str]) -> str:
    """How messages call a model given by its content or its path."""
    return "The given model" if isinstance(model, bytes) else f"'{os.fspath(model)}'"


def damaged(model: bytes | str | os.PathLike[str]) -> UserError:
    """The error for a file that bears TFLite's mark but cannot be read."""
    return UserError(
        f"{label(model)} is a damaged or incomplete TFLite model; convert it again or copy it again."
    )


def _schema() -> Any:
    from bnn_tf._runtime import quiet_native_stderr

    with quiet_native_stderr():  # the package around it loads native code
        from larq_compute_engine.mlir.python import tflite_schema
    return tflite_schema


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}
