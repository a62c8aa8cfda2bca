"""The C99 expander gives the same bytes as the Python one, and withstands spoiled files."""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from bnn_tf.subbit import SubBitFileError, decode, expand

SOURCE = Path(decode.__file__).with_name("expand.c")
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
FILES = 10_000


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compiles a C file to a program; skips where no compiler, or none with these options, is present."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler is present")
    folder = tmp_path_factory.mktemp("c")

    def run(source, *options):
        program = folder / source.stem
        command = [compiler, *FLAGS, *options, f"-I{SOURCE.parent}", str(source), "-o", str(program)]
        return program, subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def program(build):
    built, result = build(SOURCE, "-O2", "-DSNN_EXPAND_MAIN")
    assert result.returncode == 0, result.stderr
    return built


@pytest.fixture(scope="module")
def fuzzer(build, tmp_path_factory):
    probe = tmp_path_factory.mktemp("probe") / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    if build(probe, *SANITIZERS)[1].returncode:
        pytest.skip("the C compiler has no address and undefined-behaviour sanitizers")
    built, result = build(Path(__file__).with_name("fuzz_expand.c"), "-O1", *SANITIZERS)
    assert result.returncode == 0, result.stderr
    return built


def run(*command):
    # Leaks cannot be looked for where the tests themselves are being traced; expand.c does not allocate.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_same_bytes(sample, program, tmp_path):
    model, data = sample
    (tmp_path / "model.snn").write_bytes(data)
    result = run(program, tmp_path / "model.snn", tmp_path / "model.tflite")
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "model.tflite").read_bytes() == model


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "ends too early"),
        (lambda data: data + b"\0", "damaged"),
        (lambda data: b"TFL3" + data, "not a .snn file"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "damaged"),
    ],
)
def test_errors_name_file_and_cause(sample, program, tmp_path, spoil, message):
    (tmp_path / "model.snn").write_bytes(spoil(sample[1]))
    result = run(program, tmp_path / "model.snn", tmp_path / "model.tflite")
    assert result.returncode == 1
    assert "model.snn" in result.stderr
    assert message in result.stderr
    assert not (tmp_path / "model.tflite").exists()


def corpus(good, tools, rng):
    files = [good]
    for _ in range(FILES):
        data = good
        for _ in range(rng.integers(1, 4)):
            data = tools.spoil(data, rng.choice(tools.kinds), *rng.integers(0, 2**32, 2).tolist())
        files.append(tools.repair(data) if rng.integers(2) else data)
    return files


@pytest.mark.slow
def test_fuzz_under_sanitizers(sample, tools, fuzzer, tmp_path, rng):
    model, good = sample
    files = corpus(good, tools, rng)
    path = tmp_path / "corpus"
    path.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in files))
    result = run(fuzzer, path)
    assert result.returncode == 0, result.stderr[-4000:]
    outcomes = result.stdout.split("\n")[:-1]
    restored, refused = f"0 {len(model)} {zlib.crc32(model)}", "0 0"
    assert len(outcomes) == len(files)
    assert outcomes[0] == restored
    for data, got in zip(files, outcomes, strict=True):
        try:
            expand(data)
        except SubBitFileError:
            assert got[0] != "0"
            assert got.endswith(refused)
        else:
            assert got == restored
    assert 0 < outcomes.count(restored) < len(files) / 10
