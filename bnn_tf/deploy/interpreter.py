"""Running converted models on the development machine, on LCE's own interpreter.

The interpreter is native code that does not check what it runs: one changed byte of a file can end the
process. So a file runs in a process of its own (`Worker`) unless this process has just converted it; if that
process ends, the user gets one line. The same worker measures latency and memory for benchmarks.

Run as a script, this module is the worker. It imports no TensorFlow, so that the memory it measures is that
of the model. Each request and each answer is a line of JSON, followed by the arrays that it announces:

    {"library": PATH, "threads": N, "xnnpack": BOOL} and the file  ->  {}
    {"predict": true} and the inputs                               ->  {} and the outputs
    {"runs": N}                                                    ->  {"seconds": [S, …]}
    {"memory": true}                                               ->  {"bytes": B}

An answer {"error": TEXT} ends it, and so does the end of standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import IO, Any

import numpy as np

from bnn_tf._runtime import end_worker, quiet_native_stderr, start_worker
from bnn_tf.deploy.lce_file import NOT_INSTALLED, LceFile, TensorInfo, file_of_lce, module_at
from bnn_tf.errors import UserError, first_line

_MODULE = "larq_compute_engine.tflite.python.interpreter_wrapper_lite"
_BATCH = 64  # images that a worker is sent at once


class Interpreter:
    """Larq Compute Engine's interpreter on a `.tflite` file; it also runs plain TFLite models.

    On x86 it falls back on portable kernels: results are right, timings say nothing about ARM.

    Args:
        model: The file, or its path or content.
        num_threads: Threads to use. On x86 more than one was slower, for small and for large networks.
        trusted: Whether to run the file within this process, which a damaged file can end. Only for files
            that this process has converted itself.

    Attributes:
        file: The file.

    Raises:
        UserError: The file is missing, damaged or no model that this interpreter can run.

    Example:
        >>> from bnn_tf.deploy.lce_file import to_flatbuffer
        >>> model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])
        >>> Interpreter(to_flatbuffer(model)).predict(np.zeros((16, 3), np.float32)).shape
        (16, 2)
    """

    def __init__(
        self,
        model: LceFile | bytes | str | os.PathLike[str],
        num_threads: int = 1,
        *,
        trusted: bool = False,
    ) -> None:
        self.file = model if isinstance(model, LceFile) else LceFile(model)
        self._runner: Session | Worker = (
            _session(self.file, self.file.content, num_threads) if trusted else Worker(self.file, num_threads)
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input with its batch, usually `(1, height, width, channels)`."""
        return self.file.inputs[0].shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first output with its batch, usually `(1, classes)`."""
        return self.file.outputs[0].shape

    @property
    def input_type(self) -> np.dtype:
        """Element type of the first input: float32, int8 or uint8."""
        return self.file.inputs[0].dtype

    @property
    def output_type(self) -> np.dtype:
        """Element type of the first output, float32 or int8."""
        return self.file.outputs[0].dtype

    @property
    def input_quantization(self) -> tuple[float, int] | None:
        """Scale and zero point of an int8 input; None for others."""
        return self.file.inputs[0].quantization

    @property
    def output_quantization(self) -> tuple[float, int] | None:
        """Scale and zero point of an int8 output; None for others."""
        return self.file.outputs[0].quantization

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The output of a model with one input and one output for each image.

        Where the model takes int8, floats are quantized as the device must do it, `round(x / s) + z` with
        the scale s and zero point z of the input; an int8 output becomes `s · (y - z)`.

        Args:
            images: `(n, height, width, channels)`, preprocessed as in training; a model that takes uint8
                takes pixels instead.

        Returns:
            `(n, ...)`, the outputs in the order of the images, float32.

        Raises:
            UserError: The images have another shape than the model's input, or the model has several inputs
                or outputs.
        """
        if len(self.file.inputs) != 1 or len(self.file.outputs) != 1:
            raise UserError(
                f"{self.file.label} has the inputs {', '.join(self.file.input_names)} and the outputs "
                f"{', '.join(self.file.output_names)}; use predict_all for a model with several"
            )
        (output,) = self.predict_all([images]).values()
        return output

    def predict_all(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name for inputs of `n` examples each, as in `predict`.

        Args:
            inputs: An array `(n, …)` for each input, in the order of `file.input_names`.

        Raises:
            UserError: The inputs do not fit the model.
        """
        file, tensors = self.file, self.file.inputs
        if len(inputs) != len(tensors):
            raise UserError(f"{file.label} takes {len(tensors)} inputs, but was given {len(inputs)}")
        arrays = [self._as_taken(np.asarray(a), t) for a, t in zip(inputs, tensors, strict=True)]
        if len({len(array) for array in arrays}) != 1:
            raise UserError(f"the inputs of {file.label} have different numbers of examples")
        if len(arrays[0]):
            outputs = self._runner.predict(arrays)
        else:
            outputs = [np.zeros((0, *tensor.shape[1:]), np.float32) for tensor in file.outputs]
        return {
            name: tensor.real(array)
            for name, tensor, array in zip(file.output_names, file.outputs, outputs, strict=True)
        }

    def _as_taken(self, images: np.ndarray, tensor: TensorInfo) -> np.ndarray:
        """The images as the model takes them."""
        kind = tensor.dtype
        if images.ndim != len(tensor.shape) or images.shape[1:] != tensor.shape[1:]:
            raise UserError(
                f"{self.file.label} takes images of shape {tensor.shape[1:]} one by one, "
                f"but was given an array of shape {images.shape}"
            )
        if kind == np.int8 and images.dtype.kind == "f":
            scale, zero = tensor.quantization or (1.0, 0)
            levels = np.asarray(images, np.float32) / np.float32(scale)
            away = np.trunc(levels + np.copysign(np.float32(0.5), levels))  # ties as TFLite rounds them
            images = np.clip(away + zero, -128, 127)
        elif kind.kind != "f" and images.dtype != kind:
            raise UserError(
                f"{self.file.label} takes {kind} images, but was given {images.dtype}; "
                "floats are quantized for int8 models only"
            )
        return np.ascontiguousarray(images, kind)


def run(file: LceFile, inputs: Sequence[np.ndarray], tensors: Sequence[int] = ()) -> list[np.ndarray]:
    """All outputs of a file that this process has converted, in the order of the file and as they are.

    Args:
        file: The file.
        inputs: An array `(n, …)` for each input.
        tensors: Numbers of other tensors to give after the outputs.
    """
    arrays = [np.ascontiguousarray(a, tensor.dtype) for a, tensor in zip(inputs, file.inputs, strict=True)]
    content = file.with_outputs(tensors) if tensors else file.content
    return _session(file, content).predict(arrays)


def _session(file: LceFile, content: bytes, threads: int = 1) -> Session:
    """LCE's interpreter within this process, on a file or on `content` that was made of it."""
    with quiet_native_stderr():
        try:
            return Session(native_library(), content, threads, xnnpack=False)
        except RuntimeError as error:
            names = {operator.name for operator in file.operators}
            strange = sorted(name for name in names if not name.isupper() and not name.startswith("Lce"))
            known = f"it does not know {', '.join(strange)}"
            reason = known if strange else str(error).strip().splitlines()[-1]
            raise UserError(f"{file.label} does not run on LCE's interpreter: {reason}") from error


# The worker, seen from the process that starts it ---------------------------------------------------


class Worker:
    """A process that runs one model; it leaves no process behind when it is closed or collected.

    Args:
        file: The file.
        threads: Threads to use.
        xnnpack: Whether float operators go to XNNPACK.

    Raises:
        UserError: The model cannot be run.
    """

    def __init__(self, file: LceFile, threads: int = 1, xnnpack: bool = False) -> None:
        self._label = file.label
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = start_worker("bnn_tf.deploy.interpreter", self._stderr)
        try:
            model = np.frombuffer(file.content, np.uint8)
            self._ask({"library": native_library(), "threads": threads, "xnnpack": xnnpack}, [model])
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def predict(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All outputs for `n` examples."""
        parts = [
            self._ask({"predict": True}, [array[start : start + _BATCH] for array in arrays])[1]
            for start in range(0, len(arrays[0]), _BATCH)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""
        return self._ask({"runs": runs})[0]["seconds"]

    def memory(self) -> int:
        """Peak of resident memory for model and inferences, in bytes."""
        return self._ask({"memory": True})[0]["bytes"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # Python may be shutting down
            self.close()

    def _ask(
        self, request: dict[str, Any], arrays: Sequence[np.ndarray] = ()
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer: dict[str, Any] | None = None
        outputs: list[np.ndarray] = []
        try:
            _send(self._process.stdin, request, arrays)
            answer, outputs = _receive(self._process.stdout)
        except (BrokenPipeError, EOFError):
            pass
        if answer is None:
            answer = {"error": self._last_words()}
        if "error" in answer:
            raise UserError(f"{self._label} does not run on LCE's interpreter: {answer['error']}")
        return answer, outputs

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"it ends the interpreter's process ({name}); the file is damaged, or made for another one"
        return f"its process ended with code {code}" + (f" ({lines[-1]})" if lines else "")

    def close(self) -> None:
        """Ends the process."""
        end_worker(self._process)
        self._stderr.close()


def native_library() -> str:
    """Path of LCE's native interpreter; its package, which loads TensorFlow, is not imported.

    Raises:
        UserError: There is none.
    """
    for suffix in EXTENSION_SUFFIXES:
        with contextlib.suppress(UserError):
            return str(file_of_lce("tflite", "python", f"interpreter_wrapper_lite{suffix}"))
    raise UserError(NOT_INSTALLED)


def _send(stream: IO[bytes], message: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    layout = [{"shape": array.shape, "type": array.dtype.str} for array in arrays]
    stream.write(json.dumps({**message, "arrays": layout}).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    message = json.loads(line)
    arrays = []
    for layout in message.pop("arrays"):
        kind = np.dtype(layout["type"])
        size = kind.itemsize * int(np.prod(layout["shape"], dtype=np.int64))
        content = stream.read(size)
        if len(content) < size:
            raise EOFError
        arrays.append(np.frombuffer(content, kind).reshape(layout["shape"]))
    return message, arrays


# The worker itself -------------------------------------------------------------------------------------


class Session:
    """A loaded model, and noise as an input for it.

    Args:
        library: Path of LCE's native interpreter.
        content: Content of the `.tflite` file.
        threads: Threads to use.
        xnnpack: Whether float operators go to XNNPACK.
    """

    def __init__(self, library: str, content: bytes, threads: int, xnnpack: bool) -> None:
        native = _load(library)
        self._baseline = _reset_peak()
        # The switches: reference kernels and the indirect kernel of LceBconv2d, XNNPACK.
        self._interpreter = native.LiteInterpreter(content, threads, False, False, xnnpack)
        self._noise: list[np.ndarray] = []

    def predict(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All outputs for `n` examples; the model takes as many at once as its inputs say."""
        batch = self._interpreter.input_shapes[0][0]
        count, parts = len(arrays[0]), []
        for start in range(0, count, batch):
            batches = [array[start : start + batch] for array in arrays]
            short = batch - len(batches[0])
            if short:  # the last examples of a model with a batch: the first ones fill it up
                batches = [np.concatenate([array, array[:1].repeat(short, axis=0)]) for array in batches]
            outputs = self._interpreter.predict([np.ascontiguousarray(array) for array in batches])
            parts.append([np.array(output)[: batch - short] for output in outputs])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def run(self, runs: int) -> list[float]:
        """Seconds of each inference, with the copying of input and output that Python needs."""
        if not self._noise:
            rng = np.random.default_rng(0)
            kinds = zip(self._interpreter.input_shapes, self._interpreter.input_types, strict=True)
            self._noise = [_noise(rng, tuple(shape), np.dtype(kind)) for shape, kind in kinds]
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            self._interpreter.predict(self._noise)
            seconds.append(time.perf_counter() - start)
        return seconds

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
    if _MODULE in sys.modules:
        return sys.modules[_MODULE]
    path = Path(library)
    sys.modules[_MODULE] = module_at(path, path.name.split(".")[0])  # it can be loaded only once in a process
    return sys.modules[_MODULE]


def _reset_peak() -> int:
    """Forgets the peak so far where the system can (Linux); returns the one from now on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    import resource

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
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not stand between the answers
    session = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, arrays = _receive(sys.stdin.buffer)
            answer: dict[str, Any] = {}
            outputs: list[np.ndarray] = []
            try:
                if session is None:
                    session = Session(content=arrays[0].tobytes(), **request)
                elif "predict" in request:
                    outputs = session.predict(arrays)
                elif "runs" in request:
                    answer = {"seconds": session.run(request["runs"])}
                else:
                    answer = {"bytes": session.memory()}
            except Exception as error:  # whatever it is, the other side must know
                answer = {"error": first_line(error)}
            _send(answers, answer, outputs)


if __name__ == "__main__":
    main()
