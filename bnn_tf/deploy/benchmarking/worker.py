"""Runs one model in a process of its own, told what to do line by line on standard input.

This file is run as a script and imports nothing but the standard library, NumPy and LCE's interpreter, so
that the memory it measures is that of the model. Standard input takes one JSON object a line, standard
output answers each with one:

    {"library": PATH, "model": PATH, "threads": N, "xnnpack": BOOL}  ->  {}
    {"runs": N}                                                      ->  {"seconds": [S, …]}
    {"memory": true}                                                 ->  {"bytes": B}

An answer {"error": TEXT} ends it, and so does the end of standard input.
"""

import contextlib
import importlib.util
import json
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class Session:
    """A loaded model and an input for it.

    Args:
        library: Path of LCE's native interpreter.
        model: Path of the `.tflite` file.
        threads: Threads to use.
        xnnpack: Whether float operators go to XNNPACK.
    """

    def __init__(self, library: str, model: str, threads: int, xnnpack: bool) -> None:
        native = _load(library)
        self._baseline = _reset_peak()
        # The switches: reference kernels and the indirect kernel of LceBconv2d, XNNPACK.
        self._interpreter = native.LiteInterpreter(Path(model).read_bytes(), threads, False, False, xnnpack)
        rng = np.random.default_rng(0)
        kinds = zip(self._interpreter.input_shapes, self._interpreter.input_types, strict=True)
        self._inputs = [_noise(rng, tuple(shape), np.dtype(kind)) for shape, kind in kinds]

    def run(self, runs: int) -> list[float]:
        """Seconds of each inference, with the copying of input and output that Python needs."""
        return [self._time() for _ in range(runs)]

    def _time(self) -> float:
        start = time.perf_counter()
        self._interpreter.predict(self._inputs)
        return time.perf_counter() - start

    def memory(self) -> int:
        """Peak of resident memory in bytes, less what was resident before the model was loaded."""
        return _peak() - self._baseline


def _noise(rng: np.random.Generator, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    if kind.kind == "f":
        return rng.standard_normal(shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, kind, endpoint=True)


def _load(library: str) -> Any:
    """The native module; importing its package would bring in TensorFlow."""
    specification = importlib.util.spec_from_file_location(Path(library).name.split(".")[0], library)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _reset_peak() -> int:
    """Forgets the peak so far where the system can (Linux); returns the one from now on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        # On Linux this one would count the memory of the process that started this one.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def main() -> None:
    """Answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    session = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if session is None:
                session, answer = Session(**request), {}
            elif "runs" in request:
                answer = {"seconds": session.run(request["runs"])}
            else:
                answer = {"bytes": session.memory()}
        except Exception as error:  # whatever it is, the other side must know
            answer = {"error": str(error).strip() or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
