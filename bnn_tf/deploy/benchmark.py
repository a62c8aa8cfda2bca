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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bnn_tf._runtime import quiet_native_stderr
from bnn_tf._tensorflow import tf
from bnn_tf.deploy.interpreter import Worker
from bnn_tf.deploy.lce_file import LceFile, Operator
from bnn_tf.values import InNotebooks


@dataclasses.dataclass(frozen=True)
class OperatorCount:
    """How often an operator stands in a file.

    Attributes:
        name: TFLite's or LCE's name.
        type: Types of its first input and output, one if they are the same; `"bits"` are packed signs.
        count: How often.
    """

    name: str
    type: str
    count: int

    def __str__(self) -> str:
        return f"{self.count} {self.name} {self.type}"


@dataclasses.dataclass(frozen=True)
class Delegated:
    """How much of a file XNNPACK computes.

    Attributes:
        taken: Operators that it takes.
        operators: Operators of the file.
        left: The others by name, which TFLite's own kernels compute.
    """

    taken: int
    operators: int
    left: tuple[str, ...]

    def __str__(self) -> str:
        others = f" (not {', '.join(dict.fromkeys(self.left))})" if self.left else ""
        return f"XNNPACK takes {self.taken} of {self.operators} operators{others}"


@dataclasses.dataclass(frozen=True)
class Limit:
    """The shortest time that an inference can take on this machine.

    Attributes:
        seconds: That time.
        reason: What it follows from.
    """

    seconds: float
    reason: str


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

    def __str__(self) -> str:
        return f"{self.name} ({self.form})"

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def operators(self) -> list[OperatorCount]:
        """Its operators by type, the most frequent first."""
        counts = collections.Counter((op.name, _type(op)) for op in LceFile(self.path).operators)
        return [OperatorCount(name, kind, count) for (name, kind), count in counts.most_common()]

    def delegated(self) -> Delegated | None:
        """What XNNPACK takes of a plain TFLite file, as TensorFlow's own interpreter hands it over.

        None of other files, whose operators TFLite does not know, and of what that interpreter refuses.
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
            left = tuple(operator.name for operator in file.operators if operator not in taken)
            return Delegated(len(taken), len(file.operators), left)
        return None

    def limit(self) -> Limit | None:
        """How fast it can be on this machine; None of files, of which that is not known."""
        return None

    def worker(self, threads: int, xnnpack: bool) -> Runner:
        """A process that runs it."""
        return Worker(LceFile(self.path), threads, xnnpack)


def _type(operator: Operator) -> str:
    ends = [tensors[0] for tensors in (operator.inputs, operator.outputs) if tensors]
    return "→".join(dict.fromkeys("bits" if operator.is_packed(end) else end.type.lower() for end in ends))


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine.

    Attributes:
        cpu: Model of the processor.
        cores: Logical cores that this process may use.
        architecture: E.g. `"x86_64"`.
        system: Operating system.
        load: Processes that wanted a core, on average over the last minute; None where not known.
    """

    cpu: str
    cores: int
    architecture: str
    system: str
    load: float | None = None

    @classmethod
    def this(cls) -> Host:
        """The machine that runs this, with its load now."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        return cls(_cpu(), len(own), platform.machine(), platform.system(), load)

    @property
    def caveat(self) -> str:
        """What the latencies of this machine are not."""
        if self.architecture.lower() in ("x86_64", "amd64", "i386", "i686"):
            return (
                "x86 has no optimized LCE kernels: latencies on this host say nothing about ARM, "
                "where devices run lce_benchmark_model or LCE's libraries."
            )
        return "Latencies hold for this host only; other processors must be measured themselves."

    def __str__(self) -> str:
        load = "" if self.load is None else f", load {self.load:.1f} before"
        return f"{self.cpu}, {self.cores} cores, {self.architecture}, {self.system}{load}"


def _cpu() -> str:
    with contextlib.suppress(OSError):
        named = re.search(r"(?im)^(?:model name|hardware)\s*: *(\S.*)", Path("/proc/cpuinfo").read_text())
        if named:
            return named[1]
    return platform.processor() or "unknown processor"


MEMORY = (
    "Peak memory is that of a process for each candidate: its largest resident memory while the model was "
    "loaded and ran, less what was resident before (interpreter and Python)."
)
OPERATORS = "LCE's interpreter measures no single operators; lce_benchmark_model does, on the device."


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Latency and memory of one candidate with one number of threads.

    Attributes:
        candidate: What was measured.
        threads: Threads of the interpreter.
        seconds: Latency of each inference, warm-up left out.
        memory: Peak of resident memory for model and inferences, in bytes.
        limit: How fast the candidate can be; None where that is not known.
    """

    candidate: Candidate
    threads: int
    seconds: Sequence[float]
    memory: int
    limit: Limit | None = None

    def percentile(self, percent: float) -> float:
        """Latency in milliseconds that `percent` % of the inferences did not exceed."""
        return 1e3 * float(np.percentile(self.seconds, percent))

    def to_dict(self) -> dict[str, Any]:
        """The measurement with plain values, for JSON."""
        return {
            "threads": self.threads,
            "inferences": len(self.seconds),
            "median_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "fastest_ms": self.percentile(0),
            "peak_memory_bytes": self.memory,
        }


@dataclasses.dataclass(frozen=True)
class BenchmarkReport(InNotebooks):
    """All measurements.

    Attributes:
        host: Where.
        interpreter: What ran the files.
        rounds: How often each candidate had its turn.
        runs: Inferences in each turn.
        measurements: One for each candidate and number of threads.
    """

    host: Host
    interpreter: str
    rounds: int
    runs: int
    measurements: tuple[Measurement, ...]

    @property
    def candidates(self) -> list[Candidate]:
        """What was compared, in order."""
        return list(dict.fromkeys(measurement.candidate for measurement in self.measurements))

    def ratio(self, measurement: Measurement) -> float:
        """How many times as long as the first one's inferences its own take: the median over pairs."""
        return float(np.median(np.divide(measurement.seconds, self.measurements[0].seconds)))

    def __str__(self) -> str:
        lines = [
            f"{m.candidate}, threads {m.threads}: "
            f"median {m.percentile(50):.3f} ms, p90 {m.percentile(90):.3f} ms, "
            f"{self.ratio(m):.3f} × the first, peak {m.memory / 1e6:.1f} MB"
            for m in self.measurements
        ]
        turns = f"{self.rounds} rounds of {self.runs} inferences in {self.interpreter}"
        return "\n".join([turns, *lines, f"Host: {self.host}"])

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            "host": dataclasses.asdict(self.host),
            "caveat": self.host.caveat,
            "interpreter": self.interpreter,
            "rounds": self.rounds,
            "runs": self.runs,
            "memory": MEMORY,
            "candidates": [self._of(candidate) for candidate in self.candidates],
        }

    def _of(self, candidate: Candidate) -> dict[str, Any]:
        own = [measurement for measurement in self.measurements if measurement.candidate == candidate]
        limit, taken = own[0].limit, candidate.delegated()
        return {
            "name": candidate.name,
            "form": candidate.form,
            "size": candidate.size,
            "operators": [dataclasses.asdict(count) for count in candidate.operators()],
            "limit": limit and dataclasses.asdict(limit),
            "xnnpack": taken and dataclasses.asdict(taken),
            "measurements": [{**one.to_dict(), "times_the_first": self.ratio(one)} for one in own],
        }


class Runner(contextlib.AbstractContextManager, Protocol):
    """A process that runs inferences and ends with its context."""

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""

    def memory(self) -> int:
        """Peak of resident memory for model and inferences, in bytes."""


def benchmark(
    candidates: Sequence[Candidate],
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    runs: int = 10,
    warmup: int = 2,
    xnnpack: bool = True,
    progress: Callable[[int], None] = lambda completed: None,
) -> BenchmarkReport:
    """Latency and peak memory of each candidate with each number of threads.

    Each combination has a process of its own: LCE's interpreter, which also runs plain TFLite files, or a
    compiled program. What uses one thread only is measured with one. In every round each of them in turn does
    `runs` inferences of one image, while the others wait; every second round visits them backwards.

    Args:
        candidates: What to compare.
        threads: Numbers of threads.
        rounds: How often each has its turn.
        runs: Inferences in each turn.
        warmup: Inferences before the first round that do not count.
        xnnpack: Whether float (and int8) operators go to TFLite's XNNPACK delegate, which is its default.
        progress: Called with the number of completed rounds.

    Raises:
        UserError: A file cannot be run.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/model.tflite"
        >>> model = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3))])
        >>> _ = bnn_tf.convert(model, path, parity=False)
        >>> report = benchmark([Candidate.of_file(Path(path))], rounds=1, runs=2)
        >>> len(report.measurements)
        1
    """
    host = Host.this()
    pairs = [(candidate, count) for candidate in candidates for count in threads]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(c.worker(count, xnnpack)) for c, count in pairs]
        for worker in workers:
            worker.run(warmup)
        seconds: list[list[float]] = [[] for _ in workers]
        turns = list(zip(workers, seconds, strict=True))
        for completed in range(1, rounds + 1):
            for worker, own in turns:
                own += worker.run(runs)
            turns.reverse()  # keeps one candidate from always following the same other one
            progress(completed)
        memory = [worker.memory() for worker in workers]
    limits = {candidate: candidate.limit() for candidate in candidates}
    measurements = tuple(
        Measurement(candidate, count, tuple(times), peak, limits[candidate])
        for (candidate, count), times, peak in zip(pairs, seconds, memory, strict=True)
    )
    version = importlib.metadata.version("larq-compute-engine")
    interpreter = f"LCE {version}'s TFLite interpreter, {'with' if xnnpack else 'without'} XNNPACK"
    return BenchmarkReport(host, interpreter, rounds, runs, measurements)
