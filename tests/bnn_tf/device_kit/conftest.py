"""A kit of invented outputs, a benchmark program that is none, and a `PATH` of fake tools."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn_tf import device_kit
from bnn_tf.data import Images

ELF_AARCH64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(44)
LOG = (
    "INFO: Inference timings in us: Init: 68, First inference: 185, Warmup (avg): 144, Inference (avg): 145\n"
)


@pytest.fixture
def kit(tmp_path, rng) -> Path:
    """A kit whose model no device of a test ever runs."""
    (tmp_path / "model.tflite").write_bytes(b"a model")
    pre = Images(size=(8, 8))
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    outputs = np.array([[0.5, -2.0, 3.25]], np.float32)
    reference = device_kit.Reference(image, pre.normalize(image)[None], outputs, 1e-6, 1e-6)
    device_kit.write(tmp_path / "a kit", tmp_path / "model.tflite", ["cat", "dog", "a bird"], pre, reference)
    return tmp_path / "a kit"


@pytest.fixture
def program(kit) -> Path:
    """The benchmark program, where the scripts look for it."""
    for name in ("lce_benchmark_model_aarch64", "lce_benchmark_model_android_arm64"):
        (kit / name).write_bytes(ELF_AARCH64)
    return kit / name


class Tools:
    """Fake `adb`, `ssh` and `scp`, which log their arguments; `device` is the device's folder.

    What they say, and what the benchmark writes, stands in files that a test may change.
    """

    def __init__(self, folder: Path, outputs: bytes) -> None:
        self.bin, self.device = folder / "bin", folder / "device"
        self.calls = folder / "calls.txt"
        for path in (self.bin, self.device):
            path.mkdir()
        (folder / "outputs").write_bytes(outputs)
        (folder / "log").write_text(LOG)
        self.folder = folder
        self.say("machine", "aarch64\n64\n")
        self.say("abis", "arm64-v8a\r\n")
        self.say("state", "device\n")
        write = f'cp "{folder}/outputs" "{self.device}/output.bin"'
        benchmark = f'cat "{folder}/log"; [ -e "{folder}/broken" ] && exit 3; {write}'
        self._tool(
            "adb",
            f"""
case $* in
    get-state) cat "{folder}/state"; grep -q '^device$' "{folder}/state" ;;
    *getprop*) cat "{folder}/abis" ;;
    shell*--graph*) {benchmark} ;;
    push*) cp "$2" "{self.device}/${{3##*/}}" ;;
    pull*) cp "{self.device}/${{2##*/}}" "$3" ;;
esac""",
        )
        self._tool(
            "ssh",
            f"""
case $* in
    nowhere*) exit 255 ;;
    *uname*) cat "{folder}/machine" ;;
    *--graph*) {benchmark} ;;
esac""",
        )
        self._tool(
            "scp",
            f"""
case $2 in
    *:*) cp "{self.device}/${{2##*/}}" "$3" ;;
    *) cp "$2" "{self.device}/${{3##*/}}" ;;
esac""",
        )

    def say(self, what: str, text: str) -> None:
        """What a tool answers."""
        (self.folder / what).write_text(text)

    def log(self) -> list[str]:
        """All calls, in order."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def _tool(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def tools(tmp_path, kit) -> Tools:
    """Tools whose device computes what is expected."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return Tools(folder, np.load(kit / "expected_output.npy").tobytes())


@pytest.fixture
def script(kit, tools, tmp_path):
    """`script("run_lce_on_pi.sh", …)` runs a script of the kit from elsewhere; gives code, output, errors."""

    def run(name, *arguments, path=f"{tools.bin}{os.pathsep}{os.environ['PATH']}"):
        done = subprocess.run(
            ["/bin/sh", str(kit / name), *map(str, arguments)],
            capture_output=True, text=True, cwd=tmp_path, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": path, "PYTHON": sys.executable},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run
