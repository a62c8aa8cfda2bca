"""Latency of exported programs, side by side with `.tflite` files in `bnn_tf.deploy.benchmark`."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnn_tf.deploy.benchmark import Candidate
from bnn_tf.errors import UserError
from bnn_tf.export import check
from bnn_tf.export.operations import Work
from bnn_tf.export.source import runtime

_FLAGS_OF_PEAKS = ("-std=gnu99", "-D_POSIX_C_SOURCE=199309L", "-O3", "-march=native")
FAST = ("-O3", "-march=native", "-ffp-contract=off")
"""How a program is compiled for the machine that compiles it."""
FLAGS = (*FAST, "-D_POSIX_C_SOURCE=199309L")

# Reads how many inferences to run, writes the seconds of each and the peak of resident kilobytes. getrusage
# may count the process that started this one, so /proc is asked first. A file in quotes would be looked for
# in the current folder first, where another one may have its name.
_HARNESS = """
#include <{source}>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
static double seconds(void)
{{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}}
static long peak(void)
{{
    FILE *const file = fopen("/proc/self/status", "r");
    char line[256];
    long kilobytes = -1;
    struct rusage use;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {{
        sscanf(line, "VmHWM: %ld", &kilobytes);
    }}
    if (file != NULL) {{
        fclose(file);
    }}
    getrusage(RUSAGE_SELF, &use);
    return kilobytes >= 0 ? kilobytes : use.ru_maxrss;
}}
int main(void)
{{
    static float image[{upper}_HEIGHT * {upper}_WIDTH * {upper}_CHANNELS];
    static float logits[{upper}_CLASSES];
{others}
    unsigned int state = 1;
    int i, runs;
    for (i = 0; i < (int)(sizeof image / sizeof image[0]); ++i) {{
        state = 1664525u * state + 1013904223u;
        image[i] = (float)((int)(state >> 16) % 2001 - 1000) / 500.0f;
    }}
    while (scanf("%d", &runs) == 1) {{
        for (i = 0; i < runs; ++i) {{
            const double start = seconds();
            {name}_run(image, logits{arguments});
            printf("%.9f ", seconds() - start);
        }}
        printf("%ld\\n", peak());
        fflush(stdout);
    }}
    return 0;
}}
"""


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What one core of a processor does in a second at most, with the instructions of exported programs.

    Attributes:
        binary: Bits that it compares and counts.
        real: Floats that it multiplies and adds.
    """

    binary: float
    real: float

    @classmethod
    def measure(cls) -> Peaks:
        """Of this machine: loops in which all operands lie in registers.

        Raises:
            UserError: There is no compiler, or it refuses the loops.
        """
        pieces = ("common", "window", "counts", "vectors", "dots", "floats", "peaks")
        text = "\n".join(runtime(piece, "net") for piece in pieces)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "peaks")
            _compile(text, _FLAGS_OF_PEAKS, path, "what measures the processor's peak")
            output = subprocess.run([str(path)], capture_output=True, text=True, check=True).stdout
        binary, real = map(float, output.split())
        return cls(binary, real)

    def limit(self, work: Work) -> dict[str, Any]:
        """How fast a program of this work can be on the processor: `seconds`, and the `reason`."""
        reason = (
            f"{work}; one core compares and counts {self.binary / 1e9:.0f} G bits, "
            f"or multiplies and adds {self.real / 1e9:.1f} G floats, in a second at most"
        )
        return {"seconds": work.binary / self.binary + work.real / self.real, "reason": reason}


@dataclasses.dataclass(frozen=True)
class CompiledProgram(Candidate):
    """An exported C file, compiled for this machine; `path` is the program of one thread.

    Attributes:
        prefix: What the names of its functions begin with.
        text: The C file and what measures it.
        work: The multiplications of an inference; None where they are not known.
    """

    prefix: str
    text: str = dataclasses.field(repr=False)
    work: Work | None = None

    @classmethod
    def of(
        cls,
        source: Path,
        name: str,
        outputs: int = 1,
        label: str | None = None,
        work: Work | None = None,
    ) -> CompiledProgram:
        """Compiles an exported C file for this machine; the program lies beside it.

        Args:
            source: The C file.
            name: What its functions begin with.
            outputs: How many outputs it has.
            label: What it is called in the report.
            work: The multiplications of an inference.

        Raises:
            UserError: There is no compiler, or it refuses the file.
        """
        upper, path = name.upper(), source.with_suffix(".program")
        others = [f"    static float output{n}[{upper}_OUTPUT{n}_SIZE];" for n in range(1, outputs)]
        arguments = "".join(f", output{n}" for n in range(1, outputs))
        text = _HARNESS.format(
            source=source.name, name=name, upper=upper, others="\n".join(others), arguments=arguments
        )
        program = cls(label or str(source), "C", path, name, text, work)
        program._build(path, 1)
        return program

    def _build(self, path: Path, threads: int) -> None:
        several = (f"-D{self.prefix.upper()}_THREADS={threads}", "-pthread") if threads > 1 else ()
        flags = (*FLAGS, *several, "-I", str(self.path.parent))
        _compile(self.text, flags, path, str(self.path.with_suffix(".c")))

    def operators(self) -> list[dict[str, Any]]:
        """None: it is one program."""
        return []

    def limit(self) -> dict[str, Any] | None:
        """The time of its multiplications at this processor's peak."""
        return None if self.work is None else Peaks.measure().limit(self.work)

    def worker(self, threads: int, xnnpack: bool) -> Timer:
        """The program, started; it is compiled again for more than one thread.

        Raises:
            UserError: There are no POSIX threads.
        """
        if threads == 1:
            return Timer(self.path)
        path = self.path.with_suffix(f".{threads}-threads")
        self._build(path, threads)
        return Timer(path)


def _compile(text: str, flags: Sequence[str], path: Path, what: str) -> None:
    compiler = check.compiler()
    if compiler is None:
        raise UserError("there is no C compiler (cc, gcc or clang) on this machine")
    command = [compiler, *flags, "-x", "c", "-", "-o", str(path), "-lm"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr)
        raise UserError(f"{what} does not compile: {reason[:300]}")


class Timer:
    """A compiled program that runs as many inferences as it is told to."""

    def __init__(self, path: Path) -> None:
        self._path, self._kilobytes = path, 0
        self._process = subprocess.Popen(
            [str(path.resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, runs: int) -> list[float]:
        """Seconds of each of `runs` inferences."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{runs}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise UserError(f"{self._path} has ended") from error
        *seconds, kilobytes = self._process.stdout.readline().split() or [""]
        if len(seconds) != runs:
            raise UserError(f"{self._path} ends with code {self._process.wait()}")
        self._kilobytes = int(kilobytes)
        return [float(number) for number in seconds]

    def memory(self) -> int:
        """Peak of resident memory of the whole program, in bytes."""
        return 1024 * self._kilobytes

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
