"""Expands a `.snn` file to the `.tflite` it was made from, bit for bit.

Needs NumPy and nothing else, not even the rest of this package: copy this file to where it is wanted, or
run it: `python decode.py model.snn model.tflite`. FORMAT.md, beside this file, describes every byte.
"""

import contextlib
import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

try:
    from bnn_tf.errors import UserError
except ImportError:  # this file was copied to a place without the package
    UserError = Exception  # type: ignore[misc,assignment]

MAGIC = b"\x89SNN\r\n\x1a\n"
VERSION = 1
FILE_HEADER = struct.Struct("<8sHHIII")  # magic, version, 0, sections, original bytes, original CRC-32
SECTION_HEADER = struct.Struct("<BBHII")  # kind, flags, patterns, restored bytes, stored bytes
CHECKSUM = struct.Struct("<I")
CHANNELS = struct.Struct("<HH")  # input, output

RAW, PACKED, RANS = range(3)  # kinds of section
FLIPPED = 1  # flag: some output channels are stored with their signs reversed

MAX_ORIGINAL = 2**31 - 1  # where a flatbuffer's own offsets end
MAX_GROWTH = 64  # a section restores at most this many times its stored bytes
MAX_CODED = 2**22  # bytes of an entropy-coded section, which is read as a whole
TAPS = 9  # weights in a 3x3 slice; one bit each in its pattern
ALL_TAPS = 2**TAPS - 1

SCALE_BITS = 12  # the frequencies of the entropy coder sum to 2**12
STATE_FLOOR = 2**16  # its state stays in [2**16, 2**32)

_BLOCK = 2**16


class SubBitFileError(UserError):
    """The file is not a `.snn` file, is damaged or incomplete, or cannot be read or written.

    Example:
        >>> try:
        ...     expand(b"no such file")
        ... except SubBitFileError as error:
        ...     print(error)
        not a .snn file: it does not begin with the .snn signature
    """


class Section(NamedTuple):
    """What a section's header says."""

    kind: int
    flags: int
    patterns: int
    restored: int
    stored: int


def expand(data: bytes) -> bytes:
    """Returns the `.tflite` inside `data`, the bytes of a `.snn` file.

    Raises:
        SubBitFileError: `data` is not a whole, undamaged `.snn` file.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> from bnn_tf.subbit import compress
        >>> model = to_flatbuffer(tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]))
        >>> packed, report = compress(model)
        >>> expand(packed) == model
        True
    """
    restored = io.BytesIO()
    expand_stream(io.BytesIO(data), restored)
    return restored.getvalue()


def expand_file(source: str | os.PathLike, target: str | os.PathLike) -> int:
    """Expands the file `source` into the file `target`, which appears only once it is whole and verified.

    Returns:
        The size of `target` in bytes.

    Raises:
        SubBitFileError: `source` is not a whole, undamaged `.snn` file, or a file cannot be read or written.

    Example:
        >>> expand_file("nowhere.snn", "model.tflite")
        Traceback (most recent call last):
        bnn_tf.subbit.decode.SubBitFileError: nowhere.snn: No such file or directory.
    """
    require_two_files(source, target)
    try:
        with open(source, "rb") as packed, replacing(target) as restored:
            return expand_stream(packed, restored)
    except OSError as error:
        raise SubBitFileError(f"{error.filename or target}: {error.strerror}") from error
    except SubBitFileError as error:
        raise SubBitFileError(f"{os.fspath(source)}: {error}") from error


def expand_stream(source: BinaryIO, target: BinaryIO) -> int:
    """Expands from one binary file object into another, block by block, in less than 64 MB of memory.

    `target` has received part of the output when an error is raised: throw it away. `expand_file` does.

    Returns:
        The number of bytes written.

    Raises:
        SubBitFileError: `source` does not hold a whole, undamaged `.snn` file and nothing after it.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> from bnn_tf.subbit import compress
        >>> model = to_flatbuffer(tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]))
        >>> packed, report = compress(model)
        >>> expand_stream(io.BytesIO(packed), io.BytesIO()) == len(model)
        True
    """
    sections, size, checksum = _file_header(source)
    left, seen = size, 0
    for _ in range(sections):
        for block in _section(source, left):
            target.write(block)
            left -= len(block)
            seen = zlib.crc32(block, seen)
    if left or seen != checksum:
        raise _damaged("the restored model differs from the original")
    if source.read(1):
        raise _damaged("bytes follow its end")
    return size


def read_sections(data: bytes) -> list[Section]:
    """The sections of a `.snn` file by their headers alone; `expand` says whether the file is sound."""
    source = io.BytesIO(data)
    headers = []
    for _ in range(_file_header(source)[0]):
        headers.append(Section(*SECTION_HEADER.unpack(_read(source, SECTION_HEADER.size))))
        source.seek(CHECKSUM.size + headers[-1].stored, io.SEEK_CUR)
    return headers


def require_two_files(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Checks that the result would not replace what it is made from.

    Raises:
        SubBitFileError: both paths name the same file, or `source` is no regular file.
    """
    if not os.path.exists(source):
        raise SubBitFileError(f"{os.fspath(source)}: No such file or directory")
    if not os.path.isfile(source):  # a pipe or a device may never end
        raise SubBitFileError(f"{os.fspath(source)} is no regular file")
    if os.path.exists(target) and os.path.samefile(source, target):
        raise SubBitFileError(f"{os.fspath(target)} is the file to read: name another one for the result")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes `path`'s place when the block ends without an error.

    A copy of what `bnn_tf.files` does, because this file works without the package.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """Returns `count` unsigned numbers of `width` bits (at most 16), each stored lowest bit first."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * count, bitorder="little")
    return bits.reshape(count, width) @ (1 << np.arange(width, dtype=np.uint16))


def packed_size(width: int, count: int) -> int:
    """Bytes that `count` numbers of `width` bits take."""
    return (width * count + 7) // 8


def index_bits(patterns: int) -> int:
    """Bits of an index into a codebook of so many patterns: `max(1, ceil(log2(patterns)))`."""
    return max(1, (patterns - 1).bit_length())


def filter_size(cin: int, cout: int) -> int:
    """Bytes of LCE's bit-packed 3x3 filter: `(cout, 3, 3, ceil(cin / 32))` words of 32 bits."""
    return cout * TAPS * 4 * ((cin + 31) // 32)


def decoding_tables(frequencies: np.ndarray) -> tuple[np.ndarray, list[int], list[int]]:
    """For each of the `2**12` slots: its symbol, the symbol's frequency, the slot's place in its range."""
    symbols = np.repeat(np.arange(len(frequencies)), frequencies)
    place = np.arange(len(symbols)) - (np.cumsum(frequencies) - frequencies)[symbols]
    return symbols, frequencies[symbols].tolist(), place.tolist()


def _damaged(what: str) -> SubBitFileError:
    return SubBitFileError(
        f"not a whole and undamaged .snn file ({what}): fetch it again, or compress the .tflite once more"
    )


def _read(source: BinaryIO, size: int) -> bytes:
    """Reads exactly `size` bytes; callers ask for 4 MB at most."""
    parts = []
    while size:
        part = source.read(size)
        if not part:
            raise _damaged("it ends too early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _file_header(source: BinaryIO) -> tuple[int, int, int]:
    """Returns the number of sections and the original's size and CRC-32."""
    header = _read(source, len(MAGIC))
    if header != MAGIC:
        raise SubBitFileError("not a .snn file: it does not begin with the .snn signature")
    header += _read(source, FILE_HEADER.size - len(MAGIC))
    _, version, reserved, sections, size, checksum = FILE_HEADER.unpack(header)
    if CHECKSUM.pack(zlib.crc32(header)) != _read(source, CHECKSUM.size):
        raise _damaged("the checksum of its header does not match")
    if version != VERSION:
        raise SubBitFileError(f"the .snn file has format {version}, this program reads {VERSION}: update it")
    if reserved or size > MAX_ORIGINAL:
        raise _damaged("its header makes no sense")
    return sections, size, checksum


def _section(source: BinaryIO, room: int) -> Iterator[bytes]:
    """Yields the blocks that one section restores: `room` bytes at most, `section.restored` exactly."""
    header = _read(source, SECTION_HEADER.size)
    (checksum,) = CHECKSUM.unpack(_read(source, CHECKSUM.size))
    section = Section(*SECTION_HEADER.unpack(header))
    _check(section, room)
    payload = _Payload(source, section.stored, zlib.crc32(header))
    if section.kind == RAW:
        while payload.left:
            yield payload.take(min(payload.left, _BLOCK))
    else:
        yield from _weights(section, payload)
    if payload.left or payload.checksum != checksum:
        raise _damaged("the checksum of a section does not match")


def _check(section: Section, room: int) -> None:
    if section.kind == RAW:
        sound = section.stored == section.restored and section.flags == section.patterns == 0
    else:
        sound = (
            section.kind in (PACKED, RANS)
            and section.flags in (0, FLIPPED)
            and 1 <= section.patterns <= 2**TAPS
            and section.restored <= MAX_GROWTH * section.stored
            and (section.kind == PACKED or section.stored <= MAX_CODED)
        )
    if not sound or not 0 < section.restored <= room:
        raise _damaged("the header of a section makes no sense")


class _Payload:
    """What a section stores, counted and summed while it is taken."""

    def __init__(self, source: BinaryIO, size: int, checksum: int) -> None:
        self._source = source
        self.left = size
        self.checksum = checksum

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _damaged("a section is too short")
        data = _read(self._source, size)
        self.left -= size
        self.checksum = zlib.crc32(data, self.checksum)
        return data


def _weights(section: Section, payload: _Payload) -> Iterator[bytes]:
    """Yields a filter's bit-packed output channels, a few at a time."""
    cin, cout = CHANNELS.unpack(payload.take(CHANNELS.size))
    if not cin or not cout or filter_size(cin, cout) != section.restored:
        raise _damaged("the size of a filter makes no sense")
    codebook = unpack(payload.take(packed_size(TAPS, section.patterns)), TAPS, section.patterns)
    if (codebook[1:] <= codebook[:-1]).any():
        raise _damaged("a codebook is not in order")
    flips = np.zeros(cout, np.uint16)
    if section.flags & FLIPPED:
        flips = unpack(payload.take(packed_size(1, cout)), 1, cout) * np.uint16(ALL_TAPS)
    coder = _PackedIndices if section.kind == PACKED else _RansIndices
    indices = coder(payload, section.patterns, cin * cout)
    rows = 8 * max(1, _BLOCK // (8 * cin))  # eights of indices end on a byte, whatever their width
    for start in range(0, cout, rows):
        flip = flips[start : start + rows, None]
        yield _filter_bytes(codebook[indices.take(flip.size * cin).reshape(-1, cin)] ^ flip)


def _filter_bytes(patterns: np.ndarray) -> bytes:
    """Turns `(cout, cin)` patterns into LCE's `(cout, 3, 3, ceil(cin / 32))` little-endian words."""
    cout, cin = patterns.shape
    bits = np.zeros((cout, TAPS, (cin + 31) // 32 * 32), np.uint8)
    bits[:, :, :cin] = (patterns[:, None, :] >> np.arange(TAPS, dtype=np.uint16)[:, None]) & 1
    return np.packbits(bits, axis=-1, bitorder="little").tobytes()


class _PackedIndices:
    """`count` indices of equal width."""

    def __init__(self, payload: _Payload, patterns: int, count: int) -> None:
        self._payload = payload
        self._patterns = patterns
        self._width = index_bits(patterns)
        if payload.left != packed_size(self._width, count):
            raise _damaged("the number of indices is wrong")

    def take(self, count: int) -> np.ndarray:
        indices = unpack(self._payload.take(packed_size(self._width, count)), self._width, count)
        if indices.max() >= self._patterns:
            raise _damaged("an index points outside its codebook")
        return indices


class _RansIndices:
    """`count` indices coded by a range asymmetric numeral system (rANS) with one frequency table.

    A loop over Python integers: every step needs the state that the one before it left.
    """

    def __init__(self, payload: _Payload, patterns: int, count: int) -> None:
        packed = payload.take(packed_size(SCALE_BITS, patterns))
        frequencies = unpack(packed, SCALE_BITS, patterns).astype(np.int64) + 1
        if frequencies.sum() != 2**SCALE_BITS:
            raise _damaged("a frequency table does not sum up")
        self._symbols, self._frequency, self._place = decoding_tables(frequencies)
        (self._state,) = struct.unpack("<I", payload.take(4))
        if self._state < STATE_FLOOR or payload.left % 2:
            raise _damaged("coded indices make no sense")
        # All at once: frequent indices take next to no input, so a file that is cut short would show late.
        self._words = self._split(payload.take(payload.left))
        self._left = count

    @staticmethod
    def _split(data: bytes) -> Iterator[int]:
        for start in range(0, len(data), _BLOCK):
            yield from np.frombuffer(data[start : start + _BLOCK], "<u2").tolist()

    def take(self, count: int) -> np.ndarray:
        state, slots = self._state, []
        frequency, place, words = self._frequency, self._place, self._words
        mask = 2**SCALE_BITS - 1
        for _ in range(count):
            slot = state & mask
            slots.append(slot)
            state = frequency[slot] * (state >> SCALE_BITS) + place[slot]
            if state < STATE_FLOOR:
                word = next(words, None)
                if word is None:
                    raise _damaged("coded indices end too early")
                state = state << 16 | word
        self._state = state
        self._left -= count
        if not self._left and (state != STATE_FLOOR or next(words, None) is not None):
            raise _damaged("coded indices do not end where they should")
        return self._symbols[slots]


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python decode.py model.snn model.tflite", file=sys.stderr)
        return 2
    try:
        expand_file(*arguments)
    except SubBitFileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
