"""The expander: streams, alone with NumPy, in bounded memory, and with clear errors."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bnn_tf.errors import UserError
from bnn_tf.subbit import SubBitFileError, compress, decode, expand, expand_stream

WITHOUT_THE_PACKAGE = """
import runpy, sys
for name in ("bnn_tf", "tensorflow", "larq", "larq_compute_engine", "flatbuffers"):
    sys.modules[name] = None  # importing it now fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a socket may, and cannot go back."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(memoryview(buffer)[:7])


def header(sections, size, version=decode.VERSION):
    packed = decode.FILE_HEADER.pack(decode.MAGIC, version, 0, sections, size, 0)
    return packed + bytes(4)


def section(*fields, payload=b""):
    return decode.SECTION_HEADER.pack(*fields) + bytes(4) + payload


def test_streams_from_slow_sources(sample):
    model, data = sample
    target = io.BytesIO()
    assert expand_stream(Trickle(data), target) == len(model)
    assert target.getvalue() == model


def alone(tmp_path, data):
    script = shutil.copy(decode.__file__, tmp_path)
    (tmp_path / "in.snn").write_bytes(data)
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, script, "in.snn", "out.tflite"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_runs_alone(sample, tmp_path):
    model, data = sample
    result = alone(tmp_path, data)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out.tflite").read_bytes() == model


def test_the_command_needs_no_tensorflow(sample, tmp_path):
    model, data = sample
    (tmp_path / "in.snn").write_bytes(data)
    blocked = "import sys; sys.modules.update(dict.fromkeys(('tensorflow', 'tf_keras', 'larq'))); "
    command = [sys.executable, "-c", f"{blocked}from bnn_tf.cli import main; main()"]
    arguments = ["expand", "in.snn", "-o", "out.tflite"]
    result = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out.tflite").read_bytes() == model


def test_fails_alone_with_one_line(sample, tmp_path):
    result = alone(tmp_path, sample[1][:-1])
    assert result.returncode == 1
    assert re.fullmatch(r"in.snn: not a whole .*\n", result.stderr)
    assert not (tmp_path / "out.tflite").exists()


def test_usage_alone():
    result = subprocess.run([sys.executable, decode.__file__], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage:")


def test_error_is_the_user_s():
    assert issubclass(SubBitFileError, UserError)


def test_every_truncation_is_refused(sample):
    for length in range(len(sample[1])):
        with pytest.raises(SubBitFileError, match="ends too early"):
            expand(sample[1][:length])


def test_every_changed_byte_is_refused(sample):
    for place in range(len(sample[1])):
        changed = bytearray(sample[1])
        changed[place] ^= 0x55
        with pytest.raises(SubBitFileError):
            expand(bytes(changed))


def test_each_mistake_has_its_message(sample, tools):
    good = sample[1]
    mistakes = {
        "does not begin with the .snn signature": b"TFL3TFL3" + good,
        "bytes follow its end": good + b"\0",
        "format 2, this program reads 1": tools.repair(header(0, 0, version=2)),
        "its header makes no sense": tools.repair(header(0, 2**31)),
        "the restored model differs": tools.repair(header(0, 1)),
        "the header of a section makes no sense": tools.repair(header(1, 9) + section(3, 0, 1, 9, 9)),
    }
    for message, data in mistakes.items():
        with pytest.raises(SubBitFileError, match=re.escape(message)):
            expand(data)


def wide(kind, flags, patterns, cin, cout):
    """A section that says how large it is and holds 100 kB of zeros."""
    payload = decode.CHANNELS.pack(cin, cout) + bytes(10**5)
    return section(kind, flags, patterns, decode.filter_size(cin, cout), 2**30, payload=payload)


def bomb(stored):
    """One pattern of frequency 4096, coded: indices without end from 14 bytes."""
    coded = decode.CHANNELS.pack(65535, 100) + bytes(2) + b"\xff\x0f" + struct.pack("<I", decode.STATE_FLOOR)
    return section(decode.RANS, 0, 1, decode.filter_size(65535, 100), stored, payload=coded)


HUGE = [
    section(decode.RAW, 0, 0, 2**31 - 1, 2**31 - 1),
    section(decode.PACKED, 0, 512, 2**31 - 1, 2**32 - 1, payload=bytes(10**6)),
    wide(decode.PACKED, decode.FLIPPED, 1, 1, 59000),
    wide(decode.PACKED, 0, 1, 65535, 29),
    wide(decode.PACKED, 0, 1, 32, 59000),
    wide(decode.RANS, 0, 1, 65535, 29),
    bomb(2**30),
    bomb(decode.MAX_CODED),
]


@pytest.mark.parametrize("hostile", HUGE, ids=range(len(HUGE)))
def test_huge_claims_take_no_memory(tools, hostile):
    data = tools.repair(header(1, 2**31 - 1) + hostile)
    restored = io.BytesIO()
    tracemalloc.start()
    try:
        with pytest.raises(SubBitFileError):
            expand_stream(io.BytesIO(data), restored)
        assert restored.tell() <= decode.MAX_GROWTH * len(data)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("cout", "cin", "megabytes"), [(512, 512, 16), (8, 65535, 64)])
@pytest.mark.parametrize("skew", [0, 0.3])
def test_memory_is_bounded_by_the_block(tools, rng, cout, cin, megabytes, skew):
    signs = tools.draw_signs(rng, cout, cin, 16, skew)
    data, report = compress(tools.build_tflite([tools.pack_filter(signs)]))
    assert report.layers[0].method == ("rans" if skew else "packed")
    with open(os.devnull, "wb") as target:
        tracemalloc.start()
        try:
            expand_stream(io.BytesIO(data), target)
            assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
        finally:
            tracemalloc.stop()


def test_documented_example():
    """FORMAT.md shows a whole file in hexadecimal; it must be one."""
    text = Path(decode.__file__).with_name("FORMAT.md").read_text()
    columns = re.findall(r"^    [0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)", text, re.MULTILINE)
    data = bytes.fromhex("".join(columns))
    first = [0xB4, 0xB4, 0xB4, 0x00, 0x4B, 0x00, 0xB4, 0xB4, 0xB4]
    second = [0x83, 0x83, 0x83, 0x00, 0x7C, 0x00, 0x83, 0x83, 0x83]
    assert len(data) == 93
    assert expand(data) == b"head" + np.array(first + second, "<u4").tobytes() + b"tail"
