"""Small `.tflite` files with given binary filters, and ways to spoil `.snn` files."""

import struct
import zlib
from types import SimpleNamespace

import flatbuffers
import numpy as np
import pytest

from bnn_tf.subbit import compress, decode

FILE_HEADER = decode.FILE_HEADER.size + 4
SECTION_HEADER = decode.SECTION_HEADER.size + 4


def pack_filter(signs: np.ndarray) -> np.ndarray:
    """LCE's words for `(cout, kh, kw, cin)` signs: bit `i % 32` of word `i // 32` is set for -1."""
    cout, kh, kw, cin = signs.shape
    bits = np.zeros((cout, kh, kw, -(-cin // 32) * 32), np.uint8)
    bits[..., :cin] = signs < 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")


def draw_signs(rng, cout, cin, patterns, skew=0.0):
    """3x3 kernels `(cout, 3, 3, cin)` from a random codebook of so many patterns."""
    book = rng.choice(512, patterns, replace=False)
    probabilities = np.exp(-skew * np.arange(patterns))
    chosen = rng.choice(book, (cout, 1, cin), p=probabilities / probabilities.sum())
    return 1 - 2 * (chosen >> np.arange(9)[:, None] & 1).reshape(cout, 3, 3, cin)


def build_tflite(filters, shared=()):
    """A `.tflite` with one `LceBconv2d` per filter; those at the places in `shared` stand for two."""
    from larq_compute_engine.mlir.python import tflite_schema as schema

    def tensor(name, buffer, shape):
        made = schema.TensorT()
        made.name, made.buffer, made.shape, made.type = name, buffer, list(shape), schema.TensorType.INT32
        return made

    code, graph, model = schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    code.customCode, code.builtinCode = "LceBconv2d", schema.BuiltinOperator.CUSTOM
    graph.tensors, graph.operators = [tensor("input", 0, (1, 8, 8, 1))], []
    buffers = [schema.BufferT()]
    for place, words in enumerate(filters):
        buffers.append(schema.BufferT())
        buffers[-1].data = words.view(np.uint8).ravel()
        for _ in range(2 if place in shared else 1):
            graph.tensors += [tensor("filter", len(buffers) - 1, words.shape), tensor(f"out{place};x", 0, ())]
            operator = schema.OperatorT()
            operator.inputs, operator.outputs = [0, len(graph.tensors) - 2], [len(graph.tensors) - 1]
            graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [len(graph.tensors) - 1]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def section_starts(data):
    starts, at = [], FILE_HEADER
    while at + SECTION_HEADER <= len(data):
        starts.append(at)
        at += SECTION_HEADER + struct.unpack_from("<I", data, at + 8)[0]
    return starts


def repair(data):
    """Makes the checksums of the header and the sections match, so that damage gets past them."""
    data = bytearray(data)
    if len(data) >= FILE_HEADER:
        struct.pack_into("<I", data, 24, zlib.crc32(data[:24]))
    for at in section_starts(data):
        (stored,) = struct.unpack_from("<I", data, at + 8)
        payload = data[at + SECTION_HEADER : at + SECTION_HEADER + stored]
        struct.pack_into("<I", data, at + 12, zlib.crc32(payload, zlib.crc32(data[at : at + 12])))
    return bytes(data)


def spoil(data, kind, place, value):
    """Returns `data` with one change; `place` and `value` are any whole numbers."""
    if not data:
        return data
    at, data = place % len(data), bytearray(data)
    match kind:
        case "bit":
            data[at] ^= 1 << value % 8
        case "byte":
            data[at] = value % 256
        case "number":  # a length or a count, where the file has one
            starts = section_starts(data)
            fields = [12, 16, 20] + [start + field for start in starts for field in (0, 2, 4, 8, 16, 18)]
            at = fields[place % len(fields)]
            extremes = [0, 1, 2, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, len(data), value % 2**32]
            data[at : at + 4] = struct.pack("<I", extremes[value % len(extremes)])
        case "cut":
            del data[at:]
        case "remove":
            del data[at : at + 1 + value % 40]
        case "repeat":
            data[at:at] = data[at : at + 1 + value % 40]
        case "swap":
            starts = [*section_starts(data), len(data)]
            if len(starts) > 2:
                first = place % (len(starts) - 2)
                a, b, c = starts[first : first + 3]
                data[a:c] = data[b:c] + data[a:b]
    return bytes(data)


KINDS = ("bit", "byte", "number", "cut", "remove", "repeat", "swap")


@pytest.fixture(scope="session")
def tools():
    """The functions of this file."""
    return SimpleNamespace(
        pack_filter=pack_filter,
        draw_signs=draw_signs,
        build_tflite=build_tflite,
        repair=repair,
        spoil=spoil,
        kinds=KINDS,
    )


@pytest.fixture(scope="session")
def sample():
    """A small `.tflite` and its `.snn`, which holds all kinds of section and flipped channels."""
    rng = np.random.default_rng(5)
    flipped = draw_signs(rng, 6, 40, 7)
    flipped[[1, 4]] *= -1
    signs = [flipped, draw_signs(rng, 8, 64, 16, skew=0.8)]
    model = build_tflite([pack_filter(each) for each in signs])
    data, report = compress(model)
    assert sorted(layer.method for layer in report.layers) == ["packed", "rans"]
    return model, data
