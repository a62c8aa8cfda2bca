"""The page of a device kit: the exported network as WebAssembly, for a picture or the camera."""

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnn_tf.data import Images
from bnn_tf.device_kit.reference import Reference
from bnn_tf.errors import UserError

# zig builds its libc again for other -mcpu or -msimd128; the compiler proper takes the feature alone.
_SIMD = ("-Xclang", "-target-feature", "-Xclang", "+simd128", "-D__wasm_simd128__=1")
TARGET = ("-O3", "-target", "wasm32-wasi", "-mexec-model=reactor", *_SIMD, "-Wl,--strip-all")
"""Flags of clang and zig."""


def compiler() -> list[str] | None:
    """A compiler for WebAssembly: the package `ziglang`, or `zig` of the system."""
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    zig = shutil.which("zig")
    return [zig, "cc"] if zig else None


def compile_page(folder: Path, command: Sequence[str]) -> bytes:
    """Compiles the kit's `web.c` and gives the content of `net.wasm`, which is kept beside it.

    Raises:
        UserError: It does not compile.
    """
    command = [*command, *TARGET, "web.c", "-o", "net.wasm"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"the page's program does not compile: {result.stderr.strip()[:300]}")
    return (folder / "net.wasm").read_bytes()


def write_page(
    folder: Path,
    classes: Sequence[str],
    preprocessing: Images,
    pixels: np.ndarray,
    reference: Reference | None,
) -> None:
    """Completes the kit's `index.html`; with the program inside where something compiles it here.

    Args:
        folder: The kit, which holds `index.html`, `net.c` and `web.c`.
        classes: Names of the classes.
        preprocessing: How a picture becomes an input.
        pixels: What the network sees of the reference picture, uint8.
        reference: What it computes of it; None where that is not known.

    Raises:
        UserError: The program does not compile.
    """
    command = compiler()
    program = compile_page(folder, command) if command else b""
    rule = preprocessing.contract()
    kit = {
        "shape": rule["shape"][1:],
        "cover": rule["cover"],
        "classes": list(classes),
        "reference": _text(pixels.tobytes()),
        "expected": None if reference is None else [float(value) for value in reference.outputs.ravel()],
        "tolerance": None if reference is None else reference.tolerance,
        "wasm": _text(program),
    }
    page = folder / "index.html"
    # A class called "</script>" must not end the script.
    data = json.dumps(kit).replace("<", "\\u003c")
    text = page.read_text(encoding="utf-8").replace("/*KIT*/null", data)
    page.write_text(text, encoding="utf-8")


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
