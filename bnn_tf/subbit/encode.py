"""Compresses an LCE `.tflite`: its binary 3x3 filters become codebooks and indices."""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from bnn_tf import files
from bnn_tf.deploy.lce_file import Filter, LceFile
from bnn_tf.errors import UserError
from bnn_tf.subbit import decode
from bnn_tf.values import InNotebooks

_METHODS = {decode.RAW: "raw", decode.PACKED: "packed", decode.RANS: "rans"}
_HEADER_BYTES = decode.SECTION_HEADER.size + decode.CHECKSUM.size


NO_SUB_BIT = (
    "no binary convolution got smaller: the file holds the .tflite as it is, "
    "because no 3x3 kernel is limited to a codebook"
)


@dataclass(frozen=True)
class LayerReport:
    """One bit-packed filter constant.

    Attributes:
        name: The convolution's output tensor.
        shape: The filter's shape in the file, `(cout, kh, kw, words of 32 input channels)`.
        method: `packed`, `rans` or `raw` (left as it was).
        patterns: Distinct 3x3 patterns; 0 where there are no 3x3 slices.
        bits: Bits of an index into that many patterns (9: no codebook limits this layer).
        weights: Binary weights, without the padding to 32 input channels.
        raw_bytes: Size in the `.tflite`.
        coded_bytes: Size in the `.snn`, headers and codebook included.
        codebook_bytes: The codebook's share of `coded_bytes`.

    Example:
        >>> layer = LayerReport("conv", (64, 3, 3, 2), "packed", 32, 5, 36_864, 4_608, 2_640, 36)
        >>> round(layer.bits_per_weight, 2)
        0.57
    """

    name: str
    shape: tuple[int, ...]
    method: str
    patterns: int
    bits: int
    weights: int
    raw_bytes: int
    coded_bytes: int
    codebook_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight takes in the `.snn`."""
        return 8 * self.coded_bytes / self.weights

    def __str__(self) -> str:
        sizes = f"{self.raw_bytes:,} -> {self.coded_bytes:,} bytes"
        return f"{self.name}: {self.patterns} patterns, {self.bits} bits, {sizes}"


@dataclass(frozen=True)
class SubBitReport(InNotebooks):
    """One compressed model.

    Attributes:
        layers: Every `LceBconv2d` filter, in the order in which they stand in the file.
        original_bytes: Size of the `.tflite`.
        compressed_bytes: Size of the `.snn`.

    Example:
        >>> layer = LayerReport("conv", (64, 3, 3, 2), "packed", 32, 5, 36_864, 4_608, 2_640, 36)
        >>> report = SubBitReport((layer,), original_bytes=66_000, compressed_bytes=64_032)
        >>> report.raw_bytes - report.coded_bytes
        1968
        >>> print(report)
        66,000 -> 64,032 bytes
        conv: 32 patterns, 5 bits, 4,608 -> 2,640 bytes
        all binary kernels: 4,608 -> 2,640 bytes
    """

    layers: tuple[LayerReport, ...]
    original_bytes: int
    compressed_bytes: int

    @property
    def raw_bytes(self) -> int:
        """What the binary weights take in the `.tflite`."""
        return sum(layer.raw_bytes for layer in self.layers)

    @property
    def coded_bytes(self) -> int:
        """What the binary weights take in the `.snn`, headers and codebooks included."""
        return sum(layer.coded_bytes for layer in self.layers)

    @property
    def note(self) -> str:
        """What the user should know; empty if there is nothing."""
        return "" if any(layer.method != "raw" for layer in self.layers) else NO_SUB_BIT

    def __str__(self) -> str:
        lines = [
            f"{self.original_bytes:,} -> {self.compressed_bytes:,} bytes",
            *map(str, self.layers),
            f"all binary kernels: {self.raw_bytes:,} -> {self.coded_bytes:,} bytes",
        ]
        return "\n".join([*lines, self.note] if self.note else lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values that `json.dump` can write."""
        layers = [
            {**asdict(layer), "shape": list(layer.shape), "bits_per_weight": layer.bits_per_weight}
            for layer in self.layers
        ]
        return {
            "original_bytes": self.original_bytes,
            "compressed_bytes": self.compressed_bytes,
            "binary_raw_bytes": self.raw_bytes,
            "binary_coded_bytes": self.coded_bytes,
            "note": self.note,
            "layers": layers,
        }


class _Coded(NamedTuple):
    """One filter's section without its header."""

    kind: int
    flags: int
    patterns: int
    payload: bytes


def compress(model: bytes) -> tuple[bytes, SubBitReport]:
    """Compresses a `.tflite` so that `expand` restores it bit for bit.

    Every 3x3 `LceBconv2d` filter is stored as a codebook of the patterns that occur and one index per
    slice, bit-packed or entropy-coded, or left alone: whichever is smallest. Everything else is copied. A
    model without such a filter gives a valid file too, and `report.note` says that nothing was gained.

    Returns:
        The `.snn` file's bytes and what became of each filter.

    Raises:
        UserError: `model` is not a TensorFlow Lite file, or is larger than 2 GB.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> signs, recu = bnn_tf.quantizers.ApproxSign(), bnn_tf.quantizers.ReCU()
        >>> conv = lq.layers.QuantConv2D(8, 3, input_quantizer=signs, kernel_quantizer=recu, use_bias=False)
        >>> network = tf.keras.Sequential([tf.keras.Input((6, 6, 4)), conv])
        >>> model = to_flatbuffer(bnn_tf.deploy.fold.fold(network))
        >>> packed, report = compress(model)
        >>> decode.expand(packed) == model, len(report.layers)
        (True, 1)
    """
    if len(model) > decode.MAX_ORIGINAL:
        raise UserError("the model is larger than 2 GB, which the .snn format cannot hold")
    sections, layers, end = [], [], 0
    for stored in LceFile(model).binary_filters():
        coded, layer = _encode(model, stored)
        layers.append(layer)
        if coded is not None:
            sections += _raw_section(model[end : stored.offset])
            sections.append(_section(coded, stored.size))
            end = stored.offset + stored.size
    sections += _raw_section(model[end:])
    header = decode.FILE_HEADER.pack(
        decode.MAGIC, decode.VERSION, 0, len(sections), len(model), zlib.crc32(model)
    )
    data = b"".join([header, decode.CHECKSUM.pack(zlib.crc32(header)), *sections])
    if decode.expand(data) != model:
        raise RuntimeError("the compressed model does not expand to the original: please report this")
    return data, SubBitReport(tuple(layers), len(model), len(data))


def compress_file(source: str | os.PathLike, target: str | os.PathLike) -> SubBitReport:
    """Compresses the file `source` into the file `target`, which appears only once it is whole.

    Raises:
        UserError: `source` is not a TensorFlow Lite file, both paths name one file, or a file cannot be read
            or written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> model = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3))])
        >>> _ = bnn_tf.convert(model, folder + "/model.tflite", parity=False)
        >>> report = compress_file(folder + "/model.tflite", folder + "/model.snn")
        >>> report.compressed_bytes == os.path.getsize(folder + "/model.snn")
        True
    """
    decode.require_two_files(source, target)
    try:
        data, report = compress(_read(source))
    except OSError as error:
        raise UserError(f"{error.filename or source}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{os.fspath(source)}: {error}") from error
    files.write_bytes(target, data)
    return report


def describe(data: bytes) -> tuple[bytes, SubBitReport]:
    """What a `.snn` file holds: the `.tflite`, and the report that `compress` gave with it.

    Raises:
        SubBitFileError: `data` is not a whole, undamaged `.snn` file.
        DamagedFile: What was compressed is no sound TFLite model.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> model = to_flatbuffer(tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]))
        >>> data, report = compress(model)
        >>> describe(data) == (model, report)
        True
    """
    model = decode.expand(data)
    coded, start = {}, 0
    for section in decode.read_sections(data):
        if section.kind != decode.RAW:
            coded[start] = section
        start += section.restored
    layers = []
    for stored in LceFile(model).binary_filters():
        slices = _slices(model, stored)
        if stored.offset in coded:
            section = coded[stored.offset]
            layers.append(_report(stored, slices, section.patterns, section.kind, section.stored))
        else:
            layers.append(_report(stored, slices, 0 if slices is None else len(_codebook(slices)[0])))
    return model, SubBitReport(tuple(layers), len(model), len(data))


def _read(path: str | os.PathLike) -> bytes:
    """A `.tflite` file's content; of other files and of too large ones only the beginning is read."""
    with open(path, "rb") as file:
        head = file.read(8)
        if head[4:] != b"TFL3":
            raise UserError("the model is no TFLite model; convert the network first")
        if os.fstat(file.fileno()).st_size > decode.MAX_ORIGINAL:
            raise UserError("the model is larger than 2 GB, which the .snn format cannot hold")
        return head + file.read()


def _section(coded: _Coded, restored: int) -> bytes:
    header = decode.SECTION_HEADER.pack(coded.kind, coded.flags, coded.patterns, restored, len(coded.payload))
    checksum = zlib.crc32(coded.payload, zlib.crc32(header))
    return header + decode.CHECKSUM.pack(checksum) + coded.payload


def _raw_section(data: bytes) -> list[bytes]:
    return [_section(_Coded(decode.RAW, 0, 0, data), len(data))] if data else []


def _encode(model: bytes, stored: Filter) -> tuple[_Coded | None, LayerReport]:
    """Returns the smallest coding, None where that is the filter as it is, and the report on it."""
    slices = _slices(model, stored)
    codings = [] if slices is None else list(_codings(slices))
    patterns = codings[0].patterns if codings else 0
    worthwhile = [coded for coded in codings if _is_worthwhile(coded, stored.size)]
    if not worthwhile:
        return None, _report(stored, slices, patterns)
    best = min(worthwhile, key=lambda coded: len(coded.payload))
    return best, _report(stored, slices, patterns, best.kind, len(best.payload))


def _report(
    stored: Filter, slices: np.ndarray | None, patterns: int, kind: int = decode.RAW, payload: int = 0
) -> LayerReport:
    is_coded = kind != decode.RAW
    return LayerReport(
        name=stored.name,
        shape=stored.shape,
        method=_METHODS[kind],
        patterns=patterns,
        bits=decode.index_bits(patterns) if patterns else 0,
        weights=8 * stored.size if slices is None else slices.size * decode.TAPS,
        raw_bytes=stored.size,
        coded_bytes=_HEADER_BYTES + payload if is_coded else stored.size,
        codebook_bytes=decode.packed_size(decode.TAPS, patterns) if is_coded else 0,
    )


def _is_worthwhile(coded: _Coded, size: int) -> bool:
    if coded.kind == decode.RANS and len(coded.payload) > decode.MAX_CODED:
        return False
    # One header for the section, one because it cuts what is around it in two.
    return len(coded.payload) + 2 * _HEADER_BYTES < size <= decode.MAX_GROWTH * len(coded.payload)


def _slices(model: bytes, stored: Filter) -> np.ndarray | None:
    """Returns the `(cout, cin)` patterns of a 3x3 filter; bit `3 * row + column` of one is set for -1."""
    if len(stored.shape) != 4 or stored.shape[1:3] != (3, 3):
        return None
    cout, words = stored.shape[0], stored.shape[3]
    data = np.frombuffer(model, np.uint8, stored.size, stored.offset)
    bits = np.unpackbits(data, bitorder="little").reshape(cout, decode.TAPS, words * 32)
    used = np.flatnonzero(bits.any(axis=(0, 1)))
    # The padding to whole words is +1 throughout: end after the last channel that is not.
    cin = max(used[-1] + 1 if used.size else 1, 32 * (words - 1) + 1)
    if max(cin, cout) >= 2**16:
        return None
    taps = np.arange(decode.TAPS, dtype=np.uint16)[:, None]
    return (bits[:, :, :cin].astype(np.uint16) << taps).sum(axis=1, dtype=np.uint16)


def _codings(slices: np.ndarray) -> Iterator[_Coded]:
    codebook, indices, flips = _codebook(slices)
    head = decode.CHANNELS.pack(*slices.shape[::-1]) + pack(codebook, decode.TAPS)
    head += pack(flips, 1) if flips.any() else b""
    flags, patterns = int(flips.any()), len(codebook)
    yield _Coded(decode.PACKED, flags, patterns, head + pack(indices, decode.index_bits(patterns)))
    yield _Coded(decode.RANS, flags, patterns, head + _rans(indices, patterns))


def _codebook(slices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the patterns in order, the index of each slice, and the output channels to flip (0 or 1)."""
    plain = np.unique(slices, return_inverse=True)
    flips = _find_flips(slices)
    flipped = np.unique(slices ^ (flips[:, None] * np.uint16(decode.ALL_TAPS)), return_inverse=True)
    if decode.index_bits(len(flipped[0])) < decode.index_bits(len(plain[0])):
        return flipped[0], flipped[1].ravel(), flips
    return plain[0], plain[1].ravel(), np.zeros_like(flips)


def pack(values: np.ndarray, width: int) -> bytes:
    """The inverse of `decode.unpack`: numbers of `width` bits, each lowest bit first."""
    bits = (values.astype(np.uint16)[:, None] >> np.arange(width, dtype=np.uint16)) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _rans(indices: np.ndarray, patterns: int) -> bytes:
    frequencies = quantize_frequencies(np.bincount(indices, minlength=patterns))
    state, words = code(indices, frequencies)
    return pack(frequencies - 1, decode.SCALE_BITS) + struct.pack("<I", state) + words


def quantize_frequencies(counts: np.ndarray) -> np.ndarray:
    """Scales counts (each at least 1, at most 512 of them) to integers of at least 1 that sum to `2**12`."""
    ideal = counts * (2**decode.SCALE_BITS / counts.sum())
    frequencies = np.maximum(1, np.floor(ideal)).astype(np.int64)
    while (excess := frequencies.sum() - 2**decode.SCALE_BITS) != 0:
        step = -1 if excess > 0 else 1
        # Move the one whose code length suffers least, or gains most; never one to 0.
        scores = counts * np.log2(np.maximum(frequencies + step, 1e-99) / frequencies)
        frequencies[scores.argmax()] += step
    return frequencies


def code(symbols: np.ndarray, frequencies: np.ndarray) -> tuple[int, bytes]:
    """Codes symbols with the given frequencies by a range asymmetric numeral system (rANS).

    With f the symbol's frequency and c the sum of those before it, a step maps the state x to
    `(x // f) * 2**12 + c + x % f`, after x gave its low 16 bits to the output if that would exceed 32 bits.

    Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540. `decode._RansIndices` is the other half.

    Returns:
        The last state, with which the decoder begins, and the words of 16 bits in the decoder's order.
    """
    starts = (np.cumsum(frequencies) - frequencies).tolist()
    sizes = frequencies.tolist()
    limits = (frequencies << (32 - decode.SCALE_BITS)).tolist()
    state, words = decode.STATE_FLOOR, []
    for symbol in reversed(symbols.tolist()):
        if state >= limits[symbol]:
            words.append(state & 0xFFFF)
            state >>= 16
        size = sizes[symbol]
        state = (state // size << decode.SCALE_BITS) + starts[symbol] + state % size
    return state, np.array(words[::-1], "<u2").tobytes()


def _find_flips(slices: np.ndarray) -> np.ndarray:
    """Guesses which output channels stand in the file with all signs reversed.

    LCE reverses those whose batch-norm factor is negative where it fuses the sign that follows, and their
    patterns would double the codebook. Grows the set of known patterns by the channel whose better
    orientation beats the other most clearly, until every channel is oriented.

    Returns:
        A vector of 0 and 1, one per output channel.
    """
    occurs = np.zeros((2, len(slices), 2**decode.TAPS), np.float32)
    rows = np.arange(len(slices))[:, None]
    occurs[0, rows, slices] = 1
    occurs[1, rows, slices ^ decode.ALL_TAPS] = 1
    missing = np.ones(2**decode.TAPS, np.float32)
    flips = np.zeros(len(slices), np.uint8)
    open_channels = np.ones(len(slices), bool)
    for _ in rows:
        plain, flipped = occurs @ missing
        clarity = np.where(open_channels, np.abs(plain - flipped), -1)
        channel = int(clarity.argmax())
        flips[channel] = flipped[channel] < plain[channel]
        missing[occurs[flips[channel], channel] > 0] = 0
        open_channels[channel] = False
    return flips
