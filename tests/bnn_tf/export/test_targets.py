"""The branches for other processors: cross-compiled, and run under emulation."""

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from bnn_tf.export import check

_ZIG = [sys.executable, "-m", "ziglang", "cc", "-O2"]
_TARGETS = {
    "aarch64": (["-target", "aarch64-linux-musl"], "qemu-aarch64"),
    "aarch64, threads": (["-target", "aarch64-linux-musl", "-DNET_THREADS=2", "-pthread"], "qemu-aarch64"),
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
    agrees(network, [*_ZIG, *flags], launcher=[emulator], images=1, int8_weights=True)


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
    # zig would build its libc again for -msimd128.
    simd = ["-Xclang", "-target-feature", "-Xclang", "+simd128", "-D__wasm_simd128__=1"]
    flags = ["-target", "wasm32-wasi", *simd]
    agrees(network, [*_ZIG, *flags], launcher=[sys.executable, "-c", script], images=1)
    agrees(network, [*_ZIG, *flags], launcher=[sys.executable, "-c", script], images=1, int8_weights=True)


@pytest.mark.sample(1)
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
    agrees(network, [check.compiler(), "-O2", *flags], int8_weights=True)


# SIMDe computes every intrinsic in plain C. It lacks some that programs use.
_AVX512 = """
#ifndef EMULATED
#define EMULATED
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/avx2.h>
#include <simde/x86/fma.h>
#include <string.h>
#define CONVERT(NAME, SOURCE, FROM, TARGET, TO, COUNT) \\
    static inline TARGET NAME(SOURCE source)          \\
    {                                                 \\
        FROM from[COUNT];                             \\
        TO to[COUNT];                                 \\
        TARGET target;                                \\
        memcpy(from, &source, sizeof from);           \\
        for (int i = 0; i < COUNT; ++i) {             \\
            to[i] = (TO)from[i];                      \\
        }                                             \\
        memcpy(&target, to, sizeof to);               \\
        return target;                                \\
    }
CONVERT(widened_bytes, __m256i, uint8_t, __m512i, uint16_t, 32)
CONVERT(widened_counts, __m256i, uint16_t, __m512i, uint32_t, 16)
CONVERT(narrowed, __m512i, uint32_t, __m256i, uint16_t, 16)
CONVERT(widened_levels, __m128i, int8_t, __m512i, int32_t, 16)
CONVERT(as_floats, __m512i, int32_t, __m512, float, 16)
#define _mm512_cvtepu8_epi16 widened_bytes
#define _mm512_cvtepu16_epi32 widened_counts
#define _mm512_cvtepi32_epi16 narrowed
#define _mm512_cvtepi8_epi32 widened_levels
#define _mm512_cvtepi32_ps as_floats
#define __mmask16 uint16_t
#define __mmask64 uint64_t
#endif
"""


@pytest.mark.slow
@pytest.mark.skipif(
    check.compiler() is None or not Path("/usr/include/simde/x86/avx512.h").exists(),
    reason="needs a C compiler and SIMDe (Debian: libsimde-dev)",
)
def test_avx512_emulated(network, agrees, tmp_path):
    (tmp_path / "immintrin.h").write_text(_AVX512)
    features = ("F", "BW", "BITALG", "VPOPCNTDQ")
    flags = ["-std=gnu99", "-O1", "-w", f"-I{tmp_path}", *(f"-D__AVX512{name}__" for name in features)]
    agrees(network, [check.compiler(), *flags], images=1)
    agrees(network, [check.compiler(), *flags], images=1, int8_weights=True)


@pytest.mark.skipif(
    check.compiler() is None or platform.machine() != "x86_64", reason="needs a C compiler for x86-64"
)
def test_avx512_compiles(tmp_path):
    """Real intrinsics, without a warning; few processors can run them."""
    runtime = Path(check.__file__).parent / "runtime"
    names = ("common", "window", "vectors", "values", "counts", "dots", "floats", "levels", "pack")
    pieces = "".join((runtime / f"{name}.c").read_text() for name in names)
    functions = ("net_count", "net_dot", "net_dot_levels", "net_pack", "net_signs", "net_window_of")
    used = f"int main(void) {{ return {' && '.join(functions)}; }}"
    (tmp_path / "all.c").write_text(f"#include <stdint.h>\n#include <string.h>\n{pieces}\n{used}\n")
    flags = ["-std=c99", "-O0", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-address"]
    features = [f"-mavx512{name}" for name in ("f", "bw", "bitalg", "vpopcntdq")]
    command = [check.compiler(), *flags, *features, "all.c", "-o", "all"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not result.returncode, result.stderr
