"""A converted `.tflite` file: made by LCE's converter (or TFLite's own), read and checked once.

A file may come from anywhere, and neither flatbuffers' classes for Python nor LCE's interpreter check what
stands in it. `LceFile` reads it with a reader of its own that looks at no byte outside the file, and checks
everything that other code relies on: that numbers of tensors, buffers and operators exist, that constants
are as large as their shapes say, and that operators come in an order in which they can run. What is wrong
raises one kind of error, `DamagedFile`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib.util
import logging
import math
import os
import stat
import struct
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf.errors import UserError, first_line

T = TypeVar("T")

BINARY_CONVOLUTION = "LceBconv2d"
_MARK = b"TFL3"
_LARGEST = 2**31  # bytes of a tensor, and of a file
_NUMBERS = (
    "FLOAT32", "FLOAT16", "FLOAT64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
    "BOOL", "COMPLEX64", "COMPLEX128",
)  # fmt: skip
DTYPES = {name: np.dtype(name.lower()) for name in _NUMBERS}
"""The element types of numbers."""
SIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()}
"""Bytes of an element."""


class DamagedFile(UserError):
    """A file that is no TFLite model, or a damaged one."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file.

    Attributes:
        index: Its number in the file.
        name: Its name; converters put the names of the Keras layers that it comes from into it.
        shape: Its shape.
        type: Its element type, e.g. `"FLOAT32"`; bit-packed tensors are `"INT32"`, 32 channels to an element.
        is_constant: Whether its value stands in the file.
        scales: The steps of an int8 tensor, one or one per channel; empty for others.
        zero_points: Its zero points.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    type: str
    is_constant: bool
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        """Its element type for NumPy, where it holds numbers."""
        return DTYPES[self.type]

    @property
    def quantization(self) -> tuple[float, int] | None:
        """Scale and zero point of an int8 tensor with one scale for all; None for others."""
        if self.type != "INT8" or not self.scales:
            return None
        return self.scales[0], self.zero_points[0]

    def real(self, values: np.ndarray) -> np.ndarray:
        """What its values stand for, float32 where they are int8; others stay as they are."""
        if self.quantization is None:
            return values
        scale, zero = self.quantization
        return (values.astype(np.float32) - zero) * np.float32(scale)


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a file.

    Attributes:
        name: TFLite's or LCE's name, e.g. `"CONV_2D"` or `"LceBconv2d"`.
        inputs: Its inputs; optional ones that are missing are left out.
        outputs: Its outputs.
        options: The options of an operator of LCE by name, e.g. `{"stride_height": 1, …}`; empty for
            TFLite's.
        builtin_options: The options of an operator of TFLite; its `number` and `numbers` read one by the
            number of its field in TFLite's schema, and raise `DamagedFile` where it stands outside the file.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)
    builtin_options: _Table | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """What messages call it: the first of the Keras layers that it computes, or else its own name."""
        return (self.outputs[0].name.split(";")[0] if self.outputs else "") or self.name

    def is_packed(self, tensor: TensorInfo) -> bool:
        """Whether a map that it takes or makes holds signs, 32 channels to an element."""
        return tensor.type == "INT32" and self.name.startswith("Lce")


class Filter(NamedTuple):
    """Bit-packed filters of a binary convolution: `size` bytes at `offset` of the file.

    `shape` is `(cout, kh, kw, words of 32 bits)`.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int


class LceFile:
    """A `.tflite` file.

    Args:
        model: The file's path or its content.

    Attributes:
        content: The bytes of the file.
        label: What messages call it.
        tensors: All tensors.
        operators: The operators in order of execution.
        inputs: The tensors that go in.
        outputs: The tensors that come out, in the order of the file.
        input_names: The names of the inputs in the signature (the Keras model's), or the tensors' own.
        output_names: The same of the outputs.
        metadata: The file's own entries by name, e.g. `"TFLITE_METADATA"`.

    Raises:
        UserError: There is no such file.
        DamagedFile: It is no TFLite model, or a damaged one.

    Example:
        >>> LceFile(b"something else")
        Traceback (most recent call last):
        bnn_tf.deploy.lce_file.DamagedFile: the model is no TFLite model; convert the network first
    """

    def __init__(self, model: bytes | str | os.PathLike[str]) -> None:
        self.label = "the model" if isinstance(model, bytes) else f"'{os.fspath(model)}'"
        self.content = model if isinstance(model, bytes) else _read(model)
        if len(self.content) > _LARGEST or self.content[4:8] != _MARK:
            raise DamagedFile(f"{self.label} is no TFLite model; convert the network first")
        try:
            self._parse()
        except (_Malformed, UnicodeDecodeError, struct.error, OverflowError, MemoryError) as error:
            problem = error.problem if isinstance(error, _Malformed) else error
            raise DamagedFile(
                f"{self.label} is a damaged or incomplete TFLite model ({problem}); convert or copy it again"
            ) from error

    def data(self, tensor: TensorInfo) -> np.ndarray | None:
        """The value of a constant, in its shape; None for other tensors."""
        offset, size = self.place(tensor)
        if not tensor.is_constant or tensor.type not in DTYPES:
            return None
        kind = tensor.dtype.newbyteorder("<").str
        return np.frombuffer(self.content[offset : offset + size], kind).reshape(tensor.shape)

    def place(self, tensor: TensorInfo) -> tuple[int, int]:
        """Where the value of a constant stands in the file, and its size in bytes; `(0, 0)` for others."""
        return self._places[tensor.index]

    def counts(self) -> dict[str, int]:
        """How often each operator stands in the file, the most frequent first."""
        return dict(collections.Counter(operator.name for operator in self.operators).most_common())

    def makers(self) -> dict[int, Operator]:
        """The operator that makes each tensor, by the tensor's number."""
        return {tensor.index: operator for operator in self.operators for tensor in operator.outputs}

    def binary_filters(self) -> list[Filter]:
        """The filters of every `LceBconv2d` by ascending offset, shared ones once."""
        filters: dict[int, Filter] = {}
        for operator in self.operators:
            if operator.name != BINARY_CONVOLUTION or len(operator.inputs) < 2:
                continue
            kernel = operator.inputs[1]
            offset, size = self.place(kernel)
            if kernel.type == "INT32" and kernel.is_constant and size:
                filters.setdefault(offset, Filter(operator.label, kernel.shape, offset, size))
        apart: list[Filter] = []
        for one in sorted(filters.values(), key=lambda one: one.offset):
            if not apart or apart[-1].offset + apart[-1].size <= one.offset:
                apart.append(one)
        return apart

    def with_outputs(self, tensors: Sequence[int]) -> bytes:
        """The content of a file that also gives the tensors of these numbers, after its own outputs."""
        schema, parsed = self._objects()
        for number, tensor in enumerate(tensors):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"probe_{number:04d}".encode(), tensor
            for signature in parsed.signatureDefs or ():
                signature.outputs.append(entry)
        parsed.subgraphs[0].outputs = [*parsed.subgraphs[0].outputs, *tensors]
        return _packed(parsed)

    def with_names(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """The content with inputs and outputs in the order that their signature's names sort in, renamed.

        `to_flatbuffer` gives signatures whose names sort in the order of the Keras model.
        """
        _, parsed = self._objects()
        (signature,), graph = parsed.signatureDefs, parsed.subgraphs[0]
        for entries, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
            entries.sort(key=lambda entry: entry.name)
            for entry, name in zip(entries, names, strict=True):
                entry.name = name.encode()
        graph.inputs = [entry.tensorIndex for entry in signature.inputs]
        graph.outputs = [entry.tensorIndex for entry in signature.outputs]
        return _packed(parsed)

    def with_metadata(self, entries: Mapping[str, bytes]) -> bytes:
        """The content with more entries of metadata, or other values of them."""
        schema, parsed = self._objects()
        parsed.metadata = [one for one in parsed.metadata or () if one.name.decode() not in entries]
        for name, data in entries.items():
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data = np.frombuffer(data, np.uint8)
            entry.name, entry.buffer = name.encode(), len(parsed.buffers)
            parsed.buffers.append(buffer)
            parsed.metadata.append(entry)
        return _packed(parsed)

    def _objects(self) -> tuple[Any, Any]:
        schema = _schema()
        return schema, schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.content, 0))

    # Reading ------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        reader = _Reader(self.content)
        model = reader.root()
        _need(model.number(0, "I") == 3, "its version is not 3")
        buffers = model.tables(4)
        graphs = model.tables(2)
        _need(bool(graphs), "it has no graph")
        graph = graphs[0]
        names = [self._kind(code) for code in model.tables(1)]
        tensors = graph.tables(0)
        self._places = [self._place(tensor, buffers) for tensor in tensors]
        self.tensors = tuple(
            self._tensor(index, tensor, self._places[index]) for index, tensor in enumerate(tensors)
        )
        self.inputs = self._pick(graph.numbers(1))
        self.outputs = self._pick(graph.numbers(2))
        _need(bool(self.outputs), "it has no output")
        self.operators = tuple(self._operator(table, names) for table in graph.tables(3))
        self._check_order({index for index, tensor in enumerate(tensors) if tensor.number(5, "b")})
        self.metadata = {
            entry.text(0): _item(buffers, entry.number(1, "I"), "buffers").octets(0)
            for entry in model.tables(6)
        }
        signatures = [table for table in model.tables(7) if table.number(4, "I") == 0]
        self.input_names = self._names(signatures, 0, self.inputs)
        self.output_names = self._names(signatures, 1, self.outputs)

    @staticmethod
    def _kind(code: _Table) -> str:
        if custom := code.text(1):
            return custom
        builtin = max(code.number(3, "i"), code.number(0, "b"))
        return _item(_names("BuiltinOperator"), builtin, "kinds of operators")

    @staticmethod
    def _place(tensor: _Table, buffers: list[_Table]) -> tuple[int, int]:
        number = tensor.number(2, "I")
        return _item(buffers, number, "buffers").span(0) if number else (0, 0)

    @staticmethod
    def _tensor(index: int, tensor: _Table, place: tuple[int, int]) -> TensorInfo:
        kind = _item(_names("TensorType"), tensor.number(1, "b"), "element types")
        shape = tuple(tensor.numbers(0))
        _need(all(size >= 0 for size in shape), f"tensor {index} has a negative size")
        volume = math.prod(shape) * SIZES.get(kind, 1)
        _need(volume <= _LARGEST, f"tensor {index} is too large")
        is_constant = place[1] > 0
        if is_constant and kind in SIZES:
            _need(place[1] == volume, f"constant {index} is not as large as its shape says")
        quantization = tensor.table(4)
        scales = tuple(quantization.numbers(2, "f")) if quantization else ()
        zeros = tuple(quantization.numbers(3, "q")) if quantization else ()
        _need(all(map(math.isfinite, scales)), f"tensor {index} has a step that is not finite")
        return TensorInfo(index, tensor.text(3), shape, kind, is_constant, scales, zeros)

    def _pick(self, numbers: Sequence[int]) -> tuple[TensorInfo, ...]:
        return tuple(_item(self.tensors, number, "tensors") for number in numbers)

    def _operator(self, table: _Table, names: list[str]) -> Operator:
        name = _item(names, table.number(0, "I"), "operator codes")
        inputs = self._pick([number for number in table.numbers(1) if number != -1])
        outputs = self._pick(table.numbers(2))
        custom = table.octets(5)
        options = _flexbuffer(custom) if custom and name.startswith("Lce") else {}
        return Operator(name, inputs, outputs, options, table.table(4))

    def _check_order(self, variables: set[int]) -> None:
        """Raises where an operator reads what nothing has made before it."""
        known = {tensor.index for tensor in self.tensors if tensor.is_constant or 0 in tensor.shape}
        known |= {tensor.index for tensor in self.inputs} | variables
        for number, operator in enumerate(self.operators):
            for tensor in operator.inputs:
                known_here = tensor.index in known or tensor.type in ("RESOURCE", "VARIANT")
                _need(known_here, f"operator {number} reads tensor {tensor.index} before it is made")
            known |= {tensor.index for tensor in operator.outputs}
        for tensor in self.outputs:
            _need(tensor.index in known, f"nothing makes output {tensor.index}")

    def _names(self, signatures: list[_Table], slot: int, tensors: tuple[TensorInfo, ...]) -> tuple[str, ...]:
        named = {
            entry.number(1, "I"): entry.text(0) for table in signatures[:1] for entry in table.tables(slot)
        }
        return tuple(named.get(tensor.index, tensor.name) for tensor in tensors)


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end
            raise UserError(f"'{os.fspath(path)}' is no regular file")
        if status.st_size > _LARGEST:
            raise DamagedFile(f"'{os.fspath(path)}' is too large for a TFLite model")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the model file '{os.fspath(path)}': {error.strerror}") from error


# Flatbuffers --------------------------------------------------------------------------------------------


class _Malformed(DamagedFile):
    """Something in the file contradicts something else."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the model is damaged ({problem}); convert or copy it again")
        self.problem = problem


def _need(condition: bool, problem: str) -> None:
    if not condition:
        raise _Malformed(problem)


def _item(items: Sequence[T], number: int, what: str) -> T:
    _need(0 <= number < len(items), f"number {number} is out of range: there are {len(items)} {what}")
    return items[number]


class _Reader:
    """The bytes of a flatbuffer; nothing outside them is read."""

    def __init__(self, content: bytes) -> None:
        self._content, self._size = content, len(content)

    def number(self, position: int, kind: str) -> Any:
        width = struct.calcsize(kind)
        _need(0 <= position <= self._size - width, "it ends too early")
        return struct.unpack_from(f"<{kind}", self._content, position)[0]

    def root(self) -> _Table:
        return _Table(self, self.number(0, "I"))

    def vector(self, position: int, width: int) -> tuple[int, int]:
        """Where the elements of the vector that `position` refers to start, and how many there are."""
        start = position + self.number(position, "I")
        count = self.number(start, "I")
        _need(start + 4 + count * width <= self._size, "it ends too early")
        return start + 4, count

    def octets(self, start: int, count: int) -> bytes:
        return self._content[start : start + count]

    def array(self, start: int, count: int, kind: str) -> tuple[Any, ...]:
        return struct.unpack_from(f"<{count}{kind}", self._content, start)


class _Table:
    """A table of a flatbuffer; its fields are numbered from 0 in the order of TFLite's schema."""

    def __init__(self, reader: _Reader, position: int) -> None:
        self._reader, self._position = reader, position
        layout = position - reader.number(position, "i")
        size = reader.number(layout, "H")
        _need(size >= 4 and size % 2 == 0, "the layout of a table is damaged")
        self._length = reader.number(layout + 2, "H")
        reader.number(layout + size - 2, "H")  # raises where the layout does not end within the file
        self._fields = reader.array(layout + 4, (size - 4) // 2, "H")

    def _at(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        if offset == 0:
            return None
        _need(4 <= offset < self._length, "a field stands outside its table")
        return self._position + offset

    def number(self, field: int, kind: str = "i", default: Any = 0) -> Any:
        """A number, its `kind` as in `struct`; absent ones have the schema's default."""
        place = self._at(field)
        return default if place is None else self._reader.number(place, kind)

    def span(self, field: int) -> tuple[int, int]:
        """Where a vector of bytes starts in the file, and how long it is."""
        place = self._at(field)
        return (0, 0) if place is None else self._reader.vector(place, 1)

    def octets(self, field: int) -> bytes:
        """A vector of bytes."""
        return self._reader.octets(*self.span(field))

    def text(self, field: int) -> str:
        """A string, empty where there is none."""
        return self.octets(field).decode()

    def numbers(self, field: int, kind: str = "i") -> tuple[Any, ...]:
        """A vector of numbers."""
        place = self._at(field)
        if place is None:
            return ()
        return self._reader.array(*self._reader.vector(place, struct.calcsize(kind)), kind)

    def table(self, field: int) -> _Table | None:
        """A table within this one."""
        place = self._at(field)
        return None if place is None else _Table(self._reader, place + self._reader.number(place, "I"))

    def tables(self, field: int) -> list[_Table]:
        """A vector of tables."""
        place = self._at(field)
        if place is None:
            return []
        start, count = self._reader.vector(place, 4)
        places = range(start, start + 4 * count, 4)
        return [_Table(self._reader, at + self._reader.number(at, "I")) for at in places]


def _flexbuffer(data: bytes) -> dict[str, Any]:
    from flatbuffers import flexbuffers

    try:
        value = flexbuffers.Loads(data)
    except Exception as error:  # the reader checks nothing, and fails in any way
        raise _Malformed("the options of an operator cannot be read") from error
    _need(isinstance(value, dict), "the options of an operator cannot be read")
    return value


@functools.cache
def _schema() -> Any:
    """TFLite's schema as LCE's package holds it, without the package and its native code."""
    return module_at(file_of_lce("mlir", "python", "tflite_schema.py"), "bnn_tf_tflite_schema")


def file_of_lce(*parts: str) -> Path:
    """A file of LCE's package, which loads TensorFlow and is therefore not imported.

    Raises:
        UserError: There is none.
    """
    package = importlib.util.find_spec("larq_compute_engine")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (path := Path(folder, *parts)).is_file():
            return path
    raise UserError(NOT_INSTALLED)


def module_at(path: Path, name: str) -> Any:
    """The module in a file, imported by itself under a name."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


NOT_INSTALLED = (
    "Larq Compute Engine, which writes and runs .tflite files with binary operators, is not installed: run "
    "pip install larq-compute-engine (64-bit ARM Linux has no wheel of it: do this step on another computer)"
)


def is_installed() -> bool:
    """Whether LCE's converter and interpreter are installed."""
    return importlib.util.find_spec("larq_compute_engine") is not None


def require_converter() -> None:
    """Raises a `UserError` where LCE's converter is not installed, before minutes are spent."""
    if not is_installed():
        raise UserError(NOT_INSTALLED)


@functools.cache
def _names(enumeration: str) -> list[str]:
    """The names in an enumeration of the schema by their numbers, which start at 0 and leave none out."""
    things = vars(getattr(_schema(), enumeration)).items()
    numbers = {value: name for name, value in things if isinstance(value, int)}
    return [numbers[number] for number in range(len(numbers))]


def _packed(parsed: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(2**16)
    builder.Finish(parsed.Pack(builder), _MARK)
    return bytes(builder.Output())


# LCE's converter --------------------------------------------------------------------------------------


def to_flatbuffer(model: Any, batch: int = 1, input: str = "float32") -> bytes:
    """Content of a `.tflite` file that computes a float32 Keras model; nothing is checked.

    The model is traced in inference mode. Several inputs and outputs keep their order and get their names.

    Args:
        model: The model; layers that keep state for training may be in it.
        batch: Examples that the file takes at once.
        input: Element type that the file takes; the model gets the same values as float32.

    Raises:
        ConversionError: LCE's converter refuses the model.
    """
    from bnn_tf._tensorflow import tf, without_autograph
    from bnn_tf.deploy.graph import ConversionError

    def infer(*arrays: Any) -> dict[str, Any]:
        images = [tf.cast(one, tf.float32) for one in arrays]
        outputs = tf.nest.flatten(model(images if len(images) > 1 else images[0], training=False))
        return dict(zip(results, outputs, strict=True))

    # The converter sorts inputs and outputs by name; several get their own names afterwards.
    simple = len(model.inputs) == len(model.outputs) == 1
    names = ["images"] if len(model.inputs) == 1 else [f"input_{n:04d}" for n in range(len(model.inputs))]
    takes = model.input_names if simple else names
    results = model.output_names if simple else [f"output_{n:04d}" for n in range(len(model.outputs))]
    signature = [
        tf.TensorSpec((batch, *tensor.shape[1:]), input, name)
        for tensor, name in zip(model.inputs, names, strict=True)
    ]

    def trace(autograph: bool) -> Any:
        return tf.function(infer, input_signature=signature, autograph=autograph).get_concrete_function()

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import larq_compute_engine as lce

        _save(without_autograph(trace), model, takes, results, folder)
        try:
            content = lce.convert_saved_model(folder)
        except Exception as error:  # it raises plain Exceptions, whose message is a page of MLIR
            reason = next((line for line in str(error).splitlines() if "error:" in line), str(error))
            raise ConversionError(f"LCE's converter refuses '{model.name}': {reason[:300]}") from error
    if simple:
        return content
    return LceFile(content).with_names(
        [tensor.node.layer.name for tensor in model.inputs], model.output_names
    )


def _save(function: Any, model: Any, takes: Sequence[str], results: Sequence[str], folder: str) -> None:
    """Writes a traced function as a SavedModel, with the names of what it takes and of its results."""
    from bnn_tf._tensorflow import constants, saved_model_pb2, tf

    if not all(variable.dtype.is_floating for variable in function.graph.variables):
        module = tf.Module()  # random layers read the state of their generator, which is no constant
        module.tracked = [*model.variables, *function.graph.variables]
        tf.saved_model.save(module, folder, signatures=function)
        return
    # A SavedModel of TensorFlow 1, which is a graph: `tf.saved_model.save` traces every layer several times.
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(function.graph.as_graph_def())
    if not _freeze(meta.graph_def, function):
        function = constants.convert_variables_to_constants_v2(function, lower_control_flow=False)
        meta.graph_def.CopyFrom(function.graph.as_graph_def())
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for entries, names, tensors in (
        (signature.inputs, takes, function.inputs[: len(takes)]),  # those of variables follow
        (signature.outputs, results, function.outputs),
    ):
        for name, tensor in zip(names, tensors, strict=True):
            entries[name].name = tensor.name
            entries[name].dtype = tensor.dtype.as_datatype_enum
            entries[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    (Path(folder) / "saved_model.pb").write_bytes(saved.SerializeToString())


def _freeze(graph: Any, function: Any) -> bool:
    """Makes constants of the variables in a `GraphDef`; `False` where they are not merely read.

    TensorFlow's own way, which also follows variables into functions, imports the graph once more to do so.
    """
    from bnn_tf._tensorflow import tf

    handles = {id(handle): inside.op.name for handle, inside in function.graph.captures}
    variables = {handles[id(v.handle)]: v for v in function.graph.variables if id(v.handle) in handles}
    readers = [node for node in graph.node if not variables.keys().isdisjoint(node.input)]
    if len(variables) < len(handles) or any(node.op != "ReadVariableOp" for node in readers):
        return False
    for node in readers:
        node.op = "Identity"
        node.attr["T"].type = node.attr.pop("dtype").type
    for node in graph.node:
        if node.name in variables:
            value = tf.make_tensor_proto(variables[node.name].numpy())
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = value.dtype
            node.attr["value"].tensor.CopyFrom(value)
    return True


def plain_tflite(model: Any, calibration: np.ndarray | None = None) -> bytes:
    """Content of a plain `.tflite` file that computes a float32 model for one image at a time.

    Args:
        model: A functional or Sequential model with one input of fixed size and one output.
        calibration: Preprocessed images `(n, height, width, channels)` to measure ranges on. With them
            weights (a scale for each output channel), activations, input and output are int8, as XNNPACK
            computes them; without they are float32.

    Raises:
        UserError: TFLite's converter refuses the model.
    """
    from bnn_tf._tensorflow import tf

    shape = (1, *model.input_shape[1:])
    function = tf.function(
        functools.partial(model, training=False), input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in calibration)
    with quiet_native_stderr():
        try:
            return converter.convert()
        except Exception as error:  # it raises several kinds, whose message is a page of MLIR
            reason = first_line(error)[:300]
            raise UserError(f"TFLite's converter refuses '{model.name}': {reason}") from error


def with_int8_ends(content: bytes, images: bool, logits: bool) -> bytes:
    """The file without the operator that quantizes its input, or dequantizes its output.

    Where there is no such operator the type stays float32; nothing is checked.

    Args:
        content: A file with one input and one output.
        images: Whether the input is to be int8.
        logits: Whether the output is to be int8.
    """
    from bnn_tf._tensorflow import tf

    types = {True: tf.int8, False: tf.float32}
    with _quiet():
        from larq_compute_engine.mlir.python.util import modify_integer_quantized_model_io_type

        try:
            return modify_integer_quantized_model_io_type(content, types[images], types[logits])
        except ValueError:  # it quantizes nothing
            return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from bnn_tf._tensorflow import tf

    logger = tf.get_logger()
    level = logger.level
    with warnings.catch_warnings(), quiet_native_stderr():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
