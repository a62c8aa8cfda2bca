"""Latency, memory, size and operators of converted networks, side by side on this machine.

Each candidate runs in a process of its own (`bnn_tf.deploy.interpreter.Worker`), and all take turns, so that
what disturbs the machine disturbs them alike. LCE's interpreter also runs plain TFLite files.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.deploy.interpreter import Worker
from bnn_tf.deploy.lce_file import LceFile, Operator


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A `.tflite` file, or another program, to measure.

    Attributes:
        name: What it is called in the report.
        form: `"LCE"`, `"C"`, `"float32"`, `"int8"`, or `"TFLite"`.
        path: The file.
    """

    name: str
    form: str
    path: Path

    @classmethod
    def of_file(cls, path: Path, name: str | None = None) -> Candidate:
        """A file as it is: LCE's where it holds operators of LCE.

        Raises:
            UserError: There is no such file, or it is no TFLite model.
        """
        binary = any(operator.name.startswith("Lce") for operator in LceFile(path).operators)
        return cls(name or str(path), "LCE" if binary else "TFLite", path)

    def operators(self) -> list[dict[str, Any]]:
        """How often each operator stands in the file, the most frequent first: `name`, `type` and `count`.

        The type is that of its first input and output, one if they are the same; `"bits"` are packed signs.
        """
        counts = collections.Counter((op.name, _type(op)) for op in LceFile(self.path).operators)
        return [{"name": name, "type": kind, "count": n} for (name, kind), n in counts.most_common()]

    def delegated(self) -> dict[str, Any] | None:
        """What XNNPACK takes of a plain TFLite file, as TensorFlow's own interpreter hands it over.

        That is how many operators are `taken` of how many `operators`, and the names of those that are `left`
        to TFLite's own kernels. None of other files, whose operators TFLite does not know, and of what that
        interpreter refuses.
        """
        if self.form not in ("float32", "int8", "TFLite"):
            return None
        file = LceFile(self.path)
        with contextlib.suppress(ValueError, RuntimeError), quiet_native_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow speaks of the package that will replace this one
            interpreter = tf.lite.Interpreter(model_content=file.content, num_threads=1)
            interpreter.allocate_tensors()
            taken: set[Operator] = set()
            for part in interpreter._get_ops_details():
                if part["op_name"] == "DELEGATE":  # it stands for all between its inputs and its outputs
                    known, wanted = set(part["inputs"]), set(part["outputs"])
                    for operator in reversed(file.operators):
                        if wanted & {tensor.index for tensor in operator.outputs}:
                            taken.add(operator)
                            wanted |= {tensor.index for tensor in operator.inputs} - known
            left = [operator.name for operator in file.operators if operator not in taken]
            return {"taken": len(taken), "operators": len(file.operators), "left": left}
        return None

    def limit(self) -> dict[str, Any] | None:
        """The shortest time that an inference can take on this machine: `seconds`, and the `reason`.

        None of files, of which that is not known.
        """
        return None

    def to_dict(self) -> dict[str, Any]:
        """What is known without measuring it, with plain values, for JSON."""
        return {
            "name": self.name,
            "form": self.form,
            "size": self.path.stat().st_size,
            "operators": self.operators(),
            "limit": self.limit(),
            "xnnpack": self.delegated(),
        }

    def worker(self, threads: int, xnnpack: bool) -> contextlib.AbstractContextManager[Any]:
        """A process that does `run(number)` inferences and says its peak of `memory()`."""
        return Worker(LceFile(self.path), threads, xnnpack)


def _type(operator: Operator) -> str:
    ends = [tensors[0] for tensors in (operator.inputs, operator.outputs) if tensors]
    return "→".join(dict.fromkeys("bits" if operator.is_packed(end) else end.type.lower() for end in ends))


def host() -> dict[str, Any]:
    """This machine: its processor, the cores that this process may use, and how many wanted one lately."""
    cpu = platform.processor() or "unknown processor"
    with contextlib.suppress(OSError):
        named = re.search(r"(?im)^(?:model name|hardware)\s*: *(\S.*)", Path("/proc/cpuinfo").read_text())
        cpu = named[1] if named else cpu
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    architecture, system = platform.machine(), platform.system()
    return {"cpu": cpu, "cores": len(own), "architecture": architecture, "system": system, "load": load}


def caveat(architecture: str) -> str:
    """What latencies on a machine with that processor are not."""
    if architecture.lower() in ("x86_64", "amd64", "i386", "i686"):
        return (
            "x86 has no optimized LCE kernels: latencies on this host say nothing about ARM, "
            "where devices run lce_benchmark_model or LCE's libraries."
        )
    return "Latencies hold for this host only; other processors must be measured themselves."


def benchmark(
    candidates: Sequence[Candidate],
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    runs: int = 10,
    warmup: int = 2,
    xnnpack: bool = True,
) -> dict[str, Any]:
    """Latency and peak memory of each candidate with each number of threads, as plain values.

    Each combination has a process of its own: LCE's interpreter, which also runs plain TFLite files, or a
    compiled program. What uses one thread only is measured with one. In every round each of them in turn does
    `runs` inferences of one image, while the others wait; every second round visits them backwards.

    Its `times_the_first` is the median of the ratios to the first one's inferences.

    Args:
        candidates: What to compare.
        threads: Numbers of threads.
        rounds: How often each has its turn.
        runs: Inferences in each turn.
        warmup: Inferences before the first round that do not count.
        xnnpack: Whether float (and int8) operators go to TFLite's XNNPACK delegate, which is its default.

    Raises:
        UserError: A file cannot be run.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/model.tflite"
        >>> model = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3))])
        >>> _ = bnn_tf.convert(model, path, parity=False)
        >>> report = benchmark([Candidate.of_file(Path(path))], rounds=1, runs=2)
        >>> [(c["form"], len(c["measurements"])) for c in report["candidates"]]
        [('TFLite', 1)]
    """
    machine = host()  # with the load before
    pairs = [(candidate, count) for candidate in candidates for count in threads]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(c.worker(count, xnnpack)) for c, count in pairs]
        for worker in workers:
            worker.run(warmup)
        seconds: list[list[float]] = [[] for _ in workers]
        turns = list(zip(workers, seconds, strict=True))
        for _ in range(rounds):
            for worker, own in turns:
                own += worker.run(runs)
            turns.reverse()  # keeps one candidate from always following the same other one
        memory = [worker.memory() for worker in workers]
    measured: dict[Candidate, list[dict[str, Any]]] = {}
    for (candidate, count), own, peak in zip(pairs, seconds, memory, strict=True):
        figures = {"threads": count, **_latencies(own, seconds[0]), "peak_memory_bytes": peak}
        measured.setdefault(candidate, []).append(figures)
    version = importlib.metadata.version("larq-compute-engine")
    return {
        "host": machine,
        "caveat": caveat(machine["architecture"]),
        "interpreter": f"LCE {version}'s TFLite interpreter, {'with' if xnnpack else 'without'} XNNPACK",
        "rounds": rounds,
        "runs": runs,
        "memory": "Peak memory is that of a process for each candidate: its largest resident memory while "
        "the model was loaded and ran, less what was resident before (interpreter and Python).",
        "candidates": [{**candidate.to_dict(), "measurements": own} for candidate, own in measured.items()],
    }


def _latencies(seconds: Sequence[float], first: Sequence[float]) -> dict[str, float]:
    median, p90, fastest = 1e3 * np.percentile(seconds, [50, 90, 0])
    return {
        "inferences": len(seconds),
        "median_ms": float(median),
        "p90_ms": float(p90),
        "fastest_ms": float(fastest),
        "times_the_first": float(np.median(np.divide(seconds, first))),
    }
