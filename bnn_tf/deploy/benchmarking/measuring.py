"""Measuring candidates in turn, so that what disturbs the machine disturbs them alike."""

import contextlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Protocol

from bnn_tf.deploy.benchmarking.candidates import Candidate
from bnn_tf.deploy.benchmarking.host import Host
from bnn_tf.deploy.benchmarking.report import BenchmarkReport, Measurement
from bnn_tf.deploy.benchmarking.workers import Worker

Progress = Callable[[int], None]


class Runner(Protocol):
    """What can run inferences."""

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""
        ...


def benchmark(
    candidates: Sequence[Candidate],
    threads: Sequence[int] = (1,),
    rounds: int = 5,
    runs: int = 10,
    warmup: int = 2,
    xnnpack: bool = False,
    progress: Progress = lambda completed: None,
) -> BenchmarkReport:
    """Latency and peak memory of each candidate with each number of threads.

    Each combination has a process of its own with LCE's interpreter, which also runs plain TFLite files. In
    every round each of them in turn does `runs` inferences of one image, while the others wait.

    Args:
        candidates: What to compare.
        threads: Numbers of threads.
        rounds: How often each has its turn.
        runs: Inferences in each turn.
        warmup: Inferences before the first round that do not count.
        xnnpack: Whether float (and int8) operators go to TFLite's XNNPACK delegate.
        progress: Called with the number of completed rounds.

    Raises:
        UserError: A file cannot be run.
    """
    host = Host.this()
    pairs = [(candidate, count) for candidate in candidates for count in threads]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(c.path, count, xnnpack)) for c, count in pairs]
        seconds = interleave(workers, rounds, runs, warmup, progress)
        memory = [worker.memory() for worker in workers]
    measurements = [
        Measurement(*pair, tuple(times), peak)
        for pair, times, peak in zip(pairs, seconds, memory, strict=True)
    ]
    return BenchmarkReport(host, _interpreter(xnnpack), rounds, runs, tuple(measurements))


def interleave(
    workers: Sequence[Runner],
    rounds: int,
    runs: int,
    warmup: int = 0,
    progress: Progress = lambda completed: None,
) -> list[list[float]]:
    """Seconds of all inferences of each worker; each round visits them in turn, every second one backwards.

    Turning round keeps one candidate from always following the same other one.
    """
    seconds: list[list[float]] = [[] for _ in workers]
    if warmup:
        for worker in workers:
            worker.run(warmup)
    order = list(range(len(workers)))
    for completed in range(1, rounds + 1):
        for index in order:
            seconds[index] += workers[index].run(runs)
        order.reverse()
        progress(completed)
    return seconds


def _interpreter(xnnpack: bool) -> str:
    version = importlib.metadata.version("larq-compute-engine")
    return f"LCE {version}'s TFLite interpreter, {'with' if xnnpack else 'without'} XNNPACK"
