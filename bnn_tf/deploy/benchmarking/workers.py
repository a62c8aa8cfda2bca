"""The processes that run models, seen from the one that compares them."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import TracebackType
from typing import Any

from bnn_tf.errors import UserError

_SCRIPT = Path(__file__).with_name("worker.py")
_PATIENCE = 5.0  # seconds for a worker to end by itself


class Worker:
    """A process that runs one model; a context manager that leaves no process behind.

    Args:
        model: The `.tflite` file.
        threads: Threads to use.
        xnnpack: Whether float operators go to XNNPACK.

    Raises:
        UserError: The model cannot be run.
    """

    def __init__(self, model: Path, threads: int, xnnpack: bool = False) -> None:
        self._model = model
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        try:
            self._ask(library=native_library(), model=str(model), threads=threads, xnnpack=xnnpack)
        except BaseException:
            self._stop(kill=True)
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""
        return self._ask(runs=runs)["seconds"]

    def memory(self) -> int:
        """Peak of resident memory for model and inferences, in bytes."""
        return self._ask(memory=True)["bytes"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(kill=kind is not None)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise UserError(f"{self._model} does not run on LCE's interpreter: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}" + (f" ({lines[-1]})" if lines else "")

    def _stop(self, kill: bool) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kill:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()


def native_library() -> str:
    """Path of LCE's native interpreter, found without importing its package.

    Raises:
        UserError: There is none.
    """
    package = importlib.util.find_spec("larq_compute_engine")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in EXTENSION_SUFFIXES:
            path = Path(folder, "tflite", "python", f"interpreter_wrapper_lite{suffix}")
            if path.is_file():
                return str(path)
    raise UserError("LCE's interpreter is not installed; run pip install larq-compute-engine")
