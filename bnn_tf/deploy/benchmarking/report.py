"""The result of a benchmark."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnn_tf.deploy.benchmarking.candidates import Candidate
from bnn_tf.deploy.benchmarking.host import Host

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
    """

    candidate: Candidate
    threads: int
    seconds: Sequence[float]
    memory: int

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
class BenchmarkReport:
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
        return {
            "name": candidate.name,
            "form": candidate.form,
            "size": candidate.size,
            "operators": [dataclasses.asdict(found) for found in candidate.operators()],
            "measurements": [m.to_dict() for m in self.measurements if m.candidate == candidate],
        }
