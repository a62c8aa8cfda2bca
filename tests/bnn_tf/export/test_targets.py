"""The branches for other processors: cross-compiled, and run under emulation."""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import pytest

import zoo
from bnn_tf.export import check

_ZIG = [sys.executable, "-m", "ziglang", "cc", "-O2"]
_TARGETS = {
    "aarch64": (["-target", "aarch64-linux-musl"], "qemu-aarch64"),
    "armv7": (["-target", "arm-linux-musleabihf", "-mcpu=cortex_a7"], "qemu-arm"),
    "armv7, plain C": (["-target", "arm-linux-musleabihf", "-DNET_PORTABLE"], "qemu-arm"),
}
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the package ziglang (extra `cross`) is not installed"
)


@pytest.fixture(scope="module")
def network(settled):
    return settled(zoo.CifarResNet20(method="recu", input_shape=(8, 8, 3), num_classes=10))


@needs_zig
@pytest.mark.parametrize("target", _TARGETS)
def test_under_emulation(target, network, agrees):
    flags, emulator = _TARGETS[target]
    if shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed (Debian: qemu-user)")
    agrees(network, [*_ZIG, *flags], launcher=[emulator], images=1)


@needs_zig
def test_webassembly(network, agrees):
    if importlib.util.find_spec("wasmtime") is None:
        pytest.skip("the package wasmtime (extra `cross`) is not installed")
    script = (
        "import sys, wasmtime as w\n"
        "e = w.Engine(); s = w.Store(e); k = w.Linker(e); k.define_wasi(); c = w.WasiConfig()\n"
        "c.argv = sys.argv[1:]; c.preopen_dir('.', '.'); c.inherit_stdout(); s.set_wasi(c)\n"
        "m = k.instantiate(s, w.Module.from_file(e, sys.argv[1]))\n"
        "m.exports(s)['_start'](s)\n"
    )
    flags = ["-target", "wasm32-wasi", "-mcpu=generic+simd128"]
    agrees(network, [*_ZIG, *flags], launcher=[sys.executable, "-c", script], images=1)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the branch is for x86-64")
@pytest.mark.parametrize(
    "flags", [["-mavx2", "-mfma"], ["-DNET_PORTABLE"], ["-DNET_PORTABLE", "-DNET_WORD_BITS=32"]]
)
def test_branches_of_x86(flags, network, agrees):
    if check.compiler() is None:
        pytest.skip("there is no C compiler on this machine")
    if flags[0] == "-mavx2" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    agrees(network, [check.compiler(), "-O2", *flags])
